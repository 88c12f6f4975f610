"""Each private part of another library that is used is still what it was: a test a function, by its name.

They look at the library itself, so that what fails under a new release is named. What the workbook makes of these
parts is tested where it does it.
"""

import ast
import asyncio
import html
import inspect
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from papermill.iorw import LocalHandler
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)

from Codes.ground.paths import ROOT
from Codes.seams import (
    ipykernel_seam,
    jupyter_seam,
    mlflow_seam,
    papermill_seam,
    python_seam,
    sklearn_seam,
    uvicorn_seam,
)

SEAMS = (
    mlflow_seam,
    papermill_seam,
    jupyter_seam,
    ipykernel_seam,
    sklearn_seam,
    uvicorn_seam,
    python_seam,
)
MINE = {
    (module.__name__, name): each
    for module in SEAMS
    for name, each in vars(module).items()
    if inspect.isroutine(each) or inspect.isclass(each)
    if each.__module__ == module.__name__ and not name.startswith("_")
}
# pylint: disable=protected-access
# of Python itself, and documented; of a named tuple
PUBLIC = {"_getframe", "_exit", "_replace", "_asdict", "_fields"}


@pytest.mark.parametrize("seam", MINE, ids=lambda seam: seam[1])
def test_a_seam_says_what_is_private_what_was_seen_and_how_to_do_without(seam):
    lines = re.findall(r"^ +(Private|Seen|Without): \S", MINE[seam].__doc__, re.MULTILINE)
    assert lines == ["Private", "Seen", "Without"]


def test_each_seam_has_a_test_of_its_name():
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert not {name for _, name in MINE if not any(name.lower() in test for test in tests)}


def reached(path):
    """The private names of others that the module at `path` uses: attributes, and modules that it imports."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(r"_[a-zA-Z]", node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            own = own or ast.unparse(node.value).startswith(("self.", "super("))
            if not own and node.attr not in PUBLIC:
                yield f"{path.name}: {ast.unparse(node)}"
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (
            f"{path.name}: import {name}"
            for name in names
            if re.search(r"\b_[a-z]", name) and not name.startswith("Codes.")
        )


def test_nothing_private_is_used_elsewhere():
    rooms = [path for path in (ROOT / "Codes").glob("*/*.py") if path.parent.name != "seams"]
    own = [p for p in rooms if not p.name.startswith(("Test_", "Check_")) and p != Path(__file__)]
    # tests, types, and a documented module of Python
    allowed = re.compile(
        r"network_contract.py|import (_csv|_thread|mlflow.tracking._tracking_service)"
    )
    found = [each for path in own for each in reached(path) if not allowed.search(each)]
    assert not found


# --- mlflow


@pytest.fixture(name="client")
def fixture_client(own_store, monkeypatch):
    """A client of a store of its own, which is MLflow's for the time of the test."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own_store.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")  # which set_experiment sets
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(own_store.uri)
    yield own_store.client
    while mlflow.active_run():
        mlflow.end_run()
    mlflow_seam.choose_no_experiment()
    mlflow.set_tracking_uri(before)


def test_fluent_holds_what_mlflow_offers():
    module = mlflow_seam.fluent()
    for name in ("start_run", "set_experiment", "_get_or_start_run", "_get_experiment_id"):
        assert getattr(module, name).__module__.startswith(("mlflow.", "Codes.runs")), name
    assert mlflow.start_run is module.start_run and mlflow.set_experiment is module.set_experiment


@pytest.fixture(name="files", scope="module")
def fixture_files():
    """{function of mlflow: the name of the file that it is from} in a process that has just imported it."""
    told = "import json, mlflow\nnames = 'start_run', 'set_experiment', 'set_tracking_uri'\n"
    told += "print(json.dumps({n: getattr(mlflow, n).__code__.co_filename for n in names}))"
    done = subprocess.run([sys.executable, "-c", told], text=True, capture_output=True, check=True)
    return {name: Path(file).name for name, file in json.loads(done.stdout).items()}


def test_once_fluent_is_loaded_our_functions_are_those_of_mlflow(files):
    assert files["start_run"] == files["set_experiment"] == "nested_runs.py"


