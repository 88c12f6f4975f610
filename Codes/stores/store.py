"""The tracking store: one absolute address for every way of running, sound before anything uses it."""

import contextlib
import fcntl
import logging
import os
import re
import shutil
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from filelock import FileLock, Timeout

from Codes.ground import files
from Codes.ground.errors import WorkbookError, counted
from Codes.ground.paths import DATABASE, ROOT
from Codes.seams import mlflow_seam
from Codes.stores import moved

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.exceptions import MlflowException

URI = "MLFLOW_TRACKING_URI"
STORES = ("sqlite:", "http:", "https:", "postgresql", "mysql", "mssql", "databricks")
CERTIFICATE = "MLFLOW_TRACKING_SERVER_CERT_PATH"
ODD = "%?"  # in a folder's name: MLflow decodes the one and ends at the other, for artifacts too
# where MLflow's SQL store puts a new experiment's artifacts
ARTIFACT_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "lustre", "ceph"}


def open_store(wait: float = 60) -> str:
    """Make the store usable, at most `wait` seconds on a locked one, and return its URI; WorkbookError if it is not.

    `MLFLOW_TRACKING_URI` wins where it is set, and not to nothing; else it becomes the SQLite file at the root of the
    repository.
    A fresh SQLite store is created under a lock, since MLflow's own first openings break each other.
    """
    if not os.environ.get(URI, "").strip():
        _check_characters(DATABASE)
        os.environ[URI] = f"sqlite:///{DATABASE}"
    uri = os.environ[URI]
    if not uri.startswith(STORES):
        raise WorkbookError(
            f"{URI}={uri} is no store: it is sqlite:////path/mlflow.db, http(s)://HOST:PORT of an MLflow server, or a "
            "database's (postgresql, mysql, mssql); MLflow itself refuses folders of files. Unset, it is the "
            "workbook's own SQLite file."
        )
    if uri.startswith("sqlite:"):
        _open_sqlite(uri, wait)
    elif uri.startswith(("http:", "https:")):
        _ask_server(uri)
    return uri


def sqlite_file(uri: str) -> Path:
    """The absolute file behind a `sqlite:///` URI; a relative one is another in each folder: refused."""
    path = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    if not path.is_absolute():
        raise WorkbookError(f"{URI}={uri}: the path must be absolute: sqlite:///{path.absolute()}.")
    _check_characters(path)
    return path


def _check_characters(path: Path) -> None:
    """Refuse a `path` that MLflow reads as an address, and so would lay its files beside."""
    if wrong := [c for c in ODD if c in str(path)]:
        raise WorkbookError(
            f"{path} holds a '{wrong[0]}', which MLflow takes for a part of an address: rename that folder, "
            f"or set {URI} to a store elsewhere (sqlite:////path/mlflow.db)."
        )


def artifact_root(uri: str) -> str | None:
    """Where artifacts go beside a SQLite store; None where a server decides."""
    return _root_beside(sqlite_file(uri)) if uri.startswith("sqlite:") else None


def _root_beside(path: Path) -> str:
    """Where artifacts go beside the SQLite file `path`."""
    return str(path.parent / "mlruns")


def _open_sqlite(uri: str, wait: float) -> None:
    path = sqlite_file(uri)
    if not path.parent.is_dir():
        raise WorkbookError(
            f"{URI}={uri}: the folder {path.parent} does not exist; make it, or correct the address."
        )
    os.environ[ARTIFACT_ROOT] = _root_beside(path)
    with _errors_in_a_line(path, wait):
        if _is_ready(path, wait):
            _check_place(path, wait)
        else:
            with FileLock(_lock(path), timeout=wait):
                if not _is_ready(path, wait):
                    _create(path)


@contextlib.contextmanager
def alone(what: str) -> Iterator[int]:
    """Be the only one on this machine that does `what` in the store, for however long; whoever comes second waits.

    Yields the lock's file descriptor: a process that inherits it holds the lock, too, though this one is killed.
    """
    folder = ROOT / ".cache"
    folder.mkdir(exist_ok=True)
    name = f"{what}-{zlib.crc32(open_store().encode()):08x}.lock"
    with (folder / name).open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _lock(path: Path) -> str:
    """The file by which one process at a time makes or settles the store at `path`."""
    return f"{path}.lock.flock"


@contextlib.contextmanager
def _errors_in_a_line(path: Path, wait: float) -> Iterator[None]:
    """What may go wrong with the SQLite file `path` within `wait` seconds, as WorkbookError."""
    try:
        yield
    except Timeout as error:
        raise WorkbookError(
            f"{path} is being created or settled by another process for over {wait} s; end that one."
        ) from error
    except sqlite3.OperationalError as error:
        raise WorkbookError(_trouble(path, wait, error)) from error
    except sqlite3.DatabaseError as error:
        raise WorkbookError(
            f"{path} is not a usable SQLite file ({error}); move it away or restore a copy."
        ) from error


