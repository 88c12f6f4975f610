"""Runs opened by hand, as in JupyterLab, and runs read back as a table."""

import json
import os
import subprocess
import sys
import time
import urllib.request

import mlflow
import pytest
from jupyter_client import BlockingKernelClient

from Codes.ground.errors import WorkbookError
from Codes.runs import tracking
from Codes.testing.testbed import write_notebook

CELLS = [
    "problem: str = 'by_hand'  # which problem\nalpha: float = 0.5  # strength [0, inf)\n"
    "label = problem.upper()\nkinds = {1: 2}",
    "from Codes import tracking\nrun = tracking.start_run()",
    "import mlflow\nmlflow.log_metric('score', alpha)",
]


@pytest.fixture(name="store")
def _store(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    yield uri
    mlflow.set_tracking_uri(None)


@pytest.fixture(name="server")
def _server(tmp_path, store):
    """A Jupyter server over a folder with one notebook; yields a function that asks its REST interface."""
    write_notebook(tmp_path / "experiment.ipynb", *CELLS[1:], parameters=CELLS[0])
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": store,
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    command = [
        sys.executable,
        "-m",
        "jupyter",
        "server",
        "--no-browser",
        "--ip=127.0.0.1",
        "--port=0",
    ]
    options = ["--allow-root", "--IdentityProvider.token=hand", f"--ServerApp.root_dir={tmp_path}"]
    with subprocess.Popen(command + options, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield lambda *request: ask(tmp_path / "runtime", *request)
        finally:
            process.terminate()


def ask(runtime, path, body=None):
    """The answer of the server that runs in `runtime`, once it is up, to `path` (and `body`, posted)."""
    deadline = time.monotonic() + 60
    data, token = json.dumps(body).encode() if body else None, {"Authorization": "token hand"}
    while True:
        try:
            (file,) = runtime.glob("jpserver-*.json")
            url = f"{json.loads(file.read_text())['url']}api/{path}"
            request = urllib.request.Request(url, data, token)
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except (OSError, ValueError):  # also where the file is not there, or not yet whole
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_a_run_opened_by_hand_in_jupyter_has_the_same_identity_and_parameters(server, tmp_path):
    body = {
        "path": "experiment.ipynb",
        "name": "experiment.ipynb",
        "type": "notebook",
        "kernel": {"name": "python3"},
    }
    session = server("sessions", body)
    client = BlockingKernelClient(
        connection_file=str(tmp_path / "runtime" / f"kernel-{session['kernel']['id']}.json")
    )
    client.load_connection_file()
    client.start_channels(hb=False)  # its heartbeat needs longer to begin than we wait
    client.wait_for_ready(timeout=60)
    replies = [
        client.execute_interactive(source, timeout=120)["content"]
        for source in [CELLS[0], "alpha = 2.5"]
    ]
    replies += [client.execute_interactive(source, timeout=120)["content"] for source in CELLS[1:]]
    client.stop_channels()
    assert [reply["status"] for reply in replies] == ["ok"] * 4

    tracking.use_store()
    experiment = mlflow.get_experiment_by_name("by_hand")
    (run,) = mlflow.MlflowClient().search_runs([experiment.experiment_id])
    assert run.data.params == {
        "problem": "by_hand",
        "alpha": "2.5",
        "label": "BY_HAND",
        "kinds": "{1: 2}",
    }
    assert run.data.metrics["score"] == 2.5
    assert run.data.tags["mlflow.workbook.notebook"] == "experiment"
    assert run.data.tags["mlflow.source.name"] == str(tmp_path / "experiment.ipynb")
    assert run.data.tags["mlflow.workbook.owner"]


def test_runs_of_an_experiment_that_does_not_exist_are_an_empty_table(store):
    table = tracking.runs("nowhere")
    assert table.empty and "run_id" in table and os.path.exists(store.removeprefix("sqlite:///"))


def test_only_finished_runs_of_the_notebook_are_read_back(store):
    assert tracking.use_store() == store
    experiment = tracking.ensure_experiment("one")
    for notebook, status in [
        ("02_train", "FINISHED"),
        ("02_train", "FAILED"),
        ("01_explore", "FINISHED"),
    ]:
        run = mlflow.MlflowClient().create_run(
            experiment, tags={"mlflow.workbook.notebook": notebook}
        )
        mlflow.MlflowClient().set_terminated(run.info.run_id, status)
    assert len(tracking.runs("one")) == 2
    assert list(tracking.runs("one", "02_train")["tags.mlflow.workbook.notebook"]) == ["02_train"]


@pytest.mark.parametrize("variable", ["MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"])
def test_one_experiment_for_all_runs_is_where_they_are_read_from(store, monkeypatch, variable):
    assert tracking.use_store() == store
    shared = tracking.ensure_experiment("shared")
    ids = {}
    for place, problem in (
        (shared, "one"),
        (shared, "two"),
        (tracking.ensure_experiment("one"), "one"),
    ):
        run = mlflow.MlflowClient().create_run(place)
        ids[place, problem] = run.info.run_id
        mlflow.MlflowClient().log_param(run.info.run_id, "problem", problem)
        mlflow.MlflowClient().set_terminated(run.info.run_id)
    monkeypatch.setenv(variable, "shared" if variable.endswith("NAME") else shared)
    assert tracking.experiment_of("n.ipynb", {"problem": "one"}) == shared
    assert list(tracking.runs("one").run_id) == [ids[shared, "one"]]


def test_artifacts_of_a_new_experiment_lie_beside_the_store_and_not_in_the_current_folder(
    store, tmp_path
):
    tracking.use_store()
    found = mlflow.get_experiment(tracking.ensure_experiment("a/b ü"))
    assert found.artifact_location == f"{tmp_path}/mlruns/a_b_ü" and store


def test_a_deleted_experiment_is_refused_with_the_way_out(store):
    tracking.use_store()
    mlflow.delete_experiment(tracking.ensure_experiment("gone"))
    with pytest.raises(WorkbookError, match="'gone' was deleted; restore it"):
        tracking.ensure_experiment("gone")
    assert store


@pytest.mark.parametrize("length", [1, 6000, 6001, 100_000])
def test_a_parameter_over_the_limit_is_shortened_and_says_where_the_whole_is(length):
    short = tracking.shortened("x" * length)
    assert len(short) <= 6000
    assert (short == "x" * length) == (length <= 6000)
    assert ("parameters.json" in short) == (length > 6000)
