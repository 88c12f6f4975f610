"""What `%workbook` answers in a cell: a batch run of this notebook, the last runs, a run's model."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from Codes.ground import manifest
from Codes.ground.errors import WorkbookError
from Codes.ground.variables import outside
from Codes.runs import identity, ui_links, session, tracking

MOST = 10  # runs of a table
HELP = """%workbook run seed=3 model=forest   run this notebook, as it is saved, in batch with other parameters
%workbook runs [N]                  the last runs (10) of this notebook's problem, as a table
model = %workbook model RUN         the model that a run has saved (an id, or its first characters)"""


def answer(line: str) -> Any:
    """What `%workbook` shows for the rest of its `line`."""
    word, *rest = shlex.split(line) or ["help"]
    words = {"run": run, "runs": runs, "model": model}
    if word in words:
        return words[word](*rest)
    print(HELP)
    if word != "help":
        raise WorkbookError(f"%workbook {word}: it knows {', '.join(words)}.")
    return None


def run(*pairs: str) -> None:
    """Run this notebook in batch with the parameters `pairs` (name=value), show what it tells, and where its run is."""
    path = session.notebook()
    if path is None:
        raise WorkbookError(
            "this session does not tell which notebook it is of; save it, then run the cell again."
        )
    for pair in pairs:
        if not pair.partition("=")[0].isidentifier() or "=" not in pair:
            raise WorkbookError(f"%workbook run {pair}: write NAME=VALUE.")
    command = [sys.executable, "-m", "Codes.commands.cli", "run", str(path), "--no-progress"]
    options = [word for pair in pairs for word in ("-p", pair)]
    with subprocess.Popen(
        [*command, *options],
        env=outside(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        made = ""
        for line in process.stdout:
            print(line, end="")
            made = line.split()[1] if line.startswith("  run ") else made
    if made:
        ui_links.show(MlflowClient().get_run(made))
    if process.returncode:
        raise WorkbookError(
            f"{path.stem} ended with {process.returncode}; the lines above say why."
        )


def runs(most: str = str(MOST)) -> pd.DataFrame:
    """The last runs, `most` of them, in the experiment that a run of this notebook goes to; failed ones too."""
    if not most.isdigit() or most == "0":
        raise WorkbookError(f"%workbook runs {most}: how many is a number from 1 on.")
    tracking.use_store()
    client = MlflowClient()
    place = client.get_experiment_by_name(_experiment())
    found = client.search_runs([place.experiment_id], max_results=int(most)) if place else []
    return pd.DataFrame([_row(each) for each in found])


def _experiment() -> str:
    """The experiment of this session's run, else of its problem."""
    if current := session.Session.current:
        client = MlflowClient()
        return client.get_experiment(client.get_run(current.run_id).info.experiment_id).name
    path = session.notebook()
    return str(session.names().get("problem") or (path and Path(path).stem))


def _row(each: Run) -> dict[str, Any]:
    metrics, info = each.data.metrics, each.info
    score = next((name for name in metrics if name.startswith("validation_")), None)
    named = score.removeprefix("validation_") if score else ""
    return {
        "run": info.run_id[:8],
        "name": info.run_name,
        "status": info.status,
        "begun": pd.Timestamp(info.start_time, unit="ms").floor("s"),
        "metric": named,
        "score": metrics.get(score or ""),
        "gain": metrics.get(f"gain_{named}"),
        "notebook": each.data.tags.get(identity.NOTEBOOK, ""),
    }


def model(run_id: str = "") -> Any:
    """The fitted pipeline that the run `run_id` has saved; of its types only known ones are loaded."""
    if not run_id:
        raise WorkbookError("%workbook model RUN: give the run's id, or its first characters.")
    from Codes.lab import repeating
    from Codes.model_registry import registry
    from Codes.saved_models import trust

    made = repeating.find(run_id).run
    model_id = manifest.newest_model(MlflowClient(), made)
    if not model_id:
        raise WorkbookError(f"the run {made.info.run_id} ({made.info.run_name}) saved no model.")
    _check_files(made)
    vouched = json.loads(made.data.tags.get(trust.VOUCHED, "[]"))
    return trust.load(registry.fetch(f"models:/{model_id}"), vouched).pipeline


def _check_files(made: Run) -> None:
    """Refuse files that are not as the run `made` kept them; say so where it has no manifest, as one by hand."""
    if manifest.DIGEST not in made.data.tags:
        print(f"{made.info.run_name} has no manifest (made by hand, or not at its end):")
        print("  its files are taken as they are.")
        return
    if wrong := manifest.fault(MlflowClient(), made):
        raise WorkbookError(
            f"the run {made.info.run_id} is not as it was kept: {wrong}; its model is not loaded."
        )
