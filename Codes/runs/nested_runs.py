"""What makes the runs that a notebook asks for the same under the runner as by hand.

Under the runner (WORKBOOK_RUN_ID) a run is there before the notebook begins, and its status is the runner's. Here
MLflow learns what that means, in every process and thread of the notebook:

- what is logged without a run of its own (`mlflow.log_*`) goes to the runner's run;
- the notebook's first `mlflow.start_run()` is the runner's run; each later one, and each that is `nested`, has a
  parent, or begins in a worker (a thread, a pool), is a run of its own below its parent, else below the runner's run;
- all of them are in the runner's experiment and store, whatever `set_experiment` names.

MLflow itself loads this module, in every process, through its entry-point group `mlflow.run_context_provider`: the
notebook, its subprocesses and its joblib workers need no line of code. Where no run is owned, nothing is changed, but
that a run which a cell begins by hand gets the status of the cells (see session).
"""

# MLflow loads this module while it is itself being imported, so it is imported in functions.

import atexit
import contextlib
import fcntl
import functools
import inspect
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TYPE_CHECKING

from Codes.ground.variables import FOR_ALL, OWNED, STORE  # pylint: disable=unused-import
from Codes.seams import mlflow_seam

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import ActiveRun
    from mlflow.entities import Experiment, Run
    from mlflow.tracking._tracking_service.client import TrackingServiceClient

# the tag of a run that the notebook has begun by itself: its next top-level run is another one
BEGUN = "mlflow.workbook.begun"
RACE_LOST = "IntegrityError", "UniqueViolation"  # what the drivers of databases call it
# of start_run's arguments, where it resumes a run
KEPT = "tags", "description", "log_system_metrics"
NAME, PARENT = "mlflow.runName", "mlflow.parentRunId"
LONGEST = 250  # characters of a run's name


class OwnedRunContext:
    """MLflow's run context provider; making it, which MLflow does on its own import, installs what is below."""

    def __init__(self) -> None:
        mlflow_seam.once_fluent_is_loaded(adopt)
        leave_out_the_owned()
        keep_to_the_store()
        leave_the_status()
        name_the_parent()
        find_the_experiment()
        try_lost_races_again()

    def in_context(self) -> bool:
        """Never: the runner and `tracking.start_run` write the tags."""
        return False

    def tags(self) -> dict[str, str]:
        """No tags."""
        return {}


def owned_run() -> str | None:
    """The id of the notebook's run: the runner's, or by hand that of `tracking.start_run`; None without."""
    if OWNED in os.environ and not leaving:
        leaving.append(False)
        # after MLflow's own registration, so it runs before
        atexit.register(leaving.append, True)
    return os.environ.get(OWNED) or by_hand["run"]


by_hand: dict[str, str | None] = {
    "run": None
}  # the id of the run that `tracking.start_run` opened in this session
leaving: list[bool] = (
    []
)  # its last entry is True once the interpreter, and with it the notebook, is ending


@functools.cache
def experiment_of(run_id: str) -> str:
    """The id of the experiment that the run is in."""
    from mlflow import MlflowClient

    return MlflowClient().get_run(run_id).info.experiment_id


def adopt() -> None:
    """Let MLflow's functions know of the owned run, before anything has taken them from their module."""
    # what is logged without a run resumes the owned one by MLflow's own start_run, not by ours
    resume = mlflow_seam.fluent().start_run
    mlflow_seam.wrap_fluent("_get_or_start_run", functools.partial(implicit, resume=resume))
    mlflow_seam.wrap_fluent("start_run", explicit)
    mlflow_seam.wrap_fluent("set_experiment", in_its_experiment)
    mlflow_seam.wrap_fluent("_get_experiment_id", current_experiment)
    mlflow_seam.wrap_autologged_fits(each_its_own)


def leave_out_the_owned() -> None:
    """Let `MLFLOW_RUN_ID` ask for a run only where it names another than the owned one, as for a project's process."""
    mlflow_seam.wrap_run_variable(
        lambda read: lambda: None if read() == os.environ.get(OWNED) else read()
    )


