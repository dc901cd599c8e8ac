/* A model wanted on an instance. A life (deployment_fsm.c): it places, connects, starts, fetches and loads while wanted, holds
 * requests meanwhile, and drains, unloads and stops when not. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/list.h"
#include "base/op.h"
#include "policy/idle.h"
#include "session/host.h"

struct deployment;
struct engine_facts;
struct engine_ops;
struct json;

/* What people want. `down` sets off, `up` on_demand: it sleeps when nobody asks; `keep` sets on, until an instant. */
enum deployment_goal { GOAL_OFF, GOAL_ON_DEMAND, GOAL_ON };

enum deployment_state {
    DEPLOYMENT_OFF,             /* not wanted, and nothing of it runs as far as we know */
    DEPLOYMENT_ASLEEP,          /* wanted, but not in memory: the next request or `up` brings it back */
    DEPLOYMENT_CONNECTING,      /* waits for the way to the machine */
    DEPLOYMENT_INSTALLING,      /* finds the engine, or puts it there */
    DEPLOYMENT_PLACING,         /* finds room in the machine's memory: just before STARTING of its own server, LOADING of a shared one */
    DEPLOYMENT_STARTING,        /* its server */
    DEPLOYMENT_FETCHING,        /* the model onto the machine: both engines do it through their server, so after starting */
    DEPLOYMENT_LOADING,
    DEPLOYMENT_READY,
    DEPLOYMENT_DRAINING,        /* finishes open requests, takes no new ones */
    DEPLOYMENT_STOPPING,        /* unloads, stops the server; shown as draining */
    DEPLOYMENT_FAILED,          /* stays until `up` or `down` */
};

const char *deployment_state_name(enum deployment_state s);         /* Model.state of the contract */
const char *deployment_goal_name(enum deployment_goal g);           /* Model.goal of the contract, and the database */

/* ---- what the gateway needs (daemon/gateway) ---- */

const char *deployment_name(const struct deployment *d);            /* "ollama:deepseek-r1:7b" */
const char *deployment_id(const struct deployment *d);              /* "deepseek-r1:7b": what applications and the engine call it */
const struct engine_ops *deployment_engine(const struct deployment *d);
enum deployment_state deployment_state(const struct deployment *d);
enum deployment_goal deployment_goal(const struct deployment *d);

/* Wakes one that is asleep. Done when requests can be sent (NULL), or when they cannot: FAULT_GONE "stopped_by_user" (off or draining), or the fault it failed with. Never waits for ever by itself in those states; while it is waking
 * or the tunnel is down it waits until the caller cancels. */
void deployment_hold(struct deployment *d, struct op **slot, op_done_fn done, void *ctx);
/* A fresh connection to the engine's port; waits while the tunnel is down. done() takes the stream. */
void deployment_dial(struct deployment *d, struct op **slot, host_dial_fn done, void *ctx);
/* The way to its machine is open just now. */
bool deployment_is_reachable(const struct deployment *d);
/* Its machine is off, and only a person switches it on: true, and *ret says so, with where. */
bool deployment_needs_hand(const struct deployment *d, struct fault *ret);
/* Changes whenever the server behind it is another one than before: connections of an older number are of no use. */
unsigned deployment_server_number(const struct deployment *d);

/* One request, as its model knows it; lives in the request. */
struct deployment_use {
    struct list node;               /* among those that are open, or those that are held, the oldest first */
    int64_t begun_at_ms, held_at_ms;
};
/* A request has arrived (it counts, also while it is held) and has ended. Draining waits for the last one. */
void deployment_request_begin(struct deployment *d, struct deployment_use *u);
void deployment_request_end(struct deployment *d, struct deployment_use *u);
/* It has reached no engine, and goes to another deployment of that name, with its age: at d it never was. Not held at that moment. */
void deployment_request_moved(struct deployment *d, struct deployment *to, struct deployment_use *u);
/* It is held, or no longer: shown in status. The caller knows that this is a change. */
void deployment_request_held(struct deployment *d, struct deployment_use *u, bool held);
/* A request waits for bytes of the engine (+1), or no longer does (-1). */
void deployment_waiting(struct deployment *d, int change);
/* A byte of an answer has come from the engine: it lives. */
void deployment_hears(struct deployment *d);
/* A request got no answer although the connection stood or was refused: look whether the engine lives. */
void deployment_doubt(struct deployment *d);
/* How a request fared: answered well, or not at all or with the engine's own failure. Then others of its name are asked first, until it
 * answers well or DEPLOYMENT_SHUN_MS are over. */
