"""Run configs: one YAML file with the feeds of a recording and the options of `wsrec record`.

Its keys come from the options' declarations (`wsrec.options.record`); `configs/run.schema.json` (for editors) and the
table in `docs/reference/configs.md` are generated from the models here. `${NAME}` is replaced from the environment
when the file is read, except in a feed's address: there it is replaced later, so that stored and shown addresses
contain `${NAME}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Optional

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    create_model,
    field_validator,
    model_validator,
)

from wsrec.feed.document import Document, Location, read_document
from wsrec.feed.errors import ConfigError, ConflictError
from wsrec.feed.masking import ENVIRONMENT
from wsrec.feed.schema import Feed
from wsrec.feed.sockets import check_proxy
from wsrec.feed.values import NAME_PATTERN
from wsrec.options.option import Declared, declared
from wsrec.options.record import SECTIONS
from wsrec.options.value_types import (
    Choice,
    File,
    Flag,
    Folder,
    Names,
    Number,
    ProxyAddress,
    Texts,
    ValueType,
    check_local,
    check_path,
    without_user,
)
from wsrec.plan.target import Wanted

_OPTIONS = tuple(each for each in declared(*SECTIONS) if each.option.in_run)
_OF_FEED = tuple(each for each in _OPTIONS if each.option.is_of_feed)
_OF_RUN = tuple(each for each in _OPTIONS if not each.option.is_of_feed)


def _local(value: Any) -> Any:
    try:
        return check_local(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"found {without_user(value)!r}, {error}") from error


def _filled(value: Any) -> Any:
    try:
        return check_path(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"found {value!r}, {error}") from error


def _path(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("expected a path")
    return path


def _names(value: Any) -> Any:
    """The items of a list, or of a text with commas."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise ValueError("expected a list, or a text with commas")
    items = [item for text in value for item in (_split(text) if isinstance(text, str) else [text])]
    if not items or not all(items):
        raise ValueError("expected at least one name and no empty one; omit the key for the feed's default")
    return items


