/* links: lease
 *
 * Thousands of random stories of a rented machine: goals flip, the provider fails in every way of
 * life_world.h, the database fails, clocks are set, somebody presses buttons, the daemon is killed and
 * started again with what was on disk by then. Never are there two machines that bill, and a "stopped" is
 * true. STORY=N in the environment runs one, and says what happens. */
#include "tests/unit/life_world.h"

static void something_happens(bool buttons)
{
    switch (dice(12)) {
    case 0:
    case 1:
    case 2: life_want(w.l, LIFE_GOAL_ON); break;
    case 3:
    case 4: life_want(w.l, LIFE_GOAL_OFF); break;
    case 5: w.sold_out = dice(2); break;
    case 6: w.broke = dice(3) == 0; break;
    case 7: daemon_is_killed(); break;
    case 8: life_doubt(w.l); break;
    case 9:
        if (dice(4) == 0)
            life_want(w.l, LIFE_GOAL_RELEASE);
        break;
    case 10:
        if (buttons)
            button_is_pressed();
        break;
    case 11:
        if (w.jumps)
            clock_is_set((int64_t)dice(7200000) - 3600000);
        break;
    }
    works_run();
}

static void world_begin(uint32_t story)
{
    w = (struct world){.seed = story * 2654435761u + 1, .story = story, .now = 1000000};
    list_init(&w.works);
    daemon_starts(true);
}

/* It is there, off or on, and somebody else made it. */
static void world_begin_adopted(uint32_t story)
{
    w = (struct world){.seed = story * 2654435761u + 1, .story = story, .now = 1000000, .adopted = true};
    list_init(&w.works);
    w.n_machines = 1;
    w.machines[0] = (struct machine){
        .exists = true,
        .seen = {.id = "pro-1", .name = "by-hand", .power = dice(2) ? INSTANCE_OFF : INSTANCE_ON}};
    w.durable = (struct life_record){.state = UNKNOWN, .goal = LIFE_GOAL_OFF, .id = "pro-1", .adopted = true};
    w.n_foreign = w.machines[0].seen.power != INSTANCE_OFF;
    daemon_starts(false);
}

static void world_end(void)
{
    w.l = life_free(w.l);
    for (unsigned i = 0; i < w.n_jobs; i++)
        free(w.jobs[i]);
    w.n_jobs = 0;
}

/* All is well from now on: after a while it is where it is wanted, and says so. */
static void check_rest(void)
{
    w.calm = true;
    w.sold_out = w.broke = false;
    run_until(w.now + 900000);
    /* With two lost calls in a row the later one is known to have acted: what the other does is somebody
     * else's, then, and shown. */
    if (life_goal(w.l) == LIFE_GOAL_OFF && !w.n_foreign && n_billing())
        cr_assert_str_eq(life_trouble(w.l)->code, "started_elsewhere",
                         "story %u: nobody wants it, and %u bill", w.story, n_billing());
    for (enum life_goal goal = LIFE_GOAL_OFF; goal <= LIFE_GOAL_ON; goal++) {
        life_want(w.l, goal);
        works_run();
        run_until(w.now + 900000);
        cr_assert_eq(n_billing(), goal == LIFE_GOAL_ON ? 1u : 0u,
                     "story %u: wanted %d, and it is %s with %u that bill", w.story, (int)goal,
                     life_state_name(life_state(w.l)), n_billing());
        if (goal == LIFE_GOAL_ON)
            cr_assert_eq(life_state(w.l), RUNNING, "story %u: %s", w.story, life_state_name(life_state(w.l)));
        else
            cr_assert(life_state(w.l) == STOPPED || life_state(w.l) == ABSENT || life_state(w.l) == RELEASED,
                      "story %u: %s", w.story, life_state_name(life_state(w.l)));
        cr_assert_eq(life_goal(w.l), goal, "story %u", w.story);
    }
}

