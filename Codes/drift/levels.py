"""Where the numbers of a window lie on the whole, by their ranks: each column by itself, and beside the others.

A distance between distributions has to find its way out of the luck of the rows; a mean of ranks has less of it, so
that a small shift shows. Beside the others it shows where weeks differ by themselves, too: temperature moves by the
week, but not against dew point and humidity. Each column is held against what the other columns of the same rows let
expect (regression-adjusted variables: Hawkins, Technometrics 33, 1991), by one inverse of the correlations.

A level that is off by t standard deviations is told as the share of the rows that have moved, were they normal.
"""

from collections.abc import Collection

import numpy as np
from scipy.special import ndtr

from Codes.drift.effects import Bins, Counts, Name

LEVEL, BESIDE = "level", "level beside the others"
UNKNOWN = 0.01  # of a column's variance that the others never explain: columns may say the same
PART = 20_000  # rows at once


class Levels:
    """The columns of numbers of a reference, each bin with its rank.

    Args:
        bins: how its columns are cut.
        codes: the bins of its rows.
        apart: columns that are not looked at: what a model answers follows from the others.
    """

    def __init__(self, bins: Bins, codes: np.ndarray, apart: Collection[str] = ()) -> None:
        self.places = [
            i for i, b in enumerate(bins.bins) if b.cuts is not None and b.column not in apart
        ]
        self.ranks = [_ranks(codes[:, i], bins.bins[i].count) for i in self.places]
        columns = [bins.bins[i].column for i in self.places]
        kinds = (LEVEL, BESIDE) if len(columns) > 1 else (LEVEL,)
        self.names = [Name(column, kind) for kind in kinds for column in columns]

    def products(self, codes: np.ndarray) -> np.ndarray:
        """The sums of products of all pairs of columns, the first of which is 1, over the rows with these `codes`."""
        found = np.zeros((len(self.places) + 1,) * 2)
        for start in range(0, len(codes), PART):
            part = codes[start : start + PART]
            ranks = [table[part[:, i]] for i, table in zip(self.places, self.ranks)]
            values = np.column_stack([np.ones(len(part)), *ranks])
            found += values.T @ values
        return found

    def effects(self, own: Counts, rest: Counts, products: np.ndarray) -> np.ndarray:
        """How far the levels of each window, whose counts are `own`, lie off the `rest`'s: windows × names.

        Args:
            products: see there, of all rows together.
        """
        if not self.places:
            return np.zeros((len(own[0]) if own else 0, 0))
        spread, inverse = _explained(products)
        off = (self._means(own) - self._means(rest)) / spread
        beside = off @ inverse / np.sqrt(np.diag(inverse))
        found = np.column_stack([off, beside])[:, : len(self.names)]
        return 2 * ndtr(np.abs(found) / 2) - 1

    def _means(self, counts: Counts) -> np.ndarray:
        """The mean rank of each window in each column."""
        return np.column_stack(
            [
                counts[i] @ table / np.maximum(counts[i].sum(1), 1)
                for i, table in zip(self.places, self.ranks)
            ]
        )


def _ranks(codes: np.ndarray, count: int) -> np.ndarray:
    """The rank of each of `count` bins, with mean 0 and standard deviation 1 over the rows; 0 for what has none."""
    shares = np.bincount(codes, minlength=count + 2)[:count].astype(float)
    shares /= max(shares.sum(), 1)
    ranks = np.cumsum(shares) - shares / 2
    ranks -= shares @ ranks
    spread = np.sqrt(shares @ ranks**2)
    return np.append(ranks / spread if spread > 0 else np.zeros(count), [0.0, 0.0])


def _explained(products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the standard deviation of each column, the inverse of their correlations)."""
    means = products[0, 1:] / max(products[0, 0], 1)
    covariances = products[1:, 1:] / max(products[0, 0], 1) - np.outer(means, means)
    spread = np.sqrt(np.maximum(np.diag(covariances), 0.0))
    spread[spread < 1e-6] = 1.0
    correlations = covariances / np.outer(spread, spread)
    return spread, np.linalg.inv(correlations + UNKNOWN * np.eye(len(spread)))
