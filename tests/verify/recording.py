"""Simulated sessions become files: through the real journals, the real pipeline and the real recovery.

Writers are killed anywhere between two of their steps and replaced, everything is killed at once and recovered later,
and a journal that was left behind may be damaged before anybody reads it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from tests.rings import plan, slot, writer_job
from tests.verify.damage import damage
from tests.verify.sessions import Session, subscription
from tests.verify.world import ACK, BOOT, COUNTED, END, FEED, SECOND, parts
from wsrec.counts import total
from wsrec.feed.schema import Feed
from wsrec.format import heartbeat
from wsrec.format.moment import Moment
from wsrec.ipc import SummaryLine
from wsrec.ring.events import EventKind
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slot_layout import SLOT_DTYPE
from wsrec.supervise.outcome import exit_status
from wsrec.wire.frames import TEXT
from wsrec.writer import session_start
from wsrec.writer.batch import Batch
from wsrec.writer.job import WriterJob
from wsrec.writer.journal import Journal
from wsrec.writer.journal_format import delete, files_of, journal_path, journals
from wsrec.writer.journal_recovery import JournalRecovery
from wsrec.writer.ledger import RingCounts
from wsrec.writer.pipeline import Pipeline
from wsrec.writer.recovery import recover
from wsrec.writer.utc_line import StoredAnchor, first_anchor

_OWN = Flag.EVENT | Flag.SENT


class Recording:
    """The recording of one session.

    Args:
        session: what was handed off, after `play`.
        chance: where its dice come from.
        out: the output folder.

    Attributes:
        status: the exit status that `wsrec record` would have; None where it was killed.
        lacks: whether its files say that something is missing, whatever else was received.
        alone: whether one writer wrote all of it.
        unsound: whether a journal was damaged before it was read.
        unrecovered: whether what was left of it is still there.
        unjournalled: whether it was killed before its first batch, or its journals were gone before anybody read them.
        errors: what recovery could not do.

    """

    def __init__(self, session: Session, chance: random.Random, out: Path) -> None:
        self._session, self._chance, self._out = session, chance, out
        self._folder = out / ".wsrec" / session.name
        self._heads: dict[int, int] = {}
        self._job = _job(session, out)
        self._batches = list(self._cut())
        self.status: int | None = None
        self.lacks = False
        self.unsound = self.unrecovered = self.unjournalled = False
        self.alone = session.killed is None
        self.errors: list[str] = []

    def run(self) -> None:
        """Write it."""
        session, chance = self._session, self._chance
        self._folder.mkdir(parents=True)
        session_start.write(self._folder, self._job)
        if session.killed is not None and chance.random() < 0.2:
            self.unjournalled = True
            if chance.random() < 0.5:
                Journal(journal_path(self._folder, 1), 1, msgspec.json.encode(self._job.public())).close()
            self._recover()
            return
        pipeline = Pipeline(self._job, self._folder)
        pipeline.begin_session(self._moment(BOOT - 1))
        count = len(self._batches)
        deaths = sorted(chance.sample(range(1, count), min(chance.choice([1, 1, 2]), count - 1)))
        deaths = [] if session.calm or chance.random() < 0.75 else deaths
        first, number = 0, 1
        self.alone = self.alone and not deaths
        for death in deaths:
            self._write(pipeline, first, death, number, whole=False)
            self._damage_journal()
            # the one that it died of it may not have given back to the receiver
            first = death - chance.randint(0, 1)
            pipeline, number = self._replace_writer(death, first)
        number = self._write(pipeline, first, count, number, whole=session.killed is None)
        if session.killed is None:
            self._end(pipeline, number)
        else:
            self._recover()

    def _moment(self, time: int) -> Moment:
        return Moment(self._session.clock.utc(time), time)

    def _write(self, pipeline: Pipeline, first: int, stop: int, number: int, *, whole: bool) -> int:
        """Journal batches, and make files of them, or of the first of them; the number of the last files."""
        chance, batches = self._chance, self._batches
        rotates = set(chance.sample(range(first, stop), min(chance.randint(0, 3), stop - first)))
        rotates |= {n for n in range(first, stop) if batches[n].first in self._steps and chance.random() < 0.7}
        made = stop if whole or chance.random() < 0.3 else chance.randint(first, stop)
        todo: list[tuple[int | None, int]] = []
        journal: Journal | None = None
        for index in range(first, stop):
            if journal is not None and index in rotates:
                journal.close()
                journal, number = None, number + 1
                todo.append((None, number - 1))
            if journal is None:
                job = msgspec.json.encode(self._job.public())
                journal = Journal(journal_path(self._folder, number), number, job)
            journal.append(batches[index])
            todo.append((index, number))
        if journal is not None:
            journal.close()
        left = made - first
        for taken, of in todo:
            if taken is not None:
                if not left:
                    break
                left -= 1
                pipeline.take(batches[taken], of, self._ahead(taken + 1))
                self._report_of_restart(pipeline)
            else:
                pipeline.finish(of)
                delete(journal_path(self._folder, of))
        return number

    def _ahead(self, behind: int) -> StoredAnchor | None:
        """The first anchor behind a batch, if it is not long in coming."""
        waits = self._batches[behind : behind + 3] if self._chance.random() < 0.8 else []
        return next((found for each in waits if (found := first_anchor(each)) is not None), None)

    def _replace_writer(self, death: int, first: int) -> tuple[Pipeline, int]:
        recovery = JournalRecovery(self._out, self._folder)
        pipeline = Pipeline(self._job, self._folder)
        came = int(self._batches[death - 1].slots["handoff"][-1]) + 1_000
        recovery.recover(pipeline, rings_from=self._batches[first].first)
        self._resumed: Moment | None = self._moment(came)
        return pipeline, recovery.next_number

    def _report_of_restart(self, pipeline: Pipeline) -> None:
        if self._resumed is not None:
            pipeline.begin_session(self._resumed)
            pipeline.event(self._resumed, EventKind.RESTART, process="writer", how="was killed", restarts=1)
            self._resumed = None

    _resumed: Moment | None = None

    def _end(self, pipeline: Pipeline, number: int) -> None:
        now = self._moment(END + SECOND // 100)
        pipeline.report_lost(now)
        frames = sum(not each.flags & _OWN for each in self._session.slots)
        receiver = {"reads": frames, "frames": frames, "bytes": sum(self._heads.values()), "discarded_bytes": 0}
        rings = RingCounts(len(self._session.slots), dict(self._heads), {**receiver, "stalls": 0, "finished": True})
        feeds = list(pipeline.feeds.values())
        for feed in feeds:
            feed.event(now, EventKind.SESSION_END, **feed.counts.named("rows"), **rings.detail(feed.conns))
        pipeline.finish(number)
        for journal in journals(self._folder):
            delete(journal)
        for path in self._folder.iterdir():
            path.unlink()
        self._folder.rmdir()
        summed = total(feed.counts for feed in feeds)
        self.lacks = bool(summed.gaps or summed.lost_intervals or summed.refused)
        times = {"first_recv_time": None, "last_recv_time": None}
        self.status = int(
            exit_status([SummaryLine(session=self._session.name, files=[], **summed.named(), **times)], None)
        )

    def _damage_journal(self) -> None:
        left = [path for journal in journals(self._folder) for path in files_of(journal)]
        if left and self._chance.random() < 0.3:
            self.unsound = True
            damage(self._chance.choice(left), self._chance)

    def _recover(self) -> None:
        killed = self._session.killed
        assert killed is not None
        beat = self._moment(killed - self._chance.randint(0, SECOND))
        # stamps that lie ahead of this machine's own clock, as it began shortly before, cannot be of this life of it
        same = self._chance.random() < 0.5 and time.monotonic_ns() > END
        boot = heartbeat.machine().boot if same else "another"
        (self._folder / heartbeat.FILE).write_bytes(msgspec.json.encode(heartbeat.Beat(beat.utc, boot, beat.stage)))
        self._damage_journal()
        if self._chance.random() < 0.1:
            self.unjournalled = True
            for journal in journals(self._folder):
                delete(journal)
        if self._chance.random() < 0.1:
            self.unrecovered = True
        else:
            recover(self._out, self.errors.append)

    def _cut(self) -> Iterator[Batch]:
        """The slots as the writer takes them, cut anywhere."""
        slots, chance = self._session.slots, self._chance
        steps = [n for n, each in enumerate(slots) if self._is_step(n) and each.time > BOOT]
        # the first slot behind each step of the clock that a batch begins with
        self._steps = {n for n in steps if chance.random() < 0.5}
        first = 0
        while first < len(slots):
            stop = first + chance.randint(1, 200)
            stop = min([stop, len(slots), *(n for n in self._steps if n > first)])
            yield self._batch(slots[first:stop], first)
            first = stop

    def _is_step(self, n: int) -> bool:
        """Whether the clock was set between a slot and the one before it."""
        times = [each.time for each in self._session.slots[max(n - 1, 0) : n + 1]]
        return any(times[0] < at <= times[-1] for at, _ in self._session.clock.steps)

    def _batch(self, part: list[Any], first: int) -> Batch:
        slots = np.zeros(len(part), SLOT_DTYPE)
        for row, each in enumerate(part):
            own = each.flags & _OWN
            head = self._heads.get(each.conn, 0) + 2
            if not own:
                self._heads[each.conn] = head + len(each.payload)
            fields = (
                {"read_bytes": each.request}
                if own
                else {"event": each.time - 239, "recv_start": 200, "recv_end": 30, "parsed": 4}
            )
            slots[row] = slot(
                offset=0 if own else head,
                length=len(each.payload),
                conn=each.conn,
                opcode=TEXT,
                flags=each.flags,
                handoff=each.time,
                **fields,
            )
        return Batch(slots, pa.array([each.payload for each in part], pa.large_binary()), first)


def _job(session: Session, out: Path) -> WriterJob:
    connections = []
    for line, topics in session.topics.items():
        stated = tuple(subscription(line, n, part) for n, part in enumerate(parts(topics)))
        feed = f"model{session.feed_of(line)}"
        for side in range(2 if session.two_sided else 1):
            conn = 2 * line + side
            standby_of = 2 * line if side else None
            connections.append(plan(conn, feed, requests=stated, standby_of=standby_of, replaceable=True))
    about = (COUNTED if session.exchange.counts else FEED) | ({"ack": ACK} if session.acks else {})
    names = sorted({each.feed for each in connections})
    feeds = {name: Feed.model_validate(about | {"name": name}).public_config() for name in names}
    return writer_job(
        out, tuple(connections), feeds, session=session.name, began=BOOT, began_time=session.clock.utc(BOOT)
    )
