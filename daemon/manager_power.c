/* When the machines that are rented are on: what the models on one want becomes a wish for power, and what
 * nobody uses becomes an end of it. How long that takes is judged by policy/stay.h; here the facts are
 * gathered, and what follows from the verdict is done.
 *
 * A wish switches a machine on once. When it goes off by itself (somebody else switched it off, it does not
 * boot, its guard cannot be read back), the wish is over: models sleep or fail with that reason, and only the
 * next one begins anew. So daemon and person never press in turn. */
#include "manager_power.h"

#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "base/settings.h"
#include "base/timer.h"
#include "guard/keeper.h"
#include "lease/account.h"
#include "lease/boxed.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "policy/money.h"
#include "proto/text.h"

#define FOREIGN_MS (10 * 60 * 1000) /* two times it was taken away within that are meant */
#define BLIND_MS   65000 /* with no word of the provider about one that runs: two looks at it have failed */
#define LEAVE_MS   (5 * 60 * 1000 + STAY_DRAIN_MS) /* for the streams of its models, then for their engines */
#define USED_MS    (60 * 1000)                     /* the last use is written down so exactly */
#define LOST_MS    5000 /* between two looks at one that runs and cannot be reached any more, for a minute */

/* ---- facts ---- */

/* Holds are on the machine too, where a daemon that was started anew finds them. Who ended one by a word
 * waits for no guard to have heard of it. */
uint64_t power_hold_due(const struct power *p, uint64_t now)
{
    const struct keeper *keeper = p->rented ? rented_keeper(p->rented) : boxed_keeper(lease_boxed(p->lease));
    struct keeper_figures k = {};

    if (keeper && !p->hold_is_over)
        keeper_figures(keeper, &k);
    return MAX(p->hold_until_due, clock_due_of(k.hold_until_at_ms, now));
}

/* Until when something of it is kept, but for that model; not behind now: nothing is. */
uint64_t power_kept_due(const struct power *p, enum keeps which, const struct deployment *but, uint64_t now)
{
    return MAX(which == KEEPS_ALL ? power_hold_due(p, now) : 0, power_models_kept_due(p, but, now));
}

/* What is kept no longer holds no money; a daemon before this one may have left some. */
static void note_keep_money(struct power *p, uint64_t now)
{
    if (!p->has_keep_money || p->restored || keeps_have(p->manager, lease_name(p->lease)) ||
        power_kept_due(p, KEEPS_ALL, NULL, now) > now)
        return;
    p->has_keep_money = false;
    account_release_keep(rented_account(p->rented), lease_name(p->lease));
}

struct stay_facts power_facts(const struct power *p, uint64_t now)
{
    struct stay_facts f = {
        .on_due = p->on_due ? p->on_due : now,
        .used_due = p->held_due,
        .begun_due = p->is_unused ? p->born_due : 0,
        .before_ms = p->unused_before_ms,
        .quiet_due = MAX(MAX(p->forward_due, p->typed_due), p->gpu_due),
        .hold_until_due = power_hold_due(p, now),
        .money_due = p->money_due,
        .prepaid_until_due = p->rented ? rented_prepaid_due(p->rented, now) : 0,
    };

    if (p->rented && rented_record(p->rented)->no_card) /* models have no say about that */
        return f;
    power_add_models(p, &f, now);
    return f;
}

struct stay_rule power_rule(const struct power *p)
{
    const struct settings *s = p->manager->context.settings;

    return (struct stay_rule){
        .stop_ms = settings_ms(s, "idle", "stop"),
        .min_up_ms = settings_ms(s, "idle", "min_up"),
        .max_up_ms = settings_ms(s, "idle", "max_up"),
        .quiet_hold_ms = settings_ms(s, "idle", "quiet_hold"),
        .failed_hold_ms = settings_ms(s, "idle", "failed_hold"),
    };
}

/* Of a limit that was reached, for people. */
static const struct fault *money_fault(const struct power *p)
{
    static const struct fault reached = {FAULT_EXHAUSTED, 0, "budget", "a limit of money is reached"};
    const struct fault *f = account_trouble(rented_account(p->rented));

    return f->kind && f->code[0] ? f : &reached;
}

/* ---- on and off ---- */

