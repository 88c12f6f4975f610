"""What an answer of a served model costs: ours, MLflow's own server, and a bare function behind FastAPI, turn about.

And what the prediction in it costs, by each form of a model.

The bare one is a process of its own: python -m Codes.bench.bench_serve FOLDER PORT
"""

import contextlib
import importlib.util
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
from typing import Any, TypeAlias

import pandas as pd
from threadpoolctl import threadpool_limits

from Codes.bench.bench_report import Environment, Row, row, say
from Codes.bench.bench_sweep import printed
from Codes.ground.errors import WorkbookError
from Codes.ground.paths import RESOURCES, ROOT
from Codes.serving import client

# (seconds of wall time an answer, milliseconds that each took)
Measured: TypeAlias = tuple[float, pd.Series]
NETWORKS = {
    "torch": "PyTorch",
    "tensorflow": "TensorFlow",
}  # each served as well where it is installed
NAMES = {
    "ours": "workbook serve, all captured",
    "quiet": "workbook serve, nothing captured",
    "onnx": "workbook serve --onnx, nothing captured",
    "mlflow": "mlflow models serve",
    "bare": "a function behind FastAPI, nothing checked",
}
NAMES |= {key: f"a network of {called}, nothing captured" for key, called in NETWORKS.items()}
SIZES = {"serve": 1, "serve_many": 1000}  # rows of a request
CLIENTS = (1, 16)
SECONDS = 4.0  # of each measurement
FORMS = {"pipeline": "the pipeline", "quick": "its quick way", "onnx": "its form in ONNX"}


def measure(rounds: int, environment: Environment) -> list[Row]:
    """The rows of each server, by size of the request and number of clients: seconds of wall time an answer."""
    folder = trained(environment)
    networks = {key: network(key, environment) for key in NETWORKS if importlib.util.find_spec(key)}
    found: dict[tuple[str, str, int], list[Measured]] = {}
    for number in range(1, rounds + 1):
        for key in (key for key in NAMES if key in networks or key not in NETWORKS):
            with server(key, folder, environment) as url:
                for section, size in SIZES.items():
                    text = body(size)
                    client.times(url, text, 1, 1.0)  # the first answers do not count
                    for clients in CLIENTS:
                        started = time.perf_counter()
                        taken = client.times(url, text, clients, SECONDS)
                        each = (time.perf_counter() - started) / max(1, len(taken))
                        found.setdefault((section, key, clients), []).append((each, taken))
                        say(section, number, rounds, f"{key}, {clients} clients,", each)
    return [_row(*name, m) for name, m in found.items()] + forms(
        rounds, environment, networks | {"hgb": folder}
    )


def _row(section: str, key: str, clients: int, measured: Sequence[Measured]) -> Row:
    taken = pd.concat([times for _, times in measured])
    late = f"p50 {taken.quantile(0.5):.1f}, p99 {taken.quantile(0.99):.1f} ms"
    return row(section, key, f"{NAMES[key]}: {late}", clients, [each for each, _ in measured])


def forms(rounds: int, environment: Environment, known: Mapping[str, str]) -> list[Row]:
    """The rows of what predicting one row takes in this process, by the forms of each model; `known` are folders."""
    folders = {
        model: _trained(environment, "02_train", model=model) for model in ("linear", "forest")
    }
    calls = {
        (model, form): call
        for model, folder in {**folders, **known}.items()
        for form, call in _calls(folder).items()
    }
    found: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    with threadpool_limits(1):
        for number in range(1, rounds + 1):
            for key, call in calls.items():
                each = statistics.median(timeit.repeat(call, number=1, repeat=200))
                found[key].append(each)
                say("forms", number, rounds, f"one row, {' by '.join(key)},", each)
    return [_form_row(*key, found) for key in found]


def _form_row(model: str, form: str, found: Mapping[tuple[str, str], list[float]]) -> Row:
    each, base = (statistics.median(found[model, name]) for name in (form, "pipeline"))
    told = f"{model} by {FORMS[form]}: {each * 1000:.3f} ms, {base / each:.3g} times as fast"
    return row("forms", f"{model}_{form}", told, 1, found[model, form])


def _trained(environment: Environment, notebook: str, **values: Any) -> str:
    given = [word for name, value in values.items() for word in ("-p", name, str(value))]
    printed([*WORKBOOK, "run", notebook, *given, "--no-progress"], {**environment, **HERE})
    return _newest(environment, "artifact_location")


def _newest(environment: Environment, fact: str) -> str:
    """This `fact` of the model that was logged last."""
    code = f"print(mlflow.search_logged_models(output_format='list')[0].{fact})"
    command = [sys.executable, "-c", f"import mlflow; {code}"]
    return printed(command, {**environment, **HERE}).strip()


def network(key: str, environment: Environment) -> str:
    """The folder of a network of the framework `key`, registered as version 1 of a name of its own."""
    folder = _trained(environment, f"02_train_{key}", rows=5000, epochs=4)
    run = _newest(environment, "source_run_id")
    command = [*WORKBOOK, "register", run, "--name", f"flights_{key}"]
    printed(command, {**environment, **HERE})
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
    with contextlib.suppress(WorkbookError):
        calls["onnx"] = partial(onnx_form.faster(loaded, reader), columns)
    return calls


def trained(environment: Environment) -> str:
    """The folder of a model of the flights, registered as version 1 in the private place."""
    printed([*WORKBOOK, "run", "02_train", "--no-progress"], {**environment, **HERE})
    printed([*WORKBOOK, "register"], {**environment, **HERE})
    code = "from Codes.model_registry import registry; print(registry.files(registry.find('flights/1')), flush=True)"
    return printed([sys.executable, "-c", code], {**environment, **HERE}).splitlines()[-1]


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
    """The URL of the server `key`, started for this block."""
    port = client.free_port()
    python, served = [sys.executable, "-m"], [f"--port={port}"]
    quiet = [*WORKBOOK, "serve", "flights/1", "--capture=0", *served]
    commands = {
        "ours": [*WORKBOOK, "serve", "flights/1", *served],
        "quiet": quiet,
        "onnx": [*quiet, "--onnx"],
        "mlflow": [
            *python,
            "mlflow",
            "models",
            "serve",
            "-m",
            folder,
            "--env-manager=local",
            *served,
        ],
        "bare": [*python, __name__, folder, str(port)],
        **{k: [*WORKBOOK, "serve", f"flights_{k}/1", "--capture=0", *served] for k in NETWORKS},
    }
    url = f"http://127.0.0.1:{port}"
    log = Path(environment["TMPDIR"], f"{key}.log")
    # mlflow starts `uvicorn` by its name, whether or not the environment is activated
    beside = [str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]
    with open(log, "wb") as sink:
        process = subprocess.Popen(  # pylint: disable=consider-using-with
            commands[key],
            cwd=environment["TMPDIR"],
            env={**environment, **HERE, "PATH": os.pathsep.join(beside)},
            stdout=sink,
            stderr=sink,
        )
    try:
        client.wait(process, url, log)
        yield url
    finally:
        process.terminate()
        process.wait(30)


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
    bare(sys.argv[1], int(sys.argv[2]))
