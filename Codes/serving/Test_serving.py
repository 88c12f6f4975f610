"""The served model, asked over real sockets: answers, refusals, limits, swaps, kills.

Run as a program, this module is the server that its tests ask; its store is a folder of models.
"""

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import requests
from mlflow.deployments import PredictionsResponse
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from threadpoolctl import threadpool_limits

from Codes.ground.errors import WorkbookError
from Codes.ground.paths import RESOURCES, ROOT
from Codes.saved_models import trust
from Codes.serving import app, capture, following, payload
from Codes.serving.Test_payload import cells, constant, flights
from Codes.serving.pool import Limits
from Codes.serving.server import serve
from Codes.testing.cases import sampled

PATIENCE = 60  # seconds for what happens in one when nothing else runs
JSON = {"Content-Type": "application/json"}


class Acting:
    """A pipeline that does what the first number of a row asks for: 7 no number, 8 an error, from 1000 on a sleep."""

    def __init__(self, pipeline, broken):
        self._pipeline, self._broken = pipeline, broken

    def __getitem__(self, place):
        return self._pipeline[place]

    def predict(self, frame):
        """One row's act."""
        act = frame.iloc[:, 0].max()
        if act == 8 or self._broken:
            raise ValueError("a secret of the model")
        time.sleep(max(act - 1000, 0))
        found = self._pipeline.predict(frame)
        return found * np.nan if act == 7 else found


class Store:
    """A registry of folders: root/3 is version 3, the file root/production names the version it points to.

    The file root/production.past names those it ever pointed to.
    """

    def __init__(self, root):
        self.root = Path(root)

    def find(self, spec):
        """The version that is named."""
        name, _, alias = spec.partition("@")
        name, _, number = name.partition("/")
        number = self.pointed(name, alias) if alias else int(number)
        if not (self.root / str(number)).is_dir():
            raise WorkbookError(f"{name} has no version {number}.")
        run_id = f"{self.root.name}-{number}"
        return SimpleNamespace(
            name=name, number=number, run_id=run_id, private=["origin"], label_key=[]
        )

    def load(self, version):
        """Its model, acting where there is a file that says so."""
        folder = self.root / str(version.number)
        found = trust.load(folder)
        acting = self.root / f"{version.number}.acting"
        if not acting.exists():
            return found
        return replace(found, pipeline=Acting(found.pipeline, acting.read_text() == "broken"))

    def pointed(self, _, alias):
        """The version's number; OSError while the store is away."""
        text = (self.root / alias).read_text()
        return int(text) if text else None

    def was_in(self, _, alias):
        """The numbers of all that the alias ever pointed to."""
        return set(map(int, (self.root / f"{alias}.past").read_text().split()))


def point(root, number, alias="production"):
    """Let the alias point to the version `number`, at once as a registry does."""
    (root / "spare").write_text(str(number))
    os.replace(root / "spare", root / alias)
    with (root / f"{alias}.past").open("a") as past:
        past.write(f"{number}\n")


class Asked:
    """A server process and the ways to ask it."""

    def __init__(self, process, port, log):
        self.process, self.port, self._log = process, port, log

    @property
    def log(self):
        """What it has written so far."""
        return self._log.read_text()

    def ask(
        self,
        body=None,
        headers=tuple(JSON.items()),
        method="POST",
        path="/invocations",
        timeout=PATIENCE,
    ):
        """(status, headers, text) of one request."""
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        ) as client:
            client.request(method, path, body, dict(headers))
            answer = client.getresponse()
            return answer.status, answer.headers, answer.read().decode()

    def get(self, path):
        """The text at `path`."""
        return self.ask(None, {}, "GET", path)[2]

    def metric(self, name):
        """The value of one of its metrics."""
        found = re.search(
            rf"^workbook_{re.escape(name)} (\S+)$", self.get("/metrics"), re.MULTILINE
        )
        return float(found[1]) if found else 0.0

    def socket(self, text=b""):
        """A connection on which only `text` was sent."""
        made = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        made.sendall(text)
        return made

    def stop(self, number=signal.SIGTERM):
        """Its exit code after the signal."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def until(condition):
    """Wait until `condition()` is true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@contextlib.contextmanager
