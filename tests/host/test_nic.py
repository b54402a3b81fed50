"""wsrec.host.nic: what this machine's interfaces say of their stamps."""

from __future__ import annotations

import socket

import pytest

from wsrec.host.nic import stamping


class TestStamping:
    def test_loopback_stamps_in_software(self):
        found = stamping("lo")
        assert found is not None
        assert (found.software, found.hardware, found.clock, found.enabled) == (True, False, None, False)

    @pytest.mark.parametrize("name", [name for _, name in socket.if_nameindex()])
    def test_every_interface_can_be_asked(self, name):
        found = stamping(name)
        assert found is None or found.hardware or not found.enabled

    @pytest.mark.parametrize("name", ["nosuch0", "", "a" * 40])
    def test_one_that_is_not_there(self, name):
        assert stamping(name) is None
