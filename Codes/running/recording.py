"""What is kept of an executed notebook: itself, an HTML copy, its figures and its durations."""

import base64
import contextlib
import copy
import functools
import html
import json
import logging
import re
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TYPE_CHECKING
from urllib.parse import quote_plus

import nbformat
from jupyter_core.paths import jupyter_path
from mlflow.entities import Metric
from nbformat import NotebookNode

from Codes.notebook_files.parameters import HIDDEN
from Codes.running import interactive, page as finishing
from Codes.running.interactive import WIDGET, WIDGETS
from Codes.running.page_template import TEMPLATE
from Codes.seams import jupyter_seam

if TYPE_CHECKING:
    from nbconvert import HTMLExporter

NOTEBOOK, PAGE, FIGURES, LOG = "notebook.ipynb", "notebook.html", "figures", "kernel.log"
HEADING = re.compile(r"^#{1,6}\s+(.*\S)", re.MULTILINE)
# an output's other fields are its structure
CONTENT = {"text", "data", "metadata", "evalue", "traceback"}
ESCAPES = (
    lambda text: repr(text)[1:-1],
    lambda text: repr(f"{text}'\"")[1:-4],  # as within a text that holds both quotes
    lambda text: ascii(text)[1:-1],
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: html.escape(text, quote=False),
    html.escape,
    lambda text: html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
    lambda text: quote_plus(text, errors="surrogateescape"),
)
# the first that an output has is kept
PICTURES = {"png": "image/png", "svg": "image/svg+xml", "jpg": "image/jpeg", "gif": "image/gif"}


def masked(notebook: NotebookNode, secrets: Collection[str]) -> NotebookNode:
    """`notebook` itself without `secrets`; where there are some, a copy that hides them."""
    if secrets:
        notebook = copy.deepcopy(notebook)
        hide(notebook, secrets)
    return notebook


def hide(notebook: NotebookNode, secrets: Collection[str]) -> None:
    """Replace each of `secrets` in what `notebook` shows, in place: sources, outputs and the state of widgets."""
    if not (spellings := forms(secrets)):
        return
    for cell in notebook.cells:
        cell.source = _replaced(cell.source, spellings)
        _hide_in_outputs(cell.get("outputs", []), spellings)
    for widget in notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {}).values():
        _hide_in_outputs(widget["state"].get("outputs", []), spellings)
        for key in [k for k in widget["state"] if k != "outputs" and not k.startswith("_")]:
            widget["state"][key] = _hide_in(widget["state"][key], spellings)


def _hide_in_outputs(outputs: Iterable[Any], spellings: Iterable[str]) -> None:
    for output in outputs:
        for key in CONTENT & output.keys():
            value = output[key]
            if isinstance(value, dict):  # by kind
                new = {k: v if _is_opaque(k) else _hide_in(v, spellings) for k, v in value.items()}
                output[key] = type(value)(new)
            else:
                output[key] = _hide_in(value, spellings)


def _is_opaque(kind: str) -> bool:
    """Whether content of this `kind` is bytes in base64, in which a short secret stands by chance, or a reference."""
    is_media = kind.startswith(("image/", "audio/", "video/")) and not kind.endswith("+xml")
    return is_media or kind in ("application/pdf", WIDGET)


def _hide_in(value: Any, spellings: Iterable[str]) -> Any:
    if isinstance(value, str):
        return _replaced(value, spellings)
    if isinstance(value, list):
        return [_hide_in(v, spellings) for v in value]
    if isinstance(value, dict):
        return type(value)(
            {_replaced(k, spellings): _hide_in(v, spellings) for k, v in value.items()}
        )
    return value


def hidden(text: str, secrets: Collection[str]) -> str:
    """`text` with each of `secrets` replaced."""
    return _replaced(text, forms(secrets))


def _replaced(text: str, spellings: Iterable[str]) -> str:
    for form in spellings:
        text = text.replace(form, HIDDEN)
    return text


def forms(secrets: Collection[str]) -> list[str]:
    """All that `secrets` may look like, the longest first: as they are, and escaped once or twice."""
    spellings = {secret.strip() for secret in secrets} - {""}
    for _ in range(2):
        spellings |= {escaped(text) for text in spellings for escaped in ESCAPES}
    return sorted(spellings, key=len, reverse=True)


