"""A version leaves the house: its image's folder is the same each time, and what serves it there is `workbook serve`.

    python Codes/Check_deploy.py

Expected output:

    context     Dockerfile, model, requirements.txt, sbom.json, workbook
    the same    digest when it is made again
    packages    all pinned with hashes; papermill and jupyterlab are not among them
    answers     as the registered model does, under any Host
    stopped     by SIGTERM, exit 0
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import requests

from Codes.deployment import context
from Codes.model_registry import promotion, registry
from Codes.saved_models.trust import Loaded
from Codes.serving import client
from Codes.testing import samples


def report(folder: Path) -> Iterator[str]:
    """The lines of the expected output."""
    version = promotion.register(samples.train("breast_cancer", "linear"))
    spec = f"{version.name}/{version.number}"
    made = context.make(spec, Path(folder, "context"))
    yield f"context     {', '.join(sorted(each.name for each in made.folder.iterdir()))}"
    again = context.make(spec, Path(folder, "again"))
    yield f"the same    digest {'when it is made again' if again.digest == made.digest else 'never'}"
    text = (made.folder / "requirements.txt").read_text("utf-8")
    absent = [name for name in ("papermill", "jupyterlab") if f"\n{name}==" not in text]
    pinned = "all" if text.count("==") <= text.count("--hash=sha256:") else "not all"
    yield f"packages    {pinned} pinned with hashes; {' and '.join(absent)} are not among them"
    yield from asked(made, registry.load(version))


def asked(made: context.Context, model: Loaded) -> Iterator[str]:
    """What the image's command answers, here with this Python's packages."""
    port, rows = client.free_port(), model.example
    assert rows is not None
    command, variables = context.entry(made.folder)
    variables |= {
        "PYTHONPATH": str(made.folder / "workbook"),
        "WORKBOOK_SERVE_MODEL": str(made.folder / "model"),
        "WORKBOOK_SERVE_HOST": "127.0.0.1",
        "WORKBOOK_SERVE_PORT": str(port),
    }
    log, url = made.folder.parent / "serve.log", f"http://127.0.0.1:{port}"
    with (
        open(log, "wb") as sink,
        subprocess.Popen(
            [sys.executable, *command[1:]], env=os.environ | variables, stdout=sink, stderr=sink
        ) as process,
    ):
        try:
            client.wait(process, url, log)
            headers = client.JSON | {"Host": "models.example.com"}
            body = client.body(rows)
            answer = requests.post(f"{url}/invocations", body, headers=headers, timeout=60).json()
            same = answer["predictions"] == model.predict(rows).tolist()
            yield f"answers     {'as the registered model does, under any Host' if same else answer}"
            process.send_signal(signal.SIGTERM)
            yield f"stopped     by SIGTERM, exit {process.wait(30)}"
        finally:
            process.kill()


if __name__ == "__main__":
    samples.check(report, __doc__)
