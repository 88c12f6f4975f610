"""What libraries see around them while the template imports them: a Jupyter kernel, as in an ordinary start.

Many look as they load whether they are in a notebook or at a terminal, and keep the answer, or keep a stream or the
function that asks for input. So there are a kernel, its shell and its streams already, empty ones; in the forked
kernel they share the state of the real ones, so that what a library has kept works.
"""

import builtins
import contextlib
import getpass
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from Codes.seams import ipykernel_seam


class Guise:
    """A kernel, its shell and its streams, which are none yet."""

    def __init__(self) -> None:
        from IPython.core.events import EventManager, available_events
        from IPython.core.formatters import DisplayFormatter
        from ipykernel.ipkernel import IPythonKernel
        from ipykernel.zmqshell import ZMQInteractiveShell
        from traitlets.config.loader import Config

        self.streams = {name: early_stream(name) for name in ("stdout", "stderr")}
        self.kernel = IPythonKernel.__new__(IPythonKernel)
        self.shell = ZMQInteractiveShell.__new__(ZMQInteractiveShell)
        self.shell.config = Config({"IPKernelApp": {"connection_file": "kernel.json"}})
        self.shell.kernel = self.kernel
        self.shell.events = self.events = EventManager(self.shell, available_events)
        self.shell.display_formatter = self.formatter = DisplayFormatter()
        self.usual = printers(self.formatter)

    @contextlib.contextmanager
    def worn(self) -> Iterator[None]:
        """Within it this process looks like a kernel that executes a cell."""
        import ipykernel_launcher
        from IPython.core.display_functions import display

        main = types.ModuleType(
            "__main__", "Automatically created module for IPython interactive environment"
        )
        shown = {"get_ipython": self.shell.get_ipython, "display": display, "__IPYTHON__": True}
        system = {"ps1": "In : ", "ps2": "...: ", "ps3": "Out: ", **self.streams}
        system["argv"] = [ipykernel_launcher.__file__, "-f", "kernel.json"]
        with (
            having(vars(builtins), shown | {"input": self.kernel.raw_input}),
            having(vars(getpass), {"getpass": self.kernel.getpass}),
            having(vars(sys), system),
            having(sys.modules, {"__main__": main}),
            ipykernel_seam.as_instance(self.shell),
        ):
            yield

    @contextlib.contextmanager
    def becoming(self, app: Any) -> Iterator[None]:
        """Within it the kernel's `app` is initialized, with these streams; then kernel and shell are its own too."""
        with ipykernel_seam.with_streams(self.streams):
            yield
        self.become(app.kernel)

    def become(self, kernel: Any) -> None:
        """Be the real `kernel` and its shell; what was registered with the early one is registered with that."""
        shell = kernel.shell
        self.kernel.__dict__, self.shell.__dict__ = kernel.__dict__, shell.__dict__
        for event, callbacks in self.events.callbacks.items():
            for callback in callbacks:
                shell.events.register(event, callback)
        for key, printer in printers(self.formatter).items():
            if key not in self.usual:
                name, table, of = key
                getattr(shell.display_formatter.formatters[name], table)[of] = printer


def printers(formatter: Any) -> dict[tuple[str, str, Any], Callable[..., Any]]:
    """{(kind of output, table, type): function} of all that the display `formatter` can show."""
    tables = ("singleton_printers", "type_printers", "deferred_printers")
    return {
        (name, table, of): printer
        for name, each in formatter.formatters.items()
        for table in tables
        for of, printer in getattr(each, table).items()
    }


def early_stream(name: str) -> Any:
    """The kernel's stream `name` before there is one: what is written goes to the template's own, its log."""
    from ipykernel.iostream import OutStream

    class Early(OutStream):
        """A stream that is not initialized."""

        def write(self, string: str) -> int:
            """Write `string` to the log."""
            return getattr(sys, f"__{name}__").write(string)

        def flush(self) -> None:
            """Write what is held back."""
            getattr(sys, f"__{name}__").flush()

        def isatty(self) -> bool:
            """As a notebook's: no."""
            return False

    made = Early.__new__(Early)  # pylint: disable=no-value-for-parameter
    made.name = name
    return made


@contextlib.contextmanager
def having(namespace: dict[str, Any], values: Mapping[str, Any]) -> Iterator[None]:
    """Within it the dict `namespace` has these `values`, afterwards what it had before."""
    before = {name: namespace[name] for name in values if name in namespace}
    namespace.update(values)
    try:
        yield
    finally:
        for name in values:
            namespace.pop(name, None)
        namespace.update(before)
