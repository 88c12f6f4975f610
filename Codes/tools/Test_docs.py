"""The pages say what is there: their links lead somewhere, their commands exist, what is made from code is fresh."""

import re
import shlex
import tomllib

import click
import nbformat
import pytest
import yaml

from Codes.commands import cli, notebook_options
from Codes.ground.paths import NOTEBOOKS, ROOT
from Codes.running import runner
from Codes.tools import reference, stages

PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")]
)
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
WITH_COMMANDS = [*PAGES, *sorted(NOTEBOOKS.glob("*.ipynb"))]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TOP = reference.context()
OPEN = ("…", "...")  # what follows is the reader's


def prose(path):
    """The text of a page, or of a notebook's cells that are no code."""
    if path.suffix == ".md":
        return path.read_text("utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def blocks(text):
    """The fenced blocks of `text`, and `text` without them."""
    fence = re.compile(r"^( *)```\w*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
    return [found[2] for found in fence.finditer(text)], fence.sub("", text)


def commands(path):
    """The `workbook …` and `make …` of a page: lines of its blocks, and what stands between backticks."""
    fenced, rest = blocks(prose(path))
    lines = "\n".join(fenced).replace("\\\n", " ").splitlines()
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", rest)
    typed = [re.split(r"\s#\s|\s\s+#", line)[0].strip() for line in [*lines, *spans]]
    return [each for each in typed if re.match(r"(workbook|make) [a-z]", each)]


def is_told(line):
    """A problem with a typed `line`, or nothing."""
    words = shlex.split(re.split(r" [|;&>] ", line)[0])
    cut = [i for i, word in enumerate(words) if any(mark in word for mark in OPEN)]
    words, whole = words[: cut[0]] if cut else words, not cut
    return (of_make if words[0] == "make" else of_workbook)(words[1:], whole)


def of_make(words, _whole):
    """What is wrong with a call of make."""
    for word in words:
        name, equals, _ = word.partition("=")
        if not equals and word not in reference.targets():
            return f"there is no target {word}"
        if equals and not re.search(rf"\b{name}\b", MAKEFILE):
            return f"no target takes {name}"
    notebook = [word[3:] for word in words if word.startswith("NB=")]
    typed = " ".join(word[2:] for word in words if word.startswith("P="))
    return of_parameters(
        notebook, [name for name, _ in notebook_options.split_line(typed)] if typed else []
    )


def of_workbook(words, whole):
    """What is wrong with a call of the command: its name, an option, a value; what is missing only in a `whole` one."""
    if not words or words[0] in ("-h", "--help", "--version"):
        return ""
    if words[0] not in cli.main.commands:
        return f"there is no command {words[0]}"
    command = cli.main.commands[words[0]]
    try:
        with command.make_context(words[0], words[1:], TOP, resilient_parsing=False) as context:
            given = context.params
    except click.MissingParameter:
        return ""
    except click.UsageError as error:
        return error.format_message() if whole or isinstance(error, click.NoSuchOption) else ""
    return of_parameters([given.get("notebook")], [name for name, _ in given.get("pairs") or ()])


def of_parameters(notebooks, names):
    """What is wrong with the `names` of parameters of the notebooks that ship."""
    for notebook in filter(None, notebooks):
        path = NOTEBOOKS / f"{notebook}.ipynb"
        if re.match(r"\d\d_", notebook) and "NAME" not in notebook and "mine" not in notebook:
            if not path.exists():
                return f"there is no notebook {notebook}"
            unknown = {"NAME", *names} - {each.name for each in runner.declared(path)} - {"NAME"}
            if unknown:
                return f"{notebook} has no parameter {unknown.pop()}"
    return ""


@pytest.mark.parametrize("path", WITH_COMMANDS, ids=lambda path: path.name)
def test_each_command_that_is_written_down_is_one_that_there_is(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    wrong = {line: is_told(line) for line in commands(path)}
    assert not {line: told for line, told in wrong.items() if told}


@pytest.mark.parametrize(
    "line, told",
    [
        ("workbook rn 02_train", "no command rn"),
        ("workbook run 02_train --sead 1", "--sead"),
        ("workbook run 02_train -p sead 1", "no parameter sead"),
        ("workbook run 02_trian", "no notebook"),
        ("workbook serve flights@production --port many", "--port"),
        ("make rnu", "no target rnu"),
        ("make sweep TRAILS=3", "TRAILS"),
        ('make run NB=02_train P="sead=3"', "no parameter sead"),
    ],
)
def test_a_command_that_there_is_not_is_found(line, told):
    assert told in is_told(line)


def slug(heading):
    """The anchor of a heading, as the site and GitHub make it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower())


def anchors(path):
    """The anchors of a page."""
    return {
        slug(each) for each in re.findall(r"^#+ (.*)$", blocks(path.read_text("utf-8"))[1], re.M)
    }


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_each_link_leads_to_a_file_and_a_heading_that_there_are(path):
    _, text = blocks(path.read_text("utf-8"))
    text = re.sub(r"`[^`\n]*`", "", text)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src(?:set)?="([^"]+)"', text)
    for link in (each for each in links if not re.match(r"[a-z]+:", each)):
        target, _, anchor = link.partition("#")
        there = (path.parent / target).resolve() if target else path
        assert there.is_file(), link
        assert not anchor or anchor in anchors(there), link


@pytest.mark.parametrize("name", reference.PAGES)
def test_what_is_made_from_the_code_is_fresh(name):
    written = (reference.FOLDER / name).read_text("utf-8").splitlines()
    assert reference.PAGES[name]().splitlines() == written, "make format"


def test_each_picture_is_shown_and_has_words_for_who_does_not_see_it():
    text = "".join(
        path.read_text("utf-8") for path in (ROOT / "README.md", ROOT / "docs" / "index.md")
    )
    for path in sorted((ROOT / "docs" / "pictures").iterdir()):
        assert text.count(f"pictures/{path.name}") == 2, path.name
    tags = re.findall(r"<img [^>]*>", text)
    assert tags and all(re.search(r'alt="[^"]{30,}"', tag) for tag in tags)


def test_the_site_lists_every_page():
    listed = re.findall(r"[\w/-]+\.md$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(
        str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")
    )


def test_nothing_that_make_or_a_command_says_of_itself_is_wider_than_a_terminal():
    lines = [
        line.strip("`")
        for line in reference.commands().splitlines()
        if not line.startswith("Activate")
    ]
    assert max(map(len, lines)) <= reference.WIDTH
    assert "..." not in cli.main.get_help(TOP).partition("Commands:")[2]


@pytest.mark.parametrize("name", sorted(cli.main.commands))
def test_each_commands_help_has_an_example_and_explains_each_option(name):
    command = cli.main.commands[name]
    shown = re.findall(rf"^ +workbook {name}\b.*$", command.help, re.MULTILINE)
    assert shown, "an example is missing"
    options = [each for each in command.params if isinstance(each, click.Option)]
    assert [each.name for each in options if not each.help] == []


def test_the_hooks_before_a_commit_are_the_checks_of_make_lint():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert all(repository["repo"] == "local" for repository in config["repos"])
    only = [re.search(r"ONLY=(\w+)", hook["entry"]) for hook in hooks]
    chosen = tuple(found[1] if found else hook["name"] for found, hook in zip(only, hooks))
    assert [stage.name for stage in stages.lint() if not stage.name.startswith(chosen)] == []
    names = [stage.name for stage in stages.lint()]
    assert [each for each in chosen if not any(name.startswith(each) for name in names)] == []


def test_the_citation_names_the_version_that_there_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    kept = citation["version"], citation["license"], citation["abstract"]
    assert kept == (project["version"], project["license"], project["description"])
