"""wsrec.tls.records: each rule of the RFCs for received records, in both implementations."""

from __future__ import annotations

import pytest

from tests.tls import rfc8448
from tests.tls.sealed import TLS12, TLS13, Sealed
from wsrec.tls.keys import SEQUENCE_MAX, SUITES, tls13_keys
from wsrec.tls.records import (
    ALERT,
    ALERTS_MAX,
    APPLICATION_DATA,
    EMPTY_MAX,
    HANDSHAKE,
    PLAINTEXT_MAX,
    ROOM,
    TLS13_MAX,
    Opened,
    RecordError,
    Refusal,
)
from wsrec.tls.records_implementation import CompiledRecordReader, PythonRecordReader

IMPLEMENTATIONS = {
    "python": PythonRecordReader,
    **({"compiled": CompiledRecordReader} if CompiledRecordReader is not None else {}),
}
MESSAGE = b'{"e":"trade","p":"0.001"}' * 10
# what the caller's memory holds before, so that one byte written shows
BEFORE = 0xEE


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request) -> type[PythonRecordReader]:
    return IMPLEMENTATIONS[request.param]


@pytest.fixture(params=TLS13 + TLS12)
def sealed(request) -> Sealed:
    return Sealed(request.param)


@pytest.fixture(params=TLS13)
def sealed13(request) -> Sealed:
    return Sealed(request.param)


@pytest.fixture(params=TLS12)
def sealed12(request) -> Sealed:
    return Sealed(request.param)


class Opening:
    """A reader and the memory that it opens into."""

    def __init__(self, implementation: type[PythonRecordReader], sealed: Sealed) -> None:
        self.reader = implementation(sealed.receiving())
        self.into = bytearray([BEFORE]) * ROOM

    def open(self, data: bytes) -> Opened | None:
        return self.reader.open(memoryview(data), memoryview(self.into))

    def content(self, record: bytes) -> tuple[int, bytes]:
        """Type and content of a whole record."""
        opened = self.open(record)
        assert opened is not None
        assert opened.consumed == len(record)
        return opened.content_type, bytes(self.into[: opened.size])

    def refused(self, data: bytes, valid: bytes) -> Refusal:
        """The refusal of `data`, after which `valid` is refused too, and the memory has nothing of a record."""
        self.into[:] = bytes([BEFORE]) * len(self.into)
        with pytest.raises(RecordError) as caught:
            self.open(data)
        assert set(self.into) <= {0, BEFORE}
        sequence = self.reader.sequence
        for again in (valid, data, b""):
            with pytest.raises(RecordError) as second:
                self.open(again)
            assert second.value.refusal == caught.value.refusal
        assert self.reader.sequence == sequence
        return caught.value.refusal


@pytest.fixture
def opening(implementation, sealed) -> Opening:
    return Opening(implementation, sealed)


@pytest.fixture
def opening13(implementation, sealed13) -> Opening:
    return Opening(implementation, sealed13)


@pytest.fixture
def opening12(implementation, sealed12) -> Opening:
    return Opening(implementation, sealed12)


