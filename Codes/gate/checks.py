"""The gate before production: what a model must show on the test rows, each check with what was found and is allowed.

MLflow evaluates the candidate and validates the thresholds (https://mlflow.org/docs/latest/ml/evaluation/); whether it
is better than the baseline and the model in production, and worse in no slice, is for `judgement.paired` to tell.
"""

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mlflow
import pandas as pd

# pyrefly: ignore[missing-module-attribute]  # MLflow makes it as it is imported
from mlflow.data import from_pandas
from mlflow.metrics import MetricValue
from mlflow.models import EvaluationResult, MetricThreshold, make_metric
from mlflow.models.evaluation.validation import ModelValidationFailedException

from Codes.gate.report import Check, Report
from Codes.ground.errors import WorkbookError
from Codes.ground.labels import number, score
from Codes.judgement import baseline as baselines, paired
from Codes.judgement.paired import Answers, Rows
from Codes.judgement.scored import Estimate, Scored
from Codes.modeling import evaluation
from Codes.problems import data, rows as rows_
from Codes.problems.problem import Problem
from Codes.saved_models import reproduction, trust

BETTER = "better than the one in production"
BASELINE = "better than the baseline"
SURELY = "better, with the whole 95 % interval"
GATE = "gate"  # before the workbook's metrics among MLflow's
REFUSED = 0.5  # of the rows, that a first version may refuse for a category that training never saw
STRANGE = 0.001  # of the rows, which may hold a category more that training never saw
LUCK = 0.025  # the chance that a model that is no better passes one look
TOO_LIKELY = 0.2  # the chance that one of several does, from which on it is warned of
SHARE_OF_GAIN = (
    0.1  # of what the champion gains over the baseline: what a slice may lose by default
)


@dataclass(frozen=True)
class Trained:
    """How the training rows of a run were drawn (`rows`, `seed`), and their `digest`.

    `by_file`: whether the run was scored since rows are for training, validation or test by the problem's file.
    """

    run_id: str
    rows: int
    seed: int
    digest: str
    by_file: bool = True


def training_rows(table: data.Table, trained: Trained) -> pd.DataFrame:
    """The rows of `table` that the model of the run was trained on, none of which is a test row.

    Raises:
        WorkbookError: they cannot be known: the table or its split have changed, or it is a run of before.
    """
    problem, frame = table.problem, table.load(trained.rows, trained.seed)
    for train in _trainings(problem, frame):
        if data.digest(train) == trained.digest:
            return train
    if trained.by_file:
        raise WorkbookError(
            f"the table of {problem.name}, or how its file splits it, has changed since the run {trained.run_id}: "
            "train it again."
        )
    raise WorkbookError(
        f"the run {trained.run_id} may have seen test rows of {problem.name}: it is of before rows were for training, "
        "validation or test by the problem's file, or it logged them otherwise than by data.dataset; train it again."
    )


