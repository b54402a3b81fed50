"""Plays random sessions and counts what `wsrec verify` says of them that is not so."""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.verify.sessions import Session, false_claims
from wsrec.verify.model import Kind
from wsrec.verify.verify import verify

_SHOWN = 20


def play(seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Play one session; what it was, and what is wrong with what was said of it."""
    chance = random.Random(seed)
    session = Session(chance, acks=chance.random() < 0.8)
    session.play()
    status = session.record(folder)
    found = verify([folder])
    (capture,) = found.captures
    wrong = false_claims(session, found)
    wrong += [f.what for f in capture.findings if f.kind in (Kind.DAMAGED, Kind.CONTRADICTION)]
    if not session.killed and found.status != status:
        wrong.append(f"the recorder ends with {status}, its verification with {int(found.status)}")
    missed = [lost for each in session.missed.values() for lost in each]
    counted = Counter(f"streams {stream.state}" for each in capture.sessions for stream in each.streams)
    counted[f"status {int(found.status)}"] += 1
    counted["messages"] += sum(each.rows for each in capture.sessions)
    counted["missed messages"] += len(missed)
    counted["false claims"] += len(wrong)
    return counted, [f"session {seed}: {each}" for each in wrong]


def _play(seed: int) -> tuple[Counter[str], list[str]]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        return play(seed, Path(folder) / "out")


def main() -> int:
    """Play them; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sessions", nargs="?", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    total: Counter[str] = Counter()
    shown = 0
    with ProcessPoolExecutor(asked.processes) as pool:
        seeds = range(asked.first, asked.first + asked.sessions)
        for number, (counted, wrong) in enumerate(pool.map(_play, seeds, chunksize=20), 1):
            total += counted
            for each in wrong[: max(_SHOWN - shown, 0)]:
                print(each, flush=True)
            shown += len(wrong)
            if number % 500 == 0:
                print(f"{number:,} sessions, {total['false claims']:,} false claims", flush=True)
    print(f"{asked.sessions:,} sessions: " + ", ".join(f"{count:,} {what}" for what, count in sorted(total.items())))
    return 1 if total["false claims"] else 0
