/* links: deployment
 *
 * When a machine that was rented by hand is on: the real manager_boxed.c, and the real rule, over a machine,
 * facts about its models, and a clock of our own. test_power.c has what all this shares with machines that
 * are rented. */
#include <criterion/criterion.h>

#define clock_now_ms      fake_clock_now_ms
#define timer_arm         fake_timer_arm
#define timer_disarm      fake_timer_disarm
#define lease_boxed       fake_lease_boxed
#define boxed_state       fake_boxed_state
#define boxed_figures     fake_boxed_figures
#define boxed_keeper      fake_boxed_keeper
#define boxed_is_anothers fake_boxed_is_anothers
#define boxed_allow       fake_boxed_allow
#define boxed_stay        fake_boxed_stay
#define boxed_stop        fake_boxed_stop
#define boxed_note_used   fake_boxed_note_used
#define boxed_unused_ms   fake_boxed_unused_ms
#define keeper_figures    fake_keeper_figures
#include "manager_boxed.c"

/* ---- the world ---- */

#define MIN_MS (60 * 1000u)

static struct world {
    struct power power;
    uint64_t now, timer_due;
    enum boxed_state state;
    struct boxed_figures box;
    struct keeper_figures guard;
    struct stay_facts models; /* as its models and holds are */
    bool has_wish, is_anothers, is_told;
    bool no_guard;
    bool is_unused_known;
    uint64_t noted_due; /* as it was written down last; with is_unused_known the last use was unused_due */
    int64_t unused_due; /* which may be before this computer was on */
    unsigned n_lost, n_left_waiting, n_told_off, n_stops;
    struct stay done; /* what was done last */
} w;

#include "tests/unit/power_fakes.h"

struct boxed *fake_lease_boxed(const struct lease *l)
{
    (void)l;
    return (struct boxed *)(void *)&w;
}

enum boxed_state fake_boxed_state(const struct boxed *b)
{
    (void)b;
    return w.state;
}

void fake_boxed_figures(const struct boxed *b, struct boxed_figures *ret)
{
    (void)b;
    *ret = w.box;
}

const struct keeper *fake_boxed_keeper(const struct boxed *b)
{
    return (const struct keeper *)(const void *)b;
}

bool fake_boxed_is_anothers(const struct boxed *b)
{
    (void)b;
    return w.is_anothers;
}

void fake_boxed_allow(struct boxed *b, bool no_guard)
{
    (void)b;
    w.no_guard = no_guard;
}

/* As boxed.c. */
bool fake_boxed_stay(struct boxed *b)
{
    (void)b;
    if (w.is_told)
        return false;
    w.state = BOXED_ON;
    return true;
}

void fake_boxed_stop(struct boxed *b)
{
    (void)b;
    w.state = BOXED_STOPPING;
    w.n_stops++;
}

void fake_boxed_note_used(struct boxed *b, uint64_t used_due)
{
    (void)b;
    if (!w.guard.read_at_ms) /* nor its clock */
        return;
    w.noted_due = used_due;
    w.unused_due = (int64_t)used_due;
    w.is_unused_known = true;
}

bool fake_boxed_unused_ms(const struct boxed *b, uint64_t now, uint64_t *ret_ms)
{
    (void)b;
    if (w.is_unused_known && w.guard.read_at_ms)
        *ret_ms = (uint64_t)((int64_t)now - w.unused_due);
    return w.is_unused_known && w.guard.read_at_ms;
}

/* ---- what it shares with those that are rented ---- */

bool power_has_wish(const struct power *p)
{
    (void)p;
    return w.has_wish;
}

struct stay_facts power_facts(const struct power *p, uint64_t now)
{
    struct stay_facts f = w.models;

    f.on_due = p->on_due ? p->on_due : now;
    f.begun_due = p->is_unused && !f.used_due ? p->born_due : 0;
    f.before_ms = p->unused_before_ms;
    return f;
}

struct stay_rule power_rule(const struct power *p)
{
    (void)p;
    return (struct stay_rule){.stop_ms = 15 * MIN_MS,
                              .min_up_ms = 5 * MIN_MS,
                              .max_up_ms = 720 * MIN_MS,
                              .quiet_hold_ms = 120 * MIN_MS,
                              .failed_hold_ms = 5 * MIN_MS};
}

void power_note_quiet(struct power *p, uint64_t now)
{
    (void)p, (void)now;
}

void power_look_at_gpu(struct power *p, uint64_t now)
{
    (void)p, (void)now;
}

/* Its models end at once. */
void power_stay(struct power *p)
{
    w.done = p->stay;
    if (p->stay.verdict != STAY_ON)
        power_off(p, "");
}

void power_off(struct power *p, const char *why)
{
    (void)why;
    w.n_told_off++;
    p->stay = (struct stay){STAY_OFF, p->stay.reason, STAY_NEVER};
    boxed_stop(NULL);
}

