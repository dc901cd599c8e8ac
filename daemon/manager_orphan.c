/* Machines that bear a name we gave, and that no instance here knows: the database was restored from an older
 * copy, or lost a row; or somebody works with a copy of it on another computer. They are taken from the lists
 * that are read for other reasons, shown, and touched by nobody but a person's word. That word is kept in
 * memory alone: after a restart the machine is shown as before, and the word can be said again. */
#include "manager_private.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/fault.h"
#include "base/settings.h"
#include "base/timer.h"
#include "lease/account.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/text.h"

#define POLL_MS     5000u
#define POLL_MS_MAX 60000u

struct orphan {
    struct list node; /* in order of their ids */
    char *provider;
    struct instance_seen seen;
    int64_t seen_at_ms;
    bool is_told; /* that it is on */
};

/* One that a person wants ended. */
struct ending {
    struct list node;
    struct manager *manager;
    char *provider, *id;
    bool release;
    uint64_t asked_due; /* first; 0: not yet */
    int64_t asked_at_ms;
    unsigned turn, n_none;
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

/* ---- whose it is ---- */

/* Whatever account lists it: two may be of one company. */
static const struct lease *find_instance(struct manager *m, const struct instance_seen *seen)
{
    LIST_FOREACH (l, &m->leases, struct managed_lease, node)
        if (lease_rented(l->lease) && life_has(rented_life(lease_rented(l->lease)), seen))
            return l->lease;
    return NULL;
}

/* "0a1b2c3d-4090d-1" begins with the id of the daemon that gave it. */
bool manager_is_orphan(struct manager *m, const struct instance_seen *seen)
{
    const char *daemon = store_daemon_id(m->context.store);
    size_t n = strlen(daemon);

    return strncmp(seen->name, daemon, n) == 0 && seen->name[n] == '-' && !find_instance(m, seen);
}

/* ---- those there are ---- */

static void orphan_free(struct orphan *o)
{
    list_remove(&o->node);
    free(o->provider);
    free(o);
}

static struct orphan *orphan_find(struct manager *m, const char *provider, const char *id)
{
    LIST_FOREACH (o, &m->orphans, struct orphan, node)
        if (streq(o->provider, provider) && streq(o->seen.id, id))
            return o;
    return NULL;
}

static struct orphan *orphan_new(struct manager *m, const char *provider, const char *id)
{
    struct orphan *o = xnew(struct orphan);
    struct list *before = &m->orphans;

