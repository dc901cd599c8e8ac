/* One command each: box.sh with its words in front, and for an installation guard.sh as one of them, so that
 * all of it goes the way of scripts: as standard input, which no login shell sees (csh and fish quote
 * otherwise). */
#include "guard/guard.h"

#include <errno.h>
#include <inttypes.h>

#include "base/op.h"
#include "proto/mem.h"
#include "proto/text.h"

#define ASK_MS           15000u /* it looks for 2 s */
#define INSTALL_MS       30000u
#define OUTPUT_BYTES_MAX (16u << 10)
#define SCRIPT_BYTES_MAX (64u << 10)

extern const char guard_box_sh[], guard_guard_sh[], guard_first_sh[];

struct guard_call {
    struct op op;
    struct op *inner;
    struct guard_request q; /* without its owner */
    char owner[GUARD_OWNER_MAX + 1];
    bool asks;
    guard_done_fn done;
    void *ctx;
};

static void call_cancel(struct op *op)
{
    struct guard_call *c = CONTAINER_OF(op, struct guard_call, op);

    op_cancel(&c->inner);
    free(c);
}

static void call_end(struct guard_call *c, const struct guard_answer *answer, const struct fault *f)
{
    guard_done_fn done = c->done;
    void *ctx = c->ctx;

    op_end(&c->op);
    free(c);
    done(ctx, answer, f);
}

/* ---- What an answer means ---- */

static enum guard_verdict judge_said(const struct guard_report *r)
{
    switch (r->said) {
    case GUARD_SAID_YES: return GUARD_TAKEN;
    case GUARD_SAID_NO: return GUARD_REFUSED;
    case GUARD_SAID_NONE: return GUARD_MISSING;
    case GUARD_SAID_UNWRITABLE: return GUARD_UNWRITABLE;
    }
    return GUARD_MISSING;
}

/* "Taken" is believed only with the record that says so: of this owner and sequence, and a young beat. */
static void judge(const struct guard_call *c, struct guard_answer *a)
{
    const struct guard_report *r = &a->report;

    if (r->power == GUARD_POWER_NONE) {
        a->verdict = GUARD_DOES_NOT_COUNT;
        return;
    }
    a->verdict = judge_said(r);
    if (r->has_record)
        a->left_s = r->record.state == GUARD_STATE_ACTING || r->now_s < 0
                        ? 0
                        : MAX(guard_record_end_s(&r->record) - r->now_s, 0);
    if (a->verdict != GUARD_TAKEN && a->verdict != GUARD_REFUSED)
        return;
    if (!r->has_record)
        a->verdict = r->is_half ? GUARD_UNREADABLE : GUARD_MISSING;
    else if (!guard_report_is_alive(r))
        a->verdict = GUARD_MISSING;
    else if (a->verdict == GUARD_TAKEN && r->record.power == GUARD_POWER_NONE)
        a->verdict = GUARD_DOES_NOT_COUNT;
    else if (a->verdict == GUARD_TAKEN && c->asks &&
             (!streq(r->record.owner, c->owner) || r->record.seq != (int64_t)c->q.seq))
        a->verdict = GUARD_UNREADABLE;
    else if (a->verdict == GUARD_REFUSED)
        a->reason = r->record.state == GUARD_STATE_ACTING ? GUARD_REASON_LATE : r->record.refused;
}

/* The first line of an account that runs something of its own. */
static void read_stranger(const char *text, struct fault *fault)
{
    struct buf clean;
    size_t n = strcspn(text, "\r\n");

    buf_init(&clean, 4096);
    utf8_clean(&clean, text, MIN(n, 300u), false);
    fault_code(fault, FAULT_INVALID, "no_shell",
               "the machine does not run what it is asked to in this account (ForceCommand, or another "
               "shell); it says: %.200s",
               buf_text(&clean));
    buf_done(&clean);
}

static void call_on_ran(void *ctx, struct run_result *result, const struct fault *f)
{
    struct guard_call *c = ctx;
    struct guard_answer answer = {};
    struct fault fault;
    int r;

    if (f) {
        call_end(c, NULL, f);
        return;
    }
    const char *text = buf_text(&result->out);

    r = guard_report_read(text ? text : "", result->out.len, &answer.report);
    if (r < 0) {
        if (r == -EBADMSG)
            read_stranger(text, &fault);
        else
            fault_set(&fault, FAULT_TRANSIENT, 0, "the guard's machine did not answer to the end");
        call_end(c, NULL, &fault);
        return;
    }
    judge(c, &answer);
    call_end(c, &answer, NULL);
}

