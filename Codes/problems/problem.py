"""What is predicted from which table: the files Resources/problems/*.yaml, read and checked."""

import datetime
import math
import re
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import pydantic

from Codes.ground import plain_yaml
from Codes.ground.errors import WorkbookError, nearest
from Codes.ground.paths import PROBLEMS

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from Codes.tables.cell_values import Reading

# task -> metric -> its direction
METRICS = {
    "classification": {
        "roc_auc": "maximize",
        "average_precision": "maximize",
        "log_loss": "minimize",
        "brier": "minimize",
        "accuracy": "maximize",
        "balanced_accuracy": "maximize",
        "f1": "maximize",
    },
    "regression": {
        "rmse": "minimize",
        "mae": "minimize",
        "median_ae": "minimize",
        "r2": "maximize",
    },
}
Carried = Literal["breast_cancer", "diabetes", "digits", "iris", "wine"]  # tables of scikit-learn


def _bound(value: Any) -> int | float | datetime.date:
    """A number or a date, exactly as the YAML has it: text that looks like one is a mistake."""
    known = isinstance(value, (int, float, datetime.date)) and not isinstance(value, bool)
    if not known or isinstance(value, float) and not math.isfinite(value):
        what = "the text " if isinstance(value, str) else ""  # a date between quotes is one
        raise ValueError(f"a number or a date (2013-10-01) is needed, not {what}{value!r}")
    return value


def _word(value: Any) -> str:
    """Text or a number, as the text that a cell holds."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"text or a number is needed, not {value!r}")
    return str(value).strip()


def _moment(bound: Any) -> Any:
    """A `bound` that compares with any other: a date is its first moment, a time without a zone one in UTC."""
    if not isinstance(bound, datetime.date):
        return bound
    if not isinstance(bound, datetime.datetime):
        bound = datetime.datetime.combine(bound, datetime.time())
    return bound if bound.tzinfo else bound.replace(tzinfo=datetime.UTC)


def _label(value: Any) -> str | int | float | bool:
    """Text, a number or a boolean."""
    if not isinstance(value, (str, int, float, bool)):
        raise ValueError(f"text, a number, true or false is needed, not {value!r}")
    return value


Bound = Annotated[Any, pydantic.AfterValidator(_bound)]
Word = Annotated[Any, pydantic.AfterValidator(_word)]
Mark = Annotated[str, pydantic.Field(min_length=1, max_length=1)]
Label = Annotated[Any, pydantic.AfterValidator(_label)]
# what the options of a table are called elsewhere
SYNONYMS = {
    **dict.fromkeys(("separator", "delimiter", "delim"), "sep"),
    **dict.fromkeys(("sheet", "sheet_names"), "sheet_name"),
    **dict.fromkeys(("dates", "date", "dateformat", "parse_dates", "format"), "date_format"),
    **dict.fromkeys(("gaps", "missing", "na", "null_values", "nulls"), "na_values"),
    **dict.fromkeys(("quote", "quote_char"), "quotechar"),
    **dict.fromkeys(("skip", "skip_rows", "header"), "skiprows"),
    **dict.fromkeys(("thousand", "thousands_separator"), "thousands"),
    **dict.fromkeys(("decimal_point", "comma"), "decimal"),
    **dict.fromkeys(("file", "url", "table"), "path"),
}
Share = Annotated[float, pydantic.Field(gt=0, lt=1)]


def suggest(name: object, known: Iterable[str]) -> str:
    """', did you mean …?' for the entry of `known` nearest to `name`; '' where none is near."""
    return nearest(name, known, ", did you mean '{}'?")


OF_PROBABILITIES = (
    "log_loss",
    "brier",
)  # metrics of a classification that labels alone do not have


class _Part(pydantic.BaseModel):
    """A part of the file: frozen, and strict about types and keys."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="forbid")


