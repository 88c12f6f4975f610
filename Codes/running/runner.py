"""Runs notebooks: one by its name, or the whole lifecycle in the order of the numbers in their names."""

import importlib.util
import logging
import os
import secrets as random_names
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Any

import nbformat

from Codes.ground import paths, plain_yaml
from Codes.ground.errors import WorkbookError, nearest
from Codes.ground.paths import NOTEBOOKS, RESOURCES
from Codes.notebook_files import notebook_file, parameters
from Codes.notebook_files.parameters import Parameter
from Codes.forks import channel

LIFECYCLE = RESOURCES / "lifecycle"
LONGEST = 200  # bytes of an output's name: file systems allow 255, and the part file's is longer


def notebooks() -> list[Path]:
    """The lifecycle: the numbered notebooks, in the order of their numbers."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def find(name: str | Path) -> Path:
    """The path of the notebook `name`: a path, or a name in `notebooks/`; a WorkbookError suggests the nearest."""
    if "://" in str(name):
        raise WorkbookError(
            f"{name}: a notebook is run from a file, not from an address; download and read it first."
        )
    for path in (Path(name), NOTEBOOKS / f"{name}", NOTEBOOKS / f"{name}.ipynb"):
        if os.path.isfile(path):  # unlike Path.is_file, False for a name that is too long
            return path.resolve()
    stems = [path.stem for path in notebooks()]
    hint = nearest(Path(name).stem, stems, cutoff=0.4)
    raise WorkbookError(f"there is no notebook '{name}'; there are {', '.join(stems)}.{hint}")


def declared(path: Path) -> list[Parameter]:
    """The parameters of the notebook at `path`."""
    notebook = notebook_file.read(path)
    try:
        nbformat.validate(notebook)
    except notebook_file.INVALID as error:
        raise WorkbookError(
            f"{path} is not a valid notebook ({error.message[:100]}); open and save it in JupyterLab."
        ) from error
    return parameters.of(notebook, Path(path).name)


def sets_for(path: Path) -> list[dict[str, Any]]:
    """The parameter sets with which the lifecycle runs the notebook at `path`: one empty set if no file lists them."""
    return _lifecycle(path)[0]


def extra_of(path: Path) -> str:
    """The extra of pyproject.toml that the notebook at `path` needs, called as its module; '' where it needs none."""
    return _lifecycle(path)[1]


def missing_extra(path: Path) -> str:
    """The same where it is not installed; '' where nothing is missing."""
    extra = extra_of(path)
    return extra if extra and importlib.util.find_spec(extra) is None else ""


def _lifecycle(path: Path) -> tuple[list[dict[str, Any]], str]:
    """(the parameter sets, the extra that is needed) in the lifecycle's file for the notebook at `path`."""
    file = LIFECYCLE / f"{path.stem}.yaml"
    if not file.exists():
        return [{}], ""
    found = plain_yaml.parse(file.read_text("utf-8"), file.name)
    sets, extra = found, ""
    if isinstance(found, dict) and found.keys() == {"extra", "sets"}:
        sets, extra = found["sets"], found["extra"]
    if not isinstance(sets, list) or not all(isinstance(s, dict) for s in sets):
        raise WorkbookError(
            f"{file.name}: it must be a list of parameter sets: - {{model: forest}}."
        )
    return sets, str(extra)


def plan(
    name: str | None, given: Mapping[str, Any], tell: Callable[[str], object] = print
) -> list[tuple[Path, dict[str, Any]]]:
    """[(path, values)] of what `workbook run` runs: `name` with `given`, or without a name the whole lifecycle.

    In the lifecycle each notebook takes those of `given` that it declares; one that none declares is refused. `tell`
    gets a line on each that is left out, since its extra is not installed.
    """
    if name is not None:
        path = find(name)
        return [(path, _checked(path, declared(path), given))]
    steps, declared_names = [], set()
    for path in notebooks():
        if extra := missing_extra(path):
            tell(f'{path.stem} is left out: it needs make install EXTRAS="{extra}"')
            continue
        here = declared(path)
        names = {p.name for p in here}
        declared_names |= names
        mine = {k: v for k, v in given.items() if k in names}
        steps += [(path, _checked(path, here, {**s, **mine})) for s in sets_for(path)]
    if unknown := set(given) - declared_names:
        raise WorkbookError(
            f"no notebook takes {', '.join(sorted(unknown))}; they take {', '.join(sorted(declared_names))}."
        )
    return steps


