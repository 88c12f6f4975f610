"""The rows of a table held against what a model takes: typed columns, and for each bad row the reasons."""

# pylint: disable=no-member  # pyarrow.compute makes its functions when it is imported

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from Codes.errors import WorkbookError, nearest

TEXT = pa.dictionary(pa.int32(), pa.string())
KINDS = {
    "boolean": (pa.bool_(), "true or false"),
    "integer": (pa.int64(), "a whole number"),
    "long": (pa.int64(), "a whole number"),
    "float": (pa.float64(), "a number"),
    "double": (pa.float64(), "a number"),
    "string": (TEXT, "text"),
}
EXACT = 2.0**53  # from here on a double does not know whole numbers apart
MISSING = pa.array(pa_csv.ConvertOptions().null_values)  # as Codes.tables reads CSV


class Rules:
    """What a model asks of each column: its type, whether it may be missing, the categories that it knows."""

    def __init__(self, loaded, allow_unknown=False):
        self.columns = [
            _Column(each, None if allow_unknown else loaded.categories.get(each.name))
            for each in loaded.schema.inputs
        ]

    def check_table(self, table):
        """Refuse a `table` that lacks a column, or has one whose type no value of it could have."""
        for column in self.columns:
            if column.name not in table.schema.names:
                near = nearest(column.name, table.schema.names)
                raise WorkbookError(
                    f"{table.path}: it has no column '{column.name}', which the model needs.{near}"
                )
            given = table.schema.field(column.name).type
            if not (table.is_text or column.may_be(given)):
                raise WorkbookError(
                    f"{table.path}: the column '{column.name}' is of type {given}, the model asks for "
                    f"{column.words}: convert it first."
                )

    def check(self, part, table):
        """Give a `part` of `table` the model's columns in their types, its good rows, and why others are not."""
        part.typed = pa.table({column.name: column.typed(part, table) for column in self.columns})
        part.good = np.setdiff1d(np.arange(part.rows.num_rows), list(part.reasons))
        return part


class _Column:
    """One column of the schema."""

    def __init__(self, spec, known):
        self.name, self.required = spec.name, spec.required
        if spec.type.name not in KINDS:
            raise WorkbookError(
                f"the model's column '{spec.name}' is of type {spec.type.name}: this is not scored."
            )
        self.kind, self.words = KINDS[spec.type.name]
        plain = pa.string() if self.kind == TEXT else self.kind
        self.known = None if known is None else pa.array(sorted(known)).cast(plain)

    def may_be(self, given):
        """Whether a Parquet column of type `given` can hold what is asked."""
        given, types = _plain(given), pa.types
        if types.is_null(given):
            return True
        if self.kind == TEXT:
            return types.is_string(given) or types.is_large_string(given)
        if self.kind == pa.bool_() or types.is_boolean(given):
            return types.is_boolean(given) and self.kind != pa.int64()
        return types.is_integer(given) or types.is_floating(given) or types.is_decimal(given)

    def typed(self, part, table):
        """This column of `part` as an array of `kind`, null where there is no such value."""
        given = part.rows[self.name].combine_chunks()
        # a column of true, false and gaps is learned as 1, 0 and NaN
        yes_no = self.name in table.yes_no and pa.types.is_floating(self.kind)
        kind = pa.bool_() if yes_no else self.kind
        typed, wrong = (_parsed if table.is_text else _converted)(given, kind)
        typed = typed.cast(self.kind)
        self._note(part, given, wrong, f"is not {self.words}")
        if self.required:
            missing = pc.and_not(pc.is_null(typed, nan_is_null=True), wrong)
            self._note(part, None, missing, "is missing")
        if pa.types.is_floating(self.kind):
            self._note(part, given, pc.is_inf(typed), "is not finite")
        if self.known is not None:
            self._note(part, given, self._unknown(typed), "was not seen in training")
        return typed

    def _unknown(self, typed):
        if self.kind != TEXT:
            found = pc.is_in(typed, value_set=self.known, skip_nulls=True)
            return pc.and_not(pc.is_valid(typed), found)
        return pc.take(pc.invert(pc.is_in(typed.dictionary, value_set=self.known)), typed.indices)

    def _note(self, part, given, mask, text):
        """Add the reason `text`, with the value that was `given`, to the rows of `part` under `mask`."""
        if not pc.any(mask).as_py():
            return
        for index in np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False)):
            value = "" if given is None else f" {_shown(given[int(index)].as_py())}"
            part.reasons.setdefault(int(index), []).append(f"{self.name}{value} {text}")


def _shown(value):
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"


def _plain(kind):
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _converted(values, kind):
    """The array `values` of a typed table as `kind`, and a mask of those that are no such value."""
    if kind == TEXT:
        text = values.cast(_plain(values.type)).cast(pa.string())
        return text.dictionary_encode(), pa.scalar(False)
    return _numbers(values.cast(_plain(values.type)), kind)


def _parsed(values, kind):
    """The array of text `values` as `kind`, and a mask of those that are no such value; each is looked at once."""
    encoded = values.dictionary_encode()
    words = pc.utf8_trim_whitespace(encoded.dictionary)
    words = pc.if_else(pc.is_in(words, value_set=MISSING), None, words)
    if kind == TEXT:
        kept = pc.if_else(pc.is_null(words), None, encoded.dictionary)
        return pc.take(kept, encoded.indices).dictionary_encode(), pa.scalar(False)
    typed, wrong = _numbers(words, kind)
    return pc.take(typed, encoded.indices), pc.fill_null(pc.take(wrong, encoded.indices), False)


def _numbers(values, kind):
    """The array `values` as `kind`, a number or a boolean, and a mask of those that are none."""
    if kind != pa.int64() or pa.types.is_integer(values.type):
        typed = _cast(values, kind)
    elif pa.types.is_string(values.type):
        typed = _cast(values, kind)
        if typed.null_count > values.null_count:  # 3.0, as a table with gaps once wrote it
            typed = pc.coalesce(typed, _whole(_cast(values, pa.float64())))
    else:
        typed = _whole(_cast(values, pa.float64()))
    given = pc.invert(pc.is_null(values, nan_is_null=pa.types.is_floating(values.type)))
    return typed, pc.and_(given, pc.is_null(typed))


def _whole(values):
    """The doubles `values` as int64, null where one is not whole."""
    whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), EXACT))
    return pc.if_else(whole, values, None).cast(pa.int64())


def _cast(values, kind):
    """The array `values` as `kind`, null where one has no such value."""
    try:
        return values.cast(kind)
    except pa.ArrowInvalid:
        if len(values) == 1:
            return pa.nulls(1, kind)
    half = len(values) // 2
    return pa.concat_arrays([_cast(values[:half], kind), _cast(values[half:], kind)])
