"""The table of a problem: loaded, checked against its contract, split, and named for MLflow."""

import hashlib
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import sklearn.datasets
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.pandas_dataset import PandasDataset
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.types import ColSpec, DataType, Schema
from sklearn.model_selection import train_test_split

from Codes import tables, troubles
from Codes.contract import check, comparable, require
from Codes.errors import WorkbookError
from Codes.paths import ROOT
from Codes.problem import suggest

__all__ = [
    *("load", "split", "features", "target", "roles", "role_by_type", "may_lack"),
    *("check", "require", "digest", "dataset"),
]
# attributes of a frame: the columns with gaps in the whole table, those of them that hold true and false, how
# its text was read, and all columns of the table
GAPS, YES_NO, READING, COLUMNS = "gaps", "yes_no", "reading", "columns"


def load(problem, rows=0, seed=0):
    """The table of `problem` as a frame, without the rows that have no target; its index numbers the table's rows.

    Which rows are drawn changes no column's type, nor whether it may lack a value (see `may_lack`).

    Args:
        rows: how many rows to draw, kept in the table's order; 0 for all.
        seed: which rows are drawn.

    Raises:
        WorkbookError: one line that names the file or the column, and what is wrong.
    """
    if rows < 0:
        raise WorkbookError(f"rows: {rows} is negative; 0 takes all")
    table, kept = _with_target(problem)
    troubles.require(table.take(kept), problem)
    gaps = _gaps(table, kept)
    if 0 < rows < len(kept):
        kept = np.sort(np.random.default_rng(seed).choice(kept, rows, replace=False))
    frame = _frame(table.take(kept), gaps).set_axis(kept)
    frame.attrs[GAPS] = gaps
    frame.attrs[READING] = problem.source.reading.changed()
    frame.attrs[COLUMNS] = [*table.column_names, *tables.left_out(table)]
    frame.attrs[YES_NO] = [n for n in gaps if pa.types.is_boolean(table.schema.field(n).type)]
    return frame


def examine(problem):
    """The troubles of the problem's table (a list of troubles.Trouble), whether they refuse it or are only odd."""
    table, kept = _with_target(problem)
    return troubles.of(table.take(kept), problem)


def _with_target(problem):
    """(the Arrow table of `problem`, the numbers of the rows that have a target)."""
    table = _table(problem)
    _named(table, problem)
    return table, np.flatnonzero(~table[problem.target].is_null(nan_is_null=True).to_numpy())


def _table(problem):
    """The Arrow table of a `problem`."""
    source = problem.source
    if source.sklearn is None:
        return tables.read(source.path, source.sha256, source.reading, problem.exclude)
    options = {"scaled": False} if source.sklearn == "diabetes" else {}
    bunch = getattr(sklearn.datasets, f"load_{source.sklearn}")(as_frame=True, **options)
    frame = bunch.frame
    if source.sklearn in ("breast_cancer", "iris", "wine"):  # the classes by name, not by number
        frame = frame.assign(target=bunch.target_names[bunch.target])
    return tables.plain(pa.Table.from_pandas(frame, preserve_index=False))


def _named(table, problem):
    """Refuse a `table` that lacks columns that `problem` names: a misspelt exclude would be a leak."""
    columns, left_out = table.column_names, tables.left_out(table)
    named = {problem.target: "target", problem.time: "time"}
    for part in ("exclude", "roles", "contract", "private"):
        named |= dict.fromkeys(getattr(problem, part), part)
    named |= dict.fromkeys(problem.gate.slices, "gate.slices")
    wrong = []
    for column, part in named.items():
        if not (column is None or column in columns or column in left_out and part == "exclude"):
            hint = suggest(column, columns) or f"; it has: {', '.join(columns)}"
            wrong.append(f"{part}: no column '{column}' in the table{hint}")
    if wrong:
        raise WorkbookError(f"{problem.name}: {'; '.join(wrong)}")


def _gaps(table, kept):
    """The columns of the Arrow `table` that lack a value in one of the rows `kept`."""
    return [
        name
        for name, values in zip(table.column_names, table.columns)
        if values.is_null(nan_is_null=True).to_numpy()[kept].any()
    ]


def _frame(table, gaps):
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


def split(frame, problem, seed=0):
    """Train and test rows of `frame`, each in its order, as `problem.split` says.

    Args:
        seed: which rows are held out; a split by time has no chance in it.
    """
    rule = problem.split
    if rule.kind == "time":
        held_out = _late_rows(frame[problem.time], rule, problem.name)
    else:
        held_out = _drawn_rows(frame[problem.target], rule, problem.name, seed)
    train, test = frame[~held_out], frame[held_out]
    if train.empty or test.empty:
        raise WorkbookError(
            f"{problem.name}: split: {len(train)} rows to train and {len(test)} to test"
        )
    if problem.task == "classification":
        _require_classes(train[problem.target], test[problem.target], problem)
    return train, test


