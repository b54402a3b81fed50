from __future__ import annotations

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from tests.tables.full_disk import full_disk
from wsrec.cli.feeds import feeds
from wsrec.cli.main import main
from wsrec.config.run_config import run_schema
from wsrec.feed import listing
from wsrec.feed.feed_template import feed_template
from wsrec.feed.load import catalogue, find_feed, load_feed
from wsrec.feed.schema import feed_schema


def run(*args, code=0):
    result = CliRunner().invoke(feeds, args)
    assert result.exit_code == code, result.output
    return result


class TestHelp:
    @pytest.mark.parametrize("command", [[], *([name] for name in feeds.commands)])
    def test_has_an_example(self, command):
        assert "Example: wsrec feeds " in run(*command, "-h").stdout


class TestList:
    def test_json(self):
        assert [feed["name"] for feed in json.loads(run("list", "--json").stdout)] == list(catalogue())

    def test_the_table_has_the_catalogues_feeds(self):
        assert "binance-usdm" in run("list").stdout

    def test_marks_what_is_closed(self):
        closed = {feed["name"]: feed["closed"] for feed in json.loads(run("list", "--json").stdout)}
        assert {name: day for name, day in closed.items() if day} == {"bitmex": "2026-09-23"}
        assert re.search(r"closed\s+2026-09-23", run("list").stdout)


def test_a_feed_of_the_catalogue_is_checked_by_its_name(tmp_path):
    message = tmp_path / "trade.json"
    message.write_text('{"e":"trade","E":1795352400000,"s":"BTCUSDT","t":1,"p":"1","q":"2","T":1795352400000,"m":true}')
    assert "binance: binance, " in run("check", "binance").stdout
    assert ": trades, 1 row" in run("check", "binance", str(message)).stdout


class TestClosed:
    def test_is_shown_and_checked_and_not_planned(self):
        assert "2026-09-23" in run("show", "bitmex").stdout
        assert "no mistakes" in run("check", str(catalogue()["bitmex"])).stdout
        result = run("plan", "bitmex", code=2)
        assert result.stdout == ""
        assert ": bitmex closed on 2026-09-23: " in result.stderr

    def test_is_not_offered_where_one_records(self):
        shell = ShellComplete(main, {}, "wsrec", "_WSREC_COMPLETE")
        offered = [
            [item.value for item in shell.get_completions([*words], "bit")] for words in (["record"], ["feeds", "show"])
        ]
        assert "bitmex" not in offered[0]
        assert "bitmex" in offered[1]


class TestShow:
    def test_the_table_has_the_feeds_channels(self):
        output = run("show", "binance").stdout
        assert "depth@100ms" in output
        assert "wss://stream.binance.com:9443/stream" in output

    def test_json_is_the_feed(self):
        assert json.loads(run("show", "binance", "--json").stdout)["channels"]["trade"]["sequence"] == "next"

    def test_an_unknown_feed_is_answered_with_the_nearest(self):
        assert "did you mean `binance`" in run("show", "binanc", code=2).stderr

    def test_hostile_text_stays_text(self, tmp_path):
        path = tmp_path / "x.yaml"
        path.write_text('name: x\ndescription: "\\e]0;owned\\a [bold]not bold[/]"\nsockets: {m: {url: ws://h}}\n')
        output = run("show", str(path)).stdout
        assert "[bold]not bold[/]" in output
        assert "\x1b" not in output


class TestCheck:
    def test_a_feed_of_the_catalogue_has_no_mistakes(self, tmp_path):
        path = tmp_path / "x.yaml"
        path.write_bytes(catalogue()["binance"].read_bytes())
        assert "no mistakes" in run("check", str(path)).stdout

    def test_bad_names_the_line_on_stderr(self, tmp_path):
        path = tmp_path / "x.yaml"
        path.write_text("name: x\nwhat: 1\n")
        result = run("check", str(path), code=2)
        assert f"{path}:2: what: found an unknown key, expected one" in result.stderr
        assert result.stdout == ""


