"""Proof with notebooks that we did not write: papermill's own test suite, under its engine and under ours.

    make proof

fetches the source distribution of the installed papermill (its hash is in requirements.txt), runs
its tests around executing and each of its notebooks with both engines, and fails on a difference
that is not explained here. It needs the network, so `make test` leaves it out.
As a pytest plugin, this module makes our engine papermill's default.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import papermill
from nbformat import NotebookNode

from Codes.ground.paths import ROOT

NEEDS_NETWORK = 75  # the exit status that systems use for 'try again later'
TESTS = ["execute", "autosave", "clientwrap", "engines", "iorw", "parameterize", "inspect", "cli"]
UNKNOWN = "a parameter that the notebook does not declare is refused"
UNTAGGED = "parameters for a notebook without a parameters cell are refused"
STOPPED = "sys.exit() half-way is a failure: not every cell ran"
INSIDE = (
    "the test replaces a part inside papermill's engine or file access, which ours does not use"
)
BY_THE_CLOCK = (
    "saved by the clock, which starts with the kernel, and not at each cell: one save more"
)
EARLIER = "both refuse it; ours in one line, before a run is opened and a kernel started"
SHOWN = (
    "the cell shows its error, which IPython itself only prints, and papermill's own error tells it"
)
VARYING = r"\rExecuting.*|\[IPKernelApp\].*\n"  # a notebook that itself runs papermill
BY_DESIGN = {
    "TestNotebookHelpers.test_backslash_params": UNKNOWN,
    "TestNotebookHelpers.test_backslash_quote_params": UNKNOWN,
    "TestNotebookHelpers.test_double_backslash_quote_params": UNKNOWN,
    "TestNotebookHelpers.test_no_tags": UNTAGGED,
    "TestMinimalNotebook.test_no_v3_language_backport": UNTAGGED,
    "TestNotebookValidation.test_from_version_4_4_upgrades": "a text for an int parameter is refused",
    "TestSysExit.test_sys_exit": STOPPED,
    "TestSysExit.test_sys_exit0": STOPPED,
    "TestSysExit.test_system_exit": STOPPED,
    "TestNotebookHelpers.test_start_timeout": INSIDE,
    "TestNotebookHelpers.test_default_start_timeout": INSIDE,
    "TestLocalHandler.test_write_local_directory": INSIDE,
    "TestMidCellAutosave.test_end2end_autosave_slow_notebook": BY_THE_CLOCK,
    "blank-vscode.ipynb": EARLIER,
    "line_magic_error.ipynb": SHOWN,
    "notimplemented_translator.ipynb": EARLIER,
    "complex_parameters.ipynb": EARLIER,
    "sysexit.ipynb": STOPPED,
    "sysexit0.ipynb": STOPPED,
    "systemexit.ipynb": STOPPED,
}


def pytest_configure(config: Any) -> None:
    """Make our engine papermill's default, where the variable PROOF_ENGINE asks for it."""
    del config
    if name := os.environ.get("PROOF_ENGINE"):
        engines = papermill.engines.papermill_engines
        engines.register(None, engines.get_engine(name))


def main():
    """Compare, print each difference with its reason, and exit with 1 if one has none."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "sdist", nargs="?", help="papermill's source distribution; default: fetched"
    )
    sdist = parser.parse_args().sdist
    with tempfile.TemporaryDirectory(prefix="workbook-proof-") as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        source = unpack(Path(sdist) if sdist else fetch(folder), folder)
        good = compare("tests", suite(source, ""), suite(source, "mlflow"))
        good &= compare("notebooks", notebooks(source, None), notebooks(source, "mlflow"))
    sys.exit(0 if good else 1)


def fetch(folder: str) -> Path:
    """The downloaded source distribution of the installed papermill, checked against requirements.txt."""
    pinned = re.search(r"^papermill==(?:.*\\\n)*.*", (ROOT / "requirements.txt").read_text(), re.M)
    assert pinned is not None
    wanted = Path(folder, "papermill.txt")
    wanted.write_text(pinned[0], "utf-8")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
    ]
    command += ["--no-binary=papermill", "--require-hashes", "-d", folder, "-r", wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"skipped: papermill's source distribution cannot be fetched: {done.stderr[-300:]}")
        sys.exit(NEEDS_NETWORK)
    return next(Path(folder).glob("papermill-*.tar.gz"))


def unpack(sdist: Path, folder: str) -> Path:
    """The folder of the unpacked `sdist`."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in Path(folder).glob("papermill-*") if path.is_dir())


def suite(source: Path, engine: str) -> dict[str, str]:
    """{test: outcome} of papermill's tests, with our `engine` as the default or with its own ('')."""
    report = source / "report.xml"
    files = [f"papermill/tests/test_{name}.py" for name in TESTS]
    quiet = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull, "--rootdir=."]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            __spec__.name,
            *quiet,
            f"--junitxml={report}",
            *files,
        ],
        cwd=source,
        env=os.environ | {"PROOF_ENGINE": engine, "PYTHONPATH": f"{source}{os.pathsep}{ROOT}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    cases = ElementTree.parse(report).iter("testcase")
    return {
        f"{c.get('classname', '').rpartition('.')[2]}.{c.get('name')}": outcome(c) for c in cases
    }


def outcome(case: ElementTree.Element) -> str:
    """How a test ended: passed, failure, error or skipped."""
    return next((part.tag for part in case if not part.tag.startswith("system")), "passed")


def notebooks(source: Path, engine: str | None) -> dict[str, Any]:
    """{notebook: what executing it with `engine` gave} of all that papermill ships for its tests."""
    folder = source / "papermill" / "tests" / "notebooks"
    return {path.name: executed(path, engine) for path in sorted(folder.glob("*.ipynb"))}


def executed(path: Path, engine: str | None) -> tuple[Any, list]:
    """The error, if any, and each cell's number and outputs after the execution of the notebook `path`."""
    output = path.with_suffix(".executed.ipynb")
    try:
        papermill.execute_notebook(
            path, output, engine_name=engine, progress_bar=False, cwd=path.parent
        )
        error = None
    except Exception as caught:  # pylint: disable=broad-exception-caught
        error = (type(caught).__name__, getattr(caught, "ename", str(caught)))
    if not output.exists():
        return error, []
    made: Any = papermill.iorw.load_notebook_node(str(output))
    output.unlink()
    return error, [(c.cell_type, c.source, c.get("execution_count"), shown(c)) for c in made.cells]


def shown(cell: NotebookNode) -> tuple[list, list]:
    """What `cell` has put out, without what differs from time to time: printed text in one piece."""
    parts: dict[str, str] = {}
    outputs: list[tuple] = []
    for part in cell.get("outputs", []):
        if part.output_type == "stream":
            parts[part.name] = parts.get(part.name, "") + re.sub(VARYING, "", part.text)
        else:
            outputs.append(
                (part.output_type, part.get("data"), part.get("ename"), part.get("evalue"))
            )
    return sorted(parts.items()), outputs


def compare(what: str, theirs: dict[str, Any], ours: dict[str, Any]) -> bool:
    """Whether each difference between `theirs` and `ours` is by design; prints them all."""
    different = [name for name in theirs if theirs[name] != ours.get(name)]
    print(
        f"{what}: {len(theirs) - len(different)} of {len(theirs)} are the same under both engines"
    )
    for name in different:
        print(
            f"  {name}: {BY_DESIGN.get(name, f'UNEXPLAINED: {theirs[name]!r} / {ours.get(name)!r}')}"
        )
    return len(theirs) > 0 and set(different) <= set(BY_DESIGN)


if __name__ == "__main__":
    main()
