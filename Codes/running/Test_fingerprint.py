"""A run's fingerprint: what changes it, what does not, and the runs that it saves."""

import json
import shutil

import nbformat
import pytest

from Codes import parameters
from Codes.errors import WorkbookError
from Codes.paths import DATA, NOTEBOOKS, PROBLEMS
from Codes.running import fingerprint
from Codes.running.testbed import check_nothing_left, wait_for, write_notebook

CELL = "import helper\nprint(helper.x, seed)"


@pytest.fixture(name="notebook")
def fixture_notebook(tmp_path):
    """A notebook that imports a module beside it, and takes a table's path."""
    (tmp_path / "helper.py").write_text("import deeper\nx = 1", "utf-8")
    (tmp_path / "deeper.py").write_text("y = 1", "utf-8")
    (tmp_path / "table.csv").write_text("a\n1\n", "utf-8")
    declared = "seed: int = 0  # random state\ntable: str = 'table.csv'"
    return write_notebook(tmp_path / "n.ipynb", CELL, parameters=declared)


def parts(path, **given):
    """The parts of a run of the notebook at `path` with the values `given`."""
    nb = nbformat.read(path, as_version=4)
    return fingerprint.parts(nb, path, parameters.check(parameters.of(nb), given))


def test_the_parts_name_what_determines_a_run(notebook):
    found = parts(notebook)
    names = {"the notebook's code", "the parameters", "the environment"}
    assert set(found) == names | {"helper.py", "deeper.py", "table.csv"}
    assert found == parts(notebook)


def change_code(path):
    """Another line of code."""
    write_notebook(path, CELL + "\nprint()", parameters="seed: int = 0\ntable: str = 'table.csv'")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (change_code, "the notebook's code"),
        (lambda path: path.with_name("helper.py").write_text("import deeper\nx = 22"), "helper.py"),
        (lambda path: path.with_name("deeper.py").write_text("y = 22"), "deeper.py"),
        (lambda path: path.with_name("table.csv").write_text("a\n22\n"), "table.csv"),
    ],
)
def test_a_change_of_each_part_is_told_by_its_name(notebook, change, part):
    before = parts(notebook)
    change(notebook)
    assert fingerprint.differences(before, parts(notebook)) == [f"{part} changed"]


def test_parameters_count_by_their_value_not_by_who_gave_them(notebook):
    assert parts(notebook, seed=0) == parts(notebook)
    assert fingerprint.differences(parts(notebook), parts(notebook, seed=1)) == [
        "the parameters changed"
    ]


def test_prose_outputs_and_other_defaults_do_not_count(notebook):
    before = parts(notebook, seed=3)
    nb = nbformat.read(notebook, as_version=4)
    nb.cells[0].source = nb.cells[0].source.replace("= 0", "= 7")
    nb.cells.insert(0, nbformat.v4.new_markdown_cell("# Words"))
    nb.cells[-1].execution_count = 5
    nbformat.write(nb, notebook)
    assert parts(notebook, seed=3) == before


def test_what_else_the_parameters_cell_does_counts(notebook):
    before = parts(notebook)
    nb = nbformat.read(notebook, as_version=4)
    nb.cells[0].source += "\nimport os"
    nbformat.write(nb, notebook)
    assert fingerprint.differences(before, parts(notebook)) == ["the notebook's code changed"]


def test_a_problem_stands_for_its_file_and_its_table(tmp_path):
    path = NOTEBOOKS / "02_train.ipynb"
    found = parts(path, problem="flights")
    assert {"Resources/problems/flights.yaml", "Resources/data/flights.parquet"} <= set(found)
    assert "Codes/models.py" in found and "Codes/tables.py" in found  # reached over data
    assert not any(name.startswith("Codes/running") for name in found)
    own = tmp_path / "own.yaml"
    shutil.copy(PROBLEMS / "flights.yaml", own)
    shutil.copy(DATA / "flights.parquet", tmp_path / "t.parquet")
    own.write_text(own.read_text("utf-8").replace("../data/flights", "t"), "utf-8")
    assert "t.parquet" in parts(path, problem=str(own))


def test_another_state_of_a_worker_is_refused_and_told():
    here = {"the parameters": "1", "Codes/a.py": "2"}
    fingerprint.require(here, dict(here), "there")
    fingerprint.require(None, here, "there")
    with pytest.raises(WorkbookError, match="there has another state.*Codes/a.py changed"):
        fingerprint.require(here, here | {"Codes/a.py": "3"}, "there")


def test_a_garbled_tag_is_no_fingerprint(own_store):
    execution = own_store.start("once", "1")
    run = execution.finish().run
    assert fingerprint.parts_of(run)["the parameters"]
    own_store.client.set_tag(run.info.run_id, fingerprint.PARTS, "}{")
    assert not fingerprint.parts_of(own_store.client.get_run(run.info.run_id))


# --- the command


def again(store, first, *options):
    """Run the notebook of the ended execution `first` again with `options`; returns the ended execution."""
    first.output.unlink(missing_ok=True)
    return store.launch(first.name, store.folder / f"{first.name}.ipynb", options=options).finish()


def test_if_changed_skips_what_is_known_and_why_names_what_changed(own_store):
    helper = own_store.folder / "own_helper.py"
    helper.write_text("x = 1", "utf-8")
    code = f"import sys; sys.path.insert(0, {str(own_store.folder)!r})\nimport own_helper"
    first = own_store.start("known", code, "print(own_helper.x)", options=["--if-changed"]).finish()
    assert first.code == 0, first.printed
    run_id = first.run.info.run_id

    second = again(own_store, first, "--if-changed")
    assert second.code == 0 and f"unchanged since the run {run_id}: skipped" in second.printed
    assert len(first.runs) == 1

    other = again(own_store, first, "--if-changed", "--why", "-p", "seed", "5")
    assert other.code == 0 and "no finished run of known has these parameters" in other.printed
    assert len(first.runs) == 2

    helper.write_text("x = 22", "utf-8")
    third = again(own_store, first, "--why")
    assert third.code == 0 and f"own_helper.py changed since the run {run_id}" in third.printed
    assert len(first.runs) == 3
    assert again(own_store, first, "--if-changed", "--force").code == 0 and len(first.runs) == 4
    assert again(own_store, first).code == 0 and len(first.runs) == 5


def test_a_failed_run_is_no_reason_to_skip(own_store):
    first = own_store.start("fails", "1/0").finish()
    assert first.code == 1
    assert again(own_store, first, "--if-changed").code == 1 and len(first.runs) == 2


def test_a_notebook_that_reads_runs_is_due_when_there_are_new_ones(own_store):
    reads = "from Codes import tracking\nlen(tracking.runs('reads'))"
    first = own_store.start("reads", reads).finish()
    assert again(own_store, first, "--if-changed").code == 0
    assert len(first.runs) == 1, "its own runs do not count"
    assert own_store.start("other", "1", options=["--experiment", "reads"]).finish().code == 0
    third = again(own_store, first, "--why")
    assert "runs changed since the run" in third.printed, third.printed


def test_a_part_of_the_lifecycle_is_skipped(own_store):
    assert json.loads(json.dumps(fingerprint.tags({"a": "b"})))
    first = own_store.start("skip", "open('made', 'a').write('x')").finish()
    wait_for((first.folder / "made").exists)
    assert again(own_store, first, "--if-changed").code == 0
    assert (first.folder / "made").read_text("utf-8") == "x"
    check_nothing_left(first)
