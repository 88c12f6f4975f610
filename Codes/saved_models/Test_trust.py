"""What is not loaded: files that were altered, other loaders, pickles, code and types that nobody vouched for."""

import pickle
import sysconfig
import venv
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from mlflow.models import infer_signature

from Codes.fast_answers import quick
from Codes.gate.Test_checks import saved
from Codes.ground import manifest
from Codes.ground.errors import WorkbookError
from Codes.modeling import models
from Codes.problems import data, problem as problems
from Codes.saved_models import remote, reproduction, trust
from Codes.scoring import predictors
from Codes.serving import following, payload

CANCER = problems.load("breast_cancer")


@pytest.fixture(name="model")
def fixture_model(tmp_path):
    """A saved model; each test may spoil its folder."""
    return saved(CANCER, tmp_path / "m", max_iter=3)


def test_a_model_without_named_columns_or_pipeline_is_refused(tmp_path):
    X, y = data.features(data.load(CANCER), CANCER), data.target(data.load(CANCER), CANCER)
    pipeline = models.build(CANCER, X, "dummy").fit(X, y)
    signature = infer_signature(X.head(), pipeline.predict(X.head()))
    for name, model, known in (("bare", pipeline, None), ("alone", pipeline[-1], signature)):
        mlflow.sklearn.save_model(
            model,
            tmp_path / name,
            serialization_format="skops",
            signature=known,
            pip_requirements=["scikit-learn"],  # else MLflow looks for them in a process of its own
        )
        with pytest.raises(WorkbookError, match="save it by models.log"):
            trust.load(tmp_path / name)


def respell(folder, **changed):
    """Write other entries into the flavors of the MLmodel in `folder`: flavor__key=value."""
    file = folder / "MLmodel"
    fields = yaml.safe_load(file.read_text("utf-8"))
    for name, value in changed.items():
        flavor, _, key = name.partition("__")
        fields["flavors"][flavor][key] = value
    file.write_text(yaml.safe_dump(fields), "utf-8")


def test_a_model_is_loaded_and_answers_whatever_the_order_of_the_columns(model):
    rows = model.example
    assert len(rows) == 5 and list(model.labels) == ["benign", "malignant"]
    shuffled = rows[rows.columns[::-1]]
    assert (model.probabilities(shuffled) == model.probabilities(rows)).all()
    assert np.allclose(model.answers(rows), model.meta.metadata[trust.PREDICTED])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"python_function__loader_module": "os"}, "only models of the flavor mlflow.sklearn"),
        (
            {"sklearn__serialization_format": "cloudpickle"},
            "saved as cloudpickle, and loading that",
        ),
        ({"sklearn__serialization_format": None}, "saved as a pickle, and loading that"),
        ({"sklearn__code": "code"}, "brings code of its own"),
        ({"python_function__code": "code"}, "brings code of its own"),
        ({"sklearn__pickled_model": "../m.skops"}, "is not there"),
        ({"sklearn__pickled_model": "/etc/passwd"}, "is not there"),
        ({"sklearn__pickled_model": None}, "is not there"),
    ],
)
def test_a_model_that_names_its_own_way_of_loading_is_refused(model, changed, said):
    respell(model.folder, **changed)
    with pytest.raises(WorkbookError, match=said):
        trust.load(model.folder)


def test_one_byte_more_or_less_is_seen_before_anything_is_loaded(model):
    expected = trust.digest(model.folder)
    trust.load(model.folder, expected=expected)
    (model.folder / "extra").write_text("", "utf-8")
    with pytest.raises(WorkbookError, match="not those that were registered"):
        trust.load(model.folder, expected=expected)


def test_types_that_the_model_s_own_file_vouches_for_are_not_believed(model, monkeypatch):
    monkeypatch.setattr(trust, "TYPES", frozenset())  # as if hgb's trees were a stranger's
    respell(model.folder, sklearn__skops_trusted_types=["everything"])
    with pytest.raises(WorkbookError, match="nobody vouched for: .*TreePredictor.*--trust"):
        trust.load(model.folder)
    stranger = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
    assert trust.load(model.folder, [stranger]).trusted == (stranger,)


def test_a_pickle_under_another_name_is_no_model(model, tmp_path):
    ran = tmp_path / "ran"

    class Evil:
        """Runs code as it is loaded."""

        def __reduce__(self):
            return (open, (str(ran), "w"))

    (model.folder / "model.skops").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WorkbookError, match="no model that skops can read"):
        trust.load(model.folder)
    assert not ran.exists()


def test_what_is_no_model_at_all_is_told(tmp_path):
    with pytest.raises(WorkbookError, match="no MLflow model in it"):
        trust.load(tmp_path)
    (tmp_path / "MLmodel").write_text("- 1", "utf-8")
    with pytest.raises(WorkbookError, match="no MLflow model in it"):
        trust.load(tmp_path)


def test_missing_words_are_missing_to_the_encoders_whatever_they_are_written_as():
    frame = pd.DataFrame({"w": pd.Categorical(["a", None]), "v": ["b", None], "x": [1.0, np.nan]})
    plain = trust.plain(frame)
    assert plain.w.tolist()[0] == "a" and all(
        isinstance(v, float) for v in (plain.w[1], plain.v[1])
    )


