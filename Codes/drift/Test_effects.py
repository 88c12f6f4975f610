"""How far a window lies from others: shares of rows, whatever the column holds."""

# pylint: disable=missing-function-docstring,missing-class-docstring

import numpy as np
import pandas as pd
import pytest

from Codes.drift import joint
from Codes.drift.effects import GAPS, MOVED, NEW, STUCK, Bins


def frame(rows=4000, seed=0):
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "size": random.normal(size=rows),
            "port": pd.Categorical(random.choice(["EWR", "JFK", "LGA"], rows, p=[0.5, 0.3, 0.2])),
            "when": pd.Timestamp("2013-01-01", tz="UTC")
            + pd.to_timedelta(random.integers(0, 999, rows), "h"),
            "still": 3.0,
        }
    )


def effects(changed, reference=None):
    """{name: effect} of the rows `changed` against those of the reference."""
    reference = frame() if reference is None else reference
    bins = Bins(reference, {"port"}, len(changed))
    own, rest = (bins.counts(bins.codes(f), np.zeros(len(f), int), 1) for f in (changed, reference))
    return dict(zip(map(tuple, bins.names), bins.effects(own, rest)[0]))


def test_the_same_rows_have_moved_nowhere():
    assert set(effects(frame()).values()) == {0.0}


def test_a_shift_is_the_share_of_rows_that_moved():
    shifted = effects(frame().assign(size=lambda f: f["size"] + 0.5))
    assert shifted["size", MOVED] == pytest.approx(0.197, abs=0.02)  # 2 Φ(0.25) - 1
    others = {name: effect for name, effect in shifted.items() if name[0] != "size"}
    assert set(others.values()) == {0.0} and shifted["size", STUCK] < 0.35


def test_gaps_and_categories_that_were_never_seen_are_told_on_their_own():
    few = np.arange(4000) % 20 == 0
    changed = frame().assign(
        size=lambda f: f["size"].mask(few), port=lambda f: f.port.astype(str).where(~few, "SWF")
    )
    found = effects(changed)
    assert found["size", GAPS] == pytest.approx(0.05)
    assert found["port", NEW] == pytest.approx(0.05)
    assert found["port", MOVED] < 0.01 and found["size", MOVED] < 0.01


def test_a_lost_category_has_moved_its_share():
    lost = frame().query("port != 'JFK'")
    assert effects(lost)["port", MOVED] == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    "changed",
    [
        lambda f: f.drop(columns="size"),
        lambda f: f.assign(size=np.nan),
        lambda f: f.assign(size="broken"),
        lambda f: f.assign(size=np.inf),
    ],
    ids=["vanished", "all gaps", "text", "infinite"],
)
def test_a_column_without_a_number_is_all_gaps(changed):
    found = effects(changed(frame()))
    assert found["size", GAPS] == 1 and found["size", MOVED] == 0


def test_a_sensor_that_is_stuck_has_moved_and_a_constant_that_stays_has_not():
    found = effects(frame().assign(size=0.0))
    assert found["size", MOVED] == pytest.approx(0.5, abs=0.02) and found["size", STUCK] > 0.98
    assert found["still", MOVED] == found["still", STUCK] == 0


def test_rare_categories_are_taken_together_so_that_luck_does_not_count_them_one_by_one():
    random = np.random.default_rng(0)
    ids = [pd.DataFrame({"id": random.integers(0, 900, n).astype(str)}) for n in (20_000, 500)]
    bins = Bins(ids[0], {"id"}, 500)
    assert len(bins.bins[0].known) > 890 and bins.bins[0].count == 1
    own, rest = (bins.counts(bins.codes(f), np.zeros(len(f), int), 1) for f in ids[::-1])
    assert bins.effects(own, rest)[0, 0] == 0


def test_an_empty_window_and_a_table_without_columns_are_no_error():
    bins = Bins(frame(), {"port"}, 100)
    nothing = bins.counts(bins.codes(frame().iloc[:0]), np.zeros(0, int), 1)
    assert np.isfinite(bins.effects(nothing, nothing)).all()
    assert Bins(frame()[[]], set(), 100).effects([], []).size == 0


def test_columns_that_only_move_together_are_seen_by_all_of_them_at_once():
    random = np.random.default_rng(0)
    first = random.integers(0, 20, 6000)
    codes = np.column_stack([first, (first + random.integers(0, 3, 6000)) % 20]).astype(np.int16)
    windows = np.split(np.arange(6000), 10)
    apart = np.column_stack([codes[:600, 0], random.permutation(codes[:600, 1])])
    quiet = joint.effects(codes, windows, 600)
    assert joint.effect(apart, codes) > 0.5 > 2 * quiet.max()
    assert joint.effect(codes[:2], codes) == 0.0
