"""What of papermill is used that it does not document: where a call of it was made from, and what it does after us."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import papermill
from nbformat import NotebookNode
from papermill.iorw import LocalHandler, papermill_io

# pylint: disable=protected-access


def path_from(path: str) -> Path:
    """Where a local `path` lies that papermill was given: seen from the folder before it changed to its `--cwd`.

    Private: `LocalHandler._cwd`.
    Seen: papermill 2.7.0.
    Without: refuse `--cwd` with relative paths.
    """
    handler: Any = papermill_io.get_handler("local")
    return Path(handler._cwd or "", path)


def names_a_folder() -> bool:
    """Whether the call of papermill under which we are names the kernel's folder (`--cwd`).

    Private: the local name `cwd` of `papermill.execute.execute_notebook`, which tells engines nothing of it.
    Seen: papermill 2.7.0.
    Without: the folder is papermill's current one, not the notebook's, as papermill's own engine has it.
    """
    frame = sys._getframe()
    while frame and frame.f_code is not papermill.execute.execute_notebook.__code__:
        frame = frame.f_back
    return bool(frame and frame.f_locals["cwd"])


def write_by(write: Callable[[LocalHandler, str, str], None]) -> None:
    """Let papermill write local files by `write(handler, text, path)`, also after the engine has ended.

    Private: that `LocalHandler.write` does it; it writes in place, so that a full disk destroys the earlier copy.
    Seen: papermill 2.7.0.
    Without: `papermill_io.register` of a handler of ours for each form of a local path.
    """
    setattr(LocalHandler, "write", write)


@functools.cache
def leave_the_verdict(is_judged: Callable[[NotebookNode], bool]) -> None:
    """Let papermill raise for no error that a notebook shows where `is_judged` says that the engine has judged it.

    Private: `papermill.execute.raise_for_execution_errors`, called after the engine: it goes by the errors that a
    notebook shows, the engine by the kernel's replies.
    Seen: papermill 2.7.0.
    Without: a notebook that shows an error that it expects fails, though its run is FINISHED.
    """
    judge = papermill.execute.raise_for_execution_errors
    papermill.execute.raise_for_execution_errors = lambda nb, output_path: (
        None if is_judged(nb) else judge(nb, output_path)
    )
