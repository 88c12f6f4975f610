"""How names, numbers and errors are written where there is little room: in pictures, tables, runs' names, one line."""

import json
import math
import re
import shlex
import textwrap
from collections.abc import Mapping
from typing import Any

WIDTH = 80  # characters of a terminal
GLUE = "\N{WORD JOINER}"  # which no text has, and which textwrap takes for no blank


def number(value: object, digits: int = 3) -> str:
    """`value` as text: a float with so many significant `digits`, anything else as it is."""
    if isinstance(value, float):
        rounded = float(f"{value:.{digits}g}")
        return f"{rounded:.0f}" if 1e6 <= abs(rounded) < 1e15 else f"{rounded:g}"
    return str(value)


def score(value: float) -> str:
    """A score as text: four decimals, the fewer the larger it is, and of a small one four digits."""
    if not math.isfinite(value):
        return "not known"
    if 0 < abs(value) < 0.01:
        return number(value, 4)
    whole = math.floor(math.log10(max(1, abs(value))))
    return f"{value:.{max(0, 4 - whole)}f}"


def short(text: object, most: int = 40) -> str:
    """`text` on one line, in `most` characters at most: its middle gives way, since names differ at their ends."""
    text = " ".join(str(text).split())
    if len(text) > most:
        half = (most - 1) // 2
        text = f"{text[: most - 1 - half]}…{text[len(text) - half :]}"
    return text


def told(error: BaseException, most: int = 300) -> str:
    """All that the exception `error` says, on one line: its kind, and of a long text its beginning and its end."""
    text = str(error).partition("Stack trace:")[0]  # of a library in C++
    return f"{type(error).__name__}: {short(text, most)}".rstrip(". :")


def drawn(text: object, most: int = 40) -> str:
    """`short` for matplotlib, which would take what stands between two dollar signs for a formula."""
    return short(text, most).replace("$", r"\$")


def typed(values: Mapping[str, Any]) -> str:
    """The `values` of parameters as they would be typed in a shell: by `--params`, or one by one after `-p`."""
    texts = {n: v if isinstance(v, str) else json.dumps(v, default=str) for n, v in values.items()}
    return " ".join(shlex.quote(f"{name}={text}") for name, text in texts.items())


def first(count: int, of: int) -> str:
    """' (the first 12 of 300)' where `count` of so many are shown, else an empty text."""
    return f" (the first {count} of {of})" if count < of else ""


def decimals(reaches: list[float]) -> int:
    """How many decimals numbers need that are known within `reaches`: two digits of the least of these."""
    known = [reach for reach in reaches if math.isfinite(reach) and reach > 0]
    return min(6, max(0, 1 - math.floor(math.log10(min(known))))) if known else 3


def around(value: float, reach: float, places: int) -> str:
    """`value` ± `reach`, with so many decimal `places`."""
    if math.isnan(value):
        return "not known"
    side = f"± {reach:.{places}f}" if math.isfinite(reach) else "± ?"
    return f"{round(value, places) + 0.0:.{places}f} {side}"  # no -0


def wrapped(text: str, width: int = WIDTH, indent: str = "") -> str:
    """`text` in lines of `width`, all but the first of a paragraph behind `indent`; a word is never cut, nor a command.

    A command is what stands in backticks.
    """
    fill = textwrap.TextWrapper(
        width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    one_word = re.compile(rf"`[^`\n]{{1,{width - len(indent) - 2}}}`")
    glued = one_word.sub(lambda found: found[0].replace(" ", GLUE), text)
    return "\n".join(map(fill.fill, glued.splitlines())).replace(GLUE, " ")
