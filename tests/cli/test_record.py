"""`wsrec record`, run as a user runs it."""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
import os
import pty
import re
import stat
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.conftest import Wsrec, events_of, messages_of, received
from tests.exchange import Exchange, sends
from wsrec.cli.main import main
from wsrec.format import manifest

SECRET = "hunter2SECRET"
CPU = str(min(os.sched_getaffinity(0)))
TWO = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))


def ok(result, status=0):
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    return result


def refused(result, status, *words):
    """One line that names the trouble and its hint; nothing on standard output."""
    ok(result, status)
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr, result.stderr
    return result


async def wait(connection):
    await connection.wait_closed()


async def every_10_ms(connection):
    while True:
        await connection.send("x")
        await asyncio.sleep(0.01)


class TestWrongUsage:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["binanse"], ["no feed 'binanse'", "did you mean `binance`", "wsrec feeds list"]),
            (["bitmex"], ["bitmex closed on 2026-09-23: "]),
            (["https://h/p"], ["begins with ws:// or wss://"]),
            (["binance", "--symbols", "BTC$"], ["BTC$"]),
            (
                ["binance", "--channels", "tradez"],
                ["no channel 'tradez'", "`trades`", "wsrec feeds show binance"],
            ),
            (["binance", "--symbols", ""], ["--symbols", "it is empty", "omit the option"]),
            (["binance", "--channels", ","], ["--channels", "it is empty"]),
            (["binance", "--subscribe", "{}"], ["--subscribe: binance makes its own", "--symbols"]),
            (["ws://h/p", "--symbols", "BTC"], ["--symbols", "bare URL", "--subscribe"]),
            (["ws://h/p", "--ca-file", "/nonexistent.pem"], ["/nonexistent.pem", "does not exist"]),
            (["ws://h/p", "--duration", "0"], ["omit the option"]),
            (["ws://h/p", "--duration", "abc"], ["found 'abc', expected 30s"]),
            (["ws://h/p", "--duration", "1s", "--until", "17:30"], ["found it beside"]),
            (["ws://h/p", "--until", "2020-01-01"], ["has passed"]),
            (["ws://h/p", "--cpu", "99999"], ["--cpu: found 99999", "not a processor"]),
            (
                ["ws://h/p", "--cpu", CPU, "--writer-cpu", CPU, "--wait", "spin"],
                ["where a receiver spins", "another"],
            ),
            (
                ["ws://h/p", "--cpu", CPU, "--writer-cpu", CPU, "--wait", "adaptive"],
                ["where a receiver spins", "another"],
            ),
            (["ws://h/p", "--cpu", "x"], ["'x'", "2,3"]),
            (
                ["ws://h/p", "--writer-cpu", TWO],
                ["--writer-cpu: found 2 processors beside one receiver", "expected one"],
            ),
            (["ws://h/p", "--ring-size", "1000"], ["power of two of at least 64KiB", "8MiB"]),
            (["ws://h/p", "--ring-size", "4096"], ["power of two of at least 64KiB", "8MiB"]),
            (["ws://h/p", "--ring-size", "large"], ["found 'large', expected auto, 8MiB"]),
            (["ws://h/p", "ws://h/p"], ["ws://h/*** is given twice", "a=URL b=URL"]),
            (["a=ws://h/p", "a=ws://h/q"], ["both named a", "--out"]),
            (["demo", "binance"], ["record it alone"]),
            ([], ["missing argument 'TARGET...'"]),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_it_is_reported_and_nothing_is_created(self, tmp_path, arguments, words):
        result = CliRunner().invoke(main, ["record", *arguments, "--out", str(tmp_path / "out")])
        assert (result.exit_code, result.stdout) == (2, "")
        assert isinstance(result.exception, SystemExit)
        for word in words:
            assert word in result.stderr
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("arguments", "status", "word"),
        [
            (["binanse"], 2, "did you mean `binance`"),
            (["ws://h/p", "--duration", "1s", "--until", "2100-01-01"], 2, "found it beside"),
            (["ws://h/p", "--out", "/proc/wsrec"], 1, "expected a folder"),
            (["ws://h/p", "--out", "/proc/wsrec\udcff"], 2, "UTF-8"),
        ],
        ids=["config", "usage", "output", "name"],
    )
    def test_json_is_one_object_on_stdout_too(self, tmp_path, arguments, status, word):
        arguments = ["record", "--out", str(tmp_path / "out"), *arguments]
        result = CliRunner().invoke(main, [*arguments, "--json"])
        stated = json.loads(result.stdout)
        assert result.stdout.count("\n") == 1
        assert (result.exit_code, stated["status"], set(stated)) == (status, status, {"status", "error"})
        assert word in stated["error"]
        assert result.stderr == CliRunner().invoke(main, arguments).stderr == f"wsrec record: {stated['error']}\n"

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            (["ws://h/p", "--nonsense"], "no such option"),
            (["ws://h/p", "--until", "25:00"], "expected 17:30"),
            ([], "TARGET"),
        ],
        ids=["option", "time", "target"],
    )
    def test_json_of_what_click_refuses(self, arguments, word):
        result = CliRunner().invoke(main, ["record", *arguments, "--json"])
        stated = json.loads(result.stdout)
        assert (result.exit_code, stated["status"], set(stated)) == (2, 2, {"status", "error"})
        assert word in stated["error"]
        assert word in result.stderr

    def test_json_holds_every_mistake_of_a_yaml(self, tmp_path):
        path = tmp_path / "mine.yaml"
        path.write_text("name: X Y\ndescription: 5\nsockets: {}\n")
        result = CliRunner().invoke(main, ["record", str(path), "--out", str(tmp_path / "out"), "--json"])
        lines = json.loads(result.stdout)["error"].split("\n")
        assert len(lines) == 3
        assert result.stderr.splitlines() == [f"wsrec record: {line}" for line in lines]

    def test_a_bad_yaml_is_reported_with_file_and_line(self, wsrec, tmp_path):
        path = tmp_path / "mine.yaml"
        path.write_text("name: mine\ndescription: x\nsockets:\n  main: {url: 5}\n")
        result = refused(wsrec.run("record", path, "--out", tmp_path / "out"), 2)
        assert f"{path}:4:" in result.stderr


