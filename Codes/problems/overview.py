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
    return pd.DataFrame(rows)


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
    table = columns(frame, problem)
    short = {
        name: table[name].map(lambda t, m=most: labels.short(t, m)) for name, most in SHOWN.items()
    }
    yield table.assign(**short).to_string(index=False) + "\n"
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
