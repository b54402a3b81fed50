"""What each connection asks for, by number."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rings import plan
from tests.subscriptions import named, request
from wsrec.plan.request_table import RequestTable, described_requests

A, B, C = named("a", "b", "c")


def table(**more) -> RequestTable:
    requests = (request("same", A, B), request("same", C, number=2), request("given", number=3))
    return RequestTable.of([plan(0, requests=requests, **more)])


def test_requests_with_the_same_text_are_distinguished_by_number():
    assert [table().requested(0, number) for number in (1, 2, 3, 4)] == [(A, B), (C,), (), ()]


def test_topics_are_those_of_messages_and_of_the_address():
    both = table(requested_by_url=named("u"))
    assert [one.topic for one in both.topics(0)] == ["u", "a", "b", "c"]
    assert (both.by_message(0), both.by_url(0)) == (("a", "b", "c"), {"u"})
    assert (both.topic(0, "a"), both.topic(0, "x"), both.topic(7, "a")) == (A, None, None)


def test_a_later_request_is_known_once_it_is_announced():
    known = table()
    known.announced(0, 4, ["b", "no topic of the plan"])
    assert known.requested(0, 4) == (B,)
    assert known.last_number == 4


def test_requests_that_others_took_the_place_of_are_forgotten_and_their_topics_are_not():
    known = table()
    for number in range(4, 1000, 3):
        known.announced(0, number, ["a"])
        known.announced(0, number + 1, ["b"])
        known.announced(0, number + 2, ["a", "b"])
    assert [one.number for one in known.describe(0).requests] == [2, 3, 999]
    assert [one.topic for one in known.topics(0)] == ["a", "b", "c"]


def test_what_stands_in_metadata_says_the_same():
    known = table(requested_by_url=named("u"))
    known.announced(0, 4, ["b"])
    read = RequestTable()
    text = msgspec.json.encode({"conn": 0, "url": "wss://h", **msgspec.structs.asdict(known.describe(0))})
    assert b"same" not in text
    read.learn(0, described_requests(msgspec.json.decode(text)))
    assert read.describe(0) == known.describe(0)
    assert read.by_url(0) == known.by_url(0)


@given(
    st.dictionaries(
        st.sampled_from(["requests", "requested_by_url"]),
        st.recursive(
            st.none() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner) | st.dictionaries(st.sampled_from(["number", "topics", "topic", "channel"]), inner)
            ),
        ),
    )
)
def test_metadata_that_say_something_else_are_refused_in_one_way(described):
    try:
        RequestTable().learn(0, described_requests(described))
    except msgspec.ValidationError:
        return


def test_metadata_without_requests_name_none():
    assert described_requests({"conn": 0}).requests == ()
    with pytest.raises(msgspec.ValidationError, match="number"):
        described_requests({"requests": [{"topics": []}]})
