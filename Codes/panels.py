"""The style of every plot, in one place, and what is drawn on a single pair of axes."""

import functools
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import FancyArrowPatch
from sklearn import metrics
from sklearn.calibration import calibration_curve

from Codes import data

# Okabe and Ito's colours, which colour-blind people can tell apart; each means one thing everywhere.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
GREY, INK = "#9AA0A6", "#2B2F33"
CYCLE = [BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", RED, "#F0E442", GREY]
MODEL, BASELINE, HIT, MISS = BLUE, GREY, ORANGE, BLUE
STYLE = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.prop_cycle": plt.cycler(color=CYCLE),
    "grid.color": "#E6E8EA",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "xtick.color": INK,
    "ytick.color": INK,
}


def styled(plot):
    """Draw in STYLE, without touching anybody's settings, and close: a notebook shows it once."""

    @functools.wraps(plot)
    def drawn(*args, **kwargs):
        with plt.rc_context(STYLE):
            figure = plot(*args, **kwargs)
            plt.close(figure)
        return figure

    return drawn


def arrow(start, end, bend="arc3"):
    """An arrow from `start` to `end`."""
    return FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=14, color=INK, connectionstyle=bend
    )


def one_against_rest(problem, table):
    """(label, is it that class, its score) for each class to be drawn: of two, the positive one."""
    columns = table.filter(regex="^(probability|score) of ").columns
    labels = {column.partition(" of ")[2]: column for column in columns}
    if len(labels) == 2:
        wanted = list(labels)[-1] if problem.positive is None else str(problem.positive)
        labels = {wanted: labels[wanted]}
    actual = table.actual.astype(str)
    return [
        (called(problem, label), (actual == label).to_numpy(), table[column].to_numpy())
        for label, column in labels.items()
        if (actual == label).any()
    ]


def calibration(axes, problem, table):
    """Of those given a probability of p, does a share of p come true? Ten bins of equal size."""
    drawn = [
        part for part in one_against_rest(problem, table) if ((part[2] >= 0) & (part[2] <= 1)).all()
    ]
    for label, hit, score in drawn:
        came, said = calibration_curve(hit, score, n_bins=10, strategy="quantile")
        axes.plot(said, came, marker="o", label=label)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfect")
    axes.set(title="Calibration", xlabel="predicted probability", ylabel="observed share")
    axes.legend(loc="upper left")


def confusion(axes, table):
    """Counts of actual against predicted, coloured by the share of the actual class."""
    labels = sorted(set(table.actual) | set(table.predicted), key=str)
    counts = metrics.confusion_matrix(table.actual, table.predicted, labels=labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.5 else INK
        text = f"{count:,}\n{shares[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=color)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(title="Confusion (share of the actual class)", xlabel="predicted", ylabel="actual")
    axes.grid(False)


def amounts(problem, table):
    """Predicted against actual amounts."""
    figure, axes = plt.subplots(figsize=(5, 4.5))
    few = table.sample(min(len(table), 5000), random_state=0)
    axes.scatter(few.predicted, few.actual, s=16, alpha=0.5, color=MODEL, edgecolor="none")
    ends = [table[["actual", "predicted"]].min().min(), table[["actual", "predicted"]].max().max()]
    axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1, label="perfect")
    axes.set(
        title="Predicted against actual", xlabel="predicted", ylabel=f"actual {problem.target}"
    )
    axes.legend()
    return figure


def residuals(left, right, table):
    """Residuals against predictions, and their distribution."""
    residual = table.actual - table.predicted
    few = residual.sample(min(len(table), 5000), random_state=0)
    left.scatter(table.predicted[few.index], few, s=16, alpha=0.5, color=MODEL, edgecolor="none")
    left.axhline(0, color=GREY, linestyle="--", linewidth=1)
    left.set(title="Residuals", xlabel="predicted", ylabel="actual − predicted")
    right.hist(residual, bins=30, color=MODEL)
    right.axvline(residual.mean(), color=INK, linestyle="--", label=f"mean {residual.mean():.3g}")
    right.set(title="Their distribution", xlabel="actual − predicted", ylabel="rows")
    right.legend()


