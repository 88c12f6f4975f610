"""What a figure says, in one sentence from its own numbers: above the figure, and for who cannot see it.

Each function takes what its figure draws and gives the sentence; an empty text where nothing can be told.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics

from Codes.comparison.leaderboard import CLOSE, TAKEN
from Codes.figures import panels
from Codes.ground.labels import number, short
from Codes.judgement import finding
from Codes.judgement.decision import Decision
from Codes.judgement.finding import share
from Codes.problems.problem import Problem

ALIKE = 1e-9  # two scores that differ by less are the same
SURE = 0.1  # of the rows: those that a classifier is surest of


def ranking(problem: Problem, table: pd.DataFrame) -> str:
    """How well the predictions in `table` go in order."""
    if problem.task == "regression":
        away = (table.actual - table.predicted).abs()
        half, most = (_amount(problem, away.quantile(q)) for q in (0.5, 0.9))
        return f"Half of the predictions are within {half} of the truth, nine of ten within {most}."
    parts = panels.one_against_rest(problem, table)
    areas = {label: float(metrics.roc_auc_score(hit, score)) for label, hit, score in parts}
    if len(parts) == 1:
        label, hit, score = parts[0]
        first = np.argsort(-score, kind="stable")[: max(1, round(SURE * len(score)))]
        return (
            f"A row that is {label} is put above another {share(areas[label])} times (by chance 50); of the tenth that "
            f"the model is surest of, {share(hit[first].mean())} are {label}, of all {share(hit.mean())}."
        )
    best, worst = max(areas, key=areas.__getitem__), min(areas, key=areas.__getitem__)
    return (
        f"Of {len(parts)} classes {best} is told apart best (area {areas[best]:.3f}), {worst} worst "
        f"({areas[worst]:.3f})."
    )


def errors(problem: Problem, table: pd.DataFrame) -> str:
    """Which errors the labels make, or on which side the amounts lie."""
    if problem.task == "regression":
        return _residuals(problem, table)
    labels = list(dict.fromkeys([*table.actual, *table.predicted]))
    if len(labels) == 2:
        return _two(problem, table, labels)
    wrong = table[table.actual != table.predicted]
    right = f"The label is right for {share(1 - len(wrong) / len(table))} rows"
    if wrong.empty:
        return f"{right}."
    pair: Any = wrong.groupby(["actual", "predicted"], observed=True).size().idxmax()
    rows = table[table.actual == pair[0]]
    taken = share((rows.predicted == pair[1]).mean())
    return f"{right}; most often {short(pair[0], 24)} is taken for {short(pair[1], 24)}: {taken} of that class."


def _two(problem: Problem, table: pd.DataFrame, labels: list) -> str:
    """How many the label finds, how many of its alarms are false, and whether the probabilities come true."""
    told = finding.label_of_two(problem, table, labels)
    sought = panels.in_order(labels)[-1] if problem.positive is None else problem.positive
    probabilities = f"probability of {sought}"
    if probabilities in table:
        said, came = table[probabilities].mean(), (table.actual == sought).mean()
        told += f"; on average it says {said:.2f}, and {came:.2f} come true"
    return f"{told[:1].upper()}{told[1:]}."


def _amount(problem: Problem, value: float) -> str:
    """An amount of the target, with its unit where the problem's file says one."""
    unit = problem.columns[problem.target].unit if problem.target in problem.columns else ""
    return f"{number(float(value))} {unit}".strip()


def _residuals(problem: Problem, table: pd.DataFrame) -> str:
    residual = table.actual - table.predicted
    high = table.predicted >= table.predicted.quantile(0.9)
    off = _amount(problem, residual.abs().mean())
    mean, at_most = (_less(problem, each.mean()) for each in (residual, residual[high]))
    return (
        f"It is off by {off} on average, and says {mean} than there is; for the tenth with the highest predictions "
        f"{at_most}."
    )


def _less(problem: Problem, residual: float) -> str:
    """By how much a prediction is less than the truth, or more: '2.94 less'."""
    return f"{_amount(problem, abs(residual))} {'more' if residual < 0 else 'less'}"


def costs(decision: Decision) -> str:
    """What the threshold saves over answering always alike."""
    if decision.costs is None:
        return f"The problem's file fixes the threshold at {decision.threshold:.3g}."
    cost, ends = decision.cost(decision.threshold), decision.curve.cost
    always = {decision.positive: float(ends.iloc[0]), decision.other: float(ends.iloc[-1])}
    name = min(always, key=always.__getitem__)
    saved = 1 - cost / always[name] if always[name] else 0.0
    return (
        f"From {decision.threshold:.3g} on, errors cost {cost:.3g} a row: {saved:.0%} less than always saying "
        f"{short(name, 24)}."
    )


