"""A run's fingerprint: what changes it, what does not, and the runs that it saves."""

import json
import os
import re
import shutil
import sys

import mlflow
import nbformat
import pytest

from Codes.fingerprints import fingerprint
from Codes.ground.errors import WorkbookError
from Codes.ground.paths import DATA, NOTEBOOKS, PROBLEMS, ROOT
from Codes.model_registry import promotion
from Codes.notebook_files import parameters
from Codes.runs import identity, tracking
from Codes.testing.testbed import check_nothing_left, wait_for, write_notebook

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
    names = {"the notebook's code", "the parameters", "the environment", "the notebook's place"}
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


@pytest.mark.parametrize(
    "line",
    ["import os", "cfg['depth'] = 3", "os.environ['A'] = '1'", "a, b = f(), 1", "if seed: x = 2"]
    + ["%load_ext x", "seed *= 2"],
)
def test_what_else_the_parameters_cell_does_counts(notebook, line):
    nb = nbformat.read(notebook, as_version=4)
    nb.cells[0].source += "\ncfg = {}"
    nbformat.write(nb, notebook)
    before = parts(notebook)
    nb.cells[0].source += f"\n{line}"
    nbformat.write(nb, notebook)
    assert "the notebook's code changed" in fingerprint.differences(before, parts(notebook))


def test_unpacked_values_are_parameters(notebook):
    def with_high(high):
        write_notebook(notebook, CELL, parameters=f"seed = 0\nlow, high = 0, {high}")
        return parts(notebook)

    assert fingerprint.differences(with_high(10), with_high(99)) == ["the parameters changed"]


def test_a_default_that_is_changed_is_not_the_same_value_given(notebook):
    write_notebook(notebook, "1", parameters="rows = 5\ndebug = True\nif debug:\n    rows = 100")
    assert parts(notebook) != parts(notebook, rows=5)


def test_a_copy_elsewhere_is_another_notebook_and_a_checkout_elsewhere_is_not(notebook, tmp_path):
    other = tmp_path / "copy"
    shutil.copytree(notebook.parent, other, ignore=lambda *_: {"copy"})
    found = fingerprint.differences(parts(notebook), parts(other / notebook.name))
    assert found == ["the notebook's place changed"]
    assert fingerprint.located(NOTEBOOKS / "02_train.ipynb") == "notebooks/02_train.ipynb"


def test_another_kernel_is_told_and_its_packages_cannot_be_known(notebook):
    nb = nbformat.read(notebook, as_version=4)
    values = parameters.check(parameters.of(nb), {})
    own = fingerprint.parts(nb, notebook, values, "workbook")
    assert own == parts(notebook)
    other = fingerprint.differences(own, fingerprint.parts(nb, notebook, values, "other"))
    assert other[0] == "the kernel new" and "the packages of the kernel other" in other[1]


