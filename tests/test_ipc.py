"""wsrec.ipc: orders through a pipe, in pieces or several at once, and its end; lines without a reader."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.subscriptions import named, request
from wsrec.ipc import (
    FailedLine,
    Line,
    LogLine,
    Order,
    OrderReader,
    OutputQueue,
    Renew,
    RequestLine,
    Resubscribe,
    Settled,
    Stop,
    encode_order,
)

ORDERS: list[Order] = [
    Renew(3, "no message for 10 s"),
    Resubscribe(0, ("trades.BTC\n", "book\u2028"), "refused"),
    Resubscribe(0, ("a", "b"), "refused", (request("a 7", *named("a"), number=7),)),
    Resubscribe(0, ("b",), "refused", ()),
    Stop(),
    Stop(orphaned=True),
]


class Pipe:
    """A pipe whose reading end is an order reader's standard input."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.reader = OrderReader(self.reading)

    def write(self, data: bytes) -> None:
        os.write(self.writing, data)

    def close(self) -> None:
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()
    os.close(made.reading)


@pytest.mark.parametrize("order", ORDERS, ids=repr)
def test_one_comes_as_it_was_given(pipe: Pipe, order: Order) -> None:
    pipe.write(encode_order(order))
    assert pipe.reader.read() == [order]


def test_many_at_once_keep_their_order(pipe: Pipe) -> None:
    pipe.write(b"".join(map(encode_order, ORDERS)))
    assert pipe.reader.read() == ORDERS


def test_a_cut_line_waits_for_its_end(pipe: Pipe) -> None:
    line = encode_order(ORDERS[0])
    pipe.write(line[:5])
    assert pipe.reader.read() == []
    pipe.write(line[5:] + encode_order(ORDERS[1])[:-1])
    assert pipe.reader.read() == [ORDERS[0]]
    pipe.write(b"\n")
    assert pipe.reader.read() == [ORDERS[1]]


def test_the_end_of_the_pipe_is_an_order_to_stop(pipe: Pipe) -> None:
    pipe.close()
    assert pipe.reader.read() == [Stop(orphaned=True)]
    assert pipe.reader.read() == [Stop(orphaned=True)]


def test_a_supervisor_that_died_while_it_wrote(pipe: Pipe) -> None:
    pipe.write(encode_order(ORDERS[2]) + encode_order(ORDERS[0])[:-4])
    pipe.close()
    assert pipe.reader.read() == [ORDERS[2]]
    assert pipe.reader.read() == [Stop(orphaned=True)]


def test_what_is_no_order_is_refused(pipe: Pipe) -> None:
    pipe.write(b'{"order":"dance"}\n')
    with pytest.raises(msgspec.DecodeError):
        pipe.reader.read()


@given(st.lists(st.sampled_from(ORDERS), max_size=8), st.data())
def test_however_it_is_cut(orders: list[Order], data: st.DataObject) -> None:
    stream = b"".join(map(encode_order, orders))
    cuts = sorted(data.draw(st.lists(st.integers(1, max(len(stream) - 1, 1)), max_size=6)))
    pipe = Pipe()
    try:
        found: list[Order] = []
        for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            if stream[start:stop]:
                pipe.write(stream[start:stop])
                found += pipe.reader.read()
        assert found == orders
    finally:
        pipe.close()
        os.close(pipe.reading)