static void stories(unsigned from, unsigned n, bool buttons, bool very_late, bool jumps)
{
    const char *one = getenv("STORY");

    for (unsigned story = from; story < from + n; story++) {
        world_begin(one ? (uint32_t)atoi(one) : story);
        w.very_late = very_late;
        w.jumps = jumps;
        for (unsigned i = 0; i < 25; i++) {
            something_happens(buttons);
            run_until(w.now + dice(dice(3) ? 20000 : 120000));
        }
        check_rest();
        world_end();
        if (one)
            break;
    }
}

/* Its owner gives it back, when it is off, or presses other buttons. */
static void owner_does_something(void)
{
    struct machine *m = &w.machines[0];

    if (dice(8) == 0 && m->seen.power == INSTANCE_OFF)
        m->exists = false;
    else if (m->exists && dice(4) == 0)
        button_is_pressed();
    w.hidden = dice(4) == 0;
}

/* All is well: one that exists is where it is wanted, for one that does not exist nothing is made
 * (fake_create()). */
static void check_adopted(void)
{
    struct machine *m = &w.machines[0];

    w.calm = true;
    w.sold_out = w.broke = w.hidden = false;
    run_until(w.now + 900000);
    if (m->exists && life_state(w.l) != RELEASED) {
        check_rest();
        return;
    }
    life_want(w.l, LIFE_GOAL_ON);
    works_run();
    run_until(w.now + 900000);
    cr_assert(life_state(w.l) == ABSENT || life_state(w.l) == RELEASED, "story %u: %s", w.story,
              life_state_name(life_state(w.l)));
    if (life_state(w.l) == ABSENT) {
        cr_assert_str_eq(life_trouble(w.l)->code, "vanished", "story %u", w.story);
        cr_assert_eq(life_goal(w.l), LIFE_GOAL_OFF, "story %u: the wish has an end", w.story);
    }
}

Test(life, one_that_somebody_else_made_is_never_made_anew)
{
    for (unsigned story = 400001; story < 402001; story++) {
        world_begin_adopted(story);
        for (unsigned i = 0; i < 25; i++) {
            something_happens(false);
            owner_does_something();
            run_until(w.now + dice(dice(3) ? 20000 : 120000));
        }
        check_adopted();
        cr_assert_eq(w.n_machines, 1);
        world_end();
    }
}

/* Two lists in a row did not have it: that was no lie of ours to begin with, and it goes on from there. */
Test(life, one_that_vanished_and_is_there_again_is_still_the_same)
{
    world_begin_adopted(400001);
    w.calm = true;
    life_want(w.l, LIFE_GOAL_ON);
    works_run();
    run_until(w.now + 900000);
    cr_assert_eq(life_state(w.l), RUNNING);
    w.machines[0].exists = false;
    run_until(w.now + 120000);
    cr_assert_eq(life_state(w.l), ABSENT);
    cr_assert_str_eq(life_trouble(w.l)->code, "vanished");
    cr_assert_eq(life_goal(w.l), LIFE_GOAL_OFF);
    w.n_foreign = 1; /* a list that lies makes liars of us */
    w.machines[0].exists = true;
    run_until(w.now + 900000);
    cr_assert_eq(life_state(w.l), STOPPED, "it was on by us: %s", life_state_name(life_state(w.l)));
    world_end();
}