class TestValid:
    @pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 253, 8_192, PLAINTEXT_MAX - 1, PLAINTEXT_MAX])
    def test_content_of_any_size(self, opening, sealed, size):
        content = bytes(range(256)) * 64
        for _ in range(2):
            assert opening.content(sealed.seal(content[:size])) == (APPLICATION_DATA, content[:size])

    def test_several_in_one_buffer(self, opening, sealed):
        data = memoryview(b"".join(sealed.seal(MESSAGE[:size]) for size in (1, 2, 250)))
        sizes = []
        while data:
            opened = opening.reader.open(data, memoryview(opening.into))
            assert opened is not None
            assert bytes(opening.into[: opened.size]) == MESSAGE[: opened.size]
            sizes.append(opened.size)
            data = data[opened.consumed :]
        assert sizes == [1, 2, 250]
        assert opening.reader.sequence == sealed.keys.sequence

    @pytest.mark.parametrize("content_type", [ALERT, HANDSHAKE])
    def test_other_content(self, opening, sealed, content_type):
        assert opening.content(sealed.seal(b"\1\0", content_type)) == (content_type, b"\1\0")

    def test_content_that_ends_in_zeros(self, opening13, sealed13):
        assert opening13.content(sealed13.seal(b"a\0\0\0", padding=3)) == (APPLICATION_DATA, b"a\0\0\0")

    @pytest.mark.parametrize("padding", [1, 2, 255, PLAINTEXT_MAX - len(MESSAGE)])
    def test_padding(self, opening13, sealed13, padding):
        assert opening13.content(sealed13.seal(MESSAGE, padding=padding)) == (APPLICATION_DATA, MESSAGE)

    def test_the_longest_record(self, opening13, sealed13):
        record = sealed13.seal(b"a", padding=TLS13_MAX - 16 - 2)
        assert len(record) == 5 + TLS13_MAX
        assert opening13.content(record) == (APPLICATION_DATA, b"a")

    def test_nothing_is_written_behind_the_record(self, opening, sealed):
        record = sealed.seal(MESSAGE)
        opening.content(record)
        assert set(opening.into[len(record) :]) == {BEFORE}

    def test_exactly_as_much_room_as_needed(self, opening, sealed):
        record = sealed.seal(MESSAGE)
        inner = len(MESSAGE) + (sealed.keys.version == "TLSv1.3")
        into = bytearray(inner - 1)
        with pytest.raises(ValueError, match="room"):
            opening.reader.open(memoryview(record), memoryview(into))
        assert not any(into)
        into = bytearray(inner)
        opened = opening.reader.open(memoryview(record), memoryview(into))
        assert opened == (len(record), len(MESSAGE), APPLICATION_DATA)
        assert into[: len(MESSAGE)] == MESSAGE


class TestRfc8448:
    """The records of RFC 8448 section 3, in both directions."""

    @pytest.mark.parametrize(
        ("secret", "records"),
        [
            (
                rfc8448.SERVER_SECRET,
                [rfc8448.SERVER_TICKET_RECORD, rfc8448.SERVER_DATA_RECORD, rfc8448.SERVER_ALERT_RECORD],
            ),
            (rfc8448.CLIENT_SECRET, [rfc8448.CLIENT_DATA_RECORD, rfc8448.CLIENT_ALERT_RECORD]),
        ],
        ids=["server", "client"],
    )
    def test_they_are_opened(self, implementation, secret, records):
        reader = implementation(tls13_keys(SUITES["TLS_AES_128_GCM_SHA256"], bytearray(secret)))
        into, found = bytearray(ROOM), []
        data = memoryview(b"".join(records))
        while data:
            opened = reader.open(data, memoryview(into))
            assert opened is not None
            found.append((opened.content_type, bytes(into[: opened.size])))
            data = data[opened.consumed :]
        assert found[-2:] == [(APPLICATION_DATA, rfc8448.DATA), (ALERT, b"\1\0")]
        assert [content_type for content_type, _ in found[:-2]] == [HANDSHAKE] * (len(records) - 2)


class TestIncomplete:
    def test_every_part_of_a_record(self, opening, sealed):
        record = sealed.seal(MESSAGE)
        for size in range(len(record)):
            assert opening.open(record[:size]) is None
        assert set(opening.into) == {BEFORE}
        assert opening.content(record) == (APPLICATION_DATA, MESSAGE)

    def test_what_follows_is_left_alone(self, opening, sealed):
        first, second = sealed.seal(b"first"), sealed.seal(b"second")
        for size in (0, 1, 4, 5, 6, len(second)):
            opened = Opening(type(opening.reader), sealed).open(first + second[:size])
            assert opened == (len(first), len(b"first"), APPLICATION_DATA)


