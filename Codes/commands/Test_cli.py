"""The `workbook` command: bad input is one clear line, before anything is executed, made or recorded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import mlflow
import nbformat
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from Codes.commands import cli, notebook_options
from Codes.ground import paths
from Codes.ground.errors import WorkbookError
from Codes.networks import torch_net
from Codes.problems import problem as problems
from Codes.running import runner

PARAMETERS = """text: str = "a"  # any text
seed: int = 0  # random state [0, 9]
model: str = "hgb"  # the estimator {hgb, forest}
settings: dict = {}"""
WITNESS = (
    "import json, pathlib\npathlib.Path('witness.json').write_text(json.dumps([text, settings]))"
)


def write(path, *cells, tag="parameters", kernel="python3"):
    """A notebook at `path` of `cells`, the first of them tagged."""
    nodes = [nbformat.v4.new_code_cell(source) for source in cells]
    nodes[0].metadata["tags"] = [tag]
    spec = {"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=nodes, metadata=spec), path)
    return path


@pytest.fixture(name="place")
def make_place(tmp_path, monkeypatch):
    """A current folder with a notebook nb.ipynb that leaves a witness, and no store yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "EXECUTED", tmp_path / "executed")
    for name in [n for n in os.environ if n.startswith(("MLFLOW_", "WORKBOOK_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/store/mlflow.db")
    (tmp_path / "store").mkdir()
    write(tmp_path / "nb.ipynb", PARAMETERS, WITNESS)
    return tmp_path


def refused(place, *arguments):
    """The one line with which `workbook arguments…` is refused, having made nothing."""
    before = {str(p): p.read_bytes() for p in place.rglob("*") if p.is_file()}
    done = CliRunner().invoke(cli.main, arguments)
    told = [line for line in done.stderr.splitlines() if not line.startswith(("[1/1]", "warming"))]
    assert done.exit_code != 0 and isinstance(done.exception, SystemExit), done.exception
    assert len(told) == 1 and "Traceback" not in done.output, done.output
    assert before == {str(p): p.read_bytes() for p in place.rglob("*") if p.is_file()}
    return told[0]


# Parameters


@pytest.mark.parametrize(
    "typed",
    [
        ("run", "02_train_torch"),
        ("run", "02_train", "-p", "model=torch"),
        ("sweep", "02_train_torch", "-v", "seed=0,1"),
        ("sweep", "02_train", "-v", "model=linear,torch"),
    ],
)
def test_a_model_whose_extra_is_missing_is_refused_before_anything_runs(place, monkeypatch, typed):
    monkeypatch.setattr(torch_net.TorchClassifier, "LIBRARY", ("no_such_framework", "torch"))
    assert 'make install EXTRAS="torch"' in refused(place, *typed)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["-p", "sead", "1"], "Did you mean 'seed'?"),
        (["-p", "seed", "abc"], "seed='abc' is str; it must be int"),
        (["-p", "seed", "10"], "seed=10: it must be within [0, 9]"),
        (["-p", "seed", "nan"], "must be int"),
        (["-p", "model", "forrest"], "Did you mean 'forest'?"),
        (["-y", '"x=1\\nimport os": 1'], "is not a parameter name"),
        (["-p", "sead=1"], "Did you mean 'seed'?"),
        (["--parameter", "seed=abc"], "seed='abc' is str; it must be int"),
        (["-p", "seed=10", "-p", "text", "a=b"], "seed=10: it must be within [0, 9]"),
        (["-p", "class", "1"], "is not a parameter name"),
        (["-p", "text", "ghp_" + "a" * 36], "looks like a secret"),
        (["-p", "settings", "[" * 9999], "too deeply nested"),
        (["-p", "text", "env:WORKBOOK_NOT_SET"], "WORKBOOK_NOT_SET is not set"),
        (["--params", "seed"], "'seed' is not name=value"),
        (["--params", "text='a"], "No closing quotation"),
        (["--params", 'settings={"a"'], "the brackets of settings do not close"),
        (["--params", "sead=1"], "Did you mean 'seed'?"),
        (["-y", "seed: [1"], "--yaml: line 1"),
        (["-y", "[1]"], "--yaml: lines of 'key: value' are needed"),
        (["-y", "seed: 1\nseed: 2"], "seed: the key comes twice"),
        (["-y", "text: on"], 'write "on" for the text'),
        (["-y", "seed: 1e1"], "seed=10.0 is float; it must be int"),
        (["-p", "settings", "{depth:6}"], "a space is missing after the colon: {depth: 6}"),
        (["--params", "settings={depth:6}"], "a space is missing after the colon: {depth: 6}"),
        (["-y", "seed: 2001-99-99"], "month must be in 1..12"),
        (["-y", "seed: !!python/object/apply:os.abort []"], "could not determine a constructor"),
        (["-y", "1: 2"], "1 is not a parameter name"),
        (["-f", "none.yaml"], "there is no parameter file none.yaml"),
        (["-f", "."], "there is no parameter file ."),
        (["-f", "nb.ipynb", "-y", "seed: 1"], "nb.ipynb has no parameter"),
    ],
)
def test_a_bad_parameter_is_refused_before_anything_happens(place, arguments, said):
    assert said in refused(place, "run", "nb.ipynb", *arguments)


