"""Declaration of an option: the annotation of a struct field, whose name and default become the option's.

The command line option and its `WSREC_*` variable (`wsrec.config.click_options`), the key of run configs with its check
and JSON Schema (`wsrec.config.run_config`) and the row in the documentation are derived from it. The struct itself is
sent to the processes with their jobs, so the code reads the same field.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from wsrec.options.value_types import Flag, ValueType


@dataclass(frozen=True)
class Option:
    """An option's declaration, as the annotation of its field.

    Attributes:
        help: the help text; `code` as in Markdown, which the command line shows without the backticks.
        type: the type of its values.
        short: its one-letter name on the command line.
        metavar: the name of its value in the help; None for the type's name.
        default: the default in words, if the field's value does not show it.
        note: an additional remark for run configs.
        excludes: the field of an option that cannot be combined with this one in the same source.
        is_of_feed: whether a run config sets it per feed instead of once.
        in_run: whether a run config may set it.

    """

    help: str
    type: ValueType[Any]
    short: str | None = None
    metavar: str | None = None
    default: str = ""
    note: str = ""
    excludes: str | None = None
    is_of_feed: bool = False
    in_run: bool = True


class Declared(NamedTuple):
    """An option with the name and default of its field.

    Attributes:
        field: the name of the field.
        option: its declaration.
        default: the field's default.

    """

    field: str
    option: Option
    default: Any

    @property
    def key(self) -> str:
        """The name in run configs, and after `--` on the command line."""
        return self.field.replace("_", "-")

    @property
    def shown_default(self) -> str:
        """The default in words, or as a user would write it; empty if the default is simply not to set it."""
        option, default = self.option, self.default
        if option.default or default in (None, ()) or isinstance(option.type, Flag):
            return option.default
        return option.type.write(default)


def declared(*structs: type[msgspec.Struct]) -> tuple[Declared, ...]:
    """The options of structs in order; a struct's own options before those that it inherits."""
    return tuple(each for struct in structs for each in _declared(struct))


def _declared(struct: type[msgspec.Struct]) -> list[Declared]:
    hints = typing.get_type_hints(struct, include_extras=True)
    defaults = {field.name: field.default for field in msgspec.structs.fields(struct)}
    inherited = [name for base in struct.__bases__ for name in getattr(base, "__struct_fields__", ())]
    names = (*(name for name in struct.__struct_fields__ if name not in inherited), *inherited)
    found = []
    for name in names:
        for option in getattr(hints.get(name), "__metadata__", ()):
            if isinstance(option, Option):
                found.append(Declared(name, option, defaults[name]))
    return found
