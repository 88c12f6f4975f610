"""A model in a process of its own, with the packages that it pins: does it load, what does it answer, how fast?"""

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from importlib import metadata
from pathlib import Path
from typing import TypedDict

import click
import numpy as np
import pandas as pd

from Codes.forks import apart
from Codes.ground import paths
from Codes.ground.errors import WorkbookError
from Codes.saved_models import trust

LOADING = 300.0  # seconds that it may take
PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!+_-]+)")
SAFE = (0, 13)  # skops of before trusts what a file names in other places than those that it checks
# variables that tell an interpreter where its modules are
LEADING = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONUSERBASE")
TIMES, ROUNDS = 100, 5  # answers to one row that are timed, as often


class Reproduced(TypedDict, total=False):
    """What `main` prints; only an `error`, a line, where it failed."""

    answers: list  # for the model's example
    seconds: float  # to load it
    p95_ms: float  # of one row, where timed
    error: str


def ask(loaded: trust.Loaded, timed: bool = False) -> tuple[Reproduced, str]:
    """(what `main` prints of the model `loaded`, the words for where it ran); {"error": a line} where it failed."""
    python, where = environment(loaded.folder, loaded.trusted)
    module = "Codes.saved_models.reproduction"
    arguments = [str(loaded.folder), loaded.digest, str(int(timed)), *loaded.trusted]
    environ = variables(python)
    if (
        timed
    ):  # one row gives threads nothing to share; on a busy machine they would spin for each other
        environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        if python == sys.executable and not timed:
            done = apart.run(module, arguments, environ, LOADING)
        else:
            done = subprocess.run(
                [python, "-m", module, *arguments],
                env=environ,
                cwd=paths.ROOT,
                capture_output=True,
                text=True,
                timeout=LOADING,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return {"error": f"not loaded after {LOADING:g} s"}, where
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"error": lines[-1][:300]}, where
    return json.loads(done.stdout.splitlines()[-1]), where


def environment(folder: str | Path, trusted: Collection[str] = ()) -> tuple[str, str]:
    """(the Python to load the model in `folder` with, words for it): this one where it has the pins, else a new one.

    Installing runs code of the packages: only those that a model of ours needs, and those that hold `trusted` types.
    """
    pins = trust.pins(folder)
    if all(trust.version_of(pin.partition("==")[0]) == pin.partition("==")[2] for pin in pins):
        return sys.executable, "its pinned packages, which are those here"
    packages = metadata.packages_distributions()
    vouched = [packages.get(name.partition(".")[0], []) for name in trusted]
    known = {*trust.PACKAGES, *trust.OF_NETWORKS, *itertools.chain(*vouched)}
    for pin in pins:
        match = PIN.fullmatch(pin)
        if not match or match[1] not in known:
            raise WorkbookError(
                f"{folder}: it pins '{pin[:100]}', which is no NAME==VERSION of {', '.join(sorted(known))}: "
                "not installed."
            )
        if match[1] == "skops" and _numbers(match[2]) < SAFE:
            raise WorkbookError(
                f"{folder}: it pins {pin}, whose files could run code as they are loaded: not installed."
            )
    return str(_built(pins)), "its pinned packages, in an environment of their own"


def variables(python: str | Path) -> dict[str, str]:
    """The environment variables for the interpreter `python`: another one is not led to the packages of this one."""
    inherited = dict(os.environ)
    if str(python) != sys.executable:
        for name in LEADING:
            inherited.pop(name, None)
    return inherited


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a `version`, to be compared: (0, 13) of 0.13.0rc1."""
    return tuple(int(n) for n in re.findall(r"(?:^|\.)(\d+)", version)[:2])


def _built(pins: Sequence[str]) -> Path:
    """The Python of an environment with exactly `pins`, made once and kept in .cache."""
    from filelock import (  # which such an environment, where this module runs too, need not have
        FileLock,
    )

    name = hashlib.sha256("\n".join([sys.version, *sorted(pins)]).encode()).hexdigest()[:16]
    folder = paths.ROOT / ".cache" / "environments" / name
    python, complete = folder / "bin" / "python", folder / "complete"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # whoever comes second waits for the first
        if complete.exists():
            return python
        click.echo(
            "the model pins other packages: making their environment (minutes, once)", err=True
        )
        venv = [sys.executable, "-m", "venv", "--clear", str(folder)]
        pip = [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:"]
        pip += ["--disable-pip-version-check", "--no-compile"]  # most of it is never imported
        for command in (venv, [*pip, *pins]):
            made = subprocess.run(
                command, env=variables(python), capture_output=True, text=True, check=False
            )
            if made.returncode:
                lines = made.stderr.strip().splitlines() or ["no word"]
                raise WorkbookError(f"the model's packages cannot be installed: {lines[-1]}")
        complete.touch()
        return python


def main() -> None:
    """Be the process: its arguments are those of `printed`."""
    try:
        printed(*sys.argv[1:])
    except WorkbookError as error:
        sys.exit(error.message)


def printed(folder: str, digest: str, timed: str, *trusted: str) -> None:
    """Print one JSON object: the answers for the model's example, seconds to load, where `timed` p95_ms of one row."""
    started = time.perf_counter()
    loaded = trust.load(folder, trusted, digest)
    seconds = time.perf_counter() - started
    if loaded.example is None:
        raise WorkbookError(f"{folder}: no example was saved with it; save it by models.log.")
    answers = np.asarray(loaded.answers(loaded.example)).tolist()
    reproduced: Reproduced = {"answers": answers, "seconds": seconds}
    if int(timed):
        one = loaded.example.head(1)
        reproduced["p95_ms"] = float(np.median([_late(loaded, one) for _ in range(ROUNDS)]))
    print(json.dumps(reproduced))


def _late(loaded: trust.Loaded, one: pd.DataFrame) -> float:
    """The ms of the processor within which 95 of TIMES answers come: a wait for a busy machine does not count."""
    taken = []
    for _ in range(TIMES):
        started = time.process_time()
        loaded.answers(one)
        taken.append(1000 * (time.process_time() - started))
    return float(np.percentile(taken, 95))


if __name__ == "__main__":
    main()
