"""The verdict on each window: the contract first, drift by the budget's rule, harm where the truth has come."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from threadpoolctl import threadpool_limits

from Codes.ground import pace
from Codes.ground.errors import WorkbookError, counted
from Codes.ground.labels import number, score
from Codes.judgement import paired
from Codes.judgement.paired import Answers, Rows
from Codes.modeling import evaluation
from Codes.drift import asked as asking, calibration, harm, joint, windows
from Codes.drift.calibration import Drift
from Codes.drift.effects import MOVED
from Codes.drift.reference import BLOCK, FEWEST, Profile
from Codes.drift.rule import Rule
from Codes.drift.watched import Watched
from Codes.drift.windows import Window
from Codes.problems import rows as rows_
from Codes.problems.problem import Problem
from Codes.saved_models.trust import Loaded
from Codes.tables import contract
from Codes.tables.cell_values import in_utc

Score = tuple[float, float, float]  # a value, and its interval from low to high
Status = Literal["quiet", "drift", "harm", "contract", "pending"]
EXIT: dict[Status, int] = {"quiet": 0, "drift": 10, "harm": 11, "contract": 12, "pending": 13}
# from the one that matters least
ORDER: tuple[Status, ...] = ("quiet", "pending", "drift", "harm", "contract")
GRAVE: tuple[Status, ...] = ("drift", "harm", "contract")  # what is told to others, and drawn
PART = 200_000  # rows that are held against the contract at once
RIPE = 0.9  # of a window's rows whose truth has to be known
SHOWN = 4  # columns in a sentence
CEILING = 10.0  # of the threshold: what evidence is kept, so that it goes when harm has gone
SAID, CAME = "said", "came"  # means of what the model said and of what came, among the metrics
NO_DRIFT = calibration.of(np.zeros((1, 0)), [], 0.1)


@dataclass(frozen=True, eq=False)
class Judged:  # pylint: disable=too-many-instance-attributes
    """What is known of one window.

    Args:
        status: the gravest of what was found.
        sentences: what was found, the gravest first.
        drift: a calibration.Drift; `strange`: whether it counts for the rule; `alarm`: whether the rule gives one.
        breaches: rows of contract.check that are not ok, and what the model cannot take.
        labelled: the share of the rows whose truth is known.
        blocks: of each block the mean loss and error (see asked.as_blocks); `evidence` of harm, the most in it, and
            `parts`: of the loss, of too low and of too high answers, of which it is the mean.
        metrics: by name; `score`: the deciding one with its error.
        slices: paired.slices of the answers with a truth; `both`: of these what was said, and what came.
    """

    window: Window
    rows: int
    status: Status = "quiet"
    sentences: tuple[str, ...] = ()
    drift: Drift = NO_DRIFT
    strange: bool = False
    alarm: bool = False
    breaches: tuple[str, ...] = ()
    labelled: float = 0.0
    blocks: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    evidence: float = 0.0
    parts: tuple[float, ...] = (0.0, 0.0, 0.0)
    metrics: dict[str, float] = field(default_factory=dict)
    score: Score | None = None
    slices: pd.DataFrame = field(default_factory=pd.DataFrame)
    both: pd.DataFrame = field(default_factory=pd.DataFrame)
    frame: pd.DataFrame = field(
        default_factory=pd.DataFrame
    )  # the watched columns of the rows that were looked at

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        return f"{self.window.name} {self.status}: {'; '.join(self.sentences)}"


@dataclass(frozen=True)
class Policy:
    """By what is judged: the rule and the level it needs, the least effect, the evidence that is harm."""

    rule: Rule
    level: float
    least: float
    threshold: float
    budget: int

    @classmethod
    def of(cls, problem: Problem, window: str, reference: int) -> "Policy":
        """The policy of the problem's file, of which this is the window, and so many are the reference's."""
        given = problem.monitoring
        rule, size = Rule.of(given.rule), windows.length(window)
        blocks = size / BLOCK if isinstance(size, int) else max(1.0, size / pd.Timedelta("1D"))
        level = rule.level_for(reference, given.budget)
        return cls(rule, level, given.minimum_effect, given.budget * blocks, given.budget)


def judge(
    watched: Watched,
    profile: Profile,
    loaded: Loaded,
    policy: Policy,
    say: Callable[[str], object] = lambda text: None,
) -> list[Judged]:
    """The verdict on each window of `watched`, the first one first; `say` is given how far it is, now and then."""
    each_window = pace.told(watched.windows, "windows", say)
    with threadpool_limits(1, user_api="openmp"):  # a few rows at a time: threads only wait
        found = [_look(window, watched, profile, loaded, policy) for window in each_window]
    alarms = policy.rule.alarms([each.strange for each in found])
    evidence = _evidence(found, profile, policy)
    judged = [
        replace(each, alarm=alarm, parts=parts, evidence=float(np.mean(parts)))
        for each, alarm, parts in zip(found, alarms, evidence)
    ]
    return [_with_verdict(each, profile, policy) for each in judged]


def _evidence(found: Sequence[Judged], profile: Profile, policy: Policy) -> list[tuple[float, ...]]:
    """The parts of the evidence where it is most in each window; what is over the ceiling is let go."""
    sizes = np.cumsum([len(each.blocks) for each in found])
    blocks = np.concatenate([*(each.blocks for each in found), np.zeros((0, 2))])
    values = harm.of(blocks, profile.reference.promised, CEILING * policy.threshold)
    return [
        tuple(map(float, part[part.mean(axis=1).argmax()])) if len(part) else (0.0, 0.0, 0.0)
        for part in np.split(values, sizes)[: len(found)]
    ]


def _look(  # pylint: disable=too-many-locals
    window: Window, watched: Watched, profile: Profile, loaded: Loaded, policy: Policy
) -> Judged:
    """What one window shows by itself."""
    count = len(window.rows)
    if count == 0:
        return Judged(window, 0)
    problem = profile.reference.problem
    breaches = _breaches(watched.table, window.rows, problem, loaded)
    # of many rows some, drawn by chance but always the same
    kept = rows_.capped(np.arange(count), profile.most if profile.windows else count)
    asked = asking.ask(loaded, watched.table.take(window.rows[kept]))
    breaches += asking.as_sentences(asked)
    answers = asked.answers
    frame = asked.features
    if len(answers):
        frame = frame.join(asking.answer_columns(problem, answers, loaded.labels))
    frame = frame.reindex(columns=profile.reference.rows.columns)
    drift = NO_DRIFT
    if count >= FEWEST and window.is_over and len(profile.reference.rows):
        names = profile.names
        effects, among = profile.effects(frame), profile.among(len(frame))
        if answers.empty:  # told as a breach already; no answer is no gap
            seen = [
                i
                for i, n in enumerate(names)
                if not n.column.startswith((asking.ANSWER, joint.NAME.column))
            ]
            names, effects, among = [names[i] for i in seen], effects[:, seen], among[:, seen]
        drift = calibration.of(effects, names, policy.least, among)
    truth = watched.truth.iloc[window.rows[kept]].reset_index(drop=True)
    looked = Judged(
        window,
        count,
        drift=drift,
        strange=drift.is_strange(policy.level, policy.least),
        breaches=tuple(breaches),
        labelled=float(truth.notna().mean()),
        frame=frame,
    )
    return _with_truth(looked, watched, kept, asked, truth, profile, loaded)


def _breaches(table: pa.Table, chosen: np.ndarray, problem: Problem, loaded: Loaded) -> list[str]:
    """What of the contract all of the `chosen` rows of `table` break, a sentence each, with so many in memory at once.

    Of more rows than that the share of gaps is told by the part that has most.
    """
    needed = [n for n in table.column_names if n in {*problem.contract, problem.target}]
    asked = set(loaded.kinds) | set(table.column_names)
    told: dict[str, str] = {}  # of a column what is broken first
    for start in range(0, max(len(chosen), 1), PART):
        frame = table.select(needed).take(chosen[start : start + PART]).to_pandas()
        for text in _broken_rules(frame, problem, asked):
            told.setdefault(text.partition(" needs ")[0], text)
    return list(told.values())


def _broken_rules(frame: pd.DataFrame, problem: Problem, asked: set[str]) -> list[str]:
    """What of the contract `frame` breaks, of the columns `asked`; a target that has not come is late, not missing."""
    found = contract.check(frame, problem)
    broken = found[~found.ok.astype(bool) & found.column.isin(asked)]
    late = (
        {problem.target}
        if problem.target in frame and frame[problem.target].isna().any()
        else set()
    )
    return [
        f"contract: {row.column} needs {row.required}; saw {row.seen}"
        for row in broken.itertuples()
        if row.column not in late
    ]


def _with_truth(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
    looked: Judged,
    watched: Watched,
    kept: np.ndarray,
    asked: asking.Asked,
    truth: pd.Series,
    profile: Profile,
    loaded: Loaded,
) -> Judged:
    """`looked` with what the rows say whose truth is known, where these are enough."""
    reference = profile.reference
    problem, labels = reference.problem, loaded.labels
    known = asked.answers.index.intersection(truth.index[truth.notna()])
    if labels is not None:  # a class that training never saw is a matter for the contract
        known = known[truth.loc[known].isin(labels)]
    if looked.labelled < RIPE or len(known) < FEWEST:
        return looked
    actual = truth.loc[known]
    actual = actual.astype(float) if labels is None else actual.infer_objects()
    answers = asked.answers.loc[known].assign(actual=actual)
    losses = asking.losses(answers, actual, labels, reference.scale)
    positions = looked.window.rows[kept][known]
    blocks = _blocks(watched, positions, reference.window)
    frame = watched.table.take(positions).to_pandas().assign(**{problem.target: actual.to_numpy()})
    in_table = [name for name in problem.gate.slices if name in frame]
    gate = problem.gate.model_copy(update={"slices": in_table})
    rows = Rows(problem.model_copy(update={"gate": gate}), frame, blocks)
    mine = Answers(answers.reset_index(drop=True), labels)
    metrics, deciding = _measured(rows, mine)
    both = asking.said_and_came(problem, answers, actual, labels)
    means = {"loss": float(losses.mean()), SAID: both.said.mean(), CAME: both.came.mean()}
    return replace(
        looked,
        blocks=asking.as_blocks(losses, both, blocks, reference.scale),
        metrics=metrics | means,
        score=deciding,
        both=both,
        slices=paired.slices(rows, mine),
    )


def _blocks(watched: Watched, positions: np.ndarray, window: str) -> np.ndarray:
    """A value for each of the rows at `positions`: rows of one day, or so many in a row, go together."""
    if watched.times is None or isinstance(windows.length(window), int):
        return np.arange(len(positions)) // BLOCK
    return in_utc(watched.times.iloc[positions]).dt.floor("D").to_numpy()


def _measured(rows: Rows, mine: Answers) -> tuple[dict[str, float], Score | None]:
    """(the metrics, the deciding one with its 95 % interval; None where it cannot be taken)."""
    try:
        metrics = evaluation.measure(rows.problem, mine.table, mine.labels)
        value, draws = rows.taken(mine)
    except WorkbookError:  # an own metric that cannot be taken of these rows
        return {}, None
    if not np.isfinite(value) or np.isfinite(draws).sum() < 2:
        return metrics, None
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return metrics, (value, float(low), float(high))


def _with_verdict(each: Judged, profile: Profile, policy: Policy) -> Judged:
    """`each` with its status and why."""
    found: list[tuple[Status, str]] = []
    for text in each.breaches[:SHOWN]:
        found.append(("contract", text))
    if (more := len(each.breaches) - SHOWN) > 0:
        found.append(("contract", f"and {more} more"))
    found += _harm(each, profile, policy)
    found += _drift(each, policy)
    found += _pending(each)
    if not found:
        found = [("quiet", _quiet(each, profile, policy))]
    status = max((kind for kind, _ in found), key=ORDER.index)
    order = sorted(found, key=lambda one: -ORDER.index(one[0]))
    return replace(each, status=status, sentences=tuple(text for _, text in order))


def _harm(each: Judged, profile: Profile, policy: Policy) -> list[tuple[Status, str]]:
    if each.blocks.size == 0 or each.evidence < policy.threshold:
        return []
    grave = [
        text for text, part in zip(_broken(each, profile), each.parts) if part == max(each.parts)
    ]
    return [
        (
            "harm",
            f"{grave[0]} (evidence {number(each.evidence)} of {number(policy.threshold)} that the budget asks for)"
            f"{_scored(each, profile)}",
        )
    ]


def _broken(each: Judged, profile: Profile) -> list[str]:
    """What loss, too low and too high answers are, beside what is tolerated, in words."""
    reference, metrics = profile.reference, each.metrics
    low, high = (error * reference.scale for error in reference.promised.errors)
    told = f"it says {number(float(metrics[SAID]))} where {number(float(metrics[CAME]))} came, tolerated are"
    return [
        f"the loss is {number(float(metrics['loss']))}, tolerated are {number(reference.bound)}",
        f"{told} {number(high)} more",
        f"{told} {number(-low)} less",
    ]


def _drift(each: Judged, policy: Policy) -> list[tuple[Status, str]]:
    if not each.alarm:
        return []
    moved = each.drift.named(policy.level, policy.least).drop_duplicates("column")
    names = [_told(row) for row in moved.head(SHOWN).to_dict("records")]
    more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
    what = (
        f"moved: {', '.join(names)}{more}" if names else "this window is like the reference again"
    )
    return [("drift", f"{policy.rule} windows are strange (p = {each.drift.p:.3f}); {what}")]


def _told(row: dict[Hashable, Any]) -> str:
    """A row of a Drift's columns, in words."""
    what = "" if row["what"] == MOVED else f"{row['what']}, "
    return f"{row['column']} ({what}{row['effect']:.0%} of the rows, usually {row['usual']:.0%})"


