"""Two models on the same rows: the difference, its error and its words; slices that hold all at once."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error

from Codes.gate import error_rates
from Codes.judgement import paired
from Codes.judgement.paired import Answers, Rows
from Codes.judgement.scored import Estimate
from Codes.problems import problem as problems

MADE = error_rates.made()
PRICE = MADE.model_copy(
    update={"task": "regression", "metric": problems.Metric(name="mae", direction="minimize")}
)


def amounts(count=400, seed=0, **off):
    """(frame, {name: Answers that are off by so much}) of amounts; `off` is the spread of each one's error."""
    random = np.random.default_rng(seed)
    actual, shared = random.normal(size=count), random.normal(size=count)
    tables = {
        name: pd.DataFrame({"actual": actual, "predicted": actual + spread * shared})
        for name, spread in off.items()
    }
    return pd.DataFrame({"a": actual}), {n: Answers(t, None) for n, t in tables.items()}


def compared(problem, frame, one, other, blocks=None):
    """The Estimate of the difference of two Answers."""
    rows = Rows(problem, frame, frame.index if blocks is None else blocks)
    return paired.difference(rows, rows.measure(one), rows.measure(other))


def test_a_difference_is_signed_so_that_positive_is_better_whichever_way_the_metric_goes():
    frame, models = amounts(good=0.1, poor=0.2)
    found = compared(PRICE, frame, models["good"], models["poor"])
    error = {n: mean_absolute_error(m.table.actual, m.table.predicted) for n, m in models.items()}
    assert found.value == pytest.approx(error["poor"] - error["good"]) and found.low > 0
    back = compared(PRICE, frame, models["poor"], models["good"])
    assert back.value == pytest.approx(-found.value) and back.high < 0
    # what both share, cancels: each alone is known far less well
    alone = Rows(PRICE, frame, frame.index)
    assert found.error < alone.measure(models["poor"]).own().error / 1.5


def test_a_model_and_itself_are_the_same_without_a_doubt():
    frame, models = amounts(good=0.1)
    found = compared(PRICE, frame, models["good"], models["good"])
    assert (found.value, found.error) == (0, 0) and paired.told(found) == "the same"
    assert models["good"].same(models["good"])


def test_rows_that_go_together_count_as_one_and_one_block_tells_nothing():
    frame, models = amounts(good=0.1, poor=0.2)
    twice = pd.concat([frame, frame], ignore_index=True)
    doubled = {
        n: Answers(pd.concat([m.table, m.table], ignore_index=True), None)
        for n, m in models.items()
    }
    once = compared(PRICE, frame, models["good"], models["poor"])
    by_block = compared(
        PRICE, twice, doubled["good"], doubled["poor"], np.tile(np.arange(len(frame)), 2)
    )
    assert by_block.error == pytest.approx(once.error, rel=0.01)
    few = compared(PRICE, frame, models["good"], models["poor"], np.arange(len(frame)) % 3)
    assert few.freedom == 2 and few.reach() > 4 * few.error
    alone = compared(PRICE, frame, models["good"], models["poor"], np.zeros(len(frame)))
    assert math.isnan(alone.low) and not alone.low > 0


@pytest.mark.parametrize(
    ("estimate", "said"),
    [
        (Estimate(0.2, 0.05), "better by 0.2 (95 %: from 0.102 to 0.298 better)"),
        (Estimate(-0.2, 0.05), "worse by 0.2 (95 %: from 0.102 to 0.298 worse)"),
        (Estimate(-0.01, 0.05), "worse by 0.01 (95 %: from 0.108 worse to 0.088 better)"),
        (Estimate(0.0, 0.0), "the same"),
        (Estimate(0.1, math.nan, 1), "better by 0.1 (with an error that is not known)"),
        (Estimate(math.nan, 0.1), "not known"),
    ],
)
def test_a_difference_in_words_has_no_sign(estimate, said):
    assert paired.told(estimate) == said


@pytest.mark.parametrize("metric, count", [("roc_auc", 2), ("accuracy", 5)])
def test_the_rarest_class_counts_by_its_blocks_and_for_accuracy_all_blocks_do(metric, count):
    blocks, actual = np.array([0, 0, 1, 2, 3, 4]), pd.Series(list("aabbbb")[::-1])
    problem = MADE.model_copy(update={"metric": MADE.metric.model_copy(update={"name": metric})})
    assert paired.fewest(problem, actual, blocks) == count
    assert paired.fewest(PRICE, pd.Series(range(6)), blocks) == 0


