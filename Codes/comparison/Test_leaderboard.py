"""The board: one table, in few lines and columns, whose names tell what differs; and a sweep's trials."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from Codes.comparison import leaderboard, naming, verdict, words
from Codes.comparison.contestants import Run
from Codes.ground import labels
from Codes.testing.known_runs import measured, question, table


def choice(count=5, spread=0.2, **columns):
    """The Choice among so many runs, of other models unless `columns` say otherwise."""
    scores = measured(np.linspace(0.5, 0.5 + spread, count), np.random.default_rng(0), rows=1000)
    given = {"model": [f"m{i}" for i in range(count)]} | columns
    return verdict.choose(question(), table(scores, **given))


def named(*settings, **facts):
    """The names of runs with these settings."""
    (score,) = measured([0.5], np.random.default_rng(0))
    runs = [Run(f"{i:07}", score, "02_train", s) for i, s in enumerate(settings)]
    columns = [dict(zip(facts, values)) for values in zip(*facts.values())] or [{}] * len(runs)
    return naming.names([replace(run, **more) for run, more in zip(runs, columns)])


LONG = [json.dumps({"learning_rate": 0.0123456789 * i, "max_leaf_nodes": i}) for i in range(200)]


@pytest.mark.parametrize("count", [1, 5, 9, 200])
def test_it_has_ten_lines_and_eighty_columns_at_most(count):
    shown = choice(
        count, model=["a.long.path.to.SomeClassifier"] * count, hyperparameters=LONG[:count]
    )
    lines = leaderboard.text(shown).splitlines()
    assert len(lines) <= 10 and max(map(len, lines)) <= 80
    assert len(leaderboard.text(shown, None).splitlines()) == count + 1
    assert all(len(line) <= 80 for line in leaderboard.wrapped(shown.reasons).splitlines())


def test_the_one_to_take_and_the_last_are_always_shown():
    sizes = [float(i) for i in range(200)]  # the smallest model is far down
    shown = choice(200, spread=0.001, model_kb=sizes)
    lines = leaderboard.text(shown).splitlines()
    assert sum(line.startswith(leaderboard.TAKEN) for line in lines) == (shown.taken is not None)
    assert leaderboard.table(shown)[-1].name in lines[-1] and "192 more" in lines[-2]


def test_a_score_stands_with_its_interval_its_gain_rows_and_seconds():
    shown = choice(2, rows=["0", "2000"], seconds=[3.25, 1.0])
    first, second = leaderboard.text(shown).splitlines()[1:]
    assert first.count("±") == 2 and first.split()[-2:] == ["2,000", "1.0"]
    assert second.split()[-2:] == ["all", "3.2"]


def test_what_is_not_known_is_said_so():
    scores = measured([0.5, 0.6], np.random.default_rng(0))
    nothing = replace(scores[1], score=np.nan, scores=scores[1].scores * np.nan)
    shown = verdict.choose(question(), table([scores[0], nothing], model=["a", "b"]))
    last = leaderboard.text(shown).splitlines()[-1]
    assert "not known" in last and "nan" not in last.lower()
    row = json.loads(json.dumps(leaderboard.as_dict(shown), allow_nan=False))["runs"][1]
    assert row["score"] is None and row["rows"] == 20000


def test_one_that_is_nearly_a_constant_does_not_give_the_others_more_decimals():
    scores = measured([5.0, 0.5], np.random.default_rng(0))
    still = replace(scores[1], scores=scores[1].score + (scores[1].scores - scores[1].score) / 1e4)
    shown = verdict.choose(question(), table([scores[0], still], model=["a", "b"]))
    assert [each.close for each in shown.contestants] == [True, False]
    assert not re.search(r"\d\.\d{4}", leaderboard.text(shown))


def test_as_json_it_says_what_is_recommended_and_all_runs():
    shown = choice(30)
    told = json.loads(json.dumps(leaderboard.as_dict(shown), allow_nan=False))
    assert len(told["runs"]) == 30 and told["recommended"] == shown.recommended
    assert told["verdict"] == list(shown.reasons) and told["direction"] == "maximize"


def test_without_runs_there_is_no_table_and_a_word_on_how_to_make_some():
    shown = verdict.choose(question(), pd.DataFrame({"run_id": []}))
    assert leaderboard.text(shown) == "" and leaderboard.frame(shown).empty
    assert "make run NB=02_train" in leaderboard.shown(shown)
    assert leaderboard.as_dict(shown)["direction"] == "maximize"


@pytest.mark.parametrize(
    "reaches, places", [([0.012], 3), ([160.0, 1612.0], 0), ([], 3), ([np.nan], 3), ([1e-9], 6)]
)
def test_numbers_have_two_digits_of_what_is_uncertain(reaches, places):
    assert labels.decimals(reaches) == places


# --- names


def test_a_name_tells_the_model_and_what_differs():
    assert named({"model": "linear"}, {"model": "pack.Forest"}) == ["linear", "Forest"]
    given = [{"model": "hgb", "depth": d, "rate": 0.1} for d in (3, 0.123456)]
    assert named(*given) == ["hgb, depth=3", "hgb, depth=0.123"]
    deep = [{"model": "hgb", "inner": {"C": c}} for c in (1, 10)]
    assert named(*deep) == ["hgb, C=1", "hgb, C=10"]
    two = [{"model": "linear"}, {"model": "torch", "device": "auto"}]
    notebooks = ["02_train", "02_train_torch"]
    assert named(*two, notebook=notebooks) == ["linear", "torch"]
    same = [{"model": "linear"}, {"model": "linear", "device": "auto"}]
    assert named(*same, notebook=notebooks) == ["02_train linear", "02_train_torch linear"]


def test_no_two_names_are_alike():
    assert named({"model": "a"}, {"model": "a"}, rows=[600, 2000]) == [
        "a, 600 rows",
        "a, 2,000 rows",
    ]
    assert len(set(named({"model": "a"}, {"model": "a"}))) == 2
    trials = named({"model": "a"}, {"model": "a"}, trial=["3", "3"], sweep=["s1", "s2"])
    assert trials == ["a trial 3 of s1", "a trial 3 of s2"]


def test_a_notebook_without_a_model_goes_by_its_name():
    assert named({"alpha": 1}, {"alpha": 2}, notebook=["mine", "mine"]) == [
        "mine, alpha=1",
        "mine, alpha=2",
    ]
    assert named({"model": "a"}, {"model": "a"}, notebook=["02_train", "mine"])[1] == "mine a"


# --- a sweep


def swept(points, parent="sweep", trial=None):
    """A table such as tracking.runs gives of a sweep's trials."""
    scores = measured([0.5] * len(points), np.random.default_rng(0))
    told = {"point": [json.dumps(p) for p in points], "sweep": [parent] * len(points)}
    return table(scores, trial=trial or [str(i) for i in range(len(points))], **told)


