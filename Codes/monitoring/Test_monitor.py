"""A model watched over three streams, real registry and store: quiet, moved without harm, harmed without a move."""

# pylint: disable=missing-function-docstring,protected-access

import itertools
import json
import os
import signal
from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from Codes.commands import cli
from Codes.ground.errors import WorkbookError
from Codes.model_registry import demonstration, promotion, registry
from Codes.drift import judge, large, reference as references
from Codes.monitoring import backtest, kept_reference, monitor, quality, record, verdicts
from Codes.problems import problem as problems
from Codes.runs import liveness, tracking
from Codes.testing.cases import sampled
from Codes.testing.testbed import FORKS, fresh_store

DAYS, ROWS = 120, 100  # to train, to validate and to test on; rows of a day
FILE = """
title: Does it sell?
task: classification
source: {path: shop.parquet}
target: sold
positive: true
time: day
split: {kind: time, validation_cutoff: 2020-04-10, cutoff: 2020-04-20}
metric: {name: roc_auc, direction: maximize}
gate: {slices: [shop]}
contract:
  price: {type: number, min: -50, max: 50, missing_share: 0.2}
monitoring: {window: 1d, budget: 52}
"""


def stream(days, seed=0, start="2020-01-01", turned=1.0):
    """Rows whose price has a season of a week and good and bad days; `turned` is what a high price means."""
    random = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), ROWS)
    price = (
        random.normal(size=len(day))
        + 0.4 * np.sin(day * 2 * np.pi / 7)
        + random.normal(0, 0.2, days)[day]
    )
    chance = 1 / (1 + np.exp(-3 * turned * price))
    return pd.DataFrame(
        {
            "day": pd.Timestamp(start)
            + pd.to_timedelta(day, "D")
            + pd.to_timedelta(random.integers(0, 24, len(day)), "h"),
            "price": price,
            "weight": random.normal(size=len(day)),
            "shop": random.choice(["a", "b", "c"], len(day)),
            "sold": random.random(len(day)) < chance,
        }
    )


@pytest.fixture(name="shop", scope="module")
def fixture_shop(tmp_path_factory):
    """The folder of a problem whose model is in staging, in a store of its own."""
    folder = tmp_path_factory.mktemp("shop")
    os.environ.setdefault("WORKBOOK_TESTBED", str(tmp_path_factory.mktemp("testbed")))
    stream(DAYS).to_parquet(folder / "shop.parquet")
    (folder / "shop.yaml").write_text(FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path_factory.mktemp("store")))
        tracking.use_store()
        run = demonstration.finished_run(
            str(folder / "shop.yaml"), "linear", is_scored=True, rows=2000
        )
        version = promotion.register(run)
        assert kept_reference.keep(version) == ""
        registry.move("shop", "staging", version.number, None)
        yield folder
    mlflow.set_tracking_uri(None)


def watched(shop, name, frame):
    """The Monitored of the rows of `frame`, as a table of its own."""
    frame.to_parquet(shop / f"{name}.parquet")
    return monitor.monitor("shop", table=shop / f"{name}.parquet")


def statuses(done):
    return [each.judged.status for each in done.kept]


def later(days, seed=1, **how):
    return stream(days, seed, "2020-06-01", **how)


def test_a_quiet_stream_with_a_season_is_quiet_and_each_window_is_a_run(shop):
    done = watched(shop, "quiet", later(12))
    assert not done.profile.notes
    assert statuses(done).count("quiet") >= 11 and len(done.kept) == 12
    run = MlflowClient().get_run(done.kept[0].run_id)
    assert run.info.status == "FINISHED" and run.info.run_name == "shop/1 2020-06-01 quiet"
    assert "watched" in mlflow.get_experiment(run.info.experiment_id).tags[liveness.NOTE]
    assert run.data.metrics["metric/roc_auc"] == done.kept[0].judged.score[0]
    assert {f.path for f in MlflowClient().list_artifacts(run.info.run_id)} >= {
        "window.html",
        "columns.csv",
    }


