"""Proxies for tests, on loopback: tinyproxy and microsocks if they are installed, and one with scripted answers.

The hosts behind them are named in a hosts file of their own, which nothing else on this machine uses.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

HOST = "exchange.behind-the-proxy.test"
"""A name that only the proxies can look up."""

USER, PASSWORD = "recorder", "pr0xy-S3CR3T"
_PIECE = 1 << 16


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@functools.cache
def own_hosts() -> tuple[str, ...] | None:
    """The beginning of a command that may change /etc/hosts for itself alone; None where that cannot be."""
    for command in (("unshare", "--mount"), ("unshare", "--map-root-user", "--mount")):
        with contextlib.suppress(OSError):
            if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
                return command
    return None


class RealProxy:
    """A proxy of another program, which wants `USER` and `PASSWORD` and knows where `HOST` is.

    Attributes:
        scheme, port: where it is.
    """

    scheme = ""
    program = ""

    def __init__(self, folder: Path) -> None:
        unshare = own_hosts()
        if shutil.which(self.program) is None or unshare is None:
            pytest.skip(f"{self.program} is not installed (apt-get install {self.program}), or no mount namespace here")
        self.port = free_port()
        self._log = folder / f"{self.program}-{self.port}.log"
        hosts = folder / "hosts"
        hosts.write_text(f"127.0.0.1 localhost {HOST}\n")
        script = 'mount --bind "$0" /etc/hosts && exec "$@"'
        self._command = [*unshare, "sh", "-c", script, str(hosts), *self.command(folder)]
        self._process: subprocess.Popen[bytes] | None = None

    def command(self, folder: Path) -> list[str]:
        raise NotImplementedError

    @property
    def public(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def url(self, password: str = PASSWORD) -> str:
        return f"{self.scheme}://{USER}:{password}@127.0.0.1:{self.port}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        raise AssertionError(f"{self.program} does not listen: {self.stated}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    @property
    def stated(self) -> str:
        """Its log, which has the name of every host that it was requested."""
        return self._log.read_text(errors="replace")


class Tinyproxy(RealProxy):
    """HTTP CONNECT."""

    scheme, program = "http", "tinyproxy"

    def command(self, folder: Path) -> list[str]:
        config = folder / "tinyproxy.conf"
        config.write_text(
            f"Port {self.port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 50\nLogLevel Connect\n"
            f"BasicAuth {USER} {PASSWORD}\n"
        )
        return ["tinyproxy", "-d", "-c", str(config)]


class Microsocks(RealProxy):
    """SOCKS5."""

    scheme, program = "socks5h", "microsocks"

    def command(self, folder: Path) -> list[str]:
        return ["microsocks", "-i", "127.0.0.1", "-p", str(self.port), "-u", USER, "-P", PASSWORD]


REAL = (Tinyproxy, Microsocks)


class ScriptedProxy:
    """An HTTP proxy in a thread of its own.

    Attributes:
        url: where it is.
        requested: the head of every request, with its decoded credentials appended.
        names: where hosts are.
        answer: what it answers to a request in place of a way through; None for that way. Where `%` is it waits 0.2 s.
    """

    def __init__(
        self, names: Mapping[str, str] | None = None, answer: Callable[[str], bytes | None] | None = None
    ) -> None:
        self.names = {HOST: "127.0.0.1", **(names or {})}
        self.answer = answer or (lambda head: None)
        self.requested: list[str] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def hosts(self) -> list[str]:
        """The hosts that it was requested."""
        return [head.split()[1].rpartition(":")[0] for head in self.requested]

    def stop(self) -> None:
        # a close alone does not wake who waits in accept
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """End every way through."""
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (piece := client.recv(_PIECE)):
                    return
                head += piece
            text = head.decode()
            token = text.partition("Basic ")[2].partition("\r\n")[0]
            self.requested.append(text + base64.b64decode(token).decode())
            answer = self.answer(text)
            if answer is not None:
                for nth, piece in enumerate(answer.split(b"%")):
                    time.sleep(0.2 if nth else 0)
                    client.sendall(piece)
                return
            host, _, port = text.split()[1].rpartition(":")
            with socket.create_connection((self.names.get(host, host), int(port))) as server:
                self._open.append(server)
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server)
                back.join(30)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    for sock in (source, target):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
