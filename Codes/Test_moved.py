"""A store that is moved to another folder, with its runs, models and versions."""

import os
import shutil

import mlflow
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from Codes import manifest, tracking
from Codes.cli import main
from Codes.errors import WorkbookError


@pytest.fixture(name="used")
def _used(tmp_path, monkeypatch):
    """The folder of a used store: a run with a manifest, and a registered version of a logged model."""
    folder = tmp_path / "one"
    folder.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    tracking.use_store()
    with mlflow.start_run(experiment_id=tracking.ensure_experiment("e")) as run:
        model = mlflow.initialize_logged_model(name="m", source_run_id=run.info.run_id)
        MlflowClient().log_model_artifact(model.model_id, __file__)
        mlflow.finalize_logged_model(model.model_id, "READY")
        mlflow.log_text("kept", "note.txt")
    manifest.write(MlflowClient(), mlflow.get_run(run.info.run_id))
    mlflow.register_model(f"models:/{model.model_id}", "v")
    yield folder, run.info.run_id
    mlflow.set_tracking_uri(None)


def type_store(*arguments):
    """What `workbook store` with `arguments` prints."""
    result = CliRunner().invoke(main, ["store", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_moved_store_is_refused_and_whole_again_after_one_command(used, monkeypatch):
    folder, run_id = used
    there = folder.rename(folder.with_name("two"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{there}/mlflow.db")
    with pytest.raises(
        WorkbookError, match=f"looks for its runs' files in {folder}.*store --moved"
    ):
        tracking.use_store()
    assert f"to {there}/mlruns; 0 folders copied" in type_store("--moved")
    tracking.use_store()
    client = MlflowClient()
    assert manifest.verify(client, run_id) == []
    assert os.path.exists(mlflow.artifacts.download_artifacts("models:/v/1"))
    with mlflow.start_run(experiment_id=tracking.ensure_experiment("e")):
        mlflow.log_text("new", "note.txt")
    assert not folder.exists()
    _, new = client.search_runs([client.get_experiment_by_name("e").experiment_id])[::-1]
    assert new.info.artifact_uri.startswith(str(there))


def test_a_store_whose_files_are_gone_is_refused_too(used, monkeypatch):
    folder, _ = used
    there = folder.rename(folder.with_name("two"))
    shutil.rmtree(there / "mlruns")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{there}/mlflow.db")
    with pytest.raises(WorkbookError, match="store --moved"):
        tracking.use_store()


def test_what_was_written_to_the_old_place_since_is_brought_along(used, monkeypatch):
    folder, run_id = used
    there = folder.with_name("two")
    shutil.copytree(folder, there)
    lost = next((there / "mlruns" / "e").glob("models*"))
    shutil.rmtree(lost)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{there}/mlflow.db")
    assert "1 folders copied" in type_store("--moved")
    assert manifest.verify(MlflowClient(), run_id) == []
    assert (folder / "mlruns").is_dir()


def test_a_store_that_was_not_moved_is_described_and_left_alone(used):
    assert "was not moved" in type_store("--moved")
    told = type_store()
    assert f"sqlite:///{used[0]}/mlflow.db" in told and "e: 1 runs" in told
