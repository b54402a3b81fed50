"""The kill matrix: `wsrec record` under load, and SIGKILL to its processes at random moments of each phase of its life.

    scripts/kill-matrix --rounds 60          # a table; the status is 1 if anything was lost beyond its bound

Each round records a pulse into a folder of its own, kills, lets what survives go on, brings the rest home, and holds
what is in the files against what was sent. The rules:

- No file may be unreadable, nothing damaged or contradictory (`wsrec verify`).
- No byte of a row may be another than what was sent, and no interval that `verify` calls complete may have a hole.
- Every message that is missing is in an interval that `verify` names, or was sent when nothing recorded.
- So is what was sent over the first connection, before the first message that is in the files.
- A killed writer loses nothing: not one number may be missing.
- A killed receiver loses what it had not handed off; of what it had handed off, nothing (the ledger shows it).
- All killed at once: of what was sent before the kill, at most one journal batch.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import trustme

from tests.endurance.accounting import SLACK_NS, Account, account, without
from tests.endurance.pulse import PulseExchange
from wsrec.options.record import TlsMode

VICTIMS = (
    "receiver",
    "writer",
    "supervisor",
    "receiver+writer",
    "supervisor+receiver",
    "supervisor+writer",
    "all",
)
PHASES = ("connecting", "streaming", "rotating", "finishing", "recovering")
# the same while the output cannot be written: they need root, who may mount and drop capabilities
DISK_PHASES = ("disk full", "forbidden")
_MODULES = {"receiver": "wsrec.receive", "writer": "wsrec.writer"}
# --batch-size, and the least that one of the messages takes
_BATCH_BYTES = 1 << 20
_MESSAGE_BYTES = 230
# what the rings hold, and the kernel's buffer of the socket, while the output cannot be written
_HELD_BYTES = 16 << 20
_DISK_BYTES = 48 << 20
_TIMEOUT = 120.0
# what was due just before a connection is closed in order the exchange, which sends now and then, may not have sent
_UNSENT_NS = 50_000_000
# more than the beginning of a journal, and than what a receiver says before it is connected
_SOME = 20_000


class Round(NamedTuple):
    """What one round came to.

    Attributes:
        victim, phase: who was killed when.
        killed: processes that were killed; 0 where the phase was over before the kill.
        sent: messages between the first and the last that were recorded, and those up to the kill.
        recorded: different ones that are in the files.
        down: missing ones that were sent after the kill, without a receiver.
        lost: missing ones that were sent before the kill.
        bound: how many those may be.
        silent: missing ones that `verify` has no word of.
        claimed: holes in what `verify` calls proved or unbroken.
        incomplete_ms: time that the files themselves call incomplete.
        statuses: exit statuses of the commands.
        faults: what is against the rules; empty for a good round.

    """

    victim: str
    phase: str
    killed: int
    sent: int
    recorded: int
    down: int
    lost: int
    bound: int
    silent: int
    claimed: int
    incomplete_ms: int
    statuses: tuple[int, ...]
    faults: tuple[str, ...]


class Recorder:
    """A `wsrec` command that runs, and its children."""

    def __init__(self, *arguments: object, prefix: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-P", "-m", "wsrec", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._known: set[int] = set()

    def children(self) -> list[int]:
        pid = self.process.pid
        with contextlib.suppress(OSError):
            self._known |= {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
        return [one for one in self._known if _alive(one)]

    def named(self, victim: str) -> list[int]:
        if victim == "supervisor":
            return [self.process.pid] if self.process.poll() is None else []
        children = self.children()
        if victim == "all":
            return [*self.named("supervisor"), *children]
        if "+" in victim:
            return [pid for one in victim.split("+") for pid in self.named(one)]
        return [pid for pid in children if _MODULES[victim] in _command(pid)]

    def kill(self, victim: str) -> int:
        pids = self.named(victim)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def end(self, *, stop: bool = True) -> tuple[int, str]:
        """Its exit status and log; its children have ended too."""
        self.children()
        if stop and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=_TIMEOUT)
        until(lambda: not self.children())
        return self.process.returncode, log


def _ends(victim: str) -> bool:
    """Whether its death ends the recording."""
    return victim == "all" or "supervisor" in victim


def _count(victim: str) -> int:
    """How many processes it is."""
    return 3 if victim == "all" else victim.count("+") + 1


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


# root that the modes of files bind like anyone else (capabilities(7))
_POWERLESS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of its own for `folder`, which is soon full."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def until(condition: Callable[[], object], timeout: float = _TIMEOUT) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)


def journals(out: Path) -> list[Path]:
    return sorted((out / ".wsrec").glob("*/journal-*.arrows"))


def journalled(out: Path) -> dict[Path, int]:
    sizes = {}
    for path in journals(out):
        with contextlib.suppress(OSError):
            sizes[path] = path.stat().st_size
    return sizes


class Kill:
    """One round.

    Args:
        exchange: what is recorded.
        feed: its YAML file.
        out: where to.
        chance: decides the moments.

    """

    def __init__(self, exchange: PulseExchange, feed: Path, out: Path, chance: random.Random) -> None:
        self._exchange, self._feed, self._out, self._chance = exchange, feed, out, chance
        self._statuses: list[int] = []
        self._log = ""
        self._killed_at = 0
        self._began = time.time_ns()
        self._prefix: Sequence[str] = ()
        self._recorders: list[Recorder] = []

    def give_up(self) -> None:
        """Kill what still runs."""
        for recorder in self._recorders:
            recorder.kill("all")
            recorder.process.communicate()

    def run(self, victim: str, phase: str) -> Round:
        self._prefix = _POWERLESS if phase == "forbidden" else ()
        recorder = self._record("1s" if phase in ("rotating", "forbidden") else "1h")
        killed = getattr(self, f"_{phase.replace(' ', '_')}")(recorder, victim)
        if _ends(victim) or phase == "finishing":
            self._ended(recorder, stop=False)
            # a new start recovers what was left, and goes on
            recorder = self._record("1h")
        self._stream(recorder, 1.0)
        self._ended(recorder)
        return self._judge(victim, phase, killed, account(self._out, self._exchange))

    def _record(self, rotate: str) -> Recorder:
        sizes = ("--batch-size", _BATCH_BYTES, "--rotate", rotate)
        return self._start("record", self._feed, "--out", self._out, *sizes)

    def _start(self, *arguments: object) -> Recorder:
        self._recorders.append(Recorder(*arguments, prefix=self._prefix if arguments[0] == "record" else ()))
        return self._recorders[-1]

    def _kill(self, recorder: Recorder, victim: str) -> int:
        self._killed_at = time.time_ns()
        return recorder.kill(victim)

    def _connecting(self, recorder: Recorder, victim: str) -> int:
        # from before the children are there to after the first messages
        until(lambda: recorder.children() or recorder.process.poll() is not None)
        until(lambda: len(recorder.named(victim)) >= _count(victim) or recorder.process.poll() is not None)
        until(lambda: recorder.named("writer") or recorder.process.poll() is not None)
        if self._chance.random() < 0.5:
            return self._before_the_journal(recorder, victim)
        time.sleep(self._chance.uniform(0, 1.0))
        return self._kill(recorder, victim)

    def _before_the_journal(self, recorder: Recorder, victim: str) -> int:
        """Kill when messages have come, and the writer has been held up since its beginning."""
        (writer,) = recorder.named("writer")
        os.kill(writer, signal.SIGSTOP)
        until(lambda: any(when > self._began for when in self._exchange.opened))
        time.sleep(self._chance.uniform(0.1, 1.0))
        killed = self._kill(recorder, victim)
        with contextlib.suppress(ProcessLookupError):
            os.kill(writer, signal.SIGCONT)
        return killed

    def _streaming(self, recorder: Recorder, victim: str) -> int:
        self._stream(recorder, self._chance.uniform(0.3, 1.5))
        return self._kill(recorder, victim)

    def _rotating(self, recorder: Recorder, victim: str) -> int:
        self._stream(recorder, 0.5)
        before = set(journals(self._out))
        until(lambda: set(journals(self._out)) - before)
        time.sleep(self._chance.uniform(0, 0.08))
        return self._kill(recorder, victim)

    def _finishing(self, recorder: Recorder, victim: str) -> int:
        self._stream(recorder, self._chance.uniform(0.5, 1.0))
        recorder.children()
        recorder.process.send_signal(signal.SIGTERM)
        reported = time.time_ns() - _UNSENT_NS
        time.sleep(self._chance.uniform(0, 0.25))
        killed = self._kill(recorder, victim)
        # what came after the signal was not requested
        self._killed_at = reported
        return killed

    def _disk_full(self, recorder: Recorder, victim: str) -> int:
        self._stream(recorder, 0.5)
        filler = self._out / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        time.sleep(self._chance.uniform(0.3, 2.0))
        killed = self._kill(recorder, victim)
        time.sleep(1.0)
        filler.unlink()
        return killed

    def _forbidden(self, recorder: Recorder, victim: str) -> int:
        self._stream(recorder, 0.5)
        folders = [self._out, *(path for path in self._out.rglob("*") if path.is_dir())]
        modes = [folder.stat().st_mode for folder in folders]
        for folder in reversed(folders):
            folder.chmod(0)
        time.sleep(self._chance.uniform(0.3, 3.0))
        killed = self._kill(recorder, victim)
        if not _ends(victim):
            # its successor starts without access
            until(lambda: len(recorder.named(victim)) >= _count(victim))
            time.sleep(1.0)
        time.sleep(1.0)
        for folder, mode in zip(folders, modes, strict=True):
            folder.chmod(mode)
        return killed

    def _recovering(self, recorder: Recorder, victim: str) -> int:
        self._stream(recorder, self._chance.uniform(0.5, 1.5))
        killed = self._kill(recorder, victim)
        first = self._killed_at
        if not _ends(victim):
            # again, while its successor takes over
            until(lambda: len(recorder.named(victim)) >= _count(victim))
            time.sleep(self._chance.uniform(0, 0.8))
            return killed + recorder.kill(victim)
        self._ended(recorder, stop=False)
        again = self._start("recover", self._out)
        until(lambda: list((self._out / ".wsrec").glob("*/*.partial")) or again.process.poll() is not None)
        time.sleep(self._chance.uniform(0, 0.15))
        killed += again.kill("all")
        self._ended(again, stop=False)
        self._killed_at = first
        return killed

    def _stream(self, recorder: Recorder, seconds: float) -> None:
        """Wait until it journals, and then this long."""
        before = journalled(self._out)

        def grows() -> bool:
            return any(size > before.get(path, 0) + _SOME for path, size in journalled(self._out).items())

        until(lambda: grows() or recorder.process.poll() is not None)
        time.sleep(seconds)

    def _ended(self, recorder: Recorder, *, stop: bool = True) -> None:
        status, log = recorder.end(stop=stop)
        self._statuses.append(status)
        self._log += log

    def _unreported_before_first(self, found: Account) -> int:
        """How many messages came over an open connection before the kill, are in no file, and in no named interval."""
        opened = next((when for when in self._exchange.opened if when > self._began), self._killed_at)
        until = min(self._killed_at, self._exchange.due(found.first))
        left = without([(opened, until)], found.named)
        return sum(
            (end - start) * self._exchange.rate // 1_000_000_000 for start, end in left if end - start > SLACK_NS
        )

    def _judge(self, victim: str, phase: str, killed: int, found: Account) -> Round:
        cut = self._exchange.number_at(self._killed_at)
        lost = sum(max(min(run.last + 1, cut) - run.first, 0) for run in found.missing)
        held = _HELD_BYTES if phase in DISK_PHASES else _BATCH_BYTES
        bound = 0 if victim == "writer" else held // _MESSAGE_BYTES
        incomplete = sum(
            max((stream["incomplete"] for stream in session["streams"]), default=0)
            for capture in found.verdict["captures"]
            for session in capture["sessions"]
        )
        faults = [f"unsound: {what}" for what in found.unsound]
        faults += [f"a hole in a complete interval: {run}" for run in found.claimed[:3]]
        # those that it leaves close in order, and ask for no more
        silent = found.silent(self._exchange, self._killed_at - (_UNSENT_NS if victim == "supervisor" else 0))
        if silent:
            faults.append(f"{silent} missing without a word: {found.missing[:3]}, named {found.named}")
        unreported = self._unreported_before_first(found)
        if unreported:
            faults.append(
                f"{unreported} sent over the first connection are missing without a report: named {found.named}"
            )
        if found.wrong:
            faults.append(f"{found.wrong} payloads differ")
        if lost > bound:
            faults.append(f"{lost} lost, at most {bound} allowed")
        if victim == "writer" and phase != "finishing" and found.missing:
            faults.append(f"{found.lost} missing after a writer was killed: {found.missing[:3]}")
        # between an end and the next start there is no receiver, which is not a loss of either
        if (
            found.lost
            and phase != "finishing"
            and 0 in self._statuses
            and not {1, 4, -signal.SIGKILL} & set(self._statuses)
        ):
            faults.append("exit status 0 after a loss")
        if "Traceback" in self._log:
            faults.append("a traceback: " + self._log[self._log.index("Traceback") :][-300:])
        if not found.recorded:
            faults.append("nothing recorded")
        return Round(
            victim,
            phase,
            killed,
            found.last - found.first + 1,
            found.recorded,
            found.lost - lost,
            lost,
            bound,
            silent,
            len(found.claimed),
            incomplete // 1_000_000,
            tuple(self._statuses),
            tuple(faults),
        )


def run(
    rounds: int,
    rate: int,
    seed: int,
    *,
    victims: Sequence[str] = VICTIMS,
    phases: Sequence[str] = PHASES,
    keep: Path | None = None,
    tls: TlsMode | None = None,
) -> Iterator[Round]:
    """Play `rounds` rounds, all phases and victims in turn, over TLS in this mode; bad ones are copied to `keep`."""
    chance = random.Random(seed)
    cases = [(victim, phase) for phase in phases for victim in victims]
    with tempfile.TemporaryDirectory(prefix="wsrec-kills-") as folder:
        exchange = PulseExchange(rate) if tls is None else over_tls(rate, tls, Path(folder))
        feed = Path(folder) / "pulse.yaml"
        feed.write_text(exchange.feed())
        try:
            for number in range(rounds):
                victim, phase = cases[number % len(cases)]
                out = Path(folder) / f"{number:03d}"
                with small_disk(out) if phase == "disk full" else contextlib.nullcontext():
                    kill = Kill(exchange, feed, out, chance)
                    try:
                        result = kill.run(victim, phase)
                    except (TimeoutError, subprocess.TimeoutExpired) as error:
                        result = Round(victim, phase, 0, 0, 0, 0, 0, 0, 0, 0, 0, (), (f"did not end: {error!r}",))
                        kill.give_up()
                    if result.faults and keep is not None:
                        shutil.copytree(out, keep / out.name, dirs_exist_ok=True)
                shutil.rmtree(out, ignore_errors=True)
                yield result
        finally:
            exchange.stop()


def over_tls(rate: int, mode: TlsMode, folder: Path) -> PulseExchange:
    """The exchange with a certificate, which recorders trust from now on, decrypting in this mode."""
    authority, certificate, ca_file = trustme.CA(), folder / "certificate.pem", folder / "ca.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    authority.cert_pem.write_to_path(str(ca_file))
    os.environ |= {"WSREC_RECORD_TLS": mode.value, "WSREC_RECORD_CA_FILE": str(ca_file)}
    return PulseExchange(rate, certificate)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=70)
    parser.add_argument("--rate", type=int, default=5000, help="messages a second")
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=VICTIMS)
    parser.add_argument("--phases", nargs="+", choices=(*PHASES, *DISK_PHASES), default=PHASES)
    parser.add_argument("--seed", type=int, default=time.time_ns() & 0xFFFF)
    parser.add_argument("--tls", type=TlsMode, choices=tuple(TlsMode), help="over TLS, decrypted so")
    parser.add_argument("--json", type=Path, help="write the rounds there too")
    parser.add_argument("--keep", type=Path, help="copy the folders of bad rounds there")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.rate:,} messages/s")
    columns = "{:>3}  {:<19} {:<10} {:>4} {:>7} {:>8} {:>6} {:>5} {:>6} {:>6} {:>7} {:>10} {:<12} {}"
    heads = (
        "#",
        "killed",
        "while",
        "pids",
        "sent",
        "recorded",
        "down",
        "lost",
        "bound",
        "silent",
        "claimed",
        "incomplete",
        "status",
        "verdict",
    )
    print(columns.format(*heads))
    rounds: list[dict[str, Any]] = []
    played = run(
        options.rounds,
        options.rate,
        options.seed,
        victims=options.victims,
        phases=options.phases,
        keep=options.keep,
        tls=options.tls,
    )
    for number, one in enumerate(played, 1):
        rounds.append(one._asdict())
        row = [number, *one[:10], f"{one.incomplete_ms} ms", ",".join(map(str, one.statuses))]
        print(columns.format(*row, "; ".join(one.faults) or "good"), flush=True)
    bad = [one for one in rounds if one["faults"]]
    beyond = sum(max(one["lost"] - one["bound"], 0) for one in rounds)
    silent, claimed = (sum(one[key] for one in rounds) for key in ("silent", "claimed"))
    print(
        f"{len(rounds)} rounds, {len(bad)} bad; lost beyond the bound: {beyond}; missing without a word: {silent}; ",
        end="",
    )
    print(f"holes in what is called proved or unbroken: {claimed}")
    if options.json is not None:
        options.json.write_text(json.dumps(rounds, indent=1))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
