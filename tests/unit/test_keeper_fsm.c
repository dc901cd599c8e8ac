/* links: guard
 *
 * What a guard's keeper does next: its table, rules that hold everywhere, and random stories. */
#include "tests/unit/keeper_world.h"

TestSuite(keeper_fsm, .timeout = 60);

/* ---- The table ---- */

/* facts, a letter each: (b)usy; wishes: (h)old, (t)ake, (s)top; (T) the last request took. */
struct row {
    enum keeper_state from;
    const char *facts;
    enum keeper_event ev;
    enum keeper_seen seen;
    enum fault_kind fault;
    enum keeper_state to;
    enum keeper_act act;
};

/* clang-format off */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define SEEN(what) EV_SEEN, SEEN_##what, FAULT_NONE
#define NO         SEEN_OURS, FAULT_NONE

static const struct row rows[] = {
    {AWAY, "", EV_OPEN, NO, ASKING, READ},
    {AWAY, "hts", EV_WISH, NO, AWAY, STAY},
    {AWAY, "", EV_FORGET, NO, AWAY, STAY},

    {ASKING, "b", EV_WISH, NO, ASKING, STAY},
    {ASKING, "h", EV_WISH, NO, ASKING, READ},
    {ASKING, "", EV_TIMER, NO, ASKING, READ},
    {ASKING, "", SEEN(OURS), ASKING, ASK},
    {ASKING, "", SEEN(TAKEN), KEPT, REST},
    {ASKING, "h", SEEN(TAKEN), KEPT, ASK},
    {ASKING, "s", SEEN(TAKEN), KEPT, ASK},
    {ASKING, "", SEEN(FOREIGN), REFUSED, REST},
    {ASKING, "t", SEEN(FOREIGN), REFUSED, READ},
    {ASKING, "tT", SEEN(FOREIGN), REFUSED, REST},
    {ASKING, "", SEEN(NONE), INSTALLING, INSTALL},
    {ASKING, "", SEEN(UNCLEAR), ASKING, SOON},
    {ASKING, "", SEEN(ACTING), ASKING, SOON},
    {ASKING, "", SEEN(USELESS), USELESS, REST},
    {ASKING, "", EV_FAULT, SEEN_OURS, FAULT_TRANSIENT, ASKING, SOON},
    {ASKING, "", EV_FAULT, SEEN_OURS, FAULT_UNCERTAIN, ASKING, SOON},
    {ASKING, "", EV_FAULT, SEEN_OURS, FAULT_EXHAUSTED, ASKING, SOON},
    {ASKING, "", EV_FAULT, SEEN_OURS, FAULT_INVALID, USELESS, REST},
    {ASKING, "", EV_FAULT, SEEN_OURS, FAULT_DENIED, USELESS, REST},

    {INSTALLING, "bhts", EV_WISH, NO, INSTALLING, STAY},
    {INSTALLING, "", SEEN(TAKEN), KEPT, REST},
    {INSTALLING, "", SEEN(STILLBORN), ASKING, SOON},
    {INSTALLING, "", SEEN(FOREIGN), REFUSED, REST},
    {INSTALLING, "", SEEN(UNCLEAR), ASKING, SOON},
    {INSTALLING, "", SEEN(USELESS), USELESS, REST},
    {INSTALLING, "", EV_FAULT, SEEN_OURS, FAULT_UNCERTAIN, ASKING, SOON},

    {KEPT, "", EV_TIMER, NO, KEPT, ASK},
    {KEPT, "h", EV_WISH, NO, KEPT, ASK},
    {KEPT, "s", EV_WISH, NO, KEPT, ASK},
    {KEPT, "bh", EV_WISH, NO, KEPT, STAY},
    {KEPT, "", SEEN(TAKEN), KEPT, REST},
    {KEPT, "", SEEN(NONE), INSTALLING, INSTALL},
    {KEPT, "", SEEN(FOREIGN), REFUSED, REST},
    {KEPT, "", SEEN(UNCLEAR), KEPT, SOON},
    {KEPT, "", SEEN(ACTING), ASKING, SOON},
    {KEPT, "", SEEN(USELESS), USELESS, REST},
    {KEPT, "", EV_FAULT, SEEN_OURS, FAULT_UNCERTAIN, KEPT, SOON},
    {KEPT, "", EV_FAULT, SEEN_OURS, FAULT_INVALID, KEPT, SOON},

    {REFUSED, "", EV_TIMER, NO, REFUSED, READ},
    {REFUSED, "h", EV_WISH, NO, REFUSED, STAY},
    {REFUSED, "s", EV_WISH, NO, REFUSED, STAY},
    {REFUSED, "t", EV_WISH, NO, REFUSED, READ},
    {REFUSED, "", SEEN(FOREIGN), REFUSED, REST},
    {REFUSED, "t", SEEN(OURS), ASKING, ASK},
    {REFUSED, "", SEEN(OURS), ASKING, ASK},
    {REFUSED, "", SEEN(NONE), INSTALLING, INSTALL},
    {REFUSED, "", SEEN(ACTING), ASKING, SOON},
    {REFUSED, "", EV_FAULT, SEEN_OURS, FAULT_TRANSIENT, REFUSED, SOON},

    {USELESS, "", EV_TIMER, NO, USELESS, READ},
    {USELESS, "s", EV_WISH, NO, USELESS, READ},
    {USELESS, "", SEEN(OURS), USELESS, ASK},
    {USELESS, "", SEEN(NONE), USELESS, INSTALL},
    {USELESS, "", SEEN(STILLBORN), USELESS, SOON},
    {USELESS, "", SEEN(USELESS), USELESS, REST},
    {USELESS, "", SEEN(TAKEN), KEPT, REST},
    {USELESS, "", SEEN(FOREIGN), REFUSED, REST},
    {USELESS, "", EV_FAULT, SEEN_OURS, FAULT_TRANSIENT, USELESS, SOON},
};
/* clang-format on */

