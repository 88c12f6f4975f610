"""A registered model with its build context, and the image's own command over the files of the pinned packages."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import mlflow
import pytest

from Codes.deployment import context, pins
from Codes.model_registry import demonstration, promotion
from Codes.runs import tracking
from Codes.saved_models import trust
from Codes.serving import client
from Codes.testing.testbed import fresh_store

NAME = "breast_cancer"


@pytest.fixture(name="built", scope="session")
def _built(tmp_path_factory):
    """(the Context of a registered model, the address of its store)."""
    folder = tmp_path_factory.mktemp("image")
    os.environ.setdefault("WORKBOOK_TESTBED", str(folder))
    with pytest.MonkeyPatch.context() as patch:
        address = fresh_store(folder)
        patch.setenv("MLFLOW_TRACKING_URI", address)
        tracking.use_store()
        version = promotion.register(demonstration.finished_run(NAME, "linear"))
        made = context.make(f"{NAME}/{version.number}", folder / "context")
    mlflow.set_tracking_uri(None)
    return made, address


@pytest.fixture(name="made", scope="module")
def _made(built):
    """The Context of a registered model, whose store the environment names."""
    made, address = built
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", address)
        yield made


@pytest.fixture(name="packages", scope="session")
def _packages(built, tmp_path_factory):
    """A folder of links to the installed files of the packages that the image pins, as its /opt/packages."""
    folder = tmp_path_factory.mktemp("packages")
    folder.chmod(0o755)  # for the image's user
    for name in pins.needed(trust.pins(built[0].folder / "model" / "model")):
        here = metadata.distribution(name)
        for file in here.files or ():
            is_left_out = file.parts[0] == "pyarrow" and file.match(context.UNUSED)
            if file.parts[0] != ".." and "__pycache__" not in file.parts and not is_left_out:
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


@pytest.fixture(name="served", scope="session")
def _served(built, packages, tmp_path_factory):
    """The address of the image's command over its files, as of a user without a home; SIGTERM has to end it well."""
    made, port = built[0], client.free_port()
    command, environment = context.entry(made.folder)
    environment |= {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{packages}:{made.folder / 'workbook'}",
        "WORKBOOK_SERVE_MODEL": str(made.folder / "model"),
        "WORKBOOK_SERVE_HOST": "127.0.0.1",
        "WORKBOOK_SERVE_PORT": str(port),
        "HOME": "/nonexistent",
    }
    base = Path(sys.base_prefix, "bin", "python3")
    python = [str(base), "-s", *command[1:]]  # without this environment's packages
    log, where = tmp_path_factory.mktemp("served") / "log", made.folder / "workbook"
    with (
        open(log, "wb") as sink,
        subprocess.Popen(python, cwd=where, env=environment, stdout=sink, stderr=sink) as process,
    ):
        try:
            client.wait(process, f"http://127.0.0.1:{port}", log)
            yield f"http://127.0.0.1:{port}"
            process.terminate()
            assert process.wait(30) == 0, log.read_text("utf-8")
        finally:
            process.kill()
