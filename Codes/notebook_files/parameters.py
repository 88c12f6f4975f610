"""A notebook's parameters cell, read as its interface: names, types, defaults, help and allowed values.

    rows: int = 20000  # rows to use, 0 for all [0, inf)
    model: str = "hgb"  # which estimator {linear, forest, hgb, *.*}

The annotation (or else the default) gives the type, the comment the help. A trailing `{a, b}` in it lists the allowed
values (with `*` as in file names), a trailing interval the allowed range: square brackets include their end.

papermill's own inspection reads each line as text: values over several lines, computed ones, and what is allowed pass
it by. pydantic could check values, but not read them from code and comments; the check is the smaller part.
"""

# pylint: disable=unidiomatic-typecheck
# A bool is an int to isinstance, and to nobody else.

import ast
import builtins
import fnmatch
import functools
import io
import json
import keyword
import math
import re
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Codes.ground import plain_yaml
from Codes.ground.errors import WorkbookError, nearest
from Codes.notebook_files import cells, languages

if TYPE_CHECKING:
    from nbformat import NotebookNode

TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict}
PASSWORD = re.compile(r"(^|_)(password|passwd|pwd|passphrase)$", re.IGNORECASE)
SECRET_NAME = re.compile(
    r"(^|_)(secret|token|api_?key|access_?key|private_?key|credentials?)$", re.IGNORECASE
)
# what stands where a secret could: a text in brackets such as <pad>, a number, words
BRACKETED = re.compile(r"<.*>|\[.*\]", re.DOTALL)
WORD = r"(?:[A-Z]*[^\W\d_A-Z]{1,24}|[A-Z]{1,24})"
PLAIN = re.compile(rf"[\W\d_]+|{WORD}([-_./:]{WORD})*")
NO_SECRET = "no secret"  # in a parameter's comment
SECRET_VALUE = re.compile(
    r"AKIA[0-9A-Z]{16}|gh[pousr]_\w{30,}|github_pat_\w{30,}|glpat-[\w-]{20}|xox[abprs]-[\w-]{10,}"
    r"|(?<!\w)sk-(?=[\w-]*\d)[\w-]{20,}"
    r"|AIza[\w-]{35}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+|-----BEGIN [A-Z ]*PRIVATE KEY|\w+://[^/\s:@]+:[^/\s@]+@"
)
BY_REFERENCE = "env:"
NONE = ("None", "null", "~")  # as YAML and Python write it
NOT_FINITE = ("nan", "inf", "-inf")  # as JSON, which has no word for them, keeps them
HIDDEN = "••••••"
DEEPEST = 50  # lists and dicts in one another; Python itself refuses 200 brackets
Interval = tuple[float, float, bool, bool]  # low, high, low is included, high is included
Annotation = tuple[str | None, bool, tuple]  # type, may be None, choices


@dataclass(frozen=True)
class Parameter:  # pylint: disable=too-many-instance-attributes
    """One parameter: `type` names keys of TYPES, joined by ' | ', or is None where anything goes.

    `choices` are patterns, `interval` is (low, high, low is included, high is included). `default` is MISSING where the
    cell only annotates the name; `doubt` is the line that may change it later, `uses` are the statements that read it.
    """

    name: str
    type: str | None
    default: object
    help: str = ""
    optional: bool = False
    choices: tuple[object, ...] = ()
    interval: Interval | None = None
    doubt: int = 0
    uses: tuple[cells.Use, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether the cell gives it as a literal, and nothing there can change it."""
        return not isinstance(self.default, Computed) and not self.doubt

    @property
    def value(self) -> object:
        """What the kernel holds where nothing is given: the default, or Computed where only the kernel knows."""
        is_certain = self.is_plain or isinstance(self.default, Computed)
        return self.default if is_certain else Computed(repr(self.default))

    @property
    def origin(self) -> str:
        """The default in words."""
        if isinstance(self.default, Computed):
            return f"computed: {self.default}" if self.default else "none: give one"
        return repr(self.default) + (f", or as line {self.doubt} says" if self.doubt else "")

    @property
    def kinds(self) -> list[str]:
        """The keys of TYPES that its values may have; [] where anything goes."""
        return self.type.split(" | ") if self.type else []

    @property
    def allowed(self) -> str:
        """The declared domain in words, as it stands in the comment."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        if self.interval:
            low, high, closed_low, closed_high = self.interval
            return (
                f"within {'[' if closed_low else '('}{low:g}, {high:g}{']' if closed_high else ')'}"
            )
        return ""


def of(
    notebook: "NotebookNode", where: object = "the notebook", kernel: str | None = None
) -> list[Parameter]:
    """The parameters of `notebook` (an nbformat node); [] where no cell is tagged; `where` names it in errors.

    Its language is the notebook's own, or else that of `kernel`.
    """
    tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) > 1:
        raise WorkbookError(
            f"{where}: {len(tagged)} cells are tagged 'parameters'; allowed is one: merge them."
        )
    if not tagged:
        return []
    source, language = tagged[0].source, languages.language_of(notebook, kernel)
    is_python = languages.is_python(notebook, kernel)
    return parse(source, where) if is_python else foreign(source, language)


