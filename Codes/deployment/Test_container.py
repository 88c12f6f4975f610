"""The target docker, against a stand-in for the engine's command that runs the image's own command as a process.

No docker and no podman was at hand that runs an image; the stand-in answers the words that are asked of one.
"""

import json
import os
import socket
import sys

import pytest
from click.testing import CliRunner

from Codes.commands import cli
from Codes.deployment import context
from Codes.deployment.conftest import NAME
from Codes.model_registry import registry
from Codes.serving import client

ENGINE = f"""#!{sys.executable}
import hashlib, json, os, signal, subprocess, sys
from pathlib import Path
home, words = Path(os.environ["STAND_IN"]), sys.argv[1:]
state = json.loads((home / "state").read_text()) if (home / "state").exists() else {{"images": {{}}, "names": {{}}}}
with open(home / "asked", "a") as file:
    print(*words, file=file)
def after(word):
    return words[words.index(word) + 1]
if words[0] == "build":
    state["images"][after("--tag")] = words[-1]
elif words[0] == "images":
    print("sha256:" + hashlib.sha256(Path(state["images"][words[-1]], "Dockerfile").read_bytes()).hexdigest())
elif words[0] == "run":
    folder = list(state["images"].values())[-1]
    port = after("--publish").split(":")[1]
    lines = dict(line.split(" ", 1) for line in Path(folder, "Dockerfile").read_text().splitlines() if " " in line)
    command = json.loads(lines["ENTRYPOINT"]) + json.loads(lines["CMD"])
    variables = {context.VARIABLES} | dict(PYTHONPATH=folder + "/workbook", WORKBOOK_SERVE_MODEL=folder + "/model",
                      WORKBOOK_SERVE_PORT=port, WORKBOOK_SERVE_HOST="127.0.0.1")
    if os.environ.get("BROKEN"):
        command = ["python3", "-c", "raise SystemExit('it cannot start')"]
    process = subprocess.Popen([sys.executable, *command[1:]], env=os.environ | variables, stdin=subprocess.DEVNULL,
                               stdout=open(home / after("--name"), "wb"), stderr=subprocess.STDOUT)
    state["names"][after("--name")] = [process.pid, words[-1], port]
elif words[0] == "port":
    print("127.0.0.1:" + state["names"][words[1]][2])
elif words[0] == "logs":
    print(*(home / words[-1]).read_text().splitlines()[-1:])
elif words[0] in ("inspect", "rm"):
    if words[-1] not in state["names"]:
        sys.exit("no such container")
    pid, image, _ = state["names"][words[-1]]
    alive = Path(f"/proc/{{pid}}/cmdline").exists() and Path(f"/proc/{{pid}}/cmdline").read_bytes() != b""
    if words[0] == "rm":
        alive and os.kill(pid, signal.SIGKILL)
        del state["names"][words[-1]]
    else:
        print(image.removeprefix("sha256:") if "Image" in words[2] else "running" if alive else "exited")
(home / "state").write_text(json.dumps(state))
"""


@pytest.fixture(name="engine")
def _engine(made, tmp_path, monkeypatch):  # pylint: disable=unused-argument
    """The folder in which the stand-in for docker keeps what it does."""
    command = tmp_path / "bin" / "docker"
    command.parent.mkdir()
    command.write_text(ENGINE, "utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN", str(tmp_path))
    yield tmp_path
    CliRunner().invoke(cli.main, ["undeploy", "cells", "--target", "docker"])


def call(*words, code=0):
    """What a command of the deployment says; another exit than `code` fails."""
    told = CliRunner().invoke(cli.main, [str(word) for word in words])
    said = told.output + getattr(told.exception, "message", "")
    assert told.exit_code == code, said + repr(told.exception)
    return said


def test_a_container_is_tried_takes_its_place_is_asked_and_removed(engine, made, monkeypatch):
    port = client.free_port()
    deploy = ("deploy", f"{NAME}/1", "--target", "docker", "--name", "cells", "--port", port)
    assert "takes the place" in call(*deploy)
    assert "serves it already" in call(*deploy)
    asked = (engine / "asked").read_text("utf-8")
    assert (
        asked.count("run --detach") == 2 and "--read-only --cap-drop all" in asked
    ), "a trial, and it"
    rows = registry.load(made.version).example
    (engine / "request.json").write_text(client.body(rows), "utf-8")
    answer = call("ask", "cells", "--target", "docker", "--file", engine / "request.json")
    assert json.loads(answer)["predictions"] == registry.load(made.version).predict(rows).tolist()
    (engine / "request.json").write_text("{}", "utf-8")
    wrong = "ask", "cells", "--target", "docker", "--file", engine / "request.json"
    assert "refuses it: 400: " in call(*wrong, code=1)
    listed = " ".join(call("deployments").split())
    assert f"cells docker here {NAME} version 1" in listed
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        assert f"port {taken} is taken" in call(*deploy[:-1], taken, code=1)
    assert "serves it already" in call(*deploy)
    monkeypatch.setenv("BROKEN", "1")
    (engine / "state").write_text(
        (engine / "state").read_text("utf-8").replace("sha256:", "older:"), "utf-8"
    )
    assert "it cannot start" in call(*deploy, code=1)
    with socket.create_connection(("127.0.0.1", port), 5):
        pass  # what was there serves
    call("undeploy", "cells", "--target", "docker")
    assert "nothing is deployed" in call("deployments", "--target", "docker")


def test_without_an_engine_one_line_says_what_to_do(
    made, monkeypatch, tmp_path
):  # pylint: disable=unused-argument
    monkeypatch.setenv("PATH", str(tmp_path))
    told = call("deploy", f"{NAME}/1", "--target", "docker", "--name", "cells", code=1)
    assert "no docker or podman answers here" in told and "workbook image --context" in told
