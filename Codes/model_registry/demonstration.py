"""The gate's refusal, a mistake and the way back, shown in a store of its own, which goes away with all that is in it.

    python -m Codes.model_registry.demonstration PROBLEM

A small model is in production, and a constant is to take its place. Prints one JSON object.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from Codes.forks import apart
from Codes.gate.report import Report
from Codes.ground.errors import WorkbookError
from Codes.problems import problem as problems
from Codes.stores import temporary

ROWS = 2000  # to train on
MOVES = ["kind", "before", "after", "why", "override", "outcome"]
FOREIGN = ("MLFLOW_", "_MLFLOW_", "WORKBOOK_")  # variables that would lead into the user's store


@dataclass(frozen=True)
class Shown:
    """What came of it: the refusal in a sentence, the gate's report, and the moves of production, a row each."""

    refusal: str
    report: Report | None
    moves: pd.DataFrame


def play(problem: str) -> Shown:
    """Show it on the problem of that name or path; where that cannot be, `refusal` says why."""
    environ = {name: v for name, v in os.environ.items() if not name.startswith(FOREIGN)}
    done = apart.run("Codes.model_registry.demonstration", [problems.lasting(problem)], environ)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return Shown(
            f"It cannot be shown on this problem: {reason}", None, pd.DataFrame(columns=MOVES)
        )
    shown = json.loads(done.stdout.splitlines()[-1])
    moves = pd.DataFrame(shown["moves"], columns=MOVES)
    return Shown(shown["refusal"], Report.from_json(shown["report"]), moves)


def act(problem: str) -> dict:
    """{refusal, report, moves} of what happens in the store that the environment names."""
    from Codes.model_registry import promotion, registry

    question = problems.load(problem)
    good, constant = (
        promotion.register(finished_run(problem, model, rows=ROWS)) for model in ("linear", "dummy")
    )
    name = question.name
    registry.move(name, "production", good.number, None, why="to begin with")
    report, outcome = promotion.attempt(constant, "production")
    if report is None:  # the gate was not reached
        raise WorkbookError(outcome)
    # as --override does, which would look at the same rows once more
    registry.move(name, "production", constant.number, good.number, override="it was urgent")
    promotion.rollback(name, why="that was a mistake")
    moves = [
        {key: getattr(move, key) for key in MOVES}
        | {"before": move.before or "nothing", "outcome": move.outcome.partition(":")[0]}
        for move in registry.settled(name)
    ]
    refusal = f"{constant} is not promoted: {report.refusal}."
    return {"refusal": refusal, "report": report.as_json(), "moves": moves}


def finished_run(  # pylint: disable=too-many-arguments,too-many-locals
    problem: str,
    model: str,
    *,
    rows: int = 0,
    seed: int = 0,
    hyperparameters: dict[str, Any] | None = None,
    is_scored: bool = False,
    tags: Mapping[str, str] | None = None,
) -> str:
    """The id of a finished run that has trained `model`, as a notebook leaves one: here, and for tests.

    Args:
        is_scored: on the validation rows, too, as 02_train does.
        tags: beside that of the notebook.
    """
    import mlflow

    from Codes.ground import manifest
    from Codes.judgement import validation
    from Codes.modeling import models, training
    from Codes.problems import data
    from Codes.runs import identity, tracking

    tracking.use_store()
    question, experiment = problems.load(problem), tracking.experiment_of("", {"problem": problem})
    frame = data.load(question, rows, seed)
    train = data.to_train(frame, question)
    X = data.features(train, question)
    pipeline = models.build(question, X, model, hyperparameters, seed)
    pipeline = training.fitted(question, pipeline, train)
    given = {identity.NOTEBOOK: "02_train", **(tags or {})}
    with mlflow.start_run(experiment_id=experiment, tags=given) as run:
        mlflow.log_params({"problem": problem, "model": model, "rows": rows, "seed": seed})
        mlflow.log_input(data.dataset(train, question), context="training")
        if is_scored:
            validation.score(question, pipeline, frame, seed).log()
        models.log(pipeline, X)
    manifest.write(mlflow.MlflowClient(), mlflow.get_run(run.info.run_id))
    return run.info.run_id


def main() -> None:
    """Be the process that shows it."""
    try:
        with temporary.own_store():
            print(json.dumps(act(sys.argv[1])))
    except WorkbookError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