def test_the_newest_sweep_is_shown_by_its_trials_and_what_varied():
    point = {"hyperparameters.learning_rate": 0.1, "model": "hgb"}
    newer, older = swept([point | {"model": "linear"}, point]), swept([{"x": 1}], "older")
    single = table(measured([0.9], np.random.default_rng(0)))
    found = leaderboard.trials(
        question(), pd.concat([newer[::-1], older, single], ignore_index=True)
    )
    assert list(found) == ["trial", "score", "run_id", "learning_rate", "model"]
    assert found.trial.tolist() == [0, 1] and found.model.tolist() == ["linear", "hgb"]
    assert found.score.tolist() == newer["metrics.validation_roc_auc"].tolist()


def test_the_seeds_of_a_point_are_one_trial_and_a_parameter_may_be_called_as_a_column():
    both = swept([{"trial": 5}, {"trial": 5}], trial=["3", "3"])
    found = leaderboard.trials(question(), both)
    assert found.score.tolist() == [pytest.approx(both["metrics.validation_roc_auc"].mean())]
    assert found["trial (varied)"].tolist() == [5]


def test_without_a_sweep_there_are_no_trials():
    single = table(measured([0.9], np.random.default_rng(0)))
    for runs in (single, pd.DataFrame({"run_id": []})):
        assert leaderboard.trials(question(), runs).empty


def test_one_run_stands_beside_the_best_so_far():
    shown = choice(5)
    best, *_, last = (each.run.run_id for each in shown.contestants)
    score, standing = words.beside(shown, best)
    assert standing == "It is the best so far, of 5." and score.count("±") == 2
    score, standing = words.beside(shown, last)
    own = shown.contestants[-1].scored.own()
    assert standing.startswith("The best so far, m4: 0.66") and "better by 0.21" in standing
    assert labels.around(own.value, own.reach(), 3) in score
    (close,) = [each.run.run_id for each in choice(2, spread=0.001).contestants[1:]]
    assert "cannot be told from that" in words.beside(choice(2, spread=0.001), close)[1]
    assert words.beside(shown, "another") == ["It repeats a run that was there before."]
