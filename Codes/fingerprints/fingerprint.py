"""A run's fingerprint: the digest of what determines its result, so that no run need be made twice.

That is the notebook itself and its code, its parameters after defaults, the modules of the user's own that it reaches,
the content of the data that its parameters and its code name, the environment, and what the store holds where the
notebook reads that. What else it reads cannot be known: such a run is like no other, but for those of its own sweep.
MLflow keeps the fingerprint, whole and by parts, as tags of the run.
"""

import ast
import contextlib
import functools
import glob
import hashlib
import importlib.util
import itertools
import json
import os
import re
import sys
import uuid
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from nbformat import NotebookNode

from Codes.fingerprints import influences
from Codes.fingerprints.influences import Influences
from Codes.ground import paths
from Codes.ground.errors import WorkbookError
from Codes.notebook_files import cells, languages, notebook_file, parameters
from Codes.runs import identity, tracking
from Codes.stores.store import all_runs
from Codes.warm import preload
from Codes.forks.channel import SPEC

TAG = "mlflow.workbook.fingerprint"
PARTS = "mlflow.workbook.fingerprint.parts"
PLACE, KERNEL, UNKNOWN = "the notebook's place", "the kernel", "what cannot be known"
CODE, VALUES, ENVIRONMENT, FILES, STORE, REGISTRY = (
    "the notebook's code",
    "the parameters",
    "the environment",
    "the files",
    "the runs",
    "the versions",
)
# the calls by which a notebook or a helper reads what the store holds
READS = {
    STORE: re.compile(r"runs\(|search_logged_models"),
    REGISTRY: re.compile(
        r"(get|search)_(model_version|registered_model|latest_version)|models:/|\bServer\("
    ),
}
# how a module of the workbook imports others: by text, since parsing them all takes half a second
IMPORT = re.compile(
    r"^[ \t]*(?:from Codes import (\([^)]*\)|.*)|(?:from|import) Codes\.(\w+))", re.MULTILINE
)
# calls in a default that give the same each time
PURE = set(
    "Path join str int float bool len list dict tuple set range min max sum round abs sorted get getenv".split()
)
OWN_KERNELS = ("python3", notebook_file.PYTHON, SPEC)  # this Python's own, whose packages are known
LONGEST = 7000  # characters of the parts of files, in a tag that holds 8000
MANY = 10_000  # files in a folder
FINISHED = "attributes.status = 'FINISHED'"


@functools.lru_cache(100)
def _read(path: Path, _stamp: Hashable) -> NotebookNode:
    return notebook_file.read(path)


def located(path: str | Path) -> str:
    """The notebook's `path`, as it is in any checkout."""
    path = Path(path).resolve()
    return str(path.relative_to(paths.ROOT) if path.is_relative_to(paths.ROOT) else path)


def parts(  # pylint: disable=too-many-locals
    nb: NotebookNode,
    path: str | Path,
    values: Mapping[str, Any],
    kernel: str | None = None,
    scope: str | None = None,
) -> dict[str, str]:  # pylint: disable=too-many-locals
    """{part: digest} of a run of `nb`, the notebook at `path`, with `values`, in `kernel` (None: the notebook's own).

    Runs with the same `scope`, those of one sweep, are taken to find the same in what cannot be known.
    """
    path = Path(path).resolve()
    codes = code(nb)
    helpers, found_in = reached(nb, codes, path, values)
    digests = {CODE: digest(*codes), VALUES: digest(_plain(values)), ENVIRONMENT: environment()}
    digests[PLACE] = digest(located(path))
    unknown = found_in.unknown + _uncertain(values)
    named = kernel or notebook_file.kernel_of(nb)
    if named not in OWN_KERNELS:
        digests[KERNEL] = digest(str(named))
        unknown.append(f"the packages of the kernel {named}")
    if unknown:
        label = f"{UNKNOWN} ({'; '.join(dict.fromkeys(unknown))})"[:300]
        digests[label] = digest(scope or uuid.uuid4().hex)
    digests |= {f"the variable {name}": _variable(name) for name in sorted(found_in.variables)}
    places = [*helpers, *data_files(path.parent, values), *named_files(path.parent, found_in.files)]
    files = by_name(places)
    whole = json.dumps(files)
    digests |= files if len(whole) <= LONGEST else {FILES: digest(whole)}
    reads = what_is_read(codes, helpers)
    if reads:
        digests[STORE] = stored_runs(path.stem)
    if REGISTRY in reads:
        digests[REGISTRY] = stored_versions()
    return digests


