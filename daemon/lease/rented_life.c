/* What the life of a rented machine works with: its record, the money that is reserved before a call and
 * given back after it, the ledger. Which card is tried, and what that costs, is in rented_hunt.c. */
#include <inttypes.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/settings.h"
#include "base/timer.h"
#include "lease/account.h"
#include "lease/ledger.h"
#include "lease/rented_private.h"
#include "proto/mem.h"
#include "proto/text.h"

#define BOOT_MS_MIN    120000u /* of a reservation, however fast it usually is */
#define PERIOD_MS      20000u  /* of the guard: it acts so much late at most */
#define PACE_MS_MAX    6000u   /* a call that is due waits for no more of the others at its account */
#define DAY_MS         (24 * 3600 * 1000)
#define SPARE_NAME_MAX (2 * INSTANCE_ID_MAX)

/* ---- the record ---- */

static enum life_goal goal_of(const char *name)
{
    enum life_goal g = LIFE_GOAL_RELEASE;

    while (g != LIFE_GOAL_OFF && !streq(name, life_goal_name(g)))
        g--;
    return g;
}

/* A word of another version: what is true is read anew anyhow. */
static enum life_state state_of(const char *name)
{
    enum life_state s = LIFE_RELEASED;

    while (s != LIFE_UNKNOWN && !streq(name, life_state_name(s)))
        s--;
    return s;
}

/* What it was let go without was said for one wish, and is over with it, whatever its machine does then: a
 * word that is said while it goes off is one for the next. */
static void forget_allowed(struct rented *r)
{
    r->record.over_budget = r->record.no_guard = false;
    r->record.no_card = r->wish.start.no_card = false;
    r->record.hold_until_at_ms = 0;
    r->wish.start.start_command = r->dog;
}

/* Each call so far was refused, or has not been made yet. */
static bool was_refused_always(const struct life_record *l)
{
    return !*l->id && (!l->asked_at_ms || l->state == LIFE_CREATING);
}

static void take_record(struct rented *r, const struct life_record *l)
{
    struct rental_record *to = &r->record;

    if (l->goal != LIFE_GOAL_ON && streq(to->goal, life_goal_name(LIFE_GOAL_ON))) {
        forget_allowed(r);
        to->search_until_at_ms = 0;
    }
    rented_replace(&to->state, life_state_name(l->state));
    rented_replace(&to->goal, life_goal_name(l->goal));
    rented_replace(&to->id, *l->id ? l->id : NULL);
    to->made = l->made;
    to->asked_at_ms = l->asked_at_ms;
    to->create_open = l->create_open;
    to->ours = l->ours;
    to->was_on = l->was_on;
    to->acted = l->acted;
    to->never_made = to->never_made && was_refused_always(l);
    to->never_seen = to->never_seen && !*l->id;
}

void rented_write(struct rented *r)
{
    store_put_rental(r->context.store, r->context.name, &r->record);
}

/* ---- money ---- */

/* Of the last call that costs money, by the clock that money is counted by. Of one of a daemon before this
 * one that told nobody the time the record has it by this computer's, which may have been set since. */
static int64_t paid_at_ms(const struct rented *r)
{
    return r->paid_at_ms ? r->paid_at_ms : MIN(r->record.asked_at_ms, account_now_ms(r->context.account));
}

int64_t rented_prepaid_until_at_ms(const struct rented *r)
{
    return r->record.prepaid_until_at_ms > account_now_ms(r->context.account) ? r->record.prepaid_until_at_ms
                                                                              : 0;
}

uint64_t rented_prepaid_due(const struct rented *r, uint64_t now)
{
    int64_t until_at_ms = rented_prepaid_until_at_ms(r);

    return until_at_ms ? now + (uint64_t)(until_at_ms - account_now_ms(r->context.account)) : 0;
}

/* That call was answered, or what came of it was seen. */
static void resolve_intent(struct rented *r, const char *outcome)
{
    if (r->intent_open)
        account_resolve(r->context.account, r->intent, outcome);
    r->intent_open = false;
}

static void settle_made(struct rented *r)
{
    char text[RENTED_TEXT_MAX];

    rented_note_made(r);
    if (r->intent_open)
        event_publish(LOG_LEVEL_NOTICE, LOG_PROVIDER, r->context.name, "power_on", "is switched on: %s",
                      rented_describe(r, text));
    resolve_intent(r, "made");
}

