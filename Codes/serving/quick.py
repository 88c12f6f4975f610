"""Predictions for a few rows without what scikit-learn spends on taking a DataFrame apart, proven to be the same."""

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder


def quick(loaded, reader):
    """A function {column: values} -> predictions without a DataFrame; None for a pipeline that is not known here.

    Of the milliseconds that scikit-learn takes for one row, more than half go into taking a DataFrame
    apart. Where numbers pass as they are and categories become codes, a table a column does the same;
    that it does is checked here, for every category.
    """
    pipeline = loaded.pipeline
    if not isinstance(pipeline, Pipeline) or len(pipeline) != 2:
        return None
    prepare, estimator = pipeline
    tables = _tables(prepare)
    if tables is None or any(column.kind == "float" for column in reader.columns.values()):
        return None

    def matrix(columns):
        parts = (
            columns[name] if table is None else [table.get(v, other) for v in columns[name]]
            for name, table, other in tables
        )
        return np.array(list(parts), dtype=np.float64).T

    probe = _probe(loaded, reader)
    if not np.array_equal(matrix(probe), prepare.transform(reader.frame(probe)), equal_nan=True):
        return None
    return lambda columns: estimator.predict(matrix(columns))


def _tables(prepare):
    """[(column, {category: code} or None for a number, code of any other)] of `prepare`; None if it does more."""
    if not isinstance(prepare, ColumnTransformer):
        return None
    tables = []
    for _, part, columns in prepare.transformers_:
        if len(columns) == 0:  # an encoder without columns was never fitted
            continue
        if isinstance(part, FunctionTransformer) and part.func is None:
            tables += [(name, None, None) for name in columns]
        elif isinstance(part, OrdinalEncoder) and part.handle_unknown == "use_encoded_value":
            longest = max(map(len, part.categories_), default=0)
            frame = pd.DataFrame(
                {n: np.resize(c, longest) for n, c in zip(columns, part.categories_)}
            )
            codes = part.transform(
                frame.astype({n: object for n in columns if frame[n].dtype == "str"})
            )
            for place, (name, known) in enumerate(zip(columns, part.categories_)):
                table = dict(zip((None if pd.isna(v) else v for v in known), codes[:, place]))
                tables.append((name, table, part.unknown_value))
        elif part != "drop":
            return None
    return tables


def _probe(loaded, reader):
    """Columns in which every category is there, and a gap wherever one may be."""
    longest = max(map(len, loaded.categories.values()), default=1) + 2
    probe = {}
    for name, column in reader.columns.items():
        values = [*loaded.categories.get(name, ()), *loaded.example[name].dropna().tolist()]
        values += [] if column.required else [None]
        probe[name] = [values[i % len(values)] for i in range(longest)]
    return probe
