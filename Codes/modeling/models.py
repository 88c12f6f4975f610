"""Models: a scikit-learn pipeline with its preprocessing inside, built by name and logged without pickle."""

import functools
import inspect
import itertools
import json
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any, cast

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.models.model import ModelInfo
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from pandas.api.types import is_string_dtype
from sklearn import base
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

# pyrefly: ignore[missing-module-attribute]  # its stubs are of scikit-learn 1.3
from sklearn.utils import get_tags

from Codes.dates import Dates
from Codes.ground import dotted, errors, labels
from Codes.ground.errors import WorkbookError
from Codes.modeling import answers
from Codes.networks import network
from Codes.problems import data
from Codes.problems.problem import Problem
from Codes.saved_models import trust
from Codes.saved_models.skops_alone import io as skops
from Codes.seams import sklearn_seam

SIZE = "model_kb"  # the saved model's size, of two that are as good the smaller is taken
SECONDS = "fit_seconds"  # of training
# milliseconds of the processor for an answer: to a row asked alone, and for each of MANY asked at once
ALONE, AMONG = "row_ms", "row_ms_of_1000"
MANY, ASKED, ENOUGH = (
    1000,
    15,
    0.3,
)  # rows; how often each is asked at most; seconds after which it is enough
# Short name -> task -> (class, our defaults). Defaults differ from scikit-learn's only where its own
# fail on a real table: a forest of pure leaves is slow to save, 100 steps do not fit a wide linear model.
SHORT = {
    "dummy": {
        "classification": ("sklearn.dummy.DummyClassifier", {"strategy": "prior"}),
        "regression": ("sklearn.dummy.DummyRegressor", {}),
    },
    "linear": {
        "classification": ("sklearn.linear_model.LogisticRegression", {"max_iter": 1000}),
        "regression": ("sklearn.linear_model.Ridge", {}),
    },
    "forest": {
        "classification": ("sklearn.ensemble.RandomForestClassifier", {"min_samples_leaf": 20}),
        "regression": ("sklearn.ensemble.RandomForestRegressor", {"min_samples_leaf": 20}),
    },
    "hgb": {
        "classification": ("sklearn.ensemble.HistGradientBoostingClassifier", {}),
        "regression": ("sklearn.ensemble.HistGradientBoostingRegressor", {}),
    },
    "torch": {
        "classification": ("Codes.networks.torch_net.TorchClassifier", {}),
        "regression": ("Codes.networks.torch_net.TorchRegressor", {}),
    },
    "tensorflow": {
        "classification": ("Codes.networks.tensorflow_net.TensorFlowClassifier", {}),
        "regression": ("Codes.networks.tensorflow_net.TensorFlowRegressor", {}),
    },
}
# Hyperparameters that hold other estimators, which may be given by their names.
INNER = ("estimator", "final_estimator", "regressor", "base_estimator")
WORDS = ("drop", "passthrough", "deprecated")  # which scikit-learn takes in an estimator's place
# How near a name that a class takes by **kwargs must be to one that it has to be a misspelt one: what LightGBM and
# XGBoost call by other names, as num_leaf for num_leaves, is less near.
MISSPELT = 0.85
# Gradient boosting bins a category into one byte, and some of the 256 values are taken.
MAX_CATEGORIES = 250
EXAMPLE_ROWS = 5
SIGNATURE_ROWS = 50


def names() -> list[str]:
    """The short names of models that are installed; any dotted path of a scikit-learn-compatible class works too."""
    paths = {name: by_task["classification"][0] for name, by_task in SHORT.items()}
    return [name for name, path in paths.items() if network.is_installed(load_class(path))]


def build(
    problem: Problem,
    X: pd.DataFrame,
    model: str = "hgb",
    hyperparameters: dict[str, Any] | None = None,
    seed: int = 0,
    **own: Any,
) -> Pipeline:
    """An unfitted Pipeline for `problem`: the columns of `X` prepared, then the estimator.

    Args:
        problem: gives the task and the columns' roles.
        X: features (a DataFrame); only its columns and types are looked at.
        model: a short name or the dotted path of a class.
        hyperparameters: dict for the estimator; `step__name` reaches into a nested one, which is given by its name:
            {"estimator": "sklearn.svm.SVC", "estimator__C": 3}, {"estimators": ["linear", "hgb"]}.
        seed: becomes every `random_state` that the hyperparameters don't set.
        own: further hyperparameters, which are parameters of the notebook by themselves.
    """
    path, defaults = _resolve(model, problem.task)
    given = _checked_dict(hyperparameters)
    for name in sorted(given.keys() & own.keys()):
        raise WorkbookError(
            f"hyperparameters: {name!r} is {given[name]!r} there, and a parameter of its own is {own[name]!r}: give it "
            f"as that alone, -p {name} {given[name]}."
        )
    estimator = _estimator(path, {**defaults, **given, **own}, problem.task)
    _seed(estimator, seed, given)
    if not any(kinds := columns(problem, X)):
        raise WorkbookError(
            f"{problem.name}: no feature has a value in the {len(X)} rows to train on: there is nothing to learn from"
        )
    prepare = _preparation(model, estimator, *kinds)
    return Pipeline([("prepare", prepare), ("estimator", estimator)])


