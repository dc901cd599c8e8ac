/* links: deployment
 *
 * The life of a deployment: its table of moves row by row, then thousands of random stories: goals flip, the
 * way breaks and is refused, steps answer late, not yet, or never, servers crash, requests come and go, it is
 * put to sleep and kept awake, the daemon is killed and started again with what was on disk by then. */
#include "tests/unit/deployment_world.h"

/* ---- The table ---- */

/* What a row hands in, one letter each: goal (+) on, (-) off; (r)eachable, re(f)used, (l)ate, (c)ut,
 * (t)ouched, (w)ay failed, (b)usy with a request, (h)eld all of them, (s)tale, (z) it is to sleep, cro(W)ded,
 * roo(m)y, (o)wn server, (k)ept, (H)ung, (x) started anew already. */
struct row {
    enum deployment_state from;
    const char *facts;
    unsigned attempts, misses, deaths;
    enum deployment_event ev;
    enum fault_kind fault;
    int how;
    enum deployment_state to;
    const char *code; /* of the fault */
};

/* clang-format off */
/* Most faults need no code. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define EV(name)   DEPLOYMENT_EV_##name
#define NO         FAULT_NONE

#define STEP(state, after)                                                          \
    {state, "+r",   0, 0, 0, EV(GOAL),   NO,              KEEP,  OFF},              \
    {state, "-r",   0, 0, 0, EV(GOAL),   NO,              ENTER, OFF},              \
    {state, "-rt",  0, 0, 0, EV(GOAL),   NO,              ENTER, STOPPING},         \
    {state, "-tb",  0, 0, 0, EV(GOAL),   NO,              ENTER, STOPPING},         \
    {state, "+rst", 0, 0, 0, EV(GOAL),   NO,              ENTER, CONNECTING},       \
    {state, "-rst", 0, 0, 0, EV(GOAL),   NO,              ENTER, STOPPING},         \
    {state, "+rz",  0, 0, 0, EV(GOAL),   NO,              ENTER, ASLEEP},           \
    {state, "+rtz", 0, 0, 0, EV(GOAL),   NO,              ENTER, STOPPING},         \
    {state, "+r",   0, 0, 0, EV(WAY),    NO,              KEEP,  OFF},              \
    {state, "+",    0, 0, 0, EV(WAY),    NO,              KEEP,  OFF},              \
    {state, "+f",   0, 0, 0, EV(WAY),    NO,              ENTER, FAILED},           \
    {state, "+rm",  0, 0, 0, EV(ANSWER), NO,              ENTER, after},            \
    {state, "+r",   0, 0, 0, EV(AGAIN),  NO,              WAIT,  OFF},              \
    {state, "+rlx", 0, 0, 0, EV(AGAIN),  NO,              ENTER, FAILED},           \
    {state, "+r",   0, 0, 0, EV(TIMER),  NO,              DO,    OFF},              \
    {state, "+r",   1, 0, 0, EV(FAULT),  FAULT_TRANSIENT, ENTER, CONNECTING},       \
    {state, "+r",   4, 0, 0, EV(FAULT),  FAULT_UNCERTAIN, ENTER, CONNECTING},       \
    {state, "+r",   5, 0, 0, EV(FAULT),  FAULT_TRANSIENT, ENTER, FAILED},           \
    {state, "+",    5, 0, 0, EV(FAULT),  FAULT_TRANSIENT, ENTER, CONNECTING},       \
    {state, "+r",   1, 0, 0, EV(FAULT),  FAULT_EXHAUSTED, ENTER, FAILED},           \
    {state, "+rW",  1, 0, 0, EV(FAULT),  FAULT_EXHAUSTED, ENTER, CONNECTING},       \
    {state, "+rW",  5, 0, 0, EV(FAULT),  FAULT_EXHAUSTED, ENTER, FAILED},           \
    {state, "+r",   1, 0, 0, EV(FAULT),  FAULT_DENIED,    ENTER, FAILED},           \
    {state, "+r",   1, 0, 0, EV(FAULT),  FAULT_GONE,      ENTER, FAILED},           \
    {state, "+",    1, 0, 0, EV(FAULT),  FAULT_INVALID,   ENTER, FAILED},           \
    {state, "+r",   4, 0, 0, EV(FAULT),  FAULT_TRANSIENT, ENTER, CONNECTING, "engine_crashed"},     \
    {state, "+r",   5, 0, 0, EV(FAULT),  FAULT_TRANSIENT, ENTER, FAILED,     "engine_crashed"},     \
    {state, "+r",   9, 0, 0, EV(FAULT),  FAULT_GONE,      ENTER, CONNECTING, "machine_restarted"},  \
    {state, "+r",   9, 0, 0, EV(FAULT),  FAULT_GONE,      ENTER, CONNECTING, "engine_ended_elsewhere"},  \
    {state, "+r",   0, 0, 0, EV(EMPTY),  NO,              KEEP,  OFF}

static const struct row rows[] = {
    {OFF, "+",   0, 0, 0, EV(GOAL),   NO,              ENTER, CONNECTING},
    {OFF, "+z",  0, 0, 0, EV(GOAL),   NO,              ENTER, ASLEEP},
    {OFF, "+tz", 0, 0, 0, EV(GOAL),   NO,              ENTER, STOPPING},
    {OFF, "-",   0, 0, 0, EV(GOAL),   NO,              KEEP,  OFF},
    {OFF, "-t",  0, 0, 0, EV(GOAL),   NO,              ENTER, STOPPING},
    {OFF, "-r",  0, 0, 0, EV(WAY),    NO,              KEEP,  OFF},
    {OFF, "-r",  0, 0, 0, EV(ANSWER), NO,              KEEP,  OFF},
    {OFF, "-r",  0, 0, 0, EV(AGAIN),  NO,              KEEP,  OFF},
    {OFF, "-r",  0, 0, 0, EV(FAULT),  FAULT_TRANSIENT, KEEP,  OFF},
    {OFF, "-r",  0, 0, 0, EV(TIMER),  NO,              KEEP,  OFF},
    {OFF, "-r",  0, 0, 0, EV(EMPTY),  NO,              KEEP,  OFF},

    {CONNECTING, "+r",  0, 0, 0, EV(GOAL),   NO,              DO,    OFF},
    {CONNECTING, "+z",  0, 0, 0, EV(GOAL),   NO,              ENTER, ASLEEP},
    {CONNECTING, "+tz", 0, 0, 0, EV(GOAL),   NO,              ENTER, STOPPING},
    {CONNECTING, "-r",  0, 0, 0, EV(GOAL),   NO,              ENTER, OFF},
    {CONNECTING, "-t",  0, 0, 0, EV(GOAL),   NO,              ENTER, STOPPING},
    {CONNECTING, "+r",  0, 0, 0, EV(WAY),    NO,              ENTER, INSTALLING},
    {CONNECTING, "+",   0, 0, 0, EV(WAY),    NO,              KEEP,  OFF},
    {CONNECTING, "+f",  0, 0, 0, EV(WAY),    NO,              ENTER, FAILED},
    {CONNECTING, "+r",  3, 0, 0, EV(TIMER),  NO,              ENTER, INSTALLING},
    {CONNECTING, "+",   3, 0, 0, EV(TIMER),  NO,              KEEP,  OFF},
    {CONNECTING, "+f",  3, 0, 0, EV(TIMER),  NO,              ENTER, FAILED},
    {CONNECTING, "+r",  0, 0, 0, EV(ANSWER), NO,              KEEP,  OFF},
    {CONNECTING, "+r",  0, 0, 0, EV(AGAIN),  NO,              KEEP,  OFF},
    {CONNECTING, "+r",  0, 0, 0, EV(FAULT),  FAULT_INVALID,   KEEP,  OFF},
    {CONNECTING, "+r",  0, 0, 0, EV(EMPTY),  NO,              KEEP,  OFF},

    STEP(INSTALLING, STARTING),
    STEP(PLACING, LOADING),
    STEP(STARTING, FETCHING),
    STEP(FETCHING, PLACING),
    STEP(LOADING, READY),
    {STARTING, "+rl", 0, 0, 0, EV(AGAIN), NO,             ENTER, CONNECTING},
    {LOADING, "+rl",  0, 0, 0, EV(AGAIN), NO,             ENTER, FAILED},
    {INSTALLING, "+ro", 0, 0, 0, EV(ANSWER), NO,           ENTER, PLACING},
    {PLACING, "+rom", 0, 0, 0, EV(ANSWER), NO,             ENTER, STARTING},
    {PLACING, "+ro",  0, 0, 0, EV(ANSWER), NO,             WAIT,  OFF},
    {PLACING, "+r",   0, 0, 0, EV(ANSWER), NO,             WAIT,  OFF},
    {STARTING, "+ro", 0, 0, 0, EV(ANSWER), NO,             ENTER, FETCHING},
    {FETCHING, "+ro", 0, 0, 0, EV(ANSWER), NO,             ENTER, LOADING},

    {ASLEEP, "+rt",  0, 0, 0, EV(GOAL),   NO,              ENTER, CONNECTING},
    {ASLEEP, "+k",   0, 0, 0, EV(GOAL),   NO,              ENTER, CONNECTING},
    {ASLEEP, "-rt",  0, 0, 0, EV(GOAL),   NO,              ENTER, STOPPING},
    {ASLEEP, "-r",   0, 0, 0, EV(GOAL),   NO,              ENTER, OFF},
    {ASLEEP, "+rt",  0, 0, 0, EV(WAY),    NO,              KEEP,  OFF},
    {ASLEEP, "+ft",  0, 0, 0, EV(WAY),    NO,              KEEP,  OFF},
    {ASLEEP, "+rt",  0, 0, 0, EV(ANSWER), NO,              KEEP,  OFF},
    {ASLEEP, "+rt",  0, 0, 0, EV(AGAIN),  NO,              KEEP,  OFF},
    {ASLEEP, "+rt",  0, 0, 0, EV(FAULT),  FAULT_GONE,      KEEP,  OFF},
    {ASLEEP, "+rt",  0, 0, 0, EV(TIMER),  NO,              KEEP,  OFF},
    {ASLEEP, "+rt",  0, 0, 0, EV(EMPTY),  NO,              KEEP,  OFF},

    {READY, "+rt",  0, 0, 0, EV(GOAL),   NO,              KEEP,  OFF},
    {READY, "-rt",  0, 0, 0, EV(GOAL),   NO,              ENTER, STOPPING},
    {READY, "-rtb", 0, 0, 0, EV(GOAL),   NO,              ENTER, DRAINING},
    {READY, "-rtbc", 0, 0, 0, EV(GOAL),  NO,              ENTER, STOPPING},
    {READY, "-tb",  0, 0, 0, EV(GOAL),   NO,              ENTER, DRAINING},
    {READY, "+rts", 0, 0, 0, EV(GOAL),   NO,              ENTER, STOPPING},
    {READY, "+rtsb", 0, 0, 0, EV(GOAL),  NO,              ENTER, DRAINING},
    {READY, "+rtsbh", 0, 0, 0, EV(GOAL), NO,              ENTER, STOPPING},
    {READY, "-rtbh", 0, 0, 0, EV(GOAL),  NO,              ENTER, DRAINING},
    {READY, "+rt",  0, 0, 0, EV(WAY),    NO,              DO,    OFF},
    {READY, "+t",   0, 0, 0, EV(WAY),    NO,              KEEP,  OFF},
    {READY, "+tf",  0, 0, 0, EV(WAY),    NO,              KEEP,  OFF},
    {READY, "+rt",  0, 0, 0, EV(TIMER),  NO,              DO,    OFF},
    {READY, "+t",   0, 0, 0, EV(TIMER),  NO,              WAIT,  OFF},
    {READY, "+rt",  0, 0, 0, EV(ANSWER), NO,              WAIT,  OFF},
    {READY, "+rt",  0, 0, 0, EV(AGAIN),  NO,              ENTER, ASLEEP},
    {READY, "+rtb", 0, 0, 0, EV(AGAIN),  NO,              WAIT,  OFF},
    {READY, "+rtk", 0, 0, 0, EV(AGAIN),  NO,              ENTER, CONNECTING},
    {READY, "+rtk", 0, 0, 0, EV(GOAL),   NO,              KEEP,  OFF},
    {READY, "+rtzbc", 0, 0, 0, EV(GOAL), NO,              ENTER, STOPPING},
    {DRAINING, "+rtzbc", 0, 0, 0, EV(GOAL), NO,           ENTER, STOPPING},
    {DRAINING, "+rtbk", 0, 0, 0, EV(GOAL), NO,            ENTER, READY},
    {READY, "+rtz", 0, 0, 0, EV(GOAL),   NO,              ENTER, STOPPING},
    {READY, "+rtzb", 0, 0, 0, EV(GOAL),  NO,              ENTER, DRAINING},
    {READY, "+rtzbh", 0, 0, 0, EV(GOAL), NO,              ENTER, STOPPING},
    {READY, "-rtzb", 0, 0, 0, EV(GOAL),  NO,              ENTER, DRAINING},
    {DRAINING, "+rtzb", 0, 0, 0, EV(GOAL), NO,            KEEP,  OFF},
    {DRAINING, "+rtz", 0, 0, 0, EV(EMPTY), NO,            ENTER, STOPPING},
    {READY, "+t",   0, 9, 0, EV(FAULT),  FAULT_GONE,      WAIT,  OFF},
    {READY, "+rt",  0, 1, 0, EV(FAULT),  FAULT_TRANSIENT, WAIT,  OFF},
    {READY, "+rt",  0, 3, 0, EV(FAULT),  FAULT_TRANSIENT, ENTER, CONNECTING},
    {READY, "+rt",  0, 1, 0, EV(FAULT),  FAULT_GONE,      ENTER, CONNECTING},
    {READY, "+rt",  0, 1, 2, EV(FAULT),  FAULT_EXHAUSTED, ENTER, CONNECTING},
    {READY, "+rt",  0, 1, 3, EV(FAULT),  FAULT_GONE,      ENTER, CONNECTING},
    {READY, "+rt",  0, 1, 4, EV(FAULT),  FAULT_GONE,      ENTER, FAILED},
    {READY, "+rt",  0, 1, 0, EV(FAULT),  FAULT_TRANSIENT, ENTER, CONNECTING, "engine_crashed"},
    {READY, "+rt",  0, 1, 4, EV(FAULT),  FAULT_TRANSIENT, ENTER, FAILED,     "engine_crashed"},
    {READY, "+rt",  0, 1, 0, EV(FAULT),  FAULT_TRANSIENT, ENTER, CONNECTING, "port_taken"},
    {READY, "+rt",  0, 9, 4, EV(FAULT),  FAULT_TRANSIENT, WAIT,  OFF,        "no_answer"},
    {READY, "+rtH", 0, 1, 0, EV(FAULT),  FAULT_TRANSIENT, ENTER, CONNECTING, "no_answer"},
    {READY, "+rtH", 0, 1, 4, EV(FAULT),  FAULT_TRANSIENT, ENTER, FAILED,     "no_answer"},
    {READY, "+tH",  0, 1, 4, EV(FAULT),  FAULT_TRANSIENT, WAIT,  OFF,        "no_answer"},
    {READY, "+rt",  0, 1, 9, EV(FAULT),  FAULT_GONE,      ENTER, CONNECTING, "machine_restarted"},
    {READY, "+rt",  0, 1, 9, EV(FAULT),  FAULT_GONE,      ENTER, CONNECTING, "engine_ended_elsewhere"},
    {READY, "+rt",  0, 0, 0, EV(EMPTY),  NO,              KEEP,  OFF},

    {DRAINING, "+rtb", 0, 0, 0, EV(GOAL),   NO,              ENTER, READY},
    {DRAINING, "+rtbs", 0, 0, 0, EV(GOAL),  NO,              KEEP,  OFF},
    {DRAINING, "+rts", 0, 0, 0, EV(EMPTY),  NO,              ENTER, STOPPING},
    {DRAINING, "-rtb", 0, 0, 0, EV(GOAL),   NO,              KEEP,  OFF},
    {DRAINING, "-rtbc", 0, 0, 0, EV(GOAL),  NO,              ENTER, STOPPING},
    {DRAINING, "-tbf", 0, 0, 0, EV(WAY),    NO,              KEEP,  OFF},
    {DRAINING, "-rt",  0, 0, 0, EV(EMPTY),  NO,              ENTER, STOPPING},
    {DRAINING, "-rtb", 0, 0, 0, EV(TIMER),  NO,              ENTER, STOPPING},
    {DRAINING, "-rtb", 0, 0, 0, EV(ANSWER), NO,              KEEP,  OFF},
    {DRAINING, "-rtb", 0, 0, 0, EV(AGAIN),  NO,              KEEP,  OFF},
    {DRAINING, "-rtb", 0, 0, 0, EV(FAULT),  FAULT_GONE,      KEEP,  OFF},

    {STOPPING, "-rt",  0, 0, 0, EV(ANSWER), NO,              ENTER, OFF},
    {STOPPING, "+rt",  0, 0, 0, EV(ANSWER), NO,              ENTER, CONNECTING},
    {STOPPING, "+rtz", 0, 0, 0, EV(ANSWER), NO,              ENTER, ASLEEP},
    {STOPPING, "-rtz", 0, 0, 0, EV(ANSWER), NO,              ENTER, OFF},
    {STOPPING, "-rt",  0, 0, 0, EV(AGAIN),  NO,              WAIT,  OFF},
    {STOPPING, "-rt",  0, 0, 0, EV(TIMER),  NO,              DO,    OFF},
    {STOPPING, "-rt",  1, 0, 0, EV(FAULT),  FAULT_TRANSIENT, WAIT,  OFF},
    {STOPPING, "-rt",  4, 0, 0, EV(FAULT),  FAULT_UNCERTAIN, WAIT,  OFF},
    {STOPPING, "-t",   9, 0, 0, EV(FAULT),  FAULT_TRANSIENT, WAIT,  OFF},
    {STOPPING, "-rt",  5, 0, 0, EV(FAULT),  FAULT_TRANSIENT, ENTER, FAILED},
    {STOPPING, "-rt",  1, 0, 0, EV(FAULT),  FAULT_EXHAUSTED, ENTER, FAILED},
    {STOPPING, "+rt",  1, 0, 0, EV(FAULT),  FAULT_EXHAUSTED, ENTER, CONNECTING},
    {STOPPING, "+rt",  0, 0, 0, EV(GOAL),   NO,              KEEP,  OFF},
    {STOPPING, "-rt",  0, 0, 0, EV(GOAL),   NO,              KEEP,  OFF},
    {STOPPING, "-tf",  0, 0, 0, EV(WAY),    NO,              KEEP,  OFF},
    {STOPPING, "-rt",  0, 0, 0, EV(EMPTY),  NO,              KEEP,  OFF},

    {FAILED, "+r",  5, 0, 0, EV(GOAL),   NO,              ENTER, CONNECTING},
    {FAILED, "-r",  5, 0, 0, EV(GOAL),   NO,              ENTER, OFF},
    {FAILED, "-rt", 5, 0, 0, EV(GOAL),   NO,              ENTER, STOPPING},
    {FAILED, "+rw", 0, 0, 0, EV(WAY),    NO,              ENTER, CONNECTING},
    {FAILED, "-rw", 0, 0, 0, EV(WAY),    NO,              KEEP,  OFF},
    {FAILED, "+fw", 0, 0, 0, EV(WAY),    NO,              KEEP,  OFF},
    {FAILED, "+r",  0, 0, 0, EV(WAY),    NO,              KEEP,  OFF},
    {FAILED, "+r",  0, 0, 0, EV(ANSWER), NO,              KEEP,  OFF},
    {FAILED, "+r",  0, 0, 0, EV(AGAIN),  NO,              KEEP,  OFF},
    {FAILED, "+r",  0, 0, 0, EV(FAULT),  FAULT_TRANSIENT, KEEP,  OFF},
    {FAILED, "+r",  0, 0, 0, EV(TIMER),  NO,              KEEP,  OFF},
    {FAILED, "+r",  0, 0, 0, EV(EMPTY),  NO,              KEEP,  OFF},
};
/* clang-format on */

