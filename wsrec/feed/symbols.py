"""The feed YAML's `symbols`: what an exchange calls its instruments, and where it lists them."""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from wsrec.feed import placeholders
from wsrec.feed.errors import ConfigError, ConflictError
from wsrec.feed.values import Addressed, Case, KeyPath, Model, Regex, Texts, check_https, check_regex


class Listing(Addressed):
    """The exchange's own list of its symbols, over HTTPS: for `--symbols all` and completion."""

    url: str = Field(
        description="`https://`; the response is cached for a day. Redirects are not followed.", max_length=2000
    )
    body: str | None = Field(default=None, description="JSON to send with `POST`; without it, `GET`.", max_length=2000)
    items: KeyPath | None = Field(
        default=None,
        description="Path of the array, or of the object whose values are the items; by default the whole response.",
    )
    symbol: KeyPath | None = Field(
        default=None, description="Path of the symbol in an item; by default the item itself."
    )
    where: dict[KeyPath, Texts] = Field(
        default={}, description="Only items with this string, or one of these, at the path: `{status: TRADING}`."
    )
    write: str = Field(
        default="{symbol}",
        description="How the symbol is made of what is found there: `t{symbol}`. Pairs as users type them, such as "
        "`BTC/USDT`, are translated as theirs are.",
        max_length=64,
    )

    @field_validator("url")
    @classmethod
    def _https(cls, url: str) -> str:
        return check_https(url)

    @field_validator("write")
    @classmethod
    def _holds_it(cls, text: str) -> str:
        if placeholders.names(text) != {"symbol"}:
            raise ValueError("expected {symbol} in it, and no other placeholder")
        return text


class Symbols(Model):
    """The exchange's notation of symbols."""

    pattern: Regex = Field(description="Regular expression for a whole symbol as the exchange's payload writes it.")
    words: str = Field(description="The pattern in words, for error messages.", max_length=300)
    example: str = Field(description="A symbol that exists.", max_length=64)
    case: Case = Field(
        default=Case.UPPER,
        description="Case of a symbol; users may type either. `keep`: as typed, in capitals if only that matches.",
    )
    topic_case: Case = Field(default=Case.KEEP, description="Letters of `{symbol}` inside topics.")
    pair: str | None = Field(
        default=None,
        description="How `BTC/USDT` is written here, from `{base}` and `{quote}`: `{base}{quote}`, `{quote}-{base}`.",
        max_length=64,
    )
    perpetual: str | None = Field(
        default=None,
        description="How `BTC/USDT:USDT`, the perpetual settled in what follows the colon, is written here, from "
        "`{base}`, `{quote}` and `{settle}`: `{base}-{quote}-SWAP`.",
        max_length=64,
    )
    currencies: dict[str, str] = Field(
        default={}, description="The exchange's names of currencies in pairs and perpetuals: `{BTC: XBT}`."
    )
    names: dict[str, str] = Field(
        default={}, description="Pairs and perpetuals that follow no rule: `{BTC/USD:BTC: XBTUSD}`."
    )
    listing: Listing | None = Field(
        default=None, description="Where the exchange lists its symbols, for `--symbols all` and completion."
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, text: str) -> str:
        return check_regex(text)

    @model_validator(mode="after")
    def _placeholders(self) -> Symbols:
        for key, known in (("pair", {"base", "quote"}), ("perpetual", {"base", "quote", "settle"})):
            unknown = placeholders.names(getattr(self, key) or "") - known
            if unknown:
                raise ConflictError((key,), f"found {{{min(unknown)}}}, expected {', '.join(sorted(known))} in braces")
        return self

    def normalise(self, text: str) -> str:
        """The exchange's symbol for what a user typed.

        Raises:
            ConfigError: it does not look like one.

        """
        symbol = self.case.apply(self._translated(text.strip()))
        if self.case is Case.KEEP and not re.fullmatch(self.pattern, symbol):
            symbol = symbol.upper()
        if not re.fullmatch(self.pattern, symbol):
            forms = (self.pair and "BTC/USDT", self.perpetual and "BTC/USDT:USDT")
            also = "".join(f" or {form}" for form in forms if form)
            raise ConfigError(f"symbol {text!r}: expected {self.words}, as in {self.example}{also}")
        return symbol

    def _translated(self, symbol: str) -> str:
        """The symbol of a pair or perpetual in the notation of users; anything else stays."""
        named = self.names.get(symbol) or self.names.get(symbol.upper())
        if named:
            return named
        pair, colon, settle = symbol.partition(":")
        written = self.perpetual if colon else self.pair
        if not written or pair.count("/") != 1:
            return symbol
        base, quoted = pair.split("/")
        parts = {"base": base, "quote": quoted, "settle": settle}
        called = {key: self.currencies.get(part.upper(), part) for key, part in parts.items()}
        return placeholders.PLACEHOLDER.sub(lambda found: called[found[1]], written)