def test_the_same_window_again_is_the_same_run_and_no_news(shop):
    first, again = (watched(shop, "again", later(4, seed=7)) for _ in range(2))
    assert [k.run_id for k in first.kept] == [k.run_id for k in again.kept]
    assert not any(k.is_new for k in again.kept)
    assert len(again.told) == 1


def test_a_window_of_time_is_one_run_which_says_of_which_table_it_spoke_before(shop):
    first = watched(shop, "left", later(3, seed=60))
    second = watched(shop, "right", later(3, seed=61))
    assert [k.run_id for k in first.kept] == [k.run_id for k in second.kept]
    for each in second.kept:
        assert each.is_new and each.other == str(shop / "left.parquet")
        assert f"(before, of {each.other}: " in each.told_before
        run = MlflowClient().get_run(each.run_id)
        assert run.data.tags[record.TABLE] == str(shop / "right.parquet")
        assert f"of {each.other}: " in run.data.tags[liveness.NOTE]
    again = watched(shop, "right", later(3, seed=61))
    assert not any(k.told_before for k in again.kept)


def test_windows_of_so_many_rows_are_each_tables_own_and_so_is_their_course(shop):
    file, text = shop / "shop.yaml", (shop / "shop.yaml").read_text()
    try:
        file.write_text(text.replace("window: 1d", "window: 150 rows"))
        one, other, again = (watched(shop, n, later(3, i)) for n, i in zip("pqp", (62, 63, 62)))
    finally:
        file.write_text(text)
    ids = [{k.run_id for k in done.kept} for done in (one, other, again)]
    assert not ids[0] & ids[1] and ids[0] == ids[2] and not any(k.is_new for k in again.kept)
    names = [MlflowClient().get_run(k.run_id).info.run_name for k in other.kept]
    assert names[0].startswith("shop/1 rows 1-150 of q.parquet ")
    courses = [
        (run.info.run_name, run.data.tags[record.TABLE])
        for run in MlflowClient().search_runs([one.keeper.experiment])
        if run.data.tags.get(record.WINDOW) == record.COURSE
    ]
    for name in "pq":
        assert (f"shop/1 course of {name}.parquet", str(shop / f"{name}.parquet")) in courses


