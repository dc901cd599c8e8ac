/* links: guard
 *
 * Stories of a guard's keeper. Its table and the random ones: test_keeper_fsm.c. */
#include "tests/unit/keeper_world.h"

TestSuite(keeper, .timeout = 60);
#define Story(name) Test(keeper, name, .init = setup, .fini = teardown)

static void open_way(void)
{
    keeper_way(w.keeper, true);
    settle();
}

static void expect(enum keeper_state s, const char *code)
{
    cr_assert_eq(keeper_state(w.keeper), s, "%s: %s", keeper_state_name(keeper_state(w.keeper)),
                 keeper_fault(w.keeper)->text);
    cr_assert_str_eq(keeper_fault(w.keeper)->code, code, "%s", keeper_fault(w.keeper)->text);
    cr_assert(*code || s != KEPT || !w.keeper->fault.kind || w.keeper->tries);
}

/* Somebody else's word to the guard. */
static void box_ask(const char *owner, bool take)
{
    cr_assert(box_judge(&w.box, owner, w.box.seq + 1, LEASE_S, "=", take));
}

static void on_stopped(void *ctx, const struct fault *f)
{
    cr_assert_eq(ctx, &w);
    cr_assert_null(w.stop);
    w.n_stopped++;
    w.stopped = f ? *f : (struct fault){};
}

static void stop_now(void)
{
    unsigned before = w.n_stopped;

    keeper_stop_now(w.keeper, &w.stop, on_stopped, &w);
    cr_assert_eq(w.n_stopped, before, "not from inside the call");
}

/* ---- Kept ---- */

Story(nothing_is_sent_before_the_way_is_open)
{
    keeper_hold(w.keeper, 60);
    loop_advance(w.loop, 600000);
    cr_assert_eq(w.n_reads + w.n_asks + w.n_installs, 0);
    expect(AWAY, "");
}

Story(where_there_is_none_it_is_installed)
{
    struct keeper_figures f;

    open_way();
    expect(KEPT, "");
    cr_assert_eq(w.n_reads, 1);
    cr_assert_eq(w.n_installs, 1);
    cr_assert_eq(w.n_asks, 0, "the installation asks");
    cr_assert_eq(left_s(), LEASE_S);
    keeper_figures(w.keeper, &f);
    cr_assert_str_eq(f.owner, "me");
    cr_assert_str_eq(f.ways, "shutdown,kill");
    cr_assert_leq(llabs(f.acts_at_ms - clock_wall_ms() - LEASE_S * 1000), 1000);
    cr_assert_eq(f.hold_until_at_ms, 0);
    cr_assert_leq(llabs(f.box_s - box_now_s()), 1, "its own clock");
    cr_assert(f.box_due && f.box_due <= clock_now_ms());
    cr_assert_gt(w.n_changed, 0);
}

Story(what_somebody_typed_is_told_by_our_clock)
{
    struct keeper_figures f;

    open_way();
    keeper_figures(w.keeper, &f);
    cr_assert_eq(f.typed_due, 0, "unknown");
    loop_advance(w.loop, 600000);
    w.box.typed_s = 200;
    loop_advance(w.loop, 60000);
    settle();
    keeper_figures(w.keeper, &f);
    cr_assert_leq(clock_now_ms() - f.typed_due, 261000);
    cr_assert_geq(clock_now_ms() - f.typed_due, 200000);

    uint64_t before = f.typed_due;

    w.box.typed_s = 0; /* the terminal is gone */
    loop_advance(w.loop, 120000);
    settle();
    keeper_figures(w.keeper, &f);
    cr_assert_eq(f.typed_due, before);
    keeper_way(w.keeper, false);
    keeper_forget(w.keeper);
    keeper_figures(w.keeper, &f);
    cr_assert_eq(f.typed_due, 0, "another power-on");
}

Story(one_that_is_there_is_read_first_and_gone_on_from)
{
    box_start_guard(&w.box, FIRST_S);
    cr_assert(box_judge(&w.box, "me", 77, 300, "=", false)); /* the database was put back to an older day */
    open_way();
    expect(KEPT, "");
    cr_assert_eq(w.n_installs, 0);
    cr_assert_eq(w.box.seq, 78);
    cr_assert_eq(w.stored_seq, 78);
    cr_assert_eq(left_s(), LEASE_S);
}

