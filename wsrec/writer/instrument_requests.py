"""When the listings of instruments are fetched (`wsrec.feed.instruments`): at the start of a recording, and daily."""

from __future__ import annotations

from collections.abc import Iterator

from wsrec.decode.instrument_rows import InstrumentReader
from wsrec.feed.instruments import CHANNEL
from wsrec.feed.schema import Feed
from wsrec.writer.job import WriterJob
from wsrec.writer.snapshots import SnapshotRequest

LISTING_STREAMS = 1 << 32
"""Numbers of streams from here on are listings, in order of a feed's addresses: no feed has as many streams."""

_DAY = 86400.0
_INTERVAL = 1.0


class InstrumentRequests:
    """The requests for the listings of a writer's feeds.

    Args:
        job: the writer's job.

    """

    def __init__(self, job: WriterJob) -> None:
        self._due_at = 0.0
        self._requests: list[SnapshotRequest] = []
        for feed in job.feeds:
            conns = [plan.conn for plan in job.connections if plan.feed == feed.name]
            if feed.instruments and conns:
                declared = Feed.model_validate(feed.config).instruments
                assert declared is not None
                problem = InstrumentReader(declared).problem
                for number, (url, shown) in enumerate(zip(feed.instruments, declared.urls, strict=True)):
                    request = SnapshotRequest(
                        feed.name,
                        min(conns),
                        LISTING_STREAMS + number,
                        CHANNEL,
                        None,
                        url,
                        _INTERVAL,
                        "the recording began",
                        public_url=shown,
                        what="instrument listing",
                        problem=problem,
                    )
                    self._requests.append(request)

    def due(self, now: float) -> Iterator[SnapshotRequest]:
        """The requests that are due now (monotonic clock, s)."""
        if now < self._due_at or not self._requests:
            return
        yield from self._requests
        self._due_at = now + _DAY
        self._requests = [request._replace(reason="a day has passed") for request in self._requests]
