"""Runs whose truth is known, as tracking.runs gives them, for the tests of what judges and shows them."""

# pylint: disable=too-many-arguments,too-many-positional-arguments

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pandas as pd

from Codes.judgement import scored
from Codes.judgement.scored import FOLDS, HOLD_OUT, Scored

DRAWS = 200


def question(metric: str = "roc_auc", name: str = "flights") -> Any:
    """What of a problem the judgement asks."""
    direction = "minimize" if metric in ("rmse", "mae") else "maximize"
    return SimpleNamespace(name=name, metric=SimpleNamespace(name=metric, direction=direction))


def measured(
    truth: Sequence[float],
    random: np.random.Generator,
    rows: int = 200,
    how: Literal["hold-out", "cross-validation"] = HOLD_OUT,
    baseline: float = 0.0,
    metric: str = "roc_auc",
    more: bool = True,
) -> list[Scored]:
    """A Scored for each model of the `truth`, on the same `rows`: each row's worth has a shared and an own part."""
    means = np.asarray(truth, float)
    shared = random.normal(size=rows)
    worth = means[:, None] + shared + 0.6 * random.normal(size=(len(means), rows))
    floor = baseline + 0.5 * shared
    if how == HOLD_OUT:
        take = random.multinomial(rows, np.full(rows, 1 / rows), size=DRAWS) / rows
        ratio = 0.0
    else:
        folds = np.array_split(np.arange(rows), 10)
        take = np.array([np.isin(np.arange(rows), fold) / len(fold) for fold in folds])
        ratio = 0.0  # nothing was trained, so the folds share nothing
    return [
        Scored(
            metric,
            more,
            score=float(each.mean()),
            baseline=float(floor.mean()),
            scores=take @ each,
            baselines=take @ floor,
            how=how,
            rows=rows,
            digest="d",
            ratio=ratio,
        )
        for each in worth
    ]


def table(scores: Sequence[Scored | None], **columns: Sequence[Any]) -> pd.DataFrame:
    """A table such as tracking.runs gives of 02_train's runs with these Scored; `columns` by their names' last part.

    Among them: model, hyperparameters, rows, seed (parameters); model_kb, fit_seconds, row_ms (metrics); seconds;
    trial, sweep, code.
    """
    rows = []
    for i, score in enumerate(scores):
        given = {name: values[i] for name, values in columns.items()}
        rows.append(_row(f"{i:032x}", score, given))
    return pd.DataFrame(rows or [{}], columns=None if rows else ["run_id"]).iloc[: len(rows)]


def _row(run_id: str, score: Scored | None, given: Mapping[str, Any]) -> dict[str, Any]:
    name = "roc_auc" if score is None else score.metric
    row = {
        "run_id": run_id,
        "params.problem": "flights",
        "params.model": given.get("model", "hgb"),
        "params.hyperparameters": given.get("hyperparameters", "{}"),
        "params.rows": given.get("rows", "20000"),
        "params.seed": given.get("seed", "0"),
        "metrics.model_kb": given.get("model_kb", 100.0),
        "metrics.fit_seconds": given.get("fit_seconds", np.nan),
        "metrics.row_ms": given.get("row_ms", np.nan),
        "metrics.row_ms_of_1000": given.get("row_ms_of_1000", np.nan),
        "start_time": (start := pd.Timestamp("2026-01-01")),
        "end_time": start + pd.Timedelta(given.get("seconds", 2.0), "s"),
        f"metrics.train_{name}": given.get("train", np.nan),
        "tags.mlflow.workbook.notebook": given.get("notebook", "02_train"),
        "tags.mlflow.workbook.fingerprint": given.get("fingerprint", "f"),
        "tags.mlflow.workbook.fingerprint.parts": given.get("code"),
        "tags.mlflow.workbook.sweep.trial": given.get("trial"),
        "tags.mlflow.workbook.sweep.point": given.get("point"),
        "tags.mlflow.parentRunId": given.get("sweep"),
    }
    if score is not None:
        row |= {f"tags.{scored.TAG}": score.as_tag(), f"metrics.validation_{name}": score.score}
    return row


__all__ = ["FOLDS", "HOLD_OUT", "measured", "question", "table"]
