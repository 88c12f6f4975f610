"""What of uvicorn is used that it does not document: its timers, for heads of requests that never come."""

from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class Impatient(H11Protocol):
    """uvicorn's HTTP, which waits `seconds` for the head of a request; else half-open sockets would stay.

    Private: `_unset_keepalive_if_required`, `timeout_keep_alive_task`, `timeout_keep_alive_handler`, `cycle`.
    Seen: uvicorn 0.54.0.
    Without: a proxy with such a limit before the server; uvicorn has one of its own between requests alone.
    """

    seconds = 10.0
    _until = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait()

    def _wait(self) -> None:
        if self.transport.is_closing() or self.cycle and not self.cycle.response_complete:
            self._until = None
            return
        self._until = self._until or self.loop.time() + self.seconds
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_at(
            self._until, self.timeout_keep_alive_handler
        )
