from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from wsrec.feed.placeholders import Raw, fill, fill_url, fill_when_sent, names


class TestFill:
    def test_a_value_and_a_joined_list(self):
        values = {"topics": ["a", "b"], "id": 3}
        assert fill('{"x":{topics},"y":"{topics:,}","id":{id}}', values) == '{"x":["a","b"],"y":"a,b","id":3}'

    def test_raw_json(self):
        assert fill("{arguments} {arguments:,}", {"arguments": [Raw('{"a":1}'), Raw("2")]}) == '[{"a":1},2] {"a":1},2'

    def test_what_is_not_given_stays(self):
        assert fill('{"t":{time_ms}}', {"id": 1}) == '{"t":{time_ms}}'

    @given(st.text(), st.lists(st.text()))
    def test_nothing_breaks_out(self, text, texts):
        filled = fill('{"a":"{symbol}","b":{topics},"c":"{topics:,}"}', {"symbol": text, "topics": texts})
        assert json.loads(filled) == {"a": text, "b": texts, "c": ",".join(texts)}

    @given(st.text(st.sampled_from("{}time_msuuid:")))
    def test_nothing_put_in_is_filled_later(self, text):
        filled = fill('"{symbol}"', {"symbol": text})
        assert json.loads(fill_when_sent(filled)) == text

    @given(st.lists(st.text(min_size=1), min_size=1))
    def test_urls_hold_no_more_than_they_should(self, texts):
        assert re.fullmatch(r"\?s=[!-~]*", filled := fill_url("?s={topics:/}", {"topics": texts}))
        assert not set(filled) & set('{}#& "\\<>')


class TestWhenSent:
    def test_fills_in_time_and_chance_and_nothing_else(self):
        text = '{"nonce":{time_ms},"t":{time_s},"ticket":"{uuid}","id":{id}}'
        sent = fill_when_sent(text)
        assert names(sent) == {"id"}
        assert re.fullmatch(r'{"nonce":\d+,"t":\d+,"ticket":"[0-9a-f-]{36}","id":{id}}', sent)
