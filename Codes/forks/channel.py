"""Where a client and the warm template of its environment meet: a private folder, a name, and framed messages.

A forked process inherits what no program can change afterwards (its namespaces, control group and groups, its hard
limits, what libraries read from the environment as they load), so all of that is in the template's name: a client
never gets a fork of a template that differs from itself there.
"""

import array
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import stat
import struct
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

from Codes.ground.paths import ROOT

Environment: TypeAlias = Mapping[str, str]
COLD = "WORKBOOK_COLD"  # set to anything but "" or 0: kernels start in the ordinary way
# A crash writes its traceback to the starter's log, past the streams that die with the kernel; a fork does it itself.
CRASH_LOG = "--IPKernelApp.exec_lines=__import__('faulthandler').enable(__import__('sys').stderr)"
NO_HISTORY = "--HistoryManager.hist_file=:memory:"  # what runs execute is not what a user has typed
SPEC = "workbook"  # the kernel spec that names our provisioner
# what kernels of runs get unless their environment says otherwise
QUIET = {
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait make kernels side by side 20 times slower
    "MLFLOW_DISABLE_TELEMETRY": "true",  # it would send from a thread, which a template must not have
}
PROTOCOL = 2
LIMIT = 16_000_000  # bytes of a message
# What interpreters and libraries read once, as they load; a test holds this against what the preloaded modules read.
# Not in it: what they themselves set for those that load later.
AT_LOAD = re.compile(
    r"(?!KMP_DUPLICATE_LIB_OK|KMP_INIT_AT_FORK|PYDEVD_USE_FRAME_EVAL)("
    r"(PYTHON|LD_|LC_|OMP_|GOMP_|KMP_|MKL_|MALLOC_|ARROW_|MPL|XDG_(CACHE|CONFIG|DATA)_|JUPYTER_(ALLOW|PLATFORM|USE)_"
    r"|PYDEV|DEBUGPY_|DEBUG_PYDEVD|PYCHARM_|PATHS_FROM_|GEVENT_|IPYTHON|TRAITLETS_|JOBLIB_|LOKY_|NPY_|NUMPY_|NUMEXPR_"
    r"|PANDAS_|PILLOW_|SCIPY_|SKLEARN_|PROTOCOL_|TEMPORARILY_|OTEL_|PYDANTIC_|PSUTIL_|PYZMQ_|TORNADO_|NVPL_|PYPARSING"
    r"|OPENBLAS_MAIN_FREE|SSL_|MLFLOW_(CONFIGURE|LOGGING|DISABLE|ENABLE_T|WEBHOOK|SQLALCHEMY)|GRPC_|AWS_CA"
    r"|CLOUDSDK_CORE_CUSTOM|DASK_|BLACK_|PYARROW_|MSGPACK_|OPENPYXL_|TQDM_)"
    r"|(LANG|LANGUAGE|TZ|HOME|USER|PY_SAX_PARSER|MATPLOTLIBRC|GLIBC_TUNABLES|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
    r"|NODE_EXTRA_CA_CERTS"
    r"|GIT_SSL_CAINFO|NIX_SSL_CERT_FILE|PIP_CERT|SOURCE_DATE_EPOCH|RUST_BACKTRACE|TF_CLI_CONFIG_FILE)$)"
)
# bytes that a fork can show in /proc as its own
ROOM_FOR_ARGUMENTS, ROOM_FOR_ENVIRONMENT = 4_000, 100_000
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


class Process(TypedDict):
    """What a fork takes over from who asks for it."""

    argv: list[str]  # the whole command line, from the interpreter on
    env: dict[str, str]
    cwd: str
    umask: int
    limits: list[tuple[int, tuple[int, int]]]  # (number, (soft, hard))
    ignored: list[int]  # signals
    affinity: list[int]  # processors


class KernelRequest(Process):
    """What a template of kernels is asked for."""

    independent: bool  # it outlives who asks
    parent: int  # the process id that it ends with; 0 where it is independent


class CommandRequest(Process):
    """What a template of commands is asked for."""

    arguments: list[str]  # sys.argv
    folder: str  # where its modules come from first, sys.path[0]
    module: str  # whose `main` is called


class Unavailable(Exception):
    """Why no warm kernel can be had; the kernel then starts in the ordinary way."""


def read_at_load(environment: Environment) -> dict[str, str]:
    """The part of `environment` that interpreters and libraries read as they load."""
    return {name: value for name, value in sorted(environment.items()) if AT_LOAD.match(name)}


