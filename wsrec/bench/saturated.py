"""CPU time per message at full speed, in the receiving process.

The other clients measure themselves, from their first message to the close. wsrec's receiver is measured from outside:
the sender holds back the frames, and later its close, until the CPU time was read; meanwhile the receiver sleeps and
the figure is exact. So both measurements begin and end with the frames.
"""

from __future__ import annotations

import time

from wsrec.bench.client_job import ClientJob, Measure, Measured
from wsrec.bench.contestants import Client, Contestant, WsrecConfiguration
from wsrec.bench.process import Process, running
from wsrec.bench.receiver import reads_of, receiving
from wsrec.bench.results import SaturatedRound, per_message
from wsrec.bench.sender import GO, HeldPath
from wsrec.bench.setup import Setup
from wsrec.options.record import WaitStrategy

# polling the rings takes time from the sender if both share a processor (s)
_LOOK_SECONDS = 0.001
# until an idle receiver sleeps (s)
_REST_SECONDS = 0.02
_CLIENT_SECONDS = 600.0


def measure(
    contestant: Contestant, setup: Setup, sender: Process, url: str, transport: str, count: int
) -> SaturatedRound:
    """Have `contestant` receive `count` messages from `sender` at `url`.

    Raises:
        ContestantError: it could not be measured.

    """
    if isinstance(contestant, Client):
        return _measure_client(contestant, setup, url, transport, count)
    return _measure_ours(contestant, setup, sender, url, transport, count)


def _measure_ours(
    ours: WsrecConfiguration, setup: Setup, sender: Process, url: str, transport: str, count: int
) -> SaturatedRound:
    held = HeldPath()
    with receiving(ours, setup, url + held.path, transport) as receiver:
        receiver.connected(ours.tls if transport == "tls" else None)
        held.wait(sender)
        time.sleep(_REST_SECONDS)
        before = receiver.cpu()
        sender.send(GO)
        first = last = taken = reads = 0
        for slots in receiver.messages(count, _LOOK_SECONDS):
            first = first or int(slots["event"][0])
            last = int(slots["handoff"][-1])
            taken += len(slots)
            reads += reads_of(slots)
        if ours.wait is not WaitStrategy.SPIN:
            time.sleep(_REST_SECONDS)
        cpu, user = receiver.cpu().since(before)
        sender.send(GO)
        return SaturatedRound(
            cpu_ns=cpu / count,
            wall_ns=(last - first) / count,
            stalls=receiver.stalls(),
            user_ns=per_message(user, count),
            frames_a_read=taken / reads if reads else None,
        )


def _measure_client(client: Client, setup: Setup, url: str, transport: str, count: int) -> SaturatedRound:
    job = ClientJob(
        name=client.name,
        measure=Measure.SATURATED,
        url=f"{url}/",
        ca_file=setup.ca(transport),
        cpu=setup.placement.receiver,
        rt_priority=setup.rt_priority,
    )
    with running("wsrec.bench.clients", job, setup.warn) as process:
        measured = process.answer(Measured, _CLIENT_SECONDS)
    return SaturatedRound(
        measured.cpu_ns / count, measured.wall_ns / count, user_ns=per_message(measured.user_ns, count)
    )
