"""wsrec.writer.process, recovery: a writer killed at any system call, its successor, every message recorded once."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import events_of, received
from tests.effort import examples
from tests.rings import Rings, plan, writer_job
from wsrec.format import claim, manifest
from wsrec.format.moment import Moment
from wsrec.format.reading import open_capture
from wsrec.ipc import SummaryLine
from wsrec.options.value_types import Rotation
from wsrec.plan.requests import RequestedTopic, SubscriptionRequest
from wsrec.ring.counter import Counter
from wsrec.ring.events import EventKind
from wsrec.verify.verify import verify
from wsrec.writer.job import WriterJob
from wsrec.writer.process import Writer
from wsrec.writer.recovery import recover

CHECKED = {
    "name": "a",
    "description": "",
    "sockets": {"main": {"url": "wss://host/"}},
    "fields": {"channel": ["c"]},
    "subscribe": {"message": '{"topics":{topics},"id":{id}}', "batch": 100},
    "limits": {"streams_per_connection": 9, "messages_per_second": 9, "connects": 9, "connects_interval": 1},
    "channels": {"x": {"topic": "x", "exchange_seq": ["n"], "sequence": "next", "idle_timeout": 60}},
}
FEEDS = {"a": CHECKED, "b": {"name": "b", "description": "", "sockets": {"main": {"url": "wss://host/"}}}}


class Killed(BaseException):
    """SIGKILL came."""


class Life:
    """Counts what changes the disk or the rings, and lets nothing more be done from a given one on."""

    _CALLS = ("write", "link", "unlink", "rename", "ftruncate", "fsync", "fdatasync", "rmdir", "mkdir")

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        # what the receiver does meanwhile does not count
        self.writing = False
        for name in self._CALLS:
            patch.setattr(os, name, self._mortal(getattr(os, name)))
        publish = Counter.publish
        patch.setattr(Counter, "publish", self._mortal(publish))
        self._held: list[int] = []
        hold = claim.hold

        def held(folder: Path) -> int:
            self._held.append(hold(folder))
            return self._held[-1]

        patch.setattr(claim, "hold", held)

    def let_go(self) -> None:
        """What the kernel does when a process has ended: it releases its locks."""
        for fd in self._held:
            os.close(fd)
        self._held.clear()

    def _mortal(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def mortal(*arguments: Any, **options: Any) -> Any:
            if self.left is not None and self.writing:
                self.left -= 1
                if self.left == 0 and call.__name__ == "write":
                    # in the middle of it
                    call(arguments[0], memoryview(arguments[1])[: len(arguments[1]) // 2])
                if self.left <= 0:
                    raise Killed
            return call(*arguments, **options)

        return mortal


class Session:
    """Rings and an output folder, and the writers that come and go, stepped through in one thread."""

    def __init__(self, out: Path, life: Life, requests: tuple[SubscriptionRequest, ...] = ()) -> None:
        self.out, self.life = out, life
        self.rings = Rings(conns=2, capacity=16 * 4096)
        slots, control_ring, status, *rings = self.rings.fds
        self.job: WriterJob = writer_job(
            out,
            (plan(0, feed="a", requests=requests), plan(1, feed="b")),
            FEEDS,
            slots=slots,
            control_ring=control_ring,
            status=status,
            rings=tuple(rings),
            rotate=Rotation(bytes=400),
        )
        self.sent: dict[str, list[bytes]] = {"a": [], "b": []}
        self.dead: list[Any] = []
        self.writer: Writer | None = None
        self.deaths = 0
        clock = {"monotonic": time.monotonic_ns(), "realtime": time.time_ns()}
        self.rings.event(EventKind.ANCHOR, **clock, width_ns=1, clock="TSC", drift_ns=0)

    def put(self, conn: int, size: int, parts: int) -> None:
        """A message in as many frames, with a number that the feed `a` is checked for."""
        feed = "ab"[conn]
        text = msgspec.json.encode({"c": "x", "n": len(self.sent[feed]), "p": "." * size})
        if self.rings.room(conn) < 2 * len(text) or self.rings.slots.free(self.rings.producer.count) < parts:
            return
        cuts = [len(text) * part // parts for part in range(parts + 1)]
        for part, (start, stop) in enumerate(itertools.pairwise(cuts)):
            now = time.monotonic_ns()
            opcode, flags = (1 if part == 0 else 0), (1 if part == parts - 1 else 0)
            self.rings.put(text[start:stop], conn, opcode, flags, event=now, handoff=now)
            if part < parts - 1:
                self.drain()
        self.sent[feed].append(text)

    def drain(self) -> None:
        def work(writer: Writer) -> None:
            if (batch := writer._drain.take()) is not None:
                writer._write(batch)
                writer._drain.release()

        self.live(work)

    def parquet(self, count: int) -> None:
        """Let the second thread do so many things."""

        def work(writer: Writer) -> None:
            with contextlib.suppress(Empty):
                for _ in range(count):
                    item = writer._parquet._queue.get_nowait()
                    assert item is not None
                    writer._parquet._do(item, None)

        self.live(work)

    def finish(self) -> SummaryLine:
        self.life.left = None
        self.drain()
        assert self.writer is not None
        # the receiver's last word
        self.rings.status.receiver["finished"] = True
        self.writer._parquet.start()
        self.writer._sync.start()
        return self.writer._finish()

    def live(self, work: Callable[[Writer], None]) -> None:
        """Have the writer do something, or one that takes over from it; it may be killed at that."""
        self.life.writing = True
        try:
            if self.writer is None:
                self.begin()
            assert self.writer is not None
            work(self.writer)
        except BaseException:
            # what dies at a callback of Arrow's may come out as another exception
            if self.life.left is None or self.life.left > 0:
                raise
        finally:
            self.life.writing = False
        if self.life.left is not None and self.life.left <= 0:
            self.bury()

    def begin(self) -> None:
        job = msgspec.structs.replace(self.job, resume=self.deaths > 0, restart={"restarts": self.deaths})
        self.writer = Writer(job)
        if not job.resume:
            self.writer._pipeline.begin_session(Moment.now())
        self.writer._parquet.recover()
        # the thread, which is started at the end, must not do it again
        self.writer._parquet._recovery = None

    def bury(self) -> None:
        if self.writer is not None:
            self.dead.append(self.writer)
        self.writer = None
        self.life.let_go()
        self.deaths += 1
        gc.collect()
        self.life.left = None

    def close(self) -> None:
        self.rings.close()


ACTION = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 1), st.integers(0, 150), st.integers(1, 3)),
    st.tuples(st.just("drain")),
    st.tuples(st.just("parquet"), st.integers(1, 5)),
    st.tuples(st.just("kill"), st.integers(1, 60)),
)


class TestKilledAnywhere:
    @settings(max_examples=examples(30), deadline=None)
    @given(st.lists(ACTION, max_size=60))
    def test_every_message_is_in_the_files_once_and_in_order(self, actions: list[tuple[Any, ...]]) -> None:
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
            out = Path(name)
            session = Session(out, Life(patch))
            try:
                for what, *arguments in actions:
                    if what == "kill":
                        session.life.left = arguments[0]
                    else:
                        getattr(session, what)(*arguments)
                summary = session.finish()
                self.check(session, out)
                assert summary.messages == sum(map(len, session.sent.values()))
                assert summary.sent == 0
                listed = [(line.feed, line.number, line.rows) for line in manifest.read(out)]
                files = [(line["feed"], line["number"], line["rows"]) for line in summary.files]
                assert sorted(files) == sorted(listed)
                assert len(events_of(out, "session_start")) == len(FEEDS)
                assert not (out / ".wsrec" / "s").exists()
            finally:
                session.close()

    @settings(max_examples=examples(15), deadline=None)
    @given(st.lists(ACTION, max_size=40), st.integers(1, 200))
    def test_and_what_is_left_is_recovered_however_often_that_is_killed(
        self, actions: list[tuple[Any, ...]], again: int
    ) -> None:
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
            out = Path(name)
            session = Session(out, Life(patch))
            try:
                for what, *arguments in actions:
                    if what == "kill":
                        session.life.left = arguments[0]
                    else:
                        getattr(session, what)(*arguments)
                session.life.left = None
                session.drain()
                session.bury()
                session.life.left = again
                session.life.writing = True
                with contextlib.suppress(Killed):
                    recover(out, lambda _: None)
                session.life.writing = False
                session.life.left = None
                recover(out, pytest.fail)
                self.check(session, out, lost=None)
            finally:
                session.close()

    def check(self, session: Session, out: Path, lost: int | None = 0) -> None:
        for feed, sent in session.sent.items():
            folder = out / "messages" / f"feed={feed}"
            if not sent:
                assert not folder.exists()
                continue
            table = pa.concat_tables([pq.ParquetFile(file).read() for file in folder.rglob("*.parquet")]).sort_by("seq")
            assert received(table) == sent
            assert table["seq"].to_pylist() == list(range(len(sent)))
        assert events_of(out, "gap") == []
        if lost is not None:
            assert len(events_of(out, "lost_interval")) == lost
        # recovery cannot know that the rings still had what a torn journal lacks: it keeps that aside
        left = [path for path in (out / ".wsrec").rglob("journal-*") if lost is not None or path.parent.name != "aside"]
        assert not left


class TestSeam:
    def test_a_gap_between_what_had_landed_and_what_comes_is_found(self, tmp_path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            session = Session(tmp_path, Life(patch))
            try:
                for _ in range(3):
                    session.put(0, 500, 1)
                    session.drain()
                # ends the file before it, and is what is left
                session.put(1, 500, 1)
                session.drain()
                session.parquet(100)
                assert sum(line.rows for line in manifest.read(tmp_path) if line.feed == "a") == 3
                assert len(list((tmp_path / ".wsrec" / "s").glob("journal-*"))) == 1
                session.bury()
                session.sent["a"].append(b"missing")
                session.put(0, 500, 1)
                session.finish()
                (gap,) = events_of(tmp_path, "gap")
                assert (gap["detail"]["expected"], gap["detail"]["found"]) == (3, 4)
                # and the files say from where on the new writer knew the numbers
                of_a = [file for file in open_capture(tmp_path).files if file.feed == "a"]
                assert [file.checked_from for file in of_a] == [0, 0, 0, 3]
            finally:
                session.close()

    def test_what_a_writer_found_that_was_killed_too_is_found_again(self, tmp_path: Path) -> None:
        asks = SubscriptionRequest(number=1, text="", topics=(RequestedTopic(topic="x", channel="x"),))
        with pytest.MonkeyPatch.context() as patch:
            session = Session(tmp_path, Life(patch), (asks,))
            try:

                def put(payload: bytes, ago: int) -> None:
                    when = time.monotonic_ns() - ago * 1_000_000_000
                    session.rings.put(payload, event=when, handoff=when)
                    session.drain()

                put(b'{"c":"x","n":0}', 100)
                session.bury()
                # takes over, and sees that the stream has become stale
                put(b'{"c":"y"}', 30)
                session.parquet(100)
                assert {line.number for line in manifest.read(tmp_path)} == {1}
                session.bury()
                put(b'{"c":"x","n":1}', 0)
                session.finish()
                (stale,), (resumed,) = events_of(tmp_path, "stale"), events_of(tmp_path, "stream_resumed")
                assert stale["detail"]["monotonic_since"] == resumed["detail"]["monotonic_since"]
                restarts = [each["detail"]["restarts"] for each in events_of(tmp_path, "restart")]
                assert sorted(restarts) == [1, 1, 2, 2]
                (capture,) = verify([tmp_path]).captures
                (ledger,) = (
                    {each.what: each.sources for each in of.ledger} for of in capture.sessions if of.feed == "a"
                )
                assert ledger["gaps"] == {"read": 0, "events": 0}
                assert ledger["findings"] == {"read": 2, "events": 2}
            finally:
                session.close()

    def test_a_gap_is_warned_of_once_by_the_writer_that_found_it(self, tmp_path: Path, capsys) -> None:
        with pytest.MonkeyPatch.context() as patch:
            session = Session(tmp_path, Life(patch))
            try:

                def put(number: int) -> None:
                    when = time.monotonic_ns()
                    session.rings.put(b'{"c":"x","n":%d}' % number, event=when, handoff=when)
                    session.drain()

                put(0)
                put(5)
                session.parquet(100)
                assert capsys.readouterr().err.count("gap in x: expected 1, found 5") == 1
                # journalled, and the writer is killed before it looks
                put(9)
                session.bury()
                put(20)
                session.finish()
                warned = capsys.readouterr().err
                assert "expected 1, found 5" not in warned
                assert warned.count("gap in x: expected 6, found 9") == 1
                assert warned.count("gap in x: expected 10, found 20") == 1
                assert len(events_of(tmp_path, "gap")) == 3
            finally:
                session.close()

    def test_a_restart_is_recorded_once_however_many_files_its_writer_left(self, tmp_path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            session = Session(tmp_path, Life(patch))
            try:
                session.put(0, 50, 1)
                session.drain()
                session.bury()
                for _ in range(3):
                    session.put(0, 500, 1)
                    session.drain()
                session.parquet(4)
                session.bury()
                session.put(0, 50, 1)
                session.finish()
                restarts = [each["detail"]["restarts"] for each in events_of(tmp_path, "restart")]
                assert sorted(restarts) == [1, 1, 2, 2]
            finally:
                session.close()
