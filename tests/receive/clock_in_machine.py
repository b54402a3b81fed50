"""Record with two stage clocks while the system's clock is slewed and set: runs in the machine of `scripts/kernel-vm`.

A server sends a message and a ping, waits for the pong, and sends the next. So each message is alone in its segment,
and CLOCK_REALTIME brackets what the recorder did with it: the kernel's stamp of the segment (stage 1) is before stages
2 to 6, and the pong comes after stage 4. Meanwhile the clock is slewed by adjtimex, there and back, and then set an
hour back and an hour forward by `date -s`. test_machine.py holds the files against that.

The stage clock is CLOCK_MONOTONIC or the processor's counter, or each in a recorder of its own. The kernel does not
trust the counter of an emulated machine, whose processors are not read at one moment; it is the host's all the same.

Each recorder has two more servers, of TLS that the machine's kernel decrypts, in both versions: starting a recorder
takes longest here.

    clock_in_machine.py OUT CLOCK       what the tests run
    clock_in_machine.py OUT             both clocks, every rate

OUT holds `server.pem`, a certificate of localhost with its key, and `ca.pem`, who vouches for it.
"""

from __future__ import annotations

import base64
import ctypes
import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

CLOCKS = ("CLOCK_MONOTONIC", "TSC")
# by how many millionths the clock is slewed; up to 500 by its frequency, beyond that by its tick
RATES = (0, 10, 100, 500, 10_000, 100_000)
FEW_RATES = (0, 500, 100_000)
HOLD = 0.35
STEP_HOLD = 3.0
HOUR = 3600
TLS_VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
# what each server of TLS sends, and behind it one more message, in fragments
OVER_TLS = [f"{n:x}" * n for n in [*(n * 37 % 500 for n in range(15_000)), 16_384, 40_000, 300_000]]
IN_FRAGMENTS = ("frag", "men", "ted" * 9000)
ROTATE = "4s"
_TRUSTS_THE_COUNTER = """
import sys
if "wsrec.receive" in sys.orig_argv:
    from wsrec.host import clock
    clock.refusal = lambda: None
"""


