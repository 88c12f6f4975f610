"""Executes a notebook's cells in a kernel of its own, and tells how that ended: whatever happens, it ends."""

import ast
import contextlib
import json
import os
import re
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any, cast

import nbformat
import psutil
from jupyter_client import AsyncKernelManager
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.connect import port_names
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_core.utils import run_sync
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient

from Codes.ground.errors import WorkbookError
from Codes.runs import liveness
from Codes.seams import jupyter_seam
from Codes.forks.channel import CRASH_LOG, NO_HISTORY

if TYPE_CHECKING:
    from papermill.engines import NotebookExecutionManager
    from Codes.running.interruption import Signals

GRACE = 3.0  # seconds between asking a cell to stop (SIGINT) and killing its kernel
TEXT_LIMIT = 1_000_000  # characters of printed text kept of each cell
RICH_LIMIT = 20_000_000  # bytes of figures and tables kept of each cell
JSON = re.compile(r"application/(.*\+)?json$")  # types whose value nbformat takes as it is
LEAVING = "quit() or exit()"
SKIP = "skip-execution"  # nbclient's tag of a cell that is not to run


# no notice of the kernel's own at each start stands in the runner's log
ARGUMENTS = ["--IPKernelApp.log_level=40", NO_HISTORY]


@dataclass
class Limits:
    """Seconds that a cell and the whole notebook may take; None: no limit."""

    cell: float | None = None
    notebook: float | None = None


@dataclass
class Question:
    """What to ask a Python kernel once cell `index` has run: an expression; `tell` takes its value, a text."""

    index: int
    expression: str
    tell: Callable[[str], None]


class Stop(Enum):
    """Why a kernel was stopped from here, whatever the sentence that tells of it says."""

    LIMIT = "past a limit of time"
    CLOSED = "another command has closed or deleted its run"
    ASKED = "its run was asked to stop early, by a sweep's pruner"

    @property
    def status(self) -> str:
        """The status of a run that ends so: one that takes too long has failed, the others were ended."""
        return "FAILED" if self is Stop.LIMIT else "KILLED"


@dataclass
class Outcome:  # pylint: disable=too-many-instance-attributes
    """How an execution ended: `status` is MLflow's; the others tell of a failure, `cell` from 1.

    `stop` tells of an end that was made from here; None of one that the kernel itself or a signal made.
    """

    status: str = "FINISHED"
    error: str = ""
    message: str = ""
    cell: int | None = None
    raises: BaseException | None = None
    stop: Stop | None = None
    log: str = ""
    peak_bytes: int = field(default=0)

    def fail(self, error: str, message: str, raises: BaseException | None = None) -> None:
        """Turn into a failure, unless it already is one: the first cause counts."""
        if self.status == "FINISHED":
            self.status, self.error, self.message = "FAILED", error, message
            self.raises = raises or WorkbookError(message)


