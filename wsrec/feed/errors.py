"""Errors of a feed YAML, a run configuration or an option."""

from __future__ import annotations


class ConfigError(Exception):
    """A feed, a target or an option that cannot be used. The text is for the user: what was found, what to do."""


class ConflictError(ValueError):
    """A value that contradicts another one of the same feed.

    Attributes:
        where: keys from the feed down to the value, for the error's line.

    """

    def __init__(self, where: tuple[str, ...], text: str) -> None:
        super().__init__(text)
        self.where = where
