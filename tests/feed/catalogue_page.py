"""The tables of docs/reference/catalogue.md: every feed of the catalogue, and what each reads of the real messages."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from wsrec.decode.places import row_places
from wsrec.feed.load import catalogue, find_feed
from wsrec.feed.schema import Feed
from wsrec.feed.sequence_rules import SequenceRule
from wsrec.feed.table_columns import Table
from wsrec.monitor.samples import Reading, Sample, read_samples

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "catalogue.md"
MESSAGES = ROOT.parent / "shared" / "data" / "messages"
FEEDS_HEAD = (
    "| feed | market | channels | keep-alive | gap rule | samples | symbol | time | seq |\n" + "| --- " * 9 + "|\n"
)
RULES_HEAD = "| feed | channels | rule | pairs held of pairs seen, and source |\n" + "| --- " * 4 + "|\n"
TABLES_HEAD = "| feed | table | channels |\n" + "| --- " * 3 + "|\n"
FILES_HEAD = "| message | read by | channel | missing |\n" + "| --- " * 4 + "|\n"
# columns of the first table that need the messages
_COUNTED = 4
_TABLES = {
    "funding_rate": "funding",
    "instrument": "instrument",
    "instrument_index_update": "instrument",
    "instrument_mark_update": "instrument",
    "liquidation": "liquidation",
    "orderbook_10": "orderBook10",
    "orderbook_l2": "orderBookL2",
    "quote": "quote",
    "trade": "trade",
    "trade_bin_1m": "tradeBin1m",
}
# Their keepers took these out of the messages, which name the channel: put back, as the exchange documents it
ENVELOPES = {
    "binance/kline_stream_closed": '{"stream":"btcusdt@kline_1m","data":%s}',
    "binance/kline_stream_open": '{"stream":"btcusdt@kline_1m","data":%s}',
    "binance/mark_price_stream": '{"stream":"btcusdt@markPrice","data":%s}',
    **{f"bitmex/ws_{file}": f'{{"table":"{table}","action":"insert","data":[%s]}}' for file, table in _TABLES.items()},
    "hyperliquid/ws_book_data": '{"channel":"l2Book","data":%s}',
    "okx/ws_opt_summary": '{"arg":{"channel":"opt-summary","instFamily":"BTC-USD"},"data":%s}',
}
REASONS = {
    "bybit/ws_public_trade": "its topic is not v5's `publicTrade.BTCUSDT`",
    **{f"kraken/ws_l3_{kind}": "level 3 needs an account" for kind in ("snapshot", "update_add", "update_delete")},
    **{f"kraken/ws_l3_update_modify_{kind}": "level 3 needs an account" for kind in ("price", "qty")},
    "kraken/ws_pong": "answer to our ping",
}
FIELDS = ("symbol", "exchange_time", "exchange_seq")


feed_of = cache(find_feed)


class File(NamedTuple):
    """A message of an exchange.

    Attributes:
        name: its folder and name.
        feeds: feeds of the catalogue of which it is a channel's message, and what each reads of it.
        reason: why no feed reads it; else empty.

    """

    name: str
    feeds: dict[str, Reading]
    reason: str


def files() -> list[File]:
    """Every message beside the project, read by all feeds that are named after its folder."""
    feeds = {name: feed_of(name) for name in catalogue()}
    return [_file(path, feeds) for path in sorted(MESSAGES.rglob("*.json"))]


def feeds_table(page: str, read: list[File]) -> str:
    """A row a feed; without messages beside the project, what stands in the page of them is kept."""
    kept = {row[0]: row[-_COUNTED:] for row in _rows(page, FEEDS_HEAD)}
    lines = []
    for name in catalogue():
        feed = feed_of(name)
        mine = [file.feeds[name] for file in read if name in file.feeds]
        counts = [str(len(mine)), *(str(sum(getattr(r, field) is not None for r in mine)) for field in FIELDS)]
        if not MESSAGES.exists():
            counts = kept.get(f"`{name}`", ["-"] * _COUNTED)
        market = f"{feed.description} (closed {feed.closed.date})" if feed.closed else feed.description
        cells = [f"`{name}`", market, _channels(feed), _keep_alive(feed), _gaps(feed), *counts]
        lines.append(_row(cells))
    return FEEDS_HEAD + "".join(lines)


def rules_table() -> str:
    """A row for each sequence rule of a feed and what bears it out; channels that have both alike share it."""
    lines = []
    for name in catalogue():
        feed = feed_of(name)
        rules: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        if feed.sequence is not None:
            rules[SequenceRule.NEXT.value, tuple(map(str, feed.sequence.evidence))] = ["all of a connection"]
        for key, channel in feed.channels.items():
            if channel.sequence is not SequenceRule.NONE:
                rules.setdefault((channel.sequence.value, tuple(map(str, channel.evidence))), []).append(f"`{key}`")
        for (rule, evidence), channels in rules.items():
            lines.append(_row([f"`{name}`", ", ".join(channels), rule, "; ".join(evidence) or "unverified"]))
    return RULES_HEAD + "".join(lines)


def tables_table() -> str:
    """A row for each table that a feed's channels make."""
    lines = []
    for name in catalogue():
        feed = feed_of(name)
        for table in Table:
            channels = ", ".join(f"`{key}`" for key in feed.channels if table in feed.table_names(key))
            if channels:
                lines.append(_row([f"`{name}`", table, channels]))
    return TABLES_HEAD + "".join(lines)


