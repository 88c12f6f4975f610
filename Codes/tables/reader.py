"""Tables on disk: CSV, Parquet and Excel, plain, zipped or a folder of parts, as one Arrow table."""

import codecs
import csv
import datetime
import gzip
import hashlib
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from Codes.ground.errors import WorkbookError
from Codes.tables import cell_values
from Codes.tables.cell_values import PLAIN, TEXT, Reading

if TYPE_CHECKING:
    from _csv import Reader

FORMS = ".csv, .tsv, .txt, .parquet or .xlsx, or in one of these and .gz or .zip"
TEXT_FORMS = ("csv", "tsv", "txt")
UNNAMED = "(no name)"  # how a column without a name is shown
INDEX = re.compile(r"__index_level_\d+__|Unnamed: 0")  # what pandas calls the index of a frame
SWALLOWED = (
    "line {}: a quote opens here that does not close before other lines: write it twice within quotes, close it, "
    "or name another `quotechar` in the problem's file"
)
_LEFT_OUT = b"left out"  # of a schema: names of columns
SEPARATORS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class _Part:
    """One file of a table: its path, the bytes in it (unpacked), and the form that its name tells."""

    path: Path
    content: bytes
    form: str


def read(
    path: Path, sha256: str | None = None, reading: Reading = PLAIN, exclude: Collection[str] = ()
) -> pa.Table:
    """The table in the file or folder `path`, whose bytes must have that `sha256`, where given.

    Every number comes as int64 or float64, every time in microseconds (of a zone: in UTC), every text as a category:
    neither a digest nor a model's signature depends on the form of the file. A column that holds
    the index of a data frame is left out.

    Args:
        reading: how text is read (a cell_values.Reading).
        exclude: columns that are not used: they may be of any type, and are left out where it has no counterpart.

    Raises:
        WorkbookError: one line that names the file, and the column, line or byte where it can.
    """
    files = _files(path)
    raw = [_bytes(file) for file in files]
    _verify(path, raw, sha256)
    parts = [_with_partitions(_table(*each, reading), each[0], path) for each in zip(files, raw)]
    _same_columns(files, parts)
    try:
        table = _joined(parts, reading, exclude)
    except (WorkbookError, pa.ArrowException) as error:
        raise WorkbookError(f"{path}: {str(error).splitlines()[0]}") from None
    if not table.num_rows:
        raise WorkbookError(f"{path}: no rows: a header and nothing under it")
    return table


def plain(table: pa.Table, reading: Reading = PLAIN, exclude: Collection[str] = ()) -> pa.Table:
    """The Arrow `table` with each column in the one type that stands for its kind (see `read`)."""
    odd = {f.name: f.type for f in table.schema if _kind(f.type) is None}
    if refused := {name: kind for name, kind in odd.items() if name not in exclude}:
        columns = ", ".join(
            f"column '{name}': values of type {kind}" for name, kind in refused.items()
        )
        raise WorkbookError(
            f"{columns} are not supported: name it under `exclude` in the problem's file"
        )
    fields = [field for field in table.schema if field.name not in odd]
    return pa.table({field.name: _cast(table[field.name], field, reading) for field in fields})


def _cast(column: pa.ChunkedArray, field: pa.Field, reading: Reading) -> cell_values.Column:
    """The Arrow `column` as the kind of its `field`; what is finer than a microsecond is cut off."""
    kind = _kind(field.type)
    if kind == TEXT:
        return cell_values.text(column, reading)
    converted = pc.cast(column, options=pc.CastOptions(target_type=kind, allow_time_truncate=True))
    return (
        cell_values.without_gaps(converted, reading) if cell_values.is_number(kind) else converted
    )


def _kind(given: pa.DataType) -> pa.DataType | None:
    """The type that stands for the `given` one; None for a nested, a binary one, a duration, a time of day."""
    kind = given.value_type if pa.types.is_dictionary(given) else given
    if pa.types.is_boolean(kind):
        return kind
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return pa.float64()
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return cell_values.TIME
    strings = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return TEXT if any(each(kind) for each in strings) else None


