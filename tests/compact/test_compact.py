"""wsrec compact: sorted files that say the same, whatever happens on the way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.compact.captures import HOUR, START, compact, contents, exported, reported, rows_of, verified, write
from tests.compact.killed import at_each
from tests.verify.damage import damage_capture
from tests.verify.remembering import same as same_findings
from tests.verify.remembering import settle, simulated
from wsrec.cli.main import main
from wsrec.compact import rewrite as rewriting
from wsrec.compact.run import Compaction
from wsrec.engine.choose import engine_for
from wsrec.format import claim, manifest
from wsrec.format.capture_file import CaptureFile
from wsrec.options.engine import EngineOptions
from wsrec.replay.source import Source
from wsrec.units import plural
from wsrec.verify.memory import Memory
from wsrec.verify.model import Kind
from wsrec.verify.verify import verify


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("recorded") / "out")


@pytest.fixture
def out(recorded: Path, tmp_path: Path) -> Path:
    """A copy of a capture of two files."""
    return Path(shutil.copytree(recorded, tmp_path / "out"))


@pytest.fixture(scope="module")
def compacted(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = Path(shutil.copytree(recorded, tmp_path_factory.mktemp("compacted") / "out"))
    assert compact(out).sorted.files == 2
    return out


def message_files(out: Path) -> list[Path]:
    return sorted((out / "messages").rglob("*.parquet"))


def run(*arguments: object, status: int = 0):
    result = CliRunner().invoke(main, ["compact", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


class TestFiles:
    def test_are_sorted_and_say_so(self, compacted):
        for path in message_files(compacted):
            rows = pq.read_table(path, columns=["channel", "symbol", "seq"]).to_pylist()
            keys = [(row["channel"] or "", row["symbol"] or "", row["seq"]) for row in rows]
            assert keys == sorted(keys)
            group = pq.read_metadata(path).row_group(0)
            named = [group.column(each.column_index).path_in_schema for each in group.sorting_columns]
            assert named == ["channel", "symbol", "seq"]
            assert CaptureFile(path).metadata.sorted_blocks == [pq.read_metadata(path).num_row_groups]

    def test_have_their_checksums_in_the_manifest(self, recorded, compacted):
        before = {line.path: line for line in manifest.read(recorded)}
        after = {line.path: line for line in manifest.read(compacted) if line.replaces is not None}
        assert len(after) == 2
        for path, line in after.items():
            assert line.sha256 == hashlib.sha256((compacted / path).read_bytes()).hexdigest()
            assert line.bytes == (compacted / path).stat().st_size
            assert line.replaces == before[path].sha256
            assert (line.ledger, line.events_sha256) == (before[path].ledger, before[path].events_sha256)

    def test_keep_their_mode(self, out):
        message_files(out)[0].chmod(0o640)
        compact(out)
        assert stat.S_IMODE(message_files(out)[0].stat().st_mode) == 0o640

    def test_nothing_else_is_left(self, recorded, compacted):
        assert set(contents(compacted)) == set(contents(recorded))

    def test_a_second_run_does_nothing(self, compacted):
        before = contents(compacted)
        result = compact(compacted)
        assert (result.sorted.files, result.already, result.problems) == (0, 2, [])
        assert contents(compacted) == before

    def test_pyarrow_skips_row_groups_of_other_symbols(self, out, monkeypatch):
        monkeypatch.setattr("wsrec.compact.sorting.GROUP_ROWS", 8)
        compact(out)
        wanted = (ds.field("symbol") == "ETHUSDT") & (ds.field("channel") == "trade")
        fragments = list(ds.dataset(message_files(out)).get_fragments(wanted))
        chosen = [len(fragment.subset(wanted).row_groups) for fragment in fragments]
        assert all(
            0 < some < fragment.metadata.num_row_groups for some, fragment in zip(chosen, fragments, strict=True)
        )


class TestReaders:
    def test_verify_finds_the_same(self, recorded, compacted):
        # the paths of both appear in what is found
        assert json.dumps(verified(compacted)).replace(str(compacted), str(recorded)) == json.dumps(verified(recorded))
        assert verify([compacted]).captures[0].sessions[0].streams[0].intervals

    @pytest.mark.parametrize("seed", range(6))
    def test_verify_finds_the_same_whatever_happened(self, seed, tmp_path):
        out = simulated(seed, tmp_path / "out")
        before = verified(out)
        compact(out)
        assert verified(out) == before

    def test_verify_finds_the_same_damage(self, tmp_path, chance):
        for number in range(4):
            out = simulated(7, tmp_path / str(number))
            damage_capture(out, chance)
            before = verified(out)
            compact(out)
            found = {(each["kind"], each["what"]) for each in verified(out)["captures"][0]["findings"]}
            assert found == {(each["kind"], each["what"]) for each in before["captures"][0]["findings"]}

    def test_verify_remembers_it(self, compacted, tmp_path):
        settle()
        first = verify([compacted], memory=Memory(tmp_path))
        again = verify([compacted], memory=Memory(tmp_path))
        assert [each.remembered for each in again.captures[0].sessions] == [first.captures[0].sessions[0].files]

    def test_report_says_the_same(self, recorded, compacted):
        assert json.dumps(reported(compacted)).replace(str(compacted), str(recorded)) == json.dumps(reported(recorded))

    @pytest.mark.parametrize("chosen", [{}, {"symbol": "ETHUSDT"}, {"channel": "trade", "since": START + HOUR // 2}])
    def test_open_capture_has_the_same_rows_in_the_same_order(self, recorded, compacted, chosen):
        assert rows_of(recorded, **chosen)
        assert rows_of(compacted, **chosen) == rows_of(recorded, **chosen)

    def test_replay_sends_the_same(self, recorded, compacted):
        assert list(Source([compacted])) == list(Source([recorded]))

    def test_export_makes_the_same(self, recorded, compacted, tmp_path):
        assert exported(compacted, tmp_path / "after") == exported(recorded, tmp_path / "before")

    def test_blocks_of_any_size(self, out, recorded, monkeypatch):
        monkeypatch.setattr("wsrec.compact.sorting.BLOCK_BYTES", 1)
        monkeypatch.setattr("wsrec.compact.rewrite.READ_ROWS", 7)
        compact(out)
        assert {len(CaptureFile(path).metadata.sorted_blocks) > 5 for path in message_files(out)} == {True}
        assert rows_of(out) == rows_of(recorded)
        assert verified(out)["captures"][0]["findings"] == verified(recorded)["captures"][0]["findings"]

    def test_metadata_that_do_not_fit_are_damage(self, compacted, tmp_path):
        table = pq.read_table(message_files(compacted)[0])
        path = tmp_path / "20261122T130000Z-a1-000001.parquet"
        about = {**pq.read_metadata(message_files(compacted)[0]).metadata, b"wsrec.sorted_blocks": b"[1,1]"}
        del about[b"ARROW:schema"]
        pq.write_table(table.replace_schema_metadata(about), path)
        with pytest.raises(Exception, match="sorted_blocks has 2 row groups, the file 1"):
            list(CaptureFile(path).batches(["seq"]))


class TestKilled:
    def test_anywhere_each_file_is_before_or_after(self, recorded, tmp_path):
        before, rows = verified(recorded), rows_of(recorded)
        states = set()
        for out in at_each(recorded, tmp_path):
            sorted_before = [CaptureFile(path).metadata.sorted_blocks != [] for path in message_files(out)]
            assert same(verified(out), out) == same(before, recorded)
            assert rows_of(out) == rows
            result = compact(out)
            assert result.problems == []
            assert result.sorted.files + result.already == 2
            assert same(verified(out), out) == same(before, recorded)
            states.add((*sorted_before, result.already))
        assert {(False, False, 0), (True, False, 1)} <= states

    def test_a_full_disk_leaves_it_as_it_was(self, recorded, tmp_path):
        before = contents(recorded)
        for number, out in enumerate(at_each(recorded, tmp_path, full=True)):
            assert same(verified(out), out) == same(verified(recorded), recorded)
            assert not list((out / ".wsrec" / "compacting").glob("*"))
            if not number:
                assert contents(out) == before

    def test_a_removal_is_repeated(self, tmp_path):
        recorded = write(tmp_path / "recorded", hours=3)
        work = tmp_path / "work"
        for out in at_each(recorded, work, keep=1.0):
            assert not [
                each
                for each in verify([out]).captures[0].findings
                if each.kind is not Kind.NOTE and "gap" not in each.what
            ]
            compact(out, keep=1.0)
            assert not message_files(out)
            assert not list((out / "events").rglob("*.parquet"))


def same(found, out):
    return json.dumps(found).replace(str(out), "OUT")


class TestLeftAlone:
    def test_a_session_that_is_being_recorded(self, out):
        before = contents(out)
        fd = claim.hold(out / ".wsrec" / "s")
        try:
            result = compact(out, keep=1.0)
        finally:
            os.close(fd)
        assert [(each.session, each.files, each.why) for each in result.skipped] == [("s", 2, "it is being recorded")]
        assert result.status == 0
        assert contents(out) == before

    def test_a_session_that_is_not_recovered(self, out):
        before = contents(out)
        (out / ".wsrec" / "s").mkdir()
        (skipped,) = compact(out, keep=1.0).skipped
        assert skipped.why == f"it was interrupted: run `wsrec recover {out}` first"
        assert contents(out) == before

    def test_a_session_that_begins_while_it_runs(self, out, monkeypatch):
        real = rewriting.rewrite

        def begins(item):
            made = real(item)
            (out / ".wsrec" / "s").mkdir(exist_ok=True)
            return made

        monkeypatch.setattr("wsrec.compact.run.rewrite", begins)
        before = contents(out)
        result = compact(out)
        assert result.sorted.files == 0
        assert len(result.problems) == 2
        assert contents(out) == before

    @pytest.mark.parametrize("what", ["its bytes", "the file"])
    def test_a_damaged_file(self, out, what):
        path = message_files(out)[0]
        path.write_bytes(path.read_bytes()[:-1]) if what == "its bytes" else path.unlink()
        before = contents(out)
        result = run(out, status=1)
        assert "sorted: 1 file" in result.output
        assert f"wsrec compact: {path}: " in result.output
        assert "`wsrec verify` says more" in result.output
        assert {name: data for name, data in contents(out).items() if name in before and "000001" in name} == {
            name: data for name, data in before.items() if "000001" in name
        }

    def test_a_sorted_file_that_differs(self, out, monkeypatch):
        real = rewriting.row_groups
        monkeypatch.setattr(rewriting, "row_groups", lambda block: list(real(block))[:-1] or real(block.slice(1)))
        before = contents(out)
        result = compact(out)
        assert len(result.problems) == 2
        assert all("its sorted file" in each for each in result.problems)
        assert contents(out) == before

    def test_while_another_one_is_at_work(self, out):
        folder = out / ".wsrec" / "compacting"
        folder.mkdir()
        with claim.alone(folder):
            assert "another `wsrec compact` is at work there" in run(out, status=75).output

    def test_where_nothing_can_be_written(self, out):
        before = contents(out)
        (out / ".wsrec" / "compacting").symlink_to(out)
        assert "nothing was changed" in run(out, status=1).output
        (out / ".wsrec" / "compacting").unlink()
        assert contents(out) == before

    def test_what_is_no_capture(self, tmp_path):
        assert "holds no capture" in run(tmp_path, status=3).output


class TestKeep:
    @pytest.fixture
    def hours(self, tmp_path) -> Path:
        """A capture of three hours, in more files."""
        return write(tmp_path / "hours", hours=3)

    def test_removes_whole_hours_and_verify_says_on_purpose(self, hours):
        files, events = message_files(hours), verify([hours])
        now = START + 10 * HOUR
        result = compact(hours, keep=8.5 * 3600, now=now)
        left = message_files(hours)
        assert [path.parent.name for path in files if path not in left] == ["hour=13"]
        assert (result.removed.hours, result.removed.before) == (1, now - int(8.5 * HOUR))
        assert not (hours / "messages" / "feed=binance" / "date=2026-11-22" / "hour=13").exists()
        (capture,) = verify([hours]).captures
        notes = [each.what for each in capture.findings if each.kind is Kind.NOTE]
        assert any("were removed on purpose" in each for each in notes)
        assert not [each for each in capture.findings if each.kind in (Kind.DAMAGED, Kind.CONTRADICTION)]
        assert capture.status == events.captures[0].status
        assert capture.sessions[0].state == "ended"
        removed = [line for line in manifest.read(hours) if line.removed == now]
        assert [line.path for line in removed] == [str(files[0].relative_to(hours))]

    def test_only_on_request(self, hours):
        compact(hours, now=START + 10_000 * HOUR)
        assert len(message_files(hours)) == 3

    def test_what_is_left_is_remembered_until_more_is_removed(self, hours, tmp_path):
        def found():
            settle()
            result = verify([hours], memory=Memory(tmp_path / "memory"))
            assert same_findings(result) == same_findings(verify([hours]))
            return result.captures[0].sessions[0]

        now = START + 10 * HOUR
        compact(hours, keep=8.5 * 3600, now=now)
        assert found().remembered == 0
        assert found().remembered == found().files > 0
        compact(hours, keep=7.5 * 3600, now=now)
        assert found().remembered == 0
        assert found().remembered == found().files > 0

    def test_what_was_proved_of_the_rest_does_not_count_for_a_whole_session(self, hours, tmp_path):
        compact(hours, keep=8.5 * 3600, now=START + 10 * HOUR)
        settle()
        (proved,) = verify([hours], memory=Memory(tmp_path / "memory")).captures
        assert Kind.CONTRADICTION not in {each.kind for each in proved.findings}
        path = hours / ".wsrec" / "manifest.jsonl"
        gone = json.loads(path.read_text().splitlines()[0])["path"]
        # nothing says any more that there was a beginning
        path.write_text("".join(line if gone not in line else "\n" for line in path.read_text().splitlines(True)))
        result = verify([hours], memory=Memory(tmp_path / "memory"))
        assert same_findings(result) == same_findings(verify([hours]))
        assert Kind.CONTRADICTION in {each.kind for each in result.captures[0].findings}

    def test_everything(self, hours):
        compact(hours, keep=1.0)
        assert not list(hours.rglob("*.parquet"))
        (capture,) = verify([hours]).captures
        assert {each.kind for each in capture.findings} == {Kind.NOTE}
        assert compact(hours, keep=1.0).removed.files == 0


class TestCommand:
    def test_dry_run_changes_nothing(self, out):
        before = contents(out)
        result = run(out, "--dry-run", "--keep", "1h")
        assert contents(out) == before
        assert "would be removed, as they ended before" in result.output
        assert "would be sorted: 0 files" in result.output
        assert "would be sorted: 2 files, 179 rows; " in run(out, "--dry-run").output
        assert "to an unknown number" in run(out, "--dry-run").output

    def test_a_number_without_a_unit_removes_nothing(self, out):
        before = contents(out)
        assert "found '90', expected a number with its unit, as in 90d" in run(out, "--keep", "90", status=2).output
        assert contents(out) == before

    def test_dry_run_expects_what_earlier_files_won(self, out):
        first = message_files(out)[0]
        (first.rename(out / "aside"))
        run(out, status=1)
        (out / "aside").rename(first)
        found = json.loads(run(out, "--dry-run", "--json").stdout)
        assert found["sorted"]["bytes_before"] == first.stat().st_size
        assert 0 < found["sorted"]["bytes_after"] < 2 * first.stat().st_size

    def test_json(self, out):
        found = json.loads(run(out, "--json").stdout)
        size = sum(path.stat().st_size for path in message_files(out))
        assert found["status"] == 0
        assert found["sorted"] == {
            "files": 2,
            "rows": 179,
            "bytes_before": found["sorted"]["bytes_before"],
            "bytes_after": size,
            "larger": found["sorted"]["larger"],
        }
        assert found["skipped"] == found["problems"] == []

    def test_files_that_became_larger_are_counted(self, out):
        before = [path.stat().st_size for path in message_files(out)]
        dry = json.loads(run(out, "--dry-run", "--json").stdout)
        assert dry["sorted"]["larger"] is None
        said = run(out).output
        pairs = zip(before, message_files(out), strict=True)
        larger = sum(path.stat().st_size > size for size, path in pairs)
        assert larger, "so small ones do"
        assert f"larger than before: {plural(larger, 'file')}; docs/how-to/compact.md says why" in said

    def test_several_processes_make_the_same_files(self, out, compacted):
        with engine_for(EngineOptions(jobs=2)) as engine:
            assert Compaction(out, engine).run().sorted.files == 2
        assert {name: data for name, data in contents(out).items() if "messages" in name} == {
            name: data for name, data in contents(compacted).items() if "messages" in name
        }

    def test_a_manifest_of_another_version(self, out):
        path = out / ".wsrec" / "manifest.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"format_version":', b'"format_version":9'))
        assert "format version" in run(out, status=66).output


@pytest.fixture
def chance():
    import random

    return random.Random(5)
