/* links: deployment
 *
 * When a rented machine is on: the real manager_power*.c over models, a machine, an account and a clock of
 * our own. */
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
    bool reachable, must_stop, may_overspend, may_look, is_anothers, runs, is_left_alone, is_none;
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

void fake_timer_arm(struct timer *t, uint64_t delay_ms)
{
    (void)t;
    w.timer_due = w.now + delay_ms;
}

void fake_timer_disarm(struct timer *t)
{
    (void)t;
    w.timer_due = 0;
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

static void look_is_given_up(struct op *op)
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

static struct model *model_of(const struct deployment *d)
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

void fake_keeper_figures(const struct keeper *k, struct keeper_figures *ret)
{
    (void)k;
    *ret = w.guard;
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

static void forget_told(struct op *op)
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

static void guard_answers(const struct fault *f)
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

store_ticket fake_rented_hold(struct rented *r, uint64_t for_ms)
{
    (void)r;
    w.hold_ms = for_ms;
    w.record.hold_until_at_ms = for_ms ? fake_clock_wall_ms() + (int64_t)for_ms : 0;
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

static struct lease *the_lease(void)
{
    return (struct lease *)(void *)&w;
}

static void daemon_begins(enum life_state state, enum life_goal goal)
{
    w.state = state;
    w.goal = goal;
    w.lease.power = power_new(&w.manager, the_lease());
    powers_restored(&w.manager);
}

static void begin(void)
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

static void end(void)
{
    power_free(w.lease.power);
}

TestSuite(power, .init = begin, .fini = end);

static void changed(void)
{
    powers_lease_changed(&w.manager, the_lease());
}

/* Models get where they were told to go, if their machine can be reached; then time passes, with its timer.
 */
static void passes(unsigned minutes)
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

static void goes_up(unsigned i, bool by_request)
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

static void machine_is(enum life_state state)
{
    w.state = state;
    changed();
}

static void is_ready(unsigned i)
{
    w.models[i].state = DEPLOYMENT_READY;
    w.models[i].figures.open = w.models[i].figures.held = 0;
    w.models[i].figures.used_due = w.now;
    changed();
}

static void comes_up(void)
{
    goes_up(0, false);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    machine_is(LIFE_RUNNING);
    is_ready(0);
}

static void has_trouble(enum fault_kind kind, const char *code)
{
    fault_code(&w.trouble, kind, code, "because of %s", code);
}

Test(power, a_model_that_is_wanted_switches_it_on_once)
{
    goes_up(0, false);
    changed();
    goes_up(1, true);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    cr_assert_eq(w.n_wants, 1);
    machine_is(LIFE_STARTING);
    passes(3);
    cr_assert(w.goal == LIFE_GOAL_ON && w.runs);
}

Test(power, idle_for_15m_it_goes_off)
{
    comes_up();
    passes(14);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert_eq(w.models[0].state, DEPLOYMENT_ASLEEP);
    machine_is(LIFE_STOPPED);
    passes(60);
    cr_assert(w.n_wants == 2 && !w.runs && !w.timer_due);
}

Test(power, a_request_in_between_begins_the_time_anew)
{
    comes_up();
    passes(10);
    w.models[0].figures.used_due = w.now;
    passes(14);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(2);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, down_of_the_last_model_is_off_at_once)
{
    comes_up();
    w.models[0].goal = GOAL_OFF;
    w.models[0].state = DEPLOYMENT_DRAINING;
    w.models[0].figures.open = 1;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "its requests end first");
    w.models[0].figures.open = 0;
    w.models[0].state = DEPLOYMENT_OFF;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, down_of_one_of_two_leaves_it_on)
{
    comes_up();
    goes_up(1, false);
    is_ready(1);
    w.models[0].goal = GOAL_OFF;
    w.models[0].state = DEPLOYMENT_OFF;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
}

Test(power, sleep_by_a_word_waits_for_no_idle_time)
{
    comes_up();
    w.models[0].falls = w.models[0].by_word = true;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(0);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, what_cannot_be_reached_is_waited_for_two_minutes)
{
    comes_up();
    w.reachable = false;
    w.models[0].goal = GOAL_OFF;
    w.models[0].state = DEPLOYMENT_STOPPING;
    changed();
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    machine_is(LIFE_STOPPED);
    cr_assert_eq(w.models[0].state, DEPLOYMENT_OFF, "there is nothing to stop any more");
}

Test(power, an_engine_that_does_not_end_is_no_reason_to_pay_on)
{
    comes_up();
    w.models[0].goal = GOAL_OFF;
    w.models[0].state = DEPLOYMENT_STOPPING;
    changed();
    passes(6);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(2);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, off_by_somebody_else_is_not_answered_by_on)
{
    comes_up();
    has_trouble(FAULT_TRANSIENT, "stopped_elsewhere");
    w.goal = LIFE_GOAL_OFF;
    machine_is(LIFE_STOPPED);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert_eq(w.models[0].state, DEPLOYMENT_ASLEEP);
    cr_assert_str_eq(w.models[0].why, "the machine was switched off elsewhere");
    passes(5);
    goes_up(0, true);
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "but by the next request");
    machine_is(LIFE_RUNNING);
    is_ready(0);
    passes(3);
    w.goal = LIFE_GOAL_OFF;
    machine_is(LIFE_STOPPED);
    cr_assert_eq(w.models[0].goal, GOAL_OFF, "twice within 10 min is meant");
    cr_assert_str_eq(w.models[0].ended.code, "stopped_elsewhere");
}

Test(power, two_offs_by_somebody_else_that_are_far_apart)
{
    for (int i = 0; i < 2; i++) {
        w.trouble = (struct fault){};
        goes_up(0, true);
        machine_is(LIFE_RUNNING);
        is_ready(0);
        has_trouble(FAULT_TRANSIENT, "stopped_elsewhere");
        w.goal = LIFE_GOAL_OFF;
        machine_is(LIFE_STOPPED);
        cr_assert(w.models[0].goal == GOAL_ON_DEMAND && w.models[0].state == DEPLOYMENT_ASLEEP);
        passes(11);
    }
}

Test(power, one_that_vanished_is_made_anew_for_who_asks_anew)
{
    comes_up();
    has_trouble(FAULT_TRANSIENT, "vanished");
    w.goal = LIFE_GOAL_OFF;
    machine_is(LIFE_ABSENT);
    cr_assert(w.models[0].goal == GOAL_ON_DEMAND && w.models[0].state == DEPLOYMENT_ASLEEP);
    cr_assert_str_eq(w.models[0].why, "the machine vanished at its provider");
    passes(5);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    goes_up(0, true);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    machine_is(LIFE_RUNNING);
    is_ready(0);
    passes(3);
    w.goal = LIFE_GOAL_OFF;
    machine_is(LIFE_ABSENT);
    cr_assert_eq(w.models[0].goal, GOAL_OFF, "twice within 10 min is no accident");
    cr_assert_str_eq(w.models[0].ended.code, "vanished");
}

static void ends_after(unsigned minutes_unheard)
{
    comes_up();
    w.seen_at_ms = clock_wall_ms();
    w.models[0].goal = GOAL_OFF;
    w.models[0].state = DEPLOYMENT_OFF;
    w.now += minutes_unheard * MIN_MS;
    changed();
}

Test(power, its_guard_ends_it_where_its_provider_cannot_be_reached)
{
    w.reachable = true;
    ends_after(2);
    cr_assert_not_null(strstr(w.said, "its guard is told to stop it"), "%s", w.said);
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "its session lasts until it has heard");
    guard_answers(NULL);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF, "the provider is asked nevertheless");
}

