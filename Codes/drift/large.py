"""A Parquet file that is larger than memory: unpacked part by part into a file, which is mapped, not read."""

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from Codes.ground import paths
from Codes.ground.errors import WorkbookError
from Codes.problems.problem import Problem
from Codes.tables import reader

ROWS = 1_000_000  # of a table; one of more is not held in memory
PART = 100_000  # rows that are in memory at once


def is_large(path: Path) -> bool:
    """Whether `path` is a Parquet file of more than ROWS rows."""
    try:
        return path.suffix == ".parquet" and pq.read_metadata(path).num_rows > ROWS
    except (OSError, pa.ArrowException):
        return False  # whoever reads it says why


def mapped(path: Path, problem: Problem) -> pa.Table:
    """The table in the Parquet file `path`, as reader.read gives it, but with text as text; of it memory holds pages.

    Raises:
        WorkbookError: its parts are not of one type; it is damaged.
    """
    paths.EXECUTED.mkdir(parents=True, exist_ok=True)
    # its name goes at once, so that it is gone whatever ends this process
    with tempfile.NamedTemporaryFile(dir=paths.EXECUTED, suffix=".arrow") as file:
        try:
            source, writer = pq.ParquetFile(path), None
            for batch in source.iter_batches(PART):
                part = _plain(pa.Table.from_batches([batch]), problem)
                writer = writer or pa.ipc.new_file(file.name, part.schema)
                writer.write_table(part)
            if writer is not None:
                writer.close()
            return pa.ipc.open_file(pa.memory_map(file.name)).read_all()
        except (pa.ArrowException, OSError) as error:
            raise WorkbookError(f"{path}: {str(error).splitlines()[0]}") from None


def _plain(part: pa.Table, problem: Problem) -> pa.Table:
    """`part` in the types of reader.plain, text as text: each part has other categories."""
    found = reader.plain(part, problem.source.reading, problem.exclude)
    fields = [
        pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type)
        for f in found.schema
    ]
    return found.cast(pa.schema(fields))