/* What the last call came to, as far as the state tells. An unsure one stays open. r->record is of before. */
static void settle_intent(struct rented *r, enum life_state was, enum life_state now)
{
    switch (now) {
    case LIFE_STOPPED:
        if (r->record.create_open) /* nobody heard that it was made, and here it is */
            settle_made(r);
        else
            resolve_intent(r, "refused");
        break;
    case LIFE_WAITING: /* refused; or it came up and went off, which the ledger knows */
    case LIFE_ABSENT:
    case LIFE_RELEASED: resolve_intent(r, "refused"); break;
    case LIFE_RUNNING:
    case LIFE_STARTING:
        settle_made(r);
        break; /* one that is watched: a new one goes through rented_keep_then() */
    case LIFE_STOPPING:
        if (was == LIFE_CREATING || was == LIFE_UNKNOWN) /* its answer came; or it was seen to be on */
            settle_made(r);
        break;
    case LIFE_UNKNOWN:
    case LIFE_CREATING:
    case LIFE_RELEASING: break;
    }
}

/* ---- second machines ---- */

/* A second machine is in the books under a name of its own: "gpu1+pro-2". */
static void name_spare(const struct rented *r, const char *id, char out[static SPARE_NAME_MAX])
{
    snprintf(out, SPARE_NAME_MAX, "%s+%s", r->context.name, id);
}

/* It began by the call that it is named after, which was never heard of. One that is off, and of which
 * nothing is known, was counted as the one there was. */
static void read_spare(struct rented *r, const struct instance_seen *m)
{
    char name[SPARE_NAME_MAX];

    name_spare(r, m->id, name);
    ledger_read(account_ledger(r->context.account),
                &(struct ledger_reading){
                    .instance = name,
                    .machine = m->id,
                    .power = m->power,
                    .off_counts = true,
                    .started_at_ms = m->started_at_ms,
                    .stopped_at_ms = m->stopped_at_ms,
                    .asked_at_ms = m->power == INSTANCE_OFF ? 0 : m->started_at_ms,
                    .intent = m->power == INSTANCE_OFF ? NULL : m->name,
                    .list_rate_milli = rented_list_rate_milli(r),
                },
                account_now_ms(r->context.account));
}

static bool is_spare_seen(const struct rented *r, const char *instance)
{
    char name[SPARE_NAME_MAX];

    for (unsigned i = 0; i < r->n_spare; i++) {
        name_spare(r, r->spare[i].id, name);
        if (streq(name, instance))
            return true;
    }
    return false;
}

/* Those that the provider no longer has, or had when a daemon before this one read it. */
static void end_lost_spares(struct rented *r)
{
    struct ledger *g = account_ledger(r->context.account);
    size_t n = strlen(r->context.name);
    const struct spent_record *row;

    for (unsigned i = 0; (row = ledger_row_at(g, i)); i++)
        if (!row->to_at_ms && strncmp(row->instance, r->context.name, n) == 0 && row->instance[n] == '+' &&
            !is_spare_seen(r, row->instance))
            ledger_gone(g, row->instance, account_now_ms(r->context.account));
}

/* ---- states ---- */

/* By the provider's stamp, if it is no older than our last call. A stop of before this daemon keeps its time,
 * or has the provider's, who counts the days until it is given back. */
static void note_stopped(struct rented *r)
{
    int64_t stamp = r->seen.stopped_at_ms;

    if (stamp && (r->was_stopped || stamp >= paid_at_ms(r) - LEDGER_SKEW_MS))
        r->record.stopped_at_ms = stamp;
    else if (!r->was_stopped || !r->record.stopped_at_ms)
        r->record.stopped_at_ms = account_now_ms(r->context.account);
    r->was_stopped = true;
}

/* Still on, if it was: a start that is watched is no new one. */
static bool may_be_on(enum life_state s)
{
    return s == LIFE_RUNNING || s == LIFE_UNKNOWN || s == LIFE_STARTING;
}

static void note_since(struct rented *r, enum life_state now)
{
    r->since_at_ms = clock_wall_ms();
    r->stop_asked_at_ms = now == LIFE_STOPPING ? r->since_at_ms : 0;
}