def names_a_run() -> bool:
    """Whether `MLFLOW_RUN_ID` asks for a run, which is then another than the owned one."""
    from mlflow.environment_variables import MLFLOW_RUN_ID

    return bool(MLFLOW_RUN_ID.get())


def implicit(
    get_or_start: "Callable[[], ActiveRun]", resume: "Callable[..., ActiveRun]"
) -> "Callable[[], ActiveRun]":
    """MLflow's way to a run for what is logged without one: the owned run, until the notebook begins one itself."""

    @functools.wraps(get_or_start)
    def get_or_start_run() -> "ActiveRun":
        if not (run_id := owned_run()) or names_a_run():
            return get_or_start()
        check_store()
        if not mlflow_seam.active_runs():
            mlflow_seam.choose_no_experiment()
            setattr(resume(run_id), "is_implicit", True)
        return mlflow_seam.active_runs()[-1]

    return get_or_start_run


def explicit(start: "Callable[..., ActiveRun]") -> "Callable[..., ActiveRun]":
    """`mlflow.start_run`: the owned run for the first that the notebook begins, else a run of its own."""
    arguments = inspect.signature(start)

    @functools.wraps(start)
    def start_run(*args: Any, **kwargs: Any) -> "ActiveRun":
        if names_a_run():
            return start(*args, **kwargs)
        if not (owned := owned_run()):
            return by_its_cells(start(*args, **kwargs))
        check_store()
        asked = arguments.bind(*args, **kwargs).arguments
        with asked_for() as stack:
            if not stack and is_top_level(asked, owned) and (run := begin(owned)):
                mlflow_seam.choose_no_experiment()
                asked = {k: v for k, v in asked.items() if k in KEPT} | both_names(run, asked)
            return start(**asked)

    return start_run


def by_its_cells(run: "ActiveRun") -> "ActiveRun":
    """The `run`, begun without an owner; where a notebook's cell begins it, its status becomes that of the cells."""
    if "ipykernel" in sys.modules:
        from Codes.runs import session

        session.watch(run)
    return run


@contextlib.contextmanager
def asked_for() -> "Iterator[list[ActiveRun]]":
    """The stack of active runs without one that is active only because something was logged.

    In the end that one lies under those that have become active, unless it is among them.
    """
    stack = mlflow_seam.active_runs()
    is_implicit = len(stack) == 1 and getattr(stack[0], "is_implicit", False)
    implicits = [stack.pop()] if is_implicit else []
    try:
        yield stack
    finally:
        active = {run.info.run_id for run in stack}
        stack[:0] = [run for run in implicits if run.info.run_id not in active]


def is_top_level(asked: Mapping[str, Any], owned: str) -> bool:
    """Whether these arguments of `start_run`, here and now, ask for a notebook's run as such, not for one below it."""
    if any(asked.get(name) for name in ("run_id", "nested", "parent_run_id")):
        return False
    is_worker = multiprocessing.parent_process() is not None
    return (
        not is_worker
        and threading.current_thread() is threading.main_thread()
        and str(asked.get("experiment_id") or experiment_of(owned)) == experiment_of(owned)
    )


def begin(run_id: str) -> "Run | None":
    """The run, for the first caller of all processes; None for the others."""
    from mlflow import MlflowClient

    client = MlflowClient()
    with open(__file__, encoding="utf-8") as file:  # a lock that leaves no file behind
        fcntl.flock(file, fcntl.LOCK_EX)
        run = client.get_run(run_id)
        if BEGUN in run.data.tags:
            return None
        client.set_tag(run_id, BEGUN, "true")
        return run


def both_names(run: "Run", asked: Mapping[str, Any]) -> dict[str, str]:
    """The arguments that resume the `run` under its own name and the one `asked` for."""
    name, wanted = run.info.run_name, asked.get("run_name")
    both = name if not wanted or wanted in name else f"{name} · {wanted}"[:LONGEST]
    return {"run_id": run.info.run_id, "run_name": both}


