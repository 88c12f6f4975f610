"""The table of a problem: loaded, checked against its contract, split, and named for MLflow."""

import hashlib
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any, Self, TypedDict

import numpy as np
import pandas as pd
import pyarrow as pa
import sklearn.datasets
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.pandas_dataset import PandasDataset

# pyrefly: ignore[missing-module-attribute]  # MLflow makes it as it is imported
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.types import ColSpec, DataType, Schema

from Codes.ground.errors import WorkbookError
from Codes.ground.paths import ROOT
from Codes.problems import late_labels, own_metric, rows as rows_
from Codes.problems.problem import Problem, suggest
from Codes.problems.rows import blocks
from Codes.tables import column_checks, reader
from Codes.tables.contract import check, require

__all__ = [
    *("load", "look", "test", "whole", "split", "to_train", "is_small", "known", "blocks"),
    *("features", "target", "roles", "role_by_type", "may_lack"),
    *("check", "require", "digest", "dataset"),
]
# attributes of a frame: the columns with gaps in the whole table, those of them that hold true and false, how
# its text was read, all columns of the table, and its rows.Parts
HowRead = TypedDict(
    "HowRead", {"options": dict[str, Any], "yes_no": list[str], "unused": list[str]}
)
GAPS, YES_NO, READING, COLUMNS, PARTS = "gaps", "yes_no", "reading", "columns", "parts"


def load(problem: Problem, rows: int = 0, seed: int = 0) -> pd.DataFrame:
    """The training and the validation rows of `problem` as a frame, in the table's order; its index numbers its rows.

    The test rows are the gate's alone (see `test`). Which rows are drawn changes no column's type, nor whether it may
    lack a value (see `may_lack`). Rows without a target are left out.

    Args:
        rows: how many of the rows to train on are drawn; 0 for all. The validation rows are the same for all runs.
        seed: which rows are drawn.

    Raises:
        WorkbookError: one line that names the file or the column, and what is wrong.
    """
    return Table.of(problem).load(rows, seed)


def look(problem: Problem, rows: int = 0, seed: int = 0) -> pd.DataFrame:
    """The rows that `load` gives, also where training refuses the table: to see what is wrong with it.

    Raises:
        WorkbookError: the table cannot be read, or not be split: then all that is wrong with it.
    """
    try:
        return Table.of(problem, sound=False).drawn(rows, seed)
    except WorkbookError:
        Table.of(problem)  # says more, where the table is to blame
        raise


def test(problem: Problem) -> pd.DataFrame:
    """The test rows of `problem` as a frame, at most rows.MOST_TEST, always the same: for the gate alone."""
    return Table.of(problem).test()


def whole(problem: Problem) -> pd.DataFrame:
    """All rows of `problem` as a frame, the test rows among them: to check and to count, never to learn or choose."""
    table = Table.of(problem)
    return table.frame(table.numbers, table.parts())


