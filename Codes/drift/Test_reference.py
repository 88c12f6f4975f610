"""The rows that a version learned from, as windows: where none holds enough, a length that would is named."""

from types import SimpleNamespace

import pandas as pd
import pytest

from Codes.drift.reference import no_window


@pytest.mark.parametrize(
    "window, hours, told",
    [
        ("7d", 8, "longer one: monitoring: {window: 34d}"),
        ("365d", 1, "shorter one: monitoring: {window: 5d}"),
    ],
)
def test_where_no_window_holds_enough_rows_a_length_that_would_is_named(window, hours, told):
    times = pd.Series(pd.date_range("2021-01-01", periods=900, freq=f"{hours}h", tz="UTC"))
    found = SimpleNamespace(problem=SimpleNamespace(name="shops"), window=window)
    said = no_window(found, times)
    assert told in said and f"(900 rows) holds no window of {window} with 50 rows" in said
