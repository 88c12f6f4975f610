"""What a command prints: tables and sentences within 80 columns, colours on a terminal alone, JSON for programs."""

import json
import math
from collections.abc import Sequence
from typing import Any

import click

from Codes.ground import labels
from Codes.ground.labels import WIDTH, wrapped

LEAST = 20  # that the last column of a table keeps, however wide the others are


class Amount(click.FloatRange):
    """A number within a range: neither nan, which no range keeps out, nor without end."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is no amount.", param, ctx)
        return found


json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


def table(rows: Sequence[Sequence[object]], head: Sequence[str] = (), indent: int = 0) -> str:
    """`rows` below each other; the last column is wrapped, the others are as wide as they need, if there is room."""
    lines = [[str(cell) for cell in row] for row in ([head] if head else []) + list(rows)]
    widths = [max(len(click.unstyle(cell)) for cell in column) for column in zip(*lines)][:-1]
    while indent + sum(widths) + 2 * len(widths) > WIDTH - LEAST:
        widths[widths.index(max(widths))] -= 1
    start = indent + sum(widths) + 2 * len(widths)
    told = []
    for *cells, last in lines:
        before = " " * indent + "".join(map(_padded, cells, widths))
        first, *others = wrapped(last, WIDTH - start).splitlines() or [""]
        told += [f"{before}{first}".rstrip(), *(" " * start + each for each in others)]
    return "\n".join(told)


def _padded(cell: str, width: int) -> str:
    """`cell`, which may be coloured, in `width` and two blanks."""
    plain = click.unstyle(cell)
    text = labels.short(plain, width) if len(plain) > width else cell
    return text + " " * (width + 2 - min(len(plain), width))


def say_json(value: Any) -> None:
    """Print `value` as JSON; what it does not know goes by its text."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def good(text: str) -> str:
    """`text` in green, which `click.echo` leaves out where there is no terminal."""
    return _styled(text, "green")


def bad(text: str) -> str:
    """`text` in red, as `good`."""
    return _styled(text, "red")


def _styled(text: str, colour: str) -> str:
    return click.style(text, fg=colour)
