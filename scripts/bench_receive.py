#!/usr/bin/env python3
"""What receiving a message costs: CPU time a message of wsrec's receive path, beside other clients, in one run.

A sender process blasts pre-built frames over loopback, plain or TLS, as fast as they are taken. On the other end is
either the receiver process of wsrec, compiled or readable (six stamps a frame, parsed, a slot published; a drain in
this process only counts slots and gives the rings back), or a client that does nothing with what it gets: wsrec.connect
(six stamps, text validated, a callback a message), picows (a callback a frame), aiohttp, websockets, and a bare recv
loop that parses nothing, as the floor. Counted is the CPU time of the receiving process from its first message to its
last. They take turns; the medians count.

    python scripts/bench_receive.py [--recording FILE.txt.gz] [--messages N] [--rounds N] [--only NAME] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import importlib.util
import itertools
import json
import multiprocessing
import os
import platform
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trustme
import uvloop
from websockets.asyncio.client import connect
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from wsrec.child import STOP, encode_job
from wsrec.feed.plan import ConnectionPlan
from wsrec.receive.implementation import CompiledHotPath
from wsrec.receive.job import ReceiverJob, TlsMode
from wsrec.replay.market import Market
from wsrec.ring.bytering import ByteRing
from wsrec.ring.slotring import Flag, SlotRing
from wsrec.ring.status import StatusPage

Figures = tuple[float, float]
CHUNK = 256 << 10
TRANSPORTS = ("tcp", "tls")


def frames(recording: Path | None, count: int) -> tuple[bytes, int]:
    """Frames to send, and how many: real messages where there is a recording, else the synthetic market's."""
    if recording is not None:
        with gzip.open(recording) as lines:
            payloads = [line.rstrip(b"\n").split(b" ", 1)[1] for line in lines]
    else:
        payloads = synthetic(20_000)
    chosen = list(itertools.islice(itertools.cycle(payloads), count))
    return b"".join(Frame(Opcode.TEXT, payload).serialize(mask=False) for payload in chosen), len(chosen)


def synthetic(count: int) -> list[bytes]:
    """Messages of the demo market."""
    market, now_ms = Market(seed=1), 1_700_000_000_000
    for kind in ("trade", "bookTicker", "depth@0ms"):
        market.add(f"btcusdt@{kind}", 0.0)
    payloads: list[bytes] = []
    while len(payloads) < count:
        payloads += [event.payload for event in market.step(now_ms)]
    return payloads[:count]


def send(data: bytes, certificate: tuple[str, str] | None, ports: multiprocessing.Queue[int]) -> None:
    """The sender process: serve one client after another, each gets the handshake, all frames and a close."""
    listener = socket.create_server(("127.0.0.1", 0))
    ports.put(listener.getsockname()[1])
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    while True:
        client, _ = listener.accept()
        try:
            with context.wrap_socket(client, server_side=True) if context else client as connected:
                serve_one(connected, data)
        except OSError as error:
            print(f"sender: {error}", file=sys.stderr)


def serve_one(client: socket.socket, data: bytes) -> None:
    """The handshake, all frames, a close, and the client's answer."""
    protocol = ServerProtocol(max_size=None)
    while not (events := protocol.events_received()):
        protocol.receive_data(client.recv(65536))
    request = events[0]
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    client.sendall(b"".join(protocol.data_to_send()))
    view = memoryview(data)
    for start in range(0, len(view), CHUNK):
        client.sendall(view[start : start + CHUNK])
    client.sendall(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=False))
    client.recv(65536)


