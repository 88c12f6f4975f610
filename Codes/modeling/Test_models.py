"""Models: built by name, checked, deterministic, and saved without pickle."""

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from threadpoolctl import threadpool_limits

from Codes.ground.errors import WorkbookError
from Codes.modeling import models
from Codes.problems import data, problem
from Codes.saved_models import trust

CANCER = problem.load("breast_cancer")
DIABETES = problem.load("diabetes")


class Coin(ClassifierMixin, BaseEstimator):
    """An estimator of somebody else's, to skops a type that nobody vouched for."""

    def fit(self, _, y):
        """Remember the classes."""
        self.classes_ = np.unique(y)  # pylint: disable=attribute-defined-outside-init
        return self

    def predict(self, X):
        """Always the first class."""
        return np.full(len(X), self.classes_[0])


@pytest.fixture(autouse=True)
def one_thread():
    """One thread: OpenMP's threads wait for each other by spinning, for minutes on a busy machine."""
    with threadpool_limits(1):
        yield


def mixed(rows=400, seed=0):
    """Features of every type, with gaps, and a target that depends on two of them."""
    random = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "amount": random.normal(size=rows),
            "count": random.integers(0, 24, rows),
            "flag": random.random(rows) > 0.5,
            "place": pd.Series(random.choice(["A", "B", "C"], rows)).astype("category"),
            "word": random.choice(["x", "y"], rows),
            "empty": np.nan,
        }
    )
    y = (X.amount + (X.place == "A") + random.normal(scale=0.3, size=rows) > 0.3).to_numpy()
    X.loc[::7, "amount"] = np.nan
    X.loc[::11, "place"] = None
    return X, y


def table(which):
    """(X, y) of a problem."""
    frame = data.load(which)
    return data.features(frame, which), data.target(frame, which)


@pytest.mark.parametrize("which", [CANCER, DIABETES], ids=lambda p: p.name)
@pytest.mark.parametrize("name", models.names())
def test_every_short_name_fits_both_tasks(which, name):
    X, y = table(which)
    fitted = models.build(which, X, name).fit(X, y)
    assert len(fitted.predict(X)) == len(X)


@pytest.mark.parametrize("name", [*models.names(), "sklearn.naive_bayes.GaussianNB"])
def test_gaps_mixed_types_and_unknown_categories_are_handled(name):
    X, y = mixed()
    fitted = models.build(CANCER, X, name).fit(X, y)
    stranger = X.head(5).assign(place="never seen", word=None, amount=np.nan)
    assert len(fitted.predict(stranger)) == 5


@pytest.mark.parametrize("name", ["linear", "forest", "hgb"])
def test_the_same_seed_gives_the_same_model(name):
    X, y = mixed()
    first, again = (models.build(CANCER, X, name, seed=3).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X), again.predict_proba(X))


def test_another_seed_gives_another_forest():
    X, y = mixed()
    first, other = (models.build(CANCER, X, "forest", seed=s).fit(X, y) for s in (0, 1))
    assert not np.array_equal(first.predict_proba(X), other.predict_proba(X))


@pytest.mark.parametrize("name", ["linear", "forest", "hgb"])
def test_the_order_of_rows_and_columns_does_not_change_a_prediction(name):
    X, y = mixed()
    fitted = models.build(CANCER, X, name).fit(X, y)
    shuffled = X.sample(frac=1, random_state=0)[X.columns[::-1]]
    expected = pd.Series(fitted.predict_proba(X)[:, 1], X.index)[shuffled.index]
    np.testing.assert_allclose(fitted.predict_proba(shuffled)[:, 1], expected)


@pytest.mark.parametrize("name", ["linear", "hgb"])
def test_a_constant_column_changes_nothing(name):
    X, y = mixed()
    without = models.build(CANCER, X, name).fit(X, y).predict_proba(X)
    more = X.assign(constant=1.0)
    np.testing.assert_allclose(
        models.build(CANCER, more, name).fit(more, y).predict_proba(more), without, atol=1e-4
    )


def test_seed_reaches_nested_estimators_and_leaves_what_the_user_set():
    X, _ = mixed()
    nested = models.build(CANCER, X, "sklearn.ensemble.AdaBoostClassifier", seed=5)
    assert nested["estimator"].get_params()["random_state"] == 5
    given = models.build(CANCER, X, "forest", {"random_state": 9}, seed=5)
    assert given["estimator"].get_params()["random_state"] == 9


def test_a_hyperparameter_that_is_a_parameter_of_the_notebook_is_given_once():
    X = pd.DataFrame({"x": [1.0, 2.0]})
    assert models.build(CANCER, X, "forest", {"max_depth": 3}, n_estimators=7)[-1].n_estimators == 7
    with pytest.raises(WorkbookError, match="'n_estimators' is 9 there.* -p n_estimators 9"):
        models.build(CANCER, X, "forest", {"n_estimators": 9}, n_estimators=7)


