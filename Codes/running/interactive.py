"""Interactive figures and widgets as HTML that needs neither a kernel nor the network.

A page of nbconvert knows no plotly figure, and asks the network for what draws widgets.
"""

import html
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

PLOTLY, JAVASCRIPT = "application/vnd.plotly.v1+json", "application/javascript"
WIDGET, WIDGETS = (f"application/vnd.jupyter.widget-{what}+json" for what in ("view", "state"))
# what a page of nbconvert shows
SHOWN = """
application/javascript application/pdf image/jpeg image/png image/svg+xml text/html text/latex text/markdown text/plain
text/vnd.mermaid
""".split()
PICTURES = tuple(kind for kind in SHOWN if kind.startswith("image/"))
LOADED = re.compile(r"https?://([\w.-]+)(?=/)[^\s\"'`<>]*(?:\.js\b|/npm/)")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
LONGEST = 1_000_000  # characters of an output that is searched; those that carry a library within are longer
BOXES = {"HBoxModel": "display:flex;align-items:center;gap:6px", "VBoxModel": "", "BoxModel": ""}


def offline(notebook: NotebookNode) -> NotebookNode:
    """`notebook` as it can be shown without kernel and network: itself, or a copy with other outputs."""
    state = notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})
    cells, is_other = [], bool(state)
    for number, cell in enumerate(notebook.cells, 1):
        outputs = [
            _shown(o, state, f"cell-{number}-{i}") for i, o in enumerate(cell.get("outputs", []), 1)
        ]
        if any(new is not old for new, old in zip(outputs, cell.get("outputs", []))):
            cell, is_other = NotebookNode(cell | {"outputs": outputs}), True
        cells.append(cell)
    if not is_other:
        return notebook
    metadata = {name: value for name, value in notebook.metadata.items() if name != "widgets"}
    return NotebookNode(notebook | {"cells": cells, "metadata": NotebookNode(metadata)})


def _shown(output: NotebookNode, state: Mapping[str, Any], name: str) -> NotebookNode:
    """`output` itself where a page can show it, else as HTML; `name` is that of its place in the page."""
    data = output.get("data", {})
    if not data or not (text := _html(data, state, name)):
        return output
    return NotebookNode(output | {"data": {"text/html": text}})


def _html(data: Mapping[str, Any], state: Mapping[str, Any], name: str) -> str:
    """The HTML for an output's `data` that a page would not show, or not without the network; else an empty text."""
    if PLOTLY in data:
        return plot(data[PLOTLY], name)
    if (model := data.get(WIDGET, {}).get("model_id")) in state:
        return widget(state, model)
    shown = [kind for kind in data if kind in SHOWN]
    others = [kind for kind in data if kind not in SHOWN and (kind != WIDGET or not shown)]
    if others and shown in (
        [],
        ["text/plain"],
    ):  # such as Altair's own kind, beside 'alt.Chart(...)'
        plain = f"<pre>{html.escape(data['text/plain'])}</pre>" if shown else ""
        return note(f"not shown here, but in notebook.ipynb: {', '.join(others)}") + plain
    if hosts := loaded_from(data):
        drawn = data.get("text/html") or script(data[JAVASCRIPT], name)
        return note(f"drawn by scripts from the network: {', '.join(hosts)}") + drawn
    return ""


def script(code: str, name: str) -> str:
    """The output `code`, JavaScript, as HTML; it may use its `element`, as in a notebook."""
    element = f"var element = document.getElementById({json.dumps(name)});"
    return f'<div id="{name}"></div><script>{element}\n{code}</script>'


def asks_for_require(notebook: NotebookNode) -> bool:
    """Whether an output of `notebook` uses RequireJS, which a page would get from the network."""
    shown = [o.get("data", {}) for c in notebook.cells for o in c.get("outputs", [])]
    texts = (data.get(kind, "") for data in shown for kind in ("text/html", JAVASCRIPT))
    return any(isinstance(text, str) and re.search(r"\brequire(js)?\b", text) for text in texts)


