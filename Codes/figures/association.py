"""How much each column of a table alone goes with the target, and how much of that chance gives.

The target is shuffled among the rows and measured again. A column of many different texts parts any two classes whole,
whatever the target (Cabin, a ticket's number): of columns what counts is by how much they are over their own chance,
and whether the first is over what chance gives the luckiest of all (Westfall and Young, 1993).
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from Codes.figures import panels
from Codes.problems.problem import Problem

SHUFFLES = 40  # of which the luckiest is passed by chance once in 41 times
Measure = Callable[[np.ndarray], float]  # of the target in any order, a row a row


def strengths(frame: pd.DataFrame, problem: Problem, columns: Sequence[str]) -> pd.DataFrame:
    """A row for each of `columns` that says something, the first the one most over its own chance, all from 0 to 1.

    `value` is the association, `chance` what the target in a random order has on average, `real` whether the column is
    over it by more than the luckiest of all columns is in any of the shuffles.
    """
    frame = frame[frame[problem.target].notna()]
    nothing = pd.DataFrame(columns=["value", "chance", "real"])
    if problem.task == "regression" and panels.is_text(frame[problem.target]):
        return nothing
    target, of_all = _target(frame, problem)
    found = {name: _measure(frame[name], problem, target, of_all) for name in columns}
    measures = {name: each for name, each in found.items() if each is not None}
    if not measures:
        return nothing
    generator = np.random.default_rng(0)
    orders = [generator.permutation(target) for _ in range(SHUFFLES)]
    shuffled = np.array([[each(order) for order in orders] for each in measures.values()])
    value, chance = np.array([each(target) for each in measures.values()]), shuffled.mean(axis=1)
    real = value - chance > (shuffled - chance[:, None]).max()
    told = {"value": value, "chance": chance, "real": real}
    return pd.DataFrame(told, index=list(measures)).iloc[np.argsort(chance - value, kind="stable")]


def first(table: pd.DataFrame, columns: Sequence[str], most: int) -> list[str]:
    """All `columns` where they fit, else the `most` that tell most; `table`: their strengths."""
    if len(columns) <= most:
        return list(columns)
    return [*table.index, *(name for name in columns if name not in table.index)][:most]


def _target(frame: pd.DataFrame, problem: Problem) -> tuple[np.ndarray, bool]:
    """(what is held against a column, a row a row; whether one class is held against all rows).

    Of a regression the ranks of the target; of two classes whether a row is of the second, which is held against the
    other; of more whether it is of the commonest, which is held against all rows.
    """
    wanted = frame[problem.target]
    if problem.task == "regression":
        return wanted.rank().to_numpy(float), False
    groups = panels.groups(frame, problem)
    if len(groups) > 1:
        return groups[-1][1].to_numpy(bool), False
    commonest = wanted.value_counts().idxmax() if len(wanted) else None
    return (wanted == commonest).to_numpy(bool), True


def _measure(
    values: pd.Series, problem: Problem, target: np.ndarray, of_all: bool
) -> Measure | None:
    """What measures the column; None where it holds too little."""
    known = values.notna().to_numpy(bool)
    kept, wanted = values[known], target[known]
    if kept.nunique() < 2 or len(np.unique(wanted)) < 2:
        return None
    words = panels.is_words(values, problem) or panels.is_text(values)
    codes = pd.factorize(kept.astype(object) if words else kept, sort=not words)[0]
    if problem.task == "regression":
        return lambda order: (
            _ratio(codes, order[known]) if words else _correlation(codes, order[known])
        )
    return lambda order: _apart(codes, order[known], words, of_all)


def _correlation(codes: np.ndarray, wanted: np.ndarray) -> float:
    """Spearman's correlation of ranks, without its sign."""
    ranks = pd.Series(codes).rank().to_numpy()
    return abs(float(np.corrcoef(ranks, wanted)[0, 1])) if np.ptp(wanted) else 0.0


def _ratio(codes: np.ndarray, wanted: np.ndarray) -> float:
    """The correlation ratio: how much of the ranks' spread lies between the categories, as a correlation."""
    away = wanted - wanted.mean()
    sums, counts = np.bincount(codes, away), np.bincount(codes)
    whole = float((away**2).sum())
    return float(np.sqrt((sums**2 / counts).sum() / whole)) if whole else 0.0


def _apart(codes: np.ndarray, hit: np.ndarray, words: bool, of_all: bool) -> float:
    """The share of the rows that lie elsewhere: total variation of words, Kolmogorov and Smirnov's of amounts."""
    ours, every = np.bincount(codes, hit), np.bincount(codes).astype(float)
    others = every if of_all else every - ours
    if not ours.sum() or not others.sum():
        return 0.0
    away = ours / ours.sum() - others / others.sum()
    return float(np.abs(away).sum() / 2 if words else np.abs(np.cumsum(away)).max())
