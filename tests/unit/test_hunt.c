/* links: lease
 *
 * Whose turn it is, and how soon, row by row. */
#include <criterion/criterion.h>

#include "lease/hunt.h"
#include "proto/mem.h"

static struct hunt h;

static void price(const char *gpu, int64_t milli)
{
    for (unsigned i = 0; i < h.n; i++)
        if (streq(h.all[i].gpu, gpu))
            h.all[i].price_milli = milli * h.all[i].cards;
}

/* "4090D westDC3" */
static const char *turn(void)
{
    static char out[120];
    const struct hunt_candidate *c = hunt_current(&h);

    if (!c)
        return "nobody";
    snprintf(out, sizeof out, "%s%s%s", c->gpu, *c->region ? " " : "", c->region);
    return out;
}

static void is_refused(enum fault_kind kind)
{
    const struct fault f = {.kind = kind};

    hunt_refused(&h, &f);
}

Test(hunt, every_card_is_tried_in_every_region_in_the_order_they_were_named)
{
    static const char *const order[] = {"4090D west", "4090D east", "5090 west", "5090 east", "4090D west"};

    hunt_read(&h, "4090D,5090x2", 1, "west,east");
    cr_assert_eq(h.n, 4);
    for (unsigned i = 0; i < ELEMENTS(order); i++) {
        cr_assert_str_eq(turn(), order[i]);
        is_refused(FAULT_EXHAUSTED);
    }
    cr_assert_eq(h.all[0].cards, 1);
    cr_assert_eq(h.all[2].cards, 2);
}

Test(hunt, what_is_read)
{
    static const struct {
        const char *gpus, *regions;
        unsigned cards, n, first_cards;
        const char *first;
    } rows[] = {
        {"4090D", NULL, 1, 1, 1, "4090D"},
        {"4090D", NULL, 3, 1, 3, "4090D"},
        {"4090Dx2", NULL, 1, 1, 2, "4090D"},
        {"4090D,5090", NULL, 3, 2, 1, "4090D"},
        {"4090D", "west", 1, 1, 1, "4090D west"},
        {"4090D", "", 0, 1, 1, "4090D"},
        {"", NULL, 1, 0, 0, "nobody"},
    };

    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        hunt_read(&h, rows[i].gpus, rows[i].cards, rows[i].regions);
        cr_assert_eq(h.n, rows[i].n, "row %u: %u", i, h.n);
        cr_assert_str_eq(turn(), rows[i].first, "row %u", i);
        cr_assert_eq(h.n ? h.all[0].cards : 0, rows[i].first_cards, "row %u", i);
    }
}

Test(hunt, more_than_there_is_room_for_is_left_out)
{
    hunt_read(&h, "a,b,c,d,e,f,g,h", 1, "1,2,3,4,5,6,7,8");
    cr_assert_eq(h.n, HUNT_MAX);
    hunt_read(&h, "0123456789012345678901234567890123456789012345678901234567890123456789", 1, NULL);
    cr_assert_eq(strlen(h.all[0].gpu), sizeof h.all[0].gpu - 1);
}

Test(hunt, one_that_is_too_dear_is_left_out_until_the_limit_rises)
{
    hunt_read(&h, "5090,4090D", 1, NULL);
    price("5090", 2780);
    price("4090D", 1880);
    hunt_limit(&h, 2000);
    cr_assert_str_eq(turn(), "4090D");
    cr_assert_eq(h.all[0].out, HUNT_DEAR);
    is_refused(FAULT_EXHAUSTED);
    cr_assert_str_eq(turn(), "4090D");
    hunt_limit(&h, 3000);
    hunt_begin(&h);
    cr_assert_str_eq(turn(), "5090");
    hunt_limit(&h, 1000);
    cr_assert_str_eq(turn(), "nobody");
    hunt_limit(&h, 0);
    cr_assert_str_eq(turn(), "5090");
}

Test(hunt, one_of_unknown_price_is_tried)
{
    hunt_read(&h, "H800", 1, NULL);
    hunt_limit(&h, 1);
    cr_assert_str_eq(turn(), "H800");
}

Test(hunt, what_came_of_a_try)
{
    static const struct {
        enum fault_kind kind;
        const char *next;
        enum hunt_out out;
    } rows[] = {
        {FAULT_EXHAUSTED, "5090", HUNT_IN},
        {FAULT_INVALID, "5090", HUNT_REFUSED},
        {FAULT_DENIED, "4090D", HUNT_IN}, /* of the account, whichever card */
        {FAULT_TRANSIENT, "4090D", HUNT_IN},
    };

    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        hunt_read(&h, "4090D,5090", 1, NULL);
        is_refused(rows[i].kind);
        cr_assert_str_eq(turn(), rows[i].next, "row %u", i);
        cr_assert_eq(h.all[0].out, rows[i].out, "row %u", i);
    }
}

