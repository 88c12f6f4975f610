"""Plots: each function returns a labelled figure, in one style, for both tasks where it makes sense."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from Codes.figures import association, headlines, panels
from Codes.figures.panels import styled
from Codes.ground.labels import drawn, first, number
from Codes.judgement.decision import Decision
from Codes.problems.problem import Problem

MOST = 12  # panels, bars or features in one figure
CHECK = 0.62  # inches that a check of the gate takes


class GateReport(Protocol):
    """What is drawn of a gate.Report: the gate may import figures, not the other way round."""

    @property
    def checks(self) -> Sequence[Any]:
        """Each with `name`, `passed` and what was `found`."""

    @property
    def metrics(self) -> pd.DataFrame:
        """A row a metric."""

    @property
    def slices(self) -> pd.DataFrame:
        """A row a group of rows."""

    @property
    def verdict(self) -> str:
        """Passed or refused."""


@styled
def ranking(problem: Problem, table: pd.DataFrame) -> Figure:
    """Does it rank? ROC and precision-recall of a classifier's predictions; else predicted against actual."""
    table = panels.finite(table)
    if table.empty:
        return panels.nothing("no predictions to draw")
    if problem.task == "regression":
        figure = panels.amounts(problem, table)
        return panels.headline(figure, headlines.ranking(problem, table))
    parts = panels.one_against_rest(problem, table)
    if not parts:
        one = "all rows are of one class" if table.actual.nunique() < 2 else "the model scores none"
        return panels.nothing(f"{one}: there is nothing to rank")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4 + panels.taller(len(parts))))
    for part in parts:
        panels.curves_of(left, right, *part)
    left.plot([0, 1], [0, 1], color=panels.GREY, linestyle="--", linewidth=1, label="chance")
    rest = panels.how_many(problem, table)
    left.set(title=f"ROC{rest}", xlabel="false positive rate", ylabel="true positive rate")
    right.set(title="Precision and recall", xlabel="recall", ylabel="precision", ylim=(0, 1.03))
    panels.curves_legend(left, len(parts) + 1, "lower right")
    panels.curves_legend(right, len(parts), "best")
    return panels.headline(figure, headlines.ranking(problem, table))


@styled
def errors(problem: Problem, table: pd.DataFrame) -> Figure:
    """Where is it wrong? Calibration and confusion of a classifier's predictions; else the residuals."""
    table = panels.finite(table)
    if table.empty:
        return panels.nothing("no predictions to draw")
    if problem.task == "regression":
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
        panels.residuals(left, right, table, problem.called(problem.target))
        return panels.headline(figure, headlines.errors(problem, table))
    room = panels.taller(len(panels.one_against_rest(problem, table)))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4 + room))
    panels.calibration(left, problem, table)
    panels.confusion(right, table)
    return panels.headline(figure, headlines.errors(problem, table))


@styled
def costs(decision: Decision) -> Figure:
    """What errors cost a row over the threshold of a judgement.decision.Decision, and by the one that is taken."""
    curve = decision.curve
    ends = np.clip(curve.threshold, 0, 1)
    figure, axes = plt.subplots(figsize=(7, 3.4))
    axes.step([0, *ends], [curve.cost.iloc[0], *curve.cost], where="pre", color=panels.MODEL)
    taken, cost = decision.threshold, decision.cost(decision.threshold)
    axes.scatter(
        taken, cost, s=60, color=panels.HIT, zorder=3, label=f"taken: {taken:.3g}, {cost:.3g} a row"
    )
    for label, place, style in ((decision.positive, 0, "--"), (decision.other, -1, ":")):
        told = f"always {drawn(label, 16)}: {curve.cost.iloc[place]:.3g}"
        axes.axhline(
            curve.cost.iloc[place], color=panels.GREY, linestyle=style, linewidth=1, label=told
        )
    unit = "errors" if decision.costs is None else "what errors cost"
    axes.set(
        title="From which probability on?", ylabel=f"{unit}, a row", xlim=(0, 1), ylim=(0, None)
    )
    axes.set_xlabel(f"threshold of the probability of {drawn(decision.positive, 24)}")
    figure.legend(loc="outside lower center", ncols=3)
    return panels.headline(figure, headlines.costs(decision))


