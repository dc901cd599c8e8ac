/* Before anything is made each question is asked, in this order: what was typed makes sense, there is such a card
 * and the model may be put there (up_may_rent()); no machine that nothing here knows bears the name that it would
 * have, and the card holds the model (up_if_it_fits()); the price is known, or there is a limit of it
 * (up_agrees_to_price(), in up_price.c). The second waits for what others answer, so the price is judged after it, and up_rent()
 * looks once more. */
#include "control/up_rent_private.h"

#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/timer.h"
#include "control/call.h"
#include "control/explain.h"
#include "control/fitting.h"
#include "control/show.h"
#include "control/show_rent.h"
#include "control/up_search.h"
#include "deployment/deployment.h"
#include "lease/account.h"
#include "lease/boxed.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "manager.h"
#include "policy/money.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "proto/text.h"
#include "provider/rental.h"

#define REST_MS      15000u /* a call that makes a machine is answered by then, or it is not known when */
#define REST_LOOK_MS 100u

bool up_rents(const struct call *c)
{
    return json_get_text(c->parameters, "gpu") != NULL;
}

/* A card, a region: more than the one that a machine has. */
bool up_has_more(const struct call *c, const struct lease *l)
{
    const char *gpu = json_get_text(c->parameters, "gpu"), *region = json_get_text(c->parameters, "region");
    const struct rented *r = lease_rented(l);

    if (!r || !((gpu && strchr(gpu, ',')) || (region && strchr(region, ','))))
        return false;
    switch (life_state(rented_life(r))) {
    case LIFE_ABSENT: return gpu && strchr(gpu, ','); /* the card that it gets may prove too dear */
    case LIFE_WAITING: /* looked for already; this word is the one that counts */
        return rented_record(r)->never_seen ? gpu && strchr(gpu, ',') : !json_get_text(c->parameters, "on");
    case LIFE_STOPPED: return !json_get_text(c->parameters, "on"); /* others may have taken its card */
    default: return false;
    }
}

void up_read_rent(const struct call *c, struct manager_rent *ret)
{
    const struct json *p = c->parameters;

    *ret = (struct manager_rent){
        .provider = json_get_text(p, "provider"),
        .name = json_get_text(p, "on"),
        .model = json_get_text(p, "model"),
        .gpu = json_get_text(p, "gpu"),
        .image = json_get_text(p, "image"),
        .region = json_get_text(p, "region"),
        .disk_gb = (unsigned)json_get_int(p, "disk_gb", 0),
        .max_price_milli = json_get_int(p, "max_price_milli", 0),
        .over_budget = json_get_bool(p, "over_budget", false),
    };
}

/* In quotes where a shell would take it for more than a word. */
const char *up_quote_for(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789,.:/_-";

    return *text && !text[strspn(text, plain)] ? "" : "'";
}

void up_add_word(struct buf *out, const char *option, const char *text)
{
    if (text && !strchr(text, '\''))
        buf_addf(out, " %s=%s%s%s", option, up_quote_for(text), text, up_quote_for(text));
}

/* With no more places than it has: 5, 2.20, 2.205. */
static void add_price(struct buf *out, int64_t milli)
{
    long long whole = milli / 1000, rest = milli % 1000;

    if (!rest)
        buf_addf(out, " --max-price=%lld", whole);
    else if (rest % 10 == 0)
        buf_addf(out, " --max-price=%lld.%02lld", whole, rest / 10);
    else
        buf_addf(out, " --max-price=%lld.%03lld", whole, rest);
}

void up_add_rent(const struct call *c, struct buf *out)
{
    const struct json *p = c->parameters;
    int64_t most_milli = json_get_int(p, "max_price_milli", 0), disk_gb = json_get_int(p, "disk_gb", 0);

    up_add_word(out, "--gpu", json_get_text(p, "gpu"));
    up_add_word(out, "--provider", json_get_text(p, "provider"));
    up_add_word(out, "--on", json_get_text(p, "on"));
    up_add_word(out, "--image", json_get_text(p, "image"));
    up_add_word(out, "--region", json_get_text(p, "region"));
    if (disk_gb)
        buf_addf(out, " --disk=%lldG", (long long)disk_gb);
    if (most_milli)
        add_price(out, most_milli);
    if (json_get_bool(p, "anyway", false))
        buf_add_text(out, " --anyway");
}

