"""Frames of a problem: loaded, sampled, split, held against the contract, and digested whole."""

import time

import mlflow
import numpy as np
import pandas as pd
import pytest

from Codes.ground.errors import WorkbookError
from Codes.ground.paths import ROOT
from Codes.problems import data, problem

YAML = """\
title: Is it ripe?
task: classification
source: {path: fruit.csv}
target: ripe
positive: true
exclude: {weighed: only known after the harvest}
time: day
split: {kind: time, validation_cutoff: 2024-03-01, cutoff: 2024-03-20}
metric: {name: accuracy, direction: maximize}
contract:
  size: {type: number, min: 0, max: 100, missing_share: 0.1}
  kind: {type: text, allowed: [a, b]}
  day: {type: time, min: 2024-01-01, max: 2024-12-31}
  count: {type: integer}
  ripe: {type: boolean}
"""


def fruit(**columns):
    """A hundred fruit, a day each; `columns` replace or add some."""
    frame = pd.DataFrame(
        {
            "day": pd.date_range("2024-01-01", periods=100).astype(str),
            "size": np.arange(100) / 2,
            "kind": ["a", "b"] * 50,
            "count": range(100),
            "weighed": range(100),
            "ripe": [True, False, False, True] * 25,
        }
    )
    return frame.assign(**columns)


@pytest.fixture(name="orchard")
def _orchard(tmp_path):
    """A function that writes a frame and a YAML file, and gives the problem."""

    def write(frame=None, **replaced):
        (fruit() if frame is None else frame).to_csv(tmp_path / "fruit.csv", index=False)
        text = YAML
        for old, new in replaced.get("replace", {}).items():
            text = text.replace(old, new)
        (tmp_path / "fruit.yaml").write_text(text, encoding="utf-8")
        return problem.load(tmp_path / "fruit.yaml")

    return write


@pytest.mark.parametrize("name", problem.names())
def test_every_problem_that_ships_keeps_its_contract_and_splits(name):
    shipped = problem.load(name)
    frame = data.whole(shipped)
    data.require(frame, shipped)
    train, validation = data.split(frame, shipped)
    test = len(frame) - len(train) - len(validation)
    assert 0.1 < len(validation) / len(frame) < 0.3 and 0.15 < test / len(frame) < 0.35
    looked_at, tested = data.load(shipped), data.test(shipped)
    assert not set(looked_at.index) & set(tested.index), "the test rows are the gate's"


def test_rows_without_a_target_are_left_out(orchard):
    ripe = [None, True, False, True] * 25
    frame = data.whole(orchard(fruit(ripe=ripe)))
    assert len(frame) == 75
    assert frame["ripe"].dtype == bool


