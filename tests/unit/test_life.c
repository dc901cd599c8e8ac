/* links: lease
 *
 * The life of a rented machine: its table of moves row by row, then thousands of random stories against a
 * provider that takes its time: answers are slow, late, lost or come without their effect, effects come after
 * their answers, stops are ignored, cards are sold out, boots fail, the database fails, goals flip, the
 * daemon is killed and started again with what was on disk by then. Never are there two machines that bill,
 * and a "stopped" is true. */
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

/* ---- The table ---- */

/* What a row hands in, one letter each: goal (+) on, (-) off, (x) release; (a)sked, (i)d known, (o)urs; the
 * machine is seen o(N), o(F)f, (C)hanging, else not; an (c)ounting off or none; (l)ate, (h)opeless, (t)urn to
 * ask again, (r) it was seen on its way off. */
struct row {
    enum life_state from;
    const char *facts;
    enum life_event ev;
    enum fault_kind fault;
    int how;
    enum life_state to;
    const char *code;
};

/* clang-format off */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define EV(name) LIFE_EV_##name
#define NO       FAULT_NONE
#define KEEP     LIFE_KEEP
#define ENTER    LIFE_ENTER
#define WATCHES  LIFE_WATCH
#define DO       LIFE_DO
#define LOOKS    LIFE_LOOK