def test_a_parameter_file_in_another_encoding_is_refused_with_the_byte(place):
    (place / "p.yaml").write_bytes("text: é".encode("latin-1"))
    assert "p.yaml: byte 6 is not UTF-8" in refused(place, "run", "nb.ipynb", "-f", "p.yaml")


@pytest.mark.parametrize("pair", [["text=a=b"], ["text", "a=b"]])
def test_a_pair_may_be_typed_as_papermill_and_as_mlflow_have_it(pair):
    @click.command(cls=notebook_options.NotebookCommand)
    @notebook_options.NOTEBOOK_OPTIONS[0]
    def typed(pairs):
        return pairs

    assert typed.main(["-p", *pair], standalone_mode=False) == (("text", "a=b"),)


@pytest.mark.parametrize(
    "arguments", [["run", "plain.ipynb", "-p", "seed", "1"], ["describe", "plain.ipynb"]]
)
def test_a_notebook_without_a_parameters_cell_takes_none(place, arguments):
    write(place / "plain.ipynb", "seed = 1", WITNESS, tag="other")
    assert "no cell tagged 'parameters'" in refused(place, *arguments)


def test_a_parameter_that_no_notebook_of_the_lifecycle_has_is_refused(place):
    assert "no notebook takes zzz" in refused(place, "run", "-p", "zzz", "1")


@pytest.mark.parametrize(
    "line, pairs",
    [
        ("", []),
        ("a=1 b=2", [["a", "1"], ["b", "2"]]),
        ("a=", [["a", ""]]),
        ("a=b=c", [["a", "b=c"]]),
        ("a='x y' b=\"{}\"", [["a", "x y"], ["b", "{}"]]),
        ("a=x#y  b=$HOME;ls", [["a", "x#y"], ["b", "$HOME;ls"]]),
        ('h={"a b": [1, "}"]} s=3', [["h", '{"a b": [1, "}"]}'], ["s", "3"]]),
        ('s=3 h=["a b"]', [["s", "3"], ["h", '["a b"]']]),
        ("a='{1} it''s' b='[x'", [["a", "{1} its"], ["b", "[x"]]),
        ("h={a: 1e-3, b: '}'} s=3", [["h", "{a: 1e-3, b: '}'}"], ["s", "3"]]),
    ],
)
def test_makes_line_is_split_as_a_shell_would_and_json_may_stand_bare(line, pairs):
    assert notebook_options.split_line(line) == pairs


def test_the_later_source_wins(place):
    (place / "p.yaml").write_text("text: file\nseed: 1\nmodel: forest", "utf-8")
    given = notebook_options.gather([("text", "pair")], "text=line seed=3", "seed: 2", "p.yaml")
    assert (given["text"].text, given["seed"].text, given["model"]) == ("pair", "3", "forest")


