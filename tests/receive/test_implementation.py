"""wsrec.receive.implementation: which hot path runs."""

from __future__ import annotations

import os
import subprocess
import sys

from wsrec.receive.implementation import CompiledHotPath

ASK = "from wsrec.receive.implementation import COMPILED, HotPath; print(COMPILED, HotPath.__module__)"


def chosen(**environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-P", "-c", ASK], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


class TestChoice:
    def test_the_compiled_one_where_it_was_built(self):
        expected = "False wsrec.receive.hotpath" if CompiledHotPath is None else "True wsrec.receive._hotpath"
        assert chosen(WSREC_PURE="") == expected

    def test_the_readable_one_where_it_is_asked_for(self):
        assert chosen(WSREC_PURE="1") == "False wsrec.receive.hotpath"
