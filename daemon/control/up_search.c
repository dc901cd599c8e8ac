/* A search goes on under one machine's name; what an Up changes of it is told to who typed that, and to who waits. What
 * was there before is noted before anything is changed, for afterwards nobody could tell. */
#include "control/up_search.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "control/call.h"
#include "control/control.h"
#include "control/up_rent.h"
#include "deployment/deployment.h"
#include "lease/account.h"
#include "lease/hunt.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "manager.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "proto/text.h"
#include "provider/rental.h"

/* ---- in words ---- */

static bool is_waiting(const struct lease *l)
{
    const struct rented *r = l ? lease_rented(l) : NULL;

    return r && life_state(rented_life(r)) == LIFE_WAITING;
}

/* Each card stands there once for each region. */
static bool is_card_named(const struct hunt *h, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (streq(h->all[i].gpu, h->all[n].gpu) && h->all[i].cards == h->all[n].cards)
            return true;
    return false;
}

static bool is_region_named(const struct hunt *h, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (streq(h->all[i].region, h->all[n].region))
            return true;
    return false;
}

static void add_cards(const struct hunt *h, struct buf *out)
{
    unsigned regions = 0;

    for (unsigned i = 0; i < h->n; i++)
        if (!is_card_named(h, i)) {
            buf_addf(out, "%s%s", i ? " or " : "", h->all[i].gpu);
            if (h->all[i].cards > 1)
                buf_addf(out, "x%u", h->all[i].cards);
        }
    for (unsigned i = 0; i < h->n; i++)
        if (*h->all[i].region && !is_region_named(h, i))
            buf_addf(out, "%s%s", regions++ ? " or " : " in ", h->all[i].region);
}

const char *search_describe(char out[static SEARCH_TEXT_MAX], const struct lease *l)
{
    const struct rented *r = lease_rented(l);
    char most[TEXT_SHORT_MAX];
    int64_t most_milli;
    struct buf text;

    most_milli = account_ceiling_milli(rented_account(r), rented_record(r)->max_price_milli,
                                       rented_record(r)->over_budget);
    buf_init(&text, 8192);
    add_cards(rented_hunt(r), &text);
    if (most_milli)
        buf_addf(&text, ", at most %s/h", money_format(most, most_milli, account_ops(rented_account(r))->unit));
    snprintf(out, SEARCH_TEXT_MAX, "%s", buf_text(&text));
    buf_done(&text);
    return out;
}

const char *search_format(char out[static SEARCH_TEXT_MAX], const struct lease *l)
{
    *out = '\0';
    return is_waiting(l) ? search_describe(out, l) : out;
}

/* ---- what becomes of it ---- */

/* One on which the model is wanted, i from 0 on; NULL: no more. */
static struct deployment *wanted_at(const struct call *c, unsigned i)
{
    const char *model = json_get_text(c->parameters, "model");
    struct deployment *d;

    for (unsigned k = 0; (d = manager_deployment_at(c->context->manager, k)); k++)
        if (streq(deployment_name(d), model) && deployment_goal(d) != GOAL_OFF && i-- == 0)
            return d;
    return NULL;
}

/* Another card is meant, and no machine by its name: there is one search, and this is it. */
static bool replaces(const struct call *c)
{
    return up_rents(c) && !json_get_text(c->parameters, "on");
}

/* A call for it is under way, or about to be: a machine may come of that. */
static bool is_asked_for(const struct lease *l)
{
    const struct rented *r = lease_rented(l);

    return r && (life_state(rented_life(r)) == LIFE_CREATING || life_is_asking(rented_life(r)) ||
                 (is_waiting(l) && rented_is_reserving(r)));
}

int up_search_may_change(const struct call *c, const struct lease *l, struct fault *f)
{
    struct deployment *d;

    for (unsigned i = 0; replaces(c) && (d = wanted_at(c, i)); i++)
        if (deployment_lease(d) != l && is_asked_for(deployment_lease(d))) {
            fault_code(f, FAULT_TRANSIENT, "search_is_on",
                       "%s is being asked for at this moment, and what is looked for cannot be changed then",
                       rented_record(lease_rented(deployment_lease(d)))->gpu);
            return -EAGAIN;
        }
    return 0;
}

bool up_search_is_wanted(const struct call *c)
{
    return wanted_at(c, 0) != NULL;
}

const struct lease *up_search_came(const struct call *c, const struct lease *l)
{
    struct deployment *d;

    for (unsigned i = 0; replaces(c) && (d = wanted_at(c, i)); i++) {
        const struct lease *on = deployment_lease(d);
        enum life_state s = lease_rented(on) ? life_state(rented_life(lease_rented(on))) : LIFE_ABSENT;

        if (on != l && (s == LIFE_STARTING || s == LIFE_RUNNING))
            return on;
    }
    return NULL;
}

void up_search_before(const struct call *c, struct up_search *ret)
{
    struct deployment *d;

    *ret = (struct up_search){.lease = NULL};
    for (unsigned i = 0; !ret->lease && (d = wanted_at(c, i)); i++)
        if (is_waiting(deployment_lease(d))) {
            ret->lease = deployment_lease(d);
            search_format(ret->text, ret->lease);
            ret->until_at_ms = rented_record(lease_rented(ret->lease))->search_until_at_ms;
        }
}

/* The others of it that wait as well. Nothing of them is on. */
static uint64_t end_others(const struct call *c, struct deployment *d)
{
    struct deployment *other;
    uint64_t ticket = 0;
    char why[120];

    snprintf(why, sizeof why, "%s is looked for instead, by a newer word", lease_name(deployment_lease(d)));
    for (unsigned i = 0; (other = wanted_at(c, i));)
        if (other == d || !is_waiting(deployment_lease(other)))
            i++;
        else
            ticket = deployment_pass(other, why, true);
    return ticket;
}

static char *note_of(const struct up_search *before, const struct deployment *d)
{
    const struct lease *l = deployment_lease(d);
    int64_t until_at_ms = lease_rented(l) ? rented_record(lease_rented(l))->search_until_at_ms : 0;
    char text[SEARCH_TEXT_MAX], now[MINUTE_TEXT_MAX] = "", was[MINUTE_TEXT_MAX] = "";
    bool is_longer = before->until_at_ms && until_at_ms && before->until_at_ms != until_at_ms;

    if (before->lease != l)
        return xasprintf("%s waits for %s (%s) no longer: what was said last counts", deployment_name(d),
                         lease_name(before->lease), before->text);
    search_format(text, l);
    if (streq(text, before->text) && !is_longer)
        return NULL;
    if (is_longer) {
        minute_format(now, until_at_ms);
        minute_format(was, before->until_at_ms);
    }
    return xasprintf("the search of %s is changed: %s%s%s (it was %s%s%s)", lease_name(l), text,
                     is_longer ? ", until " : "", now, before->text, is_longer ? ", until " : "", was);
}

static bool is_wanted_on(const struct call *c, const struct lease *l)
{
    struct deployment *d;

    for (unsigned i = 0; (d = wanted_at(c, i)); i++)
        if (deployment_lease(d) == l)
            return true;
    return false;
}

char *up_search_after(const struct call *c, const struct up_search *before, struct deployment *d, bool others,
                      uint64_t *ticket)
{
    if (!before->lease)
        return NULL;
    if (replaces(c) && !others)
        manager_choose_alone(c->context->manager, d);
    if (replaces(c))
        *ticket = MAX(*ticket, end_others(c, d));
    if (before->lease != deployment_lease(d) && is_wanted_on(c, before->lease))
        return NULL;
    return note_of(before, d);
}
