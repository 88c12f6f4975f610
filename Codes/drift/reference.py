"""What a version is held against: rows like those it learned from, cut into windows, and its loss at promotion.

Rows by time: all rows of the training period, but for those that the model itself was fitted on where enough others
are left, since of these it knows the answer. Otherwise the validation rows, which it never saw.
"""

import functools
import io
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient

from Codes.ground.errors import WorkbookError, counted
from Codes.judgement import validation
from Codes.model_registry import examination, promotion
from Codes.model_registry.registry import Version
from Codes.drift import asked as asking, harm, joint, windows
from Codes.drift.effects import Bins, Counts, Name
from Codes.drift.levels import Levels
from Codes.drift.rule import Rule
from Codes.drift.windows import Moment
from Codes.problems import data, problem as problems, rows
from Codes.problems.problem import Problem
from Codes.saved_models.trust import Loaded
from Codes.tables.cell_values import in_utc

CAP = 5000  # rows of a window that are looked at; more would say the same, later
FEWEST = 50  # rows of a window; fewer say nothing
DRAWS = 300  # windows that are drawn from the reference where there is no time
BLOCK = 25  # rows whose mean loss is one observation where there is no time
TIME = "_time"  # the column of a kept reference that holds the times of its rows


@dataclass(frozen=True, eq=False)
class Reference:  # pylint: disable=too-many-instance-attributes
    """What windows of a version are held against.

    Args:
        rows: the watched columns, of all rows: features, and what the model answers.
        times: of these rows in UTC; None where windows go by rows.
        words: the columns that hold categories.
        blocks: of each block at promotion the mean loss and the mean error, see asked.as_blocks.
        turned: as `blocks`, were the target the contrary of what it is (of amounts: mirrored at their mean).
        scale: see asked.losses.
        begin: when the time begins that is watched; NaT where there is none.
        notes: what has to be known of it, a sentence each.
    """

    problem: Problem
    rows: pd.DataFrame
    times: pd.Series | None
    words: frozenset[str]
    blocks: np.ndarray
    turned: np.ndarray
    scale: float
    begin: Moment
    notes: tuple[str, ...] = ()

    @property
    def window(self) -> str:
        """How long a window is, by the problem's file, else by whether there is a time."""
        return self.problem.monitoring.window or (
            windows.ROWS if self.times is None else windows.WEEK
        )

    @functools.cached_property
    def promised(self) -> harm.Promised:
        """What the means of a block may be."""
        return harm.promised(self.blocks, self.problem.monitoring.tolerated_loss)

    @property
    def bound(self) -> float:
        """What the mean loss of a block may be."""
        return self.promised.loss

    def whole(self) -> list[np.ndarray]:
        """The positions of the rows of each whole window, at most CAP of each, drawn by chance but always the same."""
        if self.times is None:
            return []
        found, _ = windows.cut(len(self.rows), self.times, self.window)
        sizes = [len(w.rows) for w in found if w.is_over]
        usual = np.median(sizes) if sizes else 0
        return [
            rows.capped(w.rows, CAP)
            for w in found
            if w.is_over and len(w.rows) >= max(usual / 2, FEWEST)
        ]

    def sliding(self) -> list[np.ndarray]:
        """As `whole`, of windows that begin at each day, which overlap: quiet streams are made of them."""
        size = windows.length(self.window)
        if self.times is None or isinstance(size, int):
            return []
        day = self.times.dt.floor("D")
        starts = pd.date_range(day.min(), day.max() + pd.Timedelta("1D") - size, freq="D")
        ordered = self.times.sort_values(kind="stable")
        lows, highs = ordered.searchsorted(starts), ordered.searchsorted(starts + size)
        found = [ordered.index[low:high].to_numpy() for low, high in zip(lows, highs)]
        usual = np.median([len(f) for f in found]) if found else 0
        return [rows.capped(np.sort(f), CAP) for f in found if len(f) >= max(usual / 2, FEWEST)]

    def drawn(self, size: int) -> list[np.ndarray]:
        """DRAWS windows of `size` rows, drawn by chance but always the same."""
        random = np.random.default_rng(0)
        count = len(self.rows)
        return [random.choice(count, min(size, count), replace=False) for _ in range(DRAWS)]


