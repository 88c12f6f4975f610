"""The part of the `workbook` command that is about problems: those there are, and whether one can be trained."""

import click

from Codes.ground.errors import WorkbookError


@click.command()
@click.argument("name", required=False)
def problems(name: str | None) -> None:
    """List the prediction problems, or check NAME's file and table before anything runs."""
    from Codes.problems import problem as problems_

    if name is None:
        for each in problems_.names():
            click.echo(f"{each:16} {_line(each)}")
        return
    from Codes.problems import overview

    problem = problems_.load(name)
    for line in overview.report(problem):
        click.echo(line)
    click.echo(f"next: workbook run 01_explore -p problem {name}")


def _line(name: str) -> str:
    """Task, target, metric and title of the problem `name`, or what is wrong with its file."""
    from Codes.problems import problem as problems_

    try:
        found = problems_.load(name)
        problems_.require_table(found)
    except WorkbookError as error:
        return f"BROKEN: {error.message}"
    metric = f"{found.metric.name} ({found.metric.direction})"
    return f"{found.task:15} target {found.target:20} {metric}  {found.title}"
