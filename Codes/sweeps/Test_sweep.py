"""Sweeps from outside: the command, what it prints, and the runs that it leaves in the store."""

import csv
import io
import json
import os
import pty
import re
import signal
import statistics
import sys
import threading
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest

from Codes.comparison import leaderboard
from Codes.ground import labels, manifest
from Codes.ground.paths import NOTEBOOKS, ROOT
from Codes.problems import problem
from Codes.runs import liveness
from Codes.runs.Test_liveness import stop
from Codes.seams import mlflow_seam
from Codes.testing.cases import sampled
from Codes.testing.testbed import (
    X,
    clean_environment,
    processes_of,
    visible,
    wait_for,
    write_notebook,
)
from Codes.trial_workers import pool

SCORE = "import mlflow\nmlflow.log_metric('score', 10 - (x - 3) ** 2 + seed / 100)"
GOAL = ("--metric", "score:maximize")


def parent_of(execution):
    """The parent run of the sweep `execution`."""
    found = [r for r in execution.runs if "mlflow.workbook.sweep" in r.data.tags]
    assert len(found) == 1, [r.info.run_name for r in found]
    return found[0]


def children_of(execution, status=None):
    """The runs of its trials, by the trials' numbers."""
    runs = [r for r in execution.runs if "mlflow.workbook.sweep.trial" in r.data.tags]
    runs = [r for r in runs if status in (None, r.info.status)]
    parent = parent_of(execution).info.run_id
    assert all(r.data.tags["mlflow.parentRunId"] == parent for r in runs)
    return sorted(
        runs, key=lambda r: (int(r.data.tags["mlflow.workbook.sweep.trial"]), r.info.start_time)
    )


def table_of(execution):
    """The rows of its trials.csv."""
    client, run_id = execution.store.client, parent_of(execution).info.run_id
    with open(client.download_artifacts(run_id, "trials.csv"), encoding="utf-8") as file:
        return list(csv.DictReader(io.StringIO(file.read())))


def check_ended(execution, status="FINISHED", code=0):
    """Check an end: its exit code, the parent's status, no trial running and no process left."""
    assert execution.finish().code == code, execution.printed
    assert "Traceback" not in execution.printed, execution.printed
    assert parent_of(execution).info.status == status, execution.printed
    assert not children_of(execution, "RUNNING")
    for run in children_of(execution):
        assert not processes_of(run.info.run_id)
    return execution


@pytest.fixture(scope="module", name="grid")
def fixture_grid(store):
    """An ended sweep over a small grid, with two workers."""
    options = [*GOAL, "-v", "x=1..6", "--workers", "2"]
    return check_ended(store.sweep("grid", SCORE, options=[*options, "--sampler", "grid"]))


def test_each_trial_is_a_whole_run_nested_under_the_parent_and_named_by_what_varies(grid):
    children = children_of(grid)
    assert [r.info.run_name for r in children] == [
        f"trial {i} · {labels.number(r.data.metrics['score'])} · x={i + 1}"
        for i, r in enumerate(children)
    ]
    assert {r.info.status for r in children} == {"FINISHED"}
    assert not any(visible(run.data.tags) for run in [*children, parent_of(grid)])
    assert not any(liveness.HEARTBEAT in run.data.tags for run in [*children, parent_of(grid)])
    assert [r.data.params for r in children] == [{"seed": "0", "x": str(i)} for i in range(1, 7)]
    for run in children:
        assert not manifest.verify(grid.store.client, run.info.run_id)
        names = {f.path for f in grid.store.client.list_artifacts(run.info.run_id)}
        assert {"notebook.ipynb", "notebook.html"} <= names


def test_the_parent_tells_the_space_the_course_and_the_best(grid):
    client, parent = grid.store.client, parent_of(grid)
    run_id, tags = parent.info.run_id, parent.data.tags
    names = {f.path for f in client.list_artifacts(run_id)}
    assert {"space.yaml", "trials.csv", "leaderboard.html", "pictures"} <= names
    pictures = {f.path for f in client.list_artifacts(run_id, "pictures")}
    assert pictures == {"pictures/history.png", "pictures/slices.png"}  # one parameter: no others
    assert not manifest.verify(client, run_id)
    assert parent.data.params["sampler"] == "grid" and parent.data.params["points"] == "6"
    best = children_of(grid)[2]
    assert tags["mlflow.workbook.sweep.best.x"] == "3"
    assert tags["mlflow.workbook.sweep.best.run"] == best.info.run_id
    assert best.info.run_id in tags["mlflow.note.content"]
    history = client.get_metric_history(run_id, "best_score")
    assert sorted(m.step for m in history) == list(range(1, 7))
    values = [m.value for m in sorted(history, key=lambda m: m.step)]
    assert values == sorted(values) and values[-1] == 10


