"""A warm kernel is a fresh process, and the same code gives the same in it as in an ordinary kernel.

What is known to differ is here too, as failures that are expected: each has its reason.
"""

import ast
import ctypes
import importlib.util
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from jupyter_client.manager import start_new_kernel

from Codes.warm import templates
from Codes.forks.channel import QUIET

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="warm kernels need Linux")
COLD, WARM = "python3", "workbook"
NO_NEW_PRIVILEGES = 38  # prctl's


class Kernel:
    """A kernel by its spec's name, with its own folder and files for its streams."""

    def __init__(self, name, folder, files=(), **environment):
        self.folder = Path(folder) / f"{name}-{len(os.listdir(folder))}"
        self.folder.mkdir()
        for file, text in {"matplotlibrc": "figure.dpi: 55\n", **dict(files)}.items():
            (self.folder / file).write_text(text, "utf-8")
        self.streams = [
            (self.folder / each).open("w+", encoding="utf-8") for each in ("out", "err")
        ]
        own = ("MLFLOW_", "_MLFLOW_", "WORKBOOK_", "PYTEST_")
        outer = {k: v for k, v in os.environ.items() if not k.startswith(own)}
        place = {"TMPDIR": str(self.folder), "TZ": "Asia/Tokyo"}
        self.variables = outer | QUIET | place | environment
        out, err = self.streams
        self.km, self.kc = start_new_kernel(
            kernel_name=name,
            cwd=str(self.folder),
            env=dict(self.variables),
            stdout=out,
            stderr=err,
            extra_arguments=["--IPKernelApp.log_level=40", "--HistoryManager.hist_file=:memory:"],
        )
        self.process = self.km.provisioner.process
        self.outputs = []
        # a kernel that silently starts in the ordinary way would prove nothing
        is_warm = name == WARM and "WORKBOOK_COLD" not in environment
        if (type(self.process).__name__ == "Fork") != is_warm:
            self.end()
            pytest.fail(f"{name} started as a {type(self.process).__name__}")

    def run(self, code):
        """Execute `code`; returns the reply's content and keeps the outputs."""
        self.outputs = []
        reply = self.kc.execute_interactive(
            code, timeout=120, allow_stdin=False, output_hook=self.outputs.append
        )
        return reply["content"]

    def value(self, code):
        """What the last line of `code` is, as a literal."""
        *lines, last = code.strip().splitlines()
        reply = self.run("\n".join([*lines, f"print('value:', repr({last}))"]))
        assert reply["status"] == "ok", reply
        return ast.literal_eval(self.printed("stdout").rpartition("value:")[2].strip())

    def printed(self, *names):
        """What the last code has printed, to the streams `names` or to any."""
        found = [o["content"] for o in self.outputs if o["msg_type"] == "stream"]
        return "".join(c["text"] for c in found if not names or c["name"] in names)

    def written(self, stream):
        """What is in the file of `stream`, "out" or "err"."""
        return (self.folder / stream).read_text("utf-8", "replace")

    def seen(self, text):
        """`text` without what is this kernel's alone: its folder, connection file and process id."""
        for own, what in (
            (self.km.connection_file, "CONNECTION"),
            (str(self.folder), "FOLDER"),
            (f"ipykernel_{self.process.pid}", "ipykernel_PID"),
        ):
            text = text.replace(own, what)
        return text

    def end(self, now=True):
        """Shut it down; `now`: without waiting for what it does at its end."""
        self.kc.stop_channels()
        self.km.shutdown_kernel(now=now)
        for stream in self.streams:
            stream.close()


def each_of(kernels, do):
    """[`do(kernel)` of each of `kernels`], side by side: much of it is waiting."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(do, kernels))


@pytest.fixture(name="start")
def fixture_start(tmp_path):
    """Starts an ordinary kernel and a warm one alike, and ends them after the test."""
    started = []

    def start(*names, **options):
        for name in names or (COLD, WARM):
            started.append(Kernel(name, tmp_path, **options))
        return started

    yield start
    for kernel in started:
        kernel.end()


@pytest.fixture(scope="module", name="pair")
def fixture_pair(tmp_path_factory):
    """(an ordinary kernel, a warm one), started alike, that have imported what a notebook would."""
    folder = tmp_path_factory.mktemp("same")
    cold, warm = Kernel(COLD, folder), Kernel(WARM, folder)
    imports = "import matplotlib.pyplot as plt, mlflow.sklearn, numpy as np, sklearn.ensemble"
    each_of((cold, warm), lambda kernel: kernel.run(imports))
    assert not cold.printed() and not warm.printed(), "imports are silent in both"
    yield cold, warm
    cold.end()
    warm.end()


def test_no_descriptor_and_no_thread_is_inherited(pair):
    look = """
