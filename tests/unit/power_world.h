/* The real manager_power*.c, which it includes, over models, a machine, an account and a clock of our own.
 * For test_power*.c. */
#pragma once

#include <criterion/criterion.h>

#define clock_now_ms                 fake_clock_now_ms
#define clock_wall_ms                fake_clock_wall_ms
#define timer_new                    fake_timer_new
#define timer_free                   fake_timer_free
#define timer_arm                    fake_timer_arm
#define timer_disarm                 fake_timer_disarm
#define event_publish                fake_event_publish
#define settings_ms                  fake_settings_ms
#define deployment_goal              fake_deployment_goal
#define deployment_state             fake_deployment_state
#define deployment_figures           fake_deployment_figures
#define deployment_lease             fake_deployment_lease
#define deployment_is_falling_asleep fake_deployment_is_falling_asleep
#define deployment_sleeps_by_word    fake_deployment_sleeps_by_word
#define deployment_sleep             fake_deployment_sleep
#define deployment_end               fake_deployment_end
#define deployment_give_up           fake_deployment_give_up
#define deployment_machine_is_off    fake_deployment_machine_is_off
#define lease_rented                 fake_lease_rented
#define lease_boxed                  fake_lease_boxed
#define lease_name                   fake_lease_name
#define lease_is_reachable           fake_lease_is_reachable
#define rented_life                  fake_rented_life
#define rented_account               fake_rented_account
#define rented_record                fake_rented_record
#define rented_hunt                  fake_rented_hunt
#define rented_prepaid_due           fake_rented_prepaid_due
#define rented_prepaid_until_at_ms   fake_rented_prepaid_until_at_ms
#define rented_figures               fake_rented_figures
#define rented_keeper                fake_rented_keeper
#define rented_trouble               fake_rented_trouble
#define rented_want                  fake_rented_want
#define rented_doubt                 fake_rented_doubt
#define rented_look_until            fake_rented_look_until
#define rented_is_guarded            fake_rented_is_guarded
#define rented_stop_by_guard         fake_rented_stop_by_guard
#define account_ops                  fake_account_ops
#define rented_note_used             fake_rented_note_used
#define rented_may_look              fake_rented_may_look
#define rented_may_overspend         fake_rented_may_overspend
#define rented_hold                  fake_rented_hold
#define rented_hold_to_limits        fake_rented_hold_to_limits
#define rented_end_wish              fake_rented_end_wish
#define rented_is_anothers           fake_rented_is_anothers
#define rented_is_left_alone         fake_rented_is_left_alone
#define rented_is_without_card       fake_rented_is_without_card
#define rented_leave_card            fake_rented_leave_card
#define life_state                   fake_life_state
#define life_goal                    fake_life_goal
#define life_trouble                 fake_life_trouble
#define keeper_figures               fake_keeper_figures
#define account_must_stop            fake_account_must_stop
#define account_trouble              fake_account_trouble
#define account_runs                 fake_account_runs
#define account_release_keep         fake_account_release_keep
#define keeps_have                   fake_keeps_have
#define keeps_reserve                fake_keeps_reserve
#define forwards_bytes               fake_forwards_bytes
#define manager_tell_lease           fake_manager_tell_lease
#define settings_percent             fake_settings_percent
#define lease_host                   fake_lease_host
#define gpu_use_ask                  fake_gpu_use_ask
#define log_line                     fake_log_line
#include "manager_boxed.c"
#include "manager_power.c"
#include "manager_power_gpu.c"
#include "manager_power_models.c"
#include "manager_power_words.c"
#include "manager_power_search.c"

/* ---- the world ---- */

#define MIN_MS (60 * 1000u)

struct model {
    enum deployment_goal goal;
    enum deployment_state state;
    bool falls, by_word, cut;
    struct deployment_figures figures;
    struct fault ended;
    char why[DEPLOYMENT_TEXT_MAX];
};

enum { MODELS = 2 };

static struct world {
    struct manager manager;
    struct managed_lease lease;
    struct managed_deployment nodes[MODELS];
    struct model models[MODELS];
    uint64_t now, timer_due, bytes, hold_ms;
    void (*fire)(void *ctx);
    void *fire_ctx;
    enum life_state state;
    enum life_goal goal;
    struct fault trouble, money, wish_ended;
    struct keeper_figures guard;
    bool reachable, must_stop, may_overspend, keeps_price, may_look, is_anothers, runs, is_left_alone, is_none, is_unsure;
    struct rental_record record;
    int64_t rate_milli, seen_at_ms;
    op_done_fn guard_done;
    void *guard_ctx;
    struct keep_wish keep;
    bool is_reserving;
    unsigned gpu_use; /* the setting */
    gpu_use_fn gpu_done;
    void *gpu_ctx;
    struct op gpu_op;
    unsigned n_looks, n_looks_given_up, n_lines;
    unsigned n_wants, n_used, n_doubts, n_told, n_released;
    char said[300];
} w;

