/* One TLS record opened by libcrypto: the C of `wsrec.tls._records`. The rules, and why, are in `records.py`.

   libcrypto is called by addresses, so that nothing of OpenSSL is needed to compile this. What is called is the same in
   1.1.1 and 3 (EVP_EncryptInit(3)). No function here allocates, except wsrec_records_set_key by libcrypto. */

#ifndef WSREC_RECORDS_H
#define WSREC_RECORDS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

/* libcrypto is not instrumented: under AddressSanitizer, what it is given is looked at here */
#if defined(__SANITIZE_ADDRESS__)
void __asan_loadN_noabort(void *, size_t);
void __asan_storeN_noabort(void *, size_t);
#define WSREC_READS(start, size) __asan_loadN_noabort((void *)(start), size)
#define WSREC_WRITES(start, size) __asan_storeN_noabort((void *)(start), size)
#else
#define WSREC_READS(start, size) ((void)0)
#define WSREC_WRITES(start, size) ((void)0)
#endif

enum {
    WSREC_HEADER = 5,
    WSREC_NONCE = 12,
    WSREC_TAG = 16,
    /* RFC 5246 6.2.3.3; that of TLS 1.3 is the header */
    WSREC_AAD_MAX = 13,
    /* RFC 8446 5.1 and 5.2, RFC 5246 6.2.1 */
    WSREC_PLAINTEXT_MAX = 1 << 14,
    WSREC_TLS13_MAX = (1 << 14) + 256,
    /* as in OpenSSL (MAX_EMPTY_RECORDS) */
    WSREC_EMPTY_MAX = 32,
    /* OpenSSL refuses the fifth (MAX_WARN_ALERT_COUNT) */
    WSREC_ALERTS_MAX = 4,
    WSREC_ALERT = 21,
    WSREC_DATA = 23,
};

/* `wsrec.tls.records.Refusal`, and what is none */
enum {
    WSREC_INCOMPLETE = -1,
    WSREC_NO_ROOM = -2,
    WSREC_BAD_TYPE = -3,
    WSREC_BAD_VERSION = -4,
    WSREC_TOO_LONG = -5,
    WSREC_TOO_SHORT = -6,
    WSREC_BAD_TAG = -7,
    WSREC_NO_CONTENT = -8,
    WSREC_BAD_INNER_TYPE = -9,
    WSREC_PLAINTEXT_TOO_LONG = -10,
    WSREC_EMPTY_MESSAGE = -11,
    WSREC_TOO_MANY_EMPTY = -12,
    WSREC_TOO_MANY_ALERTS = -13,
    WSREC_SEQUENCE_END = -14,
    WSREC_WIPED = -15,
};

/* libcrypto's functions, by the names of its manual */
typedef struct {
    void *(*cipher_ctx_new)(void);
    void (*cipher_ctx_free)(void *);
    int (*cipher_ctx_ctrl)(void *, int, int, void *);
    int (*decrypt_init)(void *, const void *, void *, const unsigned char *, const unsigned char *);
    int (*decrypt_update)(void *, unsigned char *, int *, const unsigned char *, int);
    int (*decrypt_final)(void *, unsigned char *, int *);
    void (*cleanse)(void *, size_t);
    void (*clear_error)(void);
} wsrec_libcrypto;

typedef struct {
    const wsrec_libcrypto *libcrypto;
    /* the cipher with its key; only the nonce is set for each record */
    void *cipher;
    uint64_t sequence;
    /* of the whole nonce, or its first 4 bytes where 8 are in the record */
    uint8_t iv[WSREC_NONCE];
    uint8_t tls13;
    /* bytes of the nonce in each record: 8, or 0 */
    uint8_t explicit_nonce;
    /* successive records without content */
    uint8_t empty;
    /* successive alerts, but for empty records between them */
    uint8_t alerts;
    /* the refusal, once there was one */
    int8_t refused;
} wsrec_records;

static inline void wsrec_records_wipe(wsrec_records *r) {
    if (r->libcrypto) {
        /* wipes the key and its schedule, too (EVP_CIPHER_CTX_free(3)) */
        r->libcrypto->cipher_ctx_free(r->cipher);
        r->libcrypto->cleanse(r->iv, sizeof r->iv);
    }
    r->cipher = NULL;
    if (!r->refused) r->refused = WSREC_WIPED;
}

/* Take new keys: `iv_size` is 12, or 4 for a nonce of which each record has the rest. Returns 0 if libcrypto does not
   have the cipher or no memory; then the old keys are gone, too. */
