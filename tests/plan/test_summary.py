"""wsrec.plan.summary: what a plan comes to."""

from __future__ import annotations

import pytest

from wsrec.net.proxy import ProxyRules
from wsrec.plan.connections import ConnectionPlan, plan
from wsrec.plan.requests import RequestedTopic, SubscriptionRequest
from wsrec.plan.summary import messages, shown, totals
from wsrec.plan.target import resolve


def connection(count: int, interval: float, start: float = 0.0) -> ConnectionPlan:
    topics = (RequestedTopic(topic="t", channel="c"),)
    requests = tuple(SubscriptionRequest(number=n, text=f"{n}", topics=topics) for n in range(1, count + 1))
    return ConnectionPlan(
        conn=0,
        feed="f",
        url="wss://h/",
        public_url="wss://h/",
        requests=requests,
        send_interval=interval,
        start_after=start,
    )


@pytest.mark.parametrize(
    ("connections", "most"),
    [
        ([], 0),
        ([connection(5, 0.0)], 5),
        ([connection(5, 0.25)], 4),
        # one in each second on each of two, which meet
        ([connection(5, 1.0), connection(5, 1.0, start=2.5)], 2),
    ],
)
def test_the_busiest_second_is_of_all_connections_together(connections, most):
    assert totals(connections).messages_in_a_second == most
    assert totals(connections).messages == sum(len(messages(each)) for each in connections)


def test_what_is_shown_has_no_secrets(monkeypatch):
    monkeypatch.setenv("KEY", "S3CR3T")
    rules = ProxyRules.of_environment({}, given="http://u:S3CR3T@h:1")
    (found,) = plan([resolve("wss://h/${KEY}?k=S3CR3T")], proxies=rules)
    row = shown(found)
    assert "S3CR3T" not in str(row)
    assert row["proxy"] == "http://h:1"
