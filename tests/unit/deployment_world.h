/* A world of our own for the real deployment.c and the files of its life, which it includes: clock, timer,
 * run queue, database, the way to a machine, the machine, and a driver. Each step is asked of the machine in
 * order; one that is cancelled happens there all the same. For test_deployment*.c. */
#pragma once

#include <criterion/criterion.h>
#include <errno.h>

#define clock_now_ms         fake_clock_now_ms
#define clock_wall_ms        fake_clock_wall_ms
#define timer_new            fake_timer_new
#define timer_free           fake_timer_free
#define timer_arm            fake_timer_arm
#define timer_disarm         fake_timer_disarm
#define timer_due            fake_timer_due
#define runq_add             fake_runq_add
#define runq_drop            fake_runq_drop
#define event_publish        fake_event_publish
#define log_line             fake_log_line
#define store_put_deployment fake_store_put_deployment
#define store_put_duration   fake_store_put_duration
#define store_usual_ms       fake_store_usual_ms
#define lease_is_reachable   fake_lease_is_reachable
#define lease_refusal        fake_lease_refusal
#define lease_session        fake_lease_session
#define lease_host           fake_lease_host
#define lease_name           fake_lease_name
#define lease_record         fake_lease_record
#define lease_rented         fake_lease_rented
#define rented_hunt          fake_rented_hunt
#define rented_step          fake_rented_step
#define rented_describe      fake_rented_describe
#define rented_figures       fake_rented_figures
#define rented_trouble       fake_rented_trouble
#define rented_record        fake_rented_record
#define rented_keeper        fake_rented_keeper
#define keeper_state         fake_keeper_state
#define settings_ms          fake_settings_ms
#define session_hurry        fake_session_hurry
#define session_renew        fake_session_renew
#define engine_new           fake_engine_new
#define engine_free          fake_engine_free
#define engine_find_ops      fake_engine_find_ops
#define engine_set_arguments fake_engine_set_arguments
#include "deployment/deployment.c"
#include "deployment/deployment_fsm.c"
#include "deployment/deployment_sleep.c"
#include "deployment/deployment_stages.c"
#include "deployment/deployment_watch.c"

/* Shorter names, for tables. */
#define OFF        DEPLOYMENT_OFF
#define ASLEEP     DEPLOYMENT_ASLEEP
#define CONNECTING DEPLOYMENT_CONNECTING
#define INSTALLING DEPLOYMENT_INSTALLING
#define PLACING    DEPLOYMENT_PLACING
#define STARTING   DEPLOYMENT_STARTING
#define FETCHING   DEPLOYMENT_FETCHING
#define LOADING    DEPLOYMENT_LOADING
#define READY      DEPLOYMENT_READY
#define DRAINING   DEPLOYMENT_DRAINING
#define STOPPING   DEPLOYMENT_STOPPING
#define FAILED     DEPLOYMENT_FAILED

/* ---- The world ---- */

enum { JOBS_MAX = 64, RECORDS_MAX = 4096, HOLDS = 4, USES_MAX = 256, STEPS_MAX = 120 };

struct timer {
    void (*fire)(void *ctx);
    void *ctx;
    uint64_t due; /* 0: not armed */
};

enum verb { FIND, PREPARE, START, FETCH, LOAD, PROBE, UNLOAD, STOP };

/* Something asked of the machine. It happens in the order of asking, whether or not somebody still listens.
 */
struct job {
    enum verb verb;
    int arguments; /* of a start */
    uint64_t due;  /* of its happening, then of its answer */
    bool waits;    /* for the way: nothing has left us yet */
    bool happened;
    bool again;
    bool cut; /* the connection was lost meanwhile: no answer, but a fault */
    struct fault fault;
    struct asked *asked; /* NULL: cancelled */
};

struct asked {
    struct op op;
    struct engine_reply to;
    struct job *job;
    unsigned entered; /* how often a state had been entered when it was asked */
};

struct beside {
    struct op op;
    engine_life_fn done;
    void *ctx;
    uint64_t due;
};

struct record {
    char goal[16], asleep[DEPLOYMENT_TEXT_MAX];
    bool touched;
    int arguments;
    int64_t keep_until_at_ms, asleep_at_ms;
};

struct holder {
    struct op *op;
    unsigned n_answers;
    struct fault fault;
};

