"""YAML read as plain data: whatever could surprise the writer is refused, in one line.

Numbers are read as YAML 1.2 and Python do (`1e-3` is one), and `None`, `nan` and `inf` as Python does.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from Codes.ground.errors import WorkbookError

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
FLOAT = rf"(?:(?=[-+.\d]*[.eE]){NUMBER}|[-+]?\.?(?:inf|Inf|INF|Infinity)|\.?(?:nan|NaN|NAN))"
QUOTED = r"""(?<![^\s\[{,:=])(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')"""


class Ambiguous(WorkbookError):
    """What one reader takes for a text and another for something else."""


class _Loader(yaml.SafeLoader):  # pylint: disable=too-many-ancestors
    """No Python objects, no key twice, no `on` or `no` that turns into true or false."""


class _Dumper(yaml.SafeDumper):  # pylint: disable=too-many-ancestors
    """Quotes what the loader would not take for text."""


for each in (_Loader, _Dumper):
    each.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(f"^{FLOAT}$"), list("-+.0123456789iInN")
    )
    each.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^None$"), ["N"])


def _line(node: yaml.Node) -> str:
    """'line n', where `node` starts."""
    return f"line {node.start_mark.line + 1}"


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    """A dict of `node`; a key that comes twice is refused, where YAML would take the last."""
    seen = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise WorkbookError(f"{_line(key)}: a key must be text, not a list or a mapping")
        if key.value in seen:
            raise WorkbookError(f"{_line(key)}: {key.value}: the key comes twice")
        if node.flow_style and value.value == "" and value.style is None:
            raise WorkbookError(f"{_line(key)}: {key.value}: {_without_value(key.value)}")
        seen.add(key.value)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


def _without_value(key: str) -> str:
    name, colon, value = key.partition(":")
    if colon and value:
        return f"a space is missing after the colon: {{{name}: {value}}}"
    return f"the key has no value; write {{{key}: null}} for none"


def _boolean(_: _Loader, node: yaml.ScalarNode) -> bool:
    """True or False; YAML 1.1's other spellings are refused (`no` is Norway, too)."""
    if node.value.lower() not in ("true", "false"):
        word = node.value
        raise Ambiguous(f'{_line(node)}: {word}: write "{word}" for the text, or true or false')
    return node.value.lower() == "true"


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    """An int; YAML 1.1 reads 012 as ten and 1:30 as ninety, which nobody means."""
    _refuse_sixties(node)
    return yaml.SafeLoader.construct_yaml_int(loader, node)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    """A float."""
    _refuse_sixties(node)
    return yaml.SafeLoader.construct_yaml_float(loader, node)


def _refuse_sixties(node: yaml.ScalarNode) -> None:
    if ":" in node.value or re.match("[+-]?0[0-9_]", node.value):
        word = node.value
        raise Ambiguous(f'{_line(node)}: {word}: write "{word}" for the text, or a plain number')


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)
_Loader.add_constructor("tag:yaml.org,2002:bool", _boolean)


def read(path: Path) -> dict[str, Any]:
    """The mapping in the YAML file `path` (a Path).

    Raises:
        WorkbookError: 'file.yaml: line n: what is wrong'.
    """
    try:
        return mapping(path.read_bytes().decode("utf-8-sig"), path.name)
    except UnicodeDecodeError as error:
        raise WorkbookError(f"{path.name}: {_sentence(error)}") from None


def mapping(text: str, where: str) -> dict[str, Any]:
    """The mapping in the YAML `text`; `where` names it in a WorkbookError."""
    fields = parse(text, where)
    if not isinstance(fields, dict):
        raise WorkbookError(f"{where}: lines of 'key: value' are needed")
    return fields


def parse(text: str, where: str) -> Any:
    """What the YAML `text` means; `where` names it in a WorkbookError."""
    try:
        return yaml.load(text, Loader=_Loader)  # our loader is a SafeLoader
    except (WorkbookError, yaml.YAMLError, ValueError, RecursionError) as error:
        kind = Ambiguous if isinstance(error, Ambiguous) else WorkbookError
        raise kind(f"{where}: {_sentence(error)}") from None


def typed(text: str, where: str) -> Any:
    """What `text` means where somebody typed it on a line: as `parse` has it, without comments and blocks of lines."""
    is_marked = text.lstrip().startswith(("[", "{", '"', "'"))
    if not is_marked and re.search(r"(^|\s)#", text):
        return text
    value = parse(text, where)
    return value if is_marked or not isinstance(value, (list, dict)) else text


def dump(fields: object) -> str:
    """`fields` as YAML that `mapping` reads as the same."""
    return yaml.dump(fields, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def split(text: str, at: str = ",") -> list[str]:
    """The parts of `text` between each `at` that stands outside brackets and quotes."""
    parts, start, depth = [], 0, 0
    for match in re.finditer(rf"{QUOTED}|[\[\]{{}}]|{re.escape(at)}", text):
        depth += (match[0] in "[{") - (match[0] in "]}")
        if match[0] == at and depth == 0:
            parts.append(text[start : match.start()])
            start = match.end()
    return [*parts, text[start:]]


def closing(text: str) -> int | None:
    """Where the bracket that `text` begins with is closed, as the index after it; None where it is not."""
    depth = 0
    for match in re.finditer(rf"{QUOTED}|[\[\]{{}}]", text):
        depth += (match[0] in "[{") - (match[0] in "]}")
        if depth == 0:
            return match.end()
    return None


def _sentence(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    if isinstance(error, RecursionError):
        return "too deeply nested"
    mark = getattr(error, "problem_mark", None)
    line = f"line {mark.line + 1}: " if mark else ""
    return line + str(getattr(error, "problem", None) or error).splitlines()[0]
