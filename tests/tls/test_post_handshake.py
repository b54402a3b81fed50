"""wsrec.tls.post_handshake: tickets, KeyUpdate and alerts, cut anywhere, and what has no place on a connection."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.tls.post_handshake import ALERT, APPLICATION_DATA, HANDSHAKE, Meaning, PostHandshake


def message(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + len(body).to_bytes(3) + body


TICKET = message(4, bytes(range(200)))
UPDATE, UPDATE_BOTH = message(24, b"\0"), message(24, b"\1")


@st.composite
def cut(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Records of some tickets and a KeyUpdate that ends its record, and what that KeyUpdate is."""
    tickets = draw(st.lists(st.binary(max_size=40), max_size=4))
    update = draw(st.sampled_from([UPDATE, UPDATE_BOTH]))
    stream = b"".join(message(4, body) for body in tickets) + update
    places = sorted(draw(st.sets(st.integers(1, len(stream) - 1), max_size=12)))
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)], update


class TestTls13:
    @given(cut())
    def test_messages_may_be_cut_anywhere(self, case):
        records, update = case
        messages = PostHandshake("TLSv1.3")
        *before, last = [messages.take(HANDSHAKE, record) for record in records]
        assert set(before) <= {Meaning.NOTHING}
        assert last is (Meaning.KEYS_CHANGED_BOTH if update is UPDATE_BOTH else Meaning.KEYS_CHANGED)
        assert not messages.partial
        assert messages.take(APPLICATION_DATA, b"x") is Meaning.NOTHING

    @given(cut(), st.sampled_from([bytes, bytearray, memoryview]))
    def test_a_message_in_parts_is_never_interleaved(self, case, wrap):
        records, _ = case
        messages = PostHandshake("TLSv1.3")
        for record in records[:-1]:
            messages.take(HANDSHAKE, wrap(record))
            assert messages.forbids_data is messages.partial
            if messages.partial:
                for content_type, content in ((APPLICATION_DATA, b"data"), (ALERT, b"\1\0")):
                    with pytest.raises(ssl.SSLError, match="in the middle of a TLS handshake message"):
                        messages.take(content_type, wrap(content))
            else:
                messages.take(APPLICATION_DATA, b"data")

    @given(cut(), st.binary(min_size=1, max_size=20))
    def test_nothing_follows_a_key_update_in_its_record(self, case, more):
        records, _ = case
        messages = PostHandshake("TLSv1.3")
        for record in records[:-1]:
            messages.take(HANDSHAKE, record)
        with pytest.raises(ssl.SSLError, match="does not end its record"):
            messages.take(HANDSHAKE, records[-1] + more)

    def test_the_largest_ticket_is_skipped_without_being_kept(self):
        messages = PostHandshake("TLSv1.3")
        largest = message(4, bytes(131_337))
        for start in range(0, len(largest), 1 << 14):
            messages.take(HANDSHAKE, largest[start : start + (1 << 14)])
        assert not messages.partial
        with pytest.raises(ssl.SSLError, match=r"message 4 of 131338 bytes"):
            messages.take(HANDSHAKE, b"\x04" + (131_338).to_bytes(3))

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (message(0, b""), "message 0 of 0 bytes"),
            (message(1, b"hello"), "message 1 of 5"),
            (message(2, b"hello"), "message 2 of 5"),
            (message(13, b"request"), "message 13 of 7"),
            (message(20, bytes(32)), "message 20 of 32"),
            (message(24, b""), "message 24 of 0"),
            (message(24, b"\0\0"), "message 24 of 2"),
            (message(24, b"\2"), "KeyUpdate of value 2"),
            (message(254, b""), "message 254"),
            (b"", "empty"),
            (UPDATE + UPDATE, "does not end"),
            (UPDATE + TICKET, "does not end"),
        ],
    )
    def test_what_has_no_place_is_refused(self, content, reason):
        with pytest.raises(ssl.SSLError, match=f"the server sent .*{reason}"):
            PostHandshake("TLSv1.3").take(HANDSHAKE, content)

    @pytest.mark.parametrize("content_type", [0, 20, 24, 25, 255])
    def test_other_types_are_refused(self, content_type):
        with pytest.raises(ssl.SSLError, match=f"type {content_type}, which is not allowed"):
            PostHandshake("TLSv1.3").take(content_type, b"\1")

    def test_alerts_are_errors_whatever_their_level(self):
        for level in (1, 2, 77):
            for description in set(range(256)) - {0, 90}:
                with pytest.raises(ssl.SSLError, match=rf"alert {description} \("):
                    PostHandshake("TLSv1.3").take(ALERT, bytes((level, description)))

    def test_an_alert_has_a_name(self):
        with pytest.raises(ssl.SSLError, match=r"alert 40 \(handshake_failure\)"):
            PostHandshake("TLSv1.3").take(ALERT, b"\2\x28")

    def test_close_notify_is_the_end_and_user_canceled_is_not(self):
        messages = PostHandshake("TLSv1.3")
        assert messages.take(ALERT, b"\1\x5a") is Meaning.NOTHING
        assert messages.take(ALERT, b"\1\0") is Meaning.END
        assert messages.take(ALERT, b"\2\0") is Meaning.END

    @pytest.mark.parametrize("content", [b"", b"\1", b"\1\0\1", b"\1\0\1\0"])
    def test_an_alert_is_whole_and_alone(self, content):
        with pytest.raises(ssl.SSLError, match=f"alert of {len(content)} bytes"):
            PostHandshake("TLSv1.3").take(ALERT, content)


