"""Ctrl-C and SIGTERM: the first one unwinds what is running, and none tears what an ending is being recorded with."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from Codes.ground import interrupts

ASKED_TO_END = 128 + signal.SIGTERM  # the exit status that shells give a terminated process


class Signals:
    """What came: raised at once while `armed`, else only noted; `raised` says that one already was."""

    def __init__(self) -> None:
        self.came, self.armed, self.raised = [], True, False
        self.swallowed = False

    def handle(self, number: int, _frame: object = None) -> None:
        """Take one signal, as its handler."""
        if self.swallowed:  # the same one again, of which the user was told
            self.swallowed = False
        else:
            self.came.append(number)
            name = signal.Signals(number).name
            os.write(2, f"\n{name}: ending, and recording what there is\n".encode())
        if self.armed:
            self.raise_first()

    def raise_first(self) -> None:
        """Raise what came first, once: KeyboardInterrupt, or SystemExit for SIGTERM; nothing where nothing came."""
        if self.came and not self.raised:
            self.raised = True
            raise KeyboardInterrupt if self.came[0] == signal.SIGINT else SystemExit(ASKED_TO_END)

    def may_raise_again(self) -> None:
        """What was raised has reached nobody."""
        self.raised, self.swallowed = False, True

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Within it a signal is raised, also one that came before."""
        self.armed = True
        try:
            self.raise_first()
            yield
        finally:
            self.armed = False


@contextmanager
def signals() -> Iterator[Signals]:
    """Take Ctrl-C and SIGTERM over, as a Signals; outside the main thread, where no handler can be set, none comes."""
    found = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = {s: signal.signal(s, found.handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with interrupts.none_lost(found.may_raise_again):
            yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
