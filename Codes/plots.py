"""Plots: each function returns a labelled figure, in one style, for both tasks where it makes sense."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import FancyBboxPatch
from sklearn import metrics

from Codes import panels
from Codes.panels import styled

MOST = 12  # panels, bars or features in one figure


@styled
def ranking(problem, table):
    """Does it rank? ROC and precision-recall of a classifier's predictions; else predicted against actual."""
    if problem.task == "regression":
        return panels.amounts(problem, table)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
    for label, hit, score in panels.one_against_rest(problem, table):
        wrong, right_share, _ = metrics.roc_curve(hit, score)
        left.plot(
            wrong, right_share, label=f"{label}: area {metrics.roc_auc_score(hit, score):.3f}"
        )
        precision, recall, _ = metrics.precision_recall_curve(hit, score)
        area = metrics.average_precision_score(hit, score)
        right.plot(recall, precision, label=f"{label}: average {area:.3f}, chance {hit.mean():.3f}")
        right.axhline(hit.mean(), color=panels.GREY, linestyle="--", linewidth=1)
    left.plot([0, 1], [0, 1], color=panels.GREY, linestyle="--", linewidth=1, label="chance")
    left.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")
    right.set(title="Precision and recall", xlabel="recall", ylabel="precision", ylim=(0, 1.03))
    left.legend(loc="lower right")
    right.legend(loc="best")
    return figure


@styled
def errors(problem, table):
    """Where is it wrong? Calibration and confusion of a classifier's predictions; else the residuals."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
    if problem.task == "regression":
        panels.residuals(left, right, table)
    else:
        panels.calibration(left, problem, table)
        panels.confusion(right, table)
    return figure


@styled
def importances(table, metric):
    """Bars of `evaluation.importance`'s table, the largest on top; `metric` is what got worse."""
    top = table.head(MOST)[::-1]
    figure, axes = plt.subplots(figsize=(7, 0.7 + 0.3 * len(top)))
    axes.barh(
        top.index, top["mean"], xerr=top["std"], color=panels.MODEL, ecolor=panels.INK, height=0.65
    )
    axes.axvline(0, color=panels.INK, linewidth=0.8)
    left_out = len(table) - len(top)
    rest = f" (the first {len(top)}; {left_out} more matter less)" if left_out else ""
    axes.set(
        title=f"What the model relies on{rest}",
        xlabel=f"{metric}: how much worse when the column is shuffled",
    )
    axes.grid(axis="y", visible=False)
    return figure


@styled
def distributions(frame, problem, columns):
    """A small panel for each of `columns`: its values in `frame`, by class where the target has two."""
    shown = list(columns)[:MOST]
    rows = -(-len(shown) // 4)
    figure, grid = plt.subplots(rows, 4, figsize=(11, 2.3 * rows), squeeze=False)
    groups = panels.groups(frame, problem)
    for axes, column in zip(grid.flat, shown):
        draw = panels.bars if panels.is_words(frame[column], problem) else panels.histogram
        draw(
            axes, column, [(label, frame.loc[mask, column], color) for label, mask, color in groups]
        )
        axes.set_title(column, fontsize=9)
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    if len(groups) > 1:
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(groups))
    rest = f" (the first {len(shown)} of {len(columns)})" if len(columns) > len(shown) else ""
    figure.supylabel("share of the rows" + rest, fontsize=9)
    return figure


@styled
def target(frame, problem):
    """The target's own distribution in `frame`: bars of its classes, or a histogram."""
    values = frame[problem.target]
    figure, axes = plt.subplots(figsize=(7, 2.4))
    if problem.task == "regression":
        axes.hist(values, bins=40, color=panels.MODEL)
        axes.axvline(
            values.mean(), color=panels.INK, linestyle="--", label=f"mean {values.mean():.4g}"
        )
        axes.legend()
        axes.set(xlabel=problem.target, ylabel="rows")
    else:
        shares = values.value_counts(normalize=True)[::-1]
        bars = axes.barh(shares.index.astype(str), shares, color=panels.MODEL, height=0.6)
        axes.bar_label(bars, [f"{share:.1%}" for share in shares], padding=4)
        axes.set(xlabel="share of the rows", ylabel=problem.target, xlim=(0, 1))
    axes.set_title(problem.title)
    return figure