#define DEPLOYMENT_SHUN_MS 10000
void deployment_served(struct deployment *d, bool well);
bool deployment_is_shunned(const struct deployment *d);
/* As deployment_doubt(), for one who wants to know what was found: done with why the server ended, or NULL when it lives or nobody can tell. Takes as
 * long as a look does; the caller cancels when that is too long. */
void deployment_judge(struct deployment *d, struct op **slot, op_done_fn done, void *ctx);
/* An idle connection to it ended: the next look, whenever that is, asks whether it is still the same process. */
void deployment_suspect(struct deployment *d);
/* True once `down --now` cuts: open requests end now, with an error event where they have begun. Announced by the manager's
 * listener (manager.h). */
bool deployment_is_cut(const struct deployment *d);

/* The engine's own description (engine.h, struct engine_facts.shown), also while it is off; NULL before the first load. */
const struct json *deployment_shown(const struct deployment *d);
const struct engine_facts *deployment_facts(const struct deployment *d);

/* ---- what the manager and the verbs need ---- */

#define DEPLOYMENT_TEXT_MAX 160

struct deployment_record;
struct http;
struct lease;
struct loop;
struct resolver;
struct settings;
struct store;

/* Borrowed for the life of the deployment. */
struct deployment_context {
    struct loop *loop;
    struct http *http;
    struct resolver *resolver;
    struct store *store;
    const struct settings *settings;
    const char *socket_directory, *state_directory;
    struct idle_rule idle;
    /* From the run queue, after anything that people may see has changed. */
    void (*changed)(void *ctx, struct deployment *d);
    /* Does another deployment on the same machine need the same server? */
    bool (*shares_server)(void *ctx, const struct deployment *d);
    /* Is there room for it on its machine (true), or was somebody told to make some, or must it wait? Then ret_text says for whom.
     * *crowded: the engine said that it is too much; somebody has to go, which clears it. */
    bool (*find_room)(void *ctx, struct deployment *d, bool *crowded, char ret_text[static DEPLOYMENT_TEXT_MAX]);
    /* Does any other one hold memory of that machine? */
    bool (*has_neighbours)(void *ctx, const struct deployment *d);
    void *ctx;
};

/* name is valid (model_name_parse) and its engine known. restored: the record of an earlier life of the daemon, or NULL. The
 * goal is GOAL_OFF until deployment_want(), or the record's. */
struct deployment *deployment_new(const struct deployment_context *context, struct lease *l, const char *name,
                                  const struct deployment_record *restored);
/* What runs on the machine goes on running. Requests that still hold are answered. */
struct deployment *deployment_free(struct deployment *d);

/* Sets the goal and writes it; what has to happen happens from the run queue. cut: with GOAL_OFF, do not wait for open requests. */
uint64_t deployment_want(struct deployment *d, enum deployment_goal goal, bool cut);       /* a store_ticket */
/* It takes no new requests, ends its open ones (cut: now), is unloaded (its own server stopped), and then sleeps until a request, `up`
 * or `keep`; a keep is over. why: "idle for 5m", "made room for ollama:phi4". A store_ticket; 0: it is off, or has failed. */
uint64_t deployment_sleep(struct deployment *d, bool cut, const char *why);
/* The two whys that are somebody's word; of anything else a machine that is rented waits for its idle time. */
#define DEPLOYMENT_SLEEP_WORD    "llmhostctl sleep"
#define DEPLOYMENT_SLEEP_REQUEST "ollama stop"
bool deployment_sleeps_by_word(const struct deployment *d);
/* As deployment_want(GOAL_OFF), but not by a person: a limit of money, a machine that was switched off elsewhere again. why is what is said of
 * it from now on (deployment_describe_off()); its code is also the event's. */
uint64_t deployment_end(struct deployment *d, const struct fault *why, bool cut);
/* As deployment_want(GOAL_OFF), since its name is wanted elsewhere: why, code "passed_over", is what is said of it from now on. No event. */
uint64_t deployment_pass(struct deployment *d, const char *why, bool cut);
/* It was asked to, and does not yet. */
bool deployment_is_falling_asleep(const struct deployment *d);
/* It does not sleep before until_at_ms, and is woken if it does; 0: that is over. A store_ticket. */
uint64_t deployment_keep(struct deployment *d, int64_t until_at_ms);
/* What its server is started with besides, an array of strings (engine_check_arguments() took them). One that runs with others is
 * drained and started anew by the deployment_want() that follows. False: it has these already. */