/* It may be on in a list that leaves it out, and "off" is said only of what was seen off. */
Test(life, one_that_somebody_else_made_is_not_off_because_the_list_leaves_it_out)
{
    world_begin_adopted(400001);
    w.calm = true;
    life_want(w.l, LIFE_GOAL_ON);
    works_run();
    run_until(w.now + 900000);
    cr_assert_eq(life_state(w.l), RUNNING);
    w.hidden = true;
    run_until(w.now + 60000);
    cr_assert_eq(life_state(w.l), STOPPING, "%s", life_state_name(life_state(w.l)));
    cr_assert_str_eq(life_trouble(w.l)->code, "vanished");
    cr_assert_not_null(strstr(life_trouble(w.l)->text, "may still be billed"));
    cr_assert_eq(life_goal(w.l), LIFE_GOAL_OFF, "the wish has an end");
    run_until(w.now + 900000);
    cr_assert_eq(n_billing(), 0, "it was told by its id");
    cr_assert_eq(life_state(w.l), STOPPING, "and nobody has said that it is off");
    cr_assert_str_eq(life_trouble(w.l)->code, "stop_not_confirmed");
    cr_assert_eq(life_doubted_until_at_ms(w.l), 0, "that ends at no known time");
    daemon_is_killed();
    run_until(w.now + 900000);
    cr_assert_eq(life_state(w.l), STOPPING, "%s", life_state_name(life_state(w.l)));
    w.hidden = false;
    run_until(w.now + 60000);
    cr_assert_eq(life_state(w.l), STOPPED);
    cr_assert_eq(life_trouble(w.l)->kind, FAULT_NONE);
    world_end();
}

Test(life, one_that_runs_by_somebody_else_and_is_left_out_is_theirs_until_a_word)
{
    world_begin_adopted(1);
    w.calm = true;
    w.machines[0].seen.power = INSTANCE_ON;
    w.n_foreign = 1;
    run_until(w.now + 60000);
    cr_assert_eq(life_state(w.l), RUNNING);
    w.hidden = true;
    run_until(w.now + 900000);
    cr_assert_eq(life_state(w.l), UNKNOWN);
    cr_assert(life_is_missing(w.l));
    cr_assert_str_eq(life_trouble(w.l)->code, "vanished");
    cr_assert_eq(n_billing(), 1);
    life_want(w.l, LIFE_GOAL_OFF);
    works_run();
    run_until(w.now + 120000);
    cr_assert_eq(n_billing(), 0, "told by its id");
    cr_assert_eq(life_state(w.l), STOPPING);
    world_end();
}

/* One that was off when it was seen last bills nothing, and back in the list it is in no trouble. */
Test(life, one_that_was_off_and_is_left_out_is_gone_until_it_is_there_again)
{
    world_begin_adopted(2);
    w.calm = true;
    w.machines[0].seen.power = INSTANCE_OFF;
    run_until(w.now + 60000);
    w.hidden = true;
    run_until(w.now + 900000);
    cr_assert_eq(life_state(w.l), ABSENT);
    cr_assert_str_eq(life_trouble(w.l)->code, "vanished");
    w.hidden = false;
    run_until(w.now + 900000);
    cr_assert_eq(life_state(w.l), STOPPED);
    cr_assert_eq(life_trouble(w.l)->kind, FAULT_NONE, "%s", life_trouble(w.l)->text);
    world_end();
}

Test(life, one_that_runs_when_it_is_added_runs_on)
{
    world_begin_adopted(1);
    w.calm = true;
    w.machines[0].seen.power = INSTANCE_ON;
    w.n_foreign = 1;
    run_until(w.now + 900000);
    cr_assert_eq(life_state(w.l), RUNNING);
    cr_assert_not(life_record(w.l)->ours);
    cr_assert_eq(w.machines[0].seen.power, INSTANCE_ON);
    world_end();
}

Test(life, no_story_has_two_machines_or_a_false_stop)
{
    stories(1, 4000, false, false, false);
}

Test(life, console_buttons_never_make_two_machines_or_leave_it_unsettled)
{
    stories(100001, 2000, true, false, false);
}

/* Two for a while can then not be helped: each is found in the list by its name, and one of them is left. */
Test(life, calls_that_act_later_than_they_may_leave_nothing_behind)
{
    stories(200001, 2000, false, true, false);
}

Test(life, a_clock_that_is_set_makes_no_stop_false)
{
    stories(300001, 2000, false, false, true);
    stories(303971, 1, false, false,
            true); /* set forth while a new daemon waits for what the last one asked */
}

