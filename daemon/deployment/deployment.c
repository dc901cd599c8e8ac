/* The object: its record, its requests, who waits for it, what people see of it. Its life is in
 * deployment_fsm.c, its sleep in deployment_sleep.c, the stages of its way up in deployment_stages.c. */
#include "deployment/deployment_private.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "base/timer.h"
#include "engine/need.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "policy/alive.h"
#include "proto/json.h"
#include "proto/text.h"
#include "store/store.h"

/* ---- requests that wait until it is ready ---- */

struct hold {
    struct op op;
    struct list node;
    op_done_fn done;
    void *ctx;
    bool overtaken; /* a judge: the look that is under way began before it asked */
};

static void hold_cancel(struct op *op)
{
    struct hold *h = CONTAINER_OF(op, struct hold, op);

    list_remove(&h->node);
    free(h);
}

/* "ollama:x is off since 14:02 (llmhostctl down)"; with a date when that was not today. */
void deployment_describe_off(const struct deployment *d, struct fault *ret)
{
    time_t then = (time_t)(d->goal_at_ms / 1000), now = (time_t)(clock_wall_ms() / 1000);
    struct tm at, today;
    char since[40] = "";

    localtime_r(&then, &at);
    localtime_r(&now, &today);
    if (d->goal_at_ms)
        strftime(since, sizeof since,
                 at.tm_year == today.tm_year && at.tm_yday == today.tm_yday ? " since %H:%M"
                                                                            : " since %Y-%m-%d %H:%M",
                 &at);
    const char *text = strstr(d->ended, ": ");

    if (!text) {
        fault_code(ret, FAULT_GONE, "stopped_by_user", "%s is off%s (llmhostctl down)", d->name, since);
        return;
    }
    fault_code(ret, FAULT_GONE, "", "%s is off%s: %s", d->name, since, text + 2);
    snprintf(ret->code, sizeof ret->code, "%.*s", (int)(text - d->ended), d->ended);
}

bool deployment_needs_hand(const struct deployment *d, struct fault *ret)
{
    return lease_needs_hand(d->lease, ret);
}

const struct fault *deployment_refusal(const struct deployment *d)
{
    const struct rented *r = lease_rented(d->lease);

    return r && rented_step(r) < RENTED_SSH ? NULL : lease_refusal(d->lease);
}

/* Whether requests can be sent now, or will never be: true with *ret_fault NULL or the reason. */
static bool hold_is_over(const struct deployment *d, const struct fault **ret_fault, struct fault *room)
{
    const struct fault *refusal = deployment_refusal(d);

    *ret_fault = NULL;
    if (d->goal == GOAL_OFF && d->state != DEPLOYMENT_READY) {
        deployment_describe_off(d, room);
        *ret_fault = room;
        return true;
    }
    switch (d->state) {
    case DEPLOYMENT_READY: *ret_fault = refusal; return true;
    case DEPLOYMENT_FAILED: *ret_fault = &d->fault; return true;
    case DEPLOYMENT_OFF:
    case DEPLOYMENT_ASLEEP:
    case DEPLOYMENT_DRAINING:
    case DEPLOYMENT_STOPPING:
    case DEPLOYMENT_CONNECTING:
    case DEPLOYMENT_INSTALLING:
    case DEPLOYMENT_PLACING:
    case DEPLOYMENT_STARTING:
    case DEPLOYMENT_FETCHING:
    case DEPLOYMENT_LOADING: break;
    }
    return false;
}

/* The first of them. It may start another on us from there. */
static void hold_answer(struct list *holds, const struct fault *f)
{
    struct hold *h = LIST_FIRST(holds, struct hold, node);

    list_remove(&h->node);
    op_end(&h->op);
    h->done(h->ctx, f);
    free(h);
}

/* In order of arrival. */
void deployment_answer_holds(struct deployment *d)
{
    const struct fault *f;
    struct fault room = {};

    while (!list_is_empty(&d->holds) && hold_is_over(d, &f, &room))
        hold_answer(&d->holds, f);
}