bool deployment_set_arguments(struct deployment *d, const struct json *arguments);
bool deployment_has_arguments(const struct deployment *d, const struct json *arguments);
const struct json *deployment_arguments(const struct deployment *d);       /* NULL: none */
/* When it last asked its machine how much memory is free. */
int64_t deployment_looked_at_ms(const struct deployment *d);
/* Why it is asleep, or what it waits for while it finds no room; NULL: neither. */
const char *deployment_room_text(const struct deployment *d);
/* It is off, but the server it used goes on: another llmhostd started that. */
bool deployment_leaves_server(const struct deployment *d);
/* On the way up that begins with the next deployment_want(), or is under way, an engine is installed also without a hash. */
void deployment_allow_unverified(struct deployment *d);
/* How much of its machine's disk it needs, where that can be asked (need.h) and is not known from its having been there; false: it
 * is not asked. */
struct engine_need;
bool deployment_ask_need(const struct deployment *d, struct engine_need *ret, struct op **slot, void (*done)(void *ctx), void *ctx);
/* The way to the machine changed. */
void deployment_look(struct deployment *d);
struct lease *deployment_lease(const struct deployment *d);
/* Nothing of it runs and nothing is wanted: may be forgotten. */
bool deployment_is_idle(const struct deployment *d);
/* As far as we know a server of it may run on the machine: whoever forgets it says so. */
bool deployment_may_run(const struct deployment *d);

struct deployment_figures {
    unsigned open, held;            /* requests that have gone out, or are about to; that wait until they can */
    int64_t open_since_at_ms, held_since_at_ms;     /* of the oldest of each; 0: none */
    int64_t requests, last_used_at_ms, since_at_ms;
    int64_t drain_ends_at_ms;       /* 0: not draining */
    int64_t sleeps_at_ms;           /* if nobody asks before; 0: not as things are */
    int64_t min_up_until_at_ms;     /* before that it does not sleep; 0: that is over */
    int64_t keep_until_at_ms;       /* 0: not kept */
    uint64_t unload_ms;             /* how long without a request until it sleeps; 0: never by itself */
    unsigned flaps;                 /* wakes soon after a sleep, in a row: each doubled unload_ms */
    uint64_t took_ms, usual_ms;     /* of the way from `up` to ready, the last time, and usually, without the wait for a card; 0: never */
    uint64_t used_due;              /* the last request's arrival or end, `up`, `keep`, or its getting ready; 0: not since the daemon started */
    uint64_t asked_due;             /* the last of these but for getting ready */
    uint64_t since_due;             /* as since_at_ms */
    bool by_request;                /* its way up was begun by a request, not by a word */
};
void deployment_figures(const struct deployment *d, struct deployment_figures *ret);
/* Its goal is GOAL_OFF: who switched it off, and when. */
void deployment_describe_off(const struct deployment *d, struct fault *ret);
/* Why it failed, or what is wrong although it goes on; kind FAULT_NONE while all is well. */
const struct fault *deployment_fault(const struct deployment *d);
/* How often its server died lately; 0: never. Then *ret_why (borrowed) and *ret_at_ms tell of the last time. */
unsigned deployment_deaths(const struct deployment *d, const struct fault **ret_why, int64_t *ret_at_ms);

/* Its machine is off, and the provider says so: nothing of it runs there. One that is wanted sleeps; why: "gpu1 is off (stopped elsewhere)". */
void deployment_machine_is_off(struct deployment *d, const char *why);
/* It waits for its machine, which will not come: no card, no money, a boot that fails. It has failed, then. */
void deployment_give_up(struct deployment *d, const struct fault *why);

/* The way up, as people see it. The first two and the fourth are of a machine that is rented. */
enum stage { STAGE_CAPACITY, STAGE_POWER_ON, STAGE_SSH, STAGE_GUARD, STAGE_ENGINE, STAGE_FETCH, STAGE_LOAD, STAGE_COUNT };
enum stage_state { STAGE_AHEAD, STAGE_RUNNING, STAGE_DONE, STAGE_FAILED, STAGE_SKIPPED };
struct stage_view {
    enum stage_state state;
    char text[160];
    uint64_t took_ms, usual_ms;             /* so far, or in the end; usual_ms 0: never seen */
    int64_t next_at_ms;                     /* it waits, and tries again then, wall clock; 0: it does not */
    int64_t bytes, bytes_total, rate_bytes; /* -1: unknown or none */
    unsigned changes;                       /* counts changes: compare to know whether to show it again */
};
void deployment_stage(const struct deployment *d, enum stage s, struct stage_view *ret);
const char *stage_name(enum stage s);               /* Progress.stage of the contract */
const char *stage_state_name(enum stage_state s);