def files_table(page: str, read: list[File]) -> str:
    """A row a message; without messages beside the project, the page's."""
    if not MESSAGES.exists():
        return FILES_HEAD + "".join(_row(cells) for cells in _rows(page, FILES_HEAD))
    lines = []
    for file in read:
        by = ", ".join(f"`{name}`" for name in file.feeds) or "-"
        channel = _best(file)[1].channel or "-" if file.feeds else "-"
        remarks = [file.reason or _absent(file)]
        if not file.feeds and file.name in REASONS:
            remarks.append(REASONS[file.name])
        if file.name in ENVELOPES:
            remarks.append("kept without the message around it: put back for the reading")
        lines.append(_row([file.name, by, channel, "; ".join(filter(None, remarks))]))
    return FILES_HEAD + "".join(lines)


def updated(page: str) -> str:
    """The page with its tables made anew."""
    read = files() if MESSAGES.exists() else []
    tables = (
        (FEEDS_HEAD, feeds_table(page, read)),
        (RULES_HEAD, rules_table()),
        (TABLES_HEAD, tables_table()),
        (FILES_HEAD, files_table(page, read)),
    )
    for head, table in tables:
        page = re.sub(re.escape(head) + r"(\|.*\n)*", lambda _, t=table: t, page)
    return page


def _file(path: Path, feeds: dict[str, Feed]) -> File:
    folder = path.parent.name
    name = f"{folder}/{path.stem}"
    sample = Sample(path.name, (ENVELOPES.get(name, "%s") % path.read_text()).encode())
    related = {feed: feeds[feed] for feed in feeds if feed == folder or feed.startswith(f"{folder}-")}
    if not related:
        return File(name, {}, f"no feed of the catalogue is of {folder}")
    readings = {feed: read_samples(found, [sample])[0] for feed, found in related.items()}
    taken = {feed: r for feed, r in readings.items() if r.channel in related[feed].channel_by_any_name}
    if taken:
        return File(name, taken, "")
    role = next((reading.role for reading in readings.values() if reading.role), "")
    if role:
        return File(name, {}, f"{role}: of no channel")
    channel = next((reading.channel for reading in readings.values() if reading.channel), None)
    return File(name, {}, f"of no channel in the catalogue: `{channel}`" if channel else "without a channel's name")


def _absent(file: File) -> str:
    """What the reading is without, and whether the feed says where it should be."""
    found = []
    name, reading = _best(file)
    feed = feed_of(name)
    places = row_places(feed, feed.channel_by_any_name[reading.channel or ""])
    declared = {"symbol": places.symbol, "exchange_time": places.time, "exchange_seq": places.seq}
    for field in FIELDS:
        if getattr(reading, field) is None:
            found.append(f"{field}: {'not in this message' if declared[field] else 'the channel has none'}")
    return "; ".join(found)


def _best(file: File) -> tuple[str, Reading]:
    """The feed that reads most of it."""
    return max(file.feeds.items(), key=lambda each: sum(getattr(each[1], field) is not None for field in FIELDS))


def _channels(feed: Feed) -> str:
    return ", ".join(sorted({channel.common for channel in feed.channels.values() if channel.common}))


def _keep_alive(feed: Feed) -> str:
    keep_alive = feed.keep_alive
    if keep_alive is None or (keep_alive.every is None and not keep_alive.answers):
        return "answers pings"
    stated = []
    if keep_alive.every is not None:
        stated.append(f"{f'`{keep_alive.text}`' if keep_alive.text else 'ping'} every {keep_alive.every:g} s")
    stated += [f"answers `{answer.match or answer.path or answer.message}`" for answer in keep_alive.answers]
    return "; ".join(stated)


def _gaps(feed: Feed) -> str:
    if feed.sequence is not None:
        return "all messages of a connection: next"
    rules = {
        channel.common: channel.sequence.value
        for channel in feed.channels.values()
        if channel.common and channel.sequence is not SequenceRule.NONE
    }
    return "; ".join(f"{common}: {rule}" for common, rule in sorted(rules.items())) or "none"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _rows(page: str, head: str) -> list[list[str]]:
    """The cells of a table in the page."""
    _, _, rest = page.partition(head)
    table = re.match(r"(\|.*\n)*", rest)
    lines = table[0].splitlines() if table else []
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]] for line in lines]
