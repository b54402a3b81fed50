"""wsrec.config.run_config: one YAML for a recording; what is wrong with it is named by file, line and key."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from wsrec.cli.record import record
from wsrec.config.run_config import Run, RunFeed, load_run, run_schema
from wsrec.feed.errors import ConfigError
from wsrec.feed.load import catalogue
from wsrec.feed.shard import Shard
from wsrec.options.option import declared
from wsrec.options.record import SECTIONS

ROOT = Path(__file__).parents[2]
WHOLE = """
out: captures
rotate: 15m,512MB
duration: 1h30m
until-close: true
shard: 3/16
cpu: [2, 3]
writer-cpu: 4
rt-priority: 50
wait: adaptive
tls: auto
ca-file: ca.pem
ring-size: 16MiB
max-message: 1MiB
batch: 50ms
batch-size: 1MiB
fsync: 2s
takeover: true
if-free: false
reserve: 10GB
json: true
quiet: true
feeds:
  - feed: binance
    symbols: [BTC/USDT, "@symbols.txt"]
    channels: trades, book
  - ./mine.yaml
  - feed: wss://host/path?token=${TOKEN}
    subscribe: '{"op":"subscribe"}'
"""


PAGE = ROOT / "docs" / "reference" / "configs.md"


def key_tables() -> tuple[str, str]:
    """The page's tables: the keys of a run config, and those of its feeds."""
    schema = run_schema()
    shown = {each.key: (each.shown_default, each.option.default) for each in declared(*SECTIONS)}

    def table(model: dict[str, Any]) -> str:
        rows = ["| key | meaning | default |", "| --- | --- | --- |"]
        for key, value in model["properties"].items():
            default, words = shown.get(key, ("", ""))
            cell = "required" if key in model["required"] else words or (f"`{default}`" if default else "")
            rows.append(f"| `{key}` | {value['description']} | {cell} |".replace("|  |", "| |"))
        return "\n".join(rows) + "\n"

    return table(schema), table(schema["$defs"]["RunFeed"])


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return load_run(path)

    return load


@pytest.fixture
def complaint(load, tmp_path):
    def complaint(text):
        with pytest.raises(ConfigError) as caught:
            load(text)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return complaint


class TestSettings:
    def test_are_the_options_by_their_names(self, load, tmp_path, monkeypatch):
        monkeypatch.delenv("TOKEN", raising=False)
        settings = load(WHOLE).settings
        assert settings == {
            "out": str(tmp_path / "captures"),
            "rotate": (900, 512 * 10**6),
            "duration": 5400,
            "until_close": True,
            "shard": Shard(3, 16),
            "cpu": (2, 3),
            "writer_cpu": (4,),
            "rt_priority": 50,
            "wait": "adaptive",
            "tls": "auto",
            "ca_file": str(tmp_path / "ca.pem"),
            "ring_size": 16 << 20,
            "max_message": 1 << 20,
            "batch": 0.05,
            "batch_size": 1 << 20,
            "fsync": 2,
            "takeover": True,
            "if_free": False,
            "reserve": 10**10,
            "json": True,
            "quiet": True,
        }

    def test_every_option_of_record_is_a_key(self):
        options = {opt.removeprefix("--") for each in record.params for opt in each.opts if opt.startswith("--")}
        keys = {field.alias for field in Run.model_fields.values()}
        of_feeds = {field.alias for field in RunFeed.model_fields.values()}
        assert options <= keys | of_feeds
        assert keys - options == {"feeds"}

    def test_until_needs_no_quotes_for_a_time_of_day(self, load):
        until = load("until: 16:05\nfeeds: [demo]\n").settings["until"]
        assert until > datetime.now(UTC)
        assert (until.hour, until.minute) == (16, 5)

    @pytest.mark.parametrize(("cpu", "cpus"), [("2", (2,)), ("2,3", (2, 3)), ("[2]", (2,)), ('["2", 3]', (2, 3))])
    def test_processors(self, load, cpu, cpus):
        assert load(f"cpu: {cpu}\nfeeds: [demo]\n").settings["cpu"] == cpus

    def test_those_left_out_are_absent(self, load):
        assert load("feeds: [demo]\n").settings == {}


