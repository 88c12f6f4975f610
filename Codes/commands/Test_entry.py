"""A command that is forked from the template is as one that Python starts, whatever happens to it or around it."""

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import psutil
import pytest

from Codes.testing.testbed import wait_for
from Codes.forks import channel, command_client
from Codes.warm import templates
from Codes.warm.Test_warm import is_gone, workbook_copy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="warm commands need Linux")
WORKBOOK = Path(sys.executable).parent / "workbook"
# in the copy's code, in place of a command that is quick: it executes what it is given
PROBE = """
import click
@click.command()
@click.argument("code")
def problems(code):
    exec(code, {})
"""
ALL = """
import json, os, resource, signal, sys
ignored = [int(n) for n in signal.valid_signals() if signal.getsignal(n) == signal.SIG_IGN]
fds = sorted(map(int, os.listdir("/proc/self/fd")))[:-1]
print(json.dumps([sys.argv, sys.orig_argv, sys.path, dict(os.environ), os.getcwd(), os.umask(0), ignored, fds,
    resource.getrlimit(resource.RLIMIT_NOFILE), sys.stdin.read(), sys.stdout.isatty(), __import__("__main__").__file__]))
"""
SET_BY_LIBRARIES = {
    "KMP_DUPLICATE_LIB_OK",
    "KMP_INIT_AT_FORK",
    "PYDEVD_USE_FRAME_EVAL",
}  # as they load
WAITING = "import os, time\nprint(os.getpid(), flush=True)\nfor _ in range(3000): time.sleep(0.1)"


@contextlib.contextmanager
def warm_copy(patch):
    """A copy of the workbook whose command `problems` executes code, and its template, which is there."""
    with workbook_copy(patch) as tree:
        (tree / "Codes/commands/problem_commands.py").write_text(PROBE)
        client = (
            tree / "Codes/forks/command_client.py"
        )  # it may wait for as long as a busy machine takes
        assert "PATIENCE = 2.0" in (text := client.read_text("utf-8"))
        client.write_text(text.replace("PATIENCE = 2.0", "PATIENCE = 100.0"), "utf-8")
        patch.delenv(command_client.COLD, raising=False)
        try:
            assert parent() == os.getpid()
            wait_for(templates.found)
            yield tree
        finally:
            for each in templates.found():
                os.kill(each.pid, signal.SIGKILL)


@pytest.fixture(name="tree", scope="module")
def fixture_tree():
    """A copy of the workbook whose template is there, and stays."""
    with pytest.MonkeyPatch.context() as patch, warm_copy(patch) as tree:
        yield tree


def run(code, **options):
    """`workbook problems CODE`, ended."""
    options = {"text": True, "capture_output": True, "timeout": 100} | options
    return subprocess.run([WORKBOOK, "problems", code], check=False, **options)


def parent():
    """Who has started a command: this process, or a template."""
    return int(run("import os; print(os.getppid())").stdout)


