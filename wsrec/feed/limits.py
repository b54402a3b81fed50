"""The feed YAML's `limits`: what an exchange allows from one address and on one connection."""

from __future__ import annotations

from pydantic import Field

from wsrec.feed.values import Model


class Limits(Model):
    """The exchange's limits."""

    streams_per_connection: int | None = Field(
        default=None, description="Most topics on one connection; by default no limit is known.", ge=1, le=1_000_000
    )
    streams_per_channel: int | None = Field(
        default=None, description="Most topics of one channel on one connection.", ge=1, le=1_000_000
    )
    streams: int | None = Field(
        default=None, description="Most topics on all connections from one address together.", ge=1, le=10_000_000
    )
    connections: int | None = Field(
        default=None,
        description="Most connections from one address at a time; one is kept for replacements.",
        ge=1,
        le=1_000_000,
    )
    messages_per_second: float = Field(
        default=4.0, description="Most messages that we may send on a connection.", gt=0, le=1e6
    )
    messages_per_second_in_all: float | None = Field(
        default=None,
        description="Most messages a second from one address, on all connections together: they start one after "
        "another, and each sends less often.",
        gt=0,
        le=1e6,
    )
    send_interval: float | None = Field(
        default=None,
        description="Least time (s) between two messages that we send; by default from `messages_per_second`.",
        gt=0,
        le=3600,
    )
    messages_per_connection: int | None = Field(
        default=None,
        description="Most subscription messages on a connection within its first hour; more connections are opened "
        "rather than more sent.",
        ge=1,
        le=1_000_000,
    )
    bytes_per_connection: int | None = Field(
        default=None, description="Most bytes of all subscription messages on a connection.", ge=100, le=100_000_000
    )
    connects: int = Field(description="Most connection attempts within `connects_interval`.", ge=1, le=1_000_000)
    connects_interval: float = Field(description="Seconds in which `connects` are counted.", gt=0, le=86400)
    lifetime: float | None = Field(
        default=None,
        description="Seconds after which the exchange cuts every connection; it is replaced before that.",
        ge=1,
        le=366 * 86400,
    )

    def spacing(self, connections: int) -> float:
        """Least time (s) between two messages that we send on one of so many connections."""
        alone = self.send_interval or 1 / self.messages_per_second
        together = self.messages_per_second_in_all
        return alone if together is None else max(alone, connections / together)
