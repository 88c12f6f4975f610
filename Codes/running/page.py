"""What makes of a notebook's page one that MLflow's UI can show: title, contents, links and pictures that tell.

The UI shows it in a frame without network rights of its own: a link to a file beside the notebook leads nowhere there.
"""

import html
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from nbformat import NotebookNode

HEADING = re.compile(r'<h([12]) id="([^"]+)">(.*?)<a class="anchor-link"', re.DOTALL)
MARKUP = re.compile(r"<[^>]+>")
# from the network: what sets formulas, and what draws diagrams
MATHJAX = re.compile(r"<!-- Load mathjax -->.*?<!-- End of mathjax configuration -->", re.DOTALL)
MERMAID = re.compile(r'<script type="module">(?:(?!</script>).)*?mermaid.*?</script>', re.DOTALL)
FORMULA = re.compile(r"\$[^$]+\$|\\\(|\\\[|\\begin\{")
LINK = re.compile(r'<a href="([^"#][^"]*)"([^>]*)>(.*?)</a>', re.DOTALL)
STYLE = """<style>
.contents {font: 14px/1.6 var(--jp-content-font-family, sans-serif); margin: 1em 1em 0 4em}
.contents ol {margin: .3em 0; padding-left: 1.5em; columns: 2 18em}
.contents a {color: #1a5fb4; text-decoration: none} .contents a:hover {text-decoration: underline}
@media print {.contents {display: none}}
</style>"""


def finished(page: str, notebook: NotebookNode) -> str:
    """The `page` that nbconvert made of `notebook`, as it is kept."""
    page = _without_idle_scripts(page, notebook)
    page = LINK.sub(_link, page)
    for picture, text in descriptions(notebook):
        page = page.replace(f'{picture}"', f'{picture}" alt="{html.escape(text)}"', 1)
    return page.replace("</head>", f"{STYLE}</head>", 1).replace(
        "<main>", f"<main>{contents(page)}", 1
    )


def title(notebook: NotebookNode) -> str:
    """What the page is called: the notebook's first heading, and what it was given."""
    texts = (c.source for c in notebook.cells if c.cell_type == "markdown")
    heading = next(
        (m[1] for text in texts if (m := re.search(r"^# +(.+)", text, re.M))), "Notebook"
    )
    given = notebook.metadata.get("papermill", {}).get("parameters", {})
    values = " ".join(f"{name}={value}" for name, value in given.items())
    return f"{heading.strip()} · {values}"[:120] if values else heading.strip()


def _without_idle_scripts(page: str, notebook: NotebookNode) -> str:
    """`page` without the scripts from the network that have nothing to do in it."""
    texts = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    shown = [o.get("data", {}) for c in notebook.cells for o in c.get("outputs", ())]
    texts += ["".join(data.get("text/markdown", "")) for data in shown]
    has_formulas = any("text/latex" in data for data in shown) or any(map(FORMULA.search, texts))
    has_diagrams = any("text/vnd.mermaid" in d for d in shown) or any(
        "```mermaid" in t for t in texts
    )
    page = page if has_formulas else MATHJAX.sub("", page, 1)
    return page if has_diagrams else MERMAID.sub("", page, 1)


def _link(match: re.Match[str]) -> str:
    """A link that works in the UI's frame; of one to a file beside the notebook the text alone."""
    address, more, text = match.groups()
    if urlsplit(html.unescape(address)).scheme in ("http", "https", "mailto", "data"):
        return match[0]
    return f'<span title="{address}"{more if "class=" in more else ""}>{text}</span>'


def descriptions(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """(a picture as the page holds it, its text) where the template gives it none: the heading above it, if need be."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found = re.findall(r"^#{1,6} +(.*\S)", cell.source, re.MULTILINE)
            heading = found[-1] if found else heading
        for output in cell.get("outputs", ()):
            told = output.get("metadata", {})
            for kind in ("image/png", "image/jpeg"):
                picture, own = output.get("data", {}).get(kind), told.get(kind, {}).get("alt")
                if isinstance(picture, str) and not (own and kind == "image/png"):
                    yield picture, own or f"Figure: {heading or 'without a heading'}"


def contents(page: str) -> str:
    """The headings of `page` as a list of links; nothing where there are few."""
    found = [
        (int(n), place, MARKUP.sub("", text).strip()) for n, place, text in HEADING.findall(page)
    ]
    items = [f'<li><a href="#{place}">{text}</a></li>' for n, place, text in found if n == 2]
    if len(items) < 3:
        return ""
    return f'<nav class="contents" aria-label="Contents"><ol>{"".join(items)}</ol></nav>'
