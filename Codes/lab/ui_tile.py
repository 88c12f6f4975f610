"""The MLflow UI within JupyterLab: a tile of its launcher, whose server starts when it is first asked for.

jupyter-server-proxy finds it by an entry point. It stands behind the server's own prefix, such as a hub's.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

from Codes.ground.paths import RESOURCES

if TYPE_CHECKING:
    from jupyter_server_proxy.handlers import RewritableResponse

START = 120  # seconds that the UI may take to answer on a busy machine
ICON = RESOURCES / "jupyter" / "share" / "jupyter" / "mlflow_tile.svg"
# the bare address leads to the view of the runs scored last, as `workbook ui` does; one with a place leads there
LANDING = b"""<script>
// MLflow's assistant has been opened once: else it takes a quarter of the first page
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
if (!location.hash || location.hash === '#/') {
  location.hash = '#/experiments?workflowType=machine_learning';
  fetch('ajax-api/2.0/mlflow/experiments/search?max_results=1000').then(r => r.json()).then(found => {
    const views = (found.experiments || []).flatMap(e => (e.tags || [])
      .filter(t => t.key.startsWith('mlflow.sharedViewState.workbook-'))
      .map(t => ({at: JSON.parse(t.value).updatedAt || 0, id: e.experiment_id, key: t.key.slice(23)})));
    const isPast = view => view.key.includes(':');  // of a problem of an earlier day, as a replay leaves it
    const last = views.sort((a, b) => isPast(a) - isPast(b) || b.at - a.at)[0];
    if (last) location.hash = '#/experiments/' + last.id +
      '/runs?workflowType=machine_learning&viewStateShareKey=' + encodeURIComponent(last.key);
  }).catch(() => {});
}
</script>"""


def tile() -> dict[str, Any]:
    """What jupyter-server-proxy is to know; of a store that is a server there is no tile: its own address shows it."""
    is_here = not os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http")
    command = [sys.executable, "-m", "Codes.commands.cli", "ui", "--port", "{port}", "--no-open"]
    return {
        "command": [*command, "--while", str(os.getpid())],
        "timeout": START,
        "new_browser_tab": True,
        "launcher_entry": {"title": "MLflow UI", "icon_path": str(ICON), "enabled": is_here},
        # MLflow takes requests for its own host alone; who may ask, JupyterLab has decided
        "request_headers_override": {
            "Host": "127.0.0.1:{port}",
            "Origin": "http://127.0.0.1:{port}",
        },
        "rewrite_response": land,
    }


def land(response: "RewritableResponse", path: str) -> None:
    """Let the UI's page lead to the runs where its address names no place in it."""
    if path in ("", "/") and response.code == 200 and b"<head>" in response.body:
        response.body = response.body.replace(b"<head>", b"<head>" + LANDING, 1)