def cpu_ns(pid: int) -> int:
    """CPU time of a process so far."""
    return sum(int(task.joinpath("schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


def receive_wsrec(url: str, ca_file: str | None, count: int, *, pure: str) -> Figures:
    """Receive with wsrec's receiver process; CPU and wall ns a message."""
    slots, notes = SlotRing.create("slots"), ByteRing.create("notes", 1 << 20)
    status, ring = StatusPage.create("status"), ByteRing.create("ring")
    plan = ConnectionPlan(conn=0, feed="bench", url=url, public_url=url)
    job = ReceiverJob(
        slots=slots,
        rings=(ring,),
        notes=notes,
        status=status,
        connections=(plan,),
        tls=TlsMode.STAMPED,
        ca_file=ca_file,
        until_close=True,
    )
    slot_ring, byte_ring = SlotRing(slots), ByteRing(ring)
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "wsrec.receive"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=(slots, notes, status, ring),
        env={**os.environ, "WSREC_PURE": pure},
    ) as process:
        assert process.stdin is not None
        process.stdin.write(encode_job(job))
        process.stdin.flush()
        taken = seen = 0
        began = cpu_began = 0
        while seen < count:
            published = slot_ring.published.read()
            if published == taken:
                time.sleep(0.0005)
                continue
            run = slot_ring.run(taken, published)
            data = run[(run["flags"] & (Flag.SENT | Flag.EVENT)) == 0]
            if len(data):
                if not seen:
                    began, cpu_began = time.monotonic_ns(), cpu_ns(process.pid)
                    count -= len(data)
                else:
                    seen += len(data)
                seen = max(seen, 1)
                byte_ring.tail.publish(int(data["offset"][-1]) + int(data["length"][-1]))
            taken = published
            slot_ring.released.publish(taken)
        cpu, wall = cpu_ns(process.pid) - cpu_began, time.monotonic_ns() - began
        process.stdin.write(STOP)
        process.stdin.close()
        process.wait()
    for fd in (slots, notes, status, ring):
        os.close(fd)
    return cpu / count, wall / count


def receive_client(
    client: Callable[[str, str | None], Awaitable[Figures]], url: str, ca_file: str | None, *, pure: str = ""
) -> Figures:
    """Receive with a client, in a process of its own on uvloop."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[Figures] = context.Queue()
    process = context.Process(target=client_process, args=(client, url, ca_file, results))
    os.environ["WSREC_PURE"] = pure
    process.start()
    figures = results.get(timeout=300)
    process.join()
    return figures


def receive_in_process(url: str, ca_file: str | None, count: int, *, pure: str) -> Figures:
    """Receive with `wsrec.connect`; CPU and wall ns a message."""
    return scaled(receive_client(receive_connect, url, ca_file, pure=pure), count)


def client_process(
    client: Callable[[str, str | None], Coroutine[Any, Any, Figures]],
    url: str,
    ca_file: str | None,
    results: multiprocessing.Queue[Figures],
) -> None:
    results.put(uvloop.run(client(url, ca_file)))


def context_for(ca_file: str | None) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=ca_file) if ca_file else None


class Meter:
    """CPU and wall time from the first message on."""

    def __init__(self) -> None:
        self.began, self.cpu_began = time.monotonic_ns(), time.process_time_ns()

    def figures(self) -> Figures:
        return time.process_time_ns() - self.cpu_began, time.monotonic_ns() - self.began


async def receive_websockets(url: str, ca_file: str | None) -> Figures:
    """`websockets`: iterate over the messages."""
    context = context_for(ca_file)
    async with connect(url, ssl=context, compression=None, max_size=None, ping_interval=None) as client:
        await client.recv()
        meter = Meter()
        async for _ in client:
            pass
        return meter.figures()


async def receive_aiohttp(url: str, ca_file: str | None) -> Figures:
    """`aiohttp`: iterate over the messages."""
    import aiohttp

    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, ssl=context_for(ca_file) or True, max_msg_size=0, compress=0) as client,
    ):
        await client.receive()
        meter = Meter()
        async for _ in client:
            pass
        return meter.figures()


async def receive_picows(url: str, ca_file: str | None) -> Figures:
    """`picows`: a callback a frame."""
    import picows

    class Listener(picows.WSListener):  # type: ignore[misc]
        meter: Meter | None = None

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if self.meter is None:
                self.meter = Meter()
            elif frame.msg_type == picows.WSMsgType.CLOSE:
                done.set_result(self.meter.figures())
                transport.disconnect()

    done: asyncio.Future[Figures] = asyncio.get_running_loop().create_future()
    await picows.ws_connect(Listener, url, ssl_context=context_for(ca_file), max_frame_size=1 << 26)
    return await done


async def receive_connect(url: str, ca_file: str | None) -> Figures:
    """`wsrec.connect`: a callback a message, stamped and its text validated."""
    # which core it is is decided at import, by WSREC_PURE
    import wsrec

    meter: Meter | None = None

    def on_message(message: wsrec.Message) -> None:
        nonlocal meter
        if meter is None:
            meter = Meter()

    connection = await wsrec.connect(url, on_message=on_message, ca_file=ca_file)
    await connection.wait_closed()
    assert meter is not None
    return meter.figures()


async def receive_bare(url: str, ca_file: str | None) -> Figures:
    """The floor: blocking reads into one buffer, nothing parsed, until the server's close."""
    parsed = parse_uri(url)
    sock = socket.create_connection((parsed.host, parsed.port))
    context = context_for(ca_file)
    client = context.wrap_socket(sock, server_hostname=parsed.host) if context else sock
    protocol = ClientProtocol(parsed)
    protocol.send_request(protocol.connect())
    client.sendall(b"".join(protocol.data_to_send()))
    buffer = bytearray(128 << 10)
    client.recv_into(buffer)
    meter = Meter()
    close = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=False)
    while (size := client.recv_into(buffer)) and buffer[max(size - len(close), 0) : size] != close:
        pass
    figures = meter.figures()
    client.close()
    return figures


def serving(data: bytes, certificate: tuple[str, str] | None) -> Iterator[int]:
    """The sender's port, while it runs."""
    context = multiprocessing.get_context("fork")
    ports: multiprocessing.Queue[int] = context.Queue()
    sender = context.Process(target=send, args=(data, certificate, ports), daemon=True)
    sender.start()
    try:
        yield ports.get(timeout=30)
    finally:
        sender.kill()


CLIENTS = {
    "bare recv": receive_bare,
    "picows": receive_picows,
    "aiohttp": receive_aiohttp,
    "websockets": receive_websockets,
}


def receivers(names: Sequence[str]) -> dict[str, Callable[[str, str | None, int], Figures]]:
    """Everything that can be measured here, by name."""
    found: dict[str, Callable[[str, str | None, int], Figures]] = {}
    if CompiledHotPath is not None:
        found["wsrec compiled"] = partial(receive_wsrec, pure="")
        found["wsrec.connect compiled"] = partial(receive_in_process, pure="")
    found["wsrec python"] = partial(receive_wsrec, pure="1")
    found["wsrec.connect python"] = partial(receive_in_process, pure="1")
    for name, client in CLIENTS.items():
        if name in ("picows", "aiohttp") and importlib.util.find_spec(name) is None:
            print(f"{name} is not installed: pip install 'wsrec[bench]'", file=sys.stderr)
            continue
        found[name] = lambda url, ca_file, count, client=client: scaled(receive_client(client, url, ca_file), count)
    return {name: found[name] for name in found if not names or name in names}


def scaled(figures: Figures, count: int) -> Figures:
    return figures[0] / count, figures[1] / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recording", type=Path, help="text recording, a line a message: TIME MESSAGE")
    parser.add_argument("--messages", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", default=[], help="measure this one; repeatable")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()

    data, count = frames(options.recording, options.messages)
    chosen = receivers(options.only)
    results: dict[str, dict[str, list[Figures]]] = {t: {name: [] for name in chosen} for t in TRANSPORTS}
    with tempfile.TemporaryDirectory() as folder:
        ca, certificate = certificates(Path(folder))
        for transport in TRANSPORTS:
            for port in serving(data, certificate if transport == "tls" else None):
                url = f"{'wss' if transport == 'tls' else 'ws'}://localhost:{port}/"
                for _ in range(options.rounds):
                    for name, receive in chosen.items():
                        results[transport][name].append(receive(url, ca if transport == "tls" else None, count))
    print(f"{count:,} messages of {len(data) / count:.0f} bytes (frames), {options.rounds} rounds in turn, medians")
    print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    print(f"{'CPU ns a message':22}" + "".join(f"{transport:>10}{'ratio':>8}" for transport in TRANSPORTS))
    medians = {t: {n: statistics.median(cpu for cpu, _ in rounds) for n, rounds in results[t].items()} for t in results}
    for name in chosen:
        cells = [f"{medians[t][name]:10,.0f}{medians[t][name] / max(medians[t].values()):8.3f}" for t in TRANSPORTS]
        print(f"{name:22}" + "".join(cells))
    print("ratio: to the dearest of the column")
    if options.json:
        options.json.write_text(json.dumps({"messages": count, "bytes": len(data), "results": results}, indent=1))


def certificates(folder: Path) -> tuple[str, tuple[str, str]]:
    """A CA's file, and the files of a certificate for localhost and of its key."""
    authority = trustme.CA()
    ca, cert, key = (str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(ca)
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(key)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(cert, append=True)
    return ca, (cert, key)


if __name__ == "__main__":
    main()
