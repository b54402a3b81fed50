"""Coverage-guided fuzzing of the code exposed to a hostile exchange: `parse_header`, `MessageRules` and the hot path.

Run by scripts/fuzz. What it holds the code to is in tests/fuzz/implementations.py; the coverage of the readable hot
path guides it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent))
with atheris.instrument_imports(include=["wsrec.wire.frames", "wsrec.receive.hotpath"]):
    from tests.fuzz.implementations import frames


def one(data: bytes) -> None:
    """One input: what to validate, where to cut, and the bytes."""
    provider = atheris.FuzzedDataProvider(data)
    validate_text = provider.ConsumeBool()
    cuts = [provider.ConsumeIntInRange(1, 300) for _ in range(provider.ConsumeIntInRange(0, 4))]
    grow = provider.ConsumeIntInRange(0, 3)
    wire = provider.ConsumeBytes(provider.remaining_bytes())
    # so that payloads as large as the ring's parts are within reach of a short input; as headers these are refused
    frames(wire + b"w" * grow * 20_000, cuts, validate_text=validate_text)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