def check(task: str, model: str, hyperparameters: dict[str, Any] | None) -> None:
    """Refuse, without any data, a `model` or `hyperparameters` that `build` would refuse for the `task`."""
    path, defaults = _resolve(model, task)
    _estimator(path, {**defaults, **_checked_dict(hyperparameters)}, task)


def columns(problem: Problem, X: pd.DataFrame) -> tuple[list[str], list[str], list[str]]:
    """(numeric, categorical, date) column names of `X`: by the problem's roles, else by type.

    Columns without a single value are left out: there is nothing in them, and boosting fails on them.
    """
    roles = data.roles(X.loc[:, X.notna().any()], problem)
    numeric, categorical, date = (
        [n for n, role in roles.items() if role == kind]
        for kind in ("numeric", "categorical", "date")
    )
    return numeric, categorical, date


def log(
    pipeline: Pipeline, X: pd.DataFrame, name: str = "model", trusted: Collection[str] = ()
) -> ModelInfo:
    """Log a fitted `pipeline` to the active run with signature, example and pins; returns MLflow's ModelInfo.

    Args:
        X: features it was fitted on: the signature's columns and types, and the first rows as the example. What the
            model answers for these is kept too, so that a later load can be held against it; and what an answer costs.
        trusted: full names of third-party types that the saved file may hold (an explicit opt-in).
    """
    with warnings.catch_warnings():
        # MLflow advises against integer columns, which may lack values later. Here a column that
        # lacks values is already a float, and a served 3.5 for a count should be refused.
        warnings.filterwarnings("ignore", message=".*integer column.*")
        fields = fields_of(pipeline, X, trusted)
        found = mlflow.sklearn.log_model(pipeline, name=name, **fields)
    mlflow.log_metrics({SIZE: fields["metadata"][SIZE]} | answering_ms(pipeline, X))
    if vouched := sorted(trust.strange(fields["skops_trusted_types"])):
        # asked for once: what registers it need not ask again
        mlflow.set_tag(trust.VOUCHED, json.dumps(vouched))
    return found


def answering_ms(pipeline: Pipeline, X: pd.DataFrame) -> dict[str, float]:
    """{metric: milliseconds of the processor} that the fitted `pipeline` takes to answer a row of `X` (see ALONE)."""
    answer = getattr(pipeline, "predict_proba", pipeline.predict)
    many = X.iloc[np.resize(np.arange(len(X)), MANY)]
    return {ALONE: _milliseconds(answer, X.head(1)), AMONG: _milliseconds(answer, many) / MANY}


def _milliseconds(answer: Callable[[pd.DataFrame], Any], rows: pd.DataFrame) -> float:
    """The median of what `answer` takes for `rows`: a wait for a busy machine does not count."""
    taken: list[float] = []
    while len(taken) < ASKED and sum(taken) < 1000 * ENOUGH:
        began = time.process_time()
        answer(rows)
        taken.append(1000 * (time.process_time() - began))
    return float(np.median(taken))


def fields_of(pipeline: Pipeline, X: pd.DataFrame, trusted: Collection[str] = ()) -> dict:
    """What MLflow's functions that save a model are given beside the `pipeline`; see `log`."""
    example, (content, types) = X.head(EXAMPLE_ROWS), saved(pipeline, trusted)
    answer = getattr(pipeline, "predict_proba", pipeline.predict)
    return {
        "serialization_format": "skops",
        "skops_trusted_types": types,
        "signature": _signature(pipeline, X),
        "input_example": example,
        "metadata": {
            trust.PREDICTED: np.asarray(answer(example)).tolist(),
            trust.READING: data.reading(X),
            SIZE: len(content) / 1000,
        },
        "pip_requirements": requirements(types),  # inferring them would cost 3 s
    }


