"""The kernel provisioner `workbook-warm`: gives whoever starts the kernel `workbook` a fork of the warm template.

Any Jupyter client finds it by the kernel spec (jupyter_client's entry point). Where no template can serve, the kernel
starts in the ordinary way, and one line says so.
"""

import asyncio
import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

from filelock import FileLock, Timeout
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

from Codes.ground.paths import ROOT
from Codes.forks import channel
from Codes.forks.channel import KernelRequest, Unavailable
from Codes.forks.fork import Fork

Stream: TypeAlias = int | IO[Any] | None  # as subprocess.Popen takes it
START = 60.0  # seconds that a template may take to warm up
IMPATIENT = 2.0  # seconds that a server waits for one that warms up
PATIENCE = 5.0  # seconds that it may take to accept a connection and a request
ATTEMPTS = 3
RETRY = 300.0  # seconds after which a template that could not be made is tried again
BY_HAND = (
    "jupyter_server",
    "jupyter_console",
    "qtconsole",
)  # who starts kernels that a person types into


class WarmProvisioner(LocalProvisioner):
    """Launches kernels as forks of the template; everything else is as for any local kernel."""

    def patience(self) -> float:
        """Seconds to wait for a template: JupyterLab drops what is typed while a kernel is not there yet."""
        is_server = type(self.parent).__module__.startswith("jupyter_server")
        return IMPATIENT if is_server else START

    def history(self, cmd: Sequence[str]) -> list[str]:
        """The option for a kernel `cmd` that keeps no history: only what a person types belongs in the user's own."""
        owners = (self.parent, getattr(self.parent, "parent", None))
        is_by_hand = any(type(each).__module__.startswith(BY_HAND) for each in owners)
        is_said = any(part.startswith("--HistoryManager.") for part in cmd)
        return [] if is_by_hand or is_said else [channel.NO_HISTORY]

    def is_strange(self, cmd: Sequence[str]) -> bool:
        """Whether the kernel `cmd` comes here only since a server asks for all by default: not of this Python."""
        spec: Any = self.kernel_spec
        is_named = "kernel_provisioner" in (spec.metadata if spec else {})
        return not is_named and (cmd[0] != sys.executable or "ipykernel_launcher" not in cmd)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Launch the kernel `cmd`, warm where that can be, else as jupyter_client does."""
        if self.is_strange(cmd):
            return await super().launch_kernel(cmd, **kwargs)
        environment = channel.QUIET | (os.environ if kwargs.get("env") is None else kwargs["env"])
        kwargs["env"], cmd = environment, [*cmd, *self.history(cmd)]
        if not channel.is_off(environment):
            try:
                return await self.launch_warm(cmd, **kwargs)
            except Unavailable as reason:
                say_once(f"workbook kernel: starting it in the ordinary way, since {reason}")
        return await super().launch_kernel([*cmd, channel.CRASH_LOG], **kwargs)

    async def launch_warm(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Launch the kernel `cmd` as a fork; Unavailable where that cannot be."""
        request, streams = describe(cmd, **kwargs)
        self.process = await obtain(request, streams, self.patience())
        # pyrefly: ignore[bad-override-mutable-attribute]  # None there
        self.pid = self.pgid = self.process.pid
        self.cwd = request["cwd"]
        return self.connection_info


said: set[str] = set()


def say_once(line: str) -> None:
    """Print `line`, but in one process only once."""
    if line not in said:
        said.add(line)
        print(line, file=sys.stderr, flush=True)


def warm_up(also: Mapping[str, str] | None = None) -> threading.Thread | None:
    """Begin, in a thread, to start the template that kernels of this environment will need; returns the thread.

    `also` are variables that those kernels will have beside this process's own.

    None where there is one already, or where none can be had; what is wrong then is told when a kernel is started.
    """
    environment = {**channel.QUIET, **os.environ, **(also or {})}
    try:
        if channel.is_off(environment):
            return None
        path = _socket(sys.executable, environment)
        if connection := channel.connection_to(path, PATIENCE):
            connection.close()
            return None
    except (OSError, Unavailable):
        return None

    def start_it() -> None:
        with contextlib.suppress(OSError, Unavailable):
            asyncio.run(connect(sys.executable, environment)).close()

    thread = threading.Thread(target=start_it, name="workbook-warm-up", daemon=True)
    thread.start()
    return thread


def describe(
    cmd: Sequence[str],
    env: Mapping[str, str],
    *,
    cwd: str | None = None,
    independent: bool = False,
    kernel_id: str | None = None,
    extra_arguments: Sequence[str] = (),
    **streams: Any,
) -> tuple[KernelRequest, list[int]]:
    """(request, descriptors) of a kernel `cmd` as Popen would start it here; Unavailable for what a fork cannot be."""
    # pylint: disable=unused-argument,too-many-arguments
    place = os.path.abspath(cwd or os.getcwd())
    if not os.path.isdir(place):
        raise Unavailable(f"there is no folder {place}")
    parent = {} if independent else {"JPY_PARENT_PID": str(os.getpid())}
    request: KernelRequest = {
        **channel.process(map(str, cmd), {**env, **parent}, place),
        "independent": independent,
        "parent": 0 if independent else os.getpid(),
    }
    return request, descriptors(**streams)


