"""Many writers at once: the store keeps all that was logged, and the living are not declared dead."""

import json
import os
import time

import mlflow
import pytest
from mlflow import MlflowClient

from Codes.running.Test_stores import opener
from Codes.runs import liveness, tracking
from Codes.sweeps.Test_sweep import GOAL, check_ended, children_of
from Codes.testing.testbed import FORKS, PATIENCE, Store, wait_for

pytestmark = pytest.mark.soak
METRICS = 100
LOGS = f"""
import mlflow
for step in range({METRICS}):
    mlflow.log_metric('m', x + step, step=step)
mlflow.log_metric('score', x)"""


@pytest.mark.timeout(600)
def test_eight_workers_lose_none_of_1600_metrics_in_sqlite(own_store):
    options = [*GOAL, "-v", "x=1..16", "--sampler", "grid", "--workers", "8"]
    execution = own_store.sweep("many", LOGS, options=options)
    execution.finish(500)
    check_ended(execution)
    children = children_of(execution)
    assert [int(r.data.params["x"]) for r in children] == list(range(1, 17))
    for run in children:
        x = int(run.data.params["x"])
        history = own_store.client.get_metric_history(run.info.run_id, "m")
        kept = sorted((m.step, m.value) for m in history)
        assert kept == [(step, x + step) for step in range(METRICS)]
        files = {f.path for f in own_store.client.list_artifacts(run.info.run_id)}
        assert "kernel.log" not in files, "the kernel was silent: nothing of a locked database"
    assert "locked" not in execution.printed


@pytest.mark.timeout(600)
def test_a_new_store_is_opened_by_eight_at_once_again_and_again(tmp_path):
    for i in range(2):
        starts = [opener(f"sqlite:///{tmp_path}/new{i}.db") for _ in range(8)]
        for start in starts:
            start.join(PATIENCE)
        assert [start.exitcode for start in starts] == [0] * 8


def own_runs(uri, count, elsewhere, ready):
    """Be a process that owns `count` runs with heartbeats; `elsewhere`: as seen from another machine."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    tracking.use_store()
    client, experiment = MlflowClient(), tracking.ensure_experiment("alive")
    claim = liveness.claim()
    if elsewhere:
        claim[liveness.OWNER] = json.dumps(json.loads(claim[liveness.OWNER]) | {"boot": "another"})
    for _ in range(count):
        run = client.create_run(experiment, tags=claim)
        liveness.Heartbeat(run.info.run_id).start()
    ready.wait(PATIENCE)
    time.sleep(600)


def burn():
    """Be a process that takes a whole processor."""
    while True:
        pass


@pytest.mark.timeout(600)
def test_none_of_200_live_runs_is_declared_dead_under_full_load(own_store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own_store.uri)
    ready = FORKS.Barrier(21)
    owners = [
        FORKS.Process(target=own_runs, args=(own_store.uri, 10, i % 2 == 0, ready))
        for i in range(20)
    ]
    burners = [FORKS.Process(target=burn) for _ in range(2 * os.cpu_count())]
    for process in owners:
        process.start()
    try:
        ready.wait(PATIENCE)
        for process in burners:
            process.start()
        mlflow.set_tracking_uri(own_store.uri)
        end = time.monotonic() + 12
        while time.monotonic() < end:
            assert liveness.close_dead_runs() == []
        runs = own_store.runs("alive")
        assert len(runs) == 200 and {r.info.status for r in runs} == {"RUNNING"}
        owners[1].kill()
        owners[1].join()
        assert len(liveness.close_dead_runs()) == 10, "and the dead are"
    finally:
        mlflow.set_tracking_uri(None)
        for process in owners + burners:
            if process.pid:
                process.kill()


@pytest.mark.timeout(1800)
def test_a_server_killed_and_started_again_four_times_under_a_sweep_loses_nothing(server, tmp_path):
    store = Store(server.uri, tmp_path)
    log = "import mlflow, time\nfor i in range(20):\n    mlflow.log_metric('m', i, step=i)\n"
    log += "    time.sleep(0.1)\nmlflow.log_metric('score', x)"
    options = [*GOAL, "-v", "x=1..10", "--sampler", "grid", "--workers", "2", "--retries", "3"]
    execution = store.sweep("outages", log, options=options)
    wait_for(lambda: execution.runs, execution)
    for _ in range(4):
        time.sleep(2)
        server.kill()
        time.sleep(0.5)
        server.start()
    execution.finish(1200)
    check_ended(execution)
    finished = children_of(execution, "FINISHED")
    points = sorted(int(r.data.params["x"]) for r in finished)
    assert points == list(range(1, 11)), execution.printed
    for run in finished:
        history = store.client.get_metric_history(run.info.run_id, "m")
        assert [m.step for m in history] == list(range(20))
