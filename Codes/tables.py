"""Tables on disk: CSV and Parquet, plain, gzipped or a folder of parts, as one Arrow table."""

import csv
import hashlib
import io
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from Codes.errors import WorkbookError

TEXT = pa.dictionary(pa.int32(), pa.string())
_CSV = {
    "parse_options": pa_csv.ParseOptions(newlines_in_values=True),
    "convert_options": pa_csv.ConvertOptions(strings_can_be_null=True),
}


def read(path, sha256=None):
    """The table in the file or folder `path`, whose bytes must have that `sha256`, where given.

    Every number comes as int64 or float64, every time in microseconds, every text as a category:
    neither a digest nor a model's signature depends on the form of the file.

    Raises:
        WorkbookError: one line that names the file, and the column, line or byte where it can.
    """
    parts = _parts(path)
    raw = [_bytes(part) for part in parts]
    _verify(path, raw, sha256)
    read_parts = [_table(part, content) for part, content in zip(parts, raw)]
    _same_columns(parts, read_parts)
    try:
        table = plain(pa.concat_tables(read_parts, promote_options="permissive"))
    except (WorkbookError, pa.ArrowException) as error:
        raise WorkbookError(f"{path}: {str(error).splitlines()[0]}") from None
    if not table.num_rows:
        raise WorkbookError(f"{path}: no rows: a header and nothing under it")
    return table


def plain(table):
    """The Arrow `table` with each column in the one type that stands for its kind."""
    return pa.table({field.name: _cast(table[field.name], _kind(field)) for field in table.schema})


def _cast(column, kind):
    """The Arrow `column` as `kind`; what is finer than a microsecond is cut off."""
    return pc.cast(column, options=pc.CastOptions(target_type=kind, allow_time_truncate=True))


def _kind(field):
    """The type that stands for that of `field`; a nested or binary one is refused."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_boolean(kind):
        return kind
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return pa.float64()
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return pa.timestamp("us", getattr(kind, "tz", None))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return TEXT
    raise WorkbookError(f"column '{field.name}': values of type {kind} are not supported")


def _parts(path):
    """The file `path`, or the files in the folder `path` in the order of their names."""
    if not path.exists():
        raise WorkbookError(f"{path}: there is no such file or folder")
    if not path.is_dir():
        return [path]
    parts = sorted(part for part in path.iterdir() if part.name[0] not in "._")
    if not parts:
        raise WorkbookError(f"{path}: the folder holds no parts")
    return parts


def _bytes(path):
    """What the file holds."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorkbookError(f"{path}: it cannot be read: {error.strerror}") from None


def _same_columns(paths, read_parts):
    """Refuse parts whose columns are not those of the first; their order does not matter."""
    first = set(read_parts[0].column_names)
    for path, table in zip(paths, read_parts):
        if odd := sorted(first ^ set(table.column_names)):
            raise WorkbookError(f"{path}: other columns than {paths[0].name}: {', '.join(odd)}")


def _verify(path, raw, sha256):
    """Refuse bytes (`raw`, a list of parts) that are not those the problem was written for."""
    if sha256 is None:
        return
    digest = hashlib.sha256()
    for content in raw:
        digest.update(content)
    if digest.hexdigest() != sha256:
        raise WorkbookError(f"{path}: sha256 is {digest.hexdigest()}, the problem names {sha256}")


def _table(path, content):
    """The table in `content`, the bytes of one file; the ending of `path` tells the form."""
    *_, form = path.name.lower().removesuffix(".gz").rpartition(".")
    readers = {"csv": _read_csv, "parquet": _read_parquet}
    if form in ("pkl", "pickle", "joblib") or content[:1] == b"\x80":
        raise WorkbookError(f"{path}: a pickle can run code: give a CSV or Parquet file")
    if form not in readers:
        raise WorkbookError(f"{path}: a table ends in .csv, .csv.gz, .parquet or .parquet.gz")
    try:
        if path.name.lower().endswith(".gz"):
            content = pa.CompressedInputStream(pa.BufferReader(content), "gzip").read()
        return _unique(readers[form](content))
    except (WorkbookError, pa.ArrowException, OSError) as error:
        raise WorkbookError(f"{path}: {str(error).splitlines()[0]}") from None


def _unique(table):
    """The `table`, unless two of its columns share a name."""
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise WorkbookError(f"the column '{twice[0]}' comes more than once")
    return table


def _read_parquet(content):
    """The table in the bytes of a Parquet file; text stays in its dictionary, for speed."""
    source = pa.BufferReader(content)
    text = [field.name for field in pq.read_schema(source) if pa.types.is_string(field.type)]
    source.seek(0)
    return pq.read_table(source, read_dictionary=text)


def _read_csv(content):
    """The table in the bytes of a CSV file: UTF-8, with or without a byte-order mark."""
    if not content.strip():
        raise WorkbookError("the file is empty")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise WorkbookError(
            f"byte {error.start} (line {line}) is not UTF-8: save the file as UTF-8"
        ) from None
    try:
        return pa_csv.read_csv(pa.BufferReader(content), **_CSV)
    except pa.ArrowInvalid as error:
        raise WorkbookError(_ragged(text) or str(error)) from None


def _ragged(text):
    """Which line of the CSV `text` has more or fewer fields than its header; None if none has."""
    rows = csv.reader(io.StringIO(text))
    width = len(next(rows))
    for row in rows:
        if row and len(row) != width:
            return f"line {rows.line_num}: {len(row)} fields, the header has {width}"
    return None
