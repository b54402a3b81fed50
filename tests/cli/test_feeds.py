from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from wsrec.cli.feeds import feeds
from wsrec.feed.load import catalogue
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

    def test_table(self):
        assert "binance-usdm" in run("list").stdout


class TestShow:
    def test_table(self):
        output = run("show", "binance").stdout
        assert "depth@100ms" in output
        assert "wss://stream.binance.com:9443/stream" in output

    def test_json_is_the_feed(self):
        assert json.loads(run("show", "binance", "--json").stdout)["channels"]["trade"]["sequence"] == "increasing"

    def test_unknown(self):
        assert "did you mean binance" in run("show", "binanc", code=2).stderr

    def test_hostile_text_stays_text(self, tmp_path):
        path = tmp_path / "x.yaml"
        path.write_text('name: x\ndescription: "\\e]0;owned\\a [bold]not bold[/]"\nsockets: {m: {url: ws://h}}\n')
        output = run("show", str(path)).stdout
        assert "[bold]not bold[/]" in output
        assert "\x1b" not in output


class TestCheck:
    def test_good(self, tmp_path):
        path = tmp_path / "x.yaml"
        path.write_bytes(catalogue()["binance"].read_bytes())
        assert "no mistakes" in run("check", str(path)).stdout

    def test_bad_names_the_line_on_stderr(self, tmp_path):
        path = tmp_path / "x.yaml"
        path.write_text("name: x\nwhat: 1\n")
        result = run("check", str(path), code=2)
        assert f"{path}:2: what: found an unknown key" in result.stderr
        assert result.stdout == ""


class TestPlan:
    def test_lists_by_comma_and_repetition(self):
        result = run("plan", "binance", "--symbols", "A1,B2", "--symbols", "C3", "--channels", "trades", "--json")
        (connection,) = json.loads(result.stdout)
        assert connection["subscriptions"][0]["topics"] == ["a1@trade", "b2@trade", "c3@trade"]

    @pytest.mark.parametrize("option", ["--symbols", "--channels"])
    @pytest.mark.parametrize("values", [[""], [" , "], ["A1", ""]])
    def test_an_empty_list_is_not_the_default(self, option, values):
        result = run("plan", "binance", *(word for value in values for word in (option, value)), code=2)
        assert f"'{option}': it is given but empty" in result.stderr
        assert result.stdout == ""

    def test_text(self):
        assert '  send {"method":"SUBSCRIBE"' in run("plan", "binance").stdout

    def test_shows_no_secret(self):
        for option in ([], ["--json"]):
            assert "s3cret" not in run("plan", "wss://u:s3cret@h/?token=s3cret", *option).output

    def test_wrong_use(self):
        assert "--subscribe TEXT" in run("plan", "wss://h/", "--symbols", "A", code=2).stderr


def test_schema():
    assert json.loads(run("schema").stdout) == feed_schema()
