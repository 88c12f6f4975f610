"""A card and the standings of a small table with a metric of one's own: what is said of slices, and who writes what."""

import os
import sys

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from Codes.comparison import leaderboard, standings
from Codes.model_registry import demonstration, promotion, registry
from Codes.problems import data
from Codes.runs import tracking
from Codes.seams import mlflow_seam
from Codes.testing.testbed import fresh_store, write_problem

MARGIN = """
def margin(actual, predicted):
    called = predicted == "yes"
    return (10 * (called & (actual == "yes")).sum() - 3 * called.sum()) / len(actual)
"""


@pytest.fixture(name="calls", scope="module")
def _calls(tmp_path_factory):
    """The file of a problem of 300 rows, whom to call, that a metric of one's own decides."""
    folder = tmp_path_factory.mktemp("calls")
    os.environ.setdefault("WORKBOOK_TESTBED", str(tmp_path_factory.mktemp("testbed")))
    (folder / "calls_of_test.py").write_text(MARGIN, "utf-8")
    chance = np.random.default_rng(0)
    frame = pd.DataFrame({"age": chance.normal(50, 10, 300), "town": list("ABC") * 100})
    frame["bought"] = np.where(frame.age + chance.normal(0, 5, 300) > 55, "yes", "no")
    frame.to_csv(folder / "calls.csv", index=False)
    metric = {"function": "calls_of_test.margin", "direction": "maximize"}
    gate = {"slices": ["town"], "slice_rows": 50}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.delitem(sys.modules, "calls_of_test", raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", fresh_store(folder))
        tracking.use_store()
        path = write_problem(folder, "calls", "bought", positive="yes", metric=metric, gate=gate)
        yield str(path)
    mlflow.set_tracking_uri(None)


def test_slices_of_a_small_table_are_of_predictions_by_models_that_had_not_seen_the_rows(calls):
    run_id = demonstration.finished_run(calls, "linear", is_scored=True)
    card = registry.card(promotion.register(run_id, "scored"))
    assert "margin is `calls_of_test.margin`, to maximize. margin by cross-validation of" in card
    weak = card.partition("## Where it is weak")[2].partition("## Limits")[0]
    assert "| column | value | rows | margin |" in weak and weak.count("| town |") == 3
    assert "(the 3 weakest of 3, each row predicted by a model that had not seen it)" in weak


def test_a_run_that_kept_no_predictions_says_so_on_its_card(calls):
    run_id = demonstration.finished_run(calls, "dummy")
    card = registry.card(promotion.register(run_id, "not-scored"))
    assert "Not known: the run kept no predictions by row" in card


def test_a_promotion_reads_the_table_once(calls, monkeypatch):
    for model in ("dummy", "linear"):
        run_id = demonstration.finished_run(calls, model)
        number = promotion.register(run_id, "read-once").number
    registry.move("read-once", "production", 1, None)
    read, reads = data._table, []  # pylint: disable=protected-access
    monkeypatch.setattr(data, "_table", lambda problem: reads.append(problem.name) or read(problem))
    _, report = promotion.promote("read-once", "production", number)
    assert report.passed and reads == ["calls"]


def test_the_view_of_the_ui_is_written_where_runs_are_made_and_not_by_a_look(calls):
    demonstration.finished_run(calls, "linear", is_scored=True)
    experiment = MlflowClient().get_experiment_by_name(calls)

    def views():
        tags = MlflowClient().get_experiment(experiment.experiment_id).tags
        return [name for name in tags if name.startswith(mlflow_seam.VIEW)]

    looked = standings.of(calls)
    assert looked.contestants and not views()
    assert standings.publish(calls).recommended == looked.recommended and len(views()) == 1


def test_the_rows_are_those_trained_on_and_a_command_that_is_told_can_be_typed(calls):
    demonstration.finished_run(calls, "dummy", rows=20_000, is_scored=True)
    choice = standings.of(calls)
    rows = {row.rows for row in leaderboard.table(choice)}
    assert max(rows) < 300, "not the 20,000 that were asked for"
    assert choice.typed == calls and choice.problem == "calls"