class TestHeader:
    """RFC 8446 5.1 and 5.2, RFC 5246 6.2.1: refused as soon as the header is there."""

    def test_type_of_tls13(self, implementation, sealed13):
        """A change_cipher_spec (20), a plaintext alert (21) and a plaintext handshake message (22), too."""
        for outer in set(range(256)) - {APPLICATION_DATA}:
            sealed = Sealed(sealed13.keys.suite.name)
            record = sealed.seal(MESSAGE, outer=outer)
            assert Opening(implementation, sealed).refused(record, sealed.seal(MESSAGE)) == Refusal.TYPE

    def test_a_plaintext_alert_and_change_cipher_spec(self, implementation, sealed13):
        for data in (b"\x15\x03\x03\0\2\2\x28", b"\x14\x03\x03\0\1\1"):
            opening = Opening(implementation, sealed13)
            assert opening.refused(data, sealed13.seal(MESSAGE)) == Refusal.TYPE

    def test_type_of_tls12(self, implementation, sealed12):
        """A change_cipher_spec (20) begins a renegotiation, which the client declines."""
        for outer in set(range(256)) - {ALERT, HANDSHAKE, APPLICATION_DATA}:
            sealed = Sealed(sealed12.keys.suite.name)
            record = sealed.seal(MESSAGE, outer=outer)
            assert Opening(implementation, sealed).refused(record, sealed.seal(MESSAGE)) == Refusal.TYPE

    def test_version(self, implementation, sealed):
        versions = [b"\x03\x04", b"\x03\x01", b"\x03\x02", b"\x03\x00", b"\x02\x03", b"\xfe\xfd", b"\x00\x00"]
        for version in versions:
            other = Sealed(sealed.keys.suite.name)
            record = other.seal(MESSAGE, version=version)
            assert Opening(implementation, other).refused(record, other.seal(MESSAGE)) == Refusal.VERSION

    def test_one_too_long(self, opening, sealed):
        overhead = 24 if sealed.keys.suite.explicit_nonce else 16
        most = TLS13_MAX if sealed.keys.version == "TLSv1.3" else PLAINTEXT_MAX + overhead
        start = b"\x17\x03\x03"
        assert opening.open(start + most.to_bytes(2)) is None
        assert opening.refused(start + (most + 1).to_bytes(2), sealed.seal(MESSAGE)) == Refusal.TOO_LONG

    def test_any_that_is_too_long(self, implementation, sealed):
        for length in (16_384 + 257, 16_384 + 2_049, 0x7FFF, 0x8000, 0xFFFF):
            opening = Opening(implementation, sealed)
            header = b"\x17\x03\x03" + length.to_bytes(2)
            assert opening.refused(header + bytes(length), sealed.seal(MESSAGE)) == Refusal.TOO_LONG

    def test_too_short_for_the_cipher(self, implementation, sealed):
        least = 17 if sealed.keys.version == "TLSv1.3" else 24 if sealed.keys.suite.explicit_nonce else 16
        for length in range(least):
            opening = Opening(implementation, sealed)
            header = b"\x17\x03\x03" + length.to_bytes(2)
            assert opening.refused(header + bytes(length), sealed.seal(MESSAGE)) == Refusal.TOO_SHORT


