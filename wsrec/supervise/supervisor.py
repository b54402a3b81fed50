"""The supervisor of a recording: starts a receiver and a writer per processor, and stops them in order.

It never touches message data: it observes the recording through status pages and the processes' lines. A process that
dies or hangs is restarted (`process_supervisor`) and continues with the shared memory of its `pair`.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from wsrec import shutdown
from wsrec.counts import total
from wsrec.feed.schema import Feed
from wsrec.ipc import FailedLine, LogLine, Stop
from wsrec.options.record import RecordOptions
from wsrec.plan.connections import ConnectionPlan, standbys
from wsrec.ring.status import StatusPage
from wsrec.supervise.log_lines import placing
from wsrec.supervise.outcome import Outcome, exit_status
from wsrec.supervise.pair import Pair
from wsrec.supervise.redaction import redacting
from wsrec.supervise.signals import SAME_REQUEST, TAKEOVER_NAME, held
from wsrec.supervise.state import Phase
from wsrec.units import duration, plural

REPLACED = "another recorder took over"
"""The reason of an end by a takeover."""

_LOOK_SECONDS = 0.05
_DISCARDS = "another one discards what is not on disk by then"


class Supervisor:
    """Runs one recording.

    Args:
        targets: the targets as the user wrote them, secrets removed.
        feeds: the feeds.
        plans: their connections.
        options: how to record.
        on_log: called with each line for the operator.
        locks: descriptors of the output's lock, which the writers hold too.
        at_end: awaited with the outcome, and with what tells whether a second signal came in the meantime.

    Attributes:
        pairs: receivers and writers, one pair per processor.
        options: how it records.
        targets: as given.
        began: monotonic time (s) of the start.
        until: monotonic time (s) at which it ends; None if unknown.
        log: logs a line about the recording: secrets are removed.

    """

    def __init__(
        self,
        targets: tuple[str, ...],
        feeds: list[Feed],
        plans: list[ConnectionPlan],
        options: RecordOptions,
        on_log: Callable[[LogLine], None],
        locks: Sequence[int] = (),
        *,
        at_end: Callable[[Outcome, Callable[[], bool]], Awaitable[None]] | None = None,
    ) -> None:
        self.options = options
        self.began = time.monotonic()
        self.until: float | None = None
        self.targets = targets
        self._feeds = feeds
        redacted = redacting(on_log, plans)
        self._locks = tuple(locks)
        cpus: tuple[int | None, ...] = options.cpu[: len(plans)] or (None,)
        writer_cpus: tuple[int | None, ...] = options.writer_cpu or (None,)
        # all receivers connect to the same hosts, from the same address
        plans = [replace(one, pace=one.pace and one.pace.share(len(cpus))) for one in plans]
        spare = {one.standby_of: one for one in standbys(plans)}
        # there is a session per receiver
        base = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        self.log = placing(redacted, plans, base if len(cpus) == 1 else None)
        self.pairs = [
            Pair(
                base if len(cpus) == 1 else f"{base}-r{index}",
                mine := plans[index :: len(cpus)],
                [spare[one.conn] for one in mine if one.conn in spare],
                cpu,
                writer_cpus[index % len(writer_cpus)],
                redacted,
                "" if len(cpus) == 1 else f" {index}",
            )
            for index, cpu in enumerate(cpus)
        ]
        # the first writer that has a feed's connections fetches its listing for all
        first: dict[str, Pair] = {}
        for pair in self.pairs:
            for plan in pair.plans:
                first.setdefault(plan.feed, pair)
        for feed, pair in first.items():
            pair.fetches.add(feed)
        self._at_end = at_end
        self._is_recorded = False
        self._stopping = asyncio.Event()
        self._reason = ""
        # monotonic time (s) of the first signal of a person or a service manager
        self._signalled: float | None = None
        # the second signal's name, and the failure before it
        self._given_up = ""
        self._failed_before: FailedLine | None = None
        self._failed_outside: FailedLine | None = None
        self._receiving = len(self.pairs)

    async def run(self) -> Outcome:
        """Record until a signal, the end of the time, or the end of all connections.

        Raises:
            OSError: the recording could not be started.

        """
        loop = asyncio.get_running_loop()
        with held(lambda name: loop.call_soon_threadsafe(self._on_signal, name)):
            try:
                await self._run()
                outcome = self._come_to()
                if self._at_end is not None:
                    await self._at_end(outcome, lambda: bool(self._given_up))
            finally:
                for pair in self.pairs:
                    pair.close()
            return outcome

    async def _run(self) -> None:
        if self.options.until is not None:
            left = (self.options.until - datetime.now(UTC)).total_seconds()
            self._end_at(time.monotonic() + left)
        looking: list[asyncio.Task[None]] = []
        connections = sum(len(pair.plans) for pair in self.pairs)
        start = {"targets": self.targets, "connections": connections}
        try:
            for pair in self.pairs:
                alone = len(self.pairs) == 1
                await pair.start(self.options, self._feeds, start, self._locks, connections=connections, alone=alone)
            if self.options.duration is not None:
                looking.append(asyncio.ensure_future(self._look_for_begin(self.options.duration)))
            if len(self.pairs) > 1:
                looking.append(asyncio.ensure_future(self._look_for_hope()))
            await asyncio.gather(*(self._record(pair) for pair in self.pairs))
        finally:
            self._abandon()
            for task in looking:
                task.cancel()

    def _come_to(self) -> Outcome:
        """The outcome after the end of all processes."""
        self._is_recorded = True
        failure, given_up = self._failure(), 0
        unfinished = any(pair.writer.child.summary is None for pair in self.pairs)
        if self._given_up and unfinished and (failure is None or failure is not self._failed_before):
            # a process killed on request has not failed
            given_up = sum(pair.waiting for pair in self.pairs)
            message = f"ended at once on a second {self._given_up}: "
            message += f"{given_up:,} received frames were not journalled and are lost"
            hint = "the journals are kept, and recovered by the next start"
            failure = FailedLine(message=message, hint=hint)
        return self._outcome(failure, given_up)

    def _failure(self) -> FailedLine | None:
        """What failed outside, or the reason of the first process that cannot continue."""
        if self._failed_outside is not None:
            return self._failed_outside
        supervisors = [pair.writer for pair in self.pairs] + [pair.receiver for pair in self.pairs]
        return next((process.failed for process in supervisors if process.failed is not None), None)

    def fail(self, failed: FailedLine, reason: str) -> None:
        """End the recording, because what it needs besides its own processes has failed.

        Args:
            failed: what failed, and what to do about it.
            reason: the same in a few words, as the reason why the recording ended.

        """
        self._failed_outside = self._failed_outside or failed
        self._stop(reason)

    @property
    def phase(self) -> Phase:
        """What it is doing: it is starting until its first connection is open."""
        if self._stopping.is_set():
            return "finishing"
        is_open = any(page.receiver["connected"] or page.receiver["frames"] for page in self._pages())
        return "recording" if is_open else "starting"

    @property
    def reason(self) -> str | None:
        """Why it is ending; None before."""
        return self._reason if self._stopping.is_set() else None

    def is_open(self) -> bool:
        """Whether every connection is open and data reaches the disk."""
        pages = self._pages()
        planned = sum(len(pair.plans) for pair in self.pairs)
        trouble = any(page.writer["disk_trouble"] or not page.writer["heartbeat"] for page in pages)
        return sum(int(page.receiver["connected"]) for page in pages) == planned and not trouble

    def is_answered(self) -> bool:
        """Whether every subscription was answered, in feeds that define answers."""
        answering = {feed.name for feed in self._feeds if feed.ack is not None}
        plans = [plan for pair in self.pairs for plan in pair.plans if plan.feed in answering]
        requested = sum(len(request.topics) for plan in plans for request in plan.requests)
        return requested <= sum(int(pair.status.writer["answered"]) for pair in self.pairs if pair.status is not None)

    def _end_at(self, moment: float) -> None:
        """End at this monotonic time (s)."""
        self.until = moment
        asyncio.get_running_loop().call_later(
            max(moment - time.monotonic(), 0), functools.partial(self._stop, "the time was up")
        )

    async def _look_for_begin(self, seconds: float) -> None:
        """End this long after the first connection was open; without one, after the same time of trying."""
        while not any(page.receiver["heartbeat"] for page in self._pages()):
            await asyncio.sleep(_LOOK_SECONDS)
        tried_since = time.monotonic()
        while not any(page.receiver["connected"] or page.receiver["frames"] for page in self._pages()):
            if time.monotonic() - tried_since >= seconds:
                self._stop(f"no connection was open within {duration(int(seconds * 1e9))}")
                return
            await asyncio.sleep(_LOOK_SECONDS)
        self._end_at(time.monotonic() + seconds)

    async def _look_for_hope(self) -> None:
        """End once the connections of every receiver were refused for good."""
        while not all(page.receiver["exhausted"] for page in self._pages()):
            await asyncio.sleep(_LOOK_SECONDS)
        self._stop("every connection was refused")

    def _pages(self) -> list[StatusPage]:
        return [pair.status for pair in self.pairs if pair.status is not None]

    async def _record(self, pair: Pair) -> None:
        """Run one pair from start to end; the receiver ends first, then the writer."""
        receiver = asyncio.ensure_future(pair.receiver.run())
        writer = asyncio.ensure_future(pair.writer.run())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((stopping, receiver, writer), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if writer.done():
            self._writer_ended(pair)
        pair.receiver.finish(Stop(), again=False)
        await pair.receiver.ended(receiver, shutdown.RECEIVER.seconds, discards=self._discards)
        self._receiver_ended(pair)
        pair.writer.finish(Stop(), again=True)
        await pair.writer.ended(writer, shutdown.WRITER.seconds, discards=self._discards)

    def _writer_ended(self, pair: Pair) -> None:
        """A writer ended by itself: if the output failed, everything ends, else only its pair."""
        failed = pair.writer.failed
        if len(self.pairs) == 1 or not pair.writer.exhausted or failed is None:
            self._stop(f"the {pair.writer.child.name} ended")
        else:
            self._report_ended(pair, failed)

    def _receiver_ended(self, pair: Pair) -> None:
        """Report at once that one of several receivers failed; the others continue."""
        failed = pair.receiver.failed
        if len(self.pairs) > 1 and failed is not None and not self._stopping.is_set():
            self._report_ended(pair, failed)
        self._receiving -= 1
        if not self._receiving:
            self._stop(f"the {pair.receiver.child.name} ended" if failed is not None else "every connection ended")

    def _report_ended(self, pair: Pair, failed: FailedLine) -> None:
        message = f"{failed.message}; no longer recorded: {plural(len(pair.plans), 'connection')}"
        self.log(LogLine(level="error", message=message, hint="stop and record again"))

    def _on_signal(self, name: str) -> None:
        if name == TAKEOVER_NAME:
            self._stop(REPLACED)
            return
        now = time.monotonic()
        if self._signalled is None:
            self._signalled = now
            if self._stopping.is_set():
                message = f"{name}: the recording is already ending ({self._reason}); "
                message += "another one ends the hooks" if self._is_recorded else _DISCARDS
                self.log(LogLine(level="info", message=message))
            self._stop(name)
            return
        if now - self._signalled < SAME_REQUEST:
            return
        if not self._given_up:
            self._given_up, self._failed_before = name, self._failure()
            what = "the hooks are ended" if self._is_recorded else "data not yet on disk is discarded"
            self.log(LogLine(level="warning", message=f"a second {name}: {what}"))
        self._abandon()

    def _discards(self) -> str:
        """The signals that would end the recording at once, for the operator."""
        key = "Ctrl-C" if sys.stderr.isatty() else "SIGINT or SIGTERM"
        return f"{key} twice" if self._signalled is None else f"another {key}"

    def _abandon(self) -> None:
        for pair in self.pairs:
            pair.receiver.abandon()
            pair.writer.abandon()

    def _stop(self, reason: str) -> None:
        if not self._stopping.is_set():
            self._reason = reason
            self._stopping.set()

    def _outcome(self, failure: FailedLine | None, given_up: int) -> Outcome:
        summaries = [pair.summary(self.options.out) for pair in self.pairs]
        firsts = [s.first_recv_time for s in summaries if s.first_recv_time is not None]
        lasts = [s.last_recv_time for s in summaries if s.last_recv_time is not None]
        pages = [pair.status for pair in self.pairs if pair.status is not None]
        return Outcome(
            status=exit_status(summaries, failure),
            reason=self._reason,
            error=failure.message if failure else None,
            hint=failure.hint if failure else None,
            finished=all(pair.writer.child.summary is not None for pair in self.pairs),
            out=str(self.options.out),
            targets=self.targets,
            sessions=tuple(pair.session for pair in self.pairs),
            elapsed_ns=int((time.monotonic() - self.began) * 1e9),
            **total(summaries).named(),
            given_up=given_up,
            reconnects=sum(int(page.receiver["reconnects"]) for page in pages),
            stalls=sum(int(page.receiver["stalls"]) for page in pages),
            restarts=sum(pair.restarts for pair in self.pairs),
            first_recv_time=min(firsts, default=None),
            last_recv_time=max(lasts, default=None),
            files=tuple(line for s in summaries for line in s.files),
        )
