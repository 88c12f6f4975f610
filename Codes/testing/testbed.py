"""The tests' bench: runs real commands on notebooks made of a few cells, and looks from outside at what they left.

Most runners are forked from one process that has already imported what they need (5 s of processor time each):
they are processes of their own, with their own environment, folder, output and signals.
"""

import multiprocessing
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar

import nbformat
import psutil
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from Codes.runs.nested_runs import OWNED
from Codes.seams import python_seam
from Codes.stores import moved
from Codes.stores.store import open_store

T = TypeVar("T")
Variables: TypeAlias = Mapping[str, str] | tuple[()]  # of an environment
PATIENCE = 120  # seconds for what must happen, on a machine that is busy with something else
WORKBOOK, PAPERMILL, SWEEP = "workbook", "papermill", "sweep"
X = "seed: int = 0  # random state\nx: int = 0  # a number"  # the parameters of notebooks that are swept
PYTHON = {"name": "python3", "display_name": "Python 3", "language": "python"}
FORKS = multiprocessing.get_context("forkserver")
# papermill imports our engine; a sweep's pictures are drawn by Optuna and matplotlib
PRELOAD = [
    *(
        "papermill.cli",
        "Codes.commands.cli",
        "nbconvert",
        "black",
        "Codes.commands.sweep_run",
        "optuna",
    ),
    *("optuna.visualization.matplotlib", "matplotlib.backends.backend_agg"),
    # and for processes that promote, serve or score
    *("Codes.model_registry.promotion", "Codes.serving.server", "Codes.scoring.job"),
    *("mlflow.sklearn", "sklearn.ensemble", "pytest"),
    # what MLflow imports as it opens a store, and as it evaluates a model
    *("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
    *("IPython.core.interactiveshell", "mlflow.models.evaluation.evaluators.classifier"),
    "Codes.testing.first_page",
]
# before the first fork, whichever test makes it: later it is too late
FORKS.set_forkserver_preload(PRELOAD)


def write_notebook(
    path: Path,
    *cells: str,
    parameters: str = "seed: int = 0  # random state",
    kernelspec: Mapping[str, str] | None = None,
) -> Path:
    """Write a notebook of code `cells` (sources) after a parameters cell (or without, if that is empty) to `path`."""
    tagged = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    nodes = [tagged] * bool(parameters) + [nbformat.v4.new_code_cell(source) for source in cells]
    notebook = nbformat.v4.new_notebook(cells=nodes)
    notebook.metadata.kernelspec = dict(PYTHON if kernelspec is None else kernelspec)
    nbformat.write(notebook, path)
    return path


def write_problem(
    folder: str | Path, name: str, target: str, task: str = "classification", **fields: Any
) -> Path:
    """Write the problem `name` of the table `name`.csv to `folder`; `fields` add to it and take the place of these."""
    metric = {"name": "accuracy", "direction": "maximize"}
    if task == "regression":
        metric = {"name": "rmse", "direction": "minimize"}
    fields = {"source": {"path": f"{name}.csv"}, "metric": metric} | fields
    split = {"kind": "random", "test_share": 0.25}
    told = {"title": f"What is {target}?", "task": task, "target": target, "split": split} | fields
    path = Path(folder) / f"{name}.yaml"
    path.write_text(yaml.safe_dump(told), "utf-8")
    return path


def asked_once(ask: Callable[..., Any]) -> Callable[..., Any]:
    """`ask`, which asks a model in a process of its own, for seconds, but only once for each model."""
    found: dict[tuple[Any, ...], Any] = {}

    def asked(loaded: Any, **options: Any) -> Any:
        question = loaded.digest, *loaded.trusted, *options.items()
        if question not in found:
            found[question] = ask(loaded, **options)
        return found[question]

    return asked


def fresh_store(folder: str | Path) -> str:
    """The URI of a new store in `folder`, copied from one that each test process makes once."""
    template = _template()
    shutil.copyfile(template, Path(folder) / "mlflow.db")
    moved.repair(Path(folder) / "mlflow.db", Path(folder, "mlruns"), template.parent / "mlruns")
    return f"sqlite:///{folder}/mlflow.db"


_made: list[Path] = []


def _template() -> Path:
    if not _made:
        folder = Path(os.environ["WORKBOOK_TESTBED"])
        before = {
            name: os.environ.get(name)
            for name in ("MLFLOW_TRACKING_URI", "_MLFLOW_SERVER_ARTIFACT_ROOT")
        }
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/template.db"
        open_store()
        with sqlite3.connect(folder / "template.db") as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        restore(before)
        _made.append(folder / "template.db")
    return _made[0]


def restore(variables: Mapping[str, str | None]) -> None:
    """Give each of `variables` its value in the environment; None: unset."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def become(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    command: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    log: Path,
    server: Any,
) -> None:
    """Be the process of `command`, in the forked child: its environment, folder and output, then its main function.

    A sweep's workers are forked from the same `server` (an address), instead of from one of the sweep's own.
    """
    python_seam.use_forkserver(server)
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None  # read TMPDIR again
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    sys.argv = [command, *arguments]
    if command in (WORKBOOK, SWEEP):
        from Codes.commands.cli import main
    else:
        from papermill.cli import papermill as main
    main()  # ends by SystemExit, as in the installed script


@dataclass
class Store:
    """A tracking store at `uri`, and the folder that its runners work in."""

    uri: str
    folder: Path

    @property
    def client(self) -> MlflowClient:
        """A client of this store, whatever this process's own store is."""
        return MlflowClient(self.uri)

    def runs(self, experiment: str | None = None) -> list[Run]:
        """All runs of `experiment` (a name; None: of all), deleted ones too."""
        found = self.client.search_experiments(view_type=ViewType.ALL)
        ids = [e.experiment_id for e in found if experiment in (None, e.name)]
        return list(self.client.search_runs(ids, run_view_type=ViewType.ALL)) if ids else []

    def folder_of(self, name: str) -> Path:
        """The folder of the executions called `name`, made if it is new: of their notebook, and the caller's."""
        folder = self.folder / f"{name}_folder"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def start(
        self,
        name: str,
        *cells: str,
        command: str = WORKBOOK,
        options: Sequence[str] = (),
        environment: Variables = (),
        **notebook: Any,
    ) -> "Execution":
        """Start `command` on a notebook `name` of `cells` and return the Execution under way."""
        source = write_notebook(self.folder_of(name) / f"{name}.ipynb", *cells, **notebook)
        return self.launch(name, source, command, options, dict(environment))

    def sweep(
        self,
        name: str,
        *cells: str,
        options: Sequence[str] = (),
        environment: Variables = (),
    ) -> "Execution":
        """Start a sweep of a notebook `name` of `cells`, which takes `seed` and `x`; returns the Execution."""
        return self.start(
            name, *cells, command=SWEEP, options=options, environment=environment, parameters=X
        )

    def launch(
        self,
        name: str,
        source: Path,
        command: str = WORKBOOK,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> "Execution":
        """Start `command` on the notebook file `source`; its output is `<name>_out.ipynb`, its experiment `name`."""
        folder = self.folder_of(name)
        (folder / "tmp").mkdir(exist_ok=True)
        given = clean_environment() | {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_EXPERIMENT_NAME": name,
            "TMPDIR": str(folder / "tmp"),
        }
        output = f"{name}_out.ipynb"
        if command == WORKBOOK:
            force = [] if {"--if-changed", "--why"} & set(options) else ["--force"]
            arguments = ["run", str(source), "-o", output, *force, *options]
        elif command == SWEEP:
            arguments = ["sweep", str(source), *options]
        else:
            arguments = ["--engine", "mlflow", "--no-progress-bar", str(source), output, *options]
        log = self.folder / f"{name}_{time.monotonic_ns()}.log"
        server = python_seam.forkserver_address()
        variables = {**given, **(environment or {})}
        process = FORKS.Process(
            target=become, args=(command, arguments, variables, folder, log, server)
        )
        process.start()
        return Execution(self, name, process, folder, log)


@dataclass
class Execution:
    """A runner under way, or ended: what it printed, its run in the store, and what it left behind."""

    store: Store
    name: str
    process: multiprocessing.process.BaseProcess
    folder: Path
    log: Path

    @property
    def pid(self) -> int:
        """The runner's process id."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def code(self) -> int | None:
        """The exit code; that of a killed process is minus its signal."""
        return self.process.exitcode

    @property
    def printed(self) -> str:
        """Everything that it printed so far."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    @property
    def runs(self) -> list[Run]:
        """The runs of its experiment."""
        return self.store.runs(self.name)

    @property
    def run(self) -> Run:
        """Its one run, as it stands now."""
        runs = self.runs
        assert (
            len(runs) == 1
        ), f"{len(runs)} runs: {[(r.info.run_name, r.info.status) for r in runs]}"
        return runs[0]

    @property
    def source(self) -> Path:
        """The notebook's file, where the execution was started by `start`."""
        return self.folder / f"{self.name}.ipynb"

    @property
    def output(self) -> Path:
        """The executed notebook's file."""
        return self.folder / f"{self.name}_out.ipynb"

    def signal(self, number: int) -> None:
        """Send the runner a signal."""
        os.kill(self.pid, number)

    def finish(self, seconds: float = PATIENCE) -> Self:
        """Wait for its end."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            os.killpg(self.pid, signal.SIGKILL)
            raise AssertionError(f"still running after {seconds} s: {self.printed[-2000:]}")
        return self

    def until(self, file: str) -> str:
        """Wait until a cell has made `file` in the folder (the cells' current one), and return its text."""
        path = self.folder / file
        return wait_for(lambda: path.read_text() if path.exists() else "", self)

    def connections(self) -> list[Path]:
        """The connection files that there are now."""
        return [*self.folder.glob("tmp/*.json"), *self.folder.glob("tmp/*/kernel*.json")]

    def artifact(self, path: str) -> str:
        """The text of the run's artifact `path`."""
        return Path(self.store.client.download_artifacts(self.run.info.run_id, path)).read_text(
            "utf-8", "replace"
        )

    def artifacts(self) -> set[str]:
        """The names of the run's artifacts at the top."""
        return {file.path for file in self.store.client.list_artifacts(self.run.info.run_id)}


class Server:
    """A real `mlflow server` that can be killed and started again on the same port and store."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.process: subprocess.Popen | None = None
        self.uri = f"http://127.0.0.1:{port}"

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        options += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        options += ["--artifacts-destination", str(self.folder / "mlruns")]
        environment = clean_environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [sys.executable, "-m", "mlflow", "server", *options],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(self.answers)
        return self

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """Kill it and its workers with SIGKILL."""
        assert self.process
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def wait_for(
    condition: Callable[[], T], execution: Execution | None = None, seconds: float = PATIENCE
) -> T:
    """What `condition()` returns once it is true; fails after `seconds`, or when the `execution` has ended before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        if execution and execution.code is not None and not condition():
            raise AssertionError(f"ended with {execution.code} before: {execution.printed[-3000:]}")
        time.sleep(0.05)
    raise AssertionError(f"nothing after {seconds} s {execution and execution.printed[-3000:]}")


def clean_environment() -> dict[str, str]:
    """This environment without what belongs to a store or to a run."""
    own = (
        "MLFLOW_",
        "_MLFLOW_",
        "WORKBOOK_",
        "PYTEST_",
    )  # in the last, ipykernel changes its streams
    return {k: v for k, v in os.environ.items() if not k.startswith(own)} | {
        "MLFLOW_DISABLE_TELEMETRY": "true"
    }


def processes_of(run_id: str) -> list[psutil.Process]:
    """The processes that carry `run_id`, except those that are only waiting to be collected."""
    return [p for p in psutil.process_iter() if _carries(p, run_id)]


def _carries(process: psutil.Process, run_id: str) -> bool:
    try:
        return process.environ().get(OWNED) == run_id and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def check_nothing_left(execution: Execution) -> Run:
    """Check what no end may leave: a process of the run, a connection file, a second run, a half-written output."""
    run = execution.run
    assert not processes_of(run.info.run_id)
    left = [
        *execution.connections(),
        *execution.folder.rglob("*.part"),
        *execution.folder.glob("tmp/workbook-*"),
    ]
    assert not left, left
    return run


def visible(tags: Iterable[str]) -> set[str]:
    """Those of `tags` that the MLflow UI shows."""
    return {name for name in tags if not name.startswith("mlflow.")}


def check_failed(execution: Execution, status: str, said: str, **tags: str) -> Run:
    """Check an end that is not a success, all around: `said` and `tags` are patterns, of the terminal and the tags."""
    run = check_nothing_left(execution)
    assert execution.code not in (0, None), execution.printed
    assert run.info.status == status, execution.printed
    assert run.info.end_time >= run.info.start_time
    assert re.search(said, execution.printed), execution.printed
    assert "Traceback" not in execution.printed, execution.printed
    for name, pattern in {"error": ".", "error.message": said, **tags}.items():
        value = run.data.tags.get(f"mlflow.workbook.{name.replace('_', '.')}", "")
        assert re.search(pattern, value), f"{name}: {value}"
    check_kept(execution)
    return run


def check_kept(execution: Execution) -> None:
    """Check that the executed notebook is whole: on disk, and as an artifact beside its page."""
    on_disk: Any = nbformat.read(execution.output, as_version=4)
    assert {"notebook.ipynb", "notebook.html", "manifest.json"} <= execution.artifacts()
    artifact: Any = nbformat.reads(execution.artifact("notebook.ipynb"), as_version=4)
    kept = artifact.cells
    # papermill adds cells that point to the error
    assert kept and [c for c in on_disk.cells if c in kept] == kept


def check_refused(execution: Execution, said: str) -> None:
    """Check that the command ends before a run and a kernel, with one clear line that matches `said`."""
    assert execution.finish().code == 1, execution.printed
    assert re.search(said, execution.printed), execution.printed
    assert "Traceback" not in execution.printed and not execution.output.exists(), execution.printed
    assert not execution.connections()
