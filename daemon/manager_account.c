/* Accounts at those who rent machines out: restored, put there with a token that was tried, removed. */
#include "manager_private.h"

#include <errno.h>

#include "base/clock.h"
#include "base/event.h"
#include "lease/account.h"
#include "lease/lease.h"
#include "proto/text.h"
#include "provider/rental.h"
#include "store/secrets.h"

#define LEDGER_MS ((int64_t)62 * 24 * 3600 * 1000) /* this month and the one before are in memory */

struct managed_account {
    struct list node;
    struct account *account;
};

/* ---- accounts ---- */

struct account *manager_account_at(struct manager *m, unsigned i)
{
    LIST_FOREACH (a, &m->accounts, struct managed_account, node)
        if (i-- == 0)
            return a->account;
    return NULL;
}

struct account *manager_find_account(struct manager *m, const char *provider)
{
    LIST_FOREACH (a, &m->accounts, struct managed_account, node)
        if (streq(account_name(a->account), provider))
            return a->account;
    return NULL;
}

static void on_account_changed(void *ctx, struct account *a)
{
    powers_account_changed(ctx, a);
}

static void on_account_listed(void *ctx, struct account *a, const struct instance_seen *seen, unsigned n)
{
    orphans_listed(ctx, a, seen, n);
}

static bool is_orphan(void *ctx, const struct account *a, const char *name)
{
    return orphans_have_name(ctx, account_name(a), name);
}

static struct account *make_account(struct manager *m, const struct account_record *r)
{
    const struct account_context context = {
        .loop = m->context.loop,
        .store = m->context.store,
        .secrets = m->context.secrets,
        .http = m->context.http,
        .resolver = m->context.resolver,
        .changed = on_account_changed,
        .listed = on_account_listed,
        .is_orphan = is_orphan,
        .ctx = m,
    };

    return account_new(&context, r);
}

static void insert_account(struct manager *m, struct account *account)
{
    struct managed_account *n = xnew(struct managed_account);
    struct list *before = &m->accounts;

    n->account = account;
    list_init(&n->node);
    LIST_FOREACH (a, &m->accounts, struct managed_account, node)
        if (strcmp(account_name(a->account), account_name(account)) > 0) {
            before = &a->node;
            break;
        }
    list_append(before, &n->node);
}

static void drop_account(struct managed_account *a)
{
    list_remove(&a->node);
    account_free(a->account);
    free(a);
}

/* The daemon was killed while it tried another token: the one before it is known to be good. */
static void restore_token(struct manager *m, const char *provider)
{
    struct secrets *s = m->context.secrets;
    _cleanup_secret_ char *before = NULL;

    if (secrets_get(s, provider, "token_before", &before) == 0 &&
        secrets_put(s, provider, "token", before) == 0)
        secrets_remove(s, provider, "token_before");
}

static void restore_account(void *ctx, const struct account_record *r)
{
    struct manager *m = ctx;

    restore_token(m, r->provider);
    if (!rental_find(r->provider)) {
        log_err(r->provider, "not restored: this version does not rent there");
        return;
    }
    struct account *a = make_account(m, r);

    insert_account(m, a);
    account_check(a);
}

/* The one of that name that was removed last: it has what those before it spent. */
static struct account *find_gone_account(struct manager *m, const char *provider)
{
    struct account *last = NULL;

    LIST_FOREACH (n, &m->gone_accounts, struct managed_account, node)
        if (streq(account_name(n->account), provider))
            last = n->account;
    return last;
}

struct account *manager_gone_account_at(struct manager *m, unsigned i)
{
    LIST_FOREACH (n, &m->gone_accounts, struct managed_account, node) {
        const char *name = account_name(n->account);

        if (!manager_find_account(m, name) && find_gone_account(m, name) == n->account && i-- == 0)
            return n->account;
    }
    return NULL;
}

/* Limits are those of a day, not of an account: one that is there again counts on. */
static void inherit_spent(struct manager *m, struct account *a)
{
    const struct account *gone = find_gone_account(m, account_name(a));
    const struct spent_record *r;

    for (unsigned i = 0; gone && (r = ledger_row_at(account_ledger(gone), i)); i++)
        ledger_restore(account_ledger(a), r);
}

