"""Feed YAML of strangers: a feed, or a complaint with line and key; never anything else."""

from __future__ import annotations

import re
import string

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.feeds import parse_feed
from wsrec.feed.errors import ConfigError
from wsrec.feed.load import catalogue
from wsrec.feed.schema import Feed

TEXTS = [path.read_text() for path in catalogue().values()]
_KEYS = sorted(
    {
        *re.findall(r"^\s*(\w+):", TEXTS[0], re.MULTILINE),
        *("capture", "case", "optional", "keep_alive", "every", "text", "answers", "on_connect", "send", "argument"),
        *("unsubscribe", "replaces", "channel_alias", "token", "pair", "perpetual", "currencies", "write", "body"),
    }
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        [
            "(",
            "(a)",
            "{symbol}",
            "{topics}",
            "{arguments:,}",
            "{uuid}{x}",
            "https://h/",
            "wss://h/",
            "ws://[",
            "${X}",
            "1e999",
            "9" * 5000,
            "a" * 3000,
        ]
    )
)
names = st.sampled_from(_KEYS) | st.text(string.ascii_lowercase, max_size=8)
trees = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5))


def read(data: bytes) -> Feed | None:
    """The feed, or None where it was refused as a feed should be."""
    try:
        return parse_feed(data, "mine.yaml")
    except ConfigError as error:
        lines = str(error).split("\n")
        assert lines
        for line in lines:
            assert re.match(r"mine\.yaml:\d+: .", line), line
            assert line.isprintable()
        return None


class TestYaml:
    @settings(deadline=None, max_examples=examples(200))
    @given(st.dictionaries(names, trees, max_size=6))
    def test_any_tree(self, tree):
        read(yaml.safe_dump(tree).encode())

    @settings(deadline=None, max_examples=examples(60))
    @given(st.data())
    def test_a_real_feed_with_a_key_given_something_else(self, data):
        tree = yaml.safe_load(data.draw(st.sampled_from(TEXTS)))
        node = tree
        while True:
            key = data.draw(st.sampled_from(sorted(node)))
            if not isinstance(node[key], dict) or not node[key] or data.draw(st.booleans()):
                break
            node = node[key]
        node[key] = data.draw(trees)
        read(yaml.safe_dump(tree).encode())

    @settings(deadline=None, max_examples=examples(40))
    @given(st.data())
    def test_a_real_feed_with_lines_exchanged_and_cut(self, data):
        lines = data.draw(st.sampled_from(TEXTS)).split("\n")
        for _ in range(data.draw(st.integers(1, 4))):
            at, to = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
            lines[at], lines[to] = lines[to], lines[at][data.draw(st.integers(0, 5)) :]
        read("\n".join(lines).encode())

    @settings(deadline=None)
    @given(st.binary(max_size=300))
    @example(b"? - a\n: b")
    @example(b"a: &x [*x]")
    @example(b"[" * 5000)
    @example(b"{a: " * 5000)
    @example(b"a: !!python/object/apply:os.system [x]")
    @example(b"\xef\xbb\xbfa: 1")
    @example(b"%YAML 9.9\n---\na: 1")
    @example(b"name: 2026-99-99\n")
    @example(b"--- a\n--- b\n")
    def test_any_bytes(self, data):
        read(data)