def _files(path: Path) -> list[Path]:
    """The file `path`, or the files below the folder `path` in the order of their names."""
    if not path.exists():
        raise WorkbookError(f"{path}: there is no such file or folder")
    if not path.is_dir():
        return [path]
    hidden = (".", "_")
    files = sorted(
        each
        for each in path.rglob("*")
        if each.is_file() and not any(p.startswith(hidden) for p in each.relative_to(path).parts)
    )
    if not files:
        raise WorkbookError(f"{path}: the folder holds no parts")
    return files


def _bytes(path: Path) -> bytes:
    """What the file holds."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorkbookError(f"{path}: it cannot be read: {error.strerror}") from None


def _with_partitions(table: pa.Table, file: Path, path: Path) -> pa.Table:
    """The `table` of a `file` with a column for each folder `name=value` on the way to it from `path`."""
    for folder in file.relative_to(path).parts[:-1]:
        name, equals, value = folder.partition("=")
        if not equals:
            raise WorkbookError(
                f"{file}: a folder within a table is called NAME=VALUE, and is a column"
            )
        if name not in table.column_names:
            value = "" if value == "__HIVE_DEFAULT_PARTITION__" else value
            values = pa.DictionaryArray.from_arrays(
                pa.repeat(pa.scalar(0, pa.int32()), table.num_rows), pa.array([value])
            )
            table = table.append_column(pa.field(name, TEXT, metadata=_AS_TEXT), values)
    return table


def _same_columns(paths: Sequence[Path], read_parts: Sequence[pa.Table]) -> None:
    """Refuse parts whose columns are not those of the first; their order does not matter."""
    first = set(read_parts[0].column_names)
    for path, table in zip(paths, read_parts):
        if odd := sorted(first ^ set(table.column_names)):
            raise WorkbookError(f"{path}: other columns than {paths[0].name}: {', '.join(odd)}")


_AS_TEXT = {"cells": "text"}  # of a field: its values are text whose type is still to be seen


def _joined(parts: Sequence[pa.Table], reading: Reading, exclude: Collection[str]) -> pa.Table:
    """The tables `parts` as one, each column in its kind; text of all parts is read as one."""
    names = parts[0].column_names
    columns = {}
    for name in names:
        fields = [part.schema.field(name) for part in parts]
        chunks = [part[name] for part in parts]
        if all(field.metadata == _METADATA for field in fields):
            text = [chunk.cast(TEXT) for part in chunks for chunk in part.chunks]
            columns[name] = cell_values.typed(pa.chunked_array(text, TEXT), reading)
            continue
        columns |= _united(name, chunks, reading, exclude)
    return _noted(pa.table(columns), {*names, *left_out(parts[0])} - set(columns))


_METADATA = {key.encode(): value.encode() for key, value in _AS_TEXT.items()}


def _united(
    name: str, chunks: Iterable[pa.ChunkedArray], reading: Reading, exclude: Collection[str]
) -> dict[str, pa.ChunkedArray]:
    """{name: the column of all parts}; nothing where it is excluded and of a type that is not supported."""
    tables = [plain(pa.table({name: chunk}), reading, exclude) for chunk in chunks]
    tables = [table for table in tables if table.num_columns]
    if not tables:
        return {}
    try:
        united = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException:
        kinds = ", ".join(sorted({str(table.schema[0].type) for table in tables}))
        if name in exclude:
            return {}
        raise WorkbookError(f"column '{name}': its parts are of different types: {kinds}") from None
    return {name: plain(united)[name]}


def _verify(path: Path, raw: Iterable[bytes], sha256: str | None) -> None:
    """Refuse bytes (`raw`, a list of parts) that are not those the problem was written for."""
    if sha256 is None:
        return
    digest = hashlib.sha256()
    for content in raw:
        digest.update(content)
    if digest.hexdigest() != sha256:
        raise WorkbookError(f"{path}: sha256 is {digest.hexdigest()}, the problem names {sha256}")


def _table(path: Path, content: bytes, reading: Reading) -> pa.Table:
    """The table in `content`, the bytes of one file; the ending of `path` tells the form."""
    try:
        part = _unpacked(path, content)
        if part.form in ("pkl", "pickle", "joblib") or part.content[:1] == b"\x80":
            raise WorkbookError("a pickle can run code: give a CSV or Parquet file")
        if part.form == "parquet":
            return _unique(_without_index(_read_parquet(part.content)))
        if part.form == "xlsx":
            return _unique(_without_index(_read_excel(part.content, reading)))
        if part.form in TEXT_FORMS:
            if part.form == "tsv" and reading.sep == PLAIN.sep:
                reading = replace(reading, sep="\t")
            return _unique(_without_index(_read_csv(part.content, reading)))
        raise WorkbookError(f"a table ends in {FORMS}")
    except (WorkbookError, pa.ArrowException, OSError, EOFError, zipfile.BadZipFile) as error:
        raise WorkbookError(f"{path}: {str(error).splitlines()[0]}") from None


def _unpacked(path: Path, content: bytes) -> _Part:
    """The _Part at `path` with its `content` unzipped."""
    name = path.name.lower()
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            inside = [each for each in archive.namelist() if not re.search(r"/$|(^|/)[._]", each)]
            if len(inside) != 1:
                raise WorkbookError(f"{len(inside)} files are in it; a table is one: {inside[:3]}")
            name, content = inside[0].lower(), archive.read(inside[0])
    if name.endswith(".gz"):
        content = gzip.decompress(content)
    return _Part(path, content, name.removesuffix(".gz").rpartition(".")[2])


def _unique(table: pa.Table) -> pa.Table:
    """The `table`, unless two of its columns share a name."""
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise WorkbookError(f"the column '{twice[0] or UNNAMED}' comes more than once")
    return table


def _without_index(table: pa.Table) -> pa.Table:
    """The `table` without the index that a data frame was written with, and without empty columns of no name.

    That is a column that pandas names so, or the first one where it has no name and each row another value.
    """
    positions = []
    for position, (name, values) in enumerate(zip(table.column_names, table.columns)):
        nameless = not name.strip()
        empty = nameless and not any(values.unique().to_pylist())
        index = not position and nameless and len(values.unique()) == len(values)
        if not (empty or index or INDEX.fullmatch(name)):
            positions.append(position)
    return _noted(
        table.select(positions), set(table.column_names) - set(table.select(positions).column_names)
    )


def left_out(table: pa.Table) -> list[str]:
    """The names of the columns that were in the file of the Arrow `table`, and are not in it (see `read`)."""
    return json.loads((table.schema.metadata or {}).get(_LEFT_OUT, "[]"))


def _noted(table: pa.Table, names: Iterable[str]) -> pa.Table:
    """The `table` with a note that the columns `names` were left out."""
    return table.replace_schema_metadata({_LEFT_OUT: json.dumps(sorted(names))})


def _read_parquet(content: bytes) -> pa.Table:
    """The table in the bytes of a Parquet file; text stays in its dictionary, for speed."""
    source = pa.BufferReader(content)
    text = [field.name for field in pq.read_schema(source) if pa.types.is_string(field.type)]
    source.seek(0)
    return pq.read_table(source, read_dictionary=text)


def _read_excel(content: bytes, reading: Reading) -> pa.Table:
    """The table in a sheet of the bytes of an Excel file."""
    try:
        import openpyxl
    except ImportError:
        raise WorkbookError("for .xlsx install openpyxl: pip install openpyxl") from None
    book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    sheets = book.sheetnames
    sheet = reading.sheet_name
    if not (sheet in sheets or isinstance(sheet, int) and 0 <= sheet < len(sheets)):
        raise WorkbookError(f"sheet_name: no sheet {sheet!r}; there are {', '.join(sheets)}")
    rows = book[sheets[sheet] if isinstance(sheet, int) else sheet].iter_rows(
        min_row=reading.skiprows + 1, values_only=True
    )
    rows = [row for row in rows if any(value is not None for value in row)]
    if not rows:
        raise WorkbookError("the sheet is empty")
    names, columns = rows[0], list(zip(*rows[1:])) or [()] * len(rows[0])
    return _labelled(
        ["" if name is None else str(name) for name in names],
        [_cells(values) for values in columns],
    )


def _cells(values: Sequence[object]) -> pa.Array:
    """The `values` of an Excel column as Arrow's type for them, or as text where they are of several."""
    try:
        cells = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        cells = None
    if cells is None or pa.types.is_string(cells.type):
        cells = pa.array(["" if v is None else _spelt(v) for v in values]).dictionary_encode()
    return cells