static struct account *make_gone_account(struct manager *m, const char *provider)
{
    struct managed_account *n = xnew(struct managed_account);

    n->account = make_account(m, &(struct account_record){.provider = (char *)provider});
    list_init(&n->node);
    list_append(&m->gone_accounts, &n->node);
    return n->account;
}

static void restore_spent(void *ctx, const struct spent_record *r)
{
    struct account *a = manager_find_account(ctx, r->provider);

    if (!a)
        a = find_gone_account(ctx, r->provider);
    if (!a && rental_find(r->provider))
        a = make_gone_account(ctx, r->provider);
    if (a)
        ledger_restore(account_ledger(a), r);
}

/* Of an account that is gone nothing is asked any more. */
static void restore_reserved(void *ctx, const struct intent_record *r)
{
    struct account *a = manager_find_account(ctx, r->provider);

    if (a)
        account_restore_reserved(a, r);
}

int accounts_load(struct manager *m, struct fault *f)
{
    int r = store_load_accounts(m->context.store, restore_account, m, f);

    if (r >= 0)
        r = store_load_reserved(m->context.store, restore_reserved, m, f);
    return r < 0 ? r : store_load_spent(m->context.store, clock_wall_ms(), LEDGER_MS, restore_spent, m, f);
}

void accounts_drop(struct manager *m)
{
    LIST_FOREACH_SAFE (a, &m->accounts, struct managed_account, node)
        drop_account(a);
    LIST_FOREACH_SAFE (a, &m->gone_accounts, struct managed_account, node)
        drop_account(a);
}

/* Nobody finds it any more. It is freed with the manager: what another call asked it for is answered yet. */
static void put_account_aside(struct manager *m, struct managed_account *a)
{
    account_leave(a->account);
    orphans_leave(m, account_name(a->account));
    list_remove(&a->node);
    list_append(&m->gone_accounts, &a->node);
}

/* ---- an account is put there ---- */

/* One that is new, or another token for one that is there: tried by asking for the balance with it. Until
 * that went well the token before is only put aside, on disk too: who pays has to be able to switch off. */
struct put {
    struct op op;
    struct list node; /* one at a time for an account: what it was before is known to be good */
    struct manager *manager;
    char *provider, *base_url;
    char *token_before, *url_before; /* NULL: there was none */
    bool has_token, has_moved;       /* another one was put in its place */
    bool is_tried;                   /* there is something new to be tried: not limits alone */
    struct money_limits limits;
    bool has_limits;
    struct account *trial; /* NULL: the account is there */
    int64_t balance_milli;
    struct op *step;
    manager_account_fn done;
    void *ctx;
};

static void put_free(struct put *x)
{
    op_cancel(&x->step);
    list_remove(&x->node);
    account_free(x->trial);
    secret_free(x->token_before);
    free(x->url_before);
    free(x->provider);
    free(x->base_url);
    free(x);
}

static bool puts_have(struct manager *m, const char *provider)
{
    LIST_FOREACH (x, &m->puts, struct put, node)
        if (streq(x->provider, provider))
            return true;
    return false;
}

/* As it was before. */
static void put_undo(struct put *x)
{
    struct secrets *s = x->manager->context.secrets;
    struct account *a = manager_find_account(x->manager, x->provider);
    int r = 0;

    if (x->has_token && x->token_before)
        r = secrets_put(s, x->provider, "token", x->token_before);
    else if (x->has_token)
        r = secrets_remove(s, x->provider, "token");
    if (r < 0)
        log_err(x->provider, "the token that was refused is on the disk still: %s", strerror(-r));
    else if (x->has_token)
        secrets_remove(s, x->provider, "token_before");
    if (a && x->has_moved)
        account_renew(a, x->url_before);
    else if (a && x->has_token)
        account_renew(a, account_record(a)->base_url);
    if (a && (x->has_moved || x->has_token))
        account_check(a);
}

