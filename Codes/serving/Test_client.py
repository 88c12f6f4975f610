"""The served model as its askers see it, on tables that are not as the examples are."""

import os
import signal
import subprocess
import sys
import threading

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from Codes.ground.errors import WorkbookError
from Codes.ground.paths import NOTEBOOKS
from Codes.model_registry import registry
from Codes.modeling import models
from Codes.problems import data, problem
from Codes.runs import tracking
from Codes.saved_models import trust
from Codes.serving import client
from Codes.serving.Test_payload import saved
from Codes.serving.Test_serving import point, server
from Codes.testing.testbed import fresh_store, write_problem


@pytest.fixture(scope="module", name="table")
def _table(tmp_path_factory):
    """The file of a problem without numbers: a few colours with rare gaps, and a name that each row has alone."""
    folder = tmp_path_factory.mktemp("names")
    chance = np.random.default_rng(0)
    frame = pd.DataFrame({"name": [f"n{i}" for i in range(200)]})
    frame["colour"] = chance.choice(["red", "blue"], 200)
    frame["stays"] = np.where(frame["colour"] == "red", "yes", "no")
    split = {"kind": "random", "test_share": 0.2, "validation_share": 0.4, "key": ["name"]}
    metric = {"name": "roc_auc", "direction": "maximize"}
    path = write_problem(folder, "names", "stays", split=split, metric=metric)
    frame.to_csv(folder / "names.csv", index=False)
    names = problem.load(path)
    _, test = data.split(data.load(names), names)
    frame.loc[test.index[:3], "colour"] = None  # training sees no gap
    frame.to_csv(folder / "names.csv", index=False)
    return path


def fitted(table):
    """(pipeline, its training features, held-out features) of the problem in the file `table`."""
    names = problem.load(table)
    train, test = data.split(data.load(names), names)
    X = data.features(train, names)
    pipeline = models.build(names, X, "forest", {"n_estimators": 3})
    return pipeline.fit(X, data.target(train, names)), X, data.features(test, names)


@pytest.fixture(scope="module", name="asked")
def _asked(table, tmp_path_factory):
    """(address of a server of that problem's model, a row that it takes, rows that it does not)."""
    root = tmp_path_factory.mktemp("store")
    pipeline, X, strange = fitted(table)
    saved(root / "1", pipeline, X)
    point(root, 1)
    with server(root, "names@production") as process:
        yield f"http://127.0.0.1:{process.port}", X.head(1), strange.iloc[5:9]


@pytest.mark.soak
def test_every_refusal_that_a_row_without_numbers_can_show_is_shown(asked):
    url, row, _ = asked
    shown = client.refusals(url, row).set_index("request")
    assert set(shown.status) == {400, 415} and "text for a number" not in shown.index
    assert "a column too many" in shown.index, "though the table has a colour"


def test_a_reply_has_probabilities_by_label_beside_the_predictions(asked):
    url, row, _ = asked
    reply = client.ask(url, row)
    shares = reply["probabilities"]
    assert list(shares) == ["no", "yes"] and shares.index.equals(row.index)
    assert (
        reply["predictions"] == shares.idxmax(axis=1).tolist() and shares.sum(axis=1).iloc[0] == 1
    )


def test_times_are_taken_of_answers_and_where_there_is_none_it_is_told(asked):
    url, row, strange = asked
    assert client.times(url, row, clients=2, seconds=0.2).min() > 0
    with pytest.raises(WorkbookError, match="no request was answered.*400: .*never seen"):
        client.times(url, strange, clients=2, seconds=0.2)


def test_an_interrupted_measurement_leaves_nobody_asking(asked):
    before = set(threading.enumerate())
    ends = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        ends.start()
        client.times(*asked[:2], clients=3, seconds=600)
    ends.join()
    assert set(threading.enumerate()) <= before


def test_that_the_server_is_away_is_told_in_a_line_and_not_by_each_client(capfd):
    url = f"http://127.0.0.1:{client.free_port()}"
    with pytest.raises(WorkbookError, match="no times: the server is away"):
        client.times(url, "{}", clients=3)
    assert capfd.readouterr().err == ""


@pytest.fixture(name="store")
def _store(tmp_path, monkeypatch):
    """A store of the test's own, as the environment names it."""
    monkeypatch.setenv("WORKBOOK_TESTBED", os.environ.get("WORKBOOK_TESTBED", str(tmp_path)))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    yield tracking.use_store()
    mlflow.set_tracking_uri(None)


@pytest.mark.soak
@pytest.mark.usefixtures("store")
def test_05_serve_asks_a_model_whose_held_out_rows_are_not_like_its_training(table, tmp_path):
    pipeline, X, _ = fitted(table)
    with mlflow.start_run(experiment_id=tracking.ensure_experiment("names")) as run:
        made = models.log(pipeline, X)
    where = f"models:/{made.model_id}"
    facts = {registry.DIGEST: trust.digest(registry.fetch(where))}
    registry.add("names", where, run.info.run_id, facts, "")
    MlflowClient().set_registered_model_alias("names", "production", "1")
    command = [
        sys.executable,
        "-m",
        "Codes.commands.cli",
        "run",
        NOTEBOOKS / "05_serve.ipynb",
        "-o",
        "out.ipynb",
    ]
    options = {"problem": table, "name": "names", "seconds": 0.2}
    command += [word for pair in options.items() for word in ("-p", *map(str, pair))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def test_nobody_answers_where_nothing_is_served_and_a_page_goes_on():
    rows, nobody = pd.DataFrame({"a": [1.0, 2.0]}), client.Nobody()
    assert client.ask(nobody.url, rows) == {"predictions": [None, None], "version": "none"}
    assert client.refusals(nobody.url, rows).empty and client.times(nobody.url, rows).empty
    silent = {1: [client.times(nobody.url, rows)] * 2}
    assert not client.summary(silent)
    assert "Nobody answered" in client.finding(client.ask(nobody.url, rows), silent)
    taken = {1: [pd.Series([2.0, 4.0]), pd.Series([9.0])], 1000: [pd.Series([20.0])] * 2}
    told = client.finding({"version": "3"}, taken)
    assert "Version 3 answers" in told and "half within 3 ms" in told and "20 µs a row" in told
    nobody.stop()
