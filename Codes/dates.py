"""Columns of times as numbers: parts of the calendar, and an age."""

from typing import Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

PARTS = ("month", "weekday", "day of year", "hour", "days since")
DAY = np.timedelta64(1, "D")


class Dates(TransformerMixin, BaseEstimator):
    """Each column of times as its PARTS: 1 to 12, 0 (Monday) to 6, 1 to 366, 0 to 24, and days since training's first.

    A gap becomes NaN in each part. Times of a zone count in UTC.
    """

    # pylint: disable=attribute-defined-outside-init
    # scikit-learn's rule: what was learned is set by fit alone
    def fit(self, X: pd.DataFrame, y: object = None) -> Self:  # pylint: disable=unused-argument
        """Keep the earliest time of each column of `X` (a DataFrame), which its age counts from."""
        self.feature_names_in_ = np.array(list(X), dtype=object)
        self.n_features_in_ = X.shape[1]
        first = [instants(values).min() for _, values in X.items()]
        self.first_ = np.array([0.0 if pd.isna(t) else _days(t) for t in first])
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """The parts of each column of `X`, as an array of floats."""
        check_is_fitted(self)
        columns = []
        for (_, values), first in zip(X.items(), self.first_):
            times = instants(values)
            hour = times.dt.hour + times.dt.minute / 60 + times.dt.second / 3600
            parts = (times.dt.month, times.dt.day_of_week, times.dt.day_of_year, hour)
            columns += [part.to_numpy(float, na_value=np.nan) for part in parts]
            columns.append(_days(times.to_numpy()) - first)
        return np.column_stack(columns)

    # pylint: disable-next=unused-argument
    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """'<column> <part>' for each column of the result."""
        names = [f"{name} {part}" for name in self.feature_names_in_ for part in PARTS]
        return np.array(names, dtype=object)


def instants(values: pd.Series) -> pd.Series:
    """The Series `values` of times, or of text as ISO 8601, as datetime64 in UTC without a zone."""
    if not pd.api.types.is_datetime64_any_dtype(values):
        values = pd.to_datetime(values, utc=True, format="ISO8601")
    if values.dt.tz is not None:
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    return values.astype("datetime64[us]")


def _days(times: pd.Series | np.ndarray | pd.Timestamp) -> np.ndarray:
    """Days since 1970 of `times`, NaN for a gap."""
    times = np.asarray(times, dtype="datetime64[us]")
    days = (times - np.datetime64(0, "us")) / DAY
    return np.where(np.isnat(times), np.nan, days)
