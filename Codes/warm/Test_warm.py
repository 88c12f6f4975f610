"""Warm kernels: what happens to them, to their template and to their clients, each ending well."""

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from jupyter_client.connect import LocalPortCache, write_connection_file
from jupyter_client.manager import start_new_kernel

from Codes.ground.paths import ROOT
from Codes.stores.store import ARTIFACT_ROOT, URI
from Codes.testing.cases import sampled
from Codes.testing.testbed import wait_for, write_notebook
from Codes.forks import channel, fork
from Codes.warm import provisioner, templates

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="warm kernels need Linux")
NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as a second user")
# a template that warms up in a second: it holds no more than the kernel itself
LIGHT = "never: [mlflow, sklearn, pandas, numpy, scipy, pyarrow, matplotlib, skops, narwhals, PIL, sqlalchemy, torch]\n"


@contextlib.contextmanager
def workbook_copy(patch):
    """A copy of the workbook with a light template and a private folder for its socket; its templates end with it."""
    folder = Path(tempfile.mkdtemp(prefix="wb", dir="/tmp"))
    tree = folder / "tree"
    for part in ("Codes", "Resources", "notebooks"):
        shutil.copytree(
            ROOT / part, tree / part, ignore=shutil.ignore_patterns("data", "__pycache__")
        )
    (tree / "Resources/warm.yaml").write_text(LIGHT)
    (folder / "run").mkdir()
    (folder / "tmp").mkdir()
    patch.setenv("XDG_RUNTIME_DIR", str(folder / "run"))
    patch.setenv("PYTHONPATH", str(tree))
    patch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    patch.setattr(channel, "ROOT", tree)
    patch.setattr(provisioner, "ROOT", tree)
    patch.setattr(provisioner, "said", set())
    patch.delenv(channel.COLD, raising=False)
    try:
        yield tree
    finally:
        for pid in _templates(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder)


@pytest.fixture(name="tree")
def fixture_tree(monkeypatch):
    """A copy of the workbook for one test, which may do to it and to its template what it likes."""
    with workbook_copy(monkeypatch) as tree:
        yield tree


@pytest.fixture(name="shared", scope="module")
def fixture_shared():
    """A copy of the workbook whose one template several tests share, and leave as it is."""
    with pytest.MonkeyPatch.context() as patch, workbook_copy(patch) as tree:
        yield tree


def _templates(folder):
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if "Codes.warm.template" in command and str(folder) in " ".join(command):
                yield process.pid


@contextlib.contextmanager
def kernel(**options):
    """A kernel `workbook` and its client, as a namespace: km, kc, pid, process; ended at the end."""
    km, kc = start_new_kernel(kernel_name="workbook", **options)
    try:
        process = km.provisioner.process
        yield SimpleNamespace(km=km, kc=kc, process=process, pid=process.pid)
    finally:
        kc.stop_channels()
        km.shutdown_kernel(now=True)


def value(client, expression, prepare=""):
    """The text of `expression`, evaluated in the client's kernel after `prepare` was executed."""
    reply = client.execute_interactive(
        prepare,
        user_expressions={"it": expression},
        timeout=30,
        allow_stdin=False,
        output_hook=lambda m: None,
    )
    found = reply["content"]["user_expressions"]["it"]
    assert found["status"] == "ok", found
    return found["data"]["text/plain"]


def message(receive, asked, kind):
    """The first message of `kind` about the request `asked` that `receive` (of a client's channel) brings."""
    while True:
        found = receive(timeout=60)
        if found["parent_header"].get("msg_id") == asked and found["msg_type"] == kind:
            return found


def is_warm(process):
    """Whether the kernel's `process` was forked from a template."""
    return isinstance(process, provisioner.Fork)


def template():
    """The process id of the one template there is."""
    found = templates.found()
    assert len(found) == 1, found
    return found[0].pid