class TestUnreachable:
    def test_refused_port(self, wsrec, refusing_port, tmp_path):
        port = refusing_port
        result = ok(wsrec.run("record", f"ws://127.0.0.1:{port}/", "--duration", "1s", "--out", tmp_path, "-q"), 1)
        assert f"127.0.0.1:{port} refused the connection" in result.stderr
        assert "start the server, or check the port" in result.stderr
        assert result.stdout == ""

    def test_a_name_that_does_not_exist(self, wsrec, tmp_path):
        result = ok(wsrec.run("record", "ws://nowhere.invalid/", "--duration", "1s", "--out", tmp_path, "-q"), 1)
        assert "cannot resolve 'nowhere.invalid'" in result.stderr
        assert "spelling" in result.stderr

    def test_a_certificate_of_an_unknown_ca_is_not_tried_again(self, wsrec, exchange, tmp_path):
        result = ok(wsrec.run("record", exchange(wait, tls=True).url, "--out", tmp_path), 1)
        assert "certificate not verified" in result.stderr
        assert "--ca-file" in result.stderr

    @pytest.mark.long
    def test_a_certificate_of_another_host(self, wsrec, authority, ca_file, tmp_path):
        class Elsewhere:
            def issue_cert(self, *_):
                return authority.issue_cert("elsewhere.example")

        server = Exchange(wait, authority=Elsewhere())
        server.start()
        try:
            result = ok(wsrec.run("record", server.url, "--ca-file", ca_file, "--out", tmp_path), 1)
        finally:
            server.stop()
        assert "certificate not verified" in result.stderr
        assert "localhost" in result.stderr

    def test_403_is_reported_with_the_servers_text_and_not_retried(self, wsrec, exchange, tmp_path):
        def no(connection, request):
            return connection.respond(http.HTTPStatus.FORBIDDEN, "not in your country\n")

        server = exchange(wait, process_request=no)
        result = ok(wsrec.run("record", server.url, "--out", tmp_path), 1)
        assert "403" in result.stderr
        assert "not in your country" in result.stderr
        assert "the server on this machine refuses it" in result.stderr

    @pytest.mark.long
    def test_503_is_tried_again(self, wsrec, exchange, tmp_path):
        requested = []

        def later(connection, request):
            requested.append(request)
            if len(requested) == 1:
                return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "in a minute\n")
            return None

        server = exchange(sends(["at last"]), process_request=later)
        result = ok(wsrec.run("record", server.url, "--until-close", "--out", tmp_path), 4)
        assert "503" in result.stderr
        assert received(messages_of(tmp_path)) == [b"at last"]
        assert len(events_of(tmp_path, "connect_failed")) == len(events_of(tmp_path, "lost_interval")) == 1

    @pytest.mark.long
    def test_beside_one_that_works_a_403_is_lost_until_the_end_and_no_page_is_printed(self, wsrec, exchange, tmp_path):
        page = "<html><head><title>blocked</title></head><body>" + "x" * 3000 + "</body></html>"
        bad = exchange(wait, process_request=lambda c, _: c.respond(http.HTTPStatus.FORBIDDEN, page)).url
        good = exchange(every_10_ms).url.replace("localhost", "127.0.0.1")
        result = ok(wsrec.run("record", bad, good, "--duration", "2s", "--out", tmp_path), 4)
        assert "blocked" in result.stderr
        assert "xxx" not in result.stderr
        (lost,) = events_of(tmp_path, "lost_interval")
        assert lost["detail"]["duration_ns"] > 1.5e9
        assert lost["detail"]["to"] > messages_of(tmp_path)["handoff_time"].cast("int64").to_pylist()[-10]

    @pytest.mark.long
    def test_one_of_two_targets_never_came(self, wsrec, exchange, refusing_port, tmp_path):
        bad = f"ws://127.0.0.1:{refusing_port}/"
        good = exchange(sends(["x"])).url
        result = ok(wsrec.run("record", good, bad, "--duration", "1s", "--out", tmp_path), 4)
        assert "refused" in result.stderr


