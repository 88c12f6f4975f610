"""What a run costs: one small notebook, run in several ways by processes that stay warm, turn about, in one go.

    make bench                                          everything
    make bench SECTIONS=runs WAYS="a c e" ROUNDS=3      a part of it
    make bench SECTIONS=sweep TRIALS=50 GROWTH=1000     sweeps: so many trials, and how they slow down as they grow
    make bench SECTIONS=commands                        what is typed: by the template of commands, and without it
    make bench SECTIONS=serve                           a served model's answers, against MLflow's own server
    make bench SECTIONS=gpu                             networks on a graphics card, where there is one
    make bench SECTIONS=gate                            how often the gate errs, on models whose difference is known

Prints a table, the ratios and the goals, and keeps them with a picture as an MLflow run of the experiment `bench`. The
runs that are measured go to a private folder, which goes away with every process that belongs to it. The first run of
each worker does not count: it imports, compiles what was not compiled yet, and makes the warm kernels' template.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

import pandas as pd
import psutil

from Codes.bench import (
    bench_commands,
    bench_costs,
    bench_gate,
    bench_lab,
    bench_report,
    bench_gpu,
    bench_serve,
    bench_sweep,
    bench_ways,
)
from Codes.bench.bench_report import Environment, Row, row, say
from Codes.bench.bench_ways import Worker, side_by_side
from Codes.ground import interrupts
from Codes.ground.errors import WorkbookError

WAYS = {
    "a": "papermill, cold kernel",
    "b": "our engine, cold kernel",
    "c": "our engine, warm kernel",
    "d": "ploomber-engine, no isolation",
    "e": "a function in a loop",
}
SLOW = ("a", "b")  # seconds a run: fewer of them
SECTIONS = ("runs", "stages", "commands", "lab", "sweep", "serve", "gpu", "gate")
PARTS = 3  # rounds of what takes longer


def main() -> None:
    """Measure what SECTIONS, WAYS, ROUNDS, TRIALS and GROWTH of the environment ask for, and keep it."""
    came = end_in_order()
    try:
        with interrupts.none_lost(came.clear):
            sections = chosen("SECTIONS", SECTIONS)
            ways, rounds = chosen("WAYS", WAYS), whole_number("ROUNDS", 7)
            sizes = sweep_sizes() if "sweep" in sections else {}
            facts = bench_report.facts(rounds) | sizes
            bench_report.report(measured(sections, ways, rounds, sizes), facts)
    except WorkbookError as error:
        sys.exit(f"make bench: {error.message}")
    except KeyboardInterrupt:
        print(f"\nmake bench: ended by {came[0].name}; nothing was kept.", file=sys.stderr)
        sys.exit(128 + came[0])


def end_in_order() -> list[signal.Signals]:
    """Let the first of Ctrl-C, SIGTERM and SIGHUP raise KeyboardInterrupt, and no later one tear the tidying up.

    Returns a list in which the one that came will be.
    """
    came: list[signal.Signals] = []

    def end(number: int, _: FrameType | None) -> None:
        came.append(signal.Signals(number))
        if len(came) == 1:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)
    return came


def chosen(variable: str, allowed: Iterable[str]) -> list[str]:
    """The words of `allowed` that the environment `variable` names; all where it names none."""
    words = os.environ.get(variable, "").split()
    if wrong := [word for word in words if word not in allowed]:
        raise WorkbookError(f"{variable}={wrong[0]}: allowed are {', '.join(allowed)}.")
    return [word for word in allowed if word in words or not words]


def whole_number(variable: str, default: int, least: int = 1) -> int:
    """The whole number in the environment `variable`; refused below `least`."""
    text = os.environ.get(variable, "").strip() or str(default)
    if not text.isdecimal() or int(text) < least:
        raise WorkbookError(f"{variable}={text}: it must be a whole number from {least}.")
    return int(text)


def sweep_sizes() -> dict[str, int]:
    """How many trials the sweeps have: {"trials": of the training, "growth": almost empty ones}."""
    asked = "sweep" in os.environ.get("SECTIONS", "").split()
    growth = whole_number("GROWTH", 1000 if asked else 200, least=10)
    return {"trials": whole_number("TRIALS", 50, least=2), "growth": growth}


def measured(
    sections: Collection[str], ways: Sequence[str], rounds: int, sizes: Mapping[str, int]
) -> pd.DataFrame:
    """The table of `sections`: a row for each thing measured; see `row`."""
    rows: list[Row] = []
    with private_place() as environment:
        if "d" in ways and {"runs", "sweep"} & set(sections) and not has_ploomber():
            ways = [way for way in ways if way != "d"]
        if "runs" in sections:
            rows += measure_runs(ways, rounds, environment)
        if "stages" in sections:
            rows += measure_stages(rounds, environment)
        if "commands" in sections:
            rows += bench_commands.measure(min(rounds, PARTS), environment)
        if "lab" in sections:
            rows += measure_lab(rounds, environment)
        if "sweep" in sections:
            costs = bench_costs.measure(environment, **sizes)
            again = min(rounds, PARTS)
            rows += bench_sweep.measure(ways, again, environment, sizes["trials"]) + costs
        if "serve" in sections:
            rows += bench_serve.measure(min(rounds, PARTS), environment)
        if "gpu" in sections:
            asked = "gpu" in os.environ.get("SECTIONS", "").split()
            rows += bench_gpu.measure(min(rounds, PARTS), environment, asked)
        if "gate" in sections:
            rows += bench_gate.measure(whole_number("ROUNDS", PARTS), environment)
    return pd.DataFrame(rows)


@contextlib.contextmanager
def private_place() -> Iterator[dict[str, str]]:
    """The environment of everything that is measured; its folder and the processes there go away at the end."""
    # a template's socket lies in it, and must have a short path
    folder = tempfile.mkdtemp(prefix="wb", dir="/tmp" if os.path.isdir("/tmp") else None)
    foreign = ("MLFLOW_", "_MLFLOW_", "WORKBOOK_", "JPY_", "JUPYTER_", "PYTHONDONTWRITE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    try:
        yield kept | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "MLFLOW_EXPERIMENT_NAME": "bench",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "JUPYTER_PREFER_ENV_PATH": "1",
            "JUPYTER_RUNTIME_DIR": folder,
            "JUPYTER_TOKEN": uuid.uuid4().hex,
            "TMPDIR": folder,
            "XDG_RUNTIME_DIR": folder,
        }
    finally:
        end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)


def end_processes(folder: str) -> None:
    """End all that name `folder` in their command line, or have it as TMPDIR, until there are none."""
    while found := [p for p in psutil.process_iter(["cmdline", "environ"]) if _names(p, folder)]:
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=5)


def _names(process: psutil.Process, folder: str) -> bool:
    given = (process.info["environ"] or {}).get("TMPDIR")  # of a sweep's workers, which are forked
    return given == folder or any(folder in part for part in process.info["cmdline"] or ())


def has_ploomber() -> bool:
    """Whether ploomber-engine is beside the environment, after fetching it if it is not."""
    if bench_ways.PLOOMBER.exists():
        return True
    with tempfile.TemporaryDirectory(prefix="workbook-") as folder:
        pins, made = Path(folder, "pins.txt"), Path(folder, "made")
        pins.write_text(bench_ways.PLOOMBER_PINS, "utf-8")
        options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
        command = [sys.executable, "-m", "pip", "install", *options, "-r", pins, "--target", made]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            print(f"bench: without ploomber-engine, which cannot be fetched: {reason}")
            return False
        bench_ways.PLOOMBER.parent.mkdir(exist_ok=True)
        shutil.move(made, bench_ways.PLOOMBER)
    return True


def measure_runs(ways: Sequence[str], rounds: int, environment: Environment) -> list[Row]:
    """The rows of `ways`: run by one worker each, then by two each."""
    first = {way: Worker(way, environment) for way in ways}
    alone: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way in ways:
            if number <= (PARTS if way in SLOW else rounds):
                seconds = first[way].run()[0]["total"]
                alone[way] += [seconds] if number else []
                say("one worker", number, rounds, way, seconds)
    pairs = {way: (first[way], Worker(way, environment)) for way in ways}
    together: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(min(rounds, PARTS) + 1):
        for way in ways:
            if number <= (2 if way in SLOW else PARTS):
                runs = 6 if number and way not in SLOW else 1
                seconds = side_by_side(pairs[way], runs)
                together[way] += [seconds] if number else []
                say("two workers", number, min(rounds, PARTS), way, seconds)
    found = ((1, alone), (2, together))
    return [
        row("runs", way, f"{way}: {WAYS[way]}", n, each[way]) for n, each in found for way in ways
    ]


def measure_stages(rounds: int, environment: Environment) -> list[Row]:
    """The rows of the stages of a warm run, in their order, and of all of it."""
    worker = Worker("stages", environment)
    worker.run()
    runs = worker.run(2 * rounds)
    say("stages", rounds, rounds, "c", runs[-1]["total"])
    names = [*(name for name in runs[0] if name != "total"), "total"]
    return [row("stages", "c", name, 1, [run[name] for run in runs]) for name in names]


def measure_lab(rounds: int, environment: Environment) -> list[Row]:
    """The rows of JupyterLab: from 'new notebook' until its first cell was executed."""
    found: dict[str, list[float]] = {kernel: [] for kernel in bench_lab.KERNELS}
    rounds = min(rounds, PARTS)
    with bench_lab.server(environment) as address:
        for number in range(rounds + 1):
            for kernel, seconds in found.items():
                spent = asyncio.run(
                    bench_lab.first_cell(address, environment["JUPYTER_TOKEN"], kernel)
                )
                seconds += [spent] if number else []
                say("lab", number, rounds, kernel, spent)
    return [row("lab", k, f"first cell, kernel {k}", 1, found[k]) for k in found]


if __name__ == "__main__":
    main()
