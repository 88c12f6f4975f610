"""Faults of the store and the disk: a clear refusal before the run, or nothing lost; and what is kept is verified."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import nbformat
import pytest

from Codes.ground import manifest
from Codes.ground.errors import WorkbookError
from Codes.runs import tracking
from Codes.stores.store import open_store
from Codes.testing.cases import sampled
from Codes.testing.testbed import (
    FORKS,
    PATIENCE,
    Store,
    check_kept,
    check_nothing_left,
    check_refused,
    processes_of,
    wait_for,
)

QUICK = "import mlflow; mlflow.log_metric('m', 1)"


# --- the SQLite store


def open_there(uri):
    """Be a process that opens the store at `uri`, new or not, and makes an experiment in it."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    tracking.use_store()
    tracking.ensure_experiment("e")


def opener(uri):
    """A process that opens the store at `uri`: everything is imported already, so that several truly meet."""
    process = FORKS.Process(target=open_there, args=(uri,))
    process.start()
    return process


def test_eight_starts_on_an_empty_store_all_succeed(tmp_path):
    uri = f"sqlite:///{tmp_path}/new.db"
    starts = [opener(uri) for _ in range(8)]
    for start in starts:
        start.join(PATIENCE)
    assert [start.exitcode for start in starts] == [0] * 8
    names = [e.name for e in Store(uri, tmp_path).client.search_experiments()]
    assert sorted(names) == ["Default", "e"]


