/* Orphans as people see them: in Machine, in Status, as trouble; and the calls that end one. What one is, and
 * the ending itself, is manager_orphan.c's. */
#include "control/orphans.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/timer.h"
#include "control/call.h"
#include "control/explain.h"
#include "control/follow.h"
#include "control/show.h"
#include "control/show_rent.h"
#include "control/target.h"
#include "lease/account.h"
#include "lease/lease.h"
#include "manager.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "proto/text.h"

/* ---- shown ---- */

static const char *power_name(enum instance_power p)
{
    return p == INSTANCE_ON ? "on" : p == INSTANCE_OFF ? "off" : "changing";
}

/* As the list tells it, else by the price list; 0: nobody knows. */
static int64_t price_of(const struct account *a, const struct instance_seen *m, bool *ret_estimate)
{
    _cleanup_free_ char *why = NULL;
    struct rental_offer card;

    *ret_estimate = !m->price_milli;
    if (m->price_milli)
        return m->price_milli;
    if (account_ops(a)->find_card(account_rental(a), m->gpu, &card, &why) < 0)
        return 0;
    return card.price_milli * MAX(m->cards, 1u);
}

static int64_t since_at_ms(const struct instance_seen *m)
{
    return m->power == INSTANCE_ON ? m->started_at_ms : m->power == INSTANCE_OFF ? m->stopped_at_ms : 0;
}

struct json *show_machine(struct manager *m, const struct account *a, const struct instance_seen *seen)
{
    const struct lease *l = manager_find_machine(m, a, seen);
    struct json *v = json_object();
    bool estimate;
    int64_t price_milli = price_of(a, seen, &estimate);

    json_put_string(v, "id", seen->id);
    json_put_string(v, "name", *seen->name ? seen->name : NULL);
    json_put_string(v, "gpu", *seen->gpu ? seen->gpu : NULL);
    if (seen->cards)
        json_put_int(v, "cards", seen->cards);
    json_put_string(v, "state", seen->word);
    json_put_string(v, "power", power_name(seen->power));
    json_put_bool(v, "no_card", seen->no_card);
    json_put(v, "price", show_rate(price_milli, estimate && price_milli, account_ops(a)->unit));
    if (seen->prepaid_until_at_ms)
        json_put_int(v, "prepaid_until_at_ms", seen->prepaid_until_at_ms);
    json_put_string(v, "instance", l ? lease_name(l) : NULL);
    json_put_string(v, "provider", account_name(a));
    if (manager_is_orphan(m, seen))
        json_put_bool(v, "orphan", true);
    if (since_at_ms(seen))
        json_put_int(v, "since_at_ms", since_at_ms(seen));
    return v;
}

static struct json *show_orphan(struct manager *m, const struct orphan_view *o)
{
    struct json *v = show_machine(m, o->account, o->seen);

    json_put_int(v, "seen_at_ms", o->seen_at_ms);
    if (o->missing_at_ms)
        json_put_int(v, "missing_at_ms", o->missing_at_ms);
    if (o->stop_asked_at_ms)
        json_put_int(v, "stop_asked_at_ms", o->stop_asked_at_ms);
    return v;
}

struct json *show_orphans(const struct control_context *k)
{
    struct json *list = json_array();
    struct orphan_view o;

    for (unsigned i = 0; manager_orphan_at(k->manager, i, &o); i++)
        json_append(list, show_orphan(k->manager, &o));
    return list;
}

struct json *show_orphans_that_bill(const struct control_context *k, const struct json *targets)
{
    struct json *list = json_array();
    struct orphan_view o;

    for (unsigned i = 0; manager_orphan_at(k->manager, i, &o); i++)
        if (o.seen->power != INSTANCE_OFF && target_has_name(targets, o.seen->id))
            json_append(list, show_orphan(k->manager, &o));
    return list;
}

/* ---- as trouble ---- */

static const char whose[] =
    "its record is lost (an older database was put in place); or an llmhostd elsewhere works with a copy of "
    "this database, and it is that one's to end";