static struct world {
    uint32_t seed, story;
    uint64_t now;
    struct list works;
    struct timer *timer, *sleep_timer, *watch_timer;
    struct beside *beside; /* the look at a server that loads, while it is */
    struct idle_rule idle;
    struct deployment *d;
    struct record records[RECORDS_MAX];
    unsigned n_records, n_durable;
    /* The machine and the way to it. */
    bool way, refused, calm, broken, stuck, shared;
    bool runs, loaded, fetched;
    bool hangs, computes;                   /* it answers nobody; it computes all the same */
    bool restarted;                         /* what ended it was a restart of the machine */
    bool crammed, neighbours;               /* no room for it; others have some */
    unsigned too_much, n_made_room;         /* so often the engine says so; others were told to go */
    int engine_arguments, server_arguments; /* as last told to the driver, as last started with; 0: none */
    struct job *jobs[JOBS_MAX];
    unsigned n_jobs;
    struct holder holders[HOLDS];
    struct deployment_use uses[USES_MAX];
    unsigned n_open, n_renewed, n_entered, n_failed, n_ready, n_changed;
    struct engine engine;
    bool told_way;
    unsigned n_lost;  /* engines, as people are told */
    const char *kind; /* of the last event */
    struct {          /* the last one that was kept */
        char what[300];
        uint64_t ms;
    } duration;
} w;

/* The machine is rented, and this is how far it is. */
static struct rented_world {
    bool there;
    enum rented_step step;
    struct rented_figures figures;
    struct hunt hunt;
    struct fault trouble;
    enum keeper_state keeper;
} rent;

static unsigned dice(unsigned n)
{
    w.seed = w.seed * 1664525u + 1013904223u;
    return (w.seed >> 8) % n;
}

static bool bad_luck(unsigned one_in)
{
    return !w.calm && dice(one_in) == 0;
}

uint64_t fake_clock_now_ms(void)
{
    return w.now;
}

int64_t fake_clock_wall_ms(void)
{
    return (int64_t)w.now + 1700000000000;
}

struct timer *fake_timer_new(struct loop *l, void (*fire)(void *ctx), void *ctx)
{
    struct timer *t = xnew(struct timer);

    (void)l;
    t->fire = fire;
    t->ctx = ctx;
    *(fire == deployment_on_sleep_timer   ? &w.sleep_timer
      : fire == deployment_on_watch_timer ? &w.watch_timer
                                          : &w.timer) = t;
    return t;
}

struct timer *fake_timer_free(struct timer *t)
{
    *(t == w.sleep_timer ? &w.sleep_timer : t == w.watch_timer ? &w.watch_timer : &w.timer) = NULL;
    free(t);
    return NULL;
}

void fake_timer_arm(struct timer *t, uint64_t delay_ms)
{
    cr_assert_leq(delay_ms, 24 * 3600000u);
    t->due = w.now + delay_ms;
}

void fake_timer_disarm(struct timer *t)
{
    t->due = 0;
}

uint64_t fake_timer_due(const struct timer *t)
{
    return t->due;
}

void fake_runq_add(struct loop *l, struct work *work)
{
    (void)l;
    if (list_is_empty(&work->node))
        list_append(&w.works, &work->node);
}

void fake_runq_drop(struct work *work)
{
    list_remove(&work->node);
}

void fake_event_publish(enum log_level level, enum log_source source, const char *target, const char *kind,
                        const char *format, ...)
{
    (void)level, (void)source, (void)target, (void)format;
    w.n_failed += streq(kind, "failed");
    w.n_ready += streq(kind, "ready");
    w.n_lost += streq(kind, "engine_lost");
    w.kind = kind;
}

/* The one line of deployment_enter(). */
void fake_log_line(enum log_level level, enum log_source source, const char *target, const char *format, ...)
{
    (void)level, (void)source, (void)target, (void)format;
    w.n_entered++;
    cr_assert_lt(w.n_entered, 20000u, "story %u: no end of states", w.story);
}

store_ticket fake_store_put_deployment(struct store *s, const struct deployment_record *r)
{
    (void)s;
    cr_assert_lt(w.n_records, (unsigned)RECORDS_MAX);
    struct record *kept = &w.records[w.n_records++];

    *kept = (struct record){.touched = r->touched,
                            .arguments = r->arguments ? atoi(r->arguments + 2) : 0,
                            .keep_until_at_ms = r->keep_until_at_ms,
                            .asleep_at_ms = r->asleep_at_ms};
    snprintf(kept->goal, sizeof kept->goal, "%s", r->goal);
    snprintf(kept->asleep, sizeof kept->asleep, "%s", r->asleep ? r->asleep : "");
    return w.n_records;
}

