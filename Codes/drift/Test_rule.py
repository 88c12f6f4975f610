"""k of n windows, with a level that keeps the budget."""

import numpy as np
import pytest

from Codes.drift.rule import Rule


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


def test_one_reference_for_all_windows_needs_more_of_them():
    rule = Rule.of("2 of 3")
    assert (rule.needed(104), rule.needed(52)) == (16, 11)
    assert all(rule.needed(rule.affordable(windows)) == windows for windows in (5, 11, 16))
    assert rule.level_for(15, 104) == 0 and rule.level_for(16, 104) > 1 / 17
    assert rule.level_for(20, 104) < rule.level_for(300, 104) < rule.level(104)


@pytest.mark.parametrize("windows", [16, 20, 26, 60])
def test_the_level_spends_the_budget_whole_over_all_references_that_may_come(windows):
    rule, random = Rule.of("2 of 3"), np.random.default_rng(windows)
    rank = rule.level_for(windows, 104) * (windows + 1)
    below, part = int(rank), rank % 1
    # of windows whose strangeness is uniform: what of a reference is beyond the place between two of its windows
    strangest = np.sort(random.random((4000, windows)))[:, ::-1]
    beyond = 1 - (1 - part) * strangest[:, below - 1] - part * strangest[:, below]
    assert np.mean([1 / rule.until_alarm(b) for b in beyond]) == pytest.approx(1 / 104, rel=0.1)
