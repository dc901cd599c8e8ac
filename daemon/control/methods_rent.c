/* What can be rented, and the end of what was: offers, release; and whose the guard of a machine is. */
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/op.h"
#include "base/timer.h"
#include "control/explain.h"
#include "control/fitting.h"
#include "control/follow.h"
#include "control/machines.h"
#include "control/methods.h"
#include "control/orphans.h"
#include "control/show.h"
#include "control/show_cost.h"
#include "control/show_rent.h"
#include "guard/keeper.h"
#include "lease/account.h"
#include "lease/boxed.h"
#include "lease/lease.h"
#include "lease/ledger.h"
#include "lease/rented.h"
#include "manager.h"
#include "proto/json.h"
#include "proto/text.h"

struct lease *call_find_rented(struct call *c, const char *name)
{
    struct lease *l = manager_find_lease(c->context->manager, name);

    if (!l)
        call_fail(c, EXIT_NOT_FOUND, "not_found", name, NULL, "llmhostctl instance list",
                  "no instance \"%.60s\"", name);
    else if (!lease_rented(l))
        call_fail(c, EXIT_USAGE, "not_rented", name, NULL, "llmhostctl instance list",
                  "%s is not rented: it is simply there", name);
    return l && lease_rented(l) ? l : NULL;
}

struct account *call_find_account(struct call *c, const char *provider)
{
    struct manager *m = c->context->manager;
    struct account *a = provider ? manager_find_account(m, provider) : manager_account_at(m, 0);
    _cleanup_free_ char *next = NULL;
    struct fault f;

    if (a)
        return a;
    manager_refuse_account(provider, &f);
    next = streq(f.code, "unknown_provider")
               ? xstrdup("llmhostctl provider list")
               : xasprintf("llmhostctl provider list\nllmhostctl provider add %s", provider ? provider : "autodl");
    call_fail(c, EXIT_NOT_FOUND, f.code, provider, NULL, next, "%s", f.text);
    return NULL;
}

/* ---- Offers ---- */

/* What decides the order; the rest is said as it is. */
struct priced {
    struct json *offer;
    enum fits_verdict fits;
    int64_t price_milli; /* unknown: INT64_MAX */
};

/* One account is asked after the other. */
struct offers {
    struct fitting fitting; /* of for_model */
    struct priced *all;     /* what was heard so far */
    unsigned n;
    struct json *notes;
    unsigned next;  /* account */
    char *provider; /* whom is asked just now */
};

static void offers_drop(struct call *c)
{
    struct offers *o = c->state;

    for (unsigned i = 0; i < o->n; i++)
        json_free(o->all[i].offer);
    free(o->all);
    fitting_done(&o->fitting);
    json_free(o->notes);
    free(o->provider);
    free(o);
}

static void offers_ask(struct call *c);

static void offers_add(struct offers *o, const struct account *a, const struct rental_offer *offer,
                       bool for_model)
{
    int64_t price_milli = account_price(a, offer);
    struct priced p = {.offer = show_offer(a, offer), .price_milli = price_milli ? price_milli : INT64_MAX};

    if (for_model) {
        struct fits fits = fitting_judge(&o->fitting, offer, 1);

        p.fits = fits.verdict;
        json_put_string(p.offer, "fits", fits_verdict_name(fits.verdict));
        if (fits.context)
            json_put_int(p.offer, "context", fits.context);
        if (fits.needs_bytes >= 0)
            json_put_int(p.offer, "needs_bytes", fits.needs_bytes);
        if (o->fitting.shape.is_from_table)
            json_put_bool(p.offer, "from_table", true);
    }
    o->all = reallocarray(o->all, o->n + 1, sizeof *o->all);
    if (!o->all)
        abort();
    o->all[o->n++] = p;
}

/* Those that hold the model first, and of them the cheapest. */
static int compare_offers(const void *a, const void *b)
{
    static const int order[] = {[FITS_YES] = 0, [FITS_TIGHT] = 1, [FITS_UNKNOWN] = 2, [FITS_NO] = 3};
    const struct priced *x = a, *y = b;

    if (order[x->fits] != order[y->fits])
        return order[x->fits] - order[y->fits];
    return (x->price_milli > y->price_milli) - (x->price_milli < y->price_milli);
}

/* By any name its provider knows for it: "RTX 4090D". */
static bool is_wanted(const struct account *a, const char *gpu, const struct rental_offer *offer)
{
    _cleanup_free_ char *why = NULL;
    struct rental_offer found;

    return !gpu || (account_ops(a)->find_card(account_rental(a), gpu, &found, &why) == 0 &&
                    streq(found.card, offer->card));
}

