/* What a driver's server and our calls to it have in common: where it runs, the socket to it, one request at a time, and what the last
 * lines of its log mean. */
#pragma once

#include "engine/engine.h"
#include "engine/place.h"
#include "base/op.h"
#include "http/http.h"

struct forward;

/* Embedded by drivers right behind struct engine. */
struct server {
    struct engine *engine;
    struct place *place;
    struct forward *forward;
    char *name;                 /* of its files on the machine */
    char *socket;               /* of the forward */
    char *path, *log;           /* the engine's facts: as of the last answer, also while the machine is asked again */
    uint16_t port;              /* the forward's */
    int64_t gpu_before;         /* memory in use on the cards before the load; -1: unknown */
    void (*on_cards)(void *ctx);
    struct engine_reply to;     /* who waits for the step in flight */
    struct place *beside;       /* asked while a step is in flight */
    engine_life_fn on_life;
    void *life_ctx;
    struct op *op;              /* what the step waits for */
    struct op step;             /* the step itself */
};

void server_init(struct server *s, struct engine *e, const char *name);
void server_done(struct server *s);

/* A step begins: `to` is remembered; cancelling it cancels what it waits for. */
void server_begin(struct server *s, struct engine_reply to);
/* The step ends: the one who waits is told. */
void server_end(struct server *s, bool again, const struct fault *f);
void server_progress(struct server *s, int64_t bytes, int64_t bytes_total, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* After a place step: the facts of the engine and the socket follow what the machine said. */
void server_read_place(struct server *s);
/* After place_find: what is known now is in the engine's facts. False: the step has ended, because the machine could not be asked, or
 * [engine.NAME] path= leads nowhere. program: its name, for the words. */
bool server_found(struct server *s, const struct fault *f, const char *program);
/* The step ends: it is there. version: as it was told. */
void server_end_found(struct server *s, const char *version);
/* One request to the server; path and body as they go out. The answer comes to done with ctx = s. */
void server_get(struct server *s, const char *path, uint64_t timeout_ms, http_done_fn done);
void server_post(struct server *s, const char *path, const char *body, uint64_t timeout_ms, uint64_t quiet_ms,
                 void (*on_data)(void *, const char *, size_t), http_done_fn done);
void server_delete(struct server *s, const char *path, const char *body, uint64_t timeout_ms, http_done_fn done);

/* Asks the machine for its cards, which no step may fail by: done is called with ctx = s, and the engine's facts have what was said. */
void server_ask_cards(struct server *s, void (*done)(void *ctx));
/* What was said is how it was before a load (facts.free_bytes); after it: facts.measured. Without figures from before, what was measured last stays. */
void server_note_cards(struct server *s);
void server_judge_cards(struct server *s);
/* "5.6 GB, 100% GPU": what was loaded, and where it is as far as that was measured. */
void server_tell_loaded(struct server *s);

/* engine_ops.look */
void server_look_beside(struct server *s, struct op **slot, engine_life_fn done, void *ctx);
/* A failed request: done is called with the look at the process that tells "dead" from "busy"; then server_judge() has the fault. */
void server_look(struct server *s, place_done_fn done);
/* After a look: 0 when the process lives, else *f (engine_exited, out_of_memory, …) with the last line of its log. */
int server_judge(struct server *s, struct fault *f);
/* After a look at one that lives: *f says that it answers nobody (no_answer), and how its log ends. */
void server_fault_silent(const struct server *s, const char *program, struct fault *f);
/* After a failed request: whether the machine lets nobody through to its ports; then *f says so. Looking at the process would tell
 * nothing. */
bool server_is_forbidden(const struct server *s, struct fault *f);
/* Sorts the engine's own words into a code. what: the sentence in front. */
void server_explain(struct fault *f, const char *what, const char *words);

/* "0.32.15" out of "ollama version is 0.32.15"; NULL when there is no number in it. Caller frees. */
char *server_version(const char *line);