Story(nobodys_is_ours)
{
    box_start_guard(&w.box, FIRST_S);
    open_way();
    expect(KEPT, "");
    cr_assert_eq(w.n_installs, 0);
    cr_assert_eq(w.box.seq, 41);
}

Story(it_is_renewed_every_minute)
{
    open_way();
    for (int i = 0; i < 20; i++) {
        loop_advance(w.loop, 60000);
        settle();
        cr_assert_geq(left_s(), LEASE_S - 1);
    }
    cr_assert_eq(w.n_asks, 20);
    cr_assert_eq(w.n_reads, 1);
    expect(KEPT, "");
}

Story(a_short_lease_is_renewed_in_time)
{
    keeper_free(w.keeper);
    w.lease_s = 30;
    w.keeper = keeper_of_world();
    open_way();
    loop_advance(w.loop, 10000);
    settle();
    cr_assert_eq(w.n_asks, 1);
}

/* It would be the word to stop. */
Story(a_lease_of_nothing_is_none)
{
    keeper_free(w.keeper);
    w.lease_s = 0;
    w.keeper = keeper_of_world();
    open_way();
    cr_assert_not(w.box.acting);
    cr_assert_eq(left_s(), 1);
}

Story(a_way_that_closes_ends_the_renewals_and_what_is_known_stays)
{
    struct keeper_figures before, after;

    open_way();
    keeper_figures(w.keeper, &before);
    w.mute = true;
    loop_advance(w.loop, 60000);
    keeper_way(w.keeper, false);
    settle();
    cr_assert_eq(w.n_cancelled, 1);
    expect(AWAY, "");
    loop_advance(w.loop, 120000);
    cr_assert_eq(w.n_asks, 1);
    keeper_figures(w.keeper, &after);
    cr_assert_eq(after.acts_at_ms, before.acts_at_ms);
    w.mute = false;
    open_way();
    keeper_way(w.keeper, true);
    settle();
    expect(KEPT, "");
    cr_assert_eq(w.n_reads, 2);
    cr_assert_eq(left_s(), LEASE_S);
}

Story(a_guard_that_was_killed_is_put_there_again_and_inherits)
{
    open_way();
    keeper_hold(w.keeper, 7200);
    settle();
    w.box.lives = false;
    loop_advance(w.loop, 60000);
    settle();
    expect(KEPT, "");
    cr_assert_eq(w.n_installs, 2);
    cr_assert(strstr(w.asked, " = 0"), "%s", w.asked);
    cr_assert_leq(labs(left_s() - 7140), 2);
}

Story(a_hold_outlives_a_guard_that_left_nothing_behind)
{
    open_way();
    keeper_hold(w.keeper, 7200);
    settle();
    w.box = (struct box){};
    loop_advance(w.loop, 60000);
    settle();
    expect(KEPT, "");
    cr_assert_leq(labs(left_s() - 7140), 2, "%ld", (long)left_s());
}

Story(an_uncertain_renewal_is_tried_again_soon_and_more_slowly_each_time)
{
    struct keeper_figures before, after;
    unsigned asks = 0;

    open_way();
    keeper_figures(w.keeper, &before);
    fault_set(&w.fault, FAULT_UNCERTAIN, -ETIMEDOUT, "no end of it");
    w.fault_acts = true;
    loop_advance(w.loop, 60000);
    settle();
    cr_assert_eq(w.n_asks, ++asks);
    cr_assert_eq(keeper_state(w.keeper), KEPT);
    cr_assert_eq(keeper_fault(w.keeper)->kind, FAULT_UNCERTAIN);
    keeper_figures(w.keeper, &after);
    cr_assert_eq(before.acts_at_ms, after.acts_at_ms, "nothing newer is known");
    for (uint64_t wait_ms = 2000; wait_ms < 20000; wait_ms *= 2) {
        loop_advance(w.loop, wait_ms - 100);
        settle();
        cr_assert_eq(w.n_asks, asks);
        loop_advance(w.loop, 100);
        settle();
        cr_assert_eq(w.n_asks, ++asks);
    }
    loop_advance(w.loop, 20000);
    settle();
    cr_assert_eq(w.n_asks, ++asks);
    w.fault = (struct fault){};
    loop_advance(w.loop, 20000);
    settle();
    expect(KEPT, "");
    cr_assert_eq(keeper_fault(w.keeper)->kind, FAULT_NONE);
    asks = w.n_asks;
    fault_set(&w.fault, FAULT_UNCERTAIN, -ETIMEDOUT, "no end of it");
    loop_advance(w.loop, 60000);
    settle();
    loop_advance(w.loop, 2000);
    settle();
    cr_assert_eq(w.n_asks, asks + 2, "as soon as the first time");
}

