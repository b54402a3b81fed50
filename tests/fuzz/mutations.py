"""Fuzzing by mutation: frames and messages as exchanges send them, spoiled, through every implementation.

    python -m tests.fuzz.mutations --seconds 60 --seed 7

It needs nothing but what the tests need, so it runs where atheris does not (scripts/fuzz), and under the sanitizers
(scripts/sanitize). The input that a finding came of is printed; a seed says which inputs come, in their order.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import random
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from websockets.frames import Frame, Opcode

from tests.fuzz import implementations
from tests.tables.golden import FOLDER, golden
from wsrec.feed.load import catalogue, find_feed

DATA = Path(__file__).parents[3] / "shared" / "data" / "messages"
# where no recorded messages lie beside the project
WRITTEN = [
    b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1672515782136,"s":"BTCUSDT","U":157,"u":160,"pu":149}}',
    b'{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100","T":1672515782136,"m":true,"M":true}',
    b'{"channel":"book","type":"update","data":[{"symbol":"MATIC/USD","bids":[{"price":0.5657,"qty":1098.3947558}]}]}',
    b'{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"ts":"1597026383085","seqId":123456}]}',
    b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1687940967466,"data":{"s":"BTCUSDT","u":177400507,"seq":66544}}',
    b'{"type":"ticker","sequence":37475248783,"product_id":"ETH-USD","time":"2022-10-19T23:28:22.061769Z"}',
    b'[317,[["\\u0041","b\\"c"],{"id":-9223372036854775808,"x":1e400,"y":[[[[]]]],"z":null}],"trade","XBT/USD"]',
]
TOKENS = [
    *(
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b"\\",
        b"\\u",
        b"\\ud800",
        b"null",
        b"true",
        b"-",
        b".",
        b"e",
        b"e9",
        b"\0",
    ),
    *(b"0", b"-0", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"18446744073709551616"),
    *(b"1e308", b"0.0000000001", b"9" * 19, b"9" * 101, b"\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b" " * 63),
    *(b'"e":"trade",', b'"s":"', b'"T":', b"a" * 64, b"[" * 65, b'{"a":' * 65, b"2026-02-29T23:59:60.999999999Z"),
]
# where 64 bits end, as they are and counted in units of ns; with fractions, exponents and signs put to them
EDGES = [2**63] * 6 + [0, 10**18, 10**19, 2**64, 2**63 // 10**9, 2**63 // 10**6, 2**63 // 10**3, 2**31, 2**53]
VALUES = [b"0", b'"0"', b'""', b"null", b"true", b"-1", b'"-0.50"', b"1e3", b'"x"', b"[]", b"{}", b"1e-400", b"-0"]
VALUES += [
    b"12345678901234567890",
    b'"0.1234567890123456789"',
    b'"\\u0041\\ud83d\\ude00"',
    b"[null]",
    b'"1e9999"',
    b'[["1","2"]]',
]
VALUES += [
    b"9" * 400,
    b'"' + b"9" * 101 + b'"',
    b'"2026-02-30T00:00:00Z"',
    b'"buy"',
    b"1.7e12",
    b"{" * 70,
    b'"\\ud800"',
    b'"' + b"a" * 1200 + b'"',
]
_VALUE = re.compile(rb'"[^"]*"|-?[0-9.]+(?:[eE][+-]?[0-9]+)?|true|false|null')
# not those within names: `depth@100ms`
_NUMBER = re.compile(rb"(?<![\w@.-])-?[0-9]+(\.[0-9]+)?(?!\w)")
LENGTHS = [0, 1, 2, 15, 16, 17, 63, 64, 65, 124, 125, 126, 127, 128, 300, 4095, 65_535, 65_536, 70_000]


class Mutations:
    """Inputs without end, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        files = sorted(DATA.rglob("*.json"))
        self._messages = [file.read_bytes() for file in files] or WRITTEN
        self._of_exchange: dict[str, list[bytes]] = {}
        for file in files:
            self._of_exchange.setdefault(file.relative_to(DATA).parts[0], []).append(file.read_bytes())
        # not all: each takes a while to load
        known = [name for name in catalogue() if self._own(name)]
        self._feeds = self._random.sample(known, min(8, len(known))) + self._random.sample(sorted(catalogue()), 4)
        self._edges = self._of_edges()

    def _own(self, feed: str) -> list[bytes]:
        """The messages of a feed's exchange, if there are any."""
        return next((each for name, each in self._of_exchange.items() if feed.startswith(name)), [])

    def message(self, feed: str = "") -> bytes:
        """A message, mostly of a feed's exchange: with other numbers, or spoiled in up to four places."""
        choose = self._random
        found = choose.choice((choose.random() < 0.8 and self._own(feed)) or self._messages)
        if choose.random() < 0.5:
            # what is spoiled anywhere mostly has no fields any more
            return _NUMBER.sub(lambda number: self._number(number[0]), found)
        return self._spoiled(found)

    def _spoiled(self, found: bytes) -> bytes:
        choose, data = self._random, bytearray(found)
        for _ in range(choose.randrange(5)):
            at = choose.randrange(len(data) + 1)
            to = min(len(data), at + choose.choice([1, 1, 2, 8, 64, 1000]))
            data[at:to] = choose.choice(
                [
                    b"",
                    choose.choice(TOKENS),
                    choose.choice(TOKENS) + data[at:to],
                    bytes(byte ^ 1 << choose.randrange(8) for byte in data[at : at + 1]),
                    choose.randbytes(choose.randrange(3)),
                    data[at:to] * 2,
                    self._piece(),
                ]
            )
        # what ends within a value, a character or a word of 64 bytes
        return bytes(data[: choose.randrange(len(data) + 1)] if choose.random() < 0.3 else data)

    def _changed(self, message: bytes) -> bytes:
        """A message with some of its values replaced by others of any kind, or spoiled."""
        if self._random.random() < 0.3:
            return self._spoiled(message)
        several = self._random.choice([1, 1, 2, 5])
        for _ in range(several):
            spans = [found.span() for found in _VALUE.finditer(message)]
            if not spans:
                break
            start, stop = self._random.choice(spans)
            message = message[:start] + self._random.choice(VALUES) + message[stop:]
        return message

    def _number(self, found: bytes) -> bytes:
        """A number at the edge of what fits, in place of every third."""
        choose = self._random
        if choose.random() < 0.67:
            return found
        number = choose.choice([1, 1, -1]) * (choose.choice(EDGES) + choose.randrange(-1, 2))
        return str(number).encode() + choose.choice([b""] * 6 + [b".0", b".5", b".999999999", b"e1", b"E-3", b"0"])

    def _piece(self) -> bytes:
        found = re.findall(rb'"(?:[^"\\]|\\.)*"|[-0-9.]+|[{}\[\]:,]+', self._random.choice(self._messages))
        return self._random.choice(found or [b""])

    def wire(self) -> bytes:
        """Frames as a server sends them, some of whose bytes are others."""
        choose = self._random
        sent = bytearray()
        for _ in range(choose.randrange(1, 12)):
            opcode = choose.choice(list(Opcode) if choose.random() < 0.5 else [Opcode.TEXT, Opcode.BINARY])
            length = choose.choice(LENGTHS) if choose.random() < 0.5 else choose.randrange(200)
            payload = self.message() if choose.random() < 0.5 else choose.randbytes(length)
            control = opcode >= Opcode.CLOSE
            whole = Frame(opcode, payload[:125] if control else payload, fin=control or choose.random() < 0.7)
            sent += whole.serialize(mask=False)
        for _ in range(choose.choice([0, 0, 1, 3])):
            sent[choose.randrange(len(sent))] = choose.randrange(256)
        return bytes(sent)

    def frames(self) -> None:
        """Frames through the hot paths."""
        wire = self.wire()
        cuts = [self._random.randrange(1, len(wire) + 1) for _ in range(self._random.randrange(6))]
        implementations.frames(wire, cuts, validate_text=self._random.random() < 0.5)

    def fields(self) -> None:
        """Messages through the field readers of a feed."""
        feed = self._random.choice(self._feeds)
        payloads = [self.message(feed) for _ in range(self._random.choice([1, 1, 2, 9]))]
        implementations.messages(feed, payloads)

    def rows(self) -> None:
        """Messages through the table readers of a channel, mostly their own."""
        feed = self._random.choice(self._feeds)
        channels, is_rest = _declared(feed), self._random.random() < 0.1
        own = [each for each in _of_tables(feed) if each[0] in channels]
        channel, message = self._random.choice(own or [(self._random.choice(channels), b"{}")])
        payloads = [self._changed(message) for _ in range(self._random.choice([1, 3, 9]))]
        implementations.rows(feed, channel, [message, *payloads, self.message(feed)], is_rest=is_rest)

    def edges(self) -> None:
        """A message as often as it has numbers, each time with another one at its edges; all messages in their turn."""
        feed, message = next(self._edges)
        payloads = [
            message[: found.start()] + b"%d" % edge + message[found.end() :]
            for found in itertools.islice(_NUMBER.finditer(message), 40)
            for edge in (2**63 - 1, -(2**63), 2**63, 2**64 - 1)
        ]
        implementations.messages(feed, payloads or [message])

    def _of_edges(self) -> Iterator[tuple[str, bytes]]:
        while True:
            pairs = [(feed, message) for feed in self._feeds for message in self._own(feed) or WRITTEN]
            self._random.shuffle(pairs)
            yield from pairs


@functools.cache
def _declared(feed: str) -> list[str]:
    """The channels of a feed that make rows."""
    known = find_feed(feed)
    return [name for name in known.channels if known.table_names(name)]


@functools.cache
def _of_tables(feed: str) -> list[tuple[str, bytes]]:
    """Messages with their channels: those of the golden rows, if they are beside the project."""
    if not (FOLDER / f"{feed}.jsonl").exists():
        return []
    known = find_feed(feed)
    names = {alias: name for name, each in known.channels.items() for alias in (name, *each.aliases)}
    return [(names[each.channel], each.payload) for each in golden(feed) if not each.binary and each.channel in names]


def main() -> int:
    """Run until the time is over or something is found."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=time.time_ns())
    chosen = options.parse_args()
    mutations = Mutations(chosen.seed)
    ways = [mutations.frames, mutations.fields, mutations.edges, mutations.rows, mutations.fields, mutations.rows]
    executions, until = 0, time.monotonic() + chosen.seconds
    try:
        while time.monotonic() < until:
            ways[executions % len(ways)]()
            executions += 1
    except Exception:
        print(f"execution {executions} with --seed {chosen.seed}:", file=sys.stderr)
        raise
    print(f"{executions} executions, --seed {chosen.seed}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