Test(deployment_fsm, each_row_of_the_table)
{
    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        const struct row *row = &rows[i];
        struct fault f = {.kind = row->fault};
        struct deployment d = {
            .state = row->from,
            .goal = strchr(row->facts, 'k')   ? GOAL_ON
                    : strchr(row->facts, '+') ? GOAL_ON_DEMAND
                                              : GOAL_OFF,
            .reachable = strchr(row->facts, 'r'),
            .refused = strchr(row->facts, 'f'),
            .late = strchr(row->facts, 'l'),
            .cut = strchr(row->facts, 'c'),
            .touched = strchr(row->facts, 't'),
            .way_failed = strchr(row->facts, 'w'),
            .stale = strchr(row->facts, 's'),
            .sleeps = strchr(row->facts, 'z'),
            .crowded = strchr(row->facts, 'W'),
            .roomy = strchr(row->facts, 'm'),
            .own_server = strchr(row->facts, 'o'),
            .in_flight = strchr(row->facts, 'b') ? 1 : 0,
            .held = strchr(row->facts, 'h') ? 1 : 0,
            .attempts = row->attempts,
            .misses = row->misses,
            .deaths = row->deaths,
            .hung = strchr(row->facts, 'H'),
            .replaced = strchr(row->facts, 'x'),
        };

        snprintf(f.code, sizeof f.code, "%s", row->code ? row->code : "");
        struct deployment_move m = deployment_next(&d, row->ev, row->fault ? &f : NULL);

        cr_assert_eq((int)m.how, row->how, "row %u (%s, %s): how %d", i, deployment_state_name(row->from),
                     deployment_event_name(row->ev), (int)m.how);
        if (row->how == ENTER)
            cr_assert_eq(m.state, row->to, "row %u: %s", i, deployment_state_name(m.state));
    }
}

