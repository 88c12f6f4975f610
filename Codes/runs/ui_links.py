"""Where a run is seen: its address in MLflow's UI, as a link in the notebook that a person runs by hand."""

import html
import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mlflow
import psutil
from mlflow.entities import Run

TRAINING = "?workflowType=machine_learning"  # else the UI shows what is for language models
TILE = "mlflow"  # the UI's path in JupyterLab, behind the server's own prefix
# the page may be seen under another host than the server knows, such as a hub's
ORIGIN = (
    "<script>(a => {if (location.protocol.startsWith('http')) a.href = a.href.replace(/^\\w+:..[^/]+/, "
    "location.origin)})(document.currentScript.previousElementSibling)</script>"
)


def place(run: Run, artifact: str = "") -> str:
    """Where `run`, or its `artifact`, is, behind the UI's own address."""
    file = f"/artifacts/{artifact}" if artifact else ""
    return f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}{file}{TRAINING}"


def link(run: Run, text: str, artifact: str = "") -> str:
    """A link to `run`, or to its `artifact`, in a description that the UI shows."""
    return f"[{text}]({place(run, artifact)})"


def version(name: str, number: int | None = None) -> str:
    """Where the version `number` of the model `name` is, or the model itself, behind the UI's own address."""
    return f"#/models/{quote(name)}{f'/versions/{number}' if number else ''}{TRAINING}"


def ui() -> str:
    """The address of the UI that a person sees from here: the store's own server, or JupyterLab's tile; else ''."""
    store = mlflow.get_tracking_uri()
    if store.startswith("http"):
        return f"{store.rstrip('/')}/"
    server = _server()
    return f"{server['url'].rstrip('/')}/{TILE}/" if server else ""


def _server() -> dict[str, Any]:
    """What the Jupyter server of this environment that started this kernel has written down of itself; {} without."""
    from jupyter_core.paths import jupyter_runtime_dir

    pid = os.environ.get("JPY_PARENT_PID", "")
    try:
        told = json.loads(Path(jupyter_runtime_dir(), f"jpserver-{pid}.json").read_text("utf-8"))
        python = Path(psutil.Process(int(pid)).cmdline()[0])
    except (OSError, ValueError, psutil.Error, IndexError):
        return {}
    return told if python.parent == Path(sys.executable).parent else {}  # another has no tile


def show(run: Run) -> None:
    """Show a link to `run` below the cell, in a notebook that a person has open."""
    from IPython.display import display

    name, base = run.info.run_name, ui()
    if not base:
        text = f"run {name} ({run.info.run_id}): `make ui` shows it"
        display({"text/plain": text, "text/html": f"<small>{html.escape(text)}</small>"}, raw=True)
        return
    url = f"{base}{place(run)}"
    anchor = (
        f'<a href="{html.escape(url)}" target="_blank" rel="noopener">its run in the MLflow UI</a>'
    )
    origin = "" if base.startswith(mlflow.get_tracking_uri()) else ORIGIN
    shown = f"<small>{html.escape(name)}: {anchor}{origin}</small>"
    display({"text/plain": f"run {name}: {url}", "text/html": shown}, raw=True)
