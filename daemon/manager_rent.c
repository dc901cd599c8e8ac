/* Accounts at those who rent machines out, and the machines: made, given back. When they are on is in
 * manager_power.c. */
#include "manager_private.h"

#include <ctype.h>
#include <errno.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/settings.h"
#include "lease/account.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/buf.h"
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

static struct account *make_account(struct manager *m, const struct account_record *r)
{
    const struct account_context context = {
        .loop = m->context.loop,
        .store = m->context.store,
        .secrets = m->context.secrets,
        .http = m->context.http,
        .resolver = m->context.resolver,
        .changed = on_account_changed,
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
    if (!rental_find(r->provider))
        log_err(r->provider, "not restored: this version does not rent there");
    else
        insert_account(m, make_account(m, r));
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

int accounts_load(struct manager *m, struct fault *f)
{
    int r = store_load_accounts(m->context.store, restore_account, m, f);

    return r < 0 ? r : store_load_spent(m->context.store, clock_wall_ms() - LEDGER_MS, restore_spent, m, f);
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
    account_runs(a->account, false);
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
    if (x->has_limits)
        t = account_set_limits(a, &x->limits);
    struct account_record r = *account_record(a);

    t = MAX(t, store_put_account(m->context.store, &r));
    powers_doubt(m);
    store_after(m->context.store, t, &x->step, put_on_durable, x);
}

static int refuse_company(const char *name, struct fault *f)
{
    return fault_code(f, FAULT_INVALID, "unknown_provider", "\"%.60s\" is nobody this version can rent from",
                      name);
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
    r = x->token_before ? secrets_put(s, x->provider, "token_before", x->token_before) : 0;
    if (r == 0)
        r = secrets_put(s, x->provider, "token", token);
    if (r < 0)
        return fault_code(f, FAULT_EXHAUSTED, r == -ENOSPC || r == -EDQUOT ? "store_full" : "store_read_only",
                          "the token cannot be kept in %s: %s", secrets_path(s), strerror(-r));
    x->has_token = true;
    return 0;
}

static int put_begin(struct put *x, const char *token, struct fault *f)
{
    if (!rental_find(x->provider))
        return refuse_company(x->provider, f);
    if (puts_have(x->manager, x->provider))
        return fault_code(f, FAULT_INVALID, "in_trial", "another word about it is being tried");
    return put_token(x, token, f);
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
    account_ask_balance(a, &x->step, put_on_balance, x);
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
    LIST_FOREACH_SAFE (n, &m->accounts, struct managed_account, node)
        if (n->account == a)
            put_account_aside(m, n);
    int r = secrets_remove(m->context.secrets, name, "token");

    if (r < 0)
        log_err(name, "its token is on the disk still: %s", strerror(-r));
    event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, name, "provider_removed", "removed");
    store_after(m->context.store, store_remove_account(m->context.store, name), slot, done, ctx);
}

/* ---- a machine is rented ---- */

/* One of `--gpu`: "4090D", "4090Dx2". */
struct card {
    char gpu[40];
    unsigned cards;
    struct rental_offer offer;
};
#define CARDS_MAX 8

static struct account *choose_account(struct manager *m, const char *provider, struct fault *f)
{
    struct account *a = provider ? manager_find_account(m, provider) : manager_account_at(m, 0);

