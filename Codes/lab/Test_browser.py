"""JupyterLab and the MLflow UI as a person sees them, in a real browser: pages, menus, links, figures."""

import json
import os
import shutil
import subprocess
import sys

import nbformat
import psutil
import pytest
from mlflow import MlflowClient
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from Codes.bench import bench_lab
from Codes.comparison import saved_view
from Codes.ground import paths
from Codes.lab import opening, repeating
from Codes.model_registry import registry
from Codes.serving import client as server_client
from Codes.stores.store import open_store
from Codes.testing import browser
from Codes.testing.testbed import clean_environment, wait_for, write_notebook

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())
COMMAND = [sys.executable, "-m", "Codes.commands.cli"]
TABLE = ["-p", "problem", "breast_cancer"]
TRAINED = "tags.`mlflow.workbook.notebook` = '02_train'"
KEPT = "tags.`mlflow.workbook.manifest` LIKE '%'"  # not of a run by hand
PREFIX = "/hub/user/"  # as a hub gives each server one


def command(*words):
    """Run `workbook` with `words`; it must succeed."""
    done = subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(name="store", scope="module")
def fixture_store(tmp_path_factory):
    """A client of a store with scored runs, versions and a sweep: what the lifecycle has left, else a small one."""
    with pytest.MonkeyPatch.context() as patch:
        if "workbook-test-" not in os.environ.get("MLFLOW_TRACKING_URI", ""):
            folder = tmp_path_factory.mktemp("store")
            patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        client = MlflowClient(open_store())
        options = ["-v", "model=linear,dummy", "--workers", "2", "--no-progress"]
        command("sweep", "02_train", *TABLE, *options)
        if not list(client.search_registered_models()):
            command("register", "--problem", "breast_cancer")
            command("promote", "breast_cancer", "staging")
        yield client


@pytest.fixture(name="root", scope="module")
def fixture_root(tmp_path_factory):
    """The folder that JupyterLab shows, with copies of two notebooks that take the small table."""
    root = tmp_path_factory.mktemp("lab")
    (root / "notebooks").mkdir()
    shutil.copy(paths.NOTEBOOKS / "00_start_here.ipynb", root / "notebooks")
    nb = nbformat.read(paths.NOTEBOOKS / "02_train.ipynb", as_version=4)
    (cell,) = [c for c in nb.cells if "parameters" in c.metadata.get("tags", [])]
    cell.source = cell.source.replace('"flights"', '"breast_cancer"').replace('"hgb"', '"linear"')
    nbformat.write(nb, root / "notebooks" / "02_train.ipynb")
    return root


@pytest.fixture(name="lab", scope="module")
def fixture_lab(store, root):
    """The address of JupyterLab behind a prefix."""
    (run := root / "runtime").mkdir(mode=0o700)
    environment = clean_environment() | {
        "MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"],
        "JUPYTER_TOKEN": "t",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_RUNTIME_DIR": str(run),
        "JUPYTERLAB_WORKSPACES_DIR": str(root / "workspaces"),
    }
    port = server_client.free_port()
    options = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
    options += [f"--ServerApp.root_dir={root}", f"--ServerApp.base_url={PREFIX}"]
    options += ["--ServerApp.port_retries=0"]
    options += ["--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"]
    with open(root / "lab.log", "w", encoding="utf-8") as log:
        lab = subprocess.Popen(  # pylint: disable=consider-using-with
            [sys.executable, "-m", "jupyterlab", *options],
            cwd=root,
            env=environment,
            stdout=log,
            stderr=log,
        )
    below = []
    try:
        bench_lab.until_it_listens(lab, port, root / "lab.log")
        assert store
        yield f"http://127.0.0.1:{port}{PREFIX}"
        below = psutil.Process(lab.pid).children(recursive=True)
    finally:
        lab.terminate()
        lab.wait(browser.PATIENCE)
    assert len(below) >= 2, "no kernel and no UI were started"
    wait_for(lambda: all(map(has_ended, below)))  # the UI does not outlive JupyterLab


def has_ended(process):
    """Whether it has, collected or not."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(name="page", scope="module")
def fixture_page(tmp_path_factory):
    """A browser."""
    with browser.opened(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(name="ui")
def fixture_ui(lab, page):
    """Opens a place of the MLflow UI behind JupyterLab's tile."""

    def go(place=""):
        page.open("about:blank")  # another place of the same page is no new page to a browser
        page.open(f"{lab}mlflow/{place}")

    return go


def newest(store, where, experiment="*"):
    """The newest run in the store for which MLflow's filter `where` holds."""
    places = [e.experiment_id for e in store.search_experiments() if experiment in ("*", e.name)]
    return store.search_runs(places, where, max_results=1)[0]


def menu(page, *names):
    """Choose an entry of JupyterLab's menus."""
    page.click(".lm-MenuBar-itemLabel", f"^{names[0]}$")
    page.click(".lm-Menu-itemLabel", f"^{names[1]}$")


