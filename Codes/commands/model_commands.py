"""The part of the `workbook` command that is about models: from the best run to production, and back."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from Codes.commands import completion, terminal
from Codes.ground.errors import WorkbookError

if TYPE_CHECKING:  # their import takes seconds, which the command that needs them pays
    from Codes.gate.report import Report

contract_option = click.option(
    "--contract",
    is_flag=False,
    flag_value="",
    metavar="[PROBLEM]",
    help="Hold each row against the contract of a problem (a name, or its .yaml file); alone, as the last word: of "
    "the model's own.",
)
REJECTED = 3  # the exit status of a scoring that is whole, but for rows that it rejected


@click.command()
@click.argument("run", required=False, shell_complete=completion.runs)
@click.option(
    "--best",
    metavar="SWEEP",
    shell_complete=completion.runs,
    help="The best trial of the sweep with this run id.",
)
@click.option(
    "--problem",
    metavar="NAME",
    default="flights",
    show_default=True,
    shell_complete=completion.problems,
    help="Without RUN: of this problem the run that 03_compare recommends.",
)
@click.option(
    "--name", default="", metavar="NAME", help="The model's name; default: the problem's."
)
@click.option(
    "--trust",
    multiple=True,
    metavar="TYPE",
    help="A type of a third-party package in the model's file that you vouch for.",
)
def register(
    run: str | None, best: str | None, problem: str, name: str, trust: tuple[str, ...]
) -> None:
    """Make the model of RUN a version in the registry.

    RUN is an id; without it the run that is recommended is taken. The version gets a model card.

    \b
    For example:
      workbook register
      workbook register --problem diabetes
    """
    if run and best:
        raise WorkbookError("give RUN or --best SWEEP, not both.")
    from Codes.model_registry import promotion
    from Codes.monitoring import kept_reference

    given = promotion.source(run or best or recommended(problem))[0].info.run_id
    version, why = kept_reference.register(given, name, trust)
    click.echo(terminal.wrapped(promotion.news(version, given), indent="  "))
    if why:
        click.echo(f"Note: {why}", err=True)
    click.echo(promotion.next_step(version))


def recommended(problem: str) -> str:
    """The id of the run on `problem` that is recommended; prints the table that says why."""
    from Codes.comparison import leaderboard, standings
    from Codes.model_registry import promotion

    choice = standings.of(problem)
    click.echo(
        f"{leaderboard.text(choice)}\n" if choice.contestants else "", nl=bool(choice.contestants)
    )
    return promotion.best_run(problem, choice=choice)


@click.command()
@click.argument("name", shell_complete=completion.models)
@click.argument("alias", metavar="staging|production", shell_complete=completion.stages)
@click.option(
    "--version",
    "number",
    type=click.IntRange(min=1),
    metavar="N",
    help="Default: for production what is in staging; else the newest that no gate has refused.",
)
@click.option("--why", default="", metavar="TEXT", help="Kept in the history.")
@click.option(
    "--override",
    default="",
    metavar="REASON",
    help="Promote although the gate refuses; kept as well.",
)
def promote(name: str, alias: str, number: int | None, why: str, override: str) -> None:
    """Put a version into staging, or by the gate into production.

    NAME is the model's.

    \b
    For example:
      workbook promote flights staging
      workbook promote flights production --version 2
    """
    from Codes.model_registry import stages

    stages.check_alias(alias)  # before the seconds that the next import takes
    from Codes.model_registry import promotion

    if number is None:
        chosen, why_it = promotion.candidate(name, alias)
        number = chosen.number
        click.echo(terminal.wrapped(f"{chosen}: {why_it}", indent="  "), err=True)
    if told := promotion.already(name, alias, number):
        click.echo(told)
        return
    if alias == "production":
        click.echo("at the gate: test rows, slices, a clean process (half a minute)", err=True)
    try:
        version, report = promotion.promote(name, alias, number, override, why)
    except promotion.Refused as refused:
        click.echo(in_lines(refused.report))
        raise
    if report is not None:
        click.echo(in_lines(report))
    passed = report is None or report.passed
    told = "there was nothing to override" if passed else f"overridden: {override}"
    click.echo(f"{version} is in {alias}{f' ({told})' if override else ''}")


@click.command()
@click.argument("name", shell_complete=completion.models)
@click.option(
    "--to",
    "number",
    type=click.IntRange(min=1),
    metavar="N",
    help="Default: what was there before.",
)
@click.option("--why", default="", metavar="TEXT", help="Kept in the history.")
def rollback(name: str, number: int | None, why: str) -> None:
    """Put back what was in production before.

    NAME is the model's.

    \b
    For example:
      workbook rollback flights --why "too many false alarms"
    """
    from Codes.model_registry import promotion

    before, after = promotion.rollback(name, number, why)
    click.echo(f"{name}: production is version {after} again, instead of {before}")


@click.command()
@click.argument("name", required=False, shell_complete=completion.models)
@terminal.json_option
def models(name: str | None, as_json: bool) -> None:
    """List the registered models, or the versions of NAME.

    \b
    For example:
      workbook models
      workbook models flights
    """
    from Codes.model_registry import registry

    if name:
        from Codes.model_registry import promotion

        registry.model(name)  # or one line says that there is none
        versions = promotion.story(name)[0].to_dict("records")
        if as_json:
            terminal.say_json({"name": name, "versions": versions})
        else:
            rows = [
                (v["version"], v["aliases"] or v["stage"], v["gate"], v["run"]) for v in versions
            ]
            click.echo(terminal.table(rows, ["version", "stage", "gate", "run"]))
        return
    there = []
    for each in registry.names():
        registry.settled(each)  # says what others have moved
        count = len(registry.versions(each))
        there.append((each, count, registry.aliases(each)))
    if as_json:
        terminal.say_json([dict(zip(("name", "versions", "aliases"), each)) for each in there])
    elif there:
        click.echo(terminal.table([_pointed(*each) for each in there], ["model", "versions", ""]))
    else:
        click.echo("no model is registered; make one: workbook register")


def _pointed(name: str, versions: int, aliases: dict[str, int]) -> tuple[str, int, str]:
    """The cells of a model's line: what its aliases point at is the last one."""
    told = (f"{alias}: version {number}" for alias, number in aliases.items())
    return name, versions, ", ".join(told)


