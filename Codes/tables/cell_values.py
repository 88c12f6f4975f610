"""The cells of a table: what text means, read alike in training, in a table to score and in a request.

A blank cell, and what `na_values` names, is a gap in every column. The usual words for one (NA, null, nan …) are gaps
in columns of numbers, truth values and times, where they can mean nothing else; in a column of text they are text.
"""

# pylint: disable=no-member  # pyarrow.compute makes its functions when it is imported

import contextlib
import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

TEXT = pa.dictionary(pa.int32(), pa.string())
TIME = pa.timestamp("us")
GAP_WORDS = pa.array(sorted({*pa_csv.ConvertOptions().null_values, "<NA>", "NaT", "None"}))
FEW = 100
Column = pa.Array | pa.ChunkedArray
EXACT = 2.0**53  # from here on a double does not know whole numbers apart
_WHOLE = r"^[+-]?[0-9]+$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?(?i:inf|infinity|nan)$"
_ISO = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"


def in_utc(times: pd.Series) -> pd.Series:
    """`times` in UTC; one without a zone is in UTC."""
    return times.dt.tz_convert("UTC") if times.dt.tz is not None else times.dt.tz_localize("UTC")


@dataclass(frozen=True)
class Reading:  # pylint: disable=too-many-instance-attributes
    """How a table's text is read, by pandas' names of the options."""

    sep: str = ","
    decimal: str = "."
    thousands: str | None = None
    encoding: str = "utf-8"
    quotechar: str = '"'
    skiprows: int = 0
    date_format: str | None = None
    na_values: tuple[str, ...] = ()
    sheet_name: str | int = 0

    def changed(self) -> dict[str, Any]:
        """{option: value} of those that are not the default: what is kept with a model."""
        return {
            each.name: list(value) if isinstance(value, tuple) else value
            for each in dataclasses.fields(self)
            if (value := getattr(self, each.name)) != each.default
        }

    @classmethod
    def names(cls) -> list[str]:
        """The options there are."""
        return [each.name for each in dataclasses.fields(cls)]

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """The Reading with these `options`, as `changed` gives them."""
        lists: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in options.items()
        }
        return cls(**lists)

    def is_gap(self, cell: str) -> bool:
        """Whether the text `cell` is a gap whatever its column."""
        return not cell.strip() or cell.strip() in self.na_values

    def numbers(self) -> list[float]:
        """Those of `na_values` that are numbers, as floats."""
        numbers = []
        for word in self.na_values:
            with contextlib.suppress(ValueError):
                numbers.append(float(word))
        return numbers


PLAIN = Reading()


def is_number(kind: pa.DataType) -> bool:
    """Whether Arrow's type `kind` is one of numbers."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def typed(values: Column, reading: Reading = PLAIN) -> pa.Array:
    """The Arrow array of text `values` in the type that all of them have; text becomes a category."""
    encoded = _encoded(values)
    words = _words(encoded.dictionary, reading)
    for kind in (pa.int64(), pa.bool_(), pa.float64(), TIME):
        if pc.any(_parsed(words[:FEW], kind, reading)[1]).as_py():  # most columns of text end here
            continue
        parsed, wrong = _parsed(words, kind, reading)
        if not pc.any(wrong).as_py():
            kind = pa.float64() if parsed.null_count == len(parsed) else kind
            return pc.take(parsed.cast(kind), encoded.indices)
    return text(encoded, reading)


def convert(
    values: Column, kind: pa.DataType, reading: Reading = PLAIN, yes_no: bool = False
) -> tuple[pa.Array, pa.Array | pa.Scalar]:
    """The array of text `values` as `kind`, and a mask of those that are no such value.

    Args:
        yes_no: true and false are the numbers 1 and 0, as a column of them with gaps is learned; no other number is.
    """
    encoded = _encoded(values)
    if kind == TEXT:
        return text(encoded, reading), pa.scalar(False)
    words = _words(encoded.dictionary, reading)
    converted, wrong = _parsed(words, kind, reading)
    if kind == pa.int64() and pc.any(wrong).as_py():  # 3.0, as a table with gaps once wrote it
        converted = pc.coalesce(converted, whole(_numbers(words, pa.float64(), reading)))
        wrong = pc.and_(wrong, pc.is_null(converted))
    if yes_no:
        flags = _parsed(words, pa.bool_(), reading)[0].cast(pa.int64()).cast(kind)
        converted = truth(pc.coalesce(converted, flags))
        wrong = pc.and_(pc.is_valid(words), pc.is_null(converted))
    return pc.take(converted, encoded.indices), pc.fill_null(pc.take(wrong, encoded.indices), False)


def text(values: Column, reading: Reading = PLAIN) -> pa.DictionaryArray:
    """The array of text `values` as categories, a gap as null."""
    encoded = _encoded(values)
    categories = _without_gaps(encoded.dictionary, reading)
    if categories.null_count == encoded.dictionary.null_count:
        return encoded
    return pc.take(categories, encoded.indices).dictionary_encode()


def _encoded(values: Column) -> pa.DictionaryArray:
    """The array or chunked array of text `values` with each distinct text once, as a DictionaryArray."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
        if isinstance(values, pa.ChunkedArray):  # of no chunks, or more than fit into one
            values = pa.concat_arrays([chunk.cast(pa.string()) for chunk in values.chunks])
    if pa.types.is_dictionary(values.type):
        return values.cast(TEXT)
    return values.cast(pa.string()).dictionary_encode()