def reached(
    nb: NotebookNode, codes: Sequence[str], path: Path, values: Mapping[str, Any]
) -> tuple[list[Path], Influences]:
    """(the user's own files that the notebook `nb` at `path` imports or runs, the Influences of it and of them)."""
    if not languages.is_python(nb):
        reason = f"a notebook in {languages.language_of(nb)}"
        return [], influences.Influences(files=_quoted(codes), unknown=[reason])
    sources = [(f"cell {number}", source) for number, source in _numbered(nb, codes)]
    leaves = parameters.leaves(values)
    texts = [leaf for leaf in leaves if isinstance(leaf, str)]
    texts += filter(
        None, (_of_part(f, "metric", "function") for f in _described(path.parent, values))
    )
    names = {text for text in texts if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", text)}
    helpers, own, influence = [], [], None
    while True:
        others = [s for s in helpers if s.suffix == ".py" and not _is_shipped(s)]
        if influence and others == own:
            return helpers, influence
        own = others
        texts = [(s.name, _text(s, preload.stamp_of(s))) for s in own]
        influence = influences.of(
            sources + texts, path.parent, values, lambda m: _is_own(m, path.parent)
        )
        folders = [path.parent / folder for folder in influence.folders]
        scripts = named_files(path.parent, influence.scripts)
        helpers = modules(path, names | influence.modules, folders, scripts)


def _numbered(nb: NotebookNode, codes: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(number, source) of each of the `codes` of `nb`, by the cells' numbers before injection."""
    own = [cell for cell in nb.cells if not _is_injected(cell)]
    return zip([n for n, cell in enumerate(own, 1) if cell.cell_type == "code"], codes)


def _is_injected(cell: NotebookNode) -> bool:
    return "injected-parameters" in cell.metadata.get("tags", [])


def _quoted(codes: Sequence[str]) -> list[str]:
    """The words of code in another language, which may name files."""
    return [word for source in codes for word in re.findall(r"[^\s'\"()<>|;&]+", source)]


def _is_shipped(path: Path) -> bool:
    package = paths.ROOT / "Codes"
    return path.is_relative_to(package) and (
        path.relative_to(package).parts[0].removesuffix(".py") in shipped(package)
    )


@functools.cache
def shipped(package: Path) -> set[str]:
    """The modules and packages in `package` that the workbook's commands reach.

    What they read is known by the problem, the store and the registry. A module that notebooks alone import, whose
    ever it is, is read as they are.
    """
    shipped_names = {"__init__"}
    waiting = {"commands"}
    while waiting:
        candidate = package / (name := waiting.pop())
        files = [candidate.with_suffix(".py"), *candidate.glob("[a-z]*.py")]
        texts = [file.read_text("utf-8") for file in files if file.is_file()]
        imports = [names for text in texts for pair in IMPORT.findall(text) for names in pair]
        shipped_names |= {name} if texts else set()
        waiting |= {word for names in imports for word in re.findall(r"\w+", names)} - shipped_names
    return shipped_names


def _is_own(module: str, folder: Path) -> bool:
    return any(any(_sources(place, module)) for place in (paths.ROOT, folder))


@functools.lru_cache(1000)
def _text(path: Path, _stamp: Hashable) -> str:
    return path.read_text("utf-8", "replace")


def _uncertain(values: Mapping[str, Any]) -> list[str]:
    """Of those of `values` that only the kernel will know, the ones that may be others each time."""
    reasons = []
    for name, value in values.items():
        tree = influences.tree_of(value) if isinstance(value, parameters.Computed) else None
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)] if tree else []
        if any(influences.name_of(call) not in PURE for call in calls):
            reasons.append(f"the default of {name}: {value}")
    return reasons