/* `up` is about a rented machine that is there: the one that is named, or that has the model. */
static bool up_wakes(const struct call *c)
{
    const char *model = json_get_text(c->parameters, "model"), *on = json_get_text(c->parameters, "on");
    struct manager *m = c->context->manager;
    const struct lease *l = on || manager_find_deployment(m, model) ? manager_find_place(m, model, on) : NULL;

    return l && lease_rented(l);
}

/* Words about a machine to be rented, and none is: they would be read, and forgotten. */
static bool words_are_idle(struct call *c)
{
    static const struct {
        const char *key, *option; /* as people type it */
    } words[] = {{"provider", "--provider"},
                 {"max_price_milli", "--max-price"},
                 {"disk_gb", "--disk"},
                 {"image", "--image"},
                 {"region", "--region"}};
    const char *model = json_get_text(c->parameters, "model");
    _cleanup_free_ char *next = xasprintf("llmhostctl offers\nllmhostctl up %s --gpu=GPU", model);

    for (size_t i = 0; !up_rents(c) && i < ELEMENTS(words); i++) {
        enum json_type t = json_type(json_get(c->parameters, words[i].key));

        if (streq(words[i].key, "max_price_milli") && up_wakes(c)) /* it is held to that */
            continue;
        if (t == JSON_STRING || t == JSON_INT) {
            call_fail(c, EXIT_USAGE, "gpu_needed", model, "without a card no machine is rented", next,
                      "%s means nothing without --gpu", words[i].option);
            return true;
        }
    }
    return false;
}

/* "A,,B": something was meant to stand there. */
static bool has_a_gap(const char *list)
{
    size_t n = strlen(list);

    return !n || *list == ',' || list[n - 1] == ',' || strstr(list, ",,");
}

bool up_names_nothing(struct call *c)
{
    static const struct {
        const char *key, *code, *option, *what, *next;
    } lists[] = {{"gpu", "gpu_needed", "--gpu", "a card", "llmhostctl offers"},
                 {"region", "no_such_region", "--region", "a region", "llmhostctl offers"},
                 {"or_on", "which_instance", "--or", "an instance", "llmhostctl status"}};

    for (size_t i = 0; i < ELEMENTS(lists); i++) {
        const char *list = json_get_text(c->parameters, lists[i].key);

        if (!list || !has_a_gap(list))
            continue;
        call_fail(c, EXIT_USAGE, lists[i].code, json_get_text(c->parameters, "model"), NULL, lists[i].next,
                  "%s %s names %s that has no name", lists[i].option, *list ? list : "\"\"", lists[i].what);
        return true;
    }
    return false;
}

/* A price of 0 is none that a machine could have, and would be read as "whatever it costs". */
static bool numbers_are_wrong(struct call *c)
{
    static const struct {
        const char *key;
        int64_t min, max;
    } all[] = {
        {"max_price_milli", 1, 1000000000000}, {"disk_gb", 0, 1 << 20}, {"search_until_at_ms", 0, INT64_MAX}};

    for (size_t i = 0; i < ELEMENTS(all); i++) {
        int64_t n = json_get_int(c->parameters, all[i].key, all[i].min);

        if (n < all[i].min || n > all[i].max) {
            call_invalid_parameter(c, all[i].key);
            return true;
        }
    }
    return false;
}

/* Its running search goes on as it is: it is ended, and begun with the new words. */
static void fail_search_is_on(struct call *c, const struct fault *f)
{
    const char *model = json_get_text(c->parameters, "model");
    struct buf next;

    buf_init(&next, 8192);
    buf_addf(&next, "llmhostctl down %s\nllmhostctl up %s", model, model);
    up_add_rent(c, &next);
    call_fail(c, EXIT_CONFLICT, f->code, model, "the search goes on with the old words", buf_text(&next),
              "nothing was changed: %s", f->text);
    buf_done(&next);
}

struct account *up_account(const struct call *c)
{
    return manager_rental_account(c->context->manager, json_get_text(c->parameters, "provider"));
}

void up_rent_fail(struct call *c, const struct fault *f)
{
    const struct account *a = up_account(c);

    if (streq(f->code, "search_is_on"))
        fail_search_is_on(c, f);
    else
        call_fault(c, f, a && money_is_of_account(f) ? account_name(a) : json_get_text(c->parameters, "model"), NULL);
}

/* What renting would come to, and nothing is made: *ret is the machine there is, NULL: it would be a new one. */
int up_try_rent(const struct call *c, struct lease **ret, struct fault *f)
{
    struct manager_rent w;
    uint64_t ticket;

    up_read_rent(c, &w);
    return manager_rent(c->context->manager, &w, true, ret, &ticket, f);
}

