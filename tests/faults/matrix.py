"""Every way in which a connection can fail, against a real recorder: what is missing, and what it says of that.

scripts/faults              a table
scripts/faults --json       the same for programs
scripts/faults reset silent only these
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import trustme

from tests.conftest import events_of, messages_of, received
from tests.faults.exchange import FaultyExchange
from wsrec.ring.events import EventKind

# times of the exchange and of the recorder are of one machine and two clocks
SLACK_NS = 20_000_000
DEADLINE = 40.0
_NOTICED = frozenset(
    {EventKind.CONNECT, EventKind.DISCONNECT, EventKind.CONNECT_FAILED, EventKind.STALE, EventKind.REPLACED}
)

FEED = """
name: faulty
description: an exchange that fails on order
sockets:
  main: {{url: "{url}"}}
symbols: {{pattern: X, words: X, example: X}}
default_symbols: [X]
subscribe: {{message: '{{"method":"SUBSCRIBE","params":{{topics}},"id":{{id}}}}', batch: 10}}
ack: {{id: id, error_code: [code], error_message: [msg]}}
fields:
  channel: [{{path: stream, capture: '@(.+)$'}}, e]
  symbol: [data.s]
limits:
  streams_per_connection: 10
  messages_per_second: 100
  connects: 100
  connects_interval: 10
{limits}
keep_alive: {{ping_interval: {ping_seconds}, ping_timeout: {ping_seconds}}}
closing_notice: [{{path: e, match: serverShutdown}}]
channels:
  n:
    topic: "{{symbol}}@n"
    default: true
    exchange_seq: [data.n]
    sequence: next
{idle_timeout}
"""


class Fault(NamedTuple):
    """One fault.

    Attributes:
        act: what the exchange does.
        lifetime: seconds after which the exchange cuts every connection.
        idle_timeout: seconds after which the recorder takes a connection for silent.
        successors: connections that the recorder makes because of it.

    """

    act: Callable[[FaultyExchange], None]
    lifetime: float | None = None
    idle_timeout: float | None = None
    successors: int = 1


FAULTS = {
    "reset": Fault(FaultyExchange.reset),
    "fin-in-frame": Fault(FaultyExchange.finish_in_a_frame),
    "half-open": Fault(FaultyExchange.stand_still),
    "tls-alert": Fault(FaultyExchange.alert),
    "close-1001": Fault(FaultyExchange.close),
    "reset-429": Fault(FaultyExchange.refuse_next),
    "silent": Fault(FaultyExchange.go_silent, idle_timeout=1.0),
    # with a lifetime: two generations
    "lifetime": Fault(FaultyExchange.nothing, lifetime=4.0, successors=2),
    "notice": Fault(FaultyExchange.announce),
    "silent-successor": Fault(FaultyExchange.deafen, successors=2),
}


class Found(NamedTuple):
    """What a recording showed of a fault.

    Attributes:
        fault: its name.
        detected_ms: from the fault to the first event about it; None without one.
        data_ms: from the fault to the arrival of the first message that was sent after it.
        missing: messages between the first and the last that were received, and were not.
        unexplained: of those of them that neither a lost interval nor a silence covers, how far away the next one is
            (ms).
        twice: messages that were received more than once.
        lost_ms: what the lost intervals say, None without one.
        silent: events of silence.
        overlaps_ms: of each replacement, for how long both connections were open.
        causes: causes of the failures.
        status: exit status of the recorder.
        end_ms: from the order to end to the end of the process.

    """

    fault: str
    detected_ms: float | None
    data_ms: float | None
    missing: int
    unexplained: list[float]
    twice: int
    lost_ms: float | None
    silent: int
    overlaps_ms: list[float]
    causes: list[str]
    status: int
    end_ms: float


def run(name: str, authority: trustme.CA, ca_file: Path, folder: Path) -> Found:
    """Record from an exchange, have the fault happen, and read the files."""
    fault = FAULTS[name]
    out = folder / "out"
    with FaultyExchange(authority, lifetime=fault.lifetime) as exchange:
        feed = folder / "faulty.yaml"
        limits = "" if fault.lifetime is None else f"  lifetime: {fault.lifetime}"
        idle_timeout = "" if fault.idle_timeout is None else f"    idle_timeout: {fault.idle_timeout}"
        feed.write_text(FEED.format(url=exchange.url, limits=limits, idle_timeout=idle_timeout, ping_seconds=0.5))
        command = [
            sys.executable,
            "-P",
            "-m",
            "wsrec",
            "record",
            str(feed),
            "--out",
            str(out),
            "--ca-file",
            str(ca_file),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            until(lambda: exchange.clients, process)
            time.sleep(1.0)
            clients = len(exchange.clients)
            happened = exchange.inject(fault.act)
            until(lambda: len(exchange.clients) >= clients + fault.successors, process)
            # both go on for a while before one is closed
            time.sleep(2.5)
            end_ms = end(process, signal.SIGINT)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        return look(name, out, happened, exchange.sent_at, process.returncode, end_ms)


def end(process: subprocess.Popen[str], order: signal.Signals, seconds: float = 60.0) -> float:
    """Have a recorder end in order, within `seconds`; how long that took (ms)."""
    requested = time.monotonic()
    process.send_signal(order)
    _, log = process.communicate(timeout=seconds)
    end_ms = (time.monotonic() - requested) * 1e3
    assert "Traceback" not in log, log
    return end_ms


def until(condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float = DEADLINE) -> None:
    """Wait for something that a recorder brings about.

    Raises:
        AssertionError: it ended, or it takes too long.

    """
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"the recorder did not go on: {process.communicate()}")
        time.sleep(0.01)


def look(
    name: str, out: Path, happened: int, sent_at: list[int], status: int, end_ms: float, *, due_until: int = 0
) -> Found:
    """What the files in `out` show of a fault that `happened` at this time (ns since the epoch).

    Messages are due between the first and the last that came, and also what was sent before `due_until`; where none
    came, from `happened` on.
    """
    carried = _carried(out) if any(out.glob("messages/**/*.parquet")) else []
    numbers = [number for _, number in carried]
    first = min(numbers, default=bisect_left(sent_at, happened))
    last = max(max(numbers, default=-1) + 1, bisect_left(sent_at, due_until))
    missing = sorted(set(range(first, last)) - set(numbers))
    events = events_of(out)
    lost = [(e["detail"]["from"], e["detail"]["to"]) for e in events if e["kind"] == EventKind.LOST_INTERVAL]
    replaced = [(e["detail"]["from"], e["detail"]["to"]) for e in events if e["kind"] == EventKind.REPLACED]
    stale = [
        (e["detail"]["since"], min((start for start, _ in replaced if start > e["time"]), default=e["time"]))
        for e in events
        if e["kind"] == EventKind.STALE
    ]
    # a connection that is open has not subscribed yet: what comes until the confirmation is missing too
    acked = [e["time"] for e in events if e["kind"] == EventKind.ACK]
    explained = [(a, min((at for at in acked if at >= b), default=b)) for a, b in (*lost, *stale)]
    # on a busy machine a message is under way for long, but none comes before those that were sent before it
    arrived: dict[int, int] = {}
    for at, number in carried:
        arrived.setdefault(number, at)
    came = sorted(arrived)
    before = {n: bisect_left(came, n) for n in missing}
    due = {n: max(sent_at[n], arrived[came[place - 1]] if place else 0) for n, place in before.items()}
    away = [min((max(a - due[n], due[n] - b) for a, b in explained), default=due[n]) for n in missing]
    noticed = [e["time"] for e in events if e["kind"] in _NOTICED and e["time"] > happened - SLACK_NS]
    after = [time for time, number in carried if sent_at[number] > happened and time > happened]
    return Found(
        fault=name,
        detected_ms=max(noticed[0] - happened, 0) / 1e6 if noticed else None,
        data_ms=(min(after) - happened) / 1e6 if after else None,
        missing=len(missing),
        unexplained=[distance / 1e6 for distance in away if distance > SLACK_NS],
        twice=len(numbers) - len(set(numbers)),
        lost_ms=sum(b - a for a, b in lost) / 1e6 if lost else None,
        silent=len(stale),
        overlaps_ms=[(b - a) / 1e6 for a, b in replaced],
        causes=[e["detail"]["cause"] for e in events if e["kind"] == EventKind.CONNECT_FAILED],
        status=status,
        end_ms=end_ms,
    )


def _carried(out: Path) -> list[tuple[int, int]]:
    """When each number arrived (ns since the epoch), and which, in the order of the rows."""
    table = messages_of(out, columns=["seq", "recv_time", "direction", "opcode", "text", "data"])
    carried = [
        (time, json.loads(text)["data"]["n"])
        for time, direction, text in zip(
            table["recv_time"].cast("int64").to_pylist(),
            table["direction"].to_pylist(),
            table["text"].to_pylist(),
            strict=True,
        )
        if direction == "recv" and text is not None and '"data"' in text
    ]
    assert len(received(table)) >= len(carried)
    return carried


def table(rows: Iterator[Found]) -> Iterator[str]:
    """Lines of a table, each as soon as it is known."""
    form = "{:18} {:>9} {:>9} {:>8} {:>12} {:>6} {:>8} {:>7} {:>7} {:>8}  {:14} {}"
    yield form.format(
        *("fault", "noticed", "data", "missing", "unexplained", "twice", "lost ms", "silent", "status"),
        *("end ms", "overlaps ms", "causes"),
    )
    for row in rows:
        yield form.format(
            row.fault,
            *("-" if value is None else f"{value:.0f} ms" for value in (row.detected_ms, row.data_ms)),
            row.missing,
            len(row.unexplained),
            row.twice,
            "-" if row.lost_ms is None else f"{row.lost_ms:.0f}",
            row.silent,
            row.status,
            f"{row.end_ms:.0f}",
            " ".join(f"{overlap:.0f}" for overlap in row.overlaps_ms) or "-",
            ",".join(row.causes) or "-",
        )


def main() -> None:
    """Run the faults that were named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("fault", nargs="*", help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--json", action="store_true", help="one JSON object a fault")
    options = parser.parse_args()
    if unknown := set(options.fault) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as folder:
        ca_file = Path(folder) / "ca.pem"
        authority.cert_pem.write_to_path(str(ca_file))

        def each() -> Iterator[Found]:
            for name in options.fault or FAULTS:
                place = Path(folder) / name
                place.mkdir()
                yield run(name, authority, ca_file, place)

        lines = (json.dumps(row._asdict()) for row in each()) if options.json else table(each())
        for line in lines:
            print(line, flush=True)


if __name__ == "__main__":
    main()
