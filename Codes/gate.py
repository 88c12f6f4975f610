"""The gate before production: what a model must show, each check with what was found and what is allowed.

MLflow evaluates the candidate and validates the thresholds (https://mlflow.org/docs/latest/ml/evaluation/); the
comparison with the model in production is a paired bootstrap over the same rows (Efron and Tibshirani, An Introduction
to the Bootstrap, 1993).
"""

import contextlib
import json
import logging
import math
import warnings
from dataclasses import asdict, dataclass

import mlflow
import numpy as np
import pandas as pd
from mlflow.data import from_pandas
from mlflow.metrics import MetricValue
from mlflow.models import MetricThreshold, make_metric
from mlflow.models.evaluation.validation import ModelValidationFailedException

from Codes import data, evaluation, reproduction, trust
from Codes.errors import WorkbookError

MOST_ROWS = 25_000  # of the hold-out; more would say the same, later
RESAMPLES, RESAMPLED_ROWS = 200, 5000
SURE = 1.96  # half the width of a 95 % interval, in standard errors
BETTER = "better than the one in production"
GATE = "gate"  # before the workbook's metrics among MLflow's
STRANGE = 0.001  # of the rows, which may hold a category more that training never saw


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: whether it passed, what was found, what is allowed."""

    name: str
    passed: bool
    found: str
    allowed: str


@dataclass(frozen=True)
class Report:
    """What the gate found: its checks, and the tables behind them."""

    checks: tuple
    metrics: pd.DataFrame  # a row a metric: candidate, champion, difference, low, high
    slices: pd.DataFrame  # a row a group: column, value, rows, candidate, champion, difference

    @property
    def passed(self):
        """Whether every check did."""
        return all(check.passed for check in self.checks)

    @property
    def refusal(self):
        """What failed, with both numbers, in one line; empty where nothing did."""
        failed = [c for c in self.checks if not c.passed]
        return "; ".join(f"{c.name}: {c.found}, allowed: {c.allowed}" for c in failed)

    def table(self):
        """The checks as a frame."""
        frame = pd.DataFrame([asdict(check) for check in self.checks])
        return frame.assign(passed=frame.passed.map({True: "✓", False: "✗"}))

    def markdown(self):
        """The whole report as Markdown."""
        parts = [("Checks", self.table()), ("Metrics", self.metrics), ("Slices", self.slices)]
        shown = [f"## {title}\n\n{as_markdown(frame)}" for title, frame in parts if len(frame)]
        verdict = "passed" if self.passed else "refused"
        return f"# Gate: {verdict}\n\n{self.checks_list()}\n\n" + "\n\n".join(shown) + "\n"

    def checks_list(self):
        """The failed checks as a Markdown list, each with what was found and what is allowed."""
        failed = [c for c in self.checks if not c.passed]
        lines = [f"- ✗ **{c.name}**: {c.found} (allowed: {c.allowed})" for c in failed]
        passed = len(self.checks) - len(failed)
        return "\n".join([*lines, f"- ✓ {passed} of {len(self.checks)} checks passed"])

    def note(self, metric, version, current):
        """The verdict on `version` for the UI, in a few lines; `current` is the number of the one in production."""
        against = f"version {current} in production" if current else "a constant answer"
        scored = self.metrics[self.metrics.metric == metric]
        told = "".join(f", {metric} {value:.4f}" for value in scored.candidate)
        verdict = "Passed" if self.passed else "Refused"
        head = f"**{verdict}**: {version}{told}, against {against}."
        return (
            f"{head}\n\n{self.checks_list()}\n\nThe whole report: artifacts `gate.md`, `gate.png`."[
                :5000
            ]
        )

    def as_json(self):
        """The whole report as JSON."""
        tables = {n: json.loads(getattr(self, n).to_json(orient="records")) for n in TABLES}
        checks = [asdict(check) for check in self.checks]
        return json.dumps({"passed": self.passed, "checks": checks, **tables}, indent=1)


TABLES = ("metrics", "slices")


def as_markdown(frame):
    """`frame` as a Markdown table, numbers with four digits."""
    lines = [list(frame.columns), ["---"] * frame.shape[1]]
    lines += [[_cell(v) for v in row] for row in frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _cell(value):
    return f"{value:.4f}" if isinstance(value, float) else str(value).replace("|", "\\|")


def unseen(problem, trained, most=MOST_ROWS):
    """Rows of the whole table that none of the models was trained on, and that the problem holds out.

    Args:
        trained: of each model {"rows", "seed", "digest"}: how its training rows were drawn, and their digest.
        most: of more rows, so many are drawn, always the same.

    Raises:
        WorkbookError: the table is not the one that a model was trained on, or no row is left.
    """
    return data.test(problem)


def compare(problem, frame, candidate, champion=None):
    """(table of metrics, {name: predictions}) of the models (trust.Loaded) on the rows of `frame`.

    The table has for each metric candidate, champion, difference (positive: the candidate is better) and, of the
    deciding one, the 95 % interval low to high of that difference.
    """
    X, y = data.features(frame, problem), data.target(frame, problem)
    models = {"candidate": candidate} | ({"champion": champion} if champion else {})
    predicted = {n: evaluation.predictions(m.pipeline, m.ordered(X), y) for n, m in models.items()}
    table = pd.DataFrame(
        {n: evaluation.measure(problem, p, models[n].labels) for n, p in predicted.items()}
    )
    evaluation.check_metric(problem, list(table.index))
    table = table.rename_axis("metric").reset_index()
    if champion:
        sign = table.metric.map(lambda name: 1 if problem.directions[name] == "maximize" else -1)
        table["difference"] = (table.candidate - table.champion) * sign
        error = _error_of_difference(problem, predicted, models)
        deciding = table.metric == problem.metric.name
        table["low"] = (table.difference - SURE * error).where(deciding)
        table["high"] = (table.difference + SURE * error).where(deciding)
    return table, predicted


def _error_of_difference(problem, predicted, models):
    """The standard error of the difference in the deciding metric: both are measured on each redrawn set of rows."""
    random, count = np.random.default_rng(0), len(predicted["candidate"])
    size = min(count, RESAMPLED_ROWS)
    differences = []
    for _ in range(RESAMPLES):
        rows = random.integers(0, count, size)
        both = [
            _deciding(problem, predicted[n].iloc[rows], models[n])
            for n in ("candidate", "champion")
        ]
        differences.append(both[0] - both[1])
    return float(np.nanstd(differences, ddof=1) * np.sqrt(size / count))


def _deciding(problem, table, model):
    name = problem.metric.name
    return evaluation.measure(problem, table, model.labels, only=name).get(name, math.nan)


def by_slice(problem, frame, predicted, models):
    """The deciding metric in each group of the problem's slices that has enough rows, the worst difference on top."""
    sign, rows = 1 if problem.metric.direction == "maximize" else -1, []
    for column in problem.gate.slices:
        for value, group in frame.groupby(column, observed=True, dropna=False):
            if len(group) < problem.gate.slice_rows:
                continue
            label = "missing" if pd.isna(value) else str(value)
            row = {"column": column, "value": label, "rows": len(group)}
            for name, model in models.items():
                row[name] = _deciding(problem, predicted[name].loc[group.index], model)
            if "champion" in row:
                row["difference"] = (row["candidate"] - row["champion"]) * sign
            rows.append(row)
    table = pd.DataFrame(rows, columns=list(rows[0]) if rows else ["column", "value", "rows"])
    if "difference" in table:
        return table.sort_values("difference", ignore_index=True)
    if "candidate" in table:
        return table.sort_values("candidate", ascending=sign > 0, ignore_index=True)
    return table