void fake_store_put_duration(struct store *s, const char *what, uint64_t ms)
{
    (void)s;
    if (strncmp(what, "up ", 3) == 0) {
        snprintf(w.duration.what, sizeof w.duration.what, "%s", what);
        w.duration.ms = ms;
    }
}

uint64_t fake_store_usual_ms(const struct store *s, const char *what)
{
    (void)s, (void)what;
    return 0;
}

bool fake_lease_is_reachable(const struct lease *l)
{
    (void)l;
    return w.way;
}

const struct fault *fake_lease_refusal(const struct lease *l)
{
    static const struct fault refusal = {FAULT_DENIED, 0, "login_refused", "the machine refused us"};

    (void)l;
    return w.refused ? &refusal : NULL;
}

struct session *fake_lease_session(struct lease *l)
{
    return (struct session *)(void *)l;
}

struct host *fake_lease_host(struct lease *l)
{
    (void)l;
    return NULL;
}

const char *fake_lease_name(const struct lease *l)
{
    (void)l;
    return "gpu1";
}

const struct instance_record *fake_lease_record(const struct lease *l)
{
    static const struct instance_record r = {
        .name = (char *)"gpu1", .host = (char *)"gpu1.example", .port = 22};

    (void)l;
    return &r;
}

struct rented *fake_lease_rented(const struct lease *l)
{
    (void)l;
    return rent.there ? (struct rented *)(void *)&rent : NULL;
}

enum rented_step fake_rented_step(const struct rented *r)
{
    (void)r;
    return rent.step;
}

const struct hunt *fake_rented_hunt(const struct rented *r)
{
    (void)r;
    return &rent.hunt;
}

const char *fake_rented_describe(const struct rented *r, char out[static RENTED_TEXT_MAX])
{
    (void)r;
    snprintf(out, RENTED_TEXT_MAX, "4090D in west, ¥1.98/h~");
    return out;
}

void fake_rented_figures(const struct rented *r, struct rented_figures *ret)
{
    (void)r;
    *ret = rent.figures;
}

const struct fault *fake_rented_trouble(const struct rented *r)
{
    (void)r;
    return &rent.trouble;
}

const struct rental_record *fake_rented_record(const struct rented *r)
{
    static const struct rental_record record = {.gpu = (char *)"4090D", .cards = 1};

    (void)r;
    return &record;
}

const struct keeper *fake_rented_keeper(const struct rented *r)
{
    return (const struct keeper *)(const void *)r;
}

enum keeper_state fake_keeper_state(const struct keeper *k)
{
    (void)k;
    return rent.keeper;
}

uint64_t fake_settings_ms(const struct settings *s, const char *section, const char *key)
{
    (void)s;
    cr_assert_str_eq(section, "guard");
    return streq(key, "lease") ? 15 * 60000 : 30 * 60000;
}

void fake_session_hurry(struct session *s)
{
    (void)s;
}

/* It tries anew: not refused until it is told so again. */
void fake_session_renew(struct session *s, const struct session_target *target)
{
    (void)s;
    cr_assert_null(target);
    w.n_renewed++;
    w.refused = false;
    w.told_way = false;
}

/* ---- The machine ---- */

static void asked_cancel(struct op *op)
{
    struct asked *a = CONTAINER_OF(op, struct asked, op);
    struct job *j = a->job;

    j->asked = NULL;
    if (j->waits)
        j->due = 0; /* never left: it goes */
    else if (j->verb == LOAD)
        j->due = MIN(j->due, w.now + 300); /* and so does a load that nobody waits for */
    free(a);
}

static void ask(enum verb verb, struct engine_reply to)
{
    struct asked *a = xnew(struct asked);
    struct job *j = xnew(struct job);

    cr_assert_lt(w.n_jobs, (unsigned)JOBS_MAX, "story %u: asks pile up", w.story);
    if (verb == START) /* looking for the program took longer than writing the goal down */
        w.n_durable = MAX(w.n_durable, w.n_records - 1);
    j->verb = verb;
    j->arguments = w.engine_arguments;
    j->asked = a;
    j->waits = !w.way;
    if (verb == PROBE && w.hangs)
        j->due = w.now + w.engine.patience_ms;
    else if (verb == LOAD && w.hangs && !w.computes)
        j->due = w.now + 30 * 60 * 1000;
    else
        j->due = w.now + 1 + dice(bad_luck(5) ? 20000 : 300);
    a->job = j;
    a->to = to;
    a->entered = w.n_entered;
    op_begin(&a->op, to.slot, asked_cancel);
    w.jobs[w.n_jobs++] = j;
}

