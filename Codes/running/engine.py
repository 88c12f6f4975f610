"""The papermill engine `mlflow`: the runner owns the run.

It opens the MLflow run before the kernel starts, records everything that identifies the experiment, and sets the
status after the kernel has ended: a notebook cannot forget, and cannot lie about its outcome.
"""

# papermill imports this module as it is itself imported, perhaps by `execution`, which is then not whole yet
from __future__ import annotations

import json
import os
import platform
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import nbformat
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from nbformat import NotebookNode
from nbformat.warnings import DuplicateCellId, MissingIDFieldWarning
from papermill import engines
from papermill.engines import Engine, NotebookExecutionManager
from papermill.iorw import LocalHandler
from papermill.log import logger

from Codes.comparison import saved_view
from Codes.fingerprints import fingerprint
from Codes.ground import files, labels, manifest, pace
from Codes.ground.errors import WorkbookError, first_line
from Codes.ground.variables import NOTEBOOK
from Codes.notebook_files import languages, notebook_file, parameters
from Codes.running import execution, interruption, recording
from Codes.runs import identity, kernel_values, liveness, ui_links, tracking
from Codes.runs.nested_runs import FOR_ALL, OWNED, STORE
from Codes.seams import papermill_seam
from Codes.stores.store import all_runs
from Codes.forks.channel import QUIET

# papermill reads the notebook before it asks us, and warns of what it then puts right
for each in MissingIDFieldWarning, DuplicateCellId:
    warnings.filterwarnings("ignore", category=each)

# nbclient's options of errors that do not end a run, beside its cells' tag raises-exception
EXPECTED = "allow_errors", "allow_error_names", "force_raise_errors"
PRUNED = "mlflow.workbook.pruned"  # a run that was asked to stop early, and why
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
PATIENCE = 5  # HTTP tries of each call, about half a minute: a server may be restarted under a run


def write_whole(_: LocalHandler, buf: str, path: str) -> None:
    """Write `buf` to `path` as papermill's handler of local files does, but whole or not at all."""
    file = papermill_seam.path_from(path)
    if not file.parent.is_dir():
        raise FileNotFoundError(f"output folder {file.parent} doesn't exist.")
    files.write(file, buf)


def folder_of(source: Path) -> Path:
    """The kernel's folder: that of the notebook `source`, as in Jupyter; papermill's `--cwd` where that is given."""
    is_named = papermill_seam.names_a_folder()
    return Path.cwd() if is_named or not source.parent.is_dir() else source.parent.resolve()


def warn_of_paths(given: Mapping[str, Any], folder: Path) -> None:
    """Tell of texts in `given` that name a file here, but none in the kernel's `folder`, from where they are read."""
    for text in parameters.leaves(given):
        if isinstance(text, str) and os.path.isfile(text) and not os.path.exists(folder / text):
            seen = os.path.relpath(text, folder)
            logger.warning("'%s' is seen from %s; for the file here give %s", text, folder, seen)


class Finished(nbformat.NotebookNode):
    """An executed notebook whose run is FINISHED: the errors that it shows were expected, or only shown."""


def is_finished(notebook: NotebookNode) -> bool:
    """Whether the `notebook` is one whose run is FINISHED."""
    return isinstance(notebook, Finished)


class Manager(NotebookExecutionManager):
    """papermill's manager, which saves at intervals instead of at each cell, and marks no cell as run that was not."""

    page = ""
    secrets: Sequence[str] = ()
    score = ""

    def make_page(self) -> None:
        """Make the notebook's page ahead of its recording."""
        self.page = recording.as_page(self.nb)

    def save(self, **kwargs: Any) -> None:
        """Nothing: the engine saves by `autosave_cell` and at the end."""

    def autosave_cell(self) -> None:
        """Save every `autosave_cell_every` seconds; a disk that is full now may not be at the end."""
        if self.output_path and self.autosave_cell_every:
            if (self.now() - self.last_save_time).total_seconds() >= self.autosave_cell_every:
                self.last_save_time = self.now()
                try:
                    engines.write_ipynb(recording.masked(self.nb, self.secrets), self.output_path)
                except OSError as error:
                    logger.warning("%s cannot be saved now: %s", self.output_path, error)

    def write(self) -> None:
        """Write the notebook to its output path, whole or not at all."""
        if self.output_path:
            engines.write_ipynb(self.nb, self.output_path)

    def notebook_complete(self, failed: bool = False, **kwargs: Any) -> None:
        """Set the notebook's times, and whether it `failed`; cells that never ran stay pending."""
        self.end_time = self.now()
        facts = self.nb.metadata.papermill
        facts["exception"] = failed or facts["exception"]
        facts["end_time"] = self.end_time.isoformat()
        begun = self.start_time or self.end_time
        facts["duration"] = (self.end_time - begun).total_seconds()
        self.cleanup_pbar()


