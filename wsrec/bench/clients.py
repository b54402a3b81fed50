"""The other clients, each in its own process on uvloop, doing only what is measured with the messages."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec
import uvloop
from websockets.asyncio.client import connect

import wsrec
from wsrec import ipc
from wsrec.bench.bare import bare_evp_paced, bare_evp_saturated, bare_saturated
from wsrec.bench.client_job import ClientJob, Measure, Measured, Meter, context_for, times_of
from wsrec.bench.contestants import BARE, BARE_EVP
from wsrec.host import privilege
from wsrec.units import system_error

ROW_GROUP = 1 << 16
_MAX_MESSAGE = 1 << 26


def _websockets(job: ClientJob) -> connect:
    return connect(job.url, ssl=context_for(job.ca_file), compression=None, max_size=None, ping_interval=None)


@contextlib.asynccontextmanager
async def _aiohttp(job: ClientJob) -> AsyncIterator[Any]:
    import aiohttp

    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(job.url, ssl=context_for(job.ca_file) or True, max_msg_size=0, compress=0) as client,
    ):
        yield client


async def websockets_saturated(job: ClientJob) -> Measured:
    """`websockets`: iterate over the messages."""
    async with _websockets(job) as client:
        await client.recv()
        meter = Meter()
        async for _ in client:
            pass
        return meter.read()


async def websockets_paced(job: ClientJob) -> Measured:
    """`websockets`: note each message's time."""
    times, now, index = times_of(job), time.monotonic_ns, 1
    async with _websockets(job) as client:
        await client.recv()
        times[0] = now()
        meter = Meter()
        async for _ in client:
            times[index] = now()
            index += 1
        return meter.read()


async def aiohttp_saturated(job: ClientJob) -> Measured:
    """`aiohttp`: iterate over the messages."""
    async with _aiohttp(job) as client:
        await client.receive()
        meter = Meter()
        async for _ in client:
            pass
        return meter.read()


async def aiohttp_paced(job: ClientJob) -> Measured:
    """`aiohttp`: note each message's time."""
    times, now, index = times_of(job), time.monotonic_ns, 1
    async with _aiohttp(job) as client:
        await client.receive()
        times[0] = now()
        meter = Meter()
        async for _ in client:
            times[index] = now()
            index += 1
        return meter.read()


async def connect_saturated(job: ClientJob) -> Measured:
    """`wsrec.connect`: a callback per message."""
    meter: Meter | None = None

    def on_message(message: wsrec.Message) -> None:
        nonlocal meter
        if meter is None:
            meter = Meter()

    connection = await wsrec.connect(job.url, on_message=on_message, ca_file=job.ca_file, max_message=_MAX_MESSAGE)
    await connection.wait_closed()
    assert meter is not None
    return meter.read()


async def connect_paced(job: ClientJob) -> Measured:
    """`wsrec.connect`: note each message's time, first thing in the callback."""
    times, now, index = times_of(job), time.monotonic_ns, 0
    meter: Meter | None = None

    def on_message(message: wsrec.Message) -> None:
        nonlocal index, meter
        times[index] = now()
        index += 1
        if meter is None:
            meter = Meter()

    connection = await wsrec.connect(job.url, on_message=on_message, ca_file=job.ca_file, max_message=_MAX_MESSAGE)
    await connection.wait_closed()
    assert meter is not None
    return meter.read()


async def picows_saturated(job: ClientJob) -> Measured:
    """`picows`: a callback per frame."""
    import picows

    class Listener(picows.WSListener):
        meter: Meter | None = None

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if self.meter is None:
                self.meter = Meter()
            elif frame.msg_type == picows.WSMsgType.CLOSE:
                done.set_result(self.meter.read())
                transport.disconnect()

    done: asyncio.Future[Measured] = asyncio.get_running_loop().create_future()
    await _picows(Listener, job)
    return await done


async def picows_paced(job: ClientJob) -> Measured:
    """`picows`: note each frame's time, first thing in the callback."""
    import picows

    times, now = times_of(job), time.monotonic_ns

    class Listener(picows.WSListener):
        index = 0
        meter: Meter | None = None

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            moment = now()
            if self.meter is None:
                self.meter = Meter()
            elif frame.msg_type == picows.WSMsgType.CLOSE:
                done.set_result(self.meter.read())
                transport.disconnect()
                return
            times[self.index] = moment
            self.index += 1

    done: asyncio.Future[Measured] = asyncio.get_running_loop().create_future()
    await _picows(Listener, job)
    return await done


