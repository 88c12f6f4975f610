"""A SQLite store that comes from elsewhere: from another folder, of which MLflow keeps absolute paths of all files,
or from an earlier workbook, which called its tags otherwise.
"""

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from Codes.seams.mlflow_seam import LOCATIONS, TAGS

# how the names of tags began once, and do now
OLD_PREFIX, PREFIX = "workbook.", "mlflow.workbook."
WITNESSES = 20  # runs that are looked at
# a run of the workbook's, which has kept files
WITH_FILES = "run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'mlflow.workbook.manifest')"
FORMS = "", "file://"  # how MLflow writes a local folder


def old_root(connection: sqlite3.Connection, root: Path) -> Path | None:
    """The folder that the store's files were in before it was moved to where they are in `root`; None: it was not.

    The Default experiment tells where the store was made; a run tells whether its files have come along, or are gone
    from there: a store whose files were always elsewhere, or that has none yet, was not moved. Where the database of
    which this one is a copy still lies there, it was, too: both would write to the same files.
    """
    row = _origin(connection)
    old = Path(row[0].removeprefix("file://")).parent if row and row[0] else Path()
    if not old.is_absolute() or old.resolve() == Path(root).resolve():
        return None
    here = [Path(root, folder.relative_to(old)) for folder in _runs(connection, old)]
    gone = not old.exists() and any(_runs(connection, old, WITH_FILES))
    along = gone or any(folder.exists() for folder in here)
    return (
        old if along or any(_origin_of(file) == row for file in old.parent.glob("*.db")) else None
    )


def _origin(connection: sqlite3.Connection) -> tuple[str, int] | None:
    """(where the Default experiment's files are, when it was made): where and when the store was made."""
    query = (
        "SELECT artifact_location, creation_time FROM experiments ORDER BY experiment_id LIMIT 1"
    )
    return connection.execute(query).fetchone()


def _origin_of(database: Path) -> tuple[str, int] | None:
    """The `_origin` of another `database`; None of a file that is no store."""
    with contextlib.suppress(sqlite3.Error):
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as other:
            return _origin(other)
    return None


def _runs(connection: sqlite3.Connection, old: Path, condition: str = "1") -> Iterator[Path]:
    query = f"SELECT artifact_uri FROM runs WHERE artifact_uri LIKE ? AND {condition} LIMIT ?"
    for form in FORMS:
        for (uri,) in connection.execute(query, (f"{form}{old}/%", WITNESSES)):
            if uri.startswith(f"{form}{old}/"):  # LIKE takes _ for any character
                yield Path(uri.removeprefix(form))


def repair(database: Path, root: Path, old: Path) -> tuple[int, int]:
    """Let all that the `database` says to be in the folder `old` be in `root`; returns (changed rows, copied files).

    What was written to the old folder since the move is copied first. The rows change in one transaction: a kill
    leaves all as it was, and the same call again goes on.
    """
    with sqlite3.connect(database, timeout=60, isolation_level=None) as connection:
        copied = sum(_bring(folder, old, root) for folder in _folders(connection, old))
        connection.execute("BEGIN IMMEDIATE")
        changed = sum(
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                (f"{form}{root}/", length + 1, length, f"{form}{old}/"),
            ).rowcount
            for table, columns in LOCATIONS.items()
            for column in columns
            for form in FORMS
            for length in [len(f"{form}{old}/")]
        )
        connection.execute("COMMIT")
    connection.close()
    return changed, copied


def settle_copy(database: Path, root: str) -> None:
    """Let the `database`, a copy of an empty store, be one of its own, made now, whose files go to `root`."""
    with sqlite3.connect(database) as connection:
        origin = _origin(connection)
        now = int(1000 * time.time())
        connection.execute(
            "UPDATE experiments SET creation_time = ?, last_update_time = ?", (now, now)
        )
    connection.close()
    if origin:
        repair(database, Path(root), Path(origin[0].removeprefix("file://")).parent)


def _folders(connection: sqlite3.Connection, old: Path) -> Iterator[Path]:
    """The folders below `old` of runs and of saved models."""
    for table, column in (("runs", "artifact_uri"), ("logged_models", "artifact_location")):
        for (uri,) in connection.execute(f"SELECT {column} FROM {table}").fetchall():
            folder = Path((uri or "").removeprefix("file://"))
            if folder.is_relative_to(old):
                yield folder


def _bring(folder: Path, old: Path, root: Path) -> int:
    """Copy the files in `folder` to where they are looked for from now on, but for those that are there.

    Each is there whole or not at all; returns their number.
    """
    files = [file for file in folder.rglob("*") if file.is_file()]
    new = [f for f in files if not Path(root, f.relative_to(old)).exists()]
    for file in new:
        target = Path(root, file.relative_to(old))
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(root, ".moved.part")  # what a killed repair left of it is written over
        shutil.copy2(file, part)
        part.rename(target)
    return len(new)


def old_tags(connection: sqlite3.Connection) -> int:
    """How many tags have a name as an earlier workbook wrote it."""
    counts = "SELECT count(*) FROM {} WHERE substr(key, 1, ?) = ?"
    asked = len(OLD_PREFIX), OLD_PREFIX
    return sum(connection.execute(counts.format(table), asked).fetchone()[0] for table in TAGS)


def rename_tags(database: Path) -> int:
    """Give the old tags in the `database` their new names, all or none; one that has both keeps the new. How many."""
    with sqlite3.connect(database, timeout=60, isolation_level=None) as connection:
        connection.execute("BEGIN IMMEDIATE")
        count = old_tags(connection)
        for table in TAGS:
            old_names = (len(OLD_PREFIX), OLD_PREFIX)
            connection.execute(
                f"UPDATE OR IGNORE {table} SET key = ? || substr(key, ?) WHERE substr(key, 1, ?) = ?",
                (PREFIX, len(OLD_PREFIX) + 1, *old_names),
            )
            connection.execute(f"DELETE FROM {table} WHERE substr(key, 1, ?) = ?", old_names)
        connection.execute("COMMIT")
    connection.close()
    return count
