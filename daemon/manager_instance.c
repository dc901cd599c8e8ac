/* Instances come on trial: the session must have been up once before anything is kept. So does a change of
 * one: it is tried as an instance of its own, of the same name, that nobody else knows of. */
#include "manager_private.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/timer.h"
#include "engine/fit.h"
#include "engine/machine.h"
#include "lease/lease.h"
#include "proto/ssh_proxy.h"
#include "proto/text.h"
#include "provider/known_host.h"
#include "provider/provider.h"
#include "session/session.h"
#include "ssh/key.h"
#include "store/secrets.h"

/* One try to connect: its own deadline is 15 s, a name may take 5 more, and an agent a minute that asks its
 * owner. */
#define TRIAL_MS (85 * 1000)

/* What the machine is may take so long to be told. */
#define LOOK_MS (10 * 1000)

static const char *const secret_kinds[] = {"password", "key", "passphrase"};

struct trial {
    struct op op;
    struct list node;
    struct manager *manager;
    struct lease
        *lease; /* NULL once it is the manager's: found by name then, since it may be removed meanwhile */
    char *name, *notes;
    bool is_change;
    char *accept;     /* a change: the host key that may take the place of the pinned one */
    char *secrets[3]; /* a change: as secret_kinds; not in the files before it went well */
    struct timer *timer;
    struct work judge;
    struct op *looking; /* an addition: what the machine is */
    bool has_looked;
    struct machine_facts facts;
    struct op *kept;
    struct fault refusal; /* of what was asked for: told from the loop */
    manager_added_fn done;
    void (*waits)(void *ctx, const char *text); /* NULL: nobody wants to know, or it was told */
    void *ctx;
};

static void forget_secrets(struct manager *m, const char *name)
{
    for (size_t i = 0; i < ELEMENTS(secret_kinds); i++) {
        int r = secrets_remove(m->context.secrets, name, secret_kinds[i]);

        if (r < 0)
            log_err(name, "its %s is on the disk still: %s", secret_kinds[i], strerror(-r));
    }
}

static void trial_free(struct trial *t)
{
    op_cancel(&t->looking);
    op_cancel(&t->kept);
    runq_drop(&t->judge);
    timer_free(t->timer);
    list_remove(&t->node);
    if (t->lease) {
        lease_free(t->lease);
        if (!t->is_change)
            forget_secrets(t->manager, t->name);
    }
    for (size_t i = 0; i < ELEMENTS(t->secrets); i++)
        secret_free(t->secrets[i]);
    free(t->accept);
    free(t->name);
    free(t->notes);
    free(t);
}

static void trial_cancel(struct op *op)
{
    trial_free(CONTAINER_OF(op, struct trial, op));
}

static void trial_end(struct trial *t, const struct fault *f)
{
    manager_added_fn done = t->done;
    void *ctx = t->ctx;
    struct lease *l = f ? NULL : manager_find_lease(t->manager, t->name);
    _cleanup_free_ char *notes = TAKE_PTR(t->notes);

    op_end(&t->op);
    trial_free(t);
    done(ctx, l, notes, f);
}

void manager_forget_instance(struct manager *m, struct lease *l)
{
    _cleanup_free_ char *name = xstrdup(lease_name(l));

    forwards_drop(m, l);
    manager_drop_deployments(m, l);
    manager_drop_lease(m, l);
    forget_secrets(m, name);
}

/* It is in force. When the disk did not take it yet, the store tries on. */
static void trial_tell_change(struct trial *t, struct lease *l, const struct fault *f)
{
    const struct instance_record *r = lease_record(l);

    event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, t->name, "instance_changed", "leads to %s@%s:%u%s%s", r->user,
                  r->host, r->port, r->proxy ? " through " : "", r->proxy ? ssh_proxy_via(r->proxy) : "");
    if (f)
        log_err(t->name, "the change is not on disk yet: %s", f->text);
    trial_end(t, NULL);
}

/* Nothing is added that cannot be kept. */
static void trial_on_durable(void *ctx, const struct fault *f)
{
    struct trial *t = ctx;
    struct manager *m = t->manager;
    struct lease *l = manager_find_lease(m, t->name);
    struct fault failed;

    if (!l) {
        fault_code(&failed, FAULT_GONE, "gone", "%s was removed meanwhile", t->name);
        trial_end(t, &failed);
    } else if (t->is_change) {
        trial_tell_change(t, l, f);
    } else if (f) {
        failed = *f;
        manager_forget_instance(m, l);
        store_remove_instance(m->context.store, t->name);
        trial_end(t, &failed);
    } else {
        event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, t->name, "instance_added", "added (%s)",
                      lease_provider(l)->name);
        trial_end(t, NULL);
    }
}

