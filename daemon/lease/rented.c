/* The object. Its life (life.h) says whether the machine is on; from then on the way in is read until it is
 * there, the lease brings up the session, the keeper brings the guard. Each step may end it: a price above
 * what was allowed, a guard that cannot be. What the life works with is in rented_life.c. */
#include "lease/rented_private.h"

#include "base/clock.h"
#include "base/event.h"
#include "base/settings.h"
#include "base/timer.h"
#include "lease/account.h"
#include "proto/mem.h"
#include "proto/text.h"

#define WAY_MS     2500u   /* between two reads of a way in that is not there yet */
#define PRICE_MS   600000u /* of one that somebody is in by: for its price */
#define WAY_MS_MAX 30000u  /* where they fail; and of one that is there, while nobody gets in by it */
#define DRILL_MS   600000u /* an off that comes later than this is not the guard's */
#define GUARD_MS   180000u /* from the first login: with no guard read back by then it goes off again */

static void rented_ask_way(struct rented *r);

static void tell(struct rented *r)
{
    runq_add(r->context.loop, &r->changed);
}

static void on_changed(void *ctx)
{
    struct rented *r = ctx;

    r->context.changed(r->context.ctx);
}

/* ---- ending it ---- */

/* We end what we began. Of one that somebody else switched on it is only said. */
static void rented_give_up(struct rented *r, const char *code, const char *text)
{
    bool is_news = !streq(r->fault.code, code);

    fault_code(&r->fault, FAULT_DENIED, code, "%s", text);
    if (is_news)
        event_publish(LOG_LEVEL_ERR, LOG_PROVIDER, r->context.name, code, "%s", text);
    if (r->record.ours && !r->is_anothers)
        life_want(r->life, LIFE_GOAL_OFF);
    tell(r);
}

/* The price list is a promise of nothing: what it costs is read when it is on. */
static bool is_too_dear(struct rented *r)
{
    const char *unit = account_ops(r->context.account)->unit;
    int64_t most = rented_ceiling_milli(r);
    char costs[TEXT_SHORT_MAX], allowed[TEXT_SHORT_MAX], text[200];

    if (!r->record.ours || !most || r->rate_milli <= most || rented_prepaid_until_at_ms(r))
        return false;
    snprintf(text, sizeof text, "the machine costs %s an hour, and at most %s was allowed: it is switched off again",
             money_format(costs, r->rate_milli, unit), money_format(allowed, most, unit));
    rented_give_up(r, "price", text);
    return true;
}

/* ---- the way in ---- */

static bool is_complete(const struct instance_way *way)
{
    return *way->host && way->port && *way->password;
}

/* It was on for a while and cannot be reached: a reader has to know, and we go on. */
static void watch_way(struct rented *r)
{
    char took[TEXT_SHORT_MAX];
    uint64_t age_ms = clock_now_ms() - r->on_due;

    if (r->has_way || r->fault.kind || age_ms < 2 * settings_ms(r->context.settings, "guard", "settle"))
        return;
    fault_code(&r->fault, FAULT_TRANSIENT, "no_way",
               "the machine is on, and the provider has no address and password of it after %s",
               duration_format(took, age_ms, false));
    event_publish(LOG_LEVEL_WARNING, LOG_PROVIDER, r->context.name, "no_way", "%s", r->fault.text);
    tell(r);
}

/* While it is not there; while nobody gets in, for it may be another one by now; while its price is unknown.
 * Else rarely: the price may change. */
static void arm_way(struct rented *r)
{
    if (!r->has_way || !r->session_up || (!r->rate_milli && !rented_is_without_card(r)))
        timer_arm(r->way_timer, MIN((uint64_t)WAY_MS << MIN(r->n_reads, 4u), WAY_MS_MAX));
    else
        timer_arm(r->way_timer, PRICE_MS);
}

static void note_usual_boot(struct rented *r)
{
    char what[80];

    snprintf(what, sizeof what, "power_on - %s", r->context.name);
    if (r->paid_due)
        store_put_duration(r->context.store, what, clock_now_ms() - r->paid_due);
    r->paid_due = 0;
}

