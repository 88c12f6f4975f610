"""The model card: what a version predicts, from what, how well, where it is weak, and its limits, from its run's facts.

The headings follow Mitchell et al., Model Cards for Model Reporting, 2019 (https://arxiv.org/abs/1810.03993).
"""

import contextlib
import re

import pandas as pd
from mlflow.entities import DatasetInput, Run

from Codes.gate.report import Report, as_markdown
from Codes.ground import labels
from Codes.judgement.scored import FOLDS, HOLD_OUT, TAG, Scored
from Codes.problems.problem import Problem
from Codes.runs import identity, ui_links
from Codes.saved_models import trust
from Codes.tables import reader

MOST = 5000  # characters that MLflow keeps of a description
WEAKEST = 5  # slices that are named
GATE = "## At the gate\n"  # the heading of what is told once it was there


def write(
    problem: Problem, run: Run, loaded: trust.Loaded, slices: pd.DataFrame | None = None
) -> str:
    """The card of the model `loaded` (trust.Loaded) of the MLflow `run`, as Markdown.

    Args:
        slices: paired.slices of the validation rows; None where the run kept no predictions of them.
    """
    parts = [
        f"**{problem.title}**",
        _predicts(problem, loaded),
        f"{GATE}It was not examined yet.",
        f"## Data\n{_data(run)}",
        f"## Metrics\n{_scores(problem, run)}",
        f"## Where it is weak\n{_weak(problem, slices, _kept(run))}",
        f"## Limits\n{_limits(problem, loaded)}",
        f"## Made by\n{_made(run, loaded)}",
    ]
    return "\n\n".join(parts)[:MOST]


def judged(text: str, report: Report, against: str, run: Run) -> str:
    """The card `text` with what the gate found (`report`, of the `run`); somebody's own stays as it is."""
    if GATE not in text:
        return text
    verdict = f"{report.verdict} against {against} ({ui_links.link(run, 'the report')})."
    failed = f"{report.refusal[0].upper()}{report.refusal[1:]}." if report.refusal else ""
    sentences = " ".join(each for each in (verdict, failed, *report.notes) if each)
    return re.sub(f"{GATE}.*?(?=\n\n## |$)", lambda _: GATE + sentences, text, flags=re.S)[:MOST]


def _predicts(problem: Problem, loaded: trust.Loaded) -> str:
    answers = (
        "an amount" if loaded.labels is None else f"one of {', '.join(map(str, loaded.labels))}"
    )
    columns = ", ".join(problem.called(name) for name in loaded.schema.input_names())
    meaning = problem.meaning(problem.target)
    target = f"`{problem.target}`" + (f", {meaning}" if meaning else "")
    return f"Predicts {target} ({problem.task}: {answers}) from {columns}."


def datasets(run: Run) -> list[DatasetInput]:
    """The datasets that `run` has logged."""
    return run.inputs.dataset_inputs if run.inputs else []


def _data(run: Run) -> str:
    lines = []
    for entry in datasets(run):
        use = next((t.value for t in entry.tags if t.key.endswith("context")), "")
        lines.append(f"- {use}: {entry.dataset.name}, digest `{entry.dataset.digest}`")
    return "\n".join(lines) or "not recorded"


def _scores(problem: Problem, run: Run) -> str:
    """The validation score with its interval, what it is held against, and the other metrics."""
    name, metrics = problem.metric.name, run.data.metrics
    if f"validation_{name}" not in metrics:
        return f"The run did not log validation_{name}."
    score, found = f"{name}: **{labels.score(metrics[f'validation_{name}'])}**", _kept(run)
    if found:
        score = _with_intervals(name, found)
    if problem.metric.function:
        score = f"{name} is `{problem.metric.function}`, to {problem.metric.direction}. {score}"
    if f"train_{name}" in metrics:
        score += f", on its training rows {labels.score(metrics[f'train_{name}'])}"
    others = {m.partition("_")[2]: v for m, v in metrics.items() if m.startswith("validation_")}
    table = pd.DataFrame({"metric": others.keys(), "validation": others.values()})
    return f"{score}. The test rows are the gate's alone.\n\n{as_markdown(table)}"


def _kept(run: Run) -> Scored | None:
    """The Scored that `run` has kept; None of a run that was not scored by the workbook."""
    with contextlib.suppress(ValueError):
        return Scored.from_tag(run.data.tags.get(TAG, "{}"))
    return None


def _with_intervals(name: str, found: Scored) -> str:
    """The score and the gain of a Scored, each with its 95 % interval, and where it was measured."""
    own, gain, rows = found.own(), found.gain(), f"{found.rows:,} rows"
    where = f"on {rows} that validate" if found.how == HOLD_OUT else f"by {found.how} of {rows}"
    return (
        f"{name} {where}: **{labels.score(own.value)}** ± {labels.score(own.reach())} (95 %), "
        f"{'worse' if gain.value < 0 else 'better'} than {found.floor()} by "
        f"{labels.score(abs(gain.value))} ± {labels.score(gain.reach())}"
    )


def _weak(problem: Problem, slices: pd.DataFrame | None, found: Scored | None) -> str:
    """The weakest slices, or why none can be named; `found` is the run's score."""
    if not problem.gate.slices:
        return "No slices are named in the problem's file (`gate: slices`)."
    if slices is None:
        return "Not known: the run kept no predictions by row, as `validation.score(…).log()` does."
    if slices.empty:
        return f"No slice has {problem.gate.slice_rows} rows that validate (`gate: slice_rows`)."
    where = "on validation rows"
    if found and found.how == FOLDS:
        where = "each row predicted by a model that had not seen it"
    worst = slices[["column", "value", "rows", "candidate"]].head(WEAKEST)
    shown = as_markdown(worst.rename(columns={"candidate": problem.metric.name}))
    return f"{shown}\n\n(the {len(worst)} weakest of {len(slices)}, {where})"


def _limits(problem: Problem, loaded: trust.Loaded) -> str:
    limits = [
        f"- Measured on rows held out by the split `{problem.split.kind}`; other times and places are untested."
    ]
    if problem.time:
        limits.append(
            f"- `{problem.time}` orders the rows; what changes later is drift, which is to be watched."
        )
    if loaded.categories:
        limits.append(
            f"- Knows only those values of {', '.join(loaded.categories)} that training saw."
        )
    if problem.exclude:
        limits.append(
            f"- Left out on purpose: {', '.join(name or reader.UNNAMED for name in problem.exclude)}."
        )
    return "\n".join(limits)


def _made(run: Run, loaded: trust.Loaded) -> str:
    tags = run.data.tags
    commit = tags.get("mlflow.source.git.commit", "no git commit")
    dirty = " with uncommitted changes" if tags.get(identity.DIRTY) == "true" else ""
    pins = (loaded.folder / "requirements.txt").read_text("utf-8").split()
    return "\n".join(
        [
            f"- notebook {tags.get(identity.NOTEBOOK)}; {ui_links.link(run, 'its executed copy', 'notebook.html')} of "
            f"{ui_links.link(run, f'run {run.info.run_id}')}",
            f"- code {commit[:12]}{dirty}, by {tags.get('mlflow.user', 'unknown')}",
            f"- parameters {', '.join(f'{k}={v}' for k, v in sorted(run.data.params.items()) if v)}"[
                :800
            ],
            f"- packages {', '.join(pins)}",
        ]
    )
