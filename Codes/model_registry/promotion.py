"""From a run to production and back: register it, pass the gate, move the alias, take it back."""

import contextlib
import io
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR as PROGRESS_BAR
from mlflow.exceptions import MlflowException

from Codes.comparison import standings
from Codes.comparison.standings import Choice
from Codes.gate import checks
from Codes.gate.report import Report
from Codes.ground import manifest
from Codes.ground.errors import WorkbookError
from Codes.judgement import paired, validation
from Codes.model_registry import card, registry
from Codes.model_registry.examination import GATE, PASSED, examine, trained_on
from Codes.model_registry.registry import DIGEST, PRIVATE, PROBLEM, TRUSTED, Version
from Codes.problems import data, problem as problems
from Codes.runs import identity, tracking
from Codes.saved_models import remote, trust

FINGERPRINT = "mlflow.workbook.fingerprint"
HIDDEN = "mlflow.workbook."  # before a tag that the UI is not to show
NOTEBOOK = "mlflow.workbook.notebook.artifact"


def _of_a_problem(name: str) -> str:
    """What registers the run to take, where `name` is a problem's."""
    return (
        f"; to register the one to take on that problem: workbook register --problem {name}"
        if problems.is_known(name)
        else ""
    )


def source(run_id: str) -> tuple[Run, str]:
    """(MLflow's run, the id of the model that it saved); a WorkbookError where nothing may be registered of it."""
    tracking.use_store()
    client = MlflowClient()
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise WorkbookError(
            f"there is no run '{run_id}'; look for it in the table of: make ui"
            f"{_of_a_problem(run_id)}"
        ) from error
    tags = run.data.tags
    if best := tags.get("mlflow.workbook.sweep.best.run"):
        return source(best)
    if identity.NOTEBOOK not in tags:
        raise WorkbookError(
            f"the run {run_id} is none of this workbook's: only its own are registered."
        )
    if run.info.status != "FINISHED":
        raise WorkbookError(
            f"the run {run_id} is {run.info.status}: only FINISHED ones are registered."
        )
    if not (model_id := manifest.newest_model(client, run)):
        raise WorkbookError(f"the run {run_id} of {tags[identity.NOTEBOOK]} saved no model.")
    if manifest.DIGEST not in tags and manifest.local_folders(client, run):
        raise WorkbookError(
            f"the run {run_id} was made by hand: no manifest tells whether its files are still as they were; "
            f"`workbook rerun {run_id[:8]}` makes a run of it that can be registered."
        )
    if wrong := manifest.fault(client, run):
        raise WorkbookError(
            f"the run {run_id} is not as it was kept: {wrong}; it is not registered."
        )
    return run, model_id


def register(run_id: str, name: str = "", trusted: Iterable[str] = ()) -> Version:
    """The registry.Version of the model of the run `run_id`; where that, or a run that it repeats, has one: that one.

    Args:
        name: of the registered model; by default the run's problem.
        trusted: full names of types in the model's file that you vouch for, beside those named when it was trained.
    """
    run, model_id = source(run_id)
    trusted = sorted({*trusted, *json.loads(run.data.tags.get(trust.VOUCHED, "[]"))})
    solved = problems.lasting(run.data.params.get("problem", ""))
    problem = problems.load(solved)
    if not name:
        name = problem.name
        _check_free(name, solved)
    registry.check_name(name)
    if found := registry.of_run(name, run.info.run_id):
        return found  # its card would only be written again
    where = f"models:/{model_id}"
    folder = registry.fetch(where)
    loaded = remote.load(folder, trusted)
    if loaded.recorded is None or loaded.example is None:
        raise WorkbookError(
            f"the model of the run {run_id} has no example with its answers; save it by models.log."
        )
    if found := _repeated(name, run, loaded):
        return found
    text = _card(problem, run, loaded)
    facts = {
        DIGEST: loaded.digest,
        TRUSTED: registry.as_text(trusted),
        PROBLEM: solved,
        PRIVATE: registry.as_text(problem.private),
        NOTEBOOK: "notebook.ipynb",
        f"{HIDDEN}git.commit": run.data.tags.get("mlflow.source.git.commit", ""),
        f"{HIDDEN}dataset": ", ".join(
            f"{d.dataset.name} {d.dataset.digest}" for d in card.datasets(run)
        ),
        f"{HIDDEN}environment": ", ".join((folder / "requirements.txt").read_text("utf-8").split()),
        f"{HIDDEN}signature": ", ".join(f"{name}: {kind}" for name, kind in loaded.kinds.items())[
            :4900
        ],
    }
    return registry.add(name, where, run.info.run_id, facts, text)