/* "AutoDL: running for 2h05m at ¥1.98/h~ (seen 4m ago), and no instance here knows it (pxphguzd-4090d-3)" */
static char *orphan_text(const struct orphan_view *o)
{
    const struct rental_ops *ops = account_ops(o->account);
    int64_t now_ms = clock_wall_ms(), age_ms = now_ms - o->seen_at_ms;
    int64_t since_ms = since_at_ms(o->seen), since_age_ms = account_now_ms(o->account) - since_ms;
    char since[TEXT_SHORT_MAX], price[TEXT_SHORT_MAX], age[TEXT_SHORT_MAX], asked[TEXT_SHORT_MAX];
    bool on = o->seen->power != INSTANCE_OFF, estimate;
    int64_t milli = price_of(o->account, o->seen, &estimate);
    struct buf text;

    buf_init(&text, 1024);
    buf_addf(&text, "%s: %s", ops->title, o->seen->word);
    if (since_ms && since_age_ms >= 0)
        buf_addf(&text, " for %s", duration_format(since, (uint64_t)since_age_ms, false));
    if (on)
        buf_addf(&text, " at %s/h%s", milli ? money_format(price, milli, ops->unit) : "?",
                 milli && estimate ? "~" : "");
    if (age_ms >= 60000)
        buf_addf(&text, " (seen %s ago)", duration_format(age, (uint64_t)age_ms, false));
    if (o->missing_at_ms)
        buf_addf(&text, ", missing from its list for %s",
                 duration_format(age, (uint64_t)MAX(now_ms - o->missing_at_ms, (int64_t)0), false));
    buf_addf(&text, ", and no instance here knows it (%s)", o->seen->name);
    if (on && o->stop_asked_at_ms)
        buf_addf(&text, "; asked to stop %s ago, NOT CONFIRMED",
                 duration_format(asked, (uint64_t)MAX(now_ms - o->stop_asked_at_ms, (int64_t)0), false));
    return buf_take(&text);
}

static char *orphan_next(const char *provider, const char *id, bool off)
{
    return off ? xasprintf("llmhostctl release --at %s %s", provider, id)
               : xasprintf("llmhostctl down --at %s %s", provider, id);
}

static struct json *orphan_trouble(const struct orphan_view *o)
{
    bool off = o->seen->power == INSTANCE_OFF;
    _cleanup_free_ char *text = orphan_text(o),
                        *next = orphan_next(account_name(o->account), o->seen->id, off);
    struct json *v = json_object();

    json_put_string(v, "code", "orphan");
    json_put_string(v, "target", o->seen->id);
    json_put_int(v, "exit", off ? EXIT_FAILED : EXIT_NOT_CONFIRMED); /* it may be billed */
    json_put_string(v, "message", text);
    json_put_string(v, "why", whose);
    json_put(v, "next", explain_lines(next));
    if (since_at_ms(o->seen))
        json_put_int(v, "since_at_ms", since_at_ms(o->seen));
    return v;
}

void orphans_add_trouble(const struct control_context *k, const struct json *targets, struct json *list)
{
    struct orphan_view o;

    for (unsigned i = 0; manager_orphan_at(k->manager, i, &o); i++)
        if (target_has_name(targets, o.seen->id))
            json_append(list, orphan_trouble(&o));
}

/* ---- the end of one ---- */

struct orphan_call {
    struct timer *timer;
    uint64_t begun_due;
    bool release;
};

static void orphan_drop(struct call *c)
{
    struct orphan_call *x = c->state;

    timer_free(x->timer);
    free(x);
}

static const char *orphan_id(const struct call *c)
{
    return json_get_text(c->parameters, ((struct orphan_call *)c->state)->release ? "instance" : "target");
}

static bool orphan_find(const struct call *c, struct orphan_view *ret)
{
    for (unsigned i = 0; manager_orphan_at(c->context->manager, i, ret); i++)
        if (streq(ret->seen->id, orphan_id(c)) &&
            streq(account_name(ret->account), json_get_text(c->parameters, "at")))
            return true;
    return false;
}

static void orphan_progress(struct call *c, const char *stage, const char *state, const char *text)
{
    const struct orphan_call *x = c->state;
    struct json *v = json_object();

    json_put(v, "progress", follow_progress(stage, state, text, clock_now_ms() - x->begun_due));
    json_put_bool(v, "done", false);
    call_reply_more(c, v);
}

/* As the machine of an instance says it (machines_off.c). */
static void orphan_on_word(void *ctx, const char *word)
{
    struct call *c = ctx;
    const struct account *a = manager_find_account(c->context->manager, json_get_text(c->parameters, "at"));
    _cleanup_free_ char *text = xasprintf("%s: %s", a ? account_ops(a)->title : "?", word);

    if (c->more)
        orphan_progress(c, "power_off", "running", text);
}

