"""Which version runs where: each deployment is written down at its registered model, and a killed one is settled."""

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from Codes.deployment import DOCKER, SAGEMAKER
from Codes.deployment.config import OURS, Config
from Codes.deployment.sagemaker import SageMaker, check_name
from Codes.ground.errors import WorkbookError, first_line
from Codes.model_registry import registry
from Codes.model_registry.registry import BEGUN, DONE, Version
from Codes.runs import identity

if TYPE_CHECKING:
    from Codes.deployment.container import Container

TAG = "mlflow.workbook.deployment."  # + a time and a random ending; on the registered model
Tell = Callable[[str], None]
FAILED, LATER = "failed: ", "; later "
SENT = "sent, and not waited for"
RAREST = 3600.0  # seconds between two tries of what is refused again and again
INTERRUPTED = "interrupted; the next command has settled it"


@dataclass(frozen=True)
class Deployment:  # pylint: disable=too-many-instance-attributes
    """What one command did: `kind` (deploy, undeploy, transform), the `version` of `model` at `place` of `target`."""

    key: str
    time: str
    who: str
    kind: str
    target: str
    place: str
    region: str
    model: str
    version: int
    run: str
    image: str = ""
    address: str = ""
    outcome: str = BEGUN

    def __str__(self) -> str:
        return f"{self.kind} {self.place} at {self.target}: version {self.version}: {self.outcome}"


def of(model: str) -> list[Deployment]:
    """All of the registered `model`, the oldest first."""
    tags = registry.model(model).tags
    found = [Deployment(key=k, **json.loads(v)) for k, v in tags.items() if k.startswith(TAG)]
    return sorted(found, key=lambda each: (each.time, each.key))


def standing(target: str = "") -> list[Deployment]:
    """The last of each place that a deployment has reached or may have reached, at the `target` or at any.

    What was there before a deployment failed is there still: the failure stands beside its outcome.
    """
    last: dict[tuple[str, str, str], Deployment] = {}
    everything = [
        each for name in registry.names() for each in of(name) if each.kind != "transform"
    ]
    for each in sorted(everything, key=lambda d: (d.time, d.key)):
        if not target or each.target == target:
            where = each.target, each.region, each.place
            before = last.get(where)
            if before and each.outcome.startswith(FAILED) and not before.outcome.startswith(FAILED):
                told = f"{before.outcome.partition(LATER)[0]}{LATER}version {each.version} {each.outcome}"
                each = replace(before, outcome=told)
            last[where] = each
    return [
        each
        for each in last.values()
        if not (each.kind == "undeploy" and each.outcome.partition(LATER)[0] == DONE)
    ]


