"""Stages: every one runs, each has its line, and the exit code is honest."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from Codes.ground.paths import ROOT
from Codes.running.runner import extra_of
from Codes.tools import stages


@pytest.fixture(name="report", autouse=True)
def a_report(tmp_path: Path, monkeypatch) -> Path:
    """A report folder of its own."""
    monkeypatch.setattr(stages, "REPORT", tmp_path)
    monkeypatch.delenv("ONLY", raising=False)
    return tmp_path


def group(monkeypatch, *found: stages.Stage) -> None:
    """Let `make lint` mean these stages."""
    monkeypatch.setitem(stages.GROUPS, "lint", lambda: iter(found))


GOOD = stages.python("good", "-c", "print(1)")
BAD = stages.python("bad", "-c", "print('the reason'); raise SystemExit(3)")


def test_a_failure_does_not_hide_the_next_stage_and_shows_its_output(monkeypatch, capsys):
    group(monkeypatch, BAD, GOOD)
    assert stages.main(["lint"]) == 1
    shown = capsys.readouterr().out
    assert "the reason" in shown and "failed: bad" in shown
    assert [line.split()[1] for line in shown.splitlines() if line[:4] in ("bad ", "good")] == [
        "FAILED",
        "ok",
    ]


def test_all_good_is_zero_and_leaves_a_table(monkeypatch, report: Path):
    group(monkeypatch, GOOD, stages.binary("rare", "no-such-tool"))
    assert stages.main(["lint"]) == 0
    table = (report / "summary.md").read_text(encoding="utf-8")
    assert "| good | ok |" in table and "| rare | skipped |" in table


def test_only_chooses_by_the_start_of_a_name_and_refuses_what_it_does_not_know(monkeypatch):
    group(monkeypatch, GOOD, BAD)
    assert stages.chosen("lint", "go") == [GOOD]
    with pytest.raises(SystemExit, match="there are: good, bad"):
        stages.chosen("lint", "ugly")


def test_a_stage_sees_an_empty_store_and_none_of_the_callers_settings(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://the.users.own")
    monkeypatch.setenv("MLFLOW_RUN_ID", "abc")
    seen = stages.clean_environment(tmp_path)
    assert seen["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert "MLFLOW_RUN_ID" not in seen


def test_each_check_and_notebook_takes_part_without_a_list():
    names = [stage.name for stage in stages.test()]
    assert {path.stem for path in (ROOT / "Codes").glob("Check_*.py")} <= set(names)
    assert names[:2] == ["format", "stripped"] and len(names) == len(set(names))


def test_the_notebooks_that_are_left_to_soak_are_there_and_in_the_lifecycle():
    def left_out(stage):
        return [Path(word.removeprefix("--ignore=")) for word in stage.command if "ignore" in word]

    quick, whole = (
        left_out(next(stage for stage in kind() if stage.name == "notebooks"))
        for kind in (stages.test, stages.soak)
    )
    long = set(quick) - set(whole)
    assert {path.name for path in long} == set(stages.LONG_NOTEBOOKS)
    assert all(path.exists() and not extra_of(path) for path in long)


def test_a_stage_beside_the_others_starts_first_has_a_store_of_its_own_and_keeps_none_waiting(
    monkeypatch, tmp_path: Path
):
    note = tmp_path / "note"
    look = f"import os, pathlib; note = pathlib.Path({str(note)!r}); store = os.environ['MLFLOW_TRACKING_URI']"
    wait = f"{look}\nimport time\nwhile not note.exists(): time.sleep(0.05)\nassert note.read_text() != store"
    beside = stages.python("beside", "-c", wait, beside=True)
    group(monkeypatch, stages.python("first", "-c", f"{look}; note.write_text(store)"), beside)
    outcomes = stages.perform_all(stages.chosen("lint", ""))
    assert sorted(each.stage.name for each in outcomes) == ["beside", "first"]
    assert all(each.code == 0 for each in outcomes)


@pytest.mark.soak
def test_the_slowest_tests_are_shown_and_only_soak_runs_those_that_are_marked_so(
    monkeypatch, capsys, tmp_path: Path
):
    (tmp_path / "Test_it.py").write_text(
        "import pytest\ndef test_a(): pass\n@pytest.mark.soak\ndef test_b(): assert 0\n"
    )
    settings = [
        "-c",
        str(ROOT / "pyproject.toml"),
        f"--rootdir={tmp_path}",
        "--durations-min=0",
        "-n0",
    ]
    for kind, told in {
        stages.test: "1 passed, 1 deselected",
        stages.soak: "1 failed, 1 passed",
    }.items():
        unit = next(stage for stage in kind() if stage.name == "unit")
        command = [*unit.command[:-1], *settings, str(tmp_path / "Test_it.py")]
        group(monkeypatch, stages.Stage("unit", tuple(command)))
        stages.main(["lint"])
        shown = capsys.readouterr().out
        assert told in shown and "s call     Test_it.py::test_a" in shown, shown


def test_ctrl_c_lets_the_stage_clean_up_and_says_so(tmp_path: Path):
    note = tmp_path / "cleaned"
    stage = f"""
import time
try: print("up", flush=True); time.sleep(60)
except KeyboardInterrupt: time.sleep(1); open({str(note)!r}, "w").close()
"""
    runner = f"""
import sys, pathlib
from Codes.tools import stages
stages.REPORT = pathlib.Path({str(tmp_path)!r})
stages.GROUPS["lint"] = lambda: iter([stages.python("slow", "-c", {stage!r})])
sys.exit(stages.main(["lint"]))
"""
    command = [sys.executable, "-c", runner]
    with subprocess.Popen(  # pylint: disable=subprocess-popen-preexec-fn
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # tests that were started in the background ignore SIGINT, and would hand that on
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as child:
        deadline = time.monotonic() + 120
        log = tmp_path / "slow.log"
        while not (log.exists() and log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert log.exists() and log.read_text() == "up\n"
        os.killpg(child.pid, signal.SIGINT)
        shown, _ = child.communicate(timeout=30)
    assert child.returncode == 130 and note.exists() and "interrupted" in shown, shown


def test_a_dead_link_fails_the_site(tmp_path):
    pytest.importorskip("mkdocs")
    (tmp_path / "docs").mkdir()
    settings = (ROOT / "mkdocs.yml").read_text("utf-8").partition("nav:")[0]
    (tmp_path / "mkdocs.yml").write_text(settings, "utf-8")
    (stage,) = [stage for stage in stages.docs() if stage.name == "site"]
    for link, code in {"index.md#here": 0, "lost.md": 1, "index.md#there": 1}.items():
        (tmp_path / "docs/index.md").write_text(f"# Here\n\n[here]({link})\n", "utf-8")
        done = subprocess.run(stage.command, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == code, (link, done.stderr)