class TestTls12:
    def test_a_renegotiation_is_declined_by_silence(self):
        messages = PostHandshake("TLSv1.2")
        assert messages.take(HANDSHAKE, bytes(8)) is Meaning.NOTHING
        assert messages.take(HANDSHAKE, bytes(3)) is Meaning.NOTHING
        assert messages.partial
        assert not messages.forbids_data
        # it may begin at any time (RFC 5246 7.4.1.1)
        assert messages.take(APPLICATION_DATA, b"data") is Meaning.NOTHING
        assert messages.take(HANDSHAKE, bytes(1)) is Meaning.NOTHING
        assert not messages.partial

    @pytest.mark.parametrize("content", [TICKET, UPDATE, message(0, b"x"), message(2, b"hello")])
    def test_nothing_else_is_allowed(self, content):
        with pytest.raises(ssl.SSLError, match=r"which TLSv1\.2 does not allow here"):
            PostHandshake("TLSv1.2").take(HANDSHAKE, content)

    def test_warnings_are_none_of_our_business_and_fatal_alerts_are(self):
        messages = PostHandshake("TLSv1.2")
        assert messages.take(ALERT, b"\1\x5a") is Meaning.NOTHING
        assert messages.take(ALERT, b"\1\0") is Meaning.END
        with pytest.raises(ssl.SSLError, match=r"alert 20 \(bad_record_mac\)"):
            messages.take(ALERT, b"\2\x14")
        with pytest.raises(ssl.SSLError, match="level 3"):
            messages.take(ALERT, b"\3\x14")

    def test_a_declined_renegotiation_and_a_fatal_close_notify_are_errors(self):
        """Found by tests/fuzz/records.py: OpenSSL refuses both."""
        with pytest.raises(ssl.SSLError, match=r"alert 100 \(no_renegotiation\)"):
            PostHandshake("TLSv1.2").take(ALERT, b"\1\x64")
        with pytest.raises(ssl.SSLError, match=r"alert 0 \(close_notify\)"):
            PostHandshake("TLSv1.2").take(ALERT, b"\2\0")
        with pytest.raises(ssl.SSLError, match="level 0"):
            PostHandshake("TLSv1.2").take(ALERT, b"\0\0")


@given(
    st.sampled_from(["TLSv1.2", "TLSv1.3"]),
    st.lists(st.tuples(st.sampled_from([20, 21, 22, 22, 22, 23]), st.binary(max_size=30)), max_size=10),
)
def test_anything_is_a_meaning_or_an_ssl_error(version, records):
    messages = PostHandshake(version)
    for content_type, content in records:
        try:
            assert isinstance(messages.take(content_type, content), Meaning)
        except ssl.SSLError:
            break
