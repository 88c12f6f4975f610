"""History replayed: what would never training again have cost, what every window, by drift, by harm, and at best?

At the beginning of each window one model is trained on the rows whose truth was known by then, and asked about all
windows that follow. From that one square of losses (model × window) each policy reads its course, the best one in
hindsight by dynamic programming too (Mahadevan and Mathioudakis, Cost-aware retraining, 2024).
"""

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from Codes.figures import course
from Codes.ground.errors import WorkbookError
from Codes.ground.pace import Pace
from Codes.judgement import paired
from Codes.modeling import evaluation, models, training
from Codes.drift import asked as asking, calibration, harm, windows
from Codes.drift.effects import Bins
from Codes.drift.judge import Policy
from Codes.drift.levels import Levels
from Codes.drift.reference import CAP
from Codes.problems import data, rows as rows_
from Codes.problems.problem import Problem
from Codes.saved_models import trust
from Codes.tables.cell_values import in_utc

POLICIES = ("never", "every window", "by drift", "by harm", "at best")
TWIN = 4  # windows: a model's promised loss is what the recipe, so much earlier, showed on them
DRAWS = 2000


@dataclass(frozen=True, eq=False)
class Replayed:
    """What came of it.

    Args:
        windows: the names of those that were replayed.
        course: a row a window and policy: window, policy, trained (whether a new model began), loss, score, rate.
        table: a row a policy: trainings, loss, score, cost a window, gain over never with its 95 % interval, pays.
        price: of a training, in the loss of one window.
    """

    problem: Problem
    windows: list[str]
    course: pd.DataFrame
    table: pd.DataFrame
    price: float
    loss: str

    def sentence(self) -> str:
        """Which policy pays, in a sentence."""
        paying = self.table[self.table.pays & (self.table.policy != POLICIES[-1])]
        if paying.empty:
            return f"no policy pays at the price of {self.price:g} a training: training once was as good"
        best = paying.sort_values("cost").iloc[0]
        return (
            f"it pays to train {best.policy}: {best.trainings} trainings, {best.gain:.4f} a window less than never "
            f"(95 %: {best.low:.4f} to {best.high:.4f})"
        )


