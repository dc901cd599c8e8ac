/* When a machine is on that was rented by hand: only a person switches it on, and its guard off. A model that
 * is wanted on it waits, as on any host that is away; once the machine has been idle its guard is told to
 * stop it. */
#include "manager_power.h"

#include "base/clock.h"
#include "base/timer.h"
#include "guard/keeper.h"
#include "lease/boxed.h"
#include "lease/lease.h"
#include "proto/mem.h"

/* Another power-on: what was said and seen in the one before is over. One that was on when we began, or that
 * was taken for off, is no other: its last use may have been before. */
static void note_cycle(struct power *p, const struct boxed_figures *n, uint64_t now)
{
    if (p->on_due && p->cycle == n->cycles)
        return;
    p->is_unused = p->cycle == n->cycles;
    p->cycle = n->cycles;
    p->on_due = p->born_due = now;
    p->was_used = p->was_off = p->hold_is_over = false;
    p->away_due = p->leave_due = 0;
}

static void note_guard(struct power *p, const struct boxed *b, uint64_t now)
{
    struct keeper_figures k;

    keeper_figures(boxed_keeper(b), &k);
    if (k.read_at_ms || now - p->on_due >= UNHEARD_MS)
        p->restored = false;
}

/* max_up counts from the last use, whichever daemon saw it, by the machine's own clock. */
static void note_boxed_used(struct power *p, struct boxed *b, const struct stay_facts *f, uint64_t now)
{
    uint64_t unused_ms;

    p->is_unused = f->begun_due != 0;
    if (!p->is_unused || !boxed_unused_ms(b, now, &unused_ms))
        boxed_note_used(b, MAX(f->used_due, f->on_due));
}

/* As far as it is known by now. */
static void note_before(struct power *p, const struct boxed *b, uint64_t now)
{
    uint64_t unused_ms, age_ms = now - p->born_due;

    p->unused_before_ms = 0;
    if (p->is_unused && boxed_unused_ms(b, now, &unused_ms))
        p->unused_before_ms = unused_ms - MIN(unused_ms, age_ms);
}

/* Somebody who has just switched it on, or added it, has not said yet what it is for: what ends that is
 * idleness, and no word of before. */
static struct stay_facts boxed_facts(struct power *p, uint64_t now)
{
    struct stay_facts f = power_facts(p, now);

    p->was_used |= (f.wanted && f.any_goal) || f.in_memory;
    if (!p->was_used) {
        f.any_goal = true;
        f.asleep_by_word = false;
    }
    return f;
}

static void judge_on(struct power *p, struct boxed *b, uint64_t now)
{
    const struct stay_rule rule = power_rule(p);

    note_before(p, b, now);

    const struct stay_facts f = boxed_facts(p, now);

    note_boxed_used(p, b, &f, now);
    if (!f.any_goal)
        boxed_allow(b, false); /* it was said for a model */
    p->stay = stay_judge(&rule, &f, now);
    if (boxed_is_anothers(b) || (p->restored && p->stay.verdict != STAY_ON))
        /* its owner's to end; its guard may know of a hold */
        p->stay = (struct stay){STAY_ON, p->stay.reason, STAY_NEVER};
    power_stay(p);
}

static void judge_off(struct power *p)
{
    if (!p->was_off)
        power_lose_servers(p, "the machine is off");
    p->was_off = true;
    p->on_due = p->away_due = p->leave_due = 0;
    p->stay = (struct stay){STAY_OFF, p->stay.reason, STAY_NEVER};
    power_leave_waiting(p);
}

static void power_arm_boxed(struct power *p, uint64_t now)
{
    uint64_t due = p->stay.verdict == STAY_OFF ? STAY_NEVER : p->stay.until_due;

    if (p->away_due)
        due = MIN(due, p->away_due + AWAY_MS);
    if (p->on_due)
        due = MIN(due, now + LOOK_MS);
    power_arm_at(p, due, now);
}

void power_judge_boxed(struct power *p)
{
    struct boxed *b = lease_boxed(p->lease);
    uint64_t now = clock_now_ms();
    struct boxed_figures n;

    if (boxed_state(b) == BOXED_STOPPING && power_has_wish(p))
        boxed_stay(b); /* not told yet: wanted again */
    boxed_figures(b, &n);
    switch (boxed_state(b)) {
    case BOXED_UNKNOWN: power_leave_waiting(p); break;
    case BOXED_ON:
        note_cycle(p, &n, now);
        note_guard(p, b, now);
        power_note_quiet(p, now);
        judge_on(p, b, now);
        break;
    case BOXED_STOPPING: break;
    case BOXED_OFF: judge_off(p); break;
    }
    power_look_at_gpu(p, now);
    power_arm_boxed(p, now);
}

/* The word is about the machine, whatever its models did in this power-on; those that are open end first. One
 * that was told already is told again. */
void power_press_boxed(struct power *p)
{
    struct boxed *b = lease_boxed(p->lease);

    p->was_used = true;
    if (boxed_state(b) == BOXED_STOPPING)
        boxed_stop(b);
    power_judge_boxed(p);
}
