"""What the preloaded modules hold is in a warm kernel what it is in an ordinary one, value for value."""

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
import pytest

from Codes.warm import module_state
from Codes.warm.Test_warm_same import COLD, Kernel, WARM

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="warm kernels need Linux")
EXPECTED = {  # what may differ (a pattern of /module/name/…): why
    r"/(__main__|__mp_main__|linecache|threading|_?pydevd.*|_pydev.*)/": "the process's own cells and threads",
    r"/(sys/displayhook|.*/_current_tasks|zmq\..*garbage.*|zmq\..*/_gc)/": "the cell and the threads of this moment",
    r"/sys/(modules|path_importer_cache|last_)": "where this process has looked for modules",
    r".*/__warningregistry__/": "which warnings came meanwhile",
    r".*/__path__/": "where a package without a file was looked for last",
    r"/.*(Codes[./]|'Codes)": "the workbook's own modules, which a kernel loads anew",
    r"/psutil/_last_": "how busy the machine was at the import, where cpu_percent() begins to count",
    r"/IPython\.utils\.terminal/": "TERM, by which the title of a terminal is set: a kernel has none",
    r"/debugpy\.": "the debugger's own log, which comes with the kernel",
    r"/logging/_handlerList": "who configures logging forgets the handlers before, in the order of the imports",
    r"/(filelock\._api|IPython\.lib\.pretty/_singleton_pprinters|.*/_afterfork_registry)": "keys that are addresses",
    r"/tempfile/_name_sequence": "begun by the first temporary file; a fork begins its own",
    r"/mlflow\.telemetry\.utils/_IS_IN_CI_ENV_OR_TESTING": "whether pytest began the template: nothing is sent",
    r"/mlflow\.store\.db\.utils/_get_latest_schema_revision": "kept by mlflow_seam.remember_the_schema",
    r"/(mlflow\.store\.|sqlalchemy|alembic)": "caches that the rehearsal of a store has filled",
    r"/matplotlib\.backend_bases/_default_backends": "found by the first figure",
    r"/numpy\.f2py\.rules/": "the second of its import",
    r"/scipy\.sparse\._data/(name|npfunc)": "the last of a set of functions, in the order of their addresses",
    r"/PIL\.Image/_initialized": "its formats are loaded",
    r"/(re/_cache|encodings/_cache|_strptime|cython_runtime|threadpoolctl/_CDLL_CACHE)": "filled by the first use",
}


def described(kernel, names):
    """What the modules `names` hold in `kernel` once all are loaded there."""
    path = kernel.folder / "state.json"
    code = f"module_state.load({names!r}); module_state.write({str(path)!r})"
    reply = kernel.run(f"from Codes.warm import module_state; {code}")
    assert reply["status"] == "ok", reply
    return json.loads(path.read_text("utf-8"))


@pytest.fixture(name="states", scope="module")
def fixture_states(tmp_path_factory):
    """What all preloaded modules hold in two ordinary kernels and in a warm one."""
    folder = tmp_path_factory.mktemp("state")
    # else what a set hands out last would differ by chance
    seed = {"PYTHONHASHSEED": "0"}
    warm, *cold = kernels = [Kernel(name, folder, **seed) for name in (WARM, COLD, COLD)]
    try:
        # in the order in which the template has loaded them
        names = warm.value(
            "import sys\n[n for n in sys.modules if not n.startswith(('__', 'Codes'))]"
        )
        with ThreadPoolExecutor(2) as pool:
            colds = list(pool.map(lambda kernel: described(kernel, names), cold))
        return *colds, described(warm, names)
    finally:
        for kernel in kernels:
            kernel.end()


@pytest.mark.soak
def test_whatever_a_preloaded_module_holds_is_what_it_holds_in_an_ordinary_kernel(states):
    cold, again, warm = states
    by_chance = {path for path, _, _ in module_state.differences(cold, again)}
    found = [
        f"{path}: {usual} → {here}"[:400]
        for path, usual, here in module_state.differences(cold, warm)
        if path not in by_chance and not any(re.match(each, path) for each in EXPECTED)
    ]
    assert not found, "\n".join(found)


@pytest.mark.soak
def test_what_is_compared_is_what_libraries_decide_as_they_are_imported(states):
    for state in states:
        options = str(state["pandas._config.config"]["_global_config"])
        assert "'max_columns'\": '20'" in options
        assert state["tqdm.auto"]["notebook_tqdm"] == "tqdm.notebook.tqdm_notebook"
        assert (
            state["click.termui"]["visible_prompt_func"] == "ipykernel.kernelbase.Kernel.raw_input"
        )
        assert len(state) > 3000