def _repeated(name: str, run: Run, loaded: trust.Loaded) -> Version | None:
    """The Version of the model `name` of a run that `run` has repeated, with the same answers; None without."""
    versions = registry.versions(name) if name in registry.names() else []
    for version in _with_fingerprint_of(run, versions):
        with contextlib.suppress(WorkbookError, MlflowException):  # its files are gone
            if trust.same(registry.load(version).recorded, loaded.recorded):
                return version
    return None


def _with_fingerprint_of(run: Run, versions: Iterable[Version]) -> Iterator[Version]:
    """Those of the `versions` whose run has the fingerprint of `run`."""
    fingerprint, client = run.data.tags.get(FINGERPRINT), MlflowClient()
    for version in versions if fingerprint else ():
        try:
            other = client.get_run(version.run_id)
        except MlflowException:  # it is gone
            continue
        if other.data.tags.get(FINGERPRINT) == fingerprint:
            yield version


def _check_free(name: str, solved: str) -> None:
    """Refuse the model's `name`, taken of the problem `solved`, where its versions solve a problem of another file."""
    versions = registry.versions(name) if name in registry.names() else []
    base = problems.dated(solved)[0]
    if others := {problems.dated(v.tags.get(PROBLEM, base))[0] for v in versions} - {base}:
        raise WorkbookError(
            f"the model {name} is of the problem {min(others)}, not of {solved}: name another one by --name "
            f"(or --name {name}, where the two are the same), or call the problem's file otherwise."
        )


def _card(problem: problems.Problem, run: Run, loaded: trust.Loaded) -> str:
    trained, table = trained_on(run), data.Table.of(problem)
    checks.training_rows(table, trained)  # refused where test rows may be among them
    slices = None
    if problem.gate.slices and (kept := artifact(run.info.run_id, validation.FILE)):
        frame = table.load(trained.rows, trained.seed)
        held, answers = validation.predicted(problem, frame, pd.read_parquet(io.BytesIO(kept)))
        seen = paired.Rows(problem, held, data.blocks(held, problem))
        slices = paired.slices(seen, paired.Answers(answers, loaded.labels))
    return card.write(problem, run, loaded, slices)


