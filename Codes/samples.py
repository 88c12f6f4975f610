"""What the runnable samples, Check_*.py, share: a store of their own, a training, and the output that they promise."""

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path


@contextlib.contextmanager
def own_store():
    """A temporary folder with an empty tracking store, which the environment names; both go away at the end."""
    with tempfile.TemporaryDirectory(prefix="workbook-check-") as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        yield Path(folder)


def train(problem, model):
    """The id of a new run of 02_train, by the command."""
    from Codes import tracking

    command = [sys.executable, "-m", "Codes.cli", "run", "02_train", "--no-progress"]
    parameters = ["-p", "problem", problem, "-p", "model", model]
    subprocess.run([*command, *parameters], check=True, capture_output=True)
    return tracking.runs(problem, "02_train").run_id[0]


def check(report, doc):
    """Print the lines of `report(folder)`, which has a store of its own in `folder`.

    Exit 1 where they are not what stands under `Expected output:` in the docstring `doc`.
    """
    with own_store() as folder:
        lines = list(report(folder))
    print("\n".join(lines))
    promised = doc.partition("Expected output:")[2].splitlines()
    if lines != [line.strip() for line in promised if line.strip()]:
        sys.exit("this is not the expected output, which stands in this file's docstring")