static void take_price(struct rented *r, int64_t milli)
{
    if (!milli || milli == r->rate_milli || rented_is_without_card(r)) /* it is told with the card */
        return;
    r->rate_milli = milli;
    if (r->record.rate_milli != milli) {
        r->record.rate_milli = milli;
        rented_learn_price(r);
        rented_write(r);
    }
    runq_add(r->context.loop, &r->read);
}

static void on_reach(void *ctx, const struct instance_way *way, const struct fault *f)
{
    struct rented *r = ctx;

    r->n_reads = f || r->has_way ? r->n_reads + 1 : 0;
    if (!f)
        take_price(r, way->price_milli);
    if (!f && is_too_dear(r))
        return;
    if (!f && is_complete(way) && !r->session_up) {
        if (!r->has_way)
            note_usual_boot(r);
        r->has_way = true;
        if (streq(r->fault.code, "no_way"))
            r->fault = (struct fault){0};
        r->context.way(r->context.ctx, way);
        tell(r);
    }
    watch_way(r);
    arm_way(r);
}

static void rented_ask_way(struct rented *r)
{
    if (!r->reach && r->record.id)
        account_ops(r->context.account)
            ->reach(account_rental(r->context.account), r->record.id, &r->reach, on_reach, r);
}

static void on_way_timer(void *ctx)
{
    rented_ask_way(ctx);
}

/* ---- on and off ---- */

static void rented_begins(struct rented *r)
{
    r->has_no_card = rented_is_without_card(r); /* until it is off, whatever is wanted then */
    r->on = true;
    r->on_due = clock_now_ms();
    r->has_way = r->guarded = false;
    r->n_reads = 0;
    r->rate_milli = 0;
    r->had_guard = true;
    rented_ask_way(r);
}

/* That one of somebody else had no guard: it ended nothing, and is over. Of ours it is why it is off. */
static void forget_others_guard(struct rented *r)
{
    if (!r->record.ours && streq(r->fault.code, "no_guard"))
        r->fault = (struct fault){0};
}

static void rented_ends(struct rented *r)
{
    r->on = r->has_way = r->guarded = r->is_anothers = false;
    op_cancel(&r->reach);
    timer_disarm(r->way_timer);
    timer_disarm(r->guard_timer);
    keeper_way(r->keeper, false); /* until it is off its guard may still act, and people see when */
    if (streq(r->fault.code, "no_way"))
        r->fault = (struct fault){0};
    forget_others_guard(r);
    r->context.way(r->context.ctx, NULL);
}

/* What is known of its guard is of another boot. */
static void rented_forget_guard(struct rented *r)
{
    if (r->had_guard)
        keeper_forget(r->keeper);
    r->had_guard = false;
}

/* From the run queue, after the life changed. One that is on and about which the provider says something else
 * for a while keeps its session: what runs over it is not cut by a word that nobody knows. */
void rented_on_life(void *ctx, struct life *l)
{
    struct rented *r = ctx;
    bool on = life_state(l) == LIFE_RUNNING;

    if (r->on && r->went_off)
        rented_ends(r);
    r->went_off = false;
    if ((on && !r->on) || life_is_at_rest(life_state(l)))
        rented_forget_guard(r);
    if (on && !r->on)
        rented_begins(r);
    else if (on && r->is_doubtful)
        rented_ask_way(r);
    r->is_doubtful = r->on && !on;
    tell(r);
}

/* ---- the guard ---- */

static void rented_without_guard(struct rented *r, const char *why)
{
    char text[300];

    snprintf(text, sizeof text, "no guard could be read back on it (%.200s)%s",
             *why ? why : "it did not answer", r->record.ours ? ": it is switched off again" : "");
    rented_give_up(r, "no_guard", text);
}

static void on_guard_timer(void *ctx)
{
    struct rented *r = ctx;

    if (r->on && !rented_is_guarded(r))
        rented_without_guard(r, keeper_fault(r->keeper)->text);
}

static void on_keeper(void *ctx)
{
    struct rented *r = ctx;
    enum keeper_state s = keeper_state(r->keeper);

    if (r->on && (s == KEEPER_KEPT || s == KEEPER_REFUSED)) {
        r->guarded = true;
        r->is_anothers = s == KEEPER_REFUSED;
        timer_disarm(r->guard_timer);
        forget_others_guard(r);
    }
    if (r->on && s == KEEPER_USELESS) {
        r->guarded = false;
        if (!r->record.no_guard)
            rented_without_guard(r, keeper_fault(r->keeper)->text);
    }
    tell(r);
}

