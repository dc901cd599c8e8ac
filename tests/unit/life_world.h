/* A world of our own for the real life.c and life_fsm.c, which it includes: clock, timer, run queue,
 * database, and a provider that takes its time: answers are slow, late, lost or come without their effect,
 * effects come after their answers, stops are ignored, cards are sold out, boots fail. What is said while it
 * runs is held against what is true. For test_life.c. */
#pragma once

#include <criterion/criterion.h>
#include <errno.h>

#define clock_now_ms  fake_clock_now_ms
#define clock_wall_ms fake_clock_wall_ms
#define timer_new     fake_timer_new
#define timer_free    fake_timer_free
#define timer_arm     fake_timer_arm
#define timer_disarm  fake_timer_disarm
#define timer_due     fake_timer_due
#define runq_add      fake_runq_add
#define runq_drop     fake_runq_drop
#define event_publish fake_event_publish
#define log_line      fake_log_line
#include "lease/life.c"
#include "lease/life_fsm.c"

/* Shorter names, for tables. */
#define UNKNOWN   LIFE_UNKNOWN
#define ABSENT    LIFE_ABSENT
#define WAITING   LIFE_WAITING
#define CREATING  LIFE_CREATING
#define STARTING  LIFE_STARTING
#define RUNNING   LIFE_RUNNING
#define STOPPING  LIFE_STOPPING
#define STOPPED   LIFE_STOPPED
#define RELEASING LIFE_RELEASING
#define RELEASED  LIFE_RELEASED

/* ---- The world ---- */

enum { MACHINES_MAX = 60, JOBS_MAX = 64, START_MS = 180000, EFFECT_MS_MAX = 100000, LATE_MS_MAX = 400000 };

struct timer {
    uint64_t due; /* 0: not armed */
};

struct machine {
    bool exists;
    struct instance_seen seen;
    uint64_t due;               /* of the end of a change; 0: none */
    bool starting, fails, ends; /* ends: somebody switches it off as soon as it is on */
    /* The stamps that will be shown, when they come; 0: none is due. */
    int64_t next_started_at_ms, next_stopped_at_ms;
    uint64_t started_due, stopped_due;
};

enum verb { KEEPING, LIST, CREATE, START, STOP, RELEASE };

/* Something asked. Its effect and its answer come when they come, whether or not somebody still listens. */
struct job {
    struct op op;
    bool listens;
    enum verb verb;
    char id[INSTANCE_ID_MAX], name[INSTANCE_NAME_MAX];
    uint64_t effect_due, answer_due; /* effect 0: it came; answer 0: none will come */
    struct fault fault;
    struct life_record record;
    unsigned number; /* of the record */
    struct instance_seen list[MACHINES_MAX];
    unsigned n_list;
    rental_list_fn on_list;
    rental_made_fn on_made;
    op_done_fn on_done;
    void *ctx;
};

static struct world {
    uint32_t seed, story;
    uint64_t now;
    struct list works;
    struct timer timer;
    struct life *l;
    struct life_record durable;
    struct machine machines[MACHINES_MAX];
    unsigned n_machines;
    struct job *jobs[JOBS_MAX];
    unsigned n_jobs, n_entered, n_foreign, n_kept, n_durable;
    bool calm, sold_out, broke;
    bool very_late; /* effects come later than the provider's own figure says */
    bool jumps;     /* the wall clock is set, forth and back */
    bool has_no_clock; /* the provider does not tell the time */
    bool heard;        /* it did, since the daemon started */
    int64_t wall_ahead_ms;
    bool hidden;  /* the list leaves machines out that are there */
    bool adopted; /* the machine is there from the start, and its owner may give it back */
} w;

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
    return (int64_t)w.now + w.wall_ahead_ms + 1700000000000;
}

struct timer *fake_timer_new(struct loop *l, void (*fire)(void *ctx), void *ctx)
{
    (void)l, (void)fire, (void)ctx;
    w.timer.due = 0;
    return &w.timer;
}

struct timer *fake_timer_free(struct timer *t)
{
    t->due = 0;
    return NULL;
}

void fake_timer_arm(struct timer *t, uint64_t delay_ms)
{
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
    (void)level, (void)source, (void)target, (void)kind, (void)format;
}

