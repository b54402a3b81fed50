"""Types of the values in a feed YAML, and the base classes of its models."""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import StrEnum
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from wsrec.feed.masking import mask_url
from wsrec.feed.paths import PATH_PATTERN, TEXT_PATH_PATTERN, scalar_text

MAX_URL = 4000
NAME_PATTERN = r"^[a-z0-9][a-z0-9.-]{0,63}$"
NAME_IN_WORDS = "a-z, 0-9, dots and dashes, at most 64"
KeyPath = Annotated[str, Field(pattern=PATH_PATTERN, max_length=200)]
TextPath = Annotated[str, Field(pattern=TEXT_PATH_PATTERN, max_length=200)]
Regex = Annotated[str, Field(max_length=500)]
Topic = Annotated[str, Field(min_length=1, max_length=200)]
Template = Annotated[str, Field(min_length=1, max_length=4000)]
Name = Annotated[str, Field(min_length=1, max_length=128)]


class Model(BaseModel):
    """Base of all models of a feed YAML: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class Addressed(Model):
    """Something with an address, which may hold secrets."""

    url: str

    def public(self, parts: Collection[str]) -> Self:
        """The same without secrets; `parts` of its address are none."""
        return self.model_copy(update={"url": mask_url(self.url, parts)})


class TimeUnit(StrEnum):
    """Unit of time since the Unix epoch; `iso` is RFC 3339 text."""

    S = "s"
    MS = "ms"
    US = "us"
    NS = "ns"
    ISO = "iso"


class Case(StrEnum):
    """Letter case of a symbol."""

    LOWER = "lower"
    UPPER = "upper"
    KEEP = "keep"

    def apply(self, text: str) -> str:
        """`text` in this case."""
        return text.lower() if self is Case.LOWER else text.upper() if self is Case.UPPER else text


def _texts(value: Any) -> Any:
    """One string, number or boolean, or a list of them, as the strings used for comparison."""
    return tuple(scalar_text(each) or each for each in (value if isinstance(value, list | tuple) else (value,)))


Texts = Annotated[tuple[Annotated[str, Field(max_length=200)], ...], BeforeValidator(_texts)]
Where = dict[TextPath, Texts]


def check_https(url: str) -> str:
    """Make sure that `url` is an address for HTTPS, without a user or a fragment.

    Raises:
        ValueError: it is not; the text says what was expected.

    """
    parts = urlsplit(url)
    plain = url.isprintable() and not any(c.isspace() or c in "{}" for c in url)
    if not plain or parts.scheme != "https" or not parts.hostname or parts.username or parts.fragment:
        raise ValueError("expected https://HOST/PATH")
    return url


def check_regex(text: str) -> str:
    """Make sure that `text` is a regular expression.

    Raises:
        ValueError: it is not.

    """
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"expected a regular expression ({error})") from error
    return text


def with_parameters(parameters: dict[str, str], text: Any) -> Any:
    """A channel's text with its parameters substituted."""
    if text is None:
        return None
    for key, value in parameters.items():
        text = text.replace(f"{{{key}}}", value)
    return text
