"""A module in a process apart: a fork is as one that Python starts, and does not outlive who asked for it."""

import json
import os
import subprocess
import sys

import pytest

from Codes.commands.Test_entry import SET_BY_LIBRARIES, warm_copy
from Codes.forks import channel
from Codes.testing.testbed import wait_for
from Codes.warm import templates
from Codes.warm.Test_warm import is_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks need Linux")
# in the copy's code: a module that executes what it is given
MODULE = "import sys\ndef main(): exec(sys.argv[1], {})\nif __name__ == '__main__': main()\n"
ALL = """
import json, os, sys
print(json.dumps([sys.argv, sys.orig_argv, sys.path, dict(os.environ), os.getcwd(), sys.stdin.read(), os.getppid(),
    __import__("__main__").__file__, len(sys.modules)]))
"""
ASK = """
import json, os, sys
from Codes.forks import apart
done = apart.run("Codes.executes", [sys.argv[1]], os.environ | {"OWN": "ü"}, float(sys.argv[2]))
print(json.dumps([done.returncode, done.stdout, done.stderr]))
"""


@pytest.fixture(name="tree", scope="module")
def fixture_tree():
    """A copy of the workbook with a template, and with the module that executes code."""
    with pytest.MonkeyPatch.context() as patch, warm_copy(patch) as tree:
        (tree / "Codes/executes.py").write_text(MODULE)
        yield tree


def asking(code, seconds=100, **more):
    """A process that asks for a fork which executes `code`, and waits at most `seconds` for it."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", ASK, code, str(seconds)],
        env=os.environ | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(code, seconds=100, **more):
    """[exit status, stdout, stderr] of the fork that executes `code`."""
    with asking(code, seconds, **more) as process:
        return json.loads(process.communicate()[0])


def test_it_is_as_one_that_python_starts(tree):
    inline = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    warm, cold = (
        json.loads(answer(ALL, **inline, **more)[1]) for more in ({}, {channel.COLD: "1"})
    )
    assert warm.pop(6) in {each.pid for each in templates.found()} and cold.pop(6)
    del cold[3][channel.COLD]
    added = {name: warm[3].pop(name) for name in warm[3].keys() - cold[3].keys()}
    assert set(added) <= SET_BY_LIBRARIES and "MPLBACKEND" not in warm[3] and warm[3]["OWN"] == "ü"
    assert warm[:-1] == cold[:-1] and warm[5] == "" and warm[4] == str(tree)


@pytest.mark.parametrize("cold", ["", "1"])
def test_its_end_and_its_words_are_told(tree, cold):
    for code, status, words in [
        ("sys = __import__('sys'); sys.exit('no')", 1, "no\n"),
        ("import os; os.kill(os.getpid(), 15)", -15, ""),
        ("raise SystemExit(3)", 3, ""),
    ]:
        assert answer(code, **{channel.COLD: cold}) == [status, "", words]
    assert tree.exists()


def test_one_that_takes_too_long_is_ended(tree, tmp_path):
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    with asking(code, 5) as process:
        assert "TimeoutExpired" in process.communicate()[1] and tree.exists()
    written = tmp_path / "pid"
    assert not written.exists() or is_gone(int(written.read_text()))


def test_it_ends_with_who_asked_for_it(tree, tmp_path):
    written = tmp_path / "pid"
    code = f"import os, time; open({str(written)!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    with asking(code) as process:
        wait_for(lambda: written.exists() and written.read_text())
        process.kill()
    wait_for(lambda: is_gone(int(written.read_text())))
    assert tree.exists()
