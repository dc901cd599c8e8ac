/* A rental company with one machine, an account, a guard and a lease that do what a test says, around the
 * real rented.c with its real life and a real store. Answers come later in the turn, or never, where a test
 * holds them back. For test_rented.c. */
#pragma once

#include <criterion/criterion.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/loop.h"
#include "base/op.h"
#include "base/settings.h"
#include "lease/account.h"
#include "lease/rented.h"
#include "proto/mem.h"
#include "store/store.h"
#include "tests/fixture/loop_fixture.h"

#define START_MS 180000u

/* ---- what a test looks at ---- */

static struct company {
    bool exists, has_spare;
    struct instance_seen machine, spare; /* spare: made late, beside it */
    struct instance_way way;
    struct fault refusal; /* of create and start; kind NONE: they work */
    struct fault blind;   /* of the list */
    bool stamps_late;     /* a stop has none for a while */
    enum instance_power boots_to;
    bool ignores_stops, holds; /* holds: nothing is answered */
    struct ask *held;          /* the last that was not */
    unsigned n_create, n_start, n_stop, n_release, n_reach;
    char card[32], region[32], start_command[600], name[INSTANCE_NAME_MAX];
    unsigned cards;
    bool has_timer, timer_is_deaf; /* deaf: what is set is not shown */
    int64_t timer_at_ms;           /* as it was set last */
    unsigned n_timer;
    uint64_t first_ms; /* of the last start */
} company;

static struct books {
    struct account_record record;
    bool is_empty;  /* no money left */
    int64_t off_ms; /* this computer's clock is so much ahead of the company's */
    unsigned n_reserved, n_resolved, n_gone;
    struct account_reservation last;
    char machine[96], kind[16], outcome[32];
    struct ledger_reading reading, spare; /* spare: of a machine "gz+ID" */
    char spare_name[96], gone[96];
    struct spent_record row; /* the only one in it; instance NULL: none */
    uint64_t asked_by_others_due; /* so long they are in the way */
    unsigned n_called;
    int64_t learned_milli; /* the last price that was read */
} books;

struct keeper {
    struct keeper_context context;
    enum keeper_state state;
    struct fault fault;
    struct keeper_figures figures;
    bool way, is_told_to_stop;
    unsigned n_forgotten, n_taken;
    uint32_t hold_s;
    bool is_held; /* or no longer: it was told which */
    struct work changed;
};

static struct loop *loop;
static struct store *store;
static struct settings *settings;
static struct rented *rented;
static struct keeper *keeper;
static char directory[40];
static unsigned n_changed, n_ways;
static struct instance_way way; /* the last that was told */
static bool has_way;

/* ---- the company ---- */

/* One call; it happens, and is answered, later in this turn. */
struct ask {
    struct op op;
    struct work work;
    void (*happens)(struct ask *a, struct fault *f);
    rental_list_fn on_list;
    rental_made_fn on_made;
    rental_done_fn on_done;
    rental_way_fn on_way;
    void *ctx;
};

static inline void ask_cancel(struct op *op)
{
    struct ask *a = CONTAINER_OF(op, struct ask, op);

    runq_drop(&a->work);
    free(a);
}

static inline void ask_answers(void *ctx)
{
    struct ask a = *(struct ask *)ctx;
    struct fault failed = {}, *f = &failed;

    op_end(&((struct ask *)ctx)->op);
    free(ctx);
    a.happens(&a, f);
    f = f->kind ? f : NULL;
    if (a.on_list)
        a.on_list(a.ctx, (struct instance_seen[]){company.machine, company.spare},
                  f ? 0 : company.exists + company.has_spare, f);
    else if (a.on_made)
        a.on_made(a.ctx, f ? NULL : company.machine.id, f);
    else if (a.on_way)
        a.on_way(a.ctx, f ? NULL : &company.way, f);
    else
        a.on_done(a.ctx, f);
}

