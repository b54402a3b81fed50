"""The server against real `websockets` clients, over ws and wss."""

import asyncio
import contextlib
import gzip
import json
import signal
import ssl
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from wsrec.replay.live import MarketExchange
from wsrec.replay.market import Market
from wsrec.replay.message import SourceError
from wsrec.replay.recording import RecordingExchange
from wsrec.replay.run import _handlers_kept
from wsrec.replay.server import ServeError, serve
from wsrec.replay.source import Source
from wsrec.replay.tls import TlsError, self_signed

from .test_source import RECORDING, needs_shared, write_capture

SUBSCRIBE = json.dumps({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 9})
ACK = b'{"result":null,"id":9}'


def recording(path, payloads, *, gap_ns=1_000_000):
    """A text recording with a fixed time between its messages."""
    with gzip.open(path, "wb") as file:
        for number, payload in enumerate(payloads):
            file.write(b"%d %s\n" % (10**18 + number * gap_ns, payload))
    return path


def run(test):
    async def limited():
        async with asyncio.timeout(120):
            return await test

    return asyncio.run(limited())


async def receive_all(url, **options):
    received = []
    async with connect(url, compression=None, max_size=None, **options) as client:
        with contextlib.suppress(ConnectionClosedOK):
            while True:
                received.append(await client.recv(decode=False))
    return received, client.close_code


@contextlib.contextmanager
def tls_pair(kind):
    if kind == "ws":
        yield None, {}
    else:
        with self_signed("127.0.0.1") as (server, ca_file):
            yield server, {"ssl": ssl.create_default_context(cafile=ca_file)}


@needs_shared
class TestSharedRecording:
    @pytest.mark.parametrize("kind", ["ws", "wss"])
    def test_every_byte_in_order(self, kind):
        async def test():
            with tls_pair(kind) as (tls, options):
                async with serve(RecordingExchange(Source([RECORDING]), speed=None), tls=tls) as server:
                    assert server.url.startswith(kind + "://127.0.0.1:")
                    return await receive_all(server.url, **options)

        received, code = run(test())
        with gzip.open(RECORDING) as lines:
            assert received == [line.rstrip(b"\n").partition(b" ")[2] for line in lines]
        assert code == 1000


