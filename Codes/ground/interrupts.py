"""An interruption that Python swallows comes once more.

What a signal's handler raises is raised wherever the main thread happens to be. Where that is an object's `__del__` or
a weak reference's callback, Python prints 'Exception ignored in' and goes on, and Ctrl-C has done nothing:
https://docs.python.org/3/library/sys.html#sys.unraisablehook
"""

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SOON = 0.01  # seconds, after which the swallowing code has ended; where it has not, the next one is sent again too


@contextmanager
def none_lost(again: Callable[[], Any] = bool) -> Iterator[None]:
    """Within it SIGINT or SIGTERM is sent once more where Python swallowed the KeyboardInterrupt or SystemExit.

    Args:
        again: called before that; a handler that raises only once must be told that it may raise again. It runs amid
            whatever was interrupted and may take no lock.
    """
    before = sys.unraisablehook
    under_way: list[int] = []  # signals that are to be sent: one stands for several

    def send_again(unraisable: "sys.UnraisableHookArgs") -> None:
        kind = unraisable.exc_type
        if threading.current_thread() is not threading.main_thread() or not issubclass(
            kind, (KeyboardInterrupt, SystemExit)
        ):
            before(unraisable)
        elif not under_way:
            again()
            under_way.append(
                signal.SIGINT if issubclass(kind, KeyboardInterrupt) else signal.SIGTERM
            )
            # not threading.Thread, whose locks the interrupted code may hold
            _thread.start_new_thread(_send, (under_way,))

    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Within it SIGTERM unwinds what is running, as Ctrl-C does, where nothing else takes it."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _leave:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _send(under_way: list[int]) -> None:
    """Send the main thread the signal that is `under_way`, once it has left what it is in."""
    time.sleep(SOON)
    signal.pthread_kill(threading.main_thread().ident or 0, under_way.pop())
