"""The figures as tables: for a terminal, text, Markdown (docs/explanation/performance.md). Medians over rounds."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from wsrec.bench.contestants import BARE, BARE_EVP, WSREC
from wsrec.bench.limit_tables import limit_tables
from wsrec.bench.results import Paced, Recording, Results, Saturated
from wsrec.bench.table_parts import Table, known_median, median, optional, quantile, ratio

_HANDOFF = "parsed_to_handoff"
_STEPS = {
    "sent_to_event": "send->EVENT",
    "event_to_recv_start": "EVENT->RECV_START",
    "recv_start_to_recv_end": "RECV_START->RECV_END",
    "recv_end_to_parsed": "RECV_END->PARSED",
    _HANDOFF: "PARSED->HANDOFF",
    "own": "own steps",
}
_TRANSPORTS = {"tcp": "tcp", "tls": "TLS"}
_RECORDS = {
    ("tcp", "lone"): "a send for each frame",
    ("tcp", "bulk"): "many frames a send",
    ("tls", "lone"): "a record for each frame",
    ("tls", "bulk"): "many frames a record",
}


def tables(results: Results) -> list[Table]:
    """All tables of a run, without empty ones."""
    found = [*_saturated(results), *_one_way(results), *_steps(results), *_recording(results)]
    found += limit_tables(results)
    return [table for table in found if table.rows]


def show(results: Results, console: Console) -> None:
    """Print the tables to a terminal."""
    console.print(Text("\n".join(_facts(results))))
    for table in tables(results):
        shown = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for index, name in enumerate(table.head):
            # fits 80 columns this way
            shown.add_column(Text(name.replace(" ", "\n")), justify="right" if index else "left", vertical="bottom")
        for row in table.rows:
            shown.add_row(*map(Text, row), style="bold" if row[0] == WSREC.name else "")
        console.print()
        console.print(Text(table.title, style="bold"))
        console.print(shown)
        console.print(Text(table.note, style="dim"))


def plain(results: Results) -> str:
    """The facts and the tables as text in columns."""
    parts = ["\n".join(_facts(results))]
    for table in tables(results):
        lines = [table.head, *table.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = ["  ".join(_cells(line, widths)).rstrip() for line in lines]
        parts.append("\n".join([table.title, *shown, table.note]))
    return "\n\n".join(parts)


def _cells(line: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for index, (cell, width) in enumerate(zip(line, widths, strict=True)):
        yield cell.rjust(width) if index else cell.ljust(width)


def markdown(results: Results) -> str:
    """The facts and the tables as Markdown."""
    parts = ["; ".join(_facts(results)) + "."]
    for table in tables(results):
        lines = [f"**{table.title}**", "", _line(table.head), _line(["---"] * len(table.head)), *map(_line, table.rows)]
        parts.append("\n".join([*lines, "", table.note]))
    return "\n\n".join(parts)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _facts(results: Results) -> Iterator[str]:
    machine, versions, options = results.machine, results.versions, results.options
    yield f"{machine['processor']}, {machine['processors']} processors, {machine['system']}, {machine['python']}"
    yield f"{machine['openssl']}; " + ", ".join(f"{name} {number}" for name, number in versions.items())
    sent = "the demo market" if options["recording"] is None else options["recording"].rsplit("/", 1)[-1]
    rounds = "1 round" if options["rounds"] == 1 else f"{options['rounds']} rounds in turn"
    yield f"messages of {sent}, {results.mean_bytes:.0f} bytes on average; {rounds}, medians"


def _sent(measured: Sequence[Saturated] | Sequence[Paced], transport: str) -> str:
    """How many messages the sender put together, as far as it was stored."""
    each = measured[0].messages_a_record if measured else None
    unit = "send" if transport == "tcp" else "record"
    return "" if each is None else f"{each:,.{0 if each >= 10 else 1}f} messages a {unit}; "


def _stalls(measured: Sequence[Saturated]) -> str:
    """How often full rings stopped reading, for those where they did."""
    stalls = [(one.name, statistics.median(r.stalls or 0 for r in one.rounds)) for one in measured]
    stalled = ", ".join(f"{name} {count:,.0f}" for name, count in stalls if count)
    return f"; how often full rings stopped reading: {stalled}" if stalled else ""


def _saturated(results: Results) -> Iterator[Table]:
    for (transport, records), way in _RECORDS.items():
        title = _TRANSPORTS[transport]
        measured = [one for one in results.saturated if (one.transport, one.records) == (transport, records)]
        cpu = {one.name: median(one.rounds, lambda r: r.cpu_ns) for one in measured}
        user = {one.name: known_median(one.rounds, lambda r: r.user_ns) for one in measured}
        floor = [name for name in (BARE_EVP, BARE) if name in cpu][:1]
        rows = [
            (
                one.name,
                f"{cpu[one.name]:,.0f}",
                optional(known_median(one.rounds, lambda r: r.user_ns)),
                ratio(cpu[one.name], cpu.get("picows")),
                ratio(user[one.name], user.get("picows")),
                *(ratio(cpu[one.name], cpu[name]) for name in floor),
                f"{median(one.rounds, lambda r: r.wall_ns):,.0f}",
                optional(known_median(one.rounds, lambda r: r.frames_a_read), ",.1f"),
            )
            for one in measured
        ]
        rulers = ("of picows", "user of picows", *(f"of {name}" for name in floor))
        yield Table(
            f"saturated, {title}, {way}: ns a message",
            (title, "CPU", "user", *rulers, "wall", "frames a read"),
            rows,
            f"CPU of the receiving process, and what of it is user space; {_sent(measured, transport)}"
            f"{results.options['messages']:,} messages a round" + _stalls(measured),
        )


def _one_way(results: Results) -> Iterator[Table]:
    for (transport, records), way in _RECORDS.items():
        title = _TRANSPORTS[transport]
        measured = [one for one in results.paced if (one.transport, one.records) == (transport, records)]
        medians = {one.name: median(one.rounds, lambda r: r.one_way["p50"]) for one in measured}
        names = ("p50", "p99", "p99.9")
        rows = [
            (
                one.name,
                *(quantile(one.rounds, lambda r: r.one_way, name) for name in names),
                ratio(medians[one.name], medians.get("picows")),
                optional(known_median(one.rounds, lambda r: r.cpu_ns)),
                optional(known_median(one.rounds, lambda r: r.user_ns)),
                optional(known_median(one.rounds, lambda r: r.frames_a_read), ",.1f"),
            )
            for one in measured
        ]
        yield Table(
            f"one way at {results.options['rate']:,.0f} messages/s, {title}, {way}",
            (title, *names, "p50 of picows", "CPU ns", "user ns", "frames a read"),
            rows,
            f"from just before the send to the hand-off; for the others, to their callback or loop. "
            f"{_sent(measured, transport)}CPU a message, and what of it is user space",
        )


def _steps(results: Results) -> Iterator[Table]:
    for (transport, records), way in _RECORDS.items():
        title = _TRANSPORTS[transport]
        names = ("p50", "p90", "p99", "p99.9")
        rows = [
            (
                f"{one.name} {label}",
                *(quantile(one.rounds, lambda r, key=key: r.steps[key], name) for name in names),  # type: ignore[misc]
            )
            for one in results.paced
            if (one.transport, one.records) == (transport, records) and one.rounds[0].steps
            for key, label in _STEPS.items()
            if key in one.rounds[0].steps
        ]
        yield Table(
            f"wsrec's steps at {results.options['rate']:,.0f} messages/s, {title}, {way}",
            (title, *names),
            rows,
            "docs/explanation/stages.md says what they are; own steps: all but the kernel's path and the read",
        )


def _recording(results: Results) -> Iterator[Table]:
    measured: list[Recording] = results.recording
    wall = {one.name: median(one.rounds, lambda r: r.finished_ns / r.messages) for one in measured}
    cpu = {
        one.name: median(one.rounds, lambda r: (r.cpu_ns or 0) / r.messages)
        for one in measured
        if all(r.cpu_ns is not None for r in one.rounds)
    }
    rows = [
        (
            one.name,
            f"{median(one.rounds, lambda r: r.rows / r.handoff_ns * 1e9):,.0f}",
            f"{median(one.rounds, lambda r: r.rows / r.finished_ns * 1e9):,.0f}",
            f"{wall[one.name]:,.0f}",
            ratio(wall[one.name], wall.get("picows")),
            f"{median(one.rounds, lambda r: r.bytes_on_disk / r.messages):.0f}",
            f"{sum(r.rows == r.messages and r.identical for r in one.rounds)} of {len(one.rounds)}",
            "-" if one.rounds[0].stalls is None else f"{median(one.rounds, lambda r: r.stalls or 0):.0f}",
        )
        for one in measured
    ]
    yield Table(
        f"recording, TLS, {results.options['recording_seconds']:g} s as fast as it is taken",
        ("TLS", "messages/s", "until Parquet", "wall ns", "of picows", "bytes", "identical", "stalls"),
        rows,
        "messages/s: first to last hand-off, and to finished Parquet; wall ns and bytes on disk a message; "
        "identical: rounds in which every row was what was sent. wsrec reads fields and journals, picows does neither",
    )
    yield Table(
        "recording, TLS: CPU time of a message until its Parquet is finished",
        ("TLS", "CPU ns", "of picows"),
        [(name, f"{value:,.0f}", ratio(value, cpu.get("picows"))) for name, value in cpu.items()],
        "of all processes, without their start; wsrec-no-fields reads no fields, as picows",
    )
    names = ("p50", "p99", "p99.9")
    steps: list[tuple[str, ...]] = [
        (label, *(quantile(one.rounds, lambda r, key=key: r.steps[key], name) for name in names))  # type: ignore[misc]
        for one in measured
        if one.rounds[0].steps
        for key, label in (("first", "recording, first in their read"), ("all", "recording, all"))
    ]
    for one in results.paced if steps else ():
        if one.name == WSREC.name and one.records == "lone":
            at_pace = (quantile(one.rounds, lambda r: r.steps[_HANDOFF], name) for name in names)
            steps.append((f"paced, {_TRANSPORTS[one.transport]}", *at_pace))
    yield Table("wsrec's PARSED->HANDOFF while recording", ("frames", *names), steps, "beside its value at a pace")