#include "tests/unit/power_fakes.h"

int64_t fake_clock_wall_ms(void)
{
    return (int64_t)w.now + 1700000000000;
}

struct timer *fake_timer_new(struct loop *l, void (*fire)(void *ctx), void *ctx)
{
    (void)l;
    w.fire = fire;
    w.fire_ctx = ctx;
    return NULL;
}

struct timer *fake_timer_free(struct timer *t)
{
    (void)t;
    w.timer_due = 0;
    return NULL;
}

void fake_event_publish(enum log_level level, enum log_source source, const char *target, const char *kind,
                        const char *format, ...)
{
    va_list args;

    (void)level, (void)source, (void)target, (void)kind;
    va_start(args, format);
    vsnprintf(w.said, sizeof w.said, format, args);
    va_end(args);
}

uint64_t fake_settings_ms(const struct settings *s, const char *section, const char *key)
{
    (void)s;
    cr_assert_str_eq(section, "idle");
    return streq(key, "stop")         ? 15 * MIN_MS
           : streq(key, "max_up")     ? 720 * MIN_MS
           : streq(key, "quiet_hold") ? 120 * MIN_MS
                                      : 5 * MIN_MS;
}

unsigned fake_settings_percent(const struct settings *s, const char *section, const char *key)
{
    (void)s;
    cr_assert(streq(section, "idle") && streq(key, "gpu_use"));
    return w.gpu_use;
}

void fake_log_line(enum log_level level, enum log_source source, const char *target, const char *format, ...)
{
    (void)source, (void)target, (void)format;
    w.n_lines += level == LOG_LEVEL_WARNING;
}

struct host *fake_lease_host(struct lease *l)
{
    (void)l;
    return NULL;
}

static inline void look_is_given_up(struct op *op)
{
    (void)op;
    w.n_looks_given_up++;
}

void fake_gpu_use_ask(struct host *h, struct gpu_asker *last, struct op **slot, gpu_use_fn done, void *ctx)
{
    (void)h, (void)last;
    w.n_looks++;
    w.gpu_done = done;
    w.gpu_ctx = ctx;
    op_begin(&w.gpu_op, slot, look_is_given_up);
}

static inline struct model *model_of(const struct deployment *d)
{
    return (struct model *)(void *)(uintptr_t)d;
}

enum deployment_goal fake_deployment_goal(const struct deployment *d)
{
    return model_of(d)->goal;
}

enum deployment_state fake_deployment_state(const struct deployment *d)
{
    return model_of(d)->state;
}

void fake_deployment_figures(const struct deployment *d, struct deployment_figures *ret)
{
    *ret = model_of(d)->figures;
}

struct lease *fake_deployment_lease(const struct deployment *d)
{
    (void)d;
    return (struct lease *)(void *)&w;
}

bool fake_deployment_is_falling_asleep(const struct deployment *d)
{
    return model_of(d)->falls;
}

bool fake_deployment_sleeps_by_word(const struct deployment *d)
{
    return model_of(d)->by_word;
}

/* As deployment.c: it gets there later, where it has something to end. */
uint64_t fake_deployment_sleep(struct deployment *d, bool cut, const char *why)
{
    struct model *m = model_of(d);

    m->falls = m->state != DEPLOYMENT_ASLEEP;
    m->cut = cut;
    m->goal = GOAL_ON_DEMAND;
    snprintf(m->why, sizeof m->why, "%s", why);
    return 1;
}

uint64_t fake_deployment_end(struct deployment *d, const struct fault *why, bool cut)
{
    struct model *m = model_of(d);

    if (m->goal == GOAL_OFF)
        return 0;
    m->goal = GOAL_OFF;
    m->ended = *why;
    m->cut = cut;
    m->state = m->state == DEPLOYMENT_READY ? DEPLOYMENT_DRAINING : DEPLOYMENT_OFF;
    return 1;
}

void fake_deployment_give_up(struct deployment *d, const struct fault *why)
{
    struct model *m = model_of(d);

    if (m->goal == GOAL_OFF || m->state != DEPLOYMENT_CONNECTING)
        return;
    m->state = DEPLOYMENT_FAILED;
    m->ended = *why;
}

void fake_deployment_machine_is_off(struct deployment *d, const char *why)
{
    struct model *m = model_of(d);

    if (m->state == DEPLOYMENT_FAILED || m->state == DEPLOYMENT_ASLEEP)
        return;
    if (m->goal != GOAL_OFF && !m->falls)
        snprintf(m->why, sizeof m->why, "%s", why);
    m->state = m->goal == GOAL_OFF ? DEPLOYMENT_OFF : DEPLOYMENT_ASLEEP;
    m->falls = false;
}