class Source(_Part):
    """Where the table is: a file or folder of parts, or a set that scikit-learn carries.

    `path` is relative to the YAML file's folder and absolute once read; `sha256` is of the file's
    bytes (of a folder: of its parts' bytes, one after another in the order of their names). The other keys are how
    its text is read, by pandas' names.
    """

    path: Path | None = pydantic.Field(None, strict=False)
    sklearn: Carried | None = None
    sha256: Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")] | None = None
    sep: Mark = ","
    decimal: Literal[".", ","] = "."
    thousands: Mark | None = None
    encoding: str = "utf-8"
    quotechar: Mark = '"'
    skiprows: Annotated[int, pydantic.Field(ge=0)] = 0
    date_format: str | None = None
    na_values: list[Word] = []
    sheet_name: str | int = 0

    @property
    def reading(self) -> "Reading":
        """How the table's text is read: a cell_values.Reading."""
        # it imports pyarrow, for which who only asks what a problem is need not wait
        from Codes.tables import cell_values

        reading = cell_values.Reading
        return reading.of({key: getattr(self, key) for key in reading.names()})

    @pydantic.model_validator(mode="after")
    def _one(self) -> Self:
        if (self.path is None) == (self.sklearn is None):
            raise ValueError("either 'path' or 'sklearn' is needed, and not both")
        if self.sklearn and self.sha256:
            raise ValueError("'sha256' belongs to a 'path'")
        marks = [self.sep, self.decimal, self.thousands, self.quotechar]
        if twice := [m for m in marks if marks.count(m) > 1 and m is not None]:
            raise ValueError(f"{twice[0]!r} cannot be two of sep, decimal, thousands and quotechar")
        return self


class Split(_Part):
    """Which rows are for training, validation (to choose by) and test (the gate's): see Codes/problems/rows.py.

    By chance (`random`, `stratified`, `group`) `test_share` and `validation_share` of all rows are held out; for `time`
    the test begins at `cutoff`, and the validation before it at `validation_cutoff`, or with the last
    `validation_share` of the rows before the cutoff; rows before `begin` are left out, and those from `end` on, which
    are not known yet. `group` names the column whose equal values stay together (all rows of a patient, a customer, a
    day); `key` the columns by which a row is known, by default all.
    """

    kind: Literal["random", "stratified", "group", "time"]
    test_share: Share | None = None
    validation_share: Share = 0.2
    cutoff: Bound | None = None
    validation_cutoff: Bound | None = None
    begin: Bound | None = None
    end: Bound | None = None
    group: str | None = None
    key: list[str] = []

    @property
    def share_to_test(self) -> float:
        """The share of all rows that the test takes; 0 where a cutoff says it."""
        return self.test_share or 0.0

    @pydantic.model_validator(mode="after")
    def _enough(self) -> Self:
        for key in ("cutoff", "validation_cutoff", "begin", "end"):
            if getattr(self, key) is not None and self.kind != "time":
                raise ValueError(f"'{key}' belongs to the kind 'time'")
        if (self.cutoff is not None) + (self.test_share is not None) != 1:
            time = " or a 'cutoff', and not both" if self.kind == "time" else ""
            raise ValueError(f"a 'test_share'{time} is needed")
        if (self.group is not None) != (self.kind == "group"):
            raise ValueError("'group: COLUMN' and the kind 'group' belong together")
        if self.share_to_test + self.validation_share >= 1:
            raise ValueError("'test_share' and 'validation_share' leave nothing to train on")
        return self


class Metric(_Part):
    """The number that decides between two models: one that is measured by `name`, or your own `function`.

    The function is a dotted path; it is called with the actual and the predicted values of all rows (and, where it
    takes a third argument, a frame of the probabilities, a column a class) and gives a number.
    """

    name: str = ""
    function: str | None = None
    direction: Literal["maximize", "minimize"]

    @pydantic.model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        function, name = given.get("function"), given.get("name")
        if isinstance(function, str) and not (name or function.count(".") < 1):
            return given | {"name": function.rpartition(".")[2]}
        if not function and not name:
            raise ValueError(
                "a 'name', or a 'function' (a dotted path such as shop.margin) is needed"
            )
        return given

    @pydantic.model_validator(mode="after")
    def _one(self) -> Self:
        if self.function is not None and self.name != self.function.rpartition(".")[2]:
            raise ValueError(
                "'name' or 'function' (a dotted path such as shop.margin), and not both"
            )
        return self

    @property
    def more_is_better(self) -> bool:
        """Whether the metric is one to maximize."""
        return self.direction == "maximize"


