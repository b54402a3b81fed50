"""The run config: one YAML file that names the feeds of a recording and the options of `wsrec record`.

`configs/run.schema.json` (for editors) and the table in `docs/configs.md` are made from these models. `${NAME}` is read
from the environment when the file is read. In the address of a feed it is kept for later, so that what is stored and
shown has `${NAME}` as it was written.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from wsrec.config.settings import (
    AUTO,
    Rotation,
    check_folder,
    check_message_size,
    check_ring_size,
    parse_cpus,
    parse_duration,
    parse_rotation,
    parse_size,
    parse_until,
    without_user,
)
from wsrec.feed.document import Location, read_document
from wsrec.feed.masking import ENVIRONMENT
from wsrec.feed.schema import NAME_PATTERN, ConfigError, ConflictError, Feed, check_proxy
from wsrec.feed.shard import Shard
from wsrec.plan.target import Wanted
from wsrec.receive.job import TlsMode


def _duration(value: Any) -> Any:
    seconds = parse_duration(str(value))
    if not seconds:
        raise ValueError("expected 30s, 10m, 1h30m or 250ms, longer than zero")
    return seconds


def _size(value: Any) -> Any:
    size = parse_size(str(value))
    if not size:
        raise ValueError("expected 8MiB, 512MB or a number of bytes, more than zero")
    return size


def _ring_size(value: Any) -> Any:
    if not (isinstance(value, str) and value.strip().lower() == AUTO):
        size = _size(value)
        try:
            return check_ring_size(size)
        except ValueError as error:
            raise ValueError(f"expected another size: {error}") from error
    return AUTO


def _rotation(value: Any) -> Any:
    rotation = parse_rotation(str(value))
    if rotation is None:
        raise ValueError("expected a duration (15m), a size (512MB) or both (15m,512MB)")
    return rotation


def _until(value: Any) -> Any:
    moment = parse_until(str(value))
    if moment is None:
        raise ValueError("expected 17:30 or 2026-11-22T17:30:00Z (UTC unless it says otherwise)")
    if moment <= datetime.now(UTC):
        raise ValueError("expected a time in the future")
    return moment


def _cpus(value: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    cpus = parse_cpus(",".join(map(str, items))) if items else None
    if cpus is None:
        raise ValueError("expected processor numbers, as in 2 or [2, 3]")
    return cpus


def _folder(value: Any) -> Any:
    try:
        return check_folder(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"found {without_user(value)!r}, {error}") from error


def _shard(value: Any) -> Any:
    return Shard.parse(str(value))


def _items(value: Any) -> Any:
    """A list, or a text with commas, as the items."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        return value
    items = [item for text in value for item in (_split(text) if isinstance(text, str) else [text])]
    if not items or not all(items):
        raise ValueError("expected at least one and none that is empty; without the key: the feed's")
    return items


