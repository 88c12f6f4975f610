"""What is kept of a notebook: no secret, however it is shown, and each figure."""

import base64
import html
import json
import re
from urllib.parse import urlencode

import nbformat
import papermill  # pylint: disable=unused-import  # it loads the engine; the other way round is a circle
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from Codes.running import recording
from Codes.running.engine import Manager
from Codes.running.recording import HIDDEN

PNG, JPEG = (base64.b64encode(start).decode() for start in (b"\x89PNG", b"\xff\xd8\xff"))
SVG = "<svg>é</svg>"
SHOWN = {
    "itself": str,
    "repr": repr,
    "repr within both quotes": lambda text: repr(f'it\'s "{text}"'),
    "repr of repr": lambda text: repr([repr(text)]),
    "ascii": ascii,
    "JSON": json.dumps,
    "JSON in an attribute": lambda text: html.escape(json.dumps(text)),
    "pandas' HTML": lambda text: f"<td>{html.escape(text, quote=False)}</td>",
    "an address": lambda text: urlencode({"token": text}, errors="surrogateescape"),
}


def showing(*outputs):
    """A notebook with a cell of `outputs`."""
    return new_notebook(cells=[new_code_cell("token", outputs=list(outputs))])


@pytest.mark.parametrize("between", ["\\", "\n", "&", "<b>", "'", '"', "'\"", "é/", "\udce9", ""])
@pytest.mark.parametrize("shown", SHOWN)
def test_a_secret_is_hidden_however_it_is_shown(between, shown):
    secret = f"s3cret{between}s3cret"
    told = recording.hidden(f"begin {SHOWN[shown](secret)} end", [f"{secret}\n"])
    assert "s3cret" not in told and HIDDEN in told and told[:6] + told[-4:] == "begin  end"


def test_of_two_secrets_the_longer_is_hidden_whole():
    assert recording.hidden("abc-def abc", ["abc", "abc-def"]) == f"{HIDDEN} {HIDDEN}"


def test_a_short_secret_is_hidden_in_content_and_leaves_the_notebook_whole():
    secrets = ["out", "text", "png", "error", "iVBO"]
    picture = "iVBORw0KGgo="
    notebook = showing(
        new_output("stream", name="stdout", text="out"),
        new_output("display_data", data={"text/html": ["out"], "image/png": picture}),
        new_output("display_data", data={"application/json": {"out": [{"a": "out"}]}}),
        new_output("display_data", data={"image/svg+xml": "out"}, metadata={"x/y": {"a": "out"}}),
        new_output("error", ename="error", evalue="out", traceback=["out"]),
    )
    recording.hide(notebook, secrets)
    nbformat.validate(notebook)
    stream, display, structured, drawn, error = notebook.cells[0].outputs
    assert (stream.name, stream.text) == ("stdout", HIDDEN)
    assert display.data == {"text/html": [HIDDEN], "image/png": picture}
    assert structured.data == {"application/json": {HIDDEN: [{"a": HIDDEN}]}}
    assert drawn.data == {"image/svg+xml": HIDDEN} and drawn.metadata == {"x/y": {"a": HIDDEN}}
    assert (error.ename, error.evalue, error.traceback) == ("error", HIDDEN, [HIDDEN])


def test_a_page_tells_of_a_figure_to_who_cannot_see_it_and_is_not_cut_on_paper():
    picture = {"image/png": "iVBORw0KGgo="}
    told = {"image/png": {"alt": 'a "rise" of 3 < 4 %'}}
    shown = [
        new_output("display_data", data=picture, metadata=told),
        new_output("display_data", data=picture),
    ]
    page = recording.as_page(showing(*shown))
    pictures = re.findall("<img [^>]*", page)
    assert 'alt="a &quot;rise&quot; of 3 &lt; 4 %"' in pictures[0] and "alt=" not in pictures[1]
    assert all('src="data:image/png;base64,iVBORw0KGgo="' in each for each in pictures)
    assert "break-inside: avoid" in page


def test_a_secret_in_a_widget_is_hidden():
    stream = {"output_type": "stream", "name": "stdout", "text": "out"}
    widgets = {
        "a": {"state": {"_model_name": "Textout", "value": "out"}},
        "b": {"state": {"_model_name": "Output", "outputs": [stream]}},
    }
    notebook = new_notebook(metadata={"widgets": {recording.WIDGETS: {"state": widgets}}})
    recording.hide(notebook, ["out"])
    found = notebook.metadata.widgets[recording.WIDGETS].state
    assert found.a.state == {"_model_name": "Textout", "value": HIDDEN}
    assert found.b.state.outputs == [stream | {"text": HIDDEN}]


