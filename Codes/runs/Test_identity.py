"""What a run says of its code: the commit, whether the tree was dirty, and a diff that can be applied."""

import re
import subprocess

import nbformat
import papermill
import pytest
from nbformat.v4 import new_output
from papermill.iorw import LocalHandler

from Codes.running import engine
from Codes.runs import identity
from Codes.testing.testbed import write_notebook


@pytest.fixture(name="notebook")
def _notebook(tmp_path):
    """A notebook in a git repository with a changed text, a changed binary file and an untracked one."""
    folder = tmp_path / "repository"
    (folder / "notebooks").mkdir(parents=True)
    path = write_notebook(folder / "notebooks" / "x.ipynb", "1")
    git(folder, "init", "--quiet", "--initial-branch=main")
    write(folder, b"\0\1before", "before\n")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "--quiet", "-m", "one")
    write(folder, b"\0\1after", "after\n")
    (folder / "new").write_text("untracked")
    return path


def git(folder, *arguments):
    """Run git in `folder`."""
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def write(folder, data, text):
    """Give the two files of the repository in `folder` their content."""
    (folder / "binary").write_bytes(data)
    (folder / "text").write_text(text)


@pytest.mark.parametrize(
    "setting",
    ["color.ui=always", "diff.external=echo", "diff.noprefix=true", "diff.relative=true"],
)
def test_the_diff_can_be_applied_whatever_the_user_has_set(notebook, setting):
    folder = notebook.parent.parent
    git(folder, "config", *setting.split("="))
    text = identity.uncommitted(notebook)
    assert "# untracked: new\n" in text and "\x1b" not in text
    (folder / "new").write_text(text)
    git(folder, "checkout", "--", ".")
    git(folder, "apply", "new")
    assert (folder / "binary").read_bytes() == b"\0\1after"
    assert (folder / "text").read_text() == "after\n"


def test_binary_content_over_the_limit_is_left_out_and_then_the_rest_is_cut(notebook, monkeypatch):
    whole = len(identity.uncommitted(notebook))
    monkeypatch.setattr(identity, "DIFF_LIMIT", whole - 50)
    assert "+after" in (text := identity.uncommitted(notebook)) and "# cut" not in text
    assert "Binary files a/binary and b/binary differ" in text
    monkeypatch.setattr(identity, "DIFF_LIMIT", 60)
    assert identity.uncommitted(notebook).endswith("\n# cut: over 60 bytes\n")


def test_a_tree_is_called_dirty_or_clean_only_where_git_tells(notebook, monkeypatch):
    assert identity.tags(notebook)[identity.DIRTY] == "true"
    git(notebook.parent, "stash", "--include-untracked")
    assert identity.tags(notebook)[identity.DIRTY] == "false"
    (notebook.parent.parent / ".git" / "index").write_bytes(b"damaged")
    found = identity.tags(notebook)
    assert identity.DIRTY not in found and found["mlflow.source.git.commit"]
    assert "# git could not tell the changes" in identity.uncommitted(notebook)
    monkeypatch.setattr(identity, "PATIENCE", 0)
    assert identity.DIRTY not in identity.tags(notebook)


def saved(path, **changes):
    """Save the notebook at `path` as JupyterLab does after a run: outputs, counts, times; and `changes` to sources."""
    nb = nbformat.read(path, as_version=4)
    nb.metadata.language_info = {"name": "python", "version": "3.13.9"}
    nb.metadata.kernelspec = {"name": "workbook", "display_name": "Warm", "language": "python"}
    for number, cell in enumerate(nb.cells, 1):
        cell.outputs = [new_output("stream", text="shown\n" * 1000)]
        cell.execution_count, cell.metadata["execution"] = number, {"iopub.status.idle": "now"}
        cell.source = changes.get(cell.source, cell.source)
    nbformat.write(nb, path)


@pytest.fixture(name="clean")
def _clean(notebook):
    """The notebook in a repository without changes, under a name that git quotes."""
    git(notebook.parent, "stash", "--include-untracked")
    path = notebook.with_name("é 'x'.ipynb")
    git(notebook.parent, "mv", notebook.name, path.name)
    git(notebook.parent, "-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "-qm", "two")
    return path


def test_outputs_that_jupyterlab_has_saved_make_no_tree_dirty_and_are_in_no_diff(clean):
    saved(clean)
    assert identity.tags(clean)[identity.DIRTY] == "false"
    assert identity.uncommitted(clean) == ""
    git(clean.parent, "add", ".")
    assert identity.tags(clean)[identity.DIRTY] == "false"
    write(clean.parent.parent, b"\0\1after", "after\n")
    assert identity.tags(clean)[identity.DIRTY] == "true"
    assert "shown" not in identity.uncommitted(clean) and "+after" in identity.uncommitted(clean)


@pytest.mark.parametrize("end", ["\n", ""])
def test_of_changed_code_the_diff_shows_the_code_alone_and_can_be_applied(clean, end):
    clean.write_text(clean.read_text("utf-8").rstrip() + end, "utf-8")
    git(
        clean.parent,
        "-c",
        "user.name=A",
        "-c",
        "user.email=a@b.c",
        "commit",
        "-qam",
        "3",
        "--allow-empty",
    )
    saved(clean, **{"1": "22"})
    assert identity.tags(clean)[identity.DIRTY] == "true"
    text = identity.uncommitted(clean)
    changed = [line for line in text.splitlines() if re.match(r"[+-](?!\+\+|--)", line)]
    assert [line.strip("+- ") for line in changed] == ['"1"', '"22"']
    git(clean.parent, "checkout", "--", ".")
    (clean.parent.parent / "patch").write_text(text, "utf-8")
    git(clean.parent.parent, "apply", "patch")
    sources = [cell.source for cell in nbformat.read(clean, as_version=4).cells]
    assert sources == ["seed: int = 0  # random state", "22"]


def test_added_removed_and_broken_notebooks_are_changes(clean):
    whole = clean.read_text("utf-8")
    nb = nbformat.read(clean, as_version=4)
    nb.cells.append(nbformat.v4.new_code_cell("3", outputs=[new_output("stream", text="shown")]))
    nbformat.write(nb, clean)
    text = identity.uncommitted(clean)
    assert '+    "3"' in text and "shown" not in text
    for content in (whole.replace('"cells"', '"no"'), "{"):
        clean.write_text(content, "utf-8")
        assert identity.tags(clean)[identity.DIRTY] == "true"
        assert "diff --git" in identity.uncommitted(clean)
    clean.unlink()
    assert identity.tags(clean)[identity.DIRTY] == "true"
    assert "deleted file" in identity.uncommitted(clean.parent / "other")


class Opened(Exception):
    """Ends an execution where its run would be opened."""


def test_papermill_tells_the_notebook_itself_also_from_another_folder(notebook, monkeypatch):
    def open_run(_nb, source, *_):
        raise Opened(identity.tags(source))

    monkeypatch.setattr(engine, "open_run", open_run)
    monkeypatch.setattr(LocalHandler, "write", LocalHandler.write)
    monkeypatch.chdir(notebook.parent.parent)
    with pytest.raises(Opened) as opened:
        papermill.execute_notebook(
            "notebooks/x.ipynb", None, engine_name="mlflow", cwd="notebooks", progress_bar=False
        )
    (found,) = opened.value.args
    assert found["mlflow.source.name"] == "notebooks/x.ipynb" and found["mlflow.source.git.commit"]