def server(root, spec="flights@production", limits=(), **options):
    """A server process, ready, as Asked; it is killed in the end."""
    log = root / f"log-{time.time_ns()}"
    told = json.dumps({"limits": dict(limits), "every": 0.1, **options})
    with log.open("w") as output:
        command = [sys.executable, "-m", "Codes.serving.Test_serving", str(root), spec, told]
        with subprocess.Popen(command, cwd=ROOT, stderr=output, stdout=output) as process:
            try:
                ready = re.compile(r"Serving .* at http://127.0.0.1:(\d+)")
                until(lambda: ready.search(log.read_text()) or process.poll() is not None)
                found = ready.search(log.read_text())
                yield Asked(process, int(found[1]) if found else 0, log)
                assert "Traceback" not in log.read_text()
            finally:
                process.kill()


def main(root, spec, told):
    """Serve as a test told."""
    options = json.loads(told)
    limits = Limits(**options.pop("limits"))
    try:
        serve(
            spec, port=0, store=Store(root), folder=Path(root) / "served", limits=limits, **options
        )
    except WorkbookError as error:
        sys.exit(str(error))


def split(frame, **changed):
    """A body with the rows of `frame`."""
    return json.dumps(
        {"dataframe_split": {"columns": list(frame), "data": cells(frame.assign(**changed))}}
    )


def row_of(frame, **changed):
    """The first row of `frame` as a dict for JSON."""
    return dict(zip(frame, cells(frame.head(1))[0])) | changed


# ---- one server for all that must not harm it


@pytest.fixture(scope="module", name="root")
def _root(tmp_path_factory):
    """A store with a model of the flights."""
    made = tmp_path_factory.mktemp("flights")
    with threadpool_limits(1):
        flights(made / "1", max_iter=10)
    point(made, 1)
    return made


@pytest.fixture(scope="module", name="example")
def _example(root):
    """Rows that the model was saved with."""
    return trust.load(root / "1").example


@pytest.fixture(scope="module", name="flying")
def _flying(root):
    """A server of the flights."""
    limits = {"rows": 100, "body": 200_000, "head_seconds": 2, "body_seconds": 2}
    with server(root, limits=limits, private=["dest"]) as asked:
        yield asked


def test_each_request_of_the_repository_is_answered_as_its_name_says(flying):
    files = sorted((RESOURCES / "requests").glob("*.json"))
    assert len(files) >= 3
    for file in files:
        status, headers, text = flying.ask(file.read_bytes())
        assert status == (400 if "bad" in file.stem else 200), text
        assert headers["X-Model-Name"] == "flights" and headers["X-Model-Version"] == "1"


def test_mlflow_s_own_client_is_answered(flying, root, example):
    client = ScoringServerClient("127.0.0.1", flying.port)
    client.wait_server_ready(timeout=PATIENCE)
    assert example.isna().any(axis=None), "which it sends as NaN"
    predicted = client.invoke(example)
    assert isinstance(predicted, PredictionsResponse)
    expected = trust.load(root / "1").predict(example).tolist()
    assert predicted.get_predictions()[0].tolist() == expected
    assert np.shape(predicted["probabilities"]["values"]) == (len(example), 2)


def test_csv_and_json_are_answered_alike(flying, root, example):
    url = f"http://127.0.0.1:{flying.port}/invocations"
    table = requests.post(
        url, example.to_csv(index=False), headers={"Content-Type": "text/csv"}, timeout=60
    )
    object_ = requests.post(url, json=json.loads(split(example)), timeout=60)
    loaded = trust.load(root / "1")
    assert table.json() == object_.json()
    assert object_.json() == {
        "predictions": loaded.predict(example).tolist(),
        "probabilities": {
            "labels": [False, True],
            "values": loaded.probabilities(example).tolist(),
        },
    }


def test_ping_version_metrics_and_the_openapi_page_are_there(flying):
    assert flying.get("/ping") == flying.get("/health") == "\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+", flying.get("/version"))
    page = json.loads(flying.get("/openapi.json"))
    post = page["paths"]["/invocations"]["post"]
    assert "departure_minute" in json.dumps(post)
    assert "swagger" in flying.get("/docs")
    assert 'workbook_requests_total{path="/ping",status="200"}' in flying.get("/metrics")


