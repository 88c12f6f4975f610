"""The part of the `workbook` command that is about runs: which there are on a problem, and which to take."""

import json

import click

from Codes.commands import completion


@click.command()
@click.argument("problem", default="flights", shell_complete=completion.problems)
@click.option(
    "--notebook",
    default="",
    metavar="NAME",
    shell_complete=completion.notebooks,
    help="Of this notebook only.",
)
@click.option("--all", "every", is_flag=True, help="All of them, not only the best.")
@click.option("--json", "as_json", is_flag=True, help="For programs: all that is known of them.")
def runs(problem: str, notebook: str, every: bool, as_json: bool) -> None:
    """List the scored runs on PROBLEM, and say which to take.

    The best comes first. ★ is the one to take, · cannot be told from the best; ± is half the 95 % interval, the
    gain is over the baseline on the same rows. Runs that differ in their seed only are one line.

    \b
    For example:
      workbook runs flights
      workbook runs flights --json | jq -r .recommended
    """
    from Codes.problems import problem as problems

    problems.require_table(problems.load(problem))
    from Codes.comparison import leaderboard, standings

    choice = standings.of(problem, notebook)
    if as_json:
        click.echo(json.dumps(leaderboard.as_dict(choice), indent=1, ensure_ascii=False))
    else:
        click.echo(leaderboard.shown(choice, None if every else leaderboard.MOST))


COMMANDS = [runs]
