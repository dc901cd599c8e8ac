/* What must survive: goals, instances, pinned host keys, forwards, events, usual durations. SQLite (WAL, synchronous=FULL) on a thread
 * of its own; SQL stays in this folder.
 *
 * A change is queued and gives a ticket. All changes of one turn of the loop are one transaction, begun when the turn ends. A change
 * that breaks a constraint fails alone; a batch that cannot be written stays queued and is tried again, the newest value per record,
 * events dropped first; its waiters get the fault at once. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/op.h"

struct event;
struct fault;
struct loop;
struct store;

typedef uint64_t store_ticket;

/* Opens or makes directory/llmhost.db, migrates it forward in one transaction, starts the thread. Blocks: before the loop runs.
 * 0 or -errno: *f says what is wrong with which file and what to do (damaged, from a newer version, not ours). On a full or
 * read-only disk what is there is read, and the store is stuck from the start, until it can be written. */
int store_open(struct loop *l, const char *directory, struct store **ret, struct fault *f);
/* What to type when store_open() failed with the code "store_damaged": two commands, a line each, that keep the files and save what can
 * be read. Caller frees. */
char *store_rescue(const char *directory);
/* Writes what is queued (bounded by 5 s), ends the thread. Who still waits is cancelled: done() does not run. Not from inside a
 * done(). */
struct store *store_close(struct store *s);

/* done() when the change is on disk (NULL) or could not be written (fault; it may still be written later). A ticket may be waited
 * for at any time later, also again after a fault; 0 is a change that was not needed. */
void store_after(struct store *s, store_ticket t, struct op **slot, op_done_fn done, void *ctx);
/* done() at once with NULL while all is well; else after a try to write (one a second at most) with what became of it. For those who
 * begin nothing that cannot be kept. */
void store_ready(struct store *s, struct op **slot, op_done_fn done, void *ctx);
/* How old the oldest change is that could not be written yet, or is being written for more than 5 s; 0: none; and why. */
uint64_t store_stuck_ms(const struct store *s, const struct fault **ret_fault);
/* Eight letters and digits made at first start: who we are to others. */
const char *store_daemon_id(const struct store *s);

/* ---- records: written whole, read once at start ---- */

struct instance_record {
    char *name, *provider;          /* "ssh", "local" */
    char *host, *user;              /* NULL for local */
    uint16_t port;
    bool install_key;
    char *agent;                    /* the socket of an ssh-agent, NULL: none */
    char *proxy;                    /* as of proto/ssh_proxy.h, NULL: a TCP connection */
    int64_t added_at_ms;
    uint8_t *host_key;              /* pinned blob, NULL: none */
    size_t n_host_key;
    int64_t host_key_at_ms;
};
struct deployment_record {
    char *name;                     /* "ollama:deepseek-r1:7b" */
    char *instance;
    char *goal;                     /* "on_demand", "on", "off" */
    int64_t goal_at_ms;
    bool touched;                   /* a server of ours may run on the machine: what is not wanted must still be stopped */
    char *shown;                    /* the engine's description of the model at its last load (JSON), NULL: none */
    int64_t requests, last_used_at_ms;
    char *arguments;                /* of its server, a JSON array of strings; NULL: none */
    char *asleep;                   /* why it sleeps, or is on its way there; NULL: it is not */
    int64_t asleep_at_ms;           /* since when; 0: not yet */
    int64_t keep_until_at_ms;       /* of the goal "on", else 0 */
};
struct forward_record {
    char *instance, *listen_ip, *address;
    uint16_t listen_port, port;
};

/* Puts insert or replace, and copy. A deployment or forward of an instance that is not there is refused with FAULT_GONE. */
store_ticket store_put_instance(struct store *s, const struct instance_record *r);
store_ticket store_remove_instance(struct store *s, const char *name);                       /* with its forwards and deployments */
store_ticket store_put_deployment(struct store *s, const struct deployment_record *r);
store_ticket store_remove_deployment(struct store *s, const char *name, const char *instance);
store_ticket store_put_forward(struct store *s, const struct forward_record *r);
store_ticket store_remove_forward(struct store *s, const char *listen_ip, uint16_t listen_port);

/* Everything, once, before the loop runs. Pointers last for the call. */
struct store_readers {
    void (*instance)(void *ctx, const struct instance_record *r);
    void (*deployment)(void *ctx, const struct deployment_record *r);
    void (*forward)(void *ctx, const struct forward_record *r);
};
int store_load(struct store *s, const struct store_readers *readers, void *ctx, struct fault *f);

/* ---- short names of models ---- */
store_ticket store_put_alias(struct store *s, const char *name, const char *model);
store_ticket store_remove_alias(struct store *s, const char *name);
/* As store_load(), in order of their names. */
int store_load_aliases(struct store *s, void (*alias)(void *ctx, const char *name, const char *model), void *ctx, struct fault *f);

/* ---- what was asked of a model, by whom ---- */
struct count_record {
    char *model, *client;
    int64_t requests, errors, prompt_tokens, answer_tokens, request_bytes, answer_bytes;
    char *first, *total;            /* as gateway/histogram.h writes them */
};
store_ticket store_put_count(struct store *s, const struct count_record *r);
store_ticket store_remove_counts(struct store *s, const char *model);
/* As store_load(). */
int store_load_counts(struct store *s, void (*count)(void *ctx, const struct count_record *r), void *ctx, struct fault *f);

/* ---- the API keys of applications: what is kept of them ---- */
#define STORE_KEY_HASH_BYTES 32
struct key_record {
    char *name;
    uint8_t hash[STORE_KEY_HASH_BYTES];
    int64_t made_at_ms;
};
store_ticket store_put_key(struct store *s, const struct key_record *r);
store_ticket store_remove_key(struct store *s, const char *name);
/* As store_load(), oldest first. */
int store_load_keys(struct store *s, void (*key)(void *ctx, const struct key_record *r), void *ctx, struct fault *f);

/* ---- events ---- */
void store_put_event(struct store *s, const struct event *e);           /* the newest 100,000 are kept */
/* The newest lines (at most 10,000), oldest first; older: how many more match. target NULL: all; since_at_ms 0: no bound. An op;
 * rows last for the call. What was put before is seen. */
struct event_row {
    int64_t at_ms;
    char *level, *source, *target, *kind, *text;
};
typedef void (*store_events_fn)(void *ctx, const struct event_row *rows, unsigned n, uint64_t older, const struct fault *f);
void store_read_events(struct store *s, const char *target, int64_t since_at_ms, unsigned lines, struct op **slot,
                       store_events_fn done, void *ctx);

/* ---- how long things usually take: the median of the last 15 ---- */
/* what: "STAGE MODEL INSTANCE" */
void store_put_duration(struct store *s, const char *what, uint64_t ms);
/* From memory. 0: never seen. */
uint64_t store_usual_ms(const struct store *s, const char *what);
