/* The life of a rented machine. life_next() decides and is pure; life_enter() alone writes the state;
 * life_event() is the only door. What a state is for is in life.c.
 *
 * Three rules carry it, each found by taking it away (reference/lease.md §2): what costs money is on disk
 * before it is asked; a call that makes a machine, once asked, is waited for or looked for, never repeated
 * blindly; and an off is worth something only when no call of ours can still switch on behind it. */
#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "base/op.h"
#include "base/timer.h"
#include "lease/life_private.h"
#include "proto/text.h"

#define STAY     ((struct life_move){l->record.state, LIFE_KEEP})
#define AGAIN    ((struct life_move){l->record.state, LIFE_DO})
#define LOOK     ((struct life_move){l->record.state, LIFE_LOOK})
#define MOVE(x)  ((struct life_move){(x), LIFE_ENTER})
#define WATCH(x) ((struct life_move){(x), LIFE_WATCH})

const char *life_goal_name(enum life_goal g)
{
    switch (g) {
    case LIFE_GOAL_OFF: return "off";
    case LIFE_GOAL_ON: return "on";
    case LIFE_GOAL_RELEASE: return "release";
    }
    return "?";
}

const char *life_state_name(enum life_state s)
{
    switch (s) {
    case LIFE_UNKNOWN: return "unknown";
    case LIFE_ABSENT: return "absent";
    case LIFE_WAITING: return "waiting";
    case LIFE_CREATING: return "creating";
    case LIFE_STARTING: return "starting";
    case LIFE_RUNNING: return "running";
    case LIFE_STOPPING: return "stopping";
    case LIFE_STOPPED: return "stopped";
    case LIFE_RELEASING: return "releasing";
    case LIFE_RELEASED: return "released";
    }
    return "?";
}

const char *life_event_name(enum life_event ev)
{
    switch (ev) {
    case LIFE_EV_GOAL: return "goal";
    case LIFE_EV_STORED: return "stored";
    case LIFE_EV_UNSTORED: return "not stored";
    case LIFE_EV_MADE: return "made";
    case LIFE_EV_DONE: return "heard";
    case LIFE_EV_FAULT: return "refused";
    case LIFE_EV_SEEN: return "seen";
    case LIFE_EV_BLIND: return "not seen";
    case LIFE_EV_TIMER: return "timer";
    case LIFE_EV_COUNT: break;
    }
    return "?";
}

/* ---- what to do next ---- */

static bool is_on(const struct life *l)
{
    return l->record.goal == LIFE_GOAL_ON;
}

/* The call was answered with a no, or with nothing at all. */
static struct life_move after_refusal(const struct life *l, const struct fault *f, enum life_state off)
{
    switch (f->kind) {
    case FAULT_EXHAUSTED:
    case FAULT_DENIED:
    case FAULT_INVALID: return MOVE(is_on(l) ? LIFE_WAITING : off); /* nothing happened (rental.h) */
    case FAULT_NONE:
    case FAULT_TRANSIENT:
    case FAULT_UNCERTAIN:
    case FAULT_GONE: return MOVE(LIFE_UNKNOWN);
    }
    return STAY;
}

/* None, and none given back: the list is read on, for a create that acts late. */
static struct life_move next_absent(const struct life *l, enum life_event ev)
{
    switch (ev) {
    case LIFE_EV_GOAL:
        if (is_on(l) && l->record.adopted) /* none is made in its place: is it there again? */
            return l->record.state == LIFE_ABSENT ? MOVE(LIFE_UNKNOWN) : STAY;
        if (is_on(l))
            return MOVE(l->facts.is_taken ? LIFE_WAITING : LIFE_CREATING);
        return l->record.goal == LIFE_GOAL_RELEASE && l->record.state == LIFE_ABSENT ? MOVE(LIFE_RELEASED)
                                                                                     : STAY;
    case LIFE_EV_SEEN: return l->seen == SEEN_NONE ? STAY : MOVE(LIFE_UNKNOWN);
    case LIFE_EV_TIMER: return LOOK;
    default: return STAY;
    }
}

