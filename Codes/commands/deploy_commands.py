"""The part of the `workbook` command that brings a version out of the house: as an image, and to where it runs."""

import shlex
from dataclasses import asdict
from typing import Any

import click

from Codes.commands import completion, terminal
from Codes.deployment import DOCKER, ENGINES, SAGEMAKER, TARGETS
from Codes.ground.errors import WorkbookError


@click.command()
@click.argument("model", shell_complete=completion.versions)
@click.option(
    "--context",
    "folder",
    metavar="DIR",
    help="Only write the build context into this new folder, for any builder.",
)
@click.option(
    "--base",
    metavar="IMAGE",
    help="What it is built on; default: the slim image of this Python. By its digest the image is the same each time.",
)
@click.option(
    "--engine",
    "name",
    type=click.Choice(ENGINES),
    help="Default: the first that answers.",
)
def image(model: str, folder: str | None, base: str | None, name: str | None) -> None:
    """Make an image that serves MODEL and holds all it needs.

    MODEL is flights@production or flights/3. Where no engine is, its build context is written instead.

    \b
    For example:
      workbook image flights@production
      workbook image flights@production --context built
    """
    from Codes.deployment import building, context

    only = folder is not None
    if only and name:
        raise WorkbookError("--context only writes the folder: leave --engine out.")
    engine = None if only else building.engine(name or "")
    made = context.make(model, folder, base)
    click.echo(f"{made.version}: the build context is {made.folder} (digest {made.digest})")
    if engine:
        click.echo(f"{made.tag} is built by {engine.name}: {engine.build(made)}")
        return
    if not only:
        click.echo("no docker, podman or buildah answers here; build it elsewhere:", err=True)
    click.echo(f"next: docker build -t {made.tag} {shlex.quote(str(made.folder))}")


target_option = click.option(
    "--target",
    type=click.Choice(TARGETS),
    default=SAGEMAKER,
    show_default=True,
    help="Where it runs.",
)
name_option = click.option(
    "--name", required=True, metavar="NAME", help="Of the endpoint, or container."
)
region_option = click.option(
    "--region", default="", metavar="REGION", help="Where NAME is in several of AWS' regions."
)
config_option = click.option(
    "--config", "file", required=True, metavar="FILE", help="deploy.yaml: region, role, image, …"
)


@click.command()
@click.argument("model", shell_complete=completion.versions)
@target_option
@name_option
@click.option(
    "--config", "file", metavar="FILE", help="For SageMaker, deploy.yaml: region, role, image, …"
)
@click.option("--port", type=click.IntRange(1, 65535), show_default="8080", help="For docker.")
@click.option("--no-wait", is_flag=True, help="Leave it on its way: `workbook deployments` tells.")
@click.option("--follow", is_flag=True, help="Stay, and do it again whenever the alias has moved.")
@click.option(
    "--every",
    show_default="30",
    type=terminal.Amount(0, 86400, min_open=True),
    metavar="SECONDS",
    help="Between two looks of --follow.",
)
def deploy(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    model: str,
    target: str,
    name: str,
    file: str | None,
    port: int | None,
    no_wait: bool,
    follow: bool,
    every: float | None,
) -> None:
    """Let MODEL answer at SageMaker, or in a container here.

    What NAME names is made, or gets MODEL (flights@production or flights/3) in exchange. At SageMaker that is
    an endpoint; by docker (or podman) a container of this machine, at 127.0.0.1. The same command again settles
    what a killed one has left, and does nothing where all is done. With --follow it stays: a promotion brings
    the new version there, a rollback the earlier one.

    \b
    For example:
      workbook deploy flights@production --name flights --config deploy.yaml
      workbook deploy flights@production --name flights --target docker --follow
    """
    from Codes.deployment import config, deployments

    def once() -> None:
        if target == DOCKER:
            done = deployments.deploy_here(model, name, port or 8080, told)
        else:
            done = deployments.deploy(model, name, config.read(file or ""), told, not no_wait)
        click.echo(f"{done}; {done.address}")

    for option, given, of in (
        ("--config", file is not None, SAGEMAKER),
        ("--no-wait", no_wait, SAGEMAKER),
        ("--port", port is not None, DOCKER),
    ):
        if given and target != of:
            raise WorkbookError(f"{option} is for --target {of}: leave it out.")
    if every is not None and not follow:
        raise WorkbookError("--every is for --follow: leave it out.")
    if target == SAGEMAKER and file is None:
        raise WorkbookError(
            "SageMaker needs --config deploy.yaml; Resources/deploy/deploy.yaml shows one."
        )
    if not follow:
        once()
        return
    wanted = config.read(file or "") if target == SAGEMAKER else None
    if wanted and "{version}" not in wanted.image:
        raise WorkbookError(
            f"{file}: to follow an alias, its image needs {{version}} where the number stands in its tag."
        )
    deployments.check_target(model, name, wanted.region if wanted else "")
    deployments.follow(model, once, every or 30.0, told)


