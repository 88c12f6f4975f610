"""The official conformance suite of kernels passes for the warm kernel where it does for python3."""

# pylint: disable=protected-access,invalid-name,missing-function-docstring
# the suite is unittest's

import unittest
from concurrent.futures import ThreadPoolExecutor

import jupyter_kernel_test
import pytest
from jupyter_client.manager import start_new_kernel

from Codes.forks.fork import Fork


class Samples(jupyter_kernel_test.KernelTests):  # pylint: disable=abstract-method
    """What the suite has a Python kernel do."""

    __test__ = False  # pytest is not to run it by itself
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples = [
        {"text": "zi", "matches": {"zip"}},
        {"text": "import linecac", "matches": {"linecache"}},
    ]
    complete_code_samples = ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n"]
    incomplete_code_samples = ["print('''hello", "def f(x):\n  x*2"]
    invalid_code_samples = ["import = 7q"]
    code_page_something = "zip?"
    code_generate_error = "raise"
    code_execute_result = [
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
    ]
    code_display_data = [
        {
            "code": "from IPython.display import HTML, display; display(HTML('<b>x</b>'))",
            "mime": "text/html",
        },
        {
            "code": "from IPython.display import Math, display; display(Math('\\\\frac{1}{2}'))",
            "mime": "text/latex",
        },
    ]
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"


class Cold(Samples):  # pylint: disable=abstract-method
    """The ordinary kernel."""

    kernel_name = "python3"


class Warm(Samples):  # pylint: disable=abstract-method
    """The warm one."""

    kernel_name = "workbook"


def outcomes(suite, history):
    """({test: passed, failed or skipped}, the kernel's process) of the class `suite`, with its own `history`."""
    result, kept = unittest.TestResult(), []
    tests = list(unittest.defaultTestLoader.loadTestsFromTestCase(suite))

    class Remembering(suite):  # pylint: disable=abstract-method
        """The suite, which tells the process that it tested."""

        @classmethod
        def setUpClass(cls):
            options = [f"--HistoryManager.hist_file={history}"]  # not the user's
            cls.km, cls.kc = start_new_kernel(kernel_name=cls.kernel_name, extra_arguments=options)
            kept.append(cls.km.provisioner.process)

    unittest.TestSuite(Remembering(test._testMethodName) for test in tests).run(result)
    ended = {test._testMethodName: "passed" for test in tests}
    for kind, found in (("failed", result.failures + result.errors), ("skipped", result.skipped)):
        ended |= {str(test).split(" ", maxsplit=1)[0]: kind for test, _ in found}
    return ended, kept[0]


def passed(folder):
    """The names of the tests that the ordinary kernel passes, and of those that the warm one does."""
    folder.mkdir()
    with ThreadPoolExecutor(2) as pool:  # side by side: much of it is waiting
        run = pool.submit(outcomes, Cold, folder / "cold.sqlite")
        warm, process = outcomes(Warm, folder / "warm.sqlite")
        cold, _ = run.result()
    assert isinstance(process, Fork)
    return [{name for name, how in ended.items() if how == "passed"} for ended in (cold, warm)]


@pytest.mark.soak
def test_the_warm_kernel_passes_where_the_ordinary_one_does(tmp_path):
    cold, warm = passed(tmp_path / "once")
    if not cold <= warm:  # the suite gives a reply some seconds, which may be few on a busy machine
        warm |= passed(tmp_path / "again")[1]
    assert cold <= warm and len(warm) >= 10, cold - warm
