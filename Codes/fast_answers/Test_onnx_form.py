"""A model's form in ONNX answers as the model does; where it would not, or can't be, one line says so."""

import sys
from dataclasses import replace

import numpy as np
import psutil
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from Codes.fast_answers import onnx_form
from Codes.fast_answers.Test_quick import SMALL, numbers, read
from Codes.fast_answers.onnx_form import faster
from Codes.fast_answers.quick import quick
from Codes.ground.errors import WorkbookError
from Codes.modeling import answers
from Codes.problems import data, problem
from Codes.saved_models import trust
from Codes.serving import payload
from Codes.serving.Test_payload import flights
from Codes.testing.cases import sampled
from Codes.serving.Test_payload import one_thread  # pylint: disable=W0611  # used by each test

FLIGHTS = problem.load("flights")
EXTRA = "sklearn.ensemble.ExtraTreesClassifier"  # gets what a linear model gets


@pytest.fixture(scope="module", name="made")
def _made(tmp_path_factory):
    """{name: a model of the flights}; "numbers" is a regression."""
    folder = tmp_path_factory.mktemp("models")
    few = SMALL | {EXTRA: {"n_estimators": 5, "max_depth": 8}}
    names = [*few, "linear"]
    found = {m: trust.load(flights(folder / m, m, 1_000, **few.get(m, {}))) for m in names}
    return found | {"numbers": trust.load(numbers(folder / "numbers", "forest", n_estimators=10))}


def strange(loaded):
    """Rows of the flights, among them some with gaps and some with categories that training never saw."""
    X = trust.plain(data.features(data.load(FLIGHTS).iloc[7:30_000:100], FLIGHTS)).astype(object)
    X.loc[X.index[:20], ["origin", "dest", "plane_engine"]] = ["XXX", "YYY", "steam"]
    X.loc[X.index[10:30], [c.name for c in loaded.schema if not c.required]] = None
    return X


def fitted(loaded, X, y, **hyperparameters):
    """`loaded` with its estimator fitted once more: to `X` and `y`, with `hyperparameters`."""
    prepare, estimator = loaded.pipeline
    estimator = clone(estimator).set_params(**hyperparameters).fit(prepare.transform(X), y)
    return replace(loaded, pipeline=make_pipeline(prepare, estimator))


def sample():
    """(X, y) of 1,000 flights."""
    frame = data.load(FLIGHTS).iloc[:30_000:30]
    return trust.plain(data.features(frame, FLIGHTS)), data.target(frame, FLIGHTS)


@pytest.mark.parametrize("model", [*SMALL, EXTRA])
def test_labels_are_those_of_the_pipeline(made, model):
    found = made[model]
    free = payload.Reader(found, allow_unknown=True)
    answer, columns = faster(found, free), read(free, strange(found))
    wanted = found.predict(free.frame(columns)).tolist()
    assert len(set(wanted)) == 2 and answer(columns).predictions.tolist() == wanted
    for row in range(40):
        one = answer({n: v[row : row + 1] for n, v in columns.items()})
        assert one.predictions.tolist() == [wanted[row]]


@pytest.mark.parametrize("model", SMALL)
def test_probabilities_come_with_the_labels_and_a_threshold_decides_them(made, model):
    found = made[model]
    own = payload.Reader(found)
    columns = read(own, sample()[0][:300])
    shares = found.probabilities(own.frame(columns))
    threshold = float(np.quantile(shares[:, 1], 0.8))  # a row's own: as much is enough
    decided = replace(found, pipeline=answers.deciding(found.pipeline, threshold, True))
    wanted = (shares[:, 1] >= threshold).tolist()
    assert decided.predict(own.frame(columns)).tolist() == wanted and 0 < sum(wanted) < 300
    for answer in (quick(decided, own), faster(decided, own)):
        got = answer(columns)
        assert got.predictions.tolist() == wanted
        np.testing.assert_allclose(got.probabilities, shares, rtol=1e-9)


@pytest.mark.parametrize("model", SMALL)
@pytest.mark.parametrize(
    "leaf", sampled([1, 5_000], 1)
)  # of so many rows none is split: each tree is a leaf
def test_a_model_of_more_than_two_classes_answers_with_their_names(made, model, leaf):
    X = sample()[0]
    found = fitted(made[model], X, X["carrier"].str.lower(), min_samples_leaf=leaf)
    own = payload.Reader(found)
    columns = read(own, X[:300])
    wanted = found.predict(own.frame(columns)).tolist()
    assert faster(found, own)(columns).predictions.tolist() == wanted
    assert len(set(wanted)) > 5 or leaf > 1


def test_two_classes_that_are_even_are_told_apart_by_the_estimator(made, monkeypatch):
    found = fitted(made["forest"], *sample(), n_estimators=2, min_samples_leaf=1)
    session = onnx_form._session  # pylint: disable=protected-access
    monkeypatch.setattr(
        onnx_form, "_session", lambda form: lambda X, run=session(form): run(X) + 1e-13
    )
    free = payload.Reader(found, allow_unknown=True)
    columns = read(free, strange(found))
    shares = found.probabilities(free.frame(columns))[:, 1]
    assert (shares == 0.5).sum() > 10  # which rounding could turn
    assert (
        faster(found, free)(columns).predictions.tolist()
        == found.predict(free.frame(columns)).tolist()
    )


