"""A notebook's parameters cell, read as its interface: names, types, defaults, help and allowed values.

    rows: int = 20000  # rows to use, 0 for all [0, inf)
    model: str = "hgb"  # which estimator {linear, forest, hgb, *.*}

The annotation (or else the default) gives the type, the comment the help. A trailing `{a, b}` in it lists the allowed
values (with `*` as in file names), a trailing interval the allowed range: square brackets include their end.
"""

import ast
import builtins
import difflib
import fnmatch
import io
import json
import keyword
import math
import re
import tokenize
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import yaml

from Codes.errors import WorkbookError

TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict}
SECRET_NAME = re.compile(
    r"(^|_)(password|passwd|secret|token|api_?key|access_?key|private_?key|credentials?)$", re.IGNORECASE
)
SECRET_VALUE = re.compile(
    r"AKIA[0-9A-Z]{16}|gh[pousr]_\w{30,}|github_pat_\w{30,}|glpat-[\w-]{20}|xox[abprs]-[\w-]{10,}|sk-[\w-]{20,}"
    r"|AIza[\w-]{35}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+|-----BEGIN [A-Z ]*PRIVATE KEY|\w+://[^/\s:@]+:[^/\s@]+@"
)
BY_REFERENCE = "env:"


@dataclass(frozen=True)
class Parameter:
    """One parameter: `type` is a key of TYPES or None where anything goes; `choices` are patterns, `interval` a range."""

    name: str
    type: str | None
    default: object
    help: str = ""
    optional: bool = False
    choices: tuple = ()
    interval: tuple | None = None

    @property
    def allowed(self):
        """The declared domain in words, as it stands in the comment."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        if self.interval:
            low, high, closed_low, closed_high = self.interval
            return f"within {'[' if closed_low else '('}{low:g}, {high:g}{']' if closed_high else ')'}"
        return ""


def of(notebook, where="the notebook"):
    """The parameters of `notebook` (an nbformat node); [] where no cell is tagged; `where` names it in errors."""
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) > 1:
        raise WorkbookError(f"{where}: {len(cells)} cells are tagged 'parameters'; allowed is one: merge them.")
    return parse(cells[0].source, where) if cells else []


def parse(source, where="the parameters cell"):
    """The parameters that `source` (a cell's code) assigns, in order."""
    try:
        tree = ast.parse(source)
        comments = _comments(source)
    except (SyntaxError, tokenize.TokenError) as error:
        raise WorkbookError(f"{where}: the parameters cell is not valid Python: {error}.") from error
    found = []
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            name, annotation = node.target.id, node.annotation
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name, annotation = node.targets[0].id, None
        else:
            continue
        if hasattr(builtins, name):
            raise WorkbookError(f"{where}: '{name}' is a builtin of Python; rename that parameter.")
        comment = comments.get(node.end_lineno) or comments.get(node.lineno, "")
        found.append(_parameter(name, annotation, node.value, comment))
    return found


def _comments(source):
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ").rstrip() for t in tokens if t.type == tokenize.COMMENT}


def _parameter(name, annotation, value, comment):
    default = _literal(value)
    kind, optional, choices = _annotation(annotation)
    if annotation is None and not isinstance(default, Computed):
        kind = next((k for k, t in TYPES.items() if type(default) is t), None)
        optional = default is None
    text, comment_choices, interval = _domain(comment)
    return Parameter(
        name, kind, default, text, optional or default is None, choices or comment_choices, interval
    )


class Computed(str):
    """A default that is an expression, kept as its source: its value is known only in the kernel."""


def _literal(node):
    source = ast.unparse(node)
    if match := re.fullmatch(r"float\(['\"]([+-]?(?:nan|inf|infinity))['\"]\)", source, re.IGNORECASE):
        return float(match[1])
    try:
        return ast.literal_eval(node)
    except ValueError:
        return Computed(source)


def _annotation(node):
    """(type, may be None, choices) of an annotation; what is not one of TYPES accepts anything."""
    if node is None:
        return None, False, ()
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return _annotation(ast.parse(node.value, mode="eval").body)
        return None, node.value is None, ()
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        left, right = _annotation(node.left), _annotation(node.right)
        return left[0] or right[0], left[1] or right[1], left[2] or right[2]
    if isinstance(node, ast.Subscript):
        base = ast.unparse(node.value).rpartition(".")[2]
        if base == "Optional":
            return _annotation(node.slice)[0], True, ()
        if base == "Literal":
            items = ast.literal_eval(node.slice)
            items = items if isinstance(items, tuple) else (items,)
            return type(items[0]).__name__, None in items, items
        return (base if base in TYPES else None), False, ()
    name = ast.unparse(node)
    return (name if name in TYPES else None), False, ()


def _domain(comment):
    """Split a comment into (help, choices, interval)."""
    if match := re.search(r"\{([^{}]+)\}\s*$", comment):
        choices = tuple(c.strip() for c in match[1].split(","))
        return comment[: match.start()].rstrip(), choices, None
    number = r"([+-]?(?:inf|[\d.]+(?:e[+-]?\d+)?))"
    if match := re.search(rf"([\[(])\s*{number}\s*,\s*{number}\s*([\])])\s*$", comment, re.IGNORECASE):
        low, high = float(match[2]), float(match[3])
        interval = (low, high, match[1] == "[", match[4] == "]")
        return comment[: match.start()].rstrip(), (), interval
    return comment, (), None


def from_text(parameters, texts):
    """The values that `texts` (name → what was typed) stand for, read by each parameter's declared type."""
    declared = {p.name: p for p in parameters}
    return {name: _read(declared.get(name), text) for name, text in texts.items()}


def _read(parameter, text):
    if parameter is None or parameter.type == "str":
        return None if parameter and parameter.optional and text in ("None", "null") else text
    if text.startswith(BY_REFERENCE):
        return text
    try:
        return json.loads(text)
    except ValueError:
        pass
    if parameter.type == "float":
        try:
            return float(text)
        except ValueError:
            return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return None if value == "None" else value


def check(parameters, given, where="the notebook"):
    """All values, defaults included, once `given` (name → value) has passed; a WorkbookError names the first that fails."""
    declared = {p.name: p for p in parameters}
    if given and not parameters:
        raise WorkbookError(
            f"{where} has no cell tagged 'parameters', so it takes none; given: {', '.join(map(repr, given))}. "
            "Tag its parameters cell (in JupyterLab: the property inspector)."
        )
    for name in given:
        if name not in declared:
            raise WorkbookError(_unknown(name, declared, where))
    values = {}
    for name, parameter in declared.items():
        value = checked(parameter, given[name]) if name in given else parameter.default
        _refuse_secret(name, value)
        values[name] = value
    return values


def _unknown(name, declared, where):
    near = difflib.get_close_matches(str(name), declared, n=1)
    if not str(name).isidentifier() or keyword.iskeyword(str(name)):
        return f"{name!r} is not a parameter name (a Python name, no keyword); {where} takes {', '.join(declared)}."
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"{where} has no parameter '{name}'; it takes {', '.join(declared)}.{hint}"


def checked(parameter, value):
    """`value` as the plain Python value that `parameter` allows, or a WorkbookError that says what is allowed."""
    value = plain(parameter.name, value)
    if isinstance(value, str) and value.startswith(BY_REFERENCE):
        return value
    if value is None:
        if not parameter.optional:
            raise WorkbookError(f"{parameter.name}=None: it must be {parameter.type}; None is not allowed.")
        return value
    if parameter.type == "float" and type(value) is int:
        value = float(value)
    if parameter.type and type(value) is not TYPES[parameter.type]:
        raise WorkbookError(
            f"{parameter.name}={value!r} is {type(value).__name__}; it must be {parameter.type} "
            f"(default {parameter.default!r})."
        )
    _check_domain(parameter, value)
    return value


def _check_domain(parameter, value):
    if isinstance(value, float) and not math.isfinite(value):
        default = parameter.default
        declared = isinstance(default, float) and not math.isfinite(default)
        closed = parameter.interval and value in parameter.interval[:2]
        if not declared and not closed:
            raise WorkbookError(f"{parameter.name}={value}: it must be a finite number.")
    if parameter.choices and not any(_matches(value, c) for c in parameter.choices):
        near = difflib.get_close_matches(str(value), map(str, parameter.choices), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise WorkbookError(f"{parameter.name}={value!r}: it must be {parameter.allowed}.{hint}")
    if parameter.interval and not _inside(value, parameter.interval):
        raise WorkbookError(f"{parameter.name}={value!r}: it must be {parameter.allowed}.")


def _matches(value, choice):
    return value == choice or fnmatch.fnmatchcase(str(value), str(choice))


def _inside(value, interval):
    low, high, closed_low, closed_high = interval
    above = value >= low if closed_low else value > low
    return above and (value <= high if closed_high else value < high)


def plain(name, value):
    """`value` as what JSON can hold: dates and paths as text, NumPy scalars as numbers; others are refused by `name`."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, (date, Path)):
        return value.isoformat() if isinstance(value, date) else str(value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [plain(name, v) for v in value]
    if isinstance(value, dict):
        if bad := [k for k in value if not isinstance(k, str)]:
            raise WorkbookError(f"{name}: the key {bad[0]!r} is {type(bad[0]).__name__}; keys must be str.")
        return {k: plain(name, v) for k, v in value.items()}
    raise WorkbookError(
        f"{name}={value!r} is {type(value).__name__}; allowed are bool, int, float, str, None, list and dict."
    )


def _refuse_secret(name, value):
    if not isinstance(value, str) or value.startswith(BY_REFERENCE) or not value:
        values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        keys = value if isinstance(value, dict) else [name] * len(values)
        for key, item in zip(keys, values):
            _refuse_secret(key, item)
        return
    if SECRET_NAME.search(name) or SECRET_VALUE.search(value):
        raise WorkbookError(
            f"{name}: its value looks like a secret, and parameters are recorded. Put it into an environment variable "
            f"and pass its name: {name}={BY_REFERENCE}MY_VARIABLE."
        )


def assignment(values):
    """The code of a cell that assigns `values`: literals only, so that no value can become code."""
    return "\n".join(f"{name} = {_source(name, value)}" for name, value in values.items())


def _source(name, value):
    if isinstance(value, str) and value.startswith(BY_REFERENCE):
        variable = value.removeprefix(BY_REFERENCE)
        return f'__import__("os").environ[{variable!r}]'
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    if isinstance(value, list):
        return "[" + ", ".join(_source(name, v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {_source(name, v)}" for k, v in value.items()) + "}"
    return repr(value)


def references(values):
    """The environment variables that `values` name by `env:NAME`; a missing one is a WorkbookError."""
    return [v.removeprefix(BY_REFERENCE) for v in _leaves(values) if str(v).startswith(BY_REFERENCE)]


def _leaves(value):
    if isinstance(value, dict):
        return [leaf for v in value.values() for leaf in _leaves(v)]
    if isinstance(value, list):
        return [leaf for v in value for leaf in _leaves(v)]
    return [value] if isinstance(value, str) else []
