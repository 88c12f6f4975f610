"""What the warm template imports before it forks, and whether a fresh start would still import the same.

That is what the notebooks and helpers import, as far as it is installed: the user's own code changes, and is loaded
anew by each kernel.
"""

import ast
import contextlib
import importlib
import importlib.util
import json
import os
import sys
import tempfile
import traceback
import types
from collections.abc import Collection, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, TypeAlias

from Codes import WORDS
from Codes.ground import paths
from Codes.notebook_files import cells
from Codes.forks import channel
from Codes.seams import ipykernel_seam, mlflow_seam, python_seam
from Codes.warm import forked
from Codes.warm.kernel_look import Guise

Settings: TypeAlias = types.SimpleNamespace  # see DEFAULTS
Stamp: TypeAlias = tuple[int, int, int]
CONFIGURATION = paths.RESOURCES / "warm.yaml"
DEFAULTS: dict[str, Any] = {"also": [], "never": [], "idle_minutes": 15}
# What a kernel's start, the first use of the store, the first figure and the first table import on their own.
IMPORTED_LATE = """
threadpoolctl
IPython.core.debugger IPython.core.oinspect IPython.core.completerlib IPython.core.logger IPython.core.pylabtools
IPython.extensions.storemagic tornado.platform.asyncio
mlflow.store.tracking.sqlalchemy_store mlflow.store.tracking.sqlalchemy_workspace_store
mlflow.store.artifact.local_artifact_repo mlflow.sklearn sqlalchemy.dialects.sqlite
matplotlib.backends.backend_agg PIL.PngImagePlugin PIL.BmpImagePlugin PIL.GifImagePlugin PIL.JpegImagePlugin
PIL.PpmImagePlugin pyarrow.pandas_compat narwhals._pandas_like.dataframe narwhals._pandas_like.series
narwhals._pandas_like.expr
""".split()


class Preloaded:  # pylint: disable=too-many-instance-attributes
    """What was preloaded, and whether a fresh start would still load the same."""

    kind = "kernels"

    def __init__(self) -> None:
        self.seen: dict[Path, tuple[Stamp | None, set[str]]] = {}
        self.stamps = stamps()
        before = dict(os.environ)
        with self.surroundings():
            self.settings = self.read_settings()
            self.wanted = self.imports()
            self.starters = preload(
                self.wanted, self.settings.also, self.settings.never, self.own_modules()
            )
        # what libraries set as they load, such as scikit-learn for OpenMP
        self.environment = {k: v for k, v in os.environ.items() if before.get(k) != v}
        self.foreign = foreign_modules()
        self.random = forked.random_sources()
        matplotlib = sys.modules.get("matplotlib")
        self.matplotlibrc = matplotlib and matplotlib.matplotlib_fname()

    def surroundings(self) -> contextlib.AbstractContextManager[None]:
        """What the libraries see around them while they are imported: a kernel."""
        self.kernel, self.guise = kernel_modules(), Guise()
        return self.guise.worn()

    def read_settings(self) -> Settings:
        """The settings of Resources/warm.yaml."""
        return settings()

    def sources(self) -> list[Path]:
        """The files whose imports, and those of the helpers that they reach, are preloaded: the notebooks."""
        return sorted(paths.NOTEBOOKS.glob("*.ipynb"))

    def own_modules(self) -> list[str]:
        """The workbook's own modules to import as well: none, since a notebook's user edits them."""
        return []

    def imports(self) -> set[str]:
        """The modules that the sources, and the helpers that they reach, import as they stand now."""
        found, read, waiting = set(), set(), self.sources()
        while waiting:
            path = waiting.pop()
            read.add(path)
            names = self.imported_by(path)
            found |= names
            helpers = {
                paths.ROOT / f"{n.replace('.', '/')}.py" for n in names if n.startswith("Codes.")
            }
            waiting += helpers - read
        return found

    def imported_by(self, path: Path) -> set[str]:
        """The modules that `path` imports, read again only where it has changed."""
        stamp = stamp_of(path)
        if self.seen.get(path, (None,))[0] != stamp:
            self.seen[path] = stamp, imported_by(path)
        return self.seen[path][1] if stamp else set()

    def stale(self) -> str:
        """Why a fresh template is due; an empty text while this one is good."""
        now = stamps()
        if changed := [path for path in now if now[path] != self.stamps.get(path)]:
            return f"{changed[0]} has changed"
        never = self.settings.never
        added = {n for n in self.imports() - self.wanted if not is_known(n)}
        if new := sorted(n for n in added if is_allowed(n, never)):
            return f"a notebook or helper now imports {new[0]}"
        return ""