def test_the_table_has_the_best_on_top_and_the_terminal_says_it(grid):
    rows = table_of(grid)
    assert [row["x"] for row in rows][0] == "3" and len(rows) == 6
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert re.search(r"6 trials: 6 finished\n", grid.printed)
    assert "best: score 10 with x=3" in grid.printed
    counts = re.findall(r"\[(\d+)/6\] x=\d: score", grid.printed)
    assert counts == ["1", "2", "3", "4", "5", "6"]
    assert re.search(r"\[2/6\] x=.*left", grid.printed)


def test_the_same_command_again_has_nothing_to_do(grid):
    options = [*GOAL, "-v", "x=1..6", "--workers", "2", "--sampler", "grid"]
    again = check_ended(grid.store.sweep("grid", SCORE, options=options))
    assert "going on: 6 trials done\n" in again.printed
    assert len(children_of(again)) == 6 and "6 were known already" in again.printed


def test_another_sweep_takes_over_what_is_known_and_runs_the_rest(grid):
    options = [*GOAL, "-v", "x=3,4,9", "--experiment", "grid"]
    other = grid.store.launch("wider", grid.source, "sweep", options, {}).finish()
    assert other.code == 0, other.printed
    found = [r for r in other.store.runs("grid") if "mlflow.workbook.sweep" in r.data.tags]
    parent = max(found, key=lambda r: r.info.start_time)
    own = [r for r in other.store.runs("grid") if r.data.params.get("x") == "9"]
    assert len(own) == 1 and own[0].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert "2 were known already" in other.printed and "x=3: score 10 (known)" in other.printed
    assert parent.data.tags["mlflow.workbook.sweep.best.x"] == "3"


@pytest.mark.soak
def test_force_runs_every_point_in_a_new_sweep(own_store):
    options = [*GOAL, "-v", "x=1,2"]
    check_ended(own_store.sweep("forced", SCORE, options=options))
    again = own_store.sweep("forced", SCORE, options=[*options, "--force"]).finish()
    assert again.code == 0
    parents = [r for r in again.runs if "mlflow.workbook.sweep" in r.data.tags]
    assert len(parents) == 2 and len(again.runs) == 6


# --- samplers and objectives


@pytest.mark.parametrize("sampler", sampled(["random", "tpe", "nsgaii", "qmc"]))
def test_optunas_samplers_are_chosen_by_name(store, sampler):
    options = [*GOAL, "-v", "x=-9..9", "--sampler", sampler, "--trials", "2"]
    done = check_ended(store.sweep(f"by_{sampler}", SCORE, options=options))
    assert len(table_of(done)) == 2 and parent_of(done).data.params["sampler"] == sampler


@pytest.mark.soak
def test_a_search_that_is_extended_goes_on_from_what_it_knows(own_store):
    options = [*GOAL, "-v", "x=-9..9", "-v", "seed=0..9", "--sampler", "tpe"]
    check_ended(own_store.sweep("longer", SCORE, options=[*options, "--trials", "3"]))
    longer = check_ended(own_store.sweep("longer", SCORE, options=[*options, "--trials", "6"]))
    points = [r.data.tags["mlflow.workbook.sweep.point"] for r in children_of(longer)]
    assert len(table_of(longer)) == 6 and len(points) == len(set(points))
    assert "going on: 3 trials done" in longer.printed


@pytest.mark.soak
def test_several_metrics_make_a_pareto_front(store):
    code = "import mlflow\nmlflow.log_metrics({'good': x, 'cost': x ** 2})"
    options = ["--metric", "good:maximize", "--metric", "cost:minimize", "-v", "x=1..4:1"]
    done = check_ended(store.sweep("pareto", code, options=[*options, "--sampler", "grid"]))
    names = {f.path for f in store.client.list_artifacts(parent_of(done).info.run_id, "pictures")}
    assert "pictures/pareto_front.png" in names and "pictures/history_cost.png" in names
    assert {"good", "cost"} <= set(table_of(done)[0])
    assert {"best_good", "best_cost"} <= set(parent_of(done).data.metrics)


