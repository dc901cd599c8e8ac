/* links: deployment
 *
 * What goes with an event and a change of state: the facts as of then, the figures that begin anew or go on,
 * and what people are told. */
#pragma GCC diagnostic ignored "-Wunused-function" /* not each test needs each part of the world */
#include "tests/unit/deployment_world.h"

TestSuite(deployment_facts, .init = begin, .fini = end);

/* And forgets what that asked of the machine. */
static void enter(enum deployment_state was, enum deployment_state next, const struct fault *f)
{
    w.d->state = was;
    deployment_enter(w.d, next, "so", f);
    op_cancel(&w.d->op);
    while (w.n_jobs)
        job_drop(0);
}

#define EACH_CHANGE(was, next)                                                                               \
    for (enum deployment_state was = OFF; was <= FAILED; was++)                                              \
        for (enum deployment_state next = OFF; next <= FAILED; next++)

Test(deployment_facts, figures_begin_anew_with_some_states)
{
    EACH_CHANGE(was, next)
    {
        struct deployment *d = w.d;
        bool ends = next == READY || next == STOPPING || was == STOPPING;

        d->goal = GOAL_ON;
        d->server_number = 7;
        d->replaced = d->touched = d->stale = true;
        d->attempts = d->misses = 3;
        enter(was, next, NULL);
        cr_assert_eq(d->server_number, next == STARTING || next == STOPPING ? 8 : 7, "%d, %d", was, next);
        cr_assert_eq(d->replaced, next != READY, "%d, %d", was, next);
        cr_assert_eq(d->touched, next != OFF, "%d, %d", was, next);
        cr_assert_eq(d->stale, next != CONNECTING, "%d, %d", was, next);
        cr_assert_eq(d->attempts, ends ? 0 : 3, "%d, %d", was, next);
        cr_assert_eq(d->misses, ends ? 0 : 3, "%d, %d", was, next);
        d->touched = d->replaced = false;
        enter(was, next, NULL);
        cr_assert_eq(d->touched, next == STARTING, "%d, %d", was, next);
        cr_assert_not(d->replaced);
    }
    w.d->touched = w.d->sleeps = false;
    w.d->state = OFF;
    w.d->goal = GOAL_OFF;
}

Test(deployment_facts, those_that_are_cut_are_cut_until_another_server_is_wanted)
{
    EACH_CHANGE(was, next)
    {
        struct deployment *d = w.d;
        bool goes = next == DRAINING || next == STOPPING;

        d->cut = true;
        d->goal = GOAL_OFF;
        enter(was, next, NULL);
        cr_assert(d->cut, "%d, %d", was, next);
        d->goal = GOAL_ON_DEMAND;
        d->sleeps = false;
        enter(was, next, NULL);
        cr_assert_eq(d->cut, goes, "%d, %d", was, next);
        d->cut = d->sleeps = true;
        enter(was, next, NULL);
        cr_assert_eq(d->cut, next != ASLEEP, "%d, %d", was, next);
        d->cut = d->sleeps = false;
        d->goal = GOAL_OFF;
        enter(was, next, NULL);
        cr_assert_not(d->cut, "%d, %d: nobody is there", was, next);
        request_begins();
        enter(was, next, NULL);
        cr_assert_eq(d->cut, next == STOPPING, "%d, %d", was, next);
        request_ends();
        d->cut = false;
    }
    w.d->touched = false;
    w.d->state = OFF;
}

Test(deployment_facts, a_late_start_is_ended_by_the_next_one)
{
    const struct fault f = {FAULT_TRANSIENT, 0, "lost", "lost"};

    w.d->goal = GOAL_ON;
    w.d->engine->facts.pid = 77;
    EACH_CHANGE(was, next)
    {
        for (unsigned i = 0; i < 4; i++) {
            bool late = i & 1, ended = i & 2, again = was == STARTING && next == CONNECTING && late && !ended;

            w.d->late = late;
            w.d->replaced = false;
            w.d->hung = false;
            w.d->deaths = 0;
            w.d->engine->hung_pid = 0;
            enter(was, next, ended ? &f : NULL);
            cr_assert_eq(w.d->replaced, again, "%d, %d", was, next);
            cr_assert_eq(w.d->engine->hung_pid, again ? 77 : 0, "%d, %d", was, next);
        }
    }
    w.d->touched = w.d->late = false;
    w.d->state = OFF;
    w.d->goal = GOAL_OFF;
}

