"""Processes that execute a sweep's trials: on this machine, or as tasks of a Dask cluster.

A pool has `capacity()`, `submit(task)` (a concurrent Future of the trial's facts), `interrupt()` and `close()`. A task
is a dict that can be sent anywhere; a worker executes it by the same engine as a single run.

loky's workers are started anew (five seconds of imports each), and none can be interrupted alone; those of
multiprocessing's fork server have imported everything. The template of warm kernels is no place for them: it must
never have loaded the workbook's own code.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import psutil

from Codes.ground import dask_cluster, paths
from Codes.ground.errors import WorkbookError, first_line
from Codes.trial_workers import worker
from Codes.trial_workers.worker import Facts, Task

# imported once, in the server that the workers are forked from; papermill imports our engine, and formats by black
PRELOAD = ["papermill.cli", "Codes.trial_workers.worker", "nbconvert", "black"]
DATABASE = "mlflow.store.tracking.sqlalchemy_store"  # which MLflow imports as it opens one
THREADS = (
    "OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS NUMEXPR_NUM_THREADS LOKY_MAX_CPU_COUNT"
).split()
RECONNECT = 300.0  # seconds that a cluster's scheduler may be away
LOST = 3  # times that a trial is tried where its worker is lost


def preloaded() -> list[str]:
    """The modules that all workers need: where the store is a database, what reads it, too (a second for each)."""
    is_database = not os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http")
    return [*PRELOAD, DATABASE] if is_database else PRELOAD


class WorkerLost(Exception):
    """The process that executed a trial is gone: killed, or out of memory."""


def processors() -> int:
    """How many processors this process may use: its affinity, a container's quota and LOKY_MAX_CPU_COUNT count."""
    import joblib

    return joblib.cpu_count()


