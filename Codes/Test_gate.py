"""The gate's parts: the rows that nobody trained on, the paired interval, the slices, the signature, the thresholds."""

# pylint: disable=protected-access

import contextlib
import math
import os
from types import SimpleNamespace

import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.models import EvaluationResult, infer_signature
from mlflow.types import ColSpec, Schema, TensorSpec

from Codes import data, gate, models, plots, reproduction, trust
from Codes import problem as problems
from Codes.errors import WorkbookError

CANCER = problems.load("breast_cancer")
DIABETES = problems.load("diabetes")
FLIGHTS = problems.load("flights")


def saved(problem, folder, model="hgb", **hyperparameters):
    """A trust.Loaded of a model trained on `problem` and saved to `folder`, as models.log saves it."""
    train, _ = data.split(data.load(problem), problem)
    X = data.features(train, problem)
    pipeline = models.build(problem, X, model, hyperparameters).fit(X, data.target(train, problem))
    example = X.head(5)
    answer = getattr(pipeline, "predict_proba", pipeline.predict)
    mlflow.sklearn.save_model(
        pipeline,
        str(folder),
        serialization_format="skops",
        skops_trusted_types=sorted(trust.TYPES),
        signature=infer_signature(X, pipeline.predict(X)),
        input_example=example,
        pip_requirements=models.requirements(),
        metadata={trust.PREDICTED: np.asarray(answer(example)).tolist()},
    )
    return trust.load(folder)


@pytest.fixture(name="good", scope="module")
def fixture_good(tmp_path_factory):
    """A model of breast cancer that is good."""
    return saved(CANCER, tmp_path_factory.mktemp("good") / "m", max_depth=3, max_iter=60)


@pytest.fixture(name="weak", scope="module")
def fixture_weak(tmp_path_factory):
    """One that is weak."""
    return saved(CANCER, tmp_path_factory.mktemp("weak") / "m", max_iter=1, max_leaf_nodes=2)