def of(version: Version, loaded: Loaded) -> Reference:  # pylint: disable=too-many-locals
    """The Reference of `version`, whose model is `loaded`.

    Raises:
        WorkbookError: the rows that it was trained on cannot be known, or its run kept no score.
    """
    problem = problems.load(version.problem)
    run = MlflowClient().get_run(version.run_id)
    trained, table = examination.trained_on(run), data.Table.of(problem)
    kept = promotion.artifact(version.run_id, validation.FILE)
    if kept is None:
        raise WorkbookError(
            f"{version}: its run kept no {validation.FILE}, so that nobody knows its loss at promotion: score the "
            "model by validation.score."
        )
    frame = table.load(trained.rows, trained.seed)
    scored = pd.read_parquet(io.BytesIO(kept))
    held, answers = validation.predicted(problem, frame, scored)
    truth = data.target(held, problem)
    scale = _scale(answers, truth) if loaded.labels is None else 1.0
    losses = asking.losses(answers, truth, loaded.labels, scale)
    both = asking.said_and_came(problem, answers, truth, loaded.labels)
    by_time = problem.split.kind == "time" and pd.api.types.is_datetime64_any_dtype(
        held[problem.time]
    )
    blocks = data.blocks(held, problem) if by_time else np.arange(len(held)) // BLOCK
    means = asking.as_blocks(losses, both, np.asarray(blocks), scale)
    turned = _turned(problem, answers, truth, loaded.labels, scale, np.asarray(blocks))
    notes = _lost(int((scored.repeat == 0).sum()), len(held), len(means))
    found = Reference(problem, held, None, frozenset(), means, turned, scale, pd.NaT, notes)
    if by_time:
        return _by_time(found, table, trained, loaded)
    watched = data.features(held, problem)[list(loaded.kinds)].join(
        asking.answer_columns(problem, answers, loaded.labels)
    )
    return _watched(replace(found, rows=watched.reset_index(drop=True)), loaded)


def _turned(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    problem: Problem,
    answers: pd.DataFrame,
    truth: pd.Series,
    labels: list | None,
    scale: float,
    blocks: np.ndarray,
) -> np.ndarray:
    """The blocks where the contrary came: the other class (of several the next one), the mirrored amount."""
    if labels is None:
        contrary = 2 * truth.astype(float).mean() - truth.astype(float)
    else:
        contrary = truth.map(dict(zip(labels, [*labels[1:], labels[0]])))
    losses = asking.losses(answers, contrary, labels, scale)
    both = asking.said_and_came(problem, answers, contrary, labels)
    return asking.as_blocks(losses, both, blocks, scale)


def _lost(scored: int, found: int, blocks: int) -> tuple[str, ...]:
    """What has to be known where rows that the version was scored on are no longer in the table, else nothing."""
    if found == scored and blocks > 1:
        return ()
    told = f"{counted(scored - found, 'row')} of the {scored:,} that the version was scored on are not in the table now"
    if blocks < 2:
        return (f"{told}: its loss at promotion is not known, so that harm cannot be found",)
    return (f"{told}: its loss at promotion is taken from the others",)


