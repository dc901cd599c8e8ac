/* The end of a machine that no instance knows, by a person's word: it is asked to stop until its company says
 * that it is off, or to be given back until the lists leave it out. It goes on whoever waits. The word is in
 * memory alone: after a restart the machine is shown as before, and the word can be said again. */
#include "manager_orphan.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/fault.h"
#include "base/settings.h"
#include "base/timer.h"
#include "lease/account.h"
#include "lease/lease.h"
#include "proto/text.h"

#define POLL_MS     5000u
#define POLL_MS_MAX 60000u

/* One that a person wants ended. */
struct ending {
    struct list node;
    struct manager *manager;
    char *provider, *id;
    bool release;
    uint64_t asked_due; /* first; 0: not yet */
    int64_t asked_at_ms;
    uint64_t said_due; /* the alarm counts from here */
    bool is_answered;  /* of a release: it was heard; of any: there is no such machine */
    unsigned turn, n_none;
    uint64_t none_due; /* the lists leave it out since then */
    bool is_alarmed;
    struct op *step;
    struct timer *timer;
    struct list waits;
};

/* And whoever waits for that. */
struct wait {
    struct op op;
    struct list node;
    struct op *refusal; /* it cannot even begin */
    char told[INSTANCE_WORD_MAX];
    void (*said)(void *ctx, const char *word);
    op_done_fn done;
    void *ctx;
};

/* ---- who waits ---- */

static void wait_free(struct wait *w)
{
    op_cancel(&w->refusal);
    list_remove(&w->node);
    free(w);
}

static void wait_cancel(struct op *op)
{
    wait_free(CONTAINER_OF(op, struct wait, op));
}

/* f may be of what ends with it. */
static void wait_end(void *ctx, const struct fault *f)
{
    struct wait *w = ctx;
    op_done_fn done = w->done;
    struct fault why = f ? *f : (struct fault){};
    void *done_ctx = w->ctx;

    op_end(&w->op);
    wait_free(w);
    done(done_ctx, f ? &why : NULL);
}

/* ---- one that is ended ---- */

static struct ending *ending_find(struct manager *m, const char *provider, const char *id)
{
    LIST_FOREACH (e, &m->orphan_ends, struct ending, node)
        if (streq(e->provider, provider) && streq(e->id, id))
            return e;
    return NULL;
}

static void ending_free(struct ending *e)
{
    op_cancel(&e->step);
    e->timer = timer_free(e->timer);
    list_remove(&e->node);
    free(e->provider);
    free(e->id);
    free(e);
}

/* Whoever hears of it may go on to anything: the list is theirs alone by then. */
static void waits_end(struct list *waits, const struct fault *f)
{
    while (!list_is_empty(waits))
        wait_end(LIST_FIRST(waits, struct wait, node), f);
}

static void waits_take(struct list *to, struct list *from)
{
    list_init(to);
    LIST_FOREACH_SAFE (w, from, struct wait, node) {
        list_remove(&w->node);
        list_append(to, &w->node);
    }
}

static void ending_end(struct ending *e, const struct fault *f)
{
    struct list waits;
    struct fault why = f ? *f : (struct fault){0};

    waits_take(&waits, &e->waits);
    ending_free(e);
    waits_end(&waits, f ? &why : NULL);
}

static void ending_say(struct ending *e, const char *word)
{
    LIST_FOREACH_SAFE (w, &e->waits, struct wait, node)
        if (w->said && !streq(w->told, word)) {
            snprintf(w->told, sizeof w->told, "%s", word);
            w->said(w->ctx, word);
        }
}

static void ending_look(struct ending *e);

static void ending_on_timer(void *ctx)
{
    ending_look(ctx);
}

/* 0, or why it is nobody's to end from here. */
static int ending_check(const struct ending *e, const struct account *a, const struct instance_seen *seen,
                        struct fault *f)
{
    const struct lease *l = orphans_find_instance(e->manager, seen);

    if (l)
        return fault_code(f, FAULT_INVALID, "is_instance", "%s is the instance %s", seen->id, lease_name(l));
    if (!manager_is_orphan(e->manager, seen))
        return fault_code(
            f, FAULT_INVALID, "not_ours",
            "%s was not rented from here (an llmhostd elsewhere ends its own): it is ended at %s", seen->id,
            account_ops(a)->console_url);
    if (e->release && !account_ops(a)->release)
        return fault_code(f, FAULT_INVALID, "by_hand", "%s is given back by hand, at %s", seen->id,
                          account_ops(a)->console_url);
    if (e->release && seen->power != INSTANCE_OFF)
        return fault_code(f, FAULT_INVALID, "not_off", "%s is not off", seen->id);
    return 0;
}

