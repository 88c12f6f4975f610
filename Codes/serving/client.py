"""The served model, seen by those who ask it: start a server, ask, look at refusals, take times."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import pandas as pd
import requests

from Codes.forks import apart
from Codes.ground import paths
from Codes.ground.errors import WorkbookError

STARTING = 120.0  # seconds until a server answers; it imports much
JSON = {"Content-Type": "application/json"}


class Server:
    """`workbook serve` in a process of its own, at `url`, until `stop` (or the end of a with block)."""

    def __init__(self, spec: str, *options: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        arguments = ["serve", spec, "--port", str(port), *options]
        paths.EXECUTED.mkdir(exist_ok=True)
        self.log = paths.EXECUTED / f"serve-{port}.log"
        with open(self.log, "wb") as sink:
            self.process = apart.start("Codes.commands.cli", arguments, os.environ, sink, sink)
        try:
            wait(self.process, self.url, self.log)
        except WorkbookError:
            self.stop()
            raise

    def stop(self) -> None:
        """End it as SIGTERM does: what is under way is answered."""
        self.process.terminate()
        self.process.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Nobody:
    """In the place of a Server where there is nothing to serve: at its `url`, None, there are no answers to show."""

    url = None

    def stop(self) -> None:
        """There is nothing to end."""


def wait(process: apart.Fork | subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until the server `process` answers at `url`; a WorkbookError tells the last line of the file `log`."""
    if comes_up(process, f"{url}/ping"):
        return
    told = log.read_text("utf-8", "replace").strip().splitlines() or ["no word"]
    raise WorkbookError(f"the server did not start: {told[-1].removeprefix('Error: ')}")


def comes_up(process: apart.Fork | subprocess.Popen[bytes], address: str) -> bool:
    """Whether the server `process` answers at `address`, for which it is waited; False once it has ended."""
    end = time.monotonic() + STARTING
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(requests.RequestException):
            if requests.get(address, timeout=5).ok:
                return True
        time.sleep(0.1)
    return False


