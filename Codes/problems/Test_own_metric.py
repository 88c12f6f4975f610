"""A metric of your own counts as a named one does; one that cannot be taken is a line before anything trains."""

import sys

import numpy as np
import pandas as pd
import pytest

from Codes.ground.errors import WorkbookError
from Codes.judgement import validation
from Codes.modeling import evaluation, models
from Codes.problems import data, overview, own_metric, problem
from Codes.testing.cases import sampled

YAML = """\
title: Will this house sell?
task: classification
source: {{path: houses.csv}}
target: sold
positive: "yes"
split: {{kind: random, test_share: 0.2}}
metric: {{function: {function}, direction: maximize}}
"""
SHOP = '''
import math

def margin(actual, predicted):
    """What the sales bring, less what the calls cost."""
    called = predicted == "yes"
    return (10 * (called & (actual == "yes")).sum() - 3 * called.sum()) / len(actual)

def sure(actual, predicted, probabilities):
    return float(probabilities["yes"][actual == "yes"].mean())

def priced(actual, predicted, price=2):
    return price * margin(actual, predicted)

def broken(actual, predicted):
    return 1 / 0

def words(actual, predicted):
    return "much"

def nothing(actual, predicted):
    return math.nan

number = 3
'''


@pytest.fixture(name="houses")
def _houses(tmp_path, monkeypatch):
    """(function) -> the problem that it decides, on 300 houses of which the larger ones sell."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shop_of_test", raising=False)
    (tmp_path / "shop_of_test.py").write_text(SHOP, encoding="utf-8")
    chance = np.random.default_rng(0)
    frame = pd.DataFrame({"area": chance.uniform(20, 300, 300), "age": chance.integers(0, 60, 300)})
    frame["sold"] = np.where(frame.area + chance.normal(0, 40, 300) > 150, "yes", "no")
    frame.to_csv(tmp_path / "houses.csv", index=False)

    def made(function):
        (tmp_path / "houses.yaml").write_text(YAML.format(function=function), encoding="utf-8")
        return problem.load(tmp_path / "houses.yaml")

    return made


@pytest.mark.parametrize("name", sampled(["margin", "sure", "priced"], "margin"))
def test_it_decides_as_a_named_one_does(houses, name):
    own = houses(f"shop_of_test.{name}")
    frame = data.load(own)
    train = data.to_train(frame, own)
    X = data.features(train, own)
    pipeline = models.build(own, X, "linear").fit(X, data.target(train, own))
    scored = validation.score(own, pipeline, frame).scored
    assert scored.metric == name and scored.more and scored.gain().low > 0
    table = evaluation.predictions(pipeline, X, data.target(train, own))
    labels = ["no", "yes"]
    expected = {
        "margin": (
            7 * (table.predicted + table.actual == "yesyes").sum()
            - 3 * (table.predicted + table.actual == "yesno").sum()
        )
        / len(table),
        "sure": table["probability of yes"][table.actual == "yes"].mean(),
    }
    found = evaluation.measure(own, table, labels, only=name)
    assert found == {name: pytest.approx(expected.get(name, 2 * expected["margin"]))}
    assert name in evaluation.measure(own, table, labels) and own.directions[name] == "maximize"
    assert len(evaluation.importance(own, pipeline, X, data.target(train, own))) == 2


@pytest.mark.parametrize(
    "function, told",
    [
        ("shop_of_test.broken", "raises ZeroDivisionError: division by zero"),
        ("shop_of_test.words", "gives 'much', and one number is needed"),
        ("shop_of_test.nothing", "gives no number"),
        ("shop_of_test.number", "is no function"),
        ("shop_of_test.margn", r"has no 'margn' \(did you mean 'margin'\?\)"),
        ("shop_of_tests.margin", "the module 'shop_of_tests' does not import"),
    ],
)
def test_one_that_cannot_be_taken_is_a_line_before_anything_trains(houses, function, told):
    own = houses(function)
    for way in (data.load, lambda p: list(overview.report(p))):
        with pytest.raises(WorkbookError, match=f"houses: metric '{function}': .*{told}"):
            way(own)


def test_it_may_be_undefined_of_some_rows_and_needs_no_class_that_is_there(houses):
    own = houses("shop_of_test.sure")
    table = pd.DataFrame({"actual": ["no"], "predicted": ["no"]})
    assert not own_metric.measure(own, table, ["no", "yes"]), "the model gives no probabilities"
    table = table.assign(**{"probability of no": 0.9, "probability of yes": 0.1})
    assert not own_metric.measure(own, table, ["no", "yes"]), "no row is a yes"
    table.actual = "yes"
    assert own_metric.measure(own, table, ["no", "yes"]) == {"sure": 0.1}


def test_a_regression_has_no_probabilities_to_give():
    own = problem.load("diabetes")
    metric = problem.Metric(function="sklearn.metrics.mean_pinball_loss", direction="minimize")
    own_metric.rehearse(own.model_copy(update={"metric": metric}), pd.Series([1.0, 2.0]))
    three = problem.Metric(function="numpy.interp", direction="minimize")
    with pytest.raises(WorkbookError, match="a regression has no probabilities"):
        own_metric.rehearse(own.model_copy(update={"metric": three}), pd.Series([1.0, 2.0]))
