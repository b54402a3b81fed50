"""Plays random sessions and counts what `wsrec verify` says of them that is not so.

scripts/verify-model 10000                     with an environment of its own
python -m tests.verify.play 10000 --jobs 16    in one that has wsrec's packages
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.verify.damage import damage_capture
from tests.verify.recording import Recording
from tests.verify.remembering import same, settle
from tests.verify.sessions import Session
from tests.verify.truth import astray_events, held, held_by_session, judge, missed
from tests.verify.world import HOUR, SECOND
from wsrec.supervise.outcome import ExitStatus
from wsrec.verify.memory import Memory
from wsrec.verify.model import Kind, VerifyStatus
from wsrec.verify.verify import verify

_SHOWN = 20
# of so many folders one is also verified with a memory
_REMEMBERED = 5
# 2021-03-04T13:50:00 UTC, and 2090-01-01: later than the machine that plays it says it is
_DATES = (1_614_865_800 * SECOND, 3_786_912_000 * SECOND)


def play(seed: int, out: Path) -> tuple[Counter[str], list[str]]:
    """Play one folder's sessions; returns them, and the errors in the reports about them."""
    chance = random.Random(seed)
    out.mkdir(parents=True)
    counted: Counter[str] = Counter()
    ahead = chance.choice([*_DATES, _DATES[0]])
    played: list[tuple[Session, Recording]] = []
    for number in range(chance.choice([1, 1, 1, 1, 2, 3])):
        session = Session(chance, f"s{number}", ahead)
        session.play()
        recording = Recording(session, chance, out)
        recording.run()
        played.append((session, recording))
        # and between two sessions the clock is set too
        ahead = session.clock.utc(0) + chance.choice([11 * SECOND, 60 * SECOND, -HOUR, 5 * HOUR])
    # what is left of a session whose journal was damaged is reported by each recovery
    excused = tuple(f"session {session.name} " for session, recording in played if recording.unsound)
    sound = (recording for _, recording in played if not recording.unsound)
    wrong = [error for recording in sound for error in recording.errors if not error.startswith(excused)]
    sessions = {session.name: session for session, _ in played}
    for session, recording in played:
        if recording.alone:
            wrong += astray_events(session, out)
    wrong += _unwritten(played, held_by_session(out, ()))
    part = _part(out, chance)
    # a memory of what it was before it is damaged
    memory = Memory(out.with_name("memory")) if seed % _REMEMBERED == 0 else None
    if memory is not None:
        settle()
        verify([out], memory=memory)
    hit, touched = damage_capture(out, chance) if chance.random() < 0.35 else (set(), False)
    there = held_by_session(out, hit)
    found = verify([out])
    if memory is not None and same(verify([out], memory=memory)) != same(found):
        wrong.append("with a memory it is said otherwise")
    unsound = any(recording.unsound or recording.unjournalled for _, recording in played)
    verdict = judge(sessions, there, found, exact=None if unsound else not touched)
    wrong += verdict.false
    if not touched:
        wrong += _disagreements(played, found)
        if part:
            verdict_of_part = judge(sessions, _held_in(part), verify(part), exact=None)
            wrong += [f"of {len(part)} files: {each}" for each in verdict_of_part.false]
            counted["claims"] += verdict_of_part.claims
    for capture in found.captures:
        counted.update(f"streams {stream.state}" for each in capture.sessions for stream in each.streams)
    books = [count for capture in found.captures for each in capture.sessions for count in each.ledger]
    counted["findings that agree"] += sum(count.sources.get("read", 0) for count in books if count.what == "findings")
    counted["sessions"] += len(played)
    counted["sessions with steps of the clock"] += sum(bool(session.clock.steps) for session, _ in played)
    counted["sessions with damaged files"] += len(played) if touched else 0
    counted["sessions killed without a journal"] += sum(recording.unjournalled for _, recording in played)
    counted["sessions with damaged journals"] += sum(recording.unsound for _, recording in played)
    counted["messages sent"] += sum(len(sent) for s in sessions.values() for sent in s.exchange.sent.values())
    counted["messages missed"] += sum(
        len(lost) for s in sessions.values() for lost in missed(s, there.get(s.name, ())).values()
    )
    counted["claims"] += verdict.claims
    counted["false claims"] += len(wrong)
    return counted, [f"seed {seed}: {each}" for each in wrong]


