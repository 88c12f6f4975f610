"""Makes of a freshly forked process what a freshly started one would be, and then a Jupyter kernel."""

import contextlib
import ctypes
import faulthandler
import gc
import os
import random
import resource
import select
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from Codes.forks.channel import KernelRequest, Process
from Codes.seams import ipykernel_seam, python_seam

if TYPE_CHECKING:
    from Codes.warm.preload import Preloaded

MAIN_MODULE = "ipykernel_launcher"


def become_own_process(request: Process, streams: Iterable[int], *kept: int) -> None:
    """Leave the template behind: signals, streams, limits, folder, environment, command line."""
    _take_signals(set(request["ignored"]))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    _close_all_but(0, 1, 2, *kept)
    _reopen_streams()
    os.umask(request["umask"])
    for number, limits in request["limits"]:
        if resource.getrlimit(number) != tuple(limits):  # one that fails ends this fork
            resource.setrlimit(number, tuple(limits))
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, request["affinity"])
    os.chdir(request["cwd"])
    _take_environment(request["env"])
    _show(request["argv"], request["env"])


def _take_signals(ignored: set[int]) -> None:
    """Handle signals as a Python that was started by a process that ignores those of `ignored`."""
    ignored |= {signal.SIGPIPE, signal.SIGXFSZ}  # by Python itself
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
    if signal.SIGINT not in ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _close_all_but(*kept: int) -> None:
    for number in map(int, os.listdir("/proc/self/fd")):
        if number not in kept:
            with contextlib.suppress(OSError):
                os.close(number)


def _reopen_streams() -> None:
    """The three standard streams as an interpreter makes them for what is behind the descriptors now."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, f"__{name}__")
        setattr(sys, name, stream)
        if name != "stdin":
            stream.reconfigure(line_buffering=stream.isatty() or name == "stderr")


def _take_environment(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    tempfile.tempdir = None  # read TMPDIR again


def _show(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Let `ps` and /proc show this process's own command line and environment, in place of the template's.

    Both are the memory at the bottom of the stack, which nothing points to once os.environ was filled anew. It is
    worth that: what belongs to a run is found by the environment in /proc, and ended with it, also where its parents
    are gone (liveness.end_processes); and a person sees in `ps` which of ten kernels is whose. The way that Linux has
    for it (prctl PR_SET_MM) is root's alone.
    """
    fields = Path("/proc/self/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    argv_start, argv_end, env_start, env_end = map(int, fields[45:49])
    # what finds a run's processes must be there, also where not all fits
    first = sorted(environment, key=lambda key: not key.startswith("WORKBOOK_"))
    _write(argv_start, argv_end, [os.fsencode(a) for a in argv])
    _write(env_start, env_end, [os.fsencode(f"{k}={environment[k]}") for k in first])


def _write(start: int, end: int, texts: Iterable[bytes]) -> None:
    block = b"".join(text + b"\0" for text in texts)[: end - start - 1]
    ctypes.memmove(start, block.ljust(end - start, b"\0"), end - start)


def take_arguments(request: KernelRequest) -> None:
    """Give this kernel its command line, as Python programs see it."""
    sys.argv = [str(sys.modules[MAIN_MODULE].__file__), *request["argv"][3:]]
    sys.orig_argv = list(request["argv"])


def become_fresh_interpreter(preloaded: "Preloaded") -> None:
    """Give this interpreter what each start makes anew: random state, thread counts, modules of the user's own."""
    from multiprocessing import process as processes

    for name, value in preloaded.environment.items():
        os.environ.setdefault(name, value)
    for source in preloaded.random:
        source.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    processes.current_process().authkey = os.urandom(32)
    python_seam.forget_start_method()
    for module in preloaded.foreign:
        sys.modules.pop(module, None)
    _set_blas_threads()
    _read_matplotlib_settings(preloaded)
    gc.enable()


def _set_blas_threads() -> None:
    """As many BLAS threads as a fresh process takes: the template has one, so that it can be forked."""
    import threadpoolctl

    names = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
    given = [os.environ[name] for name in names if os.environ.get(name, "").isdigit()]
    count = int(given[0]) if given else len(os.sched_getaffinity(0))
    if count > 1:
        threadpoolctl.threadpool_limits(limits=count, user_api="blas")


def _read_matplotlib_settings(preloaded: "Preloaded") -> None:
    """Take another matplotlibrc, such as one in the working folder, where a fresh import would."""
    if matplotlib := sys.modules.get("matplotlib"):
        if matplotlib.matplotlib_fname() != preloaded.matplotlibrc:
            for settings in (matplotlib.rcParams, matplotlib.rcParamsOrig):
                backend = dict.__getitem__(settings, "backend")
                settings.update(matplotlib.rc_params())
                dict.__setitem__(settings, "backend", backend)


def serve(
    request: KernelRequest, client: int, preloaded: "Preloaded", listening: Callable[[], None]
) -> None:
    """Be the kernel that `request` asks for until it ends, and call `listening` once clients can connect.

    `client` is the pidfd of the process that must outlive it, unless it is to be independent.
    """
    from ipykernel.kernelapp import IPKernelApp

    app: Any = IPKernelApp.instance()
    ipykernel_seam.preset(
        app,
        parent=request["parent"],
        poll=lambda: request["independent"] or die_with(client),
        connect=lambda: _connect(app),
    )
    faulthandler.enable(os.fdopen(os.dup(2), "w"))
    with ipykernel_seam.with_modules(preloaded.kernel), preloaded.guise.becoming(app):
        app.initialize(request["argv"][3:])
    listening()
    app.start()
    # ipykernel's own end waits 10 s where it stops the outputs' thread before this one is done
    if app.shell.exit_now:
        app.control_thread.join(1)


def _connect(app: Any) -> None:
    """Take the ports from the connection file; one that is gone means that the client has given up."""
    try:
        app.load_connection_file()
    except FileNotFoundError:
        os._exit(1)


def run_to_end(body: Callable[[], None]) -> NoReturn:
    """Run `body`, and end as an interpreter does, but without tearing down what it shares with the template.

    That would copy each memory page that the two share; multiprocessing ends its forks in the same way.
    """
    code = 1
    try:
        body()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
    except BaseException as error:  # pylint: disable=broad-exception-caught
        sys.excepthook(type(error), error, error.__traceback__)
    python_seam.run_exit_functions()
    for stream in filter(None, (sys.__stdout__, sys.__stderr__)):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def die_with(client: int) -> None:
    """End this process as soon as the process behind the pidfd `client` is gone."""

    def wait() -> None:
        waiting = select.poll()
        waiting.register(client, select.POLLIN)
        while not waiting.poll():
            pass
        os._exit(1)

    threading.Thread(target=wait, name="workbook-client", daemon=True).start()


def random_sources() -> list[Any]:
    """All random number generators that are alive, as far as they can be seeded anew from the system's entropy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [o for o in gc.get_objects() if isinstance(o, random.Random)]
    own = [o for o in found if not isinstance(o, random.SystemRandom)]
    return [random, *own]
