"""What a sweep's worker does: it executes one trial after another, by the same engine as a single run."""

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any, NotRequired, TypedDict

from Codes.ground import paths
from Codes.ground.errors import WorkbookError

PARTING = 60.0  # seconds to record a trial once nobody waits for it any more


class Options(TypedDict, total=False):
    """How the engine is to execute a trial (see MlflowEngine.execute_notebook), beside its notebook and values."""

    tags: dict[str, str]
    run_name: str
    score: str
    experiment_id: str
    execution_timeout: float | None
    notebook_timeout: float | None
    beat: float
    expected: dict[str, str]
    packages: dict[str, str]


class Task(TypedDict):
    """A trial to be executed, as it is sent to a worker; `settle` names the tags that tell the same trial again."""

    id: str
    sweep: str
    store: str
    notebook: str
    values: dict[str, Any]
    kernel: str | None
    settle: list[str]
    options: Options


class Facts(TypedDict):
    """What came of a trial, as its worker sends it back; `away`: it left no run since the store was away."""

    run_id: str | None
    status: str
    metrics: dict[str, float]
    tags: dict[str, str]
    error: str
    seconds: NotRequired[float]
    interrupted: NotRequired[bool]
    away: NotRequired[bool]


def serve(connection: Connection, log: str, environment: Mapping[str, str] | None = None) -> None:
    """Be a worker: execute what comes over `connection`, until it is closed; what is printed goes to the file `log`."""
    os.setsid()  # Ctrl-C in the terminal is the sweep's, which tells its workers
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(sink, stream)
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tasks = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, tasks), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt, SystemExit, OSError):
        while (task := tasks.get()) is not None:
            connection.send(perform(task))
    os._exit(0)


def _listen(connection: Connection, tasks: queue.SimpleQueue[Task | None]) -> None:
    """Put what comes into `tasks`; once nobody is there any more, end the trial under way as SIGTERM does."""
    with contextlib.suppress(OSError, EOFError):
        while True:
            tasks.put(connection.recv())
    tasks.put(None)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PARTING)
    os._exit(1)


class AlreadyDone(Exception):
    """Another worker has executed this trial already."""


def settle(task: Task) -> str | None:
    """The id of the run by which another worker has finished `task`; one that is still running elsewhere is closed.

    So a trial that is sent twice, since its worker or the scheduler was thought dead, is not finished twice.
    """
    import mlflow
    from mlflow import MlflowClient

    from Codes.runs import liveness
    from Codes.fingerprints import fingerprint
    from Codes.stores.store import all_runs

    mlflow.set_tracking_uri(task["store"])
    client, options = MlflowClient(), task["options"]
    same = {tag: options["tags"][tag] for tag in task["settle"]}
    for run in list(all_runs(client, experiments=[options["experiment_id"]], tags=same)):
        if run.info.status == "RUNNING":
            liveness.close(client, run)
        run = client.get_run(run.info.run_id)
        if run.info.status == "FINISHED" and fingerprint.parts_of(run) == options["expected"]:
            return run.info.run_id
    return None


def without_run(status: str, error: str) -> Facts:
    """The facts of a trial that left no run, or none that could be read."""
    return {"run_id": None, "status": status, "metrics": {}, "tags": {}, "error": error}


def perform(task: Task) -> Facts:
    """Execute the trial that `task` tells of, and return its facts: run_id, status, metrics, error, what it took."""
    from mlflow import MlflowClient
    from mlflow.entities import LifecycleStage

    from Codes.running import runner

    started, ended, error, away = time.monotonic(), False, "", False
    opened: list[str] = []
    os.environ["MLFLOW_TRACKING_URI"] = task["store"]
    path = paths.ROOT / task["notebook"]
    try:
        if task["settle"] and (done := settle(task)):
            opened.append(done)
            raise AlreadyDone
        runner.run(
            path,
            task["values"],
            None,
            kernel=task["kernel"],
            progress=False,
            opened=lambda run: opened.append(run.info.run_id),
            autosave_cell_every=0,
            **task["options"],
        )
    except AlreadyDone:
        pass
    except (KeyboardInterrupt, SystemExit):
        ended, error = True, "interrupted"
    except Exception as failure:  # pylint: disable=broad-exception-caught
        error, away = _first_line(failure), not opened and failure.__cause__ is not None
    facts = without_run("FAILED", error)
    try:
        if opened:
            facts["run_id"] = opened[0]
            run = MlflowClient().get_run(opened[0])
            if (
                run.info.lifecycle_stage == LifecycleStage.ACTIVE
            ):  # one that was deleted is a failed trial
                facts["status"], facts["metrics"] = run.info.status, run.data.metrics
                facts["tags"] = dict(run.data.tags)
    except Exception as failure:  # pylint: disable=broad-exception-caught
        facts["error"] = error or _first_line(failure)
    if ended and not opened:
        facts["status"] = "KILLED"
    return {
        **facts,
        "seconds": time.monotonic() - started,
        "interrupted": ended,
        "away": away,
    }


def _first_line(error: BaseException) -> str:
    name = getattr(error, "ename", type(error).__name__)
    text = getattr(error, "evalue", None) or getattr(error, "message", None) or str(error)
    cell = getattr(error, "cell_index", None)
    where = f"cell {cell + 1}: " if cell is not None else ""
    words = text if isinstance(error, WorkbookError) else f"{name}: {text}"
    return (where + words).partition("\n")[0][:500]


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), sys.argv[2])
