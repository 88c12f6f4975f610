"""One p-value for a window, over all columns, by what windows of the reference show against each other.

Each window, the new one among them, is measured against all others; of each column the effects' roots (some columns
have weeks far out, which would hide what others show) are studentised over the windows; of each window the largest is
taken. Where nothing has changed the windows can be exchanged, so that p = (1 + how many windows of the reference show
as much) / (1 + windows of the reference) is at most α with a chance of at most α, whatever the columns' dependence
(Westfall and Young, Resampling-Based Multiple Testing, 1993). Between two windows of the reference p is read from how
near the new one is to either (fractional order statistics: Stigler, JASA 72, 1977), so that a budget can be spent
whole; at each multiple of 1 / (1 + windows) it is exact. Going down from the largest, each time without those before,
names the columns that carry it.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from Codes.drift.effects import Name

FLOOR = 0.25  # of the least effect: what a column moves that never moved in the reference
TIE = 1e-12


@dataclass(frozen=True, eq=False)
class Drift:
    """How a window differs from the reference.

    Args:
        p: one p-value for all columns.
        columns: a row an effect, the strangest first: column, what, effect, usual (the median of the reference's
            windows), most (their largest), p (of this column, allowing for all others).
        windows: of the reference, that it was held against.
    """

    p: float
    columns: pd.DataFrame
    windows: int

    def named(self, alpha: float, least: float) -> pd.DataFrame:
        """The rows of `columns` that have moved: p at most `alpha`, and at least the effect `least`."""
        return self.columns[(self.columns.p <= alpha + 1e-9) & (self.columns.effect >= least)]

    def is_strange(self, alpha: float, least: float) -> bool:
        """Whether the window counts as one that has drifted."""
        return self.p <= alpha + 1e-9 and len(self.named(alpha, least)) > 0


def strangeness(effects: np.ndarray, least: float) -> np.ndarray:
    """The roots of the `effects` (windows × names) in standard deviations over the windows, all of them alike.

    A column that never moves has none: what a quarter of the `least` effect makes of its root is added.
    """
    roots = np.sqrt(np.maximum(effects, 0.0))
    spread = np.sqrt(roots.var(axis=0) + (FLOOR / 2) ** 2 * least)
    return (roots - roots.mean(axis=0)) / spread


def p_value(effects: np.ndarray, least: float) -> float:
    """The p-value of the last window of `effects`, the others being the reference's."""
    largest = strangeness(effects, least).max(axis=1)
    return float(_as_strange(largest[:-1, None], largest[-1:])[0])


def _as_strange(reference: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The p-value of `own` (one a name) beside the windows of the `reference` (windows × names).

    Of one between two windows it lies between theirs; of one that is as strange as another it is the larger.
    """
    count, names = reference.shape
    order = -np.sort(-reference, axis=0)
    above = (order >= own - TIE).sum(axis=0)
    nearer, farther = (
        order[np.clip(place, 0, count - 1), np.arange(names)] for place in (above - 1, above)
    )
    gap = nearer - farther
    part = np.where(gap > TIE, (nearer - own) / np.where(gap > TIE, gap, 1.0), 1.0)
    is_between = (above > 0) & (above < count) & (nearer - own > TIE)
    return (above + np.where(is_between, part, 1.0)) / (count + 1)


def p_of_each(effects: np.ndarray, least: float) -> np.ndarray:
    """The p-value of each name for the last window of `effects`, by going down from the strangest."""
    z = strangeness(effects, least)
    order = np.argsort(-z[-1], kind="stable")
    # of each window the largest among the names from a place of the order on
    largest = np.maximum.accumulate(z[:, order[::-1]], axis=1)[:, ::-1]
    ps = np.maximum.accumulate(_as_strange(largest[:-1], z[-1, order]))
    found = np.empty_like(ps)
    found[order] = ps
    return found


def of(
    effects: np.ndarray, names: list[Name], least: float, among: np.ndarray | None = None
) -> Drift:
    """The Drift of the last window of `effects` (windows × `names`); `least` is the effect that matters.

    Args:
        among: the effects of the reference's windows without the last one, which lies among the others of each in
            `effects`: what is usual is read from these.
    """
    if len(effects) < 2 or not names:
        return Drift(
            1.0, pd.DataFrame(columns=["column", "what", "effect", "usual", "most", "p"]), 0
        )
    reference = effects[:-1] if among is None else among
    table = pd.DataFrame(
        {
            "column": [name.column for name in names],
            "what": [name.what for name in names],
            "effect": effects[-1],
            "usual": np.median(reference, axis=0),
            "most": reference.max(axis=0),
            "p": p_of_each(effects, least),
            "z": strangeness(effects, least)[-1],
        }
    )
    table = table.sort_values(["p", "z"], ascending=[True, False], ignore_index=True)
    return Drift(p_value(effects, least), table.drop(columns="z"), len(reference))