def _spelt(value: object) -> str:
    """The `value` of an Excel cell as a CSV file would have it."""
    midnight = isinstance(value, datetime.datetime) and value.time() == datetime.time()
    return str(value.date() if midnight else value)


def _labelled(names: Sequence[str], columns: Sequence[pa.Array]) -> pa.Table:
    """The table of `columns` under their `names`, of which two may be the same; text is marked as such."""
    fields = [
        pa.field(name, values.type, metadata=_AS_TEXT if values.type == TEXT else None)
        for name, values in zip(names, columns)
    ]
    return pa.table(columns, schema=pa.schema(fields))


def _read_csv(content: bytes, reading: Reading) -> pa.Table:
    """The table in the bytes of a CSV file, all of it text: UTF-8, with or without a byte-order mark."""
    if not content.strip():
        raise WorkbookError("the file is empty")
    text = _decoded(content, reading)
    names, lines = header(text, reading)
    if line := reading.quotechar in text and stray_quote([text.encode()], reading):
        raise WorkbookError(SWALLOWED.format(line))
    options = csv_options(reading, len(names), lines)
    try:
        table = pa_csv.read_csv(pa.BufferReader(text.encode()), **options)
    except pa.ArrowInvalid as error:
        reason = _ragged(text, reading) or str(error)
        raise WorkbookError(reason + proposal(text, reading)) from None
    if len(names) == 1 and (hint := proposal(text, reading)):
        raise WorkbookError(f"one column, '{names[0][:60]}'{hint}")
    columns = [_one(values) for values in table.columns]
    return _labelled(names, columns)