@click.command()
@click.argument("name", shell_complete=completion.models)
@terminal.json_option
def history(name: str, as_json: bool) -> None:
    """Print who moved which version of NAME, when and why.

    And what the gate said, and what was deployed.

    \b
    For example:
      workbook history flights
    """
    from Codes.deployment import deployments
    from Codes.model_registry import registry

    moves = registry.settled(name)
    if as_json:
        done = [asdict(each) for each in deployments.of(name)]
        terminal.say_json({"moves": [asdict(each) for each in moves], "deployments": done})
        return
    for move in moves:
        step = f"{move.before or 'nothing'} → {move.after or 'nothing'}"
        outcome, _, why_not = move.outcome.partition(": ")
        line = f"{move.time[:19]}  {move.who}  {move.kind} {move.alias} {step}: {outcome}"
        click.echo(terminal.wrapped(line, indent="    "))
        notes = {
            "why": move.why,
            "overridden": move.override,
            "gate": move.gate and f"run {move.gate}",
        }
        for what, told in notes.items():
            if told:
                click.echo(terminal.wrapped(f"    {what}: {told}", indent="      "))
        for told in why_not.split("; ") if why_not else ():
            click.echo(terminal.wrapped(f"    {told}", indent="      "))
    for each in deployments.of(name):
        click.echo(terminal.wrapped(f"{each.time[:19]}  {each.who}  {each}", indent="    "))
    if not moves:
        click.echo(f"{name} was never promoted; do it: workbook promote {name} staging")