static void put_cancel(struct op *op)
{
    struct put *x = CONTAINER_OF(op, struct put, op);

    op_cancel(&x->step);
    put_undo(x);
    put_free(x);
}

static void put_end(struct put *x, const struct fault *f)
{
    struct account *a = f ? NULL : manager_find_account(x->manager, x->provider);
    manager_account_fn done = x->done;
    int64_t balance_milli = x->balance_milli;
    void *ctx = x->ctx;

    op_end(&x->op);
    put_free(x);
    done(ctx, a, balance_milli, f);
}

static void put_on_refused(void *ctx, const struct fault *f)
{
    struct put *x = ctx;
    struct fault refusal = *f;

    put_undo(x);
    put_end(x, &refusal);
}

/* It is in force; when the disk did not take it yet, the store tries on. */
static void put_on_durable(void *ctx, const struct fault *f)
{
    struct put *x = ctx;

    if (f)
        log_err(x->provider, "the account is not on disk yet: %s", f->text);
    put_end(x, NULL);
}

static void put_on_balance(void *ctx, int64_t milli, const struct fault *f)
{
    struct put *x = ctx;
    struct manager *m = x->manager;
    struct account *a = x->trial ? TAKE_PTR(x->trial) : manager_find_account(m, x->provider);
    store_ticket t = 0;

    if (f) {
        x->trial = manager_find_account(m, x->provider) == a ? NULL : a;
        put_on_refused(x, f);
        return;
    }
    x->balance_milli = milli;
    secrets_remove(m->context.secrets, x->provider, "token_before");
    x->has_token = x->has_moved = false; /* it stays, whoever waits for the rest */
    if (!manager_find_account(m, x->provider)) {
        insert_account(m, a);
        inherit_spent(m, a);
    }
    if (x->has_limits) {
        const struct money_limits before = account_record(a)->limits;

        t = account_set_limits(a, &x->limits);
        powers_limits_set(m, a, &before);
    }
    struct account_record r = *account_record(a);

    t = MAX(t, store_put_account(m->context.store, &r));
    if (x->is_tried) {
        powers_doubt(m);
        account_check(a);
    }
    store_after(m->context.store, t, &x->step, put_on_durable, x);
}

/* Of other limits the company need not hear. */
static void put_on_limits(void *ctx, const struct fault *f)
{
    (void)f;
    put_on_balance(ctx, 0, NULL);
}

int manager_refuse_account(const char *provider, struct fault *f)
{
    char names[120] = "";
    const struct rental_ops *ops;

    if (!provider || rental_find(provider))
        return fault_code(f, FAULT_INVALID, "no_provider", "there is no account%s%.60s to rent with",
                          provider ? " at " : "", provider ? provider : "");
    for (unsigned i = 0; (ops = rental_at(i)); i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? ", " : "", ops->name);
    return fault_code(f, FAULT_INVALID, "unknown_provider",
                      "\"%.60s\" is nobody this version can rent from; there are: %s", provider, names);
}

/* What is there to be tried with. 0, or -EINVAL with *f. */
static int put_token(struct put *x, const char *token, struct fault *f)
{
    struct secrets *s = x->manager->context.secrets;
    int r;

    if (secrets_get(s, x->provider, "token", &x->token_before) < 0)
        x->token_before = NULL;
    if (!token && !x->token_before)
        return fault_code(f, FAULT_DENIED, "token_refused", "there is no token of %s", x->provider);
    if (!token)
        return 0;
    if (strlen(token) > SECRET_BYTES_MAX)
        return fault_code(f, FAULT_INVALID, "token_refused",
                          "that is no token of %s: it is longer than %u kB", x->provider,
                          SECRET_BYTES_MAX / 1000);
    r = x->token_before ? secrets_put(s, x->provider, "token_before", x->token_before) : 0;
    if (r == 0)
        r = secrets_put(s, x->provider, "token", token);
    if (r < 0)
        return fault_code(f, FAULT_EXHAUSTED, r == -ENOSPC || r == -EDQUOT ? "store_full" : "store_read_only",
                          "the token cannot be kept in %s: %s", secrets_path(s), strerror(-r));
    x->has_token = true;
    return 0;
}