def _variable(name: str) -> str:
    """The digest of the environment variable `name`; of a secret only whether it is set."""
    value = os.environ.get(name)
    if value is not None and parameters.SECRET_NAME.search(name):
        value = "set"
    return digest("unset" if value is None else f"={value}")


def named_files(folder: Path, texts: Iterable[str]) -> list[Path]:
    """The files and folders that `texts` in code name, seen from `folder`; of a pattern all that it matches."""
    matches = []
    for text in dict.fromkeys(texts):
        if "*" in text:
            matches += sorted(Path(p) for p in glob.iglob(str(folder / text), recursive=True))
        elif "\0" not in text and _is_there(folder / text):
            matches.append((folder / text).resolve())
    around = (folder, paths.ROOT, Path.cwd())
    outer = [p for p in matches if any(each.is_relative_to(p) for each in around)]
    made = (paths.DATABASE, paths.ARTIFACTS, paths.EXECUTED)
    inner = [p for p in matches if any(p.is_relative_to(each) for each in made)]
    return [p for p in dict.fromkeys(matches) if p not in outer and p not in inner]


def code(nb: NotebookNode) -> list[str]:
    """The sources of `nb`'s code cells, without injected ones and without the parameters' own values."""
    own = [cell for cell in nb.cells if cell.cell_type == "code" and not _is_injected(cell)]
    is_python = languages.is_python(nb)
    return [
        _beside(c.source) if is_python and "parameters" in c.metadata.get("tags", []) else c.source
        for c in own
    ]


def _beside(source: str) -> str:
    """What a parameters cell does beside giving parameters literal values."""
    tree = ast.parse(cells.python(source))
    return "\n".join(ast.unparse(node) for node in tree.body if not cells.is_literal(node))


def _plain(values: Mapping[str, Any]) -> str:
    """`values` as text; a code is told apart from the text of the same words."""
    storable = {
        n: {"code": v} if isinstance(v, parameters.Computed) else parameters.storable(v)
        for n, v in values.items()
    }
    return json.dumps(storable, sort_keys=True, default=repr)


def digest(*texts: str) -> str:
    """The first half of the SHA-256 of `texts`, 32 hexadecimal digits."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def of_parts(parts_: Mapping[str, str]) -> str:
    """The fingerprint of `parts`."""
    return digest(json.dumps(parts_, sort_keys=True))


def tags(parts_: Mapping[str, str]) -> dict[str, str]:
    """The tags by which a run with these `parts` is found again."""
    return {TAG: of_parts(parts_), PARTS: json.dumps(parts_)}


def modules(
    path: Path,
    names: Iterable[str] = (),
    folders: Iterable[Path] = (),
    scripts: Iterable[Path] = (),
) -> list[Path]:
    """The user's own files that the notebook at `path` imports, over however many steps: of `Codes`, and beside it.

    It may import `names`, too, look in `folders`, and run `scripts`.
    """
    asked = {(None, name) for name in names}
    files, waiting = set(scripts), [path, *scripts]
    files |= {s for _, name in asked for s in _places(None, name, path.parent, folders)}
    waiting += files
    while waiting:
        new = _imported(file := waiting.pop(), preload.stamp_of(file)) - asked
        asked |= new
        near = {s for base, name in new for s in _places(base, name, path.parent, folders)}
        waiting += near - files
        files |= near
    return sorted(files)


def _places(base: Path | None, name: str, folder: Path, folders: Iterable[Path]) -> list[Path]:
    """The files of the module `name`, seen from `place`, or from a notebook's `folder` and from `folders`."""
    if base:
        return list(_sources(base, name))
    sources = [s for each in (paths.ROOT, folder, *folders) for s in _sources(each, name)]
    elsewhere = None if sources else _elsewhere(name.partition(".")[0])
    return list(_sources(elsewhere, name)) if elsewhere else sources


