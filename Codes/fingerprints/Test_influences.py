"""What code reads, as far as its text tells; what it does not tell is unknown."""

from pathlib import Path

import pytest

from Codes.fingerprints import influences

FOLDER = Path("/somewhere")


def of(code, **values):
    """The Influences of the `code` of one cell with the parameters `values`."""
    return influences.of([("cell 1", code)], FOLDER, values, lambda module: module == "own.load")


@pytest.mark.parametrize(
    ("code", "files"),
    [
        ("pd.read_csv(p)", {"x.csv"}),
        ("pd.read_csv(folder + '/' + p)", {"data/x.csv"}),
        ("open(f'{folder}/{n}.csv')", {"data/3.csv"}),
        ("open(os.path.join(folder, 'a'))", {"data/a"}),
        ("Path(folder, 'a').read_text()", {"data/a"}),
        ("path = Path.cwd() / 'a'\nopen(path)", {"/somewhere/a"}),
        ("path = 'a' if n else 'b'\nopen(path)", {"a", "b"}),
        ("for f in ['a', 'b']:\n    open(f)", {"a", "b"}),
        ("def load(path):\n    return open(path)\nload('a')", {"a"}),
        ("def load(path='a'):\n    return open(path)\nload()", {"a"}),
        ("with open('a') as f:\n    json.load(f)", {"a"}),
        ("import glob\n[open(f) for f in sorted(glob.glob('d/*.csv'))]", {"d/*.csv"}),
        ("df = pd.read_csv('a')\ndf.to_csv('a')", {"a"}),
        ("load_iris(return_X_y=True)", set()),
        ("pd.read_csv(io.StringIO(text))", set()),
        ("df.to_csv('a')\npd.read_csv('a')", set()),
        ("open('a', 'w').write('b')", {"b"}),  # perhaps a file's name
    ],
)
def test_paths_are_folded_to_the_files_that_they_name(code, files):
    found = of(code, p="x.csv", folder="data", n=3)
    assert not found.unknown and files <= set(found.files)
    assert files or "a" not in found.files


@pytest.mark.parametrize(
    "code",
    [
        "pd.read_csv(path)",
        "pd.read_csv('https://a.org/b.csv')",
        "open(make())",
        "open(sys.argv[1])",
        "path = find()\nopen(path)",
        "import requests\nrequests.get('https://a.org')",
        "import subprocess\nsubprocess.run(['ls'])",
        "from sqlite3 import connect\nconnect('a.db')",
        "os.chdir('a')",
        "exec(text)",
        "import importlib\nimportlib.import_module(f())",
        "import sys\nsys.path.append(f())",
        "!ls",
        "%run {script}",
        "%cd a",
        "%%bash\nls",
        "dict(os.environ)",
        "os.environ[f()]",
        "fetch_openml('x')",
    ],
)
def test_what_the_text_does_not_tell_is_unknown(code):
    assert of(code).unknown and all(told.startswith("cell 1: ") for told in of(code).unknown)


def test_names_that_stand_for_one_another_are_not_followed_for_ever():
    names = [f"a{i} = f'{{a{i - 1}}}' if a{i - 2} else [a{i - 1}, a{i - 3}]" for i in range(3, 60)]
    code = "\n".join(["a0 = a1 = a2 = 'x'", *names, "open(a59)"])  # without a limit: 2**59 steps
    assert of(code).unknown == ["cell 1: open(a59)"]


def test_variables_scripts_modules_and_folders_are_found():
    code = "%load_ext e\n%run a.py\nimport sys, os\nsys.path.append('lib')\nos.environ['A']\n"
    code += "os.getenv('B')\nos.environ['C'] = '1'\n'D' in os.environ\nos.environ['MLFLOW_RUN_ID']"
    found = of(code)
    assert found.scripts == ["a.py"] and found.folders == ["lib"] and found.modules == {"e"}
    assert found.variables == {"A", "B", "D"} and not found.unknown


def test_calls_of_the_users_own_modules_are_left_to_these():
    assert not of("from own import load\nload(anything)").unknown
    assert of("from other import load\nload(anything)").unknown


@pytest.mark.parametrize(
    "code",
    [
        "from sqlalchemy import insert\ninsert(table)",
        "def append(x):\n    return x\nappend(3)",
        "exec(read('x.py'))",
        "get_ipython().system(5)",
        "get_ipython().run_line_magic('run', 5)",
    ],
)
def test_a_function_that_is_called_as_a_method_of_ours_spoils_no_run(code):
    assert isinstance(of(code).unknown, list)
