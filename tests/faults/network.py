"""Faults of the network itself, against a real recorder: namespaces of this machine's kernel, with two paths between.

scripts/faults --network            a table
scripts/faults --network --json     the same for programs
scripts/faults --network one-path   only these

The recorder is in one namespace, and the exchange in another: its name has two addresses, each on a link of its own. On
a third link are the name server (dnsmasq) and a SOCKS5 proxy (microsocks). Needs root, iproute2, dnsmasq, microsocks;
loss, reordering and delay need a kernel with netem (`scripts/kernel-vm -- COMMAND` has one).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import trustme

from tests.faults.exchange import FaultyExchange
from tests.faults.matrix import FEED, SLACK_NS, Found, end, look, table, until

NAME = "stream.exchange.test"
# the links, by the third number of their addresses: the recorder is .2 on each, and the other end .1
PATHS = {"one": 0, "other": 1}
SERVICES = 2
PROXY_PORT = 1080
_NEEDED = ("ip", "dnsmasq", "microsocks", "unshare")
# no host has this hardware address: packets to it are silently dropped
_NOBODY = "02:00:00:00:00:99"
# an emulated machine is slow
_DEADLINE = 120.0


def unable() -> str:
    """Why there can be no such network here; empty where there can."""
    if os.geteuid():
        return "network namespaces need root"
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    return f"{', '.join(missing)} is not installed" if missing else ""


class Network:
    """The two namespaces, the links between them, and who serves in the second one.

    Args:
        folder: for its files.
        ca_file: where the certificate of who vouches for the exchange is to be written.

    """

    def __init__(self, folder: Path, ca_file: Path) -> None:
        self._folder = folder
        self._ca_file = ca_file
        self._here, self._there = (f"wsrec-{os.getpid()}-{who}" for who in ("recorder", "exchange"))
        self._services: dict[str, subprocess.Popen[str]] = {}
        self.exchange: subprocess.Popen[str]
        self.port = 0

    def __enter__(self) -> Network:
        for space in (self._here, self._there):
            _run("ip", "netns", "add", space)
            _run("ip", "-n", space, "link", "set", "lo", "up")
        for number in (*PATHS.values(), SERVICES):
            _run(
                *("ip", "-n", self._here, "link", "add", f"path{number}", "type", "veth"),
                *("peer", "name", f"path{number}", "netns", self._there),
            )
            for space, last in ((self._here, 2), (self._there, 1)):
                _run("ip", "-n", space, "address", "add", f"10.77.{number}.{last}/24", "dev", f"path{number}")
                _run("ip", "-n", space, "link", "set", f"path{number}", "up")
        hosts = self._folder / "hosts"
        hosts.write_text("".join(f"10.77.{number}.1 {NAME}\n" for number in PATHS.values()))
        (self._folder / "resolv.conf").write_text(f"nameserver 10.77.{SERVICES}.1\noptions timeout:30 attempts:3\n")
        (self._folder / "hosts-here").write_text("127.0.0.1 localhost\n")
        self.start_names()
        self.start_proxy()
        self.exchange = self._start(sys.executable, "-m", "tests.faults.network", "--exchange", str(self._ca_file))
        assert self.exchange.stdout is not None
        self.port = int(self.exchange.stdout.readline())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (*self._services.values(), self.exchange):
            process.kill()
            process.communicate()
        for space in (self._here, self._there):
            _run("ip", "netns", "delete", space)

    def record(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a recorder in the first namespace."""
        recorder = ["ip", "netns", "exec", self._here, "unshare", "-m", "sh", "-c"]
        # the proxy's end has the names too
        script = 'mount --bind "$1/resolv.conf" /etc/resolv.conf; mount --bind "$1/hosts-here" /etc/hosts; '
        script += 'shift; exec "$@"'
        command = [sys.executable, "-P", "-m", "wsrec", "record", *arguments]
        return subprocess.Popen(
            [*recorder, script, "sh", str(self._folder), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, word: str) -> str:
        """Have the exchange do something, and what it says."""
        assert self.exchange.stdin is not None
        assert self.exchange.stdout is not None
        self.exchange.stdin.write(f"{word}\n")
        self.exchange.stdin.flush()
        return self.exchange.stdout.readline()

    @property
    def clients(self) -> int:
        """How often a client was accepted."""
        return int(self.ask("clients"))

    # the faults

    def cut(self, *numbers: int) -> None:
        """Drop everything on these links, in both directions, without a word."""
        for number in numbers:
            for space, last in ((self._here, 1), (self._there, 2)):
                neighbour = ("neighbour", "replace", f"10.77.{number}.{last}", "lladdr", _NOBODY)
                _run("ip", "-n", space, *neighbour, "nud", "permanent", "dev", f"path{number}")

    def mend(self, *numbers: int) -> None:
        """Undo `cut`."""
        for number in numbers:
            for space, last in ((self._here, 1), (self._there, 2)):
                _run("ip", "-n", space, "neighbour", "delete", f"10.77.{number}.{last}", "dev", f"path{number}")

    def disturb(self, *how: str) -> None:
        """Have netem treat what is sent on both paths, in both directions."""
        for number in PATHS.values():
            for space in (self._here, self._there):
                _run("ip", "netns", "exec", space, "tc", "qdisc", "add", "dev", f"path{number}", "root", "netem", *how)

    def start_names(self) -> None:
        """Start the name server."""
        listen = [f"--listen-address=10.77.{SERVICES}.1", "--bind-interfaces", "--port=53", "--no-round-robin"]
        names = ["--no-resolv", "--no-hosts", f"--addn-hosts={self._folder / 'hosts'}", "--local=/test/"]
        quiet = ["--conf-file=/dev/null", "--pid-file=", "--log-facility=-", "--user=root", "--keep-in-foreground"]
        self._services["names"] = self._start("dnsmasq", *listen, *names, *quiet)

    def start_proxy(self) -> None:
        """Start the proxy, which finds the exchange on its own side."""
        proxy = f'mount --bind "{self._folder}/hosts" /etc/hosts; exec microsocks -i 10.77.{SERVICES}.1 -p {PROXY_PORT}'
        self._services["proxy"] = self._start("unshare", "-m", "sh", "-c", proxy)

    def hang(self, service: str) -> None:
        """Let a service take no turn any more: what is sent to it gets no answer, and no refusal either."""
        self._services[service].send_signal(signal.SIGSTOP)

    def kill(self, service: str) -> None:
        """Kill a service: what is sent to it is refused."""
        self._services[service].kill()
        self._services[service].communicate()

    def _start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["ip", "netns", "exec", self._there, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


class NetworkFault(NamedTuple):
    """One fault.

    Attributes:
        begin: what happens.
        mend: what ends it; None where it stays.
        lasts: seconds until then.
        from_start: whether it is there before the recorder.
        opened: connections that are made because of it.
        proxied: whether the recorder goes through the proxy.
        ends_in_it: whether the recorder is stopped while nothing works.
        netem: whether it needs that.

    """

    begin: Callable[[Network], None]
    mend: Callable[[Network], None] | None = None
    lasts: float = 4.0
    from_start: bool = False
    opened: int = 1
    proxied: bool = False
    ends_in_it: bool = False
    netem: bool = False


def _without_names(network: Network) -> None:
    network.hang("names")
    network.ask("close")


def _without_proxy(network: Network) -> None:
    network.kill("proxy")


def _cut_all(network: Network) -> None:
    network.cut(*PATHS.values())


def _mend_all(network: Network) -> None:
    network.mend(*PATHS.values())


ONE = PATHS["one"]
FAULTS = {
    "one-path": NetworkFault(lambda net: net.cut(ONE)),
    "one-path-at-start": NetworkFault(lambda net: net.cut(ONE), from_start=True, opened=0),
    "both-paths": NetworkFault(_cut_all, _mend_all, lasts=6.0),
    "names-hang": NetworkFault(_without_names),
    "proxy-killed": NetworkFault(_without_proxy, Network.start_proxy, proxied=True),
    "proxy-path": NetworkFault(lambda net: net.cut(SERVICES), lambda net: net.mend(SERVICES), proxied=True),
    "end-without-paths": NetworkFault(_cut_all, ends_in_it=True, opened=0),
    "end-without-names": NetworkFault(lambda net: net.hang("names"), from_start=True, ends_in_it=True, opened=0),
    "end-without-proxy": NetworkFault(_without_proxy, proxied=True, ends_in_it=True, opened=0),
    "end-of-proxy-path": NetworkFault(lambda net: net.cut(SERVICES), proxied=True, ends_in_it=True, opened=0),
    "loss-1": NetworkFault(lambda net: net.disturb("loss", "1%"), opened=0, lasts=10.0, netem=True),
    "reorder": NetworkFault(
        lambda net: net.disturb("delay", "10ms", "reorder", "25%", "50%"), opened=0, lasts=10.0, netem=True
    ),
    "delay-200": NetworkFault(lambda net: net.disturb("delay", "200ms"), opened=0, lasts=10.0, netem=True),
}


def run(name: str, folder: Path) -> Found:
    """Record through a network of its own, have the fault happen, and read the files."""
    fault, out, ca_file = FAULTS[name], folder / "out", folder / "ca.pem"
    with Network(folder, ca_file) as network:
        feed = folder / "faulty.yaml"
        # two ways there and back, of 200 ms each, are no silence
        url = f"wss://{NAME}:{network.port}/stream"
        feed.write_text(FEED.format(url=url, limits="", idle_timeout="", ping_seconds=1.0))
        happened = time.time_ns()
        if fault.from_start:
            fault.begin(network)
        through = ("--proxy", f"socks5h://10.77.{SERVICES}.1:{PROXY_PORT}") if fault.proxied else ()
        process = network.record(str(feed), "--out", str(out), "--ca-file", str(ca_file), *through)
        try:
            never = fault.from_start and fault.ends_in_it
            until(lambda: any(out.glob(".wsrec/*/journal-*")) if never else network.clients > 0, process, _DEADLINE)
            time.sleep(1.0)
            clients = network.clients
            if not fault.from_start:
                fault.begin(network)
            if not fault.from_start or never:
                happened = time.time_ns()
            if fault.mend is not None or fault.netem or fault.ends_in_it:
                time.sleep(fault.lasts)
            if fault.mend is not None:
                fault.mend(network)
            until(lambda: network.clients >= clients + fault.opened, process, _DEADLINE)
            if not fault.ends_in_it:
                time.sleep(2.0)
            due_until = time.time_ns() - SLACK_NS
            end_ms = end(process, signal.SIGTERM, 120.0)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        sent_at = json.loads(network.ask("end"))
        due = due_until if fault.ends_in_it else 0
        return look(name, out, happened, sent_at, process.returncode, end_ms, due_until=due)


def serve(ca_file: Path) -> None:
    """Be the exchange; its orders come on standard input, a word a line, each answered by a line."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca_file))
    with FaultyExchange(authority, host="0.0.0.0", name=NAME) as exchange:
        print(exchange.url.rpartition(":")[2].partition("/")[0], flush=True)
        for line in sys.stdin:
            match line.strip():
                case "clients":
                    print(len(exchange.clients), flush=True)
                case "close":
                    print(exchange.inject(FaultyExchange.close), flush=True)
                case "end":
                    print(json.dumps(exchange.sent_at), flush=True)


def main(arguments: list[str]) -> None:
    """Run the faults that were named, or all that can be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("fault", nargs="*", help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--json", action="store_true", help="one JSON object a fault")
    parser.add_argument("--netem", action="store_true", help="of those not named, only those that need netem")
    options = parser.parse_args(arguments)
    if unknown := set(options.fault) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    if why := unable():
        parser.error(why)

    def each() -> Iterator[Found]:
        for name in options.fault or [name for name, fault in FAULTS.items() if fault.netem == options.netem]:
            with tempfile.TemporaryDirectory() as folder:
                yield run(name, Path(folder))

    lines = (json.dumps(row._asdict()) for row in each()) if options.json else table(each())
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--exchange"]:
        serve(Path(sys.argv[2]))
    else:
        main(sys.argv[1:])