static void power_on(struct power *p)
{
    p->asked_on = true;
    p->away_due = p->leave_due = 0;
    power_begin_search(p);
    if (rented_record(p->rented)->no_card) /* a word that came to nothing */
        rented_leave_card(p->rented, false);
    rented_want(p->rented, LIFE_GOAL_ON);
}

/* The provider cannot be asked to switch it off, and what is on the machine can. */
static bool power_needs_guard(const struct power *p)
{
    struct rented_figures n;

    if (!p->rented || !p->on_due || rented_is_anothers(p->rented) || !rented_is_guarded(p->rented) ||
        !lease_is_reachable(p->lease))
        return false;
    rented_figures(p->rented, &n);
    return n.seen_at_ms && clock_wall_ms() - n.seen_at_ms > BLIND_MS;
}

/* Whatever came of it: the provider is asked until it says that it is off. */
static void on_guard_told(void *ctx, const struct fault *f)
{
    struct power *p = ctx;

    if (f)
        event_publish(LOG_LEVEL_WARNING, LOG_DAEMON, lease_name(p->lease), "power_off",
                      "its guard does not say that it stops it: %s", f->text);
    rented_want(p->rented, LIFE_GOAL_OFF);
}

/* Its session ends with the wish: so the guard is told first. */
static void power_off_by_guard(struct power *p)
{
    const char *title = account_ops(rented_account(p->rented))->title;

    event_publish(
        LOG_LEVEL_WARNING, LOG_DAEMON, lease_name(p->lease), "power_off",
        "%s cannot be reached: its guard is told to stop it, and %s is asked until it confirms that", title,
        title);
    rented_stop_by_guard(p->rented, &p->by_guard, on_guard_told, p);
}

void power_off(struct power *p, const char *why)
{
    if (p->by_guard) /* on its way off */
        return;
    if (p->rented && rented_is_anothers(p->rented))
        log_line(LOG_LEVEL_NOTICE, LOG_DAEMON, lease_name(p->lease),
                 "is left to the llmhostd that keeps it: %s", why);
    else
        event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, lease_name(p->lease), "power_off",
                      "is to be switched off: %s", why);
    p->asked_on = false;
    p->away_due = p->leave_due = 0;
    p->stay = (struct stay){STAY_OFF, p->stay.reason, STAY_NEVER};
    if (power_needs_guard(p))
        power_off_by_guard(p);
    else if (p->rented)
        rented_want(p->rented, LIFE_GOAL_OFF);
    else
        boxed_stop(lease_boxed(p->lease));
}

/* What runs there is cut, and sleeps until it is wanted anew. */
static void power_on_taken(struct power *p)
{
    uint64_t now = clock_now_ms();
    bool again = p->foreign_due && now - p->foreign_due <= FOREIGN_MS;
    struct fault f;

    p->foreign_due = now;
    if (again) {
        fault_code(&f, FAULT_GONE, "stopped_elsewhere", "%s was switched off elsewhere twice within 10 min",
                   lease_name(p->lease));
        power_end_models(p, true, &f);
    }
    power_lose_machine(p, "the machine was switched off elsewhere");
}

/* Somebody gave it back, it seems: a request switches a machine on that is there, and rents none in its place. One that
 * somebody else had made is never made anew anyhow, and may be listed again. */
static bool power_has_vanished(struct power *p)
{
    struct fault f;

    if (!streq(rented_trouble(p->rented)->code, "vanished") || rented_record(p->rented)->adopted)
        return false;
    fault_code(&f, FAULT_GONE, "machine_gone", "its machine %s vanished at its provider, and no request rents another",
               lease_name(p->lease));
    power_end_models(p, true, &f);
    power_lose_machine(p, "the machine vanished at its provider");
    return true;
}

/* The machine gave up being on, and its trouble says why. */
static void power_on_ended(struct power *p)
{
    struct fault f = *rented_trouble(p->rented);

    p->asked_on = false;
    if (streq(f.code, "stopped_elsewhere")) {
        power_on_taken(p);
        return;
    }
    if (power_has_vanished(p))
        return;
    if (!f.kind)
        fault_code(&f, FAULT_GONE, "machine_off", "its machine was switched off");
    power_give_up_models(p, &f);
    power_sleep_models(p, true, f.text);
}