class TestFeeds:
    def test_paths_are_relative_to_the_file(self, load, tmp_path):
        binance, mine, url = load(WHOLE).wanted
        assert binance.symbols == ("BTC/USDT", f"@{tmp_path}/symbols.txt")
        assert binance.channels == ("trades", "book")
        assert mine.target == str(tmp_path / "mine.yaml")
        assert url.target == "wss://host/path?token=${TOKEN}"
        assert url.subscribe == ('{"op":"subscribe"}',)

    def test_what_is_wrong_with_one_has_its_line(self, load):
        (_, feed) = load("feeds:\n  - binance\n  - feed: binanse\n").wanted
        with pytest.raises(ConfigError, match=r"run\.yaml:3: feeds\.1: no feed 'binanse': did you mean `binance`"):
            feed.resolved()


class TestEnvironment:
    def test_is_read_for_values(self, load, tmp_path, monkeypatch):
        monkeypatch.setenv("PLACE", "there")
        monkeypatch.setenv("SHARE", "2/4")
        monkeypatch.setenv("CPU", "1")
        run = load(
            "out: ${PLACE}/x\nshard: ${SHARE}\nwriter-cpu: ${CPU}\nfeeds: [{feed: binance, symbols: '${PLACE}'}]\n"
        )
        assert run.settings == {"out": str(tmp_path / "there/x"), "shard": Shard(2, 4), "writer_cpu": (1,)}
        assert run.wanted[0].symbols == ("there",)

    def test_a_name_is_spelled_out(self, complaint):
        assert complaint('feeds: [{feed: "ws://h/p", name: "../one"}]\n') == (
            "run.yaml:1: feeds.0.name: found '../one', expected a-z, 0-9, dots and dashes, at most 64"
        )

    def test_what_it_lacks_is_named(self, complaint, monkeypatch):
        monkeypatch.delenv("NOWHERE", raising=False)
        assert complaint("feeds: [demo]\nout: ${NOWHERE}\n") == (
            "run.yaml:2: out: found ${NOWHERE}, expected NOWHERE in the environment"
        )

    @pytest.mark.parametrize(
        "text",
        [
            "duration: ${SECRET}\nfeeds: [demo]\n",
            "writer-cpu: ${SECRET}\nfeeds: [demo]\n",
            "cpu: ['${SECRET}']\nfeeds: [demo]\n",
            "shard: ${SECRET}\nfeeds: [demo]\n",
            "tls: ${SECRET}\nfeeds: [demo]\n",
            "quiet: ${SECRET}\nfeeds: [demo]\n",
            "feeds: ${SECRET}\n",
            "feeds: [{feed: 'wss://h', subscribe: '${SECRET}'}]\n",
        ],
    )
    def test_errors_do_not_show_it(self, complaint, monkeypatch, text):
        monkeypatch.setenv("SECRET", "hunter2")
        stated = complaint(text)
        assert "hunter2" not in stated
        assert re.match(r"run\.yaml:1: ", stated)