Story(half_a_line_is_read_again)
{
    box_start_guard(&w.box, FIRST_S);
    w.box.half = true;
    open_way();
    expect(ASKING, "");
    cr_assert_eq(keeper_fault(w.keeper)->kind, FAULT_TRANSIENT);
    w.box.half = false;
    loop_advance(w.loop, 2000);
    settle();
    expect(KEPT, "");
}

Story(a_sequence_that_somebody_used_is_gone_beyond)
{
    open_way();
    w.box.seq = 90;
    loop_advance(w.loop, 60000);
    settle();
    cr_assert_eq(keeper_state(w.keeper), KEPT);
    loop_advance(w.loop, 2000);
    settle();
    expect(KEPT, "");
    cr_assert_eq(w.box.seq, 91);
}

/* Two daemons with one database, and so with one id: each renews, and the other has to go beyond it. */
Story(another_of_our_id_is_noticed_and_nobody_else)
{
    struct keeper_figures f;

    box_start_guard(&w.box, FIRST_S);
    strcpy(w.box.owner, "me");
    w.box.seq = 700; /* of a daemon before this one */
    open_way();
    expect(KEPT, "");
    fault_set(&w.fault, FAULT_UNCERTAIN, 0, "lost"); /* what it has taken all the same is ours */
    w.fault_acts = true;
    loop_advance(w.loop, 60000);
    settle();
    w.fault = (struct fault){};
    for (unsigned i = 0; i < 5; i++) {
        loop_advance(w.loop, 60000);
        settle();
    }
    keeper_figures(w.keeper, &f);
    cr_assert_eq(f.shared_due, 0);

    for (unsigned n = 1; n < 4; n++) { /* with our next sequence; and beyond it */
        uint64_t before = clock_now_ms();

        loop_advance(w.loop, 30000);
        for (unsigned i = 0; i < n; i++)
            box_ask("me", false);
        loop_advance(w.loop, 30000);
        settle();
        loop_advance(w.loop, 5000);
        settle();
        expect(KEPT, "");
        keeper_figures(w.keeper, &f);
        cr_assert(f.shared_due >= before && f.shared_due <= clock_now_ms(), "%u", n);
    }
    keeper_forget(w.keeper);
    keeper_figures(w.keeper, &f);
    cr_assert_eq(f.shared_due, 0, "another boot");
}

Story(one_of_another_id_that_takes_it_is_no_copy_of_us)
{
    struct keeper_figures f;

    open_way();
    box_ask("other", true);
    loop_advance(w.loop, 60000);
    settle();
    expect(REFUSED, "other_owner");
    keeper_figures(w.keeper, &f);
    cr_assert_eq(f.shared_due, 0);
}

/* A box of somebody else's writes what it likes. */
Story(a_sequence_without_a_next_one_is_no_crash)
{
    box_start_guard(&w.box, FIRST_S);
    w.box.seq = GUARD_SEQ_MAX;
    open_way();
    expect(USELESS, "no_guard");
    cr_assert_eq(w.n_asks, 0);
    keeper_stop_now(w.keeper, &w.stop, on_stopped, &w);
    settle();
    cr_assert_eq(w.n_stopped, 1);
    w.box = (struct box){};
    w.sent_seq = w.stored_seq = 0; /* the guards of another boot begin anew */
    keeper_forget(w.keeper);
    settle();
    expect(KEPT, "");
}

Story(what_may_pass_has_passed_when_the_way_closes)
{
    fault_set(&w.fault, FAULT_TRANSIENT, 0, "trouble");
    open_way();
    cr_assert_eq(keeper_fault(w.keeper)->kind, FAULT_TRANSIENT);
    keeper_way(w.keeper, false);
    cr_assert_eq(keeper_fault(w.keeper)->kind, FAULT_NONE);
}

