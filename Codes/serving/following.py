"""The version that an alias points to, checked and ready to answer; it is exchanged when the alias moves."""

import gc
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self, TypedDict

import numpy as np
import orjson

from Codes.fast_answers.quick import Columns
from Codes.ground import files
from Codes.ground.errors import WorkbookError, first_line
from Codes.model_registry.registry import Version
from Codes.modeling import answers
from Codes.modeling.answers import Answers
from Codes.saved_models import trust
from Codes.saved_models.trust import Loaded
from Codes.serving import client, payload

LOG = logging.getLogger(__name__)
NO_NUMBER = "the model's prediction is not a number; it has been noted."


class LastGood(TypedDict):
    """What the state's file holds: the version that served well."""

    version: int
    run_id: str | None


class Source(Protocol):
    """What says who answers now."""

    @property
    def current(self) -> "Served":
        """The Served that answers."""


@dataclass(frozen=True)
class Served:
    """A version that answers.

    Args:
        model: what was loaded and checked.
        reader: reads requests for it.
        fast: {column: values} -> its Answers, by a shorter way than its pipeline (see `quick`); None without.
        private: the columns that are not kept of requests.
        contract: (columns) -> None, which refuses those that break the problem's contract; None: it is not asked.
    """

    version: Version
    model: Loaded
    reader: payload.Reader
    fast: Callable[[Columns], Answers] | None = None
    private: frozenset[str] = frozenset()
    contract: Callable[[Columns], None] | None = None

    @cached_property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Of each answer."""
        facts = {"X-Model-Name": self.version.name, "X-Model-Version": self.version.number}
        return [(key.lower().encode(), str(value).encode()) for key, value in facts.items()]

    def answers(self, columns: Columns) -> Answers:
        """The Answers for `columns`; ArithmeticError where a prediction or a probability is no number."""
        if self.fast:
            found = self.fast(columns)
        else:
            # not model.predict, which makes text plain once more, 4 ms a request: the reader has done that
            found = answers.of_loaded(self.model, self.reader.frame(columns))
        for values in found:
            if values is not None and values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ArithmeticError(NO_NUMBER)
        return found

    def reply(self, found: Answers) -> dict[str, Any]:
        """The Answers `found` as MLflow's protocol has them, and the probabilities beside: a document for JSON."""
        told = {"predictions": found.predictions.tolist()}
        if found.probabilities is not None:
            values = np.ascontiguousarray(found.probabilities)
            told["probabilities"] = {"labels": self.labels, "values": values}
        return told

    @cached_property
    def labels(self) -> list[Any] | None:
        """The classes in the order of the probabilities, as JSON has them; None of a regression."""
        return self.model.labels and np.asarray(self.model.labels).tolist()

    def answer(self, kind: str, body: bytes) -> tuple[Columns, list[Any], bytes]:
        """(columns, predictions, reply) for the `body` of a request of the content type `kind`.

        The columns are the model's, and those of the reader's `beside` that came along.
        """
        columns = self.reader.csv(body) if kind == "text/csv" else self.reader.json(body)
        beside = {name: columns.pop(name) for name in self.reader.beside if name in columns}
        if self.contract:
            self.contract(columns)
        told = self.reply(self.answers(columns))
        columns |= beside
        return columns, told["predictions"], orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)

    @cached_property
    def example(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(a request, the reply to it), as OpenAPI shows them: a row of its own example, private values made up."""
        rows: Any = self.model.example  # `smoke` has refused a model without
        row = rows.head(1)
        body = json.loads(client.body(row))
        for place, name in enumerate(row):
            if name in self.private:
                body["dataframe_split"]["data"][0][place] = self.reader.columns[name].made_up()
        told = self.reply(self.answers(self.reader.json(orjson.dumps(body))))
        return body, orjson.loads(orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY))

    def public(self, columns: Columns) -> Columns:
        """`columns` without the private ones."""
        return {name: values for name, values in columns.items() if name not in self.private}

    def smoke(self) -> Self:
        """Answer its own example, as a client would ask it; any exception says that it can't."""
        rows = self.model.example
        if rows is None:
            raise WorkbookError("it was saved without an example")
        # not `answer`: rows of training may break a contract that is stricter than training's
        found = self.answers(self.reader.json(client.body(rows).encode()))
        theirs = (self.model.predict(rows), self.model.probabilities(rows))
        if not all(t is None or _same(o, t) for o, t in zip(found, theirs)):
            raise WorkbookError("what it answers is not what it predicts")
        return self


def _same(ours: np.ndarray | None, theirs: np.ndarray) -> bool:
    return ours is not None and bool(trust.same(ours.tolist(), theirs.tolist()))


class Following:  # pylint: disable=too-many-instance-attributes
    """Holds the Served that answers in `current`, and exchanges it when the alias points elsewhere.

    Args:
        spec: name@alias, which is followed, or name/number, which stays.
        store: has `find`, `load`, `pointed` and `was_in`, as Codes.model_registry.registry.
        make: (version, loaded) -> Served.
        state: file that remembers the last version that served well.
        every: seconds between two looks at the alias.
    """

    def __init__(  # pylint: disable=too-many-arguments
        self,
        spec: str,
        store: Any,
        make: Callable[[Version, Loaded], Served],
        *,
        state: str | Path,
        metrics: Any,
        every: float = 1.0,
    ) -> None:  # pylint: disable=R0913
        self.name, _, self.alias = spec.partition("/")[0].partition("@")
        self.spec = spec
        self.current: Served  # from the beginning of a with block on
        self._store, self._make, self._state, self._metrics = store, make, Path(state), metrics
        self._every, self._stop = every, threading.Event()
        self._told: str | None = None
        self._failed: int | None = None
        self._again, self._pause = 0.0, 0.0

    def __enter__(self) -> Self:
        version = self._store.find(self.spec)
        try:
            self._take(version)
        except Exception as error:  # pylint: disable=W0718
            last = self._last_good() if self.alias else None
            if not last or last.number == version.number:
                raise WorkbookError(
                    f"{self._title(version.number)} can't serve: {first_line(error).rstrip('.')}"
                ) from error
            self._note_failure(
                version.number, error, f"starting with version {last.number}, the last good one"
            )
            self._take(last)
        if self.alias:
            threading.Thread(target=self._follow, name="following", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _title(self, number: int) -> str:
        return f"{self.name} version {number}"

    def _take(self, version: Version) -> None:
        self.current = self._make(version, self._store.load(version)).smoke()
        self._metrics.version.set(version.number)
        if self.alias:
            try:
                self._state.parent.mkdir(parents=True, exist_ok=True)
                good: LastGood = {"version": version.number, "run_id": version.run_id}
                files.write(self._state, json.dumps(good))
            except OSError as error:  # it serves all the same
                LOG.warning("The last good version is not noted: %s.", first_line(error))

    def _last_good(self) -> Version | None:
        """The last version that served well; None where this store has another by that number, or never let it here."""
        try:
            kept: LastGood = json.loads(self._state.read_text("utf-8"))
            number, run_id = int(kept["version"]), kept["run_id"]
            was_here = number in self._store.was_in(self.name, self.alias)
            found = self._store.find(f"{self.name}/{number}")
        except (OSError, ValueError, KeyError, TypeError, WorkbookError):
            return None
        return found if was_here and found.run_id == run_id else None

    def _follow(self) -> None:
        while not self._stop.wait(self._every):
            try:
                number = self._store.pointed(self.name, self.alias)
            except Exception as error:  # pylint: disable=W0718
                self._metrics.store_errors.inc()
                self._tell("The store is away", f" ({first_line(error).rstrip('.')})")
                continue
            self._tell(f"{self.spec} points to no version" if number is None else None)
            if number not in (None, self.current.version.number):
                self._switch(number)

    def _keeps(self) -> str:
        return f"version {self.current.version.number} keeps serving"

    def _tell(self, what: str | None, more: str = "") -> None:
        """Log `what`, once for as long as it is so."""
        if what and what != self._told:
            LOG.warning("%s%s; %s.", what, more, self._keeps())
        self._told = what

    def _switch(self, number: int) -> None:
        if number == self._failed and time.monotonic() < self._again:
            return
        before = self.current.version.number
        try:
            self._take(self._store.find(f"{self.name}/{number}"))
        except Exception as error:  # pylint: disable=W0718
            self._note_failure(number, error, self._keeps())
        else:
            self._failed = None
            self._metrics.swaps.inc()
            LOG.info("Version %s instead of %s serves %s.", number, before, self.spec)
            gc.collect()  # the one before may have a process of its own, which ends with it

    def _note_failure(self, number: int, error: BaseException, then: str) -> None:
        """One line, a count, and a pause before the next try that grows: a store may have been away."""
        self._pause = min(self._pause * 2, 300.0) if number == self._failed else 15.0
        self._failed, self._again = number, time.monotonic() + self._pause
        self._metrics.failed_swaps.inc()
        LOG.error(
            "%s can't serve: %s; %s.", self._title(number), first_line(error).rstrip("."), then
        )
