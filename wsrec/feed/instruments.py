"""The feed YAML's `instruments`: the venue's listing of its instruments, and what it says of each.

A listing is fetched at the start of a recording and daily, and stored as it came: contract sizes change, and most
messages do not state them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from wsrec.feed import placeholders
from wsrec.feed.channel import check_snapshot_url
from wsrec.feed.errors import ConflictError
from wsrec.feed.masking import mask_url
from wsrec.feed.table_columns import Kind, TableColumn
from wsrec.feed.table_declarations import Cells, Conditions, RowPath, with_constants
from wsrec.feed.values import Model

CHANNEL = "instruments"
"""The channel of the rows and events of listings; they have no symbol."""

INSTRUMENT_COLUMNS = (
    TableColumn("multiplier", Kind.NUMBER, "size of one contract, in `multiplier_unit`"),
    TableColumn("multiplier_unit", Kind.WORD, "what it counts: base or quote currency", ("base", "quote")),
    TableColumn("price_step", Kind.NUMBER, "least difference of two prices (tick)"),
    TableColumn("size_step", Kind.NUMBER, "least difference of two sizes (lot)"),
    TableColumn("expiry", Kind.TIME, "when it expires; null: never"),
    TableColumn("kind", Kind.TEXT, "its kind, as the exchange writes it"),
    TableColumn("base", Kind.TEXT, "base currency, as the exchange writes it"),
    TableColumn("quote", Kind.TEXT, "quote currency, as the exchange writes it"),
)
"""What a listing may say of an instrument."""


class InstrumentName(Model):
    """A name of an instrument."""

    path: RowPath = Field(description="Its path in the item.")
    write: str = Field(
        default="{symbol}",
        description="How the symbol of messages is made of what is found there: `{symbol}_CQ`.",
        max_length=64,
    )
    when: Conditions = Field(default=(), description="Conditions on the item; otherwise it has no such name.")

    @field_validator("write")
    @classmethod
    def _holds_it(cls, text: str) -> str:
        if placeholders.names(text) != {"symbol"}:
            raise ValueError("expected {symbol} in it, and no other placeholder")
        return text


def _names(value: Any) -> Any:
    places = value if isinstance(value, list | tuple) else (value,)
    return tuple({"path": place} if isinstance(place, str) else place for place in places)


def _urls(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Instruments(Model):
    """The venue's listing of its instruments: fetched at the start of a recording and daily, and stored as it came."""

    urls: Annotated[tuple[Annotated[str, Field(max_length=2000)], ...], BeforeValidator(_urls)] = Field(
        description="Its `https://` address, or several, each with a part of the instruments.", min_length=1
    )
    items: RowPath = Field(description="Path of the instruments: `data[]`; `$[]`: the answer is an array of them.")
    where: Conditions = Field(default=(), description="Only items that meet these conditions.")
    symbol: Annotated[tuple[InstrumentName, ...], BeforeValidator(_names)] = Field(
        description="Path of an item's symbol, or a list of its names.", min_length=1
    )
    columns: dict[str, Cells] = Field(
        description="Places of " + ", ".join(f"`{column.name}`" for column in INSTRUMENT_COLUMNS) + ", as in tables."
    )
    factor: Cells = Field(default=(), description="A number by which `multiplier` is multiplied.")
    divisor: Cells = Field(default=(), description="A number by which it is divided.")

    @field_validator("urls")
    @classmethod
    def _https(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_snapshot_url(url, symbols=False) for url in urls)

    @model_validator(mode="before")
    @classmethod
    def _constants(cls, data: Any) -> Any:
        """A word of a column that has only certain words is a constant."""
        if not isinstance(data, dict) or not isinstance(columns := data.get("columns"), dict):
            return data
        return {**data, "columns": with_constants(columns, INSTRUMENT_COLUMNS)}

    @model_validator(mode="after")
    def _known_columns(self) -> Instruments:
        known = [column.name for column in INSTRUMENT_COLUMNS]
        for name in self.columns:
            if name not in known:
                raise ConflictError(("columns", name), f"found no such column, expected one of {', '.join(known)}")
        return self

    def public(self, parts: Collection[str]) -> Instruments:
        """The same without secrets; `parts` of its addresses are none."""
        return self.model_copy(update={"urls": tuple(mask_url(url, parts) for url in self.urls)})