class Supervisor:
    """The reading end of a child's lines, which reads only on request."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.lines = OutputQueue(self.writing, limit=100_000)

    def read(self) -> list[Line]:
        """All that is there until the other end is closed."""
        with os.fdopen(self.reading, "rb") as pipe:
            return [msgspec.json.decode(line, type=Line) for line in pipe]


class TestLines:
    @pytest.fixture
    def supervisor(self) -> Supervisor:
        return Supervisor()

    def test_a_blocked_reader(self, supervisor: Supervisor) -> None:
        """Nothing waits; what fits comes in order, the rest is counted, and the last word waits for its reader."""
        lines = supervisor.lines
        for number in range(10_000):
            lines.emit(LogLine(level="info", message=str(number)))
            if number in (9000, 9001):
                lines.emit(RequestLine(order=Renew(3, "silent")))
        lines.emit(RequestLine(order=Renew(4, "silent")))
        found: list[Line] = []
        reading = threading.Thread(target=lambda: found.extend(supervisor.read()))
        ending = threading.Thread(target=lambda: (lines.emit(FailedLine(message="why")), os.close(supervisor.writing)))
        ending.start()
        ending.join(0.2)
        assert ending.is_alive()
        reading.start()
        reading.join(10)
        ending.join(10)
        shown = [line.message for line in found if isinstance(line, LogLine)]
        assert shown[:-1] == [str(number) for number in range(len(shown) - 1)]
        assert shown[-1].startswith(f"{10_000 - len(shown) + 1:,} lines were not shown")
        assert [line.order for line in found if isinstance(line, RequestLine)] == [
            Renew(3, "silent"),
            Renew(4, "silent"),
        ]
        assert found[-1] == FailedLine(message="why")

    def test_the_newest_request_of_a_kind_waits(self, supervisor: Supervisor) -> None:
        lines = supervisor.lines
        for number in range(2000):
            lines.emit(LogLine(level="info", message="x" * 100))
            lines.emit(RequestLine(order=Settled(number % 2, number)))
        for reason in "ab":
            for topics in (("t",), ("t", "u")):
                lines.emit(RequestLine(order=Resubscribe(0, topics, reason)))
        found: list[Line] = []
        reading = threading.Thread(target=lambda: found.extend(supervisor.read()))
        reading.start()
        lines.finish()
        os.close(supervisor.writing)
        reading.join(10)
        orders = [line.order for line in found if isinstance(line, RequestLine)]
        assert orders[-4:] == [
            Settled(0, 1998),
            Settled(1, 1999),
            Resubscribe(0, ("t",), "b"),
            Resubscribe(0, ("t", "u"), "b"),
        ]

    def test_it_goes_on_by_itself(self, supervisor: Supervisor) -> None:
        lines = supervisor.lines
        for number in range(10_000):
            lines.emit(LogLine(level="info", message=str(number)))
        taken = b""
        while b"not shown" not in taken:
            taken += os.read(supervisor.reading, 1 << 16)
            lines.flush()
        lines.emit(LogLine(level="info", message="after"))
        assert b"after" in os.read(supervisor.reading, 1 << 16)
        os.close(supervisor.reading)
        os.close(supervisor.writing)

    def test_the_supervisor_is_gone(self, supervisor: Supervisor) -> None:
        os.close(supervisor.reading)
        supervisor.lines.emit(LogLine(level="info", message="x"))
        supervisor.lines.emit(FailedLine(message="why"))
        os.close(supervisor.writing)

    def test_a_traceback_is_logged_too(self) -> None:
        """The terminal is not this process's: anyone who writes there waits for it."""
        code = "import sys; from wsrec import ipc; ipc.report_to_parent(); print('half', file=sys.stderr); 1 / 0"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=30)
        assert (result.returncode, result.stderr) == (1, b"")
        stated = [msgspec.json.decode(line, type=LogLine) for line in result.stdout.splitlines()]
        assert {line.level for line in stated} == {"warning"}
        assert [stated[0].message, stated[1].message, stated[-1].message] == [
            "half",
            "Traceback (most recent call last):",
            "ZeroDivisionError: division by zero",
        ]

    def test_a_process_that_is_no_child_leaves_standard_output_to_its_user(self) -> None:
        code = """
from wsrec import ipc
ipc.warn("an odd time", "see the feed", conn=3, feed="okx")
ipc.emit(ipc.FailedLine(message="no more"))
ipc.emit(ipc.RequestLine(order=ipc.Renew(3, "silent")))
ipc.flush()
"""
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=30)
        assert result.stdout == ""
        assert result.stderr == "warning [okx 3] an odd time -- see the feed\nerror no more\n"
