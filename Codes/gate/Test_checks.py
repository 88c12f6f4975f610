"""The gate: its test rows, the baseline, the one in production, slices, looks, the signature, the thresholds."""

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

from Codes.figures import plots
from Codes.gate import checks
from Codes.ground.errors import WorkbookError
from Codes.modeling import models
from Codes.problems import data, problem as problems
from Codes.saved_models import reproduction, trust
from Codes.testing.testbed import asked_once

CANCER = problems.load("breast_cancer")
DIABETES = problems.load("diabetes")
FLIGHTS = problems.load("flights")


def saved(problem, folder, model="hgb", **hyperparameters):
    """A trust.Loaded of a model trained on `problem` and saved to `folder`, as models.log saves it."""
    train = data.to_train(data.load(problem), problem)
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


@pytest.fixture(scope="module", autouse=True)
def _asked_once():
    """What a model answers in a process of its own is asked once of each: it takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduction, "ask", asked_once(reproduction.ask))
        yield


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


@pytest.fixture(name="rows", scope="module")
def fixture_rows():
    """The test rows of breast cancer."""
    return checks.test_rows(data.Table.of(CANCER))


def drawn(problem, rows=0, seed=0, **other):
    """What is known of a run of 02_train: how it drew its training rows, and their digest."""
    train = data.to_train(data.load(problem, rows, seed), problem)
    fields = {"run_id": "r1", "rows": rows, "seed": seed, "digest": data.digest(train)}
    return checks.Trained(**fields | other)


@pytest.mark.parametrize(("rows", "seed"), [(0, 0), (100, 3)])
def test_no_training_row_is_a_test_row(rows, seed):
    train = checks.training_rows(data.Table.of(CANCER), drawn(CANCER, rows, seed))
    assert not set(train.index) & set(checks.test_rows(data.Table.of(CANCER)).frame.index)


def test_a_model_of_another_table_or_of_another_split_is_refused_and_the_line_says_which():
    with pytest.raises(
        WorkbookError, match="breast_cancer, or how .* has changed since the run r1"
    ):
        checks.training_rows(data.Table.of(CANCER), drawn(CANCER, digest="0" * 36))
    split = CANCER.split.model_copy(update={"test_share": 0.4})
    with pytest.raises(WorkbookError, match="has changed since the run r1"):
        checks.training_rows(
            data.Table.of(CANCER.model_copy(update={"split": split})), drawn(CANCER)
        )
    with pytest.raises(WorkbookError, match="may have seen test rows.*is of before"):
        checks.training_rows(data.Table.of(CANCER), drawn(CANCER, digest="0" * 36, by_file=False))


@pytest.mark.soak
def test_mlflows_evaluation_leaves_no_figure_that_a_notebook_would_show(good, rows, tmp_path):
    with a_run(tmp_path):
        checks.evaluate(CANCER, checks.answered(rows, good).table, good)
    assert not plt.get_fignums()


@pytest.fixture(name="reports", scope="module")
def fixture_reports(good, weak, rows, tmp_path_factory):
    """{what: the report} of a good model, alone and against a weak one, the other way round, and against itself."""
    with a_run(tmp_path_factory.mktemp("reports")):
        return {
            "alone": checks.check(rows, good),
            "better": checks.check(rows, good, weak, against="version 1"),
            "worse": checks.check(rows, weak, good, against="version 1", looks=9),
            "itself": checks.check(rows, good, good, against="version 1"),
            "damaged": checks.check(rows, good, against="version 1: its files are gone"),
        }


def found(report, name):
    """The check `name` of the `report`."""
    return next(check for check in report.checks if check.name == name)


def test_what_is_better_than_the_one_in_production_passes_and_what_is_worse_says_so_without_a_sign(
    reports,
):
    assert reports["alone"].passed and reports["better"].passed
    better, worse = (found(reports[n], checks.BETTER) for n in ("better", "worse"))
    assert "better by 0." in better.found and "of version 1" in better.found
    assert not worse.passed and "worse by 0." in worse.found and "-" not in worse.found
    metrics = reports["better"].metrics.set_index("metric")
    row = metrics.loc["roc_auc"]
    assert 0 < row.low < row.difference < row.high and row.baseline == 0.5
    assert row.difference == pytest.approx(row.candidate - row.champion)
    loss = metrics.loc["log_loss"]
    assert loss.difference == pytest.approx(loss.champion - loss.candidate), "less is better"
    assert math.isnan(loss.low), "only the deciding one has an interval"
    assert not found(reports["damaged"], checks.BETTER).passed
    alone = reports["alone"].metrics.set_index("metric").loc["roc_auc"]
    assert 0 < alone.low < alone.difference == pytest.approx(alone.candidate - 0.5)


def test_the_same_model_again_is_refused_as_no_better_and_that_is_said_plainly(reports):
    check = found(reports["itself"], checks.BETTER)
    count = len(checks.test_rows(data.Table.of(CANCER)).frame)
    assert not check.passed and check.found == f"the same answers on all {count} rows as version 1"


def test_looks_are_counted_and_from_nine_on_warned_of_with_the_reason(reports):
    assert reports["alone"].notes == ("The test rows were looked at 1 time, with this one.",)
    (note,) = reports["worse"].notes
    for part in ("9 times", "about 20%", "0.975^9", "22.5%", "Bonferroni", "99.44 %", "Dwork"):
        assert part in note
    assert note in reports["worse"].markdown()
    assert "often" not in checks.looked(8, SimpleNamespace())


def test_a_report_is_read_back_as_it_was(reports):
    for report in reports.values():
        again = checks.Report.from_json(report.as_json())
        assert again.checks == report.checks and again.notes == report.notes
        pd.testing.assert_frame_equal(again.metrics, report.metrics, atol=1e-9)
        assert plots.gate(again, "roc_auc").axes


def prices(folder):
    """A problem of prices without pattern; on the last days the level is another, and the mean is above the median."""
    random, days = np.random.default_rng(0), pd.date_range("2020-01-01", periods=400)
    price = random.lognormal(4, 1.5, 400) + np.where(np.arange(400) < 300, 0, 50)
    table = pd.DataFrame({"day": days, "area": random.uniform(20, 100, 400), "price": price})
    table.to_csv(folder / "prices.csv", index=False)
    (folder / "prices.yaml").write_text(
        "title: What does it cost?\ntask: regression\nsource: {path: prices.csv}\ntarget: price\ntime: day\n"
        "split: {kind: time, cutoff: 2020-10-27}\nmetric: {name: mae, direction: minimize}\n",
        "utf-8",
    )
    return problems.load(folder / "prices.yaml")


def test_a_constant_never_passes_though_it_lies_nearer_to_a_level_that_has_moved(tmp_path):
    problem = prices(tmp_path)
    constant = saved(problem, tmp_path / "m", "dummy")
    with a_run(tmp_path):
        check = found(
            checks.check(checks.test_rows(data.Table.of(problem)), constant), checks.BASELINE
        )
    assert not check.passed and "it answers every row alike" in check.found
    assert "better by" in check.found, "than the median of training: the level has moved its way"


def test_the_baseline_is_that_of_training_so_that_a_moved_level_refuses_no_real_model(tmp_path):
    problem = prices(tmp_path)
    table = pd.read_csv(tmp_path / "prices.csv")
    area, level = 20 + 0.8 * (table.index * 37 % 100), np.where(table.index < 300, 0, 620)
    table = table.assign(area=area, price=30 * area + level)
    table.to_csv(tmp_path / "prices.csv", index=False)
    # it is 620 off: less than the median of training, and more than that of the test rows, which nobody knew
    model = saved(problem, tmp_path / "m", "linear")
    with a_run(tmp_path):
        check = found(
            checks.check(checks.test_rows(data.Table.of(problem)), model), checks.BASELINE
        )
    assert check.passed and "of always " in check.found


def slices_of(**columns):
    """What paired.slices gives, with these columns."""
    row = {"column": "c", "rows": 500, "champion": 0.7}
    return pd.DataFrame(row | columns, index=range(len(columns["value"])))


def test_a_slice_that_is_left_behind_refuses_although_the_whole_is_better():
    slices = slices_of(
        value=["b", "a"],
        candidate=[0.6, 0.9],
        difference=[-0.1, 0.2],
        low=[-0.2, 0.1],
        high=[-0.01, 0.3],
    )
    check = next(checks._leaves_nobody_behind(FLIGHTS, slices, 0.03))
    assert (
        not check.passed
        and "c b (500 rows): roc_auc 0.6000 against 0.7000, worse by 0.1" in check.found
    )
    assert "worse by 0.03 at most" in check.allowed
    assert next(checks._leaves_nobody_behind(FLIGHTS, slices[1:], 0.03)).passed
    by_luck = slices.assign(high=0.01)
    assert next(checks._leaves_nobody_behind(FLIGHTS, by_luck, 0.03)).passed
    lost = slices.assign(candidate=[0.9, math.nan], difference=[0.2, math.nan], high=math.nan)
    check = next(checks._leaves_nobody_behind(FLIGHTS, lost, 0.03))
    assert not check.passed and "c a (500 rows): roc_auc not known against 0.7000" in check.found


def test_a_slice_that_no_model_can_be_measured_on_is_left_out_and_counted():
    slices = slices_of(
        value=["b", "a"], candidate=[0.9, math.nan], difference=[0.2, math.nan], low=0.1, high=0.3
    ).assign(champion=[0.7, math.nan])
    check = next(checks._leaves_nobody_behind(FLIGHTS, slices, 0.03))
    assert check.passed and check.found.startswith("c b ") and "1 cannot be measured" in check.found
    assert not list(checks._leaves_nobody_behind(FLIGHTS, slices[1:], 0.03))


def test_what_a_slice_may_lose_is_by_default_a_tenth_of_what_the_one_in_production_gains(
    rows, good
):
    answers, base = checks.answered(rows, good), checks.baselines.fit(CANCER, rows.frame)
    against = checks.Answers(base.predictions(rows.frame), base.labels)
    champion = rows.measure(answers, against)
    assert checks._loss(rows, champion) == pytest.approx(0.1 * (champion.score - 0.5))
    assert checks._loss(rows, rows.measure(against, answers)) == 0


def of(*columns, answers="?"):
    """What the signature's check looks at of a model."""
    inputs = Schema([ColSpec(kind, name, required=needed) for name, kind, needed in columns])
    outputs = Schema([TensorSpec(np.dtype(answers), (-1,))])
    kinds = {name: kind for name, kind, _ in columns}
    meta = SimpleNamespace(signature=SimpleNamespace(outputs=outputs))
    return SimpleNamespace(schema=inputs, kinds=kinds, meta=meta)


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
    check = checks._fits_signature(of(*columns), of(*SERVED))
    assert check.passed is not bool(said) and said in check.found
    other = checks._fits_signature(of(*SERVED, answers="int64"), of(*SERVED))
    assert not other.passed and "another kind of answer" in other.found
    words = [of(*SERVED, answers=kind) for kind in ("O", "U")]
    assert checks._fits_signature(*words).passed, "text is text"