static inline struct ask *ask_new(struct op **slot, void *ctx,
                                  void (*happens)(struct ask *a, struct fault *f))
{
    struct ask *a = xnew(struct ask);

    a->happens = happens;
    a->ctx = ctx;
    work_init(&a->work, ask_answers, a);
    op_begin(&a->op, slot, ask_cancel);
    if (company.holds)
        company.held = a;
    else
        runq_add(loop, &a->work);
    return a;
}

static inline void company_answers(void)
{
    company.holds = false;
    runq_add(loop, &company.held->work);
}

static inline void nothing_happens(struct ask *a, struct fault *f)
{
    (void)a, (void)f;
}

static inline void is_read(struct ask *a, struct fault *f)
{
    (void)a;
    *f = company.blind;
}

static inline void goes_on(struct ask *a, struct fault *f)
{
    (void)a;
    *f = company.refusal;
    if (f->kind)
        return;
    company.exists = true;
    company.machine.power = company.boots_to;
    if (company.boots_to == INSTANCE_ON) /* that of the last time is shown until then */
        company.machine.started_at_ms = clock_wall_ms();
    snprintf(company.machine.word, sizeof company.machine.word, "running");
}

static inline void goes_off(struct ask *a, struct fault *f)
{
    (void)a, (void)f;
    if (company.ignores_stops)
        return;
    company.machine.power = INSTANCE_OFF;
    if (!company.stamps_late)
        company.machine.stopped_at_ms = clock_wall_ms();
}

static inline void spare_goes_off(struct ask *a, struct fault *f)
{
    (void)a, (void)f;
    company.spare.power = INSTANCE_OFF;
    company.spare.stopped_at_ms = clock_wall_ms();
}

static inline void is_given_back(struct ask *a, struct fault *f)
{
    (void)a, (void)f;
    company.exists = false;
}

static inline void company_list(struct rental *r, struct op **slot, rental_list_fn done, void *ctx)
{
    (void)r;
    ask_new(slot, ctx, is_read)->on_list = done;
}

static inline void company_create(struct rental *r, const struct instance_wish *w, struct op **slot,
                                  rental_made_fn done, void *ctx)
{
    (void)r;
    company.n_create++;
    company.cards = w->cards;
    snprintf(company.card, sizeof company.card, "%s", w->card);
    snprintf(company.region, sizeof company.region, "%s", w->region ? w->region : "anywhere");
    snprintf(company.name, sizeof company.name, "%s", w->name);
    snprintf(company.start_command, sizeof company.start_command, "%s",
             w->start.start_command ? w->start.start_command : "");
    snprintf(company.machine.id, sizeof company.machine.id, "pro-1");
    snprintf(company.machine.name, sizeof company.machine.name, "%s", w->name);
    ask_new(slot, ctx, goes_on)->on_made = done;
}

static inline void company_start(struct rental *r, const char *id, const struct instance_start *s,
                                 struct op **slot, rental_done_fn done, void *ctx)
{
    (void)r;
    cr_assert_str_eq(id, "pro-1");
    company.n_start++;
    company.first_ms = s->first_ms;
    snprintf(company.start_command, sizeof company.start_command, "%s",
             s->start_command ? s->start_command : "");
    ask_new(slot, ctx, goes_on)->on_done = done;
}

static inline void company_stop(struct rental *r, const char *id, struct op **slot, rental_done_fn done,
                                void *ctx)
{
    (void)r;
    if (company.has_spare && streq(id, company.spare.id)) {
        ask_new(slot, ctx, spare_goes_off)->on_done = done;
        return;
    }
    cr_assert_str_eq(id, "pro-1");
    company.n_stop++;
    ask_new(slot, ctx, goes_off)->on_done = done;
}

static inline void company_release(struct rental *r, const char *id, struct op **slot, rental_done_fn done,
                                   void *ctx)
{
    (void)r, (void)id;
    company.n_release++;
    ask_new(slot, ctx, is_given_back)->on_done = done;
}

