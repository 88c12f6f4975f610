"""What is held back and kept while a network learns, whatever trains it."""

# pylint: disable=missing-function-docstring,protected-access
import io
import json
import os
import re
import time

import numpy as np
import pandas as pd
import pytest

from Codes.ground import paths
from Codes.ground.errors import WorkbookError
from Codes.modeling import models, training
from Codes.networks import network
from Codes.problems import data, problem as problems

CANCER = problems.load("breast_cancer")


def test_a_training_that_another_process_is_at_is_done_without_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    with training._kept("a") as first, training._kept("a") as second, training._kept("b") as other:
        assert first == tmp_path / ".cache/epochs/a.npz" and second is None and other


def test_checkpoints_that_nobody_came_back_for_go_after_a_week(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    with training._kept("under_way") as under_way:
        for name in ("forgotten", "killed", "under_way"):
            file = under_way.with_stem(name)
            file.write_bytes(b"")
            week = time.time() - training.KEPT - 9 if name != "killed" else None
            os.utime(file, week and (week, week))
        under_way.with_name("forgotten.lock").write_bytes(b"")  # of a killed process
        with training._kept("new"):
            left = {path.name for path in under_way.parent.iterdir()}
    assert left == {"killed.npz", "under_way.npz", "under_way.lock", "new.lock"}


@pytest.mark.parametrize("kind", ["time", "group"])
def test_of_one_moment_or_one_group_any_rows_say_when_to_stop(kind):
    split = {"kind": kind, "group": "word" if kind == "group" else None}
    split = CANCER.split.model_copy(update=split)
    one = CANCER.model_copy(update={"split": split, "time": "word"})
    held = training.held_rows(one, pd.DataFrame({"word": ["a"] * 40}), 0)
    assert held.sum() == 6


def test_the_last_rows_by_time_say_when_to_stop_and_no_group_is_parted():
    flights = problems.load("flights")
    frame = data.to_train(data.load(flights, 1000), flights)
    held = training.held_rows(flights, frame, 0)
    assert 0.1 < held.mean() < 0.2
    assert frame[flights.time][held].min() > frame[flights.time][~held].max()


def test_what_is_no_network_is_refused_where_epochs_are_asked_for():
    X = pd.DataFrame({"x": [1.0, 2.0]})
    with pytest.raises(WorkbookError, match="LogisticRegression is no network"):
        training.fit(CANCER, models.build(CANCER, X, "linear"), X)


def test_checkpoints_hold_arrays_alone():
    content = network._packed([{"loss": 1.0}], {"w": np.ones(2)}, {"layers w": np.zeros(2)})
    assert network.epochs_of(content) == 1
    evil = io.BytesIO()
    np.savez(evil, course=np.array(json.dumps([])), **{"best w": np.array([object], object)})
    with pytest.raises(ValueError, match="allow_pickle"):
        network.epochs_of(evil.getvalue())


def test_nothing_else_trains_a_model_so_that_any_network_stops_by_rows_that_belong_together():
    sources = [p for p in (paths.ROOT / "Codes").rglob("*.py") if "Test_" not in p.name]
    sources = [p for p in sources if p.parent.name not in ("testing", "bench")]
    fits = [
        p.name for p in sources if re.search(r"models\.build\([^)]*\)\.fit\(", p.read_text("utf-8"))
    ]
    assert not fits
