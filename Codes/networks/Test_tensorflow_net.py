"""Networks that TensorFlow trains: what holds of every network (see testing.network_contract)."""

# pylint: disable=missing-function-docstring,import-error,import-outside-toplevel
import importlib.util
import subprocess
import sys

import mlflow
import numpy as np
import pytest

from Codes.ground.errors import WorkbookError
from Codes.ground.paths import ROOT
from Codes.networks import tensorflow_net
from Codes.saved_models import trust
from Codes.testing.network_contract import Contract

if importlib.util.find_spec("tensorflow") is None:
    pytest.skip('TensorFlow is an extra: make install EXTRAS="tensorflow"', allow_module_level=True)

OWN = """
from Codes.networks.tensorflow_net import TensorFlowClassifier
class Flat(TensorFlowClassifier):
    def layers(self, numbers, levels, seeds, kind):
        import keras
        seen = keras.Input((numbers,), dtype="float64" if kind == "float64" else "float32")
        codes = keras.Input((len(levels),), dtype="int64")
        said = keras.layers.Dense(self.outputs_, dtype=kind)
        return keras.Model([seen, codes], said(seen))
"""


class TestTensorFlow(Contract):
    """The contract, kept by TensorFlow."""

    MODEL, PACKAGES, OWN = "tensorflow", tensorflow_net.TensorFlowClassifier.PACKAGES, OWN

    def has_card(self):
        import tensorflow

        return bool(tensorflow.config.list_physical_devices("GPU"))


def test_importing_it_imports_no_tensorflow():
    code = (
        "import sys; from Codes.networks import tensorflow_net; from Codes.modeling import models; "
    )
    code += "from Codes.saved_models import trust; print({'tensorflow', 'keras'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_nothing_is_written_where_it_is_imported():
    code = "from Codes.networks import tensorflow_net; tensorflow_net._libraries()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_kerass_own_file_with_a_lambda_layer_is_refused_before_it_is_read(tmp_path, monkeypatch):
    import keras

    layers = [keras.Input((2,)), keras.layers.Lambda(lambda x: x * 2), keras.layers.Dense(1)]
    signature = mlflow.models.infer_signature(np.zeros((3, 2)), np.zeros((3, 1)))
    where = tmp_path / "model"
    mlflow.tensorflow.save_model(
        keras.Sequential(layers), str(where), signature=signature, pip_requirements=[]
    )
    monkeypatch.setattr(keras.saving, "load_model", pytest.fail)
    with pytest.raises(WorkbookError, match="only models of the flavor mlflow.sklearn are loaded"):
        trust.load(where)