#define VERB(name, verb)                                                                                     \
    static void name(struct engine *e, struct engine_reply to)                                               \
    {                                                                                                        \
        (void)e;                                                                                             \
        ask(verb, to);                                                                                       \
    }
VERB(fake_find, FIND)
VERB(fake_prepare, PREPARE)
VERB(fake_start, START)
VERB(fake_fetch, FETCH)
VERB(fake_load, LOAD)
VERB(fake_probe, PROBE)
VERB(fake_unload, UNLOAD)
VERB(fake_stop, STOP)

static void beside_cancel(struct op *op)
{
    free(TAKE_PTR(w.beside));
    (void)op;
}

static void fake_look(struct engine *e, struct op **slot, engine_life_fn done, void *ctx)
{
    cr_assert_eq(e, &w.engine);
    cr_assert_null(w.beside, "story %u: two looks at once", w.story);
    w.beside = xnew(struct beside);
    *w.beside = (struct beside){.done = done, .ctx = ctx, .due = w.now + 1 + dice(300)};
    op_begin(&w.beside->op, slot, beside_cancel);
}

static void beside_answers(void)
{
    static const struct fault lost = {FAULT_TRANSIENT, 0, "lost", "lost"};
    const struct engine_life life = {.pid = w.runs ? w.engine.facts.pid : -1,
                                     .computed_ms = w.hangs && !w.computes ? 0 : (int64_t)w.now,
                                     .stopped = w.hangs && !w.computes && dice(2)};
    _cleanup_free_ struct beside *b = TAKE_PTR(w.beside);

    op_end(&b->op);
    b->done(b->ctx, &life, !w.way || bad_luck(12) ? &lost : NULL);
}

/* shared is set by the story. */
static struct engine_ops fake_ops = {
    .name = "ollama",
    .shared = true,
    .find = fake_find,
    .prepare = fake_prepare,
    .start = fake_start,
    .fetch = fake_fetch,
    .load = fake_load,
    .probe = fake_probe,
    .look = fake_look,
    .unload = fake_unload,
    .stop = fake_stop,
};

const struct engine_ops *fake_engine_find_ops(const char *name)
{
    cr_assert_str_eq(name, "ollama");
    return &fake_ops;
}

struct engine *fake_engine_new(const struct engine_ops *ops, struct loop *l, struct host *h,
                               struct http *http, const char *instance, const char *model,
                               const struct settings *settings, const char *socket_directory,
                               const char *state_directory)
{
    (void)l, (void)h, (void)http, (void)instance, (void)model, (void)settings, (void)socket_directory,
        (void)state_directory;
    w.engine.ops = ops;
    return &w.engine;
}

struct engine *fake_engine_free(struct engine *e)
{
    (void)e;
    return NULL;
}

void fake_engine_set_arguments(struct engine *e, const struct json *arguments)
{
    cr_assert_eq(e, &w.engine);
    w.engine_arguments = arguments ? atoi(json_text(json_at(arguments, 0))) : 0;
}

static void job_fault(struct job *j, enum fault_kind kind, const char *code)
{
    fault_code(&j->fault, kind, code, "%s", code);
}

static void job_stop(struct job *j)
{
    if (w.stuck)
        job_fault(j, FAULT_EXHAUSTED, "engine_stuck");
    else
        w.runs = w.loaded = false;
}

static void job_up(struct job *j)
{
    if (w.broken) {
        job_fault(j, FAULT_GONE, "engine_missing");
    } else if (j->verb == START) {
        bool ended = w.engine.hung_pid && w.engine.hung_pid == w.engine.facts.pid;

        j->again = !w.runs || bad_luck(3) || (w.hangs && !ended);
        w.engine.facts.pid += !w.runs || ended;
        w.hangs = w.hangs && w.runs && !ended;
        w.runs = true;
        w.server_arguments = j->arguments;
    } else if (j->verb != FIND && (!w.runs || (j->verb == LOAD && !w.fetched))) {
        job_fault(j, FAULT_TRANSIENT, "lost");
    } else if (j->verb == FETCH) {
        j->again = bad_luck(3);
        w.fetched = w.fetched || !j->again;
    } else if (j->verb == LOAD && (w.too_much || (w.crammed && bad_luck(2)))) {
        w.too_much -= w.too_much > 0;
        job_fault(j, FAULT_EXHAUSTED, "out_of_memory");
    } else if (j->verb == LOAD && w.hangs && !w.computes) {
        job_fault(j, FAULT_TRANSIENT, "lost");
    } else if (j->verb == LOAD) {
        j->again = bad_luck(3);
        w.loaded = !j->again;
    }
}

