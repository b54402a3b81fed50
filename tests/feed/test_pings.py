"""Pings that come as messages: what a feed may declare, and which message is one."""

from __future__ import annotations

import gzip
import json
import re
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from wsrec.feed.errors import ConfigError
from wsrec.feed.load import load_feed
from wsrec.feed.pings import find_ping
from wsrec.monitor.samples import Sample, read_samples
from wsrec.plan.connections import Answer

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
    def test_by_the_whole_message(self, load):
        feed = load("{message: 'ping {value}', text: 'pong {value}', encoding: gzip}")
        samples = [Sample("a", b"ping 1"), Sample("b", gzip.compress(b"ping 1"), True), Sample("c", b"ping")]
        assert [reading.role for reading in read_samples(feed, samples)] == ["ping", "ping", ""]

    @pytest.mark.parametrize(
        ("answer", "complaint"),
        [
            ("{text: Pong}", "expected one of path and message"),
            ("{path: ping, message: Ping, text: Pong}", "expected one of path and message"),
            ("{message: Ping, match: x, text: Pong}", r"match: found it beside message"),
            ("{message: Ping, value: x, text: Pong}", r"value: found it beside message"),
            ("{message: Ping, text: 'Pong {value}'}", r"found \{value\}"),
            ("{message: '', text: Pong}", "each message would be a ping"),
            ("{message: '{value}', text: Pong}", "each message would be a ping"),
            ("{message: 'p {value} {value}', text: Pong}", r"found \{value\} 2 times, expected it once at most"),
            ("{message: 'ping {id}', text: Pong}", r"found \{id\}, expected \{value\}"),
            ("{message: Ping, text: Pong, encoding: zip}", "encoding"),
        ],
    )
    def test_an_answer_that_cannot_work_is_refused(self, load, answer, complaint):
        with pytest.raises(ConfigError, match=complaint):
            load(answer)


class TestFound:
    @settings(max_examples=examples(60))
    @given(st.text(), st.text(), st.text(), st.sampled_from([bytes, gzip.compress, zlib.compress, raw_deflate]))
    def test_a_text_is_found_however_it_is_packed(self, before, value, behind, pack):
        before = f"ping {before}".replace("{", "")
        rule = Answer(message=before + "{value}" + behind.replace("{", ""), text="", max_bytes=65536)
        found = find_ping([rule], pack((before + value + behind.replace("{", "")).encode()))
        assert found is not None
        assert found[1] == value

    @settings(max_examples=examples(60))
    @given(st.text(alphabet="ab"), st.text(alphabet="ab"), st.text(alphabet="ab"))
    def test_what_begins_and_ends_so_is_found_alone(self, before, behind, text):
        rule = Answer(message=f"{before}{{value}}{behind}", text="")
        fits = re.fullmatch(f"{before}(.*){behind}", text)
        assert find_ping([rule], text.encode()) == (fits and (rule, fits[1]))

    def test_signs_stand_for_themselves(self):
        rules = [Answer(message=text, text="") for text in ("(a+)+", "{x}.", "[{value}\\")]
        found = [find_ping(rules, message) for message in (b"a" * 100 + b"!", b"(a+)+", b"{x}.", b"[a]\\", b"{x}!")]
        assert found == [None, (rules[0], ""), (rules[1], ""), (rules[2], "a]"), None]

    @pytest.mark.parametrize("pack", [bytes, gzip.compress, zlib.compress, raw_deflate])
    def test_no_longer_than_declared_also_unpacked(self, pack):
        rules = [Answer(message="ping {value}", text="", max_bytes=limit) for limit in (200, 50_000)]
        for size, expected in ((195, rules[0]), (196, rules[1]), (49_995, rules[1]), (49_996, None)):
            found = find_ping(rules, pack(b"ping " + b"x" * size))
            assert (found and found[0]) is expected

    @settings(max_examples=examples(60))
    @given(st.text(st.characters(exclude_categories=())))
    def test_what_is_repeated_can_be_sent(self, value):
        found = find_ping([Answer(path="a", text="", value="a", max_bytes=9999)], json.dumps({"a": value}).encode())
        assert found is not None
        assert json.loads(found[1].encode()) == value

    @settings(max_examples=examples(60))
    @given(st.text(min_size=1) | st.integers() | st.booleans())
    def test_so_is_json(self, value):
        found = find_ping([Answer(path="a.ping", text="", value="a.ping")], json.dumps({"a": {"ping": value}}).encode())
        assert found is not None
        assert json.loads(found[1]) == value

    @settings(max_examples=examples(60))
    @given(st.binary())
    def test_nothing_else_is(self, payload):
        rules = [Answer(message="never this", text=""), Answer(path="no.such", text="")]
        assert find_ping(rules, payload) is None

    def test_the_first_that_fits(self):
        rules = [Answer(path="op", match=match, text=match) for match in ("x", "1", "true")]
        assert [find_ping(rules, text)[0].text for text in (b'{"op":1}', b'{"op":true}', b'{"op":"x"}')] == [
            "1",
            "true",
            "x",
        ]
