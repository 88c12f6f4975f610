"""The flights themselves: complete, unique, moving with the months, and leaking nothing."""

import hashlib
import importlib.util
import time

import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from Codes.ground.paths import DATA
from Codes.problems import data, problem

FILE = DATA / "flights.parquet"
LEAKS = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}


@pytest.fixture(name="flights", scope="module")
def _flights():
    """The problem."""
    return problem.load("flights")


@pytest.fixture(name="frame", scope="module")
def _frame(flights):
    """All flights that arrived."""
    return data.whole(flights)


def test_the_file_is_small():
    assert FILE.stat().st_size < 8_000_000


def test_every_departure_is_there_once(frame):
    table = pd.read_parquet(FILE)
    assert len(table) == 336_776
    assert not table.duplicated(["scheduled_departure", "carrier", "flight", "origin"]).any()
    assert table["late"].isna().sum() == len(table) - len(frame) == 9_430


def test_a_flight_is_late_when_it_arrives_more_than_15_minutes_late(frame):
    assert (frame["late"] == (frame["arr_delay"] > 15)).all()


def test_the_late_share_moves_with_the_months(frame):
    share = frame.groupby("month")["late"].mean()
    assert share.idxmin() == 9 and 0.13 < share.min() < 0.14
    assert share.idxmax() == 12 and 0.32 < share.max() < 0.33
    assert 0.31 < share[7] < 0.32


def test_the_hold_out_comes_after_all_that_is_learned_from(flights, frame):
    train, validation = data.split(frame, flights)
    assert train["month"].max() == 7 and set(validation["month"]) == {8, 9}
    assert set(data.test(flights)["month"]) == {10, 11, 12}


def test_no_leaking_column_reaches_a_model(flights, frame):
    assert LEAKS <= set(frame.columns), "the proof needs the columns to be there"
    assert LEAKS <= set(flights.exclude)
    for part in (frame, *data.split(frame, flights)):
        assert not LEAKS & set(data.features(part, flights))


def test_no_feature_alone_tells_who_is_late(flights, frame):
    """A leak by another name would: one tree on dep_delay alone reaches an AUC over 0.9."""
    sample = frame.sample(30_000, random_state=0)

    def auc(values):
        column = (values.cat.codes if values.dtype == "category" else values).to_frame()
        tree = DecisionTreeClassifier(max_leaf_nodes=32, random_state=0)
        tree.fit(column[:15_000], sample["late"][:15_000])
        chance = tree.predict_proba(column[15_000:])[:, 1]
        return roc_auc_score(sample["late"][15_000:], chance)

    assert auc(sample["dep_delay"]) > 0.9
    alone = {name: auc(values) for name, values in data.features(sample, flights).items()}
    assert max(alone.values()) < 0.7, alone


def test_an_exclude_that_is_taken_out_or_misspelt_does_not_pass_unseen(flights, frame):
    careless = flights.model_copy(update={"exclude": {}})
    assert LEAKS <= set(data.features(frame, careless)), "the exclude is what keeps them out"


def test_loading_all_of_them_takes_well_under_a_second(flights):
    seconds = []
    for _ in range(3):
        start = time.process_time()  # of all threads: a busy machine does not count
        data.load(flights)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.8


def test_the_writer_gives_the_committed_file_to_the_byte(tmp_path):
    spec = importlib.util.spec_from_file_location("build_flights", DATA / "build_flights.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    table = pq.read_table(FILE)
    assert table.schema.equals(build.SCHEMA)
    written = [tmp_path / "first.parquet", tmp_path / "second.parquet"]
    build.write(table, written[0])
    if pq.read_metadata(FILE).created_by != pq.read_metadata(written[0]).created_by:
        build.write(table, written[1])  # another pyarrow: the same bytes each time, at least
        assert written[0].read_bytes() == written[1].read_bytes()
    else:
        assert written[0].read_bytes() == FILE.read_bytes()


def test_the_problem_names_the_digest_of_the_file(flights):
    assert flights.source.sha256 == hashlib.sha256(FILE.read_bytes()).hexdigest()


def test_the_readme_describes_every_column():
    text = (DATA / "README.md").read_text(encoding="utf-8")
    missing = [name for name in pq.read_schema(FILE).names if f"| `{name}` |" not in text]
    assert not missing
