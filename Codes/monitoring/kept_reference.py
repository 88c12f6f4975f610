"""The reference profile of a version, kept when it is registered: whatever becomes of the table, it is held against it.

It lies with a run of its own in the experiment of monitoring, since nothing is added to the run that trained; a tag of
the version names that run and the digests of its files.
"""

import hashlib
import io
import json
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from Codes.ground.errors import WorkbookError, counted
from Codes.model_registry import promotion, registry
from Codes.model_registry.registry import Version
from Codes.drift import reference as references
from Codes.monitoring import kept_run
from Codes.drift.reference import TIME, Reference
from Codes.problems import problem as problems
from Codes.problems.problem import Problem
from Codes.saved_models.trust import Loaded
from Codes.stores import store

KEPT = "mlflow.workbook.reference"  # a version's tag
ROWS, FACTS = "reference.parquet", "reference.json"

Kept = TypedDict("Kept", {"run": str, "digests": dict[str, str]})
Facts = TypedDict(
    "Facts",
    {
        "asked": dict,
        "words": list[str],
        "blocks": list,
        "turned": list,
        "scale": float,
        "begin": str | None,
        "notes": list[str],
    },
)


def register(run_id: str, name: str = "", trusted: Iterable[str] = ()) -> tuple[Version, str]:
    """(the Version of the run, see promotion.register, with its reference kept; why it has none, else empty)."""
    version = promotion.register(run_id, name, trusted)
    return version, keep(version)


def keep(version: Version) -> str:
    """Keep the reference of `version` with it, unless that is done; why it has none, else an empty text."""
    tracked = f"{version.name}/{version.number}"
    with store.alone(f"reference-{version.name}"):  # of two at once the second finds it kept
        current = registry.find(tracked)
        if _found(current):
            return ""
        try:
            reference = references.of(current, registry.load(current))
        except WorkbookError as error:
            return f"no reference profile is kept with {version}: {error.message}"
        about = f"what {tracked} is held against: {counted(len(reference.rows), 'row')} like those that it learned from"
        with kept_run.opened(reference.problem.name, f"reference of {tracked}", about) as run_id:
            kept: Kept = {"run": run_id, "digests": _write(reference, run_id)}
        MlflowClient().set_model_version_tag(
            version.name, str(version.number), KEPT, json.dumps(kept)
        )
    return ""


def of(version: Version, loaded: Loaded) -> Reference:
    """The Reference of `version` that was kept with it; made now, with a note, where none is kept that serves.

    Raises:
        WorkbookError: its files are not those that were kept; none can be made (see reference.of).
    """
    problem = problems.load(version.problem)
    if not (kept := _found(version)):
        return _made(version, loaded, "no reference profile is kept with it")
    content = {name: promotion.artifact(kept["run"], name) for name in kept["digests"]}
    if None in content.values():
        return _made(version, loaded, "its reference profile is gone")
    if {name: _digest(each or b"") for name, each in content.items()} != kept["digests"]:
        raise WorkbookError(
            f"{version}: its reference profile is not as it was kept (run {kept['run']}); delete that run, "
            "and it is made anew from the table."
        )
    facts: Facts = json.loads(content[FACTS] or b"")
    if facts["asked"] != _asked(problem):
        return _made(version, loaded, "the problem's file asks for other windows or columns since")
    return _read(problem, facts, pd.read_parquet(io.BytesIO(content[ROWS] or b"")))


def _found(version: Version) -> Kept | None:
    """Where the reference of `version` is kept; None where that is not, or its run is deleted."""
    if KEPT not in version.tags:
        return None
    kept: Kept = json.loads(version.tags[KEPT])
    try:
        stage = MlflowClient().get_run(kept["run"]).info.lifecycle_stage
    except MlflowException:
        return None
    return kept if stage == "active" else None


def _made(version: Version, loaded: Loaded, why: str) -> Reference:
    made = references.of(version, loaded)
    note = f"{why}: it was made now from the table (workbook register {version.run_id} keeps it)"
    return replace(made, notes=(*made.notes, note))


def _asked(problem: Problem) -> dict:
    """What of the problem's file the rows of a reference follow from."""
    given = problem.monitoring
    return {
        "window": given.window,
        "out": sorted({*given.leave_out, *problem.private}),
        "roles": dict(problem.roles),
    }


def _write(reference: Reference, run_id: str) -> dict[str, str]:
    """Keep the files of `reference` with the run; {file: digest}."""
    facts: Facts = {
        "asked": _asked(reference.problem),
        "words": sorted(reference.words),
        "blocks": reference.blocks.tolist(),
        "turned": reference.turned.tolist(),
        "scale": reference.scale,
        "begin": None if pd.isna(reference.begin) else reference.begin.isoformat(),
        "notes": list(reference.notes),
    }
    rows = reference.rows
    if reference.times is not None:
        rows = rows.assign(**{TIME: reference.times})
    with tempfile.TemporaryDirectory() as folder:
        rows.to_parquet(Path(folder, ROWS), index=False, compression="zstd")
        Path(folder, FACTS).write_text(json.dumps(facts), "utf-8")
        MlflowClient().log_artifacts(run_id, folder)
        return {name: _digest(Path(folder, name).read_bytes()) for name in (ROWS, FACTS)}


def _read(problem: Problem, facts: Facts, rows: pd.DataFrame) -> Reference:
    """The Reference that `_write` has kept."""
    times = rows.pop(TIME) if TIME in rows else None
    begin = facts["begin"]
    return Reference(
        problem,
        rows,
        times,
        frozenset(facts["words"]),
        np.array(facts["blocks"]).reshape(-1, 2),
        np.array(facts["turned"]).reshape(-1, 2),
        facts["scale"],
        pd.NaT if begin is None else pd.Timestamp(begin),
        tuple(facts["notes"]),
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
