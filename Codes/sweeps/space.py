"""What a sweep varies: choices, ranges and fixed values over a notebook's parameters, read and checked.

    problem: flights                                                # fixed
    model: [forest, hgb]                                            # choices
    hyperparameters:                                                # keys inside a dict parameter
      learning_rate: {low: 0.01, high: 0.3, log: true}              # a range of numbers
      max_leaf_nodes: {low: 8, high: 64, step: 8}                   # of whole numbers

On a command line: `model=forest,hgb`, `hyperparameters.learning_rate=0.01..0.3:log`,
`hyperparameters.max_leaf_nodes=8..64:8`, `problem=flights`.
"""

import itertools
import json
import math
import re
import sys
from dataclasses import dataclass, field
from fractions import Fraction

from Codes.ground import plain_yaml
from Codes.ground.errors import WorkbookError, nearest
from Codes.notebook_files import parameters

GRID_LIMIT = 10_000  # points
RANGE = {"low", "high", "step", "log"}
NUMBER = rf"(?:{plain_yaml.NUMBER}|[-+]?(?:inf|nan))"
TYPED_RANGE = re.compile(rf"({NUMBER})\.\.({NUMBER})(?::(log|{NUMBER}))?")
LIKE_A_RANGE = re.compile(rf"\s*({NUMBER})\s*\.\.")
EXACT = 2**53  # up to it each whole number has a float of its own