static void on_offers(void *ctx, const struct rental_offer *offers, unsigned n, const struct fault *f)
{
    struct call *c = ctx;
    struct offers *o = c->state;
    const char *gpu = json_get_text(c->parameters, "gpu");
    const struct account *a = manager_find_account(c->context->manager, o->provider);

    if (f && manager_account_at(c->context->manager, 1)) {
        _cleanup_free_ char *note = xasprintf("%s: %s", o->provider, f->text);

        json_append_string(o->notes, note);
    } else if (f) {
        call_fault(c, f, o->provider, NULL);
        return;
    }
    for (unsigned i = 0; a && i < n; i++)
        if (is_wanted(a, gpu, &offers[i]))
            offers_add(o, a, &offers[i], json_get_text(c->parameters, "for_model"));
    offers_ask(c);
}

/* What there is instead of a card that was asked for, as each of them says it. */
static void offers_say_none(struct call *c, const char *gpu)
{
    const char *provider = json_get_text(c->parameters, "provider");
    struct account *a;

    for (unsigned i = 0; (a = manager_account_at(c->context->manager, i)); i++) {
        _cleanup_free_ char *why = NULL;
        struct rental_offer found;

        if (provider && !streq(provider, account_name(a)))
            continue;
        if (account_ops(a)->find_card(account_rental(a), gpu, &found, &why) < 0) {
            call_fail(c, EXIT_USAGE, "no_such_card", gpu, NULL, "llmhostctl offers", "%s", why ? why : gpu);
            return;
        }
    }
}

static void offers_over(struct call *c)
{
    struct offers *o = c->state;
    const char *gpu = json_get_text(c->parameters, "gpu");

    if (gpu && !o->n && !json_count(o->notes))
        offers_say_none(c, gpu);
    if (c->over)
        return;
    struct json *v = json_object(), *list = json_array();

    if (o->n)
        qsort(o->all, o->n, sizeof *o->all, compare_offers);
    for (unsigned i = 0; i < o->n; i++)
        json_append(list, TAKE_PTR(o->all[i].offer));
    json_put(v, "offers", list);
    json_put(v, "notes", TAKE_PTR(o->notes));
    call_reply(c, v);
}

static void offers_ask(struct call *c)
{
    const char *provider = json_get_text(c->parameters, "provider");
    struct offers *o = c->state;
    struct account *a;

    while ((a = manager_account_at(c->context->manager, o->next++)))
        if (!provider || streq(provider, account_name(a))) {
            free(o->provider);
            o->provider = xstrdup(account_name(a));
            account_ops(a)->offers(account_rental(a), &c->op, on_offers, c);
            return;
        }
    offers_over(c);
}

#define LIBRARY "https://ollama.com/library"

/* No machine is rented for it, so nothing is to be ended: another name is. */
static void offers_fail_model(struct call *c, const struct fault *f)
{
    const char *model = json_get_text(c->parameters, "for_model");
    bool is_gone = streq(f->code, "model_unknown") || streq(f->code, "tag_unknown");
    _cleanup_free_ char *named = is_gone ? NULL : explain_model(model);
    _cleanup_free_ char *next = xasprintf("llmhostctl offers --for %s", named ? named : "ollama:deepseek-r1:7b");

    call_fail(c, is_gone ? EXIT_NOT_FOUND : EXIT_USAGE, f->code, model,
              is_gone && strncmp(model, "ollama:", 7) == 0 ? "what there is for ollama: " LIBRARY : NULL, next,
              "%s", f->text);
}

/* What is not known is said; a model that does not exist is no model to rent for. */
static void offers_on_fitting(struct call *c)
{
    struct offers *o = c->state;
    const struct fault *why = o->fitting.why;

    if (why && (streq(why->code, "model_unknown") || streq(why->code, "tag_unknown"))) {
        offers_fail_model(c, why);
        return;
    }
    if (why)
        json_append_string(o->notes, why->text);
    offers_ask(c);
}

void method_offers(struct call *c)
{
    const char *model = json_get_text(c->parameters, "for_model");

    if (!call_find_account(c, json_get_text(c->parameters, "provider")))
        return;
    struct fault f;

    if (model && manager_check_model(model, &f) < 0) {
        offers_fail_model(c, &f);
        return;
    }
    struct offers *o = xnew(struct offers);

    o->notes = json_array();
    c->state = o;
    c->drop = offers_drop;
    if (model)
        fitting_ask(&o->fitting, c, model, offers_on_fitting);
    else
        offers_ask(c);
}

/* ---- Release ---- */

/* What was there is gone when it is answered: its name, its account and what it had cost remain. */
struct release {
    struct timer *timer;
    char *name, *provider, *machine; /* machine: the provider's id; NULL: there was none */
    bool never_made; /* there is nothing to give back */
};

static void release_drop(struct call *c)
{
    struct release *r = c->state;

    timer_free(r->timer);
    free(r->name);
    free(r->provider);
    free(r->machine);
    free(r);
}

static void on_released(void *ctx, const struct fault *f)
{
    struct call *c = ctx;
    const struct release *r = c->state;
    struct account *a = manager_find_account(c->context->manager, r->provider);

    if (f) {
        call_fault(c, f, r->name, NULL);
        return;
    }
    struct json *v = json_object();

    if (r->never_made)
        json_put_bool(v, "never_made", true);
    else if (a)
        json_put(v, "spent", show_spent_month(a, r->name, r->machine));
    call_reply(c, v);
}

