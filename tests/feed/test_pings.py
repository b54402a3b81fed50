"""Pings that come as messages: what a feed may declare, and which message is one."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsrec.feed.load import load_feed
from wsrec.feed.pings import find_ping
from wsrec.feed.plan import Answer
from wsrec.feed.samples import Sample, read_samples
from wsrec.feed.schema import ConfigError

FEED = """
name: pinger
description: an exchange that pings
sockets: {main: {url: "wss://h/"}}
fields: {channel: [c]}
keep_alive: {answers: [ANSWER]}
"""


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


@pytest.fixture
def load(tmp_path):
    def with_answer(answer: str):
        path = tmp_path / "pinger.yaml"
        path.write_text(FEED.replace("ANSWER", answer))
        return load_feed(path)

    return with_answer


class TestDeclared:
    def test_by_a_pattern(self, load):
        feed = load("{pattern: 'ping ([0-9]+)', text: 'pong {value}', encoding: gzip}")
        samples = [Sample("a", b"ping 1"), Sample("b", gzip.compress(b"ping 1"), True), Sample("c", b"ping")]
        assert [reading.role for reading in read_samples(feed, samples)] == ["ping", "ping", ""]

    @pytest.mark.parametrize(
        ("answer", "complaint"),
        [
            ("{text: Pong}", "expected one of path and pattern"),
            ("{path: ping, pattern: Ping, text: Pong}", "expected one of path and pattern"),
            ("{pattern: Ping, match: x, text: Pong}", r"match: found it beside pattern"),
            ("{pattern: Ping, value: x, text: Pong}", r"value: found it beside pattern"),
            ("{pattern: Ping, text: 'Pong {value}'}", r"found \{value\}"),
            ("{pattern: '(', text: Pong}", "expected a regular expression"),
            ("{pattern: Ping, text: Pong, encoding: zip}", "encoding"),
        ],
    )
    def test_wrongly(self, load, answer, complaint):
        with pytest.raises(ConfigError, match=complaint):
            load(answer)


class TestFound:
    @settings(max_examples=60)
    @given(st.text(), st.sampled_from([bytes, gzip.compress, zlib.compress, raw_deflate]))
    def test_a_text_is_found_however_it_is_packed(self, text, pack):
        found = find_ping([Answer(pattern="(?s)ping (.*)", text="")], pack(f"ping {text}".encode()))
        assert found is not None
        assert found[1] == text

    @settings(max_examples=60)
    @given(st.text(min_size=1) | st.integers() | st.booleans())
    def test_so_is_json(self, value):
        found = find_ping([Answer(path="a.ping", text="", value="a.ping")], json.dumps({"a": {"ping": value}}).encode())
        assert found is not None
        assert json.loads(found[1]) == value

    @settings(max_examples=60)
    @given(st.binary())
    def test_nothing_else_is(self, payload):
        rules = [Answer(pattern="never this", text=""), Answer(path="no.such", text="")]
        assert find_ping(rules, payload) is None

    def test_the_first_that_fits(self):
        rules = [Answer(path="op", match=match, text=match) for match in ("x", "1", "true")]
        assert [find_ping(rules, text)[0].text for text in (b'{"op":1}', b'{"op":true}', b'{"op":"x"}')] == [
            "1",
            "true",
            "x",
        ]
