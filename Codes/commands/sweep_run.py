"""The command `workbook sweep`: makes the plan and the pool of workers, executes, and tells how it ended."""

import re
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from Codes.commands import terminal, ui_command
from Codes.comparison import standings
from Codes.ground import paths
from Codes.ground.errors import WorkbookError, counted
from Codes.runs import ui_links
from Codes.sweeps import search, sweep, sweep_report
from Codes.sweeps.plan import Plan
from Codes.sweeps.progress import Progress
from Codes.sweeps.space import Space
from Codes.trial_workers.pool import Cluster, Local, processors

TRIALS = 20  # where the space has no end
UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


def run(
    path: Path, space: Space, objectives: list[tuple[str, str]], options: dict[str, Any]
) -> int:
    """Sweep the notebook at `path` over `space` with the command's `options`; returns the exit code."""
    plan = planned(path, space, objectives, options)
    progress = Progress(sys.stderr.isatty() and not options["no_progress"])
    if options["cluster"]:
        pool = Cluster(options["cluster"], progress.say)
    else:
        paths.EXECUTED.mkdir(exist_ok=True)
        count = min(options["workers"] or processors(), plan.wanted() * plan.seeds)
        pool = Local(count, paths.EXECUTED / "sweep-workers.log")
    pool.start()
    click.echo(told(plan, pool), err=True)
    try:
        done = sweep.execute(plan, pool, progress)
    except (KeyboardInterrupt, SystemExit) as leaving:
        click.echo(f"interrupted; go on by the same command:\n  {again()}", err=True)
        code = 130 if isinstance(leaving, KeyboardInterrupt) else leaving.code
        return code if isinstance(code, int) else 1
    return summary(done)


def again() -> str:
    """The command as it was typed."""
    return "workbook " + shlex.join(a for a in sys.argv[1:] if a != "--force")


def planned(
    path: Path, space: Space, objectives: list[tuple[str, str]], options: dict[str, Any]
) -> Plan:
    """The Plan; a WorkbookError where options contradict each other."""
    points = space.size()
    small = points is not None and points <= (options["trials"] or TRIALS)
    small = small and not options["storage"]
    sampler = (options["sampler"] or (search.GRID if small else "tpe")).lower()
    if sampler == search.GRID and options["storage"]:
        raise WorkbookError(
            "a grid is no search that could be shared: leave --storage out, or choose --sampler random."
        )
    if options["pruner"] and (options["seeds"] > 1 or len(objectives) > 1):
        raise WorkbookError(
            "--pruner works with one seed and one metric; leave it out, or the others."
        )
    if options["watch"] and not options["pruner"]:
        raise WorkbookError("--watch names what a pruner looks at; give --pruner median, too.")
    search.try_out(sampler, options["pruner"], options["storage"])
    grid = space.grid() if sampler == search.GRID else None
    plan = Plan(
        path,
        space,
        objectives,
        sampler,
        min(options["trials"] or len(grid), len(grid)) if grid else options["trials"] or TRIALS,
        memory=size(options["memory"]),
        limits={
            "execution_timeout": options["cell_timeout"],
            "notebook_timeout": options["timeout"],
        },
        **{
            k: options[k]
            for k in (
                "seeds",
                "pruner",
                "watch",
                "retries",
                "sampler_seed",
                "storage",
                "force",
                "kernel",
            )
        },
    )
    if plan.seeds > 1:
        plan.first_seed()
    return plan


def size(text: str | None) -> float | None:
    """The bytes of a size such as 8GB or 500M; None for no text."""
    if not text:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", text.strip().lower())
    if not match or not float(match[1]):
        raise WorkbookError(f"--memory {text}: write a size such as 8GB or 500MB.")
    return float(match[1]) * UNITS[match[2]]


def told(plan: Plan, pool: Local | Cluster) -> str:
    """What is about to be done, in a line."""
    seeds = f" × {plan.seeds} seeds" if plan.seeds > 1 else ""
    where = f"{pool.capacity()} at once"
    goal = ", ".join(f"{direction} {metric}" for metric, direction in plan.objectives)
    return f"sweep of {plan.path.stem}: {counted(plan.wanted(), 'trial')}{seeds} by {plan.sampler}, {where}, to {goal}"


def summary(done: sweep.Sweep) -> int:
    """Print how the sweep ended; returns the exit code: 1 where trials failed."""
    counts, plan, best = done.counts(), done.plan, done.best()
    known = sum(t.reused for t in done.trials)
    parts = [f"{counts[s]} {s.lower()}" for s in ("FINISHED", "PRUNED", "FAILED") if counts[s]]
    click.echo(
        f"{counted(len(done.trials), 'trial')}: {', '.join(parts)}"
        + (f"; {known} were known already" if known else "")
    )
    if plan.pruner and counts["FINISHED"] and done.longest < 2:
        click.echo(
            f"nothing could be pruned: no trial logged the metric '{plan.watched()}' with steps (--watch METRIC)"
        )
    whys = Counter(
        f["error"]
        for t in done.trials
        for f in t.facts.values()
        if t.state == "FAILED" and f["error"]
    )
    for why, count in whys.most_common(5):
        click.echo(f"  {count} × {why}")
    if best and best.values:
        runs = " ".join(str(f["run_id"]) for f in best.facts.values())
        line = f"best: {plan.scores(best.values)} with {best.typed() or 'the fixed values'} (run {runs})"
        click.echo(terminal.wrapped(line, indent="  "))
    if board := sweep_report.standing(plan, done.trials):
        click.echo(f"\n{board}\n")
        standings.publish(sweep_report.problem_of(plan))
    click.echo(f"sweep: run {done.family.run_id}")
    click.echo("\nLook at it (the trials, leaderboard.html, pictures):  make ui")
    click.echo(ui_command.address(ui_links.place(done.family.parent)))
    return 1 if counts["FAILED"] else 0
