"""Fixtures of the runner's tests: a private store for each module, and faults injected side by side."""

import contextlib
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from Codes.seams import python_seam
from Codes.serving.client import free_port
from Codes.testing.testbed import Server, Store, fresh_store, restore
from Codes.forks import channel

# half a minute and more each, the longest first
LONGEST = """
Test_sweep_load Test_sweep_kills Test_monitor Test_promotion Test_serving Test_retrain Test_sweep Test_servers
Test_checks Test_sagemaker Test_warm Test_scoring Test_own_table Test_seams Test_warm_same Test_layout Test_image
Test_faults Test_liveness Test_nested_runs Test_container Test_card Test_onnx_form Test_fingerprint Test_cluster
Test_cli Test_stores Test_lab Test_session Test_models Test_validation
""".split()
AT_ONCE = 3  # executions side by side: starting a kernel is half waiting


def pytest_configure(config):
    """Make the mark known with which a test tells how its fault is injected; take Ctrl-C.

    What a shell starts in the background ignores it, and so would the commands that tests interrupt.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "injected(*cells, then, ...): what to run before the test; see Store.start"
    )
    if address := getattr(config, "workerinput", {}).get("forkserver"):
        python_seam.use_forkserver(address)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Let the test processes fork their runners from one server, instead of each from its own: seconds of imports."""
    node.workerinput["forkserver"] = python_seam.forkserver_address()


def pytest_collection_modifyitems(items):
    """Let the longest files come first: what is left for the end is short, and all processes end together."""
    rank = {stem: number for number, stem in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session", autouse=True)
def testbed(tmp_path_factory):
    """The folder of this test process, where the stores' template is made."""
    os.environ["WORKBOOK_TESTBED"] = str(tmp_path_factory.mktemp("testbed"))
    with contextlib.suppress(channel.Unavailable):
        # by one that an earlier session's end cut short: minutes of kernels that are not warm
        for old in channel.folder().glob("*.failed"):
            old.unlink(missing_ok=True)


@pytest.fixture(scope="module", autouse=True)
def own_address():
    """What a module's tests have set as the store is not that of the next module, which the same process may run."""
    before = {"MLFLOW_TRACKING_URI": os.environ.get("MLFLOW_TRACKING_URI")}
    yield
    restore(before)
    if mlflow := sys.modules.get("mlflow"):
        mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def store(testbed, tmp_path_factory):  # pylint: disable=redefined-outer-name,unused-argument
    """A store that the tests of a module share: each run has an experiment of its own."""
    folder = tmp_path_factory.mktemp("store")
    return Store(fresh_store(folder), folder)


@pytest.fixture
def own_store(testbed, tmp_path):  # pylint: disable=redefined-outer-name,unused-argument
    """A store for one test alone."""
    return Store(fresh_store(tmp_path), tmp_path)


@pytest.fixture(scope="module")
def server(testbed, tmp_path_factory):  # pylint: disable=redefined-outer-name,unused-argument
    """A tracking server that the tests of a module share."""
    folder = tmp_path_factory.mktemp("server")
    fresh_store(folder)
    started = Server(folder, free_port()).start()
    yield started
    started.kill()


@pytest.fixture(scope="module")
def executions(request, store):  # pylint: disable=redefined-outer-name
    """{test's name: future Execution} of the module's chosen tests that are marked `injected`; all run side by side."""
    tests = [item for item in request.session.items if item.fspath == request.node.fspath]
    marked = {item.name: item.get_closest_marker("injected") for item in tests}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            name: pool.submit(
                _inject, store, name.removeprefix("test_")[:60], *mark.args, **mark.kwargs
            )
            for name, mark in marked.items()
            if mark
        }


def _inject(store, name, *cells, then=None, **options):  # pylint: disable=redefined-outer-name
    started = store.start(name, *cells, **options)
    if then:
        then(started)
    return started.finish()


@pytest.fixture
def execution(request, executions):  # pylint: disable=redefined-outer-name
    """The ended Execution of this test's own `injected` mark."""
    return executions[request.node.name].result()
