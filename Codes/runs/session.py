"""A run by hand: which notebook a session executes, and the run's status, by how the notebook's cells end.

Nobody owns such a run from outside. By one rule it is FAILED, after an interrupt KILLED, while the last execution of
one of its cells has failed (running that cell again to its end, or deleting it, mends that); else FINISHED as soon as
all cells of the notebook have run, or when the session ends; RUNNING until then. For a run that a cell begins by
`mlflow.start_run`, without `tracking.start_run`, the rule holds while it is open.
"""

import asyncio
import atexit
import contextlib
import functools
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TYPE_CHECKING

import mlflow
import psutil
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from Codes.ground.errors import WorkbookError
from Codes.ground.variables import NOTEBOOKS
from Codes.runs import liveness
from Codes.seams import mlflow_seam

if TYPE_CHECKING:
    from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
    from nbformat import NotebookNode

RAISES, SKIP = "raises-exception", {"skip-execution", "nbval-skip"}  # tags of cells
INTERRUPTS = KeyboardInterrupt, asyncio.CancelledError


def shell() -> "InteractiveShell | None":
    """The session's IPython shell; None where there is none."""
    from IPython.core.getipython import get_ipython

    return get_ipython()


def names() -> dict[str, Any]:
    """The names that the session's cells have made, with their values."""
    return here.user_ns if (here := shell()) else {}


def notebook() -> Path | None:
    """The path of the notebook that this session executes, as its front end or its client tells it; else None.

    The runner, JupyterLab and VS Code name it themselves; nbval by pytest's variable; `jupyter execute`, nbconvert and
    papermill in their command line, which must name a notebook that has the cells executed so far.
    """
    named = [os.environ.get(name) for name in NOTEBOOKS]
    named += [names().get("__vsc_ipynb_file__"), _tested()]
    paths = [Path(path) for path in named if path] + [p for p in _in_command() if _has(p, _ran())]
    return next((path for path in paths if path.is_file()), None)


def is_watched_by_a_person() -> bool:
    """Whether a front end with a page (JupyterLab, VS Code) executes the notebook, not a program."""
    return bool(os.environ.get("JPY_SESSION_NAME") or names().get("__vsc_ipynb_file__"))


def _tested() -> Path | None:
    """The notebook that nbval tests: pytest names it, from a folder that it does not tell, and nbval is in its own."""
    name = os.environ.get("PYTEST_CURRENT_TEST", "").partition("::")[0]
    return Path.cwd() / Path(name).name if name.endswith(".ipynb") else None


def _in_command() -> list[Path]:
    """The notebooks in the command line of the process that started this kernel."""
    try:
        client = psutil.Process(int(os.environ.get("JPY_PARENT_PID") or os.getppid()))
        folder, arguments = client.cwd(), client.cmdline()[1:]
    except (psutil.Error, OSError, ValueError):
        return []
    # `jupyter execute` takes a name without its ending, too
    paths = [Path(folder, f"{a.removesuffix('.ipynb')}.ipynb") for a in arguments if len(a) < 1000]
    return [path for path in paths if os.path.isfile(path)]


def _ran() -> list[str]:
    """The sources of the cells that ran here, but for one that papermill has injected."""
    history = here.history_manager if (here := shell()) else None
    sources = history.input_hist_raw[1:] if history else []
    return [source for source in sources if not source.startswith("# Parameters\n")]


def _has(path: Path, sources: Iterable[str]) -> bool:
    """Whether the notebook at `path` has cells with all these `sources`."""
    return {source.strip() for source in sources} <= {cell.source.strip() for cell in cells(path)}


def cells(path: Path | None) -> "list[NotebookNode]":
    """The code cells of the notebook at `path` that are to run; [] where it cannot be read."""
    try:
        return _cells(path, os.stat(path).st_mtime_ns) if path else []
    except (WorkbookError, OSError):
        return []


@functools.lru_cache(3)
def _cells(path: Path, _time: int) -> "list[NotebookNode]":
    from Codes.notebook_files import notebook_file  # nbformat: what serves a model needs none

    code = (c for c in notebook_file.read(path).cells if c.cell_type == "code")
    return [cell for cell in code if cell.source.strip() and not SKIP & set(_tags(cell))]


def _tags(cell: "NotebookNode") -> list[str]:
    return cell.metadata.get("tags", [])


def _deleted() -> set[str]:
    """The ids of the cells that were deleted since the last execution, where the front end tells them."""
    request = getattr(shell(), "get_parent", dict)()
    return set(request.get("metadata", {}).get("deletedCells", ()))


def _names_of(cell: "NotebookNode") -> set[str]:
    return {cell.id, cell.source.strip()}