Test(deployment_fsm, every_state_meets_every_event_in_the_table)
{
    for (enum deployment_state s = OFF; s <= FAILED; s++)
        for (enum deployment_event ev = 0; ev < DEPLOYMENT_EV_COUNT; ev++) {
            bool found = false;

            for (unsigned i = 0; i < ELEMENTS(rows); i++)
                found = found || (rows[i].from == s && rows[i].ev == ev);
            cr_assert(found, "%s, %s", deployment_state_name(s), deployment_event_name(ev));
        }
}

static void hold_or_leave(struct holder *h)
{
    if (h->op)
        op_cancel(&h->op);
    else
        deployment_hold(w.d, &h->op, on_hold_over, h);
}

static void requests_end(void)
{
    for (; w.n_open; w.n_open--)
        request_ends();
}

/* One of three sets, or none. */
static void want_with_arguments(void)
{
    unsigned n = dice(4);
    char text[20];
    _cleanup_json_ struct json *arguments = json_array();

    snprintf(text, sizeof text, "%u", n);
    if (n)
        json_append_string(arguments, text);
    deployment_set_arguments(w.d, arguments);
    want(true);
}

/* Its machine is rented, and was switched off: whatever ran there, or was asked of it, is gone. */
static void machine_goes_off(void)
{
    way_changes(false, false);
    w.runs = w.loaded = w.hangs = false;
    deployment_machine_is_off(w.d, "the machine is off");
    while (w.n_jobs && !w.jobs[w.n_jobs - 1]->asked)
        job_drop(w.n_jobs - 1);
    cr_assert_eq(w.n_jobs, 0, "story %u: something is still asked of a machine that is off", w.story);
    cr_assert_not(w.d->touched, "story %u", w.story);
    cr_assert(w.d->state == OFF || w.d->state == ASLEEP || w.d->state == FAILED, "story %u: %s", w.story,
              deployment_state_name(w.d->state));
}

