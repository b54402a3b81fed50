"""The libcrypto that Python's `ssl` uses: AEAD ciphers and HMAC through ctypes, and memory that is wiped.

It is the very library that did the handshake, found through the extension module `_ssl`: two versions in one process
would each have their own faults and their own settings (FIPS).

Source: EVP_EncryptInit(3), HMAC(3), OPENSSL_cleanse(3).
"""

from __future__ import annotations

import _ssl
import ctypes
import functools
import ssl
from ctypes import POINTER, c_char, c_char_p, c_int, c_size_t, c_ulong, c_void_p
from typing import Literal

Cipher = Literal["aes-128-gcm", "aes-256-gcm", "chacha20-poly1305"]
"""The ciphers of TLS that are authenticated, by OpenSSL's names."""

KEY_SIZES: dict[Cipher, int] = {"aes-128-gcm": 16, "aes-256-gcm": 32, "chacha20-poly1305": 32}
"""Bytes of a key."""

HashName = Literal["sha256", "sha384"]

HASH_SIZES: dict[HashName, int] = {"sha256": 32, "sha384": 48}
"""Bytes of a hash."""

NONCE_SIZE = 12
"""Bytes of a nonce of every cipher (RFC 5116 5.1, RFC 8439 2.8)."""

TAG_SIZE = 16
"""Bytes of a tag of every cipher."""

# openssl/evp.h
_SET_TAG, _GET_TAG = 0x11, 0x10

CIPHER_FUNCTIONS: dict[Cipher, str] = {
    "aes-128-gcm": "EVP_aes_128_gcm",
    "aes-256-gcm": "EVP_aes_256_gcm",
    "chacha20-poly1305": "EVP_chacha20_poly1305",
}
"""The functions of `openssl/evp.h` that give them."""

_HASH_FUNCTIONS: dict[HashName, str] = {"sha256": "EVP_sha256", "sha384": "EVP_sha384"}

_PROTOTYPES: dict[str, tuple[type | None, list[type]]] = {
    "OpenSSL_version_num": (c_ulong, []),
    "OPENSSL_cleanse": (None, [c_void_p, c_size_t]),
    "HMAC": (c_void_p, [c_void_p, c_void_p, c_int, c_void_p, c_size_t, c_void_p, POINTER(ctypes.c_uint)]),
    "EVP_CIPHER_CTX_new": (c_void_p, []),
    "EVP_CIPHER_CTX_free": (None, [c_void_p]),
    "EVP_CIPHER_CTX_ctrl": (c_int, [c_void_p, c_int, c_int, c_void_p]),
    "EVP_DecryptInit_ex": (c_int, [c_void_p] * 5),
    "EVP_DecryptUpdate": (c_int, [c_void_p, c_void_p, POINTER(c_int), c_void_p, c_int]),
    "EVP_DecryptFinal_ex": (c_int, [c_void_p, c_void_p, POINTER(c_int)]),
    "EVP_EncryptInit_ex": (c_int, [c_void_p] * 5),
    "EVP_EncryptUpdate": (c_int, [c_void_p, c_void_p, POINTER(c_int), c_void_p, c_int]),
    "EVP_EncryptFinal_ex": (c_int, [c_void_p, c_void_p, POINTER(c_int)]),
    "ERR_clear_error": (None, []),
    **{name: (c_void_p, []) for name in (*CIPHER_FUNCTIONS.values(), *_HASH_FUNCTIONS.values())},
}


class LibcryptoError(OSError):
    """libcrypto refused what it was asked for: no memory, or a cipher that its settings do not allow."""


@functools.cache
def unavailable() -> str | None:
    """Why libcrypto cannot be called on this machine; None if it can."""
    # an `_ssl` that is built into the interpreter has no file: its functions are the program's own
    try:
        found = ctypes.CDLL(getattr(_ssl, "__file__", None))
    except OSError as error:
        return f"the library of {ssl.OPENSSL_VERSION} cannot be loaded ({error})"
    for name in _PROTOTYPES:
        if not hasattr(found, name):
            return f"{ssl.OPENSSL_VERSION} of this Python does not export {name}"
    found.OpenSSL_version_num.restype = c_ulong
    if found.OpenSSL_version_num() != ssl.OPENSSL_VERSION_NUMBER:
        return f"the libcrypto that was found is not that of {ssl.OPENSSL_VERSION}"
    return None


def address(name: str) -> int:
    """The address of one of libcrypto's functions, for compiled code.

    Raises:
        LibcryptoError: there is no such function, or no libcrypto that can be called.

    """
    try:
        return ctypes.cast(getattr(_library(), name), c_void_p).value or 0
    except AttributeError:
        raise LibcryptoError(f"{ssl.OPENSSL_VERSION} has no {name}") from None


def wipe(*buffers: bytearray | memoryview) -> None:
    """Overwrite buffers of bytes with zeros, by a call that no compiler may leave out."""
    for buffer in buffers:
        if len(buffer):
            _library().OPENSSL_cleanse(_writable(buffer), len(buffer))


def hmac(hash_name: HashName, key: bytes | bytearray, data: bytes | bytearray) -> bytearray:
    """HMAC (RFC 2104), without a copy of `key` or `data`.

    Raises:
        LibcryptoError: libcrypto refused.

    """
    library = _library()
    result = bytearray(HASH_SIZES[hash_name])
    function = getattr(library, _HASH_FUNCTIONS[hash_name])()
    size = ctypes.c_uint()
    if not library.HMAC(
        function, _readable(key), len(key), _readable(data), len(data), _writable(result), ctypes.byref(size)
    ) or size.value != len(result):
        library.ERR_clear_error()
        raise LibcryptoError(f"HMAC-{hash_name} failed in {ssl.OPENSSL_VERSION}")
    return result


