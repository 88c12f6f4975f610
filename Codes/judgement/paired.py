"""Two models on the same rows: by how much one is better than the other, on the whole and in each slice.

The rows are redrawn, both models scored on the same draws (see `resampling`). The intervals of several slices hold all
at once: half as wide as the largest deviation among them, over its error, is in 95 of 100 draws (the max-t of Westfall
and Young, Resampling-Based Multiple Testing, 1993). So 22 slices of two equal models do not refuse one by luck.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from Codes.ground.labels import number
from Codes.judgement import resampling
from Codes.judgement.scored import HOLD_OUT, Estimate, Scored
from Codes.modeling import evaluation
from Codes.problems.problem import Problem

LEVEL = 0.95
Mask = slice | np.ndarray  # of rows
Group = tuple[str, str, np.ndarray]  # a slice: its column, its value, the mask of its rows
COLUMNS = ["column", "value", "rows", "candidate", "champion", "difference", "low", "high"]


class Rows:
    """The rows on which models are compared, and the draws of them, the same for all.

    Args:
        digest: of the rows, which tells what was compared on them.
    """

    def __init__(
        self, problem: Problem, frame: pd.DataFrame, blocks: np.ndarray, digest: str = ""
    ) -> None:
        self.problem, self.frame, self.digest = problem, frame, digest
        self.blocks = np.asarray(blocks)

    @cached_property
    def drawn(self) -> np.ndarray:
        """How often each row was drawn (draws × rows)."""
        return resampling.weights(self.blocks)

    def measure(self, model: "Answers", baseline: "Answers | None" = None) -> Scored:
        """The deciding metric of `model`, and of the `baseline`, over all rows and on each draw."""
        blank = np.nan, np.full(len(self.drawn), np.nan)
        score, scores = self.taken(model)
        against, againsts = self.taken(baseline) if baseline else blank
        name, more = self.problem.metric.name, self.problem.metric.more_is_better
        return Scored(
            metric=name,
            more=more,
            score=score,
            baseline=against,
            scores=scores,
            baselines=againsts,
            how=HOLD_OUT,
            rows=len(self.frame),
            digest=self.digest,
            ratio=0.0,
            fewest=fewest(self.problem, model.table.actual, self.blocks),
        )

    def taken(self, model: "Answers", mask: Mask = slice(None)) -> tuple[float, np.ndarray]:
        """The deciding metric of `model` over the rows of the `mask`, and a value a draw of them."""
        table, drawn = model.table[mask], self.drawn[:, mask]
        score = value(self.problem, table, model.labels)
        if not math.isfinite(score):
            return math.nan, np.full(len(drawn), math.nan)
        return score, resampling.replicates(self.problem, table, model.labels, drawn)

    def cautious(self, estimate: Estimate, mask: Mask = slice(None)) -> Estimate:
        """`estimate` as few blocks allow: their variance is one in n too small, and known to n - 1 degrees only."""
        count = len(pd.unique(self.blocks[mask]))
        if count < 2:
            return estimate._replace(error=math.nan, freedom=1.0)
        grown = estimate.error * math.sqrt(count / (count - 1))
        return estimate._replace(error=grown, freedom=min(estimate.freedom, count - 1))


class Answers:
    """What a model answers for the rows: the `table` of evaluation.predictions, and its classes (`labels`)."""

    def __init__(self, table: pd.DataFrame, labels: list | None) -> None:
        self.table, self.labels = table, labels

    def same(self, other: "Answers") -> bool:
        """Whether `other` answers each row alike."""
        mine, others = self.table, other.table
        return self.labels == other.labels and list(mine) == list(others) and mine.equals(others)

    @property
    def constant(self) -> bool:
        """Whether it answers every row alike."""
        return bool((self.table.drop(columns="actual").nunique(dropna=False) <= 1).all())


def fewest(problem: Problem, actual: pd.Series, blocks: np.ndarray) -> int:
    """In how many of the `blocks` (one value a row) the rarest class of the `actual` ones is; see Scored.fewest."""
    if problem.task != "classification":
        return 0
    if problem.metric.name == "accuracy":
        return len(np.unique(blocks))
    return int(pd.Series(blocks).groupby(actual.to_numpy()).nunique().min())


def value(problem: Problem, table: pd.DataFrame, labels: list | None) -> float:
    """The deciding metric of a `table` of predictions; NaN where it cannot be taken."""
    name = problem.metric.name
    return float(evaluation.measure(problem, table, labels, only=name).get(name, math.nan))


def difference(rows: Rows, one: Scored, other: Scored) -> Estimate:
    """By how much `one` is better than `other` (positive: better), with the error that so many blocks allow."""
    return rows.cautious(one.over(other))


def slices(rows: Rows, candidate: Answers, champion: Answers | None = None) -> pd.DataFrame:
    """The deciding metric in each group of the problem's slices that has enough rows, what is worst on top.

    Columns: column, value, rows, candidate, and with a `champion`: its score, difference (positive: the candidate is
    better) and low to high, the interval that holds for all slices at once.
    """
    groups = list(_groups(rows))
    if champion is None:
        table = pd.DataFrame(_alone(rows, groups, candidate), columns=COLUMNS[:4])
        worst_first = rows.problem.metric.more_is_better
        return table.sort_values("candidate", ascending=worst_first, ignore_index=True)
    found = [_slice(rows, each, candidate, champion) for each in groups]
    table = pd.DataFrame(found, columns=COLUMNS)
    if found:
        table = table.assign(**_at_once(rows, found, groups))
    return table.sort_values("difference", na_position="first", ignore_index=True)


def _groups(rows: Rows) -> Iterator[Group]:
    """(column, label, mask) of each slice with enough rows."""
    rule = rows.problem.gate
    for column in rule.slices:
        names = rows.frame[column]
        for name in pd.unique(names):
            mask = (names.isna() if pd.isna(name) else names == name).to_numpy()
            if mask.sum() >= rule.slice_rows:
                yield column, "missing" if pd.isna(name) else str(name), mask


def _alone(rows: Rows, groups: Sequence[Group], model: Answers) -> list[dict[str, Any]]:
    """A row a group with the metric of one model: the rows are sorted once for all of them."""
    masks = [mask.astype(int) for *_, mask in groups]
    values = resampling.replicates(rows.problem, model.table, model.labels, np.array(masks))
    named = zip(groups, map(float, values))
    return [
        {"column": column, "value": label, "rows": int(mask.sum()), "candidate": score}
        for (column, label, mask), score in named
    ]


def _slice(rows: Rows, group: Group, candidate: Answers, champion: Answers) -> dict[str, Any]:
    column, label, mask = group
    row: dict[str, Any] = {"column": column, "value": label, "rows": int(mask.sum())}
    row["candidate"], mine = rows.taken(candidate, mask)
    row["champion"], theirs = rows.taken(champion, mask)
    sign = 1 if rows.problem.metric.more_is_better else -1
    return row | {
        "difference": sign * (row["candidate"] - row["champion"]),
        "draws": sign * (mine - theirs),
    }


def _at_once(
    rows: Rows, found: Sequence[Mapping[str, Any]], groups: Sequence[Group]
) -> dict[str, np.ndarray]:
    """{low, high}: the interval of each slice's difference; NaN where its error is not known."""
    values = np.array([each["difference"] for each in found])
    draws = np.array([each["draws"] for each in found])
    known = np.isfinite(draws).sum(axis=1) > draws.shape[1] / 2
    errors = np.array([np.nanstd(d, ddof=1) if k else np.nan for d, k in zip(draws, known)])
    largest = _largest(draws, values, errors)
    reach = []
    for error, (*_, mask) in zip(errors, groups):
        one = rows.cautious(Estimate(0.0, error), mask)
        reach.append(one.error * stats.t.ppf(stats.norm.cdf(largest), one.freedom))
    return {"low": values - reach, "high": values + reach}