static void trial_keep(struct trial *t)
{
    struct manager *m = t->manager;
    struct lease *l = TAKE_PTR(t->lease);

    timer_disarm(t->timer);
    manager_insert_lease(m, l);
    store_after(m->context.store, lease_keep(l), &t->kept, trial_on_durable, t);
    manager_tell_lease(m, l, false);
}

static int put_texts(struct manager *m, const char *name, const char *const *texts, struct fault *f)
{
    for (size_t i = 0; i < ELEMENTS(secret_kinds); i++) {
        int r = texts[i] ? secrets_put(m->context.secrets, name, secret_kinds[i], texts[i]) : 0;

        if (r == -E2BIG)
            return fault_code(f, FAULT_INVALID, "bad_command", "the %s is longer than %u kB: it is none",
                              secret_kinds[i], SECRET_BYTES_MAX / 1000);
        if (r < 0)
            return fault_code(f, FAULT_EXHAUSTED,
                              r == -ENOSPC || r == -EDQUOT ? "store_full" : "store_read_only",
                              "the %s cannot be kept in %s: %s", secret_kinds[i],
                              secrets_path(m->context.secrets), strerror(-r));
    }
    return 0;
}

static void trial_change(struct trial *t)
{
    struct manager *m = t->manager;
    struct lease *l = manager_find_lease(m, t->name);
    struct fault f;

    timer_disarm(t->timer);
    if (!l || removals_have(m, t->name)) {
        fault_code(&f, FAULT_GONE, "gone", "%s was removed meanwhile", t->name);
        trial_end(t, &f);
        return;
    }
    if (put_texts(m, t->name, (const char *const *)t->secrets, &f) < 0) {
        trial_end(t, &f);
        return;
    }
    store_after(m->context.store, lease_change(l, t->lease), &t->kept, trial_on_durable, t);
    t->lease = lease_free(t->lease);
    manager_look_at_lease(m, l);
}

/* What the machine is not good for is said at once, not by the first up. It is added all the same: a driver
 * or an sshd can be changed, and a forward may be all that is wanted. */
static void trial_note(struct trial *t, const char *text)
{
    char *before = t->notes;

    t->notes = xasprintf("%s%s%s", before ? before : "", before && *before ? "\n" : "", text);
    free(before);
}

static void trial_note_machine(struct trial *t)
{
    const struct machine_facts *m = &t->facts;
    struct fault f;

    if (m->forbids_forwards) {
        _cleanup_free_ char *text = xasprintf(MACHINE_FORBIDS, t->name);

        trial_note(t, text);
    }
    if (!m->has_answered && m->silence.kind == FAULT_INVALID)
        trial_note(t, m->silence.text);
    if (m->gpu.trouble) {
        _cleanup_free_ char *text = xasprintf("the card of %s cannot be used: %s", t->name, m->gpu.trouble);

        trial_note(t, text);
    }
    if (fit_judge(&m->gpu, "ollama", NULL, t->name, &f) < 0)
        trial_note(t, f.text);
}

static void trial_on_looked(void *ctx)
{
    struct trial *t = ctx;

    t->has_looked = true;
    trial_note_machine(t);
    runq_add(t->manager->context.loop, &t->judge);
}

/* Another host key than the pinned one, and it is the one that was named. */
static bool trial_accepts(struct trial *t)
{
    store_ticket none;

    return t->accept && lease_accept_host_key(t->lease, t->accept, &none) == 0;
}

/* Once; whoever hears it may end the trial. */
static void trial_tell_wait(struct trial *t, const char *text)
{
    void (*waits)(void *, const char *) = t->waits;

    t->waits = NULL;
    if (waits)
        waits(t->ctx, text);
}

