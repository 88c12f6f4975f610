"""Networks that PyTorch trains: they learn, are saved without code, go on after a kill, and are refused if altered."""

# pylint: disable=missing-function-docstring,protected-access,import-error
import functools
import io
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris

from Codes.fast_answers import quick
from Codes.ground.errors import WorkbookError
from Codes.ground import paths
from Codes.ground.paths import ROOT
from Codes.modeling import answers, models, rehearsal, training
from Codes.networks import network, torch_net
from Codes.problems import data, problem as problems
from Codes.saved_models import reproduction, trust
from Codes.serving import payload

pytest.importorskip("torch", reason='PyTorch is an extra: make install EXTRAS="torch"')

CANCER, DIABETES = problems.load("breast_cancer"), problems.load("diabetes")
SMALL = {"epochs": 3, "width": 16, "frequencies": 4}


def mixed(rows=300):
    """(X, y): numbers, gaps, words, truth values, dates; two classes."""
    random = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "amount": random.normal(size=rows),
            "gappy": np.where(random.random(rows) < 0.2, np.nan, random.normal(size=rows)),
            "word": random.choice(["a", "b", None], rows),
            "yes": random.random(rows) < 0.5,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 99, rows), "D"),
        }
    )
    return X, pd.Series(np.where(X.amount + (X.word == "a") > 0.4, "malignant", "benign"))


@pytest.fixture(name="saved", scope="module")
def fixture_saved(tmp_path_factory):
    """The folder of a saved network, and its pipeline."""
    store = tmp_path_factory.mktemp("torch")
    X, y = mixed()
    pipeline = models.build(CANCER, X, "torch", SMALL).fit(X, y)
    fields = models.fields_of(pipeline, X)
    mlflow.sklearn.save_model(pipeline, str(store / "model"), **fields)
    return store / "model", pipeline


