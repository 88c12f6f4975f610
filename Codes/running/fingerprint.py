"""A run's fingerprint: the digest of what determines its result, so that no run need be made twice.

That is the notebook's code, its parameters after defaults, the modules of the user's own that it reaches, the content
of the data that its parameters name, and the environment. MLflow keeps it, whole and by parts, as tags of the run.
"""

import ast
import functools
import hashlib
import itertools
import json
import os
import sys
from pathlib import Path

import nbformat
import yaml
from mlflow import MlflowClient

from Codes import identity, parameters, paths, tracking
from Codes.errors import WorkbookError
from Codes.running import preload
from Codes.store import all_runs

TAG = "workbook.fingerprint"
PARTS = "workbook.fingerprint.parts"
CODE, VALUES, ENVIRONMENT, STORE = (
    "the notebook's code",
    "the parameters",
    "the environment",
    "runs",
)
READS_RUNS = ("tracking.runs(", "search_runs(")
FINISHED = "attributes.status = 'FINISHED'"


def of_file(path, values):
    """The parts of a run of the notebook at `path` with `values` (all of them, as `parameters.check` returns them)."""
    return parts(_read(Path(path), preload.stamp_of(path)), path, values)


@functools.lru_cache(100)
def _read(path, _stamp):
    return nbformat.read(path, as_version=4)


def parts(nb, path, values):
    """{part: digest} of a run of `nb`, the notebook at `path`, with `values`."""
    path = Path(path).resolve()
    codes = code(nb)
    found = {CODE: digest(*codes), VALUES: digest(_plain(values)), ENVIRONMENT: environment()}
    found |= {_name(file): file_digest(file) for file in modules(path)}
    found |= {_name(file): file_digest(file) for file in data_files(path.parent, values)}
    if any(call in source for source in codes for call in READS_RUNS):
        found[STORE] = stored_runs(path.stem)
    return found


def code(nb):
    """The sources of `nb`'s code cells, without injected ones and without the parameters' own values."""
    cells = [c for c in nb.cells if c.cell_type == "code"]
    kept = [c for c in cells if "injected-parameters" not in c.metadata.get("tags", [])]
    return [
        _beside(c.source) if "parameters" in c.metadata.get("tags", []) else c.source for c in kept
    ]


def _beside(source):
    """What a parameters cell does beside giving parameters their values."""
    kinds = (ast.Assign, ast.AnnAssign)
    return "\n".join(ast.unparse(n) for n in ast.parse(source).body if not isinstance(n, kinds))


def _plain(values):
    return json.dumps(parameters.storable(values), sort_keys=True, default=str)


def digest(*texts):
    """The first half of the SHA-256 of `texts`, 32 hexadecimal digits."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def of_parts(found):
    """The fingerprint of `parts`."""
    return digest(json.dumps(found, sort_keys=True))


def tags(found):
    """The tags by which a run with these `parts` is found again."""
    return {TAG: of_parts(found), PARTS: json.dumps(found)}


def modules(path):
    """The user's own files that the notebook at `path` imports, over however many steps: of `Codes`, and beside it."""
    found, waiting = set(), [path]
    while waiting:
        names = _imported(file := waiting.pop(), preload.stamp_of(file))
        near = {
            folder / f"{n.replace('.', '/')}.py"
            for n in names
            for folder in (paths.ROOT, path.parent)
        }
        new = {file for file in near if file not in found and file.is_file()}
        found |= new
        waiting += new
    return sorted(found)


@functools.lru_cache(1000)
def _imported(path, _stamp):
    return frozenset(preload.imported_by(path))


def data_files(folder, values):
    """The files that text among `values` names: a path (seen from `folder`, too), or a problem with its table."""
    texts = [
        v for v in values.values() if isinstance(v, str) and 0 < len(v) < 1000 and "\0" not in v
    ]
    found = set()
    for text in texts:
        near = (Path(text), folder / text, paths.PROBLEMS / f"{text}.yaml")
        found |= {file.resolve() for file in near if _is_file(file)}
    for file in [file for file in found if file.suffix in (".yaml", ".yml")]:
        if source := _source(file, preload.stamp_of(file)):
            table = (file.parent / source).resolve()
            found |= {p for p in table.rglob("*") if p.is_file()} if table.is_dir() else {table}
    return sorted(file for file in found if _is_file(file))