Test(power, a_guard_that_does_not_answer_leaves_it_to_its_provider)
{
    static const struct fault lost = {.kind = FAULT_TRANSIENT, .text = "the tunnel is down"};

    w.reachable = true;
    ends_after(2);
    guard_answers(&lost);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert_not_null(strstr(w.said, "the tunnel is down"), "%s", w.said);
}

Test(power, a_provider_that_was_heard_just_now_is_asked_alone)
{
    w.reachable = true;
    ends_after(1);
    cr_assert_null(w.guard_done);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, a_boot_that_fails_ends_with_its_reason)
{
    goes_up(0, false);
    machine_is(LIFE_STARTING);
    has_trouble(FAULT_TRANSIENT, "boot_failed");
    w.goal = LIFE_GOAL_OFF;
    machine_is(LIFE_STOPPED);
    cr_assert(w.models[0].state == DEPLOYMENT_FAILED && streq(w.models[0].ended.code, "boot_failed"));
    passes(60);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    goes_up(0, false);
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "up begins anew");
}

Test(power, without_a_guard_it_goes_off_and_its_model_says_why)
{
    goes_up(0, false);
    machine_is(LIFE_RUNNING);
    has_trouble(FAULT_DENIED, "no_guard");
    w.goal = LIFE_GOAL_OFF;
    machine_is(LIFE_STOPPING);
    cr_assert(w.models[0].state == DEPLOYMENT_FAILED && streq(w.models[0].ended.code, "no_guard"));
}

