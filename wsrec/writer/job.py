"""The writer's job: everything that the supervisor passes to a writer process."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from wsrec.format.moment import Moment
from wsrec.net.proxy import DIRECT, ProxyRules
from wsrec.options.record import InstrumentsMode, SnapshotsMode, WorkerOptions
from wsrec.plan.connections import ConnectionPlan

if TYPE_CHECKING:
    from wsrec.feed.schema import Feed


class FeedJob(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a feed that the writer needs.

    Attributes:
        name: its name.
        config: its configuration, secrets removed (`wsrec.feed.schema.Feed`).
        snapshots: URL of each channel's snapshot. May be secret, like the next two: they are never stored.
        instruments: URLs of the listing of instruments, where it is to be fetched.
        proxies: proxy selection for the snapshots.

    """

    name: str
    config: dict[str, Any]
    snapshots: dict[str, str] = {}
    instruments: tuple[str, ...] = ()
    proxies: ProxyRules = DIRECT

    @classmethod
    def of(
        cls,
        feed: Feed,
        proxies: ProxyRules = DIRECT,
        instruments: InstrumentsMode = InstrumentsMode.AUTO,
        snapshots: SnapshotsMode = SnapshotsMode.AUTO,
    ) -> FeedJob:
        """The job of a feed."""
        table = feed.channel_table
        urls = {name: channel.snapshot.url for name, channel in table.items() if channel.snapshot is not None}
        wanted = instruments is InstrumentsMode.ALWAYS or (
            instruments is InstrumentsMode.AUTO and feed.counts_contracts
        )
        listings = feed.instruments.urls if feed.instruments is not None and wanted else ()
        if snapshots is not SnapshotsMode.AUTO:
            feed = feed.fetching_snapshots(wanted=snapshots is SnapshotsMode.START)
        config = feed.public_config()
        return cls(name=feed.name, config=config, snapshots=urls, instruments=listings, proxies=proxies)


class WriterJob(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one writer needs.

    Attributes:
        session: the session's id, unique to this writer of this run; every file name begins with it.
        out: the output folder.
        slots: descriptor of the slot ring's shared memory.
        rings: descriptor of each connection's byte ring, in order of `connections`.
        populate: whether to fault in the rings' memory at once; never done for standby connections.
        control_ring: descriptor of the control ring: events and sent frames.
        status: descriptor of the status page.
        segments, stream_map: descriptors of the segment ring and the stream map; None without `--segments`.
        connections: the connections of the receiver that feeds this writer.
        feeds: the feeds they belong to.
        options: how to work.
        cpu: processor to run on; one of those in `RecordOptions.writer_cpu`.
        session_start: detail of the event that opens the session (targets, options, secrets removed).
        resume: whether it takes over the rings and the folder of a writer of the same session that died.
        began: start of the first receiver, ns on the monotonic clock.
        began_time: the same moment, ns since the epoch; 0 if unknown.
        last_request: highest number of a subscription request that an earlier writer is known to have made.
        resumed: when it took over; set by the writer itself, so that its journals have it.
        restart: detail of the event about the death of the previous one (`wsrec.ring.events.EventKind.RESTART`).

    """

    session: str
    out: str
    slots: int
    rings: tuple[int, ...]
    control_ring: int
    status: int
    connections: tuple[ConnectionPlan, ...]
    feeds: tuple[FeedJob, ...]
    populate: bool = True
    segments: int | None = None
    stream_map: int | None = None
    options: WorkerOptions = WorkerOptions()
    cpu: int | None = None
    session_start: dict[str, Any] = {}
    resume: bool = False
    began: int = 0
    began_time: int = 0
    last_request: int = 0
    resumed: Moment | None = None
    restart: dict[str, Any] = {}

    def misplaced_in(self, session: str) -> str | None:
        """Why a stored job is not one of the session in whose folder it is, and must not name files; None: it is one.

        Args:
            session: the name of the folder.

        """
        # a writer that records does not need pydantic
        from wsrec.feed.values import NAME_PATTERN

        if self.session != session:
            return f"it is of session {self.session!r}"
        name = next((feed.name for feed in self.feeds if not re.fullmatch(NAME_PATTERN, feed.name)), None)
        return None if name is None else f"no feed has the name {name!r}"

    def public(self) -> WriterJob:
        """The job without secrets, for storage."""
        return replace(
            self, feeds=tuple(replace(feed, snapshots={}, instruments=(), proxies=DIRECT) for feed in self.feeds)
        )