    o->provider = xstrdup(provider);
    list_init(&o->node);
    LIST_FOREACH (other, &m->orphans, struct orphan, node)
        if (strcmp(other->seen.id, id) > 0) {
            before = &other->node;
            break;
        }
    list_append(before, &o->node);
    return o;
}

static bool is_listed(const char *id, const struct instance_seen *seen, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (streq(seen[i].id, id))
            return true;
    return false;
}

/* Once for each time that it is found on: what bills and nobody knows of. */
static void orphan_tell(struct orphan *o, const struct account *a)
{
    bool off = o->seen.power == INSTANCE_OFF;

    if (!off && !o->is_told)
        event_publish(LOG_LEVEL_ERR, LOG_PROVIDER, o->provider, "orphan",
                      "%s (%s) is %s at %s and bills, and no instance here knows it", o->seen.id,
                      o->seen.name, o->seen.word, account_ops(a)->title);
    o->is_told = !off;
}

void orphans_listed(struct manager *m, const struct account *a, const struct instance_seen *seen, unsigned n)
{
    const char *provider = account_name(a);

    LIST_FOREACH_SAFE (o, &m->orphans, struct orphan, node)
        if (streq(o->provider, provider) && (!is_listed(o->seen.id, seen, n) || find_instance(m, &o->seen)))
            orphan_free(o);
    for (unsigned i = 0; i < n; i++) {
        if (!manager_is_orphan(m, &seen[i]))
            continue;
        struct orphan *o = orphan_find(m, provider, seen[i].id);

        if (!o)
            o = orphan_new(m, provider, seen[i].id);
        o->seen = seen[i];
        o->seen_at_ms = clock_wall_ms();
        orphan_tell(o, a);
    }
}

/* The name is "DAEMON-NAME-NUMBER". */
static bool bears(const struct orphan *o, const char *daemon, const char *name)
{
    _cleanup_free_ char *prefix = xasprintf("%s-%s-", daemon, name);
    size_t n = strlen(prefix), digits;

    if (strncmp(o->seen.name, prefix, n) != 0)
        return false;
    digits = strspn(o->seen.name + n, "0123456789");
    return digits && !o->seen.name[n + digits];
}

int orphans_refuse_name(struct manager *m, const char *name, struct fault *f)
{
    LIST_FOREACH (o, &m->orphans, struct orphan, node)
        if (bears(o, store_daemon_id(m->context.store), name))
            return fault_code(f, FAULT_INVALID, "is_orphan",
                              "%s is the name of %s, which no instance here knows: end that one first", name,
                              o->seen.id);
    return 0;
}

static const struct ending *ending_find(struct manager *m, const char *provider, const char *id)
{
    LIST_FOREACH (e, &m->orphan_ends, struct ending, node)
        if (streq(e->provider, provider) && streq(e->id, id))
            return e;
    return NULL;
}

bool manager_orphan_at(struct manager *m, unsigned i, struct orphan_view *ret)
{
    LIST_FOREACH (o, &m->orphans, struct orphan, node) {
        const struct account *a = manager_find_account(m, o->provider);
        const struct ending *e = ending_find(m, o->provider, o->seen.id);

        if (!a || find_instance(m, &o->seen) || i-- > 0)
            continue;
        *ret = (struct orphan_view){.account = a,
                                    .seen = &o->seen,
                                    .seen_at_ms = o->seen_at_ms,
                                    .stop_asked_at_ms = e && !e->release ? e->asked_at_ms : 0};
        return true;
    }
    return false;
}

/* ---- ending one ---- */

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

static void wait_end(struct wait *w, const struct fault *f)
{
    op_done_fn done = w->done;
    void *ctx = w->ctx;

    op_end(&w->op);
    wait_free(w);
    done(ctx, f);
}

static void wait_on_refusal(void *ctx, const struct fault *f)
{
    struct fault refusal = *f;

    wait_end(ctx, &refusal);
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
    const struct lease *l = find_instance(e->manager, seen);

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

/* What was asked was refused for good, or there is nothing more to ask: the list tells how it went. */
static void ending_on_asked(void *ctx, const struct fault *f)
{
    struct ending *e = ctx;
    bool refused = f && (f->kind == FAULT_DENIED || f->kind == FAULT_INVALID || f->kind == FAULT_EXHAUSTED);

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

/* They are told, and it is asked again for ever. */
static void ending_alarm(struct ending *e, const struct account *a, const struct instance_seen *seen)
{
    struct list waits;
    struct fault f;
    uint64_t alarm_ms = settings_ms(e->manager->context.settings, "guard", "stop_alarm");

    if (e->is_alarmed || !e->asked_due || clock_now_ms() - e->asked_due < alarm_ms)
        return;
    e->is_alarmed = true;
    fault_code(&f, FAULT_TRANSIENT, "stop_not_confirmed", "%s still says \"%s\" of %s", account_ops(a)->title,
               seen->word, e->id);
    event_publish(LOG_LEVEL_ERR, LOG_PROVIDER, e->provider, "stop_not_confirmed", "%s", f.text);
    waits_take(&waits, &e->waits);
    waits_end(&waits, &f);
}

static void ending_is_over(struct ending *e)
{
    event_publish(LOG_LEVEL_NOTICE, LOG_PROVIDER, e->provider, "orphan_ended", "%s %s", e->id,
                  e->release ? "was given back, with its data" : "is off, and its company says so");
    ending_end(e, NULL);
}

/* It is not in the list: once may be an oversight. */
static void ending_see_none(struct ending *e, const struct account *a)
{
    struct fault f;

    if (!e->asked_due) {
        fault_code(&f, FAULT_GONE, "no_such_machine", "there is no machine %s at %s", e->id,
                   account_ops(a)->title);
        ending_end(e, &f);
    } else if (++e->n_none >= 2) {
        ending_is_over(e);
    } else {
        timer_arm(e->timer, POLL_MS);
    }
}

static void ending_see(struct ending *e, struct account *a, const struct instance_seen *seen)
{
    struct fault f;

    e->n_none = 0;
    if (ending_check(e, a, seen, &f) < 0) {
        ending_end(e, &f);
        return;
    }
    ending_say(e, seen->word);
    if (!e->release && seen->power == INSTANCE_OFF) {
        ending_is_over(e);
        return;
    }
    ending_alarm(e, a, seen);
    if (e->turn++ % 2 == 0)
        ending_ask(e, a);
    else
        timer_arm(e->timer, e->is_alarmed ? POLL_MS_MAX : POLL_MS);
}

static void ending_on_list(void *ctx, const struct instance_seen *seen, unsigned n, const struct fault *f)
{
    struct ending *e = ctx;
    struct account *a = manager_find_account(e->manager, e->provider);
    const struct instance_seen *found = NULL;

    if (f && !e->asked_due) {
        ending_end(e, f);
        return;
    }
    if (f) {
        timer_arm(e->timer, POLL_MS_MAX);
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

    account_ops(a)->list(account_rental(a), &e->step, ending_on_list, e);
}

/* 0, or why it cannot begin; *ret: it is being done already. */
static int ending_find_or_refuse(struct manager *m, const struct orphan_end *w, struct ending **ret,
                                 struct fault *f)
{
    if (!manager_find_account(m, w->provider))
        return fault_code(f, FAULT_INVALID, "no_provider", "there is no account at %.60s", w->provider);
    *ret = (struct ending *)ending_find(m, w->provider, w->id);
    if (*ret && (*ret)->release != w->release)
        return fault_code(f, FAULT_INVALID, "not_off", "%s is just being %s", w->id,
                          w->release ? "switched off" : "given back");
    return 0;
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
        op_finish_later(m->context.loop, &v->refusal, &f, wait_on_refusal, v);
        return;
    }
    if (!e) {
        e = xnew(struct ending);
        e->manager = m;
        e->provider = xstrdup(w->provider);
        e->id = xstrdup(w->id);
        e->release = w->release;
        e->timer = timer_new(m->context.loop, ending_on_timer, e);
        list_init(&e->waits);
        list_init(&e->node);
        list_append(&m->orphan_ends, &e->node);
        ending_look(e);
    }
    e->is_alarmed = false;
    list_append(&e->waits, &v->node);
}

/* ---- the end ---- */

void orphans_leave(struct manager *m, const char *provider)
{
    struct fault f;

    LIST_FOREACH_SAFE (o, &m->orphans, struct orphan, node)
        if (streq(o->provider, provider))
            orphan_free(o);
    fault_code(&f, FAULT_GONE, "no_provider", "the account at %s was removed meanwhile", provider);
    LIST_FOREACH_SAFE (e, &m->orphan_ends, struct ending, node)
        if (streq(e->provider, provider))
            ending_end(e, &f);
}

void orphans_drop(struct manager *m)
{
    LIST_FOREACH_SAFE (o, &m->orphans, struct orphan, node)
        orphan_free(o);
    while (!list_is_empty(&m->orphan_ends)) {
        struct ending *e = LIST_FIRST(&m->orphan_ends, struct ending, node);

        while (!list_is_empty(&e->waits)) {
            struct wait *w = LIST_FIRST(&e->waits, struct wait, node);

            op_cancel(w->op.slot);
        }
        ending_free(e);
    }
}
