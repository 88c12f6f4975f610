"""What a run records of its parameters: what the kernel held, in Python and in other languages."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from Codes.commands.cli import main
from Codes.notebook_files import parameters
from Codes.testing.cases import sampled
from Codes.testing.testbed import PAPERMILL, check_nothing_left, check_refused

CELL = """debug: bool = True
n: int = 10
m = n * 2
rows: int = 1000
if debug:
    rows = 100
lo, hi = 0, 10
cfg = {"depth": 2}
cfg["depth"] = 3
import os
folder = os.path.join("a", "b")
%load_ext autoreload
key = os.environ["MY_TOKEN"]
c: int"""
HELD = "import mlflow\nmlflow.log_metrics({'m': m, 'rows': rows, 'depth': cfg['depth']})"


def test_what_is_recorded_is_what_the_kernel_held(store):
    options = ["-p", "hi", "7"]
    environment = {"MY_TOKEN": "hunter2"}
    done = store.start("held", HELD, parameters=CELL, options=options, environment=environment)
    run = check_nothing_left(done.finish())
    assert run.info.status == "FINISHED", done.printed
    assert run.data.params == {
        "debug": "True",
        "n": "10",
        "m": "20",
        "rows": "100",
        "lo": "0",
        "hi": "7",
        "cfg": '{"depth": 3}',
        "folder": "a/b",
        "key": parameters.HIDDEN,
    }
    assert {n: run.data.metrics[n] for n in ("m", "rows", "depth")} == {
        "m": 20,
        "rows": 100,
        "depth": 3,
    }


def test_a_run_that_fails_in_its_parameters_cell_records_no_value_that_it_never_had(store):
    done = store.start("never", "1", parameters="a = 1\nb = len([a])\n1 / 0").finish()
    assert done.code == 1 and done.run.data.params == {"a": "1"}


def test_a_derived_value_does_not_stay_behind_what_was_given(store):
    refused = store.start("stale", HELD, parameters=CELL, options=["-p", "n", "50"])
    check_refused(refused, "n cannot be given, since line 3 .*: m = n \\* 2. Move that line")
    assert not refused.runs


@pytest.fixture(name="bash", scope="module")
def fixture_bash(tmp_path_factory):
    """The environment in which the kernel `bash` is found."""
    prefix = tmp_path_factory.mktemp("bash")
    command = [sys.executable, "-m", "bash_kernel.install", "--prefix", str(prefix)]
    subprocess.run(command, check=True, capture_output=True)
    return {"JUPYTER_PATH": str(prefix / "share" / "jupyter")}


BASH = {
    "parameters": "export x=1\nyear=$(date +%Y)",
    "kernelspec": {"name": "bash", "display_name": "Bash", "language": "bash"},
}


@pytest.mark.parametrize("command", sampled(["workbook", PAPERMILL], "workbook"))
def test_a_notebook_in_another_language_is_a_whole_run(store, bash, command):
    given = {"command": command, "environment": bash, "options": ["-p", "x", "7"]}
    done = store.start(f"bash_{command}", 'echo "x is $x"', **given, **BASH).finish()
    run = check_nothing_left(done)
    assert run.info.status == "FINISHED" and run.data.params == {"x": "7"}, done.printed
    assert "x is 7" in done.artifact("notebook.ipynb")
    said = "not recorded, since only the bash kernel knows the value: year"
    assert said in done.printed
    described = CliRunner().invoke(main, ["describe", str(done.output)])
    assert described.output.rstrip().endswith(said), described.output


def test_a_secret_by_reference_in_another_language_is_refused(store, bash):
    given = {"environment": bash, "options": ["-p", "x", "env:HOME"]}
    check_refused(store.start("bash_secret", "1", **given, **BASH), "is for notebooks in Python")
