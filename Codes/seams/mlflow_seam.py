"""What of MLflow is used that it does not document; a client's run, store and data set are reached otherwise nowhere.

MLflow loads this module while it is itself being imported (over runs.nested_runs), so MLflow is imported in functions.
"""

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TYPE_CHECKING

# pylint: disable=protected-access

if TYPE_CHECKING:
    from mlflow import ActiveRun, MlflowClient
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

FLUENT = "mlflow.tracking.fluent"  # what `import mlflow` offers as functions
VIEW = "mlflow.sharedViewState."  # begins the tag of a saved view, before the view's key
# what the UI keeps of a view, beside filter, order and columns
VIEW_STATE: dict[str, Any] = {
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "columnWidths": {},
    "runsHiddenMode": "FIRST_10_RUNS",
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": False,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "groupBy": None,
    "groupsExpanded": {},
    "globalLineChartConfig": {
        "xAxisKey": "step",
        "lineSmoothness": 0,
        "selectedXAxisMetricKey": "",
    },
}


# --- the functions that `import mlflow` offers, and their state


def fluent() -> Any:
    """The module of `mlflow.start_run` and the like, also while it is still being imported.

    Private: that all of them live, with their state, in `mlflow.tracking.fluent`.
    Seen: mlflow 3.17.2.
    Without: none; without this module a notebook's runs are MLflow's alone (see runs.nested_runs).
    """
    return sys.modules.get(FLUENT) or importlib.import_module(FLUENT)


def once_fluent_is_loaded(then: Callable[[], object]) -> None:
    """Call `then` as soon as `fluent` is there, before `mlflow` itself has taken functions from it.

    Private: that a run context provider is made before `mlflow.tracking.fluent` is imported.
    Seen: mlflow 3.17.2.
    Without: replace the functions in `mlflow`, `mlflow.tracking` and `mlflow.tracking.fluent` each, after the import.
    """

    class Finder:
        """The first to be asked for the module."""

        @staticmethod
        def find_spec(  # pylint: disable=unused-argument
            fullname: str, path: object = None, target: object = None
        ) -> importlib.machinery.ModuleSpec | None:
            """The module's own spec, whose loader calls `then` at its end."""
            if fullname != FLUENT:
                return None
            sys.meta_path.remove(Finder)
            spec = importlib.util.find_spec(fullname)
            loader: Any = spec and spec.loader
            load = loader.exec_module
            loader.exec_module = lambda module: (load(module), then())
            return spec

    sys.meta_path.insert(0, Finder)


