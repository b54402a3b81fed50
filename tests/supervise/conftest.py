"""Recordings that the tests of the supervisor kill, stop and end: real processes against a real exchange."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import messages_of, received
from tests.rings import payloads
from wsrec.format import manifest
from wsrec.format.lock import OutputLock, OutputLockedError
from wsrec.writer.journal_reader import JournalReader


class Stream:
    """An endless exchange: numbered messages, a thousand a second; remembers when (ns since the epoch) it sent each."""

    def __init__(self, padding: int = 0) -> None:
        self.times: list[int] = []
        self.server: Any = None
        self._padding = f" {'x' * padding}" if padding else ""

    async def __call__(self, connection) -> None:
        while True:
            for _ in range(10):
                self.times.append(time.time_ns())
                await connection.send(f"message {len(self.times) - 1}{self._padding}")
            await asyncio.sleep(0.01)


class Recording:
    """`wsrec record` of a stream, running."""

    def __init__(self, process: subprocess.Popen[str], out: Path, stream: Stream) -> None:
        self.process, self.out, self.stream = process, out, stream

    def child(self, module: str) -> int:
        """Process id of the receiver or the writer; waits for one that is being started."""
        return self.until(lambda: next(iter(self.running(module)), None))

    def running(self, module: str) -> list[int]:
        found = []
        for pid in self.children():
            with contextlib.suppress(OSError):
                if module in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
                    found.append(pid)
        return found

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def journalled(self) -> list[bytes]:
        """The messages in the journal now."""
        found = []
        for path in sorted((self.out / ".wsrec").glob("*/journal-*.arrows")):
            with contextlib.suppress(Exception):
                found += [p for batch in JournalReader(path) for p in payloads(batch) if p.startswith(b"message")]
        return found

    def until(self, condition, seconds: float = 120) -> Any:
        """Wait until `condition` holds, and return the output so far."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, "timed out"
            time.sleep(0.02)
        return value

    def end(self, status: int) -> tuple[str, str]:
        output, log = self.process.communicate(timeout=120)
        assert self.process.returncode == status, log
        assert "Traceback" not in log
        return output, log


@pytest.fixture
def recording(wsrec, exchange, tmp_path):
    with contextlib.ExitStack() as stack:

        def start(*arguments: object, **options: object) -> Recording:
            stream = Stream()
            server = stream.server = exchange(stream)
            process = wsrec.start("record", server.url, "--out", tmp_path, *arguments, **options)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            started = Recording(process, tmp_path, stream)
            started.until(lambda: len(started.journalled()) > 100)
            return started

        yield start


def numbered(out: Path) -> list[bytes]:
    """The messages of an output folder, which must be those from the first on."""
    found = received(messages_of(out))
    assert found == [b"message %d" % index for index in range(len(found))]
    return found


def finished(out: Path) -> None:
    assert [path for path in (out / ".wsrec").iterdir() if path.is_dir() and path.name != "aside"] == []
    assert all((out / line.path).exists() for line in manifest.read(out) if line.path)


def free(out: Path) -> bool:
    try:
        with OutputLock(out):
            return True
    except OutputLockedError:
        return False


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
