"""The rows that are watched: what came after the training, another table, or captured requests; and the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from Codes.ground.errors import WorkbookError, counted
from Codes.model_registry.registry import Version
from Codes.drift import large, windows
from Codes.drift.reference import Reference
from Codes.drift.windows import Window
from Codes.problems import late_labels
from Codes.problems.problem import Problem
from Codes.serving import capture
from Codes.tables import reader
from Codes.tables.cell_values import in_utc

TIME = "time"  # of a captured request
SHOWN = 4  # columns in a sentence


@dataclass(frozen=True, eq=False)
class Watched:
    """A `table` cut into `windows`, and where it is from; `truth` of each row, None where it has not come."""

    table: pa.Table
    times: pd.Series | None
    windows: list[Window]
    truth: pd.Series
    source: str
    notes: tuple[str, ...] = ()


def of(  # pylint: disable=too-many-locals
    version: Version,
    reference: Reference,
    table: str | Path | None = None,
    captured: bool | Path = False,
) -> Watched:
    """The rows to watch `version` by: those of a `table`, the `captured` requests, else what came after its training.

    Args:
        captured: the folder that `workbook serve` was given for them; True: its default.

    Raises:
        WorkbookError: there is no such table, it lacks the time, or nothing has come after the training.
    """
    problem = reference.problem
    if captured or table is None and reference.times is None:
        rows, source, notes = _captured(
            version,
            captured if isinstance(captured, Path) else capture.FOLDER,
            problem.monitoring.label_key,
        )
        column = TIME
    else:
        path = Path(table) if table else problem.source.path
        if path is None or not path.exists():
            raise WorkbookError(f"{path}: there is no such table.")
        rows, source, notes = _read(path, problem), str(path), []
        column = problem.time or ""
    times = rows[column].to_pandas() if column in rows.column_names else None
    if table is None and not captured and reference.times is not None:
        rows, times = _after(rows, times, reference)
    window = reference.window
    try:
        cut, odd = windows.cut(rows.num_rows, times, window)
    except WorkbookError as error:
        raise WorkbookError(f"{source}: {error.message}") from error
    truth, told = _truth(rows, problem)
    new = _unknown(rows.column_names, reference, column)
    return Watched(rows, times, cut, truth, source, (*notes, *new, *odd, *told))


def _unknown(names: Sequence[str], reference: Reference, time: str) -> list[str]:
    """A sentence on the columns of these `names` that the version does not know, where there are any."""
    problem = reference.problem
    known = {
        *map(str, reference.rows),
        *problem.monitoring.leave_out,
        *problem.private,
        *problem.exclude,
        *problem.monitoring.label_key,
        problem.target,
        time,
    }
    new = [name for name in names if name not in known]
    shown = ", ".join(new[:SHOWN]) + ", …" * (len(new) > SHOWN)
    told = f"{counted(len(new), 'column')} that the model does not take: {shown}: not watched"
    return [told] * bool(new)


def _read(path: Path, problem: Problem) -> pa.Table:
    source = problem.source
    if path != source.path and large.is_large(path):
        return large.mapped(path, problem)
    sha256 = source.sha256 if path == source.path else None
    return reader.read(path, sha256, source.reading, problem.exclude)


def _after(
    rows: pa.Table, times: pd.Series | None, reference: Reference
) -> tuple[pa.Table, pd.Series]:
    """The `rows` from the first window on that begins after the training."""
    problem = reference.problem
    if times is None:
        raise WorkbookError(f"{problem.name}: its table has no column '{problem.time}' any more.")
    size = windows.length(reference.window)
    begin = reference.begin
    if not isinstance(size, int):
        begin = windows.MONDAY + -((windows.MONDAY - begin) // size) * size
    moments = in_utc(times)
    # rows without a time are told, wherever they belong
    kept = np.flatnonzero((moments >= begin).to_numpy() | moments.isna().to_numpy())
    if not (moments >= begin).any():
        raise WorkbookError(
            f"{problem.name}: its table has no row from {begin.date()} on, when the training was over: name another "
            "table (--table FILE) or the captured requests (--captured)."
        )
    return rows.take(kept), times.iloc[kept].reset_index(drop=True)


def _captured(
    version: Version, folder: Path, key: Sequence[str]
) -> tuple[pa.Table, str, list[str]]:
    """What `workbook serve` has captured of the `version` in `folder`."""
    rows, unreadable = [], 0
    for each in sorted(
        folder.glob(f"{version.name}[@-]*")
    ):  # a folder for each spec that was served
        some, cut = capture.read(each)
        rows, unreadable = rows + some, unreadable + cut
    own = [r for r in rows if _is_of(r, version)]
    notes = [
        f"{counted(unreadable, 'captured line')} could not be read: cut short, or of another kind"
    ] * bool(unreadable)
    if others := len(rows) - len(own):
        notes.append(f"{counted(others, 'captured row')} of other versions: left out")
    if not own:
        raise WorkbookError(
            f"{folder}: no request to {version} is captured there: workbook serve {version.name}@production, "
            "or name its folder (--folder DIR) or a table (--table FILE)."
        )
    frame = pd.DataFrame([r["columns"] for r in own])
    frame[TIME] = pd.to_datetime(
        [r["time"] for r in own], utc=True, errors="coerce", format="ISO8601"
    )
    for name in key:  # whatever clients sent
        given = [r["columns"].get(name) for r in own]
        frame[name] = pd.Series([None if v is None else str(v) for v in given], dtype=object)
    return reader.plain(pa.Table.from_pandas(frame, preserve_index=False)), str(folder), notes


def _is_of(row: dict, version: Version) -> bool:
    return (
        row["run_id"] == version.run_id
        if row["run_id"]
        else str(row["version"]) == str(version.number)
    )


def _truth(rows: pa.Table, problem: Problem) -> tuple[pd.Series, list[str]]:
    """(the target of each row, None where it is not known; sentences on what is odd): from the table, or by a key."""
    if problem.monitoring.labels is not None:
        return late_labels.of(rows, problem)
    if problem.target in rows.column_names:
        values = rows[problem.target].to_pandas()
        return values.astype(object).where(values.notna(), None), []
    return pd.Series([None] * rows.num_rows, dtype=object), []
