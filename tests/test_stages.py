"""wsrec.stages, and docs/explanation/stages.md against it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from wsrec.format.schema import MESSAGE_SCHEMA, SEGMENT_COLUMNS
from wsrec.format.stage_times import DERIVED_SCHEMA, message_field
from wsrec.stages import EVENT, HANDOFF, NIC, STAGES, STAMPED_WORDS, STEPS, TOTAL, StampSource

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "stages.md"


def stage_table() -> str:
    """The table of stages as docs/explanation/stages.md has it."""
    head = "| # | stage | column | stamped |\n| --- | --- | --- | --- |\n"
    return head + "".join(f"| {s.number} | {s.name} | `{s.column}` | {s.meaning} |\n" for s in STAGES)


def source_table() -> str:
    """The table of stage 1's sources as docs/explanation/stages.md has it."""
    head = "| in the ring | stage 1 is null because |\n| --- | --- |\n"
    return head + "".join(f"| `{s.name}` | {s.reason or '(there is a stamp)'} |\n" for s in StampSource)


class TestStages:
    def test_they_are_numbered_in_order(self) -> None:
        assert [stage.number for stage in STAGES] == [1, 2, 3, 4, 5, 6]

    def test_each_has_a_column_in_the_same_order(self) -> None:
        columns = [stage.column for stage in STAGES]
        assert [name for name in [*DERIVED_SCHEMA.names, *MESSAGE_SCHEMA.names] if name in columns] == columns

    def test_each_step_is_a_column(self) -> None:
        steps = [name for name in MESSAGE_SCHEMA.names if "_to_" in name and name not in SEGMENT_COLUMNS]
        assert steps == [step.key for step in STEPS]

    def test_each_column_is_described_alike_in_the_schema(self) -> None:
        for stage in STAGES:
            meaning = message_field(stage.column).metadata[b"meaning"].decode()
            assert meaning.startswith(f"stage {stage.number}: ")


class TestSteps:
    def test_they_lead_from_each_stage_to_the_next(self) -> None:
        assert [(step.start, step.end) for step in STEPS] == list(pairwise(STAGES))

    def test_keys_and_names(self) -> None:
        assert STEPS[0].key == "nic_to_event"
        assert STEPS[0].name == "NIC->EVENT"
        assert len({step.key for step in (*STEPS, TOTAL)}) == 6

    def test_the_total_is_from_the_first_stage_to_the_last(self) -> None:
        assert (TOTAL.start, TOTAL.end, TOTAL.name) == (NIC, HANDOFF, "NIC->HANDOFF")
        assert EVENT in STAGES


class TestStampSource:
    def test_only_a_source_without_a_stamp_has_a_reason(self) -> None:
        for source in StampSource:
            assert (source.reason is not None) == source.name.startswith("NONE")

    def test_each_with_a_stamp_has_a_word_of_its_own(self) -> None:
        words = [source.word for source in StampSource if source.reason is None]
        assert words == ["nic", "kernel", "segment", "segment-nic"] == list(STAMPED_WORDS)
        assert {source.word for source in StampSource if source.reason is not None} == {"user"}


class TestPage:
    def test_tables_are_those_of_the_code(self) -> None:
        page = PAGE.read_text()
        assert stage_table() in page
        assert source_table() in page

    def test_names_every_step(self) -> None:
        page = PAGE.read_text()
        for step in (*STEPS, TOTAL):
            assert step.name in page