/* Nor where it is the only clock there is: then the next daemon waits for what the last one asked in full. */
Test(life, a_clock_that_is_set_makes_no_stop_false_where_the_provider_has_none)
{
    for (uint32_t story = 400001; story < 401001; story++) {
        world_begin(story);
        w.jumps = w.has_no_clock = true;
        for (unsigned i = 0; i < 25; i++) {
            something_happens(false);
            run_until(w.now + dice(dice(3) ? 20000 : 120000));
        }
        check_rest();
        world_end();
    }
}

/* The money for it was refused, so that the provider was never asked: nothing can come of it, and the next
 * daemon does not wait for that. */
Test(life, what_was_never_asked_is_waited_for_by_nobody)
{
    world_begin(1);
    w.calm = w.broke = true;
    life_want(w.l, LIFE_GOAL_ON);
    works_run();
    run_until(w.now + 1000);
    cr_assert_eq(life_state(w.l), WAITING);
    cr_assert_eq(life_record(w.l)->asked_at_ms, 0);
    cr_assert_not(life_record(w.l)->create_open);
    life_want(w.l, LIFE_GOAL_OFF);
    works_run();
    run_until(w.now + 1000);
    daemon_is_killed();
    run_until(w.now + 30000);
    cr_assert_eq(life_state(w.l), ABSENT, "%s", life_state_name(life_state(w.l)));
    world_end();
}

/* Nobody heard what became of a create, and nobody wants it: from when it is there it bills until it is seen. */
Test(life, what_may_come_and_nobody_wants_is_looked_for_often)
{
    world_begin(1);
    w.calm = true;
    w.l = life_free(w.l);
    w.durable.create_open = true;
    w.durable.made = 1;
    w.durable.asked_at_ms = clock_wall_ms();
    w.durable.state = LIFE_CREATING;
    w.durable.goal = LIFE_GOAL_OFF;
    daemon_starts(false);
    works_run();
    run_until(w.now + 1000);
    cr_assert_eq(life_state(w.l), LIFE_UNKNOWN);
    run_until(w.now + 30000);
    unsigned looks = w.l->here.looks;

    run_until(w.now + 100000);
    cr_assert_eq(life_state(w.l), LIFE_UNKNOWN);
    cr_assert_geq(w.l->here.looks - looks, 8u);
    run_until(w.now + 900000);
    cr_assert_eq(life_state(w.l), ABSENT);
    world_end();
}

/* The daemon was away, somebody switched the machine on, and a person who sees that says: off. */
Test(life, a_word_while_it_is_unknown_is_not_forgotten)
{
    world_begin(1);
    w.calm = true;
    life_want(w.l, LIFE_GOAL_ON);
    works_run();
    run_until(w.now + 900000);
    life_want(w.l, LIFE_GOAL_OFF);
    works_run();
    run_until(w.now + 900000);
    cr_assert_eq(life_state(w.l), STOPPED);
    w.l = life_free(w.l);
    button_is_pressed();
    run_until(w.now + 900000);
    daemon_starts(false);
    life_want(w.l, LIFE_GOAL_OFF);
    works_run();
    run_until(w.now + 900000);
    cr_assert_eq(life_state(w.l), STOPPED);
    cr_assert_eq(n_billing(), 0);
    world_end();
}

/* Somebody switched it off; whoever wants it again is not told of that while it starts. */
Test(life, a_new_wish_is_not_told_what_became_of_the_last)
{
    world_begin(1);
    w.calm = true;
    life_want(w.l, LIFE_GOAL_ON);
    works_run();
    run_until(w.now + 900000);
    for (unsigned i = 0; i < w.n_machines; i++)
        w.machines[i].seen.power = INSTANCE_OFF;
    run_until(w.now + 900000);
    cr_assert_eq(life_state(w.l), STOPPED);
    cr_assert_str_eq(life_trouble(w.l)->code, "stopped_elsewhere");
    life_want(w.l, LIFE_GOAL_ON);
    cr_assert_eq(life_trouble(w.l)->kind, FAULT_NONE);
    works_run();
    world_end();
}

static void wants(enum life_goal goal, uint64_t for_ms)
{
    life_want(w.l, goal);
    works_run();
    run_until(w.now + for_ms);
}

