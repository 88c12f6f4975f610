"""The way to production on a tracking server that keeps the artifacts, too: files come over HTTP, and may be gone."""

import contextlib
import os
import shutil

import mlflow
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from Codes.commands import cli
from Codes.ground.errors import WorkbookError
from Codes.ground.paths import ROOT
from Codes.model_registry import promotion, registry
from Codes.model_registry.Test_promotion import PRIVATE, race, train
from Codes.problems import problem as problems
from Codes.runs import tracking
from Codes.saved_models import reproduction
from Codes.serving import client as clients
from Codes.testing.testbed import Server, asked_once, fresh_store, wait_for

CACHE = ROOT / ".cache" / "models"


@pytest.fixture(name="remote", scope="module")
def fixture_remote(tmp_path_factory):
    """A tracking server whose artifacts go through it, with two versions of the model `remote` registered."""
    os.environ.setdefault("WORKBOOK_TESTBED", str(tmp_path_factory.mktemp("testbed")))
    folder = tmp_path_factory.mktemp("server")
    fresh_store(folder)
    server = Server(folder, clients.free_port()).start()
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        stack.callback(server.kill)
        stack.callback(mlflow.set_tracking_uri, None)
        patch.setenv("MLFLOW_TRACKING_URI", server.uri)
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        patch.setattr(problems, "load", lambda name: PRIVATE)
        patch.setattr(reproduction, "ask", asked_once(reproduction.ask))
        tracking.use_store()
        for parameters in ({"max_iter": 1}, {"max_depth": 3, "max_iter": 60}):
            promotion.register(train("hgb", hyperparameters=parameters), "remote")
        yield server
        for version in registry.versions("remote"):
            shutil.rmtree(CACHE / version.tags[registry.DIGEST], ignore_errors=True)


def command(*words):
    """What `workbook WORDS…` says, and its exit code."""
    done = CliRunner().invoke(cli.main, words)
    return done.output, done.exit_code


def test_files_are_fetched_once_and_used_only_as_they_were_registered(remote):
    version = registry.find("remote/2")
    kept = registry.files(version)
    assert kept == CACHE / version.tags[registry.DIGEST] and (kept / "model.skops").is_file()
    file = kept / "model.skops"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"?")
    with pytest.raises(WorkbookError, match="not those that were registered"):
        registry.load(version)
    shutil.rmtree(kept)
    assert registry.load(version).predict(registry.load(version).example).shape == (5,)
    there = next(remote.folder.glob(f"mlruns/**/{version.source.rpartition('/')[2]}/**/MLmodel"))
    before = there.read_text("utf-8")
    there.write_text(before + "\n# altered on the server\n", "utf-8")
    shutil.rmtree(kept)
    with pytest.raises(WorkbookError, match="not those that were registered"):
        registry.load(version)
    there.write_text(before, "utf-8")
    assert registry.load(version).labels
    assert not list(CACHE.glob("*.part"))


@pytest.mark.soak
def test_of_two_promotions_at_once_one_wins(remote):
    for number in (1, 2):
        promotion.register(registry.find(f"remote/{number}").run_id, "raced")
    won = race(remote.uri, "raced", None, [1, 2])
    assert registry.stack("raced") == [won]


@pytest.mark.soak
def test_promotions_a_rollback_and_a_served_model_on_the_server(remote):
    assert promotion.promote("remote", "production", 1)[1].passed
    rows = registry.load(registry.find("remote/1")).example
    with clients.Server("remote@production", "--capture", "0") as server:
        assert clients.ask(server.url, rows)["version"] == "1"
        assert promotion.promote("remote", "production", 2)[1].passed
        wait_for(lambda: clients.ask(server.url, rows)["version"] == "2")
        remote.kill()
        wait_for(lambda: "The store is away" in server.log.read_text("utf-8"))
        assert clients.ask(server.url, rows)["version"] == "2", "an answer needs no store"
        for words in (["models"], ["promote", "remote", "staging"], ["rollback", "remote"]):
            said, code = command(*words)
            assert code == 1 and "Traceback" not in said, said
            assert len(said.strip().splitlines()) == 1 and "does not answer" in said, said
        remote.start()
        promotion.rollback("remote")
        wait_for(lambda: clients.ask(server.url, rows)["version"] == "1")
    assert [t.outcome for t in registry.settled("remote")] == ["done"] * 3


def test_a_store_that_goes_away_in_the_middle_of_a_command_is_one_line(remote, monkeypatch):
    real = MlflowClient.search_model_versions

    def gone(*args, **kwargs):
        remote.kill()
        return real(*args, **kwargs)

    monkeypatch.setattr(MlflowClient, "search_model_versions", gone)
    said, code = command("models", "remote")
    remote.start()
    assert code == 1 and said.startswith("Error: the store failed: "), said
    assert len(said.strip().splitlines()) == 1
