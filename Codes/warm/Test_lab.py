"""In JupyterLab the first cell greets without red text, and what is typed there is history; what is run is none."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
import pytest
from jupyter_client.kernelspec import KernelSpec

from Codes.bench import bench_lab
from Codes.testing.cases import sampled
from Codes.testing.testbed import clean_environment, write_notebook
from Codes.warm import provisioner, templates

TYPED = (
    "from tqdm.auto import tqdm\nimport mlflow\n[None for _ in tqdm(range(3))] and 'typed by hand'"
)
RUN = "'run by a program'"
SESSIONS = "session FROM sessions"


@pytest.fixture(name="environment", scope="module")
def fixture_environment(tmp_path_factory):
    """The environment of a user whose IPython and templates are their own; the templates go at the end."""
    folder = tmp_path_factory.mktemp("lab")
    private = {name: str(folder / name) for name in ("IPYTHONDIR", "XDG_RUNTIME_DIR", "TMPDIR")}
    for place in private.values():
        Path(place).mkdir(mode=0o700)
    yield clean_environment() | private | {"JUPYTER_TOKEN": "t"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", private["XDG_RUNTIME_DIR"])
        templates.stop()


def history(environment, what="source FROM history"):
    """All cells in the user's history, or `what` else of it."""
    found = []
    for path in Path(environment["IPYTHONDIR"]).rglob("history.sqlite"):
        with sqlite3.connect(path) as database:
            found += [value for (value,) in database.execute(f"SELECT {what}")]
    return found


WAYS = {  # by commands that name our kernel
    "papermill": ["papermill", "--no-progress-bar", "-k", "workbook", "nb.ipynb", "out.ipynb"],
    "jupyter execute": ["jupyter", "execute", "--kernel_name=workbook", "nb.ipynb"],
    "nbval": [
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--nbval-lax",
        "--nbval-kernel-name",
        "workbook",
        "nb.ipynb",
    ],
    "a script of jupyter's": ["jupyter_client.runapp", "--kernel=workbook", "script.py"],
}


@pytest.mark.parametrize("way", sampled(WAYS, "nbval"))
def test_what_a_program_runs_is_in_nobodys_history(environment, way, tmp_path):
    write_notebook(tmp_path / "nb.ipynb", RUN)
    (tmp_path / "script.py").write_text(RUN, "utf-8")
    command, before = [sys.executable, "-m", *WAYS[way]], history(environment, SESSIONS)
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert RUN not in history(environment) and history(environment, SESSIONS) == before


def test_a_server_whose_kernels_are_warm_by_default_starts_others_as_ever():
    def is_strange(cmd, **metadata):
        spec = KernelSpec(metadata=metadata)
        return provisioner.WarmProvisioner(kernel_spec=spec).is_strange(cmd)

    own = [sys.executable, "-m", "ipykernel_launcher", "-f", "file"]
    bash = [sys.executable, "-m", "bash_kernel", "-f", "file"]
    assert not is_strange(own) and is_strange(bash) and is_strange(["/other/python", *own[1:]])
    assert not is_strange(bash, kernel_provisioner={"provisioner_name": "workbook-warm"})


async def typed(address, kernel):
    """What is shown of TYPED in a new notebook of JupyterLab with `kernel`."""
    async with bench_lab.notebook(address, "t", kernel) as channels:
        reply, shown = await bench_lab.execute(channels, TYPED)
    assert reply["status"] == "ok", reply
    return shown


def test_what_is_typed_in_jupyterlab_is_history_and_shows_a_bar_and_no_red_text(environment):
    with bench_lab.server(environment) as address:
        for kernel in bench_lab.KERNELS:
            shown = asyncio.run(typed(address, kernel))
            assert not [content for kind, content in shown if kind == "stream"], kernel
            data = [content["data"] for kind, content in shown if kind == "display_data"]
            assert [each for each in data if "application/vnd.jupyter.widget-view+json" in each]
            assert history(environment).count(TYPED) == 1 + bench_lab.KERNELS.index(kernel)