def _without_gaps(words: pa.Array, reading: Reading) -> pa.Array:
    """The distinct texts `words`, those that are gaps in every column as null."""
    trimmed = pc.utf8_trim_whitespace(words)
    gaps = pa.array(["", *reading.na_values])
    return pc.if_else(pc.is_in(trimmed, value_set=gaps), None, words)


def _words(words: pa.Array, reading: Reading) -> pa.Array:
    """The distinct texts `words`, trimmed, every gap of a column that is no text as null."""
    trimmed = pc.utf8_trim_whitespace(_without_gaps(words, reading))
    words = pc.if_else(pc.is_in(trimmed, value_set=GAP_WORDS), None, trimmed)
    if not reading.numbers():
        return words
    without = without_gaps(_numbers(words, pa.float64(), reading), reading)
    numeric = pc.is_valid(_numbers(words, pa.float64(), reading))
    return pc.if_else(pc.and_(numeric, pc.is_null(without)), None, words)


def _parsed(words: pa.Array, kind: pa.DataType, reading: Reading) -> tuple[pa.Array, pa.Array]:
    """The trimmed `words` as `kind`, and a mask of those that are no such value."""
    if kind == pa.bool_():
        lower = pc.utf8_lower(words)
        is_flag = pc.is_in(lower, value_set=pa.array(["true", "false"]))
        parsed = pc.if_else(is_flag, pc.equal(lower, "true"), None)
    elif kind == TIME:
        parsed = _times(words, reading)
    else:
        parsed = _numbers(words, kind, reading)
    return parsed, pc.and_(pc.is_valid(words), pc.is_null(parsed))


def _numbers(words: pa.Array, kind: pa.DataType, reading: Reading) -> pa.Array:
    """The trimmed `words` as whole numbers or doubles, null where one is no such number."""
    plain = pc.replace_substring_regex(words, r"^\+([0-9.])", r"\1")
    if reading.thousands:
        mark, point = re.escape(reading.thousands), re.escape(reading.decimal)
        grouped = rf"^-?[0-9]{{1,3}}({mark}[0-9]{{3}})+({point}[0-9]*)?$"
        bare = pc.replace_substring(plain, reading.thousands, "")
        plain = pc.if_else(pc.match_substring_regex(plain, grouped), bare, plain)
    if reading.decimal != ".":
        plain = pc.if_else(pc.match_substring(plain, "."), None, plain)
        plain = pc.replace_substring(plain, reading.decimal, ".")
    form = _NUMBER if kind == pa.float64() else _WHOLE
    return cast(_like(plain, form), kind)


def _like(words: pa.Array, form: str) -> pa.Array:
    """The texts `words`, null where one is not of the `form`, a regular expression: a cast is quick where it fits."""
    return pc.if_else(pc.match_substring_regex(words, form), words, None)


def _times(words: pa.Array, reading: Reading) -> pa.Array:
    """The trimmed `words` as time stamps: as ISO 8601, in UTC where they have a zone, or by the `date_format`."""
    iso = _like(words, _ISO)
    times = cast(iso, TIME)
    if times.null_count > iso.null_count:
        times = pc.coalesce(times, cast(iso, pa.timestamp("us", "UTC")).cast(TIME))
    if reading.date_format:
        own = pc.strptime(words, format=reading.date_format, unit="us", error_is_null=True)
        times = pc.coalesce(own.cast(TIME), times)
    return times


def without_gaps(values: Column, reading: Reading) -> Column:
    """The Arrow numbers `values` with those that `na_values` names as null."""
    gaps = reading.numbers()
    if not gaps:
        return values
    gap = pc.is_in(values.cast(pa.float64(), safe=False), value_set=pa.array(gaps))
    return pc.if_else(gap, None, values)


def truth(values: Column) -> Column:
    """The numbers `values`, null where one is neither 1 nor 0."""
    return pc.if_else(pc.is_in(values, value_set=pa.array([0, 1], values.type)), values, None)


def whole(values: Column) -> Column:
    """The doubles `values` as int64, null where one is not whole."""
    is_whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), EXACT))
    return pc.if_else(is_whole, values, None).cast(pa.int64())


def cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The array `values` as `kind`, null where one has no such value."""
    try:
        return values.cast(kind)
    except pa.ArrowInvalid:
        if len(values) == 1:
            return pa.nulls(1, kind)
    half = len(values) // 2
    return pa.concat_arrays([cast(values[:half], kind), cast(values[half:], kind)])
