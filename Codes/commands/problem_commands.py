"""The part of the `workbook` command that is about problems: those there are, and whether one can be trained."""

from typing import Any

import click

from Codes.commands import completion, terminal
from Codes.ground.errors import WorkbookError


@click.command()
@click.argument("name", required=False, shell_complete=completion.problems)
@terminal.json_option
def problems(name: str | None, as_json: bool) -> None:
    """List the problems, or check NAME's file and table.

    \b
    For example:
      workbook problems
      workbook problems flights
    """
    from Codes.problems import problem as problems_

    if name is None:
        listed = [_facts(each) for each in problems_.names()]
        if as_json:
            terminal.say_json(listed)
        else:
            click.echo(_table(listed))
        return
    from Codes.problems import data, overview

    problem = problems_.load(name)
    if as_json:
        columns = overview.columns(data.whole(problem), problem).to_dict("records")
        terminal.say_json(_facts(name) | {"columns": columns})
        return
    for line in overview.report(problem):
        click.echo(terminal.wrapped(line, indent="  "))
    click.echo(f"next: workbook run 01_explore -p problem {name}")


def _facts(name: str) -> dict[str, Any]:
    """Title, task, target and metric of the problem `name`, or what is wrong with its file."""
    from Codes.problems import problem as problems_

    try:
        found = problems_.load(name)
        problems_.require_table(found)
    except WorkbookError as error:
        return {"name": name, "broken": error.message}
    kept = found.model_dump(include={"title", "task", "target"})
    return (
        {"name": name} | kept | {"metric": found.metric.name, "direction": found.metric.direction}
    )


def _table(listed: list[dict[str, Any]]) -> str:
    """A row for each of the `listed` problems, those that are broken at the end."""
    whole = [each for each in listed if "broken" not in each]
    rows = [
        (each["name"], each["task"], each["target"], each["metric"], each["title"])
        for each in whole
    ]
    lines = [terminal.table(rows, ["problem", "task", "target", "metric", "title"])] if rows else []
    lines += [
        terminal.wrapped(
            f"{each['name']} is {terminal.bad('BROKEN')}: {each['broken']}", indent="  "
        )
        for each in listed
        if "broken" in each
    ]
    return "\n".join(lines)