def test_several_seeds_are_ranked_by_their_mean_with_its_interval(store):
    code = "import mlflow\nmlflow.log_metric('score', x + [0, 1, 5][seed - 7])"
    options = [*GOAL, "-v", "x=1,2", "--seeds", "3", "-p", "seed", "7"]
    done = check_ended(store.sweep("seeds", code, options=options))
    rows = table_of(done)
    assert [row["x"] for row in rows] == ["2", "1"]
    scores = [2, 3, 7]
    assert float(rows[0]["score"]) == pytest.approx(statistics.fmean(scores))
    width = 4.302653 * statistics.stdev(scores) / 3**0.5  # Student's t, two degrees of freedom
    assert float(rows[0]["± score"]) == pytest.approx(width, rel=1e-5)
    assert len(rows[0]["runs"].split()) == 3
    names = {r.info.run_name for r in children_of(done)}
    assert {name.rpartition(" · ")[2] for name in names} == {
        f"x={x} seed={s}" for x in (1, 2) for s in (7, 8, 9)
    }


@pytest.mark.soak
def test_one_point_may_be_run_with_seeds_alone(store):
    code = "import mlflow\nmlflow.log_metric('score', seed)"
    done = check_ended(store.sweep("alone", code, options=[*GOAL, "--seeds", "3"]))
    assert float(table_of(done)[0]["score"]) == 1


SLOW_BAD = """
import mlflow, time
for step in range(40):
    mlflow.log_metric('loss', x + 1 / (step + 1), step=step)
    time.sleep(0 if x < 5 else 0.5)
mlflow.log_metric('score', -x)"""


def test_a_hopeless_trial_is_pruned_without_code_in_the_notebook(store):
    options = ["--metric", "loss:minimize", "-v", "x=0,1,2,3,4,50", "--pruner", "median"]
    done = check_ended(store.sweep("pruned", SLOW_BAD, options=[*options, "--workers", "1"]))
    *good, bad = children_of(done)
    assert {r.info.status for r in good} == {"FINISHED"} and bad.info.status == "KILLED"
    assert "by the median pruner" in bad.data.tags["mlflow.workbook.pruned"]
    assert len(store.client.get_metric_history(bad.info.run_id, "loss")) < 35
    assert re.search(r"x=50: PRUNED", done.printed) and "5 finished, 1 pruned" in done.printed
    assert {row["x"]: row["state"] for row in table_of(done)}["50"] == "PRUNED"
    again = check_ended(store.sweep("pruned", SLOW_BAD, options=options))
    assert len(children_of(again)) == 6, "a pruned trial is not run again"


@pytest.mark.soak
def test_after_a_resume_the_pruner_knows_the_courses_of_earlier_trials(own_store):
    options = ["--metric", "loss:minimize", "-v", "x=0,1,2,3,4,50", "--pruner", "median"]
    options += ["--sampler", "grid", "--workers", "1"]
    few = [*options, "--watch", "lss", "--trials", "2"]
    done = check_ended(own_store.sweep("later", SLOW_BAD, options=few))
    assert "no trial logged the metric 'lss' with steps" in done.printed
    check_ended(own_store.sweep("later", SLOW_BAD, options=[*options, "--trials", "5"]))
    *_, bad = children_of(check_ended(own_store.sweep("later", SLOW_BAD, options=options)))
    assert bad.data.params["x"] == "50" and "mlflow.workbook.pruned" in bad.data.tags


# --- failures


def test_a_trial_that_fails_does_not_stop_the_others_and_its_reason_is_told(store):
    code = "import mlflow\nmlflow.log_metric('score', 1 / x)"
    options = [*GOAL, "-v", "x=0,1,2"]
    done = check_ended(store.sweep("partly", code, options=options), code=1)
    assert [r.info.status for r in children_of(done)] == ["FAILED", "FINISHED", "FINISHED"]
    assert "3 trials: 2 finished, 1 failed" in done.printed
    assert "1 × cell 3: ZeroDivisionError: division by zero" in done.printed
    fixed = check_ended(store.sweep("partly", code, options=options), code=1)
    states = [r.info.status for r in children_of(fixed)]
    assert states == [
        "FAILED",
        "FAILED",
        "FINISHED",
        "FINISHED",
    ], "only the failed one is run again"