def test_the_openapi_page_shows_a_request_of_this_model_and_its_answer_without_private_values(
    flying, root, example
):
    post = json.loads(flying.get("/openapi.json"))["paths"]["/invocations"]["post"]
    shown = post["requestBody"]["content"]["application/json"]["example"]
    told = post["responses"]["200"]["content"]["application/json"]["example"]
    assert json.loads(flying.ask(json.dumps(shown))[2]) == told
    row = dict(zip(shown["dataframe_split"]["columns"], shown["dataframe_split"]["data"][0]))
    changed = {name for name in example if row[name] != row_of(example)[name]}
    assert changed <= {"dest", "origin"} and row["dest"] == min(
        trust.load(root / "1").categories["dest"]
    )


def bad(example):
    """(name, body or arguments of `ask`, status, part of the message) of requests that are refused."""
    row, names = row_of(example), list(example)
    values = list(row.values())

    def record(**changed):
        return json.dumps({"dataframe_records": [row | changed]})

    def without(name):
        return json.dumps({"dataframe_records": [{k: v for k, v in row.items() if k != name}]})

    def table(columns=tuple(names), data=(tuple(values),), **more):
        return json.dumps({"dataframe_split": {"columns": columns, "data": data, **more}})

    good = record()
    one = {"X-One": "1"}
    yield from [
        ("empty", "", 400, "empty"),
        ("blank", "  \n", 400, "empty"),
        ("malformed", good[:-1], 400, "not JSON"),
        ("two documents", good + good, 400, "not JSON"),
        ("single quotes", good.replace('"', "'"), 400, "not JSON"),
        ("trailing comma", good[:-1] + ",}", 400, "not JSON"),
        ("list", f"[{good}]", 400, "not a list"),
        ("number", "7", 400, "not a number"),
        ("text", '"text"', 400, "not text"),
        ("null", "null", 400, "not null"),
        ("true", "true", 400, "not true"),
        ("empty object", "{}", 400, "exactly one"),
        (
            "unknown form",
            good.replace("_records", "_recods"),
            400,
            "Did you mean 'dataframe_records'",
        ),
        ("two forms", good[:-1] + ', "inputs": []}', 400, "exactly one"),
        ("parameters", good[:-1] + ', "params": {"a": 1}}', 400, "exactly one"),
        ("form twice", good[:-1] + "," + good[1:], 400, "twice"),
        (
            "key twice",
            good.replace('"weekday"', '"weekday": 1, "weekday"'),
            400,
            '"weekday" is there twice',
        ),
        (
            "key twice, escaped",
            good.replace('"weekday"', '"\\u0077eekday": 1, "weekday"'),
            400,
            "twice",
        ),
        ("split key twice", table().replace('"data"', '"data": [], "data"'), 400, "twice"),
        ("UTF-16", good.encode("utf-16"), 400, "UTF-8"),
        ("Latin-1", record(carrier="é").replace("\\u00e9", "é").encode("latin-1"), 400, "UTF-8"),
        ("byte order mark", good.encode("utf-8-sig"), 400, "byte order mark"),
        ("lone surrogate", record(carrier="@").replace("@", "\\ud800"), 400, "not JSON"),
        ("control character", record(carrier="@").replace("@", "\0"), 400, "not JSON"),
        ("deep lists", "[" * 50_000 + "]" * 50_000, 400, "too deeply"),
        ("deep objects", '{"a":' * 30_000 + "1" + "}" * 30_000, 400, "too deeply"),
        ("deep cell", record(temp="@").replace('"@"', "[" * 1015 + "]" * 1015), 400, "a list"),
        ("NaN where a value must be", record(distance=float("nan")), 400, "null is not allowed"),
        ("minus NaN", record(temp="@").replace('"@"', "-NaN"), 400, "not JSON"),
        ("Infinity", record(temp=float("inf")), 400, "Infinity"),
        ("minus Infinity", record(temp=-float("inf")), 400, "Infinity"),
        ("1e400", record(temp="@").replace('"@"', "1e400"), 400, "too large"),
        ("-1e400", record(temp="@").replace('"@"', "-1e400"), 400, "too large"),
        (
            "null where a value must be",
            record(distance=None),
            400,
            "'distance': null is not allowed",
        ),
        ("number as text", record(temp="0.5"), 400, "'temp': \"0.5\" is not a number"),
        ("true for a number", record(temp=True), 400, "'temp': true"),
        (
            "3.5 for a whole number",
            record(distance=3.5),
            400,
            "'distance': 3.5 is not a whole number",
        ),
        ("true for a whole number", record(distance=True), 400, "'distance': true"),
        ("whole number as text", record(distance="719"), 400, "'distance'"),
        ("over 64 bits", record(distance=2**63), 400, "out of the range"),
        ("far over 64 bits", record(distance=10**30), 400, "out of the range"),
        ("under 64 bits", record(distance=-(2**63) - 2000), 400, "out of the range"),
        ("list for a number", record(temp=[1]), 400, "'temp': a list"),
        ("object for text", record(carrier={"a": 1}), 400, "'carrier'"),
        ("number for text", record(carrier=7), 400, "'carrier': 7 is not text"),
        ("unknown category", record(origin="LAX"), 400, "'origin': \"LAX\" was never seen"),
        ("near category", record(carrier="UAA"), 400, "Did you mean 'UA'"),
        ("unknown number of a category", record(weekday=8), 400, "'weekday': 8 was never seen"),
        ("long value", record(origin="x" * 5000), 400, "..."),
        ("missing column", without("distance"), 400, "'distance' is missing"),
        ("missing column that may be null", without("temp"), 400, "send null"),
        ("extra column", record(color=1), 400, "color"),
        ("misspelt column", good.replace("distance", "distanc"), 400, "Did you mean 'distance'"),
        (
            "second row misses one",
            json.dumps({"instances": [row, {}]}),
            400,
            "row 1: column 'weekday' is missing",
        ),
        ("row that is a list", json.dumps({"dataframe_records": [values]}), 400, "row 0 is a list"),
        ("records are an object", json.dumps({"dataframe_records": row}), 400, "must be a list"),
        ("records are null", json.dumps({"dataframe_records": None}), 400, "must be a list"),
        ("no records", json.dumps({"dataframe_records": []}), 400, "no rows"),
        ("split is a list", json.dumps({"dataframe_split": [values]}), 400, "'columns', 'data'"),
        (
            "split without columns",
            json.dumps({"dataframe_split": {"data": [values]}}),
            400,
            "'columns', 'data'",
        ),
        ("split with more", table(rows=1), 400, "'columns', 'data'"),
        ("split without rows", table(data=[]), 400, "no rows"),
        ("split with data as text", table(data="abc"), 400, "must be a list"),
        ("short row", table(data=[values[1:]]), 400, "19 values"),
        ("long row", table(data=[values, [*values, 1]]), 400, "row 1 is 21 values"),
        ("row as text", table(data=["x" * 20]), 400, "row 0 is text"),
        ("duplicate column", table(["weekday", "weekday", *names[2:]]), 400, "there twice"),
        ("column that is a number", table([1, *names[1:]]), 400, "list of names"),
        ("columns in the wrong order", table(names[::-1]), 400, "is not"),
        ("wrong index", table(index=[1, 2]), 400, "'index'"),
        ("inputs of scalars", json.dumps({"inputs": row}), 400, "must be a list"),
        (
            "inputs of two lengths",
            json.dumps({"inputs": {k: [v] * (1 + (k == "temp")) for k, v in row.items()}}),
            400,
            "different",
        ),
        ("inputs without rows", json.dumps({"inputs": {k: [] for k in row}}), 400, "no rows"),
        ("inputs without columns", '{"inputs": {}}', 400, "'weekday' is missing"),
        ("too many rows", table(data=[values] * 101), 413, "101 rows; 100"),
        ("too large", " " * 200_001 + good, 413, "200,000 bytes"),
        ("no type", {"body": good, "headers": one}, 415, "Content-Type"),
        (
            "text type",
            {"body": good, "headers": {"Content-Type": "text/plain"}},
            415,
            "Content-Type",
        ),
        (
            "form type",
            {"body": good, "headers": {"Content-Type": "multipart/form-data"}},
            415,
            "Content-Type",
        ),
        (
            "parquet",
            {"body": b"PAR1", "headers": {"Content-Type": "application/vnd.apache.parquet"}},
            415,
            "Type",
        ),
        (
            "charset",
            {"body": good, "headers": {"Content-Type": "application/json; charset=latin-1"}},
            415,
            "UTF-8",
        ),
        (
            "compressed",
            {"body": good, "headers": JSON | {"Content-Encoding": "gzip"}},
            415,
            "compressed",
        ),
        ("JSON as CSV", {"body": good, "headers": {"Content-Type": "text/csv"}}, 400, "column"),
        ("CSV as JSON", "a,b\n1,2\n", 400, "not JSON"),
        (
            "binary CSV",
            {"body": b"\xff\xfe\0", "headers": {"Content-Type": "text/csv"}},
            400,
            "UTF-8",
        ),
        ("foreign host", {"body": good, "headers": JSON | {"Host": "evil.example"}}, 403, "Host"),
        (
            "local host as a part",
            {"body": good, "headers": JSON | {"Host": "localhost.evil.example:80"}},
            403,
            "Host",
        ),
        (
            "an address as a part",
            {"body": good, "headers": JSON | {"Host": "10.0.0.7.evil.example"}},
            403,
            "--allowed-host",
        ),
        ("empty host", {"body": good, "headers": JSON | {"Host": ""}}, 403, "Host"),
        ("unknown path", {"body": good, "path": "/invocation"}, 404, "/invocations"),
        ("path with a slash", {"body": good, "path": "/invocations/"}, 404, "/invocations"),
        ("path upwards", {"method": "GET", "path": "/../../etc/passwd"}, 404, "Not Found"),
        ("get", {"method": "GET"}, 405, "POST"),
        ("put", {"body": good, "method": "PUT"}, 405, "POST"),
        ("delete", {"method": "DELETE"}, 405, "POST"),
        ("post to ping", {"body": good, "path": "/ping"}, 405, "Not Allowed"),
    ]


