"""Notebooks as Jupyter, jupytext and older tools write them are read, and tell their kernel and language."""

import json
import warnings

import nbformat
import pytest
from papermill.translators import papermill_translators

from Codes.ground.errors import WorkbookError
from Codes.notebook_files import notebook_file
from Codes.running import runner

CELL = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": "1"}
OLD = {"cell_type": "code", "language": "python", "collapsed": False, "metadata": {}}
OLD |= {"input": ["1"], "outputs": []}


def written(folder, metadata, **parts):
    """The path of a notebook of one cell in `folder` with this `metadata`; `parts` replace its own."""
    form = {"cells": [CELL], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path = folder / "n.ipynb"
    path.write_text(json.dumps(form | parts), "utf-8")
    return path


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"cells": [CELL | {"id": "same"}, CELL | {"id": "same"}]},
        {"nbformat_minor": 0},
        {"nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": [OLD], "metadata": {}}]},
    ],
)
def test_every_form_is_read_in_silence_into_the_newest_and_stays_as_it_is(tmp_path, parts):
    path = written(tmp_path, {}, **parts)
    before = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notebook = notebook_file.read(path)
        nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids) > 0 and notebook.cells[0].source == "1"
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5) and path.read_bytes() == before


@pytest.mark.parametrize(
    "metadata, kernel, language",
    [
        ({}, "python3", "python"),
        ({"kernelspec": {"name": "python3", "display_name": "Python 3"}}, "python3", "python"),
        ({"kernelspec": {"name": "python", "display_name": "P"}}, "python3", "python"),
        ({"language_info": {"name": "R"}}, None, "R"),
        ({"jupytext": {"main_language": "R"}}, None, "R"),
        ({"kernelspec": {"name": "ir", "language": "R", "display_name": "R"}}, "ir", "R"),
        ({"kernelspec": {"name": "gone", "display_name": "gone"}}, "gone", None),
    ],
)
def test_a_kernel_and_a_language_are_known_where_the_notebook_does_not_say(
    tmp_path, metadata, kernel, language
):
    notebook = notebook_file.read(written(tmp_path, metadata))
    assert notebook_file.kernel_of(notebook) == kernel
    assert notebook_file.language_of(notebook, kernel) == language


def test_papermill_writes_parameters_in_the_languages_as_they_are_spelt(tmp_path):
    for name in ("R", "r", "Python", "bash", "Scala", "Julia"):
        notebook = notebook_file.read(written(tmp_path, {"language_info": {"name": name}}))
        language = notebook_file.language_of(notebook, None)
        assert papermill_translators.find_translator("some kernel", language), name


def test_parameters_in_a_language_that_papermill_does_not_write_are_one_line(tmp_path):
    path = written(tmp_path, {"language_info": {"name": "rust"}})
    with pytest.raises(WorkbookError, match="is in rust, in which papermill writes no parameters"):
        runner.run(path, {"x": 1}, None, kernel="python3")
