// The copy that `workbook open` makes of a failed run opens at the cell that failed, which its metadata name.
// (JupyterLab has `#cell-id=…` in addresses, but heeds it only where the notebook is open already.)
// In the form of JupyterLab's prebuilt extensions; as it imports nothing, there is nothing to build.
(() => {
  const seen = new WeakSet();

  async function show(panel) {
    const notebook = panel?.content;
    if (!notebook?.scrollToCell || seen.has(panel)) return;
    seen.add(panel);
    await panel.revealed;
    const failed = panel.context.model.getMetadata("workbook")?.failed;
    const at = notebook.widgets.findIndex(cell => cell.model.id === failed);
    if (at < 0) return;
    notebook.activeCellIndex = at;
    await notebook.scrollToCell(notebook.widgets[at], "start");
  }

  function activate({ shell }) {
    shell.currentChanged.connect(() => show(shell.currentWidget));
    show(shell.currentWidget);
  }

  const plugin = { id: "workbook-failed-cell:plugin", autoStart: true, activate };
  (window._JUPYTERLAB ??= {})["workbook-failed-cell"] = {
    init: () => {},
    get: async () => () => ({ __esModule: true, default: plugin }),
  };
})();