def test_a_sample_is_drawn_by_its_seed_and_keeps_the_order(orchard):
    orchard = orchard()
    first, again, other = (data.load(orchard, rows=20, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)
    assert first["count"].is_monotonic_increasing
    drawn = [data.split(frame, orchard) for frame in (first, other)]
    assert [len(train) for train, _ in drawn] == [20, 20]
    assert drawn[0][1].equals(drawn[1][1]), "the validation rows are the same for all runs"


def rarely(values, *missing):
    """`values`, without those at the places `missing`; integers stay integers."""
    return pd.array([None if place in missing else v for place, v in enumerate(values)])


def test_a_sample_has_the_types_and_gaps_of_the_whole_table_whichever_rows_are_drawn(orchard):
    columns = {"count": range(100), "flag": [True, False] * 50, "size": np.arange(100) / 2}
    orchard = orchard(fruit(**{name: rarely(values, 7) for name, values in columns.items()}))
    whole = data.load(orchard)
    assert whole.dtypes["count"] == whole.dtypes["flag"] == float
    samples = [data.load(orchard, rows=20, seed=seed) for seed in range(9)]
    assert {bool(sample.isna().to_numpy().any()) for sample in samples} == {True, False}
    for sample in samples:
        assert sample.dtypes.equals(whole.dtypes)
        for part in data.split(sample, orchard):
            assert data.may_lack(data.features(part, orchard)) == set(columns)
            schema = data.dataset(part, orchard).schema
            assert {c.name for c in schema.inputs if not c.required} == set(columns)


def test_a_gap_in_a_row_without_a_target_is_none(orchard):
    columns = {"count": range(100), "ripe": [True, False] * 50, "firm": [True, False] * 50}
    frame = data.load(orchard(fruit(**{n: rarely(values, 7, 8) for n, values in columns.items()})))
    assert frame.dtypes["count"] == int and frame.dtypes["ripe"] == frame.dtypes["firm"] == bool
    assert not data.may_lack(frame)


def test_a_frame_of_ones_own_lacks_what_it_lacks():
    frame = pd.DataFrame({"a": [1.0, None], "b": [1, 2], "c": ["x", None]})
    assert data.may_lack(frame) == {"a", "c"}


def test_more_rows_than_there_are_means_all(orchard):
    assert len(data.to_train(data.load(orchard(), rows=1000), orchard())) == 60


def test_a_negative_number_of_rows_is_refused(orchard):
    with pytest.raises(WorkbookError, match="rows: -1 is negative"):
        data.load(orchard(), rows=-1)


@pytest.mark.parametrize(
    "old, new, says",
    [
        (
            "target: ripe",
            "target: rip",
            "target: no column 'rip' in the table, did you mean 'ripe'",
        ),
        (
            "{weighed:",
            "{wieghed:",
            "exclude: no column 'wieghed' in the table, did you mean 'weigh",
        ),
        ("time: day", "time: hour", "time: no column 'hour' in the table; it has: day, size"),
        ("  size:", "  sise:", "contract: no column 'sise' in the table, did you mean 'size'"),
        (
            "positive: true",
            "private: [sise]\npositive: true",
            "private: no column 'sise' in the table, did you mean 'size'",
        ),
        ("positive: true", "positive: yellow", "positive: 'yellow' is not in the target: "),
        ("classification\n", "regression\n", None),
    ],
)
def test_what_the_table_does_not_have_is_named(orchard, old, new, says):
    replace = {old: new}
    if says is None:
        metric = {"{name: accuracy, direction: maximize}": "{name: mae, direction: minimize}"}
        replace |= {"positive: true\n": ""} | metric
        says = "does not hold finite numbers, which regression needs"
    with pytest.raises(WorkbookError) as error:
        data.load(orchard(replace=replace))
    assert says in error.value.message


@pytest.mark.parametrize("value, says", [(None, "has no value"), (True, "is always True")])
def test_a_target_without_two_values_is_refused(orchard, value, says):
    with pytest.raises(WorkbookError, match=f"target 'ripe' {says}"):
        data.load(orchard(fruit(ripe=value)))


def test_a_split_by_time_trains_on_the_past_alone(orchard):
    orchard = orchard()
    train, validation = data.split(data.load(orchard), orchard)
    test = data.test(orchard)
    assert [len(part) for part in (train, validation, test)] == [60, 19, 21]
    assert train["day"].max() < validation["day"].min() <= validation["day"].max()
    assert validation["day"].max() < test["day"].min() == pd.Timestamp("2024-03-20")


def test_without_a_cutoff_of_its_own_the_last_fifth_before_the_test_validates(orchard):
    orchard = orchard(replace={"validation_cutoff: 2024-03-01, ": ""})
    train, validation = data.split(data.load(orchard), orchard)
    assert (len(train), len(validation)) == (63, 16)


def test_equal_times_are_not_parted(orchard):
    days = ["2024-01-01"] * 50 + ["2024-01-02"] * 30 + ["2024-03-20"] * 20
    orchard = orchard(fruit(day=days), replace={"validation_cutoff: 2024-03-01, ": ""})
    train, validation = data.split(data.load(orchard), orchard)
    assert (len(train), len(validation)) == (50, 30)


@pytest.mark.parametrize(
    "days, cutoff, says",
    [
        (None, "cutoff: 2030-01-01, validation_cutoff: 2029-01-01", "100 rows to train and 0 to"),
        (None, "cutoff: 5", "cutoff 5 and datetime64"),
        (None, "test_share: 0.25", "a share would move as the table grows; .*cutoff: 2024-03-16"),
        ("the first day", "cutoff: 2024-03-01", "'day' is text; write dates as 2013-10-01"),
        ([None] + ["2024-01-01"] * 99, "cutoff: 2024-01-01", "lacks 1 values"),
    ],
)
def test_a_time_that_cannot_split_is_one_line(orchard, days, cutoff, says):
    frame = fruit() if days is None else fruit(day=days)
    orchard = orchard(frame, replace={"validation_cutoff: 2024-03-01, cutoff: 2024-03-20": cutoff})
    with pytest.raises(WorkbookError, match=says):
        data.split(data.load(orchard), orchard)


def test_features_hold_neither_target_nor_time_nor_what_is_excluded(orchard):
    orchard = orchard()
    assert list(data.features(data.load(orchard), orchard)) == ["size", "kind", "count"]


def test_roles_come_from_the_problem_before_the_type(orchard):
    orchard = orchard(replace={"time: day": "time: day\nroles: {count: categorical}"})
    roles = data.roles(data.load(orchard), orchard)
    assert roles == {"size": "numeric", "kind": "categorical", "count": "categorical"}


@pytest.mark.parametrize(
    "column, values, says",
    [
        ("size", [-1.0] * 100, "size: needs number, from 0, to 100"),
        ("size", [101.5] * 100, "saw number, from 101.5 to 101.5"),
        ("size", [None, 1.0, 2.0, 3.0] * 25, "25.00% missing"),
        (
            "size",
            ["big"] * 100,
            "size: needs number, from 0, to 100, at most 10% missing; saw text",
        ),
        (
            "kind",
            ["a", "c"] * 50,
            "kind: needs text, one of a, b, at most 0% missing; saw text, also c",
        ),
        ("day", ["2023-01-01", "2024-01-01"] * 50, "day: needs time, from 2024-01-01"),
        ("count", np.arange(100) / 3, "count: needs integer, at most 0% missing; saw number"),
        ("ripe", ["yes", "no"] * 50, "ripe: needs boolean, at most 0% missing; saw text"),
    ],
)
def test_a_broken_contract_names_the_column_and_what_was_seen(orchard, column, values, says):
    orchard = orchard(fruit(**{column: values}), replace={"positive: true\n": ""})
    frame = data.whole(orchard)
    assert list(data.check(frame, orchard).query("not ok")["column"]) == [column]
    with pytest.raises(WorkbookError) as error:
        data.require(frame, orchard)
    assert says in error.value.message


def test_a_column_that_is_gone_breaks_the_contract(orchard):
    orchard = orchard()
    frame = data.load(orchard).drop(columns="kind")
    assert data.check(frame, orchard).set_index("column").loc["kind", "seen"] == "no such column"


def test_a_contract_that_is_kept_says_nothing(orchard):
    orchard = orchard()
    frame = data.load(orchard)
    assert data.check(frame, orchard)["ok"].all()
    data.require(frame, orchard)


@pytest.mark.parametrize(
    "low, ok", [("2024-01-01 02:00:00+02:00", True), ("2024-01-01 00:00:01Z", False)]
)
def test_a_bound_with_a_zone_counts_in_utc_as_the_tables_times_do(orchard, low, ok):
    orchard = orchard(replace={"min: 2024-01-01": f"min: {low}"})
    assert data.check(data.load(orchard), orchard).set_index("column").loc["day", "ok"] == ok


def test_a_boolean_with_gaps_is_a_boolean_to_the_contract(orchard):
    rule = "contract:\n  flag: {type: boolean, allowed: [true, false], missing_share: 0.1}"
    frame = fruit(flag=rarely([True, False] * 50, 7))
    orchard = orchard(frame, replace={"contract:": rule})
    frame = data.load(orchard)
    assert frame["flag"].dtype == float
    data.require(frame, orchard)
    lacking = data.check(frame.assign(flag=np.nan), orchard)
    assert lacking.query("not ok")["seen"].tolist() == ["boolean, 100.00% missing"]
    for value, seen in ((2.0, "integer"), (0.5, "number")):
        with pytest.raises(WorkbookError, match=f"flag: needs boolean, .*; saw {seen}, also"):
            data.require(frame.assign(flag=frame["flag"].replace(0.0, value)), orchard)


@pytest.mark.parametrize("row", [0, 9_999, 10_000, 29_999])
def test_the_digest_sees_every_row(row):
    frame = pd.DataFrame({"a": np.zeros(30_000), "b": pd.Categorical(["x", "y"] * 15_000)})
    before = data.digest(frame)
    frame.loc[row, "a"] = 1e-9
    assert data.digest(frame) != before
    frame.loc[row, "a"] = 0
    assert data.digest(frame) == before
    assert data.digest(frame.rename(columns={"a": "c"})) != before
    assert data.digest(frame[::-1]) != before


def test_the_digest_sees_texts_not_their_codes():
    one = pd.DataFrame({"a": pd.Categorical(["x", "y"], categories=["x", "y"])})
    other = pd.DataFrame({"a": pd.Categorical(["x", "y"], categories=["y", "x", "z"])})
    assert data.digest(one) == data.digest(other)


def test_a_run_records_the_dataset_as_its_input(tmp_path, monkeypatch):
    store = f"sqlite:///{tmp_path}/mlflow.db"
    shipped = [problem.load(name) for name in ("flights", "diabetes")]
    frames = [data.load(one, rows=300) for one in shipped]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    experiment = mlflow.create_experiment("data", (tmp_path / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment) as run:
        for one, frame in zip(shipped, frames):
            mlflow.log_input(data.dataset(frame, one), context="training")
    inputs = mlflow.MlflowClient(store).get_run(run.info.run_id).inputs.dataset_inputs
    logged = {each.dataset.name: each.dataset for each in inputs}
    for one, frame in zip(shipped, frames):
        assert logged[one.name].digest == data.digest(frame)
        assert one.target in logged[one.name].schema
        assert str(ROOT) not in logged[one.name].source


def test_a_dataset_of_flights_is_described_within_seconds():
    flights = problem.load("flights")
    frame = data.load(flights)
    start = time.process_time()
    data.dataset(frame, flights).to_dict()
    assert time.process_time() - start < 3