class Aead:
    """One cipher with one key (RFC 5116).

    Args:
        cipher: which.
        key: of the cipher's size; libcrypto keeps its own copy until `wipe`.

    Raises:
        LibcryptoError: libcrypto refuses the cipher.
        ValueError: the key is not of the cipher's size.

    """

    def __init__(self, cipher: Cipher, key: bytes | bytearray) -> None:
        self._context: int | None = None
        if len(key) != KEY_SIZES[cipher]:
            raise ValueError(f"a key of {cipher} has {KEY_SIZES[cipher]} bytes, not {len(key)}")
        self.cipher = cipher
        self._library = library = _library()
        self._context = library.EVP_CIPHER_CTX_new()
        # a direction is set with each nonce, as one object does both
        function = getattr(library, CIPHER_FUNCTIONS[cipher])()
        if not self._context or not library.EVP_DecryptInit_ex(self._context, function, None, _readable(key), None):
            self.wipe()
            library.ERR_clear_error()
            raise LibcryptoError(f"{ssl.OPENSSL_VERSION} refuses {cipher}")

    def __del__(self) -> None:
        self.wipe()

    def wipe(self) -> None:
        """Wipe and free libcrypto's copy of the key. Nothing can be opened or sealed any more."""
        if self._context:
            # it wipes what it frees, the key schedule included (EVP_CIPHER_CTX_free(3))
            self._library.EVP_CIPHER_CTX_free(self._context)
            self._context = None

    def open(
        self,
        nonce: bytes | bytearray,
        aad: bytes | bytearray | memoryview,
        ciphertext: bytes | bytearray | memoryview,
        tag: bytes | bytearray | memoryview,
        into: bytearray | memoryview,
    ) -> bool:
        """Decrypt `ciphertext` into the first bytes of `into`, and verify it and `aad` by `tag`.

        Returns:
            Whether the tag is right. If it is not, what was written to `into` is wiped.

        Raises:
            LibcryptoError: wiped already.
            ValueError: a wrong size of nonce, tag or `into`.

        """
        size = len(ciphertext)
        if len(nonce) != NONCE_SIZE or len(tag) != TAG_SIZE or len(into) < size:
            raise ValueError("the nonce has 12 bytes, the tag 16, and the plaintext as many as the ciphertext")
        library, context, done = self._library, self._opened(), c_int()
        target = into if isinstance(into, bytearray) else into[:size]
        right: bool = (
            library.EVP_DecryptInit_ex(context, None, None, None, _readable(nonce)) == 1
            and library.EVP_DecryptUpdate(context, None, ctypes.byref(done), _readable(aad), len(aad)) == 1
            and (
                size == 0
                or library.EVP_DecryptUpdate(
                    context, _writable(target), ctypes.byref(done), _readable(ciphertext), size
                )
                == 1
            )
            and library.EVP_CIPHER_CTX_ctrl(context, _SET_TAG, TAG_SIZE, _readable(tag)) == 1
            and library.EVP_DecryptFinal_ex(context, (c_char * TAG_SIZE)(), ctypes.byref(done)) == 1
        )
        if not right:
            library.ERR_clear_error()
            if size:
                library.OPENSSL_cleanse(_writable(target), size)
        return right

    def seal(
        self, nonce: bytes | bytearray, aad: bytes | bytearray, plaintext: bytes | bytearray | memoryview
    ) -> bytes:
        """Encrypt.

        Returns:
            The ciphertext and the tag behind it.

        Raises:
            LibcryptoError: wiped already, or libcrypto refused.
            ValueError: a wrong size of nonce.

        """
        size = len(plaintext)
        if len(nonce) != NONCE_SIZE:
            raise ValueError("the nonce has 12 bytes")
        library, context, done = self._library, self._opened(), c_int()
        result, tag = (c_char * size)(), (c_char * TAG_SIZE)()
        if not (
            library.EVP_EncryptInit_ex(context, None, None, None, _readable(nonce)) == 1
            and library.EVP_EncryptUpdate(context, None, ctypes.byref(done), _readable(aad), len(aad)) == 1
            and (
                size == 0
                or library.EVP_EncryptUpdate(context, result, ctypes.byref(done), _readable(plaintext), size) == 1
            )
            and library.EVP_EncryptFinal_ex(context, (c_char * TAG_SIZE)(), ctypes.byref(done)) == 1
            and library.EVP_CIPHER_CTX_ctrl(context, _GET_TAG, TAG_SIZE, tag) == 1
        ):
            library.ERR_clear_error()
            raise LibcryptoError(f"{self.cipher} failed in {ssl.OPENSSL_VERSION}")
        return result.raw + tag.raw

    def _opened(self) -> int:
        if not self._context:
            raise LibcryptoError("the key was wiped")
        return self._context


@functools.cache
def _library() -> ctypes.CDLL:
    """The library, its functions with their types.

    Raises:
        LibcryptoError: it cannot be called.

    """
    reason = unavailable()
    if reason is not None:
        raise LibcryptoError(reason)
    # with the handle of `_ssl`, a symbol is looked up in it and then in what it was linked with: never in another
    # libcrypto that something else in this process has loaded (dlsym(3))
    library = ctypes.CDLL(getattr(_ssl, "__file__", None))
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _readable(data: bytes | bytearray | memoryview) -> object:
    """What ctypes passes as the address of `data`, without a copy, unless it is a read-only view (no secret)."""
    if isinstance(data, bytes):
        return c_char_p(data)
    if isinstance(data, memoryview) and data.readonly:
        return c_char_p(bytes(data))
    return _writable(data)


def _writable(data: bytearray | memoryview) -> object:
    return (c_char * len(data)).from_buffer(data)