def halves(candidate_off):
    """(Rows, candidate, champion) of two slices, in the second of which the candidate is off by `candidate_off`."""
    frame, models = amounts(2000, one=0.2)
    frame = frame.assign(half=np.where(frame.index % 2, "odd", None))
    rule = problems.Gate(slices=["half"], slice_rows=500, slice_loss=0.05)
    champion, table = models["one"], models["one"].table
    rng = np.random.default_rng(1)
    off = np.where(frame.half == "odd", candidate_off, -0.15) * rng.normal(1, 0.1, len(frame))
    worse = table.assign(predicted=table.predicted + off * np.sign(table.predicted - table.actual))
    rows = Rows(PRICE.model_copy(update={"gate": rule}), frame, frame.index)
    return rows, Answers(worse, None), champion


def test_a_slice_is_left_behind_where_it_is_worse_by_more_than_allowed_and_not_by_luck():
    rows, candidate, champion = halves(0.1)
    table = paired.slices(rows, candidate, champion)
    assert list(table.value) == ["odd", "missing"] and list(table.rows) == [1000, 1000]
    assert table.difference[0] < -0.05 < 0 < table.difference[1] and table.high[0] < 0
    assert list(paired.left_behind(table, 0.05)) == [True, False]
    assert not paired.left_behind(table, 0.5).any()
    unsure = table.assign(high=0.01)
    assert not paired.left_behind(unsure, 0.05).any(), "it may be luck"


def test_intervals_of_many_slices_are_wider_than_that_of_one():
    rows, candidate, champion = halves(0.1)
    one = paired.slices(rows, candidate, champion).set_index("value")
    thirds = rows.frame.assign(third=rows.frame.index % 3)
    rule = rows.problem.gate.model_copy(update={"slices": ["half", "third"]})
    problem = rows.problem.model_copy(update={"gate": rule})
    many_rows = Rows(problem, thirds, thirds.index)
    many = paired.slices(many_rows, candidate, champion)
    odd = many[many.value == "odd"].iloc[0]
    assert odd.high - odd.low > one.loc["odd"].high - one.loc["odd"].low


def test_slices_that_no_model_can_be_measured_on_are_not_known_and_one_the_candidate_cannot_is_behind():
    random = np.random.default_rng(0)
    frame = error_rates.same_rows(MADE, 2000, False).frame
    candidate, champion = error_rates.drawn(random, frame, 0.0, False)
    late = candidate.table["actual"]
    frame = frame.assign(kind=np.where(late & (frame.index % 2 == 0), "only late", "both"))
    rule = problems.Gate(slices=["kind"], slice_rows=100)
    rows = Rows(MADE.model_copy(update={"gate": rule}), frame, frame.index)
    table = paired.slices(rows, candidate, champion).set_index("value")
    assert math.isnan(table.champion["only late"]) and math.isfinite(table.high["both"])
    assert not paired.left_behind(table, 0.0)["only late"]
    lost = table.assign(candidate=math.nan, difference=math.nan)
    assert paired.left_behind(lost, 0.0)["both"]


def test_the_simulated_difference_is_the_one_that_was_asked_for():
    random = np.random.default_rng(3)
    frame = error_rates.same_rows(MADE, 200_000, True).frame
    candidate, champion = error_rates.drawn(random, frame, 0.01, True)
    values = [paired.value(MADE, m.table, m.labels) for m in (candidate, champion)]
    assert values[1] == pytest.approx(0.68, abs=0.01)
    assert values[0] - values[1] == pytest.approx(0.01, abs=0.004)


def test_the_error_rates_are_those_of_the_gates_own_comparison():
    random = np.random.default_rng(4)
    by_days, rows = (error_rates.same_rows(MADE, 1000, days) for days in (True, False))
    assert error_rates.passes(random, by_days, 0.2, days=True)
    assert not error_rates.passes(random, rows, -0.2, days=False)
    gate = {"slices": list("abcd"), "slice_rows": 10_000, "slice_loss": 0.0}
    assert not error_rates.refuses_a_slice(random, error_rates.made(gate), days=False)