def is_words(values, problem):
    """Does the column hold categories, or yes and no, rather than amounts?"""
    return "categorical" in (problem.roles.get(values.name), data.role_by_type(values))


def called(problem, label):
    """A class's label for people: 'malignant', but 'late = True'."""
    text = str(label)
    return (
        text if text.isalpha() and text not in ("True", "False") else f"{problem.target} = {text}"
    )


def groups(frame, problem):
    """(label, mask, colour) of the rows to compare: the two classes, or all rows."""
    labels = (
        sorted(frame[problem.target].unique(), key=str) if problem.task == "classification" else []
    )
    if len(labels) != 2:
        return [("all", pd.Series(True, frame.index), MODEL)]
    hit = labels[-1] if problem.positive is None else problem.positive
    other = next(label for label in labels if label != hit)
    return [
        (called(problem, l), frame[problem.target] == l, c) for l, c in ((other, MISS), (hit, HIT))
    ]


def histogram(axes, column, parts):
    """Histograms on common bins, between the 0.5 and 99.5 percentiles of all values."""
    values = pd.concat([part for _, part, _ in parts]).dropna()
    axes.set_xlabel("")
    if values.empty:
        axes.text(0.5, 0.5, f"{column}: no values", ha="center", transform=axes.transAxes)
        return
    bins = np.histogram_bin_edges(values.clip(*values.quantile([0.005, 0.995])), bins=25)
    for label, part, color in parts:
        weights = np.full(part.count(), 1 / max(part.count(), 1))
        shown = part.dropna().clip(bins[0], bins[-1])
        axes.hist(shown, bins, weights=weights, histtype="step", color=color, label=label)
        axes.hist(shown, bins, weights=weights, color=color, alpha=0.25)


def bars(axes, _, parts):
    """Bars of the commonest six values."""
    common = pd.concat([part for _, part, _ in parts]).value_counts().index[:6]
    for i, (label, part, color) in enumerate(parts):
        shares = part.value_counts(normalize=True).reindex(common)
        place = np.arange(len(common)) + (i - (len(parts) - 1) / 2) * 0.4
        axes.bar(place, shares, 0.8 / len(parts), color=color, alpha=0.7, label=label)
    labels = [textwrap.shorten(str(value), 12, placeholder="…") for value in common]
    axes.set_xticks(
        range(len(common)), labels, rotation=30 if max(map(len, labels), default=0) > 4 else 0
    )


def averaged(frame, problem):
    """(what is averaged, the values): the target, or whether it is the positive class."""
    values = frame[problem.target]
    if problem.task == "regression":
        return f"mean {problem.target}", values
    hit = sorted(values.unique(), key=str)[-1] if problem.positive is None else problem.positive
    return f"share of {called(problem, hit)}", (values == hit).astype(float)


def months(frame, problem):
    """The month of each row, as text; ten equal stretches where time is a plain number."""
    time = frame[problem.time]
    if pd.api.types.is_datetime64_any_dtype(time):
        return time.dt.strftime("%Y-%m")
    return pd.cut(time, 10).astype(str)


def as_numbers(values, problem):
    """(name, numbers) of a column: itself, or whether it is its commonest value."""
    if not is_words(values, problem):
        return values.name, values.astype(float)
    common = values.mode().iloc[0] if values.notna().any() else None
    return f"{values.name} = {common}", (values == common).astype(float)


def scores_over(axes, values, scores, order):
    """A dot a trial: `scores` over the `values` of one parameter, the darker the later in `order`."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.isna().any() or values.map(type).eq(bool).any():
        values = values.map(lambda v: textwrap.shorten(str(v), 18))
    else:
        values = numbers
        if values.min() > 0 and values.max() > 20 * values.min():
            axes.set_xscale("log")
    axes.scatter(values, scores, c=order, cmap="Blues", s=22, edgecolor=MODEL, linewidth=0.6)
    axes.set(title=values.name, xlabel=f"{values.name} (darker: later)")


def nothing(why):
    """A flat figure that says `why` there is nothing to draw."""
    figure, axes = plt.subplots(figsize=(7, 0.6))
    axes.text(0.5, 0.5, why, ha="center", va="center", style="italic")
    axes.set_axis_off()
    return figure