def named(place: str, target: str, region: str = "") -> Deployment:
    """What stands at the `place`, in the `region` where it is in several; a WorkbookError lists what there is."""
    there = standing()
    found = [
        each
        for each in there
        if (each.place, each.target) == (place, target) and region in ("", each.region)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        regions = ", ".join(each.region for each in found)
        raise WorkbookError(
            f"{place} is deployed in several regions ({regions}): choose one by --region."
        )
    names = ", ".join(
        sorted(f"{each.place} ({each.target} {each.region or 'here'})" for each in there)
    )
    told = f"there are: {names}" if names else "workbook deploy makes one"
    where = f"{target} {region}".strip()
    raise WorkbookError(f"there is no deployment '{place}' at {where}; {told}.")


def state(each: Deployment) -> str:
    """How the place does, as its target says it now."""
    try:
        if each.target == DOCKER:
            return _engine().state(each.place)
        found = sagemaker(each.region).describe(each.place)
    except WorkbookError as error:
        return f"not known: {error.message}"
    return found["EndpointStatus"] if found else "gone"


def ask(name: str, target: str, body: bytes, region: str = "") -> bytes:
    """The answer to a request (JSON) of what stands at the place `name`."""
    there = named(name, target, region)
    if target == DOCKER:
        from Codes.deployment import container

        return container.ask(there.address, body)
    return sagemaker(there.region).ask(name, body)


def deploy(spec: str, name: str, config: Config, tell: Tell, wait: bool = True) -> Deployment:
    """Let the endpoint `name` at SageMaker serve the version `spec`, and write that down."""
    version, place = _checked(spec, name), sagemaker(config.region)
    config = _with_its_image(version, config)

    def do(begun: Deployment) -> Deployment:
        address = place.deploy(name, version, config, _tags(name, version), tell, wait)
        return replace(begun, address=address, outcome=DONE if wait else SENT)

    return _recorded(_begun("deploy", SAGEMAKER, name, version, config.region, config.image), do)


def check_target(spec: str, name: str, region: str = "") -> None:
    """Refuse what no waiting mends: words that name nothing, what is not installed; a `region` is SageMaker's."""
    check_name(name)
    registry.find(spec)
    _ = sagemaker(region) if region else _engine()


def follow(spec: str, deploy_once: Callable[[], object], every: float, tell: Tell) -> NoReturn:
    """Deploy now, and each time that the alias of `spec` (flights@production) has moved: promoted, or rolled back.

    Args:
        deploy_once: deploys what the alias names; what it refuses is told, and tried again, less and less often.
        every: seconds between two looks.
    """
    if "@" not in spec:
        raise WorkbookError(
            f"{spec} is one version for good; an alias moves: {spec.partition('/')[0]}@production."
        )
    served, pause = 0, every
    while True:
        try:
            if (number := registry.find(spec).number) != served:
                deploy_once()
                served, pause = number, every
        except (WorkbookError, MlflowException) as error:  # what is away comes back
            pause = min(2 * pause, max(every, RAREST))
            tell(f"{first_line(error).rstrip('.')}; again in {pause:g} s.")
        time.sleep(pause)


def deploy_here(spec: str, name: str, port: int, tell: Tell) -> Deployment:
    """Let a container `name` of this machine's engine serve the version `spec` at the `port`, and write that down."""
    version, place = _checked(spec, name), _engine()

    def do(begun: Deployment) -> Deployment:
        image, address = place.deploy(name, f"{version.name}/{version.number}", port, tell)
        return replace(begun, image=image, address=address, outcome=DONE)

    return _recorded(_begun("deploy", DOCKER, name, version), do)


def transform(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    spec: str, name: str, config: Config, source: str, target: str, tell: Tell, wait: bool = True
) -> Deployment:
    """Score what lies under `source` (s3://…) into `target` by the version `spec`, and write that down."""
    version, place = _checked(spec, name), sagemaker(config.region)
    config = _with_its_image(version, config)

    def do(begun: Deployment) -> Deployment:
        tags = _tags(name, version)
        job = place.transform(name, version, config, source, target, tags, tell, wait)
        return replace(begun, address=job, outcome=DONE if wait else SENT)

    return _recorded(_begun("transform", SAGEMAKER, name, version, config.region, config.image), do)


def undeploy(name: str, tell: Tell, target: str = SAGEMAKER, region: str = "") -> Deployment:
    """Remove what stands at the place `name`, and write that down."""
    there = named(name, target, region)  # whose version may be gone

    def do(begun: Deployment) -> Deployment:
        if target == DOCKER:
            _engine().delete(name, tell)
        else:
            sagemaker(there.region).delete(name, tell)
        return replace(begun, outcome=DONE)

    return _recorded(_again(replace(there, kind="undeploy", outcome=BEGUN)), do)


@cache
def sagemaker(region: str) -> SageMaker:
    """That of the `region`: its client takes a second to be made."""
    return SageMaker(region)


def _engine() -> "Container":
    from Codes.deployment import container  # pandas: a second that no history needs

    return container.Container()


def _checked(spec: str, name: str) -> Version:
    """The version `spec`, which loads here: what does not leaves no house; refuses a wrong `name` of its place."""
    check_name(name)
    version = registry.find(spec)
    registry.load(version)
    return version


def _with_its_image(version: Version, config: Config) -> Config:
    """The `config` with the image of the `version`; refused where that image serves as another one."""
    config = config.of(version.number)
    for each in standing(SAGEMAKER):
        if (
            each.model == version.name
            and each.image == config.image
            and each.version != version.number
        ):
            raise WorkbookError(
                f"{config.image} serves at {each.place} as version {each.version}: name the image of version "
                f"{version.number}, or write {{version}} where the number stands in its tag."
            )
    return config


def _tags(name: str, version: Version) -> dict[str, str]:
    """The tags on AWS of all that is made for the deployment `name`."""
    from Codes.deployment import context  # scikit-learn: a second that no history needs

    facts = {
        "deployment": name,
        "model": version.name,
        "version": str(version.number),
        "run": version.run_id,
        "commit": context.commit(version),
    }
    return {f"{OURS}{key}": value for key, value in facts.items() if value}


def _begun(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    kind: str, target: str, name: str, version: Version, region: str = "", image: str = ""
) -> Deployment:
    """A Deployment of the `version` that begins now."""
    facts = kind, target, name, region, version.name, version.number, version.run_id, image
    return _again(Deployment("", "", "", *facts))


def _again(each: Deployment) -> Deployment:
    """The same, as it begins now."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    key = f"{TAG}{now[:19]}-{secrets.token_hex(4)}".replace(":", "")
    return replace(each, key=key, time=now, who=identity.user())


def _recorded(begun: Deployment, do: Callable[[Deployment], Deployment]) -> Deployment:
    """Do it between two entries: that it has begun, and how it ended. Those of killed commands are ended first."""
    where = begun.target, begun.region, begun.place
    for each in of(begun.model):
        if (each.target, each.region, each.place) == where and each.outcome == BEGUN:
            _write(replace(each, outcome=INTERRUPTED))
    _write(begun)
    try:
        ended = do(begun)
    except Exception as error:
        _write(replace(begun, outcome=f"{FAILED}{first_line(error)}"[:1000]))
        raise
    _write(ended)
    return ended


def _write(each: Deployment) -> None:
    fields: Mapping[str, Any] = {k: v for k, v in asdict(each).items() if k != "key"}
    MlflowClient().set_registered_model_tag(each.model, each.key, json.dumps(fields))