def _signature(pipeline: Pipeline, X: pd.DataFrame) -> ModelSignature:
    """The signature from a few rows; a column that lacks a value anywhere in its table may lack it.

    MLflow looks at every value in a Python loop, 2 s for 20,000 rows; only types and gaps matter.
    """
    gaps, sample = data.may_lack(X), X.head(SIGNATURE_ROWS)
    found = np.asarray(pipeline.predict(sample))
    if found.shape != (len(sample),):
        raise WorkbookError(
            f"{name_of(pipeline)} answers {len(sample)} rows by an array of the shape {found.shape}, and "
            "one answer a row is needed: let rehearsal.rehearse prepare it before it is fitted."
        )
    signature = infer_signature(_with_values(sample, X), found)
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(cast(DataType, c.type), c.name, required=c.name not in gaps)
        for c in signature.inputs
    ]
    return ModelSignature(Schema(inputs), signature.outputs)


def _with_values(sample: pd.DataFrame, X: pd.DataFrame) -> pd.DataFrame:
    """`sample`, where a column of words that has no value in it gets its first ones of `X`: they tell its type."""
    kinds = zip(sample.columns, sample.dtypes)
    words = [n for n, k in kinds if is_string_dtype(k) or isinstance(k, pd.CategoricalDtype)]
    empty = [n for n in words if sample[n].isna().all()]
    values = {n: X[n].dropna().head(len(sample)).tolist() or [""] for n in empty}
    return sample.assign(**{n: np.resize(v, len(sample)) for n, v in values.items()})


def requirements(types: Iterable[str] = ()) -> list[str]:
    """The pins ("name==version") that a model with these `types` needs: the base, and their packages."""
    tops = {name.partition(".")[0] for name in types} - {"sklearn", "numpy", "scipy", "Codes"}
    tops -= sys.stdlib_module_names
    packages = _packages() if tops else {}
    needed = {*trust.PACKAGES, *itertools.chain(*(packages.get(top, []) for top in tops))}
    needed |= network.packages(map(_loaded_class, types))
    return [f"{name}=={trust.version_of(name)}" for name in sorted(needed)]


def _loaded_class(name: str) -> Any:
    """What is called `name`, a type's full name, among the loaded modules; None where there is none."""
    module, _, last = name.rpartition(".")
    return getattr(sys.modules.get(module), last, None)


@functools.cache
def _packages() -> Mapping[str, list[str]]:
    """{module: [the packages that it comes from]}; the look-up reads every installed package, 0.5 s."""
    return metadata.packages_distributions()


def adapted(pipeline: Pipeline) -> Pipeline:
    """`pipeline` with its estimator inside one of scikit-learn's own, which numbers labels and answers flat.

    Some estimators of other packages take no labels but 0, 1, 2, or answer by a column; saved with it, the model is
    still scikit-learn's alone.
    """
    estimator = pipeline[-1]
    if base.is_regressor(estimator):
        inside = TransformedTargetRegressor(estimator)
    else:
        voting = "soft" if hasattr(estimator, "predict_proba") else "hard"
        inside = VotingClassifier([("estimator", estimator)], voting=voting)
    return Pipeline([*pipeline.steps[:-1], ("estimator", inside)])


def _preparation(
    model: str, estimator: Any, numeric: list[str], categorical: list[str], dates: list[str]
) -> ColumnTransformer:
    """Trees get numbers as they are and codes for categories; the others scaled numbers and one-hot.

    Dates become numbers; they come last, since boosting is told the places of the categories.
    """
    native = "categorical_features" in estimator.get_params()
    if native:
        estimator.set_params(
            categorical_features=list(range(len(numeric), len(numeric) + len(categorical)))
        )
    if native or model in ("forest", "dummy"):
        numbers, codes, times = "passthrough", _ordinal(), Dates()
    else:
        # a dotted path may be any estimator, and most of them take no sparse matrix
        numbers = _scaled()
        times = make_pipeline(Dates(), _scaled())
        codes = _one_hot(sparse=model == "linear")
    parts = [("numeric", numbers, numeric), ("categorical", codes, categorical)]
    parts += [("dates", times, dates)] if dates else []
    return ColumnTransformer(parts, verbose_feature_names_out=False)


def _scaled() -> Pipeline:
    """Numbers of one size, gaps filled and marked."""
    fill = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    return make_pipeline(fill, StandardScaler())


def _ordinal() -> OrdinalEncoder:
    """Codes for categories; one never seen, like a missing one, becomes NaN, which the trees handle."""
    return OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        # pyrefly: ignore[unexpected-keyword]  # its stubs are of scikit-learn 1.2
        max_categories=MAX_CATEGORIES,
    )


