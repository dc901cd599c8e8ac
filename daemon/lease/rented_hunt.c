/* Which card is tried next for a rented machine, where, and what it costs: the candidates are hunt.h's, what each is called
 * and costs the provider's, learned prices the account's. */
#include "base/clock.h"
#include "lease/account.h"
#include "lease/rented_private.h"
#include "proto/mem.h"

/* What the provider says of each: the price list may be another one by now. */
static void fill_hunt(struct rented *r)
{
    for (unsigned i = 0; i < r->hunt.n; i++) {
        struct hunt_candidate *c = &r->hunt.all[i];
        _cleanup_free_ char *why = NULL;
        struct rental_offer offer;

        if (account_ops(r->context.account)
                ->find_card(account_rental(r->context.account), c->gpu, &offer, &why) < 0) {
            c->out = HUNT_REFUSED;
            continue;
        }
        snprintf(c->card, sizeof c->card, "%s", offer.card);
        c->price_milli = account_price(r->context.account, &offer) * c->cards;
    }
}

int64_t rented_ceiling_milli(const struct rented *r)
{
    return account_ceiling_milli(r->context.account, r->record.max_price_milli,
                                 r->record.over_budget || r->price_is_waived);
}

/* What is asked for next. With nobody left, or none that is known to be cheap enough, it is what was tried
 * last. */
void rented_choose_card(struct rented *r)
{
    hunt_limit(&r->hunt, rented_ceiling_milli(r));

    const struct hunt_candidate *c = hunt_current(&r->hunt);

    r->wish.cards = c ? c->cards : MAX(r->record.cards, 1u);
    snprintf(r->card, sizeof r->card, "%s", c ? c->card : r->record.card ? r->record.card : "");
    snprintf(r->region, sizeof r->region, "%s", c ? c->region : "");
    r->wish.region = *r->region ? r->region : NULL;
}

static void read_hunt(struct rented *r)
{
    hunt_read(&r->hunt, r->record.gpu ? r->record.gpu : "", r->record.cards, r->record.region);
    fill_hunt(r);
}

bool rented_may_ask_for(const struct rented *r)
{
    enum life_state s = life_state(r->life);

    return r->record.never_seen && (s == LIFE_ABSENT || s == LIFE_WAITING) && !rented_is_reserving(r);
}

void rented_ask_for(struct rented *r, const struct rental_record *what)
{
    struct rental_record *to = &r->record;
    bool is_on = life_goal(r->life) == LIFE_GOAL_ON;
    unsigned begun = r->hunt.begun;

    rented_replace(&to->card, what->card);
    rented_replace(&to->image, what->image);
    rented_replace(&to->region, what->region);
    rented_replace(&to->gpu, what->gpu);
    to->cards = what->cards;
    to->disk_gb = what->disk_gb;
    if (what->max_price_milli || !is_on)
        to->max_price_milli = what->max_price_milli;
    r->wish.image = to->image;
    r->wish.disk_gb = to->disk_gb;
    read_hunt(r);
    r->hunt.begun = begun + is_on;
    rented_choose_card(r);
    rented_write(r);
    life_try_now(r->life); /* nobody was asked for that yet; the account keeps its pace all the same */
    runq_add(r->context.loop, &r->changed);
}

void rented_begin_hunt(struct rented *r)
{
    fill_hunt(r);
    hunt_begin(&r->hunt);
    rented_choose_card(r);
}

/* What was tried last, as it was written down before it was asked. */
static void find_tried_card(struct rented *r)
{
    for (unsigned i = 0; r->record.card && i < r->hunt.n; i++)
        if (streq(r->hunt.all[i].card, r->record.card)) {
            r->hunt.at = i;
            return;
        }
}

void rented_restore_hunt(struct rented *r)
{
    read_hunt(r);
    find_tried_card(r);
    rented_choose_card(r);
}

void rented_note_made(struct rented *r)
{
    struct hunt_candidate made;

    if (!r->hunt.n)
        return;
    made = r->hunt.all[r->hunt.at];
    rented_replace(&r->record.gpu, made.gpu);
    rented_replace(&r->record.region, *made.region ? made.region : NULL);
    r->record.cards = made.cards;
    made.tries = 0; /* by now it was had */
    r->hunt.all[0] = made;
    r->hunt.n = 1;
    r->hunt.at = 0;
}

void rented_learn_price(struct rented *r)
{
    if (r->record.card && r->record.rate_milli)
        account_learn_price(r->context.account, r->record.card,
                            r->record.rate_milli / MAX(r->record.cards, 1u));
}

int64_t rented_list_rate_milli(const struct rented *r)
{
    if (rented_is_without_card(r))
        return account_ops(r->context.account)->no_card_milli;
    return r->hunt.n ? r->hunt.all[r->hunt.at].price_milli : 0;
}

/* A machine that is there costs what it did, or what the list of machines says; one that is made is of a card. */
int64_t rented_expected_milli(const struct rented *r)
{
    bool is_made = life_state(r->life) != LIFE_ABSENT && r->record.id;
    int64_t own = is_made && r->record.rate_milli ? r->record.rate_milli : is_made ? r->seen.price_milli : 0;
    int64_t most = 0;

    for (unsigned i = 0; !own && i < r->hunt.n; i++) {
        _cleanup_free_ char *why = NULL;
        struct rental_offer offer;

        if (account_ops(r->context.account)
                ->find_card(account_rental(r->context.account), r->hunt.all[i].gpu, &offer, &why) < 0)
            return 0;
        int64_t milli = account_price(r->context.account, &offer) * r->hunt.all[i].cards;

        if (!milli)
            return 0;
        most = MAX(most, milli);
    }
    return own ? own : most;
}

void rented_note_refused(struct rented *r)
{
    hunt_refused(&r->hunt, life_trouble(r->life));
    rented_choose_card(r);
}

uint64_t rented_wait_ms(void *ctx)
{
    const struct rented *r = ctx;
    uint64_t now = clock_now_ms();

    return account_claim_call(r->context.account, r, now + hunt_wait_ms(&r->hunt, (uint32_t)now)) - now;
}

int64_t rented_disk_day_milli(const struct rented *r)
{
    const struct rental_ops *ops = account_ops(r->context.account);

    return ops->disk_day_milli && r->record.disk_gb
               ? ops->disk_day_milli(account_rental(r->context.account), r->record.disk_gb)
               : 0;
}

/* As the list of machines has it, which may use other words; one of a region where none are made has its own. */
const char *rented_region(const struct rented *r)
{
    const struct rental_ops *ops = account_ops(r->context.account);
    _cleanup_free_ char *why = NULL;
    const char *region = NULL;

    if (!*r->seen.region)
        return r->record.region;
    if (ops->find_region(account_rental(r->context.account), r->seen.region, &region, &why) < 0)
        return r->seen.region;
    return region;
}