Story(a_machine_that_was_switched_off_is_begun_anew)
{
    struct keeper_figures f;

    open_way();
    keeper_way(w.keeper, false);
    keeper_forget(w.keeper);
    keeper_figures(w.keeper, &f);
    cr_assert_eq(f.acts_at_ms, 0);
    cr_assert_eq(f.read_at_ms, 0);
    w.box = (struct box){};
    open_way();
    expect(KEPT, "");
    cr_assert_eq(w.n_installs, 2);
}

/* ---- Others, and none ---- */

Story(another_owners_is_neither_renewed_nor_installed)
{
    struct keeper_figures f;

    box_start_guard(&w.box, FIRST_S);
    box_ask("you", false);
    open_way();
    expect(REFUSED, "other_owner");
    cr_assert_not_null(strstr(keeper_fault(w.keeper)->text, "(you)"));
    keeper_hold(w.keeper, 3600);
    w.box.lives = false;
    for (int i = 0; i < 10; i++) {
        loop_advance(w.loop, 60000);
        settle();
    }
    cr_assert_eq(w.n_asks + w.n_installs, 0);
    expect(REFUSED, "other_owner");
    w.box.lives = true;
    box_ask("you", false);
    loop_advance(w.loop, 60000);
    settle();
    keeper_figures(w.keeper, &f);
    cr_assert_str_eq(f.owner, "you");
    cr_assert_leq(llabs(clock_wall_ms() - f.owner_heard_at_ms - 60000), 2000);
}

Story(ownership_moves_by_word)
{
    box_start_guard(&w.box, FIRST_S);
    box_ask("you", false);
    open_way();
    expect(REFUSED, "other_owner");
    keeper_take(w.keeper);
    settle();
    expect(KEPT, "");
    cr_assert_str_eq(w.box.owner, "me");
    cr_assert_not_null(strstr(w.asked, " take"));
    loop_advance(w.loop, 60000);
    settle();
    cr_assert_null(strstr(w.asked, " take"), "once");
    box_ask("you", true);
    loop_advance(w.loop, 60000);
    settle();
    expect(REFUSED, "other_owner");
}

Story(who_cannot_switch_it_off_has_no_guard)
{
    w.box.powerless = true;
    open_way();
    expect(USELESS, "no_guard");
    cr_assert_eq(w.n_installs, 1);
    loop_advance(w.loop, 299000);
    settle();
    cr_assert_eq(w.n_installs, 1);
    w.box.powerless = false;
    loop_advance(w.loop, 1000);
    settle();
    expect(KEPT, "");
}

static char heard[200];

static void on_event(void *ctx, const struct event *e)
{
    (void)ctx;
    snprintf(heard + strlen(heard), sizeof heard - strlen(heard), "%s %s;", e->target, e->kind);
}

Story(another_owners_is_an_event_once)
{
    struct event_listener listener = {.heard = on_event};

    event_listen(&listener);
    box_start_guard(&w.box, FIRST_S);
    box_ask("you", false);
    open_way();
    loop_advance(w.loop, 60000);
    settle();
    cr_assert_eq(w.n_reads, 2);
    cr_assert_str_eq(heard, "gpu1 other_owner;");
    event_unlisten(&listener);
}

Story(one_strange_answer_is_no_end_of_a_guard_that_lives)
{
    open_way();
    fault_code(&w.fault, FAULT_INVALID, "no_shell", "it says: menu");
    loop_advance(w.loop, 60000);
    settle();
    expect(KEPT, "no_guard");
    w.fault = (struct fault){};
    loop_advance(w.loop, 2000);
    settle();
    expect(KEPT, "");
}

Story(what_cannot_be_written_is_no_guard)
{
    w.box.unwritable = true;
    open_way();
    expect(USELESS, "no_guard");
    cr_assert_not_null(strstr(keeper_fault(w.keeper)->text, "written"));
}

Story(what_cannot_be_written_while_it_lives_is_tried_again)
{
    open_way();
    w.box.mail_full = true;
    loop_advance(w.loop, 60000);
    settle();
    expect(KEPT, "");
    cr_assert_not_null(strstr(keeper_fault(w.keeper)->text, "unwritable"));
    loop_advance(w.loop, 2000);
    settle();
    cr_assert_eq(w.n_asks, 2);
    w.box.mail_full = false;
    loop_advance(w.loop, 4000);
    settle();
    expect(KEPT, "");
    cr_assert_eq(left_s(), LEASE_S);
}