class Session:  # pylint: disable=too-many-instance-attributes
    """Keeps the status of the run `run_id` of the notebook at `path`, from `begin` until the process ends."""

    current: "Session | None" = None

    def __init__(self, run_id: str, path: Path | None) -> None:
        self.run_id, self.path, self.client = run_id, path, MlflowClient()
        # cells are known by their ids, and where a front end tells none by their sources
        self.opened_by: set[str] = set()
        self.done: set[str] = set()
        self.failed: dict[str | None, BaseException] = {}
        self.status = "RUNNING"
        self.heartbeat = liveness.Heartbeat(run_id)

    def begin(self) -> None:
        """Watch the cells from this one on, instead of for an earlier run."""
        if Session.current:
            Session.current.leave()
        Session.current = self
        self.heartbeat.start()
        if here := shell():
            here.events.register("post_run_cell", self.after_cell)
            # after MLflow's own farewell, which says FINISHED; so it runs before
            atexit.register(self.end)

    def after_cell(self, result: "ExecutionResult | None") -> None:
        """Take how a cell ended, and set the run's status by all that have."""
        self.take(result)
        with contextlib.suppress(MlflowException):  # the store is away, or the run was deleted
            self.settle()

    def take(self, result: "ExecutionResult | None") -> None:
        """Take how a cell ended, from IPython's `result`."""
        if result is None:  # so ipykernel tells of an interrupt that came between two steps
            self.failed[None] = KeyboardInterrupt()
        else:
            self.count(result.info, result.error_before_exec or result.error_in_exec)

    def count(self, info: Any, error: BaseException | None) -> None:
        """Take that the cell of which IPython's `info` tells ended with `error`, or None."""
        names_ = {info.cell_id, info.raw_cell.strip()} - {None}
        cell = next((c for c in cells(self.path) if names_ & _names_of(c)), None)
        self.opened_by = self.opened_by or names_
        self.done |= names_
        # what is no cell of the notebook stands until anything else has run
        key = info.cell_id or (info.raw_cell.strip() if cell else None)
        for over in {key, None} | _deleted():
            self.failed.pop(over, None)
        if error and not (cell and RAISES in _tags(cell)):
            self.failed[key] = error

    def all_ran(self) -> bool:
        """Whether all cells of the notebook ran, from the one on that opened the run."""
        own = [_names_of(cell) for cell in cells(self.path)]
        first = next((i for i, names_ in enumerate(own) if self.opened_by & names_), None)
        return first is not None and all(names_ & self.done for names_ in own[first:])

    def verdict(self) -> tuple[str, BaseException | None]:
        """(status, error) of the run as it stands."""
        for error in self.failed.values():
            return "KILLED" if isinstance(error, INTERRUPTS) else "FAILED", error
        return "FINISHED" if self.all_ran() else "RUNNING", None

    def settle(self) -> None:
        """Write the status where it has changed, with the error in the tags that the runner's runs have."""
        status, error = self.verdict()
        if status == self.status:
            return
        self.tell(error)
        if status == "RUNNING":
            self.client.update_run(self.run_id, status)
            self.heartbeat.stop()
            self.heartbeat = liveness.Heartbeat(self.run_id)
            self.heartbeat.start()
        else:
            liveness.set_status(self.client, self.run_id, status)
        self.status = status

    def tell(self, error: BaseException | None) -> None:
        """Write `error` to the run's tags, or take one that was mended from there."""
        if error is not None:
            self.client.set_tag(self.run_id, liveness.ERROR, type(error).__name__)
            self.client.set_tag(self.run_id, liveness.MESSAGE, str(error)[:5000])
        elif self.status in ("FAILED", "KILLED"):
            for tag in (liveness.ERROR, liveness.MESSAGE):
                self.client.delete_tag(self.run_id, tag)

    def leave(self) -> None:
        """Watch no more cells, and leave the run as it is."""
        Session.current = None
        self.heartbeat.stop()
        if here := shell():
            here.events.unregister("post_run_cell", self.after_cell)
            atexit.unregister(self.end)

    def end(self) -> None:
        """End the run, and those that are open in it, by how its cells have ended."""
        if Session.current is not self:
            return
        self.leave()
        status = self.verdict()[0].replace("RUNNING", "FINISHED")
        with contextlib.suppress(MlflowException):
            if liveness.is_deleted(self.client, self.run_id):
                liveness.close_deleted(self.client, self.run_id)
                return
            while mlflow.active_run():
                mlflow.end_run(status)
            liveness.close_children(self.client, self.run_id, status)
            liveness.forget(self.client, self.client.get_run(self.run_id))


class OpenRun(Session):
    """Keeps the status of a run that a cell has begun by itself, until the notebook ends it."""

    def after_cell(self, result: "ExecutionResult | None") -> None:
        """Take how a cell ended; where it has ended the run too, this status stays unless cells have failed."""
        if any(run.info.run_id == self.run_id for run in mlflow_seam.active_runs()):
            super().after_cell(result)
            return
        self.leave()
        self.take(result)
        status, error = self.verdict()
        with contextlib.suppress(MlflowException):
            self.tell(error)
            if error is not None:
                liveness.set_status(self.client, self.run_id, status)
            liveness.forget(self.client, self.client.get_run(self.run_id))


def watch(run: Run) -> None:
    """Let the status of `run`, which a cell has just begun, be that of the cells, as long as it is open."""
    is_part = len(mlflow_seam.active_runs()) > 1
    if is_part or not is_in_cell():
        return
    session = OpenRun(run.info.run_id, notebook())
    with contextlib.suppress(MlflowException):  # the run is the user's, whatever becomes of this
        if run.data.tags.get(liveness.OWNER) != liveness.me():
            session.client.set_tag(run.info.run_id, liveness.OWNER, liveness.me())
        session.begin()


def is_in_cell() -> bool:
    """Whether this is the thread and the process that executes the cells of a notebook."""
    kernel = getattr(shell(), "kernel", None)
    return (
        kernel is not None
        and kernel.session.pid == os.getpid()
        and threading.current_thread() is threading.main_thread()
    )


def end() -> None:
    """End the run that is open here, if any, for another one."""
    if Session.current and shell():
        Session.current.end()
    mlflow.end_run()