def test_bad_requests_are_refused_with_a_sentence_that_says_why(flying, example):
    table, wrong = list(bad(example)), []
    assert len(table) >= 80 and len({name for name, *_ in table}) == len(table)
    for name, how, status, part in table:
        got, headers, text = flying.ask(**(how if isinstance(how, dict) else {"body": how}))
        try:
            told = json.loads(text)
            good = (
                got == status and part in told["message"] and set(told) == {"error_code", "message"}
            )
        except ValueError:
            good = False
        if (
            not good
            or "\n" in told["message"]
            or len(told["message"]) > 300
            or "X-Model-Version" not in headers
        ):
            wrong.append((name, got, text[:300]))
    assert not wrong
    assert flying.ask(split(example))[0] == 200 and "Traceback" not in flying.log


def test_allowed_hosts_are_answered(flying, example):
    addresses = "10.0.0.7", f"10.0.0.7:{flying.port}", "[fe80::1]:80", "[::1]"  # as probes ask
    for host in ("localhost", f"127.0.0.1:{flying.port}", "LOCALHOST:1", *addresses):
        assert flying.ask(split(example), JSON | {"Host": host})[0] == 200, host


def test_a_chunked_body_is_capped_while_it_is_read(flying):
    def endless():
        while True:
            yield b" " * 50_000

    with contextlib.suppress(OSError):  # it may be closed while we send
        assert flying.ask(endless())[0] == 413
    head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with flying.socket(head + b"Transfer-Encoding: chunked\r\n\r\n") as half:
        for _ in range(5):
            half.sendall(b"c350\r\n" + b" " * 50_000 + b"\r\n")
        assert half.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_length_that_is_too_large_is_refused_before_the_body_is_sent(flying):
    head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with flying.socket(head + b"Content-Length: 99999999999\r\n\r\n") as half:
        assert half.recv(1000).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\0",
        b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000,
    ],
)
def test_what_is_no_http_is_refused(flying, text):
    with flying.socket(text) as half:
        assert half.recv(1000)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 404", b"")


