"""What the runnable samples, Check_*.py, share: a training, and the output that they promise."""

import subprocess
import sys

from Codes.stores.temporary import own_store


def train(problem, model, notebook="02_train", **parameters):
    """The id of a new run of `notebook`, by the command, with these `parameters`."""
    from Codes.runs import tracking

    command = [sys.executable, "-m", "Codes.commands.cli", "run", notebook, "--no-progress"]
    for name, value in {"problem": problem, "model": model, **parameters}.items():
        command += ["-p", name, str(value)]
    subprocess.run(command, check=True, capture_output=True)
    return tracking.runs(problem, notebook).run_id[0]


def check(report, doc):
    """Print the lines of `report(folder)`, which has a store of its own in `folder`.

    Exit 1 where they are not what stands under `Expected output:` in the docstring `doc`.
    """
    with own_store() as folder:
        lines = list(report(folder))
    print("\n".join(lines))
    promised = doc.partition("Expected output:")[2].splitlines()
    if lines != [line.strip() for line in promised if line.strip()]:
        sys.exit("this is not the expected output, which stands in this file's docstring")