void fake_log_line(enum log_level level, enum log_source source, const char *target, const char *format, ...)
{
    (void)source, (void)target;
    if (getenv("STORY")) {
        va_list ap;

        fprintf(stderr, "%8.1f ", (double)w.now / 1000);
        va_start(ap, format);
        vfprintf(stderr, format, ap);
        va_end(ap);
        fputc('\n', stderr);
    }
    if (level == LOG_LEVEL_NOTICE)
        cr_assert_lt(++w.n_entered, 3000u, "story %u: no end of states", w.story);
}

/* ---- The provider ---- */

static bool bills(const struct machine *m)
{
    return m->exists && m->seen.power != INSTANCE_OFF;
}

static unsigned n_billing(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < w.n_machines; i++)
        n += bills(&w.machines[i]);
    return n;
}

static struct machine *machine_of(const char *id)
{
    for (unsigned i = 0; i < w.n_machines; i++)
        if (w.machines[i].exists && streq(w.machines[i].seen.id, id))
            return &w.machines[i];
    return NULL;
}

/* Whole seconds, shown at once or later. */
static void is_stamped(struct machine *m, bool started)
{
    int64_t at_ms = ((int64_t)w.now + 1700000000000) / 1000 * 1000;
    uint64_t due = w.now + 1 + (bad_luck(3) ? dice(30000) : 0);

    if (started) {
        m->next_started_at_ms = at_ms;
        m->started_due = due;
    } else {
        m->next_stopped_at_ms = at_ms;
        m->stopped_due = due;
    }
}

static void stamps_come(struct machine *m)
{
    if (m->started_due && m->started_due <= w.now) {
        m->started_due = 0;
        m->seen.started_at_ms = m->next_started_at_ms;
    }
    if (m->stopped_due && m->stopped_due <= w.now) {
        m->stopped_due = 0;
        m->seen.stopped_at_ms = m->next_stopped_at_ms;
    }
}

static void boots(struct machine *m)
{
    m->seen.power = INSTANCE_CHANGING;
    m->starting = true;
    m->ends = false;
    m->fails = bad_luck(8);
    m->due = w.now + 3000 + dice(40000);
}

static void goes_off(struct machine *m)
{
    m->seen.power = INSTANCE_CHANGING;
    m->starting = false;
    m->due = w.now + 2000 + dice(8000);
}

static void job_refuse(struct job *j, enum fault_kind kind, const char *code)
{
    fault_code(&j->fault, kind, code, "refused");
}

static void happens_create(struct job *j)
{
    if (w.sold_out || bad_luck(10)) {
        job_refuse(j, FAULT_EXHAUSTED, "no_capacity");
        return;
    }
    cr_assert_lt(w.n_machines, (unsigned)MACHINES_MAX, "story %u: machines without end", w.story);
    struct machine *m = &w.machines[w.n_machines++];

    m->exists = true;
    snprintf(m->seen.id, sizeof m->seen.id, "pro-%u", w.n_machines);
    snprintf(m->seen.name, sizeof m->seen.name, "%s", j->name);
    snprintf(j->id, sizeof j->id, "%s", m->seen.id);
    boots(m);
}

static void happens_start(struct job *j, struct machine *m)
{
    if (!m)
        job_refuse(j, FAULT_GONE, "");
    else if (m->seen.power != INSTANCE_OFF)
        job_refuse(j, FAULT_INVALID, "already");
    else if (w.sold_out || bad_luck(6))
        job_refuse(j, FAULT_EXHAUSTED, "no_capacity");
    else
        boots(m);
}

/* One that comes while it is starting is heard, and does nothing. */
static void happens_stop(struct job *j, struct machine *m)
{
    if (!m)
        job_refuse(j, FAULT_GONE, "");
    else if (m->seen.power == INSTANCE_ON && !bad_luck(10))
        goes_off(m);
    else if (m->seen.power == INSTANCE_OFF || !m->starting)
        job_refuse(j, FAULT_INVALID, "already");
}

static void happens_release(struct job *j, struct machine *m)
{
    if (!m)
        job_refuse(j, FAULT_GONE, "");
    else if (m->seen.power != INSTANCE_OFF)
        job_refuse(j, FAULT_INVALID, "not_off");
    else
        m->exists = false;
}