def test_a_sweep_without_a_finished_trial_fails(store):
    done = check_ended(store.sweep("none", "1 / 0", options=[*GOAL, "-v", "seed=1,2"]), "FAILED", 1)
    assert "2 trials: 2 failed" in done.printed


@pytest.mark.soak
def test_a_failure_is_retried_if_asked(store):
    code = """
import os, mlflow
tried = f'tried{seed}'
open(tried, 'a').write('x')
assert len(open(tried).read()) == 3
mlflow.log_metric('score', 1)"""
    options = [*GOAL, "-v", "seed=1,2", "--retries", "2"]
    done = check_ended(store.sweep("retried", code, options=options))
    assert [r.info.status for r in children_of(done)] == ["FAILED", "FAILED", "FINISHED"] * 2
    assert done.printed.count("it is tried again") == 4


@pytest.mark.soak
def test_a_trial_that_hangs_meets_its_time_limit(store):
    code = "import mlflow, time\nmlflow.log_metric('score', 1)\nif x: time.sleep(600)"
    options = [*GOAL, "-v", "x=0,1", "--timeout", "4"]
    done = check_ended(store.sweep("hangs", code, options=options), code=1)
    assert [r.info.status for r in children_of(done)] == ["FINISHED", "FAILED"]
    assert "the notebook ran over its limit of 4 s" in done.printed


def test_a_metric_that_is_not_there_or_no_number_is_told_with_those_that_are(store):
    code = "import mlflow\nmlflow.log_metric('scoer', 1)\nif seed: mlflow.log_metric('score', float('nan'))"
    done = check_ended(
        store.sweep("unmeasured", code, options=[*GOAL, "-v", "seed=0,1"]), "FAILED", 1
    )
    assert (
        "no number for the metric 'score': it logged scoer. Did you mean 'scoer'?" in done.printed
    )
    assert "no number for the metric 'score': it is nan" in done.printed


REFUSED = [
    (["-v", "x=1..3", "--sampler", "tpee"], "no sampler 'tpee'.*Did you mean 'tpe'"),
    (
        ["-v", "x=1..3", "--sampler", "gp"],
        "needs a package that is not installed: pip install torch",
    ),
    (["-v", "x=1..3", "--pruner", "mediann"], "no pruner 'mediann'.*Did you mean 'median'"),
    (["-v", "x=1..3", "--pruner", "median", "--seeds", "2"], "--pruner works with one seed"),
    (["-v", "x=1..3", "--watch", "a"], "give --pruner median, too"),
    (["-v", "x=1..3", "--memory", "lots"], "--memory lots: write a size such as 8GB"),
    (["-v", "seed=1..3", "--seeds", "2"], "--seeds 2: the sweep of .* varies it already"),
    ([], "nothing varies: give --space FILE"),
    (["--space", "nowhere.yaml"], "there is no space nowhere.yaml"),
    (["-v", "y=1..3"], "no parameter 'y'; it takes seed, x"),
    (["-v", "x=1..100000", "--sampler", "grid"], "the grid has 100,000 points; allowed are 10,000"),
    (["-v", "x=1..3", "--workers", "0"], "0 is not in the range"),
    (["-v", "x=1..3", "--workers", "999"], "999 is not in the range"),
    (["-v", "x=1..3", "--metric", "score"], "say which way is better: score:maximize or :minimize"),
    (
        ["-v", "x=1..3", "--storage", "sqlite:////tmp/x.db", "--sampler", "grid"],
        "leave --storage out",
    ),
    (["-v", "x=1..3", "--storage", "nonsense"], "--storage nonsense cannot be used"),
    (
        ["-v", "x=1..3", "--cluster", "tcp://127.0.0.1:9"],
        "scheduler tcp://127.0.0.1:9 does not answer",
    ),
]


@pytest.mark.parametrize(("options", "said"), sampled(REFUSED, REFUSED[0], REFUSED[9], REFUSED[13]))
def test_what_cannot_be_done_is_one_line_and_no_run(store, options, said):
    goal = [] if "--metric" in options else GOAL
    refused = store.sweep("refused", SCORE, options=[*goal, *options]).finish(60)
    assert refused.code in (1, 2) and re.search(said, refused.printed), refused.printed
    assert "Traceback" not in refused.printed and not refused.runs


