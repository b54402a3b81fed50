"""From a real TLS server to Parquet and back: what the whole recorder promises."""

from __future__ import annotations

import itertools
import json
import os
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode

from tests.conftest import events_of, messages_of, received
from tests.effort import LONG, thinned
from tests.exchange import Blast, sends
from tests.monitor.test_sequence import expected_gaps
from tests.receive.conftest import frame
from wsrec.stages import STAGES


@pytest.fixture(scope="module")
def some_messages(real_messages):
    """The first of the real messages, and all of them in a long run."""
    return real_messages if LONG else real_messages[:20_000]


class TestRealRecording:
    @pytest.mark.parametrize(
        ("tls", "wait"),
        [
            ("direct", "epoll"),
            pytest.param("direct", "spin", marks=pytest.mark.long),
            pytest.param("stamped", "epoll", marks=pytest.mark.long),
            ("openssl", "spin"),
            pytest.param("openssl", "epoll", marks=pytest.mark.long),
            pytest.param("stamped", "adaptive", marks=pytest.mark.long),
            pytest.param("stamped", "spin", marks=pytest.mark.long),
        ],
    )
    def test_every_message_over_tls(self, wsrec, exchange, ca_file, some_messages, tmp_path, tls, wait):
        server = exchange(sends([message.decode() for message in some_messages]), tls=True)
        result = wsrec.run(
            *("record", server.url, "--ca-file", ca_file, "--until-close", "--out", tmp_path),
            *("--tls", tls, "--json", "--wait", wait),
        )
        assert result.returncode == 0, result.stderr
        table = messages_of(tmp_path)
        assert received(table) == some_messages
        assert table["seq"].to_pylist() == list(range(len(table)))
        assert json.loads(result.stdout)["messages"] == len(some_messages)

        rows = table.filter(np.array(table["direction"].to_pylist()) == "recv")
        stages = [rows[stage.column].cast("int64").to_numpy() for stage in STAGES[1:]]
        for before, after in itertools.pairwise(stages):
            assert (before <= after).all()
        sources = set(rows["recv_source"].to_pylist())
        if tls in ("direct", "stamped"):
            assert sources == {"kernel"}
            assert rows["nic_time"].null_count == 0
        else:
            assert sources == {"user"}
            assert rows["nic_time"].null_count == len(rows)
        receivers = [
            row["detail"] for row in events_of(tmp_path, "scheduling") if row["detail"]["process"] == "receiver"
        ]
        assert [detail["waiting"] for detail in receivers] == [wait]


class TestLoss:
    """What an exchange leaves out is found, and nothing else is."""

    @pytest.mark.parametrize("left_out", thinned([100, 0]))
    def test_messages_left_out_at_random(self, wsrec, exchange, some_messages, tmp_path, left_out):
        chosen = np.random.default_rng(7).choice(len(some_messages), left_out, replace=False)
        removed = set(chosen.tolist())
        sent = [text.decode() for place, text in enumerate(some_messages) if place not in removed]
        server = exchange(sends(sent))
        feed = yaml.safe_load(Path("configs/binance-usdm.yaml").read_text())
        feed["sockets"] = {"main": {"url": server.url}}
        feed["channels"] = {
            name: {key: value for key, value in channel.items() if key != "socket"}
            for name, channel in feed["channels"].items()
        }
        (tmp_path / "usdm.yaml").write_text(yaml.safe_dump(feed))
        result = wsrec.run(
            *("record", tmp_path / "usdm.yaml", "--symbols", "BTCUSDT", "--channels", "trade,depth@0ms,bookTicker"),
            *("--until-close", "--out", tmp_path / "out", "--json"),
        )
        expected = [
            (channel, symbol, after, found, missing)
            for (_, channel, symbol, after, found, missing), _ in expected_gaps(some_messages, removed)
        ]
        gaps = [
            (row["channel"], row["symbol"], *(row["detail"][key] for key in ("expected", "found", "missing")))
            for row in events_of(tmp_path / "out", "gap")
        ]
        assert gaps == expected
        assert json.loads(result.stdout)["gaps"] == len(expected)
        assert result.returncode == (4 if expected else 0), result.stderr
        verified = wsrec.run("verify", tmp_path / "out", "--json")
        assert verified.returncode in (0, 4), verified.stderr


