"""The part of the `workbook` command that is about a model in use: watched, replayed."""

import re
import sys
from pathlib import Path
from typing import Any

import click

from Codes.commands import completion, terminal
from Codes.ground.errors import WorkbookError, counted


@click.command()
@click.argument("model", default="flights", shell_complete=completion.versions)
@click.option(
    "--window",
    "period",
    default="",
    metavar="PERIOD",
    help="Of these windows only: 2013-04, 2013-04-15.",
)
@click.option(
    "--table", metavar="FILE", help="The rows to watch; default: what came after the training."
)
@click.option(
    "--captured", is_flag=True, help="Watch the requests that `workbook serve` has captured."
)
@click.option(
    "--folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Of what is captured, as `workbook serve --folder` has it.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs: all that was found.")
@click.option(
    "--calibrate",
    is_flag=True,
    help="Measure how often quiet windows alarm, and which shifts are found.",
)
def monitor(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
    model: str,
    period: str,
    table: str | None,
    captured: bool,
    folder: Path | None,
    as_json: bool,
    calibrate: bool,
) -> None:
    """Watch a MODEL in use, window by window.

    MODEL is flights (what is in production) or flights/3. Each window is one MLflow run in the experiment
    PROBLEM-monitoring; the same again is the same run. The exit status is the gravest of the windows of which
    there is news: 0 quiet, 10 drift, 11 harm, 12 contract broken, 13 pending (the truth has not come). What
    alarms, and how often by mistake, the problem's file says (monitoring:).

    \b
    For example:
      workbook monitor flights
      workbook monitor flights --window 2013-12 --json
    """
    from Codes.drift import judge
    from Codes.monitoring import monitor as monitoring, record

    if calibrate:
        if period or table or captured or folder or as_json:
            raise WorkbookError("--calibrate goes alone: it looks at the reference only")
        measured, run_id = monitoring.calibrate(model)
        click.echo(f"{measured.text()}\n")
        click.echo(terminal.wrapped(f"{measured.sentence()} (run {run_id})", indent="  "))
        return
    done = monitoring.monitor(
        model, period, table, folder or captured, lambda text: click.echo(text, err=True)
    )
    status = monitoring.status(done, period)
    if failed := monitoring.tell(done):
        click.echo(f"Note: {failed}", err=True)
    told = done.kept if period else done.told
    if as_json:
        terminal.say_json(
            {
                "version": f"{done.version.name}/{done.version.number}",
                "status": status,
                "notes": done.notes,
                "windows": record.as_dict(told),
            }
        )
    else:
        for note in done.notes:
            click.echo(f"Note: {note}", err=True)
        for sentence in record.sentences(told):
            click.echo(terminal.wrapped(sentence, indent="  "))
        click.echo(
            f"{done.version}: {status} ({counted(len(done.kept), 'window')}, {done.seconds:.0f} s)"
        )
    if status == "harm":
        _acted(model, done.profile.reference.problem.monitoring.on_alarm)
    sys.exit(judge.EXIT[status])


def _acted(model: str, on_alarm: str) -> None:
    """Do what the problem's file asks for where there is harm; what comes of it is told beside the verdict."""
    if on_alarm == "inform":
        return
    from Codes.retraining import retrain as retraining

    try:
        done = retraining.retrain(
            model,
            to_production=on_alarm == "production",
            say=lambda text: click.echo(text, err=True),
        )
    except (
        WorkbookError
    ) as error:  # the gate refused, or there is nothing to train on: the verdict stands
        click.echo(f"Note: {error.message}", err=True)
        return
    where = f"is in {'production' if done.is_live else 'staging'}: " if done.version else ""
    click.echo(f"{done.version or ''} {where}{done.why}".strip(), err=True)


@click.command()
@click.argument("problem", default="flights", shell_complete=completion.problems)
@click.option("--model", default="hgb", show_default=True, metavar="NAME", help="Which is trained.")
@click.option(
    "--rows",
    default=20_000,
    show_default=True,
    type=click.IntRange(min=0),
    help="To train on at most; 0: all.",
)
@click.option(
    "--delay", default="0d", show_default=True, metavar="DAYS", help="Until a truth is known: 30d."
)
@click.option(
    "--first", default="91d", show_default=True, metavar="DAYS", help="Before the replay begins."
)
@click.option(
    "--sliding", default="", metavar="DAYS", help="Train on the last so many days; default: on all."
)
@click.option(
    "--price",
    default=0.001,
    show_default=True,
    type=terminal.Amount(min=0),
    help="Of a training, in one window's loss.",
)
def backtest(problem: str, **options: Any) -> None:
    """Replay PROBLEM's history: would training again have paid?

    Never train again, every window, by drift, by harm, at best in hindsight. Says which policy would have paid,
    by a paired bootstrap over the windows; the course is an MLflow run.

    \b
    For example:
      workbook backtest flights --delay 30d
    """
    for name in ("delay", "first", "sliding"):
        if options[name] and not re.fullmatch(r"\d{1,4}d", options[name]):
            raise WorkbookError(f"--{name} {options[name]}: days are written as 30d")
    from Codes.problems import problem as problems_

    asked = problems_.load(problem)
    problems_.require_table(asked)
    from Codes.monitoring import backtest as backtests, record
    from Codes.runs import tracking

    tracking.use_store()
    replayed = backtests.replay(asked, **options, say=lambda text: click.echo(text, err=True))
    run_id = record.keep_backtest(replayed, {"problem": problem, **options})
    click.echo(replayed.table.to_string(index=False, float_format=lambda v: f"{v:.4f}"))
    click.echo(terminal.wrapped(f"{replayed.sentence()} (run {run_id})", indent="  "))


@click.command()
@click.argument("model", default="flights", shell_complete=completion.versions)
@click.option(
    "--as-of",
    "day",
    default="",
    metavar="DAY",
    help="Default: the end of the last window that is over.",
)
@click.option(
    "--when",
    type=click.Choice(["policy", "now"]),
    default="policy",
    show_default=True,
    help="policy: only where the watch finds harm.",
)
@click.option(
    "--window",
    default="expanding",
    show_default=True,
    metavar="ROWS",
    help="To train on: all before (expanding), or the last days (sliding:90d).",
)
@click.option(
    "--production", is_flag=True, help="Then through the gate; default: it stays in staging."
)
def retrain(model: str, day: str, when: str, window: str, production: bool) -> None:
    """Train MODEL again on the rows up to a day.

    As its version in production was trained; the new one is put into staging. The last `monitoring: recent`
    days before it test the new version (and the gate compares both on them), as many before these validate it.
    The same command again trains nothing.

    \b
    For example:
      workbook retrain flights
      workbook retrain flights --when now --production
    """
    from Codes.model_registry import promotion
    from Codes.retraining import retrain as retraining

    try:
        done = retraining.retrain(
            model,
            day=day,
            by_policy=when == "policy",
            to_production=production,
            window=window,
            say=lambda text: click.echo(text, err=True),
        )
    except promotion.Refused as refused:
        click.echo(refused.report.summary())
        raise
    if done.version is None:
        click.echo(done.why)
        return
    click.echo(f"{done.version} is in {'production' if done.is_live else 'staging'}: {done.why}")


COMMANDS = [monitor, backtest, retrain]
