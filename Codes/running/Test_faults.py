"""Faults of cells, kernels and runners, injected into real kernels: status, message, and nothing left behind."""

import os
import signal
import time
from pathlib import Path

import nbformat
import pytest

from Codes.runs import liveness
from Codes.testing.testbed import (
    PAPERMILL,
    check_failed,
    check_kept,
    check_nothing_left,
    processes_of,
    visible,
    wait_for,
)

injected = pytest.mark.injected
BEGIN = "import time; open('begun', 'w').write('1')"
SLEEP = f"{BEGIN}; time.sleep(600)"
DEAF = """
while True:
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        pass
"""


def send(*numbers, pause=0.5):
    """A `then` that waits for the first cell to begin, and sends the runner signals with a pause between them."""

    def then(execution):
        execution.until("begun")
        for number in numbers:
            execution.sent = time.time()
            if execution.code is None:  # the first may have ended it
                execution.signal(number)
            time.sleep(pause * (number != numbers[-1]))

    return then


# --- success


EVERYWHERE = """
import mlflow, os, threading, subprocess, sys, multiprocessing
with mlflow.start_run():
    mlflow.log_metric("within", 1)
with mlflow.start_run(run_id=mlflow.last_active_run().info.run_id):
    mlflow.log_metric("again", 2)
mlflow.log_metric("after", 3)
mlflow.set_experiment("somewhere else")
mlflow.log_metric("elsewhere", 4)
thread = threading.Thread(target=mlflow.log_metric, args=("thread", 5))
thread.start(), thread.join()
mlflow.end_run("FAILED")
"""
SUBPROCESS = 'subprocess.run([sys.executable, "-c", "import mlflow; mlflow.log_metric(\'subprocess\', 6)"], check=True)'
FIGURE = """
%matplotlib inline
import matplotlib.pyplot as plt
plt.plot([1, 2]); plt.show(); plt.plot([2, 1]); plt.show()
"""


@injected(EVERYWHERE, SUBPROCESS, FIGURE, options=("-p", "seed", "3"))
def test_a_success_is_one_complete_run_wherever_its_cells_log(execution):
    run = check_nothing_left(execution)
    assert (execution.code, run.info.status) == (0, "FINISHED"), execution.printed
    assert {"within", "again", "after", "elsewhere", "thread", "subprocess"} <= set(
        run.data.metrics
    )
    assert run.data.params == {"seed": "3"}
    assert not [tag for tag in run.data.tags if tag.startswith("mlflow.workbook.error")]
    check_kept(execution)


@injected(FIGURE, BEGIN, options=("-p", "seed", "3"))
def test_figures_pages_durations_and_identity_are_kept_without_a_line_of_code(execution):
    run, client = execution.run, execution.store.client
    figures = [f.path for f in client.list_artifacts(run.info.run_id, "figures")]
    assert not visible(run.data.tags) and liveness.HEARTBEAT not in run.data.tags
    assert "artifacts/notebook.html" in run.data.tags[liveness.NOTE]
    assert not visible(client.get_experiment(run.info.experiment_id).tags)
    assert figures == ["figures/cell_03.png", "figures/cell_03_2.png"]
    assert execution.artifact("notebook.html").lstrip().lower().startswith("<!doctype html")
    steps = [m.step for m in client.get_metric_history(run.info.run_id, "notebook/cell_seconds")]
    assert sorted(steps) == [1, 2, 3, 4]  # parameters, injected parameters, and two cells
    assert (
        run.data.metrics["notebook/seconds"] > 0
        and run.data.metrics["notebook/peak_memory_mb"] > 20
    )
    assert run.data.tags["mlflow.source.name"].endswith(f"{execution.name}.ipynb")
    assert run.data.tags["mlflow.user"] and run.data.tags["mlflow.source.type"] == "NOTEBOOK"
    assert (
        run.data.tags["mlflow.workbook.notebook"] == execution.name
        and "seed=3" in run.info.run_name
    )


SECRET = 'a "s3cret"\\ & <more>'
SAVED = """
import shutil
from pathlib import Path
shutil.copy(next(Path().glob("*_out.ipynb")), "meanwhile.ipynb")
token
"""


