"""Text means the same wherever it is read, and a quote that never closes is found."""

import csv
import io

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from Codes.tables import cell_values, reader
from Codes.tables.cell_values import Reading, TEXT, TIME


def read(*words, **options):
    """(the type of a column of these words, its values)."""
    found = cell_values.typed(pa.array(words), Reading(**options))
    return found.type, found.to_pylist()


@pytest.mark.parametrize(
    "words, options, kind, values",
    [
        (["1", " 2 ", "", "NA"], {}, pa.int64(), [1, 2, None, None]),
        (["1", "+2.5", "-3", " "], {}, pa.float64(), [1.0, 2.5, -3.0, None]),
        (["007", "x"], {}, TEXT, ["007", "x"]),
        (["0x1", "2"], {}, TEXT, ["0x1", "2"]),
        (["true", "False", "nan"], {}, pa.bool_(), [True, False, None]),
        (["true", "false", "maybe"], {}, TEXT, ["true", "false", "maybe"]),
        (["EU", "NA", " ", "null"], {}, TEXT, ["EU", "NA", None, "null"]),
        (["EU", "NA"], {"na_values": ("NA",)}, TEXT, ["EU", None]),
        (["1", "-999", "-999.0"], {"na_values": ("-999",)}, pa.int64(), [1, None, None]),
        (["1,5", "2"], {}, TEXT, ["1,5", "2"]),
        (["1,5", "2"], {"decimal": ","}, pa.float64(), [1.5, 2.0]),
        (["1.5", "2"], {"decimal": ","}, TEXT, ["1.5", "2"]),
        (["1.234,5", "2"], {"decimal": ",", "thousands": "."}, pa.float64(), [1234.5, 2.0]),
        (["1,234", "12"], {"thousands": ","}, pa.int64(), [1234, 12]),
        (["1,23", "12"], {"thousands": ","}, TEXT, ["1,23", "12"]),
        (["", "NA"], {}, pa.float64(), [None, None]),
        (["99999999999999999999"], {}, pa.float64(), [1e20]),
    ],
)
def test_a_column_has_the_type_of_all_its_words(words, options, kind, values):
    assert read(*words, **options) == (kind, values)


@pytest.mark.parametrize(
    "word, options",
    [("2013-10-01 05:00", {}), ("01/10/2013 05:00", {"date_format": "%d/%m/%Y %H:%M"})],
)
def test_times_are_iso_or_of_the_format_that_is_named(word, options):
    kind, values = read(word, "", **options)
    assert kind == TIME and values[1] is None and str(values[0]) == "2013-10-01 05:00:00"
    assert read("2013-10-01", "soon")[0] == TEXT


def test_a_zone_becomes_utc():
    kind, values = read("2013-10-01T05:00:00+02:00", "2013-10-01T05:00Z")
    assert kind == TIME
    assert [str(value) for value in values] == [
        "2013-10-01 03:00:00",
        "2013-10-01 05:00:00",
    ]


def test_what_is_no_value_of_its_column_is_marked_alone():
    found, wrong = cell_values.convert(
        pa.array(["true", "", "maybe", "1"]), pa.float64(), yes_no=True
    )
    assert found.to_pylist() == [1.0, None, None, 1.0]
    assert wrong.to_pylist() == [False, False, True, False]


STRAY = "a,note,b\n1,fine,2\n3,{},4\n5,fine,6\n7,{},8\n9,fine,0\n"


@pytest.mark.parametrize(
    "first, second, line",
    [
        ('"oops', "fine", 3),  # to the end of the file
        ('"oops', '"fine"', 3),  # until the next one that opens
        ('"oops', 'he said "hi"', 3),
        ('"two\nlines"', '"he said ""hi"""', None),
        ('5" pipe', '6"', None),
        ('"5" pipe"', "fine", None),  # sloppy, but no line is lost
        ('""', '"\n"', None),
        ('"" x', '"oops', 5),
    ],
)
def test_a_quote_that_swallows_lines_is_named_by_its_line(first, second, line):
    content = STRAY.format(first, second).encode()
    for size in (1, 2, 3, 7, 1000):
        chunks = [content[i : i + size] for i in range(0, len(content), size)]
        assert reader.stray_quote(chunks, cell_values.PLAIN) == line, size


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.text('a",\n\r ', max_size=4), min_size=2, max_size=2), max_size=5),
    st.integers(1, 9),
)
def test_whatever_a_csv_writer_wrote_has_no_stray_quote(rows, size):
    file = io.StringIO(newline="")
    csv.writer(file).writerows(rows)
    content = file.getvalue().encode()
    chunks = [content[i : i + size] for i in range(0, len(content), size)]
    assert reader.stray_quote(chunks, cell_values.PLAIN) is None
