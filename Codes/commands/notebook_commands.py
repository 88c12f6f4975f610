"""The part of the `workbook` command that is about notebooks: to run one, again, open one, and what one takes."""

import functools
import importlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from Codes.commands import completion, execution, model_check, terminal, ui_command
from Codes.commands.notebook_options import (
    NotebookCommand,
    Pairs,
    gather,
    notebook_options,
    parameter_options,
)
from Codes.forks import channel, command_client
from Codes.ground import labels
from Codes.ground.errors import WorkbookError
from Codes.ground.pace import Pace
from Codes.ground.paths import NOTEBOOKS

if TYPE_CHECKING:  # their import takes seconds, which the command that needs them pays
    from mlflow.entities import Run

    from Codes.notebook_files.parameters import Parameter


@click.command(cls=NotebookCommand)
@click.argument("notebook", required=False, shell_complete=completion.notebook_or_file)
@notebook_options
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="The executed notebook; default: a new file in executed/.",
)
@click.option(
    "--force", is_flag=True, help="Replace an existing output; run although nothing has changed."
)
@click.option(
    "--if-changed",
    is_flag=True,
    help="Skip what has a finished run with the same code, parameters and data.",
)
@click.option(
    "--why", is_flag=True, help="With --if-changed (which it implies): say what has changed."
)
@terminal.json_option
def run(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
    notebook: str | None,
    pairs: Pairs,
    line: str,
    text: str | None,
    file: str | None,
    output: str | None,
    force: bool,
    kernel: str | None,
    experiment: str | None,
    cell_timeout: float | None,
    timeout: float | None,
    as_json: bool,
    **flags: bool,
) -> None:
    """Run NOTEBOOK, or the whole lifecycle, as MLflow runs.

    NOTEBOOK is a name such as 02_train, or a path; without it all notebooks are run, in order.

    \b
    For example:
      workbook run 02_train -p model forest -p seed 3
      workbook run --if-changed
      workbook run -p problem diabetes
    """
    from Codes.problems import problem as problems_
    from Codes.running import project, runner

    given = gather(pairs, line, text, file)
    if output and not notebook:
        raise WorkbookError(
            "--output names one notebook's copy; give the notebook too: workbook run 02_train -o FILE."
        )
    left_out: list[str] = []
    steps = runner.plan(notebook, given, left_out.append)
    asked = [problem_of(*step) for step in steps if step[0].parent == NOTEBOOKS]
    solved = {name for name in asked if name is not None}
    for problem in solved:
        problems_.require_table(problems_.load(problem))  # refused before a kernel starts
    for path, values in steps:
        model_check.check_models(path, [values])
    for missing in left_out:
        click.echo(missing, err=True)
    execution.warm_up(kernel, flags["cold"])
    record = project.leave_default() if project.RUN_ID in os.environ else None
    execution.prepare_environment(experiment, flags["system_metrics"], whole=not notebook)
    options = execution.settings(kernel, cell_timeout, timeout, flags["no_progress"])
    asks = (flags["if_changed"] or flags["why"]) and not force
    made: list[dict[str, str]] = []
    pace = Pace(len(steps))
    for number, (path, values) in enumerate(steps, 1):
        step = f"[{number}/{len(steps)}] {path.stem} {labels.typed(values)}".rstrip()
        click.echo(f"{step}{pace.left(number - 1)}", err=True)
        if asks and is_known(path, values, flags["why"], kernel):
            continue
        place = runner.output_path(path, output, force)
        made.append({"notebook": path.stem, "output": str(place)})
        told = functools.partial(execution.say_run, record, made[-1])
        execution.execute(path, values, place, opened=told, **options)
        if number == 1 < len(steps) and not channel.is_off(os.environ):
            command_client.start(os.environ)  # 04 and 05 fork from it; the kernels' own comes first
    if as_json:
        terminal.say_json(made)
        return
    if notebook and solved and made:
        show_standing(made[-1]["run"], min(solved))
    show_table(set() if notebook else solved)
    show_where(max(solved, default=""))


