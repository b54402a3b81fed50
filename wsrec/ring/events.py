"""Events: the kinds and details of events, shared by receiver, writer and readers.

An event of the receiver rides in the slot ring (`Flag.EVENT`) with its JSON in the receiver's own byte ring, so it
keeps its place among the frames and survives the receiver.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec


class EventKind(StrEnum):
    """What can happen. The value is the word in the events files; the comment below each is its `detail`."""

    SESSION_START = "session_start"
    """targets, connections"""
    SESSION_END = "session_end"
    """the counters that rows show, since the session began; slots, ring_bytes, receiver: see the ledger"""
    CONNECT = "connect"
    """url, proxy, address, port, resolve_ns, dns_age_s, connect_ns, tls_ns, handshake_ns, attempt, compression"""
    CONNECT_FAILED = "connect_failed"
    """cause, message, hint, retry_s (null: never), attempt, address (or null), tried (address: cause), body (once)"""
    TLS = "tls"
    """mode, fallback (why not ktls), version, cipher, bits, kernel_rx, kernel_tx (ktls), subject, issuer, not_after"""
    STAMPING = "stamping"
    """flags (of SO_TIMESTAMPING), reason (why not the NIC's, or none; else null), segments_of (exchange, proxy)"""
    SUBSCRIBE = "subscribe"
    """request: its number (none: by the URL); topics: what it asked for; reason: why it was sent once more"""
    ACK = "ack"
    """topics: what the exchange confirmed; request: of which request (none: of several)"""
    REFUSED = "refused"
    """topics, message: what the exchange refused, in its words; request: as in `ack`, none where that is not known"""
    SPLIT = "split"
    """topics, message, request: as in `refused`; parts: asked for apart now; none where it is too early"""
    UNANSWERED = "unanswered"
    """topics, request: neither confirmed nor refused in time; message: why it was judged before the time was up"""
    LATE = "late"
    """topics, message: what was not known to come here yet when the connection ended whose place this one took"""
    CLOSE = "close"
    """code, reason, by (exchange or wsrec)"""
    DISCONNECT = "disconnect"
    """message, received_bytes (null where the receiver died), discarded_bytes (of a frame that never ended)"""
    LOST_INTERVAL = "lost_interval"
    """from, to, monotonic_from, monotonic_to, duration_ns, reason, slots (lost), from_evidence, to_evidence, bound"""
    REPLACED = "replaced"
    """from_conn, to_conn, reason, from, to (ns since the epoch: both were open); proved: whether to_conn had data"""
    TCP = "tcp"
    """rtt_us, rttvar_us, rcv_rtt_us, rcv_queue (bytes), retransmits, lost, reordering, rcv_ooopack, ping_rtt_ns"""
    STALE = "stale"
    """since, monotonic_since, idle_s; of a subscription, with its channel and symbol: topic, ever (had a message)"""
    STREAM_RESUMED = "stream_resumed"
    """since, monotonic_since (as in stale), duration_ns: the messages of a stale stream go on"""
    STALL = "stall"
    """duration_ns: a ring was full and TCP pushed back; nothing was dropped"""
    GAP = "gap"
    """what (missing, repeated or back), scope, rule, expected, found, missing (count, where known), seq, from_conn"""
    SEQUENCE_RESET = "sequence_reset"
    """scope, rule, expected, found, seq: numbers began anew, as the feed's `resets` says that they may; no gap"""
    UNCHECKED = "unchecked"
    """rule, compared (messages of this channel and file that it was applied to), skipped (by the reason: the others)"""
    EXCHANGE_TIME_OFF = "exchange_time_off"
    """count (of the channel in this file; all are null), unit (in which the first would fit), value (of it, ns), seq"""
    SNAPSHOT = "snapshot"
    """url, reason, requested (ns since the epoch), duration_ns, bytes: a row `rest` has what was fetched over HTTP"""
    SNAPSHOT_JOINED = "snapshot_joined"
    """number (the snapshot's), first, last: numbers of the stream, before its first message and of its last by then"""
    SNAPSHOT_MISSED = "snapshot_missed"
    """why, number, first, last (as before): it does not join its stream; retry_s (null: no other one is fetched)"""
    SNAPSHOT_FAILED = "snapshot_failed"
    """url, reason, message, cause (as of `connect_failed`), retry_s (null: not tried again)"""
    NOT_INFLATED = "not_inflated"
    """count, bytes, message (of the last): compressed messages that cannot be inflated; `data` has what came"""
    SET_ASIDE = "set_aside"
    """file, bytes, sha256, compressed: a message that the writer died of more than once; its row has no payload"""
    ANCHOR = "anchor"
    """monotonic (stage clock), realtime, width_ns, clock, drift_ns, step_ns; utc_bound_ns: since the last one here"""
    CLOCK_STEP = "clock_step"
    """step_ns: the realtime clock was set"""
    SCHEDULING = "scheduling"
    """process (receiver or writer), cpus, policy, priority, locked_bytes, hot_path, waiting, clock_source, processor"""
    PRIVILEGE = "privilege"
    """what, reason, hint: something the system refused"""
    RESTART = "restart"
    """process (receiver or writer), how (it ended), pid (it had), after_ns (since its last heartbeat), restarts"""
    DISK = "disk"
    """message, duration_ns: the output refused for so long, and what came waited in the rings; 0: made good at once"""
    RECOVERED = "recovered"
    """journal (null: none was left), torn (its end is), damaged (places that are not as written), skipped (bytes)"""


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
            msgspec.ValidationError: it is no event.

        """
        return _DECODE(data)


# Made here, before there are threads: msgspec (0.22) reads a type that another thread has only begun to look at
_DECODE = msgspec.json.Decoder(Event).decode


def refused_count(detail: Mapping[str, Any]) -> int:
    """How many subscriptions a `refused`, `unanswered` or `late` event is about: its topics; 1 where it names none."""
    topics = detail.get("topics")
    return max(len(topics), 1) if isinstance(topics, list | tuple) else 1