import os, threading
files = {f: os.path.realpath(f'/proc/self/fd/{f}') for f in os.listdir('/proc/self/fd')}
(files, sorted(t.name for t in threading.enumerate()))"""
    (cold_files, cold_threads), (warm_files, warm_threads) = (each.value(look) for each in pair)
    cold_kinds = {path for path in cold_files.values() if "/proc" not in path}
    own = ("/dev/", "/proc", str(pair[1].folder))
    assert not [p for p in warm_files.values() if p not in cold_kinds and not p.startswith(own)]
    # the process that it must not outlive, and where it writes a crash
    assert len(warm_files) <= len(cold_files) + 2
    extra = [n for n in warm_threads if n not in cold_threads and "Thread-" not in n]
    assert extra in ([], ["workbook-client"]) and len(warm_threads) <= len(cold_threads) + 1


SAME = {
    "session and group": "import os\n(os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())",
    "environment": "{k: v for k, v in os.environ.items() if k not in ('TMPDIR', 'PWD', 'OLDPWD', '_')}",
    "folder": "os.getcwd() == os.environ['TMPDIR']",
    "arguments": "import sys\n(os.path.basename(sys.argv[0]), sys.argv[1], sys.argv[3:], sys.orig_argv[1:4])",
    "path and flags": "(sys.path, repr(sys.flags), sys.executable, sys.prefix, sys.warnoptions, sys._xoptions)",
    "umask and limits": "import resource\n(os.umask(os.umask(0o22)), [resource.getrlimit(i) for i in range(16)])",
    "processors": "sorted(os.sched_getaffinity(0))",
    "signals": "import signal\n[repr(signal.getsignal(n)).split(' at ')[0] for n in (1, 2, 10, 13, 15, 17)]",
    "standard input": "(os.read(0, 10), sys.stdin.read(), sys.stdin.isatty())",
    "streams": "[os.path.basename(os.path.realpath(f'/proc/self/fd/{s._original_stdstream_copy}')) "
    "for s in (sys.stdout, sys.stderr)]",
    "main": "import __main__\n(__name__, sorted(vars(__main__)), type(get_ipython()).__name__)",
    "magics": "ip = get_ipython()\n(sorted(ip.magics_manager.magics['line']), sorted(ip.extension_manager.loaded), "
    "{k: len(v) for k, v in ip.events.callbacks.items()})",
    "encoding and locale": "import locale\n(sys.stdout.encoding, sys.__stdout__.encoding, sys.__stderr__.errors, "
    "sys.getfilesystemencoding(), locale.setlocale(locale.LC_ALL))",
    "time zone": "import time\n(time.tzname, time.localtime(0).tm_hour)",
    "temporary folder": "import tempfile\ntempfile.gettempdir() == os.environ['TMPDIR']",
    "own logging": "import logging\n(logging.root.level, [type(h).__name__ for h in logging.root.handlers])",
    "hooks": "[repr(h).split(' at ')[0] for h in (sys.excepthook, sys.displayhook, sys.unraisablehook, "
    "sys.breakpointhook, sys.gettrace(), sys.getprofile())]",
    "no run": "mlflow.active_run() is None and not mlflow.tracking.is_tracking_uri_set()",
    "autologging": "from mlflow.utils import autologging_utils as au\nau.AUTOLOGGING_INTEGRATIONS",
    "matplotlib": "import matplotlib\n(matplotlib.get_backend(), matplotlib.rcParams['figure.dpi'], plt.get_fignums())",
    "all of matplotlib's settings": "{k: repr(v) for k, v in dict(matplotlib.rcParams).items()}",
    "other settings": "import sklearn\n(np.geterr(), np.get_printoptions(), sklearn.get_config(), plt.isinteractive())",
    "threads of libraries": "import threadpoolctl\nsorted((i['user_api'], i['num_threads'], i['internal_api']) "
    "for i in threadpoolctl.threadpool_info())",
    "processors that libraries see": "import pyarrow\n(joblib.cpu_count(), os.cpu_count(), pyarrow.cpu_count())",
    "algebra": "m = np.random.RandomState(0).rand(300, 300)\n((m @ m).tobytes(), np.linalg.svd(m)[1].tobytes())",
    "the start of processes, still to be chosen": "mp.get_start_method(allow_none=True)",
    "collector": "import gc\n(gc.isenabled(), gc.get_threshold(), gc.callbacks)",
    "recursion and switching": "(sys.getrecursionlimit(), sys.getswitchinterval())",
    "main thread": "import threading\n(threading.current_thread().name, threading.main_thread().name, "
    "threading.main_thread().ident == threading.get_ident(), threading.get_native_id() == os.getpid())",
    "loop": "import asyncio\n(type(asyncio.get_running_loop()).__name__, asyncio.get_running_loop().get_debug())",
    "boosting with OpenMP, in a thread": """
