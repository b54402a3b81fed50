"""Many connections: what a recording of N of them takes, from its start to its clean end.

    scripts/many --connections 1000          # a table; the status is 1 if anything is missing or wrong
    scripts/many --connections 200 --tls

The server is a process of its own on loopback: each connection asks for a symbol of its own, is answered, and gets
numbered messages, so that the recording can be compared with them. With `--silent` it answers no close, and reads
nothing more. Memory is PSS, in which what processes share counts once (proc_pid_smaps_rollup(5)).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import os
import signal
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow.parquet as pq
import trustme

from tests.endurance.accounting import verify
from tests.endurance.kill_matrix import Recorder

PROCESSES = ("supervisor", "receiver", "writer")
_TIMEOUT = 300.0
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_BACKLOG = 4096
_TICKS = os.sysconf("SC_CLK_TCK")

FEED = """\
name: many
description: the test's own exchange, a connection a symbol
sockets: {{stream: {{url: "{url}"}}}}
symbols: {{pattern: 'S[0-9]+', words: a number, example: S1}}
subscribe: {{message: '{{"op":"subscribe","topics":{{topics}},"id":{{id}}}}'}}
limits: {{streams_per_connection: 1, connects: {connects}, connects_interval: 1{limits}}}
ack: {{id: id, error_code: [error.code], error_message: [error.msg]}}
fields: {{channel: [e], symbol: [s]}}
channels:
  trade: {{topic: "{{symbol}}", default: true, exchange_seq: [n], sequence: next}}
"""


class _Client(asyncio.Protocol):
    """One client of the server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._data = bytearray()
        self._is_open = self._closing = False
        self._transport: asyncio.Transport | None = None
        self.symbol: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop has its own, which is no subclass
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.clients.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._data += data
        if not self._is_open:
            head, end, rest = bytes(self._data).partition(b"\r\n\r\n")
            if not end:
                return
            self._data = bytearray(rest)
            self._is_open = True
            lines = head.split(b"\r\n")
            key = next(line[18:].strip() for line in lines if line.lower().startswith(b"sec-websocket-key"))
            accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
            self.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
        while self._frame():
            pass

    def _frame(self) -> bool:
        """Take one frame, short and whole as a client's small ones are; whether there was one."""
        data = self._data
        if len(data) < 2:
            return False
        size, at = data[1] & 0x7F, 2
        if size == 126:
            if len(data) < 4:
                return False
            size, at = int.from_bytes(data[2:4], "big"), 4
        if len(data) < at + 4 + size:
            return False
        mask = bytes(data[at : at + 4])
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data[at + 4 : at + 4 + size]))
        opcode = data[0] & 0x0F
        del data[: at + 4 + size]
        if opcode == _TEXT:
            requested = json.loads(payload)
            self.symbol = requested["topics"][0]
            self.write(frame(json.dumps({"result": None, "id": requested["id"]}).encode()))
            self._server.clients.add(self)
        elif opcode == _PING:
            self.write(frame(payload, _PONG))
        elif opcode == _CLOSE:
            self._closing = True
            self._server.clients.discard(self)
            if not self._server.silent and self._transport is not None:
                self.write(frame(payload, _CLOSE))
                self._transport.close()
        return True

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


