"""An alarm where k of the last n windows are strange, and the level at which a window is, solved from a budget.

The budget is 'one false alarm in N windows'. For windows that are independent the mean number of windows until k of n
is a small Markov chain over the last n - 1 of them; that they are not is for the measured rate to show.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize


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
        states = list(itertools.product((0, 1), repeat=self.n - 1))
        number = {state: i for i, state in enumerate(states)}
        stays = np.zeros((len(states), len(states)))
        for state in states:
            for mark, chance in ((1, alpha), (0, 1 - alpha)):
                if sum(state) + mark < self.k:
                    stays[number[state], number[(*state, mark)[1:]]] += chance
        return float(np.linalg.solve(np.eye(len(states)) - stays, np.ones(len(states)))[0])

    def level(self, budget: float) -> float:
        """The chance with which a quiet window may be strange so that a false alarm comes once in `budget` windows."""

        def over(alpha: float) -> float:
            return np.log(self.until_alarm(alpha)) - np.log(budget)

        root: Any = optimize.brentq(over, 1e-4, 1 - 1e-9, xtol=1e-12)
        return float(root)
