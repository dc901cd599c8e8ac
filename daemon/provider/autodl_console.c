/* AutoDL's ordinary instances, by what its web console calls: unofficial, and its token is the whole account.
 * They are made and given back by hand; here they are listed, switched on and off, and have the console's
 * timed shutdown. Facts: reference/autodl.md §3.2, §3.3, all of them "seen in code". */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/fault.h"
#include "proto/text.h"
#include "provider/autodl_call.h"
#include "provider/autodl_offers.h"
#include "provider/provider.h"

#define BASE_URL         "https://www.autodl.com"
#define NO_CARD_MILLI    100 /* §9: an hour without a card, whatever the card */
#define MARKET_PAGES_MAX 20
#define MINUTE_MS        60000

static void console_list(struct rental *r, struct op **slot, rental_list_fn done, void *ctx)
{
    autodl_call_list(r, "/api/v1/instance", autodl_write_console_page, slot, done, ctx);
}

/* ---- the way in stands in the list alone ---- */

static void read_way(struct autodl_call *c, const struct autodl_answer *a)
{
    struct instance_way way;
    struct fault f = {0};
    unsigned n_pages;
    bool found;
    int r = autodl_read_page_way(&c->rental->tables, a, c->id, &way, &found, &n_pages, &f);

    if (r == 0 && !found && c->page < n_pages) {
        autodl_call_page(c);
        return;
    }
    if (r == 0 && !found)
        r = fault_code(&f, FAULT_GONE, "no_such_instance", "AutoDL lists no machine %s", c->id);
    if (r < 0)
        autodl_call_fail(c, &f);
    else
        autodl_call_found_way(c, &way);
}

static void console_reach(struct rental *r, const char *id, struct op **slot, rental_way_fn done, void *ctx)
{
    struct autodl_call *c = autodl_call_new(r, "POST", "/api/v1/instance", slot, ctx);

    snprintf(c->id, sizeof c->id, "%s", id);
    c->write_page = autodl_write_console_page;
    c->on_way = done;
    c->read = read_way;
    autodl_call_page(c);
}

/* ---- the timer, and what is switched ---- */

static void ask_power_on(struct autodl_call *c)
{
    buf_clear(&c->body);
    autodl_write_power_on(c->id, c->no_card, &c->body);
    c->path = "/api/v1/instance/power_on";
    c->asks = true;
    c->failed = NULL;
    c->read = autodl_call_read_done;
    autodl_call_go(c);
}

/* It is not switched on without its timer: whatever came of that call, nothing is in doubt. */
static void first_timer_failed(struct autodl_call *c, const struct fault *f)
{
    struct fault none = *f;

    if (f->kind != FAULT_DENIED && f->kind != FAULT_INVALID && f->kind != FAULT_GONE)
        fault_code(&none, FAULT_EXHAUSTED, "no_timer",
                   "its timed shutdown cannot be set, and without that it is not switched on: %.200s",
                   f->text);
    c->failed = NULL;
    autodl_call_fail(c, &none);
}

static void ask_timer(struct autodl_call *c)
{
    buf_clear(&c->body);
    autodl_write_timer(c->id, c->off_at_ms, c->rental->timer_in_ms, &c->body);
    autodl_call_go(c);
}

/* Which of two forms of the time it takes today is not known: the other one is tried once, and remembered. */
static void read_timer(struct autodl_call *c, const struct autodl_answer *a)
{
    struct fault f = {0};

    if (autodl_read_done(&c->rental->tables, a, &f) == 0) {
        if (c->then_start)
            ask_power_on(c);
        else
            autodl_call_read_done(c, a);
        return;
    }
    if (f.kind == FAULT_INVALID && c->off_at_ms && !c->tried_both_forms) {
        c->tried_both_forms = true;
        c->rental->timer_in_ms = !c->rental->timer_in_ms;
        ask_timer(c);
        return;
    }
    autodl_call_fail(c, &f);
}

static struct autodl_call *timer_new(struct rental *r, const char *id, int64_t off_at_ms, struct op **slot,
                                     rental_done_fn done, void *ctx)
{
    struct autodl_call *c = autodl_call_new(r, "POST", "/api/v1/instance/timed/shutdown", slot, ctx);

    snprintf(c->id, sizeof c->id, "%s", id);
    c->off_at_ms = (off_at_ms + MINUTE_MS - 1) / MINUTE_MS * MINUTE_MS; /* it knows whole minutes */
    c->on_done = done;
    c->read = read_timer;
    return c;
}

static void console_set_timer(struct rental *r, const char *id, int64_t off_at_ms, struct op **slot,
                              rental_done_fn done, void *ctx)
{
    ask_timer(timer_new(r, id, off_at_ms, slot, done, ctx));
}