/* One thing that the world, a person or an application does. */
static void something_happens(void)
{
    switch (dice(22)) {
    case 21:
        if (!w.shared) /* another one's server would be gone as well */
            machine_goes_off();
        break;
    case 0:
    case 1:
    case 2: want(true); break;
    case 3:
    case 4: want(false); break;
    case 5:
    case 6: way_changes(!w.way, dice(4) == 0); break;
    case 7: way_changes(false, true); break;
    case 8:
        w.hangs = w.runs && dice(2);
        w.computes = dice(2);
        w.runs = w.hangs;
        w.loaded = w.loaded && w.runs;
        break;
    case 9: w.broken = dice(2); break;
    case 10: w.stuck = dice(3) == 0; break;
    case 11:
        request_begins();
        w.n_open++;
        break;
    case 12:
        if (w.n_open) {
            w.n_open--;
            request_ends();
        }
        break;
    case 13: hold_or_leave(&w.holders[dice(HOLDS)]); break;
    case 14:
        daemon_ends();
        run_until(w.now + dice(3000));
        daemon_starts();
        break;
    case 16: want_with_arguments(); break;
    case 17: deployment_sleep(w.d, dice(3) == 0, "made room"); break;
    case 20: deployment_keep(w.d, dice(3) ? clock_wall_ms() + 1 + dice(600000) : 0); break;
    case 18:
        w.crammed = dice(2);
        w.neighbours = w.crammed || dice(2);
        break;
    case 19: w.loaded = false; break;
    case 15:
        if (dice(2)) {
            deployment_doubt(w.d);
        } else if (!w.n_jobs) { /* the other one's stop would come behind what is under way */
            w.shared = fake_ops.shared && !w.shared;
            if (!w.shared)
                w.runs = w.loaded = false; /* the other one stopped it */
        }
        break;
    }
}

