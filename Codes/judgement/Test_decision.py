"""What errors cost decides from which probability on a label is the positive one, in scores and in the saved model."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from Codes.fast_answers.quick import quick
from Codes.figures import plots
from Codes.ground.errors import WorkbookError
from Codes.judgement import decision, resampling, validation
from Codes.modeling import evaluation, models, rehearsal
from Codes.problems import data, problem
from Codes.saved_models import trust
from Codes.scoring import predictors
from Codes.serving import payload
from Codes.serving.Test_payload import saved

CANCER = problem.load("breast_cancer")
COSTS = problem.Costs(missed=1.0, false_alarm=8.0)
DEAR = CANCER.model_copy(update={"costs": COSTS})
LABELS = ["benign", "malignant"]


def table_of(shares, hits):
    """Predictions of these `shares` for the positive label, of rows where it is right as `hits` say."""
    positive = evaluation.positive(CANCER, LABELS)
    (other,) = (label for label in LABELS if label != positive)
    shares, hits = np.asarray(shares, float), np.asarray(hits, bool)
    table = pd.DataFrame({"actual": np.where(hits, positive, other), "predicted": other})
    return table.assign(
        **{f"probability of {other}": 1 - shares, f"probability of {positive}": shares}
    )


def test_no_threshold_costs_less_than_the_one_that_is_chosen():
    chance = np.random.default_rng(0)
    shares = chance.random(400).round(2)  # many rows have the same
    table = table_of(shares, chance.random(400) < shares**2)
    chosen = decision.choose(DEAR, table, LABELS)
    every = [replace(chosen, threshold=t) for t in np.linspace(0, 1.01, 203)]
    costs = [
        evaluation.measure(DEAR, d.relabelled(table), LABELS, only="cost")["cost"] for d in every
    ]
    assert [each.cost(each.threshold) for each in every] == pytest.approx(costs)
    assert chosen.cost(chosen.threshold) == pytest.approx(min(costs))
    found = chosen.metrics()
    assert (found["cost_always"], found["cost_never"]) == pytest.approx((costs[0], costs[-1]))


@pytest.mark.parametrize(
    "shares, hits, threshold",
    [
        ([0.1, 0.95], [0, 1], 8 / 9),  # all from 0.1 to 0.95 are right: what exact ones ask for
        ([0.1, 0.3], [0, 1], 0.2),
        ([0.1, 0.3], [1, 1], 0.05),
        ([0.1, 0.3], [0, 0], 8 / 9),
    ],
)
def test_of_equally_cheap_thresholds_it_is_the_one_of_exact_probabilities(shares, hits, threshold):
    chosen = decision.choose(DEAR, table_of(shares, hits), LABELS)
    assert chosen.threshold == pytest.approx(threshold)


@pytest.mark.parametrize(
    "rule", [{"costs": COSTS}, pytest.param({"threshold": 0.9}, marks=pytest.mark.soak)]
)
def test_scores_the_saved_model_and_its_served_and_scored_labels_go_by_the_threshold(
    tmp_path, rule
):  # pylint: disable=too-many-locals
    which = CANCER.model_copy(update=rule)
    frame = data.load(which)
    train = data.to_train(frame, which)
    X, y = data.features(train, which), data.target(train, which)
    pipeline = models.build(which, X, "linear").fit(X, y)
    validated = validation.score(which, pipeline, frame)
    chosen = validated.decision
    sought = f"probability of {chosen.positive}"
    table = validated.predictions
    assert ((table.predicted == chosen.positive) == (table[sought] >= chosen.threshold)).all()
    assert rule.get("threshold", chosen.threshold) == chosen.threshold > 0.5
    assert ("cost" in validated.table.index) == ("costs" in rule)
    if "costs" in rule:
        assert validated.table.gain["cost"] > 0 and chosen.cost(chosen.threshold) < chosen.cost(0.5)

    loaded = trust.load(saved(tmp_path / "m", validated.pipeline, X))
    shares = pipeline.predict_proba(X)[:, loaded.labels.index(chosen.positive)]
    wanted = np.where(shares >= chosen.threshold, chosen.positive, chosen.other)
    reader = payload.Reader(loaded)
    columns = {name: X[name].tolist() for name in X}
    assert models.name_of(loaded.pipeline) == "LogisticRegression"
    assert (loaded.predict(X) == wanted).all() and (wanted != pipeline.predict(X)).any()
    assert (quick(loaded, reader)(columns).predictions == wanted).all()
    scored = predictors.answer(loaded, pa.Table.from_pandas(X, preserve_index=False))
    assert scored["prediction"].to_pylist() == wanted.tolist()


def test_the_cost_may_be_the_metric_and_is_redrawn_as_it_is_measured():
    which = DEAR.model_copy(update={"metric": problem.Metric(name="cost", direction="minimize")})
    chance = np.random.default_rng(1)
    table = table_of(chance.random(50), chance.random(50) < 0.5)
    table["predicted"] = chance.choice(LABELS, 50)
    weights = np.ones((1, 50), int)
    (redrawn,) = resampling.replicates(which, table, LABELS, weights)
    assert redrawn == pytest.approx(evaluation.measure(which, table, LABELS)["cost"])
    with pytest.raises(ValueError, match="'cost' is not measured"):
        problem.Problem.model_validate(CANCER.model_dump() | {"metric": which.metric.model_dump()})


def test_where_the_problem_asks_for_nothing_nothing_is_decided():
    assert decision.choose(CANCER, table_of([0.5], [1]), LABELS) is None


def test_what_cannot_be_decided_is_a_line_before_anything_trains():
    flowers = {
        "source": problem.Source(sklearn="iris"),
        "positive": None,
        "contract": {},
        "columns": {},
    }
    with pytest.raises(WorkbookError, match="costs go with two classes, and the target has 3"):
        data.load(DEAR.model_copy(update=flowers))
    frame = data.load(DEAR)
    train = data.to_train(frame, DEAR)
    pipeline = models.build(DEAR, data.features(train, DEAR), "sklearn.svm.LinearSVC")
    with pytest.raises(WorkbookError, match="gives no probabilities, which the costs"):
        rehearsal.rehearse(DEAR, pipeline, train, frame)


def test_the_figure_shows_the_costs_of_what_is_taken_and_of_both_constant_answers():
    chosen = decision.choose(DEAR, table_of([0.2, 0.4, 0.9], [0, 1, 1]), LABELS)
    (axes,) = plots.costs(chosen).axes
    told = axes.get_legend_handles_labels()[1]
    assert told[0].startswith(f"taken: {chosen.threshold:.3g}") and len(told) == 3
    assert told[1:] == ["always malignant: 2.67", "always benign: 0.667"]
