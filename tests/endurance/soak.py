"""The soak: two recorders for an hour, a fault in each every minute, and at the end every message accounted for.

    scripts/soak --minutes 60 --rate 5000

One recorder suffers only from its exchange (resets, half frames, silence, closings), so that its processes live to the
end and their memory shows; the other one's own processes are killed, stopped, replaced and started again as well. At
the end the missing numbers are compared with the faults: a loss that no fault explains is a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.endurance.accounting import Account, Run, account
from tests.endurance.kill_matrix import Recorder, until
from tests.endurance.pulse import PulseExchange

EXCHANGE_FAULTS = ("rst", "fin", "silent", "close", "notice")
PROCESS_FAULTS = (
    "receiver killed",
    "writer killed",
    "all killed",
    "receiver stopped",
    "writer stopped",
    "takeover",
    "restart",
)
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MESSAGES = 10


class Fault(NamedTuple):
    """What was done to a recorder, and when (ns since the epoch)."""

    kind: str
    when: int


class Effect(NamedTuple):
    """A fault and what it cost.

    Attributes:
        kind, minute: the fault.
        missing: messages that are in no file.
        outage_ms: longest time without a message.
        incomplete_ms: time that `wsrec verify` calls incomplete on the stream that has most of it.
        reasons: in the words of verify.

    """

    kind: str
    minute: float
    missing: int
    outage_ms: int
    incomplete_ms: int
    reasons: tuple[str, ...]


class Subject:
    """A recorder that is tried, with an exchange of its own.

    Args:
        name: what to call it.
        folder: where its feed, files and logs go.
        rate: messages a second.
        faults: what may be done to it.
        rotate: when its files end.

    Attributes:
        faults: what was done.
        memory: resident bytes by process (name and pid), sampled.
        statuses: exit statuses of the recorders that ended.

    """

    def __init__(self, name: str, folder: Path, rate: int, faults: tuple[str, ...], rotate: str) -> None:
        self.name = name
        self.out = folder / name
        self.exchange = PulseExchange(rate)
        self.faults: list[Fault] = []
        self.memory: dict[str, list[int]] = defaultdict(list)
        self.statuses: list[int] = []
        self.logs: list[str] = []
        self._kinds = faults
        self._rotate = rotate
        self._feed = folder / f"{name}.yaml"
        self._feed.write_text(self.exchange.feed(**FEED_KEYS))
        self._recorder = self._start()

    def strike(self, chance: random.Random) -> str:
        """Do the next thing to it: all kinds in turn, in an order of chance."""
        done = len(self.faults) % len(self._kinds)
        if not done:
            self._turn = chance.sample(self._kinds, len(self._kinds))
        kind = self._turn[done]
        self.faults.append(Fault(kind, time.time_ns()))
        if kind in EXCHANGE_FAULTS:
            self.exchange.strike(kind)
        else:
            self._strike_process(kind)
        return kind

    def tend(self) -> None:
        """Start it again where it has ended, as systemd would."""
        if self._recorder.process.poll() is not None:
            self._ended()
            self._recorder = self._start()

    def sample(self) -> None:
        """Take the memory of its processes."""
        for process in ("receiver", "writer", "supervisor"):
            for pid in self._recorder.named(process):
                try:
                    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
                except (OSError, IndexError):
                    continue
                self.memory[f"{process} {pid}"].append(resident)

    def finish(self) -> None:
        """End the recording; the exchange goes on."""
        self._ended()

    def _start(self, *more: str) -> Recorder:
        return Recorder("record", self._feed, "--out", self.out, "--rotate", self._rotate, "--quiet", *more)

    def _ended(self) -> None:
        status, log = self._recorder.end()
        self.statuses.append(status)
        self.logs.append(log)

    def _strike_process(self, kind: str) -> None:
        who, _, what = kind.partition(" ")
        if kind == "restart":
            self._recorder.process.send_signal(signal.SIGTERM)
        elif kind == "takeover":
            successor = self._start("--takeover")
            until(lambda: self._recorder.process.poll() is not None)
            self._ended()
            self._recorder = successor
        elif what == "killed":
            self._recorder.kill(who)
        else:
            for pid in self._recorder.named(who):
                os.kill(pid, signal.SIGSTOP)
            if who == "writer":
                time.sleep(4)
                for pid in self._recorder.named(who):
                    os.kill(pid, signal.SIGCONT)


# the exchange's habits: it is never quiet for so long, cuts connections after a time, and says before it goes
FEED_KEYS = {
    "limits": ", lifetime: 200",
    "channel": ", idle_timeout: 2",
    "more": "closing_notice: [{path: event, match: serverShutdown}]\n",
}


def effects(subject: Subject, found: Account, began: int) -> tuple[list[Effect], list[str]]:
    """What each fault cost, and what no fault explains."""
    slack = 2_000_000_000
    intervals = list(_incomplete(found))
    unexplained = []
    results = []
    ends = [fault.when for fault in subject.faults[1:]] + [1 << 62]
    explained: set[Run] = set()
    reported: set[tuple[int, int]] = set()
    for fault, end in zip(subject.faults, ends, strict=True):
        runs = [run for run in found.missing if fault.when - slack <= run.before < end - slack]
        explained.update(runs)
        mine = [one for one in intervals if fault.when - slack <= one[0] < end - slack]
        reported.update((start, stop) for start, stop, _ in mine)
        results.append(
            Effect(
                fault.kind,
                (fault.when - began) / 60e9,
                sum(run.last - run.first + 1 for run in runs),
                max((run.after - run.before for run in runs), default=0) // 1_000_000,
                max((stop - start for start, stop, _ in mine), default=0) // 1_000_000,
                tuple(sorted({reason for _, _, reason in mine})),
            )
        )
    unexplained += [f"missing without a fault: {run}" for run in found.missing if run not in explained]
    unexplained += [
        f"incomplete without a fault: {start} to {stop}: {reason}"
        for start, stop, reason in intervals
        if (start, stop) not in reported
    ]
    return results, unexplained


def _incomplete(found: Account) -> Iterator[tuple[int, int, str]]:
    seen = set()
    for capture in found.verdict["captures"]:
        for session in capture["sessions"]:
            for stream in session["streams"]:
                for one in stream["intervals"]:
                    if one["state"] == "incomplete" and (one["start"], one["end"]) not in seen:
                        seen.add((one["start"], one["end"]))
                        yield one["start"], one["end"], one["reason"]


def judge(subject: Subject, began: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Read its folder back, print what it came to, and return it."""
    found = account(subject.out, subject.exchange)
    results, faults = effects(subject, found, began)
    faults += [f"unsound: {what}" for what in found.unsound]
    faults += [f"a hole in a complete interval: {run}" for run in found.claimed[:10]]
    faults += [f"{found.wrong} payloads differ"] * bool(found.wrong)
    faults += [f"a traceback: {log[log.index('Traceback') :][-500:]}" for log in subject.logs if "Traceback" in log]
    say(f"\n{subject.name}: {found.recorded:,} of {found.last - found.first + 1:,} messages, {found.twice:,} twice")
    say(f"  verify: status {found.verdict['status']}; exit statuses {subject.statuses}")
    for one in results:
        cost = f"{one.missing:>7,} missing  {one.outage_ms:>7,} ms outage  {one.incomplete_ms:>7,} ms incomplete"
        say(f"  {one.minute:6.1f} min  {one.kind:<17} {cost}  {'; '.join(one.reasons)[:100]}")
    for name, samples in sorted(subject.memory.items(), key=lambda item: -len(item[1]))[:6]:
        third = max(len(samples) // 3, 1)
        early, late = statistics.median(samples[:third]), statistics.median(samples[-third:])
        say(
            f"  memory of {name}: {len(samples)} samples, first third {early / 1e6:.1f} MB, last third {late / 1e6:.1f}"
            f" MB, peak {max(samples) / 1e6:.1f} MB"
        )
    for fault in faults[:_MESSAGES]:
        say(f"  BAD: {fault}")
    say(f"  {'good' if not faults else f'{len(faults)} faults'}")
    return {
        "name": subject.name,
        "recorded": found.recorded,
        "span": found.last - found.first + 1,
        "twice": found.twice,
        "verify": found.verdict["status"],
        "statuses": subject.statuses,
        "effects": [one._asdict() for one in results],
        "memory": {name: samples[:: max(len(samples) // 60, 1)] for name, samples in subject.memory.items()},
        "faults": faults,
    }


def soak(
    folder: Path, *, seconds: float, rate: int, every: float, rotate: str, seed: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Run it.

    Args:
        folder: where everything goes.
        seconds: how long.
        rate: messages a second of each exchange.
        every: seconds between two faults of a recorder.
        rotate: when files end.
        seed: decides the order of the faults.
        say: takes each line of the report.

    """
    chance = random.Random(seed)
    subjects = [
        Subject("exchange-faults", folder, rate, EXCHANGE_FAULTS, rotate),
        Subject("all-faults", folder, rate, EXCHANGE_FAULTS + PROCESS_FAULTS, rotate),
    ]
    began, start = time.time_ns(), time.monotonic()
    next_fault, next_look = start + every / 2, start
    while (now := time.monotonic()) < start + seconds:
        # the last fault has its time too
        if now >= next_fault and now < start + seconds - every / 2:
            next_fault += every
            struck = [f"{subject.name}: {subject.strike(chance)}" for subject in subjects]
            say(f"{(now - start) / 60:6.1f} min  " + "  ".join(struck))
        for subject in subjects:
            subject.tend()
            if now >= next_look:
                subject.sample()
        if now >= next_look:
            next_look = now + 5
        time.sleep(0.1)
    for subject in subjects:
        subject.finish()
        subject.exchange.stop()
    return [judge(subject, began, say) for subject in subjects]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=int, default=5000, help="messages a second, to each of two recorders")
    parser.add_argument("--every", type=float, default=60, help="seconds between two faults of a recorder")
    parser.add_argument("--rotate", default="5m")
    parser.add_argument("--seed", type=int, default=time.time_ns() & 0xFFFF)
    parser.add_argument("--out", type=Path, help="keep everything there; a temporary folder by default")
    parser.add_argument("--json", type=Path, help="write the report there too")
    options = parser.parse_args()

    def say(line: str) -> None:
        print(line, flush=True)

    say(f"seed {options.seed}, {options.minutes:g} minutes, twice {options.rate:,} messages/s")
    with tempfile.TemporaryDirectory(prefix="wsrec-soak-") as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = soak(
            folder,
            seconds=options.minutes * 60,
            rate=options.rate,
            every=options.every,
            rotate=options.rotate,
            seed=options.seed,
            say=say,
        )
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1))
    return 1 if any(one["faults"] for one in report) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.SubprocessError as error:
        sys.exit(str(error))
