/* Stages of the way to an answer, on stderr. On a terminal the done lines stay and the running ones below them are rewritten; elsewhere
 * one line per stage, and one per 10 s of silence. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/output.h"

/* A running one. */
struct progress_stage {
    char *instance;             /* NULL: there is but one */
    char *stage, *text;
    uint64_t started_at;        /* steady */
    uint64_t said_at;           /* steady: the last line off a terminal */
    int64_t usual_ms;           /* < 0: unknown */
    int64_t next_at_ms;         /* it tries again then; 0: it does not wait */
    int64_t bytes, bytes_total, rate_bytes;
};

/* One that is over: its line stands above those. */
struct progress_row {
    char *instance, *stage, *text, *time;
};

struct progress {
    struct output *output;
    char *subject;              /* what it is about: a model, an instance */
    struct progress_stage *running;     /* of each instance at most one, in the order they began */
    unsigned n_running;
    unsigned n_lines;           /* the running ones that stand on the screen; the cursor is behind the last */
    struct progress_row *over;
    unsigned n_over;
    unsigned over_lines, over_width;    /* so many lines of the screen they take, which was so wide then */
    unsigned instance_columns;  /* of the longest name so far, where there are several */
    struct json *own;           /* names of the instances that it is about, as far as they were told */
    bool or_next;               /* it may be another machine than the one that the headline names */
    bool is_rented;             /* it is, or is to be, on a machine that costs money */
    bool header;                /* the headline is out */
    bool any;                   /* a stage really ran: it was not there already */
};

void progress_init(struct progress *p, struct output *o, const char *subject);
void progress_done(struct progress *p);
#define _cleanup_progress_ _cleanup_(progress_done)

/* "ollama:x on gz-4090, ¥1.98/h", once; of a search for several cards all of them, also off a terminal. rental: a Rental, or NULL. */
void progress_headline(struct progress *p, const char *on, const struct json *rental);
/* Names of that length come: what stands there makes room for them. */
void progress_widen(struct progress *p, unsigned columns);
/* It is about that instance. */
void progress_own(struct progress *p, const char *instance);
/* Something else was written below what is over. */
void progress_forget(struct progress *p);
/* A Progress of the contract; NULL shows nothing. */
void progress_show(struct progress *p, const struct json *progress);
/* Time has passed; and how often it should be told. */
void progress_tick(struct progress *p);
uint64_t progress_tick_ms(const struct output *o);
/* Takes the running lines back. */
void progress_clear(struct progress *p);
/* Leaves the running lines, so that something else can be written below. */
void progress_leave(struct progress *p);
