"""What of an address may be seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.feed.load import catalogue, find_feed
from wsrec.feed.masking import mask_tail, mask_url, url_parts


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("wss://h:9443", "wss://h:9443"),
        ("wss://[::1]:9/", "wss://[::1]:9/"),
        ("wss://u:p@h:1/x", "wss://***:***@h:1/***"),
        ("wss://h/?jwt=1&pwd=2;sid=3&empty=", "wss://h/?jwt=***&pwd=***;sid=***&***"),
        ("wss://h/?a%26b=c%26d", "wss://h/?a%26b=***"),
        ("wss://h/?c2VjcmV0==", "wss://h/?***"),
        ("wss://h/?x=c2VjcmV0==", "wss://h/?x=***"),
        ("wss://h/a//b/", "wss://h/***//***/"),
        ("wss://h/x#frag", "wss://h/***#***"),
        ("wss://h;token=1/x", "wss://***/***"),
        ("wss://${HOST}:${PORT}/${KEY}?t=${T}", "wss://${HOST}:${PORT}/${KEY}?t=${T}"),
        ("wss://${U}:${P}@h/a${KEY}b", "wss://${U}:${P}@h/***${KEY}***"),
        ("wss://h/?token={token}&id={uuid}&t=a{token}", "wss://h/?token={token}&id={uuid}&t=***{token}"),
        ("h/ws?jwt=1", "***"),
        ("wss://h/\ue000", "***"),
        ("", "***"),
    ],
)
def test_by_default_nothing_but_host_port_and_names(url, seen):
    assert mask_url(url) == seen


def test_what_is_declared_is_seen_and_what_is_filled_in_never_is():
    url = "wss://h/ws/v5/private?streams=a/b&timeUnit=US&flag&jwt=1&key=x${K}"
    public = ("ws", "v5", "streams", "timeUnit", "flag", "key")
    assert mask_url(url, public) == "wss://h/ws/v5/***?streams=a/b&timeUnit=US&flag&jwt=***&key=x${K}"


@pytest.mark.parametrize(
    ("tail", "seen"),
    [
        ("?streams={topics:/}", "?streams={topics:/}"),
        ("?key=1&streams={topics:&s=}", "?key=***&streams={topics:&s=}"),
        ("&key=1&streams={topics:/}", "&key=***&streams={topics:/}"),
        ("/stream/{topics:/}", "/***/{topics:/}"),
        ("key-{topics}", "***{topics}"),
    ],
)
def test_of_what_a_subscription_appends(tail, seen):
    assert mask_tail(tail) == seen


_WORD = st.text(st.sampled_from("abc019%-._~+,@:!$*()'"), max_size=6)


@given(st.data())
def test_a_secret_does_not_show_wherever_it_is(data):
    secret = "S3CR3T"
    words = data.draw(st.lists(_WORD, min_size=6, max_size=6))
    place = data.draw(st.integers(0, 5))
    words[place] += secret + data.draw(_WORD) + data.draw(st.sampled_from(["", "=", "=="]))
    user, path, further, value, bare, fragment = words
    url = f"wss://{user.replace('@', '')}:p@host:1/{path}/{further}?name={value}&{bare}#{fragment}"
    # a name is one only with a value behind it
    assert secret not in mask_url(url).replace(f"{bare.partition('=')[0]}=", "" if "=" not in bare.rstrip("=") else "?")


@given(st.lists(_WORD, min_size=3, max_size=3))
def test_a_url_whose_parts_are_all_public_is_seen_as_it_is(words):
    path, name, value = words
    url = f"wss://host/{path}/x?{name}={value}&y"
    assert mask_url(url, tuple(url_parts(url))) == url


@pytest.mark.parametrize("name", catalogue())
def test_all_that_a_feed_of_the_catalogue_says_is_seen(name):
    feed = find_feed(name)
    shown = feed.public()
    assert {key: socket.url for key, socket in shown.sockets.items()} == {k: s.url for k, s in feed.sockets.items()}
    assert shown.model_dump(exclude={"sockets"}) == feed.model_dump(exclude={"sockets"})
