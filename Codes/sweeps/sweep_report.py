"""What the parent run of a sweep keeps at its end: its trials as a table and a page, the best one, pictures."""

import functools
import logging
import math
import statistics
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from types import ModuleType
from typing import Any, TYPE_CHECKING

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run, RunTag

from Codes.comparison import leaderboard, verdict
from Codes.ground import labels, manifest
from Codes.ground.errors import counted
from Codes.notebook_files import parameters
from Codes.problems import problem as problems
from Codes.runs import liveness, ui_links, tracking
from Codes.sweeps.plan import Plan, Trial
from Codes.sweeps.search import Search

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

BEST = "mlflow.workbook.sweep.best."
FEW = 2  # finished trials that a picture needs
MOST = 8  # varied parameters in one picture
PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title><style>
body {{font: 14px/1.5 system-ui, sans-serif; margin: 2em; color: #24292f}}
pre {{background: #f6f8fa; padding: 1em; overflow-x: auto}}
table {{border-collapse: collapse}} th, td {{padding: .3em .8em; text-align: right; border-bottom: 1px solid #d8dee4}}
th {{background: #f6f8fa; position: sticky; top: 0}} tr:hover td {{background: #f6f8fa}}
</style><h1>{title}</h1><p>{about}</p>{verdict}{table}"""


def keep(
    client: MlflowClient, parent: Run, plan: Plan, trials: Sequence[Trial], search: Search
) -> None:
    """Keep with the run `parent` what became of `trials`, as they stand."""
    run_id = parent.info.run_id
    frame = table(plan, trials)
    with tempfile.TemporaryDirectory(prefix="workbook-") as folder:
        frame.to_csv(Path(folder, "trials.csv"), index=False)
        Path(folder, "leaderboard.html").write_text(
            page(plan, frame, standing(plan, trials)), "utf-8"
        )
        pictures(plan, trials, search, Path(folder, "pictures"))
        client.log_artifacts(run_id, folder)
    client.log_batch(
        run_id,
        tags=[RunTag(k, str(v)[:5000]) for k, v in tags(client, parent, plan, trials).items()],
    )


def table(plan: Plan, trials: Sequence[Trial]) -> pd.DataFrame:
    """The trials, the best on top: state, varied parameters, objectives (with seeds: mean, 95 % half-width), runs."""
    rows = []
    for trial in trials:
        row = {"trial": trial.number, "state": trial.state, **trial.point}
        for metric, _ in plan.objectives:
            values = [f["metrics"].get(metric) for f in trial.facts.values()]
            finite = [v for v in values if v is not None and math.isfinite(v)]
            row[metric] = statistics.fmean(finite) if trial.values else None
            if plan.seeds > 1:
                row[f"± {metric}"] = half_width(finite) if trial.values else None
        row["seconds"] = sum(f.get("seconds", 0) for f in trial.facts.values())
        row["reused"] = trial.reused
        row["why"] = next((f["error"] for f in trial.facts.values() if f.get("error")), "")
        row["runs"] = " ".join(f["run_id"] for f in trial.facts.values() if f["run_id"])
        rows.append(row)
    metric, direction = plan.objectives[0]
    frame = pd.DataFrame(rows, columns=list(rows[0]) if rows else ["trial", "state", metric])
    return frame.sort_values(
        metric, ascending=direction == "minimize", na_position="last", kind="stable"
    )


def half_width(values: Sequence[float]) -> float:
    """Half the width of the 95 % confidence interval of the mean of `values`, by Student's t; NaN for fewer than 2."""
    if len(values) < 2:
        return math.nan
    from scipy import stats

    return float(
        stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    )


def standing(plan: Plan, trials: Sequence[Trial]) -> str:
    """How `trials` stand, as leaderboard.shown tells it; empty where they were not scored on the same rows."""
    metric, _ = plan.objectives[0]
    records = [_record(plan, t, i) for t in trials if t.values for i in t.facts]
    runs, apart = verdict.read(records, metric.removeprefix("validation_"))
    if not runs or not metric.startswith("validation_"):
        return ""
    typed = problem_of(plan)
    return leaderboard.shown(verdict.judge(problems.load(typed), runs, apart, typed))


def problem_of(plan: Plan) -> str:
    """The problem that the trials are on, by its name or path; empty where the notebook names none."""
    return plan.space.fixed.get("problem") or _default(plan, "problem")


def _record(plan: Plan, trial: Trial, number: int) -> dict[str, Any]:
    """The run of a repetition of `trial`, as tracking.runs tells of one."""
    facts = trial.facts[number]
    values = parameters.check(plan.space.declared, plan.values(trial.point, number), plan.path.name)
    start = pd.Timestamp(0)
    times = {"start_time": start, "end_time": start + pd.Timedelta(facts.get("seconds", 0), "s")}
    told = {f"params.{name}": tracking.text_of(value) for name, value in values.items()}
    told |= {f"metrics.{name}": value for name, value in facts["metrics"].items()}
    told |= {f"tags.{name}": value for name, value in facts["tags"].items()}
    return told | times | {"run_id": facts["run_id"], leaderboard.TRIAL: str(trial.number)}


def _default(plan: Plan, name: str) -> Any:
    return next((p.default for p in plan.space.declared if p.name == name), "")


def page(plan: Plan, frame: pd.DataFrame, told: str = "") -> str:
    """`frame` as one HTML page, under what is `told` of how the trials stand."""
    goals = ", ".join(f"{metric} ({direction})" for metric, direction in plan.objectives)
    seeds = (
        f", each point the mean of {plan.seeds} seeds with its 95 % interval"
        if plan.seeds > 1
        else ""
    )
    about = f"{counted(len(frame), 'trial')} by the {plan.sampler} sampler; {goals}{seeds}."
    shown = frame.drop(columns=[c for c in ("reused", "why") if c in frame and not frame[c].any()])
    html = shown.to_html(
        index=False,
        border=0,
        na_rep="",
        float_format=lambda v: labels.number(float(v), 5),
        justify="right",
    )
    verdict_ = f"<pre>{escape(told)}</pre>" if told else ""
    return PAGE.format(
        title=f"{plan.path.stem}: leaderboard", about=about, verdict=verdict_, table=html
    )


def tags(client: MlflowClient, parent: Run, plan: Plan, trials: Sequence[Trial]) -> dict[str, Any]:
    """The `parent`'s tags on its outcome: counts, and of the best trial its parameters, run and model."""
    states = Counter(t.state for t in trials)
    outcome: dict[str, Any] = {
        f"mlflow.workbook.sweep.{state.lower()}": count for state, count in states.items()
    }
    best = plan.best(trials)
    run_id = best.facts[0]["run_id"] if best else None
    if best is None or not best.values or run_id is None:
        return outcome
    count = sum(bool(t.values) for t in trials)
    run = client.get_run(run_id)
    outcome |= {f"{BEST}{name}": value for name, value in best.point.items()}
    outcome |= {f"{BEST}run": run_id}
    score = plan.scores(best.values[:1])
    note = f"Best of {counted(count, 'finished trial')}: **{score}** with {best.typed()}"
    note += f", {ui_links.link(run, f'run {run_id}')}"
    if model_id := manifest.newest_model(client, run):
        outcome[f"{BEST}model"] = f"models:/{model_id}"
        note += f", model `{outcome[f'{BEST}model']}`"
    more = {"All trials": "leaderboard.html", "pictures": "pictures"}
    links = " · ".join(ui_links.link(parent, text, artifact) for text, artifact in more.items())
    return outcome | {liveness.NOTE: f"{note}.  \n{links}"}


def pictures(plan: Plan, trials: Sequence[Trial], search: Search, folder: Path) -> None:
    """Write Optuna's pictures of the study to `folder`, as far as there is something to show."""
    if sum(bool(t.values) for t in trials) < FEW or not plan.space.varies:
        return
    import matplotlib

    matplotlib.use("agg")
    from optuna.visualization import matplotlib as shows

    folder.mkdir()
    study, names = _with_short_names(plan, search.study)
    drawn: dict[str, Callable[[], Any]] = {}
    if len(plan.objectives) in (2, 3):
        titles = [metric for metric, _ in plan.objectives]
        drawn["pareto_front"] = functools.partial(
            shows.plot_pareto_front, study, target_names=titles
        )
    for number, (metric, _) in enumerate(plan.objectives):
        drawn |= _of_objective(
            shows, study, names, metric, number if len(plan.objectives) > 1 else None
        )
    for name, draw in drawn.items():
        wide = name.startswith(("slices", "parallel"))
        _save(draw, folder / f"{name}.png", max(7, 2.6 * len(names)) if wide else 8)


def _with_short_names(plan: Plan, study: "Study") -> "tuple[Study, list[str]]":
    """(a copy of `study` whose parameters go by the short names that fit a picture, the first MOST of these names)."""
    import optuna

    short = plan.short_names()
    copy = optuna.create_study(directions=study.directions)
    for trial in study.get_trials(states=[optuna.trial.TrialState.COMPLETE]):
        copy.add_trial(
            optuna.trial.create_trial(
                values=trial.values,
                params={short[n]: v for n, v in trial.params.items()},
                distributions={short[n]: d for n, d in trial.distributions.items()},
            )
        )
    return copy, list(short.values())[:MOST]


def _of_objective(
    shows: ModuleType, study: "Study", names: list[str], metric: str, number: int | None
) -> dict[str, Callable[[], Any]]:
    """{picture: what draws it} of one objective; `number` where there are several."""
    ending = ""
    options: dict[str, Any] = {"target_name": metric}
    if number is not None:
        ending = f"_{metric.replace('/', '_')}"
        options["target"] = functools.partial(_value, number)
    of = functools.partial(functools.partial, **options)
    drawn: dict[str, Callable[[], Any]] = {
        f"history{ending}": of(shows.plot_optimization_history, study),
        f"slices{ending}": of(shows.plot_slice, study, names),
    }
    if len(names) > 1:
        drawn[f"parallel{ending}"] = of(shows.plot_parallel_coordinate, study, names)
        drawn[f"importances{ending}"] = of(shows.plot_param_importances, study, params=names)
    return drawn


def _save(draw: Callable[[], Any], file: Path, width: float) -> None:
    """Draw and save one picture; none where all values are alike, or too few."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental, layout
        try:
            figure = getattr(draw(), "flat", [None])[0]
        except (ValueError, RuntimeError, ZeroDivisionError) as error:
            logging.getLogger(__name__).info("%s cannot be drawn: %s", file.name, error)
        else:
            figure = figure.figure if figure is not None else plt.gcf()
            figure.set_size_inches(width, 4.5)
            # where a logarithmic axis is short, the labels between the powers collide
            for axes in figure.axes:
                axes.xaxis.set_minor_formatter(NullFormatter())
            figure.savefig(file, dpi=110, bbox_inches="tight")
    plt.close("all")


def _value(number: int, trial: "FrozenTrial") -> float:
    return trial.values[number] if trial.values else math.nan
