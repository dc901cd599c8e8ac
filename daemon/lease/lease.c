/* The record and the session of one machine. The pinned host key is part of the record. */
#include "lease/lease.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "provider/provider.h"
#include "session/host.h"

struct lease {
    struct lease_context context;
    struct instance_record record;
    const struct provider_ops *provider;
    struct session *session;
    struct host *host;
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
    return store_put_instance(l->context.store, &r);
}

static void lease_on_changed(void *ctx, struct session *s)
{
    struct lease *l = ctx;

    (void)s;
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
        .host = l->record.host,
        .port = l->record.port,
        .user = l->record.user,
        .pinned = l->pinned,
        .install_key = l->record.install_key,
        .agent = l->record.agent,
        .proxy = l->record.proxy,
    };
}

struct lease *lease_new(const struct lease_context *context, const struct instance_record *record,
                        bool stored)
{
    static const struct session_events events = {.changed = lease_on_changed, .pin = lease_on_pin};
    struct lease *l = xnew(struct lease);

    l->context = *context;
    l->stored = stored;
    l->provider = provider_find(record->provider);
    lease_copy_record(l, record);
    if (l->provider->over_ssh) {
        struct session_target target;

        lease_target(l, &target);
        l->session = session_new(context->loop, context->resolver, context->turns, context->secrets,
                                 l->record.name, &target, &events, l);
        session_on_trial(l->session, !stored);
        l->host = host_ssh_new(l->session);
        session_want(l->session, true);
    } else {
        l->host = host_local_new(context->loop);
    }
    return l;
}

struct lease *lease_free(struct lease *l)
{
    if (!l)
        return NULL;
    l->host = host_free(l->host);
    l->session = session_free(l->session);
    free(l->record.name);
    free(l->record.provider);
    free(l->record.host);
    free(l->record.user);
    free(l->record.agent);
    free(l->record.proxy);
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

bool lease_is_reachable(const struct lease *l)
{
    return host_is_reachable(l->host);
}

const struct fault *lease_refusal(const struct lease *l)
{
    if (!l->session || session_state(l->session) != SESSION_REFUSED)
        return NULL;
    return session_fault(l->session);
}

store_ticket lease_keep(struct lease *l)
{
    l->stored = true;
    if (l->session)
        session_on_trial(l->session, false);
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
