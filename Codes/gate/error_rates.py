"""How often the gate errs: it is asked again and again about two models whose difference is known.

    python -m Codes.gate.error_rates 400 150      how often, of the whole and of the slices

Each time there are new outcomes and two models, whose answers are drawn so that the truth is known: scores of the
positives lie higher by an amount that gives the ROC AUC; those of the two models go together, and on a day all rows
of a model share a part of its error. Prints a JSON object a line: what, how often, of how many.
"""

import itertools
import json
import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from Codes.judgement import paired
from Codes.judgement.paired import Answers, Rows
from Codes.problems import problem as problems

AUC, BETTER = 0.68, 0.01  # of the one in production; by how much the better one is better
POSITIVE = 0.25  # the share of them
TOGETHER, OF_DAY = (
    0.9,
    0.02,
)  # of the variance of a score: what both models share, what a day's rows share
SIZES = {1000: 1.0, 5000: 1.0, 25_000: 0.2}  # rows, and the share of the times that they are drawn
DAYS = 92
SLICES, SLICE_ROWS = (3, 3, 7, 9), 500  # groups of each column: 22 in all
KIND = {"target": "late", "task": "classification", "source": {"sklearn": "wine"}}


def made(gate: dict[str, Any] | None = None) -> problems.Problem:
    """The problem that the rows are of."""
    split, metric = {"kind": "random", "test_share": 0.2}, {
        "name": "roc_auc",
        "direction": "maximize",
    }
    fields = KIND | {
        "name": "made",
        "title": "Made up",
        "split": split,
        "metric": metric,
        "positive": True,
    }
    return problems.Problem.model_validate(fields | {"gate": gate or {}})


def same_rows(problem: problems.Problem, count: int, days: bool) -> Rows:
    """`count` rows with their day, the same each time, as the calendar is: so their draws are made once."""
    day = np.random.default_rng(0).integers(0, DAYS, count)
    frame = pd.DataFrame({"day": day})
    return Rows(problem, frame, day if days else np.arange(count))


def drawn(
    random: np.random.Generator, frame: pd.DataFrame, gain: float, days: bool
) -> tuple[Answers, Answers]:
    """What a candidate better by `gain`, and the champion, answer for the rows of `frame` with their day."""
    count, day = len(frame), frame.day.to_numpy()
    late = random.random(count) < POSITIVE
    shared, tables = random.normal(size=count), []
    for auc in (AUC + gain, AUC):
        of_day = math.sqrt(OF_DAY) * random.normal(size=DAYS)[day] if days else 0.0
        own = math.sqrt(1 - TOGETHER - OF_DAY * days) * random.normal(size=count)
        noise = math.sqrt(TOGETHER) * shared + of_day + own
        score = stats.norm.cdf(math.sqrt(2) * stats.norm.ppf(auc) * late + noise)
        table = {"actual": late, "probability of False": 1 - score, "probability of True": score}
        tables.append(paired.Answers(pd.DataFrame(table), [False, True]))
    return tables[0], tables[1]


def passes(random: np.random.Generator, rows: Rows, gain: float, days: bool) -> bool:
    """Whether the gate finds the candidate better on one set of answers for the `rows`."""
    candidate, champion = drawn(random, rows.frame, gain, days)
    return paired.difference(rows, rows.measure(candidate), rows.measure(champion)).low > 0


def refuses_a_slice(random: np.random.Generator, problem: problems.Problem, days: bool) -> bool:
    """Whether of two equally good models the gate finds one worse in a slice."""
    rows = same_rows(problem, SLICE_ROWS * max(SLICES) + 500, days)
    candidate, champion = drawn(random, rows.frame, 0.0, days)
    columns = {name: random.integers(0, n, len(rows.frame)) for name, n in zip("abcd", SLICES)}
    rows.frame = rows.frame.assign(**columns)
    table = paired.slices(rows, candidate, champion)
    return bool(paired.left_behind(table, problem.gate.slice_loss or 0.0).any())


def measured(times: int, slice_times: int) -> Iterator[dict]:
    """{key, what, share, times} of each question."""
    problem = made()
    for gain, days, count in itertools.product((0.0, BETTER), (False, True), SIZES):
        random, often = np.random.default_rng(1), max(1, round(times * SIZES[count]))
        rows = same_rows(problem, count, days)
        hits = sum(passes(random, rows, gain, days) for _ in range(often))
        key, what, wrong = "no_better", "no better, passes", hits
        if gain:
            key, what, wrong = "better", "better by 0.01, refused", often - hits
        key, what = f"{key}_{count}{'_days' * days}", f"{what}: {count:,} rows{', by days' * days}"
        yield _row(key, what, wrong, often)
    gate = {"slices": list("abcd"), "slice_rows": SLICE_ROWS, "slice_loss": 0.0}
    for days in (False, True):
        random = np.random.default_rng(2)
        hits = sum(refuses_a_slice(random, made(gate), days) for _ in range(slice_times))
        what = f"equally good, refused for one of {sum(SLICES)} slices{', by days' * days}"
        yield _row(f"slices{'_days' * days}", what, hits, slice_times)


def _row(key: str, what: str, hits: int, times: int) -> dict[str, Any]:
    return {"key": key, "what": what, "share": hits / times, "times": times}


if __name__ == "__main__":
    for answer in measured(*map(int, sys.argv[1:])):
        print(json.dumps(answer), flush=True)
