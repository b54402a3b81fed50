"""A disk that fills up under a recording: rings hold, TCP pushes back, and nothing is lost in the end."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import events_of, messages_of, received
from wsrec.verify.model import VerifyStatus
from wsrec.verify.verify import verify

COUNT = 4000
PAYLOAD = b"x" * 1000


async def burst(connection) -> None:
    """More than the rings and TCP's buffers hold, once it is requested."""
    await connection.send(b"first")
    await connection.recv()
    for index in range(COUNT):
        await connection.send(b"%06d" % index + PAYLOAD)
    await connection.wait_closed()


@pytest.mark.long
def test_a_full_disk_pauses_the_exchange_and_loses_nothing(wsrec, exchange, small_disk, tmp_path):
    server = exchange(burst)
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.tell() < 7 << 20:
            file.write(bytes(4096))
    process = wsrec.start(
        "record",
        server.url,
        "--out",
        small_disk,
        "--subscribe",
        "go",
        "--ring-size",
        "64KiB",
        "--json",
        "--on-event",
        f"cat >> {tmp_path}/events",
    )
    try:
        until(lambda: (small_disk / ".wsrec").is_dir() and shutil.disk_usage(small_disk).free < 1 << 16)
        # long enough for the rings to fill behind it
        time.sleep(1)
        ballast.unlink()
        until(lambda: journalled(small_disk))
    finally:
        process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert "cannot be written" in log
    messages = received(messages_of(small_disk))
    assert messages == [b"first", *(b"%06d" % index + PAYLOAD for index in range(COUNT))]
    assert events_of(small_disk, "disk")
    assert events_of(small_disk, "stall")
    told = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [event["level"] for event in told if event["kind"] == "disk"][:2] == ["error", "info"]
    assert (told[-1]["kind"], told[-1]["detail"]["status"]) == ("end", 0)
    verification = verify([small_disk])
    assert verification.status == VerifyStatus.HOLDS
    (balance,) = [session.balance for capture in verification.captures for session in capture.sessions]
    assert balance.balanced
    assert balance.frames == balance.rows


def journalled(folder: Path) -> bool:
    """Whether the last message is in a journal."""
    last = b"%06d" % (COUNT - 1)
    return any(last in path.read_bytes() for path in (folder / ".wsrec").glob("*/journal-*.arrows"))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def test_a_disk_that_is_full_from_the_beginning_is_named(wsrec, exchange, small_disk):
    with contextlib.suppress(OSError), (small_disk / "fill").open("wb", buffering=0) as fill:
        while True:
            fill.write(bytes(4096))
    result = wsrec.run("record", exchange(burst).url, "--out", small_disk / "out", "--duration", "1s")
    assert result.returncode == 1, result.stderr
    assert "No space left on device" in result.stderr
    assert str(small_disk) in result.stderr
    assert "make room there" in result.stderr
    assert "ulimit" not in result.stderr