@styled
def importances(table: pd.DataFrame, problem: Problem) -> Figure:
    """Bars of `evaluation.importance`'s table, the largest on top: how much worse the deciding metric got."""
    if table.empty:
        return panels.nothing("there is no column to rely on, or nothing to measure it by")
    top = table.head(MOST)[::-1]
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.3 * len(top)))
    how = {"color": panels.MODEL, "ecolor": panels.INK, "height": 0.65}
    axes.barh(range(len(top)), top["mean"], xerr=top["std"].fillna(0), **how)
    panels.name_ticks(axes.yaxis, range(len(top)), _names(problem, top.index), 36)
    axes.axvline(0, color=panels.INK, linewidth=0.8)
    count = len(table) + table.attrs.get("left_out", 0)
    axes.set_title(f"What the model relies on{first(len(top), count)}")
    worse = f"{drawn(problem.metric.name, 24)}: how much worse when the column is shuffled"
    axes.set_xlabel(f"{worse}\n(lines: ± one standard deviation of three shuffles)")
    axes.grid(axis="y", visible=False)
    return panels.headline(figure, headlines.importances(table, problem))


def _names(problem: Problem, columns: Iterable[Any]) -> list[str]:
    """What people call the `columns`, without their units."""
    return [problem.called(column, unit=False) for column in columns]


def _those(count: int, of: int) -> str:
    """' (of 300 columns the 12 that tell most)' where `count` of so many are shown, else an empty text."""
    return f" (of {of} columns the {count} that tell most)" if count < of else ""