@styled
def through_time(frame, problem):
    """How the target moves: its mean by month with a 95 % interval, over the number of rows."""
    if problem.time is None:
        return panels.nothing(f"{problem.name} has no time column: there is nothing to follow")
    label, hit = panels.averaged(frame, problem)
    months = hit.groupby(panels.months(frame, problem)).agg(["mean", "std", "size"])
    margin = 1.96 * months["std"] / np.sqrt(months["size"])
    figure, (top, below) = plt.subplots(2, sharex=True, figsize=(9, 4), height_ratios=(3, 1))
    top.errorbar(months.index, months["mean"], margin, color=panels.MODEL, marker="o", capsize=3)
    top.axhline(
        hit.mean(), color=panels.GREY, linestyle="--", linewidth=1, label="mean of all rows"
    )
    top.set(title=f"{label}, by month (bars: 95 % interval)", ylabel=label)
    top.legend()
    below.bar(months.index, months["size"], color=panels.GREY, width=0.7)
    below.set(ylabel="rows")
    below.tick_params(axis="x", rotation=45)
    return figure


@styled
def drift(frame, problem, columns):
    """How features move: the shift of each month's mean, in standard deviations, as a heat map.

    Of a categorical column it is the share of its commonest value that moves.
    """
    if problem.time is None:
        return panels.nothing(f"{problem.name} has no time column: there is nothing to follow")
    series = dict(panels.as_numbers(frame[column], problem) for column in columns)
    numbers = pd.DataFrame(series)
    shift = (numbers - numbers.mean()) / numbers.std().replace(0, np.nan)
    table = shift.groupby(panels.months(frame, problem)).mean().T
    table = table.loc[table.abs().max(axis=1).sort_values(ascending=False).index[: 2 * MOST]]
    figure, axes = plt.subplots(figsize=(9, 1 + 0.26 * len(table)))
    image = axes.imshow(table, cmap="PuOr", vmin=-1, vmax=1, aspect="auto")
    axes.set_xticks(range(table.shape[1]), table.columns, rotation=45, ha="right")
    axes.set_yticks(range(len(table)), table.index)
    axes.grid(False)
    axes.set_title("How the features move, the most restless first")
    figure.colorbar(image, label="mean of the month\n(standard deviations from the year's)")
    return figure


