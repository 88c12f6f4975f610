"""Is a model now worse than at promotion? By evidence that may be looked at after every window.

Of its loss, and of its calibration: whether what it says is, in the mean, what comes. The loss alone is a blunt
measure where the world is at times harder to foresee, for the best of models, too. The loss of a row lies between 0
and 1, and rows of a day go well or ill together: what counts is the mean of a block.

Against the claim that it is at most a bound whatever came before, one bets at each block; no bet gains in the mean, so
that capital is evidence (Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, JRSS B
2024). Two uses: a confidence sequence, whose interval holds at all times at once, and a detector that begins anew at
every block, so that quiet years do not hide what comes after (Shin, Ramdas and Rinaldo, E-detectors, 2024): its first
false alarm comes after as many blocks as its threshold says, in the mean at least.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

BETS = np.array([0.1, 0.2, 0.4, 0.7, 0.95])  # of the largest that cannot ruin
MOST = 0.3  # of a block's mean error: what is more is let go, since one may bet higher on what can ruin less
TOLERATED = 0.1  # of the loss at promotion: how much loss and mean error may rise by default
GRID = 1000  # values of the mean that an interval tries


@dataclass(frozen=True)
class Promised:
    """What the means of blocks may be, from 0 to 1: the loss, and the error (see `_errors`) either way."""

    loss: float
    under: float
    over: float

    @property
    def errors(self) -> tuple[float, float]:
        """From what to what the mean of what came, less what was said, may lie."""
        return MOST * (1 - 2 * self.over), MOST * (2 * self.under - 1)


def promised(blocks: np.ndarray, tolerated: float | None) -> Promised:
    """What is promised by the `blocks` at promotion: a row each, mean loss, and mean of what came less what was said.

    Args:
        tolerated: how much either may rise; None: a tenth of the loss.
    """
    losses, errors = blocks.T
    more = TOLERATED * float(np.mean(losses)) if tolerated is None and len(losses) else tolerated
    more = more or 0.0
    least = 0.5 + more / (
        2 * MOST
    )  # answers that are right in the mean are no harm, whatever was promised
    ways = [
        float(np.maximum(least, tolerable(_errors(way * errors), more / (2 * MOST))))
        for way in (1, -1)
    ]
    return Promised(tolerable(losses, more), *ways)


def of(blocks: np.ndarray, kept: Promised, most: float = np.inf) -> np.ndarray:
    """After each of the `blocks` the evidence that loss, too low and too high answers break what is promised.

    Their mean is evidence of harm of any kind, since the mean of bets is a bet.
    """
    if not np.isfinite(kept.loss):
        return np.zeros((len(blocks), 3))
    losses, errors = blocks.T
    watched = (
        (losses, kept.loss),
        (_errors(errors), kept.under),
        (_errors(-errors), kept.over),
    )
    return np.column_stack([evidence(values, bound, most) for values, bound in watched])


def _errors(means: np.ndarray) -> np.ndarray:
    """The mean errors of blocks, up to MOST either way, as numbers from 0 to 1."""
    return (np.clip(means, -MOST, MOST) + MOST) / (2 * MOST)


def evidence(losses: np.ndarray, bound: float, most: float = np.inf) -> np.ndarray:
    """After each block of `losses` (means, from 0 to 1) the detector's evidence that they lie above `bound`.

    It starts anew at every block (Shiryaev and Roberts): M = (M + 1) · (1 + λ (loss - bound)), over several λ.
    Evidence over `most` is let go, so that it sinks soon after the losses have.
    """
    bound = min(max(bound, 1e-6), 1 - 1e-6)
    growth = np.log1p(BETS[None, :] / bound * (np.asarray(losses, float)[:, None] - bound))
    logs, found = np.full(len(BETS), -np.inf), []
    for step in growth:
        logs = np.minimum(np.logaddexp(logs, 0.0) + step, np.log(most))
        found.append(np.logaddexp.reduce(logs) - np.log(len(BETS)))
    return np.exp(np.minimum(found, 700.0)) if found else np.zeros(0)


def sequence(losses: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) after each block: the interval of the mean loss so far, at all times at once with that `level`."""
    alpha, losses = (1 - level) / 2, np.asarray(losses, float)
    return _lower(losses, alpha), 1 - _lower(1 - losses, alpha)


def _lower(losses: np.ndarray, alpha: float) -> np.ndarray:
    """The running lower end: the largest mean against which the capital has reached 1 / `alpha`."""
    means = (np.arange(GRID) + 0.5) / GRID
    ends, end = [], 0.0
    capital = np.zeros((len(BETS), GRID))
    for loss in losses:
        capital += np.log1p(BETS[:, None] * (loss / means[None, :] - 1))
        worth = np.logaddexp.reduce(capital, axis=0) - np.log(len(BETS))
        refuted = means[worth >= -np.log(alpha)]
        end = max(end, refuted.max(initial=0.0))
        ends.append(end)
    return np.array(ends)


def tolerable(losses: np.ndarray, tolerated: float) -> float:
    """What the mean loss of a block may be: what it was at promotion, as far as that is known, and `tolerated` more.

    Args:
        losses: of the blocks at promotion; the upper end of the mean's 95 % interval is taken (one-sided).
    """
    count = len(losses)
    if count < 2:
        return float("nan")
    error = float(np.std(losses, ddof=1)) / np.sqrt(count)
    return float(np.mean(losses) + stats.t.ppf(0.95, count - 1) * error + tolerated)
