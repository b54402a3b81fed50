"""The facts of a recording, each a name and a text: the few of the first screen, and the others.

All texts from files pass `units.clean`.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from wsrec.report.model import INCIDENT_KINDS, Latency, Recording, SegmentTable, Session, Unchecked
from wsrec.report.verdict import has_all_events, lost_intervals, proved_channels
from wsrec.ring.events import EventKind
from wsrec.stages import SegmentOrder
from wsrec.units import clean, duration, plural, size, utc

_SHOWN_CHANNELS = 16
_SHOWN_RANGES = 5
_SHOWN_SESSIONS = 8

Fact = tuple[str, Text]


def facts(recording: Recording, *, details: bool) -> Iterator[Fact]:
    """The facts of a recording; those that say nothing new of a sound one only with `details`."""
    if recording.counts is None and recording.first_recv_time is None:
        yield "rows", Text("nothing was selected")
        return
    yield "time", _time(recording)
    yield "rows", _rows(recording)
    if details:
        for direction, opcodes in recording.rows.items():
            counts = " · ".join(f"{clean(opcode, 20)} {count:,}" for opcode, count in opcodes.items())
            yield "", Text(f"{clean(direction, 20)}: {counts}", style="dim")
    yield "size", _size(recording)
    sessions = _worst_first(recording.sessions)
    faulty = [session for session in sessions if session.missing or session.duplicates]
    for index, session in enumerate((sessions if details else faulty)[:_SHOWN_SESSIONS]):
        yield "seq" if not index else "", _sequence(session, named=len(recording.sessions) > 1)
    if details and len(sessions) > _SHOWN_SESSIONS:
        yield "", Text(f"and {plural(len(sessions) - _SHOWN_SESSIONS, 'more session')}", style="dim")
    if details:
        yield "gaps", _gaps(recording)
    yield "events", _events(recording)
    yield "TLS", _tls(recording)
    yield "stage 1", _stage1(recording, details=details)
    if recording.segments is not None:
        yield "segments", _segments(recording.segments, details=details)
    yield "clock", _clock(recording)
    delay = recording.exchange_delay
    if delay is not None and not details:
        spread = f"{duration(delay.p50)} at p50, {duration(delay.p99)} at p99"
        yield "delay", Text(f"exchange to receipt {spread} (both clocks)")


def _time(recording: Recording) -> Text:
    first, last = recording.first_recv_time, recording.last_recv_time
    if first is None or last is None:
        return Text("no rows")
    same_day = utc(first)[:10] == utc(last)[:10]
    span = f"{utc(first)} to {utc(last, date=not same_day)} UTC"
    return Text(f"{span}, {duration(recording.recorded)} recorded")


def _rows(recording: Recording) -> Text:
    words = (("recv", "received"), ("sent", "sent"), ("rest", "rest"))
    counts = [f"{recording.row_count(direction):,} {word}" for direction, word in words]
    shown = [text for text in counts if not text.startswith("0 ")] or counts[:1]
    text = " · ".join(shown)
    if recording.rate is not None:
        mean = f"{recording.rate.mean:,.1f}/s mean, " if recording.rate.mean is not None else ""
        text += f" · {mean}{recording.rate.peak:,}/s peak at {utc(recording.rate.peak_time, date=False)[:-4]}"
    return Text(text)


def _size(recording: Recording) -> Text:
    files = f"{plural(recording.files, 'file')} of {plural(len(recording.sessions), 'session')}"
    if not recording.files:
        return Text(f"no message file, {plural(recording.events_files, 'event file')}")
    if recording.counts is None:
        # of a part: the files have other rows, too
        return Text(f"{size(recording.payload_bytes)} payload, in {files} with {size(recording.file_bytes)} in all")
    ratio = f" ({recording.payload_bytes / recording.file_bytes:.2f} to 1)" if recording.file_bytes else ""
    return Text(f"{size(recording.payload_bytes)} payload in {size(recording.file_bytes)} on disk{ratio}, {files}")


def _tls(recording: Recording) -> Text:
    if not recording.tls:
        return Text("none known: plain connections, or files that do not say", style="dim")
    parts = [
        f"{clean(each.mode, 20)}: {clean(each.version, 20)} {clean(each.cipher, 60)}, "
        f"{plural(each.connections, 'connection')}{f', because {clean(each.fallback, 120)}' if each.fallback else ''}"
        for each in recording.tls[:3]
    ]
    more = [f"and {len(recording.tls) - 3:,} more"] if len(recording.tls) > 3 else []
    return Text(" · ".join([*parts, *more]))


def _worst_first(sessions: list[Session]) -> list[Session]:
    return sorted(sessions, key=lambda session: not (session.missing or session.duplicates))


def _sequence(session: Session, *, named: bool) -> Text:
    text = Text(f"{clean(session.session, 40)}: " if named else "")
    if session.first_seq is None:
        return text.append("no rows")
    span = f"seq {session.first_seq:,}..{session.last_seq:,}"
    if session.missing is None:
        return text.append(f"{span}: whether rows are missing shows in a report of the whole", style="dim")
    if not session.missing and not session.duplicates:
        text.append("complete", style="green").append(f": {span}, none missing")
        return text if not session.first_seq else text.append(" (the session's earlier files are not in this report)")
    text.append("incomplete" if session.missing else "repeated", style="bold red").append(f": {span}")
    if session.missing:
        ranges = session.missing_ranges[:_SHOWN_RANGES]
        holes = ", ".join(f"{low:,}..{high:,}" if low < high else f"{low:,}" for low, high in ranges)
        more = ", and others" if len(session.missing_ranges) > _SHOWN_RANGES else ""
        text.append(f", {session.missing:,} missing ({holes}{more})")
    if session.duplicates:
        text.append(f", {session.duplicates:,} duplicate")
    return text


def _gaps(recording: Recording) -> Text:
    if not recording.files:
        return Text("unknown: no message file was read", style="yellow")
    if recording.gaps is None:
        return Text("unknown: the feed declares no sequence rule", style="dim")
    if recording.unchecked:
        found = f"{recording.gaps:,} among the messages that could be compared" if recording.gaps else "unknown"
        skipped = "; ".join(_unchecked(each) for each in recording.unchecked[:_SHOWN_CHANNELS])
        return Text(
            f"{found}, because the feed's sequence rule could not be applied to all of them: {skipped}", "yellow"
        )
    if not recording.gaps:
        proved, channels = len(proved_channels(recording)), len(recording.channels)
        if not proved:
            return Text("unknown: no sequence number would show one in any channel", style="yellow")
        if proved < channels:
            within = f"none in {proved:,} of {channels:,} channels"
            return Text(f"{within}: no sequence number would show one in the others", style="yellow")
        return Text.assemble(("none", "green"), " by the feed's sequence rule")
    return Text.assemble((f"{recording.gaps:,}", "bold red"), " by the feed's sequence rule")


def _unchecked(unchecked: Unchecked) -> str:
    missed = sum(unchecked.skipped.values())
    why = ", ".join(f"{count:,} {clean(reason, 80)}" for reason, count in unchecked.skipped.items())
    channel = "all channels" if unchecked.channel is None else clean(unchecked.channel, 40)
    return f"{channel} {missed:,} of {unchecked.compared + missed:,} ({why})"


def _events(recording: Recording) -> Text:
    length = {EventKind.STALL: recording.stalled, EventKind.LOST_INTERVAL: recording.lost}
    counts = [
        f"{recording.topics.get(kind, recording.events[kind]):,} {kind}"
        + (f" ({duration(length[kind])})" if kind in length else "")
        for kind in INCIDENT_KINDS
        if recording.events.get(kind)
    ]
    more = lost_intervals(recording) - recording.events.get(EventKind.LOST_INTERVAL, 0)
    if more > 0:
        counts.append(f"{more:,} {EventKind.LOST_INTERVAL} that only the message files count")
    unread = "" if has_all_events(recording) else "not all events files were read"
    if counts:
        return Text(" · ".join([*counts, *([unread] if unread else [])]), style="yellow")
    if not recording.events and not recording.events_unread:
        return Text("no events files with these files", style="dim")
    if unread:
        return Text(f"unknown: {unread}", style="yellow")
    return Text.assemble(("quiet", "green"), ": no disconnect, stall, lost interval, refusal or clock step")


def _stage1(recording: Recording, *, details: bool) -> Text:
    stage1 = recording.stage1
    received = stage1.nic + stage1.kernel + stage1.segment + stage1.segment_nic + stage1.none
    if not received:
        return Text("no received rows", style="dim")
    words = (
        (stage1.nic, "NIC stamps"),
        (stage1.kernel, "kernel stamps"),
        (stage1.segment_nic, "segments stamped by the NIC"),
        (stage1.segment, "segments stamped by the kernel"),
        (stage1.none, "without a stamp"),
    )
    text = Text(" · ".join(f"{count:,} {word} ({count / received:.1%})" for count, word in words if count))
    if stage1.after_event:
        during = f"{stage1.after_event:,} arrived during the read"
        text.append(f"\n{during}: NIC->EVENT is negative" if details else f" · {during}", style="dim")
    for reason, count in recording.stage1.reasons.items():
        text.append(f"\nnull in {count:,}: {clean(reason, 80)}", style="dim")
    return text


def _segments(table: SegmentTable, *, details: bool) -> Text:
    text = Text()
    if table.read_stamp is None:
        text.append("the reads had no stamps of their own")
    else:
        text.append(f"the read's stamp is later by {_quantiles(table.read_stamp)}")
    if table.first_segment is not None:
        text.append(f"\nfrom a message's first segment to its last {_quantiles(table.first_segment)}", style="dim")
    others = {word: rows for word, rows in table.order.items() if details or word != SegmentOrder.IN_ORDER.word}
    if others:
        counts = " · ".join(f"{rows:,} {word.replace('_', ' ')}" for word, rows in others.items())
        text.append(f"\n{counts}", style="dim")
    return text


def _quantiles(latency: Latency) -> str:
    shown = ((latency.p50, "p50"), (latency.p90, "p90"), (latency.p99, "p99"))
    return ", ".join(f"{duration(value)} at {name}" for value, name in shown)


def _clock(recording: Recording) -> Text:
    clock = recording.clock
    parts = [clean(name, 30) for name in clock.clocks]
    if clock.anchors:
        parts.append(plural(clock.anchors, "anchor"))
    if clock.width is not None:
        parts.append(f"UTC within {duration(clock.width)}")
    if not parts:
        parts.append("no information in the files")
    if clock.largest_step is not None:
        steps = plural(clock.steps, "step")
        return Text(" · ".join([*parts, f"{steps}, the largest {duration(clock.largest_step)}"]), style="yellow")
    # a step is an event
    return Text(" · ".join([*parts, *(["no step seen"] if has_all_events(recording) else [])]))