@dataclass(frozen=True)
class Choices:
    """Any one of `values`."""

    values: tuple

    def distribution(self):
        """Optuna's: of the values themselves, or of their JSON texts where they have parts."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution([self.encode(v) for v in self.values])

    def ends(self):
        """The values among which are all that a check has to see."""
        return self.values

    def count(self):
        """How many values there are."""
        return len(self.values)

    def all(self):
        """Every value."""
        return list(self.values)

    def encode(self, value):
        """`value` as Optuna holds it."""
        return json.dumps(value) if isinstance(value, (list, dict)) else value

    def decode(self, value):
        """The value that Optuna's `value` stands for."""
        return next(
            v
            for v in self.values
            if self.encode(v) == value and type(self.encode(v)) is type(value)
        )


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included, in steps of `step` (None: continuous), or even in the logarithm."""

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False

    @property
    def is_whole(self):
        """Whether its numbers are whole."""
        return all(isinstance(v, int) for v in (self.low, self.high, self.step or 0))

    def distribution(self):
        """Optuna's."""
        from optuna.distributions import FloatDistribution, IntDistribution

        # Optuna warns of an end that no step reaches
        high = self._at(self.count() - 1) if self.step else self.high
        if self.is_whole:
            return IntDistribution(self.low, high, log=self.log, step=self.step or 1)
        return FloatDistribution(float(self.low), float(high), log=self.log, step=self.step)

    def ends(self):
        """The values between which all others lie."""
        return self.low, self.high

    def count(self):
        """How many numbers there are; None where there is no end of them."""
        if not self.is_whole and self.step is None:
            return None
        return int((_exact(self.high) - _exact(self.low)) // _exact(self.step or 1)) + 1

    def all(self):
        """Every number."""
        return [self._at(i) for i in range(self.count())]

    def _at(self, number):
        exact = _exact(self.low) + number * _exact(self.step or 1)
        return int(exact) if self.is_whole else float(exact)

    def encode(self, value):
        """`value` as Optuna holds it: itself."""
        return value

    decode = encode


@dataclass(frozen=True)
class Space:
    """`fixed` (parameter → value) and what `varies` (flat name → Choices or Range); `declared` are the parameters."""

    declared: tuple
    fixed: dict = field(default_factory=dict)
    varies: dict = field(default_factory=dict)

    def values(self, point):
        """All parameters' values at `point` (flat name → value), checked as those of a single run are."""
        defaults = {p.name: p.default for p in self.declared}
        given = dict(self.fixed)
        for name, value in point.items():
            top, _, key = name.partition(".")
            given[top] = {**given.get(top, defaults.get(top) or {}), key: value} if key else value
        return given

    def check(self, where):
        """Refuse what the notebook `where` would refuse, at both ends of each range and for each choice."""
        for values in self.ends():
            parameters.check(self.declared, values, where)

    def ends(self, each=None):
        """The values at points that hold each choice and both ends of each range, and the fixed ones alone.

        With each choice of the name `each`, too, where that varies.
        """
        ends = {name: spread.ends() for name, spread in self.varies.items()}
        beside = [{each: value} for value in ends.get(each, ())] or [{}]
        points = [{}] + [{name: value} for name, found in ends.items() for value in found]
        return [self.values(point | other) for point in points for other in beside]

    def size(self):
        """The number of points; None where there is no end of them."""
        counts = [spread.count() for spread in self.varies.values()]
        return None if None in counts else math.prod(counts)

    def grid(self):
        """Every point, the last name varying fastest; a WorkbookError where they are too many."""
        continuous = [name for name, spread in self.varies.items() if spread.count() is None]
        if continuous:
            raise WorkbookError(
                f"{continuous[0]} is a continuous range, which has no grid: give it a step, or choose --sampler random."
            )
        if self.size() > GRID_LIMIT:
            raise WorkbookError(
                f"the grid has {self.size():,} points; allowed are {GRID_LIMIT:,}: take larger steps, fewer choices, "
                "or --sampler random."
            )
        names, columns = list(self.varies), [spread.all() for spread in self.varies.values()]
        return [dict(zip(names, point)) for point in itertools.product(*columns)]

    def distributions(self):
        """{flat name: Optuna's distribution}."""
        return {name: spread.distribution() for name, spread in self.varies.items()}

    def encode(self, point):
        """`point` as Optuna holds it."""
        return {name: self.varies[name].encode(value) for name, value in point.items()}

    def decode(self, params):
        """The point that Optuna's `params` stand for, in the order in which the space names them."""
        return {
            name: spread.decode(params[name])
            for name, spread in self.varies.items()
            if name in params
        }

    def text(self):
        """The space as YAML that could be given again."""
        told = dict(self.fixed)
        for name, spread in self.varies.items():
            if isinstance(spread, Choices):
                told[name] = {"choices": list(spread.values)}
            else:
                told[name] = {
                    k: getattr(spread, k)
                    for k in ("low", "high", "step", "log")
                    if getattr(spread, k)
                }
                told[name] |= {"low": spread.low, "high": spread.high}
        return plain_yaml.dump(told)


def read(declared, path=None, texts=(), fixed=None, where="the space"):
    """The Space over the parameters `declared` in the YAML file `path`, then `texts` as typed, then `fixed` values.

    A later one replaces an earlier one of the same name.
    """
    found, file = {}, path.name if path else where
    if path:
        for name, spec in plain_yaml.read(path).items():
            found |= _flat(declared, str(name), spec, file)
    for text in texts:
        name, spread = _typed(declared, text)
        found.pop(name, None)
        found[name] = spread
    for name, value in (fixed or {}).items():
        found = {n: s for n, s in found.items() if n.partition(".")[0] != name}
        found[name] = value
    return _assembled(declared, found)


def _assembled(declared, found):
    varies = {n: s for n, s in found.items() if isinstance(s, (Choices, Range))}
    space = Space(tuple(declared), {}, {})
    points = {n: s for n, s in found.items() if n not in varies}
    return Space(tuple(declared), space.values(points), varies)


def _flat(declared, name, spec, file):
    """{flat name: Choices, Range or fixed value} of one entry of the file."""
    parameter = _parameter(declared, name, file)
    if isinstance(spec, list):
        return {name: _choices(name, spec, file)}
    if not isinstance(spec, dict):
        return {name: spec}
    if RANGE & set(spec) and set(spec) <= RANGE:
        return {name: _range(parameter, name, spec, file)}
    if set(spec) == {"choices"} and isinstance(spec["choices"], list):
        return {name: _choices(name, spec["choices"], file)}
    if set(spec) == {"value"}:
        return {name: spec["value"]}
    if "." in name or "dict" not in parameter.kinds:
        raise WorkbookError(
            f"{file}: {name}: write a value, a list of choices, or a range such as {{low: 1, high: 10}}"
            f"{_misspelt(spec)}"
        )
    found = {}
    for key, inner in spec.items():
        found |= _flat(declared, f"{name}.{key}", inner, file)
    return found or {name: {}}


def _misspelt(spec):
    wrong = [key for key in spec if key not in RANGE]
    hints = [nearest(key, RANGE | {"choices", "value"}) for key in wrong]
    return f"; unknown: {', '.join(map(str, wrong))}.{''.join(hints)}" if wrong else "."


def _parameter(declared, name, where):
    top, dot, key = name.partition(".")
    known = {p.name: p for p in declared}
    if top not in known:
        there = ", ".join(known) or "none"
        raise WorkbookError(
            f"{where}: the notebook has no parameter '{top}'; it takes {there}.{nearest(top, known)}"
        )
    if dot and (not key or known[top].kinds and "dict" not in known[top].kinds):
        kind = known[top].type or "any"
        raise WorkbookError(f"{where}: {name}: only a dict has keys; {top} is {kind}.")
    return known[top]


def _choices(name, values, where):
    if not values:
        raise WorkbookError(f"{where}: {name}: a list of choices must not be empty.")
    texts = [json.dumps(parameters.plain(name, v), sort_keys=True) for v in values]
    twice = [v for v, text in zip(values, texts) if texts.count(text) > 1]
    if twice:
        raise WorkbookError(f"{where}: {name}: the choice {twice[0]!r} comes twice.")
    return Choices(tuple(parameters.plain(name, v) for v in values))


def _range(parameter, name, spec, where):
    spread = Range(spec.get("low"), spec.get("high"), spec.get("step"), spec.get("log", False))
    numbers = [v for v in (spread.low, spread.high, spread.step) if v is not None]
    wrong = ""
    if None in (spread.low, spread.high) or any(type(v) not in (int, float) for v in numbers):
        wrong = "a range needs numbers 'low' and 'high'"
    elif not all(map(_is_finite, numbers)) or spread.low >= spread.high:
        wrong = f"'low' {spread.low} must be below 'high' {spread.high}, both finite"
    elif spread.step is not None and spread.step <= 0:
        wrong = f"'step' {spread.step} must be over 0"
    elif spread.step is not None and spread.step > spread.high - spread.low:
        wrong = f"'step' {spread.step} leads from 'low' {spread.low} over 'high' {spread.high}"
    elif not isinstance(spread.log, bool):
        wrong = "'log' is true or false"
    elif spread.log and (spread.low <= 0 or spread.step is not None):
        wrong = "a logarithmic range starts above 0 and has no step"
    elif "." not in name and not {"int", "float"} & set(parameter.kinds or ("int",)):
        wrong = f"a range is of numbers; the parameter is {parameter.type}"
    elif "." not in name and parameter.kinds == ["int"] and not spread.is_whole:
        wrong = "the parameter is int: 'low', 'high' and 'step' must be whole numbers"
    if wrong := wrong or _beyond_optuna(spread):
        raise WorkbookError(f"{where}: {name}: {wrong}.")
    if "." not in name and parameter.kinds == ["float"]:
        step = None if spread.step is None else float(spread.step)
        spread = Range(float(spread.low), float(spread.high), step, spread.log)
    return spread


def _beyond_optuna(spread):
    """What Optuna, which computes with floats, would not sample evenly, or not at all; an empty text for nothing."""
    width = spread.high - spread.low
    if spread.is_whole and max(abs(spread.low), abs(spread.high)) > EXACT:
        return f"Optuna samples whole numbers within ±{EXACT:,} (2**53); take a smaller range, or list choices"
    if not sys.float_info.min <= width <= sys.float_info.max:
        return "Optuna samples ranges that are 1e-307 to 1.7e308 wide; take another range, or list choices"
    if spread.step is not None and spread.count() > EXACT:
        return (
            f"it has over {EXACT:,} (2**53) steps, which Optuna cannot tell apart; leave 'step' out"
        )
    return ""


def _is_finite(number):
    return isinstance(number, int) or math.isfinite(number)


def _exact(number):
    """`number` as it is written, not as its nearest float: 0.1 is a tenth."""
    return Fraction(str(number))


def _typed(declared, text):
    """(flat name, Choices, Range or fixed value) of `name=1..10`, `name=a,b` or `name=a`."""
    name, equals, spec = text.partition("=")
    if not equals or not name or not spec:
        raise WorkbookError(
            f"{text!r}: write name=1..10, name=0.01..1:log, name=1..9:2, name=a,b,c or name=value."
        )
    parameter = _parameter(declared, name, "--vary")
    if match := TYPED_RANGE.fullmatch(spec):
        low, high, more = match.groups()
        spread = {"low": _number(low), "high": _number(high)}
        spread |= {"log": True} if more == "log" else {"step": _number(more)} if more else {}
        return name, _range(parameter, name, spread, "--vary")
    if ("." in name or parameter.kinds != ["str"]) and LIKE_A_RANGE.match(spec):
        raise WorkbookError(
            f"--vary: {name}={spec}: a range is low..high, low..high:step or low..high:log, in numbers."
        )
    values = [_value(parameter, name, part) for part in plain_yaml.split(spec)]
    return name, values[0] if len(values) == 1 else _choices(name, values, "--vary")


def _value(parameter, name, text):
    """What `text` means for `parameter`, or for its key `name`, which has no declared type."""
    if "." not in name:
        return parameters.from_text([parameter], {name: text})[name]
    if not text.strip():
        raise WorkbookError(f"--vary: {name}: a choice is empty; write null for none.")
    return parameters.meaning(name, text)


def _number(text):
    # Python reads no longer ones as integers
    return int(text) if re.fullmatch(r"[+-]?\d{1,1000}", text) else float(text)
