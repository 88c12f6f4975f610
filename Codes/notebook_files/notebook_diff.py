"""Whether two versions of a notebook hold the same code, and what of it differs: outputs are left out of both."""

import difflib
import json
from collections.abc import Callable
from typing import Any

STYLES = [(indent, is_ascii) for indent in (1, 2, 4) for is_ascii in (False, True)]
Notebook = dict[str, Any]  # as its file has it
Cell = dict[str, Any]


def same_code(old: str, new: str) -> bool:
    """Whether the notebooks `old` and `new` (their files' texts) differ at most in what running and saving leaves."""
    try:
        return _code(json.loads(old)) == _code(json.loads(new))
    except (ValueError, TypeError, KeyError, AttributeError):
        return False


def _code(notebook: Notebook) -> tuple[str, list[tuple]]:
    """What determines a run of `notebook`: its cells without outputs, and its language."""
    return _language(notebook), [_cell(cell) for cell in notebook["cells"]]


def _cell(cell: Cell) -> tuple:
    tags = sorted(cell.get("metadata", {}).get("tags", []))
    return cell["cell_type"], _text(cell["source"]), tags, cell.get("attachments", {})


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def _language(notebook: Notebook) -> str:
    metadata = notebook.get("metadata", {})
    names = (
        metadata.get("kernelspec", {}).get("language"),
        metadata.get("language_info", {}).get("name"),
    )
    return next(filter(None, names), "python").lower()


def hunks(old: str, new: str) -> str:
    """The unified diff, without its head, of the notebook `old` and the same with the code of `new`.

    Applied to `old` it gives the cells of `new`; what cells that were there before had shown stays.
    """
    dump = _writer(old)
    target = dump(_with_code_of(json.loads(old), json.loads(new)))
    lines = difflib.unified_diff(old.splitlines(True), target.splitlines(True), n=3)
    parts = (
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        for line in list(lines)[2:]
    )
    return "".join(parts)


def _writer(text: str) -> Callable[[Notebook], str]:
    """A function that writes notebooks in the style in which `text` is written."""
    notebook, end = json.loads(text), text[len(text.rstrip()) :]
    for indent, is_ascii in STYLES:
        if json.dumps(notebook, indent=indent, ensure_ascii=is_ascii) + end == text:
            break
    else:
        indent, is_ascii = STYLES[0]
    return lambda it: json.dumps(it, indent=indent, ensure_ascii=is_ascii) + end


def _with_code_of(old: Notebook, new: Notebook) -> Notebook:
    """The notebook `old` with the cells of `new`; a cell that it has already keeps all but its source and tags."""
    left, cells = list(old["cells"]), []
    for cell in new["cells"]:
        if (earlier := _same_in(left, cell)) is not None:
            left.remove(earlier)
        cells.append(_merged(earlier, cell))
    is_other = _language(old) != _language(new)
    return old | {"cells": cells} | ({"metadata": new["metadata"]} if is_other else {})


def _same_in(cells: list[Cell], cell: Cell) -> Cell | None:
    """The one of `cells` that `cell` is a version of, by its id, else by its content; None if there is none."""
    same = [c for c in cells if cell.get("id") and c.get("id") == cell["id"]]
    same += [c for c in cells if _cell(c) == _cell(cell)]
    return same[0] if same else None


def _merged(earlier: Cell | None, cell: Cell) -> Cell:
    """The `cell` of the new notebook, with what its `earlier` version holds beside source and tags."""
    if earlier is None or earlier["cell_type"] != cell["cell_type"]:
        shown = {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else {}
        return cell | shown
    if _cell(earlier) == _cell(cell):
        return earlier
    metadata = {k: v for k, v in earlier["metadata"].items() if k != "tags"}
    tags = {k: v for k, v in cell["metadata"].items() if k == "tags"}
    new = {k: cell[k] for k in ("source", "attachments") if k in cell}
    return earlier | {"metadata": metadata | tags} | new
