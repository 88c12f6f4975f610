"""What is wrong, or odd, with a problem's table: each column looked at before anything is trained."""

# pylint: disable=no-member  # pyarrow.compute makes its functions when it is imported

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from Codes.ground.errors import WorkbookError, counted
from Codes.tables import cell_values, reader

if TYPE_CHECKING:  # for annotations alone: problems import tables
    from Codes.problems.problem import Problem


DATE_FORMATS = [
    f"{date}{clock}"
    for date in (
        *("%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d.%m.%Y", "%Y.%m.%d", "%d-%m-%Y", "%m-%d-%Y"),
        *("%d %b %Y", "%d-%b-%Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%m/%d/%y", "%d/%m/%y"),
    )
    for clock in ("", " %H:%M", " %H:%M:%S", " %I:%M %p")
]
GAP_WORDS = {
    *(word.lower() for word in cell_values.GAP_WORDS.to_pylist()),
    "?",
    "-",
    "--",
    ".",
    "missing",
}
GAP_WORDS |= {"unknown", "none", "nil", "n.a.", "k.a.", "-999", "#ref!", "#value!"}
# (decimal, thousands): how numbers are written
MARKS = [(",", None), (".", ","), (",", "."), (".", " "), (".", "'"), (",", " ")]
MOST = 5  # values that are shown
LARGEST = 3.4e38  # what fits into a float32, which many estimators compute in
MANY_CLASSES = 50
DISTINCT = (
    0.5  # of the rows with a value: a text with more distinct values says little about the next row
)


@dataclass(frozen=True)
class Trouble:
    """One trouble of a `column`: `what` is so of it (a verb first), in how many `rows`, what to `do`.

    Where it is `refused`, nothing can be trained.
    """

    column: str
    what: str
    do: str
    rows: int | None = None
    refused: bool = False

    def line(self) -> str:
        """The trouble in one line."""
        return f"{self.column} {self.what}; {self.do}"


def require(table: pa.Table, problem: "Problem") -> None:
    """Raise a WorkbookError that tells every trouble for which `table` (see `of`) is refused."""
    lines = [each.line() for each in of(table, problem, odd=False) if each.refused]
    if lines:
        more = f"; and {len(lines) - MOST} more" if len(lines) > MOST else ""
        raise WorkbookError(f"{problem.name}: {'; '.join(lines[:MOST])}{more}")


def of(table: pa.Table, problem: "Problem", odd: bool = True) -> list[Trouble]:
    """The Troubles of the Arrow `table`, of all rows that have a target, those that refuse it first.

    Args:
        odd: whether what is only odd is looked for, too.
    """
    hidden = {problem.target, problem.time, *problem.exclude}
    features = [name for name in table.column_names if name not in hidden]
    troubles = [*_target(table[problem.target], problem)]
    if problem.time in table.column_names:
        troubles += _time(table[problem.time], problem)
    if not any(table[name].null_count < len(table) for name in features):
        left = (
            "every column is the target, the time or excluded"
            if not features
            else "no value in any feature"
        )
        troubles.append(
            Trouble(
                "the table", f"leaves nothing to learn from: {left}", "exclude less", refused=True
            )
        )
    if odd:
        left_out = [name for name in reader.left_out(table) if name not in problem.exclude]
        for name in left_out:
            what = "is the index of a data frame, or empty"
            troubles.append(Trouble(f"column '{name or reader.UNNAMED}'", what, "it is left out"))
        group = problem.split.group
        if group in features and not cell_values.is_number(table[group].type):
            what = "tells the groups apart and is a feature: training has seen no group of those to validate or to test"
            do = f"exclude it, else a request of a new one is refused: exclude: {{{group}: tells the groups apart}}"
            troubles.append(Trouble(f"column '{group}'", what, do))
    for name in features:
        troubles += _feature(name, table[name], problem, odd)
    return sorted(troubles, key=lambda each: not each.refused)


def _target(values: pa.ChunkedArray, problem: "Problem") -> Iterator[Trouble]:
    """The troubles of the target's `values`."""
    name = f"target '{problem.target}'"
    distinct = _distinct(values)
    if len(distinct) < 2:
        rows = (
            f"is always {distinct[0]} in {len(values)} rows"
            if len(distinct)
            else "has no value in any row"
        )
        yield Trouble(name, rows, "two values are needed to learn from", len(values), True)
        return
    number = cell_values.is_number(values.type)
    if problem.task == "regression":
        finite = number and pc.all(pc.is_finite(values)).as_py()
        if not finite:
            hint = "" if number else _number_hint(_texts(values), problem)
            yield Trouble(
                name,
                f"does not hold finite numbers, which regression needs, but {_some(distinct)}",
                hint or "mend the table",
                refused=True,
            )
        return
    yield from _classes(name, values, distinct, problem)