static void release_on_timer(void *ctx)
{
    struct call *c = ctx;
    const struct release *r = c->state;

    call_fail(c, EXIT_TIMED_OUT, "timed_out", r->name, "the work goes on", "llmhostctl status",
              "%s is still in the list of %s", r->name, r->provider);
}

#define WATCHED_MS (24 * 3600 * 1000) /* for so long a machine that comes late is looked for, and switched off */

/* What is forgotten is looked for no more. True: the call was answered. */
static bool release_is_too_early(struct call *c, const struct lease *l)
{
    struct rented_figures at;

    rented_figures(lease_rented(l), &at);
    if (at.state != LIFE_ABSENT || !at.is_unsure || clock_wall_ms() - at.asked_at_ms > WATCHED_MS)
        return false;
    _cleanup_free_ char *next = xasprintf("llmhostctl status %s", lease_name(l));

    call_fail(c, EXIT_CONFLICT, "in_doubt", lease_name(l),
              "until a day after that call it is looked for, and switched off if it comes", next,
              "%s was not forgotten: a call that makes it got no answer, and a machine may still come of it",
              lease_name(l));
    return true;
}

void method_release(struct call *c)
{
    const char *name = json_get_text(c->parameters, "instance");

    if (json_get_text(c->parameters, "at")) {
        orphan_release(c);
        return;
    }
    struct lease *l = follow_timeout_is_wrong(c) ? NULL : call_find_rented(c, name);
    _cleanup_free_ char *confirm = xasprintf("llmhostctl release %s --confirm=%s", name, name);

    if (!l || release_is_too_early(c, l))
        return;
    if (!streq(json_get_text(c->parameters, "confirm"), name)) {
        call_fail(c, EXIT_USAGE, "not_confirmed", name, "its name has to be said once more", confirm,
                  "%s was not given back: that deletes it with its data, for ever", name);
        return;
    }
    struct release *r = xnew(struct release);
    int64_t timeout_ms = json_get_int(c->parameters, "timeout_ms", 0);

    r->name = xstrdup(name);
    r->provider = xstrdup(account_name(rented_account(lease_rented(l))));
    r->machine = xstrdup(cost_machine(l));
    r->never_made = rented_was_never_made(lease_rented(l));
    r->timer = timer_new(c->context->loop, release_on_timer, c);
    if (timeout_ms > 0)
        timer_arm(r->timer, (uint64_t)timeout_ms);
    c->state = r;
    c->drop = release_drop;
    call_log_change(c, name, "release");
    manager_release(c->context->manager, l, &c->op, on_released, c);
}

/* ---- InstanceTake ---- */

#define TAKE_MS 30000 /* its guard answers at once, or never */

static void take_look(struct follow *w)
{
    struct lease *l = w->machines[0].lease;
    const struct keeper *k = !l                ? NULL
                             : lease_rented(l) ? rented_keeper(lease_rented(l))
                                               : boxed_keeper(lease_boxed(l));

    if (!l) {
        call_fail(w->call, EXIT_NOT_FOUND, "gone", NULL, NULL, "llmhostctl status",
                  "the machine was given back meanwhile");
    } else if (k && keeper_state(k) == KEEPER_KEPT) {
        struct json *v = json_object();

        json_put(v, "instance", show_instance(w->call->context, l));
        call_reply(w->call, v);
    } else if (!k || keeper_state(k) == KEEPER_USELESS || keeper_state(k) == KEEPER_AWAY) {
        const struct fault away = {
            .kind = FAULT_TRANSIENT, .code = "unreachable", .text = "its guard cannot be asked just now"};

        call_fault(w->call, k && keeper_fault(k)->kind ? keeper_fault(k) : &away, lease_name(l), NULL);
    }
}

void method_instance_take(struct call *c)
{
    const char *name = json_get_text(c->parameters, "name");
    struct lease *l = manager_find_lease(c->context->manager, name);

    l = l && lease_boxed(l) ? l : call_find_rented(c, name);
    const struct session *s = l ? lease_session(l) : NULL;

    if (!l)
        return;
    if (!s || session_state(s) != SESSION_UP) {
        _cleanup_free_ char *next = xasprintf("llmhostctl doctor %s", name);

        call_fail(c, EXIT_TUNNEL, "unreachable", name, NULL, next,
                  "the guard of %s cannot be asked: ssh is not up", name);
        return;
    }
    struct follow *w = follow_new(c, take_look);

    machines_add(w, l);
    call_log_change(c, name, "its guard is taken");
    if (lease_rented(l))
        rented_take(lease_rented(l));
    else
        boxed_take(lease_boxed(l));
    timer_arm(w->timer, TAKE_MS);
    take_look(w);
}
