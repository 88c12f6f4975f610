"""How long a command takes that is typed: by the template of commands, by a process of its own, and papermill's own."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from Codes.bench.bench_report import Environment, Row, row, say
from Codes.bench.bench_sweep import printed, timed
from Codes.bench.bench_ways import NOTEBOOK
from Codes.testing.testbed import wait_for
from Codes.forks import command_client

WORKBOOK = str(Path(sys.executable).with_name("workbook"))
PROBLEM = "breast_cancer"  # of which a model is registered first: an empty registry is no measure
COMMANDS = {
    "help": ["--help"],
    "problems": ["problems"],
    "describe": ["describe", "02_train"],
    "models": ["models"],
    "history": ["history", PROBLEM],
    "runs": ["runs", PROBLEM],
    "run": ["run", str(NOTEBOOK), "-o", "out.ipynb", "--force", "--no-progress"],
}
PAPERMILL = [sys.executable, "-m", "papermill", str(NOTEBOOK), "out.ipynb", "-k", "python3"]


@dataclass(frozen=True)
class Way:
    """A command as it is typed, and its environment."""

    key: str
    what: str
    command: list[str]
    environment: Environment


def measure(rounds: int, environment: Environment) -> list[Row]:
    """The rows of each command by the template and without it, and of papermill's own for the same notebook."""
    ways = list(_ways(environment))
    seconds: dict[str, list[float]] = {way.key: [] for way in ways}
    prepare(environment)
    for number in range(rounds + 1):  # the first compiles, and does not count
        for way in ways:
            spent = timed(way.command, way.environment)
            seconds[way.key] += [spent] if number else []
            say("commands", number, rounds, way.what, spent)
    return [row("commands", way.key, way.what, 1, seconds[way.key]) for way in ways]


def _ways(environment: Environment) -> Iterator[Way]:
    cold = {**environment, command_client.COLD: "1"}
    for name, arguments in COMMANDS.items():
        typed = "run of a small notebook" if name == "run" else " ".join(arguments)
        command = [WORKBOOK, *arguments]
        yield Way(name, f"workbook {typed}", command, environment)
        yield Way(f"{name}_cold", "the same in a process of its own", command, cold)
    yield Way("papermill", "papermill's own command for this notebook", PAPERMILL, environment)


def prepare(environment: Environment) -> None:
    """Register a model, and wait until the templates of kernels and of commands are there."""
    model = ["-p", "problem", PROBLEM, "-p", "model", "linear", "-o", "first.ipynb", "--force"]
    timed([WORKBOOK, "run", "02_train", *model, "--no-progress"], environment)
    timed([WORKBOOK, "register", "--problem", PROBLEM], environment)
    wait_for(lambda: " commands," in printed([WORKBOOK, "warm"], environment))