def test_what_cannot_be_known_is_like_nothing_but_in_its_own_sweep(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", "import requests\nrequests.get(address)")
    nb = nbformat.read(path, as_version=4)

    def now(scope=None):
        return fingerprint.parts(nb, path, {"seed": 0}, scope=scope)

    told = fingerprint.differences(now(), now())
    assert told == ["what cannot be known (cell 2: requests.get(address))"]
    assert now("sweep") == now("sweep") != now("another")


@pytest.mark.parametrize(
    ("default", "is_known"),
    [
        ("os.path.join('a', 'b')", True),
        ("date.today()", False),
        ("f(3)", False),
        ("seed * 2", True),
    ],
)
def test_a_default_that_is_another_each_time_cannot_be_known(tmp_path, default, is_known):
    path = write_notebook(tmp_path / "n.ipynb", "1", parameters=f"seed = 1\nwhen = {default}")
    assert (parts(path) == parts(path)) == is_known
    assert parts(path, when="x") == parts(path, when="x")


def test_environment_variables_that_are_read_count_and_secrets_only_by_being_set(
    notebook, monkeypatch
):
    write_notebook(notebook, "import os\nos.environ['OWN_MODE'], os.getenv('OWN_TOKEN')")

    def now(mode, token):
        monkeypatch.setenv("OWN_MODE", mode)
        monkeypatch.setenv("OWN_TOKEN", token)
        return parts(notebook)

    before = now("a", "b")
    assert now("a", "c") == before
    assert fingerprint.differences(before, now("c", "b")) == ["the variable OWN_MODE changed"]
    monkeypatch.delenv("OWN_TOKEN")
    assert "the variable OWN_TOKEN changed" in fingerprint.differences(before, parts(notebook))


REACHED = [
    ("%run script.py", "script.py"),
    ("%run script", "script.py"),
    ("!python script.py --fast", "script.py"),
    ("exec(open('script.py').read())", "script.py"),
    ("import importlib\nimportlib.import_module('script')", "script.py"),
    ("import importlib\nimportlib.import_module(name)", "script.py"),
    ("make(dotted)", "script.py"),
    ("%load_ext script", "script.py"),
    ("%%time\nimport script", "script.py"),
    ("files = !ls\nimport script", "script.py"),
    ("import sys\nsys.path.insert(0, 'below')\nimport inner", "inner.py"),
    ("import script", "far.py"),
    ("import pandas as pd\npd.read_csv('t.csv')", "t.csv"),
    ("from pathlib import Path\n(Path('below') / 't2.csv').read_text()", "t2.csv"),
    ("import script\nscript.load('t.csv')", "t.csv"),
    ("from IPython.display import Image\nImage('t.csv')", "t.csv"),
    ("import glob\nfor f in glob.glob('below/*.csv'):\n    open(f)", "t2.csv"),
]


@pytest.mark.parametrize(("code", "name"), REACHED)
def test_files_that_the_code_reaches_count(tmp_path, code, name):
    (tmp_path / "below").mkdir()
    for file in ("below/inner.py", "far.py", "t.csv", "below/t2.csv"):
        (tmp_path / file).write_text("1", "utf-8")
    (tmp_path / "script.py").write_text("import far\ndef load(path): return open(path)", "utf-8")
    declared = "name: str = 'script'\ndotted: str = 'script.Model'"
    path = write_notebook(tmp_path / "n.ipynb", code, parameters=declared)
    file = next(tmp_path.rglob(name))
    told = changed(path, file, file.read_text("utf-8") + "\n2")
    assert any(name in part for part in told), told


def test_a_problem_stands_for_its_file_and_its_table(tmp_path):
    path = NOTEBOOKS / "02_train.ipynb"
    found = parts(path, problem="flights")
    assert {"Resources/problems/flights.yaml", "Resources/data/flights.parquet"} <= set(found)
    assert (
        "Codes/modeling/models.py" in found and "Codes/tables/reader.py" in found
    )  # reached over data
    assert not any(name.startswith("Codes/running") for name in found)
    own = tmp_path / "own.yaml"
    shutil.copy(PROBLEMS / "flights.yaml", own)
    shutil.copy(DATA / "flights.parquet", tmp_path / "t.parquet")
    own.write_text(own.read_text("utf-8").replace("../data/flights", "t"), "utf-8")
    assert "t.parquet" in parts(path, problem=str(own))


def test_the_function_that_a_problem_names_as_its_metric_counts(notebook):
    (notebook.parent / "shop.yaml").write_text("metric: {function: shop_of_test.margin}")
    module = notebook.parent / "shop_of_test.py"
    module.write_text("def margin(): return 1")
    first = parts(notebook, table="shop.yaml")
    module.write_text("def margin(): return 2")
    then = parts(notebook, table="shop.yaml")
    assert [name for name in first if first[name] != then[name]] == ["shop_of_test.py"]


def changed(path, file, text="22", **given):
    """What a change of `file` to `text` changes in the parts of a run of the notebook at `path` with `given`."""
    before = parts(path, **given)
    file.write_text(text, "utf-8")
    return fingerprint.differences(before, parts(path, **given))


@pytest.fixture(name="package")
def fixture_package(tmp_path):
    """A package, whose module is reached by a relative import, beside a notebook that imports it."""
    inner = tmp_path / "own" / "inner"
    inner.mkdir(parents=True)
    (inner.parent / "__init__.py").write_text("from .first import x", "utf-8")
    (inner / "__init__.py").write_text("", "utf-8")
    (inner / "deep.py").write_text(
        "from .. import beside\nfrom ..beside import x\nfrom . import near"
    )
    for file in (inner.parent / "first.py", inner.parent / "beside.py", inner / "near.py"):
        file.write_text("x = 1", "utf-8")
    write_notebook(tmp_path / "n.ipynb", "import own.inner.deep")
    return inner.parent


@pytest.mark.parametrize(
    "name",
    ["__init__", "first", "beside", "inner/__init__", "inner/deep", "inner/near"],
)
def test_a_package_counts_with_all_its_modules_that_are_reached(package, name):
    notebook, file = package.with_name("n.ipynb"), package / f"{name}.py"
    told = changed(notebook, file, file.read_text("utf-8") + "\ny = 2")
    assert len(told) == 1 and told[0].partition(" ")[0] == file.name


@pytest.fixture(name="reading")
def fixture_reading(tmp_path):
    """A notebook that takes any data, and a folder of data beside it."""
    (tmp_path / "parts" / "deep").mkdir(parents=True)
    for name in ("parts/a.csv", "parts/deep/b.csv", "one.csv"):
        (tmp_path / name).write_text("1", "utf-8")
    declared = "data: str = ''\npaths: list = []\nnamed: dict = {}"
    return write_notebook(tmp_path / "n.ipynb", "1", parameters=declared)


def test_a_folder_counts_by_its_files_names_and_content(reading, monkeypatch):
    folder, given = reading.with_name("parts"), {"data": "parts/"}
    for place in ("deep/b.csv", "new.csv"):
        assert changed(reading, folder / place, **given) == ["parts/ changed"]
    before = parts(reading, **given)
    (folder / "a.csv").rename(folder / "c.csv")
    assert fingerprint.differences(before, parts(reading, **given)) == ["parts/ changed"]
    monkeypatch.setattr(fingerprint, "MANY", 3)
    assert not changed(reading, folder / "new.csv", "33", **given), "of many, names and sizes"
    assert changed(reading, folder / "new.csv", "4", **given)


def test_a_folder_has_the_same_digest_elsewhere(reading, tmp_path):
    shutil.copytree(tmp_path / "parts", tmp_path / "elsewhere" / "parts")
    os.mkfifo(tmp_path / "elsewhere" / "parts" / "no file")
    found = [fingerprint.content_digest(tmp_path / n) for n in ("parts", "elsewhere/parts")]
    assert found[0] == found[1] == parts(reading, data="parts")["parts/"]


@pytest.mark.parametrize("text", [".", "..", "/", str(DATA.parent.parent)])
def test_a_folder_around_the_work_is_no_data(reading, text, monkeypatch):
    monkeypatch.chdir(reading.parent)
    assert set(parts(reading, data=text)) == set(parts(reading))


def test_files_in_lists_and_dicts_count(reading):
    one = reading.with_name("one.csv")
    assert changed(reading, one, "2", paths=["x", "one.csv"]) == ["one.csv changed"]
    assert changed(reading, one, "3", named={"a": {"b": ["one.csv"]}}) == ["one.csv changed"]


def test_files_of_the_same_name_are_told_apart(reading, tmp_path):
    given = [tmp_path / name / "one.csv" for name in ("old", "new", "newest")]
    for file in given:
        file.parent.mkdir()
        file.write_text("1", "utf-8")
    names = [str(file) for file in given]
    for file, name in zip(given, ("one.csv", "one.csv (2)", "one.csv (3)")):
        assert changed(reading, file, paths=names) == [f"{name} changed"]


def test_what_many_files_tell_fits_into_a_tag(reading, tmp_path):
    names = [f"{i:0100}.csv" for i in range(100)]
    for name in names:
        (tmp_path / name).write_text("1", "utf-8")
    assert len(fingerprint.tags(parts(reading, paths=names))[fingerprint.PARTS]) < 8000
    assert changed(reading, tmp_path / names[-1], paths=names) == ["the files changed"]


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
    return store.launch(first.name, first.source, options=options).finish()


def test_if_changed_skips_what_is_known_and_why_names_what_changed(own_store):
    helper = own_store.folder_of("known") / "own_helper.py"
    helper.write_text("x = 1", "utf-8")
    first = own_store.start(
        "known", "import own_helper", "print(own_helper.x)", options=["--if-changed"]
    ).finish()
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


def test_the_same_notebook_in_another_experiment_is_due(own_store):
    first = own_store.start("place", "1").finish()
    assert again(own_store, first, "--if-changed", "--experiment", "brandnew").code == 0
    assert len(own_store.runs("brandnew")) == 1
    third = again(own_store, first, "--if-changed", "--experiment", "brandnew")
    assert "unchanged since" in third.printed and len(own_store.runs("brandnew")) == 1


def test_what_cannot_be_known_is_run_and_said(own_store):
    first = own_store.start("outside", "import sqlite3\nsqlite3.connect(':memory:')").finish()
    assert first.process.exitcode == 0, first.printed
    second = again(own_store, first, "--why")
    assert "what cannot be known (cell 2: sqlite3.connect(" in second.printed, second.printed
    assert len(first.runs) == 2


STORED = {fingerprint.STORE, fingerprint.REGISTRY}


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_know_whether_they_read_runs_and_versions(path):
    later = dict.fromkeys(("03_compare", "04_promote", "05_serve", "06_monitor"), STORED)
    codes = fingerprint.code(nbformat.read(path, as_version=4))
    found = fingerprint.what_is_read(codes, fingerprint.modules(path))
    assert found == later.get(path.stem, set())


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from Codes import data, models, plots, tracking\nfrom Codes.stores import store", set()),
        ("from Codes.runs.tracking import runs\nruns('x')", {fingerprint.STORE}),
        ("client.search_runs([])", {fingerprint.STORE}),
        ("from Codes import promotion", STORED),
        ("client.get_model_version_by_alias('x', 'production')", {fingerprint.REGISTRY}),
        ("mlflow.sklearn.load_model('models:/x@production')", {fingerprint.REGISTRY}),
        ("mlflow.sklearn.log_model(m, registered_model_name='x')", set()),
    ],
)
def test_what_is_read_itself_or_through_a_module(tmp_path, code, found):
    (tmp_path / "near.py").write_text(code, "utf-8")
    for source in (code, "import near"):
        path = write_notebook(tmp_path / "n.ipynb", source)
        assert fingerprint.what_is_read([source], fingerprint.modules(path)) == found