/* What was asked first was refused for good, or there is nothing more to ask: the list tells how it went. */
static void ending_on_asked(void *ctx, const struct fault *f)
{
    struct ending *e = ctx;
    bool refused = f && e->turn == 1 &&
                   (f->kind == FAULT_DENIED || f->kind == FAULT_INVALID || f->kind == FAULT_EXHAUSTED);

    e->is_answered = e->is_answered || (f ? f->kind == FAULT_GONE : e->release);
    if (refused && !streq(f->code, "already"))
        ending_end(e, f);
    else
        ending_look(e);
}

static void ending_ask(struct ending *e, struct account *a)
{
    const struct rental_ops *ops = account_ops(a);

    if (!e->asked_due) {
        e->asked_due = clock_now_ms();
        e->asked_at_ms = clock_wall_ms();
    }
    if (e->release)
        ops->release(account_rental(a), e->id, &e->step, ending_on_asked, e);
    else
        ops->stop(account_rental(a), e->id, &e->step, ending_on_asked, e);
}

static bool ending_is_late(const struct ending *e)
{
    uint64_t alarm_ms = settings_ms(e->manager->context.settings, "guard", "stop_alarm");

    return e->asked_due && clock_now_ms() - e->said_due >= alarm_ms;
}

/* They are told, and it is asked again for ever. Whoever hears of it may go on to anything: e may be no more.
 * What is deleted slowly bills nothing: nobody is called for that. */
static void ending_alarm(struct ending *e, const char *why)
{
    struct list waits;
    struct fault f;

    if (e->release || e->is_alarmed || !ending_is_late(e))
        return;
    e->is_alarmed = true;
    fault_code(&f, FAULT_TRANSIENT, "stop_not_confirmed", "%s", why);
    event_publish(LOG_LEVEL_ERR, LOG_PROVIDER, e->provider, "stop_not_confirmed", "%s", f.text);
    waits_take(&waits, &e->waits);
    waits_end(&waits, &f);
}

/* Asked again every second time; between these the list has time to tell. */
static void ending_go_on(struct ending *e, struct account *a)
{
    if (e->turn++ % 2 == 0)
        ending_ask(e, a);
    else
        timer_arm(e->timer, ending_is_late(e) ? POLL_MS_MAX : POLL_MS);
}

static void ending_succeed(struct ending *e)
{
    event_publish(LOG_LEVEL_NOTICE, LOG_PROVIDER, e->provider, "orphan_ended", "%s %s", e->id,
                  e->release ? "was given back, with its data" : "is off, and its company says so");
    ending_end(e, NULL);
}

/* Two lists leave it out, and its company took the release or knows no such machine; or it is in none for
 * long. */
static bool ending_is_gone(const struct ending *e)
{
    uint64_t for_ms = clock_now_ms() - e->none_due;

    return e->n_none >= 2 && (e->is_answered || for_ms >= ORPHAN_MISSING_MS);
}

/* It is in no list. That is how a release ends; a stop does not: what is left out is not off. */
static void ending_see_none(struct ending *e, struct account *a)
{
    const char *title = account_ops(a)->title;
    bool is_known = e->asked_due || (!e->release && orphans_have(e->manager, e->provider, e->id));
    _cleanup_free_ char *why = xasprintf("%s does not list %s, and did not say that it is off", title, e->id);
    struct fault f;

    if (e->n_none++ == 0)
        e->none_due = clock_now_ms();
    fault_code(&f, FAULT_GONE, "no_such_machine", "there is no machine %s at %s", e->id, title);
    if (!is_known || (!e->release && ending_is_gone(e))) {
        ending_end(e, &f);
    } else if (ending_is_gone(e)) {
        ending_succeed(e);
    } else {
        ending_go_on(e, a);
        ending_alarm(e, why);
    }
}

static void ending_see(struct ending *e, struct account *a, const struct instance_seen *seen)
{
    _cleanup_free_ char *why =
        xasprintf("%s still says \"%s\" of %s", account_ops(a)->title, seen->word, e->id);
    struct fault f;

    e->n_none = 0;
    if (ending_check(e, a, seen, &f) < 0) {
        ending_end(e, &f);
        return;
    }
    ending_say(e, seen->word);
    if (!e->release && seen->power == INSTANCE_OFF) {
        ending_succeed(e);
        return;
    }
    ending_go_on(e, a);
    ending_alarm(e, why);
}

/* The list could not be read: nothing is known of what was asked, and it is asked again like anything else,
 * unless the token is refused. */
