"""Capture files to a `Report`, in memory that does not grow with their number.

Message files are read in order of their first `recv_time`, a batch of rows at a time, only the columns that are needed.
The payload columns are read for their lengths and nothing else. That is a third of the time (2.0 million rows a second
with it, 3.1 without, at 166 bytes a row), and the only exact way: Parquet's own sizes count its encoding too.

Nothing is written, and what cannot be read is named in `Report.errors` while the rest is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wsrec.counts import Counts
from wsrec.format.capture import (
    CaptureError,
    UnreadableError,
    check_readable,
    events_beside,
    message_files,
    metadata,
    open_messages,
)
from wsrec.format.columns import batches, first_line, times, words
from wsrec.format.coverage import SequenceCoverage
from wsrec.format.folders import parquet_files
from wsrec.histogram import FLOOR, Histogram, Int64s
from wsrec.report.model import (
    INCIDENT_KINDS,
    Clock,
    Delay,
    Incident,
    Latency,
    Rate,
    Recording,
    Report,
    Session,
    Stage1,
    StageTable,
    Unchecked,
)
from wsrec.report.signed import SignedHistogram
from wsrec.ring.events import EventKind, refused_count
from wsrec.stages import EVENT, HANDOFF, NIC, RECV_END, STAGES, STEPS, TOTAL, Step
from wsrec.units import duration

TOTAL_WITHOUT_NIC = Step("event_to_handoff", EVENT, HANDOFF)

_PAYLOAD = ("text", "data")
_COLUMNS = (
    "seq",
    "recv_time",
    "recv_source",
    *(stage.column for stage in STAGES),
    "frame_in_read",
    "direction",
    "opcode",
    "channel",
    "exchange_time",
    *_PAYLOAD,
)
_INCIDENTS_A_KIND = 20
_RANGES = 100
_CHANNELS = 256
_OTHER_CHANNELS = "(other channels)"
_SECOND = 1_000_000_000
_DAY = 86_400 * _SECOND

Progress = Callable[[int, int], None]


def collect(sources: Iterable[str | Path], progress: Progress | None = None) -> Report:
    """Read captures and say what is in them.

    Args:
        sources: message files, folders (searched at any depth) and glob patterns.
        progress: called now and then with the rows read and the rows in all files.

    """
    sources = list(sources)
    errors: list[str] = []
    unreadable: list[str] = []
    refused: list[str] = []
    files = _plan(sources, errors, unreadable, refused)
    recordings: dict[tuple[str, str], _Recording] = {}
    total, done = sum(file.rows for file in files), 0
    for file in files:
        recording = recordings.setdefault((file.feed, file.host), _Recording(file.feed, file.host))
        recording.begin(file)
        read = 0
        try:
            for batch in batches(file.path, _COLUMNS):
                recording.add(file.session, batch)
                read += batch.num_rows
                if progress is not None:
                    progress(done + read, total)
        except (CaptureError, pa.ArrowException, OSError, ValueError) as error:
            errors.append(
                f"{file.path}: damaged after {read:,} of {file.rows:,} rows ({first_line(error)}); the report "
                "counts the rows before; nothing was changed: set the file aside"
            )
        done += file.rows
    # whose events are not all read; None: nobody knows whose
    unread: list[_File | None] = [None] * len(refused)
    for path, owner in _events_files(sources, files):
        unread.append(owner)
        try:
            check_readable(path)
            _read_events(path, owner, recordings)
            unread.pop()
        except UnreadableError as error:
            unreadable.append(str(error))
        except CaptureError as error:
            errors.append(str(error))
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            errors.append(
                f"{path}: events not readable ({first_line(error)}); the report lacks them; "
                "nothing was changed: set the file aside"
            )
    for (feed, host), recording in recordings.items():
        recording.events_unread = sum(1 for each in unread if each is None or (each.feed, each.host) == (feed, host))
    return Report(
        recordings=[recordings[key].result() for key in sorted(recordings)], errors=errors, unreadable=unreadable
    )


class _File(NamedTuple):
    path: Path
    feed: str
    host: str
    session: str
    rows: int
    size: int
    first_time: int
    about: dict[str, Any]


def _plan(sources: Iterable[str | Path], errors: list[str], unreadable: list[str], refused: list[str]) -> list[_File]:
    """All files by their first `recv_time`; a source or file that cannot be opened goes to `errors`, what the system
    does not let be read to `unreadable`, and of that the folders, in which anything may lie, to `refused` too."""
    files: dict[Path, _File] = {}
    for source in sources:
        try:
            before = len(refused)
            paths = message_files([source], lambda error: refused.append(str(error)))
            unreadable += refused[before:]
        except UnreadableError as error:
            unreadable.append(str(error))
            continue
        except CaptureError as error:
            if not _events_below(Path(source)):
                errors.append(str(error))
            continue
        for path in paths:
            try:
                files[path.resolve()] = _describe(path)
            except UnreadableError as error:
                unreadable.append(str(error))
            except CaptureError as error:
                errors.append(str(error))
            except (pa.ArrowException, OSError, ValueError) as error:
                errors.append(
                    f"{path}: metadata not readable ({first_line(error)}); "
                    "nothing was changed: set the file aside and read the others"
                )
    return sorted(files.values(), key=lambda file: (file.first_time, file.path))


def _describe(path: Path) -> _File:
    with open_messages(path) as file:
        about = metadata(file)
        footer = file.metadata
        column = footer.schema.names.index("recv_time")
        statistics = [footer.row_group(group).column(column).statistics for group in range(footer.num_row_groups)]
        # Without statistics a file is read first, before any second is settled
        known = all(time is not None and time.has_min_max for time in statistics)
        return _File(
            path=path,
            feed=_word(about.get("feed"), "(unnamed feed)"),
            host=_host(about.get("host")),
            session=_word(about.get("session"), "(no session id)"),
            rows=footer.num_rows,
            size=path.stat().st_size,
            # Raw: in ns as it is stored. A file rewritten in a coarser unit is read too early, which does no harm
            first_time=min((time.min_raw for time in statistics), default=0) if known else 0,
            about={key: about.get(key) for key in ("counts", "gaps_checked", "stage1", "clock")},
        )


class _Session:
    def __init__(self) -> None:
        self.files = 0
        self.seq = SequenceCoverage()
        self.first: int | None = None
        self.last: int | None = None

    def add(self, seq: npt.NDArray[np.uint64], recv_time: Int64s) -> None:
        self.seq.add(seq)
        first, last = int(recv_time.min()), int(recv_time.max())
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)


class _Seconds:
    """Messages in each second of UTC; seconds that no later file can add to are settled and forgotten."""

    def __init__(self) -> None:
        self._open: Counter[int] = Counter()
        self._peak, self._second = 0, 0

    def settle(self, before: int) -> None:
        """No message before this time (ns since the epoch) will come any more."""
        for second in sorted(second for second in self._open if second < before // _SECOND):
            self._settle(second)

    def _settle(self, second: int) -> None:
        count = self._open.pop(second)
        if count > self._peak:
            self._peak, self._second = count, second

    def add(self, recv_time: Int64s) -> None:
        if not len(recv_time):
            return
        second = recv_time // _SECOND
        # Runs of one second, not all seconds between: a stray time must not cost memory
        ends = np.append(np.flatnonzero(np.diff(second)), len(second) - 1)
        for value, count in zip(second[ends].tolist(), np.diff(ends, prepend=-1).tolist(), strict=True):
            self._open[value] += count

    def peak(self) -> tuple[int, int]:
        """The most messages in one second, and when it began (ns since the epoch)."""
        for second in sorted(self._open):
            self._settle(second)
        return self._peak, self._second * _SECOND


class _Delays:
    """Signed delays of one channel, and how coarse its exchange times are."""

    def __init__(self) -> None:
        self.delays = SignedHistogram()
        self.resolution = _SECOND

    def add(self, delay: Int64s, exchange_time: Int64s) -> None:
        self.delays.add(delay)
        while self.resolution > 1 and (exchange_time % self.resolution).any():
            self.resolution //= 1000

    def merge(self, other: _Delays) -> None:
        self.delays.merge(other.delays)
        self.resolution = min(self.resolution, other.resolution)

    def result(self, channel: str | None) -> Delay | None:
        delays = self.delays
        low, high, p50, p99 = delays.min, delays.max, delays.quantile(0.5), delays.quantile(0.99)
        if low is None or high is None or p50 is None or p99 is None:
            return None
        return Delay(
            channel=channel,
            count=delays.count,
            negative=delays.negative,
            resolution=self.resolution,
            min=low,
            p50=p50,
            p99=p99,
            max=high,
        )


class _Recording:
    """What is known so far of one feed on one host."""

    def __init__(self, feed: str, host: str) -> None:
        self.feed, self.host = feed, host
        self.sessions: dict[str, _Session] = {}
        self.files = self.file_bytes = self.payload_bytes = 0
        self.events_files = self.events_unread = 0
        self.rows: Counter[tuple[str, str]] = Counter()
        self.seconds = _Seconds()
        self.sources: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.after_event = self.after_read = 0
        self.latest: int | None = None
        self.steps = {
            (behind, step.key): Histogram() for behind in (False, True) for step in (*STEPS, TOTAL, TOTAL_WITHOUT_NIC)
        }
        self.delays: dict[str | None, _Delays] = {}
        self.counts = Counts()
        self.gaps_checked = False
        self.compared: Counter[str | None] = Counter()
        self.skipped: dict[str | None, Counter[str]] = {}
        self.clocks: list[str] = []
        self.anchors: dict[str, int] = {}
        self.width: int | None = None
        self.clock_steps: list[int] = []
        self.events: Counter[str] = Counter()
        self.topics: Counter[str] = Counter()
        self.stalled = self.lost = 0
        self.incidents: list[Incident] = []

    def begin(self, file: _File) -> None:
        """A file follows; no later one begins before it."""
        self.files += 1
        self.file_bytes += file.size
        self.sessions.setdefault(file.session, _Session()).files += 1
        self.seconds.settle(file.first_time)
        stage1, clock = file.about["stage1"], file.about["clock"]
        if file.about["counts"] is not None:
            self.counts += msgspec.convert(file.about["counts"], Counts)
        self.gaps_checked |= file.about["gaps_checked"] is True
        for word, rows in stage1.items() if isinstance(stage1, dict) else ():
            if word.startswith("none: "):
                self.reasons[word.removeprefix("none: ")] += _count(rows)
        if isinstance(clock, dict):
            name = _word(clock.get("clock"), "")
            if name and name not in self.clocks:
                self.clocks.append(name)
            # Counted since the session began
            self.anchors[file.session] = max(self.anchors.get(file.session, 0), _count(clock.get("anchors")))
            if isinstance(clock.get("widest_bracket_ns"), int):
                self.width = max(self.width or 0, clock["widest_bracket_ns"])

    def add(self, session: str, batch: Any) -> None:
        """Count a batch of rows."""
        if not batch.num_rows:
            return
        recv_time, _ = times(batch, "recv_time")
        seq = batch.column("seq").cast(pa.uint64()).to_numpy(zero_copy_only=False)
        self.sessions[session].add(seq, recv_time)
        for name in _PAYLOAD:
            self.payload_bytes += pc.sum(pc.binary_length(batch.column(name))).as_py() or 0
        direction, directions = words(batch, "direction")
        opcode, opcodes = words(batch, "opcode")
        pairs = np.bincount(direction.astype(np.int64) * len(opcodes) + opcode)
        for pair in np.flatnonzero(pairs).tolist():
            kind = (directions[pair // len(opcodes)] or "(null)", opcodes[pair % len(opcodes)] or "(null)")
            self.rows[kind] += int(pairs[pair])
        received = np.array([word == "recv" for word in directions])[direction]
        if not received.any():
            return
        if not received.all():
            batch, recv_time = batch.filter(pa.array(received)), recv_time[received]
        self.seconds.add(recv_time)
        self._add_stages(batch)
        self._add_delays(batch, recv_time)

    def _add_stages(self, batch: Any) -> None:
        stamps = {stage: times(batch, stage.column) for stage in STAGES}
        stamped = stamps[NIC][1]
        source, sources = words(batch, "recv_source")
        hardware = stamped & np.array([word == "nic" for word in sources])[source]
        nic, all_stamped = int(np.count_nonzero(hardware)), int(np.count_nonzero(stamped))
        self.sources.update(nic=nic, kernel=all_stamped - nic, none=len(stamped) - all_stamped)
        after_read = stamped & stamps[RECV_END][1] & (stamps[NIC][0] > stamps[RECV_END][0])
        after_event = stamped & stamps[EVENT][1] & (stamps[NIC][0] > stamps[EVENT][0]) & ~after_read
        self.after_event += int(np.count_nonzero(after_event))
        if after_read.any():
            self.after_read += int(np.count_nonzero(after_read))
            latest = int((stamps[NIC][0] - stamps[RECV_END][0])[after_read].max())
            self.latest = max(self.latest or 0, latest)
        behind = batch.column("frame_in_read").to_numpy(zero_copy_only=False) > 0
        any_behind = bool(behind.any())
        for step in (*STEPS, TOTAL, TOTAL_WITHOUT_NIC):
            (start, has_start), (end, has_end) = stamps[step.start], stamps[step.end]
            counts = has_start & has_end
            if step is TOTAL_WITHOUT_NIC:
                counts &= ~stamped
            ns = end - start
            if any_behind:
                self.steps[True, step.key].add(ns[counts & behind])
                counts &= ~behind
            self.steps[False, step.key].add(ns if counts.all() else ns[counts])

    def _add_delays(self, batch: Any, recv_time: Int64s) -> None:
        exchange_time, known = times(batch, "exchange_time")
        if not known.any():
            return
        channel, channels = words(batch, "channel")
        groups: dict[str | None, int] = {}
        group_of = np.zeros(len(channels), np.int64)
        for code in np.unique(channel[known]).tolist():
            name = channels[code]
            if name not in self.delays and len(self.delays) >= _CHANNELS:
                name = _OTHER_CHANNELS
            self.delays.setdefault(name, _Delays())
            group_of[code] = groups.setdefault(name, len(groups))
        group, delay = group_of[channel], recv_time - exchange_time
        for name, number in groups.items():
            rows = known & (group == number) if len(groups) > 1 else known
            self.delays[name].add(delay[rows], exchange_time[rows])

    def add_event(self, incident: Incident) -> None:
        """Count an event; keep it where it is one of the first of its kind."""
        kind, detail = incident.kind, incident.detail
        self.events[kind] += 1
        if kind == EventKind.STALL:
            self.stalled += _count(detail.get("duration_ns"))
        elif kind == EventKind.LOST_INTERVAL:
            self.lost += max(_count(detail.get("to")) - _count(detail.get("from")), 0)
        elif kind in (EventKind.REFUSED, EventKind.UNANSWERED, EventKind.LATE):
            self.topics[kind] += refused_count(detail)
        elif kind == EventKind.NOT_INFLATED:
            self.topics[kind] += _count(detail.get("count"))
        elif kind == EventKind.UNCHECKED:
            self.compared[incident.channel] += _count(detail.get("compared"))
            pairs = detail.get("skipped")
            stated = {str(reason): _count(count) for reason, count in pairs.items()} if isinstance(pairs, dict) else {}
            self.skipped.setdefault(incident.channel, Counter()).update(stated)
        elif kind == EventKind.CLOCK_STEP:
            self.clock_steps.append(_count(detail.get("step_ns")))
        if kind in INCIDENT_KINDS and self.events[kind] <= _INCIDENTS_A_KIND:
            self.incidents.append(incident)

    def result(self) -> Recording:
        """All of it as the report's struct."""
        sessions = [_session(name, session) for name, session in self.sessions.items()]
        first = [session.first for session in self.sessions.values() if session.first is not None]
        last = [session.last for session in self.sessions.values() if session.last is not None]
        rows: dict[str, dict[str, int]] = {}
        for (direction, opcode), count in self.rows.most_common():
            rows.setdefault(direction, {})[opcode] = count
        recorded = _covered([(s.first, s.last) for s in self.sessions.values()])
        received = sum(rows.get("recv", {}).values())
        peak, peak_time = self.seconds.peak()
        stages = self._stages()
        everything = _Delays()
        for delays in self.delays.values():
            everything.merge(delays)
        by_channel = [delays.result(channel) for channel, delays in self.delays.items()]
        exchange_delay = everything.result(None)
        return Recording(
            feed=self.feed,
            host=self.host,
            sessions=sorted(sessions, key=lambda session: (session.first_recv_time or 0, session.session)),
            files=self.files,
            events_files=self.events_files,
            events_unread=self.events_unread,
            rows=rows,
            first_recv_time=min(first, default=None),
            last_recv_time=max(last, default=None),
            recorded=recorded,
            rate=Rate(mean=received * _SECOND / recorded if recorded else None, peak=peak, peak_time=peak_time)
            if received
            else None,
            payload_bytes=self.payload_bytes,
            file_bytes=self.file_bytes,
            gaps=self.counts.gaps if self.gaps_checked else None,
            counts=self.counts,
            unchecked=[
                Unchecked(channel=channel, compared=self.compared[channel], skipped=dict(skipped))
                for channel, skipped in self.skipped.items()
            ],
            events=dict(sorted(self.events.items())),
            topics=dict(sorted(self.topics.items())),
            stalled=self.stalled,
            lost=self.lost,
            incidents=sorted(self.incidents, key=lambda incident: incident.time),
            stage1=Stage1(
                nic=self.sources["nic"],
                kernel=self.sources["kernel"],
                none=self.sources["none"],
                reasons=dict(self.reasons.most_common()),
                after_event=self.after_event,
                after_read=self.after_read,
                latest=self.latest,
            ),
            clock=Clock(
                clocks=self.clocks,
                anchors=sum(self.anchors.values()),
                width=self.width,
                steps=len(self.clock_steps),
                largest_step=max(self.clock_steps, key=abs, default=None),
            ),
            stages=stages,
            exchange_delay=exchange_delay,
            exchange_delay_by_channel=sorted(
                (delay for delay in by_channel if delay is not None), key=lambda delay: -delay.count
            ),
            warnings=[
                *self._stage_warnings(stages),
                *_delay_warnings(exchange_delay),
                *_unread_warnings(self.topics[EventKind.NOT_INFLATED], received),
            ],
        )

    def _stages(self) -> list[StageTable]:
        everything = {}
        for step in (*STEPS, TOTAL, TOTAL_WITHOUT_NIC):
            everything[step.key] = Histogram()
            for behind in (False, True):
                everything[step.key].merge(self.steps[behind, step.key])
        first = {key: self.steps[False, key] for key in everything}
        others = {key: self.steps[True, key] for key in everything}
        tables = [
            StageTable(frames="all", steps=_latencies(everything)),
            StageTable(frames="first", steps=_latencies(first)),
            StageTable(frames="behind", steps=_latencies(others)),
        ]
        return [table for table in tables if table.steps]

    def _stage_warnings(self, tables: list[StageTable]) -> Iterator[str]:
        if self.latest is not None:
            yield (
                f"stage 1 lies after RECV_END in {self.after_read:,} frames, by up to {duration(self.latest)}: the "
                "realtime clock was set, or the NIC's clock does not follow it (check chrony/PTP, phc2sys)"
            )
        for step in tables[0].steps if tables else ():
            if step.key == STEPS[0].key and step.p50 is not None and step.p50 >= _SECOND:
                yield (
                    f"{step.name} takes {duration(step.p50)} (p50): stage 1's clock is not the system's; "
                    "set the NIC's clock from it (phc2sys)"
                )
            elif step.negative and step.key not in (STEPS[0].key, TOTAL.key):
                yield (
                    f"{step.name} is negative in {step.negative:,} of {step.count:,} frames: "
                    "these files are not as wsrec wrote them"
                )