static inline int wsrec_records_set_key(
    wsrec_records *r, const wsrec_libcrypto *libcrypto, const void *cipher, const uint8_t *key, const uint8_t *iv,
    size_t iv_size, int tls13, uint64_t sequence
) {
    void *made = libcrypto->cipher_ctx_new();
    wsrec_records_wipe(r);
    if (!made || (iv_size != WSREC_NONCE && iv_size != 4) || libcrypto->decrypt_init(made, cipher, NULL, key, NULL) != 1) {
        libcrypto->cipher_ctx_free(made);
        libcrypto->clear_error();
        return 0;
    }
    r->libcrypto = libcrypto;
    r->cipher = made;
    memset(r->iv, 0, sizeof r->iv);
    memcpy(r->iv, iv, iv_size);
    r->explicit_nonce = (uint8_t)(WSREC_NONCE - iv_size);
    r->tls13 = tls13 != 0;
    r->sequence = sequence;
    r->refused = 0;
    return 1;
}

static inline void wsrec_store_number(uint8_t *into, uint64_t number) {
    for (int i = 0; i < 8; i++) into[i] = (uint8_t)(number >> (56 - 8 * i));
}

/* Decrypt `size` bytes (at most 65,535) into as many, and verify them; 0 if the tag is wrong. */
static inline int wsrec_aead_open(
    const wsrec_libcrypto *libcrypto, void *cipher, const uint8_t *nonce, const uint8_t *aad, int aad_size,
    const uint8_t *ciphertext, int size, const uint8_t *tag, uint8_t *into
) {
    int done = 0, rest = 0;
    uint8_t unused[WSREC_TAG];
    WSREC_READS(nonce, WSREC_NONCE);
    WSREC_READS(aad, (size_t)aad_size);
    WSREC_READS(tag, WSREC_TAG);
    if (size) {
        WSREC_READS(ciphertext, (size_t)size);
        WSREC_WRITES(into, (size_t)size);
    }
    return libcrypto->decrypt_init(cipher, NULL, NULL, NULL, nonce) == 1
        && libcrypto->decrypt_update(cipher, NULL, &done, aad, aad_size) == 1
        && (size == 0 || (libcrypto->decrypt_update(cipher, into, &done, ciphertext, size) == 1 && done == size))
        /* EVP_CTRL_AEAD_SET_TAG; it only reads the tag */
        && libcrypto->cipher_ctx_ctrl(cipher, 0x11, WSREC_TAG, (void *)tag) == 1
        /* an authenticated cipher has nothing left to write */
        && libcrypto->decrypt_final(cipher, unused, &rest) == 1;
}

static inline int64_t wsrec_records_refuse(wsrec_records *r, uint8_t *into, size_t size, int refusal) {
    if (size) {
        WSREC_WRITES(into, size);
        r->libcrypto->cleanse(into, size);
    }
    r->refused = (int8_t)refusal;
    return refusal;
}

/* The nonce and the additional data of the record that `data` begins with; returns the size of the latter. A record
   is at least as long as header and explicit nonce. */
static inline int wsrec_records_nonce_and_aad(
    const wsrec_records *r, const uint8_t *data, size_t plain, uint8_t nonce[WSREC_NONCE], uint8_t aad[WSREC_AAD_MAX]
) {
    uint8_t number[8];
    wsrec_store_number(number, r->sequence);
    memcpy(nonce, r->iv, WSREC_NONCE);
    if (r->explicit_nonce)
        memcpy(nonce + 4, data + WSREC_HEADER, 8);
    else
        for (int i = 0; i < 8; i++) nonce[4 + i] ^= number[i];
    if (r->tls13) {
        memcpy(aad, data, WSREC_HEADER);
        return WSREC_HEADER;
    }
    memcpy(aad, number, 8);
    memcpy(aad + 8, data, 3);
    aad[11] = (uint8_t)(plain >> 8);
    aad[12] = (uint8_t)plain;
    return WSREC_AAD_MAX;
}

/* Open the record that `data` begins with. Returns the size of its content in `into`, WSREC_INCOMPLETE, WSREC_NO_ROOM
   (`into` may need as many bytes as the record has), or a refusal, which stays. Only with a size are `consumed` and
   `content_type` set. Beyond `size` bytes nothing is read, and beyond `room` nothing is written; they must not overlap. */
