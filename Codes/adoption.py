"""What makes every `mlflow.log_*` of a notebook land in the runner's one run.

MLflow forgets `MLFLOW_RUN_ID` at its first use, so a later `mlflow.log_metric` opens a second, stray run, and so do a
thread and a forked child. Where the runner has set `WORKBOOK_RUN_ID`, this module makes the variable lasting, and
leaves the run's status to the runner. MLflow itself imports it, in every process, through its entry-point group
`mlflow.run_context_provider`: the notebook, its subprocesses and its joblib workers need no line of code.
"""

import os

from mlflow.environment_variables import MLFLOW_RUN_ID, _EnvironmentVariable
from mlflow.tracking._tracking_service.client import TrackingServiceClient
from mlflow.tracking.context.abstract_context import RunContextProvider

OWNED = "WORKBOOK_RUN_ID"


class OwnedRunId(_EnvironmentVariable):
    """`MLFLOW_RUN_ID`, which names the owned run whenever no run is active in this thread."""

    def get(self):
        """The owned run's id; None inside an active run, where `nested=True` asks for a real child."""
        from mlflow.tracking import fluent  # pylint: disable=import-outside-toplevel,cyclic-import

        if OWNED not in os.environ:
            return super().get()
        if fluent._active_run_stack.get():  # pylint: disable=protected-access
            return None
        # The runner chose the experiment; `set_experiment` in a cell would make MLflow refuse the adoption.
        fluent._active_experiment_id = None  # pylint: disable=protected-access
        os.environ[self.name] = os.environ[OWNED]  # MLflow deletes it right after this call
        return os.environ[OWNED]


class OwnedRunContext(RunContextProvider):
    """Adds no tags: MLflow loads it, and loading it is what installs the adoption."""

    def in_context(self):
        """Never: the runner and `tracking.start_run` write the tags."""
        return False

    def tags(self):
        """No tags."""
        return {}


def install():
    """Let the owned run be adopted again and again, and its status be set by the runner alone."""
    if isinstance(MLFLOW_RUN_ID, OwnedRunId):
        return
    MLFLOW_RUN_ID.__class__ = OwnedRunId
    set_terminated = TrackingServiceClient.set_terminated

    def leave_to_the_runner(self, run_id, status=None, end_time=None):
        if run_id == os.environ.get(OWNED):
            self.store.shut_down_async_logging()
        else:
            set_terminated(self, run_id, status, end_time)

    TrackingServiceClient.set_terminated = leave_to_the_runner


install()