/* ---- Asking ---- */

static bool is_possible(const struct guard_request *q)
{
    return guard_owner_is_good(q->owner) && q->seq > 0 && q->seq <= GUARD_SEQ_MAX &&
           q->lease_s <= GUARD_LEASE_S_MAX &&
           (q->hold_s <= GUARD_HOLD_S_MAX || q->hold_s == GUARD_HOLD_UNCHANGED);
}

static void add_request(struct buf *script, const struct guard_request *q)
{
    buf_addf(script, " %s %" PRIu64 " %u ", q->owner, q->seq, q->lease_s);
    if (q->hold_s == GUARD_HOLD_UNCHANGED)
        buf_add_text(script, "=");
    else
        buf_addf(script, "%u", q->hold_s);
    buf_addf(script, " %u%s", q->hold_pid, q->take ? " take" : "");
}

static struct guard_call *call_new(const struct guard_request *q, struct op **slot, guard_done_fn done,
                                   void *ctx)
{
    struct guard_call *c = xnew(struct guard_call);

    if (q && !is_possible(q))
        abort(); /* a bug of ours */
    *c = (struct guard_call){.asks = q != NULL, .done = done, .ctx = ctx};
    if (q) {
        c->q = *q;
        c->q.owner = NULL;
        strcpy(c->owner, q->owner);
    }
    op_begin(&c->op, slot, call_cancel);
    return c;
}

static void call_run(struct guard_call *c, struct host *h, struct buf *script, uint64_t timeout_ms)
{
    buf_add_text(script, "\n");
    buf_add_text(script, guard_box_sh);
    host_run(h,
             &(struct run_spec){
                 .script = buf_text(script), .output_bytes_max = OUTPUT_BYTES_MAX, .timeout_ms = timeout_ms},
             &c->inner, call_on_ran, c);
    buf_done(script);
}

void guard_install(struct host *h, uint32_t first_s, const struct guard_request *q, struct op **slot,
                   guard_done_fn done, void *ctx)
{
    struct guard_call *c = call_new(q, slot, done, ctx);
    struct buf script;

    buf_init(&script, SCRIPT_BYTES_MAX);
    buf_add_text(&script, "text=");
    shell_quote(&script, guard_guard_sh);
    buf_addf(&script, "\nset -- install %u", first_s);
    add_request(&script, q);
    call_run(c, h, &script, INSTALL_MS);
}

void guard_ask(struct host *h, const struct guard_request *q, struct op **slot, guard_done_fn done, void *ctx)
{
    struct guard_call *c = call_new(q, slot, done, ctx);
    struct buf script;

    buf_init(&script, SCRIPT_BYTES_MAX);
    buf_add_text(&script, "set -- ask");
    add_request(&script, q);
    call_run(c, h, &script, ASK_MS);
}

void guard_read(struct host *h, struct op **slot, guard_done_fn done, void *ctx)
{
    struct guard_call *c = call_new(NULL, slot, done, ctx);
    struct buf script;

    buf_init(&script, SCRIPT_BYTES_MAX);
    buf_add_text(&script, "set -- read");
    call_run(c, h, &script, ASK_MS);
}

void guard_release(struct host *h, const char *owner, struct op **slot, guard_done_fn done, void *ctx)
{
    struct guard_call *c = call_new(NULL, slot, done, ctx);
    struct buf script;

    buf_init(&script, SCRIPT_BYTES_MAX);
    buf_addf(&script, "set -- release %s", owner);
    call_run(c, h, &script, ASK_MS);
}

/* ---- Words ---- */

const char *guard_verdict_name(enum guard_verdict v)
{
    static const char *const names[] = {"taken",      "refused",    "missing",
                                        "unwritable", "unreadable", "does not count"};

    return names[v];
}

const char *guard_reason_name(enum guard_reason r)
{
    static const char *const names[] = {"ok", "late", "owner", "seq", "range", "boot"};

    return names[r];
}

const char *guard_dog_format(char out[static GUARD_DOG_BYTES_MAX + 1], uint32_t first_s)
{
    const char *at = strstr(guard_first_sh, "FIRST");

    snprintf(out, GUARD_DOG_BYTES_MAX + 1, "%.*s%u%s", (int)(at - guard_first_sh), guard_first_sh,
             MIN(first_s, 86400u), at + strlen("FIRST"));
    return out;
}
