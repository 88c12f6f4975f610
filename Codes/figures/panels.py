"""The style of every plot, in one place, and what is drawn on a single pair of axes.

Curves are computed by scikit-learn, and not drawn by its displays: most of what these add (labels, legends, colours,
one model and two classes at a time) would have to be taken off again.
"""

import functools
import textwrap
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Literal

import matplotlib.dates
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from sklearn import metrics
from sklearn.calibration import calibration_curve

from Codes.comparison.leaderboard import CLOSE, TAKEN
from Codes.ground.labels import drawn, number, short
from Codes.judgement.finding import class_name
from Codes.problems import data
from Codes.problems.problem import Problem

# Okabe and Ito's colours, which colour-blind people can tell apart; each means one thing everywhere.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
GREY, INK = "#9AA0A6", "#2B2F33"
# the last is dark: grey and pink look alike to who sees no green
CYCLE = [BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", RED, "#F0E442", INK]
MODEL, BASELINE, HIT, MISS = BLUE, GREY, ORANGE, BLUE
CURVES = len(CYCLE)  # classes that have a curve of their own
CLASSES = 12  # rows of a confusion; the rarer ones are taken together
VALUES = 12  # bars in a panel; the rarer ones are taken together
BINS = 40  # the most in a histogram
OTHERS = "all others"
ALTERNATIVE = 1000  # characters of a figure's alternative text
# some rows to compare with others: what they are called, a column's values or a mask, their colour
Part = tuple[str, pd.Series, str]
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
    "legend.fontsize": 8,
    "lines.linewidth": 1.8,
    "xtick.color": INK,
    "ytick.color": INK,
}