struct rented *fake_lease_rented(const struct lease *l)
{
    return (struct rented *)(void *)(uintptr_t)l;
}

struct boxed *fake_lease_boxed(const struct lease *l)
{
    (void)l;
    return NULL;
}

const char *fake_lease_name(const struct lease *l)
{
    (void)l;
    return "gpu1";
}

bool fake_lease_is_reachable(const struct lease *l)
{
    (void)l;
    return w.reachable;
}

const struct life *fake_rented_life(const struct rented *r)
{
    return (const struct life *)(const void *)r;
}

struct account *fake_rented_account(const struct rented *r)
{
    return (struct account *)(void *)(uintptr_t)r;
}

const struct rental_record *fake_rented_record(const struct rented *r)
{
    (void)r;
    w.record.gpu = (char *)"4090D";
    w.record.cards = 1;
    return &w.record;
}

const struct keeper *fake_rented_keeper(const struct rented *r)
{
    return (const struct keeper *)(const void *)r;
}

bool fake_rented_is_anothers(const struct rented *r)
{
    (void)r;
    return w.is_anothers;
}

bool fake_rented_is_left_alone(const struct rented *r)
{
    (void)r;
    return w.is_left_alone;
}

bool fake_rented_is_without_card(const struct rented *r)
{
    (void)r;
    return w.record.no_card;
}

store_ticket fake_rented_leave_card(struct rented *r, bool without)
{
    (void)r;
    w.record.no_card = without;
    return 7;
}

const struct fault *fake_rented_trouble(const struct rented *r)
{
    (void)r;
    return &w.trouble;
}

const struct fault *fake_life_trouble(const struct life *l)
{
    (void)l;
    return &w.trouble;
}

void fake_rented_want(struct rented *r, enum life_goal goal)
{
    (void)r;
    if (goal == LIFE_GOAL_OFF)
        w.record.search_until_at_ms = 0;
    w.goal = goal;
    w.n_wants++;
    if (goal == LIFE_GOAL_OFF && w.state == LIFE_RUNNING)
        w.state = LIFE_STOPPING;
}

void fake_rented_look_until(struct rented *r, int64_t at_ms)
{
    (void)r;
    w.record.search_until_at_ms = at_ms;
}

const struct rental_ops *fake_account_ops(const struct account *a)
{
    static const struct rental_ops ops = {.title = "AutoDL"};

    (void)a;
    return &ops;
}

bool fake_rented_is_guarded(const struct rented *r)
{
    (void)r;
    return true;
}

static inline void forget_told(struct op *op)
{
    (void)op;
    w.guard_done = NULL;
}

void fake_rented_stop_by_guard(struct rented *r, struct op **slot, op_done_fn done, void *ctx)
{
    static struct op op;

    (void)r;
    op_begin(&op, slot, forget_told);
    w.guard_done = done;
    w.guard_ctx = ctx;
}

static inline void guard_answers(const struct fault *f)
{
    cr_assert_not_null(w.guard_done);
    op_end(w.lease.power->by_guard);
    w.guard_done(w.guard_ctx, f);
}

void fake_rented_note_used(struct rented *r, int64_t at_ms)
{
    (void)r;
    w.record.used_at_ms = at_ms;
    w.n_used++;
}

bool fake_rented_may_look(const struct rented *r)
{
    (void)r;
    return w.may_look;
}

void fake_rented_doubt(struct rented *r)
{
    (void)r;
    w.n_doubts++;
}

bool fake_rented_may_overspend(const struct rented *r)
{
    (void)r;
    return w.may_overspend;
}

void fake_rented_hold_to_limits(struct rented *r, bool keeps_price)
{
    (void)r;
    w.may_overspend = false;
    w.keeps_price = keeps_price;
}

store_ticket fake_rented_hold(struct rented *r, uint64_t for_ms)
{
    (void)r;
    w.hold_ms = for_ms;
    w.record.hold_until_at_ms = for_ms ? fake_clock_wall_ms() + (int64_t)for_ms : RENTAL_HOLD_OVER;
    return 7;
}

void fake_rented_end_wish(struct rented *r, const struct fault *why)
{
    fake_rented_want(r, LIFE_GOAL_OFF);
    w.wish_ended = *why;
}

enum life_state fake_life_state(const struct life *l)
{
    (void)l;
    return w.state;
}

enum life_goal fake_life_goal(const struct life *l)
{
    (void)l;
    return w.goal;
}

bool fake_account_must_stop(const struct account *a)
{
    (void)a;
    return w.must_stop;
}

const struct fault *fake_account_trouble(const struct account *a)
{
    (void)a;
    return &w.money;
}

