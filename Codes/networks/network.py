"""What a network is to the workbook: an estimator at the end of a pipeline, whose weights are arrays.

A framework is asked for seven things (`Network._start` to `_use`); the rest is here, and the same for all: numbers,
gaps and categories, epochs, early stopping, a checkpoint of each epoch. So a saved network is what any other model
is: a pipeline in a file of skops, without code. No framework's own format is written or read.
"""

import importlib.util
import io
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from scipy.special import ndtri, softmax  # pylint: disable=no-name-in-module
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from Codes.ground.errors import WorkbookError

Arrays = dict[str, np.ndarray]  # weights and their like, by name
Rows = tuple[
    np.ndarray, np.ndarray
]  # numbers (n, columns) and codes (n, categorical columns) of rows

QUANTILES = 500  # by which a column of numbers is scaled
HELD = 0.15  # of the rows to learn from, on which it is seen when to stop
STEPS, FEWEST = 20, 8  # of an epoch at least, while each has so many rows
WAVE = 8  # what the waves of a number become
AT_ONCE = 4096  # rows that are answered at once, which bounds the memory
DEVICES = ("auto", "cpu", "cuda")
# setting: its type and the least that it may be
LEAST: dict[str, tuple[Any, int]] = dict.fromkeys(
    ("width", "batch_size", "epochs", "patience"), (int, 1)
)
LEAST |= dict.fromkeys(("depth", "frequencies"), (int, 0))
LEAST |= dict.fromkeys(("dropout", "learning_rate", "weight_decay"), ((int, float), 0))


@dataclass(frozen=True)
class Lesson:
    """Rows, and the targets that are to be learned from them."""

    rows: Rows
    targets: np.ndarray

    def few(self) -> "Lesson":
        """AT_ONCE of them at most, from all over."""
        every = 1 + len(self.targets) // AT_ONCE
        return Lesson((self.rows[0][::every], self.rows[1][::every]), self.targets[::every])


