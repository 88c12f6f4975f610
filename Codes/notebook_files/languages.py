"""Parameters cells in other languages than Python: the assignments that stand on lines of their own."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from Codes.notebook_files.cells import Use

if TYPE_CHECKING:
    from nbformat import NotebookNode

WORDS = r"(?:(?:export|readonly|declare|typeset|local|val|var|let|const|mutable)\s+(?:-\w+\s+)*)*"
# text before the sign of equality: bash takes no space there
ASSIGNMENT = {
    "bash": re.compile(rf"{WORDS}([A-Za-z_]\w*)=(.*)"),
    "r": re.compile(r"([A-Za-z.][\w.]*)\s*(?:<<?-|=(?!=))\s*(.*)"),
    "": re.compile(rf"{WORDS}\$?([A-Za-z_]\w*)(?:\s*:\s*\w+)?\s*=(?!=)\s*(.*?);?"),
}
QUOTED = re.compile(r"""'([^'\\]*)'|"([^"\\$`]*)\"""")
CONSTANTS = {"TRUE": True, "true": True, "FALSE": False, "false": False, "NULL": None}


def language_of(notebook: "NotebookNode", kernel: str | None = None) -> str:
    """The language of `notebook`, else of its kernel or of `kernel`, in lower case; python where nothing tells."""
    from Codes.notebook_files import notebook_file

    kernel = kernel or notebook_file.kernel_of(notebook)
    return (notebook_file.language_of(notebook, kernel) or notebook_file.PYTHON).lower()


def is_python(notebook: "NotebookNode", kernel: str | None = None) -> bool:
    """Whether `notebook` holds Python."""
    return language_of(notebook, kernel) in ("python", "ipython")


def not_recorded(notebook: "NotebookNode", names: Sequence[str], kernel: str | None = None) -> str:
    """A line about the parameters `names`, if any, where only a kernel in another language than Python knows them."""
    if not names or is_python(notebook, kernel):
        return ""
    language = language_of(notebook, kernel)
    return f"not recorded, since only the {language} kernel knows the value: {', '.join(names)}"


def assignments(source: str, language: str) -> list[tuple[str, bool, Any, tuple[Use, ...]]]:
    """[(name, whether its value is known, the value or its code, [Use])] of what the lines of `source` assign.

    Where the cell has other lines no value is known: they may change any.
    """
    pattern = ASSIGNMENT.get(language, ASSIGNMENT[""])
    lines = [(n, _bare(line)) for n, line in enumerate(source.splitlines(), 1)]
    found = [(n, line, pattern.fullmatch(line)) for n, line in lines if line]
    names = [match[1] for _, _, match in found if match]
    is_plain = all(match for _, _, match in found) and len(set(names)) == len(names)
    return [
        (match[1], *_value(match[2], language, is_plain), _uses(match[1], n, found))
        for n, _, match in found
        if match
    ]


def _bare(line: str) -> str:
    """`line` without a comment."""
    return re.sub(r"(^|\s)(#|//).*", "", line).rstrip()


def _value(text: str, language: str, is_plain: bool) -> tuple[bool, Any]:
    """(whether it is known, the value) that the code `text` stands for."""
    text = text.strip()
    if quoted := QUOTED.fullmatch(text):
        return is_plain, quoted[1] or quoted[2] or ""
    if language == "bash":
        return is_plain and bool(re.fullmatch(r"[\w./:,+-]*", text)), text
    if text in CONSTANTS:
        return is_plain, CONSTANTS[text]
    try:
        return is_plain, json.loads(text.removesuffix("L"))
    except ValueError:
        return False, text


def _uses(
    name: str, number: int, found: Iterable[tuple[int, str, re.Match[str] | None]]
) -> tuple[Use, ...]:
    word = re.compile(rf"(?<![\w.]){re.escape(name)}(?![\w.])")
    return tuple(
        Use(n, line, frozenset([match[1]] if match else []))
        for n, line, match in found
        if n != number and word.search(line)
    )