static struct op *no_slot;

static struct keeper keeper_of(enum keeper_state s, const char *facts)
{
    static struct op busy;

    return (struct keeper){
        .state = s,
        .open = s != AWAY,
        .op = strchr(facts, 'b') ? &busy : NULL,
        .hold_wish = strchr(facts, 'h'),
        .take_wish = strchr(facts, 't'),
        .sent_take = strchr(facts, 'T'),
        .stop.slot = strchr(facts, 's') ? &no_slot : NULL,
    };
}

Test(keeper_fsm, table_of_moves)
{
    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        const struct row *r = &rows[i];
        struct keeper k = keeper_of(r->from, r->facts);
        struct fault f = {.kind = r->fault};

        k.seen = r->seen;
        struct keeper_move m = keeper_next(&k, r->ev, &f);

        cr_expect_eq(m.state, r->to, "row %zu: %s, not %s", i, keeper_state_name(m.state),
                     keeper_state_name(r->to));
        cr_expect_eq(m.act, r->act, "row %zu: act %d, not %d", i, m.act, r->act);
    }
}

/* Whatever comes, and in whatever state. */
static void check_move(enum keeper_state s, const char *facts, enum keeper_event ev, enum keeper_seen seen,
                       enum fault_kind kind)
{
    struct keeper k = keeper_of(s, facts);
    struct fault f = {.kind = kind};

    k.seen = seen;
    struct keeper_move m = keeper_next(&k, ev, &f);

    if (s == AWAY) {
        cr_expect(m.act == STAY || ev == EV_OPEN);
        return;
    }
    cr_expect(ev != EV_CLOSED || (m.state == AWAY && m.act == REST));
    cr_expect(m.state != AWAY || ev == EV_CLOSED);
    cr_expect(m.act != STAY || ev == EV_WISH, "%s stands still after %d", keeper_state_name(s), ev);
    cr_expect(m.state != INSTALLING || m.act == INSTALL || m.act == STAY || s == INSTALLING);
    cr_expect(m.state != ASKING || m.act != REST, "nothing would ask");
    cr_expect(m.state != KEPT || s == KEPT || (ev == EV_SEEN && seen == SEEN_TAKEN), "kept by whose word?");
    cr_expect(m.act != INSTALL || (ev == EV_SEEN && seen == SEEN_NONE));
    if (s == REFUSED)
        cr_expect(m.act != ASK || (ev == EV_SEEN && (seen == SEEN_OURS || seen == SEEN_TAKEN)));
}

