"""A run in the problem's experiment of monitoring that is made, filled and finished by one command."""

import contextlib
from collections.abc import Iterator

from mlflow import MlflowClient

from Codes.runs import identity, liveness, tracking

ABOUT = (
    "**{name}**: models in use, watched. Each version has a course, its metrics window by window; below it lies a run "
    "for each window, with its page `window.html`. Calibrations and backtests stand beside."
)


def experiment_of(problem: str) -> str:
    """The id of the experiment in which the `problem`'s models are watched."""
    return tracking.for_all() or tracking.ensure_experiment(f"{problem}-monitoring", ABOUT)


@contextlib.contextmanager
def opened(problem: str, name: str, note: str) -> Iterator[str]:
    """The id of a new run called `name`, which is finished once all is kept, and failed where that is broken off."""
    client = MlflowClient()
    tracking.use_store()
    experiment = experiment_of(problem)
    tags = {"mlflow.user": identity.user(), liveness.NOTE: note}
    run = client.create_run(experiment, tags=liveness.claim() | tags, run_name=name)
    status = "FAILED"
    try:
        yield run.info.run_id
        status = "FINISHED"
    finally:
        liveness.set_status(client, run.info.run_id, status)
        liveness.forget(client, run)
