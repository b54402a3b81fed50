"""OKX v5: an answer for each argument, `ping` as text, two paths, a notice before the end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from tests.venues.mock import Frame, Refusal, Venue

Argument = tuple[str, str]


class Okx(Venue):
    """One path; closes normally after two pings.

    Args:
        data: what each channel of this path sends, by channel and what else its argument says.

    """

    idle_limit = 5.0

    def __init__(self, data: Mapping[Argument, Sequence[str]]) -> None:
        super().__init__()
        self.data = data
        self.pings = 0

    def is_life(self, request: Frame) -> bool:
        return request == "ping"

    def answer(self, request: Frame) -> Iterator[Frame]:
        if request == "ping":
            self.pings += 1
            yield "pong"
            if self.pings == 2:
                yield '{"event":"notice","code":"64008","msg":"The connection will soon be closed","connId":"a4d3ae55"}'
                raise Refusal(1000, "done")
            return
        assert len(request) <= 65536
        requested = json.loads(request)
        assert requested.keys() == {"id", "op", "args"}
        assert requested["op"] == "subscribe"
        for argument in requested["args"]:
            channel = argument["channel"]
            ((kind, name),) = (item for item in argument.items() if item[0] != "channel")
            expected = {"instruments": "instType", "liquidation-orders": "instType", "opt-summary": "instFamily"}
            if kind != expected.get(channel, "instId") or (channel, name) not in self.data:
                stated = f"Wrong URL or channel:{channel},{kind}:{name} doesn't exist. Please use the correct URL"
                yield json.dumps({"event": "error", "code": "60018", "msg": stated, "connId": "a4d3ae55"})
                continue
            yield json.dumps({"event": "subscribe", "arg": argument, "connId": "a4d3ae55"})
            yield from self.data[channel, name]