class MlflowEngine(Engine):  # pylint: disable=abstract-method
    """`papermill --engine mlflow`, and what `workbook run` uses."""

    @classmethod
    def nb_kernel_name(cls, nb: NotebookNode, name: str | None = None) -> str:
        """The kernel `name`, else the one that the notebook `nb` asks for."""
        if kernel := name or notebook_file.kernel_of(nb):
            return NATIVE_KERNEL_NAME if kernel == notebook_file.PYTHON else kernel
        raise WorkbookError("the notebook names no kernel; choose one, such as -k python3.")

    @classmethod
    def nb_language(cls, nb: NotebookNode, language: str | None = None) -> str:
        """The `language`, else that of the notebook `nb`, or of its kernel."""
        if language:
            return language
        kernel = cls.nb_kernel_name(nb)
        if named := notebook_file.language_of(nb, kernel):
            return named
        raise WorkbookError(
            f"the notebook names no language, and there is no kernel {kernel}: name one with -k."
        )

    @classmethod
    def execute_notebook(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
        cls,
        nb: NotebookNode,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: bool = True,
        log_output: bool = False,
        autosave_cell_every: float = 30,
        input_path: str | None = None,
        **options: Any,
    ) -> NotebookNode:
        """Execute `nb` as one MLflow run. `execution_timeout` limits a cell, `notebook_timeout` all, in seconds.

        nbclient's `allow_errors`, `allow_error_names` and `force_raise_errors` are taken as well.

        A sweep also gives `tags`, `run_name` and `experiment_id` of its trial's run, `score` (the metric whose value
        the name tells at the end), `expected` (the fingerprint's parts that it must have here), `beat` (seconds
        between two heartbeats) and `opened` (called with the run).
        """
        papermill_seam.write_by(write_whole)
        papermill_seam.leave_the_verdict(is_finished)
        is_path = isinstance(
            input_path, (str, os.PathLike)
        )  # papermill takes a notebook itself, too
        source = papermill_seam.path_from(str(input_path if is_path else "notebook.ipynb"))
        execution.require_kernel(kernel_name)
        values, folder = prepare(nb, source, kernel_name), folder_of(source)
        warn_of_paths(nb.metadata.papermill.get("parameters", {}), folder)
        secrets = [os.environ[name] for name in parameters.references(values) if os.environ[name]]
        with interruption.signals() as signals:
            run = open_run(nb, source, values, options | {"kernel": kernel_name}, signals)
            run_id = run.info.run_id
            options.get("opened", bool)(run)
            manager = Manager(nb, output_path, log_output, progress_bar, autosave_cell_every)
            manager.secrets, manager.score = secrets, options.get("score", "")
            manager.notebook_start()
            if manager.pbar:
                pace.keep_ticking(manager.pbar)
            # a second of imports and templates, while the kernel works
            threading.Thread(target=recording.exporter, daemon=True).start()
            outcome = execution.execute(
                manager,
                kernel_name,
                run_id,
                lambda: begin(run, source, values),
                execution.Limits(options.get("execution_timeout"), options.get("notebook_timeout")),
                signals,
                folder=folder,
                beat=options.get("beat"),
                # the page takes as long as the kernel's end; with secrets it must wait until they are hidden
                meanwhile=lambda: secrets or manager.make_page(),
                log=logger,
                log_output=log_output,
                asked=asked(run, nb, source, values, kernel_name),
                stdout_file=options.get("stdout_file"),
                stderr_file=options.get("stderr_file"),
                startup_timeout=options.get("start_timeout", 60),
                **{name: options[name] for name in EXPECTED if name in options},
            )
            manager.notebook_complete(failed=outcome.status != "FINISHED")
            close_run(run_id, manager, outcome)
            if outcome.raises:
                raise outcome.raises
            signals.raise_first()  # one that came while the run was being recorded ends what would follow
        return Finished(manager.nb) if outcome.status == "FINISHED" else manager.nb