def _latencies(histograms: dict[str, Histogram]) -> list[Latency]:
    total = histograms[TOTAL.key].sum + histograms[TOTAL_WITHOUT_NIC.key].sum
    return [
        Latency(
            key=step.key,
            name=step.name,
            count=count,
            negative=histogram.negative,
            sum=histogram.sum,
            min=histogram.min,
            mean=round(histogram.sum / count),
            p50=histogram.quantile(0.5),
            p90=histogram.quantile(0.9),
            p99=histogram.quantile(0.99),
            p999=histogram.quantile(0.999),
            max=histogram.max,
            share=histogram.sum / total if total > 0 else None,
            buckets=[(int(FLOOR[i]), int(histogram.counts[i])) for i in np.flatnonzero(histogram.counts)],
        )
        for step in (*STEPS, TOTAL, TOTAL_WITHOUT_NIC)
        if (count := (histogram := histograms[step.key]).count)
    ]


def _session(name: str, session: _Session) -> Session:
    return Session(
        session=name,
        files=session.files,
        rows=session.seq.count,
        first_recv_time=session.first,
        last_recv_time=session.last,
        first_seq=session.seq.first,
        last_seq=session.seq.last,
        missing=session.seq.missing,
        missing_ranges=session.seq.holes(_RANGES),
        duplicates=session.seq.duplicates,
    )