Test(power, a_limit_drains_for_two_minutes)
{
    comes_up();
    w.models[0].figures.open = 1;
    w.must_stop = true;
    fault_code(&w.money, FAULT_EXHAUSTED, "budget", "the day's 30.00 are spent");
    powers_account_changed(&w.manager, (struct account *)(void *)&w);
    cr_assert_eq(w.models[0].goal, GOAL_OFF);
    cr_assert(!w.models[0].cut && streq(w.models[0].ended.code, "budget"));
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert(strstr(w.said, "the day's 30.00 are spent"), "%s", w.said);
}

/* The balance that was low when it was read last may have been topped up: only the reservation asks again. */
Test(power, a_limit_of_before_takes_no_wish_back)
{
    w.must_stop = true;
    changed();
    passes(10);
    goes_up(0, false);
    machine_is(LIFE_STARTING);
    cr_assert(w.goal == LIFE_GOAL_ON && w.models[0].state == DEPLOYMENT_CONNECTING);
    w.must_stop = false;
    machine_is(LIFE_RUNNING);
    is_ready(0);
    passes(3);
    cr_assert(w.goal == LIFE_GOAL_ON && w.models[0].state == DEPLOYMENT_READY);
}

Test(power, a_limit_that_was_reached_stops_none_that_was_let_go_beyond_it)
{
    w.must_stop = true;
    w.may_overspend = true;
    changed();
    passes(5);
    comes_up();
    w.models[0].figures.open = 1;
    passes(10);
    cr_assert(w.goal == LIFE_GOAL_ON && w.models[0].state == DEPLOYMENT_READY);
    w.may_overspend = false;
    changed();
    passes(3);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, a_search_begun_by_requests_ends_with_the_last_of_them)
{
    goes_up(0, true);
    has_trouble(FAULT_EXHAUSTED, "no_capacity");
    machine_is(LIFE_WAITING);
    passes(9);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    w.models[0].figures.held = 0;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    machine_is(LIFE_ABSENT);
    cr_assert_eq(w.models[0].state, DEPLOYMENT_ASLEEP);
}

Test(power, a_search_begun_by_up_ends_after_two_hours)
{
    goes_up(0, false);
    has_trouble(FAULT_EXHAUSTED, "no_capacity");
    machine_is(LIFE_WAITING);
    passes(119);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert(w.models[0].state == DEPLOYMENT_FAILED && streq(w.models[0].ended.code, "no_capacity"));
}

Test(power, a_search_ends_when_it_was_said_to_end)
{
    w.record.search_until_at_ms = fake_clock_wall_ms() + 5 * MIN_MS;
    goes_up(0, false);
    fault_code(&w.trouble, FAULT_EXHAUSTED, "host_full", "the machine's cards are all rented by others");
    machine_is(LIFE_WAITING);
    passes(4);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert_str_eq(w.models[0].ended.code, "no_capacity");
    cr_assert_not_null(strstr(w.models[0].ended.text, "all rented by others"), "%s", w.models[0].ended.text);
}

Test(power, one_of_several_that_is_refused_ends_no_search)
{
    w.may_look = true;
    goes_up(0, false);
    has_trouble(FAULT_INVALID, "bad_request");
    machine_is(LIFE_WAITING);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    w.may_look = false;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert_str_eq(w.models[0].ended.code, "bad_request");
}