def _largest(draws: np.ndarray, values: np.ndarray, errors: np.ndarray) -> float:
    """What the largest deviation among the slices, in errors, does not exceed on 95 of 100 draws."""
    moving = errors > 0
    if not moving.any():
        return float(stats.norm.ppf((1 + LEVEL) / 2))
    deviations = np.abs(draws[moving] - values[moving, None]) / errors[moving, None]
    return float(np.nanquantile(np.nanmax(deviations, axis=0), LEVEL))


def told(estimate: Estimate, level: float = LEVEL) -> str:
    """An `estimate` of a difference in words: better by 0.012 (95 %: from 0.003 worse to 0.027 better)."""
    if not math.isfinite(estimate.value):
        return "not known"
    if not math.isfinite(estimate.error):
        return f"{better(estimate.value)} (with an error that is not known)"
    if not estimate.value and not estimate.error:
        return "the same"
    reach = estimate.reach(level)
    ends = estimate.value - reach, estimate.value + reach
    return f"{better(estimate.value)} ({100 * level:.4g} %: {_range(*ends)})"


def better(amount: float) -> str:
    """A difference (positive: better) in words, always without a sign: better by 0.012, worse by 0.18."""
    if not math.isfinite(amount):
        return "not known"
    return (
        f"{'worse' if amount < 0 else 'better'} by {number(abs(amount))}" if amount else "the same"
    )


def _range(low: float, high: float) -> str:
    if low >= 0 or high <= 0:
        near, far = sorted((abs(low), abs(high)))
        return f"from {number(near)} to {number(far)} {'better' if low >= 0 else 'worse'}"
    return f"from {number(-low)} worse to {number(high)} better"


def left_behind(table: pd.DataFrame, loss: float) -> pd.Series:
    """A mask of the slices (see `slices`) in which the candidate is worse by more than `loss`, and not by luck.

    A slice that the champion can be measured on and the candidate cannot is one, too.
    """
    worse = (table.difference < -loss) & (table.high < 0)
    return worse | table.champion.notna() & table.candidate.isna()