static inline int64_t wsrec_records_open(
    wsrec_records *r, const uint8_t *data, size_t size, uint8_t *into, size_t room, size_t *consumed,
    uint8_t *content_type
) {
    if (r->refused) return r->refused;
    if (size < WSREC_HEADER) return WSREC_INCOMPLETE;
    const uint8_t outer = data[0];
    const size_t length = (size_t)data[3] << 8 | data[4];
    const size_t overhead = (size_t)r->explicit_nonce + WSREC_TAG;
    if (r->tls13 ? outer != WSREC_DATA : outer < WSREC_ALERT || outer > WSREC_DATA)
        return wsrec_records_refuse(r, into, 0, WSREC_BAD_TYPE);
    if (data[1] != 3 || data[2] != 3) return wsrec_records_refuse(r, into, 0, WSREC_BAD_VERSION);
    if (length > (r->tls13 ? (size_t)WSREC_TLS13_MAX : WSREC_PLAINTEXT_MAX + overhead))
        return wsrec_records_refuse(r, into, 0, WSREC_TOO_LONG);
    if (length < overhead + r->tls13) return wsrec_records_refuse(r, into, 0, WSREC_TOO_SHORT);
    if (size - WSREC_HEADER < length) return WSREC_INCOMPLETE;
    if (r->sequence == UINT64_MAX) return wsrec_records_refuse(r, into, 0, WSREC_SEQUENCE_END);
    /* from here on: size >= 5 + length, and plain <= 2^14 + 240 */
    const size_t plain = length - overhead;
    if (room < plain) return WSREC_NO_ROOM;

    const uint8_t *ciphertext = data + WSREC_HEADER + r->explicit_nonce;
    uint8_t nonce[WSREC_NONCE], aad[WSREC_AAD_MAX];
    const int aad_size = wsrec_records_nonce_and_aad(r, data, plain, nonce, aad);
    if (!wsrec_aead_open(r->libcrypto, r->cipher, nonce, aad, aad_size, ciphertext, (int)plain, ciphertext + plain, into)) {
        r->libcrypto->clear_error();
        return wsrec_records_refuse(r, into, plain, WSREC_BAD_TAG);
    }

    uint8_t inner = outer;
    size_t content = plain;
    if (r->tls13) {
        while (content && !into[content - 1]) content--;
        if (!content) return wsrec_records_refuse(r, into, plain, WSREC_NO_CONTENT);
        inner = into[--content];
        if (inner < WSREC_ALERT || inner > WSREC_DATA) return wsrec_records_refuse(r, into, plain, WSREC_BAD_INNER_TYPE);
        if (content > WSREC_PLAINTEXT_MAX) return wsrec_records_refuse(r, into, plain, WSREC_PLAINTEXT_TOO_LONG);
    }
    if (content)
        r->empty = 0;
    else {
        if (inner != WSREC_DATA) return wsrec_records_refuse(r, into, plain, WSREC_EMPTY_MESSAGE);
        if (++r->empty > WSREC_EMPTY_MAX) return wsrec_records_refuse(r, into, plain, WSREC_TOO_MANY_EMPTY);
    }
    if (inner == WSREC_ALERT) {
        if (++r->alerts > WSREC_ALERTS_MAX) return wsrec_records_refuse(r, into, plain, WSREC_TOO_MANY_ALERTS);
    } else if (content)
        r->alerts = 0;
    r->sequence++;
    *consumed = WSREC_HEADER + length;
    *content_type = inner;
    return (int64_t)content;
}

static inline uint64_t wsrec_records_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* CPU time (ns) that opening one complete record `count` times takes; 0 if it cannot be opened. With `alone` it is that of
   libcrypto's functions only, which is what is to be compared with. */
static inline uint64_t wsrec_records_time(
    wsrec_records *r, const uint8_t *data, size_t size, uint8_t *into, size_t room, uint64_t count, int alone
) {
    const uint64_t sequence = r->sequence;
    size_t consumed;
    uint8_t content_type, nonce[WSREC_NONCE], aad[WSREC_AAD_MAX];
    if (wsrec_records_open(r, data, size, into, room, &consumed, &content_type) < 0) return 0;
    r->sequence = sequence;
    const size_t plain = consumed - WSREC_HEADER - r->explicit_nonce - WSREC_TAG;
    const uint8_t *ciphertext = data + WSREC_HEADER + r->explicit_nonce;
    const int aad_size = wsrec_records_nonce_and_aad(r, data, plain, nonce, aad);
    const uint64_t before = wsrec_records_clock();
    for (uint64_t i = 0; i < count; i++) {
        if (alone) {
            if (!wsrec_aead_open(
                    r->libcrypto, r->cipher, nonce, aad, aad_size, ciphertext, (int)plain, ciphertext + plain, into))
                return 0;
        } else {
            if (wsrec_records_open(r, data, size, into, room, &consumed, &content_type) < 0) return 0;
            r->sequence = sequence;
        }
    }
    return wsrec_records_clock() - before;
}

#endif
