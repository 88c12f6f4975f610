"""The files that a scoring writes: the table of scores, and that of the rejected rows with their reasons."""

# pylint: disable=no-member  # pyarrow.compute makes its functions when it is imported

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from Codes.ground.errors import WorkbookError
from Codes.ground.files import sync
from Codes.scoring.table_parts import PARQUET, Part

STAMP = ("model", "model_version", "run_id")
ROW, REASON, LINE = "input row", "rejected because", "input line"
METADATA = b"workbook.scoring"  # of a Parquet file: what its rows came from


def added(answers: pa.Schema) -> list[str]:
    """The names of all columns that a scoring adds, `answers` (a schema) among them."""
    return [*answers.names, *STAMP, ROW, REASON, LINE]


class Writer:
    """A CSV or Parquet file at `path`, written table by table; without a `schema` the first one begins it."""

    def __init__(self, path: Path, form: str, schema: pa.Schema | None = None) -> None:
        self.path, self.rows = path, 0
        self._zipped, self._is_parquet = form.endswith(".gz"), form in PARQUET
        self._open_files = []  # from the inner to the outer
        path.unlink(missing_ok=True)
        if schema is not None:
            self._open(schema)

    def _open(self, schema: pa.Schema) -> None:
        self._open_files.append(pa.OSFile(str(self.path), "wb"))
        if self._zipped:
            self._open_files.append(pa.CompressedOutputStream(self._open_files[-1], "gzip"))
        writer = pq.ParquetWriter if self._is_parquet else pa_csv.CSVWriter
        try:
            self._open_files.append(writer(self._open_files[-1], schema))
        except pa.ArrowException as error:  # nested values in a CSV file
            raise WorkbookError(
                f"{self.path.name}: it cannot hold a column of the table ({error}); name a .parquet file."
            ) from error

    def write(self, table: pa.Table) -> None:
        """Append the rows of `table`."""
        if not table.num_rows:
            return
        if not self._open_files:
            self._open(table.schema)
        self._open_files[-1].write_table(table)
        self.rows += table.num_rows

    def close(self) -> int:
        """End the file, and bring it to the disk; returns how many rows it has."""
        if not self._open_files:
            return 0
        while self._open_files:
            self._open_files.pop().close()
        sync(self.path)
        return pq.read_metadata(self.path).num_rows if self._is_parquet else self.rows

    def abandon(self) -> None:
        """Let go of the file, which is of no use unless it was closed."""
        while self._open_files:
            with contextlib.suppress(OSError, pa.ArrowException):
                self._open_files.pop().close()


class Output:
    """The table of scores and that of rejected rows, while they are written."""

    def __init__(self, job: Any) -> None:
        self.job, self.rows, self.last = job, 0, 0
        place = job.place
        self.scores = Writer(place.folder / place.out.name, place.form, self._schema())
        self.side = Writer(place.folder / place.rejected.name, place.form)

    def write(self, part: Part, answers: pa.Table) -> None:
        """Write a `part`: its good rows with their `answers`, the others with their reasons."""
        sure = _finite(answers)
        for index in part.good[~sure]:
            part.reasons[int(index)] = ["the model gave no finite number"]
        rows, typed = part.rows, part.typed
        if part.reasons:
            kept = pa.array(part.good[sure])
            rows, typed, answers = rows.take(kept), typed.take(kept), answers.filter(pa.array(sure))
        self.scores.write(self._scored(rows, typed, answers))
        if part.reasons or part.ragged:
            self.side.write(self._rejected(part))
        self.rows += part.count()
        self.last = max([self.last, *part.numbers[-1:], *(number for number, _, _ in part.ragged)])

    def _scored(self, rows: pa.Table, typed: pa.Table, answers: pa.Table) -> pa.Table:
        """The table of scores: all columns of `rows`, the `answers`, and by which model."""
        if self.job.table.is_text and self.job.place.form in PARQUET:
            numbers = [n for n in typed.column_names if not pa.types.is_dictionary(typed[n].type)]
            rows = _with(rows, typed.select(numbers))
        stamp, called = {}, self.job.called
        answers = answers.rename_columns([called[name] for name in answers.column_names])
        version = self.job.version
        for name, value in zip(STAMP, (version.name, version.number, version.run_id or "")):
            values = pa.repeat(value, rows.num_rows)
            stamp[called[name]] = values.dictionary_encode() if isinstance(value, str) else values
        return _with(_with(rows, answers), pa.table(stamp))

    def _schema(self) -> pa.Schema:
        """The schema of the table of scores."""
        rows = self.job.table.schema.empty_table()
        part = self.job.rules.check(Part(0, rows, np.arange(0)), self.job.table)
        empty = self._scored(rows, part.typed, self.job.answers.empty_table())
        return empty.schema.with_metadata({METADATA: json.dumps(self.job.identity)})

    def _rejected(self, part: Part) -> pa.Table:
        """The table of the rejected rows of `part`: number, reason, and what they held."""
        bad, called = sorted(part.reasons), self.job.called
        found = {
            called[ROW]: [*part.numbers[bad].tolist(), *(number for number, _, _ in part.ragged)],
            called[REASON]: ["; ".join(part.reasons[i]) for i in bad]
            + [why for _, why, _ in part.ragged],
        }
        if self.job.table.is_text:
            found[called[LINE]] = pa.array(
                [None] * len(bad) + [t for _, _, t in part.ragged], pa.string()
            )
        gaps = pa.table({f.name: pa.nulls(len(part.ragged), f.type) for f in part.rows.schema})
        rows = pa.concat_tables([part.rows.take(pa.array(bad, pa.int64())), gaps])
        return _with(pa.table(found), rows).sort_by(called[ROW])

    def counts(self) -> tuple[int, int, int]:
        """(rows, scored, rejected) of the finished files; a WorkbookError if any row is missing or twice."""
        scored, rejected = self.scores.close(), self.side.close()
        there = self.last if self.job.table.is_text else self.job.table.total
        if not scored + rejected == self.rows == there:
            raise WorkbookError(
                f"{self.job.place.out}: {there} rows were in the table, {self.rows} read, {scored} scored and "
                f"{rejected} rejected: the output is not used."
            )
        return int(self.rows), scored, rejected

    def close(self) -> None:
        """Let the files go."""
        self.scores.abandon()
        self.side.abandon()


def _with(table: pa.Table, other: pa.Table) -> pa.Table:
    """The Arrow `table` with the columns of the `other`, replaced in their place or appended."""
    columns = dict(zip(table.column_names, table.columns))
    return pa.table(columns | dict(zip(other.column_names, other.columns)))


def _finite(answers: pa.Table) -> np.ndarray:
    """A mask of the rows of `answers` whose numbers are all finite."""
    sure = np.ones(answers.num_rows, dtype=bool)
    for values in answers.columns:
        if pa.types.is_floating(values.type):
            sure &= pc.is_finite(values).to_numpy()
    return sure
