"""What identifies a run: who ran which notebook, at which commit, and with which uncommitted changes."""

import getpass
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Codes.store import redacted

NOTEBOOK = "workbook.notebook"
DIRTY = "workbook.git.dirty"
DIFF = "git/uncommitted.diff"
DIFF_LIMIT = 5_000_000  # characters


def tags(notebook):
    """The identity tags of a run of `notebook` (a path): user, source and, inside git, the code version."""
    path = Path(notebook).resolve()
    found = {
        "mlflow.user": user(),
        "mlflow.source.name": str(path),
        "mlflow.source.type": "NOTEBOOK",
        NOTEBOOK: path.stem,
    }
    with ThreadPoolExecutor(2) as pool:  # the three side by side: they are on the way to each run
        status = pool.submit(git, path.parent, "status", "--porcelain")
        remote = pool.submit(git, path.parent, "config", "--get", "remote.origin.url")
        version = git(path.parent, "rev-parse", "HEAD", "--show-toplevel", "--abbrev-ref", "HEAD")
    if version:
        commit, root, branch = version.splitlines()
        found |= {
            "mlflow.source.name": path.relative_to(Path(root).resolve()).as_posix(),
            "mlflow.source.git.commit": commit,
            "mlflow.source.git.branch": branch,
            DIRTY: str(bool(status.result())).lower(),
        }
        if remote.result():
            found["mlflow.source.git.repoURL"] = redacted(remote.result())
    return found


def uncommitted(notebook):
    """The uncommitted changes of the repository around `notebook` as text: the diff, and untracked names."""
    folder = Path(notebook).resolve().parent
    untracked = git(folder, "ls-files", "--others", "--exclude-standard", "--full-name", ":/")
    names = "".join(f"# untracked: {name}\n" for name in untracked.splitlines())
    text = names + git(folder, "diff", "HEAD", strip=False)
    return (
        text
        if len(text) <= DIFF_LIMIT
        else text[:DIFF_LIMIT] + f"\n# cut: {len(text)} characters\n"
    )


def git(folder, *arguments, strip=True):
    """What git prints in `folder`; an empty text where it fails or is not installed."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    text = done.stdout.decode("utf-8", "replace")
    return text.strip() if strip else text


def user():
    """Who is at work, by name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id may have no name
        return "unknown"
