"""wsrec.shutdown: the limits fit into each other, the supervisor keeps to them, and the docs have them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import msgspec

from wsrec import shutdown
from wsrec.ipc import LogLine, Stop
from wsrec.shutdown import LIMITS, worst_case
from wsrec.supervise.child_process import ChildProcess
from wsrec.supervise.process_supervisor import ProcessSupervisor

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "processes.md"


def limits_table() -> str:
    rows = "".join(f"| {limit.seconds:g} s | {limit.waits} | {limit.reason} |\n" for limit in LIMITS)
    return f"| limit | who waits for what | why, and what follows |\n| --- | --- | --- |\n{rows}"


class TestLimits:
    def test_a_process_is_given_the_time_that_it_may_wait_by_itself(self):
        by_itself = shutdown.BACKLOG.seconds + shutdown.CLOSE_REPLY.seconds + shutdown.LAST_EVENTS.seconds
        assert by_itself < shutdown.RECEIVER.seconds
        assert shutdown.REPLACED_BACKLOG.seconds < shutdown.BACKLOG.seconds
        assert shutdown.RECEIVER.seconds <= shutdown.ORPHANED_RECEIVER.seconds
        # one refusal, and as long again for what it has to write
        assert 2 * shutdown.DISK.seconds < shutdown.WRITER.seconds

    def test_the_page_has_them(self):
        text = PAGE.read_text()
        assert limits_table() in text, "run scripts/update-docs"
        assert f"**At most** an end takes {worst_case():g} s" in text
        unit = (PAGE.parents[2] / "scripts" / "systemd" / "wsrec@.service").read_text()
        assert f"an end takes {worst_case():g} s at most" in unit


class TestEnded:
    def test_a_process_is_killed_at_the_limit_not_after_it(self):
        """The notice that something is waited for is part of the limit."""
        log: list[LogLine] = []

        class Job(msgspec.Struct):
            """Nothing to do."""

        async def run() -> float:
            child = ChildProcess("writer", "asyncio", log.append)
            process = ProcessSupervisor(
                child,
                lambda _: child.start(Job(), ()),
                heartbeat=lambda: 0,
                beats_to_the_end=False,
                held=lambda: False,
                on_log=log.append,
                costs="",
            )
            await process.start()
            running = asyncio.ensure_future(process.run())
            os.kill(child.pid, signal.SIGSTOP)
            process.finish(Stop(), again=False)
            began = time.monotonic()
            await process.ended(running, 2.0, discards=lambda: "another SIGINT", notice=1.9)
            return time.monotonic() - began

        # the limit after the notice would be 3.9 s
        assert 1.95 < asyncio.run(run()) < 3.8
        assert [line.level for line in log] == ["info", "error"]
        assert "did not end in 2 s" in log[1].message
