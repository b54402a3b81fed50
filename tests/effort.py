"""How hard a run tries: a part of every search by default, all of it with `scripts/test --long` and in CI."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

LONG = os.environ.get("WSREC_TESTS_LONG") == "1"
_PART = 4
_LEAST = 10


def examples(count: int) -> int:
    """How many of the `count` examples of a long run hypothesis tries in this one."""
    return count if LONG else min(count, max(count // _PART, _LEAST))


# how long an example takes says more about who else uses this machine
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", _PATIENT, max_examples=100)
settings.register_profile("default", _PATIENT, max_examples=examples(100))
settings.load_profile("long" if LONG else "default")


def thinned(cases: Iterable[Any], *, keep: int = 1) -> list[Any]:
    """The cases of a matrix that costs a process each: a default run tries the first `keep`, a long one all.

    Args:
        cases: as for `pytest.mark.parametrize`; a tuple is the values of several arguments.
        keep: how many are not `long`.

    """
    return [case if place < keep else _long(case) for place, case in enumerate(cases)]


def _long(case: Any) -> Any:
    if isinstance(case, type(pytest.param())):
        return pytest.param(*case.values, marks=[*case.marks, pytest.mark.long], id=case.id)
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.long)
