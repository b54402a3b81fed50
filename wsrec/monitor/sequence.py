"""Sequence rules: detects missing messages by each feed's rules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.arrays import codes, known, values, where_set
from wsrec.decode.columns import FieldColumns
from wsrec.decode.places import says
from wsrec.decode.scalars import INT64_MAX, UINT64_MAX
from wsrec.feed.channel import Channel
from wsrec.feed.schema import Feed
from wsrec.feed.sequence_rules import Resets, SequenceRule, SequenceScope
from wsrec.monitor.comparison import Link, Links
from wsrec.monitor.handover import First, Joints, Unjoined
from wsrec.monitor.late import LateSequence, Miss

Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
_ONE = np.uint64(1)
_COMPARED = np.uint8(Link.COMPARED)

# Messages follow one another within a connection, channel and symbol: 16, 15 and 32 bits of an int64, their key; where
# the numbers of a channel or a connection run over all of it, the rest is the same for all its messages
_CONN_SHIFT = 47
_CHANNEL_SHIFT = 32
_STREAM = (1 << _CONN_SHIFT) - 1
_SYMBOL = (1 << _CHANNEL_SHIFT) - 1

# A hostile peer can name symbols without end; beyond this many the memory of them starts again.
_KNOWN_MAX = 1 << 20


class Break(StrEnum):
    """How a message does not follow the one before it."""

    MISSING = "missing"
    """Numbers were passed over."""
    REPEATED = "repeated"
    """The number of the message before, once more."""
    BACK = "back"
    """Numbers went back."""
    RESET = "reset"
    """The numbers restart, as the feed allows: nothing is missing."""


class SequenceGap(msgspec.Struct, frozen=True):
    """A message that does not follow the one before it.

    Attributes:
        index: its place in the batch; below 0 where it was in an earlier one (`decided`).
        conn: its connection.
        channel: its channel; None where the numbers run over the connection.
        symbol: its symbol; None where the numbers run over more than a symbol.
        rule: the rule that it breaks.
        expected: the number that the rule asks for (`increasing`: the least one; `checksum`: the book's CRC).
        found: the number in its place.
        missing: how many numbers were passed over; None where the rule cannot tell, or where none were.
        what: how it does not follow.
        scope: what the numbers run over.
        decided: where messages may come late, the place in the batch of the message that decided it; None where that
            is `index`, or where the connection's end decided.
        since: where messages may come late, the time of the message before those that are missing; None otherwise.
        from_conn: where one connection took the place of another, the old one, whose last number it does not follow.

    """

    index: int
    conn: int
    channel: str | None
    symbol: str | None
    rule: SequenceRule
    expected: int
    found: int
    missing: int | None
    what: Break
    scope: SequenceScope = SequenceScope.SYMBOL
    decided: int | None = None
    since: int | None = None
    from_conn: int | None = None

    @property
    def at(self) -> int:
        """The place in the batch of the message that showed it."""
        return self.index if self.decided is None else self.decided


class Rows(NamedTuple):
    """The messages of a batch as rows.

    Attributes:
        first: `seq` of the first one.
        times: when each came (ns since the epoch).
        payload: `large_binary` array of them.

    """

    first: int
    times: Int64s
    payload: pa.Array


class Checked(NamedTuple):
    """What the rules say of a batch of messages.

    Attributes:
        gaps: the messages that break their rule, in order; also those that may, as a legal reset.
        links: how each message was compared with its predecessor.
        runs: by message; two of one succession (`SequenceScope`) have the same run, above 0, where every succession
        from the one to the other was compared and holds. 0: it has no rule, or no number. Empty where the checker
            does not tell them.

    """

    gaps: list[SequenceGap]
    links: Links
    runs: Int64s


class _Rule(NamedTuple):
    """The rule for the numbers of a channel or connection."""

    rule: SequenceRule
    scope: SequenceScope
    overlap: bool
    repeats: bool
    beginnings: frozenset[int]


class SequenceChecker:
    """Holds the last number of every connection, channel and symbol, or of what else the numbers run over.

    After a gap the message that showed it is the one to follow, also where numbers went back: an exchange that starts
    its numbers again is reported once. Where messages may come late (`sequence.late`), see `wsrec.monitor.late`.

    Cost, where no rule is broken: 55 ns a message of the Binance USD-M recording in batches of 4000, 30 ns in batches
    of 60,000; of 5000 symbols on 25 connections 94 ns and 52 ns, with the learning of the symbols.

    Args:
        feed: the feed whose rules apply.
        runs: whether to tell the runs of messages, which only a reader wants.
        turns: the connections that take turns: where one replaces another, their numbers must join.

    Attributes:
        late: by connection, the numbers where messages may come late.

    """

    def __init__(self, feed: Feed, *, runs: bool = False, turns: Collection[int] = ()) -> None:
        counted = feed.sequence
        self._joints = Joints(turns)
        self._reports_runs = runs
        self.late: dict[int, LateSequence] = {}
        self._late_rule = counted.late if counted is not None else None
        checked = {
            name: _checked(channel)
            for name, channel in feed.channel_by_any_name.items()
            if channel.sequence not in (SequenceRule.NONE, SequenceRule.CHECKSUM)
        }
        numbers = {name: number for number, name in enumerate(checked, 1)}
        self._symbol_numbers: dict[str, int]
        self._keys: Int64s
        self._last: Uint64s
        self._whole: Flags
        self._run: Int64s
        self._runs = 0
        self._channels = Numbers(lambda name: numbers.get(name, 0))
        # by the number of the channel; 0 is the number of all that have no rule
        self._rules = (_Rule(SequenceRule.NONE, SequenceScope.SYMBOL, False, False, frozenset()), *checked.values())
        self._by_connection = counted is not None
        if counted is not None:
            beginnings = _beginnings(counted.resets)
            whole = _Rule(SequenceRule.NEXT, SequenceScope.CONNECTION, False, False, beginnings)
            self._rules = (self._rules[0], whole)
        kinds = {checked.rule for checked in self._rules[1:]}
        self._members = {rule: np.array([rule is other.rule for other in self._rules]) for rule in kinds}
        self._by_symbol = np.array([checked.scope is SequenceScope.SYMBOL for checked in self._rules])
        self._overlap = np.array([checked.overlap for checked in self._rules])
        self._repeats = np.array([checked.repeats for checked in self._rules])
        proving = (SequenceRule.NEXT, SequenceRule.TOUCHING, SequenceRule.PREVIOUS)
        self._joins = np.array([of.rule in proving for of in self._rules]) & self._by_symbol
        self._channel_names = ("", *checked)
        self._forget()

    @property
    def checks(self) -> bool:
        """Whether the feed declares any rule."""
        return len(self._rules) > 1

    def check(self, conns: npt.NDArray[np.uint16], columns: FieldColumns, where: Rows | None = None) -> Checked:
        """Hold a batch of messages against the rules, and against the messages before it.

        Args:
            conns: the connection of each message.
            columns: what `FieldReader` read, of the same messages.
            where: the same messages as rows; needed where some may come late.

        """
        if self._late_rule is not None:
            if where is None:
                raise TypeError("found no rows, expected them: messages of this feed may come late")
            return self._check_late(conns, columns, where)
        if max(len(self._symbol_numbers), len(self._keys)) > _KNOWN_MAX:
            self._forget()
        channels, symbols = self._members_of(columns.channel, columns.symbol)
        links = np.zeros(len(channels), np.uint8)
        runs = np.zeros(len(channels) if self._reports_runs else 0, np.int64)
        numbered = known(columns.exchange_seq) if columns.exchange_seq.null_count else None
        if self._by_connection and numbered is not None:
            # what has no channel, as pings and what was sent, need not be numbered
            channels = np.where(numbered | known(columns.channel.indices), channels, 0)
        rows = where_set(channels > 0)
        if not rows.size:
            return Checked([], links, runs)
        channels, symbols = channels[rows], symbols[rows]
        order, keys = self._group(conns[rows], channels, symbols)
        rows, channels = rows[order], channels[order]
        direct: Flags | None = None
        counted = None if numbered is None else numbered[rows]
        if not ((counted is None or counted.all()) and self._whole.all()):
            if counted is None:
                counted = np.ones(len(rows), np.bool_)
            links[rows[~counted]] = Link.UNNUMBERED
            direct, ends = self._direct(keys, counted)
            rows, channels, keys = rows[counted], channels[counted], keys[counted]
        seq = _bits(columns.exchange_seq)[rows]
        last, follows = self._follow(keys, seq)
        if direct is not None:
            self._remember_ends(*ends)

        found, broken = seq.copy(), np.zeros(len(seq), np.bool_)
        # those whose number is below 0, and those that begin anew; None where none does
        below: Flags | None = None
        begun: Flags | None = None
        link = np.full(len(seq), _COMPARED, np.uint8)
        # those before which nothing came, and whether each names what the rule looks at
        firsts = where_set(~follows) if not follows.all() else np.empty(0, np.intp)
        named = np.ones(len(seq), np.bool_) if firsts.size else None
        link[firsts] = Link.FIRST
        for rule, members in self._members.items():
            chosen = where_set(members[channels])
            before = last[chosen]
            if rule is SequenceRule.INCREASING:
                broken[chosen] = seq[chosen] <= before
                continue
            if rule is not SequenceRule.NEXT:
                column = columns.seq_first if rule is SequenceRule.TOUCHING else columns.seq_previous
                which = rows[chosen]
                there, numbers = known(column)[which], _bits(column)[which]
                if columns.seq_reset.true_count:
                    # one that begins anew and names nothing before it: what was before cannot be held against it
                    anew = ~there & columns.seq_reset.to_numpy(zero_copy_only=False)[which]
                    numbers = np.where(anew, seq[chosen], numbers)
                    there |= anew
                    begun = np.zeros(len(seq), np.bool_) if begun is None else begun
                    begun[chosen] = anew
                found[chosen] = numbers
                if named is not None:
                    named[chosen] = there
                if (negative := _below(column, which)).any():
                    below = np.zeros(len(seq), np.bool_) if below is None else below
                    below[chosen] = known(column)[which] & negative
                if not there.all():
                    link[chosen[follows[chosen] & ~there]] = Link.UNLINKED
                    follows[chosen] &= there
            under = False if below is None else below[chosen]
            if rule is SequenceRule.PREVIOUS:
                broken[chosen] = (found[chosen] != before) | under
                continue
            # what comes after the largest number wraps around, and is never found
            after, numbers, largest = before + _ONE, found[chosen], before == UINT64_MAX
            fits = (numbers == after) & ~largest if below is None else (numbers == after) & ~under & ~largest
            overlaps = self._overlap[channels[chosen]]
            if overlaps.any():
                fits |= overlaps & ((numbers <= after) | under) & (seq[chosen] >= after) & ~largest
            broken[chosen] = ~fits
        if self._repeats.any():
            broken &= ~(self._repeats[channels] & (seq == last))
        if begun is not None:
            broken |= begun
        broken &= follows
        if direct is not None:
            link[(link == Link.COMPARED) & ~direct] = Link.AFTER_UNNUMBERED

        reported: list[SequenceGap] = []
        if broken.any():
            gaps = np.flatnonzero(broken)
            gaps = gaps[np.argsort(rows[gaps])]
            signed = found[gaps].tolist()
            if below is not None:
                signed = [
                    number - (1 << 64) if negative else number
                    for number, negative in zip(signed, below[gaps].tolist(), strict=True)
                ]
            of_each = zip(*(of[gaps].tolist() for of in (rows, channels, last, seq)), signed, strict=True)
            reported = [self._gap(columns, index, int(conns[index]), *numbers) for index, *numbers in of_each]
            link[gaps] = [Link.RESET if gap.what is Break.RESET else Link.COMPARED for gap in reported]
        if named is not None:
            says = named if below is None else named & ~below
            first = 0 if where is None else where.first
            reported += self._begin(columns, conns, first, rows, channels, keys, found, says, firsts)
            reported.sort(key=lambda gap: gap.index)
        links[rows] = link
        if self._reports_runs:
            runs[rows] = self._numbered_runs(keys, (link != Link.COMPARED) | broken)
        return Checked(reported, links, runs)

    def seed(self, rows: pa.RecordBatch) -> None:
        """Remember the numbers of messages that were checked before, in order: the next ones follow them.

        Args:
            rows: their `seq`, `conn`, `handoff_monotonic`, `channel`, `symbol` and `exchange_seq`.

        """
        conns, seq = rows.column("conn").to_numpy(), rows.column("exchange_seq")
        channels, symbols = self._members_of(rows.column("channel"), rows.column("symbol"))
        counted = np.flatnonzero((channels > 0) & known(seq))
        if self._late_rule is not None:
            places = rows.column("seq").to_numpy(), rows.column("handoff_monotonic").to_numpy()
            for index in counted.tolist():
                # which of them came late is not known any more: each may have
                state = self._late_of(int(conns[index]))
                row, time = (int(of[index]) for of in places)
                state.add(int(_bits(seq)[index]), row, time, False, lambda: True)
        elif counted.size:
            order, keys = self._group(conns[counted], channels[counted], symbols[counted])
            self._follow(keys, _bits(seq)[counted[order]])

    def reset(self, conn: int) -> list[SequenceGap]:
        """Forget a connection's numbers: it reconnected, and the interval between is recorded as lost.

        Returns:
            what was passed over on it and did not come, where messages may come late; `index` is the `seq` of the row.

        """
        ended = self.late.pop(conn, None)
        gaps = [] if ended is None else [self._missed(conn, miss) for miss in ended.end()]
        kept = self._keys >> _CONN_SHIFT != conn
        kept[-1] = True
        if self._joints.of(conn):
            own = self._keys[~kept] & _STREAM
            joins = self._joins[own >> _CHANNEL_SHIFT]
            self._joints.ends(conn, dict(zip(own[joins].tolist(), self._last[~kept][joins].tolist(), strict=True)))
        self._keys, self._last = self._keys[kept], self._last[kept]
        self._whole, self._run = self._whole[kept], self._run[kept]
        return gaps

    def replaced(self, old: int, new: int) -> list[SequenceGap]:
        """A connection has taken the place of another, which has ended (`reset`): what of their numbers does not join.

        What has not come on the new one yet is held against the old one's last number when it comes.

        Returns:
            the first messages on the new one that lie too far on; `index` is the `seq` of the row.

        """
        return [self._unjoined(found, found.first.row) for found in self._joints.replaced(old, new)]

    def forget_ends(self) -> None:
        """What connections brought first and last is not known any more: rows in between are not there."""
        self._joints.forget()

    def _begin(
        self,
        columns: FieldColumns,
        conns: npt.NDArray[np.uint16],
        first: int,
        rows: npt.NDArray[np.intp],
        channels: Int64s,
        keys: Int64s,
        found: Uint64s,
        says: Flags,
        firsts: npt.NDArray[np.intp],
    ) -> list[SequenceGap]:
        """Hold the first messages of streams against the last ones on the connections whose place theirs took."""
        gaps = []
        for place in firsts[self._joins[channels[firsts]]].tolist():
            row, number = int(rows[place]), int(found[place])
            conn = int(conns[row])
            if not self._joints.of(conn):
                continue
            anew = columns.seq_reset[row].as_py() or number in self._rules[int(channels[place])].beginnings
            came = First(number if says[place] and not anew else None, first + row)
            broken = self._joints.begins(conn, int(keys[place]) & _STREAM, self._adjusted(came, int(channels[place])))
            if broken is not None:
                gaps.append(self._unjoined(broken, row))
        return gaps

    def _adjusted(self, first: First, channel: int) -> First:
        """With the number that it follows: `previous` names it, the other rules the one behind it."""
        if first.found is None or self._rules[channel].rule is SequenceRule.PREVIOUS:
            return first
        return first._replace(found=first.found - 1)

    def _unjoined(self, broken: Unjoined, index: int) -> SequenceGap:
        channel, symbol = broken.stream >> _CHANNEL_SHIFT, broken.stream & _SYMBOL
        rule = self._rules[channel].rule
        assert broken.first.found is not None
        behind = 0 if rule is SequenceRule.PREVIOUS else 1
        return SequenceGap(
            index,
            broken.new,
            self._channel_names[channel],
            self._symbol_names()[symbol] if symbol else None,
            rule,
            broken.last + behind,
            broken.first.found + behind,
            broken.first.found - broken.last if behind else None,
            Break.MISSING,
            SequenceScope.SYMBOL,
            from_conn=broken.old,
        )

    def _symbol_names(self) -> dict[int, str]:
        return {number: name for name, number in self._symbol_numbers.items()}

    def _late_of(self, conn: int) -> LateSequence:
        state = self.late.get(conn)
        if state is None:
            assert self._late_rule is not None
            state = self.late[conn] = LateSequence(self._late_rule.within, self._rules[1].beginnings)
        return state

    def _check_late(self, conns: npt.NDArray[np.uint16], columns: FieldColumns, where: Rows) -> Checked:
        rule = self._late_rule
        assert rule is not None
        links, runs = np.zeros(len(conns), np.uint8), np.zeros(len(conns), np.int64)
        numbered = known(columns.exchange_seq)
        rows = np.flatnonzero(numbered | known(columns.channel.indices))
        rows = rows[np.argsort(conns[rows], kind="stable")]
        owners = conns[rows]
        bits, gaps = _bits(columns.exchange_seq), []
        is_late = partial(_is_late, where.payload, rule.where)
        for every in np.split(rows, np.flatnonzero(owners[1:] != owners[:-1]) + 1) if rows.size else ():
            conn = int(conns[every[0]])
            state, counted = self._late_of(conn), numbered[every]
            part, seq = every[counted], bits[every[counted]]
            direct = np.concatenate(([state.whole], counted[:-1]))[counted]
            state.whole = bool(counted[-1])
            links[every[~counted]] = Link.UNNUMBERED
            links[part] = np.where(direct, np.uint8(Link.COMPARED), np.uint8(Link.AFTER_UNNUMBERED))
            if not len(part):
                continue
            if state.run is None:
                links[part[0]] = Link.FIRST
            # from where on another run begins: what is behind it was not held against what was before
            opens = (
                np.flatnonzero(~direct).tolist() if state.run is not None else [0, *np.flatnonzero(~direct).tolist()]
            )
            if not state.goes_on(seq, where.times[part], (is_late(int(row)) for row in part[::-1])):
                for place, (index, number) in enumerate(zip(part.tolist(), seq.tolist(), strict=True)):
                    found = state.add(
                        number,
                        where.first + index,
                        int(where.times[index]),
                        columns.seq_reset[index].as_py(),
                        partial(is_late, index),
                    )
                    gaps += [self._missed(conn, miss, where.first, index) for miss in found]
                    if found:
                        opens.append(place)
                    if any(miss.what == Break.RESET for miss in found):
                        links[index] = Link.RESET
                state.in_turn()
            starts = np.zeros(len(part), np.int64)
            starts[opens] = 1
            numbers = np.cumsum(starts)
            runs[part] = np.where(numbers > 0, self._runs + numbers, state.run or 0)
            self._runs += int(numbers[-1])
            state.run = int(runs[part[-1]])
        return Checked(sorted(gaps, key=lambda gap: gap.at), links, runs)

    def _missed(self, conn: int, miss: Miss, first: int = 0, decided: int | None = None) -> SequenceGap:
        scope = SequenceScope.CONNECTION
        return SequenceGap(
            miss.row - first,
            conn,
            None,
            None,
            SequenceRule.NEXT,
            miss.expected,
            miss.found,
            miss.missing,
            Break(miss.what),
            scope,
            decided=None if decided == miss.row - first else decided,
            since=miss.since,
        )

    def _members_of(self, channel: pa.DictionaryArray, symbol: pa.DictionaryArray) -> tuple[Int64s, Int64s]:
        """The numbers of each message's channel and symbol, as far as they tell successions apart; channel 0: none."""
        if self._by_connection:
            same = np.ones(len(channel), np.int64)
            return same, same
        channels, symbols = self._channels.of(channel), self._symbols.of(symbol)
        if not self._by_symbol.all():
            symbols = np.where(self._by_symbol[channels], symbols, 0)
        return channels, symbols

    def _forget(self) -> None:
        self._joints.forget()
        numbers: dict[str, int] = {}
        self._symbol_numbers = numbers
        self._symbols = Numbers(lambda name: numbers.setdefault(name, len(numbers) + 1))
        # in order; the last one is above all keys, so that a search always ends at one
        self._keys = np.array([INT64_MAX])
        self._last = np.zeros(1, np.uint64)
        # whether the last message of each had a number, and the run that it belongs to
        self._whole = np.array([True])
        self._run = np.array([0])

    def _group(self, conns: npt.NDArray[Any], channels: Int64s, symbols: Int64s) -> tuple[npt.NDArray[np.intp], Int64s]:
        """The order that brings messages of a key together, first come first, and the keys in this order."""
        conns = conns.astype(np.int64)
        keys = stream_keys(conns, channels, symbols)
        # The same order by smaller numbers, sorted by 16 bits at a time from the lowest: which takes linear time.
        wide = len(self._symbol_numbers) + 1
        left = (conns * len(self._rules) + channels) * wide + symbols
        order = np.argsort(left.astype(np.uint16), kind="stable")
        while (left := left >> 16).any():
            order = order[np.argsort(left[order].astype(np.uint16), kind="stable")]
        return order, keys[order]

    def _follow(self, keys: Int64s, seq: Uint64s) -> tuple[Uint64s, Flags]:
        """The number before each, and whether there is one; the last of each key is remembered."""
        if not len(keys):
            return seq.copy(), np.zeros(0, np.bool_)
        begins = _begins(keys)
        last, follows = np.empty_like(seq), np.ones(len(seq), np.bool_)
        last[1:] = seq[:-1]
        groups = keys[begins]
        places = np.searchsorted(self._keys, groups)
        known = self._keys[places] == groups
        last[begins], follows[begins] = self._last[places], known
        newest = seq[_ends(begins, len(seq))]
        self._last[places[known]] = newest[known]
        if not known.all():
            self._keys = np.insert(self._keys, places[~known], groups[~known])
            self._last = np.insert(self._last, places[~known], newest[~known])
            self._whole = np.insert(self._whole, places[~known], True)
            self._run = np.insert(self._run, places[~known], 0)
        return last, follows

    def _direct(self, keys: Int64s, numbered: Flags) -> tuple[Flags, tuple[Int64s, Flags]]:
        """Whether each numbered message comes directly behind a numbered one; and whether the last of each key is."""
        begins = _begins(keys)
        groups = keys[begins]
        places = np.searchsorted(self._keys, groups)
        known = self._keys[places] == groups
        before = np.concatenate(([True], numbered[:-1]))
        before[begins] = np.where(known, self._whole[places], True)
        return before[numbered], (groups, numbered[_ends(begins, len(keys))])

    def _remember_ends(self, keys: Int64s, numbered: Flags) -> None:
        """Whether the last message of each key had a number; of a key that never had one nothing is remembered."""
        places = np.searchsorted(self._keys, keys)
        known = self._keys[places] == keys
        self._whole[places[known]] = numbered[known]

    def _numbered_runs(self, keys: Int64s, opens: Flags) -> Int64s:
        """The run of each message, in the order of their keys, where `opens` says which begin one."""
        if not len(keys):
            return keys
        begins = _begins(keys)
        starts = opens.copy()
        starts[begins] = True
        of = np.cumsum(starts) - 1
        runs = self._runs + 1 + np.arange(int(of[-1]) + 1)
        self._runs += len(runs)
        places = np.searchsorted(self._keys, keys[begins])
        goes_on = ~opens[begins]
        runs[of[begins[goes_on]]] = self._run[places[goes_on]]
        found: Int64s = runs[of]
        self._run[places] = found[_ends(begins, len(keys))]
        return found

    def _gap(
        self, columns: FieldColumns, index: int, conn: int, channel: int, last: int, seq: int, found: int
    ) -> SequenceGap:
        checked = self._rules[channel]
        rule = checked.rule
        expected = last if rule is SequenceRule.PREVIOUS else last + 1
        what = Break.MISSING if found > expected else Break.REPEATED if seq == last else Break.BACK
        if found in checked.beginnings or columns.seq_reset[index].as_py():
            what = Break.RESET
        counted = rule in (SequenceRule.NEXT, SequenceRule.TOUCHING) and what is Break.MISSING
        return SequenceGap(
            index,
            conn,
            None if checked.scope is SequenceScope.CONNECTION else columns.channel[index].as_py(),
            columns.symbol[index].as_py() if checked.scope is SequenceScope.SYMBOL else None,
            rule,
            expected,
            found,
            found - expected if counted else None,
            what,
            checked.scope,
        )


def _is_late(payload: pa.Array, where: Mapping[str, tuple[str, ...]], index: int) -> bool:
    return says(payload[index].as_py(), where)


def _checked(channel: Channel) -> _Rule:
    scope = SequenceScope(channel.sequence_scope)
    return _Rule(channel.sequence, scope, channel.overlap, channel.repeats, _beginnings(channel.resets))


def _beginnings(resets: Resets | None) -> frozenset[int]:
    return frozenset(resets.numbers if resets else ())


def _begins(keys: Int64s) -> npt.NDArray[np.intp]:
    """Where keys that stand together begin."""
    begins = np.empty(len(keys), np.bool_)
    begins[0] = True
    np.not_equal(keys[1:], keys[:-1], out=begins[1:])
    return where_set(begins)


def _ends(begins: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    """Where the last of each stands."""
    ends = np.empty_like(begins)
    ends[:-1] = begins[1:]
    ends[-1] = count
    ends -= 1
    return ends


def stream_keys(conn: Any, channel: Any, symbol: Any) -> Any:
    """The key of a connection, channel and symbol, each by its number: an int64, in their order."""
    return conn << _CONN_SHIFT | channel << _CHANNEL_SHIFT | symbol


class Numbers:
    """Lasting numbers of the names in a dictionary column, whose own codes may change from batch to batch.

    Args:
        number: the number of a name, above 0; 0: of no interest.

    """

    def __init__(self, number: Callable[[str], int]) -> None:
        self._number = number
        self._dictionary = pa.array([], pa.string())
        # the last one is that of null, whose code is made -1
        self._numbers: Int64s = np.zeros(1, np.int64)

    def of(self, column: pa.DictionaryArray) -> Int64s:
        """The number of each value; 0 for null."""
        dictionary, old = column.dictionary, self._dictionary
        if not dictionary.equals(old):
            # mostly the same, and some more
            same = len(old) if dictionary[: len(old)].equals(old) else 0
            new = [self._number(name) for name in dictionary[same:].to_pylist()]
            self._numbers = np.concatenate((self._numbers[:same], np.array([*new, 0], np.int64)))
            self._dictionary = dictionary
        # a code is never out of bounds: what wraps around is that of null
        numbers: Int64s = self._numbers.take(codes(column, -1), mode="wrap")
        return numbers


def _bits(column: pa.Array) -> Uint64s:
    """The lower 64 bits of numbers (two's complement), where they are unsigned or decimals; anything where null."""
    if pa.types.is_decimal(column.type):
        return _halves(column)[:, 0]
    return values(column)


def _below(column: pa.Array, places: npt.NDArray[np.intp]) -> Flags:
    """Which of the decimals at some places are below 0."""
    below: Flags = _halves(column)[places, 1].view(np.int64) < 0
    return below


def _halves(column: pa.Array) -> Uint64s:
    """Decimals of 128 bits as their lower and upper half."""
    flat = np.frombuffer(column.buffers()[1], np.uint64, 2 * (column.offset + len(column)))
    return flat.reshape(-1, 2)[column.offset :]
