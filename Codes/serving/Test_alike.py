"""The same cell is one thing in a CSV file, a Parquet file and a request of either kind: generated tables tell."""

import csv
import datetime
import io
import json
import warnings
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from Codes.modeling import models
from Codes.problems import data, problem
from Codes.saved_models import trust
from Codes.scoring import job
from Codes.serving import payload
from Codes.tables.cell_values import TIME

# how the text of the training table was read; the second as much of Europe writes it
READINGS = {
    "plain": {},
    "options": {
        "sep": ";",
        "decimal": ",",
        "na_values": ["-", "?"],
        "date_format": "%d.%m.%Y %H:%M",
    },
}
TYPES = {
    "amount": pa.float64(),
    "count": pa.int64(),
    "level": pa.int64(),
    "flag": pa.bool_(),
    "maybe": pa.bool_(),
    "word": pa.string(),
    "when": TIME,
}
GAPS = (
    "amount",
    "level",
    "maybe",
    "word",
    "when",
)  # the others have a value in each row of training
WORDS = ["A", "NA", "null", "true", "7", "1.5", " x ", 'a "b"', "c,d;e", "two\nlines", "é"]
FIRST = datetime.datetime(2001, 1, 1)
minutes = st.integers(0, 60 * 24 * 9000).map(lambda n: FIRST + datetime.timedelta(minutes=n))
VALUES = {
    "amount": st.floats(-1e9, 1e9) | st.sampled_from([np.nan, np.inf, -np.inf]),
    "count": st.integers(-(2**53), 2**53),
    "level": st.integers(-9, 9),
    "flag": st.booleans(),
    "maybe": st.booleans(),
    "word": st.sampled_from([*WORDS, "unseen"]),
    "when": minutes,
}
ROWS = st.lists(st.tuples(*(st.none() | v for v in VALUES.values())), min_size=1, max_size=12)


def training():
    """{column: values} of a table in which each column has its type, and each word is there."""
    random, count = np.random.default_rng(0), 220
    found = {
        "amount": random.normal(size=count).round(3).tolist(),
        "count": random.integers(-9, 9, count).tolist(),
        "level": random.integers(-9, 9, count).tolist(),
        "flag": (random.random(count) < 0.5).tolist(),
        "maybe": (random.random(count) < 0.5).tolist(),
        "word": (WORDS * count)[:count],
        "when": [FIRST + datetime.timedelta(days=7 * day) for day in range(count)],
    }
    for place, name in enumerate(GAPS):
        found[name] = [None if row % 19 == place else v for row, v in enumerate(found[name])]
    return found | {"y": random.normal(size=count).tolist()}


def text(value, reading):
    """`value` as a cell of a CSV file that is read by these options."""
    if value is None:
        return reading.get("na_values", [""])[0]
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value).replace(".", reading.get("decimal", "."))
    if isinstance(value, datetime.datetime):
        return value.strftime(reading.get("date_format", "%Y-%m-%dT%H:%M"))
    return str(value)


def as_csv(columns, reading):
    """{column: values} as the text of a CSV file."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=reading.get("sep", ","))
    writer.writerow(columns)
    writer.writerows([text(v, reading) for v in row] for row in zip(*columns.values()))
    return file.getvalue()


def as_parquet(columns, path):
    """{column: values} as the Parquet file `path`."""
    kinds = TYPES | {"y": pa.float64()}
    pq.write_table(pa.table({n: pa.array(v, kinds[n]) for n, v in columns.items()}), path)


def as_json(columns):
    """{column: values} as the body of a request."""
    cells = (
        [v.isoformat() if isinstance(v, datetime.datetime) else v for v in values]
        for values in columns.values()
    )
    rows = list(map(list, zip(*cells)))
    return json.dumps({"dataframe_split": {"columns": list(columns), "data": rows}}).encode()


@pytest.fixture(scope="module", params=READINGS, name="made")
def _made(request, tmp_path_factory):
    """(model, its reader of requests, options of its reading, folder); trained on a CSV file."""
    folder, reading = tmp_path_factory.mktemp("alike"), READINGS[request.param]
    (folder / "t.csv").write_text(as_csv(training(), reading), "utf-8", newline="")
    as_parquet(training(), folder / "t.parquet")
    for form, options in (("csv", reading), ("parquet", {})):
        spec = {"title": "t", "task": "regression", "source": {"path": f"t.{form}"} | options}
        spec |= {"target": "y", "split": {"kind": "random", "test_share": 0.2}}
        spec |= {"metric": {"name": "rmse", "direction": "minimize"}}
        (folder / f"{form}.yaml").write_text(yaml.safe_dump(spec), "utf-8")
    which = problem.load(str(folder / "csv.yaml"))
    frame = data.load(which)
    X = data.features(frame, which)
    pipeline = models.build(which, X, "linear").fit(X, data.target(frame, which))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(pipeline, folder / "model", **models.fields_of(pipeline, X))
    loaded = trust.load(folder / "model")
    return loaded, payload.Reader(loaded), reading, folder


def test_training_reads_csv_and_parquet_alike(made):
    folder = made[3]
    ours, theirs = (data.load(problem.load(str(folder / f"{n}.yaml"))) for n in ("csv", "parquet"))
    pd.testing.assert_frame_equal(ours, theirs)
    assert data.reading(ours)["yes_no"] == data.reading(theirs)["yes_no"] == ["maybe"]
    assert data.may_lack(ours) == data.may_lack(theirs) == set(GAPS)


def scored(made, name):
    """{number of a row: its score} of the table `name` in the folder; a rejected row has none."""
    loaded, _, _, folder = made
    version = SimpleNamespace(name="t", number=1, run_id="r", problem="t")
    out = folder / "scored.parquet"
    done = job.score(version, loaded, folder / name, out, force=True, progress=False, say=len)
    rejected = pq.read_table(done.side)["input row"].to_pylist() if done.side else []
    numbers = [n for n in range(1, done.rows + 1) if n not in rejected]
    return dict(zip(numbers, pq.read_table(out)["prediction"].to_pylist(), strict=True))


def requests(made, columns):
    """The answers to a request in CSV and to one in JSON, None where it is refused."""
    loaded, reader, reading, _ = made
    found = []
    for read, body in (
        (reader.csv, as_csv(columns, reading).encode()),
        (reader.json, as_json(columns)),
    ):
        try:
            found.append(loaded.predict(reader.frame(read(body))).tolist())
        except payload.Refused:
            found.append(None)
    return found


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=ROWS)
def test_a_table_has_the_same_answers_however_it_is_written(made, rows):
    _, _, reading, folder = made
    with threadpool_limits(1):
        columns = dict(zip(VALUES, map(list, zip(*rows))))
        (folder / "g.csv").write_text(as_csv(columns, reading), "utf-8", newline="")
        as_parquet(columns, folder / "g.parquet")
        expected = scored(made, "g.csv")
        assert scored(made, "g.parquet") == pytest.approx(expected, rel=1e-9)
        good = {
            n: [v for i, v in enumerate(values, 1) if i in expected]
            for n, values in columns.items()
        }
        for answers in requests(made, good) if expected else ():
            assert answers == pytest.approx(list(expected.values()), rel=1e-9)
        for number in range(1, len(rows) + 1):
            if number not in expected:
                one = {name: values[number - 1 : number] for name, values in columns.items()}
                assert requests(made, one) == [None, None]
