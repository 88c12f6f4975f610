"""From a run to production and back: register it, pass the gate, move the alias, take it back."""

import json

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from Codes import (
    card,
    comparison,
    gate,
    identity,
    liveness,
    manifest,
    plots,
    registry,
    remote,
    tracking,
    trust,
)
from Codes import problem as problems
from Codes.errors import WorkbookError, first_line
from Codes.registry import DIGEST, PRIVATE, PROBLEM, TRUSTED

GATE = (
    "mlflow.workbook.gate"  # of a gate's run: the version; of a version: the run of its last gate
)
PASSED = "mlflow.workbook.gate.passed"
HIDDEN = "mlflow.workbook."  # before a tag that the UI is not to show
NOTEBOOK = "mlflow.workbook.notebook.artifact"


def source(run_id):
    """(MLflow's run, the id of the model that it saved); a WorkbookError where nothing may be registered of it."""
    tracking.use_store()
    client = MlflowClient()
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise WorkbookError(
            f"there is no run '{run_id}'; look for it in the table of: make ui"
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
    if manifest.local_folders(client, run) and (wrong := manifest.verify(client, run_id)):
        raise WorkbookError(
            f"the run {run_id} is not as it was kept: {wrong[0]}; it is not registered."
        )
    return run, model_id


def register(run_id, name="", trusted=()):
    """The registry.Version of the model of the run `run_id`, made unless there is one already.

    Args:
        name: of the registered model; by default the run's problem.
        trusted: full names of types in the model's file that you vouch for, beside those named when it was trained.
    """
    run, model_id = source(run_id)
    trusted = sorted({*trusted, *json.loads(run.data.tags.get(trust.VOUCHED, "[]"))})
    solved = problems.lasting(run.data.params.get("problem", ""))
    problem = problems.load(solved)
    name = name or problem.name
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
    text = _card(problem, run, loaded)
    facts = {
        DIGEST: loaded.digest,
        TRUSTED: registry.as_text(trusted),
        PROBLEM: solved,
        PRIVATE: registry.as_text(problem.private),
        NOTEBOOK: "notebook.ipynb",
        f"{HIDDEN}git.commit": run.data.tags.get("mlflow.source.git.commit", ""),
        f"{HIDDEN}dataset": ", ".join(
            f"{d.dataset.name} {d.dataset.digest}" for d in run.inputs.dataset_inputs
        ),
        f"{HIDDEN}environment": ", ".join((folder / "requirements.txt").read_text("utf-8").split()),
        f"{HIDDEN}signature": ", ".join(f"{c.name}: {c.type.name}" for c in loaded.schema.inputs)[
            :4900
        ],
    }
    return registry.add(name, where, run.info.run_id, facts, text)


def _card(problem, run, loaded):
    rows = gate.unseen(problem, [_trained(run)])
    metrics, predicted = gate.compare(problem, rows, loaded)
    slices = gate.by_slice(problem, rows, predicted, {"candidate": loaded})
    return card.write(problem, run, loaded, len(rows), metrics, slices)


def _trained(run):
    """How the training rows of `run` were drawn, and their digest: without it no row could be called unseen."""
    training = [
        d.dataset.digest
        for d in run.inputs.dataset_inputs
        if any(t.key == "mlflow.data.context" and t.value == "training" for t in d.tags)
    ]
    if not training:
        raise WorkbookError(
            f"the run {run.info.run_id} did not log the rows that its model was trained on, so that none can be held "
            'out: mlflow.log_input(data.dataset(train, problem), context="training").'
        )
    params = run.data.params
    return {
        "rows": int(params.get("rows", 0)),
        "seed": int(params.get("seed", 0)),
        "digest": training[0],
    }


def contenders(problem, notebook="02_train"):
    """The board (see `comparison`) of the runs of `notebook` on the problem of the name (or path) `problem`.

    Only those that the runner made: only these are whole.

    A run by hand, in JupyterLab, has neither an executed copy nor a manifest; it is there to look at.
    """
    runs, whole = tracking.runs(problem, notebook), problems.lasting(problem)
    if runs.empty and whole != problem:
        runs = tracking.runs(whole, notebook)
    problem = problems.load(problem)
    made = runs.get("tags.mlflow.workbook.fingerprint")
    board = comparison.board(problem, runs if made is None else runs[made.notna()])
    if made is None or board.empty:
        told = comparison.verdict(problem, board.head(0)).replace("`", "")
        raise WorkbookError(told)
    return board


def best_run(problem):
    """The id of the run that 03_compare recommends for the problem of that name or path."""
    return comparison.pick(contenders(problem)).run_id


def candidate(name, alias):
    """The version that `promote` takes where none is named: for production what is in staging, else the newest."""
    there, newest = registry.aliases(name), registry.versions(name)
    if not newest:
        raise WorkbookError(f"{name} has no version; make one: workbook register")
    if alias == "production" and "staging" in there:
        if there["staging"] != there.get("production"):
            return registry.find(f"{name}@staging")
    return newest[0]


def examine(version):
    """(gate.Report on `version` against production, the id of the run that keeps it, the version in production)."""
    liveness.close_dead_runs()
    current = registry.pointed(version.name, "production")
    loaded, client = registry.load(version), MlflowClient()
    solved = version.tags.get(PROBLEM, version.name)
    problem = problems.load(solved)
    rows, champion, hindrance = _opponent(problem, version, current)
    tags = liveness.claim() | {
        GATE: f"{version.name}/{version.number}",
        "mlflow.user": identity.user(),
    }
    run_id = client.create_run(
        tracking.experiment_of("", {"problem": solved}),
        tags=tags,
        run_name=f"gate: {version.name}/{version.number}",
    ).info.run_id
    # nested: a notebook has a run of its own open
    with liveness.Heartbeat(run_id), mlflow.start_run(run_id, nested=True):
        report = gate.check(problem, rows, loaded, champion, hindrance)
        _keep(report, problem.metric.name, version, current)
    verdict = "passed" if report.passed else "refused"
    client.update_run(run_id, name=f"gate: {verdict} {version.name}/{version.number}")
    liveness.forget(client, client.get_run(run_id))
    for key, value in {GATE: run_id, PASSED: str(report.passed).lower()}.items():
        client.set_model_version_tag(version.name, str(version.number), key, value)
    return report, run_id, current


def _keep(report, metric, version, current):
    """Keep the `report` on `version` with the active run; `current` is the number of the one in production."""
    mlflow.log_param("champion", current or "none")
    note = report.note(metric, str(version), current)
    mlflow.set_tags({PASSED: str(report.passed).lower(), liveness.NOTE: note})
    mlflow.log_text(report.markdown(), "gate.md")
    mlflow.log_text(report.as_json(), "gate.json")
    mlflow.log_figure(plots.gate(report, metric), "gate.png")


def _opponent(problem, version, current):
    """(rows that no one was trained on, the model in production, why it can't be compared with) for `version`."""
    trained, hindrance = [_trained(MlflowClient().get_run(version.run_id))], ""
    if current:
        try:
            champion = registry.find(f"{version.name}/{current}")
            loaded = registry.load(champion)
            both = [*trained, _trained(MlflowClient().get_run(champion.run_id))]
            return gate.unseen(problem, both), loaded, ""
        except (WorkbookError, MlflowException) as error:  # it must not stay there for ever
            hindrance = f"version {current}: {first_line(error).rstrip('.')}"
    return gate.unseen(problem, trained), None, hindrance


def promote(name, alias, number=None, override="", why=""):
    """Let `alias` of the model `name` point to a version; before production it must pass the gate.

    Args:
        number: of the version; by default what is in staging, or the newest (see `candidate`).
        override: the reason for which it goes to production although the gate refuses it.

    Returns:
        (Version, gate.Report or None for staging). A WorkbookError says what the gate found.
    """
    registry.check_alias(alias)
    registry.settled(name)
    version = candidate(name, alias) if number is None else registry.find(f"{name}/{number}")
    before = registry.pointed(name, alias)
    if before == version.number:
        raise WorkbookError(f"{version} is in {alias} already; nothing was changed.")
    if alias == "staging":
        smoke(version)
        registry.move(name, alias, version.number, before, why=why)
        return version, None
    report, run_id, before = examine(version)
    facts = {"why": why, "gate": run_id}
    if not report.passed and not override:
        registry.record_refused(name, alias, version.number, before, report.refusal, **facts)
        raise Refused(version, report, run_id)
    registry.move(name, alias, version.number, before, override=override, **facts)
    return version, report


def attempt(name, alias, number, override=""):
    """`promote`, told instead of raised: (gate.Report or None, what came of it in a sentence)."""
    try:
        version, report = promote(name, alias, number, override)
    except Refused as refused:
        return refused.report, refused.message
    except WorkbookError as error:
        return None, error.message
    return report, f"{version} is in {alias}."


class Refused(WorkbookError):
    """The gate's refusal of a version, with its report and the run that keeps it."""

    def __init__(self, version, report, run_id):
        super().__init__(
            f"{version} is not promoted: {report.refusal}. The report: run {run_id} (make ui); "
            'what is in production stays. To promote it all the same: --override "the reason".'
        )
        self.version, self.report, self.run_id = version, report, run_id


def smoke(version):
    """Refuse `version` unless it loads and answers for its own example as it did when it was saved."""
    loaded = registry.load(version)
    recorded = loaded.recorded
    if recorded is not None and not trust.same(loaded.answers(loaded.example).tolist(), recorded):
        raise WorkbookError(f"{version} answers otherwise than when it was saved; it is not used.")


def rollback(name, number=None, why=""):
    """Let production point to the version that was there before, or to `number`; returns (from, to)."""
    before = registry.pointed(name, "production")
    if before is None:
        raise WorkbookError(f"{name} has nothing in production, so there is nothing to take back.")
    earlier = registry.stack(name)
    if number is not None and number not in registry.was_in(name, "production"):
        raise WorkbookError(
            f"{name} version {number} was never in production; let it pass the gate: "
            f"workbook promote {name} production --version {number}"
        )
    while earlier and earlier[-1] == before:
        earlier.pop()
    if number is None and not earlier:
        raise WorkbookError(
            f"{name}: before version {before} nothing was in production; name one: --to N."
        )
    after = earlier[-1] if number is None else number
    if after == before:
        raise WorkbookError(
            f"{name} version {after} is in production already; nothing was changed."
        )
    version = registry.find(f"{name}/{after}")
    smoke(version)
    registry.move(name, "production", after, before, kind="rollback", why=why)
    return before, after


def attempt_rollback(name, why=""):
    """`rollback`, told instead of raised."""
    try:
        before, after = rollback(name, why=why)
    except WorkbookError as error:
        return error.message
    return f"{name}: production is version {after} again, instead of {before}."


def story(name):
    """(the versions, the transitions) of the model `name`, as two frames for a page."""
    moves = pd.DataFrame(
        [{k: v for k, v in vars(t).items() if k != "key"} for t in registry.settled(name)]
    )
    there = registry.aliases(name)
    rows = [
        {
            "version": v.number,
            "aliases": ", ".join(a for a, n in there.items() if n == v.number),
            "stage": v.tags.get(registry.STAGE, ""),
            "gate": {"true": "passed", "false": "refused"}.get(v.tags.get(PASSED), ""),
            "run": v.run_id,
        }
        for v in registry.versions(name)
    ]
    return pd.DataFrame(rows), moves