/* There is a machine, off, and nothing that was asked is young. */
static void world_with_one_at_rest(void)
{
    world_begin(1);
    w.calm = true;
    wants(LIFE_GOAL_ON, 900000);
    wants(LIFE_GOAL_OFF, 900000);
    cr_assert_eq(life_state(w.l), STOPPED);
}

Test(life, what_was_seen_on_counts_for_the_next_daemon_too)
{
    world_with_one_at_rest();
    wants(LIFE_GOAL_ON, 60000);
    cr_assert_eq(life_state(w.l), RUNNING);
    wants(LIFE_GOAL_OFF, 30000);
    cr_assert_eq(life_state(w.l), STOPPED);
    w.l = life_free(w.l);
    daemon_starts(false);
    works_run();
    run_until(w.now + 10000);
    cr_assert_eq(life_state(w.l), STOPPED, "%s", life_state_name(life_state(w.l)));
    world_end();
}

static struct job *asked(enum verb verb)
{
    for (unsigned i = 0; i < w.n_jobs; i++)
        if (w.jobs[i]->verb == verb && w.jobs[i]->effect_due)
            return w.jobs[i];
    return NULL;
}

/* A power-on that is answered with an error, not wanted any more, and believed to be lost when it was time:
 * it acts so long after it was asked. */
static void power_on_is_lost_for(uint64_t ms)
{
    world_with_one_at_rest();
    w.very_late = true;
    life_want(w.l, LIFE_GOAL_ON);
    works_run();
    for (unsigned i = 0; i < 100 && !asked(START); i++)
        run_until(w.now + 10);
    cr_assert_not_null(asked(START));
    asked(START)->effect_due = w.now + ms;
    fault_code(&asked(START)->fault, FAULT_UNCERTAIN, "", "502");
    wants(LIFE_GOAL_OFF, START_MS + 60000);
    cr_assert_eq(life_state(w.l), STOPPED, "%s", life_state_name(life_state(w.l)));
    cr_assert_str_eq(life_trouble(w.l)->code, "");
}

static void is_on_within(uint64_t ms)
{
    for (uint64_t end = w.now + ms; w.now < end && !n_billing();)
        run_until(w.now + 1000);
    cr_assert_eq(n_billing(), 1u);
}

Test(life, a_power_on_that_acts_later_than_any_is_waited_for_is_ours_to_end)
{
    power_on_is_lost_for(START_MS + 120000);
    is_on_within(300000);
    run_until(w.now + 180000);
    cr_assert_eq(n_billing(), 0u, "nobody wants it, and nobody else switched it on");
    cr_assert_eq(life_state(w.l), STOPPED, "%s", life_state_name(life_state(w.l)));
    world_end();
}

/* Nothing tells a button from a call that acts late. */
Test(life, who_is_taken_for_a_late_call_is_told_and_left_alone_the_next_time)
{
    power_on_is_lost_for(3 * 3600000);
    run_until(w.now + 1200000);
    button_is_pressed();
    w.machines[0].ends = false;
    run_until(w.now + 900000);
    cr_assert_eq(n_billing(), 0u);
    cr_assert_eq(life_state(w.l), STOPPED);
    cr_assert_str_eq(life_trouble(w.l)->code, "started_late");
    button_is_pressed();
    w.machines[0].ends = false;
    run_until(w.now + 1800000);
    cr_assert_eq(n_billing(), 1u);
    cr_assert_eq(life_state(w.l), RUNNING);
    cr_assert_str_eq(life_trouble(w.l)->code, "started_elsewhere");
    world_end();
}

Test(life, what_came_on_late_and_is_wanted_by_then_is_no_trouble)
{
    power_on_is_lost_for(START_MS + 120000);
    is_on_within(300000);
    wants(LIFE_GOAL_ON, 180000);
    cr_assert_eq(life_state(w.l), RUNNING);
    cr_assert_str_eq(life_trouble(w.l)->code, "");
    wants(LIFE_GOAL_OFF, 180000);
    cr_assert_eq(life_state(w.l), STOPPED);
    cr_assert_str_eq(life_trouble(w.l)->code, "");
    world_end();
}