from concurrent.futures import ThreadPoolExecutor
from sklearn.ensemble import HistGradientBoostingRegressor
def boost():
    X = np.arange(4000.).reshape(-1, 2)
    return HistGradientBoostingRegressor(max_iter=20, random_state=0).fit(X, X[:, 0]).predict(X[:5]).tolist()
(boost(), ThreadPoolExecutor(1).submit(boost).result())""",
    "OpenMP in a fork": "import multiprocessing as mp\nmp.get_context('fork').Pool(1).apply(len, ([1],))",
    "joblib in processes": "joblib.Parallel(2)(joblib.delayed(abs)(i) for i in range(-4, 4))",
    "joblib in threads": "joblib.Parallel(2, prefer='threads')(joblib.delayed(abs)(i) for i in range(-4, 4))",
    "forks": "[mp.get_context('fork').Pool(2).map(abs, [-1, -2, -3]), mp.get_start_method(), mp.parent_process()]",
    "spawns": "[mp.get_context('spawn').Pool(1).map(abs, [-1, -2, -3])]",
    "subprocesses": "import subprocess\nsubprocess.run([sys.executable, '-c', 'import os; print(sorted(os.environ), "
    'os.getcwd() == os.environ["TMPDIR"])\'], capture_output=True, text=True).stdout',
}
GRANTED = (
    "Umask Uid Gid Groups SigBlk CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp "
    "Cpus_allowed Mems_allowed"
).split()
SAME |= {
    f"{name} of the process": f"[x for x in open('/proc/self/status') if x.startswith('{name}:')]"
    for name in GRANTED
} | {
    f"{name} of the process": f"open('/proc/self/{name}').read()"
    for name in ("comm", "limits", "oom_score_adj", "timerslack_ns", "cgroup")
}
# the C library ignores two signals of its own in what it spawns, or does not
SAME["the ignored signals"] = (
    "[int(x.split()[1], 16) & ~(3 << 31) for x in open('/proc/self/status') if x[:6] == 'SigIgn']"
)

DIFFERENT = {  # what: (code, why)
    "the main thread's number": (
        "threading.main_thread().native_id == os.getpid()",
        "Python keeps what it was before the fork",
    ),
    "the parent": (
        "os.getppid() == int(os.environ['JPY_PARENT_PID'])",
        "the template is the parent of what it forks",
    ),
}


def differs(reason):
    """The mark of what is known to differ, for `reason`."""
    return pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason)


CASES = [pytest.param(code, id=what) for what, code in SAME.items()] + [
    pytest.param(code, id=what, marks=differs(why)) for what, (code, why) in DIFFERENT.items()
]
IMPORTS = "import gc, joblib, locale, matplotlib, multiprocessing as mp, os, sys, threading\n"


@pytest.mark.parametrize("code", CASES)
def test_the_same_is_found_in_both(pair, code):
    cold, warm = (each.value(IMPORTS + code) for each in pair)
    assert warm == cold


def test_the_system_shows_the_kernels_own_command_and_environment(pair):
    processes = [psutil.Process(each.process.pid) for each in pair]
    cold, warm = ([k.seen(a) for a in p.cmdline() if a] for k, p in zip(pair, processes))
    assert warm == cold and "CONNECTION" in warm
    cold, warm = (
        {name: k.seen(value) for name, value in p.environ().items()}
        for k, p in zip(pair, processes)
    )
    assert warm == cold and warm["TMPDIR"] == "FOLDER"
    assert processes[0].name() == processes[1].name() and processes[0].exe() == processes[1].exe()


@differs("the template's room for a longer command is seen as thousands of empty arguments")
def test_the_system_shows_no_more_arguments_than_there_are(pair):
    cold, warm = (psutil.Process(each.process.pid).cmdline() for each in pair)
    assert len(warm) == len(cold)


OUTPUTS = {
    "an error": "def f(x):\n    return 1 / x\nf(0)",
    "an error in a library": "import pandas as pd\npd.DataFrame({'a': [1]})['b']",
    "a syntax error": "import = 3",
    "a warning": "import warnings\nwarnings.warn('look')",
    "a page": "zip?",
    "numbers of NumPy": "np.float64(0.1), [np.float32(0.1), np.int64(3)], {'m': np.mean([1, 2])}",
    "a table": "pd.DataFrame({'a': [1.5, 2]})",
    "a model": "sklearn.linear_model.Ridge()",
    "a shell's output": "!echo $TMPDIR",
    "a script": "%%bash\necho a",
    "await": "import asyncio\nawait asyncio.sleep(0.01, 'slept')",
    "%matplotlib": "%matplotlib",
    "%matplotlib inline and a figure": "%matplotlib inline\nplt.plot([1, 3, 2])\nplt.show()",
    "a figure at the end": "fig, ax = plt.subplots(); ax.plot([1, 3, 2]); ax.set_title('same')",
    "input": "input('name? ')",
    "a password": "import getpass\ngetpass.getpass()",
    "a breakpoint": "breakpoint()",
    "logging": "import logging\nlogging.getLogger('mine').warning('w')",
    "the number of the installed": "import importlib.metadata as im\nlen(list(im.distributions()))",
}
TOLD = ("name", "text", "data", "ename", "evalue", "traceback", "wait")


def told(kernel, code):
    """(status, payload, outputs as text) of `code` in `kernel`, without what differs from run to run."""
    reply, contents = kernel.run(code), []
    for output in kernel.outputs:
        kind, content = output["msg_type"], output["content"]
        before = contents[-1][1] if contents else {}
        if kind == "stream" and before.get("name") == content["name"]:
            before["text"] += content["text"]  # it comes in as many pieces as the moment makes
        elif kind not in ("status", "execute_input"):
            contents.append((kind, {k: v for k, v in content.items() if k in TOLD}))
    text = re.sub(r"0x[0-9a-f]{6,}|sk-container-id-\d+", "ID", kernel.seen(repr(contents)))
    return reply["status"], reply.get("payload"), text


@pytest.mark.parametrize("code", OUTPUTS.values(), ids=OUTPUTS)
def test_the_same_is_shown_by_both(pair, code):
    cold, warm = (told(each, code) for each in pair)
    assert warm == cold


def test_a_figure_is_a_picture_and_input_is_refused(pair):
    for each in pair:
        each.run(OUTPUTS["a figure at the end"])
        data = [o["content"]["data"] for o in each.outputs if o["msg_type"] == "display_data"]
        assert len([d for d in data if "image/png" in d]) == 1
        assert each.run("input('name? ')")["ename"] == "StdinNotImplementedError"


@pytest.fixture(name="bench")
def fixture_bench():
    """The tests' bench, loaded late: processes that start kernels import this module, and MLflow takes seconds."""
    return importlib.import_module("Codes.testing.testbed")


