"""What one run found, in words from its own numbers: how good, how much was learned by heart, what the label does."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from Codes.ground.labels import number
from Codes.judgement.scored import Scored
from Codes.problems.problem import Problem

if TYPE_CHECKING:  # for annotations alone: it gives the finding
    from Codes.judgement.validation import Validated

MOST = 3  # columns that are named


def share(part: float) -> str:
    """A share for people: '31 of 100'."""
    return f"{100 * part:.1g} of 100" if 0 < part < 0.01 else f"{100 * part:.0f} of 100"


def class_name(problem: Problem, label: object) -> str:
    """A class's label for people: 'malignant', but 'late = True'."""
    text = str(label)
    is_a_word = text.isalpha() and text not in ("True", "False")
    return text if is_a_word else f"{problem.called(problem.target, unit=False)} = {text}"


def of(validated: "Validated", importance: pd.DataFrame | None = None) -> str:
    """The finding of a `validated` run as a Markdown list; `importance` is of validation.importance."""
    problem, table = validated.problem, validated.predictions
    train = float(validated.table["train"].get(problem.metric.name, np.nan))
    lines = [by_heart(validated.scored, train)]
    labels = set(table.actual) | set(table.predicted)
    if problem.task == "classification" and len(labels) == 2:
        lines.append(label_of_two(problem, table, labels))
    if importance is not None:
        lines += _relies(problem, importance)
    lines = [f"{line[:1].upper()}{line[1:]}" for line in lines if line]
    # which begins with a metric's name
    return "\n".join(f"- {line}." for line in [validated.sentence(), *lines])


def by_heart(scored: Scored, train: float) -> str:
    """How much better the model is on the rows it learned from, held against the score's own error."""
    gap = (train - scored.score) * (1 if scored.more else -1)
    if not np.isfinite(gap):
        return ""
    told = f"on the rows that it learned from it has {number(train)}, on others {number(scored.score)}: "
    if gap <= scored.own().reach():
        return f"{told}no more apart than these rows' own error, so hardly anything was learned by heart"
    return f"{told}{number(gap)} of that was learned by heart, and does not hold for new rows"


def label_of_two(problem: Problem, table: pd.DataFrame, labels: set[Any] | Sequence[Any]) -> str:
    """Of two classes: how many of the positive one the label finds, and how many of its alarms are false."""
    sought = sorted(labels)[-1] if problem.positive is None else problem.positive
    hit, said = table.actual == sought, table.predicted == sought
    found = share((said & hit).sum() / max(int(hit.sum()), 1))
    found = f"the label finds {found} that are {class_name(problem, sought)}"
    if not said.any():
        return f"{found}, since it never says so"
    return f"{found}, and {share((said & ~hit).sum() / said.sum())} of its alarms are false"


def _relies(problem: Problem, importance: pd.DataFrame) -> Iterator[str]:
    """Which columns it relies on, where shuffling them costs more than chance."""
    top = importance[importance["mean"] > 2 * importance["std"].fillna(0)]
    if len(top):
        names = [problem.called(name, unit=False) for name in top.index[:MOST]]
        rest = f", of {len(top)} columns that matter" if len(top) > MOST else ""
        yield f"it relies most on {', '.join(names)}{rest}"
