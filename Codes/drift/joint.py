"""Can a window be told from the reference by all columns together? Where these move jointly, each may look quiet.

A classifier (boosted trees on the bins of the columns) learns to tell the rows of a window from others. How well it
does on rows that it has not seen, from 0 (as by chance) to 1, is one more effect beside those of the columns: it is
held against the same for the reference's own windows, and so shares their one p-value.
"""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from Codes.drift.effects import Name

NAME = Name("all columns", "jointly")
ROWS = 600  # of a window that are told apart from as many others; more would say the same, later
TREES = 25


def effect(own: np.ndarray, others: np.ndarray) -> float:
    """How well rows with the bins `own` are told from those of `others`, from 0 to 1."""
    random = np.random.default_rng(0)
    parts = [random.permutation(part)[:ROWS].astype(np.float32) for part in (own, others)]
    X = np.concatenate(parts)
    y = np.repeat([1, 0], [len(part) for part in parts])
    half = np.concatenate([np.arange(len(part)) % 2 for part in parts]).astype(bool)
    scores = np.zeros(len(X))
    if min(map(len, parts)) < 4 or X.shape[1] == 0:
        return 0.0
    with threadpool_limits(1):  # a few rows: threads only wait
        for fold in (half, ~half):
            model = HistGradientBoostingClassifier(
                max_iter=TREES, max_leaf_nodes=8, early_stopping=False, random_state=0
            )
            scores[fold] = model.fit(X[~fold], y[~fold]).predict_proba(X[fold])[:, 1]
    return max(0.0, 2 * float(roc_auc_score(y, scores)) - 1)


def effects(codes: np.ndarray, windows: list[np.ndarray], size: int) -> np.ndarray:
    """`effect` of each of the `windows` (positions in `codes`), of `size` rows at most, against the rows of no more.

    Where windows overlap, those rows of the others are taken that are not in it.
    """
    random = np.random.default_rng(1)
    everything = np.unique(np.concatenate([*windows, np.zeros(0, int)]).astype(int))
    found = []
    for window in windows:
        others = np.setdiff1d(everything, window)
        few = random.permutation(window)[:size]
        found.append(effect(codes[few], codes[random.permutation(others)[:ROWS]]))
    return np.array(found)
