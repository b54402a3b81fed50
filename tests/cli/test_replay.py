"""`wsrec replay`, run as a process."""

import asyncio
import json
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from websockets.asyncio.client import connect

from wsrec.cli.replay import replay

COMMAND = [sys.executable, "-c", "from wsrec.cli.replay import replay; replay(prog_name='wsrec replay')"]


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"1.0: one\n2.0: two\n")
    return path


@pytest.fixture
def start():
    """Start the command; a process still running at the end is stopped."""
    processes = []

    def start(*arguments):
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def receive(url, **options):
    async def all_of_it():
        async with asyncio.timeout(60), connect(url, **options) as client:
            return [message async for message in client]

    return asyncio.run(all_of_it())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(start, recording, number):
    process = start(recording, "--speed", "max")
    line = process.stdout.readline()
    assert line.startswith(f"serving {recording} at ws://127.0.0.1:")
    assert receive(line.split()[-1]) == ["one", "two"]
    time.sleep(0.1)  # its log line comes after the close
    process.send_signal(number)
    output, log = process.communicate(timeout=120)
    assert (process.returncode, output) == (0, "")
    assert "client 1 done: 2 messages" in log
    assert "Traceback" not in log


def test_json_and_tls(start, recording):
    process = start(recording, "--speed", "1000", "--tls-self-signed", "--json")
    endpoint = json.loads(process.stdout.readline())
    assert endpoint["source"] == str(recording)
    context = ssl.create_default_context(cafile=endpoint["ca_file"])
    for host in ("127.0.0.1", "localhost"):
        assert receive(endpoint["url"].replace("127.0.0.1", host), ssl=context) == ["one", "two"]
    process.terminate()
    process.communicate(timeout=120)
    assert not Path(endpoint["ca_file"]).exists()


def test_damage_while_serving_ends_it_with_1(start, recording):
    recording.write_bytes(b"1.0: one\nwrong\n")
    process = start(recording, "--speed", "max")
    url = process.stdout.readline().split()[-1]
    with pytest.raises(Exception, match="1011"):
        receive(url)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"\nwsrec replay: {recording}:2: not of the form" in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "missing argument 'SOURCE...'"),
        ([__file__, "--speed", "0"], 2, "--speed: found '0', expected a positive number or max"),
        ([__file__, "--speed", "fast"], 2, "found 'fast', expected"),
        (["demo", "--speed", "2"], 2, "the pace of demo is --rate"),
        (["demo", __file__], 2, "demo is served alone"),
        ([__file__, "--rate", "5"], 2, "--rate and --seed are for demo"),
        ([__file__, "--ca-out", "y"], 2, "--ca-out needs --tls-self-signed"),
        (["/nonexistent"], 2, "found '/nonexistent', which does not exist"),
    ],
)
def test_wrong_usage(arguments, status, message):
    result = CliRunner().invoke(replay, arguments)
    assert result.exit_code == status
    assert message in result.output


def test_a_source_that_does_not_exist_is_wrong_usage():
    result = CliRunner().invoke(replay, ["/non\x1b[2Jexistent"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'/non\\x1b[2Jexistent', which does not exist" in result.stderr


def test_help():
    result = CliRunner().invoke(replay, ["-h"])
    assert result.exit_code == 0
    assert "wsrec replay demo --tls-self-signed" in result.output
