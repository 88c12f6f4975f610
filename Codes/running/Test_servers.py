"""Faults of the tracking server: away, silent, killed, failing, slow, losing replies: one whole run, or clear words."""

import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import nbformat
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from Codes.ground.errors import WorkbookError
from Codes.serving.client import free_port
from Codes.stores.store import URI, open_store
from Codes.testing.cases import sampled
from Codes.testing.testbed import Store, check_nothing_left, check_refused, wait_for

QUICK = "import mlflow; mlflow.log_metric('m', 1)"


def test_a_server_that_is_down_or_silent_is_told_within_ten_seconds(own_store):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = {"down": free_port(), "silent": silent.getsockname()[1]}
        begun = time.monotonic()
        starts = {
            name: own_store.start(
                name, QUICK, environment={"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
            )
            for name, port in ports.items()
        }
        for execution in starts.values():
            check_refused(execution, "tracking server http://127.0.0.1:.* does not answer")
        assert (
            time.monotonic() - begun < 60
        )  # ten, and more for a machine that is busy; it was minutes


def test_a_server_killed_in_mid_run_and_restarted_loses_nothing_and_doubles_nothing(
    server, tmp_path
):
    store = Store(server.uri, tmp_path)
    # killed while it sends its reply's body it would fail a cell: MLflow's client tries again only before that
    log = (
        "import mlflow, os, time\nfor i in range(60):\n    mlflow.log_metric('m', i, step=i)\n"
        "    open('begun', 'w').write(str(i))\n"
        "    while i == 5 and not os.path.exists('killed'): time.sleep(0.01)"
    )
    execution = store.start("outage", log, "mlflow.log_metric('last', 1)")
    wait_for(lambda: execution.until("begun") == "5", execution)
    server.kill()
    (execution.folder / "killed").touch()
    server.start()
    assert execution.finish().code == 0, execution.printed
    run = check_nothing_left(execution)
    assert run.info.status == "FINISHED" and run.data.metrics["last"] == 1
    steps = [m.step for m in store.client.get_metric_history(run.info.run_id, "m")]
    assert steps == list(range(60))
    assert {"notebook.ipynb", "notebook.html"} <= execution.artifacts()


@pytest.mark.soak
def test_a_server_that_goes_and_stays_away_fails_clearly_and_its_run_is_closed_later(
    server, tmp_path
):
    store = Store(server.uri, tmp_path)
    execution = store.start(
        "gone",
        "import os, time; open('begun', 'w').write('1')\n"
        "while not os.path.exists('killed'): time.sleep(0.1)",
        environment={"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"},
    )
    execution.until("begun")
    server.kill()
    (execution.folder / "killed").touch()
    try:
        assert (
            execution.finish().code == 1 and "Traceback" not in execution.printed
        ), execution.printed
        assert (
            "could not be recorded" in execution.printed
            and execution.output.name in execution.printed
        )
        assert nbformat.read(execution.output, as_version=4).cells[1].execution_count
    finally:
        server.start()
    assert execution.run.info.status == "RUNNING"
    assert store.start("following", "1").finish().code == 0
    assert check_nothing_left(execution).info.status == "KILLED"


class Proxy(ThreadingHTTPServer):
    """A proxy before the server at `port`; `trouble(method, path, count)` says what happens to a request.

    None: it passes; a number: that status is answered instead; "drop": it passes, but its reply is lost; "slow".
    With a file of a `certificate` it speaks TLS, and asks its clients for that certificate too.
    """

    daemon_threads = True

    def __init__(self, port, trouble, certificate=None):
        super().__init__(("127.0.0.1", 0), Relay)
        if certificate:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate)
            context.load_cert_chain(certificate)
            context.verify_mode = ssl.CERT_REQUIRED
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.behind, self.trouble, self.counts = port, trouble, {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def next_trouble(self, method, path):
        """What happens to this request, counted by its path."""
        self.counts[path] = self.counts.get(path, 0) + 1
        return self.trouble(method, path, self.counts[path])


class Relay(BaseHTTPRequestHandler):
    """One request through the Proxy."""

    def relay(self):
        """Pass the request on, or make the trouble."""
        length = int(self.headers.get("Content-Length", 0))
        body, path = self.rfile.read(length), self.path.partition("?")[0]
        trouble = self.server.next_trouble(self.command, path)
        if isinstance(trouble, int):
            return self.answer(trouble, b"{}")
        if trouble == "slow":
            time.sleep(3)
        connection = HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
        headers = {
            k: v
            for k, v in self.headers.items()
            if k.lower() not in ("host", "connection", "accept-encoding")
        }
        connection.request(self.command, self.path, body, headers)
        reply = connection.getresponse()
        content = reply.read()
        if trouble == "drop":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        return self.answer(reply.status, content, reply.headers.get("Content-Type"))

    def answer(self, status, content, kind="application/json"):
        """Send the reply."""
        self.send_response(status)
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = (
        relay  # the names that http.server calls
    )

    def log_message(self, *_):  # pylint: disable=arguments-differ
        """Nothing."""


TROUBLES = {
    "reply_lost": lambda method, path, n: (
        "drop" if path.endswith("/runs/create") and n <= 2 else None
    ),
    "errors": lambda method, path, n: 500 if n == 1 and "/health" not in path else None,
    "too_many": lambda method, path, n: (
        429 if n <= 2 and path.endswith(("runs/create", "log-metric")) else None
    ),
    "slow": lambda method, path, n: (
        "slow" if path.endswith(("runs/create", "runs/update")) and n == 1 else None
    ),
    "lost_elsewhere": lambda method, path, n: (
        "drop"
        if n == 1
        and path.endswith(
            ("log-batch", "log-metric", "runs/update", "set-tag", "experiments/create")
        )
        else None
    ),
}


@pytest.fixture(scope="module", name="troubled")
def fixture_troubled(server, tmp_path_factory):
    """{trouble: Execution}, all side by side, each through a proxy of its own."""
    proxies = {name: Proxy(server.port, trouble) for name, trouble in TROUBLES.items()}
    executions = {}
    for name, proxy in proxies.items():
        environment = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{proxy.server_port}"}
        store = Store(server.uri, tmp_path_factory.mktemp(name))
        executions[name] = store.start(name, QUICK, environment=environment)
    yield executions
    for proxy in proxies.values():
        proxy.shutdown()
        proxy.server_close()


@pytest.mark.parametrize("trouble", sampled(TROUBLES, "reply_lost", "too_many"))
def test_a_troubled_server_still_gets_one_whole_run(troubled, trouble):
    execution = troubled[trouble].finish()
    assert execution.code == 0 and "Traceback" not in execution.printed, execution.printed
    alive = [run for run in execution.runs if run.info.lifecycle_stage == "active"]
    assert [run.info.status for run in alive] == ["FINISHED"], execution.printed
    assert [
        m.value for m in execution.store.client.get_metric_history(alive[0].info.run_id, "m")
    ] == [1]
    assert len(execution.runs) == 1
    assert {"notebook.ipynb", "notebook.html"} <= {
        f.path for f in execution.store.client.list_artifacts(alive[0].info.run_id)
    }


def test_a_server_that_always_fails_is_given_up_soon(server, tmp_path):
    proxy = Proxy(server.port, lambda method, path, n: None if "/health" in path else 503)
    store = Store(server.uri, tmp_path)
    environment = {
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{proxy.server_port}",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    }
    execution = store.start("hopeless", QUICK, environment=environment).finish(60)
    proxy.shutdown()
    proxy.server_close()
    assert execution.code == 1 and "Traceback" not in execution.printed, execution.printed
    assert not store.runs("hopeless")


def own_certificate(file):
    """Write to `file` a new key and the certificate for 127.0.0.1 that it has signed itself."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "workbook")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    made = made.add_extension(address, critical=False).sign(key, hashes.SHA256())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    own = key.private_bytes(pem, pkcs8, serialization.NoEncryption())
    file.write_bytes(own + made.public_bytes(pem))


@pytest.fixture(scope="module", name="secured")
def fixture_secured(server, tmp_path_factory):
    """(address, file of the certificate) of the server behind TLS."""
    file = tmp_path_factory.mktemp("secured") / "own.pem"
    own_certificate(file)
    proxy = Proxy(server.port, lambda method, path, n: None, str(file))
    yield f"https://127.0.0.1:{proxy.server_port}", str(file)
    proxy.shutdown()
    proxy.server_close()


SERVER, CLIENT = "MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH"
INSECURE = "MLFLOW_TRACKING_INSECURE_TLS"


def test_a_server_with_its_own_certificate_gets_one_whole_run(server, secured, tmp_path):
    address, file = secured
    environment = {URI: address, SERVER: file, CLIENT: file}
    store = Store(server.uri, tmp_path)
    execution = store.start("secured", QUICK, environment=environment).finish()
    assert execution.code == 0, execution.printed
    assert execution.run.info.status == "FINISHED" and execution.run.data.metrics["m"] == 1
    assert {"notebook.ipynb", "notebook.html"} <= execution.artifacts()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize(
    "variables, said",
    [
        ({INSECURE: "true", CLIENT: "FILE"}, None),
        ({CLIENT: "FILE"}, f"does not answer .SSLError.*{SERVER} names the file"),
        ({SERVER: "FILE"}, "does not answer"),
        ({SERVER: "/no/such.pem"}, "cannot be asked: .*/no/such.pem"),
        ({SERVER: "FILE", INSECURE: "true"}, "cannot be asked: .*only one of these"),
    ],
)
def test_a_servers_certificate_is_asked_for_as_mlflow_does(secured, monkeypatch, variables, said):
    address, file = secured
    monkeypatch.setenv(URI, address.replace("//", "//me:mine@"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("FILE", file))
    if not said:
        assert open_store()
        return
    with pytest.raises(WorkbookError, match=said) as error:
        open_store()
    assert "mine" not in str(error.value)