    if (provider && !a && !rental_find(provider))
        refuse_company(provider, f);
    else if (!a)
        fault_code(f, FAULT_INVALID, "no_provider", "there is no account to rent with");
    else if (!provider && manager_account_at(m, 1)) {
        fault_code(f, FAULT_INVALID, "which_provider", "there are several accounts to rent with: say which");
        a = NULL;
    }
    return a;
}

/* In the order of preference; -EINVAL: *f. */
static int read_cards(struct account *a, const char *gpu, struct card *ret, unsigned *ret_n, struct fault *f)
{
    unsigned n = 0;

    for (const char *at = gpu, *end; *at; at = *end ? end + 1 : end) {
        _cleanup_free_ char *why = NULL;
        struct card *c = &ret[n];

        end = strchrnul(at, ',');
        if (n == CARDS_MAX)
            return fault_code(f, FAULT_INVALID, "no_such_card", "\"%.60s\" names too many cards", gpu);
        snprintf(c->gpu, sizeof c->gpu, "%.*s", (int)MIN((size_t)(end - at), sizeof c->gpu - 1), at);
        c->cards = MAX(rental_cut_count(c->gpu), 1u);
        if (account_ops(a)->find_card(account_rental(a), c->gpu, &c->offer, &why) < 0)
            return fault_code(f, FAULT_INVALID, "no_such_card", "%s", why);
        n++;
    }
    *ret_n = n;
    return n ? 0 : fault_code(f, FAULT_INVALID, "no_such_card", "no card is named");
}

/* What is too dear by the price list is left out. 0, or -EINVAL when nothing is left. */
static int leave_dear(struct account *a, const struct manager_rent *w, struct card *cards, unsigned *n,
                      struct fault *f)
{
    int64_t limit = w->over_budget ? 0 : account_record(a)->limits.price_milli, most = w->max_price_milli;
    char price[TEXT_SHORT_MAX], allowed[TEXT_SHORT_MAX];
    unsigned kept = 0;

    if (limit && (!most || limit < most))
        most = limit;
    for (unsigned i = 0; i < *n; i++) {
        int64_t hour = cards[i].offer.price_milli * cards[i].cards;

        if (!most || hour <= most)
            cards[kept++] = cards[i];
        else if (!kept)
            fault_code(f, FAULT_INVALID, "price", "%s costs %s an hour, and at most %s is allowed",
                       cards[i].gpu, money_format(price, hour, account_ops(a)->unit),
                       money_format(allowed, most, account_ops(a)->unit));
    }
    *n = kept;
    return kept ? 0 : -EINVAL;
}

/* Nothing on it is up or on its way there: another model may have it. */
static bool is_free(struct manager *m, const struct lease *l)
{
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node) {
        enum deployment_state s = deployment_state(d->deployment);

        if (deployment_lease(d->deployment) == l && s != DEPLOYMENT_OFF && s != DEPLOYMENT_ASLEEP &&
            s != DEPLOYMENT_FAILED)
            return false;
    }
    return true;
}

static bool stays_ours(struct manager *m, const struct lease *l)
{
    return !removals_have(m, lease_name(l)) && life_goal(rented_life(lease_rented(l))) != LIFE_GOAL_RELEASE;
}

static bool is_of_card(const struct lease *l, const struct account *a, const struct card *c)
{
    const struct rented *r = lease_rented(l);

    return r && rented_account(r) == a && streq(rented_record(r)->card, c->offer.card) &&
           rented_record(r)->cards == c->cards;
}

/* The one that has the model already comes first, whatever is up there: asked for twice it is not rented
 * twice. */
static struct lease *find_rented(struct manager *m, const struct account *a, const struct manager_rent *w,
                                 const struct card *cards, unsigned n)
{
    for (unsigned i = 0; w->model && i < n; i++)
        LIST_FOREACH (d, &m->deployments, struct managed_deployment, node) {
            struct lease *l = deployment_lease(d->deployment);

            if (streq(deployment_name(d->deployment), w->model) && is_of_card(l, a, &cards[i]) &&
                stays_ours(m, l))
                return l;
        }
    for (unsigned i = 0; i < n; i++)
        LIST_FOREACH (l, &m->leases, struct managed_lease, node)
            if (is_of_card(l->lease, a, &cards[i]) && stays_ours(m, l->lease) && is_free(m, l->lease))
                return l->lease;
    return NULL;
}

static bool is_taken(struct manager *m, const char *name)
{
    struct fault f;

    return manager_find_lease(m, name) || trials_have(m, name) || removals_have(m, name) ||
           aliases_refuse_instance(m, name, &f) < 0;
}