class TestRecording:
    def test_parquet_with_text_and_binary(self, tmp_path):
        rows = [(0, 5, "recv", "text", b"{}"), (1, 6, "recv", "binary", b"\xff"), (2, 7, "recv", "text", b"")]
        path = write_capture(tmp_path / "a.parquet", rows)

        async def test():
            async with serve(RecordingExchange(Source([path]))) as server, connect(server.url) as client:
                return [await client.recv() for _ in range(3)]

        assert run(test()) == ["{}", b"\xff", ""]

    def test_pace(self, tmp_path):
        path = recording(tmp_path / "a.gz", [b"%d" % n for n in range(40)], gap_ns=20_000_000)

        async def seconds(speed):
            async with serve(RecordingExchange(Source([path]), speed=speed)) as server:
                start = time.monotonic()
                received, _ = await receive_all(server.url)
                assert len(received) == 40
                return time.monotonic() - start

        async def test():
            return [await seconds(speed) for speed in (1.0, 4.0, None)]

        # how late it is depends on who else uses this machine: a pace that is wrong is so each time
        for _ in range(5):
            real, four, fastest = run(test())
            assert real >= 39 * 0.02
            assert four >= 39 * 0.005
            if 2.5 < real / four < 4.5 and fastest < four:
                break
        else:
            pytest.fail(f"took {real:.3f} s, four times as fast {four:.3f} s, and without a pace {fastest:.3f} s")

    def test_with_loop_a_recording_starts_over(self, tmp_path):
        path = recording(tmp_path / "a.gz", [b"1", b"2", b"3"])

        async def test():
            exchange = RecordingExchange(Source([path]), speed=None, loop=True)
            async with serve(exchange) as server, connect(server.url) as client:
                return [await client.recv() for _ in range(9)]

        assert run(test()) == ["1", "2", "3"] * 3

    def test_each_client_starts_at_the_beginning_and_one_that_leaves_disturbs_no_other(self, tmp_path):
        payloads = [b"%06d" % n + b"x" * 500 for n in range(20_000)]
        path = recording(tmp_path / "a.gz", payloads)

        async def leave(url):
            client = await connect(url)
            await client.recv()
            client.transport.abort()

        async def test():
            async with serve(RecordingExchange(Source([path]), speed=None)) as server:
                results = await asyncio.gather(receive_all(server.url), leave(server.url), receive_all(server.url))
                assert not server.failed.done()
            return results

        first, _, third = run(test())
        assert first[0] == third[0] == payloads

    def test_a_slow_client_holds_up_the_reading_of_the_recording_not_the_others(self, tmp_path):
        path = recording(tmp_path / "a.gz", [b"x" * 10_000] * 4000)

        async def test():
            async with serve(RecordingExchange(Source([path]), speed=None)) as server:  # noqa: SIM117
                async with connect(server.url, max_queue=1) as slow:
                    await slow.recv()
                    slow.transport.pause_reading()
                    received, _ = await receive_all(server.url)
                    assert len(received) == 4000
                    client = server.clients[0]
                    sent = client.messages
                    await asyncio.sleep(0.2)
                    assert client.messages == sent < 4000
                    assert client.buffered < 1 << 20
                    slow.transport.resume_reading()
                    for _ in range(3999):
                        await slow.recv()

        run(test())

    def test_damage_closes_with_1011_and_is_reported(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_bytes(b"1.0: a\nwrong\n")

        async def test():
            async with serve(RecordingExchange(Source([path]), speed=None)) as server:
                async with connect(server.url) as client:
                    assert await client.recv() == "a"
                    with pytest.raises(ConnectionClosedError) as closed:
                        await client.recv()
                    assert closed.value.rcvd.code == 1011
                with pytest.raises(SourceError, match=":2:"):
                    await server.failed

        run(test())

    def test_the_end_of_the_server_closes_with_1001(self, tmp_path):
        path = recording(tmp_path / "a.gz", [b"1", b"2"], gap_ns=10**13)

        async def test():
            async with contextlib.AsyncExitStack() as stack:
                async with serve(RecordingExchange(Source([path]))) as server:
                    client = await stack.enter_async_context(connect(server.url))
                    assert await client.recv() == "1"
                with pytest.raises(ConnectionClosedOK) as closed:
                    await client.recv()
                return closed.value.rcvd.code

        assert run(test()) == 1001


class TestSubscriptions:
    def test_wait_subscribe(self, tmp_path):
        path = recording(tmp_path / "a.gz", [b"1"])

        async def test():
            exchange = RecordingExchange(Source([path]))
            async with serve(exchange, wait_subscribe=True) as server, connect(server.url) as client:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.recv(), 0.1)
                await client.send("ping")
                assert await client.recv() == "pong"
                await client.send(SUBSCRIBE)
                assert await client.recv(decode=False) == ACK
                assert await client.recv() == "1"
                assert server.clients[0].acks == 2

        run(test())

    def test_streams_in_the_url_are_a_subscription(self, tmp_path):
        path = recording(tmp_path / "a.gz", [b"1"])

        async def test():
            async with serve(RecordingExchange(Source([path])), wait_subscribe=True) as server:
                return await receive_all(server.url + "/stream?streams=btcusdt@trade/ethusdt@trade")

        assert run(test()) == ([b"1"], 1000)


class TestListening:
    def test_a_taken_port(self, tmp_path):
        path = recording(tmp_path / "a.gz", [b"1"])

        async def test():
            exchange = RecordingExchange(Source([path]))
            async with serve(exchange) as server:
                port = int(server.url.rpartition(":")[2])
                with pytest.raises(ServeError, match=f"cannot listen on 127.0.0.1 port {port}"):
                    async with serve(exchange, port=port):
                        pass

        run(test())

    def test_what_is_not_websocket_is_refused(self, tmp_path):
        path = recording(tmp_path / "a.gz", [b"1"])

        async def test():
            async with serve(RecordingExchange(Source([path]))) as server:
                reader, writer = await asyncio.open_connection(*server.url.removeprefix("ws://").split(":"))
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = await reader.read()
                writer.close()
                assert (await receive_all(server.url))[0] == [b"1"]
                return answer

        assert run(test()).startswith(b"HTTP/1.1 426 ")