def _trainings(problem: Problem, frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """What a notebook may train on: data.to_train, and of a small table the one side of data.split, too."""
    yield data.to_train(frame, problem)
    if data.is_small(frame, problem):
        with contextlib.suppress(WorkbookError):
            yield data.split(frame, problem)[0]


def test_rows(table: data.Table) -> Rows:
    """The test rows of `table`, which nobody else looks at, with the draws on which models are compared."""
    problem, frame = table.problem, table.test()
    return Rows(problem, frame, data.blocks(frame, problem), rows_.digest(frame, problem, "test"))


# --- the checks


def check(  # pylint: disable=too-many-arguments,too-many-locals
    rows: Rows,
    candidate: trust.Loaded,
    champion: trust.Loaded | None = None,
    *,
    against: str = "",
    looks: int = 1,
) -> Report:
    """The Report on `candidate` (a trust.Loaded) against `champion` (the one in production; None: there is none).

    What MLflow evaluates is logged to the active run.

    Args:
        against: the words for the champion; without one: why what is in production cannot be compared with.
        looks: how often the test rows were looked at, with this time.
    """
    problem, models = rows.problem, {"candidate": candidate}
    models |= {"champion": champion} if champion else {}
    answers = {name: answered(rows, model) for name, model in models.items()}
    baseline = baselines.fit(problem, rows.frame)
    constant = Answers(baseline.predictions(rows.frame), baseline.labels)
    scored = {name: rows.measure(each, constant) for name, each in answers.items()}
    metrics = measured(problem, answers).assign(
        baseline=lambda f: f.metric.map(baseline.measure(rows.frame)).astype(float)
    )
    evaluation.check_metric(problem, list(metrics.metric))
    slices = paired.slices(rows, answers["candidate"], answers.get("champion", constant))
    evaluated = evaluate(problem, answers["candidate"].table, candidate)
    gain = rows.cautious(scored["candidate"].gain())
    checks, decisive = [*thresholds(problem, evaluated)], gain
    checks.append(_beats_baseline(scored["candidate"], gain, baseline, answers["candidate"]))
    if champion:
        decisive = paired.difference(rows, scored["candidate"], scored["champion"])
        checks.append(_beats_champion(scored, decisive, answers, against))
        checks += _leaves_nobody_behind(problem, slices, _loss(rows, scored["champion"]))
        checks.append(_fits_signature(candidate, champion))
        checks.append(_knows_the_categories(rows.frame, candidate, champion))
    elif against:
        checks.append(Check(BETTER, False, f"cannot be compared: {against}", "a comparison"))
    if not champion:
        checks += _refuses_few(rows.frame, candidate)
        slices = slices.rename(columns={"champion": "baseline"})
    metrics = with_difference(problem, metrics, decisive)
    checks += in_clean_process(candidate, problem.gate.latency_ms)
    return Report(tuple(checks), metrics, slices, (looked(looks, decisive),))


def answered(rows: Rows, model: trust.Loaded) -> Answers:
    """What `model` (a trust.Loaded) answers for the rows."""
    X, y = data.features(rows.frame, rows.problem), data.target(rows.frame, rows.problem)
    return Answers(evaluation.predictions(model.pipeline, model.ordered(X), y), model.labels)


def measured(problem: Problem, answers: dict) -> pd.DataFrame:
    """A row for each metric, a column for each of `answers` ({name: Answers})."""
    found = {n: evaluation.measure(problem, a.table, a.labels) for n, a in answers.items()}
    table = pd.DataFrame(found)
    return table.rename_axis("metric").reset_index()


def with_difference(problem: Problem, metrics: pd.DataFrame, decisive: Estimate) -> pd.DataFrame:
    """`metrics` with how much better the candidate is in each, and the deciding one's interval.

    Better than the champion; where there is none, than the baseline.
    """
    sign = metrics.metric.map(lambda n: 1 if problem.directions[n] == "maximize" else -1)
    deciding = metrics.metric == problem.metric.name
    other = metrics.champion if "champion" in metrics else metrics.baseline
    return metrics.assign(
        difference=(metrics.candidate - other) * sign,
        low=pd.Series(decisive.low, metrics.index).where(deciding),
        high=pd.Series(decisive.high, metrics.index).where(deciding),
    )


def looked(looks: int, decisive: Estimate) -> str:
    """How often the test rows were looked at, and what that means for the `decisive` Estimate."""
    sentence = f"The test rows were looked at {looks} time{'s' * (looks > 1)}, with this one."
    chance = 1 - (1 - LUCK) ** looks
    if chance <= TOO_LIKELY:
        return sentence
    level = 1 - 2 * LUCK / looks
    return (
        f"**{sentence} That is often**: of {looks} models that are no better, one passes by luck with a chance of "
        f"about {chance:.0%} (1 − {1 - LUCK:g}^{looks}; at most {min(1, looks * LUCK):.1%} by the union bound), and "
        "more where each was made with the refusal of the last in mind (Dwork et al., Science 349, 2015). With an "
        f"interval that allows for it (Bonferroni) it is {paired.told(decisive, level)}. Fresh test rows end it: a "
        "later cutoff, or a table that has grown."
    )


def evaluate(problem: Problem, table: pd.DataFrame, model: trust.Loaded) -> EvaluationResult:
    """MLflow's evaluation of the `table` of predictions of `model`, logged to the active run; an EvaluationResult.

    Beside MLflow's own metrics of the task it has the workbook's, as `gate/roc_auc`, and is linked with the model.
    """

    def ours(predictions: pd.Series, targets: pd.Series, metrics: Mapping[str, Any]) -> MetricValue:
        # pylint: disable=unused-argument  # MLflow asks for these names
        # it tries the function on one row first; the probabilities are in our table alone
        whole = len(predictions) == len(table)
        found = evaluation.measure(problem, table, model.labels) if whole else {}
        return MetricValue(aggregate_results=found)

    dataset = from_pandas(
        table[["actual", "predicted"]].reset_index(drop=True),
        name=f"{problem.name} test",
        targets="actual",
        predictions="predicted",
    )
    with _quiet():
        return mlflow.models.evaluate(
            data=dataset,
            model_type={"classification": "classifier"}.get(problem.task, "regressor"),
            extra_metrics=[make_metric(eval_fn=ours, greater_is_better=True, name=GATE)],
            evaluators="default",
            # 02_train shows what it relies on
            evaluator_config={"log_model_explainability": False},
            model_id=model.meta.model_id,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is said or shown meanwhile: the Checks tell it all; scikit-learn would complain of MLflow's one row."""
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
            for each in set(plt.get_fignums()) - set(before):
                plt.close(each)  # MLflow leaves an empty one, which a notebook would show


def thresholds(problem: Problem, evaluated: EvaluationResult) -> Iterator[Check]:
    """A Check for each threshold of the problem's file, validated by MLflow; a metric that is no number fails.

    Args:
        evaluated: an EvaluationResult, see `evaluate`.
    """
    for name, bound in problem.gate.thresholds.items():
        more = problem.directions[name] == "maximize"
        value = evaluated.metrics.get(f"{GATE}/{name}", math.nan)
        yield Check(
            f"threshold of {name}",
            math.isfinite(value) and _validates(evaluated, name, bound, more),
            score(value),
            f"at least {bound}" if more else f"at most {bound}",
        )


def _validates(evaluated: EvaluationResult, name: str, bound: float, more: bool) -> bool:
    rule = {f"{GATE}/{name}": MetricThreshold(threshold=bound, greater_is_better=more)}
    try:
        with _quiet():
            mlflow.validate_evaluation_results(rule, evaluated)
    except ModelValidationFailedException:
        return False
    return True


def _beats_baseline(
    scored: Scored, gain: Estimate, baseline: baselines.Baseline, answers: Answers
) -> Check:
    """Better than what needs no model, by more than luck; never one that answers every row alike.

    Another constant than the baseline's may lie nearer to test rows whose level has moved.
    """
    found = (
        f"{scored.metric} {score(scored.score)} against {score(scored.baseline)} of {baseline.name}, "
        f"{paired.told(gain)}"
    )
    if answers.constant:
        found += ": it answers every row alike"
    passed = gain.low > 0 and not answers.constant
    return Check(BASELINE, bool(passed), found, SURELY)


def _beats_champion(
    scored: Mapping[str, Scored], decisive: Estimate, answers: Mapping[str, Answers], against: str
) -> Check:
    one, other = scored["candidate"], scored["champion"]
    both = f"{score(one.score)} against {score(other.score)}"
    found = f"{one.metric} {both} of {against}, {paired.told(decisive)}"
    if answers["candidate"].same(answers["champion"]):
        found = f"the same answers on all {one.rows:,} rows as {against}"
    return Check(BETTER, bool(decisive.low > 0), found, SURELY)


def _loss(rows: Rows, champion: Scored) -> float:
    """How much worse a slice may be: as the problem's file says, else a tenth of what the champion gains."""
    given = rows.problem.gate.slice_loss
    return max(0.0, SHARE_OF_GAIN * champion.gain().value) if given is None else given


def _leaves_nobody_behind(problem: Problem, slices: pd.DataFrame, loss: float) -> Iterator[Check]:
    # of a slice of one class, such a metric as roc_auc is no number for any model
    measured_ones = slices[slices.champion.notna()] if len(slices) else slices
    if measured_ones.empty:
        return
    without = len(slices) - len(measured_ones)
    behind = paired.left_behind(measured_ones, loss)
    worst = measured_ones[behind].iloc[0] if behind.any() else measured_ones.iloc[0]
    yield Check(
        "no slice left behind",
        not behind.any(),
        f"{worst.column} {worst.value} ({worst.rows} rows): {problem.metric.name} {score(worst.candidate)} against "
        f"{score(worst.champion)}, {paired.better(worst.difference)}{_surely(worst, len(measured_ones))}"
        + (f"; {without} cannot be measured" if without else ""),
        f"worse by {number(loss)} at most, but for what luck does",
    )


def _surely(worst: Any, count: int) -> str:
    """', surely …' where even the interval that holds for all slices at once lies below nothing."""
    return f" (at least {number(-worst.high)}, with all {count} slices)" if worst.high < 0 else ""


def _fits_signature(candidate: trust.Loaded, champion: trust.Loaded) -> Check:
    """Whoever can ask the model in production can ask this one: the same columns, of the same types."""
    served = {c.name: c for c in champion.schema.inputs}
    own = set(candidate.schema.input_names())
    trouble = [f"column {name} is gone" for name in served if name not in own]
    for column in candidate.schema.inputs:
        known, kind = served.get(column.name), candidate.kinds[str(column.name)]
        if known is None:
            trouble.append(f"new column {column.name}")
        elif (before := champion.kinds[str(column.name)]) != kind and (before, kind) != (
            "long",
            "double",  # takes whole numbers as well
        ):
            trouble.append(f"{column.name} is {kind} instead of {before}")
        elif column.required and not known.required:
            trouble.append(f"{column.name} may lack no more")
    outputs = [_kind(m.meta.signature.outputs) for m in (candidate, champion)]
    if outputs[0] != outputs[1]:
        trouble.append("another kind of answer")
    answer = "; ".join(trouble) or "every request that is answered now still is"
    return Check("signature", not trouble, answer, "what those who ask now send and get")


def _knows_the_categories(
    frame: pd.DataFrame, candidate: trust.Loaded, champion: trust.Loaded
) -> Check:
    """A request with a category that training never saw is refused: hardly more rows of `frame` than today."""
    mine, theirs = (_strange(frame, m.categories).sum() for m in (candidate, champion))
    return Check(
        "categories",
        bool(mine <= theirs + STRANGE * len(frame)),
        f"{mine} of {len(frame)} rows hold one that it never saw",
        f"{theirs} as of the one in production, and {STRANGE:.1%} more",
    )


def _refuses_few(frame: pd.DataFrame, candidate: trust.Loaded) -> list[Check]:
    """With none in production: a model that asks for a ticket's number or a name refuses nearly every new row."""
    strange = int(_strange(frame, candidate.categories).sum())
    if strange <= STRANGE * len(frame):
        return []
    alone = {n: _strange(frame, {n: known}).sum() for n, known in candidate.categories.items()}
    most = max(alone, key=lambda name: alone[name])
    found = f"{strange} of {len(frame)} rows hold one that it never saw, most in '{most}': such requests are refused"
    return [
        Check("categories", strange <= REFUSED * len(frame), found, f"{REFUSED:.0%} of the rows")
    ]


def _strange(frame: pd.DataFrame, categories: Mapping[str, set]) -> pd.Series:
    """A mask of the rows of `frame` with a value that is not in `categories` ({column: set})."""
    strange = pd.Series(False, index=frame.index)
    for name, known in categories.items():
        strange |= frame[name].notna() & ~frame[name].isin(known)
    return strange


def _kind(outputs: Any) -> list[str]:
    """What a model answers; text is text, however NumPy holds it."""
    kinds = [getattr(part.type, "kind", part.type) for part in outputs]
    return ["text" if kind in ("O", "U") else str(kind) for kind in kinds]


def in_clean_process(candidate: trust.Loaded, most_ms: float | None = None) -> list[Check]:
    """Load the model in a process of its own, with its own pinned packages: its answers, and what one row takes."""
    recorded = candidate.recorded
    reproduced, where = reproduction.ask(candidate, timed=most_ms is not None)
    if "error" in reproduced:
        return [Check("loads in a clean process", False, reproduced["error"], f"with {where}")]
    agrees = recorded is not None and trust.same(reproduced["answers"], recorded)
    apart = "no answers were recorded" if recorded is None else "others than those recorded"
    same = f"{len(reproduced['answers'])} rows, the same" if agrees else apart
    loads = f"in {1000 * reproduced['seconds']:.0f} ms"
    checks = [
        Check("loads in a clean process", True, loads, f"with {where}"),
        Check("reproduces its recorded answers", agrees, same, "those of training"),
    ]
    if most_ms is not None:
        taken = f"{reproduced['p95_ms']:.1f} ms of the processor (95 of 100 answers)"
        fits = reproduced["p95_ms"] <= most_ms
        checks.append(Check("latency of one row", fits, taken, f"at most {most_ms:g} ms"))
    return checks
