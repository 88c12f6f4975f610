"""This machine's docker or podman: a version as a container, tried before the one that answers is stopped."""

import contextlib
import time
from collections.abc import Callable

import requests

from Codes.deployment import building, context
from Codes.ground.errors import WorkbookError
from Codes.serving.client import JSON, STARTING, free_port, is_taken

LOCAL = "127.0.0.1"
PREFIX = "workbook-"  # of a container's name
HARDENED = "--read-only --cap-drop all --security-opt no-new-privileges".split()
Tell = Callable[[str], None]


class Container:
    """The engine of this machine that runs images."""

    def __init__(self) -> None:
        engine = building.engine(among=building.RUNNERS)
        if engine is None:
            raise WorkbookError(
                "no docker or podman answers here; write the image's folder for elsewhere: workbook image --context DIR"
            )
        self._engine = engine

    def deploy(self, name: str, spec: str, port: int, tell: Tell) -> tuple[str, str]:
        """Let the container `name` serve the version `spec` at the `port` of this machine; (its image, its address)."""
        if not (mine := self._is_at(name, port)) and is_taken(port):
            raise WorkbookError(f"port {port} is taken by another program; choose one by --port.")
        made = context.make(spec)
        tell(f"building {made.tag} by {self._engine.name}")
        image, address = self._engine.build(made), f"http://{LOCAL}:{port}"
        if mine and self._image(name) == image and _answers(address):
            tell(f"{name} serves it already")
            return image, address
        trial, place = f"{PREFIX}{name}-trial", free_port()
        self._remove(trial)
        try:
            self._run(trial, place, image)
            self._wait(trial, f"http://{LOCAL}:{place}")
        finally:
            self._remove(trial)
        tell(f"{image[:19]} answers: it takes the place of what was there")
        self._remove(PREFIX + name)
        self._run(PREFIX + name, port, image, "--restart", "unless-stopped")
        self._wait(PREFIX + name, address)
        return image, address

    def state(self, name: str) -> str:
        """How the container `name` does, as the engine says; 'gone' where there is none."""
        with contextlib.suppress(WorkbookError):
            return self._engine.ask("inspect", "--format", "{{.State.Status}}", PREFIX + name)
        return "gone"

    def delete(self, name: str, tell: Tell) -> None:
        """Remove the container `name`; its image stays."""
        self._remove(PREFIX + name)
        tell(f"{name} is gone")

    def _is_at(self, name: str, port: int) -> bool:
        """Whether the container `name` runs, and answers at the `port`."""
        there = PREFIX + name, f"{context.PORT}/tcp"
        return (
            self.state(name) == "running" and self._engine.ask("port", *there) == f"{LOCAL}:{port}"
        )

    def _image(self, name: str) -> str:
        found = self._engine.ask("inspect", "--format", "{{.Image}}", PREFIX + name)
        return f"sha256:{found.removeprefix('sha256:')}"  # podman leaves it out

    def _run(self, name: str, port: int, image: str, *more: str) -> None:
        where = f"{LOCAL}:{port}:{context.PORT}"
        self._engine.ask(
            "run", "--detach", "--name", name, "--publish", where, *HARDENED, *more, image
        )

    def _remove(self, name: str) -> None:
        with contextlib.suppress(WorkbookError):  # there is none
            self._engine.ask("rm", "--force", name)

    def _wait(self, name: str, address: str) -> None:
        end = time.monotonic() + STARTING
        while not _answers(address):
            if time.monotonic() > end or self.state(name.removeprefix(PREFIX)) != "running":
                raise WorkbookError(f"{name} does not answer; it said: {self._said(name)}")
            time.sleep(0.2)

    def _said(self, name: str) -> str:
        """The last line of the container `name`."""
        try:
            return self._engine.ask("logs", "--tail", "1", name)[:300] or "nothing"
        except WorkbookError as error:
            return error.message


def ask(address: str, body: bytes) -> bytes:
    """The answer of the container at the `address` to a request; a WorkbookError where that is refused."""
    try:
        answer = requests.post(f"{address}/invocations", body, headers=JSON, timeout=60)
    except requests.RequestException as error:
        raise WorkbookError(f"nothing answers at {address} ({type(error).__name__}).") from error
    if not answer.ok:
        raise WorkbookError(f"{address} refuses it: {answer.status_code}: {_message(answer)[:300]}")
    return answer.content


def _message(answer: requests.Response) -> str:
    """The sentence of a refusal; its whole text where a proxy in between wrote it."""
    try:
        return answer.json()["message"]
    except (ValueError, TypeError, KeyError):
        return answer.text.strip()


def _answers(address: str) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"{address}/ping", timeout=2).ok
    return False
