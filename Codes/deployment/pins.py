"""The packages of an image: what its model pins and what serving imports, with their hashes; the bill of them."""

import hashlib
import json
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from Codes.ground import paths
from Codes.ground.errors import WorkbookError

# what `workbook serve` imports of a fixed version, beside the model's own pins
SERVING = (
    "click fastapi filelock joblib mlflow-skinny orjson prometheus-client psutil pyarrow pydantic pyyaml tqdm uvicorn"
).split()
# what MLflow requires, for things that a server of one version never does: thirty megabytes
NEVER = ("google-auth", "gitpython")
INSTEAD = {"mlflow": "mlflow-skinny"}  # the part of a package that serving needs


def needed(model: Iterable[str]) -> dict[str, str]:
    """{package: version} of an image: the pins of the `model` ("name==version"), SERVING, and what these need."""
    pinned = dict(_pin(each) for each in model)
    found: dict[str, str] = {}
    waiting = [*pinned, *SERVING]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found and name not in NEVER:
            found[name] = _build(name, pinned.get(name))
            waiting += _requires(name)
    return dict(sorted(found.items()))


def _pin(line: str) -> tuple[str, str]:
    """(package, version) of a pin, by the part that serving needs."""
    name, _, version = line.partition("==")
    if not version:
        raise WorkbookError(f"the model needs '{line}', which is no pin: register it again.")
    short = canonicalize_name(name)
    return INSTEAD.get(short, short), version.strip()


def _build(name: str, pinned: str | None) -> str:
    """The version of the package `name`: `pinned`, by the very build that is here (2.13.0+cpu), or the one here."""
    try:
        here = metadata.version(name)
    except metadata.PackageNotFoundError:
        if pinned:
            return pinned
        raise WorkbookError(
            f"{name}, which an image needs, is not installed here: make install."
        ) from None
    return here if pinned in (None, here.partition("+")[0]) else str(pinned)


def _requires(name: str) -> Iterator[str]:
    """What the package `name` needs on this machine, without its extras."""
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # of a model that was saved with other packages
        return
    for requirement in map(Requirement, lines):
        if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name


def locked(packages: Mapping[str, str], wheels: Path) -> str:
    """The lines of a requirements file that pins the `packages` with the hashes of their files.

    Args:
        wheels: a folder for builds such as 2.13.0+cpu, which an image would not find: PyPI keeps none of them.
    """
    builds = {n: v for n, v in packages.items() if "+" in v}
    known = _known_hashes() | _fetched(builds, wheels)
    lacking = {n: v for n, v in packages.items() if (n, v) not in known}
    hashes = known | _asked(lacking)
    lines = []
    for name, version in packages.items():
        lines.append(
            " \\\n    ".join(
                [f"{name}=={version}", *(f"--hash=sha256:{h}" for h in hashes[name, version])]
            )
        )
    return "\n".join(lines) + "\n"


@cache
def _known_hashes() -> dict[tuple[str, str], list[str]]:
    """{(package, version): hashes} of the checkout's own requirements.txt, for each machine and Python."""
    text = (paths.ROOT / "requirements.txt").read_text("utf-8")
    found: dict[tuple[str, str], list[str]] = {}
    for entry in re.split(r"\n(?=\S)", text):
        if head := re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", entry):
            hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)
            found[canonicalize_name(head[1]), head[2]] = hashes
    return found


def _asked(packages: Mapping[str, str]) -> dict[tuple[str, str], list[str]]:
    """The same of `packages` that the checkout does not pin, as pip finds them: the file for this machine alone."""
    if not packages:
        return {}
    told = _pip("install --dry-run --ignore-installed --report -", packages)
    report = json.loads(told)["install"]
    return {
        (
            canonicalize_name(each["metadata"]["name"]),
            packages[canonicalize_name(each["metadata"]["name"])],
        ): [each["download_info"]["archive_info"]["hashes"]["sha256"]]
        for each in report
    }


def _fetched(packages: Mapping[str, str], folder: Path) -> dict[tuple[str, str], list[str]]:
    """The same of `packages` whose files are brought into the new `folder`, for this machine alone."""
    if not packages:
        return {}
    _pip(f"download --dest {shlex.quote(str(folder))}", packages)
    found = {}
    for path in folder.iterdir():
        name, version, *_ = parse_wheel_filename(path.name)
        found[str(name), str(version)] = [hashlib.sha256(path.read_bytes()).hexdigest()]
    return found


def _pip(words: str, packages: Mapping[str, str]) -> str:
    """What pip says to these `words` about the wheels of `packages`."""
    command = [sys.executable, "-m", "pip", *shlex.split(words), "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", *(f"{n}=={v}" for n, v in packages.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = next((s for s in reversed(done.stderr.splitlines()) if s.strip()), "no word")
        raise WorkbookError(
            f"pip does not find {', '.join(packages)} as wheels ({reason.strip()[:300]})."
        )
    return done.stdout


def bill(packages: Mapping[str, str], model: str, version: str, digest: str) -> str:
    """The bill of materials (CycloneDX 1.6, JSON) of an image of the `model`, whose files have the `digest`."""
    own = {
        "type": "machine-learning-model",
        "bom-ref": model,
        "name": model,
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own},
        "components": [_component(*each) for each in packages.items()],
    }
    # no time and no chance: the same image has the same bill
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True))
    return json.dumps({"serialNumber": f"urn:uuid:{number}", **document}, indent=1) + "\n"


def _component(name: str, version: str) -> dict[str, Any]:
    address = f"pkg:pypi/{name}@{quote(version)}"
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": address,
        "name": name,
        "version": version,
        "purl": address,
    }
    try:
        known = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return found
    if "License-Expression" in known:
        found["licenses"] = [{"expression": known["License-Expression"]}]
    return found
