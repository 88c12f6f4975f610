"""The board as a saved view of MLflow's UI: which runs it shows, in which columns and order, in the experiment's tag.

The UI lists it under its saved views, and opens it by an address.
"""

import contextlib
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException

from Codes.judgement.scored import TAG
from Codes.runs import identity, liveness, ui_links
from Codes.seams import mlflow_seam

if TYPE_CHECKING:  # the engine, which has none of it, begins a view, too
    import pandas as pd

    from Codes.comparison.contestants import Choice

NAME = "{problem}: scored runs, the best first"
MOST = 12  # parameters
ALWAYS = "model", "rows", "seed"  # of them, where the runs have them
LATEST = ["attributes.start_time DESC"]
REASONS = 3  # sentences of the verdict that the experiment's page tells
EXPERIMENTS = "#/experiments?workflowType=machine_learning"  # where the UI lists them


def begin(client: MlflowClient, run: Run) -> None:
    """Let the UI show the finished `run`, and all that are scored on the same rows, where no view does so yet."""
    problem = name_of(run.data.params.get("problem", ""))
    with contextlib.suppress(KeyError, ValueError, MlflowException):
        kept = json.loads(run.data.tags[TAG])
        experiment = client.get_experiment(run.info.experiment_id)
        if problem and kept["digest"] not in experiment.tags.get(
            mlflow_seam.VIEW + _key(problem), ""
        ):
            shown = [name for name in ALWAYS if name in run.data.params]
            state = _state(kept["metric"], kept["more"], kept["digest"], shown)
            _write(client, experiment, problem, state)


def keep(choice: "Choice", runs: "pd.DataFrame") -> None:
    """Let the UI show the contestants of `choice` as the board does; `runs` (tracking.runs' table) are those asked.

    What is there already is not written again, and a store that may only be read stays as it is.
    """
    if not choice.contestants:
        return
    client = MlflowClient()
    shown = runs[runs.run_id.isin({run.run_id for c in choice.contestants for run in c.runs})]
    first = choice.contestants[0].scored
    state = _state(first.metric, first.more, first.digest, _varied(shown)[:MOST])
    for number in shown.experiment_id.unique():
        with contextlib.suppress(MlflowException):
            told = _told(client, number, choice)
            _write(client, client.get_experiment(number), name_of(choice.typed), state, told)


def name_of(typed: str) -> str:
    """The name of a problem that was `typed`, perhaps by its file, with the day where it is one of an earlier day."""
    return re.sub(r"\.ya?ml(?=@|$)", "", Path(typed).name)


def _told(client: MlflowClient, experiment: str, choice: "Choice") -> str:
    """The verdict on the runs of `experiment` for its page, and links to what it rests on and what came of it."""
    verdict = " ".join(choice.reasons[:REASONS])
    if choice.recommended:
        run = client.get_run(choice.recommended)
        verdict = verdict.replace(
            f"(run {run.info.run_id})", f"({ui_links.link(run, f'run {run.info.run_id[:8]}')})"
        )
    links = []
    for where in (f"tags.`{identity.NOTEBOOK}` = '03_compare'", f"tags.`{identity.GATE}` LIKE '%'"):
        for each in client.search_runs([experiment], where, max_results=1, order_by=LATEST):
            links.append(ui_links.link(each, str(each.info.run_name)))
    if client.search_registered_models(f"name = '{choice.problem}'"):
        links.append(f"[the versions of {choice.problem}]({ui_links.version(choice.problem)})")
    return "\n\n".join(each for each in (verdict, " · ".join(links)) if each)


def address(experiment: str, problem: str) -> str:
    """Where the view of `problem` in the experiment of that id is, behind the UI's own address."""
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={quote(_key(problem))}"


