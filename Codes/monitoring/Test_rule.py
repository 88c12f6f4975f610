"""k of n windows, with a level that keeps the budget."""

import numpy as np
import pytest

from Codes.monitoring.rule import Rule


@pytest.mark.parametrize(
    "rule, means, levels",
    [
        ("1 of 1", (100, 20, 10), (0.0096, 0.0019)),
        ("2 of 2", (10_100, 420, 110), (0.103, 0.045)),
        ("2 of 3", (5_125, 225, 63), (0.076, 0.032)),
        ("3 of 5", (172_930, 1_608, 243), (0.140, 0.075)),
    ],
)
def test_the_mean_time_to_a_false_alarm_and_the_level_for_a_budget(rule, means, levels):
    made = Rule.of(rule)
    assert tuple(round(made.until_alarm(a)) for a in (0.01, 0.05, 0.10)) == means
    assert [made.level(b) for b in (104, 520)] == pytest.approx(levels, abs=6e-4)


def test_the_chain_says_what_windows_drawn_by_chance_do():
    rule, random = Rule.of("2 of 3"), np.random.default_rng(0)
    waits = [rule.alarms(random.random(2000) < 0.1).index(True) + 1 for _ in range(1500)]
    assert np.mean(waits) == pytest.approx(rule.until_alarm(0.1), rel=0.08)


def test_an_alarm_needs_k_of_the_last_n():
    assert Rule.of("2 of 3").alarms([1, 0, 0, 1, 0, 1, 1]) == [False] * 5 + [True] * 2
    assert Rule.of("1 of 1").alarms([0, 1]) == [False, True]