def importances(table: pd.DataFrame, problem: Problem) -> str:
    """Which column matters most, and how many do not."""
    top = table["mean"]
    if top.empty or not top.iloc[0] > 0:
        return "No column matters: shuffled, none makes the score worse."
    lost, metric = number(float(top.iloc[0])), short(problem.metric.name, 24)
    said = f"{_named(problem, top.index[0])} matters most: shuffled, it costs {lost} of {metric}"
    if len(top) > 1 and top.iloc[1] > 0:
        said += f", {top.iloc[0] / top.iloc[1]:.1f} times the next"
    flat = int((top <= 2 * table["std"].fillna(0)).sum())
    return f"{said}; {flat} of {len(top)} columns cost no more than chance." if flat else f"{said}."


def _named(problem: Problem, column: object) -> str:
    """What people call the `column`, to begin a sentence with."""
    called = short(problem.called(column, unit=False), 40)
    return called[:1].upper() + called[1:]


def distributions(strengths: pd.DataFrame, frame: pd.DataFrame, problem: Problem) -> str:
    """Which column goes most with the target, and whether that is more than chance; `strengths`: of association."""
    if strengths.empty:
        return ""
    top = strengths.iloc[0]
    if not top.real:
        return "No column alone goes with the target more than chance gives."
    called, name = short(problem.called(top.name, unit=False), 40), _named(problem, top.name)
    if problem.task == "regression":
        words = panels.is_words(frame[top.name], problem) or panels.is_text(frame[top.name])
        what = "correlation ratio of its ranks" if words else "correlation of their ranks"
        ends = f"0: none, 1: whole; by chance {top.chance:.2f}"
        return f"{name} goes most with the target: the {what} is {top.value:.2f} ({ends})."
    luck = f"by chance {100 * top.chance:.0f}"
    if len(panels.groups(frame, problem)) > 1:
        ends = f"0: alike, 100: apart; {luck}"
        return f"The two classes differ most in {called}: {share(top.value)} rows lie elsewhere ({ends})."
    told = f"{share(top.value)} rows of the commonest lie elsewhere than all rows do ({luck})"
    return f"The classes differ most in {called}: {told}."


def target(values: pd.Series, problem: Problem) -> str:
    """What the target is like: its commonest class, or its middle half."""
    if problem.task == "regression" and not panels.is_text(values):
        low, middle, high = (number(float(values.quantile(q))) for q in (0.25, 0.5, 0.75))
        return f"Half of the values lie between {low} and {high}, their median is {middle}."
    shares = values.value_counts(normalize=True)
    rarest = (
        f"; the rarest of {len(shares)} is {short(shares.index[-1], 24)}, {share(shares.iloc[-1])}"
        if len(shares) > 2
        else ""
    )
    return f"Who always says {short(shares.index[0], 24)} is right {share(shares.iloc[0])} times{rarest}."


def through_time(table: pd.DataFrame, word: str) -> str:
    """Between which stretches the target's mean lies, and whether chance would explain it.

    Args:
        table: a row a stretch of time: mean, and `margin` to each side.
    """
    known = table.dropna(subset=["mean"])
    if len(known) < 2:
        return ""
    high, low = known["mean"].idxmax(), known["mean"].idxmin()
    ends = [float(known["mean"][high]), float(known["mean"][low])]
    apart = ends[0] - known.margin[high] > ends[1] + known.margin[low]
    told = "more than chance gives" if apart else "no more than chance gives"
    return f"From {number(ends[1])} in the {word} {low} to {number(ends[0])} in {high}: {told}."


def drift(shifts: pd.DataFrame, word: str) -> str:
    """Which column moves most; `shifts`: a row a column, a column a stretch of time."""
    row = shifts.iloc[0].dropna()
    if row.empty:
        return ""
    name = short(shifts.index[0], 40)
    return (
        f"{name[:1].upper()}{name[1:]} moves most: from {row.min():+.2f} in the {word} {row.idxmin()} to "
        f"{row.max():+.2f} in {row.idxmax()}, in standard deviations."
    )


def leaderboard(table: pd.DataFrame) -> str:
    """How many cannot be told from the best, and what is recommended."""
    close = int(table.mark.isin([TAKEN, CLOSE]).sum())
    taken = table[table.mark == TAKEN]
    told = (
        f"{close} of {len(table)} cannot be told from the best on these rows"
        if len(table) > 1
        else "There is one run"
    )
    if taken.empty:
        return f"{told}; none is recommended."
    one = taken.iloc[0]
    if one.behind > 0:
        reach = f" ± {number(float(one.behind_reach), 2)}" if np.isfinite(one.behind_reach) else ""
        return f"{told}; recommended is {short(one['name'], 36)}, {number(float(one.behind), 2)}{reach} behind it."
    return f"{told}; recommended is {short(one['name'], 36)}."


