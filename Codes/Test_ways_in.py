"""A table is read alike whichever way it comes in: training, a file to score, a request in JSON or CSV."""

import os
import subprocess
import sys

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from Codes import data, evaluation, identity, manifest, models, promotion, tracking
from Codes import problem as problems
from Codes.running.testbed import fresh_store

YAML = """\
title: Who stays?
task: classification
source: {path: t.csv, na_values: [none given]}
target: stays
split: {kind: random, test_share: 0.25}
metric: {name: accuracy, direction: maximize}
"""


def rows(count=120):
    """Rows as a CSV file has them: truth values with gaps, numbers with gaps, text."""
    text = ["a,flag,size,town,stays"]
    flags, sizes, towns = ("true", "false", ""), ("1.5", "NA", "2", "none given"), ("A", "NA")
    for n in range(count):
        stays = "yes" if n % 3 == 0 or n % 7 == 0 else "no"
        text.append(f"{n},{flags[n % 3]},{sizes[n % 4]},{towns[n % 2]},{stays}")
    return "\n".join(text) + "\n"


@pytest.fixture(scope="module", name="place")
def fixture_place(tmp_path_factory):
    """A folder with a problem's file, its table and a store, in which version 1 of the model `t` is registered."""
    os.environ.setdefault("WORKBOOK_TESTBED", str(tmp_path_factory.mktemp("testbed")))
    folder = tmp_path_factory.mktemp("ways")
    (folder / "t.yaml").write_text(YAML)
    (folder / "t.csv").write_text(rows())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", fresh_store(folder))
        tracking.use_store()
        promotion.register(trained(str(folder / "t.yaml")), "t")
        yield folder
    mlflow.set_tracking_uri(None)


def trained(name):
    """The id of a run that trained on the problem `name`, with all that the runner and 02_train keep of it."""
    problem, tags = problems.load(name), {identity.NOTEBOOK: "02_train"}
    tags["mlflow.source.git.commit"] = "c0ffee"
    experiment = tracking.ensure_experiment("ways")
    with mlflow.start_run(experiment_id=experiment, tags=tags) as run:
        train, test = data.split(data.load(problem), problem)
        X, y = data.features(train, problem), data.target(train, problem)
        pipeline = models.build(problem, X, "hgb", {"max_iter": 5}).fit(X, y)
        mlflow.log_params({"problem": name, "model": "hgb", "rows": 0, "seed": 0})
        mlflow.log_input(data.dataset(train, problem), context="training")
        mlflow.log_metrics(evaluation.flat(evaluation.compare(problem, pipeline, train, test)))
        models.log(pipeline, X)
    client = MlflowClient()
    manifest.write(client, client.get_run(run.info.run_id))
    return run.info.run_id


def command(*words):
    """(exit status, what it says) of `workbook WORDS…`."""
    line = [sys.executable, "-m", "Codes.cli", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_score_ends_with_3_where_rows_were_rejected(place):
    out, typo = place / "s.csv", place / "typo.csv"
    typo.write_text(rows().replace("true", "maybe", 1))
    for _ in range(2):  # scored, and nothing to do
        status, told = command("score", "t/1", typo, out, "--no-progress")
        assert status == 3 and f"1 rejected: see {place}/s.rejected.csv" in told, told
    assert pd.read_csv(place / "s.rejected.csv")["rejected because"].tolist() == [
        "flag 'maybe' is not true or false"
    ]
    assert command("score", "t/1", place / "t.csv", place / "all.csv")[0] == 0
    assert command("score", "t/1", place / "none.csv", place / "n.csv")[0] == 1
