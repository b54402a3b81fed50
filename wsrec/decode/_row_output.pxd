# cython: language_level=3, boundscheck=False, wraparound=False
"""The columns of tables in the making: the values, validity and texts of the rows so far."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from wsrec.decode._places cimport grown
from wsrec.decode._row_program cimport A_TEXT, Type
from wsrec.decode._row_values cimport Result


cdef struct Output:
    Type type
    uint8_t* data  # 8 bytes a row
    uint8_t* valid  # a byte a row
    uint8_t* text  # of A_TEXT
    uint64_t text_size
    uint64_t text_room


cdef struct Table:
    Output* outputs
    int32_t output_count
    int64_t* message
    uint64_t rows
    uint64_t room


cdef inline int begin_row(Table* table, int64_t message) except -1:
    """Make room for the next row, without values."""
    cdef int32_t index
    cdef Output* output
    cdef uint64_t room
    if table.rows == table.room:
        room = table.room * 2 if table.room else 1024
        table.message = <int64_t*>grown(table.message, room * 8)
        for index in range(table.output_count):
            output = &table.outputs[index]
            output.data = <uint8_t*>grown(output.data, room * 8)
            output.valid = <uint8_t*>grown(output.valid, room)
        table.room = room
    table.message[table.rows] = message
    for index in range(table.output_count):
        output = &table.outputs[index]
        output.valid[table.rows] = 0
        if output.type == A_TEXT:
            # what an unfinished row left is forgotten
            output.text_size = (<uint64_t*>output.data)[table.rows - 1] if table.rows else 0
            (<uint64_t*>output.data)[table.rows] = output.text_size
        else:
            (<int64_t*>output.data)[table.rows] = 0
    return 0


cdef inline void free_table(Table* table) noexcept:
    cdef int32_t column
    for column in range(table.output_count):
        free(table.outputs[column].data)
        free(table.outputs[column].valid)
        free(table.outputs[column].text)
    free(table.outputs)
    free(table.message)


cdef inline void no_quote(Table* table, const int32_t* outputs) noexcept:
    """Without a price, or with price 0, there is no quote on a side."""
    cdef int32_t index
    if table.outputs[outputs[0]].valid[table.rows] and (<double*>table.outputs[outputs[0]].data)[table.rows] != 0:
        return
    for index in range(3):
        if outputs[index] >= 0:
            table.outputs[outputs[index]].valid[table.rows] = 0


cdef inline void put(Table* table, int32_t output, int64_t value) noexcept:
    (<int64_t*>table.outputs[output].data)[table.rows] = value
    table.outputs[output].valid[table.rows] = 1


cdef inline int put_text(Table* table, int32_t index, const Result* result) except -1:
    cdef Output* output = &table.outputs[index]
    if output.text_size + result.length > output.text_room:
        output.text_room = (output.text_size + result.length) * 2
        output.text = <uint8_t*>grown(output.text, output.text_room)
    memcpy(output.text + output.text_size, result.start, result.length)
    output.text_size += result.length
    (<uint64_t*>output.data)[table.rows] = output.text_size
    output.valid[table.rows] = 1
    return 0