class Table:
    """The whole Arrow table of a problem, read once: the numbers of its rows, and which part each belongs to."""

    def __init__(self, table: pa.Table, numbers: np.ndarray, problem: Problem) -> None:
        self.table, self.numbers, self.problem = table, numbers, problem
        self.part = rows_.assigned(table, problem)
        self.gaps: Collection[str] = ()

    @classmethod
    def of(cls, problem: Problem, sound: bool = True) -> Self:
        """The table of `problem`, without the rows that have no target; where it must be `sound`, it may be refused."""
        table, numbers = _with_target(problem)
        kept = table.take(numbers)
        if sound:
            column_checks.require(kept, problem)
        made = cls(kept, numbers, problem)
        made.gaps = _gaps(table, numbers)
        return made

    def load(self, rows: int = 0, seed: int = 0) -> pd.DataFrame:
        """As `load`, of the table that was read."""
        if self.problem.metric.function:
            own_metric.rehearse(self.problem, self.target())
        return self.drawn(rows, seed)

    def test(self) -> pd.DataFrame:
        """As `test`, of the table that was read."""
        kept = rows_.capped(np.flatnonzero(self.part == rows_.TEST), rows_.MOST_TEST)
        if kept.size == 0:
            name = self.problem.name
            raise WorkbookError(f"{name}: split: no row to test; another test_share or cutoff")
        return self.frame(self.numbers[kept], self.parts())

    def target(self) -> pd.Series:
        """The targets of all rows."""
        return target(_frame(self.table.select([self.problem.target]), ()), self.problem)

    def drawn(self, rows: int, seed: int) -> pd.DataFrame:
        """The frame of the rows to train on, so many drawn with `seed` (0: all), and of the validation rows."""
        if rows < 0:
            raise WorkbookError(f"rows: {rows} is negative; 0 takes all")
        parts = self.parts(rows, seed, rows_.MOST_VALIDATION)
        kept = parts.baseline.index if parts.is_small else np.union1d(parts.drawn, parts.validation)
        return self.frame(kept, parts)

    def parts(self, rows: int = 0, seed: int = 0, most: int | None = None) -> rows_.Parts:
        """The rows.Parts, with `rows` of those to train on, drawn with `seed`, and at most so many to validate."""
        ours, validation = (
            np.flatnonzero(which)
            for which in (self.part != rows_.TEST, self.part == rows_.VALIDATION)
        )
        is_few = self.problem.split.kind != "time" and len(ours) < rows_.SMALL
        trained = ours if is_few else np.flatnonzero(self.part == rows_.TRAIN)
        drawn = trained
        if 0 < rows < len(trained):
            drawn = np.sort(np.random.default_rng(seed).choice(trained, rows, replace=False))
        if most and not is_few:
            validation = rows_.capped(validation, most)
        return rows_.Parts.of(
            drawn=self.numbers[drawn],
            validation=self.numbers[validation],
            is_small=is_few,
            baseline=self._columns(trained),
            test=self._columns(np.flatnonzero(self.part == rows_.TEST))[self.problem.target],
        )

    def _columns(self, positions: np.ndarray) -> pd.DataFrame:
        """A frame of the columns that a baseline is made from, of the rows at `positions`."""
        rule, problem = self.problem.baseline, self.problem
        group = rule and rule.last_of
        names = dict.fromkeys(n for n in (problem.target, group, problem.time) if n)
        return _frame(self.table.select(list(names)).take(positions), ()).set_axis(
            self.numbers[positions]
        )

    def frame(self, numbers: np.ndarray | pd.Index, parts: rows_.Parts) -> pd.DataFrame:
        """The rows of these `numbers` as a frame, whose attributes remember what is known of the whole table."""
        table, gaps = self.table, self.gaps
        kept = np.flatnonzero(np.isin(self.numbers, numbers))
        frame = _frame(table.take(kept), gaps).set_axis(self.numbers[kept])
        frame.attrs[GAPS] = gaps
        frame.attrs[PARTS] = parts
        frame.attrs[READING] = self.problem.source.reading.changed()
        frame.attrs[COLUMNS] = [*table.column_names, *reader.left_out(table)]
        frame.attrs[YES_NO] = [n for n in gaps if pa.types.is_boolean(table.schema.field(n).type)]
        return frame


def examine(problem: Problem) -> list[column_checks.Trouble]:
    """The troubles of the problem's table (a list of column_checks.Trouble), whether they refuse it or are only odd."""
    table, kept = _with_target(problem)
    return column_checks.of(table.take(kept), problem)


def _with_target(problem: Problem) -> tuple[pa.Table, np.ndarray]:
    """(the Arrow table of `problem`, the numbers of the rows that have a target)."""
    table = late_labels.filled(_table(problem), problem)
    _named(table, problem)
    kept = ~table[problem.target].is_null(nan_is_null=True).to_numpy()
    return table, np.flatnonzero(kept & rows_.is_known(table, problem))


def _table(problem: Problem) -> pa.Table:
    """The Arrow table of a `problem`."""
    source = problem.source
    if source.path is not None:
        return reader.read(source.path, source.sha256, source.reading, problem.exclude)
    options = {"scaled": False} if source.sklearn == "diabetes" else {}
    bunch = getattr(sklearn.datasets, f"load_{source.sklearn}")(as_frame=True, **options)
    frame = bunch.frame
    if source.sklearn in ("breast_cancer", "iris", "wine"):  # the classes by name, not by number
        frame = frame.assign(target=bunch.target_names[bunch.target])
    return reader.plain(pa.Table.from_pandas(frame, preserve_index=False))


