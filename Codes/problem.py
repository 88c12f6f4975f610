"""What is predicted from which table: the files Resources/problems/*.yaml, read and checked."""

import datetime
import difflib
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml

from Codes.errors import WorkbookError
from Codes.paths import PROBLEMS

SKLEARN = ("breast_cancer", "diabetes", "digits", "iris", "wine")


def _bound(value):
    """A number or a date, exactly as the YAML has it: text that looks like one is a mistake."""
    known = isinstance(value, (int, float, datetime.date)) and not isinstance(value, bool)
    if not known or isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a number or a date (2013-10-01) is needed, not {value!r}")
    return value


def _label(value):
    """Text, a number or a boolean."""
    if not isinstance(value, (str, int, float, bool)):
        raise ValueError(f"text, a number, true or false is needed, not {value!r}")
    return value


Bound = Annotated[Any, pydantic.AfterValidator(_bound)]
Label = Annotated[Any, pydantic.AfterValidator(_label)]
Share = Annotated[float, pydantic.Field(gt=0, lt=1)]


def suggest(name, known):
    """', did you mean …?' for the entry of `known` nearest to `name`; '' where none is near."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f", did you mean '{near[0]}'?" if near else ""


class _Part(pydantic.BaseModel):
    """A part of the file: frozen, and strict about types and keys."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="forbid")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _known_keys(cls, given):
        for key in given if isinstance(given, dict) else ():
            if key not in cls.model_fields:
                hint = suggest(key, cls.model_fields) or f"; known: {', '.join(cls.model_fields)}"
                raise ValueError(f"unknown key '{key}'{hint}")
        return given


class Source(_Part):
    """Where the table is: a file or folder of parts, or a set that scikit-learn carries.

    `path` is relative to the YAML file's folder and absolute once read; `sha256` is of the file's
    bytes (of a folder: of its parts' bytes, one after another in the order of their names).
    """

    path: Path | None = pydantic.Field(None, strict=False)
    sklearn: Literal[SKLEARN] | None = None
    sha256: Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")] | None = None

    @pydantic.model_validator(mode="after")
    def _one(self):
        if (self.path is None) == (self.sklearn is None):
            raise ValueError("either 'path' or 'sklearn' is needed, and not both")
        if self.sklearn and self.sha256:
            raise ValueError("'sha256' belongs to a 'path'")
        return self


class Split(_Part):
    """How rows are held out: a `test_share` of them, or for `time` all from `cutoff` on."""

    kind: Literal["random", "stratified", "time"]
    test_share: Share | None = None
    cutoff: Bound | None = None

    @pydantic.model_validator(mode="after")
    def _enough(self):
        if self.cutoff is not None and self.kind != "time":
            raise ValueError("'cutoff' belongs to the kind 'time'")
        if (self.test_share is None) == (self.cutoff is None):
            time = " or a 'cutoff', and not both" if self.kind == "time" else ""
            raise ValueError(f"a 'test_share'{time} is needed")
        return self


class Metric(_Part):
    """The number that decides between two models."""

    name: str
    direction: Literal["maximize", "minimize"]


class Rule(_Part):
    """What the contract asks of a column; `missing_share` is the largest allowed."""

    type: Literal["integer", "number", "boolean", "text", "time"]
    min: Bound | None = None
    max: Bound | None = None
    allowed: Annotated[list[Label], pydantic.Field(min_length=1)] | None = None
    missing_share: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.0


class Problem(_Part):
    """A prediction problem: see Resources/problems/flights.yaml for one with every key."""

    name: str
    title: str
    task: Literal["classification", "regression"]
    source: Source
    target: str
    positive: Label | None = None
    exclude: dict[str, str] = {}
    roles: dict[str, Literal["numeric", "categorical"]] = {}
    time: str | None = None
    split: Split
    metric: Metric
    contract: dict[str, Rule] = {}

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        if self.split.kind == "time" and self.time is None:
            raise ValueError("'split' goes by time: 'time' must name the column")
        if self.split.kind == "stratified" and self.task == "regression":
            raise ValueError("'split: stratified' needs classes; use random or time")
        if self.target in self.exclude or self.target in (self.roles | {self.time: ""}):
            raise ValueError(f"'{self.target}' is the target: not for exclude, roles or time")
        return self


