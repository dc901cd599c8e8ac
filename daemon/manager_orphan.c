/* Machines that bear a name we gave, and that no instance here knows: the database was restored from an older
 * copy, or lost a row; or somebody works with a copy of it on another computer. They are taken from the lists
 * that are read for other reasons, shown, and touched by nobody but a person's word (manager_orphan_end.c).
 *
 * One that bills is in the database: the list that is read after a restart may leave it out, and then nothing
 * else would know of it. */
#include "manager_orphan.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/fault.h"
#include "lease/account.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/text.h"

#define KEPT_MS 600000 /* when it was seen is written down so exactly */

struct orphan {
    struct list node; /* in order of their ids */
    char *provider;
    struct instance_seen seen;
    int64_t seen_at_ms;
    bool is_told;         /* that it is on */
    uint64_t missing_due; /* the lists leave it out since then; 0: they do not */
    int64_t missing_at_ms;
    int64_t kept_at_ms; /* seen_at_ms, as it is in the database; 0: it is not */
};

/* ---- whose it is ---- */

/* Whatever account lists it: two may be of one company. */
const struct lease *orphans_find_instance(struct manager *m, const struct instance_seen *seen)
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

    return strncmp(seen->name, daemon, n) == 0 && seen->name[n] == '-' && !orphans_find_instance(m, seen);
}

/* ---- in the database ---- */

static void orphan_write(struct manager *m, struct orphan *o)
{
    const struct orphan_record r = {
        .provider = o->provider,
        .id = o->seen.id,
        .name = o->seen.name,
        .word = o->seen.word,
        .gpu = o->seen.gpu,
        .cards = o->seen.cards,
        .price_milli = o->seen.price_milli,
        .no_card = o->seen.no_card,
        .started_at_ms = o->seen.power == INSTANCE_ON ? o->seen.started_at_ms : 0,
        .seen_at_ms = o->seen_at_ms,
        .missing_at_ms = o->missing_at_ms,
    };

    store_put_orphan(m->context.store, &r);
    o->kept_at_ms = o->seen_at_ms;
}

static void orphan_unwrite(struct manager *m, struct orphan *o)
{
    if (o->kept_at_ms)
        store_remove_orphan(m->context.store, o->provider, o->seen.id);
    o->kept_at_ms = 0;
}

/* What bills, as far as anybody knows; not each time that it is seen. */
static void orphan_keep(struct manager *m, struct orphan *o, bool is_news)
{
    int64_t age_ms = o->seen_at_ms - o->kept_at_ms;

    if (o->seen.power == INSTANCE_OFF)
        orphan_unwrite(m, o);
    else if (is_news || age_ms >= KEPT_MS || age_ms < 0)
        orphan_write(m, o);
}

/* ---- those there are ---- */

static void orphan_free(struct orphan *o)
{
    list_remove(&o->node);
    free(o->provider);
    free(o);
}