static void on_seq_used(void *ctx, uint64_t seq)
{
    struct rented *r = ctx;

    r->record.guard_seq = seq;
    rented_write(r);
}

bool rented_is_guarded(const struct rented *r)
{
    return r->on && (r->guarded || r->record.no_guard);
}

bool rented_is_left_alone(const struct rented *r)
{
    return r->record.adopted && !r->record.ours;
}

/* Its guard can be asked, and may be put there. */
static void rented_open_guard(struct rented *r)
{
    bool open = r->session_up && r->on && r->has_way && !rented_is_left_alone(r);

    keeper_way(r->keeper, open);
    if (open && !rented_is_guarded(r) && !timer_is_armed(r->guard_timer))
        timer_arm(r->guard_timer, GUARD_MS);
}

void rented_on_session(struct rented *r, bool up)
{
    if (r->session_up != up && r->has_way) {
        r->session_up = up;
        r->n_reads = 0;
        timer_disarm(r->way_timer);
        arm_way(r); /* when it is down: it may have been switched off and on behind our back */
    }
    r->session_up = up;
    if (!up && r->is_doubtful)
        r->guarded = false; /* it may be another boot that we find */
    rented_open_guard(r);
    tell(r);
}

store_ticket rented_hold(struct rented *r, uint64_t for_ms)
{
    r->record.hold_until_at_ms = for_ms ? clock_wall_ms() + (int64_t)for_ms : RENTAL_HOLD_OVER;
    keeper_hold(r->keeper, (uint32_t)MIN(for_ms / 1000, (uint64_t)GUARD_HOLD_S_MAX));
    return store_put_rental(r->context.store, r->context.name, &r->record);
}

void rented_take(struct rented *r)
{
    keeper_take(r->keeper);
}

bool rented_was_drill(const struct rented *r)
{
    return r->drilled_due && clock_now_ms() - r->drilled_due < DRILL_MS;
}

/* Its owner is told through us, so that we know that it was the guard. */
struct drill {
    struct op op;
    struct op *inner;
    struct rented *rented;
    op_done_fn done;
    void *ctx;
};

static void drill_cancel(struct op *op)
{
    struct drill *d = CONTAINER_OF(op, struct drill, op);

    op_cancel(&d->inner);
    d->rented->drill = NULL;
    free(d);
}

static void drill_on_told(void *ctx, const struct fault *f)
{
    struct drill d = *(struct drill *)ctx;

    op_end(&((struct drill *)ctx)->op);
    d.rented->drill = NULL;
    /* It may have gone off before it could say that it has taken it. */
    d.rented->drilled_due = (!f || f->kind == FAULT_UNCERTAIN) && d.rented->on ? clock_now_ms() : 0;
    free(ctx);
    d.done(d.ctx, f);
}

void rented_stop_by_guard(struct rented *r, struct op **slot, op_done_fn done, void *ctx)
{
    static const struct fault again = {
        .kind = FAULT_INVALID, .code = "already", .text = "its guard is being told to stop it already"};

    if (r->drill) {
        op_finish_later(r->context.loop, slot, &again, done, ctx);
        return;
    }
    struct drill *d = xnew(struct drill);

    d->rented = r;
    d->done = done;
    d->ctx = ctx;
    op_begin(&d->op, slot, drill_cancel);
    r->drill = &d->op;
    keeper_stop_now(r->keeper, &d->inner, drill_on_told, d);
}

/* Whoever waits for it is answered, and we are gone then. */
static void drill_abandon(struct rented *r)
{
    static const struct fault gone = {.kind = FAULT_GONE, .text = "the machine is no longer ours"};

    if (!r->drill)
        return;
    struct drill *d = CONTAINER_OF(r->drill, struct drill, op);
    struct op **slot = d->op.slot;

    op_cancel(&d->inner);
    op_end(&d->op);
    op_finish_later(r->context.loop, slot, &gone, d->done, d->ctx);
    free(d);
}

/* ---- beginning and end ---- */