def _one(values: pa.ChunkedArray) -> pa.Array:
    """The chunked array of texts `values` as an array."""
    return values.unify_dictionaries().combine_chunks() if values.num_chunks else pa.array([], TEXT)


def _decoded(content: bytes, reading: Reading) -> str:
    """The bytes `content` as text."""
    name = encoding(reading)
    try:
        return content.decode("utf-8-sig" if name == "utf8" else name)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        way = "save the file as UTF-8, or name its `encoding` under `source`, as latin-1 or utf-16"
        raise WorkbookError(
            f"byte {error.start} (line {line}) is not {error.encoding.upper()}: {way}"
        ) from None


def encoding(reading: Reading) -> str:
    """The name of the encoding of `reading`, as pyarrow knows it."""
    try:
        name = codecs.lookup(reading.encoding).name
    except LookupError:
        raise WorkbookError(f"encoding: Python knows none called '{reading.encoding}'") from None
    return "utf8" if name == "utf-8" else name


def rows_of(text: str, reading: Reading) -> "Reader":
    """Python's reader of the CSV `text`, which knows the number of each line."""
    return csv.reader(
        io.StringIO(text, newline=""), delimiter=reading.sep, quotechar=reading.quotechar
    )


def header(text: str, reading: Reading) -> tuple[list[str], int]:
    """(names of the columns, how many lines come before the first row) of the CSV `text`."""
    rows = rows_of(text, reading)
    for row in rows:
        if rows.line_num > reading.skiprows and row:
            return row, rows.line_num
    raise WorkbookError(f"skiprows: after {reading.skiprows} lines the file is empty")