@functools.lru_cache(1000)
def _elsewhere(package: str) -> Path | None:
    """The folder of a `package` that is neither installed nor near: on PYTHONPATH, or installed to be edited."""
    if package in sys.stdlib_module_names or not package.isidentifier():
        return None
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    file = Path(spec.origin) if spec and spec.has_location and spec.origin else None
    if file is None or any(file.is_relative_to(p) for p in (sys.prefix, sys.base_prefix)):
        return None
    return file.parent.parent if file.name == "__init__.py" else file.parent


@functools.lru_cache(1000)
def _imported(path: Path, _stamp: Hashable) -> frozenset[tuple[Path | None, str]]:
    """{(folder, module)} that `path` imports, possible ones too; the folder is None unless the import is relative."""
    imported = {(None, name) for name in preload.imported_by(path)}
    with contextlib.suppress(OSError, ValueError, SyntaxError, LookupError):
        if path.suffix == ".py" and "from ." in (text := path.read_text("utf-8")):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ImportFrom) and node.level:
                    names = [f"{node.module or ''}.{a.name}".strip(".") for a in node.names]
                    imported |= {(path.parents[node.level - 1], name) for name in names}
    return frozenset(imported)


def _sources(folder: Path, module: str) -> Iterator[Path]:
    """The files below `folder` that are run when `module` is imported: its own, and those of the packages around it."""
    prefix = str(folder)  # as text: hundreds of names are asked for in each run
    for step in module.split("."):
        prefix = f"{prefix}/{step}"
        yield from map(Path, filter(os.path.isfile, (f"{prefix}.py", f"{prefix}/__init__.py")))
        if not os.path.isdir(prefix):
            return


def what_is_read(codes: Sequence[str], helpers: Sequence[Path]) -> set[str]:
    """Those of STORE and REGISTRY that `codes`, or the modules `helpers`, read."""
    reads = {part for part, call in READS.items() if any(map(call.search, codes))}
    ground = every_run_needs() if helpers else ()
    return reads.union(*(_reads(f, preload.stamp_of(f)) for f in helpers if f not in ground))


def every_run_needs() -> set[Path]:
    """`tracking` and what it imports: whoever reads runs through these makes a call of READS itself."""
    tracks = paths.ROOT / "Codes" / "runs" / "tracking.py"
    return {tracks, *modules(tracks)}


@functools.lru_cache(1000)
def _reads(path: Path, _stamp: Hashable) -> set[str]:
    text = path.read_text("utf-8", "replace") if path.is_file() else ""
    return {part for part, call in READS.items() if call.search(text)}


def data_files(folder: Path, values: Mapping[str, Any]) -> list[Path]:
    """The files and folders that text among `values` names: paths (seen from `folder`, too), a problem with its table.

    A folder around the notebook, the workbook or the current one is none: it changes with each run.
    """
    near = _named(folder, values)
    for file in _described(folder, values):
        if source := _of_part(file, "source", "path"):
            near.append((file.parent / source).resolve())
    inner = (folder, paths.ROOT, Path.cwd())
    outer = {path for path in near if any(each.is_relative_to(path) for each in inner)}
    return [path for path in dict.fromkeys(near) if path not in outer and _is_there(path)]


def _named(folder: Path, values: Mapping[str, Any]) -> list[Path]:
    """The files and folders that text among `values` names, seen from `folder`, too, or as a problem."""
    leaves = parameters.leaves(values)
    texts = [v for v in leaves if isinstance(v, str) and 0 < len(v) < 1000 and "\0" not in v]
    return [
        candidate.resolve()
        for text in texts
        # a problem may have a day behind it
        for name in dict.fromkeys((text, text.rpartition("@")[0] or text))
        for candidate in (Path(name), folder / name, paths.PROBLEMS / f"{name}.yaml")
        if _is_there(candidate)
    ]