static void copy_record(struct rental_record *to, const struct rental_record *from)
{
    *to = *from;
    to->state = xstrdup(from->state);
    to->goal = xstrdup(from->goal);
    to->id = xstrdup(from->id);
    to->card = xstrdup(from->card);
    to->image = xstrdup(from->image);
    to->region = xstrdup(from->region);
    to->gpu = xstrdup(from->gpu);
}

static struct keeper *make_keeper(struct rented *r)
{
    const struct settings *s = r->context.settings;
    const struct keeper_context context = {
        .loop = r->context.loop,
        .host = r->context.host,
        .name = r->context.name,
        .owner = store_daemon_id(r->context.store),
        .lease_s = (uint32_t)(settings_ms(s, "guard", "lease") / 1000),
        .first_s = (uint32_t)(settings_ms(s, "guard", "first") / 1000),
        .seq = r->record.guard_seq,
        .seq_used = on_seq_used,
        .changed = on_keeper,
        .ctx = r,
    };

    return keeper_new(&context);
}

struct rented *rented_new(const struct rented_context *context, const struct rental_record *record)
{
    struct rented *r = xnew(struct rented);

    r->context = *context;
    copy_record(&r->record, record);
    r->wanted_due = clock_past_due(record->wanted_at_ms, clock_now_ms());
    work_init(&r->changed, on_changed, r);
    work_init(&r->read, rented_on_read, r);
    r->way_timer = timer_new(context->loop, on_way_timer, r);
    r->guard_timer = timer_new(context->loop, on_guard_timer, r);
    snprintf(r->prefix, sizeof r->prefix, "%s-%s", store_daemon_id(context->store), context->name);
    guard_dog_format(r->dog, (uint32_t)(settings_ms(context->settings, "guard", "first") / 1000));
    r->wish = (struct instance_wish){
        .card = r->card,
        .image = r->record.image,
        .disk_gb = r->record.disk_gb,
        .start = {.start_command = record->no_guard ? NULL : r->dog, .no_card = record->no_card},
    };
    r->first_ms = settings_ms(context->settings, "guard", "first");
    r->keeper = make_keeper(r);
    rented_choose_timer(r);
    if (record->hold_until_at_ms > clock_wall_ms()) /* it may not have heard of it */
        keeper_hold(r->keeper, (uint32_t)((record->hold_until_at_ms - clock_wall_ms()) / 1000));
    else if (record->hold_until_at_ms == RENTAL_HOLD_OVER)
        keeper_hold(r->keeper, 0);
    rented_begin_life(r);
    return r;
}

struct rented *rented_free(struct rented *r)
{
    if (!r)
        return NULL;
    drill_abandon(r);
    rented_end_life(r);
    op_cancel(&r->reach);
    op_cancel(&r->timer_call);
    r->keeper = keeper_free(r->keeper);
    r->way_timer = timer_free(r->way_timer);
    r->guard_timer = timer_free(r->guard_timer);
    runq_drop(&r->changed);
    runq_drop(&r->read);
    free(r->record.state);
    free(r->record.goal);
    free(r->record.id);
    free(r->record.card);
    free(r->record.image);
    free(r->record.region);
    free(r->record.gpu);
    free(r);
    return NULL;
}

/* ---- what is wanted ---- */

void rented_want(struct rented *r, enum life_goal goal)
{
    bool is_said = goal == life_goal(r->life);

    if (goal != LIFE_GOAL_ON && r->is_anothers) {
        life_leave(r->life);
        tell(r);
        return;
    }
    if (goal == LIFE_GOAL_ON && !is_said) {
        r->fault = (struct fault){0};
        r->was_powered = r->on;
        r->was_unsure = false;
        r->tries = 0;
        r->record.wanted_at_ms = clock_wall_ms();
        r->wanted_due = (int64_t)clock_now_ms();
        rented_begin_hunt(r);
    }
    /* A word that was said is said once more where it may change something: about one that is on, or may be,
     * and not by us. */
    if (!is_said || (goal != LIFE_GOAL_ON && (r->on || life_state(r->life) == LIFE_UNKNOWN)))
        life_want(r->life, goal);
    if (goal == LIFE_GOAL_ON && r->on) {
        rented_ask_way(r); /* its price is ours to judge now */
        rented_open_guard(r);
    }
}