static const struct row rows[] = {
    {ABSENT, "+",   EV(GOAL),  NO, ENTER, CREATING},
    {ABSENT, "-",   EV(GOAL),  NO, KEEP},
    {ABSENT, "x",   EV(GOAL),  NO, ENTER, RELEASED},
    {ABSENT, "-",   EV(SEEN),  NO, KEEP},
    {ABSENT, "-C",  EV(SEEN),  NO, ENTER, UNKNOWN},
    {ABSENT, "-F",  EV(SEEN),  NO, ENTER, UNKNOWN},
    {ABSENT, "-",   EV(TIMER), NO, LOOKS},

    {WAITING, "+",  EV(GOAL),  NO, KEEP},
    {WAITING, "-",  EV(GOAL),  NO, ENTER, ABSENT},
    {WAITING, "-i", EV(GOAL),  NO, ENTER, STOPPED},
    {WAITING, "xi", EV(GOAL),  NO, ENTER, STOPPED},
    {WAITING, "+",  EV(SEEN),  NO, KEEP},
    {WAITING, "+iF", EV(SEEN), NO, KEEP},
    {WAITING, "+iC", EV(SEEN), NO, ENTER, UNKNOWN},
    {WAITING, "+iN", EV(SEEN), NO, ENTER, UNKNOWN},
    {WAITING, "+",  EV(TIMER), NO, ENTER, CREATING},
    {WAITING, "+i", EV(TIMER), NO, ENTER, STARTING},

    {CREATING, "+",   EV(STORED),   NO, DO},
    {CREATING, "-",   EV(GOAL),     NO, ENTER, ABSENT},
    {CREATING, "-a",  EV(GOAL),     NO, KEEP},
    {CREATING, "+a",  EV(GOAL),     NO, KEEP},
    {CREATING, "+",   EV(UNSTORED), FAULT_TRANSIENT, ENTER, WAITING},
    {CREATING, "-",   EV(UNSTORED), FAULT_TRANSIENT, ENTER, ABSENT},
    {CREATING, "+",   EV(UNSTORED), FAULT_EXHAUSTED, ENTER, WAITING},
    {CREATING, "+",   EV(TIMER),    NO, ENTER, WAITING},
    {CREATING, "-",   EV(TIMER),    NO, ENTER, ABSENT},
    {CREATING, "+a",  EV(TIMER),    NO, ENTER, UNKNOWN},
    {CREATING, "-a",  EV(TIMER),    NO, ENTER, UNKNOWN},
    {CREATING, "+ai", EV(MADE),     NO, WATCHES, STARTING},
    {CREATING, "-ai", EV(MADE),     NO, ENTER, STOPPING},
    {CREATING, "xai", EV(MADE),     NO, ENTER, STOPPING},
    {CREATING, "+a",  EV(FAULT),    FAULT_EXHAUSTED, ENTER, WAITING},
    {CREATING, "-a",  EV(FAULT),    FAULT_EXHAUSTED, ENTER, ABSENT},
    {CREATING, "+a",  EV(FAULT),    FAULT_DENIED,    ENTER, WAITING},
    {CREATING, "+a",  EV(FAULT),    FAULT_INVALID,   ENTER, WAITING},
    {CREATING, "-a",  EV(FAULT),    FAULT_INVALID,   ENTER, ABSENT},
    {CREATING, "+a",  EV(FAULT),    FAULT_UNCERTAIN, ENTER, UNKNOWN},
    {CREATING, "+a",  EV(FAULT),    FAULT_TRANSIENT, ENTER, UNKNOWN},
    {CREATING, "-a",  EV(FAULT),    FAULT_UNCERTAIN, ENTER, UNKNOWN},

    {STARTING, "+i",   EV(STORED),   NO, DO},
    {STARTING, "-i",   EV(GOAL),     NO, ENTER, UNKNOWN},
    {STARTING, "-ia",  EV(GOAL),     NO, ENTER, STOPPING},
    {STARTING, "xia",  EV(GOAL),     NO, ENTER, STOPPING},
    {STARTING, "+ia",  EV(GOAL),     NO, KEEP},
    {STARTING, "+i",   EV(UNSTORED), FAULT_TRANSIENT, ENTER, WAITING},
    {STARTING, "-i",   EV(UNSTORED), FAULT_TRANSIENT, ENTER, UNKNOWN},
    {STARTING, "+i",   EV(TIMER),    NO, ENTER, WAITING},
    {STARTING, "+ia",  EV(TIMER),    NO, LOOKS},
    {STARTING, "+ial", EV(TIMER),    NO, ENTER, UNKNOWN},
    {STARTING, "+ia",  EV(DONE),     NO, LOOKS},
    {STARTING, "+iaN", EV(SEEN),     NO, ENTER, RUNNING},
    {STARTING, "+iaC", EV(SEEN),     NO, KEEP},
    {STARTING, "+iaF", EV(SEEN),     NO, KEEP},
    {STARTING, "+iF",  EV(SEEN),     NO, KEEP},
    {STARTING, "+iaFc",  EV(SEEN),   NO, ENTER, WAITING},
    {STARTING, "+iaFch", EV(SEEN),   NO, ENTER, STOPPED},
    {STARTING, "-iaFc",  EV(SEEN),   NO, ENTER, STOPPED},
    {STARTING, "+ia",  EV(SEEN),     NO, KEEP},
    {STARTING, "+iac", EV(SEEN),     NO, ENTER, UNKNOWN},
    {STARTING, "+ia",  EV(FAULT),    FAULT_EXHAUSTED, ENTER, WAITING},
    {STARTING, "-ia",  EV(FAULT),    FAULT_EXHAUSTED, ENTER, UNKNOWN},
    {STARTING, "+ia",  EV(FAULT),    FAULT_DENIED,    ENTER, WAITING},
    {STARTING, "-ia",  EV(FAULT),    FAULT_DENIED,    ENTER, UNKNOWN},
    {STARTING, "+ia",  EV(FAULT),    FAULT_INVALID,   ENTER, WAITING},
    {STARTING, "+ia",  EV(FAULT),    FAULT_UNCERTAIN, ENTER, UNKNOWN},
    {STARTING, "+ia",  EV(FAULT),    FAULT_GONE,      ENTER, UNKNOWN},
    {STARTING, "+ia",  EV(FAULT),    FAULT_INVALID,   LOOKS, UNKNOWN, "already"},

    {RUNNING, "+io",   EV(GOAL),  NO, KEEP},
    {RUNNING, "-io",   EV(GOAL),  NO, ENTER, STOPPING},
    {RUNNING, "xio",   EV(GOAL),  NO, ENTER, STOPPING},
    {RUNNING, "-i",    EV(GOAL),  NO, KEEP},
    {RUNNING, "+ioN",  EV(SEEN),  NO, KEEP},
    {RUNNING, "+ioF",  EV(SEEN),  NO, KEEP},
    {RUNNING, "+ioFc", EV(SEEN),  NO, ENTER, STOPPED},
    {RUNNING, "+ioC",  EV(SEEN),  NO, ENTER, UNKNOWN},
    {RUNNING, "+io",   EV(SEEN),  NO, ENTER, UNKNOWN},
    {RUNNING, "+io",   EV(BLIND), FAULT_TRANSIENT, KEEP},
    {RUNNING, "+io",   EV(BLIND), FAULT_DENIED,    KEEP},
    {RUNNING, "+io",   EV(TIMER), NO, LOOKS},

    {STOPPING, "-iN",  EV(SEEN),  NO, KEEP},
    {STOPPING, "-iNr", EV(SEEN),  NO, DO},
    {STOPPING, "-iC",  EV(SEEN),  NO, KEEP},
    {STOPPING, "-iF",  EV(SEEN),  NO, KEEP},
    {STOPPING, "-iFc", EV(SEEN),  NO, ENTER, STOPPED},
    {STOPPING, "+iFc", EV(SEEN),  NO, ENTER, STOPPED},
    {STOPPING, "-i",   EV(SEEN),  NO, ENTER, UNKNOWN},
    {STOPPING, "-i",   EV(TIMER), NO, LOOKS},
    {STOPPING, "-it",  EV(TIMER), NO, DO},
    {STOPPING, "-i",   EV(DONE),  NO, LOOKS},
    {STOPPING, "-i",   EV(FAULT), FAULT_INVALID,   LOOKS, STOPPING, "already"},
    {STOPPING, "-i",   EV(FAULT), FAULT_GONE,      ENTER, UNKNOWN},
    {STOPPING, "-i",   EV(FAULT), FAULT_DENIED,    KEEP},
    {STOPPING, "-i",   EV(FAULT), FAULT_UNCERTAIN, KEEP},
    {STOPPING, "+i",   EV(GOAL),  NO, KEEP},

    {STOPPED, "-i",   EV(GOAL),  NO, KEEP},
    {STOPPED, "+i",   EV(GOAL),  NO, ENTER, STARTING},
    {STOPPED, "xi",   EV(GOAL),  NO, ENTER, RELEASING},
    {STOPPED, "-iF",  EV(SEEN),  NO, KEEP},
    {STOPPED, "-iNc", EV(SEEN),  NO, ENTER, RUNNING},
    {STOPPED, "-iN",  EV(SEEN),  NO, ENTER, UNKNOWN},
    {STOPPED, "-iCc", EV(SEEN),  NO, ENTER, UNKNOWN},
    {STOPPED, "-i",   EV(SEEN),  NO, ENTER, UNKNOWN},
    {STOPPED, "-i",   EV(TIMER), NO, LOOKS},

    {UNKNOWN, "+ioN",  EV(SEEN),  NO, ENTER, RUNNING},
    {UNKNOWN, "-ioN",  EV(SEEN),  NO, ENTER, STOPPING},
    {UNKNOWN, "xioN",  EV(SEEN),  NO, ENTER, STOPPING},
    {UNKNOWN, "-iN",   EV(SEEN),  NO, ENTER, RUNNING},
    {UNKNOWN, "+ioC",  EV(SEEN),  NO, WATCHES, STARTING},
    {UNKNOWN, "-ioC",  EV(SEEN),  NO, ENTER, STOPPING},
    {UNKNOWN, "-iC",   EV(SEEN),  NO, KEEP},
    {UNKNOWN, "+iF",   EV(SEEN),  NO, KEEP},
    {UNKNOWN, "+iFc",  EV(SEEN),  NO, ENTER, STOPPED},
    {UNKNOWN, "+",     EV(SEEN),  NO, KEEP},
    {UNKNOWN, "+c",    EV(SEEN),  NO, ENTER, ABSENT},
    {UNKNOWN, "+i",    EV(BLIND), FAULT_DENIED, KEEP},
    {UNKNOWN, "-i",    EV(TIMER), NO, LOOKS},
    {UNKNOWN, "-i",    EV(GOAL),  NO, KEEP},

    {RELEASING, "xi",   EV(STORED),   NO, DO},
    {RELEASING, "xi",   EV(UNSTORED), FAULT_TRANSIENT, KEEP},
    {RELEASING, "xi",   EV(TIMER),    NO, ENTER, RELEASING},
    {RELEASING, "xia",  EV(TIMER),    NO, LOOKS},
    {RELEASING, "xiat", EV(TIMER),    NO, DO},
    {RELEASING, "xia",  EV(DONE),     NO, LOOKS},
    {RELEASING, "xia",  EV(SEEN),     NO, KEEP},
    {RELEASING, "xiac", EV(SEEN),     NO, ENTER, RELEASED},
    {RELEASING, "xiaF", EV(SEEN),     NO, KEEP},
    {RELEASING, "xiaN", EV(SEEN),     NO, ENTER, STOPPING},
    {RELEASING, "xia",  EV(FAULT),    FAULT_INVALID,   ENTER, STOPPING, "not_off"},
    {RELEASING, "xia",  EV(FAULT),    FAULT_UNCERTAIN, LOOKS},
    {RELEASING, "+ia",  EV(GOAL),     NO, KEEP},

    {RELEASED, "x", EV(GOAL),  NO, KEEP},
    {RELEASED, "+", EV(GOAL),  NO, ENTER, CREATING},
    {RELEASED, "x", EV(SEEN),  NO, KEEP},
    {RELEASED, "xC", EV(SEEN), NO, ENTER, UNKNOWN},
    {RELEASED, "x", EV(TIMER), NO, LOOKS},
};
/* clang-format on */