SAID = r"saved with scikit-learn 0\.1, and here is scikit-learn .*pip install scikit-learn==0\.1"


@pytest.fixture(name="older")
def fixture_older(model):
    """The `model`, saved by another scikit-learn, as its pins say."""
    pins = model.folder / "requirements.txt"
    pins.write_text(
        pins.read_text("utf-8").replace("scikit-learn==", "scikit-learn==0.1 #"), "utf-8"
    )
    return model


def test_of_another_scikit_learn_both_versions_are_named_with_the_way(older, monkeypatch):
    assert trust.load(older.folder).labels == older.labels  # it answers as it did
    with monkeypatch.context() as patch, pytest.raises(WorkbookError, match=SAID):
        patch.setattr(trust, "TYPES", frozenset())
        trust.load(older.folder)
    fields = yaml.safe_load((older.folder / "MLmodel").read_text("utf-8"))
    fields["metadata"][trust.PREDICTED][0] = [0.5, 0.5]
    (older.folder / "MLmodel").write_text(yaml.safe_dump(fields), "utf-8")
    with pytest.raises(WorkbookError, match="answers otherwise.*" + SAID[-30:]):
        trust.load(older.folder)


@pytest.fixture(name="apart")
def fixture_apart(older, monkeypatch, tmp_path):
    """The model `older`, which does not load here, from a process that has its scikit-learn, as far as it can tell."""
    venv.create(tmp_path / "apart", symlinks=True)
    packages = next((tmp_path / "apart").glob("lib/python*/site-packages"))
    (packages / "these.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
    about = packages / "scikit_learn-0.1.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text("Metadata-Version: 2.1\nName: scikit-learn\nVersion: 0.1\n", "utf-8")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "sklearn.py").write_text("raise ImportError('of another Python')", "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "here"))  # which is for this interpreter alone
    monkeypatch.setattr(trust, "TYPES", frozenset())  # of this process only
    python = str(tmp_path / "apart" / "bin" / "python")
    monkeypatch.setattr(reproduction, "environment", lambda *_: (python, ""))
    return remote.load(older.folder)


def test_a_model_of_other_packages_answers_from_a_process_of_its_own(older, apart):
    assert isinstance(apart.pipeline, remote.Remote) and apart.digest == trust.digest(older.folder)
    assert apart.labels == older.labels and apart.categories == older.categories
    rows, shuffled = apart.example, apart.example[apart.example.columns[::-1]]
    assert (apart.predict(shuffled) == older.predict(rows)).all()
    assert trust.same(apart.answers(rows).tolist(), older.recorded)
    table = pa.Table.from_pandas(rows)
    assert predictors.answer(apart, table).equals(predictors.answer(older, table))
    assert quick.quick(apart, payload.Reader(apart, 100)) is None
    with pytest.raises(ValueError, match="KeyError|not in index"):
        apart.pipeline.predict(rows.iloc[:, 1:])


def test_a_model_without_an_example_is_neither_served_nor_sent_to_a_cluster(model):
    file = model.folder / "MLmodel"
    fields = yaml.safe_load(file.read_text("utf-8"))
    fields["saved_input_example_info"] = None
    file.write_text(yaml.safe_dump(fields), "utf-8")
    bare = trust.load(model.folder)
    rows = pa.Table.from_pandas(model.example)
    assert bare.example is None and predictors.answer(bare, rows) == predictors.answer(model, rows)
    with pytest.raises(WorkbookError, match="saved without an example"):
        following.Served(SimpleNamespace(), bare, payload.Reader(bare, 100)).smoke()
    files = {name: (bare.folder / name).read_bytes() for name in manifest.of_folder(bare.folder)}
    with pytest.raises(WorkbookError, match="saved without an example, .* without --cluster"):
        predictors.answer_there((bare.digest, files, (), None), rows)
    assert "no example" in reproduction.ask(bare)[0]["error"]


def test_a_worker_without_the_model_s_packages_says_which_and_the_way(older, monkeypatch):
    files = {name: (older.folder / name).read_bytes() for name in manifest.of_folder(older.folder)}
    sent = (trust.digest(older.folder), files, (), older.answers(older.example))
    monkeypatch.setattr(trust, "TYPES", frozenset())
    with pytest.raises(
        WorkbookError, match="a worker .* scikit-learn 0.1, and .* without --cluster"
    ):
        predictors.answer_there(sent, pa.Table.from_pandas(older.example))


def test_a_process_of_its_own_that_was_killed_is_started_again(apart):
    first = apart.pipeline.process
    first.kill()
    with pytest.raises(WorkbookError, match="the model's process ended"):
        apart.predict(apart.example)
    assert len(apart.predict(apart.example)) == len(apart.example)
    assert apart.pipeline.process.pid != first.pid


def test_where_its_packages_cannot_be_had_one_line_names_both_versions(older, monkeypatch):
    monkeypatch.setattr(trust, "TYPES", frozenset())
    pins = older.folder / "requirements.txt"
    pins.write_text(pins.read_text("utf-8") + "\nstrange==1.0\n", "utf-8")
    with pytest.raises(
        WorkbookError, match=r"scikit-learn 0\.1, strange 1\.0, and here .*pins 'str"
    ):
        remote.load(older.folder)