def foreign(source: str, language: str) -> list[Parameter]:
    """The parameters that `source`, a cell in another `language`, assigns as far as its lines show."""
    return [
        Parameter(name, None, value if known else Computed(value), optional=True, uses=uses)
        for name, known, value, uses in languages.assignments(source, language)
    ]


def parse(source: str, where: object = "the parameters cell") -> list[Parameter]:
    """The parameters that `source` (a cell's code) assigns, in order."""
    try:
        code = cells.python(source)
        tree, comments = ast.parse(code), _comments(code)
    except (SyntaxError, tokenize.TokenError) as error:
        raise WorkbookError(
            f"{where}: the parameters cell is not valid Python: {error}."
        ) from error
    by_name: dict[str, Parameter] = {}
    for node in tree.body:
        for name, annotation, value in cells.assigned(node):
            if hasattr(builtins, name):
                raise WorkbookError(
                    f"{where}: '{name}' is a builtin of Python; rename that parameter."
                )
            comment = comments.get(node.end_lineno or node.lineno) or comments.get(node.lineno, "")
            new = _parameter(name, annotation, value, comment)
            by_name[name] = _redefined(by_name[name], new) if name in by_name else new
    doubts, uses = cells.effects(tree)
    return [
        replace(p, doubt=doubts.get(name, 0), uses=tuple(uses.get(name, ())))
        for name, p in by_name.items()
    ]


def _redefined(first: Parameter, second: Parameter) -> Parameter:
    """The parameter that is assigned twice: the second value, by the type and comment of whichever has one."""
    if second.type is None or not (second.help or second.choices or second.interval):
        return replace(first, default=second.default)
    return second


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        t.start[0]: t.string.lstrip("# ").rstrip() for t in tokens if t.type == tokenize.COMMENT
    }


def _parameter(
    name: str, annotation: ast.expr | None, value: ast.expr | None, comment: str
) -> Parameter:
    is_known, default = cells.literal(value) if value else (False, MISSING)
    if value and not is_known:
        default = Computed(ast.unparse(value))
    kind, optional, choices = _annotation(annotation)
    if annotation is None and is_known:
        kind = next((k for k, t in TYPES.items() if type(default) is t), None)
        optional = default is None
    text, comment_choices, interval = _domain(comment)
    return Parameter(
        name,
        kind or None,
        default,
        text,
        optional or default is None,
        choices or comment_choices,
        interval,
    )


class Computed(str):
    """A default that is an expression, kept as its source: its value is known only in the kernel."""


MISSING = Computed()  # of a name that is annotated, and given no value


def _annotation(node: ast.expr | None) -> Annotation:
    """(type, may be None, choices) of an annotation; what is not one of TYPES accepts anything (type None)."""
    if isinstance(node, ast.Constant):
        return _quoted(node.value) if isinstance(node.value, str) else ("", node.value is None, ())
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _either(_annotation(node.left), _annotation(node.right))
    if isinstance(node, ast.Subscript):
        return _subscripted(ast.unparse(node.value).rpartition(".")[2], node.slice)
    name = ast.unparse(node) if node else None
    return (name if name in TYPES else None), False, ()


def _quoted(text: str) -> Annotation:
    try:
        return _annotation(ast.parse(text, mode="eval").body)
    except SyntaxError:
        return None, False, ()


def _either(left: Annotation, right: Annotation) -> Annotation:
    anything = None in (left[0], right[0])
    kind = None if anything else " | ".join(dict.fromkeys(filter(None, (left[0], right[0]))))
    return kind, left[1] or right[1], left[2] + right[2]


