"""Sweeps on a real Dask cluster: scheduler, workers and tracking server are processes; each has a folder of its own."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import papermill  # pylint: disable=unused-import  # it imports our engine, and must come first
import psutil
import pytest
from distributed import LocalCluster

from Codes.ground import paths
from Codes.ground.errors import WorkbookError
from Codes.ground.paths import ROOT
from Codes.serving.client import free_port
from Codes.sweeps.Test_sweep import GOAL, children_of, parent_of, table_of
from Codes.testing.testbed import Store, X, clean_environment, wait_for, write_notebook
from Codes.trial_workers.pool import Cluster
from Codes.warm.Test_warm import LIGHT

CODE = """
import os, time
import mlflow
from Codes.ground import paths
mlflow.set_tag('place', paths.ROOT.name)
mlflow.set_tag('folder', os.path.relpath('.', paths.ROOT))
for step in range(5):
    mlflow.log_metric('course', step, step=step)
    time.sleep(0.2)
mlflow.log_metric('score', -abs(x - 3))"""
NOTEBOOK = "notebooks/90_cluster.ipynb"


def checkout(folder, name):
    """A folder `name` with what the workbook needs, as another machine would have it."""
    place = folder / name
    for part in ("Codes", "Resources"):
        ignored = shutil.ignore_patterns("Test_*", "data")
        shutil.copytree(ROOT / part, place / part, ignore=ignored)
    (place / "Resources/warm.yaml").write_text(LIGHT)
    (place / "notebooks").mkdir()
    shutil.copy(folder / "n.ipynb", place / NOTEBOOK)
    return place


class Part:
    """A process of the cluster, `python -m arguments…`, in the folder `place`."""

    def __init__(self, place, *arguments, **environment):
        given = clean_environment() | {"PYTHONPATH": str(place)} | environment
        with open(place.with_suffix(".log"), "ab") as log:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                [sys.executable, "-m", *arguments],
                cwd=place,
                env=given,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self):
        """SIGKILL it and all that it started."""
        try:
            family = [self.process, *psutil.Process(self.process.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()


class Dask:
    """A scheduler at a fixed port, and workers by name."""

    def __init__(self, folder):
        self.folder, self.port, self.workers, self.scheduler = folder, free_port(), {}, None
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.start_scheduler()

    def start_scheduler(self):
        """Start it, again after it was killed."""
        place = self.folder / "scheduler"
        place.mkdir(exist_ok=True)
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        self.scheduler = Part(place, "dask", "scheduler", *options)

    def start_worker(self, name):
        """Start the worker `name`, in its own checkout."""
        place = self.folder / name
        if not place.exists():
            checkout(self.folder, name)
        options = ["--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"]
        options += ["--local-directory", str(place / "scratch"), "--name", name]
        self.workers[name] = Part(place, "dask", "worker", self.address, *options)

    def kill_worker(self, name):
        """SIGKILL a worker, its nanny, and the process that executes its trial, as when its machine goes."""
        self.workers.pop(name).kill()

    def close(self):
        """Kill everything."""
        for part in [*self.workers.values(), self.scheduler]:
            part.kill()


@pytest.fixture(scope="module", name="dask")
def fixture_dask(tmp_path_factory):
    """A cluster with the workers `north` and `south`."""
    folder = tmp_path_factory.mktemp("dask")
    write_notebook(folder / "n.ipynb", CODE, parameters=X)
    dask = Dask(folder)
    for name in ("north", "south"):
        dask.start_worker(name)
    checkout(folder, "desk")
    yield dask
    dask.close()


@pytest.fixture(name="sweep")
def fixture_sweep(server, dask):
    """Starts a sweep `name` from the desk's own checkout; returns its Desk."""
    started = []

    def start(name, *options):
        started.append(Desk(server, dask, name, options))
        return started[-1]

    yield start
    for desk in started:
        desk.part.kill()


