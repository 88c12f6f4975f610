"""A module of ours in a process of its own: a fork of the template of commands where there is one, else started.

The fork has imported the installed packages (seconds), and nothing of ours or of the caller's. Own code, since
multiprocessing's forkserver is one a program, and each would import anew what the template has imported once.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO

from Codes.forks import channel, command_client
from Codes.ground.paths import ROOT

INLINE = "module://matplotlib_inline"  # figures for a notebook, which such a process is not in


class Fork:
    """A forked process, asked and ended as a subprocess.Popen is; it does not outlive the process that asked for it."""

    def __init__(self, pid: int, process: int, connection: socket.socket) -> None:
        self.pid, self._process, self._connection = pid, process, connection
        self.returncode: int | None = None  # negative for a signal

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended; a subprocess.TimeoutExpired after `timeout` seconds."""
        if self.returncode is None:
            if not select.select([self._process], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self._connection.settimeout(command_client.PATIENCE)
            answer = None
            with contextlib.suppress(OSError, ValueError):
                answer, _ = channel.receive(self._connection)
            # the template, which alone can know, was killed
            self.returncode = int(answer["exit"]) if answer else command_client.UNKNOWN
            self._connection.close()
            os.close(self._process)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, number)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it (SIGKILL)."""
        self.send_signal(signal.SIGKILL)


def start(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    stdout: IO[bytes],
    stderr: IO[bytes],
) -> "Fork | subprocess.Popen[bytes]":
    """Begin the `main` of `module` as `python -m` does, in the checkout's folder, without input."""
    environ = {
        n: v for n, v in environment.items() if not (n == "MPLBACKEND" and v.startswith(INLINE))
    }
    argv = [sys.executable, "-m", module, *arguments]
    with open(os.devnull, "rb") as nothing:
        streams = [nothing.fileno(), stdout.fileno(), stderr.fileno()]
        is_warm = sys.platform == "linux" and not channel.is_off(environ)
        if is_warm and (fork := _forked(module, argv, environ, streams)):
            return fork
        if is_warm:
            command_client.start(environ)
        return subprocess.Popen(
            argv, env=environ, cwd=ROOT, stdin=nothing, stdout=stdout, stderr=stderr
        )


def _forked(
    module: str, argv: list[str], environ: dict[str, str], streams: list[int]
) -> Fork | None:
    """A fork of the template for `environ`; None where there is none that can."""
    try:
        connection = channel.connection_to(command_client.address(environ), command_client.PATIENCE)
    except (OSError, channel.Unavailable):
        return None
    if not connection:
        return None
    file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    wish: channel.CommandRequest = {
        **channel.process(argv, environ, str(ROOT)),
        "arguments": [str(file), *argv[3:]],
        "folder": str(ROOT),
        "module": module,
    }
    try:
        channel.check_peer(connection)
        channel.send(connection, wish, streams)
        answer, files = channel.receive(connection)
        if answer and "pid" in answer:
            channel.send(connection, {"welcome": True})
            return Fork(answer["pid"], files[0], connection)
    except (OSError, ValueError, channel.Unavailable):
        pass
    connection.close()
    return None


def run(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    timeout: float | None = None,
) -> "subprocess.CompletedProcess[str]":
    """As `start`, to its end: a subprocess.CompletedProcess; a subprocess.TimeoutExpired after `timeout` seconds."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = start(module, arguments, environment, stdout, stderr)
        try:
            code = process.wait(timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        texts = []
        for stream in (stdout, stderr):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
        return subprocess.CompletedProcess([module, *arguments], code, *texts)