class TestForged:
    """RFC 8446 5.2, RFC 5246 6.2.3.3: any other byte, and any other place in the order, makes the tag wrong."""

    def test_a_flipped_bit_anywhere(self, implementation, sealed):
        record, following = sealed.seal(b"a few bytes"), sealed.seal(b"more")
        for place in range(5, len(record)):
            for bit in range(8):
                opening = Opening(implementation, Sealed(sealed.keys.suite.name))
                changed = bytearray(record)
                changed[place] ^= 1 << bit
                assert opening.refused(bytes(changed), following) == Refusal.TAG

    def test_a_flipped_bit_of_the_header(self, implementation, sealed):
        """Of the header, a length may also leave the record incomplete: then nothing comes out either."""
        record = sealed.seal(b"a few bytes")
        for place in range(5):
            for bit in range(8):
                opening = Opening(implementation, Sealed(sealed.keys.suite.name))
                changed = bytearray(record)
                changed[place] ^= 1 << bit
                try:
                    assert opening.open(bytes(changed)) is None
                except RecordError:
                    pass
                else:
                    assert opening.refused(bytes(changed) + bytes(70_000), record)
                assert set(opening.into) <= {0, BEFORE}

    def test_another_length(self, implementation, sealed):
        record, following = sealed.seal(MESSAGE), sealed.seal(MESSAGE)
        length = len(record) - 5
        for other in (length - 1, length + 1, length - 16, length + 5):
            opening = Opening(implementation, Sealed(sealed.keys.suite.name))
            data = record[:3] + other.to_bytes(2) + record[5:] + following
            assert opening.refused(data, record) == Refusal.TAG

    def test_repeated(self, opening, sealed):
        record = sealed.seal(MESSAGE)
        opening.content(record)
        assert opening.refused(record, sealed.seal(MESSAGE)) == Refusal.TAG

    def test_left_out(self, opening, sealed):
        left_out, record = sealed.seal(MESSAGE), sealed.seal(MESSAGE)
        assert opening.refused(record, left_out) == Refusal.TAG

    def test_out_of_order(self, opening, sealed):
        records = [sealed.seal(MESSAGE) for _ in range(3)]
        opening.content(records[0])
        assert opening.refused(records[2], records[1]) == Refusal.TAG

    def test_of_another_connection(self, opening, sealed):
        other = Sealed(sealed.keys.suite.name, fill=8)
        assert opening.refused(other.seal(MESSAGE), sealed.seal(MESSAGE)) == Refusal.TAG

    def test_of_the_other_direction(self, implementation, sealed12):
        """What the client sent, back to it."""
        opening = Opening(implementation, sealed12)
        record = sealed12.seal(MESSAGE)
        assert opening.refused(bytes((record[0],)) + record[1:-1] + b"\0", record) == Refusal.TAG

    def test_type_of_tls12_is_authenticated(self, opening12, sealed12):
        record = sealed12.seal(MESSAGE)
        changed = bytes((HANDSHAKE,)) + record[1:]
        assert opening12.refused(changed, record) == Refusal.TAG

    def test_the_memory_of_the_tag_stays_untouched(self, opening, sealed):
        """No more is wiped than was written."""
        record = bytearray(sealed.seal(MESSAGE))
        record[-1] ^= 1
        opening.refused(bytes(record), sealed.seal(MESSAGE))
        inner = len(MESSAGE) + (sealed.keys.version == "TLSv1.3")
        assert set(opening.into[:inner]) == {0}
        assert set(opening.into[inner:]) == {BEFORE}


