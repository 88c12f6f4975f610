"""Which column alone goes with the target: held against what a target in a random order gives."""

import numpy as np
import pandas as pd
import pytest

from Codes.figures import association, plots
from Codes.figures.plots import MOST
from Codes.problems.problem import Metric, Problem, Source, Split

ROWS = 600


def asked(task: str) -> Problem:
    """A problem of the `task`, whose table the tests make."""
    metric = {"regression": ("rmse", "minimize"), "classification": ("accuracy", "maximize")}[task]
    return Problem(
        name="asked",
        title="?",
        task=task,
        source=Source(sklearn="iris"),
        target="y",
        split=Split(kind="random", test_share=0.2),
        metric=Metric(name=metric[0], direction=metric[1]),
    )


def table(y: np.ndarray) -> pd.DataFrame:
    """One column that goes with `y`, and those that cannot: of the rows' own numbers, and of many categories."""
    draw = np.random.default_rng(1)
    size = len(y)
    return pd.DataFrame(
        {
            "ticket": [f"T{i}" for i in range(size)],
            "cabin": draw.integers(0, size // 3, size).astype(str),
            "word": np.where(draw.random(size) < 0.7, pd.qcut(y, 2, labels=False, duplicates="drop"), 2).astype(str),
            "amount": y + draw.normal(0, 0.5 + y.std(), size),
            "noise": draw.normal(size=size),
            "empty": np.nan,
            "y": y,
        }
    )  # fmt: skip


@pytest.mark.parametrize("classes", [2, 3])
def test_a_column_of_many_different_texts_does_not_tell_classes_apart(classes):
    frame = table(np.arange(ROWS) % classes)
    found = association.strengths(frame, asked("classification"), list(frame.columns[:-1]))
    assert found.index[0] in ("word", "amount") and found.real.iloc[0]
    assert not found.real[["ticket", "cabin", "noise"]].any() and "empty" not in found.index
    assert found.value["ticket"] == pytest.approx(found.chance["ticket"])


def test_of_a_regression_categories_count_beside_amounts():
    frame = table(np.random.default_rng(2).normal(size=ROWS))
    frame["word"] = pd.qcut(frame.y, 8, labels=False).map(dict(enumerate("dhbgafce")))
    which = asked("regression")
    found = association.strengths(frame, which, list(frame.columns[:-1]))
    assert found.index[0] == "word" and not found.real[["ticket", "cabin", "noise"]].any()
    said = plots.headlines.distributions(found, frame, which)
    assert said.startswith(
        "Word goes most with the target: the correlation ratio of its ranks is 0.9"
    )


def test_where_no_column_goes_with_the_target_it_is_said():
    frame = table(np.arange(ROWS) % 2)[["ticket", "cabin", "noise", "y"]]
    found = association.strengths(frame, asked("classification"), ["ticket", "cabin", "noise"])
    said = plots.headlines.distributions(found, frame, asked("classification"))
    assert said == "No column alone goes with the target more than chance gives."


def test_of_more_columns_than_fit_those_that_tell_most_are_drawn():
    frame = table(np.arange(ROWS) % 2)
    draw = np.random.default_rng(3)
    noise = pd.DataFrame({f"noise{i}": draw.normal(size=ROWS) for i in range(MOST + 3)})
    frame = pd.concat([noise, frame], axis=1)
    figure = plots.distributions(frame, asked("classification"), list(frame.columns[:-1]))
    drawn = [a.get_title(loc="left") for a in figure.axes]
    assert len(drawn) == MOST and {"word", "amount"} <= set(drawn)
