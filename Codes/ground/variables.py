"""Environment variables by which the runner tells a notebook's processes of their run, and what is left without it."""

import os

OWNED = "WORKBOOK_RUN_ID"
# where that run is kept
STORE = "WORKBOOK_TRACKING_URI"
# in a kernel, whose own experiment MLflow's variable always names: the one for all runs, or an empty text
FOR_ALL = "WORKBOOK_EXPERIMENT_ID"
# the notebook's file, which a kernel that the runner started is of
NOTEBOOK = "WORKBOOK_NOTEBOOK"
# what else names the run or the notebook that surrounds a process
RUN_ID, EXPERIMENT_ID = "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"
NOTEBOOKS = (NOTEBOOK, "JPY_SESSION_NAME", "IPYNB_FILE")


def outside() -> dict[str, str]:
    """The environment of a command that a notebook or a command starts and whose runs are no part of its own run.

    A kernel's experiment is its run's; the one that was named for all runs stays, by FOR_ALL.
    """
    inside = {OWNED, STORE, RUN_ID, *NOTEBOOKS}
    inside |= {EXPERIMENT_ID} if OWNED in os.environ else set()
    return {name: value for name, value in os.environ.items() if name not in inside}
