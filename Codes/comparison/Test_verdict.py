"""The verdict: who is compared, what chance explains, and which run is taken; on runs whose truth is known."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from Codes.comparison import contestants, verdict
from Codes.judgement import scored
from Codes.judgement.scored import Scored
from Codes.testing.cases import sampled
from Codes.testing.known_runs import FOLDS, HOLD_OUT, measured, question, table

FLIGHTS = question()
EITHER = pytest.mark.parametrize("how", sampled([HOLD_OUT, FOLDS], FOLDS))


def chosen(scores, **columns):
    """The Choice among runs with these scores."""
    return verdict.choose(FLIGHTS, table(scores, **columns))


def said(choice):
    """Its reasons as one text."""
    return " ".join(choice.reasons)


# --- chance


@EITHER
def test_the_best_in_truth_is_among_those_that_cannot_be_told_from_the_best(how):
    random, truth = np.random.default_rng(1), np.linspace(0, 0.2, 8)
    kept = [verdict.best_set(measured(truth, random, how=how))[0][-1] for _ in range(150)]
    assert np.mean(kept) >= 0.95


@EITHER
@pytest.mark.parametrize("count", sampled([2, 8], 8))
def test_of_equally_good_ones_each_stays_95_times_of_100(count, how):
    random = np.random.default_rng(2)
    kept = [verdict.best_set(measured(np.zeros(count), random, how=how))[0] for _ in range(150)]
    assert np.mean(kept) >= 0.93  # of so few draws the share is known within 0.02


def test_those_that_are_far_behind_are_told_from_the_best():
    close, reach = verdict.best_set(measured([0.6, 0.6, 0.1], np.random.default_rng(0)))
    assert close.tolist() == [True, True, False] and (reach[1:] > 0).all()


def test_the_same_answers_are_equal_whatever_the_number_of_rows():
    (one,) = measured([0.5], np.random.default_rng(0))
    close, reach = verdict.best_set([one, replace(one, score=one.score + 1e-12)])
    assert close.all() and not reach.any()


TRUTHS = {
    "all alike": np.zeros(8),
    "two": np.zeros(2),
    "one better": np.linspace(0, 0.2, 8),
    "a far one": np.array([-2, 0, 0.01, 0.02]),
}


@EITHER
@pytest.mark.parametrize("name", sampled(TRUTHS, "one better"))
def test_the_optimism_of_having_chosen_is_what_it_is_in_truth(name, how):
    random, told, real, truth = np.random.default_rng(3), [], [], TRUTHS[name]
    for _ in range(150):
        scores = measured(truth, random, how=how)
        best = int(np.argmax([each.score for each in scores]))
        real.append(scores[best].score - truth[best])
        close, _ = verdict.best_set(scores)
        told.append(verdict.optimism([each for each, kept in zip(scores, close) if kept]))
    assert np.mean(told) == pytest.approx(np.mean(real), rel=0.35, abs=0.01)


@EITHER
def test_of_noise_nothing_is_taken(how):
    random = np.random.default_rng(4)
    models = [f"m{i}" for i in range(20)]
    runs = (table(measured(np.zeros(20), random, how=how), model=models) for _ in range(60))
    taken = [verdict.choose(FLIGHTS, each).recommended for each in runs]
    assert sum(each is not None for each in taken) <= 60 * 0.05


def test_less_is_better_where_the_metric_says_so():
    scores = measured([3, 2, 1], np.random.default_rng(0), baseline=4, metric="rmse", more=False)
    choice = verdict.choose(question("rmse"), table(scores, model=["a", "b", "c"]))
    assert [c.run.setting["model"] for c in choice.contestants] == ["c", "b", "a"]
    assert choice.taken.run.setting["model"] == "c"


# --- which is taken


def test_a_stump_on_few_rows_is_not_taken_for_its_wide_interval():
    random = np.random.default_rng(5)
    good, smoke = measured([0.68, 0.62], random, rows=2000)
    noise = 0.04 * random.normal(size=len(smoke.scores))
    wide = replace(smoke, scores=smoke.scores + noise, score=good.score - 0.03)
    choice = chosen([good, wide], rows=["20000", "600"], model_kb=[500.0, 2.0])
    assert [c.run.rows for c in choice.close] == [20000, 600]  # by its noise it stays in the set
    assert choice.taken.run.rows == 20000


def test_a_run_on_few_rows_that_is_best_by_luck_gives_way_to_an_equal_one_on_more():
    (one,) = measured([0.5], np.random.default_rng(0), rows=2000)
    noise = 1e-3 * np.random.default_rng(1).normal(size=len(one.scores))
    lucky = replace(one, score=one.score + 1e-4, scores=one.scores + 1e-4 + noise)
    choice = chosen([lucky, one], rows=["600", "20000"], model_kb=[2.0, 500.0])
    assert choice.contestants[0].run.rows == 600 and choice.taken.run.rows == 20000


def test_of_those_that_cost_next_to_nothing_the_smallest_model_is_taken():
    (one,) = measured([0.5], np.random.default_rng(0))
    noise = 1e-3 * np.random.default_rng(1).normal(size=len(one.scores))
    near = replace(one, score=one.score - 1e-4, scores=one.scores - 1e-4 + noise)
    choice = chosen([one, near], model=["forest", "linear"], model_kb=[5000.0, 5.0])
    assert choice.taken.run.setting["model"] == "linear" and "smallest model" in said(choice)


def test_what_having_chosen_flatters_is_called_by_its_name_where_another_is_taken():
    one, other = measured([0.5, 0.5], np.random.default_rng(6), rows=2000)
    near = replace(other, score=one.score - 0.001)
    large = chosen([one, near], model=["hgb", "linear"], model_kb=[900.0, 9.0])
    assert large.taken.run.setting["model"] == "linear" and " flatters hgb" in said(large)
    small = chosen([one, near], model=["hgb", "linear"], model_kb=[9.0, 900.0])
    assert small.taken.run.setting["model"] == "hgb" and " flatters it" in said(small)


def test_a_smaller_model_that_costs_more_than_a_twentieth_of_the_gain_is_not_taken():
    best, _ = measured([0.5, 0.4], np.random.default_rng(6))
    noise = 0.1 * np.random.default_rng(1).normal(size=len(best.scores))
    worse = replace(best, score=best.score - 0.05, scores=best.scores - 0.05 + noise)
    choice = chosen([best, worse], model=["a", "b"], model_kb=[5000.0, 5.0])
    assert len(choice.close) == 2 and choice.taken is choice.contestants[0]
    assert "to take another costs more than" in said(choice) and "most rows" not in said(choice)


def test_seeds_of_a_setting_are_one_contestant_and_the_middle_one_stands_for_it():
    scores = measured([0.5, 0.6, 0.55], np.random.default_rng(0))
    (only,) = chosen(scores, seed=["0", "1", "2"]).contestants
    middle = sorted(scores, key=lambda s: s.score)[1].score
    assert len(only.runs) == 3 and only.run.scored.score == pytest.approx(middle)
    assert only.scored.score == pytest.approx(np.mean([s.score for s in scores]))


def test_a_run_that_was_made_again_counts_once():
    scores = measured([0.5, 0.6], np.random.default_rng(0))
    (only,) = chosen(scores).contestants
    assert only.run.run_id == f"{0:032x}"  # the newest, which comes first


def test_another_code_is_another_contestant_another_value_of_seed_is_none():
    scores = measured([0.5, 0.5, 0.5], np.random.default_rng(0))
    code = [
        json.dumps({"the notebook's code": c, "the parameters": p}) for c, p in ("a1", "a2", "b1")
    ]
    choice = chosen(scores, code=code, seed=["0", "1", "0"])
    assert sorted(len(c.runs) for c in choice.contestants) == [1, 2]


def test_code_that_changed_nothing_makes_no_other_contestant():
    scores = measured([0.5], np.random.default_rng(0)) * 2
    code = [json.dumps({"the notebook's code": c}) for c in "ab"]
    (only,) = chosen(scores, code=code).contestants
    assert only.run.run_id == f"{0:032x}"


def test_of_two_runs_the_worse_stands_for_both():
    scores = measured([0.5, 0.6], np.random.default_rng(0))
    (only,) = chosen(scores, seed=["0", "1"]).contestants
    assert only.run.scored.score == pytest.approx(min(s.score for s in scores))


# --- what is not known, and what stands apart


def test_sixteen_rows_cannot_tell_two_models_apart_and_of_noise_nothing_is_taken():
    random = np.random.default_rng(7)
    choice = chosen(measured([0.3, 0.1], random, rows=16, how=FOLDS), model=["a", "b"])
    assert len(choice.close) == 2 and choice.recommended is None
    assert "So few rows cannot tell" in said(choice)


def test_a_constant_is_never_taken_and_what_to_try_is_said():
    random = np.random.default_rng(0)
    (one,) = measured([0.5], random)
    dummy = replace(one, score=one.baseline, scores=one.baselines)
    choice = chosen([dummy], model=["dummy"])
    assert choice.recommended is None and choice.reasons[0].startswith("Take none")
    assert "make run NB=02_train" in said(choice)


def test_a_missing_score_is_not_known_and_claims_nothing():
    one, other = measured([0.5, 0.4], np.random.default_rng(0))
    nothing = np.full(len(other.scores), np.nan)
    choice = chosen([one, replace(other, score=np.nan, scores=nothing)], model=["a", "b"])
    assert [c.known for c in choice.contestants] == [True, False]
    assert choice.taken.run.setting["model"] == "a" and "not known" in said(choice)


def test_rows_of_one_block_tell_no_error_and_nothing_is_claimed():
    scores = measured([0.5, 0.4], np.random.default_rng(0))
    stiff = [replace(s, scores=s.scores * 0 + s.score, baselines=s.baselines * 0) for s in scores]
    choice = chosen(stiff, model=["a", "b"])
    assert choice.recommended is None and "enough is known" in said(choice)


@EITHER
@pytest.mark.parametrize("others", [(), (0.6,)])
def test_of_models_without_a_mistake_the_smallest_is_taken_and_never_the_constant(how, others):
    scores = measured([0.5, *others], np.random.default_rng(0), how=how)
    half = {"baseline": 0.5, "baselines": scores[0].scores * 0 + 0.5, "fewest": 500}
    perfect, constant = (
        replace(scores[0], score=v, scores=scores[0].scores * 0 + v, **half) for v in (1.0, 0.5)
    )
    names, sizes = ["large", "small", "dummy", "other"], [900.0, 3.0, 1.0, 2.0]
    told = [perfect, perfect, constant, *(replace(s, **half) for s in scores[1:])]
    choice = chosen(told, model=names[: len(told)], model_kb=sizes[: len(told)])
    assert choice.taken.run.setting["model"] == "small"
    assert {c.run.setting["model"] for c in choice.close} == {"large", "small"}
    assert all(c.reach > 0.004 for c in choice.contestants[1:2])


def test_an_error_of_nothing_is_known_where_the_baselines_varies():
    (one,) = measured([0.5], np.random.default_rng(0), more=False)
    choice = chosen([replace(one, score=0.0, scores=one.scores * 0, baseline=0.2)], model=["a"])
    assert choice.taken is not None


def test_runs_of_other_rows_of_another_metric_and_without_a_score_stand_apart():
    now, before, other = measured([0.5, 0.9, 0.9], np.random.default_rng(0))
    scores = [now, replace(before, digest="of before"), replace(other, metric="f1"), None]
    choice = chosen(scores)
    assert len(choice.contestants) == 1 and choice.recommended == f"{0:032x}"
    assert {each.why for each in choice.apart} == {
        contestants.OTHER_ROWS,
        contestants.OTHER_METRIC,
        contestants.NO_SCORE,
    }


def test_the_rows_as_they_are_now_decide_which_runs_count():
    old, new = measured([0.9, 0.5], np.random.default_rng(0))
    runs = table([replace(old, digest="old"), replace(new, digest="new")])
    assert verdict.choose(FLIGHTS, runs, "new").recommended == f"{1:032x}"
    assert verdict.choose(FLIGHTS, runs, "gone").contestants == ()


def test_a_notebook_of_ones_own_without_a_score_is_told_how_to_get_one():
    runs = pd.DataFrame([{"run_id": "a", "metrics.roc_auc": 0.9, "metrics.test_roc_auc": 0.8}])
    choice = verdict.choose(FLIGHTS, runs)
    assert choice.recommended is None and len(choice.apart) == 1
    assert "no score on validation rows" in said(choice) and "validation.score" in said(choice)
    assert "None" not in said(choice) and "nan" not in said(choice)


def test_a_notebook_of_ones_own_with_a_score_needs_neither_model_nor_seed():
    (one,) = measured([0.5], np.random.default_rng(0))
    tags = {f"tags.{scored.TAG}": one.as_tag(), "tags.mlflow.workbook.notebook": "mine"}
    runs = pd.DataFrame([{"run_id": "a", "tags.mlflow.workbook.fingerprint": "f"} | tags])
    choice = verdict.choose(FLIGHTS, runs)
    assert choice.recommended == "a" and choice.reasons[0].startswith("Take mine (run a)")


def test_a_run_by_hand_is_shown_but_not_taken():
    scores = measured([0.5, 0.5], np.random.default_rng(0))
    choice = chosen(scores, model=["a", "b"], fingerprint=[None, "f"])
    assert choice.taken.run.setting["model"] == "b"
    alone = chosen(scores[:1], fingerprint=[None])
    assert alone.recommended is None and "made by hand" in said(alone)


def test_without_runs_it_says_how_to_make_some():
    choice = verdict.choose(FLIGHTS, pd.DataFrame({"run_id": []}))
    assert choice.recommended is None and "make run NB=02_train" in choice.reasons[0]


def test_a_broken_tag_is_no_score():
    runs = table(measured([0.5], np.random.default_rng(0)))
    runs[f"tags.{scored.TAG}"] = "{}"
    assert verdict.choose(FLIGHTS, runs).contestants == ()


def test_what_a_tag_keeps_is_what_was_scored():
    (one,) = measured([0.5], np.random.default_rng(0))
    again = Scored.from_tag(one.as_tag())
    assert again.comparable(one) and again.scores == pytest.approx(one.scores, rel=1e-6)