def test_what_bypasses_pythons_streams_is_in_the_files_and_in_the_outputs(pair, bench):
    code = """
import os, subprocess
os.write(1, b'raw out\\n'); os.write(2, b'raw err\\n'); subprocess.run(['echo', 'of a child'])"""
    for each in pair:
        each.run(code)
        bench.wait_for(
            lambda k=each: "of a child" in k.written("out") and "raw err" in k.written("err")
        )
        assert "raw out\nof a child\n" in each.written("out")


DRAW = """
import random, tempfile, uuid, secrets, multiprocessing, os, numpy as np
from mlflow.utils import name_utils
[random.random(), float(np.random.rand()), float(np.random.default_rng().random()), secrets.token_hex(), str(uuid.uuid1()),
 str(uuid.uuid4()), tempfile.mktemp(), name_utils._generate_random_name(), multiprocessing.current_process().authkey.hex()]
"""
# those that came with the template are hidden from gc until they are unfrozen
DRAW_ALL = """
import gc, random, sklearn.ensemble, numpy as np
gc.unfreeze()
found = [o for o in gc.get_objects() if type(o) in (KINDS)]
[float(o.random() if hasattr(o, 'random') else o.rand()) for o in found]
"""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(DRAW.replace(",\n ", ", "), id="of its own"),
        pytest.param(DRAW_ALL.replace("KINDS", "random.Random,"), id="of all libraries"),
        pytest.param(
            DRAW_ALL.replace("KINDS", "np.random.Generator, np.random.RandomState"),
            id="of all libraries, NumPy's",
            marks=differs("scikit-learn makes two as it loads, which are not seeded anew"),
        ),
        pytest.param(
            "[hash('a'), hash(b'b')]",
            id="of hashes, and so the order of sets",
            marks=differs("Python draws the hashes' key once, as it starts"),
        ),
    ],
)
def test_two_warm_kernels_share_no_randomness_and_no_names(start, code):
    one, two = (kernel.value(code) for kernel in start(WARM, WARM))
    assert one and len(one) == len(two) and not set(one) & set(two)