def alone(uri, table, method="", call=0):
    """Be a process that watches the `table`; killed at that `call` of the Keeper's `method`, where one is named."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    tracking.use_store()
    if method:
        setattr(record.Keeper, method, killed_at(call, getattr(record.Keeper, method)))
    monitor.monitor("shop", table=table)


def killed_at(call, function):
    """`function`, of whose calls that one kills the process."""
    calls = itertools.count(1)

    def counted(*arguments):
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)

    return counted


def begun(shop, name, *killed):
    """The process that watches the table of that name."""
    arguments = (os.environ["MLFLOW_TRACKING_URI"], shop / f"{name}.parquet", *killed)
    process = FORKS.Process(target=alone, args=arguments)
    process.start()
    return process


def check_each_once(done):
    """Check that each window of `done` has one run, which is finished and whole, and one point of the course."""
    client = MlflowClient()
    of_window: dict[str, list] = {}
    for run in client.search_runs([done.keeper.experiment]):
        if run.data.tags.get(record.VERSION) == done.keeper._key():
            of_window.setdefault(run.data.tags[record.WINDOW], []).append(run)
    (course,) = of_window[record.COURSE]
    points = client.get_metric_history(course.info.run_id, "course/p")
    for step, kept in enumerate(done.kept):
        (run,) = of_window[kept.judged.window.name]
        assert run.info.status == "FINISHED" and liveness.ERROR not in run.data.tags
        assert len(client.get_metric_history(run.info.run_id, "rows")) == 1
        files = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert files >= {"window.html", "columns.csv"}
        ends = int(kept.judged.window.end.timestamp() * 1000)
        assert [p.step for p in points if p.timestamp == ends] == [step]
    assert course.info.status == "FINISHED" and liveness.ERROR not in course.data.tags


def test_two_at_once_leave_each_window_once(shop):
    later(6, seed=20).assign(day=lambda f: f.day + pd.Timedelta("366D")).to_parquet(
        shop / "both.parquet"
    )
    both = [begun(shop, "both") for _ in range(2)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    done = monitor.monitor("shop", table=shop / "both.parquet")
    assert not any(kept.is_new for kept in done.kept)
    check_each_once(done)


@pytest.mark.parametrize(
    "year, method, call",
    [
        pytest.param(2, "_create", 3, marks=pytest.mark.soak, id="runs are made"),
        pytest.param(3, "page", 3, id="a window is written"),
        pytest.param(4, "_course", 1, id="windows are written and their course is not"),
    ],
)
def test_killed_midway_the_same_command_completes(shop, year, method, call):
    rows = later(5, seed=20 + year)
    rows.day += pd.Timedelta(f"{366 * year}D")
    rows.to_parquet(shop / f"killed{year}.parquet")
    process = begun(shop, f"killed{year}", method, call)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    check_each_once(monitor.monitor("shop", table=shop / f"killed{year}.parquet"))


def test_a_version_is_held_against_what_was_kept_when_it_was_registered(shop):
    version, path = registry.find("shop/1"), shop / "shop.parquet"
    loaded, before = registry.load(version), path.read_bytes()
    made, kept = references.of(version, loaded), kept_reference.of(version, loaded)
    pd.testing.assert_frame_equal(kept.rows, made.rows)
    pd.testing.assert_series_equal(kept.times, made.times, check_names=False)
    assert (kept.words, kept.begin, kept.scale) == (made.words, made.begin, made.scale)
    assert (kept.blocks == made.blocks).all() and (kept.turned == made.turned).all()
    assert kept_reference.keep(version) == "" and registry.find("shop/1").tags == version.tags
    try:  # a table without the rows that it was scored on
        stream(DAYS, seed=99).to_parquet(path)
        assert not kept_reference.of(version, loaded).notes
        notes = references.of(version, loaded).notes
    finally:
        path.write_bytes(before)
    assert any("harm cannot be found" in note for note in notes), notes


def test_a_reference_that_does_not_serve_is_made_now_and_an_altered_one_refused(shop):
    version, file = registry.find("shop/1"), shop / "shop.yaml"
    loaded = registry.load(version)
    try:
        file.write_text(FILE.replace("budget: 52", "budget: 52, leave_out: [weight]"))
        other = kept_reference.of(version, loaded)
    finally:
        file.write_text(FILE)
    assert "weight" not in other.rows and "asks for other windows or columns" in other.notes[-1]
    old = replace(version, tags={k: v for k, v in version.tags.items() if k != kept_reference.KEPT})
    assert (
        "no reference profile is kept with it: it was made"
        in kept_reference.of(old, loaded).notes[-1]
    )
    run = json.loads(version.tags[kept_reference.KEPT])["run"]
    (facts,) = shop.parent.parent.glob(f"**/{run}/artifacts/{kept_reference.FACTS}")
    before = facts.read_text()
    try:
        facts.write_text(before.replace("1", "2", 1))
        with pytest.raises(WorkbookError, match="is not as it was kept"):
            kept_reference.of(version, loaded)
    finally:
        facts.write_text(before)


def test_a_drift_without_harm_names_its_column(shop):
    moved = later(10, seed=2).assign(weight=lambda f: f.weight + 0.6)
    done = watched(shop, "moved", moved)
    assert statuses(done)[1:] == ["drift"] * 9
    named = [set(k.judged.drift.named(done.policy.level, 0.05).column) for k in done.kept]
    assert all("weight" in each for each in named)
    assert (
        sum(each == {"weight"} for each in named) >= 7
    )  # the others by chance, at the level of a window
    assert monitor.status(done) == "drift"


def test_a_turned_target_is_invisible_to_drift_and_found_by_harm(shop):
    done = watched(shop, "turned", later(12, seed=3, turned=-1.0))
    assert "harm" in statuses(done) and "drift" not in statuses(done)
    harmed = next(k for k in done.kept if k.judged.status == "harm")
    assert "tolerated are" in harmed.judged.sentence


def test_without_labels_a_window_is_pending_and_late_ones_update_its_run(shop):
    rows = later(3, seed=4)
    early = watched(shop, "late", rows.drop(columns="sold"))
    assert statuses(early) == ["pending"] * 3
    late = watched(shop, "late", rows)
    assert statuses(late) == ["quiet"] * 3
    assert [k.run_id for k in early.kept] == [k.run_id for k in late.kept]
    assert all(k.is_new and k.before == "pending" for k in late.kept)
    note = MlflowClient().get_run(late.kept[0].run_id).data.tags["mlflow.note.content"]
    assert "before, with other labels or rows: pending" in note


STRANGE = {
    "eight rows": (lambda f: f.groupby(f.day.dt.date).head(8), "pending", "8 rows: too few"),
    "a column vanished": (
        lambda f: f.drop(columns="price"),
        "contract",
        "column price is not there",
    ),
    "a column of text": (lambda f: f.assign(price="cheap"), "contract", "price is not a number"),
    "all gaps": (lambda f: f.assign(price=np.nan), "contract", "100.00% missing"),
    "constant": (lambda f: f.assign(weight=0.0), "drift", "weight"),
    "never seen": (lambda f: f.assign(shop="z"), "drift", "shop (new categories, 100%"),
    "a new column": (lambda f: f.assign(colour="red"), "quiet", "like the reference"),
    "a text's gaps": (lambda f: f.assign(shop=None), "contract", "shop is missing: 100 rows"),
    "usually no gaps": (
        lambda f: f.assign(shop=None),
        "contract",
        "shop (gaps, 100% of the rows, usually 0%)",
    ),
}


# each status, and each way to it
OFTEN = (
    "eight rows",
    "a column vanished",
    "a column of text",
    "never seen",
    "a new column",
    "a text's gaps",
    "usually no gaps",
)


@pytest.mark.parametrize("case", sampled(STRANGE, *OFTEN))
def test_strange_tables_are_a_sentence_and_never_a_silent_fine(shop, case):
    change, status, said = STRANGE[case]
    done = watched(shop, "strange", change(later(3, seed=5)))
    assert done.kept[-1].judged.status == status
    assert said in done.kept[-1].judged.sentence


def test_an_empty_window_and_a_clock_that_jumps_are_told(shop):
    rows = later(5, seed=6)
    rows = rows[rows.day.dt.day != 3]
    rows.loc[rows.index[:2], "day"] = [pd.Timestamp("1970-01-01"), pd.NaT]
    done = watched(shop, "jumped", rows)
    assert statuses(done)[2] == "pending" and "no rows" in done.kept[2].judged.sentence
    assert any("a clock has jumped: 1 row of about 1970-01-01" in note for note in done.notes)
    assert any("1 row without a time" in note for note in done.notes)


def test_a_table_without_some_weeks_leaves_what_another_said_of_them_and_tells_of_many_in_one_line(
    shop,
):
    rows = later(30, seed=16)
    first = watched(shop, "whole", rows)
    day = (rows.day - rows.day.min().floor("D")).dt.days
    holed = watched(shop, "holed", rows[(day < 8) | (day == 29) & (rows.index % 10 == 0)])
    empty = [k for k in holed.kept if not k.judged.rows]
    assert len(empty) == 21 and all(k.before for k in empty)
    client = MlflowClient()
    assert all(
        client.get_run(a.run_id).data.tags[record.STATUS] == a.judged.status
        for a in first.kept[8:29]
    )
    told = record.sentences(holed.kept)
    assert sum("no rows in 21 windows" in line for line in told) == 1
    assert any("has a clock jumped?" in note for note in holed.notes)


def test_columns_that_the_model_does_not_take_are_told(shop):
    done = watched(shop, "more", later(2, seed=17).assign(colour="red"))
    assert done.notes[-1:] == ["1 column that the model does not take: colour: not watched"]


def test_a_loss_above_the_tolerated_one_is_told_though_it_is_not_yet_harm(shop):
    quiet = watched(shop, "turning", later(2, seed=18, turned=-1.0)).judged[0]
    assert quiet.status == "harm" or "above the tolerated" in quiet.sentence
    assert "; roc_auc 0." in quiet.sentence


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda f: f.drop(columns="day"), "need a column of times, which the table does not have"),
        (
            lambda f: f.assign(day=f.day.astype(str).where(f.index % 50 > 0, "yesterday")),
            "'day' holds 4 rows that are no time, such as yesterday",
        ),
        (lambda f: f.assign(day=7), "'day' holds none, such as 7"),
    ],
)
def test_a_column_that_holds_no_times_is_one_line(shop, change, said):
    with pytest.raises(WorkbookError, match=said) as error:
        watched(shop, "timeless", change(later(2, seed=19)))
    assert "timeless.parquet: " in error.value.message


def test_the_command_ends_with_the_gravest_status_and_speaks_json(shop):
    later(3, seed=8).assign(price=99.0).to_parquet(shop / "command.parquet")
    table = ["--table", str(shop / "command.parquet")]
    told = CliRunner().invoke(cli.main, ["monitor", "shop", *table])
    assert told.exit_code == judge.EXIT["contract"] and "contract: price needs" in told.stdout
    asked = CliRunner().invoke(
        cli.main, ["monitor", "shop", *table, "--window", "2020-06-02", "--json"]
    )
    assert asked.exit_code == 12 and '"window": "2020-06-02"' in asked.stdout


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--table", "nowhere.parquet"], "there is no such table"),
        (["--window", "1999"], "no window begins in '1999'"),
        (["--captured"], "no request to shop version 1 is captured"),
    ],
)
def test_what_cannot_be_watched_is_one_line(shop, arguments, said):
    later(2).to_parquet(shop / "some.parquet")
    more = (
        []
        if "--table" in arguments or "--captured" in arguments
        else ["--table", str(shop / "some.parquet")]
    )
    told = CliRunner().invoke(cli.main, ["monitor", "shop", *arguments, *more])
    assert told.exit_code == 1 and said in told.output


@pytest.mark.usefixtures("shop")
def test_what_a_server_has_captured_in_a_folder_of_its_own_is_watched(tmp_path):
    asked = later(2)
    times = pd.to_datetime(asked.pop("day")).dt.strftime("%Y-%m-%dT%H:%M:%S+00:00")
    rows = asked.drop(columns="sold").to_dict("records")
    about = {"version": 1, "run_id": None, "prediction": False}
    lines = [json.dumps({"time": t, "columns": row} | about) for t, row in zip(times, rows)]
    (tmp_path / "shop@staging").mkdir()
    (tmp_path / "shop@staging" / "0-1.jsonl").write_text("\n".join([*lines, '{"time": "cut']))
    told = CliRunner().invoke(cli.main, ["monitor", "shop", "--folder", str(tmp_path), "--json"])
    assert told.exit_code == judge.EXIT["pending"], told.output
    assert (
        f'"rows": {len(rows) // 2}' in told.stdout and "1 captured line could not be" in told.stdout
    )


def test_captured_requests_get_their_truth_by_the_key_that_came_along(shop, tmp_path, monkeypatch):
    asked = later(2).assign(order=lambda f: np.arange(len(f)))
    asked[["order", "sold"]].to_csv(shop / "captured_labels.csv", index=False)
    keyed = FILE.replace("{window", "{labels: {path: captured_labels.csv, key: [order]}, window")
    monkeypatch.setattr(kept_reference, "of", _keyed(shop, keyed))
    (tmp_path / "shop@staging").mkdir()
    for key, status in (("order", "quiet"), ("number", "pending")):
        lines = [
            json.dumps(
                {"time": f"{row.pop('day'):%Y-%m-%dT%H:%M:%S+00:00}", "columns": row}
                | {"version": 1, "run_id": None, "prediction": False}
            )
            for row in asked.drop(columns="sold").rename(columns={"order": key}).to_dict("records")
        ]
        (tmp_path / "shop@staging" / "0-1.jsonl").write_text("\n".join(lines))
        done = monitor.monitor("shop", captured=tmp_path)
        assert statuses(done)[0] == status, done.kept[0].judged.sentence
    assert "200 rows without a key: no truth is known of them" in done.notes


def _keyed(shop, text):
    """As kept_reference.of, of a problem whose file is this `text`."""
    (shop / "with_key.yaml").write_text(text)
    problem, of = problems.load(str(shop / "with_key.yaml")), kept_reference.of
    return lambda version, loaded: replace(of(version, loaded), problem=problem)


@pytest.mark.usefixtures("shop")
def test_what_came_after_the_training_is_watched_where_no_table_is_named():
    done = monitor.monitor("shop")
    assert (done.kept[0].judged.window.name, len(done.kept)) == ("2020-04-10", 20)
    assert "quiet" in statuses(done)


def test_labels_come_by_a_key_from_a_table_of_their_own(shop):
    rows = later(3, seed=9).assign(order=lambda f: np.arange(len(f)))
    (shop / "keyed.yaml").write_text(
        FILE.replace("monitoring: {", "monitoring: {labels: {path: labels.csv, key: [order]}, ")
    )
    known = rows[["order", "sold"]]
    twisted = pd.concat([known, known.iloc[:1].assign(sold=lambda f: ~f.sold), known.iloc[5:6]])
    twisted.to_csv(shop / "labels.csv", index=False)
    from Codes.drift import watched as watching

    problem = problems.load(str(shop / "keyed.yaml"))
    rows.drop(columns="sold").to_parquet(shop / "keyed.parquet")
    table = watching.reader.read(shop / "keyed.parquet")
    truth, told = watching._truth(table, problem)
    assert truth.isna().sum() == 1 and list(truth[1:]) == list(rows.sold[1:])
    assert told == ["1 key with labels that contradict each other: left out"]
    with pytest.raises(WorkbookError, match="the rows have no column 'order'"):
        watching._truth(table.drop_columns(["order"]), problem)


def test_a_large_table_is_mapped_part_by_part_and_judged_the_same(shop, monkeypatch):
    rows = later(4, seed=12).sample(frac=1, random_state=0)
    whole = watched(shop, "large", rows)
    monkeypatch.setattr(large, "ROWS", 100)
    monkeypatch.setattr(large, "PART", 90)
    monkeypatch.setattr(judge, "PART", 70)
    mapped = watched(shop, "large", rows)
    assert mapped.watched.table.column("price").num_chunks > 3
    assert [k.judged.sentence for k in mapped.kept] == [k.judged.sentence for k in whole.kept]
    assert not any(kept.is_new for kept in mapped.kept)


def test_the_table_of_windows_has_a_row_each(shop):
    done = watched(shop, "table", later(2, seed=10))
    assert list(record.as_table(done.judged).name) == ["2020-06-01", "2020-06-02"]


@pytest.mark.usefixtures("shop")
def test_the_budget_is_kept_in_quiet_windows_and_shifts_are_found():
    measured, run_id = monitor.calibrate("shop", streams=12)
    rate, low, high = measured.false_alarms
    assert low <= 100 / 52 and measured.is_kept, (rate, low, high)
    table = measured.table().set_index("shift")
    # a hundred rows a day: 0.5 standard deviations are 0.2 of the rows, their luck is 0.08
    assert (
        table.loc["a sensor stuck", "ours"] == 1 and table.loc["one column by 0.5 sd", "ours"] > 0.6
    )
    assert table.loc["none (quiet)", "any column p < 0.05"] > table.loc["none (quiet)", "ours"]
    # as often wrong as ours none of the others finds more of any shift
    others = [f"{method}{quality.EQUAL}" for method in quality.METHODS[1:]]
    shifts = table.loc[table[quality.DELAY].notna() & table.ours.notna(), ["ours", *others]]
    assert (shifts.ours >= shifts[others].max(axis=1)).all(), shifts
    run = MlflowClient().get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.metrics["false_alarms_in_100"] == rate


def test_a_replayed_history_says_that_training_again_pays_where_the_target_turned(shop):
    before, after = stream(60, 11), stream(60, 12, "2020-03-01", turned=-1.0)
    pd.concat([before, after]).to_parquet(shop / "turn.parquet")
    (shop / "turn.yaml").write_text(
        FILE.replace("shop.parquet", "turn.parquet").replace("1d", "5d")
    )
    problem = problems.load(str(shop / "turn.yaml"))
    replayed = backtest.replay(
        problem, model="linear", rows=2000, first="40d", sliding="21d", delay="3d"
    )
    table = replayed.table.set_index("policy")
    assert table.loc["never", "trainings"] == 1 and table.loc["never", "gain"] == 0
    assert 2 <= table.loc["by harm", "trainings"] <= 10 and table.loc["by harm", "pays"]
    assert table.loc["at best", "cost"] == table.cost.min()
    assert "it pays to train" in replayed.sentence()
    run = MlflowClient().get_run(record.keep_backtest(replayed, {"problem": "turn"}))
    assert {f.path for f in MlflowClient().list_artifacts(run.info.run_id)} >= {
        "backtest.png",
        "policies.csv",
    }


def test_a_history_that_is_too_short_is_one_line(shop):
    with pytest.raises(WorkbookError, match="too few to replay"):
        backtest.replay(problems.load(str(shop / "shop.yaml")), first="119d")
    with pytest.raises(WorkbookError, match="only what is split by time"):
        backtest.replay(problems.load("diabetes"))


@pytest.mark.usefixtures("shop")
def test_a_page_shows_the_verdicts_with_their_numbers():
    page = verdicts.of("shop")
    windows = len(page.judged)
    assert f"**shop version 1**, {windows} windows of 1d: " in page.news and windows >= 19
    assert page.table().window.iloc[0] == "2020-04-10" and sum(page.summary().values()) == windows
    scores = [each.score[0] for each in page.judged if each.window.is_over]
    assert (
        f"({max(scores):.3f}, 95 %" in page.words() and f"({min(scores):.3f}, 95 %" in page.words()
    )
    assert "the loss (brier score) is above the tolerated" in page.harm().lower()
    assert len(page.moved()) and len(page.moved_figure().axes) == len(set(page.moved(9).column))
    assert page.harm_figure().axes[0].get_ylabel() == "evidence"


def test_a_page_says_why_nothing_is_watched(shop):
    assert shop.exists()
    run = demonstration.finished_run("diabetes", "linear", is_scored=True)
    registry.move("diabetes", "staging", promotion.register(run).number, None)
    for name, why in (("nobody", "no registered model 'nobody'"), ("diabetes", "no request to")):
        page = verdicts.of(name)
        assert page.news.startswith("There is nothing to watch: ") and why in page.news
        assert page.table().empty and page.moved().empty and page.gravest() is None
        assert page.words() == page.harm() == verdicts.NOTHING and not any(page.summary().values())
        assert [len(f.axes) for f in (page.figure(), page.moved_figure(), page.harm_figure())] == [
            1
        ] * 3
