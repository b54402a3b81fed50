"""wsrec.tls.key_log: the secrets of real handshakes, which are nowhere afterwards."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.tls.records import OpensslConnection, OpensslServer, client_context, opened
from tests.tls.secrets_left import copies_in, needles_of, secrets_of
from wsrec.tls import key_log
from wsrec.tls.key_log import CLIENT_SECRET, MASTER_SECRET, SERVER_SECRET, KeyLog
from wsrec.tls.keys import SUITES as SUITES_OF_NAME

SUITES = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"]


@pytest.fixture
def connect(authority, ca_file, tmp_path):
    """A connection with a suite to a server of its own, which logs its secrets too, and those."""
    open_ones = []

    def start(context: ssl.SSLContext, suite: str = SUITES[1]) -> tuple[OpensslConnection, dict[str, str]]:
        log = tmp_path / f"server {len(open_ones)}"
        server = OpensslServer(suite, authority, tmp_path, "-keylogfile", log)
        open_ones.append(server)
        connection = OpensslConnection(server.port, context)
        open_ones.append(connection)
        return connection, secrets_of(log, connection.client_random)

    yield start
    for one in reversed(open_ones):
        one.__exit__()


@pytest.mark.parametrize("suite", SUITES)
def test_the_secrets_are_those_of_the_server(suite, connect, ca_file):
    context = client_context(ca_file)
    log = KeyLog(context)
    connection, theirs = connect(context, suite)
    labels = {MASTER_SECRET} if suite.startswith("ECDHE") else {CLIENT_SECRET, SERVER_SECRET}
    ours = log.take(connection.client_random)
    assert {label: secret.hex() for label, secret in ours.items()} == {label: theirs[label] for label in labels}
    assert log.take(connection.client_random) == {}
    log.close()


@pytest.mark.parametrize("suite", SUITES)
def test_both_keys_at_once(suite, connect, ca_file):
    context = client_context(ca_file)
    log = KeyLog(context)
    connection, _ = connect(context, suite)
    both = log.keys(SUITES_OF_NAME[suite], connection.client_random, connection.server_random)
    assert both is not None
    connection.tls.write(b"hello")
    (record,) = connection.flush()
    assert opened(both[0], record) == (23, b"hello")
    assert (both[1].sequence, both[1].suite.name) == (int(suite.startswith("ECDHE")), suite)
    assert log.keys(SUITES_OF_NAME[suite], connection.client_random, connection.server_random) is None
    log.close()


def test_a_context_without_tls_1_3_is_refused_and_left_as_it_was(ca_file):
    context = client_context(ca_file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="no secrets of TLS"):
        KeyLog(context)
    assert context.keylog_filename is None


def test_handshakes_may_overlap_and_be_asked_for_in_any_order(connect, ca_file):
    context = client_context(ca_file)
    log = KeyLog(context)
    made = [connect(context) for _ in range(3)]
    for connection, theirs in (made[1], made[0]):
        assert log.take(connection.client_random)[SERVER_SECRET].hex() == theirs[SERVER_SECRET]
    log.forget(made[2][0].client_random)
    assert log.take(made[2][0].client_random) == {}
    log.close()


def test_the_file_has_no_name_and_is_empty_once_the_secrets_are_taken(connect, ca_file):
    context = client_context(ca_file)
    log = KeyLog(context)
    file = int(context.keylog_filename.removeprefix("/proc/self/fd/"))
    assert str(Path(context.keylog_filename).readlink()) == "/memfd: (deleted)"
    assert not os.get_inheritable(file)
    connection, _ = connect(context)
    assert os.fstat(file).st_size > 0
    log.take(connection.client_random)
    assert os.fstat(file).st_size == 0
    log.close()


def test_handshakes_that_nobody_asks_for_are_forgotten_in_time(connect, ca_file, monkeypatch):
    monkeypatch.setattr(key_log, "_UNTAKEN_MAX", 2)
    context = client_context(ca_file)
    log = KeyLog(context)
    first, second, third = (connect(context)[0] for _ in range(3))
    assert log.take(first.client_random) == {}
    assert log.take(second.client_random)
    assert log.take(third.client_random)
    log.close()


def test_a_file_that_was_asked_for_gets_the_lines_too(connect, ca_file, tmp_path):
    context = client_context(ca_file)
    wanted = tmp_path / "SSLKEYLOGFILE"
    context.keylog_filename = str(wanted)
    log = KeyLog(context)
    connection, theirs = connect(context)
    assert log.take(connection.client_random)
    assert secrets_of(wanted, connection.client_random) == theirs
    # and none of the handshakes that never happen
    randoms = {line.split()[1] for line in wanted.read_text().splitlines() if not line.startswith("#")}
    assert randoms == {connection.client_random.hex()}
    log.close()
    assert context.keylog_filename == str(wanted)
    other, theirs = connect(context)
    assert secrets_of(wanted, other.client_random) == theirs


def test_a_context_verifies_as_before(connect, authority, tmp_path):
    context = ssl.create_default_context()
    log = KeyLog(context)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(context)
    log.close()


def left(mode: str, suite: str, authority, ca_file, folder) -> list[Counter[str]]:
    """The copies of its secrets in a client's memory while it uses them, and after it has closed the connection."""
    log = folder / mode
    with OpensslServer(suite, authority, folder, "-keylogfile", log) as server:
        client = subprocess.Popen(
            [sys.executable, "-m", "tests.tls.secrets_left", mode, str(server.port), str(ca_file), suite],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with client:
            assert client.stdin is not None
            assert client.stdout is not None
            try:
                randoms = [bytes.fromhex(text) for text in client.stdout.readline().decode().split()]
                needles = needles_of(suite, secrets_of(log, randoms[0]), *randoms)
                found = []
                for state in (b"used\n", b"closed\n"):
                    client.stdin.write(b"\n")
                    client.stdin.flush()
                    assert client.stdout.readline() == state
                    found.append(copies_in(client.pid, needles))
            finally:
                client.kill()
    return found


@pytest.mark.parametrize("suite", SUITES[1:])
def test_no_secret_is_left_in_memory(suite, authority, ca_file, tmp_path):
    """A client's memory is searched for what the server says were the secrets.

    OpenSSL itself leaves some of them in what it frees, with or without the key log: that is what a client has left
    that uses nothing of ours. There is no more than that.
    """
    used, closed = left("ours", suite, authority, ca_file, tmp_path)
    _, closed_of_openssl = left("openssl", suite, authority, ca_file, tmp_path)
    # the search does find keys where there are some
    assert used["server's key"] > 1
    assert not any("text" in name for name in used), used
    assert closed <= closed_of_openssl, (closed, closed_of_openssl)
    assert not any("key" in name for name in closed), closed