static void job_happens(struct job *j)
{
    j->happened = true;
    if (bad_luck(12)) {
        job_fault(j, dice(2) ? FAULT_TRANSIENT : FAULT_UNCERTAIN, "timeout");
        if (dice(2))
            return; /* and nothing came of it */
    }
    switch (j->verb) {
    case STOP: job_stop(j); break;
    case UNLOAD: w.loaded = false; break;
    case PROBE:
        w.engine.facts.computed_ms = w.computes ? (int64_t)w.now : 0;
        if (!w.runs)
            job_fault(j, FAULT_GONE, w.restarted ? "machine_restarted" : "engine_exited");
        else if (w.hangs)
            job_fault(j, FAULT_TRANSIENT, "no_answer");
        else
            j->again = !w.loaded;
        break;
    case PREPARE: break;
    case FIND:
    case START:
    case FETCH:
    case LOAD: job_up(j); break;
    }
}

/* The answer, if somebody listens: he must be the one who asked, not a later state. */
static void job_answers(struct job *j)
{
    struct asked *a = j->asked;

    if (!a)
        return;
    struct engine_reply to = a->to;
    const struct engine_progress p = {
        .text = "going on", .bytes = j->verb == FETCH ? (int64_t)dice(1000) : -1, .bytes_total = -1};

    cr_assert_eq(a->entered, w.n_entered, "story %u: an answer of an old state", w.story);
    if (j->cut)
        job_fault(j, FAULT_UNCERTAIN, "lost");
    if (j->verb != PREPARE && dice(2))
        to.progress(to.ctx, &p);
    op_end(&a->op);
    free(a);
    j->asked = NULL;
    to.done(to.ctx, j->again, j->fault.kind ? &j->fault : NULL);
}

static void job_drop(unsigned i)
{
    free(w.jobs[i]);
    memmove(&w.jobs[i], &w.jobs[i + 1], (--w.n_jobs - i) * sizeof(*w.jobs));
}

/* When something happens next on the machine: in order of asking. UINT64_MAX: nothing. */
static uint64_t jobs_due(void)
{
    for (unsigned i = 0; i < w.n_jobs; i++)
        if (!w.jobs[i]->due || !w.jobs[i]->waits)
            return w.jobs[i]->due;
    return UINT64_MAX;
}

static void jobs_run(void)
{
    for (unsigned i = 0; i < w.n_jobs; i++) {
        struct job *j = w.jobs[i];

        if (j->due && j->waits)
            continue;
        if (j->due > w.now)
            return;
        if (!j->waits && !j->happened)
            job_happens(j);
        struct job kept = *j;

        job_drop(i);
        if (kept.asked)
            kept.asked->job = &kept;
        job_answers(&kept);
        return;
    }
}

/* ---- The way ---- */

static void way_changes(bool way, bool refused)
{
    bool lost = w.way && !way;

    w.way = way;
    w.refused = refused && !way;
    for (unsigned i = 0; i < w.n_jobs; i++) {
        if (lost && !w.jobs[i]->waits && w.jobs[i]->asked)
            w.jobs[i]->cut = true;
        if (way && w.jobs[i]->waits && w.jobs[i]->due) {
            w.jobs[i]->waits = false;
            w.jobs[i]->due = MAX(w.jobs[i]->due, w.now);
        }
    }
    w.told_way = false;
}

/* ---- Turns ---- */

static void works_run(void)
{
    unsigned n = 0;

    if (!w.told_way && w.d && !bad_luck(2)) {
        w.told_way = true;
        deployment_look(w.d);
    }
    while (!list_is_empty(&w.works)) {
        struct work *work = LIST_FIRST(&w.works, struct work, node);

        list_remove(&work->node);
        work->fn(work->ctx);
        cr_assert_lt(++n, 100u, "story %u: the run queue runs in circles", w.story);
    }
}