Test(life, each_row_of_the_table)
{
    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        const struct row *row = &rows[i];
        struct fault f = {.kind = row->fault};
        bool counts = strchr(row->facts, 'c');
        struct life l = {
            .record = {.state = row->from,
                       .goal = strchr(row->facts, '+')   ? LIFE_GOAL_ON
                               : strchr(row->facts, 'x') ? LIFE_GOAL_RELEASE
                                                         : LIFE_GOAL_OFF,
                       .ours = strchr(row->facts, 'o')},
            .asked = strchr(row->facts, 'a'),
            .seen = strchr(row->facts, 'N')   ? SEEN_ON
                    : strchr(row->facts, 'F') ? SEEN_OFF
                    : strchr(row->facts, 'C') ? SEEN_CHANGING
                                              : SEEN_NONE,
            .off_counts = counts,
            .none_counts = counts,
            .late = strchr(row->facts, 'l'),
            .hopeless = strchr(row->facts, 'h'),
            .turn = strchr(row->facts, 't'),
            .seen_not_on = strchr(row->facts, 'r'),
        };

        snprintf(f.code, sizeof f.code, "%s", row->code ? row->code : "");
        if (strchr(row->facts, 'i'))
            snprintf(l.record.id, sizeof l.record.id, "pro-1");
        struct life_move m = life_next(&l, row->ev, &f);

        cr_assert_eq((int)m.how, row->how, "row %u (%s \"%s\", %s): how %d", i, life_state_name(row->from),
                     row->facts, life_event_name(row->ev), (int)m.how);
        if (row->how == ENTER || row->how == WATCHES)
            cr_assert_eq(m.state, row->to, "row %u: %s", i, life_state_name(m.state));
    }
}