@pytest.mark.parametrize("known, passed", [("a b c", True), ("a b", True), ("a", False)])
def test_a_first_version_that_would_refuse_most_new_rows_for_their_categories_fails(known, passed):
    frame = pd.DataFrame({"ticket": list("abcd")})
    knows = SimpleNamespace(categories={"ticket": set(known.split())})
    (check,) = checks._refuses_few(frame, knows)
    assert check.passed == passed and "of 4 rows hold one that it never saw" in check.found
    assert not checks._refuses_few(frame.head(1), knows)  # nothing is refused: nothing to say


def test_a_candidate_that_knows_fewer_categories_would_refuse_what_is_answered_today():
    frame = pd.DataFrame({"dest": ["LAX"] * 900 + ["LEX"] * 99 + [None]})
    knows = {n: SimpleNamespace(categories={"dest": set(n.split())}) for n in ("LAX", "LAX LEX")}
    refused = checks._knows_the_categories(frame, knows["LAX"], knows["LAX LEX"])
    assert not refused.passed and refused.found.startswith("99 of 1000 rows")
    assert checks._knows_the_categories(frame, knows["LAX LEX"], knows["LAX"]).passed
    assert checks._knows_the_categories(frame, knows["LAX"], knows["LAX"]).passed


def test_thresholds_go_either_way_and_a_metric_that_is_no_number_fails():
    measured = {"gate/roc_auc": 0.7, "gate/log_loss": 0.4, "gate/f1": math.nan, "accuracy_score": 1}
    evaluated = EvaluationResult(measured, {})
    rule = problems.Gate(thresholds={"roc_auc": 0.7, "log_loss": 0.3, "f1": 0, "brier": 1})
    kept = list(checks.thresholds(CANCER.model_copy(update={"gate": rule}), evaluated))
    assert [c.passed for c in kept] == [True, False, False, False]


