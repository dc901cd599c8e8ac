/* The life of a deployment: what follows what, and what each state is for.
 *
 *     off → connecting → installing → starting → fetching → loading → ready → draining → stopping → off
 *
 * Placing stands before the step that takes the memory: starting of a server of its own, loading by a shared
 * one. What sleeps went there from ready, through stopping.
 *
 * A fault that time may mend leads back to connecting, where everything is looked at again: every step is
 * harmless when it was done before. One that only people can mend leads to failed.
 *
 * A server that was ready and died leads back to connecting as well: at once, after another death within ten
 * minutes in 1 s, then 2 s, then 4 s; the fifth leads to failed. One that was killed by a signal on its way
 * up is such a fault that time may mend, one that ended by itself there is not. A restart of the machine is
 * nobody's fault and is not counted.
 *
 * A ready server is asked every 15 s, with 5 s for the answer; when it gives none, every 2 s, with 15 s. It
 * hangs when 30 s have passed without any answer and without a byte for anybody, and it does not compute
 * (policy/alive.h has the rule): that is a death, and the next start ends it first. So a hung server is
 * noticed within 47 s at most. A busy one stays, for however long. A server that does not answer within 60 s
 * after its start, or after it was found, is started anew once. */
#include "deployment/deployment_private.h"

#include <errno.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/timer.h"
#include "lease/lease.h"
#include "policy/alive.h"
#include "proto/json.h"
#include "store/store.h"

#define STAY     ((struct deployment_move){.how = KEEP})
#define ACT      ((struct deployment_move){.how = DO})
#define REST     ((struct deployment_move){.how = WAIT})
#define MOVE(to) ((struct deployment_move){.state = (to), .how = ENTER})

/* Of a server that was ready: it is no more, or as good as that. */
static bool is_death(const struct fault *f)
{
    return !fault_may_pass(f) || streq(f->code, "engine_crashed") || streq(f->code, "port_taken");
}

/* It says that there is not enough memory, on the cards or on the machine. */
static bool is_crowding(const struct fault *f)
{
    return streq(f->code, "out_of_memory") || streq(f->code, "machine_out_of_memory");
}

/* Nothing is wrong with the server: it ended with its machine, or by whoever had started it. */
static bool is_no_death(const struct fault *f)
{
    return streq(f->code, "machine_restarted") || streq(f->code, "engine_ended_elsewhere");
}

/* Where to go when it is not wanted any more and no request is open. */
static struct deployment_move next_unwanted(const struct deployment *d)
{
    return MOVE(d->touched ? DEPLOYMENT_STOPPING : DEPLOYMENT_OFF);
}

/* Where to go when it is wanted, but is to sleep. */
static struct deployment_move next_sleepy(const struct deployment *d)
{
    return MOVE(d->touched ? DEPLOYMENT_STOPPING : DEPLOYMENT_ASLEEP);
}

/* A step on the way up: its driver was asked something. */
static struct deployment_move next_in_step(const struct deployment *d, enum deployment_event ev,
                                           const struct fault *f, enum deployment_state after)
{
    switch (ev) {
    case DEPLOYMENT_EV_GOAL:
        if (d->goal == GOAL_OFF)
            return next_unwanted(d);
        if (d->sleeps)
            return next_sleepy(d);
        return d->stale ? MOVE(DEPLOYMENT_CONNECTING) : STAY;
    case DEPLOYMENT_EV_WAY:
        return d->refused ? MOVE(DEPLOYMENT_FAILED) : STAY; /* what was asked reports its own loss */
    case DEPLOYMENT_EV_ANSWER: return MOVE(after);
    case DEPLOYMENT_EV_AGAIN:
        if (!d->late)
            return REST;
        return MOVE(d->state == DEPLOYMENT_STARTING && !d->replaced ? DEPLOYMENT_CONNECTING
                                                                    : DEPLOYMENT_FAILED);
    case DEPLOYMENT_EV_TIMER: return ACT;
    case DEPLOYMENT_EV_FAULT:
        if (is_no_death(f))
            return MOVE(DEPLOYMENT_CONNECTING);
        if (!(fault_may_pass(f) || d->crowded) || (d->reachable && d->attempts >= DEPLOYMENT_ATTEMPTS_MAX))
            return MOVE(DEPLOYMENT_FAILED);
        return MOVE(DEPLOYMENT_CONNECTING);
    case DEPLOYMENT_EV_EMPTY:
    case DEPLOYMENT_EV_COUNT: break;
    }
    return STAY;
}