@injected(
    f"{BEGIN}; print(token)",
    "time.sleep(1.1); print('and save')",
    SAVED,
    command=PAPERMILL,
    parameters="token: str = ''  # of a service",
    options=("-p", "token", "env:MINE", "--autosave-cell-every", "1"),
    environment={"MINE": SECRET},
)
def test_plain_papermill_makes_the_same_run_and_no_copy_shows_a_secret(execution):
    run = check_nothing_left(execution)
    assert (execution.code, run.info.status) == (0, "FINISHED"), execution.printed
    assert run.data.params == {"token": "env:MINE"}
    check_kept(execution)
    meanwhile = (execution.folder / "meanwhile.ipynb").read_text("utf-8")
    kept = [meanwhile, execution.output.read_text("utf-8"), execution.artifact("notebook.html")]
    assert all("••••••" in text and "s3cret" not in text for text in kept)


FORK = """
import mlflow, os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
mlflow.log_metric("before", 1)
child = os.fork()
if child == 0:
    try:
        mlflow.log_metric("child", 2)
    finally:
        os._exit(0)
os.waitpid(child, 0)
with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
    list(pool.map(mlflow.log_metric, ["pool_a", "pool_b"], [3, 4]))
mlflow.log_metric("after", 5)
"""


@injected(FORK)
def test_forked_children_log_to_the_same_run(execution):
    run = check_nothing_left(execution)
    assert run.info.status == "FINISHED", execution.printed
    assert {"before", "child", "pool_a", "pool_b", "after"} <= set(run.data.metrics)


LEFT_OPEN = """
import mlflow
mlflow.start_run()
mlflow.start_run(nested=True, run_name="left open")
with mlflow.start_run(nested=True, run_name="ended") as child:
    below = {"mlflow.parentRunId": child.info.run_id}
    mlflow.MlflowClient().create_run(child.info.experiment_id, run_name="below", tags=below)
"""


@injected(LEFT_OPEN, "1/0")
def test_runs_below_it_that_were_left_open_end_with_the_notebooks(execution):
    runs = {run.info.run_name: run for run in execution.runs}
    wanted = {"left open": "FAILED", "ended": "FINISHED", "below": "FAILED"}
    assert {name: runs.pop(name).info.status for name in wanted} == wanted
    assert [run.info.status for run in runs.values()] == ["FAILED"]


# --- cells that fail


@injected("import mlflow; mlflow.start_run()", "1/0", "print('never')")
def test_a_cell_that_raises_fails_the_run_although_the_notebook_opened_it(execution):
    check_failed(
        execution, "FAILED", "division by zero", error="ZeroDivisionError", error_cell="^3$"
    )
    assert "cell 3" in execution.printed and str(execution.output.name) in execution.printed
    cells = nbformat.read(execution.output, as_version=4).cells
    assert "never" not in str(cells[-1].outputs)


@injected("1/0", command=PAPERMILL)
def test_papermill_ends_with_its_own_error_for_a_cell_that_raises(execution):
    run = check_nothing_left(execution)
    assert (execution.code, run.info.status) == (1, "FAILED")
    assert "PapermillExecutionError" in execution.printed
    check_kept(execution)


@injected("quit()", "print('never')")
def test_a_quit_is_as_a_sys_exit_however_quick_the_cells_after_it_are(execution):
    check_failed(
        execution, "FAILED", r"stopped at cell 2 of 3 by quit", error="SystemExit", error_cell="^2$"
    )


@injected("import sys; sys.exit(0)", "print('never')")
def test_a_sys_exit_of_zero_is_a_failure(execution):
    check_failed(
        execution, "FAILED", "stopped at cell 2 of 3", error="SystemExit", error_cell="^2$"
    )
    assert execution.code == 1


@pytest.mark.soak
@injected("this is no Python")
def test_a_syntax_error_is_a_failure(execution):
    check_failed(execution, "FAILED", "SyntaxError|invalid syntax", error_cell="^2$")


# --- kernels that die


@pytest.mark.soak
@injected("import os; os._exit(3)", "print('never')")
def test_an_os_exit_is_a_dead_kernel(execution):
    check_failed(
        execution,
        "FAILED",
        "kernel died in cell 2 of 3.*exit status 3",
        error="DeadKernel",
        error_cell="^2$",
    )


