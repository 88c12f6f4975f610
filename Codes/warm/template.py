"""The warm template: a process that has imported what notebooks import, and forks a kernel from itself on request.

It has one thread, no tracking store, no socket but its own, and none of the user's own code. A client (provisioner.py)
starts it on demand; it ends after some idle minutes, or as soon as it is no longer what a fresh start would make.
"""

import contextlib
import gc
import os
import re
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, get_origin, get_type_hints

from Codes.forks import channel
from Codes.warm import forked
from Codes.warm.preload import CONFIGURATION, Preloaded, thread_count

Kind = TypeVar("Kind", bound=Preloaded)
Refusal: TypeAlias = Callable[[Mapping[str, Any], Sequence[int]], str]
# what the forked child is given: a request of the kind that the template's Refusal checks, streams, client, connection
Fork: TypeAlias = tuple[Any, list[int], int, socket.socket]
DATA = re.compile(r"--(IPKernelApp\.log_level|HistoryManager\.(hist_file|enabled))=[^\n]*")
PATIENCE = 5.0  # seconds that a client has to send its request


def malformed(request: Mapping[str, Any], files: Sequence[int], kind: type[channel.Process]) -> str:
    """What of `request` is not as in its `kind`, or of its `files`; an empty text if nothing."""
    types = {name: get_origin(each) or each for name, each in get_type_hints(kind).items()}
    if bad := [name for name, each in types.items() if not isinstance(request.get(name), each)]:
        return f"the request's {bad[0]} is missing or malformed"
    texts = [*request["argv"], *request["env"], *request["env"].values()]
    whole = len(files) == 3 and all(isinstance(text, str) for text in texts)
    return "" if whole else "the request is malformed"


def refusal(request: Mapping[str, Any], files: Sequence[int]) -> str:
    """Why no kernel is forked for `request` with the descriptors `files`; an empty text where one is.

    Some options of IPython are run as code, so that only known ones that hold data are taken.
    """
    if reason := malformed(request, files, channel.KernelRequest):
        return reason
    argv = request["argv"]
    if argv[1:3] != ["-m", "ipykernel_launcher"]:
        return f"a template forks ipykernel, not {' '.join(argv[:3])}"
    if len(argv) < 5 or argv[3] != "-f":
        return "its connection file is not named"
    unknown = [part for part in argv[5:] if not DATA.fullmatch(part)]
    return f"a template takes no option {unknown[0]}" if unknown else ""


def threads_told(starters: Sequence[str]) -> str:
    """Why a template with threads forks nothing: the packages that are the `starters` of them, and what to do."""
    if not starters:
        return "one of the template's modules starts threads"
    names = ", ".join(starters)
    return (
        f"{names} starts threads while it is imported, and no process with threads is forked; kernels are warm where "
        f"{CONFIGURATION.name} names it under `never`"
    )