static char *orphan_fail_next(const struct call *c, const struct fault *f)
{
    const char *at = json_get_text(c->parameters, "at"), *id = orphan_id(c);

    if (streq(f->code, "no_provider"))
        return xstrdup("llmhostctl provider list");
    if (streq(f->code, "stop_not_confirmed"))
        return xasprintf("llmhostctl status\nllmhostctl down --at %s %s", at, id);
    if (streq(f->code, "not_off"))
        return xasprintf("llmhostctl down --at %s %s", at, id);
    if (streq(f->code, "token_refused"))
        return xasprintf("llmhostctl provider set %s --token-file=FILE", at);
    return xasprintf("llmhostctl instance list --at %s", at);
}

static void orphan_fail(struct call *c, const struct fault *f)
{
    const struct orphan_call *x = c->state;
    const char *id = orphan_id(c);
    _cleanup_free_ char *next = orphan_fail_next(c, f);

    if (streq(f->code, "stop_not_confirmed"))
        call_fail(c, EXIT_NOT_CONFIRMED, f->code, id, f->text, next,
                  "STOP NOT CONFIRMED: %s may still be billed; it is asked again and again", id);
    else
        call_fail(c, explain_status(f), explain_code(f), id, NULL, next, "%s was not %s: %s", id,
                  x->release ? "given back" : "switched off", f->text);
}

static void orphan_on_end(void *ctx, const struct fault *f)
{
    struct call *c = ctx;
    const struct orphan_call *x = c->state;
    struct orphan_view o;
    struct json *v;

    if (f) {
        orphan_fail(c, f);
        return;
    }
    if (x->release) {
        call_reply(c, json_object());
        return;
    }
    if (c->more) {
        orphan_progress(c, "power_off", "done", "off");
        orphan_progress(c, "confirmed", "done", "its company says so");
    }
    v = json_object();
    json_put_bool(v, "done", true);
    json_put_int(v, "took_ms", (int64_t)(clock_now_ms() - x->begun_due));
    if (orphan_find(c, &o))
        json_put(v, "machine", show_orphan(c->context->manager, &o));
    call_reply(c, v);
}

static void orphan_on_timer(void *ctx)
{
    struct call *c = ctx;

    call_fail(c, EXIT_TIMED_OUT, "timed_out", orphan_id(c), "the work goes on", "llmhostctl status",
              "%s is not %s yet", orphan_id(c),
              ((struct orphan_call *)c->state)->release ? "given back" : "off");
}

static void orphan_end(struct call *c, bool release)
{
    struct orphan_call *x = xnew(struct orphan_call);
    int64_t timeout_ms = json_get_int(c->parameters, "timeout_ms", 0);

    x->release = release;
    x->begun_due = clock_now_ms();
    x->timer = timer_new(c->context->loop, orphan_on_timer, c);
    if (timeout_ms > 0)
        timer_arm(x->timer, (uint64_t)timeout_ms);
    c->state = x;
    c->drop = orphan_drop;
    const struct orphan_end w = {.provider = json_get_text(c->parameters, "at"),
                                 .id = orphan_id(c),
                                 .release = release,
                                 .said = release ? NULL : orphan_on_word};

    call_log_change(c, w.id, "%s at %s", release ? "release" : "down", w.provider);
    manager_end_orphan(c->context->manager, &w, &c->op, orphan_on_end, c);
}

void orphan_down(struct call *c)
{
    const char *id = json_get_text(c->parameters, "target"), *at = json_get_text(c->parameters, "at");
    _cleanup_free_ char *next = xasprintf("llmhostctl down --at %s %s", at, id);

    if (follow_timeout_is_wrong(c))
        return;
    if (json_get_text(c->parameters, "on") || json_get_bool(c->parameters, "forget", false) ||
        json_get_bool(c->parameters, "now", false))
        call_fail(c, EXIT_USAGE, "bad_arguments", id, NULL, next,
                  "%s is a machine at %s: no model on it is known, and nothing to be forgotten", id, at);
    else
        orphan_end(c, false);
}

void orphan_release(struct call *c)
{
    const char *id = json_get_text(c->parameters, "instance"), *at = json_get_text(c->parameters, "at");
    _cleanup_free_ char *confirm = xasprintf("llmhostctl release --at %s %s --confirm=%s", at, id, id);

    if (follow_timeout_is_wrong(c))
        return;
    if (!streq(json_get_text(c->parameters, "confirm"), id))
        call_fail(c, EXIT_USAGE, "not_confirmed", id, "its id has to be said once more", confirm,
                  "%s was not given back: that deletes it with its data, for ever", id);
    else
        orphan_end(c, true);
}
