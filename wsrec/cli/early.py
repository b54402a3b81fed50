"""Signals during the start of `wsrec record`, while its modules are imported or its options read."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading

from wsrec.supervise.signals import ended_early, hold

# ExitStatus.NOTHING, whose module takes long to import
_NOTHING = 3
# as `FlagParam` reads a variable
_TRUE = ("1", "true", "t", "yes", "y", "on")
_TIMEOUT = 1.0


def hold_signals() -> None:
    """For `wsrec record`: make every signal end the process with a message and a status of its own."""
    if sys.argv[1:2] == ["record"]:
        hold(_leave)


def _leave(name: str) -> None:
    why = ended_early(name)
    _write(2, f"wsrec record: {why}\n")
    if "--json" in sys.argv or os.environ.get("WSREC_RECORD_JSON", "").strip().lower() in _TRUE:
        _write(1, json.dumps({"status": _NOTHING, "error": why}, separators=(",", ":")) + "\n")
    # raising in half-imported modules is not safe, and there is nothing to undo
    os._exit(_NOTHING)


def _write(fd: int, text: str) -> None:
    # do not wait for a terminal that accepts no output
    writing = threading.Thread(target=_write_all, args=(fd, text.encode()), daemon=True)
    writing.start()
    writing.join(_TIMEOUT)


def _write_all(fd: int, data: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(fd, data)