def test_one_value_is_read_alike_wherever_it_is_typed(place):
    text = "{a: 1e-3, b: None}"
    (place / "p.yaml").write_text(f"settings: {text}", "utf-8")
    ways = {
        "pair": notebook_options.gather([("settings", text)], "", "", ""),
        "line": notebook_options.gather([], f"settings={text}", "", ""),
        "yaml": notebook_options.gather([], "", f"settings: {text}", ""),
        "file": notebook_options.gather([], "", "", "p.yaml"),
    }
    read = {way: runner.plan("nb.ipynb", given)[0][1] for way, given in ways.items()}
    assert read == {way: {"settings": {"a": 0.001, "b": None}} for way in ways}


@pytest.mark.parametrize(
    "arguments, said",
    [
        (
            ["run", "02_train", "-p", "hyperparameters", "{max_dept: 6}"],
            "did you mean 'max_depth'?",
        ),
        (["run", "02_train", "-p", "model", "sklearn.svm.SVK"], "'sklearn.svm' has no 'SVK'"),
        (["run", "02_train", "-p", "model", "forrest"], "did you mean 'forest'?"),
        (
            ["sweep", "02_train", "-v", "model=hgb,linear", "-v", "hyperparameters.max_depth=3,4"],
            "LogisticRegression' has no hyperparameter 'max_depth'",
        ),
    ],
)
def test_what_the_estimator_does_not_have_is_refused_before_a_kernel_starts(place, arguments, said):
    assert said in refused(place, *arguments)


# Paths


@pytest.mark.parametrize("notebook", [["02_train"], []])
def test_a_problem_that_there_is_not_is_refused_before_the_lifecycle_runs(place, notebook):
    told = refused(place, "run", *notebook, "-p", "problem", "fligths")
    assert "no problem 'fligths', did you mean 'flights'?" in told


@pytest.mark.parametrize(
    "name, said",
    [
        ("http://127.0.0.1:9/nb.ipynb", "run from a file, not from an address"),
        ("s3://bucket/nb.ipynb", "run from a file, not from an address"),
        ('{"cells": [], "metadata": {}, "nbformat": 4}', "there is no notebook"),
        ("", "there is no notebook ''"),
        ("a" * 300, "there is no notebook"),
        (".", "there is no notebook"),
    ],
)
def test_what_is_no_notebooks_file_is_refused(place, name, said):
    assert said in refused(place, "run", name)
    assert said in refused(place, "describe", name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\xff\xfe{",
        b"{}",
        b"[1]",
        b"null",
        b'{"nbformat": 9, "nbformat_minor": 0, "cells": [], "metadata": {}}',
        b'{"nbformat": 4, "nbformat_minor": 5, "cells": 3, "metadata": {}}',
        b'{"nbformat": 4, "nbformat_minor": 5, "cells": [{}], "metadata": {}}',
        b'{"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [{"cell_type": "code", '
        b'"source": 7, "metadata": {"tags": ["parameters"]}, "outputs": []}]}',
        b"[" * 100_000,
    ],
    ids=lambda content: content[:70].decode("latin-1") or "empty",
)
def test_a_broken_notebook_is_refused_by_name(place, content):
    (place / "broken.ipynb").write_bytes(content)
    for command in ("run", "describe"):
        message = refused(place, command, "broken.ipynb")
        assert "broken.ipynb is not a valid notebook" in message and len(message) < 400


def test_two_parameters_cells_are_refused(place):
    notebook = nbformat.read("nb.ipynb", as_version=4)
    notebook.cells[1].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, place / "two.ipynb")
    assert "2 cells are tagged 'parameters'" in refused(place, "run", "two.ipynb")