@injected(
    "import os, signal, time; keep = b'x' * 300_000_000; time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)"
)
def test_a_killed_kernel_is_named_with_its_peak_memory(execution):
    run = check_failed(execution, "FAILED", r"SIGKILL.*out of memory.*peak was [\d,]+ MiB")
    assert run.data.metrics["notebook/peak_memory_mb"] > 300


LIMITED = """
import resource
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)
hoard = []
while True:
    hoard.append(bytearray(20_000_000))
"""


@injected(LIMITED, "print('never')")
def test_a_memory_limit_of_the_system_fails_the_run(execution):
    check_failed(execution, "FAILED", "MemoryError|out of memory", error_cell="^2$")


@injected("import ctypes; ctypes.string_at(0)")
def test_a_segmentation_fault_is_named_and_its_log_kept(execution):
    check_failed(execution, "FAILED", "kernel died.*SIGSEGV")
    assert "Segmentation fault" in execution.artifact("kernel.log")


CHILDREN = """
import os, subprocess, signal
for options in ({}, {"start_new_session": True}, {"env": {}}):
    subprocess.Popen(["/bin/sh", "-c", "sleep 432 & sleep 432"], **options)
open('children', 'w').write('1')
"""


def note_children(execution):
    """Write down who runs under the kernel, before it ends."""
    execution.until("children")


@injected(CHILDREN, "os.kill(os.getpid(), signal.SIGKILL)")
def test_no_grandchild_of_a_killed_kernel_is_left(execution):
    check_failed(execution, "FAILED", "SIGKILL")
    assert not still_sleeping(execution)


@injected(CHILDREN, "print('done')")
def test_no_grandchild_of_a_finished_notebook_is_left(execution):
    assert check_nothing_left(execution).info.status == "FINISHED"
    assert not still_sleeping(execution)


def still_sleeping(execution):
    """The `sleep 432` that work in the folder of the execution."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if place.resolve() == execution.folder.resolve():
                found.append((place.parent / "cmdline").read_bytes())
        except OSError:
            continue
    return [line for line in found if b"432" in line]


# --- limits


@injected(f"{BEGIN}\nwhile True: pass", options=("--cell-timeout", "2"), then=send())
def test_an_endless_cell_is_stopped_at_its_limit(execution):
    run = check_failed(
        execution, "FAILED", "cell 2 ran over its limit of 2 s", error="Timeout", error_cell="^2$"
    )
    begun = (execution.folder / "begun").stat().st_mtime
    assert run.info.end_time / 1000 - begun < 12  # within 10 s of the limit


@injected(BEGIN + DEAF, options=("--cell-timeout", "2"))
def test_a_cell_that_swallows_the_interrupt_is_killed(execution):
    run = check_failed(execution, "FAILED", "cell 2 ran over its limit of 2 s", error="Timeout")
    assert run.info.end_time / 1000 - (execution.folder / "begun").stat().st_mtime < 12


FORGIVING = "import time\ntry:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    pass"


@pytest.mark.soak
@injected(FORGIVING, options=("--cell-timeout", "1"))
def test_a_cell_over_its_limit_fails_although_it_goes_on_to_its_end(execution):
    check_failed(execution, "FAILED", "cell 2 ran over its limit of 1 s", error_cell="^2$")


@injected("import time; time.sleep(2)", "time.sleep(600)", options=("--timeout", "4"))
def test_a_notebook_over_its_limit_is_stopped(execution):
    check_failed(execution, "FAILED", "the notebook ran over its limit of 4 s", error="Timeout")


# --- signals to the runner


@injected(SLEEP, "print('never')", then=send(signal.SIGINT))
def test_ctrl_c_kills_the_run_and_its_kernel(execution):
    check_failed(
        execution, "KILLED", "interrupted", error="KeyboardInterrupt", error_message="cell 2 of 3"
    )
    assert execution.code == 130


@injected(SLEEP, then=send(signal.SIGTERM))
def test_sigterm_kills_the_run_within_five_seconds(execution):
    run = check_failed(
        execution, "KILLED", "", error="SystemExit", error_message=r"SIGTERM.*cell 2 of 2"
    )
    assert execution.code == 143
    busy = max(1, os.getloadavg()[0] / os.cpu_count())
    assert run.info.end_time / 1000 - execution.sent < 5 * busy


@injected(BEGIN + DEAF, then=send(signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGINT))
def test_an_impatient_user_loses_nothing(execution):
    check_failed(execution, "KILLED", "interrupted", error="KeyboardInterrupt")


@pytest.mark.soak
@injected(
    BEGIN + DEAF, then=send(signal.SIGINT, signal.SIGINT, signal.SIGINT, signal.SIGINT, pause=0.02)
)
def test_a_key_held_down_loses_nothing(execution):
    check_failed(execution, "KILLED", "interrupted", error="KeyboardInterrupt")


def interrupt_the_start(execution):
    """Send Ctrl-C at the moment at which the kernel's connection file appears."""
    wait_for(execution.connections, execution)
    os.kill(execution.pid, signal.SIGINT)