Test(deployment_facts, a_death_is_remembered_with_its_time_and_told_when_it_is_mended)
{
    const struct fault f = {FAULT_GONE, 0, "engine_exited", "it exited"};
    const struct fault *why;
    int64_t at_ms;

    w.d->goal = GOAL_ON;
    enter(READY, CONNECTING, &f);
    cr_assert_eq(deployment_deaths(w.d, &why, &at_ms), 1);
    cr_assert_eq(at_ms, fake_clock_wall_ms());
    cr_assert_str_eq(why->code, "engine_exited");
    cr_assert_eq(w.d->deaths_from_due, w.now);
    cr_assert_eq(w.n_lost, 1);
    w.now += 1000;
    enter(READY, FAILED, &f);
    cr_assert_eq(deployment_deaths(w.d, &why, &at_ms), 2);
    cr_assert_eq(at_ms, fake_clock_wall_ms());
    cr_assert_eq(w.d->deaths_from_due, w.now - 1000, "since the first");
    cr_assert_eq(w.n_lost, 1, "what is not mended is told as a failure");
    enter(LOADING, CONNECTING, &f);
    cr_assert_eq(deployment_deaths(w.d, &why, &at_ms), 2, "it was not ready");
    w.d->touched = false;
    w.d->state = OFF;
    w.d->goal = GOAL_OFF;
}

Test(deployment_facts, how_long_it_took_is_kept_once)
{
    uint64_t begun = w.now;
    struct deployment_figures n;

    want(true);
    while (w.d->state != READY)
        run_until(w.now + 1);
    deployment_figures(w.d, &n);
    cr_assert_geq(n.took_ms, w.now - begun - 1);
    cr_assert_leq(n.took_ms, w.now - begun);
    cr_assert_eq(n.used_due, w.d->entered_due, "getting ready counts as a use");
    cr_assert_str_eq(w.duration.what, "up ollama:tiny gpu1");
    cr_assert_eq(w.duration.ms, n.took_ms);
    cr_assert_eq(w.d->wanted_due, 0);
    w.duration.ms = 0;
    w.now += 5000;
    enter(LOADING, READY, NULL);
    cr_assert_eq(w.duration.ms, 0, "nobody waited for it");
    cr_assert_eq(w.d->touched_due, w.now);
}

Test(deployment_facts, what_the_engine_shows_is_that_of_the_last_load)
{
    struct json *first = NULL, *second = NULL;

    go_up();
    cr_assert_eq(json_parse("{\"a\":1}", 7, &first), 0);
    cr_assert_eq(json_parse("{\"a\":2}", 7, &second), 0);
    w.d->engine->facts.shown = first;
    enter(LOADING, READY, NULL);
    cr_assert_neq(w.d->shown, first, "a copy");
    cr_assert_eq(json_get_int(w.d->shown, "a", 0), 1);
    w.d->engine->facts.shown = second;
    enter(DRAINING, READY, NULL);
    cr_assert_eq(json_get_int(w.d->shown, "a", 0), 1, "nothing was loaded");
    enter(LOADING, READY, NULL);
    cr_assert_eq(json_get_int(w.d->shown, "a", 0), 2);
    w.d->engine->facts.shown = NULL;
    json_free(first);
    json_free(second);
}

Test(deployment_facts, it_looks_for_a_way_at_once_or_after_a_rest)
{
    static const struct {
        unsigned attempts, deaths;
        bool way;
        uint64_t rest_ms; /* 0: at once, or when the way is there */
    } rows[] = {
        {0, 0, true, 0},  {0, 0, false, 0}, {1, 0, true, 500},  {2, 0, true, 1000}, {4, 0, true, 4000},
        {1, 0, false, 0}, {0, 1, true, 0},  {0, 2, true, 1000}, {0, 2, false, 0},   {1, 2, true, 500},
    };

    w.d->goal = GOAL_ON;
    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        runq_drop(&w.d->look);
        w.d->attempts = rows[i].attempts;
        w.d->deaths = rows[i].deaths;
        w.way = rows[i].way;
        enter(LOADING, CONNECTING, NULL);
        cr_assert_eq(w.timer->due, rows[i].rest_ms ? w.now + rows[i].rest_ms : 0, "row %u", i);
        cr_assert_eq(list_is_empty(&w.d->look.node), rows[i].rest_ms != 0, "row %u", i);
    }
    w.d->state = OFF;
    w.d->goal = GOAL_OFF;
    w.d->touched = false;
    w.way = true;
}

