"""Tables larger than memory: CSV and Parquet files, read in parts of so many rows, each row with its number."""

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from Codes.ground.errors import WorkbookError, first_line
from Codes.tables import reader
from Codes.tables.cell_values import PLAIN, Reading

CSV, PARQUET = (".csv", ".csv.gz"), (".parquet",)
BLOCK = 4 << 20  # bytes of a CSV file that are parsed at once: more than its longest row
RAGGED = 100_000  # in a row: more, and the file is no CSV table with commas
Ragged = tuple[
    int, str, str
]  # a row with too few or too many fields: its number, what is wrong, its text


@dataclass
class Part:  # pylint: disable=too-many-instance-attributes
    """Some rows of a table: `rows` as they are in it, `numbers` (the first row is 1); `ragged` holds no fields.

    `reasons` ({index in `rows`: [text, …]}) tells why a row cannot be scored; `typed` and `good` are what a model
    takes: its columns in its types, and the indices of the rows without a reason.
    """

    number: int
    rows: pa.Table
    numbers: np.ndarray
    ragged: list[Ragged] = field(default_factory=list)
    reasons: dict[int, list[str]] = field(default_factory=dict)
    read: int = 0  # how far the table is read, in its unit
    typed: pa.Table = field(default_factory=lambda: pa.table({}))
    good: np.ndarray = field(default_factory=lambda: np.arange(0))

    def count(self) -> int:
        """How many rows of the table it stands for."""
        return len(self.numbers) + len(self.ragged)


def form(path: Path, what: str) -> str:
    """'.csv', '.csv.gz' or '.parquet': how the name of the file `path` ends; `what` it is, for the error."""
    for ending in (*CSV, *PARQUET):
        if path.name.lower().endswith(ending):
            return ending
    raise WorkbookError(
        f"{path}: {what} ends in .csv, .csv.gz or .parquet (of a compressed or split table, make one of these)."
    )


def form_of_table(path: Path) -> str:
    """The ending of the file `path`, which must be there and of a table."""
    ending = form(path, "a table to score")
    if not path.is_file():
        what = "a folder; score its files one by one" if path.is_dir() else "not there"
        raise WorkbookError(f"{path}: the table is {what}.")
    return ending


def open_table(path: Path, reading: Reading = PLAIN) -> "ParquetTable | CsvTable":
    """The table in the file `path`: a ParquetTable or a CsvTable, whose text is read by `reading`."""
    ending = form_of_table(path)
    try:
        table = ParquetTable(path) if ending in PARQUET else CsvTable(path, reading)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise WorkbookError(f"{path}: it cannot be read: {_line(error)}") from error
    if twice := [name for name, count in Counter(table.schema.names).items() if count > 1]:
        raise WorkbookError(f"{path}: the column '{twice[0]}' comes more than once")
    return table


def _line(error: BaseException) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "its header is not UTF-8: save the file as UTF-8"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error)


class _Table:
    """What both kinds share: the file, its state and digest, and reading with errors of one line."""

    is_text = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = self._stat()

    def _stat(self) -> tuple[int, int]:
        found = self.path.stat()
        return found.st_size, found.st_mtime_ns

    def digest(self) -> str:
        """The sha256 of the file's bytes."""
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def check_unchanged(self) -> None:
        """Refuse a file that was written to since it was opened."""
        if self._stat() != self._state:
            raise WorkbookError(
                f"{self.path}: it changed while it was scored: run the same command again."
            )

    def parts(self, size: int) -> Iterator[Part]:
        """Yield the Parts of `size` rows each, the last of fewer."""
        try:
            yield from self._parts(size)
        except (pa.ArrowException, OSError) as error:
            raise WorkbookError(f"{self.path}: it cannot be read: {_line(error)}") from error

    def _parts(self, size: int) -> Iterator[Part]:
        raise NotImplementedError


class ParquetTable(_Table):
    """A Parquet file; `total` rows."""

    unit = "row"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # buffered: a column of a large row group is never in memory as a whole
        self._file = pq.ParquetFile(path, buffer_size=1 << 20)
        self.schema = self._file.schema_arrow.remove_metadata()
        self.total = self._file.metadata.num_rows

    def _parts(self, size: int) -> Iterator[Part]:
        first = 1
        batches = self._file.iter_batches(min(size, self.total or 1))
        for number, rows in enumerate(_cut(batches, size, self.schema)):
            numbers = np.arange(first, first + rows.num_rows)
            first += rows.num_rows
            yield Part(number, rows, numbers, read=first - 1)