def _covered(spans: list[tuple[int | None, int | None]]) -> int:
    """The time (ns) that the spans cover, overlaps once."""
    covered, until = 0, None
    for first, last in sorted((first, last) for first, last in spans if first is not None and last is not None):
        if until is None or first > until:
            covered, until = covered + last - first, last
        elif last > until:
            covered, until = covered + last - until, last
    return covered


def _delay_warnings(delay: Delay | None) -> Iterator[str]:
    if delay is None:
        return
    if abs(delay.p50) >= _DAY:
        yield (
            f"the exchange time is {duration(abs(delay.p50))} away from the receive time (p50): "
            "check the unit of the feed's exchange_time, and the local clock"
        )
    elif delay.p50 < -delay.resolution:
        yield (
            f"the local clock runs {duration(-delay.p50)} behind the exchange's (p50), or the exchange's is ahead: "
            "check chrony/PTP"
        )
    elif delay.min < -delay.resolution:
        yield (
            f"{delay.negative:,} of {delay.count:,} messages arrived before their exchange time, by up to "
            f"{duration(-delay.min)}: the local clock was behind then, or the exchange's ahead; check chrony/PTP"
        )


def _unread_warnings(count: int, received: int) -> Iterator[str]:
    if count:
        yield (
            f"{count:,} of {received:,} frames received are messages that do not inflate: they are as they came, "
            "compressed, and what channel, number and time they have is not known"
        )


