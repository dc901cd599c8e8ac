/* HTTP/1 messages read in pieces: requests of applications and answers of engines. The parser library (http_parser or llhttp)
 * stays in http1.c and never sees a byte that has not passed our own checks, which are stricter than both: what two programs
 * in a row could understand differently is refused. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP1_HEAD_BYTES_MAX (32u << 10)
#define HTTP1_FIELDS_MAX     128

struct buf;
struct http1;

enum http1_kind { HTTP1_REQUEST, HTTP1_ANSWER };

/* How the end of a body is known. */
enum http1_framing { HTTP1_NO_BODY, HTTP1_LENGTH, HTTP1_CHUNKED, HTTP1_UNTIL_CLOSE };

struct http1_field {
    const char *name, *value;       /* as written, without the white space around the value */
};

struct http1_head {
    const char *method, *target;    /* of a request */
    unsigned status;                /* of an answer */
    const char *reason;
    unsigned minor;                 /* HTTP/1.minor */
    struct http1_field *fields;
    unsigned n_fields;
    enum http1_framing framing;
    uint64_t length_bytes;          /* HTTP1_LENGTH */
    bool keep_alive;                /* the connection may be used for another message after this one */
};

/* Why a message was refused, and the status that says so. */
struct http1_refusal {
    unsigned status;                /* 400, 413, 431, 501, 503 (no memory) or 505; for answers it means nothing */
    const char *text;               /* one sentence without a full stop; static */
};

struct http1 *http1_new(enum http1_kind kind);     /* NULL: no memory */
struct http1 *http1_free(struct http1 *h);
/* Forgets the message; the next one of the same connection begins. */
void http1_next(struct http1 *h);

/* 1: the head is whole and http1_get_head() has it. 0: not yet. -EBADMSG: refused, see http1_get_refusal(). *ret_used: bytes
 * taken, all of them unless the head ended before. */
int http1_read_head(struct http1 *h, const char *data, size_t n, size_t *ret_used);
/* Has a byte of the head been seen? */
bool http1_has_begun(const struct http1 *h);
/* After the head: adds what is body to out, which must have room for n more bytes, without chunk framing. 1: the message is over.
 * 0: not yet. -EBADMSG: refused; -ENOBUFS, -ENOMEM: likewise, out could not take it. */
int http1_read_body(struct http1 *h, const char *data, size_t n, struct buf *out, size_t *ret_used);
/* The peer sends no more. 0: that was the end of the body; -EPIPE: something is missing. */
int http1_read_end(struct http1 *h);

/* Valid until http1_next() or http1_free(). */
const struct http1_head *http1_get_head(const struct http1 *h);
const struct http1_refusal *http1_get_refusal(const struct http1 *h);

/* May the byte stand in a name (RFC 9110, 5.6.2)? */
bool http1_is_token_char(unsigned char c);
/* The first field of that name (any case), NULL: none. */
const char *http1_field(const struct http1_head *head, const char *name);
unsigned http1_count_fields(const struct http1_head *head, const char *name);
/* Does one of the comma-separated values of these fields equal word (any case)? */
bool http1_field_lists(const struct http1_head *head, const char *name, const char *word);
