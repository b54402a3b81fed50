"""wsrec.writer.cooldown: how often something is done about a trouble that stays."""

from __future__ import annotations

from wsrec.writer.cooldown import LEAST_NS, Cooldown

S = 1_000_000_000


def test_at_once_and_then_ever_less_often_until_it_helped():
    cooldown = Cooldown()
    done = [second for second in range(600) if cooldown.due("x", second * S)]
    assert done == [0, 30, 90, 210, 450]
    assert cooldown.due("y", 600 * S)
    assert cooldown.due("x", 10_000 * S)
    assert not cooldown.due("x", 10_000 * S + LEAST_NS - 1)
    assert cooldown.due("x", 10_000 * S + LEAST_NS)


def test_not_more_often_than_it_takes_to_show():
    cooldown = Cooldown()
    assert [second for second in range(300) if cooldown.due("x", second * S, 100 * S)] == [0, 100]
