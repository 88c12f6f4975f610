"""Every estimator, of other packages too, goes from training to the answer, or is refused before it trains."""

import functools
import importlib
import inspect
import json
import logging
import sys
import warnings
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.utils import all_estimators
from threadpoolctl import threadpool_limits

from Codes.fast_answers.quick import quick
from Codes.ground import paths
from Codes.ground.errors import WorkbookError
from Codes.modeling import evaluation, models, rehearsal
from Codes.problems import data, problem as problems
from Codes.saved_models import trust
from Codes.scoring import predictors
from Codes.serving import payload
from Codes.serving.following import Served
from Codes.testing.cases import sampled
from Codes.testing.testbed import write_problem

ROWS = 120
TABLES = {
    "binary": "classification",
    "several": "classification",
    "numbered": "classification",
    "amount": "regression",
}
# what keeps an estimator small, and the estimators that others are made of
SMALL = {"n_estimators": 5, "iterations": 5, "max_iter": 50, "n_subsets": 3}
TREE = {
    "classification": "sklearn.tree.DecisionTreeClassifier",
    "regression": "sklearn.tree.DecisionTreeRegressor",
}
GIVEN = {
    "AdaBoostClassifier": {"estimator": TREE["classification"], "estimator__max_depth": 2},
    "GridSearchCV": {"estimator": "linear", "param_grid": {"fit_intercept": [True, False]}},
    "CCA": {"n_components": 1},
    "PLSCanonical": {"n_components": 1},
    "QuadraticDiscriminantAnalysis": {"reg_param": 0.1},
    "RadiusNeighborsClassifier": {"radius": 9.0},
    "RadiusNeighborsRegressor": {"radius": 9.0},
    "RANSACRegressor": {"min_samples": 50},
    "OrthogonalMatchingPursuitCV": {"max_iter": 5},
    "TheilSenRegressor": {"max_subpopulation": 100},
    "TunedThresholdClassifierCV": {"thresholds": 5},
}
# why some do not: each is told before it trains
REFUSED = {
    "CategoricalNB": "Negative values",
    "ComplementNB": "Negative values",
    "MultinomialNB": "Negative values",
    "GammaRegressor": "out of the valid range of the loss",
    "PoissonRegressor": "out of the valid range of the loss",
    "IsotonicRegression": "should be a 1d array",
    "MultiTaskElasticNet": "several targets at once",
    "MultiTaskElasticNetCV": "several targets at once",
    "MultiTaskLasso": "several targets at once",
    "MultiTaskLassoCV": "several targets at once",
    "ClassifierChain": "several targets at once",
    "MultiOutputClassifier": "several targets at once",
    "MultiOutputRegressor": "several targets at once",
    "RegressorChain": "several targets at once",
    "FixedThresholdClassifier-several": "Only binary",
    "FixedThresholdClassifier-numbered": "Only binary",
    "TunedThresholdClassifierCV-several": "Only binary",
    "TunedThresholdClassifierCV-numbered": "Only binary",
}
GUESTS = {
    "xgboost": ("XGBClassifier", "XGBRFClassifier", "XGBRegressor", "XGBRFRegressor"),
    "lightgbm": ("LGBMClassifier", "LGBMRegressor"),
    "catboost": ("CatBoostClassifier", "CatBoostRegressor"),
}


def cases():
    """(dotted path, table) of all of them."""
    by_task = {"classification": "classifier", "regression": "regressor"}
    for table, task in TABLES.items():
        for name, cls in all_estimators(by_task[task]):
            yield f"{cls.__module__}.{name}", table
        yield "sklearn.model_selection.GridSearchCV", table
        for package, names in GUESTS.items():
            for name in names:
                if ("Regressor" in name) == (task == "regression"):
                    yield f"{package}.{name}", table


# one of each kind: linear, trees, meta-estimators, a search, without probabilities, other packages, refused
KEPT = [
    ("sklearn.linear_model._logistic.LogisticRegression", "binary"),
    ("sklearn.ensemble._voting.VotingClassifier", "binary"),
    ("sklearn.model_selection.GridSearchCV", "binary"),
    ("sklearn.naive_bayes.MultinomialNB", "binary"),
    ("catboost.CatBoostClassifier", "binary"),
    ("sklearn.ensemble._forest.RandomForestClassifier", "several"),
    ("sklearn.svm._classes.LinearSVC", "several"),
    ("lightgbm.LGBMClassifier", "several"),
    ("sklearn.neighbors._classification.KNeighborsClassifier", "numbered"),
    ("xgboost.XGBClassifier", "numbered"),
    ("sklearn.multioutput.ClassifierChain", "numbered"),
    ("sklearn.linear_model._ridge.Ridge", "amount"),
    ("sklearn.cross_decomposition._pls.PLSCanonical", "amount"),
    ("sklearn.ensemble._gb.GradientBoostingRegressor", "amount"),
    ("xgboost.XGBRegressor", "amount"),
]


