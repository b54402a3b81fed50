"""Recording end to end: from a saturating TLS sender to finished Parquet, every row compared with what was sent."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wsrec import parent_death
from wsrec.bench.client_job import ClientJob, Measure, Measured
from wsrec.bench.contestants import Client, Contestant
from wsrec.bench.paced import quantiles
from wsrec.bench.process import ContestantError, Process, running
from wsrec.bench.results import RecordingRound
from wsrec.bench.sender import Served
from wsrec.bench.setup import Setup
from wsrec.bench.tree_meter import TreeMeter, below
from wsrec.child_environment import child_environment
from wsrec.feed.load import find_feed
from wsrec.format.capture_file import CaptureFile
from wsrec.stages import HANDOFF, PARSED
from wsrec.supervise.outcome import ExitStatus

FEED = "binance-usdm"
_SYMBOLS, _CHANNELS = "BTCUSDT", "trade,bookTicker,depth@0ms"
# after the sender's end: the contents of rings and queues, and the last row group
_FINISH_SECONDS = 300.0
_GIVE_UP_SECONDS = 5.0
_COLUMNS = ("direction", "opcode", "text", "data", PARSED.column, HANDOFF.column, "frame_in_read")
_MESSAGES = {"direction": ["recv"], "opcode": ["text", "binary"]}

Int64s = npt.NDArray[np.int64]


def measure(
    contestant: Contestant, setup: Setup, sender: Process, url: str, seconds: float, pinned: Sequence[str]
) -> RecordingRound:
    """Have `contestant` record what `sender` sends at `url` for `seconds`.

    Args:
        contestant: wsrec or picows.
        setup: the shared setup.
        sender: the sender.
        url: its URL.
        seconds: how long it sends.
        pinned: processor and priority options of `wsrec record`.

    Raises:
        ContestantError: it could not be measured.

    """
    with tempfile.TemporaryDirectory(dir=setup.folder, prefix="out-", ignore_cleanup_errors=True) as folder:
        limit = seconds + _FINISH_SECONDS
        if isinstance(contestant, Client):
            return _measure_client(contestant, setup, sender, url, limit, Path(folder))
        return _measure_ours(setup, sender, url, limit, Path(folder), pinned, fields=contestant.fields)


def _measure_ours(
    setup: Setup, sender: Process, url: str, limit: float, folder: Path, pinned: Sequence[str], *, fields: bool
) -> RecordingRound:
    out = folder / "captures"
    target = [str(feed_file(folder, url)), "--symbols", _SYMBOLS, "--channels", _CHANNELS] if fields else [f"{url}/"]
    command = ["record", *target]
    command += ["--ca-file", setup.ca_file, "--until-close", "--out", str(out), "--json", "--quiet", *pinned]
    # settings come from the bench only, not from the user's environment
    with _recorder([sys.executable, "-P", "-m", "wsrec", *command], child_environment()) as recorder:
        meter = TreeMeter(recorder.pid)
        try:
            output, _ = recorder.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            raise ContestantError(f"wsrec record did not end in {limit:.0f} s") from None
        ended = time.time_ns()
        meter.stop()
    outcome: dict[str, Any] = msgspec.json.decode(output) if output else {}
    # the recording is repeated, so its sequence numbers have a gap at each start
    if recorder.returncode not in (ExitStatus.COMPLETE, ExitStatus.GAPS):
        raise ContestantError(outcome.get("error") or f"wsrec record ended with status {recorder.returncode}")
    sent = sender.answer(Served, _GIVE_UP_SECONDS).messages

    files = sorted((out / "messages").rglob("*.parquet"))
    check = Check(setup.messages, sent)
    parsed, handed, position = [], [], []
    for rows in _received(files):
        check.add(pc.coalesce(rows["text"].cast(pa.binary()), rows["data"]))
        parsed.append(_ns(rows[PARSED.column]))
        handed.append(_ns(rows[HANDOFF.column]))
        position.append(rows["frame_in_read"].to_numpy())
    handoff = _joined(handed)
    step, first = handoff - _joined(parsed), _joined(position) == 0
    return RecordingRound(
        messages=sent,
        rows=check.rows,
        identical=check.passed,
        handoff_ns=_span(handoff),
        finished_ns=ended - int(handoff[0]) if len(handoff) else 0,
        cpu_ns=meter.since(int(handoff[0])) if len(handoff) else 0,
        bytes_on_disk=sum(file.stat().st_size for file in files),
        stalls=outcome["stalls"],
        steps={"all": quantiles(step), "first": quantiles(step[first])},
    )


def _measure_client(
    client: Client, setup: Setup, sender: Process, url: str, limit: float, folder: Path
) -> RecordingRound:
    file = folder / "messages.parquet"
    job = ClientJob(name=client.name, measure=Measure.RECORDING, url=f"{url}/", ca_file=setup.ca_file, out=str(file))
    with running("wsrec.bench.clients", job, setup.warn) as process:
        measured = process.answer(Measured, limit)
        process.end(_GIVE_UP_SECONDS)
        ended = time.time_ns()
    sent = sender.answer(Served, _GIVE_UP_SECONDS).messages
    check, times = Check(setup.messages, sent), []
    parquet = pq.ParquetFile(file)
    for group in range(parquet.num_row_groups):
        rows = parquet.read_row_group(group)
        check.add(rows["payload"])
        times.append(_ns(rows["time"]))
    handoff = _joined(times)
    return RecordingRound(
        messages=sent,
        rows=check.rows,
        identical=check.passed,
        handoff_ns=_span(handoff),
        finished_ns=ended - int(handoff[0]) if len(handoff) else 0,
        cpu_ns=measured.cpu_ns,
        bytes_on_disk=file.stat().st_size,
    )


class Check:
    """Compares received payloads with the messages that were sent repeatedly.

    Args:
        messages: the messages: opcode and payload.
        sent: how many were sent in total.

    Attributes:
        rows: payloads received.

    """

    def __init__(self, messages: Sequence[tuple[Any, bytes]], sent: int) -> None:
        self.rows = 0
        self._sent = sent
        self._same = True
        self._lengths = np.array([len(payload) for _, payload in messages], np.int64)
        self._ends = np.concatenate([[0], np.cumsum(self._lengths)])
        self._data = np.frombuffer(b"".join(payload for _, payload in messages), np.uint8)

    @property
    def passed(self) -> bool:
        """True if exactly the sent messages were received, unchanged."""
        return self._same and self.rows == self._sent

    def add(self, payloads: pa.ChunkedArray) -> None:
        """Compare the next payloads."""
        array = payloads.cast(pa.large_binary()).combine_chunks()
        count, cycle = len(array), len(self._lengths)
        offsets = np.frombuffer(array.buffers()[1], np.int64, count + 1, array.offset * 8)
        data = np.frombuffer(array.buffers()[2] or b"", np.uint8)
        position = 0
        while position < count:
            start = self.rows % cycle
            stop = min(start + count - position, cycle)
            came = offsets[position : position + stop - start + 1]
            same_lengths = np.array_equal(np.diff(came), self._lengths[start:stop])
            expected = self._data[self._ends[start] : self._ends[stop]]
            self._same &= same_lengths and np.array_equal(data[came[0] : came[-1]], expected)
            position += stop - start
            self.rows += stop - start


def feed_file(folder: Path, url: str) -> Path:
    """The catalogue's feed with the sender's address, as a YAML file (JSON is valid YAML)."""
    config = find_feed(FEED).public_config()
    config["sockets"] = {name: {"url": f"{url}/stream"} for name in config["sockets"]}
    path = folder / f"{FEED}.yaml"
    path.write_bytes(msgspec.json.encode(config))
    return path


def _received(files: Sequence[Path]) -> Iterator[pa.Table]:
    """The rows of received messages, a part at a time, in order of hand-off."""
    for file in files:
        for rows in CaptureFile(file).batches(_COLUMNS, among=_MESSAGES):
            yield pa.table(rows)


@contextlib.contextmanager
def _recorder(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run `wsrec record`; if the context ends first, it is killed together with its children."""
    recorder = subprocess.Popen(  # noqa: S603 - our own command
        command, stdout=subprocess.PIPE, env=parent_death.with_parent_death(environment), start_new_session=True
    )
    try:
        yield recorder
    finally:
        started = below(recorder.pid)
        recorder.kill()
        recorder.wait()
        assert recorder.stdout is not None
        recorder.stdout.close()
        # they write into a folder that is about to be removed
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        while any(Path(f"/proc/{pid}").exists() for pid in started) and time.monotonic() < deadline:
            time.sleep(0.01)


def _ns(times: pa.ChunkedArray) -> Int64s:
    values: Int64s = times.cast(pa.int64()).to_numpy()
    return values


def _joined(parts: list[Any]) -> Int64s:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _span(times: Int64s) -> int:
    return int(times[-1] - times[0]) if len(times) else 0