def test_wrap_set_tracking_uri_reaches_mlflow_which_loads_nested_runs_before_it_takes_it(files):
    assert files["set_tracking_uri"] == "nested_runs.py"


def test_wrap_fluent_reaches_what_is_logged_without_a_run(client, monkeypatch):
    fluent, calls = mlflow_seam.fluent(), []
    for name in ("_get_or_start_run", "_get_experiment_id"):
        monkeypatch.setattr(fluent, name, getattr(fluent, name))  # put back in the end

        def noted(call, name=name):
            return lambda *args, **kwargs: (calls.append(name), call(*args, **kwargs))[1]

        mlflow_seam.wrap_fluent(name, noted)
    mlflow.log_metric("m", 1.0)
    assert client.get_run(mlflow.active_run().info.run_id).data.metrics == {"m": 1.0}
    assert set(calls) == {"_get_or_start_run", "_get_experiment_id"}


@pytest.mark.usefixtures("client")
def test_active_runs_is_the_list_that_mlflow_looks_at():
    assert not mlflow_seam.active_runs()
    with mlflow.start_run() as run:
        assert [each.info.run_id for each in mlflow_seam.active_runs()] == [run.info.run_id]
        taken = mlflow_seam.active_runs().pop()
        assert mlflow.active_run() is None
        mlflow_seam.active_runs().append(taken)


@pytest.mark.usefixtures("client")
def test_run_for_logging_is_the_active_run():
    run = mlflow_seam.run_for_logging()
    assert (
        mlflow.active_run().info.run_id
        == run.info.run_id
        == mlflow_seam.run_for_logging().info.run_id
    )


def test_chosen_experiment_is_what_set_experiment_chose_and_choose_no_experiment_forgets_it(client):
    run_id = client.create_run("0").info.run_id
    assert mlflow_seam.chosen_experiment() is None
    assert mlflow.set_experiment("chosen").experiment_id == mlflow_seam.chosen_experiment()
    with pytest.raises(MlflowException, match="does not match"):
        mlflow.start_run(run_id)
    mlflow_seam.choose_no_experiment()
    assert mlflow.start_run(run_id).info.experiment_id == "0"


AUTOLOGGED = """
import sys
from Codes.seams import mlflow_seam

def wrap(manage):
    def with_managed_run(integration, patch_function, tags=None):
        def noted(*args, **kwargs):
            print("wrapped")
            return patch_function(*args, **kwargs)
        return manage(integration, noted, tags)
    return with_managed_run

mlflow_seam.wrap_autologged_fits(wrap)
import mlflow, mlflow.sklearn
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

class Tree(DecisionTreeClassifier):
    def fit(self, X, y):
        print("within:", mlflow_seam.is_in_autologged_fit())
        return super().fit(X, y)

mlflow.set_tracking_uri(sys.argv[1])
mlflow.sklearn.autolog(log_models=False, log_datasets=False, silent=True, log_post_training_metrics=False)
GridSearchCV(Tree(), {}, cv=2, refit=False).fit([[0], [1]] * 2, [0, 1] * 2)
print("after it:", mlflow_seam.is_in_autologged_fit())
"""


def test_wrap_autologged_fits_sees_a_fit_and_is_in_autologged_fit_knows_of_it(own_store):
    command = [sys.executable, "-c", AUTOLOGGED, own_store.uri]  # autologging would stay on here
    done = subprocess.run(command, text=True, capture_output=True, cwd=ROOT, check=False)
    lines = done.stdout.splitlines()
    assert lines[0] == "wrapped" and "within: True" in lines, done.stderr
    assert "within: False" not in lines and lines[-1] == "after it: False"