def expenses(table: pd.DataFrame) -> str:
    """Which contestant learns longest, and how much longer than the quickest; of those near the best, where two are."""
    known = table[np.isfinite(table.fit_seconds) & (table.fit_seconds > 0)]
    if is_close := (known.mark != "").sum() > 1:
        known = known[known.mark != ""]
    if len(known) < 2:
        return ""
    slow, quick = known.loc[known.fit_seconds.idxmax()], known.loc[known.fit_seconds.idxmin()]
    times = slow.fit_seconds / quick.fit_seconds
    whose = "Of those that cannot be told from the best, " if is_close else ""
    return (
        f"{whose}{short(slow['name'], 30)} learns longest, {number(float(slow.fit_seconds), 2)} s: "
        f"{number(float(times), 2)} times as long as {short(quick['name'], 30)}."
    )


def train_against_validation(table: pd.DataFrame) -> str:
    """Who learned most by heart."""
    gaps = (table.train - table.score).abs()
    one = table.loc[gaps.idxmax()]
    return (
        f"{short(one['name'], 30)} is farthest from the line: {number(float(one.train))} on the rows it "
        f"learned from, {number(float(one.score))} on others."
    )


def sweep(table: pd.DataFrame, varied: Sequence[Any], direction: str) -> str:
    """The best trial, whether it came late, and which parameter goes most with the score."""
    scores = table.score if direction == "maximize" else -table.score
    if not scores.notna().any():
        return ""
    best = scores.idxmax()
    told = f"The best of {len(table)} trials is number {table.trial[best]}, {number(float(table.score[best]), 4)}"
    numbers = {name: pd.to_numeric(table[name], errors="coerce") for name in varied}
    ranks = pd.Series(
        {
            n: v.rank().corr(scores.rank())
            for n, v in numbers.items()
            if v.notna().all() and v.nunique() > 2
        },
        dtype=float,
    )
    if len(table) < 5 or not ranks.notna().any():
        return f"{told}."
    name = ranks.abs().idxmax()
    way = "more" if ranks[name] > 0 else "less"
    how = f"{way} is better: correlation of ranks {ranks[name]:+.2f}"
    return f"{told}; {short(name, 30)} goes most with the score ({how})."


def epochs(course: pd.DataFrame) -> str:
    """When it learned no more, and what it went on to learn by heart."""
    best = course.attrs["best"]
    if best not in course.index:
        return ""
    held, end = float(course.loss[best]), course.iloc[-1]
    return (
        f"Best at epoch {best} of {course.index[-1]}: loss {number(held)} on rows it does not learn from; after the "
        f"last it is {number(float(end.loss_train))} on its own rows, {number(float(end.loss))} on the others."
    )


def latencies(columns: Sequence[pd.Series]) -> str:
    """How much longer the last of `columns` waits than the first."""
    middles = [float(times.quantile(0.5)) for times in columns]
    if len(columns) < 2 or not middles[0]:
        return f"Half of the answers came within {middles[0]:.1f} ms."
    return (
        f"Half of the answers came within {middles[0]:.1f} ms ({columns[0].name}) and {middles[-1]:.1f} ms "
        f"({columns[-1].name}): {middles[-1] / middles[0]:.1f} times as long."
    )


def gate(report: Any, metric: str) -> str:
    """The verdict, what failed, and the worst slice."""
    failed = [check.name for check in report.checks if not check.passed]
    told = f"{report.verdict}: {len(report.checks) - len(failed)} of {len(report.checks)} checks passed"
    told += f"; failed: {short(', '.join(failed), 90)}" if failed else ""
    known = report.slices[report.slices.difference.notna()] if len(report.slices) else report.slices
    if known.empty:
        return f"{told}."
    worst = known.loc[known.difference.idxmin()]
    if abs(worst.difference) < ALIKE:
        return f"{told}; no slice is worse."
    side = "worse" if worst.difference < 0 else "better"
    against = "the one in production" if "champion" in known else "the baseline"
    named, by = short(f"{worst.column} {worst.value}", 24), number(abs(float(worst.difference)))
    score = f"{short(metric, 20)} {number(float(worst.candidate))}"
    return f"{told}; the least good slice is {named}: {score}, {side} than {against} by {by}."