@pytest.fixture(name="client")
def fixture_client(own_store, monkeypatch):
    """A client of the store of this process, for one test."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own_store.uri)
    tracking.use_store()
    yield own_store.client
    mlflow.set_tracking_uri(None)


def finished_run(client, **tags):
    """The id of a new finished run with `tags`."""
    run_id = client.create_run("0", tags=tags).info.run_id
    client.set_terminated(run_id)
    return run_id


def test_runs_that_read_runs_keep_no_other_notebook_due(client):
    def now():
        return fingerprint.stored_runs("reads")

    before = now()
    reading = fingerprint.tags({fingerprint.STORE: "1"})
    for tags in ({promotion.GATE: "x/1"}, {identity.NOTEBOOK: "reads"}, reading):
        finished_run(client, **tags)
        assert now() == before, tags
    finished_run(client, **fingerprint.tags({"a": "1"}))
    assert now() != before


def test_a_notebook_of_versions_is_due_when_there_are_new_ones_or_an_alias_is_moved(
    client, tmp_path
):
    path = write_notebook(tmp_path / "n.ipynb", "from Codes import registry")
    seen = [parts(path)]

    def check_changed(*names):
        seen.append(parts(path))
        found = fingerprint.differences(seen[-2], seen[-1])
        assert found == [f"{name} changed" for name in names]

    client.create_registered_model("m")
    check_changed()
    for _ in range(2):
        client.create_model_version("m", str(tmp_path))
        check_changed("the versions")
    for number in "1", "2":
        client.set_registered_model_alias("m", "production", number)
        check_changed("the versions")
    client.set_model_version_tag("m", "1", "stage", "archived")
    check_changed()
    finished_run(client)
    check_changed("the runs")


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_lifecycle_reads_nothing_unknown(path):
    nb = nbformat.read(path, as_version=4)
    values = parameters.check(parameters.of(nb), {})
    helpers, found = fingerprint.reached(nb, fingerprint.code(nb), path, values)
    assert helpers and not found.unknown and not found.variables
    assert not fingerprint.named_files(path.parent, found.files)


def test_a_module_of_codes_is_the_workbooks_once_it_imports_it_and_else_the_users(
    tmp_path, monkeypatch
):
    for file in (ROOT / "Codes").rglob("[a-z]*.py"):
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    reads = "import os\ndef place():\n    return open(os.environ['PLACE'])"
    for name in ("grown", "mine"):
        (tmp_path / f"Codes/{name}.py").write_text(reads, "utf-8")
    with (tmp_path / "Codes/running/engine.py").open("a", encoding="utf-8") as engine:
        engine.write("\n\ndef later():\n    from Codes import (\n        grown,\n    )\n")
    monkeypatch.setattr(fingerprint.paths, "ROOT", tmp_path)
    for name, is_users in (("grown", False), ("mine", True)):
        found = parts(write_notebook(tmp_path / "n.ipynb", f"from Codes.{name} import place"))
        assert f"Codes/{name}.py" in found
        assert ("the variable PLACE" in found) == is_users


def test_a_notebook_that_reads_none_does_not_look_into_the_store(notebook, monkeypatch):
    for name in ("stored_runs", "stored_versions"):
        monkeypatch.setattr(fingerprint, name, None)
    assert parts(notebook) and parts(NOTEBOOKS / "02_train.ipynb")


def test_a_part_of_the_lifecycle_is_skipped(own_store):
    assert json.loads(json.dumps(fingerprint.tags({"a": "b"})))
    first = own_store.start("skip", "open('made', 'a').write('x')").finish()
    wait_for((first.folder / "made").exists)
    assert again(own_store, first, "--if-changed").code == 0
    assert (first.folder / "made").read_text("utf-8") == "x"
    check_nothing_left(first)


def test_a_place_with_other_packages_is_refused_and_the_packages_are_named(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    for name in ("pandas-9.0.1", "zebra_crossing-1.0"):
        (folder / f"{name}.dist-info").mkdir(parents=True)
    there, before = fingerprint.packages(), {fingerprint.ENVIRONMENT: fingerprint.environment()}
    fingerprint.require(before, {fingerprint.ENVIRONMENT: fingerprint.environment()}, "here", there)
    monkeypatch.setattr(sys, "path", [str(folder)])
    monkeypatch.setattr(sys, "version", "3.10")
    here = {fingerprint.ENVIRONMENT: fingerprint.environment()}
    with pytest.raises(WorkbookError) as error:
        fingerprint.require(before, here, "here", there | {"zebra_crossing": "2.0", "xz": "1"})
    told = error.value.message
    assert "the environment changed (Python 3.10 instead of 3." in told and "\n" not in told
    assert f"pandas 9.0.1 instead of {there['pandas']}, zebra_crossing 1.0 instead of 2.0" in told
    assert re.search(r", \w+ missing instead of .*, \d+ more\); bring it to the same commit", told)