AUTOLOG = """
import mlflow, mlflow.sklearn, os
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
mlflow.set_tracking_uri(f'sqlite:///{os.getcwd()}/mlflow.db')
mlflow.set_experiment(experiment_id=mlflow.create_experiment('same', os.getcwd()))
mlflow.sklearn.autolog(log_models=False)
with mlflow.start_run(run_name='one') as run:
    fitted = LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))
mlflow.sklearn.autolog(disable=True)
data, files = mlflow.get_run(run.info.run_id).data, mlflow.MlflowClient().list_artifacts(run.info.run_id)
tags = {k: v for k, v in data.tags.items() if k not in ('mlflow.log-model.history', 'mlflow.workbook.owner')}
(data.params, data.metrics, tags, sorted(f.path for f in files), fitted.coef_.tobytes())"""


def test_autologging_logs_the_same(pair, bench):
    logged = []
    for each in pair:
        bench.fresh_store(each.folder)
        logged.append(each.value(AUTOLOG))
        each.run("mlflow.set_tracking_uri(None)")
    assert logged[1] == logged[0]
    _, metrics, tags, files, _ = logged[1]
    assert metrics["training_accuracy_score"] > 0.9 and len(files) >= 2
    assert tags["mlflow.source.name"].endswith("ipykernel_launcher.py")


POOLS = "{n['user_api']: n['num_threads'] for n in threadpoolctl.threadpool_info()}"
THREADS = f"import numpy, threadpoolctl\n{POOLS}"