class TestComplaints:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("feeds: []\n", "run.yaml:1: feeds: found a list, expected "),
            ("out: x\n", "run.yaml:1: feeds: found nothing, expected a value"),
            (
                "feeds: [demo]\nwriter_cpu: 3\n",
                "run.yaml:2: writer_cpu: found an unknown key, did you mean `writer-cpu`?",
            ),
            (
                "feeds:\n - feed: a\n   symbol: A\n",
                "run.yaml:3: feeds.0.symbol: found an unknown key, did you mean `symbols`?",
            ),
            (
                "feeds: [demo]\ntls: stampd\n",
                "run.yaml:2: tls: found 'stampd', expected auto, direct, stamped, ktls or openssl, did you mean "
                "`stamped`?",
            ),
            ("feeds: [demo]\nduration: abc\n", "run.yaml:2: duration: found 'abc', expected 30s, 10m"),
            ("feeds: [demo]\nduration: 0s\n", "run.yaml:2: duration: found '0s', expected 30s, 10m"),
            (
                "feeds: [demo]\nring-size: 1000\n",
                "run.yaml:2: ring-size: found 1000, expected a power of two",
            ),
            (
                "feeds: [demo]\nmax-message: 2GiB\n",
                "run.yaml:2: max-message: found '2GiB', expected a size of at most 1GiB",
            ),
            ("feeds: [demo]\ncpu: x\n", "run.yaml:2: cpu: found 'x', expected processor numbers"),
            ("feeds: [demo]\ncpu: []\n", "run.yaml:2: cpu: found a list, expected processor numbers"),
            (
                "feeds: [demo]\nshard: 4/3\n",
                "run.yaml:2: shard: found '4/3', expected NUMBER/OF with a NUMBER",
            ),
            ("feeds: [demo]\ntls: none\n", "run.yaml:2: tls: found 'none', expected auto, direct, stamped"),
            (
                "feeds: [demo]\nrt-priority: 100\n",
                "run.yaml:2: rt-priority: found 100, expected less",
            ),
            ("feeds: [demo]\nuntil: 25:00\n", "run.yaml:2: until: found '25:00', expected 17:30"),
            (
                'feeds: [demo]\nuntil: "2020-01-01"\n',
                "run.yaml:2: until: found '2020-01-01', expected a time",
            ),
            (
                "feeds: [demo]\nduration: 1s\nuntil: 17:30\n",
                "run.yaml:3: until: found it beside duration",
            ),
            ("feeds: [{feed: a, symbols: []}]\n", "run.yaml:1: feeds.0.symbols: found a list, expected at"),
            (
                "feeds:\n - feed: a\n   symbols: 'A,,B'\n",
                "run.yaml:3: feeds.0.symbols: found 'A,,B', expected",
            ),
            ("feeds:\n - symbols: A\n", "run.yaml:2: feeds.0.feed: found nothing, expected a value"),
            ('feeds: [demo]\nout: "\\0"\n', "run.yaml:2: out: found '\\x00', expected a path"),
        ],
    )
    def test_name_line_key_found_and_expected(self, complaint, text, expected):
        assert complaint(text).startswith(expected)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                "feeds: [demo]\nname: x\n",
                "run.yaml:2: name: found a feed's key in a run config",
            ),
            ("name: x\nsockets: {}\nout: y\n", "run.yaml:3: out: found a run's key in a feed"),
        ],
    )
    def test_a_mixture_of_feed_and_run(self, complaint, text, expected):
        assert complaint(text).startswith(expected)

    @pytest.mark.parametrize("name", catalogue())
    def test_a_feed_is_no_run(self, name):
        assert load_run(ROOT / "configs" / f"{name}.yaml") is None


class TestSchema:
    def test_file_for_editors_is_current_and_no_feed(self):
        stored = json.loads((ROOT / "configs" / "run.schema.json").read_text())
        assert stored == run_schema(), "run: wsrec feeds schema --run > configs/run.schema.json"
        assert not any("schema" in name for name in catalogue())

    def test_every_key_is_described_there_and_in_the_docs(self):
        text = PAGE.read_text()
        for table in key_tables():
            assert table in text, "run scripts/update-docs"

    def test_the_pages_examples_load(self, load, monkeypatch):
        monkeypatch.setenv("SHARD", "1/2")
        page = PAGE.read_text()
        examples = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        assert examples
        for example in examples:
            assert load(example).wanted
            assert yaml.safe_load(example)["feeds"]
