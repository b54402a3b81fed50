"""RFC 6455 and RFC 7692 conformance: the client side against the Autobahn|Testsuite.

An echo client on `wsrec.connect` is put through the suite's cases, once on the readable hot path and once on the
compiled one, and the suite's verdicts are printed by section. Its server needs Python 2.7: found as PYTHON27, on the
PATH or with pyenv; the suite is installed from PyPI into ~/.cache/wsrec-autobahn. Or use a server that runs already.

    scripts/autobahn                                  # all of it; sections 9, 12 and 13 take minutes
    scripts/autobahn --cases '1.*,6.*'                # some
    scripts/autobahn --core python
    scripts/autobahn --tls direct                     # over TLS, which ends before the suite's server
    scripts/autobahn --url ws://127.0.0.1:9001        # docker run -p 9001:9001 crossbario/autobahn-testsuite

Exit status: 0 all passed, 1 something failed, 2 there is no server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fnmatch
import functools
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
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import trustme

CORES = {"python": "1", "compiled": ""}
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsrec-autobahn"
# `wstest`, which would listen on every interface
WSTEST = """
import autobahntestsuite.fuzzing as fuzzing
from autobahntestsuite.wstest import run
listen = fuzzing.listenWS
fuzzing.listenWS = lambda factory, context: listen(factory, context, interface="127.0.0.1")
run()
"""
# longer than the longest case takes on a slow machine
CASE_TIMEOUT = 300
SECTIONS = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "close handshake",
    "9": "limits and performance",
    "10": "fragmentation of our own",
    "12": "compression",
    "13": "compression, other parameters",
}
_FRONT = "127.0.0.2"
NO_SERVER = 2
PASSED = ("OK", "INFORMATIONAL")


class NoServerError(Exception):
    """There is no suite to test against; the text says what would help."""


async def run_cases(url: str, agent: str, patterns: list[str], secure: dict[str, Any]) -> dict[str, str]:
    """Put this process's core through the cases and return each case's verdict."""
    verdicts: dict[str, str] = {}
    ask = functools.partial(asked, secure=secure)
    count = int(await ask(f"{url}/getCaseCount"))
    for number in range(1, count + 1):
        case = json.loads(await ask(f"{url}/getCaseInfo?case={number}"))["id"]
        if not any(fnmatch.fnmatchcase(case, pattern) for pattern in patterns):
            continue
        compressed = case.split(".")[0] in ("12", "13")
        await echo(f"{url}/runCase?case={number}&agent={quote(agent)}", compressed, secure)
        status = json.loads(await ask(f"{url}/getCaseStatus?case={number}&agent={quote(agent)}"))
        verdicts[case] = status["behavior"]
        if sys.stderr.isatty():
            print(f"\r{agent}: case {case} ({len(verdicts)}) ", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    await ask(f"{url}/updateReports?agent={quote(agent)}")
    return verdicts


async def asked(url: str, secure: dict[str, Any]) -> str:
    """The suite's one answer to a question; some have none."""
    import wsrec

    answers: list[str] = []
    # the suite is one thread, which may be at work on its reports
    async with wsrec.connect(
        url, on_message=lambda message: answers.append(message.text), open_timeout=CASE_TIMEOUT, **secure
    ) as connection:
        await connection.wait_closed()
    return answers[0] if answers else ""


async def echo(url: str, compressed: bool, secure: dict[str, Any]) -> None:
    """The client under test."""
    import wsrec

    def on_message(message: wsrec.Message) -> None:
        message.connection.send(message.text if message.is_text else message.data)

    # how a case ends is the suite's to judge
    with contextlib.suppress(wsrec.ConnectionClosed, TimeoutError):
        async with (
            asyncio.timeout(CASE_TIMEOUT),
            wsrec.connect(
                url,
                on_message=on_message,
                compression="deflate" if compressed else None,
                open_timeout=CASE_TIMEOUT,
                **secure,
            ) as connection,
        ):
            await connection.wait_closed()


def tested(url: str, core: str, cases: str, secure: list[str]) -> dict[str, str]:
    """Verdicts for one core, run in a separate process, since the core is selected at import.

    Raises:
        NoServerError: no server answers there.

    """
    options = ["--url", url, "--cases", cases, "--client", f"wsrec-{core}", *secure]
    command = [sys.executable, "-m", "tests.client.autobahn", *options]
    with tempfile.TemporaryFile("w+") as out:
        client = subprocess.run(command, env={**os.environ, "WSREC_PURE": CORES[core]}, stdout=out)
        if client.returncode == NO_SERVER:
            raise NoServerError(f"no server answers at {url}")
        client.check_returncode()
        out.seek(0)
        verdicts: dict[str, str] = json.load(out)
    return verdicts


