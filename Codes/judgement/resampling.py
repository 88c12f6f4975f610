"""The deciding metric on redrawn rows: the same draws for every model that is measured on these rows.

Rows of one block (a group, a day) are drawn together, since they go well or ill together. A draw is how often each row
was drawn; the metrics are taken from these weights, since sorting the rows anew for each draw took most of the time.
scipy.stats.bootstrap keeps its draws to itself, and draws single rows: models of two runs, trained on different days,
could not be compared draw by draw.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from Codes.ground.errors import WorkbookError
from Codes.modeling import evaluation
from Codes.problems.problem import Problem

DRAWS = 200
Measure = Callable[[np.ndarray], float]  # of how often each row is drawn


def weights(blocks: np.ndarray, draws: int = DRAWS) -> np.ndarray:
    """How often each row was drawn (draws × rows), as many of the different `blocks` (one value a row) as there are."""
    number, names = pd.factorize(blocks)
    random, count = np.random.default_rng(0), len(names)
    # NumPy's multinomial takes five times as long
    drawn = [np.bincount(random.integers(0, count, count), minlength=count) for _ in range(draws)]
    return np.stack(drawn)[:, number]


def replicates(
    problem: Problem, table: pd.DataFrame, labels: list | None, drawn: np.ndarray, metric: str = ""
) -> np.ndarray:
    """The `metric` (by default the deciding one) of a `table` of predictions (evaluation.predictions), a value a draw.

    Args:
        labels: the model's classes in its order; None of a regression.
        drawn: see `weights`. A draw on which the metric cannot be taken (one class only) is NaN.
    """
    measure = _measure(problem, table, labels, metric or problem.metric.name)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.array([measure(each) for each in drawn], dtype=float)


def _measure(problem: Problem, table: pd.DataFrame, labels: list | None, metric: str) -> Measure:
    """The function that gives the `metric` of the rows of `table` by how often each is drawn."""
    if metric in ("rmse", "mae", "r2"):
        return _of_amounts(table, metric)
    shown = table.filter(regex="^(probability|score) of ")
    scores, exact = shown.to_numpy(), any(
        name.startswith("probability of ") for name in shown.columns
    )
    if labels is None:
        return _by_repetition(problem, table, labels, metric)
    if metric in evaluation.RANKING and scores.size:
        return _of_ranks(problem, table, labels, scores, metric)
    if metric in ("log_loss", "brier") and exact:
        return _of_probabilities(table, labels, scores, metric)
    if metric in ("accuracy", "balanced_accuracy", "f1", "cost"):
        return _of_labels(problem, table, labels, metric)
    return _by_repetition(problem, table, labels, metric)


def _by_repetition(
    problem: Problem, table: pd.DataFrame, labels: list | None, metric: str
) -> Measure:
    """The metric of the rows themselves, each as often as it is drawn: for those that nothing quicker is known for."""

    def plainly(drawn: np.ndarray) -> float:
        rows = table.iloc[np.repeat(np.arange(len(table)), drawn)]
        try:
            return evaluation.measure(problem, rows, labels, only=metric).get(metric, np.nan)
        except WorkbookError:  # an own metric that cannot be taken of these rows
            return np.nan

    return plainly


def _of_amounts(table: pd.DataFrame, metric: str) -> Measure:
    actual = table.actual.to_numpy(float)
    wrong = table.predicted.to_numpy(float) - actual
    if metric == "mae":
        return lambda w: w @ np.abs(wrong) / w.sum()
    squared = wrong**2
    if metric == "rmse":
        return lambda w: np.sqrt(w @ squared / w.sum())

    def r2(w: np.ndarray) -> float:
        centre = w @ actual / w.sum()
        return 1 - (w @ squared) / (w @ (actual - centre) ** 2)

    return r2


def _of_probabilities(
    table: pd.DataFrame, labels: list, scores: np.ndarray, metric: str
) -> Measure:
    hit = np.column_stack([np.asarray(table.actual == label) for label in labels]).astype(float)
    if metric == "log_loss":
        loss = -np.log(np.clip((scores * hit).sum(axis=1), 1e-15, 1))
    else:
        loss = ((scores - hit) ** 2).sum(axis=1) / 2
    return lambda w: w @ loss / w.sum()


def _of_labels(problem: Problem, table: pd.DataFrame, labels: list, metric: str) -> Measure:
    """From the confusion matrix (actual by predicted)."""
    codes, size = {label: i for i, label in enumerate(labels)}, len(labels)
    cell = table.actual.map(codes).to_numpy() * size + table.predicted.map(codes).to_numpy()
    one = labels.index(evaluation.positive(problem, labels)) if size == 2 else None
    costs = problem.costs if metric == "cost" else None

    def measure(w: np.ndarray) -> float:
        matrix = np.bincount(cell, w, size * size).reshape(size, size)
        actual, predicted, right = matrix.sum(1), matrix.sum(0), matrix.diagonal()
        if metric == "accuracy":
            return right.sum() / matrix.sum()
        if costs is not None and one is not None:
            missed, alarms = matrix[one, 1 - one], matrix[1 - one, one]
            return (costs.missed * missed + costs.false_alarm * alarms) / matrix.sum()
        if metric == "balanced_accuracy":
            return (right[actual > 0] / actual[actual > 0]).mean()
        both = actual + predicted
        each = np.divide(2 * right, both, out=np.zeros(size), where=both > 0)
        return each[one] if one is not None else each[both > 0].mean()

    return measure


def _of_ranks(
    problem: Problem, table: pd.DataFrame, labels: list, scores: np.ndarray, metric: str
) -> Measure:
    """From the rows of a class and the others at each score, the mean over one class against the rest."""
    chosen = (
        [labels.index(evaluation.positive(problem, labels))]
        if len(labels) == 2
        else range(len(labels))
    )
    ranked = [_Ranked(scores[:, i], np.asarray(table.actual == labels[i])) for i in chosen]
    area = _roc_auc if metric == "roc_auc" else _average_precision

    def measure(w: np.ndarray) -> float:
        counts = [each.counts(w) for each in ranked]
        values = [area(hits, others) for hits, others in counts if hits.any()]
        if not values or not any(others.any() for _, others in counts):
            return np.nan
        return float(np.mean(values))

    return measure


class _Ranked:
    """The rows by their score, the highest first: sorted once for all draws."""

    def __init__(self, scores: np.ndarray, hit: np.ndarray) -> None:
        self.order = np.argsort(-scores, kind="stable")
        ordered = scores[self.order]
        self.hit = hit[self.order].astype(float)
        # where another score begins
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])

    def counts(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many rows of the class, and how many others, are drawn at each score."""
        drawn = w[self.order].astype(float)
        hits = drawn * self.hit
        others = drawn - hits
        if len(self.starts) == len(drawn):
            return hits, others
        return np.add.reduceat(hits, self.starts), np.add.reduceat(others, self.starts)


def _roc_auc(hits: np.ndarray, others: np.ndarray) -> float:
    """The area under the ROC curve from the counts at each score, the highest score first."""
    before = hits.cumsum() - hits / 2  # an equal score counts half
    return before @ others / (hits.sum() * others.sum())


def _average_precision(hits: np.ndarray, others: np.ndarray) -> float:
    """Precision, weighted by the gain in recall, from the counts at each score, the highest score first."""
    total = hits.cumsum()
    precision = np.divide(total, total + others.cumsum(), out=np.zeros(len(hits)), where=total > 0)
    return hits @ precision / hits.sum()