static inline void company_reach(struct rental *r, const char *id, struct op **slot, rental_way_fn done,
                                 void *ctx)
{
    (void)r;
    cr_assert_str_eq(id, "pro-1");
    company.n_reach++;
    ask_new(slot, ctx, nothing_happens)->on_way = done;
}

static inline int company_find_card(struct rental *r, const char *gpu, struct rental_offer *ret,
                                    char **ret_why)
{
    static const struct rental_offer all[] = {
        {.gpu = "4090D", .card = "pro-4090d", .price_milli = 1980, .stock = -1},
        {.gpu = "5090", .card = "pro-5090", .price_milli = 3200, .stock = -1},
    };

    (void)r;
    for (unsigned i = 0; i < ELEMENTS(all); i++)
        if (streq(all[i].gpu, gpu)) {
            *ret = all[i];
            return 0;
        }
    *ret_why = xstrdup("no such card");
    return -ENOENT;
}

static inline void company_set_timer(struct rental *r, const char *id, int64_t off_at_ms, struct op **slot,
                                     rental_done_fn done, void *ctx)
{
    (void)r;
    cr_assert_str_eq(id, "pro-1");
    company.n_timer++;
    company.timer_at_ms = off_at_ms;
    if (!company.timer_is_deaf)
        company.machine.off_at_ms = off_at_ms;
    ask_new(slot, ctx, nothing_happens)->on_done = done;
}

static const struct rental_ops company_ops = {
    .name = "autodl",
    .unit = "CNY",
    .released_after_ms = 15 * 24 * 3600000ull,
    .list = company_list,
    .create = company_create,
    .start = company_start,
    .stop = company_stop,
    .release = company_release,
    .reach = company_reach,
    .find_card = company_find_card,
};

/* ---- the account and its ledger ---- */

void account_listed(struct account *a, const struct instance_seen *seen, unsigned n)
{
    (void)a, (void)seen, (void)n;
}

const char *account_name(const struct account *a)
{
    (void)a;
    return "autodl";
}

int64_t account_now_ms(const struct account *a)
{
    (void)a;
    return clock_wall_ms() - books.off_ms;
}

int64_t account_their_now_ms(const struct account *a)
{
    return account_now_ms(a);
}

bool account_name_is_taken(const struct account *a, const char *name)
{
    (void)a, (void)name;
    return false;
}

int64_t account_clock_off_ms(const struct account *a)
{
    (void)a;
    return books.off_ms;
}

const struct rental_ops *account_ops(const struct account *a)
{
    static struct rental_ops timed;

    (void)a;
    timed = company_ops;
    timed.set_timer = company_set_timer;
    return company.has_timer ? &timed : &company_ops;
}

void account_learn_price(struct account *a, const char *card, int64_t milli)
{
    (void)a, (void)card;
    books.learned_milli = milli;
}

int64_t account_price(const struct account *a, const struct rental_offer *offer)
{
    (void)a;
    return MAX(books.learned_milli, offer->price_milli);
}

uint64_t account_claim_call(struct account *a, const void *who, uint64_t due)
{
    (void)a, (void)who;
    return MAX(due, books.asked_by_others_due);
}

void account_called(struct account *a, const void *who)
{
    (void)a, (void)who;
    books.n_called++;
}

struct rental *account_rental(const struct account *a)
{
    (void)a;
    return NULL;
}

struct ledger *account_ledger(const struct account *a)
{
    (void)a;
    return NULL;
}

const struct account_record *account_record(const struct account *a)
{
    (void)a;
    return &books.record;
}

void account_reserve(struct account *a, const struct account_reservation *r, struct op **slot,
                     op_done_fn done, void *ctx)
{
    struct fault f = {};

    (void)a;
    cr_assert_str_eq(r->instance, "gz");
    books.last = *r;
    snprintf(books.machine, sizeof books.machine, "%s", r->machine);
    snprintf(books.kind, sizeof books.kind, "%s", r->kind);
    books.n_reserved++;
    if (books.is_empty && !r->over)
        fault_code(&f, FAULT_EXHAUSTED, "budget", "nothing is left of today's limit");
    op_finish_later(loop, slot, f.kind ? &f : NULL, done, ctx);
}

