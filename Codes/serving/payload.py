"""A request's body: read strictly against the model's columns, and refused in one sentence that says what is wrong."""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa

from Codes.ground.errors import WorkbookError, nearest
from Codes.problems.problem import Rule
from Codes.saved_models.trust import Loaded
from Codes.tables import cell_values, contract

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")  # MLflow's
SHAPE = "the body is an object with exactly one of dataframe_split, dataframe_records, instances, inputs"
# MLflow's type -> (what a value of it is in Python, its smallest and largest, NumPy's type, in words)
TYPES = {
    "boolean": ({bool}, None, bool, "true or false"),
    "integer": ({int}, (-(2**31), 2**31 - 1), np.int32, "a whole number"),
    "long": ({int}, (-(2**63), 2**63 - 1), np.int64, "a whole number"),
    "float": ({float, int}, (-3.4028234e38, 3.4028234e38), np.float32, "a number"),
    "double": ({float, int}, None, np.float64, "a number"),
    "string": ({str}, None, object, "text"),
    "datetime": ({str}, None, "datetime64[us]", "a time such as 2013-10-01T05:00"),
}
# MLflow's type -> Arrow's, which the cells of a CSV body are read as
ARROW = {
    **dict.fromkeys(("integer", "long"), pa.int64()),
    **dict.fromkeys(("float", "double"), pa.float64()),
    **{"boolean": pa.bool_(), "datetime": cell_values.TIME},
}
CODES = {  # MLflow's names where it has one
    400: "BAD_REQUEST",
    403: "PERMISSION_DENIED",
    404: "ENDPOINT_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    413: "REQUEST_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
INFINITE = re.compile(rb"[\[:,\s]-?Infinity\b")
# a text that does not end goes to the end: each byte is looked at once
TEXT_OR_NAN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|\bNaN\b', re.DOTALL)


class Refused(Exception):
    """An answer that is not a prediction: its HTTP `status` and one sentence."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.status = message, status


def shown(value: Any) -> str:
    """`value` as it may stand in a message: short, in one line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class Column:
    """One input column: its MLflow type, whether it must have a value, and the values it may have.

    Args:
        reading: how text is read, as in training.
        yes_no: true and false are 1 and 0, and no other number is there: in training they were there with gaps.
    """

    name: str
    kind: str
    required: bool
    known: frozenset | None = None
    reading: cell_values.Reading = cell_values.PLAIN
    yes_no: bool = False

    @cached_property
    def _plain(self) -> set[type]:
        return TYPES[self.kind][0] | (set() if self.required else {type(None)})

    def checked(self, values: list[Any]) -> list[Any]:
        """The list `values` as the column takes them, or Refused with the first that it does not take."""
        values = self._without_gaps(values)
        if not self._plain.issuperset(map(type, values)):
            values = [self._mended(row, value) for row, value in enumerate(values)]
        limits = TYPES[self.kind][1]
        if self.yes_no:
            strange = [row for row, v in enumerate(values) if v not in (0, 1, None)]
            if strange:
                self._refuse_kind(strange[0], values[strange[0]])
        elif limits:
            there = [v for v in values if v is not None]
            if there and not limits[0] <= min(there) <= max(there) <= limits[1]:
                outside = next(v for v in there if not limits[0] <= v <= limits[1])
                self._refuse(values.index(outside), outside, f"is out of the range of {self.kind}.")
        if self.known is not None and not self.known.issuperset(values):
            self._check_known(values)
        return values

    def _without_gaps(self, values: list[Any]) -> list[Any]:
        """`values`, where text or a number that stands for a gap is None; times in UTC, as ISO 8601."""
        if self.kind in ("string", "datetime"):
            values = [None if isinstance(v, str) and self.reading.is_gap(v) else v for v in values]
        elif gaps := self.reading.numbers():
            values = [None if type(v) in (int, float) and v in gaps else v for v in values]
        if self.kind == "datetime":
            values = [
                self._time(row, v) if isinstance(v, str) else v for row, v in enumerate(values)
            ]
        return values

    def _time(self, row: int, value: Any) -> str:
        """The text `value` of a time as ISO 8601 in UTC, without its zone."""
        found, wrong = cell_values.convert(pa.array([value]), cell_values.TIME, self.reading)
        if wrong[0].as_py() or not found[0].is_valid:
            self._refuse_kind(row, value)
        return found[0].as_py().isoformat()

    def _mended(self, row: int, value: Any) -> Any:
        """JSON knows one kind of number: 3.0 is a whole one."""
        if type(value) in self._plain:
            return value
        whole = TYPES[self.kind][0] == {int} and isinstance(value, float) and value.is_integer()
        if whole and abs(value) <= 2**53:  # beyond, a float may be another number than was written
            return int(value)
        if whole:
            self._refuse(row, value, f"is out of the range of {self.kind}.")
        if self.yes_no and isinstance(value, bool):
            return float(value)
        if value is None:
            self._refuse(row, value, "is not allowed: it must have a value.")
        return self._refuse_kind(row, value)

    def _check_known(self, values: list[Any]) -> None:
        known = self.known or frozenset()
        for row, value in enumerate(values):
            if value is not None and value not in known:
                near = nearest(value, sorted(known))
                self._refuse(row, value, f"was never seen in training.{near}")

    def _refuse_kind(self, row: int, value: Any) -> NoReturn:
        if self.yes_no:
            self._refuse(row, value, "is not true or false (or 1 or 0).")
        self._refuse(row, value, f"is not {TYPES[self.kind][3]} ({self.kind}).")

    def _refuse(self, row: int, value: Any, why: str) -> NoReturn:
        # not what is in a list: it may be nested more deeply than can be shown
        given = _kind(value) if isinstance(value, (dict, list)) else shown(value)
        raise Refused(f"row {row}, column '{self.name}': {given} {why}")

    def array(self, values: list[Any]) -> np.ndarray | pd.Series:
        """`values` as a fitted pipeline takes them: text as text, no None."""
        kind = TYPES[self.kind][2]
        if None in values:
            gap = "NaT" if self.kind == "datetime" else np.nan
            if self.kind not in ("string", "boolean", "datetime"):
                kind = np.float64
            elif self.kind == "boolean":
                kind = object
            values = [gap if v is None else v for v in values]
        return pd.Series(values, dtype=object) if kind is object else np.array(values, dtype=kind)

    def parsed(self, cells: Sequence[str]) -> list[Any]:
        """The values that the `cells` of a CSV file hold, for `checked`."""
        if self.kind == "string":
            return list(cells)
        given = pa.array(cells, pa.string())
        found, wrong = cell_values.convert(given, ARROW[self.kind], self.reading, self.yes_no)
        wrong = wrong.to_numpy(zero_copy_only=False)
        if self.kind in ("float", "double"):
            wrong = wrong | found.is_valid().to_numpy(zero_copy_only=False) & ~np.isfinite(
                found.to_numpy(zero_copy_only=False)
            )
        if wrong.any():
            row = int(wrong.argmax())
            self._refuse_kind(row, cells[row])
        if self.kind == "datetime":
            return [None if v is None else v.isoformat() for v in found.to_pylist()]
        return found.to_pylist()

    def made_up(self) -> Any:
        """A value that it takes, and that is nobody's."""
        values = {"string": "text", "boolean": False, "datetime": "2000-01-01T00:00:00"}
        return min(self.known) if self.known else values.get(self.kind, 0)

    def described(self) -> dict[str, Any]:
        """The JSON Schema of one value."""
        kind = {"float": "number", "double": "number", "long": "integer"}.get(self.kind, self.kind)
        found: dict[str, Any] = {"type": kind if self.required else [kind, "null"]}
        if limits := TYPES[self.kind][1]:
            found |= dict(zip(("minimum", "maximum"), limits))
        if self.yes_no:
            found = {"enum": [False, True, 0, 1] + ([] if self.required else [None])}
        if self.kind == "datetime":
            found |= {
                "type": "string" if self.required else ["string", "null"],
                "format": "date-time",
            }
        if self.known is not None:
            found["enum"] = sorted(self.known) + ([] if self.required else [None])
        return found


class Reader:
    """Reads bodies for one model: `json` and `csv` give {column: list of values} in the model's order.

    Args:
        loaded: a trust.Loaded; its schema and categories say what is allowed.
        rows: how many rows a request may have.
        allow_unknown: whether a category may be one that training never saw.
        beside: columns that come along where a request has them, though the model takes none of them: plain values.
    """

    def __init__(
        self,
        loaded: Loaded,
        rows: int = 10_000,
        allow_unknown: bool = False,
        beside: Sequence[str] = (),
    ) -> None:
        self.beside = [name for name in beside if name in loaded.unused]
        self.rows, self.reading, self.unused = rows, loaded.reading, frozenset(loaded.unused)
        categories = {} if allow_unknown else loaded.categories
        self.columns = {}
        specs: Iterable[Any] = loaded.schema
        for spec in specs:
            kind = getattr(spec.type, "name", str(spec.type))
            if kind not in TYPES:
                raise WorkbookError(
                    f"column '{spec.name}' is of the type {kind}; served are {', '.join(TYPES)}."
                )
            known = categories.get(spec.name)
            known = (
                None
                if known is None
                else frozenset(getattr(v, "item", lambda v=v: v)() for v in known)
            )
            self.columns[spec.name] = Column(
                spec.name,
                kind,
                bool(spec.required),
                known,
                loaded.reading,
                spec.name in loaded.yes_no,
            )

    def json(self, body: bytes) -> dict[str, list[Any]]:
        """The columns in a JSON `body` of one of MLflow's FORMS."""
        document = parse(body)
        if not isinstance(document, dict):
            raise Refused(f"{SHAPE}, not {_kind(document)}.")
        if len(document) != 1 or not document.keys() <= set(FORMS):
            check_unique(body)
            strangers = [key for key in document if key not in FORMS]
            hint = nearest(strangers[0], FORMS) if strangers else ""
            raise Refused(f"{SHAPE}; it has {shown(list(document))}.{hint}")
        ((form, data),) = document.items()
        read = self._split if form == "dataframe_split" else self._records
        if form in ("instances", "inputs") and isinstance(data, dict):
            read = self._by_column
        columns, keys = read(form, data)
        # a colon outside of text follows a key: as many as keys that were kept, and no key was there twice
        if body.count(b":") != 1 + keys:
            check_unique(body)
        return self._checked(columns)

    def _split(self, form: str, data: Any) -> tuple[dict[str, list[Any]], int]:
        if not isinstance(data, dict) or not {"columns", "data"} <= data.keys() <= {
            "columns",
            "data",
            "index",
        }:
            raise Refused(f"{form} is an object with 'columns', 'data' and at most 'index'.")
        names, rows = data["columns"], data["data"]
        self._check_names(names, form)
        self._check_rows(rows, form)
        if "index" in data and (
            not isinstance(data["index"], list) or len(data["index"]) != len(rows)
        ):
            raise Refused(f"{form}: 'index' is a list with an entry for each row, or left out.")
        for number, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != len(names):
                given = f"{len(row)} values" if isinstance(row, list) else _kind(row)
                raise Refused(f"row {number} is {given}; it must be a list of {len(names)} values.")
        return dict(zip(names, map(list, zip(*rows)))), len(data)

    def _records(self, form: str, data: Any) -> tuple[dict[str, list[Any]], int]:
        self._check_rows(data, form)
        for number, row in enumerate(data):
            if not isinstance(row, dict):
                raise Refused(
                    f"row {number} is {_kind(row)}; it must be an object with the columns as keys."
                )
            if row.keys() != self.columns.keys():
                self._check_names(list(row), f"row {number}")
        columns = {name: [row[name] for row in data] for name in self.columns}
        columns |= {name: [row.get(name) for row in data] for name in self.beside}
        return columns, sum(map(len, data))

    def _by_column(self, form: str, data: Any) -> tuple[dict[str, list[Any]], int]:
        self._check_names(list(data), form)
        for name, values in data.items():
            if not isinstance(values, list):
                raise Refused(f"column '{name}' is {_kind(values)}; it must be a list of values.")
        lengths = {name: len(values) for name, values in data.items()}
        if len(set(lengths.values())) > 1:
            raise Refused(f"the columns have different numbers of values: {shown(lengths)}.")
        self._check_rows(next(iter(data.values())), form)
        return data, len(data)

    def csv(self, body: bytes) -> dict[str, list[Any]]:
        """The columns in a CSV `body` with a header; an empty cell is a missing value."""
        try:
            text = body.decode("utf-8-sig")
            marks = {"delimiter": self.reading.sep, "quotechar": self.reading.quotechar}
            rows = csv.reader(io.StringIO(text, newline=""), strict=True, **marks)
            names, *rows = filter(None, rows)
        except UnicodeDecodeError as error:
            raise Refused(f"the body is not UTF-8: byte {error.start}.") from None
        except csv.Error as error:
            raise Refused(f"the body is not CSV: {error}.") from None
        except ValueError:
            raise Refused("the body is empty; CSV begins with a line of column names.") from None
        if names[0] == "":
            raise Refused("the first column has no name: write the CSV without its index.")
        self._check_names(names, "the header")
        self._check_rows(rows, "the CSV")
        for number, row in enumerate(rows):
            if len(row) != len(names):
                raise Refused(f"row {number} has {len(row)} cells and the header {len(names)}.")
        columns = {}
        for name, cells in zip(names, zip(*rows)):
            if name in self.columns:
                columns[name] = self.columns[name].parsed(cells)
            elif name in self.beside:
                columns[name] = [cell or None for cell in cells]
        return self._checked(columns)

    def _checked(self, columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        checked = {name: column.checked(columns[name]) for name, column in self.columns.items()}
        for name in self.beside:
            if name in columns:
                checked[name] = [
                    v if isinstance(v, (str, int, float)) else None for v in columns[name]
                ]
        return checked

    def _check_rows(self, rows: Any, place: str) -> None:
        if not isinstance(rows, list):
            raise Refused(f"{place}: the rows must be a list, not {_kind(rows)}.")
        if not rows:
            raise Refused(f"{place} has no rows; at least one is needed.")
        if len(rows) > self.rows:
            raise Refused(
                f"{place} has {len(rows):,} rows; {self.rows:,} are allowed at once.", 413
            )

    def _check_names(self, names: Any, place: str) -> None:
        """Refuse `names` that are not the model's columns, in whatever order; those `unused` may be there, too."""
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Refused(f"{place}: the columns must be a list of names.")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise Refused(f"{place}: column {shown(twice)} is there twice.")
        for name in names:
            if name not in self.columns and name not in self.unused:
                near = nearest(name, self.columns)
                raise Refused(f"{place}: column {shown(name)} is not one of the model's.{near}")
        if lacking := self.columns.keys() - set(names):
            missing = next(name for name in self.columns if name in lacking)
            null = "" if self.columns[missing].required else "; where it has no value, send null"
            raise Refused(f"{place}: column '{missing}' is missing{null}.")

    def check_contract(
        self, columns: Mapping[str, list[Any]], rules: Mapping[str, Rule], called: str
    ) -> None:
        """Refuse `columns`, as `json` gave them, that break one of the `rules` ({column: rule}) of a problem."""
        for name, rule in rules.items():
            values = columns[name]
            broken = contract.breaches(pd.Series(self.columns[name].array(values)), rule)
            if broken.any():
                row = int(broken.argmax())
                told = f"row {row}, column '{name}': {shown(values[row])}"
                raise Refused(
                    f"{told} breaks the contract of {called}, which asks for {contract.asked(rule)}."
                )

    def frame(self, columns: Mapping[str, list[Any]]) -> pd.DataFrame:
        """`columns`, as `json` gave them, as the DataFrame that the pipeline takes."""
        return pd.DataFrame({n: c.array(columns[n]) for n, c in self.columns.items()}, copy=False)

    def described(self) -> dict[str, Any]:
        """The JSON Schema of a body, form by form."""
        values = {name: column.described() for name, column in self.columns.items()}
        rows = {"type": "array", "minItems": 1}  # for more than `self.rows` the answer is 413
        cells = {"type": "array", "prefixItems": list(values.values())}
        cells |= {"items": False, "minItems": len(values), "maxItems": len(values)}
        record = exact(values)
        record["properties"] = dict.fromkeys(self.unused, {}) | values
        records = rows | {"items": record}
        split = exact({"columns": {"const": list(values)}, "data": rows | {"items": cells}})
        forms = dict.fromkeys(FORMS, records) | {"dataframe_split": split}
        return {"oneOf": [exact({name: form}) for name, form in forms.items()]}


def exact(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of an object with exactly these `properties`."""
    only = {"required": list(properties), "additionalProperties": False}
    return {"type": "object", "properties": properties, **only}


def parse(body: bytes) -> Any:
    """The document in the JSON `body`, read strictly but for NaN, which is null; Refused says what is wrong with it."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if b"NaN" in body and (mended := _without_nan(body)) != body:
            return parse(mended)
        raise Refused(_why(body, str(error))) from None


def _without_nan(body: bytes) -> bytes:
    """`body` with null for each NaN outside of text: Python's json, and so MLflow's client, writes a gap so."""
    return TEXT_OR_NAN.sub(_null_or_text, body)


def _null_or_text(found: re.Match[bytes]) -> bytes:
    return b"null" if found[0] == b"NaN" else found[0]


def _why(body: bytes, error: str) -> str:
    if not body.strip():
        return f"the body is empty; {SHAPE}."
    if "UTF-8" in error or "BOM" in error:
        return "the body is not plain UTF-8 (or begins with a byte order mark)."
    if "depth" in error:
        return "the body is nested too deeply."
    if "infinity" in error:
        return "the body has a number that is too large (1e400): a double ends at 1.8e308."
    if INFINITE.search(body):
        return "Infinity is no number that a model takes: where there is no value, send null."
    return f"the body is not JSON: {error}."


def check_unique(body: bytes) -> None:
    """Refuse a JSON `body`, known to be well-formed, in which an object has a key twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise Refused(f"the key {shown(twice)} is there twice.")
        return dict(pairs)

    try:
        json.loads(body, object_pairs_hook=unique, parse_int=str, parse_float=str)
    except RecursionError:
        raise Refused("the body is nested too deeply.") from None


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return shown(value)
    return {dict: "an object", list: "a list", str: "text"}.get(type(value), "a number")