def test_wrap_run_variable_decides_which_run_is_asked_for(client, monkeypatch):
    from mlflow.environment_variables import MLFLOW_RUN_ID

    monkeypatch.setattr(MLFLOW_RUN_ID, "get", MLFLOW_RUN_ID.get)
    run_id = client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    mlflow_seam.wrap_run_variable(lambda read: lambda: None)
    with mlflow.start_run() as run:
        assert run.info.run_id != run_id


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("create_run", lambda client, run_id: client.create_run("0")),
        ("set_terminated", lambda client, run_id: client.set_terminated(run_id)),
        ("get_experiment_by_name", lambda client, run_id: client.get_experiment_by_name("x")),
        ("log_inputs", lambda client, run_id: client.log_inputs(run_id, [])),
        ("set_tag", lambda client, run_id: client.set_tag(run_id, "a", "b")),
    ],
)
def test_wrap_client_reaches_every_client(name, call, client, monkeypatch):
    from mlflow.tracking._tracking_service.client import TrackingServiceClient

    run_id, calls = client.create_run("0").info.run_id, []
    monkeypatch.setattr(TrackingServiceClient, name, getattr(TrackingServiceClient, name))
    mlflow_seam.wrap_client(
        name, lambda method: lambda *args, **more: (calls.append(name), method(*args, **more))[1]
    )
    call(MlflowClient(), run_id)
    assert calls == [name]


def test_wrap_client_finds_the_arguments_that_we_name():
    from mlflow.tracking._tracking_service.client import TrackingServiceClient

    def named(function):
        return list(inspect.signature(function).parameters)

    expected = ["self", "experiment_id", "start_time", "tags", "run_name"]
    assert named(TrackingServiceClient.create_run) == expected
    assert named(TrackingServiceClient.set_terminated) == ["self", "run_id", "status", "end_time"]


def test_end_run_writes_status_time_and_name(client):
    run_id = client.create_run("0", run_name="before").info.run_id
    mlflow_seam.end_run(client, run_id, "KILLED", 123, "after")
    info = client.get_run(run_id).info
    assert (info.status, info.end_time, info.run_name) == ("KILLED", 123, "after")


def test_sql_store_works_on_what_create_tables_made_and_remember_the_schema_asks_once(
    tmp_path, monkeypatch
):
    from mlflow.store.db import utils

    read, reads = utils._get_latest_schema_revision, []
    monkeypatch.setattr(utils, "_get_latest_schema_revision", lambda: (reads.append(1), read())[1])
    mlflow_seam.remember_the_schema()
    uri = f"sqlite:///{tmp_path}/new.db"
    mlflow_seam.create_tables(uri)
    store = mlflow_seam.sql_store(uri, str(tmp_path))  # it would migrate tables of another schema
    assert store.get_experiment(store.create_experiment("e")).name == "e"
    store.engine.dispose()
    assert len(reads) == 1


def test_schema_revisions_know_the_one_of_a_new_store(own_store):
    with sqlite3.connect(own_store.uri.removeprefix("sqlite:///")) as connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        for table, columns in mlflow_seam.LOCATIONS.items():
            connection.execute(f"SELECT {', '.join(columns)} FROM {table}")
        for table in mlflow_seam.TAGS:
            connection.execute(f"SELECT key, value FROM {table}")
    connection.close()
    known = mlflow_seam.schema_revisions()
    newer = [text for text in known.values() if f'down_revision = "{revision}"' in text]
    assert revision in known and not newer and "runs" in tables


class Answering(BaseHTTPRequestHandler):
    """Answers 200 to /health, 404 to all else, and keeps whom it was asked for."""

    asked: list[tuple[str, str]] = []

    def do_GET(self):  # pylint: disable=invalid-name
        """Answer."""
        self.asked.append((self.path, self.headers["Authorization"]))
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()