@pytest.fixture(scope="module", name="tables")
def _tables(tmp_path_factory):
    """{table: its problem}: numbers, whole numbers, yes-no, words and gaps; a target that depends on two of them."""
    folder, random = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "amount": random.normal(size=ROWS).round(4),
            "count": random.integers(0, 9, ROWS),
            "flag": random.random(ROWS) > 0.5,
            "place": random.choice(["A", "B", "C"], ROWS),
            "gaps": random.normal(size=ROWS).round(4),
        }
    )
    X.loc[::7, "gaps"] = np.nan
    z = X.amount + (X.place == "A") + random.normal(scale=0.3, size=ROWS)
    level = np.digitize(z, [-0.2, 0.8])
    targets = {
        "binary": np.where(z > 0.3, "yes", "no"),
        "several": np.array(["low", "mid", "high"])[level],
        "numbered": level + 1,
        "amount": z.round(4),
    }
    found = {}
    for name, target in targets.items():
        X.assign(y=target).to_csv(folder / f"{name}.csv", index=False)
        sort = "random" if TABLES[name] == "regression" else "stratified"
        kind = {"kind": sort, "test_share": 0.25}
        path = write_problem(folder, name, "y", TABLES[name], split=kind)
        found[name] = problems.load(str(path))
    return found


@pytest.fixture(autouse=True)
def _quiet():
    """One thread, which on a busy machine is the fastest, and no word of the estimators."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def hyperparameters(path, task):
    """What makes the estimator small, and the estimators that it is made of."""
    paths.reach_root()
    module, _, name = path.rpartition(".")
    known = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    found = {key: value for key, value in SMALL.items() if key in known}
    found |= {"estimators": ["linear", TREE[task]]} if "estimators" in known else {}
    if known.get("estimator") and known["estimator"].default is inspect.Parameter.empty:
        found["estimator"] = "linear"
    if name in ("SelfTrainingClassifier", "BaggingClassifier"):
        found["estimator"] = "linear"
    if path.partition(".")[0] in GUESTS:
        found |= {"n_estimators": 5, "n_jobs": 1}
    if "catboost" in path:
        found = {"iterations": 5, "thread_count": 1}
    return found | GIVEN.get(name, {})


@functools.cache
def split(path):
    """(train, test) of the table in the file `path`, whose problem lies beside it."""
    problem = problems.load(str(path.with_suffix(".yaml")))
    return data.split(data.load(problem), problem)


def trained(path, problem, trusted):
    """(the pipeline to be fitted, train, test), or a WorkbookError that says why not."""
    train, test = split(problem.source.path)
    X = data.features(train, problem)
    pipeline = models.build(problem, X, path, hyperparameters(path, problem.task))
    pipeline = rehearsal.rehearse(problem, pipeline, train, test, trusted)
    return pipeline, train, test


def vouched(path):
    """The types of another package, as a user names them once."""
    package, _, name = path.partition(".")
    return {
        "xgboost": [f"xgboost.sklearn.{name}", "xgboost.core.Booster"],
        "lightgbm": [f"lightgbm.sklearn.{name}", "lightgbm.basic.Booster"],
        "catboost": [f"catboost.core.{name}"],
    }.get(package, [])


@pytest.mark.parametrize(("path", "table"), sampled(cases(), *KEPT))
def test_it_goes_from_training_to_the_answer_or_is_refused_before_it_trains(
    path, table, tables, tmp_path
):
    problem, name = tables[table], path.rpartition(".")[2]
    if said := REFUSED.get(name, REFUSED.get(f"{name}-{table}")):
        with pytest.raises(WorkbookError, match=said) as caught:
            trained(path, problem, ())
        assert "\n" not in caught.value.message
        return
    pipeline, train, test = trained(path, problem, vouched(path))
    X, y = data.features(train, problem), data.target(train, problem)
    pipeline.fit(X, y)
    mlflow.sklearn.save_model(
        pipeline, tmp_path / "m", **models.fields_of(pipeline, X, vouched(path))
    )
    X, y = data.features(test, problem), data.target(test, problem)
    assert problem.metric.name in evaluation.score(problem, pipeline, X, y)
    answers_everywhere(trust.load(tmp_path / "m", vouched(path)), X, pipeline.predict(X).tolist())
    if problem.task == "classification":
        assert {*pipeline.predict(X)} <= {*y} and list(pipeline.classes_) == sorted({*y})


def answers_everywhere(loaded, X, expected):
    """Fail unless the model `loaded` answers the rows `X` by `expected` loaded, served and scoring."""
    assert loaded.predict(X).tolist() == expected
    assert trust.same(loaded.answers(loaded.example).tolist(), loaded.recorded)
    reader = payload.Reader(loaded)
    Served(SimpleNamespace(), loaded, reader, quick(loaded, reader)).smoke()
    rows = pa.Table.from_pandas(loaded.ordered(X), preserve_index=False)
    scored = predictors.answer(loaded, rows).cast(predictors.schema(loaded)).to_pandas()
    assert scored.prediction.tolist() == expected


@pytest.mark.parametrize("path", ["xgboost.XGBClassifier", "lightgbm.LGBMClassifier"])
def test_types_of_another_package_are_asked_for_before_it_trains_and_only_once(path, tables):
    with pytest.raises(WorkbookError, match="nobody vouched for: ") as caught:
        trained(path, tables["binary"], ())
    named = json.loads(caught.value.message.partition("-p trusted '")[2].partition("'")[0])
    assert sorted(named) == sorted(vouched(path))
    with pytest.raises(WorkbookError) as partly:  # it tells all again, not only the others
        trained(path, tables["binary"], named[:1])
    assert f"-p trusted '{json.dumps(named)}'" in partly.value.message
    trained(path, tables["binary"], named)


OWN = """
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

