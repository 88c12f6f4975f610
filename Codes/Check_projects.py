"""MLflow Projects: one command runs a notebook as an entry point, and makes one run, not two.

$ python Codes/Check_projects.py
entry points: compare, explore, main, promote, serve, start_here, train
train: FINISHED, model=dummy, problem=breast_cancer, seed=3
notebook: 02_train
runs in the store: 1
"""

import os
import sys
import tempfile
from pathlib import Path

import mlflow
import yaml

from Codes.paths import ROOT

EXPECTED = [line.strip() for line in __doc__.strip().splitlines()[3:]]
PARAMETERS = {"problem": "breast_cancer", "model": "dummy", "seed": 3}


def train(store: Path) -> mlflow.entities.Run:
    """Run the entry point `train` into an empty store; gives its run.

    The environment manager `local` takes the python on PATH: this very one. In a terminal:
    mlflow run . -e train -P problem=breast_cancer -P model=dummy -P seed=3 --env-manager local
    """
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{store / 'mlflow.db'}"
    mlflow.set_experiment("breast_cancer")
    submitted = mlflow.projects.run(str(ROOT), "train", parameters=PARAMETERS, env_manager="local")
    return mlflow.get_run(submitted.run_id)


def report(run: mlflow.entities.Run) -> list[str]:
    """What the store holds afterwards."""
    points = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
    seen = ", ".join(f"{name}={run.data.params[name]}" for name in sorted(PARAMETERS))
    return [
        f"entry points: {', '.join(sorted(points))}",
        f"train: {run.info.status}, {seen}",
        f"notebook: {run.data.tags['mlflow.workbook.notebook']}",
        f"runs in the store: {len(mlflow.search_runs(search_all_experiments=True))}",
    ]


def main() -> None:
    """Run, print, and compare with what stands above."""
    with tempfile.TemporaryDirectory() as store:
        lines = report(train(Path(store)))
    print("\n".join(lines))
    assert lines == EXPECTED, f"expected: {EXPECTED}"


if __name__ == "__main__":
    main()
