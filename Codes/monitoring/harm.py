"""Is the loss now above what it was at promotion? By evidence that may be looked at after every window.

The loss of a row lies between 0 and 1, and rows of a day go well or ill together: what counts is the mean loss of a
block. Against the claim that it is at most a bound whatever came before, one bets at each block; no bet gains in the
mean, so that capital is evidence (Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting,
JRSS B 2024). Two uses: a confidence sequence, whose interval holds at all times at once, and a detector that begins
anew at every block, so that quiet years do not hide what comes after (Shin, Ramdas and Rinaldo, E-detectors, 2024):
its first false alarm comes after as many blocks as its threshold says, in the mean at least.
"""

import numpy as np
from scipy import stats

BETS = np.array([0.05, 0.1, 0.2, 0.4, 0.7])  # of the largest that cannot ruin
GRID = 1000  # values of the mean that an interval tries


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