def _checked(path: Path, here: Sequence[Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, its texts read by the types of the parameters `here`; refused if wrong, before anything runs."""
    texts = {k: v.text for k, v in given.items() if isinstance(v, Typed)}
    values = {**given, **parameters.from_text(here, texts)}
    parameters.check(here, values, path.name)
    return values


class Typed:
    """A value as it was typed on a command line; its parameter's declared type says how to read it."""

    def __init__(self, text: str) -> None:
        self.text = text


def output_path(path: Path, wanted: str | Path | None = None, force: bool = False) -> Path:
    """Where the executed copy of `path` goes: `wanted`, not over an existing file unless `force`; else a new name."""
    if wanted is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        paths.EXECUTED.mkdir(exist_ok=True)
        return (
            paths.EXECUTED / f"{path.stem[:LONGEST // 4]}-{stamp}-{random_names.token_hex(2)}.ipynb"
        )
    wanted = Path(wanted)
    if ".." in wanted.parts or not Path.cwd().joinpath(wanted).is_relative_to(Path.cwd()):
        raise WorkbookError(
            f"{wanted}: the output must lie below the current folder, {Path.cwd()}; give a path without '..'."
        )
    if len(os.fsencode(wanted.name)) > LONGEST:
        raise WorkbookError(
            f"the output's name is {len(os.fsencode(wanted.name))} bytes long; allowed are {LONGEST}."
        )
    if wanted.suffix != ".ipynb":
        raise WorkbookError(f"{wanted}: the output is a notebook; its name must end in .ipynb.")
    if wanted.resolve() == path or os.path.isdir(wanted) or (os.path.lexists(wanted) and not force):
        raise WorkbookError(f"{wanted} exists; choose another name, or replace it with --force.")
    if not wanted.parent.is_dir():
        raise WorkbookError(f"{wanted}: the folder {wanted.parent} does not exist; make it first.")
    return wanted


def warm_up(also: Mapping[str, str] | None = None) -> Thread | None:
    """Begin to start the template of warm kernels with the variables `also`; returns the thread, None where one is."""
    from Codes.warm import provisioner

    return provisioner.warm_up(also)


def kernel_of(path: Path) -> str | None:
    """The kernel to run the notebook at `path` with: the warm one where it names this Python's own and that can be."""
    from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager, NoSuchKernel

    named = notebook_file.kernel_of(notebook_file.read(path))
    if named != NATIVE_KERNEL_NAME or channel.is_off(os.environ):
        return named
    try:
        KernelSpecManager().get_kernel_spec(channel.SPEC)
        return channel.SPEC
    except NoSuchKernel:  # an environment that `make install` has not made
        return named


def run(
    path: Path,
    values: Mapping[str, Any],
    output: Path | None,
    kernel: str | None = None,
    progress: bool = True,
    **limits: Any,
) -> None:
    """Run the notebook at `path` with `values` as one MLflow run, into the file `output` (None: into none)."""
    import papermill
    from papermill.exceptions import PapermillException

    logging.getLogger("papermill").addFilter(_is_news)
    kernel = kernel or kernel_of(path)
    language = notebook_file.language_of(notebook_file.read(path), kernel)
    try:
        papermill.execute_notebook(
            _literally(path),
            output and _literally(output),
            parameters=values,
            engine_name="mlflow",
            kernel_name=kernel,
            language=language,
            progress_bar=progress,
            **limits,
        )
    except PapermillException as error:
        if not str(error).startswith("No parameter translator"):
            raise
        raise WorkbookError(
            f"{path.name} is in {language}, in which papermill writes no parameters: run it without any."
        ) from error


def _is_news(record: logging.LogRecord) -> bool:
    """Whether the log `record` is none of papermill's about parameters, which reads fewer than we have checked."""
    return not str(record.msg).startswith(("Passed unknown parameter", "Translator for "))


def _literally(path: str | Path) -> str:
    """`path` for papermill, which would fill in what stands in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")