@contextlib.contextmanager
def behind_tls(url: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """A TLS server in front of the suite's: its address, and the file of its CA."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # at the suite's own port, which it wants to find in the request
    host, _, port = url.removeprefix("ws://").rpartition(":")
    authority.issue_cert(_FRONT).configure_cert(context)
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    listening, loop = socket.create_server((_FRONT, int(port))), asyncio.new_event_loop()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            inner = await asyncio.open_connection(host, int(port))
            await asyncio.gather(passed_on(reader, inner[1]), passed_on(inner[0], writer))

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        # TLS has no end of one direction, so the end of one is that of both
        writer.close()

    def serve() -> None:
        loop.run_until_complete(asyncio.start_server(connected, sock=listening, ssl=context))
        loop.run_forever()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"wss://{_FRONT}:{port}", ca_file
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def table(results: dict[str, dict[str, str]]) -> str:
    """Passed, non-strict and failed cases by section and core."""
    lines = [f"{'':34}" + "".join(f"{core:>26}" for core in results)]
    lines.append(f"{'section':34}" + f"{'pass':>10}{'non-strict':>11}{'fail':>5}" * len(results))
    sections = sorted({case.split(".")[0] for verdicts in results.values() for case in verdicts}, key=int)
    for section in (*sections, ""):
        name = f"{section:>2} {SECTIONS.get(section, '')}" if section else "all"
        cells = ""
        for verdicts in results.values():
            found = Counter(
                verdict for case, verdict in verdicts.items() if case.split(".")[0] == section or not section
            )
            passed, lax = sum(found[word] for word in PASSED), found["NON-STRICT"]
            cells += f"{passed:10}{lax:11}{found.total() - passed - lax:5}"
        lines.append(f"{name:34}{cells}")
    return "\n".join(lines)


def failed(results: dict[str, dict[str, str]]) -> list[str]:
    """The cases that neither passed nor passed non-strictly, as text."""
    good = (*PASSED, "NON-STRICT")
    return [
        f"{core}: case {case}: {verdict}"
        for core, verdicts in results.items()
        for case, verdict in verdicts.items()
        if verdict not in good
    ]


@contextlib.contextmanager
def fuzzing_server(python: str | None, cases: list[str]) -> Iterator[str]:
    """Run `wstest -m fuzzingserver` with these cases on a free port of loopback."""
    python27 = install(python)
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"ws://127.0.0.1:{probe.getsockname()[1]}"
        probe.close()
        spec = Path(folder) / "spec.json"
        spec.write_text(json.dumps({"url": url, "outdir": folder, "cases": cases, "exclude-cases": []}))
        command = [python27, "-c", WSTEST, "-m", "fuzzingserver", "-s", str(spec), "--webport", "0"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT) as server:
            try:
                wait_for(url, server)
                yield url
            finally:
                server.terminate()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(address, 1):
            return
        time.sleep(0.05)
    raise NoServerError("wstest was installed and did not start; run it by hand and give --url")


def install(python: str | None) -> str:
    """The interpreter that has the suite, installed into the cache where it is not there yet."""
    environment = CACHE / "py27"
    installed = environment / "bin" / "python"
    if (environment / "bin" / "wstest").exists():
        return str(installed)
    python = python or python27()
    print(f"installing the Autobahn|Testsuite into {CACHE}", file=sys.stderr)
    tools = CACHE / "tools"
    try:
        # the last virtualenv that makes environments of Python 2.7
        quietly([*pip(), "install", "--quiet", "--upgrade", "--target", str(tools), "virtualenv==20.21.1"])
        virtualenv = [sys.executable, "-m", "virtualenv", "--quiet", "--python", python, "--setuptools", "44.1.1"]
        quietly([*virtualenv, str(environment)], PYTHONPATH=str(tools))
        quietly([str(environment / "bin" / "pip"), "install", "--quiet", "autobahntestsuite"])
    except subprocess.CalledProcessError as error:
        shutil.rmtree(environment, ignore_errors=True)
        last = "\n".join(error.output.strip().splitlines()[-5:])
        raise NoServerError(f"the suite could not be installed; run one elsewhere and give --url\n{last}") from error
    return str(installed)


def pip() -> list[str]:
    """A pip; an environment may lack one."""
    for python in (sys.executable, getattr(sys, "_base_executable", None), shutil.which("python3")):
        if python and subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0:
            return [python, "-m", "pip"]
    raise NoServerError("no pip here, which installs the suite: run one elsewhere and give --url")


def quietly(command: list[str], **environment: str) -> None:
    subprocess.run(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )


def python27() -> str:
    """A Python 2.7."""
    candidates = [os.environ.get("PYTHON27"), shutil.which("python2.7"), shutil.which("python2")]
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates += [str(path) for path in sorted(versions.glob("2.7.*/bin/python2.7"))]
    for candidate in candidates:
        # pyenv puts a python2.7 on the PATH that only says that there is none
        if candidate is None:
            continue
        version = subprocess.run([candidate, "--version"], capture_output=True, text=True)
        if (version.stdout + version.stderr).startswith("Python 2.7"):
            return candidate
    raise NoServerError(
        "no Python 2.7 here, which the suite needs: set PYTHON27, or run the suite elsewhere with --url"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a fuzzing server that runs already")
    parser.add_argument("--cases", default="*", help="which, with commas: '1.*,6.4.*'")
    parser.add_argument("--core", choices=CORES, action="append", help="test this one only")
    parser.add_argument("--python27", help="the interpreter to install the suite with")
    parser.add_argument("--json", type=Path, help="write every verdict there too")
    parser.add_argument("--tls", choices=("direct", "stamped", "openssl"), help="over TLS, decrypted so")
    parser.add_argument("--ca-file", help=argparse.SUPPRESS)
    parser.add_argument("--client", metavar="AGENT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        try:
            secure = {} if options.tls is None else {"tls": options.tls, "ca_file": options.ca_file}
            verdicts = asyncio.run(run_cases(options.url, options.client, options.cases.split(","), secure))
        except ConnectionRefusedError:
            return NO_SERVER
        json.dump(verdicts, sys.stdout)
        return 0
    try:
        server = fuzzing_server(options.python27, options.cases.split(","))
        with contextlib.ExitStack() as stack:
            url = options.url or stack.enter_context(server)
            secure = []
            if options.tls is not None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                url, ca_file = stack.enter_context(behind_tls(url, folder))
                secure = ["--tls", options.tls, "--ca-file", str(ca_file)]
            results = {core: tested(url, core, options.cases, secure) for core in options.core or CORES}
    except NoServerError as error:
        print(f"autobahn: {error}", file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    print(table(results))
    for line in (failures := failed(results)):
        print(line)
    return 1 if failures or not any(results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