static struct life_move next_waiting(const struct life *l, enum life_event ev)
{
    bool made = *l->record.id;

    switch (ev) {
    case LIFE_EV_GOAL: return is_on(l) ? STAY : MOVE(made ? LIFE_STOPPED : LIFE_ABSENT);
    case LIFE_EV_SEEN: return l->seen == SEEN_ON || l->seen == SEEN_CHANGING ? MOVE(LIFE_UNKNOWN) : STAY;
    case LIFE_EV_TIMER:
        if (!made && l->facts.is_taken)
            return MOVE(LIFE_WAITING); /* anew: that is what it waits for by now */
        return MOVE(made ? LIFE_STARTING : LIFE_CREATING);
    default: return STAY;
    }
}

/* The answer carries the id of what already bills: once asked, nothing else ends it. */
static struct life_move next_creating(const struct life *l, enum life_event ev, const struct fault *f)
{
    switch (ev) {
    case LIFE_EV_GOAL: return l->here.asked || is_on(l) ? STAY : MOVE(LIFE_ABSENT);
    case LIFE_EV_STORED: return AGAIN;
    case LIFE_EV_UNSTORED: return MOVE(is_on(l) ? LIFE_WAITING : LIFE_ABSENT);
    case LIFE_EV_MADE: return is_on(l) ? WATCH(LIFE_STARTING) : MOVE(LIFE_STOPPING);
    case LIFE_EV_FAULT: return after_refusal(l, f, LIFE_ABSENT);
    case LIFE_EV_TIMER:
        if (!l->here.asked)
            return MOVE(is_on(l) ? LIFE_WAITING : LIFE_ABSENT);
        return MOVE(LIFE_UNKNOWN); /* slow is not failed: list and adopt, do not pay twice */
    default: return STAY;
    }
}

static struct life_move starting_seen(const struct life *l)
{
    switch (l->seen) {
    case SEEN_ON: return MOVE(LIFE_RUNNING);
    case SEEN_CHANGING: return STAY;
    case SEEN_OFF:
        if (!l->facts.off_counts)
            return STAY;
        if (l->facts.came_up) /* between two looks */
            return MOVE(LIFE_STOPPED);
        return MOVE(is_on(l) && !l->facts.hopeless ? LIFE_WAITING : LIFE_STOPPED); /* a boot that failed */
    case SEEN_NONE: return l->facts.none_counts || l->facts.is_missing ? MOVE(LIFE_UNKNOWN) : STAY;
    }
    return STAY;
}

static struct life_move next_starting(const struct life *l, enum life_event ev, const struct fault *f)
{
    switch (ev) {
    case LIFE_EV_GOAL:
        if (is_on(l))
            return STAY;
        return MOVE(l->here.asked ? LIFE_STOPPING : LIFE_UNKNOWN);
    case LIFE_EV_STORED: return AGAIN;
    case LIFE_EV_UNSTORED: return MOVE(is_on(l) ? LIFE_WAITING : LIFE_UNKNOWN);
    case LIFE_EV_DONE: return LOOK;
    case LIFE_EV_FAULT: return streq(f->code, "already") ? LOOK : after_refusal(l, f, LIFE_UNKNOWN);
    case LIFE_EV_SEEN: return l->here.asked ? starting_seen(l) : STAY;
    case LIFE_EV_TIMER:
        if (!l->here.asked)
            return MOVE(is_on(l) ? LIFE_WAITING : LIFE_UNKNOWN);
        return l->facts.late ? MOVE(LIFE_UNKNOWN) : LOOK;
    default: return STAY;
    }
}

