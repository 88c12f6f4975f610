"""The run that `mlflow run` opens for a command, where nobody chose an experiment: in MLflow's 'Default'.

MLflow cannot move a run to another experiment. So it stays as the record of the command, which points to the runs
that the command makes where they belong. Where an experiment was chosen, the run that is there becomes the notebook's.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import Run

RUN_ID = "MLFLOW_RUN_ID"


def leave_default() -> str | None:
    """The id of the run in 'Default' that `mlflow run` has opened, which is no longer adopted; else None."""
    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from mlflow.exceptions import MlflowException
    from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT

    from Codes.runs import tracking

    tracking.use_store()
    client, run_id = MlflowClient(), os.environ[RUN_ID]
    try:
        run = client.get_run(run_id)
        place = client.get_experiment(run.info.experiment_id).name
    except MlflowException:  # whoever adopts it tells
        return None
    entry = run.data.tags.get(MLFLOW_PROJECT_ENTRY_POINT)
    is_chosen = tracking.EXPERIMENT in os.environ or place != Experiment.DEFAULT_EXPERIMENT_NAME
    if is_chosen or entry is None:
        return None
    for name in (RUN_ID, tracking.EXPERIMENT_ID):
        os.environ.pop(name, None)
    client.update_run(run_id, name=f"mlflow run -e {entry}")
    return run_id


def note(record: str, opened: "Run") -> None:
    """Add the run `opened` to the description of the run `record` in the UI."""
    from mlflow import MlflowClient
    from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

    from Codes.runs import ui_links

    client = MlflowClient()
    told = client.get_run(record).data.tags.get(MLFLOW_RUN_NOTE, "A command; its runs are:\n")
    name = client.get_experiment(opened.info.experiment_id).name
    told += f"\n- {ui_links.link(opened, str(opened.info.run_name))} in {name}"
    client.set_tag(record, MLFLOW_RUN_NOTE, told)
