# pylint: disable=no-member  # of orjson, which pylint cannot look into
"""The served model: MLflow's scoring protocol around the version that an alias points to, which it follows."""

import asyncio
import collections
import contextlib
import gc
import json
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import orjson
import prometheus_client as prometheus
import uvicorn
from fastapi import FastAPI
from mlflow.version import VERSION
from starlette.exceptions import HTTPException
from starlette.responses import Response
from threadpoolctl import threadpool_limits
from uvicorn.protocols.http.h11_impl import H11Protocol

from Codes import client, paths, payload
from Codes.capture import Capture
from Codes.errors import WorkbookError, nearest
from Codes.payload import Refused

LOG = logging.getLogger(__name__)
FOLDER = paths.EXECUTED / "served"
LOCAL = ("localhost", "127.0.0.1", "[::1]")
FULL = "all places for predictions are taken; try again in a second."
FAILED = "the model failed on these rows; it has been noted."
NO_NUMBER = "the model's prediction is not a number; it has been noted."


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


class Metrics:  # pylint: disable=too-many-instance-attributes
    """What Prometheus reads at /metrics."""

    def __init__(self):
        self.registry = prometheus.CollectorRegistry()
        counter = partial(prometheus.Counter, namespace="workbook", registry=self.registry)
        gauge = partial(prometheus.Gauge, namespace="workbook", registry=self.registry)
        self.requests = counter("requests", "Answers by path and status", ["path", "status"])
        self.rows = counter("rows", "Rows that were predicted")
        self.failures = counter("failed_predictions", "Predictions without a result", ["reason"])
        self.swaps = counter("swaps", "Changes to another version")
        self.failed_swaps = counter("failed_swaps", "Versions that were not switched to")
        self.store_errors = counter("store_errors", "Looks at the alias that failed")
        self.version = gauge("model_version", "The version that is served")
        self.in_flight = gauge("requests_in_flight", "Requests that have no answer yet")
        self.captured = gauge("captured_rows", "Rows that were captured", ["result"])
        self.seconds = prometheus.Histogram(
            "request_seconds",
            "From a request's head to its answer",
            namespace="workbook",
            registry=self.registry,
        )


@dataclass(frozen=True)
class Served:
    """A version that answers: its checked model, and what reads requests for it."""

    version: object
    model: object
    reader: payload.Reader

    @cached_property
    def headers(self):
        """Of each answer."""
        facts = {"X-Model-Name": self.version.name, "X-Model-Version": self.version.number}
        return [(key.lower().encode(), str(value).encode()) for key, value in facts.items()]

    @cached_property
    def _quick(self):
        return payload.quick(self.model, self.reader)

    def predictions(self, columns):
        """The list of predictions for `columns`; ArithmeticError where one is no number."""
        if self._quick:
            found = self._quick(columns)
        else:
            # not model.predict, which makes text plain once more, 4 ms a request: the reader has done that
            found = self.model.pipeline.predict(self.reader.frame(columns))
        found = np.asarray(found)
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise ArithmeticError(NO_NUMBER)
        return found.tolist()

    def answer(self, kind, body):
        """(columns, predictions, reply) for the `body` of a request of the content type `kind`."""
        columns = self.reader.csv(body) if kind == "text/csv" else self.reader.json(body)
        predictions = self.predictions(columns)
        return columns, predictions, orjson.dumps({"predictions": predictions})

    def smoke(self):
        """Answer its own example, as a client would ask it; any exception says that it can't."""
        rows = self.model.example
        if rows is None:
            raise WorkbookError("it was saved without an example")
        _, predictions, _ = self.answer("application/json", client.body(rows).encode())
        if predictions != self.model.predict(rows).tolist():
            raise WorkbookError("what it answers is not what it predicts")
        return self


