/* Nobody agrees to more than was said: what this Up switches on has a price that somebody knows, or a limit. A machine that is on already, or is
 * looked for, has its own, and a word below that is refused rather than forgotten. */
#include "control/up_rent_private.h"

#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "control/call.h"
#include "control/show.h"
#include "control/show_rent.h"
#include "control/target.h"
#include "lease/account.h"
#include "lease/hunt.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "manager.h"
#include "policy/money.h"
#include "proto/arguments.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "proto/text.h"
#include "provider/rental.h"

/* What an hour may cost whatever is made or woken; 0: nobody said. */
static int64_t up_limit_milli(const struct call *c, const struct account *a)
{
    return account_ceiling_milli(a, json_get_int(c->parameters, "max_price_milli", 0),
                                 json_get_bool(c->parameters, "over_budget", false));
}

/* The options as they were typed, the limit that is missing, and what goes to the model's server. */
static char *up_limited(const struct call *c, const char *on)
{
    const struct json *arguments = json_get(c->parameters, "arguments");
    char *line;
    struct buf next;

    buf_init(&next, 8192);
    buf_addf(&next, "llmhostctl up %s", json_get_text(c->parameters, "model"));
    up_add_rent(c, &next);
    if (on && !json_get_text(c->parameters, "on"))
        up_add_word(&next, "--on", on);
    up_add_word(&next, "--or", json_get_text(c->parameters, "or_on"));
    if (json_get_bool(c->parameters, "over_budget", false))
        buf_add_text(&next, " --over-budget");
    if (json_get_bool(c->parameters, "no_guard", false))
        buf_add_text(&next, " --no-guard");
    buf_add_text(&next, " --max-price=AMOUNT");
    for (size_t i = 0; !arguments_hold_secret(arguments) && i < json_count(arguments); i++) {
        const char *text = json_text(json_at(arguments, i)), *quote = text ? up_quote_for(text) : "";

        if (text && !strchr(text, '\''))
            buf_addf(&next, "%s %s%s%s", i ? "" : " --", quote, text, quote);
    }
    line = xstrdup(buf_text(&next));
    buf_done(&next);
    return line;
}

#define UNPRICED                                                                                             \
    "say what it may cost at most: the price is read as soon as the machine is on, and it is switched off "  \
    "again if it is dearer"

static void fail_unpriced(struct call *c, const char *target, const char *what, const char *on)
{
    bool is_secret = arguments_hold_secret(json_get(c->parameters, "arguments"));
    _cleanup_free_ char *next = up_limited(c, on);

    call_fail(c, EXIT_USAGE, "price_unknown", target,
              is_secret ? UNPRICED "; " ARGUMENTS_LEFT_OUT : UNPRICED, next, "nothing was switched on: what an hour of %s costs is not known until it is there", what);
}

/* The cheapest of what is looked for there; 0: of one of them nobody knows. */
static int64_t sought_milli(const struct rented *r)
{
    const struct hunt *h = rented_hunt(r);
    int64_t least = 0;

    if (!rented_record(r)->never_seen)
        return rented_expected_milli(r);
    for (unsigned i = 0; i < h->n; i++) {
        if (!h->all[i].price_milli)
            return 0;
        least = least ? MIN(least, h->all[i].price_milli) : h->all[i].price_milli;
    }
    return least;
}

/* It is looked for, and all of it is dearer than what is said now. */
static bool is_below_search(struct call *c, const struct lease *l)
{
    const struct rented *r = lease_rented(l);
    const char *model = json_get_text(c->parameters, "model"), *unit = account_ops(rented_account(r))->unit;
    int64_t own = json_get_int(c->parameters, "max_price_milli", 0), milli = sought_milli(r);
    char price[TEXT_SHORT_MAX], allowed[TEXT_SHORT_MAX];

    if (!own || milli <= own || (up_rents(c) && (rented_record(r)->never_seen || up_has_more(c, l))))
        return false;
    _cleanup_free_ char *next = xasprintf("llmhostctl offers\nllmhostctl down %s", model);

    call_fail(c, EXIT_REFUSED, "price", lease_name(l), "the search goes on with the old limit", next,
              "nothing was changed: what is looked for costs %s an hour at least, and at most %s is allowed",
              money_format(price, milli, unit), money_format(allowed, own, unit));
    return true;
}

/* It is on, or comes on, for more than what is said now: that is no word to end it. */
static bool is_below_bill(struct call *c, const struct lease *l)
{
    const char *unit = account_ops(rented_account(lease_rented(l)))->unit;
    int64_t own = json_get_int(c->parameters, "max_price_milli", 0);
    char price[TEXT_SHORT_MAX], allowed[TEXT_SHORT_MAX];
    struct rented_figures n;

    rented_figures(lease_rented(l), &n);
    int64_t milli = n.rate_milli ? n.rate_milli : n.list_rate_milli;

    if (!own || milli <= own)
        return false;
    _cleanup_free_ char *next = xasprintf("llmhostctl down %s", json_get_text(c->parameters, "model"));

    call_fail(c, EXIT_REFUSED, "price", lease_name(l), "it goes on under the old limit", next,
              "nothing was changed: %s is switched on and costs %s an hour, and at most %s is allowed", lease_name(l),
              money_format(price, milli, unit), money_format(allowed, own, unit));
    return true;
}

