/* links: guard
 *
 * The life of a guard's keeper: its table, its stories, and random ones, against a box that judges requests
 * as guard.sh does (tests/lab/test_guard.py has the real one). */
#include <criterion/criterion.h>

#include "guard/keeper.c"
#include "tests/fixture/loop_fixture.h"

#define LEASE_S 900
#define FIRST_S 1800
#define BOOT    "4f8165b4-fcee-4af9-880c-89fb6bc9450b"

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
#define AWAY       KEEPER_AWAY
#define ASKING     KEEPER_ASKING
#define INSTALLING KEEPER_INSTALLING
#define KEPT       KEEPER_KEPT
#define REFUSED    KEEPER_REFUSED
#define USELESS    KEEPER_USELESS
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
    {KEPT, "", EV_FAULT, SEEN_OURS, FAULT_INVALID, USELESS, REST},

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

Test(keeper, table_of_moves)
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

Test(keeper, rules_that_hold_everywhere)
{
    static const char *const facts[] = {"", "b", "h", "t", "s", "tT", "bhts"};

    for (enum keeper_state s = AWAY; s <= USELESS; s++)
        for (size_t i = 0; i < ELEMENTS(facts); i++)
            for (enum keeper_event ev = 0; ev < EV_COUNT; ev++)
                for (enum keeper_seen seen = 0; seen < SEEN_COUNT; seen++)
                    for (enum fault_kind kind = FAULT_TRANSIENT; kind <= FAULT_INVALID; kind++)
                        check_move(s, facts[i], ev, seen, kind);
}

/* ---- A box ---- */

struct box {
    bool lives, has_record; /* a killed guard leaves its record */
    bool powerless, unwritable, stillborn, half;
    char owner[GUARD_OWNER_MAX + 1];
    int64_t seq, lease_s, hold_s, taken_s;
    bool acting;
    char note[60];
};

struct run {
    struct op op;
    struct work answer;
    struct buf out;
    struct fault fault;
    run_done_fn done;
    void *ctx;
};

static struct world {
    struct host host;
    struct loop *loop;
    struct keeper *keeper;
    struct box box;
    bool mute;          /* requests get there, their answers do not come */
    struct fault fault; /* in the place of an answer */
    bool fault_acts;    /* what was asked has happened all the same */
    struct op *stop;    /* of keeper_stop_now() */
    unsigned n_stopped;
    struct fault stopped;
    unsigned n_changed, n_reads, n_asks, n_installs, n_cancelled;
    uint64_t stored_seq, sent_seq; /* as the database has it; the last one that was sent */
    char asked[80];                /* the words of the last request */
} w;

static int64_t box_now_s(void)
{
    return (int64_t)(clock_now_ms() / 1000);
}

static void box_look(struct box *b)
{
    b->acting = b->acting || MAX(b->lease_s, b->hold_s) <= box_now_s();
}

/* guard.sh, judge() */
static bool box_judge(struct box *b, const char *owner, int64_t seq, int64_t lease_s, const char *hold,
                      bool take)
{
    const char *no = NULL;

    box_look(b);
    if (b->acting)
        no = "late";
    else if (!streq(owner, b->owner) && !streq(b->owner, "-") && !take)
        no = "owner";
    else if (seq <= b->seq)
        no = "seq";
    if (no) {
        snprintf(b->note, sizeof b->note, "no:%s:%s:%" PRId64, no, owner, seq);
        return false;
    }
    snprintf(b->owner, sizeof b->owner, "%s", owner);
    b->seq = seq;
    b->lease_s = box_now_s() + lease_s;
    if (!streq(hold, "="))
        b->hold_s = atoll(hold) ? box_now_s() + atoll(hold) : 0;
    b->taken_s = box_now_s();
    strcpy(b->note, "ok");
    box_look(b);
    return true;
}

static void box_tell(struct box *b, struct buf *out, int said)
{
    buf_addf(out, "folder=/dev/shm\nsaid=%d\nrecord=", said);
    if (b->half)
        buf_add_text(out, "llmhost1 " BOOT " 3");
    else if (b->has_record)
        buf_addf(out,
                 "llmhost1 " BOOT " 1 2 3 %" PRId64 " %s %" PRId64 " %" PRId64 " %" PRId64
                 " 0 0 %s 0 %" PRId64 " %s:shutdown,kill %s .",
                 box_now_s(), b->owner, b->seq, b->lease_s, b->hold_s,
                 b->acting              ? "acting"
                 : streq(b->owner, "-") ? "first"
                                        : "lease",
                 b->taken_s, b->powerless ? "none" : "root", b->note);
    buf_addf(out, "\nnow=%" PRId64 "\nok=\n", box_now_s());
}

static void box_start_guard(struct box *b, int64_t first_s)
{
    b->lives = true;
    if (b->has_record)
        return; /* inherited */
    b->has_record = true;
    strcpy(b->owner, "-");
    b->seq = b->hold_s = b->taken_s = 0;
    b->lease_s = box_now_s() + first_s;
    strcpy(b->note, "ok");
}

