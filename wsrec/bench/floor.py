"""The receive path in C with nothing in it but its steps, at a pace: what wsrec's steps are held against.

Two threads of this process: one sends the same TLS record again and again, one waits for it (or polls), reads it,
decrypts it by EVP, reads the frame's header and publishes a slot, and takes the time at each.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import msgspec
import numpy as np
from websockets.frames import Frame

from wsrec.bench import paced
from wsrec.bench.contestants import DEFAULT_TLS, WsrecConfiguration
from wsrec.bench.frames import share
from wsrec.bench.limits import SUITE, compiled, connected, sealed
from wsrec.bench.paced import quantiles
from wsrec.bench.process import ContestantError
from wsrec.bench.results import Pace, PacedRound
from wsrec.bench.sender import sending, times_of
from wsrec.bench.setup import Placement, Setup
from wsrec.bench.threads import together
from wsrec.host.clock import StageClock
from wsrec.options.record import TlsMode, WaitStrategy
from wsrec.ring.mirror import create_shared

_BUFFER = 64 << 10
_SLOTS = 1 << 12
_WARM_UP = 0.1
_STEPS = (
    "event_to_recv_start",
    "recv_start_to_read",
    "read_to_recv_end",
    "recv_end_to_parsed",
    "parsed_to_handoff",
)


class Rounds(NamedTuple):
    """How often, how fast and how long: rounds, messages per second, seconds."""

    number: int
    rate: float
    seconds: float


def beside_floor(
    setup: Setup, rounds: Rounds, step: Callable[[str], None], warn: Callable[[str], None]
) -> tuple[bytes, list[Pace]]:
    """Measure wsrec's receiver and the loop in C in turn, waiting and polling, with one frame of usual size.

    Args:
        setup: the shared setup.
        rounds: how many, and of what.
        step: called before each turn with its name.
        warn: called with messages for the operator.

    Returns:
        The frame, and what was measured.

    Raises:
        ContestantError: the sender could not be started.

    """
    usual = sorted(setup.messages, key=lambda message: len(message[1]))[len(setup.messages) // 2]
    count = max(int(rounds.rate * rounds.seconds), 1)
    frame = Frame(*usual).serialize(mask=False)
    modes = dict.fromkeys((DEFAULT_TLS, TlsMode.DIRECT))
    found = [Pace(waiting, {mode.value: [] for mode in modes}, []) for waiting in (True, False)]
    with ExitStack() as stack:
        fd = share([usual])
        stack.callback(os.close, fd)
        times = create_shared("wsrec-bench-sent", 8 * count)
        stack.callback(os.close, times)
        alone = msgspec.structs.replace(setup, messages=[usual], frames=fd)
        job = alone.sender("tls", messages=count, lone=True, rate=rounds.rate, times=times, cpu=setup.placement.sender)
        sender, url = stack.enter_context(sending(job, warn))
        for number in range(rounds.number):
            for pace in found:
                what = f"limits, {'waiting' if pace.waiting else 'polling'}, round {number + 1} of {rounds.number}"
                step(f"{what}: in C")
                pace.in_c.append(measure(setup.placement, frame, count, rounds.rate, waiting=pace.waiting))
                wait = WaitStrategy.EPOLL if pace.waiting else WaitStrategy.SPIN
                for mode in list(modes):
                    step(f"{what}: {mode.value}")
                    ours = WsrecConfiguration(name=mode.value, tls=mode, wait=wait)
                    try:
                        measured = paced.measure(ours, alone, sender, times_of(times), url, "tls", rounds.rate)
                    except ContestantError as error:
                        warn(f"limits: {mode.value} is left out: {error}")
                        del modes[mode]
                        for other in found:
                            del other.wsrec[mode.value]
                    else:
                        pace.wsrec[mode.value].append(measured)
    return frame, found


def measure(placement: Placement, frame: bytes, count: int, rate: float, *, waiting: bool) -> PacedRound:
    """Send `frame` in a record of its own `count` times, at `rate` a second, and time the steps of receiving it.

    Args:
        placement: the processors; sender and receiver need one each.
        frame: a WebSocket frame that fits a record.
        count: how many times.
        rate: times a second.
        waiting: whether the receiver waits for the kernel, or polls all the time.

    """
    key, iv = os.urandom(SUITE.key_size), os.urandom(SUITE.iv_size)
    record = sealed(key, iv, 0, frame)
    opener = compiled.Opener(SUITE.cipher, key, iv)
    sent, moments = np.zeros(count, np.int64), np.zeros((count, len(_STEPS) + 1), np.int64)
    ring, slots, published = bytearray(_BUFFER), np.zeros(8 * _SLOTS, np.uint64), np.zeros(8, np.uint64)
    # the clock maps the counter, as a receiver process does
    with StageClock(), connected() as (sender, receiver), select.epoll() as epoll:
        epoll.register(receiver, select.EPOLLIN)

        def send() -> None:
            try:
                compiled.send_paced(sender.fileno(), record, sent, 1e9 / rate)
            finally:
                sender.shutdown(socket.SHUT_WR)

        def receive() -> int:
            descriptors = receiver.fileno(), epoll.fileno() if waiting else -1
            try:
                done: int = opener.floor(*descriptors, len(record), bytearray(_BUFFER), ring, slots, published, moments)
            finally:
                # the sender waits for nobody
                receiver.shutdown(socket.SHUT_RDWR)
            return done

        _, done = together((placement.sender, send), (placement.receiver, receive))
    warm = slice(int(done * _WARM_UP), done)
    at = moments[warm]
    steps = {name: quantiles(took) for name, took in zip(_STEPS, np.diff(at).T, strict=True)}
    steps["sent_to_event"] = quantiles(at[:, 0] - sent[warm])
    steps["recv_start_to_recv_end"] = quantiles(at[:, 3] - at[:, 1])
    return PacedRound(one_way=quantiles(at[:, -1] - sent[warm]), steps=steps)
