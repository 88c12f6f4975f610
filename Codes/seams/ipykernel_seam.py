"""What of ipykernel and traitlets is used that they do not document: a kernel that begins in a process that is warm.

The warm template is forked with this module, which therefore imports them in functions.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

# pylint: disable=protected-access


@contextlib.contextmanager
def with_modules(modules: dict[str, ModuleType]) -> Iterator[None]:
    """Within it ipykernel, as its kernel is made, takes `modules` alone for its own, into which no debugger steps.

    Private: that `ipykernel.ipkernel` looks at `sys.modules` as the kernel is made.
    Seen: ipykernel 7.4.0.
    Without: the debugger steps into no module that was imported ahead.
    """
    from ipykernel import ipkernel

    vars(ipkernel)["sys"] = _Sys(modules)
    try:
        yield
    finally:
        vars(ipkernel)["sys"] = sys


class _Sys:
    """`sys` with other `modules`."""

    def __init__(self, modules: dict[str, ModuleType]) -> None:
        self.modules = modules

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def preset(
    app: Any, parent: int, poll: Callable[[], object], connect: Callable[[], object]
) -> None:
    """Let the IPKernelApp `app` be initialized without what it does slowly or otherwise than a fork must.

    Args:
        app: takes `-f FILE --Class.trait=value …` alone: building the parser of all options is a fifth of a start.
        parent: the process that must outlive the kernel, watched by `poll`.
        connect: loads the connection file; ipykernel would make one that is gone anew, and write one that is there.

    Private: the methods `parse_command_line`, `init_poller`, `init_connection_file`, `write_connection_file`.
    Seen: ipykernel 7.4.0.
    Without: `app.initialize` as it is, 0.1 s more for each kernel, and files of kernels that nobody waits for.
    """
    app.parse_command_line = lambda argv: take_options(app, argv)
    app.init_poller = poll
    app.parent_handle = parent
    app.init_connection_file = connect
    app.write_connection_file = lambda: None


def take_options(app: Any, argv: Sequence[str]) -> None:
    """Configure `app` by `argv`: -f FILE --Class.trait=value …

    Private: `traitlets.config.loader.DeferredConfigString`, a text that its trait reads.
    Seen: traitlets 5.16.1.
    Without: `app.parse_command_line`, slower.
    """
    from traitlets.config.loader import Config, DeferredConfigString

    app.connection_file = argv[1]
    for option in argv[2:]:
        name, _, value = option.removeprefix("--").partition("=")
        section, _, trait = name.partition(".")
        app.update_config(Config({section: {trait: DeferredConfigString(value)}}))


@contextlib.contextmanager
def as_instance(shell: Any) -> Iterator[None]:
    """Within it `shell` is what `get_ipython` gives, although it was not made by `instance()`.

    Private: `SingletonConfigurable._walk_mro`, `_instance`.
    Seen: traitlets 5.16.1.
    Without: libraries see no notebook while the template imports them, and must not be imported ahead.
    """
    try:
        for kind in type(shell)._walk_mro():
            kind._instance = shell
        yield
    finally:
        type(shell).clear_instance()


@contextlib.contextmanager
def with_streams(streams: dict[str, Any]) -> Iterator[None]:
    """Within it a kernel that is initialized makes no new streams, but initializes `streams` (name → OutStream).

    Private: that `ipykernel.kernelapp` takes `iostream.OutStream` as its kernel is initialized.
    Seen: ipykernel 7.4.0.
    Without: what a library has kept of `sys.stdout` as it was imported writes nowhere.
    """
    from ipykernel import iostream

    kind = iostream.OutStream

    def stream(session: Any, thread: Any, name: str, **options: Any) -> Any:
        made = streams[name]
        made.__class__ = kind
        kind.__init__(made, session, thread, name, **options)
        return made

    vars(iostream)["OutStream"] = stream
    try:
        yield
    finally:
        vars(iostream)["OutStream"] = kind