Test(keeper_fsm, rules_that_hold_everywhere)
{
    static const char *const facts[] = {"", "b", "h", "t", "s", "tT", "bhts"};

    for (enum keeper_state s = AWAY; s <= USELESS; s++)
        for (size_t i = 0; i < ELEMENTS(facts); i++)
            for (enum keeper_event ev = 0; ev < EV_COUNT; ev++)
                for (enum keeper_seen seen = 0; seen < SEEN_COUNT; seen++)
                    for (enum fault_kind kind = FAULT_TRANSIENT; kind <= FAULT_INVALID; kind++)
                        check_move(s, facts[i], ev, seen, kind);
}

/* ---- Random stories ---- */

static uint32_t dice_state;

static unsigned dice(unsigned n)
{
    dice_state = dice_state * 1664525 + 1013904223;
    return (dice_state >> 10) % n;
}

static void restart_daemon(void)
{
    bool open = w.keeper->open;

    w.keeper = keeper_free(w.keeper);
    op_cancel(&w.stop);
    w.keeper = keeper_of_world();
    keeper_way(w.keeper, open);
}

static void power_cycle(void)
{
    keeper_way(w.keeper, false);
    w.box = (struct box){};
    keeper_forget(w.keeper);
    keeper_way(w.keeper, true);
}

static void one_trouble(void)
{
    switch (dice(12)) {
    case 0: keeper_way(w.keeper, dice(2)); break;
    case 1: w.box.lives = false; break;
    case 2: restart_daemon(); break;
    case 3: power_cycle(); break;
    case 4: w.mute = dice(4) == 0; break;
    case 5:
        fault_set(&w.fault, dice(2) ? FAULT_UNCERTAIN : FAULT_TRANSIENT, 0, "trouble");
        w.fault_acts = dice(2);
        break;
    case 6: w.fault = (struct fault){}; break;
    case 7: w.box.half = dice(3) == 0; break;
    case 8: keeper_hold(w.keeper, dice(2) * dice(5000)); break;
    case 9: w.box.unwritable = dice(4) == 0; break;
    case 10: w.box.stillborn = dice(4) == 0; break;
    case 11: w.box.seq += dice(3); break;
    }
}

/* The noise is over. A machine that went off meanwhile is switched on again. */
static void end_of_trouble(void)
{
    w.mute = w.box.half = w.box.unwritable = w.box.stillborn = false;
    w.fault = (struct fault){};
    if (w.box.has_record && MAX(w.box.lease_s, w.box.hold_s) <= box_now_s())
        power_cycle();
    keeper_way(w.keeper, false); /* what never got its answer is over: the session was made anew */
    keeper_way(w.keeper, true);
}

Test(keeper_fsm, random_stories_end_with_a_guard_that_is_renewed)
{
    for (unsigned seed = 1; seed <= 400; seed++) {
        setup();
        dice_state = seed * 2654435761u;
        keeper_way(w.keeper, true);
        for (unsigned i = 0; i < 60; i++) {
            one_trouble();
            loop_advance(w.loop, dice(40) * 1000);
        }
        end_of_trouble();
        for (unsigned i = 0; i < 4; i++) {
            loop_advance(w.loop, 20000);
            settle();
        }
        cr_assert_eq(keeper_state(w.keeper), KEPT, "seed %u: %s: %s", seed,
                     keeper_state_name(keeper_state(w.keeper)), keeper_fault(w.keeper)->text);
        cr_assert(w.box.lives && !w.box.acting, "seed %u", seed);
        cr_assert_geq(left_s(), LEASE_S - 61, "seed %u", seed);
        teardown();
    }
}
