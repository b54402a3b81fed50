"""wsrec.session.record: what is made sure of before anything starts."""

from __future__ import annotations

import resource


def limited(soft: int, hard: int):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestDescriptors:
    def test_too_few_are_named_with_the_cure_before_anything_starts(self, wsrec, tmp_path):
        out = tmp_path / "out"
        result = wsrec.run("record", "wss://localhost:1/x", "--out", out, preexec_fn=limited(80, 80))
        assert result.returncode == 2
        assert "need 86 file descriptors, and this process may open 80" in result.stderr
        assert "ulimit -n 86" in result.stderr
        assert "LimitNOFILE=86" in result.stderr
        assert not out.exists()

    def test_the_soft_limit_is_raised(self, wsrec, exchange, tmp_path):
        server = exchange(lambda connection: connection.wait_closed())
        result = wsrec.run("record", server.url, "--out", tmp_path, "--duration", "1s", preexec_fn=limited(40, 4096))
        assert result.returncode == 3, result.stderr