def _is_file(path):
    try:
        return path.is_file()
    except OSError:
        return False


@functools.lru_cache(100)
def _source(path, _stamp):
    """The table that the problem in the YAML file `path` names; None where it is none, or names none."""
    try:
        return yaml.safe_load(path.read_text("utf-8-sig"))["source"]["path"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return None


def file_digest(path):
    """The digest of the content of the file `path`, read again only where it has changed."""
    return _file_digest(path, preload.stamp_of(path))


@functools.lru_cache(1000)
def _file_digest(path, stamp):
    if stamp is None:
        return "missing"
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _name(file):
    return file.relative_to(paths.ROOT).as_posix() if file.is_relative_to(paths.ROOT) else file.name


def environment():
    """The digest of Python's version and of the installed distributions and their versions."""
    folders = [folder for folder in sys.path if folder.endswith("-packages")]
    return _environment(tuple((folder, preload.stamp_of(folder)) for folder in folders))


@functools.lru_cache(10)
def _environment(folders):
    installed = {
        n for f, stamp in folders if stamp for n in os.listdir(f) if n.endswith(".dist-info")
    }
    own = {name for name in installed if name.startswith("experiment_workbook-")}
    return digest(sys.version, *sorted(installed - own))


def stored_runs(stem):
    """The digest of the finished runs in the store, but for those of the notebook `stem` itself, which reads them."""
    found = all_runs(MlflowClient(), FINISHED)
    return digest(
        *sorted(r.info.run_id for r in found if r.data.tags.get(identity.NOTEBOOK) != stem)
    )


def known(stem):
    """{fingerprint: the newest finished run} of the notebook `stem`."""
    runs = [run for run in finished(stem) if TAG in run.data.tags]
    return {run.data.tags[TAG]: run for run in reversed(runs)}


def finished(stem, most=None):
    """The finished runs of the notebook `stem`, the newest first, and at `most` so many."""
    where = f"{FINISHED} and tags.`{identity.NOTEBOOK}` = '{stem}'"
    return list(itertools.islice(all_runs(MlflowClient(), where), most))


def already(path, values):
    """(the finished run of the notebook at `path` with `values` as all stands now, or None; why there is none)."""
    tracking.use_store()
    now = of_file(path, values)
    stem = Path(path).stem
    same = f"{FINISHED} and tags.`{TAG}` = '{of_parts(now)}'"
    if found := next(all_runs(MlflowClient(), same), None):
        return found, ""
    return None, why(now, finished(stem, most=1000), stem)


def why(now, runs, stem):
    """What has changed between `now` (parts) and the newest of `runs` with the same parameters, in words."""
    before = [(run, parts_of(run)) for run in runs]
    same = [(run, old) for run, old in before if old.get(VALUES) == now[VALUES]]
    if not same:
        return f"no finished run of {stem} has these parameters"
    run, old = same[0]
    return f"{', '.join(differences(old, now))} since the run {run.info.run_id}"


def differences(old, now):
    """The parts that differ between `old` and `now`, each with what happened to it."""
    words = {(True, True): "changed", (True, False): "no longer used", (False, True): "new"}
    return [
        f"{part} {words[part in old, part in now]}"
        for part in sorted(old.keys() | now.keys())
        if old.get(part) != now.get(part)
    ]


def parts_of(run):
    """The parts that the `run` was made of; {} where it does not say."""
    try:
        return dict(json.loads(run.data.tags[PARTS]))
    except (KeyError, ValueError, TypeError):
        return {}


def require(expected, found, where):
    """Refuse a run whose parts `found` here are not those `expected` by who asked for it; `where` names this place."""
    if expected and expected != found:
        raise WorkbookError(
            f"{where} has another state than the sweep: {', '.join(differences(expected, found))}; "
            "bring it to the same commit and environment."
        )
