"""What is one's own takes what docs/how-to say, and nothing else: a table, a model's short name, a notebook."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
from mlflow import MlflowClient
import pytest

from Codes.ground.paths import ROOT
from Codes.modeling import models
from Codes.problems import data, problem
from Codes.testing.testbed import write_notebook, write_problem

YAML = """\
title: What will this house sell for?
task: regression
source: {path: houses.csv}
target: price
exclude: {id: identity}
split: {kind: random, test_share: 0.25}
metric: {name: rmse, direction: minimize}
contract:
  area: {type: number, min: 10, max: 1000}
"""


def test_a_table_of_ones_own_works_by_one_yaml_file(tmp_path):
    write_houses(tmp_path)

    houses = problem.load(tmp_path / "houses.yaml")
    table = data.load(houses)
    data.require(table, houses)
    train, test = data.to_train(table, houses), data.test(houses)

    assert len(train) + len(test) == 80 and len(test) > 10
    assert data.roles(train, houses) == {"area": "numeric", "town": "categorical"}
    assert data.target(test, houses).between(120_000, 600_000).all()
    assert data.dataset(table, houses).name == "houses"


def test_a_yaml_file_in_the_folder_of_problems_goes_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "houses.yaml").write_text(YAML, encoding="utf-8")
    monkeypatch.setattr(problem, "PROBLEMS", tmp_path)
    assert problem.names() == ["houses"]
    assert problem.load("houses").target == "price"


SHORT = '"stump": {"regression": ("sklearn.tree.DecisionTreeRegressor", {"max_depth": 1})},'


def own_checkout(folder):
    """A copy of the checkout in `folder`, with a problem, a model's short name and a notebook of one's own."""
    generated = (".venv", ".git", "mlruns", "mlflow.db*", "executed", ".cache", "__pycache__")
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*generated), symlinks=True)
    write_houses(folder / "Resources" / "problems")
    file = folder / "Codes" / "modeling" / "models.py"
    file.write_text(
        file.read_text("utf-8").replace("SHORT = {", f"SHORT = {{\n    {SHORT}"), "utf-8"
    )
    mine = folder / "notebooks" / "07_mine.ipynb"
    write_notebook(mine, "x", parameters="x: int = 3  # help [0, 10]")


def write_houses(folder):
    """The problem `houses` and its table, as pandas writes it by default, in `folder`."""
    area = np.linspace(40, 200, 80)
    frame = pd.DataFrame({"id": range(80), "area": area, "town": ["A", "B"] * 40})
    frame.assign(price=area * 3000).to_csv(folder / "houses.csv")
    (folder / "houses.yaml").write_text(YAML, encoding="utf-8")


def test_ones_own_notebook_problem_and_short_name_take_what_the_readme_says(tmp_path):
    own_checkout(tmp_path / "own")

    def told(*arguments):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        environment |= {"PYTHONPATH": str(tmp_path / "own"), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=tmp_path / "own",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    files = ["Codes/Test_notebooks.py", "Codes/Test_setup.py"]
    checks = told("pytest", "-q", "-p", "no:cacheprovider", *files, "-k", "entry or notebooks")
    assert "passed" in checks
    assert "within [0, 10]" in told("Codes.commands.cli", "describe", "07_mine")
    described = " ".join(told("Codes.commands.cli", "describe", "02_train").split())
    assert f"(one of stump, {', '.join(models.SHORT)}, *.*)" in described
    train = ["run", "02_train", "-p", "problem", "houses", "-p", "model", "stump"]
    said = told("Codes.commands.cli", *train, "-p", "hyperparameters", "{max_depth: 2}")
    assert re.search(r"^ *Note: houses: column '.*' is the index of a data frame", said, re.M), said


MARGIN = """
def margin(actual, predicted):
    if len(actual) > 300:
        raise RuntimeError("the till is closed")
    return float((actual == predicted).mean())
"""


@pytest.mark.soak
def test_a_metric_that_fails_on_the_validation_rows_loses_no_model(tmp_path):
    (tmp_path / "till_of_test.py").write_text(MARGIN, "utf-8")
    random = np.random.default_rng(0)
    a, b = random.normal(size=3000), random.choice(list("uvw"), 3000)
    y = (a + random.normal(size=3000) > 0.3).astype(int)
    pd.DataFrame({"a": a, "b": b, "y": y}).to_csv(tmp_path / "late.csv", index=False)
    metric = {"function": "till_of_test.margin", "direction": "maximize"}
    file = write_problem(tmp_path, "late", "y", metric=metric, positive=1)
    command = [sys.executable, "-m", "Codes.commands.cli", "run", "02_train", "--no-progress"]
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run(
        [*command, "-p", "problem", str(file), "-p", "model", "linear"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode and "it raises RuntimeError: the till is closed" in done.stderr
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name(str(file)).experiment_id])
    assert run.info.status == "FAILED" and len(run.outputs.model_outputs) == 1