Story(an_account_that_runs_something_else_has_none)
{
    fault_code(&w.fault, FAULT_INVALID, "no_shell", "it says: menu");
    open_way();
    expect(USELESS, "no_guard");
    cr_assert_not_null(strstr(keeper_fault(w.keeper)->text, "menu"));
}

Story(one_that_does_not_live_is_put_there_again)
{
    struct keeper_figures f;

    open_way();
    w.box.stillborn = true;
    w.box.lives = false;
    loop_advance(w.loop, 60000);
    settle();
    expect(ASKING, "no_guard");
    keeper_figures(w.keeper, &f);
    cr_assert_eq(f.acts_at_ms, 0, "nobody would act");
    cr_assert_neq(f.read_at_ms, 0);
    loop_advance(w.loop, 2000);
    settle();
    cr_assert_eq(w.n_installs, 3);
    w.box.stillborn = false;
    loop_advance(w.loop, 4000);
    settle();
    expect(KEPT, "");
}

Story(one_that_acts_is_not_asked)
{
    box_start_guard(&w.box, FIRST_S);
    w.box.acting = true;
    open_way();
    expect(ASKING, "guard_acts");
    loop_advance(w.loop, 2000);
    settle();
    cr_assert_eq(w.n_asks + w.n_installs, 0);
    cr_assert_eq(w.n_reads, 2);
}

/* ---- Holds ---- */

Story(a_hold_is_sent_at_once_and_handed_on)
{
    struct keeper_figures f;

    open_way();
    keeper_hold(w.keeper, 36000);
    settle();
    cr_assert_not_null(strstr(w.asked, " 900 36000 0"), "%s", w.asked);
    keeper_figures(w.keeper, &f);
    cr_assert_leq(llabs(f.hold_until_at_ms - clock_wall_ms() - 36000000), 1000);
    cr_assert_eq(f.hold_until_at_ms, f.acts_at_ms);
    loop_advance(w.loop, 60000);
    settle();
    cr_assert_not_null(strstr(w.asked, " 900 = 0"), "%s", w.asked);
    keeper_hold(w.keeper, 0);
    settle();
    cr_assert_not_null(strstr(w.asked, " 900 0 0"), "%s", w.asked);
    cr_assert_eq(left_s(), LEASE_S);
}

Story(a_hold_counts_from_the_word_however_late_it_is_sent)
{
    open_way();
    keeper_way(w.keeper, false);
    keeper_hold(w.keeper, 3600);
    loop_advance(w.loop, 600000);
    open_way();
    expect(KEPT, "");
    cr_assert_leq(labs(left_s() - 3000), 1);
}

Story(a_hold_that_comes_while_another_is_under_way_wins)
{
    open_way();
    keeper_hold(w.keeper, 3600);
    keeper_hold(w.keeper, 7200);
    cr_assert_eq(w.n_asks, 1, "one at a time");
    settle();
    cr_assert_eq(w.n_asks, 2);
    cr_assert_eq(left_s(), 7200);
}

Story(what_is_under_way_is_not_asked_again_by_the_clock)
{
    open_way();
    loop_advance(w.loop, 59000);
    w.mute = true;
    keeper_hold(w.keeper, 3600);
    loop_advance(w.loop, 5000);
    settle();
    cr_assert_eq(w.n_asks, 1);
    cr_assert_eq(w.n_cancelled, 0);
}

/* ---- Stops ---- */

Story(a_stop_is_taken_and_told)
{
    open_way();
    keeper_hold(w.keeper, 3600);
    settle();
    stop_now();
    settle();
    cr_assert_eq(w.n_stopped, 1);
    cr_assert_eq(w.stopped.kind, FAULT_NONE, "%s", w.stopped.text);
    cr_assert(w.box.acting);
    cr_assert_not_null(strstr(w.asked, " 0 0 0"), "%s", w.asked);
    expect(ASKING, "guard_acts");
}

