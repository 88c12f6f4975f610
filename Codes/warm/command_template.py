"""The template of commands: has imported what the `workbook` command needs, and forks a process that becomes one.

A template of its own beside that of kernels: many libraries decide as they are imported whether they are in a notebook
or at a terminal. Its clients are forks.command_client and forks.apart, which start it where they found none.
"""

import contextlib
import fcntl
import importlib
import os
import signal
import socket
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from Codes.forks.channel import CommandRequest
from Codes.ground import paths
from Codes.warm import forked, preload, template

# modules of ours that the quick commands run, and what reads arguments
RUN = """
model_registry/promotion comparison/standings problems/overview stores/store running/runner running/engine
running/recording fingerprints/fingerprint
""".split()
READ = [
    "Codes.commands.cli",
    "Codes.saved_models.reproduction",
    "Codes.model_registry.demonstration",
]
# papermill formats the parameters that it injects by black
LATE = [
    "mlflow.store.model_registry.sqlalchemy_store",
    "nbconvert.exporters.html",
    "papermill",
    "black",
]
INTERRUPTED = 130


class Preloaded(preload.Preloaded):
    """What the commands import."""

    kind = "commands"

    def __init__(self) -> None:
        self.before: dict[Path, preload.Stamp | None] = {}
        super().__init__()
        first_page()
        # papermill holds our engine: the two are loaded together
        self.foreign += [n for n in sys.modules if n.partition(".")[0] == "papermill"]
        files = {getattr(sys.modules[name], "__file__", None) for name in self.foreign}
        self.loaded = {path: self.before.get(path) for path in map(Path, filter(None, files))}

    def own_modules(self) -> list[str]:
        """The workbook's own modules that the commands run, with what they reach."""
        folder = paths.ROOT / "Codes"
        self.before = {path: preload.stamp_of(path) for path in folder.rglob("*.py")}
        files = {name: paths.ROOT / f"{name.replace('.', '/')}.py" for name in self.wanted}
        reached = [name for name, path in files.items() if path in self.before]
        return [*READ, *sorted(reached)]

    def to_load_anew(self) -> list[str]:
        """The modules that a command must load anew: none where no file of ours was edited since; else all of ours."""
        own = paths.ROOT / "Codes"
        edited = [
            p
            for p, stamp in self.loaded.items()
            if p.is_relative_to(own) and preload.stamp_of(p) != stamp
        ]
        if edited:
            return self.foreign
        ours = "Codes", "papermill"
        return [name for name in self.foreign if name.partition(".")[0] not in ours]

    def surroundings(self) -> contextlib.AbstractContextManager[None]:
        """What the libraries see around them while they are imported: a plain process."""
        return contextlib.nullcontext()

    def read_settings(self) -> preload.Settings:
        """The settings of Resources/warm.yaml, as far as they concern commands, which use papermill."""
        found = preload.settings()
        found.also = [*found.also, *LATE]
        found.never = [name for name in found.never if name != "papermill"]
        return found

    def sources(self) -> list[Path]:
        """The modules that the quick commands run."""
        return [paths.ROOT / "Codes" / f"{name}.py" for name in RUN]


def first_page() -> None:
    """Pay what the first notebook costs a process: its schema, the page's templates, the grammar of its colours."""
    import nbformat

    code = nbformat.v4.new_code_cell("import this  # and that")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), code])
    nbformat.validate(notebook)
    with contextlib.suppress(ImportError):  # a checkout of which a part is missing
        importlib.import_module("Codes.running.recording").as_page(notebook)


def refusal(request: Mapping[str, Any], files: Sequence[int]) -> str:
    """Why no command is forked for `request` with the descriptors `files`; an empty text where one is."""
    return template.malformed(request, files, CommandRequest)


def hand_over(
    request: CommandRequest,
    streams: list[int],
    client: int,
    connection: socket.socket,
    preloaded: Preloaded,
) -> None:
    """In the child: become the command, once its client still wants it; else nothing was done."""
    os.setsid()

    def command() -> None:
        forked.become_own_process(request, streams, client, connection.fileno())
        preloaded.foreign = preloaded.to_load_anew()
        forked.become_fresh_interpreter(preloaded)
        take_arguments(request)
        if not template.is_wanted(connection):
            os._exit(1)
        forked.die_with(client)
        try:
            importlib.import_module(request["module"]).main()
        except KeyboardInterrupt:  # before the command was there to take it
            sys.exit(INTERRUPTED)

    forked.run_to_end(command)


def take_arguments(request: CommandRequest) -> None:
    """Let this process be the script that was called: its arguments, where its modules come from, its main module."""
    sys.argv, sys.orig_argv = list(request["arguments"]), list(request["argv"])
    sys.path.insert(0, request["folder"])
    main_module = types.ModuleType("__main__")
    main_module.__file__ = sys.argv[0]
    sys.modules["__main__"] = main_module


class Server(template.Server):
    """Holds the open file `lock` for as long as it takes clients: the next one starts while this one still ends."""

    lock: int

    def retire(self) -> None:
        """Take no more clients; the next one starts another template."""
        super().retire()
        fcntl.flock(self.lock, fcntl.LOCK_UN)


def main(path: str, lock: str) -> None:
    """Preload, then listen at `path` and serve, while the open file `lock` is locked."""
    sys.path.pop(0)  # the folder that `python -m` adds
    os.set_inheritable(int(lock), False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    preloaded = template.prepared(Preloaded, path)
    Path(path).unlink(missing_ok=True)  # left by one that was killed
    listener = template.listener_at(path)  # only now: a command does not wait for one that warms up
    template.freeze()
    server = Server(preloaded, listener, path, refusal)
    server.lock = int(lock)
    if found := server.serve():
        hand_over(*found, preloaded)


if __name__ == "__main__":
    main(*sys.argv[1:3])