def is_gone(pid):
    """Whether no process `pid` is left, but for one that waits to be collected."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_a_kernel_is_interrupted_and_restarted_and_shut_down(shared):
    with kernel() as one:
        assert is_warm(one.process) and one.process.poll() is None
        endless = "import time\nprint('on')\nfor _ in range(3000): time.sleep(0.1)"
        # else ipykernel aborts what comes in right after the error
        asked = one.kc.execute(endless, stop_on_error=False)
        message(one.kc.get_iopub_msg, asked, "stream")
        one.km.interrupt_kernel()
        reply = message(one.kc.get_shell_msg, asked, "execute_reply")
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        value(one.kc, "kept", "kept = 1")
        one.km.restart_kernel()
        one.kc.wait_for_ready(timeout=30)
        again = one.km.provisioner.process
        assert is_warm(again) and again.pid != one.pid and is_gone(one.pid)
        assert value(one.kc, "'kept' in globals()") == "False"
        one.km.shutdown_wait_time = 60
        one.km.shutdown_kernel()
        assert again.poll() == 0 and is_gone(again.pid)
    assert shared.exists() and templates.found()[0].forks == 0


@pytest.mark.parametrize(
    "ending, code", sampled([("os._exit(3)", 3), ("os.kill(os.getpid(), 11)", -11)], "os._exit(3)")
)
def test_a_kernels_end_is_told_with_its_exit_code(shared, ending, code):
    with kernel() as one:
        one.kc.execute(f"import os\n{ending}")
        assert one.process.wait(10) == code and one.process.poll() == code
    assert shared.exists()


def test_a_killed_kernel_is_seen_as_killed_and_a_wait_for_a_living_one_times_out(shared):
    with kernel() as one:
        with pytest.raises(subprocess.TimeoutExpired):
            one.process.wait(0.1)
        one.process.kill()
        assert one.process.wait(10) == -signal.SIGKILL
    assert shared.exists()


CLIENT = """
import sys, time
from jupyter_client.manager import KernelManager
km = KernelManager(kernel_name="workbook")
km.start_kernel(independent=bool(sys.argv[1:]))
print(type(km.provisioner.process).__name__, km.provisioner.process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("independent", [False, True])
def test_a_kernel_ends_with_a_killed_client_unless_it_is_independent(shared, independent):
    arguments = [sys.executable, "-c", CLIENT, *(["independent"] if independent else [])]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=shared) as client:
        lines = iter(client.stdout.readline, "")  # an independent kernel prints a note of its own
        kind, pid = next(line for line in lines if line.startswith(("Fork ", "Popen "))).split()
        client.kill()
    assert kind == "Fork"
    if independent:
        time.sleep(1)
        assert not is_gone(int(pid))
        os.kill(int(pid), signal.SIGKILL)
    wait_for(lambda: is_gone(int(pid)))


def test_kernels_outlive_their_template_and_the_next_one_gets_another(tree, capfd):
    with kernel() as one:
        first = template()
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: is_gone(first))
        assert value(one.kc, "6 * 7") == "42"
        with kernel() as two:
            assert is_warm(two.process) and template() != first
        one.km.shutdown_kernel()
        assert one.process.poll() == fork.UNKNOWN and is_gone(one.pid)
    assert tree.exists() and not capfd.readouterr().err.count("ordinary way")


@pytest.mark.parametrize("moments", sampled([1, 6], 1))
def test_a_template_killed_at_any_moment_of_a_fork_costs_no_kernel_and_leaves_none(tree, moments):
    dice = random.Random(3)
    with kernel():
        pass
    for _ in range(moments):
        pid, pause = template(), dice.uniform(0, 0.12)
        killer = threading.Timer(pause, os.kill, (pid, signal.SIGKILL))
        killer.start()
        with kernel() as one:
            assert value(one.kc, "6 * 7") == "42", pause
        killer.join()
        with kernel():
            pass
    ours = [p for p in psutil.process_iter() if _belongs_to(p, tree)]
    wait_for(lambda: all(is_gone(p.pid) or p.pid == template() for p in ours))


