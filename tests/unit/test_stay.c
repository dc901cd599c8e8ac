#include <criterion/criterion.h>

#include "policy/stay.h"

#define MIN_MS 60000ull
#define HOUR   60

/* Minutes, as of the settings' defaults. */
static const struct stay_rule rule = {
    .stop_ms = 15 * MIN_MS,
    .min_up_ms = 5 * MIN_MS,
    .max_up_ms = 12 * HOUR * MIN_MS,
    .quiet_hold_ms = 2 * HOUR * MIN_MS,
    .failed_hold_ms = 5 * MIN_MS,
};

/* Minutes; 0: never. */
struct minutes {
    unsigned on, used, failed, quiet, hold, money, paid;
};

enum { WANTED = 1, MEMORY = 2, GOAL = 4, WORD = 8 };

static struct stay judge_with(const struct stay_rule *r, int flags, struct minutes m, unsigned now)
{
    const struct stay_facts f = {
        .wanted = flags & WANTED,
        .in_memory = flags & MEMORY,
        .any_goal = flags & GOAL,
        .asleep_by_word = flags & WORD,
        .on_due = m.on * MIN_MS,
        .used_due = m.used * MIN_MS,
        .failed_due = m.failed * MIN_MS,
        .quiet_due = m.quiet * MIN_MS,
        .hold_until_due = m.hold * MIN_MS,
        .money_due = m.money * MIN_MS,
        .prepaid_until_due = m.paid * MIN_MS,
    };

    return stay_judge(r, &f, now * MIN_MS);
}

static const struct row {
    const char *what;
    int flags;
    struct minutes m;
    unsigned now;
    enum stay_verdict verdict;
    enum stay_reason reason;
    unsigned until; /* 0: never by time alone */
} rows[] = {
    /* use */
    {"a request", WANTED | MEMORY | GOAL, {.on = 1, .used = 10}, 11, STAY_ON, STAY_REQUESTS, 10 + 12 * HOUR},
    {"on its way to memory for an hour", WANTED | GOAL, {.on = 1}, 61, STAY_ON, STAY_REQUESTS, 1 + 12 * HOUR},
    /* idle */
    {"nobody asks, it is in memory", MEMORY | GOAL, {.on = 1, .used = 10}, 24, STAY_ON, STAY_IDLE, 25},
    {"unloaded before", GOAL, {.on = 1, .used = 10}, 24, STAY_ON, STAY_IDLE, 25},
    {"idle is over, it is in memory", MEMORY | GOAL, {.on = 1, .used = 10}, 25, STAY_DRAIN, STAY_IDLE, 27},
    {"and does not leave it in time", MEMORY | GOAL, {.on = 1, .used = 10}, 27, STAY_OFF, STAY_IDLE, 0},
    {"idle is over, nothing in memory", GOAL, {.on = 1, .used = 10}, 25, STAY_OFF, STAY_IDLE, 0},
    {"used before it came up", GOAL, {.on = 30, .used = 10}, 44, STAY_ON, STAY_IDLE, 45},
    /* a model failed */
    {"one can look", GOAL, {.on = 1, .used = 1, .failed = 8}, 12, STAY_ON, STAY_FAILED_HOLD, 13},
    {"long enough", GOAL, {.on = 1, .used = 1, .failed = 8}, 13, STAY_OFF, STAY_FAILED_HOLD, 0},
    {"it failed at once", GOAL, {.on = 20, .failed = 16}, 22, STAY_ON, STAY_MINIMUM_UP, 25},
    {"it failed at once, and has been up for long enough",
     GOAL,
     {.on = 20, .failed = 16},
     25,
     STAY_OFF,
     STAY_FAILED_HOLD,
     0},
    {"it failed as it came up", GOAL, {.on = 16, .failed = 16}, 20, STAY_ON, STAY_FAILED_HOLD, 21},
    {"another one is there", MEMORY | GOAL, {.on = 1, .used = 8, .failed = 8}, 20, STAY_ON, STAY_IDLE, 23},
    /* other use */
    {"a forward", GOAL, {.on = 1, .used = 10, .quiet = 60}, 74, STAY_ON, STAY_QUIET_USE, 75},
    {"a forward as long as the last request",
     GOAL,
     {.on = 1, .used = 10, .quiet = 10},
     24,
     STAY_ON,
     STAY_IDLE,
     25},
    {"a forward went quiet", GOAL, {.on = 1, .used = 10, .quiet = 60}, 75, STAY_OFF, STAY_QUIET_USE, 0},
    {"a forward for ever", GOAL, {.on = 1, .used = 10, .quiet = 129}, 129, STAY_ON, STAY_QUIET_USE, 130},
    {"two hours at most", GOAL, {.on = 1, .used = 10, .quiet = 130}, 130, STAY_OFF, STAY_QUIET_USE, 0},
    {"a forward before the last request",
     GOAL,
     {.on = 1, .used = 10, .quiet = 5},
     24,
     STAY_ON,
     STAY_IDLE,
     25},
    /* words */
    {"kept, asleep", GOAL, {.on = 1, .used = 1, .hold = 500}, 400, STAY_ON, STAY_KEPT, 500},
    {"kept longer than max_up", GOAL, {.on = 1, .used = 1, .hold = 900}, 800, STAY_ON, STAY_KEPT, 900},
    {"kept, and nothing wanted", 0, {.on = 1, .used = 1, .hold = 500}, 400, STAY_ON, STAY_KEPT, 500},
    {"the keep is over", GOAL, {.on = 1, .used = 1, .hold = 500}, 500, STAY_OFF, STAY_IDLE, 0},
    {"down", 0, {.on = 1, .used = 2}, 2, STAY_OFF, STAY_UNWANTED, 0},
    {"down, requests still open", WANTED | MEMORY, {.on = 1, .used = 2}, 2, STAY_DRAIN, STAY_UNWANTED, 0},
    {"sleep", GOAL | WORD, {.on = 1, .used = 2}, 2, STAY_OFF, STAY_SLEEPS, 0},
    {"sleep, still draining", GOAL | WORD | MEMORY, {.on = 1, .used = 2}, 2, STAY_DRAIN, STAY_SLEEPS, 0},
    /* the end of everything */
    {"max_up, in use", WANTED | MEMORY | GOAL, {.on = 1, .used = 10}, 730, STAY_DRAIN, STAY_MAX_UP, 732},
    {"max_up, and it did not drain",
     WANTED | MEMORY | GOAL,
     {.on = 1, .used = 10},
     732,
     STAY_OFF,
     STAY_MAX_UP,
     0},
    /* money */
    {"a limit", WANTED | MEMORY | GOAL, {.on = 1, .used = 10, .money = 11}, 12, STAY_DRAIN, STAY_MONEY, 13},
    {"a limit, drained", GOAL, {.on = 1, .used = 10, .money = 11}, 12, STAY_OFF, STAY_MONEY, 0},
    {"a limit, two minutes",
     WANTED | MEMORY | GOAL,
     {.on = 1, .used = 10, .money = 11},
     13,
     STAY_OFF,
     STAY_MONEY,
     0},
    {"a limit, kept",
     MEMORY | GOAL,
     {.on = 1, .used = 10, .hold = 90, .money = 11},
     13,
     STAY_OFF,
     STAY_MONEY,
     0},
    /* prepaid */
    {"paid for already",
     MEMORY | GOAL,
     {.on = 1, .used = 2, .paid = 48 * HOUR},
     20 * HOUR,
     STAY_ON,
     STAY_PREPAID,
     48 * HOUR},
    {"paid for, in use",
     WANTED | GOAL,
     {.on = 1, .used = 2, .paid = 48 * HOUR},
     20 * HOUR,
     STAY_ON,
     STAY_REQUESTS,
     48 * HOUR},
    {"paid for, a limit",
     MEMORY | GOAL,
     {.on = 1, .used = 2, .money = 3, .paid = 48 * HOUR},
     20,
     STAY_ON,
     STAY_PREPAID,
     48 * HOUR},
    {"was paid for", GOAL, {.on = 1, .used = 2, .paid = 60}, 60, STAY_OFF, STAY_IDLE, 0},
    {"paid for, down", 0, {.on = 1, .used = 2, .paid = 48 * HOUR}, 20, STAY_OFF, STAY_UNWANTED, 0},
};

