"""What the supervisor asks of one writer process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from wsrec.net.proxy import DIRECT, ProxyRules
from wsrec.plan.connections import ConnectionPlan

if TYPE_CHECKING:
    from wsrec.feed.schema import Feed


class FeedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A feed as the writer needs it.

    Attributes:
        name: its name.
        config: its configuration, secrets removed (`wsrec.feed.schema.Feed`).
        snapshots: where each channel's snapshot is. May be secret, as `proxies`: neither is ever stored.
        proxies: which proxy to ask for them through.

    """

    name: str
    config: dict[str, Any]
    snapshots: dict[str, str] = {}
    proxies: ProxyRules = DIRECT

    @classmethod
    def of(cls, feed: Feed, proxies: ProxyRules = DIRECT) -> FeedJob:
        """The job of a feed."""
        table = feed.channel_table
        urls = {name: channel.snapshot.url for name, channel in table.items() if channel.snapshot is not None}
        return cls(name=feed.name, config=feed.public_config(), snapshots=urls, proxies=proxies)


class WriterJob(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one writer needs.

    Attributes:
        session: the session's id, unique to this writer of this run; it begins every file name.
        out: the output folder.
        slots: descriptor of the slot ring's shared memory.
        rings: descriptor of each connection's byte ring, in order of `connections`.
        populate: whether the rings' memory is brought in at once; what stands by never is.
        control_ring: descriptor of the byte ring of events and of what we sent.
        status: descriptor of the status page.
        connections: the connections of the receiver that feeds this writer.
        feeds: the feeds they belong to.
        cpu: processor to run on.
        rotate_seconds: longest time span of a file, on full multiples of it since the epoch; files also end with
            each hour (UTC), as the folders do.
        rotate_bytes: payload bytes after which a file ends.
        batch_seconds: longest time that a received message waits for its journal batch.
        batch_bytes: payload bytes that make a journal batch at once.
        fsync_seconds: time between two fdatasync of the journal.
        max_message: bytes that a compressed message may inflate to.
        reserve: bytes of the output's file system that are to stay free.
        ca_file: PEM file trusted besides the system's certificates, for snapshots.
        session_start: detail of the event that opens the session (targets, options, secrets removed).
        resume: whether it takes over from a writer of the same session that died, on its rings and in its folder.
        began: when the first receiver was started, ns on the monotonic clock.
        began_time: the same moment, ns since the epoch; 0 where nobody noted it.
        last_request: the highest number of a request that a writer before this one is known to have made.
        restart: detail of the event that tells how that one died (`wsrec.ring.events.EventKind.RESTART`).

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
    cpu: int | None = None
    rotate_seconds: float = 3600.0
    rotate_bytes: int = 1 << 30
    batch_seconds: float = 0.1
    batch_bytes: int = 8 << 20
    fsync_seconds: float = 1.0
    max_message: int = 64 << 20
    reserve: int = 0
    ca_file: str | None = None
    session_start: dict[str, Any] = {}
    resume: bool = False
    began: int = 0
    began_time: int = 0
    last_request: int = 0
    restart: dict[str, Any] = {}

    def public(self) -> WriterJob:
        """The same without secrets, to be stored."""
        return replace(self, feeds=tuple(replace(feed, snapshots={}, proxies=DIRECT) for feed in self.feeds))