@injected(SLEEP, then=interrupt_the_start)
def test_ctrl_c_while_the_kernel_starts_kills_the_run(execution):
    check_failed(execution, "KILLED", "interrupted", error="KeyboardInterrupt")


def interrupt_the_opening(execution):
    """Send SIGTERM as soon as the run is in the store."""
    wait_for(lambda: execution.runs, execution)
    os.kill(execution.pid, signal.SIGTERM)


@injected(SLEEP, then=interrupt_the_opening)
def test_sigterm_right_after_the_run_was_opened_kills_it(execution):
    check_failed(execution, "KILLED", "", error="SystemExit")


def delete_its_run(execution):
    """Delete the run under way, as the UI does."""
    execution.until("begun")
    execution.store.client.delete_run(execution.run.info.run_id)


@injected(SLEEP, then=delete_its_run)
def test_a_run_that_is_deleted_under_way_ends_with_one_line_and_is_killed_if_restored(execution):
    run = check_nothing_left(execution)
    assert execution.code == 1 and "Traceback" not in execution.printed, execution.printed
    assert f"the run {run.info.run_id} was deleted meanwhile" in execution.printed
    assert (run.info.lifecycle_stage, run.info.status) == ("deleted", "KILLED")
    facts = nbformat.read(execution.output, as_version=4).metadata.papermill
    assert facts.exception is True


# --- output


BAD_IMAGE = """
from IPython.display import display
display({"image/png": "abcde", "text/plain": "broken"}, raw=True)
display({"application/x-own+json": {"a": [1, None]}, "text/html": 7}, raw=True)
display({"application/vnd.vegalite.v6.json": {"mark": "bar"}, "text/plain": "Altair's"}, raw=True)
print("caf\\udce9")
"""
BYTES = 'import subprocess; subprocess.run(["printf", "caf\\\\351\\\\n"], check=True)'


@injected(BYTES, BAD_IMAGE, "1")
def test_outputs_that_no_page_can_show_do_not_lose_the_run(execution):
    run = check_nothing_left(execution)
    assert run.info.status == "FINISHED" and "Traceback" not in execution.printed, execution.printed
    assert "caf\ufffd" in execution.artifact("kernel.log")
    assert nbformat.read(execution.output, as_version=4).cells


FLOOD = """
for i in range(100_000):
    print(i)
"""
TORRENT = "for i in range(100): print('x' * 1_000_000)"
RICH = (
    "from IPython.display import HTML, display\nfor i in range(30): display(HTML('y' * 1_000_000))"
)


@injected(FLOOD, TORRENT, RICH)
def test_a_flood_of_output_is_cut_and_said(execution):
    run = check_nothing_left(execution)
    assert run.info.status == "FINISHED", execution.printed
    assert execution.output.stat().st_size < 30_000_000
    cells = nbformat.read(execution.output, as_version=4).cells
    assert "99999" in str(cells[1].outputs) and "output cut" not in str(cells[1].outputs)
    assert all("output cut" in cell.outputs[-1].text for cell in cells[2:])
    check_kept(execution)


def test_nothing_is_left_of_all_these_runs(executions, store):
    for execution in executions.values():
        execution.result()
    runs = store.runs()
    assert not [run.info.run_name for run in runs if run.info.status == "RUNNING"]
    assert not [p for run in runs for p in processes_of(run.info.run_id)]
