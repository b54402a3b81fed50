"""Summary of a plan for `wsrec feeds plan`: totals, and connections without secrets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from wsrec.plan.connections import ConnectionPlan


class PlanTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Totals over all connections of a plan.

    Attributes:
        connections, subscriptions: their numbers.
        messages: number of messages that subscribe, and that are sent before.
        messages_in_a_second: the largest number of them sent within one second.
        subscribed_after: when the last one is sent (s after the start).

    """

    connections: int
    subscriptions: int
    messages: int
    messages_in_a_second: int
    subscribed_after: float


def totals(connections: Sequence[ConnectionPlan]) -> PlanTotals:
    """The totals of a plan."""
    return PlanTotals(
        connections=len(connections),
        subscriptions=sum(len(connection.topics) for connection in connections),
        messages=sum(len(messages(connection)) for connection in connections),
        messages_in_a_second=_busiest_second(connections),
        subscribed_after=round(max((connection.subscribed_after for connection in connections), default=0.0), 3),
    )


def messages(connection: ConnectionPlan) -> tuple[str, ...]:
    """The texts that are sent once a connection is open, in their order."""
    return (*connection.first, *(request.text for request in connection.requests))


def shown(connection: ConnectionPlan) -> dict[str, Any]:
    """A connection without possible secrets: the URL as sent, the headers' values, the proxy's password."""
    row = msgspec.to_builtins(connection)
    del row["proxies"]
    proxy, token = connection.proxy, row["token"]
    return {
        **row,
        "url": row["public_url"],
        "headers": sorted(row["headers"]),
        "proxy": proxy and proxy.public,
        "token": token and {**token, "url": token["public_url"]},
    }


def _busiest_second(connections: Sequence[ConnectionPlan]) -> int:
    times = sorted(
        connection.start_after + connection.wait + nth * connection.send_interval
        for connection in connections
        for nth in range(len(messages(connection)))
    )
    first = most = 0
    for last, time in enumerate(times):
        while time - times[first] >= 1:
            first += 1
        most = max(most, last - first + 1)
    return most
