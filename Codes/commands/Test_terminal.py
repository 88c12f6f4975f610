"""What a terminal of 80 columns shows: a table whose last column is wrapped, whatever is in it."""

import io

import click
import pytest

from Codes.commands import terminal
from Codes.ground import labels
from Codes.ground.errors import WorkbookError

LONG = "a word " * 40


@pytest.mark.parametrize("name", ["short", "n" * 30, "n" * 300])
def test_a_table_fits_whatever_is_in_it(name):
    lines = terminal.table(
        [(name, name, LONG), ("b", "c", "d")], ["one", "two", "three"]
    ).splitlines()
    assert max(map(len, lines)) <= terminal.WIDTH and lines[-1].split() == ["b", "c", "d"]
    starts = {line.index(word) for line, word in [(lines[0], "three"), (lines[-1], "d")]}
    assert len(starts) == 1 and sum(line.count("word") for line in lines) == 40


def test_a_colour_takes_no_room():
    plain = terminal.table([("x", "y"), ("long", "z")])
    coloured = terminal.table([(terminal.bad("x"), "y"), ("long", "z")])
    assert coloured != plain and click.unstyle(coloured) == plain


def test_a_command_and_an_address_are_never_cut():
    address = "http://127.0.0.1:5000/" + "x" * 100
    assert address in terminal.wrapped(f"{LONG} {address} {LONG}").splitlines()


def test_a_command_in_backticks_stays_on_one_line():
    told = terminal.wrapped(f"{'a word ' * 10}`workbook register --problem flights` follows.")
    assert "`workbook register --problem flights`" in told and "\n" in told
    assert labels.GLUE not in told


@pytest.mark.parametrize("is_terminal", [True, False])
def test_an_error_is_one_line_but_on_a_terminal_that_has_fewer_columns(is_terminal):
    class Stream(io.StringIO):
        """A stream that says whether it is a terminal."""

        def isatty(self):
            return is_terminal

    WorkbookError(LONG.strip()).show(stream := Stream())
    lines = stream.getvalue().splitlines()
    assert (len(lines) > 1) == is_terminal and " ".join(map(str.strip, lines)).startswith(
        "Error: a"
    )
    assert not is_terminal or max(map(len, lines)) <= terminal.WIDTH
