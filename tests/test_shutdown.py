"""wsrec.shutdown: the limits fit into each other, the supervisor keeps to them, and the docs have them."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path

from wsrec import shutdown
from wsrec.ipc import LogLine
from wsrec.shutdown import LIMITS, worst_case
from wsrec.supervise.supervisor import within

PAGE = Path(__file__).parents[1] / "docs" / "recording.md"


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
        assert limits_table() in text, "run scripts/update_docs.py"
        assert f"**At most** an end takes {worst_case():g} s" in text
        unit = (PAGE.parents[1] / "scripts" / "systemd" / "wsrec@.service").read_text()
        assert f"an end takes {worst_case():g} s at most" in unit


class TestWithin:
    def test_it_kills_at_the_limit_not_after_it(self):
        """The notice that something is waited for is part of the limit."""
        log: list[LogLine] = []
        killed: list[float] = []

        async def run() -> None:
            ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def kill() -> None:
                killed.append(time.monotonic() - began)
                ending.set_result(None)

            began = time.monotonic()
            # however late a busy machine is, timers come in the order of their times
            asyncio.get_running_loop().call_later(0.6, killed.append, math.inf)
            await within(ending, 0.4, name="writer", kill=kill, on_log=log.append, notice=0.3)

        asyncio.run(run())
        assert 0.39 < killed[0] < math.inf
        assert [line.level for line in log] == ["info", "error"]
        assert "did not end in 0.4 s" in log[1].message