static struct life_move next_running(const struct life *l, enum life_event ev)
{
    switch (ev) {
    case LIFE_EV_GOAL: return is_on(l) || !l->record.ours ? STAY : MOVE(LIFE_STOPPING);
    case LIFE_EV_SEEN:
        switch (l->seen) {
        case SEEN_ON: return STAY;
        case SEEN_OFF: return l->facts.off_counts ? MOVE(LIFE_STOPPED) : STAY;
        case SEEN_CHANGING:
        case SEEN_NONE: return MOVE(LIFE_UNKNOWN);
        }
        return STAY;
    case LIFE_EV_TIMER: return LOOK;
    default: return STAY;
    }
}

/* Of one that somebody else made a list that leaves it out is no word about its bill. */
static struct life_move stopping_none(const struct life *l)
{
    if (!l->record.adopted)
        return MOVE(LIFE_UNKNOWN);
    return l->facts.none_counts ? MOVE(LIFE_ABSENT) : STAY;
}

/* Asked again for ever: nothing but the provider's own word ends it. */
static struct life_move next_stopping(const struct life *l, enum life_event ev, const struct fault *f)
{
    switch (ev) {
    case LIFE_EV_DONE: return LOOK;
    case LIFE_EV_FAULT:
        if (f->kind == FAULT_GONE && !l->record.adopted)
            return MOVE(LIFE_UNKNOWN);
        return f->kind == FAULT_GONE || streq(f->code, "already") ? LOOK : STAY;
    case LIFE_EV_SEEN:
        switch (l->seen) {
        case SEEN_OFF: return l->facts.off_counts ? MOVE(LIFE_STOPPED) : STAY;
        case SEEN_ON: return l->here.seen_not_on ? AGAIN : STAY; /* the stop came too early and was ignored */
        case SEEN_CHANGING: return STAY;
        case SEEN_NONE: return stopping_none(l);
        }
        return STAY;
    case LIFE_EV_TIMER: return l->here.turn ? AGAIN : LOOK;
    default: return STAY; /* a goal waits: first off, then it is asked for again */
    }
}

static struct life_move next_stopped(const struct life *l, enum life_event ev)
{
    switch (ev) {
    case LIFE_EV_GOAL:
        switch (l->record.goal) {
        case LIFE_GOAL_OFF: return STAY;
        case LIFE_GOAL_ON: return MOVE(LIFE_STARTING);
        case LIFE_GOAL_RELEASE: return MOVE(LIFE_RELEASING);
        }
        return STAY;
    case LIFE_EV_SEEN:
        switch (l->seen) {
        case SEEN_OFF: return STAY;
        case SEEN_ON: return MOVE(l->facts.off_counts ? LIFE_RUNNING : LIFE_UNKNOWN);
        case SEEN_CHANGING:
        case SEEN_NONE: return MOVE(LIFE_UNKNOWN);
        }
        return STAY;
    case LIFE_EV_TIMER: return LOOK;
    default: return STAY;
    }
}

static struct life_move next_unknown(const struct life *l, enum life_event ev)
{
    switch (ev) {
    case LIFE_EV_SEEN:
        switch (l->seen) {
        case SEEN_ON: return MOVE(is_on(l) || !l->record.ours ? LIFE_RUNNING : LIFE_STOPPING);
        case SEEN_CHANGING:
            /* one that had come up goes off just now, and not by us; or it comes back by itself */
            if (is_on(l))
                return l->record.was_on ? STAY : WATCH(LIFE_STARTING);
            return l->record.ours ? MOVE(LIFE_STOPPING) : STAY;
        case SEEN_OFF: return l->facts.off_counts ? MOVE(LIFE_STOPPED) : STAY;
        case SEEN_NONE:
            if (l->facts.is_missing && l->record.ours) /* it can still be told to stop, by its id */
                return MOVE(LIFE_STOPPING);
            return l->facts.none_counts ? MOVE(LIFE_ABSENT) : STAY;
        }
        return STAY;
    case LIFE_EV_TIMER: return LOOK;
    default: return STAY;
    }
}

