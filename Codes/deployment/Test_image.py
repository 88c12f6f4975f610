"""The image: a context that is the same each time, and its own command over the packages that it pins, no others."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests
from click.testing import CliRunner
from mlflow import MlflowClient

from Codes.commands import cli
from Codes.deployment import building, context, pins
from Codes.deployment.conftest import NAME
from Codes.ground import paths
from Codes.ground.errors import WorkbookError
from Codes.model_registry import registry
from Codes.saved_models import trust
from Codes.serving import client


def test_the_same_version_makes_the_same_context_to_the_byte(made, tmp_path):
    MlflowClient().set_model_version_tag(NAME, "1", registry.STAGE, "production")
    again = context.make(f"{NAME}/1", tmp_path / "again")
    assert again.digest == made.digest and again.tag == "breast_cancer:1"
    times = {each.stat().st_mtime for each in again.folder.rglob("*")}
    assert times == {context.EPOCH}
    with pytest.raises(WorkbookError, match="not empty"):
        context.make(f"{NAME}/1", tmp_path / "again")


@pytest.mark.parametrize(
    "words, says",
    [
        (
            ("--context", "{0}/file"),
            "{0}/file cannot be written (not a directory): name a new folder",
        ),
        (("--context", "{0}/file/new"), "{0}/file/new cannot be written"),
        (("--context", "{0}/full"), "{0}/full is not empty"),
        (("--context", "/proc/new"), "/proc/new cannot be written (no such file or directory)"),
        (("--context", "{0}/new", "--engine", "buildah"), "leave --engine out"),
        (("--context", "{0}/new", "--base", "python\nUSER root"), "names no image"),
        (("--context", "{0}/new", "--base", ""), "'' names no image"),
    ],
)
def test_a_context_that_cannot_be_is_one_line_and_leaves_nothing(made, tmp_path, words, says):
    assert made
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    filled = [word.format(tmp_path) for word in words]
    told = CliRunner().invoke(cli.main, ["image", f"{NAME}/1", *filled])
    assert told.exit_code == 1 and says.format(tmp_path) in told.stderr
    assert told.stderr.count("\n") == 1 and sorted(tmp_path.rglob("*")) == before


def test_two_at_once_have_a_folder_each(made, tmp_path, monkeypatch):
    assert made
    monkeypatch.setattr(paths, "EXECUTED", tmp_path)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(context.make, [f"{NAME}/1"] * 2))
    assert {each.folder.name for each in both} == {f"{NAME}-1-1", f"{NAME}-1-2"}
    assert both[0].digest == both[1].digest


def test_an_interrupted_engine_clears_away(made, tmp_path):  # pylint: disable=unused-argument
    """Python's own way with a child, to kill it, would leave buildah's half an image."""
    script = f"trap 'touch {tmp_path}/cleared; exit 1' TERM; touch {tmp_path}/begun; while :; do sleep 0.01; done"
    (tmp_path / "bin").mkdir()
    engine = tmp_path / "bin" / "buildah"
    engine.write_text(f"#!/bin/sh\n[ $1 = info ] && exit 0\n{script}\n", "utf-8")
    engine.chmod(0o755)
    variables = os.environ | {"PATH": f"{engine.parent}:{os.environ['PATH']}"}
    words = [
        sys.executable,
        "-m",
        "Codes.commands.cli",
        "image",
        f"{NAME}/1",
        "--engine",
        "buildah",
    ]
    with subprocess.Popen(words, env=variables, stderr=subprocess.PIPE) as process:
        while not (tmp_path / "begun").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.terminate()
        assert process.wait(60) == 143 and (tmp_path / "cleared").exists()


def test_each_package_is_pinned_with_hashes_and_stands_in_the_bill(made):
    lines = (made.folder / "requirements.txt").read_text("utf-8").split("\n")
    named = [line.split(" ")[0] for line in lines if "==" in line]
    assert len(named) > 40 and sum("--hash=sha256:" in line for line in lines) >= len(named)
    pinned = set(trust.pins(made.folder / "model" / "model"))
    assert pinned - set(named) == {f"mlflow=={trust.version_of('mlflow')}"}, "its part that serves"
    bill = json.loads((made.folder / "sbom.json").read_text("utf-8"))
    assert [f"{c['name']}=={c['version']}" for c in bill["components"]] == named
    assert not {"papermill", "jupyterlab", "pytest"} & {line.partition("==")[0] for line in named}


def test_a_package_that_the_checkout_does_not_pin_is_asked_of_pip(tmp_path):
    text = pins.locked({"six": "1.16.0"}, tmp_path / "wheels")
    known = "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"
    assert text == f"six==1.16.0 \\\n    --hash=sha256:{known}\n"


def tiny_build(folder, patch):
    """The wheel of a build that PyPI does not keep, with a file for a later Python; pip looks into its `folder`."""
    wheel, about = folder / "tiny_build-1.0+cpu-py3-none-any.whl", "tiny_build-1.0+cpu.dist-info"
    folder.mkdir()
    texts = {
        "METADATA": "Metadata-Version: 2.1\nName: tiny-build\nVersion: 1.0+cpu\n",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("tiny_build.py", "def later[(:\n")
        for name, text in texts.items():
            file.writestr(f"{about}/{name}", text)
    patch.setenv("PIP_FIND_LINKS", str(folder))
    return wheel


def test_a_build_that_pypi_does_not_keep_lies_in_the_context(tmp_path, monkeypatch):
    """The wheel of torch 2.13.0+cpu, say: the image's pip would fetch another build of that version."""
    wheel = tiny_build(tmp_path / "links", monkeypatch)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "installed")
    monkeypatch.syspath_prepend(tmp_path / "installed")
    monkeypatch.setattr(pins, "SERVING", [])
    packages = pins.needed(["tiny_build==1.0"])
    assert packages == {"tiny-build": "1.0+cpu"}, "the very build that is here"
    text = pins.locked(packages, tmp_path / "wheels")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert text == f"tiny-build==1.0+cpu \\\n    --hash=sha256:{digest}\n"
    assert [each.name for each in (tmp_path / "wheels").iterdir()] == [wheel.name]
    (part,) = json.loads(pins.bill(packages, "m", "1", "0" * 64))["components"]
    assert part["purl"] == "pkg:pypi/tiny-build@1.0%2Bcpu"


