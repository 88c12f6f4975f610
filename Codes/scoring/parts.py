"""What a scoring writes: finished parts that outlive a kill, and the files that appear only once they are whole.

Beside OUT lie OUT.receipt.json (what it came from, and the digests of the files) and, where rows were rejected, the
side file. While it is made there is the hidden folder `.OUT.parts`: answers of finished parts, and the files so far.
"""

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pyarrow as pa
from pyarrow import feather
from filelock import FileLock, Timeout

from Codes.ground.errors import WorkbookError
from Codes.ground.files import sync, write
from Codes.scoring.table_parts import form

LOCK = "lock"
KIND = "workbook scoring"  # marks a receipt as ours


class Identity(TypedDict):
    """What a scoring is of: the same one again is not done twice."""

    table: str  # digest
    model: str
    model_version: int
    run_id: str | None
    digest: str  # of the model's files
    allow_unknown: bool
    contract: NotRequired[dict[str, Any]]  # {column: its rule}, where one was asked for


class Journal(Identity):
    """Of what the finished parts in the folder are."""

    batch_rows: int
    force: bool


class Receipt(TypedDict):
    """What lies beside OUT as OUT.receipt.json; digests are sha256."""

    kind: str  # KIND
    identity: Identity
    counts: tuple[int, int, int]  # rows, scored, rejected
    files: dict[str, str | None]  # by name
    before: dict[str, str | None]  # of the files that these replaced


class Place:
    """The files around OUT, and which of them are there."""

    def __init__(self, out: Path) -> None:
        self.out, self.form = out, form(out, "a table of scores")
        stem = out.name[: -len(self.form)]
        self.rejected = out.with_name(f"{stem}.rejected{self.form}")
        self.receipt = out.with_name(f"{out.name}.receipt.json")
        self.folder = out.with_name(f".{out.name}.parts")

    def check(self, table: Path) -> None:
        """Refuse what would overwrite the `table` (a path), or a file that no scoring made."""
        if not self.out.parent.is_dir():
            raise WorkbookError(f"{self.out}: there is no folder {self.out.parent}.")
        known = self.known()
        for path in (self.out, self.rejected):
            if path.exists() and path.samefile(table):
                raise WorkbookError(
                    f"{path}: it is the table itself; name another file for the scores."
                )
            if path.exists() and (path.is_dir() or _digest(path) not in known.get(path.name, ())):
                raise WorkbookError(
                    f"{path}: it is there, and not as a scoring wrote it; remove it, or name another file."
                )

    def side(self) -> Path | None:
        """The table of rejected rows; None where there is none."""
        return self.rejected if self.rejected.exists() else None

    def known(self) -> dict[str, set[str]]:
        """{name: digests that the file may have} of the files that the receipt knows; empty without."""
        receipt = self.read_receipt()
        if not receipt:
            return {}
        files, before = receipt["files"], receipt["before"]
        return {
            name: set(filter(None, (files.get(name), before.get(name))))
            for name in {*files, *before}
        }

    def read_receipt(self) -> Receipt | None:
        """What OUT.receipt.json tells; None without."""
        try:
            receipt = json.loads(self.receipt.read_text("utf-8"))
            if receipt.get("kind") == KIND and Receipt.__required_keys__ <= receipt.keys():
                return receipt
        except FileNotFoundError:
            return None
        except (OSError, ValueError, AttributeError):
            pass
        raise WorkbookError(f"{self.receipt}: it is no receipt of a scoring; move it away.")

    def is_complete(self, receipt: Receipt) -> bool:
        """Whether the files are as `receipt` says, once what a killed scoring had ready is moved to its place."""
        if not self.folder.is_dir():
            return self._is_as(receipt)
        try:
            with FileLock(self.folder / LOCK, timeout=0):
                complete = self._is_as(receipt)
                if complete:
                    remove(self.folder)
                return complete
        except Timeout:  # another command scores it anew
            return False

    def _is_as(self, receipt: Receipt) -> bool:
        for path in (self.rejected, self.out):
            ready, wanted = self.folder / path.name, receipt["files"].get(path.name)
            if _digest(path) != wanted and ready.exists() and _digest(ready) == wanted:
                os.replace(ready, path)
            if (
                path == self.rejected
                and wanted is None
                and _digest(self.out) == receipt["files"][self.out.name]
            ):
                path.unlink(missing_ok=True)
            if _digest(path) != wanted:
                return False
        return True

    def finish(self, identity: Identity, counts: tuple[int, int, int]) -> None:
        """Put the files in the folder into their places, the receipt of this `identity` with its `counts` first."""
        ready = [p for p in (self.rejected, self.out) if (self.folder / p.name).exists()]
        receipt: Receipt = {
            "kind": KIND,
            "identity": identity,
            "counts": counts,
            "files": {p.name: _digest(self.folder / p.name) for p in ready},
            "before": {p.name: _digest(p) for p in (self.rejected, self.out) if p.exists()},
        }
        write(self.receipt, json.dumps(receipt, indent=1), self.folder)
        for path in ready:
            os.replace(self.folder / path.name, path)
        if self.rejected not in ready:
            self.rejected.unlink(missing_ok=True)
        sync(self.out.parent)


class Parts:
    """The answers of finished parts in the folder of a Place, for one `identity`; one process at a time."""

    def __init__(self, place: Place, identity: Journal) -> None:
        self.folder, self.out, self.identity = place.folder, place.out, identity
        self.journal = self.folder / "journal.json"
        self.lock = FileLock(self.folder / LOCK)
        self.finished = False  # then the parts are of no use any more

    def open(self) -> str:
        """Take the folder; returns why finished parts in it are of no use: '' where they are, or there are none."""
        self.folder.mkdir(exist_ok=True)
        try:
            self.lock.acquire(timeout=0)
        except Timeout as error:
            raise WorkbookError(
                f"{self.out}: another command is writing it now; wait for its end."
            ) from error
        before = self._journal()
        if before == self.identity:
            return ""
        stale = self.count()
        for path in self.folder.iterdir():
            if path.name != LOCK:
                path.unlink()
        write(self.journal, json.dumps(self.identity), self.folder)
        other = [key for key, value in self.identity.items() if before.get(key) != value]
        return f"another {' and '.join(other)}" if stale else ""

    def _journal(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.journal.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return {}

    def count(self) -> int:
        """How many finished parts there are."""
        return len(list(self.folder.glob("*.arrow")))

    def read(self, number: int, schema: pa.Schema, rows: int) -> pa.Table | None:
        """The answers of part `number`, if it is finished: `rows` of them, with `schema`."""
        try:
            found = feather.read_table(self._path(number), memory_map=False)
        except (OSError, pa.ArrowException):  # not there, or damaged
            return None
        return found if found.schema.equals(schema) and found.num_rows == rows else None

    def write(self, number: int, answers: pa.Table) -> None:
        """Keep the `answers` of part `number`."""
        sink = pa.BufferOutputStream()
        feather.write_feather(answers, sink, compression="lz4")
        write(self._path(number), sink.getvalue(), self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08}.arrow"

    def close(self) -> None:
        """Leave the folder for the next command; one without a finished part, or of a finished scoring, goes away."""
        if self.lock.is_locked and (self.finished or not self.count()):
            remove(self.folder)
        self.lock.release()


def remove(folder: Path) -> None:
    """Take `folder` away at once: whoever makes one of its name meanwhile keeps it. Needs its lock."""
    gone = folder.with_name(f"{folder.name}.{os.getpid()}.gone")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _digest(path: Path) -> str | None:
    """The sha256 of the file `path`; None without."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
    return None
