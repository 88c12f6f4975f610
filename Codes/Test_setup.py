"""The files that set the workbook up: Makefile, requirements, workflow, devcontainer, MLproject."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from Codes.ground.paths import NOTEBOOKS, ROOT
from Codes.notebook_files import parameters

WORKFLOW = ROOT / ".github" / "workflows" / "main.yml"
PINS = sorted(ROOT.glob("requirements*.txt"))
WITHOUT_HASH = "torch"  # each of its builds has others
NUMBERED = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def call(*command: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """Run a command with its output as text; keyword arguments add to the environment."""
    # the variables by which an outer make speaks to an inner one
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(
        command,
        cwd=folder,
        env=clean | environment,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


def script(path: Path, text: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture(name="checkout")
def a_checkout(tmp_path: Path) -> Path:
    """The set-up files alone, in a folder of their own, with a space in its name."""
    folder = tmp_path / "a checkout"
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    for name in ("kernels", "jupyter"):
        shutil.copytree(ROOT / "Resources" / name, folder / "Resources" / name)
    for path in (ROOT / "Makefile", ROOT / "pyproject.toml", *PINS):
        shutil.copy(path, folder)
    return folder


# Makefile


def targets() -> list[str]:
    """The targets that the Makefile declares."""
    return re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_make_alone_lists_every_target_with_what_it_does_in_80_columns():
    shown = call("make").stdout
    assert max(map(len, shown.splitlines())) <= 80
    listed = re.findall(r"^  make (\S+) +(\S.*)$", shown, re.MULTILINE)
    assert [name for name, _ in listed] == targets()
    assert all(len(about) > 10 for _, about in listed)


@pytest.mark.parametrize(
    "typed",
    [
        "model=forest seed=3",
        'hyperparameters={"max_depth": 3}',
        "note=$HOME `id` $(id) ; id # ' \\",
        "",
    ],
)
def test_parameters_reach_the_command_as_they_were_typed(checkout: Path, typed: str):
    script(checkout / ".ci" / "install", "")
    script(checkout / ".venv" / "bin" / "workbook", "printf '<%s>' \"$@\"")
    seen = call("make", "run", "NB=02_train", f"P={typed}", folder=checkout)
    assert seen.stdout == f"<run><02_train><--params><{typed}>", seen.stderr


def test_parameters_without_a_notebook_are_for_the_whole_lifecycle(checkout: Path):
    script(checkout / ".ci" / "install", "")
    script(checkout / ".venv" / "bin" / "workbook", "printf '<%s>' \"$@\"")
    seen = call("make", "run", "P=problem=diabetes", folder=checkout)
    assert seen.stdout == "<run><--params><problem=diabetes>", seen.stderr


def test_the_store_is_one_absolute_place_unless_the_caller_names_another(checkout: Path):
    script(checkout / ".ci" / "install", "")
    script(checkout / ".venv" / "bin" / "workbook", 'echo "$MLFLOW_TRACKING_URI"')
    by_default = call("make", "run", folder=checkout, MLFLOW_TRACKING_URI="").stdout.strip()
    assert by_default == f"sqlite:///{checkout}/mlflow.db"
    chosen = call("make", "run", folder=checkout, MLFLOW_TRACKING_URI="http://127.0.0.1:5000")
    assert chosen.stdout.strip() == "http://127.0.0.1:5000"


# make install


STUB_UV = f"""
echo "$@" >> calls
case $1 in venv) shift; for last; do :; done; {sys.executable} -m venv --without-pip "$last";;
    *) [ ! -e broken ];; esac
