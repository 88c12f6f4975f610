"""Plots: every figure is labelled, for both tasks, and drawing one leaves no trace in matplotlib."""

import datetime
import itertools

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from IPython.core.pylabtools import print_figure
from matplotlib.figure import Figure

from Codes.comparison import leaderboard, verdict
from Codes.figures import course, panels, plots
from Codes.gate.report import Report
from Codes.ground.errors import WorkbookError
from Codes.modeling import evaluation, models
from Codes.problems import data, overview, problem
from Codes.testing.known_runs import measured, question, table as runs_of
from Codes.testing.testbed import write_problem

CANCER = problem.load("breast_cancer")
DIABETES = problem.load("diabetes")
WINE = CANCER.model_copy(
    update={
        "positive": None,
        "source": problem.Source(sklearn="wine"),
        "contract": {},
        "columns": {},
    }
)
APART = 10  # of CIELAB's distance: a just noticeable difference is 2.3 (Mahy et al. 1994)
EVERY = pytest.mark.parametrize(
    "which", [CANCER, DIABETES, WINE], ids=["binary", "regression", "several"]
)


def scored(which):
    """Predictions of a linear model on a problem's hold-out."""
    train, test = data.split(data.load(which), which)
    X = data.features(train, which)
    pipeline = models.build(which, X, "linear").fit(X, data.target(train, which))
    return evaluation.predictions(pipeline, data.features(test, which), data.target(test, which))


def timed():
    """A table of two years with a time column, and its problem."""
    random = np.random.default_rng(0)
    frame = data.load(DIABETES).assign(when=pd.Timestamp("2013-01-01"))
    frame["when"] += pd.to_timedelta(random.integers(0, 365, len(frame)), "D")
    return frame, DIABETES.model_copy(update={"time": "when"})


def labelled(figure):
    """Has every pair of axes that shows something a title or labels?"""
    shown = [axes for axes in figure.axes if axes.axison]
    return shown and all(
        a.get_title(loc="left") or a.get_title() or a.get_xlabel() or a.get_ylabel() for a in shown
    )


@EVERY
def test_predictions_are_drawn_for_every_task(which):
    table = scored(which)
    assert labelled(plots.ranking(which, table)) and labelled(plots.errors(which, table))


@EVERY
def test_the_table_is_drawn_for_every_task(which):
    frame = data.load(which)
    columns = data.features(frame, which).columns
    assert labelled(plots.target(frame, which))
    assert labelled(plots.distributions(frame, which, columns))


def test_time_is_drawn_where_there_is_one_and_said_where_there_is_none():
    frame, which = timed()
    assert labelled(plots.through_time(frame, which)) and labelled(
        plots.drift(frame, which, ["age", "sex"])
    )
    silent = plots.through_time(data.load(DIABETES), DIABETES)
    assert "no time column" in silent.axes[0].texts[0].get_text()


def test_an_empty_column_or_one_of_words_is_drawn():
    frame = data.load(CANCER).assign(empty=np.nan, word=None)
    assert plots.distributions(frame, CANCER, ["empty", "word"])


def test_runs_are_drawn_even_where_there_are_none():
    scores = measured([0.7, 0.6], np.random.default_rng(0))
    runs = runs_of(scores, model=["hgb", "linear"], train=[0.9, 0.6])
    table = leaderboard.frame(verdict.choose(question(), runs))
    found = leaderboard.finding(verdict.choose(question(), runs))
    assert "hgb learned most by heart: 0.9 on the rows it learned from" in found
    for drawn in (plots.leaderboard, plots.train_against_validation):
        assert labelled(drawn(table, "roc_auc"))
        assert "no" in drawn(table.head(0), "roc_auc").axes[0].texts[0].get_text()


