"""The model card: what a version predicts, from what, how well, where it is weak, and its limits, from its run's facts.

The headings follow Mitchell et al., Model Cards for Model Reporting, 2019 (https://arxiv.org/abs/1810.03993).
"""

from Codes import gate, identity, tables

MOST = 5000  # characters that MLflow keeps of a description
WEAKEST = 5  # slices that are named


def write(problem, run, loaded, rows, metrics, slices):  # pylint: disable=R0913,R0917
    """The card of the model `loaded` (trust.Loaded) of the MLflow `run`, as Markdown.

    Args:
        rows: how many held-out rows `metrics` and `slices` (gate.compare, gate.by_slice) were taken over.
    """
    parts = [
        f"**{problem.title}**",
        _predicts(problem, loaded),
        f"## Data\n{_data(run)}",
        f"## Metrics\n{_scores(problem, run)}\n\nOn {rows:,} rows that no training saw:\n\n"
        + gate.as_markdown(metrics[["metric", "candidate"]].rename(columns={"candidate": "value"})),
        f"## Where it is weak\n{_weak(problem, slices)}",
        f"## Limits\n{_limits(problem, loaded)}",
        f"## Made by\n{_made(run, loaded)}",
    ]
    return "\n\n".join(parts)[:MOST]


def _predicts(problem, loaded):
    answers = (
        "an amount" if loaded.labels is None else f"one of {', '.join(map(str, loaded.labels))}"
    )
    columns = ", ".join(loaded.schema.input_names())
    return f"Predicts `{problem.target}` ({problem.task}: {answers}) from {columns}."


def _data(run):
    lines = []
    for entry in run.inputs.dataset_inputs:
        use = next((t.value for t in entry.tags if t.key.endswith("context")), "")
        lines.append(f"- {use}: {entry.dataset.name}, digest `{entry.dataset.digest}`")
    return "\n".join(lines) or "not recorded"


def _scores(problem, run):
    name, metrics = problem.metric.name, run.data.metrics
    if f"test_{name}" not in metrics:
        return f"The run did not log test_{name}."
    error = metrics.get(f"error_{name}")
    around = f" ± {1.96 * error:.4f} (95 %)" if error else ""
    told = [f"{name} of its own hold-out: **{metrics[f'test_{name}']:.4f}**{around}"]
    told += [
        f"{w} {metrics[f'{w}_{name}']:.4f}"
        for w in ("train", "baseline")
        if f"{w}_{name}" in metrics
    ]
    return ", ".join(told) + "."


def _weak(problem, slices):
    if "candidate" not in slices:
        return "No slices are named in the problem's file (`gate: slices`)."
    return gate.as_markdown(slices[["column", "value", "rows", "candidate"]].head(WEAKEST)) + (
        f"\n\n(the {min(WEAKEST, len(slices))} weakest of {len(slices)} by {problem.metric.name})"
    )


def _limits(problem, loaded):
    told = [
        f"- Measured on the hold-out by {problem.split.kind}; other times and places are untested."
    ]
    if problem.time:
        told.append(
            f"- `{problem.time}` orders the rows; what changes later is drift, which is to be watched."
        )
    if loaded.categories:
        told.append(
            f"- Knows only those values of {', '.join(loaded.categories)} that training saw."
        )
    if problem.exclude:
        told.append(
            f"- Left out on purpose: {', '.join(name or tables.UNNAMED for name in problem.exclude)}."
        )
    return "\n".join(told)


def _made(run, loaded):
    tags, run_id = run.data.tags, run.info.run_id
    commit = tags.get("mlflow.source.git.commit", "no git commit")
    dirty = " with uncommitted changes" if tags.get(identity.DIRTY) == "true" else ""
    pins = (loaded.folder / "requirements.txt").read_text("utf-8").split()
    return "\n".join(
        [
            f"- notebook {tags.get(identity.NOTEBOOK)}; executed copy: artifact `notebook.html` of run `{run_id}`",
            f"- code {commit[:12]}{dirty}, by {tags.get('mlflow.user', 'unknown')}",
            f"- parameters {', '.join(f'{k}={v}' for k, v in sorted(run.data.params.items()) if v)}"[
                :800
            ],
            f"- packages {', '.join(pins)}",
        ]
    )
