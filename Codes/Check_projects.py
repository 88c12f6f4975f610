"""MLflow Projects: one command runs a notebook as an entry point, and makes one run, not two.

$ python Codes/Check_projects.py
train: FINISHED, model=dummy, problem=breast_cancer, seed=3
notebook: 02_train, in the experiment breast_cancer
in Default: mlflow run -e train, which points to it
"""

import os
import sys
import tempfile
from pathlib import Path

import mlflow

from Codes.ground.paths import ROOT

EXPECTED = [line.strip() for line in __doc__.strip().splitlines()[3:]]
PARAMETERS = {"problem": "breast_cancer", "model": "dummy", "seed": 3}


def train(store: Path) -> mlflow.entities.Run:
    """Run the entry point `train` into an empty store; gives MLflow's own record of the command.

    The environment manager `local` takes the python on PATH: this very one. In a terminal:
    mlflow run . -e train -P problem=breast_cancer -P model=dummy -P seed=3 --env-manager local
    """
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{store / 'mlflow.db'}"
    submitted = mlflow.projects.run(str(ROOT), "train", parameters=PARAMETERS, env_manager="local")
    return mlflow.get_run(submitted.run_id)


def report(record: mlflow.entities.Run) -> list[str]:
    """What the store holds afterwards."""
    (run,) = mlflow.search_runs(experiment_names=["breast_cancer"], output_format="list")
    place = mlflow.get_experiment(run.info.experiment_id).name
    points_to_it = run.info.run_id in record.data.tags["mlflow.note.content"]
    seen = ", ".join(f"{name}={run.data.params[name]}" for name in sorted(PARAMETERS))
    return [
        f"train: {run.info.status}, {seen}",
        f"notebook: {run.data.tags['mlflow.workbook.notebook']}, in the experiment {place}",
        f"in Default: {record.info.run_name}, which points to it" if points_to_it else "",
    ]


def main() -> None:
    """Run, print, and compare with what stands above."""
    with tempfile.TemporaryDirectory() as store:
        lines = report(train(Path(store)))
    print("\n".join(lines))
    assert lines == EXPECTED, f"expected: {EXPECTED}"


if __name__ == "__main__":
    main()