class TestDuration:
    def test_counts_from_the_first_connection_that_is_open(self, wsrec, exchange, tmp_path):
        """An exchange that takes its time takes nothing of the recording's."""

        async def slowly(connection, request):
            await asyncio.sleep(1.2)

        server = exchange(every_10_ms, process_request=slowly)
        ok(wsrec.run("record", server.url, "--duration", "4s", "--out", tmp_path))
        times = messages_of(tmp_path)["recv_time"].cast("int64").to_pylist()
        assert times[-1] - times[0] > 3e9

    def test_where_none_opens_it_ends_and_says_how_long_it_tried(self, wsrec, refusing_port, tmp_path):
        result = ok(wsrec.run("record", f"ws://127.0.0.1:{refusing_port}/", "--duration", "1s", "--out", tmp_path), 1)
        assert re.search(
            r"not connected before the end: .* refused the connection \(tried for 1\.\d+ s\)", result.stderr
        )


class TestOutput:
    def test_a_file_in_the_way(self, wsrec, tmp_path):
        path = tmp_path / "out"
        path.write_text("precious")
        assert "is a file" in refused(wsrec.run("record", "ws://h/p", "--out", path), 2).stderr
        assert path.read_text() == "precious"

    def test_a_file_in_the_way_of_a_folder_below(self, wsrec, tmp_path):
        (tmp_path / ".wsrec").write_text("precious")
        refused(wsrec.run("record", "ws://h/p", "--out", tmp_path), 1, ".wsrec", "--out")
        assert (tmp_path / ".wsrec").read_text() == "precious"

    def test_a_folder_that_cannot_be_written(self, wsrec):
        refused(
            wsrec.run("record", "ws://h/p", "--out", "/proc/wsrec"),
            1,
            "/proc/wsrec",
            "expected a folder",
        )

    @pytest.mark.long
    def test_locked(self, wsrec, exchange, tmp_path):
        first = wsrec.start("record", exchange(wait).url, "--out", tmp_path)
        try:
            while "connected" not in first.stderr.readline():
                assert first.poll() is None
            second = wsrec.run("record", "ws://h/p", "--out", tmp_path)
            refused(second, 75, f"process {first.pid}", "--out")
            stated = json.loads(wsrec.run("record", "ws://h/p", "--out", tmp_path, "--json").stdout)
            assert (stated["status"], f"process {first.pid}" in stated["error"]) == (75, True)
        finally:
            first.terminate()
            first.communicate(timeout=120)
        assert first.returncode == 3

    def test_the_folder_from_the_environment(self, wsrec, exchange, tmp_path):
        env = {**os.environ, "WSREC_RECORD_OUT": str(tmp_path / "elsewhere")}
        ok(wsrec.run("record", exchange(sends(["x"])).url, "--until-close", env=env, cwd=tmp_path))
        assert received(messages_of(tmp_path / "elsewhere")) == [b"x"]
        assert not (tmp_path / "captures").exists()

    @pytest.mark.long
    def test_into_captures_by_default_and_beside_what_is_there(self, wsrec, exchange, tmp_path):
        for _ in range(2):
            ok(wsrec.run("record", exchange(sends(["x"])).url, "--until-close", cwd=tmp_path))
        assert received(messages_of(tmp_path / "captures")) == [b"x", b"x"]
        assert len(manifest.read(tmp_path / "captures")) == 2


