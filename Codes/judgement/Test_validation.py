"""A run is scored on rows that it has not seen, the same as any other run's, against one baseline."""

import mlflow
import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from Codes.ground.errors import WorkbookError
from Codes.judgement import baseline, validation
from Codes.judgement.scored import Scored, TAG
from Codes.modeling import models, training
from Codes.networks import network
from Codes.problems import data, problem as problems
from Codes.testing.testbed import fresh_store

CANCER, DIABETES = problems.load("breast_cancer"), problems.load("diabetes")
YAML = """\
title: How much is sold?
task: {task}
source: {{path: t.csv}}
target: y
exclude: {{today: what is said today}}
split: {split}
metric: {metric}
{more}
"""


@pytest.fixture(autouse=True)
def one_thread():
    """One thread: OpenMP's threads wait for each other by spinning, for minutes on a busy machine."""
    with threadpool_limits(1):
        yield


@pytest.fixture(name="asked")
def _asked(tmp_path):
    """A function that writes a table and its problem, and gives the problem."""

    def write(frame, metric="{name: mae, direction: minimize}", more="", **given):
        frame.to_csv(tmp_path / "t.csv", index=False)
        fields = {"task": "regression", "split": "{kind: random, test_share: 0.2}"} | given
        (tmp_path / "t.yaml").write_text(YAML.format(metric=metric, more=more, **fields), "utf-8")
        return problems.load(tmp_path / "t.yaml")

    return write


def sales(count=3000, seed=0, shift=0.0):
    """What is sold (skewed), one feature that says something of it, a forecast, shops."""
    chance = np.random.default_rng(seed)
    x = chance.normal(size=count)
    return pd.DataFrame(
        {
            "x": x,
            "shop": chance.integers(0, 50, count).astype(str),
            "today": np.exp(x) + chance.normal(0, 2, count),
            "y": np.exp(x + chance.normal(0, 0.5, count)) + shift,
        }
    )


def scored(which, model="linear", rows=0, seed=0, **hyperparameters):
    """What validation.score finds of a `model`."""
    frame = data.load(which, rows, seed)
    train = data.to_train(frame, which)
    X, y = data.features(train, which), data.target(train, which)
    pipeline = models.build(which, X, model, hyperparameters, seed).fit(X, y)
    return validation.score(which, pipeline, frame, seed)


def test_runs_on_fewer_rows_and_other_seeds_are_measured_on_the_same_rows(asked):
    which = asked(sales())
    whole, few = scored(which), scored(which, rows=100, seed=3)
    assert whole.scored.comparable(few.scored) and whole.scored.how == "hold-out"
    assert whole.predictions.index.equals(few.predictions.index)
    assert (
        whole.scored.baseline == few.scored.baseline
    ), "of all training rows, whatever the run takes"
    assert not set(whole.rows.index) & set(data.test(which).index)


@pytest.mark.parametrize("which", [CANCER, DIABETES], ids=lambda p: p.name)
def test_a_small_table_is_cross_validated_on_all_rows_but_the_test(which):
    found, few = scored(which), scored(which, "dummy", rows=60)
    assert found.scored.how == "cross-validation" and len(found.scored.scores) == 15
    assert found.scored.comparable(few.scored)
    assert len(found.predictions) == len(found.rows) == len(data.load(which))
    assert not set(found.rows.index) & set(data.test(which).index)
    assert found.scored.gain().low > 0 and "cross-validation" in found.sentence()


@pytest.mark.parametrize("count", [300, 3000])
def test_what_a_run_has_kept_gives_the_predictions_of_each_row_back(asked, count):
    frame = sales(count)
    which = asked(pd.concat([frame, frame[:50]]))  # 50 rows are there twice
    found, loaded = scored(which), data.load(which)
    held, table = validation.predicted(which, loaded, found.kept)
    assert held.index.equals(found.rows.index)
    pd.testing.assert_frame_equal(table, found.predictions)


