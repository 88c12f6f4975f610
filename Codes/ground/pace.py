"""How long the rest of long work may take, by the pace so far; said now and then where no bar shows it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SILENCE = 30.0  # seconds after which a line tells that the work goes on


class Pace:
    """Of work that has a `total` in any unit, of which `done` was done before this began."""

    def __init__(self, total: float, done: float = 0) -> None:
        self.total, self.first = total, done
        self.started = time.monotonic()

    def left(self, done: float) -> str:
        """', 02:13 left' once so much is `done`; '' as long as that can't be told, and at the end."""
        if done <= self.first or done >= self.total:
            return ""
        seconds = (time.monotonic() - self.started) / (done - self.first) * (self.total - done)
        return f", {tqdm.format_interval(round(seconds))} left"


def told(
    items: Sequence[T], what: str, say: Callable[[str], object], silence: float = SILENCE
) -> Iterator[T]:
    """Each of `items`; after each `silence`, in seconds, `say` is given how far it is: '3 of 9 `what`, 02:13 left'."""
    pace, said = Pace(len(items)), time.monotonic()
    for done, item in enumerate(items):
        if done and time.monotonic() - said >= silence:
            said = time.monotonic()
            say(f"{done} of {len(items)} {what}{pace.left(done)}")
        yield item


def keep_ticking(shown: tqdm, seconds: float = 1.0) -> None:
    """Let the clock of the bar `shown` go on, on a terminal, while one of its items takes long; until it is closed."""
    if not shown.fp.isatty():
        return  # each look would be a line of a log

    def tick() -> None:
        while not shown.disable:  # as `close` leaves it
            shown.refresh()
            time.sleep(seconds)

    threading.Thread(target=tick, daemon=True).start()