Story(a_stop_needs_no_guard_to_be_there_yet)
{
    w.mute = true;
    open_way();
    stop_now();
    w.mute = false;
    keeper_way(w.keeper, false);
    settle();
    cr_assert_eq(w.n_stopped, 1);
    cr_assert_eq(w.stopped.kind, FAULT_TRANSIENT, "it was not sent");
    keeper_way(w.keeper, true);
    stop_now();
    settle();
    cr_assert_eq(w.n_stopped, 2);
    cr_assert_eq(w.stopped.kind, FAULT_NONE, "%s", w.stopped.text);
    cr_assert_eq(w.n_installs, 1);
    cr_assert(w.box.acting);
}

Story(a_stop_over_a_closed_way_is_told_at_once)
{
    stop_now();
    settle();
    cr_assert_eq(w.n_stopped, 1);
    cr_assert_eq(w.stopped.kind, FAULT_TRANSIENT);
    cr_assert_str_eq(w.stopped.code, "unreachable");
}

Story(a_stop_of_anothers_is_refused)
{
    box_start_guard(&w.box, FIRST_S);
    box_ask("you", false);
    open_way();
    stop_now();
    settle();
    cr_assert_eq(w.n_stopped, 1);
    cr_assert_str_eq(w.stopped.code, "other_owner");
    cr_assert_not(w.box.acting);
}

Story(a_stop_without_an_answer_is_uncertain)
{
    open_way();
    w.mute = true;
    stop_now();
    settle();
    cr_assert_eq(w.n_stopped, 0);
    keeper_way(w.keeper, false);
    settle();
    cr_assert_eq(w.n_stopped, 1);
    cr_assert_eq(w.stopped.kind, FAULT_UNCERTAIN);
}

Story(a_stop_whose_answer_is_lost_is_uncertain_whatever_the_fault)
{
    open_way();
    fault_set(&w.fault, FAULT_TRANSIENT, 0, "the way was lost");
    stop_now();
    settle();
    cr_assert_eq(w.n_stopped, 1);
    cr_assert_eq(w.stopped.kind, FAULT_UNCERTAIN, "it was in what was sent");
}

Story(a_stop_that_waited_for_a_read_that_is_lost_was_not_sent)
{
    fault_set(&w.fault, FAULT_UNCERTAIN, 0, "no end of it");
    keeper_way(w.keeper, true);
    stop_now();
    settle();
    cr_assert_eq(w.n_stopped, 1);
    cr_assert_eq(w.n_asks, 0, "only read");
    cr_assert_eq(w.stopped.kind, FAULT_TRANSIENT);
}

Story(a_stop_that_fails_is_told_and_not_repeated)
{
    open_way();
    fault_set(&w.fault, FAULT_UNCERTAIN, 0, "no end of it");
    stop_now();
    settle();
    cr_assert_eq(w.n_stopped, 1);
    cr_assert_eq(w.stopped.kind, FAULT_UNCERTAIN);
    w.fault = (struct fault){};
    loop_advance(w.loop, 2000);
    settle();
    expect(KEPT, "");
    cr_assert_not(w.box.acting);
}

Story(a_stop_ends_with_the_boot_it_was_for)
{
    w.mute = true;
    open_way();
    stop_now();
    w.mute = false;
    keeper_forget(w.keeper);
    settle();
    cr_assert_eq(w.n_stopped, 1);
    cr_assert_eq(w.stopped.kind, FAULT_GONE);
    expect(KEPT, "");
    cr_assert_not(w.box.acting);
    w.mute = true;
    stop_now(); /* this one is sent */
    w.mute = false;
    w.box = (struct box){};
    box_start_guard(&w.box, FIRST_S);
    w.n_asks = 0;
    keeper_forget(w.keeper);
    settle();
    cr_assert_eq(w.stopped.kind, FAULT_GONE);
    cr_assert_eq(w.n_asks, 1, "what is read then is another guard's");
    expect(KEPT, "");
    cr_assert_not(w.box.acting);
}

Story(a_stop_can_be_cancelled)
{
    open_way();
    w.mute = true;
    stop_now();
    op_cancel(&w.stop);
    keeper_way(w.keeper, false);
    settle();
    cr_assert_eq(w.n_stopped, 0);
}

Story(freed_while_a_stop_is_under_way)
{
    open_way();
    w.mute = true;
    stop_now();
    w.keeper = keeper_free(w.keeper);
    loop_turns(w.loop, 3);
    cr_assert_eq(w.n_stopped, 1);
    cr_assert_eq(w.stopped.kind, FAULT_UNCERTAIN);
}
