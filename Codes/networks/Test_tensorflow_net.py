"""Networks that TensorFlow trains: what holds of every network (see testing.network_contract)."""

# pylint: disable=missing-function-docstring,import-error,import-outside-toplevel
import importlib.util
import subprocess
import sys

import pytest

from Codes.ground.paths import ROOT
from Codes.networks import tensorflow_net
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