def test_slow_heads_and_slow_bodies_are_closed(flying):
    head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with (
        flying.socket() as silent,
        flying.socket(head) as slow,
        flying.socket(head + b"Content-Length: 9\r\n\r\n1") as body,
    ):
        end = time.monotonic() + PATIENCE
        with contextlib.suppress(OSError):
            while time.monotonic() < end:  # a byte now and then does not help
                slow.sendall(b"a")
                time.sleep(0.1)
        assert time.monotonic() < end
        assert body.recv(1000).startswith(b"HTTP/1.1 408")
        assert body.recv(1000) == b"" == silent.recv(1000)


def test_a_client_that_hangs_up_is_no_failed_prediction(flying):
    head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    names = [f'requests_total{{path="/invocations",status="{status}"}}' for status in (400, 500)]
    names.append('failed_predictions_total{reason="error"}')
    before = [flying.metric(name) for name in names]
    flying.socket(head + b"Content-Length: 99\r\n\r\n[").close()
    until(lambda: sum(map(flying.metric, names)) > sum(before))
    assert [flying.metric(name) for name in names] == [before[0] + 1, *before[1:]]
    assert "ClientDisconnect" not in flying.log


WEIRD = [
    None,
    True,
    False,
    0,
    -1,
    3.5,
    1e308,
    -1e-308,
    2**63,
    10**40,
    "",
    "x",
    "0.5",
    "NaN",
    "\0",
    [],
    {},
    [[]],
    {"a": 1},
    "é" * 99,
]


