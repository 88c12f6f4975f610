"""A problem's table at a glance: what each column was taken for, what looks odd, and what training starts from."""

from collections.abc import Iterable, Iterator

import pandas as pd

from Codes.ground import labels
from Codes.ground.errors import WorkbookError
from Codes.problems import data, own_metric
from Codes.problems.problem import Problem
from Codes.tables import contract
from Codes.tables.column_checks import Trouble

CLASSES = 6  # that are shown
SHOWN = {"column": 25, "such as": 16}  # characters, so that a terminal of 80 holds them all


def columns(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """A row for each column of `frame` (see data.load): type, use, gaps, different values, an example."""
    uses = {problem.target: "target", problem.time: "time"} | dict.fromkeys(problem.exclude, "—")
    uses |= data.roles(frame, problem)
    rows = []
    for name in frame.columns:
        values = frame[name]
        known = values.dropna()
        rows.append(
            {
                "column": name,
                "type": contract.type_of(values, "boolean"),
                "used as": uses[name] if len(known) else "— (empty)",
                "missing": f"{values.isna().mean():.1%}",
                "different": known.nunique(),
                "such as": str(known.iloc[0])[:30] if len(known) else "",
            }
        )
    table = pd.DataFrame(rows)
    if problem.columns:
        table.insert(1, "meaning", [problem.meaning(name) for name in frame.columns])
    return table


def left_out(problem: Problem) -> pd.DataFrame:
    """A row for each column that no model sees, and why."""
    return pd.DataFrame(problem.exclude.items(), columns=["column", "why it is left out"])


def missing(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """A row for each feature of `frame` that has gaps: in which share of the rows, the most first."""
    shares = data.features(frame, problem).isna().mean().sort_values(ascending=False)
    shares = shares[shares > 0]
    table = pd.DataFrame({"column": shares.index, "missing": [f"{s:.1%}" for s in shares]})
    if problem.columns:
        table.insert(1, "meaning", [problem.meaning(name) for name in shares.index])
    return table


def finding(frame: pd.DataFrame, problem: Problem) -> str:
    """What a look at `frame` (see data.look) found, as a Markdown list: rows, target, contract, gaps, what moves."""
    values, rules = data.target(frame, problem).dropna(), data.check(frame, problem)
    gaps, inputs = missing(frame, problem), data.features(frame, problem).shape[1]
    lines = [f"{len(frame):,} rows were looked at; {_typical(values, problem)}."]
    if len(rules):
        lines.append(f"{rules['ok'].sum()} of {len(rules)} rules of the contract hold.")
    most = (
        f"; most {problem.called(gaps.column[0], unit=False)} ({gaps.missing[0]})"
        if len(gaps)
        else ""
    )
    left = f"{len(problem.exclude)} columns are left out, " if problem.exclude else ""
    lines.append(f"{left}{inputs} may be used, of which {len(gaps)} have gaps{most}.")
    return "\n".join(f"- {line}" for line in [*lines, *_moves(frame, problem)])


def _typical(values: pd.Series, problem: Problem) -> str:
    """What the target mostly is."""
    name = problem.called(problem.target)
    if problem.task == "regression":
        if not pd.api.types.is_numeric_dtype(values):
            return f"{name} is text"
        return f"{name} is {labels.number(float(values.mean()), 4)} on average"
    shares = values.value_counts(normalize=True)
    if shares.empty:
        return f"{name} has no values"
    return f"{name} is {shares.index[0]} in {shares.iloc[0]:.1%} of them, so that this is right as often for nothing"


def _moves(frame: pd.DataFrame, problem: Problem) -> Iterator[str]:
    """Between which months the target's mean lies, and so how it is to be split."""
    time = problem.time
    if time is None or not pd.api.types.is_datetime64_any_dtype(frame[time]):
        return
    values = data.target(frame, problem)
    if problem.task == "classification":
        known = sorted(values.dropna().unique())
        if len(known) != 2:
            return
        values = values == (known[-1] if problem.positive is None else problem.positive)
    elif not pd.api.types.is_numeric_dtype(values):
        return
    months = values.astype(float).groupby(frame[time].dt.strftime("%Y-%m")).mean()
    if len(months) > 1:
        ends = [f"{months[m]:.3g} in {m}" for m in (months.idxmin(), months.idxmax())]
        how = (
            "by time, as a model meets it"
            if problem.split.kind == "time"
            else f"{problem.split.kind}"
        )
        yield f"By month the target's mean goes from {ends[0]} to {ends[1]}; the rows are split {how}."


def facts(frame: pd.DataFrame, problem: Problem) -> Iterator[str]:
    """What training starts from, in words: rows, the parts of the split, the target. `frame` is of data.whole."""
    values = data.target(frame, problem)
    train, validation = data.split(frame, problem)
    rest = len(frame) - len(train) - len(validation)
    sides = f"{len(train):,} to train, {len(validation):,} to validate, {rest:,} to test"
    yield f"{len(frame):,} rows with a target; {sides} ({problem.split.kind})"
    if data.is_small(frame, problem):
        yield "so few are scored by repeated cross-validation on those to train and to validate"
    if problem.task == "regression":
        yield f"target {problem.target}: from {values.min():g} to {values.max():g}, mean {values.mean():g}"
        return
    shares = values.value_counts(normalize=True)
    classes = ", ".join(f"{label} {share:.1%}" for label, share in shares.head(CLASSES).items())
    more = f", and {len(shares) - CLASSES} more classes" if len(shares) > CLASSES else ""
    yield f"target {problem.target}: {classes}{more}"
    yield f"always saying {shares.index[0]} is right in {shares.iloc[0]:.1%} of the rows"


def troubles(problem: Problem) -> pd.DataFrame:
    """A row for each trouble of the problem's table: column, what, in how many rows, what to do, whether refused."""
    found = [
        (each.column, each.what, each.rows, each.do, each.refused) for each in data.examine(problem)
    ]
    table = pd.DataFrame(found, columns=["column", "what", "rows", "do", "refused"])
    return table.astype({"rows": "Int64"})


def report(problem: Problem) -> Iterator[str]:
    """The lines that `workbook problems NAME` prints; a WorkbookError where nothing can be trained."""
    metric = problem.metric
    yield f"{problem.name}: {problem.title} ({problem.task}; {metric.name}, to {metric.direction})\n"
    oddities = data.examine(problem)
    if any(each.refused for each in oddities):
        yield from _listed(oddities)
        count = sum(each.refused for each in oddities)
        raise WorkbookError(f"{problem.name}: nothing can be trained: {count} of these refused it")
    frame = data.whole(problem)
    own_metric.rehearse(problem, data.target(frame, problem))
    table = columns(frame, problem).drop(columns="meaning", errors="ignore")
    short = {
        name: table[name].map(lambda t, m=most: labels.short(t, m)) for name, most in SHOWN.items()
    }
    yield table.assign(**short).to_string(index=False) + "\n"
    meanings = [f"{name}: {problem.meaning(name)}" for name in frame if problem.meaning(name)]
    if meanings:
        yield "\n".join(labels.short(each, 80) for each in meanings) + "\n"
    yield from facts(frame, problem)
    rules = data.check(frame, problem)
    holding = f"{rules['ok'].sum()} of {len(rules)} rules of the contract hold"
    yield holding if len(rules) else "there is no contract to hold the columns against"
    yield from _listed(oddities)
    data.require(frame, problem)


def _listed(found: Iterable[Trouble]) -> Iterator[str]:
    """A line for each trouble."""
    for each in found:
        yield f"{'refused' if each.refused else 'odd'}: {each.line()}"