class Server:
    """The exchange, in its process: `python -m tests.endurance.many --serve RATE`, words on standard input.

    Args:
        rate: messages a second, to all clients in turn.
        silent: whether no close is answered.
        padding: bytes in each message.

    """

    def __init__(self, rate: float, *, silent: bool, padding: int = 100) -> None:
        self.silent = silent
        self.clients: set[_Client] = set()
        self._rate = rate
        self._sent: dict[str, int] = defaultdict(int)
        self._padding = "x" * padding
        self._opened = 0

    async def run(self, certificate: Path | None) -> None:
        context = None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Client(self), "127.0.0.1", 0, ssl=context, backlog=_BACKLOG)
        port = server.sockets[0].getsockname()[1]
        print(json.dumps({"url": f"{'wss' if context else 'ws'}://localhost:{port}/stream"}), flush=True)
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        sending = asyncio.ensure_future(self._send())
        while line := await reader.readline():
            word, *arguments = line.decode().split()
            if word == "burst":
                self._burst(*map(int, arguments))
            print(json.dumps({"clients": len(self.clients), "sent": self._sent}), flush=True)
        sending.cancel()

    async def _send(self) -> None:
        """To all clients in turn, evenly."""
        began, done = time.monotonic(), 0
        turn: list[_Client] = []
        while self._rate:
            await asyncio.sleep(0.01)
            due = int((time.monotonic() - began) * self._rate)
            for _ in range(due - done):
                turn = turn or list(self.clients)
                if turn:
                    self._message(turn.pop())
            done = due

    def _burst(self, count: int, clients: int) -> None:
        """So many messages at once to each of so many clients."""
        for client in list(self.clients)[:clients]:
            for _ in range(count):
                self._message(client)

    def _message(self, client: _Client) -> None:
        symbol = client.symbol
        if client not in self.clients or symbol is None:
            return
        number = self._sent[symbol]
        self._sent[symbol] = number + 1
        data = {"e": "trade", "s": symbol, "n": number, "x": self._padding}
        client.write(frame(json.dumps(data).encode()))


def frame(data: bytes, opcode: int = _TEXT) -> bytes:
    if len(data) < 126:
        return struct.pack(">BB", 0x80 | opcode, len(data)) + data
    return struct.pack(">BBH", 0x80 | opcode, 126, len(data)) + data