class TestTls:
    def test_ca_out(self, tmp_path):
        path = tmp_path / "ca.pem"
        for _ in range(2):  # the next start replaces it
            with self_signed("localhost", path) as (_, written):
                assert written == path
        assert b"PRIVATE" not in path.read_bytes()
        path.write_bytes(b"something else")
        with pytest.raises(TlsError, match="not a certificate"), self_signed("localhost", path):
            pass
        assert path.read_bytes() == b"something else"

    def test_the_temporary_folder_goes(self):
        with self_signed("localhost") as (_, path):
            assert path.exists()
        assert not path.parent.exists()


class TestMarket:
    def test_only_what_is_subscribed_is_sent_and_times_are_now(self):
        async def test():
            async with MarketExchange(Market(rate=2000)) as market, serve(market) as server:  # noqa: SIM117
                async with connect(server.url + "/stream") as client:
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(client.recv(), 0.05)
                    await client.send(json.dumps({"method": "SUBSCRIBE", "params": ["nonsense@trade"], "id": 1}))
                    assert await client.recv() == '{"result":null,"id":1}'
                    await client.send(SUBSCRIBE)
                    assert await client.recv(decode=False) == ACK
                    for _ in range(200):
                        document = json.loads(await client.recv())
                        assert document["stream"] == "btcusdt@trade"
                        assert 0 <= time.time() * 1000 - document["data"]["E"] < 5000
                    await client.send(SUBSCRIBE.replace("SUB", "UNSUB"))
                    while (await client.recv(decode=False)) != ACK:
                        pass
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(client.recv(), 0.05)

        run(test())

    def test_it_runs_on_without_clients_so_that_who_reconnects_finds_a_gap(self):
        async def last_id(url):
            async with connect(url) as client:
                data = json.loads(await client.recv())  # without envelope: /ws/
                assert data["e"] == "trade"
                return data["t"]

        async def test():
            async with MarketExchange(Market(rate=500)) as market, serve(market) as server:
                before = await last_id(server.url + "/ws/btcusdt@trade")
                await asyncio.sleep(0.2)
                return await last_id(server.url + "/ws/btcusdt@trade") - before

        assert run(test()) > 10

    def test_one_market_for_all(self):
        async def trades(url):
            async with connect(url + "/stream?streams=btcusdt@trade") as client:
                return [(await client.recv()) for _ in range(300)]

        async def test():
            async with MarketExchange(Market(rate=2000)) as market, serve(market) as server:
                return await asyncio.gather(trades(server.url), trades(server.url))

        first, second = run(test())
        assert len(set(first) & set(second)) > 100

    def test_a_client_too_far_behind_is_closed(self, monkeypatch):
        monkeypatch.setattr("wsrec.replay.live.BACKLOG_BYTES", 100_000)
        monkeypatch.setattr("wsrec.replay.server._CLOSE_TIMEOUT", 0.2)

        async def test():
            async with MarketExchange(Market(rate=20_000)) as market, serve(market) as server:
                url = server.url + "/stream?streams=btcusdt@depth@0ms"
                async with connect(url, max_queue=1) as slow:
                    slow.transport.pause_reading()
                    while server.clients:
                        await asyncio.sleep(0.02)
                    slow.transport.abort()

        run(test())

    def test_an_error_in_the_market_is_reported(self, monkeypatch):
        def broken(self, now_ms):
            raise RuntimeError("broken")

        monkeypatch.setattr(Market, "step", broken)

        async def test():
            async with MarketExchange(Market(rate=1000)) as market, serve(market) as server:
                _, code = await asyncio.gather(
                    asyncio.wait([server.failed]), close_code(server.url + "/stream?streams=btcusdt@trade")
                )
                assert "broken" in str(server.failed.exception())
                return code

        async def close_code(url):
            async with connect(url) as client:
                await client.wait_closed()
                return client.close_code

        assert run(test()) == 1011


def test_the_signals_of_the_process_are_given_back_where_python_has_no_handler(monkeypatch):
    """One that was installed from C cannot be: the default is better than a loop that is closed."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with monkeypatch.context() as patched:
            patched.setattr("wsrec.replay.run.signal.getsignal", lambda number: None)
            with _handlers_kept():
                pass
        assert {signal.getsignal(number) for number in before} == {signal.SIG_DFL}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
