/* Accounts at those who rent machines out, and what it all costs. */
#include "base/clock.h"
#include "base/fault.h"
#include "control/explain.h"
#include "control/methods.h"
#include "control/orphans.h"
#include "control/show.h"
#include "control/show_cost.h"
#include "control/show_rent.h"
#include "control/target.h"
#include "lease/account.h"
#include "lease/boxed.h"
#include "lease/lease.h"
#include "lease/ledger.h"
#include "lease/rented.h"
#include "manager.h"
#include "proto/json.h"
#include "provider/rental.h"

/* Of an account nobody has said anything about: a day's mistake is not a month's rent, and what is left pays
 * for the way out. */
#define USUAL_DAY_MILLI   50000
#define USUAL_FLOOR_MILLI 1000
#define MONEY_MILLI_MAX   1000000000000 /* sums of it stay numbers; nobody has more */

/* ---- accounts ---- */

/* The command again; what was wrong of it is said anew, all else by who typed it (client/again.c). */
static char *again(const struct call *c, const struct fault *f, bool is_new)
{
    const char *provider = json_get_text(c->parameters, "provider"), *url = json_get_text(c->parameters, "base_url");
    bool is_host = url && *url && !url[strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:-_/")] &&
                   !strstr(url, "://") && !strchr(":/", *url);
    bool is_here = is_host && (strncmp(url, "127.", 4) == 0 || strncmp(url, "localhost", 9) == 0);
    _cleanup_free_ char *command = xasprintf("llmhostctl provider %s %s", is_new ? "add" : "set", provider);

    if (streq(f->code, "token_refused"))
        return xasprintf("%s --token-file=FILE", command);
    if (streq(f->code, "bad_url"))
        return xasprintf("%s --base-url=%s://%s", command, is_here ? "http" : "https", is_host ? url : "HOST");
    return TAKE_PTR(command);
}

static void on_account(void *ctx, struct account *a, int64_t balance_milli, const struct fault *f)
{
    struct call *c = ctx;
    const char *provider = json_get_text(c->parameters, "provider");

    (void)balance_milli; /* the account has it */
    if (f) {
        bool is_new = !manager_find_account(c->context->manager, provider);
        _cleanup_free_ char *next = again(c, f, is_new);

        call_fail(c, explain_status(f), explain_code(f), provider, NULL,
                  streq(f->code, "unknown_provider") ? "llmhostctl provider list" : next, "%s %s: %s",
                  provider, is_new ? "was not added" : "stays as it was", f->text);
        return;
    }
    struct json *v = json_object();

    json_put(v, "account", show_account(c->context, a));
    call_reply(c, v);
}

/* What is given takes the place of what there is. False: the call was answered. */
static bool read_limits(struct call *c, struct money_limits *limits)
{
    const struct {
        const char *key;
        int64_t *milli;
    } all[] = {{"day_milli", &limits->day_milli},
               {"month_milli", &limits->month_milli},
               {"price_milli", &limits->price_milli},
               {"floor_milli", &limits->floor_milli}};

    for (size_t i = 0; i < ELEMENTS(all); i++) {
        int64_t milli = json_get_int(c->parameters, all[i].key, *all[i].milli);

        if (milli < 0 || milli > MONEY_MILLI_MAX) {
            call_invalid_parameter(c, all[i].key);
            return false;
        }
        *all[i].milli = milli;
    }
    return true;
}

static void put_account(struct call *c, struct money_limits limits)
{
    const struct manager_new_account w = {
        .provider = json_get_text(c->parameters, "provider"),
        .base_url = json_get_text(c->parameters, "base_url"),
        .token = json_get_text(json_get(c->parameters, "token"), "text"),
        .limits = &limits,
    };

    if (!read_limits(c, &limits))
        return;
    call_log_change(c, w.provider, "provider %s", streq(c->method, "ProviderAdd") ? "add" : "set");
    manager_put_account(c->context->manager, &w, &c->op, on_account, c);
}

void method_provider_add(struct call *c)
{
    const char *provider = json_get_text(c->parameters, "provider");
    _cleanup_free_ char *set = xasprintf("llmhostctl provider set %s --token-file=FILE", provider);

    if (manager_find_account(c->context->manager, provider))
        call_fail(c, EXIT_CONFLICT, "account_exists", provider, NULL, set,
                  "there is an account at %s already", provider);
    else
        put_account(c, (struct money_limits){.day_milli = USUAL_DAY_MILLI, .floor_milli = USUAL_FLOOR_MILLI});
}

void method_provider_set(struct call *c)
{
    const struct account *a = call_find_account(c, json_get_text(c->parameters, "provider"));

    if (a)
        put_account(c, account_record(a)->limits);
}

void method_provider_list(struct call *c)
{
    struct json *v = json_object(), *known = json_array();
    const struct rental_ops *ops;

    for (unsigned i = 0; (ops = rental_at(i)); i++)
        if (!manager_find_account(c->context->manager, ops->name))
            json_append_string(known, ops->name);
    json_put(v, "accounts", show_accounts(c->context));
    json_put(v, "known", known);
    call_reply(c, v);
}

/* What can be said of a machine there that nothing here knows, and that keeps the account. */
static char *orphan_next(struct manager *m, const char *provider)
{
    struct orphan_view o;

    for (unsigned i = 0; manager_orphan_at(m, i, &o); i++)
        if (streq(account_name(o.account), provider) && o.seen->power != INSTANCE_OFF)
            return xasprintf("llmhostctl down --at %s %s", provider, o.seen->id);
    return xstrdup("llmhostctl status");
}

/* With what it has spent, where that is anything. */
static struct json *removed_answer(const struct control_context *k, const char *provider)
{
    struct json *v = json_object();
    struct account *a;

    for (unsigned i = 0; (a = manager_gone_account_at(k->manager, i)); i++)
        if (streq(account_name(a), provider) && ledger_row_at(account_ledger(a), 0))
            json_put(v, "removed", show_removed_account(k, a));
    return v;
}

static void on_account_removed(void *ctx, const struct fault *f)
{
    struct call *c = ctx;
    const char *provider = json_get_text(c->parameters, "provider");

    _cleanup_free_ char *next = orphan_next(c->context->manager, provider);

    if (f && streq(f->code, "has_orphan"))
        call_fail(c, EXIT_CONFLICT, f->code, provider, NULL, next, "%s", f->text);
    else if (f && streq(f->code, "in_use"))
        call_fail(c, EXIT_CONFLICT, "in_use", provider, NULL, "llmhostctl instance list", "%s", f->text);
    else if (f && streq(f->code, "in_trial"))
        call_fail(c, EXIT_CONFLICT, "in_trial", provider, NULL, "llmhostctl provider list", "%s", f->text);
    else if (f)
        call_not_kept(c, f, "the account is removed, but still on disk");
    else
        call_reply(c, removed_answer(c->context, provider));
}

void method_provider_remove(struct call *c)
{
    struct account *a = call_find_account(c, json_get_text(c->parameters, "provider"));

    if (!a)
        return;
    call_log_change(c, account_name(a), "provider remove");
    manager_remove_account(c->context->manager, a, &c->op, on_account_removed, c);
}

/* ---- cost ---- */

static struct lease *rented_named(struct manager *m, const struct account *a, const char *name)
{
    struct lease *l = manager_find_lease(m, name);

    return l && lease_rented(l) && rented_account(lease_rented(l)) == a ? l : NULL;
}

/* A model stands for the machines it is on. */
static bool is_asked_for(struct manager *m, const struct json *targets, const char *name)
{
    struct deployment *d;

    if (target_has_name(targets, name))
        return true;
    for (unsigned i = 0; (d = manager_deployment_at(m, i)); i++)
        if (streq(lease_name(deployment_lease(d)), name) && target_has_model(targets, d))
            return true;
    return false;
}

/* The instance whose machine that interval is of; NULL: it was given back. */
static struct lease *lease_of(struct manager *m, const struct account *a, const struct spent_record *r)
{
    struct lease *l = rented_named(m, a, r->instance);

    return l && cost_is_of(l, r) ? l : NULL;
}

static bool is_machine_before(const struct ledger *g, unsigned i)
{
    const struct spent_record *r = ledger_row_at(g, i);

    while (i-- > 0)
        if (ledger_is_of(ledger_row_at(g, i), r->instance, r->machine))
            return true;
    return false;
}

/* Its name was given again: an instance has it, or another machine has it behind it in the books. */
static bool is_earlier(struct manager *m, const struct account *a, unsigned i)
{
    const struct ledger *g = account_ledger(a);
    const struct spent_record *r = ledger_row_at(g, i), *next;

    if (rented_named(m, a, r->instance))
        return true;
    while ((next = ledger_row_at(g, ++i)))
        if (streq(next->instance, r->instance) && !ledger_is_of(next, r->instance, r->machine))
            return true;
    return false;
}

/* Those there are, then those that were given back and are in the books. */
static void add_lines(struct manager *m, const struct account *a, const struct json *targets,
                      struct json *lines)
{
    const struct ledger *g = account_ledger(a);
    const struct spent_record *r;
    struct lease *l;

    for (unsigned i = 0; (l = manager_lease_at(m, i)); i++)
        if (rented_named(m, a, lease_name(l)) && is_asked_for(m, targets, lease_name(l)))
            json_append(lines, show_cost_line(l));
    for (unsigned i = 0; (r = ledger_row_at(g, i)); i++)
        if (!lease_of(m, a, r) && !is_machine_before(g, i) && target_has_name(targets, r->instance))
            json_append(lines, show_cost_of_gone(a, r, is_earlier(m, a, i)));
}

static void add_rows(struct manager *m, const struct account *a, const struct json *targets,
                     int64_t since_at_ms, struct json *rows)
{
    const struct spent_record *r;

    for (unsigned i = 0; (r = ledger_row_at(account_ledger(a), i)); i++)
        if ((!r->to_at_ms || r->to_at_ms > since_at_ms) &&
            (lease_of(m, a, r) ? is_asked_for(m, targets, r->instance) : target_has_name(targets, r->instance)))
            json_append(rows, show_spent(a, r));
}

/* Those there are, then those that were removed and have spent something: what was spent stays spent. */
static struct account *payer_at(struct manager *m, unsigned i)
{
    struct account *a;
    unsigned n = 0;

    while ((a = manager_account_at(m, n)) && n < i)
        n++;
    if (a)
        return a;
    i -= n;
    for (n = 0; (a = manager_gone_account_at(m, n)); n++)
        if (ledger_row_at(account_ledger(a), 0) && i-- == 0)
            return a;
    return NULL;
}

/* This month's, over all accounts of a unit. */
static void add_total(const struct control_context *k, struct json *total)
{
    struct manager *m = k->manager;
    struct account *a, *b;

    for (unsigned i = 0; (a = payer_at(m, i)); i++) {
        struct ledger_sum sum = {0};
        bool is_first = true;

        for (unsigned j = 0; (b = payer_at(m, j)); j++) {
            struct account_figures n;

            if (!streq(account_ops(a)->unit, account_ops(b)->unit))
                continue;
            is_first &= j >= i;
            cost_figures(k, b, &n);
            sum.milli += n.month.milli;
            sum.estimate |= n.month.estimate;
            sum.unknown |= n.month.unknown;
        }
        if (is_first)
            json_append(total, show_sum(&sum, account_ops(a)->unit));
    }
}

/* What runs by nobody's account here. */
static struct json *unpriced(struct manager *m, const struct json *targets)
{
    struct json *list = json_array();
    struct boxed_figures n;
    struct lease *l;

    for (unsigned i = 0; (l = manager_lease_at(m, i)); i++) {
        const struct boxed *b = lease_boxed(l);

        if (!b || !is_asked_for(m, targets, lease_name(l)))
            continue;
        struct json *v = json_object();

        boxed_figures(b, &n);
        json_put_string(v, "instance", lease_name(l));
        json_put_string(v, "state", boxed_state_name(boxed_state(b)));
        json_put_int(v, "since_at_ms", n.since_at_ms);
        json_append(list, v);
    }
    return list;
}

/* not_asked: of those that could not be asked anew; taken. NULL: nobody was to be asked. */
static void cost_answer(struct call *c, struct json *not_asked)
{
    const struct json *targets = json_get(c->parameters, "targets");
    bool with_rows = json_type(json_get(c->parameters, "since_at_ms")) == JSON_INT;
    struct manager *m = c->context->manager;
    struct account *a;
    struct json *v = json_object(), *lines = json_array(), *rows = json_array(), *total = json_array(),
                *removed = json_array();

    for (unsigned i = 0; (a = payer_at(m, i)); i++) {
        add_lines(m, a, targets, lines);
        add_rows(m, a, targets, json_get_int(c->parameters, "since_at_ms", 0), rows);
        if (!manager_find_account(m, account_name(a)))
            json_append(removed, show_removed_account(c->context, a));
    }
    add_total(c->context, total);
    json_put(v, "accounts", show_accounts(c->context));
    json_put(v, "removed", removed);
    if (not_asked)
        json_put(v, "not_asked", not_asked);
    json_put(v, "lines", lines);
    json_put(v, "total", total);
    json_put(v, "orphans", show_orphans_that_bill(c->context, targets));
    json_put(v, "unpriced", unpriced(m, targets));
    if (with_rows)
        json_put(v, "rows", rows);
    else
        json_free(rows);
    call_reply(c, v);
}

/* One account is asked after the other. */
struct refresh {
    unsigned next;
    const struct account *asked; /* one that is removed meanwhile lives on among the gone */
    struct json *not_asked;      /* a Trouble for each that did not say it */
};

static void refresh_drop(struct call *c)
{
    struct refresh *r = c->state;

    json_free(r->not_asked);
    free(r);
}

static void refresh_ask(struct call *c);

/* The account has it. */
static void refresh_on_balance(void *ctx, int64_t milli, const struct fault *f)
{
    struct call *c = ctx;
    struct refresh *r = c->state;
    const char *name = account_name(r->asked);

    (void)milli;
    if (f)
        json_append(r->not_asked, show_fault(f, name, name, 0));
    refresh_ask(c);
}

static void refresh_ask(struct call *c)
{
    struct refresh *r = c->state;
    struct account *a;

    do
        a = manager_account_at(c->context->manager, r->next++);
    while (a && !account_ops(a)->balance);
    r->asked = a;
    if (a)
        account_ask_balance(a, &c->op, refresh_on_balance, c);
    else
        cost_answer(c, TAKE_PTR(r->not_asked));
}

void method_cost(struct call *c)
{
    if (!target_check(c, json_get(c->parameters, "targets")))
        return;
    if (!json_get_bool(c->parameters, "refresh", false)) {
        cost_answer(c, NULL);
        return;
    }
    struct refresh *r = xnew(struct refresh);

    r->not_asked = json_array();
    c->state = r;
    c->drop = refresh_drop;
    refresh_ask(c);
}