def test_sixteen_rows_cannot_tell_a_model_from_a_constant(asked):
    chance = np.random.default_rng(0)
    few = pd.DataFrame({"a": chance.normal(size=16), "today": 0.0, "y": chance.normal(size=16)})
    found = scored(asked(few, "{name: rmse, direction: minimize}"))
    assert not found.scored.gain().low > 0


def test_the_baseline_is_the_best_constant_for_the_metric_from_training_rows(asked):
    frame = sales()
    for metric, constant in (("mae", "median"), ("rmse", "mean"), ("r2", "mean")):
        direction = "maximize" if metric == "r2" else "minimize"
        which = asked(frame, f"{{name: {metric}, direction: {direction}}}")
        loaded = data.load(which, rows=50)
        base = baseline.fit(which, loaded)
        train = data.split(data.load(which), which)[0]
        assert base.constant() == pytest.approx(getattr(train["y"], constant)())
    assert base.measure(loaded)["r2"] <= 0.01


def test_a_constant_never_beats_the_baseline(asked):
    found = scored(asked(sales()), "dummy")  # the mean, where the median is better
    assert found.scored.gain().value < 0
    classes = scored(CANCER, "dummy")
    assert classes.scored.gain() == (0, 0, 14)


def test_the_constant_for_labels_is_the_best_of_them(asked):
    chance = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "x": chance.normal(size=3000),
            "today": 0,
            "y": chance.choice(["no", "yes"], 3000, p=[0.8, 0.2]),
        }
    )
    for metric, always in (("f1", "yes"), ("accuracy", "no")):
        which = asked(
            frame,
            f"{{name: {metric}, direction: maximize}}",
            "positive: 'yes'",
            task="classification",
        )
        base = baseline.fit(which, data.load(which))
        assert base.constant() == always and base.name == f"always {always}"


@pytest.mark.filterwarnings("error::pandas.errors.PerformanceWarning")
def test_many_classes_make_no_baseline_column_by_column(asked):
    frame = sales(1500).assign(y=[f"class {i % 150 if i > 60 else 7}" for i in range(1500)])
    metric, split = "{name: accuracy, direction: maximize}", "{kind: stratified, test_share: 0.2}"
    which = asked(frame, metric, task="classification", split=split)
    base, loaded = baseline.fit(which, data.load(which)), data.load(which)
    assert base.constant() == "class 7" and base.predictions(loaded).shape == (len(loaded), 152)


def test_what_is_done_today_is_the_baseline_where_the_file_names_it(asked):
    frame = sales()
    frame.loc[::10, "today"] = None
    which = asked(frame, more="baseline: {column: today}")
    loaded = data.load(which)
    base = baseline.fit(which, loaded)
    answers = base.predictions(loaded)["predicted"]
    gaps = loaded["today"].isna()
    assert (
        answers[~gaps].equals(loaded["today"][~gaps]) and (answers[gaps] == base.constant()).all()
    )
    assert "column 'today'" in base.name
    last = asked(frame.assign(y=frame["shop"].astype(float) + 1), more="baseline: {last_of: shop}")
    found = scored(last)
    assert found.scored.baseline == 0, "each shop sells the same each time"
    kept = Scored.from_tag(found.scored.as_tag())
    told = "the baseline (the last known value of each 'shop': 0.0000)"
    assert kept.floor() == told and told.partition(":")[0] in found.sentence()


def test_a_baseline_that_the_deciding_metric_cannot_be_taken_of_is_refused(asked):
    y = np.resize(["no", "yes", "no"], 3000)
    frame = pd.DataFrame({"x": np.arange(3000.0), "shop": "a", "today": y, "y": y})
    given = {"task": "classification", "metric": "{name: log_loss, direction: minimize}"}
    with pytest.raises(WorkbookError, match="'baseline: last_of' gives labels"):
        asked(frame, more="baseline: {last_of: shop}\npositive: 'yes'", **given)
    labels = asked(frame, more="baseline: {column: today}\npositive: 'yes'", **given)
    with pytest.raises(WorkbookError, match="'today' holds no probabilities, and log_loss"):
        scored(labels)


