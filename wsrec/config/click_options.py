"""Click options generated from the declarations in `wsrec.options`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from click.core import ParameterSource

from wsrec.config.click_types import ChoiceParam, FolderType, IntegerParam, PathParam, ValueParam, comma_list
from wsrec.config.sources import source
from wsrec.feed.errors import ConfigError
from wsrec.options.option import Declared, Option
from wsrec.options.value_types import Choice, File, Flag, Folder, Names, Number, ProxyAddress, Texts

# the sources of an option's value; None for a value that click did not set
_PRECEDENCE = (
    ParameterSource.COMMANDLINE,
    ParameterSource.ENVIRONMENT,
    ParameterSource.DEFAULT_MAP,
    ParameterSource.DEFAULT,
    None,
)

_F = TypeVar("_F", bound=Callable[..., Any])
_S = TypeVar("_S", bound=msgspec.Struct)


def click_options(options: Iterable[Declared], **more: Mapping[str, Any]) -> Callable[[_F], _F]:
    """Add options to a command, named after their fields, like their `WSREC_*` variables.

    Args:
        options: the options, in the order of the help.
        more: additional arguments of `click.option`, by field.

    """

    def add(command: _F) -> _F:
        for each in reversed(list(options)):
            command = click.option(*_flags(each), each.field, **{**_settings(each), **more.get(each.field, {})})(
                command
            )
        return command

    return add


def taken(struct: type[_S], values: Mapping[str, Any]) -> _S:
    """The struct, with its fields taken from the values of a command's options."""
    names = [name for name in struct.__struct_fields__ if name in values]
    return struct(**{name: values[name] for name in names if values[name] is not None})


def settled(options: Iterable[Declared], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the running command; of two that exclude each other, the one from the source of higher precedence.

    Raises:
        ConfigError: two such options have the same source.

    """
    ctx = click.get_current_context()
    found = dict(values)
    defaults = {each.field: each.default for each in options}
    for each in options:
        other = each.option.excludes
        if other is None or other not in found or not found[each.field] or not found[other]:
            continue
        mine, others = (_PRECEDENCE.index(ctx.get_parameter_source(name)) for name in (each.field, other))
        if mine == others:
            problem = f"found it beside {source(ctx, other)}, which excludes it: give one"
            raise ConfigError(f"{source(ctx, each.field)}: {problem}")
        yielding = each.field if mine > others else other
        found[yielding] = defaults[yielding]
    return found


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _flags(each: Declared) -> list[str]:
    return [_flag(each.field), *([f"-{each.option.short}"] if each.option.short else [])]


def _settings(each: Declared) -> dict[str, Any]:
    option, kind = each.option, each.option.type
    found: dict[str, Any] = {"help": _help(each), "metavar": option.metavar}
    match kind:
        case Flag():
            return {**found, "is_flag": True}
        case Names():
            return {**found, "multiple": True, "callback": comma_list}
        case Texts():
            return {**found, "multiple": True}
        case ProxyAddress():
            return found
    shown = each.shown_default
    if shown and not option.default:
        found |= {"default": shown, "show_default": True}
    return {**found, "type": _type(option)}


def _help(each: Declared) -> str:
    text = each.option.help.replace("`", "")
    if isinstance(each.option.type, Texts):
        text += " Repeatable."
    return f"{text} [default: {each.option.default}]" if each.option.default else text


def _type(option: Option) -> click.ParamType[Any]:
    match option.type:
        case Choice(words=words):
            return ChoiceParam(words)
        case Number(least=least, most=most):
            return IntegerParam(least, most)
        case Folder():
            return FolderType(file_okay=False, path_type=Path)
        case File(expected=expected):
            return PathParam(expected=expected, exists=True, dir_okay=False, path_type=str)
        case kind:
            return ValueParam(kind)
