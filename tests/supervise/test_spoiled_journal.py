"""A journal that somebody deletes or cuts while it is written: what can be read is kept, and it goes on."""

from __future__ import annotations

import os
import signal

import pytest

from tests.conftest import events_of, messages_of, received
from tests.supervise.conftest import finished, free, numbered
from wsrec.verify.model import VerifyStatus
from wsrec.verify.verify import verify


def live_journal(work):
    (path,) = work.out.glob(".wsrec/*/journal-*.arrows")
    return path


def goes_on(work, messages: int = 500) -> None:
    since = len(work.stream.times)
    work.until(lambda: len(work.stream.times) > since + messages or work.process.poll() is not None)


def test_one_that_is_deleted_is_written_anew_and_nothing_is_lost(recording):
    work = recording()
    for _ in range(2):
        for path in work.out.glob(".wsrec/*/journal-*.arrows"):
            path.unlink()
        goes_on(work)
    work.process.send_signal(signal.SIGTERM)
    _, log = work.end(0)
    assert "deleted while being written" in log
    assert len(numbered(work.out)) > 1000
    assert events_of(work.out, "lost_interval") == []
    finished(work.out)
    assert verify([work.out]).status == VerifyStatus.HOLDS


@pytest.mark.long
def test_what_it_held_can_be_recovered_too(recording, wsrec):
    work = recording()
    before = len(work.journalled())
    live_journal(work).unlink()
    work.until(lambda: len(work.journalled()) > before or work.process.poll() is not None)
    os.kill(work.process.pid, signal.SIGSTOP)
    for pid in [*work.children(), work.process.pid]:
        os.kill(pid, signal.SIGKILL)
    work.process.communicate()
    work.until(lambda: free(work.out))
    wsrec.run("recover", work.out)
    assert len(numbered(work.out)) > before


@pytest.mark.long
def test_one_that_is_cut_costs_what_was_cut_off_and_not_what_came_later(recording):
    work = recording()
    goes_on(work, 300)
    path = live_journal(work)
    cut = len(work.stream.times)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    goes_on(work, 1000)
    work.process.send_signal(signal.SIGTERM)
    work.end(4)
    found = {int(row.split()[1]) for row in received(messages_of(work.out)) if row.startswith(b"message")}
    missing = sorted(set(range(max(found))) - found)
    # what was sent may take a moment to come
    assert not missing or missing[-1] < cut + 250, missing
    assert verify([work.out]).status == VerifyStatus.INCOMPLETE
