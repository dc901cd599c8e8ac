/* The first reason that applies is the one that is told, so their order is the rule: money before a person's
 * word, a word before max_up, max_up before use, use before the timers of idleness. */
#include "policy/stay.h"

#include "proto/mem.h"

static struct stay on(enum stay_reason reason, uint64_t until_due)
{
    return (struct stay){STAY_ON, reason, until_due};
}

/* It is over since then: whatever is in memory has STAY_DRAIN_MS to get out of it. */
static struct stay over(const struct stay_facts *f, enum stay_reason reason, uint64_t since_due, uint64_t now)
{
    uint64_t until_due = since_due + STAY_DRAIN_MS;

    if ((f->wanted || f->in_memory) && now < until_due)
        return (struct stay){STAY_DRAIN, reason, until_due};
    return (struct stay){STAY_OFF, reason, STAY_NEVER};
}

/* By a word, which carries no time: the models have been told, and end as they do. */
static struct stay told(const struct stay_facts *f, enum stay_reason reason)
{
    return (struct stay){f->in_memory ? STAY_DRAIN : STAY_OFF, reason, STAY_NEVER};
}

static uint64_t last_use(const struct stay_facts *f)
{
    return MAX(f->used_due, f->on_due);
}

/* What a daemon before this one saw counts: nobody gets another max_up by beginning anew. */
uint64_t stay_max_due(const struct stay_rule *rule, const struct stay_facts *f)
{
    if (f->begun_due)
        return f->begun_due + rule->max_up_ms - MIN(rule->max_up_ms, f->before_ms);
    return last_use(f) + rule->max_up_ms;
}

/* Nobody uses a model: the latest of what holds it up nevertheless. */
static struct stay judge_idle(const struct stay_rule *rule, const struct stay_facts *f, uint64_t now)
{
    uint64_t minimum_due = f->on_due + rule->min_up_ms, due, quiet_due;
    enum stay_reason reason = STAY_IDLE;

    if (f->failed_due && !f->in_memory) {
        reason = STAY_FAILED_HOLD;
        due = f->failed_due + rule->failed_hold_ms;
    } else if (!rule->stop_ms) {
        return on(STAY_IDLE, STAY_NEVER);
    } else {
        due = last_use(f) + rule->stop_ms;
        /* none, which is 0, is before any use: it holds nothing up */
        quiet_due = MIN(f->quiet_due + rule->stop_ms, last_use(f) + rule->quiet_hold_ms);
        reason = quiet_due > due ? STAY_QUIET_USE : reason;
        due = MAX(due, quiet_due);
    }
    if (minimum_due > due) {
        reason = now < minimum_due ? STAY_MINIMUM_UP : reason;
        due = minimum_due;
    }
    return now < due ? on(reason, due) : over(f, reason, due, now);
}

struct stay stay_judge(const struct stay_rule *rule, const struct stay_facts *f, uint64_t now)
{
    bool prepaid = now < f->prepaid_until_due;
    uint64_t max_due = prepaid ? STAY_NEVER : stay_max_due(rule, f);
    struct stay s;

    if (f->money_due && !prepaid) /* it costs nothing more */
        return over(f, STAY_MONEY, f->money_due, now);
    if (now < f->hold_until_due)
        return on(STAY_KEPT, f->hold_until_due);
    if (!f->any_goal)
        return told(f, STAY_UNWANTED);
    if (f->asleep_by_word)
        return told(f, STAY_SLEEPS);
    if (now >= max_due)
        return over(f, STAY_MAX_UP, max_due, now);
    if (f->wanted)
        return on(STAY_REQUESTS, prepaid ? f->prepaid_until_due : max_due);
    if (prepaid)
        return on(STAY_PREPAID, f->prepaid_until_due);
    s = judge_idle(rule, f, now);
    if (s.verdict == STAY_ON)
        s.until_due = MIN(s.until_due, max_due);
    return s;
}

const char *stay_reason_name(enum stay_reason r)
{
    switch (r) {
    case STAY_REQUESTS: return "in_use";
    case STAY_KEPT: return "kept";
    case STAY_MINIMUM_UP: return "minimum_up";
    case STAY_IDLE: return "idle";
    case STAY_FAILED_HOLD: return "failed_hold";
    case STAY_QUIET_USE: return "quiet_use";
    case STAY_MAX_UP: return "max_up";
    case STAY_MONEY: return "budget";
    case STAY_UNWANTED: return "stopped_by_user";
    case STAY_SLEEPS: return "asleep";
    case STAY_PREPAID: return "prepaid";
    }
    return "?";
}
