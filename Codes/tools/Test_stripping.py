"""Notebooks are committed stripped but for the cells that nbval pins, and without secrets."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from Codes.tools import stripping

SHOWN = [new_output("stream", text="2\n")]
PIN = {"tags": sorted(stripping.PINNED)}


@pytest.fixture(name="write")
def a_writer(tmp_path: Path):
    """Write a notebook with one cell; gives its path."""

    def write(kernel: str = "python3", **cell) -> Path:
        notebook = new_notebook(cells=[new_code_cell("print(2)", **cell)])
        notebook.metadata["kernelspec"] = {
            "name": kernel,
            "display_name": "x",
            "language": "python",
        }
        path = tmp_path / "a.ipynb"
        nbformat.write(notebook, path)
        return path

    return write


def check(path: Path, *options: str) -> int:
    """The exit code for the notebook's folder."""
    return stripping.main([*options, str(path.parent)])


@pytest.mark.parametrize(
    "cell", [{"outputs": SHOWN}, {"execution_count": 3}, {"metadata": {"execution": {}}}]
)
def test_outputs_and_counts_are_refused_then_stripped(write, cell: dict):
    path = write(**cell)
    assert check(path) == 1
    assert check(path, "--fix") == 0 and check(path) == 0
    left = nbformat.read(path, as_version=4).cells[0]
    assert (
        left.outputs == []
        and left.execution_count is None
        and not left.metadata
        and left.source == "print(2)"
    )


def test_a_pinned_cell_keeps_its_output_and_count(write):
    path = write(outputs=SHOWN, execution_count=1, metadata=PIN)
    before = path.read_bytes()
    assert check(path, "--fix") == 0 and path.read_bytes() == before


def test_a_pinned_cell_that_was_not_run_is_refused(write):
    assert check(write(metadata=PIN), "--fix") == 1


@pytest.mark.parametrize("tag", sorted(stripping.PINNED))
def test_half_a_pin_is_refused(write, tag: str):
    cell = {"outputs": SHOWN, "execution_count": 1, "metadata": {"tags": [tag]}}
    assert check(write(**cell)) == 1


def test_a_kernel_of_one_persons_machine_is_refused(write, capsys):
    assert check(write(kernel="my-env")) == 1
    assert "my-env" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, refused",
    [("accuracy 0.93\n", False), ("key = 'AKIA" + "IOSFODNN7EXAMPLF'\n", True)],
)
def test_a_secret_in_an_output_is_refused(write, text: str, refused: bool):
    output = [new_output("stream", text=text)]
    path = write(outputs=output, execution_count=1, metadata=PIN)
    hook = Path(sys.executable).with_name("detect-secrets-hook")
    command = [hook, "--exclude-lines", r'^\s*"id": ', path]
    assert (subprocess.run(command, check=False, capture_output=True).returncode != 0) is refused
