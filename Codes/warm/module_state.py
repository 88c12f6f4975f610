"""What the loaded modules of a process hold: their simple values, registries, streams, handlers, and whose functions.

Two processes that imported the same ought to hold the same, wherever they imported it; a test compares them.
"""

import importlib
import io
import json
import logging
import os
import re
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SIMPLE = (type(None), bool, int, float, complex, str, bytes)
CALLED = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)
LONGEST = 3000  # items of a container
DEPTH = 3
ABSENT = "(absent)"


def load(names: Iterable[str]) -> None:
    """Import the modules `names`, as far as they can be imported here."""
    for name in names:
        if name not in sys.modules:
            try:
                importlib.import_module(name)
            except Exception:  # pylint: disable=broad-exception-caught
                continue  # a module that stands under another's name


def write(path: str | Path) -> None:
    """Write {module: {name: description}} of all loaded modules to the JSON file `path`."""
    modules = {n: m for n, m in sorted(sys.modules.items()) if isinstance(m, types.ModuleType)}
    Path(path).write_text(json.dumps({n: state(m) for n, m in modules.items()}), "utf-8")


def state(module: types.ModuleType) -> dict[str, Any]:
    """{name: description} of what `module` holds, but for how it was loaded."""
    loaded_by = {"__builtins__", "__loader__", "__spec__", "__cached__", "__file__"}
    found = dict(vars(module))
    return {name: describe(found[name]) for name in sorted(found, key=str) if name not in loaded_by}


def describe(value: Any, depth: int = DEPTH) -> Any:  # pylint: disable=too-many-return-statements
    """`value` as JSON, without what differs from process to process: addresses, and the order of sets."""
    if isinstance(value, SIMPLE):
        return re.sub(r"0x[0-9a-f]+", "0x", repr(value))[:500]
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, CALLED):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
    if isinstance(value, io.IOBase):
        return [kind(value), str(getattr(value, "name", ""))]
    if isinstance(value, (logging.Logger, logging.Handler)):
        return logger(value)
    if depth == 0 or isinstance(value, (logging.Manager, type(os.environ))):
        return kind(value)
    return {kind(value): held(value, depth - 1)}


def kind(value: object) -> str:
    """The type of `value`, by its whole name."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def logger(value: Any) -> list[Any]:
    """What a logger or a handler does with a message."""
    handlers = [describe(each) for each in getattr(value, "handlers", [])]
    more = [getattr(value, name, None) for name in ("name", "level", "propagate", "disabled")]
    stream = getattr(value, "stream", None)
    return [kind(value), more, handlers, describe(stream, 1), [kind(f) for f in value.filters]]


def held(value: Any, depth: int) -> Any:
    """What a container or an object holds."""
    try:
        if isinstance(value, dict):
            items = [(k, v) for k, v in value.items() if not is_address(k)][:LONGEST]
            return {str(describe(k, 1)): describe(v, depth) for k, v in items}
        if isinstance(value, (list, tuple, set, frozenset)):
            return sorted((describe(v, depth) for v in list(value)[:LONGEST]), key=str)
        return {k: describe(v, depth) for k, v in attributes(value).items()}
    except Exception as error:  # pylint: disable=broad-exception-caught
        return type(error).__name__  # an object may be anything


def is_address(key: object) -> bool:
    """Whether the key of a dict is some object's address, or a thread's number."""
    return isinstance(key, int) and key > 1 << 32


def attributes(value: object) -> dict[str, Any]:
    """{name: value} of what the object `value` keeps."""
    kept = dict(getattr(value, "__dict__", {}))
    for slots in (vars(each).get("__slots__", ()) for each in type(value).__mro__):
        for name in [slots] if isinstance(slots, str) else slots:
            if hasattr(value, name) and name not in ("__dict__", "__weakref__"):
                kept[name] = getattr(value, name)
    return kept


def differences(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path, value here, value there) wherever two descriptions differ."""
    if one == other:
        return
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from differences(one.get(key, ABSENT), other.get(key, ABSENT), f"{path}/{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (each, its) in enumerate(zip(one, other)):
            yield from differences(each, its, f"{path}/{number}")
    else:
        yield path, one, other
