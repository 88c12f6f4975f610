"""Evaluation: the metrics are the field's, the gain is honest, the importance finds what matters."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from threadpoolctl import threadpool_limits

from Codes.ground.errors import WorkbookError
from Codes.modeling import evaluation, models
from Codes.problems import data, problem

CANCER = problem.load("breast_cancer")
DIABETES = problem.load("diabetes")


@pytest.fixture(autouse=True)
def one_thread():
    """One thread: OpenMP's threads wait for each other by spinning, for minutes on a busy machine."""
    with threadpool_limits(1):
        yield


def fitted(which, model="linear"):
    """(pipeline, train, test) of a problem."""
    train, test = data.split(data.load(which), which)
    X = data.features(train, which)
    return models.build(which, X, model).fit(X, data.target(train, which)), train, test


def several_classes():
    """A problem of three classes, with its predictions and their labels."""
    wine = CANCER.model_copy(
        update={
            "positive": None,
            "source": problem.Source(sklearn="wine"),
            "contract": {},
            "columns": {},
        }
    )
    pipeline, _, test = fitted(wine)
    found = evaluation.predictions(pipeline, data.features(test, wine), data.target(test, wine))
    return wine, found, pipeline.classes_


def test_binary_metrics_are_scikit_learns():
    pipeline, _, test = fitted(CANCER)
    X, y = data.features(test, CANCER), data.target(test, CANCER)
    found = evaluation.score(CANCER, pipeline, X, y)
    ill, share = (
        y == "malignant",
        pipeline.predict_proba(X)[:, list(pipeline.classes_).index("malignant")],
    )
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(ill, share))
    assert found["average_precision"] == pytest.approx(metrics.average_precision_score(ill, share))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(ill, share))
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(ill, share))
    assert found["f1"] == pytest.approx(metrics.f1_score(ill, pipeline.predict(X) == "malignant"))
    assert list(found) == list(evaluation.CLASSIFICATION)


def test_several_classes_are_measured_one_against_the_rest():
    wine, table, classes = several_classes()
    found = evaluation.measure(wine, table, classes)
    shares = table.filter(like="probability of ").to_numpy()
    expected = metrics.roc_auc_score(table.actual, shares, multi_class="ovr", labels=classes)
    assert found["roc_auc"] == pytest.approx(expected)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(table.actual, shares))


def test_an_estimator_without_probabilities_has_fewer_metrics():
    pipeline, _, test = fitted(CANCER, "sklearn.svm.LinearSVC")
    found = evaluation.score(
        CANCER, pipeline, data.features(test, CANCER), data.target(test, CANCER)
    )
    assert "roc_auc" in found and "log_loss" not in found


@pytest.mark.parametrize("name", ["auc", "rmse"])
def test_an_unknown_metric_is_refused(name):
    wrong = CANCER.model_copy(update={"metric": problem.Metric(name=name, direction="maximize")})
    with pytest.raises(WorkbookError, match="is not measured.*roc_auc"):
        evaluation.check_metric(wrong, evaluation.CLASSIFICATION)


def test_a_class_that_training_never_saw_is_refused_by_name():
    wine, table, _ = several_classes()
    with pytest.raises(WorkbookError, match="class_2"):
        evaluation.measure(wine, table, ["class_0", "class_1"])


def test_importance_finds_the_column_that_matters_and_not_the_noise():
    random = np.random.default_rng(0)
    X = pd.DataFrame({"noise": random.normal(size=500), "signal": random.normal(size=500)})
    y = X.signal * 3 + random.normal(size=500)
    pipeline = models.build(DIABETES, X, "linear").fit(X, y)
    table = evaluation.importance(DIABETES, pipeline, X, y)
    assert table.index[0] == "signal" and table["mean"]["noise"] < 0.05


def test_importances_are_measured_where_positives_are_few():
    random = np.random.default_rng(0)
    X = pd.DataFrame({"a": random.normal(size=9000), "b": random.normal(size=9000)})
    y = pd.Series(np.where(X.a.rank() > 8997, "malignant", "benign"))
    pipeline = models.build(CANCER, X, "linear").fit(X, y)
    table = evaluation.importance(CANCER, pipeline, X, y)
    assert table.index[0] == "a" and table["mean"].notna().all()


@pytest.mark.soak
def test_importances_of_a_wide_table_are_bounded_and_what_was_left_out_is_counted():
    random = np.random.default_rng(0)
    X = pd.DataFrame(random.normal(size=(60, 300))).add_prefix("x")
    y = pd.Series(np.where(X.x7 > 0, "malignant", "benign"))
    pipeline = models.build(CANCER, X, "linear").fit(X, y)
    table = evaluation.importance(CANCER, pipeline, X, y)
    assert len(table) == evaluation.IMPORTANCE_COLUMNS and table.attrs["left_out"] == 200
    assert table.index[0] == "x7"
    assert len(evaluation.importance(CANCER, pipeline, X, y, seconds=0)) == 1


def test_importances_of_rows_of_one_class_are_none():
    pipeline, _, test = fitted(CANCER)
    ill = test[test[CANCER.target] == "malignant"]
    X, y = data.features(ill, CANCER), data.target(ill, CANCER)
    assert evaluation.importance(CANCER, pipeline, X, y).empty