void deployment_hold(struct deployment *d, struct op **slot, op_done_fn done, void *ctx)
{
    struct hold *h = xnew(struct hold);

    h->done = done;
    h->ctx = ctx;
    list_append(&d->holds, &h->node);
    op_begin(&h->op, slot, hold_cancel);
    runq_add(d->context.loop, &d->changed);
}

void deployment_judge(struct deployment *d, struct op **slot, op_done_fn done, void *ctx)
{
    struct hold *h = xnew(struct hold);

    h->done = done;
    h->ctx = ctx;
    h->overtaken = d->state == DEPLOYMENT_READY && d->op;
    list_append(&d->judges, &h->node);
    op_begin(&h->op, slot, hold_cancel);
    deployment_doubt(d);
    runq_add(d->context.loop, &d->look);
}

/* Those only who ask now: whoever is told may ask anew. */
void deployment_answer_judges(struct deployment *d, const struct fault *f, bool alive)
{
    struct list now;

    list_init(&now);
    LIST_FOREACH_SAFE (h, &d->judges, struct hold, node)
        if (!alive || !h->overtaken) {
            list_remove(&h->node);
            list_append(&now, &h->node);
        } else {
            h->overtaken = false;
        }
    while (!list_is_empty(&now))
        hold_answer(&now, f);
    if (alive && !list_is_empty(&d->judges))
        deployment_doubt(d);
}

void deployment_dial(struct deployment *d, struct op **slot, host_dial_fn done, void *ctx)
{
    host_dial(lease_host(d->lease), "127.0.0.1", d->engine->facts.port, HOST_STREAM, slot, done, ctx);
}

bool deployment_is_reachable(const struct deployment *d)
{
    return lease_is_reachable(d->lease);
}

/* ---- what the driver says ---- */

static void deployment_on_done(void *ctx, bool again, const struct fault *f)
{
    deployment_event(ctx, f ? DEPLOYMENT_EV_FAULT : again ? DEPLOYMENT_EV_AGAIN : DEPLOYMENT_EV_ANSWER, f);
}

/* The stage the present state is shown as, if it still runs: a step done before, and asked again, has nothing
 * new to tell. */
static struct stage_record *running_stage(struct deployment *d)
{
    enum stage s = d->state == DEPLOYMENT_FETCHING  ? STAGE_FETCH
                   : d->state == DEPLOYMENT_LOADING ? STAGE_LOAD
                                                    : STAGE_ENGINE;

    return d->stages[s].view.state == STAGE_RUNNING ? &d->stages[s] : NULL;
}

/* Bytes per second over the last five seconds or so. */
static void stage_count_bytes(struct stage_record *r, const struct engine_progress *p)
{
    uint64_t now = clock_now_ms();

    if (r->view.bytes < 0 || p->bytes < r->rate_from_bytes) {
        r->rate_from_due = now;
        r->rate_from_bytes = p->bytes;
    } else if (now - r->rate_from_due >= 500) {
        r->view.rate_bytes = (p->bytes - r->rate_from_bytes) * 1000 / (int64_t)(now - r->rate_from_due);
    }
    if (now - r->rate_from_due > 5000) {
        r->rate_from_due = now;
        r->rate_from_bytes = p->bytes;
    }
    r->view.bytes = p->bytes;
    r->view.bytes_total = p->bytes_total;
}

static void deployment_on_progress(void *ctx, const struct engine_progress *p)
{
    struct deployment *d = ctx;
    struct stage_record *r = running_stage(d);

    if (!r)
        return;
    if (p->bytes > r->highest_bytes && r->highest_bytes >= 0)
        d->attempts = 0; /* it goes forward: a loss now is a first one */
    r->highest_bytes = MAX(r->highest_bytes, p->bytes);
    if (p->bytes >= 0)
        stage_count_bytes(r, p);
    if (p->text)
        snprintf(r->view.text, sizeof r->view.text, "%s", p->text);
    r->view.changes++;
    runq_add(d->context.loop, &d->changed);
}

void deployment_find_room(struct deployment *d)
{
    char text[DEPLOYMENT_TEXT_MAX] = "";

    d->roomy = d->context.find_room(d->context.ctx, d, &d->crowded, text);
    if (streq(text, d->room))
        return;
    snprintf(d->room, sizeof d->room, "%s", text);
    runq_add(d->context.loop, &d->changed);
}

