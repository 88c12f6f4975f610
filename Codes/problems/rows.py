"""Which rows of a table are for training, for validation and for the test: by the problem's file alone.

By chance a row goes where its key says, a hash of its values, so that a table that grows, or is ordered otherwise,
keeps each row where it was, and equal rows are on one side. By time the cutoffs say it.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from Codes.ground.errors import WorkbookError
from Codes.problems.problem import Problem, Split
from Codes.tables.contract import comparable

TRAIN, VALIDATION, TEST = 0, 1, 2
SMALL = 2000  # training and validation rows; fewer are scored by repeated cross-validation
MOST_VALIDATION, MOST_TEST = 10_000, 25_000  # rows that are scored; more would say the same, later
FEWEST_BLOCKS = 20  # of which an error can be told
EXACT = 2**53  # integers up to which are exact as floats
_GAP = np.uint64(0x9E3779B97F4A7C15)


class Parts(str):
    """The parts of a table, which a frame of some of its rows remembers among its attributes; see data.load.

    It is text, which says how many, since pandas compares attributes and Arrow writes them into files.

    Attributes:
        drawn: the numbers of the rows to train on; of a small table some are in `validation`, too.
        validation: the numbers of the validation rows.
        is_small: whether the table is scored by cross-validation on all these rows.
        baseline: of all training rows (of a small table: and validation rows) the columns that a baseline is made from.
        test: the targets of the test rows.
    """

    drawn: np.ndarray
    validation: np.ndarray
    is_small: bool
    baseline: pd.DataFrame
    test: pd.Series

    @classmethod
    def of(cls, **attributes: Any) -> "Parts":
        """The Parts with these attributes."""
        made = cls(
            f"{len(attributes['drawn'])} rows to train on, {len(attributes['validation'])} to validate"
        )
        vars(made).update(attributes)
        return made

    def __deepcopy__(self, memo: dict) -> "Parts":
        """Itself: pandas copies a frame's attributes with each step."""
        return self


def assigned(table: pa.Table, problem: Problem) -> np.ndarray:
    """TRAIN, VALIDATION or TEST for each row of the Arrow `table` (of all rows that have a target).

    Raises:
        WorkbookError: a share by time, whose cutoff would move with the table; a cutoff of another type.
    """
    rule = problem.split
    if rule.kind == "time":
        return _by_time(table[problem.time].to_pandas(), rule, problem.name)
    unit = _units(_mixed(keys(table, problem)))
    sides = np.full(len(table), TRAIN, np.int8)
    sides[unit < rule.share_to_test + rule.validation_share] = VALIDATION
    sides[unit < rule.share_to_test] = TEST
    if rule.kind != "group":
        is_class = rule.kind == "stratified"
        target = (
            table[problem.target].to_pandas().astype(object) if is_class else np.zeros(len(table))
        )
        _spread(sides, unit, pd.factorize(target)[0], rule)
    return sides


def is_known(table: pa.Table, problem: Problem) -> np.ndarray:
    """A mask of the rows of the Arrow `table` that lie between the split's begin and end, where it has them."""
    begin, end = problem.split.begin, problem.split.end
    known = np.ones(len(table), bool)
    if begin is None and end is None:
        return known
    times = table[problem.time].to_pandas()
    try:
        if begin is not None:
            known &= (times >= comparable(begin, times)).to_numpy()
        if end is not None:
            known &= (times < comparable(end, times)).to_numpy()
        return known
    except TypeError:
        told = f"begin {begin} or end {end}" if begin is not None else f"end {end}"
        raise WorkbookError(f"{problem.name}: split: {told} and {times.dtype} differ") from None


def _spread(sides: np.ndarray, unit: np.ndarray, classes: np.ndarray, rule: Split) -> None:
    """Move rows so that each class is in training and test, and of three rows and more in the validation, too.

    Of a class (of a whole table) with so few rows chance may put all on one side; those nearest to the missing side go.
    """
    middle = {
        TEST: rule.share_to_test / 2,
        VALIDATION: rule.share_to_test + rule.validation_share / 2,
        TRAIN: 1.0,
    }
    labels = pd.Series(classes)
    for _, rows in labels.groupby(labels).groups.items():
        rows = np.asarray(rows)
        wanted = (TRAIN, TEST, VALIDATION)[: len(rows)]
        for side in wanted:
            if (sides[rows] == side).any():
                continue
            counts = np.bincount(sides[rows], minlength=3)
            spare = rows[(counts[sides[rows]] > 1) | ~np.isin(sides[rows], wanted)]
            if len(spare):
                sides[spare[np.argmin(np.abs(unit[spare] - middle[side]))]] = side


def _by_time(times: pd.Series, rule: Split, name: str) -> np.ndarray:
    """Test rows from the cutoff on, validation rows before it, training rows first; no two equal times are parted."""
    if rule.cutoff is None:
        raise WorkbookError(
            f"{name}: split: by time a share would move as the table grows; name {_proposed(times, rule)}"
        )
    try:
        late = (times >= comparable(rule.cutoff, times)).to_numpy()
        if rule.validation_cutoff is not None:
            begins = comparable(rule.validation_cutoff, times)
        else:
            begins = _share_from(times[~late], rule.validation_share)
        middle = (times >= begins).to_numpy() & ~late
    except TypeError:
        wrong = (
            rule.cutoff
            if rule.validation_cutoff is None
            else f"{rule.validation_cutoff} or {rule.cutoff}"
        )
        raise WorkbookError(f"{name}: split: cutoff {wrong} and {times.dtype} differ") from None
    return np.select([late, middle], [TEST, VALIDATION], TRAIN).astype(np.int8)


def _share_from(times: pd.Series, share: float) -> Any:
    """The time from which on the last `share` of `times` lies; the first one where there are none."""
    return times.sort_values().iloc[int(len(times) * (1 - share))] if len(times) else 0


