"""Which run to take, how sure that is, and by how much having chosen flatters it.

The stated rule: of the settings that cannot be told from the best (multiple comparisons with the best: Hsu,
Simultaneous Confidence Intervals for all Distances from the "Best", Annals of Statistics 9, 1981), those that beat
the baseline, and whose difference to the best is at most one standard error of it (Breiman, Friedman, Olshen and Stone,
Classification and Regression Trees, 1984) and a twentieth of what the best gains; of these the ones trained on the most
rows, and of them the smallest model. Runs that were scored on other rows, or not at all, stand apart.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np
import pandas as pd
from scipy import stats

from Codes.comparison import words
from Codes.comparison.contestants import (
    ALL,
    Apart,
    Choice,
    Contestant,
    NO_SCORE,
    OTHER_METRIC,
    OTHER_ROWS,
    Run,
)
from Codes.judgement import scored
from Codes.judgement.scored import FOLDS, Scored

LEVEL = 0.95
SHARE = 0.05  # of the best's gain, that a smaller model may cost
# of a run's parameters, those that do not make another setting; and of its fingerprint, the parts that are no code
NO_SETTING = ("problem", "seed", "rows", "hyperparameters", "trusted")
NO_CODE = ("the parameters", "the runs", "the versions", "the notebook's place", "what cannot be")
# of a run of tracking.runs' table
TAGS = "tags.mlflow.workbook."
PARENT = "tags.mlflow.parentRunId"


def choose(problem: Any, runs: pd.DataFrame, digest: str = "", typed: str = "") -> Choice:
    """The Choice among `runs` (tracking.runs' table, the newest first) on `problem` (a problem.Problem).

    Args:
        digest: of the validation rows as they are now (Scored.digest); by default that of the newest run.
        typed: the problem as a command takes it; by default its name.
    """
    comparable, apart = read(runs.to_dict("records"), problem.metric.name, digest)
    return judge(problem, comparable, apart, typed)


def judge(
    problem: Any, runs: Sequence[Run], apart: Iterable[Apart] = (), typed: str = ""
) -> Choice:
    """The Choice among comparable `runs`, the newest first, on `problem`; see `choose`."""
    contestants = _judged(_contestants(runs))
    known = [each for each in contestants if each.known]
    choice = Choice(
        problem=problem.name,
        metric=problem.metric.name,
        direction=problem.metric.direction,
        typed=typed or problem.name,
        contestants=tuple(contestants),
        apart=tuple(apart),
    )
    if known:
        taken, near, alike, unfit = _recommended(known)
        luck = optimism([each.scored for each in known if each.close])
        choice = replace(
            choice, taken=taken, near=near, alike=alike, unfit=tuple(unfit), optimism=luck
        )
    return replace(choice, reasons=tuple(words.sentences(choice)))


# --- what a run's record tells


def read(
    records: Sequence[Mapping[Any, Any]], metric: str, digest: str = ""
) -> tuple[list[Run], list[Apart]]:
    """(the comparable Runs of `records`, those apart); a record is a row of tracking.runs' table."""
    found, apart, first = [], [], None
    for record in records:
        score, why = _score(record, metric)
        if score is None:
            apart += [Apart(record["run_id"], why)] if why else []
            continue
        first = first or (score if digest in ("", score.digest) else None)
        if first is None or not first.comparable(score):
            apart.append(Apart(record["run_id"], OTHER_ROWS))
        else:
            found.append(_run(record, score))
    return found, apart


def _score(record: Mapping[str, Any], metric: str) -> tuple[Scored | None, str]:
    """(the Scored of a `record`, or None; why it has none that counts, empty where it never measured the metric)."""
    text = record.get(f"tags.{scored.TAG}")
    if not isinstance(text, str):
        named = (k.removeprefix("metrics.") for k, v in record.items() if _is_number(v))
        was_measured = any(name in (metric, f"test_{metric}") for name in named)
        return None, NO_SCORE if was_measured or _is_trained(record) else ""
    try:
        score = Scored.from_tag(text)
    except ValueError:
        return None, NO_SCORE
    return (score, "") if score.metric == metric else (None, OTHER_METRIC)


def _is_trained(record: Mapping[str, Any]) -> bool:
    """Whether a run without a score looks as if it had trained something: it names its model."""
    return isinstance(record.get("params.model"), str)


def _run(record: Mapping[str, Any], score: Scored) -> Run:
    params = {
        k.removeprefix("params."): v
        for k, v in record.items()
        if k.startswith("params.") and isinstance(v, str)
    }
    return Run(
        record["run_id"],
        score,
        _text(record, f"{TAGS}notebook"),
        _setting(params),
        params.get("seed", ""),
        score.trained or _rows(params.get("rows", "0")),
        _code(_text(record, f"{TAGS}fingerprint.parts")),
        kilobytes=_number(record.get("metrics.model_kb")),
        seconds=_seconds(record),
        fit_seconds=_number(record.get("metrics.fit_seconds")),
        row_ms=_number(record.get("metrics.row_ms")),
        row_ms_of_1000=_number(record.get("metrics.row_ms_of_1000")),
        train=_number(record.get(f"metrics.train_{score.metric}", math.nan)),
        trial=_text(record, f"{TAGS}sweep.trial"),
        sweep=_text(record, PARENT),
        whole=bool(_text(record, f"{TAGS}fingerprint")),
    )


def _seconds(record: Mapping[str, Any]) -> float:
    """How long the run took."""
    start, end = record.get("start_time"), record.get("end_time")
    return math.nan if pd.isna(start) or pd.isna(end) else (end - start).total_seconds()


def _setting(params: Mapping[str, str]) -> dict[str, Any]:
    """The parameters that make a setting, each hyperparameter on its own."""
    setting = {k: v for k, v in params.items() if k not in NO_SETTING}
    try:
        given = json.loads(params.get("hyperparameters", "{}"))
    except ValueError:  # too long for a parameter
        given = {"hyperparameters": params["hyperparameters"]}
    return setting | (given if isinstance(given, dict) else {"hyperparameters": given})


def _rows(text: str) -> float:
    """How many rows were drawn to train on; ALL for 0, and for what is no number."""
    try:
        return float(text) or ALL
    except ValueError:
        return ALL


def _code(text: str) -> str:
    """What the parts of a fingerprint say of the code, data and packages; empty where there are none."""
    try:
        parts = json.loads(text or "{}")
    except ValueError:
        return ""
    own = {k: v for k, v in parts.items() if not k.startswith(NO_CODE)}
    return json.dumps(own, sort_keys=True) if own else ""


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not math.isnan(value)


def _number(value: object) -> float:
    return float(value) if _is_number(value) else math.nan


# --- how they stand


def _contestants(runs: Iterable[Run]) -> list[Contestant]:
    """A Contestant for each setting of `runs`; of repetitions, also where other code changed nothing, the newest."""
    groups: dict[tuple, dict[str, Run]] = defaultdict(dict)
    seen = set()
    for run in runs:
        key = json.dumps(run.setting, sort_keys=True, default=repr)
        same = (run.notebook, run.rows, key, run.seed, run.scored.scores.tobytes())
        if same not in seen:
            groups[run.notebook, run.code, run.rows, key].setdefault(run.seed, run)
        seen.add(same)
    return [_contestant(tuple(seeds.values())) for seeds in groups.values()]


def _contestant(runs: tuple[Run, ...]) -> Contestant:
    known = [run for run in runs if math.isfinite(run.scored.score)] or list(runs)
    known.sort(key=lambda run: run.scored.score, reverse=runs[0].scored.more)
    return Contestant(known[len(known) // 2], runs, scored.mean([run.scored for run in known]))


def _judged(contestants: list[Contestant]) -> list[Contestant]:
    """`contestants`, the best first, those without a score last, each with how it stands."""
    sign = 1 if contestants and contestants[0].scored.more else -1
    known = _known(contestants)
    others = [c for c in contestants if c not in known]
    known.sort(key=lambda c: -sign * c.scored.score)
    close, reach = best_set([c.scored for c in known])
    beats = beat_baseline([c.scored for c in known])
    told = zip(known, close, beats, reach)
    judged = [
        replace(c, known=True, close=bool(n), beats=bool(b), reach=float(r)) for c, n, b, r in told
    ]
    return judged + others


def _known(contestants: list[Contestant]) -> list[Contestant]:
    """Those of `contestants` that have a score and an error of it; where all rows are of one block there is none."""
    own = [c.scored.own() for c in contestants]
    # of a model without a mistake its baseline's draws vary still
    gains = [c.scored.gain() for c in contestants]
    if not any(each.error > 0 for each in (*own, *gains)):
        return []
    return [c for c, each in zip(contestants, own) if math.isfinite(each.value + each.error)]


def best_set(several: Sequence[Scored]) -> tuple[np.ndarray, np.ndarray]:
    """(which of `several` cannot be told from the best; half the interval of each difference to the first).

    One stays unless another is better by more than chance gives any of the others: of a hold-out the quantile of the
    largest studentized difference over the draws; of folds, and where one made no mistake on any draw, Student's with
    Bonferroni's correction.
    """
    if not several:
        return np.array([], bool), np.array([])
    values, draws = _oriented(several)
    alone, count = np.array([each.unseen for each in several]), len(several)
    close, reach = np.ones(count, bool), np.zeros(count)
    if draws.shape[1] < 2:  # no draw on which all of them are known
        return close, np.full(count, math.nan)
    for j in range(count):
        over, differences = values - values[j], draws - draws[j]
        unseen = _unseen(alone, j)
        error = np.maximum(_errors(differences, several[0].how, several[0].ratio), unseen)
        other = error > 1e-6 * np.abs(values).max()  # below: the same answers, but for rounding
        if not other.any():
            continue
        if several[0].how == FOLDS or unseen.any():
            bound = stats.t.ppf(1 - (1 - LEVEL) / (count - 1), draws.shape[1] - 1)
        else:
            chance = (differences - over[:, None])[other] / error[other, None]
            bound = _quantile(chance.max(axis=0), LEVEL)
            bound = stats.t.ppf(
                stats.norm.cdf(bound), draws.shape[1] - 1
            )  # the errors are drawn, too
        close[j] = (over[other] / error[other]).max() <= bound
        reach[j] = bound * error[0]
    return close, reach


def beat_baseline(several: Sequence[Scored]) -> np.ndarray:
    """Which of `several` gain over the baseline more than chance gives the luckiest of them (by Bonferroni)."""
    gains = [each.gain() for each in several]
    freedom = min([g.freedom for g in gains] + [len(each.scores) - 1 for each in several] or [1])
    bound = stats.t.ppf(1 - (1 - LEVEL) / 2 / max(1, len(gains)), freedom)
    return np.array([g.error > 0 and g.value > bound * g.error for g in gains], bool)


def optimism(several: Sequence[Scored]) -> float:
    """By how much the best of `several` looks better than it is, for having been chosen: over 0.

    The rows are drawn and the choice is made again and again. The scores as they were measured spread wider than the
    truth, by chance, and would make each choice too sure: they are drawn together by as much (James and Stein; Efron,
    Tweedie's Formula and Selection Bias, JASA 106, 2011).
    """
    if len(several) < 2:
        return 0.0
    values, draws = _oriented(several)
    noise = _noise(draws, several[0].how, several[0].ratio)
    if noise.shape[1] < 2:
        return math.nan
    own = noise - noise.mean(axis=0)
    by_chance = (own**2).mean(axis=1).sum() / (len(values) - 1)
    seen = values.var(ddof=1)
    kept = max(0.0, 1 - by_chance / seen) if seen else 0.0
    truth = values.mean() + kept * (values - values.mean())
    best = (truth[:, None] + noise).argmax(axis=0)
    return max(0.0, float(noise[best, np.arange(noise.shape[1])].mean()))


def _noise(draws: np.ndarray, how: str, ratio: float) -> np.ndarray:
    """What chance adds to each score, as many times as one likes: of folds by normal weights."""
    centred = draws - draws.mean(axis=1, keepdims=True)
    if how != FOLDS or draws.shape[1] < 2:
        return centred
    folds = draws.shape[1]
    weights = np.random.default_rng(0).normal(size=(folds, 400))
    weights -= weights.mean(axis=1, keepdims=True)
    return math.sqrt((1 / folds + ratio) / (folds - 1)) * centred @ weights


def _oriented(several: Sequence[Scored]) -> tuple[np.ndarray, np.ndarray]:
    """(scores, scores by draw), more is better; the draws on which all are known."""
    draws = np.array([each.scores for each in several]) * _sign(several)
    values = np.array([each.score for each in several]) * _sign(several)
    return values, draws[:, np.isfinite(draws).all(axis=0)]


def _sign(several: Sequence[Scored]) -> int:
    return 1 if several[0].more else -1


def _unseen(alone: np.ndarray, place: int) -> np.ndarray:
    """The error of the difference of each to the one at `place`, where either made no mistake on any draw; else 0.

    Args:
        alone: the Scored.unseen of each.
    """
    return np.where(np.arange(len(alone)) == place, 0.0, np.maximum(alone, alone[place]))


def _errors(values: np.ndarray, how: str, ratio: float) -> np.ndarray:
    """The standard error of each row of `values`, as `scored.spread` takes it."""
    scale = math.sqrt(1 / values.shape[1] + ratio) if how == FOLDS else 1.0
    return scale * values.std(axis=1, ddof=1)


def _quantile(values: np.ndarray, level: float) -> float:
    """The order statistic that a further draw exceeds with the probability 1 − `level` at most."""
    place = min(len(values), math.ceil(level * (len(values) + 1)))
    return np.sort(values)[place - 1]


# --- which to take


def _recommended(
    known: list[Contestant],
) -> tuple[Contestant | None, int, int, list[tuple[Contestant, str]]]:
    """(the contestant to take or None, how many are near the best, how many of these alike, passed over and why)."""
    best = known[0]
    near = [c for c in known if c.close and c.beats and _is_near(c, best)]
    fit = [c for c in near if c.run.whole]
    unfit = [(c, "made by hand: it has no executed copy and no manifest") for c in near]
    unfit = [(c, why) for c, why in unfit if not c.run.whole]
    if not fit:
        return None, 0, 0, unfit
    most = max(c.run.rows for c in fit)
    alike = [c for c in fit if c.run.rows == most]
    taken = min(alike, key=lambda c: (c.size, len(c.run.setting)))
    return taken, len(fit), len(alike), unfit


def _is_near(contestant: Contestant, best: Contestant) -> bool:
    """Whether it costs no more than one standard error, and a twentieth of the gain, to take it for the `best`."""
    if contestant is best:
        return True
    worse = best.scored.over(contestant.scored)
    return worse.value <= min(worse.error, SHARE * best.scored.gain().value)
