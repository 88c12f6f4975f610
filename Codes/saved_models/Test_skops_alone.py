"""skops is imported without all of scikit-learn, and trusts the same types."""

import subprocess
import sys

import pytest
from sklearn.utils import all_estimators

from Codes.saved_models import skops_alone


def test_the_names_that_are_kept_are_scikit_learns_own_and_a_damaged_file_is_made_anew(
    tmp_path, monkeypatch
):
    real = [(name, each.__module__) for name, each in all_estimators()]
    assert skops_alone.names() == real
    monkeypatch.setattr(skops_alone, "KEPT", tmp_path / "cache" / "estimators.json")
    assert skops_alone.names() == real
    for damaged in ("[[", '["Ridge"]', '{"a": 1}', "[[1, 2, 3]]"):
        skops_alone.KEPT.write_text(damaged, "utf-8")
        assert skops_alone.names() == real
        assert skops_alone.names() == real, "from the file"


@pytest.mark.soak
def test_skops_is_there_without_the_modules_that_no_model_needs():
    code = "from Codes.saved_models.skops_alone import io; import sys; print('sklearn.datasets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
