"""The quick ways to a prediction: each answers exactly as the pipeline does, or is not taken."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from Codes.fast_answers import quick as module
from Codes.fast_answers.quick import matrix, probe, quick
from Codes.modeling import models
from Codes.problems import data, problem
from Codes.saved_models import trust
from Codes.serving import payload
from Codes.serving.Test_payload import DIABETES, cells, flights, saved
from Codes.testing.cases import sampled
from Codes.serving.Test_payload import one_thread  # pylint: disable=W0611  # used by each test

LINEAR = [
    "linear",
    "sklearn.linear_model.RidgeClassifier",
]  # one-hot codes as a sparse matrix, and not

SMALL = {"hgb": {"max_iter": 10}, "forest": {"n_estimators": 10}}


def read(reader, X):
    """The rows of `X` as the `reader` reads them."""
    body = {"dataframe_split": {"columns": list(X), "data": cells(X)}}
    return reader.json(json.dumps(body).encode())


@pytest.mark.parametrize("model", sampled(["hgb", "forest", "dummy", *LINEAR], "hgb", "linear"))
def test_the_quick_way_answers_as_the_pipeline_does(tmp_path, model):
    found = trust.load(flights(tmp_path / "m", model, rows=1_000, **SMALL.get(model, {})))
    own = payload.Reader(found)
    which = problem.load("flights")
    X = data.features(data.load(which).iloc[:40_000:100], which)
    X = X[[own.columns["dest"].known.issuperset([d]) for d in X["dest"]]]
    columns = read(own, X)
    pd.testing.assert_frame_equal(own.frame(columns), trust.plain(X).reset_index(drop=True))
    assert quick(found, own)(columns).predictions.tolist() == found.predict(X).tolist()


@pytest.mark.parametrize("model", sampled(["hgb", *LINEAR], *LINEAR))
@pytest.mark.parametrize("most", sampled([4, 250], 4))  # with and without categories that are rare
def test_what_training_never_saw_and_gaps_are_prepared_as_the_pipeline_does(
    tmp_path, monkeypatch, model, most
):
    monkeypatch.setattr(models, "MAX_CATEGORIES", most)
    found = trust.load(flights(tmp_path / "m", model, rows=500, **SMALL.get(model, {})))
    free = payload.Reader(found, allow_unknown=True)
    rows = found.example.astype(object)
    rows.loc[0, ["origin", "weekday", "plane_engine"]] = ["XXX", 9, "steam"]
    rows.loc[1, [name for name, column in free.columns.items() if not column.required]] = None
    columns = read(free, rows)
    with warnings.catch_warnings(action="error"):
        ours = matrix(found, free)(columns)
        answers = quick(found, free)(columns)
    theirs = found.pipeline[0].transform(free.frame(columns))
    assert isinstance(ours, type(theirs))
    np.testing.assert_array_equal(*(getattr(m, "toarray", lambda m=m: m)() for m in (ours, theirs)))
    assert answers.predictions.tolist() == found.predict(free.frame(columns)).tolist()


def numbers(folder, model="linear", gaps=True, **hyperparameters):
    """A saved regression on ten numbers, some of them with gaps."""
    frame = data.load(DIABETES)
    X, y = data.features(frame, DIABETES).astype(float), data.target(frame, DIABETES)
    if gaps:
        X = X.mask(np.random.default_rng(0).random(X.shape) < [0, 0.1] * 5)
    return saved(folder, models.build(DIABETES, X, model, hyperparameters).fit(X, y), X)


@pytest.mark.parametrize("gaps", [False, True])
def test_a_regression_is_answered_with_the_same_numbers(tmp_path, gaps):
    found = trust.load(numbers(tmp_path / "m", gaps=gaps))
    own = payload.Reader(found)
    X = data.features(data.load(DIABETES), DIABETES).astype(float)
    X = X.mask(np.arange(X.size).reshape(X.shape) % 11 == 1) if gaps else X
    X = X.fillna({n: 1.5 for n, column in own.columns.items() if column.required})
    for rows in (1, 2, 400):
        columns = read(own, X[:rows])
        assert quick(found, own)(columns).predictions.tolist() == found.predict(X[:rows]).tolist()


@pytest.fixture(scope="module", name="loaded")
def _loaded(tmp_path_factory):
    """A linear model of the flights."""
    return trust.load(flights(tmp_path_factory.mktemp("models") / "linear", "linear", rows=500))


IMPUTED = make_pipeline(SimpleImputer(), StandardScaler())
ONE_HOT = OneHotEncoder(handle_unknown="ignore")


@pytest.mark.parametrize(
    "number, code, taken",
    [
        (IMPUTED, ONE_HOT, True),
        (IMPUTED, "drop", True),
        (make_pipeline(SimpleImputer(), StandardScaler(with_mean=False)), ONE_HOT, False),
        (make_pipeline(SimpleImputer(), MinMaxScaler()), ONE_HOT, False),
        (IMPUTED, OneHotEncoder(), False),  # refuses what training never saw
        (IMPUTED, OneHotEncoder(handle_unknown="ignore", drop="first"), False),
    ],
)
def test_a_preparation_that_is_not_known_is_left_to_the_pipeline(loaded, number, code, taken):
    which = problem.load("flights")
    frame = data.load(which).iloc[:15_000:30]
    (_, _, numeric), (_, _, categorical) = loaded.pipeline[0].transformers_
    pipeline = make_pipeline(
        make_column_transformer((number, numeric), (code, categorical)), Ridge()
    )
    pipeline.fit(trust.plain(data.features(frame, which)), data.target(frame, which))
    found = replace(loaded, pipeline=pipeline)
    assert bool(quick(found, payload.Reader(found))) == taken


@pytest.mark.parametrize("free", [False, True])
def test_the_proof_has_every_category_and_gaps_and_strangers_where_they_may_be(loaded, free):
    own = payload.Reader(loaded, allow_unknown=free)
    found = probe(loaded, own)
    assert {len(values) for values in found.values()} == {len(found["dest"])}
    for name, column in own.columns.items():
        assert (None in found[name]) != column.required
    for name, known in loaded.categories.items():
        assert len(set(found[name]) - known - {None}) == free and known <= set(found[name])


def test_a_way_that_is_not_proven_is_not_taken(loaded, monkeypatch):
    own = payload.Reader(loaded)
    assert quick(loaded, own)
    numbers_of = module._numbers  # pylint: disable=protected-access
    monkeypatch.setattr(trust.Loaded, "_has_example", lambda self: False)
    assert quick(replace(loaded), own) is None  # there is nothing to prove it by
    monkeypatch.setattr(module, "_numbers", lambda *given: np.nextafter(numbers_of(*given), 1e9))
    assert quick(loaded, own) is None


def test_single_precision_is_left_to_the_pipeline(tmp_path):
    frame = data.load(DIABETES)
    X, y = data.features(frame, DIABETES).astype(np.float32), data.target(frame, DIABETES)
    pipeline = models.build(DIABETES, X, "forest", SMALL["forest"]).fit(X, y)
    found = trust.load(saved(tmp_path / "m", pipeline, X))
    assert quick(found, payload.Reader(found)) is None
