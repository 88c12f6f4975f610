"""A model trained again: as of a day, by policy, twice at once, killed, refused; with real runs and a registry."""

# pylint: disable=missing-function-docstring

import json
import os
import signal

import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from Codes.commands import cli
from Codes.ground import interrupts
from Codes.model_registry import demonstration, examination, promotion, registry
from Codes.drift import judge
from Codes.monitoring.Test_monitor import FILE, stream
from Codes.retraining import loop, retrain as retraining
from Codes.runs import identity, liveness, tracking
from Codes.seams import python_seam
from Codes.testing.testbed import (
    FORKS,
    PATIENCE,
    WORKBOOK,
    Execution,
    Store,
    become,
    clean_environment,
    fresh_store,
    wait_for,
)

DAY = "2020-04-15"  # 105 days after the first row
SPAN = 70  # days to train on, before the last 28, which validate and test
LEARNED = 7000  # their rows
QUIET = stream(120)
# a high price means the contrary for longer than before, and then again what it meant
TURNED = [
    QUIET[QUIET.day < "2020-04-20"],
    stream(140, 1, "2020-04-20", turned=-1.0),
    stream(30, 2, "2020-09-07"),
]


@pytest.fixture(name="shop", scope="module")
def fixture_shop(testbed, tmp_path_factory):  # pylint: disable=unused-argument
    """The store in which version 1 of a problem's model is in production; the problem lies in its folder."""
    folder = tmp_path_factory.mktemp("shop")
    QUIET.to_parquet(folder / "shop.parquet")
    text = FILE.replace("window: 1d, budget: 52", "window: 7d, budget: 10, recent: 14")
    (folder / "shop.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", fresh_store(folder))
        tracking.use_store()
        run = demonstration.finished_run(str(folder / "shop.yaml"), "linear", is_scored=True)
        registry.move("shop", "production", promotion.register(run).number, None)
        yield Store(os.environ["MLFLOW_TRACKING_URI"], folder)
    mlflow.set_tracking_uri(None)


def retrain(*options):
    """The command's result in this process."""
    return CliRunner().invoke(cli.main, ["retrain", "shop", *options])


def started(shop, name, *options):
    """The command under way in a process of its own."""
    folder, log = shop.folder_of(name), shop.folder / f"{name}.log"
    variables = clean_environment() | {"MLFLOW_TRACKING_URI": shop.uri}
    arguments = (WORKBOOK, ["retrain", "shop", *options], variables, folder, log)
    process = FORKS.Process(target=become, args=(*arguments, python_seam.forkserver_address()))
    process.start()
    return Execution(shop, name, process, folder, log)


def trainings(shop, day):
    return trainings_of(shop, f"shop.yaml@{day}")


def trainings_of(shop, problem):
    """The runs on the `problem` that trained, but for those of the gate."""
    found = shop.runs(str(shop.folder / problem))
    return [run for run in found if identity.NOTEBOOK in run.data.tags]


def reasons():
    return [(m.alias, m.after, m.why) for m in registry.settled("shop") if m.after != 1]


def slope(number):
    """Whether version `number` takes a high price for a better chance (1) or a worse one (-1)."""
    loaded = registry.load(registry.find(f"shop/{number}"))
    low, high = (loaded.example.iloc[:1].assign(price=price) for price in (-1.0, 1.0))
    first, second = (pd.DataFrame(loaded.answers(row)).iloc[0, -1] for row in (low, high))
    return np.sign(second - first)


def test_killed_while_it_trains_then_twice_at_once_and_again_is_one_training(shop):
    now = ["--when", "now", "--as-of", DAY, "--window", f"sliding:{SPAN}d"]
    killed = started(shop, "killed", *now)
    wait_for(lambda: trainings(shop, f"{DAY}-{SPAN}d"), killed)
    killed.signal(signal.SIGKILL)
    killed.finish()
    both = [started(shop, name, *now) for name in ("one", "other")]
    for each in both:
        assert each.finish().code == 0, each.printed
        assert "shop version 2 is in staging: trained again as of 2020-04-15" in each.printed
    again = retrain(*now)
    assert again.exit_code == 0 and "shop version 2 is in staging" in again.stdout
    # as where nothing is in production, and a kill came before the gate
    itself = CliRunner().invoke(cli.main, ["retrain", "shop/2", *now])
    assert itself.stdout == "shop version 2 is in staging: trained as of 2020-04-15\n"
    (run,) = trainings(shop, f"{DAY}-{SPAN}d")
    assert run.info.status == "FINISHED"
    was = MlflowClient().get_run(registry.find("shop/1").run_id).data.params
    kept = run.data.params
    assert {**kept, **was, "problem": kept["problem"]} == kept and kept["model"] == "linear"
    learned = [
        json.loads(each.dataset.profile)["num_rows"]
        for each in run.inputs.dataset_inputs
        if "training" in {tag.value for tag in each.tags}
    ]
    assert learned == [LEARNED]
    assert [v.number for v in registry.versions("shop")] == [2, 1]
    assert registry.aliases("shop") == {"production": 1, "staging": 2}
    why = "trained again as of 2020-04-15, instead of shop version 1: asked for"
    assert reasons() == [("staging", 2, why)]


