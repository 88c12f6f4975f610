"""What an answer of a served model costs: ours, MLflow's own server, and a bare function behind FastAPI, turn about.

And what the prediction in it costs, by each form of a model. Networks stand beside where their framework is installed.

Two parts are processes of their own: python -m Codes.bench.bench_serve fit MODEL… | bare FOLDER PORT
"""

import contextlib
import importlib.util
import itertools
import json
import statistics
import os
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pandas as pd
from threadpoolctl import threadpool_limits

from Codes.bench.bench_report import Environment, Row, row, say
from Codes.bench.bench_sweep import printed
from Codes.ground.errors import WorkbookError
from Codes.ground.paths import RESOURCES, ROOT
from Codes.serving import client

# (seconds of wall time an answer, milliseconds that each took)
Measured: TypeAlias = tuple[float, pd.Series]


class Ours(NamedTuple):
    """A way in which the workbook serves a model."""

    what: str
    model: str = "hgb"
    options: tuple[str, ...] = ("--capture=0",)


NETWORKS = ("torch", "tensorflow")  # each where it is installed
EPOCHS = 4  # of a network: how well it answers is not looked at
ROWS = 20_000  # that a model learns from, as in 02_train
OURS = {
    "ours": Ours("workbook serve, all captured", options=()),
    "quiet": Ours("workbook serve, nothing captured"),
    "onnx": Ours("workbook serve --onnx, nothing captured", options=("--capture=0", "--onnx")),
    "torch": Ours("a network of PyTorch, nothing captured", "torch"),
    "torch_onnx": Ours(
        "a network of PyTorch, --onnx, nothing captured", "torch", ("--capture=0", "--onnx")
    ),
    "tensorflow": Ours("a network of TensorFlow, nothing captured", "tensorflow"),
}
OTHERS = {
    "mlflow": "mlflow models serve",
    "bare": "a function behind FastAPI, nothing checked",
}
NAMES = {key: way.what for key, way in OURS.items()} | OTHERS
SIZES = {"serve": 1, "serve_many": 1000}  # rows of a request
CLIENTS = (1, 16)
SECONDS = 2.0  # of each measurement, and of the answers before the first, which do not count
FORMS = {"pipeline": "the pipeline", "quick": "its quick way", "onnx": "its form in ONNX"}
ASKED = 200  # times, of which the median counts


def measure(rounds: int, environment: Environment) -> list[Row]:
    """The rows of each server, by size of the request and number of clients: seconds of wall time an answer.

    All of them run from the first round to the last: who is not asked waits, and takes nothing.
    """
    networks = [name for name in NETWORKS if importlib.util.find_spec(name)]
    folders = fitted(["hgb", *networks, "linear", "forest"], environment)
    found: dict[tuple[str, str, int], list[Measured]] = {}
    with contextlib.ExitStack() as stack:
        urls = {
            key: stack.enter_context(server(key, folders["hgb"], environment))
            for key in NAMES
            if key in OTHERS or OURS[key].model in folders
        }
        for number in range(1, rounds + 1):
            for (section, size), (key, url) in itertools.product(SIZES.items(), urls.items()):
                for clients, measured in asked(url, body(size), first=number == 1):
                    found.setdefault((section, key, clients), []).append(measured)
                    say(section, number, rounds, f"{key}, {clients} clients,", measured[0])
    return [_row(*name, m) for name, m in found.items()] + forms(rounds, folders)


def asked(url: str, text: str, first: bool) -> Iterator[tuple[int, Measured]]:
    """(clients, what they measured) of the server at `url`, which is asked `text`; of the `first`, it is warmed up."""
    if first:
        client.times(url, text, 1, SECONDS)
    for clients in CLIENTS:
        started = time.perf_counter()
        taken = client.times(url, text, clients, SECONDS)
        yield clients, ((time.perf_counter() - started) / len(taken), taken)


def _row(section: str, key: str, clients: int, measured: Sequence[Measured]) -> Row:
    taken = pd.concat([times for _, times in measured])
    late = f"p50 {taken.quantile(0.5):.1f}, p99 {taken.quantile(0.99):.1f} ms"
    return row(section, key, f"{NAMES[key]}: {late}", clients, [each for each, _ in measured])


def forms(rounds: int, folders: Mapping[str, str]) -> list[Row]:
    """The rows of what predicting one row takes in this process, by the forms of the model in each of `folders`."""
    calls = {
        (model, form): call
        for model, folder in folders.items()
        for form, call in _calls(folder).items()
    }
    found: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    with threadpool_limits(1):
        for number in range(1, rounds + 1):
            for key, call in calls.items():
                each = statistics.median(timeit.repeat(call, number=1, repeat=ASKED))
                found[key].append(each)
                say("forms", number, rounds, f"one row, {' by '.join(key)},", each)
    return [_form_row(*key, found) for key in found]


def _form_row(model: str, form: str, found: Mapping[tuple[str, str], list[float]]) -> Row:
    each, base = (statistics.median(found[model, name]) for name in (form, "pipeline"))
    told = f"{model} by {FORMS[form]}: {each * 1000:.3f} ms, {base / each:.3g} times as fast"
    return row("forms", f"{model}_{form}", told, 1, found[model, form])


