# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Compiled table rows: equivalent to `wsrec.decode.table_rows`, without Python objects per message.

`RowScanner` notes the values at the declared places of a message in one walk (_walk.h, _rows.h), and makes columns of
them. It decides only messages that are entirely as declared; all others, and what is left out of them, are Python's:
the scanner names them, and nothing of them is in its columns.
"""

from wsrec.decode import row_values
from wsrec.feed.table_columns import Kind

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp

from wsrec.decode._places cimport (
    WSREC_INTEGER, WSREC_LITERAL, WSREC_OTHER, WSREC_TEXT, WSREC_UNDECIDED,
    Tree, allocate, free_places, grown, place_at, wsrec_place, wsrec_value,
)
from wsrec.decode._row_output cimport Output, Table, begin_row, free_table, no_quote, put, put_text
from wsrec.decode._row_program cimport (
    ABSENT, A_COUNT, A_NUMBER, A_SIZE, A_TEXT, A_TIME, A_TRUTH, A_WORD, AN_INTEGER, ARRAY, BOOLEAN, DIFFERS, EMPTY,
    EQUALS, LEVEL, NOT_ZERO, NUMBER, OBJECT, PLAIN, PRESENT, SIDES, TEXT, ZERO,
    Cell, Column, Condition, Declaration, Flag, RowProgram, Span, Test, Type, Where, Word, free_program, load_program,
)
from wsrec.decode._row_values cimport (
    NONE, PYTHON, SOME, Numeral, Result, Verdict, as_double, as_integer, as_time, as_truth, wsrec_parse_numeral,
)
from wsrec.decode._scalars cimport Value


cdef extern from "_rows.h":
    enum:
        WSREC_ABSENT
    const int64_t WSREC_NO_TIME

    struct wsrec_noted:
        int32_t wanted
        int32_t scope
        int32_t cell
        int32_t rows

    struct wsrec_scope:
        wsrec_value* cells
        int32_t* parents
        int32_t parent
        int32_t width
        uint32_t count

    struct wsrec_reading:
        wsrec_scope* scopes
        int32_t scope_count

    struct wsrec_message:
        const uint8_t* start
        const uint8_t* end
        const uint8_t* limit
        uint64_t* quotes
        wsrec_place* places
        wsrec_reading reading

    wsrec_noted* wsrec_noted_at(wsrec_place* places, int32_t index) noexcept nogil
    bint wsrec_read_rows(wsrec_message* m) noexcept nogil
    bint wsrec_is_space(uint8_t byte) noexcept nogil


ctypedef wsrec_scope Scope

assert WSREC_NO_TIME == row_values.NO_TIME

_TESTS = {
    "present": PRESENT, "absent": ABSENT, "equals": EQUALS, "differs": DIFFERS, "zero": ZERO, "not_zero": NOT_ZERO,
    "array": ARRAY, "object": OBJECT, "text": TEXT, "number": NUMBER, "boolean": BOOLEAN, "empty": EMPTY,
}

_TYPES = {
    Kind.NUMBER: A_NUMBER, Kind.SIZE: A_SIZE, Kind.RATE: A_NUMBER, Kind.TIME: A_TIME, Kind.INTEGER: AN_INTEGER,
    Kind.COUNT: A_COUNT, Kind.WORD: A_WORD, Kind.TEXT: A_TEXT, Kind.TRUTH: A_TRUTH,
}

_FORMS = {"plain": PLAIN, "sides": SIDES, "level": LEVEL}


cdef class RowScanner:
    """Makes columns of the messages of one channel.

    Args:
        places: the wanted places: for each its steps (a key or a position; None: each element), scope and cell.
        scopes: for each scope its parent and its number of cells.
        program: the declarations (`wsrec.decode.compiled_table_reader`).

    """

    cdef wsrec_message _read  # of the message that is being read, what is noted
    cdef Tree _tree
    cdef Py_ssize_t _quotes_room
    cdef list _kept  # owns the memory of the program's words
    cdef RowProgram _program
    cdef Table* _tables
    cdef int32_t _table_count

    def __cinit__(self, places, scopes, program):
        self._read.reading.scopes = <Scope*>allocate(len(scopes), sizeof(Scope))
        self._read.reading.scope_count = len(scopes)
        for index, (parent, width) in enumerate(scopes):
            self._read.reading.scopes[index].parent, self._read.reading.scopes[index].width = parent, max(width, 1)
        for steps, scope, cell in places:
            self._wish(steps, scope, cell)
        self._read.places = self._tree.places
        self._kept = load_program(&self._program, program, _TESTS, _TYPES, _FORMS)
        self._tables = <Table*>allocate(len(program.tables), sizeof(Table))
        self._table_count = len(program.tables)
        for index, kinds in enumerate(program.tables):
            self._tables[index].output_count = len(kinds)
            self._tables[index].outputs = <Output*>allocate(len(kinds), sizeof(Output))
            for output, kind in enumerate(kinds):
                self._tables[index].outputs[output].type = <Type><int>_TYPES[kind]

    def __dealloc__(self):
        cdef int32_t index
        free_places(&self._tree)
        for index in range(self._read.reading.scope_count):
            free(self._read.reading.scopes[index].cells)
            free(self._read.reading.scopes[index].parents)
        free(self._read.reading.scopes)
        free(self._read.quotes)
        for index in range(self._table_count):
            free_table(&self._tables[index])
        free(self._tables)
        free_program(&self._program)

    def read(self, size_t data, size_t limit, size_t offsets, size_t chosen, Py_ssize_t count, size_t has_symbol):
        """Read messages; their rows are then in `take`.

        Args:
            data: address of the messages' bytes.
            limit: end address of the memory that may be read.
            offsets: address of int64: offsets of all messages of the batch in `data`.
            chosen: address of `count` int64: the messages to be read.
            count: their number.
            has_symbol: address of a byte for each message of the batch: whether it has a symbol.

        Returns:
            The messages that Python has to read.

        """
        cdef const uint8_t* bytes_ = <const uint8_t*>data
        cdef const int64_t* starts = <const int64_t*>offsets
        cdef const int64_t* wanted = <const int64_t*>chosen
        cdef const uint8_t* symbols = <const uint8_t*>has_symbol
        cdef Py_ssize_t index
        cdef int64_t message
        cdef list python = []
        self._read.limit = <const uint8_t*>limit
        for index in range(count):
            message = wanted[index]
            if starts[message + 1] - starts[message] > self._quotes_room:
                self._quotes_room = (starts[message + 1] - starts[message]) * 2
                self._read.quotes = <uint64_t*>grown(self._read.quotes, (self._quotes_room + 63) // 64 * 8)
            self._read.start, self._read.end = bytes_ + starts[message], bytes_ + starts[message + 1]
            if not self._message(message, symbols[message]):
                python.append(message)
        return python

    def take(self):
        """The rows since the last call.

        Returns:
            For each table: the message of each row (bytes of int64), and for each output
            its values (8 bytes each: a double, an integer, a code, 0 or 1; of texts the end of each in the third), their
            validity (a byte each) and the texts.

        """
        found = []
        cdef int32_t index, column
        cdef Table* table
        cdef Output* output
        for index in range(self._table_count):
            table = &self._tables[index]
            outputs = []
            for column in range(table.output_count):
                output = &table.outputs[column]
                outputs.append((
                    (<const uint8_t*>output.data)[:8 * table.rows] if table.rows else b"",
                    (<const uint8_t*>output.valid)[:table.rows] if table.rows else b"",
                    (<const uint8_t*>output.text)[:output.text_size] if output.text_size else b"",
                ))
                output.text_size = 0
            message = (<const uint8_t*>table.message)[:8 * table.rows] if table.rows else b""
            found.append((message, outputs))
            table.rows = 0
        return found

    cdef bint _message(self, int64_t message, bint has_symbol) except -1:
        """Make the rows of a message; false, without any, if Python has to read it."""
        cdef int32_t index
        cdef bint no_symbol, fits = False
        cdef uint64_t done = 0  # a bit a table that a declaration fitted
        cdef Declaration* declaration
        cdef Verdict verdict
        cdef uint64_t rows[16]
        if not wsrec_read_rows(&self._read):
            return False
        for index in range(self._program.skip_count):
            if self._hold(self._program.skips[index], 0, 0) != NONE:
                return False
        for index in range(self._table_count):
            rows[index] = self._tables[index].rows
        for index in range(self._program.declaration_count):
            declaration = &self._program.declarations[index]
            if done >> declaration.table & 1:
                continue
            verdict = self._hold(declaration.when, 0, 0)
            if verdict == NONE:
                continue
            done |= <uint64_t>1 << declaration.table
            no_symbol = declaration.needs_symbol and not has_symbol
            if verdict == PYTHON or no_symbol or not self._declared(declaration, message):
                self._undo(rows)
                return False
            fits = True
        return fits

    cdef void _undo(self, uint64_t* rows) noexcept:
        cdef int32_t index, column
        cdef Table* table
        cdef Output* output
        for index in range(self._table_count):
            table = &self._tables[index]
            table.rows = rows[index]
            for column in range(table.output_count):
                output = &table.outputs[column]
                if output.type == A_TEXT:
                    output.text_size = (<uint64_t*>output.data)[table.rows - 1] if table.rows else 0

    cdef bint _declared(self, Declaration* d, int64_t message) except -1:
        """Make the rows of one declaration; false if Python has to."""
        cdef Scope* scope = &self._read.reading.scopes[d.rows]
        cdef uint32_t count = 1 if d.rows == 0 else scope.count
        cdef uint32_t row
        cdef Verdict verdict
        if d.rows and not count:
            # an empty array makes none; of a book it may be a snapshot, and without the array the reason is Python's
            return (
                d.form == PLAIN and d.has_array and not d.is_nested
                and self._shape(self._at(d.array, 0, 0), ARRAY) == SOME
            )
        if d.is_nested and d.form != PLAIN:
            for row in range(self._read.reading.scopes[scope.parent].count):
                if self._shape(self._at(d.array, scope.parent, row), EMPTY) != NONE:
                    return False
                if self._shape(self._at(d.array, scope.parent, row), ARRAY) != SOME:
                    return False
        for row in range(count):
            if d.has_row and self._at(d.row, d.rows, row).kind != WSREC_OTHER:
                return False
            if d.where.count:
                verdict = self._hold(d.where, d.rows, row)
                if verdict == PYTHON:
                    return False
                if verdict == NONE:
                    continue
            if d.form == PLAIN:
                verdict = self._plain(d, row, message)
            elif d.form == SIDES:
                verdict = self._sides(d, row, message)
            else:
                verdict = self._level(d, row, message)
            if verdict == PYTHON:
                return False
        return True

    cdef Verdict _plain(self, Declaration* d, uint32_t row, int64_t message) except *:
        cdef Table* table = &self._tables[d.table]
        cdef Column* column
        cdef int32_t index
        cdef bint says = False
        cdef Verdict verdict
        begin_row(table, message)
        if self._fill(table, d.columns, d.rows, row) == PYTHON:
            return PYTHON
        if d.refuses_zero_price and (<double*>table.outputs[d.price].data)[table.rows] == 0:
            return PYTHON
        for index in range(0, 6, 3):
            if d.best[index] >= 0:
                no_quote(table, d.best + index)
        if d.is_statement:
            for index in range(d.columns.first, d.columns.first + d.columns.count):
                column = &self._program.columns[index]
                says = says or (column.says and table.outputs[column.output].valid[table.rows])
            if not says:
                return NONE
        if d.flags.count:
            verdict = self._mark(d, table, row)
            if verdict == PYTHON:
                return PYTHON
        table.rows += 1
        return SOME

    cdef Verdict _mark(self, Declaration* d, Table* table, uint32_t row) except *:
        """Set the flags of the table's next row."""
        cdef int32_t index
        cdef int64_t mask = 0
        cdef Flag* flag
        cdef Result result
        cdef Verdict verdict
        for index in range(d.flags.first, d.flags.first + d.flags.count):
            flag = &self._program.flags[index]
            if flag.column >= 0:
                verdict = self._value(table, &self._program.columns[flag.column], d.rows, row, &result)
            else:
                verdict = self._hold(flag.when, d.rows, row)
                result.integer = flag.bit
            if verdict == PYTHON:
                return PYTHON
            if verdict == SOME:
                mask |= <int64_t>1 << result.integer
        if mask:
            put(table, d.flags_output, mask)
        return SOME

    cdef Verdict _sides(self, Declaration* d, uint32_t row, int64_t message) except *:
        """Levels in an array for each side."""
        cdef Table* table = &self._tables[d.table]
        cdef int32_t side, snapshot = d.always_snapshot
        cdef uint32_t level
        cdef Scope* scope
        cdef const Value* array
        cdef bint found = False
        cdef Verdict verdict
        if d.snapshot.count:
            verdict = self._hold(d.snapshot, d.rows, row)
            if verdict == PYTHON:
                return PYTHON
            snapshot = verdict == SOME
        if snapshot:
            begin_row(table, message)
            if self._fill(table, d.columns, d.rows, row) == PYTHON:
                return PYTHON
            put(table, d.action, 2)
            put(table, d.is_snapshot, 1)
            table.rows += 1
        for side in range(2):
            if not d.sides[side].declared:
                continue
            array = self._at(d.sides[side].array, d.rows, row)
            if array.kind == WSREC_ABSENT:
                continue
            if array.kind != WSREC_OTHER or array.start[0] != c"[":
                return PYTHON
            scope = &self._read.reading.scopes[d.sides[side].scope]
            for level in range(scope.count):
                if d.rows and <uint32_t>scope.parents[level] != row:
                    continue
                found = True
                begin_row(table, message)
                if self._fill(table, d.columns, d.rows, row) == PYTHON:
                    return PYTHON
                if self._fill(table, d.sides[side].columns, d.sides[side].scope, level) == PYTHON:
                    return PYTHON
                put(table, d.side, side)
                put(table, d.is_snapshot, snapshot)
                if self._end_level(d, table, d.sides[side].delete, d.sides[side].scope, level) == PYTHON:
                    return PYTHON
        # what has no level may have other values that cannot be read: the reason is Python's
        return SOME if found or snapshot else PYTHON

    cdef Verdict _level(self, Declaration* d, uint32_t row, int64_t message) except *:
        """A row that is a level; those of snapshots are Python's."""
        cdef Table* table = &self._tables[d.table]
        if d.always_snapshot or (d.snapshot.count and self._hold(d.snapshot, d.rows, row) != NONE):
            return PYTHON
        begin_row(table, message)
        if self._fill(table, d.columns, d.rows, row) == PYTHON:
            return PYTHON
        put(table, d.is_snapshot, 0)
        return self._end_level(d, table, d.delete, d.rows, row)

    cdef Verdict _end_level(self, Declaration* d, Table* table, Span delete, int32_t scope, uint32_t row) except *:
        """Complete a level: set or deleted."""
        cdef bint deletes = False
        cdef Verdict verdict
        cdef double* size = <double*>table.outputs[d.size].data + table.rows
        if not table.outputs[d.price].valid[table.rows]:
            return PYTHON
        if d.refuses_zero_price and (<double*>table.outputs[d.price].data)[table.rows] == 0:
            return PYTHON
        if delete.count:
            verdict = self._hold(delete, scope, row)
            if verdict == PYTHON:
                return PYTHON
            deletes = verdict == SOME
        if deletes:
            size[0] = 0
            table.outputs[d.size].valid[table.rows] = 1
        elif not table.outputs[d.size].valid[table.rows]:
            return PYTHON
        deletes = deletes or size[0] == 0
        if not deletes and not table.outputs[d.side].valid[table.rows]:
            return PYTHON
        put(table, d.action, deletes)
        table.rows += 1
        return SOME

    cdef Verdict _fill(self, Table* table, Span columns, int32_t scope, uint32_t row) except *:
        """Read columns into the table's next row."""
        cdef int32_t index
        cdef Column* column
        cdef Result result
        cdef Verdict verdict
        for index in range(columns.first, columns.first + columns.count):
            column = &self._program.columns[index]
            verdict = self._value(table, column, scope, row, &result)
            if verdict == PYTHON or (verdict == NONE and column.required):
                return PYTHON
            if verdict == SOME:
                if column.type == A_TEXT:
                    put_text(table, column.output, &result)
                elif column.type <= A_SIZE:
                    (<double*>table.outputs[column.output].data)[table.rows] = result.number
                    table.outputs[column.output].valid[table.rows] = 1
                else:
                    put(table, column.output, result.integer)
        return SOME

    cdef Verdict _value(self, Table* table, Column* column, int32_t scope, uint32_t row, Result* result) except *:
        """The value of a column: the first of its cells that has one."""
        cdef int32_t index
        cdef Cell* cell
        cdef Verdict verdict
        for index in range(column.cells.first, column.cells.first + column.cells.count):
            cell = &self._program.cells[index]
            if cell.conditions.count:
                verdict = self._hold(cell.conditions, scope, row)
                if verdict == PYTHON:
                    return PYTHON
                if verdict == NONE:
                    continue
            if cell.is_constant:
                result.integer, result.number = cell.constant, cell.number
                return SOME
            verdict = self._cell(table, column, cell, self._at(cell.at, scope, row), result)
            if verdict != NONE:
                return verdict
        return NONE

    cdef Verdict _cell(self, Table* table, Column* column, Cell* cell, const Value* found, Result* result) except *:
        cdef Numeral numeral
        cdef int32_t code
        numeral.digits = 0
        if found.kind == WSREC_ABSENT:
            return NONE
        if found.kind == WSREC_UNDECIDED or found.kind == WSREC_OTHER:
            return PYTHON
        if found.kind == WSREC_TEXT and not found.length and not (
            cell.words.count or cell.is_signed or column.type == A_TRUTH
        ):
            return NONE
        if cell.none.count and self._word(cell.none, found, &code):
            return NONE
        if column.type <= A_SIZE or cell.is_signed or (cell.none_zero and column.type != A_TEXT):
            if found.kind == WSREC_LITERAL:
                return PYTHON
            if not wsrec_parse_numeral(found.start, found.start + found.length, &numeral):
                return PYTHON
            if cell.none_zero and not numeral.digits:
                return NONE
        if cell.is_signed:
            if not numeral.digits:
                return NONE
            result.integer = cell.negative if numeral.negative else cell.positive
            return SOME if result.integer >= 0 else NONE
        if column.type <= A_SIZE:
            if cell.absolute:
                numeral.negative = False
            elif cell.clip and numeral.negative:
                numeral.digits = 0
                numeral.negative = False
            elif column.type == A_SIZE and numeral.negative and numeral.digits:
                return PYTHON
            return as_double(found, &numeral, result)
        if column.type == A_WORD:
            if not self._word(cell.words, found, &code):
                return PYTHON
            result.integer = code
            return SOME if code >= 0 else NONE
        if column.type == A_TIME:
            return as_time(found, cell.exponent, result)
        if column.type == A_TEXT:
            if found.length > 1000 or (found.kind == WSREC_INTEGER and found.start[0] == c"-"):
                return PYTHON
            result.start, result.length = found.start, found.length
            return SOME
        if column.type == A_TRUTH:
            return as_truth(found, result)
        return as_integer(found, column.type == A_COUNT, result)

    cdef inline const Value* _at(self, Where at, int32_t scope, uint32_t row) noexcept:
        """The value of a cell, as seen from a row of a scope: of that row, or of what it lies in."""
        cdef Scope* owner
        while at.scope != scope:
            row = <uint32_t>self._read.reading.scopes[scope].parents[row]
            scope = self._read.reading.scopes[scope].parent
        owner = &self._read.reading.scopes[scope]
        return &owner.cells[<size_t>row * <size_t>owner.width + <size_t>at.cell]

    cdef Verdict _hold(self, Span conditions, int32_t scope, uint32_t row) noexcept:
        """Whether all conditions hold."""
        cdef int32_t index
        cdef Verdict verdict
        for index in range(conditions.first, conditions.first + conditions.count):
            verdict = self._test(&self._program.conditions[index], scope, row)
            if verdict != SOME:
                return verdict
        return SOME

    cdef Verdict _test(self, Condition* condition, int32_t scope, uint32_t row) noexcept:
        cdef const Value* found = self._at(condition.at, scope, row)
        cdef Numeral numeral
        cdef int32_t code
        if condition.test == ABSENT:
            return SOME if found.kind == WSREC_ABSENT else NONE
        if found.kind == WSREC_ABSENT:
            return NONE if condition.may_be_absent else PYTHON
        if condition.test == PRESENT:
            return SOME
        if condition.test >= ARRAY:
            return self._shape(found, condition.test)
        if found.kind == WSREC_UNDECIDED or (found.kind == WSREC_INTEGER and found.start[0] == c"-"):
            return PYTHON
        if condition.test == EQUALS:
            if found.kind != WSREC_OTHER and self._word(condition.texts, found, &code):
                return SOME
            if condition.has_others and (found.kind == WSREC_OTHER or not self._word(condition.others, found, &code)):
                return PYTHON
            return NONE
        if condition.test == DIFFERS:
            return NONE if found.kind != WSREC_OTHER and self._word(condition.texts, found, &code) else SOME
        if found.kind == WSREC_OTHER or found.kind == WSREC_LITERAL:
            return NONE
        if not wsrec_parse_numeral(found.start, found.start + found.length, &numeral):
            return NONE
        return SOME if (not numeral.digits) == (condition.test == ZERO) else NONE

    cdef Verdict _shape(self, const Value* found, Test wanted) noexcept:
        cdef const uint8_t* p
        if found.kind == WSREC_OTHER:
            if wanted == EMPTY:
                p = found.start + 1
                while wsrec_is_space(p[0]):
                    p += 1
                return SOME if p[0] == c"]" or p[0] == c"}" else NONE
            return SOME if wanted == (ARRAY if found.start[0] == c"[" else OBJECT) else NONE
        if found.kind == WSREC_TEXT:
            return SOME if wanted == TEXT or (wanted == EMPTY and not found.length) else NONE
        if found.kind == WSREC_LITERAL:
            return SOME if wanted == BOOLEAN else NONE
        if found.kind == WSREC_UNDECIDED:
            # a text with an escape, or a long number
            return PYTHON
        return SOME if wanted == NUMBER and found.kind != WSREC_ABSENT else NONE

    cdef bint _word(self, Span words, const Value* found, int32_t* code) noexcept:
        """Whether a value is one of some words."""
        cdef int32_t index
        cdef Word* word
        for index in range(words.first, words.first + words.count):
            word = &self._program.words[index]
            if word.length == found.length and not memcmp(word.start, found.start, found.length):
                code[0] = word.code
                return True
        return False

    # building

    cdef int _wish(self, steps, int32_t scope, int32_t cell) except -1:
        cdef wsrec_noted* noted = wsrec_noted_at(self._tree.places, place_at(&self._tree, steps))
        noted.wanted, noted.scope, noted.cell = True, scope, cell
        if steps and steps[len(steps) - 1] is None:
            noted.rows = scope
        return 0
