"""Which version runs where: each deployment is written down at its registered model, and a killed one is settled."""

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from mlflow import MlflowClient

from Codes.deployment.config import OURS, Config
from Codes.deployment.sagemaker import SageMaker, check_name
from Codes.ground.errors import WorkbookError, first_line
from Codes.model_registry import registry
from Codes.model_registry.registry import BEGUN, DONE, Version
from Codes.runs import identity

TAG = "mlflow.workbook.deployment."  # + a time and a random ending; on the registered model
TARGETS = ("sagemaker",)
SENT = "sent, and not waited for"
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
    """The last of each place that a deployment has reached or may have reached, at the `target` or at any."""
    last: dict[tuple[str, str, str], Deployment] = {}
    everything = [
        each for name in registry.names() for each in of(name) if each.kind != "transform"
    ]
    for each in sorted(everything, key=lambda d: (d.time, d.key)):
        if not target or each.target == target:
            last[each.target, each.region, each.place] = each
    return [
        each for each in last.values() if not (each.kind == "undeploy" and each.outcome == DONE)
    ]


def named(place: str, target: str) -> Deployment:
    """What stands at the `place`; a WorkbookError lists what there is."""
    there = standing(target)
    found = [each for each in there if each.place == place]
    if len(found) == 1:
        return found[0]
    if found:
        regions = ", ".join(each.region for each in found)
        raise WorkbookError(
            f"{place} is deployed in several regions ({regions}): undeploy it there by AWS' own page."
        )
    names = ", ".join(sorted(each.place for each in there)) or "none"
    raise WorkbookError(f"there is no deployment '{place}' at {target}; there are: {names}.")


def state(each: Deployment) -> str:
    """How the place does, as its target says it now."""
    try:
        found = SageMaker(each.region).describe(each.place)
    except WorkbookError as error:
        return f"not known: {error.message}"
    return found["EndpointStatus"] if found else "gone"


def deploy(
    spec: str, name: str, config: Config, tell: Callable[[str], None], wait: bool = True
) -> Deployment:
    """Let the endpoint `name` serve the version `spec`, and write that down."""
    check_name(name)
    version = registry.find(spec)
    registry.load(version)  # what does not load here leaves no house
    place = SageMaker(config.region)

    def do(_: Deployment) -> str:
        return place.deploy(name, version, config, _tags(name, version), tell, wait)

    return _recorded(
        "deploy", name, version, config.region, config.image, do, DONE if wait else SENT
    )


def transform(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    spec: str, name: str, config: Config, source: str, target: str, tell: Callable[[str], None]
) -> Deployment:
    """Score what lies under `source` (s3://…) into `target` by the version `spec`, and write that down."""
    check_name(name)
    version = registry.find(spec)
    place = SageMaker(config.region)

    def do(_: Deployment) -> str:
        return place.transform(name, version, config, source, target, _tags(name, version), tell)

    return _recorded("transform", name, version, config.region, config.image, do)


def undeploy(name: str, tell: Callable[[str], None], target: str = "sagemaker") -> Deployment:
    """Remove what stands at the place `name`, and write that down."""
    there = named(name, target)
    version = registry.find(f"{there.model}/{there.version}")

    def do(_: Deployment) -> str:
        SageMaker(there.region).delete(name, tell)
        return there.address

    return _recorded("undeploy", name, version, there.region, there.image, do)


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


def _recorded(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    kind: str,
    name: str,
    version: Version,
    region: str,
    image: str,
    do: Callable[[Deployment], str],
    ended: str = DONE,
) -> Deployment:
    """Do it between two entries: that it has begun, and how it ended. Those of killed commands are ended first."""
    for each in of(version.name):
        if (each.target, each.region, each.place, each.outcome) == (
            "sagemaker",
            region,
            name,
            BEGUN,
        ):
            _write(replace(each, outcome=INTERRUPTED))
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    made = Deployment(
        key=f"{TAG}{now[:19]}-{secrets.token_hex(4)}".replace(":", ""),
        time=now,
        who=identity.user(),
        kind=kind,
        target="sagemaker",
        place=name,
        region=region,
        model=version.name,
        version=version.number,
        run=version.run_id,
        image=image,
    )
    _write(made)
    try:
        made = replace(made, address=do(made), outcome=ended)
    except Exception as error:
        _write(replace(made, outcome=f"failed: {first_line(error)}"[:1000]))
        raise
    _write(made)
    return made


def _write(each: Deployment) -> None:
    fields: Mapping[str, Any] = {k: v for k, v in asdict(each).items() if k != "key"}
    MlflowClient().set_registered_model_tag(each.model, each.key, json.dumps(fields))
