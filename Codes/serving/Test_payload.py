"""Bodies are read strictly, refused in one sentence, and what is read is what the pipeline was fitted on."""

import json
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from mlflow.pyfunc.scoring_server import infer_and_parse_data
from threadpoolctl import threadpool_limits

from Codes.ground.errors import WorkbookError
from Codes.modeling import models
from Codes.problems import data, problem
from Codes.saved_models import trust
from Codes.serving import payload
from Codes.serving.payload import Refused
from Codes.tables import cell_values

DIABETES = problem.load("diabetes")


@pytest.fixture(autouse=True)
def one_thread():
    """OpenMP's threads wait for each other by spinning, for minutes on a busy machine."""
    with threadpool_limits(1):
        yield


def saved(folder, pipeline, X):
    """`folder` with the fitted `pipeline` in it, saved as models.log does it."""
    mlflow.sklearn.save_model(
        pipeline,
        folder,
        serialization_format="skops",
        skops_trusted_types=models.saved(pipeline)[1],
        signature=models._signature(pipeline, X),  # pylint: disable=protected-access
        input_example=X.head(3),
        pip_requirements=models.requirements(),
    )
    return folder


def flights(folder, model="hgb", rows=3_000, **hyperparameters):
    """A saved model of the flights: whole numbers, numbers with gaps, categories."""
    which = problem.load("flights")
    frame = data.load(which).iloc[: 30 * rows : 30]
    X, y = data.features(frame, which), data.target(frame, which)
    return saved(folder, models.build(which, X, model, hyperparameters).fit(X, y), X)


def constant(folder, value):
    """A saved model of ten numbers that always answers `value`."""
    frame = data.load(DIABETES)
    X, y = data.features(frame, DIABETES), data.target(frame, DIABETES)
    parameters = {"strategy": "constant", "constant": float(value)}
    pipeline = models.build(DIABETES, X, "sklearn.dummy.DummyRegressor", parameters)
    return saved(folder, pipeline.fit(X, y), X)


@pytest.fixture(scope="module", name="loaded")
def _loaded(tmp_path_factory):
    """The model of the flights."""
    with threadpool_limits(1):
        return trust.load(flights(tmp_path_factory.mktemp("models") / "hgb", max_iter=10))


@pytest.fixture(scope="module", name="reader")
def _reader(loaded):
    """What reads requests for it."""
    return payload.Reader(loaded, rows=50)


def cells(frame):
    """The rows of `frame` as JSON has them."""
    return frame.astype(object).where(frame.notna(), None).to_numpy().tolist()


def forms(frame):
    """The same rows in every form that is taken."""
    rows = [dict(zip(frame, row)) for row in cells(frame)]
    turned = frame[list(frame)[::-1]]
    return {
        "split": {"dataframe_split": {"columns": list(frame), "data": cells(frame)}},
        "split, turned": {"dataframe_split": {"columns": list(turned), "data": cells(turned)}},
        "split with index": {
            "dataframe_split": {"index": [5, 6, 7], "columns": list(frame), "data": cells(frame)}
        },
        "records": {"dataframe_records": rows},
        "instances": {"instances": rows},
        "instances by column": {"instances": {n: [r[n] for r in rows] for n in frame}},
        "inputs": {"inputs": {n: [r[n] for r in rows] for n in frame}},
    }


FORMS = list(forms(pd.DataFrame({"a": [1]})))


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_frame_that_the_model_was_saved_with(loaded, reader, form):
    body = json.dumps(forms(loaded.example)[form]).encode()
    pd.testing.assert_frame_equal(reader.frame(reader.json(body)), loaded.example)


@pytest.mark.parametrize("form", FORMS)
def test_mlflow_reads_the_same_rows_from_each_form(loaded, reader, form):
    body = forms(loaded.example)[form]
    theirs = pd.DataFrame(infer_and_parse_data(body, loaded.schema))[list(loaded.example)]
    ours = reader.frame(reader.json(json.dumps(body).encode()))
    # not the third, of which it makes the text "None" where a text is missing
    assert cells(theirs.astype(object))[:2] == cells(ours)[:2]