/* That, and there is one search for a model. */
static bool is_refused(const struct call *c, struct lease **ret, struct fault *f)
{
    return up_try_rent(c, ret, f) < 0 || up_search_may_change(c, *ret, f) < 0;
}

/* The model fits the place there will be; whether there is a place yet was asked before. */
static bool may_place(struct call *c, const struct lease *l)
{
    struct fault f = {0};
    int r = manager_check_place(c->context->manager, json_get_text(c->parameters, "model"),
                                l ? lease_name(l) : "", json_get(c->parameters, "arguments"), &f);

    if (r == 0 || (!l && streq(f.code, "no_such_instance")))
        return true;
    up_rent_fail(c, &f);
    return false;
}

bool up_may_rent(struct call *c)
{
    const char *on = json_get_text(c->parameters, "on");
    struct lease *l = NULL;
    struct fault f = {0};

    if (words_are_idle(c) || numbers_are_wrong(c))
        return false;
    if (!up_rents(c))
        return true;
    if (on && strchr(on, ',')) {
        call_fail(c, EXIT_USAGE, "bad_name", NULL, NULL, "",
                  "one machine is rented at a time, and on names it");
        return false;
    }
    if (is_refused(c, &l, &f) && !streq(f.code, "search_is_on")) { /* that is over soon: up_when_it_rests() */
        up_rent_fail(c, &f);
        return false;
    }
    return may_place(c, l);
}

/* ---- a call of the search that runs is under way ---- */

struct up_rest {
    struct timer *timer;
    struct call *call;
    up_fits_fn then;
    uint64_t until_due;
    bool was_wanted;
    char note[FIT_NOTE_MAX];
};

static void up_rest_drop(struct call *c)
{
    struct up_rest *u = c->state;

    timer_free(u->timer);
    free(u);
    c->state = NULL;
    c->drop = NULL;
}

static bool is_in_call(const struct call *c)
{
    struct lease *l = NULL;
    struct fault f = {0};

    return up_rents(c) && is_refused(c, &l, &f) && streq(f.code, "search_is_on");
}

static bool waits_before(const struct call *other, const struct call *c)
{
    const struct up_rest *u = other->state, *own = c->drop == up_rest_drop ? c->state : NULL;

    return other->drop == up_rest_drop && (!own || u->until_due < own->until_due) &&
           streq(json_get_text(other->parameters, "model"), json_get_text(c->parameters, "model"));
}

/* Of two Ups the newer one counts: it comes after the one that waits already. */
static bool has_to_wait(const struct call *c)
{
    return is_in_call(c) || (up_rents(c) && call_any_other(c, waits_before));
}

/* Somebody said "down" after these words, which are the older ones now. */
static bool is_downed(struct call *c)
{
    const char *model = json_get_text(c->parameters, "model");
    const struct deployment *d = manager_find_deployment(c->context->manager, model);
    struct fault f = {0};

    if (up_search_is_wanted(c))
        return false;
    if (d)
        deployment_describe_off(d, &f);
    else
        fault_code(&f, FAULT_GONE, "stopped_by_user", "%s is off, and forgotten", model);
    if (streq(f.code, "passed_over")) /* its time was over: that is no word */
        return false;
    call_fault(c, &f, d ? show_subject(d, &f) : model, "nothing was looked for");
    return true;
}

/* What was asked for then is on, and it is not what is wanted now: two machines were meant by nobody. */
static bool has_come(struct call *c)
{
    const char *model = json_get_text(c->parameters, "model");
    struct lease *l = NULL;
    struct fault f = {0};

    if (up_try_rent(c, &l, &f) < 0)
        return false;
    const struct lease *came = up_search_came(c, l);
    char text[RENTED_TEXT_MAX];
    struct buf next;

    if (!came)
        return false;
    buf_init(&next, 8192);
    buf_addf(&next, "llmhostctl status\nllmhostctl down %s\nllmhostctl up %s", model, model);
    up_add_rent(c, &next);
    call_fail(c, EXIT_CONFLICT, "search_is_over", model, "it comes up there; another one is asked for once that is down",
              buf_text(&next), "nothing else was rented: %s (%s) was had in this moment", lease_name(came),
              rented_describe(lease_rented(came), text));
    buf_done(&next);
    return true;
}

