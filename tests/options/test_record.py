"""wsrec.options.record: what was given reaches the processes whole, and no secret with it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from wsrec.ipc import encode_job
from wsrec.options.option import declared
from wsrec.options.record import RecordOptions, TlsMode, WaitStrategy, WorkerOptions
from wsrec.options.value_types import Choice, Rotation
from wsrec.receive.job import ReceiverJob
from wsrec.writer.job import WriterJob

WORKERS = WorkerOptions(
    until_close=True,
    rotate=Rotation(90.0, 5),
    rt_priority=20,
    wait=WaitStrategy.ADAPTIVE,
    tls=TlsMode.KTLS,
    ca_file="/ca file.pem",
    max_message=1000,
    batch=0.25,
    batch_size=9,
    fsync=2.5,
    reserve=7,
)


class TestWorkerOptions:
    def test_cross_to_the_processes_whole(self):
        given = RecordOptions(**msgspec.structs.asdict(WORKERS), out=Path("x"), until=datetime(2030, 1, 1, tzinfo=UTC))
        place = {"slots": 0, "rings": (), "control_ring": 0, "status": 0, "connections": ()}
        receiver = ReceiverJob(**place, options=given.for_workers())
        writer = WriterJob(**place, options=given.for_workers(), session="s", out="x", feeds=())
        for job in (receiver, writer):
            assert msgspec.json.decode(encode_job(job)[8:], type=type(job)) == job
            assert job.options == WORKERS

    def test_hold_nothing_of_the_supervisors(self):
        given = RecordOptions(proxy="http://u:hunter2@h:1", out=Path("elsewhere"))
        data = msgspec.json.encode(given.for_workers())
        assert b"hunter2" not in data
        assert b"elsewhere" not in data


@pytest.mark.parametrize("each", declared(RecordOptions), ids=lambda each: each.field)
def test_a_default_is_read_back_from_what_is_shown_of_it(each):
    if each.option.default or not each.shown_default or each.field == "out" or isinstance(each.option.type, Choice):
        return
    assert each.option.type.parse(each.shown_default) == each.default
