"""What a sweep costs in all, by the command as it is typed, against the loops that it replaces."""

import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from Codes.bench.bench_report import Environment, Row, row, say
from Codes.bench.bench_ways import NOTEBOOK, Worker
from Codes.ground.errors import WorkbookError

NAMES = {
    "sweep": "workbook sweep",
    "a": "a: papermill in a loop, cold kernel",
    "shell": "papermill's command in a shell loop",
    "c": "c: our engine in a loop, warm kernel",
    "d": "d: ploomber-engine, which has no grid, in a loop",
}
RUNS = {"a": 3, "shell": 2, "c": 10}  # of a loop; the other trials are reckoned from these
SHELL = """python=$1 notebook=$2 output=$3; shift 3
for seed; do "$python" -m papermill "$notebook" "$output" -p seed "$seed" -k python3 --no-progress-bar || exit; done"""
BLOCKS = itertools.count(1)


def measure(ways: Collection[str], rounds: int, environment: Environment, trials: int) -> list[Row]:
    """The rows of a sweep of so many `trials`, by one worker and by two, and of the loops of `ways` beside it.

    The templates of warm kernels are there already, from `bench_costs`.
    """
    loops = [key for key in ("a", "shell", "c", "d") if {"shell": "a"}.get(key, key) in ways]
    found: dict[tuple[str, int], list[float]] = {("sweep", 1): [], ("sweep", 2): []}
    found |= {(key, 1): [] for key in loops}
    for number, (key, workers) in itertools.product(range(1, rounds + 1), found):
        seconds = in_all(key, workers, trials, environment)
        found[key, workers].append(seconds)
        say("sweep", number, rounds, f"{key}, {workers} at once,", seconds)
    return [row("sweep", key, named(key, trials), n, s) for (key, n), s in found.items()]


def in_all(key: str, workers: int, trials: int, environment: Environment) -> float:
    """The seconds of `trials` by the sweep, or by the loop `key`, from the start of the process to its end."""
    if key == "sweep":
        return swept(varied(trials), workers, environment)
    return (shell if key == "shell" else looped)(key, trials, environment)


def named(key: str, trials: int) -> str:
    """What the row of `key` is called: it says where trials were reckoned."""
    done = measured(key, trials)
    return NAMES[key] + (f" ({done} runs, reckoned for {trials})" if done < trials else "")


def measured(key: str, trials: int) -> int:
    """How many of the `trials` the loop `key` runs."""
    return min(trials, RUNS.get(key, trials))


def varied(count: int) -> str:
    """So many seeds that nothing here has run yet, as they are typed."""
    first = 10_000 * next(BLOCKS)
    return f"seed={first}..{first + count - 1}"


def swept(
    seeds: str,
    workers: int,
    environment: Environment,
    notebook: Path = NOTEBOOK,
    metric: str = "accuracy",
) -> float:
    """The seconds of the command `workbook sweep` over `seeds`."""
    command = [sys.executable, "-m", "Codes.commands.cli", "sweep", str(notebook), "--vary", seeds]
    command += ["--sampler=grid", f"--metric={metric}:maximize", f"--workers={workers}"]
    return timed(command, environment)


def timed(command: Sequence[str | Path], environment: Environment) -> float:
    """The seconds from the start of `command` to its end; see `printed`."""
    started = time.perf_counter()
    printed(command, environment)
    return time.perf_counter() - started


def printed(command: Sequence[str | Path], environment: Environment) -> str:
    """What `command` prints, run in the private place; a WorkbookError where it fails."""
    done = subprocess.run(
        command,
        cwd=environment["TMPDIR"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        told = f"{done.stderr}\n{done.stdout}".strip()[-1500:]
        raise WorkbookError(f"{' '.join(map(str, command[1:4]))} ended: {told}")
    return done.stdout


def looped(way: str, trials: int, environment: Environment) -> float:
    """The seconds of `trials` by a `way` of bench_ways, in one process."""
    started = time.perf_counter()
    worker = Worker(way, environment)
    worker.run()
    first = time.perf_counter() - started
    later = [run["total"] for run in worker.run(measured(way, trials) - 1)]
    worker.process.communicate()
    return first + (trials - 1) * statistics.fmean(later)


def shell(key: str, trials: int, environment: Environment) -> float:
    """The seconds of `trials` by papermill's command, each in a process of its own."""
    seeds, output = range(measured(key, trials)), Path(environment["TMPDIR"], "shell.ipynb")
    command = ["sh", "-c", SHELL, "sh", sys.executable, NOTEBOOK, output, *map(str, seeds)]
    return timed(command, environment) / len(seeds) * trials
