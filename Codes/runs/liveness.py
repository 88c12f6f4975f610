"""Which running runs are alive, and closing those whose process is gone: MLflow itself has no heartbeat.

A run's owner writes down the machine's boot, its process id and that process's start. On the same boot these decide,
whatever the clock says. From elsewhere a heartbeat decides: one that is old, and stands still while it is watched.
"""

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Self

import psutil
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from Codes.ground.variables import OWNED
from Codes.seams import mlflow_seam
from Codes.stores.store import all_runs

OWNER = "mlflow.workbook.owner"
HEARTBEAT = "mlflow.workbook.heartbeat"
CLOSED = "mlflow.workbook.closed_by"
STOP = "mlflow.workbook.stop"  # its value is the reason for which a run is asked to stop early
ERROR = "mlflow.workbook.error"
MESSAGE = "mlflow.workbook.error.message"
NOTE = "mlflow.note.content"  # what the UI shows as the description
PERIOD = 4.0  # seconds between two heartbeats; a watcher waits twice as long
GRACE = "WORKBOOK_GRACE_SECONDS"  # how long a stopped (SIGSTOP) owner is still taken for alive


def me() -> str:
    """This process, as the value of the tag OWNER."""
    return json.dumps(
        {"host": platform.node(), "boot": _boot(), "pid": os.getpid(), "start": _start(os.getpid())}
    )


def _boot() -> str:
    """This boot of this machine and, in a container, its process-id namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{platform.node()} {int(psutil.boot_time())}"


def _start(pid: int) -> str:
    """When `pid` started, in a unit that no change of the clock moves where the system has one."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
        )
    except (FileNotFoundError, ProcessLookupError):
        return str(psutil.Process(pid).create_time()) if psutil.pid_exists(pid) else ""


def claim() -> dict[str, str]:
    """The tags by which this process owns a run, from now on."""
    return {OWNER: me(), HEARTBEAT: now()}


def now() -> str:
    """This moment, as text."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class Heartbeat(threading.Thread):
    """Writes `run_id`'s heartbeat until stopped; calls `on_lost` if somebody else closed or deleted the run meanwhile,
    and ends unless that says to go on.

    Where somebody asks the run to stop, by the tag STOP, it calls `on_asked` with the reason given there.
    """

    def __init__(
        self,
        run_id: str,
        on_lost: Callable[[], object] = lambda: None,
        on_asked: Callable[[str], object] = lambda reason: None,
        period: float | None = None,
    ) -> None:
        super().__init__(name="workbook-heartbeat", daemon=True)
        self.run_id, self.on_lost, self.on_asked = run_id, on_lost, on_asked
        self.period, self.ended = period or PERIOD, threading.Event()

    def run(self) -> None:
        client = MlflowClient()
        while not self.ended.wait(self.period):
            try:
                run = client.get_run(self.run_id)
                if closed_by(run) or run.info.lifecycle_stage == LifecycleStage.DELETED:
                    if not self.on_lost():
                        return
                    continue
                if reason := run.data.tags.get(STOP):
                    self.on_asked(reason)
                if run.info.status != "RUNNING":
                    return
                client.set_tag(self.run_id, HEARTBEAT, now())
            except MlflowException:  # the store is away for a moment; the next beat tries again
                continue

    def stop(self) -> None:
        """End the heartbeat without waiting for one under way."""
        self.ended.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def closed_by(run: Run) -> str:
    """Who closed `run` over its owner's head; an empty text for nobody."""
    return run.data.tags.get(CLOSED, "")


def is_deleted(client: MlflowClient, run_id: str) -> bool:
    """Whether `run_id` was deleted, in the UI or for good."""
    try:
        return client.get_run(run_id).info.lifecycle_stage == LifecycleStage.DELETED
    except MlflowException as error:
        return error.error_code == "RESOURCE_DOES_NOT_EXIST"


def close_deleted(client: MlflowClient, run_id: str) -> None:
    """Let the deleted `run_id`, which takes no status, be KILLED where somebody restores it; it stays deleted."""
    with contextlib.suppress(MlflowException):  # it is gone for good
        client.restore_run(run_id)
        set_status(client, run_id, "KILLED")
        client.delete_run(run_id)


def close_dead_runs() -> list[str]:
    """Close as KILLED every running run whose owner is gone, and end what its kernel left; returns their ids."""
    client = MlflowClient()
    here, elsewhere = [], []
    for run in running(client):
        (here if owner_of(run).get("boot") == _boot() else elsewhere).append(run)
    dead = [run for run in here if not is_alive(run)]
    dead += _still(client, [run for run in elsewhere if _age(run) > 2 * PERIOD])
    return [run.info.run_id for run in dead if close(client, run)]


def owner_of(run: Run) -> dict[str, Any]:
    """The owner of `run` as it was written down; {} where somebody garbled it: then its heartbeat decides."""
    return _owner(run.data.tags[OWNER])