static void nobody_looks_for(uint64_t ms)
{
    w.l = life_free(w.l);
    run_until(w.now + ms);
}

/* The bill's own stamp tells when it came on. */
Test(life, a_power_on_that_acted_while_no_daemon_looked_is_ours_hours_later)
{
    power_on_is_lost_for(START_MS + 120000);
    nobody_looks_for(3 * 3600000);
    cr_assert_eq(n_billing(), 1u);
    daemon_starts(false);
    works_run();
    run_until(w.now + 180000);
    cr_assert_eq(n_billing(), 0u);
    cr_assert_eq(life_state(w.l), STOPPED);
    world_end();
}

Test(life, a_button_that_was_pressed_while_no_daemon_looked_is_not_ours_hours_later)
{
    power_on_is_lost_for(9 * 3600000);
    nobody_looks_for(2 * 3600000);
    button_is_pressed();
    w.machines[0].ends = false;
    run_until(w.now + 600000);
    daemon_starts(false);
    works_run();
    run_until(w.now + 600000);
    cr_assert_eq(n_billing(), 1u);
    cr_assert_str_eq(life_trouble(w.l)->code, "started_elsewhere");
    world_end();
}

/* It was written down, and perhaps asked: nothing tells. */
Test(life, an_off_that_proves_nothing_is_said_to_wait_and_until_when)
{
    world_with_one_at_rest();
    life_want(w.l, LIFE_GOAL_ON);
    works_run();
    int64_t asked_at_ms = life_record(w.l)->asked_at_ms;

    run_until(w.now + 22); /* it is on disk, and not asked yet */
    w.l = life_free(w.l);
    cr_assert_eq(w.durable.asked_at_ms, asked_at_ms);
    for (unsigned i = 0; i < w.n_jobs; i++)
        w.jobs[i]->effect_due = 0; /* nor will it be */
    daemon_starts(false);
    works_run();
    wants(LIFE_GOAL_OFF, 12000);
    cr_assert_eq(life_state(w.l), UNKNOWN, "%s", life_state_name(life_state(w.l)));
    cr_assert_eq(life_doubted_until_at_ms(w.l), asked_at_ms + START_MS + 1);
    run_until(w.now + START_MS + 60000);
    cr_assert_eq(life_state(w.l), STOPPED);
    cr_assert_eq(life_doubted_until_at_ms(w.l), 0);
    world_end();
}

/* ---- Clocks ---- */

/* Something may have been asked, so long ago, and the daemon was killed: another one begins. */
static void daemon_is_killed_while_it_asks(uint64_t ms)
{
    world_with_one_at_rest();
    life_want(w.l, LIFE_GOAL_ON);
    works_run();
    run_until(w.now + 22); /* it is on disk, and not asked yet */
    w.l = life_free(w.l);
    for (unsigned i = 0; i < w.n_jobs; i++)
        w.jobs[i]->effect_due = 0; /* nor will it be */
    run_until(w.now + ms);
}

/* Off is not believed before that, and then it is. */
static void expect_doubt_for(uint64_t ms)
{
    uint64_t begun = w.now;

    wants(LIFE_GOAL_OFF, 20000);
    cr_assert_neq(life_state(w.l), STOPPED);
    cr_assert_leq(llabs(life_doubted_until_at_ms(w.l) - fake_clock_wall_ms() - (int64_t)(begun + ms - w.now)),
                  1000);
    run_until(begun + ms - 1000);
    cr_assert_neq(life_state(w.l), STOPPED);
    run_until(begun + ms + UNKNOWN_MS_MAX + 10000);
    cr_assert_eq(life_state(w.l), STOPPED, "%s", life_state_name(life_state(w.l)));
    world_end();
}

