/* The record and the session of one machine. The pinned host key is part of the record. Of one that is rented
 * the session waits until its other half (rented.h) has read the way in. */
#include "lease/lease.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "guard/keeper.h"
#include "lease/boxed.h"
#include "lease/freed.h"
#include "lease/rented.h"
#include "proto/text.h"
#include "provider/known_host.h"
#include "provider/provider.h"
#include "session/host.h"
#include "store/secrets.h"

#define RENTED_USER "root"  /* of every image there is */
#define STOP_FREED  "freed" /* record.stop: never any more, and its guard there is still to be ended */

struct lease {
    struct lease_context context;
    struct instance_record record;
    const struct provider_ops *provider;
    struct session *session;
    struct host *host;
    struct rented *rented;   /* NULL: it is not */
    struct boxed *boxed;     /* NULL: nothing switches it off from inside */
    struct freed *freed;     /* its guard is still to be ended; NULL: there is none */
    struct host_key *pinned; /* NULL: none yet */
    bool stored;
};

static void lease_copy_record(struct lease *l, const struct instance_record *r)
{
    struct host_key pinned = {};

    l->record = *r;
    l->record.name = xstrdup(r->name);
    l->record.provider = xstrdup(r->provider);
    l->record.host = xstrdup(r->host);
    l->record.user = xstrdup(r->user);
    l->record.agent = xstrdup(r->agent);
    l->record.proxy = xstrdup(r->proxy);
    l->record.stop = xstrdup(r->stop);
    l->record.rental = NULL;
    l->record.boxed = NULL;
    l->record.host_key = NULL;
    l->record.n_host_key = 0;
    if (r->n_host_key && host_key_read(&pinned, r->host_key, r->n_host_key) < 0) {
        pinned = (struct host_key){.n = 1}; /* no key at all would let the next one shown be pinned */
        log_err(r->name, "the pinned host key in the database cannot be read; any that is shown is refused "
                         "until it is accepted");
    }
    host_key_keep(&l->pinned, &pinned);
}

/* The record as the database wants it, with the pin. */
static store_ticket lease_write(struct lease *l)
{
    struct instance_record r = l->record;

    r.host_key = l->pinned ? l->pinned->blob : NULL;
    r.n_host_key = l->pinned ? l->pinned->n : 0;
    store_ticket t = store_put_instance(l->context.store, &r);

    return l->rented ? store_put_rental(l->context.store, r.name, rented_record(l->rented)) : t;
}

/* Another machine at its address is not this one. */
static enum boxed_way lease_way(const struct lease *l)
{
    switch (session_state(l->session)) {
    case SESSION_UP: return BOXED_WAY_UP;
    case SESSION_WAITING: return BOXED_WAY_NOBODY;
    case SESSION_REFUSED:
        return streq(session_fault(l->session)->code, "host_key") ? BOXED_WAY_NOBODY : BOXED_WAY_NONE;
    case SESSION_IDLE:
    case SESSION_CONNECTING: break;
    }
    return BOXED_WAY_NONE;
}

static void lease_on_changed(void *ctx, struct session *s)
{
    struct lease *l = ctx;

    if (l->rented)
        rented_on_session(l->rented, session_state(s) == SESSION_UP);
    if (l->boxed)
        boxed_on_session(l->boxed, lease_way(l));
    if (l->freed)
        freed_on_session(l->freed, session_state(s) == SESSION_UP);
    l->context.changed(l->context.ctx, l);
}

static void lease_pin(struct lease *l, const struct host_key *shown)
{
    host_key_keep(&l->pinned, shown);
    l->record.host_key_at_ms = clock_wall_ms();
}

/* The first login of all: the login goes on at once. A crash before the record is on disk pins the next key
 * shown, as a first login does. */
static void lease_on_pin(void *ctx, const struct host_key *shown)
{
    struct lease *l = ctx;

    lease_pin(l, shown);
    if (l->stored)
        lease_write(l);
}

