"""JupyterLab, opened at a copy of what a run executed, at the cell that failed."""

import importlib
import os
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

import nbformat
from nbformat import NotebookNode

from Codes.ground import files, paths
from Codes.lab import repeating
from Codes.lab.magics import FAILED, ORIGIN
from Codes.lab.repeating import Made
from Codes.notebook_files import parameters

MARKED = {"papermill-error-cell-tag"}  # papermill's own cells, which tell where it failed


@dataclass(frozen=True)
class Copy:
    """A notebook `place` of so many `cells`; `failed` is the number of the one that failed, 0 where none did."""

    place: Path
    cells: int
    failed: int


def copy(made: Made, new: Mapping[str, Any]) -> Copy:
    """A new notebook in `executed/` as `made` was executed, with the `new` parameters.

    JupyterLab opens it at the cell that failed. What the cells showed is kept as long as no parameter is another.
    """
    importlib.import_module("papermill")  # it imports our engine, and must come first
    from Codes.running import engine

    nb = made.notebook()
    nb.cells = [c for c in nb.cells if not MARKED & set(c.metadata.get("tags", []))]
    given = repeating.values(made, parameters.of(nb, made.stem), new)
    engine.inject(nb, given)
    failed = failed_cell(nb)
    if new:
        _forget_outputs(nb)
    origin = made.path or paths.NOTEBOOKS / f"{made.stem}.ipynb"
    nb.metadata[ORIGIN] = {"run": made.run_id, "notebook": str(origin)}
    if failed:
        nb.metadata[ORIGIN][FAILED] = nb.cells[failed - 1].id
    nb.metadata.pop("papermill", None)
    paths.EXECUTED.mkdir(exist_ok=True)
    place = _new_name(f"{made.stem}-of-{made.run_id[:8]}")
    files.write(place, nbformat.writes(nb))
    return Copy(place, len(nb.cells), failed)


def failed_cell(nb: NotebookNode) -> int:
    """The number of the cell of `nb`, from 1 on, that shows an error which was not expected; 0 where none does."""
    failed = (
        number
        for number, cell in enumerate(nb.cells, 1)
        if any(o.output_type == "error" for o in cell.get("outputs", ()))
        and "raises-exception" not in cell.metadata.get("tags", [])
    )
    return next(failed, 0)


def _forget_outputs(nb: NotebookNode) -> None:
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


def _new_name(stem: str) -> Path:
    """A file of `executed/` that is not there yet: what a person has changed in an earlier copy stays."""
    number = 1
    while (place := paths.EXECUTED / f"{stem}{f'-{number}' if number > 1 else ''}.ipynb").exists():
        number += 1
    return place


def address(place: Path) -> str:
    """Where JupyterLab with this checkout as its root shows the notebook at `place`."""
    return f"/lab/tree/{quote(place.resolve().relative_to(paths.ROOT).as_posix())}"


def running() -> list[dict[str, Any]]:
    """The Jupyter servers of this user that have this checkout as their root."""
    from jupyter_server.serverapp import list_running_servers

    return [s for s in list_running_servers() if Path(s["root_dir"]).resolve() == paths.ROOT]


def in_running(server: Mapping[str, Any], where: str) -> str:
    """The whole address of `where` (see `address`) in the running `server`."""
    token = f"?{urlencode({'token': server['token']})}" if server["token"] else ""
    return f"{server['url'].rstrip('/')}{where}{token}"


def show(where: str, opens: bool) -> None:
    """Print the whole address of `where` in a JupyterLab that runs, in a browser where it `opens`; else become one."""
    if servers := running():
        print(url := in_running(servers[0], where))
        if opens:
            webbrowser.open(url)
    else:
        start(where, [] if opens else ["--no-browser"])


def start(where: str, options: Sequence[str]) -> NoReturn:
    """Become JupyterLab on this checkout, which opens `where` (see `address`), with `options` of its own."""
    own = ["--ip=127.0.0.1", f"--ServerApp.root_dir={paths.ROOT}", f"--LabApp.default_url={where}"]
    os.chdir(paths.ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "jupyter", "lab", *own, *options])