static void check_now(void)
{
    const struct deployment *d = w.d;

    if (d->state == FAILED)
        cr_assert_neq(d->fault.kind, FAULT_NONE, "story %u: failed without a reason", w.story);
    if (d->state == READY || d->state == OFF || d->state == ASLEEP)
        cr_assert_eq(d->fault.kind, FAULT_NONE, "story %u: %s", w.story, d->fault.text);
    if (d->state == STOPPING || d->state == READY || d->state == DRAINING)
        cr_assert(d->touched, "story %u", w.story);
    if (d->state == ASLEEP) {
        cr_assert_eq((int)d->goal, GOAL_ON_DEMAND, "story %u: asleep, and kept", w.story);
        cr_assert_neq(*d->room, '\0', "story %u: asleep without a reason", w.story);
    }
    cr_assert(d->op || w.timer->due || d->state == OFF || d->state == ASLEEP || d->state == FAILED ||
                  d->state == CONNECTING,
              "story %u: %s waits for nothing", w.story, deployment_state_name(d->state));
}

/* Nobody asks any more: it sleeps as the rule says, and not before. */
static void check_sleep(void)
{
    const struct deployment *d = w.d;
    uint64_t due = MAX(d->used_due + deployment_unload_ms(d), d->entered_due + w.idle.min_up_ms);

    if (d->goal == GOAL_ON)
        due = MAX(due, w.now + (uint64_t)(d->keep_until_at_ms - clock_wall_ms()));
    if (w.idle.unload_ms && due > w.now) {
        run_until(due - 1);
        cr_assert_eq(d->state, READY, "story %u: %s too early", w.story, deployment_state_name(d->state));
    }
    run_until(w.now + 24 * 3600000);
    cr_assert_eq(d->state, w.idle.unload_ms ? ASLEEP : READY, "story %u: %s", w.story,
                 deployment_state_name(d->state));
    cr_assert_eq(w.loaded, !w.idle.unload_ms, "story %u: in memory", w.story);
}

