"""scripts/grafana: the dashboard and the alert rules, checked by promtool, and fired by a real Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import http
import itertools
import json
import re
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.supervise.conftest import Recording, Stream
from wsrec.supervise.metrics import METRICS

GRAFANA = Path(__file__).parents[2] / "scripts" / "grafana"
RULES = GRAFANA / "alerts.yaml"
BOARD: dict[str, Any] = json.loads((GRAFANA / "dashboard.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
PROMTOOL, PROMETHEUS = shutil.which("promtool"), shutil.which("prometheus")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
needs_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed")
NAMES = {
    *(each.name for each in METRICS),
    *(f"{each.name}_{part}" for each in METRICS if each.kind == "histogram" for part in ("bucket", "sum", "count")),
}


def promtool(*words: object) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def alert_rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


class TestDashboard:
    def test_its_panels_do_not_overlap(self):
        ids = [panel["id"] for panel in BOARD["panels"]]
        assert len({*ids}) == len(ids)
        places = [panel["gridPos"] for panel in BOARD["panels"]]
        assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
        for one, two in itertools.combinations(places, 2):
            beside = one["x"] + one["w"] <= two["x"] or two["x"] + two["w"] <= one["x"]
            assert beside or one["y"] + one["h"] <= two["y"] or two["y"] + two["h"] <= one["y"], (one, two)

    def test_it_asks_for_metrics_that_there_are(self):
        for title, expression in EXPRESSIONS:
            named = set(re.findall(r"\bwsrec_\w+", expression))
            assert named, title
            assert named <= NAMES, title

    def test_every_panel_heeds_the_variables(self):
        assert [each["name"] for each in BOARD["templating"]["list"]] == ["datasource", "instance", "feed"]
        for title, expression in EXPRESSIONS:
            selectors = re.findall(r"\bwsrec_\w+(\{.*?\})", expression)
            assert len(selectors) == len(re.findall(r"\bwsrec_\w+", expression)), title
            assert all('instance=~"$instance"' in each for each in selectors), title
        assert all(panel["datasource"]["uid"] == "${datasource}" for panel in PANELS)

    @needs_promtool
    def test_its_expressions_are_valid(self, tmp_path):
        filled = [
            expression.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$feed", ".*")
            for _, expression in EXPRESSIONS
        ]
        rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(filled)]
        path = tmp_path / "rules.yaml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
        promtool("check", "rules", path)


class TestAlerts:
    @needs_promtool
    def test_they_are_valid(self):
        promtool("check", "rules", RULES)

    @needs_promtool
    def test_each_fires_for_what_it_is_for(self):
        promtool("test", "rules", GRAFANA / "alerts.test.yaml")
        tested = (GRAFANA / "alerts.test.yaml").read_text()
        assert all(tested.count(rule["alert"]) >= 2 for rule in alert_rules())

    def test_they_ask_for_metrics_that_there_are(self):
        for rule in alert_rules():
            assert {*re.findall(r"\bwsrec_\w+", rule["expr"])} <= NAMES, rule["alert"]
            assert {*rule["annotations"]} == {"summary", "description"}
            assert rule["labels"]["severity"] in ("warning", "critical")

    def test_every_metric_is_used_or_of_the_recorder_itself(self):
        used = {
            *re.findall(r"wsrec_\w+", RULES.read_text()),
            *re.findall(r"wsrec_\w+", " ".join(e for _, e in EXPRESSIONS)),
        }
        used = {re.sub("_bucket$", "", name) for name in used}
        rest = {each.name for each in METRICS} - used
        # sums of what there is for each connection, and facts
        assert rest == {
            "wsrec_build_info",
            "wsrec_phase",
            "wsrec_holds_folder",
            "wsrec_messages_total",
            "wsrec_control_total",
            "wsrec_sent_total",
            "wsrec_payload_bytes_total",
            "wsrec_answered_total",
            "wsrec_not_inflated_total",
            "wsrec_connections",
            "wsrec_connections_open",
            "wsrec_connection_payload_bytes_total",
            "wsrec_next_rotation_time_seconds",
            "wsrec_reconnects_total",
            "wsrec_stalls_total",
        }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class FaultyStream(Stream):
    """A stream of an exchange that is down for a while: it ends connections, and refuses new ones."""

    def __init__(self) -> None:
        super().__init__()
        self.is_down = False

    async def __call__(self, connection: Any) -> None:
        sending = asyncio.ensure_future(super().__call__(connection))
        try:
            while not self.is_down and not sending.done():
                await asyncio.sleep(0.05)
        finally:
            sending.cancel()

    def answer(self, connection: Any, request: Any) -> Any:
        return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "down") if self.is_down else None


class Prometheus:
    """A real one that scrapes a recorder every second, with the rules' waits cut to a second."""

    def __init__(self, folder: Path, recorder: int) -> None:
        rules = yaml.safe_load(RULES.read_text())
        for rule in rules["groups"][0]["rules"]:
            if "for" in rule:
                rule["for"] = "1s"
        (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
        targets = {"job_name": "wsrec", "static_configs": [{"targets": [f"127.0.0.1:{recorder}"]}]}
        every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "500ms"}
        config = {"global": every, "rule_files": ["rules.yaml"], "scrape_configs": [targets]}
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        port = free_port()
        self._url = f"http://127.0.0.1:{port}/api/v1"
        assert PROMETHEUS is not None
        self.process = subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=error",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def get(self, path: str) -> Any:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self._url}/{path}", timeout=10) as answer:
            return json.load(answer)["data"]
        return None

    def firing(self) -> set[str]:
        found = self.get("alerts") or {"alerts": []}
        return {each["labels"]["alertname"] for each in found["alerts"] if each["state"] == "firing"}

    def value(self, query: str) -> float | None:
        found = self.get(f"query?query={query}")
        return float(found["result"][0]["value"][1]) if found and found["result"] else None


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def start(recorder: int) -> Prometheus:
            (folder := tmp_path / "prometheus").mkdir()
            started = Prometheus(folder, recorder)
            stack.callback(started.process.wait)
            stack.callback(started.process.kill)
            return started

        yield start


@needs_prometheus
def test_a_real_one_fires_while_an_exchange_is_down(wsrec, exchange, prometheus, tmp_path):
    stream, port = FaultyStream(), free_port()
    server = exchange(stream, process_request=stream.answer)
    process = wsrec.start("record", server.url, "--out", tmp_path / "out", "--metrics", port)
    work = Recording(process, tmp_path / "out", stream)
    try:
        scraping = prometheus(port)
        work.until(lambda: (scraping.value("wsrec_connection_messages_total") or 0) > 100)
        # it had begun before there was anything to scrape
        work.until(lambda: not scraping.firing() & {"WsrecConnectionDown", "WsrecAbsent", "WsrecLostInterval"})
        stream.is_down = True
        work.until(lambda: "WsrecConnectionDown" in scraping.firing())
        stream.is_down = False
        work.until(lambda: {"WsrecLostInterval"} == scraping.firing() & {"WsrecConnectionDown", "WsrecLostInterval"})
        assert (scraping.value("wsrec_lost_intervals_total") or 0) >= 1
        process.send_signal(signal.SIGTERM)
        work.end(4)
        work.until(lambda: "WsrecAbsent" in scraping.firing())
    finally:
        process.kill()
        process.communicate()
