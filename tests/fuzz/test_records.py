"""The TLS record readers beside Python's `ssl`, for as long as a test may take; scripts/fuzz-records runs longer."""

from __future__ import annotations

import pytest

from tests.fuzz.records import Run
from wsrec.tls import records
from wsrec.tls.libcrypto import Aead
from wsrec.tls.records_implementation import CompiledRecordReader, PythonRecordReader

IMPLEMENTATIONS = {
    "python": PythonRecordReader,
    **({"compiled": CompiledRecordReader} if CompiledRecordReader is not None else {}),
}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_both_hand_out_and_refuse_the_same(implementation):
    run = Run(1, IMPLEMENTATIONS[implementation], most=20_000, exact=True)
    for kind, _ in zip(run.kinds(), range(60), strict=False):
        run.one(kind)
    assert run.counts["cuts"] > 10_000
    assert run.counts["refused"] > 10


class TestPlanted:
    """What is to be found is found."""

    def test_a_tag_that_is_not_verified(self, monkeypatch):
        def opened(self, nonce, aad, ciphertext, tag, into):
            original(self, nonce, aad, ciphertext, tag, into)
            return True

        original = Aead.open
        monkeypatch.setattr(Aead, "open", opened)
        self._found("changed")

    def test_plaintext_that_is_not_wiped(self, monkeypatch):
        monkeypatch.setattr(records, "wipe", lambda *buffers: None)
        self._found("forbidden")

    @pytest.mark.parametrize("change", [-1, 1])
    @pytest.mark.parametrize("limit", ["EMPTY_MAX", "ALERTS_MAX", "TLS13_MAX", "PLAINTEXT_MAX"])
    def test_a_limit_that_is_one_off(self, monkeypatch, limit, change):
        monkeypatch.setattr(records, limit, getattr(records, limit) + change)
        self._found("forbidden")

    @staticmethod
    def _found(kind: str) -> None:
        run = Run(1, PythonRecordReader, most=1_000)

        def several() -> None:
            for _ in range(3_000):
                run.one(kind)

        with pytest.raises(AssertionError):
            several()