def stage(notebook: NotebookNode, log: str, folder: str | Path, page: str = "") -> None:
    """Lay out in `folder` the artifacts of the executed `notebook` and of `log`, its kernel's own messages.

    `page` is the notebook's page, where it was made already.
    """
    folder = Path(folder)
    (folder / NOTEBOOK).write_text(nbformat.writes(notebook), "utf-8")
    (folder / PAGE).write_text(page or as_page(notebook), "utf-8")
    if live := interactive.page(notebook):
        (folder / FIGURES).mkdir()
        (folder / FIGURES / "interactive.html").write_text(live, "utf-8")
    for name, image in figures(notebook):
        (folder / FIGURES).mkdir(exist_ok=True)
        (folder / FIGURES / name).write_bytes(image)
    if log.strip():
        (folder / LOG).write_text(log, "utf-8")


def as_page(notebook: NotebookNode) -> str:
    """`notebook` as one HTML page, which the MLflow UI shows; it shows an .ipynb as raw text."""
    try:
        shown = interactive.offline(notebook)
        named = {"metadata": {"name": finishing.title(notebook)}}
        page = finishing.finished(exporter().from_notebook_node(shown, named)[0], shown)
        if not interactive.asks_for_require(shown):
            page = page.replace(f'<script src="{exporter().require_js_url}"></script>', "", 1)
        return page.replace("</head>", f"{interactive.scripts(page)}</head>", 1)
    except Exception as error:  # pylint: disable=broad-exception-caught
        # what a cell shows may be anything: it must not cost the run
        return (
            f"<!doctype html><p>{NOTEBOOK} cannot be shown as a page: {html.escape(str(error))}</p>"
        )


def exporter() -> "HTMLExporter":
    """The maker of pages, made once: compiling its templates takes longer than filling them."""
    return _exporter(*jupyter_path())


@functools.cache
def _exporter(*_folders: str) -> "HTMLExporter":
    """The maker of pages where Jupyter looks for templates in these folders, which a fork's environment may change."""
    from nbconvert.filters import clean_html

    quiet = logging.getLogger("workbook.page")  # it warns of each figure without a description
    quiet.setLevel(logging.ERROR)
    made = jupyter_seam.single_pass_exporter()(log=quiet, raw_template=TEMPLATE)
    # the runs of a sweep share nearly all of their sources
    made.register_filter("clean_html", functools.lru_cache(500)(clean_html))
    made.from_notebook_node(nbformat.v4.new_notebook())
    return made


def figures(notebook: NotebookNode) -> Iterator[tuple[str, bytes]]:
    """(file name, bytes) of each picture that `notebook` shows, named by the heading above it, else by its cell."""
    heading, counts = "", Counter()
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "markdown":
            heading = _heading(cell.source) or heading
        pictures = (_picture(o.get("data", {})) for o in cell.get("outputs", []))
        for ending, image in filter(None, pictures):
            name = heading or f"cell_{number:02}"
            counts[name.lower()] += 1  # a file system may not tell capitals apart
            again = f"_{counts[name.lower()]}" if counts[name.lower()] > 1 else ""
            yield f"{name}{again}.{ending}", image


def _heading(source: str) -> str:
    """The last heading of a Markdown `source` as a file's name; an empty text without."""
    found = HEADING.findall(source)
    words = re.sub(r"\W+", "_", found[-1]).strip("_")[:60] if found else ""
    # so that none ends as one that is numbered does
    return re.sub(r"_(\d+)$", r"\1", words)


def _picture(data: Mapping[str, Any]) -> tuple[str, bytes] | None:
    """(ending, bytes) of an output's picture in its best form; None where it has none, or only calls it one."""
    for ending, kind in PICTURES.items():
        if isinstance(text := data.get(kind), str):
            with contextlib.suppress(ValueError):
                if image := text.encode() if ending == "svg" else base64.b64decode(text):
                    return ending, image
    return None


def durations(notebook: NotebookNode) -> list[Metric]:
    """Metrics: the seconds of each cell, by its number as the step, and those of the whole notebook."""
    moment = int(1000 * time.time())
    seconds = [(n, c.metadata.papermill.get("duration")) for n, c in enumerate(notebook.cells, 1)]
    cells = [Metric("notebook/cell_seconds", s, moment, n) for n, s in seconds if s is not None]
    return cells + [Metric("notebook/seconds", sum(m.value for m in cells), moment, 0)]
