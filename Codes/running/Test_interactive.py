"""Interactive figures and widgets are on the page and among the figures, and need neither kernel nor network."""

import re
import warnings

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_html_repr

from Codes.running import interactive, recording
from Codes.running.interactive import PLOTLY, WIDGET, WIDGETS

pytest.importorskip("plotly")
END = "</script><script>alert(1)</script>"
FIGURE = {"data": [{"type": "bar", "y": [1, 2]}], "layout": {"title": {"text": END}}}
BAR = {
    "bar": ("HBoxModel", {"children": ["IPY_MODEL_a", "IPY_MODEL_b", "IPY_MODEL_c"]}),
    "a": ("HTMLModel", {"value": "fit: 100%"}),
    "b": ("FloatProgressModel", {"max": 3.0, "value": 3.0}),
    "c": ("HTMLModel", {"value": " 3/3"}),
}
STATE = {name: {"model_name": kind, "state": state} for name, (kind, state) in BAR.items()}
ALTAIR = '<div id="v"></div><script>load("https://cdn.jsdelivr.net/npm/vega@6?noext")</script>'
FOLIUM = (
    '<iframe srcdoc="&lt;script src=&quot;https://cdn.example.org/leaflet.js&quot;&gt;"></iframe>'
)


def showing(*shown, **metadata):
    """A notebook whose cells show each of `shown` (an output's data)."""
    outputs = [[new_output("display_data", data=data)] for data in shown]
    cells = [new_code_cell("show()", outputs=each) for each in outputs]
    return new_notebook(cells=cells, metadata=metadata)


def staged(notebook, folder):
    """(the page, {name: text} of the HTML among the figures) that a run of `notebook` keeps; no warning is told."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        recording.stage(notebook, "", folder)
    figures = (folder / recording.FIGURES).glob("*.html")
    return (folder / recording.PAGE).read_text("utf-8"), {
        f.name: f.read_text("utf-8") for f in figures
    }


def loaded(page):
    """The addresses from which `page` loads scripts, but for that of formulas."""
    found = re.findall(r"<script[^>]* src=.([^\"']*)", page)
    return [address for address in found if "mathjax" not in address]


def test_plotly_figures_are_live_on_the_page_and_among_the_figures_with_one_library_within(
    tmp_path,
):
    page, figures = staged(showing({PLOTLY: FIGURE}, {PLOTLY: FIGURE}), tmp_path)
    for text in (page, figures["interactive.html"]):
        assert text.count('Plotly.newPlot("') == 2 and text.count("* plotly.js v") == 1
        assert END not in text and not loaded(text)
    assert list(figures) == ["interactive.html"]


def test_a_figure_that_has_a_picture_is_kept_as_that(tmp_path):
    page, figures = staged(showing({PLOTLY: FIGURE, "image/png": "iVBORw0KGgo="}), tmp_path)
    assert not figures and len(list((tmp_path / recording.FIGURES).iterdir())) == 1
    assert "Plotly.newPlot" in page


def test_without_plotly_in_the_runner_a_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(interactive, "plotly_js", lambda: None)
    page, _ = staged(showing({PLOTLY: FIGURE}), tmp_path)
    assert "a plotly figure, in notebook.ipynb" in page and "newPlot" not in page


def test_a_bar_of_widgets_shows_its_end(tmp_path):
    shown = {WIDGET: {"model_id": "bar"}, "text/plain": "0%"}
    notebook = showing(shown, widgets={WIDGETS: {"state": STATE}})
    page, figures = staged(notebook, tmp_path)
    assert "fit: 100%" in page and '<progress max="3.0" value="3.0">' in page and " 3/3" in page
    assert not loaded(page) and "html-manager" not in page and not figures
    assert notebook.metadata.widgets and notebook.cells[0].outputs[0].data == shown, "it is a copy"


@pytest.mark.parametrize(
    "text, server", [(ALTAIR, "cdn.jsdelivr.net"), (FOLIUM, "cdn.example.org")]
)
def test_what_asks_the_network_for_scripts_says_so(tmp_path, text, server):
    page, figures = staged(showing({"text/html": text}), tmp_path)
    for each in (page, figures["interactive.html"]):
        assert f"drawn by scripts from the network: {server}" in each and text in each


def test_a_library_that_javascript_loads_is_told_and_what_uses_it_is_left_alone(tmp_path):
    load = (
        'var s = document.createElement("script"); s.src = "https://cdn.bokeh.org/bokeh-3.9.min.js"'
    )
    kinds = (
        {"application/vnd.bokehjs_load.v0+json": load},
        {"application/vnd.bokehjs_exec.v0+json": ""},
    )
    loading, drawing = (
        {interactive.JAVASCRIPT: load} | kinds[0],
        {interactive.JAVASCRIPT: "draw()"} | kinds[1],
    )
    page, figures = staged(showing(loading, drawing), tmp_path)
    assert page.count("drawn by scripts from the network: cdn.bokeh.org") == 1
    assert load in page and "draw()" in page and not figures


def test_an_address_in_a_scripts_comment_asks_nothing_of_the_network(tmp_path):
    shown = estimator_html_repr(make_pipeline(PCA()))
    assert ".js" in shown and "http" in shown
    page, _ = staged(showing({"text/html": shown}), tmp_path)
    assert "drawn by scripts" not in page


def test_what_no_page_can_show_is_named(tmp_path):
    page, _ = staged(
        showing(
            {"application/geo+json": {}},
            {WIDGET: {"model_id": "gone"}},
            {"application/vnd.vegalite.v6+json": {}, "text/plain": "alt.Chart(<...>)"},
        ),
        tmp_path,
    )
    assert "not shown here, but in notebook.ipynb: application/geo+json" in page
    assert "vegalite.v6+json)" in page and "alt.Chart(&lt;...&gt;)" in page


def test_another_notebook_is_shown_as_it_is(tmp_path):
    table = {
        "text/html": '<table></table><a href="https://example.org/a.html">see</a>',
        "text/plain": "x",
    }
    notebook = showing(table, {"image/png": "iVBORw0KGgo="})
    assert interactive.offline(notebook) is notebook
    page, figures = staged(notebook, tmp_path)
    assert not loaded(page) and not figures and "plotly" not in page


def test_a_run_keeps_the_figures_of_plotly_and_tells_no_warning(store):
    cells = ["import plotly.express as px", "px.line(x=[1, 2], y=[1, 2]).show()", "px.bar(y=[1])"]
    ended = store.start("plotly_figures", *cells).finish()
    assert ended.code == 0 and "Warning" not in ended.printed, ended.printed
    assert ended.artifact("figures/interactive.html").count('Plotly.newPlot("') == 2
    assert ended.artifact("notebook.html").count('Plotly.newPlot("') == 2
