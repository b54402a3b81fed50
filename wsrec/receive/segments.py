"""Captured segments in the receiver (`--segments`): a flow for each connection, from before its SYN to its end."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

from wsrec import ipc
from wsrec.net.resolver import Address
from wsrec.receive.flow_map import FlowMap, position
from wsrec.receive.job import ReceiverJob
from wsrec.receive.producer import Producer
from wsrec.ring.events import EventKind
from wsrec.segments.capture import Capture, CaptureRefused, Flow
from wsrec.segments.segment_ring import SegmentRing
from wsrec.segments.stream_map import StreamMap, StreamMapWriter

WHAT = "capturing segments (--segments)"
# Longest wait for the capture at the end (s): it has all after some 50 ms
_LAST = 1.0


class Segments:
    """The capture of one receiver, and its stream map.

    Args:
        capture: the capture, owned from now on.
        writer: the stream map.
        producer: takes the events.

    """

    def __init__(self, capture: Capture, writer: StreamMapWriter, producer: Producer) -> None:
        self._capture = capture
        self._writer = writer
        self._producer = producer
        self._nic_reported = False
        self._finished = False

    @classmethod
    def start(cls, job: ReceiverJob, producer: Producer) -> Segments | None:
        """Start to capture, if the job wants it; a refusal is reported, and recording goes on without."""
        if job.segments is None or job.stream_map is None:
            return None
        # not where the receiver itself is pinned to
        others = os.sched_getaffinity(0) - {job.cpu}
        try:
            capture = Capture(SegmentRing(job.segments), others)
        except CaptureRefused as error:
            reason, hint = error.refusal
            producer.event(EventKind.PRIVILEGE, what=WHAT, reason=reason, hint=hint)
            ipc.warn(f"{WHAT} was refused: {reason}; stage 1 is that of each read", hint, kind=EventKind.PRIVILEGE)
            return None
        return cls(capture, StreamMapWriter(StreamMap(job.stream_map)), producer)

    def attempt(self, conn: int, *, records: bool, tunnel: bool) -> Attempt:
        """Capture an attempt to connect.

        Args:
            conn: number of the connection.
            records: whether the kernel may decrypt it, so that the capture has to find the TLS records.
            tunnel: whether it leads through a proxy, whose own answers come first.

        """
        return Attempt(self._capture, self._writer, conn, records=records, tunnel=tunnel)

    def check(self) -> None:
        """Release what is not needed any more, and report a NIC's clock that is not used; called now and then."""
        if self._finished:
            return
        self._capture.sweep()
        offset = self._capture.nic_offset_ns
        if offset is not None and not self._nic_reported:
            self._nic_reported = True
            what = f"the NIC's clock is {offset / 1e9:+.3f} s from the system's: segments have the kernel's timestamps"
            ipc.warn(what, "set the NIC's clock: phc2sys -s CLOCK_REALTIME -c DEVICE -O 0")

    async def finish(self) -> None:
        """Capture what has arrived until now, then end and record what the capture had to do."""
        self._finished = True
        self._capture.stop()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LAST
        while not self._capture.stopped and loop.time() < deadline:
            await asyncio.sleep(0.005)
        capture = self._capture
        if capture.stopped:
            capture.close()
        self._producer.event(
            EventKind.SEGMENTS,
            packets=capture.packets,
            segments=capture.segments,
            dropped=capture.ring.dropped.read(),
            unmapped=self._writer.lost,
            cpu_ns=capture.cpu_ns,
            nic_offset_ns=capture.nic_offset_ns,
        )


class Attempt:
    """The flows of an attempt to connect: one for each address that is tried."""

    def __init__(self, capture: Capture, writer: StreamMapWriter, conn: int, *, records: bool, tunnel: bool) -> None:
        self._capture = capture
        self._writer = writer
        self._conn = conn
        self._records = records
        self._tunnel = tunnel
        # by local port
        self._flows: dict[int, Flow] = {}
        self._reached: Flow | None = None
        self._offset: int | None = 0

    def prepare(self, sock: socket.socket, address: Address) -> None:
        """Capture a socket that is about to connect to `address`: its local port is chosen now, before the SYN."""
        with suppress(OSError):
            sock.bind(("", 0))
            port = sock.getsockname()[1]
            ip, remote_port = address.sockaddr[:2]
            flow = self._capture.watch(self._conn, port, (str(ip), int(remote_port)), records=self._records)
            if flow is None:
                return
            self._flows[port] = flow
            if self._records and self._tunnel:
                self._capture.records_from(flow, None)

    def reached(self, sock: socket.socket) -> None:
        """A socket is connected to the host, by way of the proxy if there is one: what follows is the host's."""
        self._reached = self._flows.get(sock.getsockname()[1])
        self._offset = position(sock) if self._tunnel else 0
        if self._tunnel and self._records and self._reached is not None:
            self._capture.records_from(self._reached, self._offset)

    def claim(self) -> FlowMap:
        """The flow of the socket that was reached last, which is used from now on."""
        flow = None if self._offset is None else self._reached
        if flow is not None:
            del self._flows[flow.port]
        return FlowMap(self._writer, self._conn, flow, self._offset or 0, self._capture)

    def close(self) -> None:
        """End the capture of the sockets that are not used."""
        for flow in self._flows.values():
            self._capture.end(flow)
        self._flows.clear()