struct engine_reply deployment_reply(struct deployment *d)
{
    return (struct engine_reply){
        .slot = &d->op, .done = deployment_on_done, .progress = deployment_on_progress, .ctx = d};
}

/* ---- requests ---- */

void deployment_request_begin(struct deployment *d, struct deployment_use *u)
{
    d->last_used_at_ms = clock_wall_ms();
    d->asked_due = d->touched_due = clock_now_ms();
    *u = (struct deployment_use){.begun_at_ms = d->last_used_at_ms};
    list_init(&u->node);
    list_append(&d->open, &u->node);
    d->in_flight++;
    d->requests++;
    deployment_arm_sleep(d);
    runq_add(d->context.loop, &d->changed);
}

void deployment_request_end(struct deployment *d, struct deployment_use *u)
{
    d->last_used_at_ms = clock_wall_ms();
    d->used_due = d->touched_due = d->asked_due = clock_now_ms();
    list_remove(&u->node);
    d->in_flight--;
    if (deployment_open(d) == 0)
        runq_add(d->context.loop, &d->look);
    deployment_arm_sleep(d);
    runq_add(d->context.loop, &d->changed);
}

/* Among the open ones by its arrival, which is before that of whoever came while it was held. */
static void use_open(struct deployment *d, struct deployment_use *u)
{
    struct list *before = d->open.prev;

    while (before != &d->open &&
           CONTAINER_OF(before, struct deployment_use, node)->begun_at_ms > u->begun_at_ms)
        before = before->prev;
    list_prepend(before, &u->node);
}

void deployment_request_moved(struct deployment *d, struct deployment *to, struct deployment_use *u)
{
    int64_t begun_at_ms = u->begun_at_ms;

    list_remove(&u->node);
    d->in_flight--;
    d->requests--;
    if (deployment_open(d) == 0)
        runq_add(d->context.loop, &d->look);
    deployment_arm_sleep(d);
    runq_add(d->context.loop, &d->changed);
    deployment_request_begin(to, u);
    list_remove(&u->node);
    u->begun_at_ms = begun_at_ms;
    use_open(to, u);
}

void deployment_request_held(struct deployment *d, struct deployment_use *u, bool held)
{
    list_remove(&u->node);
    if (held) {
        u->held_at_ms = clock_wall_ms();
        list_append(&d->waiting, &u->node);
        d->held++;
    } else {
        use_open(d, u);
        d->held--;
    }
    if (deployment_open(d) == 0)
        runq_add(d->context.loop, &d->look);
    runq_add(d->context.loop, &d->changed);
}

void deployment_waiting(struct deployment *d, int change)
{
    host_waiting(lease_host(d->lease), change);
}

void deployment_suspect(struct deployment *d)
{
    d->engine->suspect = true;
}

void deployment_hears(struct deployment *d)
{
    d->alive_due = clock_now_ms();
}

void deployment_doubt(struct deployment *d)
{
    deployment_suspect(d);
    if (d->state == DEPLOYMENT_READY && !d->op)
        timer_arm(d->timer, 0);
}

void deployment_served(struct deployment *d, bool well)
{
    d->shunned_due = well ? 0 : clock_now_ms() + DEPLOYMENT_SHUN_MS;
    if (!well)
        runq_add(d->context.loop, &d->changed); /* those that wait for it may look elsewhere */
}

bool deployment_is_shunned(const struct deployment *d)
{
    return clock_now_ms() < d->shunned_due;
}

bool deployment_is_cut(const struct deployment *d)
{
    return d->cut;
}

/* ---- the object ---- */

/* Everything that may have changed for somebody: those who hold, those who look on. */
static void deployment_on_changed(void *ctx)
{
    struct deployment *d = ctx;

    if (d->state == DEPLOYMENT_OFF && (d->goal != GOAL_OFF || d->touched))
        deployment_event(d, DEPLOYMENT_EV_GOAL,
                         NULL); /* it was asked for again while it stopped, or is restored */
    if (d->state == DEPLOYMENT_ASLEEP && !list_is_empty(&d->holds))
        deployment_wake(d);
    deployment_answer_holds(d);
    d->context.changed(d->context.ctx, d);
}