@styled
def distributions(frame: pd.DataFrame, problem: Problem, columns: Sequence[str]) -> Figure:
    """A small panel for each of `columns`: its values in `frame`, by class where the target has two.

    Of more than fit, those that go most with the target.
    """
    strengths = association.strengths(frame, problem, columns)
    shown = association.first(strengths, columns, MOST)
    if not shown or frame.empty:
        return panels.nothing("no columns to draw" if len(frame) else "no rows to draw")
    wide = min(4, len(shown))
    rows = -(-len(shown) // wide)
    size = (max(2.8 * wide, 4), 2.5 * rows + 0.4)
    figure, grid = plt.subplots(rows, wide, figsize=size, squeeze=False)
    groups = panels.groups(frame, problem)
    for axes, column in zip(grid.flat, shown):
        draw = panels.bars if panels.is_words(frame[column], problem) else panels.histogram
        draw(axes, [(label, frame.loc[mask, column], color) for label, mask, color in groups])
        axes.set_title(drawn(problem.called(column, unit=False), 28), fontsize=9)
        panels.unit_below(axes, problem, column)
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    if len(groups) > 1:
        across = len(groups) if wide > 2 else 1
        figure.legend(handles=panels.handles(groups), loc="outside lower center", ncols=across)
    figure.supylabel(f"share of the rows{_those(len(shown), len(columns))}", fontsize=9)
    return panels.headline(figure, headlines.distributions(strengths, frame, problem))


@styled
def target(frame: pd.DataFrame, problem: Problem) -> Figure:
    """The target's own distribution in `frame`: bars of its classes, or a histogram."""
    values = frame[problem.target].dropna()
    is_amount = problem.task == "regression" and not panels.is_text(values)
    if is_amount:
        values = values[np.isfinite(values)]
    if values.empty:
        return panels.nothing(f"{problem.target} has no values")
    figure = (_amount if is_amount else _classes)(values, problem)
    figure.axes[0].set_title(panels.wrapped(problem.title))
    return panels.headline(figure, headlines.target(values, problem))


def _amount(values: pd.Series, problem: Problem) -> Figure:
    figure, axes = plt.subplots(figsize=(7, 2.4))
    axes.hist(values, bins=panels.edges(values).tolist(), color=panels.MODEL)
    label = f"mean {number(float(values.mean()), 4)}"
    axes.axvline(values.mean(), color=panels.INK, linestyle="--", label=label)
    axes.legend()
    axes.set(xlabel=drawn(problem.called(problem.target)), ylabel="rows")
    return figure


def _classes(values: pd.Series, problem: Problem) -> Figure:
    shares = values.value_counts(normalize=True)
    top, rest = shares.head(MOST)[::-1], first(MOST, len(shares))
    figure, axes = plt.subplots(figsize=(7, max(2.4, 1.2 + 0.25 * len(top))))
    bars = axes.barh(range(len(top)), top, color=panels.MODEL, height=0.6)
    axes.bar_label(bars, [f"{share:.1%}" for share in top], padding=4)
    panels.name_ticks(axes.yaxis, range(len(top)), top.index, 24)
    name = drawn(problem.called(problem.target), 24)
    axes.set(xlabel=f"share of the rows{rest}", ylabel=name, xlim=(0, 1.12 * top.max()))
    return figure


@styled
def through_time(frame: pd.DataFrame, problem: Problem) -> Figure:
    """How the target moves: its mean by month with a 95 % interval, over the number of rows."""
    if why := panels.timeless(frame, problem):
        return panels.nothing(f"{why}: there is nothing to follow")
    if problem.task == "regression" and panels.is_text(frame[problem.target]):
        return panels.nothing(f"{problem.target} is text: there is nothing to average")
    label, hit = panels.averaged(frame, problem)
    when, word = panels.stretches(frame, problem)
    table = hit.groupby(when, observed=False).agg(["mean", "std", "size"])
    margin = 1.96 * table["std"] / np.sqrt(table["size"].clip(lower=1))
    figure, (top, below) = plt.subplots(2, sharex=True, figsize=(9, 4.2), height_ratios=(3, 1))
    how = {"color": panels.MODEL, "marker": "o", "capsize": 3}
    top.errorbar(range(len(table)), table["mean"], margin.fillna(0), **how)
    dashed = {"color": panels.GREY, "linestyle": "--", "linewidth": 1}
    top.axhline(hit.mean(), label="mean of all rows", **dashed)
    top.set(title=f"{label}, by {word} (bars: 95 % interval)", ylabel=drawn(label, 30))
    top.legend()
    below.bar(range(len(table)), table["size"], color=panels.GREY, width=0.7)
    below.set(ylabel="rows")
    panels.name_ticks_below(below, list(table.index), 8, 20)
    return panels.headline(figure, headlines.through_time(table.assign(margin=margin), word))


@styled
def drift(frame: pd.DataFrame, problem: Problem, columns: Sequence[str]) -> Figure:
    """How features move: the shift of each month's mean, in standard deviations, as a heat map.

    Of a categorical column it is the share of its commonest value that moves.
    """
    if why := panels.timeless(frame, problem):
        return panels.nothing(f"{why}: there is nothing to follow")
    numbers = pd.DataFrame(dict(panels.as_numbers(frame[c], problem) for c in columns))
    numbers /= numbers.abs().max().replace(0, 1)  # the square of a huge one is infinite
    moving = numbers.loc[:, numbers.std() > 0]
    if moving.empty:
        return panels.nothing("no column moves: there is nothing to follow")
    when, word = panels.stretches(frame, problem)
    shift = (moving - moving.mean()) / moving.std()
    table = shift.groupby(when, observed=False).mean().T
    table = table.loc[table.abs().max(axis=1).sort_values(ascending=False).index[: 2 * MOST]]
    table.index = pd.Index([_moving(problem, name) for name in table.index])
    figure, axes = plt.subplots(figsize=(9, max(2.4, 1.4 + 0.26 * len(table))))
    image = axes.imshow(table, cmap="PuOr", vmin=-1, vmax=1, aspect="auto")
    panels.name_ticks_below(axes, table.columns, 4.5, 20)
    panels.name_ticks(axes.yaxis, range(len(table)), table.index, 32)
    axes.grid(False)
    axes.set_title(
        f"How the features move, the most restless first{first(len(table), len(columns))}"
    )
    label = f"mean of the {word}, in\nstandard deviations\n(beyond ±1: as 1)"
    figure.colorbar(image, label=label, extend="both")
    return panels.headline(figure, headlines.drift(table, word))


def _moving(problem: Problem, name: object) -> str:
    """What people call a column that moves, or a category of it ('carrier = UA')."""
    column, is_equal, value = str(name).partition(" = ")
    return f"{problem.called(column, unit=False)}{is_equal}{value}"


@styled
def leaderboard(table: pd.DataFrame, metric: str) -> Figure:
    """A row a contestant, the best on top: its score beside the baseline; how far behind the best, on the same rows.

    Args:
        table: of leaderboard.frame. Filled is what cannot be told from the best, a star what is recommended.
    """
    if table.empty:
        return panels.nothing("no scored runs yet")
    top = panels.foremost(table, MOST + 4)[::-1].reset_index(drop=True)
    size = (10, 1.5 + 0.26 * len(top))
    figure, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True)
    panels.scores_of(left, top, drawn(metric, 30))
    panels.behind_the_best(right, top)
    panels.name_ticks(left.yaxis, top.index, top.name, 40, fontsize=7.5)
    left.set_ylim(-0.6, len(top) - 0.4)
    if len(top) < len(table):
        # not below both: the legend is there
        shown = f"{len(top)} of {len(table)}: the best, the one to take, the last"
        left.set_xlabel(f"{left.get_xlabel()}\n{shown}")
    figure.legend(loc="outside lower center", ncols=5)
    return panels.headline(figure, headlines.leaderboard(table))


