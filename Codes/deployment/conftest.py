"""A registered model with its build context, and the image's own command over the files of the pinned packages."""

import contextlib
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from Codes.deployment import context, pins
from Codes.model_registry import promotion
from Codes.saved_models import trust
from Codes.serving import client
from Codes.testing import samples
from Codes.testing.testbed import fresh_store

NAME = "breast_cancer"


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory):
    """The Context of a registered model."""
    folder = tmp_path_factory.mktemp("image")
    os.environ.setdefault("WORKBOOK_TESTBED", str(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", fresh_store(folder))
        version = promotion.register(samples.train(NAME, "linear"))
        yield context.make(f"{NAME}/{version.number}", folder / "context")


def only_pinned(folder, made):
    """A folder of links to the installed files of the packages that the image pins, as its /opt/packages."""
    for name in pins.needed(trust.pins(made.folder / "model" / "model")):
        here = metadata.distribution(name)
        for file in here.files or ():
            if file.parts[0] != ".." and "__pycache__" not in file.parts:
                link(folder / file, here.locate_file(file))
                compiled = Path(here.locate_file(file)).parent / "__pycache__"
                if len(file.parts) > 1 and compiled.is_dir():
                    link(folder / file.parent / "__pycache__", compiled)
    return folder


def link(path, target):
    """A link at `path` to `target`, unless there is one: two packages may share a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink():
        path.symlink_to(target)


@contextlib.contextmanager
def started(made, folder, **variables):
    """(the process, its address) of the image's command over its files, as a plain user that can write nothing."""
    port = client.free_port()
    command, environment = context.entry(made.folder)
    environment |= {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{only_pinned(folder / 'packages', made)}:{made.folder / 'workbook'}",
        "WORKBOOK_SERVE_MODEL": str(made.folder / "model"),
        "WORKBOOK_SERVE_HOST": "127.0.0.1",
        "WORKBOOK_SERVE_PORT": str(port),
        "HOME": "/nonexistent",
    }
    base = Path(sys.base_prefix, "bin", "python3")
    python = [str(base), "-s", *command[1:]]  # without this environment's packages
    log = folder / "log"
    with (
        open(log, "wb") as sink,
        subprocess.Popen(
            python,
            cwd=made.folder / "workbook",
            env=environment | variables,
            stdout=sink,
            stderr=sink,
        ) as process,
    ):
        try:
            client.wait(process, f"http://127.0.0.1:{port}", log)
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()