static void lease_target(const struct lease *l, struct session_target *ret)
{
    *ret = (struct session_target){
        .host = l->record.host ? l->record.host : "", /* not known yet: nobody wants the session until then */
        .port = l->record.port,
        .user = l->record.user,
        .pinned = l->pinned,
        .install_key = l->record.install_key,
        .agent = l->record.agent,
        .proxy = l->record.proxy,
    };
}

/* ---- a machine that is rented ---- */

/* Read at each login, so that it is written before one begins. */
static bool lease_put_password(struct lease *l, const char *password)
{
    _cleanup_secret_ char *old = NULL;

    if (secrets_get(l->context.secrets, l->record.name, "password", &old) == 0 && streq(old, password))
        return false;
    int r = secrets_put(l->context.secrets, l->record.name, "password", password);

    if (r < 0)
        log_err(l->record.name, "its password cannot be kept: %s", strerror(-r));
    return true;
}

/* The host key that is pinned, and the address it was at, are those of one that is gone. */
static void lease_on_makes(void *ctx)
{
    struct lease *l = ctx;

    if (!l->pinned)
        return;
    log_notice(l->record.name, "another machine is made: the host key of the one before is forgotten");
    free(TAKE_PTR(l->pinned));
    l->record.host_key_at_ms = 0;
    free(TAKE_PTR(l->record.host));
    l->record.port = 0;
    lease_write(l);
}

/* Another address and password after each power-on; the host key is the machine's and stays pinned. */
static void lease_on_way(void *ctx, const struct instance_way *way)
{
    struct lease *l = ctx;
    struct session_target target;

    if (!way) {
        session_want(l->session, false);
        return;
    }
    bool moved = !l->record.host || !streq(l->record.host, way->host) || l->record.port != way->port;

    if (moved) {
        free(l->record.host);
        l->record.host = xstrdup(way->host);
        l->record.port = way->port;
    }
    if (lease_put_password(l, way->password) || moved) {
        lease_target(l, &target);
        session_renew(l->session, &target);
    }
    session_want(l->session, true);
}

static void lease_on_rented(void *ctx)
{
    struct lease *l = ctx;

    l->context.changed(l->context.ctx, l);
}

static void lease_rent(struct lease *l, const struct rental_record *record)
{
    const struct rented_context context = {
        .loop = l->context.loop,
        .store = l->context.store,
        .settings = l->context.settings,
        .account = l->context.account,
        .name = l->record.name,
        .known_at_ms = l->record.added_at_ms,
        .host = l->host,
        .way = lease_on_way,
        .makes = lease_on_makes,
        .changed = lease_on_rented,
        .ctx = l,
    };

    l->rented = rented_new(&context, record);
    l->record.rental = (struct rental_record *)rented_record(l->rented); /* to be looked at */
}

/* ---- a machine that is switched off from inside ---- */

static void lease_on_freed(void *ctx)
{
    struct lease *l = ctx;

    l->freed = freed_free(l->freed);
    free(TAKE_PTR(l->record.stop));
    lease_write(l);
    l->context.changed(l->context.ctx, l);
}

/* acts_at_ms: of the guard that is left there. */
static void lease_free_guard(struct lease *l, int64_t acts_at_ms)
{
    l->freed = freed_free(l->freed);
    if (!l->record.stop || !streq(l->record.stop, STOP_FREED) || !l->stored || !l->session)
        return;
    const struct freed_context context = {
        .loop = l->context.loop,
        .name = l->record.name,
        .owner = store_daemon_id(l->context.store),
        .host = l->host,
        .acts_at_ms = acts_at_ms,
        .over = lease_on_freed,
        .ctx = l,
    };

    l->freed = freed_new(&context);
    freed_on_session(l->freed, session_state(l->session) == SESSION_UP);
}

/* Nothing is put on a machine that is only tried. record: of a daemon before this one; NULL: nothing is
 * known. */
static void lease_box(struct lease *l, const struct boxed_record *record)
{
    const struct boxed_context context = {
        .loop = l->context.loop,
        .store = l->context.store,
        .settings = l->context.settings,
        .name = l->record.name,
        .host = l->host,
        .changed = lease_on_rented,
        .ctx = l,
    };

    if (!l->record.stop || streq(l->record.stop, STOP_FREED) || !l->stored || !l->session || l->rented)
        l->boxed = boxed_free(l->boxed);
    else if (!l->boxed)
        l->boxed = boxed_new(&context, record);
    if (l->boxed)
        boxed_on_session(l->boxed, lease_way(l));
}