def each_its_own(manage: Callable[..., Callable[..., Any]]) -> Callable[..., Callable[..., Any]]:
    """Let each fit that MLflow logs by itself be a run, so that no parameter of one stands beside metrics of another.

    Where a run is active only because something was logged, it begins one; where its parameters contradict those
    that the run has, one below it.
    """

    @functools.wraps(manage)
    def with_managed_run(
        integration: str, patch_function: Any, tags: dict[str, str] | None = None
    ) -> Callable[..., Any]:
        managed = manage(integration, patch_function, tags)

        def patch_with_managed_run(*args: Any, **kwargs: Any) -> Any:
            if not (owned := owned_run()) or mlflow_seam.is_in_autologged_fit():
                return managed(*args, **kwargs)
            with asked_for() as stack, contextlib.ExitStack() as child:
                if contradicts(stack[-1].info.run_id if stack else owned, *args[1:2]):
                    child.enter_context(mlflow_seam.fluent().start_run(nested=True, tags=tags))
                return managed(*args, **kwargs)

        return patch_with_managed_run

    return with_managed_run


def contradicts(run_id: str, fitted: Any = None) -> bool:
    """Whether the parameters of `fitted`, an estimator or a dict of them, have other values in the run."""
    from mlflow import MlflowClient

    parameters = fitted.get_params() if hasattr(fitted, "get_params") else fitted
    if not isinstance(parameters, dict):
        return False
    logged = MlflowClient().get_run(run_id).data.params
    return any(logged.get(name, str(value)) != str(value) for name, value in parameters.items())


def current_experiment(get_experiment_id: Callable[[], str]) -> Callable[[], str]:
    """MLflow's experiment for what is read and begun: the owned run's; by hand one that is set wins."""

    @functools.wraps(get_experiment_id)
    def own_experiment_id() -> str:
        is_set = OWNED not in os.environ and mlflow_seam.chosen_experiment()
        owned = None if is_set else owned_run()
        return experiment_of(owned) if owned else get_experiment_id()

    return own_experiment_id


def in_its_experiment(set_experiment: "Callable[..., Experiment]") -> "Callable[..., Experiment]":
    """`mlflow.set_experiment`, which under the runner takes every name for that of the run's own experiment."""
    arguments = inspect.signature(set_experiment)

    @functools.wraps(set_experiment)
    def set_own_experiment(*args: Any, **kwargs: Any) -> "Experiment":
        if not (owned := os.environ.get(OWNED)):
            return set_experiment(*args, **kwargs)
        check_store()
        asked = arguments.bind(*args, **kwargs).arguments
        if name := asked.get("experiment_name"):
            aliases.add(name)
        elif asked.get("experiment_id"):
            asked["experiment_id"] = experiment_of(owned)
        experiment = set_experiment(**asked)
        if name not in (None, experiment.name):
            logging.getLogger(mlflow_seam.FLUENT).warning(
                "the run stays in the experiment '%s', which stands for '%s' here",
                experiment.name,
                name,
            )
        return experiment

    return set_own_experiment


aliases: set[str] = (
    set()
)  # names that `set_experiment` took for the one of the run's own experiment


def find_the_experiment() -> None:
    """Let the names that `set_experiment` was given lead to the experiment that the owned run is in."""

    def by_aliases(get: "Callable[..., Experiment | None]") -> "Callable[..., Experiment | None]":
        @functools.wraps(get)
        def get_experiment_by_name(self: "TrackingServiceClient", name: str) -> "Experiment | None":
            if name in aliases and is_store(self.tracking_uri):
                return self.get_experiment(experiment_of(owned_run()))
            return get(self, name)

        return get_experiment_by_name

    mlflow_seam.wrap_client("get_experiment_by_name", by_aliases)


