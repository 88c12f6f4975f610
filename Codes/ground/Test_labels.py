"""Values of parameters are written as a shell takes them."""

import shlex

from Codes.ground import labels


def test_values_are_written_as_they_would_be_typed():
    given = {"model": "forest", "seed": 3, "hyperparameters": {"a": 1}, "note": "two words"}
    words = ["model=forest", "seed=3", 'hyperparameters={"a": 1}', "note=two words"]
    assert shlex.split(labels.typed(given)) == words
    assert labels.typed({}) == ""