static void trial_judge(void *ctx)
{
    struct trial *t = ctx;
    struct session *s = t->lease ? lease_session(t->lease) : NULL;

    if (t->refusal.kind) {
        struct fault f = t->refusal;

        trial_end(t, &f);
        return;
    }
    if (!t->lease)
        return;
    if (t->is_change && session_state(s) == SESSION_UP) {
        trial_change(t);
    } else if (s && session_state(s) == SESSION_UP && !t->has_looked) {
        if (!t->looking) {
            timer_arm(t->timer, LOOK_MS);
            machine_look(lease_host(t->lease), NULL, 0, &t->facts, &t->looking, trial_on_looked, t);
        }
    } else if (!s || session_state(s) == SESSION_UP) {
        trial_keep(t);
    } else if (session_state(s) == SESSION_REFUSED && trial_accepts(t)) {
        return; /* once more, with that pin */
    } else if (session_state(s) == SESSION_CONNECTING && streq(session_fault(s)->code, SESSION_AGENT_WAITS)) {
        trial_tell_wait(t, session_fault(s)->text);
    } else if (session_state(s) == SESSION_WAITING || session_state(s) == SESSION_REFUSED) {
        struct fault f = *session_fault(s);

        trial_end(t, &f);
    }
}

static void trial_on_timer(void *ctx)
{
    struct trial *t = ctx;
    struct fault f;

    if (t->looking) { /* it is there, and slow */
        op_cancel(&t->looking);
        t->has_looked = true;
        runq_add(t->manager->context.loop, &t->judge);
        return;
    }
    fault_code(&f, FAULT_TRANSIENT, "unreachable", "no answer in %u s", TRIAL_MS / 1000);
    trial_end(ctx, &f);
}

void trials_lease_changed(struct manager *m, struct lease *l)
{
    LIST_FOREACH (t, &m->trials, struct trial, node)
        if (t->lease == l)
            runq_add(m->context.loop, &t->judge);
}

bool trials_have(struct manager *m, const char *name)
{
    LIST_FOREACH (t, &m->trials, struct trial, node)
        if (streq(t->name, name))
            return true;
    return false;
}

void trials_drop(struct manager *m)
{
    while (!list_is_empty(&m->trials)) {
        struct trial *t = LIST_FIRST(&m->trials, struct trial, node);
        struct fault f;

        fault_code(&f, FAULT_GONE, "shutting_down", "the daemon is ending");
        trial_end(t, &f);
    }
}

/* ---- judging what was asked for ---- */

static int check_agent(const struct manager *m, const struct manager_new_instance *w, struct fault *f)
{
    if (!w->agent || !*w->agent)
        return 0;
    if (m->context.is_system)
        return fault_code(
            f, FAULT_INVALID, "bad_command",
            "llmhostd runs as a service of this machine, and an ssh-agent belongs to a person's session: run "
            "it as your own service (systemctl --user), or give a key (-i) or a password");
    if (*w->agent == '/' && strlen(w->agent) < sizeof(((struct sockaddr_un *)0)->sun_path))
        return 0;
    return fault_code(f, FAULT_INVALID, "bad_command", "\"%.120s\" is no path of an ssh-agent's socket",
                      w->agent);
}

static int check_key(const struct manager_new_instance *w, struct fault *f)
{
    const char *why = NULL;
    int r = w->key ? key_check(w->key, &why) : 0;

    if (r == -ENOKEY && !w->passphrase)
        return fault_code(f, FAULT_DENIED, "passphrase_needed",
                          "the key file is encrypted and needs its passphrase");
    if (r < 0 && r != -ENOKEY)
        return fault_code(f, FAULT_INVALID, "bad_key", "the key file cannot be used: it is %s", why);
    return 0;
}

static const char *provider_list(struct buf *out)
{
    for (unsigned i = 0; provider_name_at(i); i++)
        buf_addf(out, "%s%s", i ? ", " : "", provider_name_at(i));
    return buf_text(out);
}

static int refuse_provider(const char *name, struct fault *f)
{
    struct buf names;

    buf_init(&names, 1024);
    int r = fault_code(f, FAULT_INVALID, "unknown_provider", "no provider \"%.60s\"; there are: %s", name,
                       provider_list(&names));

    buf_done(&names);
    return r;
}

/* ret->stop is borrowed from nobody: a word of ours. */
static int read_stop(const struct provider_ops *provider, const char *stop, struct instance_record *ret,
                     struct fault *f)
{
    const struct known_host *where = known_host_find(ret->host);