class Server:
    """Answers clients one after another, follows the kernels, and says how each ended."""

    def __init__(
        self, preloaded: Preloaded, listener: socket.socket, path: str, refuse: Refusal = refusal
    ) -> None:
        self.preloaded, self.path, self.refuse = preloaded, path, refuse
        self.listener: socket.socket | None = listener
        self.kernels: dict[int, tuple[int, socket.socket]] = {}  # by pidfd
        self.selector, self.last = selectors.DefaultSelector(), time.monotonic()
        self.selector.register(listener, selectors.EVENT_READ)

    def serve(self) -> "Fork | None":
        """Serve until idle, and return None; in a forked child return (request, streams, client, connection)."""
        while self.is_needed():
            for key, _ in self.selector.select(min(10, max(0.1, self.left()))):
                if key.fileobj is not self.listener:
                    self.tell_end(key.fd)
                elif found := self.answer():
                    return found
        return None

    def is_needed(self) -> bool:
        """Whether a kernel runs, or a client may still come."""
        if self.listener and self.left() < 0:
            self.retire()
        return bool(self.kernels or self.listener)

    def left(self) -> float:
        """Seconds until it has been idle for long enough."""
        return self.last + self.preloaded.settings.idle_minutes * 60 - time.monotonic()

    def retire(self) -> None:
        """Take no more clients; the next one starts another template."""
        Path(self.path).unlink(missing_ok=True)
        if self.listener:
            self.selector.unregister(self.listener)
            self.listener.close()
        self.listener = None

    def answer(self) -> "Fork | None":
        """Take one client; in the child that it gets, return what `serve` returns."""
        assert self.listener
        connection, _ = self.listener.accept()
        self.last, client, files = time.monotonic(), None, []
        try:
            connection.settimeout(PATIENCE)
            client = os.pidfd_open(channel.check_peer(connection))
            request, files = channel.receive(connection)
            if request is None:
                connection.close()
            elif reason := self.obstacle(request, files):
                channel.send(connection, reason)
                connection.close()
            elif self.fork(connection):
                return request, files, client, connection
        except (OSError, ValueError, channel.Unavailable) as error:
            with contextlib.suppress(OSError):
                channel.send(connection, {"refused": f"{type(error).__name__}: {error}"})
            connection.close()
        channel.close(files + ([client] if client else []))
        return None

    def obstacle(self, request: Mapping[str, Any], files: Sequence[int]) -> dict[str, Any] | None:
        """What keeps this template from forking for `request`, as an answer; None where nothing does."""
        if "ask" in request:
            if request["ask"] == "retire":
                self.retire()
            kind = self.preloaded.kind
            return {"template": os.getpid(), "kind": kind, "kernels": len(self.kernels)}
        if reason := self.preloaded.stale():
            self.retire()
            return {"stale": reason}
        if reason := self.refuse(request, files):
            return {"refused": reason}
        if thread_count() > 1:
            return {"refused": threads_told(self.preloaded.starters)}
        return None

    def fork(self, connection: socket.socket) -> bool:
        """Fork; True in the child, which has nothing of the server any more."""
        pid = os.fork()
        if pid == 0:
            self.forget()
            return True
        ending = os.pidfd_open(pid)
        self.kernels[ending] = pid, connection
        self.selector.register(ending, selectors.EVENT_READ)
        return False

    def forget(self) -> None:
        """Close what the child has of the server: other clients, other kernels, the socket."""
        try:
            for ending, (_, other) in self.kernels.items():
                os.close(ending)
                other.close()
            self.kernels.clear()
            self.selector.close()
            if self.listener:
                self.listener.close()
        except BaseException:  # pylint: disable=broad-exception-caught
            os._exit(1)  # it must not go on as a second template

    def tell_end(self, ending: int) -> None:
        """Tell the client of the kernel behind the pidfd `ending` its exit code."""
        self.selector.unregister(ending)
        os.close(ending)
        pid, connection = self.kernels.pop(ending)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(OSError):
            channel.send(connection, {"exit": code})
        connection.close()
        self.last = time.monotonic()


def hand_over(
    request: channel.KernelRequest,
    streams: list[int],
    client: int,
    connection: socket.socket,
    preloaded: Preloaded,
) -> None:
    """In the child: become the kernel, and tell the client who it is once it listens, if the client still wants it."""
    os.setsid()

    def listening() -> None:
        if not is_wanted(connection):
            os._exit(1)

    def kernel() -> None:
        forked.become_own_process(request, streams, client, connection.fileno())
        forked.become_fresh_interpreter(preloaded)
        forked.take_arguments(request)
        forked.serve(request, client, preloaded, listening)

    forked.run_to_end(kernel)


def is_wanted(connection: socket.socket) -> bool:
    """Tell the client behind `connection` which process is its fork; whether it has waited for it."""
    try:
        own = os.pidfd_open(os.getpid())
        channel.send(connection, {"pid": os.getpid()}, [own])
        os.close(own)
        return bool(channel.receive(connection)[0])
    except (OSError, ValueError):
        return False
    finally:
        connection.close()


def listener_at(path: str) -> socket.socket:
    """A socket that listens at `path`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listener.bind(path)
    listener.listen(128)
    return listener


def prepared(make: Callable[[], Kind], path: str) -> Kind:
    """What `make` preloads; a failure is noted beside `path`, so that nobody tries again at once."""
    failed = Path(path).with_suffix(".failed")
    try:
        preloaded = make()
        failed.unlink(missing_ok=True)
    except BaseException as error:
        failed.write_text(f"{type(error).__name__}: {str(error)[:200]}", "utf-8")
        raise
    return preloaded


def freeze() -> None:
    """Leave what is there out of the garbage collection, which would copy each page that the forks share."""
    gc.collect()
    gc.disable()
    gc.freeze()


def main(path: str) -> None:
    """Listen at `path`, preload, and serve; a client waits meanwhile."""
    sys.path.pop(0)  # the folder that `python -m` adds
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener = listener_at(path)
    if os.fork():  # whoever has started it sees by this end that it listens
        os._exit(0)
    listener.listen(128)  # once more: clients are told the process that listened last
    try:
        preloaded = prepared(Preloaded, path)
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise
    freeze()
    if found := Server(preloaded, listener, path).serve():
        hand_over(*found, preloaded)


if __name__ == "__main__":
    main(sys.argv[1])
