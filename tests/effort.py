"""How hard a run tries: a part of every search by default, all of it with `scripts/test --long` and in CI."""

from __future__ import annotations

import os

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
