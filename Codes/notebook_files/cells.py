"""The code of a notebook's cells: Python, magics included, and what the statements of a parameters cell do.

A parameter is a name that the cell assigns at its top level. Its value is known before the kernel starts where the cell
gives it as a literal, and nothing else in the cell can change it.
"""

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

# they reach any name; get_ipython() is what IPython makes of a magic
OPAQUE = {"exec", "eval", "globals", "locals", "vars", "setattr", "get_ipython"}
# magics that assign nothing
HARMLESS = (
    "autoreload|load_ext|reload_ext|matplotlib|config|env|set_env|pip|conda|precision|time|cd"
)
MAGIC = re.compile(
    rf"get_ipython\(\)\.(run_line_magic\('({HARMLESS})', '[^']*'\)|system\(.*\))", re.DOTALL
)
# magics whose cell is the code below them
AROUND = re.compile(r"\A(\s*)%%(?:time|capture|prun)\b.*")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def python(source: str) -> str:
    """`source` as Python that can be parsed: IPython's magics, shell lines and helps become calls, as they do for it.

    Raises SyntaxError where it is none.
    """
    try:
        return _parsed(source)
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager  # it takes a while

        return _parsed(TransformerManager().transform_cell(AROUND.sub(r"\1pass", source)))


def _parsed(code: str) -> str:
    """`code`, which can be parsed; a SyntaxError, which early releases of Python 3.11 lack for a null byte."""
    try:
        ast.parse(code)
    except ValueError as error:
        raise SyntaxError(str(error)) from error
    return code


@dataclass(frozen=True)
class Use:
    """A statement of the cell, its first line `text`, that reads a parameter, and `stores` names."""

    line: int
    text: str
    stores: frozenset[str]


def assigned(node: ast.stmt) -> list[tuple[str, ast.expr | None, ast.expr | None]]:
    """(name, annotation, value) of each name that the top-level statement `node` gives a value.

    The value is None where a name is only annotated; where a whole is unpacked, each name has the whole.
    """
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [(node.target.id, node.annotation, node.value)]
    if isinstance(node, ast.Assign):
        pairs = chain.from_iterable(_pairs(target, node.value) for target in node.targets)
        return [(name, None, value) for name, value in pairs]
    return []


def _pairs(target: ast.expr, value: ast.expr) -> Iterable[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        return [(target.id, value)]
    if isinstance(target, ast.Starred):
        return _pairs(target.value, value)
    if not isinstance(target, (ast.Tuple, ast.List)):
        return []
    parts, starred = target.elts, any(isinstance(t, ast.Starred) for t in target.elts)
    if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(parts) and not starred:
        values = value.elts
    else:  # starred it is no literal: what of it a name gets is known only once the cell has run
        whole = value if isinstance(value, ast.Starred) else ast.Starred(value, ast.Load())
        values = [whole] * len(parts)
    return chain.from_iterable(map(_pairs, parts, values))


def is_literal(node: ast.stmt) -> bool:
    """Whether the statement `node` only gives names literal values."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    plain = isinstance(node, ast.AnnAssign) or targets and all(map(_is_names, targets))
    return bool(plain) and all(v is None or literal(v)[0] for _, _, v in assigned(node))


def _is_names(target: ast.expr) -> bool:
    parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
    return all(isinstance(part, ast.Name) for part in parts)


def literal(node: ast.expr) -> tuple[bool, object]:
    """(True, the value) of an expression that is a literal, or a float() of NaN or an infinity; else (False, None)."""
    match = re.fullmatch(
        r"float\(['\"]([+-]?(?:nan|inf|infinity))['\"]\)", ast.unparse(node), re.IGNORECASE
    )
    if match:
        return True, float(match[1])
    try:
        return True, ast.literal_eval(node)
    except (ValueError, TypeError):
        return False, None


def effects(tree: ast.Module) -> tuple[dict[str, int], dict[str, list[Use]]]:
    """({name: the line that may change it}, {name: [Use]}) of the statements of `tree` that are no literal values.

    A function's body counts where something calls it.
    """
    doubts, uses = {}, {}
    names = {name: value for node in tree.body for name, _, value in assigned(node)}
    later = {n.name: _read(n) for n in tree.body if isinstance(n, FUNCTIONS)}
    for node in tree.body:
        if is_literal(node):
            continue
        stores, read = stored(node), set() if isinstance(node, FUNCTIONS) else _read(node)
        read = read.union(*(later[name] for name in read & later.keys()))
        own = {name for name, _, _ in assigned(node)}
        touched = stores - own | {n for n in read if _may_change(names.get(n))}
        for name in names if is_opaque(node) else touched & names.keys():
            doubts.setdefault(name, node.lineno)
        use = Use(node.lineno, ast.unparse(node).partition("\n")[0], frozenset(stores))
        for name in read & names.keys():
            uses.setdefault(name, []).append(use)
    return doubts, uses


def _may_change(value: ast.expr | None) -> bool:
    """Whether what is read of the default `value` can be changed in place."""
    is_constant, constant = literal(value) if value else (True, None)
    return is_constant and isinstance(constant, (list, dict, set))


def stored(node: ast.AST) -> set[str]:
    """The names that running `node` binds, deletes, or whose parts it assigns."""
    found = set()
    for each in ast.walk(node):
        if isinstance(each, (ast.Name, ast.Attribute, ast.Subscript)):
            if not isinstance(each.ctx, ast.Load):
                found.add(_root(each))
        elif isinstance(each, ast.alias):
            found.add((each.asname or each.name).partition(".")[0])
        elif isinstance(each, (*FUNCTIONS, ast.ClassDef)):
            found.add(each.name)
        elif isinstance(each, ast.Global):
            found |= set(each.names)
    return found - {None}


def _root(node: ast.expr) -> str | None:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _read(node: ast.AST) -> set[str]:
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
    return {n.id for n in names if isinstance(n.ctx, ast.Load)}


def is_opaque(node: ast.stmt) -> bool:
    """Whether the statement `node` may assign names that it does not show."""
    if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
        return True
    if MAGIC.fullmatch(ast.unparse(node)):
        return False
    return any(isinstance(n, ast.Name) and n.id in OPAQUE for n in ast.walk(node))