def prepare(nb: NotebookNode, source: Path, kernel_name: str) -> dict[str, Any]:
    """Check the parameters that papermill was given and write them into `nb` as data; returns all values."""
    given = nb.metadata.papermill.get("parameters", {}) if injected(nb) else {}
    declared = parameters.of(nb, source.name, kernel_name)
    values = parameters.check(declared, given, source.name)
    names = parameters.references(values)
    if not languages.is_python(nb, kernel_name):
        if names:
            raise WorkbookError(
                f"{source.name}: a secret by reference (env:{names[0]}) is for notebooks in Python; "
                "read the environment variable in a cell."
            )
        return values  # papermill has written them in the notebook's own language
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise WorkbookError(
            f"the environment variable {missing[0]} is not set; a parameter of {source.name} names it."
        )
    referring = {name: value for name, value in values.items() if parameters.references(value)}
    nb.metadata.papermill["parameters"] = parameters.storable(
        {name: values[name] for name in given}
    )
    inject(nb, {name: values[name] for name in given} | referring)
    return values


def injected(nb: NotebookNode) -> list[NotebookNode]:
    """The cells of `nb` that papermill injected; none where the parameters in its metadata are of an earlier run."""
    return [c for c in nb.cells if "injected-parameters" in c.metadata.get("tags", [])]


def inject(nb: NotebookNode, values: Mapping[str, Any]) -> None:
    """Let papermill's injected cell assign `values` as literals, right after the parameters cell."""
    tagged = injected(nb)
    nb.cells = [c for c in nb.cells if c not in tagged]
    if not values:
        return
    cell = (
        tagged[0]
        if tagged
        else nbformat.v4.new_code_cell(metadata={"tags": ["injected-parameters"]})
    )
    cell.source = f"# Parameters\n{parameters.assignment(values)}\n"
    at = next(i for i, c in enumerate(nb.cells) if "parameters" in c.metadata.get("tags", []))
    nb.cells.insert(at + 1, cell)


def open_run(
    nb: NotebookNode,
    source: Path,
    values: dict[str, Any],
    options: Mapping[str, Any],
    signals: interruption.Signals,
) -> Run:
    """Open, or adopt from `MLFLOW_RUN_ID`, the run of the notebook `source`, fully identified; returns it.

    From then on `signals` are only noted: a run that is there has to be closed.
    """
    os.environ.setdefault(RETRIES, str(PATIENCE))
    tracking.use_store()
    parts = fingerprint.parts(
        nb,
        source,
        values,
        options.get("kernel"),
        options.get("tags", {}).get(MLFLOW_PARENT_RUN_ID),
    )
    require(parts, options)
    tags = (
        identity.tags(source) | liveness.claim() | fingerprint.tags(parts) | options.get("tags", {})
    )
    parent, adopted = os.environ.get(OWNED), os.environ.pop("MLFLOW_RUN_ID", None)
    if parent:
        tags.setdefault("mlflow.parentRunId", parent)
    try:
        for run_id in liveness.close_dead_runs():
            logger.warning("closed the run %s as KILLED: its runner is gone", run_id)
        signals.armed = False
        # a kernel's variable names its own run; a sweep's trial has a run of its own
        if adopted and adopted != parent and "tags" not in options:
            run = adopt(adopted, tags)
        else:
            given = nb.metadata.papermill.get("parameters", {})
            name = options.get("run_name") or run_name(source, given)
            run = create(
                name, options.get("experiment_id") or tracking.experiment_of(source, values), tags
            )
    except MlflowException as error:
        reason = first_line(error.message)
        raise WorkbookError(f"the run of {source.name} could not be opened: {reason}") from error
    logger.info("MLflow run: %s", run.info.run_id)
    return run


def require(parts: dict[str, str], options: Mapping[str, Any]) -> None:
    """Refuse what a sweep, whose `options` tell of its own state, would not have run as it is here: other `parts`."""
    here = f"{platform.node()}, {Path.cwd()},"
    fingerprint.require(options.get("expected"), parts, here, options.get("packages"))


def run_name(source: Path, given: Mapping[str, Any]) -> str:
    """The notebook's name and what it was given: `02_train model=forest seed=3`."""
    parts = [f"{name}={tracking.text_of(value)}" for name, value in given.items()]
    return " ".join([source.stem, *parts])[:250]


def adopt(run_id: str, tags: Mapping[str, str]) -> Run:
    """Make the run that `mlflow run` (or another launcher) has opened ours; one that we have filled is refused."""
    client = MlflowClient()
    if liveness.OWNER in client.get_run(run_id).data.tags:
        raise WorkbookError(
            f"MLFLOW_RUN_ID names the run {run_id}, which holds an execution already; unset it for a run of its own."
        )
    client.log_batch(run_id, tags=[mlflow.entities.RunTag(k, v) for k, v in tags.items()])
    return client.get_run(run_id)


