"""wsrec.tls.sealing: records that a real server opens, before and after KeyUpdates in both directions."""

from __future__ import annotations

import ssl

import pytest

from tests.tls import rfc8448
from tests.tls.records import OpensslConnection, OpensslServer, client_context, keys_of, opened, split
from tests.tls.sealed import TLS12
from wsrec.tls.key_log import CLIENT_SECRET, SERVER_SECRET, KeyLog
from wsrec.tls.keys import SEQUENCE_MAX, SUITES, tls12_keys, tls13_keys
from wsrec.tls.post_handshake import Meaning, PostHandshake
from wsrec.tls.sealing import Sealer, Sending, count_records

AES_128 = SUITES["TLS_AES_128_GCM_SHA256"]


def sealer(sequence: int = 0) -> Sealer:
    keys = tls13_keys(AES_128, bytearray(rfc8448.CLIENT_SECRET))
    keys.sequence = sequence
    return Sealer(keys)


class TestSealer:
    def test_records_are_those_of_the_trace(self):
        one = sealer()
        assert one.seal(rfc8448.DATA) == rfc8448.CLIENT_DATA_RECORD
        assert one.seal(b"\1\0", 21) == rfc8448.CLIENT_ALERT_RECORD

    @pytest.mark.parametrize("size", [0, 1, 1 << 14, (1 << 14) + 1, 50_000])
    def test_what_is_too_long_for_a_record_is_several(self, size):
        data = bytes(range(256)) * 200
        keys = tls13_keys(AES_128, bytearray(rfc8448.CLIENT_SECRET))
        records = split(sealer().seal(data[:size]))
        contents = [opened(keys, record) for record in records]
        assert b"".join(content for _, content in contents) == data[:size]
        assert all(kind == 23 and len(content) <= 1 << 14 for kind, content in contents)

    def test_the_next_keys_follow_a_key_update(self):
        one, keys = sealer(), tls13_keys(AES_128, bytearray(rfc8448.CLIENT_SECRET))
        for number in range(3):
            assert opened(keys, one.key_update()) == (22, b"\x18\0\0\1\0")
            keys = keys.next()
            assert opened(keys, one.seal(b"%d" % number)) == (23, b"%d" % number)

    def test_the_numbers_do_not_wrap(self):
        one = sealer(SEQUENCE_MAX - 1)
        one.seal(b"last")
        with pytest.raises(OverflowError):
            one.seal(b"one more")

    def test_nothing_is_sealed_once_the_keys_are_wiped(self):
        one = sealer()
        one.wipe()
        with pytest.raises(ValueError, match="wiped"):
            one.seal(b"x")

    @pytest.mark.parametrize("name", TLS12)
    def test_tls_1_2_has_other_records_and_no_key_update(self, name):
        client, _ = tls12_keys(SUITES[name], bytearray(48), bytes(32), bytes(32))
        keys, _ = tls12_keys(SUITES[name], bytearray(48), bytes(32), bytes(32))
        one = Sealer(client, (1 << 64) - 1)
        records = [one.seal(b"one"), one.seal(b"\2\x14", 21)]
        assert [opened(keys, record) for record in records] == [(23, b"one"), (21, b"\2\x14")]
        if SUITES[name].explicit_nonce:
            assert [record[5:13] for record in records] == [b"\xff" * 8, bytes(8)]
        with pytest.raises(ValueError, match="no KeyUpdate"):
            one.key_update()


def test_records_are_counted():
    record = b"\x17\x03\x03\x00\x04abcd"
    assert [count_records(record * count) for count in range(4)] == [0, 1, 2, 3]
    assert count_records(memoryview(record)) == 1
    for size in range(1, len(record)):
        with pytest.raises(ValueError, match="cut off"):
            count_records(record + record[:size])


@pytest.mark.parametrize("suite", [name for name, suite in SUITES.items() if suite.version == "TLSv1.3"])
def test_a_server_that_changes_keys_is_followed_and_follows(suite, authority, ca_file, tmp_path):
    """OpenSSL's server changes its keys, asks for ours (`K`) or does not (`k`), and reads what comes sealed."""
    context = client_context(ca_file)
    log = KeyLog(context)
    with OpensslServer(suite, authority, tmp_path) as server, OpensslConnection(server.port, context) as connection:
        secrets = log.take(connection.client_random)
        log.close()
        client, keys = (tls13_keys(SUITES[suite], secrets[label]) for label in (CLIENT_SECRET, SERVER_SECRET))
        sending, messages = Sending(connection.tls, connection.outgoing, client), PostHandshake("TLSv1.3")
        for number, command in enumerate([b"", b"K", b"k", b"K", b"K", b""]):
            sent = b"to %d" % number
            connection.send(sending.seal(sent + b"\n"))
            assert server.line(b"to ") == sent
            if command:
                server.say(command + b"\n")
                meaning = Meaning.NOTHING
                while meaning is Meaning.NOTHING:
                    meaning = messages.take(*opened(keys, connection.record()))
                assert meaning is (Meaning.KEYS_CHANGED_BOTH if command == b"K" else Meaning.KEYS_CHANGED)
                keys = keys.next()
                if meaning is Meaning.KEYS_CHANGED_BOTH:
                    connection.send(sending.key_update())
            server.say(b"from %d\n" % number)
            found = 22, b""
            while found[0] == 22:
                found = opened(keys, connection.record())
            assert found == (23, b"from %d\n" % number)
        sending.wipe()


def test_under_tls_1_2_openssl_seals(authority, ca_file, tmp_path):
    suite, context = "ECDHE-RSA-AES128-GCM-SHA256", client_context(ca_file)
    context.keylog_filename = str(tmp_path / "keys")
    with OpensslServer(suite, authority, tmp_path) as server, OpensslConnection(server.port, context) as connection:
        client, _ = keys_of(connection, suite, tmp_path / "keys")
        sending = Sending(connection.tls, connection.outgoing, None)
        (record,) = connection.send(sending.seal(b"to the server\n"))
        assert server.line(b"to ") == b"to the server"
        assert opened(client, record) == (23, b"to the server\n")
        with pytest.raises(ValueError, match="no keys"):
            sending.key_update()
        with pytest.raises(ValueError, match="no keys"):
            sending.alert(ssl.AlertDescription.ALERT_DESCRIPTION_INTERNAL_ERROR)
        sending.wipe()


def test_no_nonce_of_openssls_is_used_again(authority, ca_file, tmp_path):
    suite, context = "ECDHE-RSA-AES128-GCM-SHA256", client_context(ca_file)
    context.keylog_filename = str(tmp_path / "keys")
    with OpensslServer(suite, authority, tmp_path) as server, OpensslConnection(server.port, context) as connection:
        client, _ = keys_of(connection, suite, tmp_path / "keys")
        used = [record[5:13] for record in split(connection.sent) if record[0] == 22][-1:]
        sending = Sending(connection.tls, connection.outgoing, client)
        for _ in range(3):
            (record,) = connection.send(sending.seal(b"to the server\n"))
            used.append(record[5:13])
        alert = sending.alert(ssl.AlertDescription.ALERT_DESCRIPTION_BAD_RECORD_MAC)
        assert alert[5:13] not in used
        assert len(set(used)) == 4
        connection.send(alert)
        lines = [server.line(b"")]
        while b"alert" not in lines[-1]:
            lines.append(server.line(b""))
        assert b"alert bad record mac" in lines[-1]
