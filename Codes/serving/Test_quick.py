"""The quick ways to a prediction: each answers exactly as the pipeline does, or is not taken."""

import json

import pandas as pd
import pytest

from Codes import data, problem, trust
from Codes.serving import payload
from Codes.serving.quick import quick
from Codes.serving.Test_payload import cells, flights


@pytest.mark.parametrize("model", ["hgb", "forest", "dummy", "linear"])
def test_the_quick_way_answers_as_the_pipeline_does_or_is_not_taken(tmp_path, model):
    found = trust.load(flights(tmp_path / "m", model, rows=1_000))
    own = payload.Reader(found)
    answer = quick(found, own)
    assert (answer is None) == (model == "linear")
    which = problem.load("flights")
    X = data.features(data.load(which).iloc[:40_000:100], which)
    X = X[[own.columns["dest"].known.issuperset([d]) for d in X["dest"]]]
    columns = own.json(
        json.dumps({"dataframe_split": {"columns": list(X), "data": cells(X)}}).encode()
    )
    pd.testing.assert_frame_equal(own.frame(columns), trust.plain(X).reset_index(drop=True))
    if answer:
        assert (answer(columns) == found.predict(X)).all()


def test_an_unknown_category_is_answered_as_the_pipeline_does(tmp_path):
    found = trust.load(flights(tmp_path / "m", max_iter=10))
    free = payload.Reader(found, allow_unknown=True)
    rows = [dict(zip(found.example, row)) for row in cells(found.example)]
    rows[0] |= {"origin": "XXX", "weekday": 9}
    columns = free.json(json.dumps({"dataframe_records": rows}).encode())
    assert (quick(found, free)(columns) == found.predict(free.frame(columns))).all()