def create(name: str, experiment: str, tags: dict[str, str]) -> Run:
    """Create one run, also where the server loses its reply: each try looks first whether an earlier one succeeded."""
    client = MlflowClient()
    # the first heartbeat is of this run alone; the next one takes its place
    launch = {liveness.HEARTBEAT: f"{liveness.now()} {uuid.uuid4().hex}"}
    attempt = 0
    while True:
        try:
            with single_try():
                return client.create_run(experiment, run_name=name, tags=tags | launch)
        except MlflowException:
            time.sleep(2**attempt)
            if created := list(all_runs(client, experiments=[experiment], tags=launch)):
                for double in created[:-1]:  # the first one is the last of them
                    client.delete_run(double.info.run_id)
                return created[-1]
            attempt += 1
            if attempt == PATIENCE:
                raise


@contextmanager
def single_try() -> Iterator[None]:
    """Within it MLflow sends each request once: repeating a creation blindly makes two."""
    before = os.environ[RETRIES]
    os.environ[RETRIES] = "0"
    try:
        yield
    finally:
        os.environ[RETRIES] = before


def begin(run: Run, source: Path, values: dict[str, Any]) -> dict[str, str]:
    """Record what the `run` begins with, and return its kernel's environment."""
    try:
        tracking.record(run, source, values)
        return kernel_environment(run) | {NOTEBOOK: str(source.resolve())}
    except (MlflowException, OSError) as error:
        reason = first_line(error)
        raise WorkbookError(f"the run of {source.name} could not begin: {reason}") from error


def asked(
    run: Run, nb: NotebookNode, source: Path, values: dict[str, Any], kernel_name: str
) -> execution.Question | None:
    """What the kernel of the `run` of `nb` is to be asked, where only it will know some of `values`; else None."""
    names = [n for n, value in values.items() if isinstance(value, parameters.Computed)]
    if line := languages.not_recorded(nb, names, kernel_name):
        logger.warning("%s: %s", source.name, line)
    if not names or line:
        return None
    declared = parameters.of(nb, source.name, kernel_name)
    tags = {"parameters", "injected-parameters"}
    last = [i for i, c in enumerate(nb.cells) if tags & set(c.metadata.get("tags", []))][-1]

    def tell(text: str) -> None:
        computed = parameters.recorded(declared, json.loads(text))
        literal = {n: v for n, v in values.items() if n not in names}
        try:
            tracking.log_values(run, literal | computed)
        except MlflowException as error:
            reason = first_line(error)
            raise WorkbookError(
                f"the parameters of {source.name} could not be recorded: {reason}"
            ) from error

    return execution.Question(last, kernel_values.expression(names), tell)


def kernel_environment(run: Run) -> dict[str, str]:
    """The environment of the kernel: the runner's, and the `run` that everything in it logs to."""
    run_id = run.info.run_id
    owned = {OWNED: run_id, "MLFLOW_RUN_ID": run_id, FOR_ALL: tracking.for_all()}
    owned |= {tracking.EXPERIMENT_ID: run.info.experiment_id}
    inherited = {k: v for k, v in os.environ.items() if k != tracking.EXPERIMENT}
    store = mlflow.get_tracking_uri()
    return QUIET | inherited | owned | {"MLFLOW_TRACKING_URI": store, STORE: store}


def close_run(run_id: str, manager: Manager, outcome: execution.Outcome) -> None:
    """Keep everything of the execution, then set the run's terminal status; failing to keep fails the run."""
    secrets = manager.secrets
    recording.hide(manager.nb, secrets)
    outcome.message = recording.hidden(outcome.message, secrets)
    location = write_output(manager, outcome)
    client = MlflowClient()
    try:
        run = refuse_if_closed(client, run_id)
        log_artifacts(client, run, manager, outcome, recording.hidden(outcome.log, secrets))
        log_facts(client, run, manager.nb, outcome)
        liveness.close_children(client, run_id, outcome.status)
        run = refuse_if_closed(client, run_id)
        name = name_at_end(run, manager.score) if outcome.status == "FINISHED" else None
        liveness.set_status(client, run_id, outcome.status, name)
        # it may have been stopped (SIGSTOP) between the two lines above
        liveness.forget(client, refuse_if_closed(client, run_id))
        if outcome.status == "FINISHED":
            saved_view.begin(client, run)
    except MlflowException as error:
        refuse_if_deleted(client, run_id)
        outcome.fail("StoreUnreachable", "")
        reason = first_line(error.message)
        outcome.raises = WorkbookError(
            f"the run {run_id} could not be recorded ({reason}); the executed notebook is kept: {location}. "
            "The next command closes the run."
        )


