/* All that is on is looked through, but for what d itself wants. Nothing is refused by it: whoever names a card may mean another
 * machine, and is only told. */
#include "control/up_second.h"

#include "control/call.h"
#include "control/control.h"
#include "control/show_rent.h"
#include "control/up_rent.h"
#include "deployment/deployment.h"
#include "lease/account.h"
#include "lease/hunt.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "manager.h"
#include "policy/money.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "proto/text.h"
#include "provider/rental.h"

/* Rented, and it bills, or does in a moment. */
static bool is_on(const struct lease *l)
{
    const struct rented *r = lease_rented(l);
    enum life_state s = r ? life_state(rented_life(r)) : LIFE_ABSENT;

    return s == LIFE_STARTING || s == LIFE_RUNNING;
}

/* Where the model is up, or comes up, besides d; NULL: nowhere. */
static const struct deployment *twin_of(const struct call *c, const struct deployment *d)
{
    const struct deployment *other;

    for (unsigned i = 0; (other = manager_deployment_at(c->context->manager, i)); i++) {
        const struct lease *l = deployment_lease(other);

        if (other != d && streq(deployment_name(other), deployment_name(d)) && deployment_goal(other) != GOAL_OFF &&
            deployment_state(other) != DEPLOYMENT_FAILED && (!lease_rented(l) || is_on(l)))
            return other;
    }
    return NULL;
}

/* What is looked for there, l has. */
static bool has_card_of(const struct rented *sought, const struct lease *l)
{
    const struct rental_record *is = rented_record(lease_rented(l));
    const struct hunt *h = rented_hunt(sought);

    if (rented_account(sought) != rented_account(lease_rented(l)))
        return false;
    for (unsigned i = 0; i < h->n; i++)
        if (streq(h->all[i].gpu, is->gpu) && MAX(h->all[i].cards, 1u) == MAX(is->cards, 1u))
            return true;
    return !h->n && streq(rented_record(sought)->card, is->card) && rented_record(sought)->cards == is->cards;
}

static const struct lease *machine_like(const struct call *c, const struct deployment *d)
{
    const struct lease *own = deployment_lease(d), *l;

    for (unsigned i = 0; (l = manager_lease_at(c->context->manager, i)); i++)
        if (l != own && is_on(l) && life_goal(rented_life(lease_rented(l))) == LIFE_GOAL_ON &&
            has_card_of(lease_rented(own), l))
            return l;
    return NULL;
}

static void add_price(const struct lease *l, struct buf *out)
{
    bool estimate = false;
    int64_t milli = lease_rented(l) ? rental_rate(l, &estimate) : 0;
    char text[TEXT_SHORT_MAX];

    if (milli)
        buf_addf(out, ", at %s/h%s",
                 money_format(text, milli, account_ops(rented_account(lease_rented(l)))->unit), estimate ? "~" : "");
}

char *up_second_note(const struct call *c, const struct deployment *d, bool is_of_several)
{
    const struct lease *own = deployment_lease(d);
    const struct deployment *twin = twin_of(c, d);
    const char *name = deployment_name(d);

    if (!up_rents(c) || !lease_rented(own) || is_on(own))
        return NULL;
    const struct lease *l = twin ? deployment_lease(twin) : machine_like(c, d);
    const char *what = rented_record(lease_rented(own))->never_made ? "rents" : "switches on";
    struct buf out;

    if (!l)
        return NULL;
    buf_init(&out, 4096);
    if (twin) {
        buf_addf(&out, "%s is %s on %s", name,
                 deployment_state(twin) == DEPLOYMENT_READY ? "already ready" : "already wanted", lease_name(l));
        add_price(l, &out);
        buf_addf(&out, "; this %s a second machine beside it. the one there is: \"llmhostctl up %s --on %s\"", what, name,
                 lease_name(l));
        if (!is_of_several)
            buf_addf(&out, "; an end of the second: \"llmhostctl down %s --on %s\"", name, lease_name(own));
    } else {
        buf_addf(&out, "%s (%s) is on already", lease_name(l), rented_record(lease_rented(l))->gpu);
        add_price(l, &out);
        buf_addf(&out, "; this %s another machine. the one there is: \"llmhostctl up %s --on %s\"", what, name, lease_name(l));
    }
    char *note = xstrdup(buf_text(&out));

    buf_done(&out);
    return note;
}

char *up_second_next(const struct call *c, const struct deployment *d)
{
    const char *on = lease_name(deployment_lease(d));

    if (!twin_of(c, d))
        return NULL;
    return xasprintf("llmhostctl status %s\nllmhostctl down %s --on %s", on, deployment_name(d), on);
}
