"""wsrec.supervise.outcome: the exit status and the summary."""

from __future__ import annotations

import msgspec
import pytest

from wsrec.ipc import FailedLine, SummaryLine
from wsrec.supervise.outcome import ExitStatus, Outcome, describe, exit_status

FAILED = FailedLine(message="no")


def summary(messages: int = 5, **more: int) -> SummaryLine:
    return SummaryLine(session="s", messages=messages, files=[], first_recv_time=None, last_recv_time=None, **more)


def outcome(**more: object) -> Outcome:
    counts = dict.fromkeys(("status", "elapsed_ns", "given_up", "reconnects", "stalls", "restarts"), 0)
    values = {
        "finished": True,
        "reason": "SIGINT",
        "error": None,
        "hint": None,
        "out": "o",
        "targets": ("t",),
        "sessions": ("s",),
    }
    times = {"first_recv_time": None, "last_recv_time": None, "files": ()}
    return Outcome(**{**counts, **values, **times, **more})


class TestExitStatus:
    @pytest.mark.parametrize(
        ("summaries", "failure", "status"),
        [
            ([summary()], None, ExitStatus.COMPLETE),
            ([summary(), summary(0)], None, ExitStatus.COMPLETE),
            ([summary(0)], None, ExitStatus.NOTHING),
            ([], None, ExitStatus.NOTHING),
            ([summary(0, control=3)], None, ExitStatus.NOTHING),
            ([summary(gaps=1)], None, ExitStatus.GAPS),
            ([summary(), summary(lost_intervals=1)], None, ExitStatus.GAPS),
            ([summary(refused=1)], None, ExitStatus.GAPS),
            ([summary()], FAILED, ExitStatus.FAILED),
            ([summary(gaps=1)], FAILED, ExitStatus.FAILED),
            ([], FAILED, ExitStatus.FAILED),
        ],
    )
    def test_table(self, summaries, failure, status):
        assert exit_status(summaries, failure) is status

    def test_the_numbers_are_the_designs(self):
        assert [int(status) for status in ExitStatus] == [0, 1, 2, 3, 4, 66, 74, 75]


class TestDescribe:
    def test_complete(self):
        files = ({"path": "messages/a.parquet"}, {"path": None})
        text = describe(
            outcome(
                messages=1234567,
                payload_bytes=5 << 20,
                elapsed_ns=10**10,
                first_recv_time=1_795_355_999_000_000_000,
                last_recv_time=1_795_356_009_000_000_000,
                files=files,
            )
        )
        assert "recorded 1,234,567 messages" in text
        assert "2026-11-22" in text
        assert "123,457 messages/s" in text
        assert "nothing known to be missing" in text
        assert "o/messages/a.parquet" in text
        assert text.endswith("ended: SIGINT; exit status 0")

    def test_what_is_missing_is_named(self):
        text = describe(outcome(status=4, messages=2, gaps=3, lost_intervals=1, refused=2, reconnects=1))
        assert "missing: 3 sequence gaps, 1 lost interval, 2 refused, unanswered or late subscriptions" in text
        assert "nothing known" not in text
        assert "1 reconnect," in text

    def test_what_was_not_finished_is_never_called_complete(self):
        text = describe(outcome(status=1, finished=False, error="the writer was killed by signal 9"))
        assert "nothing known" not in text
        assert "missing: unfinished files" in text

    def test_what_was_given_up_is_counted(self):
        text = describe(outcome(status=1, finished=False, given_up=5312, error="ended at once on a second SIGTERM"))
        assert "missing: 5,312 frames discarded on a second signal, unfinished files" in text

    def test_many_files_are_counted(self):
        files = tuple({"path": f"f{index}"} for index in range(8))
        text = describe(outcome(files=files))
        assert "f4" in text
        assert "f5" not in text
        assert "and 3 more files" in text

    def test_each_path_is_one_line_whatever_is_in_its_name(self):
        text = describe(outcome(out="a\nb\x1b[2J", files=({"path": "c.parquet"},)))
        assert "  a\\nb\\x1b[2J/c.parquet" in text.split("\n")

    def test_nothing_received(self):
        assert "recorded 0 messages" in describe(outcome(status=3))


def test_json_has_every_attribute():
    assert set(msgspec.json.decode(msgspec.json.encode(outcome()))) == set(Outcome.__struct_fields__)
