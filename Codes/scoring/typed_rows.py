"""The rows of a table held against what a model takes: typed columns, and for each bad row the reasons."""

# pylint: disable=no-member  # pyarrow.compute makes its functions when it is imported

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from Codes.ground.errors import WorkbookError, nearest
from Codes.problems.problem import Problem, Rule
from Codes.saved_models.trust import Loaded
from Codes.scoring.table_parts import CsvTable, ParquetTable, Part
from Codes.tables import cell_values, contract
from Codes.tables.cell_values import Reading, TEXT, TIME

KINDS = {
    "boolean": (pa.bool_(), "true or false"),
    "integer": (pa.int64(), "a whole number"),
    "long": (pa.int64(), "a whole number"),
    "float": (pa.float64(), "a number"),
    "double": (pa.float64(), "a number"),
    "string": (TEXT, "text"),
    "datetime": (TIME, "a time"),
}


class Rules:
    """What a model asks of each column: its type, whether it may be missing, the categories that it knows.

    Args:
        problem: a problem.Problem whose contract each row must keep, too; None: it is not asked.
    """

    def __init__(
        self, loaded: Loaded, allow_unknown: bool = False, problem: Problem | None = None
    ) -> None:
        self.columns = [
            _Column(each, None if allow_unknown else loaded.categories.get(str(each.name)), loaded)
            for each in loaded.schema.inputs
        ]
        rules = contract.rules_for(problem, loaded.kinds) if problem else {}
        for column in self.columns:
            column.rule = rules.get(column.name)

    def check_table(self, table: CsvTable | ParquetTable) -> None:
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

    def check(self, part: Part, table: CsvTable | ParquetTable) -> Part:
        """Give a `part` of `table` the model's columns in their types, its good rows, and why others are not."""
        part.typed = pa.table(
            {column.name: column.typed(part, table.is_text) for column in self.columns}
        )
        part.good = np.setdiff1d(np.arange(part.rows.num_rows), list(part.reasons))
        return part


class _Column:  # pylint: disable=too-many-instance-attributes
    """One column of the schema."""

    def __init__(self, spec: Any, known: Collection[Any] | None, loaded: Loaded) -> None:
        self.name: str = spec.name
        self.required: bool = spec.required
        self.rule: Rule | None = None
        self.reading, self.yes_no = loaded.reading, spec.name in loaded.yes_no
        if spec.type.name not in KINDS:
            raise WorkbookError(
                f"the model's column '{spec.name}' is of type {spec.type.name}: this is not scored."
            )
        self.kind, self.words = KINDS[spec.type.name]
        self.words = KINDS["boolean"][1] if self.yes_no else self.words
        plain = pa.string() if self.kind == TEXT else self.kind
        self.known = None if known is None else pa.array(sorted(known)).cast(plain)

    def may_be(self, given: pa.DataType) -> bool:
        """Whether a Parquet column of type `given` can hold what is asked."""
        given, types = _plain(given), pa.types
        if types.is_null(given):
            return True
        if self.kind == TEXT:
            return types.is_string(given) or types.is_large_string(given)
        if self.kind == TIME or types.is_timestamp(given) or types.is_date(given):
            return self.kind == TIME and (types.is_timestamp(given) or types.is_date(given))
        if self.kind == pa.bool_() or types.is_boolean(given):
            return types.is_boolean(given) and self.kind != pa.int64()
        return types.is_integer(given) or types.is_floating(given) or types.is_decimal(given)

    def typed(self, part: Part, is_text: bool) -> Any:
        """This column of `part` as an array of `kind`, null where there is no such value; `is_text`: not yet typed."""
        given = part.rows[self.name].combine_chunks()
        if is_text:
            typed, wrong = cell_values.convert(given, self.kind, self.reading, self.yes_no)
        else:
            typed, wrong = _converted(given, self.kind, self.reading)
            if self.yes_no:
                typed, there = cell_values.truth(typed), pc.is_valid(typed)
                wrong = pc.or_(wrong, pc.and_(there, pc.is_null(typed)))
        self._note(part, given, wrong, f"is not {self.words}")
        if self.required:
            missing = pc.and_not(pc.is_null(typed, nan_is_null=True), wrong)
            self._note(part, None, missing, "is missing")
        if pa.types.is_floating(self.kind):
            self._note(part, given, pc.is_inf(typed), "is not finite")
        if self.known is not None:
            self._note(part, given, self._unknown(typed), "was not seen in training")
        if self.rule:
            broken = pa.array(contract.breaches(typed.to_pandas(), self.rule))
            asked = contract.asked(self.rule)
            self._note(part, given, broken, f"breaks the contract, which asks for {asked}")
        return typed

    def _unknown(self, typed: Any) -> Any:
        if self.kind != TEXT:
            found = pc.is_in(typed, value_set=self.known, skip_nulls=True)
            return pc.and_not(pc.is_valid(typed), found)
        return pc.take(pc.invert(pc.is_in(typed.dictionary, value_set=self.known)), typed.indices)

    def _note(self, part: Part, given: Any, mask: Any, text: str) -> None:
        """Add the reason `text`, with the value that was `given`, to the rows of `part` under `mask`."""
        if not pc.any(mask).as_py():
            return
        for index in np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False)):
            value = "" if given is None else f" {_shown(given[int(index)].as_py())}"
            part.reasons.setdefault(int(index), []).append(f"{self.name}{value} {text}")


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _converted(values: pa.Array, kind: pa.DataType, reading: Reading) -> tuple[Any, Any]:
    """The array `values` of a typed table as `kind`, and a mask of those that are no such value."""
    plain = values.cast(_plain(values.type))
    if kind == TEXT:
        return cell_values.text(plain.cast(pa.string()), reading), pa.scalar(False)
    if kind == TIME:
        options = pc.CastOptions(target_type=TIME, allow_time_truncate=True)
        return pc.cast(plain, options=options), pa.scalar(False)
    typed, wrong = _numbers(plain, kind)
    return (
        cell_values.without_gaps(typed, reading) if cell_values.is_number(kind) else typed
    ), wrong


def _numbers(values: pa.Array, kind: pa.DataType) -> tuple[Any, Any]:
    """The array `values` as `kind`, a number or a boolean, and a mask of those that are none."""
    if kind != pa.int64() or pa.types.is_integer(values.type):
        typed = cell_values.cast(values, kind)
    else:
        typed = cell_values.whole(cell_values.cast(values, pa.float64()))
    given = pc.invert(pc.is_null(values, nan_is_null=pa.types.is_floating(values.type)))
    return typed, pc.and_(given, pc.is_null(typed))