/* Until nothing is due any more before `until`. */
static void run_until(uint64_t until)
{
    for (;;) {
        works_run();
        uint64_t jobs = jobs_due(), timer = w.timer && w.timer->due ? w.timer->due : UINT64_MAX;
        uint64_t sleep = w.sleep_timer && w.sleep_timer->due ? w.sleep_timer->due : UINT64_MAX;
        uint64_t watch = w.watch_timer && w.watch_timer->due ? w.watch_timer->due : UINT64_MAX;
        uint64_t look = w.beside ? w.beside->due : UINT64_MAX,
                 next = MIN(MIN(MIN(jobs, timer), MIN(sleep, watch)), look);

        if (next > until)
            break;
        w.now = MAX(w.now, next);
        if (next == jobs) {
            jobs_run();
        } else if (next == look) {
            beside_answers();
        } else {
            struct timer *t = next == timer ? w.timer : next == sleep ? w.sleep_timer : w.watch_timer;

            t->due = 0;
            t->fire(t->ctx);
        }
    }
    w.now = until;
}

/* ---- The story ---- */

static void on_deployment_changed(void *ctx, struct deployment *d)
{
    cr_assert_eq(ctx, &w);
    cr_assert_eq(d, w.d);
    w.n_changed++;
}

static bool fake_shares_server(void *ctx, const struct deployment *d)
{
    (void)ctx, (void)d;
    return w.shared;
}

static bool fake_find_room(void *ctx, struct deployment *d, bool *crowded,
                           char ret_text[static DEPLOYMENT_TEXT_MAX])
{
    (void)ctx, (void)d;
    if (!w.crammed && !(*crowded && w.neighbours))
        return true;
    w.n_made_room += *crowded;
    *crowded = false;
    snprintf(ret_text, DEPLOYMENT_TEXT_MAX, "no room");
    return false;
}

static bool fake_has_neighbours(void *ctx, const struct deployment *d)
{
    (void)ctx, (void)d;
    return w.neighbours;
}

static void daemon_starts(void)
{
    static char name[] = "ollama:tiny", instance[] = "gpu1";
    const struct deployment_context context = {.idle = w.idle,
                                               .changed = on_deployment_changed,
                                               .shares_server = fake_shares_server,
                                               .find_room = fake_find_room,
                                               .has_neighbours = fake_has_neighbours,
                                               .ctx = &w};
    /* What is on disk: everything that was waited for, and some of what was not. */
    unsigned n = w.n_durable + dice(w.n_records - w.n_durable + 1);
    const struct record *r = n ? &w.records[n - 1] : NULL;
    struct deployment_record record = {.name = name, .instance = instance};
    char arguments[20];

    w.engine_arguments = 0;
    if (r) {
        snprintf(arguments, sizeof arguments, "[\"%d\"]", r->arguments);
        record.arguments = r->arguments ? arguments : NULL;
        record.goal = (char *)r->goal;
        record.touched = r->touched;
        record.keep_until_at_ms = r->keep_until_at_ms;
        record.asleep = *r->asleep ? (char *)r->asleep : NULL;
        record.asleep_at_ms = r->asleep_at_ms;
    }
    w.n_records = w.n_durable = n;
    w.n_open = 0;
    w.d = deployment_new(&context, (struct lease *)(void *)&w, name, r ? &record : NULL);
    w.told_way = true;
}

static void daemon_ends(void)
{
    w.d = deployment_free(w.d);
    cr_assert(list_is_empty(&w.works), "story %u", w.story);
    cr_assert_null(w.timer);
    cr_assert_null(w.sleep_timer);
    cr_assert_null(w.watch_timer);
    cr_assert_null(w.beside);
    for (unsigned i = 0; i < w.n_jobs; i++)
        cr_assert_null(w.jobs[i]->asked, "story %u", w.story);
}

/* Requests are open in the order of a stack. */
static void request_begins(void)
{
    cr_assert_lt(w.d->in_flight, (unsigned)USES_MAX);
    deployment_request_begin(w.d, &w.uses[w.d->in_flight]);
}

static void request_ends(void)
{
    deployment_request_end(w.d, &w.uses[w.d->in_flight - 1]);
}

static void want(bool on)
{
    uint64_t ticket = deployment_want(w.d, on ? GOAL_ON_DEMAND : GOAL_OFF, dice(3) == 0);

    cr_assert_gt(ticket, 0u);
    if (dice(2))
        w.n_durable = w.n_records;
}

static void on_hold_over(void *ctx, const struct fault *f)
{
    struct holder *h = ctx;

    cr_assert_null(h->op);
    h->n_answers++;
    h->fault = f ? *f : (struct fault){};
}

static inline void begin(void)
{
    w = (struct world){.seed = 1, .now = 1000000, .way = true, .calm = true};
    list_init(&w.works);
    daemon_starts();
}

static inline void end(void)
{
    daemon_ends();
    while (w.n_jobs)
        job_drop(0);
}

static inline void go_up(void)
{
    want(true);
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, READY);
}
