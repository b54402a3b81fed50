"""The demo exchange: the synthetic market in a process of its own, for recording without the internet."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from wsrec import parent_death
from wsrec.child_environment import child_environment
from wsrec.ipc import encode_job
from wsrec.replay.job import DEMO, Endpoint, ReplayOptions

_START_SECONDS = 30.0  # imports and two keys; a loaded machine is slow at both
_STOP_SECONDS = 5.0


class DemoError(Exception):
    """The demo exchange did not start; see its output on standard error."""


@contextlib.contextmanager
def demo_exchange(*, rate: float = 1000.0, seed: int = 1) -> Iterator[Endpoint]:
    """Run the demo exchange over TLS on a free loopback port while the context is open.

    It ends with its standard input, so it does not outlive this process, however that ends. It has its own process
    group: the terminal's Ctrl-C stops the recorder first and the exchange after it.

    Args:
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
            bufsize=0,
            process_group=0,
            env=parent_death.with_parent_death(child_environment()),
        )
        try:
            yield _start(process, options)
        finally:
            _stop(process)


def _start(process: subprocess.Popen[bytes], options: ReplayOptions) -> Endpoint:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended, which its empty answer shows
        process.stdin.write(encode_job(options))
    ready, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
    line = process.stdout.readline() if ready else b""
    try:
        return msgspec.json.decode(line, type=Endpoint)
    except msgspec.DecodeError as error:
        raise DemoError("the demo exchange did not start; see its output on standard error") from error


def _stop(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