def settings() -> Settings:
    """The configuration: `also` and `never` (lists of module names) and `idle_minutes`."""
    from Codes.ground import plain_yaml
    from Codes.ground.errors import WorkbookError, nearest

    found = plain_yaml.read(CONFIGURATION)
    for name, value in found.items():
        if name not in DEFAULTS:
            known = f"known are {', '.join(DEFAULTS)}{nearest(name, DEFAULTS)}"
            raise WorkbookError(f"{CONFIGURATION.name}: unknown key {name}; {known}")
        is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
        is_time = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
        if not (is_time if name == "idle_minutes" else is_list):
            what = "a number over 0" if name == "idle_minutes" else "a list of module names"
            raise WorkbookError(f"{CONFIGURATION.name}: {name} must be {what}, not {value!r}")
    return types.SimpleNamespace(**DEFAULTS | found)


def stamp_of(path: str | Path) -> Stamp | None:
    """What changes when the file or folder `path` does."""
    try:
        found = os.stat(path)
        return found.st_mtime_ns, found.st_size, found.st_ino
    except OSError:
        return None


def stamps() -> dict[str, Stamp | None]:
    """{path: stamp} of everything that a template is made from, but for what it imports."""
    own = [
        Path(__file__).with_name(f"{n}.py")
        for n in ("preload", "template", "forked", "kernel_look", "command_template")
    ]
    own += [Path(channel.__file__), paths.ROOT / "Codes" / "runs" / "nested_runs.py"]
    own += [Path(m.__file__) for m in (ipykernel_seam, mlflow_seam, python_seam)]
    installed = [path for path in sys.path if path.endswith("-packages")]
    return {str(p): stamp_of(p) for p in [CONFIGURATION, sys.executable, *own, *installed]}


def imported_by(path: Path) -> set[str]:
    """The modules, also possible ones (`from a import b` may be a.b), that the notebook or module at `path` imports."""
    try:
        text = path.read_text("utf-8")
        if path.suffix == ".ipynb":
            all_cells = json.loads(text)["cells"]
            codes = ["".join(cell["source"]) for cell in all_cells if cell["cell_type"] == "code"]
        else:
            codes = [text]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    found: set[str] = set()
    for code in codes:
        with contextlib.suppress(SyntaxError, ValueError):
            for node in ast.walk(ast.parse(cells.python(code))):
                found |= _names(node)
    words = {f"Codes.{word}": f"Codes.{room}.{word}" for word, room in WORDS.items()}
    return found | {words[name] for name in found & words.keys()}


def _names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return set()


def kernel_modules() -> dict[str, types.ModuleType]:
    """Import the kernel; returns its modules, as sys.modules has them when an ordinary one starts."""
    importlib.import_module("ipykernel_launcher")
    importlib.import_module("ipykernel.kernelapp")
    importlib.import_module("ipykernel.debugger")
    return dict(sys.modules)


def preload(
    wanted: Collection[str], also: Sequence[str], never: Sequence[str], own: Sequence[str] = ()
) -> list[str]:
    """Import `wanted` and `also`, but for `never` and what is not installed here: the user's own code changes.

    Then the modules `own`, of the workbook.

    Returns the names of the packages that have started threads.
    """
    refusing, watching = Refusing(never), Watching()
    sys.meta_path[:0] = [refusing, watching]
    try:
        load(wanted, also, never)
        for module in own:
            load_one(module)
        watching.look()
    finally:
        sys.meta_path.remove(refusing)
        sys.meta_path.remove(watching)
    mlflow_seam.make_datasets_late([name for name in never if is_installed(name)])
    return sorted(watching.starters)


class Watching:
    """Finds no module, but sees which package starts threads: the one that was last imported when there are more."""

    def __init__(self) -> None:
        self.count, self.last = thread_count(), ""
        self.starters: set[str] = set()

    # pylint: disable-next=unused-argument
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """None; whose code has run since the last module was looked for has started the threads since then."""
        self.look()
        self.last = _package(name)

    def look(self) -> None:
        """See whether there are more threads than before."""
        before, self.count = self.count, thread_count()
        if self.count > before:
            self.starters.add(self.last)


def thread_count() -> int:
    """How many threads this process has, those of libraries not written in Python, too."""
    return len(os.listdir("/proc/self/task"))


def _package(name: str) -> str:
    """The package of the module `name`; of a hidden one, such as _polars_runtime, the one that imports it."""
    top, frame = name.partition(".")[0], sys._getframe(2)  # pylint: disable=protected-access
    while top.startswith("_") and frame:
        importer = str(frame.f_globals.get("__name__")).partition(".")[0]
        top = top if importer in ("importlib", "Codes", "__main__") else importer
        frame = frame.f_back
    return top