def csv_options(
    reading: Reading, width: int, lines: int, kind: pa.DataType = TEXT, **parse: Any
) -> dict[str, Any]:
    """pyarrow's options to read CSV text in UTF-8 of `width` columns after so many `lines`: every cell a `kind`.

    The columns are called 0, 1, …: two may have one name.
    """
    names = [str(number) for number in range(width)]
    return {
        "read_options": pa_csv.ReadOptions(column_names=names, skip_rows=lines),
        "parse_options": pa_csv.ParseOptions(
            delimiter=reading.sep,
            quote_char=reading.quotechar,
            newlines_in_values=True,
            **parse,
        ),
        "convert_options": pa_csv.ConvertOptions(column_types=dict.fromkeys(names, kind)),
    }


def stray_quote(chunks: Iterable[bytes], reading: Reading) -> int | None:
    """The line (from 1) of a quote that opens a cell and swallows the lines after it; None where none does.

    A quoted cell ends before a separator, a line's end or the file's. One that goes over lines and ends otherwise
    was never closed: what comes after it would be read as its text.

    Args:
        chunks: an iterable of the bytes of the CSV file.
    """
    quote, sep = (re.escape(mark.encode()) for mark in (reading.quotechar, reading.sep))
    inside = b"(?:[^" + quote + b"]|" + quote + quote + b")*+"
    cell = re.compile(
        b"(?<![^" + sep + b"\r\n])" + quote + inside + b"(" + quote + b"(?!" + quote + b"))?"
    )
    held, line, rest = b"\n", 0, iter(chunks)
    ended = False
    while not ended:
        chunk = next(rest, None)
        ended = chunk is None
        held += chunk or b""
        start = 1
        for found in cell.finditer(held, 1):
            if found.end() >= len(held) - 1 and not ended:
                start = found.start()
                break
            after = held[found.end() : found.end() + 1]
            closed = found[1] and (not after or after in (reading.sep.encode(), b"\r", b"\n"))
            if not closed and b"\n" in found[0]:
                return line + held.count(b"\n", 0, found.start())
            start = found.end()
        else:
            start = max(start, len(held) - 1)
        line += held.count(b"\n", 0, start - 1)
        held = held[start - 1 :]
    return None


def _ragged(text: str, reading: Reading) -> str | None:
    """Which line of the CSV `text` has more or fewer fields than its header; None if none has."""
    rows = rows_of(text, reading)
    names, _ = header(text, reading)
    for row in rows:
        if row and rows.line_num > reading.skiprows and len(row) != len(names):
            return f"line {rows.line_num}: {len(row)} fields, the header has {len(names)}"
    return None


def proposal(text: str, reading: Reading) -> str:
    """': is the separator …?' with the words for the problem's file, where the lines of `text` speak for another."""
    lines = [line for line in text[:100_000].splitlines()[reading.skiprows :] if line.strip()][:20]
    for sep in SEPARATORS:
        other = replace(reading, sep=sep)
        widths = {len(row) for line in lines for row in rows_of(line, other)}
        if sep == reading.sep or len(widths) != 1 or widths == {1}:
            continue
        fields = [cell for line in lines[1:] for row in rows_of(line, other) for cell in row]
        comma = any(re.fullmatch(r"[+-]?\d+,\d+", cell.strip()) for cell in fields)
        options = f'sep: "{sep}"'.replace("\t", "\\t") + (', decimal: ","' if comma else "")
        return f"; with {options} under `source` it has {widths.pop()} columns"
    return ""