void power_lose_servers(const struct power *p, const char *why)
{
    (void)p, (void)why;
    w.n_lost++;
}

void power_leave_waiting(const struct power *p)
{
    (void)p;
    w.n_left_waiting++;
}

/* ---- the story ---- */

static void judges(void)
{
    power_judge_boxed(&w.power);
}

/* The manager's timer. */
static void passes(unsigned minutes)
{
    uint64_t until = w.now + minutes * MIN_MS;

    for (unsigned turns = 0; w.timer_due && w.timer_due <= until; turns++) {
        cr_assert_lt(turns, 2000u, "its timer comes again and again");
        w.now = MAX(w.now, w.timer_due);
        w.timer_due = 0;
        judges();
    }
    w.now = until;
}

/* As the manager begins with one: nothing is known of it yet. */
static void begin(void)
{
    w = (struct world){.now = 1000 * MIN_MS};
    w.power =
        (struct power){.restored = true, .born_due = w.now, .stay = {STAY_OFF, STAY_UNWANTED, STAY_NEVER}};
    judges();
}

TestSuite(manager_boxed, .init = begin);

static void guard_is_read(void)
{
    w.guard.read_at_ms = 1;
    judges();
}

static void is_switched_on(void)
{
    w.state = BOXED_ON;
    w.box.cycles++;
    w.is_told = w.is_unused_known = false;
    w.guard.read_at_ms = 0;
    judges();
    guard_is_read();
}

static void goes_off(void)
{
    w.state = BOXED_OFF;
    judges();
}

/* A model on it is wanted, and gets there. */
static void is_used(void)
{
    w.models.any_goal = w.models.wanted = true;
    judges();
    w.models.in_memory = true;
    w.models.wanted = false;
    w.models.used_due = w.now;
    judges();
}

Test(manager_boxed, idle_for_15m_its_guard_is_told_to_stop_it)
{
    is_switched_on();
    is_used();
    passes(14);
    cr_assert(w.state == BOXED_ON && w.done.reason == STAY_IDLE);
    passes(1);
    cr_assert_eq(w.state, BOXED_STOPPING);
    cr_assert_eq(w.n_told_off, 1);
    passes(60);
    cr_assert_eq(w.n_told_off, 1, "boxed.c tells it again");
}

Test(manager_boxed, who_has_just_switched_it_on_has_15m_to_say_what_for)
{
    is_switched_on(); /* no model on it is wanted, which would end it at once otherwise */
    cr_assert_eq(w.state, BOXED_ON);
    passes(14);
    cr_assert_eq(w.state, BOXED_ON);
    passes(1);
    cr_assert_eq(w.state, BOXED_STOPPING);
}

Test(manager_boxed, a_word_of_the_power_on_before_does_not_end_this_one)
{
    is_switched_on();
    is_used();
    w.models = (struct stay_facts){.any_goal = true, .asleep_by_word = true};
    judges();
    cr_assert_eq(w.state, BOXED_STOPPING, "its models were put to sleep");
    goes_off();
    is_switched_on();
    cr_assert_eq(w.state, BOXED_ON);
    passes(14);
    cr_assert_eq(w.state, BOXED_ON);
}

Test(manager_boxed, down_of_the_last_model_ends_it_at_once)
{
    is_switched_on();
    is_used();
    w.models = (struct stay_facts){};
    judges();
    cr_assert_eq(w.state, BOXED_STOPPING);
    cr_assert_eq(w.done.reason, STAY_UNWANTED);
}

Test(manager_boxed, down_of_the_machine_needs_no_model)
{
    is_switched_on();
    power_press_boxed(&w.power);
    cr_assert_eq(w.state, BOXED_STOPPING);
    cr_assert_eq(w.n_stops, 1);
    power_press_boxed(&w.power);
    cr_assert_eq(w.n_stops, 2, "told again");
}

Test(manager_boxed, what_its_guard_holds_is_waited_for_after_a_start)
{
    w.state = BOXED_ON;
    w.box.cycles = 1;
    w.power.was_used = true;
    judges(); /* nothing is wanted on it; its guard has not told of a keep */
    cr_assert_eq(w.state, BOXED_ON);
    w.models.hold_until_due = w.now + 60 * MIN_MS;
    guard_is_read();
    cr_assert(w.state == BOXED_ON && w.done.reason == STAY_KEPT);
}

Test(manager_boxed, a_guard_that_tells_nothing_is_waited_for_a_minute)
{
    w.state = BOXED_ON;
    w.box.cycles = 1;
    judges();
    w.power.was_used = true;
    passes(0);
    cr_assert_eq(w.state, BOXED_ON);
    passes(1);
    cr_assert_eq(w.state, BOXED_STOPPING);
}

Test(manager_boxed, anothers_is_not_ours_to_stop)
{
    w.is_anothers = true;
    is_switched_on();
    is_used();
    passes(600);
    cr_assert_eq(w.state, BOXED_ON);
    cr_assert(w.done.verdict == STAY_ON && w.done.until_due == STAY_NEVER);
}