/* The facts that go with a state of its life, which knows no more of the one before. */
static void note_entered(struct rented *r, enum life_state was, enum life_state now)
{
    bool was_refused = (was == LIFE_CREATING || was == LIFE_STARTING) && r->intent_open;

    settle_intent(r, was, now);
    r->went_off = r->went_off || !may_be_on(now);
    r->price_is_waived &= may_be_on(now);
    if (life_is_at_rest(now) || now == LIFE_STOPPING || now == LIFE_WAITING)
        r->paid_due = 0; /* whoever switches it on next is not waited for from there on */
    note_since(r, now);
    r->was_powered = r->was_powered || now == LIFE_RUNNING || (was == LIFE_CREATING && now == LIFE_STARTING);
    if (now == LIFE_WAITING && was_refused)
        rented_note_refused(r);
    if (now == LIFE_RUNNING)
        r->record.search_until_at_ms = 0;
    if (now == LIFE_STOPPED) {
        if (rented_was_drill(r) && was != LIFE_STOPPING)
            r->record.drilled_at_ms = r->since_at_ms; /* nobody but the guard was asked to */
        note_stopped(r);
    } else if (now == LIFE_RUNNING || now == LIFE_STARTING) {
        r->was_stopped = false;
    }
    if (now == LIFE_WAITING || life_is_at_rest(now)) /* also those of a daemon before this one */
        account_release(r->context.account, r->context.name,
                        life_goal(r->life) != LIFE_GOAL_ON); /* else it is kept as soon as it is there */
    if (!life_is_at_rest(now) || now == LIFE_STOPPED)
        return;
    ledger_gone(account_ledger(r->context.account), r->context.name, account_now_ms(r->context.account));
    r->n_spare = 0;
    end_lost_spares(r);
}

static void rented_keep(void *ctx, const struct life_record *l)
{
    struct rented *r = ctx;

    if (l->state != r->kept_state)
        note_entered(r, r->kept_state, l->state);
    r->kept_state = l->state;
    r->was_unsure = r->was_unsure || (l->state == LIFE_UNKNOWN && rented_is_unheard(l));
    take_record(r, l);
    rented_write(r);
}

static void keeping_end(struct rented *r, const struct fault *f)
{
    op_end(&r->keeping.op);
    r->keeping.done(r->keeping.ctx, f);
}

/* What is not asked costs nothing, whenever the disk hears of it. */
static void keeping_cancel(struct op *op)
{
    struct rented *r = CONTAINER_OF(op, struct rented, keeping.op);

    op_cancel(&r->keeping.inner);
    timer_disarm(r->pace_timer);
    resolve_intent(r, "not_asked");
}

/* By now the account has heard what time it is there. */
static void note_paid(struct rented *r)
{
    r->paid_at_ms = account_now_ms(r->context.account);
    if (life_state(r->life) == LIFE_CREATING)
        r->record.made_at_ms = r->paid_at_ms; /* on disk with what comes of it */
}

static void on_pace(void *ctx)
{
    struct rented *r = ctx;

    account_called(r->context.account, r);
    note_paid(r);
    runq_add(r->context.loop, &r->changed);
    keeping_end(r, NULL);
}

static void on_written(void *ctx, const struct fault *f)
{
    struct rented *r = ctx;
    uint64_t now = clock_now_ms(), due = f ? now : account_claim_call(r->context.account, r, now);

    if (f) {
        resolve_intent(r, "not_asked");
        runq_add(r->context.loop, &r->changed);
        keeping_end(r, f);
    } else if (due > now) { /* another machine of this account was asked for just now */
        timer_arm(r->pace_timer, MIN(due - now, PACE_MS_MAX));
    } else {
        on_pace(r);
    }
}

static void on_reserved(void *ctx, const struct fault *f)
{
    struct rented *r = ctx;

    if (f && f->kind == FAULT_EXHAUSTED)
        r->intent_open = false; /* there is none */
    if (f)
        on_written(r, f);
    else
        store_after(r->context.store, r->keeping.record, &r->keeping.inner, on_written, r);
}

bool rented_is_reserving(const struct rented *r)
{
    return r->keeping.op.slot != NULL;
}

/* Where nobody knows the price it was let go with a limit, and costs no more than that. */
static int64_t start_rate_milli(const struct rented *r, bool create)
{
    int64_t own = create || r->record.no_card ? 0 : r->record.rate_milli;
    int64_t milli = own ? own : rented_list_rate_milli(r);

    return milli ? milli : rented_ceiling_milli(r);
}

/* How long it will bill at least, once it is on: without its card it is on for as long as it is kept. */
static uint64_t at_least_ms(const struct rented *r)
{
    const struct settings *s = r->context.settings;
    int64_t kept_ms = r->record.no_card ? r->record.hold_until_at_ms - clock_wall_ms() : 0;
    char what[80];

    snprintf(what, sizeof what, "power_on - %s", r->context.name);
    return MAX(MAX(store_usual_ms(r->context.store, what), BOOT_MS_MIN) + settings_ms(s, "idle", "min_up") +
                   settings_ms(s, "guard", "lease") + PERIOD_MS,
               (uint64_t)MAX(kept_ms, (int64_t)0));
}