class TestWhatIsSaid:
    def test_json_is_one_object_on_stdout(self, wsrec, exchange, tmp_path):
        result = ok(wsrec.run("record", exchange(sends(["x", "y"])).url, "--until-close", "--json", "--out", tmp_path))
        outcome = json.loads(result.stdout)
        assert result.stdout.count("\n") == 1
        assert (outcome["status"], outcome["messages"], outcome["payload_bytes"]) == (0, 2, 2)
        assert all((tmp_path / file["path"]).exists() for file in outcome["files"])
        assert "connected to" in result.stderr

    def test_the_summary_is_on_stdout_and_progress_on_stderr(self, wsrec, exchange, tmp_path):
        result = ok(wsrec.run("record", exchange(sends(["x"])).url, "--until-close", "--out", tmp_path))
        assert result.stdout.startswith("recorded 1 message,")
        assert "connected" not in result.stdout

    def test_quiet_says_nothing_on_success(self, wsrec, exchange, tmp_path):
        result = ok(wsrec.run("record", exchange(sends(["x"])).url, "--until-close", "--quiet", "--out", tmp_path))
        assert result.stdout == ""
        warnings = [line for line in result.stderr.splitlines() if "was refused" not in line]
        assert warnings == []

    @pytest.mark.long
    def test_terminal_escapes_of_the_exchange_are_made_harmless(self, wsrec, exchange, tmp_path):
        async def bye(connection):
            await connection.send("x")
            await connection.close(1013, "\x1b[31mred\x1b]0;title\x07")

        result = wsrec.run("record", exchange(bye).url, "--duration", "1s", "--out", tmp_path)
        assert "red" in result.stderr
        assert "\x1b" not in result.stderr


class TestExitStatus:
    def test_closed_without_a_message_is_3(self, wsrec, exchange, tmp_path):
        result = ok(wsrec.run("record", exchange(sends([])).url, "--until-close", "--out", tmp_path), 3)
        assert "recorded 0 messages" in result.stdout

    def test_a_drop_in_the_middle_is_4_with_its_interval(self, wsrec, exchange, tmp_path):
        connections = []

        async def drops(connection):
            connections.append(connection)
            await connection.send(f"life {len(connections)}")
            if len(connections) == 1:
                await asyncio.sleep(0.2)
                connection.transport.abort()
                return

        result = ok(wsrec.run("record", exchange(drops).url, "--until-close", "--out", tmp_path, "--json"), 4)
        assert received(messages_of(tmp_path)) == [b"life 1", b"life 2"]
        (lost,) = events_of(tmp_path, "lost_interval")
        assert lost["detail"]["to"] - lost["detail"]["from"] == lost["detail"]["duration_ns"] > 0
        assert json.loads(result.stdout)["lost_intervals"] == json.loads(result.stdout)["reconnects"] == 1

    @pytest.mark.long
    def test_a_drop_in_the_middle_of_a_message_is_4_and_the_next_is_whole(self, wsrec, exchange, tmp_path):
        connections = []

        async def drops(connection):
            connections.append(connection)
            if len(connections) > 1:
                return await connection.send("whole")

            async def parts():
                yield "half a "
                await asyncio.sleep(0.2)
                connection.transport.abort()
                yield "message"

            return await connection.send(parts())

        ok(wsrec.run("record", exchange(drops).url, "--until-close", "--out", tmp_path), 4)
        assert received(messages_of(tmp_path)) == [b"whole"]
        assert [path for path in (tmp_path / ".wsrec").iterdir() if path.is_dir()] == []


