"""The shared memory of the ring tests."""

from tests.ring.conftest import other_process, owned

__all__ = ["other_process", "owned"]
