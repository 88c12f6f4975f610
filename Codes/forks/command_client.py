"""The client of the template of commands: a few milliseconds instead of the seconds that imports take.

It hands over what makes a process (arguments, environment, folder, streams, umask, limits), passes signals on, and
ends as the command does. It imports the standard library only, since it runs before anything else.
"""

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from Codes.ground.paths import ROOT
from Codes.forks import channel
from Codes.forks.fork import UNKNOWN

COLD = "WORKBOOK_COLD_COMMANDS"  # commands in the ordinary way; kernels may be warm
PATIENCE = 2.0  # seconds for a template that is there; then the command starts in the ordinary way
RETRY = 300.0  # seconds after which a template that could not be made is tried again
TERMINAL = {signal.SIGINT, signal.SIGQUIT, signal.SIGHUP}  # a terminal sends these to all of a job
PASSED_ON = TERMINAL | {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH}
PASSED_ON |= {signal.SIGTSTP, signal.SIGCONT}


def execute(module: str) -> int | None:
    """Call the `main` of `module` in a fork of the template; its exit status, negative for a signal.

    None where there is no template that can: nothing was done then.
    """
    with Signals() as signals:
        try:
            if not (connection := channel.connection_to(address(os.environ), PATIENCE)):
                return None
            with connection:
                channel.check_peer(connection)
                channel.send(connection, request(module), [0, 1, 2])
                told, files = channel.receive(connection)
                if not told or "pid" not in told:
                    return None
                channel.send(connection, {"welcome": True})
                signals.go_to(told["pid"])
                return _exit_code(connection, *files)
        except (OSError, ValueError, channel.Unavailable):
            if signals.pid is None:
                return None
            raise


def _exit_code(connection: socket.socket, process: int) -> int:
    """What the template says of the end of the command, whose pidfd is `process`."""
    connection.settimeout(None)
    told, _ = channel.receive(connection)
    if told:
        return int(told["exit"])
    select.select([process], [], [])  # the template was killed; the command goes on
    return UNKNOWN


def request(module: str) -> channel.CommandRequest:
    """What the template needs to know of this process to fork another like it."""
    own = channel.process(sys.orig_argv, os.environ, os.getcwd())
    return {**own, "arguments": sys.argv, "folder": sys.path[0], "module": module}


class Signals:
    """Within it the signals that reach this process go on to the command, or wait until there is one."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.waiting: list[int] = []
        self.before: dict = {}

    def __enter__(self):
        for number in PASSED_ON:
            if signal.getsignal(number) != signal.SIG_IGN:
                self.before[number] = signal.signal(number, self.take)
        return self

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)
        for number in self.waiting:  # there was no command: as if they came now
            os.kill(os.getpid(), number)

    def go_to(self, pid: int) -> None:
        """Pass on to the process `pid`, which leads its own group."""
        self.pid = pid
        while self.waiting:
            self.take(self.waiting.pop(0), None)

    def take(self, number: int, _frame: FrameType | None) -> None:
        """Pass the signal `number` on."""
        if self.pid is None:
            self.waiting.append(number)
        elif (
            number == signal.SIGTSTP
        ):  # a group whose leader has no parent at the terminal ignores it
            self.send(signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            self.send(number)

    def send(self, number: int) -> None:
        """Send the signal `number` to the command; one of a terminal's to all that it has started as well."""
        assert self.pid
        to_all = number in TERMINAL or number in (signal.SIGSTOP, signal.SIGCONT)
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if to_all else os.kill)(self.pid, number)


def end(code: int) -> None:
    """End this process by the exit status `code`, by a signal where it is negative."""
    if code < 0:
        with contextlib.suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code if code >= 0 else 128 - code)


def is_off() -> bool:
    """Whether commands start in the ordinary way."""
    own = os.environ.get(COLD, "0") not in ("", "0")
    return own or channel.is_off(os.environ) or sys.platform != "linux"


def address(environment: channel.Environment) -> Path:
    """Where the template of commands with `environment` listens."""
    told = {name: v for name, v in environment.items() if channel.QUIET.get(name) != v}
    return channel.folder() / f"{channel.name(sys.executable, told)}.commands.sock"


def start(environment: channel.Environment) -> None:
    """Begin to start the template for the next one, unless there is one, one starts, or the last one failed."""
    with contextlib.suppress(OSError, channel.Unavailable):
        path = address(environment)
        failed = path.with_suffix(".failed")
        if failed.exists() and time.time() - failed.stat().st_mtime < RETRY:
            return
        # the template inherits the locked file, and has it for as long as it takes clients
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _start(path, lock, environment)
        finally:
            os.close(lock)


def _start(path: Path, lock: int, environment: channel.Environment) -> None:
    command = [sys.executable, "-m", "Codes.warm.command_template", str(path), str(lock)]
    with open(path.with_suffix(".log"), "w", encoding="utf-8") as log:
        subprocess.Popen(  # pylint: disable=consider-using-with
            [*command, " " * channel.ROOM_FOR_ARGUMENTS],
            env=channel.QUIET | channel.template_environment(environment),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock],
        )
