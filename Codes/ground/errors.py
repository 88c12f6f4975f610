"""A user's mistake, told in one line: what was given, what is allowed, what to do."""

import difflib
import sys
from collections.abc import Iterable
from typing import IO, Any

import click

from Codes.ground import labels

NOTE = "Note: "  # begins a line that a notebook's helper writes to stderr for whoever runs it


class WorkbookError(click.ClickException):
    """A mistake that the user can mend; click's commands print it without a traceback and exit 1."""

    def __str__(self) -> str:
        return self.message

    def show(self, file: IO[Any] | None = None) -> None:
        """Tell it: in one line, for a program or a log; on a terminal without cutting a word at its edge."""
        stream = file or sys.stderr
        told = f"Error: {self.message}"
        click.echo(labels.wrapped(told, indent="  ") if stream.isatty() else told, file=stream)


def first_line(error: object, named: bool = False) -> str:
    """The first line of what `error` (an exception, or a text) says, not endless; with its type's name if `named`."""
    kind = type(error).__name__ if isinstance(error, BaseException) else ""
    text = str(error).strip().partition("\n")[0][:300]
    return f"{kind}: {text}" if named and text else text or kind


def counted(number: int, noun: str) -> str:
    """'1 run', '2 runs', '1,000 runs': the `number` of what `noun` names in the singular."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def nearest(
    name: object, known: Iterable[object], form: str = " Did you mean '{}'?", cutoff: float = 0.6
) -> str:
    """`form` filled with that of `known` (names) which is nearest to `name`; an empty text where none is near."""
    near = difflib.get_close_matches(str(name), map(str, known), n=1, cutoff=cutoff)
    return form.format(near[0]) if near else ""