static void happens_list(struct job *j)
{
    for (unsigned i = 0; i < w.n_machines; i++)
        if (w.machines[i].exists && !w.hidden)
            j->list[j->n_list++] = w.machines[i].seen;
}

static void job_happens(struct job *j)
{
    j->effect_due = 0;
    switch (j->verb) {
    case KEEPING:
        if (j->number > w.n_durable) { /* the newest value is what counts */
            w.durable = j->record;
            w.n_durable = j->number;
        }
        break;
    case LIST: happens_list(j); break;
    case CREATE: happens_create(j); break;
    case START: happens_start(j, machine_of(j->id)); break;
    case STOP: happens_stop(j, machine_of(j->id)); break;
    case RELEASE: happens_release(j, machine_of(j->id)); break;
    }
}

static void job_answers(struct job *j)
{
    const struct fault *f = j->fault.kind ? &j->fault : NULL;

    j->answer_due = 0;
    if (!j->listens)
        return;
    j->listens = false;
    op_end(&j->op);
    w.heard |= !f && j->verb != KEEPING;
    if (j->verb == LIST)
        j->on_list(j->ctx, j->list, f ? 0 : j->n_list, f);
    else if (j->verb == CREATE)
        j->on_made(j->ctx, f ? NULL : j->id, f);
    else
        j->on_done(j->ctx, f);
}

static void job_cancel(struct op *op)
{
    CONTAINER_OF(op, struct job, op)->listens = false;
}

static struct job *ask(enum verb verb, struct op **slot, void *ctx)
{
    struct job *j = xnew(struct job);

    cr_assert_lt(w.n_jobs, (unsigned)JOBS_MAX, "story %u: asks pile up", w.story);
    w.jobs[w.n_jobs++] = j;
    j->verb = verb;
    j->ctx = ctx;
    j->listens = true;
    op_begin(&j->op, slot, job_cancel);
    j->effect_due = w.now + 20 + dice(!bad_luck(6) ? 1000 : w.very_late ? LATE_MS_MAX : EFFECT_MS_MAX);
    j->answer_due = MAX(w.now + 30 + dice(bad_luck(4) ? 20000 : 1500), verb == LIST ? j->effect_due + 1 : 0);
    if (verb != LIST && j->answer_due < j->effect_due && dice(2))
        j->answer_due = j->effect_due + 1; /* most say what became of it; others say only that they heard */
    if (verb == LIST)
        j->effect_due = MIN(j->effect_due, w.now + 25000);
    if (bad_luck(8)) { /* lost on the way there, or on the way back; the driver's own limit tells us */
        if (dice(2))
            j->effect_due = 0;
        j->answer_due = w.now + 30000;
        fault_code(&j->fault, verb == LIST ? FAULT_TRANSIENT : FAULT_UNCERTAIN, "", "no answer");
    }
    if (verb == LIST)
        j->answer_due = MIN(MAX(j->answer_due, j->effect_due + 1), w.now + 30000);
    /* A create answers with the id, so not before there is one. */
    if (verb == CREATE && !j->fault.kind && j->answer_due <= j->effect_due) {
        j->answer_due = j->effect_due + 1;
        if (j->answer_due > w.now + 30000) {
            j->answer_due = w.now + 30000;
            fault_code(&j->fault, FAULT_UNCERTAIN, "", "no answer");
        }
    }
    return j;
}

static void fake_list(struct rental *r, struct op **slot, rental_list_fn done, void *ctx)
{
    (void)r;
    ask(LIST, slot, ctx)->on_list = done;
}

static void fake_create(struct rental *r, const struct instance_wish *wish, struct op **slot,
                        rental_made_fn done, void *ctx)
{
    struct job *j = ask(CREATE, slot, ctx);

    (void)r;
    cr_assert_not(w.adopted, "story %u: one is made in the place of another's", w.story);
    cr_assert(w.durable.create_open || w.n_foreign, "story %u: a create that is not on disk", w.story);
    snprintf(j->name, sizeof j->name, "%s", wish->name);
    j->on_made = done;
}