class ManyExchange:
    """The same, as the process that starts it sees it."""

    def __init__(self, rate: float, *, tls: bool, silent: bool, folder: Path, padding: int = 100) -> None:
        self.ca_file = folder / "ca.pem" if tls else None
        arguments = [str(rate), "--padding", str(padding), *(["--silent"] if silent else [])]
        if tls:
            authority = trustme.CA()
            authority.cert_pem.write_to_path(str(self.ca_file))
            authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
            arguments += ["--certificate", str(folder / "server.pem")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.endurance.many", "--serve", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.url: str = self._line()["url"]

    def ask(self, word: str = "state") -> dict[str, Any]:
        """How many are subscribed, and how many messages each symbol got."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self._line()

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line: dict[str, Any] = json.loads(self._process.stdout.readline())
        return line


class Result(NamedTuple):
    """What one run came to; times in s, memory in bytes.

    Attributes:
        started: from the command to the first connection that is open.
        opened: from that to all of them.
        pss: of each process, idle, once all were open.
        pss_end: the same at the end, after all that was sent.
        working: CPU time of each process up to then: starting and connecting.
        idle: CPU time of each process a second, while messages came at the pace.
        ended: from SIGTERM to the exit.
        descriptors: that each process had open.
        sent, recorded: messages.
        restarts: of processes.
        stalls: full rings.
        status: exit status of the recording.
        verified: exit status of `wsrec verify`.
        faults: what is against the rules.

    """

    started: float
    opened: float
    pss: dict[str, int]
    pss_end: dict[str, int]
    working: dict[str, float]
    idle: dict[str, float]
    ended: float
    descriptors: dict[str, int]
    sent: int
    recorded: int
    restarts: int
    stalls: int
    status: int
    verified: int
    faults: tuple[str, ...]


def run(
    folder: Path,
    connections: int,
    *,
    tls: bool = False,
    silent: bool = False,
    rate: float = 100.0,
    seconds: float = 10.0,
    connects: int = 100_000,
    burst: tuple[int, int] = (0, 0),
    padding: int = 100,
    limits: str = "",
    arguments: tuple[str, ...] = (),
) -> Result:
    """Record that many connections for some seconds, and hold what is in the files against what was sent."""
    exchange = ManyExchange(rate, tls=tls, silent=silent, folder=folder, padding=padding)
    readers = ThreadPoolExecutor(1)
    try:
        feed, out = folder / "many.yaml", folder / "captures"
        feed.write_text(FEED.format(url=exchange.url, connects=connects, limits=limits))
        symbols = folder / "symbols.txt"
        symbols.write_text("\n".join(f"S{number}" for number in range(connections)))
        more = ("--ca-file", str(exchange.ca_file)) if exchange.ca_file else ()
        began = time.monotonic()
        recorder = Recorder("record", feed, "--symbols", f"@{symbols}", "--out", out, "--json", *more, *arguments)
        # a pipe without a reader would block the recorder
        log_of = readers.submit(recorder.process.stderr.read)
        try:
            first = _until(lambda: exchange.ask()["clients"], recorder)
            last = _until(lambda: exchange.ask()["clients"] >= connections, recorder)
            time.sleep(1)
            pss, worked = _each(recorder, _pss), _each(recorder, _cpu)
            descriptors = _each(recorder, lambda pid: len(list(Path(f"/proc/{pid}/fd").iterdir())))
            idle_since = time.monotonic()
            if any(burst):
                exchange.ask(f"burst {burst[0]} {burst[1]}")
            time.sleep(seconds)
            idle_seconds = time.monotonic() - idle_since
            pss_end, done = _each(recorder, _pss), _each(recorder, _cpu)
            state = exchange.ask()
            ending = time.monotonic()
            recorder.process.send_signal(signal.SIGTERM)
            recorder.process.wait(_TIMEOUT)
            ended = time.monotonic() - ending
            with recorder.process:
                text, log = recorder.process.stdout.read(), log_of.result()
        finally:
            recorder.process.kill()
            recorder.process.wait()
        state = exchange.ask()
    finally:
        exchange.stop()
        readers.shutdown(wait=False)
    outcome = json.loads(text) if text else {}
    recorded, faults = _compared(out, state["sent"])
    verdict = verify(out)
    faults += [f"restarts: {outcome.get('restarts')}"] * bool(outcome.get("restarts"))
    words = (" warning ", " error ", "Traceback")
    lines = [line for line in log.splitlines() if any(word in line for word in words)]
    # what the machine does not allow is no fault of the recording
    faults += [f"log: {line}" for line in lines if "locking memory" not in line]
    # a server that does not answer a close may have sent more, which is reported
    allowed = (0, 4) if silent else (0,)
    faults += [f"exit status {recorder.process.returncode}"] * (recorder.process.returncode not in allowed)
    faults += [f"verify: status {verdict['status']}"] * (verdict["status"] not in allowed)
    return Result(
        started=first - began,
        opened=last - first,
        pss=pss,
        pss_end=pss_end,
        working=worked,
        idle={name: (done[name] - worked[name]) / idle_seconds for name in done},
        ended=ended,
        descriptors=descriptors,
        sent=sum(state["sent"].values()),
        recorded=recorded,
        restarts=outcome.get("restarts", -1),
        stalls=outcome.get("stalls", -1),
        status=recorder.process.returncode,
        verified=verdict["status"],
        faults=tuple(faults),
    )


def _until(condition: Any, recorder: Recorder) -> float:
    """When it came true (monotonic, s)."""
    deadline = time.monotonic() + _TIMEOUT
    while not condition():
        if recorder.process.poll() is not None or time.monotonic() > deadline:
            recorder.process.kill()
            raise RuntimeError(f"not connected: {recorder.process.communicate()[1][-3000:]}")
        time.sleep(0.02)
    return time.monotonic()


def _each(recorder: Recorder, measure: Any) -> dict[str, Any]:
    """A figure of each process that runs; 0 of one that has just ended."""
    found = {}
    for name in PROCESSES:
        found[name] = 0
        for pid in recorder.named(name):
            with contextlib.suppress(OSError):
                found[name] += measure(pid)
    return found


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _compared(out: Path, sent: dict[str, int]) -> tuple[int, list[str]]:
    """How many messages are recorded, and where that is not what was sent."""
    numbers: dict[str, list[Any]] = defaultdict(list)
    for path in sorted((out / "messages").rglob("*.parquet")):
        table = pq.ParquetFile(path).read(columns=["direction", "symbol", "exchange_seq"])
        table = table.filter(table["exchange_seq"].is_valid())
        symbols = np.array(table["symbol"].to_pylist(), dtype=object)
        found = table["exchange_seq"].cast("int64").to_numpy()
        for symbol in np.unique(symbols) if len(symbols) else ():
            numbers[symbol].append(found[symbols == symbol])
    recorded, faults = 0, []
    for symbol, count in sent.items():
        found = np.concatenate(numbers[symbol]) if symbol in numbers else np.array([], np.int64)
        recorded += len(found)
        if not np.array_equal(found, np.arange(count)):
            faults.append(f"{symbol}: {len(found)} of {count}")
    return recorded, faults


def show(result: Result, say: Any = print) -> None:
    """Print what a run came to."""
    total = sum(result.pss.values())
    say(f"  first connection after {result.started:.1f} s, all {result.opened:.1f} s later")
    for name in PROCESSES:
        say(
            f"  {name:<10} PSS {result.pss[name] / 1e6:7.1f} MB, at the end {result.pss_end[name] / 1e6:7.1f} MB; CPU "
            f"{result.working[name]:5.2f} s until open, {result.idle[name] * 100:5.1f} % after; "
            f"{result.descriptors[name]:,} descriptors"
        )
    say(f"  together   PSS {total / 1e6:7.1f} MB, at the end {sum(result.pss_end.values()) / 1e6:7.1f} MB")
    say(
        f"  {result.recorded:,} of {result.sent:,} messages recorded, {result.stalls} stalls, {result.restarts} "
        f"restarts; SIGTERM to exit {result.ended:.2f} s, status {result.status}, verify {result.verified}"
    )
    for fault in result.faults[:10]:
        say(f"  BAD: {fault[:300]}")
    say(f"  {'good' if not result.faults else f'{len(result.faults)} faults'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--tls", action="store_true", help="over wss://")
    parser.add_argument("--silent", action="store_true", help="the server answers no close")
    parser.add_argument("--rate", type=float, default=100, help="messages a second, all connections together")
    parser.add_argument("--seconds", type=float, default=10, help="how long all are open")
    parser.add_argument("--connects", type=int, default=100_000, help="attempts a second that the exchange allows")
    parser.add_argument(
        "--burst",
        type=int,
        nargs=2,
        default=(0, 0),
        metavar=("MESSAGES", "CONNECTIONS"),
        help="so many messages at once, to each of so many connections, when all are open",
    )
    parser.add_argument("--json", type=Path, help="write the result there too")
    parser.add_argument("--serve", type=float, metavar="RATE", help=argparse.SUPPRESS)
    parser.add_argument("--certificate", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--padding", type=int, default=100, help="bytes in each message beside some 40 others")
    parser.add_argument("arguments", nargs="*", help="for wsrec record, behind --")
    options = parser.parse_args()
    if options.serve is not None:
        import uvloop

        uvloop.run(Server(options.serve, silent=options.silent, padding=options.padding).run(options.certificate))
        return 0
    print(f"{options.connections:,} connections over {'wss' if options.tls else 'ws'}://", flush=True)
    with tempfile.TemporaryDirectory(prefix="wsrec-many-") as folder:
        result = run(
            Path(folder),
            options.connections,
            tls=options.tls,
            silent=options.silent,
            rate=options.rate,
            seconds=options.seconds,
            connects=options.connects,
            burst=tuple(options.burst),
            padding=options.padding,
            arguments=tuple(options.arguments),
        )
    show(result)
    if options.json is not None:
        options.json.write_text(json.dumps(result._asdict(), indent=1))
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main())
