"""How often the watch is wrong and what it misses, measured: false alarms in quiet windows, power at known shifts.

A quiet stream is made of the reference itself: blocks of as many days as a window has, beginning at any day (a moving
block bootstrap); the windows that stand for the reference are made in the same way, anew for each stream, and so
nothing has changed. A shift is laid over such a window. Beside ours stand what others use, on the same windows: at
the thresholds that they are used with, with what these find strange where nothing has changed; and at those with which
they find as many quiet windows strange as ours does, read from these very windows, which is in their favour.

The watch for harm is measured on blocks drawn from those at promotion, and on the same with the target turned.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from Codes.ground.errors import WorkbookError
from Codes.drift import calibration, harm
from Codes.drift.effects import GAPS, Counts
from Codes.drift.judge import Policy
from Codes.drift.reference import Profile

OURS = "ours"
METHODS = (
    OURS,
    "any column p < 0.05",
    "half of the columns p < 0.05",
    "any PSI > 0.2",
    "any mean ± 3 sd",
)
EQUAL = " at our rate"  # behind a method's name: of its share where it is as often wrong as ours
TURNED = "the target turned"
DELAY = "windows to an alarm"
ALARMS = "false alarms in 100"
SHORT = dict(zip(METHODS, (OURS, "any p<.05", "half p<.05", "PSI>.2", "3 sd")))  # in a terminal
LIMITS = dict(zip(METHODS, (0.5, -0.05, -0.05, 0.2, 3.0)))  # above which a window is strange
COLUMNS = 6  # of numbers, and of categories, that shifts are laid over
SHIFTED = 3  # windows of a stream that they are laid over
LOW, HIGH = " from", " to"  # behind a method's name: of the interval of its share


@dataclass(frozen=True, eq=False)
class Quality:
    """What was measured.

    Args:
        streams: of so many `windows` each.
        marks: per method the share of quiet windows that it finds strange, an array of 0 and 1 for each stream.
        alarms: per method how many false alarms came in each stream, by the rule.
        power: a row a shift: by method the share of windows that is found strange; after how many ours alarms.
        harm: false alarms of harm in each stream.
    """

    streams: int
    windows: int
    marks: dict[str, np.ndarray]
    alarms: dict[str, np.ndarray]
    power: pd.DataFrame
    budget: int
    harm: np.ndarray

    @property
    def false_alarms(self) -> tuple[float, float, float]:
        """(false alarms in 100 quiet windows, low, high): with the wider of two 95 % intervals.

        The exact one of as many windows (Clopper and Pearson), and Student's over the streams, since the windows of a
        stream are held against one reference, which may by chance be a tame one.
        """
        return self._rate(self.alarms[OURS])

    def strange(self, method: str) -> tuple[float, float, float]:
        """(the share of quiet windows that the `method` finds strange, low, high), as `false_alarms`."""
        share, low, high = self._rate(self.marks[method].sum(axis=1))
        return share / 100, low / 100, min(high / 100, 1.0)

    @property
    def false_harm(self) -> tuple[float, float, float]:
        """As `false_alarms`, of harm."""
        return self._rate(self.harm)

    def _rate(self, alarms: np.ndarray) -> tuple[float, float, float]:
        count, total = int(alarms.sum()), self.streams * self.windows
        exact = stats.binomtest(count, total).proportion_ci(0.95, "exact")
        rates = alarms / self.windows
        error = (
            stats.t.ppf(0.975, max(self.streams - 1, 1)) * stats.sem(rates)
            if self.streams > 1
            else 0.0
        )
        low, high = min(exact.low, count / total - error), max(exact.high, count / total + error)
        return 100 * count / total, 100 * max(low, 0.0), 100 * high

    @property
    def is_kept(self) -> bool:
        """Whether the budget is not refuted: the intervals reach down to it."""
        return max(self.false_alarms[1], self.false_harm[1]) <= 100 / self.budget

    def table(self) -> pd.DataFrame:
        """A row a shift: which share of windows each method finds strange; first of quiet ones, with its interval."""
        found = {method: self.strange(method) for method in METHODS}
        rows = [
            {"shift": f"none (quiet){end}", **{m: found[m][place] for m in METHODS}}
            for place, end in enumerate(("", LOW, HIGH))
        ]
        rows[0] |= {f"{method}{EQUAL}": found[OURS][0] for method in METHODS[1:]}
        rows.append({"shift": ALARMS, **{m: self._rate(self.alarms[m])[0] for m in METHODS}})
        return pd.concat([pd.DataFrame(rows), self.power], ignore_index=True)

    def text(self) -> str:
        """`table` in 80 columns: the methods at their usual thresholds, then at our rate."""
        found = self.table().set_index("shift")
        told = []
        for ending, head in (
            ("", "share of windows found strange"),
            (EQUAL, "as often wrong as ours"),
        ):
            methods = {OURS: OURS} | {f"{method}{ending}": SHORT[method] for method in METHODS[1:]}
            shown = found[list(methods)].rename(columns=methods)
            shown = shown.dropna(how="all", subset=list(methods.values())[1:])
            if not ending:
                shown["alarm after"] = found[DELAY].round(1)
            told.append(
                shown.rename_axis(columns=head, index=None).to_string(
                    na_rep="", float_format="{:.2f}".format
                )
            )
        turned = found.loc[TURNED, DELAY]
        return "\n\n".join([*told, f"{TURNED}: harm is found after {turned:.0f} windows"])

    def sentence(self) -> str:
        """The rate of false alarms beside the budget."""
        rate, low, high = self.false_alarms
        harm_rate, harm_low, harm_high = self.false_harm
        kept = "kept" if self.is_kept else "NOT kept"
        return (
            f"{rate:.2f} false alarms in 100 quiet windows (95 %: {low:.2f} to {high:.2f}; {self.streams} streams of "
            f"{self.windows}), of harm {harm_rate:.2f} ({harm_low:.2f} to {harm_high:.2f}); the budget is "
            f"{100 / self.budget:.2f}: {kept}"
        )


def measure(  # pylint: disable=too-many-locals
    profile: Profile, policy: Policy, streams: int = 40, windows: int = 50, seed: int = 0
) -> Quality:
    """The Quality of the watch with this `profile` and `policy`.

    Raises:
        WorkbookError: the reference is shorter than two windows.
    """
    random = np.random.default_rng(seed)
    blocks = profile.reference.sliding() or profile.reference.drawn(profile.usual)[:200]
    if len(blocks) < 2:
        raise WorkbookError("the reference is too short to draw quiet windows from it")
    counts, shifted = profile.count(blocks), list(_shifts(profile, blocks))
    products = np.stack([profile.levels.products(profile.codes[rows]) for rows in blocks])
    references = max(profile.size, policy.rule.needed(policy.budget))
    policy = replace(policy, level=policy.rule.level_for(references, policy.budget))
    marks: dict[str, list[np.ndarray]] = {method: [] for method in METHODS}
    scores: list[dict[str, float]] = []
    alarms: dict[str, list[int]] = {method: [] for method in METHODS}
    found: dict[tuple[str, str], list] = {name: [] for name, _ in shifted}
    for _ in range(streams):
        drawn = random.integers(0, len(blocks), references + windows)
        reference, stream = drawn[:references], drawn[references:]
        held = _Held(profile, policy, [c[reference] for c in counts], products[reference].sum(0))
        quiet = [held.scores(profile.codes[blocks[i]]) for i in stream]
        scores += quiet
        for method in METHODS:
            mark = np.array([each[method] > LIMITS[method] for each in quiet])
            marks[method].append(mark)
            alarms[method].append(_rises(np.array(policy.rule.alarms(list(mark)), bool)))
        for name, change in shifted:
            found[name] += [held.scores(change(int(number))) for number in stream[:SHIFTED]]
    ours = float(np.mean(marks[OURS]))
    equal = {m: float(np.quantile([s[m] for s in scores], 1 - ours)) for m in METHODS[1:]}
    rows = []
    for name, shares in _pooled(found):
        table = pd.DataFrame(shares)
        row = {m: float((table[m] > LIMITS[m]).mean()) for m in METHODS}
        row |= {f"{m}{EQUAL}": float((table[m] > equal[m]).mean()) for m in equal}
        rows.append({"shift": name, **row, DELAY: _delay(policy, row[OURS])})
    false_harm, waits = _of_harm(profile, policy, streams, windows, random)
    rows.append({"shift": TURNED, DELAY: waits})
    power = pd.DataFrame(rows)
    return Quality(
        streams,
        windows,
        {m: np.stack(v) for m, v in marks.items()},
        {m: np.array(v) for m, v in alarms.items()},
        power,
        policy.budget,
        false_harm,
    )


def _rises(rung: np.ndarray) -> int:
    """How often an alarm begins."""
    return int(rung[0]) + int((rung[1:] & ~rung[:-1]).sum())


def _of_harm(
    profile: Profile, policy: Policy, streams: int, windows: int, random: np.random.Generator
) -> tuple[np.ndarray, float]:
    """(false alarms of harm in each stream, the median number of windows until it is found where the target turned)."""
    reference, size = profile.reference, max(round(policy.threshold / policy.budget), 1)
    tolerated = reference.problem.monitoring.tolerated_loss
    count = len(reference.blocks)
    if count < 2 or not np.isfinite(reference.bound):
        return np.zeros(streams, int), float("nan")
    alarms, waits = [], []
    for _ in range(streams):
        known = reference.blocks[_moving(count, count, size, random)]
        kept = harm.promised(known, tolerated)
        stream = _moving(count, windows * size, size, random)
        alarms.append(len(_alarms(harm.of(reference.blocks[stream], kept), policy.threshold)))
        turned = _alarms(harm.of(reference.turned[stream], kept), policy.threshold)
        waits.append((turned[0] + size) // size if turned else np.inf)
    return np.array(alarms), float(np.median(waits))


def _moving(count: int, wanted: int, size: int, random: np.random.Generator) -> np.ndarray:
    """So many positions below `count`, in stretches of `size` that begin anywhere."""
    starts = random.integers(0, count, -(-wanted // size))
    return ((starts[:, None] + np.arange(size)) % count).ravel()[:wanted]


def _alarms(parts: np.ndarray, threshold: float) -> list[int]:
    """At which blocks evidence rises over the `threshold`."""
    over = parts.mean(axis=1) >= threshold
    return [int(i) for i in np.flatnonzero(over & ~np.append(False, over[:-1]))]


def _delay(policy: Policy, share: float) -> float:
    """After how many windows the alarm comes in the mean, where each is strange with the chance `share`."""
    return policy.rule.until_alarm(share) if share > 0 else float("inf")


def _pooled(found: dict[tuple[str, str], list]) -> Iterator[tuple[str, list]]:
    """The findings by kind of shift, over all columns that it was laid over."""
    for kind in dict.fromkeys(kind for kind, _ in found):
        yield kind, [each for (k, _), several in found.items() if k == kind for each in several]


class _Held:  # pylint: disable=too-many-instance-attributes
    """Windows of the reference, against which others are held by each method."""

    def __init__(
        self, profile: Profile, policy: Policy, reference: Counts, products: np.ndarray
    ) -> None:
        self.profile, self.policy, self.reference = profile, policy, reference
        self.products, self.names = products, [*profile.bins.names, *profile.levels.names]
        self.total = [c.sum(0, keepdims=True) for c in reference]
        self.numbers = [each.cuts is not None for each in profile.bins.bins]
        self.means = [self._means(c) for c in reference]

    def scores(self, codes: np.ndarray) -> dict[str, float]:
        """By method how strange the window of rows with these `codes` is: above its LIMITS it counts as such."""
        bins, levels = self.profile.bins, self.profile.levels
        own = bins.counts(codes, np.zeros(len(codes), int), 1)
        compared = [np.vstack([c, o]) for c, o in zip(self.reference, own)]
        rest = [t + o - both for t, o, both in zip(self.total, own, compared)]
        beside = levels.effects(compared, rest, self.products + levels.products(codes))
        effects = np.column_stack([bins.effects(compared, rest), beside])
        drift = calibration.of(effects, self.names, self.policy.least)
        ps = np.array([self._p(o, t, n) for o, t, n in zip(own, self.total, self.numbers)])
        psi = max((_psi(o[0], t[0]) for o, t in zip(own, self.total)), default=0.0)
        half = np.sort(ps)[(len(ps) + 1) // 2 - 1] if len(ps) else 1.0
        return {
            OURS: float(drift.is_strange(self.policy.level, self.policy.least)),
            METHODS[1]: -float(min(ps, default=1.0)),
            METHODS[2]: -float(half),
            METHODS[3]: psi,
            METHODS[4]: max((self._off(o, m) for o, m in zip(own, self.means)), default=0.0),
        }

    def _p(self, own: np.ndarray, total: np.ndarray, is_number: bool) -> float:
        """The two-sample test of a column: Kolmogorov and Smirnov's of numbers, chi-square of categories."""
        mine, others = own[0], total[0]
        if is_number:
            n, m = mine[:-2].sum(), others[:-2].sum()
            if not n or not m:
                return 1.0
            distance = np.abs(mine[:-2].cumsum() / n - others[:-2].cumsum() / m).max()
            return float(stats.kstwobign.sf(distance * np.sqrt(n * m / (n + m))))
        kept = mine + others > 0
        if kept.sum() < 2 or not mine.sum() or not others.sum():
            return 1.0
        return float(
            stats.chi2_contingency(np.vstack([mine[kept], others[kept]]), correction=False)[1]
        )

    def _means(self, counts: np.ndarray) -> np.ndarray:
        """The mean bin of each window: what stands for the mean of the column."""
        values = counts[:, :-2]
        return values @ np.arange(values.shape[1]) / np.maximum(values.sum(1), 1)

    def _off(self, own: np.ndarray, means: np.ndarray) -> float:
        """How many standard deviations of the reference's windows the mean lies off."""
        spread = means.std(ddof=1)
        return abs(float(self._means(own)[0] - means.mean())) / spread if spread > 0 else 0.0