/* All look in the same moment, in the order in which they came. */
static void up_rest_arm(struct up_rest *u)
{
    timer_arm_at(u->timer, (clock_now_ms() / REST_LOOK_MS + 1) * REST_LOOK_MS);
}

static void up_on_rest(void *ctx)
{
    struct up_rest *u = ctx;
    struct call *c = u->call;
    up_fits_fn then = u->then;
    bool was_wanted = u->was_wanted;
    char note[FIT_NOTE_MAX];

    if ((!was_wanted || up_search_is_wanted(c)) && has_to_wait(c) && clock_now_ms() < u->until_due) {
        up_rest_arm(u);
        return;
    }
    memcpy(note, u->note, sizeof note);
    up_rest_drop(c);
    if (!(was_wanted && is_downed(c)) && !has_come(c))
        then(c, note);
}

void up_when_it_rests(struct call *c, const char *note, up_fits_fn then)
{
    struct up_rest *u;

    if (!has_to_wait(c)) {
        then(c, note);
        return;
    }
    u = xnew(struct up_rest);
    u->timer = timer_new(c->context->loop, up_on_rest, u);
    u->call = c;
    u->then = then;
    u->until_due = clock_now_ms() + REST_MS;
    u->was_wanted = up_search_is_wanted(c);
    snprintf(u->note, sizeof u->note, "%s", note);
    c->state = u;
    c->drop = up_rest_drop;
    up_rest_arm(u);
}

/* ---- whether it fits ---- */

struct up_fitting {
    struct fitting fitting;
    up_fits_fn then;
    char note[FIT_NOTE_MAX];
};

static void up_fitting_drop(struct call *c)
{
    struct up_fitting *u = c->state;

    fitting_done(&u->fitting);
    free(u);
    c->state = NULL;
    c->drop = NULL;
}

/* Of the first card that may not hold it. */
static void note_fit(struct up_fitting *u, const char *model, const char *gpu, const struct fits *fits)
{
    const struct fault *why = u->fitting.why;
    char needs[TEXT_SHORT_MAX];

    if (*u->note)
        return;
    if (fits->verdict == FITS_TIGHT)
        snprintf(u->note, sizeof u->note,
                 "%s is tight on %s: it needs about %s, and a part of it may run on the processors", model,
                 gpu, bytes_format(needs, (uint64_t)fits->needs_bytes));
    else if (fits->verdict == FITS_UNKNOWN)
        snprintf(u->note, sizeof u->note, "whether %s holds %s is not known%s%.150s", gpu, model,
                 why ? ": " : "", why ? why->text : "");
}

/* That card does not hold it: the call was answered. */
static bool is_too_small(struct call *c, const struct account *a, const char *word, size_t len)
{
    struct up_fitting *u = c->state;
    const char *model = json_get_text(c->parameters, "model");
    _cleanup_free_ char *gpu = xasprintf("%.*s", (int)len, word), *why = NULL;
    unsigned count = rental_cut_count(gpu), cards = MAX(count, 1u); /* it cuts: once */
    char needs[TEXT_SHORT_MAX];
    struct rental_offer card;

    if (account_ops(a)->find_card(account_rental(a), gpu, &card, &why) < 0)
        return false;

    struct fits fits = fitting_judge(&u->fitting, &card, cards);

    note_fit(u, model, gpu, &fits);
    if (fits.verdict != FITS_NO)
        return false;
    bytes_format(needs, (uint64_t)MAX(fits.needs_bytes, (int64_t)0));
    _cleanup_free_ char *next = xasprintf("llmhostctl offers --for=%s\nllmhostctl up %s --gpu=%.*s --anyway",
                                          model, model, (int)len, word);

    call_fail(c, EXIT_REFUSED, "does_not_fit", model, "part of it would run on the processors, which is slow",
              next, "nothing was rented: %s needs %s, and %.*s has %u GiB", model, needs, (int)len, word,
              card.memory_gib * cards);
    return true;
}

/* The registry was asked, and has no such thing: nobody pays for a machine to find that out. */
static bool is_no_model(struct call *c)
{
    const struct up_fitting *u = c->state;
    const char *model = json_get_text(c->parameters, "model");
    const struct fault *why = u->fitting.why;

    if (!why || !(streq(why->code, "model_unknown") || streq(why->code, "tag_unknown")))
        return false;
    _cleanup_free_ char *next =
        xasprintf("llmhostctl up %s --gpu=%s --anyway", model, json_get_text(c->parameters, "gpu"));

    call_fail(c, explain_status(why), why->code, model, NULL, next, "nothing was rented: %s", why->text);
    return true;
}

