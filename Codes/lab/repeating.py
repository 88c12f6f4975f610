"""A run's notebook and parameters, to be used again, and what has changed since it was made."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlflow
import nbformat
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from nbformat import NotebookNode

from Codes.fingerprints import fingerprint
from Codes.ground import labels, manifest, paths
from Codes.ground.errors import WorkbookError, counted
from Codes.notebook_files import notebook_file, parameters
from Codes.notebook_files.parameters import HIDDEN, Computed, Parameter
from Codes.running import recording, runner
from Codes.runs import identity, tracking
from Codes.saved_models import trust
from Codes.stores.store import all_runs

SHORTEST = 4  # characters of an id that stand for the whole
SWEEP, BEST = "mlflow.workbook.sweep", "mlflow.workbook.sweep.best.run"
ENVIRONMENT = f"{fingerprint.ENVIRONMENT} changed"


@dataclass(frozen=True)
class Made:
    """An execution: its `run`, the file `path` of its notebook, and the `copy` that was executed.

    `path` is None where the notebook is not here any more, `copy` is None of a run by hand.
    """

    run: Run
    path: Path | None
    copy: NotebookNode | None

    @property
    def run_id(self) -> str:
        """The run's."""
        return self.run.info.run_id

    @property
    def stem(self) -> str:
        """The notebook's name."""
        return self.run.data.tags[identity.NOTEBOOK]

    def notebook(self) -> NotebookNode:
        """What was executed; of a run by hand the notebook as it is now."""
        return self.copy if self.copy is not None else notebook_file.read(self.source())

    def source(self) -> Path:
        """The notebook's file; a WorkbookError where it is gone."""
        if self.path is None:
            name = self.run.data.tags.get("mlflow.source.name", self.stem)
            raise WorkbookError(
                f"the notebook of the run {self.run_id}, {name}, is not here; check out the commit that has it."
            )
        return self.path


def find(text: str) -> Made:
    """The execution of the run whose id is, or begins with, `text`; a WorkbookError where it is none of a notebook."""
    tracking.use_store()
    run = _run(text)
    tags = run.data.tags
    if identity.NOTEBOOK not in tags:
        hint = f" Its best trial is {tags[BEST]}." if BEST in tags else ""
        what = "a sweep, not one of its runs" if SWEEP in tags else "no execution of a notebook"
        raise WorkbookError(f"the run {run.info.run_id} ({run.info.run_name}) is {what}.{hint}")
    return Made(run, _path(run), _copy(run))


def _run(text: str) -> Run:
    client = MlflowClient()
    try:
        return client.get_run(text)
    except MlflowException:
        short = text if len(text) >= SHORTEST else None
    found = [r for r in all_runs(client) if short and r.info.run_id.startswith(short)][:5]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{run.info.run_id[:12]} ({run.info.run_name})" for run in found)
    raise WorkbookError(
        f"'{text}' begins the ids of several runs: {names}; give more of it."
        if found
        else f"there is no run '{text}'; give its id, or the {SHORTEST} first characters of it or more, "
        "as `workbook run`, `workbook runs --json` and the UI show it."
    )


def _path(run: Run) -> Path | None:
    """The file of the notebook of the `run`: where it was, seen from this checkout; else one in `notebooks/`."""
    named = paths.ROOT / run.data.tags.get("mlflow.source.name", "")
    places = [named, paths.NOTEBOOKS / f"{run.data.tags[identity.NOTEBOOK]}.ipynb"]
    return next((place for place in places if place.is_file()), None)


def _copy(run: Run) -> NotebookNode | None:
    """The executed notebook that the `run` keeps."""
    client = MlflowClient()
    folder = manifest.local_folders(client, run).get("run")
    try:
        if folder:
            text = (folder / recording.NOTEBOOK).read_text("utf-8")
        else:
            text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{recording.NOTEBOOK}")
        return cast(NotebookNode, nbformat.reads(text, as_version=4))
    except (MlflowException, OSError, ValueError):
        return None


def values(made: Made, declared: list[Parameter], new: Mapping[str, Any]) -> dict[str, Any]:
    """What to give a notebook that has `declared` so that it runs with the values of `made`, but for the `new` ones.

    What only its kernel knew then is left to the kernel now.
    """
    plain = {p.name: p for p in declared if not isinstance(p.default, Computed)}
    given = {**_held(made, plain), **new}
    is_other = {n: n in new or n not in plain or v != plain[n].value for n, v in given.items()}
    chosen = {name: value for name, value in given.items() if is_other[name]}
    if hidden := [name for name, value in chosen.items() if value == HIDDEN]:
        raise WorkbookError(
            f"the value of {hidden[0]} was a secret: give it by -p {hidden[0]} VALUE."
        )
    parameters.check(declared, chosen, f"{made.stem}.ipynb")
    return chosen


