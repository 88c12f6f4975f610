"""One p-value a window: its false alarms are those that were asked for, and its columns carry it."""

# pylint: disable=missing-function-docstring,missing-class-docstring,protected-access

import numpy as np
import pytest
from scipy import stats

from Codes.drift import calibration
from Codes.drift.effects import MOVED, Name

LEAST = 0.02


def windows(random, count, names=25):
    """Effects of quiet windows whose columns go together, some with heavy tails, one that never moves."""
    common = random.gamma(2, 0.01, (count, 1))
    return np.hstack([common + random.gamma(1, 0.02, (count, names - 1)), np.zeros((count, 1))])


def names_of(effects):
    return [Name(f"c{i}", MOVED) for i in range(effects.shape[1])]


def test_of_quiet_windows_so_many_are_strange_as_were_asked_for():
    random = np.random.default_rng(1)
    ps = np.array([calibration.p_value(windows(random, 20), LEAST) for _ in range(800)])
    for alpha in (0.05, 0.075, 0.1, 0.13, 0.25):
        low, high = stats.binomtest(int((ps <= alpha).sum()), len(ps)).proportion_ci(0.99, "exact")
        assert low <= alpha <= high


def test_between_two_windows_p_is_between_theirs_and_a_tie_is_the_larger_one():
    def p(reference, own):
        return calibration._as_strange(np.array(reference)[:, None], np.array([own]))[0]

    reference = [4.0, 3.0, 1.0]
    assert [p(reference, own) for own in (9, 4, 3.5, 3, 2, 0)] == [
        1 / 4,
        2 / 4,
        1.5 / 4,
        3 / 4,
        2.5 / 4,
        1,
    ]
    assert p([2.0, 2.0, 2.0], 2.0) == 1


def test_the_column_that_moved_is_named_and_no_other():
    random, named, others = np.random.default_rng(2), 0, 0
    for _ in range(200):
        effects = windows(random, 31)
        effects[-1, 3] += 0.4
        found = calibration.of(effects, names_of(effects), LEAST).named(0.1, LEAST).column
        named, others = named + ("c3" in set(found)), others + bool(set(found) - {"c3"})
    assert named == 200
    low, _ = stats.binomtest(others, 200).proportion_ci(0.99, "exact")
    assert low <= 0.1


def test_a_column_that_never_moved_is_strange_as_soon_as_it_does():
    effects = windows(np.random.default_rng(3), 31)
    effects[-1, -1] = 0.05
    drift = calibration.of(effects, names_of(effects), LEAST)
    assert drift.is_strange(0.04, LEAST) and drift.columns.column[0] == "c24"


def test_what_is_strange_but_tiny_is_no_drift():
    effects = np.full((31, 2), 0.001)
    effects[-1, 0] = 0.01
    drift = calibration.of(effects, names_of(effects), LEAST)
    assert drift.p == pytest.approx(1 / 31) and not drift.is_strange(0.1, LEAST)


def test_the_p_values_of_columns_go_down_from_the_windows_own():
    effects = windows(np.random.default_rng(4), 15)
    drift = calibration.of(effects, names_of(effects), LEAST)
    assert drift.columns.p.iloc[0] == drift.p and drift.columns.p.is_monotonic_increasing


def test_without_windows_or_columns_there_is_nothing_strange():
    assert calibration.of(np.zeros((1, 3)), names_of(np.zeros((1, 3))), LEAST).p == 1
    assert calibration.of(np.zeros((9, 0)), [], LEAST).named(0.1, LEAST).empty


def test_what_is_usual_is_read_from_the_reference_without_the_window():
    effects = np.full((6, 1), 0.04)  # a window that is all gaps lies among the others of each
    effects[-1] = 1.0
    found = calibration.of(effects, names_of(effects), LEAST, np.zeros((5, 1))).columns.iloc[0]
    assert (found.effect, found.usual, found.most) == (1.0, 0.0, 0.0)
