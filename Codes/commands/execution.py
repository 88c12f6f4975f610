"""What the commands that execute notebooks share: a warm template, the engine's environment, one notebook, its end."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from Codes.commands import terminal
from Codes.forks import channel
from Codes.ground.errors import NOTE, WorkbookError
from Codes.ground.variables import EXPERIMENT_ID, FOR_ALL, OWNED, RUN_ID

if TYPE_CHECKING:  # its import takes seconds, which the command that needs it pays
    from mlflow.entities import Run


def warm_up(kernel: str | None, cold: bool, also: Mapping[str, str] | None = None) -> None:
    """Begin to start a template of warm kernels, unless another `kernel` is asked for, or `cold` ones.

    `also` are variables that the kernels will have beside this process's own.
    """
    from Codes.running import runner

    if cold:
        os.environ[channel.COLD] = "1"
    if not kernel and runner.warm_up(also) is not None:
        click.echo("warming a template that kernels are forked from (some seconds, once)", err=True)


def prepare_environment(experiment: str | None, system_metrics: bool, whole: bool) -> None:
    """Set what the engine reads; in a whole lifecycle under `mlflow run`, the run given there becomes the parent."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # we tell of the store's trouble in one line
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    if experiment:
        os.environ["MLFLOW_EXPERIMENT_NAME"] = experiment
        for other in (EXPERIMENT_ID, FOR_ALL):
            os.environ.pop(other, None)
    if system_metrics:
        os.environ["MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"] = "true"
    if whole and RUN_ID in os.environ:
        os.environ[OWNED] = os.environ.pop(RUN_ID)


def settings(
    kernel: str | None, cell_timeout: float | None, timeout: float | None, no_progress: bool
) -> dict[str, Any]:
    """What `execute` hands on of a command's options; both timeouts in seconds."""
    return {
        "kernel": kernel,
        "execution_timeout": cell_timeout,
        "notebook_timeout": timeout,
        "progress": sys.stderr.isatty() and not no_progress,
    }


def execute(path: Path, values: Mapping[str, Any], place: Path, **options: Any) -> None:
    """Run one notebook; its failure becomes one line and the exit status."""
    from Codes.running import runner

    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        runner.run(path, values, place, **options)
        say_notes(place)
    except PapermillExecutionError as error:
        say_failed(path, f"cell {error.cell_index + 1}: {error.ename}: {error.evalue}", place)
    except (CellTimeoutError, DeadKernelError) as error:
        say_failed(path, str(error), place)
    except WorkbookError as error:
        say_failed(path, error.message, place if Path(place).exists() else None)
    except KeyboardInterrupt:
        click.echo(
            f"{path.stem} was interrupted; its run is KILLED; executed so far: {place}", err=True
        )
        sys.exit(130)


def say_notes(place: Path) -> None:
    """Say what the executed notebook at `place` has noted of its table."""
    cells = json.loads(Path(place).read_text("utf-8"))["cells"]
    outputs = [each for cell in cells for each in cell.get("outputs", ())]
    for output in (each for each in outputs if each.get("name") == "stderr"):
        for line in "".join(output["text"]).splitlines():
            if line.startswith(NOTE):
                click.echo(f"  {line}", err=True)


def say_run(record: str | None, made: dict[str, str], opened: "Run") -> None:
    """Say which run was `opened`, here, in what was `made`, and in the `record` of a command of `mlflow run`."""
    from Codes.running import project

    made["run"] = opened.info.run_id
    click.echo(f"  run {opened.info.run_id}", err=True)
    if record:
        project.note(record, opened)


def say_failed(path: Path, reason: str, place: Path | None) -> NoReturn:
    """Say why `path` failed and where to look, and exit with 1."""
    look = f"\nThe executed notebook: {place}" if place else ""
    if place and Path(place).exists():
        say_notes(place)
    click.echo(f"{path.stem} {terminal.bad('FAILED')}: {reason}{look}", err=True)
    sys.exit(1)