Test(deployment_facts, when_it_looked_at_the_memory_is_known)
{
    w.d->goal = GOAL_ON;
    enter(FETCHING, PLACING, NULL);
    cr_assert_eq(deployment_looked_at_ms(w.d), fake_clock_wall_ms());
    w.now += 1000;
    enter(PLACING, LOADING, NULL);
    cr_assert_eq(deployment_looked_at_ms(w.d), fake_clock_wall_ms() - 1000);
    w.d->state = OFF;
    w.d->goal = GOAL_OFF;
}

/* ---- What is said ---- */

Test(deployment_facts, why_it_waits_for_room_or_sleeps_lasts_as_long_as_that)
{
    EACH_CHANGE(was, next)
    {
        for (unsigned sleeps = 0; sleeps < 2; sleeps++) {
            struct deployment *d = w.d;
            bool goes_on = sleeps && was != STOPPING && next != ASLEEP && next != OFF && next != FAILED;
            const char *room = goes_on          ? "why"
                               : next != ASLEEP ? ""
                               : sleeps         ? "why"
                                                : "the engine has unloaded it";

            snprintf(d->room, sizeof d->room, "why");
            d->crowded = d->dozed = true;
            d->sleeps = sleeps;
            enter(was, next, NULL);
            cr_assert_str_eq(d->room, room, "%d, %d, %u", was, next, sleeps);
            cr_assert_eq(d->sleeps, goes_on, "%d, %d, %u", was, next, sleeps);
            cr_assert_eq(d->dozed, sleeps || next != ASLEEP, "%d, %d, %u", was, next, sleeps);
            cr_assert_eq(d->crowded, next != READY, "%d, %d, %u", was, next, sleeps);
        }
    }
    w.d->touched = w.d->sleeps = false;
    w.d->state = OFF;
}

/* Also while it is started again, for people want to know. */
Test(deployment_facts, what_went_wrong_is_known_until_it_went_well)
{
    const struct fault f = {FAULT_TRANSIENT, 0, "new", "new"};

    w.d->goal = GOAL_ON;
    EACH_CHANGE(was, next)
    {
        for (unsigned i = 0; i < 4; i++) {
            struct deployment *d = w.d;
            bool told = i & 1, tried = i & 2, rests = next == READY || next == OFF || next == ASLEEP;
            const char *code = told && (next != CONNECTING || was == READY) ? "new"
                               : rests || (next == CONNECTING && !tried)    ? ""
                                                                            : "old";

            snprintf(d->fault.code, sizeof d->fault.code, "old");
            d->attempts = tried ? 3 : 0;
            d->deaths = 0;
            d->engine->unverified = true;
            enter(was, next, told ? &f : NULL);
            cr_assert_str_eq(d->fault.code, code, "%d, %d, %u", was, next, i);
            cr_assert_eq(d->engine->unverified, !rests && next != FAILED, "%d, %d", was, next);
        }
    }
    w.d->touched = false;
    w.d->state = OFF;
    w.d->goal = GOAL_OFF;
}

static const char *kind_of(enum deployment_state was, enum deployment_state next)
{
    switch (next) {
    case OFF: return "off";
    case ASLEEP: return "asleep";
    case FAILED: return "failed";
    case READY: return was == LOADING ? "ready" : "none";
    default: return "none";
    }
}

Test(deployment_facts, each_change_is_written_down_and_told)
{
    EACH_CHANGE(was, next)
    {
        w.kind = "none";
        w.n_records = 0;
        runq_drop(&w.d->changed);
        enter(was, next, NULL);
        cr_assert_str_eq(w.kind, kind_of(was, next), "%d, %d", was, next);
        cr_assert_geq(w.n_records, 1u, "%d, %d", was, next);
        cr_assert_not(list_is_empty(&w.d->changed.node), "%d, %d", was, next);
        cr_assert_eq(w.d->entered_due, w.now);
        cr_assert_eq(w.d->entered_at_ms, fake_clock_wall_ms());
        w.now += 1000;
    }
    w.d->touched = false;
    w.d->state = OFF;
}

/* ---- What it does ---- */

