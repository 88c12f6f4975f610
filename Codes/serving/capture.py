"""What a served model was asked and what it answered: kept for monitoring, never in a request's way."""

import contextlib
import io
import json
import logging
import os
import queue
import random
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import orjson

from Codes.ground import paths

LOG = logging.getLogger(__name__)
FILES = 8  # the bound on disk is kept by deleting the oldest of about as many files
PATTERN = "*.jsonl"
FOLDER = paths.EXECUTED / "served"  # where `workbook serve` captures by default


class Capture:  # pylint: disable=too-many-instance-attributes
    """Writes rows and their predictions as JSON lines into `folder`, from a thread of its own.

    Args:
        share: of the rows, drawn at random, how many are kept.
        size: bytes on disk; the oldest rows go first.
        waiting: rows that may wait for the disk; more are dropped and counted.
    """

    def __init__(
        self, folder: str | Path, share: float = 1.0, size: int = 64 << 20, waiting: int = 20_000
    ) -> None:
        self.folder, self.share, self.size = Path(folder), share, size
        self.kept = self.dropped = 0
        self._room, self._lock = waiting, threading.Lock()
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._file: io.FileIO | None = None
        self._thread = threading.Thread(target=self._work, name="capture", daemon=True)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join(10)

    def put(
        self,
        version: int,
        columns: Mapping[str, Sequence[Any]],
        predictions: Sequence[Any],
        run_id: str = "",
    ) -> None:
        """Hand over the rows in `columns` ({name: list}) and their `predictions`; returns at once.

        `run_id`: of the `version` (its number), which two stores may have given to two models.
        """
        count, about = len(predictions), {"version": version, "run_id": run_id}
        with self._lock:
            fits = count <= self._room
            self._room -= count if fits else 0
            self.dropped += 0 if fits else count
        if fits:
            self._queue.put((time.time(), about, columns, predictions))

    def _work(self) -> None:
        broken = False
        while (item := self._queue.get()) is not None:
            count, kept = len(item[-1]), 0
            try:
                kept, broken = self._write(*item), False
            except Exception as error:  # pylint: disable=W0718
                if not broken:
                    LOG.warning("Requests are not captured: %s", error)
                broken = True
                self._let_go()
            with self._lock:
                self._room += count
                self.kept += kept
                self.dropped += count if broken else 0
        if self._file:
            self._file.close()

    def _write(
        self,
        when: float,
        about: Mapping[str, Any],
        columns: Mapping[str, Sequence[Any]],
        predictions: Sequence[Any],
    ) -> int:
        moment = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds")
        lines = [
            {
                "time": moment,
                **about,
                "columns": {name: values[row] for name, values in columns.items()},
                "prediction": prediction,
            }
            for row, prediction in enumerate(predictions)
            if self.share >= 1 or random.random() < self.share
        ]
        for start in range(0, len(lines), 100):
            # unbuffered, in one call: whoever reads meanwhile, or after a kill, finds whole lines but for the last
            block = b"".join(map(_line, lines[start : start + 100]))
            if self._target().write(block) < len(block):
                raise OSError("the disk is full")
        return len(lines)

    def _let_go(self) -> None:
        """Leave a file that can't be written to; one without a line goes away."""
        with contextlib.suppress(OSError):
            if self._file:
                self._file.close()
                if not os.path.getsize(self._file.name):
                    os.unlink(self._file.name)
        self._file = None

    def _target(self) -> io.FileIO:
        """The open file, a new one when it has grown to its share; then the oldest files go."""
        if self._file is None or self._file.tell() >= self.size / FILES:
            if self._file:
                self._file.close()
            name = f"{time.time_ns():020d}-{os.getpid()}.jsonl"
            self._file = (self.folder / name).open("ab", buffering=0)
            self._shrink()
        return self._file

    def _shrink(self) -> None:
        sizes = {}
        for file in sorted(self.folder.glob(PATTERN)):
            with contextlib.suppress(
                FileNotFoundError
            ):  # another server of the same model was faster
                sizes[file] = file.stat().st_size
        while sum(sizes.values()) > self.size * (FILES - 1) / FILES and len(sizes) > 1:
            oldest = next(iter(sizes))
            oldest.unlink(missing_ok=True)
            del sizes[oldest]


def _line(row: Mapping[str, Any]) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def read(folder: str | Path) -> tuple[list[dict[str, Any]], int]:
    """(rows, unreadable): the captured rows in `folder`, the oldest first, and how many lines could not be read.

    A row is {"time", "version", "run_id" (None in old files), "columns": {name: value}, "prediction"}.
    """
    rows, unreadable = [], 0
    for file in sorted(Path(folder).glob(PATTERN)):
        try:
            lines = file.read_bytes().splitlines()
        except FileNotFoundError:  # rotated away meanwhile
            continue
        for line in lines:
            try:
                row = json.loads(line)
                needed = {key: row[key] for key in ("time", "version", "columns", "prediction")}
                rows.append({**needed, "run_id": row.get("run_id")})
            except (ValueError, KeyError, TypeError):
                unreadable += 1
    return rows, unreadable