@pytest.mark.soak
def test_one_thread_is_one_where_the_environment_says_so(start, monkeypatch):
    place = tempfile.mkdtemp(prefix="wb", dir="/tmp")  # of a template that others do not need
    monkeypatch.setenv("XDG_RUNTIME_DIR", place)
    kernels = start(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    try:
        for each in kernels:
            assert each.value(f"import sklearn.ensemble\n{THREADS}") == {"blas": 1, "openmp": 1}
            each.end()
    finally:
        templates.stop()
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        pytest.param("OPENBLAS_NUM_THREADS", "1", marks=pytest.mark.soak),
        pytest.param(
            "OPENBLAS_NUM_THREADS",
            "8",
            marks=[pytest.mark.soak, differs("more than there are processors")],
        ),
        pytest.param(
            "OPENBLAS_NUM_THREADS",
            "0",
            marks=[pytest.mark.soak, differs("taken for one, not for all")],
        ),
        pytest.param(
            "OPENBLAS_DEFAULT_NUM_THREADS",
            "1",
            marks=[pytest.mark.soak, differs("it is not looked at")],
        ),
    ],
)
def test_algebra_has_the_threads_that_the_environment_says(start, variable, value, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # which `make test` sets
    cold, warm = (kernel.value(THREADS)["blas"] for kernel in start(**{variable: value}))
    assert warm == cold


def constrain():
    """Be what a kernel must not escape from by being forked elsewhere."""
    os.umask(0o027)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.nice(5)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Path("/proc/self/oom_score_adj").write_text("300", "ascii")
    assert ctypes.CDLL(None).prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0


CONSTRAINED = {
    "umask": "os.umask(os.umask(0o27))",
    "processors": "sorted(os.sched_getaffinity(0))",
    "ignored signals": "repr(signal.getsignal(signal.SIGHUP))",
    "threads for algebra": "threads.get('blas')",
    "threads of OpenMP": "threads.get('openmp')",
    "niceness": "os.nice(0)",
    "scheduling": "os.sched_getscheduler(0)",
    "blocked signals": "[int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, [])]",
    "out of memory first": "open('/proc/self/oom_score_adj').read()",
    "no new privileges": "[line for line in open('/proc/self/status') if line.startswith('NoNewPrivs')]",
}
ESCAPED = {
    "threads of OpenMP": "its library counts the processors as it loads, in the template",
    "niceness": "a fork has the template's",
    "scheduling": "a fork has the template's",
    "blocked signals": "none is blocked in a fork",
    "out of memory first": "a fork has the template's",
    "no new privileges": "a fork has the template's",
}


def look_constrained(folder):
    """[{what: found} of an ordinary kernel, of a warm one], started in `folder` by a process that is constrained."""
    constrain()
    items = ", ".join(f"{what!r}: {code}" for what, code in CONSTRAINED.items())
    imports = "import os, signal, numpy, sklearn.ensemble, threadpoolctl"
    code = f"{imports}\nthreads = {POOLS}\n{{{items}}}"
    kernels = [Kernel(name, folder) for name in (COLD, WARM)]
    try:
        return [each.value(code) for each in kernels]
    finally:
        for each in kernels:
            each.end()


@pytest.fixture(scope="module", name="constrained")
def fixture_constrained(pair, tmp_path_factory):  # pylint: disable=unused-argument
    """What `look_constrained` returns; the template is there already, made by a process that was not constrained."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(look_constrained, [tmp_path_factory.mktemp("constrained")])


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(what, marks=differs(ESCAPED[what]) if what in ESCAPED else ())
        for what in CONSTRAINED
    ],
)
def test_a_kernel_is_constrained_like_the_process_that_starts_it(constrained, what):
    if what == "threads of OpenMP" and len(os.sched_getaffinity(0)) == 1:
        pytest.skip("one processor is no constraint here")
    cold, warm = (found[what] for found in constrained)
    if what == "threads of OpenMP" and warm == cold:
        pytest.skip(
            "another template has taken the place of the first, and was made where one can be had"
        )
    assert warm == cold


@pytest.fixture(scope="module", name="bare")
def fixture_bare(tmp_path_factory):
    """(an ordinary kernel, a warm one) that have imported nothing; modules of the user's own lie in their folders."""
    own = {"skops.py": "mine = True\n", "statistics.py": "mine = True\n", "helper.py": "mine = 1\n"}
    folder = tmp_path_factory.mktemp("bare")
    kernels = [Kernel(name, folder, files=own) for name in (COLD, WARM)]
    yield kernels
    for each in kernels:
        each.end()


IN_PLACE = "the template has loaded the installed one already"


@pytest.mark.parametrize(
    "module",
    [
        "helper",
        "statistics",  # in both the standard library comes first
        pytest.param("skops", marks=differs(IN_PLACE)),
    ],
)
def test_a_module_in_the_notebooks_folder_is_the_one_that_is_imported(bare, module):
    cold, warm = (each.value(f"import {module}\nhasattr({module}, 'mine')") for each in bare)
    assert warm == cold


@differs(
    "filters that libraries set as they load come after the notebook's in the template's kernels"
)
def test_filters_of_warnings_before_an_import_work_the_same(bare):
    code = """
import warnings; warnings.simplefilter('error')
import numpy as np
np.polyfit([1.0, 1, 1], [1.0, 2, 3], 2)"""
    cold, warm = (each.run(code)["status"] for each in bare)
    for each in bare:
        each.run("warnings.simplefilter('default')")
    assert warm == cold


@differs("MLflow says so at once where scikit-learn is loaded, else as it is imported")
def test_autologging_of_everything_is_announced_at_the_same_cell(bare):
    cold, warm = (each.run("import mlflow\nmlflow.autolog()") and each.printed() for each in bare)
    for each in bare:
        each.run("mlflow.autolog(disable=True)")
    assert warm.count("sklearn") == cold.count("sklearn")


class Debugged:
    """A kernel under a debugger, as JupyterLab drives it; keeps which commands succeeded."""

    def __init__(self, kernel):
        self.kernel, self.replies = kernel, []

    def ask(self, command, **arguments):
        """The body of the reply to `command`."""
        content = {"type": "request", "seq": 1, "command": command, "arguments": arguments}
        message = self.kernel.kc.session.msg("debug_request", content)
        self.kernel.kc.control_channel.send(message)
        while True:
            reply = self.kernel.kc.control_channel.get_msg(timeout=60)
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                body = reply["content"].get("body") or {}
                self.replies.append((command, reply["content"].get("success"), sorted(body)))
                return body

    def events(self, last):
        """The debugger's events until the one named `last`."""
        found = []
        while last not in found:
            found.append(self.kernel.kc.get_iopub_msg(timeout=60)["content"].get("event"))
        return [event for event in found if event in ("stopped", "continued", "breakpoint")]


def debug(kernel):  # pylint: disable=too-many-locals
    """Stop `kernel` at a breakpoint, look, step, and go on; returns all that was told."""
    debugged = Debugged(kernel)
    ask, code = debugged.ask, "a = 41\nb = a + 1\nc = b + 1\nc"
    ask("initialize", clientID="t", adapterID="", linesStartAt1=True, columnsStartAt1=True)
    ask("attach")
    source = ask("dumpCell", code=code)["sourcePath"]
    points = ask("setBreakpoints", source={"path": source}, breakpoints=[{"line": 2}])
    ask("configurationDone")
    info = ask("debugInfo")
    asked, seen = kernel.kc.execute(code), debugged.events("stopped")
    frame = ask("stackTrace", threadId=1)["stackFrames"][0]
    scopes = ask("scopes", frameId=frame["id"])["scopes"]
    values = ask("variables", variablesReference=scopes[0]["variablesReference"])["variables"]
    ask("evaluate", expression="a + 1", frameId=frame["id"], context="repl")
    ask("next", threadId=1)
    seen += debugged.events("stopped")
    line = ask("stackTrace", threadId=1)["stackFrames"][0]["line"]
    ask("continue", threadId=1)
    while kernel.kc.get_shell_msg(timeout=60)["parent_header"].get("msg_id") != asked:
        pass
    ask("inspectVariables")
    ask("disconnect", restart=False, terminateDebuggee=False)
    stopped = (points["breakpoints"][0]["verified"], frame["line"], line, frame["name"])
    same = ("isStarted", "stoppedThreads", "richRendering", "exceptionPaths", "hashMethod")
    a = [v["value"] for v in values if v["name"] == "a"]
    return debugged.replies, seen, stopped, a, {name: info[name] for name in same}


def test_the_debugger_stops_steps_and_tells_the_same(start):
    cold, warm = each_of(start(), debug)
    assert warm == cold
    replies, _, (verified, line, next_line, _), values, _ = warm
    assert all(success for _, success, _ in replies), replies
    assert verified and (line, next_line) == (2, 3) and values == ["41"]


def test_a_crash_is_traced_into_the_standard_error_of_the_kernel(start, bench):
    for kernel in (*start(WARM), *start(WARM, WORKBOOK_COLD="1")[1:]):
        kernel.kc.execute("import ctypes; ctypes.string_at(0)")
        assert kernel.process.wait(60) == -signal.SIGSEGV
        bench.wait_for(
            lambda k=kernel: "Fatal Python error: Segmentation fault" in k.written("err")
        )


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torch_is_the_same_and_never_in_the_template(start):
    code = """
import sys; before = 'torch' in sys.modules
import torch
threads = torch.get_num_threads(), torch.get_num_interop_threads()
torch.manual_seed(0); x = torch.rand(200, 200, requires_grad=True); torch.tanh(x @ x).sum().backward()
torch.optim.SGD([x], 0.1).step()
(before, threads, x.grad.numpy().tobytes(), x.detach().numpy().tobytes())"""
    cold, warm = (kernel.value(code) for kernel in start())
    assert warm == cold and not warm[0]


def test_the_end_is_an_ordinary_one(start):
    left = []
    for kernel in start():
        kernel.run(
            "import atexit, tempfile, threading, time\n"
            "folder = tempfile.TemporaryDirectory()\n"
            "atexit.register(lambda: open('exit', 'w').write('x'))\n"
            "threading.Thread(target=lambda: (time.sleep(0.3), open('thread', 'w').write('x'))).start()"
        )
        kernel.km.shutdown_wait_time = 60
        kernel.end(now=False)
        left.append(sorted(p.name for p in kernel.folder.iterdir()))
    assert left[1] == left[0] and {"exit", "thread"} <= set(left[1])
    assert not [n for n in left[1] if n.startswith("tmp")]