def free_port() -> int:
    """A port that nobody listens on, below those that the system gives to others by itself."""
    for port in secrets.SystemRandom().sample(range(15_000, 30_000), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise WorkbookError("no port can be had on 127.0.0.1.")


def is_taken(port: int) -> bool:
    """Whether somebody listens on the `port` of this machine."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2):
        return True
    return False


def body(frame: pd.DataFrame) -> str:
    """`frame` as the JSON text that MLflow's protocol takes: dataframe_split, null for what is missing."""
    gap: Any = None  # null; pandas' stubs know no None here
    cells = frame.astype(object).where(frame.notna(), gap)
    split = {"columns": list(frame), "data": cells.to_numpy().tolist()}
    return json.dumps({"dataframe_split": split}, default=datetime.isoformat)


def ask(url: str | None, rows: pd.DataFrame) -> dict[str, Any]:
    """The reply to `rows` (a frame) of the server at `url`, and which version gave it: {"predictions", "version"}.

    Of a classifier there are "probabilities", too: a frame with a column a label.

    Raises:
        WorkbookError: what the server has to say against them.
    """
    if url is None:
        return {"predictions": [None] * len(rows), "version": "none"}
    reply = requests.post(f"{url}/invocations", body(rows), headers=JSON, timeout=60)
    if not reply.ok:
        raise WorkbookError(_told(reply))
    told: dict[str, Any] = {**reply.json(), "version": reply.headers["X-Model-Version"]}
    if found := told.get("probabilities"):
        told["probabilities"] = pd.DataFrame(found["values"], rows.index, found["labels"])
    return told


def _told(reply: requests.Response) -> str:
    return f"{reply.status_code}: {reply.json()['message']}"


def refusals(url: str | None, row: pd.DataFrame) -> pd.DataFrame:
    """What bad requests get: a table of what was wrong, the status and the sentence; made of `row` (a frame of one)."""
    name = row.columns[0]
    stranger = "colour" if "colour" not in row else f"no {max(map(str, row), key=len)}"
    bad = {
        "not JSON": "{rows",
        "no rows": body(row.head(0)),
        "a column is missing": body(row.drop(columns=name)),
        "a column too many": body(row.assign(**{stranger: "red"})),
        **{
            "text for a number": body(row.assign(**{number: "many"}))
            for number in row.select_dtypes("number").columns[:1]  # a table may have none
        },
        "an infinite number": body(row).replace('"data": [[', '"data": [[Infinity, ', 1),
        "a list": "[1, 2, 3]",
    }
    table = [("another content type", "text/plain", "1")]
    table += [(what, "application/json", text) for what, text in bad.items()]
    rows = []
    for what, kind, text in table if url else ():
        reply = requests.post(
            f"{url}/invocations", text, headers={"Content-Type": kind}, timeout=60
        )
        rows.append(
            {"request": what, "status": reply.status_code, "answer": reply.json()["message"]}
        )
    return pd.DataFrame(rows, columns=["request", "status", "answer"])


def times(
    url: str | None, rows: pd.DataFrame | str, clients: int = 1, seconds: float = 2.0
) -> pd.Series:
    """Milliseconds of each answer to the same `rows` (a frame, or a request's text) within `seconds`: a Series.

    So many `clients` ask at once, each over one connection.

    Raises:
        WorkbookError: none of them was answered; what the server had to say against the last.
    """
    text, taken, refused = rows if isinstance(rows, str) else body(rows), [], []
    if url is None:
        return pd.Series(taken, name=f"{clients} at once", dtype=float)
    end, over = time.perf_counter() + seconds, threading.Event()

    def go() -> None:
        with requests.Session() as session:
            while time.perf_counter() < end and not over.is_set():
                started = time.perf_counter()
                try:
                    reply = session.post(f"{url}/invocations", text, headers=JSON, timeout=60)
                except requests.RequestException:
                    return  # the server is away
                if reply.ok:
                    taken.append(1000 * (time.perf_counter() - started))
                else:
                    refused.append(_told(reply))

    with ThreadPoolExecutor(clients) as pool:
        try:
            for client in [pool.submit(go) for _ in range(clients)]:
                client.result()
        finally:  # an interrupted one leaves nobody asking
            over.set()
    if not taken:
        why = refused[-1] if refused else "the server is away"
        raise WorkbookError(f"no request was answered, so there are no times: {why}")
    return pd.Series(taken, name=f"{clients} at once")


def finding(reply: Mapping[str, Any], measured: Mapping[int, Sequence[pd.Series]]) -> str:
    """What was found of who answers: version, and how long a row takes alone and among many, as a Markdown list.

    Args:
        reply: of `ask`; measured: as in `summary`.
    """
    middles = {
        rows: [float(t.quantile(0.5)) for t in both if len(t)] for rows, both in measured.items()
    }
    known = {rows: both for rows, both in middles.items() if len(both) == 2}
    if not known:
        return "- Nobody answered, so there is nothing to report."
    lines = [f"Version {reply['version']} answers."]
    for rows, (alone, crowd) in known.items():
        what = "A row" if rows == 1 else f"{rows:,} rows in one request"
        each = f", {1000 * alone / rows:.3g} µs a row" if rows > 1 else ""
        lines.append(
            f"{what}: half within {alone:.3g} ms{each}; of sixteen who ask at once within {crowd:.3g} ms."
        )
    return "\n".join(f"- {line}" for line in lines)


def summary(measured: Mapping[int, Sequence[pd.Series]]) -> dict[str, float]:
    """{metric: milliseconds} of `measured`, {rows of a request: [times of 1 client, of 16]}; none without answers."""
    return {
        f"ms_{rows}_rows_{clients}_clients_p{100 * share:.0f}": float(taken.quantile(share))
        for rows, both in measured.items()
        for clients, taken in zip((1, 16), both)
        for share in (0.5, 0.99)
        if len(taken)
    }
