"""`--proxy` and `--no-proxy`: where an address may come from, what goes first, and that it is shown without secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.feeds import parse_feed
from wsrec.cli.main import main
from wsrec.feed.load import load_feed
from wsrec.feed.schema import Feed
from wsrec.net.proxy import ProxyRules
from wsrec.plan.connections import plan
from wsrec.plan.target import resolve
from wsrec.writer.job import FeedJob

URL = "wss://exchange.test/x"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://environment:1")
    monkeypatch.setenv("PROXY_PASSWORD", "S3/CR3T")
    monkeypatch.setenv("WHOLE", "socks5h://u:S3CR3T@whole:2")


def run(*words: object, **options: Any) -> Result:
    return CliRunner().invoke(main, [*map(str, words)], **options)


def planned(*words: object, **options: Any) -> str | None:
    """The proxy of the plan that is printed, as JSON and as text alike."""
    result = run("feeds", "plan", URL, *words, "--json", **options)
    assert result.exit_code == 0, result.output
    assert "CR3T" not in result.output
    (connection,) = json.loads(result.output)["connections"]
    text = run("feeds", "plan", URL, *words, **options).output
    assert "CR3T" not in text
    assert ("through the proxy" in text) is (connection["proxy"] is not None)
    return connection["proxy"]


class TestOptions:
    @pytest.mark.parametrize(
        ("words", "proxy"),
        [
            ((), "http://environment:1"),
            (("--no-proxy",), None),
            (("--proxy", "socks5://option:1"), "socks5h://option:1"),
            (("--proxy", "http://user@option:1"), "http://option:1"),
            (("--proxy", "http://u:${PROXY_PASSWORD}@option:1"), "http://option:1"),
            (("--proxy", "${WHOLE}"), "socks5h://whole:2"),
        ],
    )
    def test_go_before_the_environment(self, words, proxy):
        assert planned(*words) == proxy

    def test_of_the_environment_may_have_a_password(self):
        environment = {"WSREC_FEEDS_PLAN_PROXY": "http://u:S3CR3T@variable:1"}
        assert planned(env=environment) == "http://variable:1"
        assert planned("--proxy", "http://option:1", env=environment) == "http://option:1"

    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            (("--proxy", "http://u:S3CR3T@h:1"), "read by every user of this machine"),
            (("--proxy", "u:S3CR3T@h:1"), "read by every user of this machine"),
            (("--proxy", "http://u:S3CR3T${PROXY_PASSWORD}@h:1"), "read by every user of this machine"),
            (("--proxy", "http://u:${ABSENT}@h:1"), "the environment has no ABSENT"),
            (("--proxy", "https://h:1"), "TLS to the proxy itself"),
            (("--proxy", ""), "expected http://HOST:PORT"),
            (("--proxy", "http://h:1", "--no-proxy"), "found it beside"),
        ],
    )
    @pytest.mark.parametrize("command", [("feeds", "plan"), ("record",)])
    def test_that_cannot_be_used_are_refused(self, command, words, complaint):
        result = run(*command, URL, *words)
        assert result.exit_code == 2
        assert complaint in result.output
        assert "S3CR3T" not in result.output

    @pytest.mark.parametrize("command", [("feeds", "plan"), ("record",)])
    def test_a_variable_that_holds_no_proxy_is_named(self, command, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        result = run(*command, URL, env={"HTTPS_PROXY": "ftp://u:S3CR3T@h"})
        assert result.exit_code == 2
        assert "HTTPS_PROXY: expected http://HOST:PORT" in result.output
        assert "S3CR3T" not in result.output


class TestFiles:
    def run_config(self, folder: Path, text: str) -> Path:
        file = folder / "run.yaml"
        file.write_text(f"{text}\nfeeds: [{URL}]\n")
        return file

    @pytest.mark.parametrize(
        ("text", "words", "proxy"),
        [
            ('proxy: "http://u:${PROXY_PASSWORD}@run:1"', (), "http://run:1"),
            ("proxy: http://u:S3CR3T@run:1", (), "http://run:1"),
            ("proxy: ${WHOLE}", (), "socks5h://whole:2"),
            ("proxy: http://run:1", ("--proxy", "http://option:1"), "http://option:1"),
            ("proxy: http://run:1", ("--no-proxy",), None),
            ("no-proxy: true", (), None),
            ("no-proxy: true", ("--proxy", "http://option:1"), "http://option:1"),
        ],
    )
    def test_a_run_config_goes_before_the_environment(self, text, words, proxy, tmp_path, monkeypatch):
        seen: list[ProxyRules] = []
        monkeypatch.setattr("wsrec.supervise.record.record", lambda *_, **more: seen.append(more["proxies"]))
        run("record", self.run_config(tmp_path, text), *words)
        found = seen[0].of(URL)
        assert (found and found.public) == proxy

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("proxy: http://u:S3CR3T/x@h:1", "run.yaml:1: proxy: found '***', expected http://HOST:PORT"),
            ("proxy: https://u:S3CR3T@h:1", "run.yaml:1: proxy: found https://, but TLS to the proxy itself"),
            ("proxy: http://h:1\nno-proxy: true", "run.yaml:2: no-proxy: found it beside proxy"),
            ("proxy: http://u:${ABSENT}@h:1", "the environment has no ABSENT"),
        ],
    )
    def test_a_run_config_that_is_wrong_is_reported(self, text, complaint, tmp_path):
        result = run("record", self.run_config(tmp_path, text))
        assert result.exit_code == 2
        assert complaint in result.output
        assert "S3CR3T" not in result.output

    def test_a_feed_goes_before_the_environment(self, tmp_path):
        file = tmp_path / "feed.yaml"
        file.write_text(
            "name: mine\ndescription: d\nproxy: 'http://u:${PROXY_PASSWORD}@feed:1'\n"
            f"sockets: {{main: {{url: '{URL}'}}}}\n"
        )
        assert load_feed(file).resolved_proxy() == "http://u:S3%2FCR3T@feed:1"
        (connection,) = plan([resolve(str(file))], proxies=ProxyRules.of_environment({"HTTPS_PROXY": "x:1"}))
        assert connection.proxy is not None
        assert (connection.proxy.public, connection.proxy.password) == ("http://feed:1", "S3/CR3T")
        result = run("feeds", "show", file, "--json")
        assert json.loads(result.output)["proxy"] == "http://***:${PROXY_PASSWORD}@feed:1"
        stored = load_feed(file).public_config()
        assert Feed.model_validate(stored).public_config() == stored

    @pytest.mark.parametrize("proxy", ["${WHOLE}", "feed:1", "http://u:${PROXY_PASSWORD}@feed:${PORT}"])
    def test_what_a_feed_stores_of_it_is_read_back(self, proxy):
        feed = parse_feed(f"name: x\ndescription: d\nproxy: '{proxy}'\nsockets: {{m: {{url: {URL}}}}}".encode(), "f")
        stored = feed.public_config()
        assert "CR3T" not in json.dumps(stored)
        assert Feed.model_validate(stored).public_config() == stored


class TestWhatIsStored:
    def test_has_no_proxy_in_it(self):
        rules = ProxyRules(given="http://u:S3CR3T@h:1")
        (connection,) = plan([resolve(URL)], proxies=rules)
        job = FeedJob.of(resolve(URL).feed, rules)
        assert job.proxies == rules
        assert connection.public().proxy is None
        assert "S3CR3T" not in repr(connection.public())


class TestDoctor:
    def test_says_what_is_in_force(self, monkeypatch):
        monkeypatch.setenv("HTTPS_PROXY", "http://u:S3CR3T@corp:3128")
        monkeypatch.setenv("no_proxy", "a.com,10.0.0.0/8")
        (found,) = [one for one in json.loads(run("doctor", "--json").output) if one["subject"] == "proxy"]
        assert found["found"] == "HTTPS_PROXY=http://corp:3128, except for a.com,10.0.0.0/8"
        assert found["state"] == "ok"
        monkeypatch.setenv("ALL_PROXY", "https://u:S3CR3T@corp")
        (found,) = [one for one in json.loads(run("doctor", "--json").output) if one["subject"] == "proxy"]
        assert found["state"] == "hint"
        assert found["hint"].startswith("ALL_PROXY: found https://")
        assert "S3CR3T" not in json.dumps(found)


def test_a_variable_that_the_proxy_of_a_run_config_lacks_is_named_with_its_place(tmp_path):
    (tmp_path / "run.yaml").write_text("feeds: [demo]\nproxy: http://u:${NOWHERE}@h:1\n")
    result = run("record", tmp_path / "run.yaml")
    assert result.exit_code == 2
    assert f"{tmp_path}/run.yaml:2: proxy: ${{NOWHERE}}: the environment has no NOWHERE" in result.output
    assert "--proxy" not in result.output
