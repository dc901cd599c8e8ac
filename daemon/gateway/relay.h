/* Heads on their way through, and answers of our own. What concerns one connection alone stays behind; all the rest passes as
 * it came. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/dialect.h"

struct buf;
struct client;
struct http1_head;

/* ---- answers of our own ---- */

struct reply {
    unsigned status;
    const char *type;               /* Content-Type; NULL: no body */
    const char *body;
    size_t n;
    bool head_only;                 /* answers HEAD */
    const char *origin;             /* an allowed one that asked, NULL: none */
    const char *fields;             /* further lines, each with CR LF; NULL: none */
};
/* Sends the whole answer; client_answered() is the caller's. */
void reply_send(struct client *c, const struct reply *r);
const char *reply_reason(unsigned status);

/* ---- there ---- */

/* The head for the engine at 127.0.0.1:port. Keys and cookies of the application stay here: the engine asks for none, and the
 * machine is rented. plain: its answer must not be compressed, because our head may be in front of it. */
void relay_request_head(const struct http1_head *head, const char *path, uint16_t port, uint64_t size_bytes, bool plain,
                        struct buf *out);

/* ---- and back ---- */

enum relay_kind { RELAY_PLAIN, RELAY_SSE, RELAY_LINES };

struct relay {
    enum relay_kind kind;           /* how a loss can be said in it */
    bool chunked;                   /* towards the application */
    bool bounded;                   /* by Content-Length: nothing can be added */
    bool own;                       /* the head was ours */
    char tail[2];                   /* the last bytes that passed */
    uint64_t bytes;
};

/* The head for the application. old: it speaks HTTP/1.0; closes: the connection ends after this answer. */
void relay_answer_head(struct relay *r, const struct http1_head *answer, bool old, bool closes, const char *origin, struct buf *out);
/* A head of our own in front of status lines or heartbeats, when the engine's is not known yet. */
void relay_own_head(struct relay *r, const char *type, bool old, bool closes, const char *origin, struct buf *out);
void relay_data(struct relay *r, struct client *c, const char *data, size_t n);
/* Bytes that say nothing, in front of an answer: they count as none of it. */
void relay_beat(struct relay *r, struct client *c, const char *beat);
/* The last chunk, where there are chunks. */
void relay_end(struct relay *r, struct client *c);
/* Can a loss be said in this answer? */
bool relay_can_tell(const struct relay *r);
/* Says it: error, a JSON object of the dialect, as an event of its own and a clean end. False: it went where a whole document was
 * due, and the connection must end without the last chunk. */
bool relay_tell(struct relay *r, struct client *c, const char *error);