/* Names are never used again. The time is in them because numbers are: a lease that was given back counts
 * anew when there is one of its name again. */
static void name_intent(struct rented *r)
{
    snprintf(r->intent, sizeof r->intent, "%s-%u-%" PRId64, r->prefix, r->record.made, r->record.asked_at_ms);
}

/* What was known of the one before it is not true of this one. */
static void forget_machine(struct rented *r)
{
    r->record.stopped_at_ms = r->record.drilled_at_ms = r->record.prepaid_until_at_ms = 0;
    r->record.rate_milli = r->rate_milli = 0;
    r->was_stopped = false;
    rented_choose_timer(r);
}

/* Its record and its money are one transaction: what is queued in one turn of the loop (store.h). */
static void rented_keep_then(void *ctx, const struct life_record *l, bool money, struct op **slot,
                             op_done_fn done, void *done_ctx)
{
    struct rented *r = ctx;
    struct rented_keeping *k = &r->keeping;
    bool create = l->state == LIFE_CREATING;

    if (r->kept_state != l->state)
        note_since(r, l->state);
    r->kept_state = l->state;
    take_record(r, l);
    if (create) {
        forget_machine(r);
        r->record.made_at_ms = account_now_ms(r->context.account);
        rented_replace(&r->record.card, r->card);
        r->context.makes(r->context.ctx);
    }
    store_ticket t = store_put_rental(r->context.store, r->context.name, &r->record);

    if (!money) {
        store_after(r->context.store, t, slot, done, done_ctx);
        return;
    }
    name_intent(r);
    r->intent_open = true;
    r->paid_due = clock_now_ms();
    r->tries++;
    r->drilled_due = 0;
    r->went_off = true;
    r->has_no_card = r->record.no_card;
    k->record = t;
    k->done = done;
    k->ctx = done_ctx;
    op_begin(&k->op, slot, keeping_cancel);
    account_reserve(r->context.account,
                    &(struct account_reservation){
                        .instance = r->context.name,
                        .machine = r->intent,
                        .kind = create ? "create" : "power_on",
                        .rate_milli = start_rate_milli(r, create),
                        .at_least_ms = at_least_ms(r),
                        .over = r->record.over_budget,
                        .is_free = r->record.prepaid_until_at_ms >
                                   account_now_ms(r->context.account) + (int64_t)at_least_ms(r),
                    },
                    &k->inner, on_reserved, r);
}

/* ---- what is seen ---- */

/* Paid for, or billed by time again, as the list has it; and its disk, where it is told. */
static void note_terms(struct rented *r)
{
    unsigned disk_gb = r->seen.disk_gb ? r->seen.disk_gb : r->record.disk_gb;

    if (r->record.prepaid_until_at_ms == r->seen.prepaid_until_at_ms && r->record.disk_gb == disk_gb)
        return;
    r->record.prepaid_until_at_ms = r->seen.prepaid_until_at_ms;
    rented_choose_timer(r);
    r->record.disk_gb = disk_gb;
    rented_write(r);
}

static void rented_seen(void *ctx, const struct instance_seen *m, const struct instance_seen *spare,
                        unsigned n_spare)
{
    struct rented *r = ctx;

    r->n_spare = 0;
    while (r->n_spare < MIN(n_spare, (unsigned)SPARE_MAX)) {
        r->spare[r->n_spare] = spare[r->n_spare];
        r->n_spare++;
    }
    r->seen = *m;
    r->seen_at_ms = clock_wall_ms();
    note_terms(r);
    r->was_powered = r->was_powered || m->power != INSTANCE_OFF;
    runq_add(r->context.loop, &r->read);
}

/* Once for each day that is left. */
static void tell_release(struct rented *r)
{
    struct rented_figures n;
    char left[TEXT_SHORT_MAX];
    int64_t left_ms;

    if (!rented_is_released_soon(r)) {
        r->days_told = -1;
        return;
    }
    rented_figures(r, &n);
    left_ms = MAX(n.released_at_ms - account_now_ms(r->context.account), (int64_t)0);
    if (r->days_told == (int)(left_ms / DAY_MS))
        return;
    r->days_told = (int)(left_ms / DAY_MS);
    event_publish(LOG_LEVEL_WARNING, LOG_PROVIDER, r->context.name, "released_soon",
                  "%s gives it back with its data in %s unless it is switched on before",
                  account_ops(r->context.account)->title, duration_format(left, (uint64_t)left_ms, false));
}