# an image gives the options as WORKBOOK_SERVE_PORT and the like
@click.command(context_settings={"auto_envvar_prefix": "WORKBOOK_SERVE"})
@click.argument("model", envvar="WORKBOOK_SERVE_MODEL", shell_complete=completion.versions)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port", default=5001, show_default=True, type=click.IntRange(0, 65535), help="0: a free one."
)
@click.option(
    "--allowed-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="By which clients may call it, beside localhost and addresses such as 10.0.0.7; * for any.",
)
@click.option(
    "--capture",
    "share",
    default=1.0,
    show_default=True,
    type=terminal.Amount(0, 1),
    metavar="SHARE",
    help="Of the requests that are kept for monitoring.",
)
@click.option("--folder", metavar="DIR", help="Of what is captured; default: executed/served.")
@click.option("--private", multiple=True, metavar="COLUMN", help="A column that is never captured.")
@click.option(
    "--max-rows",
    default=10_000,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Of a request.",
)
@click.option(
    "--max-mb",
    default=16.0,
    show_default=True,
    type=terminal.Amount(min=0.001),
    metavar="MB",
    help="Of a request.",
)
@click.option(
    "--max-seconds",
    default=30.0,
    show_default=True,
    type=terminal.Amount(min=0.1),
    metavar="S",
    help="Until a request is given up.",
)
@click.option("--allow-unknown", is_flag=True, help="Take categories that training never saw.")
@click.option(
    "--onnx", is_flag=True, help="Answer by ONNX Runtime where the model has such a form."
)
@contract_option
def serve(
    model: str,
    max_rows: int,
    max_mb: float,
    max_seconds: float,
    folder: str | None,
    **options: Any,
) -> None:
    """Serve MODEL by MLflow's protocol.

    MODEL is flights@production, which is followed, or flights/3. It may be the folder of one version, too, as
    `workbook image` makes it for a container. Each option may be given as a variable, such as
    WORKBOOK_SERVE_PORT.

    It answers at /invocations, /ping, /version, /metrics (Prometheus) and describes itself at /openapi.json.

    \b
    For example:
      workbook serve flights@production --port 5001
    """
    from Codes.serving import server

    limits = server.Limits(body=int(max_mb * 2**20), rows=max_rows, predict_seconds=max_seconds)
    options |= {"folder": folder} if folder else {}
    server.serve(model, limits=limits, **options)


@click.command()
@click.argument("model", shell_complete=completion.versions)
@click.argument("table", metavar="TABLE", shell_complete=completion.files)
@click.argument("out", metavar="OUT", shell_complete=completion.files)
@click.option(
    "--batch-rows",
    default=50_000,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Read and scored at once.",
)
@click.option("--force", is_flag=True, help="Score again, and replace OUT.")
@click.option("--allow-unknown", is_flag=True, help="Take categories that training never saw.")
@click.option(
    "--cluster",
    metavar="ADDRESS",
    help="A Dask scheduler, tcp://HOST:8786, instead of this machine.",
)
@contract_option
@click.option("--no-progress", is_flag=True, help="No progress bar.")
def score(model: str, table: str, out: str, no_progress: bool, **options: Any) -> None:
    """Score each row of TABLE by MODEL into OUT.

    TABLE and OUT are .csv or .parquet, MODEL is flights@production or flights/3. Rows that cannot be scored go
    to a file beside OUT, with the reason, and the exit status is 3 then; the same command again goes on where
    it was.

    \b
    For example:
      workbook score flights@production table.parquet scored.parquet
    """
    from Codes.model_registry import registry
    from Codes.scoring.job import check_files, score as score_table

    version = registry.find(model)
    check_files(table, out)
    options["progress"] = not no_progress
    try:
        done = score_table(version, registry.load(version), table, out, say=click.echo, **options)
    except KeyboardInterrupt:  # told already
        sys.exit(130)
    sys.exit(REJECTED if done.rejected else 0)


def in_lines(report: "Report") -> str:
    """A gate.Report for a terminal: what each check found, and the notes."""
    lines = [
        (terminal.good("✓") if c.passed else terminal.bad("✗"), f"{c.name}: {c.found}")
        for c in report.checks
    ]
    notes = [terminal.wrapped(note.replace("**", "")) for note in report.notes]
    return "\n".join([terminal.table(lines), *notes])


COMMANDS = [register, promote, rollback, models, history, serve, score]