@click.command(cls=NotebookCommand)
@click.argument("run_id", metavar="RUN", shell_complete=completion.runs)
@notebook_options
@click.option("-n", "--dry-run", is_flag=True, help="Say what has changed, and run nothing.")
def rerun(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
    run_id: str,
    pairs: Pairs,
    line: str,
    text: str | None,
    file: str | None,
    kernel: str | None,
    experiment: str | None,
    cell_timeout: float | None,
    timeout: float | None,
    **flags: bool,
) -> None:
    """Run a run's notebook again, with its parameters.

    RUN is an id, or its first characters, of a sweep's trial too. The notebook is taken as it is now; what has changed
    since (commit, code and data, packages) is said first.

    \b
    For example:
      workbook rerun 1f2e3d4c
      workbook rerun 1f2e3d4c -p seed 1
    """
    from mlflow import MlflowClient

    from Codes.lab import repeating
    from Codes.notebook_files import parameters
    from Codes.running import runner

    made = repeating.find(run_id)
    path = made.source()
    declared = runner.declared(path)
    values = repeating.values(
        made, declared, repeating.typed(declared, gather(pairs, line, text, file))
    )
    complete = parameters.check(declared, values, path.name)
    click.echo(f"since the run {made.run_id} ({made.run.info.run_name}):", err=True)
    for change in repeating.since(made, values, kernel):
        click.echo(f"  {change}", err=True)
    click.echo(f"{path.stem} {labels.typed(values)}".rstrip(), err=True)
    if flags["dry_run"]:
        return
    model_check.check_models(path, [values])
    execution.warm_up(kernel, flags["cold"])
    execution.prepare_environment(
        experiment or repeating.experiment(made, complete), flags["system_metrics"], whole=False
    )
    opened: list[str] = []

    def say(new: "Run") -> None:
        opened.append(new.info.run_id)
        execution.say_run(None, {}, new)

    place = runner.output_path(path)
    options = execution.settings(kernel, cell_timeout, timeout, flags["no_progress"])
    execution.execute(path, values, place, opened=say, **options)
    if told := repeating.scores(made.run, MlflowClient().get_run(opened[0])):
        click.echo(told)


@click.command("open", cls=NotebookCommand)
@click.argument("run_id", metavar="RUN", shell_complete=completion.runs)
@parameter_options
@click.option(
    "--browser/--no-browser",
    "opens",
    default=None,
    help="By default where there is a screen.",
)
def open_(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    run_id: str, pairs: Pairs, line: str, text: str | None, file: str | None, opens: bool | None
) -> None:
    """Open a run's notebook in JupyterLab, at the cell that failed.

    RUN is an id, or its first characters, of a sweep's trial too. What opens is a copy of what it executed, with its
    parameters, or those given here; it runs in the folder of its notebook. A JupyterLab that is open on this checkout
    shows it, else one starts.

    \b
    For example:
      workbook open 1f2e3d4c
      workbook open 1f2e3d4c -p rows 500
    """
    from Codes.lab import opening, repeating
    from Codes.notebook_files import parameters

    made, given = repeating.find(run_id), gather(pairs, line, text, file)
    declared = parameters.of(made.notebook(), made.stem)
    copy = opening.copy(made, repeating.typed(declared, given))
    failed = f"; cell {copy.failed} of {copy.cells} failed" if copy.failed else ""
    click.echo(f"{os.path.relpath(copy.place)}{failed}", err=True)
    where = opening.address(copy.place)
    opening.show(where, ui_command.has_screen() if opens is None else opens)


def is_known(path: Path, values: Mapping[str, Any], why: bool, kernel: str | None) -> bool:
    """Whether the notebook at `path` need not be run with `values` again; says so, or `why` it must."""
    from Codes.notebook_files import parameters
    from Codes.running import runner

    importlib.import_module("papermill")  # it imports our engine, and must come first
    from Codes.fingerprints import fingerprint

    complete = parameters.check(runner.declared(path), values, path.name)
    found, reason = fingerprint.already(path, complete, kernel)
    if found:
        click.echo(
            f"  unchanged since the run {found.info.run_id}: skipped (--force runs it)", err=True
        )
    elif why:
        click.echo(f"  {reason}", err=True)
    return found is not None


