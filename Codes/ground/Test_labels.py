"""Values of parameters are written as a shell takes them."""

import shlex

from Codes.ground import labels


def test_values_are_written_as_they_would_be_typed():
    given = {"model": "forest", "seed": 3, "hyperparameters": {"a": 1}, "note": "two words"}
    words = ["model=forest", "seed=3", 'hyperparameters={"a": 1}', "note=two words"]
    assert shlex.split(labels.typed(given)) == words
    assert labels.typed({}) == ""


def test_amounts_are_written_without_exponents_and_scores_with_the_decimals_that_they_need():
    amounts = [labels.number(each) for each in (1234567.0, 12345678901.0, 160117.0, 0.71536, 3.0)]
    assert amounts == ["1230000", "12300000000", "160000", "0.715", "3"]
    scores = [labels.score(each) for each in (0.68164, 39998.9703, 140003.3566, 45.678, 0.00042)]
    assert scores == ["0.6816", "39999", "140003", "45.678", "0.00042"]
    assert labels.score(-0.5) == "-0.5000" and labels.score(float("nan")) == "not known"
