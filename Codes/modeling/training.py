"""Models learn: any of them in a line, its seconds logged; a network epoch by epoch, each logged and kept.

A network sees when to stop by rows that belong together: the last ones by time, or whole groups.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from sklearn.pipeline import Pipeline

from Codes.ground import files, manifest, paths
from Codes.ground.errors import WorkbookError
from Codes.modeling import evaluation, models
from Codes.networks import network
from Codes.problems import data, rows
from Codes.problems.problem import Problem
from Codes.saved_models import trust

RESUMED = "mlflow.workbook.resumed"  # a run's tag: the last epoch that a killed one had left
KEPT = (
    7 * 24 * 3600
)  # seconds that a checkpoint waits for whom it belongs to; a pruned trial never comes back


def learn(problem: Problem, pipeline: Pipeline, train: pd.DataFrame) -> Pipeline:
    """Fit `pipeline` on the rows `train`, and log the seconds that it took (fit_seconds) to the active run."""
    began = time.perf_counter()
    watch = _fit(problem, pipeline, train)
    mlflow.log_metric(models.SECONDS, watch.seconds() if watch else time.perf_counter() - began)
    return pipeline


def fitted(problem: Problem, pipeline: Pipeline, train: pd.DataFrame) -> Pipeline:
    """`pipeline`, fitted on the rows `train` without a word."""
    _fit(problem, pipeline, train)
    return pipeline


def _fit(problem: Problem, pipeline: Pipeline, train: pd.DataFrame) -> "_Held | None":
    """Fit `pipeline` on the rows `train`; of a network what watched it."""
    X, y, learner = data.features(train, problem), data.target(train, problem), pipeline[-1]
    if not isinstance(learner, network.Network):
        pipeline.fit(X, y)
        return None
    watch = _Held(held_rows(problem, train, int(learner.random_state or 0)))
    pipeline.fit(X, y, **_watched(pipeline, watch))
    return watch


def _watched(pipeline: Pipeline, watch: network.Watch) -> dict[str, network.Watch]:
    """What `pipeline.fit` is told, so that the network at its end has `watch`."""
    return {f"{pipeline.steps[-1][0]}__watch": watch}


def fit(problem: Problem, pipeline: Pipeline, train: pd.DataFrame) -> pd.DataFrame:
    """Let the network in `pipeline` learn from the rows `train`, each epoch logged as metrics with steps.

    The same call, after its process was killed, goes on from the last epoch, to the same result on a CPU.

    Returns:
        A row an epoch: the loss and the deciding metric on the held rows, the loss on the others, seconds. Its
        `attrs["best"]` is the epoch that was taken.
    """
    learner = pipeline[-1]
    if not isinstance(learner, network.Network):
        raise WorkbookError(
            f"{models.name_of(pipeline)} is no network, it has no epochs: train it by 02_train, or choose one of "
            "torch and tensorflow, or a class of yours that is derived from such a one."
        )
    X, y = data.features(train, problem), data.target(train, problem)
    held = held_rows(problem, train, int(learner.random_state or 0))
    with _kept(_key(pipeline, X, y, held)) as file:
        watch = _Watch(problem, y, held, file)
        pipeline.fit(X, y, **_watched(pipeline, watch))
    course = pd.DataFrame(watch.course).rename_axis("epoch")
    course.index += 1
    course.attrs["best"] = int(course.loss.idxmin())
    figures = {"epochs": len(course), "best_epoch": course.attrs["best"]}
    mlflow.log_metrics(figures | {models.SECONDS: watch.seconds()})
    return course


def held_rows(problem: Problem, train: pd.DataFrame, seed: int) -> np.ndarray:
    """A mask of the rows of `train` by which a network sees when to stop: the last by time, whole groups, or any."""
    if problem.split.kind == "time":
        times = train[problem.time]
        last = times.sort_values().iloc[int(len(times) * (1 - network.HELD)) - 1]
        mask = (times > last).to_numpy()
    else:
        blocks = rows.blocks(train, problem)
        known = np.random.default_rng(seed).permutation(np.unique(blocks))
        mask = np.isin(blocks, known[: max(1, round(network.HELD * len(known)))])
    # of a single group, or a single moment, there are no parts
    return mask if 0 < mask.sum() < len(mask) else network.drawn(len(mask), seed)


class _Held:
    """A network.Watch that says which rows are held, and keeps silent."""

    def __init__(self, held: np.ndarray) -> None:
        self.mask = held
        self.course: list[dict[str, float]] = []

    def held(self) -> np.ndarray:
        """The mask."""
        return self.mask

    def measure(self, answers: np.ndarray) -> dict[str, float]:  # pylint: disable=unused-argument
        """No further figures."""
        return {}

    # pylint: disable-next=unused-argument
    def report(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Keep the figures of an epoch."""
        self.course.append(dict(figures))

    def seconds(self) -> float:
        """What all epochs took, those before a kill, too; the import of the framework does not count."""
        return sum(figures["seconds"] for figures in self.course)

    def load(self) -> bytes | None:
        """Nothing is kept."""
        return None

    def save(self, checkpoint: bytes) -> None:
        """Nothing is kept."""


