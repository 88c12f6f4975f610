"""What a notebook's code reads beside its modules, as far as its text tells: files, environment variables, addresses.

A path is folded to text where it is made of literals, parameters and names that hold such; each file that it names
counts. What it cannot fold, and what no text shows (a database, a program, the network), is unknown.
"""

import ast
import functools
import itertools
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from Codes.notebook_files import cells

READERS = re.compile(
    r"open|read_\w+|scan_\w+|load|load_\w+|safe_load|loadtxt|genfromtxt|fromfile|memmap|imread|File|ZipFile|open_\w+"
    r"|glob|iglob|rglob|listdir|scandir|walk|iterdir"
)
ON_PATHS = {"open", "read_text", "read_bytes", "glob", "rglob", "iterdir"}  # methods of a Path
WRITERS = re.compile(
    r"to_(csv|parquet|excel|json|pickle|feather|html|hdf|latex|markdown|netcdf|zarr)|save\w*|imsave|imwrite|write_\w+"
    r"|dump|mkdir|makedirs|touch|unlink|remove|rmtree|log_artifacts?"
)
PATH_NAMES = ("filepath_or_buffer", "path", "io", "file", "filename", "fname", "fp", "path_or_buf")
# what these do no text tells
OUTSIDE = re.compile(
    r"read_(sql\w*|html|gbq|clipboard)|urlopen|urlretrieve|fetch_openml|load_dataset|load_dotenv|from_pretrained"
    r"|create_engine|input|getpass|chdir|popen|system|eval|compile|run_module"
)
OUTSIDERS = set(
    "requests httpx aiohttp urllib3 socket ftplib paramiko boto3 sqlite3 sqlalchemy psycopg psycopg2 pymysql pymongo "
    "redis duckdb subprocess kagglehub yfinance datasets".split()
)
THROUGH = {
    "str",
    "sorted",
    "list",
    "tuple",
    "set",
    "iter",
    "fspath",
    "abspath",
    "realpath",
    "normpath",
    "expanduser",
}
SAME = {
    "resolve",
    "absolute",
    "expanduser",
    "as_posix",
    "strip",
}  # methods of what names the same file
MAGICS = set("autoreload reload_ext matplotlib config pip conda precision set_env who whos".split())
SHOWN = set(
    "html HTML javascript js latex markdown svg writefile".split()
)  # magics of a whole cell
HARMLESS = {"pip", "mkdir", "echo", "rm"}  # programs
OWN = "MLFLOW_", "WORKBOOK_"  # variables that belong to a run
MOST = 200  # texts that one expression may stand for
STEPS = 1000  # to find them: of names that stand for one another there may be any number
Texts = set[str] | None  # what an expression may stand for; None where nobody knows


@dataclass
class Influences:
    """Paths as texts (`files`; of code that is run: `scripts`), `modules`, folders of modules, variables, unknowns."""

    files: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    modules: set[str] = field(default_factory=set)
    folders: list[str] = field(default_factory=list)
    variables: set[str] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)


@functools.lru_cache(500)
def tree_of(source: str) -> ast.Module | None:
    """The tree of the code `source`; None where it is no Python."""
    try:
        return ast.parse(cells.python(source))
    except (SyntaxError, ValueError):
        return None


def of(
    sources: Iterable[tuple[str, str]],
    folder: Path,
    values: Mapping[str, Any],
    is_own: Callable[[str], bool],
) -> Influences:
    """The Influences of `sources` [(where, code)] that run in `folder` with the parameters `values`.

    `is_own` tells whether a module's name is one of the user's own, which is a source itself.
    """
    parsed = [(where, tree_of(source)) for where, source in sources]
    reader = Reader(folder, values, is_own)
    reader.found.unknown += [f"{where}: no valid Python" for where, tree in parsed if not tree]
    trees = [(where, tree) for where, tree in parsed if tree]
    for _, tree in trees:
        reader.bind(tree)
    for where, tree in trees:
        reader.read(where, tree)
    written = reader.written - reader.early
    reader.found.files = [text for text in reader.found.files if text not in written]
    return reader.found