def _subscripted(base: str, inside: ast.expr) -> Annotation:
    parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if base == "Optional":
        return _either(_annotation(inside), ("", True, ()))
    if base == "Union":
        return functools.reduce(_either, map(_annotation, parts))
    if base == "Literal" and all(isinstance(part, (ast.Constant, ast.UnaryOp)) for part in parts):
        items = tuple(ast.literal_eval(part) for part in parts)
        kinds = dict.fromkeys(type(item).__name__ for item in items if item is not None)
        return (" | ".join(kinds) if set(kinds) <= set(TYPES) else None), None in items, items
    return (base.lower() if base.lower() in TYPES else None), False, ()


def _domain(comment: str) -> tuple[str, tuple[str, ...], Interval | None]:
    """Split a comment into (help, choices, interval)."""
    if match := re.search(r"\{([^{}]+)\}\s*$", comment):
        choices = tuple(c.strip() for c in match[1].split(","))
        return comment[: match.start()].rstrip(), choices, None
    number = r"([+-]?(?:inf|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?))"
    if match := re.search(
        rf"([\[(])\s*{number}\s*,\s*{number}\s*([\])])\s*$", comment, re.IGNORECASE
    ):
        low, high = float(match[2]), float(match[3])
        interval = (low, high, match[1] == "[", match[4] == "]")
        return comment[: match.start()].rstrip(), (), interval
    return comment, (), None


def from_text(parameters: Iterable[Parameter], texts: Mapping[str, str]) -> dict[str, Any]:
    """The values that `texts` (name → what was typed) stand for, read by each parameter's declared type."""
    declared = {p.name: p for p in parameters}
    return {name: _read(declared.get(name), text) for name, text in texts.items()}


def _read(parameter: Parameter | None, text: str) -> Any:
    if parameter is None or text.startswith(BY_REFERENCE):
        return text
    if parameter.optional and text in NONE:
        return None
    if parameter.kinds == ["str"]:
        return text
    value = _value(parameter, text)
    return (
        text if "str" in parameter.kinds and type(value).__name__ not in parameter.kinds else value
    )


def _value(parameter: Parameter, text: str) -> Any:
    """What `text` means for `parameter`; the text itself where it means nothing."""
    with_parts = bool({"list", "dict"} & set(parameter.kinds))
    try:
        return meaning(parameter.name, text, with_parts)
    except WorkbookError as error:
        # of a parameter with a type, its check says it better
        if with_parts or not parameter.kinds and isinstance(error, plain_yaml.Ambiguous):
            raise
        return text


def meaning(name: str, text: str, with_parts: bool = False) -> Any:
    """What the typed `text` means as JSON or as YAML, of which only where `with_parts` all forms; `name` for errors."""
    try:
        return json.loads(text, object_pairs_hook=functools.partial(_once, name))
    except RecursionError as error:
        raise WorkbookError(
            f"{name}: its value is too deeply nested; allowed is {DEEPEST} deep."
        ) from error
    except ValueError:
        return plain_yaml.parse(text, name) if with_parts else plain_yaml.typed(text, name)


