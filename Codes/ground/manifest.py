"""The manifest of a run: the digest of every file that it kept, and whether they are still those files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.utils.file_utils import local_file_uri_to_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NAME = "manifest.json"
DIGEST = "mlflow.workbook.manifest"  # the tag that holds the manifest's own digest
# MLflow writes it beside a model whenever it loads that by its registered name
NOTE = "registered_model_meta"


def write(client: "MlflowClient", run: "Run") -> None:
    """Keep the manifest of `run` as an artifact and its digest as a tag, as far as the files are on this machine."""
    if folders := local_folders(client, run):
        run_id = run.info.run_id
        text = json.dumps(digests(folders), indent=1, sort_keys=True)
        client.log_text(run_id, text, NAME)
        client.set_tag(run_id, DIGEST, _digest(text.encode()))


def verify(client: "MlflowClient", run_id: str) -> list[str]:
    """What is wrong with the files of `run_id`, as texts such as `run/a.txt: altered`; [] where all is as it was kept.

    A run that was killed while it wrote its artifacts has no manifest, which is wrong too.
    """
    run = client.get_run(run_id)
    folders = local_folders(client, run)
    file = folders.get("run", Path()) / NAME
    listed = run.data.tags.get(DIGEST)
    if not listed or not file.is_file():
        return [f"{NAME}: missing"]
    text = file.read_bytes()
    if _digest(text) != listed:
        return [f"{NAME}: altered"]
    return _differences(json.loads(text), digests(folders))


def _differences(listed: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """What differs between the digests that the manifest lists and those of the files that are present."""
    gone = [f"{path}: missing" for path in listed.keys() - present.keys()]
    new = [f"{path}: added" for path in present.keys() - listed.keys()]
    altered = [
        f"{path}: altered"
        for path in listed.keys() & present.keys()
        if listed[path] != present[path]
    ]
    return sorted(gone + new + altered)


def newest_model(client: "MlflowClient", run: "Run") -> str | None:
    """The id of the model that `run` saved last; None without. MLflow lists several in no order."""
    ids = [output.model_id for output in run.outputs.model_outputs] if run.outputs else []
    if len(ids) < 2:
        return next(iter(ids), None)
    return max(ids, key=lambda model_id: client.get_logged_model(model_id).creation_timestamp)


def digests(folders: Mapping[str, Path]) -> dict[str, str]:
    """{name/path: sha256} of the files under each of `folders` (name → local folder)."""
    files = {
        f"{name}/{path}": sha256
        for name, folder in folders.items()
        for path, sha256 in of_folder(folder).items()
    }
    files.pop(f"run/{NAME}", None)
    return files


def of_folder(folder: str | Path) -> dict[str, str]:
    """{path: sha256} of every file under `folder`, but for what MLflow notes there as it loads a model."""
    note = Path(folder, NOTE)
    files = sorted(p for p in Path(folder).rglob("*") if p.is_file() and p != note)
    return {p.relative_to(folder).as_posix(): _digest(p.read_bytes()) for p in files}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fault(client: "MlflowClient", run: "Run") -> str:
    """The first thing that `verify` finds of `run`; '' where it finds nothing, or the files are not on this machine."""
    wrong = verify(client, run.info.run_id) if local_folders(client, run) else []
    return wrong[0] if wrong else ""


def local_folders(client: "MlflowClient", run: "Run") -> dict[str, Path]:
    """{name: folder} of the artifacts of `run` and of its models, as far as they are on this machine."""
    uris: dict[str, str] = {"run": run.info.artifact_uri}
    for output in run.outputs.model_outputs if run.outputs else []:
        uris[output.model_id] = client.get_logged_model(output.model_id).artifact_location
    local = {name: uri for name, uri in uris.items() if uri.startswith(("file:", "/"))}
    return {name: Path(local_file_uri_to_path(uri)) for name, uri in local.items()}
