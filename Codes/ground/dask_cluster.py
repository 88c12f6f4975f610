"""The client of a Dask cluster: what is not there, or does not answer, is told in one line."""

import logging
from typing import TYPE_CHECKING

from Codes.ground.errors import WorkbookError, first_line

if TYPE_CHECKING:  # it need not be installed
    from distributed import Client


def connect(address: str, seconds: float) -> "Client":
    """A client of the scheduler at `address`, which must answer within `seconds`; a WorkbookError says why not."""
    try:
        from distributed import Client
    except ImportError as error:
        raise WorkbookError(
            "a cluster needs Dask, which is not installed here: pip install 'dask[distributed]' "
            "(or pip install -e '.[cluster]' in the workbook)."
        ) from error
    # we tell in a line what it tells in pages
    for name in [n for n in logging.root.manager.loggerDict if n.startswith("distributed")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        return Client(address, timeout=seconds, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = first_line(error, named=True)
        raise WorkbookError(
            f"the Dask scheduler {address} does not answer ({reason}); start it (dask scheduler), "
            "or correct --cluster tcp://HOST:8786."
        ) from error
