"""A metric of your own: the function that a problem's file names, and that is tried before anything trains."""

import inspect
import numbers
from collections.abc import Callable

import numpy as np
import pandas as pd

from Codes.ground import dotted
from Codes.ground.errors import WorkbookError, first_line
from Codes.problems.problem import Problem

TRIED = 200  # rows of the trial


def measure(problem: Problem, table: pd.DataFrame, classes: list | None) -> dict[str, float]:
    """{its name: value} of a `table` of predictions (see evaluation.predictions); empty where it cannot be taken.

    So it is where the function gives NaN, or needs probabilities that the model does not give.

    Args:
        classes: the model's labels, in its order; None of a regression.
    """
    shares = table.filter(regex="^probability of ").set_axis(range(len(table)))
    shares = shares.set_axis(classes, axis=1) if classes and shares.size else shares
    return _measured(problem, table.actual.to_numpy(), table.predicted.to_numpy(), shares)


def _measured(
    problem: Problem, actual: np.ndarray, predicted: np.ndarray, shares: pd.DataFrame
) -> dict[str, float]:
    arguments: list[np.ndarray | pd.DataFrame] = [actual, predicted]
    if takes_probabilities(problem):
        if shares.empty:
            return {}
        arguments.append(shares)
    try:
        value = load(problem)(*arguments)
    except Exception as error:  # pylint: disable=broad-exception-caught  # it may raise anything
        raise _refusal(problem, f"it raises {first_line(error, named=True)}") from error
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, np.number)):
        raise _refusal(problem, f"it gives {str(value)[:60]!r}, and one number is needed")
    if np.isinf(value):
        raise _refusal(problem, "it gives an infinite number")
    return {} if np.isnan(value) else {problem.metric.name: float(value)}


def load(problem: Problem) -> Callable[..., float]:
    """The function that the file of `problem` names, or a WorkbookError that says which part of its path failed."""
    function = dotted.load(problem.metric.function or "", f"{problem.name}: metric")
    if not callable(function):
        raise _refusal(problem, "it is no function")
    return function


def takes_probabilities(problem: Problem) -> bool:
    """Whether the function takes probabilities: it has a third argument that must be given, or is called so."""
    try:
        known = inspect.signature(load(problem)).parameters.values()
    except (TypeError, ValueError):  # of some built-in functions
        return False
    third = [p for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][2:3]
    return any(p.default is p.empty or p.name == "probabilities" for p in third)


def _refusal(problem: Problem, why: str) -> WorkbookError:
    return WorkbookError(f"{problem.name}: metric '{problem.metric.function}': {why}.")


def rehearse(problem: Problem, actual: pd.Series) -> None:
    """Refuse an own metric that cannot be taken of predictions of the targets `actual`: it is tried on a few."""
    if problem.metric.function is None:
        return
    if problem.task == "regression" and takes_probabilities(problem):
        raise _refusal(problem, "it takes a third argument, and a regression has no probabilities")
    values = np.asarray(pd.unique(actual)[:TRIED])
    rows = np.concatenate([values, actual.to_numpy()[: TRIED - len(values)]])
    predicted, shares = np.roll(rows, 1), pd.DataFrame()
    if problem.task == "classification":
        hits = {label: (predicted == label) * 0.5 for label in sorted(values)}
        shares = pd.DataFrame(hits) + 0.5 / len(values)
    if not _measured(problem, rows, predicted, shares):
        raise _refusal(problem, "it gives no number")
