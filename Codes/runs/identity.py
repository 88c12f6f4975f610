"""What identifies a run: who ran which notebook, at which commit, and with which uncommitted changes."""

import contextlib
import getpass
import os
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Codes.notebook_files import notebook_diff
from Codes.stores.store import redacted

NOTEBOOK = "mlflow.workbook.notebook"
GATE = "mlflow.workbook.gate"  # the version that a run of the gate has judged
DIRTY = "mlflow.workbook.git.dirty"
DIFF = "git/uncommitted.diff"
DIFF_LIMIT = 5_000_000  # bytes
PATIENCE = 30  # seconds that git may take
# whatever the user's git shows by: a diff that `git apply` takes
PLAIN = "-c diff.noprefix=false -c diff.mnemonicPrefix=false -c diff.relative=false".split()
PLAIN += "diff --no-ext-diff --no-color --no-textconv --submodule=short".split()


def tags(notebook: str | Path) -> dict[str, str]:
    """The identity tags of a run of `notebook` (a path): user, source and, inside git, the code version."""
    path = Path(notebook).resolve()
    facts = {
        "mlflow.user": user(),
        "mlflow.source.name": str(path),
        "mlflow.source.type": "NOTEBOOK",
        NOTEBOOK: path.stem,
    }
    with ThreadPoolExecutor(2) as pool:  # the three side by side: they are on the way to each run
        status = pool.submit(printed, path.parent, "status", "--porcelain", "-z")
        remote = pool.submit(git, path.parent, "config", "--get", "remote.origin.url")
        version = git(path.parent, "rev-parse", "HEAD", "--show-toplevel", "--abbrev-ref", "HEAD")
    if version:
        commit, root, branch = version.splitlines()
        facts |= {
            "mlflow.source.name": path.relative_to(Path(root).resolve()).as_posix(),
            "mlflow.source.git.commit": commit,
            "mlflow.source.git.branch": branch,
        }
        if (entries := status.result()) is not None:
            facts[DIRTY] = str(is_dirty(Path(root), os.fsdecode(entries))).lower()
        if address := remote.result():
            facts["mlflow.source.git.repoURL"] = redacted(address)
    return facts


def of_nothing() -> dict[str, str]:
    """The identity tags of a run whose notebook nothing tells: who, and the folder that it was made in."""
    return {
        "mlflow.user": user(),
        "mlflow.source.name": f"unknown notebook in {Path.cwd()}",
        "mlflow.source.type": "NOTEBOOK",
    }


def is_dirty(root: Path, status: str) -> bool:
    """Whether the repository at `root`, with that `git status --porcelain -z`, has changes but for notebooks' outputs.

    JupyterLab saves what cells show, and with it counts, times and the kernel's version, on its own.
    """
    entries = filter(None, status.split("\0"))
    changes = [re.fullmatch(r"(?: M|M |MM) (.*\.ipynb)", each, re.DOTALL) for each in entries]
    notebooks = [change[1] for change in changes if change]
    return len(notebooks) < len(changes) or any(not versions(root, n)[2] for n in notebooks)


def versions(root: Path, path: str) -> tuple[str, str, bool]:
    """(text as committed, as it is now, whether their code is the same) of the notebook `path` below `root`."""
    old = printed(root, "show", f"HEAD:{path}")
    try:
        old, new = (old or b"").decode("utf-8"), (root / path).read_text("utf-8")
    except (OSError, ValueError):
        return "", "", False
    return old, new, notebook_diff.same_code(old, new)


def uncommitted(notebook: str | Path) -> str:
    """The uncommitted changes of the repository around `notebook` as text: the diff, and untracked names."""
    folder = Path(notebook).resolve().parent
    untracked = git(folder, "ls-files", "--others", "--exclude-standard", "--full-name", ":/") or ""
    names = "".join(f"# untracked: {name}\n" for name in untracked[:DIFF_LIMIT].splitlines())
    return names + _diff(folder)


def _diff(folder: Path) -> str:
    """The diff of the repository around `folder`, of notebooks their code alone.

    Over the limit it comes without the content of binary files, then cut.
    """
    notebooks = _notebook_diffs(folder)
    others = [":/", *(f":(top,exclude,literal){path}" for path in notebooks)]
    for content in ("--binary", "--patch"):
        diff = printed(folder, *PLAIN, content, "HEAD", "--", *others, most=DIFF_LIMIT + 1)
        diff = diff if diff is None else diff + "".join(notebooks.values()).encode()
        if diff is not None and len(diff) <= DIFF_LIMIT:
            return diff.decode("utf-8", "replace")
    if diff is None:
        return "# git could not tell the changes\n"
    return diff[:DIFF_LIMIT].decode("utf-8", "replace") + f"\n# cut: over {DIFF_LIMIT:,} bytes\n"


def _notebook_diffs(folder: Path) -> dict[str, str]:
    """{path: diff} of the changed notebooks of the repository around `folder` that can be read, without outputs."""
    names = "--name-only -z --no-renames --diff-filter=M HEAD -- :(top,glob)**/*.ipynb".split()
    root, changed = git(folder, "rev-parse", "--show-toplevel"), git(folder, *PLAIN, *names)
    diffs: dict[str, str] = {}
    if not root or not changed:
        return diffs
    for path in filter(None, changed.split("\0")):
        old, new, is_same = versions(Path(root), path)
        head = (git(Path(root), *PLAIN, "HEAD", "--", f":(literal){path}") or "").partition(
            "\n@@ "
        )[0]
        if is_same:
            diffs[path] = ""
        elif old and "\n+++ " in head:
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                head = re.sub(r"^index .*\n", "", head, flags=re.MULTILINE)
                diffs[path] = f"{head}\n{notebook_diff.hunks(old, new)}"
    return diffs


def git(folder: Path, *arguments: str) -> str | None:
    """The text that git prints in `folder`; None where it fails, takes too long or is not installed."""
    text = printed(folder, *arguments)
    return text if text is None else text.decode("utf-8", "replace").strip()


def printed(folder: Path, *arguments: str, most: int = -1) -> bytes | None:
    """The first `most` bytes that git prints in `folder` (-1: all); None as in `git`."""
    try:
        with subprocess.Popen(
            ["git", *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            end = threading.Timer(PATIENCE, process.kill)
            end.start()
            try:
                assert process.stdout is not None  # it is a pipe
                text = process.stdout.read(most)
                is_full = len(text) == most
                return text if is_full or process.wait() == 0 else None
            finally:
                process.kill()
                end.cancel()
    except OSError:
        return None


def user() -> str:
    """Who is at work, by name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id may have no name
        return "unknown"
