"""The declaration of an option: the annotation of a field in a struct, whose name and default are the option's.

From it come the option of the command line and its `WSREC_*` variable (`wsrec.config.click_options`), the key of run
configs with its check and its JSON Schema (`wsrec.config.run_config`), the row of the page, and, as the struct goes to
the processes with their jobs, the field that the code reads.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from wsrec.options.value_types import Flag, ValueType


@dataclass(frozen=True)
class Option:
    """What a field's annotation says of its option.

    Attributes:
        help: what it is for; `code` as in Markdown, which the command line shows without the marks.
        type: which values it takes.
        short: a second name on the command line, one letter.
        metavar: what its value is called there; None for what the type is called.
        default: the default in words, where the field's does not say it.
        note: what a run config has to know besides.
        excludes: the field of the option that cannot be given beside it.
        is_of_feed: whether a run config has it for each feed, and not for all of the run.
        in_run: whether a run config may have it.

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
    """An option with its name, which is the field's, and its default.

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
        """Its name in run configs; with `--` before it, on the command line."""
        return self.field.replace("_", "-")

    @property
    def shown_default(self) -> str:
        """The default in words, or as it would be written; empty where leaving it out is all that there is to say."""
        option, default = self.option, self.default
        if option.default or default in (None, ()) or isinstance(option.type, Flag):
            return option.default
        return option.type.write(default)


def declared(*structs: type[msgspec.Struct]) -> tuple[Declared, ...]:
    """The options of structs in order; those that a struct adds before those that it inherits."""
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
