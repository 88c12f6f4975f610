"""What makes every `mlflow.log_*` of a notebook land in the runner's one run.

MLflow forgets `MLFLOW_RUN_ID` at its first use, so a later `mlflow.log_metric` opens a second, stray run, and so do a
thread and a forked child. Where the runner has set `WORKBOOK_RUN_ID`, this module makes the variable lasting, and
leaves the run's status to the runner. MLflow itself loads it, in every process, through its entry-point group
`mlflow.run_context_provider`: the notebook, its subprocesses and its joblib workers need no line of code.
"""

# pylint: disable=protected-access
# MLflow loads this module while it is itself being imported.

import atexit
import functools
import os

OWNED = "WORKBOOK_RUN_ID"
# in a kernel, whose own experiment MLflow's variable always names: the one for all runs, or an empty text
FOR_ALL = "WORKBOOK_EXPERIMENT_ID"
RACE_LOST = "IntegrityError", "UniqueViolation"  # what the drivers of databases call it


class OwnedRunContext:
    """MLflow's run context provider; making it, which MLflow does on its own import, installs the adoption."""

    def __init__(self):
        remember_the_run()
        leave_the_status()
        try_lost_races_again()

    def in_context(self):
        """Never: the runner and `tracking.start_run` write the tags."""
        return False

    def tags(self):
        """No tags."""
        return {}


def remember_the_run():
    """Let `MLFLOW_RUN_ID` name the owned run whenever no run is active in this thread, not only once."""
    from mlflow.environment_variables import MLFLOW_RUN_ID

    read = MLFLOW_RUN_ID.get

    def get():
        from mlflow.tracking import fluent

        if OWNED not in os.environ:
            return read()
        if fluent._active_run_stack.get():
            return None  # `nested=True` asks for a real child
        # The runner chose the experiment; a cell's `set_experiment` would make MLflow refuse the adoption.
        fluent._active_experiment_id = None
        if not leaving:
            leaving.append(False)
            atexit.register(
                leaving.append, True
            )  # after MLflow's own registration, so it runs before
        os.environ[MLFLOW_RUN_ID.name] = os.environ[
            OWNED
        ]  # MLflow deletes it right after this call
        return os.environ[OWNED]

    MLFLOW_RUN_ID.get = get


leaving = []  # its last entry is True once the interpreter, and with it the notebook, is ending


def leave_the_status():
    """Let nothing in the notebook end the owned run: the runner knows best whether all cells ran.

    Nor does MLflow's farewell end the nested runs that a notebook left open: they get the owned run's status.
    """
    from mlflow.tracking._tracking_service.client import TrackingServiceClient

    set_terminated = TrackingServiceClient.set_terminated

    def set_terminated_unless_owned(self, run_id, status=None, end_time=None):
        if run_id == os.environ.get(OWNED) or True in leaving:
            self.store.shut_down_async_logging()
        else:
            set_terminated(self, run_id, status, end_time)

    TrackingServiceClient.set_terminated = set_terminated_unless_owned


def try_lost_races_again():
    """Let two processes log the same new dataset or tag at once: MLflow looks, then inserts; the slower one fails.

    On the second try it finds what the other one wrote, and logs nothing twice.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.tracking._tracking_service.client import TrackingServiceClient

    def again(call):
        @functools.wraps(call)
        def call_again(*args, **kwargs):
            try:
                return call(*args, **kwargs)
            except MlflowException as error:
                if not any(word in str(error) for word in RACE_LOST):
                    raise
            return call(*args, **kwargs)

        return call_again

    for name in ("log_inputs", "set_tag"):
        setattr(TrackingServiceClient, name, again(getattr(TrackingServiceClient, name)))