/* Before any name is looked up, and before a token goes anywhere. */
static bool is_http(const char *url)
{
    const char *host = strstr(url, "://");

    return host && (strncmp(url, "https://", 8) == 0 || strncmp(url, "http://", 7) == 0) && host[3] &&
           host[3] != '/' && host[3] != ':';
}

static int put_begin(struct put *x, const char *token, struct fault *f)
{
    if (!rental_find(x->provider))
        return manager_refuse_account(x->provider, f);
    if (puts_have(x->manager, x->provider))
        return fault_code(f, FAULT_INVALID, "in_trial", "another word about it is being tried");
    if (x->base_url && !is_http(x->base_url))
        return fault_code(f, FAULT_INVALID, "bad_url",
                          "\"%.100s\" is no address of an API: it begins with https:// and a name",
                          x->base_url);
    return x->is_tried ? put_token(x, token, f) : 0;
}

void manager_put_account(struct manager *m, const struct manager_new_account *w, struct op **slot,
                         manager_account_fn done, void *ctx)
{
    struct account *a = manager_find_account(m, w->provider);
    struct put *x = xnew(struct put);
    struct fault f;

    x->manager = m;
    x->provider = xstrdup(w->provider);
    x->base_url = w->base_url ? xstrdup(w->base_url) : NULL;
    x->has_limits = w->limits != NULL;
    x->limits = w->limits ? *w->limits : (struct money_limits){};
    x->is_tried = !a || w->token || w->base_url;
    x->done = done;
    x->ctx = ctx;
    list_init(&x->node);
    op_begin(&x->op, slot, put_cancel);
    if (put_begin(x, w->token, &f) < 0) {
        op_finish_later(m->context.loop, &x->step, &f, put_on_refused, x);
        return;
    }
    list_append(&m->puts, &x->node);
    if (!a) {
        const struct account_record r = {.provider = x->provider,
                                         .base_url = x->base_url,
                                         .limits = x->limits,
                                         .added_at_ms = clock_wall_ms()};

        a = x->trial = make_account(m, &r);
    } else if (w->token || w->base_url) {
        x->url_before = xstrdup(account_record(a)->base_url);
        x->has_moved = w->base_url != NULL;
        account_renew(a, w->base_url ? w->base_url : account_record(a)->base_url);
    }
    if (x->is_tried)
        account_ask_balance(a, &x->step, put_on_balance, x);
    else
        op_finish_later(m->context.loop, &x->step, NULL, put_on_limits, x);
}

void manager_remove_account(struct manager *m, struct account *a, struct op **slot, op_done_fn done,
                            void *ctx)
{
    _cleanup_free_ char *name = xstrdup(account_name(a));
    struct fault f;

    if (puts_have(m, name)) {
        fault_code(&f, FAULT_INVALID, "in_trial", "%s was not removed: another word about it is being tried",
                   name);
        op_finish_later(m->context.loop, slot, &f, done, ctx);
        return;
    }
    LIST_FOREACH (l, &m->leases, struct managed_lease, node)
        if (streq(lease_record(l->lease)->provider, name)) {
            fault_code(&f, FAULT_INVALID, "in_use", "%s was not removed: it has the machine %s", name,
                       lease_name(l->lease));
            op_finish_later(m->context.loop, slot, &f, done, ctx);
            return;
        }
    if (orphans_refuse_leave(m, name, &f) < 0) {
        op_finish_later(m->context.loop, slot, &f, done, ctx);
        return;
    }
    LIST_FOREACH_SAFE (n, &m->accounts, struct managed_account, node)
        if (n->account == a)
            put_account_aside(m, n);
    int r = secrets_remove(m->context.secrets, name, "token");

    if (r < 0)
        log_err(name, "its token is on the disk still: %s", strerror(-r));
    event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, name, "provider_removed", "removed");
    store_after(m->context.store, store_remove_account(m->context.store, name), slot, done, ctx);
}
