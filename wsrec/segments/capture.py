"""The capture beside the sockets: a packet socket, its ring and a thread that never takes the interpreter's lock.

The kernel gives each packet that passes the filter to the socket as it gives it to TCP, with the same timestamp. A flow
is put under capture before its SYN is sent, so that the sequence number of its first byte is seen. Source: packet(7);
Linux, Documentation/networking/packet_mmap.rst and timestamping.rst.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from wsrec.segments import filter as packet_filter
from wsrec.segments.segment_ring import CaptureState, SegmentRing

try:
    from wsrec.segments._capture import RETIRE_MS, FlowTable  # type: ignore[import-not-found]
except ImportError:
    COMPILED = False
else:
    COMPILED = True

# linux/if_packet.h, linux/socket.h and asm-generic/socket.h; Python's socket module does not name them
_SOL_PACKET = 263
_PACKET_RX_RING, _PACKET_VERSION, _PACKET_TIMESTAMP, _PACKET_IGNORE_OUTGOING = 5, 10, 17, 23
_TPACKET_V3 = 2
_SO_ATTACH_FILTER, _SO_TIMESTAMPNS = 26, 35
_SOF_TIMESTAMPING_RAW_HARDWARE = 1 << 6
_ETH_P_ALL = 3

# the largest packet that GRO makes, 64 KiB and more with BIG TCP, has to fit a block; together they hold the headers of
# some 25,000 packets, and the thread is woken at the latest every `RETIRE_MS`
BLOCK_SIZE = 1 << 18
BLOCKS = 32
# TCP ports that one receiver may have open at a time
MOST_FLOWS = 4096


class Unavailable(NamedTuple):
    """Why segments cannot be captured here.

    Attributes:
        reason: what is missing.
        hint: what to do about it.

    """

    reason: str
    hint: str


def unavailable() -> Unavailable | None:
    """Why this process cannot capture segments; None if it can. Nothing is captured."""
    try:
        with _packet_socket():
            return None
    except CaptureRefused as error:
        return error.refusal


class CaptureRefused(Exception):  # noqa: N818 (not an error: recording goes on without)
    """Segments cannot be captured."""

    def __init__(self, refusal: Unavailable) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class Flow(NamedTuple):
    """A TCP connection under capture.

    Attributes:
        number: its number in the segment ring.
        place: its place in the flow table.
        port: its local port.
        records: whether its TLS records are looked for.

    """

    number: int
    place: int
    port: int
    records: bool


class Capture:
    """The capture of one receiver.

    Args:
        ring: the segment ring; continues where the capture before it stopped.
        processors: where its thread may run; None for where the process may.

    Raises:
        CaptureRefused: it is not possible here.

    """

    def __init__(self, ring: SegmentRing, processors: set[int] | None = None) -> None:
        self.ring = ring
        self._processors = processors
        try:
            self._socket = _packet_socket()
        except CaptureRefused:
            ring.state.publish(CaptureState.REFUSED)
            raise
        self._table = FlowTable(ring, MOST_FLOWS, _largest_window())
        self._free = list(range(MOST_FLOWS - 1, -1, -1))
        # by local port
        self._flows: dict[int, Flow] = {}
        # those that ended, and when; and those that get no more packets, and since when
        self._ending: deque[tuple[Flow, int]] = deque()
        self._ended: deque[tuple[Flow, int]] = deque()
        self._keep: dict[int, int] = {}
        self._started = threading.Event()
        self._failure: OSError | None = None
        self._memory: mmap.mmap | None = None
        ring.former.publish(ring.flows.read())
        self._thread = threading.Thread(target=self._run, name="segments", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            ring.state.publish(CaptureState.REFUSED)
            self._socket.close()
            raise CaptureRefused(_refusal("the ring of a packet socket", self._failure))
        ring.state.publish(CaptureState.RUNNING)

    @property
    def packets(self) -> int:
        """Packets that passed the filter."""
        return int(self._table.packets)

    @property
    def segments(self) -> int:
        """Segments with payload."""
        return int(self._table.segments)

    @property
    def cpu_ns(self) -> int:
        """Processor time of its thread, ns."""
        return int(self._table.cpu_ns)

    @property
    def nic_offset_ns(self) -> int | None:
        """How far a NIC's clock is from the system's if its stamps are not used for that reason."""
        offset: int | None = self._table.nic_offset_ns
        return offset

    def watch(self, conn: int, port: int, remote: tuple[str, int], *, records: bool = False) -> Flow | None:
        """Capture a TCP connection that is about to be made.

        Args:
            conn: number of the connection in the recording.
            port: the local port, which the socket is bound to.
            remote: address (of IPv4 or IPv6) and port of the peer.
            records: whether its TLS records are wanted, from the first byte on.

        Returns:
            The flow; None if there are too many.

        """
        self.sweep()
        if not self._free:
            return None
        address, _, _ = remote[0].partition("%")
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        if packed.startswith(_MAPPED):
            packed = packed[len(_MAPPED) :]
        number = self.ring.flows.read() + 1
        self.ring.flows.publish(number)
        flow = Flow(number, self._free.pop(), port, records)
        self._table.put(flow.place, number, conn, port, packed, remote[1], records=records)
        self._flows[port] = flow
        self._set_filter()
        return flow

    def records_from(self, flow: Flow, offset: int | None) -> None:
        """Look for TLS records of a flow from this stream offset on; None: not yet."""
        self._table.records_from(flow.place, _NO_RECORDS if offset is None else offset)

    def without_records(self, flow: Flow) -> None:
        """Look for TLS records of a flow no more: of its packets only the headers are kept."""
        self.records_from(flow, None)
        current = self._flows.get(flow.port)
        if current is not None and current.number == flow.number and current.records:
            self._flows[flow.port] = current._replace(records=False)
            self._set_filter()

    def end(self, flow: Flow) -> None:
        """End the capture of a flow: as soon as all is taken that has arrived until now."""
        self._ending.append((flow, time.monotonic_ns()))

    def sweep(self) -> None:
        """Release the flows that have ended; to be called now and then."""
        covered, changed = self.ring.covered_until.read(), False
        while self._ended and self._ended[0][1] < covered:
            self._free.append(self._ended.popleft()[0].place)
        while self._ending and self._ending[0][1] < covered:
            flow, _ = self._ending.popleft()
            self._table.remove(flow.place)
            self._ended.append((flow, time.monotonic_ns()))
            current = self._flows.get(flow.port)
            if current is not None and current.number == flow.number:
                del self._flows[flow.port]
                changed = True
        if changed:
            self._set_filter()

    def stop(self) -> None:
        """Take what has arrived, which is done after some 50 ms, and end; `close` waits for it."""
        self._table.stop()

    @property
    def stopped(self) -> bool:
        """True once all that had arrived when it was stopped is in the ring."""
        return not self._thread.is_alive()

    @property
    def failed(self) -> bool:
        """Whether its thread ended in error, so that what had arrived was not all looked at."""
        return self._failure is not None

    def close(self) -> None:
        """Stop, wait for the thread, and release the packet socket."""
        self.stop()
        self._thread.join()
        self._memory = None
        self._socket.close()
        if self._failure is None:
            self.ring.state.publish(CaptureState.ENDED)

    def _set_filter(self) -> None:
        keep = {
            port: packet_filter.WHOLE if flow.records else packet_filter.HEADERS for port, flow in self._flows.items()
        }
        if keep == self._keep:
            return
        try:
            _attach(self._socket, packet_filter.program(keep))
        except OSError:
            # memory for filters is limited (net.core.optmem_max): before Linux 6.7 to some 270 ports. If not even the
            # one that passes all TCP is taken, the last one stays: what is new is not captured, and goes on without
            with suppress(OSError):
                _attach(self._socket, packet_filter.program(keep, most=0))
        self._keep = keep

    def _run(self) -> None:
        """The thread: it makes the ring itself, because the kernel's timer stays on the processor that does."""
        try:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            if self._processors:
                os.sched_setaffinity(threading.get_native_id(), self._processors)
        except OSError:
            # it runs where it may
            pass
        try:
            # struct tpacket_req3: blocks, frames (their size does not matter), the timeout, private bytes, features
            request = struct.pack("=7I", BLOCK_SIZE, BLOCKS, 2048, BLOCK_SIZE // 2048 * BLOCKS, RETIRE_MS, 0, 0)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
            self._memory = mmap.mmap(self._socket.fileno(), BLOCK_SIZE * BLOCKS)
            # only now: nothing arrives before the filter and the ring are there
            _bind(self._socket)
        except OSError as error:
            self._failure = error
            return
        finally:
            self._started.set()
        try:
            self._table.run(self._socket.fileno(), memoryview(self._memory), BLOCK_SIZE)
        except OSError as error:
            self._failure = error


_MAPPED = bytes(10) + b"\xff\xff"
_NO_RECORDS = (1 << 64) - 1
# where the system does not say
_WINDOW = 16 << 20


def _largest_window() -> int:
    """How many bytes a socket here can be ready to take (tcp(7), socket(7))."""
    sizes = []
    for name, factor in (("ipv4/tcp_rmem", 1), ("core/rmem_max", 2)):
        try:
            sizes.append(int(Path("/proc/sys/net", name).read_text().split()[-1]) * factor)
        except (OSError, ValueError, IndexError):
            # not in every network namespace
            continue
    return max(sizes, default=_WINDOW)


def _packet_socket() -> socket.socket:
    """A packet socket of TPACKET_V3 with a filter that passes nothing, bound to nothing yet.

    Raises:
        CaptureRefused: it is not possible here.

    """
    if not COMPILED:
        raise CaptureRefused(
            Unavailable("wsrec is not compiled here, and the capture has no other form", "install a C compiler")
        )
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    except OSError as error:
        raise CaptureRefused(_refusal("a packet socket", error)) from None
    try:
        _attach(sock, packet_filter.program({}))
        sock.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
        sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        sock.setsockopt(_SOL_PACKET, _PACKET_TIMESTAMP, _SOF_TIMESTAMPING_RAW_HARDWARE)
        # else the stamp is of the moment at which the packet comes to this socket
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError as error:
        sock.close()
        raise CaptureRefused(_refusal("a packet socket of TPACKET_V3", error)) from None
    return sock


def _bind(sock: socket.socket) -> None:
    """Take the packets of all interfaces, which Python's own bind cannot express.

    Raises:
        OSError: it was refused.

    """
    # struct sockaddr_ll: family, protocol in network order, interface 0
    address = struct.pack("=HHi12x", socket.AF_PACKET, socket.htons(_ETH_P_ALL), 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.bind(sock.fileno(), address, len(address)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _attach(sock: socket.socket, code: bytes) -> None:
    """Replace the socket's filter."""
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", packet_filter.instructions(code), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _refusal(what: str, error: OSError) -> Unavailable:
    hint = "a kernel with CONFIG_PACKET and a sandbox that permits AF_PACKET are needed, from Linux 4.20 on"
    if error.errno in (errno.EPERM, errno.EACCES):
        hint = "give CAP_NET_RAW: AmbientCapabilities=CAP_NET_RAW in a systemd unit, --cap-add NET_RAW in a container"
    elif error.errno == errno.ENOMEM:
        hint = f"it takes {BLOCK_SIZE * BLOCKS >> 20} MiB of the kernel's memory for each receiver"
    return Unavailable(f"{what}: {error.strerror}", hint)
