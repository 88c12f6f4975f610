"""An alarm told to an address that others look at: a short POST, tried a few times, never for long."""

import json
import os
import time
import urllib.error
import urllib.request

from Codes.ground.errors import WorkbookError, first_line

TRIES, SECONDS = 4, 5.0  # of which each may take so long
PAUSE = 0.5  # seconds before the second try, twice as many before each further one


def address(reference: str) -> str:
    """The address that 'env:NAME' refers to: it holds a secret, so that it stands in no file."""
    name = reference.removeprefix("env:")
    found = os.environ.get(name, "")
    if not found.startswith(("https://", "http://")):
        raise WorkbookError(
            f"monitoring: webhook: the environment variable {name} holds no address (https://…)"
        )
    return found


def send(to: str, text: str, pause: float = PAUSE) -> str:
    """POST {"text": …}, as Slack and its like show it; why it did not arrive, empty where it did.

    A refusal (4xx) is not tried again; the address, which is a secret, is never told.
    """
    body, why = json.dumps({"text": text[:3000]}).encode("utf-8"), ""
    for number in range(TRIES):
        if number:
            time.sleep(pause * 2 ** (number - 1))
        request = urllib.request.Request(to, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=SECONDS):
                return ""
        except urllib.error.HTTPError as error:
            why = f"it answered {error.code}"
            if error.code < 500:
                break
        except (OSError, ValueError) as error:
            why = first_line(getattr(error, "reason", error)).replace(to, "the address")
    return f"the alarm did not reach its webhook: {why}"
