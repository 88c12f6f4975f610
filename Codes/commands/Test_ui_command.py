"""`workbook ui`: the address leads to the scored runs, the end leaves nothing, and a taken port is one line."""

import json
import os
import re
import signal
import socket
import subprocess
import sys

import psutil
import requests
from mlflow import MlflowClient

from Codes.commands import notebook_commands
from Codes.comparison import saved_view
from Codes.runs import tracking
from Codes.seams import mlflow_seam
from Codes.serving.client import free_port
from Codes.testing.testbed import PATIENCE, fresh_store

COMMAND = [sys.executable, "-m", "Codes.commands.cli", "ui", "--port"]


def view(client, experiment, problem, written):
    """Let the store have a view of the runs on `problem`, `written` at that time."""
    name = f"{mlflow_seam.VIEW}workbook-{problem}"
    client.set_experiment_tag(experiment, name, json.dumps({"state": "", "updatedAt": written}))


def test_it_lands_on_the_runs_scored_last_and_its_end_leaves_nothing(testbed, tmp_path):
    uri, port = fresh_store(tmp_path), free_port()
    client = MlflowClient(uri)
    for name in ("flights", "diabetes", "flights@2013-04-01"):
        client.create_experiment(name)
    view(client, "1", "flights", 2)
    view(client, "2", "diabetes", 1)
    view(client, "3", "flights:2013-04-01", 3)  # what a replay of history leaves
    assert saved_view.newest(client, "diabetes") == saved_view.address("2", "diabetes")
    day = "flights@2013-04-01"
    assert saved_view.newest(client, day) == saved_view.address("3", day)
    assert saved_view.newest(client, "cancer") == "" and testbed is None
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri}
    with subprocess.Popen(
        [*COMMAND, str(port)], env=environment, stdout=subprocess.PIPE, text=True
    ) as command:
        address = re.search(r"http\S+", command.stdout.readline())[0]
        below = psutil.Process(command.pid).children(recursive=True)
        url, _, landing = address.partition("/#")
        assert f"#{landing}" == saved_view.address("1", "flights") and url.endswith(f":{port}")
        assert requests.get(f"{url}/health", timeout=PATIENCE).text == "OK"
        command.send_signal(signal.SIGTERM)
        assert command.wait(PATIENCE) == 0
    gone, alive = psutil.wait_procs(below, PATIENCE)
    assert gone and not alive


def test_a_run_of_one_notebook_says_where_its_own_problem_is_looked_at(
    testbed, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    tracking.use_store()
    client = MlflowClient()
    for number, name in enumerate(("diabetes", "flights"), 1):
        client.create_experiment(name)
        view(client, str(number), name, number)
    notebook_commands.show_where("a/diabetes.yaml")
    assert saved_view.address("1", "diabetes") in capsys.readouterr().out
    notebook_commands.show_where("")
    assert saved_view.address("2", "flights") in capsys.readouterr().out and testbed is None


def test_a_port_that_is_taken_is_one_line_that_says_what_to_do(testbed, tmp_path):
    environment = os.environ | {"MLFLOW_TRACKING_URI": fresh_store(tmp_path)}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, str(port)], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 1 and testbed is None
    assert re.fullmatch(rf"Error: port {port} is taken.* make ui PORT={port + 1}\n", done.stderr)
