"""`wsrec record run.yaml`: several feeds by one file, and the command line before it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from tests.conftest import messages_of, received
from tests.exchange import sends
from wsrec.cli.main import main
from wsrec.feed.errors import ConfigError

FEED = """
name: {name}
description: of a test
sockets: {{main: {{url: "{url}"}}}}
symbols: {{pattern: "[A-Z]+", words: letters, example: ABC}}
limits: {{connects: 10, connects_interval: 1}}
subscribe: {{message: '{{"ask":{{topics}}}}'}}
fields: {{channel: [c], symbol: [s]}}
channels: {{trades: {{topic: "t.{{symbol}}", common: trades, default: true}}}}
"""


async def requested(connection):
    """Sends back each request, as a message of the symbols."""
    for topic in json.loads(await connection.recv())["ask"]:
        await connection.send(json.dumps({"c": "trades", "s": topic.removeprefix("t.")}))


@pytest.fixture
def folder(tmp_path, exchange):
    """A run config with two feeds of its own, and a list of symbols."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("one", "two"):
        (home / f"{name}.yaml").write_text(FEED.format(name=name, url=exchange(requested).url))
    (home / "list.txt").write_text("ABC, DEF\nGHI\n")
    (home / "run.yaml").write_text(
        "out: data\nuntil-close: true\nrotate: 10m\njson: true\nfeeds:\n"
        "  - {feed: one.yaml, symbols: '@list.txt', channels: trades}\n  - {feed: ./two.yaml, symbols: [XYZ]}\n"
    )
    return home


def rows(out):
    table = messages_of(out)
    taken = zip(table["symbol"].to_pylist(), table["direction"].to_pylist(), strict=True)
    return sorted(symbol for symbol, direction in taken if direction == "recv" and symbol)


class TestRun:
    def test_all_feeds_are_recorded_from_anywhere(self, wsrec, folder, tmp_path):
        result = wsrec.run("record", folder / "run.yaml", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["status"] == 0
        assert rows(folder / "data") == ["ABC", "DEF", "GHI", "XYZ"]

    def test_the_command_line_goes_first(self, wsrec, folder, tmp_path):
        options = ["--out", tmp_path / "elsewhere", "--symbols", "JKL"]
        result = wsrec.run("record", folder / "run.yaml", *options)
        assert result.returncode == 0, result.stderr
        assert rows(tmp_path / "elsewhere") == ["JKL", "JKL"]
        assert not (folder / "data").exists()

    def test_a_secret_in_an_address_is_written_nowhere(self, wsrec, exchange, tmp_path, monkeypatch):
        monkeypatch.setenv("TOKEN", "hunter2SECRET")
        server = exchange(sends(['{"n":1}']))
        (tmp_path / "run.yaml").write_text(f"out: data\nuntil-close: true\nfeeds: ['{server.url}?x=${{TOKEN}}']\n")
        result = wsrec.run("record", tmp_path / "run.yaml")
        assert result.returncode == 0, result.stderr
        assert received(messages_of(tmp_path / "data")) == [b'{"n":1}']
        assert "hunter2" not in result.stdout + result.stderr
        for file in (tmp_path / "data").rglob("*"):
            assert not file.is_file() or b"hunter2" not in file.read_bytes(), file


class TestOptions:
    @pytest.fixture
    def options(self, tmp_path, monkeypatch):
        """What a run config with options comes to, with those of the command line."""

        def options(text, *arguments):
            (tmp_path / "run.yaml").write_text(text + "\nfeeds: [binance]\n")
            taken = []

            def record(wanted, options, selection, **rest):
                taken.append(options)
                raise ConfigError("far enough")

            monkeypatch.setattr("wsrec.supervise.record.record", record)
            result = CliRunner().invoke(main, ["record", str(tmp_path / "run.yaml"), *arguments])
            assert "far enough" in result.stderr, result.stderr
            return taken[0]

        return options

    def test_of_the_file(self, options, tmp_path):
        found = options(
            "cpu: [0, 1]\nwriter-cpu: [2, 3]\ntls: ktls\nring-size: 64KiB\nfsync: 5s\nreserve: 1GB\nrotate: 5m"
        )
        assert (found.cpu, found.writer_cpu, found.tls, found.ring_size) == ((0, 1), (2, 3), "ktls", 65536)
        assert (found.fsync, found.reserve, found.rotate.seconds) == (5, 10**9, 300)

    def test_rings_by_the_number_of_connections(self, options):
        assert options("ring-size: auto").ring_size is None
        assert options("quiet: true").ring_size is None
        assert options("ring-size: auto", "--ring-size", "1MiB").ring_size == 1 << 20
        assert options("ring-size: 1MiB", "--ring-size", "auto").ring_size is None

    def test_the_command_line_and_variables_go_first(self, options, tmp_path, monkeypatch):
        monkeypatch.setenv("WSREC_RECORD_TLS", "openssl")
        found = options("cpu: [0, 1]\ntls: ktls\nout: here", "--cpu", "3", "--out", str(tmp_path / "there"))
        assert (found.cpu, found.tls, found.out) == ((3,), "openssl", tmp_path / "there")

    def test_another_end_on_the_command_line(self, options):
        found = options("duration: 1s", "--until", "2100-01-01")
        assert found.until.year == 2100
        assert found.duration is None
        found = options("until: 17:30", "--duration", "100000d")
        assert (found.until, found.duration) == (None, 100_000 * 86_400)


class TestWrong:
    def refused(self, *arguments):
        result = CliRunner().invoke(main, ["record", *map(str, arguments)])
        assert (result.exit_code, result.stdout) == (2, "")
        return result.stderr

    def test_names_file_line_and_key(self, tmp_path):
        (tmp_path / "run.yaml").write_text("feeds:\n  - binance\nrotate: never\n")
        assert f"wsrec record: {tmp_path}/run.yaml:3: rotate: found 'never', expected" in self.refused(
            tmp_path / "run.yaml"
        )

    def test_a_feed_in_it_that_is_none(self, tmp_path):
        (tmp_path / "run.yaml").write_text("feeds:\n  - binance\n  - binanse\n")
        assert "run.yaml:3: feeds.1: no feed 'binanse'" in self.refused(tmp_path / "run.yaml")

    def test_others_beside_it(self, tmp_path):
        (tmp_path / "run.yaml").write_text("feeds: [binance]\n")
        assert "recorded alone" in self.refused(tmp_path / "run.yaml", "binance-usdm")

    def test_as_json(self, tmp_path):
        (tmp_path / "run.yaml").write_text("feeds: [binance]\nout: 5\n")
        result = CliRunner().invoke(main, ["record", str(tmp_path / "run.yaml"), "--json"])
        assert "run.yaml:2: out: found 5" in json.loads(result.stdout)["error"]
