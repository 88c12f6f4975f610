"""Rows as they come, as a model takes them: its columns in its types, what it answers, and how much it was wrong."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa

from Codes.ground.errors import counted
from Codes.modeling import evaluation
from Codes.problems.problem import Problem
from Codes.saved_models.trust import Loaded
from Codes.scoring.table_parts import Part
from Codes.scoring.typed_rows import Rules

ANSWER = "prediction"  # the column that holds what the model answers
ANSWERS = 8  # classes whose probability is a column
EXACT = "probability of "


@dataclass(frozen=True, eq=False)
class Asked:
    """Some rows and what a model says of them.

    Args:
        features: the model's columns in its types, of all rows; one that cannot be read is all gaps.
        answers: evaluation.predictions of the rows that the model takes, by their numbers in `features`.
        refused: {what is wrong with a column: in how many rows}, for which the model gives no answer.
        unreadable: sentences on columns that are not there, or hold another type.
    """

    features: pd.DataFrame
    answers: pd.DataFrame
    refused: dict[str, int] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()


def ask(loaded: Loaded, rows: pa.Table) -> Asked:
    """The Asked of `rows` (an Arrow table), whatever their columns hold."""
    part = Part(0, rows, np.arange(rows.num_rows) + 1)
    columns, unreadable = {}, []
    for column in Rules(loaded, allow_unknown=True).columns:
        name = column.name
        given = rows.schema.field(name).type if name in rows.schema.names else None
        if given is not None and rows[name].null_count == rows.num_rows:
            given = column.kind  # all gaps: whatever type the reader made of them, it is none
            part.rows = part.rows.set_column(
                part.rows.schema.get_field_index(name), name, pa.nulls(rows.num_rows, given)
            )
        is_text = given is not None and not column.may_be(given) and _is_text(given)
        if given is None:
            unreadable.append(f"column {name} is not there")
        elif is_text or column.may_be(given):
            columns[name] = column.typed(part, is_text)
            continue
        else:
            unreadable.append(f"column {name} is of type {given}, the model takes {column.words}")
        columns[name] = pa.nulls(rows.num_rows, column.kind)
    features = pa.table(columns).to_pandas()
    refused: dict[str, int] = {}
    for reasons in part.reasons.values():
        for reason in reasons:
            refused[_kind(reason)] = refused.get(_kind(reason), 0) + 1
    good = np.setdiff1d(np.arange(len(features)), list(part.reasons))
    return Asked(
        features, _answers(loaded, features, good, bool(unreadable)), refused, tuple(unreadable)
    )


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind.value_type if pa.types.is_dictionary(kind) else kind)


def _kind(reason: str) -> str:
    """The `reason` for which a row is refused, without the row's own value."""
    name, _, rest = reason.partition(" ")
    for words in ("is not ", "is missing"):
        if words in rest:
            return f"{name} {words}{rest.partition(words)[2]}".strip()
    return reason


def _answers(loaded: Loaded, features: pd.DataFrame, good: np.ndarray, blind: bool) -> pd.DataFrame:
    """What the model answers for the `good` rows; nothing where it is `blind`: a column is missing."""
    rows = features.iloc[[] if blind else good]
    if rows.empty:
        return pd.DataFrame(index=rows.index)
    blank = pd.Series(np.nan, rows.index)
    return evaluation.predictions(loaded.pipeline, loaded.ordered(rows), blank)


def answer_columns(problem: Problem, answers: pd.DataFrame, labels: list | None) -> pd.DataFrame:
    """What of the `answers` is watched like a column: the positive's probability, each class's, the amount."""
    exact = answers.filter(regex=f"^{EXACT}")
    if labels is None or exact.empty:
        return answers[["predicted"]].set_axis([ANSWER], axis=1) if len(answers) else answers[[]]
    if len(labels) == 2:
        return exact[[f"{EXACT}{evaluation.positive(problem, labels)}"]].set_axis([ANSWER], axis=1)
    kept = exact.iloc[:, :ANSWERS]
    return kept.set_axis([f"{ANSWER}: {str(n).removeprefix(EXACT)}" for n in kept], axis=1)


def losses(
    answers: pd.DataFrame, actual: pd.Series, labels: list | None, scale: float
) -> pd.Series:
    """How wrong each of the `answers` is, from 0 to 1: squared error of the probabilities, or wrong or not.

    Of a regression the absolute error over `scale`, at most 1.
    """
    if labels is None:
        wrong = (answers.predicted.astype(float) - actual.astype(float)).abs() / scale
        return wrong.clip(0, 1)
    exact = answers[[f"{EXACT}{label}" for label in labels if f"{EXACT}{label}" in answers]]
    if exact.shape[1] < len(labels):
        return (answers.predicted != actual).astype(float)
    hit = np.column_stack([np.asarray(actual == label) for label in labels]).astype(float)
    return pd.Series(((exact.to_numpy() - hit) ** 2).sum(axis=1) / 2, answers.index)


def said_and_came(
    problem: Problem, answers: pd.DataFrame, actual: pd.Series, labels: list | None
) -> pd.DataFrame:
    """What each of the `answers` said, and what came: the positive's probability, and whether it was; the amount.

    Of more classes how sure it was of the one that it named, and whether that was right.
    """
    if labels is None:
        return pd.DataFrame({"said": answers.predicted.astype(float), "came": actual.astype(float)})
    exact = answers.filter(regex=f"^{EXACT}")
    if len(labels) == 2:
        sought = evaluation.positive(problem, labels)
        name = f"{EXACT}{sought}"
        said = answers[name] if name in answers else answers.predicted == sought
        return pd.DataFrame({"said": said.astype(float), "came": (actual == sought).astype(float)})
    if exact.empty:
        right = (answers.predicted == actual).astype(float)
        return pd.DataFrame({"said": right, "came": right})
    surest = exact.idxmax(axis=1).map({f"{EXACT}{label}": label for label in labels})
    return pd.DataFrame({"said": exact.max(axis=1), "came": (surest == actual).astype(float)})


def as_blocks(wrong: pd.Series, both: pd.DataFrame, blocks: np.ndarray, scale: float) -> np.ndarray:
    """A row a block: the mean of `wrong`, its losses, and of what came less what was said (`both`), over `scale`."""
    rows = pd.DataFrame({"loss": wrong, "error": (both.came - both.said) / scale})
    return rows.groupby(blocks).mean().to_numpy()


def loss_name(problem: Problem, scale: float) -> str:
    """What `losses` are, in words."""
    if problem.task == "regression":
        return f"absolute error, in parts of {scale:.3g}"
    return "Brier score"


def as_sentences(asked: Asked) -> list[str]:
    """What of the rows the model cannot take, a sentence each."""
    told = [f"{reason}: {counted(n, 'row')}" for reason, n in asked.refused.items()]
    return [*asked.unreadable, *told]