class Reader:  # pylint: disable=too-many-instance-attributes
    """Reads trees: first what their names stand for, then what they read."""

    def __init__(
        self, folder: Path, values: Mapping[str, Any], is_own: Callable[[str], bool]
    ) -> None:
        self.folder, self.values, self.is_own = str(folder), values, is_own
        self.bound: dict[str, list[Any]] = {}
        self.imported: dict[str, str] = {}
        self.defined: dict[str, ast.arguments] = {}
        self.calls: dict[str, list[ast.Call]] = {}
        self.given: dict[str, list[ast.AST]] = {}
        self.steps = 0
        self.found, self.where = Influences(), ""
        self.written: set[str] = set()
        self.early: set[str] = set()

    # --- names

    def bind(self, tree: ast.AST) -> None:
        """Take up what each name in `tree` may stand for, whatever function it belongs to."""
        for node in ast.walk(tree):
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                for name, _, value in cells.assigned(node):
                    self._bind(name, value)
            elif isinstance(node, (ast.For, ast.comprehension, ast.AsyncFor)):
                self._bind(getattr(node.target, "id", ""), node.iter)
            elif isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name):
                self._bind(node.optional_vars.id, node.context_expr)
            elif isinstance(node, ast.NamedExpr):
                self._bind(node.target.id, node.value)
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                self._bind(node.target.id, ast.BinOp(node.target, node.op, node.value))
            elif isinstance(node, ast.Import):
                self.imported |= {a.asname or a.name.partition(".")[0]: a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom):
                module = node.module or "."
                self.imported |= {a.asname or a.name: f"{module}.{a.name}" for a in node.names}
            elif isinstance(node, cells.FUNCTIONS):
                self.defined[node.name] = node.args
            elif isinstance(node, ast.Call):
                self.calls.setdefault(name_of(node), []).append(node)

    def _bind(self, name: str, value: ast.AST | None) -> None:
        if value is not None:
            self.bound.setdefault(name, []).append(value)

    def _arguments(self, name: str) -> list[ast.AST]:
        """What is given for the argument `name` of whichever functions have it, in calls or by default."""
        if name not in self.given:
            self.given[name] = self._all_given(name)
        return self.given[name]

    def _all_given(self, name: str) -> list[ast.AST]:
        values = []
        for function, args in self.defined.items():
            names = [a.arg for a in args.posonlyargs + args.args]
            if name in names:
                position = names.index(name)
                for call in self.calls.get(function, []):
                    values += call.args[position : position + 1]
                    values += [k.value for k in call.keywords if k.arg == name]
                values += args.defaults[len(args.defaults) - len(names) + position :][:1] * (
                    position >= len(names) - len(args.defaults)
                )
        return values

    # --- folding

    def fold(self, node: Any, seen: tuple[str, ...] = ()) -> Texts:
        """The texts that the expression `node` may stand for; empty for no path at all, None where nobody knows."""
        kind = type(node).__name__
        fold = getattr(self, f"_fold_{kind.lower()}", None)
        self.steps = self.steps + 1 if seen else 0
        texts = fold(node, seen) if fold and len(seen) < 50 and self.steps < STEPS else None
        return None if texts is None or len(texts) > MOST else texts

    def _all(self, nodes: Iterable[Any], seen: tuple[str, ...]) -> Texts:
        texts = self._each(nodes, seen)
        return None if texts is None else set[str]().union(*texts)

    def _each(self, nodes: Iterable[Any], seen: tuple[str, ...]) -> list[set[str]] | None:
        """The texts of each of `nodes`; None where those of one are not known."""
        texts = []
        for node in nodes:
            own = self.fold(node, seen)
            if own is None:
                return None
            texts.append(own)
        return texts

    def _joined(
        self, nodes: Iterable[Any], seen: tuple[str, ...], join: Callable[[Any], str]
    ) -> Texts:
        texts = self._each(nodes, seen)
        if texts is None:
            return None
        return set(itertools.islice(map(join, itertools.product(*texts)), MOST + 1))

    def _fold_constant(self, node: Any, _seen: object) -> Texts:
        return {str(node.value)}

    def _fold_name(self, node: Any, seen: tuple[str, ...]) -> Texts:
        if node.id in seen:
            return set()
        seen = (*seen, node.id)
        own = {str(v) for v in _leaves(self.values.get(node.id, ())) if not _is_code(v)}
        nodes = self.bound.get(node.id, []) + self._arguments(node.id)
        if node.id not in self.values and not nodes:
            return None
        bound = self._all(nodes, seen)
        return None if bound is None else bound | own

    def _fold_joinedstr(self, node: Any, seen: tuple[str, ...]) -> Texts:
        return self._joined(node.values, seen, "".join)

    def _fold_formattedvalue(self, node: Any, seen: tuple[str, ...]) -> Texts:
        return None if node.format_spec else self.fold(node.value, seen)

    def _fold_binop(self, node: Any, seen: tuple[str, ...]) -> Texts:
        joins: dict[type, Callable[[Any], str]] = {
            ast.Div: lambda pair: os.path.join(*pair),
            ast.Add: "".join,
        }
        join = joins.get(type(node.op))
        return self._joined([node.left, node.right], seen, join) if join else None

    def _fold_list(self, node: Any, seen: tuple[str, ...]) -> Texts:
        return self._all(node.elts, seen)

    _fold_tuple = _fold_set = _fold_list

    def _fold_starred(self, node: Any, seen: tuple[str, ...]) -> Texts:
        return self.fold(node.value, seen)

    def _fold_dict(self, node: Any, seen: tuple[str, ...]) -> Texts:
        return self._all(node.values, seen)

    def _fold_subscript(self, node: Any, seen: tuple[str, ...]) -> Texts:
        return self.fold(node.value, seen)

    def _fold_ifexp(self, node: Any, seen: tuple[str, ...]) -> Texts:
        return self._all([node.body, node.orelse], seen)

    def _fold_boolop(self, node: Any, seen: tuple[str, ...]) -> Texts:
        return self._all(node.values, seen)

    def _fold_attribute(self, node: Any, seen: tuple[str, ...]) -> Texts:
        inner = self.fold(node.value, seen) if node.attr == "parent" else None
        return None if inner is None else {os.path.dirname(text) or ".." for text in inner}

    def _fold_call(  # pylint: disable=too-many-return-statements
        self, node: ast.Call, seen: tuple[str, ...]
    ) -> Texts:  # pylint: disable=too-many-return-statements
        name, subject = name_of(node), getattr(node.func, "value", None)
        if name in ("cwd", "getcwd"):
            return {self.folder}
        if name == "home":
            return {str(Path.home())}
        if name in ("StringIO", "BytesIO") or name == "open":
            return set()
        if name in ("join", "Path", "PurePath") and node.args:
            return self._joined(node.args, seen, lambda parts: os.path.join(*parts))
        if name == "joinpath":
            return self._joined([subject, *node.args], seen, lambda parts: os.path.join(*parts))
        if name in ("listdir", "iterdir"):
            return (
                {"*"} if name == "listdir" else self._joined([subject], seen, lambda p: f"{p[0]}/*")
            )
        if name in ("glob", "rglob", "iglob"):
            return self._globbed(node, seen)
        if name in THROUGH and node.args:
            return self.fold(node.args[0], seen)
        return self.fold(subject, seen) if name in SAME and subject else None

    def _globbed(self, node: ast.Call, seen: tuple[str, ...]) -> Texts:
        subject = getattr(node.func, "value", None) if self._is_method(node) else None
        pattern = node.args[:1]
        deep = "**" if name_of(node) == "rglob" else ""
        parts = [subject] * (subject is not None) + pattern
        return self._joined(parts, seen, lambda p: os.path.join(*p[:-1], deep, p[-1]))

    # --- reading

    def read(self, where: str, tree: ast.AST) -> None:
        """Take up what `tree`, the code of the place `where`, reads."""
        self.where = where
        environment = sum(_is_environment(node) for node in ast.walk(tree))
        for node in ast.walk(tree):
            environment -= self._variable(node)
        if environment > 0:
            self._unknown("the whole environment")
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for node in sorted(calls, key=lambda n: (n.lineno, n.col_offset)):
            self._call(node)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                if 0 < len(node.value) < 300 and not set("\n*") & set(node.value):
                    self.found.files.append(node.value)

    def _unknown(self, what: str | ast.AST) -> None:
        """Note that `what`, words or a call, reads what no text tells."""
        code = what if isinstance(what, str) else ast.unparse(what)
        line = " ".join(code.split())
        line = line if len(line) <= 60 else f"{line[:60]}…"
        self.found.unknown.append(f"{self.where}: {line}")

    def _variable(self, node: ast.AST) -> int:
        """Take up the environment variable that `node` reads; how many mentions of the environment that explains."""
        if isinstance(node, ast.Subscript) and _is_environment(node.value):
            if isinstance(node.ctx, ast.Load):
                self._named_variable(node.slice)
            return 1
        if isinstance(node, ast.Compare) and _is_environment(node.comparators[0]):
            self._named_variable(node.left)
            return 1
        if isinstance(node, ast.AugAssign) and _is_environment(node.target):
            return 1
        if not isinstance(node, ast.Call):
            return 0
        name, subject = name_of(node), getattr(node.func, "value", None)
        if name == "getenv" or _is_environment(subject) and name in ("get", "pop", "setdefault"):
            self._named_variable(node.args[0] if node.args else None)
        return int(_is_environment(subject) and name in ("get", "pop", "setdefault", "update"))

    def _named_variable(self, node: ast.AST | None) -> None:
        names = self.fold(node) if node else None
        if names is None:
            self._unknown("an environment variable")
        self.found.variables |= {n for n in names or () if not n.startswith(OWN)}

    def _root(self, node: ast.Call) -> str:
        """The module that the function of the call `node` is of; an empty text where it is of none."""
        function = node.func
        while isinstance(function, ast.Attribute):
            function = function.value
        return self.imported.get(function.id, "") if isinstance(function, ast.Name) else ""

    def _is_method(self, node: Any) -> bool:
        return isinstance(node.func, ast.Attribute) and not self._root(node)

    def _call(self, node: Any) -> None:  # pylint: disable=too-many-branches
        name, module, subject = name_of(node), self._root(node), getattr(node.func, "value", None)
        if isinstance(subject, ast.Call) and name_of(subject) == "get_ipython":
            self._magic(node, name)
        elif name in ("insert", "append", "extend") and _is_search_path(subject):
            folders = self.fold(node.args[-1]) if node.args else None
            if folders is None:
                self._unknown(node)
            self.found.folders += sorted(folders or ())
        elif module and self.is_own(module) or not module and name in self.defined:
            return
        elif name in ("import_module", "__import__"):
            names = self.fold(node.args[0]) if node.args else None
            if names is None:
                self._unknown(node)
            self.found.modules |= names or set()
        elif name in ("exec", "run_path"):
            self._executed(node)
        elif OUTSIDE.fullmatch(name) or module.partition(".")[0] in OUTSIDERS:
            self._unknown(node)
        elif _writes(node, name):
            self._written(node)
        elif READERS.fullmatch(name) or name in ON_PATHS and self._is_method(node):
            self._read(node, name)

    def _executed(self, node: Any) -> None:
        """Take up the file whose code is executed."""
        inner = node.args[0] if node.args else None
        while isinstance(inner, ast.Call) and name_of(inner) in (
            "read",
            "read_text",
            "compile",
            "open",
        ):
            is_method = name_of(inner) in ("read", "read_text")
            subject = getattr(inner.func, "value", None)  # None of a function that is called so
            inner = subject if is_method else (inner.args or [None])[0]
        names = self.fold(inner) if inner is not None and not _is_code_itself(node) else None
        if names is None:
            self._unknown(node)
        self.found.scripts += sorted(names or ())

    def _path(self, node: Any) -> Any:
        """The expression of the path that the call `node` is given; None where there is none."""
        if self._is_method(node) and name_of(node) in ON_PATHS:
            if isinstance(node.func.value, ast.Name) and self._holds_buffers(node.func.value):
                return None
            return node if "glob" in name_of(node) else node.func.value
        named = [k.value for k in node.keywords if k.arg in PATH_NAMES]
        return next(iter([*node.args[:1], *named]), None)

    def _holds_buffers(self, name: ast.Name) -> bool:
        return self.fold(name) == set()

    def _read(self, node: Any, name: str) -> None:
        path = self._path(node)
        if path is None or name.startswith("load_") and not node.args:
            return
        names = self.fold(path)
        if names is None or any("://" in text for text in names):
            self._unknown(node)
            return
        self.found.files += sorted(names)
        self.early |= names - self.written

    def _written(self, node: Any) -> None:
        path = node.func.value if self._is_method(node) and not node.args else self._path(node)
        subject = self.fold(node.func.value) if self._is_method(node) else None
        self.written |= (self.fold(path) if path is not None else None) or set()
        self.written |= subject or set()

    def _magic(self, node: Any, name: str) -> None:
        values = [a.value for a in node.args if isinstance(a, ast.Constant)]
        texts = [value for value in values if isinstance(value, str)]
        magic, line = (texts + ["", ""])[:2]
        if name in ("system", "getoutput"):
            self._program(texts[0] if texts else "", node)
        elif name == "run_line_magic" and magic == "run":
            self._script(_words(line), node)
        elif name == "run_line_magic" and magic in ("load_ext", "aimport"):
            self.found.modules |= set(_words(line))
        elif name == "run_line_magic" and magic == "env" and line.isidentifier():
            self.found.variables.add(line)
        elif name == "run_line_magic" and magic in ("time", "timeit") and (tree := tree_of(line)):
            self.read(self.where, tree)
        elif magic not in MAGICS | {"env"} and not (name == "run_cell_magic" and magic in SHOWN):
            self._unknown(node)

    def _program(self, line: str, node: ast.Call) -> None:
        words = _words(line)
        if words and re.fullmatch(r"python[\d.]*|\{sys.executable\}", words[0]):
            self._script(words[1:], node)
        elif not words or words[0] not in HARMLESS:
            self._unknown(node)

    def _script(self, words: Sequence[str], node: Any) -> None:
        """Take up the script that `words` begin with, and the files that they name."""
        if not words or words[0].startswith("-") or any(c in "".join(words) for c in "{}$`|;<>&"):
            self._unknown(node)
            return
        script = words[0] if words[0].endswith((".py", ".ipynb")) else f"{words[0]}.py"
        self.found.scripts.append(script)
        self.found.files += words