/* An off is one when the life has believed it: this runs after it has heard of it. */
void rented_on_read(void *ctx)
{
    struct rented *r = ctx;
    enum life_state s = life_state(r->life);
    bool by_others = s == LIFE_RUNNING && !r->record.ours;

    if (!r->seen_at_ms)
        return;
    if (s == LIFE_STOPPED && r->seen.stopped_at_ms > r->record.stopped_at_ms) {
        r->record.stopped_at_ms = r->seen.stopped_at_ms; /* it came late */
        rented_write(r);
    }
    ledger_read(account_ledger(r->context.account),
                &(struct ledger_reading){
                    .instance = r->context.name,
                    .machine = r->seen.id,
                    .power = r->seen.power,
                    .off_counts = s == LIFE_STOPPED || s == LIFE_WAITING || s == LIFE_RELEASING,
                    .started_at_ms = r->seen.started_at_ms,
                    .stopped_at_ms = r->seen.stopped_at_ms,
                    .asked_at_ms = by_others ? 0 : paid_at_ms(r),
                    .intent = by_others || !*r->intent ? NULL : r->intent,
                    .rate_milli = rented_is_without_card(r) ? 0 : r->rate_milli,
                    .list_rate_milli = rented_list_rate_milli(r),
                    .prepaid_until_at_ms = r->record.prepaid_until_at_ms,
                    .disk_day_milli = rented_disk_day_milli(r),
                    .known_at_ms = r->record.made_at_ms ? r->record.made_at_ms : r->context.known_at_ms,
                    .is_adopted = r->record.adopted,
                    .no_card = rented_is_without_card(r),
                },
                account_now_ms(r->context.account));
    for (unsigned i = 0; i < r->n_spare; i++)
        read_spare(r, &r->spare[i]);
    end_lost_spares(r);
    tell_release(r);
    rented_watch_timer(r);
    runq_add(r->context.loop, &r->changed);
}

/* A list that leaves out a machine we are logged in to is wrong, and what is believed gone may be made again.
 */
static bool rented_answers(void *ctx)
{
    const struct rented *r = ctx;

    return r->on && r->session_up;
}

static int64_t rented_their_now_ms(void *ctx)
{
    const struct rented *r = ctx;

    return account_their_now_ms(r->context.account);
}

/* ---- beginning ---- */

static void rented_listed(void *ctx, const struct instance_seen *seen, unsigned n)
{
    const struct rented *r = ctx;

    account_listed(r->context.account, seen, n);
}

static bool rented_is_taken(void *ctx, const char *name)
{
    const struct rented *r = ctx;

    return account_name_is_taken(r->context.account, name);
}

void rented_end_life(struct rented *r)
{
    r->life = life_free(r->life);
    r->pace_timer = timer_free(r->pace_timer);
}

void rented_begin_life(struct rented *r)
{
    const struct rental_record *from = &r->record;
    struct life_record l = {
        .state = state_of(from->state),
        .goal = goal_of(from->goal),
        .made = from->made,
        .asked_at_ms = from->asked_at_ms,
        .create_open = from->create_open,
        .ours = from->ours,
        .was_on = from->was_on,
        .adopted = from->adopted,
        .acted = from->acted,
    };
    const struct life_context context = {
        .loop = r->context.loop,
        .name = r->context.name,
        .prefix = r->prefix,
        .ops = account_ops(r->context.account),
        .rental = account_rental(r->context.account),
        .wish = &r->wish,
        .settle_ms = settings_ms(r->context.settings, "guard", "settle"),
        .stop_alarm_ms = settings_ms(r->context.settings, "guard", "stop_alarm"),
        .keep = rented_keep,
        .keep_then = rented_keep_then,
        .seen = rented_seen,
        .listed = rented_listed,
        .wait_ms = rented_wait_ms,
        .answers = rented_answers,
        .is_taken = rented_is_taken,
        .their_now_ms = rented_their_now_ms,
        .changed = rented_on_life,
        .ctx = r,
    };
    bool is_new = l.state == LIFE_ABSENT && l.goal == LIFE_GOAL_OFF && !l.made && !from->id;

    snprintf(l.id, sizeof l.id, "%s", from->id ? from->id : "");
    r->was_stopped = l.state == LIFE_STOPPED;
    rented_learn_price(r);
    rented_restore_hunt(r);
    r->days_told = -1;
    if (l.asked_at_ms)
        name_intent(r);
    r->pace_timer = timer_new(r->context.loop, on_pace, r);
    r->life = life_new(&context, is_new ? NULL : &l);
    r->kept_state = life_state(r->life);
    r->since_at_ms = clock_wall_ms();
}
