"""Networks that TensorFlow trains, by Keras: the same layers as PyTorch's (torch_net), trained in graphs.

TensorFlow is imported where it is used, and by nothing else: the workbook goes without it.
"""

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any, ClassVar, NamedTuple

import numpy as np

from Codes.ground.errors import WorkbookError
from Codes.networks.network import (
    WAVE,
    Arrays,
    Classifier,
    Lesson,
    Network,
    Regressor,
    Rows,
    embedded,
)

# pylint: disable=import-error,no-member,abstract-method,too-many-ancestors  # an extra; a part of two classes


def _distribution() -> str:
    """The package that brings the module tensorflow here: one of several."""
    names = ("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tensorflow-macos")
    return next(filter(_is_here, names), "tensorflow-cpu")


def _is_here(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


class Live(NamedTuple):
    """A network under way."""

    network: Any  # a keras.Model
    optimizer: Any
    step: Callable[..., Any]  # learns from a batch
    device: str


class _TensorFlow(Network):
    """What both share."""

    PACKAGES: ClassVar[tuple[str, ...]] = ("keras", _distribution())
    LIBRARY: ClassVar[tuple[str, str]] = ("tensorflow", "tensorflow")
    _live: Live

    # pylint: disable-next=too-many-locals
    def layers(self, numbers: int, levels: list[int], seeds: Iterator[int], kind: str) -> Any:
        """The keras.Model of a network; a class of your own may make another, of the same inputs and outputs.

        Args:
            numbers: columns of numbers, gaps' marks included.
            levels: how many codes each categorical column has.
            seeds: from which each layer that draws takes one.
            kind: of the numbers that it reckons with: float32, float64, mixed_bfloat16.
        """
        keras, _ = _libraries()
        draw = functools.partial(_initial, seeds)

        def dense(width: int, activation: str | None = None, kind: str = kind) -> Any:
            initial = draw("GlorotUniform")
            return keras.layers.Dense(width, activation, kernel_initializer=initial, dtype=kind)

        exact = "float64" if kind == "float64" else "float32"  # of what comes in and goes out
        seen = keras.Input((numbers,), dtype=exact)
        codes = keras.Input((len(levels),), dtype="int64")
        parts = [seen]
        for place, count in enumerate(levels):
            table = keras.layers.Embedding(
                count, embedded(count), embeddings_initializer=draw("RandomNormal"), dtype=kind
            )
            parts.append(table(codes[:, place]))
        if self.frequencies and numbers:
            waves = _waves()(self.frequencies, draw("RandomNormal", stddev=0.1), dtype=kind)(seen)
            parts.append(keras.layers.Flatten(dtype=kind)(dense(WAVE, "relu")(waves)))
        found = keras.layers.Concatenate(dtype=kind)(parts) if len(parts) > 1 else seen
        for _ in range(self.depth):
            found = dense(self.width, "relu")(found)
            found = keras.layers.Dropout(self.dropout, seed=next(seeds), dtype=kind)(found)
        return keras.Model([seen, codes], dense(self.outputs_, kind=exact)(found))

    def _made(self, seed: int, kind: str) -> Any:
        numbers = len(self.knots_) + len(self.gaps_)
        return self.layers(numbers, self.levels_, itertools.count(seed), kind)

    def _start(self, seed: int) -> None:
        keras, tensorflow = _libraries()
        device = self._device()
        with tensorflow.device(device):
            network = self._made(seed, "mixed_bfloat16" if self._is_half(device) else "float32")
            optimizer = keras.optimizers.AdamW(self.learning_rate, weight_decay=self.weight_decay)
            optimizer.build(network.trainable_variables)
        # pylint: disable-next=attribute-defined-outside-init
        self._live = Live(network, optimizer, self._step(network, optimizer), device)

    def _device(self) -> str:
        _, tensorflow = _libraries()
        has_card = bool(tensorflow.config.list_physical_devices("GPU"))
        if self.device == "cuda" and not has_card:
            raise WorkbookError(
                "device 'cuda': TensorFlow finds no graphics card here; take device=auto or cpu."
            )
        return "/GPU:0" if has_card and self.device != "cpu" else "/CPU:0"

    def _step(self, network: Any, optimizer: Any) -> Callable[..., Any]:
        """A graph that learns from a batch of numbers, codes and targets, of any number of rows."""
        keras, tensorflow = _libraries()
        is_classifier = isinstance(self, Classifier)
        numbers, codes = (tensorflow.TensorSpec(i.shape, i.dtype) for i in network.inputs)
        targets = tensorflow.TensorSpec((None,), "int64" if is_classifier else "float32")

        @tensorflow.function(input_signature=[numbers, codes, targets])
        def step(numbers: Any, codes: Any, targets: Any) -> None:
            with tensorflow.GradientTape() as tape:
                said = network([numbers, codes], training=True)
                if is_classifier:
                    losses = keras.losses.sparse_categorical_crossentropy(
                        targets, said, from_logits=True
                    )
                else:
                    losses = tensorflow.square(said[:, 0] - targets)
                loss = tensorflow.reduce_mean(losses)
            gradients = tape.gradient(loss, network.trainable_variables)
            optimizer.apply(gradients, network.trainable_variables)

        return step

    def _epoch(self, lesson: Lesson, batches: list[np.ndarray], seed: int) -> None:
        _, tensorflow = _libraries()
        for number, generator in enumerate(_generators(self._live.network)):
            generator.state.assign([seed, number])
        kind = "int64" if isinstance(self, Classifier) else "float32"
        parts = (lesson.rows[0].astype("float32"), lesson.rows[1], lesson.targets.astype(kind))
        with tensorflow.device(self._live.device):
            for batch in batches:
                self._live.step(*(tensorflow.constant(part[batch]) for part in parts))

    def _look(self, rows: Rows) -> np.ndarray:
        said = self._live.network([rows[0].astype("float32"), rows[1]], training=False)
        return np.asarray(said)

    def _state(self) -> Arrays:
        moments = {f"moments {i}": _array(v) for i, v in enumerate(self._live.optimizer.variables)}
        return {f"layers {name}": values for name, values in self._weights().items()} | moments

    def _restore(self, state: Arrays) -> None:
        layers = {k.partition(" ")[2]: v for k, v in state.items() if k.startswith("layers ")}
        _put(self._live.network, layers)
        for number, variable in enumerate(self._live.optimizer.variables):
            variable.assign(state[f"moments {number}"])

    def _weights(self) -> Arrays:
        return {str(i): _array(each) for i, each in enumerate(self._live.network.weights)}

    def _use(self) -> Callable[[Rows], np.ndarray]:
        _, tensorflow = _libraries()
        with tensorflow.device("/CPU:0"):
            network = self._made(0, "float64")
            _put(network, self.weights_)
            specs = [tensorflow.TensorSpec(i.shape, i.dtype) for i in network.inputs]
            graph = tensorflow.function(
                lambda *rows: network(list(rows), training=False), input_signature=specs
            )

        def answer(rows: Rows) -> np.ndarray:
            with tensorflow.device("/CPU:0"):
                return graph(*map(tensorflow.constant, rows)).numpy()

        return answer


class TensorFlowClassifier(Classifier, _TensorFlow):
    """A classifier that TensorFlow trains; see network.Network for its parameters."""


class TensorFlowRegressor(Regressor, _TensorFlow):
    """A regressor that TensorFlow trains; see network.Network for its parameters."""


@functools.cache
def _libraries() -> tuple[Any, Any]:
    """(keras, tensorflow), imported without a word; equal seeds make equal networks.

    TensorFlow knows that for a whole process only: its other random operations need a seed from then on.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # oneDNN sums in an order of its own, which it says on stderr whatever the level
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import tensorflow
    import keras  # pylint: disable=ungrouped-imports  # which imports it

    tensorflow.config.experimental.enable_op_determinism()
    tensorflow.get_logger().setLevel(
        "ERROR"
    )  # each network is a graph of its own, of which it warns
    return keras, tensorflow


@functools.cache
def _waves() -> type:
    """The layer that sees each number by waves of learned lengths; its class, once Keras is there."""
    keras, _ = _libraries()

    class Waves(keras.layers.Layer):
        """(rows, numbers) → (rows, numbers, 2 · frequencies)."""

        def __init__(self, frequencies: int, initial: Any, **options: Any) -> None:
            super().__init__(**options)
            self.frequencies, self.initial, self.lengths = frequencies, initial, None

        def build(self, input_shape: Any) -> None:
            """Draw the lengths."""
            shape = (input_shape[-1], self.frequencies)
            self.lengths = self.add_weight(shape=shape, initializer=self.initial, name="lengths")

        # pylint: disable-next=arguments-differ
        def call(self, numbers: Any) -> Any:
            """The waves' heights."""
            angles = 2 * math.pi * numbers[:, :, None] * self.lengths
            return keras.ops.concatenate([keras.ops.sin(angles), keras.ops.cos(angles)], axis=2)

    return Waves


def _initial(seeds: Iterator[int], name: str, **options: Any) -> Any:
    """The initializer `name` of Keras, with a seed of its own."""
    keras, _ = _libraries()
    return getattr(keras.initializers, name)(seed=next(seeds), **options)


def _generators(network: Any) -> list[Any]:
    """What the layers of `network` draw from while they learn."""
    return [layer.seed_generator for layer in network.layers if hasattr(layer, "seed_generator")]


def _array(variable: Any) -> np.ndarray:
    return np.array(variable.numpy())


def _put(network: Any, weights: Arrays) -> None:
    """Give `network` the `weights`, which must fit."""
    network.set_weights([weights[str(i)] for i in range(len(weights))])