class TestSecrets:
    @pytest.mark.long
    def test_a_token_is_nowhere(self, wsrec, exchange, tmp_path):
        async def busy(connection):
            while True:
                await connection.send("x")
                await asyncio.sleep(0.01)

        url = f"{exchange(busy).url}?token={SECRET}&stream=a"
        process = wsrec.start("record", url, "--duration", "2s", "--out", tmp_path)
        lines = []
        while not any("connected" in line for line in lines):
            lines.append(process.stderr.readline())
            assert process.poll() is None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 2
        for child in children:
            assert SECRET.encode() not in Path(f"/proc/{child}/cmdline").read_bytes()
            assert SECRET.encode() not in Path(f"/proc/{child}/environ").read_bytes()
        for journal in tmp_path.rglob("*.arrows"):
            assert SECRET.encode() not in journal.read_bytes()
        output, log = process.communicate(timeout=120)
        assert process.returncode == 0, log
        assert SECRET not in output + log + "".join(lines)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) >= 3
        for path in files:
            assert SECRET.encode() not in path.read_bytes()
            assert SECRET not in str(path)


class TestByteForByte:
    def record(self, wsrec, url, out, *arguments):
        ok(wsrec.run("record", url, "--until-close", "--out", out, *arguments))
        return messages_of(out)

    def test_binary_empty_and_large(self, wsrec, exchange, tmp_path):
        large = [os.urandom(1 << 20), os.urandom(20 << 20)]
        messages = [b"", "", b"\x00\xff", *large, "é" * 500_000, "end"]
        table = self.record(wsrec, exchange(sends(messages)).url, tmp_path)
        assert received(table) == [m.encode() if isinstance(m, str) else m for m in messages]
        kinds = [row for row in table["opcode"].to_pylist() if row in ("text", "binary")]
        assert kinds == ["text" if isinstance(m, str) else "binary" for m in messages]

    def test_a_message_beyond_the_limit_is_reported_with_the_setting(self, wsrec, exchange, tmp_path):
        server = exchange(sends(["small", b"x" * 2_000_000]))
        result = wsrec.run("record", server.url, "--out", tmp_path, "--duration", "1500ms", "--max-message", "1MB")
        ok(result, 4)
        assert "--max-message" in result.stderr

    @pytest.mark.long
    def test_fragments_with_pings_between(self, wsrec, exchange, tmp_path):
        async def handler(connection):
            async def parts():
                for number, part in enumerate(("a", "", "bc", "d" * 70_000)):
                    await connection.ping(b"%d" % number)
                    yield part

            await connection.send(parts())
            await connection.send("whole")

        table = self.record(wsrec, exchange(handler).url, tmp_path)
        assert received(table) == [b"abc" + b"d" * 70_000, b"whole"]
        rows = table.select(["direction", "opcode", "data"]).to_pylist()
        pings = [row for row in rows if row["opcode"] == "ping"]
        pongs = [row for row in rows if row["opcode"] == "pong"]
        assert [row["data"] for row in pings] == [row["data"] for row in pongs] == [b"0", b"1", b"2", b"3"]
        assert {row["direction"] for row in pongs} == {"sent"}

    @pytest.mark.long
    def test_text_that_is_no_utf8(self, wsrec, exchange, tmp_path):
        messages = ["good", b"\xff\xfe bad", "good again"]

        async def handler(connection):
            for message in messages:
                await connection.send(message, text=True)

        table = self.record(wsrec, exchange(handler).url, tmp_path)
        assert received(table) == [b"good", b"\xff\xfe bad", b"good again"]
        rows = table.filter(table["opcode"].cast("string").to_numpy(zero_copy_only=False) == "text")
        assert rows["text"].to_pylist() == ["good", None, "good again"]

    def test_what_we_send_is_part_of_the_record(self, wsrec, exchange, tmp_path):
        async def echo(connection):
            for _ in range(2):
                await connection.send(await connection.recv())

        subscribe = ["--subscribe", '{"op":"a"}', "--subscribe", "ü"]
        table = self.record(wsrec, exchange(echo).url, tmp_path, *subscribe)
        rows = table.select(["direction", "opcode", "text"]).to_pylist()
        for direction in ("sent", "recv"):
            texts = [row["text"] for row in rows if (row["direction"], row["opcode"]) == (direction, "text")]
            assert texts == ['{"op":"a"}', "ü"]

    @pytest.mark.long
    def test_a_replay_of_a_capture_is_recorded_as_the_capture(self, wsrec, exchange, real_messages, tmp_path):
        messages = [message.decode() for message in real_messages[:3000]]
        self.record(wsrec, exchange(sends(messages)).url, tmp_path / "one")
        replay = wsrec.start("replay", tmp_path / "one", "--speed", "max", "--json")
        try:
            url = json.loads(replay.stdout.readline())["url"]
            again = self.record(wsrec, url, tmp_path / "two")
        finally:
            replay.terminate()
            replay.communicate(timeout=120)
        assert received(again) == real_messages[:3000]


