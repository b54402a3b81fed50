"""wsrec.segments.capture on loopback, beside libpcap."""

from __future__ import annotations

import errno
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.segments import libpcap
from tests.segments.tun import FAR, PORT, TunServer
from wsrec.host import timestamping
from wsrec.net.resolver import Address
from wsrec.receive.flow_map import Framing
from wsrec.receive.segments import Attempt
from wsrec.segments import filter as packet_filter
from wsrec.segments.capture import Capture, Flow, unavailable
from wsrec.segments.segment_ring import CaptureState, SegmentFlag, SegmentKind, SegmentRing
from wsrec.segments.stream_map import MapKind, StreamMap, StreamMapWriter

pytestmark = pytest.mark.skipif(
    (refusal := unavailable()) is not None, reason=f"no segments can be captured here: {refusal and refusal.reason}"
)


@pytest.fixture
def ring() -> Iterator[SegmentRing]:
    fd = SegmentRing.create("t")
    yield SegmentRing(fd)
    os.close(fd)


@pytest.fixture
def capture(ring) -> Iterator[Capture]:
    capture = Capture(ring)
    yield capture
    capture.close()


class Peer:
    """A TCP server that sends what it is told to, and a client of it under capture."""

    def __init__(
        self,
        capture: Capture,
        host: str = "127.0.0.1",
        *,
        records: bool = False,
        listening: socket.socket | None = None,
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listening = socket.create_server((host, 0), family=family) if listening is None else listening
        self.client = socket.socket(family)
        self.client.bind(("", 0))
        self.port = self.client.getsockname()[1]
        self.flow = capture.watch(5, self.port, self.listening.getsockname()[:2], records=records)
        assert self.flow is not None
        self.client.connect(self.listening.getsockname())
        self.server, _ = self.listening.accept()
        self.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.server.sendall(part)

    def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.client.recv(size - len(data))
        return data

    def close(self) -> None:
        for sock in (self.client, self.server, self.listening):
            sock.close()


def settled(ring: SegmentRing) -> np.ndarray:
    """The records of all that has arrived until now."""
    until = time.monotonic_ns()
    while ring.covered_until.read() < until:
        time.sleep(0.002)
    return ring.run(ring.released.read(), ring.published.read()).copy()


def stamps(rows: np.ndarray, flow: Flow) -> dict[int, int]:
    """Of each byte of a flow that is covered: its stamp."""
    mine = rows[(rows["flow"] == flow.number) & (rows["kind"] == SegmentKind.SEGMENT)]
    first = mine[mine["flags"] & SegmentFlag.REPEATED == 0]
    found: dict[int, int] = {}
    for row in first:
        for byte in range(int(row["offset"]), int(row["offset"] + row["length"])):
            assert byte not in found
            found[byte] = int(row["stamp"])
    return found


class TestLoopback:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_every_byte_has_the_stamp_that_libpcap_has(self, capture, ring, host, tmp_path):
        file = tmp_path / "lo.pcap"
        listening = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        with libpcap.recording(file, "lo", f"tcp port {listening.getsockname()[1]}"):
            peer = Peer(capture, host, listening=listening)
            sizes = [1, 10, 1448, 70_000, 300_000, 3]
            peer.send(*(bytes(size) for size in sizes))
            peer.receive(sum(sizes))
        rows = settled(ring)
        peer.close()
        reference = libpcap.Reference(libpcap.read(file), peer.port)
        assert peer.flow is not None
        found = stamps(rows, peer.flow)
        assert list(found) == list(range(sum(sizes)))
        assert reference.differences(found) == []
        assert rows["kind"][0] == SegmentKind.OPEN
        assert set(rows["conn"]) == {5}

    def test_only_flows_under_capture_come_through_the_filter(self, capture, ring):
        first, second = Peer(capture), Peer(capture)
        with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
            server, _ = listening.accept()
            server.sendall(b"x" * 100)
        server.close()
        first.send(b"abc")
        second.send(b"defgh")
        rows = settled(ring)
        data = rows[rows["kind"] == SegmentKind.SEGMENT]
        assert sorted(zip(data["flow"].tolist(), data["length"].tolist(), strict=True)) == [(1, 3), (2, 5)]
        # theirs: SYN-ACK, acknowledgement of nothing, data
        assert capture.packets == 4
        first.close()
        second.close()

    def test_an_ended_flow_is_captured_to_its_end_and_then_released(self, capture, ring):
        peer = Peer(capture)
        assert peer.flow is not None
        peer.send(b"last words")
        capture.end(peer.flow)
        assert len(stamps(settled(ring), peer.flow)) == 10
        capture.sweep()
        peer.send(b"unheard")
        assert len(stamps(settled(ring), peer.flow)) == 10
        peer.close()

    def test_a_later_capture_goes_on_in_the_ring_with_other_flows(self, ring):
        for number in (1, 2):
            capture = Capture(ring)
            assert ring.state.read() == CaptureState.RUNNING
            peer = Peer(capture)
            assert peer.flow is not None
            peer.send(b"abc")
            capture.close()
            assert ring.state.read() == CaptureState.ENDED
            assert peer.flow.number == number
            assert ring.former.read() == number - 1
            # all that had arrived is there
            assert len(stamps(ring.run(0, ring.published.read()), peer.flow)) == 3
            peer.close()

    def test_many_flows_at_a_time(self, capture, ring):
        peers = [Peer(capture) for _ in range(40)]
        for number, peer in enumerate(peers):
            peer.send(bytes(number + 1))
        rows = settled(ring)
        assert [len(stamps(rows, peer.flow)) for peer in peers if peer.flow] == list(range(1, 41))
        for peer in peers:
            peer.close()

    def test_more_ports_than_the_kernel_has_memory_for_a_filter_of(self, capture, ring, monkeypatch):
        """net.core.optmem_max, of 20 KiB before Linux 6.7."""
        from wsrec.segments import capture as module

        attach, refused = module._attach, []

        def limited(sock: socket.socket, code: bytes) -> None:
            if packet_filter.instructions(code) > 100:
                refused.append(code)
                raise OSError(errno.ENOMEM, "Cannot allocate memory")
            attach(sock, code)

        monkeypatch.setattr(module, "_attach", limited)
        peers = [Peer(capture) for _ in range(60)]
        assert refused
        for peer in peers:
            peer.send(b"abc")
        rows = settled(ring)
        assert [len(stamps(rows, peer.flow)) for peer in peers if peer.flow] == [3] * 60
        # each step with another filter that is refused
        ended, kept = peers[0].flow, peers[1].flow
        assert ended is not None
        assert kept is not None
        capture.end(ended)
        settled(ring)
        capture.sweep()
        peers[1].send(b"de")
        assert len(stamps(settled(ring), kept)) == 5
        for peer in peers:
            peer.close()


class TestRecords:
    def test_what_is_not_needed_any_more_is_neither_kept_nor_looked_at(self, capture, ring):
        """A connection that the kernel was to decrypt, and does not."""
        peer, other = Peer(capture, records=True), Peer(capture, records=True)
        assert peer.flow is not None
        record = bytes([23, 3, 3, 0, 5]) + b"hello"
        for one in (peer, other):
            one.send(record)
        assert (settled(ring)["kind"] == SegmentKind.TLS_RECORD).sum() == 2
        capture.without_records(peer.flow)
        assert {port: keep == packet_filter.WHOLE for port, keep in capture._keep.items()} == {
            peer.port: False,
            other.port: True,
        }
        for one in (peer, other):
            one.send(record)
        rows = settled(ring)
        assert rows["flow"][rows["kind"] == SegmentKind.TLS_RECORD].tolist().count(peer.flow.number) == 1
        assert (rows["kind"] == SegmentKind.TLS_RECORD).sum() == 3
        assert len(stamps(rows, peer.flow)) == 20
        capture.end(peer.flow)
        settled(ring)
        capture.sweep()
        assert list(capture._keep) == [other.port]
        peer.close()
        other.close()

    @pytest.mark.parametrize(
        ("kind", "of", "is_needed"),
        [
            (MapKind.KERNEL, Framing(22, 17), True),
            # the cipher has no constant overhead: nothing could be mapped
            (MapKind.KERNEL, None, False),
            (MapKind.TLS, Framing(22, 17), False),
        ],
    )
    def test_a_connection_that_the_kernel_does_not_decrypt_after_all_needs_none(self, capture, kind, of, is_needed):
        fds = StreamMap.create("t"), StreamMap.create("t")
        stream_map = StreamMap(fds[0])
        attempt = Attempt(capture, StreamMapWriter(stream_map), 5, records=True, tunnel=False)
        with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
            attempt.prepare(client, Address(socket.AF_INET, listening.getsockname()))
            client.connect(listening.getsockname())
            attempt.reached(client)
            flow = attempt.claim()
            assert list(capture._keep.values()) == [packet_filter.WHOLE]
            flow.begin(kind, StreamMap(fds[1]).published, 0, of)
            assert list(capture._keep.values()) == [packet_filter.WHOLE if is_needed else packet_filter.HEADERS]
            flow.close()
        for fd in fds:
            os.close(fd)


class TestOrder:
    """Over a device whose packets the kernel stamps before anybody sees them, as those of a NIC."""

    @pytest.fixture
    def server(self) -> Iterator[TunServer]:
        try:
            # the sequence numbers wrap in the middle
            server = TunServer("wsrectun0", 2**32 - 3000)
        except OSError as error:
            pytest.skip(f"no TUN device here: {error.strerror}")
        yield server
        server.close()

    @pytest.mark.parametrize("seed", range(3))
    def test_every_stamp_is_the_one_that_libpcap_and_the_socket_have(self, capture, ring, server, tmp_path, seed):
        choose = random.Random(seed)
        stream = choose.randbytes(7000)
        cuts = sorted({0, len(stream), *(choose.randrange(len(stream)) for _ in range(40))})
        parts = list(pairwise(cuts))
        sent = [*parts, *choose.sample(parts, 8), *((at, min(at + 900, 7000)) for at in (100, 3000, 6500))]
        choose.shuffle(sent)
        file = tmp_path / "tun.pcap"
        with libpcap.recording(file, server.name, "tcp"), socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, timestamping.SO_TIMESTAMPING, timestamping.FLAGS)
            client.bind(("", 0))
            port = client.getsockname()[1]
            flow = capture.watch(1, port, (FAR, PORT))
            client.connect((FAR, PORT))
            server.send(stream, sent)
            received, read = b"", set()
            while len(received) < len(stream):
                data, ancillary, _, _ = client.recvmsg(1, timestamping.ANCILLARY_SIZE)
                read.add(timestamping.Stamps().read(ancillary)[0])
                received += data
        assert received == stream
        rows = settled(ring)
        found = stamps(rows, flow)
        reference = libpcap.Reference(libpcap.read(file), port)
        assert len(found) == len(reference.arrivals) == len(stream)
        assert reference.differences(found, exactly=True) == []
        # TCP joins segments, and gives one of their stamps for all: each is one of those that were captured
        assert read <= set(rows["stamp"].tolist())
        assert len(read) > 5
        data = rows[rows["kind"] == SegmentKind.SEGMENT]
        assert int(np.bitwise_or.reduce(data["flags"])) == SegmentFlag.REPEATED | SegmentFlag.FILLED | SegmentFlag.AHEAD


