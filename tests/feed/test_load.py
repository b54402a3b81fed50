from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.feeds import parse_feed
from wsrec.feed.document import MAX_BYTES
from wsrec.feed.errors import ConfigError
from wsrec.feed.load import catalogue, find_feed, load_feed
from wsrec.feed.schema import Feed

BINANCE = catalogue()["binance"].read_bytes()
SMALL = "name: x\ndescription: d\nsockets:\n  main:\n    url: wss://x.y/z\n"


def complaint(text):
    with pytest.raises(ConfigError) as caught:
        parse_feed(text if isinstance(text, bytes) else text.encode(), "f.yaml")
    return str(caught.value)


class TestComplaints:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (SMALL + "nmae: y\n", "f.yaml:6: nmae: found an unknown key, did you mean `name`?"),
            (SMALL + "zzz: y\n", "f.yaml:6: zzz: found an unknown key, expected one that `wsrec feeds schema` names"),
            (
                SMALL + "keep_alive: {evry: 3, pign: true}\n",
                "f.yaml:6: keep_alive.evry: found an unknown key, did you mean `every`?",
            ),
            (
                SMALL + "channels:\n  t: {topic: a, sequnce: next}\n",
                "f.yaml:7: channels.t.sequnce: found an unknown key, did you mean `sequence`?",
            ),
            (
                SMALL + "channels:\n  t: {topic: a, common: tradez}\n",
                "f.yaml:7: channels.t.common: found 'tradez', expected trades, book, bbo or ticker, "
                "did you mean `trades`?",
            ),
            (SMALL.replace("wss://x.y/z", "http://x"), "f.yaml:5: sockets.main.url: found 'http://x', expected ws://"),
            ("name: x\ndescription: d\n", "f.yaml:1: sockets: found nothing, expected a value"),
            (SMALL.replace("name: x", "name: ../x"), "f.yaml:1: name: found '../x', "),
            (SMALL + "keep_alive: {every: -1}\n", "f.yaml:6: keep_alive.every: found -1, expected greater than 0"),
            (SMALL + "default_symbols: [A]\n", "f.yaml:6: default_symbols: found no symbols, expected them"),
            (SMALL + "fields: {channel: [a..b]}\n", "f.yaml:6: fields.channel.0: found 'a..b', "),
        ],
    )
    def test_name_line_key_found_and_expected(self, text, expected):
        assert complaint(text).startswith(expected)

    def test_name_the_key_that_contradicts_another(self):
        text = BINANCE.decode().replace("    common: book\n", "    common: trades\n")
        line = (
            text.split("\n").index("    common: trades", text[: text.index("depth@100ms:\n    desc")].count("\n")) + 1
        )
        expected = "channels.depth@100ms.common: found 'trades', which is trade already"
        assert complaint(text) == f"f.yaml:{line}: {expected}"

    def test_come_all_at_once(self):
        lines = complaint("name: X Y\ndescription: 5\nsockets: {}\n").split("\n")
        assert [line.split(":")[1] for line in lines] == ["1", "2", "3"]

    def test_hold_no_control_characters(self):
        assert complaint(SMALL + '"\\e[31mkey": 1\n').isprintable()