def _named(table: pa.Table, problem: Problem) -> None:
    """Refuse a `table` that lacks columns that `problem` names: a misspelt exclude would be a leak."""
    columns, left_out = table.column_names, reader.left_out(table)
    named = {problem.target: "target", problem.time: "time", problem.split.group: "split.group"}
    named |= dict.fromkeys(problem.split.key, "split.key")
    if problem.baseline:
        named |= {problem.baseline.column: "baseline", problem.baseline.last_of: "baseline"}
    for part in ("exclude", "roles", "columns", "contract", "private"):
        named |= dict.fromkeys(getattr(problem, part), part)
    named |= dict.fromkeys(problem.gate.slices, "gate.slices")
    named |= dict.fromkeys(problem.monitoring.leave_out, "monitoring.leave_out")
    wrong = []
    for column, part in named.items():
        if not (column is None or column in columns or column in left_out and part == "exclude"):
            hint = suggest(column, columns) or f"; it has: {', '.join(columns)}"
            wrong.append(f"{part}: no column '{column}' in the table{hint}")
    if wrong:
        raise WorkbookError(f"{problem.name}: {'; '.join(wrong)}")


def _gaps(table: pa.Table, kept: np.ndarray) -> list[str]:
    """The columns of the Arrow `table` that lack a value in one of the rows `kept`."""
    return [
        name
        for name, values in zip(table.column_names, table.columns)
        if values.is_null(nan_is_null=True).to_numpy()[kept].any()
    ]


def _frame(table: pa.Table, gaps: Collection[str]) -> pd.DataFrame:
    """The Arrow `table` as a frame: text as categories in order; yes-no (1, 0) and integers with `gaps` as floats."""
    frame = table.to_pandas()
    for column in frame.columns[frame.dtypes == "category"]:
        values = frame[column].cat.categories
        frame[column] = frame[column].cat.set_categories(sorted(values))
    types = {name: frame[name].dtype for name in gaps}
    loose = [
        n for n, t in types.items() if t == object or isinstance(t, np.dtype) and t.kind in "biu"
    ]
    return frame.astype(dict.fromkeys(loose, float))


