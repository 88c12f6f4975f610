"""What holds for networks where no framework is installed, too."""

# pylint: disable=missing-function-docstring,protected-access
import pytest

from Codes.ground.errors import WorkbookError
from Codes.modeling import models
from Codes.networks import network, torch_net
from Codes.running import runner


class Elsewhere(torch_net.TorchClassifier):  # pylint: disable=too-many-ancestors
    """A network whose framework nobody has."""

    LIBRARY = ("no_such_framework", "torch")


def test_a_framework_that_is_missing_is_named_with_the_way_to_install_it():
    with pytest.raises(WorkbookError, match='make install EXTRAS="torch"'):
        network.require(Elsewhere)
    with pytest.raises(WorkbookError, match='make install EXTRAS="torch"'):
        models.check("classification", f"{__name__}.Elsewhere", {})


def test_other_estimators_need_no_framework_and_names_are_those_that_are_installed():
    network.require(dict)
    assert {"linear", "forest", "hgb", "dummy"} <= set(models.names()) <= set(models.SHORT)


def test_the_lifecycle_leaves_a_notebook_out_whose_extra_is_missing(tmp_path, monkeypatch):
    path = runner.find("02_train_torch")
    (tmp_path / f"{path.stem}.yaml").write_text("extra: no_such_extra\nsets:\n  - {rows: 10}\n")
    monkeypatch.setattr(runner, "LIFECYCLE", tmp_path)
    assert runner.sets_for(path) == [{"rows": 10}]
    told = []
    assert path not in [step for step, _ in runner.plan(None, {}, told.append)]
    assert told == ['02_train_torch is left out: it needs make install EXTRAS="no_such_extra"']


@pytest.mark.parametrize("seed", ["x", -1, 1.5])
def test_a_seed_that_is_none_is_refused_before_anything_is_learned(seed):
    with pytest.raises(ValueError, match="random_state must be a whole number of at least 0"):
        network.Network(random_state=seed)._validate_params()
