"""Tracking: a plain notebook with `mlflow.log_*` calls becomes one complete MLflow run.

    python Codes/Check_tracking.py

Expected output:

    status      FINISHED
    parameters  {'alpha': '0.5', 'seed': '3'}
    metrics     {'score': 1.5}
    tags        notebook=tiny source=True user=True
    artifacts   ['figures', 'manifest.json', 'notebook.html', 'notebook.ipynb']
    failed run  FAILED ValueError in cell 4
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat

from Codes.testing import samples

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARAMETERS = "alpha: float = 0.5  # strength [0, 1]\nseed: int = 0  # random state"
WORK = "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('score', 1.0)\nmlflow.log_metric('score', 1.5)"
FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 2]);"


def write(path: Path, *sources: str) -> None:
    """Write a notebook of a parameters cell and `sources` to `path`."""
    cells = [nbformat.v4.new_code_cell(source) for source in (PARAMETERS, *sources)]
    cells[0].metadata["tags"] = ["parameters"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(notebook, path)


def run(folder: Path, name: str) -> int:
    """Run the notebook `name` in `folder` with papermill's own command and our engine."""
    command = [Path(sys.executable).parent / "papermill", "--engine", "mlflow", "--no-progress-bar"]
    command += [f"{name}.ipynb", f"{name}_out.ipynb", "-p", "seed", "3"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    ).returncode


def newest(experiment: str) -> "tuple[MlflowClient, Run]":
    """(client, the newest run of `experiment`)."""
    from mlflow import MlflowClient

    client = MlflowClient()
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return client, client.search_runs([found.experiment_id])[0]


def report(folder: Path) -> Iterator[str]:
    """The lines of the expected output, from two runs in `folder`."""
    write(folder / "tiny.ipynb", WORK, FIGURE)
    write(folder / "wrong.ipynb", "1 + 1", "raise ValueError('no')")
    codes = [run(folder, "tiny"), run(folder, "wrong")]
    assert codes[0] == 0 and codes[1] != 0, codes
    client, good = newest("tiny")
    _, bad = newest("wrong")
    tags, metrics = good.data.tags, good.data.metrics
    yield f"status      {good.info.status}"
    yield f"parameters  {dict(sorted(good.data.params.items()))}"
    yield f"metrics     {({k: v for k, v in metrics.items() if '/' not in k})}"
    yield (
        f"tags        notebook={tags['mlflow.workbook.notebook']} "
        f"source={tags['mlflow.source.name'].endswith('tiny.ipynb')} user={bool(tags['mlflow.user'])}"
    )
    kept = sorted(a.path for a in client.list_artifacts(good.info.run_id))
    yield f"artifacts   {[name for name in kept if name != 'kernel.log']}"
    error = f"{bad.data.tags['mlflow.workbook.error']} in cell {bad.data.tags['mlflow.workbook.error.cell']}"
    yield f"failed run  {bad.info.status} {error}"


if __name__ == "__main__":
    samples.check(report, __doc__)
