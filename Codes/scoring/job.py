"""Scoring a table of any size by a registered model: in parts, so that a killed command goes on where it was."""

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from Codes.ground.errors import WorkbookError, first_line
from Codes.ground.pace import SILENCE, Pace
from Codes.model_registry.registry import Version
from Codes.problems import problem
from Codes.problems.problem import Problem
from Codes.saved_models.trust import Loaded
from Codes.scoring import predictors
from Codes.scoring.output import Output, added
from Codes.scoring.parts import Identity, Parts, Place, Receipt
from Codes.scoring.predictors import Predictor
from Codes.scoring.table_parts import CsvTable, form_of_table, open_table, ParquetTable, Part
from Codes.scoring.typed_rows import Rules

BATCH = 50_000


@dataclass(frozen=True)
class Summary:  # pylint: disable=too-many-instance-attributes
    """How a scoring ended: `resumed` parts were there already; `skipped` means that all was."""

    rows: int
    scored: int
    rejected: int
    seconds: float
    out: Path
    side: Path | None  # the table of the rejected rows
    skipped: bool = False
    resumed: int = 0


def check_files(table: str | Path, out: str | Path) -> None:
    """Refuse a `table` that is none, and an `out` that no scores can go to: loading a model may take minutes."""
    form_of_table(Path(table))
    Place(Path(out)).check(Path(table))


def score(  # pylint: disable=too-many-arguments,too-many-locals
    version: Version,
    loaded: Loaded,
    table: str | Path,
    out: str | Path,
    *,
    batch_rows: int = BATCH,
    force: bool = False,
    allow_unknown: bool = False,
    contract: str | None = None,
    cluster: str | None = None,
    progress: bool = True,
    say: Callable[[str], Any] = print,
) -> Summary:
    """Score the file `table` by the model `loaded` of `version` into the file `out`; returns a Summary.

    Args:
        batch_rows: rows of a part: what is predicted at once, and what a kill can cost.
        force: score although `out` is finished.
        allow_unknown: score rows with categories that training never saw.
        contract: the problem (a name, or the path of its file) whose contract each row must keep; "" for the model's
            own; None for none.
        cluster: address of a Dask scheduler whose workers predict; None: this process does.
        progress: show a bar on a terminal, and a line now and then elsewhere.
        say: takes each line that is told.

    Raises:
        WorkbookError: one line; `out` is as it was.
        KeyboardInterrupt: interrupted, which is told; finished parts are kept, as after any kill.
    """
    if batch_rows < 1:
        raise WorkbookError(f"batch_rows: {batch_rows} is less than one row.")
    asked = None if contract is None else problem.load(contract or version.problem)
    job = _Job(version, loaded, Path(table), Path(out), allow_unknown, asked)
    before = job.place.read_receipt()
    if before and not force and job.is_finished(before):
        return _told_again(job.summary(before["counts"], skipped=True), version, say)
    if before:
        say(f"{out}: scored before; {_other(job.identity, before['identity'])}scoring it again.")
    parts = Parts(job.place, {**job.identity, "batch_rows": batch_rows, "force": force})
    with _kept(parts, say):
        done = _run(job, parts, batch_rows, cluster, _Progress(job.table, progress, say))
    scored = f"{done.scored:,} of {done.rows:,} rows scored in {done.seconds:.1f} s"
    say(f"{out}: {scored}{_rejected(done)}")
    return done


def _told_again(done: Summary, version: Version, say: Callable[[str], Any]) -> Summary:
    """The Summary `done` of an output that was there already, which is said."""
    by = f"already scored by {version.name} version {version.number}"
    say(f"{done.out}: {by}{_rejected(done)}; nothing to do.")
    return done


def _rejected(done: Summary) -> str:
    """In words, where the rejected rows of the Summary `done` are; '' where none was."""
    return f"; {done.rejected:,} rejected: see {done.side}" if done.side else ""


def _other(identity: Identity, before: Identity) -> str:
    """In words, what of `identity` is another than `before`."""
    other = [key for key in identity | before if before.get(key) != identity.get(key)]
    return f"now by another {', '.join(other)}: " if other else ""


@contextlib.contextmanager
def _kept(parts: Parts, say: Callable[[str], Any]) -> Iterator[None]:
    """Tell in a line what ended the scoring, and that its finished `parts` are kept."""
    try:
        yield
    except KeyboardInterrupt:
        count = parts.count()
        say(f"interrupted; {count} parts of {parts.out} are finished: go on by the same command.")
        raise
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise WorkbookError(
            f"{parts.out}: it cannot be written: {reason}; mend that, and go on by the same command."
        ) from error
    finally:
        parts.close()


