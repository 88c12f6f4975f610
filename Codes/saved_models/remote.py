"""A model that needs other packages than those here: it answers in a process of its own, which has them.

A scikit-learn of another version may not read it, or may answer otherwise.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection
from io import BytesIO
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, TypedDict

import click
import numpy as np
import pandas as pd
import pyarrow as pa
from mlflow.models import Model
from sklearn.base import BaseEstimator

from Codes.ground import paths
from Codes.ground.errors import WorkbookError, first_line
from Codes.saved_models import reproduction, trust


class Facts(TypedDict):
    """What the process tells of its model."""

    labels: list | None
    type: str  # as scikit-learn's tags have it
    methods: list[str]
    categories: dict[str, list]


METHODS = ("predict", "predict_proba", "decision_function")
LOADING = 120.0  # seconds that it may take


def load(
    folder: str | Path, trusted: Collection[str] = (), expected: str | None = None
) -> trust.Loaded:
    """The model in `folder` (see trust.load), in this process, or in one with its own packages where it needs these.

    Raises:
        WorkbookError: one line that says what is wrong with it; of other packages: which, and the way.
    """
    try:
        return trust.load(folder, trusted, expected)
    except trust.OtherPackages as error:
        needs = error
    try:
        python, _ = reproduction.environment(folder, trusted)
        pipeline = Remote(python, folder, expected or trust.digest(folder), trusted)
    except (WorkbookError, OSError) as error:
        reason = f"{needs.message} An environment with its own cannot be made or used here: "
        raise WorkbookError(reason + first_line(error)) from error
    words = trust.in_words(trust.other_packages(folder))
    click.echo(f"the model answers with its own packages, in a process apart: {words}", err=True)
    meta = Model.load(str(folder))
    return trust.Loaded(pipeline, meta, Path(folder), tuple(trusted), pipeline.digest)


class Remote(BaseEstimator):  # pylint: disable=too-many-instance-attributes
    """As a fitted pipeline, for those who ask it; its process ends with this object, or with this process.

    Args:
        python: the interpreter that has the model's packages.
        folder, digest, trusted: of the model, which is checked there as it would be here.
    """

    _pipe: Connection
    process: subprocess.Popen[bytes]

    def __init__(
        self, python: str | Path, folder: str | Path, digest: str, trusted: Collection[str] = ()
    ) -> None:
        self.digest = digest
        self._command = [
            str(python),
            "-m",
            "Codes.saved_models.remote",
            str(folder),
            digest,
            *trusted,
        ]
        self._lock = threading.Lock()
        self._log = tempfile.TemporaryFile()  # pylint: disable=consider-using-with
        self.facts = self._started()
        if self.facts["labels"] is not None:
            self.classes_ = np.array(self.facts["labels"])

    def __getattr__(self, name: str) -> Callable[[pd.DataFrame], np.ndarray]:
        if name in METHODS and name in self.__dict__.get("facts", {}).get("methods", ()):
            return lambda frame: self._answer(name, frame)
        raise AttributeError(name)

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:  # pylint: disable=invalid-name  # as theirs
        return f"Remote({' '.join(self._command)})"

    def __sklearn_tags__(self) -> Any:
        # pyrefly: ignore[missing-attribute]  # its stubs are of scikit-learn 1.3
        tags = super().__sklearn_tags__()
        tags.estimator_type = self.facts["type"]
        return tags

    def _started(self) -> Facts:
        """Start the process; returns what it tells of its model."""
        self._pipe, theirs = Pipe()
        with theirs:
            # it ends when it reads the pipe's end
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                [*self._command[:3], str(theirs.fileno()), *self._command[3:]],
                cwd=paths.ROOT,
                env=reproduction.variables(self._command[0]) | {"PYTHONWARNINGS": "ignore"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,  # Ctrl-C is for this process, which may have requests to answer
            )
        if not self._pipe.poll(LOADING):
            raise WorkbookError(f"it is not loaded after {LOADING:g} s.")
        return json.loads(self._received())

    def _received(self) -> bytes:
        """What the process sends; a ValueError holds what it says of a failure."""
        try:
            status, content = self._pipe.recv_bytes(), self._pipe.recv_bytes()
        except (EOFError, OSError) as error:
            self._pipe.close()
            self.process.wait(10)
            self._log.seek(0)
            lines = self._log.read().decode("utf-8", "replace").strip().splitlines() or ["no word"]
            raise WorkbookError(f"the model's process ended: {lines[-1][:300]}") from error
        if status == b"failed":
            raise ValueError(content.decode())
        return content

    def _answer(self, method: str, frame: pd.DataFrame) -> np.ndarray:
        """What `method` of the model says of the rows of `frame`."""
        rows = pa.Table.from_pandas(frame, preserve_index=False)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
        with self._lock:
            if self._pipe.closed:  # it ended: once more
                self._started()
            with contextlib.suppress(OSError):  # told by what is received
                self._pipe.send_bytes(method.encode())
                self._pipe.send_bytes(sink.getvalue())
            return np.load(BytesIO(self._received()), allow_pickle=False)


def main(descriptor: str, folder: str, digest: str, *trusted: str) -> None:
    """Load the model, tell the facts of it, and answer for what comes through the pipe until its end."""
    pipe = Connection(int(descriptor))
    loaded = trust.load(folder, trusted, digest)
    _send(pipe, json.dumps(_facts(loaded)).encode())
    while True:
        try:
            method, rows = pipe.recv_bytes().decode(), pipe.recv_bytes()
        except EOFError:
            return
        try:
            frame = loaded.ordered(pa.ipc.open_stream(rows).read_pandas())
            answers = np.asarray(getattr(loaded.pipeline, method)(frame))
            answers = answers.astype(str) if answers.dtype == object else answers
            content = BytesIO()
            np.save(content, answers, allow_pickle=False)
            _send(pipe, content.getvalue())
        except Exception as error:  # pylint: disable=broad-exception-caught  # of any model
            _send(pipe, first_line(error, named=True).encode(), b"failed")


def _send(pipe: Connection, content: bytes, status: bytes = b"done") -> None:
    pipe.send_bytes(status)
    pipe.send_bytes(content)


def _facts(loaded: trust.Loaded) -> Facts:
    """What is asked of a pipeline beside its answers."""
    labels = loaded.labels
    return {
        "labels": None if labels is None else np.asarray(labels).tolist(),
        "type": "regressor" if labels is None else "classifier",
        "methods": [name for name in METHODS if hasattr(loaded.pipeline, name)],
        "categories": {n: [_plain(v) for v in known] for n, known in loaded.categories.items()},
    }


def _plain(value: Any) -> Any:
    """`value` without NumPy's type, as JSON takes it."""
    return value.item() if isinstance(value, np.generic) else value


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (WorkbookError, KeyboardInterrupt) as error:
        sys.exit(str(error))