static struct deployment_move next_in_ready(const struct deployment *d, enum deployment_event ev,
                                            const struct fault *f)
{
    switch (ev) {
    case DEPLOYMENT_EV_GOAL:
        if (d->goal != GOAL_OFF && !d->stale && !d->sleeps)
            return STAY;
        return MOVE(deployment_open(d) == 0 || d->cut ? DEPLOYMENT_STOPPING : DEPLOYMENT_DRAINING);
    case DEPLOYMENT_EV_WAY:
        return d->reachable ? ACT : STAY; /* back after a loss: is the server still the same? */
    case DEPLOYMENT_EV_TIMER: return d->reachable ? ACT : REST;
    case DEPLOYMENT_EV_ANSWER: return REST;
    case DEPLOYMENT_EV_AGAIN: /* it took the model out of memory itself, as a request may tell it to
                                 (keep_alive) */
        if (d->in_flight)
            return REST; /* which loads it */
        return MOVE(d->goal == GOAL_ON ? DEPLOYMENT_CONNECTING : DEPLOYMENT_ASLEEP);
    case DEPLOYMENT_EV_FAULT:
        if (!d->reachable)
            return REST; /* no answer says nothing about the server */
        if (is_no_death(f))
            return MOVE(DEPLOYMENT_CONNECTING);
        if (streq(f->code, "no_answer") ? !d->hung : !is_death(f) && d->misses < DEPLOYMENT_MISSES_MAX)
            return REST;
        return MOVE(d->deaths + 1 >= ALIVE_DEATHS_MAX ? DEPLOYMENT_FAILED : DEPLOYMENT_CONNECTING);
    case DEPLOYMENT_EV_EMPTY:
    case DEPLOYMENT_EV_COUNT: break;
    }
    return STAY;
}

static struct deployment_move next_in_stopping(const struct deployment *d, enum deployment_event ev,
                                               const struct fault *f)
{
    switch (ev) {
    case DEPLOYMENT_EV_ANSWER:
        if (d->goal == GOAL_OFF)
            return MOVE(DEPLOYMENT_OFF);
        return MOVE(d->sleeps ? DEPLOYMENT_ASLEEP : DEPLOYMENT_CONNECTING);
    case DEPLOYMENT_EV_AGAIN: return REST;
    case DEPLOYMENT_EV_TIMER: return ACT;
    case DEPLOYMENT_EV_FAULT:
        if (fault_may_pass(f) && (!d->reachable || d->attempts < DEPLOYMENT_ATTEMPTS_MAX))
            return REST; /* the machine is away: for as long as it takes */
        /* What still runs is found again. */
        return MOVE(d->goal == GOAL_OFF ? DEPLOYMENT_FAILED : DEPLOYMENT_CONNECTING);
    case DEPLOYMENT_EV_GOAL: /* first off, then it is asked again */
    case DEPLOYMENT_EV_WAY:  /* what was asked waits for the way by itself */
    case DEPLOYMENT_EV_EMPTY:
    case DEPLOYMENT_EV_COUNT: break;
    }
    return STAY;
}