@pytest.mark.parametrize(
    "output, said",
    [
        ("/tmp/out.ipynb", "must lie below the current folder"),
        ("../out.ipynb", "must lie below the current folder"),
        ("a/../../out.ipynb", "must lie below the current folder"),
        ("none/out.ipynb", "the folder none does not exist"),
        ("{here}/none/out.ipynb", "none does not exist"),  # below the current folder
        ("out.txt", "must end in .ipynb"),
        ("", "must end in .ipynb"),
        ("a" * 300 + ".ipynb", "bytes long"),
        ("nb.ipynb", "nb.ipynb exists"),
        ("link.ipynb", "link.ipynb exists"),
        ("folder.ipynb", "folder.ipynb exists"),
    ],
)
def test_an_output_that_could_harm_is_refused(place, output, said):
    (place / "link.ipynb").symlink_to(place / "nb.ipynb")
    (place / "folder.ipynb").mkdir()
    output = output.replace("{here}", str(place))
    assert said in refused(place, "run", "nb.ipynb", "-o", output)
    if said.endswith("exists"):
        assert said in refused(place, "run", "nb.ipynb", "-o", output, "--force")


def test_an_existing_output_is_kept_without_force(place):
    (place / "out.ipynb").write_text("precious", "utf-8")
    assert "replace it with --force" in refused(place, "run", "nb.ipynb", "-o", "out.ipynb")
    assert (place / "out.ipynb").read_text("utf-8") == "precious"


def test_an_output_needs_its_notebook(place):
    assert "give the notebook too" in refused(place, "run", "-o", "out.ipynb")


@pytest.mark.parametrize("options", [["-k", "klingon"], []])
def test_an_unknown_kernel_is_refused_with_those_that_there_are(place, options):
    name = (
        "nb.ipynb"
        if options
        else str(write(place / "odd.ipynb", PARAMETERS, kernel="klingon").name)
    )
    message = refused(place, "run", name, "-o", "out.ipynb", *options)
    assert "no kernel 'klingon'" in message and "python3" in message


# What works


def test_describe_prints_the_interface(place):
    done = CliRunner().invoke(cli.main, ["describe", "nb.ipynb"])
    lines = done.stdout.splitlines()
    assert done.exit_code == 0 and lines[0].startswith("nb: workbook run nb -p NAME VALUE")
    assert [line.split()[:3] for line in lines[2:]] == [
        ["text", "str", "'a'"],
        ["seed", "int", "0"],
        ["model", "str", "'hgb'"],
        ["settings", "dict", "{}"],
    ]
    assert lines[3].endswith("random state (within [0, 9])")
    assert place.joinpath("nb.ipynb").exists()


def test_problems_lists_those_that_ship():
    done = CliRunner().invoke(cli.main, ["problems"])
    assert done.exit_code == 0
    assert {line.split()[0] for line in done.stdout.splitlines()} >= {"flights", "diabetes"}


def test_a_workbook_error_is_one_line_and_exit_1():
    error = WorkbookError("what was given")
    assert (error.exit_code, str(error)) == (1, "what was given")