def _once(name: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for number, (key, _) in enumerate(pairs):
        if key in dict(pairs[:number]):
            raise WorkbookError(f"{name}: the key {key!r} comes twice.")
    return dict(pairs)


def check(
    parameters: Sequence[Parameter], given: Mapping[str, object], where: object = "the notebook"
) -> dict[str, Any]:
    """All values, defaults included, once `given` (name → value) has passed; else a WorkbookError names the first.

    A value that only the kernel will tell is Computed.
    """
    values = validated(parameters, given, where)
    _refuse_stale({p.name: p for p in parameters}, values, given, where)
    return values


def validated(
    parameters: Sequence[Parameter], given: Mapping[str, object], where: object
) -> dict[str, Any]:
    """What `check` returns, wherever the given values come from."""
    declared = {p.name: p for p in parameters}
    if given and not parameters:
        raise WorkbookError(
            f"{where} has no cell tagged 'parameters' that gives a name a value, so it takes none; "
            f"given: {', '.join(map(repr, given))}. Tag its parameters cell (in JupyterLab: the property inspector)."
        )
    for name in given:
        if name not in declared:
            raise WorkbookError(_unknown(name, declared, where))
    values = {}
    for name, parameter in declared.items():
        value = plain(name, given[name]) if name in given else parameter.default
        _refuse_secret(parameter, name, value)  # first: the other messages repeat the value
        if name in given:
            values[name] = checked(parameter, value)
        elif parameter.default is not MISSING:
            values[name] = parameter.value
    return values


def _refuse_stale(
    declared: Mapping[str, Parameter],
    values: Mapping[str, object],
    given: Mapping[str, object],
    where: object,
) -> None:
    """Refuse to give a parameter from which the cell has computed something by then: it would not follow."""
    for name in given:
        for use in declared[name].uses:
            is_replaced = use.stores and use.stores <= given.keys()
            if not is_replaced and values[name] != declared[name].value:
                raise WorkbookError(
                    f"{where}: {name} cannot be given, since line {use.line} of the parameters cell has used its "
                    f"default by then: {told(use.text)[1:-1]}. Move that line into the next cell."
                )


def _unknown(name: object, declared: Mapping[str, Parameter], where: object) -> str:
    if not str(name).isidentifier() or keyword.iskeyword(str(name)):
        return f"{name!r} is not a parameter name (a Python name, no keyword); {where} takes {', '.join(declared)}."
    return f"{where} has no parameter '{name}'; it takes {', '.join(declared)}.{nearest(name, declared)}"


def checked(parameter: Parameter, value: object) -> Any:
    """`value` as the plain Python value that `parameter` allows, or a WorkbookError that says what is allowed."""
    value = plain(parameter.name, value)
    kinds = parameter.kinds
    if value is None:
        if not parameter.optional:
            raise WorkbookError(
                f"{parameter.name}=None: it must be {parameter.type or 'a value'}; None is not allowed."
            )
        return value
    if "float" in kinds and value in NOT_FINITE:
        value = float(value)
    if type(value) is int and "float" in kinds and "int" not in kinds and abs(value) < 2**1023:
        value = float(value)
    if kinds and type(value) not in [TYPES[kind] for kind in kinds]:
        raise WorkbookError(
            f"{parameter.name}={told(value)} is {type(value).__name__}; it must be {parameter.type} "
            f"(default {parameter.default!r})."
        )
    if not isinstance(value, str) or not value.startswith(BY_REFERENCE):
        _check_domain(parameter, value)
    return value


def storable(value: Any) -> Any:
    """`value` with NaN and infinities as text: a bare NaN makes a notebook that browsers cannot open."""
    if isinstance(value, dict):
        return {k: storable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [storable(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def told(value: object) -> str:
    """`value` as a message shows it: on one line, not endless."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _check_domain(parameter: Parameter, value: Any) -> None:
    if any(isinstance(leaf, float) and not math.isfinite(leaf) for leaf in leaves(value)):
        default = parameter.default
        declared = isinstance(default, float) and not math.isfinite(default)
        closed = parameter.interval and value in parameter.interval[:2]
        if not declared and not closed:
            raise WorkbookError(f"{parameter.name}={told(value)}: numbers must be finite here.")
    if parameter.choices and not any(_matches(value, c) for c in parameter.choices):
        hint = nearest(value, parameter.choices)
        raise WorkbookError(
            f"{parameter.name}={told(value)}: it must be {parameter.allowed}.{hint}"
        )
    if parameter.interval and not _inside(value, parameter.interval):
        raise WorkbookError(f"{parameter.name}={told(value)}: it must be {parameter.allowed}.")


def _matches(value: object, choice: object) -> bool:
    return value == choice or fnmatch.fnmatchcase(str(value), str(choice))


def _inside(value: object, interval: Interval) -> bool:
    low, high, closed_low, closed_high = interval
    if not isinstance(value, (int, float)):
        return False
    above = value >= low if closed_low else value > low
    return above and (value <= high if closed_high else value < high)


def plain(name: str, value: Any, depth: int = 0) -> Any:
    """`value` as what JSON can hold: dates and paths as text, NumPy scalars as numbers; others refused by `name`."""
    if depth > DEEPEST:
        raise WorkbookError(f"{name}: its value is too deeply nested; allowed is {DEEPEST} deep.")
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, (date, Path)):
        return value.isoformat() if isinstance(value, date) else str(value)
    if value is None or type(value) in (bool, int, float, str):
        return _writable(name, value)
    if type(value) is list:
        return [plain(name, v, depth + 1) for v in value]
    if isinstance(value, dict):
        if bad := [k for k in value if type(k) is not str]:
            raise WorkbookError(
                f"{name}: the key {bad[0]!r} is {type(bad[0]).__name__}; keys must be str."
            )
        return {_writable(name, k): plain(name, v, depth + 1) for k, v in value.items()}
    raise WorkbookError(
        f"{name}={told(value)} is {type(value).__name__}; allowed are bool, int, float, str, None, list and dict."
    )


def _writable(name: str, value: Any) -> Any:
    """`value`, if it can stand in a file: no half of a character pair, no integer that Python will not write."""
    try:
        str(value).encode("utf-8")
    except ValueError as error:
        raise WorkbookError(
            f"{name}: its value cannot be written as UTF-8 text ({error})."
        ) from error
    return value


def _refuse_secret(parameter: Parameter, name: str, value: object) -> None:
    """Refuse a `value` of `parameter` (or of its key `name`) that is a secret by its form, or by name and form."""
    if not isinstance(value, str) or value.startswith(BY_REFERENCE) or not value:
        values = (
            value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        )
        keys = value if isinstance(value, dict) else [name] * len(values)
        for key, item in zip(keys, values):
            _refuse_secret(parameter, key, item)
        return
    is_one = bool(SECRET_VALUE.search(value))
    is_named = not isinstance(value, Computed) and _is_named_secret(name, value)
    if is_one or is_named and NO_SECRET not in parameter.help.lower():
        none = "" if is_one else f" If it is none, say '{NO_SECRET}' in the parameter's comment."
        raise WorkbookError(
            f"{name}: its value looks like a secret, and parameters are recorded. Put it into an environment variable "
            f"and pass its name: {name}={BY_REFERENCE}MY_VARIABLE.{none}"
        )


def _is_named_secret(name: str, value: str) -> bool:
    """Whether `name` is that of a secret, and `value` could be one: of a password any text, of a token no mere word."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|\W", "_", name)
    if BRACKETED.fullmatch(value):
        return False
    is_plain = all(PLAIN.fullmatch(word) for word in value.split())
    return bool(PASSWORD.search(name) or SECRET_NAME.search(name) and not is_plain)


def recorded(parameters: Iterable[Parameter], held: Mapping[str, object]) -> dict[str, object]:
    """`held` (name → the value that the session has) as it may be recorded: secrets hidden."""
    declared = {p.name: p for p in parameters}
    return {n: HIDDEN if _is_secret(declared[n], value) else value for n, value in held.items()}


def _is_secret(parameter: Parameter, value: object) -> bool:
    try:
        _refuse_secret(parameter, parameter.name, value)
    except WorkbookError:
        return True
    source = parameter.default if isinstance(parameter.default, Computed) else ""
    names = re.findall(r"\w+", source)
    is_read = any(PASSWORD.search(n) or SECRET_NAME.search(n) or n == "getpass" for n in names)
    is_text = isinstance(value, str) and not BRACKETED.fullmatch(value)
    return is_read and is_text and NO_SECRET not in parameter.help.lower()


def assignment(values: Mapping[str, object]) -> str:
    """The code of a cell that assigns `values`: literals only, so that no value can become code."""
    return "\n".join(f"{name} = {_source(name, value)}" for name, value in values.items())


def _source(name: str, value: object) -> str:
    if isinstance(value, str) and value.startswith(BY_REFERENCE):
        variable = value.removeprefix(BY_REFERENCE)
        return f'__import__("os").environ[{variable!r}]'
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    if isinstance(value, list):
        return "[" + ", ".join(_source(name, v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(k)}: {_source(name, v)}" for k, v in value.items()) + "}"
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: str) -> str:
    """The literal of the text `value` as papermill and black write it: in double quotes."""
    # A leading single quote makes repr choose double quotes; it escapes everything else that needs it.
    return '"' + '\\"'.join(repr("'" + part)[2:-1] for part in value.split('"')) + '"'


def references(values: Mapping[str, object]) -> list[str]:
    """The environment variables that `values` name by `env:NAME`; a missing one is a WorkbookError."""
    texts = [leaf for leaf in leaves(values) if isinstance(leaf, str)]
    return [text.removeprefix(BY_REFERENCE) for text in texts if text.startswith(BY_REFERENCE)]


def leaves(value: object) -> list[object]:
    """What is in `value`, a list or a dict of such to any depth, that has no parts itself."""
    if isinstance(value, dict):
        return [leaf for v in value.values() for leaf in leaves(v)]
    if isinstance(value, list):
        return [leaf for v in value for leaf in leaves(v)]
    return [value]
