"""What an exchange answers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.replay.requests import Subscriptions


def ask(subscriptions, request):
    data = request if isinstance(request, bytes) else json.dumps(request).encode()
    answer = subscriptions.answer(data)
    return answer.reply.decode(), answer.subscribed


class TestBinance:
    def test_subscribe_list_unsubscribe(self):
        subscriptions = Subscriptions()
        streams = ["btcusdt@depth@100ms", "币安人生usdt@trade", "!bookTicker"]
        request = {"method": "SUBSCRIBE", "params": streams, "id": 1}
        assert ask(subscriptions, request) == ('{"result":null,"id":1}', True)
        assert ask(subscriptions, {"method": "UNSUBSCRIBE", "params": streams[:1], "id": "x"}) == (
            '{"result":null,"id":"x"}',
            False,
        )
        reply, _ = ask(subscriptions, {"method": "LIST_SUBSCRIPTIONS", "id": 3})
        assert json.loads(reply) == {"result": streams[1:], "id": 3}

    @pytest.mark.parametrize(
        ("request_", "code", "ident"),
        [
            (b'{"method":', 3, None),
            (b"\xff", 3, None),
            (b"[]", 2, None),
            ({"method": "NONSENSE", "id": 5}, 2, 5),
            ({"method": "SUBSCRIBE", "id": 5}, 2, 5),
            ({"method": "SUBSCRIBE", "params": ["btcusdt"], "id": 5}, 2, 5),
            ({"method": "SUBSCRIBE", "params": [1], "id": 5}, 2, 5),
            ({"method": "SUBSCRIBE", "params": [], "id": True}, 2, None),
            ({"method": "SUBSCRIBE", "params": [], "id": "x" * 37}, 2, None),
            ({"method": "SUBSCRIBE", "params": [f"s{n}@trade" for n in range(1025)], "id": 5}, 2, 5),
        ],
    )
    def test_a_bad_request_gets_its_error_code_and_id(self, request_, code, ident):
        reply, subscribed = ask(Subscriptions(), request_)
        document = json.loads(reply)
        assert (document["code"], document["id"], subscribed) == (code, ident, False)
        assert list(document) == ["code", "msg", "id"]


class TestOthers:
    def test_the_request_comes_back(self):
        request = {"op": "subscribe", "args": ["trade:XBTUSD"]}
        assert ask(Subscriptions(), request) == ('{"success":true,"op":"subscribe","args":["trade:XBTUSD"]}', True)

    def test_pings_do_not_subscribe(self):
        assert ask(Subscriptions(), b"ping") == ("pong", False)
        assert ask(Subscriptions(), {"op": "ping"}) == ('{"success":true,"op":"ping"}', False)

    @given(
        st.binary(max_size=200)
        | st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["method", "params", "id", "op"]), inner)
            ),
        ).map(lambda document: json.dumps(document).encode())
    )
    def test_anything_gets_an_answer(self, request_):
        assert Subscriptions().answer(request_).reply
