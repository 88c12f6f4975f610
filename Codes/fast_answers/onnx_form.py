"""A model in ONNX, which answers a row in microseconds; that it answers as the model does is proven first.

A network is written by its framework's own exporter, where that has one; trees are written here.

skl2onnx is no way there: of a forest it leaves out where gaps go, and with doubles it never ends where a split is
infinite; boosting with categories it can't take. The operator TreeEnsemble says all that, and sums in the same order.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

from Codes.fast_answers.quick import Columns, matrix, probe, Reading
from Codes.ground.errors import WorkbookError, first_line
from Codes.modeling import answers
from Codes.modeling.answers import Answers
from Codes.networks.network import Network, Rows
from Codes.saved_models.trust import Loaded
from Codes.seams import sklearn_seam

FORESTS = (RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor)
BOOSTING = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
LEQ, MEMBER = 0, 6  # what a node asks: is the value at most its split; is it one of its categories
NEVER = -1  # no category's code
EVEN = 1e-9  # two classes this near are for the estimator to tell apart: sums round otherwise in another order
LARGEST = 3.4e38  # of single precision, in which a forest looks at numbers
ROWS = 5_000  # of the proof
# where these are parted: ONNX Runtime goes other ways for one row, for some and for many
PARTS = [*range(1, 100), 140, 240, 1000]
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def check_installed() -> None:
    """A WorkbookError where the packages are missing."""
    try:
        import onnx  # pylint: disable=W0611  # both are asked for before anything is done
        import onnxruntime  # pylint: disable=W0611
    except ImportError as error:
        raise WorkbookError(
            "--onnx needs ONNX and its runtime, which are not installed here: pip install onnx onnxruntime "
            "(or pip install -e '.[onnx]' in the workbook)."
        ) from error


def faster(loaded: Loaded, reader: Reading) -> Callable[[Columns], Answers]:
    """A function {column: values} -> the model's Answers by ONNX Runtime.

    Labels are equal to the pipeline's; numbers and probabilities are CLOSE to them.

    Raises:
        WorkbookError: why there is no such function, in one line.
    """
    check_installed()
    prepared = matrix(loaded, reader)
    if prepared is None:
        raise WorkbookError(
            "the model has no ONNX form: it prepares its columns in a way of its own."
        )
    last = loaded.pipeline[-1]
    estimator = answers.inside(last)
    kind = type(estimator).__name__
    if not isinstance(estimator, (*FORESTS, *BOOSTING, Network)):
        raise WorkbookError(
            f"{kind} has no ONNX form here (forests, histogram boosting and PyTorch's networks have)."
        )
    try:
        # that this matrix is the pipeline's own is proven already
        if isinstance(estimator, Network):
            _answer_by_onnx(estimator, prepared(probe(loaded, reader)))
            return lambda columns: answers.of(last, prepared(columns))
        form = Form(estimator, prepared(probe(loaded, reader)), last)
    except Exception as error:  # pylint: disable=W0718
        raise WorkbookError(f"{kind} has no ONNX form: {first_line(error).rstrip('.')}.") from error
    return lambda columns: form.answer(prepared(columns))


def _answer_by_onnx(network: Network, codes: np.ndarray) -> None:
    """Let the `network` answer by ONNX Runtime, once that is proven for the matrix `codes` and ROWS others."""
    session = _runtime(network.in_onnx())
    named = [
        each.name for each in session.get_inputs()
    ]  # a network without categories takes no codes

    def said(rows: Rows) -> np.ndarray:
        given = dict(zip(("numbers", "codes"), rows))
        return session.run(None, {name: given[name] for name in named})[0]

    network.answer_by(said, np.vstack([codes, network.trials(ROWS)]))


class Form:
    """The trees of the fitted `estimator` in ONNX, proven for what is in the matrix `codes` and around all splits.

    Args:
        decides: the estimator, or what answers by its probabilities (see answers.inside).
    """

    def __init__(self, estimator: Any, codes: np.ndarray, decides: Any = None) -> None:
        self._estimator, self._forest = estimator, type(estimator) in FORESTS
        self._decides = estimator if decides is None else decides
        self._pair = is_classifier(estimator) and len(estimator.classes_) == 2
        trees, sets = (_forest if self._forest else _boosting)(estimator)
        nodes = _nodes(trees)
        self._run = _session(_model(nodes, sets, estimator.n_features_in_))
        self._prove(_around(nodes, codes))

    def scores(self, X: np.ndarray) -> np.ndarray:
        """What the trees say of each row, a column for each class; of two, how far the second one is ahead."""
        if not self._forest:
            return self._run(X)
        mean = self._run(X.astype(np.float32).astype(np.float64)) / len(self._estimator.estimators_)
        return mean - 0.5 if self._pair else mean

    def answer(self, X: np.ndarray) -> Answers:
        """The Answers for the matrix `X`."""
        if self._forest and (np.abs(X) > LARGEST).any():
            return answers.of(self._decides, X)  # which refuses it
        scores = self.scores(X)
        if not is_classifier(self._estimator):
            if self._forest:
                return Answers(scores[:, 0])
            return Answers(sklearn_seam.boosting_numbers(self._estimator, scores[:, 0]))
        probabilities = self._probabilities(scores)
        return Answers(self._labels(X, scores, probabilities), probabilities)

    def _probabilities(self, scores: np.ndarray) -> np.ndarray:
        """A column for each class, from the `scores`."""
        if not self._forest:
            return sklearn_seam.boosting_probabilities(self._estimator, scores)
        return np.hstack([0.5 - scores, 0.5 + scores]) if self._pair else scores

    def _labels(self, X: np.ndarray, scores: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """The labels of rows; where two are as good as equal, the estimator's own."""
        if self._decides is not self._estimator:
            labels = answers.by_threshold(self._decides, probabilities)
            even = (np.abs(probabilities - self._decides.threshold) < EVEN).any(axis=1)
        elif self._pair:
            labels = self._estimator.classes_.take(scores[:, 0] > 0)
            even = np.abs(scores[:, 0]) < EVEN
        else:
            return self._estimator.classes_.take(scores.argmax(axis=1))
        if even.any():
            labels[even] = self._decides.predict(X[even])
        return labels

    def _prove(self, X: np.ndarray) -> None:
        theirs, parts = answers.of(self._decides, X), np.split(X, PARTS)
        ours = [self.answer(part) for part in parts]
        compare(np.concatenate([each.predictions for each in ours]), theirs.predictions)
        if theirs.probabilities is not None:
            shares = [each.probabilities for each in ours if each.probabilities is not None]
            compare(np.concatenate(shares), theirs.probabilities)


