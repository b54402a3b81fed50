"""File metadata: one struct, whose fields are the keys and whose descriptions appear in docs/reference/format.md.

Each value is stored in the Parquet file's own metadata as JSON, under `wsrec.` and the key. What describes the session
takes many times the bytes of an hour's events, so that an events file leaves it to the message file of the same name
(`encode_events`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import Meta

from wsrec.counts import Counts
from wsrec.format.ledger import Ledger
from wsrec.format.stored_json import decode_stored

METADATA_PREFIX = "wsrec."

OF_ROWS = ("stages", "segments", "sorted_blocks")
"""Keys about the rows of messages, which only message files have."""
OF_SESSION = ("feed_config", "ids", "scheduling", "connections")
"""Keys that an events file has only if it is its session's first, or has no message file beside it."""


class FileMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Metadata of a message file, and of the events file of its pair as far as that has them."""

    format_version: Annotated[int, Meta(description="version of this format")]
    wsrec_version: Annotated[
        str,
        Meta(
            description="version of the recorder, with its commit if that is known: `0.3.0 (2aac60e91)`, or "
            "`0.3.0 (2aac60e91, changed)` if its source had changes that are in no commit"
        ),
    ] = ""
    session: Annotated[str, Meta(description="the session's id, unique to one writer of one run")]
    feed: Annotated[str, Meta(description="the feed's name")]
    feed_config: Annotated[
        dict[str, Any], Meta(description="the feed's configuration that was used, secrets removed")
    ] = {}
    feed_config_sha256: Annotated[str, Meta(description="its hash")] = ""
    ids: Annotated[
        dict[Any, Any],
        Meta(description="meaning of ids at the end of the file, by connection and id (the feed's `fields.ids`)"),
    ] = {}
    host: Annotated[dict[str, Any], Meta(description="host name, kernel, machine and processor model")] = {}
    scheduling: Annotated[
        dict[str, Any],
        Meta(
            description="of receiver and writer: affinity, policy, locked memory; of a receiver `hot_path`, `waiting`"
        ),
    ] = {}
    connections: Annotated[
        list[dict[str, Any]],
        Meta(
            description="each connection: number, URL without secrets, TLS mode (why not `ktls`), version, cipher, "
            "compression, standby_of; `requested_by_url` (topics) and `requests` (number, topics); of a topic `topic`, "
            "`channel`, `symbol`, `key` (its name in acknowledgements, if not `topic`)"
        ),
    ] = []
    clock: Annotated[
        dict[str, Any],
        Meta(
            description="the `clock` of stages 2 to 6; since the session began: `anchors`, `widest_bracket_ns`, "
            "`largest_drift_ns`, `steps`; `utc_bound_ns`: largest error of UTC in this file's stages 2 to 6"
        ),
    ] = {}
    stages: Annotated[
        dict[str, Any],
        Meta(
            description="of this file's received rows, those `first` in their read and those `behind` others: a "
            "latency histogram for each step between two stages; how many stamps of stage 1 are `after_read`, that is "
            "after RECV_END, and the `latest` by how much (ns)"
        ),
    ] = {}
    stage1: Annotated[
        dict[str, int], Meta(description="rows by source of stage 1, and by the reason if it is null")
    ] = {}
    segments: Annotated[
        dict[str, Any],
        Meta(
            description="with `--segments`, of this file's rows: a histogram each of `nic_to_read_stamp` and "
            "`first_segment_to_nic`, without rows whose `segment_order` is `repeated`, and the number of rows by "
            "`segment_order`"
        ),
    ] = {}
    rows: Annotated[int, Meta(description="rows in this file")] = 0
    events: Annotated[int, Meta(description="rows in the events file of its pair; 0: there is none")] = 0
    first_seq: Annotated[int | None, Meta(description="`seq` of the first row")] = None
    last_seq: Annotated[int | None, Meta(description="`seq` of the last row")] = None
    counts: Annotated[Counts, Meta(description="counts of this file and its pair: [the counters](#counters)")] = (
        Counts()
    )
    gaps_checked: Annotated[
        bool, Meta(description="whether the feed declares a rule or a checksum that reveals gaps")
    ] = False
    checked_from: Annotated[
        int,
        Meta(
            description="number of the session's first file with rows that the gap checks of this file could compare "
            "its rows with: an earlier writer checked those before; 0: all of them"
        ),
    ] = 0
    next_slot: Annotated[
        int | None,
        Meta(
            description="for the writer: the slot ring's count of the first slot that is in no file of the session yet"
        ),
    ] = None
    sorted_blocks: Annotated[
        list[int],
        Meta(
            description="of a file of `wsrec compact`: how many row groups each block has, in which rows are sorted by "
            "`channel`, `symbol` and `seq`; empty: all rows are in order of hand-off, which is that of `seq`"
        ),
    ] = []
    ledger: Annotated[
        Ledger,
        Meta(description="what this file took from the rings, and what became of it: [the ledger](#the-ledger)"),
    ] = Ledger()

    def encode(self) -> dict[str, str]:
        """The metadata as a message file keeps them."""
        return self._encoded(without=())

    def encode_events(self, *, brief: bool) -> dict[str, str]:
        """The metadata as an events file keeps them; `brief`: without those of the session (`OF_SESSION`)."""
        return self._encoded(without=(*OF_ROWS, *OF_SESSION) if brief else OF_ROWS)

    def _encoded(self, without: Collection[str]) -> dict[str, str]:
        return {
            METADATA_PREFIX + key: msgspec.json.encode(getattr(self, key)).decode()
            for key in self.__struct_fields__
            if key not in without
        }


METADATA_KEYS: dict[str, str] = {
    key: hint.__metadata__[0].description for key, hint in get_type_hints(FileMetadata, include_extras=True).items()
}
"""Each key with its description."""


def stated_version(pairs: dict[bytes, bytes] | None) -> int | str | None:
    """The format version in a Parquet file's metadata; None if there is none.

    Earlier files have it as text, and before version 5 under the key `schema_version`.
    """
    for key in ("format_version", "schema_version"):
        try:
            value = decode_stored((pairs or {})[f"{METADATA_PREFIX}{key}".encode()])
        except (KeyError, msgspec.DecodeError):
            continue
        if isinstance(value, str | int):
            return value
    return None


def raw_metadata(pairs: dict[bytes, bytes] | None) -> dict[str, Any]:
    """wsrec's own keys of a Parquet file's metadata, decoded but not validated.

    Raises:
        ValueError: a value is not JSON.

    """
    prefix = METADATA_PREFIX.encode()
    try:
        return {
            key.removeprefix(prefix).decode(): decode_stored(value)
            for key, value in (pairs or {}).items()
            if key.startswith(prefix)
        }
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error


def read_metadata(pairs: dict[bytes, bytes] | None) -> FileMetadata:
    """The metadata of a Parquet file.

    Raises:
        ValueError: they do not fit this version.

    """
    try:
        return msgspec.convert(raw_metadata(pairs), FileMetadata)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
