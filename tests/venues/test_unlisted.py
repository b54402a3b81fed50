"""An exchange that is in no list, added by a YAML file alone: recorded to the last message."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.conftest import events_of, messages_of
from tests.venues.meridian import INSTRUMENTS, Meridian
from wsrec.feed.load import catalogue, load_feed
from wsrec.monitor.samples import Sample, read_samples

ROOT = Path(__file__).parents[2]
YAML = Path(__file__).parent / "unlisted" / "meridian.yaml"
FACTS = Path(__file__).parent / "unlisted" / "facts.md"


@pytest.fixture
def local(tmp_path):
    """The YAML with the address of a server on loopback, and beats that a test has time for."""

    def local(url):
        config = yaml.safe_load(YAML.read_text())
        config["sockets"]["main"]["url"] = f"ws://{urlsplit(url).netloc}/v2"
        config["keep_alive"]["every"] = 0.5
        path = tmp_path / "meridian.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    return local


@pytest.fixture
def recorded(wsrec, tmp_path, local, exchange):
    def recorded(venue, *options):
        out = tmp_path / "out"
        path = local(exchange(venue).url)
        result = wsrec.run("record", path, "--out", out, "--duration", "6s", "--json", *options)
        return json.loads(result.stdout), result.stderr, out

    return recorded


def data(out):
    """What was read of each data message, by its payload."""
    table = messages_of(out)
    wanted = table.select(["direction", "text", "channel", "symbol", "exchange_time", "exchange_seq"])
    return [row for row in wanted.to_pylist() if row["direction"] == "recv" and '"data"' in (row["text"] or "")]


class TestRecorded:
    @pytest.mark.long
    def test_everything_of_all_streams(self, recorded):
        venue = Meridian(idle_limit=3)
        stated, errors, out = recorded(venue, "--symbols", ",".join(INSTRUMENTS))
        assert stated["status"] == 0, errors
        assert (venue.faults, venue.dropped) == ([], 0)
        assert sorted(row["text"] for row in data(out)) == sorted(venue.data)
        # 8 streams: two connections, each opened in the exchange's way
        assert len(events_of(out, "connect")) == 2
        assert venue.subscriptions == {f"{c}:{i}": 1 for c in ("depth", "deal") for i in INSTRUMENTS}
        assert {topic for e in events_of(out, "ack") for topic in e["detail"]["topics"]} == venue.subscriptions.keys()
        # kept open in both ways
        beats = [request for request in venue.requests if "beat" in request]
        assert len(beats) > 8
        assert venue.probes > 8
        assert not events_of(out, "gap")

    @pytest.mark.long
    def test_every_field(self, recorded):
        _, _, out = recorded(Meridian())
        times = messages_of(out)["exchange_time"].cast("int64").to_pylist()
        assert len({time for time in times if time}) == 4 + 3
        assert sorted((row["channel"], row["symbol"], row["exchange_seq"]) for row in data(out)) == [
            *(("deal", "BTC_EUR", number) for number in (41, 44, 46)),
            *(("depth", "BTC_EUR", number) for number in (100, 103, 104, 109)),
        ]

    @pytest.mark.long
    def test_a_gap_is_reported_and_repaired(self, recorded):
        venue = Meridian(gap_in="ETH_EUR")
        stated, errors, out = recorded(venue, "--symbols", "BTC_EUR,ETH_EUR")
        assert stated["status"] == 4, errors
        (gap,) = events_of(out, "gap")
        assert (gap["channel"], gap["symbol"]) == ("depth", "ETH_EUR")
        assert (gap["detail"]["expected"], gap["detail"]["found"], gap["detail"]["missing"]) == (104, 105, 1)
        assert venue.subscriptions["depth:ETH_EUR"] == 2
        assert venue.faults == []
        assert sorted(row["text"] for row in data(out)) == sorted(venue.data)

    @pytest.mark.long
    def test_a_refusal_is_reported_in_the_exchanges_words(self, recorded):
        stated, errors, out = recorded(Meridian(), "--symbols", "BTC_EUR,XXX_EUR", "--channels", "trades")
        assert stated["status"] == 4, errors
        (refused,) = events_of(out, "refused")
        assert "404" in refused["detail"]["message"]
        assert "no such instrument: XXX_EUR" in refused["detail"]["message"]


class TestByTheFacts:
    def test_the_pages_own_messages_are_read(self):
        texts = re.findall(r'^    (\{"type":"data".*\})$', FACTS.read_text(), re.MULTILINE)
        samples = [Sample(str(number), text.encode()) for number, text in enumerate(texts)]
        assert [reading[1:7] for reading in read_samples(load_feed(YAML), samples)] == [
            ("depth", "BTC_EUR", 1795341600000001000, 100, 100, None),
            ("depth", "BTC_EUR", 1795341600100000000, 103, 101, None),
            ("deal", "BTC_EUR", 1795342800000123000, 42, 41, None),
        ]

    def test_it_is_nowhere_else(self):
        """Without a line of Python, and not in the catalogue."""
        assert "meridian" not in catalogue()
        for file in (ROOT / "wsrec").rglob("*.py*"):
            assert file.suffix not in (".py", ".pyx") or "meridian" not in file.read_text().lower()

    @pytest.mark.parametrize(
        ("texts", "code"),
        [
            (['{"cmd":"sub","rid":"1","chan":"deal","inst":["BTC_EUR"]}'], "4000"),
            (['{"cmd":"open","proto":2}'] * 2, "4000"),
            (['{"cmd":"open","proto":2}', *['{"cmd":"beat","at":1}']], "4000"),
            (['{"cmd":"open","proto":2}', *['{"cmd":"unsub","rid":"1","chan":"deal","inst":["A"]}'] * 11], "4029"),
        ],
    )
    def test_the_mock_is_as_strict(self, exchange, texts, code):
        def send_all() -> None:
            with connect(exchange(Meridian()).url) as client:
                for text in texts:
                    client.send(text)
                list(client)

        with pytest.raises(ConnectionClosedError, match=code):
            send_all()

    def test_the_mock_drops_who_is_silent(self, exchange):
        venue = Meridian(idle_limit=0.3)
        with connect(exchange(venue).url) as client, pytest.raises(ConnectionClosedError):
            client.recv(timeout=5)
        assert venue.dropped == 1