class Refusing(Loader):
    """Finds the modules of `never`, as installed ones are found, but refuses to load them.

    Others would import them on the way: skops looks at all of scikit-learn, where one module imports torch.
    """

    def __init__(self, never: Collection[str]) -> None:
        self.never = never

    # pylint: disable-next=unused-argument
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of `name`, if it is not to be loaded."""
        return ModuleSpec(name, self) if name in self.never else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        """Refuse to make the module of `spec`."""
        raise ModuleNotFoundError(f"{spec.name} is not imported ahead", name=spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing: no module is made."""


def load(wanted: Collection[str], also: Sequence[str], never: Sequence[str]) -> None:
    """What `preload` does, where the modules of `never` cannot be loaded by others either."""
    for module in [*IMPORTED_LATE, *also, *sorted(wanted)]:
        if is_allowed(module, never):
            load_one(module)
    for package, first_use in FIRST_USES.items():
        try:
            if package in sys.modules:
                first_use()
        except Exception:  # pylint: disable=broad-exception-caught
            traceback.print_exc()  # into the log: kernels are slower without, no more


def load_one(module: str) -> None:
    """Import `module`; one that fails here, since there is no kernel yet to show something, is left to the kernels."""
    try:
        importlib.import_module(module)
    except ImportError:
        pass
    except Exception:  # pylint: disable=broad-exception-caught
        traceback.print_exc()


def is_allowed(name: str, never: Collection[str]) -> bool:
    """Whether the module `name` may be loaded: installed, and neither one of `never` nor inside one."""
    banned = any(f"{name}.".startswith(f"{each}.") for each in never)
    return not banned and is_installed(name.partition(".")[0])


def is_known(name: str) -> bool:
    """Whether `name` is a loaded module, or a name inside one."""
    parent, _, last = name.rpartition(".")
    return name in sys.modules or hasattr(sys.modules.get(parent), last)


def is_installed(package: str) -> bool:
    """Whether `package` comes with the interpreter or lies among the installed ones."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    places = [spec.origin or "", *(spec.submodule_search_locations or [])] if spec else []
    return bool(spec) and (
        spec.origin in ("built-in", "frozen") or any(map(_is_below_prefix, places))
    )


def _is_below_prefix(path: str) -> bool:
    return path.startswith((sys.prefix, sys.base_prefix)) and not path.startswith(
        f"{paths.ROOT}/Codes"
    )


def foreign_modules() -> list[str]:
    """The loaded modules that a kernel must load anew: all that is not installed, the workbook's own included."""
    # MLflow has installed nested_runs; a change of it replaces the template
    kept = {"Codes.runs.nested_runs", "__main__"}
    files = {n: getattr(m, "__file__", None) for n, m in sys.modules.items()}
    return [n for n, f in files.items() if f and n not in kept and not _is_below_prefix(f)]


def use_model() -> None:
    """Pay the first fit on a table: scikit-learn looks for plugins of all packages. A tree has no threads."""
    import pandas
    from sklearn.ensemble import RandomForestClassifier

    table = pandas.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
    model = RandomForestClassifier(2, random_state=0).fit(table, [0, 1, 0, 1])
    model.score(table, [0, 1, 0, 1])


def use_figure() -> None:
    """Pay the first figure: fonts, layout, the picture's format."""
    import io

    from matplotlib.figure import Figure

    figure = Figure()
    figure.add_subplot().bar(["a", "b"], [1, 2])
    figure.savefig(io.BytesIO(), format="png")


def use_store() -> None:
    """Pay what the first use of MLflow's SQL store costs a process, on a store of its own that is then removed."""
    from mlflow.entities import Metric, Param

    mlflow_seam.remember_the_schema()
    with tempfile.TemporaryDirectory(prefix="workbook-") as folder:
        uri = f"sqlite:///{folder}/rehearsal.db"
        mlflow_seam.create_tables(uri)
        store = mlflow_seam.sql_store(uri, f"{folder}/artifacts")
        experiment = store.create_experiment("rehearsal")
        run = store.create_run(experiment, "me", 0, [], "rehearsal").info.run_id
        store.log_batch(run, [Metric("m", 1.0, 0, 0)], [Param("p", "1")], [])
        store.get_run(run)
        store.engine.dispose()


FIRST_USES = {"mlflow": use_store, "sklearn": use_model, "matplotlib": use_figure}
