"""How long `wsrec record` takes from SIGTERM to its exit while something hangs; run by scripts/ends.

Each fault is that of every connection of a recording, of one and of many; beside them one connection is healthy, but
where nothing may ever have been connected (`alone`).
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.conftest import events_of
from tests.faults.names import NameServer, Recording, may_mount
from tests.receive.conftest import text
from tests.receive.hosts import black_hole
from tests.receive.test_receiver import answer

LIMIT = 3.0


@contextlib.contextmanager
def server(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """A server at every address of loopback; each connection has a thread, and is held until the end."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("0.0.0.0", 0), backlog=1024))

        def one(connection: socket.socket) -> None:
            with contextlib.suppress(OSError):
                serve(connection)

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = stack.enter_context(listening.accept()[0])
                    threading.Thread(target=one, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def hosts(count: int) -> list[str]:
    """Addresses of loopback, each of which is a target of its own."""
    return [f"127.9.{n // 200}.{n % 200 + 1}" for n in range(count)]


@contextlib.contextmanager
def look_up(count: int) -> Iterator[tuple[list[str], dict[str, str]]]:
    with NameServer(silent=True) as names:
        yield [f"wss://h{n}.exchange.test/ws" for n in range(count)], names.files


@contextlib.contextmanager
def connect(count: int) -> Iterator[tuple[list[str], dict[str, str]]]:
    with contextlib.ExitStack() as stack:
        yield [f"ws://{host}:{stack.enter_context(black_hole(host))}/ws" for host in hosts(count)], {}


@contextlib.contextmanager
def tls(count: int) -> Iterator[tuple[list[str], dict[str, str]]]:
    with server(lambda _: None) as port:
        yield [f"wss://{host}:{port}/ws" for host in hosts(count)], {}


@contextlib.contextmanager
def handshake(count: int) -> Iterator[tuple[list[str], dict[str, str]]]:
    with server(lambda _: None) as port:
        yield [f"ws://{host}:{port}/ws" for host in hosts(count)], {}


@contextlib.contextmanager
def close(count: int) -> Iterator[tuple[list[str], dict[str, str]]]:
    with server(lambda sock: answer(sock, text("hello"))) as port:
        yield [f"ws://{host}:{port}/ws" for host in hosts(count)], {}


FAULTS = {"look-up": look_up, "connect": connect, "tls": tls, "handshake": handshake, "close": close}


def healthy(sock: socket.socket) -> None:
    """PongResponder the close."""
    answer(sock, text("hello"))
    sock.settimeout(600)
    while data := sock.recv(65536):
        if data[0] == 0x88:
            sock.sendall(b"\x88\x02\x03\xe8")
            return


def run(fault: str, count: int, *, alone: bool, seconds: float, folder: Path) -> tuple[float, int, int]:
    """Seconds from SIGTERM to the exit, the status, and how many processes were started again."""
    with FAULTS[fault](count) as (urls, files), server(healthy) as port:
        beside = [] if alone else [f"ws://127.0.0.1:{port}/ws"]
        recording = Recording(folder, *beside, *urls, "--ring-size", "1MiB", files=files)
        if not alone or fault == "close":
            recording.until_printed("connected to")
        time.sleep(seconds)
        took, status = recording.stop()
    return took, status, len(events_of(recording.out, "restart"))


def main() -> int:
    """Run all, print a line each; 1 where an end took longer than `LIMIT`, or a process was killed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(FAULTS)}; all by default")
    parser.add_argument("--counts", default="1,20", help="connections that hang (1,20)")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long it records before its end (4)")
    options = parser.parse_args()
    worst = 0.0
    print(f"{'hangs':10} {'conns':>5} {'beside':>7} {'s':>6} {'status':>6} {'restarts':>8}")
    for fault in options.faults or FAULTS:
        if fault == "look-up" and not may_mount():
            print(f"{fault:10} skipped: needs root, who may give a process an /etc of its own")
            continue
        for count in map(int, options.counts.split(",")):
            for alone in (False, True):
                with tempfile.TemporaryDirectory() as folder:
                    took, status, restarts = run(
                        fault, count, alone=alone, seconds=options.seconds, folder=Path(folder)
                    )
                beside = "nothing" if alone else "healthy"
                print(f"{fault:10} {count:5} {beside:>7} {took:6.2f} {status:6} {restarts:8}", flush=True)
                worst = max(worst, took if not restarts else LIMIT + took)
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