static struct life_move next_releasing(const struct life *l, enum life_event ev, const struct fault *f)
{
    switch (ev) {
    case LIFE_EV_STORED: return AGAIN;
    case LIFE_EV_DONE: return LOOK;
    case LIFE_EV_FAULT: return streq(f->code, "not_off") ? MOVE(LIFE_STOPPING) : LOOK;
    case LIFE_EV_SEEN:
        switch (l->seen) {
        case SEEN_NONE: return l->facts.none_counts ? MOVE(LIFE_RELEASED) : STAY;
        case SEEN_OFF: return STAY;
        case SEEN_ON:
        case SEEN_CHANGING: return MOVE(LIFE_STOPPING);
        }
        return STAY;
    case LIFE_EV_TIMER: return !l->here.asked ? MOVE(LIFE_RELEASING) : l->here.turn ? AGAIN : LOOK;
    default: return STAY; /* what was asked cannot be taken back */
    }
}

struct life_move life_next(const struct life *l, enum life_event ev, const struct fault *f)
{
    switch (l->record.state) {
    case LIFE_UNKNOWN: return next_unknown(l, ev);
    case LIFE_ABSENT:
    case LIFE_RELEASED: return next_absent(l, ev);
    case LIFE_WAITING: return next_waiting(l, ev);
    case LIFE_CREATING: return next_creating(l, ev, f);
    case LIFE_STARTING: return next_starting(l, ev, f);
    case LIFE_RUNNING: return next_running(l, ev);
    case LIFE_STOPPING: return next_stopping(l, ev, f);
    case LIFE_STOPPED: return next_stopped(l, ev);
    case LIFE_RELEASING: return next_releasing(l, ev, f);
    }
    return STAY;
}

/* ---- entering ---- */

static bool life_is_paid(enum life_state s)
{
    return s == LIFE_CREATING || s == LIFE_STARTING;
}

static void life_set_trouble(struct life *l, const char *code, const char *text)
{
    fault_code(&l->fault, FAULT_TRANSIENT, code, "%s", text);
}

/* A boot of ours that ended in off; three of them in half an hour end the wish. */
static void life_count_boot(struct life *l)
{
    uint64_t now = clock_now_ms();

    if (!l->boots.n_failed || now - l->boots.from_due > LIFE_BOOTS_WITHIN_MS) {
        l->boots.n_failed = 0;
        l->boots.from_due = now;
    }
    l->boots.n_failed++;
    life_set_trouble(l, "boot_failed", "the machine was switched on and went off again by itself");
}

/* Off, and not by us: whoever did it wants it off. */
static void life_off_elsewhere(struct life *l)
{
    l->record.goal = LIFE_GOAL_OFF;
    life_set_trouble(l, "stopped_elsewhere", "the machine was switched off, and not by us");
}

/* It came on long after a call of ours that was not seen to act, and nobody wants it: that is ended, as what a
 * call of ours began; who pressed a button just then has to know. */
static void life_set_late(struct life *l)
{
    life_set_trouble(l, "started_late",
                     "it came on long after a power-on of ours that was not seen to act, was taken for that, "
                     "and is switched off; who switched it on elsewhere does so once more, and it is let be");
}

static void life_tell_late(struct life *l)
{
    life_set_late(l);
    event_publish(LOG_LEVEL_WARNING, LOG_PROVIDER, l->context.name, "started_late", "%s", l->fault.text);
}

/* Somebody gave it back, and not by us: none is made in its place until it is wanted anew. One of others is
 * looked for on, by its id. */
static void life_vanished(struct life *l)
{
    bool is_news = !streq(l->fault.code, "vanished");

    l->record.goal = LIFE_GOAL_OFF;
    life_set_trouble(l, "vanished",
                     l->facts.is_missing
                         ? "the provider no longer lists the machine, and nobody said that it is off: "
                           "it may still be billed"
                         : "the provider no longer has the machine");
    if (is_news)
        event_publish(LOG_LEVEL_ERR, LOG_PROVIDER, l->context.name, "vanished", "%s", l->fault.text);
}

