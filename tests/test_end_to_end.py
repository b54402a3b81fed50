"""From a real TLS server to Parquet and back: what the whole recorder promises."""

from __future__ import annotations

import itertools
import json
import os

import numpy as np
import pytest
from websockets.frames import Frame, Opcode

from tests.conftest import events_of, messages_of, received
from tests.exchange import Blast, sends
from wsrec.stages import STAGES


@pytest.fixture(scope="module")
def text_messages(real_messages):
    return [message.decode() for message in real_messages]


class TestRealRecording:
    @pytest.mark.parametrize("tls", ["stamped", "openssl"])
    @pytest.mark.parametrize("wait", [[], ["--busy-poll"]], ids=["epoll", "busy-poll"])
    def test_every_message_over_tls(self, wsrec, exchange, ca_file, text_messages, real_messages, tmp_path, tls, wait):
        server = exchange(sends(text_messages), tls=True)
        result = wsrec.run(
            *("record", server.url, "--ca-file", ca_file, "--until-close", "--out", tmp_path),
            *("--tls", tls, "--json", *wait),
        )
        assert result.returncode == 0, result.stderr
        table = messages_of(tmp_path)
        assert received(table) == real_messages
        assert table["seq"].to_pylist() == list(range(len(table)))
        assert json.loads(result.stdout)["messages"] == len(real_messages)

        rows = table.filter(np.array(table["direction"].to_pylist()) == "recv")
        stages = [rows[stage.column].cast("int64").to_numpy() for stage in STAGES[1:]]
        for before, after in itertools.pairwise(stages):
            assert (before <= after).all()
        sources = set(rows["recv_source"].to_pylist())
        if tls == "stamped":
            assert sources == {"kernel"}
            assert rows["nic_time"].null_count == 0
        else:
            assert sources == {"user"}
            assert rows["nic_time"].null_count == len(rows)
        receivers = [
            row["detail"] for row in events_of(tmp_path, "scheduling") if row["detail"]["process"] == "receiver"
        ]
        assert [detail["waiting"] for detail in receivers] == ["busy-poll" if wait else "epoll"]


class TestSaturation:
    """The same bytes as fast as TCP takes them, into rings that are full all the time: nothing is lost."""

    @pytest.mark.parametrize("pure", ["", "1"], ids=["compiled", "python"])
    @pytest.mark.parametrize("tls", ["stamped", "openssl"])
    @pytest.mark.parametrize("ring", ["64KiB", "256KiB", "8MiB"])
    def test_tcp_pushes_back(self, wsrec, authority, ca_file, real_messages, tmp_path, tls, ring, pure):
        wire = b"".join(Frame(Opcode.TEXT, message).serialize(mask=False) for message in real_messages)
        server = Blast(wire, authority)
        result = wsrec.run(
            *("record", server.url, "--ca-file", ca_file, "--until-close", "--out", tmp_path),
            *("--tls", tls, "--ring-size", ring),
            env={**os.environ, "WSREC_PURE": pure},
        )
        server.close()
        assert result.returncode == 0, result.stderr
        table = messages_of(tmp_path)
        assert received(table) == real_messages
        assert table["seq"].to_pylist() == list(range(len(table)))