Test(deployment_facts, each_state_asks_for_what_it_is_for)
{
    static const struct {
        enum deployment_state state;
        int verb; /* -1: nothing is asked */
        uint64_t timer_ms;
    } rows[] = {
        {OFF, -1, 0},          {ASLEEP, -1, 0},        {CONNECTING, -1, 0},  {INSTALLING, FIND, 0},
        {PLACING, PREPARE, 0}, {STARTING, START, 0},   {FETCHING, FETCH, 0}, {LOADING, LOAD, 0},
        {READY, -1, 15000},    {DRAINING, -1, 300000}, {STOPPING, STOP, 0},  {FAILED, -1, 0},
    };

    w.d->goal = GOAL_ON;
    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        deployment_enter(w.d, STARTING, "so", NULL); /* what it asks, and its timer, are not taken along */
        timer_arm(w.timer, 1);
        w.d->alive_due = 0;
        deployment_enter(w.d, rows[i].state, "so", NULL);
        cr_assert_eq(w.d->op != NULL, rows[i].verb >= 0, "row %u", i);
        if (w.d->op)
            cr_assert_eq((int)CONTAINER_OF(w.d->op, struct asked, op)->job->verb, rows[i].verb, "row %u", i);
        cr_assert_eq(w.timer->due, rows[i].timer_ms ? w.now + rows[i].timer_ms : 0, "row %u", i);
        cr_assert_eq(w.d->alive_due, rows[i].state == READY ? w.now : 0, "row %u: heard by its load", i);
        op_cancel(&w.d->op);
        while (w.n_jobs)
            job_drop(0);
    }
    w.d->touched = false;
    w.d->state = OFF;
    w.d->goal = GOAL_OFF;
}

Test(deployment_facts, one_that_misses_an_answer_gets_more_time_for_the_next)
{
    go_up();
    w.d->misses = 0;
    deployment_act(w.d);
    cr_assert_eq(w.d->engine->patience_ms, 5000);
    deployment_act(w.d);
    cr_assert_eq(w.n_jobs, 1, "it is asked already");
    op_cancel(&w.d->op);
    w.d->misses = 1;
    deployment_act(w.d);
    cr_assert_eq(w.d->engine->patience_ms, 15000);
}

/* ---- What an event says, before anything is decided ---- */

#define EV(name) DEPLOYMENT_EV_##name

/* Before: was (r)eachable, is (w)ell now, (l)ost since the state began; one miss, one attempt. After: is
 * (l)ate, (L)ost, was (h)eard. */
Test(deployment_facts, what_an_event_says_of_the_way_and_the_time)
{
    static const struct {
        enum deployment_state state;
        enum deployment_event ev;
        const char *before;
        uint64_t age_ms;
        const char *after;
        unsigned misses, attempts;
    } rows[] = {
        {STARTING, EV(AGAIN), "rw", 60000, "", 1, 1},  {STARTING, EV(AGAIN), "rw", 60001, "l", 1, 1},
        {FETCHING, EV(AGAIN), "rw", 900000, "", 1, 1}, {LOADING, EV(ANSWER), "rw", 0, "h", 0, 1},
        {READY, EV(ANSWER), "rw", 0, "h", 0, 1},       {READY, EV(AGAIN), "rw", 0, "h", 0, 1},
        {READY, EV(TIMER), "rw", 0, "", 1, 1},         {READY, EV(TIMER), "r", 0, "Lh", 1, 1},
        {READY, EV(WAY), "w", 0, "h", 1, 1},           {LOADING, EV(TIMER), "rwl", 0, "L", 1, 1},
        {READY, EV(FAULT), "rw", 0, "", 2, 1},         {READY, EV(FAULT), "r", 0, "Lh", 1, 1},
        {READY, EV(FAULT), "rwl", 0, "L", 2, 1},       {LOADING, EV(FAULT), "rw", 0, "", 1, 2},
        {LOADING, EV(FAULT), "rwl", 0, "L", 1, 1},     {LOADING, EV(FAULT), "r", 0, "Lh", 1, 1},
    };
    const struct fault lost = {FAULT_TRANSIENT, 0, "lost", "lost"};
    struct deployment *d = w.d;
    struct fault room;

    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        const struct fault *f = rows[i].ev == EV(FAULT) ? &lost : NULL;

        d->state = rows[i].state;
        d->entered_due = w.now - rows[i].age_ms;
        d->reachable = strchr(rows[i].before, 'r');
        w.way = strchr(rows[i].before, 'w');
        d->lost = strchr(rows[i].before, 'l');
        d->hung = true;
        d->misses = d->attempts = 1;
        d->alive_due = 0;
        cr_assert_eq(note_facts(d, rows[i].ev, f, &room), f, "row %u", i);
        cr_assert_eq(d->reachable, w.way, "row %u", i);
        cr_assert_eq(d->late, strchr(rows[i].after, 'l') != NULL, "row %u", i);
        cr_assert_eq(d->lost, strchr(rows[i].after, 'L') != NULL, "row %u", i);
        cr_assert_eq(d->alive_due, strchr(rows[i].after, 'h') ? w.now : 0, "row %u", i);
        cr_assert_eq(d->misses, rows[i].misses, "row %u: %u", i, d->misses);
        cr_assert_eq(d->attempts, rows[i].attempts, "row %u: %u", i, d->attempts);
        cr_assert_not(d->hung, "row %u", i);
    }
    d->state = OFF;
}

