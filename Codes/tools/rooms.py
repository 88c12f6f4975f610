"""The rooms of `Codes`, in the order of the flow: each may import those after it, by their front doors.

    python -m Codes.tools.rooms           # says what imports against the order; exit 1 where something does
    python -m Codes.tools.rooms --draw    # the picture in docs/explanation/architecture.md, as Mermaid

A room's front doors are those that its docstring names. Tests, samples and `testing` may import anything. A room has at
most LIMIT lines of code, so that it can be read in one go: neither empty ones nor comments, docstrings and tests count.
"""

import ast
import importlib
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import grimp
from grimp import ImportGraph, Route

ROOMS = """
tools bench testing commands lab retraining sweeps trial_workers running fingerprints warm deployment
monitoring drift scoring serving fast_answers model_registry gate figures comparison judgement
runs stores modeling saved_models networks problems tables notebook_files forks seams ground
""".split()
FREE = ROOMS[:4]  # left out of the picture: they import nearly all others
LIMIT = 1500
WHOLE = {"commands": 1900}  # each of its modules is a command or two, read alone
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
# what handles tables and models knows no runs, and what keeps runs knows no models
APART = ({"tables", "problems", "networks", "saved_models", "modeling"}, {"stores", "runs"})


def graph() -> ImportGraph:
    """Which module of `Codes` imports which, without tests and samples."""
    found = grimp.build_graph("Codes", cache_dir=None, exclude_type_checking_imports=True)
    for name in found.modules:
        if name.rpartition(".")[2].startswith(("Test_", "Check_", "conftest")):
            found.remove_module(name)
    return found


def room_of(module: str) -> str:
    """The room that `module` lies in; '' of one at the top."""
    return module.split(".")[1] if module.count(".") > 1 else ""


def front_doors(room: str) -> set[str]:
    """The modules of `room` that others may import, as its docstring names them."""
    told = importlib.import_module(f"Codes.{room}").__doc__ or ""
    named = re.search(r"Front doors?: ([^.]*)", re.sub(r"\([^)]*\)", "", told))
    return set(re.findall(r"\w+", named[1])) if named else set()


def edges(found: ImportGraph) -> Iterator[tuple[str, str]]:
    """(module, imported one) over the rooms' bounds."""
    for name in sorted(found.modules):
        for used in sorted(found.find_modules_directly_imported_by(name)):
            if room_of(name) and room_of(used) and room_of(name) != room_of(used):
                yield name, used


def against(found: ImportGraph) -> list[str]:
    """What in `found` is against the rules, a sentence each."""
    doors = {room: front_doors(room) for room in ROOMS}
    told = [
        f"{name} imports {used}, which is no front door of its room"
        for name, used in edges(found)
        if doors[room_of(used)] and used.split(".")[2] not in doors[room_of(used)]
    ]
    layers = [f"Codes.{room}" for room in ROOMS]
    for each in found.find_illegal_dependencies_for_layers(layers=layers):
        told += [f"against the flow: {' -> '.join(chain(route))}" for route in each.routes]
    for one, other in (APART, APART[::-1]):
        told += [
            f"{n} imports {u}"
            for n, u in edges(found)
            if {room_of(n)} <= one and room_of(u) in other
        ]
    return told


def too_large(room: str) -> str:
    """What is wrong with the size of `room`, a sentence; '' where nothing is."""
    folder, limit = Path(__file__).parents[1] / room, WHOLE.get(room, LIMIT)
    size = sum(map(lines_of_code, folder.rglob("[!T]*.py")))
    return f"{room} has {size} lines of code, more than {limit}: divide it" * (size > limit)


def lines_of_code(path: Path) -> int:
    """How many lines of the module at `path` hold code."""
    with path.open("rb") as file:
        spans = [
            (t.start[0], t.end[0]) for t in tokenize.tokenize(file.readline) if t.type not in LAYOUT
        ]
    code = {line for first, last in spans[1:] for line in range(first, last + 1)}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            code -= set(range(node.lineno, (node.end_lineno or 0) + 1))  # a docstring
    return len(code)


def chain(route: Route) -> tuple[str, ...]:
    """The modules of a `route`, from the one that imports to the imported one."""
    return (*sorted(route.heads)[:1], *route.middle, *sorted(route.tails)[:1])


def drawn(found: ImportGraph) -> str:
    """The rooms as a Mermaid flowchart: an arrow to each room that is imported, but for what follows from others."""
    uses = {room: {room_of(u) for n, u in edges(found) if room_of(n) == room} for room in ROOMS}
    lines = ["flowchart LR"]
    for room in ROOMS:
        if room in FREE:
            continue
        further = set().union(*(reached(uses, near) for near in uses[room]))
        lines += [f"    {room} --> {near}" for near in ROOMS if near in uses[room] - further]
    return "\n".join(lines)


def reached(uses: dict[str, set[str]], room: str) -> set[str]:
    """The rooms that `room` imports, over however many steps."""
    return uses[room].union(*(reached(uses, near) for near in uses[room]))


def main(arguments: list[str]) -> int:
    """Draw the rooms, or say what is against the rules; the exit status."""
    found = graph()
    told = [drawn(found)] if "--draw" in arguments else against(found)
    told += [] if "--draw" in arguments else filter(None, map(too_large, ROOMS))
    print("\n".join(told) or "the rooms are in order")
    return int(bool(told) and "--draw" not in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
