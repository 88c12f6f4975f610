"""The served model as a process: sockets that do not stay half open, and a stop that answers what is under way."""

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from threadpoolctl import threadpool_limits

from Codes.fast_answers.quick import Columns, quick
from Codes.ground.errors import WorkbookError, nearest
from Codes.model_registry.registry import Version
from Codes.modeling.answers import Answers
from Codes.problems import problem
from Codes.saved_models.trust import Loaded
from Codes.seams import uvicorn_seam
from Codes.serving import fixed, payload
from Codes.serving.app import Metrics, app
from Codes.serving.capture import FOLDER, Capture
from Codes.serving.following import Following, Served
from Codes.serving.pool import Limits
from Codes.tables import contract as contracts

LOG = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn, which says when it listens."""

    line = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        LOG.info(self.line)


def serve(  # pylint: disable=too-many-arguments,too-many-locals
    spec: str,
    host: str = "127.0.0.1",
    port: int = 5001,
    *,
    store: Any = None,
    folder: str | Path = FOLDER,
    limits: Limits = Limits(),
    hosts: Sequence[str] = (),
    share: float = 1.0,
    private: Sequence[str] = (),
    capture_bytes: int = 64 << 20,
    allow_unknown: bool = False,
    onnx: bool = False,
    contract: str | None = None,
    every: float = 1.0,
) -> None:
    """Serve the model `spec` until SIGTERM or Ctrl-C, which let requests under way be answered.

    Args:
        spec: flights@production, whose changes it follows; flights/3; or a folder that holds one version (see fixed).
        store: where models come from; Codes.model_registry.registry by default.
        folder: of captured requests and of the state, a folder for each spec in it.
        hosts: names beside localhost and addresses by which clients may call it.
        share: of the rows, how many are captured; 0 for none.
        private: columns that are not captured, beside those that the problem's file marks so.
        allow_unknown: whether a category may be one that training never saw.
        onnx: whether models that have an ONNX form answer by it.
        contract: the problem (a name, or the path of its file) whose contract each row must keep; "" for the model's
            own; None for none.
        every: seconds between two looks at the alias.
    """
    if onnx:
        from Codes.fast_answers import onnx_form  # and all kinds of forests: a second

        onnx_form.check_installed()
    from Codes.model_registry import registry

    if store is None and fixed.is_folder(spec):
        store = fixed.Folder(spec)
        spec = store.spec
    store = store or registry
    listening = _bound(host, port)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    metrics, own = Metrics(), Path(folder) / spec.replace("/", "-")

    def make(version: Version, loaded: Loaded) -> Served:
        if store is registry:
            tell_outside(spec, version)
        reader = payload.Reader(loaded, limits.rows, allow_unknown, version.label_key)
        fast = (_by_onnx if onnx else quick)(loaded, reader)
        hidden = frozenset((*private, *version.private))
        checked = None if contract is None else _contract(contract or version.problem, reader)
        return Served(version, loaded, reader, fast, hidden, checked)

    threadpool_limits(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of a model in a process of its own
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(
            Following(spec, store, make, state=own / "state.json", metrics=metrics, every=every)
        )
        _check_private(private, source.current)
        capture = None
        if share > 0:
            capture = stack.enter_context(Capture(own, share, capture_bytes))
        application = app(source, limits, capture, metrics, (*hosts, host))
        number, (place, port) = source.current.version.number, listening.getsockname()[:2]
        _run(application, listening, limits, f"{spec} (version {number}) at http://{place}:{port}")


def tell_outside(spec: str, version: Version) -> None:
    """Log that others let the alias of `spec` point to `version`: no gate was asked."""
    from Codes.model_registry import registry

    moved = registry.moved_outside(version.name)
    alias = spec.partition("@")[2]
    if alias in moved and moved[alias][1] == version.number:
        told = registry.told_outside(version.name, alias, *moved[alias])
        LOG.warning("%s, past the gate; its files are those that were registered.", told)


def _contract(name: str, reader: payload.Reader) -> Callable[[Columns], None]:
    """What refuses columns that break the contract of the problem `name`, once the `reader` has read them."""
    solved = problem.load(name)
    kinds = {column: each.kind for column, each in reader.columns.items()}
    rules = contracts.rules_for(solved, kinds)
    return partial(reader.check_contract, rules=rules, called=solved.name)


def _by_onnx(loaded: Loaded, reader: payload.Reader) -> Callable[[Columns], Answers] | None:
    """The model's ONNX form, or the next best: an alias is followed to a model without one, too."""
    from Codes.fast_answers import onnx_form

    try:
        return onnx_form.faster(loaded, reader)
    except WorkbookError as error:
        LOG.warning("%s It is served without one.", error)
        return quick(loaded, reader)


def _bound(host: str, port: int) -> socket.socket:
    """A socket at `host` and `port`, that does not listen yet."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's waiting off for sockets that name their protocol only; it costs 40 ms a request
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except (OSError, OverflowError) as error:
        made.close()
        raise _unusable(port, error) from error
    return made


def _unusable(port: int, error: Exception) -> WorkbookError:
    return WorkbookError(f"port {port} can't be used ({error}); choose another: --port.")


def _check_private(private: Sequence[str], served: Served) -> None:
    """A column that is marked private by a name it does not have would be captured."""
    for name in private:
        if name not in served.reader.columns:
            near = nearest(name, served.reader.columns)
            raise WorkbookError(
                f"private column '{name}' is none of {served.version.name}'s columns.{near}"
            )


def _run(application: FastAPI, listening: socket.socket, limits: Limits, title: str) -> None:
    class Protocol(uvicorn_seam.Impatient):
        """With this server's limit."""

        seconds = limits.head_seconds

    config = uvicorn.Config(
        application,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(limits.body_seconds + limits.predict_seconds) + 1,
    )
    server = Server(config)
    server.line = f"Serving {title} (Ctrl-C stops it)."
    # uvicorn raises the signal that stopped it once more: after a graceful stop it has done its work
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    sys.setswitchinterval(
        0.001
    )  # a prediction in another thread would keep the loop from answering for 5 ms
    gc.collect()
    gc.freeze()  # the libraries' million objects: no need to look at them again, 0.1 s each time
    try:
        server.run(sockets=[listening])
    except OSError as error:  # another server came to listen there while this one loaded
        raise _unusable(listening.getsockname()[1], error) from error
    LOG.info("Stopped.")