def styled(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in STYLE, without touching anybody's settings, and close: a notebook shows it once.

    Who cannot see it is told by the alternative text of the output (Jupyter's metadata `alt`).
    """

    @functools.wraps(plot)
    def drawn_in_style(*args: Any, **kwargs: Any) -> Figure:
        with plt.rc_context(STYLE):
            figure = plot(*args, **kwargs)
            plt.close(figure)
        metadata = {"image/png": {"alt": alternative(figure)}}
        # IPython asks an object for it, and takes the picture itself from matplotlib's own formatter
        setattr(figure, "_repr_mimebundle_", lambda include=None, exclude=None: ({}, metadata))
        return figure

    return drawn_in_style


def headline(figure: Figure, sentence: str) -> Figure:
    """`figure` with what it says, a `sentence` from its own numbers, above it; as it is where that is empty."""
    if sentence:
        lines = textwrap.wrap(sentence.replace("$", r"\$"), int(12.5 * figure.get_figwidth()))
        figure.set_figheight(figure.get_figheight() + 0.17 * len(lines) + 0.05)
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=9.5, linespacing=1.25)
    return figure


def alternative(figure: Figure) -> str:
    """What `figure` says and shows, in words, for who cannot see it."""
    said = [figure.get_suptitle()] if figure.get_suptitle() else []
    shown = [_shown(axes) for axes in figure.axes if axes.axison]
    words = [text.get_text() for axes in figure.axes if not axes.axison for text in axes.texts]
    parts = [*said, *filter(None, shown), "; ".join(words)]
    text = " ".join(part if part.endswith((".", "?")) else f"{part}." for part in parts if part)
    return " ".join(text.replace(r"\$", "$").split())[:ALTERNATIVE]


def _shown(axes: Axes) -> str:
    """What one pair of axes shows: 'ROC: true positive rate over false positive rate'."""
    x, y = axes.get_xlabel(), axes.get_ylabel()
    over = f"{y} over {x}" if x and y else y or x
    return ": ".join(filter(None, (axes.get_title(loc="left") or axes.get_title(), over)))


def arrow(
    start: tuple[float, float], end: tuple[float, float], bend: str = "arc3"
) -> FancyArrowPatch:
    """An arrow from `start` to `end`."""
    return FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=14, color=INK, connectionstyle=bend
    )


# --- labels and ticks


def name_ticks(
    axis: Axis, places: Iterable[float], texts: Iterable[object], most: int = 40, **how: Any
) -> None:
    """Name the `places` on `axis` (axes.xaxis or .yaxis) by `texts`, each in `most` characters at most."""
    axis.set_ticks(list(places), [drawn(text, most) for text in texts], **how)


def name_ticks_below(axes: Axes, texts: Sequence[object], inches: float, most: int = 12) -> None:
    """Name 0, 1, 2… on the x axis by `texts`, upright where they do not fit beside each other in `inches`.

    Where even upright ones would collide only every second, third… is named.
    """
    names = [short(text, most) for text in texts]
    wide = 0.075 * max(map(len, names), default=0) > 0.9 * inches / max(len(names), 1)
    step = max(1, int(np.ceil(len(names) * 0.14 / inches))) if wide else 1
    places = range(0, len(names), step)
    how = {"rotation": 90 if wide else 0, "fontsize": 8}
    name_ticks(axes.xaxis, places, [names[i] for i in places], most, **how)


def log_ticks(axes: Axes, values: np.ndarray | pd.Series) -> None:
    """Make the x axis logarithmic over `values` (positive), with labels that have room."""
    axes.set_xscale("log")
    decades = np.log10(np.max(values) / np.min(values))
    if decades < 1:  # no power of ten may lie within
        axes.xaxis.set_major_locator(MaxNLocator(4))
    else:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if decades < 2 else (1,), numticks=5))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def wrapped(text: object, width: int = 60) -> str:
    """`text` for a title, on two lines of that `width` at most."""
    return "\n".join(textwrap.wrap(drawn(text, 2 * width - 10), width))


def finite(table: pd.DataFrame, columns: list[str] | None = None) -> pd.DataFrame:
    """The rows of `table` whose numbers (those of `columns`) all are: no gaps, no infinities."""
    numbers = table[columns] if columns else table.select_dtypes("number")
    known = np.isfinite(numbers.astype(float).to_numpy()).all(axis=1)
    return table.iloc[np.flatnonzero(known)]


def in_order(values: Iterable[Any]) -> list[Any]:
    """`values` in their natural order: of an ordered type its own, of text the alphabet's."""
    values = list(values)
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=str)


# --- what a classifier says


def one_against_rest(
    problem: Problem, table: pd.DataFrame
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(label, is it that class, its score) for each class to be drawn: of two, the positive one.

    Left out are classes that all rows have, or none: there is nothing to tell apart. Of many the CURVES commonest.
    """
    columns = table.filter(regex="^(probability|score) of ").columns
    labels = {column.partition(" of ")[2]: column for column in columns}
    if len(labels) == 2:
        wanted = list(labels)[-1] if problem.positive is None else str(problem.positive)
        labels = {wanted: labels[wanted]}
    actual = table.actual.astype(str)
    rows = actual.value_counts()
    there = [label for label in labels if 0 < rows.get(label, 0) < len(table)]
    kept = sorted(there, key=lambda label: -rows[label])[:CURVES]
    return [
        (called(problem, label), (actual == label).to_numpy(), table[labels[label]].to_numpy())
        for label in there
        if label in kept
    ]


def curves_of(left: Axes, right: Axes, label: str, hit: np.ndarray, score: np.ndarray) -> None:
    """The ROC and the precision-recall curve of one class, on two pairs of axes."""
    wrong, right_share, _ = metrics.roc_curve(hit, score)
    left.plot(wrong, right_share, label=f"{label}: area {metrics.roc_auc_score(hit, score):.3f}")
    precision, recall, _ = metrics.precision_recall_curve(hit, score)
    precision[-1] = precision[-2]  # scikit-learn adds a point of its own, at 1, to every curve
    area = metrics.average_precision_score(hit, score)
    right.plot(recall, precision, label=f"{label}: average {area:.3f}, chance {hit.mean():.3f}")
    right.axhline(hit.mean(), color=GREY, linestyle="--", linewidth=1)


def how_many(problem: Problem, table: pd.DataFrame) -> str:
    """' (the 8 commonest of 40 classes)' where `one_against_rest` leaves some out."""
    classes = table.actual.nunique()
    shown = len(one_against_rest(problem, table))
    return f" (the {shown} commonest of {classes} classes)" if classes > CURVES else ""


def curves_legend(
    axes: Axes, count: int, where: Literal["best", "lower right", "upper left"]
) -> None:
    """A legend `where` there is room in the axes for `count` entries, else below them."""
    if count <= 4:
        axes.legend(loc=where)
    else:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14))


def taller(count: int) -> float:
    """Inches that a legend of `count` entries needs below the axes."""
    return 0.17 * count if count > 4 else 0


def calibration(axes: Axes, problem: Problem, table: pd.DataFrame) -> None:
    """Of those given a probability of p, does a share of p come true? Ten bins of equal size."""
    parts = [
        part for part in one_against_rest(problem, table) if ((part[2] >= 0) & (part[2] <= 1)).all()
    ]
    for label, hit, score in parts:
        came, said = calibration_curve(hit, score, n_bins=10, strategy="quantile")
        axes.plot(said, came, marker="o", label=label)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfect")
    axes.set(title="Calibration", xlabel="predicted probability", ylabel="observed share")
    if not parts:
        why = "no probabilities" if table.actual.nunique() > 1 else "one class only"
        axes.text(0.5, 0.1, why, ha="center", style="italic", transform=axes.transAxes)
    curves_legend(axes, len(parts) + 1, "upper left")


def confusion(axes: Axes, table: pd.DataFrame) -> None:
    """Shares of the actual class, by actual and predicted, with the counts where there is room for them."""
    labels, actual, predicted = _commonest_classes(table)
    said = [pd.Series(pd.Categorical(each, labels)) for each in (actual, predicted)]
    counts = pd.crosstab(said[0], said[1], dropna=False).to_numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    few = len(labels) < 5
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.5 else INK
        text = f"{shares[row, column]:.0%}" if few or shares[row, column] >= 0.01 else ""
        text = f"{count:,}\n{text}" if few else text
        size = 9 if few else 8 if len(labels) < 8 else 6
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=size)
    name_ticks_below(axes, labels, 3)
    name_ticks(axes.yaxis, range(len(labels)), labels, 12, fontsize=8)
    axes.set(title="Confusion (share of the actual class)", xlabel="predicted", ylabel="actual")
    axes.grid(False)


def _commonest_classes(table: pd.DataFrame) -> tuple[list[str], pd.Series, pd.Series]:
    """(labels, actual, predicted) as text; of many classes the rarer ones are OTHERS."""
    order = [str(v) for v in in_order(set(table.actual) | set(table.predicted))]
    actual, predicted = table.actual.astype(str), table.predicted.astype(str)
    if len(order) <= CLASSES:
        return order, actual, predicted
    common = set(actual.value_counts().index[: CLASSES - 1])
    kept = [label for label in order if label in common]
    return (
        [*kept, OTHERS],
        actual.where(actual.isin(common), OTHERS),
        predicted.where(predicted.isin(common), OTHERS),
    )


# --- what a regressor says


def amounts(problem: Problem, table: pd.DataFrame) -> Figure:
    """Predicted against actual amounts."""
    figure, axes = plt.subplots(figsize=(5, 4.5))
    few = table.sample(min(len(table), 5000), random_state=0)
    axes.scatter(few.predicted, few.actual, s=16, alpha=0.5, color=MODEL, edgecolor="none")
    ends = [table[["actual", "predicted"]].min().min(), table[["actual", "predicted"]].max().max()]
    axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1, label="perfect")
    name = drawn(problem.called(problem.target))
    axes.set(title="Predicted against actual", xlabel=f"predicted {name}", ylabel=f"actual {name}")
    axes.legend()
    return figure


def residuals(left: Axes, right: Axes, table: pd.DataFrame, name: str) -> None:
    """Residuals against predictions, and their distribution; `name` is what is predicted."""
    residual = table.actual - table.predicted
    few = residual.sample(min(len(table), 5000), random_state=0)
    left.scatter(table.predicted[few.index], few, s=16, alpha=0.5, color=MODEL, edgecolor="none")
    left.axhline(0, color=GREY, linestyle="--", linewidth=1)
    left.set(title="Residuals", xlabel=f"predicted {drawn(name)}", ylabel="actual − predicted")
    right.hist(residual, bins=edges(residual).tolist(), color=MODEL)
    right.axvline(
        residual.mean(), color=INK, linestyle="--", label=f"mean {number(float(residual.mean()))}"
    )
    right.set(title="Their distribution", xlabel="actual − predicted", ylabel="rows")
    right.legend()


# --- columns of a table


def is_words(values: pd.Series, problem: Problem) -> bool:
    """Does the column hold categories, or yes and no, rather than amounts?"""
    if pd.api.types.is_datetime64_any_dtype(values):
        return False
    return "categorical" in (problem.roles.get(str(values.name)), data.role_by_type(values))


def is_text(values: pd.Series) -> bool:
    """Does the column hold text, which can be neither averaged nor put in order?"""
    return isinstance(values.dtype, pd.CategoricalDtype) or values.dtype == object


def called(problem: Problem, label: object) -> str:
    """A class's label for people: 'malignant', but 'late = True'."""
    return drawn(class_name(problem, label), 36)


def groups(frame: pd.DataFrame, problem: Problem) -> list[Part]:
    """(label, mask, colour) of the rows to compare: the two classes, or all rows."""
    labels = in_order(frame[problem.target].dropna().unique())
    if len(labels) != 2 or problem.task != "classification":
        return [("all", pd.Series(True, frame.index), MODEL)]
    hit = labels[-1] if problem.positive is None else problem.positive
    other = next(label for label in labels if label != hit)
    return [
        (called(problem, l), frame[problem.target] == l, c) for l, c in ((other, MISS), (hit, HIT))
    ]


def handles(parts: Sequence[Part]) -> list[Patch]:
    """The legend's entries of `groups`."""
    return [Patch(color=color, alpha=0.6, label=label) for label, _, color in parts]


def grain(values: np.ndarray | pd.Series) -> float:
    """The step of which all `values` are multiples, seen from the least: 1 of whole numbers, 10 of tens, else 0.

    Bins that are no multiple of it hold now one, now two of the values that there are: spikes that are none.
    """
    distinct = np.unique(values)
    if not 2 <= len(distinct) <= 5000:
        return 0.0
    steps = np.diff(distinct)
    counts = steps / steps.min()
    return float(steps.min()) if np.allclose(counts, counts.round(), atol=0.01) else 0.0


def edges(values: np.ndarray | pd.Series) -> np.ndarray:
    """The edges of BINS bins at most over the finite `values`, each as wide as a multiple of their `grain`."""
    low, high = float(np.min(values)), float(np.max(values))
    room = max(1.0, abs(low)) * 1e-6
    if high - low <= room:
        return np.array([low - max(0.5, room), high + max(0.5, room)])
    if not (step := grain(values)):
        return np.linspace(low, high, 26)
    count = round((high - low) / step) + 1
    least = int(np.ceil(count / BINS))
    # the last bin is to be as full as the others
    each = min(range(least, 2 * least + 1), key=lambda n: (-count % n) / n)
    return low - step / 2 + step * each * np.arange(-(-count // each) + 1)


def unit_below(axes: Axes, problem: Problem, column: object) -> None:
    """Add the unit of the `column` to what stands below its panel."""
    known = problem.columns.get(str(column))
    if known and known.unit:
        below = [drawn(known.unit, 32), axes.get_xlabel()]
        axes.set_xlabel("; ".join(filter(None, below)), fontsize=7)


def histogram(axes: Axes, parts: Sequence[Part]) -> None:
    """Histograms on common bins. Where few values lie far out, the middle 99 % are drawn, and that is said."""
    every = _as_amounts(pd.concat([part for _, part, _ in parts]))
    values = every[np.isfinite(every)]
    if values.empty:
        axes.text(0.5, 0.5, "no values", ha="center", transform=axes.transAxes)
        axes.set_xlabel(_gaps(parts), fontsize=7)
        return
    low, high = values.quantile([0.005, 0.995])
    is_cut = 0 < high - low < (values.max() - values.min()) / 2
    inside = values[values.between(low, high)] if is_cut else values
    bins = edges(inside).tolist()
    for label, part, color in parts:
        shown = _as_amounts(part)
        shown = shown[np.isfinite(shown)]
        weights = np.full(len(shown), 1 / max(len(shown), 1))
        axes.hist(shown, bins, weights=weights, histtype="step", color=color, label=label)
        axes.hist(shown, bins, weights=weights, color=color, alpha=0.25)
    axes.set_xlim(bins[0], bins[-1])
    _amount_ticks(axes, parts[0][1])
    out = 1 - len(inside) / len(values)
    axes.set_xlabel(
        _gaps(parts, f"{max(out, 0.001):.1%} farther out" if is_cut else ""), fontsize=7
    )


def _as_amounts(values: pd.Series) -> pd.Series:
    """`values` as floats; dates as matplotlib's days."""
    if pd.api.types.is_datetime64_any_dtype(values):
        days = matplotlib.dates.date2num(values.dropna().dt.tz_localize(None))
        return pd.Series(days, dtype=float)
    return pd.to_numeric(values, errors="coerce").astype(float)


def _amount_ticks(axes: Axes, values: pd.Series) -> None:
    if pd.api.types.is_datetime64_any_dtype(values):
        axes.xaxis.set_major_locator(matplotlib.dates.AutoDateLocator(minticks=2, maxticks=4))
        formatter = matplotlib.dates.ConciseDateFormatter(axes.xaxis.get_major_locator())
        axes.xaxis.set_major_formatter(formatter)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(labelsize=8)


def _gaps(parts: Sequence[Part], more: str = "") -> str:
    """What is not drawn: gaps, and `more`."""
    values = pd.concat([part for _, part, _ in parts])
    gaps = values.isna().mean() if len(values) else 0
    told = [f"{gaps:.1%} missing" if gaps else "", more]
    return ", ".join(filter(None, told))


def bars(axes: Axes, parts: Sequence[Part]) -> None:
    """Bars of each value; of more than VALUES the commonest, and one of all others."""
    every = pd.concat([part for _, part, _ in parts])
    shown, rest = common_values(every)
    for i, (label, part, color) in enumerate(parts):
        shares = part.value_counts(normalize=True)
        heights = [shares.get(value, 0) for value in shown]
        heights += [1 - sum(heights) if len(shares) else 0] * bool(rest)
        place = np.arange(len(heights)) + (i - (len(parts) - 1) / 2) * 0.4
        axes.bar(place, heights, 0.8 / len(parts), color=color, alpha=0.7, label=label)
    texts = [number(value) for value in shown] + [f"{rest} others"] * bool(rest)
    name_ticks_below(axes, texts, 2.0)
    axes.tick_params(labelsize=8)
    if not shown:
        axes.text(0.5, 0.5, "no values", ha="center", transform=axes.transAxes)
    axes.set_xlabel(_gaps(parts), fontsize=7)


def common_values(values: pd.Series) -> tuple[list[Any], int]:
    """(the values to draw, how many others there are): those of numbers and ordered categories in their order."""
    counts = values.value_counts()
    counts = counts[counts > 0]
    shown = list(counts.index if len(counts) <= VALUES else counts.index[: VALUES - 1])
    if isinstance(values.dtype, pd.CategoricalDtype) and values.cat.ordered:
        shown = [value for value in values.cat.categories if value in shown]
    elif not any(isinstance(value, str) for value in shown):
        shown = in_order(shown)
    return shown, len(counts) - len(shown)


# --- time


def timeless(frame: pd.DataFrame, problem: Problem) -> str:
    """Why nothing of `frame` can be followed through time; '' where it can."""
    if problem.time is None:
        return f"{problem.name} has no time column"
    if not frame[problem.time].notna().any():
        return f"{problem.time} has no values"
    return f"{problem.time} is text" if is_text(frame[problem.time]) else ""


def averaged(frame: pd.DataFrame, problem: Problem) -> tuple[str, pd.Series]:
    """(what is averaged, the values): the target, or whether it is the positive class."""
    values = frame[problem.target]
    if problem.task == "regression":
        name = drawn(problem.called(problem.target))
        return f"mean {name}", values.where(np.isfinite(values))
    hit = in_order(values.dropna().unique())[-1] if problem.positive is None else problem.positive
    return f"share of {called(problem, hit)}", (values == hit).astype(float)


def stretches(frame: pd.DataFrame, problem: Problem) -> tuple[pd.Series, str]:
    """(the stretch of time of each row, in order and with the empty ones; its name: month, quarter, year, tenth).

    They are months, or where these are more than 40 quarters or years; tenths where time is a plain number.
    """
    time = frame[problem.time]
    if not pd.api.types.is_datetime64_any_dtype(time):
        cut, ends = pd.cut(time, 10, retbins=True)
        texts = [f"{number(float(a))} to {number(float(b))}" for a, b in zip(ends, ends[1:])]
        if len(set(texts)) < len(texts):  # far from 0, close together
            texts = [f"{i} of 10" for i in range(1, 11)]
        return cut.cat.rename_categories(texts), "tenth"
    time = time.dt.tz_localize(None)
    for letter, name in (("M", "month"), ("Q", "quarter"), ("Y", "year")):
        every = pd.period_range(time.min(), time.max(), freq=letter)
        if len(every) <= 40:
            break
    codes = pd.Categorical(time.dt.to_period(letter).astype(str), every.astype(str), ordered=True)
    return pd.Series(codes, index=frame.index), name


def as_numbers(values: pd.Series, problem: Problem) -> tuple[Hashable, pd.Series]:
    """(name, numbers) of a column: itself, or whether it is its commonest value."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return values.name, pd.Series(values.astype("int64"), dtype=float).where(values.notna())
    if not is_words(values, problem):
        numbers = values.astype(float)
        return values.name, numbers.where(np.isfinite(numbers))
    common = values.mode().iloc[0] if values.notna().any() else None
    return f"{values.name} = {common}", (values == common).astype(float)


# --- runs


def foremost(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """`most` rows of leaderboard.frame's `table`: the best, and always the one to take and the last."""
    if len(table) <= most:
        return table
    own = table[(table.mark == TAKEN) | (np.arange(len(table)) == len(table) - 1)]
    first = table.drop(own.index).head(most - len(own))
    return pd.concat([first, own]).sort_index()


def scores_of(axes: Axes, table: pd.DataFrame, metric: str) -> None:
    """The score of each row of leaderboard.frame's `table` with its 95 % interval, beside the baseline's."""
    table = table.assign(score_reach=table.score_reach.replace([np.inf, -np.inf], np.nan).fillna(0))
    how = {"fmt": "o", "color": MODEL, "capsize": 2, "markersize": 4, "linewidth": 1.2}
    axes.errorbar(table.score, table.index, xerr=table.score_reach, label="score, 95 %", **how)
    line = {"marker": "|", "s": 90, "color": HIT, "linewidth": 1.8}
    axes.scatter(table.baseline, table.index, label="baseline", **line)
    axes.set(title="The score", xlabel=metric)
    axes.locator_params(axis="x", nbins=5)


def amounts_of(
    axes: Axes, table: pd.DataFrame, columns: dict[str, tuple[str, str]], unit: str
) -> None:
    """The amounts in `columns` ({name: (marker, label)}) of each row of `table`, with numbers, on a log axis."""
    for (name, (marker, label)), color in zip(columns.items(), CYCLE):
        known = table[np.isfinite(table[name]) & (table[name] > 0)]
        axes.scatter(known[name], known.index, marker=marker, s=22, color=color, label=label)
        for place, value in zip(known.index, known[name]):
            where = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
            axes.annotate(f"{float(number(value, 2)):,g}", (value, place), fontsize=7, **where)
    names = [*columns]
    values = table[names].to_numpy(float)
    values = values[np.isfinite(values) & (values > 0)]
    if values.size:
        ends = np.array([values.min() / 2, values.max() * 5])  # with room for the numbers
        log_ticks(axes, ends)
        axes.set_xlim(*ends)
    axes.set(title=" and ".join(label for _, label in columns.values()).capitalize(), xlabel=unit)


def behind_the_best(axes: Axes, table: pd.DataFrame) -> None:  # pylint: disable=too-many-locals
    """How far each row of leaderboard.frame's `table` is behind the best on the same rows; intervals that hold at once.

    What is much farther behind than the others is told by its number at the edge.
    """
    known = table[np.isfinite(table.behind)]
    reach = known.behind_reach.fillna(0)
    edge = _edge(known.behind, reach)
    near = known[known.behind <= edge]
    for marks, face, label in (
        ((TAKEN, CLOSE), MODEL, "cannot be told from the best"),
        (("",), "white", "behind it"),
    ):
        some = near[near.mark.isin(marks)]
        how = {
            "fmt": "o",
            "color": MODEL,
            "mfc": face,
            "capsize": 2,
            "markersize": 4,
            "linewidth": 1.2,
        }
        if len(some):
            axes.errorbar(some.behind, some.index, xerr=reach[some.index], label=label, **how)
    taken = near[near.mark == TAKEN]
    if len(taken):
        star = {"marker": "*", "s": 110, "color": HIT, "edgecolor": INK, "linewidth": 0.6}
        axes.scatter(taken.behind, taken.index, label="recommended", zorder=3, **star)
    far = known.behind[known.behind > edge]
    for place, value in zip(far.index, far):
        axes.text(edge, place, f"{number(value)} →", ha="right", va="center", fontsize=7.5)
    axes.axvline(0, color=GREY, linestyle="--", linewidth=1)
    axes.set(title="Behind the best", xlabel="worse by, on the same rows")
    if edge < known.behind.max():
        axes.set_xlim(right=edge * 1.03)
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(axis="y", length=0)


def _edge(behind: pd.Series, reach: pd.Series) -> float:
    """Up to where differences are drawn: what lies beyond would leave no room for the intervals of the others."""
    if behind.empty or not reach.any():
        return behind.max() if len(behind) else 0.0
    room = 12 * reach[reach > 0].median()
    inside = behind[behind <= room]
    return float((inside + reach[inside.index]).max()) if len(inside) else float(behind.max())


# --- a sweep


def scores_over(axes: Axes, values: pd.Series, scores: pd.Series, order: pd.Series) -> None:
    """A dot a trial: `scores` over the `values` of one parameter, the darker the later in `order`."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.isna().any() or any(isinstance(value, bool) for value in values):
        texts = values.map(str)
        names = list(dict.fromkeys(texts))
        places = texts.map(names.index)
        name_ticks_below(axes, names, 2.0, 18)
        axes.set_xlim(-0.5, len(names) - 0.5)
    else:
        places = numbers.astype(float)
        if places.min() > 0 and places.max() > 20 * places.min():
            log_ticks(axes, places)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.scatter(places, scores, c=order, cmap="Blues", s=22, edgecolor=MODEL, linewidth=0.6)
    axes.set(title=drawn(values.name, 24), xlabel="darker: later")


def best_so_far(axes: Axes, table: pd.DataFrame, direction: str) -> None:
    """The score of each trial in their order, and the best so far."""
    best = table.score.cummin() if direction == "minimize" else table.score.cummax()
    axes.scatter(table.trial, table.score, s=22, color=MODEL)
    end = table.trial.iloc[-1] + 0.5  # of a single trial, too, there is a line
    steps = [*table.trial, end], [*best, best.iloc[-1]]
    axes.step(*steps, where="post", color=HIT, label="best so far")
    axes.set(title="In the order of the trials", xlabel="trial")
    axes.locator_params(axis="x", integer=True, nbins=5)
    axes.legend()


def nothing(why: str) -> Figure:
    """A flat figure that says `why` there is nothing to draw."""
    figure, axes = plt.subplots(figsize=(7, 0.6))
    axes.text(0.5, 0.5, wrapped(why, 90), ha="center", va="center", style="italic")
    axes.set_axis_off()
    return figure
