"""Files that are there whole or not at all."""

import os
import tempfile
from pathlib import Path


def write(path, content, folder=None):
    """Write `content`, text or bytes, to `path` whole or not at all: the earlier file survives a full disk and a kill.

    Args:
        folder: where the new one lies until it is whole, on the same disk; by default beside `path`.
    """
    path = Path(path)
    place = folder or path.parent
    handle, part = tempfile.mkstemp(dir=place, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o644)
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def sync(path):
    """Bring the file or folder `path` to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