/* Another word about who switches it off. One that was guarded is on its way to "never" until its guard is
 * ended. */
static void lease_take_stop(struct lease *l, const char *stop)
{
    struct boxed_figures n = {};
    bool was = l->record.stop != NULL;

    if (l->boxed)
        boxed_figures(l->boxed, &n);
    else if (l->freed)
        n.acts_at_ms = freed_acts_at_ms(l->freed);
    free(l->record.stop);
    l->record.stop = xstrdup(stop ? stop : was ? STOP_FREED : NULL);
    lease_box(l, NULL);
    lease_free_guard(l, n.acts_at_ms);
}

/* ---- beginning and end ---- */

static void lease_connect(struct lease *l)
{
    static const struct session_events events = {.changed = lease_on_changed, .pin = lease_on_pin};
    struct session_target target;

    if (l->provider->rented && !l->record.user)
        l->record.user = xstrdup(RENTED_USER);
    lease_target(l, &target);
    l->session = session_new(l->context.loop, l->context.resolver, l->context.turns, l->context.secrets,
                             l->record.name, &target, &events, l);
    session_on_trial(l->session, !l->stored);
    l->host = host_ssh_new(l->session);
}

struct lease *lease_new(const struct lease_context *context, const struct instance_record *record,
                        bool stored)
{
    struct lease *l = xnew(struct lease);

    l->context = *context;
    l->stored = stored;
    l->provider = provider_find(record->provider);
    lease_copy_record(l, record);
    if (l->provider->over_ssh)
        lease_connect(l);
    else
        l->host = host_local_new(context->loop);
    if (record->rental && context->account)
        lease_rent(l, record->rental);
    else if (l->session && l->record.host)
        session_want(l->session, true);
    lease_box(l, record->boxed);
    lease_free_guard(l, record->boxed ? record->boxed->acts_at_ms : 0);
    return l;
}

struct lease *lease_free(struct lease *l)
{
    if (!l)
        return NULL;
    l->rented = rented_free(l->rented);
    l->boxed = boxed_free(l->boxed);
    l->freed = freed_free(l->freed);
    l->host = host_free(l->host);
    l->session = session_free(l->session);
    free(l->record.name);
    free(l->record.provider);
    free(l->record.host);
    free(l->record.user);
    free(l->record.agent);
    free(l->record.proxy);
    free(l->record.stop);
    free(l->pinned);
    free(l);
    return NULL;
}

const char *lease_name(const struct lease *l)
{
    return l->record.name;
}

const struct provider_ops *lease_provider(const struct lease *l)
{
    return l->provider;
}

const struct instance_record *lease_record(const struct lease *l)
{
    return &l->record;
}

struct host *lease_host(struct lease *l)
{
    return l->host;
}

struct session *lease_session(struct lease *l)
{
    return l->session;
}

const struct host_key *lease_host_key(const struct lease *l)
{
    return l->pinned;
}

struct rented *lease_rented(const struct lease *l)
{
    return l->rented;
}

bool lease_leaves_guard(const struct lease *l, int64_t *ret_acts_at_ms)
{
    *ret_acts_at_ms = l->freed ? freed_acts_at_ms(l->freed) : 0;
    return l->freed != NULL;
}

void lease_wait_freed(struct lease *l, struct op **slot, op_done_fn done, void *ctx)
{
    if (l->freed)
        freed_wait(l->freed, slot, done, ctx);
    else
        op_finish_later(l->context.loop, slot, NULL, done, ctx);
}

struct boxed *lease_boxed(const struct lease *l)
{
    return l->boxed;
}

static bool has_guard_and_card(const struct rented *r)
{
    return rented_is_guarded(r) && !rented_is_without_card(r);
}

bool lease_is_reachable(const struct lease *l)
{
    return host_is_reachable(l->host) && (!l->rented || has_guard_and_card(l->rented)) &&
           (!l->boxed || boxed_is_guarded(l->boxed));
}