def _proposed(times: pd.Series, rule: Split) -> str:
    test = _share_from(times, rule.share_to_test)
    cutoff = test.date() if isinstance(test, pd.Timestamp) else test
    return f"the first of the test instead of 'test_share', such as cutoff: {cutoff}"


def keys(table: pa.Table, problem: Problem) -> np.ndarray:
    """A hash (uint64) for each row of `table`: of its group, of the key that `problem` names, or of all its values.

    It does not depend on the order of rows and columns, nor on whether a column of numbers has gaps.
    """
    own, group = row_keys(table, problem), problem.split.group
    if group is None:
        return own
    return np.where(table[group].is_null(nan_is_null=True), own, _hashes(table, [group]))


def row_keys(table: pa.Table, problem: Problem) -> np.ndarray:
    """A hash for each row by which the row itself is known, also where rows of a group stay together."""
    return _hashes(table, problem.split.key or table.column_names)


def keys_of(frame: pd.DataFrame, problem: Problem) -> pd.Series:
    """`row_keys` of the rows of `frame`, by its index."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    return pd.Series(row_keys(table, problem), frame.index)


def _hashes(table: pa.Table, names: Iterable[str]) -> np.ndarray:
    total = np.zeros(len(table), np.uint64)
    for name in names:
        salt = np.uint64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))
        total += _mixed(_column(table[name]) + salt)
    return total


def _column(values: pa.ChunkedArray) -> np.ndarray:
    """A hash for each of the Arrow `values`; a gap is one value, and numbers are the same in any type."""
    kind, missing = values.type, values.is_null(nan_is_null=True).to_numpy()
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        whole = (
            values.combine_chunks()
            if pa.types.is_dictionary(kind)
            else values.dictionary_encode().combine_chunks()
        )
        whole = whole.unify_dictionaries() if isinstance(whole, pa.ChunkedArray) else whole
        chunks = whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]
        words = [
            pd.util.hash_array(c.dictionary.to_numpy(zero_copy_only=False).astype(object))
            for c in chunks
        ]
        codes = [c.indices.fill_null(0).to_numpy(zero_copy_only=False) for c in chunks]
        parts = [w[p] if len(w) else np.zeros(len(p), np.uint64) for w, p in zip(words, codes)]
        found = np.concatenate(parts) if parts else np.zeros(0, np.uint64)
    elif pa.types.is_temporal(kind):
        found = pd.util.hash_array(
            values.cast(pa.timestamp("us", kind.tz if pa.types.is_timestamp(kind) else None))
            .cast(pa.int64())
            .fill_null(0)
            .to_numpy()
        )
    else:
        found = pd.util.hash_array(_numbers(values))
    return np.where(missing, _GAP, found)


def _numbers(values: pa.ChunkedArray) -> np.ndarray:
    """The Arrow `values` as floats (0.0 for a gap), or as integers where floats would not be exact."""
    if pa.types.is_integer(values.type):
        whole = values.fill_null(0).to_numpy()
        if len(whole) and max(abs(int(whole.min())), abs(int(whole.max()))) > EXACT:
            return whole
    return (
        np.nan_to_num(
            values.cast(pa.float64()).fill_null(0.0).to_numpy(),
            nan=0.0,
            posinf=np.inf,
            neginf=-np.inf,
        )
        + 0.0
    )


def _mixed(values: np.ndarray) -> np.ndarray:
    """The uint64 `values`, each bit of which depends on all of them (the finish of SplitMix64: Steele et al., 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _units(values: np.ndarray) -> np.ndarray:
    """The uint64 `values` as numbers from 0 to under 1."""
    return (values >> np.uint64(11)) / float(2**53)


def capped(places: np.ndarray, most: int) -> np.ndarray:
    """Of the `places` at most so many, drawn by chance but always the same, in order."""
    if len(places) <= most:
        return places
    return np.sort(np.random.default_rng(0).choice(places, most, replace=False))


def blocks(frame: pd.DataFrame, problem: Problem) -> np.ndarray:
    """A value for each row of `frame`: rows of one block go well or ill together, and are redrawn together.

    The group; of a split by time the day, or where there are few, one of 20 stretches of time; else the row itself.
    """
    if problem.split.kind == "group":
        values = pd.factorize(frame[problem.split.group].astype(object), use_na_sentinel=True)[0]
        own = np.arange(len(frame)) + len(frame)
        return np.where(values < 0, own, values)
    if problem.split.kind != "time":
        return np.arange(len(frame))
    times = frame[problem.time]
    days = times.dt.floor("D") if pd.api.types.is_datetime64_any_dtype(times) else times
    found = pd.factorize(days)[0]
    if found.max(initial=0) + 1 >= FEWEST_BLOCKS:
        return found
    order = np.argsort(times.to_numpy(), kind="stable")
    stretches = np.empty(len(frame), int)
    stretches[order] = np.arange(len(frame)) * min(FEWEST_BLOCKS, len(frame)) // max(len(frame), 1)
    return stretches


def digest(
    frame: pd.DataFrame,
    problem: Problem,
    use: Literal["validation", "test", "folds"],
    known: pd.Series | None = None,
) -> str:
    """16 characters that change with any row of `frame`, its target, or how the rows are redrawn.

    Args:
        known: `keys_of` the frame, where they were made already.
    """
    made = keys_of(frame, problem) if known is None else known
    target = pa.Table.from_pandas(frame[[problem.target]], preserve_index=False)[0]
    total = hashlib.sha256(f"{use} {problem.split.kind} {problem.target}".encode())
    total.update(made.to_numpy().tobytes())
    total.update(_column(target).tobytes())
    return total.hexdigest()[:16]