void rented_end_wish(struct rented *r, const struct fault *why)
{
    struct fault f = *why; /* it may be the life's, which is over */

    rented_want(r, LIFE_GOAL_OFF);
    r->fault = f;
    tell(r);
}

bool rented_was_never_made(const struct rented *r)
{
    return r->record.never_made && life_state(r->life) == LIFE_ABSENT &&
           life_goal(r->life) == LIFE_GOAL_OFF;
}

void rented_keep_name(struct rented *r)
{
    if (!r->record.by_search)
        return;
    r->record.by_search = false;
    rented_write(r);
}

void rented_limit_price(struct rented *r, int64_t milli)
{
    int64_t before = r->record.max_price_milli;
    enum life_state s = life_state(r->life);
    bool rests = life_is_at_rest(s) || (s == LIFE_WAITING && !rented_is_reserving(r));

    if (milli == before || (!rests && (!before || milli < before)))
        return;
    r->record.max_price_milli = milli;
    rented_write(r);
    rented_choose_card(r);
}

void rented_look_until(struct rented *r, int64_t at_ms)
{
    if (r->record.search_until_at_ms == at_ms)
        return;
    r->record.search_until_at_ms = at_ms;
    rented_write(r);
    tell(r); /* who ends it looks at another time */
}

void rented_note_used(struct rented *r, int64_t at_ms)
{
    r->record.used_at_ms = at_ms;
    rented_write(r);
}

bool rented_may_look(const struct rented *r)
{
    return hunt_current(&r->hunt) != NULL;
}

const struct hunt *rented_hunt(const struct rented *r)
{
    return &r->hunt;
}

void rented_allow(struct rented *r, bool over_budget, bool no_guard)
{
    r->record.over_budget = r->record.over_budget || over_budget;
    r->record.no_guard = r->record.no_guard || no_guard;
    r->wish.start.start_command = r->record.no_guard ? NULL : r->dog;
    rented_write(r);
    tell(r);
}

void rented_hold_to_limits(struct rented *r, bool keeps_price)
{
    r->price_is_waived = keeps_price && (r->price_is_waived || (r->record.over_budget && r->on));
    r->record.over_budget = false;
    rented_write(r);
    tell(r);
}

store_ticket rented_leave_card(struct rented *r, bool without)
{
    r->record.no_card = r->wish.start.no_card = without;
    tell(r);
    return store_put_rental(r->context.store, r->context.name, &r->record);
}

bool rented_is_without_card(const struct rented *r)
{
    enum life_state s = life_state(r->life);

    return r->record.no_card || ((r->on || s == LIFE_STOPPING) && r->has_no_card) ||
           (s == LIFE_RUNNING && r->seen.no_card);
}

bool rented_may_overspend(const struct rented *r)
{
    return r->record.over_budget;
}

void rented_doubt(struct rented *r)
{
    life_doubt(r->life);
    if (r->on)
        rented_ask_way(r);
}

/* ---- what people see ---- */

const struct life *rented_life(const struct rented *r)
{
    return r->life;
}

struct account *rented_account(const struct rented *r)
{
    return r->context.account;
}

const struct rental_record *rented_record(const struct rented *r)
{
    return &r->record;
}

bool rented_is_anothers(const struct rented *r)
{
    return r->is_anothers;
}

const struct keeper *rented_keeper(const struct rented *r)
{
    return r->keeper;
}