@styled
def expenses(table: pd.DataFrame) -> Figure:
    """What each contestant costs: the seconds of its training, the size of its model, the milliseconds of an answer.

    Args:
        table: of leaderboard.frame, shown in its order; what a run did not log is left open.
    """
    if not table[["fit_seconds", "row_ms"]].notna().any(axis=None):
        return panels.nothing("no runs that logged what they cost")
    top = panels.foremost(table, MOST + 4)[::-1].reset_index(drop=True)
    size = (10, 1.9 + 0.26 * len(top))
    figure, (left, *others) = plt.subplots(1, 3, figsize=size, sharey=True)
    panels.amounts_of(left, top, {"fit_seconds": ("o", "training")}, "seconds")
    panels.amounts_of(others[0], top, {"kilobytes": ("o", "model")}, "kB")
    asked = {"row_ms": ("o", "a row alone"), "row_ms_of_1000": ("D", "a row of 1,000")}
    panels.amounts_of(others[1], top, asked, "ms of the processor")
    panels.name_ticks(left.yaxis, top.index, top.name, 40, fontsize=7.5)
    left.set_ylim(-0.6, len(top) - 0.4)
    others[1].set_title("An answer")
    handles, labels = others[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=2)
    return panels.headline(figure, headlines.expenses(table))


