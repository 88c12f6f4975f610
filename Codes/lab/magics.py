"""`%workbook`, in every kernel of this environment: an IPython extension, which its configuration names.

Each kernel imports it as it starts, so it imports nothing that takes time.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Codes.ground import paths

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

ORIGIN = "workbook"  # in a copy's metadata: the run that it is of, and the notebook in whose folder it runs,
FAILED = "failed"  # and the id of the cell that failed, which Resources/jupyter's workbook-failed-cell shows


def load_ipython_extension(shell: "InteractiveShell") -> None:
    """Give `shell` the magic; the copy of a run that JupyterLab shows runs in the folder of that run's notebook."""
    shell.register_magic_function(_workbook, magic_name="workbook")
    path = os.environ.get("JPY_SESSION_NAME")
    if path and (folder := folder_of_copy(Path(path))):
        os.chdir(folder)


def _workbook(line: str) -> Any:
    """Run this notebook in batch, show the last runs, load a run's model: %workbook alone says how."""
    from Codes.lab import magic_words

    return magic_words.answer(line)


def folder_of_copy(path: Path) -> Path | None:
    """The folder in which the notebook at `path` is to run, where that is a copy made here of another; else None."""
    if path.parent != paths.EXECUTED:
        return None
    try:
        origin = json.loads(path.read_text("utf-8"))["metadata"][ORIGIN]["notebook"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder if (folder := Path(origin).parent).is_dir() else None
