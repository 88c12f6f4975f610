"""What of scikit-learn is used that it does not document: the nodes of a boosted model, and a check before the fit."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

# pylint: disable=protected-access


def check_hyperparameters(estimator: Any) -> None:
    """Let `estimator` check its hyperparameters, as its fit does, but before there is a table; others are not checked.

    Private: `BaseEstimator._validate_params`, `_parameter_constraints`.
    Seen: scikit-learn 1.9.1.
    Without: the fit says it, after the kernel's start and the reading of the table.

    Raises:
        ValueError: which one is wrong, and what is allowed.
    """
    if hasattr(estimator, "_parameter_constraints"):
        estimator._validate_params()


def tree_nodes(tree: Any) -> tuple[dict[str, Any], np.ndarray]:
    """(columns of the nodes, the values of all nodes: (classes, nodes) array) of a `tree_` of a forest.

    Private: `Tree.missing_go_to_left`; the other arrays are documented.
    Seen: scikit-learn 1.9.1.
    Without: no ONNX form of forests whose rows have gaps.
    """
    columns = {
        "feature_idx": tree.feature,
        "num_threshold": tree.threshold,
        "missing_go_to_left": tree.missing_go_to_left,
        "left": tree.children_left,
        "right": tree.children_right,
        "is_leaf": tree.children_left < 0,
    }
    return columns, tree.value[:, 0, :].T


def boosting_baseline(estimator: Any) -> np.ndarray:
    """What histogram boosting begins with, before its first tree: a number for each of its targets.

    Private: `_baseline_prediction`.
    Seen: scikit-learn 1.9.1.
    Without: what `staged_decision_function` says first, less the first tree's answer.
    """
    return estimator._baseline_prediction.ravel()


def boosting_trees(estimator: Any) -> Iterator[tuple[int, pd.DataFrame, list[np.ndarray]]]:
    """(target, nodes, the codes of categories that go left, for each node that asks for categories) of each tree.

    The nodes' `feature_idx` counts as in the estimator's own input.

    Private: `_predictors`, their `nodes` and `raw_left_cat_bitsets`; that columns with categories come first in them.
    Seen: scikit-learn 1.9.1.
    Without: no ONNX form of boosting; skl2onnx reads the same arrays, and takes no categories.
    """
    order = np.arange(estimator.n_features_in_)
    if estimator.is_categorical_ is not None:
        order = np.argsort(~estimator.is_categorical_, kind="stable")
    for step in estimator._predictors:
        for target, each in enumerate(step):
            nodes = pd.DataFrame(each.nodes).astype({"is_leaf": bool, "is_categorical": bool})
            asking = nodes.bitset_idx[nodes.is_categorical]
            yield (
                target,
                nodes.assign(feature_idx=order[nodes.feature_idx]),
                [_codes(bits) for bits in each.raw_left_cat_bitsets[asking]],
            )


def _codes(bits: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little"))


def boosting_numbers(estimator: Any, scores: np.ndarray) -> np.ndarray:
    """What a regressor of histogram boosting predicts for the `scores` of its trees: (n,) array.

    Private: `_loss.link.inverse`.
    Seen: scikit-learn 1.9.1.
    Without: the link of each loss (identity, or exp of Poisson and gamma).
    """
    return estimator._loss.link.inverse(scores)


def boosting_probabilities(estimator: Any, scores: np.ndarray) -> np.ndarray:
    """The probabilities that a classifier of histogram boosting gives for the `scores` of its trees: (n, classes).

    Private: `_loss.predict_proba`.
    Seen: scikit-learn 1.9.1.
    Without: the logistic function, or softmax of more than two classes.
    """
    return estimator._loss.predict_proba(scores)
