"""A store that is moved to another folder, with its runs, models and versions."""

import contextlib
import itertools
import multiprocessing
import os
import shutil
import signal
import sqlite3
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from Codes.commands.cli import main
from Codes.ground import manifest
from Codes.ground.errors import WorkbookError
from Codes.runs import tracking
from Codes.stores import moved, store
from Codes.testing.cases import sampled


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
    told = type_store("--moved").splitlines()
    assert len(told) == 1 and told[0].endswith(f"to {there}/mlruns; 0 files copied from there")
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


def test_a_database_that_was_copied_alone_does_not_write_beside_the_first_one(used, monkeypatch):
    folder, run_id = used
    there = folder.with_name("two")
    there.mkdir()
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as first:  # its log, too
        with contextlib.closing(sqlite3.connect(there / "copy.db")) as copy:
            first.backup(copy)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{there}/copy.db")
    with pytest.raises(WorkbookError, match="moved or copied here.*store --moved"):
        tracking.use_store()
    assert "copied from there" in type_store("--moved")
    assert manifest.verify(MlflowClient(), run_id) == [] and (folder / "mlruns").is_dir()


def test_what_was_written_to_the_old_place_since_is_brought_along(used, monkeypatch):
    folder, run_id = used
    there = folder.with_name("two")
    shutil.copytree(folder, there)
    shutil.rmtree(next((there / "mlruns" / "e").glob("models*")))
    next((there / "mlruns" / "e").rglob("note.txt")).unlink()  # of a folder that has come along
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{there}/mlflow.db")
    assert "2 files copied" in type_store("--moved")
    assert manifest.verify(MlflowClient(), run_id) == []
    assert (folder / "mlruns").is_dir()


class Deadly(dict):
    """Items of which those after the first `count` are the end of the process."""

    def __init__(self, items, count):
        super().__init__(items)
        self.count = count

    def items(self):
        """The first ones; then SIGKILL."""
        yield from list(super().items())[: self.count]
        os.kill(os.getpid(), signal.SIGKILL)


def settle_until(copied, rows):
    """Settle the store, but be killed once so many files are copied, or so many tables are changed."""

    def copy(*paths, left=itertools.count()):
        if next(left) == copied:
            os.kill(os.getpid(), signal.SIGKILL)
        shutil.copyfile(*paths)

    moved.shutil.copy2, moved.LOCATIONS = copy, Deadly(moved.LOCATIONS, rows)
    store.settle()


def forked(function, *arguments):
    """A process that calls `function`, already under way."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


@pytest.mark.parametrize(
    "points",
    sampled([[(0, 0), (1, 0), (99, 0), (99, 2), (99, 5)], [(1, 0), (99, 2)]], [(1, 0), (99, 2)]),
)
def test_a_repair_that_is_killed_anywhere_is_finished_by_the_same_command(
    used, monkeypatch, points
):
    folder, run_id = used
    there = folder.with_name("two")
    shutil.copytree(folder, there)
    for file in filter(Path.is_file, (there / "mlruns").rglob("*")):
        file.unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{there}/mlflow.db")
    for copied, rows in points:
        killed = forked(settle_until, copied, rows)
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
        with pytest.raises(WorkbookError, match="store --moved"):
            store.open_store()
    both = [forked(store.settle) for _ in range(2)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert "was not moved" in store.settle()
    tracking.use_store()
    assert manifest.verify(MlflowClient(), run_id) == []
    with sqlite3.connect(there / "mlflow.db") as connection:
        assert f"{folder}/" not in "".join(connection.iterdump())
    connection.close()
    assert not list(there.rglob("*.part"))


def test_tags_of_an_earlier_workbook_are_told_and_renamed_at_once(used):
    _, run_id = used
    client = MlflowClient()
    digest = client.get_run(run_id).data.tags[manifest.DIGEST]
    client.delete_tag(run_id, manifest.DIGEST)
    client.set_tag(run_id, "workbook.manifest", digest)
    client.set_tag(run_id, "workbook.notebook", "old")
    client.set_tag(run_id, "mlflow.workbook.notebook", "new")
    client.set_registered_model_tag("v", "workbook.transition.1", "{}")
    assert manifest.verify(client, run_id)
    assert "3 tags are those of an earlier workbook" in type_store()
    assert type_store("--rename-tags").startswith("3 tags renamed")
    assert manifest.verify(client, run_id) == []
    assert client.get_run(run_id).data.tags["mlflow.workbook.notebook"] == "new"
    assert list(client.get_registered_model("v").tags) == ["mlflow.workbook.transition.1"]
    assert "earlier workbook" not in type_store()


def test_what_cannot_be_settled_is_one_line(used, monkeypatch):
    assert "names no files in /elsewhere/mlruns" in type_store("--moved", "/elsewhere")
    (used[0] / "other.db").write_text("no database, but text of some length " * 100)
    for uri, said in (
        (f"sqlite:///{used[0]}/none.db", "there is no store"),
        (f"sqlite:///{used[0]}/other.db", "not a usable SQLite file"),
        ("http://127.0.0.1:9", "is no SQLite file"),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(WorkbookError, match=said):
            store.settle()


def test_a_store_that_was_not_moved_is_described_and_left_alone(used):
    assert "was not moved" in type_store("--moved")
    told = type_store()
    assert f"sqlite:///{used[0]}/mlflow.db" in told and "e: 1 run\n" in told
