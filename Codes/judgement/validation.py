"""How good a model is, on rows that it was not trained on: a hold-out, or of a small table a cross-validation.

The validation rows are the same for all runs of a problem, and so are the draws of their bootstrap and the folds, so
that any two runs can be compared on the same rows (see `scored`).
"""

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from Codes.ground.labels import around, decimals
from Codes.judgement import baseline, decision as decisions, finding
from Codes.judgement.decision import Decision
from Codes.judgement.paired import Answers, Rows, fewest
from Codes.judgement.scored import FOLDS, TAG, Scored
from Codes.modeling import evaluation, training
from Codes.problems import data, rows
from Codes.problems.problem import Problem
from Codes.saved_models import trust

TIMES, PARTS = 3, 5  # a small table is cut into so many parts, so many times
FILE = "validation.parquet"


@dataclass(frozen=True, eq=False)
class Validated:  # pylint: disable=too-many-instance-attributes
    """What `score` finds.

    Args:
        scored: the deciding metric on the redrawn rows, to be compared with other runs.
        table: a row a metric: validation, baseline, gain (positive: better), train.
        predictions: of the validation rows, as evaluation.predictions gives them; of a small table each row's by a
            model that had not seen it.
        fitted: models with rows that they have not seen: the model itself, or those of one cross-validation.
        how: it was measured, in words.
        rows: the rows that it was measured on.
        kept: the predictions by the keys of the rows, as they are logged.
        pipeline: the model to save: its label is what the decision says, where the problem asks for one.
        decision: from which probability on a label is the positive one; None where the problem says nothing of it.
    """

    problem: Problem
    scored: Scored
    table: pd.DataFrame
    predictions: pd.DataFrame
    fitted: tuple[tuple[Pipeline, pd.DataFrame], ...]
    how: str
    rows: pd.DataFrame
    kept: pd.DataFrame
    pipeline: Pipeline
    decision: Decision | None = None

    def metrics(self) -> dict[str, float]:
        """For mlflow.log_metrics, the deciding one first: validation_…, error_…, gain_…, baseline_…, train_…."""
        name, own, gain = self.scored.metric, self.scored.own(), self.scored.gain()
        first = {
            f"validation_{name}": own.value,
            f"error_{name}": own.error,
            f"gain_{name}": gain.value,
            f"gain_error_{name}": gain.error,
        }
        parts = ("validation", "baseline", "gain", "train")
        others = {f"{p}_{m}": float(self.table[p][m]) for m in self.table.index for p in parts}
        return {k: v for k, v in (first | others | first).items() if np.isfinite(v)}

    def log(self) -> None:
        """Log the metrics, the predictions by row (validation.parquet), and what other runs are compared by."""
        mlflow.log_metrics(self.metrics())
        if self.decision:
            self.decision.log()
        mlflow.set_tag(TAG, self.scored.as_tag())
        _log_parquet(self.kept)

    def sentence(self) -> str:
        """The score with its 95 % interval, and how it was measured."""
        own, gain = self.scored.own(), self.scored.gain()
        places = decimals([own.reach(), gain.reach()])
        value, held = around(own.value, own.reach(), places), "against the baseline not known"
        if np.isfinite(gain.value):
            side = "better" if gain.value >= 0 else "worse"
            by = around(abs(gain.value), gain.reach(), places)
            held = f"{side} than {self.scored.floor(places)} by {by}"
        return f"{self.scored.metric} {value} (95 %), {held}; {self.how}"

    def finding(self, relies: pd.DataFrame | None = None) -> str:
        """What the run found, as a Markdown list; with what it `relies` on (see `importance`)."""
        return finding.of(self, relies)


def score(problem: Problem, pipeline: Pipeline, frame: pd.DataFrame, seed: int = 0) -> Validated:
    """How good the fitted `pipeline` is on the validation rows of `frame` (see data.load).

    Of a small table unfitted copies of it learn and answer in turn, on all rows of `frame`.

    Args:
        seed: which rows a fold's model learns from, where the run takes fewer than there are.
    """
    if data.is_small(frame, problem):
        return _by_folds(problem, pipeline, frame, seed)
    return _by_hold_out(problem, pipeline, frame)


def digest(problem: Problem) -> str:
    """The Scored.digest of a run that would be scored now: of the validation rows as the table and the split stand."""
    frame = data.load(problem, rows=1)  # of a small table it holds all rows, whatever is drawn
    if data.is_small(frame, problem):
        return rows.digest(frame, problem, "folds")
    return rows.digest(data.to_validate(frame, problem), problem, "validation")


