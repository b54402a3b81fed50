#!/usr/bin/env python3
"""What receiving a message costs: CPU time a message of the receive path, beside `websockets`, in one run.

A sender process blasts pre-built frames over loopback, plain or TLS, as fast as they are taken. On the other end is
either the receiver process of wsrec (six stamps a frame, parsed, a slot published; a drain in this process only counts
slots and gives the rings back), or a `websockets` client that counts messages. Counted is the CPU time of the receiving
process from its first message to its last (/proc/PID/schedstat). The two take turns; the medians count.

    python scripts/bench_receive.py [--recording FILE.txt.gz] [--messages N] [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
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
from collections.abc import Iterator
from pathlib import Path

import trustme
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from wsrec.child import STOP, encode_job
from wsrec.feed.plan import ConnectionPlan
from wsrec.receive.job import ReceiverJob, TlsMode
from wsrec.replay.market import Market
from wsrec.ring.bytering import ByteRing
from wsrec.ring.slotring import Flag, SlotRing
from wsrec.ring.status import StatusPage

CHUNK = 256 << 10
RECEIVERS = ("wsrec", "websockets")
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


def receive_wsrec(url: str, ca_file: str | None, count: int) -> tuple[float, float]:
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


def receive_websockets(url: str, ca_file: str | None, count: int) -> tuple[float, float]:
    """Receive with `websockets` in a process of its own; CPU and wall ns a message."""
    results: multiprocessing.Queue[tuple[float, float]] = multiprocessing.get_context("spawn").Queue()
    process = multiprocessing.get_context("spawn").Process(target=websockets_process, args=(url, ca_file, results))
    process.start()
    cpu, wall = results.get(timeout=300)
    process.join()
    return cpu / count, wall / count


def websockets_process(url: str, ca_file: str | None, results: multiprocessing.Queue[tuple[float, float]]) -> None:
    """The client process: count messages to the end."""

    async def run() -> None:
        context = ssl.create_default_context(cafile=ca_file) if ca_file else None
        async with connect(url, ssl=context, compression=None, max_size=None, ping_interval=None) as client:
            await client.recv()
            began, cpu_began = time.monotonic_ns(), time.process_time_ns()
            async for _ in client:
                pass
            results.put((time.process_time_ns() - cpu_began, time.monotonic_ns() - began))

    asyncio.run(run())


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recording", type=Path, help="text recording, a line a message: TIME MESSAGE")
    parser.add_argument("--messages", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()

    data, count = frames(options.recording, options.messages)
    results: dict[str, dict[str, list[tuple[float, float]]]] = {t: {r: [] for r in RECEIVERS} for t in TRANSPORTS}
    with tempfile.TemporaryDirectory() as folder:
        authority = trustme.CA()
        ca, cert, key = (str(Path(folder, name)) for name in ("ca.pem", "cert.pem", "key.pem"))
        authority.cert_pem.write_to_path(ca)
        issued = authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(key)
        for blob in issued.cert_chain_pems:
            blob.write_to_path(cert, append=True)
        for transport in TRANSPORTS:
            for port in serving(data, (cert, key) if transport == "tls" else None):
                url = f"{'wss' if transport == 'tls' else 'ws'}://localhost:{port}/"
                ca_file = ca if transport == "tls" else None
                for _ in range(options.rounds):
                    results[transport]["wsrec"].append(receive_wsrec(url, ca_file, count))
                    results[transport]["websockets"].append(receive_websockets(url, ca_file, count))
    print(f"{count:,} messages of {len(data) / count:.0f} bytes (frames), {options.rounds} rounds in turn, medians")
    print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    print(f"{'':22}{'CPU ns/message':>16}{'wall ns/message':>17}{'CPU of websockets':>19}")
    for transport in TRANSPORTS:
        reference = statistics.median(cpu for cpu, _ in results[transport]["websockets"])
        for name in RECEIVERS:
            cpu = statistics.median(cpu for cpu, _ in results[transport][name])
            wall = statistics.median(wall for _, wall in results[transport][name])
            print(f"{name + ' ' + transport:22}{cpu:16,.0f}{wall:17,.0f}{cpu / reference:19.2f}")
    if options.json:
        options.json.write_text(json.dumps({"messages": count, "bytes": len(data), "results": results}, indent=1))


if __name__ == "__main__":
    main()
