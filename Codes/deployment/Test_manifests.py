"""What is committed for other places, held against their own schemas."""

import shutil
import subprocess
import sys

import pytest

from Codes.ground.paths import RESOURCES

VALIDATOR = (
    "kubernetes-validate==1.37.0",
    "importlib-resources==7.1.0",
)  # seventy megabytes of schemas
MANIFESTS = [
    path for path in sorted(RESOURCES.rglob("*.yaml")) if "\napiVersion:" in path.read_text("utf-8")
]
UNITS = sorted([*RESOURCES.rglob("*.service"), *RESOURCES.rglob("*.timer")])


@pytest.mark.soak
def test_kubernetes_schemas_accept_its_manifests_and_no_misspelt_one(tmp_path):
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(tmp_path / "tool"),
    ]
    subprocess.run([*install, *VALIDATOR], check=True)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(MANIFESTS[0].read_text("utf-8").replace("containers:", "container:"), "utf-8")

    def check(*files):
        code = f"import sys; sys.path.append({str(tmp_path / 'tool')!r}); from kubernetes_validate.__main__ import main"
        words = [sys.executable, "-c", f"{code}; sys.exit(main())", "--strict", *map(str, files)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    done = check(*MANIFESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert check(wrong).returncode != 0


def test_systemd_accepts_its_units(tmp_path):
    if not (systemd := shutil.which("systemd-analyze")):
        pytest.skip("no systemd-analyze is here: its units are not held against it")
    for unit in UNITS:  # the programs that they start are another machine's
        lines = unit.read_text("utf-8").splitlines()
        begun = [
            f"{line.split('=')[0]}=/bin/true" if line.startswith("Exec") else line for line in lines
        ]
        (tmp_path / unit.name).write_text("\n".join(begun), "utf-8")
    command = [systemd, "verify", "--man=no", *(str(tmp_path / unit.name) for unit in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
