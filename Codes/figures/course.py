"""A model's course, window by window: is its input strange, is its loss tolerated, does it still rank?"""

from collections.abc import Collection, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from Codes.figures import panels
from Codes.figures.panels import styled
from Codes.ground.errors import counted
from Codes.ground.labels import drawn, first, number

MOST = 4  # columns of one figure
COLORS = {
    "quiet": panels.GREEN,
    "pending": panels.GREY,
    "drift": panels.ORANGE,
    "harm": panels.RED,
    "contract": panels.INK,
}


@styled
def course(  # pylint: disable=too-many-locals
    table: pd.DataFrame, level: float, bound: float, metric: str, loss: str
) -> Figure:
    """The windows of `table`: name, status, p, loss, score, low, high (NaN where it is not known).

    Args:
        level: at or below which p counts as strange.
        bound: what the `loss` (in words) may be.
    """
    if table.empty:
        return panels.nothing("no window has been judged")
    figure, (top, middle, below) = plt.subplots(3, 1, figsize=(9, 6.4), sharex=True)
    places, colors = np.arange(len(table)), [COLORS[s] for s in table.status]
    top.scatter(places, table.p, c=colors, s=26, zorder=3)
    top.axhline(level, color=panels.INK, linewidth=1, linestyle="--")
    top.set(yscale="log", ylabel="p of the window", title="Is it like the reference?")
    top.yaxis.set_major_formatter("{x:g}")
    middle.plot(places, table.loss, color=panels.GREY, linewidth=1)
    middle.scatter(places, table.loss, c=colors, s=26, zorder=3)
    middle.axhline(bound, color=panels.INK, linewidth=1, linestyle="--")
    middle.set(
        ylabel=drawn(loss, 30), title="Is it as good as it was promised? (dashed: tolerated)"
    )
    reach = np.abs(table[["low", "high"]].to_numpy(float).T - table.score.to_numpy(float))
    below.errorbar(places, table.score, reach, fmt="none", ecolor=panels.GREY, elinewidth=1)
    below.scatter(places, table.score, c=colors, s=26, zorder=3)
    below.set(ylabel=drawn(metric, 30), title="The metric, with its 95 % interval")
    _windows_below(below, table.name)
    handles = _statuses(table)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    strange, above = int((table.p <= level).sum()), int((table.loss > bound).sum())
    known = int(table.loss.notna().sum())
    said = f"{strange} of {counted(len(table), 'window')} {_strange(strange)}"
    return panels.headline(
        figure,
        f"{said}; the loss is above what is tolerated in {above} of {known} whose truth is known.",
    )


def _strange(count: int) -> str:
    return "is strange by itself" if count == 1 else "are strange by themselves"


@styled
def calibration(both: pd.DataFrame) -> Figure:
    """Rows by what was `said` of them, in ten groups: does that `came` in the mean?"""
    if len(both) < 2:
        return panels.nothing("no truth is known")
    groups = both.said.rank(method="first") * 10 // (len(both) + 1)
    means = both.groupby(groups)[["said", "came"]].mean()
    figure, axes = plt.subplots(figsize=(4.2, 3.6))
    ends = [means.to_numpy().min(), means.to_numpy().max()]
    axes.plot(ends, ends, color=panels.GREY, linestyle="--", linewidth=1)
    axes.plot(means.said, means.came, "o-", color=panels.HIT)
    axes.set(xlabel="said", ylabel="came", title="Does what is said come? (dashed: it does)")
    said, came = both.said.mean(), both.came.mean()
    return panels.headline(figure, f"In the mean {number(said)} is said, and {number(came)} comes.")


@styled
def nothing(why: str) -> Figure:
    """In the place of a figure: `why` there is none."""
    return panels.nothing(why)