@styled
def leaderboard(table, metric):
    """A row a run, the best on top: test with its 95 % interval, train and baseline.

    Args:
        table: columns label, test, train, baseline, error (standard error of test), sorted best first.
    """
    if table.empty:
        return panels.nothing("no runs yet")
    top = table.head(2 * MOST)[::-1].reset_index(drop=True)
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.32 * len(top)))
    axes.hlines(top.index, top.test, top.train, color="#CBD0D4", linewidth=2)
    axes.scatter(
        top.train, top.index, facecolor="white", edgecolor=panels.MODEL, label="train", zorder=3
    )
    axes.errorbar(
        top.test,
        top.index,
        xerr=1.96 * top.error.fillna(0),
        fmt="o",
        color=panels.MODEL,
        capsize=3,
        label="test, with its 95 % interval",
    )
    axes.scatter(
        top.baseline, top.index, marker="|", s=120, color=panels.HIT, label="baseline (test)"
    )
    axes.set_yticks(top.index, top.label)
    axes.set(
        title=f"{metric} of each run, the best on top", xlabel=metric, ylim=(-0.6, len(top) - 0.4)
    )
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@styled
def sweep(table, metric, direction="maximize"):
    """A sweep's trials: the score of each with the best so far, and the score over each parameter that varied.

    Args:
        table: columns trial, test, run_id and the varied parameters (see `comparison.trials`).
    """
    if table.empty:
        return panels.nothing("no sweep yet")
    names = [name for name in table if name not in ("trial", "test", "run_id")][:MOST]
    columns = min(4, 1 + len(names))
    rows = -(-(1 + len(names)) // columns)
    size = (2.9 * columns, 3 * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=True)
    first, *others = grid.flat
    best = table.test.cummin() if direction == "minimize" else table.test.cummax()
    first.scatter(table.trial, table.test, s=22, color=panels.MODEL)
    first.step(table.trial, best, where="post", color=panels.HIT, label="best so far")
    first.set(title="In the order of the trials", xlabel="trial")
    first.legend()
    for axes, name in zip(others, names):
        panels.scores_over(axes, table[name], table.test, table.trial)
    for axes in others[len(names) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel(f"{metric}, test")
    return figure


@styled
def train_against_test(table, metric):
    """A dot a run, coloured by model: the further from the line, the more it learned by heart."""
    if table.empty:
        return panels.nothing("no runs yet")
    figure, axes = plt.subplots(figsize=(5.5, 4.5))
    for (model, runs), color in zip(table.groupby("model"), panels.CYCLE * len(table)):
        axes.scatter(runs.train, runs.test, s=45, color=color, label=textwrap.shorten(model, 40))
    ends = [table[["train", "test"]].min().min(), table[["train", "test"]].max().max()]
    axes.plot(ends, ends, color=panels.GREY, linestyle="--", linewidth=1, label="train = test")
    axes.set(
        title="Learned, or learned by heart?", xlabel=f"{metric}, train", ylabel=f"{metric}, test"
    )
    axes.legend()
    return figure


@styled
def flow():
    """The workbook's lifecycle as a picture: what is there now in blue, what comes later in grey."""
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
        later = i > 5
        face, text = (
            ("#ECEEF0", panels.INK)
            if later
            else (panels.MODEL if i else panels.ORANGE, "white" if i else panels.INK)
        )
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
def latencies(columns, what):
    """How long answers took: of each of `columns` (Series of milliseconds) the share that came within a time."""
    figure, axes = plt.subplots(figsize=(7, 3.2))
    for times in columns:
        middle, late = times.quantile(0.5), times.quantile(0.99)
        label = f"{times.name}: half within {middle:.1f} ms, 99 of 100 within {late:.1f} ms"
        axes.ecdf(times, label=f"{label} ({len(times)} answers)")
    axes.set(
        title=f"How long an answer takes: {what}",
        xlabel="milliseconds",
        ylabel="share of the answers",
    )
    axes.set_xscale("log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis("{x:g}")
    axes.tick_params(axis="x", which="minor", labelsize=7)
    figure.legend(loc="outside lower center")
    return figure


@styled
def gate(report, metric):
    """A gate.Report: which checks passed, and by slice how much better the candidate is than what is in production."""
    if report is None:
        return panels.nothing("it was not at the gate")
    slices = report.slices.head(2 * MOST)[::-1].reset_index(drop=True)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 1.6 + 0.22 * max(len(slices), 2 * len(report.checks)))
    )
    for i, check in enumerate(report.checks[::-1]):
        color = panels.GREEN if check.passed else panels.RED
        left.scatter(0, i, s=120, color=color, marker="o" if check.passed else "X")
        told = f"{check.name}\n{textwrap.shorten(check.found, 84)}"
        left.text(0.05, i, told, va="center", fontsize=8)
    left.set(xlim=(-0.05, 1), ylim=(-0.7, len(report.checks) - 0.3))
    left.set_title("Gate: passed" if report.passed else "Gate: refused")
    left.set_axis_off()
    if slices.empty:
        right.text(0.5, 0.5, "no slices", ha="center")
        right.set_axis_off()
        return figure
    names = slices.column + " " + slices.value
    if "difference" in slices:
        colors = [panels.GREEN if d >= 0 else panels.HIT for d in slices.difference]
        right.barh(names, slices.difference, color=colors, height=0.65)
        right.axvline(0, color=panels.INK, linewidth=0.8)
        right.set(
            title="By slice, the worst on top", xlabel=f"{metric}: better than in production by"
        )
    else:
        right.barh(names, slices.candidate, color=panels.MODEL, height=0.65)
        right.set(title="By slice, the weakest on top", xlabel=metric)
    right.grid(axis="y", visible=False)
    return figure