def _described(folder: Path, values: Mapping[str, Any]) -> list[Path]:
    """Those of the `_named` files that may be problems'."""
    return [file for file in _named(folder, values) if file.suffix in (".yaml", ".yml")]


def _is_there(path: Path) -> bool:
    try:
        return path.is_file() or path.is_dir()
    except OSError:
        return False


@functools.lru_cache(100)
def _problem(path: Path, _stamp: Hashable) -> dict[str, Any]:
    """What the YAML file `path` holds; {} where it is none."""
    try:
        content = yaml.safe_load(path.read_text("utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _of_part(path: Path, part: str, key: str) -> str | None:
    """The text at `key` in the `part` of the problem in the YAML file `path`; None where there is none."""
    held = _problem(path, preload.stamp_of(path)).get(part)
    text = held.get(key) if isinstance(held, dict) else None
    return text if isinstance(text, str) else None


def by_name(places: Iterable[Path]) -> dict[str, str]:
    """{name: digest} of the files and folders `places`; those with the same name are numbered, in their order."""
    named = defaultdict(list)
    for path in dict.fromkeys(places):
        named[_name(path)].append(content_digest(path))
    return {
        f"{name} ({number})" if number > 1 else name: value
        for name, digests in named.items()
        for number, value in enumerate(digests, 1)
    }


def _name(path: Path) -> str:
    inside = path.is_relative_to(paths.ROOT)
    name = path.relative_to(paths.ROOT).as_posix() if inside else path.name
    return f"{name}/" if path.is_dir() else name


def content_digest(path: Path) -> str:
    """The digest of what the file or folder `path` holds; a file is read again only where it has changed.

    Of a folder with MANY files count their names and sizes alone.
    """
    if not path.is_dir():
        return _file_digest(str(path), preload.stamp_of(path))
    names = sorted(os.path.join(folder, n) for folder, _, files in os.walk(path) for n in files)
    files = [(name, preload.stamp_of(name)) for name in names if os.path.isfile(name)]
    facts = (
        (name[len(str(path)) :], _file_digest(name, s) if len(files) < MANY else str(s and s[1]))
        for name, s in files
    )
    return digest(*itertools.chain.from_iterable(facts))


@functools.lru_cache(2 * MANY)
def _file_digest(path: str, _stamp: Hashable) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError:
        return "missing"


def environment() -> str:
    """The digest of Python's version and of the installed distributions and their versions."""
    return digest(*(f"{name} {version}" for name, version in packages().items()))


def packages() -> dict[str, str]:
    """{name: version} of Python and of the installed distributions, but for the workbook itself."""
    folders = [folder for folder in sys.path if folder.endswith("-packages")]
    return _packages(tuple((folder, preload.stamp_of(folder)) for folder in folders))


@functools.lru_cache(10)
def _packages(folders: tuple[tuple[str, Any], ...]) -> dict[str, str]:
    names = {n for f, stamp in folders if stamp for n in os.listdir(f) if n.endswith(".dist-info")}
    parted = [name.removesuffix(".dist-info").rpartition("-") for name in sorted(names)]
    installed = {name: version for name, _, version in parted}
    installed.pop("experiment_workbook", None)
    return {"Python": sys.version} | installed


def stored_runs(stem: str) -> str:
    """The digest of the finished runs in the store, but for those of `stem`, of others that read runs, and of the gate.

    Else notebooks that read runs would be due for ever, each because of the other.
    """
    runs = all_runs(MlflowClient(), FINISHED)
    return digest(*sorted(run.info.run_id for run in runs if _counts(run, stem)))


def _counts(run: Run, stem: str) -> bool:
    tags_ = run.data.tags
    return (
        tags_.get(identity.NOTEBOOK) != stem
        and identity.GATE not in tags_
        and STORE not in parts_of(run)
    )


def stored_versions() -> str:
    """The digest of the registered versions, and of the aliases that point to them."""
    facts = [(v.name, v.version, v.run_id) for v in mlflow.search_model_versions()]
    for model in mlflow.search_registered_models():
        facts += [(model.name, alias, number) for alias, number in model.aliases.items()]
    return digest(*sorted(map(str, facts)))


def known(path: Path, experiment: str) -> dict[str, Run]:
    """{fingerprint: the newest finished run} of the notebook at `path` in the `experiment` (an id)."""
    runs = [run for run in finished(path, experiment) if TAG in run.data.tags]
    return {run.data.tags[TAG]: run for run in reversed(runs)}


def finished(path: Path, experiment: str, most: int | None = None) -> list[Run]:
    """The finished runs of the notebook at `path` in `experiment`, the newest first, and at `most` so many."""
    here = digest(located(path))
    runs = all_runs(MlflowClient(), FINISHED, [experiment], tags={identity.NOTEBOOK: path.stem})
    return list(itertools.islice((r for r in runs if parts_of(r).get(PLACE) == here), most))


def already(
    path: str | Path, values: Mapping[str, Any], kernel: str | None = None
) -> tuple[Run | None, str]:
    """(the finished run of the notebook at `path` with `values` as all stands now, or None; why there is none).

    Only one of the same experiment counts: the other's readers would not see it.
    """
    tracking.use_store()
    path = Path(path)
    now = parts(_read(path, preload.stamp_of(path)), path, values, kernel)
    experiment = tracking.experiment_of(path, values)
    same = all_runs(MlflowClient(), FINISHED, [experiment], tags={TAG: of_parts(now)})
    if run := next(same, None):
        return run, ""
    return None, why(now, finished(path, experiment, most=1000), path.stem)


def why(now: Mapping[str, str], runs: Iterable[Run], stem: str) -> str:
    """What has changed between `now` (parts) and the newest of `runs` with the same parameters, in words."""
    before = [(run, parts_of(run)) for run in runs]
    same = [(run, old) for run, old in before if old.get(VALUES) == now[VALUES]]
    if not same:
        return f"no finished run of {stem} has these parameters"
    run, old = same[0]
    return f"{', '.join(differences(old, now))} since the run {run.info.run_id}"


def differences(old: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The parts that differ between `old` and `now`, each with what happened to it."""
    words = {(True, True): "changed", (True, False): "no longer used", (False, True): "new"}
    return [
        part if part.startswith(UNKNOWN) else f"{part} {words[part in old, part in now]}"
        for part in sorted(old.keys() | now.keys())
        if old.get(part) != now.get(part)
    ]


def parts_of(run: Run) -> dict[str, str]:
    """The parts that the `run` was made of; {} where it does not say."""
    try:
        return dict(json.loads(run.data.tags[PARTS]))
    except (KeyError, ValueError, TypeError):
        return {}


def require(
    expected: dict[str, str] | None,
    actual: dict[str, str],
    where: str,
    installed: dict[str, str] | None = None,
) -> None:
    """Refuse a run whose parts `actual` here are not those `expected` by who asked for it; `where` names this place.

    `installed` are the `packages` of who asked.
    """
    if expected and expected != actual:
        changed = ", ".join(differences(expected, actual))
        others = _other_packages(installed or {}) if ENVIRONMENT in changed else ""
        raise WorkbookError(
            f"{where} has another state than the sweep: {changed}{others}; "
            "bring it to the same commit and environment."
        )


def _other_packages(others: dict[str, str], most: int = 10) -> str:
    """' (name here 1.0, there 2.0; …)' of the packages that differ between here and `there`."""
    here = packages()
    differ = [name for name in here | others if here.get(name) != others.get(name)]
    words = [
        f"{name} {here.get(name, 'missing')} instead of {others.get(name, 'none')}"
        for name in differ[:most]
    ]
    words += [f"{len(differ) - most} more"] if len(differ) > most else []
    return f" ({', '.join(words)})" if words and others else ""
