"""A notebook's file, whoever wrote it: read, or refused in one line; which kernel and language it asks for."""

import warnings
from pathlib import Path
from typing import cast

import nbformat
from nbformat import NotebookNode
from nbformat.reader import NotJSONError
from nbformat.warnings import DuplicateCellId, MissingIDFieldWarning

from Codes.ground.errors import WorkbookError

PYTHON = "python"  # as language, and jupyter's other name for this Python's own kernel
SPELT = {"r": "R"}  # all others are in small letters
INVALID = nbformat.ValidationError


def read(path: str | Path) -> NotebookNode:
    """The notebook in the file `path`, in the newest form: cells without an id, or with another's, get one.

    A WorkbookError where it is none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingIDFieldWarning)
            warnings.simplefilter("ignore", DuplicateCellId)
            notebook = nbformat.read(path, as_version=4)
            return cast(NotebookNode, nbformat.v4.upgrade(notebook) or notebook)
    except OSError as error:
        raise WorkbookError(f"{path} cannot be read: {error.strerror}.") from error
    except (
        NotJSONError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        RecursionError,
        INVALID,
    ) as error:
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise WorkbookError(
            f"{path} is not a valid notebook ({reason}); open and save it in JupyterLab."
        ) from error


def kernel_of(notebook: NotebookNode) -> str | None:
    """The kernel that `notebook` names, this Python's own where it names nothing; None where only another language."""
    from jupyter_client.kernelspec import NATIVE_KERNEL_NAME

    named = notebook.metadata.get("kernelspec", {}).get("name")
    is_own = named == PYTHON or not named and _language(notebook) in (PYTHON, None)
    return NATIVE_KERNEL_NAME if is_own else named


def language_of(notebook: NotebookNode, kernel: str | None) -> str | None:
    """The language that `notebook` names, else that of the kernel spec `kernel`; None where neither tells.

    It is spelt as papermill does, which looks by it how to write parameters.
    """
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    named = _language(notebook)
    if not named and kernel:
        try:
            named = KernelSpecManager().get_kernel_spec(kernel).language.lower()
        except NoSuchKernel:
            return None
    return SPELT.get(named, named) if named else None


def _language(notebook: NotebookNode) -> str | None:
    """The language in `notebook`'s metadata, as Jupyter, older notebooks and jupytext write it."""
    places = ("language_info", "name"), ("kernelspec", "language"), ("jupytext", "main_language")
    named = (notebook.metadata.get(part, {}).get(key) for part, key in places)
    return next((name.lower() for name in named if name), None)
