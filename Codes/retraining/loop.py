"""The loop, closed once over history: a model of the first months, its watch, the alarm, a training, what that gained.

All of it is real: runs of the training notebook, versions of a registered model of their own, runs of windows.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from Codes.figures import course
from Codes.ground.errors import WorkbookError, counted
from Codes.model_registry import registry
from Codes.drift import judge
from Codes.monitoring import backtest, kept_reference, monitor as monitoring, record
from Codes.drift.judge import Judged
from Codes.monitoring.monitor import Monitored
from Codes.problems import problem as problems
from Codes.problems.problem import Problem
from Codes.retraining import retrain as retraining

NOTEBOOK = "02_train"
FIRST = 0.25  # the share of the history that the first model knows
AFTER = 8  # windows after the training on which both models are compared
DRAWS = 2000


@dataclass(frozen=True, eq=False)
class Loop:
    """What came of it, in words; where there was an alarm: the watches of the first model, and of the one after it."""

    said: str
    old: Monitored | None = None
    new: Monitored | None = None
    alarm: Judged | None = None

    @property
    def gained(self) -> str:
        """What the training after the alarm gained, or why there was none, in words."""
        return self.said.rpartition("\n")[2]

    def table(self) -> pd.DataFrame:
        """A row a window that both have judged: loss and metric of the old model and of the new one."""
        return _side_by_side(self.old, self.new)

    def course(self) -> pd.DataFrame:
        """A row a window of the first model's watch: its status and verdict."""
        found = record.as_table(self.old.judged if self.old else [])
        return found.rename(columns={"name": "window"})[["window", "status", "loss", "score"]]

    def metrics(self) -> dict[str, float]:
        """What is logged: the mean metric and loss of both over the windows that they are compared on."""
        table = self.table().head(AFTER).drop(columns="window")
        return {f"loop_{name}": float(table[name].mean()) for name in table if len(table)}

    def figure(self) -> Figure:
        """Both models' metric, loss, and what they said beside what came, window by window; the training is marked."""
        if self.old is None:
            return course.nothing(self.said)
        tables = [record.as_table(each.judged) for each in (self.old, self.new) if each]
        reference = self.old.profile.reference
        metric = reference.problem.metric.name
        begun = self.alarm.window.end if self.alarm else None
        return course.loop(tables, metric, reference.bound, str(begun.date()) if begun else "")


def play(problem: str, model: str = "linear", rows: int = 10_000) -> Loop:
    """The Loop of the `problem`, by 02_train with that `model` and so many `rows`.

    The first model is one of the first quarter. It is watched over all that came after; at the first window of harm
    (where there is none: of drift) it is trained again, as of the end of that window, and both are compared. The same
    again finds what was trained and judged.
    """
    try:
        return _played(problem, model, rows)
    except WorkbookError as error:
        return Loop(f"The loop cannot be shown: {error.message}")


def _played(name: str, model: str, rows: int) -> Loop:
    question = problems.load(name)
    if question.split.kind != "time":
        return Loop("The loop needs a history: this problem is not split by time.")
    day = str(backtest.known_day(question, FIRST))
    given = {"model": model, "rows": str(rows)}
    first = _registered(retraining.trained(f"{name}@{day}", NOTEBOOK, given), question)
    old = monitoring.monitor(f"{first.name}/{first.number}")
    alarm = _first(old.judged)
    if alarm is None:
        return Loop(f"{_begun(first, day, old)} No window alarms: there is nothing to do.", old)
    until = str(alarm.window.end.date())
    done = retraining.retrain(
        f"{first.name}/{first.number}", day=until, by_policy=False, why=alarm.sentence
    )
    if done.version is None:
        return Loop(f"{_begun(first, day, old)} {done.why}.", old, None, alarm)
    new = monitoring.monitor(f"{done.version.name}/{done.version.number}", most=AFTER)
    told = f"**The alarm**, in the window of {alarm.sentence}.\n\n**{done.version}** is trained as of {until}."
    return Loop(
        f"{_begun(first, day, old)}\n\n{told} {_gained(old, new, question)}", old, new, alarm
    )


def _registered(run_id: str, question: Problem) -> registry.Version:
    """The version of the run, of a model of its own: what is in use under the problem's name stays."""
    name = f"{question.name}-loop"
    version, _ = kept_reference.register(run_id, name)
    if not registry.aliases(name):
        registry.move(name, "staging", version.number, None, why="the first months' model")
    return version


def _first(judged: list[Judged]) -> Judged | None:
    """The first window of harm; where there is none, of drift."""
    for status in ("harm", "drift"):
        for each in judged:
            if each.window.is_over and each.status == status:
                return each
    return None


def _begun(first: registry.Version, day: str, old: Monitored) -> str:
    statuses = [each.status for each in old.judged]
    counts = [(s, statuses.count(s)) for s in judge.ORDER]
    told = ", ".join(f"{count} {status}" for status, count in counts if count)
    return f"**{first}** knows what was known on {day}; watched over {counted(len(statuses), 'window')}: {told}."


def _side_by_side(old: Monitored | None, new: Monitored | None) -> pd.DataFrame:
    """A row a window that is over and that both have judged: window, loss and metric of both."""
    names = ["window", "loss_old", "loss_new", "score_old", "score_new"]
    if old is None or new is None:
        return pd.DataFrame(columns=names)
    tables = []
    for each in (old, new):
        over = [judged for judged in each.judged if judged.window.is_over]
        tables.append(record.as_table(over).rename(columns={"name": "window"}))
    both = tables[0].merge(tables[1], on="window", suffixes=("_old", "_new"))[names]
    return both.dropna(ignore_index=True)


def _gained(old: Monitored, new: Monitored, question: Problem) -> str:
    """What the training gained in the windows after it, in words, with a paired interval."""
    table = _side_by_side(old, new).head(AFTER)
    if len(table) < 2:
        return "Too few windows follow to say what that gained."
    saved = (table.loss_old - table.loss_new).to_numpy()
    random = np.random.default_rng(0)
    means = saved[random.integers(0, len(saved), (DRAWS, len(saved)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return (
        f"Over the {counted(len(table), 'window')} after that its {question.metric.name} is "
        f"{table.score_new.mean():.3f} in the mean, where the old model's is {table.score_old.mean():.3f}, and its loss"
        f" {table.loss_new.mean():.3f} instead of {table.loss_old.mean():.3f}: {saved.mean():.3f} less a window "
        f"(95 %: {low:.3f} to {high:.3f})."
    )
