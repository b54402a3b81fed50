"""`wsrec record --segments`: stage 1 of each row is the arrival that libpcap has for its byte; the report says so."""

from __future__ import annotations

import itertools
import json

import pyarrow as pa
import pytest

from tests.conftest import messages_of
from tests.segments import libpcap
from tests.segments.bursts import send_bursts
from wsrec.options.record import TlsMode
from wsrec.receive import ktls
from wsrec.segments.capture import unavailable

pytestmark = pytest.mark.skipif(
    (refusal := unavailable()) is not None, reason=f"no segments can be captured here: {refusal and refusal.reason}"
)

# each has a segment of its own, and no other message has its length
ALONE = [1000 + 37 * number for number in range(8)]
BURSTS, BURST = 10, 20
# RFC 8446 5.2: header, content type and tag; the last two lie behind the content
OVERHEAD, TAIL = 22, 17


def bursts():
    async def handler(connection) -> None:
        await send_bursts(connection, ALONE, BURSTS, BURST)
        await connection.close()

    return handler


@pytest.mark.parametrize("tls", [None, *(mode for mode in TlsMode if mode is not TlsMode.AUTO)])
def test_each_row_has_the_arrival_of_its_own_segment(wsrec, exchange, ca_file, tmp_path, tls):
    if tls is TlsMode.KTLS and (refusal := ktls.unable()) is not None:
        pytest.skip(refusal.reason)
    server = exchange(bursts(), tls=tls is not None)
    port = int(server.url.split(":")[2].split("/")[0])
    file, out = tmp_path / "lo.pcap", tmp_path / "out"
    with libpcap.recording(file, "lo", f"tcp port {port}"):
        result = wsrec.run(
            *("record", server.url, "--segments", "--until-close", "--out", out, "--ca-file", ca_file),
            *(() if tls is None else ("--tls", tls.value)),
        )
    assert result.returncode == 0, result.stderr
    packets = list(libpcap.read(file))
    (local,) = {packet.target for packet in packets if packet.source == port}
    reference = libpcap.Reference(packets, local)
    overhead, tail = (0, 0) if tls is None else (OVERHEAD, TAIL)
    table = messages_of(out)
    rows = [row for row in table.to_pylist() if row["direction"] == "recv" and row["opcode"] == "text"]
    sizes = [4 + len(row["text"]) for row in rows]
    assert len(rows) == len(ALONE) + BURSTS * BURST
    # where the first message that is alone lies in the stream: its packet has its length
    lengths = {packet.length: packet for packet in packets if packet.target == local}
    first = lengths[sizes[0] + overhead]
    start = next(packet.sequence + 1 for packet in packets if packet.target == local and packet.flags & libpcap.SYN)
    ends = itertools.accumulate((size + overhead for size in sizes), initial=(first.sequence - start) & 0xFFFFFFFF)
    _, *ends = ends
    stage1, begun = (table[name].cast(pa.int64()).to_pylist() for name in ("nic_time", "first_segment_time"))
    by_row = {row["seq"]: times for row, times in zip(table.to_pylist(), zip(stage1, begun, strict=True), strict=True)}
    # a busy machine acknowledges late, and is sent some again: then it is not known which TCP took
    again = {byte for byte, arrived in reference.arrivals.items() if len(arrived) > 1}
    bounds = [(end - tail - size, end - 1) for end, size in zip(ends, sizes, strict=True)]
    certain = [number for number, bytes_of in enumerate(bounds) if again.isdisjoint(bytes_of)]
    rows, bounds = [rows[number] for number in certain], [bounds[number] for number in certain]
    assert len(rows) > BURST
    wanted = {last: by_row[row["seq"]][0] for (_, last), row in zip(bounds, rows, strict=True)}
    assert None not in wanted.values()
    assert reference.differences(wanted) == []
    firsts = {first: by_row[row["seq"]][1] for (first, _), row in zip(bounds, rows, strict=True)}
    assert reference.differences(firsts) == []
    assert {row["recv_source"] for row in rows} == {"segment"}
    assert {row["segment_order"] for row in rows} == {"in_order"}
    off = [row["nic_to_read_stamp"] for row in rows]
    if tls in (TlsMode.OPENSSL, TlsMode.KTLS):
        assert set(off) == {None}
    else:
        assert min(off) >= 0
        assert max(off) > 0
    (recording,) = json.loads(wsrec.run("report", out, "--json").stdout)["recordings"]
    assert recording["segments"]["rows"] >= len(rows)
    assert recording["segments"]["first_segment"]["count"] >= len(rows)
    assert wsrec.run("verify", out).returncode in (0, 4)
