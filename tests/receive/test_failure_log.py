"""wsrec.receive.failure_log: what a server says in its refusals fills neither the events nor the log."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from tests.receive.test_receiver import plan
from wsrec.log_folding import FoldedWarnings
from wsrec.receive.failure import Failure, explain
from wsrec.receive.failure_log import FailureLog
from wsrec.receive.producer import Producer
from wsrec.ring.bytering import ByteRing
from wsrec.ring.events import Event
from wsrec.ring.slotring import SlotRing
from wsrec.wire.errors import HandshakeRefused


class Log:
    """A log, its clock, and what it logged."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self._slots, self._control_ring = SlotRing(SlotRing.create("t")), ByteRing(ByteRing.create("t", 4 << 20))
        folded = FoldedWarnings(self.take, clock=lambda: self.now)
        self.log = FailureLog(Producer(self._slots, self._control_ring), folded, clock=lambda: self.now)

    def take(self, message, hint=None, *, feed=None, **about):
        self.lines.append(f"{feed}: {message}")

    def refuse(self, status: int, reason: str = "Busy", body: str = "", *, feed: str = "f", retry: float | None = 1.0):
        failure = explain(HandshakeRefused(status, reason, None, body), "h", 80)
        self.log.report(msgspec.structs.replace(plan("ws://h/"), feed=feed), "h", failure, retry, was_open=False)

    def bodies(self) -> list[str | None]:
        """Of each event."""
        slots = self._slots.run(0, self._slots.published.read())
        payloads = [bytes(self._control_ring.slice(int(slot["offset"]), int(slot["length"]))) for slot in slots]
        return [Event.decode(payload).detail.get("body") for payload in payloads]


@pytest.fixture
def log():
    return Log()


def test_what_was_folded_is_counted(log):
    for _ in range(50):
        log.log.report(plan("ws://h/"), "h", Failure("refused", "h:80 refused", "start it"), 1.0, was_open=False)
    log.log.flush()
    *first, last = log.lines
    assert first == ["test: h:80 refused; retrying in 1.0 s"] * 3
    assert last.startswith("test: h: ")
    assert "failed attempts to connect (refused): 47 more within 0 s, the last: h:80 refused" in last


def test_a_body_is_recorded_once_whatever_else_is_new(log):
    for number in range(140):
        log.refuse(503, f"Busy {number}", f"page\n{number}")
        log.now += 0.3
    assert [body for body in log.bodies() if body is not None] == ["page\n0"]


def test_a_changed_body_is_recorded_again_after_a_while_and_an_equal_one_is_not(log):
    for minute in range(60):
        log.now = minute * 60.0
        log.refuse(503, body=f"page\n{minute}")
        log.refuse(502, body="page\nthe same")
    reported = [body for body in log.bodies() if body is not None]
    assert reported.count("page\nthe same") == 1
    assert 2 <= len(reported) - 1 <= 60


def test_neither_many_statuses_nor_openings_record_more(log):
    for _ in range(10):
        for status in range(500, 600):
            log.refuse(status, body=f"page\n{log.now}")
        log.now += 0.1
        log.log.opened("h")
    assert 1 <= sum(body is not None for body in log.bodies()) <= 10
    log.now += 3600
    log.refuse(500, body="page\nmuch later")
    assert log.bodies()[-1] == "page\nmuch later"


def test_targets_of_one_host_share_their_lines_and_what_ends_for_good_is_reported(log):
    for number in range(20):
        log.refuse(503, f"Busy {number}", feed=f"a{number}")
    log.refuse(503, feed="given-up", retry=None)
    log.log.flush()
    assert Counter(line.partition(":")[0] for line in log.lines) == Counter(["a0", "a1", "a2", "given-up", "a19"])
    (counted,) = (line for line in log.lines if line.startswith("a19: h: "))
    assert "failed attempts to connect (http 503): 17 more" in counted
    assert "the last: h:80 answered HTTP 503 Busy 19" in counted