/* One that was not reached yet is only thought to be off, once a try has failed. */
bool lease_needs_hand(const struct lease *l, struct fault *ret)
{
    const struct known_host *where = known_host_find(l->record.host);
    enum boxed_state s = l->boxed ? boxed_state(l->boxed) : BOXED_ON;

    if (s == BOXED_ON || s == BOXED_STOPPING || session_state(l->session) == SESSION_UP ||
        (s == BOXED_UNKNOWN && !session_fault(l->session)->kind))
        return false;
    fault_code(ret, FAULT_GONE, "switched_off",
               "%s %s; %s%s; if its ssh command is another one then: llmhostctl instance set %s 'ssh ...'",
               l->record.name, s == BOXED_OFF ? "is off" : "cannot be reached, and may be off",
               where ? "switch it on at " : "only you can switch it on", where ? where->console_url : "",
               l->record.name);
    return true;
}

/* What waits for a card or for money goes on by itself; the rest is a person's. */
static const struct fault *rented_refusal(const struct rented *r)
{
    static const char *const ends[] = {"boot_failed", "stopped_elsewhere", "vanished"};
    const struct fault *f = rented_trouble(r);
    struct rented_figures n;

    rented_figures(r, &n);
    if (n.goal == LIFE_GOAL_ON && n.state != LIFE_WAITING)
        return NULL;
    if (f->kind == FAULT_DENIED || (f->kind == FAULT_INVALID && n.goal == LIFE_GOAL_ON))
        return f;
    for (size_t i = 0; i < ELEMENTS(ends) && n.goal != LIFE_GOAL_ON; i++)
        if (streq(f->code, ends[i]))
            return f;
    return NULL;
}

const struct fault *lease_refusal(const struct lease *l)
{
    const struct fault *f = l->rented ? rented_refusal(l->rented) : NULL;

    if (l->boxed && !boxed_is_guarded(l->boxed) && keeper_state(boxed_keeper(l->boxed)) == KEEPER_USELESS)
        f = keeper_fault(boxed_keeper(l->boxed));
    if (f || !l->session || session_state(l->session) != SESSION_REFUSED)
        return f;
    return session_fault(l->session);
}

store_ticket lease_keep(struct lease *l)
{
    l->stored = true;
    if (l->session)
        session_on_trial(l->session, false);
    lease_box(l, NULL);
    return lease_write(l);
}

store_ticket lease_set_stop(struct lease *l, const char *stop)
{
    lease_take_stop(l, stop);
    return lease_write(l);
}

store_ticket lease_change(struct lease *l, const struct lease *trial)
{
    struct session_target target;

    free(l->record.host);
    free(l->record.user);
    l->record.host = xstrdup(trial->record.host);
    l->record.user = xstrdup(trial->record.user);
    l->record.port = trial->record.port;
    l->record.install_key = trial->record.install_key;
    free(l->record.agent);
    l->record.agent = xstrdup(trial->record.agent);
    free(l->record.proxy);
    l->record.proxy = xstrdup(trial->record.proxy);
    l->record.host_key_at_ms = trial->record.host_key_at_ms;
    host_key_keep(&l->pinned, trial->pinned);
    lease_take_stop(l, trial->record.stop);
    lease_target(l, &target);

    store_ticket t = lease_write(l);

    session_renew(l->session, &target);
    return t;
}

int lease_accept_host_key(struct lease *l, const char *fingerprint, store_ticket *ret_ticket)
{
    const struct host_key *shown = l->session ? session_shown_key(l->session) : NULL;
    char text[FINGERPRINT_BYTES];

    if (!shown || !shown->n || (l->pinned && host_key_equal(shown, l->pinned)))
        return -ENOENT;
    if (!streq(host_key_fingerprint(shown, text), fingerprint))
        return -EKEYREJECTED;
    log_notice(l->record.name, "host key %s accepted by command", text);
    lease_pin(l, shown);

    struct session_target target;

    lease_target(l, &target);
    *ret_ticket = l->stored ? lease_write(l) : 0;
    session_renew(l->session, &target);
    return 0;
}
