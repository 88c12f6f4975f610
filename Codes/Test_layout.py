"""Every plot, with tables that people have: it warns of nothing, and nothing collides, collapses or sticks out."""

import itertools
import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from Codes.comparison import leaderboard as boards, verdict
from Codes.figures import panels, plots
from Codes.gate.report import Check, Report
from Codes.ground import labels as labels_
from Codes.problems import problem
from Codes.testing.cases import sampled
from Codes.testing.known_runs import measured, question, table as runs_of

CANCER, DIABETES = problem.load("breast_cancer"), problem.load("diabetes")
PATH = "own_package.estimators.of_the_third_floor.GradientBoostedCalibratedRegressor"
LONG = "an extraordinarily long name of a column, with $dollars$ and 100 % of everything_in_it"
RANDOM = np.random.default_rng(0)


def check(figure):
    """Draw `figure` and look at it as a reader would."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FigureCanvasAgg(figure).draw()
    texts = set(figure.findobj(matplotlib.text.Text))
    for axes in figure.axes:
        shown = figure.bbox.width / columns_of(axes)
        if axes.axison and axes.get_label() != "<colorbar>":
            assert axes.bbox.width > 0.4 * shown and axes.bbox.height > 30, "collapsed"
        for axis in (axes.xaxis, axes.yaxis):
            texts -= {
                label for t in axis.majorTicks + axis.minorTicks for label in t.get_children()
            }
            labels = tick_labels(axis) if axes.axison else []
            texts |= set(labels)
            assert not (both := colliding(labels)), both
            if not axes.axison:
                texts -= {axis.label, axis.offsetText}
    for text in filter(lambda t: t.get_visible() and t.get_text().strip(), texts):
        box, whole = text.get_window_extent(), figure.bbox.padded(2)
        inside = whole.x0 <= box.x0 and box.x1 <= whole.x1
        assert inside and whole.y0 <= box.y0 and box.y1 <= whole.y1, text.get_text()
    return figure


def columns_of(axes):
    """How many axes stand side by side."""
    spec = axes.get_subplotspec()
    return spec.get_gridspec().ncols if spec else 1


def tick_labels(axis):
    """The labels of the ticks that lie within what `axis` shows."""
    low, high = sorted(axis.get_view_interval())
    room = 1e-6 * (high - low)
    places = [*axis.get_majorticklocs(), *axis.get_minorticklocs()]
    labels = [*axis.get_majorticklabels(), *axis.get_minorticklabels()]
    return [t for p, t in zip(places, labels) if low - room <= p <= high + room and t.get_text()]


def colliding(labels):
    """The first two of `labels` that overlap."""
    boxes = [(t.get_text(), t.get_window_extent().padded(-0.5)) for t in labels if t.get_visible()]
    neighbours = itertools.pairwise(boxes)
    return next(((a, b) for (a, x), (b, y) in neighbours if x.overlaps(y)), None)


def classified(classes, rows=400, name="class {}"):
    """(a problem, predictions) of a classifier of so many `classes`."""
    labels = [name.format(i) for i in range(classes)]
    actual = RANDOM.choice(labels, rows)
    scores = RANDOM.dirichlet(np.ones(classes), rows)
    table = pd.DataFrame(scores, columns=[f"probability of {label}" for label in labels])
    table.insert(0, "actual", actual)
    table.insert(1, "predicted", RANDOM.choice(labels, rows))
    return CANCER.model_copy(update={"positive": None}), table


WHICH, THREE = classified(3)
PREDICTIONS = {
    "one class": classified(1),
    "two classes": classified(2),
    "40 classes": classified(40),
    "long names": classified(9, name="{} " + LONG),
    "3 rows": classified(3, rows=3),
    "scores": (WHICH, THREE.rename(columns=lambda c: c.replace("probability", "score"))),
    "neither": (WHICH, THREE[["actual", "predicted"]]),
    "a gap": (WHICH, THREE.mask(THREE.index.to_series() == 3, np.nan)),
}
AMOUNTS = {
    "amounts": RANDOM.normal(size=300),
    "huge": RANDOM.normal(size=300) * -1e300 * 1e5,
    "constant": np.full(300, 1e17),
    "whole": RANDOM.integers(0, 7, 300),
    "one row": np.array([3.0]),
    "no rows": np.array([]),
}
for kind, numbers in AMOUNTS.items():
    PREDICTIONS[kind] = DIABETES, pd.DataFrame({"actual": numbers, "predicted": numbers * 0.9})


@pytest.mark.parametrize(
    "case", sampled(PREDICTIONS, "40 classes", "3 rows", "long names", "amounts")
)
def test_predictions(case):
    which, table = PREDICTIONS[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(plots.ranking(which, table))
        check(plots.errors(which, table))


def columns():
    """A table with a column of each kind that people have."""
    size = 700
    return pd.DataFrame(
        {
            "weekday": RANDOM.integers(1, 8, size),
            "size": pd.Categorical(
                RANDOM.choice(["S", "M", "L", "XL"], size), ["S", "M", "L", "XL"], ordered=True
            ),
            "minute": RANDOM.integers(0, 1440, size),
            "speed": RANDOM.integers(0, 30, size) * 1.15078,
            "far": np.append(RANDOM.normal(size=size - 1), 1e12),
            "huge": RANDOM.normal(size=size) * -1e200,
            "constant": 7.25,
            "empty": np.nan,
            "infinite": np.where(RANDOM.random(size) < 0.1, np.inf, RANDOM.random(size)),
            "gaps": pd.Series(RANDOM.choice(["yes", None], size)),
            LONG: RANDOM.choice([f"{LONG} {i}" for i in range(30)], size),
            "day": pd.Timestamp("2013-01-01", tz="UTC")
            + pd.to_timedelta(RANDOM.integers(0, 4000, size), "D"),
            "nullable": pd.Series(RANDOM.choice([True, False, None], size), dtype="boolean"),
            "target": RANDOM.choice(["malignant", "benign"], size),
        }
    )


TABLE = columns()
MANY = pd.DataFrame(RANDOM.normal(size=(50, 300))).rename(columns=lambda i: f"{LONG} {i}")
FRAMES = {
    "each kind": TABLE,
    "3 rows": TABLE.head(3),
    "no rows": TABLE.head(0),
    "one class": TABLE.assign(target="benign"),
    "no target": TABLE.assign(target=None),
    "one column": TABLE[["speed", "target"]],
    "two columns": TABLE[["gaps", "weekday", "target"]],
    "300 columns": MANY.assign(target="benign"),
    "no columns": TABLE[["target"]],
    "40 classes": TABLE.assign(target=[f"{LONG} {i % 40}" for i in range(len(TABLE))]),
}


@pytest.mark.parametrize("case", sampled(FRAMES, "each kind", "no rows", "40 classes"))
def test_a_table(case):
    frame = FRAMES[case]
    which = CANCER.model_copy(update={"roles": {"weekday": "categorical"}})
    features = frame.columns.drop("target")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(plots.distributions(frame, which, features[:8]))
        check(plots.distributions(frame, which, features))
        check(plots.target(frame, which))


@pytest.mark.parametrize(
    "values", sampled(["weekday", "minute", "speed", "far", "huge", "infinite"], "minute", "far")
)
def test_an_amount_that_is_predicted(values):
    which = DIABETES.model_copy(update={"target": values, "title": f"How much is {LONG}? {LONG}"})
    check(plots.target(TABLE, which))


DAYS = {
    "a day": pd.to_timedelta(RANDOM.integers(0, 86400, 700), "s"),
    "a year": pd.to_timedelta(RANDOM.integers(0, 365, 700), "D"),
    "three years": pd.to_timedelta(RANDOM.integers(0, 1095, 700), "D"),
    "30 years": pd.to_timedelta(RANDOM.integers(0, 10950, 700), "D"),
}
TIMES = {name: pd.Timestamp("1990-01-01", tz="UTC") + days for name, days in DAYS.items()} | {
    "a number": RANDOM.normal(1e9, 1, 700),
    "one number": np.full(700, 3),
    "gaps": pd.Series(pd.NaT, TABLE.index),
}


@pytest.mark.parametrize("case", sampled(TIMES, "a year", "gaps"))
def test_time(case):
    frame = TABLE.assign(when=TIMES[case])
    which = CANCER.model_copy(update={"time": "when", "roles": {"weekday": "categorical"}})
    features = TABLE.columns.drop(["target", "infinite"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(plots.through_time(frame, which))
        check(plots.drift(frame, which, features))
        check(plots.drift(frame, which, ["weekday"]))
        check(plots.drift(frame, which, ["constant", "empty"]))


def board(count, trial=False, **values):
    """A board of so many runs, as a sweep over long names with all digits of its numbers makes them."""
    truth = RANDOM.uniform(0.6, 0.9, count) * values.get("scale", 1)
    scores = measured(truth, RANDOM, rows=100) if count else []
    given = {
        "model": [PATH if i % 2 else f"pack{i}.hgb" for i in range(count)],
        "hyperparameters": [
            f'{{"learning_rate": 0.0{i}570183927465182, "early_stopping": false, "max_leaf_nodes": 47}}'
            for i in range(count)
        ],
        "trial": [str(i) if trial else None for i in range(count)],
        "train": values.get("train", RANDOM.uniform(0.6, 0.9, count)),
        "fit_seconds": 10 ** RANDOM.uniform(-3, 5, count),
        "row_ms": 10 ** RANDOM.uniform(0, 2, count),
        "row_ms_of_1000": 10 ** RANDOM.uniform(-4, 1, count),
    }
    frame = boards.frame(verdict.choose(question(), runs_of(scores, **given)))
    return frame.assign(**values.get("instead", {}))


BOARDS = {
    "none": board(0),
    "one": board(1),
    "40": board(40),
    "200 trials": board(200, trial=True),
    "no intervals": board(
        6, instead={"score_reach": np.nan, "behind_reach": np.nan, "train": np.nan}
    ),
    "no scores": board(6, instead={"score": np.nan, "score_reach": np.nan, "behind": np.nan}),
    "far": board(6, scale=np.array([1, 1, 1, 1, 1, -1e4])),
    "huge": board(6, scale=1e250),
}


@pytest.mark.parametrize("case", sampled(BOARDS, "none", "40", "200 trials"))
def test_runs(case):
    check(plots.leaderboard(BOARDS[case], "neg_root_mean_squared_log_error"))
    check(plots.train_against_validation(BOARDS[case], "neg_root_mean_squared_log_error"))
    check(plots.expenses(BOARDS[case]))


def test_of_200_trials_the_best_the_taken_and_the_last_are_shown_by_their_numbers():
    frame = BOARDS["200 trials"]
    figure = plots.leaderboard(frame, "roc_auc")
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    names = frame.name.map(labels_.drawn)
    assert 12 < len(labels) <= plots.MOST + 4 and names.iloc[-1] in labels
    assert all("trial" in label for label in labels)
    assert names[frame.mark == boards.TAKEN].isin(labels).all()


SWEPT = {
    "rate": 10 ** RANDOM.uniform(-5, 0, 40),
    "near": RANDOM.uniform(2, 5, 40) ** 4,
    "leaves": RANDOM.integers(2, 2000, 40),
    "fine": 1 + RANDOM.random(40) * 1e-9,
    "below": -(10 ** RANDOM.uniform(0, 9, 40)),
    "deep": RANDOM.choice([True, False], 40),
    "model": RANDOM.choice([PATH, "hgb", None], 40),
    "words": [f"{PATH}.{i}" for i in range(40)],
    f"hyperparameters.{LONG}": RANDOM.random(40),
    "same": 3,
}


@pytest.mark.parametrize("count, more", sampled([(0, 0), (1, 0), (3, 0), (40, 30)], 0, 40))
def test_a_sweep(count, more):
    table = pd.DataFrame({"trial": range(40), "score": RANDOM.random(40), "run_id": "0"} | SWEPT)
    for i in range(more):
        table[f"more {i}"] = RANDOM.random(40)
    check(plots.sweep(table.head(count), "neg_root_mean_squared_log_error", "minimize"))
    check(plots.sweep(table[["trial", "score", "run_id"]].head(count), "roc_auc"))


@pytest.mark.parametrize("count", sampled([0, 1, 3, 300], 1, 300))
def test_importances(count):
    names = [f"{i} {LONG}" for i in range(count)]
    table = pd.DataFrame({"mean": RANDOM.random(count), "std": 0.01}, index=names)
    check(plots.importances(table.assign(std=np.nan if count == 1 else 0.1), CANCER))


@pytest.mark.parametrize(
    "low, high", sampled([(3.1, 4.5), (0.4, 80), (0.001, 90_000), (0, 0), (5, 5)], 0.001, 5)
)
def test_latencies(low, high):
    times = pd.Series(RANDOM.uniform(low, high, 500), name="16 clients at once")
    check(plots.latencies([times, times.head(1), times.head(0)], "1,000 rows"))
    check(plots.latencies([times.head(0)], "none"))


@pytest.mark.parametrize(
    "slices, other",
    sampled(
        [(0, "champion"), (1, "champion"), (60, "champion"), (60, "baseline")], 1, (60, "baseline")
    ),
)
def test_the_gate(slices, other):
    checks = [Check(f"{LONG} {i}", bool(i % 2), f"{LONG}, {LONG}", LONG) for i in range(12)]
    values = {"column": LONG, "value": "UA", "candidate": 0.5, other: 0.5}
    table = pd.DataFrame(values, index=range(slices))
    table["difference"] = RANDOM.normal(size=slices)
    table = table.assign(low=table.difference - 1, high=table.difference + 1)
    metrics = pd.DataFrame({"metric": ["roc_auc"], "difference": [0.1]})
    for some in (checks, checks[:1]):
        check(plots.gate(Report(tuple(some), metrics, table), "roc_auc"))
    check(plots.gate(None, "roc_auc"))


@pytest.mark.parametrize("count", [1, 40])
def test_the_course_of_a_network(count):
    losses = np.linspace(1, 0.2, count)
    course = pd.DataFrame({"loss": losses, "loss_train": losses / 2, "a_long_metric" * 4: losses})
    course.index += 1
    course.attrs["best"] = count
    for metric in ("a_long_metric" * 4, "one that is not there"):
        check(plots.epochs(course, metric))


def test_the_flow():
    check(plots.flow())


# --- what a picture says is what there is


def test_each_value_of_an_ordered_column_has_its_bar_in_its_place():
    frame = TABLE.assign(size=TABLE["size"].cat.reorder_categories(["XL", "L", "M", "S"]))
    which = CANCER.model_copy(update={"roles": {"weekday": "categorical"}})
    names = plots.distributions(frame, which, ["weekday", "size"]).axes
    ticks = [[t.get_text() for t in axes.get_xticklabels()] for axes in names[:2]]
    assert ticks == [list("1234567"), ["XL", "L", "M", "S"]]


def test_bars_are_whole_rare_values_are_taken_together():
    values = pd.Series([f"{i:02}" for i in range(30)] * 2)
    shown, rest = panels.common_values(values)
    assert len(shown) == panels.VALUES - 1 and rest == 30 - len(shown)


@pytest.mark.parametrize("step", [1, 10, 0.5, 1.15078])
@pytest.mark.parametrize("count", [2, 7, 31, 60, 365])
def test_bins_of_values_on_a_grid_hold_equally_many_of_them(step, count):
    values = np.arange(count) * step - 3
    heights, _ = np.histogram(values, panels.edges(values))
    assert heights.sum() == count and len(set(heights[:-1])) <= 1 and len(heights) <= panels.BINS
    assert heights[-1] >= heights[0] / 2


def test_values_that_are_not_drawn_are_told():
    parts = [("all", pd.Series([*RANDOM.normal(size=990), *[1e6] * 3, *[None] * 7]), "k")]
    figure, axes = matplotlib.pyplot.subplots()
    panels.histogram(axes, parts)
    matplotlib.pyplot.close(figure)
    assert "0.7% missing" in axes.get_xlabel() and "farther out" in axes.get_xlabel()


def test_a_curve_begins_where_the_model_begins():
    table = pd.DataFrame(
        {
            "actual": list("nyny"),
            "predicted": "y",
            "probability of n": [0.1, 0.2, 0.3, 0.4],
            "probability of y": [0.9, 0.8, 0.7, 0.6],
        }
    )
    curve = plots.ranking(CANCER.model_copy(update={"positive": "y"}), table).axes[1].lines[0]
    assert curve.get_ydata()[-1] == 0  # the surest row is wrong; scikit-learn's own point says 1


def test_of_many_classes_it_is_said_which_are_drawn():
    which, table = classified(40)
    assert "8 commonest of 40" in plots.ranking(which, table).axes[0].get_title(loc="left")
    confusion = plots.errors(which, table).axes[1]
    assert panels.OTHERS in [t.get_text() for t in confusion.get_xticklabels()]