static void deployment_on_look(void *ctx)
{
    struct deployment *d = ctx;

    bool waking = d->state >= DEPLOYMENT_CONNECTING && d->state < DEPLOYMENT_READY;

    if (d->state != DEPLOYMENT_READY) /* nobody looks now: what is known is known */
        deployment_answer_judges(d, waking && d->deaths ? &d->death : NULL, false);
    if (deployment_is_to_sleep(d))
        deployment_event(d, DEPLOYMENT_EV_GOAL, NULL);
    else if (d->state == DEPLOYMENT_DRAINING && deployment_open(d) == 0)
        deployment_event(d, DEPLOYMENT_EV_EMPTY, NULL);
    else if (d->state == DEPLOYMENT_CONNECTING || d->state == DEPLOYMENT_FAILED)
        deployment_event(d, DEPLOYMENT_EV_WAY, NULL);
}

static void deployment_on_timer(void *ctx)
{
    deployment_event(ctx, DEPLOYMENT_EV_TIMER, NULL);
}

void deployment_look(struct deployment *d)
{
    deployment_event(d, DEPLOYMENT_EV_WAY, NULL);
    runq_add(d->context.loop, &d->changed);
}

static char *text_of(const struct json *v, struct buf *room)
{
    return v && json_write(v, room) == 0 ? (char *)buf_text(room) : NULL;
}

uint64_t deployment_write(struct deployment *d)
{
    struct buf shown, arguments;
    struct deployment_record r = {
        .name = d->name,
        .instance = (char *)lease_name(d->lease),
        .goal = (char *)deployment_goal_name(d->goal),
        .goal_at_ms = d->goal_at_ms,
        .touched = d->touched,
        .requests = d->requests,
        .last_used_at_ms = d->last_used_at_ms,
        .keep_until_at_ms = d->keep_until_at_ms,
        .asleep = *d->ended                                    ? d->ended
                  : d->sleeps || d->state == DEPLOYMENT_ASLEEP ? d->room
                                                               : NULL,
        .asleep_at_ms = d->state == DEPLOYMENT_ASLEEP ? d->entered_at_ms : 0,
    };

    buf_init(&shown, 256 * 1024);
    buf_init(&arguments, 64 * 1024);
    r.shown = text_of(d->shown, &shown);
    r.arguments = text_of(d->arguments, &arguments);

    uint64_t ticket = store_put_deployment(d->context.store, &r);

    buf_done(&shown);
    buf_done(&arguments);
    return ticket;
}

/* One that sleeps is not woken by our start; one that was about to is brought there. */
static void deployment_restore_sleep(struct deployment *d, const struct deployment_record *r)
{
    if (r->asleep && d->goal == GOAL_OFF)
        snprintf(d->ended, sizeof d->ended, "%s", r->asleep);
    if (!r->asleep || d->goal != GOAL_ON_DEMAND)
        return;
    snprintf(d->room, sizeof d->room, "%s", r->asleep);
    d->sleeps = !r->asleep_at_ms;
    if (d->sleeps)
        return;
    d->state = DEPLOYMENT_ASLEEP;
    d->entered_at_ms = r->asleep_at_ms;
}

static void deployment_restore(struct deployment *d, const struct deployment_record *r)
{
    d->keep_until_at_ms = r->keep_until_at_ms;
    d->goal = streq(r->goal, "on") ? GOAL_ON : streq(r->goal, "on_demand") ? GOAL_ON_DEMAND : GOAL_OFF;
    d->goal_at_ms = r->goal_at_ms;
    if (d->goal == GOAL_OFF && d->goal_at_ms)
        d->entered_at_ms = d->goal_at_ms; /* off since then, not since our start */
    /* What was wanted may run, even when the start was not on disk yet. */
    d->touched = r->touched || d->goal != GOAL_OFF;
    deployment_restore_sleep(d, r);
    d->requests = r->requests;
    d->last_used_at_ms = r->last_used_at_ms;
    if (r->shown && json_parse(r->shown, strlen(r->shown), &d->shown) < 0)
        d->shown = NULL;
    if (r->arguments && json_parse(r->arguments, strlen(r->arguments), &d->arguments) < 0)
        d->arguments = NULL;
    engine_set_arguments(d->engine, d->arguments);
    /* A restored state is a memory to check: the way up finds what runs, the way down stops what may run.
     * Later, when all are restored: whether the server is needed by others decides how it is stopped. */
    runq_add(d->context.loop, &d->changed);
}