class Guard(threading.Thread):  # pylint: disable=too-many-instance-attributes
    """Watches a kernel: its memory, and the time limits, past which it interrupts and then kills."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(name="workbook-guard", daemon=True)
        self.limits, self.peak_bytes = limits, 0
        # why it was stopped, and the sentence that tells it; the first cause counts
        self.stop: Stop | None = None
        self.reason = ""
        self.process: Any = None  # the kernel's Popen
        self.cell: int | None = None
        self.cell_started: float | None = None
        self.started = time.monotonic()
        self.ended = threading.Event()

    def watch(self, process: Any) -> None:
        """Begin to watch `process`, the kernel's Popen."""
        self.process, self.started = process, time.monotonic()
        self.start()

    def run(self) -> None:
        while not self.ended.wait(0.2):
            self.measure()
            if reason := self._overdue():
                self.stop_kernel(Stop.LIMIT, reason, GRACE)
                return

    def measure(self) -> None:
        """Take the most memory that the kernel has held so far."""
        self.peak_bytes = max(self.peak_bytes, peak_memory(self.process.pid))

    def _overdue(self) -> str:
        seconds, cell, begun = time.monotonic(), self.cell, self.cell_started
        if self.limits.notebook and seconds - self.started > self.limits.notebook:
            return f"the notebook ran over its limit of {self.limits.notebook:g} s"
        if self.limits.cell and begun and seconds - begun > self.limits.cell:
            return f"cell {cell} ran over its limit of {self.limits.cell:g} s"
        return ""

    def stop_kernel(self, stop: Stop, reason: str, grace: float = 0.0) -> None:
        """End the kernel for `stop`, and tell the `reason`: ask its cell to stop, and kill it `grace` seconds later."""
        if self.stop is None:
            self.reason, self.stop = reason, stop  # in this order: others look at `stop` first
        self.end_kernel(grace)

    def end_kernel(self, grace: float = 0.0) -> None:
        """End what is left of the kernel, as `stop_kernel` does, whatever its end was or will be."""
        if self.process is None:
            return
        if grace:
            with _gone_is_fine():
                os.kill(self.process.pid, signal.SIGINT)
            self.ended.wait(grace)
            if self.ended.is_set():
                return
        with _gone_is_fine():
            os.killpg(self.process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except (ProcessLookupError, PermissionError):
        pass


def peak_memory(pid: int) -> int:
    """The most bytes of memory that `pid` has held so far (or holds, without a record); 0 once it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0
    except FileNotFoundError:
        try:
            return psutil.Process(pid).memory_info().rss
        except psutil.Error:
            return 0
    except OSError:
        return 0


class Client(PapermillNotebookClient):  # pylint: disable=too-many-instance-attributes
    """papermill's client, which stops at the first failing cell, caps outputs, and lets no kernel outlive it."""

    def __init__(
        self,
        manager: "NotebookExecutionManager",
        guard: Guard,
        meanwhile: Callable[[], object],
        asked: Question | None = None,
        **options: Any,
    ) -> None:
        super().__init__(manager, **options)
        self.asked = asked
        self.meanwhile = meanwhile
        self.guard, self.clear_before_next_output = guard, False
        self.failure: CellExecutionError | None = None
        self.on_cell_executed, self.has_left = self._take_reply, False
        # {(cell, who keeps its outputs): how much of each kind is kept, and was cut}
        self.kept: dict[tuple[int, int], Counter[str]] = {}

    @property
    def kernel(self) -> AsyncKernelManager:
        """The kernel's manager, which is there from `create_kernel_manager` on."""
        return cast(AsyncKernelManager, self.km)

    @property
    def channels(self) -> AsyncKernelClient:
        """What talks to the kernel, from `async_start_new_kernel_client` on."""
        return cast(AsyncKernelClient, self.kc)

    def execute(self, **kwargs: Any) -> NotebookNode:
        """Execute all cells; `kwargs` go to the kernel's start (env, stdout, stderr)."""
        self.reset_execution_trackers()
        with self.setup_kernel(**kwargs):
            try:
                provisioner: Any = self.kernel.provisioner
                self.guard.watch(provisioner.process)
                self.papermill_execute_cells()
                self.set_widgets_metadata()
                self.end_kernel()
            except BaseException:
                self.guard.end_kernel()
                raise
            finally:
                self.guard.ended.set()
        return self.nb

    async def async_end_kernel(self) -> None:
        """Ask the kernel to end, do what can be done meanwhile, and see that it has ended."""
        if await self.kernel.is_alive():
            self.guard.measure()
            await self.kernel.request_shutdown()
            self.meanwhile()
            await self.kernel.finish_shutdown()

    end_kernel = run_sync(async_end_kernel)

    async def async_start_new_kernel_client(self) -> AsyncKernelClient:
        """Connect to the kernel, and wait until it answers and its outputs arrive; returns the client.

        jupyter_client chooses ports that are free and lets them go again; where another process takes one before the
        kernel does, the kernel ends, and is started once more, on others.
        """
        try:
            return await self._connected()
        except DeadKernelError:
            self.channels.stop_channels()
            self.kernel.cleanup_connection_file()
            # restart_kernel's `newports` would keep those that its own cache of ports has chosen
            for name in port_names:
                setattr(self.kernel, name, 0)
            await self.kernel.restart_kernel(now=True)
            return await self._connected()

    async def _connected(self) -> AsyncKernelClient:
        self.kc = self.kernel.client()
        self.channels.start_channels()
        self.channels.allow_stdin = False
        end = time.monotonic() + self.startup_timeout
        while not await self._is_ready():
            if not await self.kernel.is_alive():
                raise DeadKernelError("the kernel died before it was ready")
            if time.monotonic() > end:
                raise RuntimeError(f"the kernel was not ready within {self.startup_timeout} s")
        return self.channels

    start_new_kernel_client = run_sync(async_start_new_kernel_client)

    async def _is_ready(self) -> bool:
        """Ask for the kernel's information; whether its reply came, and over the other channel that it is idle again.

        jupyter_client itself waits instead until no output has come for 0.2 s.
        """
        asked = self.channels.kernel_info()
        with contextlib.suppress(Empty):
            reply = await self.channels.get_shell_msg(timeout=1)
            while reply["parent_header"].get("msg_id") != asked:
                reply = await self.channels.get_shell_msg(timeout=1)
            self.nb.metadata["language_info"] = reply["content"]["language_info"]
            while True:
                output = await self.channels.get_iopub_msg(timeout=0.05)
                is_mine = output["parent_header"].get("msg_id") == asked
                if is_mine and output["content"].get("execution_state") == "idle":
                    return True
        return False

    def _take_reply(self, execute_reply: Mapping[str, Any], **_: Any) -> None:
        """Take from a cell's reply whether it has asked for the kernel's end, which then comes 0.1 s later."""
        payload = execute_reply["content"].get("payload", ())
        ends = [each for each in payload if each.get("source") == "ask_exit"]
        self.has_left = any(not each.get("keepkernel") for each in ends)

    def papermill_execute_cells(self) -> None:
        """Execute cell after cell, and stop at the first that does not run to its end."""
        for index, cell in enumerate(self.nb.cells):
            self.guard.cell, self.guard.cell_started = index + 1, time.monotonic()
            self.nb_man.cell_start(cell, index)
            try:
                self.execute_cell(cell, index)
                if self.has_left:
                    raise CellExecutionError(LEAVING, "SystemExit", "0")
                if self.guard.stop:  # it swallowed the interrupt
                    self.nb_man.cell_exception(cell, cell_index=index)
            except CellExecutionError as error:
                self.failure = error
                _show(cell, error)
                self.nb_man.cell_exception(cell, cell_index=index, exception=error)
                return
            except BaseException:
                self.nb_man.cell_exception(cell, cell_index=index)
                raise
            finally:
                self.guard.cell_started = None
                self._say_what_was_cut(cell, index)
                self.nb_man.cell_complete(cell, cell_index=index)
            if self.guard.stop:
                return
            if self.asked and self.asked.index == index:
                self.asked.tell(self.ask(self.asked.expression))

    async def async_ask(self, expression: str) -> str:
        """The text that `expression` has in the kernel."""
        message = self.channels.execute(
            "", silent=True, store_history=False, user_expressions={"asked": expression}
        )
        while True:
            with contextlib.suppress(Empty):
                reply = await self.channels.get_shell_msg(timeout=1)
                if reply["parent_header"].get("msg_id") == message:
                    break
            if not await self.kernel.is_alive():
                raise DeadKernelError("the kernel died")
        value = reply["content"]["user_expressions"]["asked"]
        if value["status"] != "ok":
            raise WorkbookError(f"the values of the parameters cannot be read: {value['evalue']}")
        return ast.literal_eval(value["data"]["text/plain"])

    ask = run_sync(async_ask)

    def output(
        self, outs: list[NotebookNode], msg: dict[str, Any], display_id: str | None, cell_index: int
    ) -> NotebookNode | None:
        """Keep an output unless its cell has produced too much already, since it last cleared what it shows."""
        if (holder := self._holder(msg)).clear_before_next_output:
            holder.clear_before_next_output = False  # now, since this output may be one too much
            self.clear_output(outs, {**msg, "content": {}}, cell_index)
        kept = self.kept.setdefault((cell_index, id(holder)), Counter())
        content = msg["content"]
        text = content.get("text", "") if msg["msg_type"] == "stream" else ""
        size = len(text) or sum(len(str(v)) for v in content.get("data", {}).values())
        kind, limit = ("text", TEXT_LIMIT) if text else ("rich", RICH_LIMIT)
        room = limit - kept[kind]
        kept[kind] += min(size, room)
        if size > room:
            kept["cut"] += size - (room if text else 0)
            if not text or room <= 0:
                return None
            content["text"] = text[:room]
        if "data" in content:
            content["data"] = storable(content["data"])
        return super().output(outs, msg, display_id, cell_index)

    def clear_output(self, outs: list[NotebookNode], msg: dict[str, Any], cell_index: int) -> None:
        """Clear the outputs of a cell, now or at the next one, and with them what was counted of them."""
        super().clear_output(outs, msg, cell_index)
        if not msg["content"].get("wait"):
            self.kept.pop((cell_index, id(self._holder(msg))), None)

    def _holder(self, msg: dict[str, Any]) -> Any:
        """Who keeps the output `msg`: this client in its cell, or an output widget."""
        hooks = self.output_hook_stack[msg["parent_header"].get("msg_id")]
        return hooks[-1] if hooks else self

    def _say_what_was_cut(self, cell: NotebookNode, index: int) -> None:
        if lost := sum(kept["cut"] for (number, _), kept in self.kept.items() if number == index):
            note = (
                f"\n[output cut: {lost:,} more characters; a cell keeps {TEXT_LIMIT:,} of text]\n"
            )
            cell.outputs.append(nbformat.v4.new_output("stream", name="stderr", text=note))


def storable(data: Mapping[str, Any]) -> dict[str, Any]:
    """An output's `data` as a notebook's file takes it: what is neither text nor of a type of JSON as JSON's text.

    JupyterLab shows it all the same (Altair's `mimetype`); nbclient would fail the cell.
    """
    return {
        kind: value if JSON.match(kind) or _is_text(value) else json.dumps(value)
        for kind, value in data.items()
    }


def _is_text(value: object) -> bool:
    lines = value if isinstance(value, list) else [value]
    return all(isinstance(line, str) for line in lines)


def _show(cell: NotebookNode, error: CellExecutionError) -> None:
    """Let `cell` show its `error`, where the kernel had not even the memory left to format it."""
    if not any(output.output_type == "error" for output in cell.outputs):
        facts = {"ename": error.ename, "evalue": error.evalue, "traceback": [str(error.traceback)]}
        cell.outputs.append(nbformat.v4.new_output("error", **facts))


def require_kernel(name: str) -> None:
    """Refuse a kernel `name` that is not installed, and list those that are."""
    manager = KernelSpecManager()
    try:
        manager.get_kernel_spec(name)
    except NoSuchKernel as error:
        names = ", ".join(sorted(manager.find_kernel_specs())) or "none"
        raise WorkbookError(
            f"there is no kernel '{name}' here; there are: {names}. Choose one with -k."
        ) from error


def arguments(spec: KernelSpec | None) -> list[str]:
    """What an ipykernel with the kernel spec `spec` is started with here; nothing for other kernels."""
    if spec is None or "ipykernel_launcher" not in spec.argv:
        return []
    tells_itself = spec.metadata.get("kernel_provisioner")
    return ARGUMENTS + ([] if tells_itself else [CRASH_LOG])


def execute(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
    manager: "NotebookExecutionManager",
    kernel_name: str,
    run_id: str,
    prepare: Callable[[], Mapping[str, str]],
    limits: Limits,
    signals: "Signals",
    folder: Path,
    beat: float | None = None,
    **options: Any,
) -> Outcome:
    """Run `manager`'s notebook in a new kernel with the environment `prepare()`, in `folder`.

    It returns an Outcome, and raises nothing.
    """
    guard, outcome = Guard(limits), Outcome()
    heartbeat = liveness.Heartbeat(
        run_id,
        on_lost=lambda: guard.stop_kernel(
            Stop.CLOSED, "the run was closed or deleted by another command"
        ),
        on_asked=lambda reason: guard.stop_kernel(Stop.ASKED, reason),
        period=beat,
    )
    with (
        tempfile.TemporaryDirectory(prefix="workbook-") as private,
        # what programs print there need not be text
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
    ):
        client = None
        try:
            environment = prepare()  # a signal would tear a call of the store
            with signals.raising():
                heartbeat.start()
                client = Client(manager, guard, kernel_name=kernel_name, **options)
                client.kernel_manager_class = jupyter_seam.prompt_manager()
                client.create_kernel_manager()
                client.extra_arguments = arguments(client.kernel.kernel_spec)
                # Here it goes away even where a signal comes before its writer knows that it wrote it.
                client.kernel.connection_file = f"{private}/kernel.json"
                client.execute(env=environment, cwd=str(folder), stdout=log, stderr=log)
        except BaseException as error:  # pylint: disable=broad-exception-caught
            outcome = _explain(error, guard, manager)
        finally:
            # in this order: a heartbeat would end a kernel once more, whose number another process may have by then;
            # what has left the kernel's group of processes is known by its environment
            heartbeat.stop()
            guard.end_kernel()
            liveness.end_processes(run_id)
        log.seek(0)
        printed = log.read(TEXT_LIMIT)
    if client and client.failure and outcome.status == "FINISHED":
        outcome = _explain_cell(client.failure, guard, manager)
    if outcome.status == "FINISHED" and guard.stop:
        # the cell swallowed the interrupt and went on to its end
        outcome = _stopped(guard.stop, guard)
    if outcome.status == "FINISHED" and (pending := unexecuted(manager.nb)):
        outcome.fail("Incomplete", f"cell {pending} of {len(manager.nb.cells)} was never executed")
    outcome.log, outcome.peak_bytes = printed, guard.peak_bytes
    return outcome


def _stopped(stop: Stop, guard: Guard) -> Outcome:
    """The Outcome of a kernel that `guard` has ended."""
    kind = CellTimeoutError if stop is Stop.LIMIT else WorkbookError
    error = kind(guard.reason)
    return Outcome(stop.status, kind.__name__, guard.reason, guard.cell, error, stop)


def _explain(error: BaseException, guard: Guard, manager: "NotebookExecutionManager") -> Outcome:
    """The Outcome of an execution that `error` has ended.

    The order decides which cause counts where several came together: a signal to the runner ends whatever else ends;
    a kernel that was stopped from here looks dead, and its errors only follow from that; what is left is its own.
    """
    cell, total = guard.cell, len(manager.nb.cells)
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        told = (
            "interrupted (Ctrl-C)"
            if isinstance(error, KeyboardInterrupt)
            else "asked to end (SIGTERM)"
        )
        where = f"at cell {cell} of {total}" if cell else "before the first cell"
        return Outcome("KILLED", type(error).__name__, f"{told} {where}", cell, error)
    if guard.stop:
        return _stopped(guard.stop, guard)
    if isinstance(error, (DeadKernelError, RuntimeError)) and guard.process is not None:
        message = f"the kernel died in cell {cell} of {total}: {_how_it_died(guard)}"
        return Outcome("FAILED", "DeadKernelError", message, cell, DeadKernelError(message))
    if isinstance(error, WorkbookError):
        return Outcome("FAILED", type(error).__name__, error.message, cell, error)
    told = f"{type(error).__name__} at cell {cell} of {total}: {' '.join(str(error).split())[:500]}"
    raises = WorkbookError(told)
    raises.__cause__ = error
    return Outcome("FAILED", type(error).__name__, told, cell, raises)


def _how_it_died(guard: Guard) -> str:
    try:
        code = guard.process.wait(timeout=5)
    except Exception:  # pylint: disable=broad-exception-caught
        return "and is stuck in the system"
    if code >= 0:
        return f"it ended itself with exit status {code}"
    name = signal.Signals(-code).name
    if name == "SIGKILL":
        return f"killed (SIGKILL), perhaps out of memory; its peak was {guard.peak_bytes / 2**20:,.0f} MiB"
    return f"ended by the signal {name}; its log is kept"


def _explain_cell(
    failure: CellExecutionError, guard: Guard, manager: "NotebookExecutionManager"
) -> Outcome:
    """The Outcome of an execution whose cell has ended with `failure`: often the interrupt by which it was stopped."""
    cell, total = guard.cell, len(manager.nb.cells)
    if guard.stop:
        return _stopped(guard.stop, guard)
    if failure.ename == "SystemExit":
        by = LEAVING if failure.traceback == LEAVING else f"sys.exit({failure.evalue})"
        message = f"stopped at cell {cell} of {total} by {by}"
        clean = failure.evalue in ("", "0")  # papermill raises for the others, but not for these
        raises = WorkbookError(message + ".") if clean else None
        return Outcome("FAILED", "SystemExit", message, cell, raises)
    # papermill itself raises for an error that stands in the notebook, as it does for its own engine
    return Outcome(
        "FAILED",
        failure.ename,
        f"{failure.ename} in cell {cell} of {total}: {failure.evalue}",
        cell,
    )


def unexecuted(notebook: NotebookNode) -> int | None:
    """The number of the first code cell that was not run to its end; None where all were that are to run."""
    for number, cell in enumerate(notebook.cells, 1):
        is_code = cell.cell_type == "code" and cell.source.strip()
        is_to_run = is_code and SKIP not in cell.metadata.get("tags", [])
        if is_to_run and cell.get("execution_count") is None:
            return number
    return None