def _belongs_to(process, tree):
    with contextlib.suppress(psutil.Error):
        return process.pid != os.getpid() and process.environ().get("PYTHONPATH") == str(tree)
    return False


@pytest.mark.parametrize("left", sampled(["socket", "file", "lock"], "socket"))
def test_what_a_killed_template_left_is_no_hindrance(tree, left):
    path = channel.folder() / f"{channel.name(sys.executable, _environment())}.sock"
    if left == "socket":
        with socket.socket(socket.AF_UNIX) as nobody:
            nobody.bind(str(path))
    elif left == "file":
        path.write_text("")
    else:
        Path(f"{path}.lock").write_bytes(b"1234")
    with kernel() as one:
        assert is_warm(one.process) and tree.exists()


def _environment():
    return channel.QUIET | dict(os.environ)


def test_a_stopped_template_is_not_waited_for(tree, capfd):
    with kernel():
        pid = template()
    os.kill(pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        with kernel() as one:
            assert not is_warm(one.process) and value(one.kc, "6 * 7") == "42"
        assert time.monotonic() - start < 30 and tree.exists()
    finally:
        os.kill(pid, signal.SIGKILL)
    assert (
        f"ordinary way, since its template (process {pid}) does not answer"
        in capfd.readouterr().err
    )


def test_each_environment_has_a_template_and_kernels_of_one_share_it(tree):
    (tree / "Resources/warm.yaml").write_text(LIGHT + "also: [tqdm.std]\n")
    with kernel() as one, kernel() as two:
        assert psutil.Process(one.pid).ppid() == psutil.Process(two.pid).ppid() == template()
        other = {**os.environ, "TQDM_DISABLE": "1", "WORKBOOK_TEST": "x"}
        with kernel(env=other) as three:
            assert is_warm(three.process) and len(templates.found()) == 2
            assert value(three.kc, "tqdm([]).disable", "from tqdm.std import tqdm") == "True"
        with kernel(env={**os.environ, "WORKBOOK_TEST": "x"}) as four:
            assert psutil.Process(four.pid).ppid() == psutil.Process(one.pid).ppid()


@pytest.mark.soak
def test_hard_limits_of_the_client_that_started_a_template_bind_no_other_client(tree):
    import resource

    cpu = resource.RLIMIT_CPU
    limited = ["sh", "-c", 'ulimit -t 500; exec "$0" -c "$1"', sys.executable, CLIENT]
    with subprocess.Popen(limited, stdout=subprocess.PIPE, text=True, cwd=tree) as client:
        pid = client.stdout.readline().removeprefix("Fork ")
        assert resource.prlimit(int(pid), cpu) == (500, 500)
        client.kill()
    with kernel() as one:
        assert is_warm(one.process) and len(templates.found()) == 2
        assert resource.prlimit(one.pid, cpu) == resource.getrlimit(cpu)


def test_many_first_kernels_at_once_start_one_template(tree):
    def start(_):
        with kernel() as one:
            return is_warm(one.process) and value(one.kc, "6 * 7") == "42"

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(start, range(6)))
    assert template() and tree.exists()


def test_an_edit_of_a_helper_is_seen_and_what_a_template_is_made_of_replaces_it(tree):
    helper = tree / "Codes/ground/paths.py"
    code = "from Codes.ground import paths; import os, sys, Codes.runs.nested_runs"
    with kernel() as one:
        first = template()
        assert value(one.kc, "paths.EXECUTED.name", code) == "'executed'"
    helper.write_text(helper.read_text().replace('"executed"', '"done"'))
    with kernel() as one:
        assert value(one.kc, "paths.EXECUTED.name", code) == "'done'" and template() == first
    for changed in ("Codes/runs/nested_runs.py", "Codes/warm/forked.py", "Resources/warm.yaml"):
        with (tree / changed).open("a", encoding="utf-8") as file:
            file.write("\n# changed\n")
        with kernel() as one:
            assert is_warm(one.process) and template() != first, changed
            first = template()
    write_notebook(tree / "notebooks/90_new.ipynb", "import wave")
    with kernel() as one:
        assert (
            template() != first and value(one.kc, "'wave' in sys.modules", "import sys") == "True"
        )
        first = template()
    write_notebook(tree / "notebooks/90_new.ipynb", "import wave; print(wave)")
    with kernel():
        assert template() == first


