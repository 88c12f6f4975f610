"""Files that are there whole or not at all."""

import os
import uuid
from pathlib import Path


def write(path: str | Path, content: str | bytes, folder: str | Path | None = None) -> None:
    """Write `content`, text or bytes, to `path` whole or not at all: the earlier file survives a full disk and a kill.

    Args:
        folder: where the new one lies until it is whole, on the same disk; by default beside `path`.
    """
    path = Path(path)
    part = Path(folder or path.parent, f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with open(part, "xb") as file:  # not mkstemp, which knows no umask
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def sync(path: str | Path) -> None:
    """Bring the file or folder `path` to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
