"""The declaration of `workbook sweep`: what may be typed is read and checked; sweep_run.py executes."""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from Codes.commands import completion, execution, model_check
from Codes.commands.notebook_options import NotebookCommand, Pairs, gather, notebook_options
from Codes.ground.errors import WorkbookError

if TYPE_CHECKING:  # its import takes seconds, which the command that needs it pays
    from Codes.sweeps.space import Space


@click.command(cls=NotebookCommand)
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
    model_check.check_models(path, found.ends(each="model"))
    if not found.varies and options["seeds"] == 1:
        raise WorkbookError("nothing varies: give --space FILE, --vary NAME=SPEC, or --seeds N.")
    if not options["cluster"]:
        count = options["workers"] or pool.processors()
        execution.warm_up(options["kernel"], options["cold"], pool.thread_limits(count))
    execution.prepare_environment(options["experiment"], options["system_metrics"], whole=False)
    importlib.import_module("papermill")  # it imports our engine, and must come first
    from Codes.commands import sweep_run

    sys.exit(sweep_run.run(path, found, objectives(found, options["metrics"]), options))


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
