"""wsrec.host.timestamping: which stamp a read has, and whose clock it is."""

from __future__ import annotations

import socket
from struct import Struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.host.timestamping import SCM_TIMESTAMPING, Stamps
from wsrec.stages import StampSource

SECOND = 1_000_000_000
NOW = 1_793_000_000 * SECOND + 123_456_789
SCM = Struct("@llllll")  # struct scm_timestamping, linux/errqueue.h


def ancillary(kernel: int = 0, nic: int = 0) -> list[tuple[int, int, bytes]]:
    data = SCM.pack(*divmod(kernel, SECOND), 0, 0, *divmod(nic, SECOND))
    return [(socket.SOL_SOCKET, SCM_TIMESTAMPING, data)]


class TestStamps:
    def test_software_only(self):
        stamps = Stamps()
        assert stamps.read(ancillary(NOW)) == (NOW, StampSource.KERNEL)
        assert stamps.nic_offset_ns is None

    @pytest.mark.parametrize("offset", [-SECOND, -1, 0, 1, 500_000, SECOND])
    def test_hardware_within_a_second_is_preferred(self, offset):
        stamps = Stamps()
        assert stamps.read(ancillary(NOW, NOW + offset)) == (NOW + offset, StampSource.NIC)
        assert stamps.nic_offset_ns is None

    @pytest.mark.parametrize("offset", [-NOW + 1, -37 * SECOND, -SECOND - 1, SECOND + 1, 37 * SECOND])
    def test_hardware_on_another_clock_is_turned_down_and_the_offset_kept(self, offset):
        stamps = Stamps()
        assert stamps.read(ancillary(NOW, NOW + offset)) == (NOW, StampSource.KERNEL)
        assert stamps.nic_offset_ns == offset

    def test_hardware_alone(self):
        assert Stamps().read(ancillary(0, NOW)) == (NOW, StampSource.NIC)

    def test_the_deprecated_middle_one_is_never_taken(self):
        data = SCM.pack(0, 0, *divmod(NOW, SECOND), 0, 0)
        assert Stamps().read([(socket.SOL_SOCKET, SCM_TIMESTAMPING, data)]) == (0, StampSource.NONE_ABSENT)

    @pytest.mark.parametrize("empty", [[], ancillary()])
    def test_without_a_stamp_it_is_absent(self, empty):
        assert Stamps().read(empty) == (0, StampSource.NONE_ABSENT)

    @pytest.mark.parametrize("size", [0, 1, 16, SCM.size - 1])
    def test_data_cut_short_is_no_stamp(self, size):
        ((level, kind, data),) = ancillary(NOW, NOW)
        assert Stamps().read([(level, kind, data[:size])]) == (0, StampSource.NONE_ABSENT)

    def test_other_messages_are_passed_over(self):
        others = [
            (socket.SOL_SOCKET, SCM_TIMESTAMPING + 1, bytes(48)),
            (socket.IPPROTO_TCP, SCM_TIMESTAMPING, b"x" * 48),
        ]
        assert Stamps().read(others) == (0, StampSource.NONE_ABSENT)
        assert Stamps().read([*others, *ancillary(NOW)]) == (NOW, StampSource.KERNEL)

    @given(st.binary(max_size=100))
    def test_any_bytes_are_a_stamp_or_none(self, data):
        stamp, source = Stamps().read([(socket.SOL_SOCKET, SCM_TIMESTAMPING, data)])
        assert (stamp == 0) is (source is StampSource.NONE_ABSENT)
