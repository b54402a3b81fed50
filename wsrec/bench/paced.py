"""Latency measurement at a fixed rate: wsrec's own steps, and the one-way latency of all contestants.

The sender notes CLOCK_MONOTONIC in shared memory just before each send. Receivers get the frames in order, so the time
of message i is the i-th: nothing is parsed. wsrec's timestamps follow that clock to within tens of ns
(`wsrec.host.clock`). The end point is the hand-off for wsrec, and the first line of the callback or loop for the
others.
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from wsrec.bench.client_job import ClientJob, Measure, Measured
from wsrec.bench.contestants import Client, Contestant, WsrecConfiguration
from wsrec.bench.process import Process, running
from wsrec.bench.receiver import reads_of, receiving
from wsrec.bench.results import QUANTILES, PacedRound, Quantiles, per_message
from wsrec.bench.sender import GO, HeldPath, times_of
from wsrec.bench.setup import Setup
from wsrec.ring.mirror import create_shared
from wsrec.ring.slot_layout import SLOT_DTYPE
from wsrec.ring.slotring import DEFAULT_SLOTS
from wsrec.stages import EVENT, NIC, RECV_START, STEPS, Stage
from wsrec.writer.batch import SLOT_BYTES
from wsrec.writer.rows import stamps

# infrequent, because it may preempt the sender; the rings hold more than a quarter of a second
_DRAIN_SECONDS = 0.25
# processors, caches and schedulers settle meanwhile; these messages are left out
_WARM_UP = 0.1
READ = next(step for step in STEPS if step.start is RECV_START)
# the path through the kernel and the read itself are not wsrec's own
_OWN = tuple(step for step in STEPS if (step.start, step.end) not in ((NIC, EVENT), (READ.start, READ.end)))
_CLIENT_SECONDS = 60.0

Int64s = npt.NDArray[np.int64]


def quantiles(durations: Int64s) -> Quantiles:
    """The quantiles of durations (ns)."""
    if not len(durations):
        return dict.fromkeys(QUANTILES, 0.0)
    values = np.quantile(durations, list(QUANTILES.values()), method="higher")
    return {name: float(value) for name, value in zip(QUANTILES, values, strict=True)}


def measure(
    contestant: Contestant, setup: Setup, sender: Process, sent: Int64s, url: str, transport: str, rate: float
) -> PacedRound:
    """Have `contestant` receive what `sender` sends at `url`, at `rate` messages per second.

    Args:
        contestant: the receiving side.
        setup: the shared setup.
        sender: the sender.
        sent: the sender's times, one per message.
        url: the sender's URL.
        transport: `tcp` or `tls`.
        rate: messages per second.

    Raises:
        ContestantError: it could not be measured.

    """
    if isinstance(contestant, Client):
        return _measure_client(contestant, setup, sent, url, transport, rate)
    return _measure_ours(contestant, setup, sender, sent, url, transport, rate)


def _measure_ours(
    ours: WsrecConfiguration, setup: Setup, sender: Process, sent: Int64s, url: str, transport: str, rate: float
) -> PacedRound:
    interval = min(_DRAIN_SECONDS, DEFAULT_SLOTS / 4 / rate)
    held = HeldPath()
    with receiving(ours, setup, url + held.path, transport) as receiver:
        receiver.connected(ours.tls if transport == "tls" else None)
        held.wait(sender)
        before = receiver.cpu()
        sender.send(GO)
        # as bytes: numpy leaves out what is unused between the fields of structs that it joins
        parts = [part.view(SLOT_BYTES) for part in receiver.messages(len(sent), interval)]
        slots = np.concatenate(parts).view(SLOT_DTYPE)[: len(sent)]
        cpu, user = receiver.cpu().since(before)
        sender.send(GO)
        receiver.stalls()
    warm = slice(int(len(sent) * _WARM_UP), None)
    # all on the monotonic clock; only differences are taken
    when = stamps(slots, np.zeros(len(slots), np.int64))

    def at(stage: Stage) -> Int64s:
        column: Int64s = getattr(when, stage.name.lower())
        return column[warm]

    steps = {step.key: at(step.end) - at(step.start) for step in _OWN}
    own = np.sum(list(steps.values()), axis=0)
    steps |= {"sent_to_event": at(EVENT) - sent[warm], READ.key: at(READ.end) - at(READ.start), "own": own}
    return PacedRound(
        one_way=quantiles((when.handoff - sent)[warm]),
        steps={key: quantiles(step) for key, step in steps.items()},
        cpu_ns=cpu / len(sent),
        user_ns=per_message(user, len(sent)),
        frames_a_read=len(slots) / reads_of(slots),
    )


def _measure_client(client: Client, setup: Setup, sent: Int64s, url: str, transport: str, rate: float) -> PacedRound:
    times = create_shared("wsrec-bench-times", sent.nbytes)
    try:
        job = ClientJob(
            name=client.name,
            measure=Measure.PACED,
            url=f"{url}/",
            ca_file=setup.ca(transport),
            cpu=setup.placement.receiver,
            rt_priority=setup.rt_priority,
            times=times,
        )
        with running("wsrec.bench.clients", job, setup.warn, (times,)) as process:
            measured = process.answer(Measured, len(sent) / rate + _CLIENT_SECONDS)
        received = times_of(times)
    finally:
        os.close(times)
    warm = slice(int(len(sent) * _WARM_UP), None)
    count = len(sent)
    return PacedRound(
        one_way=quantiles((received - sent)[warm]),
        cpu_ns=measured.cpu_ns / count,
        user_ns=per_message(measured.user_ns, count),
    )
