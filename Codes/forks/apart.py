"""A module of ours in a process of its own: a fork of the template of commands where there is one, else started.

The fork has imported the installed packages (seconds), and nothing of ours or of the caller's. Own code, since
multiprocessing's forkserver is one a program, and each would import anew what the template has imported once.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO

from Codes.forks import channel, command_client
from Codes.forks.fork import Fork
from Codes.ground.paths import ROOT

INLINE = "module://matplotlib_inline"  # figures for a notebook, which such a process is not in


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
            return Fork(connection, answer["pid"], files[0])
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