def _one_hot(sparse: bool) -> OneHotEncoder:
    """A column a category (missing is one, too); one never seen joins the infrequent, or is all zero."""
    return OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=MAX_CATEGORIES, sparse_output=sparse
    )


def _resolve(model: str, task: str) -> tuple[str, dict[str, Any]]:
    """(dotted path, default hyperparameters) of `model`, or a WorkbookError that names the nearest."""
    if model in SHORT:
        return SHORT[model][task]
    if not isinstance(model, str) or "." not in model:
        raise WorkbookError(
            f"model '{model}' is unknown{nearest(model, SHORT)}; there are {', '.join(SHORT)}, "
            f"or the dotted path of a class such as sklearn.svm.SVC."
        )
    return model, {}


def load_class(path: str) -> Any:
    """The class at the dotted `path`, or a WorkbookError that says which part of it failed."""
    return dotted.load(path, "model")


def _estimator(path: str, hyperparameters: dict[str, Any], task: str) -> Any:
    """The estimator of class `path` with its hyperparameters checked, of the kind that `task` needs."""
    cls = load_class(path)
    needed = ("fit", "predict", "get_params", "set_params")
    if not inspect.isclass(cls) or not all(hasattr(cls, name) for name in needed):
        raise WorkbookError(
            f"model '{path}' is not a scikit-learn-compatible estimator class that predicts: it needs "
            f"{', '.join(needed)}."
        )
    network.require(cls)
    given = {name: _inner(name, value, task) for name, value in hyperparameters.items()}
    _check_names(path, cls, given)
    try:
        estimator = _made(cls, given)
        _check_kind(path, estimator, task)
    except WorkbookError:
        raise
    except (
        Exception
    ) as error:  # pylint: disable=broad-exception-caught  # of other packages: many kinds
        raise WorkbookError(
            f"model '{path}': hyperparameters {hyperparameters}: {labels.told(error, 1000)}."
        ) from error
    return estimator


def _made(cls: Any, hyperparameters: dict[str, Any]) -> Any:
    """The estimator of the class `cls`, its hyperparameters checked where it can check them before it learns."""
    given = {name: value for name, value in hyperparameters.items() if "__" not in name}
    if "allow_writing_files" in inspect.signature(cls).parameters:
        # CatBoost would keep its logs beside the notebook
        given = {"allow_writing_files": False} | given
    estimator = cls(**given)
    estimator.set_params(**{k: v for k, v in hyperparameters.items() if k not in given})
    sklearn_seam.check_hyperparameters(estimator)
    return estimator


def _inner(name: str, value: Any, task: str) -> Any:
    """The `value` of the hyperparameter `name`, estimators in it made of their names."""
    if name in INNER and isinstance(value, str) and value not in WORDS:
        path, defaults = _resolve(value, task)
        try:
            return load_class(path)(**defaults)
        except WorkbookError:
            raise
        except Exception as error:  # pylint: disable=broad-exception-caught
            raise WorkbookError(f"{name} '{value}': {labels.told(error)}.") from error
    if name == "estimators" and isinstance(value, list) and all(isinstance(v, str) for v in value):
        value = _called(value)
    if name == "estimators" and isinstance(value, dict):
        return [(key, _inner("estimator", each, task)) for key, each in value.items()]
    return value


def _called(models: Sequence[str]) -> dict[str, str]:
    """{name: model} of these `models`, by the names of their classes, with a number where one is there twice."""
    last = [each.rpartition(".")[2].lower() for each in models]
    return {
        f"{name}{i}" if last.count(name) > 1 else name: models[i - 1]
        for i, name in enumerate(last, 1)
    }


