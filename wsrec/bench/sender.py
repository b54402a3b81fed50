"""The sender process: serves one client after another on loopback; each gets the handshake, frames and a close.

It sends as fast as the client reads, a given number of frames or for some seconds; or at a fixed rate, noting the time
just before each send. Over TLS everything but what is limited by seconds is encrypted before the first of it is sent.
It ends with its standard input.
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
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import trustme
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from wsrec import ipc
from wsrec.bench.conversation import Conversation, TlsConversation
from wsrec.bench.frames import Frames
from wsrec.bench.process import Process, running
from wsrec.host import privilege

GO = b"+"
"""Written to the sender's standard input: continue with a client of a held path."""
_HELD = "/held"
_CLOSE = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=False)
_CHUNK = 256 << 10
_RECORD = 16 << 10
# encrypted ahead; what is beyond it is encrypted while the client waits
_AHEAD = 256 << 20
# the kernel's ticks, which tell user space from the kernel, would else always meet the same point between two messages
_OFF_TICK = 1.0007
# time for a client to become idle before its first frame, and for a process to fall asleep (s)
_SETTLE_SECONDS = 0.2
_CLIENT_SECONDS = 300.0
_LOOK_SECONDS = 0.05
_START_SECONDS = 30.0
_READY_SECONDS = 120.0