def note(text: str) -> str:
    """A line of ours among outputs."""
    return f'<p style="color:#777;font-style:italic">({html.escape(text)})</p>'


def loaded_from(data: Mapping[str, Any]) -> list[str]:
    """The servers whose scripts an output's HTML, or the JavaScript that it is (Bokeh), asks for."""
    text = data.get("text/html") or data.get(JAVASCRIPT, "")
    if not isinstance(text, str) or len(text) > LONGEST or "script" not in text:
        return []
    return sorted(set(LOADED.findall(COMMENT.sub("", html.unescape(text)))))


def plot(figure: Mapping[str, Any], name: str) -> str:
    """The plotly `figure` (its JSON) as HTML; plotly.js must be in the page."""
    if not plotly_js():
        return note(
            "a plotly figure, in notebook.ipynb; where plotly is installed too the page shows it"
        )
    parts = [figure.get("data", []), figure.get("layout", {})]
    config = {"responsive": True, "displaylogo": False, **figure.get("config", {})}
    # a text in it may hold the end of a script
    texts = [json.dumps(part).replace("<", "\\u003c") for part in [*parts, config]]
    call = f"Plotly.newPlot({json.dumps(name)}, {', '.join(texts)})"
    height = parts[1].get("height")
    height = height if isinstance(height, (int, float)) else 450
    return f'<div id="{name}" class="plotly-figure" style="height:{height}px"></div><script>{call}</script>'


def plotly_js() -> Path | None:
    """The file of plotly.js that comes with plotly; None where that is not installed."""
    spec = importlib.util.find_spec("plotly")
    if not spec or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    return path if path.exists() else None


def scripts(text: str) -> str:
    """What the page `text` needs in its head: plotly.js, some megabytes, where there is a figure of it."""
    file = plotly_js() if 'class="plotly-figure"' in text else None
    return f"<script>{file.read_text('utf-8')}</script>" if file else ""


def widget(state: Mapping[str, Any], model: str) -> str:
    """The widget `model` (its id) of a notebook's widget `state` as HTML: what it showed at the end."""
    facts = state.get(model, {})
    kind, values = facts.get("model_name", ""), facts.get("state", {})
    if "children" in values:
        parts = [widget(state, child.removeprefix("IPY_MODEL_")) for child in values["children"]]
        return f'<div style="{BOXES.get(kind, "")}">{"".join(parts)}</div>'
    if kind.startswith("HTML"):
        return f"<div>{values.get('value', '')}</div>"
    if kind.endswith("ProgressModel"):
        most, value = values.get("max", 100), values.get("value", 0)
        return f'<progress max="{most}" value="{value}"></progress>'
    if kind == "OutputModel":
        return "".join(_text_of(output) for output in values.get("outputs", []))
    words = [values.get("description"), values.get("value")]
    told = " ".join(str(word) for word in words if word not in (None, ""))
    return f"<div>{html.escape(told)}</div>"


def _text_of(output: Mapping[str, Any]) -> str:
    data = output.get("data", {})
    if text := data.get("text/html"):
        return "".join(text)
    if picture := data.get("image/png"):
        return f'<img src="data:image/png;base64,{picture}">'
    return f"<pre>{html.escape(''.join(output.get('text') or data.get('text/plain', '')))}</pre>"


def page(notebook: NotebookNode) -> str:
    """One page of the interactive figures of `notebook` that are no pictures; an empty text where it has none."""
    parts = []
    for number, cell in enumerate(notebook.cells, 1):
        for count, output in enumerate(cell.get("outputs", []), 1):
            data = output.get("data", {})
            is_figure = PLOTLY in data or "text/html" in data and loaded_from(data)
            if any(kind in data for kind in PICTURES) or not is_figure:
                continue
            parts.append(f"<h2>cell {number}</h2>{_html(data, {}, f'figure-{number}-{count}')}")
    if not parts:
        return ""
    body = "".join(parts)
    head = f'<!doctype html><meta charset="utf-8"><title>Interactive figures</title>{scripts(body)}'
    return f'{head}<body style="font-family:sans-serif">{body}</body>'
