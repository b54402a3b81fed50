"""All measurements, with the contestants taking turns so that other load on the machine affects all alike."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import product
from typing import Any, TypeVar

import msgspec

from wsrec.bench import contestants, limits, paced, recording, saturated
from wsrec.bench.contestants import TRANSPORTS, Contestant
from wsrec.bench.floor import Rounds, beside_floor
from wsrec.bench.process import ContestantError
from wsrec.bench.results import (
    RECORDS,
    Limits,
    Pace,
    Paced,
    PacedRound,
    Recording,
    RecordingRound,
    Results,
    Saturated,
    SaturatedRound,
)
from wsrec.bench.sender import sending, times_of
from wsrec.bench.setup import Setup, machine, off_receiver_cpu, place, prepared, versions
from wsrec.options.record import TlsMode
from wsrec.ring.mirror import create_shared
from wsrec.supervise.preconditions import check_cpus

MEASURES = ("saturated", "paced", "recording", "limits")
_QUICK: dict[str, Any] = {"messages": 100_000, "rounds": 1, "paced_seconds": 1.0, "recording_seconds": 3.0}
_FIELDS = {
    "saturated": contestants.SATURATED,
    "paced": contestants.PACED,
    "recording": contestants.RECORDING,
}
_Round = TypeVar("_Round")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The measurements to run.

    Attributes:
        measures: some of `MEASURES`.
        recording: text recording to send; None: messages of the demo market.
        messages: saturated: messages per round.
        rounds: number of rounds of each contestant.
        rate: paced: messages per second.
        paced_seconds, recording_seconds: length of a round.
        only: names of contestants; empty for all.
        transports: some of `contestants.TRANSPORTS`; recording is always measured over TLS.
        records: some of `results.RECORDS`, for saturated and paced.
        cpu, sender_cpu: processors of the receiving process and of the sender; None: chosen.
        rt_priority: SCHED_FIFO priority of the receiving process.

    """

    measures: tuple[str, ...] = MEASURES
    recording: str | None = None
    messages: int = 400_000
    rounds: int = 5
    rate: float = 10_000.0
    paced_seconds: float = 3.0
    recording_seconds: float = 20.0
    only: tuple[str, ...] = ()
    transports: tuple[str, ...] = TRANSPORTS
    records: tuple[str, ...] = RECORDS
    cpu: int | None = None
    sender_cpu: int | None = None
    rt_priority: int | None = None


def from_cli(
    *,
    measures: tuple[str, ...],
    only: tuple[str, ...],
    transports: tuple[str, ...],
    records: tuple[str, ...],
    quick: bool,
    seconds: float | None,
    **given: Any,
) -> Options:
    """Options from the command line: None and empty values take the defaults of `Options`, or smaller ones if `quick`.

    Args:
        measures: some of `MEASURES`; none or `all` for all.
        only, transports, records: as in `Options`; empty for all.
        quick: whether to use short rounds.
        seconds: length of a paced and of a recording round.
        given: other fields of `Options`.

    """
    values = dict(_QUICK) if quick else {}
    values |= {key: value for key, value in given.items() if value is not None}
    if seconds is not None:
        values |= {"paced_seconds": seconds, "recording_seconds": seconds}
    if measures and "all" not in measures:
        values["measures"] = tuple(measure for measure in MEASURES if measure in measures)
    if transports:
        values["transports"] = tuple(transport for transport in TRANSPORTS if transport in transports)
    if records:
        values["records"] = tuple(name for name in RECORDS if name in records)
    return Options(only=only, **values)


class Observer(msgspec.Struct, frozen=True):
    """Progress callbacks: `step` before each turn with its name, `warn` with messages for the operator."""

    step: Callable[[str], None]
    warn: Callable[[str], None]


def run(options: Options, observer: Observer) -> Results:
    """Measure; the temporary folder and all processes are gone afterwards, however it ends.

    Raises:
        ConfigError: a processor is not available to this process.
        wsrec.replay.message.SourceError: the recording cannot be read.
        OSError: the system refuses a process, memory or disk space.

    """
    for field, cpu in (("cpu", options.cpu), ("sender_cpu", options.sender_cpu)):
        check_cpus(field, () if cpu is None else (cpu,))
    return _Run(options, observer).run()


def turns(options: Options) -> int:
    """The largest number of turns: a contestant that fails has no further ones."""
    # the limits: two steps, and of each round the loop in C and two TLS modes, waiting and not
    modes = len({contestants.DEFAULT_TLS, TlsMode.DIRECT})
    count = 0 if "limits" not in options.measures else 2 + 2 * (1 + modes) * options.rounds
    for measure in set(options.measures) - {"limits"}:
        transports, ways = (("tls",), 1) if measure == "recording" else (options.transports, len(options.records))
        for contestant in contestants.chosen(_FIELDS[measure], options.only):
            if contestants.unavailable_reason(contestant) is None:
                count += len(set(transports) & set(contestant.transports)) * ways * options.rounds
    return count


