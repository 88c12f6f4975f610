"""Two scores are compared on the same draws; the errors are those that theory knows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from Codes.judgement import resampling, scored
from Codes.judgement.scored import FOLDS, HOLD_OUT, Scored
from Codes.modeling import evaluation
from Codes.problems import problem as problems

FLIGHTS, DIABETES = problems.load("flights"), problems.load("diabetes")


def kept(scores, how=HOLD_OUT, ratio=0.0, more=True, **changed):
    """A Scored with these `scores`, whose baseline is always 0."""
    scores = np.asarray(scores, float)
    fields = {"metric": "m", "more": more, "how": how, "rows": 100, "digest": "d", "ratio": ratio}
    fields |= {"score": float(np.mean(scores)), "baseline": 0.0}
    return Scored(**fields | {"scores": scores, "baselines": np.zeros(len(scores))} | changed)


def test_what_is_kept_comes_back_and_anything_else_is_refused():
    one = kept(np.linspace(0, 1, 200))
    again = Scored.from_tag(one.as_tag())
    assert len(one.as_tag()) < 5000 and again.comparable(one)
    assert again.over(one).value == 0 and np.allclose(again.scores, one.scores, atol=1e-6)
    for text in ("", "{}", "[1]", '{"scores": 3}'):
        with pytest.raises(ValueError):
            Scored.from_tag(text)


def test_only_the_same_metric_rows_and_draws_are_comparable():
    one = kept(np.zeros(200))
    others = [kept(np.zeros(200), **{k: v}) for k, v in {"metric": "o", "digest": "e"}.items()]
    others += [kept(np.zeros(15), FOLDS), kept(np.zeros(100))]
    assert one.comparable(kept(np.ones(200))) and not any(one.comparable(o) for o in others)


def test_a_difference_is_paired_and_positive_where_the_first_is_better():
    luck = np.random.default_rng(0).normal(0, 0.1, 200)
    better, worse = kept(0.7 + luck), kept(0.6 + luck)
    difference = better.over(worse)
    assert difference.value == pytest.approx(0.1) and difference.error < 1e-9
    assert better.own().error == pytest.approx(luck.std(ddof=1))
    less = kept(0.6 + luck, more=False).over(kept(0.7 + luck, more=False))
    assert less.value == pytest.approx(0.1) and less.low > 0


@pytest.mark.parametrize("how, draws", [(HOLD_OUT, 200), (FOLDS, 15)])
def test_of_no_mistake_at_all_the_rule_of_three_says_how_many_there_may_be(how, draws):
    half = {"baseline": 0.5, "baselines": np.full(draws, 0.5)}
    perfect, constant = (kept(np.full(draws, s), how, fewest=300, **half) for s in (1, 0.5))
    assert perfect.own().reach() == pytest.approx(0.01, rel=0.1) and perfect.own().value == 1
    assert perfect.gain().reach() == pytest.approx(perfect.over(constant).reach())
    assert perfect.gain().low == pytest.approx(0.49, abs=0.001)
    assert constant.own().error == 0, "a constant's score is known"
    assert perfect.over(perfect) == (0, 0, perfect.own().freedom)
    one_block, of_amounts = (replace(perfect, fewest=count) for count in (1, 0))
    assert np.isnan(one_block.own().error) and np.isnan(one_block.gain().error)
    assert of_amounts.own().error == 0, "an r2 of 1 is no rate of mistakes"


def test_the_rule_of_three_misses_a_rate_five_times_of_100_at_most():
    chance, count = np.random.default_rng(0), 200
    reach = kept(np.ones(200), fewest=count).own().reach()
    for rate in (0.005, 0.0151, 0.05):
        faultless = chance.binomial(count, rate, size=20_000) == 0
        outside = faultless & (rate > reach)
        assert outside.mean() < 0.0505


def test_the_bootstraps_error_is_that_of_theory():
    chance = np.random.default_rng(0)
    for count in (200, 5000):
        table = pd.DataFrame({"actual": chance.normal(size=count), "predicted": 0.0})
        drawn = resampling.weights(np.arange(count))
        values = resampling.replicates(DIABETES, table, None, drawn)
        # the standard error of the root of the mean of n squared normals is 1 / sqrt(2 n)
        error, freedom = scored.spread(values, HOLD_OUT)
        assert error == pytest.approx(1 / np.sqrt(2 * count), rel=0.2) and freedom == np.inf


def test_rows_of_a_block_that_are_alike_count_once():
    chance = np.random.default_rng(0)
    table = pd.DataFrame({"actual": np.repeat(chance.normal(size=100), 20), "predicted": 0.0})
    blocks = np.repeat(np.arange(100), 20)
    together, apart = (
        resampling.replicates(DIABETES, table, None, resampling.weights(each)).std()
        for each in (blocks, np.arange(2000))
    )
    assert together == pytest.approx(1 / np.sqrt(200), rel=0.25) and together > 3 * apart


@pytest.mark.soak
def test_folds_share_rows_for_which_the_variance_is_corrected():
    """Two equal learners: a t test of the plain mean of folds would refuse equality far too often."""
    chance, wrong, plain = np.random.default_rng(0), 0, 0
    for _ in range(400):
        X, y = chance.normal(size=(60, 2)), chance.normal(size=60)
        differences = []
        for _ in range(3):
            for held in np.array_split(chance.permutation(60), 5):
                learned = np.setdiff1d(np.arange(60), held)
                loss = []
                for column in (0, 1):  # two features, neither of which says anything
                    slope, base = np.polyfit(X[learned, column], y[learned], 1)
                    loss.append(np.mean((y[held] - slope * X[held, column] - base) ** 2))
                differences.append(loss[0] - loss[1])
        one = kept(differences, FOLDS, ratio=0.25).gain()
        naive = kept(differences, FOLDS, ratio=0.0).gain()
        wrong += not one.low < 0 < one.high
        plain += not naive.low < 0 < naive.high
    assert wrong / 400 < 0.08 < plain / 400


def test_too_few_known_values_say_that_nothing_is_known():
    values = [np.nan] * 10 + [0.1] * 5
    assert np.isnan(kept(values, FOLDS, 0.25, score=0.1).own().error)
    assert np.isnan(kept([0.3], FOLDS, 0.25).own().high)


def test_several_seeds_are_one_whose_luck_is_averaged():
    luck = np.random.default_rng(0).normal(0, 0.1, (2, 200))
    both = scored.mean([kept(0.5 + each) for each in luck])
    assert both.score == pytest.approx((0.5 + luck.mean(axis=0)).mean())
    assert both.own().error < kept(0.5 + luck[0]).own().error


def predicted(labels, seed=0, count=600):
    """A table of predictions of these `labels` with ties among its scores; of amounts without any."""
    chance = np.random.default_rng(seed)
    if labels is None:
        actual = chance.normal(size=count)
        return pd.DataFrame({"actual": actual, "predicted": actual / 2 + chance.normal(size=count)})
    actual = chance.integers(0, len(labels), count)
    shares = chance.dirichlet(np.ones(len(labels)), count).round(2)
    shares[np.arange(count), actual] += 0.2
    shares /= shares.sum(axis=1, keepdims=True)
    table = pd.DataFrame(shares, columns=[f"probability of {label}" for label in labels])
    words = np.array(labels, object)
    table.insert(0, "predicted", words[shares.argmax(axis=1)])
    table.insert(0, "actual", words[actual])
    return table.infer_objects()


@pytest.mark.parametrize("labels", [[False, True], ["a", "b", "c"], None], ids=str)
def test_each_metric_of_redrawn_rows_is_the_metric_of_the_repeated_rows(labels):
    which = DIABETES if labels is None else FLIGHTS
    which = (
        which if labels in (None, [False, True]) else which.model_copy(update={"positive": None})
    )
    table = predicted(labels)
    drawn = resampling.weights(np.arange(len(table)), 3)
    for metric in which.directions:
        found = resampling.replicates(which, table, labels, drawn, metric)
        for value, counts in zip(found, drawn):
            repeated = table.iloc[np.repeat(np.arange(len(table)), counts)]
            whole = evaluation.measure(which, repeated, labels, only=metric)[metric]
            assert value == pytest.approx(whole), metric


def test_scores_that_are_no_probabilities_have_no_log_loss():
    table = predicted([False, True])
    ranks = table.rename(columns=lambda name: name.replace("probability of", "score of"))
    drawn = resampling.weights(np.arange(len(table)), 3)
    for metric in ("log_loss", "brier"):
        assert metric not in evaluation.measure(FLIGHTS, ranks, [False, True])
        found = [
            resampling.replicates(FLIGHTS, t, [False, True], drawn, metric) for t in (table, ranks)
        ]
        assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()


def test_a_draw_of_one_class_is_not_known():
    table = predicted([False, True], count=4).assign(actual=[True, False, False, False])
    drawn = np.array([[0, 2, 1, 1], [1, 1, 1, 1]])
    found = resampling.replicates(FLIGHTS, table, [False, True], drawn)
    assert np.isnan(found[0]) and np.isfinite(found[1])
