"""What of Python's own library is used that it does not document: a fork that begins, and ends, like a process."""

import atexit
import os
import threading
from typing import Any

# pylint: disable=protected-access


def run_exit_functions() -> None:
    """Wait for the threads that are no daemons, and run what was registered with atexit, as an interpreter's end does.

    Private: `threading._shutdown`, `atexit._run_exitfuncs`; multiprocessing ends its forks by the latter, too.
    Seen: Python 3.11 to 3.13.
    Without: `sys.exit`, which tears the interpreter down and so copies each page that forks share.
    """
    getattr(threading, "_shutdown")()
    atexit._run_exitfuncs()


def forget_start_method() -> None:
    """Let `multiprocessing.set_start_method` choose once more in this fork.

    Private: `multiprocessing.context._default_context._actual_context`.
    Seen: Python 3.11 to 3.13.
    Without: it comes too late where anything imported ahead has asked for the method.
    """
    from multiprocessing import context

    default: Any = context._default_context
    default._actual_context = None


def forkserver_address() -> Any:
    """Where the server listens from which processes of the method `forkserver` are forked.

    Private: `forkserver._forkserver._forkserver_address`.
    Seen: Python 3.11 to 3.13.
    Without: each process that itself forks starts a server of its own, five seconds of imports.
    """
    from multiprocessing import forkserver

    forkserver.ensure_running()
    server: Any = forkserver._forkserver
    return server._forkserver_address


def use_forkserver(address: Any) -> None:
    """Let this process, which the process that has started the server at `address` has started or forked, fork from it.

    Private: `forkserver._forkserver._forkserver_address`, `_forkserver_alive_fd`, `ensure_running`.
    Seen: Python 3.11 to 3.13.
    Without: see forkserver_address.
    """
    from multiprocessing import forkserver

    server: Any = forkserver._forkserver
    server._forkserver_address = address
    if server._forkserver_alive_fd is None:  # not a fork: any will do
        server._forkserver_alive_fd = os.pipe()[1]
    server.ensure_running = forkserver.ensure_running = lambda: None
