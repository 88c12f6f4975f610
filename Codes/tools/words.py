"""The page of what notebooks import and call, made from docstrings.

python -m Codes.tools.words           # exit 1 where docs/reference/words.md is not what the docstrings say
python -m Codes.tools.words --write   # writes it
"""

import inspect
import re
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType

import Codes
from Codes.ground.paths import NOTEBOOKS, ROOT
from Codes.notebook_files import notebook_file

PAGE = ROOT / "docs" / "reference" / "words.md"
HEAD = """# What notebooks import

`from Codes import data, models, tracking`: a notebook needs no other module of the workbook. These words stay, and so
do the functions below, which the notebooks that ship call; what else lies behind them may move. This page is made from
their docstrings (`make format`).
"""


def text() -> str:
    """The page: each word with its functions."""
    source, sections = written(), []
    for word in sorted(Codes.WORDS):
        name = (re.findall(rf"\b{word} as (\w+)", source) or [word])[0]
        called = set(re.findall(rf"\b{name}\.(\w+)", source))
        sections += section(getattr(Codes, word), called)
    return HEAD + "".join(f"\n{part}\n" for part in sections)


def written() -> str:
    """The code of the notebooks that ship."""
    cells = [
        cell
        for path in sorted(NOTEBOOKS.glob("*.ipynb"))
        for cell in notebook_file.read(path).cells
    ]
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def section(module: ModuleType, called: set[str]) -> Iterator[str]:
    """The heading of a word, what it holds, and a line for each of the functions `called`."""
    yield f"## {module.__name__.rpartition('.')[2]}"
    yield first_paragraph(module)
    yield "\n".join(
        f"- `{name}{_called(function)}`: {first_paragraph(function)}"
        for name, function in functions(module)
        if name in called
    )


def functions(module: ModuleType) -> list[tuple[str, FunctionType]]:
    """The public functions that are written in `module`, in the order of their lines."""
    own = [
        (name, each)
        for name, each in inspect.getmembers(module, inspect.isfunction)
        if each.__module__ == module.__name__ and not name.startswith("_")
    ]
    return sorted(own, key=lambda pair: pair[1].__code__.co_firstlineno)


def first_paragraph(described: ModuleType | FunctionType) -> str:
    """What the docstring says first, on one line."""
    return " ".join((inspect.getdoc(described) or "").partition("\n\n")[0].split())


def _called(function: FunctionType) -> str:
    """How it is called: names and defaults, without types."""
    parameters = inspect.signature(function).parameters.values()
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in parameters]
    return str(inspect.Signature(plain))


def main(arguments: list[str]) -> int:
    """Write the page, or say that it is an old one; the exit status."""
    page = text()
    if "--write" in arguments:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page, "utf-8")
    elif not PAGE.exists() or PAGE.read_text("utf-8") != page:
        print(f"{PAGE.relative_to(ROOT)} is not what the docstrings say: make format")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
