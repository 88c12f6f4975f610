"""Who predicts the rows that are scored: a thread here, or the workers of a Dask cluster."""

import contextlib
import tempfile
import threading
import warnings
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from Codes.ground import dask_cluster, manifest
from Codes.ground.errors import WorkbookError, first_line
from Codes.modeling import answers
from Codes.saved_models import trust
from Codes.saved_models.trust import Loaded

LOST = 3  # times that rows are sent where their worker is lost
# seconds until the scheduler must answer, and between two looks whether it is still there
PATIENCE = 10


def answer(loaded: Loaded, rows: pa.Table) -> pa.Table:
    """What the model `loaded` says of each of `rows` (an Arrow table of its columns), as an Arrow table."""
    found = answers.of_loaded(loaded, loaded.ordered(rows.to_pandas()))
    columns = {"prediction": _column(loaded, found.predictions)}
    if found.probabilities is not None:
        for label, values in zip(loaded.labels or (), found.probabilities.T):
            columns[f"probability of {label}"] = pa.array(np.ascontiguousarray(values))
    return pa.table(columns)


def _column(loaded: Loaded, values: Any) -> pa.Array:
    """Predicted `values` as an Arrow array: numbers as doubles, labels in their own type."""
    return pa.array(values, pa.float64() if loaded.labels is None else _kind(loaded.labels))


def _kind(labels: Any) -> pa.DataType:
    return pa.array(np.asarray(labels).tolist()).type


def schema(loaded: Loaded) -> pa.Schema:
    """The columns of `answer`, as an Arrow schema."""
    labels = loaded.labels
    if labels is None:
        return pa.schema([("prediction", pa.float64())])
    named = labels if loaded.gives_probabilities else []
    names = [(f"probability of {label}", pa.float64()) for label in named]
    return pa.schema([("prediction", _kind(labels)), *names])


class Here:
    """One thread of this process; scikit-learn's own threads work for it."""

    ahead = 2

    def __init__(self, loaded: Loaded) -> None:
        self.loaded, self.pool = loaded, ThreadPoolExecutor(1)

    def submit(self, rows: pa.Table) -> Future[pa.Table]:
        """Begin to predict `rows`; returns what `result` takes."""
        return self.pool.submit(answer, self.loaded, rows)

    def result(self, task: Future[pa.Table]) -> pa.Table:
        """The answers, once they are there."""
        return task.result()

    def close(self) -> None:
        """End it, after what it is at."""
        self.pool.shutdown(cancel_futures=True)


class Cluster:
    """The workers of the Dask cluster at `address`, which get the model's files once, and check them as we do."""

    def __init__(self, address: str, loaded: Loaded, say: Callable[[str], Any]) -> None:
        self.address, self.say, self.loaded = address, say, loaded
        self.expected = _of_example(loaded)
        self.client = self._connected()
        self.model = self._sent()

    def _connected(self) -> Any:
        client = dask_cluster.connect(self.address, PATIENCE)
        if not client.nthreads():
            client.close(timeout=5)
            raise WorkbookError(
                f"the Dask cluster {self.address} has no workers: start one: dask worker {self.address}"
            )
        return client

    @property
    def ahead(self) -> int:
        """How many parts are under way: two a thread, so that none waits for its next."""
        with contextlib.suppress(Exception):
            return max(2, 2 * sum(self.client.nthreads().values()))
        return 2

    def _sent(self) -> Any:
        loaded = self.loaded
        folder = loaded.folder
        files = {path: (folder / path).read_bytes() for path in manifest.of_folder(folder)}
        model = (loaded.digest, files, loaded.trusted, self.expected)
        return self.client.scatter([model], broadcast=True, hash=False)[0]

    def submit(self, rows: pa.Table) -> list[Any]:
        """Send `rows`; returns what `result` takes."""
        with warnings.catch_warnings():
            # it advises against sending much; parts are sent whole, so that a lost worker loses none
            warnings.filterwarnings("ignore", message="Sending large graph")
            future = self.client.submit(answer_there, self.model, rows, pure=False, retries=LOST)
        return [rows, future]

    def result(self, task: list[Any]) -> pa.Table:
        """The answers, once they are there; rows whose worker was lost are sent again."""
        for _ in range(LOST):
            try:
                return self._wait(task[1])
            except WorkbookError:
                raise
            except Exception as error:  # pylint: disable=broad-exception-caught  # Dask's are many
                self._check_alive(error)
                if not _is_loss(error):
                    raise WorkbookError(
                        f"a worker of {self.address} failed: {first_line(error, named=True)}"
                    ) from error
                with contextlib.suppress(Exception):  # where it fails, the next try tells
                    self.model = self._sent()
                    task[1] = self.submit(task[0])[1]
        raise WorkbookError(
            f"the workers of {self.address} were lost {LOST} times, perhaps out of memory: "
            "give fewer rows a batch, and run the same command again to go on."
        )

    def _wait(self, future: Any) -> pa.Table:
        from distributed import TimeoutError as Late

        was_said = False
        while True:
            try:
                return future.result(timeout=PATIENCE)
            except Late as error:
                self._check_alive(error)
                if not was_said and not self.client.nthreads():
                    self.say(f"the cluster {self.address} has no workers now; waiting for one")
                    was_said = True

    def _check_alive(self, error: BaseException) -> None:
        """Refuse to go on where the scheduler is gone."""
        try:
            self.client.scheduler_info(n_workers=0)
            self.client.nthreads()
            gone = self.client.status != "running"
        except Exception:  # pylint: disable=broad-exception-caught
            gone = True
        if gone:
            raise WorkbookError(
                f"the Dask scheduler {self.address} is gone: start it again, and run the same command to go on."
            ) from error

    def close(self) -> None:
        """Leave the cluster; what it is at is of no use any more."""
        with contextlib.suppress(Exception):
            self.client.close(timeout=5)


def _is_loss(error: BaseException) -> bool:
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    return isinstance(error, (CancelledError, KilledWorker, CommClosedError, TimeoutError))


Predictor = Here | Cluster

_models: dict[str, Loaded] = {}
_lock = threading.Lock()


def answer_there(
    model: tuple[str, dict[str, bytes], Collection[str], np.ndarray], rows: pa.Table
) -> pa.Table:
    """`answer` inside a Dask worker: `model` holds digest, files, and what they must answer for their example."""
    with _lock:
        if model[0] not in _models:
            _models.clear()
            _models[model[0]] = _loaded(*model)
    return answer(_models[model[0]], rows)


def _of_example(loaded: Loaded) -> np.ndarray:
    """What the model answers for its example, by which workers show that they answer alike."""
    if loaded.example is None:
        raise WorkbookError(
            "the model was saved without an example, by which a worker would show that it answers as here does: "
            "score it without --cluster, or save it with input_example=."
        )
    return loaded.answers(loaded.example)


def _loaded(
    digest: str, files: dict[str, bytes], trusted: Collection[str], expected: np.ndarray
) -> Loaded:
    """The model of `files`, checked: its digest, its types, and that it answers here as it does at the desk."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            loaded = trust.load(folder, trusted, digest)
        except trust.OtherPackages as error:
            words = trust.in_words(trust.other_packages(folder))
            raise WorkbookError(
                f"a worker cannot use the model: {words}, at the worker: install the model's packages there, or score "
                "without --cluster, where it is asked in a process that has them."
            ) from error
        found = _of_example(loaded)
    numbers = np.issubdtype(found.dtype, np.number)
    if not (np.allclose if numbers else np.array_equal)(found, expected):
        raise WorkbookError(
            "a worker answers differently for the model's example: install there what is here."
        )
    return loaded