struct deployment *deployment_new(const struct deployment_context *context, struct lease *l, const char *name,
                                  const struct deployment_record *restored)
{
    struct deployment *d = xnew(struct deployment);
    struct model_name parts;
    const char *why;

    if (model_name_parse(name, &parts, &why) < 0)
        abort(); /* the caller has looked */
    d->context = *context;
    d->lease = l;
    d->name = xstrdup(name);
    d->id = strchr(d->name, ':') + 1;
    d->engine =
        engine_new(engine_find_ops(parts.engine), context->loop, lease_host(l), context->http, lease_name(l),
                   parts.rest, context->settings, context->socket_directory, context->state_directory);
    d->engine->owner = context->store ? store_daemon_id(context->store) : NULL;
    d->engine->resolver = context->resolver;
    d->own_server = !d->engine->ops->shared;
    d->timer = timer_new(context->loop, deployment_on_timer, d);
    d->sleep_timer = timer_new(context->loop, deployment_on_sleep_timer, d);
    d->watch_timer = timer_new(context->loop, deployment_on_watch_timer, d);
    work_init(&d->changed, deployment_on_changed, d);
    work_init(&d->look, deployment_on_look, d);
    list_init(&d->holds);
    list_init(&d->judges);
    list_init(&d->open);
    list_init(&d->waiting);
    deployment_stages_reset(d);
    d->entered_at_ms = clock_wall_ms();
    d->entered_due = clock_now_ms();
    if (restored)
        deployment_restore(d, restored);
    deployment_arm_sleep(d);
    return d;
}

struct deployment *deployment_free(struct deployment *d)
{
    struct fault gone;

    if (!d)
        return NULL;
    op_cancel(&d->op);
    op_cancel(&d->watch_op);
    fault_code(&gone, FAULT_GONE, "shutting_down", "%s is not served any more", d->name);
    while (!list_is_empty(&d->holds))
        hold_answer(&d->holds, &gone);
    deployment_answer_judges(d, &gone, false);
    runq_drop(&d->changed);
    runq_drop(&d->look);
    timer_free(d->timer);
    timer_free(d->sleep_timer);
    timer_free(d->watch_timer);
    engine_free(d->engine);
    json_free(d->shown);
    json_free(d->arguments);
    free(d->name);
    free(d);
    return NULL;
}

uint64_t deployment_want(struct deployment *d, enum deployment_goal goal, bool cut)
{
    if (goal == GOAL_ON_DEMAND && d->goal == GOAL_ON && d->keep_until_at_ms)
        goal = GOAL_ON; /* wanted, and more than that */
    if (goal != GOAL_OFF && d->state != DEPLOYMENT_READY && (!d->wanted_due || d->state == DEPLOYMENT_FAILED))
        d->wanted_due = clock_now_ms(); /* the way before, which failed, is over */
    if (d->goal != goal || !d->goal_at_ms)
        d->goal_at_ms = clock_wall_ms();
    d->goal = goal;
    d->sleeps = d->woken = false;
    d->ended[0] = '\0';
    if (goal == GOAL_OFF)
        d->wanted_due = 0;
    else
        d->touched_due = d->asked_due = clock_now_ms();
    if (goal != GOAL_ON)
        d->keep_until_at_ms = 0;
    d->cut = goal == GOAL_OFF && (cut || d->cut);
    if (goal != GOAL_OFF) {
        d->attempts = d->misses = d->deaths = 0;
        d->replaced = false;
        if (deployment_refusal(d))
            session_renew(lease_session(d->lease),
                          NULL); /* somebody asks again: it may have been mended over there */
        else if (lease_session(d->lease))
            session_hurry(lease_session(d->lease)); /* somebody waits: no back-off now */
    }

    uint64_t ticket = deployment_write(d);

    deployment_event(d, DEPLOYMENT_EV_GOAL, NULL);
    deployment_arm_sleep(d);
    runq_add(d->context.loop, &d->changed);
    return ticket;
}