void rented_figures(const struct rented *r, struct rented_figures *ret)
{
    uint64_t kept_ms = account_ops(r->context.account)->released_after_ms;
    enum life_state s = life_state(r->life);

    *ret = (struct rented_figures){
        .state = s,
        .goal = life_goal(r->life),
        .since_at_ms = r->since_at_ms,
        .seen_at_ms = r->seen_at_ms,
        .is_none = life_is_none(r->life),
        .asks = life_is_asking(r->life),
        .next_at_ms = s == LIFE_WAITING ? life_next_at_ms(r->life) : 0,
        .tries = r->tries,
        .rate_milli = rented_is_without_card(r) ? 0 : r->rate_milli, /* that was with the card */
        .list_rate_milli = rented_list_rate_milli(r),
        .wanted_due = r->wanted_due,
        .was_powered = r->was_powered,
        .is_unsure = !r->was_powered && (r->was_unsure || rented_is_unheard(life_record(r->life))),
        .stop_asked_at_ms = r->stop_asked_at_ms,
        .asked_at_ms = life_asked_at_ms(r->life),
        .doubted_until_at_ms = life_doubted_until_at_ms(r->life),
    };
    ret->guard_told = rented_was_drill(r) && !life_is_at_rest(s);
    if (!life_is_missing(r->life))
        snprintf(ret->word, sizeof ret->word, "%s", r->seen.word);
    ret->off_at_ms = r->on ? r->seen.off_at_ms : 0;
    ret->timer_lacks = r->on && r->timer_fault.kind ? r->timer_fault.text : NULL;
    if (kept_ms && s == LIFE_STOPPED && r->record.stopped_at_ms)
        ret->released_at_ms = r->record.stopped_at_ms + (int64_t)kept_ms;
}

static void describe_price(const struct rented *r, char out[static TEXT_SHORT_MAX + 8])
{
    int64_t list_milli = rented_list_rate_milli(r), milli = r->rate_milli ? r->rate_milli : list_milli;
    char price[TEXT_SHORT_MAX];

    if (rented_prepaid_until_at_ms(r))
        snprintf(out, TEXT_SHORT_MAX + 8, "paid for");
    else if (milli)
        snprintf(out, TEXT_SHORT_MAX + 8, "%s/h%s",
                 money_format(price, milli, account_ops(r->context.account)->unit), r->rate_milli ? "" : "~");
    else
        snprintf(out, TEXT_SHORT_MAX + 8, "?/h");
}

const char *rented_describe(const struct rented *r, char out[static RENTED_TEXT_MAX])
{
    const struct hunt_candidate *c = r->hunt.n ? &r->hunt.all[r->hunt.at] : NULL;
    const char *region = r->record.id ? rented_region(r) : c ? c->region : "";
    char count[16] = "", price[TEXT_SHORT_MAX + 8];

    if (c && c->cards > 1)
        snprintf(count, sizeof count, "x%u", c->cards);
    describe_price(r, price);
    snprintf(out, RENTED_TEXT_MAX, "%s%s%s%.60s, %s", c ? c->gpu : "its card", count,
             region && *region ? " in " : "", region ? region : "", price);
    return out;
}

bool rented_is_released_soon(const struct rented *r)
{
    int64_t third_ms = (int64_t)(account_ops(r->context.account)->released_after_ms / 3);
    struct rented_figures n;

    rented_figures(r, &n);
    return n.released_at_ms && n.released_at_ms - account_now_ms(r->context.account) <= third_ms;
}

const struct fault *rented_trouble(const struct rented *r)
{
    const struct fault *f = life_trouble(r->life);

    if (f->kind && !(streq(f->code, "stopped_elsewhere") && r->drilled_due))
        return f;
    if (r->fault.kind)
        return &r->fault;
    return r->on && r->session_up ? keeper_fault(r->keeper) : &r->fault;
}

enum rented_step rented_step(const struct rented *r)
{
    bool wanted = life_goal(r->life) == LIFE_GOAL_ON;

    switch (life_state(r->life)) {
    case LIFE_WAITING:
    case LIFE_CREATING: return RENTED_CAPACITY;
    case LIFE_STARTING:
        if (life_is_asking(r->life)) /* others may have taken its card meanwhile */
            return RENTED_CAPACITY;
        /* fall through */
    case LIFE_UNKNOWN:
        if (wanted && life_is_none(r->life)) /* as a daemon before this one left it */
            return RENTED_CAPACITY;
        if (r->on)
            break;
        return wanted ? RENTED_POWER_ON : RENTED_AT_REST;
    case LIFE_ABSENT: return wanted ? RENTED_CAPACITY : RENTED_AT_REST;
    case LIFE_STOPPED: return wanted ? RENTED_POWER_ON : RENTED_AT_REST;
    case LIFE_RUNNING: break;
    case LIFE_STOPPING:
    case LIFE_RELEASING:
    case LIFE_RELEASED: return RENTED_AT_REST;
    }
    if (!r->session_up)
        return RENTED_SSH;
    return rented_is_guarded(r) ? RENTED_THERE : RENTED_GUARD;
}