def _require_classes(train, test, problem):
    """Refuse sides of a split of which one holds a single class: nothing could be learned, or measured."""
    for values, side in ((train, "to learn from"), (test, "held out")):
        if values.nunique() < 2:
            raise WorkbookError(
                f"{problem.name}: split: all {len(values)} rows {side} are {values.iloc[0]}: nothing could be "
                f"{'learned' if values is train else 'measured'}; split otherwise (stratified, another test_share "
                "or cutoff), or take more rows"
            )


def _drawn_rows(target_values, rule, name, seed):
    """A mask of the rows that chance holds out, class by class where `rule` is stratified."""
    held_out = np.zeros(len(target_values), dtype=bool)
    classes = target_values if rule.kind == "stratified" else None
    try:
        _, drawn = train_test_split(
            np.arange(len(held_out)),
            test_size=rule.test_share,
            random_state=seed,
            stratify=classes,
        )
    except ValueError as error:
        raise WorkbookError(f"{name}: split: {error}") from None
    held_out[drawn] = True
    if rule.kind == "stratified":
        _spread(held_out, target_values, seed)
    return held_out


def _spread(held_out, classes, seed):
    """Exchange rows of the mask `held_out` so that each class of two rows and more is on both sides.

    A class of so few rows that its share of a side is less than half of one would be on one side only.
    """
    random = np.random.default_rng(seed)
    for label, count in classes.value_counts().items():
        rows = (classes == label).to_numpy()
        sides = held_out[rows]
        if count < 2 or sides.any() and not sides.all():
            continue
        other = classes[held_out != sides[0]]
        common = (classes == other.value_counts().index[0]).to_numpy()
        for each in (rows, common & (held_out != sides[0])):
            held_out[random.choice(np.flatnonzero(each))] ^= True


def _late_rows(times, rule, name):
    """A mask of the rows from the cutoff on; a share is cut where no two equal times part."""
    cutoff = rule.cutoff
    if cutoff is None:
        cutoff = times.sort_values().iloc[int(len(times) * (1 - rule.test_share))]
    try:
        return (times >= comparable(cutoff, times)).to_numpy()
    except TypeError:
        raise WorkbookError(f"{name}: split: cutoff {cutoff} and {times.dtype} differ") from None


def features(frame, problem):
    """The columns of `frame` that a model may see: not the target, the time, nor the excluded."""
    hidden = {problem.target, problem.time, *problem.exclude}
    return frame[[column for column in frame.columns if column not in hidden]]


def target(frame, problem):
    """The column of `frame` that is predicted; text comes as plain labels."""
    values = frame[problem.target]
    return values.astype(object) if values.dtype == "category" else values


def roles(frame, problem):
    """'numeric', 'categorical' or 'date' for each feature of `frame`: as `problem` says, or by its type."""
    return {
        column: problem.roles.get(column, role_by_type(values))
        for column, values in features(frame, problem).items()
    }


def role_by_type(values):
    """'numeric', 'categorical' or 'date' by the type of `values`; booleans are categories, which may be missing."""
    types = pd.api.types
    if types.is_datetime64_any_dtype(values):
        return "date"
    is_number = types.is_numeric_dtype(values) and not types.is_bool_dtype(values)
    return "numeric" if is_number else "categorical"


def reading(frame):
    """How the text was read that `frame`, of rows of a table (see `load`), comes from: what is kept with a model."""
    yes_no = [name for name in frame.attrs.get(YES_NO, ()) if name in frame]
    unused = [name for name in frame.attrs.get(COLUMNS, ()) if name not in frame]
    return {"options": frame.attrs.get(READING, {}), YES_NO: yes_no, "unused": unused}


def may_lack(frame):
    """The columns of `frame`, of rows of a table (see `load`), that lack a value in any row of the table."""
    gaps = frame.attrs.get(GAPS, ())
    return {name for name, values in frame.items() if name in gaps or values.isna().any()}


def digest(frame):
    """36 characters that change with any name, value or row of `frame`, first to last."""
    total = hashlib.sha256(repr(list(frame.columns)).encode())
    total.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return total.hexdigest()[:36]


class _Dataset(PandasDataset):
    """A PandasDataset whose schema comes from the types: MLflow's looks at every text (15 s)."""

    @cached_property
    def schema(self):
        """The MLflow schema of the frame; a column that may lack a value is not required."""
        gaps = may_lack(self.df)
        return Schema(
            [
                ColSpec(_mlflow_type(values.dtype), name, required=name not in gaps)
                for name, values in self.df.items()
            ]
        )


def _mlflow_type(dtype):
    """MLflow's type for a column's `dtype`: the five that `load` gives."""
    kinds = {"b": "boolean", "i": "long", "f": "double", "M": "datetime"}
    return DataType[kinds.get(dtype.kind, "string")]


def dataset(frame, problem):
    """`frame` as an MLflow dataset for `mlflow.log_input`, its digest taken over every value."""
    source = problem.source
    if source.sklearn:
        origin = CodeDatasetSource({"sklearn": source.sklearn})
    else:
        inside = source.path.is_relative_to(ROOT)
        origin = LocalArtifactDatasetSource(
            str(source.path.relative_to(ROOT) if inside else source.path)
        )
    return _Dataset(frame, origin, problem.target, problem.name, digest(frame))