/* The timer first: there is no moment in which nothing would end it. */
static void console_start(struct rental *r, const char *id, const struct instance_start *s, struct op **slot,
                          rental_done_fn done, void *ctx)
{
    struct autodl_call *c = timer_new(r, id, autodl_now_ms(r) + (int64_t)s->first_ms, slot, done, ctx);

    c->no_card = s->no_card;
    c->then_start = true;
    c->failed = first_timer_failed;
    if (s->first_ms)
        ask_timer(c);
    else
        ask_power_on(c);
}

static void console_stop(struct rental *r, const char *id, struct op **slot, rental_done_fn done, void *ctx)
{
    struct autodl_call *c = autodl_call_power(r, "/api/v1/instance/power_off", slot, done, ctx);

    autodl_write_id(id, &c->body);
    autodl_call_go(c);
}

/* ---- what could be rented, by hand ---- */

/* What the market tells of prices is the price list from now on. */
static void learn_prices(struct autodl_call *c)
{
    struct autodl_tables *t = &c->rental->tables;
    time_t there = (time_t)((autodl_now_ms(c->rental) + AUTODL_DAY_OFFSET_MS) / 1000);
    char today[sizeof t->ordinary[0].price_day];
    struct tm day;

    strftime(today, sizeof today, "%Y-%m-%d", gmtime_r(&there, &day));
    for (unsigned i = 0; i < t->n_ordinary; i++)
        if (c->market.price_milli[i]) {
            t->ordinary[i].price_milli = c->market.price_milli[i];
            snprintf(t->ordinary[i].price_day, sizeof t->ordinary[i].price_day, "%s", today);
        }
}

static void offers_end(struct autodl_call *c, bool has_market)
{
    const struct autodl_tables *t = &c->rental->tables;
    struct rental_offer offers[AUTODL_ROWS_MAX];

    if (has_market)
        learn_prices(c);
    for (unsigned i = 0; i < t->n_ordinary; i++) {
        autodl_offer_ordinary(&t->ordinary[i], &offers[i]);
        if (has_market)
            offers[i].stock = c->market.stock[i];
    }
    op_end(&c->op);
    c->on_offers(c->ctx, offers, t->n_ordinary, NULL);
    autodl_call_free(c);
}

static void offers_failed(struct autodl_call *c, const struct fault *f)
{
    (void)f;
    offers_end(c, false);
}

static void read_market(struct autodl_call *c, const struct autodl_answer *a)
{
    struct fault f = {0};
    unsigned n_pages;

    if (autodl_read_market(&c->rental->tables, a, &c->market, &n_pages, &f) < 0)
        autodl_call_fail(c, &f);
    else if (c->page < MIN(n_pages, (unsigned)MARKET_PAGES_MAX))
        autodl_call_page(c);
    else
        offers_end(c, true);
}

static void console_offers(struct rental *r, struct op **slot, rental_offers_fn done, void *ctx)
{
    struct autodl_call *c = autodl_call_new(r, "POST", "/api/v1/user/machine/list", slot, ctx);

    c->write_page = autodl_write_market;
    c->on_offers = done;
    c->failed = offers_failed;
    c->read = read_market;
    autodl_call_page(c);
}

static int console_find_card(struct rental *r, const char *gpu, struct rental_offer *ret, char **ret_why)
{
    return autodl_pick_ordinary(&r->tables, gpu, ret, ret_why);
}

/* Both were chosen by whoever rented it. */
static int console_find_none(struct rental *r, const char *name, const char **ret, char **ret_why)
{
    (void)r;
    *ret = NULL;
    if (!name)
        return 0;
    *ret_why = xasprintf("a machine of AutoDL's console is made by hand (%s): its image and its place are "
                         "chosen there",
                         AUTODL_CONSOLE_URL);
    return -ENOENT;
}

static struct rental *console_open(const struct rental_context *context)
{
    return autodl_open_at(context, "autodl-console", BASE_URL);
}

extern const struct rental_ops rental_autodl_console;
const struct rental_ops rental_autodl_console = {
    .name = "autodl-console",
    .title = "AutoDL (console, unofficial)",
    .unit = "CNY",
    .unofficial = true,
    .has_no_card = true,
    .no_card_milli = NO_CARD_MILLI,
    .day_offset_ms = AUTODL_DAY_OFFSET_MS,
    .released_after_ms = 15 * 24 * AUTODL_HOUR_MS,
    .console_url = AUTODL_CONSOLE_URL,
    .open = console_open,
    .close = autodl_close,
    .move = autodl_move,
    .list = console_list,
    .start = console_start,
    .stop = console_stop,
    .set_timer = console_set_timer,
    .reach = console_reach,
    .offers = console_offers,
    .find_card = console_find_card,
    .find_image = console_find_none,
    .find_region = console_find_none,
    .disk_day_milli = autodl_disk_price,
};
