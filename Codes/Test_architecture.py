"""Imports run one way, and importing does nothing else."""

import ast
import json
import os
import subprocess
import sys
from graphlib import TopologicalSorter

import nbformat
import pytest

from Codes.paths import NOTEBOOKS, ROOT

HELPERS = ("Test_", "Check_", "conftest", "testbed")
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts): file
    for file in sorted((ROOT / "Codes").rglob("*.py"))
    if not file.name.startswith((*HELPERS, "__init__"))
}
TABLES = ["evaluation", "models", "data", "problem"]  # each may use those after it
SERVED = ["serving", "scoring", "promotion", "registry", "gate", *TABLES]
RUNS = ["cli", "running", "tracking", "identity", "store"]


def imported(source):
    """The modules that the code `source` imports, wherever in it: `from Codes import data` is Codes.data."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def graph():
    """{module: those of our modules that it imports}."""
    return {
        name: imported(file.read_text("utf-8")) & set(MODULES) - {name}
        for name, file in MODULES.items()
    }


def reached(start, edges):
    """Every module that `start` imports, over however many steps."""
    found, waiting = set(), [start]
    while waiting:
        new = edges[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def is_in(name, nouns):
    """Whether the module `name` is, or lies in, one of `nouns`."""
    return any(f"{name}.".startswith(f"Codes.{noun}.") for noun in nouns)


def test_no_module_imports_itself_over_others():
    assert len(list(TopologicalSorter(graph()).static_order())) == len(MODULES) > 10


@pytest.mark.parametrize("chain", [SERVED, RUNS])
def test_a_chain_is_imported_from_its_start_to_its_end_only(chain):
    edges = graph()
    for place, noun in enumerate(chain):
        for name in filter(lambda n, noun=noun: is_in(n, [noun]), MODULES):
            against = {used for used in reached(name, edges) if is_in(used, chain[:place])}
            assert not against, f"{name} imports against the flow"


def test_paths_and_errors_are_the_ground():
    edges = graph()
    assert not edges["Codes.paths"] and not edges["Codes.errors"]


def test_only_the_command_and_the_runner_import_the_runner():
    edges = graph()
    above = {
        name
        for name in MODULES
        if any(is_in(used, ["running", "cli"]) for used in reached(name, edges))
    }
    assert "Codes.cli" in above
    assert all(is_in(name, ["cli", "running"]) for name in above), above


def test_what_handles_tables_and_models_knows_no_runs_and_the_other_way_round():
    edges = graph()
    for name in MODULES:
        nouns = {used.split(".")[1] for used in reached(name, edges)}
        if is_in(name, TABLES):
            assert not nouns & set(RUNS), name
        if is_in(name, RUNS[1:]):
            assert not nouns & set(TABLES), name


def test_no_notebook_imports_what_runs_it():
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        lines = "\n".join(c.source for c in cells if c.cell_type == "code").splitlines()
        source = "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))
        against = {name for name in imported(source) if is_in(name, ["running", "cli"])}
        assert not against, path.name


PROBE = """
import importlib, json, logging, os, sys
others, ours = json.load(sys.stdin)
for name in others:
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # from x import a_function
import papermill.iorw
from pathlib import Path
def state():
    files = sorted(str(p) for folder in sys.argv[1:] for p in Path(folder).rglob("*")
                   if not {".git", ".venv", ".hypothesis", "test-report", "__pycache__"} & set(p.parts))
    loggers = [logging.getLogger(), *map(logging.getLogger, sorted(logging.root.manager.loggerDict))]
    handlers = {log.name: [len(log.handlers), log.level] for log in loggers if log.handlers or log.level}
    return {"environment": dict(os.environ), "folder": os.getcwd(), "path": sys.path[:], "files": files,
            "logging": handlers,
            "signals": [repr(__import__("signal").getsignal(n)) for n in (2, 15)]}
before = state()
for name in ours:
    importlib.import_module(name)
after = state()
import mlflow, threading
print(json.dumps({"changed": [k for k in before if before[k] != after[k]], "threads": threading.active_count(),
                  "uri": mlflow.tracking.is_tracking_uri_set(), "root": len(logging.getLogger().handlers),
                  "set": [k for k in os.environ if k.startswith(("MLFLOW_", "WORKBOOK_", "PROOF_"))],
                  "papermill writes by": papermill.iorw.LocalHandler.write.__module__}))
"""


def test_importing_every_module_does_nothing_else(tmp_path):
    others = {name for file in MODULES.values() for name in imported(file.read_text("utf-8"))}
    others = sorted(
        name for name in others if not name.startswith("Codes") and name != "__future__"
    )
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "WORKBOOK_"))}
    done = subprocess.run(
        [
            sys.executable,
            "-B",
            "-c",
            PROBE,
            str(tmp_path),
            str(ROOT / "Codes"),
            str(ROOT / "Resources"),
        ],
        input=json.dumps([others, list(MODULES)]),
        env=kept | {"HOME": str(home), "PYTHONPATH": str(ROOT)},
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    # importing papermill or MLflow imports modules of ours, before the first look at the state
    assert found.pop("papermill writes by") == "papermill.iorw" and not found.pop("set")
    assert found == {"changed": [], "threads": 1, "uri": False, "root": 0}
    assert not list(work.iterdir())
