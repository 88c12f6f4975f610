"""Comparison: the best run, the runs that chance can't part from it, and honest words."""

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


def test_the_label_names_the_model_and_what_was_changed():
    table = comparison.board(CANCER, runs([(0.7, 0.8, 0.01)]))
    assert table.label[0] == "hgb, max_depth=3, rows 0, seed 0"