static void box_run(struct box *b, const char *words, struct buf *out)
{
    char verb[16] = "", owner[40] = "", hold[24] = "", take[8] = "";
    long long first = 0, seq = 0, lease = 0, pid = 0;

    sscanf(words, "%15s", verb);
    if (b->has_record && b->lives)
        box_look(b);
    if (streq(verb, "read")) {
        w.n_reads++;
        box_tell(b, out, b->lives ? 0 : 2);
        return;
    }
    if (streq(verb, "install")) {
        w.n_installs++;
        cr_assert_geq(sscanf(words, "install %lld %39s %lld %lld %23s %lld %7s", &first, owner, &seq, &lease,
                             hold, &pid, take),
                      6, "%s", words);
        cr_assert_eq(first, FIRST_S);
        buf_addf(out, "as=%s\n", b->powerless ? "none" : "root");
        if (b->powerless) {
            buf_add_text(out, "ok=\n");
            return;
        }
        if (b->unwritable) {
            buf_add_text(out, "said=3\nok=\n");
            return;
        }
        if (!b->stillborn)
            box_start_guard(b, first);
    } else {
        w.n_asks++;
        cr_assert_geq(
            sscanf(words, "ask %39s %lld %lld %23s %lld %7s", owner, &seq, &lease, hold, &pid, take), 5, "%s",
            words);
    }
    cr_assert_gt(seq, w.sent_seq, "a sequence was used twice");
    cr_assert_eq(seq, w.stored_seq, "it is in the database before it is sent");
    w.sent_seq = (uint64_t)seq;
    if (!b->lives)
        box_tell(b, out, 2);
    else
        box_tell(b, out, box_judge(b, owner, seq, lease, hold, *take) ? 0 : 1);
}

static void run_cancel(struct op *op)
{
    struct run *r = CONTAINER_OF(op, struct run, op);

    w.n_cancelled++;
    runq_drop(&r->answer);
    buf_done(&r->out);
    free(r);
}

static void run_answer(void *ctx)
{
    struct run *r = ctx;
    struct run_result result = {.out = r->out};
    struct fault f = r->fault;
    run_done_fn done = r->done;
    void *owner = r->ctx;

    buf_init(&result.err, 1 << 10);
    op_end(&r->op);
    free(r);
    done(owner, f.kind ? NULL : &result, f.kind ? &f : NULL);
    buf_done(&result.out);
}

static void fake_run(struct host *h, const struct run_spec *spec, struct op **slot, run_done_fn done,
                     void *ctx)
{
    struct run *r = xnew(struct run);
    const char *words = strstr(spec->script, "set -- ask");

    cr_assert_eq(h, &w.host);
    cr_assert(w.keeper->open, "nothing is sent over a way that is closed");
    for (const char *verb = "read\0install\0"; !words && *verb; verb += strlen(verb) + 1) {
        _cleanup_free_ char *head = xasprintf("set -- %s", verb);

        words = strstr(spec->script, head);
    }
    cr_assert_not_null(words);
    snprintf(w.asked, sizeof w.asked, "%.*s", (int)strcspn(words + 7, "\n"), words + 7);
    *r = (struct run){.fault = w.fault, .done = done, .ctx = ctx};
    buf_init(&r->out, 1 << 16);
    work_init(&r->answer, run_answer, r);
    if (!w.fault.kind || w.fault_acts)
        box_run(&w.box, w.asked, &r->out);
    op_begin(&r->op, slot, run_cancel);
    if (!w.mute)
        runq_add(w.loop, &r->answer);
}

static const struct host_ops ops = {.name = "fake", .run = fake_run};

static void on_seq_used(void *ctx, uint64_t seq)
{
    cr_assert_eq(ctx, &w);
    cr_assert_gt(seq, w.stored_seq);
    w.stored_seq = seq;
}

static void on_changed(void *ctx)
{
    cr_assert_eq(ctx, &w);
    w.n_changed++;
}

static struct keeper *keeper_of_world(void)
{
    return keeper_new(&(struct keeper_context){
        .loop = w.loop,
        .host = &w.host,
        .name = "gpu1",
        .owner = "me",
        .lease_s = LEASE_S,
        .first_s = FIRST_S,
        .seq = w.stored_seq,
        .seq_used = on_seq_used,
        .changed = on_changed,
        .ctx = &w,
    });
}

static void setup(void)
{
    w = (struct world){.host = {.ops = &ops}, .loop = loop_new(), .stored_seq = 40};
    w.keeper = keeper_of_world();
}

static void teardown(void)
{
    op_cancel(&w.stop);
    w.keeper = keeper_free(w.keeper);
    loop_free_dry(w.loop);
}

TestSuite(keeper, .timeout = 60);
#define Story(name) Test(keeper, name, .init = setup, .fini = teardown)

static void settle(void)
{
    loop_turns(w.loop, 6);
}

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

static int64_t left_s(void)
{
    return MAX(w.box.lease_s, w.box.hold_s) - box_now_s();
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
    cr_assert_gt(w.n_changed, 0);
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
    w.keeper->context.lease_s = 30;
    open_way();
    loop_advance(w.loop, 10000);
    settle();
    cr_assert_eq(w.n_asks, 1);
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

Story(what_cannot_be_written_is_no_guard)
{
    w.box.unwritable = true;
    open_way();
    expect(USELESS, "no_guard");
    cr_assert_not_null(strstr(keeper_fault(w.keeper)->text, "written"));
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
    w.box.stillborn = true;
    open_way();
    expect(ASKING, "no_guard");
    loop_advance(w.loop, 2000);
    settle();
    cr_assert_eq(w.n_installs, 2);
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

Test(keeper, random_stories_end_with_a_guard_that_is_renewed)
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
