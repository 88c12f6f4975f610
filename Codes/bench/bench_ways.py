"""The ways of running the bench's notebook, and a worker: a process that stays warm and runs it one way, as told."""

import contextlib
import importlib
import inspect
import itertools
import json
import os
import subprocess
import sys
import textwrap
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from Codes.ground.errors import WorkbookError
from Codes.ground.paths import RESOURCES, ROOT
from Codes.seams import jupyter_seam

Environment: TypeAlias = Mapping[str, str]  # as bench_report's, which imports this module
Spent: TypeAlias = dict[str, float]  # {stage: seconds}
Run: TypeAlias = Callable[[int], Spent | None]  # runs the notebook with a seed
NOTEBOOK = RESOURCES / "bench" / "small.ipynb"
# Beside the environment, not in it: its dependencies would add a telemetry client, and a button to JupyterLab.
PLOOMBER = ROOT / ".cache" / "ploomber-engine-0.0.33"
PLOOMBER_PINS = """
ploomber-engine==0.0.33 --hash=sha256:e6b8f3cf20adbb8f93c59d12228f9ab76216b0b10938e3a2db79520e29b123d7
ploomber-core==0.2.27 --hash=sha256:a72294d40b90ff9ad5cb9d693301567a2f24c3ffe3515a1acba83adf193169c4
debuglater==1.4.4 --hash=sha256:8d1b0faa931ecf4201be5dd71d4e37226ab746c0ea2df14fa772da6d4bec444b
"""


def by_papermill(output: str, **options: Any) -> Run:
    """A function that executes the notebook with a seed by papermill with `options`, to the file `output`."""
    import papermill

    def run(seed: int) -> None:
        given = {"seed": seed}
        papermill.execute_notebook(
            NOTEBOOK, output, parameters=given, progress_bar=False, **options
        )

    return run


def by_ploomber(output: str) -> Run:
    """The same by ploomber-engine, which leaves the MLflow run of a notebook open."""
    import mlflow

    sys.path.append(str(PLOOMBER))
    engine = importlib.import_module("ploomber_engine")

    def run(seed: int) -> None:
        engine.execute_notebook(NOTEBOOK, output, parameters={"seed": seed}, progress_bar=False)
        mlflow.end_run()

    return run


def by_function(_: str) -> Run:
    """A function of the notebook's cells, compiled once, in an MLflow run that logs its parameters."""
    import matplotlib
    import mlflow

    from Codes.notebook_files import notebook_file, parameters

    notebook = notebook_file.read(NOTEBOOK)
    defaults = {p.name: p.default for p in parameters.of(notebook, NOTEBOOK.name)}
    cells = [c for c in notebook.cells if c.cell_type == "code" and not c.metadata.get("tags")]
    body = textwrap.indent("\n".join(c.source for c in cells), "    ")
    found: dict[str, Any] = {}
    exec(f"def training({', '.join(defaults)}):\n{body}", found)  # pylint: disable=exec-used
    matplotlib.use("agg")

    def run(seed: int) -> None:
        values = defaults | {"seed": seed}
        with mlflow.start_run():
            mlflow.log_params(values)
            found["training"](**values)

    return run


def stages() -> list[tuple[str, Any, str]]:
    """(stage, owner, function) of each stage of a run with the warm kernel, as the production code has them."""
    importlib.import_module("papermill")  # it imports our engine, and must come first
    from Codes.running import engine, execution

    return [
        ("parameters", engine, "prepare"),
        ("opening the run", engine, "open_run"),
        ("recording its beginning", engine, "begin"),
        ("fork", *jupyter_seam.launching()),
        ("kernel start to ready", execution.Client, "start_new_kernel_client"),
        ("cells", execution.Client, "papermill_execute_cells"),
        ("shutdown, and the page meanwhile", execution.Client, "end_kernel"),
        ("logging of notebook, page, facts", engine, "close_run"),
    ]