/* And stays where it is: it is not ours to stop, or was told to. */
static void life_tell_missing(struct life *l)
{
    if (streq(l->fault.code, "vanished") || streq(l->fault.code, "stop_not_confirmed"))
        return;
    life_vanished(l);
    l->context.keep(l->context.ctx, &l->record);
    runq_add(l->context.loop, &l->changed);
}

/* By us, by somebody else, or by itself. */
static void life_is_off(struct life *l, enum life_state was)
{
    bool came_up = l->facts.came_up || (l->record.was_on && (was == LIFE_RUNNING || was == LIFE_UNKNOWN));

    if (is_on(l) && came_up && was != LIFE_STOPPING) {
        life_off_elsewhere(l);
    } else if (is_on(l) && was == LIFE_STARTING) {
        l->record.goal = LIFE_GOAL_OFF;
        life_count_boot(l);
    } else if (was == LIFE_STOPPING || streq(l->fault.code, "started_elsewhere")) {
        l->fault = (struct fault){0};
        if (l->came_late)
            life_set_late(l);
    }
    l->came_late = false;
    l->record.ours = l->record.was_on = false;
}

/* A new intent to pay: all begins anew. */
static void life_intends(struct life *l, bool create)
{
    int64_t their_at_ms = life_their_now_ms(l);

    l->record.acted = l->came_late = false;
    l->record.asked_at_ms = their_at_ms ? their_at_ms : clock_wall_ms(); /* the call comes after it */
    l->age.asked_due = clock_now_ms();
    l->record.create_open = create;
    l->record.made += create;
    l->record.ours = true;
    l->record.was_on = false;
    if (create)
        l->started.at_ms = 0; /* of the one before it */
    l->started.before_ms = l->started.at_ms;
}

static void life_waits(struct life *l, enum life_state was, enum life_event ev)
{
    if (was == LIFE_STARTING && ev == LIFE_EV_SEEN && l->seen == SEEN_OFF)
        life_count_boot(l);
    if (l->facts.is_taken && ev != LIFE_EV_FAULT)
        life_set_trouble(l, "is_orphan",
                         "nothing is made yet: a machine that no instance here knows has the name of the "
                         "next one and has to be ended first, or the list that tells was not read yet");
}

static void life_runs(struct life *l)
{
    l->record.was_on = true;
    l->fault = (struct fault){0};
    if (!l->record.ours)
        life_set_trouble(l, "started_elsewhere", "the machine was switched on, and not by us");
}

static void life_stops(struct life *l, enum life_state was)
{
    if (was == LIFE_UNKNOWN && l->facts.is_missing)
        life_vanished(l);
    else if (l->came_late)
        life_tell_late(l);
    l->record.ours = true; /* whoever began it, we end it */
}

/* One of others is looked for on by its id, which nothing else would find. */
static void life_forget_id(struct life *l)
{
    if (!l->record.adopted)
        *l->record.id = '\0';
}

static void life_is_no_more(struct life *l, enum life_state was)
{
    if ((was == LIFE_UNKNOWN || was == LIFE_STOPPING) && *l->record.id)
        life_vanished(l);
    l->is_gone = true;
    life_forget_id(l);
    l->record.create_open = l->record.was_on = false;
    l->record.ours = l->record.ours && l->record.adopted; /* should it be there again, and on */
}

static void life_is_released(struct life *l)
{
    life_forget_id(l);
    l->record.ours = l->record.was_on = false;
    l->fault = (struct fault){0};
}

/* What appears late, or comes up behind an off that did not count, is our doing. */
static void life_doubts(struct life *l, enum life_state was)
{
    if (was == LIFE_WAITING || (was == LIFE_STOPPED && !l->facts.off_counts))
        l->record.ours = true;
    else if (was == LIFE_ABSENT || was == LIFE_RELEASED)
        l->record.ours = l->record.ours || !l->record.adopted || is_on(l);
}

