"""The runs on a problem as one table, and the verdict on them in words: the same wherever they are shown."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from Codes.comparison import naming
from Codes.comparison.contestants import ALL, Choice, Contestant
from Codes.ground import labels
from Codes.ground.labels import WIDTH

TAKEN, CLOSE = "★", "·"  # the recommended one; those that cannot be told from the best
MOST = 8  # rows, with the heading and what is left out ten lines
NAME = 30  # characters that a name may take
# what a sweep's trials carry in tracking.runs' table
PARENT, POINT, TRIAL = (
    "tags.mlflow.parentRunId",
    "tags.mlflow.workbook.sweep.point",
    "tags.mlflow.workbook.sweep.trial",
)


@dataclass(frozen=True)
class Row:  # pylint: disable=too-many-instance-attributes
    """One contestant as it is shown; NaN is not known.

    Args:
        score, gain: each with half its 95 % interval; the gain is over the baseline on the same rows, over 0 is better.
        behind: by how much it is worse than the best, `behind_reach` to each side: all of these hold at once.
        rows: to train on; infinite: all.
        seconds: of the whole run, fit_seconds of these in training; row_ms: of an answer to a row asked alone,
            row_ms_of_1000: to each of 1,000 asked at once.
    """

    mark: str
    name: str
    run_id: str
    score: float
    score_reach: float
    gain: float
    gain_reach: float
    behind: float
    behind_reach: float
    train: float
    baseline: float
    rows: float
    seconds: float
    fit_seconds: float
    kilobytes: float
    row_ms: float
    row_ms_of_1000: float
    seeds: int
    model: str


def table(choice: Choice) -> list[Row]:
    """A Row for each contestant, the best first."""
    called = naming.names([each.run for each in choice.contestants])
    return [_row(choice, each, name) for each, name in zip(choice.contestants, called)]


def frame(choice: Choice) -> pd.DataFrame:
    """A row for each contestant of `choice`, the best first: mark, name, run_id, score, gain, rows, seconds, …"""
    return pd.DataFrame([asdict(row) for row in table(choice)], columns=list(Row.__annotations__))


def _row(choice: Choice, each: Contestant, name: str) -> Row:
    own, gain = each.scored.own(), each.scored.gain()
    behind = choice.contestants[0].scored.over(each.scored).value if each.known else math.nan
    return Row(
        TAKEN if each is choice.taken else CLOSE if each.close else "",
        name + (f" × {len(each.runs)} seeds" if len(each.runs) > 1 else ""),
        each.run.run_id,
        own.value,
        own.reach(),
        gain.value,
        gain.reach(),
        behind,
        each.reach,
        each.run.train,
        each.scored.baseline,
        each.run.rows,
        _mean([run.seconds for run in each.runs]),
        _mean([run.fit_seconds for run in each.runs]),
        each.run.kilobytes,
        each.run.row_ms,
        each.run.row_ms_of_1000,
        len(each.runs),
        str(each.run.setting.get("model", each.run.notebook)).rpartition(".")[2],
    )


def _mean(values: Iterable[float]) -> float:
    """The mean of those of `values` that are known; NaN of none."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def as_dict(choice: Choice) -> dict[str, Any]:
    """All of it for JSON: what is not known is null, and so is a number of rows that is simply all."""
    first = choice.contestants[0].scored if choice.contestants else None
    return {
        "problem": choice.problem,
        "metric": choice.metric,
        "direction": choice.direction,
        "scored": first and {"how": first.how, "rows": first.rows},
        "recommended": choice.recommended,
        "verdict": list(choice.reasons),
        "optimism": _plain(choice.optimism),
        "runs": [{k: _plain(v) for k, v in asdict(row).items()} for row in table(choice)],
        "apart": [asdict(each) for each in choice.apart],
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- a sweep


def trials(problem: Any, runs: pd.DataFrame) -> pd.DataFrame:
    """The trials of the newest sweep among `runs` (tracking.runs' table), in their order.

    Columns: trial, score (the deciding metric; the mean where a point has several seeds), run_id, and one for each
    parameter that varied. Empty where there is no sweep.
    """
    metric = f"metrics.validation_{problem.metric.name}"
    if not {PARENT, POINT, TRIAL, metric} <= set(runs):
        return pd.DataFrame(columns=["trial", "score", "run_id"])
    swept = runs.dropna(subset=[PARENT, POINT, metric])
    if swept.empty:
        return pd.DataFrame(columns=["trial", "score", "run_id"])
    newest = swept[swept[PARENT] == swept[PARENT].iloc[0]]
    own = {"trial": newest[TRIAL].astype(int), "score": newest[metric], "run_id": newest.run_id}
    points = pd.DataFrame([json.loads(point) for point in newest[POINT]], index=newest.index)
    last = points.columns.astype(str).str.rpartition(".").get_level_values(-1)
    points.columns = last if last.is_unique else points.columns
    # not `join`, which has taken suffixes by other names before pandas 3.1
    joined = pd.DataFrame(own).merge(
        points, how="left", left_index=True, right_index=True, suffixes=("", " (varied)")
    )
    columns = {name: "first" for name in joined.columns.drop("trial")} | {"score": "mean"}
    return joined.groupby("trial", as_index=False).agg(columns)


# --- as text


def text(choice: Choice, most: int | None = MOST) -> str:
    """The table in WIDTH columns: its heading, the first `most` contestants (None: all) and how many are left out.

    What is recommended and the last one are always among them.
    """
    rows = table(choice)
    if not rows:
        return ""
    kept = _kept(rows, most)
    # one that is as good as a constant is known to many decimals, which would stand behind all the others
    told = [row for row in kept if row.mark] or kept
    places = labels.decimals([r.score_reach for r in told] + [r.gain_reach for r in told])
    cells = [[*_cells(row, places)] for row in kept]
    head = ["", "run", choice.metric, "gain", "rows", "s"]
    widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    widths[1] = min(widths[1], NAME, WIDTH - sum(widths) + widths[1] - 2 * len(head) + 3)
    lines = [_line(each, widths) for each in [head, *cells]]
    left = len(rows) - len(kept)
    at = len(lines) - 1 if left else len(lines)
    lines[at:at] = [f"  … {left} more: workbook runs {choice.typed} --all"] * bool(left)
    return "\n".join(lines)


def _kept(rows: list[Row], most: int | None) -> list[Row]:
    if most is None or len(rows) <= most:
        return rows
    own = {i for i, row in enumerate(rows) if row.mark == TAKEN} | {len(rows) - 1}
    first = [i for i in range(len(rows)) if i not in own][: most - len(own)]
    return [rows[i] for i in sorted([*first, *own])]


def _cells(row: Row, places: int) -> Iterator[str]:
    yield row.mark
    yield row.name
    yield labels.around(row.score, row.score_reach, places)
    yield labels.around(row.gain, row.gain_reach, places)
    yield "all" if row.rows == ALL else f"{row.rows:,.0f}"
    yield "" if math.isnan(row.seconds) else f"{row.seconds:.1f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    mark, name, *others = cells
    told = [labels.short(name, widths[1]).ljust(widths[1])]
    told += [cell.rjust(width) for cell, width in zip(others, widths[2:])]
    return f"{mark:1} {'  '.join(told)}".rstrip()


def shown(choice: Choice, most: int | None = MOST) -> str:
    """`text` under a line that says what it is about, and `wrapped`: what a terminal shows."""
    parts = [text(choice, most), wrapped(choice.reasons)]
    if choice.contestants:
        first = choice.contestants[0].scored
        way = "more" if choice.direction == "maximize" else "less"
        head = f"{choice.problem}: {choice.metric} ({way} is better) on {first.rows:,} rows by {first.how}"
        parts.insert(0, head)
        parts[-1] = f"\n{parts[-1]}"
    return "\n".join(filter(None, parts))


# --- in words


def markdown(choice: Choice) -> str:
    """The reasons of `choice` for a page, the first of them bold."""
    first, *others = choice.reasons
    return "  \n".join([f"**{first}**", *others])


def finding(choice: Choice) -> str:
    """The verdict of `choice` in a sentence or two, as a Markdown list, and who learned most by heart."""
    lines = [choice.reasons[0]]
    rows = [r for r in table(choice) if math.isfinite(r.train) and math.isfinite(r.score)]
    if rows:
        one = max(rows, key=lambda r: abs(r.train - r.score))
        lines.append(
            f"{one.name} learned most by heart: {labels.number(one.train)} on the rows it learned from, "
            f"{labels.number(one.score)} on others."
        )
    return "\n".join(f"- {line}" for line in lines)


def wrapped(reasons: Iterable[str]) -> str:
    """The `reasons` of a Choice, or other sentences, for a terminal, each on lines of its own."""
    return "\n".join(labels.wrapped(each, indent="  ") for each in reasons)
