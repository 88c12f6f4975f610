"""How often the gate errs, on two models whose difference is known: see Codes/gate/error_rates.py."""

import json
import subprocess
import sys

from Codes.bench.bench_report import Environment, Row, row, say
from Codes.ground.errors import WorkbookError
from Codes.ground.paths import ROOT

TIMES, SLICE_TIMES = 60, 25  # a round: how often it is asked of the whole, and of the slices


def measure(rounds: int, environment: Environment) -> list[Row]:
    """The rows of each question, the share of errors in the place of seconds; `measured` is how often it was asked."""
    command = [sys.executable, "-m", "Codes.gate.error_rates"]
    command += [str(rounds * TIMES), str(rounds * SLICE_TIMES)]
    # its arrays are too small to share; on a busy machine threads would spin for each other
    environ = {**environment, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    rows: list[Row] = []
    options = {"cwd": ROOT, "env": environ, "text": True}
    options["start_new_session"] = True  # Ctrl-C is for the bench, which ends it
    with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as process:
        for line in process.stdout or ():
            found = json.loads(line)
            say("gate", rounds, rounds, found["what"], found["share"])
            named = row("gate", found["key"], found["what"], 1, [found["share"]])
            named["measured"] = found["times"]
            rows.append(named)
    if process.returncode:
        raise WorkbookError("the error rates of the gate could not be measured; see above.")
    return rows
