"""Which part a row belongs to: by the problem's file alone, whatever else is in the table."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from Codes.problems import problem as problems, rows
from Codes.problems.rows import TEST, TRAIN, VALIDATION

BASE = problems.load("breast_cancer")


def problem(**split):
    """A problem with that `split`; its target is 'y'."""
    given = {"kind": "random", "test_share": 0.2} | split
    return BASE.model_copy(update={"split": problems.Split(**given), "target": "y", "time": "when"})


def table(count=3000, seed=0):
    """A frame of numbers, words, truth values, times and gaps."""
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "number": random.normal(size=count),
            "whole": random.integers(0, 1000, count),
            "word": random.choice(["a", "b", None], count),
            "flag": random.random(count) < 0.5,
            "when": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(random.integers(0, 10**6, count), "s"),
            "who": random.integers(0, 200, count).astype(str),
            "y": random.choice(["no", "yes"], count, p=[0.9, 0.1]),
        }
    )


def assigned(frame, which):
    """The part of each row of `frame`."""
    return rows.assigned(pa.Table.from_pandas(frame, preserve_index=False), which)


@pytest.mark.parametrize("kind", ["random", "stratified", "group"])
def test_a_row_stays_where_it_is_when_the_table_grows_or_is_ordered_otherwise(kind):
    which = problem(kind=kind, **({"group": "who"} if kind == "group" else {}))
    frame = table()
    before = assigned(frame, which)
    order = np.random.default_rng(1).permutation(len(frame))
    assert (assigned(frame.iloc[order], which) == before[order]).all()
    grown = pd.concat([table(2000, seed=5), frame])
    assert (assigned(grown, which)[2000:] == before).all()
    assert (assigned(frame[frame.columns[::-1]], which) == before).all()


def test_a_row_stays_where_it_is_when_a_column_of_numbers_gets_its_first_gap():
    frame, which = table(), problem()
    before = assigned(frame, which)
    gap = pd.DataFrame([dict.fromkeys(frame) | {"y": "no"}])
    grown = pd.concat([frame.astype({"whole": float, "flag": object}), gap], ignore_index=True)
    as_categories = grown.astype({"word": "category", "y": "category", "flag": float})
    assert (assigned(as_categories, which)[:-1] == before).all()


def test_the_shares_are_kept_and_equal_rows_are_on_one_side():
    frame, which = table(20_000), problem(test_share=0.3, validation_share=0.1)
    shares = np.bincount(assigned(frame, which)) / len(frame)
    assert shares == pytest.approx([0.6, 0.1, 0.3], abs=0.012)
    twice = assigned(pd.concat([frame, frame]), which)
    assert (twice[: len(frame)] == twice[len(frame) :]).all()


def test_a_group_is_on_one_side_and_rows_without_one_go_by_themselves():
    frame = table()
    frame.loc[:999, "who"] = None
    part = assigned(frame, problem(kind="group", group="who"))
    known = pd.Series(part[1000:]).groupby(frame["who"].to_numpy()[1000:]).nunique()
    assert (known == 1).all() and set(part[:1000]) == {TRAIN, VALIDATION, TEST}


def test_rows_go_by_their_key_alone_where_one_is_named():
    frame, which = table(), problem(key=["number"])
    changed = frame.assign(word="c", y="no", more=1)
    assert (assigned(changed, which) == assigned(frame, which)).all()
    assert not (assigned(changed, problem()) == assigned(frame, problem())).all()


@pytest.mark.parametrize("few", [2, 3, 4, 8])
def test_a_rare_class_is_on_every_side_of_a_stratified_split(few):
    for seed in range(20):
        frame = table(300, seed).assign(y=["no"] * (300 - few) + ["yes"] * few)
        part = assigned(frame, problem(kind="stratified"))[-few:]
        wanted = {TRAIN, TEST} | ({VALIDATION} if few > 2 else set())
        assert wanted <= set(part)


@pytest.mark.parametrize("few", [3, 4, 8])
def test_a_table_of_few_rows_has_some_on_every_side(few):
    for seed in range(20):
        assert set(assigned(table(few, seed), problem())) == {TRAIN, VALIDATION, TEST}


def test_blocks_are_groups_or_days_or_rows():
    frame = table()
    assert len(set(rows.blocks(frame, problem()))) == len(frame)
    assert len(set(rows.blocks(frame, problem(kind="group", group="who")))) == 200
    by_time = problem(kind="time", cutoff=1, test_share=None)
    late = frame.assign(when=frame["when"] + pd.to_timedelta(frame["whole"], "D"))
    assert len(set(rows.blocks(late, by_time))) == late["when"].dt.date.nunique() > 100
    assert frame["when"].dt.date.nunique() < 20
    few = rows.blocks(frame, by_time)
    assert len(set(few)) == 20
    assert pd.Series(few[np.argsort(frame["when"])]).is_monotonic_increasing


def test_the_digest_changes_with_a_row_its_target_and_the_use():
    frame, which = table(200), problem()
    same = rows.digest(frame, which, "validation")
    assert same == rows.digest(frame.copy(), which, "validation")
    others = [frame[1:], frame.assign(y=["yes", *frame["y"][1:]])]
    assert same not in [rows.digest(other, which, "validation") for other in others]
    assert same != rows.digest(frame, which, "test")
