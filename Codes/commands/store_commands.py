"""The part of the `workbook` command that is about what runs need: their store and the warm templates."""

import click

from Codes.forks import channel
from Codes.ground.errors import WorkbookError


@click.command()
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


@click.command()
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


COMMANDS = [store, warm]
