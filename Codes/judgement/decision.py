"""From which probability on a label is the positive one: what errors cost, or the problem's own threshold, decides.

The threshold that costs least is chosen on predictions for rows that the model has not seen: the validation rows, or of
a small table those of its cross-validation. Were the probabilities exact, it would be the false alarm's share of both
costs (Elkan, The Foundations of Cost-Sensitive Learning, IJCAI 2001); chosen on rows, it mends what they lack.
"""

from dataclasses import dataclass
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from Codes.ground.errors import WorkbookError
from Codes.modeling import answers, evaluation
from Codes.problems.problem import Costs, Problem


@dataclass(frozen=True, eq=False)
class Decision:
    """How a label is decided.

    Args:
        positive: the label that is said from the `threshold` of its probability on; below it the `other`.
        costs: what errors cost; None where the problem fixes the threshold.
        curve: a row a threshold at which the labels of the rows change, the smallest first: what errors cost a row
            ("threshold", "cost"); the first calls all rows positive, the last none.
    """

    positive: Any
    other: Any
    threshold: float
    costs: Costs | None
    curve: pd.DataFrame

    def applied(self, pipeline: Pipeline) -> Pipeline:
        """The fitted `pipeline`, which answers by the threshold from now on, wherever it is asked."""
        return answers.deciding(pipeline, self.threshold, self.positive)

    def relabelled(self, table: pd.DataFrame) -> pd.DataFrame:
        """The `table` of predictions (see evaluation.predictions) with the labels that the threshold gives."""
        shares = table[f"probability of {self.positive}"]
        labels = [self.positive if hit else self.other for hit in shares >= self.threshold]
        return table.assign(predicted=pd.Series(labels, table.index, table.predicted.dtype))

    def cost(self, threshold: float) -> float:
        """What errors cost a row where this is the threshold."""
        position = self.curve.threshold.searchsorted(threshold, side="left")
        return float(self.curve.cost.iloc[position])

    def metrics(self) -> dict[str, float]:
        """For mlflow.log_metrics: the threshold and, where errors have a price, what they cost a row by it."""
        if self.costs is None:
            return {"threshold": self.threshold}
        return {
            "threshold": self.threshold,
            "cost": self.cost(self.threshold),
            "cost_always": float(self.curve.cost.iloc[0]),
            "cost_never": float(self.curve.cost.iloc[-1]),
        }

    def log(self) -> None:
        """Log the metrics."""
        mlflow.log_metrics(self.metrics())

    def sentence(self) -> str:
        """The threshold, and what it costs."""
        told = f"{self.positive} from a probability of {self.threshold:.3g} on"
        if self.costs is None:
            return f"{told}, as the problem's file says"
        by = self.metrics()
        return (
            f"{told}: errors cost {by['cost']:.3g} a row; {by['cost_never']:.3g} were the answer always {self.other}, "
            f"{by['cost_always']:.3g} always {self.positive}, {self.cost(0.5):.3g} by a threshold of a half"
        )


def choose(problem: Problem, table: pd.DataFrame, labels: list | None) -> Decision | None:
    """The Decision of `problem` on a `table` of predictions for rows that the model has not seen.

    None where the problem says nothing of costs or a threshold.

    Args:
        labels: the model's classes, in its order.
    """
    if problem.costs is None and problem.threshold is None:
        return None
    if labels is None or len(labels) != 2:
        raise WorkbookError(f"{problem.name}: costs and a threshold need a target of two classes.")
    positive = evaluation.positive(problem, labels)
    (other,) = (label for label in labels if label != positive)
    column = f"probability of {positive}"
    if column not in table:
        raise WorkbookError(
            f"{problem.name}: costs and a threshold need probabilities, which the model does not give: choose another."
        )
    costs = problem.costs or _PLAIN
    curve = _curve(costs, table[column].to_numpy(), (table.actual == positive).to_numpy())
    threshold = _cheapest(curve, costs) if problem.threshold is None else problem.threshold
    return Decision(positive, other, float(threshold), problem.costs, curve)


_PLAIN = Costs(missed=1.0, false_alarm=1.0)


def _curve(costs: Costs, shares: np.ndarray, hits: np.ndarray) -> pd.DataFrame:
    """What errors cost a row by each threshold: each different probability, and one above all of them."""
    values, position = np.unique(shares, return_inverse=True)
    size = len(values)
    positives, others = (np.bincount(position, side, size) for side in (hits, ~hits))
    missed = np.concatenate([[0], np.cumsum(positives)])
    alarms = others.sum() - np.concatenate([[0], np.cumsum(others)])
    cost = (costs.missed * missed + costs.false_alarm * alarms) / len(shares)
    return pd.DataFrame({"threshold": [*values, np.inf], "cost": cost})


def _cheapest(curve: pd.DataFrame, costs: Costs) -> float:
    """A threshold that costs least on the rows of `curve`: of those that do, what exact probabilities would ask for.

    Where that is not among them, it is the middle of the nearest stretch of such thresholds.
    """
    ideal = costs.false_alarm / (costs.false_alarm + costs.missed)
    high = curve.threshold.clip(upper=1.0).to_numpy()
    low = np.concatenate(
        [[0.0], high[:-1]]
    )  # a threshold over this one, up to `high`, has the same labels
    best = np.flatnonzero(np.isclose(curve.cost, curve.cost.min(), rtol=1e-12))
    away = np.maximum(low[best] - ideal, ideal - high[best])
    nearest = best[int(away.argmin())]
    if low[nearest] < ideal <= high[nearest]:
        return ideal
    middle = (low[nearest] + high[nearest]) / 2
    return middle if middle > low[nearest] else high[nearest]
