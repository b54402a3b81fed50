# cython: language_level=3, boundscheck=False, wraparound=False
"""The program of the compiled table reader in memory: what `wsrec.decode.table_program` has, as arrays of structs."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free

from wsrec.decode._places cimport allocate


# tests of a condition
cdef enum Test:
    PRESENT, ABSENT, EQUALS, DIFFERS, ZERO, NOT_ZERO, ARRAY, OBJECT, TEXT, NUMBER, BOOLEAN, EMPTY


cdef enum Type:  # A_NUMBER and A_SIZE are doubles
    A_NUMBER, A_SIZE, A_TIME, AN_INTEGER, A_COUNT, A_WORD, A_TEXT, A_TRUTH


# forms of a declaration
cdef enum Form:
    PLAIN, SIDES, LEVEL


cdef struct Where:
    # a cell of a scope
    int32_t scope
    int32_t cell


cdef struct Span:
    int32_t first
    int32_t count


cdef struct Word:
    const uint8_t* start
    uint32_t length
    int32_t code  # -1: no value


cdef struct Condition:
    Where at
    Test test
    Span texts
    bint has_others  # a text that is none of these, and none of `others`, is Python's to refuse
    Span others
    bint may_be_absent


cdef struct Cell:
    bint is_constant
    Where at
    Span conditions
    Span words  # count 0: none
    Span none
    bint none_zero
    bint is_signed
    int32_t positive
    int32_t negative
    bint absolute
    bint clip
    int32_t exponent  # of times: units of 10**exponent ns; -1: RFC 3339 text
    int64_t constant
    double number


cdef struct Column:
    Type type
    Span cells
    int32_t output
    bint required
    bint says  # whether a value makes the row say something


cdef struct Flag:
    int32_t bit
    Span when
    int32_t column  # -1: by conditions; else the word is the bit


cdef struct Side:
    bint declared
    Where array
    int32_t scope
    Span columns
    Span delete


cdef struct Declaration:
    Form form
    int32_t table
    Span when
    int32_t rows  # scope
    Where row  # the row itself, or the array of rows in its parent
    bint has_row
    Where array
    bint has_array
    Span where
    Span columns
    Span flags
    int32_t flags_output
    bint is_statement
    bint is_nested
    int32_t best[6]  # outputs of price, size and count of both sides; -1: none
    bint needs_symbol
    # books
    int32_t always_snapshot
    Span snapshot
    Span delete
    bint refuses_zero_price
    Side sides[2]
    int32_t action
    int32_t is_snapshot
    int32_t side
    int32_t price
    int32_t size


cdef struct RowProgram:
    Condition* conditions
    Word* words
    Cell* cells
    Column* columns
    Flag* flags
    Span* skips
    int32_t skip_count
    Declaration* declarations
    int32_t declaration_count


cdef inline list load_program(RowProgram* loaded, program, dict tests, dict types, dict forms):
    """Load a program: lists of plain values, in the order of the fields above.

    Returns:
        What owns the memory of its words.

    """
    cdef int32_t index, side
    cdef Declaration* d
    cdef list kept = []
    loaded.conditions = <Condition*>allocate(len(program.conditions), sizeof(Condition))
    for index, condition in enumerate(program.conditions):
        loaded.conditions[index].at = where_of(condition.at)
        loaded.conditions[index].test = <Test><int>tests[condition.test]
        loaded.conditions[index].texts = span_of(condition.texts)
        loaded.conditions[index].has_others = condition.has_others
        loaded.conditions[index].others = span_of(condition.others)
        loaded.conditions[index].may_be_absent = condition.may_be_absent
    loaded.words = <Word*>allocate(len(program.words), sizeof(Word))
    for index, (text, code) in enumerate(program.words):
        kept.append(text)
        loaded.words[index].start, loaded.words[index].length = text, len(text)
        loaded.words[index].code = code
    loaded.cells = <Cell*>allocate(len(program.cells), sizeof(Cell))
    for index, cell in enumerate(program.cells):
        loaded.cells[index].is_constant = cell.is_constant
        loaded.cells[index].at = where_of(cell.at)
        loaded.cells[index].conditions = span_of(cell.conditions)
        loaded.cells[index].words = span_of(cell.words)
        loaded.cells[index].none = span_of(cell.none)
        loaded.cells[index].none_zero = cell.none_zero
        loaded.cells[index].is_signed = cell.is_signed
        loaded.cells[index].positive, loaded.cells[index].negative = cell.positive, cell.negative
        loaded.cells[index].absolute, loaded.cells[index].clip = cell.absolute, cell.clip
        loaded.cells[index].exponent = cell.exponent
        loaded.cells[index].constant, loaded.cells[index].number = cell.constant, cell.number
    loaded.columns = <Column*>allocate(len(program.columns), sizeof(Column))
    for index, column in enumerate(program.columns):
        loaded.columns[index].type = <Type><int>types[column.kind]
        loaded.columns[index].cells = span_of(column.cells)
        loaded.columns[index].output = column.output
        loaded.columns[index].required, loaded.columns[index].says = column.required, column.says
    loaded.flags = <Flag*>allocate(len(program.flags), sizeof(Flag))
    for index, (bit, when, column) in enumerate(program.flags):
        loaded.flags[index].bit, loaded.flags[index].when = bit, span_of(when)
        loaded.flags[index].column = column
    loaded.skips = <Span*>allocate(len(program.skips), sizeof(Span))
    loaded.skip_count = len(program.skips)
    for index, span in enumerate(program.skips):
        loaded.skips[index] = span_of(span)
    loaded.declarations = <Declaration*>allocate(len(program.declarations), sizeof(Declaration))
    loaded.declaration_count = len(program.declarations)
    for index, declared in enumerate(program.declarations):
        d = &loaded.declarations[index]
        d.form, d.table, d.when = <Form><int>forms[declared.form], declared.table, span_of(declared.when)
        d.rows = declared.rows
        d.has_row, d.has_array = declared.row is not None, declared.array is not None
        d.row, d.array = where_of(declared.row or (0, 0)), where_of(declared.array or (0, 0))
        d.where, d.columns = span_of(declared.where), span_of(declared.columns)
        d.flags, d.flags_output = span_of(declared.flags), declared.flags_output
        d.is_statement, d.needs_symbol = declared.is_statement, declared.needs_symbol
        d.is_nested = declared.is_nested
        for side in range(6):
            d.best[side] = declared.best[side]
        d.always_snapshot, d.snapshot = declared.always_snapshot, span_of(declared.snapshot)
        d.delete, d.refuses_zero_price = span_of(declared.delete), declared.refuses_zero_price
        d.action, d.is_snapshot, d.side, d.price, d.size = declared.outputs
        for side in range(2):
            levels = declared.sides[side]
            d.sides[side].declared = levels is not None
            if levels is not None:
                d.sides[side].array, d.sides[side].scope = where_of(levels.array), levels.scope
                d.sides[side].columns, d.sides[side].delete = span_of(levels.columns), span_of(levels.delete)
    return kept


cdef inline void free_program(RowProgram* loaded) noexcept:
    free(loaded.conditions)
    free(loaded.words)
    free(loaded.cells)
    free(loaded.columns)
    free(loaded.flags)
    free(loaded.skips)
    free(loaded.declarations)


cdef inline Where where_of(pair):
    cdef inline Where found
    found.scope, found.cell = pair
    return found


cdef inline Span span_of(pair):
    cdef inline Span found
    found.first, found.count = pair
    return found
