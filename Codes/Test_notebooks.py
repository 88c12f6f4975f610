"""The notebooks' style, over whatever notebooks there are: small cells, prose, an interface, no leftovers."""

import ast

import nbformat
import pytest
import yaml

from Codes.ground.paths import NOTEBOOKS, ROOT
from Codes.notebook_files.parameters import of as parameters_of

FILES = sorted(NOTEBOOKS.glob("*.ipynb"))
# the workbook's own; yours may look as you like until it has an entry point, too
ENTRY_POINTS = yaml.safe_load((ROOT / "MLproject").read_text("utf-8"))["entry_points"]
OWN = [path for path in FILES if path.stem.partition("_")[2] in ENTRY_POINTS]
PINNED = {"nbval-check-output", "keep_output"}
every = pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)


def cells(path, kind="code"):
    """The cells of one kind in the notebook at `path`."""
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


def tags(cell):
    """The tags of `cell`, as a set."""
    return set(cell.metadata.get("tags", []))


def test_there_are_notebooks():
    assert len(OWN) >= 6


@every
def test_a_code_cell_has_at_most_ten_lines(path):
    assert not [c.id for c in cells(path) if len(c.source.splitlines()) > 10]


@every
def test_a_code_cell_ends_in_something_displayed(path):
    code = [c for c in cells(path) if "parameters" not in tags(c)]
    assert not [c.id for c in code if not isinstance(ast.parse(c.source).body[-1], ast.Expr)]


@every
def test_no_function_or_class_is_defined(path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    trees = {c.id: ast.parse(c.source) for c in cells(path)}
    assert not [i for i, tree in trees.items() if any(isinstance(n, kinds) for n in ast.walk(tree))]


@every
def test_one_cell_holds_the_parameters_each_with_a_type_and_a_help(path):
    notebook = nbformat.read(path, as_version=4)
    assert len([c for c in notebook.cells if "parameters" in tags(c)]) == 1
    declared = parameters_of(notebook, path)
    assert declared and all(p.type and p.help for p in declared)


@every
def test_the_run_is_opened_in_the_cell_after_the_parameters(path):
    code = cells(path)
    position = next(i for i, c in enumerate(code) if "parameters" in tags(c))
    assert "tracking.start_run()" in code[position + 1].source


@every
def test_it_opens_with_why_reads_writes_and_takes_and_closes_with_the_next_link(path):
    prose = [c.source for c in cells(path, "markdown")]
    assert all(word in prose[0] for word in ("**Reads**", "**Writes**", "**Takes**"))
    assert any("## What was learned" in text for text in prose[-2:]) and ".ipynb)" in prose[-1]


@pytest.mark.parametrize("path", [p for p in OWN if p.stem < "06"], ids=lambda path: path.stem)
def test_what_was_learned_is_a_finding_in_the_runs_own_numbers_and_leaves_something_to_try(path):
    *_, heading, finding, end = nbformat.read(path, as_version=4).cells
    assert "## What was learned" in heading.source and "**Exercise.**" in end.source
    assert "finding(" in finding.source or "standing(" in finding.source


@every
def test_the_links_lead_to_notebooks_that_are_there(path):
    linked = {
        part.partition(")")[0]
        for cell in cells(path, "markdown")
        for part in cell.source.split("](")[1:]
        if ".ipynb" in part.partition(")")[0]
    }
    assert not [name for name in linked if not (NOTEBOOKS / name).is_file()]


@every
def test_it_is_about_fifteen_cells_of_code_and_the_prose_between(path):
    assert 4 <= len(cells(path)) <= 16


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_only_pinned_cells_keep_outputs(path):
    assert not [c.id for c in cells(path) if c.outputs and not PINNED <= tags(c)]
    assert not [c.id for c in cells(path) if PINNED & tags(c) and not c.outputs]


@every
def test_no_path_is_relative_and_no_import_is_tricked(path):
    source = "\n".join(c.source for c in cells(path))
    assert not [word for word in ("sys.path", "os.chdir", '"../', "'../", "%cd") if word in source]