class TestContent:
    """RFC 8446 5.1, 5.2 and 5.4, RFC 5246 6.2.1: what authentic records must not say."""

    @pytest.mark.parametrize("size", [1, 2, 17, PLAINTEXT_MAX + 1, TLS13_MAX - 16])
    def test_nothing_but_padding(self, opening13, sealed13, size):
        assert opening13.refused(sealed13.seal(inner=bytes(size)), sealed13.seal(MESSAGE)) == Refusal.NO_CONTENT

    def test_type(self, implementation, sealed13):
        for content_type in set(range(1, 256)) - {ALERT, HANDSHAKE, APPLICATION_DATA}:
            sealed = Sealed(sealed13.keys.suite.name)
            record = sealed.seal(MESSAGE, content_type)
            assert Opening(implementation, sealed).refused(record, sealed.seal(MESSAGE)) == Refusal.INNER_TYPE

    @pytest.mark.parametrize("content_type", [ALERT, HANDSHAKE, APPLICATION_DATA])
    def test_one_byte_too_many(self, opening13, sealed13, content_type):
        record = sealed13.seal(b"a" * (PLAINTEXT_MAX + 1), content_type)
        assert opening13.refused(record, sealed13.seal(MESSAGE)) == Refusal.PLAINTEXT_TOO_LONG

    def test_one_byte_too_many_in_tls12(self, opening12, sealed12):
        record = sealed12.seal(b"a" * (PLAINTEXT_MAX + 1))
        assert opening12.refused(record, sealed12.seal(MESSAGE)) == Refusal.TOO_LONG

    @pytest.mark.parametrize("content_type", [ALERT, HANDSHAKE])
    @pytest.mark.parametrize("padding", [0, 9])
    def test_empty_message(self, opening, sealed, content_type, padding):
        record = sealed.seal(b"", content_type, padding=padding)
        assert opening.refused(record, sealed.seal(MESSAGE)) == Refusal.EMPTY_MESSAGE

    def test_as_many_empty_records_as_allowed(self, opening, sealed):
        for _ in range(2):
            for _ in range(EMPTY_MAX):
                assert opening.content(sealed.seal(b"")) == (APPLICATION_DATA, b"")
            # any content ends the succession
            assert opening.content(sealed.seal(b"\4", HANDSHAKE)) == (HANDSHAKE, b"\4")

    def test_one_empty_record_too_many(self, opening, sealed):
        for _ in range(EMPTY_MAX):
            opening.content(sealed.seal(b""))
        assert opening.refused(sealed.seal(b""), sealed.seal(MESSAGE)) == Refusal.TOO_MANY_EMPTY

    def test_one_alert_too_many(self, opening, sealed):
        alert = b"\1\x5a"
        for _ in range(2):
            for _ in range(ALERTS_MAX):
                assert opening.content(sealed.seal(alert, ALERT)) == (ALERT, alert)
            assert opening.content(sealed.seal(MESSAGE)) == (APPLICATION_DATA, MESSAGE)
        for _ in range(ALERTS_MAX):
            opening.content(sealed.seal(alert, ALERT))
            opening.content(sealed.seal(b""))
        assert opening.refused(sealed.seal(alert, ALERT), sealed.seal(MESSAGE)) == Refusal.TOO_MANY_ALERTS

    def test_padding_is_not_content(self, opening13, sealed13):
        for _ in range(EMPTY_MAX):
            opening13.content(sealed13.seal(b"", padding=100))
        assert opening13.refused(sealed13.seal(b"", padding=1), sealed13.seal(MESSAGE)) == Refusal.TOO_MANY_EMPTY


class TestSequence:
    """RFC 8446 5.3, RFC 5246 6.1: numbers do not wrap."""

    @pytest.mark.parametrize("sequence", [0, 1, 255, 256, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63])
    def test_any_number(self, implementation, sealed, sequence):
        sealed = Sealed(sealed.keys.suite.name, sequence)
        opening = Opening(implementation, sealed)
        for _ in range(2):
            assert opening.content(sealed.seal(MESSAGE)) == (APPLICATION_DATA, MESSAGE)
        assert opening.reader.sequence == sequence + 2

    def test_the_end(self, implementation, sealed):
        sealed = Sealed(sealed.keys.suite.name, SEQUENCE_MAX - 1)
        opening = Opening(implementation, sealed)
        assert opening.content(sealed.seal(MESSAGE)) == (APPLICATION_DATA, MESSAGE)
        assert opening.refused(sealed.seal(MESSAGE), sealed.seal(MESSAGE)) == Refusal.SEQUENCE_END