def test_csv_gives_it_too_even_with_a_byte_order_mark(loaded, reader):
    text = loaded.example.to_csv(index=False)
    for body in (text.encode(), text.encode("utf-8-sig"), text.replace("\n", "\r\n").encode()):
        pd.testing.assert_frame_equal(reader.frame(reader.csv(body)), loaded.example)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: "", "empty"),
        (lambda t: t.splitlines()[0], "no rows"),
        (lambda t: t.replace("weekday", "wekday"), "Did you mean 'weekday'"),
        (lambda t: t.replace("weekday", "carrier"), "twice"),
        (lambda t: "," + t, "without its index"),
        (lambda t: t.strip() + ",1\n", "21 cells"),
        (lambda t: t.replace("1400", "1400.5"), "not a whole number"),
        (lambda t: t.replace("39.02", "1e400"), "not a number"),
        (lambda t: t.replace("39.02", "1_0"), "not a number"),
        (lambda t: t.replace("EWR", "XXX"), "never seen"),
        (lambda t: t.replace("EWR", '"'), "not CSV"),
        (lambda t: t.replace("EWR", ""), "must have a value"),
        (lambda t: t.replace("1400", "9" * 5000), "not a whole number"),
    ],
)
def test_a_bad_csv_is_refused(loaded, reader, change, message):
    example = loaded.example.assign(distance=1400, temp=39.02, origin="EWR")
    text = example.to_csv(index=False)
    assert reader.csv(text.encode())
    with pytest.raises(Refused, match=message):
        reader.csv(change(text).encode())


def test_a_colon_in_a_text_is_no_second_key(tmp_path):
    X = pd.DataFrame({"when": ["10:30", "11:45", 'a":"b'] * 20, "size": np.arange(60.0)})
    pipeline = models.build(DIABETES, X, "dummy").fit(X, X["size"])
    own = payload.Reader(trust.load(saved(tmp_path / "m", pipeline, X)))
    row = {"when": 'a":"b', "size": 1}
    assert own.json(json.dumps({"inputs": [row]}).encode()) == {"when": ['a":"b'], "size": [1]}
    for twice in (
        b'{"inputs": [{"when": "10:30", "size": 1, "size": 2}]}',
        b'{"inputs": [{"when": "10:30", "\\u0073ize": 1, "size": 2}]}',
        b'{"inputs": [{"when": "10:30", "size": 2}], "inputs": [{"when": "10:30", "size": 2}]}',
        b'{"inputs": {"when": ["10:30"], "size": [1], "size": [2]}}',
        b'{"dataframe_split": {"columns": [], "columns": ["when", "size"], "data": [["10:30", 1]]}}',
        b'{"inputs": [{"when": {"a": 1, "a": 2}, "size": 2}]}',
    ):
        with pytest.raises(Refused, match="twice"):
            own.json(twice)


def test_nan_is_a_gap_but_not_within_text():
    text = r'{"inputs": [{"a": NaN, "b": "x, NaN, \"NaN", "c": [NaN,NaN ]}]}'
    row = {"a": None, "b": 'x, NaN, "NaN', "c": [None, None]}
    assert payload.parse(text.encode()) == {"inputs": [row]}
    for wrong in ("[-NaN]", "[NaNs]", "[NaN", '["NaN]', "[nan]", r'["NaN\"' * 9):
        with pytest.raises(Refused, match="not JSON"):
            payload.parse(wrong.encode())
    with pytest.raises(Refused, match="Infinity is no number"):
        payload.parse(b"[NaN, -Infinity]")


def test_whole_numbers_may_be_written_as_3_0_and_numbers_as_3(loaded, reader):
    rows = [dict(zip(loaded.example, row)) for row in cells(loaded.example)]
    rows[0] |= {"weekday": 3.0, "temp": 50}
    read = reader.json(json.dumps({"dataframe_records": rows}).encode())
    assert read["weekday"][0] == 3 and isinstance(read["weekday"][0], int)
    assert reader.frame(read).dtypes["temp"] == "float64"


def test_unknown_categories_are_let_through_where_that_is_asked_for(loaded):
    rows = [dict(zip(loaded.example, row)) for row in cells(loaded.example)]
    rows[0] |= {"origin": "XXX", "weekday": 9}
    body = json.dumps({"dataframe_records": rows}).encode()
    with pytest.raises(Refused, match="9 was never seen"):
        payload.Reader(loaded).json(body)
    free = payload.Reader(loaded, allow_unknown=True)
    assert free.json(body)["origin"][0] == "XXX"