@pytest.mark.soak
def test_two_runners_on_an_empty_store_make_two_whole_runs(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    both = [store.start(name, QUICK) for name in ("one", "two")]
    for execution in both:
        assert execution.finish().code == 0, execution.printed
        assert check_nothing_left(execution).info.status == "FINISHED"


@contextmanager
def locked(store, table="experiments"):
    """Hold the store's write lock, as a stuck process does."""
    with sqlite3.connect(store.uri.removeprefix("sqlite:///"), isolation_level=None) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute(f"SELECT count(*) FROM {table}")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")
    connection.close()


def test_a_store_that_is_locked_for_seconds_is_waited_for(own_store):
    with locked(own_store):
        waiting = own_store.start("waiting", QUICK)
        time.sleep(5)
        assert waiting.code is None, waiting.printed
    assert waiting.finish().code == 0, waiting.printed
    assert check_nothing_left(waiting).info.status == "FINISHED"


def test_a_store_that_is_locked_for_longer_is_a_clear_error(own_store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own_store.uri)
    with locked(own_store), pytest.raises(WorkbookError, match="locked by another process.*fuser"):
        open_store(wait=0.5)


def test_a_lock_in_mid_run_loses_nothing(own_store):
    cells = (
        "open('begun','w').write('1')",
        "import mlflow\nfor i in range(20): mlflow.log_metric('m', i, step=i)",
    )
    running = own_store.start("running", *cells)
    running.until("begun")
    with locked(own_store):
        time.sleep(5)
    assert running.finish().code == 0, running.printed
    run = check_nothing_left(running)
    assert run.info.status == "FINISHED"
    assert len(own_store.client.get_metric_history(run.info.run_id, "m")) == 20


def revise(store, revision):
    """Give the store another schema revision."""
    with sqlite3.connect(store.uri.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()


def corrupt(file):
    """Overwrite the middle of the file, as a failing disk does."""
    with file.open("r+b") as handle:
        handle.write(b"\xff" * 8192)


BROKEN = {
    "a newer schema": (lambda s, f: revise(s, "ffffffffffff"), "newer MLflow.*ffffffffffff"),
    "an older schema": (lambda s, f: revise(s, "451aebb31d03"), "older schema.*mlflow db upgrade"),
    "not a database": (lambda s, f: corrupt(f), "not a usable SQLite file|not a database"),
    "another database": (lambda s, f: another(f), "not an MLflow store"),
    "a folder": (lambda s, f: (f.unlink(), f.mkdir()), "cannot be written|not.*file"),
}


def another(file):
    """Replace the store by some other SQLite file."""
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()


@pytest.mark.parametrize("broken", sampled(BROKEN, "a newer schema", "not a database"))
def test_an_unusable_store_is_refused_before_the_run(own_store, broken, monkeypatch):
    file = Path(own_store.uri.removeprefix("sqlite:///"))
    breaking, said = BROKEN[broken]
    breaking(own_store, file)
    before = file.read_bytes() if file.is_file() else b""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own_store.uri)
    with pytest.raises(WorkbookError, match=said):
        open_store()
    assert before == (file.read_bytes() if file.is_file() else b"")  # refused, not touched


@contextmanager
def mounted(folder, *options):
    """A real mount at `folder`; skips where this user may not mount."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", *options, str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this user may not mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_read_only_store_is_refused_before_the_run(own_store, tmp_path):
    with mounted(tmp_path / "read_only", "-t", "tmpfs", "tmpfs") as folder:
        shutil.copy(own_store.uri.removeprefix("sqlite:///"), folder / "mlflow.db")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        check_refused(
            own_store.start("refused", QUICK, environment=environment),
            "cannot be written.*write access",
        )


def test_a_store_in_a_missing_folder_or_by_a_relative_path_is_refused(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////no/such/place/mlflow.db")
    with pytest.raises(WorkbookError, match="/no/such/place does not exist"):
        open_store()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    with pytest.raises(WorkbookError, match="must be absolute"):
        open_store()


def test_a_servers_address_that_is_none_is_refused_without_its_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:mi#ne@[bad")
    with pytest.raises(WorkbookError, match=r"server https://\[bad does not answer \(InvalidURL\)"):
        open_store()


def test_lock_files_of_dead_processes_are_recovered(own_store):
    for name in ("new.db.lock.flock", "mlflow.db.lock.flock"):
        (own_store.folder / name).write_text(
            "1"
        )  # filelock's leaves its file; only a living process holds it
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{own_store.folder}/new.db"}
    begun = time.monotonic()
    execution = own_store.start("fresh", QUICK, environment=environment).finish()
    assert execution.code == 0 and time.monotonic() - begun < 60, execution.printed


@pytest.mark.soak
def test_a_killed_creator_of_a_store_leaves_one_that_the_next_can_use(tmp_path):
    uri, part = f"sqlite:///{tmp_path}/new.db", tmp_path / ".new.db.part"
    first = opener(uri)

    def has_begun():
        with suppress(FileNotFoundError):
            return part.stat().st_size
        return (tmp_path / "new.db").exists()

    wait_for(has_begun)
    first.kill()
    first.join()
    second = opener(uri)
    second.join(PATIENCE)
    assert second.exitcode == 0


# --- the disk


FILL = """
import os
with open({path!r} + '/filler', 'wb', buffering=0) as file:
    try:
        while file.write(b'0' * 65536): pass
    except OSError:
        pass
print('full')
"""


def test_a_full_disk_under_the_output_leaves_its_earlier_copy_and_fails_the_run(
    own_store, tmp_path
):
    with mounted(tmp_path / "full_folder", "-t", "tmpfs", "-o", "size=1m", "tmpfs") as folder:
        nbformat.write(nbformat.v4.new_notebook(), folder / "full_out.ipynb")
        earlier = (folder / "full_out.ipynb").read_bytes()
        full = own_store.start(
            "full",
            FILL.format(path=str(folder)),
            "print('x' * 200_000)",
            environment={"TMPDIR": str(tmp_path)},
        ).finish()
        assert full.code == 1 and "Traceback" not in full.printed, full.printed
        assert full.output.read_bytes() == earlier
        run = check_nothing_left(full)
        assert run.info.status == "FAILED" and "No space left" in full.printed, full.printed
        kept = re.search(r"kept as (\S+\.ipynb)", full.printed)
        assert kept and "x" * 1000 in Path(kept[1]).read_text("utf-8"), full.printed
        shutil.rmtree(Path(kept[1]).parent)
        assert "x" * 1000 in full.artifact("notebook.ipynb")


def test_a_full_disk_under_the_artifacts_fails_the_run_and_keeps_the_notebook(own_store, tmp_path):
    with mounted(tmp_path / "mlruns", "-t", "tmpfs", "-o", "size=1m", "tmpfs") as folder:
        full = own_store.start("full", FILL.format(path=str(folder)), QUICK).finish()
        assert full.code == 1 and "Traceback" not in full.printed, full.printed
        run = check_nothing_left(full)
        assert run.info.status == "FAILED" and run.data.metrics["m"] == 1
        assert "No space left" in full.printed and full.output.name in full.printed, full.printed
        assert nbformat.read(full.output, as_version=4).cells[2].execution_count


def test_a_full_disk_under_the_store_is_told_and_keeps_the_notebook(own_store, tmp_path):
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=4m", "tmpfs") as folder:
        shutil.move(own_store.uri.removeprefix("sqlite:///"), folder / "mlflow.db")
        store = Store(f"sqlite:///{folder}/mlflow.db", tmp_path)
        full = store.start("full", FILL.format(path=str(folder))).finish()
        assert full.code == 1 and "Traceback" not in full.printed, full.printed
        assert full.output.name in full.printed and nbformat.read(full.output, as_version=4).cells
        (folder / "filler").unlink()
        following = store.start("following", QUICK).finish()
        assert following.code == 0, following.printed
        assert full.run.info.status in ("KILLED", "FAILED")


# --- what is kept: whole, or known to be not


def test_a_finished_run_has_a_manifest_and_an_altered_byte_is_found(own_store):
    execution = own_store.start("kept", QUICK).finish()
    run = execution.run
    check_kept(execution)
    listed = json.loads(execution.artifact("manifest.json"))
    assert {"run/notebook.ipynb", "run/notebook.html"} <= set(listed)
    assert manifest.verify(own_store.client, run.info.run_id) == []
    page = next(own_store.folder.glob("mlruns/**/notebook.html"))
    content = page.read_bytes()
    page.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert manifest.verify(own_store.client, run.info.run_id) == ["run/notebook.html: altered"]
    page.unlink()
    assert manifest.verify(own_store.client, run.info.run_id) == ["run/notebook.html: missing"]
    page.write_bytes(content)
    (page.parent / "extra.txt").write_text("new")
    assert manifest.verify(own_store.client, run.info.run_id) == ["run/extra.txt: added"]
    (page.parent / "manifest.json").write_text("{}")
    assert manifest.verify(own_store.client, run.info.run_id) == ["manifest.json: altered"]


def test_a_run_killed_while_its_artifacts_are_copied_has_no_manifest(own_store):
    large = (
        "import mlflow, time; open('big', 'wb').truncate(300_000_000); mlflow.log_artifact('big')"
    )
    large += "; time.sleep(600)"
    execution = own_store.start("large", large)
    wait_for(lambda: list(own_store.folder.glob("mlruns/**/big")), execution)
    execution.signal(signal.SIGKILL)
    execution.finish()
    assert own_store.start("following", "1").finish().code == 0
    run = execution.run
    assert run.info.status == "KILLED" and not processes_of(run.info.run_id)
    assert manifest.verify(own_store.client, run.info.run_id) == ["manifest.json: missing"]
