"""What a session holds: the values of names in it, as they are recorded; a kernel without this package tells, too."""

import inspect
from collections.abc import Iterable


def held(names: "list[str]", session: "dict") -> "str":
    """{name: value} of those of `names` that `session` (its globals) has, as JSON: what is not plain by its repr."""
    import json

    longest = 200  # characters

    def described(value: "object") -> "str":
        text = " ".join(repr(value).split())
        return text if len(text) <= longest else text[:longest] + "…"

    def plain(value: "object") -> "object":
        if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
            return value.item()
        if hasattr(value, "isoformat"):
            return value.isoformat()
        return str(value) if hasattr(value, "__fspath__") else described(value)

    def told(value: "object") -> "str":
        try:
            has_other_keys = isinstance(value, dict) and not all(isinstance(k, str) for k in value)
            shown = described(value) if has_other_keys else value
            text = json.dumps(shown, default=plain, ensure_ascii=False)
            text.encode()  # half a character pair is no text
            return text
        except Exception:  # pylint: disable=broad-exception-caught
            return json.dumps(f"<{type(value).__name__}>")

    pairs = (f"{json.dumps(n)}: {told(session[n])}" for n in names if n in session)
    return "{" + ", ".join(pairs) + "}"


def expression(names: Iterable[str]) -> str:
    """The Python expression that has the value of `held(names, globals())`, wherever it is evaluated."""
    source = inspect.getsource(held)
    return f"(lambda space: (exec({source!r}, space), space['held']({list(names)!r}, globals()))[1])({{}})"