def test_a_model_answers_in_a_clean_process_as_it_did_and_one_that_does_not_is_refused(good):
    shown = checks.in_clean_process(good, 60_000)
    assert [c.passed for c in shown] == [True, True, True], shown
    assert not checks.in_clean_process(good, 1e-9)[2].passed
    metadata = good.meta.metadata
    try:
        good.meta.metadata = {trust.PREDICTED: (1 - np.asarray(metadata[trust.PREDICTED])).tolist()}
        shown = checks.in_clean_process(good)
        assert len(shown) == 2 and not shown[1].passed, "and no latency, unless it is asked for"
        good.meta.metadata = {}
        assert "no answers were recorded" in checks.in_clean_process(good)[1].found
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
    model, rows = saved(DIABETES, tmp_path / "m", "linear"), checks.test_rows(
        data.Table.of(DIABETES)
    )
    with a_run(tmp_path) as run:
        report = checks.check(rows, model)
        logged = MlflowClient().get_run(run.info.run_id)
    # MLflow's own evaluation is there too, and agrees with the workbook's
    rmse = report.metrics.set_index("metric").candidate["rmse"]
    assert logged.data.metrics["gate/rmse"] == pytest.approx(rmse)
    assert logged.data.metrics["root_mean_squared_error"] == pytest.approx(rmse)
    assert logged.inputs.dataset_inputs[0].dataset.name == "diabetes test"
    assert report.passed, report.refusal
    assert "| rmse |" in report.markdown() and '"passed": true' in report.as_json()
    assert plots.gate(report, "rmse").axes


def test_a_regressor_at_a_classifier_s_gate_is_told_in_a_line(rows, tmp_path):
    as_numbers = CANCER.model_copy(update={"task": "regression"})
    train = data.to_train(data.load(CANCER), CANCER)
    X, y = data.features(train, CANCER), (data.target(train, CANCER) == "malignant").astype(float)
    pipeline = models.build(as_numbers, X, "linear").fit(X, y)
    regressor = trust.Loaded(pipeline, SimpleNamespace(signature=infer_signature(X, y)), tmp_path)
    with pytest.raises(WorkbookError, match="has no classes, and the task is classification"):
        checks.check(rows, regressor)
