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
#define MISSING_MS  600000u /* so long in no list: it is no more */

struct orphan {
    struct list node; /* in order of their ids */
    char *provider;
    struct instance_seen seen;
    int64_t seen_at_ms;
    bool is_told;         /* that it is on */
    uint64_t missing_due; /* the lists leave it out since then; 0: they do not */
    int64_t missing_at_ms;
};

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

/* One that was off, or is an instance now, is none any more. One that billed is not off because a list leaves
 * it out. */
static void orphan_see_none(struct orphan *o, const struct account *a)
{
    char missing[TEXT_SHORT_MAX];

    if (o->seen.power == INSTANCE_OFF) {
        orphan_free(o);
    } else if (!o->missing_due) {
        o->missing_due = clock_now_ms();
        o->missing_at_ms = clock_wall_ms();
    } else if (clock_now_ms() - o->missing_due >= MISSING_MS) {
        event_publish(LOG_LEVEL_WARNING, LOG_PROVIDER, o->provider, "orphan_ended",
                      "%s is in no list of %s for %s: it is taken for deleted", o->seen.id,
                      account_ops(a)->title,
                      duration_format(missing, clock_now_ms() - o->missing_due, false));
        orphan_free(o);
    }
}

static void orphan_see(struct manager *m, const struct account *a, const struct instance_seen *seen)
{
    struct orphan *o = orphan_find(m, account_name(a), seen->id);

    if (!o)
        o = orphan_new(m, account_name(a), seen->id);
    o->seen = *seen;
    o->seen_at_ms = clock_wall_ms();
    o->missing_due = 0;
    o->missing_at_ms = 0;
    orphan_tell(o, a);
}

/* It bills, as far as anybody knows. */
static const struct orphan *orphan_that_bills(struct manager *m, const char *provider)
{
    LIST_FOREACH (o, &m->orphans, struct orphan, node)
        if (streq(o->provider, provider) && o->seen.power != INSTANCE_OFF)
            return o;
    return NULL;
}

void orphans_listed(struct manager *m, struct account *a, const struct instance_seen *seen, unsigned n)
{
    const char *provider = account_name(a);

    LIST_FOREACH_SAFE (o, &m->orphans, struct orphan, node)
        if (streq(o->provider, provider) && find_instance(m, &o->seen))
            orphan_free(o);
        else if (streq(o->provider, provider) && !is_listed(o->seen.id, seen, n))
            orphan_see_none(o, a);
    for (unsigned i = 0; i < n; i++)
        if (manager_is_orphan(m, &seen[i]))
            orphan_see(m, a, &seen[i]);
    if (orphan_that_bills(m, provider))
        account_check_later(a); /* nobody else may read a list, while nothing of ours runs */
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
                                    .missing_at_ms = o->missing_at_ms,
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

    return e->n_none >= 2 && (e->is_answered || for_ms >= MISSING_MS);
}

/* It is in no list. That is how a release ends; a stop does not: what is left out is not off. */
static void ending_see_none(struct ending *e, struct account *a)
{
    const char *title = account_ops(a)->title;
    bool is_known = e->asked_due || (!e->release && orphan_find(e->manager, e->provider, e->id));
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
    *ret = (struct ending *)ending_find(m, w->provider, w->id);
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
        op_finish_later(m->context.loop, &v->refusal, &f, wait_on_refusal, v);
        return;
    }
    if (!e)
        e = ending_new(m, w);
    else if (e->is_alarmed)
        ending_renew(e);
    list_append(&e->waits, &v->node);
}

/* ---- the end ---- */

int orphans_refuse_leave(struct manager *m, const char *provider, struct fault *f)
{
    const struct orphan *o = orphan_that_bills(m, provider);
    const struct ending *e = NULL;

    LIST_FOREACH (x, &m->orphan_ends, struct ending, node)
        if (streq(x->provider, provider))
            e = x;
    if (e)
        return fault_code(f, FAULT_INVALID, "has_orphan", "%s was not removed: %s there is just being %s",
                          provider, e->id, e->release ? "given back" : "switched off");
    if (o)
        return fault_code(f, FAULT_INVALID, "has_orphan",
                          "%s was not removed: %s bills there, and nothing else could stop it", provider,
                          o->seen.id);
    return 0;
}

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
