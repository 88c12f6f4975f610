"""Who is alive: dead runners' runs are closed as KILLED, living ones never, and a late write is refused."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from Codes.runs import liveness
from Codes.testing.testbed import PATIENCE, check_nothing_left, processes_of, wait_for

BEGIN = "import time; open('begun', 'w').write('1')"
SLEEP = f"{BEGIN}; time.sleep(600)"
NAP = f"{BEGIN}\nfrom pathlib import Path\nwhile not Path('wake').exists(): time.sleep(0.1)"
ELSEWHERE = "another boot"


def owner(**changes):
    """The tag of this process as an owner, with `changes`."""
    return json.dumps(json.loads(liveness.me()) | changes)


def beat(**ago):
    """A heartbeat that lies so far back (negative: in the future)."""
    return (datetime.now(timezone.utc) - timedelta(**ago)).isoformat(timespec="seconds")


def killed(pid):
    """Whether the process is gone, or waits to be collected."""
    return not liveness._start(pid)  # pylint: disable=protected-access


@pytest.fixture(scope="module", name="cases")
def fixture_cases(store):
    """{case: its run's tags} and the runs that one call of close_dead_runs has closed."""
    sleeper = subprocess.Popen(["sleep", "600"])  # pylint: disable=consider-using-with
    corpse = subprocess.Popen([sys.executable, "-c", ""])  # pylint: disable=consider-using-with
    gone = subprocess.Popen(["true"])  # pylint: disable=consider-using-with
    gone.wait()
    wait_for(
        lambda: Path(f"/proc/{corpse.pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
        == "Z"
    )
    start = Path(f"/proc/{corpse.pid}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
    tags = {
        "here, the clock jumped a day ahead": (owner(), beat(days=1)),
        "here, the clock jumped a day back": (owner(), beat(days=-1)),
        "here, its process id belongs to another": (owner(pid=sleeper.pid), beat()),
        "here, its process is gone": (owner(pid=gone.pid), beat()),
        "here, its process was never collected": (owner(pid=corpse.pid, start=start), beat()),
        "elsewhere, beating": (owner(boot=ELSEWHERE, pid=1), beat()),
        "elsewhere, beating by a clock that is an hour behind": (
            owner(boot=ELSEWHERE, pid=1),
            beat(hours=1),
        ),
        "elsewhere, standing still": (owner(boot=ELSEWHERE), beat(minutes=1)),
        "elsewhere, without any heartbeat since its start": (owner(boot=ELSEWHERE), None),
        "of no owner": (None, beat(days=1)),
        "of an owner that somebody garbled": ("{", beat(days=1)),
        "of an owner without its process": (owner(pid=None), beat(days=1)),
        "ended long ago": (owner(pid=gone.pid), beat(days=1)),
    }
    runs = {case: make_run(store, *pair) for case, pair in tags.items()}
    liveness.set_status(store.client, runs["ended long ago"], "FINISHED")
    late = "elsewhere, beating by a clock that is an hour behind"
    beating, ended = runs[late], threading.Event()
    thread = threading.Thread(target=keep_beating, args=(store, beating, ended))
    thread.start()
    try:
        yield runs, close_from_here(store)
    finally:
        ended.set()
        thread.join()
        sleeper.kill()
        sleeper.wait()
        corpse.wait()


def make_run(store, owner_tag, heartbeat):
    """A running run with these tags that began an hour ago; its id."""
    tags = {liveness.OWNER: owner_tag, liveness.HEARTBEAT: heartbeat}
    began = int((time.time() - 3600) * 1000)
    return store.client.create_run("0", began, {k: v for k, v in tags.items() if v}).info.run_id


def keep_beating(store, run_id, ended):
    """Beat as a machine does whose clock is an hour behind."""
    while not ended.wait(1):
        store.client.set_tag(run_id, liveness.HEARTBEAT, beat(hours=1))


def close_from_here(store, **environment):
    """Let this process be the next command: the ids of the runs that it closes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        for name, value in environment.items():
            patch.setenv(name, value)
        return liveness.close_dead_runs()


def stop(execution):
    """Stop the runner, at a moment at which it does not hold the store's lock: nobody could write until it goes on."""
    while True:
        execution.signal(signal.SIGSTOP)
        try:
            with sqlite3.connect(
                execution.store.uri.removeprefix("sqlite:///"), timeout=1
            ) as connection:
                connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError:
            execution.signal(signal.SIGCONT)
            time.sleep(0.01)
        finally:
            connection.close()


@pytest.mark.parametrize(
    "case",
    [
        "here, the clock jumped a day ahead",
        "here, the clock jumped a day back",
        "elsewhere, beating",
        "elsewhere, beating by a clock that is an hour behind",
        "of no owner",
    ],
)
def test_a_run_that_may_be_alive_is_left_alone(cases, store, case):
    runs, closed = cases
    assert runs[case] not in closed
    assert store.client.get_run(runs[case]).info.status == "RUNNING"


@pytest.mark.parametrize(
    "case",
    [
        "here, its process id belongs to another",
        "here, its process is gone",
        "here, its process was never collected",
        "elsewhere, standing still",
        "elsewhere, without any heartbeat since its start",
        "of an owner that somebody garbled",
        "of an owner without its process",
    ],
)
def test_a_run_whose_owner_is_gone_is_closed(cases, store, case):
    runs, closed = cases
    run = store.client.get_run(runs[case])
    assert runs[case] in closed and run.info.status == "KILLED"
    assert run.data.tags[liveness.CLOSED] and run.data.tags[liveness.ERROR]


def test_a_run_that_has_ended_is_never_written_over(cases, store):
    runs, closed = cases
    assert runs["ended long ago"] not in closed
    assert store.client.get_run(runs["ended long ago"]).info.status == "FINISHED"


def test_a_killed_runners_run_is_closed_by_the_next_command_and_its_kernel_ended(own_store):
    dead = own_store.start("dead", SLEEP)
    dead.until("begun")
    alive = own_store.start("alive", NAP)
    alive.until("begun")
    dead.signal(signal.SIGKILL)
    dead.finish()
    assert dead.run.info.status == "RUNNING"  # MLflow alone would leave it so for ever
    following = own_store.start("following", "1").finish()
    assert following.code == 0 and dead.run.info.run_id in following.printed, following.printed
    assert dead.run.info.status == "KILLED" and "killed" in dead.run.data.tags[liveness.ERROR]
    assert not processes_of(dead.run.info.run_id)
    assert alive.run.info.status == "RUNNING" and liveness.CLOSED not in alive.run.data.tags
    (alive.folder / "wake").write_text("1")
    assert alive.finish().code == 0 and check_nothing_left(alive).info.status == "FINISHED"


def test_what_is_nested_in_a_dead_run_ends_with_it_but_for_what_has_an_owner(own_store):
    client = own_store.client
    elsewhere = client.create_experiment("elsewhere")
    dead = make_run(own_store, owner(start="0"), beat())
    child, trial = (
        client.create_run(elsewhere, tags={"mlflow.parentRunId": dead} | tags).info.run_id
        for tags in ({}, {liveness.OWNER: owner(), liveness.HEARTBEAT: beat()})
    )
    grandchild = client.create_run("0", tags={"mlflow.parentRunId": child}).info.run_id
    assert close_from_here(own_store) == [dead]
    statuses = [client.get_run(run).info.status for run in (dead, child, grandchild, trial)]
    assert statuses == ["KILLED", "KILLED", "KILLED", "RUNNING"]


def test_a_stopped_runner_is_stale_after_the_grace_time_and_its_late_write_refused(own_store):
    stopped = own_store.start("stopped", NAP)
    stopped.until("begun")
    stop(stopped)
    (stopped.folder / "wake").write_text("1")
    time.sleep(2.1)
    assert close_from_here(own_store) == []  # within the grace time: a laptop's lid, a Ctrl-Z
    run_id = stopped.run.info.run_id
    assert close_from_here(own_store, WORKBOOK_GRACE_SECONDS="1") == [run_id]
    before = stopped.run
    assert before.info.status == "KILLED" and not processes_of(run_id)
    stopped.signal(signal.SIGCONT)
    assert stopped.finish().code == 1
    assert (
        "closed by another command" in stopped.printed and "Traceback" not in stopped.printed
    ), stopped.printed
    after = check_nothing_left(stopped)
    assert after.info.status == "KILLED" and after.data.metrics == before.data.metrics
    assert not stopped.artifacts() and stopped.output.exists()


def stopped_while_it_records(store, name):
    """An execution that was stopped between its last artifact and its status; None where it was too fast for that."""
    slow = store.start(name, BEGIN)
    known = set(store.folder.glob("mlruns/**/notebook.html"))
    wait_for(lambda: set(store.folder.glob("mlruns/**/notebook.html")) - known, slow)
    try:
        stop(slow)
        ended = ("stopped", "zombie")
        wait_for(lambda: liveness.psutil.Process(slow.pid).status() in ended, slow)
        time.sleep(2.1)
        if slow.run.info.status == "RUNNING":
            return slow
        slow.signal(signal.SIGKILL)
    except (liveness.psutil.NoSuchProcess, ProcessLookupError):
        pass
    return None


@pytest.mark.soak
def test_a_runner_stopped_while_it_records_can_not_overwrite_its_closing(own_store):
    tries = (stopped_while_it_records(own_store, f"slow{i}") for i in range(5))
    slow = next(filter(None, tries), None)
    if slow is None:
        pytest.skip("it was too fast to be stopped in time")
    run_id = slow.run.info.run_id
    assert close_from_here(own_store, WORKBOOK_GRACE_SECONDS="1") == [run_id]
    slow.signal(signal.SIGCONT)
    assert slow.finish().code == 1
    assert slow.run.info.status == "KILLED" and "Traceback" not in slow.printed, slow.printed


def test_a_runner_on_another_machine_is_judged_by_whether_its_heart_stands_still(own_store):
    remote = own_store.start("remote", SLEEP)
    remote.until("begun")
    run_id, client = remote.run.info.run_id, own_store.client
    there = json.loads(remote.run.data.tags[liveness.OWNER]) | {
        "boot": ELSEWHERE,
        "pid": 1,
        "start": "1",
    }
    client.set_tag(run_id, liveness.OWNER, json.dumps(there))
    client.set_tag(
        run_id, liveness.HEARTBEAT, beat(hours=1)
    )  # so that it is suspected, and watched
    assert close_from_here(own_store) == [] and remote.run.info.status == "RUNNING"
    stop(remote)
    client.set_tag(run_id, liveness.HEARTBEAT, beat(minutes=1))
    assert close_from_here(own_store) == [run_id]
    os.kill(remote.pid, signal.SIGCONT)
    assert remote.finish(PATIENCE).code == 1 and remote.run.info.status == "KILLED", remote.printed