async def picows_recording(job: ClientJob) -> Measured:
    """`picows` and pyarrow in one process: append payload and time, write a row group when it is full."""
    return await _picows_recording(job, {}, None)


async def picows_fields_recording(job: ClientJob) -> Measured:
    """The same with the fields that wsrec records: each message decoded by msgspec, one value appended per column."""
    import pyarrow as pa

    decode = msgspec.json.Decoder().decode

    def fields(payload: bytes) -> tuple[Any, ...]:
        message = decode(payload)
        data = message.get("data", message)
        time_ms, seq = data.get("E"), data.get("u", data.get("t"))
        return message.get("stream"), data.get("s"), None if time_ms is None else time_ms * 1_000_000, seq

    kinds = {
        "channel": pa.string(),
        "symbol": pa.string(),
        "exchange_time": pa.timestamp("ns"),
        "exchange_seq": pa.uint64(),
    }
    return await _picows_recording(job, kinds, fields)


async def _picows_recording(
    job: ClientJob, kinds: dict[str, Any], fields: Callable[[bytes], tuple[Any, ...]] | None
) -> Measured:
    import picows
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert job.out is not None
    schema = pa.schema([("time", pa.timestamp("ns")), ("payload", pa.binary()), *kinds.items()])
    writer = pq.ParquetWriter(job.out, schema, compression="zstd")

    class Listener(picows.WSListener):
        def __init__(self) -> None:
            self.begin()

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == picows.WSMsgType.CLOSE:
                self.flush()
                writer.close()
                done.set_result(meter.read())
                transport.disconnect()
                return
            payload = frame.get_payload_as_bytes()
            self.times.append(time.time_ns())
            self.payloads.append(payload)
            if fields is not None:
                for column, value in zip(self.fields, fields(payload), strict=True):
                    column.append(value)
            if len(self.payloads) == ROW_GROUP:
                self.flush()

        def begin(self) -> None:
            self.times: list[int] = []
            self.payloads: list[bytes] = []
            self.fields: list[list[Any]] = [[] for _ in kinds]

        def flush(self) -> None:
            values = (self.times, self.payloads, *self.fields)
            columns = [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=ROW_GROUP)
            self.begin()

    done: asyncio.Future[Measured] = asyncio.get_running_loop().create_future()
    meter = Meter()
    await _picows(Listener, job)
    return await done


async def _picows(listener: Any, job: ClientJob) -> None:
    import picows

    await picows.ws_connect(listener, job.url, ssl_context=context_for(job.ca_file), max_frame_size=_MAX_MESSAGE)


_CLIENTS: dict[tuple[str, Measure], Callable[[ClientJob], Coroutine[Any, Any, Measured]]] = {
    (BARE, Measure.SATURATED): bare_saturated,
    (BARE_EVP, Measure.SATURATED): bare_evp_saturated,
    (BARE_EVP, Measure.PACED): bare_evp_paced,
    ("wsrec-connect", Measure.SATURATED): connect_saturated,
    ("wsrec-connect", Measure.PACED): connect_paced,
    ("picows", Measure.SATURATED): picows_saturated,
    ("picows", Measure.PACED): picows_paced,
    ("picows", Measure.RECORDING): picows_recording,
    ("picows-fields", Measure.RECORDING): picows_fields_recording,
    ("aiohttp", Measure.SATURATED): aiohttp_saturated,
    ("aiohttp", Measure.PACED): aiohttp_paced,
    ("websockets", Measure.SATURATED): websockets_saturated,
    ("websockets", Measure.PACED): websockets_paced,
}


def main() -> None:
    """Run one client; the job is read from standard input."""
    ipc.report_to_parent(blocking=True)
    job = ipc.read_job(ClientJob)
    refusals = [
        privilege.pin(job.cpu) if job.cpu is not None else None,
        privilege.realtime(job.rt_priority) if job.rt_priority is not None else None,
    ]
    for refusal in refusals:
        if refusal is not None:
            ipc.warn(f"{refusal.what} was refused: {refusal.reason}", refusal.hint)
    try:
        measured = uvloop.run(_CLIENTS[job.name, job.measure](job))
    except OSError as error:
        ipc.emit(ipc.FailedLine(message=system_error(error)))
        return
    sys.stdout.buffer.write(msgspec.json.encode(measured) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