/* ---- judging ---- */

void power_note_quiet(struct power *p, uint64_t now)
{
    uint64_t bytes = forwards_bytes(p->manager, p->lease);
    const struct keeper *k = p->rented ? rented_keeper(p->rented) : boxed_keeper(lease_boxed(p->lease));
    struct keeper_figures n = {0};

    if (bytes != p->quiet_bytes)
        p->forward_due = now;
    p->quiet_bytes = bytes;
    if (k)
        keeper_figures(k, &n);
    p->typed_due = n.typed_due;
}

/* One that was reached, and no longer is, may have been switched off: its next usual look is too far away for
 * whoever waits. */
static void note_loss(struct power *p, uint64_t now)
{
    bool here = lease_is_reachable(p->lease);

    p->was_reachable |= here;
    if (here || !p->on_due || !p->was_reachable || life_state(rented_life(p->rented)) != LIFE_RUNNING) {
        p->lost_due = p->doubt_due = 0; /* an instant that passed would fire the timer for ever */
        return;
    }
    if (!p->lost_due)
        p->lost_due = p->doubt_due = now;
    if (now < p->doubt_due)
        return;
    rented_doubt(p->rented);
    p->doubt_due = now + (now - p->lost_due < LOOK_MS ? LOST_MS : LOOK_MS);
}

static void power_forget_cycle(struct power *p)
{
    p->on_due = p->lost_due = p->doubt_due = 0;
    p->was_reachable = p->hold_is_over = p->is_unused = false;
    if (rented_record(p->rented)->used_at_ms) /* the next one is another one's use */
        rented_note_used(p->rented, 0);
}

/* max_up counts from it, in the daemon after this one too. */
static void note_used(struct power *p, uint64_t now)
{
    const struct stay_facts f = power_facts(p, now);
    int64_t at_ms;

    p->is_unused = f.begun_due != 0;
    if (!p->on_due || p->is_unused)
        return;
    at_ms = clock_wall_ms() - (int64_t)(now - MAX(f.used_due, f.on_due));
    if (at_ms - rented_record(p->rented)->used_at_ms >= USED_MS ||
        at_ms < rented_record(p->rented)->used_at_ms - USED_MS)
        rented_note_used(p->rented, at_ms);
}

static void power_note(struct power *p)
{
    uint64_t now = clock_now_ms();
    enum life_state s = life_state(rented_life(p->rented));
    struct keeper_figures k = {};

    if (s == LIFE_RUNNING && !p->on_due)
        p->on_due = now;
    else if (life_is_at_rest(s))
        power_forget_cycle(p);
    if (!p->on_due || rented_may_overspend(p->rented) || rented_prepaid_until_at_ms(p->rented) ||
        !account_must_stop(rented_account(p->rented)))
        p->money_due = 0; /* whether it may be switched on is for its reservation, which asks anew */
    else if (!p->money_due)
        p->money_due = now;
    if (rented_keeper(p->rented))
        keeper_figures(rented_keeper(p->rented), &k);
    if (k.read_at_ms || (p->on_due && now - p->on_due >= UNHEARD_MS))
        p->restored = false;
    note_keep_money(p, now);
    note_used(p, now);
    power_note_quiet(p, now);
    power_look_at_gpu(p, now);
    note_loss(p, now);
}

static void tell_reason(const struct power *p, char out[static DEPLOYMENT_TEXT_MAX])
{
    bool no_card = p->rented && rented_record(p->rented)->no_card;
    char idle[TEXT_SHORT_MAX];
    const struct settings *s = p->manager->context.settings;

    switch (p->stay.reason) {
    case STAY_MONEY: snprintf(out, DEPLOYMENT_TEXT_MAX, "%.150s", money_fault(p)->text); break;
    case STAY_UNWANTED:
        snprintf(out, DEPLOYMENT_TEXT_MAX,
                 no_card ? "its time without its card is over" : "no model on it is wanted");
        break;
    case STAY_SLEEPS: snprintf(out, DEPLOYMENT_TEXT_MAX, "its models were put to sleep"); break;
    case STAY_FAILED_HOLD:
        snprintf(out, DEPLOYMENT_TEXT_MAX, "a model failed, and no other is wanted");
        break;
    case STAY_MAX_UP:
        duration_format(idle, settings_ms(s, "idle", "max_up"), false);
        snprintf(out, DEPLOYMENT_TEXT_MAX, "it was on for %s since the last request", idle);
        break;
    case STAY_IDLE:
    case STAY_MINIMUM_UP:
    case STAY_QUIET_USE:
    case STAY_REQUESTS:
    case STAY_KEPT:
    case STAY_PREPAID:
        duration_format(idle, settings_ms(s, "idle", "stop"), false);
        snprintf(out, DEPLOYMENT_TEXT_MAX, "idle for %s", idle);
        break;
    }
}

