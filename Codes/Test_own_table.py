"""A table of one's own needs one YAML file, and nothing else."""

import numpy as np
import pandas as pd

from Codes import data, problem

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
    area = np.linspace(40, 200, 80)
    frame = pd.DataFrame({"id": range(80), "area": area, "town": ["A", "B"] * 40})
    frame.assign(price=area * 3000).to_csv(tmp_path / "houses.csv", index=False)
    (tmp_path / "houses.yaml").write_text(YAML, encoding="utf-8")

    houses = problem.load(tmp_path / "houses.yaml")
    table = data.load(houses)
    data.require(table, houses)
    train, test = data.split(table, houses)

    assert (len(train), len(test)) == (60, 20)
    assert data.roles(train, houses) == {"area": "numeric", "town": "categorical"}
    assert data.target(test, houses).between(120_000, 600_000).all()
    assert data.dataset(table, houses).name == "houses"


def test_a_yaml_file_in_the_folder_of_problems_goes_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "houses.yaml").write_text(YAML, encoding="utf-8")
    monkeypatch.setattr(problem, "PROBLEMS", tmp_path)
    assert problem.names() == ["houses"]
    assert problem.load("houses").target == "price"