class _Run:
    def __init__(self, options: Options, observer: Observer) -> None:
        self._options = options
        self._observer = observer
        self._warned: set[str] = set()
        self._left_out: dict[str, str] = {}

    def run(self) -> Results:
        options = self._options
        placement = place(options.cpu, options.sender_cpu)
        with prepared(options.recording, placement, options.rt_priority, self._warn) as setup:
            sizes = [len(payload) for _, payload in setup.messages]
            results = Results(
                when=datetime.now(UTC).isoformat(timespec="seconds"),
                machine=machine(),
                versions=versions(),
                options={**msgspec.to_builtins(options), "placement": msgspec.to_builtins(placement)},
                mean_bytes=sum(sizes) / len(sizes),
            )
            with off_receiver_cpu(placement):
                if "saturated" in options.measures:
                    results.saturated = self._saturated(setup)
                if "paced" in options.measures:
                    results.paced = self._paced(setup)
                if "limits" in options.measures:
                    results.limits = self._limits(setup)
            if "recording" in options.measures:
                results.recording = self._recording(setup)
        results.left_out = self._left_out
        return results

    def _saturated(self, setup: Setup) -> list[Saturated]:
        found: list[Saturated] = []
        count = self._options.messages
        for transport, records in product(self._options.transports, self._options.records):
            job = setup.sender(transport, messages=count, lone=records == "lone", cpu=setup.placement.sender)
            with sending(job, self._warn) as (sender, url):

                def turn(contestant: Contestant) -> SaturatedRound:
                    return saturated.measure(contestant, setup, sender, url, transport, count)  # noqa: B023 (called here)

                rounds = self._in_turn("saturated", transport, records, turn)
            each = job.messages_a_record()
            found += [Saturated(name, transport, done, records, each) for name, done in rounds.items()]
        return found

    def _paced(self, setup: Setup) -> list[Paced]:
        options = self._options
        if setup.placement.receiver is None or setup.placement.receiver == setup.placement.sender:
            self._warn("paced is left out: sender and receiver need a processor each")
            return []
        found: list[Paced] = []
        count = max(int(options.rate * options.paced_seconds), 1)
        for transport, records in product(options.transports, options.records):
            with ExitStack() as stack:
                times = create_shared("wsrec-bench-sent", 8 * count)
                stack.callback(os.close, times)
                job = setup.sender(
                    transport,
                    messages=count,
                    lone=records == "lone",
                    rate=options.rate,
                    times=times,
                    cpu=setup.placement.sender,
                )
                sender, url = stack.enter_context(sending(job, self._warn))

                def turn(contestant: Contestant) -> PacedRound:
                    sent = times_of(times)  # noqa: B023 (called here)
                    return paced.measure(contestant, setup, sender, sent, url, transport, options.rate)  # noqa: B023

                rounds = self._in_turn("paced", transport, records, turn)
            each = job.messages_a_record()
            found += [Paced(name, transport, done, records, each) for name, done in rounds.items()]
        return found

    def _limits(self, setup: Setup) -> Limits | None:
        options, placement = self._options, setup.placement
        if (reason := limits.unavailable_reason()) is not None:
            self._leave_out("limits", reason)
            return None
        self._observer.step("limits: single operations")
        operations = limits.operations(placement)
        self._observer.step("limits: opening TLS records")
        records = limits.records(placement, setup.certificate, setup.ca_file)
        frame, paces = b"", list[Pace]()
        if placement.receiver is None or placement.receiver == placement.sender:
            self._warn("the limits of each step are left out: sender and receiver need a processor each")
        elif (reason := contestants.unavailable_reason(contestants.WSREC)) is not None:
            self._leave_out(contestants.WSREC.name, reason)
        else:
            rounds = Rounds(options.rounds, options.rate, options.paced_seconds)
            try:
                frame, paces = beside_floor(setup, rounds, self._observer.step, self._warn)
            except ContestantError as error:
                self._leave_out(contestants.WSREC.name, f"limits: {error}")
        return Limits(operations, records, paces, len(frame))

    def _recording(self, setup: Setup) -> list[Recording]:
        options = self._options
        pinned: list[str] = []
        for option, value in (("--cpu", options.cpu), ("--rt-priority", options.rt_priority)):
            pinned += [] if value is None else [option, str(value)]
        job = setup.sender("tls", seconds=options.recording_seconds, cpu=options.sender_cpu)
        with sending(job, self._warn) as (sender, url):

            def turn(contestant: Contestant) -> RecordingRound:
                return recording.measure(contestant, setup, sender, url, options.recording_seconds, pinned)

            rounds = self._in_turn("recording", "tls", "", turn)
        return [Recording(name, done) for name, done in rounds.items()]

    def _in_turn(
        self, measure: str, transport: str, records: str, turn: Callable[[Contestant], _Round]
    ) -> dict[str, list[_Round]]:
        """The rounds of each contestant; one that cannot be measured is left out from then on, with the reason."""
        playing = [c for c in contestants.chosen(_FIELDS[measure], self._options.only) if transport in c.transports]
        rounds: dict[str, list[_Round]] = {contestant.name: [] for contestant in playing}
        for contestant in list(playing):
            if (unavailable_reason := contestants.unavailable_reason(contestant)) is not None:
                playing.remove(contestant)
                self._leave_out(contestant.name, unavailable_reason)
        what = f"{measure} {transport} {records}".rstrip()
        for number in range(self._options.rounds):
            for contestant in list(playing):
                self._observer.step(f"{what}, round {number + 1} of {self._options.rounds}: {contestant.name}")
                try:
                    rounds[contestant.name].append(turn(contestant))
                except ContestantError as error:
                    playing.remove(contestant)
                    rounds[contestant.name] = []
                    self._leave_out(contestant.name, f"{what}: {error}")
        return {name: done for name, done in rounds.items() if done}

    def _leave_out(self, name: str, reason: str) -> None:
        self._left_out.setdefault(name, reason)
        self._warn(f"{name} is left out: {reason}")

    def _warn(self, text: str) -> None:
        # every round would repeat it
        if text not in self._warned:
            self._warned.add(text)
            self._observer.warn(text)
