"""The MLflow UI: the page that `make ui` opens, and what it is given to show.

    python Codes/Check_ui.py

Expected output:

    health      OK
    page        200 text/html
    experiments Default, tiny
    runs        02_train FINISHED score=0.9
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import requests
from mlflow import MlflowClient

from Codes.runs import tracking
from Codes.serving import client
from Codes.testing import samples

PATIENCE = 120  # seconds until the server answers


def fill():
    """A store with one run in it."""
    tracking.use_store()
    store = MlflowClient()
    run = store.create_run(tracking.ensure_experiment("tiny"), run_name="02_train")
    store.log_metric(run.info.run_id, "score", 0.9)
    store.set_terminated(run.info.run_id)


def start(port: int) -> subprocess.Popen:
    """`workbook ui`, as `make ui` starts it."""
    command = [sys.executable, "-m", "Codes.commands.cli", "ui", "--port", str(port)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def answers(url: str) -> str:
    """Whether the server at `url` is up, after a while."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            return requests.get(f"{url}/health", timeout=5).text
        except requests.ConnectionError:
            time.sleep(0.2)
    return "nothing"


def report(_: Path) -> Iterator[str]:
    """The lines of the expected output, from a server on a store with one run."""
    fill()
    port = client.free_port()
    server = start(port)
    try:
        yield from shown(f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait(60)


def shown(url: str) -> Iterator[str]:
    """What the server at `url` shows."""
    yield f"health      {answers(url)}"
    page = requests.get(url, timeout=30)
    yield f"page        {page.status_code} {page.headers['Content-Type'].partition(';')[0]}"
    store = MlflowClient(url)
    found = {e.name: e.experiment_id for e in store.search_experiments()}
    yield f"experiments {', '.join(sorted(found))}"
    run = store.search_runs([found["tiny"]])[0]
    yield f"runs        {run.info.run_name} {run.info.status} score={run.data.metrics['score']}"


if __name__ == "__main__":
    samples.check(report, __doc__)
