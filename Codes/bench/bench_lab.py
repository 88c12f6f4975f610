"""The bench's JupyterLab: a server of its own, and a new notebook's first cell over its REST and websocket API."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from Codes.bench.bench_report import Environment
from Codes.ground.errors import WorkbookError

Content: TypeAlias = dict[str, Any]  # of a message, or of a request
Output: TypeAlias = tuple[str, Content]  # what a cell shows: (kind, content)
KERNELS = ("python3", "workbook")
FIRST_CELL = "import mlflow, sklearn, matplotlib.pyplot"


@contextlib.contextmanager
def server(environment: Environment) -> Iterator[str]:
    """A JupyterLab server of its own on 127.0.0.1; the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(environment["TMPDIR"])
    options = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    options += [f"--ServerApp.root_dir={folder}", "--ServerApp.allow_root=True"]
    # python3 is to start as it does elsewhere
    options += ["--KernelProvisionerFactory.default_provisioner_name=local-provisioner"]
    with open(folder / "lab.log", "w", encoding="utf-8") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
    try:
        until_it_listens(process, port, folder / "lab.log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def until_it_listens(process: subprocess.Popen, port: int, log: Path) -> None:
    """Wait until the server `process` takes connections at `port`; its `log` tells why it does not."""
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise WorkbookError(f"JupyterLab does not start: {log.read_text('utf-8')[-1500:]}")


async def first_cell(address: str, token: str, kernel: str) -> float:
    """Seconds from a new notebook with `kernel` on the server at `address` until FIRST_CELL was executed."""
    started = time.perf_counter()
    async with notebook(address, token, kernel) as channels:
        reply, _ = await execute(channels, FIRST_CELL)
        seconds = time.perf_counter() - started
    if reply["status"] != "ok":
        raise WorkbookError(f"the first cell failed in the kernel {kernel}: {reply['evalue']}")
    return seconds


@contextlib.asynccontextmanager
async def notebook(
    address: str, token: str, kernel: str
) -> AsyncIterator[WebSocketClientConnection]:
    """A new notebook with `kernel` on the server at `address`, whose kernel has answered: its channels."""
    file = await call(address, token, "POST", "contents", {"type": "notebook"})
    wanted = {"name": file["name"], "path": file["path"], "type": "notebook"}
    wanted |= {"kernel": {"name": kernel}}
    session = await call(address, token, "POST", "sessions", wanted)
    url = f"ws://{address}/api/kernels/{session['kernel']['id']}/channels"
    channels = await websocket_connect(HTTPRequest(url, headers=headers(token)))
    await request_reply(channels, "kernel_info", {})
    yield channels
    channels.close()
    await call(address, token, "DELETE", f"sessions/{session['id']}")


async def execute(channels: WebSocketClientConnection, code: str) -> tuple[Content, list[Output]]:
    """The reply's content of a cell's `code`, and its outputs as (kind, content), as JupyterLab asks for them."""
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
    return await request_reply(channels, "execute", content)


def headers(token: str) -> dict[str, str]:
    """The headers of a request with `token`."""
    return {"Authorization": f"token {token}", "Content-Type": "application/json"}


async def call(
    address: str, token: str, method: str, path: str, content: Content | None = None
) -> Any:
    """Call the server's API, and return its answer; `content` is sent as JSON."""
    body = json.dumps(content) if content else None
    url = f"http://{address}/api/{path}"
    request = HTTPRequest(url, method, headers(token), body, request_timeout=120)
    return json.loads((await AsyncHTTPClient().fetch(request)).body or "null")


async def request_reply(
    channels: WebSocketClientConnection, kind: str, content: Content
) -> tuple[Content, list[Output]]:
    """Send a `kind` request with `content`, and wait for its reply's content and what was shown until it is done."""
    header = {"msg_id": uuid.uuid4().hex, "msg_type": f"{kind}_request", "session": "bench"}
    header |= {"username": "", "version": "5.3", "date": "2000-01-01T00:00:00Z"}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
    await channels.write_message(json.dumps(message | {"channel": "shell"}))
    reply: Content = {}
    shown: list[Output] = []
    is_idle = False
    while not (reply and is_idle):
        text = await asyncio.wait_for(channels.read_message(), 120)
        if not text:
            raise WorkbookError("JupyterLab has closed the kernel's channels")
        got = json.loads(text)
        if got["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        if got["channel"] == "shell":
            reply = got["content"]
        else:
            shown.append((got["msg_type"], got["content"]))
            is_idle = got["content"].get("execution_state") == "idle" or is_idle
    return reply, shown