Test(stay, table)
{
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        const struct stay s = judge_with(&rule, r->flags, r->m, r->now);

        cr_expect(s.verdict == r->verdict && s.reason == r->reason, "%s: %d, %s", r->what, s.verdict,
                  stay_reason_name(s.reason));
        cr_expect_eq(s.until_due, r->until ? r->until * MIN_MS : STAY_NEVER, "%s: until %llu min", r->what,
                     (unsigned long long)(s.until_due / MIN_MS));
    }
}

Test(stay, minimum_up_is_longer_than_a_short_stop)
{
    struct stay_rule r = rule;

    r.stop_ms = MIN_MS;
    const struct stay s = judge_with(&r, GOAL, (struct minutes){.on = 10, .used = 11}, 13);

    cr_assert(s.verdict == STAY_ON && s.reason == STAY_MINIMUM_UP && s.until_due == 15 * MIN_MS);
}

Test(stay, never_for_being_idle_but_max_up)
{
    struct stay_rule r = rule;

    r.stop_ms = 0;
    const struct stay s = judge_with(&r, MEMORY | GOAL, (struct minutes){.on = 10, .used = 20}, 600);

    cr_assert(s.verdict == STAY_ON && s.reason == STAY_IDLE && s.until_due == (20 + 12 * HOUR) * MIN_MS);
}

/* Whatever the facts are: without a use it is off in the end, and while it is on, the instant at which that
 * may change by time alone is ahead. */
Test(stay, has_an_end)
{
    for (int flags = 0; flags < 16; flags++) { /* not prepaid */
        const struct minutes m = {
            .on = 10, .used = 20, .failed = flags & 1 ? 21 : 0, .quiet = 22, .hold = 30};
        unsigned now = 10;

        for (; now < 24 * HOUR; now++) {
            const struct stay s = judge_with(&rule, flags, m, now);

            cr_assert(s.verdict == STAY_OFF || s.until_due > now * MIN_MS);
            if (s.verdict == STAY_OFF)
                break;
        }
        const struct stay last = judge_with(&rule, flags, m, 24 * HOUR);

        cr_assert(last.verdict == STAY_OFF || (last.verdict == STAY_DRAIN && last.until_due == STAY_NEVER));
    }
}