void account_release(struct account *a, const char *instance, bool keeps)
{
    (void)a;
    store_release_intents(store, "autodl", instance, keeps);
}

void account_resolve(struct account *a, const char *machine, const char *outcome)
{
    (void)a;
    cr_assert_str_eq(machine, books.machine);
    snprintf(books.outcome, sizeof books.outcome, "%s", outcome);
    books.n_resolved++;
}

void ledger_read(struct ledger *g, const struct ledger_reading *r, int64_t now_ms)
{
    (void)g, (void)now_ms;
    if (strchr(r->instance, '+')) {
        books.spare = *r;
        snprintf(books.spare_name, sizeof books.spare_name, "%s", r->instance);
    } else {
        books.reading = *r;
    }
}

const struct spent_record *ledger_row_at(const struct ledger *g, unsigned i)
{
    (void)g;
    return i == 0 && books.row.instance ? &books.row : NULL;
}

void ledger_gone(struct ledger *g, const char *instance, int64_t now_ms)
{
    (void)g, (void)now_ms;
    snprintf(books.gone, sizeof books.gone, "%s", instance);
    books.n_gone++;
}

/* ---- the guard ---- */

static inline void keeper_on_changed(void *ctx)
{
    struct keeper *k = ctx;

    k->context.changed(k->context.ctx);
}

static inline void keeper_becomes(enum keeper_state s)
{
    keeper->state = s;
    runq_add(loop, &keeper->changed);
    loop_turns(loop, 3);
}

struct keeper *keeper_new(const struct keeper_context *context)
{
    keeper = xnew(struct keeper);
    keeper->context = *context;
    work_init(&keeper->changed, keeper_on_changed, keeper);
    return keeper;
}

struct keeper *keeper_free(struct keeper *k)
{
    if (k) {
        runq_drop(&k->changed);
        free(k);
    }
    return NULL;
}

void keeper_way(struct keeper *k, bool open)
{
    if (k->way == open)
        return;
    k->way = open;
    k->state = open ? KEEPER_ASKING : KEEPER_AWAY;
    runq_add(loop, &k->changed);
}

void keeper_forget(struct keeper *k)
{
    k->n_forgotten++;
}

void keeper_hold(struct keeper *k, uint32_t hold_s)
{
    k->hold_s = hold_s;
    k->is_held = true;
}

void keeper_take(struct keeper *k)
{
    k->n_taken++;
}

void keeper_stop_now(struct keeper *k, struct op **slot, op_done_fn done, void *ctx)
{
    k->is_told_to_stop = true;
    op_finish_later(loop, slot, NULL, done, ctx);
}

void keeper_figures(const struct keeper *k, struct keeper_figures *ret)
{
    *ret = k->figures;
}

enum keeper_state keeper_state(const struct keeper *k)
{
    return k->state;
}

const struct fault *keeper_fault(const struct keeper *k)
{
    return &k->fault;
}

/* ---- the lease, the disk, and time ---- */

static inline void on_way(void *ctx, const struct instance_way *w)
{
    (void)ctx;
    n_ways++;
    has_way = w != NULL;
    if (w)
        way = *w;
}

static inline void on_makes(void *ctx)
{
    (void)ctx;
}

static inline void on_changed_rented(void *ctx)
{
    (void)ctx;
    n_changed++;
}

static inline void on_flushed(void *ctx, const struct fault *f)
{
    cr_assert_null(f);
    *(bool *)ctx = true;
}

/* All that was queued is on disk, and those who waited for it were told. */
static inline void flush(void)
{
    struct op *op = NULL;
    bool done = false;

    store_after(store, store_put_alias(store, "x", "ollama:x"), &op, on_flushed, &done);
    cr_assert(LOOP_UNTIL(loop, done));
    loop_turns(loop, 5);
}

