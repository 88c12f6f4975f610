"""A run is opened and run again with its own parameters, and what has changed since is said."""

import nbformat
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from Codes.commands.cli import main
from Codes.ground import paths
from Codes.ground.errors import WorkbookError
from Codes.lab import magics, opening, repeating
from Codes.notebook_files import parameters
from Codes.testing.testbed import write_notebook

FAILS = "print('before')", "1 / 0"
PARAMETERS = "seed: int = 0  # random state\nx: float = 1.0  # a number"


@pytest.fixture(name="here")
def fixture_here(store, tmp_path, monkeypatch):
    """The tests' store is this process's own, and copies go to a folder of the test."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    monkeypatch.setattr(paths, "EXECUTED", tmp_path / "executed")
    return store


@pytest.fixture(name="failed", scope="module")
def fixture_failed(store):
    """A run with x=5 that has failed in its last cell."""
    options = ["-p", "x", "5"]
    return store.start("failing", *FAILS, parameters=PARAMETERS, options=options).finish()


def test_a_failed_run_opens_at_the_cell_that_failed_with_its_parameters(here, failed):
    run_id = failed.run.info.run_id
    made = repeating.find(run_id[:10])
    copy = opening.copy(made, {})
    notebook = nbformat.read(copy.place, as_version=4)
    assert copy.cells == len(notebook.cells)
    at = notebook.cells[copy.failed - 1]
    assert at.id == notebook.metadata[magics.ORIGIN][magics.FAILED]
    assert at.source == "1 / 0" and at.outputs[-1].ename == "ZeroDivisionError"
    assert [c.source for c in notebook.cells][:2] == [PARAMETERS, "# Parameters\nx = 5.0\n"]
    assert magics.folder_of_copy(copy.place) == failed.source.parent and here.uri
    again = opening.copy(repeating.find(run_id), {"seed": 2})
    assert again.place != copy.place, "what a person has changed in the first one is lost"
    notebook = nbformat.read(again.place, as_version=4)
    assert {"x = 5.0", "seed = 2"} <= set(notebook.cells[1].source.splitlines())
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs of other parameters"


def test_a_default_of_then_is_given_where_it_is_another_now_and_the_change_is_said(here, failed):
    now = PARAMETERS.replace("seed: int = 0", "seed: int = 7")
    write_notebook(failed.source, *FAILS[:1], parameters=now)
    made = repeating.find(failed.run.info.run_id)
    declared = parameters.of(nbformat.read(failed.source, as_version=4))
    assert repeating.values(made, declared, {}) == {"seed": 0, "x": 5.0} and here.uri
    told = "\n".join(repeating.since(made, {"seed": 0, "x": 5.0}))
    assert "the notebook's code changed" in told and "packages: the same" in told
    write_notebook(failed.source, *FAILS[:1], parameters="seed: int = 0")
    with pytest.raises(WorkbookError, match="no parameter 'x'"):
        repeating.values(made, parameters.parse("seed: int = 0"), {})


def test_a_trial_of_a_sweep_is_run_again_and_the_sweep_itself_names_its_best(here):
    cells = ["import mlflow; mlflow.log_metric('validation_score', x + seed)"]
    options = ["-v", "x=1,2", "--metric", "validation_score:maximize", "--workers", "1"]
    swept = here.sweep("swept", *cells, options=[*options, "--sampler", "grid"]).finish()
    assert swept.code == 0, swept.printed
    trial = next(run for run in swept.runs if run.data.params.get("x") == "2")
    parent = trial.data.tags["mlflow.parentRunId"]
    with pytest.raises(WorkbookError, match=f"is a sweep.* best trial is {trial.info.run_id}"):
        repeating.find(parent)
    done = CliRunner().invoke(main, ["rerun", trial.info.run_id, "-p", "seed=1", "--no-progress"])
    assert done.exit_code == 0, done.output
    assert "code and data: the same" in done.output and "score 3 (it was 2)" in done.output
    newest = MlflowClient(here.uri).search_runs([trial.info.experiment_id], max_results=1)[0]
    assert newest.data.params["x"] == "2" and newest.data.params["seed"] == "1"
    assert "mlflow.parentRunId" not in newest.data.tags


@pytest.mark.parametrize("text, said", [("nonsense", "no run 'nonsense'"), ("", "no run ''")])
def test_what_names_no_run_is_one_line(here, text, said):
    with pytest.raises(WorkbookError, match=said):
        repeating.find(text)
    assert here.uri
