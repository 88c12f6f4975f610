"""The verdict in words: what to take and why, by how much having chosen flatters it, and what is not known."""

import math
from collections import Counter

from Codes.comparison import naming
from Codes.comparison.contestants import Choice, Contestant, NO_SCORE
from Codes.ground.labels import around, decimals, number
from Codes.judgement.scored import Estimate, FOLDS

FEW = 100  # rows on which hardly anything can be told


def sentences(choice: Choice) -> list[str]:
    """What to take and why, what is not known, and what stands apart."""
    told = [*_verdict(choice), *_luck(choice), *_unfit(choice), *_unknown(choice), *_apart(choice)]
    return [each for each in told if each]


def _verdict(choice: Choice) -> list[str]:
    if not choice.contestants:
        return [
            f"There is no scored run on {choice.problem} yet; make one by "
            f'make run NB=02_train P="problem={choice.typed}".'
        ]
    if choice.taken is None:
        return _none(choice)
    taken = choice.taken
    name, own = _called(choice)[taken.run.run_id], taken.scored.own()
    places = decimals([own.reach(), taken.scored.gain().reach()])
    where = (
        f"by cross-validation on {own_rows(taken)}"
        if taken.scored.how == FOLDS
        else (f"on {own_rows(taken)} that only validate")
    )
    return [
        f"Take {name}{_trial(taken)} (run {taken.run.run_id}): {choice.metric} {shown(own, places)} {where}.",
        f"It beats {taken.scored.floor(places)} by {shown(taken.scored.gain(), places)}.",
        _among(choice),
    ]


def beside(choice: Choice, run_id: str) -> list[str]:
    """How the run with this id stands among the others of `choice`, in sentences: its score, the best so far."""
    found = ((each, run) for each in choice.contestants for run in each.runs)
    mine, run = next(((each, run) for each, run in found if run.run_id == run_id), (None, None))
    if mine is None or run is None:
        why = next((each.why for each in choice.apart if each.run_id == run_id), "")
        return [f"It is not compared: {why}." if why else "It repeats a run that was there before."]
    own, gain, best = run.scored.own(), run.scored.gain(), choice.contestants[0]
    places = decimals([own.reach(), gain.reach()])
    told = f"{choice.metric} {shown(own, places)} on {own_rows(mine)} by {run.scored.how}, "
    told += f"{shown(gain, places)} over the baseline."
    if mine is best:
        return [told, f"It is the best so far, of {len(choice.contestants)}."]
    behind = best.run.scored.over(run.scored)
    close = "it cannot be told from that" if mine.close else f"better by {shown(behind, places)}"
    name = _called(choice)[best.run.run_id]
    return [told, f"The best so far, {name}: {shown(best.scored.own(), places)}; {close}."]


def _trial(contestant: Contestant) -> str:
    """With what settings a sweep's trial was, which its name does not tell; empty of other runs."""
    setting = {k: v for k, v in naming.flat(contestant.run.setting).items() if k != "model"}
    told = ", ".join(f"{k.rpartition('.')[2]}={number(v)}" for k, v in setting.items())
    return f" with {told}" if contestant.run.trial and told else ""


def own_rows(contestant: Contestant) -> str:
    """How many rows it was scored on, in words."""
    return f"{contestant.scored.rows:,} rows"


def shown(estimate: Estimate, places: int) -> str:
    """`estimate` with half its 95 % interval."""
    return around(estimate.value, estimate.reach(), places)


def _called(choice: Choice) -> dict[str, str]:
    called = naming.names([each.run for each in choice.contestants])
    return {each.run.run_id: name for each, name in zip(choice.contestants, called)}


def _among(choice: Choice) -> str:
    """Out of how many it was taken, and by which rule."""
    count, close = sum(each.known for each in choice.contestants), len(choice.close)
    if count == 1:
        return ""
    if close == 1:
        return f"It is the best of {count}, by more than chance gives."
    told = f"{close} of {count} cannot be told from the best on these rows"
    if choice.near == 1:
        return f"{told}, but to take another costs more than a standard error or a twentieth of the gain."
    if choice.alike == 1:
        return f"{told}; of those that cost next to nothing against it, this was trained on the most rows."
    return (
        f"{told}; {choice.alike} of them cost next to nothing against it (a standard error, a twentieth "
        "of the gain), and of these this is the smallest model."
    )


def _none(choice: Choice) -> list[str]:
    known = [each for each in choice.contestants if each.known]
    if not known or choice.unfit:
        return ["Take none: of no run that could be taken enough is known."]
    best = known[0].scored
    places = decimals([best.gain().reach()])
    if not math.isfinite(best.baseline):
        return [
            "Take none: of no run is known what it gains, since the baseline could not be measured."
        ]
    few = " So few rows cannot tell." if best.rows < FEW else ""
    return [
        f"Take none: nothing beats {best.floor(places)} by more than chance gives; the best gains "
        f"{shown(best.gain(), places)}.{few}",
        f'Try more rows, other columns, another model: make run NB=02_train P="problem={choice.typed} '
        'rows=0 model=forest".',
    ]


def _luck(choice: Choice) -> list[str]:
    """How much having chosen flatters the best."""
    count = sum(each.known for each in choice.contestants)
    if count < 2:
        return []
    if not math.isfinite(choice.optimism):
        return ["How much having chosen flatters the best is not known."]
    first, best = choice.contestants[0], choice.contestants[0].scored
    other = choice.taken is not None and choice.taken is not first
    name = _called(choice)[first.run.run_id] if other else "it"
    places = decimals([best.own().reach()])
    likely = best.score - choice.optimism * (1 if best.more else -1)
    if choice.optimism < 0.5 * 10.0**-places:
        return [f"Having chosen the best of {count} hardly flatters {name}."]
    return [
        f"Having chosen the best of {count} flatters {name} by about {choice.optimism:.{places}f}: expect "
        f"{likely:.{places}f} of it on new rows, not {best.score:.{places}f}."
    ]


def _unfit(choice: Choice) -> list[str]:
    called = _called(choice)
    return [
        f"{called[each.run.run_id]} (run {each.run.run_id}) was not considered: {why}."
        for each, why in choice.unfit
    ]


def _unknown(choice: Choice) -> list[str]:
    count = sum(not each.known for each in choice.contestants)
    return [
        f"Of {count} the score or its error is not known (too few rows of a kind): no claim is made of them."
    ] * bool(count)


def _apart(choice: Choice) -> list[str]:
    counts = Counter(each.why for each in choice.apart)
    told = [f"Apart, not ranked: {n} run{'s' * (n > 1)} with {why}." for why, n in counts.items()]
    how = "To rank a notebook's runs, let it score its model as 02_train does, by validation.score."
    return told + [how] * (not choice.contestants and NO_SCORE in counts)