def _unwritten(played, there) -> list[str]:
    """What was handed off and journalled, and is in no file."""
    wrong = []
    for session, recording in played:
        if recording.unsound or recording.unrecovered or recording.unjournalled:
            continue
        until = session.killed
        handed_off = {key for key in session.delivered if until is None or key[1] <= until}
        lost = handed_off - there.get(session.name, set())
        more = there.get(session.name, set()) - handed_off
        wrong += [f"session {session.name}: handed off and in no file: {key}" for key in sorted(lost)[:3]]
        wrong += [f"session {session.name}: in a file and never handed off: {key}" for key in sorted(more)[:3]]
    return wrong


def _part(out: Path, chance: random.Random) -> list[Path]:
    files = sorted((out / "messages").rglob("*.parquet"))
    return chance.sample(files, chance.randint(1, len(files))) if files and chance.random() < 0.3 else []


def _held_in(files: list[Path]):
    there: dict[str, set[tuple[str, int]]] = {}
    for path in files:
        there.setdefault(path.name.rpartition("-")[0], set()).update(held(path))
    return there


def _disagreements(played, found) -> list[str]:
    """What a sound capture must not be called, and exit statuses that differ."""
    (capture,) = found.captures
    wrong = [f"{f.where}: {f.what}" for f in capture.findings if f.kind in (Kind.DAMAGED, Kind.CONTRADICTION)]
    for session, recording in played:
        if session.killed is not None and not recording.unrecovered and not recording.unsound:
            reported = [each for stated in capture.sessions if stated.session == session.name for each in stated.losses]
            if not any(each.monotonic_start <= session.killed <= each.monotonic_end for each in reported):
                wrong.append(f"session {session.name}: killed at {session.killed}, and no loss lasts until then")
    if len(played) == 1:
        ((session, recording),) = played
        status = recording.status
        if status is not None and found.status not in _reported_by(status, lacks=recording.lacks):
            wrong.append(f"the recorder ends with {status}, its verification with {int(found.status)}")
        if session.calm and found.status not in (0, 3):
            wrong.append(f"nothing happened to it, and its verification ends with {int(found.status)}")
    return wrong


def _reported_by(status: int, *, lacks: bool) -> tuple[int, ...]:
    """What a verification may end with of a capture whose recorder ended with this.

    Where no message came the recorder says so before all else. Verification has the files: rows that we sent hold, and
    what is reported as missing is missing.
    """
    if status != ExitStatus.NOTHING:
        return (status,)
    return (VerifyStatus.INCOMPLETE,) if lacks else (VerifyStatus.HOLDS, VerifyStatus.NOTHING)


def _play(seed: int) -> tuple[Counter[str], list[str]]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        try:
            return play(seed, Path(folder) / "out")
        except Exception:  # noqa: BLE001 (one seed's failure is reported with its number, and the others continue)
            return Counter({"false claims": 1}), [f"seed {seed}: {traceback.format_exc()}"]


def main(arguments: list[str] | None = None) -> int:
    """Play them; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sessions", nargs="?", type=int, default=10_000, help="how many, 10,000 by default")
    parser.add_argument("--first", type=int, default=0, help="seed of the first folder")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes, by default one a processor")
    requested = parser.parse_args(arguments)
    total: Counter[str] = Counter()
    shown = folders = 0
    began = reported = time.monotonic()
    # forked workers would share the threads and locks of what pyarrow has begun
    with ProcessPoolExecutor(requested.jobs, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(_play, requested.first + n) for n in range(requested.sessions)]
        waiting.reverse()
        while total["sessions"] < requested.sessions and waiting:
            counted, wrong = waiting.pop().result()
            total += counted
            folders += 1
            for each in wrong[: max(_SHOWN - shown, 0)]:
                print(each, flush=True)
            shown += len(wrong)
            if time.monotonic() - reported > 10:
                reported = time.monotonic()
                print(f"{total['sessions']:,} sessions, {total['false claims']:,} false claims", flush=True)
        pool.shutdown(cancel_futures=True)
    seconds = time.monotonic() - began
    print(f"{folders:,} folders, seeds {requested.first} to {requested.first + folders - 1}, in {seconds:.0f} s:")
    for what in sorted({*total, "false claims"}, key=lambda what: (what == "false claims", what)):
        print(f"{total[what]:>14,} {what}")
    return 1 if total["false claims"] else 0


if __name__ == "__main__":
    sys.exit(main())
