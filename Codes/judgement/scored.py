"""What is kept of a run's score, so that any two runs are compared on the same rows: the score on redrawn rows.

Of a hold-out the rows are redrawn (a paired bootstrap, whole blocks at a time: Efron and Tibshirani, An Introduction to
the Bootstrap, 1993, chapter 8); all runs are scored on the same draws, so that the difference of two is the difference
of their scores draw by draw. Of a small table there is a score a fold of a repeated cross-validation, whose folds
share training rows; the variance is corrected for that (Nadeau and Bengio, Inference for the Generalization Error,
Machine Learning 52, 2003). Where a model makes no mistake at all, no draw differs from another: its error is then what
the rule of three allows (see `Scored.fewest`).
"""

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from Codes.ground.labels import score

# an event not seen in n rows has a rate below 3 / n, 95 times of 100; as a standard error
RULE_OF_THREE = 3 / 1.96
TINY = 1e-6  # what rounding makes of a 1: draws are kept in single precision
TAG = "mlflow.workbook.validation"  # of a run: its Scored, as text
HOLD_OUT, FOLDS = "hold-out", "cross-validation"


class Estimate(NamedTuple):
    """A value, its standard error, and the degrees of freedom of Student's distribution (inf: the normal one)."""

    value: float
    error: float
    freedom: float = math.inf

    def reach(self, level: float = 0.95) -> float:
        """How far the two-sided interval reaches to each side."""
        from scipy import stats  # half a second, which who only reads a tag need not wait

        return float(stats.t.ppf((1 + level) / 2, self.freedom)) * self.error

    @property
    def low(self) -> float:
        """The lower end of the 95 % interval."""
        return self.value - self.reach()

    @property
    def high(self) -> float:
        """The upper end of the 95 % interval."""
        return self.value + self.reach()


@dataclass(frozen=True, eq=False)
class Scored:  # pylint: disable=too-many-instance-attributes
    """The deciding metric of a run (or of several seeds of one setting), and of the baseline, on the same rows.

    Args:
        metric: its name; `more`: whether more of it is better.
        how: by a hold-out or by cross-validation.
        rows: how many rows it was measured on.
        digest: of those rows and how they are redrawn: only equal ones can be compared.
        ratio: rows to test by rows to train of a fold; 0 of a hold-out.
        score, baseline: over all rows; NaN where it cannot be taken.
        scores, baselines: a value a draw of the bootstrap, or a fold.
        trained: how many rows the model learned from; 0 where that was not kept.
        against: the baseline in words, such as 'always 21.3'; empty where that was not kept.
        fewest: how many rows (or blocks of them) there are of the rarest class, where accuracy decides of all; 0 of a
            regression, or where that was not kept. A score of 1 on them may still miss by 3 / fewest (Hanley and
            Lippman-Hand, If nothing goes wrong, is everything all right?, JAMA 249, 1983).
    """

    metric: str
    more: bool
    how: Literal["hold-out", "cross-validation"]
    rows: int
    digest: str
    ratio: float
    score: float
    baseline: float
    scores: np.ndarray
    baselines: np.ndarray
    trained: int = 0
    against: str = ""
    fewest: int = 0

    def as_tag(self) -> str:
        """The whole as text for a tag of MLflow (2 to 3 kB)."""
        packed = {name: _packed(getattr(self, name)) for name in ("scores", "baselines")}
        return json.dumps(
            {
                k: v
                for k, v in asdict(replace(self, scores=None, baselines=None)).items()
                if v is not None
            }
            | packed
        )

    @classmethod
    def from_tag(cls, text: str) -> "Scored":
        """What `as_tag` wrote; a ValueError where it is none."""
        try:
            fields = json.loads(text)
            packed = {name: _unpacked(fields[name]) for name in ("scores", "baselines")}
            return cls(**fields | packed)
        except (TypeError, KeyError) as error:
            raise ValueError(f"no score: {error}") from None

    def comparable(self, other: "Scored") -> bool:
        """Whether both were measured by the same metric, on the same rows, redrawn alike."""
        mine, others = ((s.metric, s.how, s.digest, len(s.scores)) for s in (self, other))
        return mine == others

    def own(self) -> Estimate:
        """The score with its error."""
        return self._estimate(self.score, self.scores, self.unseen)

    def gain(self) -> Estimate:
        """By how much it is better than the baseline on the same rows (positive: better), with the error of that."""
        return self._estimate(
            self._better(self.score - self.baseline), self.scores - self.baselines, self.unseen
        )

    @property
    def unseen(self) -> float:
        """The standard error of a classifier without a mistake on any draw; else 0. NaN: one block tells nothing."""
        known = np.append(self.scores[np.isfinite(self.scores)], self.score)
        if not self.more or not self.fewest or not np.abs(known - 1).max() <= TINY:
            return 0.0
        return RULE_OF_THREE / self.fewest if self.fewest > 1 else math.nan

    def floor(self, places: int | None = None) -> str:
        """The baseline and its score, for people: 'the baseline (always 21.3: 4.0000)'."""
        shown = score(self.baseline) if places is None else f"{self.baseline:.{places}f}"
        named = f"{self.against}: " if self.against else ""
        return f"the baseline ({named}{shown})"

    def over(self, other: "Scored") -> Estimate:
        """By how much it is better than `other` on the same rows (positive: better), with the error of that."""
        unseen = float(np.maximum(self.unseen, other.unseen)) if self.score != other.score else 0.0
        return self._estimate(
            self._better(self.score - other.score), self.scores - other.scores, unseen
        )

    def _better(self, difference: float) -> float:
        return difference if self.more else -difference

    def _estimate(self, value: float, values: np.ndarray, unseen: float) -> Estimate:
        error, freedom = spread(values, self.how, self.ratio)
        return Estimate(value, float(np.maximum(error, unseen)), freedom)


def spread(values: np.ndarray, how: str, ratio: float = 0.0) -> tuple[float, float]:
    """(standard error, degrees of freedom) that `values`, one a draw or a fold, tell; NaN where too few are known."""
    known = values[np.isfinite(values)]
    if len(known) < 2 or len(known) < len(values) / 2:
        return math.nan, 1.0
    if how == HOLD_OUT:
        return float(known.std(ddof=1)), math.inf
    variance = (1 / len(known) + ratio) * known.var(ddof=1)
    return math.sqrt(variance), len(known) - 1.0


def mean(several: Sequence[Scored]) -> Scored:
    """Several comparable runs of one setting (other seeds) as one contestant: the mean of each of their scores."""
    return replace(
        several[0],
        score=float(np.mean([s.score for s in several])),
        baseline=float(np.mean([s.baseline for s in several])),
        scores=np.mean([s.scores for s in several], axis=0),
        baselines=np.mean([s.baselines for s in several], axis=0),
    )


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode("ascii")


def _unpacked(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(float)
