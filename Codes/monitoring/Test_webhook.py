"""An alarm reaches its receiver, also one that fails at first."""

# pylint: disable=missing-function-docstring,missing-class-docstring

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from Codes.ground.errors import WorkbookError
from Codes.monitoring import webhook


@pytest.fixture(name="receiver")
def fixture_receiver():
    """A real receiver: `answers` are the codes that it gives, one after another; `got` what it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):  # pylint: disable=invalid-name
            self.server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(self.server.answers.pop(0))
            self.end_headers()

        def log_message(self, format, *args):  # pylint: disable=redefined-builtin
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.answers = [], []
    server.address = f"http://127.0.0.1:{server.server_port}/secret"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_receiver_that_fails_twice_gets_it_at_the_third_try(receiver):
    receiver.answers += [500, 503, 200]
    assert webhook.send(receiver.address, "flights/3: drift", pause=0) == ""
    assert receiver.got == [{"text": "flights/3: drift"}] * 3


def test_one_that_always_fails_is_given_up_and_one_that_refuses_at_once(receiver):
    receiver.answers += [500] * webhook.TRIES
    told = webhook.send(receiver.address, "x", pause=0)
    assert "it answered 500" in told and len(receiver.got) == webhook.TRIES
    receiver.answers += [404]
    assert (
        "404" in webhook.send(receiver.address, "x", pause=0)
        and len(receiver.got) == webhook.TRIES + 1
    )


def test_nobody_there_is_told_without_the_address(receiver):
    receiver.shutdown()
    receiver.server_close()
    told = webhook.send(receiver.address, "x", pause=0)
    assert "did not reach" in told and "secret" not in told


def test_an_address_comes_by_reference(monkeypatch):
    monkeypatch.setenv("SHOP_ALARMS", "https://alarms.invalid/x")
    assert webhook.address("env:SHOP_ALARMS") == "https://alarms.invalid/x"
    monkeypatch.setenv("SHOP_ALARMS", "nonsense")
    with pytest.raises(WorkbookError, match="SHOP_ALARMS holds no address"):
        webhook.address("env:SHOP_ALARMS")