def test_a_folder_whose_model_does_not_load_is_told_while_the_image_is_built(made, tmp_path):
    command = [sys.executable, "-m", "Codes.serving.fixed"]
    done = subprocess.run([*command, made.folder / "model"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    shutil.copytree(made.folder / "model", tmp_path / "model")
    (tmp_path / "model" / "model" / "MLmodel").write_text("", "utf-8")
    done = subprocess.run(
        [*command, tmp_path / "model"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and done.stderr.startswith("Error: "), done.stderr
    assert "Traceback" not in done.stderr


def test_no_secret_and_no_test_is_in_the_context(made, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-for-a-layer")
    text = "".join(p.read_text("utf-8", "ignore") for p in made.folder.rglob("*") if p.is_file())
    assert "not-for-a-layer" not in text and str(Path.home()) + "/." not in text
    assert not [p for p in made.folder.rglob("*") if p.name.startswith(("Test_", "Check_", ".env"))]


def test_the_linter_finds_nothing_in_the_dockerfile(made):
    command = [Path(sys.executable).parent / "hadolint", made.folder / "Dockerfile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_images_own_command_answers_with_its_pinned_packages_and_no_others(made, served):
    before = sorted(made.folder.rglob("*"))
    example = registry.load(made.version).example
    host = {"Host": "flights.models.example"}
    assert requests.get(f"{served}/ping", headers=host, timeout=30).ok
    answer = requests.post(
        f"{served}/invocations", client.body(example), headers=client.JSON | host, timeout=30
    )
    assert answer.headers["X-Model-Version"] == "1"
    assert answer.json()["predictions"] == registry.load(made.version).predict(example).tolist()
    wrong = requests.post(f"{served}/invocations", "{}", headers=client.JSON, timeout=30)
    assert wrong.status_code == 400
    assert requests.get(f"{served}/version", timeout=30).text == trust.version_of("mlflow")
    assert "workbook_rows_total" in requests.get(f"{served}/metrics", timeout=30).text
    assert sorted(made.folder.rglob("*")) == before, "it wrote nothing beside itself"


@pytest.fixture(name="buildah")
def _buildah(tmp_path, monkeypatch):
    """A function that calls buildah, with a storage of its own and an image `host`: this machine's Python, mounted."""
    if not building.answers("buildah"):
        pytest.skip("no buildah answers here (Debian: apt-get install buildah): no image is built")
    seen = {"/usr", "/etc/ssl", sys.base_prefix, sysconfig.get_path("purelib")}
    volumes = [f"{each}:{each}:ro" for each in sorted(seen)]
    (tmp_path / "containers.conf").write_text(
        f'[containers]\nvolumes = {json.dumps(volumes)}\nnetns = "host"\n', "utf-8"
    )
    (tmp_path / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/images"\nrunroot = "{tmp_path}/run"\n',
        "utf-8",
    )
    monkeypatch.setenv("CONTAINERS_CONF", str(tmp_path / "containers.conf"))
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    monkeypatch.setenv("BUILDAH_ISOLATION", "chroot")

    def call(*words):
        done = subprocess.run(["buildah", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    root = tmp_path / "root"
    for folder in ("etc", "tmp", *(each.lstrip("/") for each in seen)):  # that anybody may enter
        (root / folder).mkdir(parents=True, exist_ok=True)
    for link in ("bin", "lib", "lib64"):
        (root / link).symlink_to(f"usr/{link}")
    empty = call("from", "scratch")
    call("copy", empty, str(root), "/")
    call("config", "--env", f"PATH={sys.base_prefix}/bin:/usr/bin:/bin", empty)
    call("config", "--env", f"LD_LIBRARY_PATH={sys.base_prefix}/lib", empty)
    call(
        "config", "--env", f"PYTHONPATH={sysconfig.get_path('purelib')}", empty
    )  # the model is loaded
    call("commit", "--quiet", empty, "host")
    call.volumes = [word for each in volumes for word in ("--volume", each)]
    return call


def written(root):
    """What lies where the image's server might write; elsewhere buildah makes places for what it mounts."""
    return sorted(path for place in ("opt", "tmp") for path in (root / place).rglob("*"))


@contextlib.contextmanager
def running(command, url, log):
    """The process of the server that the `command` of buildah has started; it must end by SIGTERM."""
    with open(log, "wb") as sink, subprocess.Popen(command, stdout=sink, stderr=sink) as process:
        try:
            client.wait(process, url, log)
            below = psutil.Process(process.pid).children(True)
            (server,) = [each for each in below if each.cmdline()[:1] == ["python3"]]
            yield server
            server.terminate()
            assert process.wait(30) == 0, log.read_text("utf-8")
        finally:
            if process.poll() is None:
                for each in [*psutil.Process(process.pid).children(True), process]:
                    each.kill()


@pytest.mark.timeout(1800)  # it installs packages
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_buildah_builds_the_image_and_it_answers(  # pylint: disable=R0913,R0914,R0917
    made, packages, buildah, tmp_path, monkeypatch, whole
):
    if not whole:  # its packages are mounted, instead of a minute of installing them
        tiny_build(tmp_path / "links", monkeypatch)
        few = {"six": "1.17.0", "tiny-build": "1.0+cpu"}
        monkeypatch.setattr(pins, "needed", lambda _: few)
    words = ["image", f"{NAME}/1", "--engine", "buildah", "--base", "localhost/host"]
    told = CliRunner().invoke(cli.main, words)
    assert told.exit_code == 0, f"{told.output} {told.exception}"
    container, url = buildah("from", made.tag), f"http://127.0.0.1:{client.free_port()}"
    root = Path(buildah("mount", container))
    before, example = written(root), registry.load(made.version).example
    mounted = [] if whole else ["--volume", f"{packages}:/opt/packages:ro"]
    command = ["buildah", "run", *buildah.volumes, *mounted]
    command += ["--env", f"WORKBOOK_SERVE_PORT={url.rpartition(':')[2]}", container, "--"]
    # buildah itself would look for python3 where it lies outside
    command += ["/usr/bin/env", *context.entry(made.folder)[0]]
    with running(command, url, tmp_path / "log") as server:
        assert server.uids().real == 10001, "it is not root"
        body = client.body(example)
        answer = requests.post(f"{url}/invocations", body, headers=client.JSON, timeout=30)
    assert answer.json()["predictions"] == registry.load(made.version).predict(example).tolist()
    assert written(root) == before, "it needs nothing to be writable"


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
