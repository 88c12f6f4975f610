"""The data contract: what a problem asks of each column of its table, held against a frame.

Not by pandera: the same rules are held against the rows of a request and of a table in parts, where there is no frame,
and a broken one is told in the words of the problem's file.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pandas as pd

from Codes.ground.errors import NOTE, WorkbookError
from Codes.tables import reader

if TYPE_CHECKING:  # for annotations alone: problems import tables
    from Codes.problems.problem import Problem, Rule


FEW = 10  # rows of a class: with fewer, a score says little
# MLflow's type of a model's column -> the contract's words that may be asked of it
ASKED = {
    "boolean": ("boolean",),
    "string": ("text",),
    "datetime": ("time",),
    **dict.fromkeys(("integer", "long", "float", "double"), ("integer", "number", "boolean")),
}


def check(frame: pd.DataFrame, problem: "Problem") -> pd.DataFrame:
    """The contract of `problem` held against `frame`: a row a column, with a boolean `ok`, and what it means."""
    rows = [_row(frame, column, rule) for column, rule in problem.contract.items()]
    table = pd.DataFrame(rows, columns=["column", "required", "seen", "ok"])
    if problem.columns:
        table.insert(1, "meaning", [problem.meaning(column) for column in table["column"]])
    return table


def require(frame: pd.DataFrame, problem: "Problem") -> None:
    """Raise a WorkbookError that names the first broken rule of the contract, else say the `notes`."""
    table = check(frame, problem)
    for row in table[~table["ok"].astype(bool)].itertuples():
        raise WorkbookError(
            f"{problem.name}: contract: {row.column}: needs {row.required}; saw {row.seen}"
        )
    for line in notes(frame, problem):
        click.echo(f"{NOTE}{problem.name}: {line}", err=True)


def notes(frame: pd.DataFrame, problem: "Problem") -> Iterator[str]:
    """What whoever trains on `frame` (see data.load) ought to know, a sentence each: columns left out, rare classes."""
    for name in frame.attrs.get("columns", ()):
        if name not in frame and name not in problem.exclude:
            yield f"column '{name or reader.UNNAMED}' is the index of a data frame, or empty: it is left out"
    if problem.task == "classification":
        counts = frame[problem.target].value_counts()
        rare = counts[(counts > 0) & (counts < FEW)]
        few = ", ".join(f"{count} of {label}" for label, count in rare.head(5).items())
        if few:
            yield f"so few rows to train and to validate on that scores are mostly luck: {few}"


def _row(frame: pd.DataFrame, column: str, rule: "Rule") -> tuple[str, str, str, bool]:
    """One row of the contract's table."""
    if column not in frame:
        return column, _required(rule), "no such column", False
    values = frame[column]
    seen = [type_of(values, rule.type)]
    ok = seen[0] == rule.type or (seen[0], rule.type) == ("integer", "number")
    present = values.dropna()
    if ok and rule.type in ("integer", "number", "time") and len(present):
        low, high = present.min(), present.max()
        seen.append(f"from {low} to {high}")
        ok &= rule.min is None or low >= comparable(rule.min, values)
        ok &= rule.max is None or high <= comparable(rule.max, values)
    others = sorted(set(present.unique()) - set(rule.allowed)) if rule.allowed else []
    if others:
        seen.append(f"also {some(others)}")
    missing = values.isna().mean() if len(values) else 0.0
    seen.append(f"{missing:.2%} missing")
    ok &= not others and missing <= rule.missing_share
    return column, _required(rule), ", ".join(seen), bool(ok)


def rules_for(problem: "Problem", kinds: Mapping[str, str]) -> "dict[str, Rule]":
    """{column: rule} of the contract of `problem` for a model's columns `kinds` ({name: MLflow's type}).

    Raises:
        WorkbookError: it says nothing of them, or asks a type that such a column cannot have.
    """
    rules = {name: rule for name, rule in problem.contract.items() if name in kinds}
    if not rules:
        raise WorkbookError(f"{problem.name}: its contract names no column that the model takes.")
    for name, rule in rules.items():
        if rule.type not in ASKED.get(kinds[name], ()):
            raise WorkbookError(
                f"{problem.name}: contract: {name}: asks for the type {rule.type}, and the model takes {kinds[name]}."
            )
    return rules


def breaches(values: pd.Series, rule: "Rule") -> np.ndarray:
    """A mask of the `values` (a Series) that break `rule`; a gap breaks none: its share is asked of tables only."""
    present = values.dropna()
    wrong = pd.Series(False, present.index)
    if rule.type == "integer":
        wrong |= present % 1 != 0
    if rule.type == "boolean":
        wrong |= ~present.isin([0, 1])
    if rule.min is not None:
        wrong |= present < comparable(rule.min, present)
    if rule.max is not None:
        wrong |= present > comparable(rule.max, present)
    if rule.allowed:
        wrong |= present.isin(list(set(present.unique()) - set(rule.allowed)))
    return wrong.reindex(values.index, fill_value=False).to_numpy(bool)


def asked(rule: "Rule") -> str:
    """What `rule` asks of each value, in words."""
    words = [rule.type]
    words += [f"from {rule.min}"] if rule.min is not None else []
    words += [f"to {rule.max}"] if rule.max is not None else []
    words += [f"one of {some(rule.allowed)}"] if rule.allowed else []
    return ", ".join(words)


def type_of(values: pd.Series, asked_for: str) -> str:
    """The contract's word for the type of `values`; whole numbers with gaps are integers, 1 and 0 are `asked_for`."""
    if values.dtype == bool:
        return "boolean"
    if pd.api.types.is_datetime64_any_dtype(values):
        return "time"
    if not pd.api.types.is_numeric_dtype(values):
        return "text"
    present = values.dropna()
    if asked_for == "boolean" and present.isin([0, 1]).all():
        return asked_for
    whole = (present % 1 == 0).all()
    return "integer" if whole else "number"


def _required(rule: "Rule") -> str:
    """What `rule` asks of a table's column, in words."""
    return f"{asked(rule)}, at most {rule.missing_share:.0%} missing"


def comparable(bound: Any, values: pd.Series) -> Any:
    """`bound` as it compares with `values`: a date becomes a time stamp in their zone (without one: in UTC)."""
    if not pd.api.types.is_datetime64_any_dtype(values) or isinstance(bound, (int, float)):
        return bound
    stamp, zone = pd.Timestamp(bound), values.dt.tz
    if zone is None and stamp.tzinfo is not None:  # a table's times of a zone are in UTC
        return stamp.tz_convert("UTC").tz_localize(None)
    return stamp.tz_localize(zone) if stamp.tzinfo is None else stamp


def some(values: Sequence[object]) -> str:
    """The first of `values`, as text."""
    shown = ", ".join(str(value) for value in values[:6])
    return f"{shown}, …" if len(values) > 6 else shown