class _Loader(yaml.SafeLoader):  # pylint: disable=too-many-ancestors
    """Plain YAML only: no Python objects, no key twice, no `on` or `yes` that turns into true."""


def _mapping(loader, node):
    """A dict of `node`; a key that comes twice is refused, where YAML would take the last."""
    seen = set()
    for key, _ in node.value:
        if key.value in seen:
            raise WorkbookError(
                f"line {key.start_mark.line + 1}: the key '{key.value}' comes twice"
            )
        seen.add(key.value)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


def _boolean(_, node):
    """True or False; the other spellings of YAML 1.1 (`no`: Norway, a column `on`) are refused."""
    if node.value.lower() not in ("true", "false"):
        line = node.start_mark.line + 1
        raise WorkbookError(f'line {line}: write true, false or "{node.value}", not {node.value}')
    return node.value.lower() == "true"


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:bool", _boolean)


def names():
    """The problems there are: the stems of Resources/problems/*.yaml, sorted."""
    return sorted(path.stem for path in PROBLEMS.glob("*.yaml"))


def _find(name):
    """The file of problem `name`: a path that ends in .yaml, or a name from Resources/problems."""
    path = Path(name) if str(name).endswith(".yaml") else PROBLEMS / f"{name}.yaml"
    if not path.is_file() or path.parent == PROBLEMS and path.stem not in names():
        hint = suggest(name, names()) or f"; there are: {', '.join(names())}"
        raise WorkbookError(f"no problem '{name}'{hint} (or give the path of a .yaml file)")
    return path


def _parse(path):
    """The mapping in the YAML file `path`, or a WorkbookError that says where it went wrong."""
    try:
        fields = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)  # a SafeLoader
    except WorkbookError as error:
        raise WorkbookError(f"{path.name}: {error}") from None
    except UnicodeDecodeError as error:
        raise WorkbookError(f"{path.name}: byte {error.start} is not UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise WorkbookError(f"{path.name}: {line}{getattr(error, 'problem', error)}") from None
    if not isinstance(fields, dict):
        raise WorkbookError(f"{path.name}: keys and values are needed: {', '.join(_written())}")
    return fields


def _written():
    """The keys that a file may have; its name is the problem's name."""
    return [key for key in Problem.model_fields if key != "name"]


def load(name):
    """The Problem called `name` (from Resources/problems), or described by the .yaml at that path.

    Raises:
        WorkbookError: one line, 'file.yaml: key: what is wrong'.
    """
    path = _find(name)
    fields = _parse(path)
    if "name" in fields:
        raise WorkbookError(
            f"{path.name}: name: leave it out, the file's name is the problem's name"
        )
    try:
        problem = Problem.model_validate(fields | {"name": path.stem})
    except pydantic.ValidationError as errors:
        error = errors.errors(include_url=False)[0]
        raise WorkbookError(f"{path.name}: {_sentence(error)}") from None
    return _located(problem, path.resolve().parent)


def _sentence(error):
    """'key: what is wrong' of one pydantic `error`."""
    key = ".".join(str(part) for part in error["loc"] if part != "[key]")
    message = error["msg"].removeprefix("Value error, ").replace("Input should", "should")
    if error["type"] not in ("value_error", "missing"):
        message += f", not {error['input']!r}"
    return f"{key}: {message}" if key else message


def _located(problem, folder):
    """`problem` with the path of its source made absolute, seen from `folder`."""
    if problem.source.path is None:
        return problem
    source = problem.source.model_copy(update={"path": (folder / problem.source.path).resolve()})
    return problem.model_copy(update={"source": source})
