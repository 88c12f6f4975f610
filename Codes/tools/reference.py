"""The pages that are made from the code: each command's help, make's targets, the keys of a problem's file.

python -m Codes.tools.reference           # exit 1 where a page under docs/reference is not what the code says
python -m Codes.tools.reference --write   # writes them
"""

import re
import sys
from collections.abc import Callable, Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
import pydantic

from Codes.commands import cli
from Codes.ground.paths import ROOT
from Codes.problems import problem

FOLDER = ROOT / "docs" / "reference"
WIDTH = 80  # characters of a terminal
FRESH = "This page is made from the code (`make format`)."


def commands() -> str:
    """The help of each `workbook` command, as a terminal of WIDTH shows it."""
    top = context()
    parts = [
        "# Commands",
        "Activate the environment first: `. .venv/bin/activate`. What a command's exit status means stands "
        f"[on a page of its own](exit-codes.md). {FRESH}",
        fenced(cli.main.get_help(top)),
    ]
    for name, command in sorted(cli.main.commands.items()):
        own = click.Context(command, info_name=name, parent=top, terminal_width=WIDTH)
        parts += [f"## workbook {name}", fenced(command.get_help(own))]
    return "\n\n".join(parts) + "\n"


def context() -> click.Context:
    """Of the `workbook` command itself, in a terminal of WIDTH."""
    settings = cli.main.context_settings
    return click.Context(cli.main, info_name="workbook", terminal_width=WIDTH, **settings)


def fenced(text: str) -> str:
    """`text` as a block of a page."""
    return "\n".join(["```text", *(line.rstrip() for line in text.splitlines()), "```"])


def targets() -> dict[str, list[str]]:
    """What each target of the Makefile does, and, behind that, the variables that it takes, as `make` shows them."""
    lines = re.findall(r"^([a-z-]+):[^#\n]*## (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    return {name: about.split(" | ") for name, about in lines}


def make() -> str:
    """A row for each of make's targets."""
    rows = [
        f"| `make {name}` | {about} | {' '.join(given).replace('|', '/')} |"
        for name, (about, *given) in targets().items()
    ]
    head = ["# make", "", FRESH, "", "| command | what it does | with |", "|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def problem_file() -> str:
    """The keys of a problem's file: of each its type and default."""
    parts = [
        "# The problem's file",
        "`Resources/problems/NAME.yaml` says what is predicted from which table; "
        "[your own table](../how-to/own-table.md) shows one, `Resources/problems/flights.yaml` has nearly every key. "
        f"An unknown key, a wrong type or a value that is not allowed is one line. {FRESH}",
    ]
    for model in parts_of(problem.Problem):
        parts += [f"## {heading(model)}", *about(model), keys(model)]
    return "\n\n".join(filter(None, parts)) + "\n"


def parts_of(model: type[pydantic.BaseModel]) -> list[type[pydantic.BaseModel]]:
    """`model` and the models of its keys, each once, in their order."""
    found = [model]
    for field in model.model_fields.values():
        for each in leaves(field.annotation):
            if isinstance(each, type) and issubclass(each, pydantic.BaseModel):
                found += [part for part in parts_of(each) if part not in found]
    return found


def heading(model: type[pydantic.BaseModel]) -> str:
    """What a part of the file is called in it."""
    return "The file" if model is problem.Problem else model.__name__.lower()


def about(model: type[pydantic.BaseModel]) -> list[str]:
    """The paragraphs of the docstring of `model`, each on one line."""
    return [" ".join(part.split()) for part in (model.__doc__ or "").split("\n\n")]


def keys(model: type[pydantic.BaseModel]) -> str:
    """A table of the keys of `model`."""
    rows = ["| key | value | default |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        if name == "name" and model is problem.Problem:
            continue  # it is the file's
        default = "needed" if field.is_required() else shown(field.default)
        rows.append(f"| `{name}` | {' or '.join(kinds(field.annotation))} | {default} |")
    return "\n".join(rows)


def shown(default: Any) -> str:
    """A default as YAML has it; nothing where the key has none."""
    if default is None or isinstance(default, pydantic.BaseModel) or default in ("", {}, []):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def leaves(annotation: Any) -> Iterator[Any]:
    """The types that `annotation` is made of."""
    if arguments := get_args(annotation):
        for each in arguments if get_origin(annotation) is not Annotated else arguments[:1]:
            yield from leaves(each)
    else:
        yield annotation


NAMES = {str: "text", float: "number", int: "whole number", bool: "true or false"}


def kinds(annotation: Any) -> Iterator[str]:
    """What may stand there, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        yield ", ".join(f"`{each}`" for each in arguments)
    elif origin is Annotated:
        yield from kinds(arguments[0])
    elif origin in (Union, UnionType):
        for each in arguments:
            yield from kinds(each) if each is not NoneType else ()
    elif origin is list:
        yield f"list of {' or '.join(kinds(arguments[0]))}"
    elif origin is dict:
        yield f"mapping of {' or '.join(kinds(arguments[0]))} to {' or '.join(kinds(arguments[1]))}"
    elif isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield f"[{heading(annotation)}](#{heading(annotation)})"
    else:
        yield NAMES.get(annotation, "text, number or date" if annotation is Any else "path")


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "make.md": make,
    "problem-file.md": problem_file,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or say which are old ones; the exit status."""
    stale = []
    for name, page in PAGES.items():
        path, text = FOLDER / name, page()
        if "--write" in arguments:
            path.write_text(text, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != text:
            stale.append(name)
    for name in stale:
        print(f"docs/reference/{name} is not what the code says: make format")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