@pytest.mark.soak
def test_the_command_itself_takes_braces_and_odd_characters_literally(place):
    write(place / "{nb}.ipynb", PARAMETERS, WITNESS)
    text = '\'; import os #\n""" {seed} \\ %run ü \u2028'
    command = Path(sys.executable).parent / "workbook"
    settings = {"a b": [text, None, 1.5], "'": {}}
    done = subprocess.run(
        [command, "run", "{nb}.ipynb", "-o", "{}.ipynb", "-p", "text", text]
        + ["--params", f"settings={json.dumps(settings)} seed=3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((place / "witness.json").read_text("utf-8")) == [text, settings]
    assert {p.name for p in place.glob("*.ipynb")} == {"nb.ipynb", "{nb}.ipynb", "{}.ipynb"}
    assert (place / "store" / "mlflow.db").exists()


def test_ctrl_c_in_a_command_is_one_line_and_130(monkeypatch):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(problems, "names", stop)
    done = CliRunner().invoke(cli.main, ["problems"])
    assert done.exit_code == 130 and done.output == "interrupted\n"


IMPORTED = """
import sys
from Codes.commands import cli, notebook_options
try:
    cli.main(sys.argv[1:])
except SystemExit:
    names = {name.partition(".")[0] for name in sys.modules}
    print("imported:", *sorted(names & {"mlflow", "pandas", "numpy", "pyarrow", "sklearn", "papermill"}))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["problems"],
        ["describe", "02_train"],
        ["promote", "flights", "nonsense"],
        ["run", "02_trian"],
        ["run", "02_train", "-p", "sead", "1"],
        ["runs", "fligths"],
        ["warm"],
    ],
    ids=" ".join,
)
def test_what_a_command_does_not_need_is_not_imported(arguments):
    told = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments], capture_output=True, text=True, check=False
    )
    assert told.stdout.splitlines()[-1] == "imported:", told.stdout + told.stderr


def test_the_list_of_models_needs_none_of_what_computes(tmp_path):
    code = IMPORTED.replace('"mlflow", "pandas", "numpy", "pyarrow", ', '"skops", "matplotlib", ')
    told = subprocess.run(
        [sys.executable, "-c", code, "models"],
        env=os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stdout.splitlines()[-2:] == [
        "no model is registered; make one: workbook register",
        "imported:",
    ], told.stderr


def test_colours_are_for_a_terminal_that_wants_them(monkeypatch, tmp_path):
    (tmp_path / "lost.yaml").write_text("title: 1", encoding="utf-8")
    monkeypatch.setattr(problems, "PROBLEMS", tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    red = "\x1b[31mBROKEN"
    assert red in CliRunner().invoke(cli.main, ["problems"], color=True).output
    assert "\x1b" not in CliRunner().invoke(cli.main, ["problems"]).output
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in CliRunner().invoke(cli.main, ["problems"], color=True).output


# Completion


def completed(line, incomplete):
    """What a shell offers behind `line` for `incomplete`."""
    complete = BashComplete(cli.main, {}, "workbook", "_WORKBOOK_COMPLETE")
    return [each.value for each in complete.get_completions(line.split(), incomplete)]


@pytest.mark.usefixtures("place")
def test_a_shell_completes_the_files_that_there_are():
    assert "02_train" in completed("run", "02") and completed("run", "./") == ["./"]
    assert completed("runs", "fl") == completed("register --problem", "fl") == ["flights"]
    assert completed("promote flights", "") == ["staging", "production"]
    assert "--if-changed" in completed("run", "--if")


def test_a_shell_completes_what_is_in_the_store(own_store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own_store.uri)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)  # as in a fork of the template
    client = own_store.client
    run = client.create_run("0").info.run_id
    client.set_terminated(run)
    client.create_registered_model("shop")
    client.create_model_version("shop", "source", run)
    client.set_registered_model_alias("shop", "staging", "1")
    assert completed("models", "s") == completed("promote", "") == ["shop"]
    assert completed("serve", "shop") == ["shop@staging", "shop/1"]
    assert completed("register", run[:5]) == [run]


def test_a_tab_does_not_wait_for_mlflow(monkeypatch):
    monkeypatch.delitem(sys.modules, "mlflow")
    assert completed("models", "") == completed("serve", "") == completed("register", "") == []


def test_a_path_that_is_none_is_one_line_whichever_command_meets_it(tmp_path):
    (tmp_path / "file").touch()
    command = click.Command("write", callback=(tmp_path / "file" / "new").mkdir)
    done = CliRunner().invoke(cli.Commands(commands=[command]), ["write"])
    assert done.stderr == f"Error: {tmp_path}/file/new: not a directory.\n" and done.exit_code == 1


@pytest.mark.parametrize("given", ["nan", "inf"])
def test_an_amount_has_an_end(given):
    done = CliRunner().invoke(cli.main, ["run", "nb", "--timeout", given])
    assert f"{given} is no amount" in done.stderr and done.exit_code == 2
