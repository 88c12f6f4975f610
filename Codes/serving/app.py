"""The web application: MLflow's scoring protocol, every refusal in one sentence, metrics for Prometheus."""

import asyncio
import contextlib
import ipaddress
import logging
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import orjson
import prometheus_client as prometheus
from fastapi import FastAPI
from mlflow.version import VERSION
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from Codes.ground.errors import first_line
from Codes.serving import payload
from Codes.serving.capture import Capture
from Codes.serving.following import NO_NUMBER, Served, Source
from Codes.serving.payload import Refused
from Codes.serving.pool import Limits, Pool

LOG = logging.getLogger(__name__)
LOCAL = ("localhost",)
ANY = "*"  # instead of the names: all, where a load balancer stands between
FOREIGN = (
    "this Host is not served here; the server's --allowed-host NAME lets clients call it by a name."
)
FAILED = "the model failed on these rows; it has been noted."


class Metrics:  # pylint: disable=too-many-instance-attributes
    """What Prometheus reads at /metrics."""

    def __init__(self) -> None:
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


def refusal(message: str, status: int) -> Response:
    """The answer `status` in MLflow's form, one sentence in it."""
    body = orjson.dumps({"error_code": payload.CODES.get(status, "ERROR"), "message": message})
    headers = {503: {"Retry-After": "1"}, 408: {"Connection": "close"}}.get(status)
    return Response(body, status, headers, "application/json")


class Guard:
    """Around the application: foreign hosts are refused, every answer names the version and is counted."""

    def __init__(
        self, inner: ASGIApp, source: Source, metrics: Metrics, hosts: Iterable[str]
    ) -> None:
        self._inner, self._source, self._metrics = inner, source, metrics
        self._hosts = {host.lower() for host in (*LOCAL, *hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        begun, status, served = time.perf_counter(), 500, self._source.current
        scope["served"] = served

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *served.headers]
            await send(message)

        allowed = self._is_allowed(dict(scope["headers"]).get(b"host", b""))
        inner = self._inner if allowed else refusal(FOREIGN, 403)
        with self._metrics.in_flight.track_inprogress():
            await inner(scope, receive, answer)
        path = scope["path"] if scope["path"] in PATHS else "other"
        self._metrics.requests.labels(path, status).inc()
        if path == "/invocations":
            self._metrics.seconds.observe(time.perf_counter() - begun)

    def _is_allowed(self, host: bytes) -> bool:
        name, colon, port = host.decode("latin-1").lower().rpartition(":")
        name = name if colon and port.isdigit() else f"{name}{colon}{port}"
        return ANY in self._hosts or name in self._hosts or _is_address(name)


def _is_address(name: str) -> bool:
    """Whether the `name` of a Host is an address, as probes have it: no page of another name leads a browser there."""
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name.removeprefix("[").removesuffix("]")))
    return False


PATHS = ("/invocations", "/ping", "/health", "/version", "/metrics", "/openapi.json")


class Endpoints:
    """What is answered under each of PATHS."""

    def __init__(self, limits: Limits, metrics: Metrics, capture: Capture | None) -> None:
        self._limits, self._metrics, self._capture = limits, metrics, capture
        self._pool = Pool(limits)

    async def invocations(self, request: Request) -> Response:
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
            return self._failed(served, first_line(error, named=True), FAILED)
        self._metrics.rows.inc(len(predictions))
        if self._capture:
            version = served.version
            self._capture.put(version.number, served.public(columns), predictions, version.run_id)
        return Response(reply, media_type="application/json")

    def _failed(self, served: Served, what: str, message: str) -> Response:
        self._metrics.failures.labels("not a number" if message is NO_NUMBER else "error").inc()
        LOG.error("A prediction of version %s failed: %s", served.version.number, what)
        return refusal(message, 500)

    @staticmethod
    def _content_type(headers: Mapping[str, str]) -> str:
        kind, *parameters = headers.get("content-type", "").lower().split(";")
        plain = {p.strip().replace('"', "") for p in parameters} <= {"", "charset=utf-8"}
        if kind.strip() not in ("application/json", "text/csv") or not plain:
            raise Refused("the Content-Type must be application/json or text/csv, in UTF-8.", 415)
        if headers.get("content-encoding", "identity") != "identity":
            raise Refused("compressed bodies are not taken.", 415)
        return kind.strip()

    async def _body(self, request: Request) -> bytes:
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
        except ClientDisconnect:  # nobody reads this, but it is counted as the client's
            raise Refused("the client hung up before the end of the body.") from None
        return bytes(body)

    async def ping(self, _: object) -> Response:
        """Whether a model is loaded: it is, before the server listens."""
        return Response("\n", media_type="application/json")

    async def version(self, _: object) -> Response:
        """MLflow's version, whose protocol this is."""
        return Response(VERSION, media_type="application/json")

    async def metrics(self, _: object) -> Response:
        """The metrics for Prometheus."""
        if self._capture:
            self._metrics.captured.labels("kept").set(self._capture.kept)
            self._metrics.captured.labels("dropped").set(self._capture.dropped)
        text = prometheus.generate_latest(self._metrics.registry)
        return Response(text, media_type=prometheus.CONTENT_TYPE_LATEST)