Test(power, what_only_people_can_mend_is_not_waited_for)
{
    static const struct {
        enum fault_kind kind;
        const char *code;
    } rows[] = {
        {FAULT_EXHAUSTED, "budget"}, {FAULT_EXHAUSTED, "low_balance"}, {FAULT_DENIED, "token_refused"}};

    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        w.trouble = (struct fault){};
        goes_up(0, true);
        has_trouble(rows[i].kind, rows[i].code);
        machine_is(LIFE_WAITING);
        cr_assert_eq(w.goal, LIFE_GOAL_OFF, "%s", rows[i].code);
        cr_assert(w.models[0].state == DEPLOYMENT_FAILED && streq(w.models[0].ended.code, rows[i].code));
        machine_is(LIFE_STOPPED);
    }
}

Test(power, once_it_is_on_it_needs_no_waiter)
{
    goes_up(0, true);
    machine_is(LIFE_STARTING);
    w.models[0].figures.held = 0;
    changed();
    passes(2);
    machine_is(LIFE_RUNNING);
    passes(2);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
}

Test(power, switched_on_elsewhere_it_is_left_alone_up_to_max_up)
{
    machine_is(LIFE_RUNNING);
    passes(719);
    cr_assert_eq(w.n_wants, 0);
    passes(2);
    cr_assert(w.n_wants == 1 && w.goal == LIFE_GOAL_OFF);
}

Test(power, switched_on_elsewhere_beyond_the_money_it_is_told_and_not_stopped)
{
    machine_is(LIFE_RUNNING);
    passes(10);
    cr_assert_str_empty(w.said);
    w.must_stop = true;
    fault_code(&w.money, FAULT_EXHAUSTED, "budget", "the day's 30.00 are spent");
    powers_account_changed(&w.manager, (struct account *)(void *)&w);
    cr_assert_not_null(strstr(w.said, "the day's 30.00 are spent"), "%s", w.said);
    *w.said = '\0';
    passes(60);
    cr_assert_str_empty(w.said, "once");
    cr_assert_eq(w.n_wants, 0);
}

Test(power, switched_on_elsewhere_it_serves_who_wants_a_model)
{
    machine_is(LIFE_RUNNING);
    passes(10);
    goes_up(0, true);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    is_ready(0);
    passes(15);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF, "and is ours then");
}

Test(power, kept_it_stays_on_while_its_models_sleep)
{
    comes_up();
    manager_keep_instance(&w.manager, the_lease(), clock_wall_ms() + 60 * MIN_MS);
    cr_assert_eq(w.hold_ms, 60 * MIN_MS);
    w.models[0].falls = true;
    passes(59);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

/* Somebody may look at what failed; nobody pays for hours of it. */
Test(power, kept_models_that_failed_keep_nothing_on)
{
    comes_up();
    w.models[0].goal = GOAL_ON;
    w.models[0].figures.keep_until_at_ms = clock_wall_ms() + 60 * MIN_MS;
    passes(10);
    w.models[0].state = DEPLOYMENT_FAILED;
    w.models[0].figures.since_due = w.now;
    changed();
    passes(4);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(2);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, no_longer_kept)
{
    comes_up();
    manager_keep_instance(&w.manager, the_lease(), clock_wall_ms() + 600 * MIN_MS);
    passes(100);
    manager_keep_instance(&w.manager, the_lease(), 0);
    cr_assert_eq(w.hold_ms, 0);
    passes(0);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, no_longer_kept_though_its_guard_has_not_heard_of_it)
{
    comes_up();
    manager_keep_instance(&w.manager, the_lease(), clock_wall_ms() + 600 * MIN_MS);
    w.guard.hold_until_at_ms = clock_wall_ms() + 600 * MIN_MS;
    passes(100);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    manager_keep_instance(&w.manager, the_lease(), 0);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF, "at once: who waits for the end of it looks now");
}