@styled
def evidence(table: pd.DataFrame, threshold: float) -> Figure:
    """The evidence of harm after each window of `table` (name, status, evidence), and the `threshold` that alarms."""
    if table.empty:
        return panels.nothing("no window has been judged")
    figure, axes = plt.subplots(figsize=(9, 2.8))
    places = np.arange(len(table))
    values = table.evidence.to_numpy(float).clip(min=1)  # less than at the start says nothing
    axes.plot(places, values, color=panels.GREY, linewidth=1)
    axes.scatter(places, values, c=[COLORS[s] for s in table.status], s=26, zorder=3)
    axes.axhline(
        threshold, color=panels.INK, linewidth=1, linestyle="--", label="harm from here on"
    )
    axes.set(yscale="log", ylabel="evidence", title="Is the loss above what is tolerated?")
    axes.yaxis.set_major_formatter("{x:,g}")
    _windows_below(axes, table.name)
    handles = [*_statuses(table), *axes.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    most, highest = table.name.iloc[int(values.argmax())], number(float(values.max()))
    return panels.headline(
        figure,
        f"The evidence is highest in the window {most}: {highest}, and {number(threshold)} are harm.",
    )


def _windows_below(axes: Axes, names: pd.Series) -> None:
    """Name about twelve of the windows below `axes`."""
    places = range(0, len(names), max(1, len(names) // 12))
    axes.set_xticks(places, [drawn(names.iloc[i], 12) for i in places], rotation=45, ha="right")
    axes.set_xlabel("window")


def _statuses(table: pd.DataFrame) -> list[Line2D]:
    """A handle for a legend of each status in `table`."""
    seen = [status for status in COLORS if status in set(table.status)]
    return [Line2D([], [], marker="o", linestyle="", color=COLORS[s], label=s) for s in seen]


@styled
def moved(  # pylint: disable=too-many-locals
    reference: pd.DataFrame, window: pd.DataFrame, columns: Sequence[str], words: Collection[str]
) -> Figure:
    """A panel for each of `columns`: its values in the `reference` and in the `window`; `words` hold categories."""
    shown = [name for name in dict.fromkeys(columns) if name in reference and name in window][:MOST]
    if not shown or window.empty:
        return panels.nothing("no column has moved" if len(window) else "no rows to draw")
    wide = min(4, len(shown))
    rows = -(-len(shown) // wide)
    figure, grid = plt.subplots(
        rows, wide, figsize=(max(2.8 * wide, 4), 2.4 * rows + 0.5), squeeze=False
    )
    parts = (("reference", reference, panels.GREY), ("this window", window, panels.HIT))
    for axes, column in zip(grid.flat, shown):
        _panel(
            axes, column, [(label, frame[column], color) for label, frame, color in parts], words
        )
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    colors = [(label, frame.iloc[:, 0], color) for label, frame, color in parts]
    figure.legend(handles=panels.handles(colors), loc="outside upper right", ncols=2)
    figure.supylabel(f"share of the rows{first(len(shown), len(set(columns)))}", fontsize=9)
    both = reference[shown[0]], window[shown[0]]
    usual, here = (_middle(values, shown[0] in words) for values in both)
    return panels.headline(
        figure, f"{drawn(shown[0], 28)}: {here} in this window, in the reference {usual}."
    )


def _middle(values: pd.Series, is_word: bool) -> str:
    """What the values of a column are like: their median, or the commonest with its share."""
    known = values.dropna()
    if known.empty:
        return "only gaps"
    if is_word:
        shares = known.astype(object).value_counts(normalize=True)
        return f"{drawn(shares.index[0], 20)} in {shares.iloc[0]:.0%} of the rows"
    middle = known.median()
    return (
        f"a median of {number(float(middle)) if pd.api.types.is_numeric_dtype(known) else middle}"
    )


def _panel(axes: Axes, column: str, parts: list[panels.Part], words: Collection[str]) -> None:
    if column in words:
        panels.bars(axes, [(label, values.astype(object), color) for label, values, color in parts])
    else:
        panels.histogram(axes, parts)
    axes.set_title(drawn(column, 28), fontsize=9)


@styled
def loop(  # pylint: disable=too-many-locals
    tables: Sequence[pd.DataFrame], metric: str, bound: float, trained: str
) -> Figure:
    """The windows of an old model and of the new one after it (`tables`: name, score, low, high, loss, said, came).

    Args:
        bound: what the loss may be.
        trained: the day as of which the new one was trained; empty where there is none.
    """
    names = list(tables[0].name) if tables else []
    if not names:
        return panels.nothing("no window has been judged")
    figure, (top, middle, below) = plt.subplots(3, 1, figsize=(9, 6.8), sharex=True)
    order = {name: place for place, name in enumerate(names)}
    models = zip(
        ("the first months' model", "trained again"), (panels.ORANGE, panels.GREEN), tables
    )
    for label, color, table in models:
        table = table[table.name.isin(order)]
        places = [order[name] for name in table.name]
        reach = np.abs(table[["low", "high"]].to_numpy(float).T - table.score.to_numpy(float))
        top.errorbar(
            places,
            table.score,
            reach,
            fmt="o-",
            color=color,
            linewidth=1.2,
            markersize=3,
            label=label,
        )
        middle.plot(places, table.loss, "o-", color=color, linewidth=1.2, markersize=3)
        below.plot(places, table.said, "o-", color=color, linewidth=1.2, markersize=3)
    below.plot(
        range(len(names)), tables[0].came, color=panels.INK, linewidth=1.2, label="what came"
    )
    middle.axhline(bound, color=panels.INK, linewidth=1, linestyle="--")
    for axes in (top, middle, below):
        begin = next((i for name, i in order.items() if name >= trained), len(names))
        axes.axvline(begin - 0.5 if trained else np.nan, color=panels.GREY, linewidth=1)
    top.set(ylabel=drawn(metric, 30), title="The metric, with its 95 % interval")
    middle.set(ylabel="loss", title="The loss (dashed: tolerated of the first)")
    below.set(ylabel="mean", title="What the models say, and what came")
    _windows_below(below, tables[0].name)
    figure.legend(loc="outside lower center", ncols=3)
    return panels.headline(figure, _compared(tables, metric))


def _compared(tables: Sequence[pd.DataFrame], metric: str) -> str:
    """How the old and the new model did in the windows that both have judged, in a sentence."""
    if len(tables) < 2:
        return "No window alarms, so that nothing is trained again."
    old, new = (table.set_index("name")[["score", "loss"]].dropna() for table in tables[:2])
    both = old.index.intersection(new.index)
    if both.empty:
        return "No window follows the training."
    means = [f"{number(float(each.loc[both, 'score'].mean()))}" for each in (old, new)]
    losses = [f"{number(float(each.loc[both, 'loss'].mean()))}" for each in (old, new)]
    return (
        f"In the mean of {counted(len(both), 'window')} that both have judged, the {metric} is {means[1]} trained "
        f"again, {means[0]} without, the loss {losses[1]} instead of {losses[0]}."
    )


@styled
def replay(  # pylint: disable=too-many-locals
    windows: pd.DataFrame, policies: pd.DataFrame, metric: str, loss: str
) -> Figure:
    """The course of each policy (`windows`: window, policy, trained, loss, score) and what they cost (`policies`)."""
    if windows.empty:
        return panels.nothing("no window was replayed")
    figure, (top, middle, below) = plt.subplots(3, 1, figsize=(9, 7.6), height_ratios=[3, 3, 2])
    never = windows[windows.policy == "never"].loss.to_numpy()
    names = list(dict.fromkeys(windows.window))
    for (policy, rows), color in zip(windows.groupby("policy", sort=False), panels.CYCLE):
        places = np.arange(len(rows))
        top.plot(places, rows.score, color=color, linewidth=1.2, label=drawn(policy, 20))
        middle.plot(places, np.cumsum(never - rows.loss.to_numpy()), color=color, linewidth=1.4)
        begun = rows.trained.to_numpy(bool)
        if policy != "every window":
            top.scatter(places[begun], rows.score[begun], color=color, s=30, zorder=3)
    top.set(title="The metric (dots: a new model)", ylabel=drawn(metric, 30))
    middle.set(title="Loss saved so far, compared with never", ylabel=drawn(loss, 30))
    step = max(1, len(names) // 12)
    for axes in (top, middle):
        axes.set_xticks(
            range(0, len(names), step),
            [drawn(n, 12) for n in names[::step]],
            rotation=30,
            ha="right",
        )
    places = np.arange(len(policies))
    reach = np.abs(policies[["low", "high"]].to_numpy(float).T - policies.gain.to_numpy(float))
    below.errorbar(policies.gain, places, xerr=reach, fmt="o", color=panels.INK, capsize=3)
    below.axvline(0, color=panels.GREY, linewidth=1)
    texts = [f"{row.policy} ({row.trainings} trained)" for row in policies.itertuples()]
    panels.name_ticks(below.yaxis, places, texts)
    below.set(title="Saved a window, trainings paid (95 %)", xlabel=drawn(loss, 30))
    below.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=len(policies))
    paying = policies[policies.pays & (policies.policy != "at best")].sort_values("cost")
    told = [f"{row.policy} pays: {number(row.gain)} a window" for row in paying.itertuples()]
    return panels.headline(figure, f"{'; '.join(told) or 'No policy pays'}.")
