"""A version at the gate: what it is held against, the run that keeps the report, and what its pages then say."""

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from Codes.figures import plots
from Codes.gate import checks
from Codes.gate.report import Report
from Codes.ground.errors import WorkbookError, first_line
from Codes.judgement import scored
from Codes.model_registry import card, registry
from Codes.model_registry.registry import Version
from Codes.problems import data, problem as problems
from Codes.runs import identity, liveness, ui_links, tracking
from Codes.saved_models import trust
from Codes.stores.store import tag_filter

# of a gate's run: the version; of a version: the run of its last gate
GATE = identity.GATE
PASSED = "mlflow.workbook.gate.passed"
TEST = "mlflow.workbook.gate.test"  # of a gate's run: the digest of the test rows that it looked at


def examine(version: Version) -> tuple[Report, str, int | None]:
    """(gate.Report on `version` against production, the id of the run that keeps it, the version in production)."""
    liveness.close_dead_runs()
    current, client = registry.pointed(version.name, "production"), MlflowClient()
    loaded, problem = registry.load(version), problems.load(version.problem)
    table = data.Table.of(problem)
    checks.training_rows(table, trained_on(client.get_run(version.run_id)))
    rows, (champion, against) = checks.test_rows(table), _opponent(table, version.name, current)
    held = f"version {current} in production" if current else "the baseline"
    run_id, looks = opened(client, version, rows.digest)
    # nested: a notebook has a run of its own open
    with liveness.Heartbeat(run_id), mlflow.start_run(run_id, nested=True):
        report = checks.check(rows, loaded, champion, against=against, looks=looks)
        _keep(report, problem.metric.name, version, held)
    _tell(client, version, report, held, run_id)
    return report, run_id, current


def opened(client: MlflowClient, version: Version, digest: str) -> tuple[str, int]:
    """(the id of a new run, how often the test rows of the `digest` were looked at in its experiment, with it)."""
    experiment = tracking.experiment_of("", {"problem": version.problem})
    about = {GATE: f"{version.name}/{version.number}", TEST: digest, "mlflow.user": identity.user()}
    name = f"gate: {version.name}/{version.number}"
    with registry.locked(f"gate-{digest}"):  # of two at once each has a number of its own
        looks = 1 + _looks(client, experiment, digest)
        run = client.create_run(experiment, tags=liveness.claim() | about, run_name=name)
    return run.info.run_id, looks


def _tell(
    client: MlflowClient, version: Version, report: Report, against: str, run_id: str
) -> None:
    """Name the run `run_id` by the verdict, and let the pages of the `version` tell of it."""
    name, number = version.name, str(version.number)
    client.update_run(run_id, name=f"gate: {report.verdict.lower()} {name}/{number}")
    liveness.forget(client, client.get_run(run_id))
    for key, value in {GATE: run_id, PASSED: str(report.passed).lower()}.items():
        client.set_model_version_tag(name, number, key, value)
    text = card.judged(registry.card(version), report, against, client.get_run(run_id))
    client.update_model_version(name, number, text)


def _looks(client: MlflowClient, experiment: str, digest: str) -> int:
    """How many runs of the gate in the `experiment` have looked at the test rows of the `digest`, or do so now."""
    runs = client.search_runs([experiment], tag_filter({TEST: digest}), max_results=50_000)
    return sum(run.info.status in ("FINISHED", "RUNNING") for run in runs)


def _keep(report: Report, metric: str, version: Version, against: str) -> None:
    """Keep the `report` on `version`, held `against` something, with the active run."""
    mlflow.log_param("against", against)
    page = f"[{version}]({ui_links.version(version.name, version.number)})"
    made = ui_links.link(MlflowClient().get_run(version.run_id), "the run that trained it")
    note = f"{report.note(metric, str(version), against)}\n\n{page} · {made}"
    mlflow.set_tags({PASSED: str(report.passed).lower(), liveness.NOTE: note})
    mlflow.log_text(report.markdown(), "gate.md")
    mlflow.log_text(report.as_json(), "gate.json")
    mlflow.log_figure(plots.gate(report, metric), "gate.png")


def _opponent(table: data.Table, name: str, current: int | None) -> tuple[trust.Loaded | None, str]:
    """(the model in production, the words for it), or (None, why it cannot be compared with; empty: there is none)."""
    if not current:
        return None, ""
    try:
        champion = registry.find(f"{name}/{current}")
        _has_not_seen(table, champion)
        return registry.load(champion), f"version {current}"
    except (WorkbookError, MlflowException) as error:  # it must not stay there for ever
        return None, f"version {current}: {first_line(error).rstrip('.')}"


def _has_not_seen(table: data.Table, champion: Version) -> None:
    """Refuse a `champion` that may have learned from test rows of `table`.

    One of an earlier day of the problem (see problem.load) learned from the rows before its own validation.
    """
    own = problems.load(champion.problem)
    other_day = own.split != table.problem.split and own.source == table.problem.source
    trained = checks.training_rows(
        data.Table.of(own) if other_day else table,
        trained_on(MlflowClient().get_run(champion.run_id)),
    )
    time = table.problem.time
    if other_day and not trained[time].max() < table.test()[time].min():
        raise WorkbookError(
            "it learned from rows that are the test's here: name a later day behind the problem's name"
        )


def trained_on(run: Run) -> checks.Trained:
    """How the training rows of `run` were drawn, and their digest: without it test rows might be among them."""
    training = [
        d.dataset.digest
        for d in card.datasets(run)
        if any(t.key == "mlflow.data.context" and t.value == "training" for t in d.tags)
    ]
    if not training:
        raise WorkbookError(
            f"the run {run.info.run_id} did not log the rows that its model was trained on, so that test rows may be "
            'among them: mlflow.log_input(data.dataset(train, problem), context="training").'
        )
    rows, seed = (_whole(run.data.params.get(name)) for name in ("rows", "seed"))
    return checks.Trained(run.info.run_id, rows, seed, training[0], scored.TAG in run.data.tags)


def _whole(text: str | None) -> int:
    """The whole number that a parameter holds; 0 where a notebook means something else by its name."""
    return int(text) if text and text.isdecimal() else 0
