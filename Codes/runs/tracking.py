"""The notebooks' link to MLflow: one line opens the run, one reads the runs back."""

import ast
import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from pandas import DataFrame

from Codes.ground.errors import WorkbookError
from Codes.notebook_files import parameters
from Codes.runs import identity, kernel_values, liveness, ui_links, session
from Codes.runs.nested_runs import FOR_ALL, OWNED, by_hand
from Codes.seams import mlflow_seam
from Codes.stores.store import artifact_root, open_store, tag_filter

EXPERIMENT, EXPERIMENT_ID = "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"
BY_HAND = "interactive"  # the experiment and the run of a session whose notebook nothing tells
PARAMETER_LIMIT = 6000  # characters that every MLflow store keeps
WHOLE_PARAMETERS = "parameters.json"
KIND = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens it as model training
ABOUT = (
    "Runs of the experiment workbook on **{name}**. Each is one execution of a notebook, and its description links "
    "the executed copy. The trials of a sweep lie under it; `gate: …` is a judgement before production."
)


def use_store() -> str:
    """Point MLflow at the workbook's store, created if it is new, and return its URI."""
    uri = open_store()
    mlflow.set_tracking_uri(uri)
    return uri


def start_run() -> Run:
    """The active run: the runner's own where there is one, else a new one with the same identity and parameters.

    By hand (JupyterLab, VS Code) it reads the notebook's parameters cell from its file and the values from the session.
    """
    active = mlflow.active_run()
    if active and OWNED in os.environ:
        return active
    if active or by_hand["run"]:
        session.end()  # the cell was run a second time by hand: a new attempt is a new run
    use_store()
    if OWNED in os.environ or os.environ.get("MLFLOW_RUN_ID"):
        return mlflow_seam.run_for_logging()
    notebook = session.notebook()
    values = session_values(notebook)
    experiment = mlflow_seam.chosen_experiment() or experiment_of(notebook or BY_HAND, values)
    tags = (identity.tags(notebook) if notebook else identity.of_nothing()) | liveness.claim()
    by_hand["run"] = None
    run = mlflow.start_run(
        experiment_id=experiment, run_name=Path(notebook or BY_HAND).stem, tags=tags
    )
    by_hand["run"] = run.info.run_id
    setattr(run, "is_implicit", True)
    session.Session(run.info.run_id, notebook).begin()
    record(run, notebook or BY_HAND, values)
    if session.is_watched_by_a_person():
        ui_links.show(run)
    return run


def session_values(notebook: Path | None) -> dict[str, Any]:
    """The parameters of `notebook`'s parameters cell with the values that they have in this session."""
    from Codes.notebook_files import notebook_file

    if notebook is None:
        return {}
    declared = {p.name: p for p in parameters.of(notebook_file.read(notebook), notebook)}
    here = session.names()
    values = json.loads(kernel_values.held(list(declared), here))
    # what is no plain value is there by its repr
    plain = {n: v for n, v in values.items() if declared[n].is_plain and type(v) is type(here[n])}
    parameters.validated([declared[n] for n in plain], plain, notebook)
    return parameters.recorded(declared.values(), values)


def experiment_of(notebook: str | Path, values: Mapping[str, Any]) -> str:
    """The id of a run's experiment: the one for all runs, else that of its `problem`, else of the notebook's name.

    A run that is started within another lies beside it.
    """
    beside = os.environ.get(EXPERIMENT_ID) if OWNED in os.environ else None
    if chosen := for_all() or beside:
        return chosen
    problem = values.get("problem")
    is_known = problem and not isinstance(problem, parameters.Computed)
    name = str(problem) if is_known else Path(notebook).stem
    return ensure_experiment(named_experiment(notebook, values) or name)


def named_experiment(notebook: str | Path, values: Mapping[str, Any]) -> str | None:
    """The name that the first `set_experiment` of the notebook gives, as text or by a parameter; None without.

    One that the notebook makes itself (`create_experiment`) must not be there before.
    """
    wanted = ("set_experiment", "create_experiment")
    names = [(f, _first_text(call, values)) for f, call in _calls(notebook) if f in wanted]
    made = {name for function, name in names if function == "create_experiment"}
    return next((n for f, n in names if f == "set_experiment" and n and n not in made), None)