def mutated(random_, body):
    """`body` (an object) with a part of it replaced, left out or doubled; or its bytes damaged."""
    document = json.loads(body)
    where, key = document, random_.choice(list(document))
    while isinstance(where[key], (dict, list)) and where[key] and random_.random() < 0.85:
        where = where[key]
        key = random_.choice(list(where) if isinstance(where, dict) else range(len(where)))
    act = random_.randrange(5)
    if act == 0:
        del where[key]
    elif act == 1 and isinstance(where, list):
        where.insert(key, where[key])
    elif act < 4:
        where[key] = random_.choice(WEIRD)
    text = bytearray(json.dumps(document).encode())
    for _ in range(random_.randrange(4) if act == 4 else 0):
        place = random_.randrange(len(text))
        text[place : place + random_.randrange(3)] = random_.randbytes(random_.randrange(3))
    return bytes(text)


@pytest.mark.parametrize("count", sampled([300, 2000], 300))
def test_damaged_bodies_get_no_5xx(flying, example, count):
    random_, statuses = random.Random(7), {}
    row = row_of(example)
    bodies = [
        split(example),
        json.dumps({"dataframe_records": [row, row]}),
        json.dumps({"inputs": {k: [v] for k, v in row.items()}}),
    ]
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", flying.port, timeout=PATIENCE)
    ) as client:
        for _ in range(count):
            body = mutated(random_, random_.choice(bodies))
            client.request("POST", "/invocations", body, JSON)
            answer = client.getresponse()
            text = answer.read()
            assert answer.status in (200, 400), (body, text)
            assert set(json.loads(text)) in (
                {"predictions", "probabilities"},
                {"error_code", "message"},
            ), body
            assert b"Traceback" not in text and b"NaN" not in text.replace(b'\\"NaN\\"', b"")
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
    assert min(statuses[200], statuses[400]) > count / 50, statuses


@pytest.mark.parametrize("examples", sampled([4, 100], 4))
def test_schemathesis_finds_no_fault(flying, tmp_path, examples):
    command = [
        Path(sys.executable).with_name("schemathesis"),
        "run",
        f"http://127.0.0.1:{flying.port}/openapi.json",
    ]
    command += [
        "--max-examples",
        str(examples),
        "--seed",
        "7",
        "--no-color",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]


def test_captured_rows_have_no_private_column(flying, root, example):
    before = flying.metric('captured_rows{result="kept"}')
    flying.ask(split(example))
    until(lambda: flying.metric('captured_rows{result="kept"}') >= before + len(example))
    rows, unreadable = capture.read(root / "served" / "flights@production")
    assert unreadable == 0 and rows[-1]["version"] == 1
    assert rows[-1]["run_id"] == f"{root.name}-1"
    # one is named by the server's option, one by the version
    assert set(rows[-1]["columns"]) == set(example) - {"dest", "origin"}