def test_a_notebook_without_secrets_is_not_even_copied():
    notebook = showing()
    assert recording.masked(notebook, []) is notebook


def test_what_is_saved_meanwhile_hides_secrets_and_the_notebook_goes_on_unchanged(tmp_path):
    notebook = showing(new_output("stream", text="a secret"))
    manager = Manager(notebook, str(tmp_path / "out.ipynb"), False, False, 1e-9)
    manager.secrets = ["secret"]
    manager.autosave_cell()
    saved = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert saved.cells[0].outputs[0].text == f"a {HIDDEN}"
    assert notebook.cells[0].outputs[0].text == "a secret"


def test_each_figure_is_kept_once_in_its_best_form():
    shown = [
        {"image/png": PNG, "image/svg+xml": SVG},
        {"image/svg+xml": SVG, "text/plain": "a figure"},
        {"text/plain": "no figure"},
        {"image/png": "abcde", "image/jpeg": JPEG},
        {"image/png": "", "image/svg+xml": 7},
    ]
    notebook = showing()
    notebook.cells[0].outputs = [{"output_type": "display_data", "data": data} for data in shown]
    assert list(recording.figures(notebook)) == [
        ("cell_01.png", b"\x89PNG"),
        ("cell_01_2.svg", SVG.encode()),
        ("cell_01_3.jpg", b"\xff\xd8\xff"),
    ]


def test_figures_are_named_by_the_heading_above_each_by_one_of_its_own():
    notebook = nbformat.v4.new_notebook()
    picture = {"output_type": "display_data", "data": {"image/png": PNG}, "metadata": {}}
    for text in (
        "# Title\n## Does it rank? (ROC/PR)",
        "no heading",
        "## does it rank roc pr",
        "## Part 2",
    ):
        notebook.cells.append(nbformat.v4.new_markdown_cell(text))
        notebook.cells.append(nbformat.v4.new_code_cell(outputs=[picture]))
    assert [name for name, _ in recording.figures(notebook)] == [
        "Does_it_rank_ROC_PR.png",
        "Does_it_rank_ROC_PR_2.png",
        "does_it_rank_roc_pr_3.png",
        "Part2.png",
    ]


def test_pages_are_made_by_the_templates_that_the_environment_names(monkeypatch, tmp_path):
    folder = tmp_path / "nbconvert/templates/lab"
    folder.mkdir(parents=True)
    before = recording.as_page(nbformat.v4.new_notebook())
    (folder / "conf.json").write_text('{"base_template": "base"}')
    (folder / "index.html.j2").write_text("<p>of one's own</p>")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert recording.as_page(nbformat.v4.new_notebook()) == "<p>of one's own</p>" != before


def test_the_page_tells_what_it_shows_and_asks_the_network_for_nothing():
    picture = {"data": {"image/png": PNG}}
    cells = [new_markdown_cell(f"{'#' * (n > 0)}# Part {n}\n[next](next.ipynb)") for n in range(4)]
    cells += [new_code_cell("figure", outputs=[new_output("display_data", **picture)])]
    told = {"image/png": {"alt": 'a "rising" line'}}
    other = {"data": {"image/png": JPEG}, "metadata": told}
    cells += [new_code_cell("own", outputs=[new_output("display_data", **other)])]
    notebook = new_notebook(cells=cells, metadata={"papermill": {"parameters": {"seed": 3}}})
    page = recording.as_page(notebook)
    assert "<title>Part 0 · seed=3</title>" in page
    assert not re.findall(r"https?://[^\"' ]*\.m?js", page), "a script from the network"
    assert re.findall(r'<li><a href="#([^"]*)">', page) == ["Part-1", "Part-2", "Part-3"]
    assert all(f'id="Part-{n}"' in page for n in range(4))
    alternatives = [html.unescape(each) for each in re.findall(r'alt="([^"]*)"', page)]
    assert alternatives == ["Figure: Part 3", 'a "rising" line']
    assert "next.ipynb" not in re.findall(r'href="([^"]*)"', page), "a link that leads nowhere"
    notebook.cells[0].source += "\n\n$x^2$"
    assert "cdnjs.cloudflare.com/ajax/libs/mathjax" in recording.as_page(notebook)
