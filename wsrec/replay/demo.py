"""The demo exchange: the synthetic market in a process of its own, for recording without the internet."""

from __future__ import annotations

import asyncio
import contextlib
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from wsrec import parent_death
from wsrec.child_environment import child_environment
from wsrec.ipc import encode_job
from wsrec.replay.job import DEMO, Endpoint, ReplayOptions

_START_SECONDS = 30.0  # imports and two keys; a loaded machine is slow at both
_STOP_SECONDS = 5.0
_LINE_MAX = 2000


class DemoError(Exception):
    """The demo exchange did not start; the message says how it ended, its standard error why."""


class DemoExchange:
    """A running demo exchange.

    Args:
        process: its process.
        endpoint: its address.

    Attributes:
        endpoint: its address.

    """

    def __init__(self, process: subprocess.Popen[bytes], endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._process = process

    async def ended(self) -> str:
        """Wait until its process has ended by itself, and return how: the end of a sentence."""
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        output = self._process.stdout
        assert output is not None
        # it says nothing more: what can be read is the pipe's end
        loop.add_reader(output, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(output)
        return _how_it_ended(self._process)


@contextlib.contextmanager
def demo_exchange(on_line: Callable[[str], None], *, rate: float = 1000.0, seed: int = 1) -> Iterator[DemoExchange]:
    """Run the demo exchange over TLS on a free loopback port while the context is open.

    It is entered when clients can connect.

    It ends with its standard input, so it does not outlive this process, however that ends. It has its own process
    group: the terminal's Ctrl-C stops the recorder first and the exchange after it.

    Args:
        on_line: called, in a thread, with each line that it writes to standard error.
        rate: mean messages per second.
        seed: seed of the market.

    Raises:
        DemoError: it did not start.

    """
    with tempfile.TemporaryDirectory(prefix="wsrec-demo-") as folder:
        options = ReplayOptions(
            sources=(DEMO,), tls_self_signed=True, ca_out=str(Path(folder, "ca.pem")), rate=rate, seed=seed
        )
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "wsrec.replay"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            process_group=0,
            env=parent_death.with_parent_death(child_environment()),
        )
        reading = threading.Thread(target=_pass_on, args=(process, on_line), name="demo-stderr", daemon=True)
        reading.start()
        try:
            yield DemoExchange(process, _start(process, options))
        finally:
            _stop(process)
            # what it wrote last, such as why it failed
            reading.join(_STOP_SECONDS)


def _start(process: subprocess.Popen[bytes], options: ReplayOptions) -> Endpoint:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended, which its empty answer shows
        process.stdin.write(encode_job(options))
    ready, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
    if not ready:
        raise DemoError(
            f"the synthetic market did not start within {_START_SECONDS:.0f} s; is this machine overloaded?"
        )
    line = process.stdout.readline()
    if not line:
        raise DemoError(f"the synthetic market did not start: its process {_how_it_ended(process)}")
    return msgspec.json.decode(line, type=Endpoint)


def _how_it_ended(process: subprocess.Popen[bytes]) -> str:
    """The end of a sentence about a process whose output has ended."""
    try:
        status = process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        return "closed its output"
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _pass_on(process: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> None:
    assert process.stderr is not None
    with process.stderr as pipe:
        while line := pipe.readline(_LINE_MAX):
            on_line(line.decode(errors="backslashreplace").rstrip("\n"))


def _stop(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