class Column(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.inner_ = LogisticRegression().fit(X, y)
        self.classes_ = self.inner_.classes_
        return self
    def predict(self, X):
        return self.inner_.predict(X).reshape(-1, 1)
    def predict_proba(self, X):
        return self.inner_.predict_proba(X)

class Amounts(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        self.inner_, self.classes_ = Ridge().fit(X, y), []
        return self
    def predict(self, X):
        return self.inner_.predict(X).reshape(-1, 1)

class Chain(Pipeline):
    def __init__(self, C=1.0):
        self.C = C
        super().__init__([("scale", StandardScaler()), ("linear", LogisticRegression(C=C))])

class Nameless(Column):
    def fit(self, X, y):
        self.function_ = FunctionTransformer(lambda z: z)
        return super().fit(X, y)

class Untagged:
    def fit(self, X, y): ...
    def predict(self, X): ...
    def get_params(self, deep=True): return {}
    def set_params(self): ...
"""


@pytest.fixture(name="own")
def _own(tmp_path, monkeypatch):
    """A module of one's own at the root, which nothing but the workbook makes importable."""
    (tmp_path / "own_estimators.py").write_text(OWN, "utf-8")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield "own_estimators"
    sys.modules.pop("own_estimators", None)


@pytest.mark.parametrize(
    ("name", "table"), [("Column", "several"), ("Amounts", "amount"), ("Chain", "binary")]
)
def test_an_own_class_in_a_module_at_the_root_goes_the_whole_way(
    own, name, table, tables, tmp_path
):
    problem, path = tables[table], f"{own}.{name}"
    pipeline, train, test = trained(path, problem, [path])
    X = data.features(train, problem)
    pipeline.fit(X, data.target(train, problem))
    fields = models.fields_of(pipeline, X, [path])
    mlflow.sklearn.save_model(pipeline, tmp_path / "m", **fields)
    sys.modules.pop(own)
    X, sys.path[:] = data.features(test, problem), [p for p in sys.path if p != str(tmp_path)]
    answers_everywhere(trust.load(tmp_path / "m", [path]), X, pipeline.predict(X).tolist())


@pytest.mark.parametrize(
    ("name", "said"),
    [("Nameless", "define it by def or class"), ("Untagged", "inherit from .*ClassifierMixin")],
)
def test_what_could_not_be_loaded_again_is_refused_before_it_trains(own, name, said, tables):
    path = f"{own}.{name}"
    with pytest.raises(WorkbookError, match=said):
        trained(path, tables["several"], [path, f"{own}.<lambda>"])


@pytest.mark.parametrize(
    ("path", "given", "said"),
    [
        ("sklearn.ensemble.VotingClassifier", {}, "needs estimators among"),
        ("sklearn.ensemble.VotingClassifier", {"estimators": ["linear", "linaer"]}, "'linear'"),
        ("sklearn.ensemble.VotingClassifier", {"estimators": []}, "should be a non-empty list"),
        ("sklearn.ensemble.BaggingClassifier", {"estimator": "linaer"}, "did you mean 'linear'"),
        ("xgboost.XGBClassifier", {"max_dpeth": 3}, "did you mean 'max_depth'"),
        ("lightgbm.LGBMClassifier", {"n_estimator": 3}, "did you mean 'n_estimators'"),
        ("catboost.CatBoostClassifier", {"loss_function": "nope"}, "nope loss is not supported"),
        ("xgboost.XGBClassifier", {"objective": "nope"}, "0, 1, 2: .*objective function: `nope`"),
        (
            "sklearn.model_selection.GridSearchCV",
            {"estimator": "linear", "param_grid": {"C": [-1]}},
            "C.* must be a float in the range",
        ),
    ],
)
def test_hyperparameters_that_do_not_do_are_told_in_one_line(path, given, said, tables):
    train, test = split(tables["binary"].source.path)
    with pytest.raises(WorkbookError, match=said) as caught:
        pipeline = models.build(
            tables["binary"], data.features(train, tables["binary"]), path, given
        )
        rehearsal.rehearse(tables["binary"], pipeline, train, test, vouched(path))
    assert "\n" not in caught.value.message


def test_estimators_of_one_class_are_all_there_and_each_takes_its_own_settings(tables):
    given = {"estimators": ["linear", "linear"], "linear2__C": 9.0}
    X = data.features(split(tables["binary"].source.path)[0], tables["binary"])
    found = models.build(tables["binary"], X, "sklearn.ensemble.VotingClassifier", given)[-1]
    assert [found.get_params()[f"linear{i}__C"] for i in (1, 2)] == [1.0, 9.0]


def test_a_name_that_another_package_knows_by_its_own_is_let_through(tables):
    X = data.features(split(tables["binary"].source.path)[0], tables["binary"])
    for path, given in (("lightgbm.LGBMClassifier", "num_leaf"), ("xgboost.XGBClassifier", "eta")):
        assert models.build(tables["binary"], X, path, {given: 1})


def test_a_metric_from_probabilities_is_refused_of_an_estimator_that_gives_none(tables):
    metric = problems.Metric(name="log_loss", direction="minimize")
    problem = tables["binary"].model_copy(update={"metric": metric})
    with pytest.raises(
        WorkbookError, match="LinearSVC gives no probabilities, from which log_loss"
    ):
        trained("sklearn.svm.LinearSVC", problem, ())


def test_more_rows_are_tried_where_few_do_not_suffice(tables):
    train = pd.concat([data.load(tables["binary"])] * 6, ignore_index=True)
    X = data.features(train, tables["binary"])
    path, given = "sklearn.neighbors.KNeighborsClassifier", {"n_neighbors": 300}
    pipeline = models.build(tables["binary"], X, path, given)
    assert rehearsal.rehearse(tables["binary"], pipeline, train, train) is pipeline


@pytest.mark.parametrize("kind", ["object", "category"])
def test_a_text_column_without_a_value_in_its_first_rows_has_its_type(kind, tables):
    X = data.features(data.load(tables["binary"]), tables["binary"])
    X = X.assign(word=pd.Series([None] * 70 + ["a"] * (len(X) - 70), X.index).astype(kind))
    y = data.target(data.load(tables["binary"]), tables["binary"])
    pipeline = models.build(tables["binary"], X, "linear").fit(X, y)
    column = models.fields_of(pipeline, X)["signature"].inputs.input_dict()["word"]
    assert column.type.name == "string" and not column.required


def test_a_model_of_dates_goes_the_whole_way(tables, tmp_path):
    table = pd.read_csv(tables["amount"].source.path)
    table["when"] = pd.date_range("2024-01-01", periods=len(table), freq="7h")
    table.loc[::9, "when"] = pd.NaT
    table.to_csv(tmp_path / "dated.csv", index=False, date_format="%d.%m.%Y %H:%M")
    source = {"path": "dated.csv", "date_format": "%d.%m.%Y %H:%M"}
    path = write_problem(tmp_path, "dated", "y", "regression", source=source)
    problem = problems.load(str(path))
    train, test = data.split(data.load(problem), problem)
    X = data.features(train, problem)
    pipeline = models.build(problem, X, "hgb").fit(X, data.target(train, problem))
    mlflow.sklearn.save_model(pipeline, tmp_path / "m", **models.fields_of(pipeline, X))
    X = data.features(test, problem)
    answers_everywhere(trust.load(tmp_path / "m"), X, pipeline.predict(X).tolist())