/* "4090D" is "4090d", then "4090d-2". */
static void name_after_card(struct manager *m, const struct card *c, char out[static 41])
{
    char stem[32] = "";
    size_t n = 0;

    for (const char *p = c->gpu; *p && n < 24; p++)
        if (isalnum((unsigned char)*p))
            stem[n++] = (char)tolower((unsigned char)*p);
    if (c->cards > 1)
        snprintf(stem + n, sizeof stem - n, "x%u", c->cards);
    snprintf(out, 41, "%s", *stem ? stem : "gpu");
    for (unsigned i = 2; is_taken(m, out); i++)
        snprintf(out, 41, "%s-%u", *stem ? stem : "gpu", i);
}

/* 0: *ret is the one of that name, or NULL: it would be new. */
static int find_named(struct manager *m, const struct account *a, const char *name, const struct card *cards,
                      unsigned n, struct lease **ret, struct fault *f)
{
    struct lease *l = manager_find_lease(m, name);

    *ret = NULL;
    if (!name_is_instance(name))
        return fault_code(f, FAULT_INVALID, "bad_name",
                          "\"%.60s\" cannot name an instance: use 1 to 40 of a-z 0-9 -", name);
    for (unsigned i = 0; l && i < n; i++)
        if (is_of_card(l, a, &cards[i])) {
            *ret = l;
            return 0;
        }
    if (aliases_refuse_instance(m, name, f) < 0)
        return -EINVAL;
    if (is_taken(m, name))
        return fault_code(f, FAULT_INVALID, "exists",
                          "there is an instance %s already, and it is no such machine", name);
    return 0;
}

struct place {
    const char *image, *region;
};

static int read_place(struct account *a, const struct manager_rent *w, struct place *ret, struct fault *f)
{
    _cleanup_free_ char *why = NULL;

    if (account_ops(a)->find_image(account_rental(a), w->image, &ret->image, &why) < 0)
        return fault_code(f, FAULT_INVALID, "no_such_image", "%s", why);
    if (account_ops(a)->find_region(account_rental(a), w->region, &ret->region, &why) < 0)
        return fault_code(f, FAULT_INVALID, "no_such_region", "%s", why);
    return 0;
}

/* As they are tried, one after the other, until there is a machine: "4090D,5090x2". */
static void list_cards(const struct card *cards, unsigned n, struct buf *out)
{
    for (unsigned i = 0; i < n; i++) {
        buf_addf(out, "%s%s", i ? "," : "", cards[i].offer.gpu);
        if (cards[i].cards > 1)
            buf_addf(out, "x%u", cards[i].cards);
    }
}

static struct lease *make_rented(struct manager *m, struct account *a, const struct manager_rent *w,
                                 const struct card *cards, unsigned n, const struct place *where,
                                 const char *name, uint64_t *ret_ticket)
{
    struct buf list;

    buf_init(&list, CARDS_MAX * 48);
    list_cards(cards, n, &list);

    struct rental_record rental = {
        .state = (char *)life_state_name(LIFE_ABSENT),
        .goal = (char *)"off",
        .card = (char *)cards[0].offer.card,
        .image = (char *)where->image,
        .region = (char *)where->region,
        .gpu = (char *)buf_text(&list),
        .cards = cards[0].cards,
        .disk_gb = w->disk_gb,
        .max_price_milli = w->max_price_milli,
    };
    const struct instance_record record = {
        .name = (char *)name,
        .provider = (char *)account_name(a),
        .install_key = settings_bool(m->context.settings, "ssh", "install_key"),
        .added_at_ms = clock_wall_ms(),
        .rental = &rental,
    };
    struct lease *l = manager_make_lease(m, &record, false);
    store_ticket t = lease_keep(l);

    *ret_ticket = MAX(t, store_put_rental(m->context.store, name, rented_record(lease_rented(l))));
    manager_insert_lease(m, l);
    event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, name, "instance_added", "added (%s, %s)", account_name(a),
                  buf_text(&list));
    buf_done(&list);
    manager_tell_lease(m, l, false);
    return l;
}