def compare(ours: np.ndarray, theirs: np.ndarray) -> None:
    """ValueError where these answers are not the same."""
    numbers = theirs.dtype.kind == "f"
    if not (np.allclose(ours, theirs, **CLOSE) if numbers else np.array_equal(ours, theirs)):
        raise ValueError("in ONNX it answers otherwise")


def _around(nodes: pd.DataFrame, codes: np.ndarray) -> np.ndarray:
    """The matrix `codes`, and ROWS random rows of what is in it, of the splits of `nodes`, and of their neighbours."""
    random, columns = np.random.default_rng(0), []
    asking = nodes[~nodes.is_leaf & ~nodes.is_categorical & (nodes.num_threshold.abs() < LARGEST)]
    for feature, known in enumerate(codes.T):
        splits = asking.num_threshold[asking.feature_idx == feature].unique()
        both = (splits, splits.astype(np.float32))
        near = [np.nextafter(s, s.dtype.type(to)) for s in both for to in (-np.inf, np.inf)]
        # half of them from the matrix: a gap is one value, and splits are thousands
        halves = (np.unique(v) for v in (known, np.concatenate([known, *both, *near])))
        values = [np.resize(random.permutation(v), ROWS // 2) for v in halves]
        columns.append(random.permutation(np.concatenate(values)))
    return np.vstack([codes, np.column_stack(columns)])


def _forest(estimator: Any) -> tuple[list[pd.DataFrame], list[Any]]:
    """(its trees, no categories), each tree once for each class but the first of two: a leaf in ONNX has one value."""
    trees = []
    for each in estimator.estimators_:
        nodes, values = sklearn_seam.tree_nodes(each.tree_)
        for target, value in enumerate(values[1:] if len(values) == 2 else values):
            own = {"is_categorical": False, "value": value, "target": target}
            trees.append(pd.DataFrame(nodes | own))
    return trees, []


def _boosting(estimator: Any) -> tuple[list[pd.DataFrame], list[Any]]:
    """(the baseline as trees and its trees, for each node that asks for categories those that go to the left)."""
    baseline = sklearn_seam.boosting_baseline(estimator)
    trees, sets = [_leaf(value, target) for target, value in enumerate(baseline)], []
    for target, nodes, lefts in sklearn_seam.boosting_trees(estimator):
        trees.append(nodes.assign(target=target))
        # where only gaps go to the left, there is no code
        sets += [codes if len(codes) else [NEVER] for codes in lefts]
    return trees, sets


def _leaf(value: float, target: int) -> pd.DataFrame:
    """A tree that is one leaf: in ONNX, under a node both of whose branches lead to it."""
    return pd.DataFrame(
        {
            "feature_idx": 0,
            "num_threshold": 0.0,
            "missing_go_to_left": 0,
            "left": 1,
            "right": 1,
            "is_leaf": [False, True],
            "is_categorical": False,
            "value": value,
            "target": target,
        }
    )


def _nodes(trees: list[pd.DataFrame]) -> pd.DataFrame:
    """All nodes of the `trees` in a frame, one tree after the other; the index is a node's place in its tree."""
    trees = [tree if len(tree) > 1 else _leaf(tree.value[0], tree.target[0]) for tree in trees]
    starts = np.cumsum([0, *map(len, trees[:-1])])
    for start, tree in zip(starts, trees):
        tree[["left", "right"]] += start
    return pd.concat(trees)


def _attributes(nodes: pd.DataFrame, sets: Sequence[Any]) -> dict[str, Any]:
    """The attributes by which the operator TreeEnsemble says what the `nodes` (see _nodes) and `sets` are.

    Nodes that ask (nodes_*) and leaves (leaf_*) are apart, and each is known by its place among its own; of a child
    `…leafs` tells which of the two it is. A set of categories ends in a NaN, and the k-th set is that of the k-th node
    whose mode is MEMBER: so the order of the nodes is part of the format. Gaps go to the left where
    `missing_value_tracks_true`.
    """
    from onnx import numpy_helper

    leaf = nodes.is_leaf.to_numpy()
    place = np.where(leaf, np.cumsum(leaf), np.cumsum(~leaf)) - 1
    asking, leaves = nodes[~leaf], nodes[leaf]
    tensors = {
        "nodes_modes": np.where(asking.is_categorical, MEMBER, LEQ).astype(np.uint8),
        "nodes_splits": asking.num_threshold.to_numpy(),
        "leaf_weights": leaves.value.to_numpy(),
    }
    if sets:
        tensors["membership_values"] = np.concatenate([np.append(each, np.nan) for each in sets])
    numbers = {
        "tree_roots": place[nodes.index == 0],
        "nodes_featureids": asking.feature_idx,
        "nodes_missing_value_tracks_true": asking.missing_go_to_left,
        "nodes_truenodeids": place[asking.left],
        "nodes_trueleafs": leaf[asking.left],
        "nodes_falsenodeids": place[asking.right],
        "nodes_falseleafs": leaf[asking.right],
        "leaf_targetids": leaves.target,
    }
    return {name: numpy_helper.from_array(values, name) for name, values in tensors.items()} | {
        name: np.asarray(values, dtype=int).tolist() for name, values in numbers.items()
    }


def _model(nodes: pd.DataFrame, sets: Sequence[Any], width: int) -> Any:
    """The ONNX model of the `nodes` (see _nodes), which takes a matrix with `width` columns of doubles."""
    from onnx import TensorProto, helper

    node = helper.make_node(
        "TreeEnsemble",
        ["X"],
        ["scores"],
        domain="ai.onnx.ml",
        n_targets=int(nodes.target.max()) + 1,
        **_attributes(nodes, sets),
    )
    ends = [
        helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, size])
        for name, size in (("X", width), ("scores", None))
    ]
    return helper.make_model(
        helper.make_graph([node], "trees", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("ai.onnx.ml", 5), helper.make_opsetid("", 21)],
        ir_version=10,
    )


def _session(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A function that runs the ONNX `model` of trees for a matrix."""
    session = _runtime(model.SerializeToString())
    return lambda X: session.run(None, {"X": X})[0]


def _runtime(model: bytes) -> Any:
    """An InferenceSession of the ONNX `model`, which runs in the thread that calls it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what fails is told in our line
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