def _split(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


def _texts(value: Any) -> Any:
    if not isinstance(value, str | list):
        raise ValueError("expected a text, or a list of them")
    return [value] if isinstance(value, str) else value


def _public(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if not text or (named := ENVIRONMENT.search(text)):
            found = named[0] if text and named else "an empty text"
            raise ValueError(f"found {found}, expected a text without it: sent texts are recorded unchanged")
    return texts


def _named(value: Any) -> Any:
    """A feed given only by its name."""
    return {"feed": value} if isinstance(value, str) else value


def _annotation(kind: ValueType[Any]) -> Any:
    """The type of a key for pydantic."""
    match kind:
        case Flag():
            return bool
        case Number(least=least, most=most):
            return Annotated[int, Field(ge=least, le=most)]
        case Choice(words=words):
            return words
        case Folder():
            return Annotated[Path, BeforeValidator(_local, json_schema_input_type=Path), AfterValidator(_path)]
        case File():
            return Annotated[Path, BeforeValidator(_filled, json_schema_input_type=Path), AfterValidator(_path)]
        case ProxyAddress():
            return Annotated[str, Field(max_length=4000), AfterValidator(check_proxy)]
        case Names():
            return Annotated[tuple[str, ...], BeforeValidator(_names, json_schema_input_type=kind.written)]
        case Texts():
            before = BeforeValidator(_texts, json_schema_input_type=kind.written)
            return Annotated[tuple[str, ...], before, AfterValidator(_public)]
        case _:
            return Annotated[Any, BeforeValidator(kind.parse_yaml, json_schema_input_type=kind.written)]


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        # the names on the command line
        use_enum_values=True,
        alias_generator=lambda name: name.replace("_", "-"),
    )


class _RunFeed(_Model):
    """A feed to record, with its symbols and channels; or only its name, for the defaults."""

    feed: str = Field(
        description="A feed of the catalogue, the path of a feed's YAML, a ws:// or wss:// URL, or `demo`.",
        min_length=1,
        max_length=4000,
    )
    name: str = Field(
        default="",
        description="Name of a URL, for its folder `feed=NAME`. By default its host; if several URLs have that host, "
        "with the port or numbered.",
        pattern=rf"^$|{NAME_PATTERN}",
    )


class _Run(_Model):
    """A recording: its feeds, and the options of `wsrec record` with the same names."""

    @field_validator("feeds", check_fields=False)
    @classmethod
    def _some(cls, feeds: tuple[Any, ...]) -> tuple[Any, ...]:
        if not feeds:
            raise ValueError("expected at least one feed")
        return feeds

    @model_validator(mode="after")
    def _no_conflict(self) -> _Run:
        given = self.given()
        for each in _OF_RUN:
            other = each.option.excludes
            if other is not None and given.get(each.field) and given.get(other):
                message = f"found it beside {other.replace('_', '-')}, which excludes it: give one"
                raise ConflictError((each.key,), message)
        return self

    def given(self) -> dict[str, Any]:
        """The options in the file, by field."""
        values = {each.field: getattr(self, _attribute(each)) for each in _OF_RUN}
        return {field: value for field, value in values.items() if value is not None}


def _attribute(each: Declared) -> str:
    # avoids the names of a model's own methods (`json`)
    return f"option_{each.field}"


def _fields(options: Sequence[Declared], *, is_null: bool) -> dict[str, Any]:
    """Keys of a model; omitted ones are null, or have the option's default."""
    return {
        _attribute(each): (
            Optional[_annotation(each.option.type)] if is_null else _annotation(each.option.type),  # noqa: UP045
            Field(
                default=None if is_null else each.default,
                alias=each.key,
                description=f"{each.option.help} {each.option.note}".strip(),
            ),
        )
        for each in options
    }


RunFeed = create_model("RunFeed", __base__=_RunFeed, __doc__=_RunFeed.__doc__, **_fields(_OF_FEED, is_null=False))
"""An entry of `feeds`."""

Run = create_model(
    "Run",
    __base__=_Run,
    __doc__=_Run.__doc__,
    feeds=(
        tuple[Annotated[RunFeed, BeforeValidator(_named, json_schema_input_type=str | RunFeed)], ...],  # type: ignore[valid-type]
        Field(description="The feeds to record. A list.", max_length=1000),
    ),
    **_fields(_OF_RUN, is_null=True),
)
"""The whole file."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run config, ready for `wsrec record`: paths in it are relative to its folder.

    Attributes:
        wanted: the feeds.
        settings: values of options by field, without those omitted in the file.
        places: `FILE:LINE: KEY` of each of them, by field.

    """

    wanted: tuple[Wanted, ...]
    settings: dict[str, Any]
    places: dict[str, str]


def load_run(path: Path) -> RunConfig | None:
    """Read a run config; None if the YAML file is a feed's, which its keys show.

    Raises:
        ConfigError: it cannot be read, is not a valid run config, or is a mixture of both; one line
            `FILE:LINE: KEY: found, expected` per error.

    """
    document = read_document(path, "a feed's or a run's YAML", "wsrec feeds schema --run")
    of_run = [key for key in document.keys if key in _RUN_KEYS and key not in Feed.model_fields]
    of_feed = [key for key in document.keys if key in Feed.model_fields and key not in _RUN_KEYS]
    if not of_run:
        return None
    if of_feed:
        strange, kind, whole = (of_feed, "feed's", "run config") if "feeds" in of_run else (of_run, "run's", "feed")
        raise ConfigError(
            "\n".join(
                f"{document.at(key)}: found a {kind} key in a {whole}, expected a file for the feed, and one for the "
                "run that names it under `feeds`"
                for key in strange
            )
        )
    document.substitute_environment(_kept)
    run: Any = document.into(Run)
    folder = path.parent
    settings = run.given()
    for each in _OF_RUN:
        if each.field in settings and isinstance(each.option.type, Folder | File):
            settings[each.field] = str(folder / settings[each.field])
    wanted = tuple(_wanted(feed, folder, document, number) for number, feed in enumerate(run.feeds))
    places = {each.field: document.at(each.key) for each in _OF_RUN if each.field in settings}
    return RunConfig(wanted=wanted, settings=settings, places=places)


def run_schema() -> dict[str, Any]:
    """The JSON Schema of a run config, for editors."""
    schema = Run.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "wsrec run"}


_RUN_KEYS = frozenset(field.alias or name for name, field in Run.model_fields.items())


def _kept(where: Location, text: str) -> bool:
    """Whether `${NAME}` is kept: in addresses, where it is replaced when connecting, and in texts to send."""
    if where == ("proxy",):
        return True
    if where[0] != "feeds":
        return False
    return where[2:3] == ("subscribe",) or (where[2:] in ((), ("feed",)) and "://" in text)


def _wanted(entry: Any, folder: Path, document: Document, number: int) -> Wanted:
    feed: str = entry.feed
    selected = {each.field: getattr(entry, _attribute(each)) for each in _OF_FEED}
    selected["symbols"] = tuple(
        f"@{folder / text[1:]}" if text.startswith("@") else text for text in selected["symbols"]
    )
    is_path = feed.endswith((".yaml", ".yml")) or ("/" in feed and "://" not in feed)
    return Wanted(
        target=str(folder / feed) if is_path else feed,
        name=entry.name,
        where=f"{document.at('feeds', number)}: ",
        places={each.field: document.at("feeds", number, each.key) for each in _OF_FEED},
        **selected,
    )
