"""The `workbook` command: a thin face over the helpers and over what runs notebooks."""

import ast
import functools
import importlib.util
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

import click

from Codes.commands import (
    completion,
    deploy_commands,
    model_commands,
    monitor_commands,
    problem_commands,
    run_commands,
    terminal,
    ui_command,
)
from Codes.ground.errors import NOTE, WorkbookError, first_line
from Codes.ground.paths import NOTEBOOKS, ROOT
from Codes.ground.variables import FOR_ALL, OWNED
from Codes.forks import channel, command_client

if TYPE_CHECKING:  # their import takes seconds, which the command that needs them pays
    from mlflow.entities import Run

    from Codes.notebook_files.parameters import Parameter
    from Codes.sweeps.space import Space

Pairs: TypeAlias = tuple[tuple[str, str], ...]  # each `-p NAME VALUE`
Command = TypeVar("Command", bound=Callable[..., Any])
MODEL = {"problem", "model", "hyperparameters"}  # of a notebook that builds its model from them


class Commands(click.Group):
    """The commands; Ctrl-C, or a store that fails under one of them, is one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # where the command did not tell more
            click.echo("interrupted", err=True)
            raise click.exceptions.Exit(130) from None
        except Exception as error:
            # asked by name: the import takes a second, and who never used MLflow meets none of its errors
            if not any(kind.__name__ == "MlflowException" for kind in type(error).__mro__):
                raise
            raise WorkbookError(
                f"the store failed: {first_line(error)}; give the same command again."
            ) from error


class NotebookCommand(click.Command):
    """A command with parameters of a notebook, which may be typed as `-p NAME VALUE` and as `-p NAME=VALUE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        split = []
        for before, word in zip(["", *args], args):
            name, equals, value = word.partition("=")
            is_pair = before in ("-p", "--parameter") and equals and name.isidentifier()
            split += [name, value] if is_pair else [word]
        return super().parse_args(ctx, split)


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80}
)
@click.version_option(package_name="experiment-workbook")
def main() -> None:
    """Plain notebooks that become complete, comparable MLflow runs."""
    if os.environ.get("NO_COLOR"):
        click.get_current_context().color = False


PARAMETER_OPTIONS = [
    click.option(
        "-p",
        "--parameter",
        "pairs",
        nargs=2,
        multiple=True,
        metavar="NAME VALUE",
        help="One parameter; or NAME=VALUE.",
    ),
    click.option(
        "--params",
        "line",
        default="",
        metavar="'A=1 B=2'",
        help="Several, as make's P= gives them.",
    ),
    click.option("-y", "--yaml", "text", metavar="YAML", help="Parameters as YAML text."),
    click.option(
        "-f",
        "--file",
        "file",
        metavar="FILE",
        shell_complete=completion.files,
        help="Parameters from a YAML file.",
    ),
]
NOTEBOOK_OPTIONS = [
    *PARAMETER_OPTIONS,
    click.option("-k", "--kernel", metavar="NAME", help="Another kernel than the notebook's."),
    click.option(
        "--experiment", metavar="NAME", help="The MLflow experiment; default: the problem's name."
    ),
    click.option(
        "--cell-timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="S",
        help="Seconds a cell may take.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="S",
        help="Seconds the notebook may take.",
    ),
    click.option("--system-metrics", is_flag=True, help="Also log processor, memory and disk use."),
    click.option("--no-progress", is_flag=True, help="No progress bar."),
    click.option(
        "--cold", is_flag=True, help=f"Start each kernel from nothing; so does {channel.COLD}=1."
    ),
]


def notebook_options(command: Command) -> Command:
    """`command` with the options of whatever executes notebooks."""
    return _with(command, NOTEBOOK_OPTIONS)


def parameter_options(command: Command) -> Command:
    """`command` with the options that give parameters of a notebook."""
    return _with(command, PARAMETER_OPTIONS)


def _with(command: Command, options: Sequence[Callable[[Any], Any]]) -> Command:
    return functools.reduce(lambda made, option: option(made), reversed(options), command)


@main.command(cls=NotebookCommand)
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
        check_models(path, [values])
    for missing in left_out:
        click.echo(missing, err=True)
    warm_up(kernel, flags["cold"])
    record = project.leave_default() if project.RUN_ID in os.environ else None
    prepare_environment(experiment, flags["system_metrics"], whole=not notebook)
    limits = {"execution_timeout": cell_timeout, "notebook_timeout": timeout}
    progress = sys.stderr.isatty() and not flags["no_progress"]
    asks = (flags["if_changed"] or flags["why"]) and not force
    made: list[dict[str, str]] = []
    for number, (path, values) in enumerate(steps, 1):
        click.echo(f"[{number}/{len(steps)}] {path.stem} {shown(values)}".rstrip(), err=True)
        if asks and is_known(path, values, flags["why"], kernel):
            continue
        place = runner.output_path(path, output, force)
        made.append({"notebook": path.stem, "output": str(place)})
        told = functools.partial(say_run, record, made[-1])
        execute(path, values, place, opened=told, kernel=kernel, progress=progress, **limits)
        if number == 1 < len(steps) and not channel.is_off(os.environ):
            command_client.start(os.environ)  # 04 and 05 fork from it; the kernels' own comes first
    if as_json:
        terminal.say_json(made)
        return
    if notebook and solved and made:
        show_standing(made[-1]["run"], solved.pop())
    show_table(set() if notebook else solved)


@main.command(cls=NotebookCommand)
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
    click.echo(f"{path.stem} {repeating.told(values)}".rstrip(), err=True)
    if flags["dry_run"]:
        return
    check_models(path, [values])
    warm_up(kernel, flags["cold"])
    prepare_environment(
        experiment or repeating.experiment(made, complete), flags["system_metrics"], whole=False
    )
    limits = {"execution_timeout": cell_timeout, "notebook_timeout": timeout}
    progress, opened = sys.stderr.isatty() and not flags["no_progress"], []

    def say(new: "Run") -> None:
        opened.append(new.info.run_id)
        say_run(None, {}, new)

    place = runner.output_path(path)
    execute(path, values, place, opened=say, kernel=kernel, progress=progress, **limits)
    if told := repeating.scores(made.run, MlflowClient().get_run(opened[0])):
        click.echo(told)


@main.command("open", cls=NotebookCommand)
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
    """Open a run's notebook in JupyterLab, where it failed.

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
    place, cell = opening.copy(made, repeating.typed(declared, given))
    where = opening.address(place, cell)
    click.echo(f"{os.path.relpath(place)}{', at the cell that failed' if cell else ''}", err=True)
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


def warm_up(kernel: str | None, cold: bool, also: Mapping[str, str] | None = None) -> None:
    """Begin to start a template of warm kernels, unless another `kernel` is asked for, or `cold` ones.

    `also` are variables that the kernels will have beside this process's own.
    """
    from Codes.running import runner

    if cold:
        os.environ[channel.COLD] = "1"
    if not kernel and runner.warm_up(also) is not None:
        click.echo("warming a template that kernels are forked from (some seconds, once)", err=True)


@main.command(cls=NotebookCommand)
@click.argument("notebook", shell_complete=completion.notebook_or_file)
@click.option(
    "--space",
    metavar="FILE",
    shell_complete=completion.files,
    help="What varies, and fixed values, in a YAML file.",
)
@click.option(
    "-v",
    "--vary",
    multiple=True,
    metavar="NAME=SPEC",
    help="a,b,c · 1..10 · 0.01..1:log · 0..1:0.1 (a step).",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME[:maximize|:minimize]",
    help="The objective, a metric that the notebook logs; several: a Pareto front. Default: the problem's own.",
)
@click.option(
    "--trials", type=click.IntRange(min=1), metavar="N", help="Default: 20; for the grid all."
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Processes; default: one a processor.",
)
@click.option(
    "--sampler",
    metavar="NAME",
    help="grid, random, tpe, … of Optuna; default: grid where the trials suffice for it, else tpe.",
)
@click.option(
    "--sampler-seed",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Of the sampler; default 0.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    default=1,
    metavar="N",
    help="Run each point with so many seeds.",
)
@click.option(
    "--pruner", default="", metavar="NAME", help="Stop hopeless trials early: median, hyperband, …"
)
@click.option(
    "--watch", default="", metavar="METRIC", help="The metric with steps that the pruner looks at."
)
@click.option(
    "--retries",
    type=click.IntRange(0, 100),
    default=0,
    metavar="N",
    help="Try a failed trial again.",
)
@click.option(
    "--memory",
    metavar="SIZE",
    help="What all trials may take together, such as 8GB; default: what is free.",
)
@click.option(
    "--cluster", metavar="ADDRESS", help="Send the trials to a Dask scheduler: tcp://HOST:8786."
)
@click.option(
    "--storage",
    metavar="URL",
    help="An Optuna storage, to share the search between several machines.",
)
@click.option("--force", is_flag=True, help="A new sweep, in which every point is run.")
@notebook_options
def sweep(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
    notebook: str,
    space: str | None,
    vary: tuple[str, ...],
    pairs: Pairs,
    line: str,
    text: str | None,
    file: str | None,
    **options: Any,
) -> None:
    """Run NOTEBOOK over many values, in parallel.

    The same command again goes on where it was. Each trial is an MLflow run nested under the sweep's own. A point
    that has a finished run of the same code, parameters, data and environment is not run again.

    \b
    For example:
      workbook sweep 02_train -v model=linear,hgb -v rows=1000..9000:2000
      workbook sweep 02_train --space Resources/sweeps/flights_hgb.yaml
    """
    from Codes.notebook_files import parameters
    from Codes.running import runner

    from Codes.sweeps import space as spaces
    from Codes.trial_workers import pool

    path = runner.find(notebook)
    declared = runner.declared(path)
    if space and not os.path.isfile(space):
        raise WorkbookError(f"there is no space {space}; give the path of a YAML file.")
    given = gather(pairs, line, text, file)
    texts = {k: v.text for k, v in given.items() if isinstance(v, runner.Typed)}
    fixed = {**given, **parameters.from_text(declared, texts)}
    found = spaces.read(declared, Path(space) if space else None, vary, fixed)
    found.check(path.name)
    check_models(path, found.ends(each="model"))
    if not found.varies and options["seeds"] == 1:
        raise WorkbookError("nothing varies: give --space FILE, --vary NAME=SPEC, or --seeds N.")
    if not options["cluster"]:
        count = options["workers"] or pool.processors()
        warm_up(options["kernel"], options["cold"], pool.thread_limits(count))
    prepare_environment(options["experiment"], options["system_metrics"], whole=False)
    importlib.import_module("papermill")  # it imports our engine, and must come first
    from Codes.commands import sweep_commands

    sys.exit(sweep_commands.run(path, found, objectives(found, options["metrics"]), options))


def objectives(space: "Space", metrics: Sequence[str]) -> list[tuple[str, str]]:
    """[(metric, direction)] of `metrics` as typed; by default the deciding metric of the space's problem."""
    from Codes.problems import problem as problems_

    defaults = {p.name: p.default for p in space.declared if p.is_plain} | space.fixed
    own = str(defaults.get("problem"))
    deciding = problems_.load(own).metric if problems_.is_known(own) else None
    known = {f"validation_{deciding.name}": deciding.direction} if deciding else {}
    found = []
    for text in metrics or list(known):
        name, _, direction = text.rpartition(":") if text.endswith(("imize",)) else (text, "", "")
        direction = direction or known.get(name)
        if direction not in ("maximize", "minimize"):
            raise WorkbookError(
                f"--metric {text}: say which way is better: {name or text}:maximize or :minimize."
            )
        found.append((name, direction))
    if not found:
        raise WorkbookError(
            "the notebook names no problem, so say what to optimize: --metric NAME:maximize."
        )
    return found


def gather(pairs: Pairs, line: str, text: str | None, file: str | None) -> dict[str, Any]:
    """All given parameters by name; the later source wins: file, YAML text, make's line, -p."""
    from Codes.ground import plain_yaml
    from Codes.running import runner

    if file and not os.path.isfile(file):
        raise WorkbookError(f"there is no parameter file {file}; give the path of a YAML file.")
    given = plain_yaml.read(Path(file)) if file else {}
    given |= plain_yaml.mapping(text, "--yaml") if text else {}
    return (
        given
        | {n: runner.Typed(v) for n, v in split_line(line)}
        | {n: runner.Typed(v) for n, v in pairs}
    )


def split_line(line: str) -> list[list[str]]:
    """(name, value) of each part of `line`, quoted as in a shell; brackets may stand bare: `h={depth: 3} seed=1`."""
    parts = split_bare(line)
    if bad := [part for part in parts if "=" not in part]:
        raise WorkbookError(f'P: {bad[0]!r} is not name=value; write P="model=forest seed=3".')
    return [part.split("=", 1) for part in parts]


def split_bare(line: str) -> list[str]:
    """The parts of `line`: lists and dicts after `name=` as they stand, the others as a shell splits words."""
    from Codes.ground import plain_yaml

    parts, rest = [], line.strip()
    while rest:
        name, equals, value = rest.partition("=")
        if equals and value.startswith(("{", "[")) and name.isidentifier():
            end = plain_yaml.closing(value)
            if end is None:
                raise WorkbookError(f"P: the brackets of {name} do not close: {value[:100]}")
            parts.append(f"{name}={value[:end]}")
            rest = value[end:].strip()
            continue
        lexer = shlex.shlex(rest, posix=True, punctuation_chars=False)
        lexer.whitespace_split, lexer.commenters = True, ""
        try:
            parts.append(lexer.get_token())
        except ValueError as error:
            raise WorkbookError(f"P: {error} in {rest!r}; quote as in a shell.") from error
        rest = lexer.instream.read().strip()  # pyrefly: ignore[bad-argument-count]  # an open text
    return [part for part in parts if part]


def prepare_environment(experiment: str | None, system_metrics: bool, whole: bool) -> None:
    """Set what the engine reads; in a whole lifecycle under `mlflow run`, the run given there becomes the parent."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # we tell of the store's trouble in one line
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    if experiment:
        os.environ["MLFLOW_EXPERIMENT_NAME"] = experiment
        for other in ("MLFLOW_EXPERIMENT_ID", FOR_ALL):
            os.environ.pop(other, None)
    if system_metrics:
        os.environ["MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"] = "true"
    if whole and "MLFLOW_RUN_ID" in os.environ:
        os.environ[OWNED] = os.environ.pop("MLFLOW_RUN_ID")


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


def shown(values: Mapping[str, Any]) -> str:
    """`values` as they would be typed."""
    return " ".join(f"{name}={value}" for name, value in values.items())


def problem_of(path: Path, values: Mapping[str, Any]) -> str | None:
    """The problem that the notebook at `path` solves with `values`; None where it has no such parameter."""
    from Codes.running import runner

    defaults = {p.name: p.default for p in runner.declared(path) if p.is_plain}
    return values.get("problem", defaults.get("problem"))


def check_models(path: Path, several: Iterable[Mapping[str, Any]]) -> None:
    """Refuse a model with hyperparameters in `several` (dicts) that the notebook at `path` would refuse in its kernel.

    It imports scikit-learn, a second or two: so only for what needs it, and never a module of the user's own.
    """
    from Codes.notebook_files import parameters
    from Codes.problems import problem as problems_
    from Codes.running import runner

    defaults: dict[str, Any] = {p.name: p.default for p in runner.declared(path)}
    if not builds_model(path, defaults):
        return
    known = short_models()
    for chosen in ({**defaults, **values} for values in several):
        model, given = chosen["model"], chosen["hyperparameters"]
        is_due = bool(given) or not known.get(str(model), "").startswith("sklearn.")
        if is_due and not parameters.references(given) and is_installed(model):
            from Codes.modeling import models

            models.check(problems_.load(chosen["problem"]).task, model, given)


def builds_model(path: Path, names: Iterable[str]) -> bool:
    """Whether the notebook at `path`, whose parameters have these `names`, builds a model from them."""
    return MODEL <= set(names) and "models.build(" in Path(path).read_text("utf-8")


def short_models() -> dict[str, str]:
    """{short name: an estimator of it} of Codes/modeling/models.py, read without importing it, which takes seconds."""
    tree = ast.parse((ROOT / "Codes" / "modeling" / "models.py").read_text("utf-8"))
    (table,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and "SHORT" in ast.unparse(node.targets[0])
    ]
    assert isinstance(table, ast.Dict)
    return {name: next(iter(each.values()))[0] for name, each in ast.literal_eval(table).items()}


def is_installed(model: str) -> bool:
    """Whether `model` is a short name, or the dotted path of something in an installed package."""
    package, dot, _ = model.partition(".")
    spec = importlib.util.find_spec(package) if dot and package.isidentifier() else None
    return not dot or bool(spec and spec.origin and "site-packages" in Path(spec.origin).parts)


def show_standing(run_id: str, problem: str) -> None:
    """Print how the run with this id stands beside the best so far on `problem`; nothing where it has no score."""
    from mlflow import MlflowClient

    from Codes.judgement import scored

    if scored.TAG not in MlflowClient().get_run(run_id).data.tags:
        return
    from Codes.comparison import leaderboard, standings, words

    click.echo(leaderboard.wrapped(words.beside(standings.publish(problem), run_id)))


def show_table(solved: Iterable[str]) -> None:
    """Print how the runs on the problems `solved` stand, what is in production, and how to look at them."""
    from Codes.comparison import leaderboard, standings
    from Codes.model_registry import promotion

    for name in sorted(solved):
        choice = standings.publish(name)
        if choice.contestants:
            click.echo(f"\n{leaderboard.shown(choice)}")
            told = promotion.where_it_stands(choice.problem, choice.recommended, choice.typed)
            click.echo(f"\n{leaderboard.wrapped(told)}" if told else "", nl=bool(told))
    click.echo("\nLook at it (runs, figures, the executed notebooks as pages, models):  make ui")
    last = (sorted(solved) or [""])[-1]  # whose table stands above
    click.echo(ui_command.address(ui_command.landing(last)))


@main.command()
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
    short = f"one of {', '.join(short_models())}, *.*" if builds_model(path, _names(found)) else ""
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


@main.command()
@click.option(
    "--moved",
    "old",
    is_flag=False,
    flag_value="",
    metavar="[OLD]",
    help="The store's folder was moved or copied here (from OLD): let its files be found here.",
)
@click.option(
    "--rename-tags", is_flag=True, help="Let the tags of an earlier workbook be known to this one."
)
def store(old: str | None, rename_tags: bool) -> None:
    """Say where runs go, or make good that the store moved.

    \b
    For example:
      workbook store
      workbook store --moved
    """
    from Codes.stores import store as stores

    done = [] if old is None else [stores.settle(old)]
    done += [stores.rename_tags()] if rename_tags else []
    for line in done or stores.description():
        click.echo(line)


@main.command()
@click.option("--start", is_flag=True, help="Start one, and wait until it is warm.")
@click.option(
    "--stop", is_flag=True, help="Let this checkout's go; each ends with its last kernel."
)
def warm(start: bool, stop: bool) -> None:
    """List the warm templates; start or stop one.

    Kernels and commands are forked from them. Of each: process, how many run, memory, checkout.

    \b
    For example:
      workbook warm
      workbook warm --stop
    """
    from Codes.warm import templates

    if start:
        from Codes.running import runner

        if starting := runner.warm_up():
            starting.join()
    try:
        there = templates.stop() if stop else templates.found()
    except channel.Unavailable as reason:
        raise WorkbookError(f"{reason}.") from reason
    for template in there:
        click.echo(f"{template}{', retired' if stop else ''}")
    if not there:
        click.echo("there is no template; the next warm kernel starts one")


for each in [
    *model_commands.COMMANDS,
    *deploy_commands.COMMANDS,
    *monitor_commands.COMMANDS,
    *run_commands.COMMANDS,
    problem_commands.problems,
    ui_command.ui,
]:
    main.add_command(each)

if __name__ == "__main__":
    main()
