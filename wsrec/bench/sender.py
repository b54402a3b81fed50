"""The sender process: serves one client after another on loopback; each gets the handshake, frames and a close.

It sends as fast as the client reads, a given number of frames or for some seconds; or at a fixed rate, noting the time
just before each send. It ends with its standard input.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import trustme
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from wsrec import ipc
from wsrec.bench.frames import Frames
from wsrec.bench.process import Process, running
from wsrec.host import privilege

GO = b"+"
"""Written to the sender's standard input: continue with a client that requested `HELD`."""
HELD = "/held"
"""A client of this path gets its frames, and later its close, only after `GO`."""
_CLOSE = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=False)
_CHUNK = 256 << 10
# time for a client to become idle before its first frame, and for a process to fall asleep (s)
_SETTLE_SECONDS = 0.2
_CLIENT_SECONDS = 300.0
_LOOK_SECONDS = 0.05
_START_SECONDS = 30.0


class SenderJob(msgspec.Struct, frozen=True, kw_only=True):
    """The frames to send to each client.

    Attributes:
        frames: descriptor of the frames (`frames.share`).
        count: number of frames, which are sent repeatedly.
        messages: how many to send; None if `seconds` limits it.
        seconds: how long to send.
        rate: messages per second; None: as fast as the client reads.
        times: with a rate: descriptor of `messages` 64-bit words, for CLOCK_MONOTONIC (ns) before each send.
        certificate: PEM files of certificate chain and key, for TLS.
        cpu: processor to run on.

    """

    frames: int
    count: int
    messages: int | None = None
    seconds: float | None = None
    rate: float | None = None
    times: int | None = None
    certificate: tuple[str, str] | None = None
    cpu: int | None = None


class Listening(msgspec.Struct, frozen=True, tag="listening", tag_field="type"):
    """The sender's first line."""

    port: int


class Served(msgspec.Struct, frozen=True, tag="served", tag_field="type"):
    """Sent after each client that received everything."""

    messages: int


@contextlib.contextmanager
def sending(job: SenderJob, warn: Callable[[str], None]) -> Iterator[tuple[Process, str]]:
    """Run a sender while the context is open: the process, and its URL without a path.

    Raises:
        ContestantError: it did not start.

    """
    descriptors = [job.frames] if job.times is None else [job.frames, job.times]
    with running("wsrec.bench.sender", job, warn, descriptors) as process:
        port = process.answer(Listening, _START_SECONDS).port
        yield process, f"{'ws' if job.certificate is None else 'wss'}://localhost:{port}"


def certificates(folder: Path) -> tuple[str, tuple[str, str]]:
    """Write a CA's certificate, and certificate and key of a server on localhost, into a private folder.

    Returns:
        The CA's PEM file, and the PEM files of chain and key.

    """
    authority = trustme.CA(organization_name="wsrec bench")
    ca, chain, key = (str(folder / name) for name in ("ca.pem", "chain.pem", "key.pem"))
    authority.cert_pem.write_to_path(ca)
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(key)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    return ca, (chain, key)


class _Sender:
    def __init__(self, job: SenderJob) -> None:
        self._job = job
        self._frames = Frames(job.frames, job.count)
        self._pieces = list(self._frames.pieces(_CHUNK))
        self._go = threading.Event()
        self._context: ssl.SSLContext | None = None
        if job.certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*job.certificate)

    def run(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._watch_stdin, daemon=True).start()
        _emit(Listening(listener.getsockname()[1]))
        while True:
            plain, _ = listener.accept()
            plain.settimeout(_CLIENT_SECONDS)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self._go.clear()
                with self._context.wrap_socket(plain, server_side=True) if self._context else plain as client:
                    _emit(Served(self._serve(client)))
            except (OSError, WebSocketException, EOFError):
                # the client disconnected; its own side reports why
                continue

    def _serve(self, client: socket.socket) -> int:
        held = _handshake(client) == HELD
        if held:
            self._hold(client)
        else:
            time.sleep(_SETTLE_SECONDS)
        job = self._job
        if job.rate is not None:
            assert job.messages is not None
            sent = self._pace(client, job.messages, job.rate)
        else:
            sent = self._blast(client)
        if held:
            self._hold(client)
        client.sendall(_CLOSE)
        # the client's own close, or the end of the connection
        client.recv(65536)
        return sent

    def _hold(self, client: socket.socket) -> None:
        """Wait for `GO`.

        Raises:
            EOFError: the client disconnected (it has nothing to send before).

        """
        while not self._go.wait(_LOOK_SECONDS):
            if select.select([client], [], [], 0)[0]:
                raise EOFError
        self._go.clear()

    def _blast(self, client: socket.socket) -> int:
        frames, messages, seconds, sent = self._frames, self._job.messages, self._job.seconds or 0.0, 0
        deadline = time.monotonic() + seconds
        for start, stop in itertools.cycle(self._pieces):
            if messages is not None:
                stop = min(stop, start + messages - sent)
            if stop <= start or (messages is None and time.monotonic() >= deadline):
                return sent
            client.sendall(frames.run(start, stop))
            sent += stop - start
        raise AssertionError("a cycle has no end")

    def _pace(self, client: socket.socket, messages: int, rate: float) -> int:
        assert self._job.times is not None
        times = memoryview(mmap.mmap(self._job.times, 0)).cast("Q")
        frames = [self._frames.run(i, i + 1) for i in range(min(len(self._frames), messages))]
        count, gap, now = len(frames), 1e9 / rate, time.monotonic_ns
        begin = now()
        for i in range(messages):
            due = begin + int(i * gap)
            # sleeping in the kernel would be late by tens of microseconds
            while (moment := now()) < due:
                pass
            times[i] = moment
            client.sendall(frames[i % count])
        time.sleep(_SETTLE_SECONDS)
        return messages

    def _watch_stdin(self) -> None:
        while os.read(sys.stdin.fileno(), 1):
            self._go.set()
        os._exit(0)


def _handshake(client: socket.socket) -> str:
    """Accept the client's opening handshake and return the requested path."""
    protocol = ServerProtocol(max_size=None)
    while not (events := protocol.events_received()):
        data = client.recv(65536)
        if not data:
            raise EOFError
        protocol.receive_data(data)
    request = events[0]
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    client.sendall(b"".join(protocol.data_to_send()))
    return request.path


def _emit(line: Listening | Served) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def times_of(fd: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Shared 64-bit words as an array."""
    return np.frombuffer(mmap.mmap(fd, 0), np.int64)


def main() -> None:
    """Run a sender; the job is read from standard input."""
    ipc.report_to_parent(blocking=True)
    job = ipc.read_job(SenderJob)
    if job.cpu is not None and (refusal := privilege.pin(job.cpu)) is not None:
        ipc.warn(f"sender: {refusal.what} was refused: {refusal.reason}", refusal.hint)
    _Sender(job).run()


if __name__ == "__main__":
    main()
