"""wsrec.segments.filter: which packets pass, by an interpreter of what the kernel runs."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.segments.packets import IP, IPV6, QINQ, V4, V6, VLAN, Ends, packet, tagged
from wsrec.segments import filter as packet_filter
from wsrec.segments.filter import HEADERS, MOST_PORTS, WHOLE, instructions, program

HOST, OTHER_HOST, OUTGOING = 0, 3, 4


def run(code: bytes, data: bytes, protocol: int, kind: int = HOST) -> int:
    """The bytes to keep of a packet; 0: none. Reads outside of the packet drop it, as in the kernel."""
    words = {packet_filter._AD_PROTOCOL: protocol, packet_filter._AD_PKTTYPE: kind}
    lines = list(struct.iter_unpack("=HBBI", code))
    at = a = x = 0
    while True:
        number, true, false, k = lines[at]
        at += 1
        match number:
            case 0x20 if k in words:
                a = words[k]
            case 0x28 | 0x30 | 0x48:
                place, size = (k + x if number == 0x48 else k), (1 if number == 0x30 else 2)
                if place + size > len(data):
                    return 0
                a = int.from_bytes(data[place : place + size])
            case 0xB1:
                x = 4 * (data[k] & 15)
            case 0x05:
                at += k
            case 0x15 | 0x35 | 0x45:
                at += true if {0x15: a == k, 0x35: a >= k, 0x45: bool(a & k)}[number] else false
            case 0x06:
                return k
            case _:
                raise AssertionError(f"instruction {number:#x}")


@pytest.mark.parametrize("ends", [V4, V6], ids=["ipv4", "ipv6"])
class TestPackets:
    @given(ports=st.dictionaries(st.integers(1, 65535), st.sampled_from([HEADERS, WHOLE]), max_size=60), data=st.data())
    @settings(max_examples=examples(100))
    def test_a_port_among_any_number_of_them(self, ends, ports, data):
        code = program(ports)
        near = st.integers(1, 65535)
        if ports:
            near |= st.sampled_from(sorted(ports)).flatmap(lambda port: st.integers(max(port - 1, 1), port + 1))
        for port in data.draw(st.lists(near, max_size=20)):
            assert run(code, *packet(ends._replace(port=port & 0xFFFF), 1, b"x")) == ports.get(port & 0xFFFF, 0)

    @pytest.mark.parametrize("tags", [(), (VLAN,), (QINQ,)])
    def test_inside_a_tag(self, ends: Ends, tags):
        data, protocol = tagged(*packet(ends, 1, b"x"), *tags)
        assert run(program({ends.port: 99}), data, protocol) == 99
        assert run(program({ends.port + 1: 99}), data, protocol) == 0

    def test_a_packet_too_large_for_its_length_field(self, ends: Ends):
        assert run(program({ends.port: 99}), *packet(ends, 1, b"x", jumbo=True)) == 99

    @pytest.mark.parametrize("kind", [OTHER_HOST, OUTGOING])
    def test_only_what_was_sent_to_this_host(self, ends: Ends, kind):
        assert run(program({ends.port: 99}), *packet(ends, 1, b"x"), kind) == 0

    def test_only_whole_tcp(self, ends: Ends):
        data, protocol = packet(ends, 1, b"x")
        code = program({ends.port: 99})
        assert run(code, data, 0x0806) == 0
        assert run(code, data, IPV6 if protocol == IP else IP) == 0
        changed = bytearray(data)
        changed[9 if protocol == IP else 6] = socket.IPPROTO_UDP
        assert run(code, bytes(changed), protocol) == 0
        for size in range(len(data) - 20):
            assert run(code, data[:size], protocol) == 0


@pytest.mark.parametrize("at", [6, 7])
def test_no_fragment(at):
    data, protocol = packet(V4, 1, b"x")
    changed = bytearray(data)
    changed[at] |= 0x20 if at == 6 else 1
    assert run(program({V4.port: 99}), bytes(changed), protocol) == 0


def test_as_many_ports_as_the_kernel_takes_and_above_that_all():
    code = program(dict.fromkeys(range(20_000, 20_000 + MOST_PORTS), HEADERS))
    assert instructions(code) <= 4096
    assert run(code, *packet(V4._replace(port=20_000 + MOST_PORTS), 1, b"")) == 0
    code = program(dict.fromkeys(range(20_000, 20_001 + MOST_PORTS), HEADERS))
    assert run(code, *packet(V4._replace(port=5), 1, b"")) == HEADERS


@pytest.mark.parametrize("count", [0, 1, 9, MOST_PORTS, MOST_PORTS + 1])
def test_the_kernel_accepts_it(count):
    from wsrec.segments.capture import _attach

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        _attach(sock, program(dict.fromkeys(range(1, count + 1), HEADERS)))