struct deployment_move deployment_next(const struct deployment *d, enum deployment_event ev,
                                       const struct fault *f)
{
    switch (d->state) {
    case DEPLOYMENT_OFF:
        if (ev != DEPLOYMENT_EV_GOAL)
            return STAY;
        if (d->goal != GOAL_OFF)
            return d->sleeps ? next_sleepy(d) : MOVE(DEPLOYMENT_CONNECTING);
        return d->touched ? MOVE(DEPLOYMENT_STOPPING) : STAY; /* an earlier life may have left it running */
    case DEPLOYMENT_ASLEEP:
        if (ev != DEPLOYMENT_EV_GOAL)
            return STAY;
        return d->goal == GOAL_OFF ? next_unwanted(d) : MOVE(DEPLOYMENT_CONNECTING);
    case DEPLOYMENT_CONNECTING:
        if (ev == DEPLOYMENT_EV_GOAL && d->sleeps)
            return next_sleepy(d);
        if (ev == DEPLOYMENT_EV_GOAL)
            return d->goal == GOAL_OFF ? next_unwanted(d) : ACT; /* asked for again: no back-off now */
        if (ev != DEPLOYMENT_EV_WAY && ev != DEPLOYMENT_EV_TIMER)
            return STAY;
        if (d->refused)
            return MOVE(DEPLOYMENT_FAILED);
        return d->reachable ? MOVE(DEPLOYMENT_INSTALLING) : STAY;
    case DEPLOYMENT_INSTALLING:
        return next_in_step(d, ev, f, d->own_server ? DEPLOYMENT_PLACING : DEPLOYMENT_STARTING);
    case DEPLOYMENT_PLACING:
        if (ev == DEPLOYMENT_EV_ANSWER && !d->roomy)
            return REST;
        return next_in_step(d, ev, f, d->own_server ? DEPLOYMENT_STARTING : DEPLOYMENT_LOADING);
    case DEPLOYMENT_STARTING: return next_in_step(d, ev, f, DEPLOYMENT_FETCHING);
    case DEPLOYMENT_FETCHING:
        return next_in_step(d, ev, f, d->own_server ? DEPLOYMENT_LOADING : DEPLOYMENT_PLACING);
    case DEPLOYMENT_LOADING: return next_in_step(d, ev, f, DEPLOYMENT_READY);
    case DEPLOYMENT_READY: return next_in_ready(d, ev, f);
    case DEPLOYMENT_DRAINING:
        if (ev == DEPLOYMENT_EV_GOAL && d->goal != GOAL_OFF && !d->stale && !d->sleeps)
            return MOVE(DEPLOYMENT_READY);
        if (ev == DEPLOYMENT_EV_TIMER || ev == DEPLOYMENT_EV_EMPTY || (ev == DEPLOYMENT_EV_GOAL && d->cut))
            return MOVE(DEPLOYMENT_STOPPING);
        return STAY;
    case DEPLOYMENT_STOPPING: return next_in_stopping(d, ev, f);
    case DEPLOYMENT_FAILED:
        if (ev == DEPLOYMENT_EV_GOAL)
            return d->goal == GOAL_OFF ? next_unwanted(d) : MOVE(DEPLOYMENT_CONNECTING);
        if (ev == DEPLOYMENT_EV_WAY && d->goal != GOAL_OFF && d->way_failed && d->reachable)
            return MOVE(DEPLOYMENT_CONNECTING);
        return STAY;
    }
    return STAY;
}

const char *deployment_event_name(enum deployment_event ev)
{
    static const char *const names[DEPLOYMENT_EV_COUNT] = {"goal",  "way",   "answer", "again",
                                                           "fault", "timer", "drained"};

    return names[ev];
}

const char *deployment_state_name(enum deployment_state s)
{
    switch (s) {
    case DEPLOYMENT_OFF: return "off";
    case DEPLOYMENT_ASLEEP: return "asleep";
    case DEPLOYMENT_PLACING: return "placing";
    case DEPLOYMENT_CONNECTING: return "connecting";
    case DEPLOYMENT_INSTALLING: return "installing";
    case DEPLOYMENT_STARTING: return "starting";
    case DEPLOYMENT_FETCHING: return "fetching";
    case DEPLOYMENT_LOADING: return "loading";
    case DEPLOYMENT_READY: return "ready";
    case DEPLOYMENT_DRAINING:
    case DEPLOYMENT_STOPPING: return "draining";
    case DEPLOYMENT_FAILED: return "failed";
    }
    return "";
}

