"""What holds of a network whatever trains it: it learns, is saved without code, goes on after a kill.

A test module of a framework has a class that is derived from `Contract`, and names its model.
"""

# pylint: disable=missing-function-docstring,protected-access
import functools
import io
import multiprocessing
import os
import pickle
import signal
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
from Codes.ground import paths
from Codes.ground.errors import WorkbookError
from Codes.modeling import answers, models, rehearsal, training
from Codes.networks import network
from Codes.problems import data, problem as problems
from Codes.saved_models import reproduction, trust
from Codes.serving import payload
from Codes.testing.network_sample import OWN_FORMATS

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


def trained(model, folder, last=99, end=lambda: os.kill(os.getpid(), signal.SIGKILL)):
    """(losses, answers, logged steps, what was resumed) of a training of `model`, checkpoints and store in `folder`.

    It ends by `end` after the epoch `last`.
    """
    train = data.to_train(data.load(CANCER), CANCER)
    X = data.features(train, CANCER)
    pipeline = models.build(CANCER, X, model, {"epochs": 6, "width": 16})
    usual = training._Watch.report

    def report(self, epoch, figures):
        usual(self, epoch, figures)
        if epoch == last:
            end()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ROOT", folder)
        patch.setattr(training._Watch, "report", report)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        try:
            with mlflow.start_run() as run:
                course = training.fit(CANCER, pipeline, train)
            kept = mlflow.get_run(run.info.run_id).data
            assert np.isclose(kept.metrics["fit_seconds"], course.seconds.sum())
            steps = mlflow.MlflowClient().get_metric_history(run.info.run_id, "epoch_loss")
        finally:
            mlflow.set_tracking_uri(None)
    told = kept.tags.get(training.RESUMED, "")
    return course.loss.tolist(), pipeline.predict_proba(X)[:, 0].tolist(), len(steps), told