def test_a_column_of_labels_or_of_probabilities_is_a_baseline(asked):
    chance = np.random.default_rng(0)
    y = chance.choice(["no", "yes"], 3000)
    said = np.where(chance.random(3000) < 0.8, y, "no")
    frame = pd.DataFrame({"x": chance.normal(size=3000), "today": said, "y": y})
    given = {"task": "classification", "metric": "{name: roc_auc, direction: maximize}"}
    which = asked(frame, more="baseline: {column: today}\npositive: 'yes'", **given)
    assert 0.85 < scored(which).scored.baseline < 0.95
    which = asked(
        frame.assign(today=(said == "yes") * 0.7),
        more="baseline: {column: today}\npositive: 'yes'",
        **given,
    )
    assert 0.85 < scored(which).scored.baseline < 0.95
    which = asked(frame.assign(today="maybe"), more="baseline: {column: today}", **given)
    with pytest.raises(WorkbookError, match="'today' holds 'maybe': neither a class"):
        scored(which)


def test_groups_stay_together_in_folds_and_in_the_error(asked):
    frame = sales(600)
    which = asked(frame, split="{kind: group, group: shop, test_share: 0.2}")
    loaded = data.load(which)
    for learned, held in validation.folds(which, loaded):
        assert not set(learned["shop"]) & set(held["shop"])
    many = asked(sales(9000), split="{kind: group, group: shop, test_share: 0.2}")
    found = scored(many)
    assert "groups" in found.how and found.scored.how == "hold-out"


class Noting(network.Regressor):  # pylint: disable=abstract-method
    """A network that answers by the mean, and notes by which rows it would have stopped."""

    sides: list = []

    def fit(self, X, y, watch=None):
        self.sides.append([set(X[side, 0]) for side in (watch.held(), ~watch.held())])
        self.mean_ = y.mean()  # pylint: disable=attribute-defined-outside-init
        return self

    def predict(self, X):
        return np.full(len(X), self.mean_)


def test_in_folds_too_a_network_stops_by_whole_groups(asked):
    frame = sales(600).assign(shop=np.arange(600) // 6, x=np.arange(600.0) // 6)
    which = asked(frame, split="{kind: group, group: shop, test_share: 0.2}")
    loaded = data.load(which)
    pipeline = models.build(which, data.features(loaded, which), f"{__name__}.Noting")
    Noting.sides.clear()
    training.fitted(which, pipeline, loaded)
    validation.score(which, pipeline, loaded)
    assert len(Noting.sides) == 1 + validation.TIMES * validation.PARTS
    assert all(held and not held & others for held, others in Noting.sides)


def test_the_metrics_begin_with_the_deciding_one_and_what_is_kept_is_logged(
    asked, tmp_path, monkeypatch
):
    which = asked(sales())
    found = scored(which)
    names = list(found.metrics())
    assert names[:4] == ["validation_mae", "error_mae", "gain_mae", "gain_error_mae"]
    assert {"baseline_mae", "train_mae", "validation_rmse"} < set(names)
    monkeypatch.setenv("WORKBOOK_TESTBED", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    with mlflow.start_run() as run:
        found.log()
    again = mlflow.get_run(run.info.run_id)
    assert Scored.from_tag(again.data.tags[TAG]).comparable(found.scored)
    file = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path=validation.FILE
    )
    kept = pd.read_parquet(file)
    assert len(kept) == found.scored.rows and kept["key"].is_unique
    assert kept["predicted"].to_numpy() == pytest.approx(found.predictions["predicted"])


def test_importances_of_a_small_table_are_taken_on_rows_not_seen():
    found = scored(DIABETES)
    table = validation.importance(found)
    assert len(found.fitted) == 5 and len(table) == 10 and table["mean"].iloc[0] > 0