def test_without_a_problem_the_metric_must_be_named_and_with_one_it_is_known(store):
    refused = store.sweep("goalless", SCORE, options=["-v", "x=1..3"]).finish()
    assert refused.code == 1 and "say what to optimize: --metric NAME:maximize" in refused.printed
    options = ["-v", "model=linear,dummy", "-p", "problem", "breast_cancer"]
    source = NOTEBOOKS / "02_train.ipynb"
    done = check_ended(store.launch("goal", source, "sweep", options, {}))
    assert "to maximize validation_roc_auc" in done.printed
    assert "best: validation_roc_auc 0.99" in done.printed
    tags = parent_of(done).data.tags
    assert tags["mlflow.workbook.sweep.best.model"].startswith("models:/m-")
    assert tags["mlflow.workbook.sweep.best.model"] in tags["mlflow.note.content"]
    trials = leaderboard.trials(problem.load("breast_cancer"), as_table(done.runs))
    assert trials.model.tolist() == ["linear", "dummy"] and trials.score.is_monotonic_decreasing
    assert "★ linear trial 0" in done.printed and "cross-validation" in done.printed
    page = done.store.client.download_artifacts(parent_of(done).info.run_id, "leaderboard.html")
    assert "★ linear trial 0" in Path(page).read_text("utf-8"), "the verdict stands on the page"
    experiment = done.store.client.get_experiment(parent_of(done).info.experiment_id)
    assert any(name.startswith(mlflow_seam.VIEW) for name in experiment.tags)


def as_table(runs):
    """`runs` as `tracking.runs` gives them to 03_compare, as far as it needs them."""
    return pd.DataFrame(
        {"run_id": run.info.run_id}
        | {f"tags.{name}": value for name, value in run.data.tags.items()}
        | {f"metrics.{name}": value for name, value in run.data.metrics.items()}
        for run in runs
    )


@pytest.mark.soak
def test_without_dask_a_cluster_is_refused_with_what_to_install(own_store):
    block = own_store.folder / "distributed.py"
    block.write_text("raise ImportError('not here', name='distributed')", "utf-8")
    source = write_notebook(own_store.folder / "n.ipynb", SCORE, parameters=X)
    environment = clean_environment() | {
        "MLFLOW_TRACKING_URI": own_store.uri,
        "PYTHONPATH": str(own_store.folder),
    }
    command = [
        sys.executable,
        "-m",
        "Codes.commands.cli",
        "sweep",
        str(source),
        *GOAL,
        "-v",
        "x=1..3",
    ]
    command += ["--cluster", "tcp://127.0.0.1:8786"]
    with Popen(command, cwd=ROOT, env=environment, stdout=PIPE, stderr=STDOUT, text=True) as child:
        printed, _ = child.communicate(timeout=120)
    assert child.returncode == 1 and "pip install 'dask[distributed]'" in printed, printed


# --- the machine