def _check_names(path: str, cls: Any, hyperparameters: Mapping[str, Any]) -> None:
    """Refuse a hyperparameter that `cls` doesn't have, with the nearest one that it has, and one that is not given."""
    parameters = inspect.signature(cls).parameters.values()
    own = {p.name: p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    named, is_open = list(own), any(p.kind is p.VAR_KEYWORD for p in parameters)
    if is_open:  # XGBoost's are named by the classes that it is derived from
        named += itertools.chain(*(inspect.signature(c.__init__).parameters for c in cls.__mro__))
    inner = [each[0] for each in hyperparameters.get("estimators") or () if isinstance(each, tuple)]
    for name in hyperparameters:
        if (first := name.partition("__")[0]) in (*named, *inner):
            continue
        near = nearest(first, named, MISSPELT if is_open else 0.6)
        if near or not is_open:
            there = near or f"; it has {', '.join(named) or 'none'}"
            raise WorkbookError(f"model '{path}' has no hyperparameter '{name}'{there}.")
    needed = [name for name, each in own.items() if each.default is each.empty]
    if lacking := [name for name in needed if name not in hyperparameters]:
        raise WorkbookError(
            f"model '{path}' needs {' and '.join(lacking)} among its hyperparameters{_example(lacking)}."
        )


def _example(lacking: Iterable[str]) -> str:
    """How to give the estimators that are `lacking` among the hyperparameters, in words; '' of other ones."""
    values = {"estimators": '["linear", "hgb"]'} | dict.fromkeys(INNER, '"linear"')
    shown = next((f'{{"{n}": {values[n]}}}' for n in lacking if n in values), "")
    return f"; estimators are given by their names, as in '{shown}'" if shown else ""


def _check_kind(path: str, estimator: Any, task: str) -> None:
    """Refuse a regressor for a classification problem, and the reverse, and what answers several targets only."""
    kind = {"classification": "classifier", "regression": "regressor"}[task]
    try:
        tags = get_tags(estimator)
    except AttributeError as error:
        raise WorkbookError(
            f"model '{path}' tells scikit-learn not what it is: let the class inherit from sklearn.base."
            f"{kind.capitalize()}Mixin and sklearn.base.BaseEstimator, in this order."
        ) from error
    if tags.estimator_type != kind:
        raise WorkbookError(f"model '{path}' does no {task}, and the problem's task is {task}.")
    if not tags.target_tags.single_output:
        raise WorkbookError(
            f"model '{path}' answers several targets at once, and a problem has one: choose another estimator."
        )


def settings(estimator: Any) -> dict:
    """The hyperparameters of `estimator` and their values, also those that CatBoost's `get_params` leaves out: None."""
    known = inspect.signature(type(estimator)).parameters.values()
    named = [p.name for p in known if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return dict.fromkeys(named) | estimator.get_params()


def _seed(estimator: Any, seed: int, hyperparameters: Mapping[str, Any]) -> None:
    """Give `seed` to every random_state, nested ones too, that the hyperparameters leave open."""
    states = [name for name in settings(estimator) if name.split("__")[-1] == "random_state"]
    if "random_seed" not in hyperparameters:  # CatBoost's other name for it
        estimator.set_params(**{name: seed for name in states if name not in hyperparameters})


def _checked_dict(hyperparameters: object) -> dict[str, Any]:
    """`hyperparameters` as a dict, or a WorkbookError."""
    if hyperparameters is None or isinstance(hyperparameters, dict):
        return hyperparameters or {}
    raise WorkbookError(
        f"hyperparameters must be a mapping such as {{'max_depth': 3}}, not {hyperparameters!r}."
    )


def name_of(pipeline: Pipeline) -> str:
    """The name of the class of the estimator in `pipeline`, also inside what `adapted` puts around it."""
    estimator = answers.inside(pipeline[-1])
    voters: Any = (
        getattr(estimator, "estimators", ()) if isinstance(estimator, VotingClassifier) else ()
    )
    if [*dict(voters)] == ["estimator"]:
        estimator = voters[0][1]
    elif isinstance(estimator, TransformedTargetRegressor):
        estimator = getattr(estimator, "regressor", None) or estimator
    return type(estimator).__name__


def saved(pipeline: Pipeline, trusted: Collection[str] = ()) -> tuple[bytes, list[str]]:
    """(what skops makes of `pipeline`, the types that it must be told to trust); a WorkbookError names the others."""
    name = name_of(pipeline)
    try:
        content = skops.dumps(pipeline)
        found = skops.get_untrusted_types(data=content)
    except Exception as error:  # pylint: disable=broad-exception-caught  # skops raises many kinds
        raise WorkbookError(
            f"{name} can't be saved by skops ({errors.first_line(error)}), and this workbook saves no pickles, since "
            "loading one runs its code: choose another estimator."
        ) from error
    if unnamed := [t for t in found if "<" in t or t.startswith("__main__.")]:
        raise WorkbookError(
            f"{name} holds {', '.join(unnamed)}, which no other process could import: define it by def or class in a "
            "module at the workbook's root."
        )
    if strangers := sorted(trust.strange(found, trusted)):
        raise WorkbookError(
            f"{name} holds types that nobody vouched for: {', '.join(strangers)}. If you trust the package that they "
            f"come from: -p trusted '{json.dumps([*trusted, *strangers])}' "
            "(in your own code models.log(..., trusted=...))."
        )
    return content, found


def nearest(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """' (did you mean 'x'?)' for the nearest of `known`, else ''."""
    return errors.nearest(name, known, " (did you mean '{}'?)", cutoff)
