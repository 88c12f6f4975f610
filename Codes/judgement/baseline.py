"""The baseline: what a model has to be better than, the same wherever one is named.

The best constant for the metric, taken from the training rows (the mean for a squared error, the median for an absolute
one, the shares of the classes for probabilities, the best single label for labels); or what the problem's file names:
the value of a column, or the last known target of a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from Codes.ground import labels as words
from Codes.ground.errors import WorkbookError
from Codes.judgement import resampling
from Codes.modeling import evaluation
from Codes.problems import data
from Codes.problems.problem import OF_PROBABILITIES, Problem

BY_LABEL = ("accuracy", "balanced_accuracy", "f1", "cost")
BY_MEDIAN = ("mae", "median_ae")


@dataclass(frozen=True, eq=False)
class Baseline:
    """A baseline that is ready to predict: the training rows that it is made from, and its name for people."""

    problem: Problem
    known: pd.DataFrame  # of the training rows the target, and what else is needed of them
    labels: list | None  # the classes that they hold, in order; None of a regression

    def constant(self, metric: str = "") -> Any:
        """The amount or the label that is always predicted where the `metric` decides (by default the problem's)."""
        metric, values = metric or self.problem.metric.name, data.target(self.known, self.problem)
        if self.labels is None:
            if metric in BY_MEDIAN:
                return float(values.median())
            if metric in evaluation.REGRESSION:
                return float(values.mean())
            return self._best([float(values.mean()), float(values.median())], values, metric)
        commonest = values.value_counts().sort_index(kind="stable").idxmax()
        if metric in BY_LABEL or metric not in evaluation.CLASSIFICATION:
            return self._best([commonest, *self.labels], values, metric)
        return commonest

    def _best(self, constants: Sequence[Any], values: pd.Series, metric: str) -> Any:
        """That of the `constants` which has the best `metric` on the training rows: of classes, one row a class."""
        counts = values.value_counts() if self.labels is not None else pd.Series(1, index=values)
        sign = 1 if self.problem.directions[metric] == "maximize" else -1
        table = self._constant_table(pd.Series(np.asarray(counts.index)), None)
        rows = counts.to_numpy()
        scores = [self._measured(table.assign(predicted=c), metric, rows) for c in constants]
        return constants[int(np.argmax(np.nan_to_num(np.array(scores) * sign, nan=-np.inf)))]

    def _measured(
        self, table: pd.DataFrame, metric: str, counts: np.ndarray | None = None
    ) -> float:
        """The `metric` of a `table` of predictions, whose rows stand for so many each (by default for one)."""
        drawn = np.ones(len(table), int) if counts is None else counts
        return float(
            resampling.replicates(self.problem, table, self.labels, drawn[None, :], metric)[0]
        )

    def _constant_table(self, actual: pd.Series, constant: Any) -> pd.DataFrame:
        """A table of predictions (see evaluation.predictions) that are all `constant`, with the classes' shares."""
        table = pd.DataFrame(
            {"actual": np.asarray(actual), "predicted": constant}, index=actual.index
        )
        if self.labels is None:
            return table
        shares = data.target(self.known, self.problem).value_counts(normalize=True)
        columns = {f"probability of {label}": shares.get(label, 0.0) for label in self.labels}
        # at once: one by one, many classes take minutes
        return pd.concat([table, pd.DataFrame(columns, table.index)], axis=1)

    def predictions(self, frame: pd.DataFrame, metric: str = "") -> pd.DataFrame:
        """The predictions for the rows of `frame` as evaluation.predictions gives them, for the `metric`."""
        rule, constant = self.problem.baseline, self.constant(metric)
        table = self._constant_table(data.target(frame, self.problem), constant)
        if rule is None:
            return table
        if rule.last_of is not None:
            given = frame[rule.last_of].astype(object).map(self._last(rule.last_of))
        else:
            given = frame[rule.column]
        found = self._given(table, given, constant)
        deciding, exact = self.problem.metric.name, found.filter(regex="^probability of ").size
        if metric in ("", deciding) and deciding in OF_PROBABILITIES and not exact:
            raise WorkbookError(
                f"{self.problem.name}: baseline: '{given.name}' holds no probabilities, and {deciding} is taken from "
                "these: let another metric decide, such as roc_auc, or name another column."
            )
        return found

    def _last(self, group: str) -> pd.Series:
        """The last target of each value of the column `group` among the training rows."""
        known = (
            self.known
            if self.problem.time is None
            else self.known.sort_values(self.problem.time, kind="stable")
        )
        return (
            data.target(known, self.problem).groupby(known[group].astype(object).to_numpy()).last()
        )

    def _given(self, table: pd.DataFrame, given: pd.Series, constant: Any) -> pd.DataFrame:
        """`table`, with the values `given` where there are some: amounts, labels, or a positive's probability."""
        classes = self.labels
        if classes is None:
            if not pd.api.types.is_numeric_dtype(given):
                raise WorkbookError(
                    f"{self.problem.name}: baseline: '{given.name}' holds no numbers"
                )
            return table.assign(predicted=given.astype(float).fillna(constant))
        known = given.astype(object)
        if known.dropna().isin(classes).all():
            labels = known.where(known.notna(), constant)
            hits = {f"score of {label}": (labels == label).astype(float) for label in classes}
            return table[["actual"]].assign(predicted=labels.infer_objects(), **hits)
        if len(classes) != 2 or not pd.api.types.is_numeric_dtype(given):
            odd = next(value for value in known.dropna() if value not in classes)
            raise WorkbookError(
                f"{self.problem.name}: baseline: '{given.name}' holds {odd!r}: neither a class nor a probability of one"
            )
        return self._scored(table, given.astype(float), classes)

    def _scored(self, table: pd.DataFrame, given: pd.Series, classes: list) -> pd.DataFrame:
        """`table` with a number for the positive class: a probability where all are from 0 to 1, else a score."""
        positive = evaluation.positive(self.problem, classes)
        other = next(label for label in classes if label != positive)
        share = (data.target(self.known, self.problem) == positive).mean()
        given = given.fillna(share)
        exact = given.between(0, 1).all()
        names = {label: f"{'probability' if exact else 'score'} of {label}" for label in classes}
        filled = {names[positive]: given, names[other]: 1 - given if exact else -given}
        columns = {names[label]: filled[names[label]] for label in classes}
        labels = np.where(given >= (0.5 if exact else 0), positive, other)
        return table[["actual"]].assign(predicted=labels, **columns)

    def measure(self, frame: pd.DataFrame) -> dict[str, float]:
        """Each metric of the baseline that is the best for it, on the rows of `frame`."""
        found = {n: self._measured(self.predictions(frame, n), n) for n in self.problem.directions}
        return {name: value for name, value in found.items() if np.isfinite(value)}

    @property
    def name(self) -> str:
        """The baseline in words, such as 'always 21.3'."""
        rule = self.problem.baseline
        if rule is not None:
            return (
                f"the column '{rule.column}'"
                if rule.column
                else f"the last known value of each '{rule.last_of}'"
            )
        constant = self.constant()
        if self.labels is None:
            return f"always {words.number(constant, 4)}"
        by_shares = self.problem.metric.name not in BY_LABEL and not self.problem.metric.function
        return "always the shares of the classes" if by_shares else f"always {constant}"


def fit(problem: Problem, frame: pd.DataFrame) -> Baseline:
    """The Baseline of `problem` from all training rows of the table that `frame` (data.load or data.test) is of."""
    return of(problem, data.known(frame, problem))


def of(problem: Problem, train: pd.DataFrame) -> Baseline:
    """The Baseline of `problem` from the rows `train` alone, such as those of a fold."""
    labels = None
    if problem.task == "classification":
        labels = sorted(data.target(train, problem).unique())
    return Baseline(problem, train, labels)