/* Of several keeps the machine is paid for once, up to the last end. */
Test(power, a_keep_reserves_what_the_machine_costs_until_all_are_over)
{
    struct op *slot = NULL;

    comes_up();
    manager_reserve_keep(&w.manager, the_lease(), NULL, clock_wall_ms() + 60 * MIN_MS, &slot, NULL, NULL);
    cr_assert(w.keep.for_ms == 60 * MIN_MS && w.keep.rate_milli == 1880 && !w.keep.over);
    w.rate_milli = 1980;
    w.may_overspend = true;
    w.models[0].figures.keep_until_at_ms = clock_wall_ms() + 90 * MIN_MS;
    manager_reserve_keep(&w.manager, the_lease(), NULL, clock_wall_ms() + 60 * MIN_MS, &slot, NULL, NULL);
    cr_assert(w.keep.for_ms == 90 * MIN_MS && w.keep.rate_milli == 1980 && w.keep.over);
    manager_reserve_keep(&w.manager, the_lease(), w.nodes[0].deployment, clock_wall_ms() + 60 * MIN_MS, &slot,
                         NULL, NULL);
    cr_assert_eq(w.keep.for_ms, 60 * MIN_MS, "in place of the model's own");
}

Test(power, the_money_of_a_keep_is_given_back_when_it_is_over)
{
    struct op *slot = NULL;

    comes_up();
    unsigned n = w.n_released;

    manager_reserve_keep(&w.manager, the_lease(), NULL, clock_wall_ms() + 60 * MIN_MS, &slot, NULL, NULL);
    w.is_reserving = true;
    changed();
    cr_assert_eq(w.n_released, n, "it is not told yet");
    w.is_reserving = false;
    manager_keep_instance(&w.manager, the_lease(), clock_wall_ms() + 60 * MIN_MS);
    passes(59);
    cr_assert_eq(w.n_released, n);
    passes(2);
    cr_assert_eq(w.n_released, n + 1);
}

Test(power, the_money_of_a_keep_that_was_not_granted_is_given_back)
{
    struct op *slot = NULL;

    comes_up();
    unsigned n = w.n_released;

    manager_reserve_keep(&w.manager, the_lease(), NULL, clock_wall_ms() + 60 * MIN_MS, &slot, NULL, NULL);
    changed();
    cr_assert_eq(w.n_released, n + 1);
    changed();
    cr_assert_eq(w.n_released, n + 1, "once");
}