uint64_t deployment_end(struct deployment *d, const struct fault *why, bool cut)
{
    uint64_t ticket;

    if (d->goal == GOAL_OFF)
        return 0;
    deployment_want(d, GOAL_OFF, cut);
    snprintf(d->ended, sizeof d->ended, "%s: %.*s", why->code, (int)sizeof d->ended - 40, why->text);
    ticket = deployment_write(d);
    event_publish(LOG_LEVEL_WARNING, LOG_DAEMON, d->name, why->code, "switched off: %s", why->text);
    return ticket;
}

uint64_t deployment_pass(struct deployment *d, const char *why, bool cut)
{
    deployment_want(d, GOAL_OFF, cut);
    snprintf(d->ended, sizeof d->ended, "passed_over: %.*s", (int)sizeof d->ended - 40, why);
    return deployment_write(d);
}

/* ---- the machine it is on, where that is rented ---- */

/* What ran on it is gone with it. */
static void forget_server(struct deployment *d)
{
    d->touched = false;
    d->engine->facts.pid = 0;
    d->engine->facts.foreign = false;
}

/* It sleeps now, and did nothing for that. */
static void sleep_with_machine(struct deployment *d, const char *why)
{
    if (!d->sleeps) {
        snprintf(d->room, sizeof d->room, "%s", why);
        d->dozed = false;
    }
    d->goal = GOAL_ON_DEMAND;
    d->keep_until_at_ms = 0;
    d->wanted_due = 0;
    d->sleeps = true;
    deployment_enter(d, DEPLOYMENT_ASLEEP, d->room, NULL);
}

void deployment_machine_is_off(struct deployment *d, const char *why)
{
    bool touched = d->touched;

    forget_server(d);
    switch (d->state) {
    case DEPLOYMENT_OFF:
        if (d->goal != GOAL_OFF)
            break; /* just restored */
        __attribute__((fallthrough));
    case DEPLOYMENT_ASLEEP:
    case DEPLOYMENT_FAILED:
        if (touched)
            deployment_write(d);
        return;
    case DEPLOYMENT_CONNECTING:
    case DEPLOYMENT_INSTALLING:
    case DEPLOYMENT_PLACING:
    case DEPLOYMENT_STARTING:
    case DEPLOYMENT_FETCHING:
    case DEPLOYMENT_LOADING:
    case DEPLOYMENT_READY:
    case DEPLOYMENT_DRAINING:
    case DEPLOYMENT_STOPPING: break;
    }
    if (d->goal == GOAL_OFF)
        deployment_enter(d, DEPLOYMENT_OFF, why, NULL);
    else
        sleep_with_machine(d, why);
}

void deployment_give_up(struct deployment *d, const struct fault *why)
{
    if (d->goal == GOAL_OFF || d->state != DEPLOYMENT_CONNECTING)
        return;
    deployment_enter(d, DEPLOYMENT_FAILED, why->text, why);
    d->way_failed = false; /* an open way is not what it waits for: somebody has to want it again */
}

void deployment_allow_unverified(struct deployment *d)
{
    d->engine->unverified = true;
}

bool deployment_ask_need(const struct deployment *d, struct engine_need *ret, struct op **slot,
                         void (*done)(void *ctx), void *ctx)
{
    if (d->goal == GOAL_OFF || d->shown || !lease_is_reachable(d->lease))
        return false;
    return need_ask(d->engine, ret, slot, done, ctx);
}

bool deployment_leaves_server(const struct deployment *d)
{
    return d->state == DEPLOYMENT_OFF && d->engine->facts.foreign && d->engine->facts.pid > 0;
}

bool deployment_has_arguments(const struct deployment *d, const struct json *arguments)
{
    size_t n = json_count(arguments);

    for (size_t i = 0; i < n && i < json_count(d->arguments); i++)
        if (!streq(json_text(json_at(arguments, i)), json_text(json_at(d->arguments, i))))
            return false;
    return n == json_count(d->arguments);
}