Test(life, a_clock_that_is_set_between_two_daemons_neither_shortens_the_doubt_nor_lengthens_it)
{
    for (int64_t by_ms = -2 * 3600000; by_ms <= 2 * 3600000; by_ms += 3600000) {
        daemon_is_killed_while_it_asks(60000);
        clock_is_set(by_ms);
        daemon_starts(false);
        works_run();
        expect_doubt_for(START_MS - 60000);
    }
}

Test(life, a_clock_that_is_set_while_we_doubt_changes_nothing)
{
    for (int64_t by_ms = -3600000; by_ms <= 3600000; by_ms += 7200000) {
        daemon_is_killed_while_it_asks(60000);
        daemon_starts(false);
        works_run();
        run_until(w.now + 10000);
        clock_is_set(by_ms);
        expect_doubt_for(START_MS - 70000);
    }
}

Test(life, a_clock_that_is_set_while_it_is_asked_changes_nothing)
{
    for (int64_t by_ms = -3600000; by_ms <= 3600000; by_ms += 7200000) {
        world_with_one_at_rest();
        life_want(w.l, LIFE_GOAL_ON);
        works_run();
        for (unsigned i = 0; i < 100 && !asked(START); i++)
            run_until(w.now + 10);
        struct job *start = asked(START);

        cr_assert_not_null(start);
        start->effect_due = 0; /* it is lost */
        clock_is_set(by_ms);
        expect_doubt_for(START_MS);
    }
}

/* With no clock but this computer's a call may be as young as we are. */
Test(life, where_nobody_tells_the_time_the_next_daemon_doubts_for_as_long_as_the_first)
{
    daemon_is_killed_while_it_asks(60000);
    w.has_no_clock = true;
    clock_is_set(3600000);
    daemon_starts(false);
    works_run();
    expect_doubt_for(START_MS);
}

/* ---- What goes with a change of state ---- */

/* A machine that runs, while all is well. */
static void world_with_one_that_runs(void)
{
    world_begin(1);
    w.calm = true;
    life_want(w.l, LIFE_GOAL_ON);
    works_run();
    run_until(w.now + 200000);
    cr_assert_eq(life_state(w.l), RUNNING);
}

static enum verb verb_of(const struct op *op)
{
    cr_assert_not_null(op);
    return CONTAINER_OF(op, struct job, op)->verb;
}

/* What was read before the stop says nothing of what comes after it. */
Test(life, a_state_takes_nothing_along)
{
    world_with_one_that_runs();
    life_look(w.l);
    cr_assert_eq(verb_of(w.l->look), LIST);
    w.l->here.turn = w.l->here.seen_not_on = w.l->here.stop_told = true;
    w.l->none.n = w.l->here.looks = 7;
    w.now += 777;
    life_want(w.l, LIFE_GOAL_OFF);
    cr_assert_eq(life_state(w.l), STOPPING);
    cr_assert_null(w.l->look);
    cr_assert_eq(verb_of(w.l->call), STOP, "a stop waits for no disk");
    cr_assert(!w.l->here.turn && !w.l->here.seen_not_on && !w.l->here.stop_told);
    cr_assert_eq(w.l->none.n, 0);
    cr_assert_eq(w.l->here.looks, 1, "armed once");
    cr_assert_eq(w.l->here.entered_due, w.now);
    cr_assert_eq(w.timer.due, w.now + POLL_MS);
    world_end();
}

Test(life, what_cannot_be_taken_back_is_on_disk_before_it_is_asked)
{
    world_begin(1);
    w.calm = true;
    life_want(w.l, LIFE_GOAL_ON);
    cr_assert_eq(life_state(w.l), CREATING);
    cr_assert_eq(verb_of(w.l->call), KEEPING);
    cr_assert_eq(w.timer.due, w.now + KEPT_MS);
    works_run();
    run_until(w.now + 200000);
    life_want(w.l, LIFE_GOAL_OFF);
    works_run();
    run_until(w.now + 400000);
    cr_assert_eq(life_state(w.l), STOPPED);
    life_want(w.l, LIFE_GOAL_RELEASE);
    cr_assert_eq(life_state(w.l), RELEASING);
    cr_assert_eq(verb_of(w.l->call), KEEPING);
    cr_assert_eq(w.timer.due, w.now + KEPT_MS);
    life_event(w.l, LIFE_EV_TIMER, NULL);
    cr_assert_eq(verb_of(w.l->call), KEEPING, "not asked: begun anew");
    world_end();
}

