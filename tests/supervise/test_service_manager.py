"""wsrec.supervise.service_manager: what a recorder tells a real datagram socket, as systemd has it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervise.test_state_sampler import PLANS, Recorder
from wsrec.supervise.service_manager import ServiceManager, notify, watchdog_period
from wsrec.supervise.supervisor import REPLACED


class Manager:
    """A service manager's socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.settimeout(60)

    def until(self, line: str) -> list[str]:
        """The lines up to this one."""
        lines = list[str]()
        while not any(each.startswith(line) for each in lines):
            lines += self.socket.recv(1 << 16).decode().split("\n")
        return lines


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path: Path) -> Iterator[Manager]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@wsrec-test-{os.getpid()}-{tmp_path.name}"
    made = Manager(name)
    yield made
    made.socket.close()


class TestRecorder:
    @pytest.mark.parametrize("manager", ["path"], indirect=True)
    def test_from_its_start_to_its_end(self, recording, manager):
        environment = {**os.environ, "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"}
        work = recording(env=environment)
        before = manager.until("READY=1")
        assert not [line for line in before if line.startswith("STOPPING")]
        assert f"MAINPID={work.process.pid}" in before
        assert any("1/1 connected" in line for line in manager.until("STATUS=recording: "))
        assert manager.until("WATCHDOG=1")
        work.process.send_signal(signal.SIGTERM)
        manager.until("STOPPING=1")
        work.end(0)

    # the messages of each are tested below; `test_status.py` has a takeover in every run
    @pytest.mark.long
    @pytest.mark.parametrize("manager", ["path"], indirect=True)
    def test_in_a_takeover_the_new_one_is_the_main_process_before_the_old_one_ends(self, recording, wsrec, manager):
        environment = {**os.environ, "NOTIFY_SOCKET": manager.address}
        work = recording(env=environment)
        manager.until(f"MAINPID={work.process.pid}")
        new = wsrec.start("record", work.stream.server.url, "--out", work.out, "--takeover", env=environment)
        try:
            before = manager.until(f"MAINPID={new.pid}")
            assert "STOPPING=1" not in before
            work.end(0)
            new.send_signal(signal.SIGTERM)
            # only the new one says so, at its own end
            assert manager.until("STOPPING=1").count("STOPPING=1") == 1
        finally:
            new.communicate(timeout=60)
        assert new.returncode == 0


class TestMessages:
    def lines(self, recorder: Recorder, **environment: str) -> list[str]:
        sent = list[str]()
        manager = ServiceManager(
            recorder.sampler, {"NOTIFY_SOCKET": "/x", **environment}, lambda text, _: not sent.extend(text.split("\n"))
        )
        manager.inform()
        return sent

    def test_not_ready_before_a_connection_is_open(self, tmp_path):
        recorder = Recorder(tmp_path, PLANS)
        assert [line.partition("=")[0] for line in self.lines(recorder)] == ["STATUS"]
        recorder.page.receiver["connected"] = 1
        assert [line.partition("=")[0] for line in self.lines(recorder)] == ["READY", "MAINPID", "STATUS"]

    def test_an_exchange_that_is_down_holds_nothing_up(self, tmp_path, monkeypatch):
        monkeypatch.setattr("wsrec.supervise.service_manager._READY_AT_LATEST", 0.0)
        assert "READY=1" in self.lines(Recorder(tmp_path, PLANS))

    def test_no_sign_of_life_of_a_recorder_that_hangs(self, tmp_path):
        recorder = Recorder(tmp_path, PLANS)
        recorder.beat()
        assert "WATCHDOG=1" in self.lines(recorder, WATCHDOG_USEC="1000000")
        assert "WATCHDOG=1" not in self.lines(recorder)
        recorder.page.writer["heartbeat"] = 1
        assert "WATCHDOG=1" not in self.lines(recorder, WATCHDOG_USEC="1000000")

    def test_what_it_did_not_take_is_repeated(self, tmp_path):
        recorder, sent = Recorder(tmp_path, PLANS), list[str]()
        recorder.page.receiver["connected"] = 1
        manager = ServiceManager(
            recorder.sampler, {"NOTIFY_SOCKET": "/x"}, lambda text, _: len(sent.append(text) or sent) > 2
        )
        for _ in range(4):
            manager.inform()
        manager.end()
        assert [text.count("READY=1") for text in sent] == [1, 1, 1, 0]
        assert sent[3].endswith("STOPPING=1")

    def test_in_a_takeover(self, tmp_path):
        recorder, sent = Recorder(tmp_path, PLANS), list[str]()
        recorder.page.receiver["connected"] = 1
        new = ServiceManager(recorder.sampler, {"NOTIFY_SOCKET": "/x"}, lambda text, _: not sent.append(text))
        new.replace_main()
        assert sent == [f"READY=1\nMAINPID={os.getpid()}"]
        recorder.supervisor._stop(REPLACED)
        old = ServiceManager(recorder.sampler, {"NOTIFY_SOCKET": "/x"}, lambda text, _: not sent.append(text))
        old.inform()
        old.end()
        assert not [text for text in sent if "STOPPING" in text]

    def test_a_real_socket(self, manager):
        assert notify("READY=1\nSTATUS=x", manager.address)
        assert manager.until("READY=1") == ["READY=1", "STATUS=x"]

    def test_nothing_without_a_manager(self, tmp_path):
        assert self.lines(Recorder(tmp_path, PLANS), NOTIFY_SOCKET="") == []

    @pytest.mark.parametrize(
        ("environment", "expected"),
        [
            ({}, None),
            ({"WATCHDOG_USEC": "3000000"}, 1.5),
            ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
            ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
            ({"WATCHDOG_USEC": "x"}, None),
            ({"WATCHDOG_USEC": "0"}, None),
        ],
    )
    def test_the_watchdogs_period(self, environment, expected):
        assert watchdog_period(environment) == expected


def test_one_that_is_gone_is_no_failure():
    assert not notify("READY=1", "/none/there")
    assert not notify("READY=1", "@none-there")