def split(frame: pd.DataFrame, problem: Problem) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The training and the validation rows of `frame` (see `load`), each in its order, as `problem.split` says.

    Raises:
        WorkbookError: one side is empty, or holds a single class.
    """
    parts = _parts(frame, problem)
    is_validation = frame.index.isin(parts.validation)
    train, validation = frame[frame.index.isin(parts.drawn) & ~is_validation], frame[is_validation]
    if train.empty or validation.empty:
        counts = f"{len(train)} rows to train and {len(validation)} to validate"
        raise WorkbookError(
            f"{problem.name}: split: {counts}; another share or cutoff, or more rows"
        )
    sides = {"to train on": train[problem.target], "to validate": validation[problem.target]}
    _require_classes(problem, sides | {"to test": parts.test})
    return train, validation


def to_validate(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """The validation rows of `frame` (see `load`), whatever the others are."""
    return frame[frame.index.isin(_parts(frame, problem).validation)]


def to_train(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """The rows of `frame` (see `load`) to train on: of a small table, which is scored by cross-validation, all."""
    parts = _parts(frame, problem)
    if not parts.is_small:
        return split(frame, problem)[0]
    train = frame[frame.index.isin(parts.drawn)]
    _require_classes(problem, {"to train on": train[problem.target], "to test": parts.test})
    rest = len(frame) - frame[problem.target].value_counts().max()
    if problem.task == "classification" and rest < 2:
        raise WorkbookError(
            f"{problem.name}: split: of {len(frame)} rows to train and validate all but {rest} are of one class: "
            "nothing could be both learned and measured; more rows, another split, or another target"
        )
    return train


def is_small(frame: pd.DataFrame, problem: Problem) -> bool:
    """Whether `frame` (see `load`) is of a table that is scored by repeated cross-validation."""
    return _parts(frame, problem).is_small


def known(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """Of all rows to train on in the table that `frame` is of, the columns that a baseline is made from."""
    return _parts(frame, problem).baseline


def _parts(frame: pd.DataFrame, problem: Problem) -> rows_.Parts:
    """The rows.Parts of a `frame` from `load`; of one of your own, by its rows."""
    if isinstance(frame.attrs.get(PARTS), rows_.Parts):
        return frame.attrs[PARTS]
    table = pa.Table.from_pandas(frame, preserve_index=False)
    return Table(table, frame.index.to_numpy(), problem).parts()


def _require_classes(problem: Problem, sides: Mapping[str, pd.Series]) -> None:
    """Refuse `sides` of a split ({use: targets}) of which one is empty or holds a single class."""
    for use, values in sides.items():
        if values.empty:
            raise WorkbookError(
                f"{problem.name}: split: no row {use}; another share or cutoff, or more rows"
            )
        if problem.task == "classification" and values.nunique() < 2:
            nothing = "learned" if use == "to train on" else "measured"
            raise WorkbookError(
                f"{problem.name}: split: all {len(values)} rows {use} are {values.iloc[0]}: nothing could be {nothing};"
                " split otherwise (stratified, another share or cutoff), or take more rows"
            )


def features(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """The columns of `frame` that a model may see: not the target, the time, nor the excluded."""
    hidden = {problem.target, problem.time, *problem.exclude}
    return frame[[column for column in frame.columns if column not in hidden]]


def target(frame: pd.DataFrame, problem: Problem) -> pd.Series:
    """The column of `frame` that is predicted; text comes as plain labels."""
    values = frame[problem.target]
    return values.astype(object) if values.dtype == "category" else values


def roles(frame: pd.DataFrame, problem: Problem) -> dict[str, str]:
    """'numeric', 'categorical' or 'date' for each feature of `frame`: as `problem` says, or by its type."""
    return {
        column: problem.roles.get(column, role_by_type(frame[column]))
        for column in features(frame, problem).columns
    }


def role_by_type(values: pd.Series) -> str:
    """'numeric', 'categorical' or 'date' by the type of `values`; booleans are categories, which may be missing."""
    types = pd.api.types
    if types.is_datetime64_any_dtype(values):
        return "date"
    is_number = types.is_numeric_dtype(values) and not types.is_bool_dtype(values)
    return "numeric" if is_number else "categorical"


def reading(frame: pd.DataFrame) -> HowRead:
    """How the text was read that `frame`, of rows of a table (see `load`), comes from: what is kept with a model."""
    yes_no = [name for name in frame.attrs.get(YES_NO, ()) if name in frame]
    unused = [name for name in frame.attrs.get(COLUMNS, ()) if name not in frame]
    return {"options": frame.attrs.get(READING, {}), YES_NO: yes_no, "unused": unused}


def may_lack(frame: pd.DataFrame) -> set[str]:
    """The columns of `frame`, of rows of a table (see `load`), that lack a value in any row of the table."""
    gaps = frame.attrs.get(GAPS, ())
    return {name for name in frame.columns if name in gaps or frame[name].isna().any()}


def digest(frame: pd.DataFrame) -> str:
    """36 characters that change with any name, value or row of `frame`, first to last."""
    total = hashlib.sha256(repr(list(frame.columns)).encode())
    total.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return total.hexdigest()[:36]


class _Dataset(PandasDataset):
    """A PandasDataset whose schema comes from the types: MLflow's looks at every text (15 s)."""

    @cached_property
    def schema(self) -> Schema:
        """The MLflow schema of the frame; a column that may lack a value is not required."""
        gaps = may_lack(self.df)
        return Schema(
            [
                ColSpec(_mlflow_type(self.df[name].dtype), name, required=name not in gaps)
                for name in self.df.columns
            ]
        )


def _mlflow_type(dtype: Any) -> DataType:
    """MLflow's type for a column's `dtype`: the five that `load` gives."""
    kinds = {"b": "boolean", "i": "long", "f": "double", "M": "datetime"}
    return DataType[kinds.get(dtype.kind, "string")]


def dataset(frame: pd.DataFrame, problem: Problem) -> PandasDataset:
    """`frame` as an MLflow dataset for `mlflow.log_input`, its digest taken over every value."""
    source = problem.source
    if source.path is None:
        origin = CodeDatasetSource({"sklearn": source.sklearn})
    else:
        inside = source.path.is_relative_to(ROOT)
        origin = LocalArtifactDatasetSource(
            str(source.path.relative_to(ROOT) if inside else source.path)
        )
    return _Dataset(frame, origin, problem.target, problem.name, digest(frame))