/* Lists may be wrong twice: one that is to be given back is gone when its release was heard, or after long.
 */
Test(life, what_lists_leave_out_is_given_back_when_that_was_heard)
{
    struct fault lost = {.kind = FAULT_UNCERTAIN, .code = "timeout", .text = "no answer"};

    for (unsigned heard = 0; heard < 2; heard++) {
        world_with_one_that_runs();
        w.l->record.state = RELEASING;
        w.l->record.goal = LIFE_GOAL_RELEASE;
        w.l->here.asked = true;
        op_cancel(&w.l->call);
        on_done(w.l, heard ? NULL : &lost);
        op_cancel(&w.l->look);
        for (unsigned i = 0; i < 2; i++)
            on_list(w.l, NULL, 0, NULL);
        cr_assert_eq(life_state(w.l), heard ? RELEASED : RELEASING);
        w.now += RELEASED_MS;
        on_list(w.l, NULL, 0, NULL);
        cr_assert_eq(life_state(w.l), RELEASED);
        world_end();
    }
}

Test(life, what_is_being_made_is_watched_from_its_answer_on)
{
    world_begin(1);
    w.calm = true;
    life_want(w.l, LIFE_GOAL_ON);
    works_run();
    while (life_state(w.l) == CREATING) {
        cr_assert(step(w.now + 60000));
        now_happens();
    }
    cr_assert_eq(life_state(w.l), STARTING);
    cr_assert_eq(verb_of(w.l->look), LIST, "a boot that fails soon is seen on its way");
    cr_assert(w.l->here.asked);
    world_end();
}

/* Each second timer of a stop asks again; what else happens is no turn. */
Test(life, only_the_timer_takes_turns)
{
    struct fault f;

    world_with_one_that_runs();
    life_want(w.l, LIFE_GOAL_OFF);
    w.now += 100;
    life_on_timer(w.l);
    cr_assert(w.l->here.turn);
    cr_assert_eq(w.timer.due, w.now + POLL_MS);
    w.now += 100;
    fault_code(&f, FAULT_TRANSIENT, "", "no answer");
    life_event(w.l, LIFE_EV_BLIND, &f);
    cr_assert(w.l->here.turn);
    cr_assert_eq(w.timer.due, w.now - 100 + POLL_MS);
    life_on_timer(w.l);
    cr_assert_not(w.l->here.turn);
    world_end();
}

Test(life, what_only_a_person_can_mend_is_told_while_it_goes_on)
{
    struct fault f;

    world_with_one_that_runs();
    works_run();
    fault_code(&f, FAULT_TRANSIENT, "", "no answer");
    life_event(w.l, LIFE_EV_BLIND, &f);
    cr_assert(list_is_empty(&w.works));
    fault_code(&f, FAULT_DENIED, "token_refused", "no");
    life_event(w.l, LIFE_EV_BLIND, &f);
    cr_assert_eq(life_state(w.l), RUNNING);
    cr_assert_str_eq(life_trouble(w.l)->code, "token_refused");
    cr_assert(w.l->is_blind);
    cr_assert_not(list_is_empty(&w.works), "others hear of it");
    world_end();
}

Test(life, one_that_the_list_leaves_out_is_told_to_others)
{
    world_with_one_that_runs();
    works_run();
    unsigned n_kept = w.n_kept;

    life_tell_missing(w.l);
    cr_assert_str_eq(life_trouble(w.l)->code, "vanished");
    cr_assert_eq(w.n_kept, n_kept + 1, "for the next daemon");
    cr_assert_not(list_is_empty(&w.works));
    works_run();
    life_tell_missing(w.l);
    cr_assert(list_is_empty(&w.works), "once");
    world_end();
}
