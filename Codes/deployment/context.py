"""The build context of an image: a folder that any builder turns into one, the same to the byte for the same version.

    Dockerfile  requirements.txt  sbom.json  model/ (the version and its files)  workbook/ (the code that serves it)
    wheels/ (where the model needs builds that PyPI does not keep, as torch 2.13.0+cpu)

The packages are installed while the image is built, not when it starts.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from Codes.deployment import pins
from Codes.ground import files, paths
from Codes.ground.errors import WorkbookError
from Codes.model_registry import registry
from Codes.model_registry.registry import Version
from Codes.saved_models import skops_alone, trust
from Codes.serving import fixed

PORT = 8080  # where SageMaker, and by custom others, ask
PLACE = "/opt/ml/model"  # where SageMaker looks for a model
BASE = re.compile(r"[A-Za-z0-9][\w./:@-]*")  # an image's name
EPOCH = 315532800  # the first of January 1980, the time of each file: zip knows none before
# rooms that serving does not need
LEFT_OUT = ("bench", "testing", "tools")
UNUSED = "*flight*"  # files of Arrow that nothing else links: thirty megabytes
TESTS = ("Test_", "Check_", "conftest")

DOCKERFILE = """\
# {title}: made by `workbook image {spec}`, for any builder: docker build -t {tag} .
# A base by its digest makes the image the same to the byte: --build-arg BASE={base}@sha256:…
ARG BASE={base}
FROM ${{BASE}} AS packages
COPY {copied} /tmp/
# bytecode that is held against no time: a read-only root could not write it, and each start would compile for
# seconds; a package may hold files for a later Python, which do not compile
RUN python3 -m pip install --progress-bar off --no-cache-dir --no-compile --no-deps --require-hashes --only-binary :all: \\
        --target /opt/packages --find-links /tmp --requirement /tmp/requirements.txt \\
    && find /opt/packages -type d \\( -name tests -o -name include \\) -prune -exec rm -rf {{}} + \\
    && find /opt/packages -path '*/pyarrow/*' -name '{unused}' -delete \\
    && (python3 -m compileall -qq --invalidation-mode unchecked-hash /opt/packages || true)
COPY workbook /opt/workbook
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/workbook
# LightGBM takes the system's OpenMP, which slim images lack: that of scikit-learn does
RUN mkdir /opt/lib && find /opt/packages -path '*/scikit_learn.libs/libgomp-*' -exec ln -s {{}} /opt/lib/libgomp.so.1 \\;
COPY model {place}
# what could not load its model is no image
RUN PYTHONPATH="/opt/packages:/opt/workbook:$PYTHONPATH" LD_LIBRARY_PATH="/opt/lib:$LD_LIBRARY_PATH" \\
    PYTHONDONTWRITEBYTECODE=1 python3 -m Codes.serving.fixed {place}

FROM ${{BASE}}
COPY --from=packages /opt/packages /opt/packages
COPY --from=packages /opt/workbook /opt/workbook
COPY --from=packages /opt/lib /usr/lib
COPY model {place}
LABEL org.opencontainers.image.title="{name}" \\
      org.opencontainers.image.version="{number}" \\
      org.opencontainers.image.revision="{commit}" \\
      workbook.run="{run}" \\
      workbook.digest="{digest}"
ENV {variables}
WORKDIR /opt/workbook
USER 10001:10001
EXPOSE {port}
ENTRYPOINT ["python3", "-m", "Codes.commands.cli"]
CMD ["serve"]
"""
VARIABLES = {
    "PYTHONPATH": "/opt/packages:/opt/workbook",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "HOME": "/tmp",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WORKBOOK_COLD_COMMANDS": "1",
    "WORKBOOK_SERVE_MODEL": PLACE,
    "WORKBOOK_SERVE_HOST": "0.0.0.0",
    "WORKBOOK_SERVE_PORT": str(PORT),
    # a load balancer sends a name of its own
    "WORKBOOK_SERVE_HOSTS": "*",
    "WORKBOOK_SERVE_SHARE": "0",
    # with the ten of a slow body it ends within the thirty that an orchestrator gives
    "WORKBOOK_SERVE_MAX_SECONDS": "15",
}


@dataclass(frozen=True)
class Context:
    """A build context: its folder, the version in it, the name of the image, a digest of all its files."""

    folder: Path
    version: Version
    tag: str
    digest: str


def make(spec: str, folder: str | Path | None = None, base: str | None = None) -> Context:
    """The Context of the version `spec` (flights@production or flights/3).

    Args:
        folder: a new one; by default one with a number in executed/images.
        base: the image that it is built on: a Python such as this one, with pip; by default Debian's slim one.
    """
    if base is None:
        base = f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim-bookworm"
    if not BASE.fullmatch(base):
        raise WorkbookError(f"{base!r} names no image; give one as python:3.11-slim-bookworm.")
    version = registry.find(spec)
    if folder is not None:
        _check_new(Path(folder))
    registry.load(version)  # what does not load here is no image
    private = {registry.PRIVATE: registry.as_text(version.private)}
    version = replace(version, tags=version.tags | private)
    tag = f"{version.name.lower()}:{version.number}"
    place = Path(folder) if folder is not None else _numbered(spec)
    with _writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    try:
        _fill(part, version, tag, base)
        with _writing(place):
            part.rename(place)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        if folder is None:
            place.rmdir()
        raise
    return Context(place, version, tag, trust.digest(place))


def _check_new(folder: Path) -> None:
    with _writing(folder):
        if folder.exists() and any(folder.iterdir()):
            raise WorkbookError(f"{folder} is not empty: name a new folder.")


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """A WorkbookError where the `folder` cannot be made: it may be a file, or another command's by now."""
    try:
        yield
    except OSError as error:
        raise WorkbookError(
            f"{folder} cannot be written ({str(error.strerror).lower()}): name a new folder."
        ) from error


