"""Subscription requests for tests that make plans by hand."""

from __future__ import annotations

from typing import Any

from wsrec.feed.schema import Feed
from wsrec.plan.requests import RequestedTopic, SubscriptionRequest, planned_topic


def requested(feed: Feed | dict[str, Any], channel: str, symbol: str = "") -> RequestedTopic:
    """The topic of a channel of a feed."""
    model = feed if isinstance(feed, Feed) else Feed.model_validate(feed)
    return planned_topic(model, channel, symbol).requested


def named(*names: str) -> tuple[RequestedTopic, ...]:
    """Topics of which only the names matter."""
    return tuple(RequestedTopic(topic=name, channel=name) for name in names)


def request(text: str, *topics: RequestedTopic, number: int = 1, undo: str | None = None) -> SubscriptionRequest:
    """One request."""
    return SubscriptionRequest(number=number, text=text, topics=topics, undo=undo)