def problem_of(path: Path, values: Mapping[str, Any]) -> str | None:
    """The problem that the notebook at `path` solves with `values`; None where it has no such parameter."""
    from Codes.running import runner

    defaults = {p.name: p.default for p in runner.declared(path) if p.is_plain}
    return values.get("problem", defaults.get("problem"))


def show_standing(run_id: str, problem: str) -> None:
    """Print how the run with this id stands beside the best so far on `problem`; nothing where it has no score."""
    from mlflow import MlflowClient

    from Codes.judgement import scored

    if scored.TAG not in MlflowClient().get_run(run_id).data.tags:
        return
    from Codes.comparison import leaderboard, standings, words

    click.echo(leaderboard.wrapped(words.beside(standings.publish(problem), run_id)))


def show_table(solved: Iterable[str]) -> None:
    """Print how the runs on the problems `solved` stand, and what is in production."""
    from Codes.comparison import leaderboard, standings
    from Codes.model_registry import promotion

    for name in sorted(solved):
        choice = standings.publish(name)
        if choice.contestants:
            click.echo(f"\n{leaderboard.shown(choice)}")
            told = promotion.where_it_stands(choice.problem, choice.recommended, choice.typed)
            click.echo(f"\n{leaderboard.wrapped(told)}" if told else "", nl=bool(told))


def show_where(problem: str) -> None:
    """Print how to look at the runs on `problem`; where it is empty, at those scored last."""
    click.echo("\nLook at it (runs, figures, the executed notebooks as pages, models):  make ui")
    click.echo(ui_command.address(ui_command.landing(problem)))


@click.command()
@click.argument("notebook", shell_complete=completion.notebook_or_file)
@terminal.json_option
def describe(notebook: str, as_json: bool) -> None:
    """Print what NOTEBOOK takes: its parameters.

    Of each its name, type, default, help and what is allowed.

    \b
    For example:
      workbook describe 02_train
    """
    from Codes.notebook_files import parameters
    from Codes.running import runner

    path = runner.find(notebook)
    found = runner.declared(path)
    if not found:
        raise WorkbookError(
            f"{path.name} has no cell tagged 'parameters' that gives a name a value, so it takes none."
        )
    short = (
        f"one of {', '.join(model_check.short_models())}, *.*"
        if model_check.builds_model(path, _names(found))
        else ""
    )
    rows = [described(each, short if each.name == "model" else "") for each in found]
    if as_json:
        terminal.say_json({"notebook": path.stem, "parameters": rows})
        return
    click.echo(f"{path.stem}: workbook run {path.stem} -p NAME VALUE …\n")
    cells = [
        (r["name"], r["type"], r["default"], " ".join(filter(None, (r["help"], r["allowed"]))))
        for r in rows
    ]
    click.echo(terminal.table(cells, indent=2))
    computed = [p.name for p in found if isinstance(p.value, parameters.Computed) and p.default]
    if computed and (line := not_recorded(path, computed)):
        click.echo(f"\n{terminal.wrapped(line)}")


def _names(declared: "Iterable[Parameter]") -> list[str]:
    return [each.name for each in declared]


def described(parameter: "Parameter", short: str) -> dict[str, str]:
    """What `describe` says of a `parameter`, of which `short` says what is allowed where it does not itself."""
    kind = (parameter.type or "any") + (" or None" if parameter.type and parameter.optional else "")
    allowed = parameter.allowed or short
    return {
        "name": parameter.name,
        "type": kind,
        "default": str(parameter.origin),
        "help": parameter.help,
        "allowed": f"({allowed})" if allowed else "",
    }


def not_recorded(path: Path, names: Sequence[str]) -> str:
    """A line about the parameters `names` where only the kernel of the notebook at `path` knows their values."""
    from Codes.notebook_files import languages, notebook_file

    return languages.not_recorded(notebook_file.read(path), names)


COMMANDS = [run, rerun, open_, describe]
