"""What is kept of an executed notebook: itself, an HTML copy, its figures and its durations."""

import base64
import binascii
import functools
import html
import logging
from pathlib import Path

import nbformat
from mlflow.entities import Metric
from mlflow.utils.time import get_current_time_millis

NOTEBOOK, PAGE, FIGURES, LOG = "notebook.ipynb", "notebook.html", "figures", "kernel.log"
HIDDEN = "••••••"


def hide(notebook, secrets):
    """Replace each of `secrets` in `notebook`'s sources and outputs, in place."""
    for cell in notebook.cells:
        cell.source = hidden(cell.source, secrets)
        for output in cell.get("outputs", []):
            for key, value in output.items():
                output[key] = _hide_in(value, secrets)


def _hide_in(value, secrets):
    if isinstance(value, str):
        return hidden(value, secrets)
    if isinstance(value, list):
        return [_hide_in(v, secrets) for v in value]
    if isinstance(value, dict):
        return type(value)({k: _hide_in(v, secrets) for k, v in value.items()})
    return value


def hidden(text, secrets):
    """`text` with each of `secrets` replaced."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def stage(notebook, log, folder, page=""):
    """Lay out in `folder` the artifacts of the executed `notebook` and of `log`, its kernel's own messages.

    `page` is the notebook's page, where it was made already.
    """
    folder = Path(folder)
    (folder / NOTEBOOK).write_text(nbformat.writes(notebook), "utf-8")
    (folder / PAGE).write_text(page or as_page(notebook), "utf-8")
    for name, image in figures(notebook):
        (folder / FIGURES).mkdir(exist_ok=True)
        (folder / FIGURES / name).write_bytes(image)
    if log.strip():
        (folder / LOG).write_text(log, "utf-8")


def as_page(notebook):
    """`notebook` as one HTML page, which the MLflow UI shows; it shows an .ipynb as raw text."""
    try:
        return exporter().from_notebook_node(notebook)[0]
    except Exception as error:  # pylint: disable=broad-exception-caught
        # what a cell shows may be anything: it must not cost the run
        return (
            f"<!doctype html><p>{NOTEBOOK} cannot be shown as a page: {html.escape(str(error))}</p>"
        )


@functools.cache
def exporter():
    """The maker of pages, made once: compiling its templates takes longer than filling them."""
    from nbconvert import HTMLExporter
    from nbconvert.exporters.templateexporter import TemplateExporter
    from nbconvert.filters import Highlight2HTML, clean_html
    from nbconvert.filters.widgetsdatatypefilter import WidgetsDataTypeFilter

    class Pages(HTMLExporter):
        """nbconvert's exporter without its second pass, which parses each page whole to make figures focusable."""

        def from_notebook_node(self, nb, resources=None, **options):
            """The page of `nb`, and the resources."""
            resources = self._init_resources(resources)
            lexer = nb.metadata.get("language_info", {}).get("pygments_lexer", "ipython3")
            self.register_filter(
                "highlight_code", Highlight2HTML(pygments_lexer=lexer, parent=self)
            )
            types = {"notebook_metadata": self._nb_metadata, "resources": resources}
            self.register_filter("filter_data_type", WidgetsDataTypeFilter(parent=self, **types))
            return TemplateExporter.from_notebook_node(self, nb, resources, **options)

    quiet = logging.getLogger("workbook.page")  # it warns of each figure without a description
    quiet.setLevel(logging.ERROR)
    made = Pages(log=quiet)
    # the runs of a sweep share nearly all of their sources
    made.register_filter("clean_html", functools.lru_cache(500)(clean_html))
    made.from_notebook_node(nbformat.v4.new_notebook())
    return made


def figures(notebook):
    """(file name, bytes) of each picture that `notebook` shows, named by cell."""
    for number, cell in enumerate(notebook.cells, 1):
        texts = [o.get("data", {}).get("image/png") for o in cell.get("outputs", [])]
        for count, image in enumerate(filter(None, map(_picture, texts)), 1):
            yield f"cell_{number:02}_{count}.png", image


def _picture(text):
    """The bytes of a picture; None for what a cell only called one."""
    try:
        return base64.b64decode(text, validate=False) if isinstance(text, str) else None
    except binascii.Error:
        return None


def durations(notebook):
    """Metrics: the seconds of each cell, by its number as the step, and those of the whole notebook."""
    moment = get_current_time_millis()
    seconds = [(n, c.metadata.papermill.get("duration")) for n, c in enumerate(notebook.cells, 1)]
    cells = [Metric("notebook/cell_seconds", s, moment, n) for n, s in seconds if s is not None]
    return cells + [Metric("notebook/seconds", sum(m.value for m in cells), moment, 0)]
