"""Click parameter types: declared value types, local folders, and comma-separated lists."""

from __future__ import annotations

import glob
import os
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import click

from wsrec.options.value_types import ValueType, check_local, check_path, without_user
from wsrec.units import not_one_of

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    # click below 8.5 takes no type argument
    _ParamType = click.ParamType


class ValueParam(_ParamType):
    """A value of a declared type, given as text."""

    def __init__(self, kind: ValueType[Any]) -> None:
        self.name = kind.name
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the value, or fail with a message."""
        # values from a run config are parsed already
        if not isinstance(value, str):
            return value
        try:
            return self._kind.parse(value)
        except ValueError as error:
            self.fail(f"found {value!r}, {error}", param, ctx)


class WordParam(click.Choice):  # type: ignore[type-arg,unused-ignore]
    """One of several words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check the value, or fail with a message."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(not_one_of(value, self.choices), param, ctx)


class ChoiceParam(WordParam):
    """A member of an enum, given as its word."""

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__([word.value for word in words])
        self._words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the value, or fail with a message."""
        return self._words(super().convert(value, param, ctx))


class IntegerParam(click.IntRange):
    """An integer. Arguments as for `click.IntRange`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the value, or fail with a message."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"found {str(value)!r}, expected a whole number {_range(self)}", param, ctx)


class NumberParam(click.FloatRange):
    """A number. Arguments as for `click.FloatRange`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the value, or fail with a message."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"found {str(value)!r}, expected a number {_range(self)}", param, ctx)


def _range(kind: click.IntRange | click.FloatRange) -> str:
    if kind.min is not None and kind.max is not None:
        return f"from {kind.min:g} to {kind.max:g}"
    return f"{'greater than' if kind.min_open else 'of at least'} {kind.min:g}"


class FlagParam(click.types.BoolParamType):
    """A flag, also where an environment variable sets it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the value, or fail with a message."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"found {str(value)!r}, expected 1, true, yes or on, or 0, false, no or off", param, ctx)


class PathParam(click.Path):
    """A file or folder. Arguments as for `click.Path`.

    Args:
        expected: the description of a file that must exist, for messages.

    """

    def __init__(self, *args: Any, expected: str = "", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._expected = expected

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check the value, or fail with a message."""
        if isinstance(value, str):
            try:
                check_path(value)
            except ValueError as error:
                self.fail(f"found {value!r}, {error}", param, ctx)
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"found {str(value)!r}, {self._problem(value)}", param, ctx)

    def _problem(self, value: Any) -> str:
        if not os.path.exists(value):  # noqa: PTH110 (bytes and text)
            return "which does not exist" + (f", expected {self._expected}" if self._expected else "")
        is_folder = os.path.isdir(value)  # noqa: PTH112
        if is_folder and not self.dir_okay:
            return f"which is a folder, expected {self._expected or 'a file'}"
        if not is_folder and not self.file_okay:
            return "which is a file, expected a folder"
        return "which this user may not read"


class FolderType(PathParam):
    """A local file or folder; URLs are refused. Arguments as for `click.Path`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check the value, or fail with a message."""
        _local(self, value, param, ctx)
        return super().convert(value, param, ctx)


class SourceType(_ParamType):
    """A local file or folder, or a glob pattern.

    Args:
        word: another allowed value.

    """

    name = "source"

    def __init__(self, word: str | None = None) -> None:
        self._word = word

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the value, or fail with a message."""
        _local(self, value, param, ctx)
        source = str(value)
        if source != self._word and not _exists(source):
            self.fail(f"found {source!r}, which does not exist, and no file matches it as a pattern", param, ctx)
        return source


def _exists(source: str) -> bool:
    """Whether a path or a pattern matches anything; inaccessible folders are reported when they are read."""
    try:
        os.stat(source)  # noqa: PTH116 (a pattern is not a path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return next(glob.iglob(source, recursive=True), None) is not None  # noqa: PTH207 (absolute too)
    except OSError:
        return True
    return True


def _local(kind: _ParamType, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> None:
    if not isinstance(value, str):
        return
    try:
        check_local(value)
    except ValueError as error:
        kind.fail(f"found {without_user(value)!r}, {error}", param, ctx)


def comma_list(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Callback for a repeatable option whose values may each be several, separated by commas.

    Raises:
        click.BadParameter: the option has no items.

    """
    given = [[item for item in map(str.strip, text.split(",")) if item] for text in value]
    # an unset variable in a script ("$SYMBOLS") must not silently mean the feed's defaults, or fewer symbols
    if not all(given):
        raise click.BadParameter("it is empty; give at least one item, or omit the option", ctx, param)
    return tuple(item for items in given for item in items)