class Costs(_Part):
    """What an error costs, in one unit: a positive that was `missed`, a `false_alarm`."""

    missed: Annotated[float, pydantic.Field(ge=0, strict=False)]
    false_alarm: Annotated[float, pydantic.Field(ge=0, strict=False)]

    @pydantic.model_validator(mode="after")
    def _some(self) -> Self:
        if not self.missed or not self.false_alarm:
            raise ValueError(
                "'missed' and 'false_alarm' are both over 0, else one answer is always right"
            )
        return self


class Baseline(_Part):
    """What a model has to be better than, where it is not the best constant: what you do today.

    The value of a `column`, or the last known target of the row's group, whose column is `last_of`.
    """

    column: str | None = None
    last_of: str | None = None

    @pydantic.model_validator(mode="after")
    def _one(self) -> Self:
        if (self.column is None) == (self.last_of is None):
            raise ValueError("either 'column' or 'last_of' is needed, and not both")
        return self


class Rule(_Part):
    """What the contract asks of a column; `missing_share` is the largest allowed."""

    type: Literal["integer", "number", "boolean", "text", "time"]
    min: Bound | None = None
    max: Bound | None = None
    allowed: Annotated[list[Label], pydantic.Field(min_length=1)] | None = None
    missing_share: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.0

    @pydantic.model_validator(mode="after")
    def _bounds(self) -> Self:
        known = {"time": datetime.date, "integer": (int, float), "number": (int, float)}
        for bound in (self.min, self.max):
            if bound is not None and not isinstance(bound, known.get(self.type, ())):
                raise ValueError(f"{bound} does not bound a column of type {self.type}")
        if self.min is not None and self.max is not None and _moment(self.min) > _moment(self.max):
            raise ValueError(f"min {self.min} is over max {self.max}")
        return self


class Column(_Part):
    """What people call a column (`label`), the `unit` of its values, and what they mean; each may be left out."""

    label: str = ""
    unit: str = ""
    meaning: str = ""


class Gate(_Part):
    """What a model must show before it goes to production.

    `thresholds`: the least that a metric may be, or the most where less is better; `slices`: columns by whose values
    the deciding metric is looked at too, where there are `slice_rows` rows, and where it may be worse than that of the
    model in production by `slice_loss` at most (by default a tenth of what that one gains over the baseline);
    `latency_ms`: for an answer to one row, 95 times of 100 (by default it is not looked at).
    """

    thresholds: dict[str, float] = pydantic.Field({}, strict=False)
    slices: list[str] = []
    slice_rows: Annotated[int, pydantic.Field(ge=1)] = 500
    slice_loss: Annotated[float, pydantic.Field(ge=0, strict=False)] | None = None
    latency_ms: Annotated[float, pydantic.Field(gt=0, strict=False)] | None = None


def _window(value: str) -> str:
    """How long a window is: '7d', '12h' or '1000 rows'."""
    if not re.fullmatch(r"[1-9]\d{0,3}[dh]|[1-9]\d{1,8} rows", value):
        raise ValueError(f"7d, 12h or 1000 rows is the form, not {value!r}")
    return value


def _rule(value: str) -> str:
    """When windows make an alarm: '2 of 3'."""
    found = re.fullmatch(r"(\d{1,2}) of (\d{1,2})", value)
    if not found or not 1 <= int(found[1]) <= int(found[2]) <= 10:
        raise ValueError(f"'2 of 3' is the form, of 10 windows at most, not {value!r}")
    return value


class Labels(_Part):
    """A table that holds the truth where it comes later: its `path` (relative to the YAML file), and the `key` columns
    that tell which row a truth belongs to; training, too, takes from it what the table has not."""

    path: Path = pydantic.Field(strict=False)
    key: Annotated[list[str], pydantic.Field(min_length=1)]


