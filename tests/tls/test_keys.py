"""wsrec.tls.keys: against the traces of RFC 8448, and against what real servers of every cipher suite sealed."""

from __future__ import annotations

import pytest

from tests.tls import rfc8448
from tests.tls.records import OpensslConnection, OpensslServer, client_context, keys_of, nonce_of, opened
from wsrec.tls.keys import SUITES, TrafficKeys, expand_label, hello_random, prf, tls12_keys, tls13_keys
from wsrec.tls.libcrypto import Aead

AES_128 = SUITES["TLS_AES_128_GCM_SHA256"]


class TestTraces:
    """RFC 8448 section 3, line by line."""

    @pytest.mark.parametrize("who", ["CLIENT", "SERVER", "CLIENT_HANDSHAKE", "SERVER_HANDSHAKE"])
    def test_keys_of_a_secret(self, who):
        keys = tls13_keys(AES_128, bytearray(getattr(rfc8448, f"{who}_SECRET")))
        assert keys.key == getattr(rfc8448, f"{who}_KEY")
        assert keys.iv == getattr(rfc8448, f"{who}_IV")
        assert (keys.version, keys.sequence) == ("TLSv1.3", 0)

    @pytest.mark.parametrize(
        ("secret", "records"),
        [
            (
                rfc8448.SERVER_SECRET,
                {
                    rfc8448.SERVER_TICKET_RECORD: (22, None),
                    rfc8448.SERVER_DATA_RECORD: (23, rfc8448.DATA),
                    rfc8448.SERVER_ALERT_RECORD: (21, b"\x01\x00"),
                },
            ),
            (
                rfc8448.CLIENT_SECRET,
                {
                    rfc8448.CLIENT_DATA_RECORD: (23, rfc8448.DATA),
                    rfc8448.CLIENT_ALERT_RECORD: (21, b"\x01\x00"),
                },
            ),
        ],
    )
    def test_records_open_with_them(self, secret, records):
        keys = tls13_keys(AES_128, bytearray(secret))
        for record, (kind, content) in records.items():
            found_kind, found = opened(keys, record)
            assert found_kind == kind
            # a NewSessionTicket whose body has 201 bytes
            assert found == content if content is not None else found[:4] == b"\x04\x00\x00\xc9"


def test_the_prf_of_tls_1_2():
    # the vectors that were published on the TLS working group's list (2009, for SHA-256 and SHA-384)
    secret = bytearray.fromhex("9bbe436ba940f017b17652849a71db35")
    seed = bytes.fromhex("a0ba9f936cda311827a6f796ffd5198c")
    found = prf("sha256", secret, b"test label" + seed, 100)
    assert found.hex() == (
        "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af0fa0"
        "22f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff70187347b66"
    )
    assert prf("sha256", secret, b"test label" + seed, 33) == found[:33]
    secret = bytearray.fromhex("b80b733d6ceefcdc71566ea48e5567df")
    seed = bytes.fromhex("cd665cf6a8447dd6ff8b27555edb7465")
    found = prf("sha384", secret, b"test label" + seed, 148)
    assert found.hex() == (
        "7b0c18e9ced410ed1804f2cfa34a336a1c14dffb4900bb5fd7942107e81c83cde9ca0faa60be9fe34f82b1233c9146a0e534"
        "cb400fed2700884f9dc236f80edd8bfa961144c9e8d792eca722a7b32fc3d416d473ebc2c5fd4abfdad05d9184259b5bf8cd"
        "4d90fa0d31e2dec479e4f1a26066f2eea9a69236a3e52655c9e9aee691c8f3a26854308d5eaa3be85e0990703d73e56f"
    )


@pytest.mark.parametrize("name", SUITES)
def test_what_openssl_seals_opens(name, authority, ca_file, tmp_path):
    """In both directions, and in order: the sequence numbers are those that OpenSSL counts."""
    context = client_context(ca_file)
    context.keylog_filename = str(tmp_path / "keys")
    with OpensslServer(name, authority, tmp_path) as server, OpensslConnection(server.port, context) as connection:
        assert connection.tls.cipher()[0] == name
        client_keys, server_keys = keys_of(connection, name, tmp_path / "keys")
        for number in range(3):
            text = b"message %d\n" % number
            server.say(text)
            found = [opened(server_keys, connection.record())]
            while found[-1][0] != 23:
                found.append(opened(server_keys, connection.record()))
            # session tickets come first
            assert number == 0 or len(found) == 1
            assert {kind for kind, _ in found[:-1]} <= {22}
            assert found[-1] == (23, text)
            connection.tls.write(text)
            assert [opened(client_keys, record) for record in connection.flush()] == [(23, text)]