class _Job:  # pylint: disable=too-many-instance-attributes
    """One table, one model, one output: checked before anything is written."""

    def __init__(  # pylint: disable=too-many-arguments,too-many-positional-arguments
        self,
        version: Version,
        loaded: Loaded,
        table: Path,
        out: Path,
        allow_unknown: bool,
        asked: Problem | None,
    ) -> None:  # pylint: disable=too-many-arguments,too-many-positional-arguments
        self.version, self.loaded, self.started = version, loaded, time.monotonic()
        self.place = Place(out)
        self.table = open_table(table, loaded.reading)
        self.rules = Rules(loaded, allow_unknown, asked)
        self.rules.check_table(self.table)
        self.answers = predictors.schema(loaded)
        self._check_names()
        self.place.check(table)
        self.identity: Identity = {
            "table": self.table.digest(),
            "model": version.name,
            "model_version": version.number,
            "run_id": version.run_id,
            "digest": loaded.digest,
            "allow_unknown": allow_unknown,
        }
        if asked:
            self.identity["contract"] = {
                n: r.model_dump(mode="json") for n, r in asked.contract.items()
            }

    def _check_names(self) -> None:
        ours, features = added(self.answers), self.loaded.schema.input_names()
        # a column of the model's own may be called so: ours gets another name then
        self.called = {name: f"{name} (scored)" if name in features else name for name in ours}
        if taken := [name for name in self.table.schema.names if name in self.called.values()]:
            raise WorkbookError(
                f"{self.table.path}: its column '{taken[0]}' has the name of one that scoring adds; "
                "rename it or leave it out (scores of an earlier scoring are no input)."
            )

    def is_finished(self, receipt: Receipt) -> bool:
        """Whether `receipt` tells of this very scoring, and its files are there."""
        return receipt["identity"] == self.identity and self.place.is_complete(receipt)

    def summary(self, counts: tuple[int, int, int], **facts: Any) -> Summary:
        """The Summary of the finished output with these `counts` and `facts`."""
        seconds = time.monotonic() - self.started
        return Summary(*counts, seconds, self.place.out, self.place.side(), **facts)

    def read(self, size: int) -> Iterator[Part]:
        """Yield the checked parts of the table, `size` rows each."""
        for part in self.table.parts(size):
            yield self.rules.check(part, self.table)


def _run(
    job: _Job, parts: Parts, batch_rows: int, cluster: str | None, progress: "_Progress"
) -> Summary:
    """Score what is not finished, and write the output; returns its Summary."""
    stale, resumed = parts.open(), parts.count()
    if stale:
        progress.say(f"{parts.out}: the finished parts are of {stale}: starting anew.")
    if resumed:
        progress.say(f"{parts.out}: going on after {resumed} finished parts.")
    with contextlib.ExitStack() as stack:
        stack.callback(progress.end)
        predictor = stack.enter_context(contextlib.closing(_predictor(job, cluster, progress)))
        output = stack.enter_context(contextlib.closing(Output(job)))
        answered = _answered(job, parts, batch_rows, predictor)
        for part, answers in stack.enter_context(contextlib.closing(answered)):
            output.write(part, answers)
            progress.show(part.read, output.rows)
        counts = output.counts()
    job.table.check_unchanged()
    job.place.finish(job.identity, counts)
    parts.finished = True
    return job.summary(counts, resumed=resumed)


def _predictor(job: _Job, cluster: str | None, progress: "_Progress") -> Predictor:
    if cluster:
        return predictors.Cluster(cluster, job.loaded, progress.say)
    return predictors.Here(job.loaded)


def _answered(
    job: _Job, parts: Parts, batch_rows: int, predictor: Predictor
) -> Generator[tuple[Part, pa.Table], None, None]:
    """Yield each part and its answers, in order, while the next parts are read and predicted."""
    waiting = deque()
    with ThreadPoolExecutor(1) as reader:
        for part in _ahead(job.read(batch_rows), reader):
            known = parts.read(part.number, job.answers, len(part.good))
            if known is None and len(part.good):
                every = len(part.good) == part.typed.num_rows
                known = predictor.submit(part.typed if every else part.typed.take(part.good))
            waiting.append((part, known))
            if len(waiting) > predictor.ahead:
                yield _awaited(job, parts, predictor, *waiting.popleft())
        while waiting:
            yield _awaited(job, parts, predictor, *waiting.popleft())


def _ahead(items: Iterator[Part], pool: Executor) -> Iterator[Part]:
    """The `items` of a generator, the next one being made in the thread of `pool` while one is used."""
    coming = pool.submit(next, items, None)
    while (item := coming.result()) is not None:
        coming = pool.submit(next, items, None)
        yield item


def _awaited(
    job: _Job, parts: Parts, predictor: Predictor, part: Part, known: Any
) -> tuple[Part, pa.Table]:
    """The `part` and its answers, once they are there and kept."""
    if isinstance(known, pa.Table):
        return part, known
    try:
        found = job.answers.empty_table() if known is None else predictor.result(known)
        found = found.cast(job.answers)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise WorkbookError(
            f"the model fails at rows {part.numbers[0]} to {part.numbers[-1]}: "
            f"{first_line(error, named=True)}"
        ) from error
    parts.write(part.number, found)
    return part, found


class _Progress:
    """A bar on a terminal, plain lines elsewhere, none where it is not wanted."""

    def __init__(
        self, table: ParquetTable | CsvTable, wanted: bool, say: Callable[[str], Any]
    ) -> None:
        self._say, self._wanted, self._total = say, wanted, max(1, table.total)
        self._last, self._bar = time.monotonic(), None
        self._pace: Pace | None = None
        if wanted and sys.stderr.isatty():
            self._bar = tqdm(total=table.total, unit=table.unit, unit_scale=True, leave=False)

    def say(self, text: str) -> None:
        """Tell a line."""
        if self._bar is not None:
            self._bar.clear()
        self._say(text)
        self._last = time.monotonic()

    def show(self, read: int, rows: int) -> None:
        """So much of the table is `read`, in its unit, which are so many `rows`."""
        self._pace = self._pace or Pace(self._total, read)
        if self._bar is not None:
            self._bar.update(read - self._bar.n)
        elif self._wanted and time.monotonic() - self._last > SILENCE:
            left = self._pace.left(read)
            self.say(f"{rows:,} rows, {read / self._total:.0%} of the table{left}")

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