def test_a_split_between_gaps_and_all_categories_is_kept(made):
    X = sample()[0]
    found = fitted(made["hgb"], X, X["plane_engine"].isna())
    own = payload.Reader(found)
    assert (
        faster(found, own)(read(own, X[:300])).predictions.tolist()
        == X["plane_engine"].isna()[:300].tolist()
    )


@pytest.mark.parametrize(
    "model, more",
    sampled(
        [
            ("forest", {}),
            ("hgb", {}),
            ("hgb", {"loss": "poisson"}),
            ("hgb", {"loss": "quantile", "quantile": 0.9}),
        ],
        "forest",
        ("hgb", {"loss": "poisson"}),
    ),
)
@pytest.mark.parametrize("gaps", sampled([False, True], True))
def test_a_regression_is_answered_with_the_same_numbers(tmp_path, model, more, gaps):
    found = trust.load(numbers(tmp_path / "m", model, gaps, **SMALL[model], **more))
    own = payload.Reader(found)
    X = np.random.default_rng(1).normal(size=(300, len(own.columns)))
    columns = {n: list(map(float, x * 50)) for n, x in zip(own.columns, X.T)}
    if gaps:
        columns |= {n: [None, *columns[n][1:]] for n, c in own.columns.items() if not c.required}
        assert sum(None in values for values in columns.values()) == 5
    ours, theirs = faster(found, own)(columns).predictions, found.predict(own.frame(columns))
    assert ours.dtype == theirs.dtype and ours.tolist() == theirs.tolist()


def test_a_number_too_large_for_a_forest_is_refused_as_by_the_pipeline(made):
    own = payload.Reader(made["forest"])
    columns = read(own, made["forest"].example.assign(temp=1e39))
    with pytest.raises(ValueError, match="too large"):
        faster(made["forest"], own)(columns)


def refusal(loaded):
    """The line that says why there is no form of `loaded`."""
    with pytest.raises(WorkbookError) as refused:
        faster(loaded, payload.Reader(loaded))
    assert "\n" not in refused.value.message
    return refused.value.message


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_package_that_is_missing_is_told_in_one_line(made, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert "pip install -e '.[onnx]'" in refusal(made["hgb"])


def test_models_without_a_form_are_refused_in_one_line(made):
    assert refusal(made["linear"]).startswith("LogisticRegression has no ONNX form here")
    prepare, estimator = made["hgb"].pipeline
    longer = replace(made["hgb"], pipeline=make_pipeline(prepare, "passthrough", estimator))
    assert "prepares its columns in a way of its own" in refusal(longer)


@pytest.mark.parametrize("model", sampled([*SMALL, "numbers"], "hgb"))
@pytest.mark.parametrize(
    "wrong",
    [
        lambda X: np.ones(len(X), bool),
        lambda X: np.full(len(X), len(X) == 1),  # a row alone
        lambda X: np.full(len(X), len(X) > 1000),
        lambda X: np.isnan(X).any(axis=1),  # rows with gaps
        lambda X: X[:, 2] < X[:, 3],  # some others
    ],
)
def test_answers_that_are_a_little_wrong_are_found_before_they_are_served(
    made, monkeypatch, model, wrong
):
    session = onnx_form._session  # pylint: disable=protected-access

    def bent(form):
        run = session(form)
        return lambda X: run(X) + 1e-5 * wrong(X)[:, None]

    assert faster(made[model], payload.Reader(made[model]))
    monkeypatch.setattr(onnx_form, "_session", bent)
    assert "in ONNX it answers otherwise" in refusal(made[model])


@pytest.mark.parametrize(
    "model, wrong",
    [
        ("forest", lambda nodes, sets: (nodes.assign(missing_go_to_left=0), sets)),
        ("forest", lambda nodes, sets: (nodes.astype({"num_threshold": "float32"}), sets)),
        ("hgb", lambda nodes, sets: (nodes.assign(missing_go_to_left=0), sets)),
        ("hgb", lambda nodes, sets: (nodes.astype({"num_threshold": "float32"}), sets)),
        ("hgb", lambda nodes, sets: (nodes, [*sets[:-1], sets[-1][1:]])),
    ],
)
def test_trees_that_are_told_wrongly_are_found_too(made, monkeypatch, model, wrong):
    told = onnx_form._model  # pylint: disable=protected-access

    def bent(nodes, sets, width):
        nodes, sets = wrong(nodes, sets)
        return told(nodes.astype({"num_threshold": float}), sets, width)

    monkeypatch.setattr(onnx_form, "_model", bent)
    assert "in ONNX it answers otherwise" in refusal(made[model])


def test_what_the_runtime_does_not_take_is_told_in_one_line(made, monkeypatch, capfd):
    monkeypatch.setattr(onnx_form, "LEQ", 77)
    assert "RandomForestClassifier has no ONNX form: [ONNXRuntimeError]" in refusal(made["forest"])
    assert capfd.readouterr() == ("", "")


def test_an_answer_is_worked_out_by_the_thread_that_asks(made):
    own = payload.Reader(made["hgb"])
    faster(made["hgb"], own)  # libraries start threads of their own at their first use
    before = psutil.Process().num_threads()
    answer = faster(made["hgb"], own)
    answer(read(own, made["hgb"].example))
    assert psutil.Process().num_threads() <= before
