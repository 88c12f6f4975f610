"""The saved view of MLflow's UI: the board's runs, columns and order, written once."""

import json
import os
import re

import mlflow
import numpy as np
from mlflow import MlflowClient

from Codes.comparison import saved_view, verdict
from Codes.judgement.scored import TAG
from Codes.runs import liveness, tracking
from Codes.testing import known_runs
from Codes.testing.testbed import fresh_store


def scored_run(client, experiment, score, model):
    """The id of a finished run of `model` with that `score`."""
    made = client.create_run(
        experiment, tags={TAG: score.as_tag(), "mlflow.workbook.fingerprint": "f"}
    ).info.run_id
    for name, value in {"model": model, "rows": "20000", "problem": "flights"}.items():
        client.log_param(made, name, value)
    client.log_metric(made, "model_kb", 9)
    client.log_metric(made, "validation_roc_auc", score.score)
    client.set_terminated(made)
    return made


def test_the_ui_shows_the_boards_runs_by_its_columns_the_best_first(tmp_path, monkeypatch):
    os.environ.setdefault("WORKBOOK_TESTBED", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    tracking.use_store()
    client, experiment = MlflowClient(), tracking.ensure_experiment("flights")
    scores = known_runs.measured([0.0, 1.0], np.random.default_rng(0))
    scored = [scored_run(client, experiment, *each) for each in zip(scores, ("dummy", "linear"))][
        -1
    ]
    client.set_terminated(client.create_run(experiment).info.run_id)  # another notebook's
    saved_view.begin(client, client.get_run(scored))
    view = "mlflow.sharedViewState.workbook-flights"
    begun = json.loads(json.loads(client.get_experiment(experiment).tags[view])["state"])
    assert begun["selectedColumns"][-2:] == ["params.`model`", "params.`rows`"], "by one run alone"
    runs = tracking.runs("flights")
    saved_view.keep(verdict.choose(known_runs.question(), runs), runs)
    tags = client.get_experiment(experiment).tags
    state = json.loads(json.loads(tags[view])["state"])
    assert state["searchFilter"] == begun["searchFilter"]
    found = client.search_runs(
        [experiment], state["searchFilter"], order_by=[f"{state['orderByKey']} DESC"]
    )
    assert [run.data.params["model"] for run in found] == ["linear", "dummy"]
    assert state["selectedColumns"] == [
        *("metrics.`validation_roc_auc`", "metrics.`error_roc_auc`", "metrics.`gain_roc_auc`"),
        "metrics.`train_roc_auc`",
        *("params.`model`", "params.`rows`"),
    ]
    note, where = tags[liveness.NOTE], saved_view.address(experiment, "flights")
    assert note.count("flights: Take") == 1 and note.count(f"({where})") == 1, note
    assert note.startswith("flights: Take linear"), note
    assert f"[run {scored[:8]}](#/experiments/{experiment}/runs/{scored}?" in note, note
    client.set_experiment_tag(experiment, liveness.NOTE, f"Mine.\n\n{note}\n\nStays.")
    saved_view.keep(verdict.choose(known_runs.question(), runs), runs)
    kept = client.get_experiment(experiment).tags
    assert kept[liveness.NOTE].startswith("flights: Take linear")
    assert re.findall("Mine|Stays|Take linear", kept[liveness.NOTE]) == [
        "Take linear",
        "Mine",
        "Stays",
    ]
    assert kept[view] == tags[view], "the same again is not written"
    mlflow.set_tracking_uri(None)


def test_a_problem_has_the_same_name_however_it_is_typed_and_one_of_an_earlier_day_its_own():
    typed = "flights", "flights@2013-04-01", "a/houses.yaml", "/b/houses.yml@2013-04-01"
    told = "flights", "flights@2013-04-01", "houses", "houses@2013-04-01"
    assert tuple(map(saved_view.name_of, typed)) == told