def _calls(notebook: str | Path) -> Iterator[tuple[str, ast.Call]]:
    """(name of the function, call) of each call in the cells of `notebook`, as far as its file can be read."""
    try:
        cells = json.loads(Path(notebook).read_text("utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for source in sources:
        lines = (
            "" if line.lstrip().startswith(("%", "!")) else line for line in source.split("\n")
        )
        with contextlib.suppress(SyntaxError, ValueError):
            for node in ast.walk(ast.parse("\n".join(lines))):
                if isinstance(node, ast.Call):
                    yield getattr(node.func, "attr", getattr(node.func, "id", "")), node


def _first_text(call: ast.Call, values: Mapping[str, Any]) -> str | None:
    """The text of `call`'s first argument, written out or the name of one of `values`; None for anything else."""
    given = [*call.args, *(k.value for k in call.keywords if k.arg in ("experiment_name", "name"))]
    if given and isinstance(given[0], ast.Constant) and isinstance(given[0].value, str):
        return given[0].value
    named = values.get(given[0].id) if given and isinstance(given[0], ast.Name) else None
    return named if isinstance(named, str) else None


def for_all() -> str:
    """The id of the experiment that MLFLOW_EXPERIMENT_ID or _NAME names for all runs; an empty text for none."""
    if FOR_ALL in os.environ:
        return os.environ[FOR_ALL]
    name = os.environ.get(EXPERIMENT)
    return os.environ.get(EXPERIMENT_ID) or (ensure_experiment(name) if name else "")


def ensure_experiment(name: str, about: str = ABOUT) -> str:
    """The id of the experiment `name`, made if it is new, with what it is `about` as its description.

    Its artifacts lie beside the store, whatever the folder.
    """
    client = MlflowClient()
    found = client.get_experiment_by_name(name)
    if found and found.lifecycle_stage == "deleted":
        raise WorkbookError(
            f"the experiment '{name}' was deleted; restore it in the UI, or set {EXPERIMENT} to another name."
        )
    if found:
        return found.experiment_id
    try:
        root = artifact_root(mlflow.get_tracking_uri())
        place = root and f"{root}/{_folder(name)}"
        note = {liveness.NOTE: about.format(name=name)}
        return client.create_experiment(name, artifact_location=place, tags=KIND | note)
    except mlflow.MlflowException:
        found = client.get_experiment_by_name(name)  # somebody else was faster
        if found is None:
            raise
        return found.experiment_id


def _folder(name: str) -> str:
    """The folder of the experiment `name`: no character that leads elsewhere, and not too many."""
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    return plain.lstrip(".")[:50] or "experiment"


def record(run: Run, notebook: str | Path, values: Mapping[str, Any]) -> None:
    """Log those of `values` that are known as parameters of `run`, and the uncommitted changes."""
    log_values(run, {n: v for n, v in values.items() if not isinstance(v, parameters.Computed)})
    if run.data.tags.get(identity.DIRTY) == "true":
        MlflowClient().log_text(run.info.run_id, identity.uncommitted(notebook), identity.DIFF)


def log_values(run: Run, values: Mapping[str, Any]) -> None:
    """Log `values` as parameters of `run`, and those over the limit whole as an artifact."""
    client, run_id, known = MlflowClient(), run.info.run_id, run.data
    texts = {name: text_of(value) for name, value in values.items()}
    new = {n: t for n, t in texts.items() if n not in known.params}
    client.log_batch(
        run_id, params=[mlflow.entities.Param(n, shortened(t)) for n, t in new.items()]
    )
    if any(len(t) > PARAMETER_LIMIT for t in texts.values()):
        client.log_text(
            run_id, json.dumps(values, indent=1, ensure_ascii=False, default=repr), WHOLE_PARAMETERS
        )


def text_of(value: object) -> str:
    """A parameter as MLflow shows it: JSON for what has parts, so that it can be given back by `-p`."""
    has_parts = isinstance(value, (dict, list, tuple))
    return json.dumps(value, ensure_ascii=False, default=repr) if has_parts else str(value)


def shortened(text: str) -> str:
    """`text` if it is within the limit, else its beginning and a word on where the whole is."""
    note = f"… ({len(text)} characters, whole in {WHOLE_PARAMETERS})"
    return text if len(text) <= PARAMETER_LIMIT else text[: PARAMETER_LIMIT - len(note)] + note


def runs(problem: str | None = None, notebook: str | None = None) -> DataFrame:
    """The finished runs as a table, newest first: run_id, start_time, params.*, metrics.*, tags.*.

    `problem` keeps those of one, in the experiment that its runs go to, and `notebook` (a stem such as '02_train')
    those of one; the table is empty where there are none.
    """
    use_store()
    made = {identity.NOTEBOOK: notebook} if notebook else {}
    where = " and ".join(filter(None, ("attributes.status = 'FINISHED'", tag_filter(made))))
    client = MlflowClient()
    if not problem:
        places = client.search_experiments()
    elif place := for_all():
        places = [client.get_experiment(place)]
    else:
        places = [client.get_experiment_by_name(problem)]
    ids = [each.experiment_id for each in places if each]
    # of no experiment MLflow would take its active one
    table = mlflow.search_runs(ids, where, order_by=["start_time DESC"]) if ids else DataFrame()
    if "run_id" not in table:
        table["run_id"] = None
    kept = table["run_id"].notna()
    if problem and "params.problem" in table:
        kept &= table["params.problem"].fillna(problem) == problem
    if notebook and f"tags.{identity.NOTEBOOK}" in table:
        kept &= table[f"tags.{identity.NOTEBOOK}"] == notebook
    return table[kept].reset_index(drop=True)