Test(power, what_is_prepaid_is_not_stopped_for_idling_nor_for_money_until_that_is_over)
{
    comes_up();
    w.record.prepaid_until_at_ms = clock_wall_ms() + 10 * 60 * MIN_MS;
    w.must_stop = true;
    passes(9 * 60);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    w.must_stop = false;
    passes(60 + 3);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, bytes_of_a_forward_are_use)
{
    comes_up();
    for (unsigned i = 0; i < 30; i++) {
        w.bytes++;
        passes(1);
    }
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(16);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, login_that_is_typed_into_is_use)
{
    char text[QUIET_TEXT_MAX];

    comes_up();
    for (unsigned i = 0; i < 30; i++) {
        passes(1);
        w.guard.typed_due = w.now - 20 * 1000; /* as it was read */
    }
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    cr_assert_eq(w.lease.power->stay.reason, STAY_QUIET_USE);
    passes(3);
    cr_assert_str_eq(manager_quiet_text(&w.manager, the_lease(), text), "a login was typed into 3m20s ago");
    w.bytes++;
    passes(1);
    cr_assert_str_eq(manager_quiet_text(&w.manager, the_lease(), text),
                     "a login was typed into 4m20s ago, a forward was used 0s ago");
    passes(16);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

/* What was asked of its cards is answered. */
static void cards_compute(int percent)
{
    cr_assert_not_null(w.lease.power->gpu_look);
    op_end(&w.gpu_op);
    w.gpu_done(w.gpu_ctx, percent, "it hangs");
}

static void minutes_of_computing(unsigned n, int percent)
{
    for (unsigned i = 0; i < n; i++) {
        passes(1);
        cards_compute(percent);
    }
}

Test(power, cards_that_compute_are_use_where_that_is_asked_for)
{
    char text[QUIET_TEXT_MAX];

    w.gpu_use = 5;
    comes_up();
    minutes_of_computing(40, 37);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    cr_assert_eq(w.lease.power->stay.reason, STAY_QUIET_USE);
    minutes_of_computing(3, 5); /* no more than that is no use */
    cr_assert_str_eq(manager_quiet_text(&w.manager, the_lease(), text), "its card computed (37%) 3m00s ago");
    minutes_of_computing(12, 0);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert_leq(w.n_looks, 60u, "once a minute");
}

Test(power, cards_that_compute_keep_it_on_for_quiet_hold_at_most)
{
    w.gpu_use = 5;
    comes_up();
    minutes_of_computing(118, 100);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    for (unsigned i = 0; i < 4 && w.goal == LIFE_GOAL_ON; i++)
        minutes_of_computing(1, 100);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, what_cards_do_not_tell_keeps_nothing_on)
{
    w.gpu_use = 5;
    comes_up();
    minutes_of_computing(14, GPU_USE_UNKNOWN);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    cr_assert_eq(w.n_lines, 1u, "said once");
    passes(2);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, cards_are_asked_once_at_a_time_and_no_longer_than_it_is_there)
{
    w.gpu_use = 5;
    comes_up();
    passes(5);
    cr_assert_eq(w.n_looks, 1u, "it hangs");
    w.reachable = false;
    powers_lease_changed(&w.manager, the_lease());
    cr_assert_eq(w.n_looks_given_up, 1u);
    passes(2);
    cr_assert_eq(w.n_looks, 1u);
    w.reachable = true;
    powers_lease_changed(&w.manager, the_lease());
    cr_assert_eq(w.n_looks, 2u);
    op_cancel(&w.lease.power->gpu_look);
}

Test(power, cards_are_not_asked_unless_somebody_wants_that)
{
    comes_up();
    passes(10);
    cr_assert_eq(w.n_looks, 0u);
}

Test(power, cards_of_a_machine_that_is_not_ours_to_end_are_not_asked)
{
    w.gpu_use = 5;
    w.is_anothers = true;
    comes_up();
    passes(10);
    cr_assert_eq(w.n_looks, 0u);
}

Test(power, login_that_is_only_open_is_no_use)
{
    comes_up();
    w.guard.typed_due = w.now;
    passes(14);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(3);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, typing_holds_a_machine_for_two_hours_at_most)
{
    comes_up();
    for (unsigned i = 0; i < 119; i++) {
        w.guard.typed_due = w.now;
        passes(1);
    }
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    for (unsigned i = 0; i < 5; i++) {
        w.guard.typed_due = w.now;
        passes(1);
    }
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, a_restart_beside_a_machine_that_is_off_wakes_nobody)
{
    power_free(w.lease.power);
    w.models[0].goal = GOAL_ON_DEMAND;
    w.models[0].state = DEPLOYMENT_OFF; /* as it is restored */
    daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_OFF);
    cr_assert_eq(w.models[0].state, DEPLOYMENT_ASLEEP);
    changed();
    cr_assert_eq(w.n_wants, 0);
    goes_up(0, true);
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "but a request does");
}

Test(power, a_restart_beside_one_that_runs_goes_on)
{
    power_free(w.lease.power);
    daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_ON);
    goes_up(0, false);
    machine_is(LIFE_RUNNING);
    is_ready(0);
    passes(10);
    cr_assert_eq(w.n_wants, 0);
    passes(10);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

/* The word comes before the first list: none is made behind it. */
Test(power, a_restart_in_a_search_that_nobody_wants_any_more_ends_it_at_once)
{
    power_free(w.lease.power);
    w.is_none = true;
    daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_ON);
    w.models[0].goal = GOAL_ON_DEMAND;
    w.models[0].state = DEPLOYMENT_OFF; /* as it is restored */
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "it is wanted");
    w.models[0].goal = GOAL_OFF;
    w.models[0].state = DEPLOYMENT_DRAINING;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