def _events_files(sources: Iterable[str | Path], files: list[_File]) -> list[tuple[Path, _File | None]]:
    """Events files with the message file they stand beside; in a folder also those of hours without a message."""
    found: dict[Path, tuple[Path, _File | None]] = {}
    for file in files:
        beside = events_beside(file.path.absolute())
        if beside is not None:
            found[beside.resolve()] = (beside, file)
    for source in map(Path, sources):
        for path in _events_below(source):
            found.setdefault(path.resolve(), (path, None))
    return [found[path] for path in sorted(found)]


def _events_below(folder: Path) -> list[Path]:
    """The events files below a folder; what cannot be read of it was told when its message files were looked for."""
    return [
        path
        for path in (parquet_files(folder, lambda _: None) if folder.is_dir() else ())
        if "events" in (parts := path.relative_to(folder).parts)[:-1] and not any(p.startswith(".") for p in parts)
    ]


def _read_events(path: Path, owner: _File | None, recordings: dict[tuple[str, str], _Recording]) -> None:
    with pq.ParquetFile(path) as file:
        about = metadata(file)
        feed, host = _word(about.get("feed"), "(unnamed feed)"), _host(about.get("host"))
        session = _word(about.get("session"), "(no session id)")
        if owner is not None:
            feed, host, session = owner.feed, owner.host, owner.session
        # also of a feed that brought nothing
        recording = recordings.setdefault((feed, host), _Recording(feed, host))
        recording.sessions.setdefault(session, _Session())
        recording.events_files += 1
        for batch in file.iter_batches():
            moments, _ = times(batch, "time")
            rows = batch.select(["kind", "conn", "channel", "symbol", "detail"]).to_pylist()
            for time, row in zip(moments.tolist(), rows, strict=True):
                detail = msgspec.json.decode(row["detail"] or "{}")
                recording.add_event(
                    Incident(
                        time=time,
                        kind=row["kind"],
                        session=session,
                        conn=row["conn"],
                        channel=row["channel"],
                        symbol=row["symbol"],
                        detail=detail if isinstance(detail, dict) else {},
                    )
                )


def _host(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("name")
    return _word(value, "(unknown host)")


def _word(value: Any, default: str) -> str:
    return value if isinstance(value, str) and value else default


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0
