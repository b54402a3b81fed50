"""Exchanges for the catalogue's tests: each speaks its venue's conversation, and is as strict as the venue is.

A venue is a subclass of `Venue` in a file of its own. `local_copy` points a feed of the catalogue at it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import pytest
import yaml
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.conftest import SHARED_DATA, Wsrec, events_of, messages_of, received
from tests.exchange import Handler
from wsrec.feed.load import catalogue

Frame = str | bytes


class Refusal(Exception):  # noqa: N818 (what an exchange does, not what went wrong here)
    """The venue closes the connection with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Venue:
    """One venue's conversation; a handler for `tests.exchange.Exchange`.

    Attributes:
        idle_limit: seconds without a message from a client after which it is disconnected; None: never.
        requests: what clients sent, in order.
        sent: what it sent, in order.
        dropped: clients that were cut off because they gave no sign of life.
        disputed: topics that it refused together with others, and that were not settled alone since.

    """

    idle_limit: float | None = None

    def __init__(self) -> None:
        self.requests: list[Frame] = []
        self.sent: list[Frame] = []
        self.dropped = 0
        self.disputed: set[str] = set()

    def greeting(self) -> Iterator[Frame]:
        """What it says first."""
        yield from ()

    def answer(self, request: Frame) -> Iterator[Frame]:
        """What it says to a message: acknowledgements, errors, pongs, and the data of what was requested.

        Raises:
            Refusal: the venue would close.

        """
        yield from ()

    def is_life(self, request: Frame) -> bool:
        """Whether a message keeps the connection open."""
        return False

    def refuse(self, topics: Sequence[str]) -> None:
        """Notes that it refused a request for these topics."""
        if len(topics) > 1:
            self.disputed.update(topics)
        else:
            self.disputed.difference_update(topics)

    def drop(self) -> None:
        """Counts a client that gave no sign of life, before the connection to it is closed."""
        self.dropped += 1

    async def beside(self, connection: ServerConnection) -> None:
        """What it does by itself meanwhile: its own pings, closing notices."""

    async def say(self, connection: ServerConnection, frame: Frame) -> None:
        """Sends a frame, and counts it among `sent` unless the connection was closed by then."""
        self.sent.append(frame)
        place = len(self.sent) - 1
        try:
            await connection.send(frame)
        except ConnectionClosed:
            del self.sent[place]
            raise

    async def __call__(self, connection: ServerConnection) -> None:
        for frame in self.greeting():
            await self.say(connection, frame)
        beside = asyncio.ensure_future(self.beside(connection))
        try:
            await self._converse(connection)
        except Refusal as refusal:
            # nothing is sent after it, since messages during the closing handshake would not be delivered
            beside.cancel()
            await connection.close(refusal.code, str(refusal))
        finally:
            beside.cancel()

    async def _converse(self, connection: ServerConnection) -> None:
        loop = asyncio.get_running_loop()
        last_message = loop.time()
        while True:
            left = None if self.idle_limit is None else last_message + self.idle_limit - loop.time()
            try:
                request = await asyncio.wait_for(connection.recv(), left)
            except TimeoutError:
                self.drop()
                raise Refusal(1008, "no sign of life") from None
            except ConnectionClosed:
                return
            self.requests.append(request)
            if self.is_life(request):
                last_message = loop.time()
            with contextlib.suppress(ConnectionClosed):
                for frame in self.answer(request):
                    await self.say(connection, frame)


class Replayed(Venue):
    """Sends what was received in a session of the past, once as many requests have come, and closes normally."""

    def __init__(self, messages: Sequence[Frame], requests: int) -> None:
        super().__init__()
        self.messages, self.wanted = messages, requests

    def answer(self, request: Frame) -> Iterator[Frame]:
        if len(self.requests) == self.wanted:
            yield from self.messages
            raise Refusal(1000, "done")


def by_path(venues: Mapping[str, Venue]) -> Handler:
    """A handler for a venue with several addresses on one host; other paths are closed at once."""

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        venue = venues.get(connection.request.path)
        await (venue(connection) if venue else connection.close(1008, "no such path"))

    return handler


def of_today(name: str) -> list[str]:
    """A real message (`okx/ws_trades`), as it is kept beside the project; none where it is not there."""
    path = SHARED_DATA / "messages" / f"{name}.json"
    return [path.read_text()] if path.exists() else []


def received_in_session(name: str) -> list[str]:
    """What an exchange sent in a recorded session, in order; skips the test where that is not beside the project."""
    path = SHARED_DATA / "sessions" / f"{name}.txt.gz"
    if not path.exists():
        pytest.skip(f"real sessions are not beside the project: {path}")
    with gzip.open(path, "rt") as lines:
        return [found[1] for line in lines if (found := re.fullmatch(r"[\d.]+: (.*)\n", line))]


def local_copy(feed: str, url: str, folder: Path, **changes: Any) -> Path:
    """A feed of the catalogue whose sockets are at the host of `url`, paths kept; `changes` replace keys at its top."""
    config = feed_keys(feed)
    # what its captures are of can be served here all the same
    config.pop("closed", None)
    # what lists its instruments is another host
    config.pop("instruments", None)
    scheme, host, *_ = urlsplit(url)
    for socket in config["sockets"].values():
        _, _, path, query, _ = urlsplit(socket["url"])
        socket["url"] = urlunsplit((scheme, host, path, query, ""))
    config.update(changes)
    # real messages are from long ago
    config["fields"] = {"time_tolerance": 3e9, **config["fields"]}
    path = folder / f"{feed}.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    return path


def feed_keys(feed: str) -> dict[str, Any]:
    """What stands in the file of a feed of the catalogue."""
    config: dict[str, Any] = yaml.safe_load(catalogue()[feed].read_text())
    return config


class Recording(NamedTuple):
    """What `recorded` left behind.

    Attributes:
        status: the exit status.
        payloads: of the messages that came, in order.
        fields: channel, symbol, exchange_time (ns), exchange_seq of each of them.
        acked: topics that the venue confirmed.
        refused: topics that it refused and its words, in order.
        events: every other event: its kind, topic or channel and symbol.

    """

    status: int
    payloads: list[bytes]
    fields: list[tuple[str | None, str | None, int | None, int | None]]
    acked: set[str]
    refused: list[tuple[list[str], str]]
    events: list[dict[str, Any]]


def recorded(wsrec: Wsrec, feed: Path, *options: object) -> Recording:
    """Records `feed` beside its file until the venue closes normally."""
    out = feed.parent / "out"
    result = wsrec.run("record", feed, "--until-close", "--out", out, "--quiet", *options)
    assert (out / "messages").is_dir(), result.stderr
    table = messages_of(out)
    came = table.filter(
        [
            way == "recv" and kind in ("text", "binary")
            for way, kind in zip(table["direction"].to_pylist(), table["opcode"].to_pylist(), strict=True)
        ]
    )
    names = ("channel", "symbol", "exchange_time", "exchange_seq")
    columns = [came[name].cast("int64") if name == "exchange_time" else came[name] for name in names]
    events = events_of(out)
    return Recording(
        status=result.returncode,
        payloads=received(table),
        fields=list(zip(*(column.to_pylist() for column in columns), strict=True)),
        acked={topic for event in events if event["kind"] == "ack" for topic in event["detail"]["topics"]},
        refused=[(e["detail"]["topics"], e["detail"]["message"]) for e in events if e["kind"] == "refused"],
        events=events,
    )
