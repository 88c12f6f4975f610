"""Is the loss above what was promised: intervals that hold at all times, and a detector with a known patience."""

import numpy as np
import pytest
from scipy import stats

from Codes.drift import harm


def days(random, count, mean=0.17, rows=60):
    """Mean losses of days, whose own level moves."""
    level = np.clip(random.normal(mean, 0.03, count), 0, 1)
    return random.binomial(rows, level) / rows


def test_the_interval_holds_at_all_times_at_once():
    random = np.random.default_rng(0)
    missed = 0
    for _ in range(60):
        low, high = harm.sequence(days(random, 120))
        missed += bool((low > 0.17).any() or (high < 0.17).any())
    low, _ = stats.binomtest(missed, 60).proportion_ci(0.99, "exact")
    assert low <= 0.05


def test_the_interval_closes_around_the_mean():
    low, high = harm.sequence(days(np.random.default_rng(1), 400))
    assert low[-1] < 0.17 < high[-1] and high[-1] - low[-1] < 0.12
    assert (np.diff(low) >= 0).all() and (np.diff(high) <= 0).all()


def test_false_alarms_come_more_seldom_than_the_threshold_says_at_the_very_bound():
    random = np.random.default_rng(2)
    waits = []
    for _ in range(100):
        over = np.flatnonzero(harm.evidence(days(random, 1000), 0.17) >= 100)
        waits.append(over[0] + 1 if len(over) else 1000)
    assert np.mean(waits) > 100


def test_a_loss_that_rises_after_a_quiet_year_is_found_within_weeks():
    random = np.random.default_rng(3)
    losses = np.concatenate([days(random, 365), days(random, 60, mean=0.30)])
    found = harm.evidence(losses, 0.19) >= 7 * 104
    assert not found[:365].any() and 365 < np.flatnonzero(found)[0] < 365 + 30


def test_the_bound_allows_for_what_is_not_known_of_the_loss_at_promotion():
    few, many = (harm.tolerable(days(np.random.default_rng(4), n), 0.02) for n in (10, 1000))
    assert few > many == pytest.approx(0.19, abs=0.005)
    assert np.isnan(harm.tolerable(np.array([0.1]), 0.02))


@pytest.mark.parametrize("losses", [np.zeros(0), np.zeros(30), np.ones(30)])
def test_no_losses_and_extreme_ones_are_no_error(losses):
    low, high = harm.sequence(losses)
    assert len(low) == len(high) == len(harm.evidence(losses, 0.5)) == len(losses)
    assert np.isfinite(harm.evidence(losses, 1e-9)).all()


def blocks(random, count, error=0.0):
    """Blocks whose loss stays and whose mean error is that, but for what days differ."""
    return np.column_stack([days(random, count), random.normal(error, 0.12, count)])


@pytest.mark.parametrize("error", [0.2, -0.2])
def test_a_model_that_is_off_in_the_mean_either_way_does_harm_though_its_loss_stays(error):
    random = np.random.default_rng(6)
    kept = harm.promised(blocks(random, 60), None)
    quiet, off = (harm.of(blocks(random, 120, e), kept) for e in (0.0, error))
    assert quiet.mean(axis=1).max() < 7 * 104 < off.mean(axis=1).max()
    assert off[-1].argmax() == (1 if error > 0 else 2)
    low, high = kept.errors
    assert -0.1 < low < 0 < high < 0.1


@pytest.mark.parametrize("error", [0.2, -0.2])
def test_answers_that_are_right_in_the_mean_are_no_harm_though_they_were_off_at_promotion(error):
    random = np.random.default_rng(7)
    kept = harm.promised(blocks(random, 60, error), None)
    low, high = kept.errors
    assert low < 0 < high and low < error < high
    assert harm.of(blocks(random, 120), kept).mean(axis=1).max() < 7 * 104


def test_where_nothing_is_promised_there_is_no_evidence():
    assert not harm.of(np.ones((5, 2)), harm.promised(np.zeros((0, 2)), None)).any()