class Monitoring(_Part):
    """How a model in use is watched, and what an alarm does: see Codes/monitoring.

    `window`: a day is '1d'; by default a week, which holds each weekday once, or 1,000 rows where there is no time.
    `budget`: one false alarm in so many windows (104 weeks are two years). `rule`: an alarm where so many of the last
    windows are strange: 2 of 3 forgives one strange week. `minimum_effect`: the share of rows that has to have moved.
    `tolerated_loss`: how much the loss may rise over that at promotion (by default by a tenth of it). `leave_out`:
    columns that move by their nature, such as a season. `recent`: so many last days test a model that is trained again,
    and as many before them validate it. `labels`: where the truth comes from, if not from the table.
    `webhook`: 'env:NAME', a variable with an address that alarms are sent to. `joint`: whether all columns together are
    held against the reference, too, by a classifier. `on_alarm`: what harm does, where `workbook monitor` finds it:
    `inform`; `retrain`, into staging; `production`: that, and through the gate.
    """

    window: Annotated[str, pydantic.AfterValidator(_window)] | None = None
    budget: Annotated[int, pydantic.Field(ge=2, le=100_000)] = 104
    rule: Annotated[str, pydantic.AfterValidator(_rule)] = "2 of 3"
    minimum_effect: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.02
    tolerated_loss: Annotated[float, pydantic.Field(ge=0, strict=False)] | None = None
    recent: Annotated[int, pydantic.Field(ge=1, le=3660)] = 28
    leave_out: list[str] = []
    joint: bool = False
    on_alarm: Literal["inform", "retrain", "production"] = "inform"
    labels: Labels | None = None
    webhook: Annotated[str, pydantic.Field(pattern="^env:[A-Za-z_][A-Za-z0-9_]*$")] | None = None

    @property
    def label_key(self) -> list[str]:
        """The columns by which the truth is joined that comes later; none where none does."""
        return self.labels.key if self.labels else []


class Problem(_Part):
    """A prediction problem: see Resources/problems/flights.yaml for one with every key."""

    name: str
    title: str
    task: Literal["classification", "regression"]
    source: Source
    target: str
    positive: Label | None = None
    exclude: dict[str, str] = {}
    roles: dict[str, Literal["numeric", "categorical", "date"]] = {}
    time: str | None = None
    split: Split
    metric: Metric
    costs: Costs | None = None
    threshold: Share | None = (
        None  # of the positive's probability, from which on the label is the positive one
    )
    baseline: Baseline | None = None
    columns: dict[str, Column] = {}
    contract: dict[str, Rule] = {}
    private: list[str] = []  # columns whose values are not kept of requests
    gate: Gate = Gate()
    monitoring: Monitoring = Monitoring()

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if wrong := [*self._wrong_keys(), *self._wrong_metrics()]:
            raise ValueError("; ".join(wrong))
        return self

    def _wrong_keys(self) -> Iterator[str]:
        """What of the keys does not go together."""
        if self.split.kind == "time" and self.time is None:
            yield "'split' goes by time: 'time' must name the column"
        if self.split.kind == "stratified" and self.task == "regression":
            yield "'split: stratified' needs classes; use random, group or time"
        if self.positive is not None and self.task == "regression":
            yield "'positive' belongs to a classification"
        for key in ("costs", "threshold"):
            if getattr(self, key) is not None and self.task == "regression":
                yield f"'{key}' belongs to a classification of two classes"
        if self.costs is not None and self.threshold is not None:
            yield "'costs' choose the threshold: leave out 'threshold', or them"
        if self.target in self.exclude or self.target in (self.roles | {self.time: ""}):
            yield f"'{self.target}' is the target: not for exclude, roles or time"

    def called(self, column: object, unit: bool = True) -> str:
        """What people call the `column`: 'wind speed (miles an hour)'; its name where the file is silent."""
        known = self.columns.get(str(column), Column())
        return (known.label or str(column)) + (f" ({known.unit})" if unit and known.unit else "")

    def meaning(self, column: object) -> str:
        """What the `column` means: 'gusts: missing where none was reported (miles an hour)'; '' where unsaid."""
        known = self.columns.get(str(column), Column())
        is_told = known.meaning and known.label == str(column).replace("_", " ")
        label = "" if is_told else known.label
        told = ": ".join(filter(None, (label, known.meaning)))
        return f"{told} ({known.unit})" if told and known.unit else told or known.unit

    @property
    def directions(self) -> dict[str, str]:
        """Each metric that is measured, and whether it is one to 'maximize' or to 'minimize'."""
        own = {"cost": "minimize"} if self.costs else {}
        own |= {self.metric.name: self.metric.direction} if self.metric.function else {}
        return METRICS[self.task] | own

    def _wrong_metrics(self) -> Iterator[str]:
        """What of the metrics is not measured for the task, or goes the other way."""
        known, name = self.directions, self.metric.name
        for each, key in {name: "metric", **dict.fromkeys(self.gate.thresholds, "gate")}.items():
            if each not in known:
                hint = suggest(each, known) or ""
                yield f"{key}: '{each}' is not measured{hint}; there are {', '.join(known)}"
        if name in known and self.metric.direction != known[name]:
            yield f"metric: '{name}' must be one to {known[name]}"
        if self.baseline and self.baseline.last_of and name in OF_PROBABILITIES:
            yield (
                f"metric: '{name}' is taken from probabilities, and 'baseline: last_of' gives labels: let another "
                "decide, such as roc_auc, or name a column of probabilities"
            )