/* Whatever else comes is for nobody. */
Test(life, what_is_not_in_the_table_changes_nothing)
{
    for (enum life_state s = UNKNOWN; s <= RELEASED; s++)
        for (enum life_event ev = 0; ev < LIFE_EV_COUNT; ev++) {
            struct life l = {.record = {.state = s}};
            struct fault f = {.kind = FAULT_TRANSIENT};
            bool found = false;

            for (unsigned i = 0; i < ELEMENTS(rows); i++)
                found = found || (rows[i].from == s && rows[i].ev == ev);
            if (!found)
                cr_assert_eq((int)life_next(&l, ev, &f).how, KEEP, "%s, %s", life_state_name(s),
                             life_event_name(ev));
        }
}

/* ---- The world ---- */

enum { MACHINES_MAX = 60, JOBS_MAX = 64, START_MS = 180000, EFFECT_MS_MAX = 100000, LATE_MS_MAX = 400000 };

struct timer {
    uint64_t due; /* 0: not armed */
};

struct machine {
    bool exists;
    struct instance_seen seen;
    uint64_t due; /* of the end of a change; 0: none */
    bool starting, fails;
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
    bool set_forth;
    int64_t wall_ahead_ms;
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

static void boots(struct machine *m)
{
    m->seen.power = INSTANCE_CHANGING;
    m->starting = true;
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
        if (w.machines[i].exists)
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

static void fake_start(struct rental *r, const char *id, const char *start_command, struct op **slot,
                       rental_done_fn done, void *ctx)
{
    (void)r, (void)start_command;
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
    .start_ms = START_MS,
    .stop_alarm_ms = 180000,
    .list = fake_list,
    .create = fake_create,
    .start = fake_start,
    .stop = fake_stop,
    .release = fake_release,
};

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

static void on_seen(void *ctx, const struct instance_seen *m)
{
    (void)ctx;
    cr_assert(*m->id);
}

static bool ours_may_come(void)
{
    for (unsigned i = 0; i < w.n_jobs; i++)
        if (w.jobs[i]->effect_due && (w.jobs[i]->verb == CREATE || w.jobs[i]->verb == START))
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

static const struct instance_wish wish = {.card = "4090D", .image = "base-image", .cards = 1};

static void daemon_starts(bool first)
{
    const struct life_context c = {
        .name = "gpu1",
        .prefix = "llmhost-ab12-gpu1",
        .ops = &fake_ops,
        .wish = &wish,
        .keep = keep,
        .keep_then = keep_then,
        .seen = on_seen,
        .changed = on_changed,
    };

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
        if (w.machines[i].due)
            next = MIN(next, w.machines[i].due);
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
        }
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
        return;
    }
}

/* A daemon that begins anew knows the age of a call by that clock alone: an hour forth would make it old. */
static void clock_is_set(int64_t by_ms)
{
    w.wall_ahead_ms += by_ms;
    w.set_forth |= by_ms > 0;
}

static void something_happens(bool buttons)
{
    switch (dice(12)) {
    case 0:
    case 1:
    case 2: life_want(w.l, LIFE_GOAL_ON); break;
    case 3:
    case 4: life_want(w.l, LIFE_GOAL_OFF); break;
    case 5: w.sold_out = dice(2); break;
    case 6: w.broke = dice(3) == 0; break;
    case 7:
        if (!w.set_forth)
            daemon_is_killed();
        break;
    case 8: life_doubt(w.l); break;
    case 9:
        if (dice(4) == 0)
            life_want(w.l, LIFE_GOAL_RELEASE);
        break;
    case 10:
        if (buttons)
            button_is_pressed();
        break;
    case 11:
        if (w.jumps)
            clock_is_set((int64_t)dice(7200000) - 3600000);
        break;
    }
    works_run();
}

static void world_begin(uint32_t story)
{
    w = (struct world){.seed = story * 2654435761u + 1, .story = story, .now = 1000000};
    list_init(&w.works);
    daemon_starts(true);
}

static void world_end(void)
{
    w.l = life_free(w.l);
    for (unsigned i = 0; i < w.n_jobs; i++)
        free(w.jobs[i]);
    w.n_jobs = 0;
}

/* All is well from now on: after a while it is where it is wanted, and says so. */
static void check_rest(void)
{
    w.calm = true;
    w.sold_out = w.broke = false;
    run_until(w.now + 900000);
    for (enum life_goal goal = LIFE_GOAL_OFF; goal <= LIFE_GOAL_ON; goal++) {
        life_want(w.l, goal);
        works_run();
        run_until(w.now + 900000);
        cr_assert_eq(n_billing(), goal == LIFE_GOAL_ON ? 1u : 0u,
                     "story %u: wanted %d, and it is %s with %u that bill", w.story, (int)goal,
                     life_state_name(life_state(w.l)), n_billing());
        if (goal == LIFE_GOAL_ON)
            cr_assert_eq(life_state(w.l), RUNNING, "story %u: %s", w.story, life_state_name(life_state(w.l)));
        else
            cr_assert(life_state(w.l) == STOPPED || life_state(w.l) == ABSENT || life_state(w.l) == RELEASED,
                      "story %u: %s", w.story, life_state_name(life_state(w.l)));
        cr_assert_eq(life_goal(w.l), goal, "story %u", w.story);
    }
}

static void stories(unsigned from, unsigned n, bool buttons, bool very_late, bool jumps)
{
    const char *one = getenv("STORY");

    for (unsigned story = from; story < from + n; story++) {
        world_begin(one ? (uint32_t)atoi(one) : story);
        w.very_late = very_late;
        w.jumps = jumps;
        for (unsigned i = 0; i < 25; i++) {
            something_happens(buttons);
            run_until(w.now + dice(dice(3) ? 20000 : 120000));
        }
        check_rest();
        world_end();
        if (one)
            break;
    }
}

Test(life, no_story_has_two_machines_or_a_false_stop)
{
    stories(1, 4000, false, false, false);
}

Test(life, console_buttons_never_make_two_machines_or_leave_it_unsettled)
{
    stories(100001, 2000, true, false, false);
}

/* Two for a while can then not be helped: each is found in the list by its name, and one of them is left. */
Test(life, calls_that_act_later_than_they_may_leave_nothing_behind)
{
    stories(200001, 2000, false, true, false);
}

Test(life, a_clock_that_is_set_makes_no_stop_false)
{
    stories(300001, 2000, false, false, true);
}

/* The daemon was away, somebody switched the machine on, and a person who sees that says: off. */
Test(life, a_word_while_it_is_unknown_is_not_forgotten)
{
    world_begin(1);
    w.calm = true;
    life_want(w.l, LIFE_GOAL_ON);
    works_run();
    run_until(w.now + 900000);
    life_want(w.l, LIFE_GOAL_OFF);
    works_run();
    run_until(w.now + 900000);
    cr_assert_eq(life_state(w.l), STOPPED);
    w.l = life_free(w.l);
    button_is_pressed();
    run_until(w.now + 900000);
    daemon_starts(false);
    life_want(w.l, LIFE_GOAL_OFF);
    works_run();
    run_until(w.now + 900000);
    cr_assert_eq(life_state(w.l), STOPPED);
    cr_assert_eq(n_billing(), 0);
    world_end();
}