def _pending(each: Judged) -> list[tuple[Status, str]]:
    if each.rows == 0:
        return [("pending", "no rows: nothing to judge")]
    if not each.window.is_over:
        return [("pending", f"it is not over: {counted(each.rows, 'row')} so far")]
    if each.rows < FEWEST:
        return [("pending", f"{counted(each.rows, 'row')}: too few to judge, {FEWEST} are needed")]
    if each.labelled < RIPE:
        share = f"of {each.labelled:.0%} of the rows" if each.labelled else "of no row"
        return [("pending", f"the truth is known {share}: harm cannot be judged; {_apart(each)}")]
    if each.blocks.size == 0:
        return [("pending", "the model answered too few of its rows to judge it")]
    return []


def _apart(each: Judged) -> str:
    if each.strange:
        return f"strange by itself (p = {each.drift.p:.3f}), the rule wants more windows"
    return f"like the reference (p = {each.drift.p:.2f})"


def _quiet(each: Judged, profile: Profile, policy: Policy) -> str:
    loss, bound = float(each.metrics["loss"]), profile.reference.bound
    above = (
        f", above the tolerated {number(bound)} (evidence {number(each.evidence)}, harm needs "
        f"{number(policy.threshold)})"
    )
    return f"{_apart(each)}; the loss is {number(loss)}{above * (loss > bound)}{_scored(each, profile)}"


def _scored(each: Judged, profile: Profile) -> str:
    if each.score is None:
        return ""
    value, low, high = each.score
    name = profile.reference.problem.metric.name
    return f"; {name} {score(value)} (95 %: {score(low)} to {score(high)})"


def worst(judged: Sequence[Judged]) -> Status:
    """The gravest status of the windows; quiet where there are none."""
    return max((each.status for each in judged), key=ORDER.index, default="quiet")