/* The facts that go with being in a state; l->record.state is still the one before. */
static void life_take_facts(struct life *l, struct life_move m, enum life_event ev, const struct fault *f)
{
    enum life_state was = l->record.state;

    if (was == LIFE_WAITING) /* what it waited for is over, one way or the other */
        l->fault = (struct fault){0};
    if (ev == LIFE_EV_TIMER && life_is_paid(was) && !l->here.asked)
        life_set_trouble(l, "disk", "what it would cost cannot be written down");
    switch (m.state) {
    case LIFE_WAITING: life_waits(l, was, ev); break;
    case LIFE_CREATING:
    case LIFE_STARTING:
        if (m.how != LIFE_WATCH)
            life_intends(l, m.state == LIFE_CREATING);
        break;
    case LIFE_RUNNING: life_runs(l); break;
    case LIFE_STOPPING: life_stops(l, was); break;
    case LIFE_STOPPED: life_is_off(l, was); break;
    case LIFE_ABSENT: life_is_no_more(l, was); break;
    case LIFE_RELEASED: life_is_released(l); break;
    case LIFE_UNKNOWN: life_doubts(l, was); break;
    case LIFE_RELEASING: break;
    }
    /* A plain no, or never asked: nothing of ours is under way. */
    if ((ev == LIFE_EV_FAULT && (m.state == LIFE_WAITING || m.state == LIFE_ABSENT)) ||
        (life_is_paid(was) && !l->here.asked)) {
        l->record.create_open = false;
        l->record.asked_at_ms = 0;
    }
    if (f && f->kind != FAULT_NONE)
        l->fault = *f;
}

/* The only place that writes the state. */
static void life_enter(struct life *l, struct life_move m, enum life_event ev, const struct fault *f)
{
    op_cancel(&l->call); /* a state takes nothing along: no answer, and no ticket of the database either */
    op_cancel(&l->look);
    life_take_facts(l, m, ev, f);
    log_line(LOG_LEVEL_NOTICE, LOG_PROVIDER, l->context.name, "%s -> %s (%s)",
             life_state_name(l->record.state), life_state_name(m.state),
             f && f->kind ? f->text : life_event_name(ev));
    l->record.state = m.state;
    l->here = (struct life_here){
        .asked = m.how == LIFE_WATCH, /* else life_act() sets it, just before the call */
        .entered_due = clock_now_ms(),
    };
    l->none.n = l->facts.is_missing ? l->none.n : 0;
    l->is_given_back = l->is_given_back && m.state == LIFE_RELEASING;
    runq_add(l->context.loop, &l->changed);
    if ((life_is_paid(m.state) && !l->here.asked) || m.state == LIFE_RELEASING) {
        life_rearm(l);
        l->context.keep_then(l->context.ctx, &l->record, life_is_paid(m.state), &l->call, life_on_kept, l);
        return; /* durable first: a crash must find what we were about to pay for */
    }
    l->context.keep(l->context.ctx, &l->record);
    life_rearm(l); /* how long it waits depends on what was just heard */
    if (m.how == LIFE_ENTER)
        life_act(l); /* a stop waits for no disk */
}

void life_event(struct life *l, enum life_event ev, const struct fault *f)
{
    life_note_facts(l);
    struct life_move m = life_next(l, ev, f);

    if (ev == LIFE_EV_TIMER) {
        l->here.turn = !l->here.turn;
        life_rearm(l);
    }
    switch (m.how) {
    case LIFE_KEEP:
        if (f && f->kind == FAULT_DENIED) { /* it goes on, and a person has to know */
            l->fault = *f;
            l->is_blind = ev == LIFE_EV_BLIND;
            runq_add(l->context.loop, &l->changed);
        }
        if (ev == LIFE_EV_SEEN && l->facts.is_missing)
            life_tell_missing(l);
        break;
    case LIFE_ENTER: life_enter(l, m, ev, f); break;
    case LIFE_WATCH:
        life_enter(l, m, ev, f);
        life_look(l); /* a boot that fails soon is seen on its way */
        break;
    case LIFE_DO: life_act(l); break;
    case LIFE_LOOK: life_look(l); break;
    }
}