"""


def install(folder: Path, python: str = "", extras: str = "") -> subprocess.CompletedProcess:
    """`make install` with a uv that notes its calls and fails while a file `broken` is there."""
    uv = script(folder.parent / "tools" / "uv", STUB_UV)
    path = f"{uv.parent}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = (f"PYTHON={python}", f"EXTRAS={extras}")
    return call("make", "install", *given, folder=folder, PATH=path)


def calls(folder: Path) -> int:
    """How often uv was called since the last look."""
    notes = folder / "calls"
    count = len(notes.read_text().splitlines()) if notes.exists() else 0
    notes.unlink(missing_ok=True)
    return count


def test_a_second_install_does_nothing(checkout: Path):
    assert install(checkout).returncode == 0 and calls(checkout) == 3
    assert install(checkout).returncode == 0 and calls(checkout) == 0


def test_a_module_at_the_root_is_found_from_every_folder(checkout: Path, tmp_path: Path):
    assert install(checkout).returncode == 0
    (checkout / "my_models.py").write_text("", encoding="utf-8")
    python = str(checkout / ".venv" / "bin" / "python")
    assert call(python, "-c", "import my_models", folder=tmp_path).returncode == 0


def test_an_extra_that_there_is_not_is_refused_with_those_that_there_are(checkout: Path):
    assert install(checkout).returncode == 0
    seen = call("make", "install", "EXTRAS=torhc", folder=checkout)
    assert (
        seen.returncode != 0
        and "no extra 'torhc'; there are: cluster onnx sagemaker guests torch" in seen.stderr
    )


def test_an_extra_is_installed_once_by_the_pins_that_it_has_beyond_the_others(checkout: Path):
    assert install(checkout, extras="onnx").returncode == 0 and calls(checkout) == 3
    (checkout / "broken").touch()
    assert install(checkout, extras="tensorflow").returncode != 0 and calls(checkout) == 1
    (checkout / "broken").unlink()
    assert install(checkout, extras="tensorflow").returncode == 0 and calls(checkout) == 1
    assert install(checkout, extras="tensorflow").returncode == 0 and calls(checkout) == 0
    with (checkout / "requirements-tensorflow.txt").open("a") as file:
        file.write("# changed\n")
    assert install(checkout, extras="tensorflow").returncode == 0 and calls(checkout) == 1


def test_an_install_that_failed_half_way_is_not_taken_for_done(checkout: Path):
    (checkout / "broken").touch()
    assert install(checkout).returncode != 0 and calls(checkout) == 2
    (checkout / "broken").unlink()
    assert install(checkout).returncode == 0 and calls(checkout) == 2


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_a_changed_dependency_is_installed_and_a_newer_date_alone_is_not(checkout: Path, name: str):
    assert install(checkout).returncode == 0 and calls(checkout) == 3
    (checkout / name).touch()
    assert install(checkout).returncode == 0 and calls(checkout) == 0
    with (checkout / name).open("a") as file:
        file.write("# changed\n")
    assert install(checkout).returncode == 0 and calls(checkout) == 2


def test_a_moved_folder_gets_a_new_environment(checkout: Path):
    assert install(checkout).returncode == 0 and calls(checkout) == 3
    moved = checkout.rename(checkout.parent / "elsewhere")
    assert install(moved).returncode == 0 and calls(moved) == 3


def test_a_python_that_is_too_old_is_named_with_what_to_do(checkout: Path):
    old = script(checkout / "python3.10", 'case "$2" in *exit*) exit 1;; *) echo 3.10.4;; esac')
    seen = install(checkout, python=f"./{old.name}")
    assert seen.returncode != 0 and not (checkout / ".venv").exists()
    assert "Python 3.10.4" in seen.stderr and "3.11, 3.12 or 3.13" in seen.stderr
    assert "make install PYTHON=python3.12" in seen.stderr


def test_a_python_that_is_not_there_is_named(checkout: Path):
    seen = install(checkout, python="python3.99")
    assert seen.returncode != 0 and "python3.99 is not there" in seen.stderr


# make clean


def test_clean_asks_and_takes_no_silence_for_consent(checkout: Path):
    (checkout / "mlflow.db").touch()
    seen = call("make", "clean", folder=checkout)
    assert seen.returncode != 0 and (checkout / "mlflow.db").exists()


def test_clean_removes_what_was_generated_and_nothing_else(checkout: Path):
    for name in ("mlruns/0/x", "executed/a.ipynb", ".venv/x", ".env", "notes.txt"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()
    assert call("make", "clean", "YES=1", folder=checkout).returncode == 0
    left = {path.name for path in checkout.iterdir()}
    shipped = {".ci", "Resources", "Makefile", "pyproject.toml", *(path.name for path in PINS)}
    assert left == shipped | {".venv", ".env", "notes.txt"}


# requirements.txt


def project() -> dict:
    """The package's metadata."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(path: Path) -> dict[str, list[str]]:
    """The versions that the file at `path` pins, by package."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(
        r"^([a-z0-9.-]+)(?:\[[^\]]*\])?==([^ ;\\\n]+)", path.read_text("utf-8"), re.MULTILINE
    ):
        found.setdefault(name, []).append(version)
    return found


def ranges() -> list[tuple[str, Path]]:
    """(a requirement of pyproject.toml, the file that has to pin it)."""
    found = [(line, ROOT / "requirements.txt") for line in project()["dependencies"]]
    for extra, lines in project()["optional-dependencies"].items():
        own = ROOT / f"requirements-{extra}.txt"
        found += [(line, own if own.exists() else ROOT / "requirements.txt") for line in lines]
    return found


@pytest.mark.parametrize(("line", "path"), ranges())
def test_each_dependency_is_pinned_within_its_range(line: str, path: Path):
    wanted = Requirement(line)
    versions = pins(path).get(wanted.name.lower().replace("_", "-"), [])
    assert versions, f"{wanted.name} is not in {path.name}: make requirements"
    assert all(Version(version) in wanted.specifier for version in versions)


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.name)
def test_each_pin_has_hashes_and_no_address_or_path_is_written_down(path: Path):
    text = path.read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=[a-z])", text)[1:]
    assert all("==" in each for each in blocks) and len(blocks) == sum(
        map(len, pins(path).values())
    )
    without = [each for each in blocks if "--hash=sha256:" not in each]
    assert all(each.startswith(f"{WITHOUT_HASH}==") for each in without)
    assert "://" not in text and "--index" not in text and "--find-links" not in text
    assert str(ROOT) not in text and str(Path.home()) not in text


def test_no_package_is_pinned_twice():
    names = [name for path in PINS for name in pins(path)]
    assert len(names) == len(set(names)) > 200


# workflow


def workflow_steps() -> list[dict]:
    """The steps of all jobs."""
    jobs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def test_the_workflow_calls_only_make_targets():
    commands = [step["run"] for step in workflow_steps() if "run" in step]
    assert commands
    for command in commands:
        assert re.match(r"make ([a-z-]+)", command)[1] in targets() and "\n" not in command.strip()


def test_the_workflow_proves_what_make_test_proves():
    job = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["test"]
    commands = [step.get("run", "") for step in job["steps"]]
    order = ["make install", "make format CHECK=1", "make lint", "make test"]
    assert [command for command in commands if command in order] == order


def test_the_workflow_soaks_each_night_and_takes_the_newest_releases_each_week():
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    jobs, times = workflow["jobs"], [each["cron"] for each in workflow[True]["schedule"]]  # `on:`
    assert jobs["test"]["if"] == "github.event_name != 'schedule'"
    conditions = [jobs[name]["if"] for name in ("soak", "newest")]
    assert conditions == [f"github.event.schedule == '{time}'" for time in times]
    runs = {name: [step.get("run") for step in jobs[name]["steps"]] for name in jobs}
    assert "make soak" in runs["soak"]
    upgrade = runs["newest"].index("make requirements UPGRADE=1")
    assert "make test" in runs["newest"][upgrade:]


def test_each_action_is_pinned_by_commit_and_says_its_version():
    uses = re.findall(r"uses: (.*)$", WORKFLOW.read_text(encoding="utf-8"), re.MULTILINE)
    assert uses
    for line in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_the_workflow_may_read_the_repository_and_nothing_more():
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow["jobs"].values())


def test_the_workflow_tries_each_supported_python():
    matrix = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["test"]["strategy"]
    supported = Requirement(f"x{project()['requires-python']}").specifier
    assert matrix["matrix"]["python"] == [
        f"3.{minor}" for minor in range(30) if f"3.{minor}" in supported
    ]


# devcontainer


def test_the_devcontainer_labels_its_ports_and_ends_installed():
    folder = ROOT / ".devcontainer"
    settings = json.loads((folder / "devcontainer.json").read_text(encoding="utf-8"))
    assert {port: bool(settings["portsAttributes"][str(port)]["label"]) for port in (8888, 5000)}
    assert sorted(settings["forwardPorts"]) == [5000, 8888]
    created = settings["postCreateCommand"].split()[-1]
    assert "make install" in (ROOT / created).read_text(encoding="utf-8")


def test_the_devcontainer_pins_its_base_and_is_not_root():
    lines = (ROOT / ".devcontainer" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    base = [line for line in lines if line.startswith("FROM")]
    assert len(base) == 1 and re.search(r":[\w.-]+@sha256:[0-9a-f]{64}$", base[0])
    assert [line for line in lines if line.startswith("USER")][-1] == "USER 1000"


# MLflow project


def entry_points() -> dict[str, dict]:
    """The project's entry points."""
    return yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]


NAMED = sorted(set(entry_points()) - {"main", "run"})


def test_every_entry_point_is_a_notebook():
    assert len(NAMED) >= 6 and set(NAMED) <= {path.stem.partition("_")[2] for path in NUMBERED}


@pytest.mark.parametrize("name", NAMED)
def test_an_entry_point_repeats_its_notebooks_parameters(name: str):
    point = entry_points()[name]
    (path,) = [path for path in NUMBERED if path.stem.partition("_")[2] == name]
    found = parameters.of(nbformat.read(path, as_version=4), path.name)
    declared = {name: str(each["default"]) for name, each in point.get("parameters", {}).items()}
    assert declared == {each.name: str(each.default) for each in found}
    passed = "".join(f" -p {each.name} {{{each.name}}}" for each in found)
    assert point["command"] == f"sh .ci/project run {path.stem}{passed}"


def test_a_python_without_the_workbooks_packages_is_told_what_to_do(tmp_path: Path):
    script(tmp_path / "python", "exit 1")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    seen = call("sh", ".ci/project", "problems", PATH=path)
    assert seen.returncode == 2 and "--env-manager uv" in seen.stderr