class TestSaturation:
    """The same bytes as fast as TCP takes them, into rings that are full all the time: nothing is lost."""

    # messages that Python is given: it takes ten times as long for each
    PURE = 10_000

    @pytest.mark.parametrize("pure", ["", pytest.param("1", marks=pytest.mark.long)], ids=["compiled", "python"])
    @pytest.mark.parametrize(
        ("ring", "tls"),
        [
            ("64KiB", "direct"),
            pytest.param("8MiB", "direct", marks=pytest.mark.long),
            pytest.param("64KiB", "stamped", marks=pytest.mark.long),
            pytest.param("8MiB", "openssl", marks=pytest.mark.long),
            pytest.param("64KiB", "openssl", marks=pytest.mark.long),
            pytest.param("256KiB", "stamped", marks=pytest.mark.long),
            pytest.param("256KiB", "openssl", marks=pytest.mark.long),
            pytest.param("8MiB", "stamped", marks=pytest.mark.long),
        ],
    )
    def test_tcp_pushes_back(self, wsrec, authority, ca_file, real_messages, tmp_path, tls, ring, pure):
        messages = real_messages[: self.PURE] if pure else real_messages
        wire = b"".join(Frame(Opcode.TEXT, message).serialize(mask=False) for message in messages)
        server = Blast(wire, authority)
        result = wsrec.run(
            *("record", server.url, "--ca-file", ca_file, "--until-close", "--out", tmp_path),
            *("--tls", tls, "--ring-size", ring),
            env={**os.environ, "WSREC_PURE": pure},
        )
        server.close()
        assert result.returncode == 0, result.stderr
        table = messages_of(tmp_path)
        assert received(table) == messages
        assert table["seq"].to_pylist() == list(range(len(table)))