def copied(folder, tmp_path, change):
    """A copy of the model in `folder`, in whose file `change` (a function of name and bytes) was at each member."""
    target = tmp_path / "copy"
    target.mkdir()
    for path in folder.iterdir():
        if path.is_file():
            (target / path.name).write_bytes(path.read_bytes())
    content = io.BytesIO()
    with zipfile.ZipFile(folder / "model.skops") as old, zipfile.ZipFile(content, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    (target / "model.skops").write_bytes(content.getvalue())
    return target


def test_a_saved_network_answers_alike_and_pins_pytorch(saved):
    folder, pipeline = saved
    X, _ = mixed()
    loaded = trust.load(folder)
    np.testing.assert_array_equal(loaded.probabilities(X), pipeline.predict_proba(X))
    assert any(pin.startswith("torch==") for pin in trust.pins(folder))
    assert not [p for p in folder.rglob("*") if p.suffix in (".pt", ".pth", ".pt2", ".pkl")]


def test_a_row_is_answered_alike_in_any_company(saved):
    X, _ = mixed()
    whole = saved[1].predict_proba(X)
    single = np.concatenate([saved[1].predict_proba(X.iloc[[i]]) for i in range(20)])
    np.testing.assert_allclose(single, whole[:20], rtol=1e-12)


def test_gaps_and_categories_never_seen_are_answered(saved):
    X, _ = mixed()
    stranger = X.head(3).assign(word="never seen", amount=np.nan, day=pd.NaT)
    assert np.isfinite(saved[1].predict_proba(stranger)).all()


def test_an_altered_file_is_refused_by_its_digest(saved, tmp_path):
    before = trust.load(saved[0]).digest
    altered = copied(saved[0], tmp_path, lambda name, content: content)
    with pytest.raises(WorkbookError, match="not those that were registered"):
        trust.load(altered, expected=before)


def test_weights_that_hold_a_pickle_are_refused_and_nothing_of_it_runs(saved, tmp_path):
    mark = tmp_path / "ran"

    class Runs:
        """Makes a file where it is unpickled."""

        def __reduce__(self):
            return Path.touch, (mark,)

    array = io.BytesIO()
    np.save(array, np.array([Runs()], dtype=object), allow_pickle=True)
    for evil in (array.getvalue(), pickle.dumps(Runs())):
        where = tmp_path / str(len(evil))
        where.mkdir()
        altered = copied(saved[0], where, lambda n, c, e=evil: e if n.endswith(".npy") else c)
        with pytest.raises(WorkbookError, match="does not load"):
            trust.load(altered)
    assert not mark.exists()


def test_a_network_of_another_type_is_refused(saved, tmp_path):
    def change(name, content):
        if name != "schema.json":
            return content
        text = content.decode().replace('"TorchClassifier"', '"TorchStranger"')
        return text.encode()

    with pytest.raises(WorkbookError, match="types that nobody vouched for.*TorchStranger"):
        trust.load(copied(saved[0], tmp_path, change))


def test_equal_seeds_make_equal_networks_and_others_do_not():
    X, y = mixed()
    one, same, other = (
        models.build(CANCER, X, "torch", SMALL, seed).fit(X, y).predict_proba(X)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_amounts_and_several_classes_are_learned():
    X = pd.DataFrame({"x": np.linspace(-2, 2, 400)})
    hp = {"epochs": 30, "learning_rate": 0.01}
    fitted = models.build(DIABETES, X, "torch", hp).fit(X, 100 + 10 * X.x**2)
    assert np.abs(fitted.predict(X) - (100 + 10 * X.x**2)).mean() < 3
    X, y = load_iris(return_X_y=True, as_frame=True)
    fitted = models.build(CANCER, X, "torch", hp | {"batch_size": 16}).fit(X, y)
    assert (fitted.predict(X) == y).mean() > 0.9 and fitted.predict_proba(X).shape == (150, 3)


def trained(last=99, end=lambda: os.kill(os.getpid(), signal.SIGKILL)):
    """(losses, answers, logged steps, what was resumed) of a training, which ends by `end` after the epoch `last`."""
    frame = data.load(CANCER)
    train = data.to_train(frame, CANCER)
    X = data.features(train, CANCER)
    pipeline = models.build(CANCER, X, "torch", {"epochs": 6, "width": 16})
    kept = training._Watch.report

    def report(self, epoch, figures):
        kept(self, epoch, figures)
        if epoch == last:
            end()

    with pytest.MonkeyPatch.context() as patch, mlflow.start_run() as run:
        patch.setattr(training._Watch, "report", report)
        course = training.fit(CANCER, pipeline, train)
    told = mlflow.get_run(run.info.run_id).data.tags.get(training.RESUMED, "")
    steps = len(mlflow.MlflowClient().get_metric_history(run.info.run_id, "epoch_loss"))
    return course.loss.tolist(), pipeline.predict_proba(X)[:, 0].tolist(), steps, told


def test_a_training_that_was_killed_goes_on_from_its_last_epoch_to_the_same_network(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    killed = multiprocessing.get_context("fork").Process(target=trained, args=(3,))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    *resumed, told = trained()
    assert told == "3" and "going on after epoch 3" in capsys.readouterr().out
    *whole, told = trained()
    assert told == "" and resumed == whole and whole[2] == 6


def test_an_interrupted_cell_that_is_run_again_in_its_kernel_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    with pytest.raises(KeyboardInterrupt) as kept:
        trained(2, functools.partial(signal.raise_signal, signal.SIGINT))
    assert trained()[3] == "2" and kept.value and not list(tmp_path.glob(".cache/epochs/*"))


def test_a_training_that_another_process_is_at_is_done_without_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    with training._kept("a") as first, training._kept("a") as second, training._kept("b") as other:
        assert first == tmp_path / ".cache/epochs/a.npz" and second is None and other


@pytest.mark.parametrize("kind", ["time", "group"])
def test_of_one_moment_or_one_group_any_rows_say_when_to_stop(kind):
    split = {"kind": kind, "group": "word" if kind == "group" else None}
    split = CANCER.split.model_copy(update=split)
    one = CANCER.model_copy(update={"split": split, "time": "word"})
    held = training.held_rows(one, pd.DataFrame({"word": ["a"] * 40}), 0)
    assert held.sum() == 6


def test_the_last_rows_by_time_say_when_to_stop_and_no_group_is_parted():
    flights = problems.load("flights")
    frame = data.to_train(data.load(flights, 1000), flights)
    held = training.held_rows(flights, frame, 0)
    assert 0.1 < held.mean() < 0.2
    assert frame[flights.time][held].min() > frame[flights.time][~held].max()


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


def test_a_network_of_your_own_is_rehearsed_saved_and_loaded_by_your_word(tmp_path, monkeypatch):
    (tmp_path / "flat_networks.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    frame = data.load(CANCER)
    train, word = data.to_train(frame, CANCER), ["flat_networks.Flat"]
    X = data.features(train, CANCER)
    pipeline = models.build(CANCER, X, word[0], {"epochs": 2})
    with pytest.raises(WorkbookError, match="nobody vouched for: flat_networks.Flat"):
        rehearsal.rehearse(CANCER, pipeline, train, frame)
    pipeline = rehearsal.rehearse(CANCER, pipeline, train, frame, word)
    pipeline.fit(X, data.target(train, CANCER))
    fields = models.fields_of(pipeline, X, word)
    mlflow.sklearn.save_model(pipeline, str(tmp_path / "model"), **fields)
    assert trust.load(tmp_path / "model", word).answers(X.head()).shape == (5, 2)
    assert any(pin.startswith("torch==") for pin in trust.pins(tmp_path / "model"))


def test_a_network_that_decides_by_a_threshold_is_saved_with_it(saved):
    X, _ = mixed()
    decides = answers.deciding(saved[1], 0.9, "malignant")
    labels = answers.of(decides, X).predictions
    rare = saved[1].predict_proba(X)[:, 1] >= 0.9
    np.testing.assert_array_equal(labels == "malignant", rare)
    content, types = models.saved(decides)
    assert content and any("torch==" in pin for pin in models.requirements(types))


def test_what_is_no_network_is_refused_where_epochs_are_asked_for():
    X, _ = mixed()
    with pytest.raises(WorkbookError, match="LogisticRegression is no network"):
        training.fit(CANCER, models.build(CANCER, X, "linear"), X)


def test_an_unknown_device_or_a_card_that_is_not_there_is_refused_in_a_line():
    X, y = mixed()
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(WorkbookError, match="no graphics card"):
            models.build(CANCER, X, "torch", {"device": "cuda"}).fit(X, y)
    with pytest.raises(WorkbookError, match="device"):
        models.build(CANCER, X, "torch", {"device": "gpu"})


def test_its_rows_are_prepared_without_a_frame_and_its_labels_go_with_its_probabilities(saved):
    loaded = trust.load(saved[0])
    X, _ = mixed()
    found = answers.of(loaded.pipeline, X)
    np.testing.assert_array_equal(found.predictions, loaded.pipeline.predict(X))
    reader = payload.Reader(loaded)
    without_dates = "day" in reader.columns  # dates are no columns that the short way knows
    assert without_dates and quick.quick(loaded, reader) is None


def test_a_clean_process_gives_the_recorded_answers(saved):
    loaded = trust.load(saved[0])
    found, _ = reproduction.ask(loaded)
    assert trust.same(found["answers"], loaded.recorded), found


def test_a_copy_of_a_fitted_network_is_unfitted_and_fits_again():
    X, y = mixed()
    pipeline = models.build(CANCER, X, "torch", SMALL).fit(X, y)
    np.testing.assert_array_equal(
        clone(pipeline).fit(X, y).predict_proba(X), pipeline.predict_proba(X)
    )


def test_checkpoints_hold_arrays_alone():
    content = network._packed([{"loss": 1.0}], {"w": np.ones(2)}, {"layers w": np.zeros(2)})
    assert network.epochs_of(content) == 1
    evil = io.BytesIO()
    np.savez(evil, course=np.array(json.dumps([])), **{"best w": np.array([object], object)})
    with pytest.raises(ValueError, match="allow_pickle"):
        network.epochs_of(evil.getvalue())


def test_importing_it_imports_no_pytorch():
    code = "import sys; from Codes.networks import torch_net; from Codes.modeling import models; "
    code += "from Codes.saved_models import trust; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
    assert torch_net.TorchClassifier.PACKAGES == ("torch",)