bool deployment_set_arguments(struct deployment *d, const struct json *arguments)
{
    if (deployment_has_arguments(d, arguments))
        return false;
    json_free(d->arguments);
    d->arguments = json_count(arguments) ? json_copy(arguments) : NULL;
    engine_set_arguments(d->engine, d->arguments);
    d->stale = true;
    return true;
}

const struct json *deployment_arguments(const struct deployment *d)
{
    return d->arguments;
}

int64_t deployment_looked_at_ms(const struct deployment *d)
{
    return d->looked_at_ms;
}

const char *deployment_room_text(const struct deployment *d)
{
    return (d->state == DEPLOYMENT_ASLEEP || d->state == DEPLOYMENT_PLACING) && *d->room ? d->room : NULL;
}

const char *deployment_name(const struct deployment *d)
{
    return d->name;
}

const char *deployment_id(const struct deployment *d)
{
    return d->id;
}

const struct engine_ops *deployment_engine(const struct deployment *d)
{
    return d->engine->ops;
}

enum deployment_state deployment_state(const struct deployment *d)
{
    return d->state;
}

enum deployment_goal deployment_goal(const struct deployment *d)
{
    return d->goal;
}

unsigned deployment_server_number(const struct deployment *d)
{
    return d->server_number;
}

struct lease *deployment_lease(const struct deployment *d)
{
    return d->lease;
}

bool deployment_is_idle(const struct deployment *d)
{
    return d->goal == GOAL_OFF && (d->state == DEPLOYMENT_OFF || d->state == DEPLOYMENT_FAILED);
}

bool deployment_may_run(const struct deployment *d)
{
    return d->touched;
}

const struct fault *deployment_fault(const struct deployment *d)
{
    return &d->fault;
}

unsigned deployment_deaths(const struct deployment *d, const struct fault **ret_why, int64_t *ret_at_ms)
{
    if (!d->deaths || clock_now_ms() - d->deaths_from_due > ALIVE_WINDOW_MS)
        return 0;
    *ret_why = &d->death;
    *ret_at_ms = d->death_at_ms;
    return d->deaths;
}

const struct json *deployment_shown(const struct deployment *d)
{
    return d->shown;
}

const struct engine_facts *deployment_facts(const struct deployment *d)
{
    return &d->engine->facts;
}

void deployment_figures(const struct deployment *d, struct deployment_figures *ret)
{
    const struct deployment_use *open = LIST_FIRST(&d->open, struct deployment_use, node);
    const struct deployment_use *held = LIST_FIRST(&d->waiting, struct deployment_use, node);
    char what[300];

    snprintf(what, sizeof what, "up %s %s", d->name, lease_name(d->lease));
    *ret = (struct deployment_figures){
        .open = d->in_flight - d->held,
        .held = d->held,
        .open_since_at_ms = open ? open->begun_at_ms : 0,
        .held_since_at_ms = held ? held->held_at_ms : 0,
        .requests = d->requests,
        .last_used_at_ms = d->last_used_at_ms,
        .since_at_ms = d->entered_at_ms,
        .sleeps_at_ms = deployment_sleeps_at_ms(d),
        .keep_until_at_ms = d->keep_until_at_ms,
        .unload_ms = deployment_unload_ms(d),
        .flaps = d->flaps,
        .took_ms = d->took_ms,
        .used_due = d->touched_due,
        .asked_due = d->asked_due,
        .since_due = d->entered_due,
        .by_request = d->woken,
        .usual_ms = store_usual_ms(d->context.store, what),
    };
    if (d->state == DEPLOYMENT_READY && d->entered_due + d->context.idle.min_up_ms > clock_now_ms())
        ret->min_up_until_at_ms = d->entered_at_ms + (int64_t)d->context.idle.min_up_ms;
    if (d->state == DEPLOYMENT_DRAINING)
        ret->drain_ends_at_ms = clock_wall_ms() + (int64_t)(timer_due(d->timer) - clock_now_ms());
}
