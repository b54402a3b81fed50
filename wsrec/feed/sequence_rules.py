"""Rules of a feed's sequence numbers and checksums, with their evidence."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from wsrec.feed.errors import ConflictError
from wsrec.feed.fields import Condition, Match, NumberPlaces
from wsrec.feed.paths import Every, steps
from wsrec.feed.values import KeyPath, Model, Where


class SequenceRule(StrEnum):
    """Rule between the numbers of consecutive messages within one scope (`SequenceScope`)."""

    NONE = "none"
    """Not checked."""
    PREVIOUS = "previous"
    """`seq_previous` equals the previous message's `exchange_seq`."""
    TOUCHING = "touching"
    """`seq_first` equals the previous message's `exchange_seq` plus one: ranges that touch."""
    NEXT = "next"
    """`exchange_seq` equals the previous one plus one."""
    INCREASING = "increasing"
    """`exchange_seq` is above the previous one: shows disorder, not loss."""
    CHECKSUM = "checksum"
    """No numbers: the `checksum` in a message equals that of the reconstructed order book."""


class SequenceScope(StrEnum):
    """Scope of one sequence of numbers on a connection."""

    SYMBOL = "symbol"
    """Each symbol of the channel has its own."""
    CHANNEL = "channel"
    """All symbols of the channel share one."""
    CONNECTION = "connection"
    """All messages of the connection share one (the feed's `sequence`, never a channel's)."""


class Resets(Model):
    """Legal restarts of the numbers: an event `sequence_reset` instead of a gap."""

    numbers: tuple[int, ...] = Field(
        default=(),
        description="Start values: of `exchange_seq`; of `seq_first` or `seq_previous` if the rule uses these.",
        max_length=16,
    )
    messages: tuple[Match, ...] = Field(
        default=(),
        description="A message that matches one of these starts a new sequence. If it lacks the fields of the rule, it "
        "is not compared, and an event `sequence_reset` records it.",
        max_length=16,
    )


class Late(Model):
    """Messages of a connection that are numbered early and arrive after higher numbers."""

    where: Where = Field(
        description="The value at each path must be the given string, or one of those given: `{type: subscribed}`.",
        min_length=1,
    )
    within: int = Field(
        default=1000,
        description="How far the numbers advance before a skipped one counts as missing. The end of the connection "
        "also decides.",
        ge=1,
        le=100_000,
    )


class Evidence(Model):
    """Evidence for a sequence rule."""

    source: str = Field(description="The documentation, or the recording and its date.", min_length=1, max_length=300)
    held: int | None = Field(
        default=None, description="Consecutive pairs of the recording for which the rule held.", ge=0, le=1 << 53
    )
    seen: int | None = Field(default=None, description="Consecutive pairs in the recording.", ge=1, le=1 << 53)

    @model_validator(mode="after")
    def _counted(self) -> Evidence:
        if (self.held is None) != (self.seen is None):
            raise ConflictError(
                ("held",) if self.seen is None else ("seen",), "found one of held and seen, expected both"
            )
        if self.held is not None and self.seen is not None and self.held > self.seen:
            raise ConflictError(("held",), f"found {self.held}, expected no more than seen")
        return self

    def __str__(self) -> str:
        return self.source if self.held is None else f"{self.held:,} of {self.seen:,}: {self.source}"


class ConnectionSequence(Model):
    """Numbers that increase by one per message of a connection, across all channels."""

    exchange_seq: NumberPlaces = Field(description="Paths of the number in every message.", min_length=1)
    resets: Resets | None = Field(default=None, description="Legal restarts of the numbers.")
    late: Late | None = Field(
        default=None,
        description="Messages that may arrive late because they are numbered when requested. Skipped numbers count as "
        "a gap only if these do not fill them.",
    )
    evidence: tuple[Evidence, ...] = Field(default=(), description="Evidence for it.", max_length=16)


class Checksum(Model):
    """An order book's checksum in messages without numbers, compared with the reconstructed book."""

    algorithm: Literal["kraken"] = Field(
        description="`kraken`: CRC-32 of the best asks from the lowest price up, then the best bids from the highest "
        "down; of each level price and size, without the decimal point and without zeros in front."
    )
    value: KeyPath = Field(description="Path of the checksum; a message without it is applied and not checked.")
    snapshot: Condition = Field(description="Messages that contain the whole book and restart it.")
    asks: tuple[KeyPath, ...] = Field(
        description="Paths of arrays of asks, in snapshots and in changes: all that are present are applied.",
        min_length=1,
        max_length=8,
    )
    bids: tuple[KeyPath, ...] = Field(description="The same of bids.", min_length=1, max_length=8)
    price: KeyPath = Field(default="price", description="The price in a level: a key, or an index such as `[0]`.")
    size: KeyPath = Field(default="size", description="The size in a level; a level of size 0 is removed.")
    levels: int = Field(default=10, description="How many levels of each side are in the checksum.", ge=1, le=1000)
    depth: int = Field(description="Levels of each side to keep: the subscribed depth.", ge=1, le=10_000)

    @model_validator(mode="after")
    def _of_a_level(self) -> Checksum:
        for key in ("price", "size"):
            path = steps(getattr(self, key))
            if len(path) != 1 or isinstance(path[0], Every):
                raise ConflictError((key,), f"found {getattr(self, key)!r}, expected one key, or a place as [0]")
        if self.levels > self.depth:
            raise ConflictError(("levels",), f"found {self.levels}, expected no more than depth")
        return self
