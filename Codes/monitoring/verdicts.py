"""The verdicts on a version in use, for a page: how each window went, what has moved, and whether that does harm.

Where nothing can be watched it says why, and there is nothing to show.
"""

from collections import Counter
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from Codes.figures import course
from Codes.ground.errors import WorkbookError, counted
from Codes.ground.labels import number
from Codes.model_registry.registry import Version
from Codes.drift import asked as asking, judge
from Codes.monitoring import kept_reference, monitor, record
from Codes.drift.judge import CAME, SAID, Judged
from Codes.monitoring.monitor import Monitored

TABLE = ["window", "status", "rows", "verdict"]
MOVED = [
    "column",
    "what",
    "moved",
    "usually",
    "at most",
    "p",
]  # shares of the rows; p for all columns at once

NOTHING = "Nothing is watched."
NAMED = 6  # windows in a sentence


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What the watch over a version says; without `done` why there is none, in `news`."""

    news: str
    done: Monitored | None = None

    @property
    def judged(self) -> list[Judged]:
        """The verdict on each window."""
        return self.done.judged if self.done else []

    def table(self) -> pd.DataFrame:
        """A row a window: its status, and the verdict in words."""
        found = record.as_table(self.judged).rename(columns={"name": "window"})
        return found.assign(verdict=found.sentence)[TABLE]

    def summary(self) -> dict[str, float]:
        """{metric: how many windows have each status}, for MLflow."""
        counts = Counter(each.status for each in self.judged)
        return {f"windows_{status}": float(counts[status]) for status in judge.ORDER}

    def figure(self) -> Figure:
        """The course: p, loss and metric of each window."""
        return self.done.figure() if self.done else course.nothing(NOTHING)

    def words(self) -> str:
        """The metric in its best and its worst window, in words."""
        over = [each for each in self.judged if each.window.is_over]
        scored = [(each.score[0], each) for each in over if each.score is not None]
        if self.done is None:
            return NOTHING
        if not scored:
            return "No window that is over has a metric: its truth is not known."
        metric = self.done.profile.reference.problem.metric
        order = sorted(scored, key=lambda pair: pair[0], reverse=metric.direction == "maximize")
        (_, best), (_, worst) = order[0], order[-1]
        return (
            f"Of {counted(len(scored), 'window')} the truth is known. The {metric.name} is best in the one that begins "
            f"at {_scored(best)}, worst in that of {_scored(worst)}."
        )

    def gravest(self) -> Judged | None:
        """The window to look at first: of the gravest status, the strangest; None where none was compared."""
        compared = [each for each in self.judged if len(each.drift.columns)]
        return max(compared, key=_gravity, default=None)

    def moved(self, most: int = 6) -> pd.DataFrame:
        """The columns of the gravest window, the strangest first: which share of the rows has moved."""
        window = self.gravest()
        if window is None:
            return pd.DataFrame(columns=MOVED)
        return window.drift.columns.head(most).set_axis(MOVED, axis=1).round(3)

    def moved_figure(self) -> Figure:
        """The strangest columns of the gravest window, beside the reference."""
        window = self.gravest()
        if self.done is None or window is None:
            return course.nothing("no window could be held against the reference")
        reference = self.done.profile.reference
        names = list(dict.fromkeys(window.drift.columns.column))[: course.MOST]
        return course.moved(reference.rows, window.frame, names, reference.words)

    def harm(self) -> str:
        """Whether the version does harm, in words, with the loss and what is tolerated."""
        known = [each for each in self.judged if each.blocks.size]
        if self.done is None:
            return NOTHING
        if not known:
            return "Harm cannot be judged: the truth is not known."
        reference = self.done.profile.reference
        above = [each.window.name for each in known if each.metrics["loss"] > reference.bound]
        low, high = (error * reference.scale for error in reference.promised.errors)
        errors = [(each, each.metrics[CAME] - each.metrics[SAID]) for each in known]
        off = [each.window.name for each, error in errors if not low <= error <= high]
        loss = asking.loss_name(reference.problem, reference.scale)
        return (
            f"The loss ({loss}) is above the tolerated {number(reference.bound)} in {len(above)} of "
            f"{counted(len(known), 'window')}{_named(above)}; what comes, less what the model says, is outside of the "
            f"tolerated {number(low)} to {number(high)} in {len(off)}{_named(off)}. {self.shown()}"
        )

    def shown(self) -> str:
        """Whether the evidence shows harm, in words; '' where none can be judged."""
        known = [each for each in self.judged if each.blocks.size]
        if self.done is None or not known:
            return ""
        harmed = [e.window.name for e in known if e.evidence >= self.done.policy.threshold]
        most, needed = max(known, key=_evidence), number(self.done.policy.threshold)
        if harmed:
            return (
                f"The evidence first reaches the {needed} that the budget asks for in {harmed[0]}: that is harm, in "
                f"{counted(len(harmed), 'window')}."
            )
        return (
            f"The evidence comes to {number(most.evidence)} in {most.window.name} and never reaches the {needed} "
            "that the budget asks for: no harm is shown."
        )

    def harm_figure(self) -> Figure:
        """The evidence of harm after each window, and how much of it alarms."""
        if self.done is None:
            return course.nothing(NOTHING)
        return course.evidence(record.as_table(self.judged), self.done.policy.threshold)


def finding(watch: Verdicts, more: str = "") -> str:
    """What `watch` found, as a Markdown list: how its windows went, what moved, whether that does harm, and `more`."""
    if watch.done is None:
        return "\n".join(f"- {each}" for each in (watch.news, more) if each)
    grave = watch.gravest()
    moved = f"To look at first: {grave.sentence}." if grave and grave.status != "quiet" else ""
    found = watch.news.partition("\n")[0], watch.words(), moved, watch.shown(), more
    return "\n".join(f"- {each}" for each in found if each)


def _gravity(each: Judged) -> tuple[float, ...]:
    return (judge.ORDER.index(each.status), -each.drift.p)


def _evidence(each: Judged) -> float:
    return each.evidence


def _named(names: list[str]) -> str:
    more = ", …" if len(names) > NAMED else ""
    return f" ({', '.join(names[:NAMED])}{more})" if names else ""


def _scored(each: Judged) -> str:
    value, low, high = each.score or (float("nan"),) * 3
    return f"{each.window.name} ({value:.3f}, 95 %: {low:.3f} to {high:.3f})"


def remember(version: Version | None) -> str:
    """Keep with `version` the profile that its windows will be held against; says so, or why there is none."""
    if version is None:
        return "There is no version to watch."
    return kept_reference.keep(version) or f"The reference profile of {version} is kept with it."


def of(name: str) -> Verdicts:
    """Watch the version of the model `name` that is in production (or staging) over what came after its training.

    The same as `workbook monitor`: each window is a run in the experiment `<problem>-monitoring`.
    """
    try:
        done = monitor.monitor(name)
    except WorkbookError as error:
        return Verdicts(f"There is nothing to watch: {error.message}")
    counts = Counter(each.status for each in done.judged)
    told = ", ".join(f"{counts[status]} {status}" for status in judge.ORDER if counts[status])
    window = done.profile.reference.window
    news = f"**{done.version}**, {counted(len(done.judged), 'window')} of {window}: {told}."
    return Verdicts("\n\n".join([news, *(f"*{note}.*" for note in done.notes)]), done)
