"""Comparison: the best run, the runs that chance can't part from it, and honest words."""

import json

import pandas as pd

from Codes import comparison, problem

CANCER = problem.load("breast_cancer")
DIABETES = problem.load("diabetes")


def runs(scores, name="roc_auc", baseline=0.5):
    """A table such as tracking.runs gives, from (test, train, error) of each run."""
    rows = [
        {
            "run_id": f"run{i}",
            f"metrics.test_{name}": test,
            f"metrics.train_{name}": train,
            f"metrics.error_{name}": error,
            f"metrics.baseline_{name}": baseline,
            f"metrics.gain_{name}": abs(test - baseline),
            "params.model": "hgb",
            "params.hyperparameters": '{"max_depth": 3}',
            "params.rows": "0",
            "params.seed": "0",
        }
        for i, (test, train, error) in enumerate(scores)
    ]
    return pd.DataFrame(rows)


def test_the_best_is_on_top_in_either_direction():
    up = comparison.board(CANCER, runs([(0.7, 0.8, 0.01), (0.9, 0.95, 0.01)]))
    down = comparison.board(DIABETES, runs([(60, 50, 1), (55, 50, 1)], "rmse", 80))
    assert list(up.run_id) == list(down.run_id) == ["run1", "run0"]
    assert (up.gap > 0).all() and (down.gap > 0).all()


def test_of_runs_that_chance_cannot_part_the_least_overfitted_is_taken():
    table = comparison.board(
        CANCER, runs([(0.90, 1.0, 0.02), (0.89, 0.90, 0.02), (0.6, 0.6, 0.02)])
    )
    assert comparison.pick(table).run_id == "run1"
    assert "can't be told from the best" in comparison.verdict(CANCER, table)


def test_a_run_no_better_than_the_baseline_is_not_recommended():
    table = comparison.board(CANCER, runs([(0.51, 0.9, 0.02)]))
    assert "do not use it" in comparison.verdict(CANCER, table)


def test_without_runs_it_says_how_to_make_some():
    table = comparison.board(CANCER, pd.DataFrame({"run_id": []}))
    assert table.empty and "make run NB=02_train" in comparison.verdict(CANCER, table)


def swept(points, parent="sweep", **columns):
    """A table such as tracking.runs gives of a sweep's trials, the newest first."""
    table = runs([(0.7 + i / 100, 0.8, 0.01) for i in range(len(points))])
    table[comparison.PARENT], table[comparison.POINT] = parent, [json.dumps(p) for p in points]
    table[comparison.TRIAL] = [str(i) for i in range(len(points))]
    return table.assign(**columns)[::-1].reset_index(drop=True)


def test_the_newest_sweep_is_shown_by_its_trials_and_what_varied():
    point = {"hyperparameters.learning_rate": 0.1, "model": "hgb"}
    newer, older = swept([point | {"model": "linear"}, point]), swept([{"x": 1}], "older")
    table = comparison.trials(CANCER, pd.concat([newer, older, runs([(0.9, 0.9, 0.01)])]))
    assert list(table) == ["trial", "test", "run_id", "learning_rate", "model"]
    assert table.trial.tolist() == [0, 1] and table.model.tolist() == ["linear", "hgb"]
    assert table.test.tolist() == [0.7, 0.71] and table.learning_rate.tolist() == [0.1, 0.1]


def test_the_seeds_of_a_point_are_one_trial_and_a_parameter_may_be_called_as_a_column():
    both = swept([{"trial": 5}, {"trial": 5}]).assign(**{comparison.TRIAL: "3"})
    table = comparison.trials(CANCER, both)
    assert table.test.round(9).tolist() == [0.705] and table["trial (varied)"].tolist() == [5]


def test_without_a_sweep_there_are_no_trials():
    for found in (runs([(0.9, 0.9, 0.01)]), pd.DataFrame({"run_id": []})):
        assert comparison.trials(CANCER, found).empty


def test_the_label_names_the_model_and_what_was_changed():
    table = comparison.board(CANCER, runs([(0.7, 0.8, 0.01)]))
    assert table.label[0] == "hgb, max_depth=3, rows 0, seed 0"