# --- the checks


def check(problem, frame, candidate, champion=None, hindrance=""):
    """The Report on `candidate` (a trust.Loaded) against `champion` (the one in production; None: there is none).

    What MLflow evaluates is logged to the active run.

    Args:
        frame: held-out rows that neither has seen (see `unseen`), with the target.
        hindrance: why there is no `champion` to compare with although one is in production.
    """
    metrics, predicted = compare(problem, frame, candidate, champion)
    models = {"candidate": candidate} | ({"champion": champion} if champion else {})
    slices = by_slice(problem, frame, predicted, models)
    evaluated = evaluate(problem, predicted["candidate"], candidate)
    checks = [*thresholds(problem, evaluated)]
    checks.append(_beats_baseline(problem, frame, metrics))
    if hindrance:
        checks.append(Check(BETTER, False, f"cannot be compared: {hindrance}", "a comparison"))
    if champion:
        checks.append(_beats_champion(problem, metrics))
        checks += _leaves_nobody_behind(problem, slices)
        checks.append(_fits_signature(candidate, champion))
        checks.append(_knows_the_categories(frame, candidate, champion))
    checks += in_clean_process(candidate, problem.gate.latency_ms)
    return Report(tuple(checks), metrics, slices)


def evaluate(problem, table, model):
    """MLflow's evaluation of the `table` of predictions of `model`, logged to the active run; an EvaluationResult.

    Beside MLflow's own metrics of the task it has the workbook's, as `gate/roc_auc`, and is linked with the model.
    """

    def ours(predictions, targets, metrics):
        # pylint: disable=unused-argument  # MLflow asks for these names
        # it tries the function on one row first; the probabilities are in our table alone
        whole = len(predictions) == len(table)
        found = evaluation.measure(problem, table, model.labels) if whole else {}
        return MetricValue(aggregate_results=found)

    dataset = from_pandas(
        table[["actual", "predicted"]].reset_index(drop=True),
        name=f"{problem.name} hold-out",
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
def _quiet():
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
            for number in set(plt.get_fignums()) - set(before):
                plt.close(number)  # MLflow leaves an empty one, which a notebook would show


def thresholds(problem, evaluated):
    """A Check for each threshold of the problem's file, validated by MLflow; a metric that is no number fails.

    Args:
        evaluated: an EvaluationResult, see `evaluate`.
    """
    ours = {n.partition("/")[2]: v for n, v in evaluated.metrics.items() if n.startswith(GATE)}
    for name, bound in problem.gate.thresholds.items():
        if name not in problem.directions:
            there = ", ".join(ours)
            raise WorkbookError(
                f"{problem.name}: gate.thresholds: no metric '{name}'; there are {there}."
            )
        more = problem.directions[name] == "maximize"
        value = ours.get(name, math.nan)
        yield Check(
            f"threshold of {name}",
            math.isfinite(value) and _validates(evaluated, name, bound, more),
            f"{value:.4f}",
            f"at least {bound}" if more else f"at most {bound}",
        )


def _validates(evaluated, name, bound, more):
    rule = {f"{GATE}/{name}": MetricThreshold(threshold=bound, greater_is_better=more)}
    try:
        with _quiet():
            mlflow.validate_evaluation_results(rule, evaluated)
    except ModelValidationFailedException:
        return False
    return True


def _beats_baseline(problem, frame, metrics):
    """Better than always the same answer, the best that needs no features, on the same rows."""
    name = problem.metric.name
    value = dict(zip(metrics.metric, metrics.candidate)).get(name, math.nan)
    y = data.target(frame, problem)
    if problem.task == "regression":
        table = pd.DataFrame({"actual": y, "predicted": y.mean()})
        classes = None
    else:
        shares = y.value_counts(normalize=True).sort_index()
        classes = list(shares.index)
        columns = {f"probability of {label}": share for label, share in shares.items()}
        table = pd.DataFrame({"actual": y, "predicted": shares.idxmax()}).assign(**columns)
    baseline = evaluation.measure(problem, table, classes, only=name).get(name, math.nan)
    better = value > baseline if problem.metric.direction == "maximize" else value < baseline
    return Check(
        "better than a constant answer",
        bool(better),
        f"{name} {value:.4f}",
        f"beyond {baseline:.4f}",
    )


def _beats_champion(problem, metrics):
    row = metrics[metrics.metric == problem.metric.name].iloc[0]
    return Check(
        BETTER,
        bool(row.low > 0),
        f"{row.metric} {row.candidate:.4f} against {row.champion:.4f}, "
        f"better by {row.difference:.4f} (95 %: {row.low:.4f} to {row.high:.4f})",
        "the interval above 0",
    )


def _leaves_nobody_behind(problem, slices):
    if slices.empty:
        return
    # of a slice of one class, such a metric as roc_auc is no number for any model
    measured = slices[slices.champion.notna()]
    if measured.empty:
        return
    most, without = problem.gate.slice_loss, len(slices) - len(measured)
    worst = measured.sort_values("difference", na_position="first").iloc[0]
    yield Check(
        "no slice left behind",
        bool(worst.difference >= -most),
        f"{worst.column} {worst.value} ({worst.rows} rows): {problem.metric.name} "
        f"{worst.candidate:.4f} against {worst.champion:.4f}"
        + (f"; {without} cannot be measured" if without else ""),
        f"worse by {most:g} at most",
    )


def _fits_signature(candidate, champion):
    """Whoever can ask the model in production can ask this one: the same columns, of the same types."""
    served = {c.name: c for c in champion.schema.inputs}
    own = set(candidate.schema.input_names())
    trouble = [f"column {name} is gone" for name in served if name not in own]
    for column in candidate.schema.inputs:
        known = served.get(column.name)
        if known is None:
            trouble.append(f"new column {column.name}")
        elif (known.type.name, column.type.name) not in (
            (known.type.name, known.type.name),
            ("long", "double"),  # takes whole numbers as well
        ):
            trouble.append(f"{column.name} is {column.type.name} instead of {known.type.name}")
        elif column.required and not known.required:
            trouble.append(f"{column.name} may lack no more")
    outputs = [_kind(m.meta.signature.outputs) for m in (candidate, champion)]
    if outputs[0] != outputs[1]:
        trouble.append("another kind of answer")
    found = "; ".join(trouble) or "every request that is answered now still is"
    return Check("signature", not trouble, found, "what those who ask now send and get")


def _knows_the_categories(frame, candidate, champion):
    """A request with a category that training never saw is refused: hardly more rows of `frame` than today."""
    mine, theirs = (_strange(frame, m.categories).sum() for m in (candidate, champion))
    return Check(
        "categories",
        bool(mine <= theirs + STRANGE * len(frame)),
        f"{mine} of {len(frame)} rows hold one that it never saw",
        f"{theirs} as of the one in production, and {STRANGE:.1%} more",
    )


def _strange(frame, categories):
    """A mask of the rows of `frame` with a value that is not in `categories` ({column: set})."""
    found = pd.Series(False, index=frame.index)
    for name, known in categories.items():
        found |= frame[name].notna() & ~frame[name].isin(known)
    return found


def _kind(outputs):
    """What a model answers; text is text, however NumPy holds it."""
    kinds = [getattr(part.type, "kind", part.type) for part in outputs]
    return ["text" if kind in ("O", "U") else str(kind) for kind in kinds]


def in_clean_process(candidate, most_ms):
    """Load the model in a process of its own, with its own pinned packages: its answers, and how fast they come."""
    recorded = candidate.recorded
    found, where = reproduction.ask(candidate)
    if "error" in found:
        return [Check("loads in a clean process", False, found["error"], f"with {where}")]
    agrees = recorded is not None and trust.same(found["answers"], recorded)
    apart = "no answers were recorded" if recorded is None else "others than those recorded"
    return [
        Check(
            "loads in a clean process",
            True,
            f"in {1000 * found['seconds']:.0f} ms",
            f"with {where}",
        ),
        Check(
            "reproduces its recorded answers",
            agrees,
            f"{len(found['answers'])} rows, the same" if agrees else apart,
            "those of training",
        ),
        Check(
            "latency of one row",
            found["p95_ms"] <= most_ms,
            f"{found['p95_ms']:.1f} ms (95 of 100 answers)",
            f"at most {most_ms:g} ms",
        ),
    ]
