"""What the sender puts into a TLS record, over tcp into a send, and when it begins."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from wsrec.bench.frames import share
from wsrec.bench.sender import GO, HeldPath, SenderJob, batches, certificates, sending, times_of
from wsrec.ring.mirror import create_shared

PAYLOADS = [b"x" * size for size in (0, 3, 200, 7, 20_000, 90)]
CLOSE = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=False)
REQUEST = (
    "GET {} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def wire(payload: bytes) -> bytes:
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


@pytest.fixture
def frames() -> Iterator[int]:
    fd = share([(Opcode.TEXT, payload) for payload in PAYLOADS])
    yield fd
    os.close(fd)


@contextmanager
def connected(url: str, ca_file: str | None, path: str = "/") -> Iterator[socket.socket]:
    plain = socket.create_connection(("127.0.0.1", int(url.rsplit(":")[-1])), 10)
    context = ssl.create_default_context(cafile=ca_file) if ca_file else None
    with context.wrap_socket(plain, server_hostname="localhost") if context else plain as client:
        client.sendall(REQUEST.format(path).encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 101")
        yield client


def records(client: socket.socket) -> Iterator[bytes]:
    """What is in each record, up to the close: a read brings one, and no more."""
    while (data := client.recv(65536)) != CLOSE:
        assert data, "the sender disconnected"
        yield data


class TestRecords:
    @pytest.mark.parametrize("rate", [None, 5000.0])
    def test_a_lone_frame_has_records_of_its_own(self, frames: int, rate: float | None, tmp_path: Path):
        ca_file, certificate = certificates(tmp_path)
        messages = 4 * len(PAYLOADS) - 1
        times = create_shared("times", 8 * messages)
        job = SenderJob(frames=frames, count=len(PAYLOADS), messages=messages, lone=True, certificate=certificate)
        job = msgspec.structs.replace(job, rate=rate, times=times if rate else None)
        with sending(job, print) as (_, url), connected(url, ca_file) as client:
            sizes = [len(record) for record in records(client)]
        each = [
            size
            for payload in (PAYLOADS * 4)[:messages]
            for size in ([len(wire(payload))] if len(payload) < 16384 else [16384, len(wire(payload)) - 16384])
        ]
        assert sizes == each
        assert job.messages_a_record() == len(PAYLOADS) / (len(PAYLOADS) + 1)
        sent = times_of(times).tolist()
        os.close(times)
        assert sent == sorted(sent)
        assert (min(sent) > 0) == (rate is not None)

    def test_bulk_ones_hold_as_many_frames_as_fit(self, frames: int, tmp_path: Path):
        ca_file, certificate = certificates(tmp_path)
        times = create_shared("times", 8 * 6)
        job = SenderJob(frames=frames, count=6, messages=6, rate=1000.0, times=times, certificate=certificate)
        with sending(job, print) as (_, url), connected(url, ca_file) as client:
            found = list(records(client))
        sent = times_of(times).tolist()
        os.close(times)
        assert found[0] == b"".join(map(wire, PAYLOADS[:4]))
        assert b"".join(found) == b"".join(map(wire, PAYLOADS))
        assert len(set(sent[:4])) == 1
        assert sent[3] < sent[4]

    @pytest.mark.parametrize("encrypted", [True, False])
    def test_a_held_path_gets_nothing_before_its_word(self, frames: int, tmp_path: Path, *, encrypted: bool):
        ca_file, certificate = certificates(tmp_path)
        job = SenderJob(frames=frames, count=6, messages=6, certificate=certificate if encrypted else None)
        with sending(job, print) as (process, url):
            # one that fails after the sender was ready for it
            with connected(url, ca_file if encrypted else None, HeldPath().path):
                pass
            held = HeldPath()
            with connected(url, ca_file if encrypted else None, held.path) as client:
                held.wait(process)
                client.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    client.recv(1)
                client.settimeout(10)
                process.send(GO)
                wanted, found = b"".join(map(wire, PAYLOADS)), b""
                while len(found) < len(wanted):
                    found += client.recv(65536)
                assert found == wanted


class TestBatches:
    @given(st.lists(st.integers(0, 600_000), max_size=12), st.integers(1, 1 << 20))
    def test_hold_everything_in_order(self, sizes: list[int], ahead: int):
        sends = [bytes([i]) * size for i, size in enumerate(sizes)]
        found = list(batches(sends, ahead))
        assert b"".join(chunk for batch in found for chunk in batch) == b"".join(sends)
        # no batch is longer than what was allowed and its last chunk
        assert all(sum(map(len, batch[:-1])) < ahead + (256 << 10) for batch in found)
