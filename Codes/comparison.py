"""Comparison: finished runs side by side, and which one to take, with the reasons."""

import json

import numpy as np
import pandas as pd

from Codes.labels import number

COLUMNS = [
    "label",
    "model",
    "test",
    "error",
    "train",
    "gap",
    "baseline",
    "gain",
    "run_id",
    "rows",
    "seed",
]

# what a sweep's trials carry in `tracking.runs`
PARENT, POINT, TRIAL = (
    "tags.mlflow.parentRunId",
    "tags.mlflow.workbook.sweep.point",
    "tags.mlflow.workbook.sweep.trial",
)


def board(problem, runs):
    """A row for each of `runs` (tracking.runs' table) that was scored, the best on top.

    Columns: label, model; test, train, baseline (the deciding metric), error (test's standard error),
    gain over the baseline and gap from train to test (both positive when better on the first);
    run_id, rows, seed. Empty, with these columns, where there are no runs.
    """
    name = problem.metric.name
    if f"metrics.test_{name}" not in runs:
        return pd.DataFrame(columns=COLUMNS)
    sign = 1 if problem.metric.direction == "maximize" else -1
    table = pd.DataFrame(
        {"run_id": runs.run_id, "label": [_label(run) for _, run in runs.iterrows()]}
    )
    for part in ("test", "train", "baseline", "gain"):
        table[part] = runs.get(f"metrics.{part}_{name}", np.nan)
    table["error"] = runs.get(f"metrics.error_{name}", np.nan)
    for part in ("model", "rows", "seed"):
        table[part] = runs.get(f"params.{part}", "")
    table["gap"] = (table.train - table.test) * sign
    table = table.dropna(subset=["test"]).sort_values("test", ascending=sign < 0, kind="stable")
    return table[COLUMNS].reset_index(drop=True)


def close_to_best(table):
    """The runs of `table` that the 95 % interval of a difference does not part from the best."""
    error = np.hypot(table.error.fillna(0), table.error.fillna(0).iloc[:1].sum())
    return table[(table.test - table.test.iloc[:1].sum()).abs() <= 1.96 * error]


def pick(table):
    """The run to take: of those that chance cannot tell apart, the one that learned least by heart."""
    return close_to_best(table).sort_values("gap", kind="stable").iloc[0]


def verdict(problem, table):
    """Which run of `table` (see `board`) to take and why, in a few sentences of Markdown."""
    if table.empty:
        return (
            f"There is no finished run of 02_train on {problem.name} yet; make one by "
            f'`make run NB=02_train P="problem={problem.name}"` and open this notebook again.'
        )
    best, close = pick(table), close_to_best(table)
    name = problem.metric.name
    sentences = [
        f"**{best.label}** (run `{best.run_id}`): {name} {best.test:.4f} ± {1.96 * best.error:.4f} "
        f"on rows it never saw.",
        _against_baseline(best),
        f"From train to test it loses {best.gap:.4f}.",
        _among(close, table),
    ]
    return "  \n".join(sentence for sentence in sentences if sentence)


def trials(problem, runs):
    """The trials of the newest sweep among `runs` (tracking.runs' table), in their order.

    Columns: trial, test (the deciding metric; the mean where a point has several seeds), run_id, and one for each
    parameter that varied. Empty where there is no sweep.
    """
    metric = f"metrics.test_{problem.metric.name}"
    if not {PARENT, POINT, TRIAL, metric} <= set(runs):
        return pd.DataFrame(columns=["trial", "test", "run_id"])
    swept = runs.dropna(subset=[PARENT, POINT, metric])
    newest = swept[swept[PARENT] == swept[PARENT].iloc[0]]
    table = {"trial": newest[TRIAL].astype(int), "test": newest[metric], "run_id": newest.run_id}
    points = pd.DataFrame([json.loads(point) for point in newest[POINT]], index=newest.index)
    short = points.columns.str.rpartition(".").get_level_values(-1)
    points.columns = short if short.is_unique else points.columns
    table = pd.DataFrame(table).join(points, suffixes=("", " (varied)"))
    columns = {name: "first" for name in table.columns.drop("trial")} | {"test": "mean"}
    return table.groupby("trial", as_index=False).agg(columns)


def _label(run):
    """The model's name, its hyperparameters, and how many rows with which seed."""
    given = json.loads(run.get("params.hyperparameters") or "{}")
    model = str(run.get("params.model")).rpartition(".")[2]
    settings = [f"{name}={number(value)}" for name, value in given.items()]
    return ", ".join(
        [model, *settings, f"rows {run.get('params.rows')}, seed {run.get('params.seed')}"]
    )


def _against_baseline(best):
    """Is the gain over a model that ignores the features more than chance?"""
    if best.gain > 1.96 * (0 if np.isnan(best.error) else best.error):
        return f"It beats the baseline ({best.baseline:.4f}) by {best.gain:.4f}, more than chance gives."
    return f"**It does not beat the baseline ({best.baseline:.4f}) by more than chance gives: do not use it.**"


def _among(close, table):
    """How many others are as good, as far as this hold-out can tell."""
    others = len(close) - 1
    if not others:
        return (
            f"None of the other {len(table) - 1} comes within the uncertainty."
            if len(table) > 1
            else ""
        )
    mixed = close[["rows", "seed"]].drop_duplicates().shape[0] > 1
    warning = (
        " They were scored on different rows (rows or seed differ), so compare with care."
        if mixed
        else ""
    )
    return (
        f"{others} other run(s) can't be told from the best by this hold-out; of these, the one with "
        f"the smallest loss from train to test was taken.{warning}"
    )
