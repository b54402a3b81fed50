"""wsrec.writer.ledger: whatever came out of the rings is found again, in this file or in the next."""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.rings import Rings, plan, writer_job
from wsrec.format.ledger import Ledger
from wsrec.format.moment import Moment
from wsrec.plan.target import feed_of_url
from wsrec.ring.events import EventKind
from wsrec.ring.slot_flags import Flag
from wsrec.wire.frames import BINARY, CONTINUATION, PING, TEXT
from wsrec.writer.journal_recovery import JournalRecovery
from wsrec.writer.pipeline import Pipeline

FEED = feed_of_url("wss://h/s").public_config()


def compressed(text: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return (deflater.compress(text) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


class Session:
    """A pipeline of two feeds, `f` with connections 0 and 1 and `g` with connection 2, or of `f` alone."""

    def __init__(self, out: Path, rings: Rings, feeds: tuple[str, ...] = ("f",)) -> None:
        self.rings = rings
        folder = out / ".wsrec" / "s"
        folder.mkdir(parents=True)
        plans = (plan(0, "f"), plan(1, "f"), plan(2, feeds[-1]))
        self.job = writer_job(out, plans, dict.fromkeys(feeds, FEED))
        self.pipeline = Pipeline(self.job, folder)
        self.drain = rings.drain()
        self.number = 1
        self.seconds = 0
        self.anchor()

    def anchor(self) -> None:
        """An event of every feed, for which it gets a file: one anchor a second is recorded."""
        self.seconds += 1
        now = self.seconds * 1_000_000_000
        self.rings.event(EventKind.ANCHOR, monotonic=now, realtime=now + 1, width_ns=1, clock="TSC", drift_ns=0)

    def take(self) -> None:
        batch = self.drain.take()
        if batch is not None:
            self.pipeline.take(batch, self.number)
            self.drain.release()

    def continue_from(self) -> None:
        """Another writer takes the session up: all that was taken is in files, and their journals have gone."""
        folder = Path(self.job.out) / ".wsrec" / "s"
        self.pipeline = Pipeline(self.job, folder)
        JournalRecovery(Path(self.job.out), folder).recover(self.pipeline)

    def finish(self) -> dict[str, Ledger]:
        lines = self.pipeline.finish(self.number)
        self.number += 1
        return {line.feed: line.ledger for line in lines if line.ledger is not None}


def balances(ledger: Ledger) -> bool:
    slots = ledger.received + ledger.sent + ledger.events
    frames = [ledger.recv.imbalance, ledger.recv.byte_imbalance, ledger.own.imbalance, ledger.own.byte_imbalance]
    return not ledger.missing and slots == ledger.stop_slot - ledger.first_slot and not any(frames)


@pytest.fixture
def session(rings, tmp_path):
    def start(*feeds: str) -> Session:
        return Session(tmp_path, rings(3, 64 * 4096, 4096), feeds or ("f",))

    return start


class TestFile:
    def test_every_slot_and_byte_is_accounted_for(self, session):
        one = session()
        one.rings.put(b"whole")
        one.rings.put(b"be", 1, BINARY, Flag(0))
        one.rings.put(b"gun", 1, CONTINUATION)
        one.rings.put(b"", 1, PING)
        one.rings.producer.sent(0, TEXT, b"subscribe")
        one.take()
        ledger = one.finish()["f"]
        assert balances(ledger)
        assert (ledger.first_slot, ledger.stop_slot) == (0, 6)
        assert (ledger.received, ledger.sent, ledger.events) == (4, 1, 1)
        assert (ledger.recv.frames, ledger.recv.bytes, ledger.recv.joined) == (4, 10, 1)
        assert ledger.recv.rows == {"text": 1, "binary": 1, "ping": 1}
        assert (ledger.own.rows, ledger.own.row_bytes) == ({"text": 1}, 9)
        # two bytes of header a frame
        assert [(ring.conn, ring.first_byte, ring.stop_byte) for ring in ledger.rings] == [
            (0, 0, 7),
            (1, 0, 11),
            (2, 0, 0),
        ]

    def test_a_message_that_ends_in_the_next_file_is_carried(self, session):
        one = session()
        one.rings.put(b"be", opcode=TEXT, flags=Flag(0))
        one.take()
        first = one.finish()["f"]
        one.rings.put(b"gun", opcode=CONTINUATION)
        one.take()
        second = one.finish()["f"]
        assert balances(first)
        assert balances(second)
        assert (first.recv.carried_out, first.recv.carried_out_bytes, first.recv.rows) == (1, 2, {})
        assert (second.recv.carried_in, second.recv.carried_in_bytes, second.recv.joined) == (1, 2, 1)
        assert (second.first_slot, second.rings[0].first_byte) == (first.stop_slot, first.rings[0].stop_byte)

    def test_what_a_file_without_slots_was_left_it_leaves(self, session):
        one = session()
        one.rings.put(b"be", opcode=TEXT, flags=Flag(0))
        one.take()
        first = one.finish()["f"]
        one.pipeline.event(Moment(5, 5), EventKind.SESSION_END)
        second = one.finish()["f"]
        assert balances(second)
        assert second.recv.carried_in == second.recv.carried_out == first.recv.carried_out == 1

    def test_a_message_that_never_ends_is_discarded_with_its_connection(self, session):
        one = session()
        one.rings.put(b"be", opcode=TEXT, flags=Flag(0))
        one.rings.event(EventKind.DISCONNECT, 0, message="")
        one.take()
        ledger = one.finish()["f"]
        assert balances(ledger)
        assert (ledger.recv.discarded, ledger.recv.discarded_bytes, ledger.recv.carried_out) == (1, 2, 0)

    def test_what_was_inflated_is_known_before_and_after(self, session):
        one = session()
        small = compressed(b"a" * 1000)
        one.rings.put(small, flags=Flag.FIN | Flag.RSV1)
        one.rings.put(b"no deflate", flags=Flag.FIN | Flag.RSV1)
        one.take()
        ledger = one.finish()["f"]
        assert balances(ledger)
        assert (ledger.recv.inflated, ledger.recv.deflated_bytes, ledger.recv.inflated_bytes) == (1, len(small), 1000)

    def test_each_feed_has_its_frames_and_all_have_the_slots(self, session):
        one = session("f", "g")
        for conn in (0, 1, 1, 2, 2, 2):
            one.rings.put(b"x" * conn, conn)
        one.take()
        ledgers = one.finish()
        assert all(balances(ledger) for ledger in ledgers.values())
        assert {name: (each.recv.frames, each.recv.bytes) for name, each in ledgers.items()} == {
            "f": (3, 2),
            "g": (3, 6),
        }
        assert {each.received for each in ledgers.values()} == {6}
        assert [ring.conn for ring in ledgers["g"].rings] == [2]

    def test_what_only_another_feed_had_is_not_missing_where_the_next_writer_goes_on(self, session):
        files = session("f", "g")
        files.take()
        assert set(files.finish()) == {"f", "g"}
        files.rings.put(b"g's", 2)
        files.rings.event(EventKind.DISCONNECT, 2)
        files.take()
        assert set(files.finish()) == {"g"}
        files.continue_from()
        files.rings.put(b"f's", 0)
        files.take()
        ledger = files.finish()["f"]
        assert (ledger.first_slot, ledger.stop_slot, ledger.missing) == (1, 4, 0)
        assert (ledger.received, ledger.events) == (2, 1)
        assert balances(ledger)

    def test_a_batch_that_is_nowhere_shows(self, session):
        one = session()
        one.rings.put(b"a")
        one.take()
        one.rings.put(b"gone")
        one.drain.take()
        one.drain.release()
        one.rings.put(b"b")
        one.take()
        ledger = one.finish()["f"]
        assert (ledger.missing, ledger.stop_slot) == (1, 4)
        assert not balances(ledger)


_put = st.tuples(
    st.just("put"),
    st.integers(0, 2),
    st.sampled_from([TEXT, BINARY, CONTINUATION, PING]),
    st.sampled_from([Flag(0), Flag.FIN, Flag.FIN | Flag.RSV1]),
    st.sampled_from([b"", b"a", compressed(b"b" * 99)]),
)
_other = st.sampled_from([("take",), ("finish",), ("sent",), ("disconnect", 0), ("disconnect", 2)])


@settings(deadline=None, max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_put | _other, max_size=60), st.sampled_from([("f",), ("f", "g")]))
def test_whatever_comes_balances_and_the_files_follow_one_another(steps, feeds):
    rings = Rings(3, 64 * 4096, 4096)
    ledgers: dict[str, list[Ledger]] = {feed: [] for feed in feeds}
    with tempfile.TemporaryDirectory() as out:
        try:
            session = Session(Path(out), rings, feeds)
            for step in [*steps, ("anchor",), ("finish",)]:
                if step[0] == "put":
                    _, conn, opcode, flags, payload = step
                    # a control frame is whole and never compressed
                    rings.put(payload, conn, opcode, Flag.FIN if opcode == PING else flags)
                elif step[0] == "anchor":
                    session.anchor()
                elif step[0] == "sent":
                    rings.producer.sent(1, TEXT, b"words")
                elif step[0] == "disconnect":
                    rings.event(EventKind.DISCONNECT, step[1], message="")
                session.take() if step[0] in ("take", "finish") else None
                if step[0] == "finish":
                    for feed, ledger in session.finish().items():
                        ledgers[feed].append(ledger)
            published = rings.slots.published.read()
        finally:
            rings.close()
    for each in ledgers.values():
        assert all(balances(ledger) for ledger in each)
    files = ledgers["f"]
    assert files[-1].stop_slot == published
    for before, after in zip([None, *files], files, strict=False):
        assert after.first_slot == (before.stop_slot if before else 0)
        assert after.recv.carried_in == (before.recv.carried_out if before else 0)
    everything = [ledger for each in ledgers.values() for ledger in each]
    put = sum(step[0] == "put" for step in steps)
    assert sum(ledger.recv.frames for ledger in everything) == put == sum(ledger.received for ledger in files)