def thread_limits(workers: int, cores: int | None = None) -> dict[str, str]:
    """The environment by which `workers` kernels on `cores` processors do not fight; the user's own variables win."""
    if workers < 2:
        return {}
    share = str(max(1, (cores or processors()) // workers))
    return {name: os.environ.get(name, share) for name in THREADS}


def free_memory() -> float:
    """Bytes that can still be taken, of the machine or of this process's control group, whichever has less."""
    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError, LookupError):
        group = Path("/proc/self/cgroup").read_text("ascii").rpartition("0::")[2].strip()
        folder = Path(f"/sys/fs/cgroup{group}")
        facts = dict(
            line.split() for line in (folder / "memory.stat").read_text("ascii").splitlines()
        )
        # files that were read and may be forgotten again are counted as taken
        taken = int((folder / "memory.current").read_text("ascii")) - int(facts["inactive_file"])
        free = min(free, int((folder / "memory.max").read_text("ascii")) - taken)
    return free


class Worker:
    """A process that executes one task at a time; forked from a server that has imported all, or started anew."""

    def __init__(self, environment: dict[str, str], log: Path, anew: bool = False) -> None:
        self.connection, theirs = Pipe()
        self.task: Task | None = None
        self.process: subprocess.Popen | multiprocessing.process.BaseProcess
        if anew:  # inside a Dask worker, whose process may not have children by multiprocessing
            with open(log, "ab") as sink:
                self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                    [sys.executable, "-m", worker.__name__, str(theirs.fileno()), str(log)],
                    env=os.environ | environment,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    cwd=paths.ROOT,
                )
        else:
            forks = multiprocessing.get_context("forkserver")
            forks.set_forkserver_preload(preloaded())
            everything = dict(os.environ) | environment
            self.process = forks.Process(target=worker.serve, args=(theirs, str(log), everything))
            self.process.start()
        theirs.close()

    def run(self, task: Task) -> Facts:
        """Execute `task` and return its facts; a WorkerLost where the process ends meanwhile."""
        self.task = task
        try:
            self.connection.send(task)
            return self.connection.recv()
        except (OSError, EOFError) as error:
            raise WorkerLost(f"the worker {self.process.pid} is gone: {self._end()}") from error
        finally:
            self.task = None

    def _end(self) -> str:
        if isinstance(self.process, subprocess.Popen):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
            code = self.process.returncode
        else:
            self.process.join(5)
            code = self.process.exitcode
        if code is not None and code < 0:
            return f"ended by {signal.Signals(-code).name}" + (
                ", perhaps out of memory" * (code == -9)
            )
        return f"exit status {code}"

    def signal(self, number: int) -> None:
        """Send the process a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            if self.process.pid is not None:
                os.kill(self.process.pid, number)

    def close(self) -> None:
        """Let it go: with nobody to listen to, it ends, and records what it is at."""
        self.connection.close()


def run_in(
    thread: threading.local, everyone: list[Worker], make: Callable[[], Worker], task: Task
) -> Facts:
    """Execute `task` by the worker of this `thread` (a threading.local), made where there is none; returns its facts.

    `everyone` lists the workers of all threads; one that is lost leaves it, and the thread's next task gets another.
    """
    if not getattr(thread, "worker", None):
        thread.worker = make()
        everyone.append(thread.worker)
    try:
        return thread.worker.run(task)
    except WorkerLost:
        everyone.remove(thread.worker)
        thread.worker.close()
        thread.worker = None
        raise


class Local:
    """`workers` processes on this machine."""

    is_here = True

    def __init__(self, workers: int, log: Path) -> None:
        self.workers, self.log, self.environment = workers, log, thread_limits(workers)
        self.threads, self.mine = ThreadPoolExecutor(workers), threading.local()
        self.all: list[Worker] = []
        self.closed = False

    def start(self) -> None:
        """Begin to import what workers need, in the server that they are forked from."""
        from multiprocessing import forkserver

        forkserver.set_forkserver_preload(preloaded())
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for us; it inherits this
        try:
            forkserver.ensure_running()
        finally:
            signal.signal(signal.SIGINT, before)

    def capacity(self) -> int:
        """How many trials at once."""
        return self.workers

    def submit(self, task: Task) -> Future[Facts]:
        """A Future of the facts of `task`; a WorkerLost where its process is killed."""
        return self.threads.submit(self._run, task)

    def _run(self, task: Task) -> Facts:
        if self.closed:
            raise WorkerLost("the sweep has ended")
        return run_in(self.mine, self.all, lambda: Worker(self.environment, self.log), task)

    def abandon(self, task: Task) -> None:
        """Kill the worker that is stuck with `task`: its Future becomes a WorkerLost."""
        for each in self.all:
            if each.task is task:
                each.signal(signal.SIGKILL)

    def interrupt(self) -> None:
        """Let each worker end its trial as Ctrl-C does."""
        self.closed = True
        for each in self.all:
            each.signal(signal.SIGINT if each.task else signal.SIGTERM)

    def close(self) -> None:
        """End all workers."""
        self.closed = True
        for each in self.all:
            each.close()
            each.signal(signal.SIGTERM)
        self.threads.shutdown(wait=False, cancel_futures=True)


class Cluster:
    """The workers of the Dask cluster at `address`; a scheduler that goes away is waited for."""

    is_here = False

    def __init__(self, address: str, tell: Callable[[str], None]) -> None:
        self.address, self.tell, self.lock = address, tell, threading.Lock()
        self.sweep, self.closed = "", False
        self.threads = ThreadPoolExecutor(1000)
        self.client = dask_cluster.connect(address, 10)

    def start(self) -> None:
        """Nothing: its workers run already."""

    def capacity(self) -> int:
        """How many trials at once: the threads of all workers that there are now."""
        with contextlib.suppress(Exception):
            return max(1, sum(self.client.nthreads().values()))
        return 1

    def submit(self, task: Task) -> Future[Facts]:
        """A Future of the facts of `task`."""
        self.sweep = task["sweep"]
        return self.threads.submit(self._run, task)

    def _run(self, task: Task) -> Facts:
        from distributed import KilledWorker

        end = time.monotonic() + RECONNECT
        while not self.closed:
            client, future = self.client, None
            try:
                future = client.submit(
                    on_cluster, task, pure=False, key=f"trial-{task['id']}-{time.monotonic_ns()}"
                )
                return future.result()
            except (WorkbookError, WorkerLost):
                raise
            except KilledWorker as error:  # Dask has tried it on some already
                raise WorkbookError(f"its workers were lost: {first_line(error)}") from error
            except Exception as error:  # pylint: disable=broad-exception-caught
                if future is not None and future.status == "error":
                    reason = first_line(error, named=True)
                    raise WorkbookError(f"a worker of the cluster failed: {reason}") from error
                # the scheduler is gone, and with it what it knew
                if time.monotonic() > end:
                    raise WorkerLost(
                        f"the cluster was away for {RECONNECT:g} s: {error!r}"
                    ) from error
                self._reconnect(client)
        raise WorkerLost("the sweep has ended")

    def _reconnect(self, broken: Any) -> None:
        with self.lock:
            if self.client is not broken or self.closed:
                return
            self.tell(f"the scheduler {self.address} is away; waiting for it")
            with contextlib.suppress(Exception):
                broken.close(timeout=1)
            end = time.monotonic() + RECONNECT
            while not self.closed:
                try:
                    self.client = dask_cluster.connect(self.address, 5)
                    self.tell(f"the scheduler {self.address} is back")
                    return
                except WorkbookError:
                    if time.monotonic() > end:
                        return
                    time.sleep(1)

    def abandon(self, task: Task) -> None:
        """Nothing: the task's own worker ends it once its run is closed."""

    def interrupt(self) -> None:
        """Let each worker of the cluster end its trials of this sweep."""
        self.closed = True
        with contextlib.suppress(Exception):
            self.client.run(end_on_worker, self.sweep)

    def close(self) -> None:
        """Leave the cluster."""
        self.closed = True
        with contextlib.suppress(Exception):
            self.client.close(timeout=5)
        self.threads.shutdown(wait=False, cancel_futures=True)


Pool = Local | Cluster

_here = threading.local()
_all_here: list[Worker] = []


def on_cluster(task: Task) -> Facts:
    """Execute `task` inside a Dask worker: in a process of its own, which stays for the next one."""
    log = paths.EXECUTED / "cluster-worker.log"
    log.parent.mkdir(exist_ok=True)
    return run_in(
        _here, _all_here, lambda: Worker(thread_limits(_threads_here()), log, anew=True), task
    )


def _threads_here() -> int:
    from distributed import get_worker

    return get_worker().state.nthreads


def end_on_worker(sweep: str) -> None:
    """End, inside a Dask worker, what it executes of `sweep`."""
    for each in list(_all_here):
        if each.task and each.task["sweep"] == sweep:
            each.signal(signal.SIGINT)