@pytest.mark.soak
def test_a_template_ends_when_it_is_idle_but_not_before_its_kernels(tree):
    (tree / "Resources/warm.yaml").write_text(LIGHT + "idle_minutes: 0.02\n")
    with kernel() as one:
        pid = psutil.Process(one.pid).ppid()
        time.sleep(14)
        assert not is_gone(pid) and value(one.kc, "6 * 7") == "42"
    wait_for(lambda: is_gone(pid))
    assert not list(channel.folder().glob("*.sock"))


@pytest.mark.parametrize(
    "text, said", sampled([("also: [", "warm.yaml"), ("nonsense: 1\n", "nonsense")], "also: [")
)
def test_a_template_that_cannot_be_made_costs_one_attempt_and_one_line(tree, capfd, text, said):
    (tree / "Resources/warm.yaml").write_text(text)
    for _ in range(2):
        with kernel() as one:
            assert not is_warm(one.process) and value(one.kc, "6 * 7") == "42"
    lines = [line for line in capfd.readouterr().err.splitlines() if "ordinary way" in line]
    assert said in lines[0] and len(lines) <= 2
    (tree / "Resources/warm.yaml").write_text(LIGHT)
    templates.stop()
    with kernel() as one:
        assert is_warm(one.process)


def test_a_server_does_not_wait_for_a_template_that_warms_up(tree, capfd):
    from jupyter_server.services.kernels.kernelmanager import ServerKernelManager

    (tree / "Resources/warm.yaml").write_text(
        "idle_minutes: 1"
    )  # all that notebooks import: it takes seconds

    async def start():
        manager = ServerKernelManager(kernel_name="workbook")
        started = time.monotonic()
        await manager.start_kernel()
        spent, process = time.monotonic() - started, manager.provisioner.process
        await manager.shutdown_kernel(now=True)
        return spent, process

    spent, process = asyncio.run(start())
    assert spent < provisioner.START / 2 and not is_warm(process)
    assert "still warming up" in capfd.readouterr().err
    wait_for(templates.found, seconds=60)
    wait_for(lambda: is_warm(asyncio.run(start())[1]), seconds=60)


def test_an_environment_variable_turns_warm_kernels_off(tree, monkeypatch):
    monkeypatch.setenv(channel.COLD, "1")
    with kernel() as one:
        assert not is_warm(one.process) and not templates.found() and tree.exists()


def test_elsewhere_than_on_linux_kernels_start_in_the_ordinary_way_said_once(
    tree, monkeypatch, capfd
):
    monkeypatch.setattr(sys, "platform", "darwin")
    for _ in range(2):
        with kernel() as one:
            assert not is_warm(one.process) and tree.exists()
    assert capfd.readouterr().err.count("warm kernels need Linux") == 1


@pytest.mark.parametrize(
    "option",
    ["--IPKernelApp.exec_lines=open('/tmp/wb-evil','w')", "-c", "--ext=evil", "--matplotlib"],
)
def test_an_option_that_might_be_run_as_code_is_not_taken_by_a_template(shared, option):
    with kernel():
        pass
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(next(channel.folder().glob("*.sock"))))
        request, streams = provisioner.describe(
            [sys.executable, "-m", "ipykernel_launcher", "-f", "/tmp/none.json", option],
            dict(os.environ),
        )
        channel.send(connection, request, streams)
        channel.close(streams)
        assert "refused" in channel.receive(connection)[0] and shared.exists()