class SenderJob(msgspec.Struct, frozen=True, kw_only=True):
    """The frames to send to each client.

    Attributes:
        frames: descriptor of the frames (`frames.share`).
        count: number of frames, which are sent repeatedly.
        messages: how many to send; None if `seconds` limits it.
        seconds: how long to send.
        lone: send each frame by itself, over TLS in a record of its own; otherwise as many as fit into a record
            (at a rate) or into 256 KiB.
        rate: messages per second; None: as fast as the client reads.
        times: with a rate: descriptor of `messages` 64-bit words, for CLOCK_MONOTONIC (ns) before each send.
        certificate: PEM files of certificate chain and key, for TLS.
        cpu: processor to run on.

    """

    frames: int
    count: int
    messages: int | None = None
    seconds: float | None = None
    lone: bool = False
    rate: float | None = None
    times: int | None = None
    certificate: tuple[str, str] | None = None
    cpu: int | None = None

    @property
    def piece_bytes(self) -> int:
        """About how many bytes are given to TLS or to a send together; a frame is never divided."""
        if self.lone:
            return 1
        return _CHUNK if self.rate is None else _RECORD

    def messages_a_record(self) -> float:
        """How many messages a TLS record has on average, over tcp a send."""
        frames = Frames(self.frames, self.count)
        sizes = [len(frames.run(*piece)) for piece in frames.pieces(self.piece_bytes)]
        records = len(sizes) if self.certificate is None else sum(-(-size // _RECORD) for size in sizes)
        return len(frames) / records


class Listening(msgspec.Struct, frozen=True, tag="listening", tag_field="type"):
    """The sender's first line."""

    port: int


class Ready(msgspec.Struct, frozen=True, tag="ready", tag_field="type"):
    """Written when everything is ready for the client of a held path, before `GO` is waited for."""

    path: str


class Served(msgspec.Struct, frozen=True, tag="served", tag_field="type"):
    """Written after each client that was sent to for `seconds`."""

    messages: int


class HeldPath:
    """A path that is requested once: its client gets its frames, and later its close, only after `GO`."""

    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self.path = f"{_HELD}/{next(self._numbers)}"

    def wait(self, sender: Process) -> None:
        """Wait until the sender is ready for its client.

        Raises:
            ContestantError: it ended, or was not ready in time.

        """
        # a client before this one may have failed after the sender was ready for it
        while sender.answer(Ready, _READY_SECONDS).path != self.path:
            pass


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


def batches(sends: Iterable[bytes | memoryview], ahead: int) -> Iterator[list[bytes | memoryview]]:
    """Join what is to be sent into chunks of 256 KiB, and yield these when they are `ahead` bytes, or all."""
    batch: list[bytes | memoryview] = []
    chunk: list[bytes | memoryview] = []
    size = total = 0
    for data in sends:
        chunk.append(data)
        size += len(data)
        if size >= _CHUNK:
            batch.append(b"".join(chunk))
            total += size
            chunk, size = [], 0
        if total >= ahead:
            yield batch
            batch, total = [], 0
    yield [*batch, b"".join(chunk)]


class _Sender:
    def __init__(self, job: SenderJob) -> None:
        self._job = job
        self._frames = Frames(job.frames, job.count)
        self._pieces = [(self._frames.run(*piece), *piece) for piece in self._frames.pieces(job.piece_bytes)]
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
                with TlsConversation(plain, self._context) if self._context else Conversation(plain) as client:
                    self._go.clear()
                    self._serve(client)
            except (OSError, WebSocketException, EOFError):
                # the client disconnected; its own side reports why
                plain.close()

    def _serve(self, client: Conversation) -> None:
        path = _handshake(client)
        held = path.startswith(_HELD)
        send = self._prepare(client)
        if held:
            _emit(Ready(path))
            self._hold(client)
        else:
            time.sleep(_SETTLE_SECONDS)
        sent = send()
        if held:
            self._hold(client)
        client.send(_CLOSE)
        # the client's own close, or the end of the connection
        client.receive()
        if self._job.seconds is not None:
            _emit(Served(sent))

    def _prepare(self, client: Conversation) -> Callable[[], int]:
        """Prepare what is sent; returns what sends it and then says how many frames it were."""
        job = self._job
        if job.messages is None:
            return partial(self._send_for, client, job.seconds or 0.0)
        if job.rate is not None:
            sends = [(client.on_the_wire(frames), count) for frames, count in self._all_pieces(job.messages)]
            return partial(self._pace, client, sends, job.rate)
        pieces = (frames for frames, _ in self._all_pieces(job.messages))
        if self._context is None:
            return partial(self._blast, client, [list(pieces)])
        encrypted = batches(map(client.on_the_wire, pieces), _AHEAD)
        return partial(self._blast, client, itertools.chain([next(encrypted)], encrypted))

    def _hold(self, client: Conversation) -> None:
        """Wait for `GO`.

        Raises:
            EOFError: the client disconnected (it has nothing to send before).

        """
        while not self._go.wait(_LOOK_SECONDS):
            if select.select([client.sock], [], [], 0)[0]:
                raise EOFError
        self._go.clear()

    def _all_pieces(self, messages: int) -> Iterator[tuple[memoryview, int]]:
        """So many frames in pieces, each with the number of its frames."""
        left = messages
        for frames, start, stop in itertools.cycle(self._pieces):
            count = min(stop - start, left)
            yield (frames if count == stop - start else self._frames.run(start, start + count)), count
            left -= count
            if not left:
                return

    def _blast(self, client: Conversation, batches: Iterable[list[bytes | memoryview]]) -> int:
        send = client.sock.sendall
        for data in itertools.chain.from_iterable(batches):
            send(data)
        return self._job.messages or 0

    def _send_for(self, client: Conversation, seconds: float) -> int:
        sent, deadline = 0, time.monotonic() + seconds
        for frames, start, stop in itertools.cycle(self._pieces):
            if time.monotonic() >= deadline:
                break
            client.send(frames)
            sent += stop - start
        return sent

    def _pace(self, client: Conversation, sends: list[tuple[bytes | memoryview, int]], rate: float) -> int:
        assert self._job.times is not None
        times = memoryview(mmap.mmap(self._job.times, 0)).cast("Q")
        gap, now, sendall = 1e9 / rate * _OFF_TICK, time.monotonic_ns, client.sock.sendall
        begin, i = now(), 0
        for data, count in sends:
            due = begin + int(i * gap)
            # sleeping in the kernel would be late by tens of microseconds
            while (moment := now()) < due:
                pass
            for _ in range(count):
                times[i] = moment
                i += 1
            sendall(data)
        time.sleep(_SETTLE_SECONDS)
        return i

    def _watch_stdin(self) -> None:
        while os.read(sys.stdin.fileno(), 1):
            self._go.set()
        os._exit(0)


def _handshake(client: Conversation) -> str:
    """Accept the client's opening handshake and return the requested path."""
    protocol = ServerProtocol(max_size=None)
    while not (events := protocol.events_received()):
        data = client.receive()
        if not data:
            raise EOFError
        protocol.receive_data(data)
    request = events[0]
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    client.send(b"".join(protocol.data_to_send()))
    return request.path


def _emit(line: Listening | Ready | Served) -> None:
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