def template_environment(environment: Environment) -> dict[str, str]:
    """What a template is started with: what is read at load, and one thread wherever one can be asked for."""
    single = {
        "OPENBLAS_NUM_THREADS": "1",
        "OPENBLAS_THREAD_TIMEOUT": "14",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        "WORKBOOK_PAD": " " * ROOM_FOR_ENVIRONMENT,
    }
    return {"PATH": environment.get("PATH", os.defpath)} | read_at_load(environment) | single


def umask() -> int:
    """This process's umask, without touching it."""
    for line in Path("/proc/self/status").read_text("utf-8", "replace").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    raise Unavailable("the umask cannot be read")


def limits() -> list[tuple[int, tuple[int, int]]]:
    """[(number, (soft, hard))] of this process's limits."""
    import resource  # only where warm kernels can be

    numbers = [getattr(resource, each) for each in dir(resource) if each.startswith("RLIMIT_")]
    return [(number, resource.getrlimit(number)) for number in numbers]


def process(argv: Iterable[str], env: Mapping[str, str], cwd: str) -> Process:
    """This process with another command line, environment and folder, as a request takes it along."""
    return {
        "argv": list(argv),
        "env": dict(env),
        "cwd": cwd,
        "umask": umask(),
        "limits": limits(),
        "ignored": [n for n in signal.valid_signals() if signal.getsignal(n) == signal.SIG_IGN],
        "affinity": sorted(os.sched_getaffinity(0)),
    }


def name(python: str, environment: Environment) -> str:
    """The name of the template that can serve a kernel of the interpreter `python` (a path) with `environment`."""
    namespaces = []
    for each in NAMESPACES:
        with contextlib.suppress(OSError):
            namespaces.append(os.readlink(f"/proc/self/ns/{each}"))
    with contextlib.suppress(OSError):
        namespaces.append(Path("/proc/self/cgroup").read_text("ascii"))
    who = [os.getuid(), os.getgid(), sorted(os.getgroups())]
    hard = [most for _, (_, most) in limits()]
    facts = [PROTOCOL, python, str(ROOT), who, namespaces, hard, read_at_load(environment)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def folder() -> Path:
    """The folder of this user's sockets, which nobody else can enter; raises Unavailable where it cannot be had."""
    if sys.platform != "linux":
        raise Unavailable("warm kernels need Linux")
    base = os.environ.get("XDG_RUNTIME_DIR")
    is_mine = base and os.path.isdir(base) and os.stat(base).st_uid == os.getuid()
    place = Path(base, "workbook") if is_mine else Path(f"/tmp/workbook-{os.getuid()}")
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        found = os.lstat(place)
    except OSError as error:
        raise Unavailable(f"the folder {place} cannot be made ({error.strerror})") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise Unavailable(f"{place} is not a folder that only you can enter; remove it")
    return place


def connection_to(path: str | Path, seconds: float) -> socket.socket | None:
    """A connection to who listens at `path`, with `seconds` to wait for each message; None where nobody does."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    connection.settimeout(seconds)
    try:
        connection.connect(str(path))
        return connection
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise


def check_peer(connection: socket.socket) -> int:
    """The process id of the other end, which must be this user's; raises Unavailable if it is not."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    if uid != os.getuid():
        raise Unavailable(f"the other end belongs to the user {uid}")
    return pid


def send(connection: socket.socket, message: Mapping[str, Any], files: Iterable[int] = ()) -> None:
    """Send `message` (JSON) and the open `files` (descriptors)."""
    text = json.dumps(message).encode()
    head = struct.pack("I", len(text))
    socket.send_fds(connection, [head], list(files))
    connection.sendall(text)


def receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """(message, descriptors) as they were sent; (None, []) where the other end is gone. ValueError if malformed."""
    files = array.array("i")
    try:
        head, received, _, _ = socket.recv_fds(connection, 4, 8, socket.MSG_CMSG_CLOEXEC)
        files.extend(received)
        length = struct.unpack("I", head)[0] if len(head) == 4 else 0
        if length > LIMIT:
            raise ValueError(f"a message of {length} bytes")
        text = _exactly(connection, length)
        if not text:
            close(files)
            return None, []
        return dict(json.loads(text)), list(files)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        close(files)
        if isinstance(error, (BlockingIOError, TimeoutError)):
            raise
        if isinstance(error, OSError):
            return None, []
        raise ValueError(f"a malformed message: {error}") from error


def _exactly(connection: socket.socket, length: int) -> bytes:
    parts = []
    while length:
        part = connection.recv(min(length, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def close(files: Iterable[int]) -> None:
    """Close the descriptors `files`."""
    for file in files:
        with contextlib.suppress(OSError):
            os.close(file)


def is_off(environment: Environment) -> bool:
    """Whether `environment` turns warm kernels off."""
    return environment.get(COLD, "0") not in ("", "0")