def newest(client: MlflowClient, problem: str = "") -> str:
    """Where the view is that was written last, of `problem` where it is named; '' where there is none.

    That of a problem of an earlier day (flights@2013-04-01), which a replay of history leaves, only where no other is.
    """
    views = [
        (
            ":" not in name,
            _known(text).get("updatedAt", 0),
            experiment.experiment_id,
            name.removeprefix(mlflow_seam.VIEW + _key("")),
        )
        for experiment in client.search_experiments()
        for name, text in experiment.tags.items()
        if name.startswith(mlflow_seam.VIEW + _key(problem))
        and (not problem or name == mlflow_seam.VIEW + _key(problem))
    ]
    return address(*max(views)[2:]) if views else ""


def _key(problem: str) -> str:
    """The name of the view of `problem`; MLflow takes no @ there."""
    return f"workbook-{problem.replace('@', ':')}"


def _write(
    client: MlflowClient,
    experiment: Experiment,
    problem: str,
    as_shown: dict[str, Any],
    told: str = "",
) -> None:
    name, tags = mlflow_seam.VIEW + _key(problem), experiment.tags
    state, now = json.dumps(as_shown), int(1000 * time.time())
    known = _known(tags.get(name))
    if known.get("state") != state:
        times = {"createdAt": known.get("createdAt", now), "updatedAt": now}
        view = {"name": NAME.format(problem=problem), **times, "state": state}
        client.set_experiment_tag(experiment.experiment_id, name, json.dumps(view))
    where = address(experiment.experiment_id, problem)
    note = _noted(tags.get(liveness.NOTE, ""), problem, where, told)
    if note != tags.get(liveness.NOTE):
        client.set_experiment_tag(experiment.experiment_id, liveness.NOTE, note)


def _noted(note: str, problem: str, where: str, told: str) -> str:
    """The experiment's `note` with what is `told` of `problem` and a link to the view at `where` in its first lines.

    The UI shows these alone, until somebody unfolds the text. A text of somebody's own behind them stays.
    """
    # the list of experiments shows the text as it is written: no marks at its beginning
    head, end = f"{problem}: ", f"({where})"
    was = rf"^(\*\*)?{re.escape(problem)}(\*\*)?: .*?{re.escape(end)}\n*"
    old = re.search(was, note, re.DOTALL | re.MULTILINE)
    if old and not told:
        return note
    rest = note.replace(old[0], "", 1) if old else note
    link = f"[{NAME.format(problem=problem)}]{end}"
    return "\n\n".join(filter(None, [f"{head}{told}{' · ' if told else ''}{link}", rest.strip()]))


def _known(text: str | None) -> dict[str, Any]:
    """The view that the tag's `text` holds; nothing where somebody has written something else."""
    with contextlib.suppress(TypeError, ValueError):
        view = json.loads(text or "")
        return view if isinstance(view, dict) else {}
    return {}


def metrics(deciding: str) -> list[str]:
    """The metrics of a run that the columns of the table are made of, the score first."""
    return [f"{part}_{deciding}" for part in ("validation", "error", "gain", "train")]


def _state(metric: str, more: bool, digest: str, parameters: Sequence[str]) -> dict[str, Any]:
    """What the UI keeps of a view: the runs that were scored on the rows of `digest`, by the board's columns."""
    columns = [f"metrics.`{name}`" for name in metrics(metric)]
    columns += [f"params.`{name}`" for name in parameters]
    where = f"attributes.status = 'FINISHED' and tags.`{TAG}` LIKE '%{digest}%'"
    return mlflow_seam.saved_view(where, columns, ascending=not more)


def _varied(shown: "pd.DataFrame") -> list[str]:
    """The parameters to show of the runs that are `shown`: those of ALWAYS first, then what differs between them."""
    names = [n for n in map(str, shown) if n.startswith("params.") and shown[n].notna().any()]
    always = [f"params.{n}" for n in ALWAYS if f"params.{n}" in names]
    varied = {n for n in names if shown[n].nunique(dropna=False) > 1} - set(always)
    return [n.removeprefix("params.") for n in [*always, *sorted(varied)]]