def wrap_fluent(name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace the function `name` of `fluent` by what `wrap` makes of it; its callers there see that one, too.

    Private: `_get_or_start_run` (the run of what is logged without one) and `_get_experiment_id` (the experiment that
    is read where none is named); that `start_run` and `set_experiment` are taken from this module, and call these.
    Seen: mlflow 3.17.2.
    Without: `tracking.start_run()` in each notebook, and one run each, whatever the notebook begins.
    """
    module = fluent()
    setattr(module, name, wrap(getattr(module, name)))


def active_runs() -> "list[ActiveRun]":
    """This thread's active runs, the innermost last: the list itself, so that a run can be taken from it for a while.

    Private: `fluent._active_run_stack`.
    Seen: mlflow 3.17.2.
    Without: `mlflow.active_run()`, which tells the innermost alone.
    """
    return fluent()._active_run_stack.get()


def run_for_logging() -> "ActiveRun":
    """The active run, else the one that `MLFLOW_RUN_ID` names, else a new one: as MLflow finds it for `log_metric`.

    Private: `fluent._get_or_start_run`.
    Seen: mlflow 3.17.2.
    Without: `mlflow.active_run() or mlflow.start_run()`, which counts as the notebook's own beginning of a run.
    """
    return fluent()._get_or_start_run()


def chosen_experiment() -> str | None:
    """The id of the experiment that `mlflow.set_experiment` has chosen in this process; None without.

    Private: `fluent._active_experiment_id`.
    Seen: mlflow 3.17.2.
    Without: wrap `set_experiment` and remember what it returns.
    """
    return fluent()._active_experiment_id


def choose_no_experiment() -> None:
    """Forget what `mlflow.set_experiment` has chosen: MLflow would refuse to resume a run of another experiment.

    Private: `fluent._active_experiment_id`.
    Seen: mlflow 3.17.2.
    Without: `mlflow.set_experiment(experiment_id=…)` of the run's own experiment, one request more.
    """
    fluent()._active_experiment_id = None


def wrap_autologged_fits(wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace what gives each autologged fit a run by what `wrap` makes of it.

    Private: `autologging_utils.with_managed_run`, and the same name in `autologging_utils.safety`.
    Seen: mlflow 3.17.2.
    Without: autologged fits of one notebook share its run, and their parameters may contradict its metrics.
    """
    from mlflow.utils import autologging_utils

    managed = wrap(autologging_utils.with_managed_run)
    autologging_utils.with_managed_run = autologging_utils.safety.with_managed_run = managed


def is_in_autologged_fit() -> bool:
    """Whether a fit that MLflow logs is under way here: one within it is logged as a part of that.

    Private: `autologging_utils._has_active_training_session`.
    Seen: mlflow 3.17.2.
    Without: a thread-local count of the fits that `wrap_autologged_fits` has begun.
    """
    from mlflow.utils.autologging_utils import _has_active_training_session

    return _has_active_training_session()


def wrap_run_variable(wrap: Callable[[Callable[[], Any]], Callable[[], Any]]) -> None:
    """Replace how MLflow reads `MLFLOW_RUN_ID` by what `wrap` makes of it.

    Private: that it is read by `environment_variables.MLFLOW_RUN_ID.get()` at each use.
    Seen: mlflow 3.17.2.
    Without: take the variable from the kernel's environment, and with it from the notebook's subprocesses.
    """
    from mlflow.environment_variables import MLFLOW_RUN_ID

    setattr(MLFLOW_RUN_ID, "get", wrap(MLFLOW_RUN_ID.get))


# --- what talks to the store


def wrap_client(name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace the method `name` of what every client of this process writes and reads by, by what `wrap` makes of it.

    Private: `mlflow.tracking._tracking_service.client.TrackingServiceClient`.
    Seen: mlflow 3.17.2.
    Without: wrap the functions of `mlflow` and the methods of `MlflowClient`, each.
    """
    from mlflow.tracking._tracking_service.client import TrackingServiceClient

    setattr(TrackingServiceClient, name, wrap(getattr(TrackingServiceClient, name)))


def wrap_set_tracking_uri(wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace `mlflow.set_tracking_uri` by what `wrap` makes of it.

    Private: that `mlflow` takes it from `mlflow.tracking`, and that from `mlflow.tracking._tracking_service.utils`.
    Seen: mlflow 3.17.2.
    Without: look at `mlflow.get_tracking_uri()` before each write.
    """
    from mlflow import tracking
    from mlflow.tracking._tracking_service import utils

    utils.set_tracking_uri = tracking.set_tracking_uri = wrap(utils.set_tracking_uri)


def end_run(
    client: "MlflowClient", run_id: str, status: str, end_time: int, name: str | None = None
) -> None:
    """Write a run's `status`, its end (milliseconds) and its `name`, in one request, past a wrapped `set_terminated`.

    Private: `MlflowClient._tracking_client.store.update_run_info`.
    Seen: mlflow 3.17.2.
    Without: `MlflowClient.set_terminated` and `update_run`, two requests, and a mark that lets them through.
    """
    from mlflow.entities import RunStatus

    store = client._tracking_client.store
    store.update_run_info(run_id, RunStatus.from_string(status), end_time, name)


# --- a store in a database


def sql_store(uri: str, artifacts: str) -> "SqlAlchemyStore":
    """The store in the database `uri`, its tables made where they are missing; `store.engine.dispose()` closes it.

    Private: `mlflow.store.tracking.sqlalchemy_store.SqlAlchemyStore`.
    Seen: mlflow 3.17.2.
    Without: `MlflowClient(uri)`, which says in red that it makes tables, or `mlflow db upgrade`, a process more.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    return SqlAlchemyStore(uri, artifacts)


def create_tables(uri: str) -> None:
    """Make MLflow's tables in the empty database `uri` as they are now, without the migrations one by one.

    Private: `mlflow.store.db.base_sql_model.Base`, and that a table `alembic_version` holds the newest revision.
    Seen: mlflow 3.17.2.
    Without: `sql_store` alone, which goes through sixty migrations (2 s).
    """
    import sqlalchemy
    from mlflow.store.db import utils
    from mlflow.store.db.base_sql_model import Base
    from sqlalchemy.schema import CreateTable

    engine = sqlalchemy.create_engine(uri)
    with engine.begin() as connection:
        for table in Base.metadata.sorted_tables:
            connection.execute(CreateTable(table))
        connection.execute(
            sqlalchemy.text("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        )
        connection.execute(
            sqlalchemy.text("INSERT INTO alembic_version VALUES (:head)"),
            {"head": utils._get_latest_schema_revision()},
        )
    engine.dispose()


def remember_the_schema() -> None:
    """Let this process read sixty migration files once alone, not with each store that it opens.

    Private: `mlflow.store.db.utils._get_latest_schema_revision`.
    Seen: mlflow 3.17.2.
    Without: each kernel's first use of the store takes 50 ms longer.
    """
    from mlflow.store.db import utils

    utils._get_latest_schema_revision = functools.cache(utils._get_latest_schema_revision)


def schema_revisions() -> dict[str, str]:
    """{revision of the database's schema: the text of the file that makes it}.

    Private: the folder `mlflow/store/db_migrations/versions`, files named by their revision.
    Seen: mlflow 3.17.2.
    Without: `mlflow.store.db.utils`, half a second of imports before a store is looked at.
    """
    import mlflow

    folder = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    return {file.name.split("_")[0]: file.read_text("utf-8") for file in folder.glob("*.py")}


# the columns that hold where files are; of a trace it is a tag
LOCATIONS: Mapping[str, tuple[str, ...]] = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
    "trace_tags": ("value",),
}
TAGS = "tags", "registered_model_tags", "model_version_tags"  # the tables of tags: key, value


def ask_health(uri: str, seconds: float) -> int:
    """The HTTP status that the tracking server `uri` answers to /health, asked once, as MLflow asks all else.

    Private: `rest_utils.http_request` and `credentials.get_default_host_creds`, which read the variables for
    certificates, users and tokens.
    Seen: mlflow 3.17.2.
    Without: `requests`, and those six variables read by ourselves.

    Raises:
        MlflowException: the server does not answer.
    """
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    options: dict[str, Any] = {"max_retries": 0, "raise_on_status": False, "timeout": seconds}
    answer: Any = http_request(get_default_host_creds(uri), "/health", "GET", **options)
    return answer.status_code


# --- what else is looked at


def make_datasets_late(packages: Collection[str]) -> None:
    """Let `mlflow.data` have from_polars and the like, of the `packages` that are not loaded here, once it is asked.

    MLflow makes them as it is imported, where it can import their packages.

    Private: `mlflow.data.dataset_registry.register_constructor`, and the modules `mlflow.data.<package>_dataset`.
    Seen: mlflow 3.17.2.
    Without: take the packages from `never` in Resources/warm.yaml, so that they are imported ahead.
    """
    module: Any = sys.modules.get("mlflow.data")
    modules = {f"from_{name}": f"mlflow.data.{name}_dataset" for name in packages if module}
    modules = {name: each for name, each in modules.items() if importlib.util.find_spec(each)}

    def late(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module 'mlflow.data' has no attribute '{name}'")
        made = getattr(importlib.import_module(modules[name]), name)
        return getattr(module, module.dataset_registry.register_constructor(made))

    if modules:
        module.__getattr__ = late


def saved_view(where: str, columns: list[str], ascending: bool) -> dict[str, Any]:
    """The state of a view of an experiment's runs, as the UI keeps it in a tag that begins with VIEW.

    Args:
        where: the runs, as a filter of MLflow.
        columns: names such as metrics.`roc_auc`; the first one orders, `ascending` or not.

    Private: all of it; the UI alone reads it (VIEW, VIEW_STATE).
    Seen: mlflow 3.17.2.
    Without: no view under *Views*; the leaderboard stands in the terminal and in 03_compare.
    """
    return VIEW_STATE | {
        "searchFilter": where,
        "orderByKey": columns[0],
        "orderByAsc": ascending,
        "selectedColumns": columns,
        "columnOrder": columns,
    }
