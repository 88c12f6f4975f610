"""Which run an execution opens or adopts, and what its kernel is told of it."""

import mlflow
import nbformat
import papermill  # pylint: disable=unused-import  # it imports our engine, and must come first
import pytest

from Codes.ground.errors import WorkbookError
from Codes.running import engine
from Codes.running.interruption import Signals
from Codes.runs import liveness
from Codes.runs.nested_runs import FOR_ALL, OWNED
from Codes.testing.testbed import write_notebook


@pytest.fixture(name="opened")
def fixture_opened(own_store, monkeypatch):
    """Opens the run of a notebook with the engine's options; MLFLOW_RUN_ID names a run without an owner."""
    for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", OWNED, FOR_ALL):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own_store.uri)
    monkeypatch.setenv(engine.RETRIES, "1")
    given = own_store.client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    path = write_notebook(own_store.folder / "n.ipynb", "1")
    nb = nbformat.read(path, as_version=4)
    nb.metadata.papermill = {"parameters": {}}

    def start(**options):
        return given, engine.open_run(nb, path, {"seed": 0}, options, Signals())

    yield start
    mlflow.set_tracking_uri(None)


def test_a_launchers_run_is_adopted_once(opened, monkeypatch):
    given, run = opened()
    assert run.info.run_id == given and liveness.OWNER in run.data.tags
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    with pytest.raises(WorkbookError, match=f"the run {given}, which holds an execution already"):
        opened()


def test_a_sweeps_trial_adopts_no_run_and_keeps_its_parent(opened, monkeypatch):
    monkeypatch.setenv(OWNED, "0123")  # the sweep was started by a notebook
    given, run = opened(tags={"mlflow.parentRunId": "4567"}, experiment_id="0")
    assert run.info.run_id != given and run.data.tags["mlflow.parentRunId"] == "4567"
    monkeypatch.delenv(OWNED)
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    assert opened(tags={}, experiment_id="0")[1].info.run_id != given


def test_a_kernel_knows_the_experiment_for_all_runs_and_only_that(opened, monkeypatch):
    _, run = opened(tags={})
    assert engine.kernel_environment(run)[FOR_ALL] == ""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "demo")
    _, run = opened(tags={})
    found = engine.kernel_environment(run)
    assert found[FOR_ALL] == found["MLFLOW_EXPERIMENT_ID"] == run.info.experiment_id
    assert mlflow.get_experiment(run.info.experiment_id).name == "demo"