def test_columns_of_the_other_types_are_read_too():
    for kind in ("boolean", "integer", "float"):
        column = payload.Column("x", kind, required=False)
        value = {"boolean": True, "integer": 3, "float": 2.5}[kind]
        assert column.checked([value, None]) == [value, None]
        assert len(column.array([value, None])) == 2
        with pytest.raises(Refused, match="not"):
            column.checked(["text"])
    with pytest.raises(Refused, match="range"):
        payload.Column("x", "integer", True).checked([2**31])


def test_a_column_that_no_json_value_fits_is_refused_when_the_model_is_loaded():
    X = pd.DataFrame({"what": [b"x"] * 60, "size": np.arange(60.0)})
    odd = SimpleNamespace(
        schema=infer_signature(X).inputs, categories={}, reading=cell_values.PLAIN, unused=()
    )
    with pytest.raises(WorkbookError, match="column 'what' is of the type binary"):
        payload.Reader(odd)


def read_by(kind, required=False, **options):
    """A column of a model whose text is read by `options`."""
    reading = cell_values.Reading.of(options.pop("reading", {}))
    return payload.Column("x", kind, required, reading=reading, **options)


def test_a_time_is_iso_text_or_of_the_format_of_training_and_a_gap_is_none():
    times = read_by("datetime", reading={"date_format": "%d.%m.%Y"})
    given = ["2013-10-01", "01.10.2013", "2013-10-01T02:00:00+02:00", " ", None]
    read = times.checked(given)
    assert read == ["2013-10-01T00:00:00"] * 3 + [None, None]
    assert times.array(read)[0] == np.datetime64("2013-10-01") and np.isnat(times.array(read)[4])
    assert times.checked(times.parsed(["01.10.2013", "NA"])) == ["2013-10-01T00:00:00", None]
    for wrong in ("soon", 3, True):
        with pytest.raises(Refused, match="is not a time such as 2013-10-01T05:00"):
            times.checked([wrong])


def test_a_cell_is_what_it_was_in_training():
    numbers = read_by("double", reading={"decimal": ",", "na_values": ["-9"]})
    assert numbers.parsed(["1,5", "NA", "-9", ""]) == [1.5, None, None, None]
    assert numbers.checked([1.5, -9, None]) == [1.5, None, None]
    assert read_by("string").checked(["NA", " ", "x"]) == ["NA", None, "x"]
    assert read_by("string", reading={"na_values": ["NA"]}).checked(["NA"]) == [None]
    flags = read_by("double", yes_no=True)
    assert flags.checked([True, None, 0.0]) == [1.0, None, 0.0]
    assert flags.parsed(["true", "", "1"]) == [1.0, None, 1.0]
    for wrong in ("maybe", "2", "inf"):
        with pytest.raises(Refused, match=f"row 1, column 'x': \"{wrong}\" is not true or false"):
            flags.parsed(["true", wrong])
    for wrong in ("true", 2, 0.5, [1], {}):
        with pytest.raises(Refused, match="row 1, column 'x': .* is not true or false"):
            flags.checked([None, wrong])
    assert flags.described() == {"enum": [False, True, 0, 1, None]}


def test_a_key_that_comes_along_is_kept_beside_the_models_columns(loaded, monkeypatch):
    monkeypatch.setattr(type(loaded), "unused", property(lambda self: ["order", "tip"]))
    own = payload.Reader(loaded, beside=["order", "nowhere"])
    row = dict(zip(own.columns, cells(loaded.example)[0]))
    given = row | {"order": "A7", "tip": 3}
    alone = {"dataframe_records": [row]}
    split = {"dataframe_split": {"columns": [*given], "data": [[*given.values()]]}}
    odd = {"dataframe_records": [given | {"order": {"a": 1}}]}
    bodies = ({"dataframe_records": [given]}, split, {"inputs": {k: [v] for k, v in given.items()}})
    for body in bodies:
        read = own.json(json.dumps(body).encode())
        assert read["order"] == ["A7"] and "tip" not in read
    assert own.json(json.dumps(odd).encode())["order"] == [None]
    assert own.json(json.dumps(alone).encode())["order"] == [None]
    text = pd.DataFrame([given]).to_csv(index=False)
    assert own.csv(text.encode())["order"] == ["A7"]
