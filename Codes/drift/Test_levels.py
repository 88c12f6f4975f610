"""Where numbers lie, by themselves and beside the others of their row: a shift that a week hides shows there."""

# pylint: disable=missing-function-docstring

import numpy as np
import pandas as pd
import pytest

from Codes.drift.effects import Bins, Name
from Codes.drift.levels import BESIDE, LEVEL, Levels

WEEKS, ROWS = 20, 500


def weather(seed=0, weeks=WEEKS):
    """Rows of weeks, warm and cold ones, in which the dew point goes with the temperature; `size` goes with nothing."""
    random = np.random.default_rng(seed)
    warm = random.normal(0, 1, weeks).repeat(ROWS) + random.normal(0, 0.5, weeks * ROWS)
    dew = warm + random.normal(0, 0.2, len(warm))
    size = random.normal(size=len(warm))
    frame = pd.DataFrame({"temp": warm, "dewp": dew, "size": size, "port": "EWR", "still": 3.0})
    return frame.assign(prediction=warm)


def effects(changed, reference=None):
    """{name: effect} of the rows `changed` against those of the reference."""
    reference = weather() if reference is None else reference
    bins = Bins(reference, {"port"}, len(changed))
    codes, own = bins.codes(reference), bins.codes(changed)
    levels = Levels(bins, codes, {"prediction"})
    one, rest = (bins.counts(c, np.zeros(len(c), int), 1) for c in (own, codes))
    found = levels.effects(one, rest, levels.products(codes) + levels.products(own))
    return dict(zip(levels.names, found[0]))


def test_the_same_rows_are_where_they_were_and_answers_and_categories_are_not_looked_at():
    found = effects(weather())
    assert max(found.values()) < 1e-9
    assert {name.column for name in found} == {"temp", "dewp", "size", "still"}


def test_a_shift_is_the_share_of_rows_that_moved_and_beside_the_others_it_is_plain():
    moved = effects(weather().assign(temp=lambda f: f.temp + 0.25 * f.temp.std()))
    assert moved[Name("temp", LEVEL)] == pytest.approx(0.1, abs=0.02)  # 2 Φ(0.125) - 1
    assert moved[Name("temp", BESIDE)] > 0.3 > 0.02 > moved[Name("size", BESIDE)]
    assert max(moved, key=moved.__getitem__) == Name("temp", BESIDE)


def test_what_moves_together_has_moved_on_the_whole_and_hardly_beside_the_others():
    warmer = effects(weather().assign(temp=lambda f: f.temp + 0.5, dewp=lambda f: f.dewp + 0.5))
    assert warmer[Name("temp", LEVEL)] > 0.15 > 3 * warmer[Name("temp", BESIDE)]


def test_gaps_alone_and_columns_that_say_the_same_are_no_error():
    gone = effects(weather().assign(temp=np.nan))
    assert np.isfinite(list(gone.values())).all() and gone[Name("temp", LEVEL)] < 0.05
    twice = weather().assign(again=lambda f: f.temp)
    assert max(effects(twice, twice).values()) < 1e-9
    assert effects(twice.assign(again=lambda f: f.temp + 0.05), twice)[Name("again", BESIDE)] > 0.1


def test_one_column_of_numbers_has_no_others_and_none_has_nothing():
    for columns, count in ((["temp", "port"], 1), (["port"], 0)):
        frame = weather()[columns]
        assert len(effects(frame, frame)) == count
