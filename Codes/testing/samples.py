"""What the runnable samples, Check_*.py, share: a training, and the output that they promise."""

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from Codes.stores.temporary import own_store


def train(problem: str, model: str, notebook: str = "02_train", **parameters: Any) -> str:
    """The id of a new run of `notebook`, by the command, with these `parameters`."""
    from Codes.runs import tracking

    workbook = str(Path(sys.executable).with_name("workbook"))
    command = [workbook, "run", notebook, "--no-progress"]
    for name, value in {"problem": problem, "model": model, **parameters}.items():
        command += ["-p", name, str(value)]
    subprocess.run(command, check=True, capture_output=True)
    return tracking.runs(problem, notebook).run_id[0]


def check(report: Callable[[Path], Iterable[str]], doc: str | None) -> None:
    """Print the lines of `report(folder)`, which has a store of its own in `folder`.

    Exit 1 where they are not what stands under `Expected output:` in the docstring `doc`.
    """
    with own_store() as folder:
        lines = list(report(folder))
    print("\n".join(lines))
    promised = (doc or "").partition("Expected output:")[2].splitlines()
    if lines != [line.strip() for line in promised if line.strip()]:
        sys.exit("this is not the expected output, which stands in this file's docstring")