/* Kept for ever, it ends 12 h after the last word, however many daemons there were since. */
Test(power, max_up_counts_on_over_restarts)
{
    comes_up();
    w.models[0].goal = GOAL_ON;
    passes(400);
    cr_assert_geq(w.n_used, 1);
    cr_assert_leq(w.n_used, 2, "a use is written down once");
    for (int i = 0; i < 2; i++) {
        power_free(w.lease.power);
        w.models[0].figures = (struct deployment_figures){};
        daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_ON);
        machine_is(LIFE_RUNNING);
        is_ready(0);
        passes(100);
        cr_assert_eq(w.goal, LIFE_GOAL_ON);
    }
    passes(119);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(4);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    machine_is(LIFE_STOPPED);
    cr_assert_eq(w.record.used_at_ms, 0, "what was is nothing to the next one");
}

Test(power, a_request_after_a_restart_begins_max_up_anew)
{
    comes_up();
    w.models[0].goal = GOAL_ON;
    passes(600);
    power_free(w.lease.power);
    w.models[0].figures = (struct deployment_figures){};
    daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_ON);
    machine_is(LIFE_RUNNING);
    is_ready(0);
    passes(60);
    w.models[0].figures.used_due = w.models[0].figures.asked_due = w.now;
    passes(700);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(30);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, a_restart_believes_the_guard_about_a_hold)
{
    power_free(w.lease.power);
    w.models[0] = (struct model){.goal = GOAL_ON_DEMAND, .state = DEPLOYMENT_ASLEEP, .by_word = true};
    daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_ON);
    machine_is(LIFE_RUNNING);
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "the guard was not read yet");
    w.guard.read_at_ms = clock_wall_ms();
    w.guard.hold_until_at_ms = clock_wall_ms() + 30 * MIN_MS;
    passes(29);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, a_restart_does_not_wait_for_a_guard_for_ever)
{
    power_free(w.lease.power);
    daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_ON);
    machine_is(LIFE_RUNNING);
    passes(2);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF, "nothing on it is wanted");
}

Test(power, one_that_is_given_back_is_nobodys)
{
    w.goal = LIFE_GOAL_RELEASE;
    goes_up(0, true);
    cr_assert_eq(w.n_wants, 0);
}

Test(power, pressed_it_is_asked_once_more)
{
    comes_up();
    w.models[0] = (struct model){};
    changed();
    machine_is(LIFE_STOPPING);
    manager_press(&w.manager, the_lease());
    cr_assert(w.n_wants == 3 && w.n_doubts == 1 && w.goal == LIFE_GOAL_OFF);
}

Test(power, pressed_while_it_is_given_back_it_still_is)
{
    w.goal = LIFE_GOAL_RELEASE;
    machine_is(LIFE_STOPPING);
    manager_press(&w.manager, the_lease());
    cr_assert(w.n_doubts == 1 && w.goal == LIFE_GOAL_RELEASE);
}

Test(power, why_it_is_on)
{
    int64_t at_ms;

    cr_assert_null(manager_stay(&w.manager, the_lease(), &at_ms));
    comes_up();
    cr_assert_str_eq(manager_stay(&w.manager, the_lease(), &at_ms), "idle");
    cr_assert_not(power_is_kept(power_find(&w.manager, the_lease())));
    cr_assert_eq(at_ms, clock_wall_ms() + 15 * MIN_MS);
    w.models[0].figures.open = 1;
    changed();
    cr_assert_str_eq(manager_stay(&w.manager, the_lease(), &at_ms), "in_use");
}

Test(power, one_that_is_lost_is_looked_at_at_once_and_soon_again)
{
    comes_up();
    cr_assert_eq(w.n_doubts, 0);
    w.reachable = false;
    changed();
    changed();
    cr_assert_eq(w.n_doubts, 1);
    passes(1);
    cr_assert(w.n_doubts > 10 && w.n_doubts < 15, "%u", w.n_doubts);
    passes(10);
    cr_assert_lt(w.n_doubts, 25);
    w.reachable = true;
    changed();
    unsigned n = w.n_doubts;

    passes(3);
    cr_assert_eq(w.n_doubts, n);
}

/* Nobody looks at it for that reason any more, and no timer waits for an instant that is over. */
Test(power, one_that_is_lost_and_goes_off_is_no_longer_lost)
{
    comes_up();
    w.reachable = false;
    changed();
    machine_is(LIFE_STOPPING);
    unsigned n = w.n_doubts;

    w.now += LOST_MS + 1;
    changed();
    cr_assert_gt(w.timer_due, w.now);
    cr_assert_eq(w.n_doubts, n);
}