def descriptors(
    stdin: Stream = None, stdout: Stream = None, stderr: Stream = None, **others: Any
) -> list[int]:
    """The kernel's three streams as open descriptors of ours: [stdin, stdout, stderr]."""
    if others:
        raise Unavailable(f"a fork knows no {', '.join(others)}")
    if subprocess.PIPE in (stdin, stdout, stderr):
        raise Unavailable("its streams would be pipes")
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    out = _number(stdout, nothing, 1)
    err = out if stderr == subprocess.STDOUT else _number(stderr, nothing, 2)
    copies = [os.dup(number) for number in (_number(stdin, nothing, nothing), out, err)]
    os.close(nothing)
    return copies


def _number(stream: Stream, nothing: int, inherited: int) -> int:
    if stream is None:
        return inherited
    if isinstance(stream, int):
        return nothing if stream == subprocess.DEVNULL else stream
    return stream.fileno()


async def obtain(request: KernelRequest, streams: list[int], patience: float) -> Fork:
    """A Fork for `request` and its descriptors `streams`, closed here; Unavailable if not in `patience` s."""
    try:
        for _ in range(ATTEMPTS):
            connection = await connect(request["argv"][0], request["env"])
            if kernel := await ask(connection, request, streams, patience):
                return kernel
        raise Unavailable("its template ends again and again; see the .log beside its socket")
    finally:
        channel.close(streams)


async def ask(
    connection: socket.socket, request: KernelRequest, streams: list[int], patience: float
) -> Fork | None:
    """Ask the template behind `connection` for a kernel; None if another template is to be asked."""
    is_kept = False
    try:
        connection.settimeout(PATIENCE)
        channel.send(connection, request, streams)
        message, files = await answer(connection, patience)
        if message and "pid" in message:
            channel.send(connection, {"welcome": True})
            is_kept = True
            return Fork(connection, message["pid"], files[0])
        if message and "refused" in message:
            raise Unavailable(message["refused"])
        if message and "exit" in message:
            raise Unavailable(f"its fork ended with {message['exit']} before it listened")
    except TimeoutError as error:
        raise Unavailable("its template takes no requests") from error
    except OSError:
        pass  # it has just ended
    finally:
        if not is_kept:
            connection.close()
    return None


async def answer(
    connection: socket.socket, patience: float
) -> tuple[dict[str, Any] | None, list[int]]:
    """The template's answer, while it warms up or answers others; Unavailable if it is stopped or takes too long."""
    end = time.monotonic() + patience
    pid, waiting = channel.check_peer(connection), select.poll()
    waiting.register(connection, select.POLLIN)
    while not waiting.poll(0):
        if time.monotonic() > end and patience < START:
            raise Unavailable("its template is still warming up; a later kernel will be warm")
        if time.monotonic() > end or _is_stopped(pid):
            raise Unavailable(f"its template (process {pid}) does not answer")
        await asyncio.sleep(0.002)
    return channel.receive(connection)


def _is_stopped(pid: int) -> bool:
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        return stat.rpartition(")")[2].split()[0] in "Tt"
    return False


async def connect(python: str, environment: Mapping[str, str]) -> socket.socket:
    """A connection to the template of the interpreter `python` and `environment`, which is started if it must be."""
    path = _socket(python, environment)
    lock, end = FileLock(f"{path}.lock"), time.monotonic() + START
    while time.monotonic() < end:
        if connection := channel.connection_to(path, PATIENCE):
            return connection
        try:
            with lock.acquire(timeout=0):
                if connection := channel.connection_to(path, PATIENCE):
                    return connection
                refuse_if_failed(path)
                path.unlink(missing_ok=True)  # left by one that was killed
                await start(python, environment, path)
        except Timeout:
            await asyncio.sleep(0.02)  # somebody else is starting it
    raise Unavailable("its template does not start")


def _socket(python: str, environment: Mapping[str, str]) -> Path:
    return channel.folder() / f"{channel.name(python, environment)}.sock"


def refuse_if_failed(path: Path) -> None:
    """Raise Unavailable if the last template at `path` could not be made: trying again at each kernel takes seconds."""
    failed = path.with_suffix(".failed")
    with contextlib.suppress(OSError):
        if time.time() - failed.stat().st_mtime < RETRY:
            reason = failed.read_text("utf-8", "replace")
            raise Unavailable(f"its template failed ({reason}); see {path.with_suffix('.log')}")


async def start(python: str, environment: Mapping[str, str], path: Path) -> None:
    """Start the template that listens at `path`, as a process of its own that outlives this one."""
    with open(path.with_suffix(".log"), "w", encoding="utf-8") as log:
        process = subprocess.Popen(  # pylint: disable=consider-using-with
            [python, "-m", "Codes.warm.template", str(path), " " * channel.ROOM_FOR_ARGUMENTS],
            env=template_environment(environment),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while process.poll() is None:  # it ends once the template, a child of it, listens
        await asyncio.sleep(0.01)
    if process.returncode:
        raise Unavailable(f"its template could not start: {_last_line(path.with_suffix('.log'))}")


def template_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What the template of kernels is started with."""
    basis = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # as ipykernel sets it
    return basis | channel.template_environment(environment)


def _last_line(path: Path) -> str:
    with contextlib.suppress(OSError):
        lines = path.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"
    return "it said nothing"
