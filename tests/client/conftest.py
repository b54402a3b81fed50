"""Both cores, and connections on them."""

from __future__ import annotations

import pytest

from tests.receive.conftest import kernel_stamps
from wsrec.client import connection
from wsrec.client.consumer import Consumer
from wsrec.client.implementation import CompiledConsumer
from wsrec.receive.hotpath import HotPath
from wsrec.receive.implementation import CompiledHotPath

__all__ = ["kernel_stamps"]


@pytest.fixture(params=["python", "compiled"])
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every implementation of the hot path and its consumer, put under `wsrec.connect`."""
    compiled = request.param == "compiled"
    if compiled and (CompiledHotPath is None or CompiledConsumer is None):
        pytest.skip("the compiled core was not built here: no compiler, or no Cython")
    monkeypatch.setattr(connection, "ChosenHotPath", CompiledHotPath if compiled else HotPath)
    monkeypatch.setattr(connection, "Consumer", CompiledConsumer if compiled else Consumer)
    return request.param
