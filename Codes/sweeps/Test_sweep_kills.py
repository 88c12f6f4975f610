"""A sweep killed by SIGKILL at random moments, and resumed: one finished run a point, none twice, nothing lost."""

import contextlib
import os
import random
import signal
import time
import pytest

from Codes.runs import liveness
from Codes.sweeps.Test_sweep import GOAL, check_ended, children_of, parent_of, table_of
from Codes.testing.cases import sampled
from Codes.testing.testbed import processes_of, wait_for

STEPS = 8
CODE = f"""
import mlflow, time
for step in range({STEPS}):
    mlflow.log_metric('course', x + step, step=step)
    time.sleep(0.02)
mlflow.log_metric('score', -abs(x - 5))"""
OPTIONS = [*GOAL, "--workers", "2", "--sampler", "grid"]


def kill(execution, everything):
    """SIGKILL the sweep; `everything`: with its workers and their kernels."""
    os.kill(execution.pid, signal.SIGKILL)
    execution.process.join(10)
    if everything:
        kill_workers(execution)


def kill_workers(execution):
    """SIGKILL the workers that execute the sweep's trials, and the trials' kernels."""
    running = [r for r in execution.runs if r.info.status == "RUNNING"]
    for run in [r for r in running if "mlflow.workbook.sweep.trial" in r.data.tags]:
        pids = [liveness.owner_of(run)["pid"]]
        for pid in [*pids, *(p.pid for p in processes_of(run.info.run_id))]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def check_whole(execution, points):
    """Check the store after a resumed sweep has ended: every point once, whole, and nobody at work."""
    assert parent_of(execution).info.status == "FINISHED"
    finished = children_of(execution, "FINISHED")
    assert sorted(int(r.data.params["x"]) for r in finished) == list(range(1, points + 1))
    assert {r.info.status for r in execution.runs} <= {"FINISHED", "KILLED"}
    for run in finished:
        x = int(run.data.params["x"])
        course = execution.store.client.get_metric_history(run.info.run_id, "course")
        assert [(m.step, m.value) for m in sorted(course, key=lambda m: m.step)] == [
            (step, x + step) for step in range(STEPS)
        ]
    for run in execution.runs:
        assert not processes_of(run.info.run_id)
    assert len(table_of(execution)) == points
    tags = parent_of(execution).data.tags
    assert tags["mlflow.workbook.sweep.best.x"] == str(min(5, points)) and tags[
        "mlflow.workbook.sweep.finished"
    ] == str(points)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("moments, points", sampled([(2, 4), (20, 12)], 2))
def test_random_moments_of_sigkill_lose_and_double_nothing(own_store, moments, points):
    chance, kills, sweeps = random.Random(4), 0, 0
    options = [*OPTIONS, "-v", f"x=1..{points}"]
    while kills < moments:
        sweeps += 1
        name = f"killed{sweeps}"
        while True:
            execution = own_store.sweep(name, CODE, options=options)
            end = time.monotonic() + chance.uniform(0.1, 3.5)
            while execution.code is None and time.monotonic() < end and kills < moments:
                time.sleep(0.02)
            if execution.code is not None or kills >= moments:
                break
            kill(execution, everything=chance.random() < 0.5)
            kills += 1
        check_ended(execution)
        check_whole(execution, points)


FOLD = """
import mlflow, time
with mlflow.start_run(run_name='fold', nested=True):
    open(f'begun{x}', 'w').close()
    time.sleep(600)"""


@pytest.mark.soak
def test_runs_that_the_trials_of_a_killed_sweep_have_begun_are_closed_with_them(own_store):
    execution = own_store.sweep("folds", FOLD, options=[*GOAL, "-v", "x=1,2", "--workers", "2"])
    wait_for(lambda: len(list(execution.folder.glob("begun*"))) == 2, execution)
    execution.signal(signal.SIGSTOP)  # else a worker that misses it ends its trial by itself
    kill_workers(execution)
    kill(execution, everything=False)
    assert [r.info.status for r in execution.runs] == ["RUNNING"] * 5
    assert own_store.start("following", "1").finish().code == 0
    assert [r.info.status for r in execution.runs] == ["KILLED"] * 5
    assert not any(processes_of(run.info.run_id) for run in execution.runs)
