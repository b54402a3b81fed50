"""wsrec.receive.tcp_info: the kernel's statistics of a connection."""

from __future__ import annotations

import socket
import struct

import pytest

from tests.receive.conftest import tcp_pair
from wsrec.receive import tcp_info


class TestSample:
    def test_of_a_real_connection(self):
        server, client = tcp_pair()
        with server, client:
            server.sendall(b"x" * 1000)
            client.sendall(b"y")
            assert server.recv(1) == b"y"
            found = tcp_info.sample(client)
            assert found is not None
            assert found.rcv_queue == 1000
            assert 0 < found.rtt_us < 10_000_000
            assert (found.retransmits, found.lost, found.rcv_ooopack) == (0, 0, 0)
            assert found.reordering >= 1

    def test_what_is_no_tcp_has_none(self):
        one, other = socket.socketpair()
        with one, other:
            assert tcp_info.sample(one) is None


class TestParse:
    def test_the_layout_of_the_kernel_s_header(self):
        # offsets of linux/tcp.h
        info = bytearray(232)
        offsets = {"lost": 32, "rtt_us": 68, "rttvar_us": 72, "reordering": 88, "rcv_rtt_us": 92, "retransmits": 100}
        offsets["rcv_ooopack"] = 224
        for value, offset in enumerate(offsets.values(), 1):
            struct.pack_into("=I", info, offset, value)
        found = tcp_info.parse(bytes(info), 7)
        assert found is not None
        assert {name: getattr(found, name) for name in offsets} == dict(zip(offsets, range(1, 8), strict=True))
        assert found.rcv_queue == 7

    @pytest.mark.parametrize(("size", "known"), [(232, True), (224, False), (104, False)])
    def test_an_older_kernel_reports_less(self, size, known):
        found = tcp_info.parse(bytes(size), 0)
        assert found is not None
        assert (found.rcv_ooopack is not None) is known

    def test_too_little_is_nothing(self):
        assert tcp_info.parse(bytes(103), 0) is None
