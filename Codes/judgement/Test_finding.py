"""A run's finding says what its numbers say: what was learned by heart, what the label finds, what it relies on."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from Codes.judgement import finding
from Codes.judgement.scored import HOLD_OUT, Scored
from Codes.problems import problem as problems

FLIGHTS = problems.load("flights")


def scored(score, error=0.01, more=True):
    """A Scored with such a score, whose baseline is 0.5."""
    draws = score + error * np.resize([-1.0, 1.0], 200)
    return Scored("m", more, HOLD_OUT, 100, "d", 0.0, score, 0.5, draws, np.full(200, 0.5))


def test_what_the_score_lacks_of_training_was_learned_by_heart_beyond_its_own_error():
    assert "0.15 of that was learned by heart" in finding.by_heart(scored(0.7), 0.85)
    assert "hardly anything was learned by heart" in finding.by_heart(scored(0.7), 0.71)
    assert "10 of that was learned by heart" in finding.by_heart(scored(30.0, more=False), 20.0)
    assert finding.by_heart(scored(0.7), np.nan) == ""


def test_the_label_is_told_by_what_it_finds_and_by_its_false_alarms():
    table = pd.DataFrame(
        {"actual": [True] * 4 + [False] * 4, "predicted": [True] + [False] * 6 + [True]}
    )
    told = finding.label_of_two(FLIGHTS, table, [False, True])
    assert (
        told
        == "the label finds 25 of 100 that are late = True, and 50 of 100 of its alarms are false"
    )
    never = finding.label_of_two(FLIGHTS, table.assign(predicted=False), [False, True])
    assert never.endswith("0 of 100 that are late = True, since it never says so")


def test_a_finding_is_a_list_of_sentences_and_names_columns_as_people_do():
    table = pd.DataFrame(
        {"actual": ["malignant", "benign"], "predicted": ["malignant", "malignant"]}
    )
    metrics = pd.DataFrame({"train": [0.85]}, index=["roc_auc"])
    validated = SimpleNamespace(
        problem=FLIGHTS.model_copy(update={"positive": "malignant"}),
        scored=scored(0.7),
        table=metrics,
        predictions=table,
        sentence=lambda: "m 0.7",
    )
    relies = pd.DataFrame({"mean": [0.1, 0.001], "std": [0.01, 0.001]}, index=["dewp", "visib"])
    lines = finding.of(validated, relies).splitlines()
    assert lines[0] == "- m 0.7." and lines[-1] == "- It relies most on dew point."
    assert "finds 100 of 100 that are malignant, and 50 of 100" in lines[2]