def _psi(own: np.ndarray, total: np.ndarray, bins: int = 10) -> float:
    """The population stability index over ten bins of equal shares (of categories: over each), gaps as one more."""
    order = total.cumsum() / max(total.sum(), 1)
    group = (
        np.minimum((order * bins).astype(int), bins - 1)
        if len(total) > bins + 2
        else np.arange(len(total))
    )
    mine, others = (np.bincount(group, c) + 0.5 for c in (own, total))
    mine, others = mine / mine.sum(), others / others.sum()
    return float(((mine - others) * np.log(mine / others)).sum())


Change = Callable[[int], np.ndarray]


def _shifts(profile: Profile, blocks: list[np.ndarray]) -> Iterator[tuple[tuple[str, str], Change]]:
    """((kind, column), the codes of a block with that shift); what the model would answer then is left as it is."""
    reference, words = profile.reference.rows, profile.reference.words
    numbers = [n for n in map(str, reference) if n not in words and reference[n].nunique() > 2]
    for size in (0.1, 0.25, 0.5):
        for name in numbers[:COLUMNS]:
            yield (f"one column by {size} sd", name), _laid(
                profile, blocks, name, _moved(size, reference[name])
            )
    for name in sorted(words)[:COLUMNS]:
        yield ("a category lost", name), _laid(profile, blocks, name, _lost(reference[name]))
    for name in numbers[:COLUMNS]:
        yield ("5 % gaps", name), _laid(profile, blocks, name, _gaps)
    for name in numbers[:COLUMNS]:
        yield ("a sensor stuck", name), _laid(profile, blocks, name, _stuck(reference[name]))


