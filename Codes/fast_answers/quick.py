"""Predictions for a few rows without what scikit-learn spends on taking a DataFrame apart, proven to be the same."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from Codes.modeling import answers
from Codes.modeling.answers import Answers
from Codes.saved_models.trust import Loaded

Columns = Mapping[str, list[Any]]  # {column: values}
Block = Callable[[Columns], np.ndarray]  # makes some columns of the matrix


class Column(Protocol):
    """What is asked of a payload.Column, which this room may not import."""

    @property
    def kind(self) -> str:
        """MLflow's type."""

    @property
    def required(self) -> bool:
        """Whether it must have a value."""

    @property
    def known(self) -> frozenset | None:
        """The values that it may have; None: any."""


class Reading(Protocol):
    """What is asked of a payload.Reader, which this room may not import."""

    @property
    def columns(self) -> Mapping[str, Column]:
        """The model's columns."""

    def frame(self, columns: Columns) -> pd.DataFrame:
        """`columns` as the pipeline takes them."""


LENIENT = ("use_encoded_value", "infrequent_if_exist", "ignore")  # of encoders: they take any value


def quick(loaded: Loaded, reader: Reading) -> Callable[[Columns], Answers] | None:
    """A function {column: values} -> Answers without a DataFrame; None for a pipeline that is not known here."""
    prepared = matrix(loaded, reader)
    return prepared and (lambda columns: answers.of(loaded.pipeline[-1], prepared(columns)))


def matrix(loaded: Loaded, reader: Reading) -> Callable[[Columns], Any] | None:
    """A function {column: values} -> the matrix that the pipeline's estimator gets; None where it is not known here.

    Of the milliseconds that scikit-learn takes for one row, most go into taking a DataFrame apart. What
    models.build prepares, a few lines of NumPy and a table a category do the same; that they do is
    checked here, for every category, for gaps, and for a category never seen where one may come.
    """
    pipeline = loaded.pipeline
    if not isinstance(pipeline, Pipeline) or len(pipeline) != 2 or loaded.example is None:
        return None
    prepare = pipeline[0]
    blocks = _all_blocks(prepare, reader) if isinstance(prepare, ColumnTransformer) else []
    if not blocks:
        return None

    def prepared(columns: Columns) -> Any:
        dense = np.ascontiguousarray(np.hstack([block(columns) for block in blocks]))
        # sums over a sparse row round otherwise than over a dense one, and those by rows otherwise than by columns
        return sparse.csr_matrix(dense) if prepare.sparse_output_ else dense

    columns = probe(loaded, reader)
    ours, theirs = prepared(columns), prepare.transform(reader.frame(columns))
    return prepared if np.array_equal(_dense(ours), _dense(theirs), equal_nan=True) else None


def _all_blocks(prepare: ColumnTransformer, reader: Reading) -> list[Block]:
    """Functions {column: values} -> a block of the matrix, which side by side make it; [] where not all are known."""
    blocks = []
    for _, part, names in prepare.transformers_:
        if part == "drop" or len(names) == 0:  # an encoder without columns was never fitted
            continue
        is_known = isinstance(names, list) and reader.columns.keys() >= set(names)
        # single precision would round, and stay what it is through some steps and not through others
        is_known = is_known and all(reader.columns[name].kind != "float" for name in names)
        own = _blocks(part, names) if is_known else []
        if not own:
            return []
        blocks += own
    return blocks


def _blocks(part: Any, names: Sequence[Any]) -> list[Block]:
    """The same for one `part` of the preparation and its columns."""
    if isinstance(part, FunctionTransformer) and getattr(part, "func") is None:
        return [lambda columns: _numbers(columns, names)]
    if (
        isinstance(part, (OrdinalEncoder, OneHotEncoder))
        and getattr(part, "handle_unknown") in LENIENT
    ):
        return _coded(part, names)
    if isinstance(part, Pipeline) and [type(s) for s in part] == [SimpleImputer, StandardScaler]:
        return _scaled(part[0], part[1], names)
    return []


def _numbers(columns: Columns, names: Sequence[Any]) -> np.ndarray:
    return np.array([columns[name] for name in names], dtype=np.float64).T


def _scaled(imputer: Any, scaler: Any, names: Sequence[Any]) -> list[Block]:
    """As _blocks: gaps filled and, where training had some, marked in a column more; then scaled."""
    if not (scaler.with_mean and scaler.with_std and pd.isna(imputer.missing_values)):
        return []
    marked = imputer.indicator_.features_ if imputer.indicator_ else []

    def block(columns: Columns) -> np.ndarray:
        found = _numbers(columns, names)
        gaps = np.isnan(found)
        filled = np.where(gaps, imputer.statistics_, found)
        return (np.hstack([filled, gaps[:, marked]]) - scaler.mean_) / scaler.scale_

    return [block]


def _coded(encoder: Any, names: Sequence[Any]) -> list[Block]:
    """As _blocks, one a column: the row of a table for each category, its last for any other value."""
    categories = encoder.categories_
    values = [np.append(known, _stranger(known)) for known in categories]
    longest = max(map(len, values))
    frame = {n: pd.Series(np.resize(v, longest), dtype=v.dtype) for n, v in zip(names, values)}
    codes = _dense(encoder.transform(pd.DataFrame(frame)))
    widths = [1] * len(names)
    if isinstance(encoder, OneHotEncoder):
        rare = getattr(encoder, "infrequent_categories_", [None] * len(names))
        widths = [len(c) if r is None else len(c) - len(r) + 1 for c, r in zip(categories, rare)]
    tables = np.split(codes, np.cumsum(widths)[:-1], axis=1)

    def block(name: str, known: Any, table: np.ndarray) -> Block:
        places = {None if pd.isna(v) else v: place for place, v in enumerate(known)}
        other = len(known)
        return lambda columns: table[[places.get(v, other) for v in columns[name]]]

    return [block(*each) for each in zip(names, categories, tables)]


def _stranger(known: Any) -> Any:
    """A value of the same type that is none of the `known`; one of them where, as of truth values, no other is."""
    known = list(known)
    kind = type(known[0])
    return next((v for v in map(kind, range(len(known) + 1)) if v not in known), known[0])


def _dense(found: Any) -> np.ndarray:
    return found.toarray() if sparse.issparse(found) else found


def probe(loaded: Loaded, reader: Reading) -> dict[str, list[Any]]:
    """Columns with the example, every category and, wherever one may be, a gap and a category never seen."""
    values: dict[str, list[Any]] = {}
    example: Any = loaded.example  # `matrix` has refused a model without
    for name, column in reader.columns.items():
        known = list(loaded.categories.get(name, ()))
        values[name] = known + example[name].dropna().tolist()
        values[name] += [_stranger(known)] if known and column.known is None else []
        values[name] += [] if column.required else [None]
    longest = max(map(len, values.values()))
    return {name: [v[i % len(v)] for i in range(longest)] for name, v in values.items()}
