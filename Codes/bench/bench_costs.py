"""What a sweep adds to its trials: its start, the scheduler's share, its end, and how that grows with the trials.

The scheduler's share is measured by a process of its own: python -m Codes.bench.bench_costs seed=1..50
"""

import importlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path

from Codes.bench.bench_report import Environment, Row, row, say
from Codes.bench.bench_sweep import NOTEBOOK, printed, swept, varied
from Codes.trial_workers.pool import Local
from Codes.trial_workers.worker import Facts, Task

WINDOW = 20  # trials around the tenth, and around the tenth from the end


def measure(environment: Environment, trials: int, growth: int) -> list[Row]:
    """The rows of the costs: of two small sweeps, of the scheduler in `trials`, and of a sweep that has `growth`."""
    first, later = (swept(varied(2), 2, environment) for _ in range(2))
    say("costs", 1, 1, "a first sweep", first)
    say("costs", 1, 1, "another one", later)
    rows = [
        row("costs", "first", "a first sweep of two trials, no template yet", 2, [first]),
        row("costs", "later", "another sweep of two trials", 2, [later]),
    ]
    return rows + measure_own(trials, environment) + measure_growth(growth, environment)


def measure_own(trials: int, environment: Environment) -> list[Row]:
    """The rows of what the scheduler takes between two trials, which one worker executes."""
    command = [sys.executable, "-m", __name__, varied(trials)]
    own = json.loads(printed(command, environment).splitlines()[-1])
    mean = statistics.fmean(own)
    say("costs", 1, 1, "the scheduler, a trial", mean)
    return [
        row("costs", "own", "the scheduler, a trial: the mean", 1, [mean]),
        row("costs", "own_each", "the scheduler, a trial: the median", 1, own),
    ]


class Clocked(Local):
    """A pool with a clock: `ends` are the moment at which each trial had ended, and the seconds its worker tells of."""

    def __init__(self, workers: int, log: Path) -> None:
        super().__init__(workers, log)
        self.ends: list[tuple[float, float]] = []

    def submit(self, task: Task) -> Future[Facts]:
        """The same Future; its end is noted."""
        future = super().submit(task)
        future.add_done_callback(self._note)
        return future

    def _note(self, future: Future[Facts]) -> None:
        self.ends.append((time.perf_counter(), future.result()["seconds"]))

    def own(self) -> list[float]:
        """The seconds between each two ends that were not the worker's; so its start, in the first, is left out."""
        pairs = itertools.pairwise(self.ends)
        return [later - earlier - seconds for (earlier, _), (later, seconds) in pairs]


def sweep_here(seeds: str) -> None:
    """Sweep the notebook over `seeds` from here, with one worker; print the scheduler's seconds of each trial."""
    importlib.import_module("papermill")  # it imports our engine, and must come first
    from Codes.running import runner
    from Codes.sweeps import plan, progress, space, sweep

    spread = space.read(runner.declared(NOTEBOOK), texts=[seeds])
    given = plan.Plan(NOTEBOOK, spread, [("accuracy", "maximize")], trials=spread.size())
    pool = Clocked(1, Path.cwd() / "sweep.log")
    pool.start()
    sweep.execute(given, pool, progress.Progress(False))
    print(json.dumps(pool.own()))


def measure_growth(growth: int, environment: Environment) -> list[Row]:
    """The rows of a sweep of an almost empty notebook that has `growth` trials, by two workers."""
    notebook = Path(environment["TMPDIR"], "almost_empty.ipynb")
    seeds, empty = varied(growth), write_empty(notebook)
    swept(seeds, 2, environment, empty, "score")
    spent, closing = times(notebook.stem, environment["MLFLOW_TRACKING_URI"])
    say(
        "costs",
        1,
        1,
        f"an almost empty trial around the {growth}th",
        statistics.median(spent[-WINDOW:]),
    )
    again = swept(seeds, 2, environment, empty, "score")
    say("costs", 1, 1, "the same sweep again", again)
    return [
        row("costs", "early", "an almost empty trial, around the 10th", 2, spent[:WINDOW]),
        row("costs", "late", f"the same, around the {growth}th", 2, spent[-WINDOW:]),
        row("costs", "end", f"the end of this sweep of {growth}", 2, [closing]),
        row("costs", "again", f"this sweep again, its {growth} trials known", 2, [again]),
    ]


def write_empty(path: Path) -> Path:
    """Write the almost empty notebook to `path`, and return it."""
    from Codes.testing.testbed import write_notebook

    return write_notebook(path, 'import mlflow\n\nmlflow.log_metric("score", seed)')


def times(stem: str, uri: str) -> tuple[list[float], float]:
    """(seconds a trial, one after another; those of the end) of the sweep by two of the notebook `stem`, in `uri`."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    everywhere = [e.experiment_id for e in client.search_experiments()]
    (parent,) = client.search_runs(everywhere, f"tags.`mlflow.workbook.sweep` = '{stem}'")
    mine = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children = [run.info for run in client.search_runs(everywhere, mine, max_results=50_000)]
    last = max(child.end_time for child in children)
    return laps([c.start_time / 1000 for c in children], 2), (parent.info.end_time - last) / 1000


def laps(starts: Iterable[float], workers: int) -> list[float]:
    """The seconds a trial of so many `workers`, from the moments at which their trials have started."""
    starts = sorted(starts)
    return [(later - earlier) / workers for earlier, later in zip(starts, starts[workers:])]


if __name__ == "__main__":
    sweep_here(*sys.argv[1:])