def _fill(folder: Path, version: Version, tag: str, base: str) -> None:
    """Write all files of the context of `version` into the empty `folder`."""
    where, digest = registry.files(version), version.tags[registry.DIGEST]
    packages = pins.needed(trust.pins(where))
    _write(folder / "requirements.txt", pins.locked(packages, folder / "wheels"))
    _write(folder / "sbom.json", pins.bill(packages, version.name, str(version.number), digest))
    _write(folder / "model" / fixed.FACTS, fixed.facts(version))
    shutil.copytree(where, folder / "model" / fixed.FILES)
    _copy_code(folder / "workbook", version.trusted)
    known = skops_alone.KEPT.name
    _write(folder / "workbook" / ".cache" / known, json.dumps(skops_alone.names()))
    _write(folder / "Dockerfile", _dockerfile(version, tag, base, (folder / "wheels").exists()))
    _settle(folder)


def _numbered(spec: str) -> Path:
    """A new, empty folder in executed/images for the context of `spec`."""
    stem = spec.replace("/", "-").replace("@", "-")
    for number in itertools.count(1):
        place = paths.EXECUTED / "images" / f"{stem}-{number}"
        with contextlib.suppress(FileExistsError):
            place.mkdir(parents=True)
            return place
    raise AssertionError


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, text)


def _dockerfile(version: Version, tag: str, base: str, has_wheels: bool) -> str:
    shown = " \\\n    ".join(f'{name}="{value}"' for name, value in VARIABLES.items())
    return DOCKERFILE.format(
        title=version,
        spec=f"{version.name}/{version.number}",
        tag=tag,
        base=base,
        name=version.name,
        number=version.number,
        commit=commit(version),
        run=version.run_id,
        digest=version.tags[registry.DIGEST],
        place=PLACE,
        variables=shown,
        port=PORT,
        unused=UNUSED,
        copied="requirements.txt" + " wheels" * has_wheels,
    )


def commit(version: Version) -> str:
    """The git commit of the run that made the `version`; '' where that is not known."""
    from mlflow import MlflowClient

    run = MlflowClient().get_run(version.run_id) if version.run_id else None
    return run.data.tags.get("mlflow.source.git.commit", "") if run else ""


def _copy_code(folder: Path, trusted: list[str]) -> None:
    """The rooms that serving needs, and modules of the user's own whose types are in the model."""
    source = paths.ROOT / "Codes"
    shutil.copytree(
        source,
        folder / "Codes",
        ignore=lambda where, names: _left_out(Path(where) == source, names),
    )
    for top in sorted({name.partition(".")[0] for name in trusted}):
        module, package = paths.ROOT / f"{top}.py", paths.ROOT / top
        if module.is_file():
            shutil.copy(module, folder)
        elif (package / "__init__.py").is_file():
            shutil.copytree(package, folder / top, ignore=shutil.ignore_patterns("__pycache__"))


def _left_out(is_root: bool, names: list[str]) -> set[str]:
    tests = {name for name in names if name.startswith(TESTS) or name == "__pycache__"}
    return tests | (set(LEFT_OUT) & set(names) if is_root else set())


def _settle(folder: Path) -> None:
    """Each file with the same time and rights, whoever made it."""
    for each in sorted(folder.rglob("*"), reverse=True):
        each.chmod(0o755 if each.is_dir() else 0o644)
        os.utime(each, (EPOCH, EPOCH))
    os.utime(folder, (EPOCH, EPOCH))
    folder.chmod(0o755)


def entry(folder: Path) -> tuple[list[str], dict[str, str]]:
    """(the command, the variables) of the image whose context lies in the `folder`, as its Dockerfile has them."""
    lines = (folder / "Dockerfile").read_text("utf-8").splitlines()
    words = {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}
    return json.loads(words["ENTRYPOINT"]) + json.loads(words["CMD"]), dict(VARIABLES)
