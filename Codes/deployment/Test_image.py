"""The image: a context that is the same each time, and its own command over the packages that it pins, no others."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from Codes.commands import cli
from Codes.deployment import context, pins
from Codes.deployment.conftest import NAME, started
from Codes.ground.errors import WorkbookError
from Codes.model_registry import registry
from Codes.saved_models import trust
from Codes.serving import client


def test_the_same_version_makes_the_same_context_to_the_byte(made, tmp_path):
    again = context.make(f"{NAME}/1", tmp_path / "again")
    assert again.digest == made.digest and again.tag == "breast_cancer:1"
    times = {each.stat().st_mtime for each in again.folder.rglob("*")}
    assert times == {context.EPOCH}
    with pytest.raises(WorkbookError, match="not empty"):
        context.make(f"{NAME}/1", tmp_path / "again")


def test_each_package_is_pinned_with_hashes_and_stands_in_the_bill(made):
    lines = (made.folder / "requirements.txt").read_text("utf-8").split("\n")
    named = [line.split(" ")[0] for line in lines if "==" in line]
    assert len(named) > 40 and sum("--hash=sha256:" in line for line in lines) >= len(named)
    pinned = set(trust.pins(made.folder / "model" / "model"))
    assert pinned - set(named) == {f"mlflow=={trust.version_of('mlflow')}"}, "its part that serves"
    bill = json.loads((made.folder / "sbom.json").read_text("utf-8"))
    assert [f"{c['name']}=={c['version']}" for c in bill["components"]] == named
    assert not {"papermill", "jupyterlab", "pytest"} & {line.partition("==")[0] for line in named}


def test_a_package_that_the_checkout_does_not_pin_is_asked_of_pip():
    text = pins.locked({"six": "1.16.0"})
    known = "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"
    assert text == f"six==1.16.0 \\\n    --hash=sha256:{known}\n"


def test_no_secret_and_no_test_is_in_the_context(made, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-for-a-layer")
    text = "".join(p.read_text("utf-8", "ignore") for p in made.folder.rglob("*") if p.is_file())
    assert "not-for-a-layer" not in text and str(Path.home()) + "/." not in text
    assert not [p for p in made.folder.rglob("*") if p.name.startswith(("Test_", "Check_", ".env"))]


def test_the_linter_finds_nothing_in_the_dockerfile(made):
    command = [Path(sys.executable).parent / "hadolint", made.folder / "Dockerfile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_images_own_command_answers_with_its_pinned_packages_and_no_others(made, tmp_path):
    before = sorted(made.folder.rglob("*"))
    example = registry.load(made.version).example
    with started(made, tmp_path) as (process, url):
        host = {"Host": "flights.models.example"}
        assert requests.get(f"{url}/ping", headers=host, timeout=30).ok
        answer = requests.post(
            f"{url}/invocations", client.body(example), headers=client.JSON | host, timeout=30
        )
        assert answer.headers["X-Model-Version"] == "1"
        expected = registry.load(made.version).predict(example).tolist()
        assert answer.json()["predictions"] == expected
        wrong = requests.post(f"{url}/invocations", "{}", headers=client.JSON, timeout=30)
        assert wrong.status_code == 400
        assert requests.get(f"{url}/version", timeout=30).text == trust.version_of("mlflow")
        assert "workbook_rows_total" in requests.get(f"{url}/metrics", timeout=30).text
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert sorted(made.folder.rglob("*")) == before, "it wrote nothing beside itself"


def test_the_command_writes_the_context_and_says_how_it_is_built(made, tmp_path):
    where = tmp_path / "out"
    command = ["image", f"{NAME}/1", "--context", str(where)]
    told = CliRunner().invoke(cli.main, command)
    assert told.exit_code == 0, told.output
    assert f"docker build -t breast_cancer:1 {where}" in told.output
    assert made.digest in told.output
    shutil.rmtree(where)
    assert CliRunner().invoke(cli.main, ["image", "nothing/1", "--context", str(where)]).exit_code
    assert not where.exists()
