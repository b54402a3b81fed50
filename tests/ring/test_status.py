"""wsrec.ring.status: counters that other processes read."""

from __future__ import annotations

import os

from wsrec.ring.status import CONNECTION_RECEIVED, RECEIVER_FIELDS, WRITER_FIELDS, StatusPage
from wsrec.stages import STEPS


class TestStatusPage:
    def test_a_new_page_is_zero(self, owned):
        page = StatusPage(owned(StatusPage.create("t", 3)))
        assert not page.receiver.tobytes().strip(b"\0")
        assert not page.writer.tobytes().strip(b"\0")
        assert not page.steps.any()
        assert len(page.steps) == len(STEPS) + 1

    def test_no_field_is_another(self, owned):
        page = StatusPage(owned(StatusPage.create("t", 3)))
        for value, name in enumerate(RECEIVER_FIELDS, 1):
            page.receiver[name] = value << 60
        for value, name in enumerate(WRITER_FIELDS, 1):
            page.writer[name] = value << 50
        page.steps[:] = -1
        assert [int(page.receiver[name]) >> 60 for name in RECEIVER_FIELDS] == list(range(1, len(RECEIVER_FIELDS) + 1))
        assert [int(page.writer[name]) >> 50 for name in WRITER_FIELDS] == list(range(1, len(WRITER_FIELDS) + 1))

    def test_two_processes_share_it(self, owned, other_process):
        fd = owned(StatusPage.create("t", 3))
        page = StatusPage(fd)
        page.receiver["frames"] = 2**64 - 1
        code = (
            "import sys; from wsrec.ring.status import StatusPage; page = StatusPage(int(sys.argv[1]))\n"
            "print(page.receiver['frames']); page.writer['messages'] = 7; page.steps[-1, 3] = 5"
        )
        assert other_process(code, fd) == f"{2**64 - 1}\n"
        assert page.writer["messages"] == 7
        assert page.steps[-1, 3] == 5

    def test_rows_of_connections(self, owned, other_process):
        fd = owned(StatusPage.create("t", 3))
        page = StatusPage(fd)
        page.receiver["frames"] = page.writer["messages"] = 7
        page.steps[:] = 7
        assert not page.connections.tobytes().strip(b"\0")
        for row in range(3):
            page.put_received(row, *(100 * row + at for at in range(len(CONNECTION_RECEIVED))))
        page.connections["writer"][1] = (1, 2, 3)
        page.connections["latency"][2, -1] = 9
        code = (
            "import sys; from wsrec.ring.status import StatusPage; page = StatusPage(int(sys.argv[1]))\n"
            "print(page.connections['receiver'].tolist()[2], page.connections['writer'].tolist())\n"
            "print(page.connections['latency'].sum(axis=1), page.receiver['frames'], page.writer['messages'])"
        )
        received = tuple(200 + at for at in range(len(CONNECTION_RECEIVED)))
        assert other_process(code, fd) == f"{received} [(0, 0, 0), (1, 2, 3), (0, 0, 0)]\n[0 0 9] 7 7\n"
        assert (page.steps == 7).all()

    def test_a_thousand_connections_take_little(self, owned):
        fd = owned(StatusPage.create("t", 1000))
        assert os.fstat(fd).st_size < 6 << 20