class Timex(ctypes.Structure):
    """struct timex of adjtimex(2), where longs have 64 bits."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", ctypes.c_long * 2),
        ("tick", ctypes.c_long),
        ("rest", ctypes.c_long * 16),
    )


def slew(ppm: int) -> None:
    """Slew the system's clock by so many millionths."""
    adj_frequency, adj_tick = 0x2, 0x4000
    by_tick = ppm if abs(ppm) > 500 else 0
    timex = Timex(modes=adj_frequency | adj_tick, freq=(ppm - by_tick) << 16, tick=10_000 + by_tick // 100)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(ctypes.byref(timex)) < 0:
        raise OSError(ctypes.get_errno(), "adjtimex")


class Sender:
    """The server of one recorder.

    Attributes:
        stamps: when each message was sent and its pong was there, by its number (ns since the epoch).
        open: whether the recorder is connected.

    """

    def __init__(self) -> None:
        self.stamps: list[tuple[int, int]] = []
        self.open = threading.Event()
        self._done = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listening.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Close as an exchange does that has no more to say."""
        self._done.set()
        self._thread.join(20)

    def _run(self) -> None:
        sock, _ = self._listening.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _upgrade(sock)
        # what the recorder sends first of its own
        time.sleep(0.2)
        self.open.set()
        while not self._done.is_set():
            payload = b"%d" % len(self.stamps)
            frames = _frame(0x81, payload) + _frame(0x89, payload)
            sent = time.time_ns()
            sock.sendall(frames)
            self._await_pong(sock, payload)
            self.stamps.append((sent, time.time_ns()))
            time.sleep(0.0005)
        _close(sock)

    @staticmethod
    def _await_pong(sock: socket.socket, payload: bytes) -> None:
        while True:
            head = _exactly(sock, 6)
            mask, data = head[2:], _exactly(sock, head[1] & 0x7F)
            found = bytes(byte ^ mask[n % 4] for n, byte in enumerate(data))
            if head[0] == 0x8A and found == payload:
                return


class TlsSender:
    """A server that sends `OVER_TLS` and `IN_FRAGMENTS` over TLS, and closes."""

    def __init__(self, certificate: Path, version: ssl.TLSVersion) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = self._context.maximum_version = version
        self._context.load_cert_chain(certificate)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"wss://localhost:{self._listening.getsockname()[1]}/"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        sock, _ = self._listening.accept()
        with self._context.wrap_socket(sock, server_side=True) as wrapped:
            _upgrade(wrapped)
            for message in OVER_TLS:
                wrapped.sendall(_frame(0x81, message.encode()))
            for opcode, part in zip((0x01, 0x00, 0x80), IN_FRAGMENTS, strict=True):
                wrapped.sendall(_frame(opcode, part.encode()))
            _close(wrapped)


def _upgrade(sock: socket.socket) -> None:
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += sock.recv(4096)
    (key,) = [line.split(b": ")[1] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    sock.sendall(upgrade + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    return (
        bytes((first, 126)) + size.to_bytes(2) + payload
        if size < 1 << 16
        else bytes((first, 127)) + size.to_bytes(8) + payload
    )


def _close(sock: socket.socket) -> None:
    sock.sendall(_frame(0x88, b"\x03\xe8"))
    with suppress(OSError):
        while sock.recv(4096):
            pass
    sock.close()


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError("the recorder hung up")
        data += more
    return data


def record(clock: str, urls: list[str], out: Path, trusting: Path, ca_file: Path) -> subprocess.Popen[str]:
    """Start a recorder with this stage clock."""
    environment = dict(os.environ)
    if clock == "TSC":
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(trusting), os.environ.get("PYTHONPATH"))))
    command = [
        sys.executable,
        "-P",
        "-m",
        "wsrec",
        "record",
        *urls,
        "--tls",
        "ktls",
        "--ca-file",
        str(ca_file),
        "--until-close",
        "--rotate",
        ROTATE,
        "--out",
        str(out),
    ]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def main(out: Path, *chosen: str) -> None:
    machine = Path("/proc/cmdline").read_text(), Path("/run/vm").is_dir()
    if "panic=-1" not in machine[0] or not machine[1]:
        sys.exit("this sets the system's clock: run it in the machine of scripts/kernel-vm")
    folder = Path(tempfile.mkdtemp())
    (folder / "sitecustomize.py").write_text(_TRUSTS_THE_COUNTER)
    senders = {clock: Sender() for clock in chosen or CLOCKS}
    recorders = {}
    for clock, sender in senders.items():
        over_tls = [TlsSender(out / "server.pem", version).url for version in TLS_VERSIONS]
        urls = [sender.url, *over_tls]
        recorders[clock] = record(clock, urls, folder / clock, folder, out / "ca.pem")
    for sender in senders.values():
        deadline = time.monotonic() + 400
        while not sender.open.wait(1):
            ended = next((each for each in recorders.values() if each.poll() is not None), None)
            if ended is not None:
                sys.exit(f"a recorder ended: {ended.communicate()}")
            if time.monotonic() > deadline:
                sys.exit("a recorder does not connect")
    deadline = time.monotonic() + 400
    while not all(list((folder / clock).glob("messages/**/*.parquet")) for clock in senders):
        # the writer is there, which takes long here, and has finished a file
        if time.monotonic() > deadline:
            sys.exit("a recorder finishes no file")
        time.sleep(0.1)
    begun: list[tuple[str, dict[str, int]]] = []

    def phase(name: str) -> None:
        begun.append((name, {clock: len(sender.stamps) for clock, sender in senders.items()}))

    phase("settling")
    time.sleep(1)
    for ppm in FEW_RATES if chosen else RATES:
        phase(f"{ppm} ppm")
        for rate in (ppm, -ppm, ppm, 0):
            slew(rate)
            time.sleep(HOLD)
        # the counter takes back half of what it is off with each anchor
        time.sleep(HOLD)
    for hours in (-1, 1):
        phase(f"{hours:+} h")
        subprocess.run(["date", "-s", f"@{time.time() + hours * HOUR:.6f}"], check=True, stdout=subprocess.DEVNULL)
        time.sleep(STEP_HOLD)
    for sender in senders.values():
        sender.end()
    for clock, recorder in recorders.items():
        stated, reported = recorder.communicate(timeout=400)
        shutil.copytree(folder / clock, out / clock)
        about = {"status": recorder.returncode, "result": stated, "output": reported, "stamps": senders[clock].stamps}
        phases = [(name, first[clock]) for name, first in begun]
        (out / f"{clock}.json").write_text(json.dumps({**about, "phases": phases}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