@pytest.mark.soak
@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_asked_to_end_while_it_trains_it_closes_the_training_and_the_next_one_trains(
    shop, number, code
):
    day = "2020-04-12" if number == signal.SIGTERM else "2020-04-13"
    now = ["--when", "now", "--as-of", day, "--window", f"sliding:{SPAN}d"]
    asked = started(shop, f"asked{code}", *now)
    wait_for(lambda: trainings(shop, f"{day}-{SPAN}d"), asked)
    asked.signal(number)
    assert asked.finish().code == code, asked.printed
    (run,) = trainings(shop, f"{day}-{SPAN}d")
    assert run.info.status in ("FAILED", "KILLED")
    again = started(shop, f"again{code}", *now)
    assert again.finish().code == 0, again.printed
    both = {run.info.status for run in trainings(shop, f"{day}-{SPAN}d")}
    assert both == {run.info.status, "FINISHED"}


def test_by_policy_a_quiet_stream_trains_nothing(shop):
    QUIET.to_parquet(shop.folder / "shop.parquet")
    before, versions = registry.aliases("shop"), len(registry.versions("shop"))
    done = retrain("--when", "policy")
    assert done.exit_code == 0 and "no window shows harm" in done.stdout
    assert registry.aliases("shop") == before and len(registry.versions("shop")) == versions


def test_by_policy_harm_trains_and_what_the_gate_refuses_leaves_production(shop):
    pd.concat(TURNED).to_parquet(shop.folder / "shop.parquet")
    file = shop.folder / "shop.yaml"
    file.write_text(file.read_text().replace("recent: 14", "recent: 14, on_alarm: production"))
    done = CliRunner().invoke(cli.main, ["monitor", "shop"])
    assert done.exit_code == judge.EXIT["harm"] and "is not promoted" in done.output, done.output
    newest = registry.versions("shop")[0]
    assert registry.aliases("shop") == {"production": 1, "staging": newest.number}
    staged, refused = reasons()[-2:]
    assert staged[:2] == ("staging", newest.number) and "tolerated are" in staged[2]
    assert registry.find(f"shop/{newest.number}").problem.count("@") == 1
    assert refused[:2] == ("production", newest.number)
    assert slope(1) == 1 and slope(newest.number) == -1
    looks = len(shop.runs())
    day = registry.find(f"shop/{newest.number}").problem.rpartition("@")[2]
    again = retrain("--when", "now", "--as-of", day, "--production")
    assert again.exit_code == 1 and "was refused by the gate before" in again.output
    assert len(shop.runs()) == looks and registry.pointed("shop", "production") == 1


STEPS = {  # of the gate's part: where to stop, and whether production has been moved by then
    "examination.checks.check": False,  # the gate's run is open
    "examination._tell": False,  # it is finished, and the version knows nothing of it
    "registry.move": False,
    "MlflowClient.set_registered_model_alias": True,
}
NOW = {"day": "2020-07-20", "by_policy": False, "to_production": True, "window": "sliding:60d"}