@styled
def sweep(table: pd.DataFrame, metric: str, direction: str = "maximize") -> Figure:
    """A sweep's trials: the score of each with the best so far, and the score over each parameter that varied.

    Args:
        table: columns trial, score, run_id and the varied parameters (see leaderboard.trials).
    """
    if table.empty:
        return panels.nothing("no sweep yet")
    varied = [name for name in table if name not in ("trial", "score", "run_id")]
    names = varied[: MOST - 1]
    columns = min(4, 1 + len(names))
    rows = -(-(1 + len(names)) // columns)
    size = (2.9 * columns, 3.2 * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=True)
    first_axes, *others = grid.flat
    panels.best_so_far(first_axes, table, direction)
    for axes, name in zip(others, names):
        panels.scores_over(axes, table[name], table.score, table.trial)
    for axes in others[len(names) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel(drawn(f"validation_{metric}", 32))
    if rest := first(len(names), len(varied)):
        figure.supxlabel(f"The parameters that varied{rest}", fontsize=9)
    return panels.headline(figure, headlines.sweep(table, varied, direction))


@styled
def train_against_validation(table: pd.DataFrame, metric: str) -> Figure:
    """A dot a contestant, coloured by model: the further from the line, the more it learned by heart.

    Args:
        table: of leaderboard.frame.
    """
    table = panels.finite(table.assign(train=table.train.astype(float)), ["train", "score"])
    if table.empty:
        return panels.nothing("no runs with a score on training and validation rows")
    figure, axes = plt.subplots(figsize=(6.5, 4.5))
    models = table.model.fillna("?").astype(str)
    commonest = models.value_counts().index
    for model, color in zip(commonest, panels.CYCLE[:-1]):
        runs = table[models == model]
        axes.scatter(runs.train, runs.score, s=45, color=color, label=drawn(model, 34))
    if len(commonest) >= len(panels.CYCLE):
        runs = table[~models.isin(commonest[: len(panels.CYCLE) - 1])]
        label = f"{len(commonest) - len(panels.CYCLE) + 1} other models"
        axes.scatter(runs.train, runs.score, s=45, color=panels.CYCLE[-1], label=label)
    ends = [table[["train", "score"]].min().min(), table[["train", "score"]].max().max()]
    axes.plot(ends, ends, color=panels.GREY, linestyle="--", linewidth=1, label="equal")
    axes.set(title="Learned, or learned by heart?")
    axes.set(xlabel=f"{metric}, training rows", ylabel=f"{metric}, validation rows")
    axes.locator_params(nbins=5)
    figure.legend(loc="outside lower center", ncols=2)
    return panels.headline(figure, headlines.train_against_validation(table))


@styled
def epochs(course: pd.DataFrame, metric: str) -> Figure:
    """How a network learned: the loss on its own and on held rows, epoch by epoch, and the deciding `metric` there.

    Args:
        course: of training.fit; its best epoch is marked.
    """
    if course.empty:
        return panels.nothing("no epochs to draw")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
    left.plot(course.index, course.loss_train, color=panels.BASELINE, label="rows it learns from")
    left.plot(course.index, course.loss, color=panels.MODEL, label="held rows")
    left.set(title="Loss", xlabel="epoch")
    if metric in course:
        right.plot(course.index, course[metric], color=panels.MODEL, marker="o", markersize=3)
    right.set(title=drawn(f"{metric} on the held rows", 40), xlabel="epoch")
    for axes in (left, right):
        line = {"color": panels.ORANGE, "linestyle": "--", "linewidth": 1}
        axes.axvline(course.attrs["best"], label="the best epoch, which is taken", **line)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return panels.headline(figure, headlines.epochs(course))


@styled
def flow() -> Figure:
    """The workbook's lifecycle as a picture: what it begins with in orange, its notebooks in blue."""
    steps = [
        "problem.yaml\n+ table",
        "01 explore",
        "02 train",
        "03 compare",
        "04 promote",
        "05 serve",
        "06 monitor",
    ]
    figure, axes = plt.subplots(figsize=(11, 2.6))
    for i, step in enumerate(steps):
        face, text = (panels.MODEL, "white") if i else (panels.ORANGE, panels.INK)
        axes.add_patch(FancyBboxPatch((i * 1.5, 0), 1.1, 0.6, "round,pad=0.05", fc=face, ec="none"))
        axes.text(i * 1.5 + 0.55, 0.3, step, ha="center", va="center", color=text, weight="bold")
        if i:
            axes.add_patch(panels.arrow((i * 1.5 - 0.34, 0.3), (i * 1.5 - 0.06, 0.3)))
    axes.add_patch(panels.arrow((9.55, -0.08), (3.55, -0.08), "arc3,rad=-0.16"))
    axes.text(6.55, -0.82, "retrain", ha="center", style="italic")
    axes.text(4.9, 0.85, "every arrow is an MLflow run, a model version or an alias", ha="center")
    axes.set(xlim=(-0.2, 10.3), ylim=(-0.95, 1))
    axes.set_axis_off()
    return figure


@styled
def latencies(columns: Sequence[pd.Series], what: str) -> Figure:
    """How long answers took: of each of `columns` (Series of milliseconds) the share that came within a time."""
    # what is quicker than the clock tells has no place on a logarithmic axis
    columns = [times.clip(lower=1e-3) for times in columns if len(times)]
    if not columns:
        return panels.nothing("no answers")
    figure, axes = plt.subplots(figsize=(7, 3.4))
    for times in columns:
        middle, late = times.quantile(0.5), times.quantile(0.99)
        label = f"{times.name}: half within {middle:.1f} ms, 99 of 100 within {late:.1f} ms"
        axes.ecdf(times, label=f"{label} ({len(times)} answers)")
    axes.set_title(f"How long an answer takes: {what}")
    axes.set(xlabel="milliseconds", ylabel="share of the answers")
    panels.log_ticks(axes, pd.concat(columns))
    figure.legend(loc="outside lower center")
    return panels.headline(figure, headlines.latencies(columns))


@styled
def gate(report: GateReport | None, metric: str) -> Figure:
    """A gate.Report: which checks passed, and by slice how much better the candidate is than what is in production.

    Where nothing is in production, than the baseline.
    """
    if report is None:
        return panels.nothing("it was not at the gate")
    slices = report.slices.head(2 * MOST)[::-1].reset_index(drop=True)
    height = 0.7 + CHECK * len(report.checks)
    if slices.empty:
        figure, axes = plt.subplots(figsize=(7, height))
        _checks(axes, report, height)
        return panels.headline(figure, headlines.gate(report, metric))
    height = max(1.6 + 0.22 * len(slices), height)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, height))
    _checks(left, report, height)
    _slices(right, slices, drawn(metric, 20), first(len(slices), len(report.slices)))
    _whole(right, report, metric)
    return panels.headline(figure, headlines.gate(report, metric))


