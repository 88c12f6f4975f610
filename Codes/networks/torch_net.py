"""Networks that PyTorch trains: numbers seen by waves of many lengths, categories embedded, then dense layers.

PyTorch is imported where it is used, and by nothing else: the workbook goes without it.
"""

import contextlib
import io
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import numpy as np

from Codes.ground.errors import WorkbookError
from Codes.networks.network import (
    WAVE,
    Arrays,
    Classifier,
    Lesson,
    Network,
    Regressor,
    embedded,
    require,
    Rows,
    Watch,
)

# pylint: disable=import-error,no-member,abstract-method,too-many-ancestors  # an extra; a part of two classes


class _Torch(Network):
    """What both share."""

    PACKAGES: ClassVar[tuple[str, ...]] = ("torch",)
    LIBRARY: ClassVar[tuple[str, str]] = ("torch", "torch")

    def fit(self, X: Any, y: Any, watch: Watch | None = None) -> Self:
        """As Network.fit, in one thread: on a busy machine more wait for each other, and sums round by their number."""
        require(type(self))
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return super().fit(X, y, watch)
        finally:
            torch.set_num_threads(before)

    def layers(self, numbers: int, levels: list[int], outputs: int) -> Any:
        """The torch.nn.ModuleDict of a network; a class of your own may make others, and say what they do (`forward`).

        Args:
            numbers: columns of numbers, gaps' marks included.
            levels: how many codes each categorical column has.
            outputs: how many there are to be.
        """
        from torch import nn

        width = numbers + sum(map(embedded, levels))
        found: dict[str, Any] = {
            "codes": nn.ModuleList(nn.Embedding(n, embedded(n)) for n in levels)
        }
        if self.frequencies and numbers:
            found["waves"] = nn.Linear(2 * self.frequencies, WAVE)
            found["lengths"] = nn.ParameterList([_lengths(numbers, self.frequencies)])
            width += WAVE * numbers
        dense: list[Any] = []
        for _ in range(self.depth):
            dense += [nn.Linear(width, self.width), nn.ReLU(), nn.Dropout(self.dropout)]
            width = self.width
        return nn.ModuleDict(found | {"dense": nn.Sequential(*dense, nn.Linear(width, outputs))})

    def forward(self, layers: Any, numbers: Any, codes: Any) -> Any:
        """What the `layers` say of rows (tensors): (n, outputs)."""
        import torch

        parts = [numbers, *(table(codes[:, j]) for j, table in enumerate(layers["codes"]))]
        if "waves" in layers:
            angles = 2 * math.pi * numbers[:, :, None] * layers["lengths"][0]
            waves = torch.cat([angles.sin(), angles.cos()], dim=2)
            parts.append(layers["waves"](waves).relu().flatten(1))
        return layers["dense"](torch.cat(parts, dim=1))

    def _made(self) -> Any:
        return self.layers(len(self.knots_) + len(self.gaps_), self.levels_, self.outputs_)

    def _start(self, seed: int) -> None:
        import torch

        device = self._device()
        with _seeded(seed):
            layers = self._made().to(device)
        optimizer = torch.optim.AdamW(
            layers.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        # pylint: disable-next=attribute-defined-outside-init
        self._live = (layers, optimizer, device)

    def _device(self) -> str:
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise WorkbookError(
                "device 'cuda': PyTorch finds no graphics card here; take device=auto or cpu."
            )
        found = "cuda" if torch.cuda.is_available() else "cpu"
        return found if self.device == "auto" else self.device

    def _epoch(self, lesson: Lesson, batches: list[np.ndarray], seed: int) -> None:
        import torch

        layers, optimizer, device = self._live
        rows, targets = [p.to(device) for p in _tensors(lesson.rows)], self._wanted(lesson.targets)
        layers.train()
        with _seeded(seed):
            for batch in batches:
                chosen = torch.from_numpy(batch).to(device)
                with torch.autocast(device, torch.bfloat16, enabled=self._is_half(device)):
                    said = self.forward(layers, *(part[chosen] for part in rows))
                loss = self._criterion(said.float(), targets[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    def _wanted(self, targets: np.ndarray) -> Any:
        """The `targets` as a tensor on the device: classes as whole numbers."""
        import torch

        found = torch.from_numpy(targets).to(self._live[2])
        return found if isinstance(self, Classifier) else found.float()

    def _criterion(self, said: Any, targets: Any) -> Any:
        from torch.nn import functional

        if isinstance(self, Classifier):
            return functional.cross_entropy(said, targets)
        return functional.mse_loss(said[:, 0], targets)

    def _look(self, rows: Rows) -> np.ndarray:
        import torch

        layers, _, device = self._live
        layers.eval()
        with torch.no_grad():
            said = self.forward(layers, *(part.to(device) for part in _tensors(rows)))
        return said.cpu().numpy()

    def _state(self) -> Arrays:
        moments = self._live[1].state_dict()["state"]
        kept = {f"{i} {k}": _array(v) for i, each in moments.items() for k, v in each.items()}
        return {f"layers {k}": v for k, v in self._weights().items()} | {
            f"moments {k}": v for k, v in kept.items()
        }

    def _restore(self, state: Arrays) -> None:
        import torch

        layers, optimizer, _ = self._live
        moments: dict[int, dict[str, Any]] = {}
        for name, values in state.items():
            kind, _, rest = name.partition(" ")
            if kind == "moments":
                number, _, key = rest.partition(" ")
                moments.setdefault(int(number), {})[key] = torch.from_numpy(values)
        _put(layers, {k.partition(" ")[2]: v for k, v in state.items() if k.startswith("layers ")})
        optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})

    def _weights(self) -> Arrays:
        return {name: _array(values) for name, values in self._live[0].state_dict().items()}

    def learned(self) -> Any:
        """The layers with the weights that were learned, in double precision."""
        layers = self._made()
        _put(layers, self.weights_)
        return layers.double().eval()

    def in_onnx(self) -> bytes:
        import torch

        network, content = self, io.BytesIO()

        class Whole(torch.nn.Module):
            """The network as PyTorch's exporter wants it."""

            def __init__(self) -> None:
                super().__init__()
                self.layers = network.learned()

            def forward(self, numbers: Any, codes: Any) -> Any:
                """What the network says of rows."""
                return network.forward(self.layers, numbers, codes)

        numbers = torch.zeros(2, len(self.knots_) + len(self.gaps_), dtype=torch.float64)
        codes = torch.zeros(2, len(self.levels_), dtype=torch.int64)
        names = ["numbers", "codes"]
        with warnings.catch_warnings():
            # of its two exporters the newer one needs another package, and makes the same
            warnings.simplefilter("ignore")
            torch.onnx.export(
                Whole().eval(),
                (numbers, codes),
                content,
                dynamo=False,
                input_names=names,
                dynamic_axes=dict.fromkeys(names, {0: "rows"}),
            )
        return content.getvalue()

    def _use(self) -> Callable[[Rows], np.ndarray]:
        import torch

        layers = self.learned()

        def answer(rows: Rows) -> np.ndarray:
            with torch.inference_mode():
                return self.forward(layers, *map(torch.from_numpy, rows)).numpy()

        return answer


class TorchClassifier(Classifier, _Torch):
    """A classifier that PyTorch trains; see network.Network for its parameters."""


class TorchRegressor(Regressor, _Torch):
    """A regressor that PyTorch trains; see network.Network for its parameters."""


def _lengths(numbers: int, frequencies: int) -> Any:
    """How often each of the waves of each number goes up and down in one standard deviation; learned, too."""
    import torch

    return torch.nn.Parameter(0.1 * torch.randn(numbers, frequencies))


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """PyTorch's draws by `seed` inside, as if nothing was drawn afterwards."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _tensors(rows: Rows) -> tuple[Any, Any]:
    import torch

    return torch.from_numpy(rows[0]).float(), torch.from_numpy(rows[1])


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy().copy()


def _put(layers: Any, weights: Arrays) -> None:
    """Give `layers` the `weights`, which must fit."""
    import torch

    layers.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
