"""Runs by hand: their status is that of their cells, and their notebook is known whichever client executes it."""

import os
import subprocess
import sys

import mlflow
import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from mlflow.entities import ViewType

from Codes.runs import session, tracking
from Codes.runs.liveness import ERROR, HEARTBEAT, close_dead_runs
from Codes.testing.testbed import clean_environment, write_notebook

CELLS = [
    "from Codes import tracking\nrun = tracking.start_run()",
    "import time; print('begun'); time.sleep(seconds)",
    "1 / 0",
    "import mlflow; mlflow.log_metric('score', 1)",
]
PARAMETERS = "problem: str = 'by_hand'\nseconds: float = 0.01"


@pytest.fixture(name="notebook")
def _notebook(tmp_path, monkeypatch):
    """A notebook, one cell of which may raise, with a store beside it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    path = write_notebook(tmp_path / "experiment.ipynb", *CELLS, parameters=PARAMETERS)
    made = nbformat.read(path, as_version=4)
    made.cells[3].metadata["tags"] = ["raises-exception"]
    nbformat.write(made, path)
    return path


def environment():
    """That of a client whose kernels log to this test's store."""
    return clean_environment() | {"MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"]}


def runs():
    """All runs in the store, as it stands."""
    client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    return [r for e in client.search_experiments() for r in client.search_runs([e.experiment_id])]


class Kernel:
    """A warm kernel of `notebook`, as a front end has it."""

    def __init__(self, notebook):
        named = environment() | {"JPY_SESSION_NAME": str(notebook)}
        self.manager, self.client = start_new_kernel(
            kernel_name="workbook", cwd=str(notebook.parent), env=named, startup_timeout=120
        )

    def execute(self, source, interrupt=False):
        """Execute `source`, and interrupt it once it prints 'begun', if that is asked for."""

        def heed(message):
            if interrupt and "begun" in message["content"].get("text", ""):
                self.manager.interrupt_kernel()

        self.client.execute_interactive(source, timeout=120, output_hook=heed)

    def end(self, now=False):
        """Shut it down, or kill it `now`."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now)


@pytest.fixture(name="kernel")
def _kernel(notebook):
    started = Kernel(notebook)
    yield started
    started.end(now=True)


def test_a_run_by_hand_is_as_good_as_the_last_execution_of_its_cells(kernel):
    def after(source, interrupt=False):
        kernel.execute(source, interrupt)
        (run,) = runs()
        return run.info.status, run.data.tags.get(ERROR)

    for source in (PARAMETERS, "seconds = 600.0"):
        kernel.execute(source)
    assert after(CELLS[0]) == ("RUNNING", None)
    assert after(CELLS[1], interrupt=True) == ("KILLED", "KeyboardInterrupt")
    assert after("seconds = 0.01") == ("KILLED", "KeyboardInterrupt")
    assert after(CELLS[1]) == ("RUNNING", None)
    assert after("import sys; sys.exit(0)") == ("FAILED", "SystemExit")
    assert after(CELLS[2]) == ("RUNNING", None), "it may raise"
    assert after(CELLS[3]) == ("FINISHED", None), "all cells have run"
    assert after("seconds / 0") == ("FAILED", "ZeroDivisionError")
    kernel.end()
    (run,) = runs()
    assert run.info.status == "FAILED" and run.data.params["seconds"] == "600.0"
    assert HEARTBEAT not in run.data.tags


PLAIN = [
    "import mlflow, time; seconds = 600",
    "mlflow.log_metric('m', 1)",
    "seconds / 0",
    "mlflow.end_run()",
    "for i in (1, 0):\n    with mlflow.start_run():\n        1 / i",
    "with mlflow.start_run():\n    print('begun'); time.sleep(seconds)",
    "mlflow.start_run()\nmlflow.start_run(nested=True)",
]


def test_a_run_that_a_cell_begins_by_itself_is_as_good_as_the_cells_too(notebook, kernel):
    write_notebook(notebook, *PLAIN)

    def after(source, interrupt=False):
        kernel.execute(source, interrupt)
        return [run.info.status for run in sorted(runs(), key=lambda run: run.info.start_time)]

    kernel.execute(PLAIN[0])
    assert after(PLAIN[1]) == ["RUNNING"]
    assert after(PLAIN[2]) == ["FAILED"]
    assert after(PLAIN[3]) == ["FAILED"], "MLflow alone says FINISHED"
    assert after(PLAIN[4]) == ["FAILED", "FINISHED", "FAILED"]
    assert after(PLAIN[5], interrupt=True)[3:] == ["KILLED"], "MLflow alone says FAILED"
    assert after(PLAIN[6])[4:] == ["FINISHED", "RUNNING"]
    assert after(PLAIN[2])[4:] == ["FAILED", "RUNNING"]
    kernel.end()
    assert [run.info.status for run in runs()].count("FAILED") == 4
    assert not any(HEARTBEAT in run.data.tags for run in runs())


def test_a_run_that_is_deleted_under_way_is_killed_in_the_bin(kernel):
    for source in (PARAMETERS, CELLS[0], "import mlflow; mlflow.delete_run(run.info.run_id)"):
        kernel.execute(source)
    kernel.end()
    assert not runs()
    deleted = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"]).search_runs(
        [str(number) for number in range(3)], run_view_type=ViewType.DELETED_ONLY
    )
    assert [run.info.status for run in deleted] == ["KILLED"]


def test_a_run_that_a_cell_began_is_closed_after_its_kernel_was_killed(kernel):
    kernel.execute("import mlflow; mlflow.start_run()")
    kernel.end(now=True)
    tracking.use_store()
    close_dead_runs()
    assert [run.info.status for run in runs()] == ["KILLED"]


def test_nbval_and_jupyter_execute_leave_finished_runs_of_the_notebook_itself(notebook):
    tested = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir=/"]
    tested += ["--nbval-lax", "--nbval-kernel-name", "workbook", str(notebook)]
    executed = ["-m", "jupyter", "execute", "--kernel_name=workbook", "experiment"]
    for command in (tested, executed):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=notebook.parent,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    found = runs()
    assert [run.info.status for run in found] == ["FINISHED"] * 2
    for run in found:
        assert run.data.params == {"problem": "by_hand", "seconds": "0.01"}
        assert run.data.tags["mlflow.source.name"] == str(notebook)
        assert run.data.metrics["score"] == 1


def test_a_session_that_nothing_names_has_no_notebook(tmp_path, monkeypatch):
    for name in ("JPY_SESSION_NAME", "IPYNB_FILE", "JPY_PARENT_PID"):
        monkeypatch.delenv(name, raising=False)
    assert session.notebook() is None
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "console-1"))
    assert session.notebook() is None
