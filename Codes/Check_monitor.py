"""A model in use, watched over three streams: quiet, moved without harm, harmed without a move.

    python Codes/Check_monitor.py

Expected output:

    quiet    the last of 10 windows is quiet
    moved    the last of 10 windows is drift: weight
    turned   the last of 10 windows is harm
    history  training by harm pays
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from Codes.model_registry import demonstration, promotion, registry
from Codes.monitoring import backtest, monitor
from Codes.problems import problem as problems
from Codes.testing import samples

ROWS = 200  # a day
FILE = """
title: Does it sell?
task: classification
source: {path: shop.parquet}
target: sold
positive: true
time: day
split: {kind: time, validation_cutoff: 2020-03-01, cutoff: 2020-03-15}
metric: {name: roc_auc, direction: maximize}
monitoring: {window: 1d}
"""


def stream(start: str, days: int, seed: int, turned: int = 1, weight: float = 0.0) -> pd.DataFrame:
    """Rows of so many days; `turned` is what a high price means, `weight` what every weight has more."""
    random = np.random.default_rng(seed)
    count = days * ROWS
    price = random.normal(size=count)
    return pd.DataFrame(
        {
            "day": pd.Timestamp(start) + pd.to_timedelta(np.repeat(np.arange(days), ROWS), "D"),
            "price": price,
            "weight": random.normal(size=count) + weight,
            "sold": random.random(count) < 1 / (1 + np.exp(-3 * turned * price)),
        }
    )


def report(folder: Path) -> Iterator[str]:
    """The lines of the expected output."""
    stream("2020-01-01", 80, 0).to_parquet(folder / "shop.parquet")
    (folder / "shop.yaml").write_text(FILE)
    problem = str(folder / "shop.yaml")
    run = demonstration.finished_run(problem, "linear", is_scored=True, rows=4000)
    registry.move("shop", "staging", promotion.register(run).number, None)
    for name, turned, weight in (("quiet", 1, 0.0), ("moved", 1, 0.6), ("turned", -1, 0.0)):
        stream("2020-06-01", 10, 1, turned, weight).to_parquet(folder / f"{name}.parquet")
        done = monitor.monitor("shop", table=folder / f"{name}.parquet")
        last = done.judged[-1]
        named = last.drift.named(done.policy.level, done.policy.least).column.unique()
        moved = named if last.alarm else []
        told = f": {', '.join(moved)}" if len(moved) else ""
        yield f"{name:8} the last of {len(done.kept)} windows is {last.status}{told}"
    both = [stream("2020-01-01", 60, 2), stream("2020-03-01", 40, 3, turned=-1)]
    pd.concat(both).to_parquet(folder / "shop.parquet")
    (folder / "shop.yaml").write_text(FILE.replace("1d", "4d"))
    question = problems.load(problem)
    replayed = backtest.replay(question, model="linear", rows=2000, first="40d", sliding="20d")
    pays = replayed.table.set_index("policy").loc["by harm", "pays"]
    yield f"history  training by harm {'pays' if pays else 'does not pay'}"


if __name__ == "__main__":
    samples.check(report, __doc__)