class TestCheckMessages:
    TRADE = '{"e":"trade","E":1700000000123,"s":"BTCUSDT","p":"1","q":"2","t":7}'

    def check(self, tmp_path, *texts, code=0, options=()):
        for number, text in enumerate(texts):
            (tmp_path / f"{number}.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        files = [str(tmp_path / f"{number}.json") for number in range(len(texts))]
        return run("check", str(catalogue()["binance"]), *files, *options, code=code)

    def test_a_document_a_file_or_a_line_a_message(self, tmp_path):
        document = json.dumps(json.loads(self.TRADE), indent=2)
        lines = self.TRADE + "\n\n" + self.TRADE.replace("7}", "8}") + "\n"
        output = self.check(tmp_path, document, lines).stdout
        assert [re.split(r"  +", line) for line in output.splitlines()[1:5]] == [
            ["message", "channel", "symbol", "exchange_time", "exchange_seq", "first", "previous"],
            ["0.json", "trade", "BTCUSDT", "2023-11-14 22:13:20.123", "7", "-", "-"],
            ["1.json:1", "trade", "BTCUSDT", "2023-11-14 22:13:20.123", "7", "-", "-"],
            ["1.json:3", "trade", "BTCUSDT", "2023-11-14 22:13:20.123", "8", "-", "-"],
        ]

    def test_answers_are_reported(self, tmp_path):
        assert "(answer)" in self.check(tmp_path, '{"result":null,"id":1}').stdout

    def test_json(self, tmp_path):
        (found,) = json.loads(self.check(tmp_path, self.TRADE, options=["--json"]).stdout)["messages"]
        assert found["exchange_time"] == 1700000000123000000
        assert (found["channel"], found["symbol"], found["exchange_seq"]) == ("trade", "BTCUSDT", 7)

    @pytest.mark.parametrize("text", ["nonsense", "[]", b"\xff\x00", '{"other":1}', "[" * 100_000])
    def test_one_that_gives_nothing(self, tmp_path, text):
        assert "no field read from 1 of 1 message" in self.check(tmp_path, text, code=1).stderr

    @pytest.mark.parametrize("text", ["", "\n", b"PAR1 but no more"])
    def test_a_file_without_messages(self, tmp_path, text):
        assert "0.json: " in self.check(tmp_path, text, code=2).stderr

    def test_a_captures_parquet(self, tmp_path):
        file = tmp_path / "x.parquet"
        columns = {
            "seq": [1, 2, 3],
            "direction": ["sent", "recv", "recv"],
            "opcode": ["text", "text", "ping"],
            "text": ["{}", self.TRADE, None],
            "data": [None, None, b"?"],
        }
        pq.write_table(pa.table(columns), file)
        (found,) = json.loads(run("check", str(catalogue()["binance"]), str(file), "--json").stdout)["messages"]
        assert (found["message"], found["exchange_seq"]) == ("x.parquet:2", 7)

    def test_binary_messages_are_read_by_their_types(self, tmp_path):
        deal = b"\x0a\x03" + b"1.5" + b"\x12\x01" + b"2" + b"\x18\x01\x20\xe8\x07"
        body = b"\x0a" + bytes([len(deal)]) + deal
        channel, symbol = b"spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT", b"BTCUSDT"
        frame = b"\x0a" + bytes([len(channel)]) + channel + b"\x1a\x07" + symbol
        frame += b"\xd2\x13" + bytes([len(body)]) + body
        file = tmp_path / "x.parquet"
        columns = {"seq": [1], "direction": ["recv"], "opcode": ["binary"], "text": [None], "data": [frame]}
        pq.write_table(pa.table(columns), file)
        (found,) = json.loads(run("check", str(catalogue()["mexc"]), str(file), "--json").stdout)["messages"]
        assert found["tables"]["trades"][0]["price"] == "1.5"

    def test_a_hostile_message_stays_text(self, tmp_path):
        output = self.check(tmp_path, '{"e":"trade","s":"\\u001b[31m","p":1,"q":2}').stdout
        assert "\x1b" not in output


class TestCheckRun:
    def test_a_run_config_has_no_mistakes(self, tmp_path):
        (tmp_path / "run.yaml").write_text("feeds: [binance, {feed: binance-usdm, symbols: all}]\n")
        assert "binance, binance-usdm, no mistakes" in run("check", str(tmp_path / "run.yaml")).stdout
        (tmp_path / "run.yaml").write_text("feeds: [demo]\n")
        assert "demo, no mistakes" in run("check", str(tmp_path / "run.yaml")).stdout

    @pytest.mark.parametrize(
        ("text", "line", "problem"),
        [
            ("feeds: [demo, okx]\n", "", "record it alone"),
            ("feeds:\n  - feed: demo\n    channels: nope\n", ":3: feeds.0.channels", "has no channel 'nope'"),
            ("feeds:\n  - feed: demo\n    symbols: DOGE/USDT\n", ":3: feeds.0.symbols", "demo has no such symbol"),
            ("feeds: [demo]\nca-file: x.pem\n", ":2: ca-file", "brings its own CA"),
        ],
    )
    def test_of_the_demo_like_record(self, tmp_path, text, line, problem):
        (tmp_path / "run.yaml").write_text(text)
        result = run("check", str(tmp_path / "run.yaml"), code=2)
        assert line in result.stderr
        assert problem in result.stderr

    def test_bad_names_the_line(self, tmp_path):
        (tmp_path / "run.yaml").write_text("feeds:\n  - binance\n  - feed: binance-usdm\n    channels: tradez\n")
        result = run("check", str(tmp_path / "run.yaml"), code=2)
        assert "run.yaml:4: feeds.1.channels: binance-usdm has no channel 'tradez'" in result.stderr

    def test_of_every_feed(self, tmp_path):
        (tmp_path / "run.yaml").write_text("feeds:\n  - okxx\n  - feed: binance\n    channels: tradez\n")
        result = run("check", str(tmp_path / "run.yaml"), code=2)
        assert "run.yaml:2: feeds.0: no feed 'okxx'" in result.stderr
        assert "run.yaml:4: feeds.1.channels: binance has no channel 'tradez'" in result.stderr

    def test_is_no_feed(self, tmp_path):
        (tmp_path / "run.yaml").write_text("feeds: [demo]\n")
        assert "run.yaml:1: feeds: found a run config" in run("show", str(tmp_path / "run.yaml"), code=2).stderr


class TestPlan:
    def test_lists_by_comma_and_repetition(self):
        result = run("plan", "binance", "--symbols", "A1,B2", "--symbols", "C3", "--channels", "trades", "--json")
        found = json.loads(result.stdout)
        (connection,) = found["connections"]
        topics = connection["requests"][0]["topics"]
        assert [each["topic"] for each in topics] == ["a1@trade", "b2@trade", "c3@trade"]

    @pytest.mark.parametrize("option", ["--symbols", "--channels"])
    @pytest.mark.parametrize("values", [[""], [" , "], ["A1", ""]])
    def test_an_empty_list_is_not_the_default(self, option, values):
        result = run("plan", "binance", *(word for value in values for word in (option, value)), code=2)
        assert f"{option}: it is empty" in result.stderr
        assert result.stdout == ""

    def test_the_text_has_what_is_sent(self):
        assert '  send {"method":"SUBSCRIBE"' in run("plan", "binance").stdout

    def test_shows_no_secret(self):
        for option in ([], ["--json"]):
            assert "s3cret" not in run("plan", "wss://u:s3cret@h/?token=s3cret", *option).output

    def test_wrong_use(self):
        assert "--subscribe TEXT" in run("plan", "wss://h/", "--symbols", "A", code=2).stderr

    def test_totals(self, tmp_path):
        (tmp_path / "list").write_text("\n".join(f"S{n}USDT" for n in range(2000)))
        words = ("plan", "binance", "--symbols", f"@{tmp_path}/list", "--channels", "trades,book,bbo")
        found = json.loads(run(*words, "--json").stdout)
        assert [found[key] for key in ("subscriptions", "messages", "messages_in_a_second", "subscribed_after")] == [
            6000,
            60,
            12,
            4.5,
        ]
        assert len(found["connections"]) == 6
        lines = run(*words).stdout.splitlines()
        assert lines[0].startswith("6 connections, 6,000 subscriptions in 60 messages, at most 12 within a second")
        assert lines[1].startswith("memory about ")
        assert "(6 of 8,192 KiB)" in lines[1]
        assert found["memory_bytes"]["total"] > found["memory_bytes"]["rings"] == 6 * 8 << 20
        assert max(map(len, lines)) < 400

    def test_shards(self):
        symbols = ",".join(f"S{n}USDT" for n in range(20))
        shares = [run("plan", "binance", "--symbols", symbols, "--shard", f"{n}/2", "--json").stdout for n in (1, 2)]
        assert sum(json.loads(share)["subscriptions"] for share in shares) == 60
        assert "as in 3/16" in run("plan", "binance", "--shard", "3", code=2).stderr


class TestNew:
    def test_loads_as_it_is(self, tmp_path):
        path = tmp_path / "mine.yaml"
        assert f"wsrec feeds check {path}" in run("new", "my-exchange", "--out", str(path)).stdout
        assert "my-exchange, 2 channels, no mistakes" in run("check", str(path)).stdout
        assert '"args":["trades.BTC-USDT","book.BTC-USDT"]' in run("plan", str(path)).stdout

    def test_what_is_commented_out_loads_too(self, tmp_path):
        path = tmp_path / "mine.yaml"
        path.write_text(re.sub(r"^( *)# (?=\s*(\w+:|  ))", r"\1", feed_template("x"), flags=re.MULTILINE))
        feed = load_feed(path)
        assert feed.symbols.listing.where == {"status": ("trading",)}
        assert feed.ack.id == "id"

    def test_overwrites_nothing(self, tmp_path):
        path = tmp_path / "mine.yaml"
        path.write_text("mine")
        assert "File exists" in run("new", "x", "--out", str(path), code=2).stderr
        assert path.read_text() == "mine"

    def test_leaves_no_file_that_is_not_whole(self, tmp_path):
        path = tmp_path / "mine.yaml"
        with full_disk(100):
            assert f"{path}: File too large" in run("new", "x", "--out", str(path), code=66).stderr
        assert list(tmp_path.iterdir()) == []
        run("new", "x", "--out", str(path))

    def test_a_name_that_leaves_the_folder_is_refused(self):
        assert "expected a-z" in run("new", "../x", code=2).stderr


class TestCompletion:
    def complete(self, *words):
        *before, incomplete = words
        return [item.value for item in ShellComplete(main, {}, "wsrec", "X").get_completions(before, incomplete)]

    def test_feeds(self):
        assert self.complete("record", "binance-") == ["binance-coinm", "binance-us", "binance-usdm"]
        assert self.complete("feeds", "show", "binance-us") == ["binance-us", "binance-usdm"]

    def test_a_url_behind_its_name(self):
        assert self.complete("record", "spot=") == ["spot=wss://", "spot=ws://"]

    def test_channels_of_the_feed_behind_a_comma(self):
        assert self.complete("record", "binance", "--channels", "trades,aggT") == ["trades,aggTrade"]
        assert self.complete("feeds", "plan", "binance", "--channels", "boo")[0] == "book"

    def test_symbols_that_were_listed(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        feed = find_feed("binance")
        assert self.complete("record", "binance", "--symbols", "et") == ["ETHUSDT"]
        assert self.complete("record", "binance", "--symbols", "al") == ["all"]
        file = listing._file(feed, feed.symbols.listing)
        listing._keep(file, ("ETHBTC", "ETHUSDT", "XRPUSDT"))
        assert self.complete("record", "binance", "--symbols", "A,et") == ["A,ETHBTC", "A,ETHUSDT"]


def test_schema():
    assert json.loads(run("schema").stdout) == feed_schema()
    assert json.loads(run("schema", "--run").stdout) == run_schema()
