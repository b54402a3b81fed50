"""wsrec.supervise.record: what is made sure of before anything starts."""

from __future__ import annotations

import json
import resource

import pyarrow.parquet as pq
import pytest

from tests.conftest import received
from tests.rings import plan
from wsrec.supervise.record import check_descriptors


def limited(soft: int, hard: int):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestDescriptors:
    def test_too_few_are_named_with_the_hint_before_anything_starts(self, wsrec, tmp_path):
        out = tmp_path / "out"
        result = wsrec.run("record", "wss://localhost:1/x", "--out", out, preexec_fn=limited(80, 80))
        assert result.returncode == 2
        assert "need 86 file descriptors, and this process may open 80" in result.stderr
        assert "ulimit -n 86" in result.stderr
        assert "LimitNOFILE=86" in result.stderr
        assert not out.exists()

    def test_those_of_connections_that_stand_by_count(self, monkeypatch):
        raised = []
        monkeypatch.setattr(resource, "getrlimit", lambda _: (100, resource.RLIM_INFINITY))
        monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits[0]))
        for replaceable in (False, True):
            plans = [plan(conn, replaceable=replaceable) for conn in range(1000)]
            check_descriptors(plans, 1)
        alone, with_spare = raised
        # the receiver has each ring as it came and as it is mapped; one is open while the other tries two addresses
        assert with_spare == alone + 3 * 1000

    @pytest.mark.long
    def test_the_soft_limit_is_raised(self, wsrec, exchange, tmp_path):
        server = exchange(lambda connection: connection.wait_closed())
        result = wsrec.run("record", server.url, "--out", tmp_path, "--duration", "1s", preexec_fn=limited(40, 4096))
        assert result.returncode == 3, result.stderr


class TestUrlsOfOneHost:
    @pytest.mark.long
    def test_are_recorded_in_one_run_and_the_next_run_continues_their_folders(self, wsrec, exchange, tmp_path):
        async def handler(connection):
            await connection.send(connection.request.path)
            await connection.close()

        url = exchange(handler).url
        urls = [f"{url}/b?key=s3cret", f"{url}/a", f"third={url}/a"]
        for again in (urls, urls[::-1]):
            result = wsrec.run("record", *again, "--out", tmp_path / "out", "--until-close", "--json")
            assert result.returncode == 0, result.stderr
        found = {}
        for folder in (tmp_path / "out" / "messages").iterdir():
            files = [pq.ParquetFile(file).read() for file in folder.rglob("*.parquet")]
            found[folder.name] = [payload for file in files for payload in received(file)]
        assert found == {
            "feed=localhost": [b"/stream/a"] * 2,
            "feed=localhost-2": [b"/stream/b?key=s3cret"] * 2,
            "feed=third": [b"/stream/a"] * 2,
        }
        hidden = url.replace("/stream", "/***/***")
        assert json.loads(result.stdout)["targets"] == [
            f"third={hidden}",
            f"localhost={hidden}",
            f"{hidden}?key=***",
        ]