@pytest.mark.parametrize(
    "model, hyperparameters, said",
    [
        ("forst", {}, "did you mean 'forest'"),
        ("sklearn.svm.SVCC", {}, "did you mean 'SVC'"),
        ("sklearn.swm.SVC", {}, "does not import"),
        ("sklearn.utils.shuffle", {}, "not a scikit-learn-compatible"),
        ("sklearn.svm.SVR", {}, "does no classification"),
        ("sklearn.ensemble.StackingClassifier", {}, "estimators"),
        ("hgb", {"max_dept": 3}, "did you mean 'max_depth'"),
        ("hgb", {"max_iter": "many"}, "must be an int"),
        ("hgb", ["max_iter"], "must be a mapping"),
        ("sklearn.ensemble.AdaBoostClassifier", {"estimator__max_depth": 3}, "set_params"),
        ("..", {}, "model '..'"),
    ],
)
def test_a_mistake_is_one_clear_line(model, hyperparameters, said):
    X, _ = mixed(rows=10)
    with pytest.raises(WorkbookError, match=said.replace(".", r"\.")) as caught:
        models.build(CANCER, X, model, hyperparameters)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("model", ["hgb", "linear"])
def test_dates_become_parts_of_the_calendar_and_an_age_within_the_pipeline(model):
    X = mixed(rows=90)[0].assign(when=pd.date_range("2013-01-30 06:30", periods=90))
    X.loc[3, "when"] = None
    pipeline = models.build(CANCER, X, model).fit(X, X["when"] > "2013-03-10")
    parts = pipeline.named_steps["prepare"].named_transformers_["dates"]
    dates = parts if model == "hgb" else parts[0]
    assert dates.transform(X[["when"]])[2].tolist() == [2, 4, 32, 6.5, 2]
    assert np.isnan(dates.transform(X[["when"]])[3]).all()
    assert pipeline.score(X, X["when"] > "2013-03-10") > 0.9
    later = X.assign(when=X["when"].dt.tz_localize("Asia/Tokyo") + pd.Timedelta(hours=9))
    assert (pipeline.predict(later) == pipeline.predict(X)).all()


@pytest.fixture(name="run")
def run_in_fresh_store(tmp_path, monkeypatch):
    """An active run in a store of its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    experiment = mlflow.create_experiment("models", artifact_location=(tmp_path / "a").as_uri())
    with mlflow.start_run(experiment_id=experiment) as run:
        yield run


def test_saved_models_predict_the_same_and_hold_no_pickle(run):  # pylint: disable=unused-argument
    X, y = mixed()
    for name in models.names():
        fitted = models.build(CANCER, X, name, {}).fit(X, y)
        info = models.log(fitted, X, name=name)
        loaded = mlflow.sklearn.load_model(info.model_uri)
        np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
        folder = Path(mlflow.artifacts.download_artifacts(info.model_uri))
        assert not [p.name for p in folder.rglob("*") if p.suffix in (".pkl", ".pickle", ".joblib")]
        assert {"model.skops", "input_example.json"} <= {p.name for p in folder.iterdir()}


def test_the_signature_knows_a_gap_far_down_the_table(run):  # pylint: disable=unused-argument
    X, y = mixed()
    X = X.drop(columns="empty").assign(late_gap=np.where(np.arange(len(X)) == 399, np.nan, 1.0))
    info = models.log(models.build(CANCER, X, "linear").fit(X, y), X)
    required = {column.name: column.required for column in info.signature.inputs}
    assert required["count"] and not required["late_gap"] and not required["amount"]


def test_the_signature_knows_a_gap_that_was_not_drawn(run, tmp_path):
    X, y = mixed()
    late = pd.array(np.arange(len(X)) % 7).astype("Int64")
    late[399] = pd.NA
    X.assign(late_gap=late, target=y).to_parquet(tmp_path / "t.parquet")
    source = problem.Source(path=tmp_path / "t.parquet")
    which = CANCER.model_copy(
        update={"source": source, "contract": {}, "columns": {}, "positive": None}
    )
    frame = data.to_train(data.load(which, rows=50), which).drop(columns="empty")
    assert frame["late_gap"].notna().all()
    X, y = data.features(frame, which), data.target(frame, which)
    info = models.log(models.build(which, X, "linear").fit(X, y), X)
    late = next(column for column in info.signature.inputs if column.name == "late_gap")
    assert run.info.run_id and late.type.name == "double" and not late.required


def test_types_that_nobody_vouched_for_are_named_and_need_an_opt_in(run):
    X, y = mixed()
    X = X.drop(columns="empty")
    fitted = models.build(CANCER, X, f"{__name__}.Coin").fit(X, y)
    with pytest.raises(WorkbookError, match=r"nobody vouched for: .*Coin"):
        models.log(fitted, X)
    info = models.log(fitted, X, trusted=[f"{__name__}.Coin"])
    assert run.info.run_id and mlflow.sklearn.load_model(info.model_uri).predict(X).size == len(X)


def test_requirements_are_exact_pins_and_few():
    pins = models.requirements(t for t in trust.TYPES if not t.startswith("Codes.networks."))
    assert all("==" in pin for pin in pins) and len(pins) == 6
