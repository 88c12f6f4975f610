"""`%workbook` is there in each kernel without a line in the notebook, and a copy runs in its notebook's folder."""

import json
import os

import mlflow
import nbformat
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import Pipeline

from Codes.commands import cli
from Codes.ground import manifest, paths
from Codes.ground.errors import WorkbookError
from Codes.ground.variables import FOR_ALL
from Codes.lab import magic_words, magics
from Codes.model_registry import promotion
from Codes.modeling import models
from Codes.runs import identity, tracking
from Codes.runs.Test_session import Kernel
from Codes.testing.testbed import write_notebook

CELLS = [
    "from Codes import models, tracking\nrun = tracking.start_run()",
    "import mlflow\nmlflow.log_metric('validation_accuracy', 0.5 + seed)",
]


@pytest.fixture(name="kernel")
def fixture_kernel(tmp_path, monkeypatch):
    """A kernel of a notebook, as JupyterLab has it, and a store beside it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    started = Kernel(write_notebook(tmp_path / "experiment.ipynb", *CELLS))
    yield started
    started.end(now=True)


def shown(kernel, source):
    """What the cell `source` shows and prints, or how it fails."""
    texts = []

    def take(message):
        content = message["content"]
        texts.append(content.get("text") or content.get("data", {}).get("text/plain") or "")
        texts.extend(content.get("traceback", ()))

    kernel.client.execute_interactive(source, timeout=120, output_hook=take)
    return "".join(texts)


def test_the_magic_runs_this_notebook_and_shows_the_runs(kernel):
    assert "%workbook runs" in shown(kernel, "%workbook")
    shown(kernel, "seed = 0")
    assert "run experiment" in shown(kernel, CELLS[0]), "no link to the run"
    assert "FINISHED" not in shown(kernel, "%workbook runs")
    printed = shown(kernel, "%workbook run seed=3")
    assert "[1/1] experiment seed=3" in printed
    table = shown(kernel, "%workbook runs 1")
    assert "experiment seed=3" in table and "FINISHED" in table and "3.5" in table
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    assert len(client.search_runs(["1"])) == 2
    assert "it knows run, runs, model" in shown(kernel, "%workbook rn")
    assert "did you mean" in shown(kernel, "%workbook run sed=3").lower()


@pytest.mark.soak  # quick: that nothing of the run is handed on, see Codes/ground/Test_variables.py
def test_a_run_in_batch_that_runs_its_notebook_anew_keeps_its_experiment_to_itself(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", FOR_ALL):
        monkeypatch.delenv(name, raising=False)
    again = "%load_ext Codes.lab.magics\nif problem == 'one':\n    get_ipython().run_line_magic("
    cells = ["import mlflow\nmlflow.log_metric('a', 1)", again + "'workbook', 'run problem=two')"]
    monkeypatch.setattr(paths, "EXECUTED", tmp_path / "executed")
    path = write_notebook(tmp_path / "own.ipynb", *cells, parameters="problem: str = 'one'")
    done = CliRunner().invoke(cli.main, ["run", str(path), "--no-progress", "--cold"])
    assert done.exit_code == 0, done.output
    client = MlflowClient()
    runs = {e.name: client.search_runs([e.experiment_id]) for e in client.search_experiments()}
    assert [len(runs[name]) for name in ("one", "two")] == [1, 1]
    assert "mlflow.parentRunId" not in runs["two"][0].data.tags


def test_a_copy_of_a_run_runs_where_its_notebook_is(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "EXECUTED", tmp_path)
    monkeypatch.chdir(tmp_path)
    (folder := tmp_path / "elsewhere").mkdir()
    nb = nbformat.v4.new_notebook()
    nb.metadata[magics.ORIGIN] = {"run": "r", "notebook": str(folder / "own.ipynb")}
    copy = tmp_path / "own-of-r.ipynb"
    copy.write_text(json.dumps(nb), "utf-8")
    monkeypatch.setenv("JPY_SESSION_NAME", str(copy))

    class Shell:
        """As much of IPython's as the extension asks."""

        def register_magic_function(self, function, magic_name):
            """Take it."""
            setattr(self, magic_name, function)

    magics.load_ipython_extension(shell := Shell())
    assert os.getcwd() == str(folder) and hasattr(shell, "workbook")


def test_the_model_of_a_run_by_hand_is_loaded_and_that_nothing_vouches_for_its_files_is_said(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    tracking.use_store()
    X = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
    with mlflow.start_run(tags={identity.NOTEBOOK: "own"}) as run:
        models.log(Pipeline([("model", DummyClassifier())]).fit(X, [0, 1, 1, 1]), X)
    assert magic_words.model(run.info.run_id[:8]).predict(X).tolist() == [1, 1, 1, 1]
    assert "has no manifest" in capsys.readouterr().out
    client = MlflowClient()
    with pytest.raises(WorkbookError, match="made by hand.*workbook rerun"):
        promotion.source(run.info.run_id)
    manifest.write(client, client.get_run(run.info.run_id))
    magic_words.model(run.info.run_id)
    assert not capsys.readouterr().out
    client.log_text(run.info.run_id, "another", "note.txt")
    with pytest.raises(WorkbookError, match="note.txt: added; its model is not loaded"):
        magic_words.model(run.info.run_id)
