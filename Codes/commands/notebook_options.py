"""The options of the commands that take a notebook, and its parameters as they may be typed."""

import functools
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import click

from Codes.commands import completion, terminal
from Codes.forks import channel
from Codes.ground.errors import WorkbookError

Pairs: TypeAlias = tuple[tuple[str, str], ...]  # each `-p NAME VALUE`
Command = TypeVar("Command", bound=Callable[..., Any])


class NotebookCommand(click.Command):
    """A command with parameters of a notebook, which may be typed as `-p NAME VALUE` and as `-p NAME=VALUE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        split = []
        for before, word in zip(["", *args], args):
            name, equals, value = word.partition("=")
            is_pair = before in ("-p", "--parameter") and equals and name.isidentifier()
            split += [name, value] if is_pair else [word]
        return super().parse_args(ctx, split)


PARAMETER_OPTIONS = [
    click.option(
        "-p",
        "--parameter",
        "pairs",
        nargs=2,
        multiple=True,
        metavar="NAME VALUE",
        help="One parameter; or NAME=VALUE.",
    ),
    click.option(
        "--params",
        "line",
        default="",
        metavar="'A=1 B=2'",
        help="Several, as make's P= gives them.",
    ),
    click.option("-y", "--yaml", "text", metavar="YAML", help="Parameters as YAML text."),
    click.option(
        "-f",
        "--file",
        "file",
        metavar="FILE",
        shell_complete=completion.files,
        help="Parameters from a YAML file.",
    ),
]
NOTEBOOK_OPTIONS = [
    *PARAMETER_OPTIONS,
    click.option("-k", "--kernel", metavar="NAME", help="Another kernel than the notebook's."),
    click.option(
        "--experiment", metavar="NAME", help="The MLflow experiment; default: the problem's name."
    ),
    click.option(
        "--cell-timeout",
        type=terminal.Amount(min=0, min_open=True),
        metavar="S",
        help="Seconds a cell may take.",
    ),
    click.option(
        "--timeout",
        type=terminal.Amount(min=0, min_open=True),
        metavar="S",
        help="Seconds the notebook may take.",
    ),
    click.option("--system-metrics", is_flag=True, help="Also log processor, memory and disk use."),
    click.option("--no-progress", is_flag=True, help="No progress bar."),
    click.option(
        "--cold", is_flag=True, help=f"Start each kernel from nothing; so does {channel.COLD}=1."
    ),
]


def notebook_options(command: Command) -> Command:
    """`command` with the options of whatever executes notebooks."""
    return _with(command, NOTEBOOK_OPTIONS)


def parameter_options(command: Command) -> Command:
    """`command` with the options that give parameters of a notebook."""
    return _with(command, PARAMETER_OPTIONS)


def _with(command: Command, options: Sequence[Callable[[Any], Any]]) -> Command:
    return functools.reduce(lambda made, option: option(made), reversed(options), command)


def gather(pairs: Pairs, line: str, text: str | None, file: str | None) -> dict[str, Any]:
    """All given parameters by name; the later source wins: file, YAML text, make's line, -p."""
    from Codes.ground import plain_yaml
    from Codes.running import runner

    if file and not os.path.isfile(file):
        raise WorkbookError(f"there is no parameter file {file}; give the path of a YAML file.")
    given = plain_yaml.read(Path(file)) if file else {}
    given |= plain_yaml.mapping(text, "--yaml") if text else {}
    return (
        given
        | {n: runner.Typed(v) for n, v in split_line(line)}
        | {n: runner.Typed(v) for n, v in pairs}
    )


def split_line(line: str) -> list[list[str]]:
    """(name, value) of each part of `line`, quoted as in a shell; brackets may stand bare: `h={depth: 3} seed=1`."""
    parts = split_bare(line)
    if bad := [part for part in parts if "=" not in part]:
        raise WorkbookError(f'P: {bad[0]!r} is not name=value; write P="model=forest seed=3".')
    return [part.split("=", 1) for part in parts]


def split_bare(line: str) -> list[str]:
    """The parts of `line`: lists and dicts after `name=` as they stand, the others as a shell splits words."""
    from Codes.ground import plain_yaml

    parts, rest = [], line.strip()
    while rest:
        name, equals, value = rest.partition("=")
        if equals and value.startswith(("{", "[")) and name.isidentifier():
            end = plain_yaml.closing(value)
            if end is None:
                raise WorkbookError(f"P: the brackets of {name} do not close: {value[:100]}")
            parts.append(f"{name}={value[:end]}")
            rest = value[end:].strip()
            continue
        lexer = shlex.shlex(rest, posix=True, punctuation_chars=False)
        lexer.whitespace_split, lexer.commenters = True, ""
        try:
            parts.append(lexer.get_token())
        except ValueError as error:
            raise WorkbookError(f"P: {error} in {rest!r}; quote as in a shell.") from error
        rest = lexer.instream.read().strip()  # pyrefly: ignore[bad-argument-count]  # an open text
    return [part for part in parts if part]
