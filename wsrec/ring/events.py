"""Kinds and details of events, shared by receiver, writer and readers.

A receiver's event takes a slot of the slot ring (`Flag.EVENT`), its JSON is in the receiver's control ring. So it keeps
its place among the frames, and survives the receiver.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec


class EventKind(StrEnum):
    """Kinds of events. The value is stored in the events files; the comment below each describes its `detail`."""

    SESSION_START = "session_start"
    """targets, connections"""
    SESSION_END = "session_end"
    """the session's total of each counter of rows; slots, ring_bytes, receiver: see the ledger"""
    CONNECT = "connect"
    """url, proxy, address, port, resolve_ns, dns_age_s, connect_ns, tls_ns, handshake_ns, attempt, compression"""
    CONNECT_FAILED = "connect_failed"
    """cause, message, hint, retry_s (null: never), attempt, address (or null), tried (address: cause), body (once)"""
    TLS = "tls"
    """mode, fallback (why not direct or ktls), version, cipher, bits, kernel_rx (ktls), subject, issuer, not_after"""
    STAMPING = "stamping"
    """flags (SO_TIMESTAMPING), reason (for no NIC stamps, or none at all), segments_of (exchange or proxy)"""
    SEGMENTS = "segments"
    """packets, segments (captured), dropped (packets), unmapped (records), cpu_ns, nic_offset_ns (unused NIC stamps)"""
    SUBSCRIBE = "subscribe"
    """request: its number (absent: by the URL); topics: the requested ones; reason: why it was sent again"""
    ACK = "ack"
    """topics: the confirmed ones; request: number of their request (absent: of several)"""
    REFUSED = "refused"
    """topics: the refused ones; message: the exchange's text; request: as in `ack`, absent if unknown"""
    SPLIT = "split"
    """topics, message, request: as in `refused`; parts: now requested separately (empty: not yet)"""
    UNANSWERED = "unanswered"
    """topics, request: neither confirmed nor refused in time; message: why this was decided before the timeout"""
    LATE = "late"
    """topics, message: topics not known to be received here when the connection that this one replaced ended"""
    CLOSE = "close"
    """code, reason, by (exchange or wsrec)"""
    DISCONNECT = "disconnect"
    """message, received_bytes (null if the receiver died), discarded_bytes (of an incomplete frame)"""
    LOST_INTERVAL = "lost_interval"
    """from, to, monotonic_from, monotonic_to, duration_ns, reason, slots (lost), from_evidence, to_evidence, bound"""
    REPLACED = "replaced"
    """from_conn, to_conn, reason, from, to (ns since the epoch: both were open); proved: whether to_conn had data"""
    TCP = "tcp"
    """rtt_us, rttvar_us, rcv_rtt_us, rcv_queue (bytes), retransmits, lost, reordering, rcv_ooopack, ping_rtt_ns"""
    STALE = "stale"
    """since, monotonic_since, idle_s; for a subscription (with channel and symbol): topic, ever (had a message)"""
    STREAM_RESUMED = "stream_resumed"
    """since, monotonic_since (as in `stale`), duration_ns: a stale stream has messages again"""
    STALL = "stall"
    """duration_ns: a ring was full and TCP pushed back; nothing was dropped"""
    GAP = "gap"
    """what (missing, repeated or back), scope, rule, expected, found, missing (count, if known), seq, from_conn"""
    SEQUENCE_RESET = "sequence_reset"
    """scope, rule, expected, found, seq: numbers restarted, which the feed's `resets` allows; not a gap"""
    UNCHECKED = "unchecked"
    """rule, compared (messages of this channel and file that it was applied to), skipped (the others, by reason)"""
    EXCHANGE_TIME_OFF = "exchange_time_off"
    """count (of the channel in this file); of the first: unit (that fits), stated (text), value (ns or null), seq"""
    SNAPSHOT = "snapshot"
    """url, reason, requested (ns since the epoch), duration_ns, bytes: row `rest` has the answer; problem, retry_s"""
    SNAPSHOT_JOINED = "snapshot_joined"
    """number (of the snapshot), first (number before the stream's first message), last (number of its last one)"""
    SNAPSHOT_MISSED = "snapshot_missed"
    """why it does not join its stream, number, first, last (as above); retry_s (null: no other one is fetched)"""
    SNAPSHOT_FAILED = "snapshot_failed"
    """url, reason, message, cause (as in `connect_failed`, or `session_end`), retry_s (null: not again)"""
    NOT_INFLATED = "not_inflated"
    """count, bytes, message (of the last one): messages that cannot be inflated; `data` has them as received"""
    SET_ASIDE = "set_aside"
    """file, bytes, sha256, compressed: a message that killed the writer repeatedly; its row has no payload"""
    ANCHOR = "anchor"
    """monotonic (stage clock), realtime, width_ns, clock, drift_ns, step_ns; utc_bound_ns (since the last event)"""
    CLOCK_STEP = "clock_step"
    """step_ns: the realtime clock was set"""
    SCHEDULING = "scheduling"
    """process (receiver or writer), cpus, policy, priority, locked_bytes, hot_path, waiting, clock_source, processor"""
    PRIVILEGE = "privilege"
    """what, reason, hint: a privilege that the system refused"""
    RESTART = "restart"
    """process (receiver or writer), how (it ended), pid (its old one), after_ns (since its last heartbeat), restarts"""
    DISK = "disk"
    """message, duration_ns: writing failed for so long, data waited in the rings; 0: repeated at once with success"""
    RECOVERED = "recovered"
    """journal (null: there was none), torn (whether its end is), damaged (number of places), skipped (bytes)"""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event as it travels through the ring, JSON-encoded.

    The time is the slot's: HANDOFF on the monotonic clock.
    """

    kind: EventKind
    conn: int | None = None
    channel: str | None = None
    symbol: str | None = None
    detail: dict[str, Any] = {}

    def encode(self) -> bytes:
        """The event as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Event:
        """Read what `encode` wrote.

        Raises:
            msgspec.ValidationError: it is not an event.

        """
        return _DECODE(data)


# created here, before there are threads: msgspec 0.22 is not thread-safe on the first use of a type
_DECODE = msgspec.json.Decoder(Event).decode


def refused_count(detail: Mapping[str, Any]) -> int:
    """The number of subscriptions in a `refused`, `unanswered` or `late` event: its topics; 1 without any."""
    topics = detail.get("topics")
    return max(len(topics), 1) if isinstance(topics, list | tuple) else 1
