"""What a fitted model answers: predictions and, where it gives them, probabilities, from one look at the rows."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline

from Codes.networks.network import Classifier
from Codes.saved_models import trust

# Their `predict` is the label of the highest probability; only where two are as good as equal it need not be.
BY_PROBABILITY = ("HistGradientBoostingClassifier", "RandomForestClassifier", "LogisticRegression")
TIE = 1e-6


class Answers(NamedTuple):
    """The `predictions` (n,) and the `probabilities` (n, classes, in the order of the labels); None without."""

    predictions: np.ndarray
    probabilities: np.ndarray | None = None


def of(model: Any, rows: Any) -> Answers:
    """The Answers of `model`: a fitted pipeline, for a frame; or its last step, for the matrix that this step gets."""
    if trust.classes(model) is None or not hasattr(model, "predict_proba"):
        return Answers(np.asarray(model.predict(rows)))
    probabilities = model.predict_proba(rows)
    return Answers(_labels(model, rows, probabilities), probabilities)


def of_loaded(loaded: trust.Loaded, frame: pd.DataFrame) -> Answers:
    """The Answers of a saved model for `frame`, which is as its `ordered` makes it."""
    return of(loaded.pipeline, frame)


def _labels(model: Any, rows: Any, probabilities: np.ndarray) -> np.ndarray:
    """The label of each of `rows`, from its `probabilities` where this is sure to be the same."""
    last = model[-1] if isinstance(model, Pipeline) else model
    if _decides(last):
        return by_threshold(last, probabilities)
    if type(last).__name__ not in BY_PROBABILITY and not isinstance(last, Classifier):
        return np.asarray(model.predict(rows))
    labels = np.asarray(trust.classes(model))[probabilities.argmax(axis=1)]
    best = np.partition(probabilities, -2, axis=1)
    ties = np.flatnonzero(~(best[:, -1] - best[:, -2] > TIE))
    if len(ties):
        labels[ties] = model.predict(rows.iloc[ties] if hasattr(rows, "iloc") else rows[ties])
    return labels


def by_threshold(decides: FixedThresholdClassifier, probabilities: np.ndarray) -> np.ndarray:
    """The labels of rows by a classifier that `decides` by a threshold of the positive's probability."""
    position = list(decides.classes_).index(decides.pos_label)
    positive = probabilities[:, position] >= decides.threshold
    return np.asarray(decides.classes_)[np.where(positive, position, 1 - position)]


def inside(estimator: Any) -> Any:
    """What learned: the `estimator` itself, or the one whose probabilities it decides by (see `deciding`)."""
    return estimator.estimator.estimator if _decides(estimator) else estimator


def deciding(pipeline: Pipeline, threshold: float, positive: Any) -> Pipeline:
    """The fitted `pipeline`, its label being the `positive` one from this probability on, the other below it."""
    learned = inside(pipeline[-1])
    last = FixedThresholdClassifier(
        FrozenEstimator(learned),
        threshold=float(threshold),
        pos_label=positive,
        response_method="predict_proba",
    )
    # what its fit does, but for a second copy of what has learned, which would double the saved file
    last.n_features_in_ = getattr(learned, "n_features_in_", None)
    return Pipeline([*pipeline.steps[:-1], (pipeline.steps[-1][0], last)])


def _decides(estimator: Any) -> bool:
    """Whether the `estimator` is one that `deciding` has made."""
    return isinstance(estimator, FixedThresholdClassifier) and isinstance(
        estimator.estimator, FrozenEstimator
    )