def told(line: str) -> None:
    """Tell a step on stderr."""
    click.echo(line, err=True)


@click.command("deployments")
@click.option("--target", type=click.Choice(TARGETS), help="Only what runs there.")
@terminal.json_option
def deployments_(target: str | None, as_json: bool) -> None:
    """List which version runs where, and how it does.

    Since when, by whom, and what its target says now.

    \b
    For example:
      workbook deployments
    """
    from Codes.deployment import deployments

    there = deployments.standing(target or "")
    if as_json:
        terminal.say_json([asdict(each) | {"state": deployments.state(each)} for each in there])
        return
    rows = [
        (
            each.place,
            f"{each.target} {each.region or 'here'}",
            f"{each.model} version {each.version}  since {each.time[:16]} by {each.who} ({each.outcome})  "
            f"{deployments.state(each)}",
        )
        for each in there
    ]
    if rows:
        click.echo(terminal.table(rows))
        return
    how = f"--target {DOCKER}" if target == DOCKER else "--config deploy.yaml"
    click.echo("nothing is deployed; do it:")
    click.echo(f"  workbook deploy flights@production --name flights {how}")


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
@region_option
def ask(name: str, target: str, body: Any, region: str) -> None:
    """Ask the deployment NAME for predictions.

    \b
    For example:
      workbook ask flights --file Resources/requests/flights_split.json
    """
    from Codes.deployment import deployments

    click.echo(deployments.ask(name, target, body.read(), region).decode("utf-8", "replace"))


@click.command()
@click.argument("name")
@target_option
@region_option
def undeploy(name: str, target: str, region: str) -> None:
    """Remove the deployment NAME, and all made for it.

    \b
    For example:
      workbook undeploy flights
    """
    from Codes.deployment import deployments

    click.echo(str(deployments.undeploy(name, told, target, region)))


@click.command()
@click.argument("model", shell_complete=completion.versions)
@click.argument("source", metavar="S3_IN")
@click.argument("goal", metavar="S3_OUT")
@name_option
@config_option
@click.option("--no-wait", is_flag=True, help="Leave the job on its way.")
def transform(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    model: str, source: str, goal: str, name: str, file: str, no_wait: bool
) -> None:
    """Score CSV files on S3 by a batch transform of SageMaker.

    Those under S3_IN (s3://…) into S3_OUT.

    \b
    For example:
      workbook transform flights@production s3://b/in s3://b/out --name flights \\
          --config deploy.yaml
    """
    from Codes.deployment import config, deployments

    for each in (source, goal):
        config.check_bucket(each)
    wanted = config.read(file)
    done = deployments.transform(model, name, wanted, source, goal, told, not no_wait)
    click.echo(f"{done}; {done.address}")


COMMANDS = [image, deploy, deployments_, ask, undeploy, transform]