def _split(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


def _sent(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _named(value: Any) -> Any:
    """A feed without anything to say about it is its name."""
    return {"feed": value} if isinstance(value, str) else value


_Duration = Annotated[float, BeforeValidator(_duration, json_schema_input_type=str | float)]
_Size = Annotated[int, BeforeValidator(_size, json_schema_input_type=str | int)]
_Items = Annotated[tuple[str, ...], BeforeValidator(_items, json_schema_input_type=str | list[str])]
_Texts = Annotated[tuple[str, ...], BeforeValidator(_sent, json_schema_input_type=str | list[str])]


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        # as the command line has them
        use_enum_values=True,
        alias_generator=lambda name: name.replace("_", "-"),
    )


class RunFeed(_Model):
    """A feed to record, and what of it; its name alone for its defaults."""

    feed: str = Field(
        description="A feed of the catalogue, the path of a feed's YAML, a ws:// or wss:// URL, or `demo`.",
        min_length=1,
        max_length=4000,
    )
    name: str = Field(
        default="",
        description="What to call a URL: the folder `feed=NAME`. By default its host; where several are of one host, "
        "with the port or counted.",
        pattern=rf"^$|{NAME_PATTERN}",
    )
    symbols: _Items = Field(
        default=(), description="As `--symbols`: `BTC/USDT`, `all`, `@FILE`. A list, or a text with commas."
    )
    channels: _Items = Field(default=(), description="As `--channels`: `trades`, `book`, or the exchange's names.")
    subscribe: _Texts = Field(
        default=(), description="As `--subscribe`, for a URL: texts to send once connected. They are recorded."
    )

    @field_validator("subscribe")
    @classmethod
    def _public(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            if not text or (named := ENVIRONMENT.search(text)):
                found = named[0] if text and named else "an empty text"
                raise ValueError(f"found {found}, expected a text without it: what is sent is recorded as it is")
        return texts


_Feed = Annotated[RunFeed, BeforeValidator(_named, json_schema_input_type=str | RunFeed)]


class Run(_Model):
    """A recording: its feeds, and the options of `wsrec record` by the same names."""

    feeds: tuple[_Feed, ...] = Field(description="What to record. A list.", max_length=1000)
    out: Annotated[Path, BeforeValidator(_folder, json_schema_input_type=Path)] | None = Field(
        default=None, description="Folder to record into."
    )
    shard: Annotated[Shard | None, BeforeValidator(_shard, json_schema_input_type=str)] = Field(
        default=None, description="Which of several equal shares of all feeds' symbols to take: `3/16`."
    )
    duration: _Duration | None = Field(
        default=None, description="Stop this long after the first connection opened: `10m`. Or `until`."
    )
    until: Annotated[datetime | None, BeforeValidator(_until, json_schema_input_type=str)] = Field(
        default=None, description='Stop at this time, UTC: `17:30`, `"2026-11-22T17:30:00Z"` (in quotes).'
    )
    until_close: bool | None = Field(default=None, description="Stop when the exchange closes normally.")
    rotate: Annotated[Rotation | None, BeforeValidator(_rotation, json_schema_input_type=str)] = Field(
        default=None, description="When a file ends: `1h`, `512MB`, or both with a comma."
    )
    cpu: Annotated[
        tuple[int, ...] | None, BeforeValidator(_cpus, json_schema_input_type=int | str | list[int | str])
    ] = Field(default=None, description="Processors to receive on, one receiver each: `2` or `[2, 3]`.")
    writer_cpu: int | None = Field(default=None, description="Processor to write on.", ge=0, le=1_000_000)
    rt_priority: int | None = Field(default=None, description="SCHED_FIFO priority of the receivers.", ge=1, le=99)
    busy_poll: bool | None = Field(default=None, description="Read without pause instead of waiting.")
    tls: TlsMode | None = Field(
        default=None, description="How TLS is taken off the wire: `stamped`, `ktls`, `openssl`, `auto`."
    )
    ca_file: Path | None = Field(default=None, description="PEM file of a CA to trust besides the system's.")
    proxy: str | None = Field(
        default=None,
        description="Go through a proxy to everything: `http://user:${PROXY_PASSWORD}@host:3128`, `socks5h://host:1080`.",
        max_length=4000,
    )
    no_proxy: bool | None = Field(
        default=None, description="No proxy at all, whatever the environment or a feed say. Or `proxy`."
    )
    ring_size: Annotated[int | str | None, BeforeValidator(_ring_size, json_schema_input_type=str | int)] = Field(
        default=None,
        description="Receive ring of each connection, a power of two of at least 64KiB; `auto` is the default.",
    )
    max_message: _Size | None = Field(default=None, description="Largest message accepted.")
    batch: _Duration | None = Field(default=None, description="Longest time before a message is journalled.")
    batch_size: _Size | None = Field(default=None, description="Bytes that are journalled at once.")
    fsync: _Duration | None = Field(default=None, description="Time between two syncs of the journal.")
    takeover: bool | None = Field(default=None, description="Take over from the recorder that holds the folder.")
    if_free: bool | None = Field(default=None, description="End with status 0 where another recorder holds the folder.")
    reserve: _Size | None = Field(default=None, description="Disk space to keep free for others.")
    json_: bool | None = Field(default=None, alias="json", description="Print the summary as JSON.")
    quiet: bool | None = Field(default=None, description="Say nothing unless something is wrong.")

    @field_validator("feeds")
    @classmethod
    def _some(cls, feeds: tuple[RunFeed, ...]) -> tuple[RunFeed, ...]:
        if not feeds:
            raise ValueError("expected at least one feed")
        return feeds

    @field_validator("out", "ca_file")
    @classmethod
    def _is_path(cls, path: Path | None) -> Path | None:
        if path is not None and ("\0" in str(path) or not str(path).strip()):
            raise ValueError("expected a path")
        return path

    @field_validator("proxy")
    @classmethod
    def _is_proxy(cls, proxy: str | None) -> str | None:
        return None if proxy is None else check_proxy(proxy)

    @field_validator("max_message")
    @classmethod
    def _fits(cls, size: int | None) -> int | None:
        try:
            return None if size is None else check_message_size(size)
        except ValueError as error:
            raise ValueError(f"expected another size: {error}") from error

    @model_validator(mode="after")
    def _one_end(self) -> Run:
        if self.duration is not None and self.until is not None:
            raise ConflictError(("until",), "found it beside duration, expected one of them")
        if self.proxy is not None and self.no_proxy:
            raise ConflictError(("no-proxy",), "found it beside proxy, expected one of them")
        return self


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run config, ready for `wsrec record`: paths in it are relative to its folder.

    Attributes:
        wanted: the feeds.
        settings: values of options by the options' names, without those that the file leaves out.
        proxy_at: `FILE:LINE: KEY` of `proxy`, whose `${NAME}` is filled in only where no option overrides it.

    """

    wanted: tuple[Wanted, ...]
    settings: dict[str, Any]
    proxy_at: str = ""


def load_run(path: Path) -> RunConfig | None:
    """Read a run config; None where the YAML file is a feed's. They are told apart by their keys.

    Raises:
        ConfigError: it cannot be read, is no valid run config, or a mixture of both; one line
            `FILE:LINE: KEY: found, expected` an error.

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
    document.fill_in(_kept)
    run = document.into(Run)
    folder = path.parent
    settings = {key: value for key, name in _RUN_KEYS.items() if (value := getattr(run, name)) is not None}
    del settings["feeds"]
    for key in _PATHS & settings.keys():
        settings[key] = folder / settings[key]
    wanted = tuple(_wanted(feed, folder, document.at("feeds", number)) for number, feed in enumerate(run.feeds))
    return RunConfig(wanted=wanted, settings=settings, proxy_at=document.at("proxy"))


def run_schema() -> dict[str, Any]:
    """The JSON Schema of a run config, for editors."""
    schema = Run.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "wsrec run"}


_RUN_KEYS = {field.alias or name: name for name, field in Run.model_fields.items()}
_PATHS = {"out", "ca-file"}


def _kept(where: Location, text: str) -> bool:
    """Whether `${NAME}` stays: in addresses, which have it replaced when connecting, and in what is sent."""
    if where == ("proxy",):
        return True
    if where[0] != "feeds":
        return False
    return where[2:3] == ("subscribe",) or (where[2:] in ((), ("feed",)) and "://" in text)


def _wanted(feed: RunFeed, folder: Path, where: str) -> Wanted:
    is_path = feed.feed.endswith((".yaml", ".yml")) or ("/" in feed.feed and "://" not in feed.feed)
    return Wanted(
        target=str(folder / feed.feed) if is_path else feed.feed,
        name=feed.name,
        symbols=tuple(f"@{folder / text[1:]}" if text.startswith("@") else text for text in feed.symbols),
        channels=feed.channels,
        subscribe=feed.subscribe,
        where=f"{where}: ",
    )