def _by_hold_out(problem: Problem, pipeline: Pipeline, frame: pd.DataFrame) -> Validated:
    train, held = data.split(frame, problem)
    labels, base = trust.classes(pipeline), baseline.fit(problem, frame)
    table, blocks = _predicted(problem, pipeline, held), rows.blocks(held, problem)
    if decision := decisions.choose(problem, table, labels):
        pipeline, table = decision.applied(pipeline), decision.relabelled(table)
    means = evaluation.measure(problem, table, labels), base.measure(held)
    evaluation.check_metric(problem, means[0])
    keys = rows.keys_of(held, problem)
    seen = Rows(problem, held, blocks, rows.digest(held, problem, "validation", keys))
    own = seen.measure(Answers(table, labels), Answers(base.predictions(held), base.labels))
    return Validated(
        problem=problem,
        scored=replace(own, trained=len(train), against=base.name),
        table=_side_by_side(problem, _learned(problem, pipeline, train), *means),
        predictions=table,
        fitted=((pipeline, held),),
        how=_in_blocks(problem, blocks),
        rows=held,
        kept=table.assign(repeat=0, key=keys),
        pipeline=pipeline,
        decision=decision,
    )


def _in_blocks(problem: Problem, blocks: np.ndarray) -> str:
    """How many rows were held out, and in how many blocks, in words."""
    count, unit = len(np.unique(blocks)), "stretches of time"
    unit = "groups" if problem.split.kind == "group" else unit
    return f"on {len(blocks):,} held-out rows" + (
        f" in {count:,} {unit}" if count < len(blocks) else ""
    )


def _by_folds(problem: Problem, pipeline: Pipeline, frame: pd.DataFrame, seed: int) -> Validated:
    train = data.to_train(frame, problem)
    found = list(_each_fold(problem, pipeline, frame, len(train), seed))
    first = pd.concat([each.table for each in found if each.repeat == 0]).sort_index()
    if decision := decisions.choose(problem, first, trust.classes(pipeline)):
        pipeline, first = decision.applied(pipeline), decision.relabelled(first)
        found = [each.decided(decision) for each in found]
    tables = [
        pd.DataFrame([each.measured(problem) for each in found]),
        pd.DataFrame([each.constant for each in found]),
    ]
    means = tuple(table.mean().to_dict() for table in tables)
    name = problem.metric.name
    values = [table.get(name, pd.Series(np.nan, table.index)).to_numpy(float) for table in tables]
    keys = rows.keys_of(frame, problem)
    kept = [e.table.assign(repeat=e.repeat, key=keys) for e in found if len(e.table)]
    seen = rows.digest(frame, problem, "folds", keys)
    return Validated(
        problem=problem,
        scored=replace(
            _scored(problem, seen, (len(frame), len(train)), means, values),
            against=baseline.fit(problem, frame).name,
            fewest=fewest(problem, data.target(frame, problem), rows.blocks(frame, problem)),
        ),
        table=_side_by_side(problem, _learned(problem, pipeline, train), *means),
        predictions=first,
        fitted=tuple((e.model, e.held) for e in found if e.repeat == 0 and len(e.table)),
        how=f"by {TIMES} times {PARTS}-fold cross-validation on {len(frame):,} rows",
        rows=frame,
        kept=pd.concat(kept).sort_index(kind="stable").reset_index(drop=True),
        pipeline=pipeline,
        decision=decision,
    )


@dataclass(frozen=True, eq=False)
class _Fold:
    """A model of a fold, the rows that it has not seen, what it predicts for them, the baseline's metrics there.

    Without any where one side has too few classes.
    """

    repeat: int
    model: Pipeline
    held: pd.DataFrame
    table: pd.DataFrame
    constant: dict[str, float]

    def decided(self, decision: Decision) -> "_Fold":
        """This fold with the labels that `decision` gives."""
        if self.table.empty:
            return self
        model, table = decision.applied(self.model), decision.relabelled(self.table)
        return replace(self, model=model, table=table)

    def measured(self, problem: Problem) -> dict[str, float]:
        """Its metrics."""
        if self.table.empty:
            return {}
        return evaluation.measure(problem, self.table, trust.classes(self.model))


def _each_fold(
    problem: Problem, pipeline: Pipeline, frame: pd.DataFrame, size: int, seed: int
) -> Iterator[_Fold]:
    """A _Fold for each fold of `frame`, whose models learn from the share that `size` rows are of all."""
    for number, (learned, held) in enumerate(folds(problem, frame)):
        some = _drawn(learned, size if size < len(frame) else 0, seed + number)
        model = clone(pipeline)
        yield _Fold(number // PARTS, model, held, *_one_fold(problem, model, some, held))


def _scored(
    problem: Problem,
    seen: str,
    counts: tuple[int, int],
    means: Sequence[Mapping[str, float]],
    values: Sequence[np.ndarray],
) -> Scored:
    """The Scored of folds: from the metrics (`means`, the baseline's the second) and the deciding one's `values`.

    Args:
        counts: how many rows it was measured on, and how many the model learned from.
    """
    name = problem.metric.name
    evaluation.check_metric(problem, means[0])
    return Scored(
        metric=name,
        more=problem.metric.more_is_better,
        how=FOLDS,
        rows=counts[0],
        trained=counts[1],
        digest=seen,
        ratio=1 / (PARTS - 1),
        score=means[0][name],
        baseline=means[1].get(name, np.nan),
        scores=values[0],
        baselines=values[1],
    )


def _learned(problem: Problem, pipeline: Pipeline, train: pd.DataFrame) -> dict[str, float]:
    """The metrics on the rows that the model was trained on."""
    return evaluation.score(problem, pipeline, *_sides(problem, train))


def _one_fold(
    problem: Problem, model: Pipeline, learned: pd.DataFrame, held: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, float]]:
    """(the predictions, the baseline's metrics) of one fold; without any where one side has too few classes."""
    y = data.target(learned, problem)
    if problem.task == "classification" and (
        y.nunique() < 2 or not set(held[problem.target]) <= set(y)
    ):
        return pd.DataFrame(), {}
    # one thread: OpenMP's would wait for each other by spinning, longer than so few rows take
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # the model itself, on all rows, has said it before
        table = _predicted(problem, training.fitted(problem, model, learned), held)
        return table, baseline.of(problem, learned).measure(held)


