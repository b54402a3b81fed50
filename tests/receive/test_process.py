"""wsrec.receive.process: a receiver without memory ends so that another can take over."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from wsrec import ipc

CODE = """
import asyncio
from wsrec import ipc
from wsrec.receive import process

ipc.report_to_parent()

async def main():
    asyncio.get_running_loop().set_exception_handler(process._on_exception)
    asyncio.get_running_loop().call_soon(bytes, 1 << 62)
    try:
        await asyncio.sleep(10)
    finally:
        print("last words")

asyncio.run(main())
"""


def test_memory_that_runs_out_in_a_callback_ends_the_process_at_once():
    result = subprocess.run([sys.executable, "-P", "-c", CODE], capture_output=True, text=True, timeout=99, check=False)
    assert result.returncode == 1, result.stderr
    (line,) = result.stdout.splitlines()
    failed = msgspec.json.decode(line, type=ipc.Line)
    assert isinstance(failed, ipc.FailedLine)
    assert failed.again
    assert "out of memory" in failed.message