def test_by_onnx_the_answers_are_the_same(root, example):
    with server(root, onnx=True) as asked:
        found, loaded = json.loads(asked.ask(split(example))[2]), trust.load(root / "1")
        assert found["predictions"] == loaded.predict(example).tolist()
        np.testing.assert_allclose(
            found["probabilities"]["values"], loaded.probabilities(example), rtol=1e-9
        )
        assert "no ONNX form" not in asked.log


# ---- models that sleep, fail, and come and go


@pytest.fixture(scope="module", name="acts")
def _acts(tmp_path_factory):
    """A store of three constant models, of which the first acts and the third is broken."""
    made = tmp_path_factory.mktemp("acting")
    for number in (1, 2, 3):
        constant(made / str(number), number)
    (made / "1.acting").write_text("acting")
    (made / "3.acting").write_text("broken")
    return made


@pytest.fixture(scope="module", name="ten")
def _ten(acts):
    """Rows that they take."""
    return trust.load(acts / "1").example


@pytest.fixture(scope="module", name="acting")
def _acting(acts):
    """A server of the first."""
    with server(
        acts, "model/1", {"predict_seconds": 4, "workers": 4, "head_seconds": 120}
    ) as asked:
        yield asked


def test_a_prediction_that_is_no_number_and_one_that_fails_get_a_fixed_text_and_are_counted(
    acting, ten
):
    first = list(ten)[0]
    for act, reason, text in ((7, "not a number", following.NO_NUMBER), (8, "error", app.FAILED)):
        status, _, got = acting.ask(split(ten, **{first: act}))
        assert status == 500 and json.loads(got)["message"] == text
        assert acting.metric(f'failed_predictions_total{{reason="{reason}"}}') == 1
    assert acting.ask(split(ten))[2] == '{"predictions":[1.0,1.0,1.0]}'


def test_slow_calls_and_half_open_sockets_leave_others_an_answer_or_a_503(acting, ten):
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(acting.socket(b"POST /invocations HTTP/1.1\r\nHost: loc"))
        assert acting.ask(split(ten))[0] == 200
        slow, statuses = split(ten, **{list(ten)[0]: 1008.0}), []
        calls = [
            threading.Thread(target=lambda: statuses.append(acting.ask(slow)[0])) for _ in range(8)
        ]
        for call in calls:
            call.start()
        until(lambda: statuses.count(503) == 4)  # four places, and the pool does not move
        status, headers, text = acting.ask(split(ten))
        assert status == 503 and headers["Retry-After"] == "1" and "try again" in text
        assert acting.get("/ping") == "\n"
        for call in calls:
            call.join(PATIENCE)
        assert sorted(statuses) == [503] * 4 + [504] * 4
        until(lambda: acting.ask(split(ten))[0] == 200)  # once the slow ones have ended
        assert acting.metric('failed_predictions_total{reason="full"}') >= 5


def test_a_stopped_server_answers_what_is_under_way_and_says_nothing_of_it(acting, ten):
    body, statuses = split(ten, **{list(ten)[0]: 1002.0}), []
    calls = [
        threading.Thread(target=lambda: statuses.append(acting.ask(body)[0])) for _ in range(4)
    ]
    for call in calls:
        call.start()
    until(lambda: acting.metric("requests_in_flight") == 5)  # the one that asks is among them
    assert acting.stop() == 0
    for call in calls:
        call.join(PATIENCE)
    assert statuses == [200] * 4 and acting.log.strip().endswith("Stopped.")


class Clients:
    """Clients that ask without pause until they are told to stop; every answer is checked."""

    def __init__(self, asked, body, count=4):
        self._asked, self._body, self._stop = asked, body, threading.Event()
        self.versions, self.wrong, self.answered = set(), [], 0
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _ask(self):
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self._asked.port, timeout=PATIENCE)
        ) as client:
            while not self._stop.is_set():
                client.request("POST", "/invocations", self._body, JSON)
                answer = client.getresponse()
                text, version = answer.read().decode(), answer.headers["X-Model-Version"]
                if answer.status != 200 or set(json.loads(text)["predictions"]) != {float(version)}:
                    self.wrong.append((answer.status, version, text))
                self.versions.add(version)
                self.answered += 1


@pytest.fixture(scope="module", name="followed")
def _followed(acts):
    """A server that follows the alias."""
    point(acts, 1)
    with server(acts, "model@production") as asked:
        yield asked