Test(power, one_that_never_was_reached_yet_is_not_lost)
{
    w.reachable = false;
    goes_up(0, false);
    machine_is(LIFE_RUNNING);
    passes(2);
    cr_assert_eq(w.n_doubts, 0);
}

Test(power, one_of_another_daemon_is_never_stopped_by_us)
{
    w.is_anothers = true;
    machine_is(LIFE_RUNNING);
    passes(2000);
    cr_assert_eq(w.n_wants, 0);
}

Test(power, one_that_others_made_and_switched_on_has_no_end)
{
    int64_t at_ms;

    w.is_left_alone = true;
    machine_is(LIFE_RUNNING);
    passes(24 * 60);
    cr_assert_eq(w.n_wants, 0);
    cr_assert_str_eq(manager_stay(&w.manager, the_lease(), &at_ms), "not_by_us");
    cr_assert_eq(at_ms, 0);
}

Test(power, without_its_card_it_is_on_for_as_long_as_was_said)
{
    int64_t at_ms, until_at_ms = clock_wall_ms() + 60 * MIN_MS;

    w.models[0] = (struct model){.goal = GOAL_ON_DEMAND, .state = DEPLOYMENT_ASLEEP};
    machine_is(LIFE_STOPPED);
    cr_assert_eq(manager_keep_without_card(&w.manager, the_lease(), until_at_ms), 7);
    cr_assert(w.record.no_card && w.goal == LIFE_GOAL_ON && w.hold_ms == 60 * MIN_MS);
    machine_is(LIFE_WAITING);
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "what does not work at once is tried on");
    machine_is(LIFE_RUNNING);
    cr_assert_str_eq(manager_stay(&w.manager, the_lease(), &at_ms), "no_card");
    cr_assert(power_is_kept(power_find(&w.manager, the_lease())));
    cr_assert_eq(at_ms, until_at_ms);
    passes(58);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(2);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF, "models that sleep on it have no say");
}

/* What is cut before it answers may act after all, and is waited for: three minutes, for one that boots in
 * one. */
Test(power, a_model_waits_for_the_power_on_without_a_card_to_act)
{
    machine_is(LIFE_STOPPED);
    manager_keep_without_card(&w.manager, the_lease(), clock_wall_ms() + 60 * MIN_MS);
    machine_is(LIFE_STARTING);
    goes_up(0, true);
    cr_assert(w.record.no_card && w.n_wants == 1, "its call is not answered yet");
    w.record.acted = true;
    changed();
    cr_assert_not(w.record.no_card);
    cr_assert_eq(w.n_wants, 3, "on, off, on");
}

/* No model has the reason. */
Test(power, without_the_money_for_it_the_machine_says_why)
{
    machine_is(LIFE_STOPPED);
    manager_keep_without_card(&w.manager, the_lease(), clock_wall_ms() + 60 * MIN_MS);
    has_trouble(FAULT_EXHAUSTED, "budget");
    machine_is(LIFE_WAITING);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert_str_eq(w.wish_ended.code, "budget");
}

/* Its guard has not heard of it yet, or there is none so far. */
Test(power, a_restart_knows_of_a_hold)
{
    machine_is(LIFE_STOPPED);
    manager_keep_without_card(&w.manager, the_lease(), clock_wall_ms() + 60 * MIN_MS);
    power_free(w.lease.power);
    daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_ON);
    machine_is(LIFE_RUNNING);
    w.guard.read_at_ms = clock_wall_ms();
    passes(58);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(3);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, without_its_card_it_goes_off_and_on_again_for_a_model)
{
    machine_is(LIFE_STOPPED);
    manager_keep_without_card(&w.manager, the_lease(), clock_wall_ms() + 60 * MIN_MS);
    machine_is(LIFE_RUNNING);
    goes_up(0, true);
    cr_assert_not(w.record.no_card);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    cr_assert_eq(w.n_wants, 3, "on, off, on");
    cr_assert_eq(w.hold_ms, 0);
}
