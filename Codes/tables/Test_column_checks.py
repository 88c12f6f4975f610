"""What is wrong with a table is told before anything is trained; a table that is not refused trains."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from Codes.commands import cli
from Codes.ground.errors import WorkbookError
from Codes.modeling import models
from Codes.problems import data, overview, problem

YAML = """\
title: t
task: classification
source: {path: t.parquet}
target: y
split: {kind: stratified, test_share: 0.25}
metric: {name: accuracy, direction: maximize}
"""
N = 40


def table(**columns):
    """Forty rows of two classes, with a feature and these `columns`."""
    return pd.DataFrame({"y": ["a", "b"] * (N // 2), "x": np.arange(N) % 7}).assign(**columns)


@pytest.fixture(name="asked")
def _asked(tmp_path):
    """A function that writes a frame (a .parquet, or a .csv of its text) and gives the problem."""

    def write(frame, extra="", name="t.parquet", replace=("", "")):
        path = tmp_path / name
        if name.endswith("parquet"):
            frame.to_parquet(path)
        else:
            frame.to_csv(path, index=False)
        text = YAML.replace("t.parquet", name).replace(*replace) + extra
        (tmp_path / "t.yaml").write_text(text, encoding="utf-8")
        return problem.load(tmp_path / "t.yaml")

    return write


def refusal(asked):
    """The one line with which the table is refused."""
    with pytest.raises(WorkbookError) as error:
        data.to_train(data.load(asked), asked)
    assert "\n" not in error.value.message
    return error.value.message


def odd(asked, name):
    """What looks odd of the column `name`."""
    found = overview.troubles(asked).query("not refused")
    return "; ".join(found.loc[found["column"].str.contains(name), "what"])


def test_a_group_that_is_a_feature_is_odd_since_no_new_one_can_be_asked_about(asked):
    kind = ("kind: stratified", "kind: group, group: shop")
    frame = table(shop=[f"shop {i // 2}" for i in range(N)])
    assert "tells the groups apart" in odd(asked(frame, replace=kind), "shop")
    excluded = asked(frame, "exclude: {shop: tells the groups apart}\n", replace=kind)
    assert not odd(excluded, "shop")


@pytest.mark.parametrize(
    "columns, extra, says",
    [
        (
            {"v": [np.inf, 1.0] * 20},
            "",
            "column 'v' has 20 infinite values (or beyond 3.4e38), as in row 1, 3",
        ),
        ({"y": [1.0, np.inf] * 20}, "", None),
        (
            {},
            "exclude: {x: known later}\n",
            "leaves nothing to learn from: every column is the target",
        ),
        ({"x": [None] * N}, "", "leaves nothing to learn from: no value in any feature"),
        (
            {"v": ["1,5", "2,25"] * 20},
            "",
            "numbers such as 1,5, which are read as text; say decimal",
        ),
        ({"v": ["1,500", "12"] * 20}, "", 'thousands: ","'),
        ({"v": ["a", "b"] * 20}, "roles: {v: numeric}\n", "has the role numeric, and holds a, b"),
        ({"v": ["1/2/13", "1/3/13"] * 20}, "roles: {v: date}\n", 'say date_format: "%m/%d/%y"'),
        ({"v": ["1/2/13", "1/3/13"] * 20}, "time: v\n", "time 'v' is text; write dates as"),
        (
            {"y": ["a"] * 39 + ["b"]},
            "",
            "has one row of b, which cannot be both learned and held out",
        ),
        ({"v": [[1]] * N, "w": [b"x"] * N}, "", "column 'v': values of type list"),
    ],
)
def test_a_table_that_cannot_be_trained_is_refused_in_a_line(asked, columns, extra, says):
    if says is None:
        metric = "metric: {name: accuracy, direction: maximize}"
        text = YAML.replace("classification", "regression").replace("stratified", "random")
        frame = table(**columns)
        found = asked(
            frame, replace=(YAML, text.replace(metric, "metric: {name: mae, direction: minimize}"))
        )
        assert "does not hold finite numbers" in refusal(found)
        return
    assert says in refusal(asked(table(**columns), extra))


def test_all_troubles_are_told_at_once(asked):
    message = refusal(asked(table(v=[np.inf] * N, w=["1,5"] * N)))
    assert "'v' has 40 infinite" in message and "'w' holds numbers" in message


def test_excluded_columns_may_be_of_any_type(asked):
    columns = {
        "v": [[1]] * N,
        "w": [datetime.time(3)] * N,
        "u": pd.to_timedelta(range(N), unit="s"),
    }
    found = asked(table(**columns), "exclude: {v: list, w: clock, u: duration}\n")
    assert set(data.load(found)) == {"y", "x"}


@pytest.mark.parametrize(
    "values, says",
    [
        ([None] * N, "holds no value"),
        ([3] * N, "holds one value only: 3"),
        (range(5, N + 5), "has another number in each row"),
        (np.arange(N) % 9 + 2**60, "beyond 2\\*\\*53".replace("\\", "")),
        (["u", "NA"] * 20, "holds NA, which looks like a gap"),
        (["1", "2"] * 15 + [str(n) for n in range(9)] + ["x"], "holds numbers, but for x"),
        (["13.1.2013", "14.1.2013"] * 20, "holds dates such as 13.1.2013"),
        ([f"name {n}" for n in range(N)], "holds 40 different texts in 40 rows"),
    ],
)
def test_what_is_odd_is_told_and_trains(asked, values, says):
    found = asked(table(v=list(values)))
    assert says in odd(found, "'v'")
    frame = data.load(found)
    models.build(found, data.features(frame, found), "linear").fit(
        data.features(frame, found), frame["y"]
    )


def test_the_index_of_a_frame_is_no_feature(asked, tmp_path):
    found = asked(table().iloc[::2].sample(frac=1, random_state=0).assign(y=["a", "b"] * 10))
    assert "index of a data frame" in odd(found, "__index_level_0__")
    assert list(data.load(found)) == ["y", "x"]
    found = asked(table(), name="t.csv", extra='exclude: {"": the row}\n')
    table().sample(frac=1, random_state=0).to_csv(tmp_path / "t.csv")
    assert list(data.load(found)) == ["y", "x"]
    text = table().assign(z=["p", "q"] * 20)[["z", "x", "y"]].to_csv(index=False)
    (tmp_path / "t.csv").write_text(text.replace("z,x,y", ",x,y"), encoding="utf-8")
    found = asked_again(found)
    assert "column (no name) holds p, q, and is called nothing" in refusal(found)


def asked_again(found):
    """The problem without its `exclude`."""
    return found.model_copy(update={"exclude": {}})


def test_a_stratified_split_has_every_class_of_two_rows_on_both_sides(asked):
    found = asked(table(y=["a"] * 36 + ["b"] * 2 + ["c"] * 2))
    train, test = data.to_train(data.load(found), found), data.test(found)
    assert set(train["y"]) == set(test["y"]) == {"a", "b", "c"}


def test_a_hold_out_of_one_class_is_refused(asked):
    rare = asked(
        table(y=["a"] * 38 + ["b"] * 2, when=pd.date_range("2024", periods=N)),
        "time: when\n",
        replace=("stratified, test_share: 0.25", "time, cutoff: 2024-01-02"),
    )
    times = {"validation_cutoff": datetime.date(2024, 1, 10), "cutoff": datetime.date(2024, 2, 8)}
    late = rare.model_copy(update={"split": problem.Split(kind="time", **times)})
    assert "all 9 rows to train on are a: nothing could be learned" in refusal(late)


def test_the_command_tells_what_a_table_is_taken_for_and_ends_with_1_where_it_is_refused(
    asked, tmp_path
):
    asked(table(v=["1,5"] * N))
    done = CliRunner().invoke(cli.main, ["problems", str(tmp_path / "t.yaml")])
    assert done.exit_code == 1 and "refused: column 'v' holds numbers such as 1,5" in done.output
    asked(table(v=[3] * N))
    done = CliRunner().invoke(cli.main, ["problems", str(tmp_path / "t.yaml")])
    assert done.exit_code == 0, done.output
    assert "to validate" in done.output and "scored by repeated cross-validation" in done.output
    assert "odd: column 'v' holds one value only" in done.output


def test_the_list_of_problems_marks_those_that_are_broken(asked, tmp_path, monkeypatch):
    asked(table())
    (tmp_path / "lost.yaml").write_text(YAML.replace("t.parquet", "gone.csv"), encoding="utf-8")
    (tmp_path / "wrong.yaml").write_text(
        YAML.replace("accuracy", "rmse") + "rolls: {}\n", encoding="utf-8"
    )
    monkeypatch.setattr(problem, "PROBLEMS", tmp_path)
    done = CliRunner().invoke(cli.main, ["problems"])
    whole, *broken = " ".join(done.output.split()).split(" is BROKEN: ")
    assert done.exit_code == 0 and "t classification" in whole and whole.endswith(" lost")
    assert "gone.csv: there is no such file" in broken[0] and broken[0].endswith(" wrong")
    assert "unknown key 'rolls', did you mean 'roles'" in broken[1]


VALUES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.booleans(),
    st.sampled_from(["", " ", "NA", "1,5", "x", "007", "2013-01-01", "nan", "é\n", '"']),
    st.decimals(
        allow_nan=False, allow_infinity=False, places=2, min_value=-(10**6), max_value=10**6
    ),
    st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1)),
)
NAMES = st.text(
    st.characters(codec="utf-8", categories=["L", "P", "S", "Zs"]), min_size=1, max_size=6
)


@st.composite
def column(draw):
    """Forty values of one kind, gaps among them."""
    first = draw(VALUES)
    same = VALUES.filter(lambda value: type(value) is type(first))
    few = [first, *draw(st.lists(same, max_size=3)), *[None] * draw(st.integers(0, 2))]
    values = [few[i % len(few)] for i in range(N)]
    return pd.Series(values, dtype=object if isinstance(first, (decimal.Decimal, bool)) else None)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(NAMES, column(), min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from(["hgb", "linear"]),
)
def test_any_table_trains_or_is_refused_in_a_line(asked, columns, as_csv, model):
    frame = table().drop(columns="x").assign(**columns)
    found = asked(frame, name="t.csv" if as_csv else "t.parquet")
    try:
        train = data.to_train(data.load(found), found)
        X = data.features(train, found)
        pipeline = models.build(found, X, model, {"max_iter": 2})
    except WorkbookError as error:
        assert "\n" not in error.message
        return
    pipeline.fit(X, train["y"])
    assert set(pipeline.predict(data.features(data.test(found), found))) <= {"a", "b"}