static void up_on_fitting(struct call *c)
{
    struct up_fitting *u = c->state;
    const struct account *a = up_account(c);
    char note[FIT_NOTE_MAX];
    up_fits_fn then = u->then;

    if (is_no_model(c))
        return;
    for (const char *p = json_get_text(c->parameters, "gpu"); a && *p; p += strcspn(p, ","), p += *p == ',')
        if (is_too_small(c, a, p, strcspn(p, ",")))
            return;
    memcpy(note, u->note, sizeof note);
    up_fitting_drop(c);
    then(c, note);
}

static void up_fit(struct call *c)
{
    struct up_fitting *u = c->state;
    up_fits_fn then = u->then;

    if (json_get_bool(c->parameters, "anyway", false)) {
        up_fitting_drop(c);
        then(c, "");
        return;
    }
    fitting_ask(&u->fitting, c, json_get_text(c->parameters, "model"), up_on_fitting);
}

/* ---- what there is already ---- */

static void up_on_list(void *ctx, const struct instance_seen *seen, unsigned n, const struct fault *f)
{
    struct call *c = ctx;
    struct account *a = up_account(c);

    if (f) {
        up_rent_fail(c, f);
        return;
    }
    if (a)
        account_listed(a, seen, n);
    up_fit(c);
}

/* A new one, of an account whose list nobody read yet: its name may be that of a machine that nothing here
 * knows. */
static bool up_needs_list(const struct call *c)
{
    const struct account *a = up_account(c);
    struct lease *l = NULL;
    struct fault f;

    return a && !account_is_listed(a) && up_try_rent(c, &l, &f) == 0 && !l;
}

/* The model is ready on the machine that this comes to: that it fits there was seen. */
static bool is_ready_there(const struct call *c)
{
    struct lease *l = NULL;
    struct fault f;

    if (up_try_rent(c, &l, &f) < 0 || !l)
        return false;
    const struct deployment *d =
        manager_find_on(c->context->manager, json_get_text(c->parameters, "model"), lease_name(l));

    return d && deployment_state(d) == DEPLOYMENT_READY;
}

void up_if_it_fits(struct call *c, up_fits_fn then)
{
    if (!up_rents(c) || is_ready_there(c)) {
        then(c, "");
        return;
    }
    struct up_fitting *u = xnew(struct up_fitting);
    struct account *a = up_account(c);

    u->then = then;
    c->state = u;
    c->drop = up_fitting_drop;
    if (up_needs_list(c))
        account_ops(a)->list(account_rental(a), &c->op, up_on_list, c);
    else
        up_fit(c);
}

/* ---- renting ---- */

struct lease *up_rent(struct call *c, uint64_t *ret_ticket)
{
    struct lease *l = NULL;
    struct manager_rent w;
    struct fault f = {0};

    up_read_rent(c, &w);
    if (is_refused(c, &l, &f) || manager_rent(c->context->manager, &w, false, &l, ret_ticket, &f) < 0)
        up_rent_fail(c, &f);
    else if (may_place(c, l)) /* once more: time has passed since */
        return l;
    return NULL;
}

void up_limit_price(const struct call *c, const struct deployment *d)
{
    struct rented *r = lease_rented(deployment_lease(d));
    int64_t most_milli = json_get_int(c->parameters, "max_price_milli", 0);

    if (r && most_milli)
        rented_limit_price(r, most_milli);
}

void up_allow(const struct call *c, const struct deployment *d)
{
    struct rented *r = lease_rented(deployment_lease(d));
    bool over_budget = json_get_bool(c->parameters, "over_budget", false);
    bool no_guard = json_get_bool(c->parameters, "no_guard", false);
    int64_t until_at_ms = json_get_int(c->parameters, "search_until_at_ms", 0);

    if (r && (over_budget || no_guard))
        rented_allow(r, over_budget, no_guard);
    if (lease_boxed(deployment_lease(d)) && no_guard)
        boxed_allow(lease_boxed(deployment_lease(d)), true);
    up_limit_price(c, d);
    if (r && until_at_ms && life_state(rented_life(r)) != LIFE_RUNNING)
        rented_look_until(r, until_at_ms);
    if (until_at_ms)
        manager_choice_look_until(c->context->manager, d, until_at_ms);
}