static void ending_see_nothing(struct ending *e, struct account *a, const struct fault *f)
{
    _cleanup_free_ char *why = xasprintf("whether %s is off is not known: %s", e->id, f->text);

    if (!e->asked_due) {
        ending_end(e, f);
        return;
    }
    if (f->kind == FAULT_DENIED)
        timer_arm(e->timer, POLL_MS_MAX);
    else
        ending_go_on(e, a);
    ending_alarm(e, why);
}

static void ending_on_list(void *ctx, const struct instance_seen *seen, unsigned n, const struct fault *f)
{
    struct ending *e = ctx;
    struct account *a = manager_find_account(e->manager, e->provider);
    const struct instance_seen *found = NULL;

    if (f) {
        ending_see_nothing(e, a, f);
        return;
    }
    account_listed(a, seen, n);
    for (unsigned i = 0; i < n; i++)
        if (streq(seen[i].id, e->id))
            found = &seen[i];
    if (found)
        ending_see(e, a, found);
    else
        ending_see_none(e, a);
}

static void ending_look(struct ending *e)
{
    struct account *a = manager_find_account(e->manager, e->provider);

    timer_disarm(e->timer);
    account_ops(a)->list(account_rental(a), &e->step, ending_on_list, e);
}

/* 0, or why it cannot begin; *ret: it is being done already. */
static int ending_find_or_refuse(struct manager *m, const struct orphan_end *w, struct ending **ret,
                                 struct fault *f)
{
    if (!manager_find_account(m, w->provider))
        return fault_code(f, FAULT_INVALID, "no_provider", "there is no account at %.60s", w->provider);
    *ret = ending_find(m, w->provider, w->id);
    if (*ret && (*ret)->release != w->release)
        return fault_code(f, FAULT_INVALID, "not_off", "%s is just being %s", w->id,
                          w->release ? "switched off" : "given back");
    return 0;
}

static struct ending *ending_new(struct manager *m, const struct orphan_end *w)
{
    struct ending *e = xnew(struct ending);

    e->manager = m;
    e->provider = xstrdup(w->provider);
    e->id = xstrdup(w->id);
    e->release = w->release;
    e->said_due = clock_now_ms();
    e->timer = timer_new(m->context.loop, ending_on_timer, e);
    list_init(&e->waits);
    list_init(&e->node);
    list_append(&m->orphan_ends, &e->node);
    ending_look(e);
    return e;
}

/* Somebody says it once more: it is looked at, and asked, at once. */
static void ending_renew(struct ending *e)
{
    e->is_alarmed = false;
    e->said_due = clock_now_ms();
    e->turn += e->turn % 2;
    if (!e->step)
        ending_look(e);
}

void manager_end_orphan(struct manager *m, const struct orphan_end *w, struct op **slot, op_done_fn done,
                        void *ctx)
{
    struct wait *v = xnew(struct wait);
    struct ending *e = NULL;
    struct fault f;

    v->said = w->said;
    v->done = done;
    v->ctx = ctx;
    list_init(&v->node);
    op_begin(&v->op, slot, wait_cancel);
    if (ending_find_or_refuse(m, w, &e, &f) < 0) {
        op_finish_later(m->context.loop, &v->refusal, &f, wait_end, v);
        return;
    }
    if (!e)
        e = ending_new(m, w);
    else if (e->is_alarmed)
        ending_renew(e);
    list_append(&e->waits, &v->node);
}

/* ---- for manager_orphan.c ---- */

int64_t orphan_ends_asked_at_ms(struct manager *m, const char *provider, const char *id)
{
    const struct ending *e = ending_find(m, provider, id);

    return e && !e->release ? e->asked_at_ms : 0;
}

int orphan_ends_refuse_leave(struct manager *m, const char *provider, struct fault *f)
{
    LIST_FOREACH (e, &m->orphan_ends, struct ending, node)
        if (streq(e->provider, provider))
            return fault_code(f, FAULT_INVALID, "has_orphan",
                              "%s was not removed: %s there is just being %s", provider, e->id,
                              e->release ? "given back" : "switched off");
    return 0;
}

void orphan_ends_leave(struct manager *m, const char *provider)
{
    struct fault f;

    fault_code(&f, FAULT_GONE, "no_provider", "the account at %s was removed meanwhile", provider);
    LIST_FOREACH_SAFE (e, &m->orphan_ends, struct ending, node)
        if (streq(e->provider, provider))
            ending_end(e, &f);
}

void orphan_ends_drop(struct manager *m)
{
    while (!list_is_empty(&m->orphan_ends)) {
        struct ending *e = LIST_FIRST(&m->orphan_ends, struct ending, node);

        while (!list_is_empty(&e->waits)) {
            struct wait *w = LIST_FIRST(&e->waits, struct wait, node);

            op_cancel(w->op.slot);
        }
        ending_free(e);
    }
}