def fitted(models: Sequence[str], environment: Environment) -> dict[str, str]:
    """{model: its folder} of `models`, fitted in a process of their own, each registered as version 1 of a name."""
    command = [sys.executable, "-m", __name__, "fit", *models]
    started = time.perf_counter()
    folders = printed(command, {**environment, **HERE}).splitlines()[-len(models) :]
    say("serve", 0, 0, f"{' '.join(models)} are fitted,", time.perf_counter() - started)
    return dict(zip(models, folders))


def fit(models: Sequence[str]) -> None:
    """Fit each of `models` as 02_train does, register it in the store of the environment, and print the folders."""
    folders = [_fitted(model) for model in models]
    print(*folders, sep="\n")


def _fitted(model: str) -> Path:
    """The folder of `model`, fitted and registered."""
    import mlflow

    from Codes.modeling import models
    from Codes.problems import data, problem
    from Codes.runs import tracking

    flights = problem.load("flights")
    train = data.to_train(data.load(flights, ROWS, 0), flights)
    X = data.features(train, flights)
    options = {"epochs": EPOCHS} if model in NETWORKS else {}
    pipeline = models.build(flights, X, model, options).fit(X, data.target(train, flights))
    tracking.use_store()
    with mlflow.start_run(experiment_id=tracking.ensure_experiment("flights")) as run:
        source = f"models:/{models.log(pipeline, X).model_id}"
    return _registered(model, source, run.info.run_id)


def _registered(model: str, source: str, run_id: str) -> Path:
    """The folder of the model `source` of a run, once it is version 1."""
    from Codes.model_registry import registry
    from Codes.saved_models import trust

    folder = registry.fetch(source)
    facts = {registry.DIGEST: trust.digest(folder)}
    registry.add(f"flights_{model}", source, run_id, facts, "")
    return folder


def _calls(folder: str) -> dict[str, Callable[[], Any]]:
    """{form: a call that predicts one row} of the model in `folder`; without ONNX where there is none."""
    from Codes.saved_models import trust
    from Codes.fast_answers import onnx_form
    from Codes.serving import payload
    from Codes.fast_answers.quick import quick

    loaded = trust.load(folder)
    reader = payload.Reader(loaded)
    columns = reader.json(body(1).encode())
    calls: dict[str, Callable[[], Any]] = {}
    calls["pipeline"] = lambda: loaded.pipeline.predict(reader.frame(columns))
    if by_rows := quick(loaded, reader):
        calls["quick"] = partial(by_rows, columns)
    with contextlib.suppress(
        WorkbookError
    ):  # another copy, since a network answers by it from then on
        calls["onnx"] = partial(onnx_form.faster(trust.load(folder), reader), columns)
    return calls


WORKBOOK = [sys.executable, "-m", "Codes.commands.cli"]
HERE = {"MLFLOW_EXPERIMENT_NAME": "flights", "PYTHONPATH": str(ROOT)}


def body(rows: int) -> str:
    """A request of so many `rows`, from the repository's example."""
    example = json.loads((RESOURCES / "requests" / "flights_split.json").read_text("utf-8"))
    data = example["dataframe_split"]["data"]
    example["dataframe_split"]["data"] = [data[i % len(data)] for i in range(rows)]
    return json.dumps(example)


@contextlib.contextmanager
def server(key: str, folder: str, environment: Environment) -> Iterator[str]:
    """The URL of the server `key`, started for this block; of no workbook's one, it serves the model in `folder`."""
    port = client.free_port()
    command = [sys.executable, "-m"]
    if key in OURS:
        own = OURS[key]
        command = [*WORKBOOK, "serve", f"flights_{own.model}/1", f"--port={port}", *own.options]
    elif key == "mlflow":
        options = ["-m", folder, "--env-manager=local", f"--port={port}"]
        command += ["mlflow", "models", "serve", *options]
    else:
        command += [__name__, "bare", folder, str(port)]
    url = f"http://127.0.0.1:{port}"
    log = Path(environment["TMPDIR"], f"{key}.log")
    # mlflow starts `uvicorn` by its name, whether or not the environment is activated
    beside = [str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]
    with open(log, "wb") as sink:
        process = subprocess.Popen(  # pylint: disable=consider-using-with
            command,
            cwd=environment["TMPDIR"],
            env={**environment, **HERE, "PATH": os.pathsep.join(beside)},
            stdout=sink,
            stderr=sink,
        )
    try:
        client.wait(process, url, log)
        yield url
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def bare(folder: str, port: int) -> None:
    """Serve the model in `folder` by the least code: a frame from the JSON, the model's own predict."""
    import mlflow
    import uvicorn
    from fastapi import FastAPI, Request

    model: Any = mlflow.sklearn.load_model(folder)
    app = FastAPI()

    @app.get("/ping")
    def ping() -> dict[str, Any]:
        return {}

    @app.post("/invocations")
    async def invocations(request: Request) -> dict[str, Any]:
        split = (await request.json())["dataframe_split"]
        frame = pd.DataFrame(split["data"], columns=split["columns"])
        return {"predictions": model.predict(frame).tolist()}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    if sys.argv[1] == "fit":
        fit(sys.argv[2:])
    else:
        bare(sys.argv[2], int(sys.argv[3]))