@pytest.mark.parametrize("count", sampled([10, 100], 10))
def test_swaps_under_load_lose_no_request_and_no_answer_is_of_two_versions(
    followed, acts, ten, count
):
    with Clients(followed, split(ten)) as clients:
        before = followed.metric("swaps_total")
        for swap in range(count):
            point(acts, 2 - swap % 2)
            until(lambda swap=swap: followed.metric("model_version") == 2 - swap % 2)
    assert not clients.wrong and clients.versions == {"1", "2"} and clients.answered > count
    until(lambda: followed.metric("swaps_total") == before + count)


def test_what_can_t_serve_is_not_switched_to_and_the_store_may_be_away(followed, acts, ten):
    with Clients(followed, split(ten)) as clients:
        for number in (
            3,
            9,
        ):  # a model that can't answer its own example, then one that is not there
            point(acts, number)
            until(lambda number=number: f"version {number} can't serve" in followed.log)
        point(acts, "")
        until(lambda: "points to no version" in followed.log)
        os.rename(acts / "production", acts / "away")
        until(lambda: followed.metric("store_errors_total") > 2)
        seen = clients.answered
        until(lambda: clients.answered > seen + 20)
        for number in (1, 2):
            point(acts, number)
            until(lambda number=number: followed.metric("model_version") == number)
    assert not clients.wrong and followed.metric("failed_swaps_total") == 2
    assert followed.log.count("version 3 can't serve: a secret of the model; version") == 1
    assert followed.log.count("The store is away") == 1


def test_a_killed_server_starts_with_the_last_good_version(followed, acts, ten):
    point(acts, 2)
    state = acts / "served" / "model@production" / "state.json"
    until(lambda: json.loads(state.read_text("utf-8"))["version"] == 2)
    point(acts, 3)
    assert followed.stop(signal.SIGKILL) == -signal.SIGKILL
    with server(acts, "model@production") as asked:
        assert (
            "version 3 can't serve: a secret of the model; starting with version 2, the last good one"
            in asked.log
        )
        assert asked.ask(split(ten))[2] == '{"predictions":[2.0,2.0,2.0]}'
        point(acts, 1)
        until(lambda: asked.metric("model_version") == 1)
        assert asked.stop(signal.SIGINT) == 0


def test_what_never_served_well_is_told_in_a_line(acts, tmp_path):
    point(acts, 3)
    state = tmp_path / "model@production" / "state.json"
    state.parent.mkdir()
    # damaged, of the version itself, as old ones were, of another store's version 2, of one that never was in it
    known = [{"version": 3, "run_id": f"{acts.name}-3"}, {"version": 2}]
    known += [{"version": 2, "run_id": "elsewhere-2"}, {"version": 4, "run_id": f"{acts.name}-4"}]
    point(acts, 2)
    point(acts, 3)
    shutil.copytree(acts / "2", acts / "4")
    for text in ('{"ver', "[]", *map(json.dumps, known)):
        state.write_text(text)
        with pytest.raises(
            WorkbookError, match="model version 3 can't serve: a secret of the model"
        ):
            serve("model@production", port=0, store=Store(acts), folder=tmp_path)


def test_a_model_without_an_onnx_form_is_served_all_the_same_and_it_is_told(acts, ten):
    with server(acts, "model/2", onnx=True) as asked:
        assert json.loads(asked.ask(split(ten))[2])["predictions"] == [2.0] * len(ten)
        assert "DummyRegressor has no ONNX form" in asked.log


def test_a_port_that_is_taken_and_a_misspelt_private_column_are_told_in_a_line(acts, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(WorkbookError, match="can't be used .* choose another: --port"):
            serve("model/1", port=taken.getsockname()[1], store=Store(acts), folder=tmp_path)
    with pytest.raises(
        WorkbookError, match="private column 'agee' is none of model's columns. Did you mean 'age'"
    ):
        serve("model/1", port=0, store=Store(acts), folder=tmp_path, private=["agee"])


def test_every_refusal_s_status_has_a_name():
    assert {400, 403, 404, 405, 408, 413, 415, 500, 503, 504} <= set(payload.CODES)


if __name__ == "__main__":
    main(*sys.argv[1:])