/* Off, and rented: it is switched on by this call, or by what is tried after another one. */
static bool is_price_open(struct call *c, const struct lease *l, bool is_other)
{
    struct rented *r = l ? lease_rented(l) : NULL;
    enum life_state s = r ? life_state(rented_life(r)) : LIFE_ABSENT;
    int64_t own = json_get_int(c->parameters, "max_price_milli", 0), milli;
    char price[TEXT_SHORT_MAX], allowed[TEXT_SHORT_MAX];

    if (!r)
        return false;
    if (s == LIFE_WAITING)
        return is_below_search(c, l);
    if (rented_prepaid_until_at_ms(r))
        return false;
    if (s == LIFE_CREATING || s == LIFE_STARTING || s == LIFE_RUNNING)
        return !is_other && is_below_bill(c, l);
    milli = rented_expected_milli(r);
    if (!milli && !up_limit_milli(c, rented_account(r)) && !rented_record(r)->max_price_milli) {
        fail_unpriced(c, lease_name(l), lease_name(l), is_other || up_rents(c) ? NULL : lease_name(l));
        return true;
    }
    if (!own || milli <= own || rented_hunt(r)->n > 1)
        return false;
    const char *unit = account_ops(rented_account(r))->unit;

    call_fail(c, EXIT_REFUSED, "price", lease_name(l), NULL, "llmhostctl offers",
              "nothing was switched on: %s costs %s an hour, and at most %s is allowed", lease_name(l),
              money_format(price, milli, unit), money_format(allowed, own, unit));
    return true;
}

/* It was never made, and a search for it is under way, which keeps its limit unless another one is said. */
static bool is_sought(const struct lease *l)
{
    const struct rented *r = l ? lease_rented(l) : NULL;

    return r && rented_record(r)->never_seen && life_state(rented_life(r)) == LIFE_WAITING;
}

/* One of the cards that are asked for, and the machine would be a new one. */
static bool is_card_open(struct call *c, const struct lease *l)
{
    struct account *a = up_account(c);
    bool is_open = false;

    if (!a || up_limit_milli(c, a) || (is_sought(l) && rented_record(lease_rented(l))->max_price_milli))
        return false;
    for (const char *p = json_get_text(c->parameters, "gpu"); !is_open && *p;
         p += strcspn(p, ","), p += *p == ',') {
        _cleanup_free_ char *gpu = xasprintf("%.*s", (int)strcspn(p, ","), p), *why = NULL,
                            *card = xstrdup(gpu);
        struct rental_offer offer;

        rental_cut_count(card);
        is_open = account_ops(a)->find_card(account_rental(a), card, &offer, &why) == 0 &&
                  !account_price(a, &offer);
        if (is_open)
            fail_unpriced(c, json_get_text(c->parameters, "model"), gpu, NULL);
    }
    return is_open;
}

static bool are_prices_open(struct call *c, const char *names, bool are_others)
{
    const char *model = json_get_text(c->parameters, "model");
    bool is_open = false;
    char *name;

    for (unsigned i = 0; names && !is_open && (name = target_on_at(names, i)); i++) {
        is_open = is_price_open(c, manager_find_place(c->context->manager, model, name), are_others);
        free(name);
    }
    return is_open;
}

/* Its end has passed, perhaps while something was waited for: without one it would be looked for two hours long. */
static bool is_time_over(struct call *c)
{
    const char *model = json_get_text(c->parameters, "model");
    int64_t until_at_ms = json_get_int(c->parameters, "search_until_at_ms", 0);

    if (!until_at_ms || until_at_ms > clock_wall_ms())
        return false;
    _cleanup_free_ char *next = xasprintf("llmhostctl status %s", model);

    call_fail(c, EXIT_USAGE, "time_over", model, NULL, next, "nothing was changed: the end of the search is in the past");
    return true;
}

bool up_agrees_to_price(struct call *c)
{
    const char *on = json_get_text(c->parameters, "on");
    struct lease *l = NULL;
    struct fault f = {0};

    if (is_time_over(c) || are_prices_open(c, json_get_text(c->parameters, "or_on"), true))
        return false;
    if (!up_rents(c) && on)
        return !are_prices_open(c, on, false);
    if (!up_rents(c))
        return !is_price_open(
            c, manager_find_place(c->context->manager, json_get_text(c->parameters, "model"), NULL), false);
    if (up_try_rent(c, &l, &f) < 0) {
        up_rent_fail(c, &f);
        return false;
    }
    if (l && is_price_open(c, l, false))
        return false;
    return (l && !is_sought(l) && !up_has_more(c, l)) || !is_card_open(c, l);
}

/* Whatever machine it came to: it was asked for, and is not looked for. */
void up_name_dear(const struct call *c, struct json *notes)
{
    struct account *a = up_account(c);
    int64_t most = a ? up_limit_milli(c, a) : 0;

    for (const char *p = json_get_text(c->parameters, "gpu"); most && p && *p;
         p += strcspn(p, ","), p += *p == ',') {
        _cleanup_free_ char *gpu = xasprintf("%.*s", (int)strcspn(p, ","), p), *why = NULL,
                            *card = xstrdup(gpu);
        unsigned cards = rental_cut_count(card);
        struct rental_offer offer;

        if (account_ops(a)->find_card(account_rental(a), card, &offer, &why) < 0)
            continue;
        int64_t milli = account_price(a, &offer) * MAX(cards, 1u);

        if (milli <= most)
            continue;
        _cleanup_free_ char *name = cards > 1 ? xasprintf("%sx%u", offer.gpu, cards) : xstrdup(offer.gpu);
        _cleanup_free_ char *note = show_left_out(name, milli, account_ops(a)->unit);

        json_append_string(notes, note);
    }
}