int64_t fake_rented_prepaid_until_at_ms(const struct rented *r)
{
    (void)r;
    return w.record.prepaid_until_at_ms > clock_wall_ms() ? w.record.prepaid_until_at_ms : 0;
}

const struct hunt *fake_rented_hunt(const struct rented *r)
{
    static const struct hunt nobody;

    (void)r;
    return &nobody;
}

uint64_t fake_rented_prepaid_due(const struct rented *r, uint64_t now)
{
    return clock_due_of(fake_rented_prepaid_until_at_ms(r), now);
}

void fake_rented_figures(const struct rented *r, struct rented_figures *ret)
{
    (void)r;
    *ret = (struct rented_figures){
        .state = w.state,
        .is_none = w.is_none,
        .is_unsure = w.is_unsure,
        .rate_milli = w.rate_milli,
        .list_rate_milli = 1880,
        .seen_at_ms = w.seen_at_ms,
    };
}

bool fake_keeps_have(struct manager *m, const char *instance)
{
    (void)m, (void)instance;
    return w.is_reserving;
}

void fake_keeps_reserve(struct manager *m, const struct lease *l, const struct keep_wish *wish,
                        struct op **slot, op_done_fn done, void *ctx)
{
    (void)m, (void)l, (void)slot, (void)done, (void)ctx;
    w.keep = *wish;
}

void fake_account_release_keep(struct account *a, const char *instance)
{
    (void)a, (void)instance;
    w.n_released++;
}

void fake_account_runs(struct account *a, bool runs)
{
    (void)a;
    w.runs = runs;
}

uint64_t fake_forwards_bytes(struct manager *m, const struct lease *l)
{
    (void)m, (void)l;
    return w.bytes;
}

void fake_manager_tell_lease(struct manager *m, struct lease *lease, bool gone)
{
    (void)m, (void)lease, (void)gone;
    w.n_told++;
}

/* ---- the story ---- */

static inline struct lease *the_lease(void)
{
    return (struct lease *)(void *)&w;
}

static inline void daemon_begins(enum life_state state, enum life_goal goal)
{
    w.state = state;
    w.goal = goal;
    w.lease.power = power_new(&w.manager, the_lease());
    powers_restored(&w.manager);
}

static inline void begin(void)
{
    w = (struct world){.now = 1000 * MIN_MS, .reachable = true};
    list_init(&w.manager.leases);
    list_init(&w.manager.deployments);
    list_init(&w.lease.node);
    w.lease.lease = the_lease();
    list_append(&w.manager.leases, &w.lease.node);
    for (unsigned i = 0; i < MODELS; i++) {
        w.nodes[i].deployment = (struct deployment *)(void *)&w.models[i];
        list_init(&w.nodes[i].node);
        list_append(&w.manager.deployments, &w.nodes[i].node);
    }
    daemon_begins(LIFE_ABSENT, LIFE_GOAL_OFF);
}

static inline void end(void)
{
    power_free(w.lease.power);
}

static inline void changed(void)
{
    powers_lease_changed(&w.manager, the_lease());
}

/* Models get where they were told to go, if their machine can be reached; then time passes, with its timer.
 */
static inline void passes(unsigned minutes)
{
    uint64_t until = w.now + minutes * MIN_MS;

    for (;;) {
        for (unsigned i = 0; i < MODELS; i++) {
            struct model *m = &w.models[i];

            if (!w.reachable || (!m->falls && m->state != DEPLOYMENT_DRAINING) ||
                (m->figures.open && !m->cut))
                continue;
            m->state = m->goal == GOAL_OFF ? DEPLOYMENT_OFF : DEPLOYMENT_ASLEEP;
            m->falls = false;
            changed();
        }
        if (!w.timer_due || w.timer_due > until)
            break;
        w.now = MAX(w.now, w.timer_due);
        w.timer_due = 0;
        w.fire(w.fire_ctx);
    }
    w.now = until;
}

static inline void goes_up(unsigned i, bool by_request)
{
    struct model *m = &w.models[i];

    m->goal = GOAL_ON_DEMAND;
    m->state = DEPLOYMENT_CONNECTING;
    m->falls = m->by_word = false;
    m->figures.by_request = by_request;
    m->figures.held = by_request;
    m->figures.used_due = w.now;
    changed();
}

static inline void machine_is(enum life_state state)
{
    w.state = state;
    changed();
}

static inline void is_ready(unsigned i)
{
    w.models[i].state = DEPLOYMENT_READY;
    w.models[i].figures.open = w.models[i].figures.held = 0;
    w.models[i].figures.used_due = w.now;
    changed();
}

static inline void comes_up(void)
{
    goes_up(0, false);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    machine_is(LIFE_RUNNING);
    is_ready(0);
}

static inline void has_trouble(enum fault_kind kind, const char *code)
{
    fault_code(&w.trouble, kind, code, "because of %s", code);
}
