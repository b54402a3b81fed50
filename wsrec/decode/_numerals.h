/* Numbers as exchanges write them: their digits, compared and converted without rounding twice. */
#ifndef WSREC_NUMERALS_H
#define WSREC_NUMERALS_H

#include <stdint.h>

/* Powers of ten that a double holds exactly. */
static const double WSREC_EXACT[23] = {
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
};

/* A number as its digits: without sign, zeros in front and behind, and point; times 10**exponent. */
struct wsrec_numeral {
    const uint8_t *start;  /* first digit that is not zero */
    int32_t digits;        /* from there to the last one that is not zero, without the point */
    int32_t exponent;
    int negative;
};

/* Parse a number as exchanges write them (`wsrec.decode.row_values.is_number`); 0 if it is none. */
static inline int wsrec_parse_numeral(const uint8_t *p, const uint8_t *end, struct wsrec_numeral *found) {
    const uint8_t *first = NULL;
    int32_t point = 0, seen = 0, exponent = 0, count = 0, significant = 0;
    if (end - p > 100 || p == end) return 0;
    found->negative = *p == '-';
    if (*p == '-' || *p == '+') p++;
    for (; p < end; p++) {
        if (*p == '.') {
            if (point++) return 0;
            continue;
        }
        if ((uint8_t)(*p - '0') > 9) break;
        seen++;
        exponent -= point;
        if (*p != '0' && !first) first = p;
        if (first) count++;
        if (*p != '0') significant = count;
    }
    if (!seen) return 0;
    if (p < end) {
        int32_t power = 0, negative;
        if ((*p | 32) != 'e' || ++p == end) return 0;
        negative = *p == '-';
        if (*p == '-' || *p == '+') p++;
        if (p == end || end - p > 4) return 0;
        for (; p < end; p++) {
            if ((uint8_t)(*p - '0') > 9) return 0;
            power = power * 10 + (*p - '0');
        }
        exponent += negative ? -power : power;
    }
    found->start = first;
    found->digits = significant;
    found->exponent = exponent + (count - significant);
    return 1;
}

/* The digits of a numeral of at most 19, as an integer. */
static inline uint64_t wsrec_mantissa(const struct wsrec_numeral *numeral) {
    uint64_t sum = 0;
    const uint8_t *p = numeral->start;
    for (int32_t left = numeral->digits; left; p++)
        if (*p != '.') {
            sum = sum * 10 + (uint64_t)(*p - '0');
            left--;
        }
    return sum;
}

/* Whether two numerals are the same number. */
static inline int wsrec_equal(const struct wsrec_numeral *a, const struct wsrec_numeral *b) {
    const uint8_t *p = a->start, *q = b->start;
    if (a->digits != b->digits) return 0;
    if (!a->digits) return 1;
    if (a->exponent != b->exponent || a->negative != b->negative) return 0;
    for (int32_t left = a->digits; left; left--, p++, q++) {
        if (*p == '.') p++;
        if (*q == '.') q++;
        if (*p != *q) return 0;
    }
    return 1;
}

#endif