static void ask_of(enum verb verb, const char *id, struct op **slot, rental_done_fn done, void *ctx)
{
    struct job *j = ask(verb, slot, ctx);

    snprintf(j->id, sizeof j->id, "%s", id);
    j->on_done = done;
}

static void fake_start(struct rental *r, const char *id, const struct instance_start *s, struct op **slot,
                       rental_done_fn done, void *ctx)
{
    (void)r, (void)s;
    ask_of(START, id, slot, done, ctx);
}

static void fake_stop(struct rental *r, const char *id, struct op **slot, rental_done_fn done, void *ctx)
{
    (void)r;
    ask_of(STOP, id, slot, done, ctx);
}

static void fake_release(struct rental *r, const char *id, struct op **slot, rental_done_fn done, void *ctx)
{
    (void)r;
    ask_of(RELEASE, id, slot, done, ctx);
}

static const struct rental_ops fake_ops = {
    .list = fake_list,
    .create = fake_create,
    .start = fake_start,
    .stop = fake_stop,
    .release = fake_release,
};

/* Every answer tells it. */
static int64_t their_now_ms(void *ctx)
{
    (void)ctx;
    return w.heard && !w.has_no_clock ? (int64_t)w.now + 1700000000000 : 0;
}

/* ---- The database ---- */

static void keep(void *ctx, const struct life_record *r)
{
    (void)ctx;
    w.n_kept++;
    if (bad_luck(20)) /* it is stuck, and the next value takes its place */
        return;
    w.durable = *r;
    w.n_durable = w.n_kept;
}

static void keep_then(void *ctx, const struct life_record *r, bool money, struct op **slot, op_done_fn done,
                      void *done_ctx)
{
    struct job *j = ask(KEEPING, slot, done_ctx);

    (void)ctx;
    j->record = *r;
    j->number = ++w.n_kept;
    j->on_done = done;
    j->fault = (struct fault){0};
    j->effect_due = w.now + 1 + dice(bad_luck(10) ? 20000 : 20);
    j->answer_due = j->effect_due + 1;
    if ((money && w.broke) || bad_luck(10)) {
        j->effect_due = 0;
        fault_code(&j->fault, money && w.broke ? FAULT_EXHAUSTED : FAULT_TRANSIENT,
                   money && w.broke ? "budget" : "disk", "not kept");
    }
}

static void on_seen(void *ctx, const struct instance_seen *m, const struct instance_seen *spare,
                    unsigned n_spare)
{
    (void)ctx;
    cr_assert(*m->id);
    for (unsigned i = 0; i < n_spare; i++)
        cr_assert(*spare[i].id && !streq(spare[i].id, m->id));
}

static bool ours_may_come(void)
{
    for (unsigned i = 0; i < w.n_jobs; i++)
        if (w.jobs[i]->effect_due &&
            (w.jobs[i]->verb == CREATE || (w.jobs[i]->verb == START && machine_of(w.jobs[i]->id))))
            return true;
    return false;
}

/* What is said is true. */
static void on_changed(void *ctx, struct life *l)
{
    (void)ctx;
    if ((life_state(l) == STOPPED || life_state(l) == ABSENT || life_state(l) == RELEASED) && !w.n_foreign &&
        !w.very_late) {
        cr_assert_eq(n_billing(), 0u, "story %u: %s is said, and a machine bills", w.story,
                     life_state_name(life_state(l)));
        cr_assert(!ours_may_come(), "story %u: %s is said, and a call of ours is under way", w.story,
                  life_state_name(life_state(l)));
    }
    if (life_state(l) == RUNNING)
        cr_assert(*life_record(l)->id);
}

static uint64_t wait_ms(void *ctx)
{
    (void)ctx;
    return 24000 + dice(12000);
}

static const struct instance_wish wish = {.card = "4090D", .image = "base-image", .cards = 1};

static void daemon_starts(bool first)
{
    const struct life_context c = {
        .name = "gpu1",
        .prefix = "llmhost-ab12-gpu1",
        .ops = &fake_ops,
        .wish = &wish,
        .settle_ms = START_MS,
        .stop_alarm_ms = 180000,
        .keep = keep,
        .keep_then = keep_then,
        .seen = on_seen,
        .wait_ms = wait_ms,
        .their_now_ms = their_now_ms,
        .changed = on_changed,
    };

    w.heard = first; /* one that is new was looked for in a list, for its name (manager_rent()) */
    w.l = life_new(&c, first ? NULL : &w.durable);
}