class TestTargets:
    @pytest.mark.long
    def test_two_into_two_folders(self, wsrec, exchange, tmp_path):
        one, two = exchange(sends(["a"] * 5)).url, exchange(sends(["b"] * 7)).url
        ok(wsrec.run("record", one, two.replace("localhost", "127.0.0.1"), "--until-close", "--out", tmp_path))
        for line in manifest.read(tmp_path):
            expected = {"localhost": ["a"] * 5, "127.0.0.1": ["b"] * 7}[line.feed]
            table = pq.ParquetFile(tmp_path / line.path).read()
            assert f"feed={line.feed}/" in line.path
            assert [text for text in table["text"].to_pylist() if text is not None] == expected
            assert table["seq"].to_pylist() == list(range(len(table)))
        assert len(manifest.read(tmp_path)) == 2

    @pytest.mark.long
    @pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
    def test_two_processors_are_two_sessions_and_all_messages(self, wsrec, exchange, tmp_path):
        one, two = exchange(sends(["a"] * 500)).url, exchange(sends(["b"] * 700)).url
        arguments = [one, two.replace("localhost", "127.0.0.1"), "--cpu", TWO, "--until-close", "--json"]
        result = ok(wsrec.run("record", *arguments, "--out", tmp_path))
        outcome = json.loads(result.stdout)
        assert len(set(outcome["sessions"])) == 2
        assert sorted(received(messages_of(tmp_path))) == [b"a"] * 500 + [b"b"] * 700


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo, five seconds, a file every two."""
    out = tmp_path_factory.mktemp("demo")
    result = Wsrec().run("record", "demo", "--duration", "5s", "--rotate", "1s", "--out", out, "--json")
    return out, ok(result)


class TestDemo:
    def test_it_is_complete(self, demo):
        out, result = demo
        outcome = json.loads(result.stdout)
        assert (outcome["status"], outcome["gaps"], outcome["lost_intervals"], outcome["refused"]) == (0, 0, 0, 0)
        assert events_of(out, "gap") == []
        assert len(events_of(out, "ack")) == len(events_of(out, "subscribe")) > 0

    def test_trades_book_and_best_prices_are_there(self, demo):
        table = messages_of(demo[0])
        channels = set(table["channel"].to_pylist())
        assert {"trade", "bookTicker"} <= channels
        assert any(channel and channel.startswith("depth") for channel in channels)
        assert {"BTCUSDT", "ETHUSDT"} <= set(table["symbol"].to_pylist())

    def test_rotation_makes_several_files_with_contiguous_seq(self, demo):
        lines = manifest.read(demo[0])
        assert len([line for line in lines if line.path]) >= 3
        table = messages_of(demo[0])
        assert table["seq"].to_pylist() == list(range(len(table)))

    def test_the_report_says_what_was_checked_and_what_could_not_be(self, demo, wsrec):
        verdict = ok(wsrec.run("report", demo[0])).stdout
        assert "no loss known. Checked by sequence number: trade, depth@100ms. Not checkable: bookTicker" in verdict

    def test_nothing_is_left_in_progress(self, demo):
        names = {path.name for path in (demo[0] / ".wsrec").iterdir()}
        assert names == {"lock", "next", "manifest.jsonl"}

    def test_files_may_be_read_by_their_owner(self, demo):
        for path in (demo[0] / "messages").rglob("*.parquet"):
            assert path.stat().st_mode & stat.S_IRUSR


class TestTerminal:
    @pytest.mark.long
    def test_the_live_view_on_a_terminal_and_only_there(self, wsrec, exchange, tmp_path):
        main, terminal = pty.openpty()
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, main)
            process = subprocess.Popen(
                wsrec.command("record", exchange(sends(["x"])).url, "--duration", "2s", "--out", tmp_path),
                stdout=subprocess.PIPE,
                stderr=terminal,
                env={**os.environ, "TERM": "xterm"},
            )
            os.close(terminal)
            shown = b""
            with contextlib.suppress(OSError):
                while data := os.read(main, 4096):
                    shown += data
            output, _ = process.communicate(timeout=120)
        assert b"RECV_START" in shown
        assert b"Traceback" not in shown
        assert b"RECV_START" not in output