def names() -> list[str]:
    """The problems there are: the stems of Resources/problems/*.yaml, sorted."""
    return sorted(path.stem for path in PROBLEMS.glob("*.yaml"))


def _find(name: str | Path) -> Path:
    """The file of problem `name`: the path of a .yaml file, or a name from Resources/problems."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    if str(name) not in names():
        hint = suggest(name, names()) or f"; there are: {', '.join(names())}"
        raise WorkbookError(f"no problem '{name}'{hint} (or give the path of a .yaml file)")
    return PROBLEMS / f"{name}.yaml"


def lasting(name: str | Path) -> str:
    """`name` so that it means the same from any folder: a path whole, a name as it is."""
    base, day = dated(name)
    rest = str(name)[len(base) :] if day else ""
    base = str(Path(base).resolve()) if Path(base).suffix in (".yaml", ".yml") else base
    return f"{base}{rest}"


def is_known(name: object) -> bool:
    """Whether `name` is that of a problem, or the path of a .yaml file, with or without a day."""
    base = dated(str(name))[0]
    return Path(base).suffix in (".yaml", ".yml") or base in names()


SPAN = re.compile(r"-(\d{1,4})d$")  # behind the day of a problem


def dated(name: str | Path) -> tuple[str, datetime.date | None]:
    """(the problem, the day) that 'flights@2013-05-27' names: the problem as it was known that morning; else None.

    The days behind it ('flights@2013-05-27-90d') are the last ones to train on, see `_span`.
    """
    base, at, day = str(name).rpartition("@")
    try:
        return (base, datetime.date.fromisoformat(SPAN.sub("", day))) if at else (str(name), None)
    except ValueError:
        return str(name), None


def _span(name: str | Path) -> datetime.timedelta | None:
    """How long the rows of the dated problem `name` reach back before its validation; None: to the first one."""
    found = SPAN.search(str(name).rpartition("@")[2])
    return datetime.timedelta(days=int(found[1])) if found else None


def load(name: str | Path) -> Problem:
    """The Problem called `name` (from Resources/problems), or described by the .yaml at that path.

    With a day behind it (flights@2013-05-27) rows from that day on are not known; the last `monitoring: recent` days
    before it are the test's, and as many before them the validation's; of flights@2013-05-27-90d the 90 days before
    these are trained on.

    Raises:
        WorkbookError: one line, 'file.yaml: key: what is wrong'.
    """
    base, day = dated(name)
    problem = _load(base)
    return _as_of(problem, day, _span(name)) if day else problem


def _as_of(problem: Problem, day: datetime.date, span: datetime.timedelta | None) -> Problem:
    """`problem` as it was known in the morning of the `day`; of its training the last `span`, where there is one."""
    if problem.split.kind != "time":
        raise WorkbookError(f"{problem.name}@{day}: only a problem that is split by time has days")
    recent = datetime.timedelta(days=problem.monitoring.recent)
    moved = {"end": day, "cutoff": day - recent, "validation_cutoff": day - 2 * recent}
    if span is not None:
        moved["begin"] = moved["validation_cutoff"] - span
    split = problem.split.model_copy(update=moved | {"test_share": None})
    return problem.model_copy(update={"split": split})


def _load(name: str) -> Problem:
    path = _find(name)
    fields = plain_yaml.read(path)
    if "name" in fields:
        raise WorkbookError(f"{path.name}: name: leave it out: the file's name is the problem's")
    try:
        problem = Problem.model_validate(fields | {"name": path.stem})
    except pydantic.ValidationError as error:
        raise WorkbookError(f"{path.name}: {'; '.join(_sentences(error))}") from None
    return _located(problem, path.resolve().parent)


def require_table(problem: Problem) -> None:
    """Refuse a `problem` whose table is not where its file says."""
    path = problem.source.path
    if path is not None and not path.exists():
        raise WorkbookError(f"{problem.name}: source: {path}: there is no such file or folder")


def _sentences(error: pydantic.ValidationError) -> list[str]:
    """A sentence for each mistake that pydantic's `error` lists; none for a key that is there, but misspelt."""
    mistakes = error.errors(include_url=False)
    unknown = [each for each in mistakes if each["type"] == "extra_forbidden"]
    meant = {(*each["loc"][:-1], _meant(each)) for each in unknown}
    return [_sentence(e) for e in mistakes if e["type"] != "missing" or e["loc"] not in meant]


