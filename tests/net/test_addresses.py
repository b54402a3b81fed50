"""wsrec.net.addresses: in which order a host's addresses are tried, and when all of them have refused or failed."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.net.addresses import ATTEMPT_DELAY, SECOND_CHANCE, AddressHistory
from wsrec.net.resolver import Address

A, B, C = (Address(socket.AF_INET, (f"192.0.2.{n}", 443)) for n in (1, 2, 3))
X, Y = (Address(socket.AF_INET6, (f"2001:db8::{n}", 443, 0, 0)) for n in (1, 2))
ALL = [A, B, C, X, Y]


def numbered(n: int) -> Address:
    return Address(socket.AF_INET, (f"198.18.{n // 256}.{n % 256}", 443))


def order(history: AddressHistory, *addresses: Address) -> list[Address]:
    return [candidate.address for candidate in history.order(addresses)]


class TestOrder:
    def test_the_families_take_turns_as_the_system_prefers_them(self):
        assert order(AddressHistory(), X, Y, A, B, C) == [X, A, Y, B, C]

    def test_it_begins_behind_the_one_that_failed_last(self):
        history = AddressHistory()
        history.failed(A, "timeout")
        assert order(history, A, B, C) == [B, C, A]
        history.failed(B, "http")
        assert order(history, A, B, C) == [C, A, B]
        history.failed(C, "http")
        assert order(history, A, B, C) == [A, B, C]

    def test_whatever_order_the_name_server_gives_them_in(self):
        history = AddressHistory()
        history.failed(A, "timeout")
        history.failed(B, "timeout")
        assert order(history, B, A, C) == [C, A, B]

    def test_one_that_failed_is_not_raced_against_one_that_has_not(self):
        history = AddressHistory()
        history.failed(A, "timeout")
        assert history.order([A, B, C]) == [(B, ATTEMPT_DELAY), (C, ATTEMPT_DELAY), (A, SECOND_CHANCE)]

    def test_those_that_have_failed_do_not_wait_for_each_other(self):
        history = AddressHistory()
        history.failed(A, "timeout")
        history.failed(B, "timeout")
        assert history.order([A, B, C]) == [(C, ATTEMPT_DELAY), (A, SECOND_CHANCE), (B, ATTEMPT_DELAY)]

    def test_one_of_an_earlier_answer_comes_behind_the_new_ones_until_these_have_failed(self):
        history = AddressHistory()
        history.begin((A, B), kept=C)
        assert history.known == (A, B, C)
        assert history.order(history.known) == [(A, ATTEMPT_DELAY), (B, ATTEMPT_DELAY), (C, SECOND_CHANCE)]
        history.failed(A, "http")
        assert order(history, *history.known) == [B, C, A]
        history.failed(C, "http")
        assert order(history, *history.known) == [B, A, C]

    def test_one_that_works_again_is_as_good_as_any(self):
        history = AddressHistory()
        history.failed(A, "timeout")
        history.worked(A)
        assert order(history, A, B) == [A, B]

    @given(st.lists(st.sampled_from(ALL), unique=True), st.lists(st.sampled_from(ALL)))
    def test_each_is_tried_once_and_the_last_that_failed_is_the_last(self, addresses, failures):
        history = AddressHistory()
        for one in failures:
            history.failed(one, "lost")
        tried = order(history, *addresses)
        assert sorted(tried) == sorted(addresses)
        if failures and failures[-1] in addresses:
            assert tried[-1] == failures[-1]


class TestUntried:
    def test_an_address_that_has_failed_counts_again_once_another_has_worked(self):
        history = AddressHistory()
        history.begin((A, B, C))
        history.failed(A, "lost")
        history.failed(B, "lost")
        assert history.untried_count == 1
        history.worked(C)
        history.failed(C, "timeout")
        assert history.untried_count == 2
        assert order(history, A, B, C) == [A, B, C]

    def test_where_none_is_known_there_is_none(self):
        history = AddressHistory()
        history.begin((A, B))
        history.begin()
        assert history.untried_count == 0

    def test_a_name_that_always_has_other_addresses_comes_to_an_end(self):
        history = AddressHistory()
        for n in range(1, 200):
            history.begin((numbered(2 * n), numbered(2 * n + 1)))
            if not history.untried_count:
                break
            history.failed(numbered(2 * n), "http")
        assert 20 < n < 100

    @given(st.lists(st.sampled_from(ALL), unique=True), st.lists(st.tuples(st.booleans(), st.sampled_from(ALL))))
    def test_it_is_what_has_not_failed_since_the_last_success(self, known, fates):
        history = AddressHistory()
        history.begin(known)
        vain: set[Address] = set()
        for works, one in fates:
            if works:
                history.worked(one)
                vain.clear()
            else:
                history.failed(one, "lost")
                vain.add(one)
        assert history.untried_count == len(set(known) - vain)


class TestRefusals:
    @pytest.mark.parametrize("count", [1, 2, 20, 300])
    def test_however_many_they_are_all_of_one_answer_have_to_refuse(self, count):
        history = AddressHistory()
        addresses = [numbered(n) for n in range(count)]
        for one in addresses:
            history.begin(addresses)
            assert not history.all_refuse
            history.failed(one, "http", permanent=True)
        assert history.all_refuse

    def test_all_have_to_refuse(self):
        history = AddressHistory()
        history.begin((A, B))
        history.failed(A, "http", permanent=True)
        history.failed(B, "timeout")
        assert not history.all_refuse
        history.failed(B, "http", permanent=True)
        assert history.all_refuse

    def test_one_that_worked_makes_it_begin_anew(self):
        history = AddressHistory()
        history.begin((A,))
        history.failed(A, "http", permanent=True)
        history.worked(A)
        assert not history.all_refuse

    def test_a_name_that_always_has_other_addresses_refuses_some_day(self):
        history = AddressHistory()
        for n in range(1, 200):
            history.begin((numbered(2 * n), numbered(2 * n + 1)))
            history.failed(numbered(2 * n), "http", permanent=True)
            if history.all_refuse:
                break
        assert 20 < n < 100
