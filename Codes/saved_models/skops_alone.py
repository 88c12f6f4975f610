"""skops without PyTorch: as it is imported it looks at all of scikit-learn, where one module would import that."""

import sys

# what is None here cannot be imported, and skops goes without
_KEPT = {name: sys.modules[name] for name in ("torch",) if name in sys.modules}
if not _KEPT:
    sys.modules["torch"] = None  # type: ignore[assignment]
try:
    from skops import io
finally:
    if not _KEPT:
        sys.modules.pop("torch", None)

__all__ = ["io"]
