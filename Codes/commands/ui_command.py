"""The part of the `workbook` command that shows the runs: MLflow's UI on this store, opened where the runs are."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click

from Codes.commands import completion

from Codes.ground import paths
from Codes.ground.errors import WorkbookError

PORT = 5000
ENDING = 30.0  # seconds
SCREENS = (
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "BROWSER",
)  # where none is set, a browser would take the terminal
# its UI needs none of its jobs, which are 14 processes
QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


@click.command()
@click.argument("problem", default="", shell_complete=completion.problems)
@click.option(
    "--port", type=click.IntRange(1, 65535), default=PORT, show_default=True, help="To listen at."
)
@click.option(
    "--open/--no-open",
    "opens",
    default=None,
    help="In a browser; by default where there is a screen.",
)
@click.option("--while", "process", type=int, hidden=True, help="End with this process.")
def ui(problem: str, port: int, opens: bool | None, process: int | None) -> None:
    """Show the runs in MLflow's UI, the scored ones first.

    On 127.0.0.1, those of PROBLEM (or the last scored) first, until Ctrl-C.

    \b
    For example:
      workbook ui
      workbook ui diabetes --port 5001
    """
    from Codes.serving import client
    from Codes.stores import store

    uri = store.open_store()
    if uri.startswith("http"):
        click.echo(f"the runs are on a server: {uri}/{landing(problem)}")
        return
    if client.is_taken(port):
        raise WorkbookError(
            f"port {port} is taken, perhaps by a UI that runs already (http://127.0.0.1:{port}); "
            f"choose another: make ui PORT={port + 1}"
        )
    url = f"http://127.0.0.1:{port}"
    paths.EXECUTED.mkdir(exist_ok=True)
    log = paths.EXECUTED / f"ui-{port}.log"
    ended: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        ended.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # all end it in order
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)
    if process:
        _end_with(process)
    with _server(uri, port, log) as server:
        if not client.comes_up(server, f"{url}/health"):
            raise WorkbookError(f"the UI's server did not start: {_last_line(log)}")
        view = f"{url}/{landing(problem)}"
        if ended:  # while a library was imported that lets nothing through
            raise KeyboardInterrupt
        click.echo(f"MLflow UI: {view}\n(Ctrl-C ends it; what it logs: {os.path.relpath(log)})")
        if opens or (opens is None and sys.stdout.isatty() and has_screen()):
            webbrowser.open(view)
        if server.wait():
            raise WorkbookError(f"the UI's server ended: {_last_line(log)}")


def landing(problem: str) -> str:
    """Behind the UI's address: the view of the scored runs on `problem`, or of those written last; else all runs."""
    from mlflow import MlflowClient

    from Codes.comparison import saved_view

    return saved_view.newest(MlflowClient(), saved_view.name_of(problem)) or saved_view.EXPERIMENTS


def address(place: str) -> str:
    """Where `make ui`, or the server that the store is, shows `place` (#/…)."""
    import mlflow

    uri = mlflow.get_tracking_uri()
    base = uri.rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{PORT}"
    return f"{base}/{place}"


def _end_with(process: int) -> None:
    """Let the end of `process` be that of this one."""
    watched = os.pidfd_open(process)

    def wait() -> None:
        select.select([watched], [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def _server(uri: str, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process of MLflow's server on the store at `uri`, which ends with the block; Ctrl-C is such an end."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", uri, "--no-serve-artifacts"]
    from Codes.stores import store

    command += ["--default-artifact-root", store.artifact_root(uri) or str(paths.ROOT / "mlruns")]
    environment = os.environ | QUIET
    with open(log, "wb") as sink:
        process = subprocess.Popen(  # pylint: disable=consider-using-with
            command,
            env=environment,
            cwd=paths.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,  # Ctrl-C is for this one, which ends it in order
        )
    try:
        yield process
    except KeyboardInterrupt:
        click.echo("the UI is closed", err=True)
    finally:
        process.terminate()
        try:
            process.wait(ENDING)
        except subprocess.TimeoutExpired:
            process.kill()


def has_screen() -> bool:
    """Whether a browser would have a window of its own."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in SCREENS)


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return f"{lines[-1][:200]} ({log})" if lines else f"no word ({log})"
