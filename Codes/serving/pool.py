"""Threads that predict, and the limits of what a client may use."""

import asyncio
import collections
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from threadpoolctl import threadpool_limits

from Codes.serving.payload import Refused

FULL = "all places for predictions are taken; try again in a second."


@dataclass(frozen=True)
class Limits:  # pylint: disable=too-many-instance-attributes
    """What a client may use: bytes and rows of a request; seconds for its head, its body and its prediction.

    Args:
        workers: predictions at once.
        waiting: requests that may wait for a worker.
        patience: seconds without any prediction begun or ended, after which waiting ones get a 503.
    """

    body: int = 16 << 20
    rows: int = 10_000
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    predict_seconds: float = 30.0
    workers: int = 4
    waiting: int = 64
    patience: float = 0.5


class Pool:
    """Threads for predictions: so many at once, so many waiting, and a 503 where nothing moves."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._free, self._waiting = limits, limits.workers, collections.deque()
        self._jobs, self._moved = queue.SimpleQueue(), 0.0
        for _ in range(limits.workers):
            # daemons: a prediction that never ends does not keep the server from ending
            threading.Thread(target=self._work, name="predict", daemon=True).start()

    async def run(self, call: Callable[[], Any]) -> Any:
        """The result of `call`, in a thread; Refused with 503 where there is no place, with 504 after too long."""
        await self._enter()
        loop = asyncio.get_running_loop()
        result = loop.create_future()
        self._jobs.put((call, result, loop))
        try:
            async with asyncio.timeout(self._limits.predict_seconds):
                return await result
        except TimeoutError:
            seconds = f"{self._limits.predict_seconds:g}"
            raise Refused(f"the prediction takes longer than {seconds} seconds.", 504) from None

    async def _enter(self) -> None:
        if self._free:
            self._free -= 1
            self._moved = time.monotonic()
            return
        if len(self._waiting) >= self._limits.waiting or self._left() <= 0:
            raise Refused(FULL, 503)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        while not turn.done():
            await asyncio.wait([turn], timeout=max(self._left(), 0.01))
            if not turn.done() and self._left() <= 0:
                self._waiting.remove(turn)
                raise Refused(FULL, 503)

    def _left(self) -> float:
        return self._moved + self._limits.patience - time.monotonic()

    def _leave(self, result: asyncio.Future, value: Any, error: Exception | None) -> None:
        self._moved = time.monotonic()
        if self._waiting:
            self._waiting.popleft().set_result(None)
        else:
            self._free += 1
        if result.done():  # nobody waits for it any more
            return
        if error:
            result.set_exception(error)
        else:
            result.set_result(value)

    def _work(self) -> None:
        # one thread each for OpenMP, which counts them by calling thread, and for BLAS: a row is not worth more
        threadpool_limits(1)
        while True:
            call, result, loop = self._jobs.get()
            value = error = None
            try:
                value = call()
            except Exception as raised:  # pylint: disable=W0718
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._leave, result, value, error)
            del call, result, value, error