def test_what_runs_cost_is_drawn_by_its_numbers_and_what_one_did_not_log_is_left_open():
    scores = measured([0.7, 0.6], np.random.default_rng(0))
    costs = {"fit_seconds": [40.0, np.nan], "row_ms": [8.0, 7.0], "row_ms_of_1000": [0.2, np.nan]}
    runs = runs_of(scores, model=["torch", "linear"], model_kb=[450.0, 5.0], **costs)
    table = leaderboard.frame(verdict.choose(question(), runs))
    figure = plots.expenses(table)
    shown = [{t.get_text() for t in axes.texts} for axes in figure.axes]
    assert labelled(figure) and shown == [{"40"}, {"450", "5"}, {"8", "7", "0.2"}]
    silent = plots.expenses(table.assign(fit_seconds=np.nan, row_ms=np.nan))
    assert "no runs" in silent.axes[0].texts[0].get_text()


def test_drawing_keeps_the_settings_and_leaves_no_open_figure():
    before = dict(matplotlib.rcParams)
    plots.flow()
    assert dict(matplotlib.rcParams) == before and not plt.get_fignums()


# what a colour looks like without one kind of cones (Machado, Oliveira and Fernandes 2009, severity 1)
SEEN = {
    "by all": np.eye(3),
    "without red": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "without green": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "without blue": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
# what stands for different things in one figure, by colour
TOGETHER = {
    "curves": panels.CYCLE,
    "the two classes": [panels.HIT, panels.MISS],
    "model and baseline": [panels.MODEL, panels.BASELINE],
    "the gate": [panels.GREEN, panels.RED],
    "slices": [panels.MODEL, panels.HIT],
    "windows": list(course.COLORS.values()),
}


@pytest.mark.parametrize(
    "other, called", [("champion", "one in production"), ("baseline", "baseline")]
)
def test_the_gates_slices_stand_beside_what_they_are_held_against(other, called):
    row = {"column": "shop", "rows": 500, "candidate": 0.7, other: 0.5, "low": 0.1, "high": 0.3}
    slices = pd.DataFrame([row | {"value": "b", "difference": 0.2}])
    metrics = pd.DataFrame({"metric": ["roc_auc"], "difference": [0.25]})
    figure = plots.gate(Report((), metrics, slices), "roc_auc")
    right = figure.axes[-1]
    assert f"better than the {called}" in right.get_xlabel()
    left, end = right.get_xlim()
    assert left < 0 and end > 0.3, "nothing and the whole interval are in sight"
    told = f"least good slice is shop b: roc_auc 0.7, better than the {called} by 0.2"
    assert told in " ".join(figure.get_suptitle().split())


def in_lab(color, matrix):
    """The colour in CIELAB (D65), as it is seen through `matrix`."""
    rgb = np.array(matplotlib.colors.to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = XYZ @ np.clip(matrix @ linear, 0, 1) / (XYZ @ np.ones(3))
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("which", TOGETHER)
def test_colours_that_mean_different_things_are_told_apart_by_the_colour_blind(which):
    for seen, matrix in SEEN.items():
        colors = [in_lab(color, matrix) for color in TOGETHER[which]]
        nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(colors, 2))
        assert nearest > APART, (seen, nearest)


def test_a_figure_says_what_it_shows_to_who_cannot_see_it():
    formatter = DisplayFormatter(active_types=["image/png", "text/plain"])
    formatter.formatters["image/png"].for_type(Figure, print_figure)
    figure = plots.ranking(CANCER, scored(CANCER))
    data_, metadata = formatter.format(figure)
    assert data_["image/png"], "the picture is matplotlib's own"
    text = metadata["image/png"]["alt"]
    assert text.startswith("A row that is malignant is put above another")
    assert "ROC: true positive rate over false positive rate." in text
    assert plots.drift(data.load(CANCER), CANCER, []).axes, "without time it says so"
    _, silent = formatter.format(plots.through_time(data.load(CANCER), CANCER))
    assert silent["image/png"]["alt"].startswith("breast_cancer has no time column")


def test_a_column_is_called_as_the_problems_file_says_with_its_unit():
    frame = data.load(DIABETES)
    figure = plots.distributions(frame, DIABETES, ["bmi", "s5"])
    assert [a.get_title(loc="left") for a in figure.axes] == ["body mass index", "triglycerides"]
    assert (
        figure.axes[0].get_xlabel() == "kg/m²"
        and "progression" in plots.target(frame, DIABETES).axes[0].get_xlabel()
    )


def test_a_sweep_is_drawn_over_numbers_and_words_and_said_where_there_is_none():
    table = pd.DataFrame({"trial": range(3), "score": [0.5, 0.7, 0.6], "run_id": list("abc")})
    empty = plots.sweep(table.head(0), "roc_auc")
    assert "no sweep" in empty.axes[0].texts[0].get_text()
    table = table.assign(rate=[0.001, 0.01, 0.1], deep=[True, False, True], model=["a", None, "c"])
    figure = plots.sweep(table, "roc_auc")
    assert labelled(figure) and figure.axes[1].get_xscale() == "log"
    best = {
        way: plots.sweep(table, "roc_auc", way).axes[0].lines[0].get_ydata()
        for way in ("maximize", "minimize")
    }
    assert list(best["maximize"]) == [0.5, 0.7, 0.7, 0.7] and set(best["minimize"]) == {0.5}


REFUSED = {
    "infinities": ({"x": [np.inf, 1.0, -np.inf, 2.0] * 15}, {}, "infinite"),
    "only infinities": ({"x": np.inf}, {}, "infinite"),
    "an infinite target": ({"y": [np.inf, 1.0, 2.0, 3.0] * 15}, {"task": "regression"}, "finite"),
    "a target of text": ({}, {"task": "regression"}, "finite"),
    "one class": ({"y": "yes"}, {}, "always yes"),
    "another positive class": ({}, {"positive": "maybe"}, "not in the target"),
    "decimal commas": ({"x": ["0,1", "0,2"] * 30}, {}, "read as text"),
    "times in words": ({"day": ["1st of May", "2nd"] * 30}, {}, "is text"),
    "words as numbers": ({}, {"roles": {"k": "numeric"}}, "role numeric"),
    "no target": ({"y": None}, {}, "no value"),
}


@pytest.mark.parametrize("columns, fields, reason", REFUSED.values(), ids=REFUSED)
def test_what_training_refuses_can_be_looked_at_and_drawn(tmp_path, columns, fields, reason):
    days = pd.date_range("2024-01-01", periods=60).astype(str)
    frame = pd.DataFrame({"x": np.arange(60) / 7, "k": ["a", "b"] * 30, "day": days})
    frame = frame.assign(**{"y": ["no", "yes"] * 30} | columns)
    frame.to_csv(tmp_path / "t.csv", index=False)
    which = problem.load(write_problem(tmp_path, "t", "y", **{"time": "day"} | fields))
    with pytest.raises(WorkbookError, match=reason):
        data.load(which)

    seen = data.look(which)
    features = data.features(seen, which).columns
    odd = overview.troubles(which)
    assert odd[odd.refused].what.str.contains(reason).any()
    assert list(overview.columns(seen, which).column) == list(frame)
    assert overview.finding(seen, which).startswith(f"- {len(seen)} rows were looked at; ")
    assert plots.target(seen, which) and plots.through_time(seen, which)
    assert plots.distributions(seen, which, features) and plots.drift(seen, which, features)


def test_a_table_that_cannot_be_split_is_refused_with_all_that_is_wrong(tmp_path):
    frame = pd.DataFrame(
        {"x": [np.inf, 1.0] * 30, "day": ["one", "two"] * 30, "y": ["a", "b"] * 30}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    days = {"kind": "time", "cutoff": datetime.date(2024, 2, 1)}
    which = problem.load(write_problem(tmp_path, "t", "y", time="day", split=days))
    with pytest.raises(WorkbookError, match="is text.*infinite"):
        data.look(which)
