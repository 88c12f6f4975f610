"""The bench: its arithmetic, and one tiny real run; never how fast anything is."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest

from Codes.bench import bench, bench_costs, bench_gpu, bench_report, bench_sweep, bench_ways
from Codes.bench.bench_report import row
from Codes.ground.errors import WorkbookError
from Codes.ground.paths import ROOT
from Codes.testing.cases import sampled
from Codes.testing.testbed import clean_environment


def table(**seconds):
    """A table of runs: `a1=[4.0, 5.0]` is what the way a took with one worker."""
    return pd.DataFrame([row("runs", n[0], n[0], int(n[1]), s) for n, s in seconds.items()])


def test_a_row_holds_the_median_and_the_ends():
    found = row("lab", "python3", "first cell", 1, [3.0, 1.0, 8.0, 2.0])
    assert (found["seconds"], found["fastest"], found["slowest"]) == (2.5, 1.0, 8.0)
    assert found["measured"] == 4


def test_each_way_is_compared_with_papermill_one_after_another():
    found = bench_report.ratios(table(a1=[6.0], c1=[0.5], a2=[3.0], c2=[0.2]))
    expected = {"times_a/a_1": 1, "times_a/c_1": 12, "times_a/a_2": 2, "times_a/c_2": 30}
    assert found == pytest.approx(expected)
    assert not bench_report.ratios(table(c1=[0.5], e1=[0.2]))


def test_each_goal_is_told_as_met_or_not_and_one_without_its_measures_is_left_out():
    met = bench_report.goals(table(a1=[6.0], c1=[0.5], e1=[0.26], c2=[0.25]))
    assert [line.rpartition(": ")[2] for line in met] == ["met", "met", "met"]
    missed = bench_report.goals(table(a1=[5.9], c1=[0.5], e1=[0.25], c2=[0.25]))
    assert [line.rpartition(": ")[2] for line in missed] == ["not met", "not met", "not met"]
    assert len(bench_report.goals(table(c1=[0.5], e1=[0.1]))) == 1
    assert not bench_report.goals(table(e1=[0.1]))


def test_the_metrics_name_each_thing_that_was_measured_once():
    rows = [row("runs", "a", "a: papermill", 2, [1.0]), row("stages", "c", "total", 1, [1.0])]
    rows += [row("lab", "python3", "first cell, kernel python3", 1, [1.0])]
    found = bench_report.metrics(pd.DataFrame(rows))
    assert list(found) == ["runs/a_2", "stages/total", "lab/python3"]


def test_without_a_graphics_card_there_is_nothing_to_measure_which_is_refused_where_it_was_asked():
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    assert not bench_gpu.measure(1, environment, asked=False)
    with pytest.raises(WorkbookError, match="sees a graphics card"):
        bench_gpu.measure(1, environment, asked=True)


def test_sweeps_are_compared_with_papermill_in_a_loop_and_their_costs_with_their_goals():
    rows = [row("sweep", "a", "loop", 1, [400.0]), row("sweep", "sweep", "sweep", 2, [20.0])]
    rows += [row("costs", "own", "the scheduler", 1, [0.004])]
    rows += [row("costs", "early", "10th", 2, [0.2]), row("costs", "late", "1000th", 2, [0.23])]
    found = pd.DataFrame(rows)
    assert bench_report.ratios(found) == {"times_loop_a/a_1": 1, "times_loop_a/sweep_2": 20}
    assert {"sweep/sweep_2": 20, "costs/late": 0.23}.items() <= bench_report.metrics(found).items()
    told = [line.rpartition(": ") for line in bench_report.goals(found)]
    assert [verdict for _, _, verdict in told] == ["met", "not met"]
    assert "4.0 ms" in told[0][0] and "1.15 times" in told[1][0]
    assert len(bench_report.picture(found).axes) == 2


def test_commands_are_compared_with_papermills_own_and_held_against_their_goals():
    rows = [("help", 0.2), ("help_cold", 0.4), ("run", 1.2), ("run_cold", 5), ("papermill", 6)]
    found = pd.DataFrame(
        bench_report.row("commands", key, f"what {key}", 1, [seconds]) for key, seconds in rows
    )
    assert bench_report.ratios(found)["times_papermill_command/run_1"] == 5
    assert [line.rpartition(": ")[2] for line in bench_report.goals(found)] == ["met", "not met"]
    assert bench_report.metrics(found)["commands/run_cold"] == 5


def test_error_rates_of_the_gate_are_shares_that_are_held_against_their_goals_as_far_as_trials_tell():
    rows = [row("gate", k, k, 1, [s]) for k, s in (("no_better_1000", 0.03), ("slices", 0.2))]
    table_ = pd.DataFrame(rows).assign(measured=400)
    told = [line.rpartition(": ") for line in bench_report.goals(table_)]
    assert [verdict for _, _, verdict in told] == ["met", "not met"]
    assert "3.0% of 400" in told[0][0] and "20.0% of 400" in told[1][0]
    assert bench_report.metrics(table_) == {"gate/no_better_1000": 0.03, "gate/slices": 0.2}


def test_a_loop_that_is_reckoned_says_from_how_many_runs():
    assert bench_sweep.named("a", 50).endswith("(3 runs, reckoned for 50)")
    assert bench_sweep.named("a", 3) == bench_sweep.NAMES["a"]
    assert bench_sweep.named("sweep", 50) == "workbook sweep"


def test_seconds_a_trial_are_those_between_two_starts_of_a_worker_shared_by_the_workers():
    assert bench_costs.laps([3.0, 0.0, 1.0, 2.5], 2) == [1.25, 1.0]
    assert bench_costs.laps([0.0, 1.0, 3.0], 1) == [1.0, 2.0]


def test_the_schedulers_own_seconds_are_those_between_two_ends_without_the_workers(tmp_path):
    pool = bench_costs.Clocked(1, tmp_path / "log")
    pool.ends = [(5.0, 4.0), (6.0, 0.75), (8.0, 1.5)]
    assert pool.own() == [0.25, 0.5]


@pytest.mark.parametrize("text, expected", [("", ["a", "b", "c"]), (" c  a ", ["a", "c"])])
def test_what_is_measured_can_be_chosen(monkeypatch, text, expected):
    monkeypatch.setenv("WAYS", text)
    assert bench.chosen("WAYS", "abc") == expected


@pytest.mark.parametrize(
    "variable, text",
    [("WAYS", "a z"), ("ROUNDS", "0"), ("ROUNDS", "many"), ("TRIALS", "1"), ("GROWTH", "9")],
)
def test_a_wrong_choice_is_refused_with_what_is_allowed(monkeypatch, variable, text):
    monkeypatch.setenv(variable, text)
    with pytest.raises(WorkbookError, match=f"{variable}={text.split()[-1]}: "):
        bench.chosen("WAYS", "abc")
        bench.whole_number("ROUNDS", 7)
        bench.sweep_sizes()


@pytest.mark.parametrize("sections, growth", [("", 200), ("lab sweep", 1000)])
def test_a_sweep_grows_further_where_it_is_asked_for_by_name(monkeypatch, sections, growth):
    for variable, text in {"SECTIONS": sections, "TRIALS": "", "GROWTH": " "}.items():
        monkeypatch.setenv(variable, text)
    assert bench.sweep_sizes() == {"trials": 50, "growth": growth}


def test_each_way_has_a_maker_and_each_stage_of_a_run_is_still_there():
    assert set(bench.WAYS) < set(bench_ways.MAKERS)
    assert all(callable(getattr(owner, name)) for _, owner, name in bench_ways.stages())


@pytest.fixture(name="place", scope="module")
def fixture_place():
    """The private place that is measured in: one for all, since its template takes many seconds to start."""
    with bench.private_place() as environment:
        yield environment


def test_what_is_left_running_ends_with_the_private_place():
    sleep = [sys.executable, "-c", "import time; time.sleep(99)"]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(bench.private_place())["TMPDIR"]
        sleeper = stack.enter_context(subprocess.Popen([*sleep, folder]))
        bench.end_processes(folder)
        assert not psutil.pid_exists(sleeper.pid)
    assert not Path(folder).exists()


@pytest.mark.soak
def test_a_worker_that_cannot_work_says_why(place):
    with pytest.raises(WorkbookError, match="KeyError: 'nonsense'"):
        bench_ways.Worker("nonsense", place).run()


def test_what_a_sweep_has_left_running_ends_with_the_private_place():
    sleep = [sys.executable, "-c", "import time; time.sleep(99)"]
    with bench.private_place() as environment, subprocess.Popen(sleep, env=environment) as sleeper:
        bench.end_processes(environment["TMPDIR"])
        assert not psutil.pid_exists(sleeper.pid)


@pytest.mark.parametrize("number", sampled([signal.SIGTERM, signal.SIGINT, signal.SIGHUP]))
def test_ended_by_a_signal_it_says_so_in_one_line_and_leaves_no_process(tmp_path, number):
    (tmp_path / "ended.py").write_text(ENDED, "utf-8")
    with subprocess.Popen(
        [sys.executable, tmp_path / "ended.py", number.name],
        env=clean_environment() | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        told, errors = process.communicate()
    assert process.returncode == 128 + number
    assert errors.split("\n") == ["", f"make bench: ended by {number.name}; nothing was kept.", ""]
    assert not psutil.pid_exists(int(told))


ENDED = """
import signal, subprocess, sys
from Codes.bench import bench, bench_serve