def folds(problem: Problem, frame: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """(rows to learn from, the others) of each fold of the repeated cross-validation of a small table's `frame`."""
    y, groups = data.target(frame, problem), rows.blocks(frame, problem)
    is_grouped, is_class = problem.split.kind == "group", problem.task == "classification"
    kind = {
        (True, True): StratifiedGroupKFold,
        (True, False): GroupKFold,
        (False, True): StratifiedKFold,
        (False, False): KFold,
    }[is_grouped, is_class]
    most = pd.Series(groups).nunique()
    if is_class and not is_grouped:
        most = int(y.value_counts().max())
    for repeat in range(TIMES):
        # pyrefly: ignore[unexpected-keyword]  # its stubs are of scikit-learn 1.5
        cutter = kind(n_splits=max(2, min(PARTS, most)), shuffle=True, random_state=repeat)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a class with fewer rows than folds
            for learned, held in cutter.split(frame, y, groups):
                yield frame.iloc[learned], frame.iloc[held]


def _drawn(frame: pd.DataFrame, limit: int, seed: int) -> pd.DataFrame:
    """The rows of a fold to learn from, in the share that the run takes (all where `limit` is 0)."""
    size = max(2, round(limit * (1 - 1 / PARTS)))
    return (
        frame
        if not limit or size >= len(frame)
        else frame.sample(size, random_state=seed).sort_index()
    )


def _sides(problem: Problem, frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    return data.features(frame, problem), data.target(frame, problem)


def _predicted(problem: Problem, pipeline: Pipeline, frame: pd.DataFrame) -> pd.DataFrame:
    return evaluation.predictions(pipeline, *_sides(problem, frame))


def _side_by_side(
    problem: Problem,
    train: Mapping[str, float],
    validation: Mapping[str, float],
    constant: Mapping[str, float],
) -> pd.DataFrame:
    """A row for each metric: validation, baseline, gain (positive: better), train; the deciding one on top."""
    table = pd.DataFrame({"validation": validation, "baseline": constant, "train": train})
    table = table.dropna(subset=["validation"])
    sign = [1 if problem.directions[name] == "maximize" else -1 for name in table.index]
    table.insert(2, "gain", (table.validation - table.baseline) * sign)
    order = sorted(table.index, key=lambda name: name != problem.metric.name)
    return table.loc[order].rename_axis("metric")


def predicted(
    problem: Problem, frame: pd.DataFrame, kept: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(rows of `frame` that validate, the predictions of them) from what a run has `kept` (its validation.parquet).

    Of a small table these are all rows, each predicted by a model that had not seen it.
    """
    held = frame if data.is_small(frame, problem) else data.to_validate(frame, problem)
    once = kept[kept.repeat == 0].reset_index(drop=True)
    numbers = _numbered(once.key).get_indexer(_numbered(rows.keys_of(held, problem)))
    known = numbers >= 0
    table = once.drop(columns=["repeat", "key"]).iloc[numbers[known]]
    return held[known], table.set_axis(held.index[known])


def _numbered(keys: pd.Series) -> pd.MultiIndex:
    """`keys` with a number among those that are equal: equal rows are told apart by their order."""
    return pd.MultiIndex.from_arrays([keys, keys.groupby(keys).cumcount()])


def _log_parquet(table: pd.DataFrame) -> None:
    """Log `table` as the artifact FILE; numbers in 32 bits, which no metric tells apart."""
    doubles = table.select_dtypes("float64").columns.difference(["actual", "predicted"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        table.astype(dict.fromkeys(doubles, "float32")).to_parquet(path, index=False)
        mlflow.log_artifact(str(path))


def importance(validated: Validated, seed: int = 0) -> pd.DataFrame:
    """evaluation.importance, on rows that the model (or each model of one cross-validation) has not seen."""
    problem, count = validated.problem, len(validated.fitted)
    tables = [
        evaluation.importance(
            problem, model, *_sides(problem, held), seed, evaluation.IMPORTANCE_SECONDS / count
        )
        for model, held in validated.fitted
    ]
    if len(tables) == 1:
        return tables[0]
    left_out = max(table.attrs["left_out"] for table in tables)
    means = pd.concat([table["mean"] for table in tables], axis=1)
    table = pd.DataFrame({"mean": means.mean(axis=1), "std": means.std(axis=1, ddof=0)})
    table.attrs["left_out"] = left_out
    return table.rename_axis("feature").sort_values("mean", ascending=False)