const char *deployment_goal_name(enum deployment_goal g)
{
    static const char *const names[] = {"off", "on_demand", "on"};

    return names[g];
}

/* How long a state may go on hearing "not yet"; 0: for ever. Loading is bounded by the engine's own limit (15
 * min without progress, engine/ollama.c) and by deployment_watch.c, fetching by its silence. */
static uint64_t state_limit_ms(enum deployment_state s)
{
    switch (s) {
    case DEPLOYMENT_STARTING: return 60 * 1000;
    case DEPLOYMENT_LOADING: return 30 * 60 * 1000;
    case DEPLOYMENT_OFF:
    case DEPLOYMENT_ASLEEP:
    case DEPLOYMENT_CONNECTING:
    case DEPLOYMENT_INSTALLING:
    case DEPLOYMENT_PLACING:
    case DEPLOYMENT_FETCHING:
    case DEPLOYMENT_READY:
    case DEPLOYMENT_DRAINING:
    case DEPLOYMENT_STOPPING:
    case DEPLOYMENT_FAILED: break;
    }
    return 0;
}

/* How long to rest before asking again. */
static uint64_t state_rest_ms(const struct deployment *d)
{
    uint64_t age_ms = clock_now_ms() - d->entered_due;

    switch (d->state) {
    case DEPLOYMENT_READY: return d->misses ? 2000 : 15000;
    case DEPLOYMENT_STOPPING: return d->attempts ? 2000 : 100;
    case DEPLOYMENT_PLACING: return age_ms < 20000 ? 300 : 2000; /* a look at the cards takes its time */
    case DEPLOYMENT_OFF:
    case DEPLOYMENT_ASLEEP:
    case DEPLOYMENT_CONNECTING:
    case DEPLOYMENT_INSTALLING:
    case DEPLOYMENT_STARTING:
    case DEPLOYMENT_FETCHING:
    case DEPLOYMENT_LOADING:
    case DEPLOYMENT_DRAINING:
    case DEPLOYMENT_FAILED: break;
    }
    return age_ms < 2000 ? 50 : age_ms < 20000 ? 500 : 2000; /* most things are there at once, or take long */
}

#define DRAIN_MS   (5 * 60 * 1000)
#define PROMPT_MS  5000
#define PATIENT_MS 15000

static void act_connecting(struct deployment *d)
{
    /* After a fault on a machine that can be reached: not at once again. */
    if (d->attempts && lease_is_reachable(d->lease))
        timer_arm(d->timer, (uint64_t)500 << (d->attempts - 1));
    else if (alive_delay_ms(d->deaths) && lease_is_reachable(d->lease))
        timer_arm(d->timer, alive_delay_ms(d->deaths));
    else
        runq_add(d->context.loop, &d->look);
}

static void act_stopping(struct deployment *d)
{
    const struct engine_ops *ops = d->engine->ops;

    if (ops->shared && d->context.shares_server(d->context.ctx, d))
        ops->unload(d->engine, deployment_reply(d));
    else
        ops->stop(d->engine, deployment_reply(d));
}

/* What the state is for. */
static void deployment_act(struct deployment *d)
{
    const struct engine_ops *ops = d->engine->ops;

    if (d->op)
        return;
    switch (d->state) {
    case DEPLOYMENT_CONNECTING: act_connecting(d); break;
    case DEPLOYMENT_INSTALLING: ops->find(d->engine, deployment_reply(d)); break;
    case DEPLOYMENT_PLACING:
        d->looked_at_ms = clock_wall_ms();
        ops->prepare(d->engine, deployment_reply(d));
        break;
    case DEPLOYMENT_STARTING: ops->start(d->engine, deployment_reply(d)); break;
    case DEPLOYMENT_FETCHING: ops->fetch(d->engine, deployment_reply(d)); break;
    case DEPLOYMENT_LOADING: ops->load(d->engine, deployment_reply(d)); break;
    case DEPLOYMENT_READY:
        d->engine->patience_ms = d->misses ? PATIENT_MS : PROMPT_MS;
        ops->probe(d->engine, deployment_reply(d));
        break;
    case DEPLOYMENT_DRAINING: timer_arm(d->timer, DRAIN_MS); break;
    case DEPLOYMENT_STOPPING: act_stopping(d); break;
    case DEPLOYMENT_OFF:
    case DEPLOYMENT_ASLEEP:
    case DEPLOYMENT_FAILED: break;
    }
}

