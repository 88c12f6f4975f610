"""A version trained again, as of a day: by the same notebook and parameters, to staging, and through the gate if asked.

What was trained for a day is known by its run's notebook and parameters, so that the same command again trains nothing;
two at once wait for each other, and for the training of one that was killed.
"""

import datetime
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from mlflow import MlflowClient

from Codes.ground import paths
from Codes.ground.errors import WorkbookError, first_line
from Codes.ground.variables import outside
from Codes.model_registry import promotion, registry
from Codes.model_registry.registry import Version
from Codes.drift import judge
from Codes.monitoring import kept_reference, monitor as monitoring
from Codes.problems import data, problem as problems, rows
from Codes.runs import identity, tracking
from Codes.stores import store

GRAVE = ("harm",)  # what has a model trained again by policy: drift without harm informs


@dataclass(frozen=True)
class Retrained:
    """What came of it: the version, why, and whether it is in production; None and why not, where nothing was done."""

    version: Version | None
    why: str
    is_live: bool = False


def retrain(  # pylint: disable=too-many-arguments,too-many-locals
    name: str,
    *,
    day: str = "",
    by_policy: bool = True,
    to_production: bool = False,
    why: str = "asked for",
    window: str = "expanding",
    say: Callable[[str], object] = lambda text: None,
) -> Retrained:
    """Train the version in production (or staging) of the model `name` again, on what was known on the `day`.

    Args:
        day: '2013-12-30'; by default the end of the last window that is over.
        by_policy: only where the watch finds harm; else now.
        to_production: through the gate; else it stays in staging.
        why: for the history; by policy the window that does harm says it.
        window: of the rows to train on: 'expanding' (all before), or the last days, 'sliding:90d'.

    Raises:
        WorkbookError: the problem is not split by time; the training failed; the gate refused.
    """
    version = monitoring.version_of(name)
    base, known = problems.dated(version.problem)
    span = _sliding(window)
    if problems.load(base).split.kind != "time":
        raise WorkbookError(
            f"{version}: only a problem that is split by time is trained again as of a day"
        )
    if by_policy or not day:
        done = monitoring.monitor(name, say=say)
        for note in done.notes:
            say(f"Note: {note}")
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
    if known is not None and wanted < known:
        return Retrained(
            None, f"{version} was trained as of {known} already, and {wanted} is an earlier day"
        )
    with store.alone(f"retrain-{version.name}") as lock:
        run_id = _again(version, f"{base}@{wanted}{span}", lock, say)
        new, _ = kept_reference.register(run_id, version.name)
        if new.number == version.number:
            told = f"trained as of {wanted}"
        else:
            told = f"trained again as of {wanted}, instead of {version}: {why}"[:900]
        return _moved(new, told, to_production)


def _moved(version: Version, told: str, to_production: bool) -> Retrained:
    """Put the `version` into staging, then through the gate if asked; what is done already is left as it is."""
    name, number = version.name, version.number
    if registry.pointed(name, "production") == number:
        return Retrained(version, "it is in production already", True)
    if registry.pointed(name, "staging") != number:
        promotion.promote(name, "staging", number, why=told)
    if not to_production:
        return Retrained(version, told)
    # to ask the gate again is one more look at the test rows
    if promotion.gate_said(version) == "refused":
        raise WorkbookError(promotion.attempt(version, "production")[1])
    promotion.promote(name, "production", number, why=told)
    return Retrained(version, told, True)


def _sliding(window: str) -> str:
    """What comes behind the day of a problem for that `window` of rows to train on."""
    found = re.fullmatch(r"expanding|sliding:([1-9]\d{0,3}d)", window)
    if not found:
        raise WorkbookError(f"--window {window}: write expanding, or sliding:90d")
    return f"-{found[1]}" if found[1] else ""


def _date(day: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(day)
    except ValueError:
        raise WorkbookError(f"'{day}' is no day; write 2013-12-30") from None


def _again(version: Version, problem: str, lock: int, say: Callable[[str], object]) -> str:
    """The id of the finished run that trains as the one of `version` did, on the `problem` of a day."""
    run = MlflowClient().get_run(version.run_id)
    given = {k: v for k, v in run.data.params.items() if k != "problem"}
    return trained(problem, run.data.tags[identity.NOTEBOOK], given, lock, say)


def trained(
    problem: str,
    notebook: str,
    given: dict[str, str],
    lock: int | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> str:
    """The id of the finished run of `notebook` on `problem` with these parameters, which is made where there is none.

    The training holds the `lock`, too: where this process is killed, the next one waits for it.
    """
    if found := _like(problem, notebook, given):
        say(f"{notebook} was run on {problem} before: {found}")
        return found
    _check_rows(problem)
    say(f"{notebook} on {problem}")
    command = [sys.executable, "-m", "Codes.commands.cli", "run", notebook, "--no-progress"]
    for name, value in {"problem": problem, **given}.items():
        command += ["-p", name, value]
    with tempfile.TemporaryFile("w+") as log:  # a pipe would break with this process
        code = _ended(command, log, [] if lock is None else [lock])
        log.seek(0)
        told = [line for line in log if line.strip()][-1:] or ["no word"]
    if code or not (found := _like(problem, notebook, given)):
        raise WorkbookError(f"{notebook} on {problem} failed: {first_line(told[0])}")
    return found


def _ended(command: list[str], log: IO[str], passed: list[int]) -> int:
    """The exit status of the `command`; where this process is asked to end, so is that one, and its run is closed."""
    with subprocess.Popen(
        command,
        cwd=paths.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
        env=outside(),
        pass_fds=passed,
    ) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise


def _check_rows(problem: str) -> None:
    """Refuse a day as of which nothing is there to train on, to validate or to test: before a kernel starts."""
    asked = problems.load(problem)
    part = data.Table.of(asked, sound=False).part
    uses = {rows.TRAIN: "to train on", rows.VALIDATION: "to validate", rows.TEST: "to test"}
    for which, use in uses.items():
        if not (part == which).any():
            recent = f"the last {asked.monitoring.recent} days before it test, as many before them validate"
            raise WorkbookError(
                f"{problem}: the table has no row {use} ({recent}): name another day: --as-of DAY"
            )


def _like(problem: str, notebook: str, given: dict[str, str]) -> str | None:
    """The id of a finished run of `notebook` on `problem` with these parameters; None without."""
    runs = tracking.runs(problem, notebook)
    for name, value in given.items():
        runs = runs[runs[f"params.{name}"] == value] if f"params.{name}" in runs else runs.iloc[:0]
    return str(runs.run_id.iloc[0]) if len(runs) else None
