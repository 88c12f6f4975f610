"""The tutorial, line by line, in a checkout of its own: a model, a sweep, production, an answer, an own table."""

import contextlib
import os
import re
import shutil
import subprocess
import sys

import pytest

from Codes.ground.paths import ROOT
from Codes.serving import client

PAGE = ROOT / "docs" / "tutorial.md"
GENERATED = (".venv", ".git", "mlruns", "mlflow.db*", "executed", ".cache", "__pycache__", "build")
# what sets up, is looked at, or asks for a page that this test does not open
LEFT_OUT = ("make ui", "make lab", ". .venv")


class Reader:
    """Somebody who types what the page says, in a copy of the checkout at `folder`."""

    def __init__(self, folder, stack):
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*GENERATED), symlinks=True)
        self.folder, self.stack, self.port = folder, stack, str(client.free_port())
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        beside = folder / "bin"
        beside.mkdir()
        script = f'#!/bin/sh\nexec {sys.executable} -m Codes.commands.cli "$@"\n'
        (beside / "workbook").write_text(script)
        (beside / "workbook").chmod(0o755)
        path = os.pathsep.join([str(beside), os.path.dirname(sys.executable), kept["PATH"]])
        self.environment = kept | {"PATH": path, "PYTHONPATH": str(folder)}

    def types(self, line):
        """The output of a `line`, which ends well; a server is left running."""
        line = line.replace("make run NB=02_train", "workbook run 02_train")
        line = line.replace("5001", self.port)
        if line.startswith("workbook serve"):
            self.serves(line)
            return ""
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def serves(self, line):
        """Start the server of a `line`, and wait until it answers."""
        log = self.stack.enter_context((self.folder / "serve.log").open("wb"))
        server = subprocess.Popen(  # pylint: disable=consider-using-with
            line.split(), cwd=self.folder, env=self.environment, stdout=log, stderr=log
        )
        self.stack.callback(server.wait)
        self.stack.callback(server.terminate)
        assert client.comes_up(server, f"http://127.0.0.1:{self.port}/ping"), line


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_the_tutorial_leads_where_it_says(tmp_path):
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    told = {}
    with contextlib.ExitStack() as stack:
        reader = Reader(tmp_path / "checkout", stack)
        for kind, block in blocks:
            if kind == "yaml":
                (reader.folder / "Resources/problems/wine.yaml").write_text(block, "utf-8")
                continue
            for line in block.splitlines():
                if not line.startswith(LEFT_OUT):
                    told[line] = reader.types(line)
    answers = [said for line, said in told.items() if line.startswith("curl")]
    assert '"predictions"' in answers[0] and "error" in answers[1].lower()
    assert "★" in told["workbook runs flights"] and "★" in told["workbook runs wine"]
    assert "production" in told["workbook models flights"]