    if (!stop)
        return 0;
    ret->stop = streq(stop, "shutdown") ? (char *)"shutdown" : NULL;
    if (!ret->stop && !streq(stop, "never"))
        return fault_code(f, FAULT_INVALID, "bad_stop", "--stop can be shutdown or never");
    if (ret->stop && (!provider->over_ssh || provider->rented))
        return fault_code(f, FAULT_INVALID, "bad_stop", "%s is not switched off from inside",
                          provider->rented ? "a rented machine has its provider for that: it"
                                           : "this very host");
    if (ret->stop && where && !where->shutdown_ends_bill)
        return fault_code(
            f, FAULT_INVALID, "stop_ends_no_bill",
            "%s bills a machine also after a shutdown inside of it, until it is stopped in its console",
            where->title);
    return 0;
}

/* What such a machine costs goes on, and nothing here ends it: that is said once. */
static void note_no_stop(const struct instance_record *r, struct buf *notes)
{
    const struct known_host *where = known_host_find(r->host);

    if (where && !where->shutdown_ends_bill)
        buf_addf(notes,
                 "nothing here ends its bill: %s bills it also after a shutdown inside; stop it in its "
                 "console: %s\n",
                 where->title, where->console_url);
}

bool instances_have(struct manager *m, const char *name)
{
    return manager_find_lease(m, name) || trials_have(m, name) || adoptions_have(m, name) ||
           removals_have(m, name);
}

int instances_refuse_name(struct manager *m, const char *name, struct fault *f)
{
    if (!name_is_instance(name))
        return fault_code(f, FAULT_INVALID, "bad_name",
                          "\"%.60s\" cannot name an instance: use 1 to 40 of a-z 0-9 -", name);
    if (aliases_refuse_instance(m, name, f) < 0)
        return -EINVAL;
    if (instances_have(m, name))
        return fault_code(f, FAULT_INVALID, "exists", "there is an instance %s already", name);
    return 0;
}

static int read_wish(struct manager *m, const struct manager_new_instance *w, struct instance_record *ret,
                     struct buf *notes, struct fault *f)
{
    const char *provider_name = w->provider ? w->provider : "ssh";
    const struct provider_ops *provider = provider_find(provider_name);
    const struct provider_wish wish = {
        .command = w->command,
        .host = w->host,
        .user = w->user,
        .port = w->port,
        .jump = w->jump,
        .proxy_command = w->proxy_command,
    };
    _cleanup_free_ char *why = NULL;

    if (instances_refuse_name(m, w->name, f) < 0)
        return -EINVAL;
    if (!provider)
        return refuse_provider(provider_name, f);
    ret->name = (char *)w->name;
    ret->provider = (char *)provider->name;
    ret->install_key = w->install_key;
    ret->agent = w->agent && *w->agent ? (char *)w->agent : NULL;
    ret->added_at_ms = clock_wall_ms();
    if (provider->read_wish(&wish, ret, notes, &why) < 0)
        return fault_code(f, FAULT_INVALID, "bad_command", "%s", why);
    note_no_stop(ret, notes);
    if (read_stop(provider, w->stop, ret, f) < 0)
        return -EINVAL;
    return check_agent(m, w, f) < 0 ? -EINVAL : check_key(w, f);
}

static int put_secrets(struct manager *m, const struct manager_new_instance *w, struct fault *f)
{
    const char *const texts[] = {w->password, w->key, w->passphrase};
    int r = put_texts(m, w->name, texts, f);

    if (r < 0)
        forget_secrets(m, w->name);
    return r;
}

static struct trial *trial_new(struct manager *m, const char *name, struct op **slot, manager_added_fn done,
                               void *ctx)
{
    struct trial *t = xnew(struct trial);

    t->manager = m;
    t->name = xstrdup(name);
    t->done = done;
    t->ctx = ctx;
    t->timer = timer_new(m->context.loop, trial_on_timer, t);
    work_init(&t->judge, trial_judge, t);
    op_begin(&t->op, slot, trial_cancel);
    list_init(&t->node);
    return t;
}

/* good: it was not refused. Takes the texts of the record, and the notes. */
static void trial_begin(struct trial *t, struct instance_record *record, bool good, struct buf *notes)
{
    struct manager *m = t->manager;

    list_append(&m->trials, &t->node);
    t->notes = xstrdup(buf_text(notes));
    buf_done(notes);
    if (good) {
        t->lease = manager_make_lease(m, record, false);
        timer_arm(t->timer, TRIAL_MS);
    }
    runq_add(m->context.loop, &t->judge); /* a refusal, or this very host, is there already */
    free(record->host);
    free(record->user);
    free(record->proxy);
}

