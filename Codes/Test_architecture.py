"""Imports run one way, over front doors, and importing does nothing else."""

import ast
import json
import os
import re
import subprocess
import sys
from graphlib import TopologicalSorter

import nbformat
import pytest

import Codes
from Codes.ground.paths import NOTEBOOKS, ROOT
from Codes.tools import rooms

PLACES = {file: file.parent.name for file in (ROOT / "Codes").glob("*/__init__.py")}


@pytest.fixture(name="graph", scope="module")
def fixture_graph():
    """Which module imports which."""
    return rooms.graph()


def test_every_package_is_a_room_that_says_what_it_holds():
    assert set(PLACES.values()) == set(rooms.ROOMS) and all(map(rooms.front_doors, rooms.ROOMS))
    for room in rooms.ROOMS:
        missing = {
            d for d in rooms.front_doors(room) if not (ROOT / f"Codes/{room}/{d}.py").exists()
        }
        assert not missing, room


def test_rooms_import_along_the_flow_and_over_front_doors(graph):
    assert not rooms.against(graph)


@pytest.mark.parametrize(
    ("importer", "used", "told"),
    [
        (
            "Codes.ground.paths",
            "Codes.runs.tracking",
            "against the flow: Codes.ground.paths -> Codes.runs.tracking",
        ),
        ("Codes.running.engine", "Codes.warm.forked", "which is no front door of its room"),
        (
            "Codes.stores.store",
            "Codes.problems.data",
            "Codes.stores.store imports Codes.problems.data",
        ),
    ],
)
def test_an_import_against_the_rules_is_said(importer, used, told):
    seeded = rooms.graph()
    seeded.add_import(importer=importer, imported=used)
    assert any(told in sentence for sentence in rooms.against(seeded))


def test_no_module_imports_itself_over_others(graph):
    edges = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert len(list(TopologicalSorter(edges).static_order())) == len(graph.modules) > 10


def test_the_page_of_the_architecture_shows_the_rooms_as_they_are(graph):
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text("utf-8")
    assert rooms.drawn(graph) in page
    listed = set(re.findall(r"^  (\w+)/", page, re.MULTILINE)) | {"tools"}  # beside bench
    assert set(rooms.ROOMS) <= listed


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_imports_words_alone(path):
    cells = nbformat.read(path, as_version=4).cells
    lines = "\n".join(c.source for c in cells if c.cell_type == "code")
    asked = re.findall(r"^(?:from|import) (Codes[\w.]*)(?: import (.*))?$", lines, re.MULTILINE)
    words = {word.split(" as ")[0].strip() for _, names in asked for word in names.split(",")}
    assert {module for module, _ in asked} <= {"Codes"} and words <= set(Codes.WORDS)


def test_a_word_is_the_module_that_it_stands_for_and_another_is_refused():
    assert all(
        getattr(Codes, word).__name__ == f"Codes.{room}.{word}"
        for word, room in Codes.WORDS.items()
    )
    with pytest.raises(ImportError, match="trackign"):
        exec("from Codes import trackign")  # pylint: disable=exec-used


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


def imported(source):
    """The modules that the code `source` imports, wherever in it, possible ones too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.soak
def test_importing_every_module_does_nothing_else(tmp_path):
    # what is there to be imported for what it does
    ours = sorted(rooms.graph().modules - {"Codes.testing.first_page"})
    files = [ROOT / f"{name.replace('.', '/')}.py" for name in ours]
    others = {n for f in files if f.exists() for n in imported(f.read_text("utf-8"))}
    others = sorted(name for name in others if not name.startswith("Codes"))
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
        input=json.dumps([others, ours]),
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