def _by_time(  # pylint: disable=too-many-locals
    found: Reference, table: data.Table, trained: Any, loaded: Loaded
) -> Reference:
    """The reference of a version that is split by time: the rows of its training period."""
    problem = found.problem
    positions = np.flatnonzero(table.part == rows.TRAIN)
    others = positions[
        ~np.isin(table.numbers[positions], table.parts(trained.rows, trained.seed).drawn)
    ]
    unseen = len(others) >= len(positions) / 2
    positions = others if unseen else positions
    times = in_utc(table.table[problem.time].to_pandas())
    end = problem.split.end or problem.split.validation_cutoff
    begin = times[table.part != rows.TRAIN].min() if end is None else pd.Timestamp(end)
    begin = begin.tz_localize("UTC") if begin.tzinfo is None else begin.tz_convert("UTC")
    times = times.iloc[positions].reset_index(drop=True)
    sparse = replace(found, rows=pd.DataFrame(index=times.index), times=times)
    kept = np.unique(np.concatenate([*sparse.whole(), np.zeros(0, int)]).astype(int))
    if kept.size == 0:
        raise WorkbookError(no_window(sparse, times))
    asked = asking.ask(loaded, table.table.take(positions[kept]))
    watched, notes = asked.features, found.notes
    if unseen:
        watched = watched.join(asking.answer_columns(problem, asked.answers, loaded.labels))
    else:
        notes += (
            "the model was fitted on most rows of its training period, whose answers it knows: the prediction is not "
            "watched (train on fewer rows than there are to watch it)",
        )
    times = times.iloc[kept].reset_index(drop=True)
    return _watched(replace(found, rows=watched, times=times, begin=begin, notes=notes), loaded)


def no_window(found: Reference, times: pd.Series) -> str:
    """That no window of the training period holds enough of the rows with these `times`, and what length would."""
    times, size, day = times.dropna(), windows.length(found.window), pd.Timedelta("1D")
    other = f"shorter one: monitoring: {{window: {max(FEWEST, len(times) // 8)} rows}}"
    if not isinstance(size, int):
        days = (times.max() - times.min()) / day if len(times) > 1 else 1.0
        wide = math.ceil(2 * FEWEST * days / max(1, len(times)))  # has twice as many as it must
        other = (
            f"{'longer' if wide * day > size else 'shorter'} one: monitoring: {{window: {wide}d}}"
        )
    return (
        f"{found.problem.name}: the training period ({counted(len(times), 'row')}) holds no window of "
        f"{found.window} with {FEWEST} rows: name a {other}, in the problem's file"
    )


def _watched(found: Reference, loaded: Loaded) -> Reference:
    """`found` without the columns that are left out or private, and with those that hold categories named."""
    problem, kinds = found.problem, loaded.kinds
    out = {*problem.monitoring.leave_out, *problem.private}
    kept = found.rows[[name for name in found.rows if name not in out]]
    words = {
        name
        for name in map(str, kept)
        if kinds.get(name) in ("string", "boolean")
        or problem.roles.get(name) == "categorical"
        or name not in kinds
        and not pd.api.types.is_numeric_dtype(kept[name])
    }
    return replace(found, rows=kept, words=frozenset(words))


def _scale(answers: pd.DataFrame, truth: pd.Series) -> float:
    """An error that is hardly ever exceeded: twice the 99th percentile."""
    wrong = (answers.predicted.astype(float) - truth.astype(float)).abs()
    return float(2 * wrong.quantile(0.99)) or 1.0


