"""Timestamping of one connection, as reported: why received data has no timestamp, or none of the NIC."""

from __future__ import annotations

from wsrec import ipc
from wsrec.host import timestamping
from wsrec.net.proxy import Proxy
from wsrec.receive.producer import Producer
from wsrec.receive.transport import Transport
from wsrec.ring.events import EventKind
from wsrec.stages import StampSource


class StampingReports:
    """Reports the timestamping of one connection, over all times that it is open.

    Args:
        conn: the connection's number.
        producer: takes the events.

    """

    def __init__(self, conn: int, producer: Producer) -> None:
        self._conn = conn
        self._producer = producer
        self._nic_reported = False

    def begin(self, transport: Transport, proxy: Proxy | None) -> None:
        """Report the timestamping of a connection that was just made, possibly through a proxy."""
        source = transport.source
        self._report(None if source is StampSource.NONE_ABSENT else source.reason, proxy)

    def check(self, transport: Transport, proxy: Proxy | None) -> None:
        """Report once if the NIC's clock is unrelated to the system's."""
        offset = transport.stamps.nic_offset_ns
        if offset is None or self._nic_reported:
            return
        self._nic_reported = True
        what = f"the NIC's clock is {offset / 1e9:+.3f} s from the system's: kernel timestamps are used instead"
        self._report(what, proxy)
        ipc.warn(what, "set the NIC's clock: phc2sys -s CLOCK_REALTIME -c DEVICE -O 0", conn=self._conn)

    def _report(self, reason: str | None, proxy: Proxy | None) -> None:
        self._producer.event(
            EventKind.STAMPING,
            conn=self._conn,
            flags=timestamping.FLAGS,
            reason=reason,
            segments_of="exchange" if proxy is None else "proxy",
        )