def _check_place(path: Path, wait: float) -> None:
    """Refuse a store that was moved: it would write to the old place, and find nothing of what came along."""
    with sqlite3.connect(path, timeout=wait) as connection:
        old = moved.old_root(connection, path.parent / "mlruns")
    connection.close()
    if old:
        raise WorkbookError(
            f"{path} was moved or copied here, and still looks for its runs' files in {old}; "
            "type: workbook store --moved"
        )


def _trouble(path: Path, wait: float, error: sqlite3.OperationalError) -> str:
    if "locked" in str(error):
        return f"{path} was locked by another process for over {wait} s; end that one (fuser {path}), then try again."
    if "readonly" in str(error) or "unable to open" in str(error):
        return f"{path} cannot be written ({error}); give yourself write access to it and its folder, or set {URI}."
    return f"{path}: {error}."


def _is_ready(path: Path, wait: float) -> bool:
    """Whether the file holds a store of this MLflow's schema; a stale or a newer schema is refused, not touched."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with sqlite3.connect(path, timeout=wait, isolation_level=None) as connection:
        connection.execute("BEGIN IMMEDIATE")  # what a run needs: the right to write, now
        tables = {
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
        }
        revision = (
            "alembic_version" in tables
            and connection.execute("SELECT * FROM alembic_version").fetchone()
        )
        connection.execute("ROLLBACK")
    connection.close()
    if tables and not revision:
        raise WorkbookError(
            f"{path} is a SQLite file, but not an MLflow store; set {URI} to another file."
        )
    if revision:
        _check_schema(path, revision[0])
    return bool(revision)


def _check_schema(path: Path, revision: str) -> None:
    known = mlflow_seam.schema_revisions()
    if revision not in known:
        raise WorkbookError(
            f"{path} was made by a newer MLflow (schema {revision}); update MLflow, or set {URI}."
        )
    if any(f'down_revision = "{revision}"' in text for text in known.values()):
        raise WorkbookError(
            f"{path} has an older schema ({revision}); keep a copy of it, then run: mlflow db upgrade sqlite:///{path}"
        )


@contextlib.contextmanager
def _silent(name: str) -> Iterator[None]:
    """Within it the logger `name` says nothing below a warning."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _create(path: Path) -> None:
    filesystem = _filesystem(path)
    if filesystem in NETWORK:
        raise WorkbookError(
            f"{path} is on a network file system ({filesystem}), where SQLite loses data; "
            f"set {URI} to a local file or to a server."
        )
    # built beside and renamed: a creator that is killed leaves no half store behind
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    _build(part, _root_beside(path))
    # In WAL mode, which the file keeps, readers and a writer do not block each other.
    with sqlite3.connect(part) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    for orphan in (
        "-wal",
        "-shm",
    ):  # of a file that was deleted: SQLite would write it into this one
        Path(f"{path}{orphan}").unlink(missing_ok=True)
    os.replace(part, path)


def _build(path: Path, root: str) -> None:
    """Make an empty store at `path` whose files go to `root`: a copy of one that was made here once.

    MLflow makes one by all its migrations since its first version, which takes seconds.
    """
    empty = ROOT / ".cache" / f"empty-store-{metadata.version('mlflow')}.db"
    if empty.exists():
        shutil.copyfile(empty, path)
    else:
        _migrate(path, root)
        with contextlib.suppress(OSError):  # a checkout that cannot be written
            empty.parent.mkdir(exist_ok=True)
            files.write(empty, path.read_bytes())
    moved.settle_copy(path, root)


def _migrate(path: Path, root: str) -> None:
    with _silent(
        "mlflow.store.db.utils"
    ):  # by hand it would be the first output of a first notebook, in red
        mlflow_seam.sql_store(f"sqlite:///{path}", root).engine.dispose()


def _filesystem(path: Path) -> str:
    mounts = [
        m for m in psutil.disk_partitions(all=True) if path.parent.is_relative_to(m.mountpoint)
    ]
    return max(mounts, key=lambda m: len(m.mountpoint)).fstype if mounts else ""


def _ask_server(uri: str, seconds: float = 5) -> None:
    """Ask as MLflow does: by its variables for certificates, users and tokens."""
    from mlflow.exceptions import MlflowException

    try:
        status = mlflow_seam.ask_health(uri, seconds)
    except MlflowException as error:
        raise WorkbookError(_silence(uri, error)) from error
    if status >= 500:
        raise WorkbookError(
            f"the tracking server {redacted(uri)} answers {status}; look at its log."
        )