def _held(made: Made, plain: Mapping[str, Parameter]) -> dict[str, Any]:
    """The values of `made`: exactly those of its copy, else as the run's parameters tell them, if `plain` ones."""
    if made.copy is None:
        texts = {n: t for n, t in made.run.data.params.items() if n in plain}
        return parameters.from_text(plain.values(), texts)
    given = made.copy.metadata.get("papermill", {}).get("parameters", {})
    defaults = {p.name: p.value for p in parameters.of(made.copy, made.stem) if p.is_plain}
    # a default of then that the notebook does not know any more cannot be given
    return {n: v for n, v in defaults.items() if n in plain} | given


def since(made: Made, now: Mapping[str, Any], kernel: str | None = None) -> list[str]:
    """What has changed since `made`, whose notebook is now to run with the values `now`, a line each."""
    path = made.source()
    return [_commits(made.run, path), *_parts(made, path, now, kernel)]


def _commits(run: Run, path: Path) -> str:
    """The commit of then and of now."""
    old, new = run.data.tags, identity.tags(path)
    before, after = (t.get("mlflow.source.git.commit", "")[:8] for t in (old, new))
    if not before or not after:
        return "commit: not known"
    words = f"the same, {after}"
    if before != after:
        between = identity.git(path.parent, "rev-list", "--count", f"{before}..{after}")
        words = f"{before} → {after}" + (f" ({counted(int(between), 'commit')})" if between else "")
    dirty = [w for w, t in (("then", old), ("now", new)) if t.get(identity.DIRTY) == "true"]
    return f"commit: {words}" + (f"; uncommitted changes {' and '.join(dirty)}" if dirty else "")


def _parts(made: Made, path: Path, now: Mapping[str, Any], kernel: str | None) -> list[str]:
    """What else: the notebook, modules and data by their names, the packages."""
    then = fingerprint.parts_of(made.run)
    if not then:
        return ["code, data, packages: not known of a run by hand"]
    notebook = notebook_file.read(path)
    complete = parameters.check(parameters.of(notebook, path.name), now, path.name)
    changed = fingerprint.differences(then, fingerprint.parts(notebook, path, complete, kernel))
    changed = [
        each for each in changed if not each.startswith((fingerprint.UNKNOWN, fingerprint.VALUES))
    ]
    packages = _packages(made.run) if ENVIRONMENT in changed else "the same"
    others = [each for each in changed if each != ENVIRONMENT]
    return [f"code and data: {', '.join(others) or 'the same'}", f"packages: {packages}"]


def _packages(run: Run) -> str:
    """That the packages have changed, and which of those that the saved model names."""
    client = MlflowClient()
    model = manifest.newest_model(client, run)
    folder = manifest.local_folders(client, run).get(model or "")
    other = trust.other_packages(folder) if folder else {}
    words = [f"{name} {old} → {new}" for name, (old, new) in other.items()]
    return f"changed ({', '.join(words)})" if words else "changed"


def typed(declared: list[Parameter], new: Mapping[str, Any]) -> dict[str, Any]:
    """The `new` values, those that were typed read by the types of the `declared` parameters."""
    texts = {k: v.text for k, v in new.items() if isinstance(v, runner.Typed)}
    return {**new, **parameters.from_text(declared, texts)}


def experiment(made: Made, now: Mapping[str, Any]) -> str | None:
    """The name of the experiment of `made`, where the notebook with the values `now` would go to another; else None."""
    name = MlflowClient().get_experiment(made.run.info.experiment_id).name
    own = tracking.named_experiment(made.source(), now) or str(now.get("problem") or made.stem)
    return name if name != own and not tracking.for_all() else None


def scores(before: Run, after: Run) -> str:
    """The deciding score of the run `after` beside that of `before`; '' where they have none in common."""
    both = (each.data.metrics for each in (before, after))
    old, new = ({n: v for n, v in m.items() if n.startswith("validation_")} for m in both)
    name = next((n for n in new if n in old), None)
    if not name:
        return ""
    change = "the same" if old[name] == new[name] else f"it was {labels.number(old[name])}"
    return f"{name.removeprefix('validation_')} {labels.number(new[name])} ({change})"