static void works_run(void)
{
    while (!list_is_empty(&w.works)) {
        struct work *work = CONTAINER_OF(w.works.next, struct work, node);

        list_remove(&work->node);
        work->fn(work->ctx);
    }
}

/* The next thing that is due, before `end`. */
static bool step(uint64_t end)
{
    uint64_t next = end;

    for (unsigned i = 0; i < w.n_jobs; i++) {
        if (w.jobs[i]->effect_due)
            next = MIN(next, w.jobs[i]->effect_due);
        if (w.jobs[i]->answer_due)
            next = MIN(next, w.jobs[i]->answer_due);
    }
    for (unsigned i = 0; i < w.n_machines; i++)
        for (unsigned k = 0; k < 3; k++) {
            const struct machine *m = &w.machines[i];
            uint64_t due = k == 0 ? m->due : k == 1 ? m->started_due : m->stopped_due;

            if (due)
                next = MIN(next, due);
        }
    if (w.l && w.timer.due)
        next = MIN(next, w.timer.due);
    if (next >= end) {
        w.now = end;
        return false;
    }
    w.now = next;
    return true;
}

static void jobs_reap(void)
{
    for (unsigned i = 0; i < w.n_jobs;) {
        struct job *j = w.jobs[i];

        if (j->effect_due || j->answer_due || j->listens) {
            i++;
            continue;
        }
        free(j);
        w.jobs[i] = w.jobs[--w.n_jobs];
    }
}

static void now_happens(void)
{
    for (unsigned i = 0; i < w.n_machines; i++) {
        struct machine *m = &w.machines[i];

        if (m->due && m->due <= w.now) {
            m->due = 0;
            m->seen.power = m->starting && !m->fails ? INSTANCE_ON : INSTANCE_OFF;
            if (!m->starting || !m->fails)
                is_stamped(m, m->starting);
            if (m->ends && m->starting && !m->fails)
                goes_off(m);
        }
        stamps_come(m);
    }
    for (unsigned i = 0; i < w.n_jobs; i++)
        if (w.jobs[i]->effect_due && w.jobs[i]->effect_due <= w.now)
            job_happens(w.jobs[i]);
    for (unsigned i = 0; i < w.n_jobs; i++)
        if (w.jobs[i]->answer_due && w.jobs[i]->answer_due <= w.now) {
            job_answers(w.jobs[i]);
            works_run();
        }
    jobs_reap();
    if (w.l && w.timer.due && w.timer.due <= w.now) {
        w.timer.due = 0;
        life_on_timer(w.l);
        works_run();
    }
}

static void run_until(uint64_t end)
{
    while (step(end)) {
        now_happens();
        cr_assert_leq(n_billing(), w.very_late ? MACHINES_MAX : 1u, "story %u: two machines bill at %llu s",
                      w.story, (unsigned long long)w.now / 1000);
        if (w.l && life_is_none(w.l) && !w.n_foreign && !w.very_late)
            cr_assert(!n_billing() && !ours_may_come(), "story %u: none is said (%s), and one is or may come",
                      w.story, life_state_name(life_state(w.l)));
        if (w.l)
            cr_assert(w.l->call || w.l->look || w.timer.due, "story %u: %s waits for nothing", w.story,
                      life_state_name(life_state(w.l)));
    }
}

static void daemon_is_killed(void)
{
    w.l = life_free(w.l);
    run_until(w.now + dice(dice(3) ? 20000 : 400000));
    daemon_starts(false);
    works_run();
}

/* Somebody at the provider's console. */
static void button_is_pressed(void)
{
    for (unsigned i = 0; i < w.n_machines; i++) {
        struct machine *m = &w.machines[i];

        if (!m->exists || m->due)
            continue;
        w.n_foreign++;
        if (m->seen.power == INSTANCE_OFF)
            boots(m);
        else
            goes_off(m);
        m->ends = dice(2);
        return;
    }
}

static void clock_is_set(int64_t by_ms)
{
    w.wall_ahead_ms += by_ms;
}