def _silence(uri: str, error: "MlflowException") -> str:
    """Why the server could not be asked, from MLflow's `error`, whose own text may hold a password."""
    from requests import RequestException
    from requests.exceptions import SSLError

    cause = error.__cause__ or error.__context__ or error
    if not isinstance(cause, RequestException):
        return f"the tracking server {redacted(uri)} cannot be asked: {cause}"
    hint = (
        f"; {CERTIFICATE} names the file of its certificate" if isinstance(cause, SSLError) else ""
    )
    return (
        f"the tracking server {redacted(uri)} does not answer ({type(cause).__name__}); "
        f"start it, or correct or unset {URI}{hint}."
    )


@contextlib.contextmanager
def _alone(wait: float = 60) -> Iterator[Path]:
    """The file of the SQLite store, of which no other process makes, settles or renames anything meanwhile."""
    uri = os.environ.get(URI, f"sqlite:///{DATABASE}")
    if not uri.startswith("sqlite:"):
        raise WorkbookError(f"the store {redacted(uri)} is no SQLite file: this is for its server.")
    path = sqlite_file(uri)
    with _errors_in_a_line(path, wait), FileLock(_lock(path), timeout=wait):
        if not path.is_file() or not _is_ready(path, wait):
            raise WorkbookError(f"there is no store {path}; set {URI} to the one that is meant.")
        yield path


def settle(old: str = "") -> str:
    """Let a moved SQLite store find its files where it is now, and say what was done.

    Args:
        old: the folder that the store was in; by default the one that it names itself.
    """
    with _alone() as path:
        root = path.parent / "mlruns"
        with sqlite3.connect(path, timeout=60) as connection:
            before = Path(old).absolute() / "mlruns" if old else moved.old_root(connection, root)
        connection.close()
        if not before:
            return f"{path} was not moved, as far as it tells; name the folder that it was in: --moved OLD"
        changed, copied = moved.repair(path, root, before)
    if not changed:
        return f"{path} names no files in {before}"
    return (
        f"{counted(changed, 'place')} of files changed from {before} to {root}; "
        f"{counted(copied, 'file')} copied from there"
    )


def rename_tags() -> str:
    """Let the tags that an earlier workbook wrote be known to this one, and say how many."""
    with _alone() as path:
        return f"{moved.rename_tags(path)} tags renamed: {moved.OLD_PREFIX}… is {moved.PREFIX}…"


def _old_tags(path: Path) -> Iterator[str]:
    """A line about tags of an earlier workbook in the store at `path`, where it has some."""
    with sqlite3.connect(path) as connection:
        count = moved.old_tags(connection)
    connection.close()
    if count:
        yield (
            f"{count} tags are those of an earlier workbook ({moved.OLD_PREFIX}…), which sweeps, --if-changed and the "
            "registry do not know; type: workbook store --rename-tags"
        )


def description() -> Iterator[str]:
    """Lines that say where the store is, how large, and how many runs its experiments have."""
    from mlflow import MlflowClient

    uri = open_store()
    yield redacted(uri)
    if root := artifact_root(uri):
        kept = [file for file in Path(root).rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in kept) + sqlite_file(uri).stat().st_size
        yield f"{counted(len(kept), 'file')} in {root}; {size / 1e6:,.1f} MB with the database"
        yield from _old_tags(sqlite_file(uri))
    client = MlflowClient(uri)
    for experiment in client.search_experiments():
        count = sum(1 for _ in all_runs(client, "", [experiment.experiment_id]))
        yield f"  {experiment.name}: {counted(count, 'run')}"


def all_runs(
    client: "MlflowClient",
    where: str = "",
    experiments: list[str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> "Iterator[Run]":
    """Each run in `experiments` (ids; None: in all) that the filter `where` matches, the newest first.

    `tags` (name → value) keeps those that have them, whatever characters are in the values.
    """
    if experiments is None:
        experiments = [e.experiment_id for e in client.search_experiments()]
    tags, token = tags or {}, None
    where = " and ".join(filter(None, (where, tag_filter(tags))))
    while experiments:
        page = client.search_runs(experiments, where, page_token=token)
        yield from (run for run in page if tags.items() <= run.data.tags.items())
        token = page.token
        if not token:
            return


def tag_filter(tags: Mapping[str, str]) -> str:
    """MLflow's filter for `tags` (name → value), but for values that it has no quotes for.

    Who searches by it compares the values again: some databases do not tell A from a.
    """
    texts = {name: quoted(value) for name, value in tags.items()}
    return " and ".join(f"tags.`{name}` = {text}" for name, text in texts.items() if text)


def quoted(value: str) -> str:
    """`value` as a text in MLflow's filters, which know no escapes; empty where it holds both kinds of quotes."""
    quote = '"' if "'" in value else "'"
    return "" if quote in value else f"{quote}{value}{quote}"


def redacted(uri: str) -> str:
    """`uri` without a user name and password."""
    return re.sub("(?<=://)[^/]*@", "", uri, count=1)
