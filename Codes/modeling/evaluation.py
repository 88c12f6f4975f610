"""Evaluation: predictions as one table, their metrics, and what the model relies on."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from Codes.ground.errors import WorkbookError
from Codes.modeling import models
from Codes.problems import own_metric
from Codes.problems.problem import METRICS, Costs, Problem
from Codes.saved_models import trust

CLASSIFICATION, REGRESSION = METRICS["classification"], METRICS["regression"]
RANKING = {
    "roc_auc": metrics.roc_auc_score,
    "average_precision": metrics.average_precision_score,
}
FROM_SCORES = {*RANKING, "log_loss", "brier"}  # these need no predicted labels
# Bounds that keep the permutations at a second or two, whatever the table's size.
IMPORTANCE_ROWS = 2000
IMPORTANCE_COLUMNS = 100
IMPORTANCE_SECONDS = 60.0
CELLS = 200_000  # rows times classes that a measure is taken over: it costs a millisecond a class
SHUFFLES = 3
RARE = 20  # rows of each class at least, where there are so many: without any, no metric could be taken


def predictions(
    pipeline: Any, X: pd.DataFrame, y: pd.Series | np.ndarray, labels: bool = True
) -> pd.DataFrame:
    """A row for each row of `X`: `actual`, `predicted` and, of a classifier, a column for each class.

    A class's column is called "probability of <label>", or "score of <label>" where the estimator
    ranks without giving probabilities; there is none where it does neither. Without `labels`,
    `predicted` is left out, which saves half of the time.
    """
    table = pd.DataFrame({"actual": np.asarray(y)}, index=X.index)
    known = trust.classes(pipeline)
    model, given = _prepared(pipeline, X)
    if labels:
        table["predicted"] = model.predict(given)
    for word, method in (("probability", "predict_proba"), ("score", "decision_function")):
        if known is not None and hasattr(model, method):
            values = getattr(model, method)(given)
            values = np.column_stack([-values, values]) if values.ndim == 1 else values
            if values.shape[1] != len(known):  # scores of pairs of classes
                continue
            names = [f"{word} of {label}" for label in known]
            return table.join(pd.DataFrame(values, columns=names, index=X.index))
    return table


def _prepared(pipeline: Any, X: pd.DataFrame) -> tuple[Any, Any]:
    """(the last step of a `pipeline`, what the others make of `X`): both of its answers need that only once."""
    if isinstance(pipeline, Pipeline) and len(pipeline) > 1:
        return pipeline[-1], pipeline[:-1].transform(X)
    return pipeline, X


def positive(problem: Problem, labels: Iterable[Any]) -> Any:
    """The label that a binary `problem` looks for: as its file says, else the last one in order."""
    return sorted(labels)[-1] if problem.positive is None else problem.positive


def score(problem: Problem, pipeline: Any, X: pd.DataFrame, y: pd.Series) -> dict[str, float]:
    """The metrics of `pipeline` on the rows `X` with the targets `y`, as a dict."""
    return measure(problem, predictions(pipeline, X, y), trust.classes(pipeline))


def measure(
    problem: Problem, table: pd.DataFrame, classes: list | None = None, only: str | None = None
) -> dict[str, float]:
    """The metrics of a `table` of predictions, as a dict without those that it does not allow.

    Args:
        classes: the model's labels, in its order; None for regression.
        only: the name of the one metric that is wanted; None for all.
    """
    kinds: list[tuple[tuple[str, ...], Callable[[], dict[str, float]]]] = []
    if problem.task == "regression":
        kinds.append((tuple(REGRESSION), lambda: _regression(table.actual, table.predicted)))
    else:
        labels, costs = _checked_classes(problem, table.actual, classes), problem.costs
        scores = table.filter(regex="^(probability|score) of ")
        exact = any(name.startswith("probability of ") for name in scores.columns)
        kinds += [
            (
                ("roc_auc", "average_precision"),
                lambda: _ranking(problem, table.actual, scores, labels, only),
            ),
            (
                ("log_loss", "brier"),
                lambda: _probabilities(table.actual, scores, labels) if exact else {},
            ),
            (("accuracy", "balanced_accuracy", "f1"), lambda: _labels(problem, table, labels)),
        ]
        if costs is not None:
            kinds.append((("cost",), lambda: {"cost": _cost(problem, costs, table, labels)}))
    if problem.metric.function is not None:
        kinds.append(((problem.metric.name,), lambda: own_metric.measure(problem, table, classes)))
    values: dict[str, float] = {}
    for names, compute in kinds:
        if only is None or only in names:
            values |= compute()
    return values


def _checked_classes(problem: Problem, actual: pd.Series, classes: list | None) -> list:
    """The model's `classes`, unless there are rows of a class that training never saw: no metric could count them."""
    if classes is None:
        raise WorkbookError(
            f"{problem.name}: the model has no classes, and the task is classification: train another."
        )
    strangers = set(actual) - set(classes)
    if strangers:
        raise WorkbookError(
            f"the rows to score hold the classes {sorted(map(str, strangers))}, which training "
            f"never saw: split otherwise, or leave those rows out."
        )
    return classes


