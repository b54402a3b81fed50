"""wsrec.client.implementation, and what importing wsrec costs."""

from __future__ import annotations

import os
import subprocess
import sys

import wsrec
from wsrec.client.implementation import CompiledConsumer

CHOSEN = (
    "import wsrec; from wsrec.client.connection import Consumer; print(Consumer.__module__, wsrec.Message.__module__)"
)
LOADED = (
    "import sys, wsrec; print([name for name in sys.modules if name.startswith(('wsrec.', 'numpy', 'websockets'))])"
)


def reported(program: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


class TestChoice:
    def test_the_compiled_one_where_it_was_built(self):
        expected = "wsrec.client.consumer" if CompiledConsumer is None else "wsrec.client._consumer"
        assert reported(CHOSEN, WSREC_PURE="") == f"{expected} {expected}"

    def test_the_readable_one_where_it_is_asked_for(self):
        assert reported(CHOSEN, WSREC_PURE="1") == "wsrec.client.consumer wsrec.client.consumer"


class TestImport:
    def test_the_command_does_not_pay_for_the_library(self):
        assert reported(LOADED) == "[]"

    def test_every_name_is_there(self):
        assert set(wsrec.__all__) <= set(dir(wsrec))
        assert all(getattr(wsrec, name) for name in wsrec.__all__)
