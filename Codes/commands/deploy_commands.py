"""The part of the `workbook` command that brings a version out of the house: as an image, and to where it runs."""

from pathlib import Path
from typing import Any

import click

from Codes.ground.errors import WorkbookError


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


TARGETS = ["sagemaker", "docker"]
target_option = click.option(
    "--target", type=click.Choice(TARGETS), default=TARGETS[0], show_default=True
)
name_option = click.option("--name", required=True, metavar="NAME", help="Of the endpoint.")
config_option = click.option(
    "--config", "file", required=True, metavar="FILE", help="deploy.yaml: region, role, image, …"
)


@click.command()
@click.argument("model")
@target_option
@name_option
@click.option(
    "--config", "file", metavar="FILE", help="For SageMaker, deploy.yaml: region, role, image, …"
)
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="For docker."
)
@click.option("--no-wait", is_flag=True, help="Leave it on its way: `workbook deployments` tells.")
def deploy(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    model: str, target: str, name: str, file: str | None, port: int, no_wait: bool
) -> None:
    """Let MODEL (flights@production or flights/3) answer at the place NAME: make it, or exchange what it serves.

    At SageMaker that is an endpoint; by docker (or podman) a container of this machine, at 127.0.0.1. The same command
    again settles what a killed one has left, and does nothing where all is done.
    """
    from Codes.deployment import config, deployments

    if target == "docker":
        done = deployments.deploy_here(model, name, port, told)
    elif file is None:
        raise WorkbookError(
            "SageMaker needs --config deploy.yaml; Resources/deploy/deploy.yaml shows one."
        )
    else:
        done = deployments.deploy(model, name, config.read(file), told, not no_wait)
    click.echo(f"{done}; {done.address}")


def told(line: str) -> None:
    """Tell a step on stderr."""
    click.echo(line, err=True)


@click.command("deployments")
@click.option("--target", type=click.Choice(TARGETS), default=None)
def deployments_(target: str | None) -> None:
    """List what runs where: which version, since when, by whom, and how it does as its target says now."""
    from Codes.deployment import deployments

    there = deployments.standing(target or "")
    for each in there:
        click.echo(
            f"{each.place:20} {each.target} {each.region or 'here'}  {each.model} version {each.version}  "
            f"since {each.time[:16]} by {each.who} ({each.outcome})  {deployments.state(each)}"
        )
    if not there:
        click.echo(
            "nothing is deployed; do it: workbook deploy flights@production --name flights --config deploy.yaml"
        )


@click.command()
@click.argument("name")
@target_option
@click.option(
    "--file",
    "body",
    required=True,
    type=click.File("rb"),
    metavar="FILE",
    help="A request as JSON.",
)
def ask(name: str, target: str, body: Any) -> None:
    """Ask the deployment NAME for predictions, and print its answer."""
    from Codes.deployment import deployments

    click.echo(deployments.ask(name, target, body.read()).decode("utf-8", "replace"))


@click.command()
@click.argument("name")
@target_option
def undeploy(name: str, target: str) -> None:
    """Remove the deployment NAME, and all that was made for it."""
    from Codes.deployment import deployments

    click.echo(str(deployments.undeploy(name, told, target)))


@click.command()
@click.argument("model")
@click.argument("source", metavar="S3_IN")
@click.argument("goal", metavar="S3_OUT")
@name_option
@config_option
def transform(model: str, source: str, goal: str, name: str, file: str) -> None:
    """Score the CSV files under S3_IN (s3://…) into S3_OUT by MODEL, as a batch transform of SageMaker."""
    from Codes.deployment import config, deployments

    wanted = config.read(file)
    done = deployments.transform(model, name, wanted, source, goal, told)
    click.echo(f"{done}; {done.address}")


COMMANDS = [image, deploy, deployments_, ask, undeploy, transform]