@pytest.mark.soak
def test_workers_share_the_processors_and_one_keeps_them_all(store, monkeypatch):
    for name in pool.THREADS:
        monkeypatch.delenv(name, raising=False)
    code = """
import mlflow, os
mlflow.log_metric('score', 1)
mlflow.set_tags({'threads': os.environ.get('OMP_NUM_THREADS'), 'jobs': os.environ.get('LOKY_MAX_CPU_COUNT')})"""
    cores = pool.processors()
    two = check_ended(
        store.sweep("two", code, options=[*GOAL, "-v", "seed=1..2", "--workers", "2"])
    )
    share = str(max(1, cores // 2))
    assert {(r.data.tags["threads"], r.data.tags["jobs"]) for r in children_of(two)} == {
        (share, share)
    }
    one = check_ended(
        store.sweep("one", code, options=[*GOAL, "-v", "seed=1..2", "--workers", "1"])
    )
    assert {r.data.tags["threads"] for r in children_of(one)} == {"None"}


def test_threads_are_divided_and_the_users_own_number_wins(monkeypatch):
    for name in pool.THREADS:
        monkeypatch.delenv(name, raising=False)
    assert pool.thread_limits(1, 8) == {}
    assert set(pool.thread_limits(3, 8).values()) == {"2"}
    assert set(pool.thread_limits(16, 8).values()) == {"1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert pool.thread_limits(2, 8)["OMP_NUM_THREADS"] == "5"


def test_free_memory_is_what_the_machine_has_at_most():
    assert 0 < pool.free_memory() <= psutil.virtual_memory().total


GREEDY = """
import mlflow, os, time
block = bytearray(400_000_000)
open(f'up{seed}', 'w').close()
time.sleep(1.5)
names = [n for n in os.listdir() if n.startswith('up')]
os.remove(f'up{seed}')
mlflow.log_metric('score', len(names))"""


@pytest.mark.soak
def test_a_sweep_that_would_fill_the_memory_is_slowed_and_says_so(store):
    options = [*GOAL, "-v", "seed=1..4", "--workers", "2", "--memory", "700MB"]
    done = check_ended(store.sweep("greedy", GREEDY, options=options))
    assert {r.data.metrics["score"] for r in children_of(done)} == {1}, "one at a time"
    assert re.search(
        r"memory: a trial takes up to \d+ MB and .* 1 at once instead of 2", done.printed
    )
    free = check_ended(store.sweep("free", GREEDY, options=options[:-2]))
    assert "memory:" not in free.printed


# --- ends from outside


HELD = """
import mlflow, os, time
open(f'begun{seed}', 'w').close()
for _ in range(3000):
    if os.path.exists('go'): break
    time.sleep(0.1)
mlflow.log_metric('score', seed)"""


def begun(execution, count=1):
    """Wait until `count` trials have begun."""
    wait_for(lambda: len(list(execution.folder.glob("begun*"))) >= count, execution)


def let_go(execution):
    """Let the trials end, those that are held and all that follow."""
    (execution.folder / "go").touch()


def test_ctrl_c_kills_what_is_active_and_tells_how_to_go_on(own_store):
    options = [*GOAL, "-v", "seed=1..5", "--workers", "2", "--sampler", "grid"]
    execution = own_store.sweep("stopped", HELD, options=options)
    begun(execution, 2)
    execution.signal(signal.SIGINT)
    check_ended(execution, "KILLED", 130)
    let_go(execution)
    children = children_of(execution)
    assert {r.info.status for r in children} == {"KILLED"} and len(children) == 2
    assert re.search(
        r"go on by the same command:\n  workbook sweep .*stopped.ipynb.*-v seed=1..5",
        execution.printed,
    )
    again = check_ended(own_store.sweep("stopped", HELD, options=options))
    assert len(children_of(again, "FINISHED")) == 5 and "2 to run again" in again.printed


@pytest.mark.soak
def test_an_impatient_ctrl_c_and_sigterm_leave_things_clean(own_store):
    execution = own_store.sweep(
        "impatient", HELD, options=[*GOAL, "-v", "seed=1..3", "--workers", "2"]
    )
    begun(execution)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
        execution.signal(number)
    assert execution.finish().code in (130, 143), execution.printed  # whichever arrived first
    check_ended(execution, "KILLED", execution.code)


def test_the_same_sweep_twice_at_once_is_refused(own_store):
    options = [*GOAL, "-v", "seed=1..2", "--workers", "1", "--sampler", "grid"]
    first = own_store.sweep("twice", HELD, options=options)
    begun(first)
    second = own_store.launch("twice", first.source, "sweep", options, {}).finish()
    assert second.code == 1 and "this sweep is running already" in second.printed
    let_go(first)
    check_ended(first)
    assert len(children_of(first)) == 2


@pytest.mark.soak
def test_two_commands_share_a_search_by_one_storage(own_store):
    storage = f"sqlite:///{own_store.folder}/search.db"
    options = [*GOAL, "-v", "x=-500000..500000", "--sampler", "random", "--trials", "8"]
    options += ["--workers", "1", "--storage", storage]
    first = own_store.sweep("shared", SCORE + "\nimport time; time.sleep(1)", options=options)
    wait_for(lambda: any("mlflow.workbook.sweep.trial" in r.data.tags for r in first.runs), first)
    options += ["--sampler-seed", "0"]
    second = own_store.launch("shared", first.source, "sweep", options, {})
    second.finish()
    check_ended(first)
    check_ended(second)
    children = children_of(first)
    told = [first.printed, second.printed, parent_of(first).data.tags]
    # each asks for one more until it sees that there are enough
    assert 8 <= len(children) <= 9, told
    assert len({r.data.tags["mlflow.workbook.sweep.trial"] for r in children}) == len(children)
    owners = {json.loads(r.data.tags["mlflow.workbook.owner"])["pid"] for r in children}
    assert len(owners) == 2, "both took part"
    assert int(parent_of(first).data.tags["mlflow.workbook.sweep.finished"]) >= 8


def test_what_changed_before_a_resume_is_said_and_run_again(own_store):
    helper = own_store.folder_of("moved") / "own_helper.py"
    helper.write_text("def score(x): return x", "utf-8")
    code = "import mlflow, own_helper\nmlflow.log_metric('score', own_helper.score(x))"
    options = [*GOAL, "-v", "x=1..3:1", "--sampler", "grid"]
    check_ended(own_store.sweep("moved", code, options=options))
    helper.write_text("def score(x): return -x", "utf-8")
    again = check_ended(own_store.sweep("moved", code, options=options))
    assert "own_helper.py changed since: 3 finished trials are run again" in again.printed
    assert len(children_of(again)) == 6 and "best: score -1 with x=1" in again.printed
    assert len(table_of(again)) == 3


def test_a_killed_worker_costs_its_trial_one_more_try(own_store):
    options = [*GOAL, "-v", "seed=1..3", "--workers", "1"]
    execution = own_store.sweep("robbed", HELD, options=options)
    begun(execution)
    running = wait_for(lambda: children_of(execution, "RUNNING"), execution)[0]
    os.kill(json.loads(running.data.tags["mlflow.workbook.owner"])["pid"], signal.SIGKILL)
    let_go(execution)
    check_ended(execution)
    states = [r.info.status for r in children_of(execution)]
    assert sorted(states) == ["FINISHED"] * 3 + ["KILLED"]
    assert re.search(
        r"the worker \d+ is gone: ended by SIGKILL, perhaps out of memory; it is tried again",
        execution.printed,
    )


@pytest.mark.soak
def test_a_worker_that_is_killed_again_and_again_fails_its_trial(own_store):
    code = "import json, mlflow, os, signal\nrun = mlflow.get_run(os.environ['WORKBOOK_RUN_ID'])\nif seed == 1:\n"
    code += (
        "    os.kill(json.loads(run.data.tags['mlflow.workbook.owner'])['pid'], signal.SIGKILL)\n"
    )
    code += "    import time; time.sleep(60)\n"
    code += "mlflow.log_metric('score', 1)"
    options = [*GOAL, "-v", "seed=1..2", "--workers", "1", "--sampler", "grid"]
    done = check_ended(own_store.sweep("murderous", code, options=options), code=1)
    assert [r.info.status for r in children_of(done)] == ["KILLED"] * 3 + ["FINISHED"]
    assert "2 trials: 1 finished, 1 failed" in done.printed


@pytest.mark.soak
def test_a_stopped_worker_is_given_up_and_its_late_write_refused(own_store):
    options = [*GOAL, "-v", "seed=1..2", "--workers", "1", "--sampler", "grid"]
    grace = {"WORKBOOK_GRACE_SECONDS": "6"}
    execution = own_store.sweep("frozen", HELD, options=options, environment=grace)
    begun(execution)
    running = wait_for(lambda: children_of(execution, "RUNNING"), execution)[0]
    pid = json.loads(running.data.tags["mlflow.workbook.owner"])["pid"]
    stop(SimpleNamespace(signal=lambda number: os.kill(pid, number), store=own_store))
    let_go(execution)
    check_ended(execution)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    states = [
        (r.data.tags["mlflow.workbook.sweep.trial"], r.info.status) for r in children_of(execution)
    ]
    assert states == [("0", "KILLED"), ("0", "FINISHED"), ("1", "FINISHED")]


@pytest.mark.soak
def test_a_bar_is_live_on_a_terminal(own_store):
    source = write_notebook(own_store.folder / "bar.ipynb", SCORE, parameters=X)
    environment = clean_environment() | {"MLFLOW_TRACKING_URI": own_store.uri, "TERM": "xterm"}
    environment |= {"COLUMNS": "120"}
    leader, follower = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "Codes.commands.cli",
        "sweep",
        str(source),
        *GOAL,
        "-v",
        "x=1..4",
    ]
    shown = []

    def read():
        while True:
            try:
                shown.append(os.read(leader, 10_000).decode("utf-8", "replace"))
            except OSError:
                return

    with Popen(command, cwd=ROOT, env=environment, stdout=follower, stderr=follower) as child:
        os.close(follower)
        threading.Thread(target=read, daemon=True).start()
        assert child.wait(180) == 0, "".join(shown)
    assert re.search(r"4/\d+ .*running 0, failed 0, best 10", "".join(shown)), "".join(shown)