class TestCompression:
    FEED = """
name: packed
description: A feed that asks for compression
sockets: {{main: {{url: "{url}", compression: deflate}}}}
subscribe: {{message: '{{"topics":{{topics}},"id":{{id}}}}', batch: 10}}
limits: {{streams_per_connection: 10, messages_per_second: 10, connects: 10, connects_interval: 1}}
channels: {{trade: {{topic: trade, default: true}}}}
fields: {{channel: [e], symbol: [s]}}
"""

    @pytest.mark.parametrize("pure", ["", "1"], ids=["compiled", "python"])
    def test_messages_are_recorded_as_they_were_before_compression(self, wsrec, exchange, ca_file, tmp_path, pure):
        sent = [json.dumps({"e": "trade", "s": "BTC", "n": n, "x": "y" * n}) for n in range(0, 3000, 50)]
        subscribed = []

        async def handler(connection):
            subscribed.append(await connection.recv())
            for message in sent:
                await connection.send(message)
            # in parts, of which only the first has the bit
            await connection.send([sent[1][:10], sent[1][10:]])
            await connection.send(b"\x00\xff")

        server = exchange(handler, tls=True, compression="deflate")
        (tmp_path / "packed.yaml").write_text(self.FEED.format(url=server.url))
        result = wsrec.run(
            *("record", tmp_path / "packed.yaml", "--ca-file", ca_file, "--until-close", "--out", tmp_path / "out"),
            env={**os.environ, "WSREC_PURE": pure},
        )
        assert result.returncode == 0, result.stderr
        table = messages_of(tmp_path / "out")
        assert received(table) == [message.encode() for message in [*sent, sent[1]]] + [b"\x00\xff"]
        rows = table.select(["direction", "opcode", "channel", "symbol", "text"]).to_pylist()
        assert {(row["channel"], row["symbol"]) for row in rows if row["direction"] == "recv" and row["text"]} == {
            ("trade", "BTC")
        }
        assert [row["text"] for row in rows if row["direction"] == "sent" and row["opcode"] == "text"] == subscribed
        (connected,) = events_of(tmp_path / "out", "connect")
        assert "server_no_context_takeover" in connected["detail"]["compression"]
        (file,) = (tmp_path / "out" / "messages").rglob("*.parquet")
        (connection,) = json.loads(pq.ParquetFile(file).metadata.metadata[b"wsrec.connections"])
        assert connection["compression"] == connected["detail"]["compression"]

    def test_an_exchange_without_it_is_recorded_as_it_sends(self, wsrec, exchange, tmp_path):
        server = exchange(sends(['{"e":"trade","s":"BTC"}']))
        (tmp_path / "packed.yaml").write_text(self.FEED.format(url=server.url))
        result = wsrec.run("record", tmp_path / "packed.yaml", "--until-close", "--out", tmp_path / "out")
        assert result.returncode == 0, result.stderr
        assert received(messages_of(tmp_path / "out")) == [b'{"e":"trade","s":"BTC"}']
        assert [event["detail"]["compression"] for event in events_of(tmp_path / "out", "connect")] == [None]

    @pytest.mark.long
    @pytest.mark.parametrize("more", ["", "; client_max_window_bits=12"])
    def test_one_that_compresses_in_another_way_is_recorded_without(self, wsrec, exchange, tmp_path, more):
        """Its messages may refer to those before them: a journal that begins in the middle could not be read."""

        def process_response(connection, request, response):
            if "Sec-WebSocket-Extensions" in request.headers:
                response.headers["Sec-WebSocket-Extensions"] = f"permessage-deflate{more}"

        server = exchange(sends(['{"e":"trade","s":"BTC"}']), process_response=process_response)
        (tmp_path / "packed.yaml").write_text(self.FEED.format(url=server.url))
        result = wsrec.run("record", tmp_path / "packed.yaml", "--until-close", "--out", tmp_path / "out")
        assert result.returncode == 0, result.stderr
        assert received(messages_of(tmp_path / "out")) == [b'{"e":"trade","s":"BTC"}']
        assert [event["detail"]["compression"] for event in events_of(tmp_path / "out", "connect")] == [None]
        assert events_of(tmp_path / "out", "lost_interval") == []
        assert "compression parameters were not offered" in result.stderr

    def test_a_message_that_does_not_inflate_is_kept_as_it_came(self, wsrec, authority, ca_file, tmp_path):
        bomb = zlib.compressobj(wbits=-15)
        packed = bomb.compress(bytes(1 << 20)) + bomb.flush(zlib.Z_SYNC_FLUSH)[:-4]
        frames = [(b"\xff\xff\xff", True), (packed, True), (b"plain", False)]
        wire = b"".join(frame(Opcode.TEXT, payload, rsv1=rsv1) for payload, rsv1 in frames)
        server = Blast(wire, authority, extensions=[ServerPerMessageDeflateFactory()])
        (tmp_path / "packed.yaml").write_text(self.FEED.format(url=server.url))
        result = wsrec.run(
            *("record", tmp_path / "packed.yaml", "--ca-file", ca_file, "--until-close", "--out", tmp_path / "out"),
            *("--max-message", "64KiB"),
        )
        server.close()
        assert result.returncode == 0, result.stderr
        assert received(messages_of(tmp_path / "out")) == [payload for payload, _ in frames]
        reported = [event["detail"] for event in events_of(tmp_path / "out", "not_inflated")]
        assert [detail["bytes"] for detail in reported] == [3, len(packed)]
        assert "--max-message" in reported[1]["message"]

    @pytest.mark.long
    def test_what_refers_to_earlier_messages_is_counted_and_never_called_read(
        self, wsrec, authority, ca_file, tmp_path
    ):
        """An exchange that agrees to compress each message by itself, and does not."""
        whole = zlib.compressobj(wbits=-15)
        stated = [f'{{"e":"trade","s":"BTC","n":{n},"x":"{"y" * 50}"}}'.encode() for n in range(40)]
        packed = [whole.compress(each) + whole.flush(zlib.Z_SYNC_FLUSH)[:-4] for each in stated]
        # the first can be read by itself, and two are not compressed
        sent = [packed[0], *stated[1:3], *packed[1:]]
        wire = b"".join(frame(Opcode.TEXT, each, rsv1=number not in (1, 2)) for number, each in enumerate(sent))
        server = Blast(wire, authority, extensions=[ServerPerMessageDeflateFactory()])
        feed = self.FEED.replace("topic: trade,", "topic: trade, exchange_seq: [n], sequence: next,")
        (tmp_path / "packed.yaml").write_text(feed.format(url=server.url))
        out = tmp_path / "out"
        result = wsrec.run(
            *("record", tmp_path / "packed.yaml", "--ca-file", ca_file, "--until-close", "--out", out, "--json")
        )
        server.close()
        assert result.returncode == 0, result.stderr
        assert received(messages_of(out)) == [stated[0], *sent[1:]]
        reported = [event["detail"] for event in events_of(out, "not_inflated")]
        assert len(reported) <= 2
        assert sum(detail["count"] for detail in reported) == 39
        assert sum(detail["bytes"] for detail in reported) == sum(map(len, packed[1:]))
        assert json.loads(result.stdout)["not_inflated"] == 39
        (line,) = (line for line in result.stderr.splitlines() if "39 of 42 messages" in line)
        assert "warning" in line
        assert "RFC 7692" in line
        report = wsrec.run("report", out).stdout
        assert "39 not_inflated" in report
        assert "quiet" not in report
        checked = wsrec.run("verify", out, "--json")
        assert checked.returncode == 0, checked.stdout
        (capture,) = json.loads(checked.stdout)["captures"]
        assert any("39 messages" in note["what"] for note in capture["findings"] if note["kind"] == "note")
        (stream,) = (stream for stream in capture["sessions"][0]["streams"] if stream["messages"])
        assert (stream["messages"], stream["not_inflated"], stream["state"]) == (3, 39, "unbroken")
        assert "(39 unread)" in wsrec.run("verify", out).stdout