def page(served: Served, limits: Limits) -> dict[str, Any]:
    """The OpenAPI page, which describes the columns of the `served` model."""
    error = {
        "type": "object",
        "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
    }
    errors = {str(code): _content("A refusal", error) for code in payload.CODES}
    name, number = served.version.name, served.version.number
    request, reply = served.example
    content = {"application/json": {"schema": served.reader.described(), "example": request}}
    invocations = {
        "summary": f"Predictions for up to {limits.rows:,} rows",
        "description": "The rows may come as text/csv, too: a line of column names, then a line a row.",
        "requestBody": {"required": True, "content": content},
        "responses": {"200": _content("One answer a row", _answers(reply), reply), **errors},
    }
    plain = {"200": {"description": "Text"}, **errors}
    gets = {path: {"get": {"summary": path[1:], "responses": plain}} for path in PATHS[1:5]}
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": str(number)},
        "paths": {"/invocations": {"post": invocations}, **gets},
    }


def _answers(reply: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of replies such as this one."""
    properties: dict[str, Any] = {"predictions": {"type": "array"}}
    if labels := reply.get("probabilities", {}).get("labels"):
        shares: dict[str, Any] = {"type": "array", "minItems": len(labels), "maxItems": len(labels)}
        shares["items"] = {"type": "number", "minimum": 0, "maximum": 1}
        values = {"type": "array", "items": shares}
        properties["probabilities"] = payload.exact({"labels": {"const": labels}, "values": values})
    return {"type": "object", "required": list(properties), "properties": properties}


def _content(description: str, schema: Mapping[str, Any], example: Any = None) -> dict[str, Any]:
    shown = {"schema": schema} | ({} if example is None else {"example": example})
    return {"description": description, "content": {"application/json": shown}}


def app(
    source: Source,
    limits: Limits = Limits(),
    capture: Capture | None = None,
    metrics: Metrics | None = None,
    hosts: Iterable[str] = (),
) -> FastAPI:
    """The web application around `source`, whose `current` is the Served that answers."""
    metrics = metrics or Metrics()
    ends = Endpoints(limits, metrics, capture)

    async def refused(_: object, error: Any) -> Response:
        """404 and 405 in the form of all refusals."""
        told = refusal(f"{error.detail}; there is POST /invocations.", error.status_code)
        told.headers.update(error.headers or {})
        return told

    async def broken(_: object, __: object) -> Response:
        return refusal("the server failed; it has been noted.", 500)

    made = FastAPI(redoc_url=None, exception_handlers={HTTPException: refused, Exception: broken})
    made.router.redirect_slashes = False
    made.openapi = lambda: page(source.current, limits)
    made.add_route("/invocations", ends.invocations, ["POST"])
    for path, end in zip(PATHS[1:5], (ends.ping, ends.ping, ends.version, ends.metrics)):
        made.add_route(path, end, ["GET"])
    made.add_middleware(Guard, source=source, metrics=metrics, hosts=hosts)
    return made