def name_the_parent() -> None:
    """Let every run that a notebook makes name a parent: the one that it is given, else the owned run."""

    def with_parent(create: "Callable[..., Run]") -> "Callable[..., Run]":
        @functools.wraps(create)
        def create_run(
            self: "TrackingServiceClient",
            experiment_id: str,
            start_time: int | None = None,
            tags: dict[str, str] | None = None,
            run_name: str | None = None,
        ) -> "Run":
            if (owned := owned_run()) and is_store(self.tracking_uri):
                tags = {PARENT: owned, **(tags or {})}
            return create(self, experiment_id, start_time, tags, run_name)

        return create_run

    mlflow_seam.wrap_client("create_run", with_parent)


def leave_the_status() -> None:
    """Let nothing in the notebook end the owned run: the runner knows best whether all cells ran.

    Nor does MLflow's farewell end the nested runs that a notebook left open: they get the owned run's status.
    """

    def unless_owned(set_terminated: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(set_terminated)
        def set_terminated_unless_owned(
            self: "TrackingServiceClient",
            run_id: str,
            status: str | None = None,
            end_time: int | None = None,
        ) -> None:
            if run_id == os.environ.get(OWNED) or True in leaving:
                self.store.shut_down_async_logging()
            else:
                set_terminated(self, run_id, status, end_time)

        return set_terminated_unless_owned

    mlflow_seam.wrap_client("set_terminated", unless_owned)


def keep_to_the_store() -> None:
    """Refuse `mlflow.set_tracking_uri` in a cell where it leads away from the store that the owned run is kept in."""

    def to_the_store(set_uri: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(set_uri)
        def set_tracking_uri(uri: "str | Path") -> None:
            store = os.environ.get(STORE)
            if store and "ipykernel" in sys.modules:
                check_store(uri)
                uri = store  # in the spelling that holds in every folder
            set_uri(uri)

        return set_tracking_uri

    mlflow_seam.wrap_set_tracking_uri(to_the_store)


def check_store(uri: "str | Path | None" = None) -> None:
    """Refuse what goes to the store `uri`, by default MLflow's present one, where the owned run is in another."""
    import mlflow

    from Codes.ground.errors import WorkbookError

    uri = str(uri or mlflow.get_tracking_uri())
    if not is_store(uri):
        raise WorkbookError(
            f"this run is kept in {spelt(os.environ[STORE])}, and cannot go on in {spelt(uri)}: "
            "remove the line that sets it (mlflow.set_tracking_uri, MLFLOW_TRACKING_URI), "
            f"or run the notebook with MLFLOW_TRACKING_URI={spelt(uri)}"
        )


def is_store(uri: str) -> bool:
    """Whether the store `uri` is the one that the owned run is kept in, in whatever spelling."""
    store = os.environ.get(STORE)
    return not store or store == uri or spelt(store) == spelt(uri)


def spelt(uri: str) -> str:
    """`uri` in one spelling: without a user and a password, the file of a database from the root."""
    scheme, separator, rest = str(uri).partition("://")
    if scheme == "sqlite":
        return f"sqlite:///{os.path.realpath(rest.removeprefix('/').partition('?')[0])}"
    if scheme in ("http", "https"):
        address = rest.rpartition("@")[2].rstrip("/").replace("localhost", "127.0.0.1", 1)
        return f"{scheme}://{address}"
    return f"{scheme}{separator}{rest}"


def try_lost_races_again() -> None:
    """Let two processes log the same new dataset or tag at once: MLflow looks, then inserts; the slower one fails.

    On the second try it finds what the other one wrote, and logs nothing twice.
    """
    from mlflow.exceptions import MlflowException

    def again(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def call_again(*args: Any, **kwargs: Any) -> Any:
            try:
                return call(*args, **kwargs)
            except MlflowException as error:
                if not any(word in str(error) for word in RACE_LOST):
                    raise
            return call(*args, **kwargs)

        return call_again

    for name in ("log_inputs", "set_tag"):
        mlflow_seam.wrap_client(name, again)