static void enter_ready(struct deployment *d, enum deployment_state was)
{
    d->touched_due = clock_now_ms();
    if (was != DEPLOYMENT_LOADING)
        return;
    if (d->wanted_due) {
        char what[300];

        d->took_ms = clock_now_ms() - d->wanted_due;
        snprintf(what, sizeof what, "up %s %s", d->name, lease_name(d->lease));
        store_put_duration(d->context.store, what, clock_now_ms() - MAX(d->wanted_due, deployment_searched_due(d)));
        d->wanted_due = 0;
    }
    json_free(d->shown);
    d->shown = json_copy(d->engine->facts.shown);
    event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, d->name, "ready", "answers on %s", lease_name(d->lease));
}

/* A server that was ready is no more. */
static void note_death(struct deployment *d, const struct fault *f)
{
    if (d->hung)
        d->engine->hung_pid = d->engine->facts.pid;
    if (!is_no_death(f)) {
        d->deaths_from_due = d->deaths++ ? d->deaths_from_due : clock_now_ms();
        d->death = *f;
        d->death_at_ms = clock_wall_ms();
    }
    if (d->state == DEPLOYMENT_CONNECTING)
        event_publish(LOG_LEVEL_WARNING, LOG_DAEMON, d->name, "engine_lost", "%s", f->text);
}

/* Numbers and notes that begin anew with a state. */
static void enter_figures(struct deployment *d, enum deployment_state was, const struct fault *f)
{
    if (was == DEPLOYMENT_READY && f)
        note_death(d, f);
    if (d->state == DEPLOYMENT_CONNECTING && was == DEPLOYMENT_STARTING && !f && d->late) {
        d->replaced = true; /* it was late */
        d->engine->hung_pid = d->engine->facts.pid;
    }
    if (d->state == DEPLOYMENT_READY)
        d->replaced = false;
    if (d->state == DEPLOYMENT_STARTING)
        d->touched = true;
    if (d->state == DEPLOYMENT_STARTING || d->state == DEPLOYMENT_STOPPING)
        d->server_number++;
    if (d->state == DEPLOYMENT_OFF)
        d->touched = false;
    if (d->state == DEPLOYMENT_STOPPING && deployment_open(d))
        d->cut = true;
    if (d->goal != GOAL_OFF && d->state != DEPLOYMENT_DRAINING && d->state != DEPLOYMENT_STOPPING &&
        (!d->sleeps || d->state == DEPLOYMENT_ASLEEP))
        d->cut = false; /* those have ended; those that are held go to the next server */
    if (d->state == DEPLOYMENT_CONNECTING)
        d->stale = false;
    if (d->state == DEPLOYMENT_READY || d->state == DEPLOYMENT_STOPPING || was == DEPLOYMENT_STOPPING)
        d->attempts = d->misses = 0;
    d->lost = !d->reachable;
    d->way_failed = d->state == DEPLOYMENT_FAILED && d->refused;
}