def _checks(axes: Axes, report: GateReport, height: float) -> None:
    """The checks from the top of a figure `height` inches high: each its name, what was found, what is allowed."""
    for i, check in enumerate(report.checks):
        color = panels.GREEN if check.passed else panels.RED
        axes.scatter(0, -i, s=90, color=color, marker="o" if check.passed else "X")
        told = textwrap.wrap(drawn(f"{check.found}; allowed: {check.allowed}", 200), 72)
        how = {"x": 0.05, "fontsize": 7.5, "linespacing": 1.25}
        axes.text(y=-i + 0.02, s=drawn(check.name, 66), va="bottom", weight="bold", **how)
        axes.text(y=-i, s="\n".join(told[:3]), va="top", **how)
    axes.set(xlim=(-0.05, 1), ylim=(0.6 - max(len(report.checks), (height - 0.6) / CHECK), 0.6))
    axes.set_title(f"Gate: {report.verdict.lower()}")
    axes.set_axis_off()


def _slices(axes: Axes, slices: pd.DataFrame, metric: str, rest: str) -> None:
    """How much better each of the `slices` is than what it is held against, with its interval."""
    reach, worse = (slices.high - slices.low) / 2, slices.high < 0
    for some, color in ((~worse, panels.MODEL), (worse, panels.HIT)):
        how = {"fmt": "o", "color": color, "capsize": 2, "markersize": 4, "linewidth": 1.2}
        axes.errorbar(
            slices.difference[some], slices.index[some], xerr=reach[some].fillna(0), **how
        )
    axes.axvline(0, color=panels.INK, linewidth=0.8)
    if slices.difference.abs().max() < headlines.ALIKE:
        axes.set_xlim(-0.01, 0.01)  # else the rounding of the last digit is drawn
    against = "the one in production" if "champion" in slices else "the baseline"
    told = f"{metric}: worse (left of 0) or better than {against}"
    axes.set_xlabel(f"{told}\n(intervals: 95 %, for all slices at once; dashed: all rows)")
    axes.set_title(f"By slice, the least good on top{rest}")
    names = slices.column.astype(str) + " " + slices.value.astype(str)
    panels.name_ticks(axes.yaxis, slices.index, names, 28, fontsize=8)
    axes.set_ylim(-0.6, len(slices) - 0.4)
    axes.locator_params(axis="x", nbins=6)
    axes.grid(axis="y", visible=False)


def _whole(axes: Axes, report: GateReport, metric: str) -> None:
    """The same difference over all rows, as a line."""
    for value in report.metrics.difference[report.metrics.metric == metric].dropna():
        axes.axvline(value, color=panels.GREY, linestyle="--", linewidth=1)