Test(deployment_facts, deaths_are_counted_within_ten_minutes)
{
    struct fault room;

    w.d->deaths = 3;
    w.d->deaths_from_due = w.now;
    w.now += 600000;
    note_facts(w.d, EV(TIMER), NULL, &room);
    cr_assert_eq(w.d->deaths, 3u);
    w.now++;
    note_facts(w.d, EV(TIMER), NULL, &room);
    cr_assert_eq(w.d->deaths, 0u);
}

/* between_ms: since the look before; not more than silent_ms, or there was none since it was heard. */
Test(deployment_facts, a_silent_server_hangs_unless_it_may_compute)
{
    static const struct {
        uint64_t silent_ms, between_ms;
        int64_t before_ms, computed_ms;
        bool asked, hung;
    } rows[] = {
        {40000, 2000, 100, 100, true, true},
        {40000, 2000, 0, 0, true, true},
        {29999, 2000, 0, 0, true, false},
        {40000, 40000, 0, 0, true, false}, /* heard in the same moment */
        {400000, 500000, 0, 0, false, false},
        {400000, 500000, -1, -1, false, false},
        {40000, 2000, 100, 300, false, false},
        {400000, 2000, 100, 300, false, true},
        {400000, 2000, 100, 300, true, false},
        {40000, 2000, 200, 100, true, false}, /* of another process */
        {40000, 2000, -1, -1, true, false},
        {40000, 2000, -1, 0, true, false},
        {40000, 2000, 0, -1, true, false},
    };
    const struct fault f = {FAULT_TRANSIENT, 0, "no_answer", "nothing came"};
    struct deployment *d = w.d;
    struct fault room;

    d->state = READY;
    d->reachable = true;
    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        d->alive_due = w.now - rows[i].silent_ms;
        d->looked_due = w.now - rows[i].between_ms;
        d->computed_ms = rows[i].before_ms;
        d->engine->facts.computed_ms = rows[i].computed_ms;
        d->in_flight = rows[i].asked;
        cr_assert_eq(note_facts(d, EV(FAULT), &f, &room), rows[i].hung ? &room : &f, "row %u", i);
        cr_assert_eq(d->hung, rows[i].hung, "row %u", i);
        cr_assert_eq(d->looked_due, w.now, "row %u", i);
        cr_assert_eq(d->computed_ms, rows[i].computed_ms, "row %u", i);
    }
    d->in_flight = 0;
    d->state = OFF;
}

/* Silent for long, and computing nothing. */
static const struct fault *look_at_silence(enum deployment_state state, const struct fault *f,
                                           struct fault *room)
{
    w.d->state = state;
    w.d->reachable = true;
    w.d->lost = false;
    w.d->alive_due = w.now - 40999;
    w.d->looked_due = w.now - 2000;
    w.d->computed_ms = w.d->engine->facts.computed_ms = 0;
    f = note_facts(w.d, EV(FAULT), f, room);
    w.d->state = OFF;
    return f;
}

Test(deployment_facts, that_it_hangs_is_said_of_one_that_answered_nothing)
{
    const struct fault silence = {FAULT_TRANSIENT, 0, "no_answer", "nothing came"},
                       lost = {FAULT_TRANSIENT, 0, "lost", "lost"};
    struct fault room;

    cr_assert_eq(look_at_silence(READY, &lost, &room), &lost);
    cr_assert_eq(look_at_silence(LOADING, &silence, &room), &silence, "deployment_watch.c looks after that");
    cr_assert_eq(w.d->looked_due, w.now - 2000);
    cr_assert_eq(look_at_silence(READY, &silence, &room), &room);
    cr_assert_str_eq(room.text,
                     "ollama hangs, has answered nobody for 40 s, and is started again: nothing came");
    cr_assert_str_eq(room.code, "no_answer");
    w.d->engine->facts.stopped = true;
    cr_assert_eq(look_at_silence(READY, &silence, &room), &room);
    cr_assert_str_eq(
        room.text,
        "ollama was stopped (SIGSTOP), has answered nobody for 40 s, and is started again: nothing came");
}