/* How long its models are waited for where they cannot be asked to leave. A machine that is rented goes off
 * whether or not they did, and takes them with it: nothing is drained through a tunnel that is lost, and each
 * minute of waiting for it is paid. What is still open there may go on as long as the tunnel is only silent. */
static uint64_t let_go_due(const struct power *p)
{
    if (!p->rented)
        return p->away_due + AWAY_MS;
    if (!p->lost_due) /* it was not reached yet, by this daemon */
        return p->away_due + SILENT_MS;
    return power_has_open(p) ? p->lost_due + SILENT_MS : p->lost_due;
}

/* It goes off as soon as its models have left it; without that where they cannot be asked, or one of them does
 * not end. */
static void power_drain(struct power *p, const char *why)
{
    uint64_t now = clock_now_ms();

    if (p->stay.reason == STAY_MONEY)
        power_end_models(p, false, money_fault(p));
    else if (p->stay.reason != STAY_UNWANTED)
        power_sleep_models(p, false, why);
    if (!p->leave_due)
        p->leave_due = now;
    if (lease_is_reachable(p->lease))
        p->away_due = 0;
    else if (!p->away_due)
        p->away_due = now;
    if (p->away_due && now >= let_go_due(p)) {
        _cleanup_free_ char *lost = xasprintf("%s; it cannot be reached, so that nothing there is waited for", why);

        power_off(p, lost);
    } else if (now - p->leave_due >= LEAVE_MS) {
        power_off(p, why);
    }
}

void power_stay(struct power *p)
{
    char why[DEPLOYMENT_TEXT_MAX];

    if (p->stay.verdict == STAY_ON) {
        p->away_due = p->leave_due = 0;
        return;
    }
    tell_reason(p, why);
    if (p->stay.verdict == STAY_DRAIN) {
        power_drain(p, why);
        return;
    }
    if (p->stay.reason == STAY_MONEY)
        power_end_models(p, true, money_fault(p));
    else
        power_sleep_models(p, true, why);
    power_off(p, why);
}

static void tell_money(struct power *p)
{
    if (p->money_due && !p->money_told)
        event_publish(LOG_LEVEL_WARNING, LOG_DAEMON, lease_name(p->lease), "over_budget",
                      "was switched on elsewhere and runs on, although %s", money_fault(p)->text);
    p->money_told = p->money_due != 0;
}

/* Somebody else switched it on, and no model on it is wanted: only max_up ends that, no limit of money. One
 * that somebody else made as well is theirs alone. */
static void power_of_others(struct power *p, uint64_t now)
{
    const struct stay_rule rule = power_rule(p);
    const struct stay_facts f = power_facts(p, now);
    uint64_t due = stay_max_due(&rule, &f);

    tell_money(p);
    if (rented_is_left_alone(p->rented)) {
        p->stay = (struct stay){STAY_ON, STAY_UNWANTED, STAY_NEVER};
        return;
    }
    p->stay = (struct stay){STAY_ON, STAY_MAX_UP, due > now ? due : STAY_NEVER};
    if (f.prepaid_until_due > now) {
        p->stay = (struct stay){STAY_ON, STAY_PREPAID, f.prepaid_until_due};
        return;
    }
    if (now < due || now < f.hold_until_due || rented_is_anothers(p->rented))
        return; /* another llmhostd is there to end what is its */
    power_off(p, "it was switched on elsewhere, and nobody used it here for too long");
}

