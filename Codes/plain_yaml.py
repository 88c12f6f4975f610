"""YAML read as plain data: whatever could surprise the writer is refused, in one line."""

import re

import yaml

from Codes.errors import WorkbookError


class _Loader(yaml.SafeLoader):  # pylint: disable=too-many-ancestors
    """No Python objects, no key twice, no `on` or `no` that turns into true or false."""


def _line(node):
    """'line n', where `node` starts."""
    return f"line {node.start_mark.line + 1}"


def _mapping(loader, node):
    """A dict of `node`; a key that comes twice is refused, where YAML would take the last."""
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise WorkbookError(f"{_line(key)}: a key must be text, not a list or a mapping")
        if key.value in seen:
            raise WorkbookError(f"{_line(key)}: {key.value}: the key comes twice")
        seen.add(key.value)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


def _boolean(_, node):
    """True or False; YAML 1.1's other spellings are refused (`no` is Norway, too)."""
    if node.value.lower() not in ("true", "false"):
        word = node.value
        raise WorkbookError(f'{_line(node)}: {word}: write "{word}" for the text, or true or false')
    return node.value.lower() == "true"


def _integer(loader, node):
    """An int; YAML 1.1 reads 012 as ten and 1:30 as ninety, which nobody means."""
    if ":" in node.value or re.match("[+-]?0[0-9_]", node.value):
        word = node.value
        raise WorkbookError(
            f'{_line(node)}: {word}: write "{word}" for the text, or a plain number'
        )
    return yaml.SafeLoader.construct_yaml_int(loader, node)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:bool", _boolean)


def read(path):
    """The mapping in the YAML file `path` (a Path).

    Raises:
        WorkbookError: 'file.yaml: line n: what is wrong'.
    """
    try:
        return mapping(path.read_bytes().decode("utf-8-sig"), path.name)
    except UnicodeDecodeError as error:
        raise WorkbookError(f"{path.name}: {_sentence(error)}") from None


def mapping(text, where):
    """The mapping in the YAML `text`; `where` names it in a WorkbookError."""
    fields = parse(text, where)
    if not isinstance(fields, dict):
        raise WorkbookError(f"{where}: lines of 'key: value' are needed")
    return fields


def parse(text, where):
    """What the YAML `text` means; `where` names it in a WorkbookError."""
    try:
        return yaml.load(text, Loader=_Loader)  # our loader is a SafeLoader
    except (WorkbookError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise WorkbookError(f"{where}: {_sentence(error)}") from None


def _sentence(error):
    """What went wrong, in one line."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    if isinstance(error, RecursionError):
        return "too deeply nested"
    mark = getattr(error, "problem_mark", None)
    line = f"line {mark.line + 1}: " if mark else ""
    return line + str(getattr(error, "problem", None) or error).splitlines()[0]