Test(deployment_facts, what_is_known_of_the_way_begins_with_the_state)
{
    EACH_CHANGE(was, next)
    {
        for (unsigned i = 0; i < 4; i++) {
            w.d->reachable = i & 1;
            w.d->refused = i & 2;
            w.d->lost = i & 1;
            enter(was, next, NULL);
            cr_assert_eq(w.d->lost, !(i & 1), "%d, %d, %u", was, next, i);
            cr_assert_eq(w.d->way_failed, next == FAILED && (i & 2), "%d, %d, %u", was, next, i);
        }
    }
    w.d->refused = w.d->touched = false;
    w.d->state = OFF;
}

Test(deployment_facts, it_may_sleep_from_when_it_is_ready_until_it_is_not)
{
    w.d->context.idle.unload_ms = 600000;
    w.d->goal = GOAL_ON_DEMAND;
    enter(LOADING, READY, NULL);
    cr_assert_eq(w.sleep_timer->due, w.now + 600000);
    enter(READY, CONNECTING, NULL);
    cr_assert_eq(w.sleep_timer->due, 0u);
    w.d->state = OFF;
    w.d->goal = GOAL_OFF;
}

/* ---- Why it gave up ---- */

static const struct fault *gives_up(enum deployment_state state, enum deployment_event ev,
                                    const struct fault *f)
{
    w.d->goal = GOAL_ON_DEMAND;
    w.d->state = state;
    w.d->reachable = true;
    w.d->lost = false;
    deployment_event(w.d, ev, f);
    cr_assert_eq(w.d->state, FAILED);
    w.d->state = OFF;
    w.d->goal = GOAL_OFF;
    return &w.d->fault;
}

Test(deployment_facts, it_gives_up_with_what_went_wrong_last)
{
    const struct fault invalid = {FAULT_INVALID, 0, "engine_failed", "no such file"},
                       gone = {FAULT_GONE, 0, "engine_exited", "it ended"};
    const struct fault *f = gives_up(LOADING, EV(FAULT), &invalid);

    cr_assert_str_eq(f->text, "no such file");
    cr_assert_eq(f->kind, FAULT_INVALID);
    w.d->deaths = 4;
    w.d->deaths_from_due = w.now;
    f = gives_up(READY, EV(FAULT), &gone);
    cr_assert_str_eq(
        f->text,
        "it died 5 times within 10 min, and is not started again by itself; the last time: it ended");
    cr_assert_eq(f->kind, FAULT_GONE);
    w.d->replaced = true;
    w.d->entered_due = w.now - 60001;
    f = gives_up(STARTING, EV(AGAIN), NULL);
    cr_assert_str_eq(f->code, "timed_out");
    cr_assert_eq(f->kind, FAULT_TRANSIENT, "the next try may get there");
    cr_assert_eq(f->error, -ETIMEDOUT);
}

Test(deployment_facts, who_asks_whether_it_died_is_told_by_the_next_look)
{
    static const struct fault lost = {FAULT_TRANSIENT, 0, "lost", "lost"},
                              gone = {FAULT_GONE, 0, "engine_exited", "it ended"};
    static const struct {
        enum deployment_event ev;
        const struct fault *f;
        bool told;
        const char *code;
    } rows[] = {
        {EV(TIMER), NULL, false, ""}, {EV(EMPTY), NULL, false, ""}, {EV(ANSWER), NULL, true, ""},
        {EV(AGAIN), NULL, true, ""},  {EV(FAULT), &lost, true, ""}, {EV(FAULT), &gone, true, "engine_exited"},
    };

    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        struct holder h = {};

        w.d->goal = GOAL_ON_DEMAND;
        w.d->state = READY;
        w.d->reachable = true;
        w.d->misses = 0;
        deployment_judge(w.d, &h.op, on_hold_over, &h);
        deployment_event(w.d, rows[i].ev, rows[i].f);
        cr_assert_eq(h.n_answers, rows[i].told, "row %u", i);
        cr_assert_str_eq(h.fault.code, rows[i].code, "row %u", i);
        op_cancel(&h.op);
        op_cancel(&w.d->op);
    }
    w.d->state = OFF;
    w.d->goal = GOAL_OFF;
}
