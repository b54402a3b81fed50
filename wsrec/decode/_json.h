/* JSON in bytes (RFC 8259): its quotes as a bitmap, 64 bytes at a time, and the parsing of numbers. Shared by the field
   reader (_fields.pyx) and the table reader (_table_rows.pyx); _walk.h is the walk itself.

   With the quotes known beforehand a string costs the same at any length, and the processor need not wait for the end of
   one before it begins with the next (after Langdale and Lemire, "Parsing Gigabytes of JSON per Second", 2019). */
#ifndef WSREC_JSON_H
#define WSREC_JSON_H

#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define WSREC_EIGHT 1  /* eight bytes as a word, the first in its lowest bits */
#endif

enum { WSREC_OTHER, WSREC_TEXT, WSREC_UNDECIDED, WSREC_INTEGER, WSREC_DECIMAL, WSREC_LITERAL };

struct wsrec_value {
    const uint8_t *start;
    uint32_t length;
    int32_t kind;
};

#ifdef WSREC_EIGHT
#define WSREC_ONES 0x0101010101010101u
/* The high bit of each byte that is `least` (at most 128) or more. */
static inline uint64_t wsrec_from(uint64_t word, unsigned least) {
    return (((word & WSREC_ONES * 0x7F) + WSREC_ONES * (0x80 - least)) | word) & WSREC_ONES * 0x80;
}
#endif

/* Bitmaps of 64 bytes: quotes, and odd bytes, which need a closer look: backslashes, control characters, non-ASCII. */
static inline void wsrec_block(const uint8_t *p, uint64_t *quotes, uint64_t *odd) {
    *quotes = *odd = 0;
#if defined(__SSE2__)
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), space = _mm_set1_epi8(' ');
    for (int i = 0; i < 64; i += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(p + i));
        /* signed comparison: control characters and non-ASCII bytes are less than a space */
        __m128i wrong = _mm_or_si128(_mm_cmpeq_epi8(bytes, backslash), _mm_cmplt_epi8(bytes, space));
        *quotes |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, quote)) << i;
        *odd |= (uint64_t)(uint32_t)_mm_movemask_epi8(wrong) << i;
    }
#elif defined(WSREC_EIGHT)
    for (int i = 0; i < 64; i += 8) {
        uint64_t word, quote, wrong;
        memcpy(&word, p + i, 8);
        quote = ~wsrec_from(word ^ WSREC_ONES * '"', 1) & WSREC_ONES * 0x80;
        wrong = ~(wsrec_from(word ^ WSREC_ONES * '\\', 1) & wsrec_from(word, ' ')) | word;
        wrong &= WSREC_ONES * 0x80;
        /* the product moves the eight bits together */
        *quotes |= ((quote >> 7) * 0x0102040810204080u >> 56) << i;
        *odd |= ((wrong >> 7) * 0x0102040810204080u >> 56) << i;
    }
#else
    for (int i = 0; i < 64; i++) {
        *quotes |= (uint64_t)(p[i] == '"') << i;
        *odd |= (uint64_t)(p[i] == '\\' || p[i] < ' ' || p[i] >= 0x80) << i;
    }
#endif
}

/* Length of the multi-byte UTF-8 character at p (RFC 3629, section 4); 0 if invalid. */
static int wsrec_character(const uint8_t *p, const uint8_t *end) {
    int length = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || end - p < length) return 0;
    for (int i = 1; i < length; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F)) return 0;
    if ((p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F)) return 0;
    return length;
}

/* Mark the quotes of a message with odd bytes, byte by byte; 0 if a string is invalid or Python has to decide. */
static int wsrec_mark_odd(const uint8_t *start, const uint8_t *end, uint64_t *quotes, int *escapes) {
    int inside = 0;
    memset(quotes, 0, (size_t)(end - start + 63) / 64 * 8);
    for (const uint8_t *p = start; p < end; p++) {
        if (*p == '"') {
            quotes[(p - start) / 64] |= (uint64_t)1 << ((p - start) % 64);
            inside = !inside;
        } else if (inside && *p == '\\') {
            *escapes = 1;
            if (++p == end || !*p || !strchr("\"\\/bfnrt", *p)) return 0;
        } else if (inside && *p < ' ') {
            return 0;
        } else if (inside && *p >= 0x80) {
            int length = wsrec_character(p, end);
            if (!length) return 0;
            p += length - 1;
        }
    }
    return !inside;
}