def test_lab_opens_on_the_start_and_a_notebook_run_by_its_menu_leads_to_its_run(lab, page, store):
    page.open(f"{lab}?token=t")
    page.find(".jp-NotebookPanel .jp-Cell")
    page.says("Python 3 .* Idle", "#jp-main-statusbar")
    assert "00_start_here" in page.chrome.title or "00_start_here" in page.chrome.current_url
    page.picture("lab_opens")
    page.double_click(".jp-DirListing-item", "02_train")
    page.find(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell", "02 Train")
    page.says("Python 3 .* Idle", "#jp-main-statusbar")
    menu(page, "Run", "Run All Cells")
    page.find(".jp-RenderedImage img")
    page.picture("lab_figure")
    link = page.find('a[href*="/mlflow/#/experiments/"]')  # its text is drawn once it is in sight
    made = newest(store, TRAINED, "breast_cancer")
    assert f"/{made.info.run_id}?" in link.get_attribute("href")
    wait_for(lambda: store.get_run(made.info.run_id).info.status == "FINISHED")
    first = page.chrome.current_window_handle
    page.chrome.execute_script("arguments[0].scrollIntoView()", link)
    link.click()
    page.wait("a second tab", lambda: len(page.chrome.window_handles) == 2)
    (second,) = {*page.chrome.window_handles} - {first}
    page.chrome.switch_to.window(second)
    page.says("02_train.*Parameters|Parameters.*breast_cancer")
    page.picture("run_by_link")
    page.chrome.close()
    page.chrome.switch_to.window(first)
    new_cell(page, f"%workbook model {made.info.run_id[:8]}")
    shown = page.find(
        ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-OutputArea", "(?s)has no manifest.*Pipeline"
    )
    page.chrome.execute_script("arguments[0].scrollIntoView()", shown)
    page.picture("model_by_hand")


def new_cell(page, source):
    """Write `source` into a new cell below the one that is chosen, and run it."""
    page.click(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell.jp-mod-active")
    keys = ActionChains(page.chrome).send_keys(Keys.ESCAPE, "b", Keys.ENTER, source)
    keys.key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()


def test_a_failed_run_is_opened_at_the_cell_that_failed(lab, root, page, store, monkeypatch):
    shown = [f"for n in range(30):\n    print({part}, n)" for part in range(20)]
    path = write_notebook(root / "notebooks" / "fails.ipynb", *shown, "1 / 0", *shown)
    words = ["run", path, "--no-progress", "-o", "failed.ipynb"]
    assert subprocess.run([*COMMAND, *words], check=False, cwd=root, env=os.environ).returncode
    monkeypatch.setattr(paths, "EXECUTED", root / "executed")
    made = newest(store, "tags.`mlflow.workbook.notebook` = 'fails'")
    copy = opening.copy(repeating.find(made.info.run_id), {})
    page.open(f"{lab}lab/tree/executed/{copy.place.name}?token=t")
    active = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell.jp-mod-active"
    cell = page.find(active, "(?s)1 / 0.*ZeroDivisionError")
    height = page.chrome.execute_script("return window.innerHeight")
    page.wait("the cell in sight", lambda: 0 <= cell.rect["y"] < height)
    page.picture("failed_cell")


def test_the_launchers_tile_shows_the_scored_runs_the_best_first(lab, page, store):
    menu(page, "File", "New Launcher")
    first = page.chrome.current_window_handle
    page.click(".jp-LauncherCard", "MLflow UI")
    page.wait("the tile's tab", lambda: len(page.chrome.window_handles) == 2)
    page.chrome.close()
    (second,) = {*page.chrome.window_handles} - {first}
    page.chrome.switch_to.window(second)
    assert page.chrome.current_url.startswith(f"{lab}mlflow/")
    page.says("scored runs, the best first|validation_")
    place = saved_view.newest(store).split("?")[0]
    page.wait("the view", lambda: place in page.chrome.current_url)
    page.find('[role="row"] a, a', "02_train|trial")
    assert not page.all('[data-component-id="mlflow.assistant.chat_panel.close"]')
    page.picture("best_first")


def test_a_runs_page_and_figures_are_seen_in_the_ui(ui, page, store):
    run = newest(store, f"{TRAINED} and {KEPT} and attributes.status = 'FINISHED'")
    place = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts"
    ui(f"{place}/notebook.html")
    frame = page.find("iframe.mlflow-html-iframe")
    page.chrome.switch_to.frame(frame)
    page.find("nav.contents a", "Does it rank")
    told = [img.get_attribute("alt") for img in page.all("img")]
    assert all(told) and any(" over " in text for text in told), told
    page.chrome.switch_to.default_content()
    page.picture("notebook_page")
    ui(f"{place}/figures/Does_it_rank.png")
    page.find("img[src^=blob], img[src*=figures], .mlflow-artifact-image-view img, canvas")
    page.picture("figure")


def test_two_runs_are_compared_and_a_sweep_shows_its_course(ui, page, store):
    sweep = newest(store, "attributes.run_name LIKE '02_train sweep%'")
    trials = store.search_runs(
        [sweep.info.experiment_id], f"tags.`mlflow.parentRunId` = '{sweep.info.run_id}'"
    )
    ids = json.dumps([run.info.run_id for run in trials[:2]])
    ui(f"#/compare-runs?runs={ids}&experiments={json.dumps([sweep.info.experiment_id])}")
    page.says("Comparing 2 Runs")
    page.picture("compared")
    ui(f"#/experiments/{sweep.info.experiment_id}/runs/{sweep.info.run_id}/model-metrics")
    page.says("best_validation")
    page.find(".js-plotly-plot, canvas, svg.main-svg")
    page.picture("sweep")


def test_a_monitoring_shows_its_course(ui, page, store):
    watched = [e for e in store.search_experiments() if e.name.endswith("-monitoring")]
    runs = store.search_runs([e.experiment_id for e in watched]) if watched else []
    courses = [r for r in runs if any(name.startswith("course/") for name in r.data.metrics)]
    if not courses:
        pytest.skip("this store has no monitoring; that of the lifecycle has")
    info = courses[0].info
    ui(f"#/experiments/{info.experiment_id}/runs/{info.run_id}/model-metrics")
    page.says("course")
    page.find(".js-plotly-plot, canvas, svg.main-svg")
    page.picture("monitoring")


def test_a_versions_card_and_aliases_are_seen(ui, page):
    name = registry.names()[0]
    ui(f"#/models/{name}/versions/1")
    page.says("At the gate")
    page.says("staging|production")
    page.picture("version")