def refuse_if_deleted(client: MlflowClient, run_id: str) -> None:
    """Raise if the run was deleted under its runner; in the bin it is KILLED, and not RUNNING for ever."""
    if liveness.is_deleted(client, run_id):
        liveness.close_deleted(client, run_id)
        raise WorkbookError(
            f"the run {run_id} was deleted meanwhile, so nothing more could be kept in it; run the notebook again."
        )


def refuse_if_closed(client: MlflowClient, run_id: str) -> Run:
    """The run as it stands; raise, and leave it KILLED, if another command has closed it over its runner's head."""
    refuse_if_deleted(client, run_id)
    run = client.get_run(run_id)
    if by := liveness.closed_by(run):
        liveness.set_status(client, run_id, "KILLED")
        raise WorkbookError(
            f"the run {run_id} was closed by another command meanwhile ({by}); it stays KILLED."
        )
    return run


def write_output(manager: Manager, outcome: execution.Outcome) -> str:
    """Write the executed notebook; where its disk is full, elsewhere. Returns where it is."""
    try:
        manager.write()
        return manager.output_path or "in memory only (no output path was given)"
    except OSError as error:
        stem = Path(manager.output_path or "notebook").stem
        folder = Path(tempfile.mkdtemp(prefix="workbook-"))
        try:
            files.write(folder / f"{stem}.ipynb", nbformat.writes(manager.nb))
            location = f"it is kept as {folder / stem}.ipynb"
        except OSError:
            folder.rmdir()
            location = "nor could it be written to the temporary folder"
        outcome.fail(
            type(error).__name__,
            f"{manager.output_path} could not be written ({error}); {location}.",
        )
        manager.output_path = None
        return location


def log_artifacts(
    client: MlflowClient, run: Run, manager: Manager, outcome: execution.Outcome, log: str
) -> None:
    """Log the notebook, its page and its figures, and the manifest of everything that the `run` has kept."""
    run_id = run.info.run_id
    try:
        with tempfile.TemporaryDirectory(prefix="workbook-") as folder:
            recording.stage(manager.nb, log, folder, manager.page)
            client.log_artifacts(run_id, folder)
        manifest.write(client, run)
    except MlflowException:
        raise
    except Exception as error:  # pylint: disable=broad-exception-caught
        outcome.fail(
            type(error).__name__,
            f"the artifacts of the run {run_id} could not be written: {error}.",
        )


def name_at_end(run: Run, score: str) -> str | None:
    """The name of a finished `run` with its value of the metric `score`: `trial 3 · x=5` → `trial 3 · 0.68 · x=5`."""
    if score not in run.data.metrics:
        return None
    head, _, rest = run.info.run_name.partition(" · ")
    return " · ".join(filter(None, [head, labels.number(run.data.metrics[score]), rest]))[:250]


def log_facts(client: MlflowClient, run: Run, nb: NotebookNode, outcome: execution.Outcome) -> None:
    """Log durations, peak memory, a note for people and, of a failure, its error, message and cell."""
    facts = {
        liveness.ERROR: outcome.error,
        liveness.MESSAGE: outcome.message[:5000],
        "mlflow.workbook.error.cell": str(outcome.cell or ""),
    }
    metrics = recording.durations(nb)
    if outcome.peak_bytes:
        metrics.append(
            mlflow.entities.Metric(
                "notebook/peak_memory_mb", outcome.peak_bytes / 1e6, metrics[-1].timestamp, 0
            )
        )
    if outcome.stop is execution.Stop.ASKED:
        facts[PRUNED] = outcome.message
    facts = {k: v for k, v in facts.items() if v and outcome.status != "FINISHED"}
    if liveness.NOTE not in run.data.tags:  # the notebook's own is kept
        facts[liveness.NOTE] = note(run, outcome)
    tags = [mlflow.entities.RunTag(k, v) for k, v in facts.items()]
    client.log_batch(run.info.run_id, metrics=metrics, tags=tags)


def note(run: Run, outcome: execution.Outcome) -> str:
    """What the UI tells of the `run`: how it ended, and a link to what was executed."""
    link = ui_links.link(run, "The executed notebook", recording.PAGE)
    parent = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
    above = f"#/experiments/{run.info.experiment_id}/runs/{parent}{ui_links.TRAINING}"
    part = f" A part of [the run above it]({above})." if parent else ""
    if outcome.status == "FINISHED":
        return f"{link}, whole.{part}"
    cell = f" in cell {outcome.cell}" if outcome.cell else ""
    reason = first_line(outcome.message)[:300]
    said = reason if reason.startswith(outcome.error) else f"{outcome.error}: {reason}"
    return f"**{outcome.status.capitalize()}{cell}**: `{said.strip(': ').replace('`', '')}`\n\n{link} ends there.{part}"