static inline void passes(uint64_t ms)
{
    for (uint64_t t = 0; t < ms; t += 1000) {
        loop_advance(loop, MIN(ms - t, 1000u));
        flush();
    }
}

/* Within ten minutes of the daemon's time. */
#define COMES_TRUE(condition)                                                                                \
    ({                                                                                                       \
        flush();                                                                                             \
        for (unsigned i_ = 0; i_ < 600 && !(condition); i_++)                                                \
            passes(1000);                                                                                    \
        (condition);                                                                                         \
    })

static inline void make_rented(const struct rental_record *record)
{
    const struct rented_context context = {
        .loop = loop,
        .store = store,
        .settings = settings,
        .name = "gz",
        .way = on_way,
        .makes = on_makes,
        .changed = on_changed_rented,
    };

    rented = rented_new(&context, record);
}

static inline void make_new_in(const char *gpu, const char *region, int64_t max_price_milli)
{
    const struct rental_record record = {
        .state = (char *)"absent",
        .goal = (char *)"off",
        .gpu = (char *)gpu,
        .card = (char *)"pro-4090d",
        .image = (char *)"image-1",
        .region = (char *)region,
        .cards = 1,
        .max_price_milli = max_price_milli,
    };

    make_rented(&record);
}

static inline void make_new(const char *gpu, int64_t max_price_milli)
{
    make_new_in(gpu, NULL, max_price_milli);
}

static inline void restore_one(void *ctx, const struct instance_record *r)
{
    (void)ctx;
    cr_assert_not_null(r->rental);
    make_rented(r->rental);
}

static inline void open_store(void)
{
    struct fault f = {};

    cr_assert_eq(store_open(loop, directory, &store, &f), 0, "%s", f.text);
}

/* A new daemon, with what was on disk. */
static inline void starts_again(void)
{
    static const struct store_readers readers = {.instance = restore_one};
    struct store_readers all = readers;
    struct fault f = {};

    rented = rented_free(rented);
    store = store_close(store);
    has_way = false;
    open_store();
    all.deployment = NULL;
    cr_assert_eq(store_load(store, &all, NULL, &f), 0, "%s", f.text);
    cr_assert_not_null(rented);
}

static inline void setup(void)
{
    _cleanup_free_ char *why = NULL;
    struct instance_record instance = {
        .name = (char *)"gz", .provider = (char *)"autodl", .user = (char *)"root"};

    company = (struct company){
        .boots_to = INSTANCE_ON,
        .way = {.host = "connect.gz.example", .port = 34222, .password = "s3cret", .price_milli = 1980}};
    books = (struct books){};
    snprintf(directory, sizeof directory, "/tmp/test-rented-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    cr_assert_eq(settings_parse("", "test", &settings, &why), 0);
    loop = loop_new();
    open_store();
    store_put_instance(store, &instance);
}

static inline void teardown(void)
{
    _cleanup_free_ char *command = xasprintf("rm -rf '%s'", directory);

    rented = rented_free(rented);
    store = store_close(store);
    settings = settings_free(settings);
    loop_free_dry(loop);
    cr_assert_eq(system(command), 0);
}

/* ---- what many tests begin with ---- */

static inline enum life_state state(void)
{
    return life_state(rented_life(rented));
}

static inline void session_is(bool up)
{
    rented_on_session(rented, up);
    loop_turns(loop, 3);
}

/* On, and its address is known. */
static inline void is_on_its_way(void)
{
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(has_way));
}

static inline void is_there(void)
{
    is_on_its_way();
    session_is(true);
    keeper_becomes(KEEPER_KEPT);
    cr_assert(rented_is_guarded(rented));
}

static inline void on_told(void *ctx, const struct fault *f)
{
    *(int *)ctx = f ? -1 : 1;
}
