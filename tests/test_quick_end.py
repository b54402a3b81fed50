"""wsrec.quick_end: how wsrec's processes end."""

from __future__ import annotations

import subprocess
import sys

import pytest

# atexit's functions run just before the first collection of the interpreter's end
_ENDED = """
import atexit, gc, runpy, sys

atexit.register(lambda: print("left out:", gc.get_freeze_count() > 10_000, flush=True))
module, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("words", [["wsrec", "feeds"], ["wsrec.writer"], ["wsrec.receive"]], ids=lambda words: words[0])
def test_the_end_does_not_search_what_was_imported_for_cycles(words):
    # without a job writer and receiver end at once
    command = [sys.executable, "-P", "-c", _ENDED, *words]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert ended.stdout.splitlines()[-1] == "left out: True", ended.stderr
