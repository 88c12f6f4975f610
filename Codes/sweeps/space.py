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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TYPE_CHECKING

from Codes.ground import plain_yaml
from Codes.ground.errors import WorkbookError, nearest
from Codes.notebook_files import parameters
from Codes.notebook_files.parameters import Parameter

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution, CategoricalDistribution

GRID_LIMIT = 10_000  # points
RANGE = {"low", "high", "step", "log"}
NUMBER = rf"(?:{plain_yaml.NUMBER}|[-+]?(?:inf|nan))"
TYPED_RANGE = re.compile(rf"({NUMBER})\.\.({NUMBER})(?::(log|{NUMBER}))?")
LIKE_A_RANGE = re.compile(rf"\s*({NUMBER})\s*\.\.")
EXACT = 2**53  # up to it each whole number has a float of its own
Point = dict[str, Any]  # {flat name: value} of what varies


@dataclass(frozen=True)
class Choices:
    """Any one of `values`."""

    values: tuple[Any, ...]

    def distribution(self) -> "CategoricalDistribution":
        """Optuna's: of the values themselves, or of their JSON texts where they have parts."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution([self.encode(v) for v in self.values])

    def ends(self) -> tuple[Any, ...]:
        """The values among which are all that a check has to see."""
        return self.values

    def count(self) -> int:
        """How many values there are."""
        return len(self.values)

    def all(self) -> list[Any]:
        """Every value."""
        return list(self.values)

    def encode(self, value: Any) -> Any:
        """`value` as Optuna holds it."""
        return json.dumps(value) if isinstance(value, (list, dict)) else value

    def decode(self, value: Any) -> Any:
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
    def is_whole(self) -> bool:
        """Whether its numbers are whole."""
        return all(isinstance(v, int) for v in (self.low, self.high, self.step or 0))

    def distribution(self) -> "BaseDistribution":
        """Optuna's."""
        from optuna.distributions import FloatDistribution, IntDistribution

        # Optuna warns of an end that no step reaches
        count = self.count()
        high = self._at(count - 1) if self.step and count else self.high
        if self.is_whole:
            step = int(self.step or 1)
            return IntDistribution(int(self.low), int(high), log=self.log, step=step)
        return FloatDistribution(float(self.low), float(high), log=self.log, step=self.step)

    def ends(self) -> tuple[int | float, int | float]:
        """The values between which all others lie."""
        return self.low, self.high

    def count(self) -> int | None:
        """How many numbers there are; None where there is no end of them."""
        if not self.is_whole and self.step is None:
            return None
        return int((_exact(self.high) - _exact(self.low)) // _exact(self.step or 1)) + 1

    def all(self) -> list[int | float]:
        """Every number; none where there is no end of them."""
        return [self._at(i) for i in range(self.count() or 0)]

    def _at(self, number: int) -> int | float:
        exact = _exact(self.low) + number * _exact(self.step or 1)
        return int(exact) if self.is_whole else float(exact)

    def encode(self, value: Any) -> Any:
        """`value` as Optuna holds it: itself."""
        return value

    decode = encode


@dataclass(frozen=True)
class Space:
    """`fixed` (parameter → value) and what `varies` (flat name → Choices or Range); `declared` are the parameters."""

    declared: tuple[Parameter, ...]
    fixed: dict[str, Any] = field(default_factory=dict)
    varies: dict[str, Choices | Range] = field(default_factory=dict)

    def values(self, point: Point) -> dict[str, Any]:
        """All parameters' values at `point` (flat name → value), checked as those of a single run are."""
        defaults: dict[str, Any] = {p.name: p.default for p in self.declared}
        values = dict(self.fixed)
        for name, value in point.items():
            top, _, key = name.partition(".")
            values[top] = {**values.get(top, defaults.get(top) or {}), key: value} if key else value
        return values

    def check(self, where: str) -> None:
        """Refuse what the notebook `where` would refuse, at both ends of each range and for each choice."""
        for values in self.ends():
            parameters.check(self.declared, values, where)

    def ends(self, each: str | None = None) -> list[dict[str, Any]]:
        """The values at points that hold each choice and both ends of each range, and the fixed ones alone.

        With each choice of the name `each`, too, where that varies.
        """
        ends = {name: spread.ends() for name, spread in self.varies.items()}
        beside = [{each: value} for value in ends.get(each, ())] if each else []
        points = [{}] + [{name: value} for name, both in ends.items() for value in both]
        return [self.values(point | other) for point in points for other in beside or [{}]]

    def size(self) -> int | None:
        """The number of points; None where there is no end of them."""
        counts = [spread.count() for spread in self.varies.values()]
        finite = [count for count in counts if count is not None]
        return math.prod(finite) if len(finite) == len(counts) else None

    def grid(self) -> list[Point]:
        """Every point, the last name varying fastest; a WorkbookError where they are too many."""
        continuous = [name for name, spread in self.varies.items() if spread.count() is None]
        if continuous:
            raise WorkbookError(
                f"{continuous[0]} is a continuous range, which has no grid: give it a step, or choose --sampler random."
            )
        if (size := self.size() or 0) > GRID_LIMIT:
            raise WorkbookError(
                f"the grid has {size:,} points; allowed are {GRID_LIMIT:,}: take larger steps, fewer choices, "
                "or --sampler random."
            )
        names, columns = list(self.varies), [spread.all() for spread in self.varies.values()]
        return [dict(zip(names, point)) for point in itertools.product(*columns)]

    def distributions(self) -> "dict[str, BaseDistribution]":
        """{flat name: Optuna's distribution}."""
        return {name: spread.distribution() for name, spread in self.varies.items()}

    def encode(self, point: Point) -> dict[str, Any]:
        """`point` as Optuna holds it."""
        return {name: self.varies[name].encode(value) for name, value in point.items()}

    def decode(self, params: Mapping[str, Any]) -> Point:
        """The point that Optuna's `params` stand for, in the order in which the space names them."""
        return {
            name: spread.decode(params[name])
            for name, spread in self.varies.items()
            if name in params
        }

    def text(self) -> str:
        """The space as YAML that could be given again."""
        space = dict(self.fixed)
        for name, spread in self.varies.items():
            if isinstance(spread, Choices):
                space[name] = {"choices": list(spread.values)}
            else:
                space[name] = {
                    k: getattr(spread, k)
                    for k in ("low", "high", "step", "log")
                    if getattr(spread, k)
                }
                space[name] |= {"low": spread.low, "high": spread.high}
        return plain_yaml.dump(space)


def read(
    declared: Sequence[Parameter],
    path: Path | None = None,
    texts: Iterable[str] = (),
    fixed: Mapping[str, Any] | None = None,
    where: str = "the space",
) -> Space:
    """The Space over the parameters `declared` in the YAML file `path`, then `texts` as typed, then `fixed` values.

    A later one replaces an earlier one of the same name.
    """
    entries, file = {}, path.name if path else where
    if path:
        for name, spec in plain_yaml.read(path).items():
            entries |= _flat(declared, str(name), spec, file)
    for text in texts:
        name, spread = _typed(declared, text)
        entries.pop(name, None)
        entries[name] = spread
    for name, value in (fixed or {}).items():
        entries = {n: s for n, s in entries.items() if n.partition(".")[0] != name}
        entries[name] = value
    return _assembled(declared, entries)


def _assembled(declared: Sequence[Parameter], entries: dict[str, Any]) -> Space:
    varies = {n: s for n, s in entries.items() if isinstance(s, (Choices, Range))}
    space = Space(tuple(declared), {}, {})
    points = {n: s for n, s in entries.items() if n not in varies}
    return Space(tuple(declared), space.values(points), varies)


def _flat(declared: Sequence[Parameter], name: str, spec: Any, file: str) -> dict[str, Any]:
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
    entries = {}
    for key, inner in spec.items():
        entries |= _flat(declared, f"{name}.{key}", inner, file)
    return entries or {name: {}}


def _misspelt(spec: Iterable[Any]) -> str:
    wrong = [key for key in spec if key not in RANGE]
    hints = [nearest(key, RANGE | {"choices", "value"}) for key in wrong]
    return f"; unknown: {', '.join(map(str, wrong))}.{''.join(hints)}" if wrong else "."


def _parameter(declared: Sequence[Parameter], name: str, where: str) -> Parameter:
    top, dot, key = name.partition(".")
    parameters_ = {p.name: p for p in declared}
    if top not in parameters_:
        names = ", ".join(parameters_) or "none"
        raise WorkbookError(
            f"{where}: the notebook has no parameter '{top}'; it takes {names}.{nearest(top, parameters_)}"
        )
    parameter = parameters_[top]
    if dot and (not key or parameter.kinds and "dict" not in parameter.kinds):
        kind = parameter.type or "any"
        raise WorkbookError(f"{where}: {name}: only a dict has keys; {top} is {kind}.")
    return parameter


def _choices(name: str, values: Sequence[Any], where: str) -> Choices:
    if not values:
        raise WorkbookError(f"{where}: {name}: a list of choices must not be empty.")
    texts = [json.dumps(parameters.plain(name, v), sort_keys=True) for v in values]
    twice = [v for v, text in zip(values, texts) if texts.count(text) > 1]
    if twice:
        raise WorkbookError(f"{where}: {name}: the choice {twice[0]!r} comes twice.")
    return Choices(tuple(parameters.plain(name, v) for v in values))


def _range(parameter: Parameter, name: str, spec: Mapping[str, Any], where: str) -> Range:
    bounds: dict[str, Any] = {"low": None, "high": None, **spec}
    spread = Range(**bounds)
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


def _beyond_optuna(spread: Range) -> str:
    """What Optuna, which computes with floats, would not sample evenly, or not at all; an empty text for nothing."""
    width = spread.high - spread.low
    if spread.is_whole and max(abs(spread.low), abs(spread.high)) > EXACT:
        return f"Optuna samples whole numbers within ±{EXACT:,} (2**53); take a smaller range, or list choices"
    if not sys.float_info.min <= width <= sys.float_info.max:
        return "Optuna samples ranges that are 1e-307 to 1.7e308 wide; take another range, or list choices"
    if spread.step is not None and (spread.count() or 0) > EXACT:
        return (
            f"it has over {EXACT:,} (2**53) steps, which Optuna cannot tell apart; leave 'step' out"
        )
    return ""


def _is_finite(number: int | float) -> bool:
    return isinstance(number, int) or math.isfinite(number)


def _exact(number: int | float) -> Fraction:
    """`number` as it is written, not as its nearest float: 0.1 is a tenth."""
    return Fraction(str(number))


def _typed(declared: Sequence[Parameter], text: str) -> tuple[str, Any]:
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


def _value(parameter: Parameter, name: str, text: str) -> Any:
    """What `text` means for `parameter`, or for its key `name`, which has no declared type."""
    if "." not in name:
        return parameters.from_text([parameter], {name: text})[name]
    if not text.strip():
        raise WorkbookError(f"--vary: {name}: a choice is empty; write null for none.")
    return parameters.meaning(name, text)


def _number(text: str) -> int | float:
    # Python reads no longer ones as integers
    return int(text) if re.fullmatch(r"[+-]?\d{1,1000}", text) else float(text)