Test(hunt, what_was_refused_and_why_is_known_until_the_next_wish)
{
    char name[HUNT_NAME_MAX];
    struct fault f;

    hunt_read(&h, "4090D,5090x2", 1, "west");
    hunt_begin(&h);
    cr_assert_str_eq(hunt_name(&h.all[0], name), "4090D in west");
    cr_assert_str_eq(hunt_name(&h.all[1], name), "5090x2 in west");
    fault_code(&f, FAULT_EXHAUSTED, "no_capacity", "AutoDL has no free card of this kind");
    hunt_refused(&h, &f);
    cr_assert(h.all[0].tries == 1 && h.all[1].tries == 0);
    cr_assert_str_eq(h.all[0].why, "no free card");
    fault_code(&f, FAULT_INVALID, "no_such_card", "%0200d", 7);
    hunt_refused(&h, &f);
    cr_assert_eq(strlen(h.all[1].why), HUNT_WHY_MAX - 1);
    cr_assert_eq(h.begun, 1);
    hunt_begin(&h);
    cr_assert(h.all[0].tries == 0 && h.all[1].tries == 0);
    cr_assert_eq(h.begun, 2);
}

Test(hunt, refusals_are_forgotten_with_the_next_wish)
{
    hunt_read(&h, "4090D,5090", 1, NULL);
    is_refused(FAULT_INVALID);
    is_refused(FAULT_INVALID);
    cr_assert_str_eq(turn(), "nobody");
    hunt_begin(&h);
    cr_assert_str_eq(turn(), "4090D");
}

Test(hunt, two_seconds_lie_between_two_tries_and_half_a_minute_between_two_rounds)
{
    hunt_read(&h, "4090D,5090", 1, NULL);
    is_refused(FAULT_EXHAUSTED);
    cr_assert_eq(hunt_wait_ms(&h, 12345), 2000);
    is_refused(FAULT_EXHAUSTED);
    cr_assert_eq(hunt_wait_ms(&h, 0), 24000);
    cr_assert_eq(hunt_wait_ms(&h, 12000), 36000);
    cr_assert_eq(hunt_wait_ms(&h, 12001), 24000);
    is_refused(FAULT_TRANSIENT);
    cr_assert_eq(hunt_wait_ms(&h, 0), 24000, "the next one would meet the same");
}

Test(hunt, after_ten_rounds_a_minute_lies_between_them)
{
    hunt_read(&h, "4090D", 1, NULL);
    for (unsigned i = 0; i < 9; i++)
        is_refused(FAULT_EXHAUSTED);
    cr_assert_eq(hunt_wait_ms(&h, 0), 24000);
    is_refused(FAULT_EXHAUSTED);
    cr_assert_eq(hunt_wait_ms(&h, 0), 48000);
    cr_assert_eq(hunt_wait_ms(&h, 24000), 72000);
    hunt_begin(&h);
    cr_assert_eq(hunt_wait_ms(&h, 0), 24000);
}

Test(hunt, nobody_to_ask_is_no_crash)
{
    hunt_read(&h, "", 1, NULL);
    hunt_begin(&h);
    hunt_limit(&h, 1);
    is_refused(FAULT_EXHAUSTED);
    cr_assert_null(hunt_current(&h));
    cr_assert_geq(hunt_wait_ms(&h, 0), 24000);
}

static struct pace pace;

Test(hunt, those_at_one_account_share_its_pace)
{
    static const int a, b, c;

    pace = (struct pace){};
    cr_assert_eq(pace_claim(&pace, &a, 10000, 10000), 10000);
    pace_called(&pace, &a, 10000);
    cr_assert_eq(pace_claim(&pace, &b, 10500, 10500), 12000, "a was asked for just now");
    cr_assert_eq(pace_claim(&pace, &c, 10500, 10500), 14000, "and b is next");
    cr_assert_eq(pace_claim(&pace, &a, 40000, 10600), 40000);
    cr_assert_eq(pace_claim(&pace, &b, 12000, 12000), 12000, "its own claim is in nobody's way");
    pace_called(&pace, &b, 12000);
    cr_assert_eq(pace_claim(&pace, &b, 39000, 12100), 42000, "neither shortly before a nor shortly after");
    cr_assert_eq(pace_claim(&pace, &c, 37000, 14000), 37000);
    cr_assert_eq(pace_claim(&pace, &c, 38500, 14000), 44000, "between two there is no room");
}

Test(hunt, who_does_not_come_is_in_nobodys_way_for_long)
{
    static int who[PACE_MAX + 1];

    pace = (struct pace){};
    for (unsigned i = 0; i < PACE_MAX; i++)
        cr_assert_eq(pace_claim(&pace, &who[i], 1000, 1000), 1000 + 2000 * i);
    pace_claim(&pace, &who[PACE_MAX], 1000, 1000);
    cr_assert_eq(pace.n, PACE_MAX);
    cr_assert_eq(pace_claim(&pace, &who[PACE_MAX], 200000, 200000), 200000);
    cr_assert_eq(pace.n, 1);
}