class Desk:
    """A sweep under way from the desk, with the face of a testbed's Execution."""

    def __init__(self, server, dask, name, options):
        self.store, self.name = Store(server.uri, dask.folder), name
        self.place = dask.folder / "desk"
        self.place.with_suffix(".log").unlink(missing_ok=True)
        command = [
            "Codes.commands.cli",
            "sweep",
            NOTEBOOK,
            *GOAL,
            "--cluster",
            dask.address,
            "--force",
        ]
        command += options
        given = {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_EXPERIMENT_NAME": name}
        self.part = Part(self.place, *command, **given)

    @property
    def code(self):
        """The exit code; None while it runs."""
        return self.part.process.poll()

    @property
    def printed(self):
        """What it printed so far."""
        return self.place.with_suffix(".log").read_text("utf-8", "replace")

    @property
    def runs(self):
        """The runs of its experiment."""
        return self.store.runs(self.name)

    def begun(self, count=1):
        """Wait until `count` trials have begun; returns the running ones."""
        wait_for(lambda: self.runs and len(children_of(self)) >= count, self)
        return children_of(self, "RUNNING")

    def check(self, points):
        """Wait for the end, and check that there is one whole finished run for each of `points`; returns these."""
        self.part.process.wait(240)
        assert self.code == 0 and "Traceback" not in self.printed, self.printed
        assert parent_of(self).info.status == "FINISHED"
        finished = children_of(self, "FINISHED")
        assert sorted(int(r.data.params["x"]) for r in finished) == points, self.printed
        assert not children_of(self, "RUNNING")
        for run in finished:
            course = self.store.client.get_metric_history(run.info.run_id, "course")
            assert [m.step for m in sorted(course, key=lambda m: m.step)] == list(range(5))
        assert len(table_of(self)) == len(points)
        return finished


def test_trials_run_on_all_workers_into_the_shared_server(sweep, dask):
    desk = sweep("spread", "-v", "x=1..4")
    finished = desk.check(list(range(1, 5)))
    assert {r.data.tags["place"] for r in finished} == set(dask.workers)
    assert {r.data.tags["folder"] for r in finished} == {"notebooks"}, "the notebook's own"
    assert "best: score 0 with x=3" in desk.printed
    names = {f.path for f in desk.store.client.list_artifacts(finished[0].info.run_id)}
    assert {"notebook.ipynb", "notebook.html"} <= names


@pytest.mark.soak
def test_a_worker_that_is_killed_loses_no_trial(sweep, dask):
    desk = sweep("killed", "-v", "x=1..4")
    running = desk.begun(2)
    dask.kill_worker("south")
    try:
        desk.check(list(range(1, 5)))
        assert running
    finally:
        dask.start_worker("south")


@pytest.mark.soak
def test_a_worker_that_comes_late_takes_part(sweep, dask):
    desk = sweep("late", "-v", "x=1..8")
    desk.begun(1)
    os.kill(
        desk.part.process.pid, signal.SIGSTOP
    )  # else it may be through before the worker is there
    dask.start_worker("east")
    try:
        wait_for(lambda: "Registered to" in (dask.folder / "east.log").read_text("utf-8"))
        os.kill(desk.part.process.pid, signal.SIGCONT)
        finished = desk.check(list(range(1, 9)))
        assert "east" in {r.data.tags["place"] for r in finished}
    finally:
        dask.kill_worker("east")


@pytest.mark.soak
def test_a_scheduler_that_is_restarted_is_waited_for(sweep, dask):
    desk = sweep("restarted", "-v", "x=1..4")
    desk.begun(2)
    dask.scheduler.kill()
    time.sleep(1)
    dask.start_scheduler()
    for name in list(dask.workers):  # as a cluster's manager does: they end with their scheduler
        dask.kill_worker(name)
        dask.start_worker(name)
    desk.check(list(range(1, 5)))
    assert re.search(r"the scheduler .* is away; waiting for it", desk.printed), desk.printed


@pytest.mark.soak
def test_a_tracking_server_that_is_restarted_loses_and_doubles_nothing(sweep, server):
    desk = sweep("untracked", "-v", "x=1..4", "--retries", "1")
    desk.begun(2)
    server.kill()
    server.start()
    desk.check(list(range(1, 5)))


@pytest.mark.soak
def test_a_worker_with_other_code_is_refused_by_what_differs(sweep, dask):
    changed = dask.folder / "north" / "Codes" / "ground" / "paths.py"
    before = changed.read_text("utf-8")
    changed.write_text(before + "\nMORE = 1\n", "utf-8")
    try:
        desk = sweep("differs", "-v", "x=1..4")
        desk.part.process.wait(240)
        assert desk.code == 1
        assert re.search(
            "has another state than the sweep: Codes/ground/paths.py changed", desk.printed
        )
        places = {r.data.tags.get("place") for r in children_of(desk, "FINISHED")}
        assert places <= {"south"}
    finally:
        changed.write_text(before, "utf-8")


def test_an_error_on_a_worker_fails_its_trial_and_is_no_lost_scheduler(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(paths, "EXECUTED", tmp_path / "file")  # such as a folder that is on no disk
    alone = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "protocol": "tcp"}
    told = []
    with LocalCluster(**alone, dashboard_address="127.0.0.1:0") as cluster:
        pool = Cluster(cluster.scheduler_address, told.append)
        with pytest.raises(WorkbookError, match="a worker of the cluster failed: FileExistsError"):
            pool.submit({"id": "0.0.1", "sweep": "s"}).result(60)
        pool.close()
    assert not told


@pytest.mark.soak
def test_ctrl_c_ends_the_trials_on_the_cluster(sweep):
    desk = sweep("stopped", "-v", "x=1..4")
    desk.begun(2)
    os.kill(desk.part.process.pid, signal.SIGINT)
    desk.part.process.wait(120)
    assert desk.code == 130 and "go on by the same command" in desk.printed, desk.printed
    assert parent_of(desk).info.status == "KILLED"
    wait_for(lambda: not children_of(desk, "RUNNING"))