class Profile:  # pylint: disable=too-many-instance-attributes
    """A Reference made ready: its bins, its windows, and their counts."""

    def __init__(self, reference: Reference) -> None:
        self.reference, self.notes = reference, list(reference.notes)
        self.windows, monitoring = reference.whole(), reference.problem.monitoring
        rule = Rule.of(monitoring.rule)
        needed = rule.needed(monitoring.budget)
        if reference.times is not None and len(self.windows) < needed:
            # those that overlap would be more, but know no more: of six cut into 36, quiet ones were found strange four
            # times too often
            count = len(self.windows)
            self.notes.append(
                f"the reference has {counted(count, 'window')} of {reference.window}, which is too few for an alarm by "
                f"drift: one false alarm in {monitoring.budget} windows needs {needed} (shorter windows, a longer "
                f"training period, or `budget: {rule.affordable(count)}` would do)"
            )
        sizes = [len(w) for w in self.windows]
        self.usual = int(np.median(sizes)) if sizes else min(1000, max(len(reference.rows) // 4, 1))
        self.bins = Bins(reference.rows, set(reference.words), self.usual)
        self.codes = self.bins.codes(reference.rows)
        answers = {b.column for b in self.bins.bins if b.column.startswith(asking.ANSWER)}
        self.levels = Levels(self.bins, self.codes, answers)
        self.inside = np.unique(np.concatenate([*self.windows, np.zeros(0, int)]).astype(int))
        self._made: dict[int, tuple[Counts, Counts]] = {}
        self._joint: dict[int, np.ndarray] = {}
        self._among: dict[int, np.ndarray] = {}

    @property
    def names(self) -> list[Name]:
        """What `effects` are of: each column's, and where the problem's file asks for it that of all together."""
        return [*self.bins.names, *self.levels.names, *[joint.NAME] * self._is_joint]

    @property
    def _is_joint(self) -> bool:
        return self.reference.problem.monitoring.joint and len(self.windows) > 1

    @property
    def size(self) -> int:
        """How many windows it has."""
        return len(self.windows) or DRAWS

    @property
    def most(self) -> int:
        """The most rows of a window that are looked at."""
        return CAP if self.windows else max(len(self.reference.rows) // 4, 1)

    def counts(self, size: int) -> tuple[Counts, Counts]:
        """(counts of all rows of each window, those of at most `size` rows of each)."""
        if size not in self._made:
            chosen, random = self.windows or self.reference.drawn(size), np.random.default_rng(0)
            few = [w if len(w) <= size else random.choice(w, size, replace=False) for w in chosen]
            self._made[size] = self.count(chosen), self.count(few)
        return self._made[size]

    def count(self, chosen: list[np.ndarray]) -> Counts:
        """How many rows of each of the `chosen` windows (positions of rows of the reference) are in each bin."""
        positions = np.concatenate([*chosen, np.zeros(0, int)]).astype(int)
        number = np.repeat(np.arange(len(chosen)), [len(w) for w in chosen])
        return self.bins.counts(self.codes[positions], number, len(chosen))

    @functools.cached_property
    def total(self) -> Counts:
        """The counts of all rows that are in a window."""
        return self.count([self.inside if self.windows else np.arange(len(self.codes))])

    @functools.cached_property
    def products(self) -> np.ndarray:
        """The levels.products of all rows that are in a window."""
        return self.levels.products(self.codes[self.inside] if self.windows else self.codes)

    def effects(self, frame: pd.DataFrame) -> np.ndarray:
        """How far each window of the reference, and last the one of the rows `frame`, lies from all other rows."""
        codes = self.bins.codes(frame)
        codes = codes[rows.capped(np.arange(len(codes)), self.most)]
        whole, few = self.counts(self._size(len(codes)))
        own = self.bins.counts(codes, np.zeros(len(codes), int), 1)
        rest = [t + o - np.vstack([w, o]) for t, o, w in zip(self.total, own, whole)]
        compared = [np.vstack([f, o]) for f, o in zip(few, own)]
        products = self.products + self.levels.products(codes)
        found = [self.bins.effects(compared, rest), self.levels.effects(compared, rest, products)]
        together = [self._jointly(codes)] if self._is_joint else []
        return np.column_stack([*found, *together])

    def among(self, count: int) -> np.ndarray:
        """How far each window of the reference lies from its other rows, where a window has `count` rows."""
        size = self._size(min(count, self.most))
        if size not in self._among:
            whole, few = self.counts(size)
            rest = [t - w for t, w in zip(self.total, whole)]
            found = [self.bins.effects(few, rest), self.levels.effects(few, rest, self.products)]
            self._among[size] = np.column_stack(found)
        together = [self._joint_of(min(count, self.most))] if self._is_joint else []
        return np.column_stack([self._among[size], *together])

    def _size(self, count: int) -> int:
        """Of so many rows the reference's windows are counted, where a window has `count`.

        Windows are of one size, but for those that time makes a little larger or smaller.
        """
        return CAP if count >= self.usual / 2 and self.windows else count

    def _jointly(self, codes: np.ndarray) -> np.ndarray:
        """How well each window of the reference, and last the one with these `codes`, is told from the others."""
        known = self._joint_of(len(codes))
        return np.append(known, joint.effect(codes, self.codes[self.inside]))

    def _joint_of(self, count: int) -> np.ndarray:
        size = min(count, joint.ROWS)
        if size not in self._joint:
            self._joint[size] = joint.effects(self.codes, self.windows, size)
        return self._joint[size]