class _Watch(_Held):
    """One that logs to the active run, and keeps checkpoints in `file` (None: nowhere)."""

    def __init__(self, problem: Problem, y: pd.Series, held: np.ndarray, file: Path | None) -> None:
        super().__init__(held)
        self.problem, self.file = problem, file
        self.actual = y.to_numpy()[held]
        self.labels = np.unique(y).tolist() if problem.task == "classification" else None

    def measure(self, answers: np.ndarray) -> dict[str, float]:
        """The deciding metric, where it can be taken."""
        table, name = pd.DataFrame({"actual": self.actual}), self.problem.metric.name
        if self.labels is None:
            table["predicted"] = answers
        else:
            table["predicted"] = np.array(self.labels, self.actual.dtype)[answers.argmax(axis=1)]
            names = [f"probability of {label}" for label in self.labels]
            table = table.join(pd.DataFrame(answers, columns=names))
        value = evaluation.measure(self.problem, table, self.labels, only=name).get(name, np.nan)
        return {name: float(value)} if np.isfinite(value) else {}

    def report(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Log the figures of an epoch."""
        super().report(epoch, figures)
        mlflow.log_metrics({f"epoch_{k}": v for k, v in figures.items()}, step=epoch)

    def load(self) -> bytes | None:
        """The checkpoint of a process that was killed."""
        if self.file is None or not self.file.exists():
            return None
        content = self.file.read_bytes()
        epoch = network.epochs_of(content)
        mlflow.set_tag(RESUMED, epoch)
        print(f"going on after epoch {epoch}, where an earlier process was ended")
        return content

    def save(self, checkpoint: bytes) -> None:
        """Keep a checkpoint."""
        if self.file:
            files.write(self.file, checkpoint)


def _key(pipeline: Pipeline, X: pd.DataFrame, y: pd.Series, held: np.ndarray) -> str:
    """What tells the same training again: its settings, rows, code and packages."""
    code = manifest.of_folder(Path(network.__file__).parent)
    code = {name: digest for name, digest in code.items() if name.endswith(".py")}
    pins = [trust.version_of(name) for name in (*trust.PACKAGES, *pipeline[-1].PACKAGES)]
    settings = [type(pipeline[-1]).__qualname__, repr(pipeline.get_params()), code, pins, list(X)]
    total = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for values in (X, y):
        total.update(pd.util.hash_pandas_object(values, index=False).to_numpy().tobytes())
    total.update(held.tobytes())
    return total.hexdigest()[:16]


@contextlib.contextmanager
def _kept(key: str) -> Iterator[Path | None]:
    """The file of the checkpoint of the training `key`, until that is done; None where another process is at it."""
    folder = paths.ROOT / ".cache" / "epochs"
    folder.mkdir(parents=True, exist_ok=True)
    _remove_forgotten(folder)
    lock, file = FileLock(folder / f"{key}.lock"), folder / f"{key}.npz"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("another process is at the same training: no checkpoint of this one is kept")
        yield None
        return
    try:
        yield file
        file.unlink(missing_ok=True)
    finally:  # a cell that was interrupted leaves its frames, and what they hold, in the kernel
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _remove_forgotten(folder: Path) -> None:
    """Remove the checkpoints in `folder` that are older than KEPT and that no process is at."""
    for file in folder.glob("*.npz"):
        with contextlib.suppress(
            Timeout, FileNotFoundError
        ):  # another process may be at it, or quicker
            if time.time() - file.stat().st_mtime > KEPT:
                with FileLock(file.with_suffix(".lock"), timeout=0) as lock:
                    file.unlink()
                    Path(lock.lock_file).unlink()
