"""What a dotted path names: a class or a function of an installed package, or of a module at the root."""

import importlib
from typing import Any

from Codes.ground import paths
from Codes.ground.errors import WorkbookError, first_line, nearest


def load(path: str, what: str) -> Any:
    """What is at the dotted `path`; a WorkbookError says which part of it failed, and of `what` it was asked for."""
    module_name, _, name = path.rpartition(".")
    paths.reach_root()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # pylint: disable=broad-exception-caught
        # a module may raise anything
        raise WorkbookError(
            f"{what} '{path}': the module '{module_name}' does not import ({first_line(error)}). Is its package "
            "installed, or the module at the workbook's root?"
        ) from error
    found = getattr(module, name, None)
    if found is None:
        near = nearest(name, dir(module), " (did you mean '{}'?)")
        raise WorkbookError(f"{what} '{path}': '{module_name}' has no '{name}'{near}.")
    return found