Test(manager_boxed, a_request_takes_a_stop_back_that_its_guard_did_not_hear)
{
    is_switched_on();
    is_used();
    passes(15);
    cr_assert_eq(w.state, BOXED_STOPPING);
    w.has_wish = w.models.wanted = true;
    judges();
    cr_assert_eq(w.state, BOXED_ON);
    passes(60);
    cr_assert_eq(w.state, BOXED_ON);
}

Test(manager_boxed, a_request_waits_for_one_whose_guard_has_heard)
{
    is_switched_on();
    is_used();
    passes(15);
    w.is_told = w.has_wish = w.models.wanted = true;
    judges();
    cr_assert_eq(w.state, BOXED_STOPPING);
    goes_off();
    cr_assert_eq(w.n_left_waiting, 2, "also before it was on");
    is_switched_on();
    cr_assert_eq(w.state, BOXED_ON);
}

Test(manager_boxed, once_it_is_off_its_models_are_told_once)
{
    is_switched_on();
    is_used();
    passes(15);
    goes_off();
    judges();
    cr_assert_eq(w.n_lost, 1);
    cr_assert(w.power.stay.verdict == STAY_OFF && !w.timer_due);
    is_switched_on();
    goes_off();
    cr_assert_eq(w.n_lost, 2);
}

Test(manager_boxed, what_it_was_let_go_without_ends_with_its_models)
{
    is_switched_on();
    w.no_guard = true;
    is_used();
    cr_assert(w.no_guard);
    w.models = (struct stay_facts){};
    judges();
    cr_assert_not(w.no_guard);
}

Test(manager_boxed, a_new_power_on_counts_its_times_anew)
{
    is_switched_on();
    is_used();
    passes(10);
    w.models = (struct stay_facts){}; /* off and on again between two looks: nothing is left in its memory */
    is_switched_on();
    cr_assert_eq(w.state, BOXED_ON);
    passes(14);
    cr_assert_eq(w.state, BOXED_ON);
    passes(1);
    cr_assert_eq(w.state, BOXED_STOPPING);
}

Test(manager_boxed, max_up_ends_one_that_is_used_for_ever)
{
    is_switched_on();
    is_used();
    w.models.wanted = true;
    passes(719);
    cr_assert_eq(w.state, BOXED_ON);
    passes(1);
    cr_assert_eq(w.done.reason, STAY_MAX_UP);
    cr_assert_eq(w.state, BOXED_STOPPING);
}

/* Another daemon began: its guard tells of the power-on that it was used in, so long ago. */
static void daemon_is_killed(unsigned minutes_ago)
{
    begin();
    w.state = BOXED_ON;
    w.models.any_goal = true;
    w.is_unused_known = true;
    w.unused_due = (int64_t)w.now - minutes_ago * (int64_t)MIN_MS;
    judges();
    guard_is_read();
}

Test(manager_boxed, max_up_goes_on_over_a_start)
{
    daemon_is_killed(700);
    w.models.wanted = true; /* a model that was wanted gets there again: that is no use of it */
    judges();
    passes(19);
    cr_assert_eq(w.state, BOXED_ON);
    passes(1);
    cr_assert_eq(w.done.reason, STAY_MAX_UP);
    cr_assert_eq(w.state, BOXED_STOPPING);
}

Test(manager_boxed, max_up_may_be_over_when_we_begin)
{
    daemon_is_killed(2000); /* longer than this computer is on */
    w.models.wanted = true;
    judges();
    cr_assert_eq(w.done.reason, STAY_MAX_UP);
    cr_assert_eq(w.state, BOXED_STOPPING);
}

Test(manager_boxed, a_use_after_a_start_begins_max_up_anew)
{
    daemon_is_killed(700);
    is_used();
    w.models.wanted = true;
    passes(719);
    cr_assert_eq(w.state, BOXED_ON);
    passes(1);
    cr_assert_eq(w.done.reason, STAY_MAX_UP);
    cr_assert_eq(w.noted_due, w.models.used_due, "which the next daemon knows");
}

Test(manager_boxed, another_power_on_after_a_start_counts_from_itself)
{
    daemon_is_killed(700);
    is_switched_on();
    w.models.wanted = true;
    passes(719);
    cr_assert_eq(w.state, BOXED_ON);
    passes(1);
    cr_assert_eq(w.done.reason, STAY_MAX_UP);
}

Test(manager_boxed, one_that_nobody_dated_counts_from_our_start)
{
    daemon_is_killed(700);
    w.is_unused_known = false; /* an older version */
    w.models.wanted = true;
    judges();
    passes(719);
    cr_assert_eq(w.state, BOXED_ON);
    passes(1);
    cr_assert_eq(w.done.reason, STAY_MAX_UP);
}
