"""A table cut into windows: by time, each a fixed stretch that begins on the same days for everybody, or by rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from Codes.ground.errors import WorkbookError, counted
from Codes.tables.cell_values import in_utc

Moment = Any  # a pd.Timestamp in UTC, or NaT
MONDAY = pd.Timestamp("1970-01-05", tz="UTC")  # weeks begin on Mondays, days at midnight UTC
ROWS = "1000 rows"  # by default, where there is no time
WEEK = "7d"  # by default, where there is one
HOLE = 8  # windows without a row; a few rows on one side of so many are odd
FEW = 0.05  # of the rows
MOST = 5000  # windows of one table; more, and a clock has jumped


@dataclass(frozen=True, eq=False)
class Window:
    """Some rows of a table: their positions in it, and when they begin and end (NaT where windows go by rows).

    `is_over`: whether the table goes on after it, so that no row of it can be missing.
    """

    name: str
    rows: np.ndarray
    begin: Moment
    end: Moment
    is_over: bool = True


def length(window: str) -> pd.Timedelta | int:
    """How long a window is that a problem's file writes as '7d', '12h' or '1000 rows': a time, or a number of rows."""
    return (
        int(window.split()[0])
        if window.endswith(" rows")
        else pd.Timedelta(window.replace("d", "D"))
    )


def cut(count: int, times: pd.Series | None, window: str) -> tuple[list[Window], list[str]]:
    """(the windows of a table of `count` rows, the first one first, sentences on what is odd).

    Args:
        times: of the rows; None: windows go by rows, in the table's order.
    """
    size = length(window)
    if isinstance(size, int):
        starts = range(0, count, size)
        nat = pd.NaT
        return [
            Window(
                f"rows {s + 1}-{s + size}",
                np.arange(s, min(s + size, count)),
                nat,
                nat,
                s + size <= count,
            )
            for s in starts
        ], []
    if times is None or not pd.api.types.is_datetime64_any_dtype(times):
        why = "which the table does not have" if times is None else _not_times(times)
        raise WorkbookError(
            f"windows of {window} need a column of times, {why}; windows may go by rows, too: monitoring: "
            "{window: 1000 rows}"
        )
    return _by_time(in_utc(times), size)


def _not_times(values: pd.Series) -> str:
    """Why a column cannot be taken as times, with one of its values."""
    known = values.dropna()
    odd = known[pd.to_datetime(known, errors="coerce", format="mixed", utc=True).isna()]
    if pd.api.types.is_numeric_dtype(known) or odd.empty:
        given = f", such as {known.iloc[0]!s:.40}" if len(known) else ", all gaps"
        return f"and '{values.name}' holds none{given}"
    return f"and '{values.name}' holds {counted(len(odd), 'row')} that are no time, such as {odd.iloc[0]!s:.40}"


def _by_time(times: pd.Series, size: pd.Timedelta) -> tuple[list[Window], list[str]]:
    known = times.notna().to_numpy()
    told = (
        [] if known.all() else [f"{counted(int((~known).sum()), 'row')} without a time: left out"]
    )
    number = np.full(len(times), -1, np.int64)
    number[known] = ((times[known] - MONDAY) // size).to_numpy(np.int64)
    kinds = np.unique(number[known])
    if kinds.size == 0:
        return [], told
    if kinds[-1] - kinds[0] >= MOST:
        usual = int(np.median(number[known]))
        far = np.abs(kinds - usual) >= MOST // 2
        shown = ", ".join(str((MONDAY + n * size).date()) for n in kinds[far][:3])
        rows = int(np.isin(number, kinds[far]).sum())
        told.append(f"a clock has jumped: {counted(rows, 'row')} of about {shown}: left out")
        kinds = kinds[~far]
    told += _hole(number[np.isin(number, kinds)], kinds, size)
    last = times[np.isin(number, kinds)].max()
    order = np.argsort(number, kind="stable")
    places = np.searchsorted(number[order], np.arange(kinds[0], kinds[-1] + 2))
    return [
        Window(
            _named(begin, size),
            order[low:high],
            begin,
            begin + size,
            # a table that holds a day's last hour need not hold its last second
            last.floor("D") + pd.Timedelta("1D") >= begin + size,
        )
        for n, low, high in zip(range(kinds[0], kinds[-1] + 1), places, places[1:])
        for begin in [MONDAY + n * size]
    ], told


def _hole(number: np.ndarray, kinds: np.ndarray, size: pd.Timedelta) -> list[str]:
    """A sentence where a few rows lie far from all others: a clock may have jumped; else nothing."""
    steps = np.diff(kinds)
    if not steps.size or steps.max() <= HOLE:
        return []
    place = int(steps.argmax())
    after = int((number > kinds[place]).sum())
    few, where = min((after, "after"), (len(number) - after, "before"))
    if few > FEW * len(number):
        return []
    begin, end = ((MONDAY + n * size).date() for n in (kinds[place] + 1, kinds[place + 1]))
    return [
        f"no row from {begin} on until {end}, and {few:,} of {counted(len(number), 'row')} {where} that: "
        "has a clock jumped?"
    ]


def _named(begin: pd.Timestamp, size: pd.Timedelta) -> str:
    return (
        str(begin.date())
        if size % pd.Timedelta("1D") == pd.Timedelta(0)
        else f"{begin:%Y-%m-%dT%H}"
    )


def chosen(windows: list[Window], period: str) -> Iterator[Window]:
    """Those that begin in the `period` ('2013', '2013-04', '2013-04-15'), or are called so; all where it is empty."""
    found = [w for w in windows if w.name.startswith(period) or w.name == period]
    if not found:
        span = f"from {windows[0].name} to {windows[-1].name}" if windows else "none at all"
        raise WorkbookError(
            f"no window begins in {period!r}; there are {span}. A month is 2013-04, a day 2013-04-15."
        )
    yield from found