/* Mark the quotes of a message and check the bytes of its strings; 0 as above. `limit`: end of the memory that may be
   read; `marks_of`: one bit per byte of the message. */
static inline int wsrec_mark(
    const uint8_t *start, const uint8_t *end, const uint8_t *limit, uint64_t *marks_of, int *escapes
) {
    uint64_t *quotes = marks_of, seen = 0;
    *escapes = 0;
    for (const uint8_t *p = start; p < end; p += 64) {
        uint64_t marks, odd, valid = ~(uint64_t)0;
        uint8_t copy[64];
        const uint8_t *block = p;
        if (end - p < 64) {
            valid >>= 64 - (end - p);
            if (limit - p < 64) {
                memset(copy, ' ', 64);
                memcpy(copy, p, (size_t)(end - p));
                block = copy;
            }
        }
        wsrec_block(block, &marks, &odd);
        *quotes++ = marks & valid;
        seen |= odd & valid;
    }
    return !seen || wsrec_mark_odd(start, end, marks_of, escapes);
}

#ifdef WSREC_EIGHT
/* The high bit of each byte that is not a digit. */
static inline uint64_t wsrec_no_digits(uint64_t word) {
    return wsrec_from(word ^ WSREC_ONES * '0', 10);
}
#endif

/* The first byte from p on that is not a digit; there is one before the end. */
static inline const uint8_t *wsrec_past_digits(const uint8_t *p, const uint8_t *limit) {
#ifdef WSREC_EIGHT
    while (limit - p >= 8) {
        uint64_t word, others;
        memcpy(&word, p, 8);
        others = wsrec_no_digits(word);
        if (others) return p + (__builtin_ctzll(others) >> 3);
        p += 8;
    }
#else
    (void)limit;
#endif
    while ((uint8_t)(*p - '0') <= 9) p++;
    return p;
}

/* Parse a number of at most 19 digits; 0 if it is empty or has another character. */
static inline int wsrec_digits(const uint8_t *p, const uint8_t *end, uint64_t *value) {
    uint64_t sum = 0;
    if (p == end || end - p > 19) return 0;
#ifdef WSREC_EIGHT
    for (; end - p >= 8; p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        if (wsrec_no_digits(word)) return 0;
        /* combine to pairs, fours, then all eight; the first digit is in the lowest byte */
        word = (word & 0x0F0F0F0F0F0F0F0Fu) * (10 << 8 | 1) >> 8;
        word = (word & 0x00FF00FF00FF00FFu) * (100 << 16 | 1) >> 16;
        word = (word & 0x0000FFFF0000FFFFu) * ((uint64_t)10000 << 32 | 1) >> 32;
        sum = sum * 100000000 + word;
    }
#endif
    for (; p < end; p++) {
        if ((uint8_t)(*p - '0') > 9) return 0;
        sum = sum * 10 + (*p - '0');
    }
    *value = sum;
    return 1;
}

/* The end of the number at p; NULL if there is none or Python has to decide. */
static inline const uint8_t *wsrec_number(const uint8_t *p, const uint8_t *limit, int32_t *kind) {
    const uint8_t *start;
    *kind = WSREC_INTEGER;
    if (*p == '-') p++;
    start = p;
    p = wsrec_past_digits(p, limit);
    if (p == start || p - start > 100 || (*start == '0' && p - start > 1)) return NULL;
    if (p - start > 19) *kind = WSREC_UNDECIDED;
    if (*p == '.') {
        *kind = WSREC_DECIMAL;
        start = ++p;
        p = wsrec_past_digits(p, limit);
        if (p == start || p - start > 100) return NULL;
    }
    if ((*p | 32) == 'e') {
        *kind = WSREC_DECIMAL;
        p++;
        if (*p == '+' || *p == '-') p++;
        start = p;
        p = wsrec_past_digits(p, limit);
        if (p == start || p - start > 4) return NULL;
    }
    return p;
}