static void power_arm(struct power *p, uint64_t now)
{
    const struct life *life = rented_life(p->rented);
    uint64_t due = p->stay.verdict == STAY_OFF ? STAY_NEVER : p->stay.until_due;

    if (p->away_due)
        due = MIN(due, let_go_due(p));
    if (life_state(life) == LIFE_WAITING && life_goal(life) == LIFE_GOAL_ON)
        due = MIN(due, MAX(clock_due_of(power_search_until_at_ms(p), now), now));
    if (p->doubt_due)
        due = MIN(due, p->doubt_due);
    if (p->on_due || p->money_due)
        due = MIN(due, now + LOOK_MS);
    power_arm_at(p, due, now);
}

/* A daemon before this one looked for a card, or heard no answer to a power-on that was not seen to act, and
 * before anything is known of that nobody wants one any more: no engine of this power-on has to be waited for.
 * Were it wanted on until then, another would be made, or it be switched on, when that call is too old to act. */
static bool is_search_of_nobody(const struct power *p, const struct stay_facts *f)
{
    struct rented_figures n;

    rented_figures(p->rented, &n);
    return n.state == LIFE_UNKNOWN && (n.is_none || n.is_unsure) && (!f->any_goal || f->asleep_by_word) &&
           !rented_record(p->rented)->no_card;
}

/* It is wanted on, or was. */
static void power_judge_on(struct power *p, uint64_t now)
{
    const struct stay_rule rule = power_rule(p);
    const struct stay_facts f = power_facts(p, now);

    if (is_search_of_nobody(p, &f)) {
        power_end_search(p);
        return;
    }
    if (life_state(rented_life(p->rented)) == LIFE_WAITING) {
        p->stay = (struct stay){STAY_ON, STAY_REQUESTS, STAY_NEVER};
        p->away_due = p->leave_due = 0;
        power_search(p);
        return;
    }
    p->stay = stay_judge(&rule, &f, now);
    if (now - p->born_due >= AWAY_MS && !lease_is_reachable(p->lease))
        p->restored = false; /* a guard that cannot be asked keeps nothing on for ever */
    if (p->restored && p->stay.reason != STAY_MONEY)
        p->stay.verdict = STAY_ON; /* its guard may know of a hold */
    power_stay(p);
}

/* An off behind a power-on that was not seen to act is not believed for minutes; nor is it heard while it
 * boots. */
static bool may_fetch_card(const struct power *p)
{
    enum life_state s = life_state(rented_life(p->rented));

    return s != LIFE_STOPPING && (s != LIFE_STARTING || rented_record(p->rented)->acted);
}

/* No model runs without a card: off first, then on with it. */
static void power_fetch_card(struct power *p)
{
    p->hold_until_due = 0;
    p->hold_is_over = true;
    rented_hold(p->rented, 0);
    power_off(p, "a model on it is wanted: it comes back with its card");
}

static void power_judge_rented(struct power *p)
{
    const struct life *life = rented_life(p->rented);
    uint64_t now = clock_now_ms();

    power_note(p);
    if (life_goal(life) == LIFE_GOAL_RELEASE) {
        timer_disarm(p->timer);
        return;
    }
    if (p->asked_on && life_goal(life) == LIFE_GOAL_OFF)
        power_on_ended(p);
    if (life_goal(life) == LIFE_GOAL_ON && rented_is_without_card(p->rented) && power_has_wish(p) &&
        may_fetch_card(p))
        power_fetch_card(p);
    if (life_goal(life) == LIFE_GOAL_OFF && power_has_wish(p))
        power_on(p);
    if (life_goal(life) == LIFE_GOAL_ON) {
        power_judge_on(p, now);
    } else if (life_is_at_rest(life_state(life))) {
        if (!power_has_vanished(p))
            power_lose_machine(p, "the machine is off");
        p->stay = (struct stay){STAY_OFF, p->stay.reason, STAY_NEVER};
    } else if (life_state(life) == LIFE_RUNNING) {
        power_of_others(p, now);
    }
    power_arm(p, now);
}

void power_judge(struct power *p)
{
    if (p->rented)
        power_judge_rented(p);
    else if (lease_boxed(p->lease))
        power_judge_boxed(p);
}

void power_judge_anew(void *ctx)
{
    struct power *p = ctx;
    struct stay was = p->stay;

    power_judge(p);
    if (was.verdict != p->stay.verdict || was.reason != p->stay.reason)
        manager_tell_lease(p->manager, p->lease, false);
}