def _owner(text: str) -> dict[str, Any]:
    """The owner that `text`, of `me()`, tells of; {} where it is no such text."""
    try:
        owner = dict(json.loads(text))
    except (ValueError, TypeError):
        return {}
    return owner if isinstance(owner.get("pid"), int) else {}


def running(client: MlflowClient) -> list[Run]:
    """The running runs that have an owner tag, in all experiments."""
    where = "attributes.status = 'RUNNING'"
    return [run for run in all_runs(client, where) if OWNER in run.data.tags]


def is_alive(run: Run) -> bool:
    """Whether the owner of `run` lives: on this boot by its process, else by its heartbeat."""
    owner = owner_of(run)
    if owner.get("boot") != _boot():
        return _age(run) <= 2 * PERIOD
    if _start(owner["pid"]) != owner.get("start"):
        return False
    try:
        status = psutil.Process(owner["pid"]).status()
    except psutil.NoSuchProcess:
        return False
    stopped = status == psutil.STATUS_STOPPED and _age(run) > float(os.environ.get(GRACE, 600))
    return status != psutil.STATUS_ZOMBIE and not stopped


def is_gone(text: str) -> bool:
    """Whether the process that `me()` once told of as `text` is known to be gone: of this boot, and ended."""
    owner = _owner(text)
    return owner.get("boot") == _boot() and _start(owner["pid"]) != owner.get("start")


def _age(run: Run) -> float:
    """Seconds since the last heartbeat, or else since the start."""
    try:
        since = datetime.fromisoformat(run.data.tags[HEARTBEAT].partition(" ")[0]).timestamp()
    except (KeyError, ValueError):
        since = run.info.start_time / 1000
    return time.time() - since


def _still(client: MlflowClient, suspects: list[Run]) -> list[Run]:
    """Those of `suspects` whose heartbeat stands still while we watch: a clock that is wrong must not kill a run."""
    if not suspects:
        return []
    time.sleep(2 * PERIOD)
    seen = [(run, client.get_run(run.info.run_id)) for run in suspects]
    return [
        run for run, later in seen if later.data.tags.get(HEARTBEAT) == run.data.tags.get(HEARTBEAT)
    ]


def close(client: MlflowClient, run: Run) -> bool:
    """Close `run` as KILLED over its owner's head, and end its kernel; whether it was running still."""
    run_id = run.info.run_id
    if client.get_run(run_id).info.status != "RUNNING":  # it ended while we looked
        return False
    client.set_tag(run_id, CLOSED, me())  # first: an owner that wakes up now finds it
    end_processes(run_id)
    client.set_tag(run_id, ERROR, "the runner was killed; closed by a later command")
    close_children(client, run_id, "KILLED")
    set_status(client, run_id, "KILLED")
    return True


def close_children(client: MlflowClient, run_id: str, status: str) -> None:
    """Give the running runs below the run its own `status`, and end their kernels.

    Those that have an owner, such as the trials of a sweep, live or die by themselves, with what is below them.
    """
    for run in list(all_runs(client, "attributes.status = 'RUNNING'")):
        if OWNER not in run.data.tags and run_id in _above(client, run):
            end_processes(run.info.run_id)
            set_status(client, run.info.run_id, status)


def _above(client: MlflowClient, run: Run) -> list[str]:
    """The ids of the runs that `run` is nested in, from its parent on, up to the first that has an owner."""
    seen = [run.info.run_id]
    each: Run | None = run
    while each and OWNER not in each.data.tags:
        parent = each.data.tags.get(MLFLOW_PARENT_RUN_ID)
        if not parent or parent in seen:
            break
        seen.append(parent)
        each = _run(client, parent)
    return seen[1:]


def _run(client: MlflowClient, run_id: str) -> Run | None:
    """The run, deleted or not; None where there is none."""
    with contextlib.suppress(MlflowException):
        return client.get_run(run_id)
    return None


def set_status(client: MlflowClient, run_id: str, status: str, name: str | None = None) -> None:
    """Write `run_id`'s terminal `status`, and its `name`, past nested_runs, which leaves it to the runner."""
    mlflow_seam.end_run(client, run_id, status, int(time.time() * 1000), name)


def forget(client: MlflowClient, run: Run) -> None:
    """Delete what only a running run needs. Call it after the status is set: till then a heartbeat decides."""
    for tag in {HEARTBEAT, STOP} & run.data.tags.keys():
        with contextlib.suppress(MlflowException):  # it does no harm
            client.delete_tag(run.info.run_id, tag)


def end_processes(run_id: str) -> None:
    """Kill every process that carries `run_id` in its environment, whatever became of its parents."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(OWNED) == run_id:
                process.kill()
        except (psutil.Error, OSError):
            continue
