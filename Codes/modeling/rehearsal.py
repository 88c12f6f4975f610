"""A rehearsal on a few rows: whether an estimator learns, answers and can be saved is known before it trains."""

import contextlib
import io
import warnings
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from Codes.ground.errors import WorkbookError
from Codes.ground.labels import told
from Codes.modeling import evaluation, models
from Codes.problems import data, own_metric
from Codes.problems.problem import Problem
from Codes.saved_models import trust
from Codes.saved_models.skops_alone import io as skops

# Training rows, tried one after the other where fewer do not suffice; 0: all, which is the training itself.
ROWS = (200, 2000, 0)
CLASSES = 20  # the most frequent ones, of which a rehearsal on some of the rows takes rows
FOLDS = 10  # rows of each of them at least, where there are so many: estimators that split them need some
# what makes an estimator large, and slow to try
SIZES = {"n_estimators": 5, "iterations": 5, "max_iter": 20, "epochs": 2}
THREADS = (
    "n_jobs",
    "thread_count",
)  # of which few rows need one: on a busy machine more wait for each other
NEEDS = {
    "probabilities": ("log_loss", "brier"),
    "probabilities or scores": tuple(evaluation.RANKING),
}


def rehearse(
    problem: Problem,
    pipeline: Pipeline,
    train: pd.DataFrame,
    test: pd.DataFrame,
    trusted: Collection[str] = (),
) -> Pipeline:
    """`pipeline`, or what models.adapted makes of it where its estimator needs that, to be fitted on the rows `train`.

    It learns from a few of these rows, answers some of `test`, is saved and read again. What a short name stands for
    is known to go, and costs nothing here.

    Args:
        train, test: frames with the target, as data.split gives them.
        trusted: full names of types for which the user vouches.

    Raises:
        WorkbookError: one line that says why it could not go the whole way.
    """
    if _is_known(pipeline[-1]):
        return pipeline
    for size in ROWS:
        failed: list[Exception] = []
        rows = _few(data.target(train, problem), size, problem.task == "classification")
        for each in (pipeline, models.adapted(pipeline)):
            try:
                _try(problem, each, train.iloc[rows], test.head(size or len(test)), trusted)
                return each
            except WorkbookError:
                raise
            except Exception as error:  # pylint: disable=W0718  # of an estimator, many kinds
                failed.append(error)
        if len(rows) == len(train):
            break
    raise WorkbookError(_why(pipeline, problem, failed)) from failed[0]


def _why(pipeline: Pipeline, problem: Problem, failed: Sequence[Exception]) -> str:
    """In one line, why the estimator does not go: what `failed`, as it is and inside what models.adapted makes."""
    plain, inside = map(told, failed)
    how = {"classification": "its labels as 0, 1, 2", "regression": "its answers flat"}[
        problem.task
    ]
    more = "" if inside == plain else f"; with {how}: {inside}"
    return (
        f"{models.name_of(pipeline)} cannot learn from this table and answer: {plain}{more}. Choose another estimator, "
        "or other hyperparameters."
    )


def _is_known(estimator: Any) -> bool:
    path = f"{type(estimator).__module__}.{type(estimator).__name__}"
    shipped = [path for by_task in models.SHORT.values() for path, _ in by_task.values()]
    return path in {f"{c.__module__}.{c.__name__}" for c in map(models.load_class, shipped)}


def _few(y: pd.Series, size: int, classes: bool) -> np.ndarray:
    """The positions of `size` rows with the targets `y` (0: of all), in order; of `classes` some of each."""
    if not 0 < size < len(y):
        return np.arange(len(y))
    order = pd.Series(y.to_numpy()).sample(frac=1, random_state=0)
    if classes:
        counts = order.value_counts()
        order = order[order.isin(counts.index[:CLASSES])]
        number = order.groupby(order, observed=True).cumcount()
        order = order.iloc[np.argsort((number >= FOLDS).to_numpy(), kind="stable")]
    return np.sort(order.index[:size])


