"""A version trained again, as of a day: by the same notebook and parameters, to staging, and through the gate if asked.

What was trained for a day is known by its fingerprint, so that the same command again trains nothing; two at once wait
for each other.
"""

import contextlib
import datetime
import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlflow import MlflowClient

from Codes.ground import paths
from Codes.ground.errors import WorkbookError, first_line
from Codes.model_registry import promotion, registry
from Codes.model_registry.registry import Version
from Codes.monitoring import judge, monitor as monitoring
from Codes.problems import problem as problems
from Codes.runs import identity, tracking

GRAVE = ("harm",)  # what has a model trained again by policy: drift without harm informs


@dataclass(frozen=True)
class Retrained:
    """What came of it: the version, why, and whether it is in production; None and why not, where nothing was done."""

    version: Version | None
    why: str
    is_live: bool = False


def retrain(  # pylint: disable=too-many-locals
    name: str,
    *,
    day: str = "",
    by_policy: bool = True,
    to_production: bool = False,
    say: Callable[[str], object] = lambda text: None,
) -> Retrained:
    """Train the version in production (or staging) of the model `name` again, on what was known on the `day`.

    Args:
        day: '2013-12-30'; by default the end of the last window that is over.
        by_policy: only where the watch finds harm; else now.
        to_production: through the gate; else it stays in staging.

    Raises:
        WorkbookError: the problem is not split by time; the training failed; the gate refused.
    """
    version = monitoring.version_of(name)
    base, known = problems.dated(version.problem)
    if problems.load(base).split.kind != "time":
        raise WorkbookError(
            f"{version}: only a problem that is split by time is trained again as of a day"
        )
    why = "asked for"
    if by_policy or not day:
        done = monitoring.monitor(name, say=say)
        over = [each for each in done.judged if each.window.is_over]
        status = judge.worst([each for each in over if each.status in GRAVE])
        if by_policy and status not in GRAVE:
            return Retrained(
                None, f"{version}: no window shows harm; to train it all the same: --when now"
            )
        harmed = [each for each in over if each.status in GRAVE]
        why = harmed[-1].sentence if by_policy else why
        day = day or str((over[-1].window.end if over else done.profile.reference.begin).date())
    wanted = _date(day)
    if known is not None and wanted <= known:
        return Retrained(
            None, f"{version} was trained as of {known} already, and {wanted} is no later day"
        )
    with _alone(version.name):
        run_id = _trained(version, f"{base}@{wanted}", say)
        new = promotion.register(run_id, version.name)
    told = f"trained again as of {wanted}, instead of {version}: {why}"[:900]
    if registry.pointed(new.name, "production") == new.number:
        return Retrained(new, "it is in production already", True)
    if registry.pointed(new.name, "staging") != new.number:
        promotion.promote(new.name, "staging", new.number, why=told)
    if to_production:
        promotion.promote(new.name, "production", new.number, why=told)
    return Retrained(new, told, to_production)


def _date(day: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(day)
    except ValueError:
        raise WorkbookError(f"'{day}' is no day; write 2013-12-30") from None


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """Be the only one on this machine that trains the model `name` again; whoever comes second waits, and finds it."""
    folder = paths.ROOT / ".cache"
    folder.mkdir(exist_ok=True)
    with (folder / f"retrain-{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _trained(version: Version, problem: str, say: Callable[[str], object]) -> str:
    """The id of the finished run that trains as the one of `version` did, on the `problem` of a day."""
    run = MlflowClient().get_run(version.run_id)
    notebook = run.data.tags[identity.NOTEBOOK]
    given = {k: v for k, v in run.data.params.items() if k != "problem"}
    if found := _like(problem, notebook, given):
        say(f"{notebook} was run on {problem} before: {found}")
        return found
    say(f"{notebook} on {problem}")
    command = [sys.executable, "-m", "Codes.commands.cli", "run", notebook, "--no-progress"]
    for name, value in {"problem": problem, **given}.items():
        command += ["-p", name, value]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=False)
    if done.returncode or not (found := _like(problem, notebook, given)):
        told = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no word"]
        raise WorkbookError(f"{notebook} on {problem} failed: {first_line(told[0])}")
    return found


def _like(problem: str, notebook: str, given: dict[str, str]) -> str | None:
    """The id of a finished run of `notebook` on `problem` with these parameters; None without."""
    runs = tracking.runs(problem, notebook)
    for name, value in given.items():
        runs = runs[runs[f"params.{name}"] == value] if f"params.{name}" in runs else runs.iloc[:0]
    return str(runs.run_id.iloc[0]) if len(runs) else None
