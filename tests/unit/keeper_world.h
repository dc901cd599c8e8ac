/* A box whose guard judges requests as guard.sh does, and the real keeper.c, which this includes, over it.
 * For test_keeper.c and test_keeper_fsm.c; tests/lab/test_guard.py has real boxes. */
#pragma once

#include <criterion/criterion.h>

#include "guard/keeper.c"
#include "tests/fixture/loop_fixture.h"

#define LEASE_S 900
#define FIRST_S 1800
#define BOOT    "4f8165b4-fcee-4af9-880c-89fb6bc9450b"

/* Shorter names. */
#define AWAY       KEEPER_AWAY
#define ASKING     KEEPER_ASKING
#define INSTALLING KEEPER_INSTALLING
#define KEPT       KEEPER_KEPT
#define REFUSED    KEEPER_REFUSED
#define USELESS    KEEPER_USELESS

struct box {
    bool lives, has_record; /* a killed guard leaves its record */
    bool powerless, unwritable, stillborn, half;
    bool mail_full; /* requests cannot be written */
    char owner[GUARD_OWNER_MAX + 1];
    int64_t seq, lease_s, hold_s, taken_s;
    bool acting;
    char note[60];
    int64_t typed_s; /* 0: nobody can tell */
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
    uint32_t lease_s;
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
    buf_addf(out, "\nnow=%" PRId64 "\n", box_now_s());
    if (b->typed_s)
        buf_addf(out, "typed=%" PRId64 "\n", b->typed_s);
    buf_add_text(out, "ok=\n");
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
    else if (b->mail_full)
        box_tell(b, out, 3);
    else
        box_tell(b, out,
                 box_judge(b, owner, seq, lease, hold, *take) || (streq(owner, b->owner) && seq == b->seq) ? 0 : 1);
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
        .lease_s = w.lease_s,
        .first_s = FIRST_S,
        .seq = w.stored_seq,
        .seq_used = on_seq_used,
        .changed = on_changed,
        .ctx = &w,
    });
}

static void setup(void)
{
    w = (struct world){.host = {.ops = &ops}, .loop = loop_new(), .lease_s = LEASE_S, .stored_seq = 40};
    w.keeper = keeper_of_world();
}

static void teardown(void)
{
    op_cancel(&w.stop);
    w.keeper = keeper_free(w.keeper);
    loop_free_dry(w.loop);
}

static void settle(void)
{
    loop_turns(w.loop, 6);
}

static int64_t left_s(void)
{
    return MAX(w.box.lease_s, w.box.hold_s) - box_now_s();
}