def _classes(
    name: str, values: pa.ChunkedArray, distinct: Sequence[Any], problem: "Problem"
) -> Iterator[Trouble]:
    """The troubles of a target of classes."""
    if problem.positive is not None and problem.positive not in distinct:
        yield Trouble(
            f"positive: {problem.positive!r}",
            f"is not in the target: {_some(distinct)}",
            "name one of them",
            refused=True,
        )
    if (problem.costs or problem.threshold) and len(distinct) != 2:
        yield Trouble(
            "costs" if problem.costs else "threshold",
            f"go with two classes, and the target has {len(distinct)}: {_some(distinct)}",
            "leave the key out, or join classes",
            refused=True,
        )
    counts = {
        each["values"]: each["counts"] for each in pc.value_counts(_whole(values)).to_pylist()
    }
    single = [label for label, count in counts.items() if count < 2]
    if single:
        yield Trouble(
            name,
            f"has one row of {_some(single)}, which cannot be both learned and held out",
            "leave such rows out, or join classes",
            len(single),
            problem.split.kind == "stratified",
        )
    if len(distinct) > MANY_CLASSES and pa.types.is_floating(values.type):
        yield Trouble(name, f"has {len(distinct)} numbers as classes", "is the task a regression?")
    if pa.types.is_dictionary(values.type) and (words := _gap_words(distinct)):
        yield Trouble(
            name,
            f"has the class {_some(words)}, which looks like a gap",
            "where it is one: na_values",
            sum(counts[w] for w in words),
        )


def _time(values: pa.ChunkedArray, problem: "Problem") -> Iterator[Trouble]:
    """The troubles of the column that orders the rows."""
    name = f"time '{problem.time}'"
    if pa.types.is_dictionary(values.type):
        hint = _date_hint(_texts(values)) or "write dates as 2013-10-01"
        yield Trouble(
            name,
            "is text",
            f"{hint}" if "write" in hint else f"write dates as 2013-10-01, or {hint}",
            refused=True,
        )
    elif values.null_count and problem.split.kind == "time":
        yield Trouble(
            name,
            f"lacks {values.null_count} values",
            "each row needs its time",
            values.null_count,
            True,
        )
    elif not (pa.types.is_timestamp(values.type) or cell_values.is_number(values.type)):
        yield Trouble(name, "is true or false", "name a column of times or numbers", refused=True)


def _feature(
    name: str, values: pa.ChunkedArray, problem: "Problem", odd: bool
) -> Iterator[Trouble]:
    """The troubles of the feature `name`."""
    if not name.strip():
        yield Trouble(
            f"column {reader.UNNAMED}",
            f"holds {_some(_distinct(values))}, and is called nothing",
            'name it in the table, or leave it out (exclude: {"": why})',
            refused=True,
        )
    shown, role, kind = f"column '{name}'", problem.roles.get(name), values.type
    if values.null_count == len(values):
        yield Trouble(shown, "holds no value", "it is left out", len(values))
        return
    if pa.types.is_floating(kind):
        infinite = pc.fill_null(pc.greater(pc.abs(values), LARGEST), False)
        if count := pc.sum(infinite).as_py():
            rows = pc.indices_nonzero(infinite).to_pylist()[:MOST]
            where = ", ".join(str(row + 1) for row in rows)
            yield Trouble(
                shown,
                f"has {counted(count, 'infinite value')} (or beyond 3.4e38), as in row {where} of those with a target",
                "replace them, or make gaps of them (na_values: [inf, -inf])",
                count,
                True,
            )
    wrong_role = {"numeric": pa.types.is_dictionary(kind) or pa.types.is_timestamp(kind)}
    wrong_role["date"] = not pa.types.is_timestamp(kind)
    if role and wrong_role.get(role):
        text = _texts(values)
        hint = _date_hint(text) if role == "date" else _number_hint(text, problem)
        seen = _some(text.to_pylist()) if text else _some(_distinct(values))
        yield Trouble(
            shown,
            f"has the role {role}, and holds {seen}",
            hint or "mend the table, or the role",
            refused=True,
        )
    elif pa.types.is_dictionary(kind) and role is None:
        yield from _misread(shown, _texts(values), problem)
    if odd:
        yield from _oddities(shown, values, role)


def _misread(shown: str, texts: pa.Array, problem: "Problem") -> Iterator[Trouble]:
    """Numbers that were read as text: to a model each would be a word of its own."""
    if hint := _number_hint(texts, problem):
        yield Trouble(
            shown,
            f"holds numbers such as {texts[0].as_py()}, which are read as text",
            f"say {hint} under `source`, or give it the role categorical",
            len(texts),
            True,
        )