def retrain_and_stop(uri, step, number):
    """Be a process that trains the kiosk's model again, and gets the signal `number` at that `step`."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    tracking.use_store()
    path, _, name = step.rpartition(".")
    places = {"examination.checks": examination.checks, "examination": examination}
    place = {**places, "registry": registry, "MlflowClient": MlflowClient}[path]
    whole = getattr(place, name)

    def stop(*args, **kwargs):
        found = whole(*args, **kwargs) if STEPS[step] else None
        if not STEPS[step] or args[2:3] == ("production",):
            os.kill(os.getpid(), number)
        return found if STEPS[step] else whole(*args, **kwargs)

    setattr(place, name, stop)
    with interrupts.ended_in_order():
        retraining.retrain("kiosk", **NOW)


@pytest.mark.soak  # a minute; quick: the registry's steps in Codes/model_registry/Test_promotion.py
def test_ended_at_any_step_of_the_gate_the_same_command_goes_on(shop):
    turned = [QUIET[QUIET.day < "2020-04-01"], stream(130, 1, "2020-04-01", turned=-1.0)]
    pd.concat(turned).to_parquet(shop.folder / "kiosk.parquet")
    text = FILE.replace("window: 1d, budget: 52", "window: 7d, budget: 10, recent: 14")
    text = text.replace("shop.parquet", "kiosk.parquet").replace("2020-04-10", "2020-03-10")
    (shop.folder / "kiosk.yaml").write_text(text.replace("2020-04-20", "2020-03-20"))
    first = demonstration.finished_run(str(shop.folder / "kiosk.yaml"), "linear", is_scored=True)
    registry.move("kiosk", "production", promotion.register(first).number, None)
    ends = [(step, signal.SIGKILL) for step in STEPS]
    ends[1:1] = [("examination.checks.check", n) for n in (signal.SIGTERM, signal.SIGINT)]
    for step, number in ends:
        process = FORKS.Process(target=retrain_and_stop, args=(shop.uri, step, number))
        process.start()
        process.join(PATIENCE)
        assert process.exitcode not in (0, None)
        # who is killed leaves a run to the next command, who is asked to end leaves none
        open_runs = [run for run in shop.runs() if run.info.status == "RUNNING"]
        assert not open_runs or number == signal.SIGKILL
        assert registry.pointed("kiosk", "production") == (2 if STEPS[step] else 1)
    again = retraining.retrain("kiosk", **NOW)
    assert again.is_live and again.version.number == 2
    assert not liveness.close_dead_runs()
    assert not [run for run in shop.runs() if run.info.status == "RUNNING"]
    assert len(trainings_of(shop, "kiosk.yaml@2020-07-20-60d")) == 1
    assert [v.number for v in registry.versions("kiosk")] == [2, 1]
    done = [m for m in registry.settled("kiosk") if m.outcome == registry.DONE]
    assert [(m.alias, m.after) for m in done] == [
        ("production", 1),
        ("staging", 2),
        ("production", 2),
    ]


@pytest.mark.parametrize(
    "day, said",
    [
        ("2020-02-30", "is no day"),
        ("yesterday", "is no day"),
        ("1999-01-01", "no row to train on"),
        ("2099-01-01", "no row to validate"),
    ],
)
def test_a_day_that_cannot_be_is_one_line_and_no_version(shop, day, said):
    before, runs = registry.versions("shop"), len(shop.runs())
    done = retrain("--when", "now", "--as-of", day)
    assert done.exit_code == 1 and said in done.output and "Traceback" not in done.output
    assert registry.versions("shop") == before and len(shop.runs()) == runs


def test_a_span_that_cannot_be_is_one_line(shop):
    assert shop.folder.exists()
    done = retrain("--when", "now", "--as-of", DAY, "--window", "weekly")
    assert done.exit_code == 1 and "write expanding, or sliding:90d" in done.output


@pytest.mark.soak  # 06_monitor does it on flights
def test_the_loop_is_closed_once_and_again_finds_what_was_done(shop):
    turned = [QUIET[QUIET.day < "2020-03-01"], stream(170, 1, "2020-03-01", turned=-1.0)]
    pd.concat(turned).to_parquet(shop.folder / "turn.parquet")
    text = FILE.replace("window: 1d, budget: 52", "window: 7d, budget: 10, recent: 7")
    (shop.folder / "turn.yaml").write_text(text.replace("shop.parquet", "turn.parquet"))
    closed, again = (loop.play(str(shop.folder / "turn.yaml"), rows=2000) for _ in range(2))
    assert closed.alarm is not None and closed.alarm.status == "harm", closed.said
    table = closed.table()
    assert closed.metrics()["loop_score_new"] == table.score_new.head(loop.AFTER).mean()
    assert len(table) > 4 and closed.course().status.iloc[0] in ("quiet", "harm")
    # harm is clear before the new meaning fills the rows that are trained on
    assert "turn-loop version 2** is trained as of" in closed.said and again.said == closed.said
    assert [v.number for v in registry.versions("turn-loop")] == [2, 1]
    assert len(closed.figure().axes) == 3


def test_where_there_is_no_history_the_loop_says_so(shop):
    assert shop.folder.exists()
    closed = loop.play("diabetes")
    assert "not split by time" in closed.said and not closed.metrics()
    assert len(closed.figure().axes) == 1 and closed.table().empty
