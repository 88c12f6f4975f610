"""The part of the `workbook` command that brings a version out of the house: as an image, and to where it runs."""

from pathlib import Path

import click


@click.command()
@click.argument("model")
@click.option(
    "--context",
    "folder",
    metavar="DIR",
    help="Only write the build context into this new folder, for any builder.",
)
@click.option(
    "--base",
    default="",
    metavar="IMAGE",
    help="What it is built on; default: the slim image of this Python. By its digest the image is the same each time.",
)
@click.option(
    "--engine",
    "name",
    type=click.Choice(["docker", "podman", "buildah"]),
    help="Default: the first that answers.",
)
def image(model: str, folder: str | None, base: str, name: str | None) -> None:
    """Make an image of MODEL (flights@production or flights/3), which serves that version and holds all it needs.

    Where no engine is, its build context is written instead.
    """
    from Codes.deployment import building, context
    from Codes.ground import paths

    engine = None if folder else building.engine(name or "")
    where = Path(folder) if folder else context.fresh(paths.EXECUTED / "images", model)
    made = context.make(model, where, base)
    click.echo(f"{made.version}: the build context is {where} (digest {made.digest})")
    if engine:
        click.echo(f"{made.tag} is built by {engine.name}: {engine.build(made)}")
        return
    if not folder:
        click.echo("no docker, podman or buildah answers here; build it elsewhere:", err=True)
    click.echo(f"next: docker build -t {made.tag} {where}")


COMMANDS = [image]