def check_metric(problem: Problem, known: Iterable[str]) -> None:
    """Refuse a `problem` whose deciding metric is not among the `known` ones, those that were measured."""
    name = problem.metric.name
    if name not in known:
        near = models.nearest(name, known)
        raise WorkbookError(
            f"{problem.name}: metric '{name}' is not measured{near}; there are {', '.join(known)}."
        )


def _most_rows(count: int, most: int, classes: list | None) -> int:
    """How many of `count` rows to take: `most`, and fewer of a great many `classes` (None of a regression)."""
    return min(count, most, CELLS // len(classes or [0]))


def importance(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    problem: Problem,
    pipeline: Any,
    X: pd.DataFrame,
    y: pd.Series,
    seed: int = 0,
    seconds: float = IMPORTANCE_SECONDS,
) -> pd.DataFrame:  # pylint: disable=R0913,R0917
    """How much worse the deciding metric gets when a column is shuffled: mean and std, largest first.

    The cost is bounded: IMPORTANCE_COLUMNS are shuffled, those that go most with the answers, until `seconds` are
    over. `attrs["left_out"]` of the table is the number of the others. It is empty where the metric cannot be taken.
    """
    random, end = np.random.default_rng(seed), time.monotonic() + seconds
    rows = _some_of_each(y, _most_rows(len(X), IMPORTANCE_ROWS, trust.classes(pipeline)), random)
    X, targets = X.iloc[rows], np.asarray(y)[rows]
    # One thread: OpenMP's would spend their time waiting for each other, by spinning; on a busy
    # machine that made 3 s into 100 s.
    with threadpool_limits(1):
        whole, worse = _losses(problem, pipeline, X, targets)[0], {}
        for name in _foremost(pipeline, X, IMPORTANCE_COLUMNS) if np.isfinite(whole) else []:
            worse[name] = _losses(problem, pipeline, _shuffled(X, name, random), targets)
            if time.monotonic() > end:
                break
    table = pd.DataFrame(worse, dtype=float).T - whole
    table = pd.DataFrame({"mean": table.mean(axis=1), "std": table.std(axis=1, ddof=0)})
    table.attrs["left_out"] = X.shape[1] - len(table)
    return table.rename_axis("feature").sort_values("mean", ascending=False)


def _some_of_each(y: pd.Series | np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """The positions of `size` rows by chance, some of each class of the targets `y` among them."""
    order = pd.Series(np.asarray(y)).iloc[random.permutation(len(y))]
    if order.dtype.kind == "f" or order.nunique() * RARE > size:
        return order.index[:size].to_numpy()
    number = order.groupby(order).cumcount().to_numpy()
    return order.index[np.argsort(number >= RARE, kind="stable")[:size]].to_numpy()


def _foremost(pipeline: Any, X: pd.DataFrame, most: int) -> list[str]:
    """The `most` columns of `X` that go most with what `pipeline` answers, by the correlation of ranks; all if few."""
    if X.shape[1] <= most:
        return list(X.columns)
    known = trust.classes(pipeline)
    answers = pd.Series(pipeline.predict(X), index=X.index)
    answers = answers if known is None else answers.map({c: i for i, c in enumerate(known)})
    found = {}
    for name, values in X.items():
        if not pd.api.types.is_numeric_dtype(
            values
        ):  # a category stands for the mean answer of its rows
            values = answers.groupby(values.astype(object), dropna=False).transform("mean")
        found[name] = abs(values.rank().corr(answers.rank()))
    return list(pd.Series(found).fillna(0).sort_values(ascending=False, kind="stable").index[:most])


def _shuffled(X: pd.DataFrame, name: str, random: np.random.Generator) -> pd.DataFrame:
    """`X` SHUFFLES times, one under the other, in each the column `name` in an order of its own."""
    order = np.concatenate([random.permutation(len(X)) for _ in range(SHUFFLES)])
    stacked = pd.concat([X] * SHUFFLES, ignore_index=True)
    return stacked.assign(**{name: X[name].iloc[order].to_numpy()}).astype({name: X[name].dtype})


def _losses(problem: Problem, pipeline: Any, X: pd.DataFrame, y: np.ndarray) -> list[float]:
    """The deciding metric, turned so that less is better, of each stretch of `X` as long as `y`."""
    name, times = problem.metric.name, len(X) // len(y)
    table = predictions(pipeline, X, np.tile(y, times), labels=name not in FROM_SCORES)
    parts = [table.iloc[i * len(y) : (i + 1) * len(y)] for i in range(times)]
    classes = trust.classes(pipeline)
    values = [measure(problem, part, classes, only=name).get(name, np.nan) for part in parts]
    return [-value if problem.metric.more_is_better else value for value in values]


def _labels(problem: Problem, table: pd.DataFrame, classes: list) -> dict[str, float]:
    """The metrics of predicted labels."""
    binary = (
        {"pos_label": positive(problem, classes)} if len(classes) == 2 else {"average": "macro"}
    )
    return {
        "accuracy": float(metrics.accuracy_score(table.actual, table.predicted)),
        "balanced_accuracy": float(
            metrics.recall_score(table.actual, table.predicted, average="macro", zero_division=0)
        ),
        "f1": float(metrics.f1_score(table.actual, table.predicted, zero_division=0, **binary)),
    }


def _cost(problem: Problem, costs: Costs, table: pd.DataFrame, classes: list) -> float:
    """What errors cost a row, by the problem's file."""
    sought = positive(problem, classes)
    missed = ((table.actual == sought) & (table.predicted != sought)).mean()
    alarms = ((table.actual != sought) & (table.predicted == sought)).mean()
    return float(costs.missed * missed + costs.false_alarm * alarms)


def _ranking(
    problem: Problem, actual: pd.Series, scores: pd.DataFrame, classes: list, only: str | None
) -> dict[str, float]:
    """The metrics of how rows are ranked; of several classes, the mean over one against the rest."""
    labels, values = list(classes), scores.to_numpy()
    if not values.size or actual.nunique() < 2:
        return {}
    chosen = [labels.index(positive(problem, labels))] if len(labels) == 2 else range(len(labels))
    seen = [
        (np.asarray(actual == labels[i]), values[:, i]) for i in chosen if labels[i] in set(actual)
    ]
    return {
        name: float(np.mean([function(*one) for one in seen]))
        for name, function in RANKING.items()
        if only in (None, name)
    }


def _probabilities(actual: pd.Series, scores: pd.DataFrame, classes: list) -> dict[str, float]:
    """The metrics of probabilities; the Brier score is the squared error summed over the classes, halved.

    Halved, it is the usual one where there are two classes.
    """
    hit = np.column_stack([np.asarray(actual == label) for label in classes]).astype(float)
    shares = scores.to_numpy()
    likelihood = np.clip((shares * hit).sum(axis=1), 1e-15, 1)
    return {
        "log_loss": float(-np.log(likelihood).mean()),
        "brier": float(((shares - hit) ** 2).sum(axis=1).mean() / 2),
    }


def _regression(actual: pd.Series, predicted: pd.Series) -> dict[str, float]:
    """The metrics of predicted amounts, in the target's unit (r2: none)."""
    return {
        "rmse": float(metrics.root_mean_squared_error(actual, predicted)),
        "mae": float(metrics.mean_absolute_error(actual, predicted)),
        "median_ae": float(metrics.median_absolute_error(actual, predicted)),
        "r2": float(metrics.r2_score(actual, predicted)),
    }