/* ---- the manager's ---- */

struct power *power_new(struct manager *m, struct lease *l)
{
    struct power *p;

    if (!lease_rented(l) && !lease_boxed(l))
        return NULL;
    p = xnew(struct power);
    p->manager = m;
    p->lease = l;
    p->rented = lease_rented(l);
    p->asked_on = p->rented && life_goal(rented_life(p->rented)) == LIFE_GOAL_ON;
    p->restored = p->asked_on || !p->rented;
    p->has_keep_money = true;
    p->born_due = clock_now_ms();
    if (p->asked_on) {
        p->hold_until_due = clock_due_of(rented_record(p->rented)->hold_until_at_ms, p->born_due);
        p->hold_is_over = rented_record(p->rented)->hold_until_at_ms == RENTAL_HOLD_OVER;
    }
    if (p->asked_on && rented_record(p->rented)->used_at_ms) {
        p->is_unused = true;
        p->unused_before_ms = (uint64_t)MAX(clock_wall_ms() - rented_record(p->rented)->used_at_ms, 0);
    }
    p->stay = (struct stay){STAY_OFF, STAY_UNWANTED, STAY_NEVER};
    p->quiet_bytes = forwards_bytes(m, l);
    p->timer = timer_new(m->context.loop, power_judge_anew, p);
    timer_arm(p->timer, 0);
    return p;
}

struct power *power_free(struct power *p)
{
    if (!p)
        return NULL;
    op_cancel(&p->by_guard);
    op_cancel(&p->gpu_look);
    timer_free(p->timer);
    free(p);
    return NULL;
}

static struct managed_lease *managed_of(struct manager *m, const struct lease *l)
{
    LIST_FOREACH (n, &m->leases, struct managed_lease, node)
        if (n->lease == l)
            return n;
    return NULL;
}

struct power *power_find(struct manager *m, const struct lease *l)
{
    struct managed_lease *n = managed_of(m, l);

    return n ? n->power : NULL;
}

/* Whether it is switched off from inside may be said, and unsaid, at any time. */
static void power_follow(struct manager *m, struct lease *l)
{
    struct managed_lease *n = managed_of(m, l);

    if (!n || lease_rented(l))
        return;
    if (!n->power)
        n->power = power_new(m, l);
    else if (!lease_boxed(l))
        n->power = power_free(n->power);
}

static void note_account(struct manager *m, struct account *a)
{
    bool runs = false;

    LIST_FOREACH (n, &m->leases, struct managed_lease, node)
        if (n->power && n->power->rented && rented_account(n->power->rented) == a)
            runs |= !life_is_at_rest(life_state(rented_life(n->power->rented)));
    account_runs(a, runs);
}

void powers_lease_changed(struct manager *m, struct lease *l)
{
    power_follow(m, l);

    struct power *p = power_find(m, l);

    if (!p)
        return;
    power_judge(p);
    if (p->rented)
        note_account(m, rented_account(p->rented));
}

void powers_account_changed(struct manager *m, struct account *a)
{
    LIST_FOREACH (n, &m->leases, struct managed_lease, node)
        if (n->power && n->power->rented && rented_account(n->power->rented) == a)
            power_judge(n->power);
}

/* What was let go beyond them was let go beyond the others, as they were. */
void powers_limits_set(struct manager *m, const struct account *a, const struct money_limits *before)
{
    const struct money_limits *limits = &account_record(a)->limits;

    if (!money_is_tighter(limits, before))
        return;
    LIST_FOREACH (n, &m->leases, struct managed_lease, node) {
        struct rented *r = lease_rented(n->lease);

        if (r && rented_account(r) == a)
            rented_hold_to_limits(r, !money_is_price_tighter(limits, before));
    }
}

/* A machine that was not wanted on wakes nobody, although its models have not been told to sleep. */
void powers_restored(struct manager *m)
{
    LIST_FOREACH (n, &m->leases, struct managed_lease, node)
        if (n->power && n->power->rented && !n->power->asked_on)
            power_lose_machine(n->power, "the machine is off");
}

void powers_doubt(struct manager *m)
{
    LIST_FOREACH (n, &m->leases, struct managed_lease, node)
        if (n->power && n->power->rented)
            rented_doubt(n->power->rented);
}
