"""wsrec.tls.libcrypto: the ciphers and HMAC of Python's own OpenSSL, and memory that is wiped."""

from __future__ import annotations

import hmac
import os
import random
import ssl
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.tls import libcrypto
from wsrec.tls.libcrypto import HASH_SIZES, KEY_SIZES, NONCE_SIZE, TAG_SIZE, Aead, LibcryptoError

HASHES = list(HASH_SIZES)
CIPHERS = list(KEY_SIZES)
NONCE = bytes(range(NONCE_SIZE))


class TestLibrary:
    def test_it_is_there(self):
        assert libcrypto.unavailable() is None

    def test_a_function_of_it_has_an_address(self):
        assert libcrypto.address("EVP_DecryptUpdate") != libcrypto.address("EVP_DecryptFinal_ex") != 0
        with pytest.raises(LibcryptoError, match="has no EVP_nonsense"):
            libcrypto.address("EVP_nonsense")

    def test_another_version_is_not_taken_for_it(self):
        # in a process of its own, as the library is looked for once
        code = (
            "import ssl; ssl.OPENSSL_VERSION_NUMBER += 1\n"
            "from wsrec.tls import libcrypto\n"
            "print(libcrypto.unavailable())\n"
            "try: libcrypto.hmac('sha256', b'', b'')\n"
            "except libcrypto.LibcryptoError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        first, second = done.stdout.splitlines()
        assert first == second == f"the libcrypto that was found is not that of {ssl.OPENSSL_VERSION}"


@given(st.sampled_from(HASHES), st.binary(max_size=200), st.binary(max_size=300))
def test_hmac_is_that_of_python(name, key, data):
    expected = hmac.digest(key, data, name)
    assert libcrypto.hmac(name, key, data) == libcrypto.hmac(name, bytearray(key), bytearray(data)) == expected


class TestWipe:
    def test_bytes_become_zeros(self):
        first, second = bytearray(b"secret"), bytearray(b"another")
        libcrypto.wipe(first, second)
        assert (first, second) == (bytes(6), bytes(7))

    def test_a_part_through_a_view_and_nothing(self):
        buffer = bytearray(b"keep secret")
        libcrypto.wipe(memoryview(buffer)[5:], bytearray())
        assert buffer == b"keep \0\0\0\0\0\0"

    def test_what_is_read_only_is_not_taken_for_wiped(self):
        with pytest.raises((TypeError, ValueError)):
            libcrypto.wipe(memoryview(b"secret"))


@pytest.mark.parametrize("cipher", CIPHERS)
class TestAead:
    def key(self, cipher):
        return bytearray(range(KEY_SIZES[cipher]))

    @pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 300, 16_385])
    def test_what_is_sealed_opens(self, cipher, size):
        aead, data = Aead(cipher, self.key(cipher)), random.Random(size).randbytes(size)
        sealed = aead.seal(NONCE, b"header", data)
        assert len(sealed) == size + TAG_SIZE
        for wrap in (bytes, bytearray, memoryview):
            found = bytearray(b"\xff" * (size + 3))
            assert aead.open(NONCE, b"header", wrap(sealed[:size]), wrap(sealed[size:]), memoryview(found))
            assert found == data + b"\xff" * 3

    def test_a_flipped_bit_anywhere_is_noticed_and_nothing_is_left(self, cipher):
        aead, data = Aead(cipher, self.key(cipher)), b"some data of 21 bytes"
        sealed = aead.seal(NONCE, b"header", data)
        parts = [NONCE, b"header", sealed[: len(data)], sealed[len(data) :]]
        for number, part in enumerate(parts):
            for bit in range(len(part) * 8):
                changed = bytearray(part)
                changed[bit // 8] ^= 1 << bit % 8
                found = bytearray(b"\xff" * (len(data) + 1))
                assert not aead.open(*(changed if n == number else p for n, p in enumerate(parts)), found)
                assert found == bytes(len(data)) + b"\xff"

    def test_it_goes_on_after_a_wrong_one(self, cipher):
        aead, found = Aead(cipher, self.key(cipher)), bytearray(3)
        sealed = aead.seal(NONCE, b"", b"abc")
        assert not aead.open(NONCE, b"", sealed[:3], bytes(TAG_SIZE), found)
        assert aead.open(NONCE, b"", sealed[:3], sealed[3:], found)
        assert found == b"abc"

    def test_nothing_works_once_it_is_wiped(self, cipher):
        aead = Aead(cipher, self.key(cipher))
        aead.wipe()
        aead.wipe()
        with pytest.raises(LibcryptoError, match="wiped"):
            aead.seal(NONCE, b"", b"abc")
        with pytest.raises(LibcryptoError, match="wiped"):
            aead.open(NONCE, b"", b"", bytes(TAG_SIZE), bytearray())

    def test_sizes_are_checked(self, cipher):
        with pytest.raises(ValueError, match="bytes, not 7"):
            Aead(cipher, bytearray(7))
        aead = Aead(cipher, self.key(cipher))
        for nonce, tag, room in ((bytes(11), bytes(16), 3), (NONCE, bytes(15), 3), (NONCE, bytes(16), 2)):
            with pytest.raises(ValueError, match="nonce has 12"):
                aead.open(nonce, b"", b"abc", tag, bytearray(room))
        with pytest.raises(ValueError, match="12 bytes"):
            aead.seal(os.urandom(13), b"", b"abc")


def test_test_vectors():
    # RFC 8439 2.8.2, and McGrew and Viega's test cases 2 and 14 of GCM
    key = bytes(range(0x80, 0xA0))
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    aad = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    sealed = Aead("chacha20-poly1305", key).seal(bytes.fromhex("070000004041424344454647"), aad, text)
    assert sealed[:8].hex() == "d31a8d34648e60db"
    assert sealed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"
    sealed = Aead("aes-128-gcm", bytes(16)).seal(bytes(12), b"", bytes(16))
    assert sealed.hex() == "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf"
    sealed = Aead("aes-256-gcm", bytes(32)).seal(bytes(12), b"", bytes(16))
    assert sealed.hex() == "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