def by_stages(output: str) -> Run:
    """The warm way, with clocks around the stages of a run; the function returns {stage: seconds}."""
    spent: Spent = defaultdict(float)
    for stage, owner, name in stages():
        setattr(owner, name, clocked(spent, stage, getattr(owner, name)))
    execute = by_papermill(output, engine_name="mlflow", kernel_name="workbook")

    def run(seed: int) -> Spent:
        spent.clear()
        with clock(spent, "total"):
            execute(seed)
        total = spent.pop("total")
        return spent | {"papermill, and the rest": total - sum(spent.values())}

    return run


@contextlib.contextmanager
def clock(spent: Spent, stage: str) -> Iterator[None]:
    """Add the seconds within to `spent[stage]`."""
    started = time.perf_counter()
    try:
        yield
    finally:
        spent[stage] += time.perf_counter() - started


def clocked(spent: Spent, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which adds its seconds to `spent[stage]`."""

    async def later(*args: Any, **kwargs: Any) -> Any:
        with clock(spent, stage):
            return await function(*args, **kwargs)

    def now(*args: Any, **kwargs: Any) -> Any:
        with clock(spent, stage):
            return function(*args, **kwargs)

    return later if inspect.iscoroutinefunction(function) else now


MAKERS = {
    "a": (by_papermill, {"kernel_name": "python3"}),
    "b": (by_papermill, {"kernel_name": "python3", "engine_name": "mlflow"}),
    "c": (by_papermill, {"kernel_name": "workbook", "engine_name": "mlflow"}),
    "d": (by_ploomber, {}),
    "e": (by_function, {}),
    "stages": (by_stages, {}),
}


def work(way: str, output: str) -> None:
    """Be a worker of `way`: for each count on a line of the input, run so often; answer [{stage: seconds}]."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a run prints belongs to the log
    from Codes.runs import tracking
    from Codes.stores import store

    store.open_store()
    tracking.ensure_experiment(os.environ[tracking.EXPERIMENT])
    maker, options = MAKERS[way]
    run, seeds = maker(output, **options), itertools.count()
    for line in sys.stdin:
        done = []
        for seed in itertools.islice(seeds, int(line)):
            spent: Spent = defaultdict(float)
            with clock(spent, "total"):
                within = run(seed) or {}
            done.append(spent | within)
        print(json.dumps(done), file=answers, flush=True)


class Worker:
    """A process that runs the notebook one `way`, with its output and its log in the folder of `environment`."""

    def __init__(self, way: str, environment: Environment) -> None:
        self.stem = Path(environment["TMPDIR"], f"{way}-{uuid.uuid4().hex[:8]}")
        with open(self.stem.with_suffix(".log"), "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                [sys.executable, "-m", __spec__.name, way, f"{self.stem}.ipynb"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env=environment,
            )

    def ask(self, count: int) -> None:
        """Begin `count` runs."""
        with contextlib.suppress(BrokenPipeError):  # `answer` tells why it has ended
            print(count, file=self.process.stdin, flush=True)

    def answer(self) -> list[Spent]:
        """Wait for the runs, and return {stage: seconds} of each."""
        if self.process.stdout and (line := self.process.stdout.readline()):
            return json.loads(line)
        log = self.stem.with_suffix(".log").read_text("utf-8", "replace").strip()
        raise WorkbookError(f"the bench's worker {self.stem.name} ended: {log[-1500:]}")

    def run(self, count: int = 1) -> list[Spent]:
        """`count` runs now."""
        self.ask(count)
        return self.answer()


def side_by_side(workers: Sequence["Worker"], runs: int) -> float:
    """The seconds of wall time for each run, where each of `workers` does so many `runs`."""
    started = time.perf_counter()
    for worker in workers:
        worker.ask(runs)
    for worker in workers:
        worker.answer()
    return (time.perf_counter() - started) / (runs * len(workers))


if __name__ == "__main__":
    work(*sys.argv[1:])