class TestTrafficKeys:
    def keys(self) -> TrafficKeys:
        return tls13_keys(AES_128, bytearray(rfc8448.SERVER_SECRET))

    def test_the_next_ones_are_those_of_the_next_secret(self):
        keys = self.keys()
        after = keys.next()
        # RFC 8446 7.2
        assert after.secret == expand_label("sha256", keys.secret, b"traffic upd", 32)
        assert after.secret != rfc8448.SERVER_SECRET
        assert after.key == expand_label("sha256", after.secret, b"key", 16)
        assert after.sequence == 0
        assert keys.secret == rfc8448.SERVER_SECRET

    def test_wiping_leaves_no_byte_of_them(self):
        keys = self.keys()
        held = keys.key, keys.iv, keys.secret
        keys.wipe()
        keys.wipe()
        assert all(part == bytes(len(part)) and part for part in held)
        with pytest.raises(ValueError, match="successors"):
            keys.next()

    def test_no_secret_is_shown(self):
        keys = self.keys()
        for shown in (repr(keys), str(keys), f"{keys}", repr([keys])):
            assert "TLS_AES_128_GCM_SHA256" in shown
            for part in (keys.key, keys.iv, keys.secret):
                assert part.hex() not in shown
                assert repr(bytes(part))[2:-1] not in shown

    def test_tls_1_2_has_no_next_ones(self):
        client, _ = tls12_keys(SUITES["ECDHE-RSA-AES128-GCM-SHA256"], bytearray(48), bytes(32), bytes(32))
        assert client.version == "TLSv1.2"
        with pytest.raises(ValueError, match="successors"):
            client.next()

    def test_a_secret_of_another_size_is_refused_without_showing_it(self):
        with pytest.raises(ValueError, match="48 bytes, not 32"):
            tls13_keys(SUITES["TLS_AES_256_GCM_SHA384"], bytearray(rfc8448.SERVER_SECRET))
        with pytest.raises(ValueError, match="48 bytes"):
            tls12_keys(SUITES["ECDHE-RSA-AES128-GCM-SHA256"], bytearray(47), bytes(32), bytes(32))


def test_a_wrong_number_does_not_open():
    """What `opened` computes matters: nonce and header are part of what is verified."""
    keys = tls13_keys(AES_128, bytearray(rfc8448.SERVER_SECRET))
    record, into = rfc8448.SERVER_DATA_RECORD, bytearray(100)
    aead = Aead("aes-128-gcm", keys.key)
    for sequence, right in ((0, False), (1, True), (2, False)):
        assert aead.open(nonce_of(keys, sequence), record[:5], record[5:-16], record[-16:], into) is right


@pytest.mark.parametrize(
    "data", [b"", b"\x16\x03\x03\x00\x30\x02" + bytes(36), b"\x15" + bytes(50), b"\x16\3\3\0\x60\x0b" + bytes(90)]
)
def test_what_is_no_hello_has_no_random(data):
    with pytest.raises(ValueError, match="hello"):
        hello_random(data)


HELLO = b"\x02" + (60).to_bytes(3) + b"\3\3" + bytes(range(32)) + bytes(26)


def record_of(content: bytes, kind: int = 22) -> bytes:
    return bytes((kind, 3, 3)) + len(content).to_bytes(2) + content


@pytest.mark.parametrize("cut", [1, 4, 5, 20, 37, 38, 60])
@pytest.mark.parametrize("warnings", [b"", record_of(b"\x01\x70", 21) * 2])
def test_a_hello_in_two_records_has_its_random(cut, warnings):
    assert hello_random(warnings + record_of(HELLO[:cut]) + record_of(HELLO[cut:])) == bytes(range(32))


def test_a_hello_that_another_record_interrupts_has_none():
    with pytest.raises(ValueError, match="hello"):
        hello_random(record_of(HELLO[:20]) + record_of(b"\x01", 20) + record_of(HELLO[20:]))