class TestYaml:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("name: [x\ndescription: y", "f.yaml:2: column 12: "),
            ("name: x\nname: y\n", "f.yaml:2: column 1: name: found twice, expected once (first in line 1)"),
            ("a: &a [x]\nb: *a\n", "f.yaml:2: column 4: found an alias"),
            ("name: 2001-01-01\n", "f.yaml:1: column 7: found '2001-01-01' (read as timestamp), quote it"),
            ("name: !!python/object:os.system x\n", "f.yaml:1: column 7: found the tag '!!python/object:os.system'"),
            ("a: 1\nname: !!python/object/apply:os.system [x]\n", "f.yaml:2: column 7: found the tag '!!python/object"),
            ("name: !!python/dict {x: y}\n", "f.yaml:1: column 7: found the tag '!!python/dict'"),
            ("name: !mine {x: y}\n", "f.yaml:1: column 7: found the tag '!mine'"),
            ("name: !%0A {x: y}\n", "f.yaml:1: column 7: found the tag '!\\n'"),
            ("!!set {x}\n", "f.yaml:1: column 1: found the tag '!!set'"),
            ("!!int name: x\n", "f.yaml:1: column 1: found the tag '!!int'"),
            ("name: !!int x\n", "f.yaml:1: column 7: found the tag '!!int', expected the value without a tag"),
            ("name: !!str 5\n", "f.yaml:1: column 7: found the tag '!!str'"),
            ('name: !!int "5"\n', "f.yaml:1: column 7: found the tag '!!int'"),
            ("name: ! 5\n", "f.yaml:1: column 7: found the tag '!'"),
            ("? [a]\n: b\n", "f.yaml:1: column 3: found a structure as a key"),
            ("name: \x07\n", "f.yaml:1: found a control character"),
            (b"name: x\n\xff\n", "f.yaml:2: found bytes that are not UTF-8"),
            ("", "f.yaml:1: found nothing, expected keys and values"),
            ("--- 1\n--- 2\n", "f.yaml:2: column 1: "),
            ("[" * 100_000, "f.yaml:1: column 21: found more than 20 levels"),
            (b" " * (MAX_BYTES + 1), "f.yaml:1: found more than 1 MiB"),
        ],
    )
    def test_that_is_refused(self, text, expected):
        assert complaint(text).startswith(expected)

    def test_tags_that_change_nothing_are_welcome(self):
        text = SMALL.replace("name: x", '!!str name: !!str x\nhomepage: !!str "https://x.y"')
        feed = parse_feed(("!!map\n" + text + "default_symbols: !!seq []\n").encode(), "f")
        assert (feed.name, feed.homepage) == ("x", "https://x.y")

    def test_bom_and_windows_lines_are_welcome(self):
        assert parse_feed(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode(), "f").name == "x"

    @given(st.text() | st.binary())
    def test_anything_gives_a_feed_or_a_line(self, text):
        feed_or_line(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))

    @given(
        st.integers(0, len(BINANCE)), st.integers(0, 40), st.binary(max_size=8) | st.text(" -:[]{}&*!'\"\n", max_size=8)
    )
    def test_mutations_give_a_feed_or_a_line(self, at, cut, put):
        put = put if isinstance(put, bytes) else put.encode()
        feed_or_line(BINANCE[:at] + put + BINANCE[at + cut :])


def feed_or_line(data):
    try:
        assert isinstance(parse_feed(data, "f.yaml"), Feed)
    except ConfigError as error:
        assert all(re.match(r"f\.yaml:\d+: ", line) for line in str(error).split("\n"))  # noqa: PT017


class TestFiles:
    @pytest.mark.parametrize("path", [Path("/nowhere.yaml"), Path("/"), Path("a\0b.yaml")])
    def test_that_cannot_be_read(self, path):
        with pytest.raises(ConfigError):
            load_feed(path)

    def test_a_fifo_is_refused_and_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "x.yaml")
        with pytest.raises(ConfigError, match=r"x\.yaml', which is not a regular file, expected a feed's YAML"):
            load_feed(tmp_path / "x.yaml")

    def test_a_device_is_refused(self):
        with pytest.raises(ConfigError, match="/dev/zero', which is not a regular file"):
            load_feed(Path("/dev/zero"))

    def test_is_named_in_complaints(self, tmp_path):
        (tmp_path / "my.yaml").write_text("name: x")
        with pytest.raises(ConfigError, match=r"my\.yaml:1: "):
            load_feed(tmp_path / "my.yaml")


class TestCatalogue:
    @pytest.mark.parametrize("name", catalogue())
    def test_file_is_named_after_its_feed(self, name):
        assert find_feed(name).name == name

    @pytest.mark.parametrize("name", catalogue())
    def test_editors_find_the_schema(self, name):
        assert catalogue()[name].read_text().startswith("# yaml-language-server: $schema=feed.schema.json\n")

    def test_unknown_feed_names_near_ones(self):
        with pytest.raises(ConfigError, match=r"no feed 'binanse': did you mean `binance`.*wsrec feeds list"):
            find_feed("binanse")
