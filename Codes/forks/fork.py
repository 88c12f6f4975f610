"""A process that is a template's child, and can be waited for, signalled and ended here as one's own."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading

from Codes.forks import channel

UNKNOWN = 255  # the exit status of one whose template was killed before it could tell
PATIENCE = 2.0  # seconds for the template's word on how it ended


class Fork:
    """A process that a template forked, with the face of subprocess.Popen; several threads may ask it."""

    stdin = stdout = stderr = None

    def __init__(self, connection: socket.socket, pid: int, pidfd: int) -> None:
        self.connection, self.pid = connection, pid
        self.pidfd: int | None = pidfd
        self.returncode: int | None = None
        self.lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._end(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait `timeout` seconds for its end; subprocess.TimeoutExpired if it has not ended then."""
        code = self._end(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return code

    def _end(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            waiting = select.poll()
            with contextlib.suppress(OSError, ValueError):  # another thread has just closed it
                waiting.register(self.pidfd or -1, select.POLLIN)
                if not waiting.poll(None if timeout is None else timeout * 1000):
                    return None
            with self.lock:
                if self.returncode is None:
                    self.returncode = self._code()
                    self.close()
        return self.returncode

    def _code(self) -> int:
        self.connection.settimeout(PATIENCE)
        with contextlib.suppress(OSError, ValueError):
            told, _ = channel.receive(self.connection)
            if told:
                return int(told["exit"])
        return UNKNOWN

    def send_signal(self, number: int) -> None:
        """Send the signal `number`, unless it has ended."""
        with self.lock:
            if self.returncode is None and self.pidfd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self.pidfd, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Close what is open here."""
        self.connection.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    def __del__(self) -> None:
        self.close()
