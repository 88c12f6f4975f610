"""Networks that PyTorch trains: what holds of every network (see testing.network_contract)."""

# pylint: disable=missing-function-docstring,import-error,protected-access
import subprocess
import sys
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest

from Codes.fast_answers import onnx_form, quick
from Codes.ground.errors import WorkbookError
from Codes.ground.paths import ROOT
from Codes.modeling import answers, models
from Codes.networks import torch_net
from Codes.saved_models import trust
from Codes.serving import payload
from Codes.testing.network_contract import CANCER, SMALL, Contract, mixed

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


def test_in_onnx_by_pytorchs_own_exporter_it_answers_alike_and_one_that_does_not_is_refused(
    tmp_path, monkeypatch
):
    X, y = mixed()
    X = X.drop(columns="day")  # which the short way does not know
    pipeline = models.build(CANCER, X, "torch", SMALL).fit(X, y)
    fields = models.fields_of(pipeline, X)
    mlflow.sklearn.save_model(pipeline, str(tmp_path / "model"), **fields)
    loaded = trust.load(tmp_path / "model")
    reader = payload.Reader(loaded)
    columns = quick.probe(loaded, reader)
    expected = answers.of(pipeline, reader.frame(columns))
    bent = SimpleNamespace(
        get_inputs=lambda: [], run=lambda *_: [np.zeros((1, 2))]
    )  # another answer
    with monkeypatch.context() as patch:
        patch.setattr(onnx_form, "_runtime", lambda _: bent)
        with pytest.raises(WorkbookError, match="it answers otherwise"):
            onnx_form.faster(loaded, reader)
    found = onnx_form.faster(loaded, reader)(columns)
    np.testing.assert_array_equal(found.predictions, expected.predictions)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=1e-9)
    assert loaded.pipeline[-1]._answering.__module__ == onnx_form.__name__, "not by PyTorch"


def test_a_network_without_categories_has_an_onnx_form_too():
    X = np.random.default_rng(0).normal(size=(200, 3))
    network = torch_net.TorchRegressor(**SMALL, random_state=0).fit(X, X[:, 0])
    expected = network.predict(X)
    onnx_form._answer_by_onnx(network, X)
    np.testing.assert_allclose(network.predict(X), expected, rtol=1e-9)


def test_importing_it_imports_no_pytorch():
    code = "import sys; from Codes.networks import torch_net; from Codes.modeling import models; "
    code += "from Codes.saved_models import trust; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
    assert torch_net.TorchClassifier.PACKAGES == ("torch",)
