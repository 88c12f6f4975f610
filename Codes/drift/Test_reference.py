"""What a reference of few windows can say, and what it cannot."""

# pylint: disable=missing-function-docstring

import numpy as np
import pandas as pd
import pytest

from Codes.drift import calibration, joint
from Codes.drift.judge import Policy
from Codes.drift.reference import Profile, Reference
from Codes.problems import problem as problems

ROWS, COLUMNS = 120, 12


def table(random, rows):
    return pd.DataFrame(random.normal(size=(rows, COLUMNS))).add_prefix("c")


@pytest.mark.parametrize("weeks, alarms", [(6, False), (20, True)])
def test_a_reference_of_fewer_windows_than_the_budget_needs_gives_no_alarm_and_says_what_would(
    weeks, alarms
):
    random, flights = np.random.default_rng(weeks), problems.load("flights")
    days = np.sort(random.uniform(0, 7 * weeks, weeks * ROWS))
    times = pd.Series(pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(days, unit="D"))
    nothing = np.zeros((2, 2))
    reference = Reference(
        flights, table(random, len(days)), times, frozenset(), nothing, nothing, 1.0, pd.NaT
    )
    policy = Policy.of(flights, "7d", weeks)
    profile = Profile(reference)
    assert len(profile.windows) == weeks, "none overlap"

    def is_strange(frame):
        effects, among = profile.effects(frame), profile.among(ROWS)
        drift = calibration.of(effects, profile.names, policy.least, among)
        return drift.is_strange(policy.level, policy.least)

    moved = [is_strange(table(random, ROWS) + 3) for _ in range(5)]
    quiet = [is_strange(table(random, ROWS)) for _ in range(20)]
    assert all(moved) == any(moved) == alarms and sum(quiet) <= 5
    told = "the reference has 6 windows of 7d, which is too few for an alarm by drift"
    assert any(told in note and "`budget: 25`" in note for note in profile.notes) != alarms


@pytest.mark.parametrize("is_asked", [False, True])
def test_a_classifier_tells_windows_apart_only_where_the_problem_asks_for_it(monkeypatch, is_asked):
    problem = problems.load("flights")
    monitoring = problem.monitoring.model_copy(update={"joint": is_asked})
    problem = problem.model_copy(update={"monitoring": monitoring})
    random, asked = np.random.default_rng(0), []
    times = pd.Series(pd.date_range("2024-01-01", periods=8 * ROWS, freq="84min", tz="UTC"))
    nothing = np.zeros((2, 2))
    rows = table(random, len(times))
    profile = Profile(Reference(problem, rows, times, frozenset(), nothing, nothing, 1.0, pd.NaT))
    tell = joint.effect
    monkeypatch.setattr(joint, "effect", lambda *of: asked.append(of) or tell(*of))
    effects, among = profile.effects(table(random, ROWS) + 3), profile.among(ROWS)
    assert effects.shape[1] == among.shape[1] == len(profile.names)
    assert (profile.names[-1] == joint.NAME) == is_asked == bool(asked)
    if is_asked:
        assert effects[-1, -1] > 0.9 > among[:, -1].max()