@contextlib.contextmanager
def running(code=WAITING):
    """A command that waits, as (its client, its process id)."""
    with subprocess.Popen(
        [WORKBOOK, "problems", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as client:
        try:
            pid = int(client.stdout.readline())
            assert pid != client.pid
            yield client, pid
        finally:
            client.kill()


def are_stopped(*pids):
    """Which of stopped (True) and running (False) the processes `pids` are."""
    return {psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in pids}


def test_it_has_its_callers_arguments_environment_folder_streams_and_limits(tree, tmp_path):
    def told(**more):
        done = run(
            ALL,
            input="what is piped",
            cwd=tmp_path,
            env=os.environ | {"OWN": "ü", "EMPTY": ""} | more,
            umask=0o027,
        )
        return dict(enumerate(json.loads(done.stdout)))

    assert parent() == templates.found()[0].pid
    warm, cold = told(), told(**{command_client.COLD: "1"})
    del cold[3][command_client.COLD]
    added = {name: warm[3].pop(name) for name in warm[3].keys() - cold[3].keys()}
    assert set(added) <= SET_BY_LIBRARIES
    assert warm[7].pop() == 3 and warm[7] == cold[7]  # by the one more it sees its client's end
    assert {n: each for n, each in warm.items() if each != cold[n]} == {}
    assert warm[9] == "what is piped" and tree.exists()


@pytest.mark.parametrize(
    "code, status",
    [
        ("raise SystemExit(3)", 3),
        ("import os; os.kill(os.getpid(), 15)", 143),  # SIGTERM ends a command in order
        ("import os; os.kill(os.getpid(), 10)", -10),
        ("1 / 0", 1),
        ("from Codes.ground.errors import WorkbookError as E; raise E('no')", 1),
    ],
)
def test_it_ends_as_the_command_does(tree, code, status):
    done = run(code)
    assert done.returncode == status and tree.exists()
    assert ("ZeroDivisionError" in done.stderr) == ("1 / 0" in code)


def test_ctrl_c_at_the_client_interrupts_the_command_which_says_so(tree):
    with running() as (client, pid):
        client.send_signal(signal.SIGINT)
        assert client.wait(60) == 130 and is_gone(pid)
        assert client.stderr.read() == "interrupted\n" and tree.exists()


def test_a_killed_client_ends_its_command(tree):
    with running() as (client, pid):
        client.kill()
        wait_for(lambda: is_gone(pid))
    assert parent() == templates.found()[0].pid and tree.exists()


def test_a_stopped_client_stops_its_command_until_it_goes_on(tree):
    with running() as (client, pid):
        client.send_signal(signal.SIGTSTP)
        wait_for(lambda: are_stopped(pid, client.pid) == {True})
        client.send_signal(signal.SIGCONT)
        wait_for(lambda: are_stopped(pid, client.pid) == {False})
    assert tree.exists()


def test_it_sees_the_terminal_and_its_width(tree):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    code = "import os, sys; print(sys.stdin.isatty(), sys.stdout.isatty(), os.get_terminal_size())"
    done = run(code, stdin=slave, stdout=slave, stderr=slave, capture_output=False)
    assert done.returncode == 0 and tree.exists()
    assert os.read(master, 999).decode().startswith("True True os.terminal_size(columns=77")
    os.close(master)
    os.close(slave)


def test_own_code_is_there_already_until_a_file_of_it_is_edited(tree):
    loaded = (
        "import sys; print(sys.modules['Codes.stores.store'].__dict__.get('EDITED', 'as it was'))"
    )
    had = "import sys; print('Codes.stores.moved' in sys.modules)"
    template = [each.pid for each in templates.found()]
    assert run(had).stdout == "True\n" and run(loaded).stdout == "as it was\n"
    file = tree / "Codes/stores/store.py"
    text = file.read_text("utf-8")
    try:
        file.write_text(text + "\nEDITED = 'edited'\n", "utf-8")
        edited = "from Codes.stores import store; print(store.EDITED)"
        assert run(had).stdout == "False\n" and run(edited).stdout == "edited\n"
        assert [each.pid for each in templates.found()] == template
    finally:
        file.write_text(text, "utf-8")


def test_own_code_is_never_stale(tree):
    helper = tree / "Codes/commands/own_helper.py"
    for number in (1, 22):
        helper.write_text(f"NUMBER = {number}\n")
        assert run("from Codes.commands.own_helper import NUMBER; print(NUMBER)").stdout == (
            f"{number}\n"
        )
    assert parent() == templates.found()[0].pid


def test_a_client_that_does_not_wait_for_its_answer_leaves_no_command(tree, tmp_path, monkeypatch):
    witness = tmp_path / "witness"
    monkeypatch.setattr(sys, "argv", ["workbook", "problems", f"open({str(witness)!r}, 'w')"])
    path = next(channel.folder().glob("*.commands.sock"))
    with channel.connection_to(path, 60) as connection:
        channel.send(connection, command_client.request("Codes.commands.cli"), [0, 1, 2])
    wait_for(lambda: [each.forks for each in templates.found()] == [0])
    assert not witness.exists() and tree.exists()


def test_templates_are_ended_by_their_own_checkout_only_and_commands_go_on_without(
    monkeypatch, tmp_path
):
    with warm_copy(monkeypatch) as tree:
        (there,) = templates.found()
        assert (there.kind, there.checkout) == ("commands", tree) and there.memory > 1e6
        with monkeypatch.context() as other:
            other.setattr(channel, "ROOT", tmp_path)
            assert not templates.stop() and templates.found()
        with running() as (client, pid):
            os.kill(there.pid, signal.SIGKILL)
            wait_for(lambda: not templates.found())
            os.kill(pid, signal.SIGTERM)
            assert client.wait(60) == command_client.UNKNOWN
        assert parent() == os.getpid()  # in the ordinary way, and lets another be started
        wait_for(templates.found)
        assert parent() == templates.found()[0].pid
        (tree / "Resources/warm.yaml").touch()
        assert parent() == os.getpid()  # it would be another now
        wait_for(templates.found)
        assert len(templates.stop()) == 1 and not templates.found()
        assert parent() == os.getpid()
