"""Errors of a feed YAML, a run configuration or an option."""

from __future__ import annotations


class ConfigError(Exception):
    """A feed, a target or an option that cannot be used. The text is for the user: what was found, what to do."""


class OptionError(ConfigError):
    """The value of an option that cannot be used.

    Attributes:
        field: the option, by its field in `wsrec.options`.
        problem: what was found, what to do; the error's text has `--OPTION: ` before it.

    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"--{field.replace('_', '-')}: {problem}")
        self.field = field
        self.problem = problem


class ConflictError(ValueError):
    """A value that contradicts another one of the same feed.

    Attributes:
        where: keys from the feed down to the value, for the error's line.

    """

    def __init__(self, where: tuple[str, ...], text: str) -> None:
        super().__init__(text)
        self.where = where