class Contract:
    """The tests; a framework's own class names its `MODEL`, the packages that it pins, and a network of one's own."""

    MODEL = ""
    PACKAGES: tuple[str, ...] = ()
    OWN = ""  # a module `flat_networks` with a class Flat

    @pytest.fixture(name="saved", scope="class")
    @classmethod
    def fixture_saved(cls, tmp_path_factory):
        """The folder of a saved network, and its pipeline."""
        store = tmp_path_factory.mktemp(cls.MODEL)
        X, y = mixed()
        pipeline = models.build(CANCER, X, cls.MODEL, SMALL).fit(X, y)
        fields = models.fields_of(pipeline, X)
        mlflow.sklearn.save_model(pipeline, str(store / "model"), **fields)
        return store / "model", pipeline

    def test_a_saved_network_answers_alike_and_pins_its_framework(self, saved):
        folder, pipeline = saved
        X, _ = mixed()
        loaded = trust.load(folder)
        np.testing.assert_array_equal(loaded.probabilities(X), pipeline.predict_proba(X))
        pinned = {pin.partition("==")[0] for pin in trust.pins(folder)}
        assert pinned == {*trust.PACKAGES, *self.PACKAGES}
        assert not [p for p in folder.rglob("*") if p.suffix in OWN_FORMATS]

    def test_a_row_is_answered_alike_in_any_company(self, saved):
        X, _ = mixed()
        whole = saved[1].predict_proba(X)
        single = np.concatenate([saved[1].predict_proba(X.iloc[[i]]) for i in range(20)])
        np.testing.assert_allclose(single, whole[:20], rtol=1e-12)

    def test_gaps_and_categories_never_seen_are_answered(self, saved):
        X, _ = mixed()
        stranger = X.head(3).assign(word="never seen", amount=np.nan, day=pd.NaT)
        assert np.isfinite(saved[1].predict_proba(stranger)).all()

    def test_an_altered_file_is_refused_by_its_digest(self, saved, tmp_path):
        before = trust.load(saved[0]).digest
        altered = copied(saved[0], tmp_path, lambda name, content: content + b" ")
        with pytest.raises(WorkbookError, match="not those that were registered"):
            trust.load(altered, expected=before)

    def test_weights_that_hold_a_pickle_are_refused_and_nothing_of_it_runs(self, saved, tmp_path):
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

    def test_a_network_of_another_type_is_refused(self, saved, tmp_path):
        def change(name, content):
            if name != "schema.json":
                return content
            own = type(saved[1][-1]).__name__
            return content.decode().replace(f'"{own}"', '"Stranger"').encode()

        with pytest.raises(WorkbookError, match="types that nobody vouched for.*Stranger"):
            trust.load(copied(saved[0], tmp_path, change))

    def test_equal_seeds_make_equal_networks_and_others_do_not(self):
        X, y = mixed()
        one, same, other = (
            models.build(CANCER, X, self.MODEL, SMALL, seed).fit(X, y).predict_proba(X)
            for seed in (1, 1, 2)
        )
        np.testing.assert_array_equal(one, same)
        assert not np.allclose(one, other)

    def test_in_half_precision_as_on_a_card_it_learns_alike_and_its_weights_are_whole(
        self, monkeypatch
    ):
        X, y = mixed(600)
        hp = SMALL | {"epochs": 10, "device": "cpu"}
        whole = models.build(CANCER, X, self.MODEL, hp, 1).fit(X, y).predict_proba(X)[:, 0]
        monkeypatch.setattr(network.Network, "_is_half", lambda self, device: True)
        fitted = models.build(CANCER, X, self.MODEL, hp, 1).fit(X, y)
        half = fitted.predict_proba(X)[:, 0]
        assert 0 < np.abs(half - whole).max() and np.corrcoef(half, whole)[0, 1] > 0.95
        assert {str(values.dtype) for values in fitted[-1].weights_.values()} == {"float32"}

    def test_amounts_and_several_classes_are_learned(self):
        X = pd.DataFrame({"x": np.linspace(-2, 2, 400)})
        hp = {"epochs": 30, "learning_rate": 0.01}
        fitted = models.build(DIABETES, X, self.MODEL, hp).fit(X, 100 + 10 * X.x**2)
        assert np.abs(fitted.predict(X) - (100 + 10 * X.x**2)).mean() < 3
        X, y = load_iris(return_X_y=True, as_frame=True)
        fitted = models.build(CANCER, X, self.MODEL, hp | {"batch_size": 16}).fit(X, y)
        assert (fitted.predict(X) == y).mean() > 0.9 and fitted.predict_proba(X).shape == (150, 3)

    def test_a_training_that_was_killed_goes_on_from_its_last_epoch_to_the_same_network(
        self, tmp_path, capsys
    ):
        # a process of its own: frameworks have threads
        arguments = (self.MODEL, tmp_path, 3)
        killed = multiprocessing.get_context("spawn").Process(target=trained, args=arguments)
        killed.start()
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
        *resumed, told = trained(self.MODEL, tmp_path)
        assert told == "3" and "going on after epoch 3" in capsys.readouterr().out
        *whole, told = trained(self.MODEL, tmp_path)
        assert told == "" and resumed == whole and whole[2] == 6

    def test_an_interrupted_cell_that_is_run_again_in_its_kernel_goes_on(self, tmp_path):
        with pytest.raises(KeyboardInterrupt) as kept:
            trained(self.MODEL, tmp_path, 2, functools.partial(signal.raise_signal, signal.SIGINT))
        assert trained(self.MODEL, tmp_path)[3] == "2" and kept.value
        assert not list(tmp_path.glob(".cache/epochs/*"))

    def test_a_network_of_your_own_is_rehearsed_saved_and_loaded_by_your_word(
        self, tmp_path, monkeypatch
    ):
        (tmp_path / "flat_networks.py").write_text(self.OWN, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "flat_networks", raising=False)  # another framework's
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
        pins = trust.pins(tmp_path / "model")
        assert any(pin.startswith(f"{self.PACKAGES[0]}==") for pin in pins)

    def test_a_network_that_decides_by_a_threshold_is_saved_with_it(self, saved):
        X, _ = mixed()
        decides = answers.deciding(saved[1], 0.9, "malignant")
        labels = answers.of(decides, X).predictions
        rare = saved[1].predict_proba(X)[:, 1] >= 0.9
        np.testing.assert_array_equal(labels == "malignant", rare)
        content, types = models.saved(decides)
        assert content and any(f"{self.PACKAGES[0]}==" in pin for pin in models.requirements(types))

    def test_an_unknown_device_or_a_card_that_is_not_there_is_refused_in_a_line(self):
        X, y = mixed()
        if not self.has_card():
            with pytest.raises(WorkbookError, match="no graphics card"):
                models.build(CANCER, X, self.MODEL, {"device": "cuda"}).fit(X, y)
        with pytest.raises(WorkbookError, match="device"):
            models.build(CANCER, X, self.MODEL, {"device": "gpu"})

    def test_its_rows_are_prepared_without_a_frame_and_its_labels_go_with_its_probabilities(
        self, saved
    ):
        loaded = trust.load(saved[0])
        X, _ = mixed()
        found = answers.of(loaded.pipeline, X)
        np.testing.assert_array_equal(found.predictions, loaded.pipeline.predict(X))
        reader = payload.Reader(loaded)
        without_dates = "day" in reader.columns  # dates are no columns that the short way knows
        assert without_dates and quick.quick(loaded, reader) is None

    def test_a_clean_process_gives_the_recorded_answers(self, saved):
        loaded = trust.load(saved[0])
        found, _ = reproduction.ask(loaded)
        assert trust.same(found["answers"], loaded.recorded), found

    def test_a_copy_of_a_fitted_network_is_unfitted_and_fits_again(self):
        X, y = mixed()
        pipeline = models.build(CANCER, X, self.MODEL, SMALL).fit(X, y)
        np.testing.assert_array_equal(
            clone(pipeline).fit(X, y).predict_proba(X), pipeline.predict_proba(X)
        )

    def has_card(self):
        """Whether the framework sees a graphics card."""
        raise NotImplementedError