def measure(rounds, environment):
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(sleep, env=environment, start_new_session=True) as left:
        print(left.pid)
        try:
            signal.raise_signal(signal.Signals[sys.argv[1]])
        finally:
            signal.raise_signal(signal.SIGTERM)  # a second one tears nothing

bench_serve.measure, bench.chosen = measure, lambda variable, _: ["serve"]
bench.main()
"""


@pytest.mark.soak
def test_a_command_that_fails_says_why(place):
    with pytest.raises(WorkbookError, match="cli sweep ended: .*no parameter 'nonsense'"):
        bench_sweep.swept("nonsense=1..2", 1, place)


@pytest.mark.parametrize("key, others", sampled([("sweep", 1), ("e", 0)]))
def test_a_tiny_sweep_and_a_tiny_loop_are_measured(place, key, others):
    before = len(runs_of_bench(place))
    assert bench_sweep.in_all(key, 2, 2, place) > 0
    assert len(runs_of_bench(place)) == before + 2 + others


def runs_of_bench(place):
    """The runs in the place's store that the bench has made."""
    client = mlflow.MlflowClient(place["MLFLOW_TRACKING_URI"])
    there = client.get_experiment_by_name("bench")
    return client.search_runs([there.experiment_id]) if there else []


@pytest.mark.soak
def test_the_schedulers_share_of_a_tiny_sweep_is_measured(place):
    mean, each = bench_costs.measure_own(3, place)
    assert mean["seconds"] > 0 and each["measured"] == 2


@pytest.mark.soak
def test_the_growth_of_a_tiny_sweep_is_measured(place):
    rows = {each["key"]: each for each in bench_costs.measure_growth(4, place)}
    assert list(rows) == ["early", "late", "end", "again"]
    assert rows["early"]["measured"] == 2 and all(each["seconds"] > 0 for each in rows.values())


@pytest.mark.soak
def test_a_tiny_measurement_is_printed_and_kept_as_a_run(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    given = {"ROUNDS": "1", "WAYS": "e", "SECTIONS": "runs", "MLFLOW_TRACKING_URI": uri}
    done = subprocess.run(
        [sys.executable, "-m", "Codes.bench.bench"],
        env=clean_environment() | given,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "e: a function in a loop" in done.stdout and "two workers, round 1 of 1" in done.stderr
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("bench").experiment_id
    (run,) = client.search_runs([experiment])
    assert run.info.status == "FINISHED" and run.data.params["rounds"] == "1"
    assert 0 < run.data.metrics["runs/e_2"] and 0 < run.data.metrics["runs/e_1"]
    kept = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert kept == {"bench.csv", "bench.png", "goals.txt"}