@contextlib.contextmanager
def a_run(folder):
    """A run in a store of its own, under `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
        place = mlflow.create_experiment("gate", artifact_location=(folder / "runs").as_uri())
        with mlflow.start_run(experiment_id=place) as run:
            yield run
    mlflow.set_tracking_uri(None)


def drawn(problem, rows, seed):
    """How a run of 02_train draws its training rows, and their digest."""
    train = data.split(data.load(problem, rows, seed), problem, seed)[0]
    return {"rows": rows, "seed": seed, "digest": data.digest(train)}


def test_only_rows_that_no_model_was_trained_on_are_looked_at():
    both = [drawn(CANCER, 0, seed) for seed in (0, 1)]
    whole = data.load(CANCER)
    trains = [data.split(whole, CANCER, seed)[0].index for seed in (0, 1)]
    found = gate.unseen(CANCER, both)
    assert len(found) and not set(found.index) & (set(trains[0]) | set(trains[1]))
    assert len(found) < len(gate.unseen(CANCER, both[:1]))
    assert len(gate.unseen(CANCER, both, most=10)) == 10
    late = gate.unseen(FLIGHTS, [drawn(FLIGHTS, 2000, 0)], most=1000)
    assert late[FLIGHTS.time].min() >= pd.Timestamp(FLIGHTS.split.cutoff)


def test_of_a_sample_the_rows_that_were_drawn_are_left_out():
    few = drawn(CANCER, 100, 3)
    train = data.split(data.load(CANCER, 100, 3), CANCER, 3)[0]
    found = gate.unseen(CANCER, [few])
    assert len(found) == 569 - len(train) and not set(found.index) & set(train.index)


def test_another_table_than_the_one_of_training_is_refused():
    with pytest.raises(WorkbookError, match="not the one that the model was trained on"):
        gate.unseen(CANCER, [{"rows": 0, "seed": 0, "digest": "0" * 36}])
    assert len(gate.unseen(CANCER, [drawn(CANCER, 0, 0)]))


def test_the_interval_of_a_difference_is_paired_and_that_of_a_model_with_itself_is_nothing(
    good, weak
):
    rows = gate.unseen(CANCER, [drawn(CANCER, 0, 0)])
    table, _ = gate.compare(CANCER, rows, good, weak)
    row = table[table.metric == "roc_auc"].iloc[0]
    assert 0 < row.low < row.difference < row.high
    assert row.difference == pytest.approx(row.candidate - row.champion)
    back = gate.compare(CANCER, rows, weak, good)[0].set_index("metric")
    assert back.difference["roc_auc"] == pytest.approx(-row.difference)
    loss = table[table.metric == "log_loss"].iloc[0]
    assert loss.difference == pytest.approx(loss.champion - loss.candidate), "less is better"
    itself = gate.compare(CANCER, rows, good, good)[0].set_index("metric").loc["roc_auc"]
    assert (itself.difference, itself.low, itself.high) == (0, 0, 0)


def test_a_slice_that_is_left_behind_refuses_although_the_whole_is_better():
    slices = pd.DataFrame(
        {"column": "c", "value": ["b", "a"], "rows": 500, "candidate": [0.6, 0.9], "champion": 0.7}
    ).assign(difference=[-0.1, 0.2])
    check = next(gate._leaves_nobody_behind(FLIGHTS, slices))
    assert not check.passed and "c b (500 rows): roc_auc 0.6000 against 0.7000" in check.found
    assert next(gate._leaves_nobody_behind(FLIGHTS, slices[1:])).passed
    lost = slices.assign(candidate=[0.9, math.nan], difference=[0.2, math.nan])
    check = next(gate._leaves_nobody_behind(FLIGHTS, lost))
    assert not check.passed and "c a (500 rows): roc_auc nan against 0.7000" in check.found


def test_a_slice_that_no_model_can_be_measured_on_is_left_out_and_counted():
    frame = {"column": "c", "value": ["b", "a"], "rows": 500, "candidate": [0.9, math.nan]}
    slices = pd.DataFrame(frame | {"champion": [0.7, math.nan], "difference": [0.2, math.nan]})
    check = next(gate._leaves_nobody_behind(FLIGHTS, slices))
    assert check.passed and check.found.startswith("c b ") and "1 cannot be measured" in check.found
    assert not list(gate._leaves_nobody_behind(FLIGHTS, slices[1:]))


def test_mlflows_evaluation_leaves_no_figure_that_a_notebook_would_show(good, tmp_path):
    rows = gate.unseen(CANCER, [drawn(CANCER, 0, 0)])
    _, predicted = gate.compare(CANCER, rows, good)
    with a_run(tmp_path):
        gate.evaluate(CANCER, predicted["candidate"], good)
    assert not plt.get_fignums()


def test_a_metric_that_the_problem_has_wrong_is_a_line(good):
    rows = gate.unseen(CANCER, [drawn(CANCER, 0, 0)], most=50)
    for metric in ({"name": "auc"}, {"direction": "minimize"}):
        wrong = CANCER.model_copy(update={"metric": CANCER.metric.model_copy(update=metric)})
        with pytest.raises(WorkbookError, match="metric"):
            gate.check(wrong, rows, good, good)


def test_slices_with_few_rows_are_left_out_and_the_worst_is_on_top(good, weak):
    rows = gate.unseen(CANCER, [drawn(CANCER, 0, 0)]).assign(
        half=lambda f: np.where(f.index % 2, "odd", "even"),
        few=lambda f: np.where(f.index < 9, "a", None),
    )
    rule = problems.Gate(slices=["half", "few"], slice_rows=20)
    which = CANCER.model_copy(update={"gate": rule, "exclude": {"half": "", "few": ""}})
    _, predicted = gate.compare(which, rows, weak, good)
    table = gate.by_slice(which, rows, predicted, {"candidate": weak, "champion": good})
    assert (
        set(table.value) == {"odd", "even", "missing"} and table.difference.is_monotonic_increasing
    )
    alone = gate.by_slice(which, rows, predicted, {"candidate": weak})
    assert alone.candidate.is_monotonic_increasing and "difference" not in alone


def of(*columns, answers="?"):
    """What the signature's check looks at of a model."""
    inputs = Schema([ColSpec(kind, name, required=needed) for name, kind, needed in columns])
    outputs = Schema([TensorSpec(np.dtype(answers), (-1,))])
    return SimpleNamespace(
        schema=inputs, meta=SimpleNamespace(signature=SimpleNamespace(outputs=outputs))
    )


SERVED = [("a", "long", True), ("b", "string", False)]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ([("a", "long", True), ("b", "string", False)], ""),
        ([("a", "double", True), ("b", "string", False)], ""),
        ([("a", "long", True)], "column b is gone"),
        ([*SERVED, ("c", "double", False)], "new column c"),
        ([*SERVED, ("c", "double", True)], "new column c"),
        ([("a", "string", True)], "a is string instead of long"),
        ([("a", "long", True), ("b", "string", True)], "b may lack no more"),
    ],
)
def test_whoever_can_ask_what_is_served_can_ask_the_candidate(columns, said):
    check = gate._fits_signature(of(*columns), of(*SERVED))
    assert check.passed is not bool(said) and said in check.found
    other = gate._fits_signature(of(*SERVED, answers="int64"), of(*SERVED))
    assert not other.passed and "another kind of answer" in other.found
    words = [of(*SERVED, answers=kind) for kind in ("O", "U")]
    assert gate._fits_signature(*words).passed, "text is text"


