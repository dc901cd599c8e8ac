/* Machines of an account that somebody else made: the list of all there are, and one of them as an instance, which
 * is neither made nor switched by that. */
#include "control/adopt.h"

#include "base/fault.h"
#include "control/call.h"
#include "control/explain.h"
#include "control/methods.h"
#include "control/orphans.h"
#include "control/show.h"
#include "control/show_rent.h"
#include "lease/account.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "manager.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "proto/text.h"
#include "provider/provider.h"
#include "provider/rental.h"

/* ---- InstanceList, at ---- */

static void on_machines(void *ctx, const struct instance_seen *seen, unsigned n, const struct fault *f)
{
    struct call *c = ctx;
    struct manager *m = c->context->manager;
    const char *at = json_get_text(c->parameters, "at");
    struct lease *l;

    if (f) {
        call_fault(c, f, at, NULL);
        return;
    }
    struct account *a = call_find_account(c, at); /* it may have been removed meanwhile */

    if (!a)
        return;
    account_listed(a, seen, n);
    struct json *v = json_object(), *instances = json_array(), *machines = json_array();

    for (unsigned i = 0; (l = manager_lease_at(m, i)); i++)
        if (lease_rented(l) && rented_account(lease_rented(l)) == a)
            json_append(instances, show_instance(c->context, l));
    for (unsigned i = 0; i < n; i++)
        json_append(machines, show_machine(m, a, &seen[i]));
    json_put(v, "instances", instances);
    json_put(v, "machines", machines);
    call_reply(c, v);
}

void adopt_list(struct call *c)
{
    const struct account *a = call_find_account(c, json_get_text(c->parameters, "at"));

    if (a)
        account_ops(a)->list(account_rental(a), &c->op, on_machines, c);
}

/* ---- InstanceAdd ---- */

static bool is_of_a_company(const struct call *c)
{
    const char *provider = json_get_text(c->parameters, "provider");
    const struct provider_ops *ops = provider_find(provider ? provider : "ssh");

    return ops && ops->rented;
}

bool adopt_is_meant(const struct call *c)
{
    return is_of_a_company(c) || json_get_text(c->parameters, "id");
}

/* Each of them says where a machine is or how to log in: this one's company does, at each power-on. */
static bool words_are_idle(struct call *c)
{
    static const char *const words[] = {"command",    "options",       "password",   "key",
                                        "passphrase", "proxy_command", "install_key"};
    const char *provider = json_get_text(c->parameters, "provider"),
               *name = json_get_text(c->parameters, "name");

    if (!is_of_a_company(c)) {
        call_fail(c, EXIT_USAGE, "bad_command", name, NULL, "llmhostctl instance list --at autodl",
                  "%s was not added: an id names a machine of a rental company: say of which", name);
        return true;
    }
    for (size_t i = 0; i < ELEMENTS(words); i++) {
        enum json_type t = json_type(json_get(c->parameters, words[i]));

        if (t == JSON_NULL)
            continue;
        _cleanup_free_ char *next =
            xasprintf("llmhostctl instance add %s --provider=%s --id=ID", name, provider);

        call_fail(c, EXIT_USAGE, "bad_command", name, NULL, next,
                  "%s was not added: its address and password come from %s", name, provider);
        return true;
    }
    return false;
}

static char *adopt_next(const struct call *c, const struct fault *f)
{
    const char *provider = json_get_text(c->parameters, "provider"),
               *name = json_get_text(c->parameters, "name"), *id = json_get_text(c->parameters, "id");

    if (streq(f->code, "no_provider"))
        return xasprintf("llmhostctl provider list\nllmhostctl provider add %s", provider);
    if (streq(f->code, "is_orphan"))
        return xasprintf("llmhostctl down --at %s %s\nllmhostctl release --at %s %s", provider, id, provider,
                         id);
    if (streq(f->code, "no_such_machine") || streq(f->code, "is_instance"))
        return xasprintf("llmhostctl instance list --at %s\nllmhostctl instance add %s --provider=%s --id=ID",
                         provider, name, provider);
    if (streq(f->code, "bad_name") || streq(f->code, "exists"))
        return xasprintf("llmhostctl instance list\nllmhostctl instance add NAME --provider=%s --id=%s",
                         provider, id ? id : "ID");
    return xasprintf("llmhostctl provider list");
}

static void on_adopted(void *ctx, struct lease *l, const char *notes, const struct fault *f)
{
    struct call *c = ctx;
    const char *name = json_get_text(c->parameters, "name");

    if (f) {
        _cleanup_free_ char *next = adopt_next(c, f);

        call_fail(c, explain_status(f), explain_code(f), name, NULL, next, "%s was not added: %s", name,
                  f->text);
        return;
    }
    call_reply(c, show_instance_reply(c->context, l, notes));
}

void adopt_instance(struct call *c)
{
    const struct manager_adopt w = {
        .name = json_get_text(c->parameters, "name"),
        .provider = json_get_text(c->parameters, "provider"),
        .id = json_get_text(c->parameters, "id"),
    };

    if (words_are_idle(c))
        return;
    call_log_change(c, w.name, "instance add (%s, %s)", w.provider, w.id ? w.id : "?");
    manager_adopt(c->context->manager, &w, &c->op, on_adopted, c);
}

char *adopt_remains(const struct lease *l)
{
    const struct rented *r = lease_rented(l);
    char rate[TEXT_SHORT_MAX];
    bool estimate;

    if (!r || !rented_record(r)->adopted)
        return NULL;
    const struct rental_ops *ops = account_ops(rented_account(r));

    if (life_state(rented_life(r)) == LIFE_ABSENT ||
        life_is_missing(rented_life(r))) /* the list is all that we know of it */
        return xasprintf("%s no longer lists it; if it is there after all, it may bill: %s", ops->title,
                         ops->console_url);
    int64_t milli = rental_rate(l, &estimate);

    if (life_state(rented_life(r)) == LIFE_STOPPED)
        return xasprintf("it is off, and goes on existing at %s with its data and what its disk costs: %s",
                         ops->title, ops->console_url);
    return xasprintf("it goes on existing at %s, and bills while it is on (%s/h): %s", ops->title,
                     milli ? money_format(rate, milli, ops->unit) : "?", ops->console_url);
}