void manager_add_instance(struct manager *m, const struct manager_new_instance *w, struct op **slot,
                          manager_added_fn done, void *ctx)
{
    struct trial *t = trial_new(m, w->name, slot, done, ctx);
    struct instance_record record = {};
    struct buf notes;

    buf_init(&notes, 16 * 1024);
    t->waits = w->waits;

    bool good = read_wish(m, w, &record, &notes, &t->refusal) == 0 && put_secrets(m, w, &t->refusal) == 0;

    trial_begin(t, &record, good, &notes);
}

/* ---- changing ---- */

/* The record as it would be. What a pasted command does not say it leaves to us, but for the port: ssh's own
 * is meant then. */
static int read_change(struct manager *m, const struct manager_new_instance *w, struct instance_record *ret,
                       struct buf *notes, struct fault *f)
{
    struct lease *l = manager_find_lease(m, w->name);
    const struct host_key *pinned = l ? lease_host_key(l) : NULL;
    _cleanup_free_ char *why = NULL;

    if (!l || removals_have(m, w->name))
        return fault_code(f, FAULT_GONE, "not_found", "there is no instance \"%.60s\"", w->name);
    if (!lease_session(l))
        return fault_code(f, FAULT_INVALID, "no_address", "it is this very host, which has no address");
    if (lease_rented(l))
        return fault_code(f, FAULT_INVALID, "no_address", "it is rented: its provider says where it is");
    if (trials_have(m, w->name))
        return fault_code(f, FAULT_INVALID, "in_trial", "another change of it is being tried");

    const struct instance_record *old = lease_record(l);
    const struct provider_wish wish = {
        .command = w->command,
        .host = w->host || w->command ? w->host : old->host,
        .user = w->user || w->command ? w->user : old->user,
        .port = w->port || w->command ? w->port : old->port,
        .proxy = old->proxy,
        .jump = w->jump,
        .proxy_command = w->proxy_command,
    };

    *ret = *old;
    ret->host = ret->user = ret->proxy = NULL;
    ret->install_key = w->install_key;
    if (w->agent)
        ret->agent = *w->agent ? (char *)w->agent : NULL;
    ret->host_key = pinned ? (uint8_t *)pinned->blob : NULL;
    ret->n_host_key = pinned ? pinned->n : 0;
    if (lease_provider(l)->read_wish(&wish, ret, notes, &why) < 0)
        return fault_code(f, FAULT_INVALID, "bad_command", "%s", why);
    if (read_stop(lease_provider(l), w->stop, ret, f) < 0)
        return -EINVAL;
    return check_agent(m, w, f) < 0 ? -EINVAL : check_key(w, f);
}

int manager_set_stop(struct manager *m, struct lease *l, const char *stop, uint64_t *ret_ticket,
                     struct fault *f)
{
    struct instance_record record = *lease_record(l);

    if (read_stop(lease_provider(l), stop, &record, f) < 0)
        return -EINVAL;
    *ret_ticket = lease_set_stop(l, record.stop);
    event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, lease_name(l), "instance_changed", "%s",
                  record.stop ? "is switched off from inside when nobody uses it"
                              : "is not switched off any more");
    manager_look_at_lease(m, l);
    return 0;
}

void manager_change_instance(struct manager *m, const struct manager_new_instance *w, struct op **slot,
                             manager_added_fn done, void *ctx)
{
    struct trial *t = trial_new(m, w->name, slot, done, ctx);
    const char *const texts[] = {w->password, w->key, w->passphrase};
    struct instance_record record = {};
    struct buf notes;

    buf_init(&notes, 16 * 1024);
    t->waits = w->waits;
    t->is_change = true;
    t->accept = w->accept_new_host_key ? xstrdup(w->accept_new_host_key) : NULL;
    for (size_t i = 0; i < ELEMENTS(texts); i++)
        t->secrets[i] = texts[i] ? xstrdup(texts[i]) : NULL;
    trial_begin(t, &record, read_change(m, w, &record, &notes, &t->refusal) == 0, &notes);
    if (t->lease)
        session_use_secrets(lease_session(t->lease),
                            &(struct session_secrets){t->secrets[0], t->secrets[1], t->secrets[2]});
}
