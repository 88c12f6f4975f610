"""Networks that PyTorch trains: what holds of every network (see testing.network_contract)."""

# pylint: disable=missing-function-docstring,import-error
import subprocess
import sys

import pytest

from Codes.ground.paths import ROOT
from Codes.networks import torch_net
from Codes.testing.network_contract import Contract

torch = pytest.importorskip("torch", reason='PyTorch is an extra: make install EXTRAS="torch"')

OWN = """
from torch import nn
from Codes.networks.torch_net import TorchClassifier
class Flat(TorchClassifier):
    def layers(self, numbers, levels, outputs):
        return nn.ModuleDict({"all": nn.Linear(numbers + len(levels), outputs)})
    def forward(self, layers, numbers, codes):
        import torch
        return layers["all"](torch.cat([numbers, codes.to(numbers.dtype)], dim=1))
"""


class TestTorch(Contract):
    """The contract, kept by PyTorch."""

    MODEL, PACKAGES, OWN = "torch", ("torch",), OWN

    def has_card(self):
        return torch.cuda.is_available()


def test_importing_it_imports_no_pytorch():
    code = "import sys; from Codes.networks import torch_net; from Codes.modeling import models; "
    code += "from Codes.saved_models import trust; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
    assert torch_net.TorchClassifier.PACKAGES == ("torch",)
