"""How far a window of rows lies from others, a number a column: which share of the rows has moved.

Numbers by the distance of Kolmogorov and Smirnov, categories by total variation with the rare ones taken together;
the share of gaps, of categories that the reference never had, and of the one bin of numbers that holds most (of a
sensor that is stuck: all), on their own. All are shares of rows, from 0
(the same) to 1 (nothing in common), so that one least effect serves all columns.

A column is cut into bins once, by the reference; from then on a window is its counts by bin, which are added and
subtracted as windows are put together.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

CUTS = 200  # the most values at which two distributions of numbers are compared
CATEGORIES = 60  # of a column at most; the others are taken together
RARE = (
    5  # rows of a category that a window has to be expected to hold, else it is taken with others
)
MOVED, GAPS, NEW, STUCK = "moved", "gaps", "new categories", "one value"
Counts = list[np.ndarray]  # a column each: windows × bins, the last two never seen and missing


class Name(NamedTuple):
    """What an effect is of: a column, and what has happened to it (MOVED, GAPS, NEW or STUCK)."""

    column: str
    what: str

    def __str__(self) -> str:
        return self.column if self.what == MOVED else f"{self.column} ({self.what})"


@dataclass(frozen=True)
class _Bins:
    """How one column is cut: at the numbers `cuts`, or by the codes of the categories `known`."""

    column: str
    cuts: np.ndarray | None = None
    known: dict[Hashable, int] = field(default_factory=dict)
    count: int = 0  # of bins of values

    def codes(self, frame: pd.DataFrame) -> np.ndarray:
        """The bin of each row: a value's, then one for what was never seen, then one for gaps."""
        if self.column not in frame:
            return np.full(len(frame), self.count + 1, np.int16)
        values = frame[self.column]
        if self.cuts is not None:
            numbers = as_numbers(values)
            found = np.searchsorted(self.cuts, numbers, side="left")
            return np.where(np.isnan(numbers), self.count + 1, found).astype(np.int16)
        codes, names = pd.factorize(values.astype(object), use_na_sentinel=True)
        places = [self.known.get(name, self.count) for name in as_names(names)]
        return np.array([*places, self.count + 1], np.int16)[codes]  # a gap's code is -1: the last


def as_numbers(values: pd.Series) -> np.ndarray:
    """`values` as floats, NaN where one is missing, not finite or no number."""
    if pd.api.types.is_datetime64_any_dtype(values):
        moments = values.dt.tz_localize(None) if values.dt.tz is not None else values
        return moments.astype("datetime64[us]").to_numpy().astype(float) * np.where(
            values.isna(), np.nan, 1
        )
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(float, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def as_names(values: Sequence[Hashable] | np.ndarray | pd.Index) -> list[Hashable]:
    """Categories as they compare: 1, 1.0 and True are one, text is text."""
    return [
        float(v) if isinstance(v, (bool, int, float, np.number, np.bool_)) else str(v)
        for v in values
    ]


class Bins:
    """The columns of a reference, cut.

    Args:
        frame: rows of the reference.
        words: the columns that hold categories; the others hold numbers or times.
        rows: that a window usually has, by which rare categories are known.
    """

    def __init__(self, frame: pd.DataFrame, words: set[str], rows: int) -> None:
        self.columns = list(frame.columns)
        self.bins = [
            _by_name(frame[name], rows) if name in words else _by_number(frame[name])
            for name in frame
        ]
        self.names = [Name(each.column, what) for each in self.bins for what in (MOVED, GAPS)]
        self.names += [Name(b.column, NEW if b.cuts is None else STUCK) for b in self.bins]

    def codes(self, frame: pd.DataFrame) -> np.ndarray:
        """The bin of each value of `frame` (rows × columns); of a column that is not there: as of gaps."""
        found = [each.codes(frame) for each in self.bins]
        return np.column_stack(found) if found else np.empty((len(frame), 0), np.int16)

    def counts(self, codes: np.ndarray, window: np.ndarray, windows: int) -> Counts:
        """How many rows of each of so many `windows` are in each bin; `window` is each row's (negative: of none)."""
        kept = window >= 0
        return [
            np.bincount(
                window[kept] * (each.count + 2) + codes[kept, number],
                minlength=windows * (each.count + 2),
            ).reshape(windows, each.count + 2)
            for number, each in enumerate(self.bins)
        ]

    def effects(self, own: Counts, rest: Counts) -> np.ndarray:
        """How far each window, whose counts are `own`, lies from the `rest` of the same line: windows × names."""
        moved, alone = [], []
        for each, mine, others in zip(self.bins, own, rest):
            mine, others = (c / np.maximum(c.sum(1, keepdims=True), 1) for c in (mine, others))
            moved += [_distance(each, mine, others), np.abs(mine[:, -1] - others[:, -1])]
            # a sensor that is stuck may be so within what the weather does
            most = np.maximum(mine[:, :-2].max(1) - others[:, :-2].max(1), 0.0)
            alone.append(mine[:, -2] if each.cuts is None else most)
        return np.column_stack([*moved, *alone]) if moved else np.zeros((0, 0))


def _by_number(values: pd.Series) -> _Bins:
    numbers = as_numbers(values)
    numbers = numbers[~np.isnan(numbers)]
    cuts = np.unique(numbers)
    if len(cuts) > CUTS:
        cuts = np.unique(np.quantile(numbers, np.linspace(0, 1, CUTS + 1)[1:-1]))
    return _Bins(str(values.name), cuts, count=len(cuts) + 1)


def _by_name(values: pd.Series, rows: int) -> _Bins:
    """The frequent categories a bin each, the others of the reference one together."""
    counts = values.astype(object).value_counts()
    frequent = counts * rows >= RARE * max(len(values), 1)
    kept = as_names(counts.index[frequent][:CATEGORIES])
    known = dict.fromkeys(as_names(counts.index), len(kept)) | {n: i for i, n in enumerate(kept)}
    return _Bins(str(values.name), None, known, len(kept) + 1)


def _distance(each: _Bins, mine: np.ndarray, others: np.ndarray) -> np.ndarray:
    """KS distance of numbers, total variation of categories, among the rows that have a known value."""
    mine, others = (
        c[:, :-2]
        / np.where(c[:, :-2].sum(1, keepdims=True) > 0, c[:, :-2].sum(1, keepdims=True), 1)
        for c in (mine, others)
    )
    nothing = (mine.sum(1) == 0) | (others.sum(1) == 0)  # all gaps: the share of gaps tells it
    if each.cuts is None:
        apart = np.abs(mine - others).sum(1) / 2
    else:
        apart = np.abs(mine.cumsum(1) - others.cumsum(1)).max(1)
    return np.where(nothing, 0.0, apart)