def _try(
    problem: Problem,
    pipeline: Pipeline,
    train: pd.DataFrame,
    test: pd.DataFrame,
    trusted: Collection[str],
) -> None:
    """Let a small copy of `pipeline` learn, answer and be saved; any exception says that it does not."""
    # the copy's own words are of no use: the real one will say them again
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), threadpool_limits(1):
        warnings.simplefilter("ignore")
        y = data.target(train, problem)
        small = _small(pipeline).fit(data.features(train, problem), y)
        X = data.features(test, problem)
        answers = _answers(small, X, y.to_numpy())
        _has_what_the_metric_needs(problem, small)
        content, types = models.saved(small, trusted)
        again = np.asarray(skops.loads(content, trusted=types).predict(X))
    if not np.array_equal(again, answers):
        name = models.name_of(pipeline)
        raise WorkbookError(f"{name} answers otherwise once it has been saved and loaded by skops.")


def _small(pipeline: Pipeline) -> Pipeline:
    """An unfitted copy of `pipeline`, its estimator made small by SIZES."""
    small = clone(pipeline)
    settings, changed = models.settings(small[-1]), {}
    for name, value in settings.items():
        most = SIZES.get(name.split("__")[-1])
        if most and isinstance(value, int) and value > most:
            changed[name] = most
        elif name.split("__")[-1] in THREADS:
            changed[name] = 1
    if "iterations" in settings and all(
        settings[name] is None for name in SIZES if name in settings
    ):
        changed["iterations"] = SIZES[
            "iterations"
        ]  # CatBoost, which takes one of its names for it, has 1000 else
    small[-1].set_params(**changed)
    return small


def _answers(fitted: Pipeline, X: pd.DataFrame, y: np.ndarray) -> np.ndarray:
    """The predictions for `X`; ValueError where they are not one a row, of the kind of the targets `y`."""
    answers = np.asarray(fitted.predict(X))
    if answers.shape != (len(X),):
        raise ValueError(f"predict answers {len(X)} rows by an array of the shape {answers.shape}")
    known = trust.classes(fitted)
    if known is None:
        if not np.isfinite(answers.astype(float)).all():
            raise ValueError("predict answers some rows by no number")
        return answers
    kinds = {values.dtype.kind.replace("U", "O") for values in (answers, y)}
    if not {*answers.tolist()} <= {*y.tolist()} or len(kinds) > 1:
        raise ValueError("predict answers by other labels than those that it learned")
    if hasattr(fitted, "predict_proba"):
        shape = np.shape(fitted.predict_proba(X))
        if shape != (len(X), len(known)):
            raise ValueError(f"predict_proba gives an array of the shape {shape}")
    return answers


def _has_what_the_metric_needs(problem: Problem, fitted: Pipeline) -> None:
    """Refuse a classifier that does not give what the problem's metric is taken from."""
    if (problem.costs or problem.threshold) and not hasattr(fitted, "predict_proba"):
        raise WorkbookError(
            f"{models.name_of(fitted)} gives no probabilities, which the costs or the threshold of {problem.name} "
            "need: choose another estimator."
        )
    name = problem.metric.name
    if problem.metric.function and not hasattr(fitted, "predict_proba"):
        if own_metric.takes_probabilities(problem):
            raise WorkbookError(
                f"{models.name_of(fitted)} gives no probabilities, which {problem.metric.function}, the metric of "
                f"{problem.name}, takes: choose another estimator."
            )
    gives = [hasattr(fitted, method) for method in ("predict_proba", "decision_function")]
    for (words, names), enough in zip(NEEDS.items(), (gives[0], any(gives))):
        if problem.task == "classification" and name in names and not enough:
            rest = [
                n for n in evaluation.CLASSIFICATION if n not in (*NEEDS["probabilities"], *names)
            ]
            raise WorkbookError(
                f"{models.name_of(fitted)} gives no {words}, from which {name}, the metric of {problem.name}, is "
                f"taken: choose another estimator, or one of {', '.join(rest)} as the metric."
            )