def name_of(call: ast.Call) -> str:
    """The last word of the function that `call` calls."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _is_environment(node: object) -> bool:
    return getattr(node, "attr", getattr(node, "id", "")) == "environ"


def _is_search_path(node: ast.AST | None) -> bool:
    return node is not None and ast.unparse(node) == "sys.path"


def _is_code_itself(node: ast.Call) -> bool:
    """Whether what the call `node` executes stands there as text, or in a name."""
    return name_of(node) == "exec" and isinstance(node.args[0], (ast.Constant, ast.Name))


def _writes(call: ast.Call, name: str) -> bool:
    if name != "open":
        return bool(WRITERS.fullmatch(name))
    is_method = isinstance(call.func, ast.Attribute)  # of a path, which has the mode first
    arguments = call.args[0 if is_method else 1 : 2] + [
        k.value for k in call.keywords if k.arg == "mode"
    ]
    modes = [str(a.value) for a in arguments if isinstance(a, ast.Constant)]
    return any(re.fullmatch(r"[wxa][bt]?", mode) for mode in modes)


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _is_code(value: object) -> bool:
    from Codes.notebook_files.parameters import Computed

    return isinstance(value, Computed)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for v in value.values() for leaf in _leaves(v)]
    if isinstance(value, (list, tuple, set)):
        return [leaf for v in value for leaf in _leaves(v)]
    return [value]
