"""What a session holds, as it is recorded."""

import json
import math
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from Codes.runs import kernel_values


class Broken:
    """Its repr fails."""

    def __repr__(self):
        raise ValueError


@pytest.mark.parametrize(
    "value, recorded",
    [
        (3, 3),
        (np.int64(3), 3),
        ([np.float32(0.5), {"a": Path("b")}], [0.5, {"a": "b"}]),
        ((1, 2), [1, 2]),
        (date(2013, 10, 1), "2013-10-01"),
        (Path("a/b"), "a/b"),
        ({1: 2}, "{1: 2}"),
        ({3}, "{3}"),
        ("\udcff", "<str>"),
        (Broken(), "<Broken>"),
        (pd.DataFrame({"a": [1, 2]}), "a 0 1 1 2"),
    ],
)
def test_a_value_is_recorded_plainly_or_by_its_repr(value, recorded):
    space = {"x": value}
    assert json.loads(kernel_values.held(["x", "missing"], space)) == {"x": recorded}
    asked = eval(kernel_values.expression(["x"]), space)  # pylint: disable=eval-used
    assert asked == kernel_values.held(["x"], space)


def test_what_is_long_is_shortened_and_nan_is_kept():
    found = json.loads(kernel_values.held(["a", "b"], {"a": set(range(1000)), "b": math.nan}))
    assert len(found["a"]) < 250 and found["a"].endswith("…") and math.isnan(found["b"])
