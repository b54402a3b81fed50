"""A capture as views of DuckDB: messages, events, and those tables that a question names.

Exported tables in the capture are read where they are current: later than the messages file, of all its rows and bytes
(or of those that it had before `wsrec compact` sorted it, by the manifest), by the declarations of today, not of a
file that was still being recorded, and with all that the session's files tell of its rows now (`wsrec.tables.facts`):
of a journal that was recovered later, or a loss that a later file reports. What else a question needs is converted
into a temporary folder first. Nothing can be written: the one statement that is run is a SELECT.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from wsrec.engine.work import Engine, Progress, reduce
from wsrec.feed.table_columns import Table
from wsrec.format.capture_file import CaptureFile
from wsrec.format.declared_feed import declared_feed
from wsrec.format.errors import CaptureError
from wsrec.format.layout import EVENTS, MESSAGES
from wsrec.format.manifest import ManifestLine, chains
from wsrec.format.parquet_file import ParquetFile
from wsrec.format.reading import Capture
from wsrec.options.export import Format, Numbers, TimeUnit
from wsrec.tables.export import (
    FACTS,
    Exported,
    ExportItem,
    Request,
    declarations_of,
    export_files,
    merge,
    path_of,
    source_of,
)
from wsrec.tables.facts import Extent, files_digest
from wsrec.tables.file_rows import FileRows
from wsrec.tables.schema import TABLES_VERSION, table_schema
from wsrec.tables.session_files import Group, groups
from wsrec.tables.session_overlaps import EACH_ONCE, session_overlaps
from wsrec.tables.session_tables import SessionTables
from wsrec.tables.table_file import written_schema
from wsrec.units import clean, did_you_mean, plural

VIEWS = (MESSAGES, EVENTS, *map(str, Table))
"""The views."""

OLDEST = 2
"""The first version of DuckDB that keeps nanoseconds of times with a zone."""

Chains = Mapping[tuple[str, str, int], Sequence[ManifestLine]]
"""The lines of each pair of files in a manifest (`wsrec.format.manifest.chains`)."""

_BATCH = 10_000
_PREFIX = "wsrec."


class SqlError(Exception):
    """A question that cannot be answered; the message is one line."""


@contextmanager
def answer(
    capture: Capture,
    question: str,
    engine: Engine,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
) -> Iterator[pa.RecordBatchReader]:
    """The rows that a SELECT gives, within the `with` block.

    Args:
        capture: the capture.
        question: one SELECT statement in DuckDB's SQL.
        engine: where messages are converted.
        progress: called from time to time while they are.
        notice: called with what to know of the answer: which tables were made for the question, and what is in them
            twice, as two sessions recorded it at the same time; not the latter if the question speaks of sessions.

    Raises:
        SqlError: it is no such statement, or names what is not there, or DuckDB is not installed; also while the rows
            are read.
        CaptureError: a file of the capture is damaged.
        EngineError: the workers cannot be used.

    """
    duckdb = _duckdb()
    with tempfile.TemporaryDirectory(prefix="wsrec-sql-") as temporary:
        if not _is_utf8(Path(temporary)):
            raise SqlError(f"{clean(temporary)}: not UTF-8, as DuckDB needs a temporary folder: set TMPDIR")
        settings = {
            # nothing comes from the network, and no name of a column is one of a variable here
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "temp_directory": str(Path(temporary) / "duckdb"),
        }
        connection = duckdb.connect(":memory:", config=settings)
        try:
            connection.execute("set TimeZone = 'UTC'")
            _check_is_select(duckdb, connection, question)
            tables = _Tables(capture, Path(temporary), engine, progress)
            names = _Names(Path(temporary))
            rows = _bound(duckdb, connection, question, lambda view: _select(capture, view, tables, names))
            if tables.made and notice is not None:
                notice(_made(tables.made))
            if tables.asked and notice is not None and "session" not in question.lower():
                for overlap in session_overlaps(capture.files, tables.asked):
                    notice(f"{overlap}, and there twice: {EACH_ONCE}")
            yield rows.to_arrow_reader(_BATCH)
        except (duckdb.Error, pa.ArrowException) as error:
            raise SqlError(_in_one_line(error)) from error
        finally:
            connection.close()


def _duckdb() -> Any:
    cure = "pip install 'wsrec[sql]' (in a clone: '.[sql]')"
    try:
        import duckdb
    except ImportError as error:
        raise SqlError(f"DuckDB is not installed: {cure}") from error
    if int(duckdb.__version__.split(".")[0]) < OLDEST:
        raise SqlError(f"DuckDB {duckdb.__version__} cuts times to microseconds: {cure}")
    return duckdb


def _check_is_select(duckdb: Any, connection: Any, question: str) -> None:
    kinds = [each.type for each in connection.extract_statements(question)]
    if kinds != [duckdb.StatementType.SELECT]:
        found = " and ".join(kind.name for kind in kinds) or "no statement"
        raise SqlError(f"found {found}, expected one SELECT")


def _bound(duckdb: Any, connection: Any, question: str, select: Callable[[str], str]) -> Any:
    """The question with the views that it names, each made when DuckDB misses it: it knows best what a name is."""
    made: set[str] = set()
    while True:
        try:
            return connection.sql(question)
        except duckdb.CatalogException as error:
            view = (_missing(error) or "").lower()
            if view in made or view not in VIEWS:
                raise
            connection.execute(f'create view "{view}" as {select(view)}')
            made.add(view)


def _made(made: Mapping[Table, int]) -> str:
    names = [f"{table} of {plural(files, 'file')}" for table, files in made.items()]
    return (
        f"{', '.join(names)} made for this question, without a current export in the capture (`wsrec export` makes one)"
    )


def _missing(error: Exception) -> str | None:
    """The table that DuckDB does not find."""
    found = re.match(r"Catalog Error: Table with name (.+) does not exist!", str(error))
    return found and found[1]


def _in_one_line(error: Exception) -> str:
    name = _missing(error)
    if name is None:
        return str(error).partition("\n")[0]
    hint = did_you_mean(name, VIEWS) or f"there are {', '.join(VIEWS)}"
    return f"no table {clean(name, 60)}: {hint}"


def _select(capture: Capture, view: str, tables: _Tables, names: _Names) -> str:
    """A SELECT of the rows of a view."""
    if view in (MESSAGES, EVENTS):
        files = capture.files if view == MESSAGES else capture.event_files
        return " union all ".join(_raw(files, names)) or f"select {_nothing(capture.event_schema)}"
    found = tables.files(Table(view))
    return _parquet(found, names) if found else f"select {_nothing(table_schema(Table(view)))}"


def _raw(files: Sequence[CaptureFile], names: _Names) -> Iterator[str]:
    """A SELECT of the files of each feed of each session, with both as columns."""
    by_owner: dict[tuple[str, str], list[Path]] = {}
    for file in files:
        by_owner.setdefault((file.feed, file.session), []).append(file.path)
    for (feed, session), paths in by_owner.items():
        yield _parquet(paths, names, f"{_text(feed)} as feed, {_text(session)} as session, *")


def _nothing(schema: pa.Schema) -> str:
    """The columns of a view without rows."""
    return ", ".join(f'null as "{name}"' for name in schema.names) + " where false"


def _parquet(paths: Sequence[Path], names: _Names, columns: str = "*") -> str:
    """A SELECT of files."""
    files = ", ".join(_text(_literal(names.of(path))) for path in paths)
    # all names are of files that are there, and quoted
    return f"select {columns} from read_parquet([{files}], hive_partitioning = false)"  # noqa: S608


def _literal(path: Path) -> str:
    """A path that is no pattern for DuckDB."""
    return re.sub(r"[*?\[]", r"[\g<0>]", str(path))


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


class _Names:
    """Absolute paths for DuckDB, which knows only UTF-8: others are linked in a temporary folder."""

    def __init__(self, temporary: Path) -> None:
        self._temporary = temporary
        self._links = 0

    def of(self, path: Path) -> Path:
        path = path.absolute()
        if _is_utf8(path):
            return path
        self._links += 1
        link = self._temporary / f"link-{self._links}.parquet"
        link.symlink_to(path)
        return link


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class _Tables:
    """The files of a capture's tables: exported ones, and what is converted for this question.

    Attributes:
        asked: the tables whose files were asked for.
        made: of how many messages files with such rows each table was converted.

    """

    def __init__(self, capture: Capture, temporary: Path, engine: Engine, progress: Progress | None) -> None:
        self._capture, self._temporary = capture, temporary
        self._engine, self._progress = engine, progress
        self._declarations: dict[str, str] = {}
        self._chains: dict[Path, Chains] = {}
        self.asked: list[Table] = []
        self.made: dict[Table, int] = {}

    def files(self, table: Table) -> list[Path]:
        """The files with the rows of a table.

        Raises:
            CaptureError: a messages file is damaged.

        """
        self.asked.append(table)
        request = Request(tables=(table,), out=str(self._temporary))
        found: list[Path] = []
        items: list[ExportItem] = []
        for group in groups(self._capture.files, self._capture.event_files):
            paths = tuple(str(file.path) for file in group.whole)
            events = tuple(str(file.path) for file in group.event_files)
            rows = tuple(FileRows.of(group.whole))
            facts = _Facts(group, rows)
            for number, file in enumerate(group.whole):
                if file not in group.files:
                    continue
                current = self._current(file, table, facts)
                if current is not None:
                    found.append(current)
                    continue
                items.append(
                    ExportItem(
                        files=(paths[number],),
                        size=file.size,
                        earlier=paths[:number],
                        later=paths[number + 1 :],
                        event_files=events,
                        rows=rows,
                        listings=tuple(map(str, group.listings)),
                        request=request,
                    )
                )
        made = reduce(self._engine, export_files, merge, items, self._progress) or Exported()
        if made.errors:
            raise CaptureError(made.errors[0])
        # one without such rows has no exported file either
        if made.files:
            self.made[table] = made.files
        return found + sorted((self._temporary / f"table={table}").rglob("*.parquet"))

    def _current(self, file: CaptureFile, table: Table, facts: _Facts) -> Path | None:
        """The exported file with all rows that a messages file makes of a table; None if there is none."""
        out = next((above.parent for above in file.path.absolute().parents if above.name == MESSAGES), None)
        if out is None:
            return None
        path = path_of(file, table, Request(tables=(table,), out=str(out / "tables")))
        try:
            if path.stat().st_mtime_ns < file.path.stat().st_mtime_ns:
                return None
            with ParquetFile(path) as exported:
                schema, metadata = exported.schema_arrow, exported.metadata.metadata or {}
        except (OSError, pa.ArrowException):
            return None
        expected = {
            "tables_version": TABLES_VERSION,
            "selection": None,
            "declarations_sha256": self._declared(file),
            # one made while the session was recorded is newer than the finished file, and has only its first rows
            "unfinished": False,
            **source_of(file),
        }
        names = *expected, *FACTS, "source_sha256"
        about = {name: json.loads(metadata.get(f"{_PREFIX}{name}".encode(), '""')) for name in names}
        if about["source_bytes"] != file.size and self._was_sorted(out, file, about["source_sha256"]):
            expected["source_bytes"] = about["source_bytes"]
        is_of_file = {name: about[name] for name in expected} == expected and schema.equals(_SCHEMAS[table])
        return path if is_of_file and facts.are_those_of(about) else None

    def _was_sorted(self, out: Path, file: CaptureFile, digest: Any) -> bool:
        """Whether a file had this SHA-256 before it was sorted: its rows are the same, by the manifest."""
        if out not in self._chains:
            try:
                self._chains[out] = chains(out)
            except OSError:
                self._chains[out] = {}
        chain = self._chains[out].get((file.feed, file.session, file.number), [])
        places = [place for place, line in enumerate(chain) if line.sha256 == digest]
        return bool(places) and any(line.bytes == file.size for line in chain[places[0] + 1 :])

    def _declared(self, file: CaptureFile) -> str:
        if file.feed not in self._declarations:
            self._declarations[file.feed] = declarations_of(declared_feed(file))
        return self._declarations[file.feed]


class _Facts:
    """What the files of a session tell of the rows of each, now."""

    def __init__(self, group: Group, rows: Sequence[FileRows]) -> None:
        self._group, self._rows = group, rows
        self._files = files_digest(rows, group.event_files, [path.name for path in group.listings])

    @cached_property
    def _session(self) -> SessionTables:
        group = self._group
        feed = declared_feed(group.whole[0])
        return SessionTables(feed, group.whole, group.event_files, [], rows=self._rows, listings=group.listings)

    def are_those_of(self, about: Mapping[str, Any]) -> bool:
        """Whether they told the same when a table was made, by its metadata (`FACTS`)."""
        if about["session_files_sha256"] == self._files:
            return True
        try:
            extent = Extent(*about["extent"])
        except TypeError:
            return False
        return bool(about["session_facts_sha256"] == self._session.facts_sha256(extent))


_SCHEMAS = {table: written_schema(table_schema(table, Numbers.FLOAT), Format.PARQUET, TimeUnit.NS) for table in Table}