def _oddities(shown: str, values: pa.ChunkedArray, role: str | None) -> Iterator[Trouble]:
    """What of a feature is odd, although it can be learned from."""
    distinct = _distinct(values)
    with_value = len(values) - values.null_count
    if len(distinct) == 1:
        yield Trouble(shown, f"holds one value only: {distinct[0]}", "it says nothing")
        return
    if cell_values.is_number(values.type):
        size = pc.abs(values.cast(pa.float64(), safe=False))
        big = pc.sum(pc.and_(pc.greater_equal(size, cell_values.EXACT), pc.is_finite(size))).as_py()
        if big:
            yield Trouble(
                shown,
                "holds whole numbers beyond 2**53, which a model does not know apart",
                f"an id? {_leave_out(shown)}",
                big,
            )
        elif pa.types.is_integer(values.type) and len(distinct) == with_value == len(values) > 20:
            low, high = pc.min_max(values).as_py().values()
            if high - low + 1 == len(values):
                yield Trouble(
                    shown,
                    "has another number in each row, one after another",
                    f"a row's number? {_leave_out(shown)}",
                )
    if not pa.types.is_dictionary(values.type):
        return
    texts = _texts(values)
    if words := _gap_words(texts.to_pylist()):
        yield Trouble(
            shown, f"holds {_some(words)}, which looks like a gap", "where it is one: na_values"
        )
    hint = _date_hint(texts) if role is None else ""
    if hint:
        yield Trouble(
            shown, f"holds dates such as {texts[0].as_py()}, which are read as text", hint
        )
    elif strays := _strays(texts):
        yield Trouble(
            shown,
            f"holds numbers, but for {_some(strays)}, and is read as text",
            "mend these, or: na_values",
        )
    elif len(distinct) > max(20, DISTINCT * with_value):
        yield Trouble(
            shown,
            f"holds {len(distinct)} different texts in {with_value} rows",
            f"an id, or prose? {_leave_out(shown)}",
        )


def _leave_out(shown: str) -> str:
    """What to write into the problem's file so that the column is no feature."""
    name = shown.partition("'")[2].rstrip("'")
    return f"exclude: {{{name}: identity}}"


def _whole(values: cell_values.Column) -> pa.Array:
    """The column `values` as one array, text plain."""
    plain = values.cast(pa.string()) if pa.types.is_dictionary(values.type) else values
    return plain.combine_chunks() if isinstance(plain, pa.ChunkedArray) else plain


def _distinct(values: cell_values.Column) -> list[Any]:
    """The different values of a column, as Python has them."""
    if pa.types.is_dictionary(values.type):
        return _texts(values).to_pylist()
    return pc.unique(pc.drop_null(values)).to_pylist()


def _texts(values: cell_values.Column) -> pa.Array:
    """The different texts of a column of text, without gaps; none of another column."""
    if not pa.types.is_dictionary(values.type):
        return pa.array([], pa.string())
    return pc.drop_null(values.unique().cast(pa.string()))


def _gap_words(texts: Sequence[str]) -> list[str]:
    """Those of `texts` that often stand for a gap."""
    return [text for text in texts if text.strip().lower() in GAP_WORDS]


def _number_hint(texts: pa.Array, problem: "Problem") -> str:
    """The options of `source` by which `texts` are numbers, as the problem's file has them; '' where none is."""
    own, fits = problem.source.reading, []
    for decimal, thousands in MARKS:
        reading = cell_values.Reading(decimal=decimal, thousands=thousands, na_values=own.na_values)
        if (decimal, thousands) != (own.decimal, own.thousands) and _all(
            texts, pa.float64(), reading
        ):
            options = [f'decimal: "{decimal}"'] * (decimal != own.decimal)
            options += [f'thousands: "{thousands}"'] * bool(thousands)
            fits.append(", ".join(options))
    return " or ".join(fits[:2])


def _date_hint(texts: pa.Array) -> str:
    """The `date_format` by which all `texts` are dates, as the problem's file has it; '' where there is none."""
    fits = [
        form
        for form in DATE_FORMATS
        if _all(texts, cell_values.TIME, cell_values.Reading(date_format=form))
    ]
    quoted = " or ".join(f'"{form}"' for form in fits[:2])
    return f"say date_format: {quoted} under `source`" if fits else ""


def _all(texts: pa.Array, kind: pa.DataType, reading: cell_values.Reading) -> bool:
    """Whether all of `texts` are of a `kind`; a few decide mostly, and are looked at first."""
    for some in (texts[:10], texts):
        converted, wrong = cell_values.convert(some, kind, reading)
        if pc.any(wrong).as_py() or converted.null_count == len(converted):
            return False
        if kind == cell_values.TIME and pc.min(pc.year(converted)).as_py() < 1000:  # 13 is no year
            return False
    return True


def _strays(texts: pa.Array) -> list[str]:
    """The few of `texts` that are no numbers, where nearly all others are."""
    _, wrong = cell_values.convert(texts, pa.float64())
    count = pc.sum(wrong).as_py() or 0
    return texts.filter(wrong).to_pylist() if 0 < count <= 0.1 * len(texts) else []


def _some(values: Sequence[object]) -> str:
    """The first of `values`, as text."""
    shown = ", ".join(str(value)[:40] for value in values[:MOST])
    return f"{shown}, …" if len(values) > MOST else shown