class TestThread:
    def test_the_interpreters_lock_is_not_taken(self, capture, ring):
        """Records come while this thread holds the lock for longer than the writer waits."""
        peer = Peer(capture)
        peer.send(b"abc")
        peer.client.recv(3)
        # a call into C that keeps the lock
        import ctypes

        ctypes.PyDLL(None).usleep(200_000)
        assert ring.published.read() >= 2
        assert ring.covered_until.read() > 0
        peer.close()

    def test_it_runs_where_it_is_told_to(self, ring):
        processors = os.sched_getaffinity(0)
        capture = Capture(ring, {max(processors)})
        (thread,) = (thread for thread in threading.enumerate() if thread.name == "segments")
        assert os.sched_getaffinity(thread.native_id or 0) == {max(processors)}
        assert os.sched_getaffinity(0) == processors
        capture.close()


class TestSpeed:
    def test_what_a_segment_costs_is_measured(self, capture, ring, record_property):
        peer = Peer(capture)
        count = 20_000
        sender = threading.Thread(target=lambda: peer.send(*(b"x" * 200 for _ in range(count))))
        sender.start()
        peer.receive(200 * count)
        sender.join()
        assert peer.flow is not None
        rows = settled(ring)
        covered = int(rows["length"][rows["kind"] == SegmentKind.SEGMENT].sum())
        assert covered + ring.dropped.read() * 64_000 >= 200 * count
        record_property("ns a segment", capture.cpu_ns / max(capture.segments, 1))
        assert capture.cpu_ns > 0
        peer.close()


def test_a_refusal_is_in_the_ring_for_the_writer(ring, monkeypatch, tmp_path: Path):
    from wsrec.segments import capture as module

    monkeypatch.setattr(module, "COMPILED", False)
    with pytest.raises(module.CaptureRefused, match="not compiled"):
        Capture(ring)
    assert ring.state.read() == CaptureState.REFUSED
