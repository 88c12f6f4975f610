"""skops without a look at all of scikit-learn, whose estimators' names it asks for as it is imported.

To find them scikit-learn imports all of itself, with Dask and PyTorch where they are: two seconds of each process that
loads a model. So they are looked up once for each version, and kept in a file.
"""

import contextlib
import json
import sys

import sklearn
from sklearn import utils

from Codes.ground import files, paths

KEPT = paths.ROOT / ".cache" / f"estimators-{sklearn.__version__}.json"
REAL = utils.all_estimators


def names() -> list[tuple[str, str]]:
    """(name, module) of each estimator of scikit-learn."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return [(str(name), str(module)) for name, module in json.loads(KEPT.read_text("utf-8"))]
    has_torch = "torch" in sys.modules
    if not has_torch:  # what is None here cannot be imported, and scikit-learn goes without
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        found = [(name, each.__module__) for name, each in REAL()]
    finally:
        if not has_torch:
            del sys.modules["torch"]
    with contextlib.suppress(OSError):  # where nothing may be written it takes its time
        KEPT.parent.mkdir(exist_ok=True)
        files.write(KEPT, json.dumps(found))
    return found


def _estimators() -> list[tuple[str, type]]:
    """(name, class) of each, as skops asks for them: of a class it takes the name alone."""
    return [(name, type(name, (), {"__module__": module})) for name, module in names()]


setattr(utils, "all_estimators", _estimators)
try:
    from skops import io
finally:
    setattr(utils, "all_estimators", REAL)

__all__ = ["io"]