def test_a_template_survives_nonsense(shared):
    with kernel():
        pid = template()
    path = next(channel.folder().glob("*.sock"))
    for nonsense in (
        b"",
        b"\x01",
        b"\xff" * 9,
        b"\x02\0\0\0[]",
        b"\x05\0\0\0{'a'}",
        b"\x02\0\0\0{}",
        b"\x09\0\0\0{}",
    ):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(nonsense)
    with kernel() as one:
        assert is_warm(one.process) and template() == pid and shared.exists()


def test_the_socket_lies_where_only_its_user_can_enter(tree):
    with kernel():
        folder = channel.folder()
        assert folder.stat().st_mode & 0o077 == 0 and folder.stat().st_uid == os.getuid()
    folder.chmod(0o755)
    with pytest.raises(channel.Unavailable, match="only you can enter"):
        channel.folder()
    with kernel() as one:
        assert not is_warm(one.process) and tree.exists()
    folder.chmod(0o700)


@as_root
def test_another_user_neither_enters_the_folder_nor_is_served_nor_serves(tree, capfd):
    with kernel():
        path = next(channel.folder().glob("*.sock"))
    knock = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    os.chmod(tree.parent, 0o755)
    knocked = subprocess.run(
        ["/usr/bin/python3", "-c", knock],
        user=NOBODY,
        group=NOBODY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PermissionError" in knocked.stderr
    os.chmod(path.parent, 0o755)
    os.chmod(path, 0o777)  # even so
    served = "; s=socket.socket(socket.AF_UNIX); s.connect(%r); print(s.recv(4), s.recv(99))"
    knocked = subprocess.run(
        ["/usr/bin/python3", "-c", "import socket" + served % str(path)],
        user=NOBODY,
        group=NOBODY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"belongs to the user {NOBODY}" in knocked.stdout
    os.chown(path.parent, NOBODY, NOBODY)
    os.chmod(path.parent, 0o700)
    with kernel() as one:
        assert not is_warm(one.process)
    assert "not a folder that only you can enter" in capfd.readouterr().err
    os.chown(path.parent, 0, 0)


def test_a_full_process_table_is_told_and_the_kernel_starts_in_the_ordinary_way(tree, capfd):
    import resource

    with kernel():
        pid = template()
    if os.getuid() == 0:
        pytest.skip("root's processes are not counted")
    resource.prlimit(pid, resource.RLIMIT_NPROC, (1, 1))
    with kernel() as one:
        assert not is_warm(one.process) and value(one.kc, "6 * 7") == "42"
    assert "BlockingIOError" in capfd.readouterr().err and template() == pid and tree.exists()


@pytest.mark.parametrize("is_there", sampled([True, False], False))
def test_a_client_that_gives_up_while_it_waits_leaves_no_kernel_and_no_file(shared, is_there):
    with kernel():
        pid = template()
    path = next(channel.folder().glob("*.sock"))
    file = shared / "given up" / "connection.json"
    if is_there:
        file.parent.mkdir()
        write_connection_file(str(file))
    for _ in range(5):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            request, streams = provisioner.describe(
                [sys.executable, "-m", "ipykernel_launcher", "-f", str(file)], dict(os.environ)
            )
            channel.send(connection, request, streams)
            channel.close(streams)
    wait_for(lambda: [(t.pid, t.forks) for t in templates.found()] == [(pid, 0)])
    assert file.parent.exists() == is_there
    shutil.rmtree(file.parent, ignore_errors=True)


SPY = """
import os, sys
seen, walkers, kind = set(), set(), type(os.environ)
get, walk = kind.__getitem__, kind.__iter__
def walked(self):
    frame = sys._getframe(1)
    while (name := frame.f_globals["__name__"]) in ("os", "collections.abc"):
        frame = frame.f_back
    walkers.add(name.partition(".")[0])
    return walk(self)
kind.__iter__ = walked
kind.__getitem__ = lambda self, name: (seen.add(name), get(self, name))[1]
kind.__contains__ = lambda self, name: (seen.add(name), self.encodekey(name) in self._data)[1]
from Codes.forks import channel, fork
from Codes.warm import command_template, preload
made = {"kernels": preload, "commands": command_template}[sys.argv[1]].Preloaded()
threads = len(os.listdir("/proc/self/task"))
print("read:", *sorted(n for n in seen if isinstance(n, str) and not channel.AT_LOAD.match(n)))
print("walked:", *walkers)
print("threads:", threads, "user's own:", *made.foreign)
own = [m for n, m in list(sys.modules.items()) if n.startswith("Codes.")]
cached = {f.__name__: f for m in own for f in vars(m).values() if hasattr(f, "cache_info")}
cached = {name: f for name, f in cached.items() if f.__module__.startswith("Codes")}
asked = [name for name, f in cached.items() if f.cache_info().currsize]
print("remembered:", *asked)
"""
# who looks at all variables as it loads, for those whose names begin so
WALKERS = {"dask": "DASK_", "tqdm": "TQDM_"}
# who runs it (MLflow asks which assistant or build system that is), the terminal, and what a kernel is given anew
HARMLESS = re.compile(
    r".*(AGENT|_CI|CI_|^CI$|BUILD|CLAUDE|CODEX|COPILOT|CURSOR|GEMINI|GITHUB|GITLAB|JENKINS|OPENC|RUNBOT|TRAE_|TRAVIS"
    r"|CIRCLECI|TEAMCITY|QWEN|ROO_ACTIVE|KIMI|JUNIE|GROK|SAGEMAKER|KAGGLE|COLAB|AZUREML|DATABRICKS|CLOUD_|SANDBOX).*"
    r"|_MLFLOW_TELEMETRY.*|_MLFLOW_TESTING.*|KMP_DUPLICATE_LIB_OK|KMP_INIT_AT_FORK|PYDEVD_USE_FRAME_EVAL"
    r"|JUPYTER_.*|XDG_.*|JE_ARROW_MALLOC_CONF|OPENBLAS_NUM_THREADS|OPENBLAS_THREAD_TIMEOUT"
    r"|AMP_CURRENT_THREAD_ID|CLINE_.*|WORKBOOK_.*|NBFORMAT_VALIDATOR"  # the last is asked for each notebook
    r"|ANDROID_DATA|CONTAINER_NAME|DEBIAN_FRONTEND|DISPLAY|DO_NOT_TRACK|HTTPLIB2_CA_CERTS"
    r"|IN_SPHINX_RUN|IS_IN_DB_MODEL_SERVING_ENV|JPY_.*|MLFLOW_DEPLOYMENT_ENV|MLFLOW_TRACE_ARCHIVAL_CONFIG|OLDPWD"
    r"|PATH|PIP_.*|PS1|PWD|PYENV_ROOT|PYTEST_CURRENT_TEST|RUSTUP_AUTO_INSTALL|SHELL|SHLVL|TEMP|TERM|TERM_PROGRAM|TMP"
    r"|TMPDIR|VIRTUAL_ENV.*|_|_PYTHON_.*"
)


@pytest.mark.soak
@pytest.mark.parametrize("forks", ["kernels", "commands"])
def test_what_libraries_read_as_they_load_is_in_a_templates_name_and_they_start_no_thread(forks):
    environment = provisioner.template_environment(_environment())
    done = subprocess.run(
        [sys.executable, "-c", SPY, forks],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    read, walkers, other, remembered = done.stdout.splitlines()[-4:]
    # by functions of ours, which forks keep: this one for the folders that it is given
    assert set(remembered.split()[1:]) <= {"_exporter"}
    assert not " ".join(name for name in read.split()[1:] if not HARMLESS.fullmatch(name))
    assert set(walkers.split()[1:]) <= {"Codes", *WALKERS}
    assert all(channel.AT_LOAD.match(beginning) for beginning in WALKERS.values())
    threads, own = other.split("user's own:")
    assert threads.split() == ["threads:", "1"]
    allowed = "Codes" if forks == "kernels" else ("Codes", "papermill")
    assert all(name.startswith(allowed) for name in own.split())


STARTS = """
import sys
from Codes.warm import preload, template
preload.IMPORTED_LATE, preload.FIRST_USES, preload.is_installed = [], {}, lambda name: True
never = sys.argv[1:]
found = preload.preload(["json", "starter"], [], never)
print(template.threads_told(found) if preload.thread_count() > 1 else found)
"""


def test_a_package_that_starts_threads_as_it_is_imported_is_named_with_what_to_do(tmp_path):
    (tmp_path / "starter.py").write_text("import _starter_runtime\nimport this\n", "utf-8")
    thread = (
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    (tmp_path / "_starter_runtime.py").write_text(thread, "utf-8")
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}

    def told(*never):
        command = [sys.executable, "-c", STARTS, *never]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1]

    assert told() == (
        "starter starts threads while it is imported, and no process with threads is forked; kernels are warm where "
        "warm.yaml names it under `never`"
    )
    assert told("starter") == "[]"


@pytest.fixture(name="own_tracking")
def fixture_own_tracking(tmp_path, monkeypatch):
    """A tracking store for what runs in this process, which the tests after it do not see."""
    import mlflow

    monkeypatch.setenv(URI, f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv(ARTIFACT_ROOT, "")
    yield
    mlflow.set_tracking_uri(None)


@pytest.mark.parametrize("named", ["workbook", "python3"])
@pytest.mark.usefixtures("own_tracking", "shared")
def test_a_kernel_whose_port_another_process_has_taken_meanwhile_is_started_on_others(
    tmp_path, monkeypatch, named
):
    import papermill

    write_notebook(tmp_path / "tiny.ipynb", 'print(f"seed {seed}")')
    find, chosen = LocalPortCache.find_available_port, []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(
            LocalPortCache,
            "find_available_port",
            lambda ports, ip: chosen.append(1) or (chosen[1:] and find(ports, ip)) or number,
        )
        number = taken.getsockname()[1]
        papermill.execute_notebook(
            str(tmp_path / "tiny.ipynb"),
            str(tmp_path / "out.ipynb"),
            engine_name="mlflow",
            kernel_name=named,
            progress_bar=False,
        )
    done = (tmp_path / "out.ipynb").read_text("utf-8")
    assert chosen and "seed 0" in done


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("own_tracking")
def test_sixty_runs_leave_nothing_behind(shared, tmp_path):
    import papermill

    source = tmp_path / "tiny.ipynb"
    write_notebook(source, "print(seed)")

    def run():
        papermill.execute_notebook(
            str(source),
            str(tmp_path / "out.ipynb"),
            engine_name="mlflow",
            kernel_name="workbook",
            progress_bar=False,
        )

    for _ in range(10):
        run()
    server = psutil.Process(template())
    before = _left(server)
    for _ in range(60):
        run()
    after = _left(server)
    assert server.pid == template() and not server.children()
    assert after["files"] <= before["files"] and after["temporary"] == before["temporary"] == []
    assert after["own files"] <= before["own files"] + 2
    assert after["threads"] <= before["threads"] + 1
    assert (
        after["memory"] - before["memory"] < 1e6
        and after["own memory"] - before["own memory"] < 30e6
    ), (before, after)
    assert shared.exists()


def _left(server):
    own = psutil.Process()
    return {
        "files": server.num_fds(),
        "memory": server.memory_info().rss,
        "own files": own.num_fds(),
        "own memory": own.memory_info().rss,
        "threads": threading.active_count(),
        "temporary": sorted(p.name for p in Path(tempfile.gettempdir()).iterdir()),
    }