int manager_rent(struct manager *m, const struct manager_rent *w, bool check, struct lease **ret,
                 uint64_t *ret_ticket, struct fault *f)
{
    struct account *a = choose_account(m, w->provider, f);
    struct card cards[CARDS_MAX] = {};
    struct place where;
    char name[41];
    unsigned n = 0;
    int r = a ? read_cards(a, w->gpu ? w->gpu : "", cards, &n, f) : -EINVAL;

    if (r == 0)
        r = leave_dear(a, w, cards, &n, f);
    if (r == 0)
        r = read_place(a, w, &where, f);
    if (r < 0)
        return r;
    *ret_ticket = 0;
    *ret = NULL;
    if (w->name && find_named(m, a, w->name, cards, n, ret, f) < 0)
        return -EINVAL;
    if (!w->name)
        *ret = find_rented(m, a, w, cards, n);
    if (*ret && !check && w->max_price_milli)
        rented_limit_price(lease_rented(*ret), w->max_price_milli);
    if (*ret || check)
        return 0;
    if (w->name)
        snprintf(name, sizeof name, "%s", w->name);
    else
        name_after_card(m, &cards[0], name);
    *ret = make_rented(m, a, w, cards, n, &where, name, ret_ticket);
    return 0;
}

/* ---- a machine is given back ---- */

struct release {
    struct op op;
    struct list node;
    char *name;
    op_done_fn done;
    void *ctx;
};

static void release_free(struct release *x)
{
    list_remove(&x->node);
    free(x->name);
    free(x);
}

static void release_cancel(struct op *op)
{
    release_free(CONTAINER_OF(op, struct release, op));
}

static int check_releasable(struct manager *m, struct lease *l, struct fault *f)
{
    const struct rented *r = lease_rented(l);

    if (!r)
        return fault_code(f, FAULT_INVALID, "not_rented",
                          "%s is not rented: there is nobody to give it back to", lease_name(l));
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if (deployment_lease(d->deployment) == l && deployment_goal(d->deployment) != GOAL_OFF)
            return fault_code(f, FAULT_INVALID, "in_use", "%s was not given back: %s on it is wanted",
                              lease_name(l), deployment_name(d->deployment));
    enum life_state s = life_state(rented_life(r));

    if (s != LIFE_STOPPED && s != LIFE_ABSENT && s != LIFE_RELEASING && s != LIFE_RELEASED)
        return fault_code(f, FAULT_INVALID, "not_off", "%s was not given back: it is not off", lease_name(l));
    return 0;
}

void manager_release(struct manager *m, struct lease *l, struct op **slot, op_done_fn done, void *ctx)
{
    struct fault f;
    struct release *x;

    if (check_releasable(m, l, &f) < 0) {
        op_finish_later(m->context.loop, slot, &f, done, ctx);
        return;
    }
    x = xnew(struct release);
    x->name = xstrdup(lease_name(l));
    x->done = done;
    x->ctx = ctx;
    list_init(&x->node);
    list_append(&m->releases, &x->node);
    op_begin(&x->op, slot, release_cancel);
    rented_want(lease_rented(l), LIFE_GOAL_RELEASE);
}

static void end_releases(struct manager *m, const char *name)
{
    LIST_FOREACH_SAFE (x, &m->releases, struct release, node)
        if (streq(x->name, name)) {
            op_done_fn done = x->done;
            void *ctx = x->ctx;

            op_end(&x->op);
            release_free(x);
            done(ctx, NULL);
        }
}

/* From the run queue: those that are no machines any more are no instances either. */
void releases_forget(void *ctx)
{
    struct manager *m = ctx;

    LIST_FOREACH_SAFE (n, &m->leases, struct managed_lease, node) {
        const struct rented *r = lease_rented(n->lease);
        _cleanup_free_ char *name = xstrdup(lease_name(n->lease));

        if (!r || life_goal(rented_life(r)) != LIFE_GOAL_RELEASE ||
            life_state(rented_life(r)) != LIFE_RELEASED)
            continue;
        event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, name, "released", "given back, with its data");
        store_remove_instance(m->context.store, name);
        manager_forget_instance(m, n->lease);
        end_releases(m, name);
    }
}

void releases_drop(struct manager *m)
{
    while (!list_is_empty(&m->releases)) {
        struct release *x = LIST_FIRST(&m->releases, struct release, node);

        op_cancel(x->op.slot);
    }
}
