"""Captured rows: whole lines, within their bounds, and never in the way."""

import errno
import io
import threading

import pytest

from Codes.serving import capture
from Codes.serving.capture import Capture


def columns(*values):
    """Two columns with these values."""
    return {"size": list(values), "secret": [f"s{value}" for value in values]}


def lines(folder):
    """The bytes of all files."""
    return b"".join(file.read_bytes() for file in sorted(folder.glob("*.jsonl")))


def test_each_row_is_a_line_with_time_version_columns_and_prediction(tmp_path):
    with Capture(tmp_path) as kept:
        kept.put(3, columns(1, 2), [True, False])
        kept.put(4, columns(None), ["a\nb"])
    rows, unreadable = capture.read(tmp_path)
    assert unreadable == 0 and kept.kept == 3 and kept.dropped == 0
    assert [(r["version"], r["columns"]["size"], r["prediction"]) for r in rows] == [
        (3, 1, True),
        (3, 2, False),
        (4, None, "a\nb"),
    ]
    assert rows[0]["time"] == rows[1]["time"] <= rows[2]["time"] and rows[0]["time"].endswith(
        "+00:00"
    )
    assert lines(tmp_path).count(b"\n") == 3


def test_a_row_names_the_run_of_its_version_where_that_is_known(tmp_path):
    with Capture(tmp_path) as kept:
        kept.put(1, columns(1), [1], "a run")
    (tmp_path / "0-old.jsonl").write_text(
        '{"time": "2020", "version": 1, "columns": {}, "prediction": 0}\n'
    )
    rows, unreadable = capture.read(tmp_path)
    assert [row["run_id"] for row in rows] == [None, "a run"] and not unreadable


def test_the_disk_s_bound_is_kept_and_the_newest_rows_stay(tmp_path):
    with Capture(tmp_path, size=50_000) as kept:
        for number in range(3_000):
            kept.put(1, columns(number), [number])
    assert 25_000 < len(lines(tmp_path)) <= 50_000 and kept.kept == 3_000
    rows, unreadable = capture.read(tmp_path)
    assert unreadable == 0 and rows[-1]["prediction"] == 2_999 and rows[0]["prediction"] > 1_000


def test_a_sample_is_a_share_of_the_rows(tmp_path):
    with Capture(tmp_path, share=0.2) as kept:
        for _ in range(20):
            kept.put(1, columns(*range(100)), list(range(100)))
    assert 250 < len(capture.read(tmp_path)[0]) < 550


def test_what_does_not_fit_is_dropped_and_counted_while_the_disk_is_slow(tmp_path, monkeypatch):
    free = threading.Event()
    write = Capture._write  # pylint: disable=protected-access

    def slow(self, *item):
        free.wait(60)
        return write(self, *item)

    monkeypatch.setattr(Capture, "_write", slow)
    with Capture(tmp_path, waiting=10) as kept:
        for number in range(25):
            kept.put(1, columns(number), [number])
        assert kept.dropped == 15
        free.set()
    assert kept.kept == 10 and len(capture.read(tmp_path)[0]) == 10


def test_a_disk_that_fails_stops_nothing_and_is_told_once(tmp_path, caplog):
    folder = tmp_path / "there"
    with Capture(folder) as kept:
        folder.rmdir()
        for number in range(5):
            kept.put(1, columns(number), [number])
        kept.put(1, {"size": [object()]}, [1])
    assert kept.dropped == 6 and kept.kept == 0
    assert len([r for r in caplog.records if "not captured" in r.message]) == 1


def test_a_disk_that_is_full_for_a_while_leaves_no_empty_files(tmp_path, monkeypatch):
    class Full(io.FileIO):
        """A file that takes nothing."""

        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, Capture(tmp_path) as kept:
        patch.setattr(capture.Path, "open", lambda path, mode, buffering: Full(path, "ab"))
        for number in range(20):
            kept.put(1, columns(number), [number])
        kept.__exit__()
    assert kept.dropped == 20 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", [1, 30])
def test_a_line_that_was_cut_short_is_counted_and_the_rest_is_read(tmp_path, cut):
    with Capture(tmp_path) as kept:
        kept.put(1, columns(1, 2, 3), [1, 2, 3])
    (file,) = tmp_path.glob("*.jsonl")
    file.write_bytes(file.read_bytes()[: -1 - cut])
    with Capture(tmp_path) as kept:
        kept.put(2, columns(4), [4])
    (tmp_path / "0-strange.jsonl").write_bytes(b'\xff\xfe\n[1]\n{"time": 1}\n')
    rows, unreadable = capture.read(tmp_path)
    assert [row["prediction"] for row in rows] == [1, 2, 4] and unreadable == 4


def test_an_empty_or_missing_folder_has_no_rows(tmp_path):
    assert capture.read(tmp_path) == ([], 0) == capture.read(tmp_path / "none")