/* What is said of the room it waits for is over with the state; why it sleeps lasts as long as that. */
static void enter_room(struct deployment *d, enum deployment_state was)
{
    if (d->state == DEPLOYMENT_READY)
        d->crowded = false;
    /* Asked to sleep, and on the way, or deployment_on_look() has not seen it yet. */
    if (d->sleeps && was != DEPLOYMENT_STOPPING && d->state != DEPLOYMENT_ASLEEP &&
        d->state != DEPLOYMENT_OFF && d->state != DEPLOYMENT_FAILED)
        return;
    if (d->state == DEPLOYMENT_ASLEEP && !d->sleeps) {
        snprintf(d->room, sizeof d->room, "the engine has unloaded it");
        d->dozed = false;
    } else if (d->state != DEPLOYMENT_ASLEEP) {
        d->room[0] = '\0';
    }
    d->sleeps = false;
}

static void tell_off(const struct deployment *d)
{
    const struct engine_facts *f = &d->engine->facts;

    if (deployment_leaves_server(d))
        event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, d->name, "off",
                      "off; %s on %s (pid %lld) goes on running, for another llmhostd started it",
                      d->engine->ops->name, lease_name(d->lease), (long long)f->pid);
    else
        event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, d->name, "off", "stopped on %s", lease_name(d->lease));
}

/* The only place that writes d->state. */
void deployment_enter(struct deployment *d, enum deployment_state next, const char *why,
                      const struct fault *f)
{
    enum deployment_state was = d->state;

    op_cancel(&d->op); /* a state takes nothing along */
    timer_disarm(d->timer);
    log_notice(d->name, "%s -> %s (%s)", deployment_state_name(was), deployment_state_name(next), why);
    d->state = next;
    d->entered_due = clock_now_ms();
    d->entered_at_ms = clock_wall_ms();
    if (f && (next != DEPLOYMENT_CONNECTING || was == DEPLOYMENT_READY))
        d->fault = *f; /* also while it is started again: people want to know why */
    else if (next == DEPLOYMENT_READY || next == DEPLOYMENT_OFF || next == DEPLOYMENT_ASLEEP ||
             (next == DEPLOYMENT_CONNECTING && !d->attempts))
        d->fault = (struct fault){};
    enter_figures(d, was, f);
    if (next == DEPLOYMENT_READY || next == DEPLOYMENT_OFF || next == DEPLOYMENT_ASLEEP ||
        next == DEPLOYMENT_FAILED)
        d->engine->unverified = false; /* it was said of this way up */
    enter_room(d, was);
    deployment_enter_stage(d, was);
    if (next == DEPLOYMENT_READY)
        enter_ready(d, was);
    if (next == DEPLOYMENT_FAILED)
        event_publish(LOG_LEVEL_ERR, LOG_DAEMON, d->name, "failed", "%s", d->fault.text);
    if (next == DEPLOYMENT_ASLEEP)
        event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, d->name, "asleep", "on %s: %s", lease_name(d->lease),
                      d->room);
    if (next == DEPLOYMENT_OFF)
        tell_off(d);
    deployment_write(d);
    deployment_arm_sleep(d);
    deployment_watch(d);
    runq_add(d->context.loop, &d->changed);
    if (next == DEPLOYMENT_READY) {
        deployment_hears(d);
        timer_arm(d->timer, state_rest_ms(d)); /* the load was just proved; probe later */
    } else {
        deployment_act(d);
    }
}

/* The fault of a way that only people can open. */
static const struct fault *way_fault(const struct deployment *d, const struct fault *f)
{
    static const struct fault late = {FAULT_TRANSIENT, -ETIMEDOUT, "timed_out",
                                      "the engine did not get there in time"};

    if (f)
        return f;
    return d->refused ? deployment_refusal(d) : &late;
}