/* All is well from now on: after ten minutes it must be where it is wanted. */
static void check_rest(void)
{
    bool on = w.d->goal != GOAL_OFF;

    w.calm = true;
    w.broken = w.stuck = w.restarted = w.crammed = w.neighbours = false;
    requests_end();
    way_changes(true, false);
    run_until(w.now + 300000);
    if (w.shared)
        w.shared = w.runs = w.loaded = false;
    run_until(w.now + 300000);
    check_now();
    if (w.d->state == FAILED) { /* of something people had to mend: not the way, that one is seen */
        cr_assert_str_neq(w.d->fault.code, "login_refused", "story %u", w.story);
        cr_assert_eq(w.d->goal != GOAL_OFF, on);
        want(on);
        run_until(w.now + 600000);
    }
    if (w.d->state == ASLEEP) { /* as it should, for nobody asks; then somebody does */
        cr_assert(on, "story %u", w.story);
        for (unsigned i = 0; i < HOLDS; i++)
            cr_assert_null(w.holders[i].op, "story %u: asleep, and a request is held", w.story);
    }
    if (!w.holders[0].op)
        deployment_hold(w.d, &w.holders[0].op, on_hold_over, &w.holders[0]);
    request_begins(); /* while it is open it does not sleep */
    run_until(w.now + 600000);
    cr_assert_eq(w.d->state, on ? READY : OFF, "story %u: wanted %s, is %s", w.story, on ? "on" : "off",
                 deployment_state_name(w.d->state));
    cr_assert_eq(w.runs, on, "story %u: the server %s", w.story, w.runs ? "runs on" : "does not run");
    cr_assert_eq(w.d->touched, on, "story %u", w.story);
    if (on)
        cr_assert_eq(w.server_arguments, w.d->arguments ? atoi(json_text(json_at(w.d->arguments, 0))) : 0,
                     "story %u", w.story);
    for (unsigned i = 0; i < HOLDS; i++) {
        cr_assert_null(w.holders[i].op, "story %u: a request is held for ever", w.story);
        deployment_hold(w.d, &w.holders[i].op, on_hold_over, &w.holders[i]);
        works_run();
        cr_assert_str_eq(w.holders[i].fault.code, on ? "" : "stopped_by_user");
    }
    request_ends();
    if (on)
        check_sleep();
}

static void tell_story(uint32_t story)
{
    w = (struct world){.seed = story * 2654435761u, .story = story, .now = 1000000, .way = true};
    list_init(&w.works);
    w.way = dice(4) != 0;
    fake_ops.shared = dice(3) != 0;
    w.shared = fake_ops.shared && dice(4) == 0;
    if (dice(3))
        w.idle = (struct idle_rule){.unload_ms = 60000 + dice(600000), .min_up_ms = dice(600000)};
    daemon_starts();
    want(true);
    for (unsigned i = 5 + dice(STEPS_MAX); i > 0; i--) {
        something_happens();
        run_until(w.now + dice(dice(3) ? 300 : dice(8) ? 10000 : 400000));
        check_now();
    }
    check_rest();
    daemon_ends();
    w.calm = true;
    while (w.n_jobs)
        job_drop(0);
}

Test(deployment_fsm, whatever_happens_it_ends_where_it_is_wanted, .timeout = 110)
{
    for (uint32_t story = 1; story <= 4000; story++)
        tell_story(story);
}
