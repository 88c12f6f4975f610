"""A store that goes away with all that is in it."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def own_store() -> Iterator[Path]:
    """A temporary folder with an empty tracking store, which the environment names; both go away at the end."""
    with tempfile.TemporaryDirectory(prefix="workbook-own-") as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        yield Path(folder)