/* It is none any more. */
static void orphan_end(struct manager *m, struct orphan *o)
{
    orphan_unwrite(m, o);
    orphan_free(o);
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

bool orphans_have(struct manager *m, const char *provider, const char *id)
{
    return orphan_find(m, provider, id) != NULL;
}

static void copy_text(char *to, size_t n, const char *from)
{
    snprintf(to, n, "%s", from ? from : "");
}

/* Whatever was said of it has been said. */
void orphans_restore(void *ctx, const struct orphan_record *r)
{
    struct manager *m = ctx;
    struct orphan *o;

    if (!manager_find_account(m, r->provider)) {
        store_remove_orphan(m->context.store, r->provider, r->id);
        return;
    }
    o = orphan_new(m, r->provider, r->id);
    o->seen = (struct instance_seen){
        .power = INSTANCE_ON,
        .started_at_ms = r->started_at_ms,
        .cards = r->cards,
        .no_card = r->no_card,
        .price_milli = r->price_milli,
    };
    copy_text(o->seen.id, sizeof o->seen.id, r->id);
    copy_text(o->seen.name, sizeof o->seen.name, r->name);
    copy_text(o->seen.word, sizeof o->seen.word, r->word);
    copy_text(o->seen.gpu, sizeof o->seen.gpu, r->gpu);
    o->seen_at_ms = o->kept_at_ms = r->seen_at_ms;
    o->missing_at_ms = r->missing_at_ms;
    o->is_told = true;
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
static void orphan_see_none(struct manager *m, struct orphan *o, const struct account *a)
{
    char missing[TEXT_SHORT_MAX];

    if (o->seen.power == INSTANCE_OFF) {
        orphan_end(m, o);
    } else if (!o->missing_due) { /* in this daemon's lists */
        o->missing_due = clock_now_ms();
        o->missing_at_ms = o->missing_at_ms ? o->missing_at_ms : clock_wall_ms();
        orphan_keep(m, o, true);
    } else if (clock_now_ms() - o->missing_due >= ORPHAN_MISSING_MS) {
        event_publish(LOG_LEVEL_WARNING, LOG_PROVIDER, o->provider, "orphan_ended",
                      "%s is in no list of %s for %s: it is taken for deleted", o->seen.id,
                      account_ops(a)->title,
                      duration_format(missing, clock_now_ms() - o->missing_due, false));
        orphan_end(m, o);
    }
}

static void orphan_see(struct manager *m, const struct account *a, const struct instance_seen *seen)
{
    struct orphan *o = orphan_find(m, account_name(a), seen->id);
    bool is_news;

    if (!o)
        o = orphan_new(m, account_name(a), seen->id);
    is_news = !o->kept_at_ms || o->missing_at_ms || !streq(o->seen.word, seen->word) ||
              o->seen.price_milli != seen->price_milli;
    o->seen = *seen;
    o->seen_at_ms = clock_wall_ms();
    o->missing_due = 0;
    o->missing_at_ms = 0;
    orphan_keep(m, o, is_news);
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
        if (streq(o->provider, provider) && orphans_find_instance(m, &o->seen))
            orphan_end(m, o);
        else if (streq(o->provider, provider) && !is_listed(o->seen.id, seen, n))
            orphan_see_none(m, o, a);
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

bool orphans_have_name(struct manager *m, const char *provider, const char *name)
{
    LIST_FOREACH (o, &m->orphans, struct orphan, node)
        if (streq(o->provider, provider) && streq(o->seen.name, name) && !orphans_find_instance(m, &o->seen))
            return true;
    return false;
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

bool manager_orphan_at(struct manager *m, unsigned i, struct orphan_view *ret)
{
    LIST_FOREACH (o, &m->orphans, struct orphan, node) {
        const struct account *a = manager_find_account(m, o->provider);

        if (!a || orphans_find_instance(m, &o->seen) || i-- > 0)
            continue;
        *ret = (struct orphan_view){.account = a,
                                    .seen = &o->seen,
                                    .seen_at_ms = o->seen_at_ms,
                                    .missing_at_ms = o->missing_at_ms,
                                    .stop_asked_at_ms =
                                        orphan_ends_asked_at_ms(m, o->provider, o->seen.id)};
        return true;
    }
    return false;
}

/* ---- the end ---- */

int orphans_refuse_leave(struct manager *m, const char *provider, struct fault *f)
{
    const struct orphan *o = orphan_that_bills(m, provider);

    if (orphan_ends_refuse_leave(m, provider, f) < 0)
        return -EINVAL;
    if (o)
        return fault_code(f, FAULT_INVALID, "has_orphan",
                          "%s was not removed: %s bills there, and nothing else could stop it", provider,
                          o->seen.id);
    return 0;
}

void orphans_leave(struct manager *m, const char *provider)
{
    LIST_FOREACH_SAFE (o, &m->orphans, struct orphan, node)
        if (streq(o->provider, provider))
            orphan_end(m, o);
    orphan_ends_leave(m, provider);
}

void orphans_drop(struct manager *m)
{
    LIST_FOREACH_SAFE (o, &m->orphans, struct orphan, node)
        orphan_free(o);
    orphan_ends_drop(m);
}