class Following:  # pylint: disable=too-many-instance-attributes
    """Holds the Served that answers in `current`, and exchanges it when the alias points elsewhere.

    Args:
        spec: name@alias, which is followed, or name/number, which stays.
        store: has `find`, `load` and `pointed`, as Codes.registry.
        make: (version, loaded) -> Served.
        state: file that remembers the last version that served well.
        every: seconds between two looks at the alias.
    """

    def __init__(self, spec, store, make, *, state, metrics, every=1.0):  # pylint: disable=R0913
        self.name, _, self.alias = spec.partition("/")[0].partition("@")
        self.spec, self.current = spec, None
        self._store, self._make, self._state, self._metrics = store, make, Path(state), metrics
        self._every, self._stop, self._told = every, threading.Event(), None
        self._failed, self._again, self._pause = None, 0.0, 0.0

    def __enter__(self):
        version = self._store.find(self.spec)
        try:
            self._take(version)
        except Exception as error:  # pylint: disable=W0718
            last = self._last_good() if self.alias else None
            if last in (None, version.number):
                raise WorkbookError(
                    f"{self._title(version.number)} can't serve: {_line(error)}"
                ) from error
            self._note_failure(
                version.number, error, f"starting with version {last}, the last good one"
            )
            self._take(self._store.find(f"{self.name}/{last}"))
        if self.alias:
            threading.Thread(target=self._follow, name="following", daemon=True).start()
        return self

    def __exit__(self, *_):
        self._stop.set()

    def _title(self, number):
        return f"{self.name} version {number}"

    def _take(self, version):
        self.current = self._make(version, self._store.load(version)).smoke()
        self._metrics.version.set(version.number)
        if self.alias:
            spare = self._state.with_suffix(f".{os.getpid()}")
            spare.write_text(json.dumps({"version": version.number}), "utf-8")
            os.replace(spare, self._state)

    def _last_good(self):
        try:
            return int(json.loads(self._state.read_text("utf-8"))["version"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _follow(self):
        while not self._stop.wait(self._every):
            try:
                number = self._store.pointed(self.name, self.alias)
            except Exception as error:  # pylint: disable=W0718
                self._metrics.store_errors.inc()
                self._tell("The store is away", f" ({_line(error)})")
                continue
            self._tell(f"{self.spec} points to no version" if number is None else None)
            if number not in (None, self.current.version.number):
                self._switch(number)

    def _keeps(self):
        return f"version {self.current.version.number} keeps serving"

    def _tell(self, what, more=""):
        """Log `what`, once for as long as it is so."""
        if what and what != self._told:
            LOG.warning("%s%s; %s.", what, more, self._keeps())
        self._told = what

    def _switch(self, number):
        if number == self._failed and time.monotonic() < self._again:
            return
        before = self.current.version.number
        try:
            self._take(self._store.find(f"{self.name}/{number}"))
        except Exception as error:  # pylint: disable=W0718
            self._note_failure(number, error, self._keeps())
        else:
            self._failed = None
            self._metrics.swaps.inc()
            LOG.info("Version %s instead of %s serves %s.", number, before, self.spec)

    def _note_failure(self, number, error, then):
        """One line, a count, and a pause before the next try that grows: a store may have been away."""
        self._pause = min(self._pause * 2, 300.0) if number == self._failed else 15.0
        self._failed, self._again = number, time.monotonic() + self._pause
        self._metrics.failed_swaps.inc()
        LOG.error("%s can't serve: %s; %s.", self._title(number), _line(error), then)


def _line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


class Pool:
    """Threads for predictions: so many at once, so many waiting, and a 503 where nothing moves."""

    def __init__(self, limits):
        self._limits, self._free, self._waiting = limits, limits.workers, collections.deque()
        self._jobs, self._moved = queue.SimpleQueue(), 0.0
        for _ in range(limits.workers):
            # daemons: a prediction that never ends does not keep the server from ending
            threading.Thread(target=self._work, name="predict", daemon=True).start()

    async def run(self, call):
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

    async def _enter(self):
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

    def _left(self):
        return self._moved + self._limits.patience - time.monotonic()

    def _leave(self, result, value, error):
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

    def _work(self):
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


def refusal(message, status):
    """The answer `status` in MLflow's form, one sentence in it."""
    body = orjson.dumps({"error_code": payload.CODES.get(status, "ERROR"), "message": message})
    headers = {503: {"Retry-After": "1"}, 408: {"Connection": "close"}}.get(status)
    return Response(body, status, headers, "application/json")


class Guard:
    """Around the application: foreign hosts are refused, every answer names the version and is counted."""

    def __init__(self, inner, source, metrics, hosts):
        self._inner, self._source, self._metrics = inner, source, metrics
        self._hosts = {host.lower() for host in (*LOCAL, *hosts)}

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        begun, status, served = time.perf_counter(), 500, self._source.current
        scope["served"] = served

        async def answer(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *served.headers]
            await send(message)

        allowed = self._is_allowed(dict(scope["headers"]).get(b"host", b""))
        inner = self._inner if allowed else refusal("this Host is not served here.", 403)
        with self._metrics.in_flight.track_inprogress():
            await inner(scope, receive, answer)
        path = scope["path"] if scope["path"] in PATHS else "other"
        self._metrics.requests.labels(path, status).inc()
        if path == "/invocations":
            self._metrics.seconds.observe(time.perf_counter() - begun)

    def _is_allowed(self, host):
        name, colon, port = host.decode("latin-1").lower().rpartition(":")
        return (name if colon and port.isdigit() else f"{name}{colon}{port}") in self._hosts


PATHS = ("/invocations", "/ping", "/health", "/version", "/metrics", "/openapi.json")


class Endpoints:
    """What is answered under each of PATHS."""

    def __init__(self, limits, metrics, capture):
        self._limits, self._metrics, self._capture = limits, metrics, capture
        self._pool = Pool(limits)

    async def invocations(self, request):
        """Predictions for the rows in the body."""
        served = request.scope["served"]
        try:
            kind = self._content_type(request.headers)
            body = await self._body(request)
            columns, predictions, reply = await self._pool.run(partial(served.answer, kind, body))
        except Refused as refused:
            if refused.status >= 500:
                self._metrics.failures.labels({503: "full", 504: "slow"}[refused.status]).inc()
            return refusal(refused.message, refused.status)
        except ArithmeticError:
            return self._failed(served, "not a number", NO_NUMBER)
        except Exception as error:  # pylint: disable=W0718
            return self._failed(served, f"{type(error).__name__}: {_line(error)}", FAILED)
        self._metrics.rows.inc(len(predictions))
        if self._capture:
            self._capture.put(served.version.number, columns, predictions)
        return Response(reply, media_type="application/json")

    def _failed(self, served, what, message):
        self._metrics.failures.labels("not a number" if message is NO_NUMBER else "error").inc()
        LOG.error("A prediction of version %s failed: %s", served.version.number, what)
        return refusal(message, 500)

    @staticmethod
    def _content_type(headers):
        kind, *parameters = headers.get("content-type", "").lower().split(";")
        plain = {p.strip().replace('"', "") for p in parameters} <= {"", "charset=utf-8"}
        if kind.strip() not in ("application/json", "text/csv") or not plain:
            raise Refused("the Content-Type must be application/json or text/csv, in UTF-8.", 415)
        if headers.get("content-encoding", "identity") != "identity":
            raise Refused("compressed bodies are not taken.", 415)
        return kind.strip()

    async def _body(self, request):
        too_large = Refused(f"the body is larger than {self._limits.body:,} bytes.", 413)
        if int(request.headers.get("content-length", 0)) > self._limits.body:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > self._limits.body:
                        raise too_large
        except TimeoutError:
            raise Refused(
                f"the body took longer than {self._limits.body_seconds:g} seconds.", 408
            ) from None
        return bytes(body)

    async def ping(self, _):
        """Whether a model is loaded: it is, before the server listens."""
        return Response("\n", media_type="application/json")

    async def version(self, _):
        """MLflow's version, whose protocol this is."""
        return Response(VERSION, media_type="application/json")

    async def metrics(self, _):
        """The metrics for Prometheus."""
        if self._capture:
            self._metrics.captured.labels("kept").set(self._capture.kept)
            self._metrics.captured.labels("dropped").set(self._capture.dropped)
        text = prometheus.generate_latest(self._metrics.registry)
        return Response(text, media_type=prometheus.CONTENT_TYPE_LATEST)


def page(served, limits):
    """The OpenAPI page, which describes the columns of the `served` model."""
    error = {
        "type": "object",
        "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
    }
    errors = {str(code): _content("A refusal", error) for code in payload.CODES}
    ok = {
        "type": "object",
        "required": ["predictions"],
        "properties": {"predictions": {"type": "array"}},
    }
    name, number = served.version.name, served.version.number
    content = {"application/json": {"schema": served.reader.described()}}
    invocations = {
        "summary": f"Predictions for up to {limits.rows:,} rows",
        "description": "The rows may come as text/csv, too: a line of column names, then a line a row.",
        "requestBody": {"required": True, "content": content},
        "responses": {"200": _content("One prediction a row", ok), **errors},
    }
    plain = {"200": {"description": "Text"}, **errors}
    gets = {path: {"get": {"summary": path[1:], "responses": plain}} for path in PATHS[1:5]}
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": str(number)},
        "paths": {"/invocations": {"post": invocations}, **gets},
    }


def _content(description, schema):
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def app(source, limits=Limits(), capture=None, metrics=None, hosts=()):
    """The web application around `source`, whose `current` is the Served that answers."""
    metrics = metrics or Metrics()
    ends = Endpoints(limits, metrics, capture)

    async def refused(_, error):
        """404 and 405 in the form of all refusals."""
        told = refusal(f"{error.detail}; there is POST /invocations.", error.status_code)
        told.headers.update(error.headers or {})
        return told

    async def broken(_, __):
        return refusal("the server failed; it has been noted.", 500)

    made = FastAPI(redoc_url=None, exception_handlers={HTTPException: refused, Exception: broken})
    made.router.redirect_slashes = False
    made.openapi = lambda: page(source.current, limits)
    made.add_route("/invocations", ends.invocations, ["POST"])
    for path, end in zip(PATHS[1:5], (ends.ping, ends.ping, ends.version, ends.metrics)):
        made.add_route(path, end, ["GET"])
    made.add_middleware(Guard, source=source, metrics=metrics, hosts=hosts)
    return made


class Impatient(H11Protocol):
    """uvicorn's HTTP, which waits for the head of a request for so long only; else half-open sockets would stay."""

    seconds = Limits.head_seconds
    _until = None

    def connection_made(self, transport):
        super().connection_made(transport)
        self._wait()

    def data_received(self, data):
        super().data_received(data)
        self._wait()

    def _wait(self):
        if self.transport.is_closing() or self.cycle and not self.cycle.response_complete:
            self._until = None
            return
        self._until = self._until or self.loop.time() + self.seconds
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_at(
            self._until, self.timeout_keep_alive_handler
        )


class Server(uvicorn.Server):
    """uvicorn, which says when it listens."""

    line = ""

    async def startup(self, sockets=None):
        await super().startup(sockets)
        LOG.info(self.line)


def serve(  # pylint: disable=too-many-arguments,too-many-locals
    spec,
    host="127.0.0.1",
    port=5001,
    *,
    store=None,
    folder=FOLDER,
    limits=Limits(),
    hosts=(),
    share=1.0,
    private=(),
    capture_bytes=64 << 20,
    allow_unknown=False,
    every=1.0,
):
    """Serve the model `spec` until SIGTERM or Ctrl-C, which let requests under way be answered.

    Args:
        spec: flights@production, whose changes it follows, or flights/3.
        store: where models come from; Codes.registry by default.
        folder: of captured requests and of the state, a folder for each spec in it.
        hosts: names beside localhost by which clients may call it.
        share: of the rows, how many are captured; 0 for none.
        private: columns that are not captured.
        allow_unknown: whether a category may be one that training never saw.
        every: seconds between two looks at the alias.
    """
    if store is None:
        from Codes import registry as store
    listening = _bound(host, port)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    metrics, own = Metrics(), Path(folder) / spec.replace("/", "-")
    own.mkdir(parents=True, exist_ok=True)

    def make(version, loaded):
        return Served(version, loaded, payload.Reader(loaded, limits.rows, allow_unknown))

    threadpool_limits(1)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(
            Following(spec, store, make, state=own / "state.json", metrics=metrics, every=every)
        )
        _check_private(private, source.current)
        capture = None
        if share > 0:
            capture = stack.enter_context(Capture(own, private, share, capture_bytes))
        application = app(source, limits, capture, metrics, (*hosts, host))
        number, (place, port) = source.current.version.number, listening.getsockname()[:2]
        _run(application, listening, limits, f"{spec} (version {number}) at http://{place}:{port}")


def _bound(host, port):
    """A socket at `host` and `port`, that does not listen yet."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's waiting off for sockets that name their protocol only; it costs 40 ms a request
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except (OSError, OverflowError) as error:
        made.close()
        raise WorkbookError(
            f"port {port} of {host} can't be used ({error}); choose another: --port."
        ) from error
    return made


def _check_private(private, served):
    """A column that is marked private by a name it does not have would be captured."""
    for name in private:
        if name not in served.reader.columns:
            near = nearest(name, served.reader.columns)
            raise WorkbookError(
                f"private column '{name}' is none of {served.version.name}'s columns.{near}"
            )


def _run(application, listening, limits, title):
    class Protocol(Impatient):
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
    server.run(sockets=[listening])
    LOG.info("Stopped.")
