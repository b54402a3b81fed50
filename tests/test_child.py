"""wsrec.child: orders as they come through a pipe, in pieces or many at once, and its end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.child import Order, OrderReader, Renew, Resubscribe, Stop, encode_order
from wsrec.feed.plan import Subscription

ORDERS: list[Order] = [
    Renew(3, "no message for 10 s"),
    Resubscribe(0, ("trades.BTC\n", "book\u2028"), "refused"),
    Resubscribe(0, ("a", "b"), "refused", (Subscription(text="a {id}", topics=("a",)),)),
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
