"""Notebooks as they are committed: without outputs, counts and times, but for the cells that nbval pins.

nbstripout knows the tag `keep_output`, but clears the execution count, without which nbval refuses
a pinned cell; told to keep counts, it keeps them in every cell. Hence these few lines. As a filter of git it would work
only in clones where somebody has installed it, and hide from who runs a notebook what is committed of it.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

TIMES = "execution"  # in a cell's metadata: JupyterLab would show them below a cell that was not run here
PINNED = {"keep_output", "nbval-check-output"}


def tags(cell: NotebookNode) -> set[str]:
    """The tags of a cell."""
    return set(cell.metadata.get("tags", []))


def fault(cell: NotebookNode) -> str:
    """What is wrong with a code cell, or ""."""
    pins = PINNED & tags(cell)
    if pins and pins != PINNED:
        return f"has the tag {pins.pop()} alone: a pinned cell carries both {sorted(PINNED)}"
    if pins:
        return "" if cell.outputs and cell.execution_count else "is pinned, but was not run"
    if cell.outputs:
        return "has outputs; `make format` strips them"
    if cell.execution_count:
        return "has an execution count; `make format` strips it"
    return "has times of an execution; `make format` strips them" if TIMES in cell.metadata else ""


def faults(path: Path) -> list[str]:
    """One line for each mistake in a notebook, naming file and cell (counted from 1)."""
    notebook: Any = nbformat.read(path, as_version=4)
    cells = enumerate(notebook.cells, start=1)
    found = [(number, fault(cell)) for number, cell in cells if cell.cell_type == "code"]
    lines = [f"{path}: cell {number} {text}" for number, text in found if text]
    kernel = notebook.metadata.get("kernelspec", {}).get("name")
    if kernel != "python3":
        lines.append(f"{path}: its kernel is {kernel!r}; python3 is the one in every .venv")
    return lines


def strip(path: Path) -> bool:
    """Clear outputs, counts and times of the cells that aren't pinned; True if the file changed."""
    before = path.read_text(encoding="utf-8")
    notebook: Any = nbformat.reads(before, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and not PINNED & tags(cell):
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop(TIMES, None)
    after = nbformat.writes(notebook) + "\n"
    if after == before:
        return False
    path.write_text(after, encoding="utf-8")
    return True


def main(arguments: list[str] | None = None) -> int:
    """Check each notebook of a folder, or strip it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fix", action="store_true", help="strip instead of complaining")
    options = parser.parse_args(arguments)
    notebooks = sorted(options.folder.glob("*.ipynb"))
    if options.fix:
        for path in filter(strip, notebooks):
            print(f"stripped {path}")
    lines = [line for path in notebooks for line in faults(path)]
    print("\n".join(lines) if lines else f"{len(notebooks)} notebooks")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
