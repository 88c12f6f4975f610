"""Which cases of a test are run each time, and which by `make soak` alone."""

from collections.abc import Iterable
from typing import Any

import pytest


def sampled(cases: Iterable[Any], *kept: Any) -> list[Any]:
    """`cases` for pytest's parametrize, of which all but `kept` are left to `make soak`.

    Args:
        kept: cases, or the first value of cases with several; none of them may be missing.
    """
    cases = list(cases)
    first = [case[0] if isinstance(case, tuple) else case for case in cases]
    assert not (
        unknown := [each for each in kept if each not in first and each not in cases]
    ), f"no such case: {unknown}"
    return [
        case if case in kept or name in kept else _soak(case) for case, name in zip(cases, first)
    ]


def _soak(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.soak)