def artifact(run_id: str, name: str) -> bytes | None:
    """The content of the run's artifact `name`; None where there is none. MLflow's progress bar stays away."""
    before = PROGRESS_BAR.get_raw()
    PROGRESS_BAR.set(False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return Path(MlflowClient().download_artifacts(run_id, name, folder)).read_bytes()
    except (MlflowException, OSError):
        return None
    finally:
        if before is None:
            PROGRESS_BAR.unset()
        else:
            PROGRESS_BAR.set(before)


def best_run(problem: str, notebook: str = "", choice: Choice | None = None) -> str:
    """The id of the run that is recommended for the problem of that name or path; of a `choice` that is known, its."""
    choice = choice or standings.of(problem, notebook)
    if choice.recommended is None:
        raise WorkbookError(" ".join(choice.reasons).replace("`", "").replace("**", ""))
    return choice.recommended


def candidate(name: str, alias: str) -> tuple[Version, str]:
    """(the version that `promote` takes where none is named, why): a WorkbookError where there is none to take.

    For production it is what is in staging; else the newest that no gate has refused and that was not taken back.
    """
    pointed, newest = registry.aliases(name), registry.versions(name)
    if not newest:
        raise WorkbookError(f"{name} has no version; make one: workbook register --problem {name}")
    left_out = _left_out(name, newest)
    usable = [v for v in newest if v.number not in left_out]
    passed_over = ", ".join(f"version {n} {why}" for n, why in sorted(left_out.items()))
    if not usable:
        raise WorkbookError(
            f"{name} has no version to take by itself: {passed_over}. Name one (--version N), or register another run."
        )
    staged = next((v for v in usable if v.number == pointed.get("staging")), None)
    if alias == "production" and staged and staged.number != pointed.get("production"):
        return staged, "it is in staging"
    newer = {n: why for n, why in left_out.items() if n > usable[0].number}
    passed = f" ({', '.join(f'version {n} {why}' for n, why in sorted(newer.items()))})"
    return usable[0], f"it is the newest{f' to be taken{passed}' if newer else ''}"


def news(version: Version, run_id: str) -> str:
    """What `register` of the run `run_id` has come to, which gave `version`."""
    if version.run_id == run_id:
        return f"{version} (run {run_id})"
    return f"The same model as {version}, whose run {version.run_id} this one repeats: no new version is made"


def next_step(version: Version) -> str:
    """What is next for `version`, in words with the command."""
    pointed, name = registry.aliases(version.name), version.name
    if pointed.get("production") == version.number:
        return f"it is in production: workbook serve {name}@production"
    if gate_said(version) == "refused":
        return f"the gate has refused it: workbook history {name}"
    stage = "production" if pointed.get("staging") == version.number else "staging"
    return f"next: workbook promote {name} {stage} --version {version.number}"


def _left_out(name: str, versions: Iterable[Version]) -> dict[int, str]:
    """{number: why not} of the `versions` of the model `name` that are not taken unless they are named."""
    current, reasons = registry.pointed(name, "production"), {}
    for move in registry.settled(name):
        if move.outcome == registry.DONE and move.kind == "rollback" and move.before:
            reasons[move.before] = "was taken back from production"
    for version in versions:
        if gate_said(version) == "refused":
            reasons[version.number] = "was refused by the gate"
    reasons.pop(current, None)
    return reasons


def promote(
    name: str, alias: str, number: int | None = None, override: str = "", why: str = ""
) -> tuple[Version, Report | None]:
    """Let `alias` of the model `name` point to a version; before production it must pass the gate.

    Args:
        number: of the version; by default the one that `candidate` gives.
        override: the reason for which it goes to production although the gate refuses it.

    Returns:
        (Version, gate.Report or None for staging). A WorkbookError says what the gate found.
    """
    registry.check_alias(alias)
    registry.settled(name)
    version = candidate(name, alias)[0] if number is None else registry.find(f"{name}/{number}")
    if told := already(name, alias, version.number):
        raise WorkbookError(told)
    before = registry.pointed(name, alias)
    if alias == "staging":
        smoke(version)
        registry.move(name, alias, version.number, before, why=why)
        return version, None
    report, run_id, before = examine(version)
    facts = {"why": why, "gate": run_id}
    if not report.passed and not override:
        registry.record_refused(name, alias, version.number, before, report.refusal, **facts)
        raise Refused(version, report, run_id)
    override = "" if report.passed else override  # given in vain
    registry.move(name, alias, version.number, before, override=override, **facts)
    return version, report


def already(name: str, alias: str, number: int) -> str:
    """A sentence where `alias` of the model `name` points to the version of that `number` already; else ''."""
    if registry.pointed(name, alias) != number:
        return ""
    return f"{name} version {number} is in {alias} already; nothing was changed."


def attempt(version: Version | None, alias: str) -> tuple[Report | None, str]:
    """`promote`, told instead of raised: (gate.Report or None, what came of it in a sentence); None: nothing to do.

    A version that the gate has refused is not examined again, which would be one more look at the test rows.
    """
    if version is None:
        return None, "There is no version to promote."
    is_there = already(version.name, alias, version.number)
    if alias == "production" and not is_there and gate_said(version) == "refused":
        return _refused_before(version)
    try:
        version, report = promote(version.name, alias, version.number)
    except Refused as refused:
        return refused.report, refused.message
    except WorkbookError as error:
        return None, error.message
    return report, f"{version} is in {alias}."


def _refused_before(version: Version) -> tuple[Report | None, str]:
    """(the report of the gate's last refusal of `version`, None where it is gone; a sentence on it)."""
    run_id = version.tags[GATE]
    kept = artifact(run_id, "gate.json")
    report = Report.from_json(kept.decode("utf-8")) if kept else None
    again = (
        f"To ask it again: workbook promote {version.name} production --version {version.number}."
    )
    why = f": {report.refusal}" if report else ""
    return report, f"{version} was refused by the gate before (run {run_id}){why}. {again}"


class Refused(WorkbookError):
    """The gate's refusal of a version, with its report and the run that keeps it."""

    def __init__(self, version: Version, report: Report, run_id: str) -> None:
        anyway = f"workbook promote {version.name} production --version {version.number}"
        super().__init__(
            f"{version} is not promoted: {report.refusal}. The report: run {run_id} (make ui); what is in production "
            f'stays. To promote it all the same: {anyway} --override "the reason".'
        )
        self.version, self.report, self.run_id = version, report, run_id


def smoke(version: Version) -> None:
    """Refuse `version` unless it loads and answers for its own example as it did when it was saved."""
    loaded = registry.load(version)
    example, recorded = loaded.example, loaded.recorded
    if example is None or recorded is None:
        return
    if not trust.same(loaded.answers(example).tolist(), recorded):
        raise WorkbookError(f"{version} answers otherwise than when it was saved; it is not used.")


def rollback(name: str, number: int | None = None, why: str = "") -> tuple[int | None, int]:
    """Let production point to the version that was there before, or to `number`; returns (from, to)."""
    before = registry.pointed(name, "production")
    earlier, were = registry.stack(name), registry.was_in(name, "production")
    if before is None and not (number and were):
        hint = f"; put back what was there: --to {earlier[-1]}" if earlier else ""
        raise WorkbookError(
            f"{name} has nothing in production, so there is nothing to take back{hint}."
        )
    if number is not None and number not in were:
        raise WorkbookError(
            f"{name} version {number} was never in production; let it pass the gate: "
            f"workbook promote {name} production --version {number}"
        )
    present = {version.number for version in registry.versions(name)}  # others may delete some
    while earlier and (earlier[-1] == before or earlier[-1] not in present):
        earlier.pop()
    if number is None and not earlier:
        raise WorkbookError(
            f"{name}: before version {before} nothing was in production; name one: --to N."
        )
    after = earlier[-1] if number is None else number
    if told := already(name, "production", after):
        raise WorkbookError(told)
    version = registry.find(f"{name}/{after}")
    try:
        smoke(version)
    except WorkbookError as error:
        others = ", ".join(map(str, sorted((were & present) - {after, before})))
        more = f"; of those that were there before, there are {others}: --to N" if others else ""
        raise WorkbookError(f"{error.message.rstrip('.')}{more}.") from error
    registry.move(name, "production", after, before, kind="rollback", why=why)
    return before, after


def standing(name: str, problem: str = "") -> str:
    """Which version of the model `name` is in production, or why none is, in a sentence; see `where_it_stands`."""
    known = name in registry.names()
    return _standing(name, registry.settled(name)) if known else _nowhere(name, problem)


def _nowhere(name: str, problem: str) -> str:
    register_it = f"workbook register --problem {problem or name}"
    return (
        f"Nothing is in production: no version of {name} is registered. `{register_it}` makes one."
    )


def _standing(name: str, transitions: Iterable[registry.Transition]) -> str:
    """`standing` of a model that there is, of which these are the `transitions`."""
    if number := registry.pointed(name, "production"):
        return f"{name} version {number} is in production."
    tried = [t for t in transitions if t.alias == "production"]
    if not tried:
        return f"Nothing is in production: no version was promoted. `workbook promote {name} production` does it."
    return f"Nothing is in production: version {tried[-1].after} was {tried[-1].outcome}."


def where_it_stands(name: str, run_id: str | None = None, problem: str = "") -> list[str]:
    """Where the model `name` stands, in sentences: production, staging, what the gate refused last, and why.

    Args:
        run_id: of the recommended run, of which it is said where it only repeats a version.
        problem: that it solves, as a command takes it; by default it is called as the model.
    """
    if name not in registry.names():
        return [_nowhere(name, problem)]
    transitions = registry.settled(name)
    sentences, pointed = [_standing(name, transitions)], registry.aliases(name)
    newest = registry.versions(name)
    if "staging" in pointed:
        sentences.append(f"{name} version {pointed['staging']} is in staging.")
    refused = next((v for v in newest if gate_said(v) == "refused"), None)
    moves = [m for m in transitions if refused and m.after == refused.number]
    why = next((m.override or m.outcome for m in reversed(moves) if m.gate), "")
    if refused and "production" in pointed:  # else `standing` has said it
        how = "overridden" if pointed["production"] == refused.number else "refused"
        sentences.append(
            f"The gate has refused version {refused.number} ({how}: {why.removeprefix('refused: ')})."
        )
    if run_id:
        alike = _with_fingerprint_of(MlflowClient().get_run(run_id), newest)
        if same := next((v for v in alike if v.run_id != run_id), None):
            sentences.append(
                f"The recommended run is the same model as version {same.number}: no new version."
            )
    return sentences


def gate_said(version: Version) -> str:
    """What the gate said of `version`: passed, refused, or nothing; a copy has the tags of another, and no report."""
    try:
        tags = MlflowClient().get_run(version.tags[GATE]).data.tags
    except (KeyError, MlflowException):
        return ""
    own = tags.get(GATE) == f"{version.name}/{version.number}"
    return {"true": "passed", "false": "refused"}.get(tags.get(PASSED, ""), "") if own else ""


def story(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(the versions, the transitions) of the model `name`, as two frames for a page; empty where there is none."""
    if name not in registry.names():
        return pd.DataFrame(), pd.DataFrame()
    moves = pd.DataFrame(
        [{k: v for k, v in vars(t).items() if k != "key"} for t in registry.settled(name)]
    )
    pointed, stages = registry.aliases(name), registry.stages(name)
    if any(v.tags.get(registry.STAGE) != stages.get(v.number) for v in registry.versions(name)):
        with registry.locked(name):
            registry.mend_stages(name)
    rows = [
        {
            "version": v.number,
            "aliases": ", ".join(a for a, n in pointed.items() if n == v.number),
            "stage": stages.get(v.number, ""),
            "gate": gate_said(v),
            "run": v.run_id,
        }
        for v in registry.versions(name)
    ]
    return pd.DataFrame(rows), moves