def _laid(
    profile: Profile, blocks: list[np.ndarray], name: str, change: Callable[[pd.Series], pd.Series]
) -> Change:
    """A function that gives the codes of a block, of which the column `name` is changed."""
    place = profile.bins.columns.index(name)

    def changed_codes(number: int) -> np.ndarray:
        rows = blocks[number]
        changed = change(profile.reference.rows[name].iloc[rows])
        codes = profile.codes[rows].copy()
        codes[:, place] = profile.bins.bins[place].codes(changed.to_frame(name))
        return codes

    return changed_codes


def _moved(size: float, values: pd.Series) -> Callable[[pd.Series], pd.Series]:
    spread = float(pd.to_numeric(values).std())
    return lambda rows: pd.to_numeric(rows).astype(float) + size * spread


def _lost(values: pd.Series) -> Callable[[pd.Series], pd.Series]:
    """The commonest category comes as the next one: as where a code is not told apart any more."""
    common = list(values.astype(object).value_counts().index[:2])
    return lambda rows: rows.astype(object).replace({common[0]: common[-1]})


def _gaps(rows: pd.Series) -> pd.Series:
    return rows.astype(object).mask(np.arange(len(rows)) % 20 == 0)


def _stuck(values: pd.Series) -> Callable[[pd.Series], pd.Series]:
    middle = pd.to_numeric(values).median()
    return lambda rows: pd.Series(middle, rows.index)


__all__ = ["GAPS", "METHODS", "OURS", "Quality", "measure"]