/* Fewer than eight bytes as a word, from two overlapping reads. */
static inline uint64_t wsrec_few(const uint8_t *p, uint32_t length) {
    uint32_t first = 0, last = 0;
    if (length >= 4) {
        memcpy(&first, p, 4);
        memcpy(&last, p + length - 4, 4);
        return (uint64_t)first << 32 | last;
    }
    return length ? (uint64_t)p[0] << 16 | (uint64_t)p[length / 2] << 8 | p[length - 1] : 0;
}

/* An inlined memcmp: names and keys are short. */
static inline int wsrec_same(const uint8_t *a, const uint8_t *b, uint32_t length) {
    uint64_t x = 0, y = 0;
    if (length >= 8) {
        for (const uint8_t *last = a + length - 8; a < last; a += 8, b += 8, length -= 8) {
            memcpy(&x, a, 8);
            memcpy(&y, b, 8);
            if (x != y) return 0;
        }
        memcpy(&x, a + length - 8, 8);
        memcpy(&y, b + length - 8, 8);
        return x == y;
    }
    return wsrec_few(a, length) == wsrec_few(b, length);
}

static inline int wsrec_is_space(uint8_t byte) {
    return byte <= ' ' && (byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t');
}

/* Powers of ten that fit in 64 bits. */
static const uint64_t WSREC_POWERS[20] = {
    1u, 10u, 100u, 1000u, 10000u, 100000u, 1000000u, 10000000u, 100000000u, 1000000000u, 10000000000u, 100000000000u,
    1000000000000u, 10000000000000u, 100000000000000u, 1000000000000000u, 10000000000000000u, 100000000000000000u,
    1000000000000000000u, 10000000000000000000u,
};

static inline int wsrec_times(uint64_t a, uint64_t b, uint64_t *product) {
    return !__builtin_mul_overflow(a, b, product);
}

/* The number of two digits; a large number if they are not digits. */
static inline int wsrec_two(const uint8_t *p) {
    return (uint8_t)(p[0] - '0') <= 9 && (uint8_t)(p[1] - '0') <= 9 ? (p[0] - '0') * 10 + (p[1] - '0') : 10000;
}

/* The RFC 3339 time in a text, in ns; only UTC and the years 1700 to 2199 are decided here, 0 for all else. */
static int wsrec_iso(const uint8_t *p, uint32_t size, int64_t *value) {
    int length = size < 64 ? (int)size : 64, year, month, day, hour, minute, second, last;
    int64_t days, fraction = 0, scale = 1000000000;
    if (length > 19 && p[length - 1] == 'Z') length--;
    if (length < 19 || length == 20 || length > 29) return 0;
    if (p[4] != '-' || p[7] != '-' || (p[10] != 'T' && p[10] != ' ') || p[13] != ':' || p[16] != ':') return 0;
    if (length > 19) {
        if (p[19] != '.') return 0;
        for (int i = 20; i < length; i++) {
            if ((uint8_t)(p[i] - '0') > 9) return 0;
            scale /= 10;
            fraction += (p[i] - '0') * scale;
        }
    }
    year = wsrec_two(p) * 100 + wsrec_two(p + 2);
    month = wsrec_two(p + 5), day = wsrec_two(p + 8);
    hour = wsrec_two(p + 11), minute = wsrec_two(p + 14), second = wsrec_two(p + 17);
    if (year < 1700 || year > 2199 || month < 1 || month > 12 || hour > 23 || minute > 59 || second > 59) return 0;
    if (month == 2) last = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28;
    else last = month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
    if (day < 1 || day > last) return 0;
    /* days since the epoch, counted in years that begin in March, so that a leap day is the last (the proleptic Gregorian
       calendar; years are positive here) */
    year -= month <= 2;
    month = month > 2 ? month - 3 : month + 9;
    days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719468;
    *value = (days * 86400 + hour * 3600 + minute * 60 + second) * 1000000000 + fraction;
    return 1;
}

#endif
