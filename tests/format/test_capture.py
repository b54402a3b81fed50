"""wsrec.format.capture: which files belong to a capture and what they say of themselves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wsrec.format.capture import events_beside, message_files, metadata, open_messages
from wsrec.format.errors import CaptureError, NoCaptureError
from wsrec.format.schema import MESSAGE_SCHEMA
from wsrec.format.version import FORMAT_VERSION

NAME = "feed=binance/date=2026-11-22/hour=13/s-000001.parquet"


def write(path: Path, schema: pa.Schema = MESSAGE_SCHEMA, **about: object) -> Path:
    """An empty message file."""
    about = {"format_version": FORMAT_VERSION, **about}
    encoded = {f"wsrec.{key}": json.dumps(value) for key, value in about.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(schema.with_metadata(encoded).empty_table(), path)
    return path


class TestMessageFiles:
    def test_a_folder_is_searched_without_events_and_hidden_folders(self, tmp_path: Path) -> None:
        messages = write(tmp_path / "messages" / NAME)
        write(tmp_path / "events" / NAME)
        write(tmp_path / ".wsrec" / "s" / "x.parquet")
        write(tmp_path / "messages" / ".tmp-s-000002.parquet")
        assert message_files([tmp_path]) == [messages]

    def test_files_folders_and_patterns_together_name_each_file_once(self, tmp_path: Path) -> None:
        one = write(tmp_path / "messages" / NAME)
        two = write(tmp_path / "messages" / NAME.replace("000001", "000002"))
        assert message_files([one, tmp_path, f"{tmp_path}/**/*.parquet"]) == [one, two]

    def test_a_hidden_parent_of_the_folder_itself_does_not_count(self, tmp_path: Path) -> None:
        messages = write(tmp_path / ".cache" / "messages" / NAME)
        assert message_files([tmp_path / ".cache"]) == [messages]

    @pytest.mark.parametrize("source", ["nowhere", "*.parquet"])
    def test_what_names_nothing_is_an_error_that_names_it(self, tmp_path: Path, source: str) -> None:
        with pytest.raises(CaptureError, match="does not exist"):
            message_files([tmp_path / source])

    def test_a_folder_without_messages_is_an_error(self, tmp_path: Path) -> None:
        write(tmp_path / "events" / NAME)
        with pytest.raises(NoCaptureError, match="holds no capture"):
            message_files([tmp_path])

    def test_a_folder_with_a_journal_is_being_recorded_to_or_was(self, tmp_path: Path) -> None:
        session = tmp_path / ".wsrec" / "s"
        session.mkdir(parents=True)
        with pytest.raises(NoCaptureError, match="holds a capture without messages"):
            message_files([tmp_path])
        (session / "journal-000001.arrows").write_bytes(b"")
        with pytest.raises(NoCaptureError) as caught:
            message_files([tmp_path])
        for words in ("in progress", "interrupted", "when it ends or at its next rotation", "`wsrec recover`"):
            assert words in str(caught.value)
        messages = write(tmp_path / "messages" / NAME)
        assert message_files([tmp_path]) == [messages]


class TestOpenMessages:
    def test_metadata_is_decoded(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.parquet", feed="binance", gaps=None, host={"name": "tokyo1"})
        with open_messages(path) as file:
            about = metadata(file)
        assert about == {"format_version": FORMAT_VERSION, "feed": "binance", "gaps": None, "host": {"name": "tokyo1"}}

    @pytest.mark.parametrize("keep", [0, 3, 200, -1])
    def test_a_damaged_file_is_named_with_the_hint(self, tmp_path: Path, keep: int) -> None:
        path = write(tmp_path / "a.parquet")
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(CaptureError, match=r"a\.parquet: not readable as Parquet .* set the file aside"):
            open_messages(path)

    def test_a_foreign_file_names_the_missing_column(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"price": [1.0]}), tmp_path / "a.parquet")
        with pytest.raises(CaptureError, match=r"not a message file of wsrec .no column `seq`"):
            open_messages(tmp_path / "a.parquet")

    def test_a_later_format_is_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.parquet", format_version=99)
        with pytest.raises(CaptureError, match="format version 99"):
            open_messages(path)

    def test_further_columns_do_no_harm(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.parquet", MESSAGE_SCHEMA.append(pa.field("later", pa.int8())))
        open_messages(path).close()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read_is_named(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.parquet")
        path.chmod(0)
        with pytest.raises(CaptureError, match=r"a\.parquet"):
            open_messages(path)


class TestEventsBeside:
    def test_the_file_of_the_same_name_below_events(self, tmp_path: Path) -> None:
        messages = write(tmp_path / "messages" / NAME)
        assert events_beside(messages) is None
        events = write(tmp_path / "events" / NAME)
        assert events_beside(messages) == events

    def test_the_last_folder_called_messages_counts(self, tmp_path: Path) -> None:
        messages = write(tmp_path / "messages" / "run" / "messages" / NAME)
        events = write(tmp_path / "messages" / "run" / "events" / NAME)
        assert events_beside(messages) == events

    def test_none_outside_a_captures_layout(self, tmp_path: Path) -> None:
        assert events_beside(write(tmp_path / "a.parquet")) is None
