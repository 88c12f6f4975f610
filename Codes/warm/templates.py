"""The warm templates of this user that are there now: which they are, and ending those of this checkout."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from Codes.forks import channel


@dataclass(frozen=True)
class Template:
    """A template, and what it is there for."""

    pid: int
    kind: str  # kernels or commands
    forks: int  # that run now
    checkout: Path
    memory: int  # bytes

    @property
    def is_own(self) -> bool:
        """Whether it is one of this checkout."""
        return self.checkout == channel.ROOT

    def __str__(self) -> str:
        memory = f"{self.memory / 1e6:,.0f} MB"
        return f"template {self.pid}: {self.forks} {self.kind}, {memory}, of {self.checkout}"


def found() -> list[Template]:
    """This user's templates, each asked to answer."""
    return [each for path in _sockets() if (each := _template(path))]


def stop() -> list[Template]:
    """Let the templates of this checkout go, forget failed ones, and remove what killed ones left; returns the former.

    A template that retires takes no more kernels, and ends once those that it has have ended.
    """
    gone = []
    for path in _sockets():
        each = _template(path)
        if each and each.is_own:
            _asked(path, "retire")
            gone.append(each)
        if not each or each.is_own:
            path.unlink(missing_ok=True)
            path.with_suffix(".log").unlink(missing_ok=True)
    for path in channel.folder().glob("*.failed"):
        path.unlink(missing_ok=True)
        path.with_suffix(".log").unlink(missing_ok=True)
    return gone


def _sockets() -> list[Path]:
    return sorted(channel.folder().glob("*.sock"))


def _template(path: Path) -> Template | None:
    """The template that listens at `path`; None where nobody does."""
    answer = _asked(path, "status")
    if not answer or "template" not in answer:
        return None
    pid = answer["template"]
    with contextlib.suppress(OSError, psutil.Error):
        checkout = Path(
            os.readlink(f"/proc/{pid}/cwd")
        )  # also of one that an older workbook has started
        memory = psutil.Process(pid).memory_info().rss
        return Template(pid, answer.get("kind", "kernels"), answer["kernels"], checkout, memory)
    return None


def _asked(path: Path, ask: str) -> dict | None:
    with contextlib.suppress(OSError, ValueError):
        # one that warms up answers when it is warm
        if connection := channel.connection_to(path, 60):
            with connection:
                channel.check_peer(connection)
                channel.send(connection, {"ask": ask})
                return channel.receive(connection)[0]
    return None