class TestKeys:
    def test_changed_in_the_middle_of_a_stream(self, opening13, sealed13):
        for _ in range(3):
            assert opening13.content(sealed13.seal(MESSAGE)) == (APPLICATION_DATA, MESSAGE)
            opening13.reader.change_keys(sealed13.change_keys())
            assert opening13.reader.sequence == 0
        assert opening13.content(sealed13.seal(MESSAGE)) == (APPLICATION_DATA, MESSAGE)

    def test_old_keys_are_of_no_use_afterwards(self, opening13, sealed13):
        old = sealed13.seal(MESSAGE)
        opening13.reader.change_keys(sealed13.change_keys())
        assert opening13.refused(old, sealed13.seal(MESSAGE)) == Refusal.TAG

    def test_new_keys_before_their_time(self, opening13, sealed13):
        sealed13.change_keys()
        assert opening13.refused(sealed13.seal(MESSAGE), b"") == Refusal.TAG

    def test_empty_records_are_counted_on(self, opening13, sealed13):
        for _ in range(EMPTY_MAX):
            opening13.content(sealed13.seal(b""))
        opening13.reader.change_keys(sealed13.change_keys())
        assert opening13.refused(sealed13.seal(b""), b"") == Refusal.TOO_MANY_EMPTY

    def test_not_after_a_refusal(self, opening13, sealed13):
        opening13.refused(b"\x14\x03\x03\0\1", sealed13.seal(MESSAGE))
        with pytest.raises(RecordError) as caught:
            opening13.reader.change_keys(sealed13.change_keys())
        assert caught.value.refusal == Refusal.TYPE

    def test_wiped(self, opening, sealed):
        opening.reader.wipe()
        assert opening.refused(sealed.seal(MESSAGE), b"") == Refusal.WIPED
        opening.reader.wipe()

    def test_wiped_after_a_refusal(self, opening, sealed):
        opening.refused(b"\x01\x03\x03\0\1", b"")
        opening.reader.wipe()
        assert opening.refused(sealed.seal(MESSAGE), b"") == Refusal.TYPE

    def test_the_callers_keys_may_be_wiped(self, implementation, sealed):
        keys = sealed.receiving()
        reader = implementation(keys)
        keys.wipe()
        into = bytearray(ROOM)
        opened = reader.open(memoryview(sealed.seal(MESSAGE)), memoryview(into))
        assert opened is not None
        assert into[: opened.size] == MESSAGE

    def test_keys_of_another_size(self, implementation, sealed):
        keys = sealed.receiving()
        keys.key = keys.key[:-1]
        with pytest.raises(ValueError, match="bytes"):
            implementation(keys)


@pytest.mark.skipif(CompiledRecordReader is None, reason="nothing is compiled here")
class TestSpeed:
    """What `wsrec bench limits` measures."""

    @pytest.mark.parametrize("suite", [TLS13[0], TLS12[0]])
    def test_next_to_nothing_beside_libcrypto(self, suite):
        from wsrec.tls._records import aead_ns, open_ns

        def measured(reader, record):
            return aead_ns(reader, record, 500), open_ns(reader, record, 500)

        sealed = Sealed(suite)
        record = sealed.seal(MESSAGE)
        reader = CompiledRecordReader(sealed.receiving())
        # the least of many in turns: what was not disturbed
        alone, opened = (min(taken) for taken in zip(*(measured(reader, record) for _ in range(100)), strict=True))
        assert 0 < opened < 1.3 * alone
        assert reader.sequence == sealed.keys.sequence - 1

    def test_more_records_take_longer(self):
        from wsrec.tls._records import open_ns

        sealed = Sealed(TLS13[0])
        record = sealed.seal(MESSAGE)
        reader = CompiledRecordReader(sealed.receiving())
        few, many = (min(open_ns(reader, record, count) for _ in range(5)) for count in (100, 2_000))
        assert few < many

    def test_another_record(self):
        from wsrec.tls._records import aead_ns

        sealed = Sealed(TLS13[0])
        reader = CompiledRecordReader(sealed.receiving())
        for data in (b"", b"\x17", sealed.seal(MESSAGE)[:-1] + b"\0"):
            with pytest.raises(ValueError, match="next record"):
                aead_ns(reader, data, 1)


class TestErrors:
    def test_they_say_what_and_where_it_is_forbidden(self, implementation):
        with pytest.raises(RecordError, match=r"not allowed after the handshake \(RFC 8446, section 5\)"):
            Opening(implementation, Sealed(TLS13[0])).open(b"\x14\x03\x03\0\1\1")
        with pytest.raises(RecordError, match=r"longer than allowed \(RFC 5246, section 6\.2\.1\)"):
            Opening(implementation, Sealed(TLS12[0])).open(b"\x17\x03\x03\xff\xff")

    def test_each_has_a_text(self):
        for refusal in Refusal:
            assert str(RecordError(refusal, "TLSv1.3"))
