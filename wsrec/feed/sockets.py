"""The feed YAML's `sockets`: addresses, tokens and proxies, with values from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from typing import Literal
from urllib.parse import quote

from pydantic import Field, field_validator, model_validator
from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from wsrec.feed import placeholders
from wsrec.feed.errors import ConfigError, ConflictError
from wsrec.feed.masking import ENVIRONMENT, MASK
from wsrec.feed.values import Addressed, KeyPath, Regex, check_https, check_regex
from wsrec.net.proxy import parse_proxy


class Token(Addressed):
    """An HTTPS request before each connection, reconnections included, whose response completes the URL."""

    url: str = Field(
        description="`https://`, requested before each connection. Redirects are not followed.", max_length=2000
    )
    method: Literal["GET", "POST"] = Field(default="POST", description="`GET` or `POST`; a `POST` has no body.")
    token: KeyPath = Field(description="Path of the token in the response: `{token}` in the socket's `url`.")
    endpoint: KeyPath | None = Field(
        default=None,
        description="Path of the address in the response, which replaces all of `url` before its `?`: "
        "`data.instanceServers[0].endpoint`.",
    )

    @field_validator("url")
    @classmethod
    def _https(cls, url: str) -> str:
        return check_https(url)


class Socket(Addressed):
    """An address to connect to."""

    url: str = Field(
        description="`ws://` or `wss://`. `${NAME}` is replaced from the environment when connecting and never stored; "
        "`{token}` is the result of `token`, `{uuid}` a new random id.",
        max_length=2000,
    )
    token: Token | None = Field(default=None, description="The request for `{token}` in `url`.")
    symbols: Regex | None = Field(
        default=None,
        description="Regular expression: only symbols that it matches as a whole are requested here. For feeds whose "
        "markets have separate addresses.",
    )
    headers: dict[str, str] = Field(
        default={},
        description="Added to the handshake request. `${NAME}` as in `url`; never printed or stored.",
    )
    compression: Literal["deflate"] | None = Field(
        default=None,
        description="`deflate` offers permessage-deflate (RFC 7692), each message by itself.",
    )

    @field_validator("url")
    @classmethod
    def _websocket(cls, url: str) -> str:
        check_url(url)
        return url

    @field_validator("symbols")
    @classmethod
    def _compiles(cls, text: str | None) -> str | None:
        return text if text is None else check_regex(text)

    @model_validator(mode="after")
    def _token_in_its_place(self) -> Socket:
        unknown = placeholders.names(ENVIRONMENT.sub("", self.url)) - {"token", "uuid"}
        if unknown:
            raise ConflictError(("url",), f"found {{{min(unknown)}}}, expected {{token}} or {{uuid}}")
        if ("token" in placeholders.names(self.url)) != (self.token is not None):
            raise ConflictError(("url",), "found one of {token} and the key token, expected both or neither")
        return self

    @field_validator("headers")
    @classmethod
    def _one_line(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) or not value.isprintable():
                raise ValueError("expected header names of letters, digits and dashes, and values of one line")
        return headers

    def resolved_url(self) -> str:
        """The URL with `${NAME}` replaced from the environment, escaped as a URL needs it.

        Raises:
            ConfigError: a variable is not set.

        """
        return ENVIRONMENT.sub(lambda found: quote(_environment(found[1]), safe=""), self.url)

    def resolved_headers(self) -> dict[str, str]:
        """The headers with `${NAME}` replaced from the environment.

        Raises:
            ConfigError: a variable is not set, or holds a line break.

        """
        headers = {}
        for name, value in self.headers.items():
            headers[name] = ENVIRONMENT.sub(lambda found: _environment(found[1]), value)
            if not headers[name].isprintable():
                raise ConfigError(f"header {name}: the environment's value is not one line of printable text")
        return headers

    def takes(self, symbol: str) -> bool:
        """Whether this socket takes a symbol, written as in the exchange's messages."""
        return self.symbols is None or re.fullmatch(self.symbols, symbol) is not None

    def public(self, parts: Collection[str]) -> Socket:
        """The same without secrets; `parts` of its addresses are none."""
        token = self.token and self.token.public(parts)
        headers = dict.fromkeys(self.headers, MASK)
        return super().public(parts).model_copy(update={"headers": headers, "token": token})


def check_url(url: str) -> None:
    """Make sure that `url` is an address for WebSocket.

    Raises:
        ValueError: it is not; the text says what was expected, without repeating the URL.

    """
    expected = "expected ws://HOST/PATH or wss://HOST/PATH, without a #fragment"
    # What the environment holds is filled in later; for the check any text does (a number, so that it may be a port).
    url = placeholders.PLACEHOLDER.sub("1", ENVIRONMENT.sub("1", url))
    if not url.isprintable() or any(c.isspace() for c in url):
        raise ValueError(expected)
    try:
        parse_uri(url)
    except (InvalidURI, ValueError, AssertionError) as error:
        raise ValueError(expected) from error


def check_proxy(text: str) -> str:
    """The same, where it is a proxy's address.

    Raises:
        ValueError: it is none; the text says what was expected.

    """
    # What the environment holds is filled in later; for the check any text does (a number, so that it may be a port).
    # And what was stored of one that is in the environment as a whole is read back.
    if text != MASK:
        parse_proxy(ENVIRONMENT.sub("1", text))
    return text


def resolved_proxy(text: str) -> str:
    """A proxy's address with `${NAME}` replaced from the environment: a part of it escaped as a URL needs it.

    Raises:
        ConfigError: a variable is not set.

    """
    whole = ENVIRONMENT.fullmatch(text)
    if whole is not None:
        return _environment(whole[1])
    return ENVIRONMENT.sub(lambda found: quote(_environment(found[1]), safe=""), text)


def has_open_password(text: str) -> bool:
    """Whether a proxy's address has a password in it, or a part of one, beside what the environment fills in."""
    # host and port may be filled in, too: only the part before the last @ is searched
    user, at, _ = text.rpartition("@")
    return bool(at) and bool(ENVIRONMENT.sub("", user.partition("://")[2] or user).partition(":")[2])


def _environment(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ConfigError(f"${{{name}}}: the environment has no {name}; set it, or take it out")
    return value
