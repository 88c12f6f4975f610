"""Whichever way a notebook is run, what is recorded is what happened."""

import json

import nbformat
import pytest

from Codes.testing.cases import sampled
from Codes.testing.testbed import PAPERMILL, SWEEP, WORKBOOK, check_nothing_left, write_notebook

COURSE = [  # as jupytext writes them: no ids, outputs empty, a kernel without its language
    {"cell_type": "markdown", "metadata": {}, "source": ["# A lesson\n"]},
    {
        "cell_type": "code",
        "metadata": {"tags": ["parameters"]},
        "source": ["x: int = 1  # a number"],
    },
    {
        "cell_type": "code",
        "metadata": {},
        "source": ["import mlflow\n", "mlflow.log_metric('y', x)"],
    },
]
EMPTY = {"execution_count": None, "outputs": []}
NAMED = {"jupytext": {"main_language": "python"}, "kernelspec": {"name": "python3"}}
NAMED["kernelspec"]["display_name"] = "Python 3"


def course(path, metadata):
    """Write the lesson with this `metadata` to `path`, as jupytext does; returns it."""
    cells = [c | EMPTY if c["cell_type"] == "code" else c for c in COURSE]
    form = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(form), "utf-8")
    return path


def test_a_notebook_without_language_ids_or_kernel_runs_in_every_way(store):
    named = course(store.folder / "course.ipynb", NAMED)
    bare = course(store.folder / "bare.ipynb", {})
    before = named.read_bytes() + bare.read_bytes()
    started = [
        store.launch("by_name", named, WORKBOOK, ["-p", "x", "3", "--cold"]),
        store.launch("by_none", bare, WORKBOOK, ["-p", "x", "3"]),
        store.launch("by_papermill", bare, PAPERMILL),
        store.launch("by_sweep", bare, SWEEP, ["-v", "x=1,3", "--metric", "y:maximize"]),
    ]
    for execution in started:
        assert execution.finish().code == 0, execution.printed
        assert "Warning" not in execution.printed, execution.printed
        for run in execution.runs:
            assert run.info.status == "FINISHED"
        wanted = 1 if execution.name == "by_papermill" else 3
        assert wanted in {run.data.metrics.get("y") for run in execution.runs}
    check_nothing_left(started[0])
    assert named.read_bytes() + bare.read_bytes() == before


RAISING = "from IPython import get_ipython\ntry:\n    1/0\nexcept ZeroDivisionError:\n    get_ipython().showtraceback()"


@pytest.mark.parametrize("command", sampled([WORKBOOK, PAPERMILL], PAPERMILL))
def test_an_error_that_is_expected_or_only_shown_ends_neither_run_nor_command(store, command):
    execution = store.launch(f"expected_{command}", expecting(store.folder / "e.ipynb"), command)
    assert execution.finish().code == 0, execution.printed
    run = check_nothing_left(execution)
    assert run.info.status == "FINISHED" and run.data.metrics["after"] == 1
    facts = nbformat.read(execution.output, as_version=4)
    assert not facts.metadata.papermill.exception
    assert [o.output_type for c in facts.cells for o in c.get("outputs", [])] == ["error"] * 2


def expecting(path):
    """Write a notebook with a cell that may raise, and one that only shows an error; returns its path."""
    write_notebook(path, "1/0", RAISING, "import mlflow; mlflow.log_metric('after', 1)")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata["tags"] = ["raises-exception"]
    nbformat.write(notebook, path)
    return path


BESIDE = """
import mlflow, sibling
mlflow.log_metric("y", sibling.VALUE + float(open(path).read()))
open("made.txt", "w").write("x")
"""


def test_a_notebook_finds_and_leaves_its_files_beside_itself_wherever_it_is_run_from(store):
    folder = store.folder_of("home")
    (folder / "sibling.py").write_text("VALUE = 1", "utf-8")
    (folder / "data.txt").write_text("2", "utf-8")
    (store.folder_of("typed") / "other.txt").write_text("3", "utf-8")
    given = "path: str = 'data.txt'\nx: int = 0"
    source = write_notebook(folder / "beside.ipynb", BESIDE, parameters=given)
    swept = ["-v", "x=1,2", "--metric", "y:maximize"]
    started = [
        store.launch("plain", source, WORKBOOK),
        store.launch("swept", source, SWEEP, swept),
        store.launch("elsewhere", source, PAPERMILL, ["--cwd", "."]),
        store.launch("typed", source, WORKBOOK, ["-p", "path", "other.txt"]),
    ]
    plain, sweep, elsewhere, typed = [execution.finish() for execution in started]
    assert (plain.code, sweep.code) == (0, 0), plain.printed + sweep.printed
    assert {run.data.metrics.get("y") for run in plain.runs + sweep.runs} >= {3}
    assert (folder / "made.txt").exists() and not list(store.folder.glob("*_folder/made.txt"))[1:]
    assert elsewhere.code == 1 and "No module named 'sibling'" in elsewhere.printed
    assert typed.code == 1 and "for the file here give ../typed_folder/other.txt" in typed.printed