class Watch(Protocol):
    """Whoever looks on while a network learns."""

    def held(self) -> np.ndarray | None:
        """A mask of the rows to see when to stop by; None: drawn by chance."""

    def measure(self, answers: np.ndarray) -> dict[str, float]:
        """Further figures of an epoch, from what the network answers for the held rows."""

    def report(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Told of each epoch, those of a killed process that this one goes on from, too."""

    def load(self) -> bytes | None:
        """What `save` kept last; None where there is nothing to go on from."""

    def save(self, checkpoint: bytes) -> None:
        """Keep a checkpoint."""


class Network(BaseEstimator):  # pylint: disable=too-many-instance-attributes
    """A network for the matrix that models.build prepares: numbers with gaps, and codes of categories.

    Args:
        width, depth: of the hidden layers.
        frequencies: waves by which each number is seen, beside itself (Gorishniy et al., 2022); 0: none.
        dropout, learning_rate, weight_decay: as everywhere.
        batch_size: rows a step; of a small table fewer, so that an epoch has some steps.
        epochs: the most there are; it ends after `patience` without a lower loss on the held rows, and takes the best.
        device: where it learns: auto, cpu or cuda. It answers on the CPU, in double precision: so it answers alike
            with any number of threads, and in any company of rows.
        random_state: equal ones make equal networks on a CPU.
        categorical_features: the positions of the codes in the matrix.
    """

    PACKAGES: ClassVar[tuple[str, ...]] = ()  # that a saved one needs, beside those of every model
    LIBRARY: ClassVar[tuple[str, str]] = ("", "")  # the module, and the extra that brings it
    _parameter_constraints: ClassVar[dict[str, list]] = (
        {}
    )  # that there are any, makes models.build ask below

    knots_: list[np.ndarray]  # of each column of numbers, and their places
    places_: list[np.ndarray]
    gaps_: np.ndarray  # the columns of numbers that lacked some
    levels_: list[int]  # how many codes each categorical column has
    outputs_: int
    weights_: Arrays

    # pylint: disable-next=too-many-arguments,too-many-positional-arguments
    def __init__(
        self,
        width: int = 128,
        depth: int = 2,
        frequencies: int = 16,
        dropout: float = 0.1,
        learning_rate: float = 0.002,
        weight_decay: float = 0.01,
        batch_size: int = 256,
        epochs: int = 40,
        patience: int = 6,
        device: str = "auto",
        random_state: int | None = None,
        categorical_features: list[int] | None = None,
    ) -> None:
        self.width = width
        self.depth = depth
        self.frequencies = frequencies
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.device = device
        self.random_state = random_state
        self.categorical_features = categorical_features

    def _validate_params(self) -> None:
        """Refuse settings that mean nothing; scikit-learn's own name for it."""
        if self.device not in DEVICES:
            raise ValueError(f"device must be one of {', '.join(DEVICES)}, not {self.device!r}")
        for name, (kind, least) in LEAST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, kind) or not value >= least:
                what = "whole number" if kind is int else "number"
                raise ValueError(f"{name} must be a {what} of at least {least}, not {value!r}")
        seed = self.random_state
        if seed is not None and (not isinstance(seed, (int, np.integer)) or seed < 0):
            raise ValueError(f"random_state must be a whole number of at least 0, not {seed!r}")
        if self.dropout >= 1:
            raise ValueError(f"dropout must be less than 1, not {self.dropout!r}")

    # what a framework is asked for

    def _start(self, seed: int) -> None:
        """Make the layers and the optimizer, the weights drawn by `seed`."""
        raise NotImplementedError

    def _epoch(self, lesson: Lesson, batches: list[np.ndarray], seed: int) -> None:
        """Learn from each of the `batches` (positions of rows); what is drawn is drawn by `seed`."""
        raise NotImplementedError

    def _look(self, rows: Rows) -> np.ndarray:
        """What the network under way says of `rows`: (n, outputs)."""
        raise NotImplementedError

    def _state(self) -> Arrays:
        """All that changes as it learns: the weights, and what the optimizer keeps."""
        raise NotImplementedError

    def _restore(self, state: Arrays) -> None:
        """Go on from a `_state`."""
        raise NotImplementedError

    def _weights(self) -> Arrays:
        """The weights alone."""
        raise NotImplementedError

    def _use(self) -> Callable[[Rows], np.ndarray]:
        """A function that says of rows what `weights_` say, in double precision."""
        raise NotImplementedError

    # the same for all

    def _is_half(self, device: str) -> bool:
        """Whether it learns in half precision (bfloat16) on `device`: on a graphics card."""
        return "cpu" not in device.lower()

    def fit(self, X: Any, y: Any, watch: Watch | None = None) -> Self:
        """Learn from the matrix `X` and the targets `y`, until the held rows say that it is enough."""
        # pylint: disable=attribute-defined-outside-init
        require(type(self))
        X, y = np.asarray(X, float), np.asarray(y)
        any_seed = np.random.default_rng().integers(2**31)
        seed = int(any_seed if self.random_state is None else self.random_state)
        held = watch.held() if watch else None
        held = drawn(len(X), seed) if held is None else np.asarray(held)
        self.n_features_in_ = X.shape[1]
        targets = self._learn_targets(y, ~held)
        self._learn_columns(X[~held])
        some, seen = (Lesson(self._rows(X[m]), targets[m]) for m in (~held, held))
        course = self._learn(seed, some, seen, watch)
        self.n_iter_ = len(course)
        for name in ("_live", "_answering"):
            self.__dict__.pop(name, None)
        return self

    def _learn(
        self, seed: int, some: Lesson, held: Lesson, watch: Watch | None
    ) -> list[dict[str, float]]:
        """Epoch after epoch; `weights_` are those of the best one. Returns the figures of each."""
        self._start(seed)
        course, best = self._resumed(watch)
        while len(course) < self.epochs and len(course) - _best(course) < self.patience:
            number, began = len(course) + 1, time.monotonic()
            order = np.random.default_rng([seed, number]).permutation(len(some.targets))
            count = max(round(len(order) / self.batch_size), min(STEPS, len(order) // FEWEST), 1)
            self._epoch(some, np.array_split(order, count), seed + 1009 * number)
            figures = self._figures(some, held, watch)
            course.append(figures | {"seconds": time.monotonic() - began})
            if not np.isfinite(figures["loss"]):
                raise WorkbookError(
                    f"epoch {number}: the loss is no number any more; take a smaller learning_rate."
                )
            if _best(course) == number:
                best = self._weights()
            if watch:
                watch.save(_packed(course, best, self._state()))
                watch.report(number, course[-1])
        # pylint: disable-next=attribute-defined-outside-init
        self.weights_ = best
        return course

    def _figures(self, some: Lesson, held: Lesson, watch: Watch | None) -> dict[str, float]:
        """The losses, and what `watch` measures, as the network under way stands."""
        said, few = _in_parts(self._look, held.rows), some.few()
        figures = {"loss": self._loss(said, held.targets)}
        figures["loss_train"] = self._loss(self._look(few.rows), few.targets)
        return figures | (watch.measure(self._answers(said.astype(float))) if watch else {})

    def _resumed(self, watch: Watch | None) -> tuple[list[dict[str, float]], Arrays]:
        """(the figures of the epochs that a killed process has left, its best weights); of none without."""
        content = watch.load() if watch else None
        if watch is None or content is None:
            return [], self._weights()
        course, best, state = _unpacked(content)
        self._restore(state)
        for number, figures in enumerate(course, 1):
            watch.report(number, figures)
        return course, best

    def _learn_columns(self, X: np.ndarray) -> None:
        """What is known of the matrix's columns: knots of the numbers, which have gaps, how many codes there are."""
        # pylint: disable=attribute-defined-outside-init
        numbers, codes = self._parted(X)
        scales = [_quantiles(values[np.isfinite(values)]) for values in numbers.T]
        self.knots_, self.places_ = ([each[i] for each in scales] for i in (0, 1))
        self.gaps_ = np.flatnonzero(np.isnan(numbers).any(axis=0))
        self.levels_ = [int(np.nanmax(column, initial=-1)) + 2 for column in codes.T]

    def _parted(self, X: np.ndarray) -> Rows:
        """The columns of numbers, and those of codes, both with gaps."""
        coded = self.categorical_features or []
        return np.delete(X, coded, axis=1), X[:, coded]

    def _rows(self, X: np.ndarray) -> Rows:
        """Numbers by their places among those of training, gaps in the middle and marked; codes, 0 of none known."""
        numbers, codes = self._parted(X)
        scales = zip(numbers.T, self.knots_, self.places_)
        found = np.array([np.interp(*each) for each in scales]).reshape(numbers.T.shape).T
        gaps = np.isnan(found)
        found = np.hstack([np.where(gaps, 0.0, found), gaps[:, self.gaps_]])
        codes = np.nan_to_num(codes + 1)
        return found, np.where(codes < np.array(self.levels_), codes, 0).astype(np.int64)

    def in_onnx(self) -> bytes:
        """The fitted network in ONNX, by its framework's own exporter: numbers and codes to what it says of them.

        Raises:
            NotImplementedError: why there is no such exporter.
        """
        raise NotImplementedError(f"{self.LIBRARY[0]} brings no exporter")

    def answer_by(self, answer: Callable[[Rows], np.ndarray], X: np.ndarray) -> None:
        """Answer by `answer` from now on; ValueError where that says otherwise of the matrix `X` than the framework.

        Each row of `X` is asked alone, and all at once: what is reckoned may go by the number of rows.
        """
        rows, theirs = self._rows(X), self._said(X)
        ones = [answer((rows[0][i : i + 1], rows[1][i : i + 1])) for i in range(min(len(X), 200))]
        for ours in (np.concatenate(ones), _in_parts(answer, rows)):
            if not np.allclose(ours, theirs[: len(ours)], rtol=1e-9, atol=1e-12):
                raise ValueError("in ONNX it answers otherwise")
        self._answering = answer  # pylint: disable=attribute-defined-outside-init

    def trials(self, count: int) -> np.ndarray:
        """A matrix of `count` rows from all over what it has learned from, and a little beyond."""
        random, coded = np.random.default_rng(0), set(self.categorical_features or [])
        knots, levels, columns = iter(self.knots_), iter(self.levels_), []
        for place in range(self.n_features_in_):
            if place in coded:  # codes from 0, and one that training never saw
                values = random.integers(0, next(levels), count).astype(float)
            else:
                known = next(knots)
                values = random.choice(known, count) + random.normal(0, known.std() + 1, count)
            columns.append(np.where(random.random(count) < 0.05, np.nan, values))
        return np.column_stack(columns)

    def _said(self, X: Any) -> np.ndarray:
        """What the fitted network says of the matrix `X`: (n, outputs), in double precision."""
        check_is_fitted(self, "weights_")
        X = np.asarray(X, float)
        if "_answering" not in self.__dict__:
            require(type(self))
            self._answering = self._use()  # pylint: disable=attribute-defined-outside-init
        return _in_parts(self._answering, self._rows(X))

    def __getstate__(self) -> dict[str, Any]:
        """What is saved or copied: no framework's object."""
        state = dict(super().__getstate__())
        return {k: v for k, v in state.items() if k not in ("_live", "_answering")}

    def _learn_targets(self, y: np.ndarray, some: np.ndarray) -> np.ndarray:
        """The targets as the loss takes them."""
        raise NotImplementedError

    def _loss(self, said: np.ndarray, targets: np.ndarray) -> float:
        """The mean loss of what the network `said`."""
        raise NotImplementedError

    def _answers(self, said: np.ndarray) -> np.ndarray:
        """Probabilities, or amounts, from what the network `said`."""
        raise NotImplementedError


# pylint: disable=abstract-method  # a framework brings the others
class Classifier(ClassifierMixin, Network):
    """A Network whose outputs are logits, one a class."""

    def _learn_targets(self, y: np.ndarray, some: np.ndarray) -> np.ndarray:
        # pylint: disable=attribute-defined-outside-init,unused-argument
        self.classes_, targets = np.unique(y, return_inverse=True)
        self.outputs_ = len(self.classes_)
        return targets

    def _loss(self, said: np.ndarray, targets: np.ndarray) -> float:
        shares = softmax(said.astype(float), axis=1)[np.arange(len(said)), targets]
        return float(-np.log(np.clip(shares, 1e-15, 1)).mean())

    def _answers(self, said: np.ndarray) -> np.ndarray:
        return softmax(said, axis=1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each of `classes_` for each row of the matrix `X`."""
        return self._answers(self._said(X))

    def predict(self, X: Any) -> np.ndarray:
        """The label of the highest probability of each row of the matrix `X`."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class Regressor(RegressorMixin, Network):
    """A Network with one output: an amount, in standard deviations from the mean."""

    def _learn_targets(self, y: np.ndarray, some: np.ndarray) -> np.ndarray:
        # pylint: disable=attribute-defined-outside-init
        self.outputs_, y = 1, y.astype(float)
        self.mean_, self.scale_ = float(y[some].mean()), float(y[some].std()) or 1.0
        return (y - self.mean_) / self.scale_

    def _loss(self, said: np.ndarray, targets: np.ndarray) -> float:
        return float(np.square(said[:, 0] - targets).mean())

    def _answers(self, said: np.ndarray) -> np.ndarray:
        return said[:, 0] * self.scale_ + self.mean_

    def predict(self, X: Any) -> np.ndarray:
        """The amount of each row of the matrix `X`."""
        return self._answers(self._said(X))


def is_installed(kind: type) -> bool:
    """Whether the framework of the class `kind` is there; of any other class there is nothing to ask."""
    module = getattr(kind, "LIBRARY", ("", ""))[0]
    return not module or importlib.util.find_spec(module) is not None


def require(kind: type) -> None:
    """Refuse the class `kind` where its framework is not installed."""
    if not is_installed(kind):
        module, extra = getattr(kind, "LIBRARY")
        raise WorkbookError(
            f'{kind.__name__} needs {module}, which is not installed: make install EXTRAS="{extra}"'
        )


def packages(kinds: Iterable[type]) -> set[str]:
    """The packages that saved models with estimators of these `kinds` need."""
    return {name for kind in kinds for name in getattr(kind, "PACKAGES", ())}


def embedded(levels: int) -> int:
    """The width of the embedding of a category with so many `levels`."""
    return min(16, 1 + levels // 2)


def drawn(count: int, seed: int) -> np.ndarray:
    """A mask of HELD of so many rows, by chance."""
    mask = np.zeros(count, bool)
    mask[np.random.default_rng(seed).permutation(count)[: max(1, round(HELD * count))]] = True
    return mask


def _in_parts(answer: Callable[[Rows], np.ndarray], rows: Rows) -> np.ndarray:
    """What `answer` says of `rows`, AT_ONCE at a time."""
    starts = range(0, max(len(rows[0]), 1), AT_ONCE)
    return np.concatenate([answer((rows[0][i:][:AT_ONCE], rows[1][i:][:AT_ONCE])) for i in starts])


def _best(course: list[dict[str, float]]) -> int:
    """The number of the epoch with the lowest loss, from 1; 0 of none."""
    losses = [figures["loss"] for figures in course]
    return 1 + losses.index(min(losses)) if losses else 0


def _quantiles(values: np.ndarray) -> Rows:
    """(knots, their places): the `values` at their quantiles, and a normal distribution's there."""
    if values.size == 0:
        return np.zeros(1), np.zeros(1)
    shares = np.linspace(0, 1, min(QUANTILES, len(values)) + 2)[1:-1]
    knots, which = np.unique(np.quantile(values, shares), return_inverse=True)
    means = np.bincount(which, weights=shares) / np.bincount(which)
    return knots, ndtri(means)


def _packed(course: list[dict[str, float]], best: Arrays, state: Arrays) -> bytes:
    """A checkpoint: arrays alone, in NumPy's own format."""
    content = io.BytesIO()
    named: dict[str, Any] = {f"best {k}": v for k, v in best.items()}
    named |= {f"state {k}": v for k, v in state.items()}
    np.savez(content, course=np.array(json.dumps(course)), **named)
    return content.getvalue()


def epochs_of(checkpoint: bytes) -> int:
    """How many epochs a `checkpoint` has behind it."""
    return len(_unpacked(checkpoint)[0])


def _unpacked(content: bytes) -> tuple[list[dict[str, float]], Arrays, Arrays]:
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        parts: tuple[Arrays, Arrays] = {}, {}
        for name in found.files:
            kind, _, rest = name.partition(" ")
            if rest:
                parts[kind == "state"][rest] = found[name]
        return json.loads(str(found["course"])), *parts
