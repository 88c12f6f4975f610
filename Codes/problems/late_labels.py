"""The truth that comes later, from a table of its own, joined by the key that the problem's file names."""

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from Codes.ground.errors import WorkbookError, counted, nearest
from Codes.problems.problem import Problem
from Codes.tables import reader
from Codes.tables.cell_values import in_utc


def of(  # pylint: disable=too-many-locals
    rows: pa.Table, problem: Problem
) -> tuple[pd.Series, list[str]]:
    """(the target of each of the `rows`, None where it has not come; sentences on what is odd).

    A key with two truths has none.
    """
    labels = problem.monitoring.labels
    nothing = pd.Series([None] * rows.num_rows, dtype=object)
    if labels is None:
        return nothing, []
    if not labels.path.exists():
        return nothing, [f"{labels.path}: there is no such table of labels (yet)"]
    table, named = reader.read(labels.path, None, problem.source.reading), [
        *labels.key,
        problem.target,
    ]
    _require(problem, "table of labels has", table.column_names, named)
    _require(problem, "rows have", rows.column_names, labels.key)
    known = table.select(named).to_pandas().dropna().drop_duplicates()
    twice = known.duplicated(labels.key, keep=False)
    told = []
    if twice.any():
        keys = counted(len(known[twice].drop_duplicates(labels.key)), "key")
        told.append(f"{keys} with labels that contradict each other: left out")
    known = known[~twice]
    found = known.set_axis(_keys(known, labels.key))[problem.target].astype(object)
    asked = rows.select(labels.key).to_pandas()
    wanted, has_key = _keys(asked, labels.key), asked.notna().all(axis=1).to_numpy()
    if missing := int((~has_key).sum()):
        told.append(f"{counted(missing, 'row')} without a key: no truth is known of them")
    if repeated := int(wanted[has_key].duplicated().sum()):
        told.append(
            f"{counted(repeated, 'row')} with a key that an earlier row has: all get its label"
        )
    values = found.reindex(wanted)
    return values.where(values.notna(), None).reset_index(drop=True), told


def filled(table: pa.Table, problem: Problem) -> pa.Table:
    """`table` with the targets that came later, where it has none of its own: what can be learned from.

    Raises:
        WorkbookError: the labels are of another type than the table's own targets.
    """
    if problem.monitoring.labels is None or not problem.monitoring.labels.path.exists():
        return table
    late = pa.Array.from_pandas(of(table, problem)[0])
    if problem.target not in table.column_names:
        return table.append_column(problem.target, late)
    own = table[problem.target].combine_chunks()
    if pa.types.is_dictionary(own.type):
        own = own.dictionary_decode()
    missing = own.is_null(nan_is_null=True)
    if pc.all(missing).as_py():
        own = pa.nulls(len(own), late.type)
    try:
        column = pc.if_else(missing, late.cast(own.type), own)
    except pa.ArrowException as error:
        raise WorkbookError(
            f"{problem.name}: monitoring.labels: '{problem.target}' holds {late.type} there, {own.type} in the table"
        ) from error
    return table.set_column(table.column_names.index(problem.target), problem.target, column)


def _require(problem: Problem, which: str, names: Sequence[str], needed: Sequence[str]) -> None:
    if missing := [name for name in needed if name not in names]:
        raise WorkbookError(
            f"{problem.name}: monitoring.labels: the {which} no column '{missing[0]}'{nearest(missing[0], names)}"
        )


def _keys(frame: pd.DataFrame, names: Sequence[str]) -> pd.Index:
    """The values of the key columns of each row, as text that compares: 1 and 1.0 are one."""
    return pd.Index(
        ["\x1f".join(parts) for parts in zip(*(_texts(frame[n]) for n in names))], dtype=object
    )


def _texts(values: pd.Series) -> pd.Series:
    if pd.api.types.is_datetime64_any_dtype(values):
        return in_utc(values).astype(str)
    return values.map(
        lambda v: str(int(v)) if isinstance(v, float) and v.is_integer() else str(v)
    ).astype(str)