def _keys(loc: Iterable[str | int]) -> list[str]:
    """The keys that the part of a problem's file at `loc` may have."""
    part: Any = Problem
    for key in loc:
        if hasattr(part, "model_fields"):
            part = part.model_fields[key].annotation  # pylint: disable=unsubscriptable-object
            if type(None) in typing.get_args(part):  # a part that may be left out
                part = typing.get_args(part)[0]
        else:
            part = typing.get_args(part)[1]
    return [key for key in part.model_fields if part is not Problem or key != "name"]


def _meant(error: "ErrorDetails") -> str:
    """The key that was meant by the one that pydantic's `error` does not know; '' where none is near."""
    *part, key = error["loc"]
    return (
        SYNONYMS[str(key)]
        if part == ["source"] and key in SYNONYMS
        else nearest(key, _keys(part), "{}")
    )


def _sentence(error: "ErrorDetails") -> str:
    """'key: what is wrong' of one pydantic `error`."""
    if error["type"] == "extra_forbidden":
        *part, key = error["loc"]
        meant = _meant(error)
        hint = f", did you mean '{meant}'?" if meant else f"; known: {', '.join(_keys(part))}"
        return ": ".join([*[".".join(map(str, part))] * bool(part), f"unknown key '{key}'{hint}"])
    key = ".".join(str(part) for part in error["loc"] if part != "[key]")
    message = error["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    if error["type"] not in ("value_error", "missing"):
        message += f", not {error['input']!r}"
    return f"{key}: {message}" if key else message


def _located(problem: Problem, folder: Path) -> Problem:
    """`problem` with the paths of its tables made absolute, seen from `folder`."""
    changed: dict[str, Any] = {}
    if problem.source.path is not None:
        path = (folder / problem.source.path).resolve()
        changed["source"] = problem.source.model_copy(update={"path": path})
    if labels := problem.monitoring.labels:
        there = labels.model_copy(update={"path": (folder / labels.path).resolve()})
        changed["monitoring"] = problem.monitoring.model_copy(update={"labels": there})
    return problem.model_copy(update=changed)