def test_a_candidate_that_knows_fewer_categories_would_refuse_what_is_answered_today():
    frame = pd.DataFrame({"dest": ["LAX"] * 900 + ["LEX"] * 99 + [None]})
    knows = {n: SimpleNamespace(categories={"dest": set(n.split())}) for n in ("LAX", "LAX LEX")}
    refused = gate._knows_the_categories(frame, knows["LAX"], knows["LAX LEX"])
    assert not refused.passed and refused.found.startswith("99 of 1000 rows")
    assert gate._knows_the_categories(frame, knows["LAX LEX"], knows["LAX"]).passed
    assert gate._knows_the_categories(frame, knows["LAX"], knows["LAX"]).passed


def test_thresholds_go_either_way_and_a_metric_that_is_no_number_fails():
    found = {"gate/roc_auc": 0.7, "gate/log_loss": 0.4, "gate/f1": math.nan, "accuracy_score": 1}
    evaluated = EvaluationResult(found, {})
    rule = problems.Gate(thresholds={"roc_auc": 0.7, "log_loss": 0.3, "f1": 0, "brier": 1})
    checks = list(gate.thresholds(CANCER.model_copy(update={"gate": rule}), evaluated))
    assert [c.passed for c in checks] == [True, False, False, False]
    unknown = CANCER.model_copy(update={"gate": problems.Gate(thresholds={"auc": 0.7})})
    with pytest.raises(WorkbookError, match="no metric 'auc'; there are roc_auc, log_loss, f1."):
        list(gate.thresholds(unknown, evaluated))


def test_a_model_answers_in_a_clean_process_as_it_did_and_one_that_does_not_is_refused(good):
    checks = gate.in_clean_process(good, 60_000)
    assert [c.passed for c in checks] == [True, True, True], checks
    assert not gate.in_clean_process(good, 1e-9)[2].passed
    metadata = good.meta.metadata
    try:
        good.meta.metadata = {trust.PREDICTED: (1 - np.asarray(metadata[trust.PREDICTED])).tolist()}
        assert not gate.in_clean_process(good, 60_000)[1].passed
        good.meta.metadata = {}
        assert "no answers were recorded" in gate.in_clean_process(good, 60_000)[1].found
    finally:
        good.meta.metadata = metadata


def test_a_model_of_other_versions_needs_an_environment_of_its_own(good, monkeypatch, tmp_path):
    for line in (
        "--index-url=http://127.0.0.1/",
        "numpy @ http://127.0.0.1/numpy.tar.gz",
        "strange==1.0",
        "numpy",
        "-r other.txt",
    ):
        (tmp_path / "requirements.txt").write_text(f"numpy==1.0\n{line}\n", "utf-8")
        with pytest.raises(WorkbookError, match="no NAME==VERSION of .*: not installed"):
            reproduction.environment(tmp_path)
    (tmp_path / "requirements.txt").write_text("numpy==1.0\n# a comment\n", "utf-8")
    monkeypatch.setattr(reproduction, "_built", lambda pins: f"python with {pins}")
    assert reproduction.environment(tmp_path)[0] == "python with ['numpy==1.0']"
    assert reproduction.environment(good.folder)[1].endswith("which are those here")


def test_a_regression_goes_through_the_gate_too(tmp_path):
    model = saved(DIABETES, tmp_path / "m", "linear")
    rows = gate.unseen(DIABETES, [drawn(DIABETES, 0, 0)])
    which = DIABETES.model_copy(update={"gate": problems.Gate(latency_ms=60_000)})
    with a_run(tmp_path) as run:
        report = gate.check(which, rows, model)
        refused = gate.check(which, rows, model, model)
        logged = MlflowClient().get_run(run.info.run_id)
    # MLflow's own evaluation is there too, and agrees with the workbook's
    rmse = report.metrics.set_index("metric").candidate["rmse"]
    assert logged.data.metrics["gate/rmse"] == pytest.approx(rmse)
    assert logged.data.metrics["root_mean_squared_error"] == pytest.approx(rmse)
    assert logged.inputs.dataset_inputs[0].dataset.name == "diabetes hold-out"
    assert report.passed, report.refusal
    assert "| rmse |" in report.markdown() and '"passed": true' in report.as_json()
    assert not refused.passed and "better than the one in production: rmse" in refused.refusal
    for figure in (plots.gate(report, "rmse"), plots.gate(refused, "rmse")):
        assert figure.axes