def test_ask_health_asks_once_with_the_token_of_the_environment(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abc")
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert mlflow_seam.ask_health(f"http://127.0.0.1:{server.server_port}", 60) == 200
    assert Answering.asked == [("/health", "Bearer abc")]
    with pytest.raises(MlflowException):  # nobody listens there any more
        mlflow_seam.ask_health(f"http://127.0.0.1:{server.server_port}", 5)


def test_make_datasets_late_lets_mlflow_make_one_when_it_is_asked():
    code = """
import mlflow.data
from Codes.seams import mlflow_seam
vars(mlflow.data).pop("from_numpy")
mlflow_seam.make_datasets_late(["numpy"])
print(mlflow.data.from_numpy.__name__, hasattr(mlflow.data, "from_nothing"))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, text=True, capture_output=True, cwd=ROOT, check=False)
    assert done.stdout.split() == ["from_numpy", "False"], done.stderr


def test_saved_view_has_the_names_that_the_ui_reads():
    state = mlflow_seam.saved_view("", ["metrics.`m`"], True)
    folder = Path(mlflow.__file__).parent / "server" / "js" / "build" / "static" / "js"
    waiting = set(state) | {mlflow_seam.VIEW}
    for file in sorted(folder.glob("*.js"), key=lambda f: not f.name.startswith("main")):
        text = file.read_text("utf-8")
        waiting -= {name for name in waiting if name in text}
        if not waiting:
            return
    assert not waiting


# --- papermill

ASKS = """
from papermill.engines import Engine, papermill_engines
from Codes.seams import papermill_seam
import sys

class Asking(Engine):
    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
        print(papermill_seam.names_a_folder(), papermill_seam.path_from("a.ipynb"))

papermill_engines.register("asking", Asking)
import papermill
for more in {}, {"cwd": sys.argv[1]}:
    papermill.execute_notebook("a.ipynb", None, engine_name="asking", progress_bar=False, **more)
"""


def test_names_a_folder_and_path_from_see_the_call_of_papermill(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": ""}}
    )
    nbformat.write(notebook, tmp_path / "a.ipynb")
    done = subprocess.run(
        [sys.executable, "-c", ASKS, str(other)],
        text=True,
        capture_output=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    expected = [f"False {tmp_path / 'a.ipynb'}", f"True {tmp_path / 'a.ipynb'}"]
    assert done.stdout.splitlines() == expected, done.stdout + done.stderr


def test_write_by_is_what_papermill_writes_local_files_by(tmp_path, monkeypatch):
    monkeypatch.setattr(LocalHandler, "write", LocalHandler.write)
    written = []
    papermill_seam.write_by(lambda handler, text, path: written.append(path))
    papermill.iorw.write_ipynb(nbformat.v4.new_notebook(), f"{tmp_path}/a.ipynb")
    assert written == [f"{tmp_path}/a.ipynb"]


def test_leave_the_verdict_lets_an_error_that_was_judged_pass(tmp_path, monkeypatch):
    execute = papermill.execute
    monkeypatch.setattr(execute, "raise_for_execution_errors", execute.raise_for_execution_errors)
    judged = []
    papermill_seam.leave_the_verdict(lambda notebook: notebook in judged)
    error = nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])
    cell = nbformat.v4.new_code_cell("1", outputs=[error], execution_count=1)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    with pytest.raises(papermill.PapermillExecutionError):
        execute.raise_for_execution_errors(notebook, f"{tmp_path}/a.ipynb")
    judged.append(notebook)
    execute.raise_for_execution_errors(notebook, f"{tmp_path}/a.ipynb")
    source = inspect.getsource(execute.execute_notebook)
    assert "raise_for_execution_errors(" in source.partition("execute_notebook_with_engine(")[2]


# --- jupyter_client, nbconvert


def test_prompt_manager_waits_in_short_steps(monkeypatch):
    from jupyter_client import AsyncKernelManager

    waits = []

    async def wait(_, pollinterval=0.1):
        waits.append(pollinterval)

    monkeypatch.setattr(AsyncKernelManager, "_async_wait", wait)
    asyncio.run(jupyter_seam.prompt_manager()().finish_shutdown(waittime=1))
    assert set(waits) == {0.002}


def test_launching_is_what_a_kernel_starts_by():
    from jupyter_client import AsyncKernelManager

    kind, name = jupyter_seam.launching()
    assert asyncio.iscoroutinefunction(getattr(kind, name))
    assert f"self.{name}(" in inspect.getsource(AsyncKernelManager._async_start_kernel)


def test_single_pass_exporter_makes_the_page_that_nbconvert_makes():
    from nbconvert import HTMLExporter

    shown = nbformat.v4.new_output(
        "display_data", data={"text/html": "<b>1</b>", "text/plain": "1"}
    )
    cell = nbformat.v4.new_code_cell("x = 1", outputs=[shown], id="a")
    notebook = nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_markdown_cell("# A", id="b")])
    ours = jupyter_seam.single_pass_exporter()().from_notebook_node(notebook)[0]
    theirs = HTMLExporter().from_notebook_node(notebook)[0]

    def plain(page):
        text = re.sub(r"<[^>]+>", "", page.partition("<main")[2])
        return re.sub(r"\s", "", html.unescape(text))

    assert plain(ours) == plain(theirs) and "x=1" in plain(ours)
    assert "highlight hl-ipython3" in ours and "<b>1</b>" in ours


# --- ipykernel, traitlets: used in a process of its own, where it makes the kernel

KERNEL = """
import sys, json, socket
from jupyter_client.connect import write_connection_file
from Codes.seams import ipykernel_seam
from ipykernel import iostream
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython import get_ipython

early = ZMQInteractiveShell.__new__(ZMQInteractiveShell)
with ipykernel_seam.as_instance(early):
    told = {"as_instance": get_ipython() is early}
told["as_instance, after"] = get_ipython() is None
file = write_connection_file(sys.argv[1])[0]
before = open(file).read()

class Early(iostream.OutStream):
    pass

streams = {name: Early.__new__(Early) for name in ("stdout", "stderr")}
for name, stream in streams.items():
    stream.name = name
app, seen = IPKernelApp.instance(), []
ipykernel_seam.preset(app, 7, lambda: seen.append("poll"), lambda: app.load_connection_file())
with ipykernel_seam.with_modules({"json": json}), ipykernel_seam.with_streams(streams):
    app.initialize(["-f", file, "--IPKernelApp.log_level=40", "--HistoryManager.enabled=False"])
told["preset"] = seen == ["poll"] and open(file).read() == before
told["take_options"] = app.log_level == 40 and app.shell.history_manager.enabled is False
told["with_modules"] = app.kernel.debugger.kernel_modules == [json.__file__]
told["with_streams"] = sys.stdout is streams["stdout"] and sys.stderr is streams["stderr"]
sys.__stdout__.write(json.dumps(told))
sys.__stdout__.flush()
import os
os._exit(0)
"""


@pytest.fixture(name="kernel", scope="module")
def fixture_kernel(tmp_path_factory):
    """{function: whether a kernel was made with it as it says}."""
    file = tmp_path_factory.mktemp("kernel") / "kernel.json"
    command = [sys.executable, "-c", KERNEL, str(file)]
    done = subprocess.run(command, text=True, capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_as_instance_is_what_get_ipython_gives_within_it_alone(kernel):
    assert kernel["as_instance"] is True and kernel["as_instance, after"] is True


@pytest.mark.parametrize("name", ["preset", "take_options", "with_modules", "with_streams"])
def test_preset_take_options_with_modules_with_streams_make_a_kernel(kernel, name):
    assert kernel[name] is True


# --- scikit-learn


@pytest.fixture(name="rows", scope="module")
def fixture_rows():
    """A table with a category, numbers and gaps; a number and a class to predict."""
    random = np.random.default_rng(0)
    table = pd.DataFrame({"x": random.normal(size=300), "c": random.integers(0, 4, 300)})
    table.loc[::7, "x"] = np.nan
    number = table.x.fillna(-1) + (table.c == 2)
    return table.to_numpy(), number.to_numpy(), (number > 0).to_numpy()


def walked(nodes, lefts, row):
    """The value of the leaf that `row` comes to in a tree of boosting, node by node."""
    asking = list(nodes.index[nodes.is_categorical])
    at = 0
    while not nodes.is_leaf[at]:
        value, node = row[nodes.feature_idx[at]], nodes.loc[at]
        if np.isnan(value):
            left = bool(node.missing_go_to_left)
        elif node.is_categorical:
            left = int(value) in lefts[asking.index(at)]
        else:
            left = value <= node.num_threshold
        at = int(node.left if left else node.right)
    return nodes["value"][at]


def test_boosting_trees_and_boosting_baseline_and_boosting_numbers_make_its_predictions(rows):
    table, number, _ = rows
    model = HistGradientBoostingRegressor(
        max_iter=5, categorical_features=[1], random_state=0, early_stopping=False
    ).fit(table, number)
    trees = list(sklearn_seam.boosting_trees(model))
    scores = [
        sklearn_seam.boosting_baseline(model)[0] + sum(walked(n, left, row) for _, n, left in trees)
        for row in table[:40]
    ]
    assert any(len(lefts) for _, _, lefts in trees)
    answers = sklearn_seam.boosting_numbers(model, np.array(scores))
    assert np.allclose(answers, model.predict(table[:40]))


def test_boosting_probabilities_are_those_of_the_model(rows):
    table, _, label = rows
    model = HistGradientBoostingClassifier(max_iter=3).fit(table, label)
    scores = model.decision_function(table).reshape(-1, 1)
    shares = sklearn_seam.boosting_probabilities(model, scores)
    assert np.allclose(shares, model.predict_proba(table))


def test_tree_nodes_lead_gaps_as_the_forest_does(rows):
    table, _, label = rows
    tree = RandomForestClassifier(1, random_state=0).fit(table, label).estimators_[0]
    columns, values = sklearn_seam.tree_nodes(tree.tree_)
    nodes = pd.DataFrame(columns).assign(is_categorical=False, value=values[1])
    shares = [walked(nodes, [], row.astype(np.float32)) for row in table[:40]]
    assert np.isnan(table[:40]).any() and np.allclose(shares, tree.predict_proba(table[:40])[:, 1])


def test_check_hyperparameters_refuses_what_the_fit_would():
    with pytest.raises(ValueError, match="max_depth"):
        sklearn_seam.check_hyperparameters(RandomForestClassifier(max_depth=-1))
    sklearn_seam.check_hyperparameters(RandomForestClassifier())
    sklearn_seam.check_hyperparameters(object())


# --- uvicorn


def test_impatient_closes_a_socket_that_never_sends_a_head():
    import socket

    import uvicorn

    async def app(_, __, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    class Quick(uvicorn_seam.Impatient):
        """With little patience."""

        seconds = 0.2

    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=Quick, lifespan="off", log_level="critical")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, args=([listening],), daemon=True)
    thread.start()
    with socket.create_connection(listening.getsockname(), timeout=60) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert client.recv(1000) == b""
    with socket.create_connection(listening.getsockname(), timeout=60) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 204")
    running.should_exit = True
    thread.join(60)
    assert not thread.is_alive()


# --- Python's own library

ENDS = """
import atexit, threading, os, time
from Codes.seams import python_seam
threading.Thread(target=lambda: (time.sleep(0.1), print("thread", flush=True))).start()
atexit.register(print, "registered", flush=True)
python_seam.run_exit_functions()
os._exit(0)
"""


def test_run_exit_functions_waits_for_threads_and_calls_what_is_registered():
    command = [sys.executable, "-c", ENDS]
    done = subprocess.run(command, text=True, capture_output=True, cwd=ROOT, check=False)
    assert done.stdout.split() == ["thread", "registered"], done.stderr


STARTS = """
import multiprocessing
from Codes.seams import python_seam
multiprocessing.set_start_method("fork")
python_seam.forget_start_method()
multiprocessing.set_start_method("spawn")
print(multiprocessing.get_start_method())
"""


def test_forget_start_method_lets_it_be_set_once_more():
    command = [sys.executable, "-c", STARTS]
    done = subprocess.run(command, text=True, capture_output=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == "spawn", done.stderr


FORKS = """
import multiprocessing, os
from Codes.seams import python_seam

def tell():
    print(os.getppid(), flush=True)

def tell_by(address):
    tell()
    python_seam.use_forkserver(address)
    child = multiprocessing.get_context("forkserver").Process(target=tell)
    child.start()
    child.join()

if __name__ == "__main__":
    server = python_seam.forkserver_address()
    process = multiprocessing.get_context("forkserver").Process(target=tell_by, args=(server,))
    process.start()
    process.join()
"""


def test_use_forkserver_forks_from_the_server_of_forkserver_address(tmp_path):
    script = tmp_path / "forks.py"
    script.write_text(FORKS)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, text=True, capture_output=True, env=environment, check=False)
    parents = done.stdout.split()  # of the fork, and of the one that it makes
    assert len(parents) == 2 and len(set(parents)) == 1, done.stderr