/* What the looks at a silent server come to: whether it hangs, and then *room says so. */
static const struct fault *judge_silence(struct deployment *d, const struct fault *f, struct fault *room)
{
    uint64_t now = clock_now_ms(), silent_ms = now - d->alive_due;
    int64_t computed_ms = d->engine->facts.computed_ms;
    bool looked = d->looked_due > d->alive_due, known = computed_ms >= d->computed_ms && d->computed_ms >= 0;
    const struct alive_facts facts = {
        .silent_ms = silent_ms,
        .between_ms = looked ? now - d->looked_due : 0,
        .computed_ms = known ? computed_ms - d->computed_ms : -1,
        .asked = deployment_open(d) > 0,
    };

    d->hung = alive_is_hung(&facts);
    d->looked_due = now;
    d->computed_ms = computed_ms;
    if (!d->hung)
        return f;
    fault_code(room, f->kind, f->code, "%s%s, has answered nobody for %llu s, and is started again: %.250s",
               d->engine->ops->name, d->engine->facts.stopped ? " was stopped (SIGSTOP)" : " hangs",
               (unsigned long long)(silent_ms / 1000), f->text);
    return room;
}

/* Too often: the last one is told, and that it is the last. */
static const struct fault *last_death(const struct deployment *d, const struct fault *f, struct fault *room)
{
    if (d->state != DEPLOYMENT_READY || !f)
        return f;
    fault_code(room, f->kind, f->code,
               "it died %u times within %u min, and is not started again by itself; the last time: %.250s",
               d->deaths + 1, ALIVE_WINDOW_MS / 60000, f->text);
    return room;
}

/* What deployment_next() reads, as of now. */
static const struct fault *note_facts(struct deployment *d, enum deployment_event ev, const struct fault *f,
                                      struct fault *room)
{
    uint64_t limit_ms = state_limit_ms(d->state), now = clock_now_ms();
    bool ready = d->state == DEPLOYMENT_READY, was_reachable = d->reachable;
    bool answered = ev == DEPLOYMENT_EV_ANSWER || (ready && ev == DEPLOYMENT_EV_AGAIN);

    d->reachable = lease_is_reachable(d->lease);
    d->refused = deployment_refusal(d) != NULL;
    d->late = limit_ms && now - d->entered_due > limit_ms;
    d->lost = d->lost || !d->reachable;
    d->hung = false;
    if (d->deaths && now - d->deaths_from_due > ALIVE_WINDOW_MS)
        d->deaths = 0;
    if (answered)
        d->misses = 0;
    if (!d->reachable || !was_reachable || answered)
        deployment_hears(d); /* whoever cannot be heard is not silent */
    if (ev == DEPLOYMENT_EV_FAULT)
        d->crowded = is_crowding(f) && d->context.has_neighbours(d->context.ctx, d);
    if (ev == DEPLOYMENT_EV_ANSWER && d->state == DEPLOYMENT_PLACING)
        deployment_find_room(d);
    /* That the way was away once says nothing of a server that was ready before and is silent now. */
    if (ev != DEPLOYMENT_EV_FAULT || (ready ? !d->reachable : d->lost))
        return f;
    d->attempts += !ready && !is_no_death(f);
    d->misses += ready;
    return ready && streq(f->code, "no_answer") ? judge_silence(d, f, room) : f;
}

void deployment_event(struct deployment *d, enum deployment_event ev, const struct fault *f)
{
    struct fault silence, last;
    bool judged = d->state == DEPLOYMENT_READY &&
                  (ev == DEPLOYMENT_EV_ANSWER || ev == DEPLOYMENT_EV_AGAIN || ev == DEPLOYMENT_EV_FAULT);

    f = note_facts(d, ev, f, &silence);
    struct deployment_move m = deployment_next(d, ev, f);

    switch (m.how) {
    case ENTER:
        if (m.state == DEPLOYMENT_FAILED)
            f = way_fault(d, last_death(d, f, &last));
        deployment_enter(d, m.state, f ? f->text : deployment_event_name(ev), f);
        break;
    case DO: deployment_act(d); break;
    case WAIT: timer_arm(d->timer, state_rest_ms(d)); break;
    case KEEP: break;
    }
    if (ev == DEPLOYMENT_EV_WAY)
        deployment_stages_of_way(d);
    if (judged)
        deployment_answer_judges(d, m.how == ENTER && ev == DEPLOYMENT_EV_FAULT ? f : NULL,
                                 d->state == DEPLOYMENT_READY);
}