def known_day(problem: Problem, share: float) -> datetime.date:
    """The day on which that `share` of the history of `problem` is known, at the beginning of a window."""
    size = windows.length(problem.monitoring.window or windows.WEEK)
    if isinstance(size, int):
        raise WorkbookError(f"{problem.name}: its windows go by rows, not by time")
    times = in_utc(data.Table.of(problem).table[problem.time].to_pandas())
    moment = times.min() + share * (times.max() - times.min())
    return (windows.MONDAY + ((moment - windows.MONDAY) // size) * size).date()


class _History:  # pylint: disable=too-many-instance-attributes
    """The rows of a problem by window, and what each model says of each."""

    def __init__(self, problem: Problem, first: pd.Timedelta, delay: pd.Timedelta) -> None:
        if problem.split.kind != "time":
            raise WorkbookError(
                f"{problem.name}: only what is split by time has a history to replay"
            )
        table = data.Table.of(problem)
        self.problem, self.delay = problem, delay
        self.frame = table.frame(table.numbers, table.parts()).reset_index(drop=True)
        self.times = in_utc(self.frame[problem.time])
        window = problem.monitoring.window or windows.WEEK
        found, _ = windows.cut(len(self.frame), self.times, window)
        self.windows = [
            w for w in found if w.is_over and len(w.rows) and w.begin >= self.times.min().floor("D")
        ]
        self.features, self.target = data.features(self.frame, problem), data.target(
            self.frame, problem
        )
        begin = self.times.min() + first
        self.start = next(
            (i for i, w in enumerate(self.windows) if w.begin >= begin), len(self.windows)
        )
        if self.start < 2 * TWIN or len(self.windows) - self.start < TWIN:
            raise WorkbookError(
                f"{problem.name}: its table holds {len(self.windows)} windows of {window}: too few to replay after the "
                f"first {first.days} days; name shorter windows, or another --first"
            )
        self.policy = Policy.of(problem, window, self.start)

    def known(self, number: int, sliding: pd.Timedelta | None) -> np.ndarray:
        """The positions of the rows whose truth is known when the window of that `number` begins."""
        end = self.windows[number].begin - self.delay
        mask = self.times < end
        if sliding is not None:
            mask &= self.times >= end - sliding
        return np.flatnonzero(mask.to_numpy())


def replay(  # pylint: disable=too-many-arguments,too-many-locals
    problem: Problem,
    *,
    model: str = "hgb",
    hyperparameters: dict | None = None,
    rows: int = 20_000,
    delay: str = "0d",
    first: str = "91d",
    sliding: str = "",
    price: float = 0.001,
    seed: int = 0,
    say: Callable[[str], object] = lambda text: None,
) -> Replayed:
    """The Replayed of `problem`, whose `model` is trained on `rows` at most, once `first` has gone by.

    Args:
        delay: after which the truth of a row is known.
        sliding: the last so many days are trained on; empty: all before.
        price: of a training, in the loss of one window.
    """
    span = pd.Timedelta(sliding.replace("d", "D")) if sliding else None
    history = _History(
        problem, pd.Timedelta(first.replace("d", "D")), pd.Timedelta(delay.replace("d", "D"))
    )
    started = history.start - TWIN
    losses, scores, blocks = {}, {}, {}
    pace = Pace(len(history.windows) - started)
    for number in range(started, len(history.windows)):
        known = history.known(number, span)
        if len(known) < 50:
            raise WorkbookError(
                f"{problem.name}: after {first} and a delay of {delay} no truth is known yet"
            )
        drawn = (
            known
            if not rows or len(known) <= rows
            else np.sort(np.random.default_rng(seed).choice(known, rows, replace=False))
        )
        train = history.frame.iloc[drawn]
        pipeline = models.build(
            problem, data.features(train, problem), model, hyperparameters, seed
        )
        with threadpool_limits(1, user_api="blas"):  # a few rows: threads only wait
            fitted = training.fitted(problem, pipeline, train)
        later = range(number, len(history.windows))
        for each, found in zip(later, _asked(history, fitted, later)):
            losses[number, each], scores[number, each], blocks[number, each] = found
        count = number - started + 1
        say(
            f"[{count}/{pace.total}] {history.windows[number].name}: trained on {len(drawn):,} rows"
            f"{pace.left(count)}"
        )
    return _told(history, losses, scores, blocks, price, model)


def _asked(  # pylint: disable=too-many-locals
    history: _History, fitted: object, numbers: Sequence[int]
) -> Iterator[tuple[float, float, np.ndarray]]:
    """(mean loss, deciding metric, loss and error of each day) of the model `fitted` in each window of `numbers`."""
    taken = [rows_.capped(history.windows[number].rows, CAP) for number in numbers]
    positions = np.concatenate(taken)  # asked once about all: most of the time goes by the call
    X, y = history.features.iloc[positions], history.target.iloc[positions]
    labels = trust.classes(fitted)
    by_score = history.problem.metric.name in evaluation.FROM_SCORES and labels is not None
    answers = evaluation.predictions(fitted, X, y, labels=not by_score)
    scale = float(history.target.std()) * 4 if labels is None else 1.0
    loss = asking.losses(answers, y, labels, scale)
    both = asking.said_and_came(history.problem, answers, y, labels)
    days = history.times.iloc[positions].dt.floor("D").dt.tz_localize(None).to_numpy()
    ends = np.cumsum([len(each) for each in taken])
    for part in (slice(end - len(each), end) for each, end in zip(taken, ends)):
        means = asking.as_blocks(loss.iloc[part], both.iloc[part], days[part], scale)
        score = paired.value(history.problem, answers.iloc[part].reset_index(drop=True), labels)
        yield float(loss.iloc[part].mean()), score, means


def _told(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
    history: _History, losses: dict, scores: dict, blocks: dict, price: float, model: str
) -> Replayed:
    numbers = list(range(history.start, len(history.windows)))
    used = {
        "never": [history.start] * len(numbers),
        "every window": numbers,
        "by drift": _by_drift(history, numbers),
        "by harm": _by_harm(history, numbers, blocks),
        "at best": _at_best(numbers, losses, price),
    }
    names = [history.windows[n].name for n in numbers]
    rows, table = [], []
    never = np.array([losses[history.start, n] for n in numbers])
    for policy, chosen in used.items():
        loss = np.array([losses[m, n] for m, n in zip(chosen, numbers)])
        score = np.array([scores[m, n] for m, n in zip(chosen, numbers)])
        begun = np.array([False, *(a != b for a, b in zip(chosen, chosen[1:]))])
        gains = never - loss - price * begun
        low, high = _interval(gains)
        table.append(
            {
                "policy": policy,
                "trainings": 1 + int(begun.sum()),
                "loss": loss.mean(),
                "score": float(np.nanmean(score)),
                "cost": loss.mean() + price * begun.mean(),
                "gain": gains.mean(),
                "low": low,
                "high": high,
                "pays": bool(low > 0),
            }
        )
        for name, fresh, one, other in zip(names, begun, loss, score):
            rows.append(
                {"window": name, "policy": policy, "trained": fresh, "loss": one, "score": other}
            )
    loss_name = f"{asking.loss_name(history.problem, 1.0)} of {model}"
    return Replayed(
        history.problem, names, pd.DataFrame(rows), pd.DataFrame(table), price, loss_name
    )


def _interval(gains: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean of `gains` by redrawing windows; rows that go together are in one."""
    random = np.random.default_rng(0)
    means = gains[random.integers(0, len(gains), (DRAWS, len(gains)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _by_drift(  # pylint: disable=too-many-locals
    history: _History, numbers: list[int]
) -> list[int]:
    """The model in use in each window where an alarm of drift trains a new one, before the next window."""
    problem, policy = history.problem, history.policy
    frame = history.features.drop(columns=[*problem.monitoring.leave_out], errors="ignore")
    roles = data.roles(history.frame, problem)
    words = {name for name in map(str, frame) if roles[name] == "categorical"}
    positions = [rows_.capped(w.rows, CAP) for w in history.windows]
    usual = int(np.median([len(p) for p in positions]))
    bins = Bins(frame.iloc[np.concatenate(positions[: history.start])], words, usual)
    taken = np.concatenate(positions)
    codes = bins.codes(frame.iloc[taken])
    number = np.repeat(np.arange(len(positions)), [len(p) for p in positions])
    counts = bins.counts(codes, number, len(positions))
    levels = Levels(bins, codes[number < history.start])
    products = np.stack([levels.products(codes[number == n]) for n in range(len(positions))])
    used, model, strange = [], history.start, []
    for n in numbers:
        used.append(model)
        held = [*range(model), n]
        own = [c[held] for c in counts]
        rest = [c.sum(0) - c for c in own]
        beside = levels.effects(own, rest, products[held].sum(0))
        effects = np.column_stack([bins.effects(own, rest), beside])
        drift = calibration.of(effects, [*bins.names, *levels.names], policy.least)
        level = policy.rule.level_for(model, policy.budget)
        strange.append(drift.is_strange(level, policy.least))
        if policy.rule.alarms(strange)[-1]:
            model, strange = n + 1, []
    return used


def _by_harm(history: _History, numbers: list[int], blocks: dict) -> list[int]:
    """The model in use in each window where harm trains a new one, as soon as its truth is known."""
    policy = history.policy
    size = history.windows[0].end - history.windows[0].begin
    late = int(np.ceil(history.delay / size))
    used, model = [], history.start
    for n in numbers:
        used.append(model)
        seen = [blocks[model, w] for w in range(model, n + 1 - late)]
        if not seen:
            continue
        promised = _promised(history, blocks, model)
        evidence = harm.of(np.concatenate(seen), promised).mean(axis=1)
        if evidence.max() >= policy.threshold:
            model = n + 1
    return used


def _promised(history: _History, blocks: dict, model: int) -> harm.Promised:
    """What is promised of a day: by the model of the same recipe TWIN windows earlier, on these windows."""
    twin = max(model - TWIN, history.start - TWIN)
    known = np.concatenate([blocks[twin, w] for w in range(twin, model)])
    return harm.promised(known, history.problem.monitoring.tolerated_loss)


def _at_best(numbers: list[int], losses: dict, price: float) -> list[int]:
    """The model in use in each window that costs least in hindsight."""
    cost = {numbers[0]: losses[numbers[0], numbers[0]]}  # by the model in use
    used = {numbers[0]: [numbers[0]]}
    for n in numbers[1:]:
        cheapest = min(cost, key=cost.__getitem__)
        cost[n] = cost[cheapest] + price
        used[n] = [*used[cheapest]]
        for model in cost:
            cost[model] += losses[model, n]
            used[model] = [*used[model], model]
    return used[min(cost, key=cost.__getitem__)]


def as_figure(replayed: Replayed) -> Figure:
    """The score of each policy over the windows, its trainings marked, and what each costs."""
    return course.replay(
        replayed.course, replayed.table, replayed.problem.metric.name, replayed.loss
    )