class CsvTable(_Table):
    """A CSV file, plain or gzipped; every value is text. `total` bytes on disk."""

    unit, is_text = "B", True

    def __init__(self, path: Path, reading: Reading = PLAIN) -> None:
        super().__init__(path)
        self.reading = reading
        self._raw: Any = None  # the file on disk, while it is read
        self.total, self._last = self._state[0], 0
        self._ragged: deque[Ragged] = deque()
        self._check_quotes()
        start = self._open(pa_csv.ConvertOptions()).schema
        self.schema = pa.schema([(name, pa.string()) for name in start.names])

    def _stream(self) -> Any:
        self._raw = pa.OSFile(str(self.path))
        zipped = self.path.name.lower().endswith(".gz")
        return pa.CompressedInputStream(self._raw, "gzip") if zipped else self._raw

    def _check_quotes(self) -> None:
        """Refuse a file in which a quote that never closes would swallow rows."""
        with self._stream() as stream:
            if line := reader.stray_quote(iter(lambda: stream.read(BLOCK), b""), self.reading):
                raise WorkbookError(f"{self.path}: {reader.SWALLOWED.format(line)}")

    def _open(self, options: pa_csv.ConvertOptions) -> pa_csv.CSVStreamingReader:
        self._ragged.clear()
        return pa_csv.open_csv(
            self._stream(),
            # in threads it would not know the numbers of ragged rows
            read_options=pa_csv.ReadOptions(
                use_threads=False,
                block_size=BLOCK,
                encoding=reader.encoding(self.reading),
                skip_rows=self.reading.skiprows,
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=self.reading.sep,
                quote_char=self.reading.quotechar,
                newlines_in_values=True,
                invalid_row_handler=self._keep,
            ),
            convert_options=options,
        )

    def _keep(self, row: Any) -> str:
        reason = f"{row.actual_columns} fields, the header has {row.expected_columns}"
        self._ragged.append((row.number - 1, reason, row.text))  # the header is its row 1
        return "skip" if len(self._ragged) < RAGGED else "error"

    def _parts(self, size: int) -> Iterator[Part]:
        # binary: a byte that is no UTF-8 spoils its row, not the file
        types = pa.schema([(name, pa.binary()) for name in self.schema.names])
        options = pa_csv.ConvertOptions(
            column_types=types, null_values=[""], strings_can_be_null=True
        )
        number, self._last = -1, 0
        for number, rows in enumerate(_cut(self._open(options), size, types)):
            yield self._part(number, rows)
        if self._ragged:
            last = Part(number + 1, self.schema.empty_table(), np.arange(0), read=self.total)
            last.ragged = list(self._ragged)
            yield last

    def _part(self, number: int, rows: pa.Table) -> Part:
        text, reasons = _decoded(rows)
        numbers, ragged = self._numbered(rows.num_rows)
        return Part(number, text, numbers, ragged, reasons, self._raw.tell())

    def _numbered(self, count: int) -> tuple[np.ndarray, list[Ragged]]:
        """The numbers of the next `count` rows that have all fields, and the ragged ones between them."""
        spans, ragged = [], []
        while self._ragged and self._ragged[0][0] <= self._last + count:
            ragged.append(self._ragged.popleft())
            spans.append(np.arange(self._last + 1, ragged[-1][0]))
            count -= len(spans[-1])
            self._last = ragged[-1][0]
        spans.append(np.arange(self._last + 1, self._last + 1 + count))
        self._last += count
        return np.concatenate(spans), ragged


def _cut(batches: Iterable[pa.RecordBatch], size: int, schema: pa.Schema) -> Iterator[pa.Table]:
    """The record `batches` as tables of `size` rows each, the last of fewer."""
    held, count = [], 0
    for batch in batches:
        while count + batch.num_rows >= size:
            head = batch.slice(0, size - count)
            yield pa.Table.from_batches([*held, head], schema)
            batch, held, count = batch.slice(size - count), [], 0
        if batch.num_rows:
            held.append(batch)
            count += batch.num_rows
    if held:
        yield pa.Table.from_batches(held, schema)


def _decoded(rows: pa.Table) -> tuple[pa.Table, dict[int, list[str]]]:
    """The table of binary `rows` as text, and {index: reasons} of those that are not UTF-8."""
    columns, reasons = {}, {}
    for name, values in zip(rows.column_names, rows.columns):
        try:
            columns[name] = values.cast(pa.string())
        except pa.ArrowInvalid:
            found = [b"" if v is None else v for v in values.to_pylist()]
            told = [v.decode("utf-8", "replace") or None for v in found]
            columns[name] = pa.array(told, pa.string())
            for index, value in enumerate(found):
                if value.decode("utf-8", "replace").encode() != value:
                    reasons.setdefault(index, []).append(f"{name} is not UTF-8")
    return pa.table(columns), reasons
