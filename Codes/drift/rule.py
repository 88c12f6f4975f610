"""An alarm where k of the last n windows are strange, and the level at which a window is, solved from a budget.

The budget is 'one false alarm in N windows'. For windows that are independent the mean number of windows until k of n
is a small Markov chain over the last n - 1 of them. All are held against one reference, which by chance may be too
tame: of m windows, the share of quiet ones that are stranger than all but k - 1 of them is not k / (m + 1), but has a
Beta(k, m + 1 - k) distribution (Wilks, 1941), over which the rate of false alarms is taken.
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, stats

DRAWS = 100  # of the share of strange windows


@dataclass(frozen=True)
class Rule:
    """`k` of the last `n` windows."""

    k: int
    n: int

    @classmethod
    def of(cls, text: str) -> "Rule":
        """The rule '2 of 3', as a problem's file says it."""
        k, n = text.split(" of ")
        return cls(int(k), int(n))

    def __str__(self) -> str:
        return f"{self.k} of {self.n}"

    def alarms(self, strange: Sequence[bool]) -> list[bool]:
        """For each of the windows in their order whether the rule gives the alarm, by which of them are `strange`."""
        marks = [bool(each) for each in strange]
        return [sum(marks[max(0, i + 1 - self.n) : i + 1]) >= self.k for i in range(len(marks))]

    def until_alarm(self, alpha: float) -> float:
        """The mean number of quiet windows until a false alarm, where each is strange with the chance `alpha`."""
        return float(self._waits(np.array([alpha]))[0])

    def _waits(self, alphas: np.ndarray) -> np.ndarray:
        """`until_alarm` of each of the `alphas`."""
        states = list(itertools.product((0, 1), repeat=self.n - 1))
        number = {state: i for i, state in enumerate(states)}
        stays = np.zeros((len(alphas), len(states), len(states)))
        for state in states:
            for mark, chance in ((1, alphas), (0, 1 - alphas)):
                if sum(state) + mark < self.k:
                    stays[:, number[state], number[(*state, mark)[1:]]] += chance
        ones = np.ones((len(alphas), len(states), 1))
        return np.linalg.solve(np.eye(len(states)) - stays, ones)[:, 0, 0]

    def level(self, budget: float) -> float:
        """The chance with which a quiet window may be strange so that a false alarm comes once in `budget` windows."""

        def over(alpha: float) -> float:
            return np.log(self.until_alarm(alpha)) - np.log(budget)

        root: Any = optimize.brentq(over, 1e-4, 1 - 1e-9, xtol=1e-12)
        return float(root)

    @functools.lru_cache(1000)
    def rate(self, rank: float, windows: int) -> float:
        """False alarms a window, where one among the `rank` strangest beside `windows` of reference is strange.

        A rank of 1.5 is half way between the strangest and the second.
        """
        shares = stats.beta.ppf((np.arange(DRAWS) + 0.5) / DRAWS, rank, windows + 1 - rank)
        return float(np.mean(1 / self._waits(np.minimum(shares, 0.999))))

    @functools.lru_cache(1000)
    def level_for(self, windows: int, budget: float) -> float:
        """The p-value up to which a window is strange, held against so many `windows`; 0 where they are too few."""
        if windows < 1 or self.rate(1, windows) > 1 / budget:
            return 0.0
        if self.rate(windows, windows) <= 1 / budget:
            return windows / (windows + 1)

        def over(rank: float) -> float:
            return self.rate(rank, windows) - 1 / budget

        root: Any = optimize.brentq(over, 1, windows, xtol=1e-6)
        return float(root) / (windows + 1)

    def needed(self, budget: float) -> int:
        """How many windows a reference must have so that the `budget` allows an alarm at all."""
        return next(m for m in itertools.count(self.n) if self.rate(1, m) <= 1 / budget)

    def affordable(self, windows: int) -> int:
        """The largest budget that a reference of so many `windows` can keep."""
        return int(1 / self.rate(1, max(windows, 1)))
